"""Domains by SQL expressions and by mappings, against Python over the same rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_corpus import AWKWARD, write_jsonl

from memindex.corpus import jsonl
from memindex.corpus.documents import BadDocuments
from memindex.corpus.domains import lacking_fields, read_domain_map
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.errors import CorpusError, MemindexError

LANGS = ["C++", "Python", None, "Rust"]
ROWS = [
    {"text": f"text {i}", "lang": LANGS[i % 4], "stars": i * 7 % 50, "meta": {"set": {"name": f"s{i % 3}"}, "n": i}}
    for i in range(40)
]


def domains(source, bad=None, **options):
    options = ReadOptions(**options)
    batches = read_documents(find_files([source], options), options, bad or BadDocuments())
    return [value for batch in batches for value in batch.column("domain").to_pylist()]


@pytest.fixture(params=["jsonl", "parquet"])
def corpus(request, tmp_path):
    if request.param == "jsonl":
        return write_jsonl(tmp_path / "c" / "a.jsonl", ROWS)
    (tmp_path / "c").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c" / "a.parquet")
    return tmp_path / "c" / "a.parquet"


EXPRESSIONS = {
    "CASE WHEN lang IN ('C++', 'Rust') THEN 'native' ELSE coalesce(lang, 'none') END": lambda r: (
        "native" if r["lang"] in ("C++", "Rust") else r["lang"] or "none"
    ),
    "CASE WHEN stars::INT >= 25 THEN 'popular' ELSE 'other' END": lambda r: "popular" if r["stars"] >= 25 else "other",
    "meta.set.name": lambda r: r["meta"]["set"]["name"],
    "meta.set.name || ':' || meta.n": lambda r: f"{r['meta']['set']['name']}:{r['meta']['n']}",
    "domain || '/' || path || '/' || line % 2": lambda r: f"a/a.SUFFIX/{(r['meta']['n'] + 1) % 2}",
    "length(text)": lambda r: str(len(r["text"])),
    "metadata ->> '$.meta.n'": lambda r: str(r["meta"]["n"]),
    "'one -- for all'": lambda r: "one -- for all",
    "lang IS NULL -- a comment": lambda r: str(r["lang"] is None).lower(),
    "nothing.there IS NULL": lambda r: "true",
    "list_filter(string_split(path, '.'), lambda part: part <> 'a')[1]": lambda r: "SUFFIX",
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_gives_each_document_its_domain(corpus, expression, monkeypatch):
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 500)
    expected = [EXPRESSIONS[expression](row).replace("SUFFIX", corpus.suffix[1:]) for row in ROWS]
    assert domains(corpus, domain_sql=expression) == expected


def test_an_expression_sees_the_domain_of_the_field(corpus):
    assert domains(corpus, domain_field="meta.set.name", domain_sql="upper(domain)") == [f"S{i % 3}" for i in range(40)]


def test_fields_with_any_name_can_be_used(tmp_path):
    rows = [{"text": "t", "it's": s, "a/b~c": {'say "x"': s}} for s in AWKWARD]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    assert domains(file, domain_sql='"it\'s"') == AWKWARD
    assert domains(file, domain_sql='"a/b~c"."say ""x"""') == AWKWARD


def test_documents_whose_expression_is_null_are_bad_ones(corpus):
    with pytest.raises(CorpusError, match=r"a\.(jsonl|parquet):3: .*NULL"):
        domains(corpus, domain_sql="lang")
    bad = BadDocuments(skip=True)
    assert domains(corpus, bad, domain_sql="lang") == [r["lang"] for r in ROWS if r["lang"]]
    assert bad.count == 10
    assert [int(report.split(":")[1]) for report in bad.first] == list(range(3, 41, 4))


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("", "--domain-sql"),
        ("lang, meta", "one expression"),
        ("lang FROM range(3)", "one expression"),
        ("lang; SELECT 1", "one expression"),
        ("nofunction(lang)", "nofunction"),
        ("count(*)", "a value for each document"),
        ("CASE WHEN random() < 0.5 THEN 'a' ELSE lang END", "random() is another at each call"),
        ("strftime(now(), '%Y')", "now() is another at each call"),
        ("lang = '", "--domain-sql"),
        ("(SELECT content FROM read_text('/etc/hostname'))", "disabled"),
        ("(SELECT 1 FROM 'a.csv')", "--domain-sql"),
        ("meta || meta.n", "as a field and as a group"),
    ],
)
def test_what_is_no_expression_is_refused_in_one_line(corpus, expression, part):
    with pytest.raises(MemindexError, match="--domain-sql") as caught:
        domains(corpus, domain_sql=expression)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_fails_is_told_with_its_place(corpus):
    with pytest.raises(CorpusError, match=r"a\.(jsonl|parquet), from line 1 on: --domain-sql: .*C\+\+"):
        domains(corpus, domain_sql="lang::INT")


