"""Token ids: gigatoken against `tokenizers`, on fuzzed text and on real text; the byte tokenizer; loading."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import warnings

import gigatoken
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_corpus import AWKWARD, assert_refused, sentencepiece, sentences, train_bpe, word_level, write_jsonl
from tokenizers import decoders, models

from memindex.corpus import tokenizer as tokenizer_module
from memindex.corpus.tokenizer import HUB_NAMES, Tokenizer, load_tokenizer
from memindex.errors import MemindexError, QueryError


@pytest.fixture(scope="session")
def bpe_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "small" / "tokenizer.json"
    train_bpe(file)
    return file


@pytest.fixture(scope="session")
def bpe(bpe_file):
    return load_tokenizer(bpe_file)


def as_texts(texts):
    return pa.array([text.encode("utf-8") for text in texts], pa.large_binary())


def rows(ragged):
    return [ragged.row(i).tolist() for i in range(ragged.rows)]


def oracle(file, texts):
    made = tokenizers.Tokenizer.from_file(str(file))
    return [made.encode(text, add_special_tokens=False).ids for text in texts]


def uses_gigatoken(loaded):
    return loaded._fast is not None


unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PIECES = ["  ", "\r\n", "\n", "\t", " the", "'s", "123", "e\u0301", "\u200d", "😀", "<|endoftext|>", "\0", "日本"]
rough_text = st.lists(st.sampled_from(PIECES) | unicode_text).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(rough_text, max_size=5))
@example(AWKWARD)
def test_fuzzed_unicode_gives_the_ids_of_tokenizers(bpe, bpe_file, texts):
    got = bpe.encode_batch(as_texts(texts))
    assert rows(got) == oracle(bpe_file, texts)
    assert uses_gigatoken(bpe)
    assert (got.values.dtype, got.offsets.dtype) == ("uint32", "int64")


@settings(max_examples=100, deadline=None)
@given(rough_text)
def test_one_text_gives_the_ids_it_has_in_a_batch(bpe, text):
    assert bpe.encode(text) == rows(bpe.encode_batch(as_texts(["before", text, "after"])))[1]


@settings(max_examples=100, deadline=None)
@given(rough_text)
def test_decoding_gives_the_text_back(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


#: Characters of Unicode 11 to 17 that gigatoken 0.10 and tokenizers 0.23 take for different things.
NEWER = [0x7FD, 0x898, 0x9FE, 0x1ADB, 0xA7CE, 0x10940, 0x11F41, 0x16FF2, 0x18D80, 0x1E6C0, 0x2B73A, 0x323B0, 0x33479]


def normalizing_bpe(file):
    """NFC and GPT-2's pattern of letters, as pythia has: both depend on the version of Unicode."""
    made = train_bpe(file)
    made.normalizer = tokenizers.normalizers.NFC()
    made.save(str(file))
    return file


def around(character):
    return [f"a{character}a", f"{character}'s 1", f"\u0345{character}\u0316", f"{character}<the> {character}.", "plain"]


def test_characters_newer_than_an_engine_get_the_ids_of_tokenizers(tmp_path):
    file = normalizing_bpe(tmp_path / "nfc.json")
    loaded = load_tokenizer(file)
    loaded.encode_batch(as_texts(["compared with this"]))
    texts = [text for code in NEWER for text in around(chr(code))]
    assert rows(loaded.encode_batch(as_texts(texts))) == oracle(file, texts)
    assert rows(load_tokenizer(file).encode_batch(as_texts(texts))) == oracle(file, texts)
    assert uses_gigatoken(loaded)


