"""Training a byte-level BPE tokenizer on a corpus, for one that has none of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], out: Path, vocabulary: int) -> Path:
    """Train a tokenizer with so many ids, END_OF_TEXT among them; returns its tokenizer.json, in the new folder `out`.

    Equal texts give equal files.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    out.mkdir(parents=True)
    tokenizer.save(os.fspath(out / "tokenizer.json"))
    return out / "tokenizer.json"


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines with their ends: pieces that the trainer can work on at the same time."""
    for text in texts:
        yield from io.StringIO(text, newline="\n")
