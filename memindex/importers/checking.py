"""What is checked before an import writes anything: names, models, and every row of the files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from memindex.errors import MemindexError
from memindex.importers.chunks import Chunk, Source, is_unicode
from memindex.importers.identity import Codes, check_same, codes_of
from memindex.importers.lookups import check_ids
from memindex.index.index import Index
from memindex.tables.store import TableStore

#: The largest id that a character can stand for in the edit distance; no vocabulary comes near it.
MOST_ID = 0x10FFFE


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
    parameters: int | None = None
    non_embedding_parameters: int | None = None


@dataclass
class Survey:
    """What the first reading found: rows, and every length of a prefix and of a suffix."""

    rows: int = 0
    lengths: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))


def check_texts(store: TableStore, run_id: str, name: str, protocol: Protocol) -> None:
    """Refuse names that can't name the files that are to come."""
    if not protocol.model_id or not name:
        raise MemindexError("--model-id and --name must not be empty")
    for text in filter(None, (run_id, name, protocol.source, protocol.revision)):
        if not is_unicode(text):
            raise MemindexError(f"{text!r} holds half of a surrogate pair, which is no text")
    for text in (run_id, name):
        store.file("continuations", f"import {text} {12 * '0'} {6 * '0'}")


def check_numbers(protocol: Protocol) -> None:
    """Refuse numbers that the tables can't hold, or that no sampling has."""
    most = {"seed": 63, "top_k": 31, "parameters": 63, "non_embedding_parameters": 63}
    for name, bits in most.items():
        number = getattr(protocol, name)
        if number is not None and not 0 <= number < 1 << bits:
            raise MemindexError(f"--{name.replace('_', '-')} must be between 0 and 2^{bits} - 1, it is {number}")
    if protocol.temperature is not None and not 0 < protocol.temperature < math.inf:
        raise MemindexError(f"--temperature must be above 0 and finite, it is {protocol.temperature}")


def check_unchanged(store: TableStore, run_id: str, key: str) -> None:
    """Refuse a run that the study has from other files or settings."""
    row = store.read_unit("runs", run_id, ["versions"]).to_pylist()[0]
    if json.loads(row["versions"]).get("import") != key:
        raise MemindexError(
            f"the study has a run {run_id!r} already, from other files or settings: choose another --model-id or --name"
        )


def check_model(store: TableStore, protocol: Protocol) -> None:
    """Refuse a model that the study has in another revision."""
    if protocol.revision is None or not store.has("models", protocol.model_id):
        return
    row = store.read_unit("models", protocol.model_id, ["revision"]).to_pylist()[0]
    if row["revision"] != protocol.revision:
        raise MemindexError(
            f"the study has a model {protocol.model_id!r} of revision {row['revision']}: give "
            f"{protocol.revision} another --model-id"
        )


def read_all(source: Source, name: str, known: Codes, index: Index | None) -> Survey:
    """Read everything once, so that bad input is refused before anything is written."""
    survey = Survey()
    run = Codes()
    for chunk in source.chunks():
        _check_once(chunk, run, source)
        _check_vocabulary(chunk, source)
        if not source.of_study:
            check_same(name, chunk.rows, known.get(chunk.rows), codes_of(chunk))
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


def _check_once(chunk: Chunk, run: Codes, source: Source) -> None:
    """Refuse a sequence that is in the files twice; `run` holds those that were met before."""
    before = run.get(chunk.rows)
    run.put(chunk.rows, np.ones(len(chunk.rows), dtype=np.uint8))
    distinct, first = np.unique(chunk.rows, return_index=True)
    if before.any() or len(distinct) < len(chunk.rows):
        twice = chunk.rows[before > 0] if before.any() else np.delete(chunk.rows, first)
        find = getattr(source, "lines_of", None)
        where = [str(source.files[0])] if find is None else find(int(twice[0]))
        first_place = f", first in {where[0]}" if len(where) > 1 else ""
        raise MemindexError(f"{where[min(1, len(where) - 1)]}: sequence {twice[0]} is there twice{first_place}")


def _check_vocabulary(chunk: Chunk, source: Source) -> None:
    for ids in (chunk.prefix, chunk.suffix, chunk.continuation):
        if ids is not None and len(ids.values) and (ids.values.min() < 0 or ids.values.max() > MOST_ID):
            wrong = ids.values.min() if ids.values.min() < 0 else ids.values.max()
            raise MemindexError(f"{source.files[0]}: token id {wrong} is none of any vocabulary")
