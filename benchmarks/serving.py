"""Counts over HTTP: ours against a Flask server around infini-gram's engine, Arrow batches, and tracing a text.

    python benchmarks/serving.py INDEX [--flask-python PYTHON] [--seconds 12] [--rounds 3] [--clients 1 16 256]

All servers answer `POST /` with infini-gram's request for the same n-grams, on the same files, in turns on this
machine; the clients run beside them in a process of their own and take their share of the processors. The Flask
server handles requests as infini-gram's published one does (a process forked for each, ten at most), and then in
threads of one process, which is faster. `--flask-python` names a Python with flask, infini-gram and tokenizers, where
this one lacks flask.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from memindex.index import Index
from memindex.ragged import from_lists

FLASK = """
import json, sys, time
from flask import Flask, jsonify, request
from infini_gram.engine import InfiniGramEngine
from tokenizers import Tokenizer

folder, name, definition, dtype, port, threads = sys.argv[1:]
tokenizer = Tokenizer.from_file(definition)
engine = InfiniGramEngine(
    index_dir=folder, eos_token_id=0, vocab_size=65535, token_dtype=dtype,
    ds_prefetch_depth=0, sa_prefetch_depth=0, od_prefetch_depth=0,
)
app = Flask(__name__)

@app.route("/", methods=["POST"])
def query():
    data = request.json
    if data["index"] != name or data["query_type"] != "count":
        return jsonify({"error": "no"}), 400
    ids = tokenizer.encode(" " + data["query"]).ids
    begin = time.time()
    result = engine.count(input_ids=ids)
    result["latency"] = (time.time() - begin) * 1000
    result["token_ids"] = ids
    result["tokens"] = [tokenizer.id_to_token(i) for i in ids]
    return jsonify(result), 200

import logging
logging.getLogger("werkzeug").setLevel(logging.ERROR)
if threads == "1":
    app.run(host="127.0.0.1", port=int(port), threaded=True)
else:
    app.run(host="127.0.0.1", port=int(port), threaded=False, processes=10)
"""


#: What our server is called in the table.
OURS = "memindex"


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A server, until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {' '.join(command)}") from None
                time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def queries_of(index: Index, number: int) -> list[str]:
    """Texts of 1 to 8 tokens of the corpus."""
    random = np.random.default_rng(5)
    tokens = index.tokens_of_shard(0)
    rows = []
    while len(rows) < number:
        length = int(random.integers(1, 9))
        start = int(random.integers(0, len(tokens) - length))
        rows.append(tokens[start : start + length].tolist())
    largest = index.manifest.vocabulary
    texts = index.tokenizer.decode_batch([row for row in rows if max(row) < largest])
    return [text.strip() for text in texts if text.strip() and " AND " not in text and " OR " not in text]


class Client:
    """One connection that asks one question after the other; opened anew where the server closes it."""

    def __init__(self, port: int, requests: list[bytes], selector: selectors.BaseSelector) -> None:
        self.port, self.requests, self.selector = port, requests, selector
        self.next = 0
        self.socket: socket.socket | None = None
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self.began, self.got = time.perf_counter(), b""
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(self.socket, selectors.EVENT_READ, self)
        self.socket.sendall(self.requests[self.next % len(self.requests)])
        self.next += 1

    def close(self) -> None:
        """Hang up."""
        if self.socket is not None:
            self.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None

    def read(self) -> float | None:
        """Take what came; the seconds since the question when the answer is whole."""
        assert self.socket is not None
        part = self.socket.recv(65536)
        self.got += part
        head, blank, body = self.got.partition(b"\r\n\r\n")
        lower = head.lower()
        if blank and b"content-length: " in lower:
            size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(body) >= size:
                taken = time.perf_counter() - self.began
                if b" 200 " not in head[:20] or b'"count"' not in body:
                    raise SystemExit(f"not answered: {self.got[:500]!r}")
                if b"connection: close" in lower or head.startswith(b"HTTP/1.0"):
                    self.close()
                return taken
        if not part:
            raise SystemExit(f"the server hung up after {self.got[:200]!r}")
        return None


def load(port: int, name: str, texts: list[str], clients: int, seconds: float) -> list[float]:
    """Seconds of every request of so many clients that ask for so long."""
    requests = []
    for text in texts:
        body = json.dumps({"index": name, "query_type": "count", "query": text}).encode()
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    selector = selectors.DefaultSelector()
    everyone = [Client(port, requests[i::clients] or requests, selector) for i in range(clients)]
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in selector.select(timeout=1):
            client = key.data
            answered = client.read()
            if answered is not None:
                # A client's first answer waits for all the others to connect.
                taken += [answered] if client.next > 1 else []
                client.ask()
    for client in everyone:
        client.close()
    return taken


def tell(what: str, clients: int, taken: list[float], seconds: float) -> None:
    """Print one line."""
    if not taken:
        print(f"{what:28} {clients:4} clients  no second answer within a round", flush=True)
        return
    rate = len(taken) / seconds
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    print(f"{what:28} {clients:4} clients  {rate:8.0f} counts/s   p50 {p50:8.2f} ms   p99 {p99:8.2f} ms", flush=True)


def best(times: int, do) -> tuple[float, object]:
    """Seconds of the fastest of some calls, and what it returned."""
    fastest, answer = float("inf"), None
    for _ in range(times):
        begin = time.perf_counter()
        answer = do()
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest, answer


def post(port: int, path: str, body: bytes, kind: str) -> bytes:
    """The body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(content[:300])
    return content


