"""Text to token ids, without special tokens around it.

Three kinds: a Hugging Face tokenizer.json (by file, folder, or name), and `bytes`, whose ids are the UTF-8 bytes.
Batches go through gigatoken, which gives the ids of `tokenizers` an order of magnitude faster. A wrong id would spoil
an index silently, so `fast_tokenizer` derives from the tokenizer.json what gigatoken can do, and the first texts of
every build are compared; everything else goes through `tokenizers`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import threading
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memindex.errors import MemindexError, QueryError
from memindex.mistaken_paths import looks_like_path, no_such
from memindex.near_names import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from memindex.corpus.offsets import Offsets
    from memindex.ragged import Ragged

BYTES = "bytes"

#: Short names for tokenizers of the model families; each is the hub name of a small model that carries it.
HUB_NAMES = {
    "pythia": "EleutherAI/pythia-160m",
    "gpt2": "openai-community/gpt2",
    "openllama": "openlm-research/open_llama_3b",
    "starcoder": "bigcode/starcoderbase-1b",
    "starcoder2": "bigcode/starcoder2-3b",
    "olmo-1": "allenai/OLMo-1B-hf",
    "olmo-2": "allenai/OLMo-2-0425-1B",
    "olmo-3": "allenai/Olmo-3-1025-7B",
}

#: An organisation and a repository, as the hub allows them; anything else with a slash is a path.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

#: Seconds the hub has to answer, before it counts as not reachable.
HUB_TIMEOUT = 5.0

#: Names of the end-of-text token, by how often the families use them.
END_OF_TEXT = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")

#: Text compared between gigatoken and `tokenizers` when a build starts: in all, and of one text.
COMPARED_BYTES, COMPARED_OF_TEXT = 200_000, 20_000

#: Bytes of text that `tokenizers` gets at a time: it takes some 130 bytes of memory for each.
SLOW_BYTES = 1 << 20

#: Characters of a text from which on it is tokenized beside other threads.
LONG_TEXT = 4000

#: Dropout in a tokenizer.json, found without parsing it.
_DROPOUT = re.compile(rb'"dropout"\s*:\s*[^n\s]')

_CHOOSING, _LOADING = threading.Lock(), threading.Lock()


class Tokenizer:
    """A tokenizer by its tokenizer.json, or the byte tokenizer when that is None."""

    def __init__(self, name: str, definition: bytes | None) -> None:
        self.name = name
        self.definition = definition
        self._single: Any = None
        self._fast: Any = None
        self._compared = False

    @property
    def is_bytes(self) -> bool:
        """Whether ids are UTF-8 bytes."""
        return self.definition is None

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the tokenizer.json; `bytes` for the byte tokenizer."""
        return BYTES if self.definition is None else hashlib.sha256(self.definition).hexdigest()

    @cached_property
    def vocabulary(self) -> int:
        """One more than the largest id the tokenizer can give."""
        if self.definition is None:
            return 256
        loaded = self._loaded
        vocab = loaded["model"]["vocab"]
        ids = list(vocab.values()) if isinstance(vocab, dict) else [len(vocab) - 1]
        return int(max([*ids, *(token["id"] for token in loaded.get("added_tokens", []))])) + 1

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        """The tokenizer.json, parsed, without dropout."""
        assert self.definition is not None
        loaded: dict[str, Any] = json.loads(self.definition)
        model = loaded.get("model")
        if isinstance(model, dict) and model.get("dropout"):
            warnings.warn(
                f"tokenizer {self.name}: dropout {model['dropout']} is switched off: the same text gets the same ids",
                stacklevel=2,
            )
            loaded["model"] = {**model, "dropout": None}
        return loaded

    @cached_property
    def eos_token_id(self) -> int | None:
        """Id of the token that stands between documents in training data, or None when none is named so.

        For the byte tokenizer it is 255, a byte that UTF-8 never holds.
        """
        if self.definition is None:
            return 255
        added = {t["content"]: int(t["id"]) for t in self._loaded.get("added_tokens", [])}
        return next((added[name] for name in END_OF_TEXT if name in added), None)

    def token_width(self) -> int:
        """Bytes per token that hold every id and keep the all-ones separator free: 1, 2 or 4."""
        # UTF-8 never holds the byte 0xff, so bytes fit one byte although 256 ids do not.
        largest = 254 if self.definition is None else self.vocabulary - 1
        return 1 if largest < 0xFF else 2 if largest < 0xFFFF else 4

    def encode(self, text: str) -> list[int]:
        """Ids of one text; raises QueryError when it holds half a surrogate pair, which no UTF-8 text does."""
        raw = _utf8(text)
        if self.definition is None:
            return list(raw)
        ids: list[int] = self._encoded(text).ids
        return ids

    def encode_query(self, text: str) -> list[int]:
        """Ids of a text that is looked for inside documents; errors as `encode`, ids as `as_queries`."""
        ids = self.encode(text)
        return ids[1:] if len(ids) > 1 and ids[0] == self.lone_space else ids

    @cached_property
    def lone_space(self) -> int | None:
        """The token "▁" of SentencePiece's tokenizers, which they put in front of a text that begins with no word."""
        return None if self.definition is None else self._tokenizers().token_to_id("▁")

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of one text, and for each the characters it was made from, as (first, end); errors as `encode`.

        The ranges are in order and cover the text: a character of several tokens belongs to each of them, a combining
        mark to the letter before it, the space before a word to the word.
        """
        raw = _utf8(text)
        if self.definition is None:
            # Every byte starts a character, unless it continues one.
            ends = list(itertools.accumulate(byte & 0xC0 != 0x80 for byte in raw))
            return list(raw), [(end - 1, end) for end in ends]
        encoded = self._encoded(text)
        return encoded.ids, self._offsets.of(text, encoded.ids, encoded.offsets)

    @cached_property
    def _offsets(self) -> Offsets:
        from memindex.corpus.offsets import Offsets

        assert self.definition is not None
        return Offsets(self._tokenizers(), self.definition)

    def _encoded(self, text: str) -> Any:
        # A batch lets other threads go on; one text by itself does not, for 3 seconds per million characters.
        if len(text) > LONG_TEXT:
            return self._tokenizers().encode_batch([text], add_special_tokens=False)[0]
        return self._tokenizers().encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD."""
        if self.definition is None:
            return bytes(ids).decode("utf-8", errors="replace")
        text: str = self._tokenizers().decode(ids, skip_special_tokens=False)
        return text

    def decode_batch(self, rows: Sequence[list[int]] | list[int]) -> list[str]:
        """Texts of lists of ids; as `decode`. A single list of ids is a batch of one."""
        if rows and isinstance(rows[0], int):
            return self.decode_batch([list(rows)])  # type: ignore[arg-type]
        if self.definition is None:
            return [self.decode(ids) for ids in rows]  # type: ignore[arg-type]
        texts: list[str] = self._tokenizers().decode_batch(rows, skip_special_tokens=False)
        return texts

    def names(self, ids: Sequence[int]) -> list[str | None]:
        """Tokens as the vocabulary writes them; None for ids that it does not have.

        Bytes are the characters 0 to 255.
        """
        if self.definition is None:
            return [chr(token) if token < 256 else None for token in ids]
        loaded = self._tokenizers()
        return [loaded.id_to_token(token) for token in ids]

    def decode_pieces(self, rows: list[list[list[int]]]) -> list[list[str]]:
        """Texts of pieces of token sequences; joined they are the text of the whole, where that can be cut so.

        A tokenizer may decode a word by itself without the space that it has after another one, so pieces are cut from
        the text of the whole. Where a character is split between two pieces, each is decoded by itself.

        Args:
            rows: For each sequence, its pieces one after the other.
        """
        heads = [list(itertools.accumulate(row)) for row in rows]
        decoded = iter(self.decode_batch([head for row in heads for head in row]))
        texts = [_cut([next(decoded) for _ in row]) for row in heads]
        apart = [i for i, row in enumerate(rows) if not _tells_all(texts[i], row)]
        decoded = iter(self.decode_batch([piece for i in apart for piece in rows[i]]))
        for i in apart:
            texts[i] = [next(decoded) for _ in rows[i]]
        return texts

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Ids of texts, without special tokens; UnicodeEncodeError for half a surrogate pair. One text is one row."""
        import pyarrow as pa

        texts = [texts] if isinstance(texts, str) else texts
        return self.encode_batch(pa.array(texts, type=pa.large_string()).cast(pa.large_binary()))

    def as_queries(self, rows: Ragged) -> Ragged:
        """Ids of texts that are looked for inside documents, from those that the texts have by themselves.

        SentencePiece's tokenizers begin a text with a space. Before a word it is one token with it, as inside a
        document. Before a line break, another space or another script it is a token of its own, "▁", which documents
        have there at their beginnings only: such a token is left out, as infini-gram's server does.
        """
        import numpy as np

        from memindex.ragged import Ragged

        if self.lone_space is None:
            return rows
        several = np.flatnonzero(rows.lengths() > 1)
        spaced = several[rows.values[rows.offsets[several]] == self.lone_space]
        before = np.searchsorted(spaced, np.arange(rows.rows + 1))
        return Ragged(np.delete(rows.values, rows.offsets[spaced]), rows.offsets - before)

    def encode_batch(self, texts: pa.Array) -> Ragged:
        """Ids of an Arrow array of texts (large_binary, UTF-8): uint32 values, int64 offsets."""
        import pyarrow as pa

        if texts.type != pa.large_binary():
            texts = texts.cast(pa.large_binary())
        if self.definition is None:
            return _bytes_as_ids(texts)
        with _CHOOSING:  # another thread must not use gigatoken before it is compared
            if not self._compared:
                self._choose_engine(texts)
                self._compared = True
        return self._with_both(texts) if self._fast is not None else self._with_tokenizers(texts)

    def _tokenizers(self) -> Any:
        if self._single is None:
            with _LOADING:  # threads that share it load it once, and none uses it half set up
                if self._single is None:
                    self._single = self._load()
        return self._single

    def _load(self) -> Any:
        import tokenizers

        assert self.definition is not None
        try:
            definition = self.definition
            if _DROPOUT.search(definition):
                definition = json.dumps(self._loaded).encode()
            loaded = tokenizers.Tokenizer.from_buffer(definition)
        except Exception as error:
            raise MemindexError(f"tokenizer {self.name}: not a usable tokenizer.json: {error}") from None
        loaded.no_truncation()
        loaded.no_padding()
        # Without special tokens it changes no ids, only offsets, and those wrongly.
        loaded.post_processor = None
        return loaded

    def _choose_engine(self, texts: pa.Array) -> None:
        from memindex.corpus.fast_tokenizer import FastTokenizer, UnsupportedError, plan

        try:
            self._fast = FastTokenizer(plan(self._loaded))
        except (UnsupportedError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = error if isinstance(error, UnsupportedError) else repr(error)
            warnings.warn(f"gigatoken can't read {self.name} ({reason}): tokenizing slowly", stacklevel=2)
            return
        sample = _sample(texts)
        fast, slow = self._with_both(sample), self._with_tokenizers(sample)
        if not ((fast.offsets == slow.offsets).all() and (fast.values == slow.values).all()):
            warnings.warn(f"gigatoken differs from tokenizers for {self.name}: tokenizing slowly", stacklevel=2)
            self._fast = None

    def _with_both(self, texts: pa.Array) -> Ragged:
        """Gigatoken's ids, but those of `tokenizers` for texts that its plan leaves out."""
        import numpy as np

        from memindex.corpus.text_pieces import cut, joined

        pieces, first = cut(texts, self._fast.plan.cut)
        slow = np.flatnonzero(self._fast.slow_rows(pieces))
        ids = self._fast.encode(pieces)
        if len(slow):
            ids = ids.replace(slow, self._with_tokenizers(pieces.take(slow)))
        return joined(ids, first)

    def _with_tokenizers(self, texts: pa.Array) -> Ragged:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from memindex.ragged import Ragged, from_lists, stacked

        sizes = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
        edges = np.unique(np.searchsorted(sizes, np.arange(0, max(int(sizes[-1:].sum()), 1), SLOW_BYTES)))
        ends = [*edges[1:].tolist(), len(texts)]
        parts = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            strings = texts.slice(start, end - start).cast(pa.large_string()).to_pylist()
            encoded = self._tokenizers().encode_batch_fast(strings, add_special_tokens=False)
            parts.append(from_lists(row.ids for row in encoded))
        ragged = stacked(parts)
        return Ragged(ragged.values.astype(np.uint32), ragged.offsets)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(f"the text is not valid Unicode (character {error.start + 1})") from None


