"""Rows B5 to B7 of the cases: characters of spans under normalization, and the tokens of /attribution."""

from __future__ import annotations

import json
import unicodedata
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the server is an extra")

from family_indexes import CATS, FAMILIES, family_index
from hypothesis import example, given, settings
from hypothesis import strategies as st
from served_index import Asker
from synthetic_corpus import memindex, sentencepiece, write_jsonl
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from memindex.corpus import offsets
from memindex.corpus.tokenizer import Tokenizer as LoadedTokenizer
from memindex.corpus.tokenizer import load_tokenizer
from memindex.index import Index, build_index

TILDE = "u\u0303"
HANGUL = "\u1112\u1161\u11ab"
EOS = "<|endoftext|>"


def without_accents(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Mc", "Me"))


def lower(text: str) -> str:
    return "".join(map(str.lower, text))


def bare(text: str) -> str:
    return without_accents(unicodedata.normalize("NFD", text)).lower()


#: Name -> a normalizer, and the same in Python.
NORMALIZERS = {
    "none": (None, str),
    **{
        form: (getattr(normalizers, form)(), partial(unicodedata.normalize, form))
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    },
    "lowercase": (normalizers.Lowercase(), lower),
    "bare": (
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        bare,
    ),
    "dash": (normalizers.Replace("--", "\u2014"), lambda text: text.replace("--", "\u2014")),
    "dots": (normalizers.Replace("\u2026", "..."), lambda text: text.replace("\u2026", "...")),
    "gone": (normalizers.Replace("b", ""), lambda text: text.replace("b", "")),
    "composed spaces": (
        normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(" {2,}"), " ")]),
        lambda text: " ".join(part for part in _runs(unicodedata.normalize("NFC", text))),
    ),
}


def _runs(text: str) -> list[str]:
    """Parts between runs of spaces."""
    parts = text.split(" ")
    return [part for place, part in enumerate(parts) if part or place in (0, len(parts) - 1)]


def byte_tokenizer(
    file: Path, normalizer: object = None, *, prefix_space: bool = False, trim: bool = True, merges: tuple = ()
) -> Path:
    """A tokenizer of UTF-8 bytes and a few longer tokens, as those of GPT-2's kind are written."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, list(merges)))
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, trim_offsets=trim)
    made.post_processor = processors.ByteLevel(add_prefix_space=prefix_space, trim_offsets=trim)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([EOS])
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(file))
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small tokenizers by the name of their normalizer."""
    folder = tmp_path_factory.mktemp("tokenizers")

    @cache
    def made(name: str, prefix_space: bool = False, trim: bool = True):
        file = folder / f"{name}-{prefix_space}-{trim}.json"
        return load_tokenizer(byte_tokenizer(file, NORMALIZERS[name][0], prefix_space=prefix_space, trim=trim))

    return made


@pytest.fixture(scope="module")
def tokenizer_of(request):
    """The tokenizers of the families, and of bytes, loaded once."""

    @cache
    def loaded(name: str) -> LoadedTokenizer:
        return load_tokenizer(
            name if name == "bytes" else request.getfixturevalue("shared") / "tokenizers" / name / "tokenizer.json"
        )

    return loaded


def raw_bytes(loaded, ids: list[int]) -> list[bytes]:
    """The bytes that each token writes."""
    if loaded.is_bytes:
        return [bytes([token]) for token in ids]
    letters = {}
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [code for code in range(256) if code not in codes]
    letters = {chr(code): code for code in codes} | {chr(256 + i): code for i, code in enumerate(others)}
    special = {EOS: EOS.encode()}
    return [special.get(name) or bytes(letters[letter] for letter in name) for name in loaded.names(ids)]


def assert_covers(text: str, characters: list[tuple[int, int]]) -> None:
    """The ranges are in order, and no character is outside."""
    if not characters:
        return
    assert (characters[0][0], characters[-1][1]) == (0, len(text))
    for (first, end), (after, last) in pairwise(characters):
        assert first <= after <= end <= last <= len(text)


