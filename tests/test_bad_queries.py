"""What can't be asked: every operation refuses it with a typed error of one clear line, and never answers 0 instead."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from synthetic_corpus import write_jsonl

from memindex.errors import CorruptIndexError, QueryError
from memindex.index import Index, build_index
from memindex.ragged import Ragged

#: Operations on a batch, and on one query of ids; a new lookup joins by a row.
BATCH = {
    "count": lambda index, queries: index.count(queries),
    "count_by_domain": lambda index, queries: index.count_by_domain(queries),
    "find": lambda index, queries: index.find(queries),
    "positions": lambda index, queries: index.positions(queries),
    "documents": lambda index, queries: index.documents(queries).to_pylist(),
    "longest_match": lambda index, queries: index.longest_match(queries),
    "spans": lambda index, queries: index.spans(queries),
    "next_tokens": lambda index, queries: index.next_tokens(queries),
    "next_tokens by domain": lambda index, queries: index.next_tokens(queries, by_domain=True),
    "document_count": lambda index, queries: index.document_count(queries),
}
ONE = {
    "count_one": lambda index, ids: index.count_one(ids),
    "count_by_domain_one": lambda index, ids: index.count_by_domain_one(ids),
}

NAN = float("nan")


def ragged(values, offsets, dtype=np.uint32):
    return Ragged(np.array(values, dtype=dtype), np.array(offsets))


#: Refused as a batch and as a query of its own: not ids, or ids that no index holds.
REFUSED = {
    "an empty query": ([[]], "empty"),
    "an empty query among others": ([[1], [], [2]], "query 1 is empty"),
    "an empty text": ("", "empty"),
    "rows of no columns": (np.empty((2, 0), dtype=np.int64), "empty"),
    "the separator": ([[255]], "255 is out of range"),
    "an id beyond the width": ([[1, 256]], "256 is out of range"),
    "an id beyond 32 bits": ([[1, 2**32]], "4294967296 is out of range"),
    "an id beyond 64 bits": ([[1, 2**64]], "out of range"),
    "a negative id": ([[1, -1]], "-1 is out of range"),
    "a negative id in an array": (np.array([[1, -5]]), "-5 is out of range"),
    "uint64 beyond int64": (np.array([[1, 2**64 - 1]], dtype=np.uint64), "out of range"),
    "None": (None, "NoneType"),
    "a number": (5, "int"),
    "a float": (1.5, "float"),
    "NaN": ([NAN], "whole numbers"),
    "NaN in a row": ([[1, NAN]], "whole numbers"),
    "float ids": ([[1.0, 2.0]], "whole numbers"),
    "a float array": (np.array([[1.0, 2.0]]), "float64"),
    "an array of NaN": (np.array([[NAN]]), "float64"),
    "truth values": ([[True, False]], "whole numbers"),
    "a truth value among ids": ([1, True], "whole numbers"),
    "an array of truth values": (np.array([[True]]), "bool"),
    "complex": (np.array([[1 + 2j]]), "complex128"),
    "objects": (np.array([[1, None]], dtype=object), "object"),
    "texts in an array of two dimensions": (np.array([["a", "b"]]), "<U1"),
    "None among the texts of an array": (np.array(["a", None], dtype=object), "either texts, or lists"),
    "dates": (np.array(["2026-01-01"], dtype="datetime64[D]"), "datetime64"),
    "records": (np.zeros(2, dtype=[("a", "u4")]), "whole numbers"),
    "masked ids": (np.ma.masked_array([[1, 2]], mask=[[False, True]]), "masked"),
    "texts and ids": (["a", [1]], "either texts, or lists"),
    "ids and lists": ([1, [2]], "either texts, or lists"),
    "None in a list": ([[1, None]], "whole numbers"),
    "lists of lists of lists": ([[[1]]], "whole numbers"),
    "arrays of two dimensions in a list": ([np.ones((2, 2), dtype=np.int64)], "lists of whole numbers"),
    "bytes": (b"abc", "bytes"),
    "bytes in a list": ([b"abc"], "lists of whole numbers"),
    "a dictionary": ({"a": 1}, "dict"),
    "a set": ({1, 2}, "set"),
    "half a surrogate": ("\ud800", "surrogate"),
    "a scalar array": (np.array(5), "shape"),
    "three dimensions": (np.ones((2, 2, 2), dtype=np.int64), "shape"),
    "ragged values of two dimensions": (ragged([[1, 2]], [0, 1]), "shape"),
    "ragged values of floats": (ragged([1.5], [0, 1], np.float64), "float64"),
    "float offsets": (ragged([1, 2], [0.0, 1.5]), "offsets"),
    "no offsets": (Ragged(np.array([1]), np.array([], dtype=np.int64)), "offsets"),
    "offsets of two dimensions": (ragged([1, 2], [[0, 1]]), "offsets"),
    "offsets that descend": (ragged([1, 2, 3], [0, 2, 1]), "ascending"),
    "negative offsets": (ragged([1, 2, 3], [-1, 2]), "ascending"),
    "offsets beyond the values": (ragged([1, 2, 3], [0, 4]), "ascending"),
    "offsets that overflow": (Ragged(np.array([1]), np.array([0, 2**64 - 1], dtype=np.uint64)), "ascending"),
    "offsets of the largest int64": (ragged([1], [0, 2**63 - 1]), "ascending"),
    "Arrow with a null": (pa.array([[1], None]), "NULL"),
    "Arrow with a null id": (pa.array([[1, None]]), "NULL"),
    "Arrow ids without lists": (pa.array([1, 2]), "lists"),
    "Arrow texts with a null": (pa.array(["a", None]), "NULL"),
    "Arrow floats": (pa.array([[1.5]]), "whole numbers"),
    "Arrow lists of lists": (pa.array([[[1]]]), "whole numbers"),
    "Arrow truth values": (pa.array([[True]]), "whole numbers"),
    "Arrow nulls only": (pa.nulls(2), "NULL"),
    "Arrow list views": (pa.array([[1]], pa.list_view(pa.int64())), "lists"),
    "an Arrow table": (pa.table({"tokens": [[1], [2]]}), "texts"),
}

REFUSED_ONE = {
    "an empty query": ([], "empty"),
    "the separator": ([1, 255], "255 is out of range"),
    "an id beyond 32 bits": ([2**32], "4294967296 is out of range"),
    "an id beyond 64 bits": ([10**100], "out of range"),
    "a negative id": ([-1], "-1 is out of range"),
    "a text": ("ab", "str"),
    "bytes": (b"ab", "bytes"),
    "None": (None, "NoneType"),
    "a number": (5, "int"),
    "a generator": ((i for i in (1, 2)), "generator"),
    "a dictionary": ({1: 2}, "dict"),
    "a set": ({1}, "set"),
    "float ids": ([1.0], "1.0 is not a whole number"),
    "NaN": ([NAN], "nan is not a whole number"),
    "truth values": ([True], "True is not a whole number"),
    "truth values of numpy": ([np.True_], "not a whole number"),
    "None in a list": ([1, None], "None is not a whole number"),
    "texts": (["a"], "not a whole number"),
    "several queries": ([[1], [2]], "not a whole number"),
    "a matrix": (np.ones((2, 2), dtype=np.int64), "not a whole number"),
    "a scalar array": (np.array(5), "ndarray"),
    "a float array": (np.array([1.5]), "not a whole number"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rows = [{"text": "abcab", "d": "x"}, {"text": "abc", "d": "y"}, {"text": "zz", "d": "x"}]
    write_jsonl(folder / "a.jsonl", rows)
    from memindex.corpus.sources import ReadOptions

    for shards in (1, 2):
        out = folder / f"shards-{shards}"
        build_index([folder / "a.jsonl"], out, tokenizer="bytes", options=ReadOptions(domain_field="d"), shards=shards)
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["one shard", "two shards"])
def index(folder, request):
    return Index.open(folder / f"shards-{request.param}")


def refuses(call, part: str) -> None:
    with pytest.raises(QueryError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert part in message


@pytest.mark.parametrize("queries", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("operation", BATCH.values(), ids=BATCH)
def test_a_batch_that_has_no_answer_is_refused(index, operation, queries):
    refuses(lambda: operation(index, queries[0]), queries[1])


@pytest.mark.parametrize("query", REFUSED_ONE.values(), ids=REFUSED_ONE)
@pytest.mark.parametrize("operation", ONE.values(), ids=ONE)
def test_a_query_that_has_no_answer_is_refused(index, operation, query):
    refuses(lambda: operation(index, query[0]), query[1])


A, B, C = b"abc"

#: Other ways to ask for "ab", "c" and "abx": (2, 1, 0) times in the first domain, (1, 1, 0) in the second.
ACCEPTED = {
    "lists": [[A, B], [C], [A, B, 120]],
    "tuples": ((A, B), (C,), (A, B, 120)),
    "texts": ["ab", "c", "abx"],
    "texts in an array": np.array(["ab", "c", "abx"]),
    "texts in an array of objects": np.array(["ab", "c", "abx"], dtype=object),
    "Arrow texts": pa.array(["ab", "c", "abx"]),
    "Arrow texts, chunks": pa.chunked_array([["ab"], [], ["c", "abx"]], pa.large_string()),
    "arrays": [np.array([A, B]), np.array([C], dtype=np.uint8), np.array([A, B, 120], dtype=">i8")],
    "numbers of numpy": [[np.int8(A), np.uint64(B)], range(C, C + 1), [A, B, np.int64(120)]],
    "ragged": ragged([A, B, C, A, B, 120], [0, 2, 3, 6]),
    "ragged, big-endian": ragged([A, B, C, A, B, 120], [0, 2, 3, 6], ">u4"),
    "ragged, big-endian offsets": Ragged(np.array([A, B, C, A, B, 120]), np.array([0, 2, 3, 6], dtype=">i8")),
    "ragged, int8": ragged([A, B, C, A, B, 120], [0, 2, 3, 6], np.int8),
    "ragged, every other": Ragged(np.repeat([A, B, C, A, B, 120], 2)[::2], np.repeat([0, 2, 3, 6], 2)[::2]),
    "ragged, from the second id on": ragged([9, A, B, C, A, B, 120], [1, 3, 4, 7]),
    "ragged of lists": Ragged([A, B, C, A, B, 120], [0, 2, 3, 6]),
    "Arrow": pa.array([[A, B], [C], [A, B, 120]]),
    "Arrow, large lists of uint8": pa.array([[A, B], [C], [A, B, 120]], pa.large_list(pa.uint8())),
    "Arrow, a slice": pa.array([[1], [A, B], [C], [A, B, 120], None])[1:4],
    "Arrow, chunks": pa.chunked_array([[[A, B]], [], [[C], [A, B, 120]]], pa.list_(pa.int64())),
}


@pytest.mark.parametrize("queries", ACCEPTED.values(), ids=ACCEPTED)
def test_every_form_of_a_batch_has_the_same_answer(index, queries):
    assert index.count(queries).tolist() == [3, 2, 0]
    assert index.count_by_domain(queries).tolist() == [[2, 1], [1, 1], [0, 0]]
    for operation in BATCH.values():
        assert same(operation(index, queries), operation(index, [[A, B], [C], [A, B, 120]]))


@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, lambda m: np.repeat(m, 2, axis=1)[:, ::2]])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", ">u8", "<u4"])
def test_matrices_of_any_layout_have_the_same_answer(index, form, dtype):
    matrix = np.array([[A, B], [C, A]], dtype=dtype)
    assert index.count(form(matrix)).tolist() == [3, 1]


OPTIONS = {
    "limit": lambda index, value: index.positions([[A]], value),
    "limit of documents": lambda index, value: index.documents([[A]], value),
    "max_tokens": lambda index, value: index.documents([[A]], max_tokens=value),
    "min_tokens": lambda index, value: index.spans([[A]], min_tokens=value),
    "max_count": lambda index, value: index.spans([[A]], max_count=value),
    "cap": lambda index, value: index.document_count([[A]], cap=value),
}


@pytest.mark.parametrize("value", [0, -1, 1.0, NAN, "1", True, 2**63, 10**30, [1]], ids=repr)
@pytest.mark.parametrize("operation", OPTIONS.values(), ids=OPTIONS)
def test_options_that_are_no_numbers_from_one_on_are_refused(index, operation, value):
    refuses(lambda: operation(index, value), "must be a whole number of at least 1, not")


@pytest.mark.parametrize("operation", OPTIONS.values(), ids=OPTIONS)
def test_the_largest_options_are_accepted(index, operation):
    assert operation(index, 2**63 - 1) is not None
    assert operation(index, np.int64(1)) is not None


@pytest.mark.parametrize("query", [[A, B], (A, B), np.array([A, B]), np.array([A, B], dtype=">u2"), range(A, A + 2)])
def test_every_form_of_a_query_has_the_same_answer(index, query):
    assert index.count_one(query) == 3
    assert index.count_by_domain_one(query) == [2, 1]


@pytest.mark.parametrize("queries", [[], np.empty((0, 3), dtype=np.int64), pa.array([], pa.list_(pa.int32())), ()])
def test_an_empty_batch_has_an_empty_answer(index, queries):
    assert index.count(queries).shape == (0,)
    assert index.count_by_domain(queries).shape == (0, 2)


@pytest.mark.parametrize("offset", [-1, 1, 2**62])
@pytest.mark.parametrize("operation", BATCH.values(), ids=BATCH)
def test_an_empty_batch_that_starts_outside_of_its_values_is_refused(index, operation, offset):
    refuses(lambda: operation(index, ragged([], [offset])), "ascending inside the values")


@pytest.mark.parametrize("seed", [-1, 1.5, "1", NAN, True, [1]], ids=repr)
def test_a_seed_that_is_no_whole_number_is_refused(index, seed):
    refuses(lambda: index.positions([[A]], seed=seed), "seed must be a whole number of at least 0, not")
    refuses(lambda: index.documents([[A]], seed=seed), "seed must be a whole number of at least 0, not")
    assert index.positions([[A]], seed=2**70).position.size


@pytest.mark.parametrize("length", [6, 12, 14, 100, 100_000])
def test_a_query_longer_than_the_corpus_counts_zero(index, length):
    query = (b"abcab" * length)[:length]
    assert index.count_one(list(query)) == 0
    assert index.count([list(query)]).tolist() == [0]
    assert index.count_by_domain([list(query)]).tolist() == [[0, 0]]


@pytest.fixture
def copied(folder, tmp_path):
    """An open index in a folder of its own."""
    for file in (folder / "shards-2").iterdir():
        (tmp_path / "index").mkdir(exist_ok=True)
        (tmp_path / "index" / file.name).write_bytes(file.read_bytes())
    return Index.open(tmp_path / "index")


OPERATIONS = [
    *(pytest.param(call, [[A, B]], id=name) for name, call in BATCH.items()),
    *(pytest.param(call, [A, B], id=name) for name, call in ONE.items()),
]


def same(left, right) -> bool:
    return pickle.dumps(left) == pickle.dumps(right)


@pytest.mark.parametrize(("operation", "query"), OPERATIONS)
def test_deleted_or_replaced_files_stay_open(copied, operation, query):
    before = operation(copied, query)
    for file in copied.path.iterdir():
        file.unlink()
    assert same(operation(copied, query), before)
    for name in ("tokenized.0", "table.0", "tokenized.1", "table.1", "domain.0"):
        (copied.path / name).write_bytes(b"another index")
    assert same(operation(copied, query), before)


@pytest.mark.parametrize(("operation", "query"), OPERATIONS)
@pytest.mark.parametrize("name", ["tokenized.0", "table.1", "keys.0"])
@pytest.mark.parametrize("change", [lambda b: b"", lambda b: b[:-1], lambda b: b + b"\0", lambda b: b * 5000])
def test_a_file_that_shrinks_or_grows_while_open_is_an_error(copied, operation, query, name, change):
    before = operation(copied, query)
    whole = (copied.path / name).read_bytes()
    (copied.path / name).write_bytes(change(whole))
    with pytest.raises(CorruptIndexError, match=rf"{name}: byte \d+: the file changed"):
        operation(copied, query)
    (copied.path / name).write_bytes(whole)
    assert same(operation(copied, query), before)
