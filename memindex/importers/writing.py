"""Writing an imported run: everything is read and checked first, then written unit by unit.

A unit's rows are a function of the files, so an import that was killed goes on at the first chunk whose continuations
are missing. A chunk's new sequences come first, their counts next, its continuations last; the run's row ends it all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import memindex
from memindex import _core
from memindex.importers.checking import (
    Protocol,
    Survey,
    check_model,
    check_numbers,
    check_texts,
    check_unchanged,
    read_all,
)
from memindex.importers.chunks import Chunk, Source
from memindex.importers.identity import Codes, base_of, check_name, codes_of, stored
from memindex.importers.locking import alone
from memindex.importers.lookups import nowhere, places
from memindex.importers.results import compared, from_score, token_lists
from memindex.index.index import Index
from memindex.models.membership import published_as
from memindex.progress import Progress
from memindex.ragged import from_arrow
from memindex.study.frequencies import count_sequences
from memindex.study.origins import remember_indexes
from memindex.tables.schema import CONTINUATIONS, MODELS, RUNS
from memindex.tables.store import TableStore


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
    check_texts(store, run_id, name, protocol)
    check_numbers(protocol)
    key = _key(source, name, protocol, index)
    with alone(store):
        return _import(store, source, name, run_id, key, protocol, index, progress)


def _import(
    store: TableStore,
    source: Source,
    name: str,
    run_id: str,
    key: str,
    protocol: Protocol,
    index: Index | None,
    progress: Progress | None,
) -> Report:
    if store.has("runs", run_id):
        check_unchanged(store, run_id, key)
        return Report(run_id, already=True)
    check_model(store, protocol)
    check_name(store, name)
    known = Codes() if source.of_study else stored(store, name)
    survey = read_all(source, name, known, index)
    remember_indexes(store, [index] if index else [])
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
    looked_up = index and index.manifest.contents()
    key = json.dumps([source.made_by, source.settings, name, vars(protocol), contents, looked_up], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:12]


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
    written = store.read_unit("sequences", unit, ["sequence_id", "prefix", "suffix"])
    columns = count_sequences(index, written)
    store.write("frequencies", unit, columns)
    report.looked_up += len(written)
    report.found += int((columns["sequence_count"] > 0).sum())


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
    if chunk.facts:
        domain, document = chunk.facts["domain"], chunk.facts["document"]
        found["domain"] = pc.coalesce(domain, found["domain"].cast(domain.type))
        # A place in the index is a shard, a document and an offset together.
        found["document"] = pc.coalesce(found["document"].cast(document.type), document)
    return {
        "sequence_id": base + chunk.rows,
        "sample": ["imported"] * rows,
        "bucket": pa.nulls(rows),
        "inclusion": pa.nulls(rows),
        "planted_text": pa.nulls(rows),
        **found,
        "prefix": token_lists(chunk.prefix, rows),
        "suffix": token_lists(chunk.suffix, rows),
    }


def _write_continuations(
    store: TableStore, unit: str, base: int, source: Source, chunk: Chunk, run_id: str, report: Report
) -> None:
    if store.has("continuations", unit):
        memorized = store.read_unit("continuations", unit, ["memorized"]).column(0)
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
    source = protocol.source or protocol.model_id
    row: dict[str, Any] = dict.fromkeys(column.name for column in MODELS.columns)
    row |= _published_facts(source, protocol.revision)
    row |= {"model_id": protocol.model_id, "source": source, "revision": protocol.revision}
    said = {name: getattr(protocol, name) for name in ("parameters", "non_embedding_parameters")}
    row |= {name: number for name, number in said.items() if number is not None}
    return {name: [value] for name, value in row.items()}


def _published_facts(source: str, revision: str | None) -> dict[str, Any]:
    """What the table of families knows of a model by its name on the hub."""
    member = published_as(source)
    if member is None:
        return {}
    checkpoint = member.checkpoint
    return member.origin(revision) | {
        "architecture": member.family.architecture,
        "parameters": checkpoint.parameters,
        "non_embedding_parameters": checkpoint.non_embedding,
        "layers": checkpoint.layers,
        "hidden_size": checkpoint.hidden,
        "heads": checkpoint.heads,
    }


def _run_row(source: Source, run_id: str, protocol: Protocol, survey: Survey, key: str) -> dict[str, list[Any]]:
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