def assert_exact(loaded, normalize, text: str, prefix: str = "") -> None:
    """Every run of tokens has the characters that are normalized to it, where there are such; by trying all."""
    ids, characters = loaded.encode_with_offsets(text)
    assert ids == loaded.encode(text)
    assert_covers(text, characters)
    written = raw_bytes(loaded, ids)
    whole = normalize(text)
    added = prefix if text and not whole.startswith(" ") else ""
    assert b"".join(written).decode() == added + whole
    heads = [normalize(text[:end]) for end in range(len(text) + 1)]
    tails = [normalize(text[first:]) for first in range(len(text) + 1)]
    for i in range(len(ids)):
        for j in range(i + 1, len(ids) + 1):
            try:
                before = b"".join(written[:i]).decode().removeprefix(added)
                inside = b"".join(written[i:j]).decode()
            except UnicodeDecodeError:
                continue
            inside = inside.removeprefix(added) if i == 0 else inside
            after = whole.removeprefix(before + inside)
            right = [
                (first, end)
                for first in range(len(text) + 1)
                if heads[first] == before
                for end in range(first, len(text) + 1)
                if tails[end] == after and normalize(text[first:end]) == inside
            ]
            found = (characters[i][0], characters[j - 1][1])
            assert not right or found in right, (text, i, j, inside, found, right)


@pytest.fixture(scope="module")
def two_letters(tmp_path_factory):
    """The index of row B5's text: ũ is one letter in it."""
    folder = tmp_path_factory.mktemp("composed")
    texts = ["\u0169 x", "\ud55c x", "(\u0169) x", "\u1ea1 x", "Bee x"]
    write_jsonl(folder / "corpus.jsonl", [{"text": text} for text in texts])
    file = byte_tokenizer(folder / "tokenizer.json", normalizers.NFC(), prefix_space=True, trim=True)
    build_index([folder / "corpus.jsonl"], folder / "index", tokenizer=file, shards=1)
    return folder / "index"


@pytest.fixture(scope="module")
def traced(two_letters):
    """The characters of all spans of a text of at least as many tokens, over HTTP."""
    ask = Asker(two_letters)

    def spans(text: str, least: int) -> list[list[int]]:
        answer = ask.post("/v1/indexes/index/trace", {"query": text, "min_tokens": least, "sources": 0})
        assert answer.status_code == 200, answer.text
        return [span["characters"] for span in answer.json()["spans"]]

    return spans


def test_b5_a_span_covers_the_marks_of_its_last_letter(two_letters, traced):
    text = f"{TILDE} zzz"
    answer = memindex("trace", "-i", two_letters, text, "--min-tokens", 3, "--json")
    (span,) = json.loads(answer.stdout)["spans"]
    assert (span["text"], span["characters"]) == (" \u0169 ", [0, 3])
    assert traced(text, 3) == [[0, 3]]
    loaded = Index.open(two_letters).tokenizer
    assert loaded.encode_with_offsets(TILDE)[1] == [(0, 0), (0, 2), (0, 2)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"q{HANGUL}", [1, 4]),
        (f"q{HANGUL}q", [1, 4]),
        (f"q({TILDE})q", [1, 5]),
        ("qa\u0323q", [1, 3]),
        # The index has no letter with both marks, but has the one that the first mark makes.
        ("qa\u0323\u0301q", [1, 3]),
        # Here the marks change places: the letter has the second one.
        ("qa\u0301\u0323q", [1, 4]),
    ],
)
def test_b5_letters_in_parts(traced, text, found):
    assert traced(text, 3) == [found]


@pytest.mark.parametrize("name", FAMILIES)
def test_b5_rows_with_the_tokenizers_of_the_families(tokenizer_of, name):
    loaded = tokenizer_of(name)
    composes = name in ("pythia", "olmo-1")
    for text, length in ((f"{TILDE} zzz", 2), (f"{HANGUL} zzz", 3)):
        ids, characters = loaded.encode_with_offsets(text)
        assert_covers(text, characters)
        letter = loaded.encode(unicodedata.normalize("NFC", text[:length]) if composes else text[:length])
        assert ids[: len(letter)] == letter
        assert characters[len(letter) - 1][1] == length
        assert not composes or {characters[place] for place in range(len(letter))} == {(0, length)}


LETTERS = st.sampled_from(
    [
        *("a", "b", "B", " ", "  ", "--", "\n", "\u0303", "\u0301", "\u0323", "\u0316", "\u00e9", "\u1ea1", "\u212b"),
        *("\u1112", "\u1161", "\u11ab", "\ud55c", "\ud558", "\u0958", "\u093c", "\ufb01", "\u2026", "\u00a0", "\u304b"),
        *("\u3099", "\uff76", "\uff9e", "\u0130", "\u00b4", "\u00df", "😀", "\u0344", "\u3131", "\u314f", "\u2126"),
    ]
)
TEXTS = st.lists(LETTERS, max_size=7).map("".join)


