"""How many bytes of text each token of a tokenizer stands for."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memindex.corpus.tokenizer import Tokenizer

#: How tokenizers with byte fallback write a single byte.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")

#: What stands for a space in SentencePiece's vocabularies.
_SPACE = "\u2581"


class TokenBytes(NamedTuple):
    """Bytes of text by token.

    Attributes:
        of_token: Bytes of each id, uint32 of shape (vocabulary,).
        has_space_before: Whether a space that is not in the text stands before the first token of every document.
    """

    of_token: npt.NDArray[np.uint32]
    has_space_before: bool


def bytes_of_tokens(tokenizer: Tokenizer) -> TokenBytes | None:
    """Bytes of each token; None where other tokens decide on them, or the decoder is of an unknown kind."""
    if tokenizer.definition is None:
        return TokenBytes(np.ones(tokenizer.vocabulary, dtype=np.uint32), has_space_before=False)
    definition = json.loads(tokenizer.definition)
    kinds = _kinds(definition.get("decoder"))
    vocabulary = definition["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return None
    has_space_before = False
    if kinds == ["ByteLevel"]:
        # Each character of such a vocabulary stands for one byte.
        sizes = {number: len(token) for token, number in vocabulary.items()}
        # It may put a space before a text, and none where there is one already.
        if _puts_spaces(definition.get("pre_tokenizer")):
            return None
    elif kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
        has_space_before = kinds[3:] == ["Strip"]
        sizes = {number: _fallback_size(token) for token, number in vocabulary.items()}
    else:
        return None
    # Added tokens are written as they are.
    sizes |= {added["id"]: len(added["content"].encode()) for added in definition.get("added_tokens", [])}
    of_token = np.zeros(tokenizer.vocabulary, dtype=np.uint32)
    of_token[list(sizes)] = list(sizes.values())
    return TokenBytes(of_token, has_space_before)


def _fallback_size(token: str) -> int:
    return 1 if _BYTE.fullmatch(token) else len(token.replace(_SPACE, " ").encode())


def _kinds(decoder: Any) -> list[str]:
    """The kinds of a decoder's steps."""
    if not isinstance(decoder, dict):
        return []
    if decoder.get("type") == "Sequence":
        return [kind for step in decoder.get("decoders", []) for kind in _kinds(step)]
    return [str(decoder.get("type"))]


def _puts_spaces(step: Any) -> bool:
    if not isinstance(step, dict):
        return False
    return bool(step.get("add_prefix_space")) or any(map(_puts_spaces, step.get("pretokenizers", [])))
