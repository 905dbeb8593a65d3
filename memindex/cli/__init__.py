"""The command line: thin click commands over the library. Data goes to stdout, everything else to stderr.

Every command lives in a module of its own that is imported when it is called: `memindex count` must not pay for what
`memindex train` needs.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import sys
import warnings
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import memindex.cli.interrupt_hook  # noqa: F401 (before all that takes time to import)

import click

from memindex import __version__
from memindex.cli.output import printable
from memindex.cli.stopping import EXIT_CODE, interrupt_behind, message
from memindex.errors import MemindexError
from memindex.memory import address_space_limit, memory_problem, refuse_imports_without_room

#: command: (module in memindex.cli, attribute, one line for the list of commands)
COMMANDS = {
    "demo": ("demo", "demo", "Run the whole main job on text found on this machine, offline, in minutes."),
    "index": ("index", "index", "Build, list, describe and verify indexes."),
    "count": ("count", "count", "Count n-grams in a corpus, in all and by domain."),
    "documents": ("documents", "documents", "Show the documents around occurrences of a text."),
    "trace": ("trace", "trace", "Find the spans of a text that stand in a corpus word for word."),
    "next": ("next_tokens", "next_tokens", "Tell which tokens follow a text, and how often."),
    "study": ("study", "study", "Sample sequences and score models on them, into tables."),
    "run": ("run", "run", "Score a model on a study's sequences, into its tables."),
    "probe": ("probe", "probe", "Measure inside the models: compression, noise, layers."),
    "import": ("importing", "import_", "Read results of other runners into a study's tables."),
    "export": ("exporting", "export", "Write a study's sequences for another runner."),
    "models": ("models", "models", "List the families of published models and their checkpoints."),
    "plant": ("plant", "plant", "Write copies of texts for a corpus, as often as is asked."),
    "train": ("train", "train", "Train a small model on an index's own tokens."),
    "sql": ("sql", "sql", "Ask a study's memorization tables in SQL."),
    "report": ("report", "report", "Write a study's figures and numbers as one HTML page."),
    "serve": ("serve", "serve", "Serve indexes and studies over HTTP."),
}


class NamingGroup(click.Group):
    """A group that names the commands like one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, as click finds it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0].startswith("-") or self.get_command(ctx, args[0]) is not None:
                raise
            from memindex.near_names import either, near_names

            names = self.list_commands(ctx)
            near = near_names(args[0], names)
            what = f"Did you mean {either(near)}?" if near else f"The commands: {', '.join(names)}"
            raise click.UsageError(f"No such command {args[0]!r}. {what}", ctx) from None


class LazyGroup(NamingGroup):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"memindex.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="memindex")
def cli() -> None:
    """What did a language model memorize, how often did that stand in the training data, in which domains?

    \b
    Examples:
      memindex demo
      memindex index build corpus/ --out pile --tokenizer tokenizer.json --domain-field meta.pile_set_name
      memindex count -i pile "Permission is hereby granted" --by-domain
      memindex sql -s demo/study rate_by_frequency

    Shell completion: eval "$(_MEMINDEX_COMPLETE=bash_source memindex)"
    """


def main() -> None:
    """Run the command line; exit 2 with one clear line on bad input."""
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        # Files and pipes get UTF-8 in every locale: JSON is defined so, and texts hold any character.
        sys.stdout.reconfigure(encoding="utf-8")
    refuse_imports_without_room()
    try:
        cli.main(standalone_mode=False, prog_name="memindex")
    except click.UsageError as error:
        _fail_usage(error)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        _stop(error)
    except MemindexError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        _abandon_stdout()
        sys.exit(1)
    except BaseException as error:
        if not isinstance(error, SystemExit) and interrupt_behind(error) is not None:
            _stop(error)
        # A panic of the core is not an Exception.
        message = _environment_problem(error)
        if message is None:
            raise
        fail(message)


def _stop(error: BaseException) -> NoReturn:
    click.echo(message(error), err=True)
    connection = sys.modules.get("memindex.sql.connection")
    if connection is not None and connection.is_one_left_open():
        # At exit Python would wait for it.
        sys.stdout.flush()
        os._exit(EXIT_CODE)
    sys.exit(EXIT_CODE)


def _environment_problem(error: BaseException) -> str | None:
    """What is wrong with the machine or the installation; None where the error is another one."""
    from memindex.extras import missing_extra_of

    if isinstance(error, ImportError) and (extra := missing_extra_of(error)) is not None:
        return str(extra)
    problem = memory_problem(error)
    if problem is None:
        return _file_problem(error) if isinstance(error, OSError) else None
    limit = address_space_limit()
    limited = [] if limit is None else [f"the limit of this process is {limit >> 20:,} MB (ulimit -v)"]
    return "; ".join([problem, *limited, *getattr(error, "__notes__", ())])


def _file_problem(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        _abandon_stdout()
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def _fail_usage(error: click.UsageError) -> None:
    if error.ctx is None or isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        sys.exit(error.exit_code)
    fail(f"{error.format_message()}{_near_choice(error)} (see {error.ctx.command_path} --help)", error.exit_code)


def _near_choice(error: click.UsageError) -> str:
    """The choice that a wrong value of an option was probably meant to be."""
    choice = getattr(getattr(error, "param", None), "type", None)
    found = re.match(r"'([^']*)' is not one of", error.message)
    if not found or not isinstance(choice, click.Choice):
        return ""
    from memindex.near_names import near_names

    near = near_names(found[1], map(str, choice.choices), 1)
    return f" Did you mean {near[0]}?" if near else ""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line; where in our code a warning was raised says nothing to a user."""
    with suppress(OSError):  # a full or closed stderr is no reason to fail
        click.echo(f"memindex: {' '.join(str(message).splitlines())}", err=True)


def _abandon_stdout() -> None:
    """Python flushes stdout once more at exit, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, code: int = 2) -> Any:
    """Print one line to stderr and exit."""
    # A message may quote text of a corpus, which must not rule the terminal.
    with suppress(OSError):  # the exit code still says it
        click.echo(f"memindex: {printable(' '.join(message.splitlines()))}", err=True)
    sys.exit(code)
