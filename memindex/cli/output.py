"""How commands print: tables on stdout and notes on stderr; rich is loaded when something is printed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memindex.sql.plain_values import json_number

if TYPE_CHECKING:
    from rich.console import Console

#: Control characters, which would rule the terminal they are printed on, as pictures; line feeds and tabs stay.
PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: 0x2421}
PICTURES |= dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD)

#: What would break a line, as it is written in Python.
LINE_BREAKS = str.maketrans(
    {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\x85": "\\x85", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def console(stderr: bool = False) -> Console:
    """A console that follows NO_COLOR, COLUMNS and the terminal's width; a pipe gets plain text of any width."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        # Folded lines would be of no use to the program that reads them.
        made = Console(stderr=stderr, highlight=False, width=1_000_000)
    return made


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None, stderr: bool = False
) -> None:
    """Print rows; numbers right-aligned, whole ones with thousands separators. A pipe gets columns without a box."""
    shown_on = console(stderr)
    if title:
        shown_on.print(title, style="bold")
    numeric = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    if not shown_on.is_terminal:
        # In a pipe a row is a line.
        cells = [[shown(value).translate(LINE_BREAKS) for value in row] for row in rows]
        _print_plain(shown_on, [printable(name) for name in columns], cells, numeric)
        return
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, is_numeric in zip(columns, numeric, strict=True):
        table.add_column(escape(printable(name)), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(shown(value)) for value in row))
    shown_on.print(table)


def _print_plain(on: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    """Aligned columns, two blanks between them; folded where COLUMNS says how wide lines may be."""
    from rich.cells import cell_len

    lines = [columns, *rows]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]
    if sum(widths) + 2 * len(widths) - 2 > on.width:
        _print_folded(on, columns, rows, numeric)
        return
    written = []
    for line in lines:
        filled = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        cells = [fill + cell if right else cell + fill for cell, fill, right in zip(line, filled, numeric, strict=True)]
        written.append("  ".join(cells).rstrip() + "\n")
    on.file.write("".join(written))


def _print_folded(on: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    with on.capture() as captured:
        on.print(table)
    on.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1]))


class Share(float):
    """A share that people read as per cent, with `decimals`; CSV and JSON have the number."""

    decimals = 1


class FineShare(Share):
    """A share with two decimals."""

    decimals = 2


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def shown(value: Any) -> str:
    """One value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Share):
        return f"{value:.{value.decimals}%}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))


def printable(text: str) -> str:
    """Text of a corpus, safe to print: no character in it does anything to a terminal but end a line."""
    return text.replace("\r\n", "\n").translate(PICTURES)


def one_line(text: str, most: int | None = None) -> str:
    """The same as one line, line ends as \\n; of more than `most` characters only the first and last ones."""
    if most is not None and len(text) > most:
        text = f"{text[: most // 2]} … {text[len(text) - most // 2 :]}"
    return printable(text.translate(LINE_BREAKS))


def print_json(answer: dict[str, Any]) -> None:
    """One object as one line; NaN and infinity as texts, as in `memindex sql --json`."""
    import click

    try:
        line = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    except ValueError:
        answer = _finite(answer)
        line = json.dumps(answer, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        # JSON can escape half a surrogate pair, and metadata of documents does; UTF-8 has no bytes for it.
        line = json.dumps(answer)
    click.echo(line)


def _finite(value: Any) -> Any:
    """The value with the texts "NaN", "Infinity" and "-Infinity" for what JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return json_number(value) if isinstance(value, float) else value


def note(text: str) -> None:
    """One line to stderr."""
    import click

    click.echo(text, err=True)
