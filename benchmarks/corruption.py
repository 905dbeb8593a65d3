"""Damages the files of small indexes at random, and tells what is noticed.

    python benchmarks/corruption.py [--cases 10000] [--seed 1] [--json FILE]

Each case damages one copy of an index (kinds in `damage.py`), opens it, asks everything, compares with answers found by
brute force, and verifies. That happens in worker processes, so that a crash or an endless loop is seen. Prints two
tables, by kind of damage and by file. Exit code 1 when a case crashed, hung, raised what is no documented error, or
was not found by `verify` (of indexes with checksums).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from damage import Change, Files, Instead, draw

from memindex.corpus.sources import ReadOptions
from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.index.manifest import CHECKSUMS_FILE, INFINI_GRAM_FILES, FileFacts, Manifest
from memindex.ragged import from_lists

#: Seconds a case may take; it needs a hundredth of one.
PATIENCE = 60.0


def _lists(arrays: Iterable[np.ndarray]) -> list[Any]:
    return [array.tolist() for array in arrays]


#: What is asked of an index; a new lookup joins by a row.
LOOKUPS: dict[str, Callable[[Index, list[list[int]]], Any]] = {
    "domains": lambda index, queries: index.domains,
    "count": lambda index, queries: index.count(queries).tolist(),
    "count_by_domain": lambda index, queries: index.count_by_domain(queries).tolist(),
    "count_one": lambda index, queries: [index.count_one(query) for query in queries],
    "count_by_domain_one": lambda index, queries: [index.count_by_domain_one(query) for query in queries],
    "find": lambda index, queries: _lists(index.find(queries)),
    "positions": lambda index, queries: _lists(index.positions(queries, 5)),
    "documents": lambda index, queries: index.documents(queries[:20], 2, max_tokens=20).to_pylist(),
    "longest_match": lambda index, queries: _lists(index.longest_match(queries)),
    "spans": lambda index, queries: _lists(index.spans([[*queries[0], *queries[1], *queries[0]]])),
    "next_tokens": lambda index, queries: _lists(index.next_tokens(queries, by_domain=True)),
    "document_count": lambda index, queries: _lists(index.document_count(queries)),
    "tokenize": lambda index, queries: index.tokenize(["the word of the day"]).values.tolist(),
}


@dataclass(frozen=True)
class Base:
    """An index to be damaged: bytes per token, shards, documents, and what it lacks."""

    width: int
    shards: int
    documents: int
    tokenizer: str = "bytes"
    keys: bool = True
    checksums: bool = True
    manifest: bool = True


BASES = {
    "u8": Base(1, 1, 20),
    "u16, three shards": Base(2, 3, 30),
    "u32": Base(4, 1, 100),
    "u16, no key table": Base(2, 1, 30, keys=False),
    "u16, own tokenizer, three shards": Base(2, 3, 30, tokenizer="words"),
    "u16, no checksums": Base(2, 3, 30, checksums=False),
    "u16, infini-gram's files alone": Base(2, 3, 30, checksums=False, manifest=False),
}


def write_bases(directory: Path) -> None:
    """Build every index and its twin, of other text in as many bytes, and write down the right answers."""
    for number, (name, base) in enumerate(BASES.items()):
        for twin in (False, True):
            folder = directory / f"{number}{'-twin' if twin else ''}"
            texts = _texts(base.documents, np.random.default_rng(number), twin)
            source = directory / "corpus.jsonl"
            rows = [{"text": text, "domain": f"domain {i % 3}"} for i, text in enumerate(texts)]
            source.write_text("".join(json.dumps(row) + "\n" for row in rows))
            tokenizer = base.tokenizer if base.tokenizer == "bytes" else _word_tokenizer(directory)
            options = ReadOptions(domain_field="domain")
            build_index(
                [source], folder, tokenizer=tokenizer, options=options, shards=base.shards, token_width=base.width
            )
            _strip(folder, base)
            index = Index.open(folder)
            index.verify()
            answers = _answers(index, texts, np.random.default_rng(100 + number)) if not twin else {}
            (directory / f"{folder.name}.json").write_text(json.dumps(answers))
            print(f"built {name}{', twin' if twin else ''}: {index.manifest.tokens} tokens", file=sys.stderr)


def _texts(documents: int, random: np.random.Generator, backwards: bool) -> list[str]:
    words = ["the", "of", "and", "word", "day", "corpus", "token", "x", "naïve", "suffix", "array", "0", "1", "index"]
    texts = [" ".join(random.choice(words, int(random.integers(0, 120)))) for _ in range(documents)]
    return [text[::-1] for text in texts] if backwards else texts


def _word_tokenizer(directory: Path) -> Path:
    """A small byte-level BPE, which any tokenizer library reads."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    file = directory / "tokenizer.json"
    if not file.exists():
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
        made.train_from_iterator(_texts(50, np.random.default_rng(0), False), trainer)
        made.save(str(file))
    return file


