"""When in training each model saw the study's sequences: the tables exposures and planted_exposures.

Known of models that `memindex train` made of the study's index: their records say which windows they read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.index.index import Index
from memindex.index.manifest import index_checksum
from memindex.models.sources import read_record
from memindex.progress import Progress
from memindex.ragged import Ragged, concatenated, from_arrow
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.origins import open_index
from memindex.study.planning import source_of
from memindex.study.sequences import sample_name
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.exposures import Exposures, Reads, Training

#: Sequences that occur more often are left out: they were seen all the time.
MOST_OCCURRENCES = 4096

#: Occurrences of one batch, about; some 100 bytes each.
_OCCURRENCES = 1 << 20

#: Samples whose sequences stand in the index that models are trained on.
_SAMPLES = ("uniform", "bucket", "domain", "planted")

Integers = npt.NDArray[np.int64]
Columns = dict[str, Any]


def known_trainings(config: StudyConfig, models: Sequence[ModelConfig]) -> dict[str, Training]:
    """Models whose folder says how they were trained on the study's index, by id.

    Raises:
        MemindexError: A training.json that is something else, or an index that is not there.
    """
    from memindex.models.exposures import training_of

    found, checksum = {}, ""
    for model in models:
        folder = Path(source_of(config, model))
        record = read_record(folder) if folder.is_dir() else None
        training = training_of(record)
        if record is None or training is None or not record.get("corpus_checksum"):
            continue
        checksum = checksum or index_checksum(open_index(config, config.index).manifest)
        if record["corpus_checksum"] == checksum:
            found[model.id] = training
    return found


def missing_exposures(config: StudyConfig, models: Sequence[ModelConfig]) -> dict[str, Training]:
    """Those of the known trainings whose rows are not in the tables, or are of another training or sample."""
    store, known = TableStore(config.tables), known_trainings(config, models)
    facts = _facts(config, known)
    there = {name for name in known if store.has("exposures", name) and store.facts("exposures", name) == facts[name]}
    return {name: training for name, training in known.items() if name not in there}


def _facts(config: StudyConfig, trainings: Mapping[str, Training]) -> dict[str, dict[str, Any]]:
    """What the models' files say of how they were made."""
    sample = sample_name(config) if trainings else ""
    return {name: {"sample": sample, "training": training._asdict()} for name, training in trainings.items()}


def ensure_exposures(
    config: StudyConfig, models: Sequence[ModelConfig], sequences: pa.Table, progress: Progress
) -> None:
    """Fill the tables exposures and planted_exposures with what they lack of the models: a file of each for each one.

    Models of one training share the work; of two checkpoints of one training each has its own.

    Args:
        config: The study.
        models: Its models; those whose training is not known are left out.
        sequences: The study's own sequences, a table of the schema `sequences`.
        progress: Called with (stage, done, total).

    Raises:
        MemindexError: As `known_trainings`, or a file can't be written.
    """
    missing = missing_exposures(config, models)
    if not missing:
        return
    store, index, facts = TableStore(config.tables), open_index(config, config.index), _facts(config, missing)
    sequences = sequences.filter(pc.is_in(sequences["sample"], value_set=pa.array(_SAMPLES))).combine_chunks()
    for number, training in enumerate(dict.fromkeys(missing.values())):
        progress("find windows", number, len(missing))
        of_sequences, of_copies = _tables(index, sequences, training)
        for name in (name for name, other in missing.items() if other == training):
            # A model's file in exposures says that both are there.
            for table, columns in (("planted_exposures", of_copies), ("exposures", of_sequences)):
                column = pa.repeat(pa.scalar(name, pa.string()), len(columns["sequence_id"]))
                store.write(table, name, {"model_id": column, **columns}, facts[name])
    progress("find windows", len(missing), len(missing))


