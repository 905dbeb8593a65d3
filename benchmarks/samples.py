"""What benchmarks ask: n-grams that the corpus holds or does not, and passages of it or of unseen text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from memindex import Index
from memindex.corpus.sources import ReadOptions
from memindex.index import build_index
from memindex.ragged import from_matrix

Ids = npt.NDArray[np.uint32]


def warm(directory: Path) -> None:
    """Read every file of an index, so that all engines find it in memory."""
    for file in directory.iterdir():
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass


def present(index: Index, length: int, number: int, seed: int) -> Ids:
    """n-grams at random places of the corpus, none over the end of a document; uint32 of shape (number, length)."""
    tokens = index.tokens_of_shard(0)
    random = np.random.default_rng([seed, length])
    found = np.empty((0, length), dtype=np.uint32)
    while len(found) < number:
        starts = random.integers(0, len(tokens) - length, number)
        queries = tokens[starts[:, None] + np.arange(length)]
        inside = (queries != np.iinfo(tokens.dtype).max).all(axis=1)
        found = np.concatenate([found, queries[inside].astype(np.uint32)])
    return found[:number]


def absent(index: Index, length: int, number: int, seed: int) -> Ids:
    """n-grams of the corpus with one id exchanged for that of another random place, until none occurs.

    Single ids are those of the token width that never occur.
    """
    tokens = index.tokens_of_shard(0)
    separator = int(np.iinfo(tokens.dtype).max)
    random = np.random.default_rng([seed, length, 1])
    if length == 1:
        ids = np.arange(min(separator, 2**16 - 1), dtype=np.uint32)[:, None]
        never = ids[index.count(from_matrix(ids)) == 0]
        return random.choice(never, number) if len(never) else never
    queries = present(index, length, number, seed)
    left = np.arange(number)
    while len(left):
        ids = tokens[random.integers(0, len(tokens), len(left))]
        ids = np.where(ids == separator, 0, ids)
        queries[left, random.integers(0, length, len(left))] = ids
        left = left[index.count(from_matrix(queries[left])) > 0]
    return queries


def passages(index: Index, length: int, number: int, seed: int) -> Ids:
    """Passages of an index's documents that do not overlap, uint32 of shape (up to number, length)."""
    tokens = index.tokens_of_shard(0)
    starts = np.random.default_rng([seed, length]).permutation(len(tokens) // length) * length
    found = tokens[starts[: 2 * number, None] + np.arange(length)]
    inside = (found != np.iinfo(tokens.dtype).max).all(axis=1)
    return found[inside][:number].astype(np.uint32)


def heldout(index: Index, sources: list[str], options: ReadOptions, scratch: Path) -> Index:
    """Texts that an index does not hold, tokenized as its own: an index of them."""
    build_index(sources, scratch / "heldout", tokenizer=index.tokenizer, options=options)
    return Index.open(scratch / "heldout")


def frequent(scratch: Path, number: int) -> Index:
    """An index of bytes in four domains, in which the letter a stands `number` times, and b a thousand times."""
    corpus = scratch / "frequent.jsonl"
    text = "a" * (number // 1000 + 1)
    with corpus.open("w") as out:
        for i in range(1000):
            out.write(f'{{"text": "{text}b", "set": "d{i % 4}"}}\n')
    build_index([corpus], scratch / "frequent", tokenizer="bytes", options=ReadOptions(domain_field="set"))
    return Index.open(scratch / "frequent")
