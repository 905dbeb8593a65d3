"""Corpora at addresses: fsspec's files in memory, and a web server of this process."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import json
import pickle
import threading

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_corpus_megatron import write as write_token_files

from memindex.corpus.documents import BadDocuments
from memindex.corpus.remote import shown
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.errors import CorpusError, MemindexError
from memindex.index import Index, build_index


def read(sources, bad=None, **options):
    options = ReadOptions(**options)
    batches = read_documents(find_files(sources, options), options, bad or BadDocuments())
    return [row for batch in batches for row in batch.to_pylist()]


def lines(*words):
    return b"".join(json.dumps({"text": word}).encode() + b"\n" for word in words)


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


@pytest.fixture
def corpus(memory):
    memory.pipe(
        {
            "/pile/a/00.jsonl.gz": gzip.compress(lines("one", "two")),
            "/pile/a/01.jsonl": lines("three"),
            "/pile/b/00.jsonl": lines("four"),
            "/pile/README.md": b"about",
            "/pile/.hidden.jsonl": lines("hidden"),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["five", "six"]}), sink)
    memory.pipe("/pile/c/x.parquet", sink.getvalue().to_pybytes())
    return memory


def test_a_folder_is_read_like_a_local_one(corpus, tmp_path):
    rows = read(["memory://pile"])
    assert [(r["text"].decode(), r["path"], r["domain"]) for r in rows] == [
        ("one", "a/00.jsonl.gz", "a"),
        ("two", "a/00.jsonl.gz", "a"),
        ("three", "a/01.jsonl", "a"),
        ("four", "b/00.jsonl", "b"),
        ("five", "c/x.parquet", "c"),
        ("six", "c/x.parquet", "c"),
    ]
    corpus.get("/pile", str(tmp_path / "pile"), recursive=True)
    assert rows == read([tmp_path / "pile"])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("memory://pile/a/01.jsonl", ["three"]),
        ("memory://pile/*/00.jsonl*", ["one", "two", "four"]),
        ("memory://pile/**/*.jsonl", ["three", "four"]),
        ("memory://pile/[bc]/*", ["four", "five", "six"]),
    ],
)
def test_files_and_patterns(corpus, source, expected):
    assert [row["text"].decode() for row in read([source])] == expected


def test_addresses_beside_local_files(corpus, tmp_path):
    (tmp_path / "l.jsonl").write_bytes(lines("local"))
    rows = read(["memory://pile/a", tmp_path / "l.jsonl", "memory://pile/b/00.jsonl"])
    assert [row["text"].decode() for row in rows] == ["one", "two", "three", "local", "four"]
    assert len({row["path"] for row in rows}) == 4
    with pytest.raises(CorpusError, match="given twice"):
        read(["memory://pile/a", "memory://pile/*/01.jsonl"])


def test_token_files_at_an_address(memory, tmp_path):
    made = [[1, 2, 3], [], [4, 5]]
    file = write_token_files(tmp_path / "data", made)
    for suffix in (".idx", ".bin"):
        memory.pipe(f"/tokens/data{suffix}", file.with_suffix(suffix).read_bytes())
    assert [row["tokens"] for row in read(["memory://tokens"], rows_per_step=2)] == made
    with pytest.raises(CorpusError, match=r"data\.idx: name the folder instead"):
        read(["memory://tokens/data.idx"])


def test_an_index_is_built_from_an_address(corpus, tmp_path):
    build_index(["memory://pile"], tmp_path / "out", tokenizer="bytes")
    index = Index.open(tmp_path / "out")
    assert index.manifest.documents == 6
    assert index.count(["three", "o", "hidden"]).tolist() == [1, 3, 0]
    assert not (tmp_path / "pile").exists()


def test_found_files_can_go_to_another_process(corpus):
    options = ReadOptions()
    files = pickle.loads(pickle.dumps(find_files(["memory://pile"], options)))
    assert sum(len(batch) for batch in read_documents(files, options, BadDocuments())) == 6
    assert all(file.bytes > 0 and file.file.stat().st_mtime_ns > 0 for file in files)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("memory://nothing", "no such file or folder"),
        ("memory://pile/nothing.jsonl", "no such file or folder"),
        ("memory://pile/*.nothing", "no files"),
        ("nosuchprotocol://bucket/a", "nosuchprotocol"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(corpus, source, part):
    with pytest.raises(MemindexError, match=part) as caught:
        read([source])
    assert "\n" not in str(caught.value)


def test_a_local_address_is_a_path(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.jsonl").write_bytes(lines("local"))
    for source in (f"file://{tmp_path}/c", f"file://{tmp_path}/c/*.jsonl", f"file://{tmp_path}/c/a.jsonl"):
        assert [(row["text"], row["path"]) for row in read([source])] == [(b"local", "a.jsonl")]


def test_damage_at_an_address_is_named(corpus):
    data = corpus.cat("/pile/a/00.jsonl.gz")
    corpus.pipe("/pile/a/00.jsonl.gz", data[:-5])
    with pytest.raises(CorpusError, match=r"memory://pile/a/00\.jsonl\.gz: can't be decompressed"):
        read(["memory://pile"])
    bad = BadDocuments(skip=True)
    assert [row["text"].decode() for row in read(["memory://pile"], bad)] == [
        "one", "two", "three", "four", "five", "six",
    ]  # fmt: skip
    assert bad.count == 1


def test_a_connection_that_breaks_is_no_bad_document(corpus, monkeypatch):
    def broken(self, *arguments):
        raise ConnectionResetError("connection to memory://user:secret@pile reset")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", broken)
    with pytest.raises(MemindexError, match=r"memory://pile.*: can't be read: .*reset") as caught:
        read(["memory://pile"], BadDocuments(skip=True))
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, CorpusError)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("s3://bucket/a.jsonl", "s3://bucket/a.jsonl"),
        ("https://user:secret@host/a.jsonl?X-Signature=secret#secret", "https://host/a.jsonl"),
        ("ftp://user:secret@host/a", "ftp://host/a"),
        ("sftp://user:secret@host/a", "sftp://host/a"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("abfs://container/a.jsonl?sv=2024&sig=secret", "abfs://container/a.jsonl"),
        ("s3://bucket/0?.jsonl", "s3://bucket/0?.jsonl"),
        ("simplecache::https://secret@host/a?token=secret", "simplecache::https://host/a"),
        ("https://host/a@b/c.jsonl", "https://host/a@b/c.jsonl"),
    ],
)
def test_secrets_of_an_address_are_not_shown(url, bare):
    assert shown(url) == bare


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with the ranges that Parquet asks for."""

    def log_message(self, *arguments):
        pass

    def send_head(self):
        asked = self.headers.get("Range")
        if not asked or self.command != "GET":
            return super().send_head()
        with open(self.translate_path(self.path), "rb") as file:  # noqa: PTH123
            data = file.read()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None


