"""Inputs that came out wrong: links, packed files, damage, files that are something else (rows A1 to A9, A14).

The oracles are Python's gzip, lzma, bz2 and json, the zstandard package, and tarfile; never memindex itself.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from synthetic_corpus import assert_refused, memindex, sentences, train_bpe, write_jsonl
from test_corpus_sources import read, texts, tree
from test_corpus_warc import record

from memindex.corpus import packing
from memindex.corpus.documents import BadDocuments, BytesRead, ReadOptions
from memindex.corpus.sources import find_files, read_documents
from memindex.corpus.streams import chunks
from memindex.corpus.windows import WindowError
from memindex.errors import CorpusError, MemindexError
from memindex.index import Index, build_index, cluster, engines, estimating, sharding
from memindex.index.adding import add_documents
from memindex.index.estimating import estimate_build
from memindex.study.planting import PlantPlan, plant

NEEDLE = '{"text": "a needle here"}\n'


def names_of(source, **options):
    return [file.name for file in find_files([source], ReadOptions(**options))]


def linked(tmp_path):
    """The corpus of row A1: c/en is a link to a folder beside c."""
    root = tree(tmp_path, {"s/en/a.jsonl": NEEDLE, "c/fr/c.jsonl": NEEDLE}) / "c"
    (root / "en").symlink_to("../s/en")
    return root


# A1 and A2: links


def test_a1_links_are_followed_once(tmp_path):
    root = linked(tmp_path)
    for number, source in enumerate((root, f"{root}/**/*.jsonl", f"{root}/*/*.jsonl")):
        build_index([source], tmp_path / f"index{number}", tokenizer="bytes")
        index = Index.open(tmp_path / f"index{number}")
        assert index.count(["needle"]).tolist() == [2]
        assert sorted(index.domains) == ["en", "fr"]
    done = memindex("index", "build", root, "--tokenizer", "bytes", "--out", tmp_path / "cli", "--dry-run", "--json")
    assert (json.loads(done.stdout)["files"], json.loads(done.stdout)["documents"]) == (2, 2)


def test_a1_a_folder_of_links_only(tmp_path):
    tree(tmp_path, {"s/1/a.txt": "one", "s/2/b.txt": "two", "s/c.txt": "three"})
    root = tmp_path / "links"
    root.mkdir()
    for name, target in (("x", "1"), ("y", "2"), ("z.txt", "c.txt"), ("gone", "nowhere"), ("self", "../links/self")):
        (root / name).symlink_to(f"../s/{target}")
    assert names_of(root) == ["x/a.txt", "y/b.txt", "z.txt"]
    assert texts(read([root])) == ["one", "two", "three"]


def test_a1_add_and_plant_follow_links(tmp_path):
    root = linked(tmp_path)
    tokenizer = tmp_path / "tokenizer.json"
    train_bpe(tokenizer)
    first = write_jsonl(tmp_path / "first.jsonl", [{"text": text} for text in sentences(20)])
    build_index([first], tmp_path / "index", tokenizer=tokenizer)
    add_documents(tmp_path / "index", [root])
    index = Index.open(tmp_path / "index")
    assert index.count(["a needle here"]).tolist() == [2]
    write_jsonl(tmp_path / "s/other/x.jsonl", [{"text": text} for text in sentences(80, words=30, seed=9)])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to("../s/other")
    plan = PlantPlan((1, 2), 2, (8,))
    done = plant(index, [tmp_path / "other"], tmp_path / "planted", plan, ReadOptions())
    assert set(done.table["path"].to_pylist()) == {"link/x.jsonl"}


def test_a1_the_name_with_the_fewest_links_is_taken(tmp_path):
    root = tree(tmp_path / "c", {"real/deep/a.txt": "a", "real/b.txt": "b"})
    (root / "aa").symlink_to("real")
    (root / "ab.txt").symlink_to("real/b.txt")
    tree(tmp_path / "s", {"out/c.txt": "c", "d.txt": "d"})
    for name in ("l2", "l1"):
        (root / name).symlink_to(tmp_path / "s" / "out")
        (root / f"{name}.txt").symlink_to(tmp_path / "s" / "d.txt")
    expected = ["l1.txt", "l1/c.txt", "real/b.txt", "real/deep/a.txt"]
    assert sorted(names_of(root)) == expected
    assert sorted(names_of(f"{root}/**")) == expected
    # A pattern takes what it names, by that name.
    assert names_of(f"{root}/a*/*.txt") == ["aa/b.txt"]
    assert names_of(f"{root}/l[12]/*") == ["l1/c.txt"]


def test_a1_a_link_to_a_hidden_folder_or_file_is_followed(tmp_path):
    root = tree(tmp_path / "c", {".store/a.txt": "a", ".b": "b"})
    (root / "data").symlink_to(".store")
    (root / "b.txt").symlink_to(".b")
    assert names_of(root) == ["b.txt", "data/a.txt"]


@pytest.mark.timeout(60)
def test_a2_links_around_in_circles_end(tmp_path, monkeypatch):
    root = tree(tmp_path / "c", {"x/a.jsonl": '{"text": "a"}', "b.jsonl": '{"text": "b"}'})
    for name in ("l1", "l2", "x/up", "x/l3"):
        (root / name).symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to("loop")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    monkeypatch.chdir(tmp_path)
    for source in (root, "c", f"{root}/**/*.jsonl", "c/**", "c/**/**/*.jsonl", "c/*/**/*.jsonl", "**/*.jsonl"):
        found = read([source])
        assert sorted(texts(found)) == ["a", "b"], source
    assert names_of("c/**/*.jsonl") == ["b.jsonl", "x/a.jsonl"]


def test_a2_a_link_to_the_parent_is_read_once(tmp_path):
    tree(tmp_path / "p", {"c/a.txt": "a", "beside.txt": "beside"})
    (tmp_path / "p" / "c" / "up").symlink_to("..")
    assert names_of(tmp_path / "p" / "c") == ["a.txt", "up/beside.txt"]


@pytest.mark.parametrize(
    "pattern", ["**", "**/*.txt", "*/*.txt", "x/**/c.txt", "?", "[ax]/*", "**/y/**", "*/", "x/../a.txt"]
)
def test_a2_patterns_match_as_those_of_python(tmp_path, monkeypatch, pattern):
    tree(
        tmp_path, {name: name for name in ("a.txt", "a", "x/b.txt", "x/y/c.txt", "x/y/z/c.txt", "x/.h/d.txt", "w/y/e")}
    )
    monkeypatch.chdir(tmp_path)
    matching = glob.glob(pattern, recursive=True)  # noqa: PTH207
    expected = sorted({os.path.normpath(name) for name in matching if Path(name).is_file()})
    if not expected:
        with pytest.raises(CorpusError, match="no files match"):
            names_of(pattern)
        return
    fixed = pattern.rpartition("/")[0] if "*" not in pattern else "x" if pattern.startswith("x/") else ""
    found = [os.path.normpath(os.path.join(fixed, row["path"])) for row in read([pattern])]  # noqa: PTH118
    assert sorted(found) == expected


# A6: windows


def window_of_zstd(content, log):
    """A frame whose header names a window of 2^log, and no size of the content, as `zstd --long` writes from a pipe."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=log, write_content_size=False)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = made.compress(content) + made.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << log
    return frame


