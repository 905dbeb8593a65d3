"""Running what a study lacks: sampling, counting, scoring.

Every piece of work is a unit with a file of its own, and a unit whose file exists is skipped: a study that was killed
goes on where it was. A run's row in `runs` is written after its last continuations, so a row there means a whole run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import memindex
from memindex.errors import MemindexError
from memindex.index.index import Index
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.sampling import count_sequences, sample_sequences, token_matrix
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel

#: Sequences per unit of scoring: what a killed run loses at most.
UNIT = 16_384

STEPS = ("sequences", "scores")

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
        MemindexError: The study's settings changed since its sequences were sampled, or a model can't be run.
    """
    report = progress or (lambda *_: None)
    sequences = ensure_sequences(config, report)
    if only == "sequences":
        return
    for model in config.models:
        score_model(config, model, sequences, options or RunOptions(), report)


def ensure_sequences(config: StudyConfig, progress: Progress) -> pa.Table:
    """The study's sequences, sampled and counted now if they were not before."""
    store = TableStore(config.tables)
    unit = _sample_name(config)
    others = [name for name in store.units("sequences") if name != unit]
    if others:
        raise MemindexError(
            f"{config.directory}: its sequences were sampled with other settings or another index; "
            f"remove {config.tables} to start anew"
        )
    index = Index.open(config.index)
    if not store.has("sequences", unit):
        progress("sample sequences", 0, 1)
        heldout = Index.open(config.heldout) if config.heldout else None
        store.write("sequences", unit, sample_sequences(index, config.sequences, heldout))
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
    run_id = f"{model.id} {config.sequences.prefix}+{config.sequences.suffix}"
    if store.has("runs", run_id):
        return
    from memindex.models.loading import load_model
    from memindex.models.runtime import versions
    from memindex.models.scoring import score_sequences

    loaded = load_model(_source(config, model), model.revision, options.device, options.dtype, model_id=model.id)
    prefixes, suffixes = token_matrix(sequences, "prefix"), token_matrix(sequences, "suffix")
    start, batch_size = time.perf_counter(), 0
    for part in _units(len(sequences)):
        unit = f"{run_id} {part.start:09d}"
        if store.has("continuations", unit):
            continue
        scores = score_sequences(
            loaded,
            prefixes[part],
            suffixes[part],
            options.batch_size,
            _shifted(progress, f"score {model.id}", part.start, len(sequences)),
        )
        batch_size = scores.batch_size
        columns = {
            "run_id": pa.array([run_id] * len(scores.score)),
            "sequence_id": sequences.column("sequence_id")[part],
            "score": scores.score,
            "matched": scores.matched,
            "memorized": scores.memorized,
            "suffix_logprob": scores.suffix_logprob,
            "token_logprobs": scores.token_logprobs,
            "continuation": scores.continuation,
        }
        store.write("continuations", unit, columns)
    store.write("models", model.id, _model_row(loaded, model))
    row = {
        "run_id": run_id,
        "model_id": model.id,
        "prefix_length": config.sequences.prefix,
        "suffix_length": config.sequences.suffix,
        "decoding": "greedy",
        "dtype": loaded.dtype,
        "device": loaded.device,
        "attention": loaded.attention,
        "batch_size": batch_size,
        "sequences": len(sequences),
        "seconds": time.perf_counter() - start,
        "versions": json.dumps({"memindex": memindex.__version__, **versions()}),
        "created": datetime.now(UTC),
    }
    store.write("runs", run_id, {name: [value] for name, value in row.items()})


def status(config: StudyConfig) -> list[tuple[str, str]]:
    """(piece of work, "done" or "missing") for everything the study consists of."""
    store = TableStore(config.tables)
    unit = _sample_name(config)
    work = [("sequences", store.has("sequences", unit)), ("frequencies", store.has("frequencies", unit))]
    for model in config.models:
        run_id = f"{model.id} {config.sequences.prefix}+{config.sequences.suffix}"
        work.append((f"scores of {model.id}", store.has("runs", run_id)))
    return [(name, "done" if done else "missing") for name, done in work]


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
