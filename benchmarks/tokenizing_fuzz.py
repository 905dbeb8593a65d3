"""Ids of the fast tokenizer beside those of `tokenizers`, over kinds of tokenizers and random texts.

    python benchmarks/tokenizing_fuzz.py [TOKENIZER.json …] [--texts 100000] [--seed 1]

Kinds of tokenizers are trained on this repository's own text: the pre-tokenizers of GPT-2, Llama 3, Qwen, o200k,
DeepSeek and SmolLM, NFC, SentencePiece's kinds, added tokens with every flag, vocabularies that lack bytes, and what
gigatoken does not implement. Texts are random: code points of all kinds, words, numbers, runs of spaces, line breaks,
marks, emoji, added tokens in any surroundings, and every code point between letters. Long texts are cut more often
than in builds, so that the cuts are tried too. Prints a row per tokenizer; exits 1 if any id differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import unicodedata
import warnings
from functools import cache
from pathlib import Path

import pyarrow as pa

from memindex.corpus import fast_tokenizer, text_pieces
from memindex.corpus.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent

#: Texts in one call, and entries of a vocabulary.
BATCH, SIZE = 500, 2000

ADDED = ("<|endoftext|>", "covid", "  ", "<m>", "New York", "ééé", "<a>", "\n\n", "3.14")


def training_texts(size):
    """The repository's own text, more of it for larger vocabularies, and some of other scripts."""
    files = sorted(itertools.chain((ROOT / "docs").glob("*.md"), (ROOT / "memindex").rglob("*.py")))
    for file in files[: 150 if size > 1000 else 4]:
        yield file.read_text(encoding="utf-8")
    yield (
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Съешь же ещё этих мягких булок. 日本語の文字と漢字。 한국어 문장 " * 50
    )


def byte_level(splits=(), digits=None, prefix=False, regex=True):
    """A byte-level pre-tokenizer behind splits."""
    last = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}
    before = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False} for split in splits
    ]
    if digits is not None:
        before = [{"type": "Digits", "individual_digits": digits}]
    return {"type": "Sequence", "pretokenizers": [*before, last]} if before else last


@cache
def _trained(pre_tokenizer, normalizer, size):
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE())
    empty = json.loads(made.to_str())
    empty |= {"pre_tokenizer": json.loads(pre_tokenizer), "normalizer": json.loads(normalizer)}
    made = tokenizers.Tokenizer.from_str(json.dumps(empty))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(training_texts(size), trainer)
    return made.to_str()


def trained_bytes(pre_tokenizer, normalizer=None, size=None):
    """A byte-level BPE tokenizer.json, trained."""
    return json.loads(_trained(json.dumps(pre_tokenizer), json.dumps(normalizer), size or SIZE))


def trained_pieces(normalizer, pre_tokenizer, size=None):
    """A BPE tokenizer.json with byte fallback, trained on words with a mark in front."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    size = size or SIZE
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(training_texts(size), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    loaded = json.loads(made.to_str())
    vocabulary = loaded["model"]["vocab"]
    shift = 259
    vocabulary = {entry: number + shift for entry, number in vocabulary.items()}
    vocabulary |= {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    loaded["model"] |= {"vocab": vocabulary, "byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    loaded["added_tokens"] = [added(name, number, special=True) for number, name in enumerate(("<unk>", "<s>", "</s>"))]
    return loaded | {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}


def added(content, number, **flags):
    """An added token."""
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": number, "content": content} | dict.fromkeys(names, False) | flags


def with_added(loaded, contents, **flags):
    """The tokenizer.json with added tokens behind its vocabulary."""
    first = max([*loaded["model"]["vocab"].values(), *(token["id"] for token in loaded["added_tokens"])]) + 1
    tokens = [added(content, first + i, **flags) for i, content in enumerate(contents)]
    return {**loaded, "added_tokens": [*loaded["added_tokens"], *tokens]}


def without_bytes(loaded, missing):
    """The tokenizer.json whose vocabulary lacks bytes."""
    gone = {fast_tokenizer.byte_alphabet()[byte] for byte in missing}
    model = dict(loaded["model"])
    model["vocab"] = {entry: number for entry, number in model["vocab"].items() if not set(entry) & gone}
    model["merges"] = [merge for merge in model["merges"] if not set("".join(merge)) & gone]
    return {**loaded, "model": model}


PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
SPACES = PREPEND["normalizers"][1]


def metaspace(scheme, split):
    """A Metaspace pre-tokenizer."""
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def every_flag(loaded):
    """The tokenizer.json with added tokens of all combinations of flags."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    for number, chosen in enumerate(itertools.product((False, True), repeat=4)):
        contents = [f"<t{number}>", f"tok{chr(97 + number)}"]
        loaded = with_added(loaded, contents, **dict(zip(flags, chosen, strict=True)))
    return loaded


