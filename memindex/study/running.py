"""Running what a study lacks: sampling, counting, scoring.

Every piece of work is a unit with a file of its own, and a unit whose file exists is skipped: a study that was killed
goes on where it was. A run's row in `runs` is written after its last continuations, so a row there means a whole run.
What a file was made from stands in its unit's name or its row (settings, checksums, fingerprints): a change is refused
instead of mixed in.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import memindex
from memindex.errors import MemindexError
from memindex.index.index import Index
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.sampling import bucket_totals, count_sequences, sample_sequences, token_matrix
from memindex.study.similarity import bleu, edit_distance
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel

#: The file that `memindex train` leaves beside a model's weights.
TRAINING_RECORD = "training.json"

#: Sequences per unit of scoring: what a killed run loses at most.
UNIT = 16_384

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RunOptions:
    """Where and how models run; None lets the machine decide."""

    device: str | None = None
    dtype: str | None = None
    batch_size: int | None = None


def run_study(
    config: StudyConfig,
    *,
    only: str | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> None:
    """Do what is missing: sample and count the sequences, then score every model of study.toml on them.

    Raises:
        MemindexError: The study's settings or a model changed since they were used, or a model can't be run.
    """
    report = progress or (lambda *_: None)
    if only == "scores" and not TableStore(config.tables).has("frequencies", _sample_name(config)):
        raise MemindexError(f"{config.directory} has no sequences yet: run it with --only sequences first")
    sequences = ensure_sequences(config, report)
    if only == "sequences":
        return
    for model in config.models:
        score_model(config, model, sequences, options or RunOptions(), report)


def ensure_sequences(config: StudyConfig, progress: Progress) -> pa.Table:
    """The study's sequences, sampled and counted now if they were not before."""
    store = TableStore(config.tables)
    unit = _sample_name(config)
    if any(name != unit for table in ("sequences", "frequencies", "buckets") for name in store.units(table)):
        raise MemindexError(
            f"{config.directory}: its sequences were sampled with other settings or another index; "
            f"remove {config.tables} to start anew"
        )
    index = Index.open(config.index)
    if not store.has("sequences", unit):
        progress("sample sequences", 0, 1)
        heldout = Index.open(config.heldout) if config.heldout else None
        sequences, totals = sample_sequences(index, config.sequences, heldout)
        store.write("buckets", unit, bucket_totals(index, config.sequences, totals, sequences))
        store.write("sequences", unit, sequences)
        progress("sample sequences", 1, 1)
    sequences = store.read("sequences")
    if not store.has("frequencies", unit):
        store.write("frequencies", unit, count_sequences(index, sequences))
    return sequences


def score_model(
    config: StudyConfig, model: ModelConfig, sequences: pa.Table, options: RunOptions, progress: Progress
) -> None:
    """Score one model on all sequences, unless its run is there already."""
    store = TableStore(config.tables)
    run_id = _run_id(config, model, options)
    fingerprint = model_fingerprint(config, model)
    if store.has("runs", run_id):
        _check_unchanged(store, run_id, fingerprint, config)
        return
    from memindex.models.loading import load_model

    loaded = load_model(_source(config, model), model.revision, options.device, options.dtype, model_id=model.id)
    timing = _score_units(store, run_id, f"{fingerprint} {loaded.device}", loaded, sequences, options, progress)
    store.write("models", model.id, _model_row(loaded, model))
    row = _run_row(config, run_id, model, fingerprint, loaded, len(sequences), timing)
    store.write("runs", run_id, {name: [value] for name, value in row.items()})


@dataclass
class _Timing:
    """Seconds of scoring (None when some of it was done before) and the largest batch."""

    seconds: float | None = 0.0
    batch_size: int = 0


def _score_units(
    store: TableStore,
    run_id: str,
    made_by: str,
    loaded: LoadedModel,
    sequences: pa.Table,
    options: RunOptions,
    progress: Progress,
) -> _Timing:
    """Score the sequences unit by unit; units that another device or another state of the model left are removed."""
    from memindex.models.scoring import score_sequences

    key = hashlib.sha256(made_by.encode()).hexdigest()[:8]
    units = {f"{run_id} {key} {part.start:09d}": part for part in _units(len(sequences))}
    for unit in store.units("continuations"):
        if unit.startswith(f"{run_id} ") and unit not in units:
            store.file("continuations", unit).unlink()
    prefixes, suffixes = token_matrix(sequences, "prefix"), token_matrix(sequences, "suffix")
    timing = _Timing()
    for unit, part in units.items():
        if store.has("continuations", unit):
            timing.seconds = None
            continue
        start = time.perf_counter()
        shifted = _shifted(progress, f"score {loaded.model_id}", part.start, len(sequences))
        scores = score_sequences(loaded, prefixes[part], suffixes[part], options.batch_size, shifted)
        columns = {
            "run_id": pa.array([run_id] * len(scores.score)),
            "sequence_id": sequences.column("sequence_id")[part],
            "score": scores.score,
            "matched": scores.matched,
            "memorized": scores.memorized,
            "edit_distance": edit_distance(scores.continuation, suffixes[part]),
            "bleu": bleu(scores.continuation, suffixes[part]),
            "suffix_logprob": scores.suffix_logprob,
            "suffix_logprob_top40": scores.suffix_logprob_top40,
            "prefix_logprob": scores.prefix_logprob,
            "token_logprobs": scores.token_logprobs,
            "token_ranks": scores.token_ranks,
            "continuation": scores.continuation,
        }
        store.write("continuations", unit, columns)
        timing.batch_size = max(timing.batch_size, scores.batch_size)
        if timing.seconds is not None:
            timing.seconds += time.perf_counter() - start
    return timing


