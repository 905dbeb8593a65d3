"""A connection to a study whose index gets another version meanwhile: never new documents beside old counts."""

from __future__ import annotations

import duckdb
import pytest
from synthetic_corpus import write_jsonl

from memindex.errors import CorruptIndexError
from memindex.index import Index, build_index
from memindex.index.removing import remove_documents
from memindex.sql.connection import connect

DOCUMENTS = "SELECT count(*) FROM documents"
COUNT = "SELECT ngram_count('out', [101])"


@pytest.fixture
def index(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "e" * number} for number in range(1, 9)])
    build_index([tmp_path / "a.jsonl"], tmp_path / "out", tokenizer="bytes")
    (tmp_path / "study.toml").write_text('index = "out"\n', encoding="utf-8")
    return tmp_path / "out"


def test_a_connection_does_not_mix_two_versions_of_an_index(index):
    unused, used = connect(index.parent), connect(index.parent)
    assert [used.sql(sql).fetchall() for sql in (DOCUMENTS, COUNT)] == [[(8,)], [(36,)]]
    # The second of them may get the inode that the first version had.
    for left in (35, 33):
        remove_documents(index, documents=[(0, 0)])
        for con in (unused, used):
            for sql in (DOCUMENTS, COUNT):
                with pytest.raises(duckdb.Error, match=r"out: another version .* took its place .*: connect again"):
                    con.sql(sql).fetchall()
        # A path is asked as it is now.
        assert used.sql(f"SELECT ngram_count('{index}', [101])").fetchall() == [(left,)]
    again = connect(index.parent)
    assert [again.sql(sql).fetchall() for sql in (DOCUMENTS, COUNT)] == [[(6,)], [(33,)]]


def test_an_open_index_keeps_its_version_or_says_that_there_is_another(index):
    opened, whole = Index.open(index), Index.open(index).documents([[101]]).to_pylist()
    for _ in range(2):
        remove_documents(index, documents=[(0, 0)])
    assert opened.count_one([101]) == 36
    assert opened.documents([[101]]).to_pylist() == whole
    with pytest.raises(CorruptIndexError, match="open it again"):
        opened.tokens_of_shard(0)
