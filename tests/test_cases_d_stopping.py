"""Cases of servers that are stopped, of logs that take nothing, and of requests that offer another protocol."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import pytest

pytest.importorskip("uvicorn", reason="the server is an extra")

from infini_gram_folder import write_folder
from served_app import running
from served_study import make_served

from memindex.index import Index
from memindex.server import answering, log
from memindex.server.app import make_app
from memindex.server.config import Limits, ServerConfig
from memindex.server.connections import http_server

#: Seconds after which a test takes a server for hanging.
HANG = 30

SLOW = "SELECT count(*) FROM range(1000000000000000)"
NEXT, COUNT = "/v1/indexes/served/next", "/v1/indexes/served/count"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("world") / "served", [[[1, 2, 3], [4, 1, 2]]], 2)


def post(port: int, path: str, body: object) -> tuple[int, str, dict]:
    """Status, media type and JSON of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], json.loads(answer.read())


def in_thread(ask: Callable[[], object]) -> tuple[threading.Thread, list]:
    """A thread that asks, and the list that gets what it is answered, or what went wrong."""
    answers: list = []

    def note() -> None:
        try:
            answers.append(ask())
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    return thread, answers


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + HANG
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# D4


@contextmanager
def stoppable(folder: Path, grace: float) -> Iterator[tuple]:
    """A server in a thread, as signals see it, and its port."""
    config = ServerConfig((folder,), limits=Limits(max_stop_seconds=grace))
    app = make_app(config)
    listening = socket.create_server(("127.0.0.1", 0))
    server = http_server(app, config.limits, log_level="error")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield server, listening.getsockname()[1], app.state.service, thread
    finally:
        server.handle_exit(signal.SIGTERM, None)
        server.handle_exit(signal.SIGTERM, None)
        thread.join(HANG)
        listening.close()
        assert not thread.is_alive()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lookups of next tokens wait for it."""
    end, real = threading.Event(), answering.next_tokens

    def slow(served, asked):
        assert end.wait(HANG)
        return real(served, asked)

    monkeypatch.setattr(answering, "next_tokens", slow)
    yield end
    end.set()


def test_d4_a_lookup_that_ends_in_time_is_answered(folder, held):
    with stoppable(folder, grace=HANG) as (server, port, service, thread):
        asking, answers = in_thread(lambda: post(port, NEXT, {"query": [1]}))
        until(lambda: service.workers.inside)
        server.handle_exit(signal.SIGTERM, None)
        with pytest.raises(OSError):
            while True:
                post(port, COUNT, {"queries": [[1]]})
        held.set()
        asking.join(HANG)
        thread.join(HANG)
        assert answers[0][0] == 200


@pytest.mark.parametrize("path", [NEXT, "/"])
def test_d4_a_lookup_that_takes_longer_is_answered_503(folder, held, path, monkeypatch, capsys):
    from memindex.server import infini_gram_answers

    monkeypatch.setitem(infini_gram_answers.ANSWERS, "ntd", lambda *given: answering.next_tokens(*given[:2]))
    body = {"query": [1]} if path == NEXT else {"index": "served", "query_type": "ntd", "query_ids": [1]}
    with stoppable(folder, grace=0.1) as (server, port, service, thread):
        asking, answers = in_thread(lambda: post(port, path, body))
        until(lambda: service.workers.inside)
        server.handle_exit(signal.SIGINT, None)
        asking.join(HANG)
        thread.join(HANG)
    status, kind, told = answers[0]
    assert (status, kind) == (503, "application/problem+json" if path == NEXT else "application/json")
    assert "max_stop_seconds" in told["detail" if path == NEXT else "error"]
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "stopped before 1 request was answered" in err


@pytest.mark.parametrize("signals", [[signal.SIGTERM] * 2, [signal.SIGINT] * 2, [signal.SIGTERM, signal.SIGINT]])
def test_d4_a_second_signal_stops_at_once(folder, held, signals):
    with stoppable(folder, grace=10 * HANG) as (server, port, service, thread):
        asking, answers = in_thread(lambda: post(port, NEXT, {"query": [1]}))
        until(lambda: service.workers.inside)
        for number in signals:
            server.handle_exit(number, None)
        asking.join(HANG)
        thread.join(HANG)
        assert not thread.is_alive()
        assert answers[0][0] == 503
        assert service.workers.closing


def test_d4_bodies_and_answers_on_their_way_do_not_keep_a_server(folder, capsys):
    with stoppable(folder, grace=0.1) as (server, port, _, thread):
        body = b'{"queries": [' + b",".join([b"[1]"] * 400_000) + b"]}"
        head = message(body=body)[: -len(body)]
        with (
            socket.create_connection(("127.0.0.1", port), timeout=HANG) as unread,
            socket.create_connection(("127.0.0.1", port), timeout=HANG) as unsent,
            socket.create_connection(("127.0.0.1", port), timeout=HANG) as idle,
        ):
            unread.sendall(head + body)
            assert unread.recv(16).startswith(b"HTTP/1.1 200")
            unsent.sendall(head + body[:10])
            idle.sendall(b"GET / HT")
            time.sleep(0.1)
            server.handle_exit(signal.SIGTERM, None)
            thread.join(HANG)
            assert not thread.is_alive()
            got = b""
            while part := unsent.recv(65536):
                got += part
            assert b" 503 " in got
    assert "Traceback" not in capsys.readouterr().err


def children(pid: int) -> set[int]:
    """Processes below one."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in table.splitlines() if int(line.split()[1]) == pid}


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("study"))[1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_d4_a_slow_query_leaves_no_process(study, number):
    command = [sys.executable, "-m", "memindex.cli", "serve", "-s", str(study), "--port", "0"]
    command += ["--max-stop-seconds", "0.2", "--max-sql-threads", "1", "--max-sql-seconds", "60"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        port = int(process.stderr.readline().rpartition(":")[2])
        asking, answers = in_thread(lambda: post(port, "/v1/studies/reading/sql", {"sql": SLOW}))
        until(lambda: children(process.pid))
        time.sleep(1)  # the query itself begins
        workers = children(process.pid)
        process.send_signal(number)
        if number == signal.SIGTERM:
            asking.join(HANG)
            assert answers[0][:2] == (503, "application/problem+json")
        _, err = process.communicate(timeout=HANG)
        until(lambda: not any(map(is_running, workers)))
        assert "Traceback" not in err
    finally:
        process.kill()


def test_d4_a_process_ends_with_its_pipe(study):
    from memindex.server.pipes import receive, send
    from memindex.server.study_limits import StudyLimits
    from memindex.server.study_processes import Process

    worker = Process(study, StudyLimits(seconds=60, threads=1))._process
    send(worker.stdin, {"task": "sql", "arguments": {"text": SLOW, "values": {}, "form": "json", "rows": None}})
    worker.stdin.close()
    assert worker.wait(HANG) == 0
    assert receive(worker.stdout) is None
    worker.stdout.close()


# D5


BODY = b'{"queries": [[1, 2]]}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
CHUNKED = b"4\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:4], len(BODY) - 4, BODY[4:])


def message(more: bytes = b"", body: bytes = BODY) -> bytes:
    length = b"Content-Length: %d" % len(body) if body is not CHUNKED else b"Transfer-Encoding: chunked"
    start = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % COUNT.encode()
    return b"%b%b\r\n%b\r\n%b" % (start, length, more, body)


LAST = message(b"Connection: close\r\n")


@pytest.fixture(scope="module", params=["httptools", "h11"])
def port(request: pytest.FixtureRequest, folder: Path) -> Iterator[int]:
    if request.param == "httptools":
        pytest.importorskip("httptools")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "h11":
            patch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
        with running(ServerConfig((folder,), limits=Limits(max_head_seconds=5))) as url:
            yield int(url.rpartition(":")[2])


def exchange(port: int, *parts: bytes) -> bytes:
    """All that a server says to what is sent, until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.003)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET, H2C.replace(b"h2c", b"TLS/1.2, IRC/6.9"), H2C.lower()])
def test_d5_an_offer_is_ignored(port, offer):
    got = exchange(port, message(offer) + LAST)
    assert got.count(b"HTTP/1.1 200 ") == got.count(b'"count":2') == 2
    assert b" 101 " not in got


def test_d5_however_it_arrives(port):
    sent = message(H2C)
    cut = [sent[at : at + 40] for at in range(0, len(sent), 40)]
    for parts in (cut, [sent[: -len(BODY)], BODY], [sent[:-1], sent[-1:]]):
        assert exchange(port, *parts, LAST).count(b'"count":2') == 2


@pytest.mark.parametrize(
    "sent",
    [
        message(H2C, CHUNKED) + LAST,
        message(H2C.replace(b"Upgrade, ", b"close, Upgrade, ")),
        message(H2C + b"Expect: 100-continue\r\n") + LAST,
        b"GET /v1/indexes HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n" + LAST,
        message(b"Upgrade: h2c\r\n") + LAST,
    ],
)
def test_d5_neighbours_of_an_offer(port, sent):
    got = exchange(port, sent)
    assert got.count(b"HTTP/1.1 200 ") == sent.count(b"Host: ")
    assert got.count(b"100 Continue") <= sent.count(b"Expect: ")


def test_d5_many_requests_with_offers_at_once(port):
    got = exchange(port, message(H2C) * 300 + LAST)
    assert got.count(b'"count":2') == 301


def test_d5_a_continuation_is_sent_before_the_body(port):
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        connection.sendall(message(H2C + b"Expect: 100-continue\r\n")[: -len(BODY)])
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert b'"count":2' in connection.recv(65536)


@pytest.mark.parametrize(
    "sent",
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", message(H2C, b"{") + LAST],
)
def test_d5_what_can_not_be_answered_is_refused(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        connection.sendall(sent)
        assert connection.recv(65536).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 422 "))


# D7


@contextmanager
def full_pipe() -> Iterator[IO[str]]:
    """A pipe that nobody reads from, and that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream
    os.close(reading)


@contextmanager
def broken_pipe() -> Iterator[IO[str]]:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream


@contextmanager
def full_disk() -> Iterator[IO[str]]:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        yield stream


@contextmanager
def closed_file() -> Iterator[IO[str]]:
    file = io.StringIO()
    file.close()
    yield file


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's pipes")
@pytest.mark.parametrize("opened", [full_pipe, broken_pipe, full_disk, closed_file, nullcontext])
def test_d7_a_line_that_can_not_be_written_is_dropped(monkeypatch, opened):
    with opened() as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        for _ in range(3):
            log.log("x" * 20_000)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's pipes")
def test_d7_lines_are_whole_and_single(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        log.log("a\nb\u2028c")
        log.log("é" * 9000)
        log.log("\ud800")
    with os.fdopen(reading, encoding="utf-8") as stream:
        first, second, third = stream.read().splitlines()
    assert first == "memindex: a b c"
    assert second == f"memindex: {'é' * 8000}… (9,000 characters)"
    assert third == "memindex: \\ud800"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-"])
def test_d7_a_server_starts_and_serves(folder, tmp_path, streams):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = write_folder(tmp_path / "served", [[[1, 2, 3], [4, 1, 2]]], 2)
    Index.open(served)
    command = f'exec "$0" -m memindex.cli serve -i "$1" --port {port} {streams}'
    process = subprocess.Popen(["sh", "-c", command, sys.executable, str(served)])
    try:
        until(lambda: process.poll() is None and _is_listening(port))
        assert post(port, COUNT, {"queries": [[1, 2]]})[2]["counts"][0]["count"] == 2
        with (served / "table.0").open("r+b") as file:
            file.truncate(1)
        for _ in range(2):
            status, kind, _ = post(port, "/v1/indexes/served/documents", {"query": [1]})
            assert (status, kind) == (500, "application/problem+json")
        assert exchange(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        process.terminate()
        assert process.wait(HANG) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