def _run_row(
    config: StudyConfig,
    run_id: str,
    model: ModelConfig,
    fingerprint: str,
    loaded: LoadedModel,
    sequences: int,
    timing: _Timing,
) -> dict[str, Any]:
    from memindex.models.runtime import versions

    return {
        "run_id": run_id,
        "model_id": model.id,
        "prefix_length": config.sequences.prefix,
        "suffix_length": config.sequences.suffix,
        "decoding": "greedy",
        "seed": None,
        "top_k": None,
        "temperature": None,
        "control": None,
        "made_by": "memindex",
        "dtype": loaded.dtype,
        "device": loaded.device,
        "attention": loaded.attention,
        "compiled": False,
        "model_fingerprint": fingerprint,
        "batch_size": timing.batch_size,
        "sequences": sequences,
        "retokenized": False,
        "seconds": timing.seconds,
        "versions": json.dumps({"memindex": memindex.__version__, **versions()}),
        "created": datetime.now(UTC),
    }


def status(config: StudyConfig, options: RunOptions | None = None) -> list[tuple[str, str]]:
    """(piece of work, "done" or "missing") for everything the study consists of."""
    store = TableStore(config.tables)
    unit = _sample_name(config)
    work = [("sequences", store.has("sequences", unit)), ("frequencies", store.has("frequencies", unit))]
    for model in config.models:
        run_id = _run_id(config, model, options or RunOptions())
        work.append((f"scores of {model.id}", store.has("runs", run_id)))
    return [(name, "done" if done else "missing") for name, done in work]


def _run_id(config: StudyConfig, model: ModelConfig, options: RunOptions) -> str:
    """Model and protocol; a dtype that was asked for makes a run of its own."""
    protocol = f"{model.id} {config.sequences.prefix}+{config.sequences.suffix}"
    return f"{protocol} {options.dtype}" if options.dtype else protocol


def model_fingerprint(config: StudyConfig, model: ModelConfig) -> str:
    """Tells two states of a model apart: 12 hex digits over source and revision, and for a folder its files.

    Of every file the size and the first and last mebibyte count: reading all weights of a large model would take
    longer than many a run. The training record does not: it tells how long training took.
    """
    digest = hashlib.sha256(json.dumps([model.source, model.revision]).encode())
    folder = Path(_source(config, model))
    for file in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file.is_file() and file.name != TRAINING_RECORD:
            digest.update(f"{file.name} {file.stat().st_size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(1 << 20))
                stream.seek(max(stream.tell(), file.stat().st_size - (1 << 20)))
                digest.update(stream.read())
    return digest.hexdigest()[:12]


def _check_unchanged(store: TableStore, run_id: str, fingerprint: str, config: StudyConfig) -> None:
    rows = [row for row in store.read("runs").to_pylist() if row["run_id"] == run_id]
    if any(row["model_fingerprint"] != fingerprint for row in rows):
        raise MemindexError(
            f"{config.directory}: the model of the run {run_id!r} changed since it was scored: "
            "give the changed one another id in study.toml"
        )


def _sample_name(config: StudyConfig) -> str:
    """Names the sample by all that it depends on: the settings and the indexes' contents."""
    indexes = [Index.open(path).manifest for path in (config.index, config.heldout) if path]
    contents = [[facts.blake3 for facts in manifest.files.values()] for manifest in indexes]
    key = json.dumps([asdict(config.sequences), contents])
    return f"sample-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _shifted(progress: Progress, stage: str, start: int, total: int) -> Callable[[int, int], None]:
    """A unit's own progress as progress of the whole run."""
    return lambda done, _: progress(stage, start + done, total)


def _units(rows: int) -> Iterator[slice]:
    for start in range(0, rows, UNIT):
        yield slice(start, min(start + UNIT, rows))


def _source(config: StudyConfig, model: ModelConfig) -> str:
    """A folder below the study if there is one, else the name as it stands (a hub name, or a path)."""
    folder = config.directory / model.source
    return str(folder) if folder.is_dir() else model.source


def _model_row(loaded: LoadedModel, model: ModelConfig) -> dict[str, list[Any]]:
    facts = dict(loaded.facts)
    if model.trained_tokens is not None:
        facts["trained_tokens"] = model.trained_tokens
    # Where the model lay on one machine means nothing on another.
    facts["source"] = model.source
    return {name: [value] for name, value in facts.items()}
