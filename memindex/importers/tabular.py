"""Rows of an evaluation, one per training sequence: number, score, tokens; from CSV, Parquet or Arrow files.

The forms that occur: Parquet with `index`, `tokens` (all rows memorized); Parquet with `Index`, `Tokens` and a score
per model (`70M`, `160M`, …); CSV of number and score without a header, with one (`index,accuracy`, `idx,score`), or
with pandas' unnamed row numbers before them; and CSV whose first row became the header when pandas read it without
knowing that there was none (`,0,0.0`): that row is put back.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from memindex.errors import MemindexError

NUMBERS = ("index", "idx")
SCORES = ("accuracy", "score", "memorization_score")
TOKENS = "tokens"

#: A column of scores that is called after a model's size.
SIZE = re.compile(r"\d+(\.\d+)?[mb]", re.IGNORECASE)

#: Rows that Parquet is read by; row groups may be larger.
_BATCH = 1 << 16

_CSV_BLOCK = 4 << 20


@dataclass(frozen=True)
class Layout:
    """Which columns of a file are read: their names there, and whether the header of a CSV file is a row."""

    number: str
    score: str | None
    tokens: str | None
    names: tuple[str, ...]
    header_rows: int = 1
    lost_row: tuple[int, float] | None = None


def layout_of(file: Path, column: str | None) -> Layout:
    """Find the columns of a file; `column` names that of the score where there are several.

    Raises:
        MemindexError: They are not those of an evaluation.
    """
    if file.suffix in (".parquet", ".arrow"):
        return _by_name(file, _open(file)[0].names, column)
    return _of_csv(file, column)


def _of_csv(file: Path, column: str | None) -> Layout:
    cells = _first_cells(file)
    numeric = [_is_number(cell) for cell in cells]
    if len(cells) == 2 and all(numeric):
        return Layout("index", "score", None, ("index", "score"), header_rows=0)
    if len(cells) == 3 and not cells[0] and all(numeric[1:]):
        return Layout("index", "score", None, ("", "index", "score"), 1, (int(cells[1]), float(cells[2])))
    return _by_name(file, cells, column)


def _first_cells(file: Path) -> list[str]:
    try:
        with pa.input_stream(str(file)) as stream:
            head = stream.read(1 << 16)
        line = head.decode("utf-8-sig").splitlines()[0]
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise MemindexError(f"{file}: not a CSV file: {error}") from None
    except IndexError:
        raise MemindexError(f"{file}: the file is empty") from None
    return [cell.strip() for cell in next(csv.reader([line]), [])]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", cell) is not None


def _by_name(file: Path, names: list[str], column: str | None) -> Layout:
    lower = {name.lower(): name for name in names}
    number = next((lower[name] for name in NUMBERS if name in lower), None)
    tokens = lower.get(TOKENS)
    scores = [name for name in names if name.lower() in SCORES or SIZE.fullmatch(name)]
    if column is not None:
        if column not in names:
            raise MemindexError(f"{file} has no column {column!r}: it has {', '.join(names)}")
        if column.lower() in (*NUMBERS, TOKENS):
            raise MemindexError(f"--column {column}: that column holds no scores")
        scores = [column]
    if number is None or not (scores or tokens):
        raise MemindexError(
            f"{file} has the columns {', '.join(filter(None, names))}: wanted are index (or idx), and "
            "accuracy (or score) or tokens"
        )
    if len(set(scores)) > 1:
        raise MemindexError(f"{file} has scores of several models: choose one of {', '.join(scores)} with --column")
    layout = Layout(number, scores[0] if scores else None, tokens, tuple(names))
    for name in filter(None, (layout.number, layout.score, layout.tokens)):
        if names.count(name) > 1:
            raise MemindexError(f"{file} has the column {name} twice")
    return layout


def tables_of(file: Path, layout: Layout) -> Iterator[pa.Table]:
    """The rows of a file in tables of `index` (int64), `score` (float64), `tokens` (list of int64), if it has them.

    Raises:
        MemindexError: A value that is none, or a file that ends in the middle.
    """
    wanted = {"index": layout.number, "score": layout.score, "tokens": layout.tokens}
    present = {name: column for name, column in wanted.items() if column is not None}
    try:
        if layout.lost_row is not None:
            yield _typed(file, pa.table({"index": [layout.lost_row[0]], "score": [layout.lost_row[1]]}))
        for batch in _batches(file, layout, list(present.values())):
            columns = {name: batch.column(column) for name, column in present.items()}
            yield _typed(file, pa.table(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MemindexError(f"{file}: {str(error).splitlines()[0]}") from None


def _batches(file: Path, layout: Layout, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if file.suffix in (".parquet", ".arrow"):
        yield from _open(file, columns)[1]
        return
    types = {layout.number: pa.int64(), layout.score: pa.float64(), layout.tokens: pa.string()}
    names = [name or "row" for name in layout.names]
    with pa.csv.open_csv(
        file,
        pa.csv.ReadOptions(column_names=names, skip_rows=layout.header_rows, block_size=_CSV_BLOCK),
        pa.csv.ParseOptions(newlines_in_values=layout.tokens is not None),
        pa.csv.ConvertOptions(include_columns=columns, column_types={k: v for k, v in types.items() if k is not None}),
    ) as reader:
        yield from reader


def _open(file: Path, columns: list[str] | None = None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    try:
        if file.suffix == ".parquet":
            parquet = pq.ParquetFile(file)
            return parquet.schema_arrow, parquet.iter_batches(_BATCH, columns=columns)
        source = pa.memory_map(str(file))
        # The datasets library writes streams, other tools write files.
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            stored = pa.ipc.open_file(source)
            return stored.schema, (stored.get_batch(i) for i in range(stored.num_record_batches))
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    except (pa.ArrowException, OSError) as error:
        raise MemindexError(f"{file}: not a readable {file.suffix[1:]} file: {str(error).splitlines()[0]}") from None


def _typed(file: Path, table: pa.Table) -> pa.Table:
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    for name, values in columns.items():
        if values.null_count:
            raise MemindexError(f"{file}: {values.null_count} rows have no {name}")
    columns["index"] = columns["index"].cast(pa.int64())
    if "score" in columns:
        columns["score"] = columns["score"].cast(pa.float64())
        if np.isnan(columns["score"].to_numpy()).any():
            raise MemindexError(f"{file}: a score is NaN")
    if "tokens" in columns:
        tokens = columns["tokens"]
        parsed = parsed_lists(tokens, str(file)) if pa.types.is_string(tokens.type) else tokens
        columns["tokens"] = parsed.cast(pa.list_(pa.int64()))
        if columns["tokens"].flatten().null_count:
            raise MemindexError(f"{file}: a list of tokens has a NULL inside")
    return pa.table(columns)


def parsed_lists(texts: pa.Array, where: str) -> pa.Array:
    """Lists of ids that were written as text, as list<int64>: `[1, 2]`, `[1 2]`, `[np.int64(1), np.int64(2)]`."""
    plain = pc.replace_substring_regex(texts, r"np\.u?int\d+\((\d+)\)", r"\1")
    bare = pc.utf8_trim(plain, "[] \n\r\t")
    parts = pc.split_pattern_regex(bare, r"\s*,\s*|\s+")
    try:
        values = parts.flatten().cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise MemindexError(f"{where}: a list of tokens is not one: {str(error).splitlines()[0]}") from None
    return pa.ListArray.from_arrays(parts.offsets.cast(pa.int32()), values)
