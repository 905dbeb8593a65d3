"""Which characters of a text each token was made from, under any normalizer.

`tokenizers` reports offsets into the original text, but a character that its normalizer composes with the one before
it (a combining mark, a part of a Hangul syllable) belongs to no token there, and a post-processor may cut off the space
before a word, also one that is not in the text. So the tokens are located in the normalized text instead, and that text
is aligned with the original, one step of the normalizer at a time.
"""

from __future__ import annotations

import bisect
import json
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Any, NamedTuple

#: First and end character of a token in the text.
Range = tuple[int, int]

#: Characters of a cluster whose parts are aligned; a longer one is aligned as a whole, or time would be quadratic.
LONGEST_CLUSTER = 32

#: Normalizers that are Unicode's normalization forms.
FORMS = ("NFC", "NFD", "NFKC", "NFKD")

#: What the tokenizers write for a space; alone at the start of a text it may stand for a space that the text lacks.
SPACES = ("▁", "Ġ")

#: Words of ASCII letters and white space, which no normalizer joins with what follows, and single other characters.
_PARTS = re.compile(r"[!-~]+|\s+|.", re.DOTALL)

#: A tokenizer.json around a normalizer: `tokenizers` reads normalizers from nothing smaller.
_AROUND = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}


class Offsets:
    """Locates the tokens of a tokenizer.json in texts."""

    def __init__(self, tokenizer: Any, definition: bytes) -> None:
        """No second tokenizer is loaded before a text needs it.

        Args:
            tokenizer: The `tokenizers.Tokenizer`, without a post-processor.
            definition: Its tokenizer.json.
        """
        self._tokenizer, self._definition = tokenizer, definition
        normalizer = tokenizer.normalizer
        # Normalizers are pickled as tokenizer.json writes them; reading all of that file again takes 0.1 s.
        self._steps = [] if normalizer is None else list(_flat(json.loads(normalizer.__getstate__())))
        # These are matched in the text as it is, and what is between them is normalized by itself.
        added = tokenizer.get_added_tokens_decoder()
        self._added = {number for number, token in added.items() if not token.normalized}
        self._spaces = {tokenizer.token_to_id(space) for space in SPACES} - {None}
        self._keeps_places = all(map(_keeps_places, self._steps))
        self._normalizers: list[Any] = []
        self._plain: Any = None

    def of(self, text: str, ids: Sequence[int], offsets: Sequence[Range]) -> list[Range]:
        """First and end character of every token: in order, and every character is in at least one of them.

        A character of several tokens belongs to each of them. Characters that no token was made from belong to the
        token before them, white space to the token after it.

        Args:
            text: The text.
            ids: Its tokens.
            offsets: What `tokenizers` reports for them.
        """
        found = list(offsets)
        if not self._keeps_places and not self._is_normal(text):
            self._align(text, ids, found)
        self._empty_lone_spaces(text, ids, found)
        return _covering(text, found)

    def _is_normal(self, text: str) -> bool:
        """Whether the normalizer is known to leave the text as it is; cheaper than to normalize it."""
        form = self._steps[0]["type"]
        return len(self._steps) == 1 and form in FORMS and unicodedata.is_normalized(form, text)

    def _align(self, text: str, ids: Sequence[int], found: list[Range]) -> None:
        """Put exact offsets in place of those in text that the normalizer changes."""
        for tokens, characters in self._sections(len(text), ids, found):
            part = text[characters.start : characters.stop]
            normalized = self._tokenizer.normalizer.normalize_str(part)
            if normalized == part:
                continue
            alignments = self._alignments(part, normalized)
            located = self._without_normalizer().encode_batch([normalized], add_special_tokens=False)[0]
            if alignments is None or located.ids != list(ids[tokens.start : tokens.stop]):
                continue
            for place, range_ in zip(tokens, located.offsets, strict=True):
                first, end = reduce(lambda inner, step: (step.first(inner[0]), step.end(inner[1])), alignments, range_)
                found[place] = (characters.start + first, characters.start + max(first, end))

    def _sections(self, length: int, ids: Sequence[int], found: list[Range]) -> Iterator[tuple[range, range]]:
        """Tokens and characters between added tokens that are matched before the text is normalized."""
        places = [place for place, token in enumerate(ids) if token in self._added]
        edges = [(-1, (0, 0)), *((place, found[place]) for place in places), (len(ids), (length, length))]
        for (before, (_, first)), (after, (end, _)) in pairwise(edges):
            if after > before + 1 and end > first:
                yield range(before + 1, after), range(first, end)

    def _alignments(self, text: str, normalized: str) -> list[Alignment] | None:
        """One alignment per step of the normalizer, the last first; None where they give another text."""
        if not self._normalizers:
            self._normalizers = [_normalizer(step) for step in self._steps]
        found = []
        for step, normalizer in zip(self._steps, self._normalizers, strict=True):
            alignment = Alignment()
            text = alignment.apply(text, step, normalizer.normalize_str)
            found.append(alignment)
        return found[::-1] if text == normalized else None

    def _without_normalizer(self) -> Any:
        if self._plain is None:
            import tokenizers

            plain = tokenizers.Tokenizer.from_buffer(self._definition)
            plain.normalizer, plain.post_processor = None, None
            plain.no_truncation()
            plain.no_padding()
            self._plain = plain
        return self._plain

    def _empty_lone_spaces(self, text: str, ids: Sequence[int], found: list[Range]) -> None:
        """Give no characters to a space that the tokenizer put in front of a text."""
        if self._spaces.isdisjoint(ids):
            return
        for place, token in enumerate(ids[:-1]):
            first = found[place][0]
            if token in self._spaces and found[place + 1][0] == first and text[first] not in " ▁":
                found[place] = (first, first)


