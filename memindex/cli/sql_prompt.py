"""The prompt of `memindex sql`: history, completion, statements over several lines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import completion_is_selected, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from memindex.cli.output import note
from memindex.cli.sql_completion import Words, is_whole
from memindex.cli.sql_shell import Shell

PROMPT = "memindex> "
CONTINUED = "     ...> "


def prompt(shell: Shell) -> None:
    """Ask for input and answer it until .quit or Ctrl-D."""
    session: PromptSession[str] = PromptSession(
        PROMPT,
        history=_history(),
        completer=_Completer(shell),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: "" if wrapped else CONTINUED,
        key_bindings=_keys(),
        # Answers may go into a file or a pipe; the prompt stays on the terminal.
        output=create_output(always_prefer_tty=True),
    )
    note("SQL ends with a semicolon; .help lists the other commands, Ctrl-D leaves.")
    while True:
        try:
            text = session.prompt().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text and not shell.handle(text):
            return


def history_file() -> Path:
    """Where the prompt keeps what was typed: the user's state directory (XDG; LOCALAPPDATA on Windows)."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "memindex" / "sql_history"


class _Kept(FileHistory):
    """What was typed is no reason to stop when it can't be kept: a full disk, a home that is read-only."""

    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):
            super().store_string(string)


def _history() -> History:
    file = history_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.read_bytes()
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return _Kept(str(file))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected & ~is_searching)
    def run_or_go_on(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=completion_is_selected)
    def take(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    return keys


class _Completer(Completer):
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        # Read anew each time: tables may have been made since, and it takes milliseconds.
        length, words = Words.of(self._shell.con).after(document.text_before_cursor)
        for word in words:
            yield Completion(word, start_position=-length)
