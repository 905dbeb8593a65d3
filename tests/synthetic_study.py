"""A made-up study with known numbers: a few thousand sequences, several models, two indexes' document tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.tables.store import TableStore

SUFFIX = 32

#: Questions that have an answer only where texts were planted, or sequences drawn by domain: test_planting,
#: test_exposures and test_study_sampling ask them.
PLANTED = {f"rate_by_{what}" for what in ("copies", "exposures", "passage", "recency", "repetition")} | {"half_dose"}
PLANTED |= {"frequency_in_domains"}
HOSTILE = "<script>alert(1)</script>"
DOMAINS = ("Python", "C++", "Web text", "Law", HOSTILE)

#: model_id, architecture, non-embedding parameters
MODELS = (
    ("small", "gpt_neox", 790_000),
    ("middle", "gpt_neox", 4_700_000),
    ("large", "gpt_neox", 25_000_000),
    ("huge", "gpt_neox", 151_000_000),
    ("other/7b", "llama", 6_900_000_000),
)


def make_study(
    folder: Path, *, models: tuple[tuple[str, str, int], ...] = MODELS, rows: int = 1200, seed: int = 0
) -> Path:
    """Write study.toml, the tables and two folders with documents.parquet; return the study's directory."""
    rng = np.random.default_rng(seed)
    study = folder / "study"
    study.mkdir(parents=True)
    (study / "study.toml").write_text(
        'name = "A made-up study"\nindex = "../mini"\nheldout = "../mini-heldout"\n', encoding="utf-8"
    )
    for name in ("mini", "mini-heldout"):
        write_documents(folder / name, rng)
    store = TableStore(study / "tables")
    sequences, counts = sample(rng, rows)
    store.write("sequences", "all", sequences)
    store.write("frequencies", "all", frequencies(sequences["sequence_id"], counts))
    store.write("buckets", "all", buckets(sequences["bucket"]))
    store.write("ngram_statistics", "all", ngram_statistics(sequences["sequence_id"], counts))
    store.write("domain_counts", "all", domain_counts(sequences, counts))
    # As an index is that a study was imported from, and whose name study.toml does not have any more.
    store.write("indexes", "before", index_row("before"))
    for place, model in enumerate(models):
        write_model(store, rng, model, place, sequences, counts)
    return study


def index_row(name: str) -> dict:
    """Columns of the table indexes, one row."""
    numbers = {"documents": [60], "tokens": [33_000], "domains": [len(DOMAINS)], "shards": [1]}
    return {"index": [name], "checksum": ["0" * 64], "tokenizer": [None], **numbers}


