"""Ids of continuations that came as text.

A runner's text does not tell its tokens, and tokenizing it by itself may cut it otherwise than the corpus was cut. So
the suffix's own ids are taken as far as the text agrees with the suffix's text, and only the rest is tokenized: a
continuation that says the suffix counts as the suffix.
"""

from __future__ import annotations

from typing import Any

from memindex.corpus.tokenizer import Tokenizer

Ids = list[int]


def encoded(tokenizer: Tokenizer, texts: list[Any]) -> list[Ids]:
    """Ids of texts, each by itself, without special tokens."""
    ragged = tokenizer.encode_texts(texts)
    return [ragged.row(i).tolist() for i in range(ragged.rows)]


def continuation_ids(tokenizer: Tokenizer, texts: list[Any], sequences: list[tuple[Ids, Ids]]) -> list[Ids]:
    """Ids of continuations given as text.

    Args:
        tokenizer: That of the sequences.
        texts: What was generated after each prefix.
        sequences: Prefix and suffix of each.
    """
    heads = [[prefix + suffix[:k] for k in range(len(suffix) + 1)] for prefix, suffix in sequences]
    decoded = iter(tokenizer.decode_batch([head for row in heads for head in row]))
    agreed = []
    for text, row in zip(texts, heads, strict=True):
        known = [next(decoded) for _ in row]
        agreed.append(_agreement(text, known))
    rests = encoded(tokenizer, [text[length:] for text, (_, length) in zip(texts, agreed, strict=True)])
    return [suffix[:tokens] + rest for (_, suffix), (tokens, _), rest in zip(sequences, agreed, rests, strict=True)]


def _agreement(text: str, known: list[str]) -> tuple[int, int]:
    """How many tokens of the suffix the text starts with, and how many characters these are.

    `known` are the texts of the prefix with 0, 1, 2, … tokens of the suffix behind it; one that ends within a character
    does not start with the one before it and is passed over.
    """
    for tokens in range(len(known) - 1, 0, -1):
        if known[tokens].startswith(known[0]) and text.startswith(known[tokens][len(known[0]) :]):
            return tokens, len(known[tokens]) - len(known[0])
    return 0, 0
