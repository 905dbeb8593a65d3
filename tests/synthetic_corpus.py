"""Small corpora, tokenizers and command runs for the tests of reading, building and the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

#: Strings that readers and tokenizers get wrong first: all planes, escapes, controls, combining marks, separators.
AWKWARD = [
    "",
    " ",
    "plain ASCII",
    'quote " backslash \\ slash / tab \t newline \n return \r\n',
    "nul \0 bell \a escape \x1b delete \x7f",
    "café naïve Straße \u0131\u0130 ǅ",
    "e\u0301\u0323 combining, a\u0300\u0301\u0302\u0303",
    "日本語 한국어 العربية עברית ไทย",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 \U00010348 \U0001d11e \U0002070e \U000e0001 \U0010fffd",
    "line\u2028paragraph\u2029next\x85feed\x0bform\x0c",
    "\ufeffbyte order mark \ufffe \uffff",
    "spaces" + " " * 300 + "and\t\t\t\ttabs" + "\n" * 50,
    "in text <|endoftext|> and </s> twice <|endoftext|><|endoftext|>",
]

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "while", "seven", "wizards", "mix", "potions"]


def sentences(count: int, words: int = 12, seed: int = 1) -> list[str]:
    """Texts of common words, every one different, by a small generator of its own."""
    made = []
    for number in range(count):
        state, text = seed * 7919 + number * 104729 + 1, []
        for _ in range(words):
            state = (state * 1103515245 + 12345) % (1 << 31)
            text.append(WORDS[(state >> 8) % len(WORDS)])
        made.append(" ".join(text) + f" {number}.")
    return made


def train_bpe(file: Path, vocabulary: int = 400) -> tokenizers.Tokenizer:
    """Train a byte-level BPE on a little text and save it."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    made.train_from_iterator([*sentences(300), *AWKWARD, "it's the dog's, isn't it's? " * 30], trainer)
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(file))
    return made


def word_level(file: Path, words: list[str]) -> tokenizers.Tokenizer:
    """A tokenizer of whole words, of which id 0 is the unknown one; gigatoken can't read it."""
    made = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(file))
    return made


def sentencepiece(file: Path) -> Path:
    """BPE over characters that writes a space as "▁" and begins every text with one, as Llama 2's does."""
    characters = ["<unk>", "▁", "\n", "a", "b", "ab", "▁ab"]
    model = models.BPE({token: i for i, token in enumerate(characters)}, [("a", "b"), ("▁", "ab")], unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.save(str(file))
    return file


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    """Rows as JSON lines, escapes as Python's json writes them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return file


#: A line of progress of a stage.
PROGRESS = re.compile(r"load \w+|[\w :-]+: [\d.,]+ of [\d.,]+ ")


def memindex(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run the command line as a user does; stdout and stderr are text."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **options.pop("env", {})}
    command = [sys.executable, "-m", "memindex.cli", *map(os.fspath, map(_argument, arguments))]
    defaults = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 120}
    return subprocess.run(command, env=environment, check=False, **{**defaults, **options})


def _argument(value: object) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def assert_refused(result: subprocess.CompletedProcess, *parts: str) -> None:
    """The command said one clear line on stderr that holds `parts`, nothing on stdout, and ended with 2."""
    # What works for long before it finds something wrong reports its progress first.
    lines = [line for line in result.stderr.splitlines() if not PROGRESS.match(line)]
    assert (result.returncode, len(lines), result.stdout) == (2, 1, ""), result.stderr + result.stdout
    assert lines[0].startswith("memindex: "), lines[0]
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in lines[0], (part, lines[0])


def left_in(folder: Path) -> list[str]:
    """Names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())