PLAIN = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in sentences(400))


@pytest.mark.parametrize("log", [27, 28, 31])
def test_a6_wide_windows_are_read(tmp_path, log):
    (tmp_path / "a.jsonl.zst").write_bytes(window_of_zstd(PLAIN, log))
    bad = BadDocuments(skip=True)
    assert texts(read([tmp_path / "a.jsonl.zst"], bad)) == sentences(400)
    assert bad.count == 0


def test_a6_frames_of_all_kinds_in_one_file(tmp_path):
    half = PLAIN.index(b"\n", len(PLAIN) // 2) + 1
    skippable = b"\x53\x2a\x4d\x18\x05\0\0\0hello"
    frames = [
        skippable, zstandard.compress(PLAIN[:100]), window_of_zstd(PLAIN[100:half], 24), skippable,
        zstandard.compress(b""), window_of_zstd(PLAIN[half:], 29), skippable,
    ]  # fmt: skip
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert texts(read([tmp_path / "a.jsonl.zst"])) == sentences(400)


def wide_corpus(folder):
    """Two files that use 2.6 MB of their windows of 4 MiB, and one that is not packed."""
    repeated = b'{"text": "%s"}\n' % (b"ab" * (1 << 17))
    for name in ("a", "c"):
        write = folder / f"{name}.jsonl.zst"
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_bytes(window_of_zstd(repeated * 10, 22))
    write_jsonl(folder / "b.jsonl", [{"text": "small"}])
    return folder


def test_a6_a_window_beyond_the_limit_is_never_a_bad_document(tmp_path):
    folder = wide_corpus(tmp_path / "c")
    files = find_files([folder], ReadOptions())
    with pytest.raises(WindowError, match=r"a\.jsonl\.zst: its window of 4 MiB") as error:
        list(read_documents(files, ReadOptions(), BadDocuments(skip=True), BytesRead(most_window=1 << 20)))
    assert (error.value.need, isinstance(error.value, CorpusError)) == (4 << 20, False)
    enough = list(read_documents(files, ReadOptions(), BadDocuments(), BytesRead(most_window=4 << 20)))
    assert sum(map(len, enough)) == 21


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of more than 1 MiB are not ordinary."""
    for module in (sharding, cluster, estimating):
        monkeypatch.setattr(module, "ORDINARY", 1 << 20)


@pytest.mark.usefixtures("small_windows")
def test_a6_units_with_wide_windows_wait_for_memory(tmp_path, monkeypatch):
    folder = wide_corpus(tmp_path / "c")
    # Of two processes each has 1 MiB for a window; one alone has the rest of the memory.
    monkeypatch.setattr(sharding, "PROCESS_BYTES", 400 << 20)
    rounds = []

    def counted(task, units, *rest):
        rounds.append([unit.files[0].name for unit in units])
        return in_processes(task, units, *rest)

    in_processes = engines._in_processes
    monkeypatch.setattr(engines, "_in_processes", counted)
    how = {"tokenizer": "bytes", "workers": 2, "unit_bytes": 1, "skip_bad": True}
    done = build_index([folder], tmp_path / "index", memory=1203 << 20, **how)
    assert (done.manifest.documents, done.skipped.count) == (21, 0)
    # The second round has one process: that of the build.
    assert rounds == [["a.jsonl.zst", "b.jsonl", "c.jsonl.zst"]]
    monkeypatch.setattr(sharding, "window_memory", lambda *_: 1 << 20)
    monkeypatch.setattr(engines, "window_memory", lambda *_: 1 << 20)
    told = r"a\.jsonl\.zst: its window of 4 MiB does not fit into --memory 1\.26 GB: give --memory 0\.5GB, or pack"
    with pytest.raises(MemindexError, match=told):
        build_index([folder], tmp_path / "other", memory=1203 << 20, **{**how, "workers": 1})
    assert not (tmp_path / "other").exists()


class Reference:
    def __init__(self, do, arguments):
        self.do, self.arguments = do, arguments


class RayStandIn:
    """As much of Ray as the cluster engine calls; every call is done here when its answer is asked for."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, memory):
        self.memory, self.asked = memory, []

    def nodes(self):
        return [{"Alive": True, "Resources": {"memory": self.memory}}]

    def put(self, value):
        return value

    def remote(self, memory, **_):
        self.asked.append(memory)
        return lambda do: SimpleNamespace(remote=lambda *arguments: Reference(do, arguments))

    def wait(self, references, num_returns):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        return reference.do(*reference.arguments)

    def cancel(self, *_, **__):
        pass


@pytest.mark.usefixtures("small_windows")
def test_a6_a_cluster_asks_for_the_memory_of_a_window(tmp_path, monkeypatch):
    folder, process, window = wide_corpus(tmp_path / "c"), 512 << 20, 4 << 20
    ray = RayStandIn(8 << 30)
    monkeypatch.setattr(cluster, "ray_cluster", lambda: ray)
    how = {"tokenizer": "bytes", "unit_bytes": 1, "engine": "ray", "workers": 2}
    assert build_index([folder], tmp_path / "index", **how).manifest.documents == 21
    assert ray.asked[:5] == [process] * 3 + [process + window] * 2
    ray.memory = process + (2 << 20)
    with pytest.raises(MemindexError, match=r"a\.jsonl\.zst: its window of 4 MiB fits into no node"):
        build_index([folder], tmp_path / "other", **how)


@pytest.mark.usefixtures("small_windows")
def test_a6_a_dry_run_counts_the_window(tmp_path):
    folder = wide_corpus(tmp_path / "c")
    plain = estimate_build([folder / "b.jsonl"], tmp_path / "out", tokenizer="bytes", memory=4 << 30)
    wide = estimate_build([folder], tmp_path / "out", tokenizer="bytes", memory=4 << 30)
    assert (plain.window_bytes, wide.window_bytes) == (0, 4 << 20)
    assert wide.memory >= plain.memory + (4 << 20)


def test_a6_a_window_beyond_all_and_a_dictionary_are_named(tmp_path):
    # 2^41 is the largest that a header can name.
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\0" + bytes([31 << 3]) + b"\x01\0\0")
    with pytest.raises(CorpusError, match=r"its window of 2,199,023,255,552 bytes is larger than any"):
        read([tmp_path / "a.jsonl.zst"])
    trained = zstandard.train_dictionary(4096, [text.encode() for text in sentences(3000)])
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.ZstdCompressor(dict_data=trained).compress(PLAIN))
    with pytest.raises(CorpusError, match=f"it needs the dictionary {trained.dict_id()} to be unpacked"):
        read([tmp_path / "b.jsonl.zst"])


