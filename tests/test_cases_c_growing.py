"""Row C6: corpus files that change while an index is built of them are named, with size and time before and after."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import assert_refused, memindex, sentences, write_jsonl
from test_corpus_megatron import write as write_megatron

from memindex.corpus.documents import ReadOptions
from memindex.index import Index, build_index
from memindex.index.adding import add_documents

ROWS = [{"text": text} for text in sentences(40)]


def changing(change, stage="sort"):
    """A progress callback that does something once, when a stage begins."""
    left = [change]

    def told(name, *_):
        if name == stage and left:
            left.pop()()

    return told


def jsonl(folder):
    return write_jsonl(folder / "a.jsonl", ROWS)


def packed(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)))
    return folder / "a.jsonl.gz"


def parquet(folder):
    pq.write_table(pa.table({"text": [row["text"] for row in ROWS]}), folder / "a.parquet")
    return folder / "a.parquet"


def text(folder):
    (folder / "a.txt").write_text("needle")
    return folder / "a.txt"


@pytest.mark.parametrize("make", [jsonl, packed, parquet, text])
def test_c6_a_file_that_grows_is_reported(tmp_path, make):
    (tmp_path / "c").mkdir()
    file = make(tmp_path / "c")
    before = file.stat()

    def grow():
        with file.open("ab") as stream:
            stream.write(b'{"text": "more"}\n')

    done = build_index([tmp_path / "c"], tmp_path / "index", tokenizer="bytes", progress=changing(grow))
    (changed,) = done.changed
    assert (changed.file, changed.bytes_before, changed.bytes_after) == (str(file), before.st_size, before.st_size + 17)
    assert changed.documents == done.manifest.documents == (1 if make is text else 40)
    assert str(changed).startswith(f"{file}: grew while it was indexed ({before.st_size:,} bytes (20")
    assert f", {before.st_size + 17:,} bytes (20" in str(changed)


def test_c6_shrunk_replaced_and_removed_files_are_reported(tmp_path):
    names = ["grown", "shrunk", "replaced", "removed", "same"]
    files = {name: write_jsonl(tmp_path / "c" / f"{name}.jsonl", ROWS[:3]) for name in names}
    size = files["same"].stat().st_size

    def change():
        files["shrunk"].write_bytes(b"{}\n")
        os.utime(files["replaced"], (1_600_000_000, 1_600_000_000))
        files["removed"].unlink()
        write_jsonl(files["grown"], ROWS)

    done = build_index([tmp_path / "c"], tmp_path / "index", tokenizer="bytes", progress=changing(change))
    found = {changed.file: changed for changed in done.changed}
    assert set(found) == {str(files[name]) for name in names[:4]}
    words = {"grown": "grew", "shrunk": "shrank", "replaced": "was written again", "removed": "was removed"}
    for name, word in words.items():
        changed = found[str(files[name])]
        assert f"{name}.jsonl: {word} while it was indexed ({size} bytes (20" in str(changed)
        assert changed.documents == 3
    assert found[str(files["replaced"])].changed_after == "2020-09-13T12:26:40Z"
    assert found[str(files["removed"])].bytes_after is None


def test_c6_parts_of_token_files_belong_to_them(tmp_path):
    (tmp_path / "c").mkdir()
    write_megatron(tmp_path / "c" / "a", [np.arange(9, dtype=np.uint16)])

    def grow():
        with (tmp_path / "c" / "a.bin").open("ab") as stream:
            stream.write(b"\0\0")

    done = build_index([tmp_path / "c"], tmp_path / "index", tokenizer="bytes", progress=changing(grow))
    assert [(changed.file, changed.documents) for changed in done.changed] == [(str(tmp_path / "c" / "a.idx"), 1)]


def test_c6_add_reports_it_too_and_a_build_of_still_files_reports_nothing(tmp_path):
    first = write_jsonl(tmp_path / "first.jsonl", ROWS[:5])
    assert build_index([first], tmp_path / "index", tokenizer="bytes").changed == []
    more = write_jsonl(tmp_path / "more.jsonl", ROWS[5:9])
    done = add_documents(tmp_path / "index", [more], progress=changing(lambda: write_jsonl(more, ROWS)))
    assert [(changed.file, changed.documents) for changed in done.changed] == [(str(more), 4)]


def test_c6_a_file_at_an_address_that_grows_is_reported(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe({"/growing/a.jsonl": b'{"text": "one"}\n'})
    try:
        grow = changing(lambda: system.pipe("/growing/a.jsonl", b'{"text": "one"}\n' * 2))
        done = build_index(["memory://growing"], tmp_path / "index", tokenizer="bytes", progress=grow)
        assert [(changed.file, changed.bytes_before, changed.bytes_after) for changed in done.changed] == [
            ("memory://growing/a.jsonl", 16, 32)
        ]
    finally:
        system.rm("/growing", recursive=True)


def test_c6_a_file_that_changed_before_a_build_went_on_is_read_again(tmp_path):
    files = [write_jsonl(tmp_path / "c" / f"{name}.jsonl", ROWS[:20]) for name in ("a", "b")]

    def stop():
        raise RuntimeError("stopped")

    how = {"tokenizer": "bytes", "unit_bytes": 1, "workers": 1, "options": ReadOptions()}
    with pytest.raises(RuntimeError, match="stopped"):
        build_index([tmp_path / "c"], tmp_path / "index", progress=changing(stop), **how)
    write_jsonl(files[1], ROWS)
    done = build_index([tmp_path / "c"], tmp_path / "index", **how)
    assert (done.manifest.documents, done.changed) == (60, [])
    build_index([tmp_path / "c"], tmp_path / "fresh", **how)
    assert Index.open(tmp_path / "index").count([" 39."]).tolist() == [1]
    for name in ("tokenized.0", "table.0", "sources.parquet"):
        assert (tmp_path / "index" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_c6_the_command_line_warns_and_its_json_has_it(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", ROWS)
    script = f"""
import sys
from memindex.index import builder
whole = builder.Pipeline.run
def run(self, *arguments):
    done = whole(self, *arguments)
    open({str(file)!r}, "ab").write(b"more")
    return done
builder.Pipeline.run = run
from memindex.cli import main
main()
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, tmp_path / "script.py", "index", "build", file, "--tokenizer", "bytes", "--json"]
    done = subprocess.run([*command, "--out", tmp_path / "index"], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if "warning" in line]
    assert line.startswith(f"warning: {file}: grew while it was indexed (")
    assert line.endswith("the index has 40 documents of it, as it was read: to index it as it is now, index it again")
    (changed,) = json.loads(done.stdout)["changed_files"]
    assert (changed["bytes_after"] - changed["bytes_before"], changed["documents"]) == (4, 40)
    assert_refused(memindex("index", "add", tmp_path / "index", file), "changed since")