def _strip(folder: Path, base: Base) -> None:
    """Take away what the index shall not have."""
    if not base.manifest:
        for file in folder.iterdir():
            if file.name.partition(".")[0] not in INFINI_GRAM_FILES:
                file.unlink()
        return
    manifest = Manifest.read(folder)
    files = dict(manifest.files)
    if not base.keys:
        files = {name: facts for name, facts in files.items() if not name.startswith("keys.")}
    if not base.checksums:
        files = {name: FileFacts(facts.bytes, "") for name, facts in files.items()}
    if files != manifest.files:
        # The checksums of the blocks are those of all files.
        files.pop(CHECKSUMS_FILE)
        for name in manifest.files.keys() - files.keys():
            (folder / name).unlink()
        replace(manifest, files=files).write(folder)


def _answers(index: Index, texts: list[str], random: np.random.Generator) -> dict[str, Any]:
    """Queries, and what every lookup must say; counts are found by brute force, and compared."""
    batch = from_lists([list(text.encode()) for text in texts]) if not index.has_tokenizer else index.tokenize(texts)
    documents = [batch.row(i).tolist() for i in range(batch.rows)]
    queries = []
    for _ in range(50):
        document = documents[random.integers(len(documents))]
        if document:
            at, length = int(random.integers(len(document))), int(random.integers(1, 7))
            queries.append(document[at : at + length])
    queries += [[*query[:-1], 250] for query in queries[:10]]
    needs = {"count_by_domain", "count_by_domain_one", "next_tokens", "tokenize"} if not index.domains else set()
    right = {name: lookup(index, queries) for name, lookup in LOOKUPS.items() if name not in needs}
    # Windows are compared as tuples; a document's domain is its number modulo 3.
    windows = [Counter[tuple[int, ...]](), Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()]
    for i, document in enumerate(documents):
        windows[i % 3].update(tuple(document[at : at + n]) for n in range(1, 7) for at in range(len(document) - n + 1))
    expected = [[counted[tuple(query)] for counted in windows] for query in queries]
    assert not index.domains or right["count_by_domain"] == expected
    assert right["count"] == right["count_one"] == [sum(row) for row in expected]
    return {"queries": queries, "right": right}


class Patient:
    """A copy of one index that is damaged, examined and restored."""

    def __init__(self, bases: Path, number: int, directory: Path) -> None:
        self.files = _read(bases / f"{number}")
        self.twin = _read(bases / f"{number}-twin")
        answers = json.loads((bases / f"{number}.json").read_text())
        self.queries, self.right = answers["queries"], answers["right"]
        self.directory = directory / f"{number}"
        shutil.copytree(bases / f"{number}", self.directory)

    def examine(self, random: np.random.Generator) -> dict[str, Any]:
        """Damage the files at random, and say what is noticed."""
        kind, change = draw(self.files, self.twin, random)
        print(json.dumps({"kind": kind, "files": sorted(change)}), flush=True)
        self._apply(change)
        try:
            return _notice(self.directory, self.queries, self.right)
        finally:
            self._apply({name: self.files[name] for name in change})

    def _apply(self, change: Change) -> None:
        for name, new in change.items():
            file = self.directory / name
            # Not overwritten: the file may still be mapped.
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink(missing_ok=True)
            if isinstance(new, bytes):
                file.write_bytes(new)
            elif new == Instead.DIRECTORY:
                file.mkdir()
            elif new == Instead.PIPE:
                os.mkfifo(file)
            elif new == Instead.LOOP:
                file.symlink_to(file)


