"""`memindex serve` as a process: it starts, answers over a socket, ends when it is told to, and says what is wrong."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest

pytest.importorskip("uvicorn", reason="the server is an extra")

from infini_gram_folder import write_folder
from synthetic_corpus import assert_refused, memindex

from memindex.cli.serve import _listen
from memindex.index import Index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("world") / "served", [[[1, 2, 3], [4, 1, 2]]], 2)


@pytest.fixture
def server(folder):
    yield from served("-i", folder, "--max-queries", "3")


def served(*arguments: object):
    """A server process with its port, until the fixture ends."""
    command = [sys.executable, "-m", "memindex.cli", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    found = re.fullmatch(r"memindex: serving (.*) at http://127\.0\.0\.1:(\d+)\n", line)
    assert found, line + process.stderr.read()
    process.names, process.port = found[1], int(found[2])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def post(port: int, path: str, body: dict, **headers: str) -> tuple[int, dict]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_it_serves_and_ends(server, folder):
    body = {"index": "served", "query_type": "count", "query_ids": [1, 2]}
    threads_answers = []
    threads = [threading.Thread(target=lambda: threads_answers.append(post(server.port, "/", body))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(status, answer["count"]) for status, answer in threads_answers] == [(200, 2)] * 20
    status, problem = post(server.port, "/v1/indexes/served/count", {"queries": [[1]] * 4})
    assert (status, problem["limit"]) == (413, "max_queries")
    status, problem = post(server.port, "/v1/indexes/served/count", {"queries": [[1]], "by_domain": True})
    assert status == 400
    assert post(server.port, "/", body, Host="rebound.example.org")[0] == 421
    assert post(server.port, "/", body, Host="localhost:1")[0] == 200
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=20)
    assert (out, err) == ("", "")
    assert server.names == "served"
    assert server.returncode in (0, -signal.SIGTERM)


def test_answers_wait_for_no_acknowledgement():
    """asyncio turns Nagle's algorithm off on sockets that name their protocol; with it an answer takes 40 ms more."""
    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_what_is_no_http_does_no_harm(server):
    for sent in (
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 100_000,
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    assert post(server.port, "/", {"index": "served", "query_type": "count", "query_ids": []})[1]["count"] == 8


def test_a_study_alone_is_served_with_its_index(folder, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.toml").write_text(f'index = "{folder}"\n')
    starting = served("-s", tmp_path / "s")
    process = next(starting)
    assert process.names == "served and study s"
    body = {"index": "served", "query_type": "count", "query_ids": [1, 2]}
    assert post(process.port, "/", body)[1]["count"] == 2
    starting.close()


def test_what_can_not_be_served_is_told(folder, tmp_path):
    assert_refused(memindex("serve"), "-i INDEX", "-s STUDY")
    assert_refused(memindex("serve", "-i", tmp_path / "none"), "none")
    assert_refused(memindex("serve", "-i", folder, "-i", folder), "two indexes are called served")
    assert_refused(memindex("serve", "-i", folder, "--api-key-file", tmp_path / "keys"), "keys")
    assert_refused(memindex("serve", "-i", folder, "--max-seconds", "0"), "max-seconds")
    assert_refused(memindex("serve", "-i", folder, "--allowed-host", "http://x.org"), "--allowed-host http://x.org")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = memindex("serve", "-i", folder, "--port", taken.getsockname()[1])
    assert_refused(refused, "can't listen at 127.0.0.1", "in use")


def test_without_the_extra_it_says_how_to_get_it(folder, tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')")
    refused = memindex("serve", "-i", folder, env={"PYTHONPATH": f"{tmp_path}:{':'.join(p for p in sys.path if p)}"})
    assert_refused(refused, "serving needs uvicorn", "[server]'")


def test_a_count_on_the_command_line_imports_no_server(folder):
    program = (
        "import sys; from memindex.cli.count import count; from memindex.cli import serve; "
        "print([name for name in ('fastapi', 'uvicorn', 'starlette', 'pydantic') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
    assert Index.open(folder).count_one([1]) == 2
