"""Folders of infini-gram files that open without a manifest: right counts, nothing written, damage named."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from infini_gram_folder import content, occurrences, random_documents, write_folder
from synthetic_corpus import assert_refused, memindex, train_bpe

from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import CorruptIndexError, MemindexError, QueryError
from memindex.index import Index

WIDTHS = (1, 2, 4)


def queries_of(documents: list[list[int]]) -> list[list[int]]:
    random = np.random.default_rng(9)
    pieces = [d[i : i + n] for d in documents[:20] for n in (1, 2, 3, 6) for i in range(0, len(d) - n + 1, 5)]
    return pieces + [random.integers(0, 5, int(n)).tolist() for n in random.integers(1, 6, 50)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shards", [1, 3, 11])
def test_a_plain_folder_opens_as_it_is_and_counts_right(tmp_path, width, shards):
    parts = [random_documents(s + 1, 5 + 3 * (s % 4), largest=4 if s else 250) for s in range(shards)]
    folder = write_folder(tmp_path / "plain", parts, width)
    (folder / "README.md").write_text("a stray file")
    (folder / "tokenized.bak").write_text("another")
    (folder / "tokenized.07").write_text("no shard")
    before = content(folder)
    index = Index.open(folder)
    documents = [d for part in parts for d in part]
    assert (index.manifest.token_width, index.manifest.shards) == (width, shards)
    assert (index.manifest.documents, index.manifest.tokens) == (len(documents), sum(map(len, documents)))
    for shard, part in enumerate(parts):
        # Shards in the order of their numbers: by name, 10 would come before 2.
        assert index.tokens_of_shard(shard).tolist()[1 : len(part[0]) + 1] == part[0]
        assert len(index.document_starts(shard)) == len(part)
    queries = queries_of(documents)
    expected = [sum(occurrences(d, q) for d in documents) for q in queries]
    assert index.count(queries).tolist() == expected
    assert [index.count_one(q) for q in queries] == expected
    assert max(expected) > 1
    index.verify()
    assert content(folder) == before


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "documents",
    [[[]], [[5]], [[], []], [[1, 2, 3]] * 40, [[7] * 300], [[0] * (65536 // 4 - 1)], [[254] * 255]],
    ids=["empty", "one token", "all empty", "equal", "one id", "64 KiB", "separators' neighbour"],
)
def test_the_width_of_small_folders_is_told(tmp_path, width, documents):
    index = Index.open(write_folder(tmp_path / "plain", [documents], width))
    assert index.manifest.token_width == width
    assert index.count_one([5]) == sum(d.count(5) for d in documents)


def test_a_shard_without_documents_is_no_obstacle(tmp_path):
    index = Index.open(write_folder(tmp_path / "plain", [[], [[1, 2]], []], 2))
    assert (index.manifest.shards, index.count_one([1, 2])) == (3, 1)


def test_texts_need_a_tokenizer(tmp_path):
    folder = write_folder(tmp_path / "plain", [[list(b"the cat sat on the mat")]], 1)
    index = Index.open(folder)
    for ask in (lambda: index.count("the"), lambda: index.count(["the"]), lambda: index.tokenizer):
        with pytest.raises(QueryError, match=r"no tokenizer.*memindex index open"):
            ask()
    # c-at, s-at, m-at.
    assert Index.open(folder, tokenizer="bytes").count(["the", "at"]).tolist() == [2, 3]


def test_documents_of_a_plain_folder(tmp_path):
    documents = [[1, 2, 3], [], [4, 1, 2]]
    metadata = [[{"path": "a.jsonl", "linenum": i, "metadata": {"n": i}} for i in range(3)]]
    for folder in (
        write_folder(tmp_path / "bare", [documents], 2),
        write_folder(tmp_path / "m", [documents], 2, metadata),
    ):
        index = Index.open(folder)
        found = index.documents([[1, 2]]).to_pylist()
        assert sorted((d["document"], d["match"], d["text"], d["domain"]) for d in found) == [
            (0, 0, None, None),
            (2, 1, None, None),
        ]
        assert sorted(d["tokens"] for d in found) == [[1, 2, 3], [4, 1, 2]]
        assert {(d["path"], d["line"]) for d in found} == (
            {(None, None)} if folder.name == "bare" else {("a.jsonl", 1), ("a.jsonl", 3)}
        )
        assert index.next_tokens([[1, 2]]).ids.tolist() == [3]
        assert index.longest_match([[9, 1, 2, 3, 1]]).lengths.tolist() == [0, 3, 2, 1, 1]


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    train_bpe(tmp_path / "tokenizer.json")
    narrow = write_folder(tmp_path / "narrow", [[[1, 2, 3]]], 1)
    with pytest.raises(MemindexError, match="don't fit 1-byte tokens"):
        Index.open(narrow, tokenizer=tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    wide = write_folder(tmp_path / "wide", [[loaded.encode("the quick fox")]], 4)
    assert Index.open(wide, tokenizer=loaded).count("the quick fox").tolist() == [1]
    with pytest.raises(MemindexError, match="unknown tokenizer"):
        Index.open(wide, tokenizer="no-such-tokenizer")


def test_by_domain_needs_sidecars(tmp_path):
    index = Index.open(write_folder(tmp_path / "plain", [[[1, 2, 3]]], 2))
    assert index.domains == []
    with pytest.raises(QueryError, match="domain"):
        index.count_by_domain([[1]])
    with pytest.raises(QueryError, match="domain"):
        index.count_by_domain_one([1])
    with pytest.raises(QueryError, match="domain"):
        index.next_tokens([[1]], by_domain=True)


def cut(name, size):
    def damage(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:size])

    return damage


def overwrite(name, offset, value):
    def damage(folder):
        whole = bytearray((folder / name).read_bytes())
        whole[offset : offset + len(value)] = value
        (folder / name).write_bytes(whole)

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def swap(first, second):
    def damage(folder):
        one, other = (folder / first).read_bytes(), (folder / second).read_bytes()
        (folder / first).write_bytes(other)
        (folder / second).write_bytes(one)

    return damage


def folder_in_place_of(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


DAMAGE = {
    "table cut": (cut("table.1", -1), r"table\.1: \d+ bytes don't fit the \d+ bytes of tokenized\.1"),
    "tokens cut": (cut("tokenized.2", -2), r"table\.2: .* don't fit .* tokenized\.2"),
    "tokens odd": (cut("tokenized.0", -1), r"table\.0: "),
    "table empty": (cut("table.0", 0), r"table\.0: 0 bytes"),
    "tokens empty": (cut("tokenized.0", 0), r"table\.0: \d+ bytes don't fit the 0 bytes"),
    "offsets odd": (cut("offset.1", -3), r"offset\.1: \d+ bytes are no whole number"),
    "offsets empty": (cut("offset.1", 0), r"offset\.1: no documents"),
    "offsets cut": (cut("offset.0", -8), r"verify: offset\.0: byte 312: the separator at byte \d+ is missing"),
    "no table": (remove("table.1"), r"table\.1: missing"),
    "no tokens": (remove("tokenized.1"), r"tokenized\.1: missing"),
    "no offsets": (remove("offset.2"), r"offset\.2: missing"),
    "folder": (folder_in_place_of("table.1"), r"table\.1: missing or no file"),
    "first start": (overwrite("offset.0", 0, b"\x02"), r"offset\.0: byte 0: 2 can't be where a document starts"),
    "start in between": (overwrite("offset.0", 8 * 39, b"\x01"), r"offset\.0: byte \d+: .* can't be"),
    "start too large": (overwrite("offset.0", 8 * 39, b"\xff" * 8), r"offset\.0: byte \d+: \d+ can't be"),
    "no separator": (overwrite("tokenized.0", 0, b"\0\0"), r"tokenized\.0: byte 0: no separator"),
    "shards mixed": (swap("tokenized.0", "tokenized.1"), r"table\.0: .* don't fit .* tokenized\.0"),
    "one more separator": (
        overwrite("tokenized.0", 4, b"\xff\xff"),
        r"verify: offset\.0: byte 8: .* it stands at 4",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path, kind):
    parts = [[[1, 2, 3, 4], *random_documents(s, 39 + s)] for s in range(3)]
    folder = write_folder(tmp_path / "plain", parts, 2)
    damage, message = DAMAGE[kind]
    damage(folder)
    if message.startswith("verify: "):
        index = Index.open(folder)
        with pytest.raises(CorruptIndexError, match=message.removeprefix("verify: ")):
            index.verify()
    else:
        with pytest.raises(CorruptIndexError, match=message) as refusal:
            Index.open(folder)
        assert len(str(refusal.value).splitlines()) == 1


def test_a_wrong_start_that_no_sample_meets_is_found_by_verify(tmp_path):
    folder = write_folder(tmp_path / "plain", [[[1, 2, 3]] * 1000], 2)
    overwrite("offset.0", 8 * 501, (8 * 501 + 2).to_bytes(8, "little"))(folder)
    index = Index.open(folder)
    with pytest.raises(CorruptIndexError, match=r"offset\.0: byte 4008: byte 4010 is not the next separator"):
        index.verify()


def test_a_table_out_of_order_is_found_by_verify(tmp_path):
    folder = write_folder(tmp_path / "plain", [random_documents(1, 50)], 2)
    table = (folder / "table.0").read_bytes()
    (folder / "table.0").write_bytes(table[:20] + table[22:24] + table[20:22] + table[24:])
    with pytest.raises(CorruptIndexError, match=r"table\.0: byte \d+"):
        Index.open(folder).verify()


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_a_missing_shard_is_named(tmp_path, missing):
    folder = write_folder(tmp_path / "plain", [random_documents(s, 4) for s in range(6)], 2)
    for kind in ("tokenized", "table", "offset"):
        (folder / f"{kind}.{missing}").unlink()
    with pytest.raises(CorruptIndexError, match=rf"tokenized\.{missing}: missing.*up to 5"):
        Index.open(folder)


def test_shards_of_two_widths_are_refused(tmp_path):
    folder = write_folder(tmp_path / "plain", [random_documents(1, 9)] * 2, 2)
    other = write_folder(tmp_path / "other", [random_documents(2, 9)], 4)
    for kind in ("tokenized", "table", "offset"):
        shutil.copy(other / f"{kind}.0", folder / f"{kind}.1")
    with pytest.raises(CorruptIndexError, match=r"table\.1: its size means 4-byte tokens"):
        Index.open(folder)


def test_versions_with_other_layouts_are_refused(tmp_path):
    plain = write_folder(tmp_path / "plain", [random_documents(1, 9)], 2)
    reverse = tmp_path / "v5_pile_gpt2"
    shutil.copytree(plain, reverse)
    with pytest.raises(MemindexError, match="version 5, whose tokens run backwards"):
        Index.open(reverse)
    for folder in (tmp_path / "one", tmp_path / "many" / "0"):
        folder.mkdir(parents=True)
        for kind in ("tokenized", "table", "offset"):
            shutil.copy(plain / f"{kind}.0", folder / kind)
    for folder in ("one", "many"):
        with pytest.raises(MemindexError, match="version 6"):
            Index.open(tmp_path / folder)


def test_folders_without_an_index_are_refused_as_before(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, said in (("empty", "an empty folder"), ("file", "a file, not an index"), ("nothing", "no such folder")):
        with pytest.raises(MemindexError, match=said):
            Index.open(tmp_path / name)


def test_the_command_line_counts_ids_and_says_how_to_get_texts(tmp_path):
    folder = write_folder(tmp_path / "plain", [[[1, 2, 3, 1, 2]]], 2)
    counted = memindex("count", "-i", folder, "--ids", "1 2", "--json")
    assert counted.stdout == '{"query": "1 2", "tokens": [1, 2], "count": 2}\n', counted.stderr
    assert_refused(memindex("count", "-i", folder, "text"), "no tokenizer", "memindex index open", "--tokenizer")
    assert_refused(memindex("count", "-i", folder, "--ids", "1 65535"), "run from 0 to 65534")
    assert_refused(memindex("count", "-i", folder, "--ids", "1", "--by-domain"), "domain")
    described = memindex("index", "info", folder)
    assert "not known" in described.stdout
    assert "elsewhere" in described.stdout
    verified = memindex("index", "verify", folder)
    assert verified.returncode == 0, verified.stderr


def test_a_count_imports_neither_numpy_nor_arrow(tmp_path):
    folder = write_folder(tmp_path / "plain", [[[1, 2, 3]]], 2)
    program = (
        "import sys; from memindex.index.index import Index; "
        f"assert Index.open({str(folder)!r}).count_one([1, 2]) == 1; "
        "print('numpy' in sys.modules, 'pyarrow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