@pytest.fixture
def server(tmp_path):
    (tmp_path / "www").mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "www")
    ) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield tmp_path / "www", f"127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_files_of_a_web_server(server):
    pytest.importorskip("aiohttp")
    folder, host = server
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines("one", "two")))
    pq.write_table(pa.table({"text": ["three"]}), folder / "b.parquet")
    with contextlib.suppress(FileNotFoundError):
        (folder / "index.html").unlink()
    rows = read([f"http://{host}/a.jsonl.gz?signature=secret", f"http://{host}/b.parquet"])
    assert [row["text"].decode() for row in rows] == ["one", "two", "three"]
    assert not any("secret" in row["path"] for row in rows)
    assert [row["text"].decode() for row in read([f"http://{host}/*.gz"])] == ["one", "two"]
    with pytest.raises(MemindexError, match="no such file") as caught:
        read([f"http://{host}/c.jsonl?signature=secret"])
    assert "secret" not in str(caught.value)
    with pytest.raises(MemindexError, match="no folders: name files, a pattern, or @"):
        read([f"http://{host}/"])
    (folder / "d.jsonl").write_bytes(b'{"text": 5}\n')
    with pytest.raises(CorpusError, match=r"/d\.jsonl:1: ") as caught:
        read([f"http://{host}/d.jsonl?signature=secret"])
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    import fsspec.core

    def missing(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MemindexError, match=r"needs s3fs, .*pip install .*\[remote\]'"):
        read(["s3://bucket/a.jsonl"])


@pytest.mark.parametrize("remote", [True, False])
def test_a_list_of_addresses(corpus, tmp_path, remote):
    addresses = "memory://pile/b/00.jsonl\n\n# a remark\nmemory://pile/a/00.jsonl.gz\nmemory://pile/c/x.parquet\n"
    (tmp_path / "urls.txt").write_text(addresses)
    corpus.pipe("/lists/urls.txt", addresses.encode())
    rows = read(["@memory://lists/urls.txt" if remote else f"@{tmp_path}/urls.txt"])
    assert [(r["text"].decode(), r["path"], r["domain"]) for r in rows] == [
        ("one", "a/00.jsonl.gz", "a"),
        ("two", "a/00.jsonl.gz", "a"),
        ("four", "b/00.jsonl", "b"),
        ("five", "c/x.parquet", "c"),
        ("six", "c/x.parquet", "c"),
    ]
    (tmp_path / "urls.txt").write_text(addresses + "memory://pile/nothing.jsonl\n")
    with pytest.raises(MemindexError, match=r"memory://pile/nothing\.jsonl: no such file"):
        read([f"@{tmp_path}/urls.txt"])


@pytest.mark.parametrize("text", ["", "a/local/path\n", "memory://a\nnonsense"])
def test_what_is_no_list_of_addresses_is_refused(tmp_path, text):
    (tmp_path / "urls.txt").write_text(text)
    with pytest.raises(MemindexError, match=r"urls\.txt: not a list of addresses"):
        read([f"@{tmp_path}/urls.txt"])
    with pytest.raises(MemindexError, match=r"nothing\.txt: no such file"):
        read([f"@{tmp_path}/nothing.txt"])