def ignoring_merges(loaded):
    """The tokenizer.json with words of the vocabulary taken whole."""
    return {**loaded, "model": {**loaded["model"], "ignore_merges": True}}


NFC = {"type": "NFC"}
GPT2, LLAMA3, QWEN, O200K = fast_tokenizer.SPLITS

#: Names of kinds, and what makes their tokenizer.json.
KINDS = {
    "GPT-2": lambda: with_added(trained_bytes(byte_level()), ["<|endoftext|>"], special=True),
    "NeoX: NFC, spaces as tokens": lambda: with_added(
        with_added(trained_bytes(byte_level(), NFC), ["<|endoftext|>"], special=True),
        ["  ", "   ", "        "],
        normalized=True,
    ),
    "GPT-2 as a split": lambda: trained_bytes(byte_level([GPT2], regex=False)),
    "Llama 3, OLMo 2": lambda: trained_bytes(byte_level([LLAMA3], regex=False)),
    "Llama 3, merges ignored": lambda: ignoring_merges(trained_bytes(byte_level([LLAMA3], regex=False))),
    "Qwen: NFC": lambda: trained_bytes(byte_level([QWEN], regex=False), NFC),
    "o200k": lambda: trained_bytes(byte_level([O200K], regex=False)),
    "DeepSeek": lambda: trained_bytes(byte_level(fast_tokenizer.DEEPSEEK_SPLITS, regex=False)),
    "SmolLM: digits, without 0x04": lambda: without_bytes(trained_bytes(byte_level(digits=True)), [4]),
    "runs of digits": lambda: trained_bytes(byte_level(digits=False)),
    "digits and added tokens": lambda: with_added(trained_bytes(byte_level(digits=True)), ["3.14", "<r1>"]),
    "space in front": lambda: with_added(trained_bytes(byte_level(prefix=True)), ["<m>", "covid"]),
    "without some bytes": lambda: without_bytes(trained_bytes(byte_level()), [4, 7, ord("#"), 0xF0]),
    "Llama 2": lambda: trained_pieces(PREPEND, None),
    "Gemma": lambda: trained_pieces(SPACES, None),
    "Metaspace, always": lambda: trained_pieces(None, metaspace("always", True)),
    "Metaspace, first, not split": lambda: trained_pieces(None, metaspace("first", False)),
    "Metaspace, never": lambda: trained_pieces(None, metaspace("never", True)),
    "Llama 2, added tokens": lambda: with_added(trained_pieces(PREPEND, None), ["covid", "<m>", "New York"]),
    "every flag": lambda: every_flag(trained_bytes(byte_level())),
    **{
        f"{name}added tokens: {flag}": lambda flag=flag, normalizer=normalizer: with_added(
            trained_bytes(byte_level(), normalizer), ADDED, **{flag: True}
        )
        for flag in ("single_word", "lstrip", "rstrip", "normalized")
        for name, normalizer in (("", None), ("NFC, ", NFC))
    },
    "dropout": lambda: (loaded := trained_bytes(byte_level())) | {"model": {**loaded["model"], "dropout": 0.5}},
    "not implemented: two expressions": lambda: trained_bytes(byte_level()) | {"pre_tokenizer": byte_level([QWEN])},
}