def write_documents(folder: Path, rng: np.random.Generator, documents: int = 60) -> None:
    """The document table of a made-up index."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = rng.integers(100, 1000, documents)
    table = pa.table(
        {
            "shard": pa.array(np.zeros(documents, np.int32)),
            "document": pa.array(np.arange(documents)),
            "first_token": pa.array(np.cumsum(tokens) - tokens),
            "tokens": pa.array(tokens),
            "domain": [DOMAINS[i % len(DOMAINS)] for i in range(documents)],
            "path": [f"corpus/{HOSTILE if i == 0 else i}.jsonl" for i in range(documents)],
            "line": pa.array(np.arange(documents) + 1),
            "metadata": ["{}"] * documents,
        }
    )
    pq.write_table(table, folder / "documents.parquet")


def sample(rng: np.random.Generator, rows: int) -> tuple[dict, np.ndarray]:
    """Columns of the table sequences (half uniform, the rest bucket and heldout) and their counts."""
    half, quarter = rows // 2, rows // 4
    samples = np.array(["uniform"] * half + ["bucket"] * quarter + ["heldout"] * (rows - half - quarter))
    buckets = np.where(samples == "bucket", rng.integers(0, 11, rows), np.minimum(rng.geometric(0.6, rows) - 1, 8))
    counts = 2**buckets + (rng.random(rows) * 2**buckets).astype(np.int64)
    counts[(samples == "heldout") & (rng.random(rows) < 0.8)] = 0
    documents = rng.integers(0, 60, rows)
    columns = {
        "sequence_id": np.arange(rows),
        "sample": samples,
        "bucket": [int(b) if s == "bucket" else None for s, b in zip(samples, buckets, strict=True)],
        "inclusion": np.full(rows, 0.01),
        "planted_text": [None] * rows,
        "index": np.where(samples == "heldout", "mini-heldout", "mini"),
        "shard": np.zeros(rows, np.int32),
        "position": rng.integers(0, 30_000, rows),
        "document": documents,
        "document_offset": rng.integers(0, 100, rows),
        "document_tokens": np.full(rows, 200),
        "first_document": documents,
        "domain": [DOMAINS[d % len(DOMAINS)] for d in documents],
        "prefix": rng.integers(0, 500, (rows, 32)),
        "suffix": rng.integers(0, 500, (rows, SUFFIX)),
    }
    follow_templates(columns["prefix"], columns["suffix"])
    return columns, counts


def follow_templates(prefix: np.ndarray, suffix: np.ndarray) -> None:
    """Make the suffix of every seventh sequence repeat its prefix, and of the one after it go on in steps."""
    place = np.arange(prefix.shape[1] + suffix.shape[1])
    for row in range(0, len(prefix) - 1, 7):
        period = 1 + row % prefix.shape[1]
        suffix[row] = prefix[row][(place[: suffix.shape[1]] % period) - period]
        steps = prefix[row + 1, : 1 + row % 9]
        tokens = (steps[place % len(steps)] % 5 + 1) * (place // len(steps)) + steps[place % len(steps)]
        prefix[row + 1], suffix[row + 1] = np.split(tokens, [prefix.shape[1]])


def frequencies(ids: np.ndarray, counts: np.ndarray) -> dict:
    """Columns of the table frequencies."""
    return {
        "sequence_id": ids,
        "index": ["mini"] * len(ids),
        "sequence_count": counts,
        "prefix_count": counts + 1,
        # Half of the held-out sequences that never occur have a suffix that does.
        "suffix_count": np.where(counts == 0, ids % 2, counts + 2),
    }


def ngram_statistics(ids: np.ndarray, counts: np.ndarray) -> dict:
    """Columns of the table ngram_statistics: single tokens, and 5-grams that occur twice as often as sequences."""
    rng = np.random.default_rng(11)
    rows = np.tile(np.arange(len(ids)), 2)
    n = np.repeat([1, 5], len(ids))
    least = np.where(n == 1, 1000 * (counts[rows] + 1), 2 * counts[rows])
    names = ("q25_count", "median_count", "q75_count", "max_count")
    steps = np.cumsum(rng.integers(0, 9, (len(rows), len(names))), axis=1)
    quartiles = dict(zip(names, (least[:, None] + steps).T.astype(np.float64), strict=True))
    return {
        "sequence_id": ids[rows],
        "index": ["mini"] * len(rows),
        "n": n,
        "ngrams": 65 - n,
        "min_count": least,
        **quartiles,
        "max_count": quartiles["max_count"].astype(np.int64),
        "mean_count": least + rng.random(len(rows)) * steps[:, 0] + (n == 1),
        "mean_log_frequency": np.where(least > 0, rng.normal(-9, 1, len(rows)), -np.inf),
    }


def domain_counts(sequences: dict, counts: np.ndarray) -> dict:
    """Columns of the table domain_counts: a third of what occurs twice and more stands in the next domain too."""
    rng = np.random.default_rng(12)
    domains: list[str] = sequences["domain"]
    elsewhere = np.where((counts > 1) & (rng.random(len(counts)) < 1 / 3), rng.integers(1, np.maximum(counts, 2)), 0)
    here = np.flatnonzero(counts)
    there = np.flatnonzero(elsewhere)
    rows = np.concatenate([here, there])
    following = [DOMAINS[(DOMAINS.index(domains[row]) + 1) % len(DOMAINS)] for row in there]
    return {
        "sequence_id": sequences["sequence_id"][rows],
        "index": ["mini"] * len(rows),
        "domain": [domains[row] for row in here] + following,
        "count": np.concatenate([(counts - elsewhere)[here], elsewhere[there]]),
    }


def buckets(sampled: list[int | None]) -> dict:
    """Columns of the table buckets: 100,000 texts that occur once, half as many of each double frequency."""
    numbers = np.arange(11)
    distinct = 100_000 >> numbers
    return {
        "index": ["mini"] * len(numbers),
        "length": [64] * len(numbers),
        "bucket": numbers,
        "distinct": distinct,
        "sequences": distinct << numbers,
        "sampled": [sampled.count(int(number)) for number in numbers],
    }


def write_model(
    store: TableStore,
    rng: np.random.Generator,
    model: tuple[str, str, int],
    place: int,
    sequences: dict,
    counts: np.ndarray,
) -> None:
    """One model, one run, and continuations whose rate grows with size, frequency and for code."""
    model_id, architecture, size = model
    rows = len(counts)
    store.write("models", model_id, model_row(model_id, architecture, size))
    store.write("runs", f"{model_id}-run", run_row(f"{model_id}-run", model_id, rows, place))
    write_continuations(store, rng, f"{model_id}-run", sequences, strength_of(size, sequences, counts))


def strength_of(size: int, sequences: dict, counts: np.ndarray) -> np.ndarray:
    """Log-odds that a model of this size has memorized each sequence."""
    code = np.isin(sequences["domain"], ["Python", "C++"])
    return math.log10(size) - 9 + 0.9 * np.log2(counts + 0.25) + 1.2 * code


def write_continuations(
    store: TableStore, rng: np.random.Generator, run_id: str, sequences: dict, strength: np.ndarray
) -> None:
    """The continuations of one run."""
    rows = len(strength)
    memorized = rng.random(rows) < 1 / (1 + np.exp(-strength))
    matched = np.where(memorized, SUFFIX, np.minimum(rng.geometric(0.3, rows) - 1, SUFFIX - 1))
    right = np.where(memorized, SUFFIX, np.minimum(matched + rng.binomial(4, 0.2, rows), SUFFIX - 1))
    nearly = ~memorized & (rng.random(rows) < 0.08)
    right = np.where(nearly, SUFFIX - rng.integers(1, 5, rows), right)
    logprob = -rng.exponential(np.where(memorized, 1, 20))
    store.write(
        "continuations",
        run_id,
        {
            "run_id": [run_id] * rows,
            "sequence_id": sequences["sequence_id"],
            "score": (right / SUFFIX).astype(np.float32),
            "matched": matched,
            "memorized": memorized,
            "edit_distance": (SUFFIX - right) // rng.integers(1, 4, rows),
            "bleu": ((right / SUFFIX) ** 1.5).astype(np.float32),
            "suffix_logprob": logprob,
            "suffix_logprob_top40": np.where(~memorized & (rng.random(rows) < 0.2), -np.inf, 0.9 * logprob),
            "prefix_logprob": -rng.exponential(60, rows),
            "token_logprobs": -rng.random((rows, SUFFIX)),
            "token_ranks": rng.integers(0, 50, (rows, SUFFIX)),
            "continuation": sequences["suffix"],
        },
    )
    store.write("spans", run_id, spans(run_id, sequences, matched))


def spans(run_id: str, sequences: dict, matched: np.ndarray) -> dict:
    """Columns of the table spans: at least what matched, where the sequence was drawn from."""
    rng = np.random.default_rng(list(run_id.encode()))
    lengths = np.maximum(matched, np.minimum(rng.geometric(0.15, len(matched)) - 1, SUFFIX))
    some = [int(length) or None for length in lengths]
    return {
        "run_id": [run_id] * len(matched),
        "sequence_id": sequences["sequence_id"],
        "index": ["mini"] * len(matched),
        "start": np.zeros(len(matched), dtype=np.int64),
        "length": lengths,
        "count": np.minimum(lengths, 1),
        "shard": [0 if length else None for length in some],
        "position": [position if n else None for position, n in zip(sequences["position"], some, strict=True)],
        "document": [document if n else None for document, n in zip(sequences["document"], some, strict=True)],
        "domain": [domain if n else None for domain, n in zip(sequences["domain"], some, strict=True)],
    }


def add_exposures(study: Path, model: str = "small") -> None:
    """When in training a model read three sequences: never, once, twice; and the windows of two copies of the last."""
    store = TableStore(study / "tables")
    times = [[None, 4, 4], [None, 4, 9], [None, 5 * 256, 5 * 256], [None, 5 * 256, 10 * 256]]
    names = ("first_step", "last_step", "first_tokens", "last_tokens")
    counts = {"exposures": [0, 1, 2], "cut": [1, 0, 0]}
    columns = {"model_id": [model] * 3, "sequence_id": [0, 1, 2], **counts, **dict(zip(names, times, strict=True))}
    store.write("exposures", model, columns)
    places = {"copy": [0, 1], "pass": [0, 0], "step": [4, 9], "step_row": [0, 3], "window_offset": [0, 17]}
    copies = {"model_id": [model] * 2, "sequence_id": [2, 2], **places, "whole": [True, True]}
    store.write("planted_exposures", model, copies)


def add_protocols(study: Path, *, model: str = "small", rows: int = 1200, seed: int = 1) -> None:
    """Runs beside the main protocol: short prefixes, a sampled run, each control, and an imported sample."""
    rng = np.random.default_rng(seed)
    store = TableStore(study / "tables")
    sequences = store.read("sequences").to_pydict()
    counts = np.array(store.read("frequencies").column("sequence_count"))
    [size] = [size for name, _, size in MODELS if name == model]
    strength = strength_of(size, sequences, counts)
    store.write("models", f"{model} (untrained)", model_row(f"{model} (untrained)", "gpt_neox", size))
    store.write("models", "stranger", model_row("stranger", "gpt2", 2 * size))
    main: dict = {"sequences": [rows]}
    runs = {f"{model} {n}+32": (model, strength - 4 / n, main | {"prefix_length": [n]}) for n in (4, 8, 16)}
    sampled = main | {"decoding": ["sampled"], "seed": [7], "top_k": [40], "temperature": [1.0]}
    runs[f"{model} sampled"] = (model, strength - 1, sampled)
    for name, control, shift in (
        (model, "shuffled-suffixes", -9),
        (f"{model} (untrained)", "untrained", -30),
        ("stranger", "other-corpus", -2),
    ):
        runs[f"{name} {control}"] = (name, strength + shift, main | {"control": [control]})
    for run_id, (name, logodds, protocol) in runs.items():
        store.write("runs", run_id, run_row(run_id, name, rows, 0) | protocol)
        write_continuations(store, rng, run_id, sequences, logodds)
    add_import(store, rng, model)


def add_probes(study: Path, run_id: str = "small-run", rows: int = 30) -> None:
    """Every probe of one run, on the first sequences of the study."""
    rng = np.random.default_rng(5)
    store = TableStore(study / "tables")
    ids = np.arange(rows)
    needed = rng.integers(1, 33, rows)
    compared = {
        "run_id": [run_id] * rows,
        "sequence_id": ids,
        "outcome": np.array(["memorized", "half-memorized", "unmemorized"])[ids % 3],
        "drawn": ids % 2 == 0,
        "pair": [None if row < 15 else row - row % 3 for row in ids.tolist()],
    }
    length = np.full(rows, SUFFIX)
    one = {"draw": np.zeros(rows, np.int32), "continuation_length": length}
    some = rng.random((rows, 7)).astype(np.float32)
    heads = rng.integers(0, SUFFIX + 1, (rows, 4))
    of_run = {"run_id": [run_id] * rows, "sequence_id": ids}
    layer = {"layer": ids % 6 + 1, "layers": np.full(rows, 6)}
    tables: dict[str, dict] = {
        "compression": {
            **of_run,
            **{"context_length": length, "needed": needed, "needed_monotone": needed, "failures": 0 * ids},
            **{"ratio": needed / 32, "lengths": [list(range(n, 33)) for n in needed.tolist()]},
        },
        "noise": {**compared, **one, "alpha": ids / 100, "kept": needed, "logprob": -some[:, 0], "similarity": some},
        "perturbation": {**compared, **one, "replacements": rng.integers(0, 500, (rows, 32)), "kept": heads},
        "layer_decoding": {**compared, **layer, "probability": some, "rank": heads, "entropy": 3 * some},
        "head_importance": {
            **of_run,
            **layer,
            **{"replacement": ["others"] * rows, "continuation_length": length, "right": heads, "kept": heads // 2},
            "rescaled": [None] * rows,
        },
    }
    for name, columns in tables.items():
        store.write(name, run_id, columns)
        store.write("probes", f"{run_id} {name}", probe_row(run_id, name, rows))


def probe_row(run_id: str, name: str, rows: int) -> dict:
    """Columns of the table probes, one row."""
    return {
        "run_id": [run_id],
        "probe": [name],
        "sample": ["uniform"],
        "sequences": [rows],
        "settings": ["{}"],
        "dtype": ["float32"],
        "device": ["cpu"],
        "attention": ["sdpa"],
        "batch_size": [64],
        "seconds": [2.5],
        "versions": ["{}"],
        "created": np.array(["2026-01-02T03:04:05"], dtype="datetime64[us]"),
    }


def add_import(store: TableStore, rng: np.random.Generator, model: str, rows: int = 50) -> None:
    """Imported sequences, of other lengths and without a document, and a run of `model` on them."""
    ids = np.arange(rows) + 10**12
    places = (
        "bucket",
        "inclusion",
        "planted_text",
        "index",
        "shard",
        "position",
        "document",
        "document_offset",
        "document_tokens",
        "first_document",
    )
    nothing = dict.fromkeys(places, [None] * rows)
    columns = nothing | {
        "sequence_id": ids,
        "sample": ["imported"] * rows,
        "domain": [None] * rows,
        "prefix": rng.integers(0, 500, (rows, 50)),
        "suffix": rng.integers(0, 500, (rows, SUFFIX)),
    }
    store.write("sequences", "import", columns)
    store.write("frequencies", "import", frequencies(ids, rng.integers(0, 9, rows)))
    unknown = ("dtype", "device", "attention", "compiled", "model_fingerprint", "batch_size")
    nowhere: dict = {name: [None] for name in unknown}
    protocol = nowhere | {"prefix_length": [50], "made_by": ["jsonl"]}
    store.write("runs", f"{model} import", run_row(f"{model} import", model, rows, 0) | protocol)
    write_continuations(store, rng, f"{model} import", columns, np.zeros(rows))


def add_checkpoints(study: Path, *, model: str = "middle", rows: int = 1200, seed: int = 2) -> None:
    """Two earlier checkpoints of a model, that know less of the same sequences, and a second run of the model."""
    rng = np.random.default_rng(seed)
    store = TableStore(study / "tables")
    sequences = store.read("sequences").to_pydict()
    counts = np.array(store.read("frequencies").column("sequence_count"))
    [(architecture, size)] = [(architecture, size) for name, architecture, size in MODELS if name == model]
    strength = strength_of(size, sequences, counts)
    for step, shift in ((1000, 3), (9000, 1)):
        name = f"{model}@step{step}"
        row = {"revision": [f"step{step}"], "trained_tokens": [step * 10_000]}
        store.write("models", name, model_row(name, architecture, size) | row)
        store.write("runs", f"{name}-run", run_row(f"{name}-run", name, rows, 0))
        write_continuations(store, rng, f"{name}-run", sequences, strength - shift)
    store.write("runs", f"{model} bfloat16", run_row(f"{model} bfloat16", model, rows, 0) | {"dtype": ["bfloat16"]})
    write_continuations(store, rng, f"{model} bfloat16", sequences, strength)


def model_row(model_id: str, architecture: str, size: int) -> dict:
    """Columns of the table models, one row."""
    return {
        "model_id": [model_id],
        "family": [None],
        "corpus": [None],
        "architecture": [architecture],
        "parameters": [size + 1_000_000],
        "non_embedding_parameters": [size],
        "layers": [6],
        "hidden_size": [256],
        "heads": [4],
        "vocabulary": [50304],
        "context": [2048],
        "source": [f"models/{model_id}"],
        "revision": [None],
        "trained_tokens": [92_000_000],
    }


def run_row(run_id: str, model_id: str, rows: int, place: int) -> dict:
    """Columns of the table runs, one row."""
    return {
        "run_id": [run_id],
        "model_id": [model_id],
        "prefix_length": [32],
        "suffix_length": [SUFFIX],
        "decoding": ["greedy"],
        "seed": [None],
        "top_k": [None],
        "temperature": [None],
        "control": [None],
        "made_by": ["memindex"],
        "dtype": ["float32"],
        "device": ["cpu"],
        "attention": ["sdpa"],
        "compiled": [False],
        "model_fingerprint": ["0" * 12],
        "batch_size": [64],
        "sequences": [rows],
        "retokenized": [False],
        "seconds": [1.5 + place],
        "versions": ["memindex 0.1.0"],
        "created": np.array(["2026-01-02T03:04:05"], dtype="datetime64[us]"),
    }