def _cut(heads: list[str]) -> list[str]:
    """What each text adds to the one before it; nothing when one does not start with the one before it."""
    if not all(text.startswith(before) for before, text in itertools.pairwise(heads)):
        return []
    return [text[len(before) :] for before, text in itertools.pairwise(["", *heads])]


def _tells_all(texts: list[str], pieces: list[list[int]]) -> bool:
    """Whether every piece that has tokens has text: bytes of half a character may have none after other ones."""
    return len(texts) == len(pieces) and all(text or not ids for text, ids in zip(texts, pieces, strict=True))


def _bytes_as_ids(texts: pa.Array) -> Ragged:
    import numpy as np

    from memindex.ragged import Ragged

    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return Ragged(raw[offsets[0] : offsets[-1]].astype(np.uint32), offsets - offsets[0])


def _sample(texts: pa.Array) -> pa.Array:
    """The beginnings of the first texts, COMPARED_BYTES at most."""
    import pyarrow as pa

    beginnings: list[bytes] = []
    room = COMPARED_BYTES
    for text in texts:
        if room <= 0:
            break
        beginning = text.as_py()[: min(room, COMPARED_OF_TEXT)]
        room -= max(len(beginning), 1)
        beginnings.append(beginning.decode("utf-8", errors="ignore").encode())
    return pa.array(beginnings, type=pa.large_binary())


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of that name: `bytes`, a tokenizer.json, a folder with one, a family's name, or a hub name."""
    text = str(name)
    if text == BYTES:
        return Tokenizer(BYTES, None)
    path = Path(text)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        # A file called tokenizer.json is named after its folder.
        label = file.resolve().parent.name if file.name == "tokenizer.json" else file.stem
        # An index whose tokenizer is called `bytes` would be opened with the byte tokenizer.
        label = f"{label}.json" if label == BYTES else label
        return _checked(Tokenizer(label, file.read_bytes()), text)
    if text in HUB_NAMES or (HUB_NAME.fullmatch(text) and file.suffix != ".json" and not looks_like_path(text)):
        return _checked(Tokenizer(text, _from_hub(HUB_NAMES.get(text, text))), text)
    raise MemindexError(_not_a_tokenizer(text, path))


