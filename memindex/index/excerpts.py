"""Documents around occurrences, as an Arrow table: tokens, text, where the match stands, and where they come from."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex import _core
from memindex.corpus.documents import large_binary
from memindex.errors import CorruptIndexError
from memindex.index.answers import Occurrences
from memindex.index.lookups import END, at_least_one

if TYPE_CHECKING:
    from memindex.index.index import Index

#: One row per occurrence.
SCHEMA = pa.schema(
    [
        pa.field("query", pa.int64(), nullable=False, metadata={"about": "number of the query in the batch"}),
        pa.field("shard", pa.int32(), nullable=False, metadata={"about": "shard of the document"}),
        pa.field("document", pa.int64(), nullable=False, metadata={"about": "number of the document in its shard"}),
        pa.field(
            "position", pa.int64(), nullable=False, metadata={"about": "token position of the match in the shard"}
        ),
        pa.field("match", pa.int64(), nullable=False, metadata={"about": "first token of the match in the document"}),
        pa.field("document_tokens", pa.int64(), nullable=False, metadata={"about": "tokens of the whole document"}),
        pa.field("start", pa.int64(), nullable=False, metadata={"about": "first token of the excerpt in the document"}),
        pa.field("tokens", pa.large_list(pa.uint32()), nullable=False, metadata={"about": "ids of the excerpt"}),
        pa.field("text", pa.large_string(), metadata={"about": "text of the excerpt; NULL without a tokenizer"}),
        pa.field("domain", pa.string(), metadata={"about": "domain of the document; NULL without a domain column"}),
        pa.field("path", pa.string(), metadata={"about": "source file"}),
        pa.field("line", pa.int64(), metadata={"about": "line or row in the source file, from 1"}),
        pa.field("metadata", pa.large_string(), metadata={"about": "the document's other fields, a JSON object"}),
    ]
)


def documents_around(
    index: Index, found: Occurrences, lengths: npt.NDArray[np.int64], max_tokens: int, text: bool
) -> pa.Table:
    """The documents of `found`; `lengths`: tokens of each query. See `Index.documents`."""
    # No document is longer than 2^40 tokens; positions plus anything longer could overflow.
    max_tokens = min(at_least_one("max_tokens", max_tokens), 1 << 40)
    tables = []
    for number in range(len(index.shards)):
        here = found.shard == number
        if here.any():
            part = Occurrences(*(column[here] for column in found))
            tables.append(_of_shard(index, number, part, lengths[part.query], max_tokens, text))
    if len(tables) < 2:
        return tables[0] if tables else SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    # Shards one after the other; queries in order, as they were asked.
    return table.take(pa.array(np.argsort(found.query[np.argsort(found.shard, kind="stable")], kind="stable")))


def _of_shard(
    index: Index, number: int, found: Occurrences, matched: npt.NDArray[np.int64], max_tokens: int, text: bool
) -> pa.Table:
    shard = index.shards[number]
    document, first, end = shard.locate(np.ascontiguousarray(found.position)).reshape(-1, 3).T
    # The match in the middle, unless the document ends before.
    start = np.maximum(first, found.position - np.maximum(max_tokens - matched, 0) // 2)
    start = np.maximum(first, np.minimum(start, end - max_tokens))
    stop = np.minimum(start + max_tokens, end)
    values, offsets = shard.tokens(np.ascontiguousarray(start), np.ascontiguousarray(stop))
    _check_tokens(index, number, values)
    lines, ends = shard.metadata(np.ascontiguousarray(document))
    paths, line, metadata = _sources(lines.tobytes(), ends)
    columns = {
        "query": found.query,
        "shard": found.shard,
        "document": document,
        "position": found.position,
        "match": found.position - first,
        "document_tokens": end - first,
        "start": start - first,
        "tokens": pa.LargeListArray.from_arrays(offsets, values),
        "text": _texts(index, values, offsets) if text else None,
        "domain": _domains(index, number, np.ascontiguousarray(found.rank)),
        "path": paths,
        "line": line,
        "metadata": metadata,
    }
    length = len(found.query)
    return pa.table(
        {name: pa.nulls(length, SCHEMA.field(name).type) if c is None else c for name, c in columns.items()},
        schema=SCHEMA,
    )


def _check_tokens(index: Index, number: int, values: npt.NDArray[np.uint32]) -> None:
    """Ids of documents are neither separators nor ids that the tokenizer does not give."""
    if not len(values):
        return
    largest, vocabulary = int(values.max()), index.manifest.vocabulary
    if largest == END:
        raise CorruptIndexError(f"{index.file(f'offset.{number}')}: a document holds the separator of another one")
    if vocabulary and largest >= vocabulary:
        raise CorruptIndexError(
            f"{index.file(f'tokenized.{number}')}: a document holds the id {largest}, "
            f"the tokenizer's ids are 0 to {vocabulary - 1}"
        )


def _texts(index: Index, values: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64]) -> list[str] | None:
    if not index.has_tokenizer:
        return None
    rows = np.split(values, offsets[1:-1])
    return index.tokenizer.decode_batch([row.tolist() for row in rows])


def _domains(index: Index, number: int, ranks: npt.NDArray[np.uint64]) -> pa.Array | None:
    names = index.domains
    if not names:
        return None
    codes = index.shards[number].domains_at(ranks)
    return pa.array(names, type=pa.string()).take(pa.array(codes))


def _sources(lines: bytes, ends: npt.NDArray[np.int64]) -> tuple[Any, Any, Any]:
    """Path, line and other fields of metadata lines: {"path", "linenum" (from 0), "metadata"}, or any other JSON."""
    if not lines:
        return None, None, None
    places = ends.tolist()
    block = b"\n".join([lines[start:end] for start, end in itertools.pairwise(places)])
    try:
        paths, _, _, metadata, numbers = _core.parse_metadata(block, "path")
    except CorruptIndexError:
        return _sources_one_by_one(lines, places)
    if len(numbers) != len(places) - 1:
        return _sources_one_by_one(lines, places)
    path = large_binary(*paths, pa.large_string())
    return (
        pc.if_else(pc.equal(path, ""), None, path).cast(pa.string()),
        pa.array(numbers, mask=numbers == 0),
        large_binary(*metadata, pa.large_string()),
    )


def _sources_one_by_one(lines: bytes, places: list[int]) -> tuple[list[str | None], list[int | None], list[str | None]]:
    """The same for lines of which not all are JSON objects as the core reads them."""
    paths: list[str | None] = []
    numbers: list[int | None] = []
    others: list[str | None] = []
    for start, end in itertools.pairwise(places):
        raw = lines[start:end].decode("utf-8", errors="replace")
        known, other = _parsed(raw)
        path, number = known.get("path"), known.get("linenum")
        paths.append(_whole(path) if isinstance(path, str) else None)
        is_line = isinstance(number, int) and not isinstance(number, bool) and abs(number) < 1 << 62
        numbers.append(number + 1 if is_line and number is not None else None)
        others.append(other)
    return paths, numbers, others


def _parsed(raw: str) -> tuple[dict[str, Any], str | None]:
    """The fields of a metadata line, and its other fields as JSON; no fields and the line where it is none."""
    try:
        parsed = json.loads(raw) if raw else {}
        if not isinstance(parsed, dict) or "metadata" not in parsed:
            return parsed if isinstance(parsed, dict) else {}, raw or None
        other = json.dumps(parsed["metadata"], ensure_ascii=False)
        # An escaped half of a surrogate pair stays escaped: UTF-8 has no bytes for it.
        return parsed, other if _whole(other) == other else json.dumps(parsed["metadata"])
    except (ValueError, RecursionError):
        return {}, raw


def _whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which no Arrow text may hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
