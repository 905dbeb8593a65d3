"""Writing an imported run: everything is read and checked first, then written unit by unit.

A unit's rows are a function of the files, so an import that was killed goes on at the first chunk whose continuations
are missing. A chunk's new sequences come first, their counts next, its continuations last; the run's row ends it all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import memindex
from memindex import _core
from memindex.errors import MemindexError
from memindex.importers.chunks import Chunk, Source, is_unicode
from memindex.importers.identity import Codes, base_of, check_name, check_same, codes_of, stored
from memindex.importers.lookups import check_ids, counts, nowhere, places
from memindex.importers.results import compared, from_score, token_lists
from memindex.index.index import Index
from memindex.ragged import from_arrow
from memindex.tables.schema import CONTINUATIONS, MODELS, RUNS
from memindex.tables.store import TableStore

#: The largest id that a character can stand for in the edit distance; no vocabulary comes near it.
MOST_ID = 0x10FFFE

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Protocol:
    """What the files don't say about how the continuations came about."""

    model_id: str
    source: str | None = None
    revision: str | None = None
    decoding: str = "greedy"
    seed: int | None = None
    top_k: int | None = None
    temperature: float | None = None


@dataclass
class Report:
    """What an import did."""

    run_id: str
    rows: int = 0
    memorized: int = 0
    new_sequences: int = 0
    looked_up: int = 0
    found: int = 0
    already: bool = False


@dataclass
class _Survey:
    """What the first reading found: rows, and the lengths of prefix and suffix (None when they differ)."""

    rows: int = 0
    lengths: tuple[set[int], set[int]] = (set(), set())


