"""A made-up study like studies/families: six architectures of four sizes, checkpoints, controls, planted texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import synthetic_study
from synthetic_study import SUFFIX, model_row, probe_row, run_row, write_continuations

from memindex.tables.store import TableStore

ARCHITECTURES = ("gpt_neox", "llama", "gpt_bigcode", "olmo", "olmo2", "olmo3")
SIZES = {"0.8M": 790_000, "4.7M": 4_700_000, "25M": 25_200_000, "85M": 85_100_000}
DOMAINS = ("C++", "Python", "German Law", "Novels", "Mathematics", "Technical Proposals")
TOKENS = 46_000_000
COPIES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
TEXTS = 40  # of each number of copies
DOCUMENTS = 24  # few, as a bootstrap takes as long as there are documents

LAYERS = {"0.8M": 3, "4.7M": 4, "25M": 6, "85M": 8}
CHECKPOINTS = {"6M": 6_000_000, "12M": 12_000_000, "25M": 25_000_000}
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.5)
PROBED = 150  # sequences


def make_families_study(folder: Path, rows: int = 600) -> Path:
    """Write the study and return its directory."""
    rng = np.random.default_rng(8)
    study = folder / "families"
    study.mkdir(parents=True)
    for name in ("mini", "mini-heldout"):
        synthetic_study.write_documents(folder / name, rng)
    store = TableStore(study / "tables")
    sequences, counts = _sequences(rng, rows)
    store.write("sequences", "all", sequences)
    store.write("frequencies", "all", synthetic_study.frequencies(sequences["sequence_id"], counts))
    store.write("buckets", "all", synthetic_study.buckets(sequences["bucket"]))
    store.write("ngram_statistics", "all", synthetic_study.ngram_statistics(sequences["sequence_id"], counts))
    listed = [_model(study, store, rng, (sequences, counts), made) for made in _models()]
    head = 'name = "Families"\nindex = "../mini"\nheldout = "../mini-heldout"\n'
    (study / "study.toml").write_text(head + "".join(listed), encoding="utf-8")
    for architecture in ARCHITECTURES:
        for size in SIZES:
            _probe(store, rng, f"{architecture}-{size}", LAYERS[size], ARCHITECTURES.index(architecture))
    return study


def _models() -> list[dict]:
    """What tells the models apart."""
    made = [{"architecture": a, "size": s, "id": f"{a}-{s}"} for a in ARCHITECTURES for s in SIZES]
    for architecture in ARCHITECTURES:
        for name, tokens in CHECKPOINTS.items():
            of_model = {"architecture": architecture, "size": "25M", "id": f"{architecture}-25M@{name}"}
            made.append(of_model | {"tokens": tokens, "shift": 1.2 * np.log10(tokens / TOKENS)})
    made += [{"architecture": a, "size": "4.7M", "id": f"{a}-4.7M-seed1", "seed": 1} for a in ("gpt_neox", "llama")]
    for architecture in ("gpt_neox", "olmo2"):
        of_model = {"architecture": architecture, "size": "25M", "id": f"{architecture}-25M shuffled"}
        made.append(of_model | {"control": "shuffled-suffixes"})
    made.append({"architecture": "gpt_neox", "size": "4.7M", "id": "gpt_neox-4.7M-other", "control": "other-corpus"})
    return made


def _sequences(rng: np.random.Generator, rows: int) -> tuple[dict, np.ndarray]:
    """The sequences of a made-up study, and planted ones."""
    columns, counts = synthetic_study.sample(rng, rows)
    columns["document"] %= DOCUMENTS
    columns["domain"] = [DOMAINS[document % len(DOMAINS)] for document in columns["document"]]
    # Twelve sequences of three frequencies in each domain.
    kinds = [(count, domain) for count in (1, 8, 64) for domain in DOMAINS for _ in range(12)]
    places = np.array([count for count, _ in kinds])
    added = _added(rng, "domain", [domain for _, domain in kinds], 10**8)
    added["bucket"] = [int(count).bit_length() - 1 for count in places]
    copies = np.repeat(COPIES, TEXTS)
    planted = _added(rng, "planted", ["planted"] * len(copies), 10**9)
    parts = (columns, added, planted)
    joined = {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(columns[name], np.ndarray)
        else [value for part in parts for value in part[name]]
        for name in columns
    }
    return joined, np.concatenate([counts, places, copies])


def _added(rng: np.random.Generator, sample: str, domains: list[str], first: int) -> dict:
    """Sequences of one sample more."""
    more = len(domains)
    return {
        "sequence_id": np.arange(more) + first,
        "sample": [sample] * more,
        "bucket": [None] * more,
        "inclusion": [None] * more,
        "planted_text": [None] * more,
        "index": ["mini"] * more,
        "shard": np.zeros(more, np.int32),
        "position": np.arange(more),
        "document": np.arange(more) % DOCUMENTS,
        "document_offset": np.zeros(more, np.int64),
        "document_tokens": np.where(np.arange(more) % 2, 64, 256),
        "first_document": np.arange(more) % DOCUMENTS,
        "domain": domains,
        "prefix": rng.integers(0, 500, (more, 32)),
        "suffix": rng.integers(0, 500, (more, SUFFIX)),
    }


def _model(study: Path, store: TableStore, rng: np.random.Generator, sampled: tuple, made: dict) -> str:
    """A model with its run and its training's record; its lines of study.toml."""
    sequences, counts = sampled
    architecture, size, name = made["architecture"], SIZES[made["size"]], made["id"]
    control, tokens = made.get("control"), made.get("tokens", TOKENS)
    shift = made.get("shift", 0.0) + 0.3 * ARCHITECTURES.index(architecture) + {None: 0.0}.get(control, -6.0)
    code = np.isin(sequences["domain"], ["C++", "Python"]) * (1.6 - 0.4 * np.log10(size / 790_000))
    strength = 2 * np.log10(size) - 16 + shift + 0.9 * np.log2(np.asarray(counts) + 0.25) + code
    model_id = name.removesuffix(" shuffled")
    if control != "shuffled-suffixes":
        row = {"layers": [LAYERS[made["size"]]], "trained_tokens": [tokens]}
        store.write("models", model_id, model_row(model_id, architecture, size) | row)
    run_id = name if control else f"{name}-run"
    store.write("runs", run_id, run_row(run_id, model_id, len(counts), 0) | {"control": [control]})
    write_continuations(store, rng, run_id, sequences, strength)
    if not control:
        _exposures(store, rng, model_id, tokens)
    if control == "shuffled-suffixes":
        return ""
    folder = study / "models" / name
    folder.mkdir(parents=True)
    record = {
        "trained_tokens": tokens,
        "corpus_tokens": TOKENS,
        "seconds": 90.0 + size / 250_000,
        "final_loss": 4.5 - 0.35 * np.log10(size),
        "config": {"seed": made.get("seed", 0)},
        "compiled": made["size"] == "85M",
        "device": "a made-up GPU",
    }
    (folder / "training.json").write_text(json.dumps(record))
    marked = f'control = "{control}"\n' if control else ""
    return f'\n[[models]]\nid = "{name}"\nsource = "models/{name}"\n{marked}'


