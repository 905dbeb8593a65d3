"""Sequences in another tokenizer's tokens: those of the whole rest of the document, tokenized by `tokenizers` alone."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from synthetic_corpus import AWKWARD, sentences, train_bpe

from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index import Index, build_index
from memindex.study import retokenizing
from memindex.study.config import SequenceConfig
from memindex.study.retokenizing import retokenize
from memindex.study.sampling import sample_sequences

NAMES = ("llama-2", "pythia")


def build(folder, texts, tokenizer, shards=1):
    folder.mkdir()
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    build_index([folder / "texts.jsonl"], folder / "index", tokenizer=str(tokenizer), shards=shards)
    return Index.open(folder / "index")


def every_place(index):
    """A sequence at every token of the index: the columns that retokenizing reads."""
    shards, positions = [], []
    for shard in range(len(index.shards)):
        separators = index.document_starts(shard)
        here = np.setdiff1d(np.arange(len(index.shards[shard])), separators)
        shards.append(np.full(len(here), shard, np.int32))
        positions.append(here)
    position = np.concatenate(positions)
    return pa.table({"index": [index.name] * len(position), "shard": np.concatenate(shards), "position": position})


def ids_from(index, shard, position):
    """The tokens from a place to the end of its document, and those of the document before it."""
    tokens, separators = index.tokens_of_shard(shard), index.document_starts(shard)
    ends = separators[separators > position]
    start = separators[separators < position][-1] + 1
    return tokens[position : ends[0] if len(ends) else len(tokens)].tolist(), tokens[start:position].tolist()


def bytes_of_tokens(tokenizer):
    """The bytes of every id of a byte-level tokenizer."""
    if tokenizer.is_bytes:
        return {byte: bytes([byte]) for byte in range(256)}
    definition = json.loads(tokenizer.definition)
    alphabet = {char: byte for byte, char in byte_characters().items()}
    added = {t["id"]: t["content"].encode() for t in definition["added_tokens"]}
    vocabulary = {i: t for t, i in definition["model"]["vocab"].items() if i not in added}
    return added | {i: bytes(alphabet[char] for char in text) for i, text in vocabulary.items()}


def byte_characters():
    """The character that byte-level tokenizers write for each byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def expected(index, sequences, oracle, length):
    """For every row the ids, or None where the document ends too early."""
    known = bytes_of_tokens(index.tokenizer)
    rows = []
    for shard, position in zip(sequences["shard"].to_pylist(), sequences["position"].to_pylist(), strict=True):
        raw = b"".join(known[i] for i in ids_from(index, shard, position)[0])
        while raw and raw[0] & 0xC0 == 0x80:
            raw = raw[1:]
        ids = oracle.encode(raw.decode("utf-8"), add_special_tokens=False).ids
        rows.append(ids[:length] if len(ids) >= length else None)
    return rows


def compare(found, wanted, prefix):
    assert found.rows.tolist() == [row for row, ids in enumerate(wanted) if ids is not None]
    ids = np.concatenate([found.prefixes, found.suffixes], axis=1)
    assert ids.tolist() == [ids for ids in wanted if ids is not None]
    assert (found.prefixes.dtype, found.suffixes.dtype, found.rows.dtype) == (np.int32, np.int32, np.int64)
    assert found.prefixes.shape[1] == prefix


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_bpe(file, 350)
    return file


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_every_place_of_awkward_texts_gives_the_tokens_of_the_rest(tmp_path, other, monkeypatch, kind):
    train_bpe(tmp_path / "own" / "tokenizer.json", 290)
    own = "bytes" if kind == "bytes" else tmp_path / "own" / "tokenizer.json"
    texts = [text for text in AWKWARD if text] + ["日本語のテキスト😀" * 12, " ".join(sentences(6)), "ab"]
    index = build(tmp_path / kind, texts, own, shards=2)
    # So small that most rows need a second, longer look at their document, and several batches are made.
    monkeypatch.setattr(retokenizing, "BATCH", 100)
    sequences = every_place(index)
    found = retokenize([index], sequences, load_tokenizer(other), 3, 4)
    wanted = expected(index, sequences, tokenizers.Tokenizer.from_file(str(other)), 7)
    assert None in wanted
    compare(found, wanted, 3)


def test_a_document_that_ends_early_is_left_out_and_none_at_all_is_refused(tmp_path, other):
    index = build(tmp_path / "index", ["ab", "a longer text than the other one"], "bytes")
    sequences = every_place(index)
    found = retokenize([index], sequences, load_tokenizer(other), 4, 4)
    assert 0 < len(found.rows) < len(sequences)
    assert not np.isin([0, 1], found.rows).any()
    with pytest.raises(MemindexError, match="no sequence has 400 tokens"):
        retokenize([index], sequences, load_tokenizer(other), 200, 200)
    with pytest.raises(MemindexError, match="1 token or more"):
        retokenize([index], sequences, load_tokenizer(other), 0, 4)


