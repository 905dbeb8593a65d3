"""Cases of progress: what is shown while a command works, and what Ctrl-C says."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from synthetic_corpus import memindex

from memindex.cli import progress_bars
from memindex.cli.progress_bars import amounts, duration, loading_torch, progress_bar, speed
from memindex.cli.stopping import message, resumable

RESUMES = "finished units are kept: run the same command again to resume"


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def in_terminal(*arguments, env=None):
    """What a command prints on a terminal, and its exit code."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **(env or {})}
    command = [sys.executable, "-m", "memindex.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        read = b""
        while True:
            try:
                chunk = os.read(master, 1 << 16)
            except OSError:
                break
            if not chunk:
                break
            read += chunk
        code = process.wait(60)
    os.close(master)
    return read.decode(), code


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "a.txt").write_text("to be or not to be " * 100)
    return tmp_path / "a.txt"


def test_e2_loading_is_reported_before_the_import(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with loading_torch():
        assert capsys.readouterr().err == "load torch\n"
    assert capsys.readouterr().err == ""


def test_e2_nothing_is_reported_of_a_module_that_is_there(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", sys)
    with loading_torch():
        pass
    assert capsys.readouterr().err == ""


def test_e2_a_pipe_gets_a_line_per_stage_and_more_at_intervals(monkeypatch, capfd):
    monkeypatch.setattr(progress_bars, "DELAY", 0.0)
    monkeypatch.setattr(progress_bars, "INTERVAL", 0.05)
    seen = ""

    def lines():
        nonlocal seen
        seen += capfd.readouterr().err
        return seen.splitlines()

    with progress_bar() as progress:
        progress("sort", 0, 2000)
        wait_for(lambda: "sort: 0 of 2,000 tokens" in lines())
        progress("sort", 1000, 2000, "loss 1.500")
        wait_for(lambda: any("1,000 of 2,000 tokens" in line and "loss 1.500" in line for line in lines()))
    assert not capfd.readouterr().out


def test_e2_a_stage_that_ends_at_once_gets_no_line(capsys):
    with progress_bar() as progress:
        progress("sort", 0, 5)
        progress("sort", 5, 5)
    assert capsys.readouterr().err == ""


def test_e2_amounts_and_rates_have_the_same_unit():
    assert amounts(1234, 5678, "sequences") == "1,234 of 5,678 sequences"
    assert speed(21.4, "sequences") == "21 sequences/s"
    assert amounts(1_500_000, 3_000_000_000, "bytes") == "1.5 of 3,000.0 MB"
    assert speed(2_500_000, "bytes") == "2.5 MB/s"
    assert amounts(0, 1, "") == speed(3.0, "") == ""
    assert [duration(5), duration(3723)] == ["0:05", "1:02:03"]


@pytest.mark.parametrize("no_color", [False, True])
def test_e2_a_terminal_shows_tokens_sorted(corpus, tmp_path, no_color):
    shown, code = in_terminal(
        "index",
        "build",
        corpus,
        "--tokenizer",
        "bytes",
        "-o",
        tmp_path / "out",
        env={"NO_COLOR": "1"} if no_color else None,
    )
    assert code == 0
    assert "1,901 of 1,901 tokens" in shown
    assert "-:--:--" not in shown
    assert ("\x1b[3" in shown) is not no_color


def test_e7_a_build_ends_in_what_to_type_next(corpus, tmp_path):
    done = memindex("index", "build", corpus, "--tokenizer", "bytes", "-o", tmp_path / "a b")
    assert done.stdout == f"{tmp_path / 'a b'}: 1,900 tokens in 1 documents\n"
    assert done.stderr.splitlines()[-1] == f"""Next: memindex count -i '{tmp_path / "a b"}' "some text\""""
    assert "suffix sorting" not in done.stderr


def test_e7_stages_are_shown_with_timing_and_in_json(corpus, tmp_path):
    done = memindex("index", "build", corpus, "--tokenizer", "bytes", "-o", tmp_path / "one", "--timing")
    assert "suffix sorting" in done.stderr
    done = memindex("index", "build", corpus, "--tokenizer", "bytes", "-o", tmp_path / "two", "--json")
    assert "suffix_sorting" in json.loads(done.stdout)["seconds"]
    assert "Next:" not in done.stderr


def test_e7_an_interrupt_says_how_to_resume():
    with pytest.raises(KeyboardInterrupt) as caught, resumable(), resumable("other things"):
        raise KeyboardInterrupt
    assert message(caught.value) == "memindex: stopped; other things are kept: run the same command again to resume"
    assert message(KeyboardInterrupt()) == "memindex: stopped"
    failed = ImportError("broken off")
    failed.__cause__ = caught.value
    assert message(failed) == message(caught.value)


@pytest.mark.parametrize("kept", [False, True])
def test_e7_ctrl_c_in_a_command_gives_one_line(kept):
    program = f"""
import sys, click
import memindex.cli as cli
from memindex.cli.stopping import resumable
from contextlib import nullcontext
@cli.cli.command("wait")
def wait():
    with resumable() if {kept} else nullcontext():
        raise KeyboardInterrupt
cli.LazyGroup.get_command = lambda self, ctx, name: wait
sys.argv = ["memindex", "wait"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    line = f"memindex: stopped; {RESUMES}" if kept else "memindex: stopped"
    assert (done.returncode, done.stderr.strip(), done.stdout) == (130, line, "")


def test_e7_ctrl_c_while_importing_gives_one_line(tmp_path):
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(20)\n"
    )
    program = (
        f"import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.path.insert(0, {str(tmp_path)!r}); import memindex.cli"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "memindex: stopped\n")


def test_e7_a_ctrl_c_that_an_import_swallows_stops_the_command_all_the_same() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def swallow() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    try:
        with pytest.raises(KeyboardInterrupt), progress_bar():
            swallow()
        after = []
        with pytest.raises(KeyboardInterrupt), progress_bar() as progress:
            swallow()
            progress("work", 0, 2)
            after.append("went on")
        assert not after
        # Where it was not swallowed it comes once, and the next command is not stopped.
        with pytest.raises(KeyboardInterrupt), progress_bar():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        with progress_bar() as progress:
            progress("work", 2, 2)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