def test_a_mapping_renames_what_it_names(corpus):
    expected = [{"s0": "zero", "s1": "s1", "s2": "two"}[f"s{i % 3}"] for i in range(40)]
    names = {"s0": "zero", "s2": "two", "unused": "x"}
    assert domains(corpus, domain_field="meta.set.name", domain_map=names) == expected
    expected = [{"s0": "zero", "s1": "rest", "s2": "rest"}[f"s{i % 3}"] for i in range(40)]
    assert domains(corpus, domain_field="meta.set.name", domain_map={"s0": "zero", "*": "rest"}) == expected
    assert domains(corpus, domain_sql="'x' || stars::INT % 2", domain_map={"x0": "even"}) == [
        "x1" if r["stars"] % 2 else "even" for r in ROWS
    ]


def test_folders_can_be_renamed_and_computed_with(tmp_path):
    for name in ("one/a.txt", "two/b.txt"):
        (tmp_path / "c" / name).parent.mkdir(parents=True)
        (tmp_path / "c" / name).write_text(name)
    assert domains(tmp_path / "c", domain_map={"one": "1"}) == ["1", "two"]
    assert domains(tmp_path / "c", domain_sql="domain || ' ' || path || ' ' || text") == [
        "one one/a.txt one/a.txt",
        "two two/b.txt two/b.txt",
    ]


def test_a_mapping_is_read_from_toml(tmp_path):
    file = tmp_path / "map.toml"
    file.write_text('"C++" = "cpp"\n"*" = "other"\n', encoding="utf-8")
    assert read_domain_map(file) == {"C++": "cpp", "*": "other"}
    for text in ('"C++" = 1', "[a]\nb = 'c'", "C++ = 'cpp'", "a = ['b']"):
        file.write_text(text)
        with pytest.raises(MemindexError, match=r"map\.toml: "):
            read_domain_map(file)


def test_metadata_are_not_changed_by_an_expression(corpus):
    options = ReadOptions(domain_sql="meta.set.name")
    batches = read_documents(find_files([corpus], options), options, BadDocuments())
    rows = [json.loads(value) for batch in batches for value in batch.column("metadata").to_pylist()]
    assert rows == [{k: v for k, v in row.items() if k != "text"} for row in ROWS]


def test_fields_that_an_expression_names_are_looked_for_in_all_documents(corpus, monkeypatch):
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 500)
    expression = "coalesce(lang, langg, meta.set.name, meta.sett.name, list_transform([path], lambda x: x || line)[1])"
    bad = BadDocuments()
    domains(corpus, bad, domain_sql=expression)
    assert bad.fields == {"lang", "meta.set.name"}
    options = ReadOptions(domain_sql=expression)
    assert lacking_fields(options, bad.fields) == ["langg", "meta.sett.name"]
    assert lacking_fields(options, ()) == ["lang", "langg", "meta.set.name", "meta.sett.name"]


def test_a_field_of_the_last_document_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 100)
    rows = [{"text": f"text {i}"} for i in range(30)] + [{"text": "last", "late": "x"}]
    bad = BadDocuments()
    domains(write_jsonl(tmp_path / "a.jsonl", rows), bad, domain_sql="coalesce(late, 'none')")
    assert bad.fields == {"late"}
