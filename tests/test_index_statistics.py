"""Statistics of indexes against a count by hand, of random, repetitive and real texts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from infini_gram_folder import write_folder
from synthetic_corpus import assert_refused, memindex, sentences, train_bpe, write_jsonl
from test_core_lookups import WIDTHS, wide_ids

from memindex import _core
from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import CorruptIndexError, QueryError
from memindex.index import Index, build_index, statistics
from memindex.index.manifest import DomainFacts, FileFacts, Manifest
from memindex.index.statistics import index_statistics
from memindex.index.statistics_documents import QUANTILES
from memindex.index.token_bytes import bytes_of_tokens
from memindex.ragged import from_lists


def write_index(path: Path, documents: list[list[int]], domains: list[int], shards: int, width: int) -> Index:
    """An index of documents (ids) with domains a0, a1, …, dealt to shards in turn."""
    path.mkdir()
    number = max(domains, default=0) + 1
    batch = from_lists(documents)
    writer = _core.DocumentWriter(path, shards, width)
    writer.append(batch.values.astype(np.uint32), batch.offsets)
    writer.close()
    codes = np.array(domains, dtype="<u2")
    for shard in range(shards):
        _core.sort_shard(path, shard, width, codes[shard::shards].tobytes(), number, 4)
        lines = [json.dumps({"path": f"{i}.txt", "linenum": 0, "metadata": {}}) + "\n" for i in range(len(documents))]
        lines = lines[shard::shards]
        (path / f"metadata.{shard}").write_text("".join(lines))
        starts = np.cumsum([0, *map(len, lines)])[: len(lines)]
        (path / f"metaoff.{shard}").write_bytes(starts.astype("<u8").tobytes())
    files = {file.name: FileFacts(file.stat().st_size, _core.checksum(file)) for file in sorted(path.iterdir())}
    facts = tuple(
        DomainFacts(f"a{d}", domains.count(d), sum(len(t) for t, of in zip(documents, domains, strict=True) if of == d))
        for d in range(number)
    )
    sizes = (2 ** (8 * width) - 1, width, len(documents), int(batch.offsets[-1]), shards)
    Manifest("made", "", "", *sizes, facts, 4, files, "now", "test").write(path)
    return Index.open(path)


def by_hand(documents: list[list[int]], domains: list[int], length: int) -> np.ndarray:
    """Tokens of each domain under windows that occur elsewhere: anywhere, in another domain, and in each domain."""
    number = max(domains, default=0) + 1
    places = defaultdict(list)
    for d, document in enumerate(documents):
        for at in range(len(document) - length + 1):
            places[tuple(document[at : at + length])].append((d, at))
    found = np.zeros((number, 2 + number), dtype=np.int64)
    for d, document in enumerate(documents):
        for token in range(len(document)):
            seen = set()
            for at in range(max(0, token - length + 1), min(token, len(document) - length) + 1):
                others = [domains[e] for e, i in places[tuple(document[at : at + length])] if (e, i) != (d, at)]
                seen |= {2 + other for other in others} | ({0} if others else set())
                seen |= {1} if any(other != domains[d] for other in others) else set()
            for column in seen:
                found[domains[d], column] += 1
    return found


def ngrams_by_hand(documents: list[list[int]], n: int) -> Counter:
    return Counter(tuple(d[i : i + n]) for d in documents for i in range(len(d) - n + 1))


def assert_right(index: Index, documents: list[list[int]], domains: list[int], lengths: list[int], **options) -> None:
    """All statistics of an index equal those of its documents, counted by hand."""
    found = index_statistics(index, windows=lengths, most_ngrams=7, most_duplicates=3, **options)
    number = max(domains, default=0) + 1
    of = np.array(domains)
    sizes = np.array([len(d) for d in documents])
    assert found.documents.tolist() == np.bincount(of, minlength=number).tolist()
    assert found.tokens.tolist() == [int(sizes[of == d].sum()) for d in range(number)]
    assert [window.length for window in found.windows] == sorted(set(lengths))
    for window in found.windows:
        expected = by_hand(documents, domains, window.length)
        assert window.tokens.tolist() == expected[:, 0].tolist()
        assert window.in_other_domains.tolist() == expected[:, 1].tolist()
        assert window.columns == list(range(number))
        assert window.matrix.tolist() == expected[:, 2:].tolist()
    for ngrams in found.ngrams:
        counts = ngrams_by_hand(documents, ngrams.n)
        assert (ngrams.total, ngrams.distinct) == (sum(counts.values()), len(counts))
        assert ngrams.once == sum(count == 1 for count in counts.values())
        expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:7]
        assert list(zip(map(tuple, ngrams.ids.tolist()), ngrams.counts.tolist(), strict=True)) == expected
    assert_duplicates_right(found.duplicates, documents, domains)
    assert_lengths_right(found.lengths, sizes, of)


def assert_duplicates_right(found, documents: list[list[int]], domains: list[int]) -> None:
    groups = defaultdict(list)
    for i, document in enumerate(documents):
        if document:
            groups[tuple(document)].append(i)
    several = {text: group for text, group in groups.items() if len(group) > 1}
    copied = [i for group in several.values() for i in group]
    number = max(domains, default=0) + 1
    assert found.empty == sum(not document for document in documents)
    assert found.texts == len(several)
    assert found.documents.tolist() == [sum(domains[i] == d for i in copied) for d in range(number)]
    assert found.tokens.tolist() == [sum(len(documents[i]) for i in copied if domains[i] == d) for d in range(number)]
    abroad = [i for group in several.values() for i in group if len({domains[j] for j in group}) > 1]
    assert found.in_other_domains.tolist() == [sum(domains[i] == d for i in abroad) for d in range(number)]
    assert found.redundant_documents == sum(len(group) - 1 for group in several.values())
    assert found.redundant_tokens == sum(len(text) * (len(group) - 1) for text, group in several.items())
    ranked = sorted(((len(group), len(text)) for text, group in several.items()), reverse=True)[:3]
    assert [(copies.documents, copies.tokens) for copies in found.largest] == ranked
    for copies in found.largest:
        text = tuple(documents[int(copies.path.removesuffix(".txt"))])
        assert (len(text), len(several[text])) == (copies.tokens, copies.documents)
        assert copies.domains == Counter(f"a{domains[i]}" for i in several[text])


def assert_lengths_right(found, sizes: np.ndarray, domains: np.ndarray) -> None:
    assert found.mean == pytest.approx(sizes.mean())
    for row, of in [(found.quantiles, sizes), *((found.by_domain[d], sizes[domains == d]) for d in set(domains))]:
        assert row.tolist() == np.quantile(of, QUANTILES, method="inverted_cdf").tolist()
    for d in set(domains.tolist()):
        expected = np.histogram(sizes[domains == d], bins=[*found.starts, np.inf])[0]
        assert found.histogram[d].tolist() == expected.tolist()


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_statistics_equal_a_count_by_hand(tmp_path_factory, width, data):
    documents = data.draw(st.lists(st.lists(wide_ids[width], max_size=25), min_size=1, max_size=7))
    # Copies of documents, whole, cut, and with a token in front: windows repeat across documents and shards.
    for number in data.draw(st.lists(st.integers(0, len(documents) - 1), max_size=4)):
        cut = data.draw(st.integers(0, 3))
        documents.append([*([2] if cut == 3 else []), *documents[number][cut % 3 :]])
    domains = data.draw(st.lists(st.integers(0, 2), min_size=len(documents), max_size=len(documents)))
    shards = data.draw(st.integers(1, min(3, len(documents))))
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    index = write_index(tmp_path_factory.mktemp("made") / "ix", documents, domains, shards, width)
    # From a walk for every document to one for all of them.
    memory = data.draw(st.sampled_from([1, 200, 1 << 20]))
    assert_right(index, documents, domains, lengths, memory=memory, longest_ngram=data.draw(st.integers(1, 5)))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    "documents",
    [[[]], [[], [], []], [[5]], [[7] * 90], [[1, 2] * 30] * 3, [list(range(40))] * 9, [[1, 1, 1], [1, 1], [1]]],
    ids=["empty", "all empty", "one token", "one id", "period two", "equal documents", "prefixes"],
)
def test_degenerate_corpora(tmp_path, documents, shards):
    index = write_index(tmp_path / "ix", documents, [0] * len(documents), shards, 2)
    assert_right(index, documents, [0] * len(documents), [1, 3, 32], longest_ngram=4)


def test_more_domains_than_one_pass_tells_of(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    documents = [random.integers(0, 3, 12).tolist() for _ in range(70)]
    domains = [i % 65 for i in range(70)]
    index = write_index(tmp_path / "ix", documents, domains, 2, 1)
    assert_right(index, documents, domains, [4, 5])
    whole = index_statistics(index, windows=[4]).windows[0]
    monkeypatch.setattr(statistics, "MOST_COLUMNS", 7)
    few = index_statistics(index, windows=[4]).windows[0]
    assert len(few.columns) == 7
    assert few.matrix.tolist() == whole.matrix[:, few.columns].tolist()
    assert few.tokens.tolist() == whole.tokens.tolist()


def test_parts_of_a_walk_that_threads_share(tmp_path):
    """Enough suffixes for many parts, whose borders lie inside frequent n-grams and windows."""
    random = np.random.default_rng(1)
    text = random.choice(5, p=[0.9, 0.05, 0.03, 0.01, 0.01], size=300_000)
    text[200_000:250_000] = text[:50_000]
    cuts = np.sort(random.choice(300_000, 99, replace=False))
    documents = [part.tolist() for part in np.split(text, cuts)]
    domains = [i % 3 for i in range(100)]
    for shards in (1, 3):
        index = write_index(tmp_path / f"ix{shards}", documents, domains, shards, 2)
        found = index_statistics(index, windows=[24], longest_ngram=6, most_ngrams=50)
        for ngrams in found.ngrams:
            counts = ngrams_by_hand(documents, ngrams.n)
            assert (ngrams.distinct, ngrams.once) == (len(counts), sum(count == 1 for count in counts.values()))
            expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:50]
            assert list(zip(map(tuple, ngrams.ids.tolist()), ngrams.counts.tolist(), strict=True)) == expected
        windows = ngrams_by_hand(documents, 24)
        tokens = np.zeros(3, dtype=np.int64)
        for document, domain in zip(documents, domains, strict=True):
            covered = np.zeros(len(document), dtype=bool)
            for at in range(len(document) - 23):
                if windows[tuple(document[at : at + 24])] > 1:
                    covered[at : at + 24] = True
            tokens[domain] += int(covered.sum())
        assert found.windows[0].tokens.tolist() == tokens.tolist()
        assert 0 < tokens.sum() < 300_000


def test_a_folder_without_manifest_has_one_domain_and_no_bytes(tmp_path):
    documents = [[1, 2, 3, 1, 2, 3], [1, 2, 3], [4]]
    folder = write_folder(tmp_path / "plain", [documents[:2], documents[2:]], 2)
    found = index_statistics(Index.open(folder), windows=[3])
    assert (found.domains, found.bytes) == (["plain"], None)
    assert (found.documents.tolist(), found.tokens.tolist()) == ([3], [10])
    assert (found.windows[0].tokens.tolist(), found.windows[0].matrix.tolist()) == ([9], [[9]])
    assert found.duplicates.texts == 0


@pytest.mark.parametrize(
    "options", [{"windows": [0]}, {"windows": [1 << 20]}, {"longest_ngram": 0}, {"most_ngrams": 0}]
)
def test_numbers_out_of_range_are_refused(tmp_path, options):
    index = write_index(tmp_path / "ix", [[1, 2]], [0], 1, 1)
    with pytest.raises(QueryError, match="1 to"):
        index_statistics(index, **options)


def test_the_core_refuses_what_is_no_question(tmp_path):
    index = write_index(tmp_path / "ix", [[1, 2], [3]], [0, 1], 1, 1)
    bounds, codes = np.array([0, 3, 5]), np.array([0, 1], dtype=np.uint16)

    def ask(bounds=bounds, codes=codes, lengths=(2,), domains=2, shards=index.shards):
        return _core.repeated_windows(shards, [bounds], [codes], list(lengths), domains, 0)

    assert not ask().any()
    for wrong in (
        {"bounds": np.array([0, 3, 9])},
        {"bounds": np.array([3, 0, 5])},
        {"bounds": np.array([-1, 3, 5])},
        {"bounds": np.array([0, 3])},
        {"codes": np.array([0, 2], dtype=np.uint16)},
        {"lengths": ()},
        {"lengths": (0,)},
        {"lengths": (2**63,)},
        {"shards": []},
    ):
        with pytest.raises(QueryError):
            ask(**wrong)
    with pytest.raises(QueryError, match="same token width"):
        other = write_index(tmp_path / "other", [[1]], [0], 1, 2)
        _core.frequent_ngrams([*index.shards, *other.shards], 1, 1)
    for call in (_core.document_checksums, lambda *a: _core.weigh_documents(*a, np.ones(9, dtype=np.uint32))):
        for wrong in ([0, 9], [3, 1], [-2, 1], [2**62, 2**62 + 1]):
            with pytest.raises(QueryError):
                call(index.shards[0], np.array(wrong))
    with pytest.raises(CorruptIndexError, match=r"tokenized.0: byte 4: id 3"):
        _core.weigh_documents(index.shards[0], np.array([0, 3, 5]), np.ones(3, dtype=np.uint32))


def test_damaged_files_give_an_error_or_an_answer_but_no_crash(tmp_path):
    documents = [[int(i) for i in np.random.default_rng(n).integers(0, 4, 30)] for n in range(20)]
    index = write_index(tmp_path / "ix", documents, [n % 3 for n in range(20)], 2, 2)
    random = np.random.default_rng(5)
    refused = 0
    for case in range(150):
        name = ("table.0", "table.1", "tokenized.1", "domain.0")[case % 4]
        file = tmp_path / "ix" / name
        whole = file.read_bytes()
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), int(random.integers(1, 30))):
            damaged[at] = random.integers(0, 256)
        file.write_bytes(damaged)
        try:
            index_statistics(Index.open(tmp_path / "ix"), windows=[2, 5], memory=300)
        except CorruptIndexError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
        file.write_bytes(whole)
    assert refused > 75
    assert_right(index, documents, [n % 3 for n in range(20)], [2, 5])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, list[dict]]:
    """An index of texts with a tokenizer, in two shards."""
    root = tmp_path_factory.mktemp("built")
    texts = [*sentences(60), "é 日本 😀 <|endoftext|> x" * 3, *sentences(5) * 3, ""]
    rows = [{"text": text, "source": f"part {i % 2}"} for i, text in enumerate(texts)]
    write_jsonl(root / "texts.jsonl", rows)
    train_bpe(root / "bpe" / "tokenizer.json")
    options = ReadOptions(domain_field="source")
    build_index([root / "texts.jsonl"], root / "ix", tokenizer=root / "bpe", options=options, shards=2)
    return root / "ix", rows


def test_bytes_are_those_of_the_texts(built):
    folder, rows = built
    found = index_statistics(Index.open(folder))
    assert dict(zip(found.domains, found.bytes.tolist(), strict=True)) == {
        domain: sum(len(row["text"].encode()) for row in rows if row["source"] == domain)
        for domain in ("part 0", "part 1")
    }
    assert found.duplicates.empty == 1


def test_the_command_tells_it_as_tables_json_and_figure(built, tmp_path):
    folder, rows = built
    result = memindex("index", "stats", folder, "--window", "8", "--json", "--figure", tmp_path / "a.svg")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    found = index_statistics(Index.open(folder), windows=[8])
    assert (told["documents"], told["tokens"]) == (len(rows), int(found.tokens.sum()))
    assert told["bytes"] == sum(len(row["text"].encode()) for row in rows)
    assert told["windows"][0]["domains"]["part 1"]["tokens"] == int(found.windows[0].tokens[1]) > 0
    assert told["windows"][0]["domains"]["part 0"]["also_in"]["part 1"] == int(found.windows[0].matrix[0, 1]) > 0
    assert told["ngrams"][0]["most_frequent"][0]["count"] == int(found.ngrams[0].counts[0])
    assert told["duplicates"]["largest"][0]["path"] == "texts.jsonl"
    assert sum(told["lengths"]["histogram"]["documents"]) == len(rows)
    svg = (tmp_path / "a.svg").read_text()
    assert "part 1" in svg
    assert "in another domain" in svg
    table = memindex("index", "stats", folder, "--window", "8", "--top", "2").stdout
    assert f"{int(found.tokens.sum()):,}" in table
    assert "part 0" in table
    fullest = int(found.lengths.starts[np.argmax(found.lengths.histogram.sum(axis=0))])
    assert f"{fullest:,} to {2 * fullest - 1:,}" in next(line for line in table.splitlines() if "█" * 40 in line)
    assert f"{told['duplicates']['documents']} of {len(rows)} documents have an exact copy" in table


def test_the_command_refuses_in_one_line(built, tmp_path):
    folder, _ = built
    assert_refused(memindex("index", "stats", folder, "--figure", tmp_path / "a.pdf"), "a.pdf", ".svg or .png")
    assert_refused(memindex("index", "stats", folder, "--figure", tmp_path / "no" / "a.svg"), "no folder")
    assert_refused(memindex("index", "stats", folder, "--window", "0"), "1 to")
    assert_refused(memindex("index", "stats", folder, "--memory", "0"), "memory")
    assert_refused(memindex("index", "stats", tmp_path), "not an index")


@pytest.mark.parametrize("name", ["pythia", "olmo-1", "olmo-2", "llama-2"])
def test_bytes_of_tokens_are_those_of_decoded_texts(shared, name):
    tokenizer = load_tokenizer(shared / "tokenizers" / name)
    known = bytes_of_tokens(tokenizer)
    texts = [
        *sentences(30),
        "  two",
        "\n\n x\t\r\n",
        "éü 日本語 العربية 😀👩‍👩‍👧 \U0002070e",
        "a <|endoftext|> b",
        "x" * 300,
    ]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids).encode() == text.encode()
        assert int(known.of_token[ids].sum()) - known.has_space_before == len(text.encode()), text


@pytest.mark.slow
def test_real_text_equals_duckdb_and_counts_of_every_window(shared, tmp_path):
    con = duckdb.connect()
    file = shared / "corpora" / "mini-dolma" / "documents" / "rfcs" / "rfcs-0000.json.gz"
    con.execute(f"CREATE TABLE rfcs AS SELECT id, text FROM '{file}' ORDER BY id LIMIT 150")
    con.execute("INSERT INTO rfcs SELECT id || ' again', text FROM rfcs ORDER BY id LIMIT 3")
    con.execute(
        "CREATE TABLE documents AS SELECT id, text, CASE WHEN hash(id) % 3 = 0 THEN 'a' ELSE 'b' END AS d FROM rfcs"
    )
    con.execute(f"COPY documents TO '{tmp_path}/rfcs.jsonl' (FORMAT json)")
    options = ReadOptions(domain_field="d")
    tokenizer = shared / "tokenizers" / "olmo-2"
    build_index([tmp_path / "rfcs.jsonl"], tmp_path / "ix", tokenizer=tokenizer, options=options, shards=2)
    index = Index.open(tmp_path / "ix")
    found = index_statistics(index)
    sizes = con.execute(
        "SELECT d, count(*), sum(octet_length(encode(text)))::BIGINT FROM documents GROUP BY d"
    ).fetchall()
    told = zip(found.domains, found.documents.tolist(), found.bytes.tolist(), strict=True)
    assert sorted(told) == sorted(sizes)
    copies = con.execute(
        "SELECT count(*), sum(n) FROM (SELECT count(*) AS n FROM documents GROUP BY text HAVING n > 1)"
    )
    assert (found.duplicates.texts, found.duplicates.documents.sum()) == copies.fetchall()[0]
    rows = con.execute(
        f"SELECT shard, first_token, tokens, d.domain FROM '{tmp_path}/ix/documents.parquet' d"
    ).fetchall()
    for window in found.windows:
        tokens = np.zeros((2, 2), dtype=np.int64)
        for shard, first, length, domain in rows:
            text = index.tokens_of_shard(shard)[first : first + length]
            tokens[index.domains.index(domain)] += covered_by_hand(index, text, window.length)
        assert window.tokens.tolist() == tokens[:, 0].tolist()
        assert window.in_other_domains.tolist() == tokens[:, 1].tolist()
        assert tokens.all()


def covered_by_hand(index: Index, text: np.ndarray, length: int) -> np.ndarray:
    """Tokens of a document under windows that are counted more than once, and in both of two domains."""
    if len(text) < length:
        return np.zeros(2, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(text, length)
    counts = index.count_by_domain(np.ascontiguousarray(windows, dtype=np.int64))
    covered = np.zeros((2, len(text)), dtype=bool)
    for which, repeated in zip(covered, (counts.sum(axis=1) > 1, (counts > 0).all(axis=1)), strict=True):
        for start in np.flatnonzero(repeated):
            which[start : start + length] = True
    return covered.sum(axis=1)
