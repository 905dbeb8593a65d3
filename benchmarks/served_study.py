"""A large study behind `memindex serve`: time of each kind of request, and memory of the server's processes.

    python benchmarks/served_study.py [--study STUDY] [--sequences 2000000] [--models 5] [--skip-figures] [OPTION…]

The study is made up (benchmarks/view.py) unless one is given. Each request is asked twice, one at a time; answers that
the server remembers are quick the second time. Questions are asked without values. Other options go to the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from serving import free_port, running
from view import write_study

SQL = {
    "count(*)": "SELECT count(*) FROM memorization",
    "rate by model": "SELECT run_label, count(*), avg(memorized::INTEGER) FROM memorization GROUP BY ALL ORDER BY ALL",
    "rate by domain, frequency": "SELECT domain, frequency_bucket, avg(score) FROM memorization GROUP BY ALL",
    "filter": "SELECT sequence_id, run_label FROM memorization WHERE memorized AND domain = 'domain 3' LIMIT 100",
    "10,000 rows of tokens": "SELECT sequence_id, prefix, continuation FROM memorization",
    "distinct sequences": "SELECT count(DISTINCT sequence_id) FROM memorization",
    "sort all": "SELECT sequence_id, run_id FROM memorization ORDER BY suffix_logprob, sequence_id",
}


class Asked:
    """A study of a server."""

    def __init__(self, port: int, study: str) -> None:
        self.port, self.study = port, study

    def ask(self, what: str, method: str = "GET", body: object = None) -> tuple[float, int, bytes]:
        """Seconds, status and body of an answer of the study's routes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        path = f"/v1/studies/{quote(self.study)}{what}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        return time.perf_counter() - began, answer.status, content

    def tell(self, name: str, *asked: object) -> bytes:
        """Ask twice and print; the last body."""
        (first, _, _), (second, status, body) = self.ask(*asked), self.ask(*asked)
        said = "" if status == 200 else json.loads(body).get("detail", "")
        print(f"{name:44} {first:7.2f} s {second:7.2f} s  {status} {len(body):>9,} bytes  {said[:70]}", flush=True)
        return body if status == 200 else b"{}"


def memory(mark: str) -> list[str]:
    """Resident and peak memory of the processes whose command line holds a mark."""
    lines = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        except OSError:
            continue
        if mark in command and ("memindex.cli serve" in command or "study_worker" in command):
            kind = "worker" if "study_worker" in command else "server"
            peak, anonymous = (int(status[key].split()[0]) / 1024 for key in ("VmHWM", "RssAnon"))
            lines.append(f"{kind}: at most {peak:,.0f} MiB, now {anonymous:,.0f} MiB of its own")
    return sorted(lines)


def main() -> None:
    """Make or take a study, serve it, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--sequences", type=int, default=2_000_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--skip-figures", action="store_true")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        study = arguments.study or write_study(Path(folder), arguments.sequences, arguments.models)
        port = free_port()
        serve = [sys.executable, "-m", "memindex.cli", "serve", "-s", str(study), "--port", str(port), *options]
        with running(serve, port):
            measure(Asked(port, study.resolve().name), arguments.skip_figures)
            print(*memory(str(study)), sep="\n")


def measure(asked: Asked, skip_figures: bool) -> None:
    """One request of each kind."""
    overview = json.loads(asked.tell("overview", ""))
    run, domain = overview["runs"][-1]["run_id"], overview["domains"][0]["domain"]
    both = f"run={quote(run)}&domain={quote(domain)}"
    pages = ["", "order=frequency", f"domain={quote(domain)}&bucket=3", f"run={quote(run)}"]
    pages += [f"run={quote(run)}&order=score", f"{both}&outcome=memorized&order=frequency", f"{both}&outcome=half"]
    for filters in pages:
        page = json.loads(asked.tell(f"sequences {filters}", f"/sequences?{filters}"))
        if page.get("next"):
            asked.tell("  next page", f"/sequences?{filters}&cursor={quote(page['next'])}")
    asked.tell("one sequence", f"/sequences/1234567?run={quote(run)}")
    for name, sql in SQL.items():
        asked.tell(f"sql: {name}", "/sql", "POST", {"sql": sql})
    for name in overview["questions"]:
        asked.tell(f"question {name}", f"/questions/{name}")
        if not skip_figures:
            asked.tell("  figure", f"/questions/{name}/figure.svg")


if __name__ == "__main__":
    main()