def test_no_code_point_gets_other_ids_than_those_of_tokenizers(tmp_path):
    file = normalizing_bpe(tmp_path / "nfc.json")
    loaded = load_tokenizer(file)
    loaded.encode_batch(as_texts(["compared with this"]))
    # Every code point of the planes with scripts, some 60 a text; private use and unassigned planes are left out.
    codes = [code for code in range(0x20, 0x34000) if not 0xD800 <= code < 0xE000]
    texts = [
        "".join(f"{chr(code)}'s \u0345{chr(code)}\u0316 " for code in codes[i : i + 60])
        for i in range(0, len(codes), 60)
    ]
    got, want = rows(loaded.encode_batch(as_texts(texts))), oracle(file, texts)
    assert [text for text, a, b in zip(texts, got, want, strict=True) if a != b] == []
    assert uses_gigatoken(loaded)


def test_special_tokens_in_text_become_their_ids_in_both_engines(bpe, bpe_file):
    # What trained the model saw the same: tokenizers does not tell such text from a real end of text.
    texts = ["<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> <|endoftext|>", "<|endoftext", "<|endoftext|"]
    ids = oracle(bpe_file, texts)
    assert ids[0] == [0]
    assert [row.count(0) for row in ids] == [1, 1, 2, 0, 0]
    assert rows(bpe.encode_batch(as_texts(texts))) == ids
    assert [bpe.encode(text) for text in texts] == ids


def test_no_special_tokens_are_put_around_a_text(tmp_path):
    file = tmp_path / "tokenizer.json"
    made = train_bpe(file)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    made.enable_truncation(3)
    made.enable_padding(length=50)
    made.save(str(file))
    loaded = load_tokenizer(file)
    text = "the quick brown fox jumps over lazy dogs"
    made.no_truncation()
    made.no_padding()
    expected = made.encode(text, add_special_tokens=False).ids
    assert loaded.encode(text) == expected
    assert rows(loaded.encode_batch(as_texts([text, "a"])))[0] == expected


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["", "a", "", "", "b", ""]])
def test_empty_texts_and_batches(bpe_file, texts):
    loaded = load_tokenizer(bpe_file)
    assert rows(loaded.encode_batch(as_texts(texts))) == oracle(bpe_file, texts)


def test_a_slice_of_a_batch_is_tokenized_alone(bpe, bpe_file):
    texts = [*AWKWARD, "", "last"]
    for start, length in [(0, 1), (3, 5), (len(texts) - 1, 1), (len(texts), 0)]:
        part = as_texts(texts).slice(start, length)
        assert rows(bpe.encode_batch(part)) == oracle(bpe_file, texts[start : start + length])


def test_a_large_batch_keeps_its_rows_apart(bpe, bpe_file):
    texts = [text for pair in zip(sentences(2000), AWKWARD * 200, strict=False) for text in pair]
    assert rows(bpe.encode_batch(as_texts(texts))) == oracle(bpe_file, texts)


