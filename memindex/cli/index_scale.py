"""Options of `memindex index build` and `add` that say how much of the machine, or which machines, a build takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memindex.errors import MemindexError

if TYPE_CHECKING:
    from memindex.index.estimating import Estimate

Command = TypeVar("Command", bound=Callable[..., Any])

#: Malformed documents that are told on the terminal.
MOST_LINES = 20


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number of bytes, as 8GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes of the text; fails with one line when it is no size."""
        if isinstance(value, int):
            return value
        from memindex.index.sharding import parse_size

        try:
            return parse_size(value)
        except MemindexError as error:
            self.fail(str(error), param, ctx)


SCALE = [
    click.option("--shards", type=int, help="Independent parts. [default: as few as can be sorted within --memory]"),
    click.option(
        "--memory",
        type=Size(),
        help="What all processes together may take, as 8GB. [default: four fifths of the machine's memory]",
    ),
    click.option("--workers", type=int, help="Processes at the same time. [default: one per processor]"),
    click.option(
        "--unit-size",
        "unit_bytes",
        type=Size(),
        default="64MiB",
        show_default=True,
        help="Corpus files that are tokenized as one unit of work. A killed build loses the unfinished units.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Who does the units: this machine, or the Ray cluster of RAY_ADDRESS.",
    ),
]


def scale_options(command: Command) -> Command:
    """Add the options; the command gets them under the names that `build_index` has for them."""
    for option in reversed(SCALE):
        command = option(command)
    return command


def note_malformed(heading: str, lines: Sequence[str]) -> None:
    """Tell the first of the malformed documents."""
    from memindex.cli.output import note

    note(heading)
    for line in lines[:MOST_LINES]:
        note(f"  {line}")


def print_estimate(estimate: Estimate, as_json: bool) -> None:
    """Say what a build would take."""
    from dataclasses import asdict

    from memindex.cli.output import note, print_json, print_table
    from memindex.index.estimating import lines_of

    if as_json:
        print_json(asdict(estimate))
    else:
        print_table(["estimated from samples", ""], list(lines_of(estimate)))
    if estimate.malformed:
        heading = f"{estimate.malformed:,} malformed documents, which stop a build without --skip-bad:"
        note_malformed(heading, estimate.malformed_first)
    for name in estimate.lacking_fields:
        note(f"--domain-sql names {name}, which none of the documents that were read has")
    if estimate.disk_bytes > estimate.free_bytes:
        note("the disk has too little room for this build")


def timing_option(command: Any) -> Any:
    """The option --timing of commands that build."""
    return click.option("--timing", is_flag=True, help="Print the seconds of each stage on stderr.")(command)


@contextmanager
def resumable(out: str) -> Iterator[None]:
    """Say, when a build is stopped, that its finished units are kept, if there are any."""
    try:
        yield
    except KeyboardInterrupt as error:
        from memindex.cli.stopping import keep
        from memindex.work.folders import finished_units, partial_of

        if any(finished_units(partial_of(Path(out).absolute()))):
            keep(error)
        raise
