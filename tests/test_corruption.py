"""Damaged indexes: what opening finds, what `verify` finds and where it says it is, and a small random campaign."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_corpus import sentences, train_bpe, write_jsonl

from memindex import _core
from memindex.corpus.sources import ReadOptions
from memindex.errors import CorruptIndexError, MemindexError
from memindex.index import Index, Manifest, build_index
from memindex.index.manifest import sealed

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Two indexes of two shards, of other text in as many tokens."""
    folder = tmp_path_factory.mktemp("indexes")
    for name, step in (("one", 1), ("other", -1)):
        texts = [text[::step] for text in sentences(1200)]
        rows = [{"text": text, "domain": f"domain {i % 5 // 2}"} for i, text in enumerate(texts)]
        write_jsonl(folder / f"{name}.jsonl", rows)
        build_index(
            [folder / f"{name}.jsonl"],
            folder / name,
            tokenizer="bytes",
            options=ReadOptions(domain_field="domain"),
            shards=2,
            token_width=2,
        )
    return folder


@pytest.fixture
def copy(indexes, tmp_path):
    """A copy that may be damaged."""
    (tmp_path / "index").mkdir()
    for file in (indexes / "one").iterdir():
        (tmp_path / "index" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "index"


def without_checksums(index: Path) -> None:
    manifest = json.loads((index / "index.json").read_text())
    for facts in manifest["files"].values():
        facts["blake3"] = ""
    (index / "index.json").write_bytes(sealed(manifest))


def flip(file: Path, at: int, mask: int = 1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= mask
    file.write_bytes(content)


def fails_to_verify(index: Path) -> str:
    with pytest.raises(CorruptIndexError) as caught:
        Index.open(index).verify()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.replace(f"{index}/", "")


@pytest.mark.slow
def test_a_campaign_of_random_damage(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "corruption.py", "--cases", "300", "--seed", "7"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*map(str, command), "--json", str(tmp_path / "cases")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    cases = [json.loads(line) for line in (tmp_path / "cases").read_text().splitlines()]
    assert len(cases) == 300
    assert not [case for case in cases if "crash" in case or "hang" in case or case["untyped"]]
    # Every stage has something to find.
    assert sum(bool(case["open"]) for case in cases) > 50
    assert sum(bool(case.get("lookup")) for case in cases) > 3
    assert sum(bool(case.get("wrong")) for case in cases) > 3
    assert sum(bool(case.get("verify")) for case in cases) > 50
    # Without checksums, a letter in the metadata may change unseen, or all of a shard be another's: no other answer.
    missed = [case for case in cases if not case["open"] and not case["verify"]]
    assert {case["base"] for case in missed} <= {"u16, no checksums", "u16, infini-gram's files alone"}
    assert not [case for case in missed if {*case["wrong"]} - {"documents"} and case["kind"] != "half of another index"]


@pytest.mark.slow
def test_a_campaign_tells_of_crashes_and_hangs(tmp_path):
    script = """
import os, signal, sys, time
for case in sys.stdin:
    print('{"kind": "k", "files": ["table.0"]}', flush=True)
    if int(case) == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if int(case) == 7:
        time.sleep(60)
    print('{"open": "found", "untyped": []}', flush=True)
"""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import corruption
    finally:
        sys.path.pop(0)
    worker = corruption.Worker([sys.executable, "-c", script], patience=5.0)
    results = [worker.run(case) for case in (0, 1, 7, 8)]
    worker.close()
    assert results[0]["crash"] == -11
    assert results[2]["hang"]
    assert [corruption.found(result) for result in results] == [False, True, False, True]
    assert corruption.bad(results) == [results[0], results[2]]
    numbers = list(corruption.tables(results))[2]
    assert numbers.startswith("| k | 4 | 1 | 1 | 0 | 2 |")


@pytest.mark.parametrize("name", ["table", "tokenized", "domain", "documents.parquet", "metadata", "unigram", "offset"])
def test_verify_names_the_block_that_is_damaged(copy, name):
    file = copy / (name if "." in name else f"{name}.1")
    size = file.stat().st_size
    for at in {0, size // 2, size - 1}:
        flip(file, at)
        start = at // _core.BLOCK * _core.BLOCK
        end = min(start + _core.BLOCK, size) - 1
        try:
            Index.open(copy)
        except CorruptIndexError as error:
            assert file.name in str(error)
        else:
            assert fails_to_verify(copy).startswith(f"{file.name}: bytes {start} to {end}: the content changed")
        flip(file, at)
    Index.open(copy).verify()


def test_verify_counts_the_damaged_blocks(copy):
    file = copy / "table.0"
    assert file.stat().st_size > _core.BLOCK
    flip(file, _core.BLOCK + 7)
    assert fails_to_verify(copy).startswith(f"table.0: bytes {_core.BLOCK} to {file.stat().st_size - 1}: the content")
    flip(file, 300)
    assert fails_to_verify(copy).startswith(
        f"table.0: bytes 0 to {_core.BLOCK - 1}: the content changed (and in 1 more"
    )


def test_verify_of_damaged_block_checksums(copy):
    file = copy / "checksums.bin"
    flip(file, 40)
    flip(copy / "table.0", 300)
    size = file.stat().st_size
    assert fails_to_verify(copy).startswith(f"checksums.bin: bytes 0 to {size - 1}: the content changed")


def test_verify_of_a_manifest_with_another_checksum(copy):
    manifest = json.loads((copy / "index.json").read_text())
    manifest["files"]["table.0"]["blake3"] = "0" * 64
    (copy / "index.json").write_bytes(sealed(manifest))
    assert fails_to_verify(copy).startswith("table.0: every block is as built, but index.json tells another checksum")


def test_a_damaged_document_table_without_checksums_is_one_line(copy):
    without_checksums(copy)
    whole = (copy / "documents.parquet").read_bytes()
    noticed = 0
    for at in np.linspace(0, len(whole) - 1, 200).astype(int).tolist():
        flip(copy / "documents.parquet", at, 0xFF)
        try:
            Index.open(copy).verify()
        except CorruptIndexError as error:
            assert re.match(r".*/documents\.parquet: [^\n]+$", str(error))
            noticed += 1
        flip(copy / "documents.parquet", at, 0xFF)
    assert noticed > 50


def test_checksums_are_those_of_b3sum(tmp_path):
    # The official test vector of BLAKE3 for 102,400 bytes 0, 1, … 250, 0, …
    (tmp_path / "file").write_bytes(bytes(i % 251 for i in range(102_400)))
    whole, blocks = _core.block_checksums(tmp_path / "file")
    assert whole == _core.checksum(tmp_path / "file") == _core.checksum_bytes((tmp_path / "file").read_bytes())
    assert whole.startswith("bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085")
    assert len(blocks) == 64


#: Damage that only a proof can find where there are no checksums: file, bytes to change at an offset, what is said.
PROVEN = {
    "offsets in disorder": ("offset.0", 8, b"\0\0\0\0\0\0\0\0", "offset.0: byte 8: byte 0 is not the next separator"),
    "an offset beyond the text": ("offset.0", 15, b"\x7f", "offset.0: byte 8: byte"),
    "a wrong unigram": ("unigram.0", -2, b"9", r"unigram.0: byte \d+: id 65535 stands \d+ times"),
    "no line of a unigram": ("unigram.0", 0, b"x", "unigram.0: byte 0: not a line of id and count"),
    "a metadata offset": ("metaoff.1", 16, b"\1", r"metaoff.1: byte 16: line 3 starts at byte \d+"),
    "a metadata line": ("metadata.1", 0, b"x", "metadata.1: byte 0: line 1 is not a JSON object"),
    "a line end in metadata": ("metadata.1", -1, b" ", r"metadata.1: byte \d+: line 600 is not a JSON object"),
    "a domain": ("domain.0", 100, b"\2", r"domain.0: byte 100: the suffix is of domain \d, its document's, not 2"),
    "a domain that does not exist": ("domain.0", 100, b"\xff", "domain.0: byte 100: "),
    "the first row of sums": ("domainsum.1", 0, b"\1", "domainsum.1: byte 0: cumulative counts do not begin with 0"),
    "a later row of sums": ("domainsum.1", 240, b"\xff", r"domainsum.1: byte 240: cumulative counts go from \d+ to"),
    "a pointer": ("table.0", 300, b"\1\2\3", r"table.0: byte \d+: "),
    "a token": ("tokenized.0", 20, b"\xf9", r"unigram.0: byte \d+: id \d+ stands \d+ times in the tokens"),
}


@pytest.mark.parametrize("case", PROVEN.values(), ids=PROVEN)
def test_verify_proves_files_without_checksums(copy, case):
    name, at, new, message = case
    without_checksums(copy)
    Index.open(copy).verify()
    content = bytearray((copy / name).read_bytes())
    at %= len(content)
    assert content[at : at + len(new)] != new
    content[at : at + len(new)] = new
    (copy / name).write_bytes(content)
    assert re.match(message, fails_to_verify(copy))


def test_verify_proves_every_key(copy):
    without_checksums(copy)
    file = copy / "keys.0"
    for at in np.linspace(0, file.stat().st_size - 1, 40).astype(int).tolist():
        flip(file, at)
        with pytest.raises(CorruptIndexError, match=r"keys\.0: "):
            Index.open(copy).verify()
        flip(file, at)
    Index.open(copy).verify()


def test_verify_refines_a_damaged_block_to_an_entry(copy):
    file = copy / "domain.0"
    content = bytearray(file.read_bytes())
    content[1000] = (content[1000] + 1) % 3
    file.write_bytes(content)
    message = fails_to_verify(copy)
    assert message.startswith("domain.0: bytes 0 to ")
    assert "; byte 1000: the suffix is of domain" in message


@pytest.mark.parametrize("kind", ["tokenized", "table", "keys", "domain", "domainsum"])
@pytest.mark.parametrize("how", ["of the other shard", "of another index", "exchanged between shards"])
def test_files_of_equal_size_that_belong_elsewhere_are_found_at_open(copy, indexes, kind, how):
    ours, theirs = (copy / f"{kind}.0").read_bytes(), (copy / f"{kind}.1").read_bytes()
    if how == "of another index":
        theirs = (indexes / "other" / f"{kind}.0").read_bytes()
    if len(ours) != len(theirs):
        theirs = (theirs * 2)[: len(ours)]
    assert ours != theirs
    (copy / f"{kind}.0").write_bytes(theirs)
    if how == "exchanged between shards":
        without_sizes(copy, f"{kind}.0", f"{kind}.1")
        (copy / f"{kind}.1").write_bytes((ours * 2)[: (copy / f"{kind}.1").stat().st_size])
    with pytest.raises(CorruptIndexError, match=r"\.[01]"):
        Index.open(copy)


def without_sizes(index: Path, *names: str) -> None:
    manifest = json.loads((index / "index.json").read_text())
    for name in names:
        manifest["files"][name]["bytes"] = (index / name).stat().st_size
    (index / "index.json").write_bytes(sealed(manifest))


@pytest.mark.parametrize("name", ["index.json", "tokenized.0", "keys.1", "documents.parquet"])
def test_what_is_no_regular_file_is_refused(copy, name):
    file = copy / name
    content = file.read_bytes()
    file.unlink()
    file.mkdir()
    with pytest.raises((CorruptIndexError, OSError), match=name):
        Index.open(copy)
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(CorruptIndexError, match=f"{name}: not a regular file"):
        Index.open(copy)
    file.unlink()
    file.symlink_to(file)
    with pytest.raises((MemindexError, OSError), match=name):
        Index.open(copy)
    file.unlink()
    file.symlink_to(copy / "nowhere")
    with pytest.raises(MemindexError, match=r"missing|not an index|no such folder"):
        Index.open(copy)
    file.unlink()
    # A link to a file is as good as the file.
    (copy / "elsewhere").write_bytes(content)
    file.symlink_to(copy / "elsewhere")
    Index.open(copy).verify()


def test_a_shard_alone_refuses_a_pipe(copy):
    (copy / "tokenized.0").unlink()
    os.mkfifo(copy / "tokenized.0")
    with pytest.raises(CorruptIndexError, match=r"tokenized\.0: not a regular file"):
        _core.Shard(copy, 0, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["index.json", "table.0"])
def test_a_file_that_may_not_be_read_is_named(copy, name):
    (copy / name).chmod(0)
    with pytest.raises(PermissionError, match=name):
        Index.open(copy)


@pytest.mark.parametrize("name", ["tokenized.0", "table.1", "domainsum.0", "index.json", "offset.0"])
def test_an_empty_file_is_refused(copy, name):
    (copy / name).write_bytes(b"")
    with pytest.raises(CorruptIndexError, match=name):
        Index.open(copy)


def test_an_index_without_its_manifest_is_refused(copy):
    (copy / "index.json").unlink()
    with pytest.raises(CorruptIndexError, match=r"index\.json: missing"):
        Index.open(copy)
    (copy / "documents.parquet").unlink()
    assert not Index.open(copy).domains


def test_any_changed_byte_of_the_manifest_is_found(copy):
    file = copy / "index.json"
    whole = file.read_bytes()
    # All of the checksum's line, and bytes here and there before it.
    for at in [*range(0, len(whole) - 90, 7), *range(len(whole) - 90, len(whole))]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(CorruptIndexError):
            Manifest.read(copy)
    file.write_bytes(whole)
    Index.open(copy).verify()


def test_a_manifest_of_before_there_was_a_checksum_opens(copy):
    manifest = json.loads((copy / "index.json").read_text())
    del manifest["checksum"]
    (copy / "index.json").write_text(json.dumps(manifest))
    Index.open(copy).verify()


def test_a_manifest_that_changed_since_open_is_told(copy):
    index = Index.open(copy)
    manifest = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_bytes(sealed({**manifest, "name": "other"}))
    with pytest.raises(CorruptIndexError, match="another version took its place: open it again"):
        index.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: [{**d[0], "name": d[1]["name"]}, {**d[1], "name": d[0]["name"]}, *d[2:]], "documents.parquet: "),
        (lambda d: [{**d[0], "name": "new"}, *d[1:]], "the domain is not one of index.json"),
        (
            lambda d: [{**d[0], "tokens": d[0]["tokens"] + 1}, {**d[1], "tokens": d[1]["tokens"] - 1}, *d[2:]],
            "of domain",
        ),
    ],
    ids=["names exchanged", "a new name", "tokens moved"],
)
def test_a_manifest_that_lies_about_domains_is_found(copy, change, message):
    manifest = json.loads((copy / "index.json").read_text())
    manifest["domains"] = change(manifest["domains"])
    (copy / "index.json").write_bytes(sealed(manifest))
    assert message in fails_to_verify(copy)


def test_a_changed_tokenizer_is_an_error_when_it_is_used(tmp_path):
    train_bpe(tmp_path / "tokenizer.json")
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in sentences(20)])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer=tmp_path / "tokenizer.json")
    file = tmp_path / "out" / "tokenizer.json"
    text = file.read_text()
    file.write_text(text.replace("0", "1", 1))
    index = Index.open(tmp_path / "out")
    with pytest.raises(CorruptIndexError, match=r"tokenizer\.json: its SHA-256"):
        index.count("fox")
    assert index.count_one([5]) >= 0