class Chunk(NamedTuple):
    """A piece of the output of a normalizer, and the input it was made from.

    Attributes:
        source: First character of the input.
        firsts: For each place in the output, the first character it was made from, counted from `source`; None where
            input and output are the same.
        ends: For each place, the end of the characters that all before it was made from.
    """

    source: int
    firsts: list[int] | None = None
    ends: list[int] | None = None


class Alignment:
    """Output and input of one step of a normalizer."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._chunks: list[Chunk] = []
        self._output: list[str] = []
        self._length = 0

    def first(self, place: int) -> int:
        """The first character of the input that the output from a place on was made from."""
        at = bisect.bisect_right(self._places, place) - 1
        if at < 0:
            return 0
        chunk, inside = self._chunks[at], place - self._places[at]
        return chunk.source + (inside if chunk.firsts is None else chunk.firsts[inside])

    def end(self, place: int) -> int:
        """The end of the characters of the input that the output before a place was made from."""
        at = bisect.bisect_left(self._places, place) - 1
        if at < 0:
            return 0
        chunk, inside = self._chunks[at], place - self._places[at]
        return chunk.source + (inside if chunk.ends is None else chunk.ends[inside])

    def apply(self, text: str, step: dict[str, Any], normalize: Callable[[str], str]) -> str:
        """Normalize a text and keep where its characters went.

        Args:
            text: The input.
            step: The step as tokenizer.json writes it.
            normalize: What it does.
        """
        kind = step["type"]
        if kind == "Prepend":
            self._whole(0, 0, step["prepend"] if text else "")
            self._same(0, text)
        elif kind == "Strip":
            stripped = normalize(text)
            self._same(text.find(stripped), stripped)
        elif kind == "Replace":
            self._replace(text, _pattern(step["pattern"]), step["content"])
        else:
            self._clusters(text, normalize)
        # The end of the output is a place, too.
        self._places.append(self._length)
        self._chunks.append(Chunk(len(text)))
        return "".join(self._output)

    def _same(self, source: int, text: str) -> None:
        self._add(Chunk(source), text)

    def _whole(self, source: int, length: int, output: str) -> None:
        """Output that was made from all of a piece of the input."""
        self._add(Chunk(source, [0] * (len(output) + 1), [length] * (len(output) + 1)), output)

    def _add(self, chunk: Chunk, output: str) -> None:
        if output:
            self._places.append(self._length)
            self._chunks.append(chunk)
            self._output.append(output)
            self._length += len(output)

    def _replace(self, text: str, pattern: re.Pattern[str] | None, content: str) -> None:
        at = 0
        for match in pattern.finditer(text) if pattern else ():
            self._same(at, text[at : match.start()])
            self._whole(match.start(), match.end() - match.start(), content)
            at = match.end()
        self._same(at, text[at:])

    def _clusters(self, text: str, normalize: Callable[[str], str]) -> None:
        """A normalizer that looks at neighbouring characters only: each cluster of them is normalized by itself."""
        known: dict[str, tuple[str, list[int], list[int]] | None] = {}
        at = same = 0
        for cluster in _clusters(text):
            if cluster not in known:
                known[cluster] = _aligned(cluster, normalize)
            if aligned := known[cluster]:
                self._same(same, text[same:at])
                output, firsts, ends = aligned
                self._add(Chunk(at, firsts, ends), output)
                same = at + len(cluster)
            at += len(cluster)
        self._same(same, text[same:])


def _aligned(cluster: str, normalize: Callable[[str], str]) -> tuple[str, list[int], list[int]] | None:
    """A cluster's output, with firsts and ends as in `Chunk`; None where it is the cluster itself."""
    output = normalize(cluster)
    if output == cluster:
        return None
    length, places = len(cluster), range(len(output) + 1)
    if len(output) == length and all(normalize(one) == other for one, other in zip(cluster, output, strict=True)):
        return output, list(places), list(places)
    if length == 1 or length > LONGEST_CLUSTER:
        return output, [0] * len(places), [length] * len(places)
    # What some output was made from: the shortest beginning, and the shortest end, that are normalized to it.
    heads = [normalize(cluster[:end]) for end in range(length)]
    tails = [normalize(cluster[first:]) for first in range(length + 1)]
    ends = [next((e for e in range(length) if heads[e].startswith(output[:at])), length) for at in places]
    firsts = [next((f for f in range(length, 0, -1) if tails[f].endswith(output[at:])), 0) for at in places]
    return output, firsts, ends