@pytest.mark.parametrize("name", NORMALIZERS)
@settings(max_examples=25, deadline=None)
@example(text="a\u0301\u0323b")
@example(text="a\u0316\u0301b")
@example(text="\u00b4\u0323\u0301")
@example(text="b" * 60 + "\u0303" + "\u0301" * 40)
@given(text=TEXTS)
def test_b5_under_every_normalizer(small, name, text):
    loaded, normalize = small(name), NORMALIZERS[name][1]
    if len(text) > 30:
        assert_covers(text, loaded.encode_with_offsets(text)[1])
    else:
        assert_exact(loaded, normalize, text)


@settings(max_examples=25, deadline=None)
@given(text=TEXTS)
def test_b5_with_a_prefix_space(small, text):
    for name in ("none", "NFC"):
        assert_exact(small(name, prefix_space=True), NORMALIZERS[name][1], text, prefix=" ")


@settings(max_examples=25, deadline=None)
@given(text=st.lists(LETTERS | st.just(EOS), max_size=6).map("".join))
def test_b5_between_special_tokens(small, text):
    loaded = small("NFC")
    ids, characters = loaded.encode_with_offsets(text)
    assert_covers(text, characters)
    written = raw_bytes(loaded, ids)
    assert b"".join(written).decode() == EOS.join(unicodedata.normalize("NFC", part) for part in text.split(EOS))
    places = [range for range, piece in zip(characters, written, strict=True) if piece == EOS.encode()]
    assert all(text[first:end] == EOS for first, end in places)
    assert len(places) == text.count(EOS)


@pytest.mark.parametrize("name", [*FAMILIES, "bytes"])
def test_b5_real_text_in_parts(tokenizer_of, name):
    loaded = tokenizer_of(name)
    composed = "Så går det: ça va, mañana, Việt Nam, Ελλάδα, 한국어, हिन्दी, ไทย. 5 cats\n\n  two\tspaces — ﬁn 😀👩‍🚀"
    normalize = partial(unicodedata.normalize, "NFC") if name in ("pythia", "olmo-1") else str
    for text in (composed, unicodedata.normalize("NFD", composed), f" {composed}{composed}\n"):
        ids, characters = loaded.encode_with_offsets(text)
        assert_covers(text, characters)
        for (first, end), token in zip(characters, ids, strict=True):
            piece = loaded.decode([token])
            assert "\ufffd" in piece or piece.strip() in normalize(text[first:end])
            assert end - first <= 2 * len(piece.encode()) + 1


def test_b5_a_tokenizer_that_begins_texts_with_a_space(tmp_path):
    loaded = load_tokenizer(sentencepiece(tmp_path / "tokenizer.json"))
    assert loaded.encode_with_offsets("ab\nab ab")[1] == [(0, 2), (2, 3), (3, 5), (5, 8)]
    assert loaded.encode_with_offsets("\nab")[1] == [(0, 0), (0, 1), (1, 3)]
    assert loaded.encode_with_offsets(" ab")[1] == [(0, 1), (0, 3)]


def test_b5_words_without_the_spaces_between_them(tmp_path):
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "fox": 2}, unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.BertNormalizer()])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.save(str(tmp_path / "words.json"))
    loaded = load_tokenizer(tmp_path / "words.json")
    text = "  Re\u0301d  FOX 京 red "
    ids, characters = loaded.encode_with_offsets(text)
    assert (ids, [text[first:end] for first, end in characters]) == (
        [1, 2, 0, 1],
        ["  Re\u0301d", "  FOX", " 京", " red "],
    )


def test_b5_added_tokens_of_every_kind(tmp_path):
    file = byte_tokenizer(tmp_path / "tokenizer.json", normalizers.NFC())
    made = Tokenizer.from_file(str(file))
    made.add_tokens([AddedToken("<x>", lstrip=True, rstrip=True, normalized=False), AddedToken("\u0169y")])
    made.save(str(file))
    loaded = load_tokenizer(file)
    text = f"{TILDE}  <x> {TILDE}y{TILDE}"
    ids, characters = loaded.encode_with_offsets(text)
    assert_covers(text, characters)
    by_name = dict(zip(loaded.names(ids), characters, strict=True))
    assert (by_name["<x>"], by_name["\u0169y"]) == ((2, 8), (8, 11))
    assert characters[-1] == (11, 13)