def _read(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _notice(directory: Path, queries: list[list[int]], right: dict[str, Any]) -> dict[str, Any]:
    """Whether opening, lookups and verify notice; `untyped` holds errors that are not documented."""
    untyped: list[str] = []

    def fails(call: Callable[[], object]) -> str:
        try:
            call()
        except (MemindexError, OSError) as error:
            return str(error) if len(str(error).splitlines()) == 1 else _note(untyped, error)
        except BaseException as error:
            return _note(untyped, error)
        return ""

    opened: list[Index] = []
    message = fails(lambda: opened.append(Index.open(directory)))
    if not opened:
        return {"open": message, "untyped": untyped}
    (index,) = opened
    answers: dict[str, Any] = {}
    errors = {
        name: fails(lambda name=name, lookup=lookup: answers.update({name: lookup(index, queries)}))
        for name, lookup in LOOKUPS.items()
        if name in right
    }
    return {
        "open": "",
        "lookup": next((error for error in errors.values() if error), ""),
        "wrong": [name for name, answer in answers.items() if answer != right[name]],
        "verify": fails(index.verify),
        "untyped": untyped,
    }


def _note(untyped: list[str], error: BaseException) -> str:
    untyped.append(f"{type(error).__name__}: {error}")
    return untyped[-1]


def work(bases: Path, seed: int) -> None:
    """Be a worker: a case's number on each line of standard input; two lines of JSON for each on standard output."""
    with tempfile.TemporaryDirectory(prefix="damaged-") as scratch:
        patients: dict[int, Patient] = {}
        for line in sys.stdin:
            case = int(line)
            number = case % len(BASES)
            if number not in patients:
                patients[number] = Patient(bases, number, Path(scratch))
            print(json.dumps(patients[number].examine(np.random.default_rng([seed, case]))), flush=True)


class Worker:
    """A worker process, begun anew when it dies or hangs."""

    def __init__(self, command: list[str], patience: float = PATIENCE) -> None:
        self.command = command
        self.patience = patience
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.read = b""

    def run(self, case: int) -> dict[str, Any]:
        """What became of one case."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n".encode())
        found: dict[str, Any] = {"case": case, "base": list(BASES)[case % len(BASES)]}
        for _ in range(2):
            line = self._line()
            if line is None:
                self.process.kill()
                self.close()
                self._start()
                return found | {"hang": True}
            if not line:
                code = self.close()
                self._start()
                return found | {"crash": code}
            found |= json.loads(line)
        return found

    def _line(self) -> bytes | None:
        """The next line; empty when the process is gone, None when it takes too long."""
        assert self.process.stdout is not None
        end = time.monotonic() + self.patience
        while b"\n" not in self.read:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            # The pipe has no buffer of its own, so that select knows of all that has come.
            more = self.process.stdout.read(65536)
            if not more:
                return b""
            self.read += more
        line, _, self.read = self.read.partition(b"\n")
        return line

    def close(self) -> int:
        """End the process; gives its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait()
        self.process.stdout.close()
        return code


def run_cases(bases: Path, cases: int, seed: int, processes: int) -> list[dict[str, Any]]:
    """All cases, dealt to worker processes."""
    command = [sys.executable, __file__, "--work", str(bases), "--seed", str(seed)]

    def share(first: int) -> list[dict[str, Any]]:
        with contextlib.closing(Worker(command)) as worker:
            return [worker.run(case) for case in range(first, cases, processes)]

    with ThreadPoolExecutor(processes) as pool:
        shares = list(pool.map(share, range(processes)))
    return sorted((result for part in shares for result in part), key=lambda result: result["case"])


def found(result: dict[str, Any]) -> bool:
    """Whether `memindex index verify` fails, which opens the index first."""
    return bool(result.get("open") or result.get("verify"))


COLUMNS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "cases": lambda r: True,
    "crashes": lambda r: "crash" in r,
    "hangs": lambda r: "hang" in r,
    "other errors": lambda r: bool(r.get("untyped")),
    "found at open": lambda r: bool(r.get("open")),
    "error at lookup": lambda r: bool(r.get("lookup")),
    "wrong answers without verify": lambda r: bool(r.get("wrong")),
    "found by verify": found,
    "missed": lambda r: not found(r),
    "missed, wrong answers": lambda r: bool(r.get("wrong")) and not found(r),
}


def tables(results: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown tables: by kind of damage and by file for indexes with checksums, and one row for those without."""
    whole = [result for result in results if BASES[result["base"]].checksums]
    yield from _table("damage", whole, lambda result: [result["kind"]])
    yield ""
    yield from _table(
        "file", whole, lambda result: {name.partition(".")[0] + _suffix(name) for name in result["files"]}
    )
    yield ""
    rest = [result for result in results if not BASES[result["base"]].checksums]
    yield from _table("without checksums", rest, lambda result: [result["kind"]])


def _suffix(name: str) -> str:
    end = name.partition(".")[2]
    return ".S" if end.isdecimal() else f".{end}"


def _table(title: str, results: list[dict[str, Any]], rows: Callable[[dict[str, Any]], Iterable[str]]) -> Iterator[str]:
    yield " | ".join(["", title, *COLUMNS, ""]).strip()
    yield "| --- |" + " ---: |" * len(COLUMNS)
    by_row: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for row in rows(result):
            by_row.setdefault(row, []).append(result)
    for name, those in [*sorted(by_row.items()), ("all", results)]:
        numbers = (f"{sum(column(result) for result in those):,}" for column in COLUMNS.values())
        yield " | ".join(["", name, *numbers, ""]).strip()


def bad(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases that must not be: a crash, a hang, an error of no documented kind, damage that a checksum did not find."""
    return [
        result
        for result in results
        if "crash" in result
        or "hang" in result
        or result["untyped"]
        or (not found(result) and BASES[result["base"]].checksums)
    ]


def main() -> int:
    """Run the campaign, or be one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every case as a line of JSON")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.seed)
        return 0
    with tempfile.TemporaryDirectory(prefix="corruption-") as scratch:
        write_bases(Path(scratch))
        start = time.perf_counter()
        results = run_cases(Path(scratch), arguments.cases, arguments.seed, os.cpu_count() or 1)
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(result) + "\n" for result in results))
    print("\n".join(tables(results)))
    print(f"{len(results):,} cases in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for result in bad(results)[:20]:
        print(json.dumps(result), file=sys.stderr)
    return 1 if bad(results) else 0


if __name__ == "__main__":
    sys.exit(main())
