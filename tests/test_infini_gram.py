"""Our files against infini-gram's own builder and engine: the same bytes, the same counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

from memindex import _core
from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.corpus.tokenizer import load_tokenizer
from memindex.corpus.tokenizer_training import train_tokenizer
from memindex.index import Index, build_index
from memindex.ragged import from_lists
from memindex.study.demo_corpus import CorpusPlan, write_corpus

pytest.importorskip("infini_gram", reason="infini-gram has no wheel for this platform")


def infini_gram_table(tokens: Path, out: Path, width: int) -> bytes:
    """Sort the suffixes of a token file with infini-gram's own compiled builder, in one piece."""
    import infini_gram

    builder = Path(infini_gram.__file__).parent / "rust_indexing"
    size = tokens.stat().st_size
    ratio = int(np.ceil(np.log2(size) / 8))
    parts, merged = out / "parts", out / "merged"
    for folder in (parts, merged):
        folder.mkdir()
    common = ["--data-file", tokens, "--ratio", ratio, "--token-width", width]
    steps = [
        ["make-part", *common, "--parts-dir", parts, "--start-byte", 0, "--end-byte", size],
        ["merge", *common, "--parts-dir", parts, "--merged-dir", merged, "--num-threads", 1, "--hacksize", 100000],
        ["concat", *common, "--merged-dir", merged, "--merged-file", out / "table.0", "--num-threads", 1],
    ]
    for step in steps:
        subprocess.run([str(builder), *map(str, step)], check=True, capture_output=True)
    return (out / "table.0").read_bytes()


def random_corpus(folder: Path, lines: int) -> Path:
    """JSON lines with repeated sentences and distinct words."""
    random = np.random.default_rng(5)
    words = [f"w{i}" for i in range(500)]
    sentences = [" ".join(random.choice(words, 12)) for _ in range(200)]
    folder.mkdir()
    with (folder / "a.jsonl").open("w") as out:
        for i in range(lines):
            text = ". ".join(random.choice(sentences, int(random.integers(1, 20))))
            out.write(json.dumps({"text": text, "meta": {"set": f"d{i % 3}"}}) + "\n")
    return folder


def engine(path: Path, width: int):
    from infini_gram.engine import InfiniGramEngine

    # The engine maps "tokenized" in the PATH of a file to other file names, so the folder must not hold that word.
    return InfiniGramEngine(
        index_dir=str(path), eos_token_id=0, vocab_size=2 ** min(8 * width, 16) - 1, token_dtype=f"u{8 * width}"
    )


# infini-gram's builder for u32 asks for 34 GB whatever the size of the text, so four bytes are tested by counts below.
@pytest.mark.parametrize("width", [1, 2])
def test_table_is_byte_identical_to_infini_grams_builder(tmp_path, width):
    corpus = random_corpus(tmp_path / "corpus", 2000)
    build_index([corpus], tmp_path / "ours", tokenizer="bytes", token_width=width)
    (tmp_path / "theirs").mkdir()
    expected = infini_gram_table(tmp_path / "ours" / "tokenized.0", tmp_path / "theirs", width)
    assert (tmp_path / "ours" / "table.0").read_bytes() == expected


@pytest.mark.parametrize("width", [1, 2, 4])
def test_infini_grams_engine_counts_the_same_on_our_files(tmp_path, width):
    build_index([random_corpus(tmp_path / "corpus", 100)], tmp_path / "ours", tokenizer="bytes", token_width=width)
    index = Index.open(tmp_path / "ours")
    tokens = index.tokens_of_shard(0).astype(np.int64)
    separator = 2 ** (8 * width) - 1
    queries = [q for q in ngrams(tokens, 1000) if max(q) < 255 and separator not in q]
    counts = index.count(queries).tolist()
    theirs = engine(index.path, width)
    assert counts == [theirs.count(query)["count"] for query in queries]
    assert sum(count > 0 for count in counts) > 500


