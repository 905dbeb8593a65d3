"""How commands print: tables on stdout, progress on stderr, both with rich; loaded when something is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


def console(stderr: bool = False) -> Console:
    """A console that follows NO_COLOR and the terminal's width; a pipe gets plain text of any width."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        # Folded lines would be of no use to the program that reads them.
        made = Console(stderr=stderr, highlight=False, width=1_000_000)
    return made


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None, stderr: bool = False
) -> None:
    """Print rows; numbers right-aligned, with thousands separators for whole ones."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        numeric = all(_is_number(row[number]) for row in rows)
        table.add_column(name, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(shown(value)) for value in row))
    shown_on = console(stderr)
    if title:
        shown_on.print(title, style="bold")
    shown_on.print(table)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and value.endswith("%"))


def shown(value: Any) -> str:
    """One value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) that draws one bar per stage on stderr; nothing when stderr is no terminal."""
    shown_on = console(stderr=True)
    if not shown_on.is_terminal:
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=shown_on, transient=True) as bar:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield update


def note(text: str) -> None:
    """One line to stderr."""
    import click

    click.echo(text, err=True)
