"""A model is run on an index's ids only where both mean the same by them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from synthetic_corpus import sentences, train_bpe
from synthetic_index import write_index

pytest.importorskip("torch")
pytest.importorskip("transformers")

from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import MemindexError
from memindex.index import Index, build_index
from memindex.models.from_index import train_on_index
from memindex.models.sources import read_tokenizer
from memindex.models.tokenizer_check import check_tokenizer, vocabulary

pytestmark = pytest.mark.models

SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus, two tokenizers, and an index for each and for bytes."""
    folder = tmp_path_factory.mktemp("root")
    texts = [json.dumps({"text": text}) for text in sentences(60)]
    (folder / "texts.jsonl").write_text("\n".join(texts) + "\n")
    for name, size in (("own", 320), ("larger", 400)):
        train_bpe(folder / name / "tokenizer.json", size)
        build_index([folder / "texts.jsonl"], folder / f"{name}-index", tokenizer=str(folder / name), shards=2)
    build_index([folder / "texts.jsonl"], folder / "bytes-index", tokenizer="bytes")
    return folder


@pytest.fixture
def index(root):
    return Index.open(root / "own-index")


def model(folder, rows, definition=None, record=None):
    """A folder with a model's config, and a tokenizer or a training record; no check reads weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": rows}))
    if definition is not None:
        (folder / "tokenizer.json").write_text(json.dumps(definition))
    if record is not None:
        (folder / "training.json").write_text(json.dumps({"trained_tokens": 1} | record))
    return folder


def definition_of(index):
    return json.loads(index.tokenizer.definition)


def test_equal_vocabularies_are_fine_whatever_else_the_file_says(index, tmp_path):
    changed = definition_of(index) | {"truncation": None, "version": "1.0", "post_processor": None}
    assert json.dumps(changed).encode() != index.tokenizer.definition
    check_tokenizer(index, model(tmp_path / "m", 1024, changed))


def test_more_tokens_than_the_index_knows_are_fine(index, tmp_path):
    more = definition_of(index)
    more["added_tokens"] += [{"id": 320 + i, "content": f"<|extra{i}|>", **SPECIAL} for i in range(3)]
    check_tokenizer(index, model(tmp_path / "m", 384, more))


def test_tokens_that_only_the_index_knows_are_fine_unless_they_occur(index, tmp_path):
    fewer = definition_of(index)
    texts = {i: t for t, i in fewer["model"]["vocab"].items()}
    counts = index.count([[i] for i in range(len(texts))])
    unused = int(next(i for i in texts if counts[i] == 0))
    used = int(next(i for i in reversed(range(len(texts))) if counts[i] > 0))
    del fewer["model"]["vocab"][texts[unused]]
    fewer["added_tokens"] = [t for t in fewer["added_tokens"] if t["id"] != unused]
    fewer["model"]["merges"] = []
    check_tokenizer(index, model(tmp_path / "unused", 320, fewer))
    del fewer["model"]["vocab"][texts[used]]
    with pytest.raises(MemindexError, match=f"id {used} is .* in the index, nothing in the model; .*--retokenize"):
        check_tokenizer(index, model(tmp_path / "used", 320, fewer))


def test_a_token_with_another_text_is_named(index, tmp_path):
    swapped = definition_of(index)
    counts = index.count([[i] for i in range(320)])
    first, second = (int(i) for i in counts.argsort()[-2:])
    texts = {i: t for t, i in swapped["model"]["vocab"].items()}
    swapped["model"]["vocab"] |= {texts[first]: second, texts[second]: first}
    with pytest.raises(MemindexError) as caught:
        check_tokenizer(index, model(tmp_path / "m", 320, swapped))
    low = min(first, second)
    assert f"id {low} is {texts[low]!r} in the index, {texts[first + second - low]!r} in the model" in str(caught.value)
    assert str(tmp_path / "m") in str(caught.value)
    assert str(index.path) in str(caught.value)


def test_another_tokenizer_is_refused_both_ways(root, index, tmp_path):
    larger = Index.open(root / "larger-index")
    with pytest.raises(MemindexError, match="is not that of"):
        check_tokenizer(larger, model(tmp_path / "small", 400, definition_of(index)))
    with pytest.raises(MemindexError, match="one of them is of bytes"):
        check_tokenizer(index, model(tmp_path / "bytes", 320, record={"tokenizer": "bytes"}))


def test_a_vocabulary_wider_than_the_index_is_refused_before_anything_else(root, tmp_path):
    narrow = Index.open(root / "bytes-index")
    with pytest.raises(MemindexError, match=r"\(50,304 ids\) is larger than the 1-byte tokens of .*--retokenize"):
        check_tokenizer(narrow, model(tmp_path / "m", 50_304))
    with pytest.raises(MemindexError, match=r"\(400 ids\) is larger than the 1-byte tokens"):
        check_tokenizer(narrow, model(tmp_path / "t", 400, definition_of(Index.open(root / "larger-index"))))


def test_a_padded_embedding_is_no_larger_vocabulary(root, tmp_path):
    narrow = Index.open(root / "bytes-index")
    check_tokenizer(narrow, model(tmp_path / "m", 512, record={"tokenizer": "bytes", "tokenizer_checksum": "bytes"}))


def test_ids_without_an_embedding_are_refused_only_where_they_occur(index, tmp_path):
    counts = index.count([[i] for i in range(320)])
    largest = int(counts.nonzero()[0][-1])
    check_tokenizer(index, model(tmp_path / "enough", largest + 1))
    with pytest.raises(MemindexError, match=f"holds token id {largest}, .* knows 0 to {largest - 1}: "):
        check_tokenizer(index, model(tmp_path / "short", largest))


@pytest.mark.parametrize("width", [1, 2])
def test_an_index_whose_tokenizer_is_not_known_is_judged_by_its_ids(tmp_path, width):
    made = write_index(tmp_path, [[1, 2, 3], [200]], 2, width)
    (made.path / "index.json").unlink()
    bare = Index.open(made.path)
    assert not bare.has_tokenizer
    check_tokenizer(bare, model(tmp_path / "enough", 201))
    with pytest.raises(MemindexError, match=r"holds token id 200, .* knows 0 to 199"):
        check_tokenizer(bare, model(tmp_path / "short", 200))


def test_a_trained_model_brings_the_tokenizer_of_its_index(root, index, tmp_path):
    for name in ("own-index", "bytes-index"):
        trained = Index.open(root / name)
        record = train_on_index(trained, "llama", "10k", 640, tmp_path / name, context=32, batch_size=4)
        assert record["tokenizer_checksum"] == trained.manifest.tokenizer_checksum
        assert record["corpus"] == name
        check_tokenizer(trained, tmp_path / name)
        assert read_tokenizer(tmp_path / name).checksum == trained.tokenizer.checksum
    assert (tmp_path / "own-index" / "tokenizer.json").read_bytes() == index.tokenizer.definition
    assert not (tmp_path / "bytes-index" / "tokenizer.json").exists()
    with pytest.raises(MemindexError, match="one of them is of bytes"):
        check_tokenizer(index, tmp_path / "bytes-index")
    (tmp_path / "own-index" / "tokenizer.json").unlink()
    check_tokenizer(index, tmp_path / "own-index")
    with pytest.raises(MemindexError, match="was trained on an index with another tokenizer"):
        check_tokenizer(Index.open(root / "larger-index"), tmp_path / "own-index")


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_a_damaged_tokenizer_is_one_line(index, tmp_path, content):
    folder = model(tmp_path / "m", 320)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(MemindexError, match=r"not a tokenizer\.json"):
        check_tokenizer(index, folder)


def test_a_tokenizer_in_another_form_is_named(index, tmp_path):
    folder = model(tmp_path / "m", 320)
    (folder / "tokenizer.model").write_bytes(b"no tokenizer")
    with pytest.raises(MemindexError, match=r"is a tokenizer\.model, which transformers can't convert here") as caught:
        check_tokenizer(index, folder)
    assert "\n" not in str(caught.value)


def test_real_vocabularies_tell_the_families_apart(shared, tmp_path):
    tokenizers = shared / "tokenizers"
    indexes = {}
    for kind, text in (("plain", "def main(): return 1\n"), ("quoting", "the token <|endoftext|> ends a text\n")):
        (tmp_path / f"{kind}.jsonl").write_text(json.dumps({"text": text * 20}) + "\n")
        build_index([tmp_path / f"{kind}.jsonl"], tmp_path / kind, tokenizer=str(tokenizers / "pythia"))
        indexes[kind] = Index.open(tmp_path / kind)
    for name, size in (("pythia", 50304), ("olmo-1", 50304), ("olmo-2", 100352), ("llama-2", 32000)):
        model(tmp_path / name, size, json.loads((tokenizers / name / "tokenizer.json").read_text()))
        assert max(vocabulary(load_tokenizer(tokenizers / name))) < size
    for opened in indexes.values():
        check_tokenizer(opened, tmp_path / "pythia")
        with pytest.raises(MemindexError, match="is larger than the 2-byte tokens"):
            check_tokenizer(opened, tmp_path / "olmo-2")
        with pytest.raises(MemindexError, match="is not that of"):
            check_tokenizer(opened, tmp_path / "llama-2")
    # OLMo 1 renamed one of the tokens that it took over; without that one, the ids mean the same to it.
    check_tokenizer(indexes["plain"], tmp_path / "olmo-1")
    with pytest.raises(MemindexError, match=r"id 0 is '<\|endoftext\|>' in the index, '\|\|\|IP_ADDRESS"):
        check_tokenizer(indexes["quoting"], tmp_path / "olmo-1")


def test_the_check_loads_no_torch(root, tmp_path):
    folder = model(tmp_path / "m", 320, definition_of(Index.open(root / "own-index")))
    program = (
        "import sys; from memindex.index import Index; from memindex.models.tokenizer_check import check_tokenizer; "
        f"check_tokenizer(Index.open({str(root / 'own-index')!r}), {str(folder)!r}); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