def arrow(index: Index, port: int, number: int) -> None:
    """A batch of counts through Arrow, against the same batch in this process."""
    random = np.random.default_rng(6)
    tokens = index.tokens_of_shard(0)
    rows = [tokens[s : s + 5].tolist() for s in random.integers(0, len(tokens) - 5, number).tolist()]
    rows = [row for row in rows if max(row) < index.manifest.vocabulary]
    batch = from_lists(rows)
    column = pa.LargeListArray.from_arrays(batch.offsets, pa.array(batch.values.astype(np.uint32)))
    sink = io.BytesIO()
    table = pa.table({"tokens": column})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    path = f"/v1/indexes/{index.name}/count.arrow"
    alone, counts = best(5, lambda: index.count(batch))
    served, body = best(5, lambda: post(port, path, sink.getvalue(), "application/vnd.apache.arrow.stream"))
    with pa.ipc.open_stream(body) as stream:
        assert stream.read_all().column("count").to_numpy().tolist() == counts.tolist()
    print(f"{len(rows):,} counts: Index.count {alone * 1000:.1f} ms, through Arrow {served * 1000:.1f} ms")


def traced(index: Index, port: int) -> None:
    """A text of 500 tokens, half of it from the corpus in pieces of 50."""
    random = np.random.default_rng(7)
    tokens = index.tokens_of_shard(0)
    ids = np.concatenate([tokens[s : s + 50] for s in random.integers(0, len(tokens) - 50, 10)])
    ids = np.where(ids < index.manifest.vocabulary, ids, 13)
    ids[::20] = random.integers(0, 50_000, len(ids[::20]))
    path = f"/v1/indexes/{index.name}/trace"
    body = json.dumps({"query": index.tokenizer.decode(ids.tolist()), "min_tokens": 4, "sources": 3}).encode()
    taken, answer = best(20, lambda: json.loads(post(port, path, body, "application/json")))
    print(f"trace of {len(answer['tokens'])} tokens: {taken * 1000:.1f} ms, {len(answer['spans'])} spans")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--flask-python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=12.0, help="for each server and number of clients, in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    needed = [args.flask_python, "-c", "import flask, infini_gram, tokenizers"]
    if not args.ours_only and subprocess.run(needed, stderr=subprocess.DEVNULL, check=False).returncode:
        parser.error(f"{args.flask_python} lacks flask, infini-gram or tokenizers: name another --flask-python")
    index = Index.open(args.index)
    texts = queries_of(index, 20_000)
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "memindex.cli", "serve", "-i", str(args.index), "--port", str(port)]
        stack.enter_context(running(command, port))
        ports = {OURS: port}
        if not args.ours_only:
            ports |= stack.enter_context(flask_servers(index, args.flask_python))
        for each in ports.values():
            load(each, index.name, texts, 4, 1.0)
        for clients in args.clients:
            compare(ports, index.name, texts, clients, args.seconds / args.rounds, args.rounds)
        arrow(index, port, 100_000)
        traced(index, port)


@contextmanager
def flask_servers(index: Index, python: str) -> Iterator[dict[str, int]]:
    """Ports of the Flask server in both its ways."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        program, files = Path(folder, "flask_server.py"), Path(folder, "files")
        program.write_text(FLASK)
        files.mkdir()
        for kind in ("tokenized", "table", "offset"):
            for number in range(len(index.shards)):
                (files / f"{kind}.{number}").symlink_to(index.file(f"{kind}.{number}"))
        width = f"u{8 * index.manifest.token_width}"
        ports = {}
        for threads, what in (("0", "infini-gram, processes"), ("1", "infini-gram, threads")):
            ports[what] = port = free_port()
            arguments = [str(files), index.name, str(index.path / "tokenizer.json"), width, str(port), threads]
            stack.enter_context(running([python, str(program), *arguments], port))
        yield ports


def compare(ports: dict[str, int], name: str, texts: list[str], clients: int, seconds: float, rounds: int) -> None:
    """Ask all servers in turns; the ratio is the median of the rounds, of which each is one moment of the machine."""
    taken: dict[str, list[list[float]]] = {what: [] for what in ports}
    for _ in range(rounds):
        for what, port in ports.items():
            taken[what].append(load(port, name, texts, clients, seconds))
    for what, rows in taken.items():
        tell(what, clients, [one for row in rows for one in row], rounds * seconds)
        if what != OURS:
            ratios = [len(ours) / max(1, len(row)) for ours, row in zip(taken[OURS], rows, strict=True)]
            print(f"{'':28} {clients:4} clients  memindex answers {np.median(ratios):.1f} times as many")


if __name__ == "__main__":
    main()