def _tables(index: Index, sequences: pa.Table, training: Training) -> tuple[Columns, Columns]:
    """Columns of both tables, but for the model."""
    tokens = concatenated(from_arrow(sequences["prefix"]), from_arrow(sequences["suffix"]))
    ids, planted = sequences["sequence_id"].to_numpy(), pc.equal(sequences["sample"], "planted").to_numpy(False)
    # What is empty has columns too.
    rows, copies = [_sequence_columns(training, ids[:0], None)], [_copy_columns(training, [])]
    for part in _batches(index.count(tokens).astype(np.int64)):
        more, of_copies = _batch(index, tokens.take(part), ids[part], planted[part], training)
        rows.append(more)
        copies.append(of_copies)
    return _joined(rows), _joined(copies)


def _joined(parts: list[Columns]) -> Columns:
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _batches(counts: Integers) -> Iterator[npt.NDArray[np.intp]]:
    """Numbers of the sequences that are rare enough, in batches of about as many occurrences."""
    rare = np.flatnonzero(counts <= MOST_OCCURRENCES)
    batch = np.cumsum(counts[rare] + 1) // _OCCURRENCES
    yield from np.split(rare, np.flatnonzero(np.diff(batch)) + 1) if len(rare) else ()


def _batch(
    index: Index, tokens: Ragged, ids: Integers, planted: npt.NDArray[np.bool_], training: Training
) -> tuple[Columns, Columns]:
    from memindex.models.exposures import exposures, reads

    # The stream is the shards, one after the other.
    ends = np.cumsum([len(shard) for shard in index.shards])
    found = index.positions(tokens, limit=None)
    place = found.position + np.append(0, ends)[found.shard]
    order = np.lexsort((place, found.query))
    row, place = found.query[order].astype(np.int64), place[order]
    length = int(tokens.lengths()[0])
    of_copies: list[Columns] = []
    mine = np.flatnonzero(planted[row])
    copy = np.arange(len(row)) - np.searchsorted(row, row)

    def kept() -> Iterator[Reads]:
        for number, read in enumerate(reads(training, int(ends[-1]), place, length)):
            here = mine[read.first[mine] >= 0]
            of_copies.append(
                {
                    "row": row[here],
                    "sequence_id": ids[row[here]],
                    "copy": copy[here],
                    "pass": np.full(len(here), number),
                    "window": read.first[here],
                    "window_offset": read.offset[here],
                    "whole": read.whole[here] == read.first[here],
                }
            )
            yield read

    rows = _sequence_columns(training, ids, exposures(kept(), row, len(ids)))
    return rows, _copy_columns(training, of_copies)


def _sequence_columns(training: Training, ids: Integers, found: Exposures | None) -> Columns:
    """Columns of the table exposures."""
    none = np.empty(0, dtype=np.int64)
    first, last = (none, none) if found is None else (found.first, found.last)
    unseen = first < 0
    return {
        "sequence_id": pa.array(ids),
        "exposures": pa.array(none if found is None else found.exposures),
        "cut": pa.array(none if found is None else found.cut),
        "first_step": pa.array(first // training.batch_size, mask=unseen),
        "last_step": pa.array(last // training.batch_size, mask=unseen),
        "first_tokens": pa.array(training.tokens_after(first), mask=unseen),
        "last_tokens": pa.array(training.tokens_after(last), mask=unseen),
    }


def _copy_columns(training: Training, parts: list[Columns]) -> Columns:
    """Columns of the table planted_exposures, by sequence, copy and pass."""
    names = ("row", "sequence_id", "copy", "pass", "window", "window_offset", "whole")
    empty = {name: np.empty(0, dtype=bool if name == "whole" else np.int64) for name in names}
    found = {name: np.concatenate([part[name] for part in (empty, *parts)]) for name in names}
    order = np.lexsort((found["pass"], found["copy"], found["row"]))
    found = {name: values[order] for name, values in found.items()}
    step, row = np.divmod(found["window"], training.batch_size)
    columns = {name: found[name] for name in ("sequence_id", "copy", "pass")} | {"step": step, "step_row": row}
    columns |= {name: found[name] for name in ("window_offset", "whole")}
    return {name: pa.array(values) for name, values in columns.items()}
