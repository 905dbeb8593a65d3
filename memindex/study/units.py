"""One unit of a run: scored, written, and, when it was the last one missing, the run's row beside it.

Scoring needs the model; writing needs nothing but the scores, so it can happen beside the next unit's scoring. A unit's
file says how it was made (device, type, batch, seconds), so that whoever finishes a run's last unit can write its row
from the files alone, however many processes made them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.study.controls import shuffled_rows
from memindex.study.planning import Run, Units
from memindex.study.protocol import CONTROL_SEED, SHUFFLED
from memindex.study.sampling import token_matrix
from memindex.study.similarity import bleu, edit_distance
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel
    from memindex.models.scoring import Scorer, Scores
    from memindex.study.retokenizing import Retokenized


@dataclass(frozen=True)
class Batch:
    """The token ids of a run's sequences.

    Attributes:
        sequence_ids: int64 (rows,).
        prefixes: int32 (rows, the protocol's prefix).
        suffixes: int32 (rows, the protocol's suffix); another sequence's when they are shuffled.
    """

    sequence_ids: npt.NDArray[np.int64]
    prefixes: npt.NDArray[np.int32]
    suffixes: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ScoredUnit:
    """A unit that is scored and not yet written; `facts` say how it was made."""

    units: Units
    number: int
    batch: Batch
    scores: Scores
    facts: dict[str, Any]
    model: dict[str, Any]


def tokens_of(run: Run, sequences: pa.Table) -> Batch:
    """What a run reads of the study's sequences (a table of the schema `sequences`).

    Tokenized anew, those whose documents end too early are left out.
    """
    protocol = run.protocol
    if protocol.retokenized:
        prefixes, suffixes, rows = _retokenized(run, sequences)
        sequences = sequences.take(pa.array(rows))
    else:
        prefixes = token_matrix(sequences, "prefix")[:, -protocol.prefix :]
        suffixes = token_matrix(sequences, "suffix")[:, : protocol.suffix]
    if protocol.control == SHUFFLED:
        suffixes = suffixes[shuffled_rows(sequences, CONTROL_SEED)]
    return Batch(sequences.column("sequence_id").to_numpy(), prefixes, suffixes)


def _retokenized(run: Run, sequences: pa.Table) -> Retokenized:
    from memindex.index.index import Index
    from memindex.models.sources import read_tokenizer
    from memindex.study.retokenizing import retokenize

    tokenizer = read_tokenizer(run.source, run.model.revision)
    if tokenizer is None:
        raise MemindexError(f"{run.source} comes without a tokenizer: --retokenize needs one")
    indexes = [Index.open(path) for path in run.indexes]
    # The whole prefix is read, so that shorter contexts come before the same suffix.
    whole = token_matrix(sequences, "prefix").shape[1]
    # Texts that were planted 0 times stand in no document.
    placed = np.flatnonzero(sequences["position"].is_valid().to_numpy())
    found = retokenize(indexes, sequences.take(pa.array(placed)), tokenizer, whole, run.protocol.suffix)
    return found._replace(prefixes=found.prefixes[:, -run.protocol.prefix :], rows=placed[found.rows])


def score_unit(
    loaded: LoadedModel,
    scorer: Scorer,
    units: Units,
    number: int,
    tokens: Batch,
    progress: Callable[[int, int], None] | None = None,
) -> ScoredUnit:
    """Score one unit of a run; every engine calls this and nothing else.

    Args:
        loaded: The model.
        scorer: Its scorer for the run's protocol.
        units: The run's units.
        number: Which of them.
        tokens: The token ids of all the run's sequences.
        progress: Called with (sequences scored, sequences in the unit).

    Raises:
        MemindexError: As `Scorer.score`.
    """
    part = units.part(number)
    batch = Batch(tokens.sequence_ids[part], tokens.prefixes[part], tokens.suffixes[part])
    start = time.perf_counter()
    scores = scorer.score(batch.prefixes, batch.suffixes, batch.sequence_ids, progress)
    facts = {
        "seconds": time.perf_counter() - start,
        "batch_size": scores.batch_size,
        "compiled": scorer.compiled,
        **how_made(loaded),
    }
    return ScoredUnit(units, number, batch, scores, facts, _model_row(loaded, units.run))


def how_made(loaded: LoadedModel) -> dict[str, Any]:
    """What a unit's file says of the model that made it."""
    from memindex.models.runtime import versions

    return {
        "dtype": loaded.dtype,
        "device": loaded.device,
        "attention": loaded.attention,
        "versions": versions(),
    }


def write_unit(store: TableStore, unit: ScoredUnit) -> None:
    """Write a scored unit, and the run's row when no unit is missing any more."""
    run, scores, suffixes = unit.units.run, unit.scores, unit.batch.suffixes
    columns = {
        "run_id": pa.array([run.run_id] * len(suffixes)),
        "sequence_id": unit.batch.sequence_ids,
        "score": scores.score,
        "matched": scores.matched,
        "memorized": scores.memorized,
        "edit_distance": edit_distance(scores.continuation, suffixes),
        "bleu": bleu(scores.continuation, suffixes),
        "suffix_logprob": scores.suffix_logprob,
        "suffix_logprob_top40": scores.suffix_logprob_top40,
        "prefix_logprob": scores.prefix_logprob,
        "token_logprobs": scores.token_logprobs,
        "token_ranks": scores.token_ranks,
        "continuation": scores.continuation,
    }
    if run.protocol.prefix == 1:
        columns["prefix_logprob"] = pa.nulls(len(suffixes), pa.float32())
    store.write("models", run.model.id, {name: [value] for name, value in unit.model.items()})
    store.write("continuations", unit.units.names()[unit.number], columns, unit.facts)
    finish_run(store, unit.units)


def finish_run(store: TableStore, units: Units) -> bool:
    """Write the row of a run whose units are all there; whether the run is finished.

    Several processes may do so at once: each writes the same row, and the last of their units is seen by one at least.
    Processes that do the run on other devices, or in units of another size, have units of their own: the first row
    says whose count, and the others go, which would stand in the tables a second time.
    """
    run_id = units.run.run_id
    if not store.has("runs", run_id):
        if units.missing(store):
            return False
        row = _run_row(units, [store.facts("continuations", name) for name in units.names()])
        store.write("runs", run_id, {name: [value] for name, value in row.items()}, {"units": units.key})
    ours = store.facts("runs", run_id).get("units", units.key) == units.key
    for name in units.stale(store) if ours else units.names():
        store.file("continuations", name).unlink(missing_ok=True)
    return True


def _run_row(units: Units, facts: list[dict[str, Any]]) -> dict[str, Any]:
    run, protocol = units.run, units.run.protocol
    return {
        "run_id": run.run_id,
        "model_id": run.model.id,
        "prefix_length": protocol.prefix,
        "suffix_length": protocol.suffix,
        "decoding": protocol.decoding,
        "seed": protocol.seed,
        "top_k": protocol.top_k,
        "temperature": protocol.temperature,
        "control": protocol.control,
        "made_by": "memindex",
        "dtype": all_values(facts, "dtype"),
        "device": all_values(facts, "device"),
        "attention": all_values(facts, "attention"),
        "compiled": any(made["compiled"] for made in facts),
        "model_fingerprint": run.fingerprint,
        "batch_size": max(made["batch_size"] for made in facts),
        "sequences": units.rows,
        "retokenized": protocol.retokenized,
        "seconds": sum(made["seconds"] for made in facts),
        "versions": json.dumps(facts[-1]["versions"]),
        "created": datetime.now(UTC),
    }


def all_values(facts: list[dict[str, Any]], name: str) -> str:
    """The value of all units; every one of them where machines differed."""
    return ", ".join(sorted({made[name] for made in facts}))


def _model_row(loaded: LoadedModel, run: Run) -> dict[str, Any]:
    facts = dict(loaded.facts)
    if run.model.trained_tokens is not None:
        facts["trained_tokens"] = run.model.trained_tokens
    # Where the model lay on one machine means nothing on another.
    facts["source"] = run.model.source
    return facts