def import_run(
    store: TableStore,
    source: Source,
    name: str,
    protocol: Protocol,
    *,
    index: Index | None = None,
    trial: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read one run into a study's tables, or go on where an import of it was killed.

    Args:
        store: The study's tables.
        source: The run, as its format describes it.
        name: Name of the sequences' source; the same name for every model that was scored on the same sequences.
        protocol: Model and decoding.
        index: Where sequences are looked up; None: not at all.
        trial: Tells several runs of the same model and name apart.
        progress: Called with (stage, rows done, rows in all).

    Raises:
        MemindexError: The files are not of the format, or contradict what the study holds. Nothing was written then.
    """
    run_id = " ".join(filter(None, (protocol.model_id, name, trial)))
    _check_texts(store, run_id, name, protocol)
    key = _key(source, name, protocol, index)
    if store.has("runs", run_id):
        _check_unchanged(store, run_id, key)
        return Report(run_id, already=True)
    _check_model(store, protocol)
    check_name(store, name)
    known = Codes() if source.of_study else stored(store, name)
    survey = _survey(source, name, known, index)
    report = Report(run_id)
    _remove_abandoned(store, run_id, key)
    for number, chunk in enumerate(source.chunks()):
        if not source.of_study:
            _write_sequences(store, f"import {name} {key} {number:06d}", name, chunk, known, index, report)
        _write_continuations(store, f"import {run_id} {key} {number:06d}", base_of(name), source, chunk, run_id, report)
        report.rows += len(chunk.rows)
        if progress is not None:
            progress(f"import {run_id}", report.rows, survey.rows)
    if not store.has("models", protocol.model_id):
        store.write("models", protocol.model_id, _model_row(protocol))
    store.write("runs", run_id, _run_row(source, run_id, protocol, survey, key))
    return report


def _key(source: Source, name: str, protocol: Protocol, index: Index | None) -> str:
    """Names an import by all that its units depend on."""
    contents = [_core.checksum(file) for file in source.files]
    looked_up = index and [facts.blake3 for facts in index.manifest.files.values()]
    key = json.dumps([source.made_by, source.settings, name, vars(protocol), contents, looked_up], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _check_unchanged(store: TableStore, run_id: str, key: str) -> None:
    row = pq.ParquetFile(store.file("runs", run_id)).read(columns=["versions"]).to_pylist()[0]
    if json.loads(row["versions"]).get("import") != key:
        raise MemindexError(
            f"the study has a run {run_id!r} already, from other files or settings: choose another --model-id or --name"
        )


def _check_texts(store: TableStore, run_id: str, name: str, protocol: Protocol) -> None:
    """Refuse names that can't name the files that are to come."""
    if not protocol.model_id or not name:
        raise MemindexError("--model-id and --name must not be empty")
    for text in filter(None, (run_id, name, protocol.source, protocol.revision)):
        if not is_unicode(text):
            raise MemindexError(f"{text!r} holds half of a surrogate pair, which is no text")
    for text in (run_id, name):
        store.file("continuations", f"import {text} {12 * '0'} {6 * '0'}")


def _check_model(store: TableStore, protocol: Protocol) -> None:
    if protocol.revision is None or not store.has("models", protocol.model_id):
        return
    row = pq.ParquetFile(store.file("models", protocol.model_id)).read(columns=["revision"]).to_pylist()[0]
    if row["revision"] != protocol.revision:
        raise MemindexError(
            f"the study has a model {protocol.model_id!r} of revision {row['revision']}: give "
            f"{protocol.revision} another --model-id"
        )


def _survey(source: Source, name: str, known: Codes, index: Index | None) -> _Survey:
    """Read everything once, so that bad input is refused before anything is written."""
    survey = _Survey(lengths=(set(), set()))
    run = Codes()
    for chunk in source.chunks():
        before = run.get(chunk.rows)
        run.put(chunk.rows, np.ones(len(chunk.rows), dtype=np.uint8))
        distinct, first = np.unique(chunk.rows, return_index=True)
        if before.any() or len(distinct) < len(chunk.rows):
            twice = chunk.rows[before > 0] if before.any() else np.delete(chunk.rows, first)
            raise MemindexError(f"{source.files[0]}: sequence {twice[0]} stands there twice")
        if not source.of_study:
            check_same(name, chunk.rows, known.get(chunk.rows), codes_of(chunk))
        for ids in (chunk.prefix, chunk.suffix, chunk.continuation):
            if ids is not None and len(ids.values) and (ids.values.min() < 0 or ids.values.max() > MOST_ID):
                wrong = ids.values.min() if ids.values.min() < 0 else ids.values.max()
                raise MemindexError(f"{source.files[0]}: token id {wrong} is none of any vocabulary")
        for ids, lengths, fixed in zip((chunk.prefix, chunk.suffix), survey.lengths, source.lengths, strict=True):
            lengths.update([] if fixed is None else [fixed])
            lengths.update([] if ids is None else np.unique(ids.lengths()).tolist())
        if index is not None and not source.of_study:
            check_ids(index, chunk.prefix)
            check_ids(index, chunk.suffix)
        survey.rows += len(chunk.rows)
    if not survey.rows:
        raise MemindexError(f"{source.files[0]}: holds no row")
    return survey


def _remove_abandoned(store: TableStore, run_id: str, key: str) -> None:
    """Continuations that an unfinished import of other files left under this run's name."""
    for unit in store.units("continuations"):
        start, _, rest = unit.rpartition(f"import {run_id} ")
        if not start and len(rest) == len(key) + 7 and not rest.startswith(f"{key} ") and unit.startswith("import "):
            store.file("continuations", unit).unlink()


def _write_sequences(
    store: TableStore, unit: str, name: str, chunk: Chunk, known: Codes, index: Index | None, report: Report
) -> None:
    """The chunk's sequences that the study lacks, and their counts; what an earlier attempt wrote is kept."""
    if not store.has("sequences", unit):
        fresh = _taken(chunk, np.flatnonzero(known.get(chunk.rows) == 0))
        if not len(fresh.rows):
            return
        store.write("sequences", unit, _sequence_columns(fresh, base_of(name), index))
        known.put(fresh.rows, codes_of(fresh))
        report.new_sequences += len(fresh.rows)
    if index is None or chunk.prefix is None or store.has("frequencies", unit):
        return
    written = pq.ParquetFile(store.file("sequences", unit)).read(columns=["sequence_id", "prefix", "suffix"])
    counted = counts(index, from_arrow(written.column("prefix")), from_arrow(written.column("suffix")))
    columns = {"sequence_id": written.column("sequence_id"), "index": [index.name] * len(written), **counted}
    store.write("frequencies", unit, columns)
    report.looked_up += len(written)
    report.found += int((counted["sequence_count"] > 0).sum())


def _taken(chunk: Chunk, rows: npt.NDArray[np.intp]) -> Chunk:
    """The rows asked for, without their results."""
    facts = {name: values.take(pa.array(rows)) for name, values in chunk.facts.items()}
    prefix, suffix = (
        None if ids is None else from_arrow(token_lists(ids, ids.rows).take(pa.array(rows)))
        for ids in (chunk.prefix, chunk.suffix)
    )
    return Chunk(chunk.rows[rows], prefix, suffix, facts=facts)


def _sequence_columns(chunk: Chunk, base: int, index: Index | None) -> dict[str, Any]:
    rows = len(chunk.rows)
    found = nowhere(rows) if index is None or chunk.prefix is None else places(index, chunk)
    for name, values in chunk.facts.items():
        found[name] = pc.coalesce(values, found[name].cast(values.type))
    return {
        "sequence_id": base + chunk.rows,
        "sample": ["imported"] * rows,
        "bucket": pa.nulls(rows),
        **found,
        "prefix": token_lists(chunk.prefix, rows),
        "suffix": token_lists(chunk.suffix, rows),
    }


def _write_continuations(
    store: TableStore, unit: str, base: int, source: Source, chunk: Chunk, run_id: str, report: Report
) -> None:
    if store.has("continuations", unit):
        memorized = pq.ParquetFile(store.file("continuations", unit)).read(columns=["memorized"]).column(0)
        report.memorized += pc.sum(memorized).as_py()
        return
    results = _results(chunk, source.lengths[1])
    columns = {
        "run_id": [run_id] * len(chunk.rows),
        "sequence_id": chunk.rows if source.of_study else base + chunk.rows,
        **{column.name: pa.nulls(len(chunk.rows), column.type) for column in CONTINUATIONS.columns[2:]},
        **results,
        **chunk.results,
    }
    store.write("continuations", unit, columns)
    report.memorized += int(results["memorized"].sum())


def _results(chunk: Chunk, length: int | None) -> dict[str, Any]:
    if chunk.continuation is not None:
        assert chunk.suffix is not None
        return compared(chunk.suffix, chunk.continuation)
    assert chunk.score is not None
    assert length is not None
    return from_score(chunk.score, length, chunk.suffix)


def _model_row(protocol: Protocol) -> dict[str, list[Any]]:
    row: dict[str, Any] = dict.fromkeys(column.name for column in MODELS.columns)
    row |= {
        "model_id": protocol.model_id,
        "source": protocol.source or protocol.model_id,
        "revision": protocol.revision,
    }
    return {name: [value] for name, value in row.items()}


def _run_row(source: Source, run_id: str, protocol: Protocol, survey: _Survey, key: str) -> dict[str, list[Any]]:
    prefix, suffix = (lengths.copy().pop() if len(lengths) == 1 else None for lengths in survey.lengths)
    row: dict[str, Any] = dict.fromkeys(column.name for column in RUNS.columns)
    row |= {
        "run_id": run_id,
        "model_id": protocol.model_id,
        "prefix_length": prefix,
        "suffix_length": suffix,
        "decoding": protocol.decoding,
        "seed": protocol.seed,
        "top_k": protocol.top_k,
        "temperature": protocol.temperature,
        "made_by": source.made_by,
        "sequences": survey.rows,
        "versions": json.dumps(
            {"memindex": memindex.__version__, "import": key, "files": [file.name for file in source.files]}
        ),
        "created": datetime.now(UTC).replace(tzinfo=None),
    }
    return {name: [value] for name, value in row.items()}