def test_what_gigatoken_can_not_read_is_tokenized_by_tokenizers_with_a_warning(tmp_path):
    file = tmp_path / "words.json"
    made = word_level(file, ["the", "fox"])
    loaded = load_tokenizer(file)
    texts = ["the fox", "", "fox the unheard", "😀"]
    with pytest.warns(UserWarning, match="gigatoken can't read words") as caught:
        got = loaded.encode_batch(as_texts(texts))
    assert "\n" not in str(caught[0].message)
    assert rows(got) == [made.encode(text).ids for text in texts] == [[1, 2], [], [2, 1, 0], [0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.encode_batch(as_texts(texts))


def test_unigram_models_are_tokenized_by_tokenizers(tmp_path):
    pieces = [("<unk>", 0.0), ("the", -1.0), (" fox", -1.5), ("t", -4.0), ("h", -4.0), ("e", -4.0), (" ", -3.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    made.save(str(tmp_path / "unigram.json"))
    loaded = load_tokenizer(tmp_path / "unigram.json")
    assert loaded.vocabulary == 7
    with pytest.warns(UserWarning, match="tokenizing slowly"):
        got = loaded.encode_batch(as_texts(["the fox", "he"]))
    assert rows(got) == [made.encode("the fox").ids, made.encode("he").ids]


class WrongTokenizer:
    """A gigatoken that gives one wrong id, in the last text."""

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def from_json(cls, definition):
        return cls(ORIGINAL.from_json(definition))

    def encode_batch(self, texts):
        encoded = self.inner.encode_batch(texts)
        lists = encoded.to_list()
        if lists and lists[-1]:
            lists[-1][-1] += 1
        import awkward

        return awkward.from_iter(lists)


ORIGINAL = gigatoken.Tokenizer


def test_a_tokenizer_that_differs_from_tokenizers_is_not_used(bpe_file, monkeypatch):
    monkeypatch.setattr(gigatoken, "Tokenizer", WrongTokenizer)
    loaded = load_tokenizer(bpe_file)
    texts = ["the quick", "brown fox"]
    with pytest.warns(UserWarning, match="gigatoken differs from tokenizers for small"):
        got = loaded.encode_batch(as_texts(texts))
    assert rows(got) == oracle(bpe_file, texts)
    assert not uses_gigatoken(loaded)


def test_the_comparison_takes_a_first_part_of_a_large_batch(bpe_file, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "COMPARED_BYTES", 100)
    compared = []
    slow = Tokenizer._with_tokenizers
    monkeypatch.setattr(Tokenizer, "_with_tokenizers", lambda self, t: compared.append(len(t)) or slow(self, t))
    loaded = load_tokenizer(bpe_file)
    loaded.encode_batch(as_texts(["x" * 40] * 50))
    loaded.encode_batch(as_texts(["x" * 40] * 50))
    assert len(compared) == 1
    assert 1 <= compared[0] <= 3


@settings(max_examples=100, deadline=None)
@given(st.lists(unicode_text, max_size=4))
def test_byte_ids_are_the_utf8_bytes(texts):
    loaded = load_tokenizer("bytes")
    assert rows(loaded.encode_batch(as_texts(texts))) == [list(text.encode("utf-8")) for text in texts]
    assert [loaded.encode(text) for text in texts] == [list(text.encode("utf-8")) for text in texts]
    assert [loaded.decode(list(text.encode("utf-8"))) for text in texts] == texts


def test_the_byte_tokenizer_takes_slices_and_shows_broken_bytes_with_a_mark():
    loaded = load_tokenizer("bytes")
    assert rows(loaded.encode_batch(as_texts(["ab", "", "cd", "e"]).slice(1, 2))) == [[], [99, 100]]
    assert rows(loaded.encode_batch(as_texts([]))) == []
    assert loaded.decode([0xC3]) == "\ufffd"
    assert (loaded.vocabulary, loaded.token_width(), loaded.is_bytes) == (256, 1, True)


@given(unicode_text)
def test_bytes_belong_to_the_characters_they_are_of(text):
    ids, characters = load_tokenizer("bytes").encode_with_offsets(text)
    assert ids == list(text.encode())
    expected = [(i, i + 1) for i, character in enumerate(text) for _ in character.encode()]
    assert characters == expected


@given(text=rough_text)
def test_tokens_belong_to_the_characters_they_were_made_from(bpe, text):
    ids, characters = bpe.encode_with_offsets(text)
    assert ids == bpe.encode(text)
    for (first, end), token in zip(characters, ids, strict=True):
        piece = bpe.decode([token])
        assert text[first:end] == piece or "\ufffd" in piece


@given(text=rough_text, data=st.data())
@example(text="日本", data=None)
def test_pieces_are_cut_from_the_text_of_the_whole(bpe, text, data):
    for loaded in (bpe, load_tokenizer("bytes")):
        ids = loaded.encode(text)
        first = data.draw(st.integers(0, len(ids))) if data else 2
        end = data.draw(st.integers(first, len(ids))) if data else 4
        pieces = [ids[:first], ids[first:end], ids[end:]]
        (texts,) = loaded.decode_pieces([pieces])
        apart = [loaded.decode(piece) for piece in pieces]
        # These tokenizers add no spaces: what is cut between characters is the same either way.
        assert texts == apart
        if "\ufffd" not in "".join(apart):
            assert "".join(texts) == text


def test_pieces_keep_the_space_that_a_tokenizer_drops_at_the_start(tmp_path):
    made = word_level(tmp_path / "words.json", ["▁red", "▁fox", "▁ran"])
    made.decoder = decoders.Metaspace()
    made.save(str(tmp_path / "words.json"))
    loaded = load_tokenizer(tmp_path / "words.json")
    assert loaded.decode([2]) == "fox"
    assert loaded.decode_pieces([[[1], [2], [3]], [[], [2], [3, 1]], [[1, 2]]]) == [
        ["red", " fox", " ran"],
        ["", "fox", " ran red"],
        ["red fox"],
    ]
    assert loaded.decode_pieces([]) == []


def test_pieces_inside_a_character_are_decoded_one_by_one():
    loaded = load_tokenizer("bytes")
    euro = list("€".encode())
    assert loaded.decode_pieces([[[97], euro[:1], euro[1:]]]) == [["a", "\ufffd", "\ufffd\ufffd"]]
    # Here the text of the beginning does not change, although a byte more is in it.
    assert loaded.decode_pieces([[euro[:1], euro[1:2]]]) == [["\ufffd", "\ufffd"]]


@pytest.mark.parametrize("text", ["\ud800", "a\udcff", "\udfff b"])
def test_half_a_surrogate_pair_is_refused(bpe, text):
    for loaded in (bpe, load_tokenizer("bytes")):
        with pytest.raises(QueryError, match="not valid Unicode"):
            loaded.encode(text)
        with pytest.raises(QueryError, match="not valid Unicode"):
            loaded.encode_with_offsets(text)


@pytest.mark.parametrize(
    ("largest", "width"), [(1, 1), (254, 1), (255, 2), (65534, 2), (65535, 4), (65536, 4), (100_000, 4)]
)
def test_token_width_keeps_the_separator_free(tmp_path, largest, width):
    definition = {"model": {"vocab": {"a": 0, "b": largest}}, "added_tokens": []}
    loaded = Tokenizer("t", json.dumps(definition).encode())
    assert (loaded.vocabulary, loaded.token_width()) == (largest + 1, width)


def test_added_tokens_count_for_the_vocabulary_and_name_the_end_of_text():
    added = [{"id": 300, "content": "</s>"}, {"id": 7, "content": "<pad>"}]
    loaded = Tokenizer("t", json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": added}).encode())
    assert (loaded.vocabulary, loaded.eos_token_id) == (301, 300)


def test_a_tokenizer_is_named_after_its_folder_or_file(bpe_file, tmp_path):
    assert load_tokenizer(bpe_file).name == "small"
    assert load_tokenizer(bpe_file.parent).name == "small"
    (tmp_path / "mine.json").write_bytes(bpe_file.read_bytes())
    assert load_tokenizer(str(tmp_path / "mine.json")).name == "mine"


def test_a_folder_called_bytes_is_not_the_byte_tokenizer(bpe_file, tmp_path, monkeypatch):
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "tokenizer.json").write_bytes(bpe_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    loaded = load_tokenizer("./bytes")
    assert loaded.name != "bytes"
    assert not loaded.is_bytes
    assert load_tokenizer("bytes").is_bytes


BROKEN = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"model": "\xff"}',
    "a list": b"[]",
    "a number": b"3",
    "no model": b"{}",
    "model is a list": b'{"model": []}',
    "no vocabulary": b'{"model": {}}',
    "empty vocabulary": b'{"model": {"vocab": {}}}',
    "vocabulary of text": b'{"model": {"vocab": {"a": "b"}}}',
    "vocabulary is a number": b'{"model": {"vocab": 3}}',
    "added tokens without id": b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{}]}',
    "added tokens are numbers": b'{"model": {"vocab": {"a": 0}}, "added_tokens": [1]}',
    "unknown model": b'{"model": {"type": "Magic", "vocab": {"a": 0}}}',
    "nested too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_definition_is_refused_when_it_is_loaded(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(MemindexError, match=r"not a (usable )?tokenizer\.json"):
        load_tokenizer(file)


@pytest.mark.parametrize("name", ["nothing", "./nothing/here", "/no/such/tokenizer.json", "a/b/c", "x/y.json", ""])
def test_an_unknown_tokenizer_is_refused_without_asking_the_hub(name, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_from_hub", lambda repository: pytest.fail(f"asked for {repository}"))
    with pytest.raises(MemindexError, match="unknown tokenizer"):
        load_tokenizer(name)


@pytest.mark.parametrize(("name", "repository"), [*HUB_NAMES.items(), ("org/name-1.5_x", "org/name-1.5_x")])
def test_names_of_families_and_of_the_hub_are_asked_for_there(bpe_file, monkeypatch, name, repository):
    asked = []
    monkeypatch.setattr(tokenizer_module, "_from_hub", lambda r: asked.append(r) or bpe_file.read_bytes())
    assert load_tokenizer(name).name == name
    assert asked == [repository]


def test_a_hub_that_is_not_reachable_gives_one_line(monkeypatch):
    import huggingface_hub

    def unreachable(url, timeout):
        assert (url.endswith("/org/name/resolve/main/tokenizer.json"), timeout <= 5) == (True, True)
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked again"))
    said = r"org/name: not on the model hub or not reachable: no route; there is no folder .*/org/name either$"
    with pytest.raises(MemindexError, match=said):
        load_tokenizer("org/name")


def test_a_machine_without_network_is_told_soon(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache")}
    # Whoever tries again and again sleeps between one try and the next.
    code = "import sys, time; time.sleep = lambda s: s > 1 and sys.exit('slept'); from memindex.cli import main; main()"
    build = ["index", "build", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--tokenizer", "pythia"]
    command = [sys.executable, "-c", code, *map(str, build)]
    done = subprocess.run(command, env={**os.environ, **nobody}, capture_output=True, text=True, check=False)
    assert_refused(done, "EleutherAI/pythia-160m: not on the model hub or not reachable")


def test_what_is_on_the_hub_is_loaded(bpe_file, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(bpe_file))
    assert load_tokenizer("org/name").definition == bpe_file.read_bytes()


def test_what_the_hub_library_has_stored_needs_no_network(bpe_file, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(bpe_file))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("asked the network"))
    assert load_tokenizer("org/name").definition == bpe_file.read_bytes()


def real_texts(shared, size):
    """About `size` bytes of each development corpus, and the awkward strings."""
    found = list(AWKWARD)
    file = shared / "corpora/mini-pile/train/00.jsonl.zst"
    with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        found += _until(size, (json.loads(line)["text"] for line in io.TextIOWrapper(stream, "utf-8")))
    with gzip.open(shared / "corpora/mini-dolma/documents/rfcs/rfcs-0000.json.gz", "rt", encoding="utf-8") as stream:
        found += _until(size, (json.loads(line)["text"] for line in stream))
    for language in ("cpp", "python"):
        table = pq.read_table(shared / f"corpora/mini-stack/heldout/{language}/{language}-00000.parquet")
        found += _until(size // 2, iter(table.column("content").to_pylist()))
    return found


def _until(size, texts):
    taken = []
    while size > 0:
        text = next(texts, None)
        if text is None:
            break
        taken.append(text[:size])
        size -= len(text)
    return taken


@pytest.mark.parametrize("name", ["pythia", "olmo-1", "olmo-2", "llama-2"])
def test_real_texts_give_the_ids_of_tokenizers(shared, name):
    file = shared / "tokenizers" / name / "tokenizer.json"
    texts = real_texts(shared, 330_000)
    loaded = load_tokenizer(file)
    got = loaded.encode_batch(as_texts(texts))
    assert uses_gigatoken(loaded)
    assert rows(got) == oracle(file, texts)
    assert int(got.values.max()) < loaded.vocabulary


@pytest.mark.parametrize("name", ["pythia", "olmo-1", "olmo-2", "llama-2"])
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fuzzed_unicode_gives_the_ids_of_real_tokenizers(shared, real_tokenizers, name, data):
    _, loaded, slow = real_tokenizers(name)
    texts = data.draw(st.lists(rough_text, max_size=4))
    got = rows(loaded.encode_batch(as_texts(texts)))
    assert got == [slow.encode(text, add_special_tokens=False).ids for text in texts]
    assert uses_gigatoken(loaded)


@pytest.fixture(scope="session")
def real_tokenizers(shared):
    made = {}

    def get(name):
        if name not in made:
            file = shared / "tokenizers" / name / "tokenizer.json"
            slow = tokenizers.Tokenizer.from_file(str(file))
            made[name] = file, load_tokenizer(file), slow
        return made[name]

    return get


@pytest.mark.parametrize("name", ["pythia", "olmo-1", "olmo-2"])
def test_real_byte_level_tokenizers_give_the_text_back(shared, real_tokenizers, name):
    _, loaded, slow = real_tokenizers(name)
    assert loaded.token_width() == (4 if name == "olmo-2" else 2)
    for text in AWKWARD:
        # NFC, which some of them apply first, is no loss of ours.
        normal = slow.normalizer.normalize_str(text) if slow.normalizer else text
        assert loaded.decode(loaded.encode(text)) == normal


LONG_RUNS = [
    "a" * 30_000,
    " " * 30_000 + "end",
    "\n" * 20_000,
    "\t \r\n" * 5_000,
    "1" * 20_000,
    "=-" * 15_000,
    "日" * 10_000,
    "😀" * 8_000,
    "e\u0301" * 8_000,
    "\U0010fffd\ue000\ufeff" * 3_000,
    "\0" * 10_000,
    "<|endoftext|>" * 2_000,
    "'s" * 10_000,
    "aB3 _é\n" * 5_000,
]


@pytest.mark.parametrize("name", ["pythia", "olmo-1", "olmo-2", "llama-2"])
def test_long_runs_give_the_ids_of_tokenizers(real_tokenizers, shared, name):
    _, loaded, slow = real_tokenizers(name)
    got = rows(loaded.encode_batch(as_texts(LONG_RUNS)))
    assert got == [slow.encode(text, add_special_tokens=False).ids for text in LONG_RUNS]
    assert uses_gigatoken(loaded)


@pytest.mark.filterwarnings("ignore:gigatoken can't read")
def test_a_query_has_no_space_of_its_own_that_documents_have_at_their_beginning_only(tmp_path):
    loaded = load_tokenizer(sentencepiece(tmp_path / "tokenizer.json"))
    texts = ["ab", " ab", "\nab", "b", "", " ", "\n", "ab\nab"]
    assert loaded.encode("\nab") == [1, 2, 5]
    expected = [[6], [6], [2, 5], [4], [], [1], [2], [6, 2, 5]]
    queries = loaded.as_queries(loaded.encode_texts(texts))
    assert [queries.row(i).tolist() for i in range(queries.rows)] == expected
    assert [loaded.encode_query(text) for text in texts] == expected
    assert loaded.as_queries(loaded.encode_texts([])).rows == 0
    assert loaded.as_queries(loaded.encode_texts(["", ""])).lengths().tolist() == [0, 0]


def test_queries_of_other_tokenizers_are_their_texts(bpe):
    for loaded in (bpe, load_tokenizer("bytes")):
        for text in ["\nab", " ab", "▁ab", ""]:
            assert loaded.encode_query(text) == loaded.encode(text)
            assert loaded.as_queries(loaded.encode_texts([text])).row(0).tolist() == loaded.encode(text)