def pieces_of(loaded):
    """What texts are put together from."""
    contents = [token["content"] for token in loaded.get("added_tokens", [])][-40:]
    words = [
        "the",
        "House",
        "of",
        "covidence",
        "covid",
        "tok",
        "public",
        "naïve",
        "Straße",
        "ÉTÉ",
        "don't",
        "I'll",
        "we'VE",
        "'s",
        "'S",
        "x_1",
        "ab中文",
        "кот",
    ]
    marks = ["e\u0301", "\u0301", "u\u0303", "각", "\u1112\u1161\u11ab", "\u212b", "\u212a", "\u037e", "=\u0338"]
    spaces = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2003", " \n ", "\x0b", "\x85", "▁"]
    others = ["😀", "👩\u200d👧", "\u200d", "\ufeff", "\x00", "\x04", "\x07", "#", "##", "{}", "==", "/", "//\n", ".\n"]
    others += [
        "1",
        "12",
        "1234",
        "3.14",
        "２３",
        "½",
        "²",
        "٣",
        "Ⅷ",
        "ﬁ",
        "\U0001e900",
        "\u0870",
        "\u1e9e",
        "\U0010ffff",
    ]
    return contents * 2 + words + marks + spaces + others


def random_text(chance, pieces):
    """A text of random pieces and code points."""
    parts = []
    for _ in range(chance.randrange(1, 40) if chance.random() < 0.95 else chance.randrange(400, 900)):
        kind = chance.random()
        if kind < 0.85:
            parts.append(chance.choice(pieces))
        else:
            code = chance.choice((chance.randrange(0x300), chance.randrange(0x3000), chance.randrange(0x110000)))
            parts.append("x" if 0xD800 <= code < 0xE000 else chr(code))
        if chance.random() < 0.4:
            parts.append(" ")
    return "".join(parts)


def every_code_point():
    """Each code point between letters, between spaces, and behind a digit, some hundred in a text."""
    codes = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
    for start in range(0, len(codes), 200):
        yield " ".join(f"a{c}b {c} 1{c}" for c in codes[start : start + 200])


def compare(name, definition, texts):
    """(texts that the fast engine got, texts that `tokenizers` got, texts with other ids, why it is slow)."""
    loaded = Tokenizer(name, definition)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded.encode_texts(["The first text is compared."])
    why = "; ".join(str(warning.message) for warning in caught)
    different, slow, examples = 0, 0, []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        batch = pa.array([text.encode() for text in part], type=pa.large_binary())
        got = loaded.encode_batch(batch)
        want = loaded._with_tokenizers(batch)
        slow += len(part) if loaded._fast is None else int(loaded._fast.slow_rows(batch).sum())
        for row, text in enumerate(part):
            if got.row(row).tolist() != want.row(row).tolist():
                different += 1
                examples.append(text)
    return len(texts) - slow, slow, different, why, examples


def main() -> int:
    """Print a row per tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizers", nargs="*", type=Path, help="more tokenizer.json files")
    parser.add_argument("--texts", type=int, default=100_000, help="texts in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=SIZE, help="entries of each vocabulary")
    parser.add_argument("--only", help="kinds whose name has this in it")
    parser.add_argument("--examples", type=int, default=0, help="print this many differing texts per tokenizer")
    parser.add_argument("--no-code-points", action="store_true", help="leave out the sweep over all code points")
    arguments = parser.parse_args()
    globals()["SIZE"] = arguments.size
    text_pieces.PIECE, text_pieces.LONG = 64, 256
    makers = {name: lambda make=make: json.dumps(make()).encode() for name, make in KINDS.items()}
    makers |= {file.resolve().parent.name: file.read_bytes for file in arguments.tokenizers}
    chosen = {name: make for name, make in makers.items() if (arguments.only or "") in name}
    sweep = [] if arguments.no_code_points else list(every_code_point())
    each = max(1, arguments.texts // len(chosen) - len(sweep))
    print(f"{'tokenizer':50} {'texts':>8} {'fast':>8} {'slow':>8} {'different':>10}")
    total = wrong = 0
    for name, make in chosen.items():
        definition = make()
        chance = random.Random(f"{arguments.seed} {name}")
        pieces = pieces_of(json.loads(definition))
        texts = [random_text(chance, pieces) for _ in range(each)] + sweep
        fast, slow, different, why, examples = compare(name, definition, texts)
        total, wrong = total + len(texts), wrong + different
        print(f"{name:50} {len(texts):8,} {fast:8,} {slow:8,} {different:10,}  {why}", flush=True)
        for text in sorted(examples, key=len)[: arguments.examples]:
            print(f"    {text!r}")
    print(f"{total:,} texts over {len(chosen)} tokenizers, {wrong:,} with other ids than those of tokenizers")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
