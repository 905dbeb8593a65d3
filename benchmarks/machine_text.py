"""A corpus for large builds: corpora at hand, then source files and documentation found on this machine.

    python benchmarks/machine_text.py OUT.jsonl --tokens N --tokenizer TOKENIZER [--first CORPUS.jsonl…] [--roots DIR…]

Writes JSON lines {"text", "set"} until there are N tokens (or no more text, which it says). `set`, the domain, is kept
of the first corpora and the file name's ending of what was found. A text is taken once, and of the copies of a library
that several environments hold, one version: repetition would make sorting look harder and lookups easier.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from memindex.corpus.tokenizer import load_tokenizer

ROOTS = ("/usr", "/opt", "/root", "/home")
CODE = ".c .cc .cmake .cpp .cu .cuh .f90 .go .h .hpp .java .js .lua .pl .pm .py .pyi .rb .rs .sh .sql .tcl .toml .ts"
ENDINGS = frozenset(f"{CODE} .md .pod .rst .txt .yaml".split())

#: Texts tokenized together.
BATCH = 2_000

#: Bytes of a file: shorter ones say nothing, longer ones are data.
SIZES = range(200, 1_000_000)


def first_texts(corpora: list[str], domain_field: str) -> Iterator[tuple[str, str]]:
    """Text and domain of JSON lines."""
    for corpus in corpora:
        with Path(corpus).open() as lines:
            for line in lines:
                row = json.loads(line)
                yield row["text"], str(row.get(domain_field, ""))


def found_texts(roots: list[str]) -> Iterator[tuple[str, str]]:
    """Text and ending of the files below the roots, in the order of their paths."""
    for path in files(roots):
        try:
            if path.is_symlink() or path.stat().st_size not in SIZES:
                continue
            yield path.read_text(), path.suffix[1:]
        except (OSError, UnicodeDecodeError):
            continue


def files(roots: list[str]) -> Iterator[Path]:
    """Files with a known ending; of a library installed several times, each of its files once."""
    seen = set()
    for root in roots:
        for folder, below, names in os.walk(root):
            below.sort()
            for name in sorted(names):
                path = Path(folder, name)
                library = "/".join(path.parts[-4:]) if "lib" in path.parts else str(path)
                if path.suffix in ENDINGS and library not in seen:
                    seen.add(library)
                    yield path


def write(arguments: argparse.Namespace) -> Counter[str]:
    """Write the corpus; tokens by domain, separators not counted."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    tokens: Counter[str] = Counter()
    texts, seen = [], set()

    def flush(out) -> None:
        lengths = tokenizer.encode_batch(pa.array([t.encode() for t, _ in texts], type=pa.large_binary())).lengths()
        for (text, domain), length in zip(texts, lengths.tolist(), strict=True):
            if tokens.total() < arguments.tokens:
                out.write(json.dumps({"text": text, "set": domain}, ensure_ascii=False) + "\n")
                tokens[domain] += length
        texts.clear()

    with Path(arguments.out).open("w") as out:
        for source in (first_texts(arguments.first, arguments.domain_field), found_texts(arguments.roots)):
            for text, domain in source:
                digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    texts.append((text, domain))
                if len(texts) >= BATCH:
                    flush(out)
                if tokens.total() >= arguments.tokens:
                    return tokens
        flush(out)
    return tokens


def main() -> None:
    """Write the corpus and tell what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--first", nargs="*", default=[], help="JSON lines with text")
    parser.add_argument("--domain-field", default="set", help="field of the domain in the first corpora")
    parser.add_argument("--roots", nargs="*", default=ROOTS)
    arguments = parser.parse_args()
    tokens = write(arguments)
    for domain, number in tokens.most_common():
        print(f"{number:>12,} {domain}")
    missing = arguments.tokens - tokens.total()
    print(f"{tokens.total():>12,} tokens" + (f": {missing:,} fewer than asked for" if missing > 0 else ""))


if __name__ == "__main__":
    main()