def _clusters(text: str) -> Iterator[str]:
    """The text in pieces that a normalizer changes one by one: a letter with its marks, a word of ASCII letters."""
    held = ""
    for match in _PARTS.finditer(text):
        part = match.group()
        if part.isascii() or not _joins(part[0]):
            if held:
                yield held
            held = part
        elif len(held) > 1 and held.isascii():
            # The mark is of the last letter only.
            yield held[:-1]
            held = held[-1] + part
        else:
            held += part
    if held:
        yield held


@lru_cache(1 << 14)
def _joins(character: str) -> bool:
    """Whether a character may be composed with the one before it, or change places with it."""
    if character.isspace():
        return False
    # The middle and the end of a Hangul syllable, also of half width, have no combining class.
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _covering(text: str, found: list[Range]) -> list[Range]:
    """The ranges in order, with the characters between them."""
    if not found or _covers(len(text), found):
        return found
    last = len(text)
    for place in range(len(found) - 1, -1, -1):
        last = min(last, found[place][0])
        found[place] = (last, found[place][1])
    reached = 0
    for place, (first, end) in enumerate(found):
        joined = first > reached and (place == 0 or text[reached].isspace())
        if first > reached and not joined:
            _extend(found, place, reached, first)
        found[place] = (reached if joined else first, max(reached, first, end))
        reached = found[place][1]
    _extend(found, len(found), reached, len(text))
    return found


def _covers(length: int, found: list[Range]) -> bool:
    """Whether nothing is to be done; that is so for most texts, and fast to find out."""
    firsts, ends = zip(*found, strict=True)
    after = firsts[1:]
    in_order = all(map(operator.le, firsts, after)) and all(map(operator.le, ends, ends[1:]))
    return in_order and firsts[0] == 0 and ends[-1] == length and all(map(operator.ge, ends, after))


def _extend(found: list[Range], before: int, reached: int, end: int) -> None:
    """Let the tokens before one that hold the last character before `reached` end later."""
    for place in range(before - 1, -1, -1):
        first, last = found[place]
        if last != reached or (first == last and place < before - 1):
            break
        found[place] = (first, end)


def _flat(normalizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer of a tokenizer.json."""
    if normalizer["type"] == "Sequence":
        for step in normalizer["normalizers"]:
            yield from _flat(step)
    else:
        yield normalizer


def _keeps_places(step: dict[str, Any]) -> bool:
    """Whether `tokenizers` keeps offsets right: only single characters take the place of single characters."""
    if step["type"] == "Replace":
        return len(step["content"]) == len(step["pattern"].get("String", "")) == 1
    return bool(step["type"] == "Prepend")


def _normalizer(step: dict[str, Any]) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(_AROUND | {"normalizer": step})).normalizer


def _pattern(pattern: dict[str, str]) -> re.Pattern[str] | None:
    """What a Replace looks for; None for a regular expression that Python can't read."""
    if "String" in pattern:
        return re.compile(re.escape(pattern["String"]))
    try:
        return re.compile(pattern["Regex"])
    except (re.error, OverflowError, RecursionError):
        return None