def test_all_files_equal_those_of_infini_grams_indexing_module(tmp_path):
    corpus = random_corpus(tmp_path / "corpus", 300)
    build_index([corpus], tmp_path / "ours", tokenizer="bytes")
    theirs = tmp_path / "theirs"
    arguments = ["--data_dir", corpus, "--save_dir", theirs, "--token_dtype", "u8", "--cpus", 1, "--mem", 1]
    command = [sys.executable, "-m", "infini_gram.indexing", *arguments, "--ulimit", 1024]
    flags = ["--add_metadata", "--add_unigram"]
    subprocess.run([*map(str, command), *flags], check=True, capture_output=True, cwd=tmp_path)
    for name in ("tokenized.0", "table.0", "offset.0", "unigram.0", "metadata.0", "metaoff.0"):
        assert (tmp_path / "ours" / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.slow
def test_two_million_real_tokens_sort_as_infini_gram_sorts_them(tmp_path):
    index = build_real_index(tmp_path / "ours", 2_000_000)
    assert index.manifest.tokens > 2_000_000
    (tmp_path / "theirs").mkdir()
    expected = infini_gram_table(index.path / "tokenized.0", tmp_path / "theirs", 2)
    assert (index.path / "table.0").read_bytes() == expected


def build_real_index(out: Path, tokens: int) -> Index:
    """An index of at least so many tokens of real text: the development corpora beside the repository with the NeoX
    tokenizer, or where they are not, Python sources installed here with a tokenizer trained on them."""
    if (SHARED / "corpora").is_dir():
        options = ReadOptions(domain_field="meta.pile_set_name")
        source, tokenizer = SHARED / "corpora" / "mini-pile" / "train", load_tokenizer(SHARED / "tokenizers" / "pythia")
    else:
        options, source = ReadOptions(), out.with_name("sources") / "train"
        plan = CorpusPlan(5 * tokens, 3, 2 * tokens, heldout_share=0.0, largest=100_000)
        write_corpus(source.parent, plan)
        texts = (file.read_text(encoding="utf-8") for file in sorted(source.rglob("*.py")))
        tokenizer = load_tokenizer(train_tokenizer(texts, out.with_name("tokenizer"), 4096))
    corpus = out.with_name("corpus.jsonl")
    written = 0
    with corpus.open("w") as target:
        for batch in read_documents(find_files([source], options), options, BadDocuments()):
            lengths = np.diff(tokenizer.encode_batch(batch.column("text")).offsets)
            for row, length in zip(batch.to_pylist(), lengths, strict=True):
                if written <= tokens:
                    target.write(json.dumps({"text": row["text"].decode(), "set": row["domain"]}) + "\n")
                    written += int(length)
    build_index([corpus], out, tokenizer=tokenizer, options=ReadOptions(domain_field="set"))
    return Index.open(out)


@pytest.mark.slow
def test_ten_thousand_counts_equal_infini_gram_and_brute_force(tmp_path):
    index = build_real_index(tmp_path / "ours", 400_000)
    tokens = index.tokens_of_shard(0).astype(np.int64)
    queries = ngrams(tokens, 10_000)
    counts = index.count(queries)
    theirs = engine(index.path, 2)
    assert [theirs.count(query)["count"] for query in queries] == counts.tolist()
    by_domain = index.count_by_domain(queries)
    assert (by_domain.sum(axis=1) == counts).all()
    domains = domain_of_positions(index)
    assert (counts > 0).sum() > 5_000
    assert (counts == 0).sum() > 1_000
    for query, count, row in zip(queries, counts.tolist(), by_domain.tolist(), strict=True):
        found = brute_force(tokens, query)
        assert len(found) == count
        assert np.bincount(domains[found], minlength=len(row)).tolist() == row


def ngrams(tokens: np.ndarray, number: int) -> list[list[int]]:
    """n-grams with n = 1…64: pieces of the corpus, the same with one id changed, and random ids."""
    random = np.random.default_rng(11)
    queries: list[list[int]] = []
    while len(queries) < number:
        n = int(random.integers(1, 65))
        start = int(random.integers(0, len(tokens) - n))
        query = tokens[start : start + n].copy()
        kind = random.random()
        if kind < 0.2:
            query[random.integers(n)] = random.integers(0, 50_000)
        elif kind < 0.25:
            query = random.integers(0, 50_000, n)
        if (query < 65_535).all():
            queries.append(query.tolist())
    return queries


def brute_force(tokens: np.ndarray, query: list[int]) -> np.ndarray:
    """Positions of an n-gram, by comparing one token after the other; separators match nothing."""
    found = np.flatnonzero(tokens[: len(tokens) - len(query) + 1] == query[0])
    for i, token in enumerate(query[1:], start=1):
        found = found[tokens[found + i] == token]
    return found


def domain_of_positions(index: Index) -> np.ndarray:
    """Domain of every token position by the raw document table, not by the domain column."""
    import pyarrow.parquet as pq

    table = pq.read_table(index.path / "documents.parquet").to_pylist()
    domains = np.zeros(len(index.shards[0]), dtype=np.int64)
    for row in table:
        code = index.domains.index(row["domain"])
        domains[row["first_token"] - 1 : row["first_token"] + row["tokens"]] = code
    return domains


def test_ragged_batches_and_single_lookups_agree(tmp_path):
    build_index([random_corpus(tmp_path / "corpus", 50)], tmp_path / "ours", tokenizer="bytes")
    index = Index.open(tmp_path / "ours")
    queries = [list(b"w1 "), list(b"w12"), list(b"nothing like it"), [119]]
    assert [index.count_one(q) for q in queries] == index.count(from_lists(queries)).tolist()
    assert isinstance(index.shards[0], _core.Shard)
