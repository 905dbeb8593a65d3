r"""Texts and tokens as infini-gram's published server treats them, which is not how an index was tokenized.

Byte-level tokenizers get a space in front of a query, so that its first word is that inside a text. Of SentencePiece's
the leading "▁" is dropped where it is a token of its own. Bytes may be written as \xNN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from memindex.errors import QueryError
from memindex.index.index import Index

BYTE = re.compile(r"\\x([0-9a-fA-F]{2})")

#: What that server takes for the end of a document in a byte index.
END_OF_BYTES = 0


class InfiniGramTokens:
    """How one index's tokens are read and written there."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.width = index.manifest.token_width
        self.separator = (1 << 8 * self.width) - 1
        self._tokenizer = index.tokenizer if index.has_tokenizer else None
        self._bytes = self._tokenizer is not None and self._tokenizer.is_bytes
        self.vocabulary = 255 if self._bytes else min(index.manifest.vocabulary, self.separator)
        self._spaced = self._tokenizer is not None and _is_byte_level(self._tokenizer.definition)
        end = END_OF_BYTES if self._bytes else self._tokenizer and self._tokenizer.eos_token_id
        #: The id that stands for the end of a document; the separator's where the tokenizer has none.
        self.end = self.separator if end is None else end

    def ids(self, text: str) -> list[int]:
        """Ids of a query; raises QueryError where the index has no tokenizer."""
        if self._tokenizer is None:
            raise QueryError(f"{self._index.name} has no tokenizer: ask with query_ids")
        if self._bytes:
            return list(_unescaped(text))
        ids = self._tokenizer.encode(f" {text}" if self._spaced and text else text)
        return ids[1:] if not self._spaced and ids and ids[0] == self._tokenizer.lone_space else ids

    def names(self, ids: Sequence[int]) -> list[str | None]:
        """Tokens as the vocabulary writes them; null for ids that it does not have."""
        if self._bytes:
            return [chr(token) for token in ids]
        if self._tokenizer is None:
            return [None] * len(ids)
        return self._tokenizer.names(ids)

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids; of bytes with escapes for what is no UTF-8 and for controls."""
        if self._bytes:
            text = bytes(ids).decode("utf-8", errors="backslashreplace")
            return "".join(f"\\x{ord(c):02x}" if ord(c) < 32 and c not in "\t\n" else c for c in text)
        if self._tokenizer is None:
            return " ".join(map(str, ids))
        return self._tokenizer.decode([token for token in ids if token < self._tokenizer.vocabulary])

    def allows(self, ids: Sequence[int]) -> bool:
        """Whether a query may hold these ids; the separator, which stands before every document, is one."""
        if not ids or 0 <= min(ids) <= max(ids) < self.vocabulary:
            return True
        return all(0 <= token < self.vocabulary or (token == self.separator and self.width > 1) for token in ids)


@lru_cache(8)  # indexes share definitions
def _is_byte_level(definition: bytes | None) -> bool:
    """Whether a tokenizer.json says that bytes are its characters, as those of GPT-2, GPT-NeoX and OLMo do."""
    if definition is None:
        return False
    pre: Any = json.loads(definition).get("pre_tokenizer") or {}
    return any(part.get("type") == "ByteLevel" for part in [pre, *pre.get("pretokenizers", [])])


def _unescaped(text: str) -> bytes:
    pieces = BYTE.split(text)
    # Every second piece is the two digits of an escape.
    return b"".join(bytes([int(p, 16)]) if i % 2 else p.encode() for i, p in enumerate(pieces))
