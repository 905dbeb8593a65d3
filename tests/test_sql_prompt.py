"""The prompt of `memindex sql`, typed at as a user does."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from synthetic_study import MODELS, make_study

from memindex.cli import sql_prompt
from memindex.cli.sql_shell import Shell
from memindex.sql.connection import connect

CTRL_C, CTRL_D, UP, TAB, ENTER = "\x03", "\x04", "\x1b[A", "\t", "\r"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("prompt"), rows=60, models=MODELS[:1])


@pytest.fixture
def shell(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sql_prompt, "create_output", lambda **_: DummyOutput())
    con = connect(study)
    yield Shell(con, "json")
    con.close()


def type_in(shell: Shell, keys: str) -> None:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text(keys)
        sql_prompt.prompt(shell)


def answers(capfd: pytest.CaptureFixture[str]) -> tuple[list[dict[str, object]], str]:
    out, err = capfd.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_statements_end_with_a_semicolon_and_are_timed(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    type_in(
        shell, f"SELECT{ENTER}1 AS{ENTER}n;{ENTER}CREATE TEMP TABLE t AS SELECT 2 AS n;{ENTER}FROM t;{ENTER}{CTRL_D}"
    )
    rows, err = answers(capfd)
    assert rows == [{"n": 1}, {"n": 2}]
    assert len(re.findall(r"^1 row in \d+\.\d{3} s$", err, re.MULTILINE)) == 2
    assert len(re.findall(r"^done in \d+\.\d{3} s$", err, re.MULTILINE)) == 1


def test_an_error_and_ctrl_c_leave_the_prompt(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    type_in(shell, f"FROM modles;{ENTER}SELECT 'open{CTRL_C}.nope{ENTER}SELECT 5 AS n;{ENTER}.quit{ENTER}")
    rows, err = answers(capfd)
    assert rows == [{"n": 5}]
    assert "Did you mean models" in err
    assert "there is no command .nope" in err


def test_dot_commands_answer_in_the_mode_chosen(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [
        ".tables",
        ".schema models",
        ".queries",
        ".run domain_shares sample=heldout",
        ".mode csv",
        "SELECT 1 AS n;",
    ]
    type_in(shell, "".join(line + ENTER for line in lines) + CTRL_D)
    out, _ = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert rows[0] == {"table": "models", "one_row_is": "one model (a checkpoint) of the study"}
    assert {"column": "model_id", "type": "VARCHAR", "meaning": "name of the model, unique in the study"} in rows
    assert {"query", "question", "parameters"} in [set(row) for row in rows]
    assert any("share_sample" in row for row in rows)
    assert out.endswith("\nn\n1\n")


def test_history_outlives_the_prompt(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    type_in(shell, f"SELECT{ENTER}7 AS n;{ENTER}{CTRL_D}")
    type_in(shell, f"{UP}{UP}{ENTER}{CTRL_D}")
    assert answers(capfd)[0] == [{"n": 7}, {"n": 7}]
    assert sql_prompt.history_file().stat().st_mode & 0o077 == 0


def test_no_place_for_history_is_no_hindrance(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    type_in(shell, f"SELECT 7 AS n;{ENTER}SELECT 8 AS n;{ENTER}{CTRL_D}")
    assert answers(capfd)[0] == [{"n": 7}, {"n": 8}]


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, command: list[str], cwd: Path, state: Path) -> None:
        own, theirs = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(state)}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        # A session of its own, whose controlling terminal the pty becomes: Ctrl-C is a signal there.
        starter = "import fcntl, os, signal, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        starter += "signal.signal(signal.SIGINT, signal.SIG_DFL); "
        starter += "os.execv(sys.argv[1], sys.argv[1:])"
        self.process = subprocess.Popen([sys.executable, "-c", starter, *command], cwd=cwd, env=environment, **streams)
        os.close(theirs)
        self._own = own
        self.seen = self._left = ""

    def until(self, text: str, seconds: float = 30) -> None:
        """Read until `text` was printed since what was waited for last."""
        end = time.monotonic() + seconds
        read = self._left
        while text not in read:
            ready, _, _ = select.select([self._own], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not printed; this was: {read!r}"
            more = os.read(self._own, 65536).decode(errors="replace")
            read += more
            self.seen += more
        self._left = read.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


def test_a_terminal_gets_a_prompt_in_the_studys_folder(study: Path, tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-m", "memindex.cli", "sql"], cwd=study, state=tmp_path)
    try:
        terminal.until(sql_prompt.PROMPT.strip())
        terminal.type(f"SELECT model_id, chr(27) || 'c' AS odd FROM mode{TAB}")
        terminal.until("ls")  # a screen is told of what changes only
        terminal.type(f";{ENTER}")
        terminal.until("row in")
        assert "small" in terminal.seen
        assert "␛c" in terminal.seen
        terminal.type(f"SELECT sum(sqrt(a.range * b.range)) FROM range(9000000) a, range(9000000) b;{ENTER}")
        time.sleep(1)
        terminal.type(CTRL_C)
        terminal.until("stopped")
        terminal.until(sql_prompt.PROMPT.strip())
        terminal.type(f"SELECT 6 * 7 AS n;{ENTER}")
        terminal.until("42")
        terminal.until(sql_prompt.PROMPT.strip())
        terminal.type(CTRL_D)
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


def test_a_prompt_over_many_open_files_answers_too(study: Path, tmp_path: Path) -> None:
    """An index of many shards holds more files open than select() can name."""
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (3000, 3000)); "
    code += "kept = [os.dup(0) for _ in range(2000)]; from memindex.cli import main; main()"
    terminal = Terminal([sys.executable, "-c", code, "sql"], cwd=study, state=tmp_path)
    try:
        terminal.until(sql_prompt.PROMPT.strip())
        terminal.type(f"SELECT 41 + 1 AS answer;{ENTER}")
        terminal.until("row in")
        assert "42" in terminal.seen
        terminal.until(sql_prompt.PROMPT.strip())
        terminal.type(CTRL_D)
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()
