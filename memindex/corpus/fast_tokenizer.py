"""Fast tokenizing with gigatoken, as far as it gives the ids of `tokenizers`.

gigatoken reads a tokenizer.json and ignores what it does not implement. So a plan is derived from the tokenizer.json
first: every field in it must be one that is known here, with a value for which both give the same ids. Anything else
raises UnsupportedError with the reason, and `tokenizers` does the work. What concerns single texts only, such as an
added token that is matched as a whole word, is left to `tokenizers` for the texts that hold it.

benchmarks/tokenizing_fuzz.py compares the two over kinds of tokenizers.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memindex.corpus.text_pieces import content, joined, split_digits
from memindex.ragged import Ragged, stacked

if TYPE_CHECKING:
    import pyarrow as pa

Json = Mapping[str, Any]

#: Regular expressions of a `Split` that gigatoken implements and the fuzzing covers. All of them match every character,
#: so it is the same whether matches are isolated or what is between them is removed.
SPLITS = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)

#: The three of DeepSeek's pre-tokenizer, one after the other.
DEEPSEEK_SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)

#: Blocks with characters that came to Unicode since version 10, the emoji excepted: there the two engines differ in
#: which are letters and in the order of combining marks. Found by comparing every code point (4,811 differ).
NEWER_CHARACTERS = (
    r"[\x{7FD}\x{860}-\x{8FF}\x{9FE}\x{C3C}\x{C5C}\x{CDC}\x{D3B}-\x{D3C}\x{EBA}\x{1715}\x{1AB0}-\x{1AFF}"
    r"\x{1DC0}-\x{1DFF}\x{A7C0}-\x{A7FF}\x{A82C}\x{10900}-\x{1CFFF}\x{1E000}-\x{1EFFF}\x{2A6E0}-\x{3FFFF}]"
)

#: Bytes that one of them starts with; a search for single bytes costs next to nothing.
NEWER_LEADS = (b"\xdf", b"\xe0", b"\xe1", b"\xea", b"\xf0")

#: Ends of added tokens that NFC may join with the mark behind them, and ASCII characters that other characters become.
_COMPOSABLE = re.compile(r"[A-Za-z<=>]\Z")
_COMPOSED = re.compile(r"[K`;]")

#: Bytes that UTF-8 never holds.
_NEVER = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])

#: Pieces of text that are tokenized together as rows of one call, at most.
_PIECES = 1 << 20


class UnsupportedError(Exception):
    """What keeps gigatoken from giving the ids of `tokenizers`."""


@dataclass(frozen=True)
class FastPlan:
    """How gigatoken stands in for `tokenizers`.

    Attributes:
        definition: The tokenizer.json that gigatoken loads.
        slow: Byte strings; a text that holds one of them is left to `tokenizers`.
        digits: Whether digits are split off first: "each" of them, "runs" of them, or "".
        cut: Where long texts may be cut, as in `text_pieces.cut`; "" for nowhere.
        only_nfc: Whether texts that NFC would change are left to `tokenizers` too.
    """

    definition: bytes
    slow: tuple[bytes, ...] = ()
    digits: str = ""
    cut: str = ""
    only_nfc: bool = False


def plan(loaded: Json) -> FastPlan:
    """The plan for a tokenizer.json.

    Args:
        loaded: The parsed file, without dropout.

    Raises:
        UnsupportedError: gigatoken ignores something in it, or may.
    """
    _only(loaded, "", "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model")
    model, normalizer, pre_tokenizer = loaded["model"], loaded.get("normalizer"), loaded.get("pre_tokenizer")
    _check_model(model)
    added = loaded.get("added_tokens") or []
    _check_added(added, model["vocab"])
    definition, composable = dict(loaded), False
    if model.get("byte_fallback"):
        _check_normalizer(normalizer, ("Prepend", "Replace"))
        _check_metaspace(pre_tokenizer)
        digits, slow, cut = "", _missing_fallbacks(model["vocab"]), _sentencepiece_cut(loaded)
        slow |= _normalized_tokens(added)
    else:
        _check_normalizer(normalizer, ("NFC",))
        definition["pre_tokenizer"], digits, cut = _byte_level(pre_tokenizer)
        definition["model"], slow = _with_all_bytes(model, added)
        slow |= _overlapping_tokens(added)
        composable = normalizer is not None and _composable_tokens(added)
    slow |= {_bytes(t) for t in added if t.get("single_word") or t.get("lstrip") or t.get("rstrip")}
    if digits:
        slow |= {_bytes(t) for t in added if re.search(r"\d", t["content"])}
    if any(re.search(r"[!-~][ \n]|[\u5000-\u8fff][\n。，]", t["content"]) or t.get("rstrip") for t in added):
        cut = ""
    if cut == "drop" and any(re.search(r"[ ]|\A[A-Za-z]|[A-Za-z]\Z", token["content"]) for token in added):
        cut = ""
    return FastPlan(json.dumps(definition).encode(), tuple(sorted(slow)), digits, cut, composable)


class FastTokenizer:
    """gigatoken with a plan; UnsupportedError when it can't load the definition."""

    def __init__(self, plan: FastPlan) -> None:
        self.plan = plan
        try:
            import gigatoken

            self._engine = gigatoken.Tokenizer.from_json(plan.definition)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedError(reason) from None

    def encode(self, texts: pa.Array) -> Ragged:
        """Ids of an Arrow array of texts (large_binary, UTF-8): uint32 values, int64 offsets."""
        if not self.plan.digits:
            return self._encode(texts)
        pieces, first = split_digits(texts, self.plan.digits)
        parts = [self._encode(pieces.slice(start, _PIECES)) for start in range(0, max(len(pieces), 1), _PIECES)]
        return joined(stacked(parts), first)

    def slow_rows(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        """Whether each text is left to `tokenizers`; bool of shape (rows,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        slow = np.zeros(len(texts), dtype=bool)
        data = content(texts)
        for pattern in self.plan.slow:
            if pattern in data:
                slow |= pc.match_substring(texts, pattern).to_numpy(zero_copy_only=False)
        if any(lead in data for lead in NEWER_LEADS):
            newer = pc.match_substring_regex(texts.cast(pa.large_string()), NEWER_CHARACTERS)
            slow |= newer.to_numpy(zero_copy_only=False)
        if self.plan.only_nfc and not data.isascii():
            strings = texts.cast(pa.large_string())
            slow |= pc.not_equal(pc.utf8_normalize(strings, "NFC"), strings).to_numpy(zero_copy_only=False)
        if self.plan.digits and not data.isascii():
            numbers = pc.match_substring_regex(texts.cast(pa.large_string()), _numerals())
            slow |= numbers.to_numpy(zero_copy_only=False)
        return slow

    def _encode(self, texts: pa.Array) -> Ragged:
        import awkward
        import pyarrow as pa

        encoded = self._engine.encode_batch(awkward.from_arrow(texts.cast(pa.large_string())))
        layout = awkward.to_packed(encoded).layout
        offsets = np.asarray(layout.offsets, dtype=np.int64)
        return Ragged(np.asarray(layout.content.data, dtype=np.uint32), offsets)


def _only(fields: Json, where: str, known: str) -> None:
    """Refuse what has other fields than these."""
    unknown = sorted(set(fields) - set(known.split()))
    if unknown:
        raise UnsupportedError(f"{where}{unknown[0]} is not a field that it is known to implement")


def _bytes(token: Json) -> bytes:
    content: str = token["content"]
    return content.encode()


def _check_model(model: Json) -> None:
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise UnsupportedError(f"it has no model of type {kind}")
    words = "continuing_subword_prefix end_of_word_suffix"
    _only(model, "model.", f"type dropout unk_token {words} fuse_unk byte_fallback ignore_merges vocab merges")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UnsupportedError(f"it does not implement model.{name}")
    if model.get("ignore_merges") and model.get("byte_fallback"):
        raise UnsupportedError("it does not implement model.ignore_merges with byte_fallback")
    merges = [tuple(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    if len(set(merges)) != len(merges):
        raise UnsupportedError("a merge occurs twice")


def _check_added(added: Sequence[Json], vocabulary: Mapping[str, int]) -> None:
    for token in added:
        _only(token, "added_tokens.", "id content single_word lstrip rstrip normalized special")
        if not token["content"]:
            raise UnsupportedError("an added token is empty")
        if vocabulary.get(token["content"], token["id"]) != token["id"]:
            raise UnsupportedError(f"the added token {token['content']!r} has another id in the vocabulary")
    if len({token["content"] for token in added}) != len(added) or len({token["id"] for token in added}) != len(added):
        raise UnsupportedError("an added token occurs twice")
    entries = {number: entry for entry, number in vocabulary.items()}
    taken = next((token for token in added if entries.get(token["id"], token["content"]) != token["content"]), None)
    if taken is not None:
        raise UnsupportedError(f"the id of the added token {taken['content']!r} is that of another entry")


def _check_normalizer(normalizer: Json | None, known: Sequence[str]) -> None:
    """Refuse normalizers of other kinds than these, and Sequences of such."""
    for part in _normalizers(normalizer):
        kind = part.get("type")
        if kind not in known:
            raise UnsupportedError(f"it is not known to implement the normalizer {kind}")
        _only(part, f"normalizer {kind}: ", "type prepend pattern content")
        if kind == "Replace" and (set(part["pattern"]) != {"String"} or not part["pattern"]["String"]):
            raise UnsupportedError("it does not implement a normalizer that replaces a regular expression")


def _normalizers(normalizer: Json | None) -> list[Json]:
    if normalizer is None:
        return []
    if normalizer.get("type") != "Sequence":
        return [normalizer]
    return list(itertools.chain.from_iterable(_normalizers(part) for part in normalizer["normalizers"]))


def _check_metaspace(pre_tokenizer: Json | None) -> None:
    """Refuse what is not a Metaspace, for a model with byte fallback."""
    if pre_tokenizer is None:
        return
    _only(pre_tokenizer, "pre_tokenizer.", "type replacement prepend_scheme split")
    if pre_tokenizer.get("type") != "Metaspace" or "prepend_scheme" not in pre_tokenizer:
        raise UnsupportedError(f"it is not known to implement the pre-tokenizer {pre_tokenizer.get('type')} here")


def _byte_level(pre_tokenizer: Json | None) -> tuple[Json, str, str]:
    """The pre-tokenizer that gigatoken gets, which digits are split off before it, and where texts may be cut."""
    parts = _pre_tokenizers(pre_tokenizer)
    kinds = [part.get("type") for part in parts]
    if not parts or kinds[-1] != "ByteLevel":
        raise UnsupportedError(f"it is not known to implement the pre-tokenizer {' + '.join(map(str, kinds)) or None}")
    last = parts[-1]
    _only(last, "ByteLevel.", "type add_prefix_space trim_offsets use_regex")
    prefix, regex = last.get("add_prefix_space"), last.get("use_regex", True)
    if kinds == ["ByteLevel"] and regex and prefix in (True, False):
        return last, "", "space" if prefix else "keep"
    if kinds == ["Digits", "ByteLevel"] and regex and prefix is False:
        _only(parts[0], "Digits.", "type individual_digits")
        return last, "each" if parts[0].get("individual_digits") else "runs", "keep"
    splits = tuple(_split(part) for part in parts[:-1])
    if regex or prefix is not False or not (splits == DEEPSEEK_SPLITS or (len(splits) == 1 and splits[0] in SPLITS)):
        raise UnsupportedError(f"it is not known to implement this pre-tokenizer: {' + '.join(map(str, kinds))}")
    return {"type": "Sequence", "pretokenizers": parts}, "", "keep"


def _pre_tokenizers(pre_tokenizer: Json | None) -> list[Json]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer.get("type") != "Sequence":
        return [pre_tokenizer]
    return list(itertools.chain.from_iterable(_pre_tokenizers(part) for part in pre_tokenizer["pretokenizers"]))


def _split(part: Json) -> str:
    """The regular expression of a Split; "" for anything else."""
    if part.get("type") != "Split" or set(part) != {"type", "pattern", "behavior", "invert"}:
        return ""
    if (part["behavior"], part["invert"]) not in (("Isolated", False), ("Removed", True)):
        return ""
    return str(part["pattern"].get("Regex", ""))


def _with_all_bytes(model: Json, added: Sequence[Json]) -> tuple[Json, set[bytes]]:
    """The model with an entry for every byte, which gigatoken needs, and the bytes whose entries are not its own."""
    vocabulary: dict[str, int] = dict(model["vocab"])
    alphabet = byte_alphabet()
    if model.get("ignore_merges"):
        contents = {token["content"] for token in added}
        raw = [entry for entry in vocabulary if not set(entry) <= set(alphabet) and entry not in contents]
        if raw:
            raise UnsupportedError(f"the vocabulary entry {raw[0]!r} is not spelled in bytes")
    missing = [byte for byte in range(256) if alphabet[byte] not in vocabulary]
    unused = max([-1, *vocabulary.values(), *(token["id"] for token in added)]) + 1
    vocabulary |= {alphabet[byte]: unused + i for i, byte in enumerate(missing)}
    return {**model, "vocab": vocabulary}, {bytes([byte]) for byte in missing if byte not in _NEVER}


@cache
def byte_alphabet() -> str:
    """The characters that byte-level vocabularies write the bytes 0 to 255 with (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return "".join(chr(byte) if byte in plain else chr(next(others)) for byte in range(256))


def _missing_fallbacks(vocabulary: Mapping[str, int]) -> set[bytes]:
    """Bytes for which a model with byte fallback has no token."""
    missing = {byte for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary} - _NEVER
    return {bytes([byte]) for byte in missing if byte >= 0x80 or chr(byte) not in vocabulary}


def _normalized_tokens(added: Sequence[Json]) -> set[bytes]:
    """Added tokens that are matched in normalized text, for a model with byte fallback."""
    tokens = [token for token in added if token.get("normalized")]
    if any(re.search("[ \u2581]", token["content"]) for token in tokens):
        raise UnsupportedError("an added token with a space is matched in normalized text")
    return {_bytes(token) for token in tokens}


def _overlapping_tokens(added: Sequence[Json]) -> set[bytes]:
    """Added tokens that overlap ones matched at another time: `tokenizers` matches in raw text, then in normalized."""
    raw, normalized = ([t["content"] for t in added if bool(t.get("normalized")) == n] for n in (False, True))
    return {a.encode() for a in raw for b in normalized if _overlap(a, b)}


def _overlap(a: str, b: str) -> bool:
    """Whether one can begin inside the other or hold it."""
    shared = range(1, min(len(a), len(b)) + 1)
    return a in b or b in a or any(a[-n:] == b[:n] or b[-n:] == a[:n] for n in shared)


def _composable_tokens(added: Sequence[Json]) -> bool:
    """Whether NFC can make an added token from other characters, or take one apart."""
    contents = [token["content"] for token in added if token.get("normalized")]
    for text in contents:
        if not unicodedata.is_normalized("NFC", text):
            raise UnsupportedError(f"the added token {text!r} is not in the form NFC")
    return any(not text.isascii() or _COMPOSABLE.search(text) or _COMPOSED.search(text) for text in contents)


def _sentencepiece_cut(loaded: Json) -> str:
    """Where long texts may be cut, for a model with byte fallback: at spaces that no vocabulary entry crosses."""
    if any(re.search("[!-~]\u2581", entry) for entry in loaded["model"]["vocab"]):
        return ""
    parts = [
        (part["type"], part.get("prepend", part.get("pattern", {}).get("String")), part.get("content"))
        for part in _normalizers(loaded.get("normalizer"))
    ]
    spaces = ("Replace", " ", "\u2581")
    if loaded.get("pre_tokenizer") is None:
        return {(("Prepend", "\u2581", None), spaces): "drop", (spaces,): "space"}.get(tuple(parts), "")
    return "" if parts else "space"


@cache
def _numerals() -> str:
    """A class of the characters of category N beyond ASCII, which `Digits` splits off too."""
    numbers = [code for code in range(0x80, 0x20000) if unicodedata.category(chr(code)).startswith("N")]
    return "[" + "".join(rf"\x{{{code:X}}}" for code in numbers) + "]"
