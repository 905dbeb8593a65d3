"""Progress on stderr: bars on a terminal; in a pipe or a log a line per stage, and another every 15 seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from memindex.cli.output import console, note, printable
from memindex.cli.stopping import swallowed_again
from memindex.progress import LOAD_TORCH, unit_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

#: Seconds between two lines of a stage in a log.
INTERVAL = 15.0

#: Seconds that a stage takes before it gets a line in a log: errors that are found at once stay alone.
DELAY = 0.9

#: Columns of a terminal from which on there is room for a bar.
WIDE = 100


class Update(Protocol):
    """Reports a stage; `detail` is shown after the amounts, e.g. a loss."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report what is done of a stage."""


@contextmanager
def progress_bar(unit: str = "") -> Iterator[Update]:
    """A callback (stage, done, total) that shows progress on stderr.

    Args:
        unit: What stages without a unit of their own count; "" for nothing: these only show how long they take.
    """
    shown_on = console(stderr=True)
    with swallowed_again() as check, _bars(shown_on, unit) if shown_on.is_terminal else _lines(unit) as update:

        def checked(stage: str, done: int, total: int, detail: str = "") -> None:
            check()
            update(stage, done, total, detail)

        yield checked


@contextmanager
def loading_torch() -> Iterator[None]:
    """Say that torch is being imported, unless it is there."""
    if "torch" in sys.modules:
        yield
        return
    with progress_bar() as progress:
        progress(LOAD_TORCH, 0, 1)
        yield


def _unit(stage: str, other: str) -> str:
    unit = unit_of(stage)
    is_waiting = stage.startswith(("load ", "sample ", "write ", "train tokenizer", "n-grams"))
    return unit if unit or is_waiting else other


def amounts(done: int, total: int, unit: str) -> str:
    """What is done of how much, e.g. "1,000 of 2,000 tokens"; "" where nothing is counted."""
    if not unit:
        return ""
    if unit == "bytes":
        return f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
    return f"{done:,} of {total:,} {unit}"


def speed(per_second: float | None, unit: str) -> str:
    """A rate of the same unit, e.g. "500 tokens/s"; "" where it is not known."""
    if not per_second or not unit:
        return ""
    if unit == "bytes":
        return f"{per_second / 1e6:,.1f} MB/s"
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:,.1f} {unit}/s"


def duration(seconds: float) -> str:
    """Seconds as 0:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _bars(shown_on: Console, unit: str) -> Iterator[Update]:
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Amounts(ProgressColumn):
        def render(self, task: Task) -> Text:
            counted = task.fields["unit"]
            rate = speed(task.finished_speed or task.speed, counted)
            parts = [amounts(int(task.completed), int(task.total or 0), counted), task.fields["detail"], rate]
            parts.append(duration(task.elapsed or 0))
            left = task.time_remaining
            if counted and left and not task.finished:
                parts.append(f"{duration(left)} left")
            return Text("  ".join(filter(None, parts)), no_wrap=True)

    # On a narrow terminal the numbers are worth more than the bar.
    drawn = [BarColumn(bar_width=20)] if shown_on.width >= WIDE else []
    columns = [SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), *drawn, Amounts()]
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=shown_on, transient=True) as bar:

        def update(stage: str, done: int, total: int, detail: str = "") -> None:
            if stage not in tasks:
                _end_loading(bar, tasks)
                # What was done before says nothing about the speed.
                title, counted = escape(printable(stage)), _unit(stage, unit)
                start = done if counted else None
                tasks[stage] = bar.add_task(
                    title, total=total if counted else None, completed=start or 0, unit=counted, detail=detail
                )
                bar.refresh()
            counted = bar.tasks[bar.task_ids.index(tasks[stage])].fields["unit"]
            if counted:
                bar.update(tasks[stage], completed=done, total=total, detail=detail)
            elif done >= total:
                bar.update(tasks[stage], completed=1, total=1)

        yield update


def _end_loading(bar: Bars, tasks: dict[str, TaskID]) -> None:
    """Remove the line of what was loaded once the work starts."""
    if (loading := tasks.pop(LOAD_TORCH, None)) is not None:
        bar.remove_task(loading)


class _Line:
    """One stage in a log."""

    def __init__(self, stage: str, unit: str, done: int) -> None:
        self.stage, self.unit, self.first = stage, unit, done
        self.start = time.monotonic()
        self.next = self.start + DELAY
        self.done = self.total = 0
        self.detail = ""

    def show(self) -> None:
        """Print it, and again after INTERVAL."""
        self.next = time.monotonic() + INTERVAL
        note(self.text())

    def text(self) -> str:
        seconds = time.monotonic() - self.start
        rate = speed((self.done - self.first) / seconds if seconds > 1 else None, self.unit)
        shown = [amounts(self.done, self.total, self.unit), rate, self.detail]
        shown += [duration(seconds)] if seconds >= 1 else []
        return ": ".join(filter(None, [printable(self.stage), ", ".join(filter(None, shown))]))


@contextmanager
def _lines(unit: str) -> Iterator[Update]:
    lines: dict[str, _Line] = {}
    ended, lock = threading.Event(), threading.Lock()

    def update(stage: str, done: int, total: int, detail: str = "") -> None:
        with lock:
            line = lines.get(stage)
            if line is None:
                line = lines[stage] = _Line(stage, _unit(stage, unit), done)
                if stage == LOAD_TORCH:
                    # The import may keep other threads from running.
                    line.show()
                elif (loading := lines.get(LOAD_TORCH)) is not None:
                    loading.done = loading.total
            line.done, line.total, line.detail = done, total, detail

    def repeat() -> None:
        # A stage may work for minutes between two reports.
        while not ended.wait(min(0.25, INTERVAL)):
            with lock:
                for line in lines.values():
                    if line.done < line.total and time.monotonic() >= line.next:
                        line.show()

    thread = threading.Thread(target=repeat, name="progress lines", daemon=True)
    thread.start()
    try:
        yield update
    finally:
        ended.set()
        thread.join()