def _exposures(store: TableStore, rng: np.random.Generator, model: str, tokens: int) -> None:
    """When the model read the planted texts: most copies as a whole, a few cut by the edge of a window."""
    copies = np.repeat(COPIES, TEXTS)
    whole = rng.binomial(copies, 0.75)
    first, last = np.sort(rng.integers(0, tokens // 16_384, (2, len(copies))), axis=0)
    last += ((tokens // 16_384 - 1 - last) * (1 - 1 / np.maximum(whole, 1))).astype(np.int64)

    def read(values: np.ndarray) -> list[int | None]:
        return [int(value) if n else None for value, n in zip(values, whole, strict=True)]

    columns = {
        "model_id": [model] * len(copies),
        "sequence_id": np.arange(len(copies)) + 10**9,
        "exposures": whole,
        "cut": copies - whole,
    }
    steps = {"first_step": read(first), "last_step": read(last)}
    times = {"first_tokens": read(16_384 * (first + 1)), "last_tokens": read(16_384 * (last + 1))}
    store.write("exposures", model, columns | steps | times)


def _probe(store: TableStore, rng: np.random.Generator, model: str, layers: int, kind: int) -> None:
    """All probes of one model, the last ones of its table of memorized, half-memorized and other sequences."""
    run_id, rows = f"{model}-run", PROBED
    ids = np.arange(rows)
    outcome = ids % 3
    compared = {
        "sequence_id": ids,
        "outcome": np.array(["memorized", "half-memorized", "unmemorized"])[outcome],
        "drawn": np.full(rows, True),
        "pair": [row - row % 3 for row in ids.tolist()],
    }
    needed = np.clip(rng.normal(14 - kind, 7, rows), 1, 32).astype(np.int64)
    tables: dict[str, dict] = {
        "compression": {
            **{"sequence_id": ids, "context_length": np.full(rows, 32), "needed": needed, "needed_monotone": needed},
            **{"failures": 0 * ids, "ratio": needed / 32, "lengths": [list(range(n, 33)) for n in needed.tolist()]},
        },
        "noise": _noise(rng, compared, outcome, layers, kind),
        "layer_decoding": _decoding(rng, compared, outcome, layers),
        "head_importance": _heads(rng, ids, layers, kind),
        "perturbation": _perturbed(rng, compared, outcome),
    }
    for name, columns in tables.items():
        there = len(columns["sequence_id"])
        store.write(name, run_id, {"run_id": [run_id] * there, **columns})
        store.write("probes", f"{run_id} {name}", probe_row(run_id, name, rows))


def _repeated(compared: dict, times: int) -> dict:
    """The columns with each row so many times."""
    return {name: np.repeat(np.array(value), times) for name, value in compared.items()}


def _noise(rng: np.random.Generator, compared: dict, outcome: np.ndarray, layers: int, kind: int) -> dict:
    """Columns of the table noise: what is memorized recovers less."""
    alpha = np.tile(ALPHAS, len(outcome))
    outcomes = np.repeat(outcome, len(ALPHAS))
    kept = rng.binomial(SUFFIX, np.exp(-alpha * (1.5 + 0.3 * kind + outcomes)))
    low = 1 / (1 + alpha)
    climbs = np.linspace(0, 1, layers + 1) * (1 - low)[:, None] * (0.3 + 0.2 * outcomes)[:, None]
    return {
        **_repeated(compared, len(ALPHAS)),
        "draw": np.zeros(len(alpha), np.int32),
        "continuation_length": np.full(len(alpha), SUFFIX),
        **{"alpha": alpha, "kept": kept, "logprob": -alpha},
        "similarity": (low[:, None] + climbs + rng.normal(0, 0.01, climbs.shape)).astype(np.float32),
    }


def _decoding(rng: np.random.Generator, compared: dict, outcome: np.ndarray, layers: int) -> dict:
    """Columns of the table layer_decoding: memorized tokens rise earlier."""
    layer = np.tile(np.arange(layers + 1), len(outcome))
    outcomes = np.repeat(outcome, layers + 1)
    rise = 8 * (layer / layers - 0.55 - 0.15 * outcomes)[:, None] + rng.normal(0, 1, (len(layer), SUFFIX))
    probability = (1 / (1 + np.exp(-rise))).astype(np.float32)
    return {
        **_repeated(compared, layers + 1),
        "layer": layer,
        "layers": np.full(len(layer), layers),
        "probability": probability,
        "rank": (20 * (1 - probability)).astype(np.int64),
        "entropy": (6 * (1 - probability)).astype(np.float32),
    }


def _heads(rng: np.random.Generator, ids: np.ndarray, layers: int, kind: int) -> dict:
    """Columns of the table head_importance: a few heads that all need, the deeper the later the architecture."""
    layer = np.tile(np.arange(1, layers + 1), len(ids))
    needed = np.abs(np.random.default_rng(kind).normal(0, 0.15, (layers, 8)))
    needed += 0.1 * (np.arange(layers) / layers > kind / 12)[:, None]
    right = rng.binomial(SUFFIX, np.clip(1 - needed[layer - 1], 0, 1))
    return {
        **{"sequence_id": np.repeat(ids, layers), "layer": layer, "layers": np.full(len(layer), layers)},
        **{"replacement": ["others"] * len(layer), "continuation_length": np.full(len(layer), SUFFIX)},
        **{"right": right, "kept": right // 2, "rescaled": [None] * len(layer)},
    }


def _perturbed(rng: np.random.Generator, compared: dict, outcome: np.ndarray) -> dict:
    """Columns of the table perturbation: the last tokens matter most, and least to what is memorized."""
    before = np.arange(SUFFIX, 0, -1, dtype=np.float64)
    lost = np.clip((0.2 + 0.2 * outcome)[:, None] + 1 / before, 0, 1)
    return {
        **compared,
        "draw": np.zeros(len(outcome), np.int32),
        "continuation_length": np.full(len(outcome), SUFFIX),
        "replacements": rng.integers(1, 100, lost.shape),
        "kept": rng.binomial(SUFFIX, 1 - lost),
    }