def test_b5_what_can_not_be_aligned_is_covered_all_the_same(small, monkeypatch):
    loaded = small("NFC", trim=False)
    monkeypatch.setattr(offsets.Offsets, "_alignments", lambda *_: None)
    text = f"a{TILDE} b{HANGUL}"
    assert_covers(text, loaded.encode_with_offsets(text)[1])


def test_b6_the_space_that_is_not_in_the_text(tmp_path):
    pair = (("e", "e"), ("Ġ", "B"), ("ĠB", "ee"))
    for place, (merges, trim) in enumerate((((), True), (pair, True), (pair, False))):
        file = byte_tokenizer(tmp_path / f"{place}.json", prefix_space=True, trim=trim, merges=merges)
        loaded = load_tokenizer(file)
        for text, first in ((f"{EOS}Bee", 13), ("Bee", 0), (f"a{EOS}Bee", 14)):
            ids, characters = loaded.encode_with_offsets(text)
            assert_covers(text, characters)
            inside = [range for range, token in zip(characters, ids, strict=True) if loaded.names([token]) != [EOS]]
            last = [range for range in inside if range[1] > first]
            assert (last[0][0], last[-1][1]) == (first, first + 3), text


def test_b6_in_a_trace(traced):
    assert traced(f"{EOS}Bee", 3) == [[13, 16]]
    assert traced(f"{EOS} Bee", 3) == [[13, 17]]


RESPONSE = CATS
#: As the corpus has it, and with what the corpus does not hold, marks by themselves, and a special token.
RESPONSES = (RESPONSE, unicodedata.normalize("NFD", f"7 {RESPONSE} {EOS}5 cats"), " x", "\n", "日")


@pytest.fixture(scope="module")
def attributed(tmp_path_factory, request):
    """Ask /attribution of an index with a tokenizer."""

    @cache
    def asker(name: str) -> Asker:
        shared = None if name == "bytes" else request.getfixturevalue("shared")
        return Asker(family_index(tmp_path_factory.getbasetemp(), shared, name))

    def ask(name: str, response: str, **more: object) -> dict:
        body = {"response": response, "maximumSpanDensity": 1, "minimumSpanLength": 1, "maximumFrequency": 1000}
        answer = asker(name).post(f"/{name}/attribution", body | more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.mark.parametrize("name", [*FAMILIES, "bytes"])
def test_b7_the_tokens_joined_are_the_response(attributed, tokenizer_of, name):
    normal = "NFC" if name in ("pythia", "olmo-1") else "NFD"
    for response in RESPONSES:
        answer = attributed(name, response, allowSpansWithPartialWords=True)
        pieces = answer["inputTokens"]
        assert "".join(pieces) == response
        assert len(pieces) == len(tokenizer_of(name).encode(response))
        for span in answer["spans"]:
            # What olmo-api shows of a span; a span may begin or end inside a character.
            shown = unicodedata.normalize(normal, "".join(pieces[span["left"] : span["right"]]))
            written = unicodedata.normalize(normal, span["text"])
            assert "\ufffd" in written or shown.strip() == written.strip()
    whole = attributed(name, RESPONSE)
    assert [span["text"].strip() for span in whole["spans"]] == [RESPONSE]


def test_b7_rows_of_single_tokenizers(attributed):
    assert attributed("llama-2", "5 cats sat")["inputTokens"] == ["", "5", " c", "ats", " sat"]
    assert attributed("pythia", "5 cats sat")["inputTokens"] == ["5", " cats", " sat"]
    assert attributed("bytes", "né")["inputTokens"] == ["n", "", "é"]


@pytest.mark.parametrize(
    ("response", "delimiter", "partial", "spans"),
    [
        ("on naïve mats。 Then", "。", False, ["on naïve mats。", " Then"]),
        ("on naïve mats", "ï", True, ["on naï", "ve mats"]),
        # No span ends inside a word, and letters go on behind marks and in characters of several tokens.
        ("cats sat on naïx", None, False, ["cats sat on "]),
        ("cats sat onï", None, False, ["cats sat "]),
        ("cats sat on\u0303", None, False, ["cats sat "]),
    ],
)
def test_b7_spans_are_cut_between_characters_and_words(attributed, response, delimiter, partial, spans):
    more = {"minimumSpanLength": 5, "allowSpansWithPartialWords": partial}
    answer = attributed("bytes", response, delimiters=[delimiter] if delimiter else [], **more)
    texts = [span["text"] for span in answer["spans"]]
    assert [text for text in texts if len(text) > 2][: len(spans)] == spans