def _not_a_tokenizer(text: str, path: Path) -> str:
    if path.is_dir():
        others = [name for name in ("tokenizer.model", "vocab.json", "spiece.model") if (path / name).is_file()]
        has = f"; it has {', '.join(others)}, which transformers can convert" if others else ""
        return f"unknown tokenizer {text}: the folder has no tokenizer.json{has}"
    if looks_like_path(text) or path.suffix == ".json":
        return f"unknown tokenizer {text}: {no_such(text)}"
    near = did_you_mean(text, [BYTES, *HUB_NAMES])
    known = near or f"give a tokenizer.json, a hub name (org/name), or one of {', '.join([BYTES, *HUB_NAMES])}"
    return f"unknown tokenizer {text}: {known}"


def _checked(tokenizer: Tokenizer, name: str) -> Tokenizer:
    try:
        tokenizer.vocabulary  # noqa: B018  (reading it proves the definition is one)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MemindexError(f"tokenizer {name}: not a tokenizer.json: {error!r}") from None
    tokenizer.encode("")
    return tokenizer


def _from_hub(repository: str) -> bytes:
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

        # What was loaded before needs no network; without one, the hub library tells of every retry.
        cached = try_to_load_from_cache(repository, "tokenizer.json")
        if isinstance(cached, str):
            return Path(cached).read_bytes()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        # The download repeats its look-up for half a minute where there is no network; this one asks once.
        get_hf_file_metadata(hf_hub_url(repository, "tokenizer.json"), timeout=HUB_TIMEOUT)
        return Path(hf_hub_download(repository, "tokenizer.json")).read_bytes()
    except ImportError:
        raise MemindexError(f"tokenizer {repository}: pip install huggingface_hub to load it by name") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # What was given may have been meant as a path.
        here = "" if repository in HUB_NAMES.values() else f"; there is no folder {Path(repository).absolute()} either"
        raise MemindexError(f"tokenizer {repository}: not on the model hub or not reachable: {reason}{here}") from None