def test_a6_dictionaries_of_xz_are_windows_too(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 12 << 20}]
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(PLAIN * 300, filters=filters))
    files = find_files([tmp_path / "a.jsonl.xz"], ReadOptions())
    with pytest.raises(WindowError, match="its window of 12 MiB"):
        list(read_documents(files, ReadOptions(), BadDocuments(skip=True), BytesRead(most_window=8 << 20)))
    assert sum(map(len, read_documents(files, ReadOptions(), BadDocuments()))) == 400 * 300


# A7: damage

LINES = b"".join(json.dumps({"text": f"document {i} {i * i}"}).encode() + b"\n" for i in range(50))
OTHER = b"".join(json.dumps({"text": f"other {i} {i**3}"}).encode() + b"\n" for i in range(3000))


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place:][1:]


def checked_zstd(content):
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


#: Damaged files, and how many documents stand whole before the damage (the content without a checksum is whole, too).
DAMAGED = {
    "a second member of 5 bytes.gz": (gzip.compress(LINES) + gzip.compress(OTHER)[:5], 50),
    "a second member of 1 byte.gz": (gzip.compress(LINES) + b"\x1f", 50),
    "a trailer 4 bytes short.gz": (gzip.compress(LINES)[:-4], 50),
    "no trailer.gz": (gzip.compress(LINES)[:-8], 50),
    "a wrong CRC.gz": (flipped(gzip.compress(LINES), -8), 50),
    "a wrong length.gz": (flipped(gzip.compress(LINES), -1), 50),
    "garbage behind.gz": (gzip.compress(LINES) + b"garbage", 50),
    "a wrong CRC in the second member.gz": (gzip.compress(LINES) + flipped(gzip.compress(OTHER), -8), 3050),
    "a wrong checksum.zst": (flipped(checked_zstd(LINES), -1), 50),
    "no checksum.zst": (checked_zstd(LINES)[:-4], 50),
    "a second frame of 5 bytes.zst": (checked_zstd(LINES) + checked_zstd(OTHER)[:5], 50),
    "a second frame that is damaged.zst": (checked_zstd(LINES) + flipped(checked_zstd(OTHER), -1), 3050),
    "a wrong index.xz": (flipped(lzma.compress(LINES), -3), 50),
    "a wrong check.xz": (flipped(lzma.compress(LINES), -33), 50),
    "a second stream that is cut.xz": (lzma.compress(LINES) + lzma.compress(OTHER)[:40], 50),
    "a wrong end.bz2": (flipped(bz2.compress(LINES), -3), 50),
    "a second stream that is cut.bz2": (bz2.compress(LINES) + bz2.compress(OTHER)[:-900], 50),
    "no line end.gz": (gzip.compress(LINES[:-1])[:-3], 50),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("size", [7, 1 << 15])
def test_a7_whole_documents_before_the_damage_are_kept(tmp_path, monkeypatch, name, size):
    monkeypatch.setattr(packing, "FED", size)
    data, whole = DAMAGED[name]
    file = tmp_path / f"a.jsonl.{name.rpartition('.')[2]}"
    file.write_bytes(data)
    bad = BadDocuments(skip=True)
    rows = read([file], bad)
    assert texts(rows) == [json.loads(line)["text"] for line in (LINES + OTHER).splitlines()[:whole]]
    (report,) = bad.first
    assert report.startswith(f"{file}: can't be decompressed: ")
    assert f"it was read up to line {whole}; the rest of the file is left out" in report
    with pytest.raises(CorpusError, match=rf"can't be decompressed: .*; it was read up to line {whole}$"):
        read([file])


@pytest.mark.parametrize("place", range(30, 120, 7))
def test_a7_what_zlib_gives_byte_by_byte_is_given(tmp_path, place):
    data = flipped(gzip.compress(LINES), place)
    unpacked, content = zlib.decompressobj(31), b""
    with pytest.raises(zlib.error):
        for byte in data:
            content += unpacked.decompress(bytes([byte]))
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    (file,) = find_files([tmp_path / "a.jsonl.gz"], ReadOptions())
    given = b""
    with pytest.raises(CorpusError, match="can't be decompressed"):
        for chunk in chunks(file, BytesRead(), 1 << 20):
            given += chunk
    assert given == content


def test_a7_records_before_the_damage_are_kept(tmp_path):
    records = [record(f"page {i}", number=i) for i in range(50)]
    for name, data in {
        "a.wet.gz": b"".join(map(gzip.compress, records)) + gzip.compress(records[0])[:30],
        "b.wet.gz": gzip.compress(b"".join(records))[:-4],
        "c.warc.zst": flipped(checked_zstd(b"".join(records)), -1),
        "d.wet": b"".join(records) + record("page 50")[:60],
    }.items():
        (tmp_path / name).write_bytes(data)
        bad = BadDocuments(skip=True)
        assert texts(read([tmp_path / name], bad)) == [f"page {i}" for i in range(50)], name
        assert bad.count == 1


def test_a7_a_damaged_text_file_is_one_bad_document(tmp_path):
    root = tree(tmp_path / "c", {"a.txt.gz": gzip.compress(b"one"), "b.txt.gz": gzip.compress(b"two" * 99)[:-4]})
    bad = BadDocuments(skip=True)
    assert texts(read([root], bad)) == ["one"]
    assert bad.first[0].startswith(f"{root}/b.txt.gz: can't be decompressed: the file ends too early")


# A8: zeros behind


@pytest.mark.parametrize("zeros", [1, 512, 1024, 100_003])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_a8_zeros_behind_are_ignored(tmp_path, zeros, pack):
    suffix = {"gzip": "gz", "zstandard": "zst", "lzma": "xz", "bz2": "bz2"}[pack.__module__.split(".")[0]]
    file = tmp_path / f"a.jsonl.{suffix}"
    file.write_bytes(pack(LINES) + bytes(zeros))
    assert len(read([file])) == 50
    # As Python's gzip has it, a member may follow.
    file.write_bytes(pack(LINES) + bytes(zeros) + pack(OTHER))
    assert len(read([file])) == 3050


def test_a8_zeros_behind_records_and_texts(tmp_path):
    (tmp_path / "a.wet.gz").write_bytes(gzip.compress(record("page")) + bytes(512))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"text") + bytes(512))
    assert texts(read([tmp_path / "a.wet.gz"])) == ["page"]
    assert texts(read([tmp_path / "b.txt.gz"])) == ["text"]


