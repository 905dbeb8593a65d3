"""The forms that commands print rows in: a table for people, CSV, TSV, or JSON; the options that choose one.

CSV and TSV have a header, one line per row, and the keys of --json as columns. Text is quoted where it holds the
separator, a quote or a line end, and where it is empty, for NULL is written as nothing. Lists and objects stand in them
as JSON.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FORMS = ("table", "csv", "tsv", "json")

SEPARATORS = {"csv": ",", "tsv": "\t"}

#: Lines that are written at once.
_LINES = 1000


def form_options(json_help: str, table_help: str = "one line per row") -> Callable[[Command], Command]:
    """Add --csv, --tsv and --json to a command, which gets the one chosen as `form`, one of `FORMS`."""
    added = [
        click.option("--csv", "as_csv", is_flag=True, help=f"Print CSV: {table_help}; lists are JSON."),
        click.option("--tsv", "as_tsv", is_flag=True, help="The same with tabs."),
        click.option("--json", "as_json", is_flag=True, help=json_help),
    ]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def formed(*args: Any, as_csv: bool, as_tsv: bool, as_json: bool, **given: Any) -> Any:
            chosen = [form for form, wanted in zip(FORMS[1:], (as_csv, as_tsv, as_json), strict=True) if wanted]
            if len(chosen) > 1:
                raise click.UsageError(f"choose one of --{' and --'.join(chosen)}", click.get_current_context())
            return command(*args, form=chosen[0] if chosen else FORMS[0], **given)

        for option in reversed(added):
            option(formed)
        return formed  # type: ignore[return-value]

    return decorate


def print_rows(form: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV or TSV."""
    separator = SEPARATORS[form]
    _echo(iter([separator.join(field(name, separator) for name in columns)]))
    _echo(separator.join(field(value, separator) for value in row) for row in rows)


def print_objects(form: str, objects: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Print objects as CSV, TSV, or JSON, one per line; `columns` are the keys to print, by default all there are."""
    if form == "json":
        from memindex.cli.output import print_json

        for one in objects:
            print_json(one)
        return
    if columns is None:
        objects = list(objects)
        columns = list(dict.fromkeys(key for one in objects for key in one))
    print_rows(form, columns, ([one.get(key) for key in columns] for one in objects))


def field(value: Any, separator: str) -> str:
    """One value as CSV or TSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text and not any(character in text for character in (separator, '"', "\n", "\r")):
        return text
    return '"' + text.replace('"', '""') + '"'


def _echo(lines: Iterator[str]) -> None:
    # A terminal obeys control characters, which a corpus may hold; a file gets them as they are.
    safe: Callable[[str], str] = str
    if sys.stdout.isatty():
        from memindex.cli.output import printable as safe
    while part := list(islice(lines, _LINES)):
        write_text(safe("\n".join(part)) + "\n")


def write_text(text: str) -> None:
    """Write text to stdout as it is: click would take control sequences out, and UTF-8 has no half surrogate pairs."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        sys.stdout.write(text.encode("utf-8", "replace").decode("utf-8"))
