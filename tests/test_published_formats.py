"""Builds of the development corpora as they are published, against DuckDB over the raw files and `tokenizers`."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pytest
import tokenizers

from memindex.index import Index, build_index
from memindex.index.recipes import find_recipe

#: Recipe, files below the corpora, and how DuckDB reads the same: domain and text of every document.
CORPORA = {
    "pile": (
        "mini-pile/heldout",
        "SELECT meta.pile_set_name AS domain, text FROM read_json('{}/*.jsonl.zst', format = 'newline_delimited')",
    ),
    "the-stack": (
        "mini-stack/heldout",
        "SELECT split_part(filename, '/', -2) AS domain, content AS text "
        "FROM read_parquet('{}/*/*.parquet', filename = true)",
    ),
    "dolma": (
        "mini-dolma",
        "SELECT source AS domain, text FROM read_json('{}/documents/*/*.json.gz', format = 'newline_delimited')",
    ),
}


@pytest.fixture(scope="module")
def oracle(shared):
    """Documents and tokens by domain: the rows from DuckDB, the tokens from `tokenizers`."""
    slow = tokenizers.Tokenizer.from_file(str(shared / "tokenizers/pythia/tokenizer.json"))

    def count(name):
        folder, query = CORPORA[name]
        counted = {}
        for domain, texts in (
            duckdb.sql(f"SELECT domain, list(text) FROM ({query.format(shared / 'corpora' / folder)}) GROUP BY domain")
        ).fetchall():
            ids = slow.encode_batch_fast(texts, add_special_tokens=False)
            counted[domain] = (len(texts), sum(map(len, ids)))
        return counted

    return count


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_documents_and_tokens_by_domain_are_those_of_the_raw_files(shared, tmp_path, oracle, name):
    options = find_recipe(name).options()
    build_index(
        [shared / "corpora" / CORPORA[name][0]],
        tmp_path / "out",
        tokenizer=shared / "tokenizers/pythia",
        options=options,
    )
    manifest = Index.open(tmp_path / "out").manifest
    assert {d.name: (d.documents, d.tokens) for d in manifest.domains} == oracle(name)


def test_domains_by_expression_are_those_of_a_query(shared, tmp_path):
    folder = shared / "corpora/mini-stack/heldout"
    sql = (
        "CASE WHEN max_stars_repo_path LIKE '%test%' THEN lang || ' tests' "
        "WHEN length(text) < 1000 THEN 'short' ELSE max_stars_repo_licenses END"
    )
    options = replace(find_recipe("the-stack").options(), domain_sql=sql, domain_map={"short": "SHORT"})
    build_index([folder], tmp_path / "out", tokenizer="bytes", options=options)
    expected = duckdb.sql(
        "SELECT CASE WHEN max_stars_repo_path LIKE '%test%' THEN lang || ' tests' "
        "WHEN length(content) < 1000 THEN 'SHORT' ELSE to_json(max_stars_repo_licenses)::VARCHAR END AS domain, "
        f"count(*), sum(strlen(content)) FROM read_parquet('{folder}/*/*.parquet') GROUP BY domain"
    ).fetchall()
    manifest = Index.open(tmp_path / "out").manifest
    assert len(expected) > 3
    assert sorted((d.name, d.documents, d.tokens) for d in manifest.domains) == sorted(expected)
