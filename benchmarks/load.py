"""A server under load: many clients of every kind at once, for minutes; errors, and memory before and after.

    python benchmarks/load.py INDEX [--study STUDY] [--clients 256] [--seconds 300]

Of the clients some ask well (counts, next tokens, documents, traces, infini-gram's requests, SQL where a study is
given), some read their answer a few bytes at a time, some go away before it comes, and some send what is no request.
Prints how often each kind got which status, and the resident memory of the server's processes. A status of 500 or
more other than 503 and 504 is an error, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from serving import free_port, running

from memindex.index import Index

#: Seconds after which a client takes a server for hanging.
PATIENCE = 90.0

#: What a server may say that has too much to do.
BUSY = ("503", "504")

Outcome = tuple[str, str]


def requests_of(index: Index, name: str, study: str | None) -> list[tuple[str, str, object]]:
    """(kind, path, body) of requests that are well formed, about texts that stand in the index."""
    chance = random.Random(5)
    tokens = index.tokens_of_shard(0)
    texts = []
    while len(texts) < 200:
        start = chance.randrange(max(1, len(tokens) - 64))
        ids = [int(i) for i in tokens[start : start + 48] if i < index.manifest.vocabulary]
        texts.append(index.tokenizer.decode(ids))
    asked: list[tuple[str, str, object]] = []
    for text in texts:
        short = text[:24]
        asked.append(("count", f"/v1/indexes/{name}/count", {"queries": [short], "by_domain": True}))
        asked.append(("batch", f"/v1/indexes/{name}/count", {"queries": [t[:16] for t in texts if t[:16]]}))
        asked.append(("infini-gram", "/", {"index": name, "query_type": "count", "query": short}))
        asked.append(("infini-gram ntd", "/", {"index": name, "query_type": "ntd", "query": short}))
        asked.append(("documents", f"/v1/indexes/{name}/documents", {"query": short, "limit": 5}))
        asked.append(("trace", f"/v1/indexes/{name}/trace", {"query": text}))
        if study is not None:
            sql = {"sql": "SELECT model_id, avg(memorized::INT) FROM memorization GROUP BY ALL"}
            asked.append(("sql", f"/v1/studies/{study}/sql", sql))
    return [one for one in asked if "" not in (one[2] if isinstance(one[2], dict) else {}).values()]


def message(path: str, body: bytes) -> bytes:
    """One POST request, after whose answer the connection ends."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(port: int, kind: str, path: str, body: bytes) -> Outcome:
    """Send a request in the manner of its kind of client; (kind, status or what went wrong)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if kind == "half a request":
            writer.write(message(path, body)[: -len(body) // 2 or None])
            await writer.drain()
            await asyncio.sleep(random.random() / 10)
            return kind, "gone"
        writer.write(message(path, body))
        await writer.drain()
        if kind == "gone before the answer":
            await asyncio.sleep(random.random() / 100)
            return kind, "gone"
        status = await reader.readline()
        size = 64 if kind == "slow reader" else 1 << 16
        while await reader.read(size):
            if kind == "slow reader":
                await asyncio.sleep(0.02)
        return kind, status.split(b" ")[1].decode() if status else "closed"
    finally:
        writer.close()


async def client(port: int, asked: list[tuple[str, str, object]], end: float, outcomes: Counter[Outcome]) -> None:
    """Ask until the time is over."""
    while time.monotonic() < end:
        kind, path, content = random.choice(asked)
        body, manner = json.dumps(content).encode(), random.random()
        if manner < 0.03:
            kind = "slow reader"
        elif manner < 0.08:
            kind = "gone before the answer"
        elif manner < 0.10:
            kind = "half a request"
        elif manner < 0.13:
            kind, body = "nonsense", random.choice([b"{", b"[" * 5000, b"\xff\xfe", b'{"queries": 7}', b"null"])
        try:
            outcomes[await asyncio.wait_for(ask(port, kind, path, body), PATIENCE)] += 1
        except TimeoutError:
            outcomes[kind, "hangs"] += 1
        except OSError as error:
            outcomes[kind, type(error).__name__] += 1


def resident(root: int) -> int:
    """Anonymous memory of a process and those below it, in bytes: mapped files of indexes don't count."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    family = {root}
    while more := {pid for pid, parent in pairs if parent in family} - family:
        family |= more
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
    return total


async def load(port: int, asked: list[tuple[str, str, object]], clients: int, seconds: float) -> Counter[Outcome]:
    """All clients, side by side."""
    outcomes: Counter[Outcome] = Counter()
    end = time.monotonic() + seconds
    await asyncio.gather(*(client(port, asked, end, outcomes) for _ in range(clients)))
    return outcomes


def server_process(port: int) -> int:
    """The process that `running` started for a port."""
    found = subprocess.run(["pgrep", "-f", f"serve .*--port {port}"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=300)
    given = parser.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "memindex.cli", "serve", "-i", str(given.index)]
    command += ["-s", str(given.study)] if given.study else []
    asked = requests_of(Index.open(given.index), given.index.name, given.study.name if given.study else None)
    with running([*command, "--port", str(port)], port):
        process = server_process(port)
        asyncio.run(load(port, asked, 8, 5))
        before = resident(process)
        outcomes = asyncio.run(load(port, asked, given.clients, given.seconds))
        time.sleep(2)
        after = resident(process)
        healthy = asyncio.run(ask(port, "count", *asked[0][1:2], json.dumps(asked[0][2]).encode()))
    for (kind, status), number in sorted(outcomes.items()):
        print(f"{kind:24} {status:20} {number:,}")
    bad = {
        one: n
        for one, n in outcomes.items()
        if one[1] == "hangs" or (one[1].startswith("5") and one[1] not in ("503", "504"))
    }
    print(f"memory before {before / 1e6:,.0f} MB, after {after / 1e6:,.0f} MB; afterwards a count gets {healthy[1]}")
    print(f"errors: {bad or 'none'}")
    return 1 if bad or healthy[1] != "200" else 0


if __name__ == "__main__":
    sys.exit(main())
