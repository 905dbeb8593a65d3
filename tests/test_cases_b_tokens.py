"""Ids of the fast tokenizer on odd tokenizers and texts, against `tokenizers`: rows B1 to B4 and their neighbours."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import gigatoken
import numpy as np
import pyarrow as pa
import pytest
import tokenizers

from memindex.corpus import fast_tokenizer, text_pieces
from memindex.corpus.fast_tokenizer import UnsupportedError, plan
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.index import Index, build_index
from memindex.ragged import from_lists

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import tokenizing_fuzz as fuzz

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plain() -> dict:
    return fuzz.trained_bytes(fuzz.byte_level(), size=600)


def definition(loaded: dict) -> bytes:
    return json.dumps(loaded).encode()


def ids_of(loaded: dict, texts: list[str]) -> tuple[list[list[int]], Tokenizer]:
    made = Tokenizer("made", definition(loaded))
    made.encode_texts(["a first text, compared"])
    found = made.encode_texts(texts)
    return [found.row(row).tolist() for row in range(found.rows)], made


def oracle(loaded: dict, texts: list[str]) -> list[list[int]]:
    own = {**loaded, "model": {**loaded["model"], "dropout": None}}
    made = tokenizers.Tokenizer.from_str(json.dumps(own))
    return [made.encode(text, add_special_tokens=False).ids for text in texts]


def long_text(words: int, seed: int = 0) -> str:
    """Some words of several scripts, numbers and marks, in lines."""
    random = np.random.default_rng(seed)
    known = [
        "the",
        "House",
        "naïve",
        "don't",
        "123",
        "x=1;",
        "кот",
        "日本語",
        "u\u0303",
        "  ",
        "(see",
        "3.14)",
        "zzz",
        "文字。字，\n字\n語",
    ]
    return " ".join(known[i] + ("\n" if i == 4 else "") for i in random.integers(0, len(known), words))


COVID = "He wrote covidence twice: covidence, and covid once."


def test_b1_whole_word_tokens_are_found_in_the_definition_not_in_the_first_texts(tmp_path: Path, shared: Path) -> None:
    loaded = json.loads((shared / "tokenizers" / "pythia" / "tokenizer.json").read_bytes())
    loaded["added_tokens"].append(fuzz.added("covid", 50_300, single_word=True, normalized=True))
    (tmp_path / "tokenizer.json").write_bytes(definition(loaded))
    others = [f"document {i}: nothing of it in {'x' * 1500}" for i in range(150)]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in [*others, *[COVID] * 10]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_index([tmp_path / "c.jsonl"], tmp_path / "out", tokenizer=tmp_path / "tokenizer.json")
    index = Index.open(tmp_path / "out")
    assert index.count([" covidence", " covid"]).tolist() == [20, 10]


@pytest.mark.parametrize("flag", ["single_word", "lstrip", "rstrip", "normalized"])
def test_b1_added_tokens_with_each_flag(plain: dict, flag: str) -> None:
    loaded = fuzz.with_added(plain, ["covid", "<m>", "a b"], **{flag: True})
    texts = [COVID, "x<m>y <m> z", "  <m>  ", "a b", "xa bx", "covid", "covid19 covid", "nothing of it", "a\u00a0<m>\n"]
    found, made = ids_of(loaded, texts)
    assert found == oracle(loaded, texts)
    assert made._fast is not None


@pytest.mark.parametrize("content", ["covid", "éa", "Kb", "a=", "x;"])
def test_b1_tokens_matched_in_normalized_text(content: str) -> None:
    loaded = fuzz.trained_bytes(fuzz.byte_level(), {"type": "NFC"}, size=600)
    loaded = fuzz.with_added(loaded, [content], normalized=True)
    texts = [
        f"a {content} b",
        f"{content}\u0323 x",
        "e\u0301a",
        "\u212ab",
        "a=\u0338",
        "x\u037e",
        "plain",
        "é",
        content,
    ]
    found, made = ids_of(loaded, texts)
    assert found == oracle(loaded, texts)
    batch = pa.array([b"plain", "é".encode()], type=pa.large_binary())
    assert not made._fast.slow_rows(batch).any()


def test_b1_text_without_the_token_stays_fast(plain: dict) -> None:
    made = Tokenizer("made", definition(fuzz.with_added(plain, ["covid"], single_word=True)))
    made.encode_texts(["a first text"])
    batch = pa.array([b"covid", b"other"], type=pa.large_binary())
    assert made._fast.slow_rows(batch).tolist() == [True, False]


UNSUPPORTED = {
    "a field of a model": lambda d: d["model"].update(new_field=1),
    "a field at the top": lambda d: d.update(new_field=1),
    "a field of an added token": lambda d: d["added_tokens"].append({**fuzz.added("xx", 9999), "new_flag": True}),
    "end_of_word_suffix": lambda d: d["model"].update(end_of_word_suffix="</w>"),
    "continuing_subword_prefix": lambda d: d["model"].update(continuing_subword_prefix="##"),
    "a normalizer": lambda d: d.update(normalizer={"type": "NFKC"}),
    "a normalizer in a sequence": lambda d: d.update(
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
    ),
    "no pre-tokenizer": lambda d: d.update(pre_tokenizer=None),
    "an ignored pre-tokenizer": lambda d: d.update(
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Punctuation", "behavior": "Isolated"},
                *fuzz.byte_level([fast_tokenizer.SPLITS[1]], regex=False)["pretokenizers"],
            ],
        }
    ),
    "a second expression": lambda d: d.update(pre_tokenizer=fuzz.byte_level([fast_tokenizer.SPLITS[1]], regex=True)),
    "another behavior": lambda d: d.update(
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": fast_tokenizer.SPLITS[1]},
                    "behavior": "MergedWithNext",
                    "invert": False,
                },
                fuzz.byte_level(regex=False),
            ],
        }
    ),
    "one id twice": lambda d: d["added_tokens"].extend([fuzz.added("xx", 9999), fuzz.added("yy", 9999)]),
    "an added token that NFC makes": lambda d: (
        d.update(normalizer={"type": "NFC"}),
        d["added_tokens"].append(fuzz.added("e\u0301", 9999, normalized=True)),
    ),
}


@pytest.mark.parametrize("change", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_b1_what_gigatoken_ignores_goes_to_tokenizers(plain: dict, change) -> None:
    loaded = json.loads(json.dumps(plain))
    change(loaded)
    with pytest.raises(UnsupportedError):
        plan(loaded)


def test_b2_dropout_is_switched_off_and_reported(plain: dict) -> None:
    loaded = {**plain, "model": {**plain["model"], "dropout": 0.5}}
    texts = [long_text(30, seed) for seed in range(20)]
    with pytest.warns(UserWarning, match=r"dropout 0\.5 is switched off") as caught:
        found, made = ids_of(loaded, texts)
    assert len(caught) == 1
    assert found == oracle(loaded, texts)
    assert [made.encode(text) for text in texts] == found
    assert made.checksum == Tokenizer("made", definition(loaded)).checksum


def test_b2_two_builds_with_dropout_are_the_same_and_hold_their_texts(tmp_path: Path, plain: dict) -> None:
    (tmp_path / "t.json").write_bytes(definition({**plain, "model": {**plain["model"], "dropout": 0.5}}))
    texts = [long_text(20, seed) for seed in range(50)]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    with pytest.warns(UserWarning, match="dropout"):
        for name in ("one", "two"):
            build_index([tmp_path / "c.jsonl"], tmp_path / name, tokenizer=tmp_path / "t.json")
        assert (tmp_path / "one" / "tokenized.0").read_bytes() == (tmp_path / "two" / "tokenized.0").read_bytes()
        assert (Index.open(tmp_path / "one").count(texts) >= 1).all()


def test_b2_dropout_of_zero_is_none(plain: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids_of({**plain, "model": {**plain["model"], "dropout": 0.0}}, ["the"])[1]._fast is not None


def test_b3_a_vocabulary_that_lacks_bytes_is_fast(plain: dict) -> None:
    loaded = fuzz.without_bytes(plain, [4, ord("~")])
    texts = ["the House", "with \x04 inside", "~", "日本語", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, made = ids_of(loaded, texts)
    assert found == oracle(loaded, texts)
    batch = pa.array([text.encode() for text in texts], type=pa.large_binary())
    assert made._fast.slow_rows(batch).tolist() == [False, True, True, False, False]


def test_b3_an_unknown_token_stands_for_missing_bytes(plain: dict) -> None:
    loaded = fuzz.without_bytes(plain, [4])
    loaded = fuzz.with_added(loaded, ["<unk>"], special=True)
    loaded["model"] = {**loaded["model"], "unk_token": "<unk>", "vocab": loaded["model"]["vocab"] | {"<unk>": 900}}
    loaded["added_tokens"][-1]["id"] = 900
    texts = ["a\x04\x04b", "the"]
    assert ids_of(loaded, texts)[0] == oracle(loaded, texts)


def test_b3_digits_are_split_off_fast() -> None:
    for each in (True, False):
        loaded = fuzz.without_bytes(fuzz.trained_bytes(fuzz.byte_level(digits=each), size=600), [4])
        texts = [
            "in 2023, 12.5% of x1y22",
            "",
            "7",
            "a",
            "٣ and 3",
            "½",
            "12\x04",
            *(long_text(40, s) for s in range(5)),
        ]
        found, made = ids_of(loaded, texts)
        assert found == oracle(loaded, texts)
        assert made._fast is not None


def test_b3_byte_fallback_without_some_bytes() -> None:
    loaded = fuzz.trained_pieces(fuzz.PREPEND, None, size=400)
    loaded["model"]["vocab"] = {k: v for k, v in loaded["model"]["vocab"].items() if k not in ("<0x04>", "<0xF0>")}
    texts = ["the House", "\x04", "😀 x", "日本語", "\u0800"]
    found, made = ids_of(loaded, texts)
    assert found == oracle(loaded, texts)
    assert made._fast is not None


KINDS = {
    "NFC": lambda: fuzz.with_added(
        fuzz.trained_bytes(fuzz.byte_level(), {"type": "NFC"}, size=600), ["  ", "<a>"], normalized=True
    ),
    "Llama 3": lambda: fuzz.trained_bytes(fuzz.byte_level([fast_tokenizer.SPLITS[1]], regex=False), size=600),
    "o200k": lambda: fuzz.trained_bytes(fuzz.byte_level([fast_tokenizer.SPLITS[3]], regex=False), size=600),
    "DeepSeek": lambda: fuzz.trained_bytes(fuzz.byte_level(fast_tokenizer.DEEPSEEK_SPLITS, regex=False), size=600),
    "space in front": lambda: fuzz.trained_bytes(fuzz.byte_level(prefix=True), size=600),
    "Llama 2": lambda: fuzz.trained_pieces(fuzz.PREPEND, None, size=600),
    "Metaspace": lambda: fuzz.trained_pieces(None, fuzz.metaspace("first", False), size=600),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_b4_long_texts_have_the_same_ids_in_pieces(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_pieces, "PIECE", 40)
    monkeypatch.setattr(text_pieces, "LONG", 100)
    loaded = make()
    texts = [long_text(300, seed) for seed in range(8)]
    texts += ["x" * 500, "short", "", texts[0].replace("the", "\U0001e900"), "the <s> House  <a>" * 40, " \n" * 300]
    found, made = ids_of(loaded, texts)
    assert found == oracle(loaded, texts)
    batch = pa.array([text.encode() for text in texts], type=pa.large_binary())
    pieces, first = text_pieces.cut(batch, made._fast.plan.cut)
    assert len(pieces) > 20 + len(texts)
    whole = b"".join(pieces.to_pylist())
    dropped = b" " if made._fast.plan.cut == "drop" else b""
    rejoined = [dropped.join(pieces.slice(a, b - a).to_pylist()) for a, b in itertools.pairwise(first)]
    assert rejoined == batch.to_pylist()
    assert len(whole) <= sum(map(len, batch.to_pylist()))


def test_b4_one_new_character_leaves_only_its_piece_to_tokenizers(plain: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer("made", definition(plain))
    made.encode_texts(["a first text"])
    sizes: list[int] = []
    slow = Tokenizer._with_tokenizers

    def watched(self: Tokenizer, texts: pa.Array):
        sizes.append(sum(len(text.as_py()) for text in texts))
        return slow(self, texts)

    monkeypatch.setattr(Tokenizer, "_with_tokenizers", watched)
    text = long_text(60_000) + " \U0001e900 " + long_text(60_000, 1)
    found = made.encode_texts([text, "short"])
    assert sizes == [pytest.approx(text_pieces.PIECE, rel=0.2)]
    assert found.row(0).tolist() == oracle(plain, [text])[0]


def test_b4_a_long_first_text_is_compared_by_its_beginning(plain: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer("made", definition(plain))
    compared: list[int] = []
    slow = Tokenizer._with_tokenizers
    monkeypatch.setattr(
        Tokenizer, "_with_tokenizers", lambda self, t: compared.append(sum(map(len, t.to_pylist()))) or slow(self, t)
    )
    made.encode_texts([long_text(100_000), "short"])
    assert compared == [pytest.approx(20_000, abs=10)]


def test_b4_llama_2_is_cut_at_spaces_that_no_entry_crosses(shared: Path) -> None:
    loaded = load_tokenizer(shared / "tokenizers" / "llama-2")
    assert plan(loaded._loaded).cut == "drop"
    crossed = loaded._loaded
    crossed["model"]["vocab"]["the▁House"] = 32_000
    assert plan(crossed).cut == ""


def test_digits_beyond_ascii_are_left_to_tokenizers() -> None:
    made = fuzz.trained_bytes(fuzz.byte_level(digits=True), size=600)
    engine = fast_tokenizer.FastTokenizer(plan(made))
    texts = pa.array([t.encode() for t in ["a1", "²", "Ⅷ", "２", "x"]], type=pa.large_binary())
    assert engine.slow_rows(texts).tolist() == [False, True, True, True, False]


def test_fuzz_over_kinds_of_tokenizers() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "tokenizing_fuzz.py", "--texts", "1500", "--no-code-points"]
    command += ["--only", "added tokens", "--size", "600"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " over 10 tokenizers, 0 with other ids than those of tokenizers" in done.stdout


def test_gigatoken_itself_still_ignores_what_the_plan_leaves_out(plain: dict) -> None:
    """Where it learns to, the plan may become wider."""
    loaded = fuzz.with_added(plain, ["covid"], single_word=True)
    ids = gigatoken.Tokenizer.from_json(definition(loaded)).encode("covidence").tolist()
    assert ids != oracle(loaded, ["covidence"])[0]


def test_rows_of_a_batch_are_replaced() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        lists = [random.integers(0, 9, random.integers(0, 4)).tolist() for _ in range(random.integers(1, 9))]
        rows = np.flatnonzero(random.random(len(lists)) < 0.5)
        others = [random.integers(10, 19, random.integers(0, 4)).tolist() for _ in rows]
        found = from_lists(lists).replace(rows, from_lists(others))
        for row, other in zip(rows, others, strict=True):
            lists[row] = other
        assert [found.row(i).tolist() for i in range(found.rows)] == lists
