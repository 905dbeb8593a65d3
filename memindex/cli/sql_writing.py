"""How answers of `memindex sql` are written: a table for people, CSV, JSON lines, Parquet."""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from memindex.cli.forms import SEPARATORS, field, write_text
from memindex.errors import MemindexError
from memindex.sql.plain_values import encode, rows, values

#: A terminal shows no more rows, and no more characters of a text: thousands would only scroll away.
MOST_ROWS = 200
MOST_CHARACTERS = 400

_BATCH = 10_000


def write(answer: pa.Table, form: str) -> None:
    """Print an answer to stdout in one of `FORMS`."""
    if form in SEPARATORS:
        _write_lines(answer, SEPARATORS[form])
    elif form == "json":
        _one_name_each(answer.column_names, "JSON")
        for batch in answer.to_batches(_BATCH):
            objects = (dict(zip(answer.column_names, row, strict=True)) for row in rows(batch))
            click.echo(_harmless("\n".join(map(encode, objects))))
    else:
        _write_table(answer)


def write_parquet(answer: pa.Table, file: Path) -> None:
    """Write an answer as a Parquet file, which is there whole or not at all."""
    import pyarrow.parquet as pq

    from memindex.index.manifest import writing_atomically

    _one_name_each(answer.column_names, "Parquet")
    try:
        with writing_atomically(file) as stream:
            pq.write_table(answer, stream, compression="zstd")
    except pa.ArrowException as error:
        raise MemindexError(f"{file}: {error}; cast the column with ::VARCHAR") from None


def _write_table(answer: pa.Table) -> None:
    from memindex.cli.output import note, one_line, print_table, printable

    if answer.column_names == ["explain_key", "explain_value"]:
        # A drawing of several lines.
        click.echo(printable("\n".join(answer["explain_value"].to_pylist())))
        return
    terminal = sys.stdout.isatty()
    most = MOST_CHARACTERS if terminal else None

    def cell(value: Any) -> Any:
        if isinstance(value, list | dict):
            value = _json(value)
        return one_line(value, most) if isinstance(value, str) else value

    part = answer.slice(0, MOST_ROWS) if terminal else answer
    shown = [[cell(value) for value in row] for batch in part.to_batches(_BATCH) for row in rows(batch)]
    print_table([one_line(name) for name in answer.column_names], shown)
    if part.num_rows < answer.num_rows:
        note(
            f"The first {part.num_rows:,} of {answer.num_rows:,} rows; all of them: LIMIT and OFFSET, --csv, --json or "
            "--parquet FILE"
        )


def _write_lines(answer: pa.Table, separator: str) -> None:
    """CSV or TSV, as `memindex.cli.forms` writes it, whole columns at a time."""
    from memindex.cli.output import printable

    safe = printable if sys.stdout.isatty() else str
    write_text(safe(separator.join(field(name, separator) for name in answer.column_names)) + "\n")
    for batch in answer.to_batches(_BATCH):
        columns = [_flat(column).combine_chunks() for column in pa.Table.from_batches([batch]).columns]
        write_text(safe(_lines(columns, separator)))


def _lines(columns: list[pa.Array], separator: str) -> str:
    """The lines of some rows; Arrow writes those of which no text needs quotes."""
    import pyarrow.csv

    needed = [_needs_quotes(column, separator) for column in columns]
    if not any(where is not None for where in needed):
        options = pyarrow.csv.WriteOptions(include_header=False, delimiter=separator, quoting_style="none")
        written = io.BytesIO()
        pyarrow.csv.write_csv(pa.table(columns, names=list(map(str, range(len(columns))))), written, options)
        return written.getvalue().decode("utf-8")
    quote, between, end, nothing = (pa.scalar(part, pa.large_string()) for part in ('"', separator, "\n", ""))
    texts = []
    for column, where in zip(columns, needed, strict=True):
        text = column.cast(pa.large_string())
        if where is not None:
            doubled = pc.replace_substring(text, '"', '""')
            text = pc.if_else(where, pc.binary_join_element_wise(quote, doubled, quote, nothing), text)
        texts.append(text)
    rows = pc.binary_join_element_wise(*texts, between, null_handling="replace", null_replacement="")
    whole = pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
    return f"{pc.binary_join(whole, end)[0].as_py()}\n"


def _needs_quotes(column: pa.Array, separator: str) -> pa.Array | None:
    """Which values of a column of text need quotes; None when none does."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    special = pc.match_substring_regex(column, f'^$|[{separator}"\r\n]')
    return pc.fill_null(special, False) if pc.any(special).as_py() else None


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """CSV has no lists: they become JSON."""
    if not pa.types.is_nested(column.type):
        return column
    chunks = [[None if value is None else _json(value) for value in values(chunk)] for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.string())


def _json(value: Any) -> str:
    return _harmless(encode(value))


def _harmless(text: str) -> str:
    """A terminal obeys these characters, and JSON leaves them as they are."""
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _one_name_each(names: list[str], form: str) -> None:
    """An object has each name once."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise MemindexError(f"several columns are called {', '.join(twice)}: name them apart with AS for {form}")
