"""Clients that send or read too slowly lose their connection; others don't, however long their answer takes."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn", reason="the server is an extra")

from infini_gram_folder import write_folder
from served_app import running

from memindex.server import answering, connections
from memindex.server.config import Limits, ServerConfig

#: Seconds that a client has here, and after which a test takes a server for hanging.
SHORT, HANG = 0.4, 30

GET = b"GET /v1/indexes HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = (
    b"POST /v1/indexes/served/count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("world") / "served", [[[1, 2, 3], [4, 1, 2]]], 2)


@pytest.fixture(scope="module", params=["httptools", "h11"])
def address(request, folder):
    """Of a server with little patience."""
    if request.param == "httptools":
        pytest.importorskip("httptools")
    limits = Limits(max_head_seconds=SHORT, max_seconds=SHORT)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "h11":
            patch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
        with running(ServerConfig((folder,), limits=limits)) as url:
            yield port_of(url)


@pytest.fixture(scope="module")
def patient(folder):
    """The address of a server that takes its time for answers."""
    with running(ServerConfig((folder,), limits=Limits(max_head_seconds=SHORT))) as url:
        yield port_of(url)


def port_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@contextmanager
def connected(address):
    with socket.create_connection(address, timeout=HANG) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up; socket.timeout if it does not."""
    got = b""
    try:
        while part := connection.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


def answer(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(65536)
        assert part
        got += part
    return got


@pytest.mark.parametrize("sent", [b"", b"GE", GET[:30], GET[:-2]])
def test_a_head_that_does_not_come_ends_the_connection(address, sent):
    with connected(address) as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


@pytest.mark.parametrize("before", [b"", GET])
def test_a_head_that_comes_byte_by_byte_ends_the_connection(address, before):
    with connected(address) as connection:
        connection.sendall(before)
        if before:
            assert b" 200 " in answer(connection)
        with pytest.raises(OSError):
            # Each byte comes in time for a server that starts to wait anew.
            for _ in range(int(HANG / SHORT * 5)):
                connection.sendall(b"x")
                time.sleep(SHORT / 5)


def test_an_answer_is_sent_in_one_piece(address):
    with connected(address) as connection:
        connection.sendall(GET)
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        assert len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


def test_an_idle_connection_is_closed(address):
    with connected(address) as connection:
        connection.sendall(GET)
        assert rest(connection).count(b" 200 ") == 1


@pytest.mark.parametrize("body", [b"", b"{"])
def test_a_body_that_does_not_come_is_answered_and_ends_the_connection(address, body):
    with connected(address) as connection:
        connection.sendall(POST + body)
        told = rest(connection).lower()
        assert b" 408 " in told
        assert b"connection: close" in told
        assert b"max_seconds" in told


def test_a_body_that_nobody_reads_is_not_waited_for(address):
    with connected(address) as connection:
        connection.sendall(POST.replace(b"/v1/indexes/served", b"/nothing"))
        assert b" 404 " in rest(connection)


def test_an_answer_may_take_longer_than_a_head(patient, monkeypatch):
    end, real = threading.Event(), answering.next_tokens

    def slow(served, asked):
        assert end.wait(HANG)
        return real(served, asked)

    monkeypatch.setattr(answering, "next_tokens", slow)
    body = b'{"query": [1]}'
    head = POST.replace(b"/count", b"/next").replace(b"99", str(len(body)).encode())
    with connected(patient) as connection:
        connection.sendall(head + body)
        time.sleep(4 * SHORT)
        end.set()
        assert b" 200 " in answer(connection)


def test_an_answer_that_nobody_reads_ends_the_connection(patient):
    """The system takes some megabytes in the client's place; the rest stays with the server until it gives up."""
    body = b'{"queries": [' + b",".join([b"[1]"] * 400_000) + b"]}"
    for waited in (3, 10, 20, 40):
        with connected(patient) as connection:
            connection.sendall(POST.replace(b"99", str(len(body)).encode()) + body)
            got = answer(connection)
            length = int(got.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            time.sleep(waited * SHORT)
            if len(got) + len(rest(connection)) < length:
                return
    pytest.fail("the server waited")


@pytest.mark.parametrize(
    "sent",
    [
        GET[:-2] + b"x: " + b"a" * 200_000,
        GET[:-2] + b"x: a\r\n" * 40_000,
        b"GET /" + b"a" * 200_000,
        POST.replace(b"Content-Length: 99", b"Transfer-Encoding: chunked") + b"0\r\n" + b"x: a\r\n" * 40_000,
    ],
)
def test_a_head_without_end_ends_the_connection(address, sent):
    with connected(address) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            return
        assert b" 200 " not in rest(connection)


def test_many_small_chunks_are_a_body(patient):
    parts = [b" " * 9] * 20_000 + [b'{"queries": ', b"[[1]]}", b""]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    with connected(patient) as connection:
        connection.sendall(POST.replace(b"Content-Length: 99", b"Transfer-Encoding: chunked") + body)
        assert b" 200 " in answer(connection)


def test_requests_may_come_without_waiting_for_answers(patient):
    with connected(patient) as connection:
        connection.sendall(GET * 2000)
        assert rest(connection).count(b"HTTP/1.1 200 ") == 2000
    assert len(GET) * 2000 > connections.MOST_BESIDE