# A9: packings by content, and files that are something else

PACKINGS = {
    "gz": gzip.compress, "gzip": gzip.compress, "zst": zstandard.compress, "zstd": zstandard.compress,
    "xz": lzma.compress, "bz2": bz2.compress, "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKINGS)
def test_a9_every_packing_is_read(tmp_path, suffix):
    pack = PACKINGS[suffix]
    root = tree(tmp_path / "c", {f"a.jsonl.{suffix}": pack(LINES), f"b/b.NDJSON.{suffix.upper()}": pack(LINES)})
    assert len(read([root])) == 100
    tree(tmp_path / "t", {f"a.txt.{suffix}": pack(b"one"), f"b.csv.{suffix}": pack(b"x,y\n"), "c.txt": "three"})
    assert texts(read([tmp_path / "t"])) == ["one", "x,y\n", "three"]
    tree(tmp_path / "w", {f"a.wet.{suffix}": pack(record("page"))})
    assert texts(read([tmp_path / "w"])) == ["page"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json.xz"])
@pytest.mark.parametrize("pack", [bytes, *PACKINGS.values()])
def test_a9_the_first_bytes_say_how_a_file_is_packed(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(LINES))
    assert len(read([tmp_path / name])) == 50


def test_a9_packed_files_at_addresses(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    files = {"a.jsonl.xz": lzma.compress(LINES), "b.jsonl": gzip.compress(LINES), "c.jsonl.bz2": bz2.compress(LINES)}
    files["d.jsonl.gz"] = gzip.compress(LINES)[:-4]
    system.pipe({f"/packed/{name}": data for name, data in files.items()})
    try:
        bad = BadDocuments(skip=True)
        assert len(read(["memory://packed"], bad)) == 200
        assert "memory://packed/d.jsonl.gz: can't be decompressed" in bad.first[0]
    finally:
        system.rm("/packed", recursive=True)


def archive(name="x.jsonl", content=LINES):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return held.getvalue()


def zipped():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("x.txt", "text")
    return held.getvalue()


def parquet():
    held = io.BytesIO()
    pq.write_table(pa.table({"text": ["one"]}), held)
    return held.getvalue()


def array():
    held = io.BytesIO()
    np.save(held, np.arange(100, dtype=np.uint16))
    return held.getvalue()


#: Files that are no text, and a word of what is said of them.
OTHERS = {
    "a.tar": (archive(), "a tar archive: unpack it"),
    "a.tar.gz": (gzip.compress(archive()), "a tar archive"),
    "a.txt": (archive(), "a tar archive"),
    "a.zip": (zipped(), "a ZIP archive"),
    "a.pq": (parquet(), "a Parquet file: give it a name that ends in .parquet"),
    "a.parquet.zst": (zstandard.compress(parquet()), "a Parquet file"),
    "a.npy": (array(), "a NumPy array: write token ids"),
    "b.npy": (np.arange(5000, dtype="<u2").tobytes(), "binary, not text (byte 0 is zero), and not a NumPy array"),
    "c.npy": (np.full(5000, 0xE9E8, dtype="<u2").tobytes(), "not UTF-8 text (byte 0), and not a NumPy array"),
    "a.dat": (b"some text\0and a zero", "binary, not text (byte 9 is zero)"),
    "a.lz4": (b"\x04\x22\x4d\x18" + bytes(20), "packed with LZ4: unpack it first"),
    "a.doc": ("text".encode("utf-16"), "UTF-16 text: convert it"),
    "a.gz.gz": (gzip.compress(gzip.compress(b"text")), "packed twice"),
    "a.pdf": (b"%PDF-1.7\n", "a PDF file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a9_what_is_no_text_is_named(tmp_path, name):
    data, told = OTHERS[name]
    root = tree(tmp_path / "c", {name: data, "good.txt": "good"})
    for source in (root, root / name):
        with pytest.raises(CorpusError) as error:
            read([source])
        assert str(error.value).startswith(f"{root / name}: ")
        assert told in str(error.value)
        assert "\n" not in str(error.value)
    bad = BadDocuments(skip=True)
    assert texts(read([root], bad)) == ["good"]
    assert (bad.count, told in bad.first[0]) == (1, True)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.wet"])
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (archive(), "a tar archive"),
        (gzip.compress(archive()), "a tar archive"),
        (parquet(), "a Parquet file"),
        (LINES.decode().encode("utf-16"), "UTF-16 text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "a Git LFS pointer"),
    ],
    ids=["tar", "tar.gz", "parquet", "utf-16", "lfs"],
)
def test_a9_corpus_files_that_are_something_else_are_named(tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=rf"{name}: (can't be decompressed: it is not packed|{told})"):
        read([tmp_path / name])


def test_a9_text_that_begins_like_something_else_is_text(tmp_path):
    files = {"a.txt": "ORCs and elves", "b.txt": "LZIP is a program", "c.txt": "GIF89a is a header", "d.txt": "PAR1S"}
    assert texts(read([tree(tmp_path / "c", files)])) == list(files.values())


def test_a9_one_line_at_the_command_line(tmp_path):
    (tmp_path / "a.tar").write_bytes(archive())
    refused = memindex("index", "build", tmp_path / "a.tar", "--tokenizer", "bytes", "--out", tmp_path / "out")
    assert_refused(refused, f"{tmp_path}/a.tar: a tar archive: unpack it (tar -xf) and give the files in it")
    assert not (tmp_path / "out").exists()


# A14: byte order marks in files of text


def test_a14_a_byte_order_mark_is_no_part_of_a_text_file(tmp_path):
    mark = "\ufeff"
    root = tree(
        tmp_path / "c", {"a.txt": f"{mark}one", "b.txt": f"two{mark}", "c.txt": mark, "d.txt": f"{mark}{mark}x"}
    )
    assert texts(read([root])) == ["one", f"two{mark}", "", f"{mark}x"]
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(f"{mark}packed".encode()))
    assert texts(read([tmp_path / "e.txt.gz"])) == ["packed"]
    (tmp_path / "f.wet").write_bytes(mark.encode() + record(f"{mark}page"))
    assert texts(read([tmp_path / "f.wet"])) == ["page"]


def test_a14_a_byte_order_mark_in_files_of_queries_and_settings(tmp_path):
    write_jsonl(tmp_path / "c" / "a.jsonl", [{"text": "needle"}])
    (tmp_path / "map.toml").write_text('\ufeff"c" = "renamed"\n', encoding="utf-8")
    how = ["--tokenizer", "bytes", "--out", tmp_path / "index", "--domain-map", tmp_path / "map.toml"]
    assert memindex("index", "build", tmp_path / "c", *how).returncode == 0
    for name, content, flags in (("texts", "needle\n", []), ("ids", "110 101\n", ["--ids"])):
        (tmp_path / name).write_text(f"\ufeff{content}", encoding="utf-8")
        done = memindex("count", "-i", tmp_path / "index", "--file", tmp_path / name, *flags, "--by-domain", "--json")
        answer = json.loads(done.stdout)
        assert (answer["count"], answer["domains"]["renamed"]) == (1, 1), done.stderr


def test_a14_a_byte_order_mark_in_a_list_of_addresses(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe({"/marked/a.jsonl": LINES})
    try:
        (tmp_path / "list").write_text("\ufeffmemory://marked/a.jsonl\n", encoding="utf-8")
        assert len(read([f"@{tmp_path}/list"])) == 50
    finally:
        system.rm("/marked", recursive=True)