def test_sequences_of_two_indexes_come_from_each(tmp_path, other):
    texts = [sentences(40), sentences(40, seed=5)]
    made = [build(tmp_path / name, part, "bytes", 2) for name, part in zip("ab", texts, strict=True)]
    indexes = [Index.open(index.path.rename(index.path.with_name(f"i{n}"))) for n, index in enumerate(made)]
    config = SequenceConfig(prefix=8, suffix=8, uniform=60, per_bucket=0, heldout=50)
    sequences, _ = sample_sequences(indexes[0], config, indexes[1])
    found = retokenize(indexes, sequences, load_tokenizer(other), 4, 2)
    oracle = tokenizers.Tokenizer.from_file(str(other))
    by_name = {index.name: index for index in indexes}
    wanted = [
        expected(by_name[sequences["index"][row].as_py()], sequences.slice(row, 1), oracle, 6)[0]
        for row in range(len(sequences))
    ]
    compare(found, wanted, 4)


def test_sequences_without_a_place_are_refused(tmp_path, other):
    index = build(tmp_path / "index", ["a text that is long enough for this"], "bytes")
    tokenizer = load_tokenizer(other)
    imported = pa.table({"index": [None], "shard": [None], "position": [None]})
    with pytest.raises(MemindexError, match="imported sequences"):
        retokenize([index], imported, tokenizer, 2, 2)

    def at(name, shard, position):
        return pa.table({"index": [name], "shard": [shard], "position": [position]})

    with pytest.raises(MemindexError, match="come from the index elsewhere"):
        retokenize([index], at("elsewhere", 0, 1), tokenizer, 2, 2)
    with pytest.raises(CorruptIndexError, match="has no shard 1"):
        retokenize([index], at("index", 1, 1), tokenizer, 2, 2)
    for position in (-1, 0, 10_000):
        with pytest.raises(CorruptIndexError, match="outside shard 0"):
            retokenize([index], at("index", 0, position), tokenizer, 2, 2)


@pytest.fixture(scope="module")
def code(shared):
    """Sources of some length."""
    source = next((shared / "corpora" / "mini-stack" / "heldout").rglob("*.parquet"))
    texts = [text for text in pq.read_table(source, columns=["content"])["content"].to_pylist() if text]
    return [text[:10_000] for text in texts[:40]]


def sampled(index, uniform):
    config = SequenceConfig(prefix=32, suffix=32, uniform=uniform, per_bucket=0, heldout=0, seed=1)
    return sample_sequences(index, config)[0]


@pytest.mark.parametrize(("own", "name"), [("bytes", "olmo-2"), ("pythia", "olmo-1"), ("pythia", "llama-2")])
def test_real_tokenizers_on_real_text(shared, code, tmp_path, own, name):
    index = build(tmp_path / "index", code, own if own == "bytes" else shared / "tokenizers" / own)
    sequences = sampled(index, 200)
    found = retokenize([index], sequences, load_tokenizer(shared / "tokenizers" / name), 32, 32)
    oracle = tokenizers.Tokenizer.from_file(str(shared / "tokenizers" / name / "tokenizer.json"))
    compare(found, expected(index, sequences, oracle, 64), 32)
    assert len(found.rows) > 100


def test_an_index_whose_tokenizer_drops_the_first_space_keeps_it(shared, code, tmp_path):
    index = build(tmp_path / "index", code, shared / "tokenizers" / "llama-2")
    sequences = sampled(index, 100)
    found = retokenize([index], sequences, load_tokenizer(shared / "tokenizers" / "pythia"), 32, 32)
    own, oracle = (tokenizers.Tokenizer.from_file(str(shared / "tokenizers" / n / "tokenizer.json")) for n in NAMES)
    wanted = []
    for shard, position in zip(sequences["shard"].to_pylist(), sequences["position"].to_pylist(), strict=True):
        rest, before = ids_from(index, shard, position)
        whole, head = (own.decode(ids, skip_special_tokens=False) for ids in (before + rest, before))
        assert whole.startswith(head)
        ids = oracle.encode(whole[len(head) :], add_special_tokens=False).ids
        wanted.append(ids[:64] if len(ids) >= 64 else None)
    compare(found, wanted, 32)
    assert sum(oracle.decode([row[0]]).startswith(" ") for row in found.prefixes.tolist()) > 10
