"""What users read and type (rows E1, E3, E4, E5 and E10): names, tables, JSON, single texts, paths that are missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from synthetic_corpus import sentences, train_bpe, write_jsonl

from memindex import Index, QueryError, build_index
from memindex.corpus.sources import ReadOptions, find_files
from memindex.index.choosing import choose_documents

TEXTS = sentences(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("outputs")
    train_bpe(made / "small.json")
    rows = [{"text": text, "d": ["b", "é"][i % 2]} for i, text in enumerate(TEXTS)]
    write_jsonl(made / "a.jsonl", rows)
    options = ReadOptions("text", "d")
    # One file, not a list of one.
    build_index(str(made / "a.jsonl"), made / "pile", tokenizer=made / "small.json", options=options, shards=2)
    return made


@pytest.fixture(scope="module")
def index(folder):
    return Index.open(folder / "pile")


@pytest.fixture(scope="module")
def slow(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "small.json"))


def ids_of(slow, text):
    return slow.encode(text, add_special_tokens=False).ids


#: A text, in every form that means one text.
ONE_TEXT = {
    "a text": lambda text: text,
    "a NumPy text": np.str_,
    "a list": lambda text: [text],
    "a tuple": lambda text: (text,),
    "an array": lambda text: np.array([text]),
    "an array of objects": lambda text: np.array([text], dtype=object),
    "Arrow": lambda text: pa.array([text]),
    "Arrow in chunks": lambda text: pa.chunked_array([[text]]),
    "Arrow in a dictionary": lambda text: pa.array([text]).dictionary_encode(),
    "an iterator": lambda text: iter([text]),
}


@pytest.mark.parametrize("form", ONE_TEXT.values(), ids=ONE_TEXT)
def test_e5_one_text_is_one_text_in_every_form(index, slow, form):
    text = " the lazy"
    batch = index.tokenize(form(text))
    assert (batch.values.tolist(), batch.offsets.tolist()) == (ids_of(slow, text), [0, len(ids_of(slow, text))])
    expected = sum(
        ids_of(slow, one)[at : at + len(batch.values)] == batch.values.tolist()
        for one in TEXTS
        for at in range(len(one))
    )
    assert expected > 0
    assert index.count(form(text)).tolist() == [expected]
    assert index.count_by_domain(form(text)).sum() == expected
    assert len(index.positions(form(text), None).position) == expected
    assert index.documents(form(text), None).num_rows == expected
    assert index.next_tokens(form(text)).counts.sum() + index.next_tokens(form(text)).ends.sum() == expected
    assert index.prob(form(text), 3).prompt_counts.tolist() == [expected]
    assert index.find_cnf(form(text)).total.low == expected


@pytest.mark.parametrize(
    "wrong",
    [b" the", 3, None, {" the"}, {" the": 1}, [" the", 3], [[3]], [3], [None], pa.array([[3]]), pa.array([" a", None])],
    ids=repr,
)
def test_e5_anything_but_texts_is_one_clear_error(index, wrong):
    with pytest.raises(QueryError, match=r"text|NULL") as caught:
        index.tokenize(wrong)
    assert "\n" not in str(caught.value)


def test_e5_no_texts_are_no_rows(index):
    assert index.tokenize([]).rows == 0


def test_e5_tokenizers_take_one_text_and_one_list_of_ids(index, slow):
    ids = ids_of(slow, " quick brown")
    assert index.tokenizer.encode_texts(" quick brown").values.tolist() == ids
    assert index.tokenizer.decode_batch(ids) == [slow.decode(ids, skip_special_tokens=False)]
    assert index.tokenizer.decode_batch([]) == []


def test_e5_one_source_pattern_or_path_is_not_a_list_of_letters(folder, index):
    assert [file.name for file in find_files(str(folder / "a.jsonl"), ReadOptions())] == ["a.jsonl"]
    assert [file.name for file in find_files(folder, ReadOptions(include="a*.jsonl"))] == ["a.jsonl"]
    every = choose_documents(folder / "pile", paths="a.jsonl")
    assert sum(map(len, every.values())) == len(TEXTS)
