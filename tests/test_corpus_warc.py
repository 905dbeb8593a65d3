"""WET files, against files that `warcio` writes, and against records written here."""

from __future__ import annotations

import gc
import gzip
import io
import json

import pytest
import zstandard
from synthetic_corpus import AWKWARD
from test_corpus_jsonl import read, texts

from memindex.corpus import warc
from memindex.corpus.documents import BadDocuments
from memindex.errors import CorpusError

TEXTS = [f"page {i}\n{AWKWARD[i % len(AWKWARD)]}" for i in range(60)]


def record(content, kind="conversion", number=0, **headers):
    content = content.encode("utf-8") if isinstance(content, str) else content
    fields = {"WARC-Type": kind, "WARC-Target-URI": f"https://example.org/{number}", **headers}
    lines = ["WARC/1.0", *(f"{name}: {value}" for name, value in fields.items()), f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n\r\n"


RECORDS = [record("software: test\r\n", "warcinfo"), *(record(text, number=i) for i, text in enumerate(TEXTS))]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.wet", b"".join(RECORDS)),
        ("a.warc.wet.gz", b"".join(map(gzip.compress, RECORDS))),
        ("A.WARC.GZ", gzip.compress(b"".join(RECORDS))),
        ("a.warc.zst", zstandard.compress(b"".join(RECORDS))),
    ],
)
@pytest.mark.parametrize("batch", [50, 1 << 22])
def test_records_of_text_are_documents(tmp_path, monkeypatch, name, data, batch):
    monkeypatch.setattr(warc, "BATCH_BYTES", batch)
    (tmp_path / name).write_bytes(data)
    rows = read(tmp_path / name)
    assert texts(rows) == TEXTS
    assert [row["line"] for row in rows] == list(range(2, 62))
    assert [json.loads(row["metadata"])["warc-target-uri"] for row in rows] == [
        f"https://example.org/{i}" for i in range(60)
    ]


def test_a_header_may_be_the_domain(tmp_path):
    languages = ["eng", "deu", "eng"]
    made = [record("x", number=i, **{"WARC-Identified-Content-Language": v}) for i, v in enumerate(languages)]
    (tmp_path / "a.wet").write_bytes(b"".join(made))
    assert [r["domain"] for r in read(tmp_path / "a.wet", domain_field="WARC-Identified-Content-Language")] == languages
    with pytest.raises(CorpusError, match=r"a\.wet: record 1: no header WARC-Language"):
        read(tmp_path / "a.wet", domain_field="WARC-Language")


def test_bad_records_are_named_and_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(warc, "LONGEST_DOCUMENT", 1000)
    made = [record("one"), record(b"\xff\xfe"), record("long" * 1000), record("two")]
    (tmp_path / "a.wet").write_bytes(b"".join(made))
    with pytest.raises(CorpusError, match=r"a\.wet: record 2: not UTF-8"):
        read(tmp_path / "a.wet")
    bad = BadDocuments(skip=True)
    assert texts(read(tmp_path / "a.wet", bad=bad)) == ["one", "two"]
    assert [report.split(": ")[1] for report in bad.first] == ["record 2", "record 3"]


def test_every_cut_is_noticed(tmp_path):
    whole = b"".join(RECORDS[:4])
    ends = {sum(map(len, RECORDS[:n])) - blank for n in range(5) for blank in range(5)}
    for cut in range(1, len(whole)):
        (tmp_path / "a.wet").write_bytes(whole[:cut])
        if cut in ends:
            # Between two records nothing tells that others followed; blank lines behind the last one may be missing.
            continue
        with pytest.raises(CorpusError, match=r"a\.wet: record \d: "):
            read(tmp_path / "a.wet")


@pytest.mark.parametrize(
    "data", [b"nonsense " * 20, b"WARC/1.0\r\n\r\n", b"WARC/1.0\r\nContent-Length: x\r\n\r\n", b"x" * 3_000_000]
)
def test_what_is_no_warc_is_refused(tmp_path, data):
    (tmp_path / "a.warc").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.warc: record 1: "):
        read(tmp_path / "a.warc")


def test_web_pages_are_refused_with_where_the_text_is(tmp_path):
    (tmp_path / "a.warc").write_bytes(record("HTTP/1.1 200 OK\r\n\r\n<html>", "response"))
    with pytest.raises(CorpusError, match="take the WET files"):
        read(tmp_path / "a.warc")


@pytest.mark.filterwarnings("ignore")  # warcio leaves temporary files open
def test_what_warcio_writes_is_read_as_warcio_reads_it(tmp_path):
    warcio = pytest.importorskip("warcio")
    from warcio.archiveiterator import ArchiveIterator

    with (tmp_path / "a.warc.wet.gz").open("wb") as stream:
        writer = warcio.WARCWriter(stream, gzip=True)
        writer.write_record(writer.create_warcinfo_record("a.warc.wet.gz", {"software": "test"}))
        for number, text in enumerate(TEXTS):
            made = writer.create_warc_record(
                f"https://example.org/{number}",
                "conversion",
                payload=io.BytesIO(text.encode("utf-8")),
                warc_headers_dict={"WARC-Identified-Content-Language": "eng"},
            )
            writer.write_record(made)
    del made, writer
    gc.collect()
    with (tmp_path / "a.warc.wet.gz").open("rb") as stream:
        expected = [
            (r.content_stream().read(), r.rec_headers.get_header("WARC-Target-URI"))
            for r in ArchiveIterator(stream)
            if r.rec_type == "conversion"
        ]
    rows = read(tmp_path / "a.warc.wet.gz")
    assert [(row["text"], json.loads(row["metadata"])["warc-target-uri"]) for row in rows] == expected
    assert texts(rows) == TEXTS
