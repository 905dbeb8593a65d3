"""Planting: putting texts into a corpus so many times, so that how often they stand there is set and not only seen.

The texts are windows of documents that the corpus does not hold: one of each document, or several that don't overlap
where there are fewer documents than texts. Each is planted as a document of its own, in so many copies (0 is a control:
never). The documents come in random order, so that copies of one text lie far apart. Texts can be of several lengths: a
sequence may stand alone, or in a longer passage that is copied as a whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.corpus.documents import BadDocuments, ReadOptions
from memindex.corpus.sources import find_files, read_documents
from memindex.corpus.tokenizer import Tokenizer
from memindex.errors import CorpusError, MemindexError
from memindex.ragged import Ragged, from_matrix, to_arrow
from memindex.work.folders import new_folder, partial_directory

if TYPE_CHECKING:
    from memindex.index.index import Index

#: The documents to give to an index build, and the table of what was planted.
DOCUMENTS, TABLE = Path("documents", "planted.jsonl"), "planted.parquet"

#: Domain of planted documents.
DOMAIN = "planted"

#: Texts that are drawn for one that is wanted: some are no whole characters, or stand in the corpus.
_SPARE = 4

#: Keeps what is drawn here apart from what else is drawn with the same seed.
_DRAW = 0x706C616E

#: Most copies of one text.
MOST_COPIES = 1 << 20


@dataclass(frozen=True)
class PlantPlan:
    """What is planted.

    Attributes:
        copies: How often; each number is as frequent as the others.
        sequences: Texts of each number of copies and each length.
        lengths: Tokens of a text. Windows as long as the shortest are what is looked for later: those that longer texts
            begin with, end with and have in their middle are unknown to the corpus too.
        seed: Seed of everything that is drawn.
        text_field: Dotted path of the text in the documents that are written.
        domain_field: Dotted path of their domain; None: their folder tells it.
    """

    copies: tuple[int, ...]
    sequences: int
    lengths: tuple[int, ...] = (64,)
    seed: int = 0
    text_field: str = "text"
    domain_field: str | None = None


@dataclass(frozen=True)
class Planted:
    """What was planted.

    Attributes:
        table: A row per text: planted (its number), copies, text, tokens, path and line of the document it is from.
        documents: Documents that were written.
        known: Texts that were left out because they stand in the corpus.
        most_known: The largest of their counts there.
    """

    table: pa.Table
    documents: int
    known: int
    most_known: int


def plant(
    index: Index,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    plan: PlantPlan,
    options: ReadOptions,
) -> Planted:
    """Choose texts that an index does not hold, and write documents with copies of them.

    Args:
        index: The corpus without them; its tokenizer cuts the texts.
        sources: Files or folders of other texts, such as held-out ones.
        out: Folder to make, with `documents/planted.jsonl` and `planted.parquet`.
        plan: How many, how long and how often.
        options: Where the text stands in the sources.

    Raises:
        CorpusError: A source is missing or malformed, or has too few texts.
        MemindexError: `out` exists, or a plan that makes no sense.
    """
    _check(plan)
    sources = [sources] if isinstance(sources, str | Path) else sources
    target, wanted = new_folder(out), plan.sequences * len(plan.copies)
    if target.exists():
        raise MemindexError(f"{target} exists already: choose another --out, or remove it first")
    most = _SPARE * wanted * len(plan.lengths)
    while True:
        drawn = _draw(sources, index.tokenizer, plan, options, most)
        try:
            chosen, counts = _chosen(index, drawn, plan, wanted)
            break
        except CorpusError:
            if len(drawn.tokens) < most:  # there are no more
                raise
            most *= _SPARE
    table = _table(chosen, index.tokenizer, plan)
    with partial_directory(target, "plant") as folder:
        documents = _write(folder, table, plan)
        folder.rename(target)
    return Planted(table, documents, len(counts), int(counts.max(initial=0)))


def _chosen(index: Index, drawn: _Texts, plan: PlantPlan, wanted: int) -> tuple[list[_Texts], npt.NDArray[np.int64]]:
    """The texts of each length, longest first, and the counts of those that are left out because they stand there."""
    random = np.random.default_rng([plan.seed, _DRAW, 2])
    chosen, known = [], []
    # A window that is drawn is as long as the longest text, and makes one text: no two of them overlap.
    for length in sorted(plan.lengths, reverse=True):
        texts, left, counts = _choose(index, drawn, plan, length, wanted)
        # First windows of their documents come first: no number of copies may get more of them than another.
        chosen.append(texts.take(random.permutation(wanted)))
        drawn = drawn.take(left)
        known.append(counts[counts > 0])
    return chosen, np.concatenate(known)


def _choose(
    index: Index, drawn: _Texts, plan: PlantPlan, length: int, wanted: int
) -> tuple[_Texts, npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Texts of one length, the windows that are left for others, and the counts of those that were considered.

    A count is the highest of the windows that are looked for in a text: where they don't occur, it does not.
    """
    cut = drawn._replace(tokens=np.ascontiguousarray(drawn.tokens[:, :length]))
    rows = _whole(cut.tokens, index.tokenizer)
    window, counts = min(plan.lengths), np.zeros(len(rows), dtype=np.int64)
    for start in window_starts(length, window):
        part = np.ascontiguousarray(cut.tokens[rows, start : start + window])
        counts = np.maximum(counts, index.count(from_matrix(part)).astype(np.int64))
    chosen = rows[np.flatnonzero(counts == 0)[:wanted]]
    if len(chosen) < wanted:
        raise CorpusError(
            f"{wanted:,} texts of {length} tokens are wanted; of {len(drawn.tokens):,} windows of the documents, "
            f"{len(chosen):,} are texts that {index.name} does not hold ({int((counts > 0).sum()):,} stand "
            f"there, up to {counts.max(initial=0):,} times; {len(drawn.tokens) - len(rows):,} are other tokens as "
            "texts, or twice there): give more documents, or plant fewer --sequences"
        )
    return cut.take(chosen), np.setdiff1d(np.arange(len(drawn.tokens)), chosen), counts


def window_starts(length: int, window: int) -> list[int]:
    """Where the windows begin that are looked for in a planted text: at its beginning, in its middle, at its end."""
    if length < 3 * window:
        return [0] if length < 2 * window else [0, length - window]
    return [0, (length - window) // 2, length - window]


def _check(plan: PlantPlan) -> None:
    if not plan.copies or len(set(plan.copies)) < len(plan.copies):
        raise MemindexError("copies: give at least one number, and none twice")
    if not 0 <= min(plan.copies) <= max(plan.copies) <= MOST_COPIES:
        raise MemindexError(f"copies must be between 0 and {MOST_COPIES:,}")
    if max(plan.copies) == 0:
        raise MemindexError("copies of 0 alone plant nothing: give another number beside it")
    if not plan.lengths or len(set(plan.lengths)) < len(plan.lengths):
        raise MemindexError("length: give at least one number, and none twice")
    if plan.sequences < 1 or min(plan.lengths) < 2:
        raise MemindexError("plant at least 1 sequence of each number of copies, of 2 tokens or more")


class _Texts(NamedTuple):
    """Candidates: int32 tokens (rows, length), and where each is from."""

    tokens: npt.NDArray[np.int32]
    paths: npt.NDArray[np.object_]
    lines: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.intp]) -> _Texts:
        return _Texts(self.tokens[rows], self.paths[rows], self.lines[rows])


def _draw(
    sources: Sequence[str | Path], tokenizer: Tokenizer, plan: PlantPlan, options: ReadOptions, most: int
) -> _Texts:
    """At most so many windows of the longest length: one of each document in random order, then a second, and so on."""
    length = max(plan.lengths)
    random = np.random.default_rng([plan.seed, _DRAW])
    kept: list[tuple[npt.NDArray[np.float64], _Texts]] = []
    below = math.inf
    for batch in read_documents(find_files(sources, options), options, BadDocuments()):
        if not len(batch) or batch.schema.field(0).name != "text":
            continue
        kept.append(_windows(batch, tokenizer, length, random, below))
        if sum(len(order) for order, _ in kept) > 2 * most:
            kept = [_first(kept, most)]
            below = float(kept[0][0][-1])
    if not sum(len(order) for order, _ in kept):
        raise CorpusError(f"no document in {', '.join(map(str, sources))} has {length} tokens")
    return _first(kept, most)[1]


def _windows(
    batch: pa.RecordBatch, tokenizer: Tokenizer, length: int, random: np.random.Generator, below: float
) -> tuple[npt.NDArray[np.float64], _Texts]:
    """As many windows of each document as fit side by side, at random places, each with its place in the order.

    Those whose place is not below a number are left out. A place is the number of the document's windows that come
    before, and a random share.
    """
    ragged: Ragged = tokenizer.encode_batch(batch.column(0))
    fitting = ragged.lengths() // length
    document = np.repeat(np.arange(len(fitting)), fitting)
    first = np.cumsum(fitting) - fitting
    within = np.arange(len(document)) - first[document]
    # Tokens before each window that no window takes: random numbers, ascending in each document.
    room = (ragged.lengths() - fitting * length)[document]
    gaps = (random.random(len(document)) * (room + 1)).astype(np.int64)
    gaps = gaps[np.lexsort((gaps, document))]
    starts = ragged.offsets[document] + gaps + within * length
    shares = random.random(len(document))
    order = np.empty(len(document))
    order[np.lexsort((shares, document))] = within
    order += random.random(len(document))
    rows = np.flatnonzero(order < below)
    tokens = ragged.values[starts[rows, None] + np.arange(length)].astype(np.int32)
    places = (batch.column(name).to_numpy(zero_copy_only=False)[document[rows]] for name in ("path", "line"))
    return order[rows], _Texts(tokens, *places)


def _first(kept: Sequence[tuple[npt.NDArray[np.float64], _Texts]], most: int) -> tuple[npt.NDArray[np.float64], _Texts]:
    order = np.concatenate([order for order, _ in kept])
    parts = [texts for _, texts in kept]
    together = _Texts(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("tokens", "paths", "lines")))
    rows = np.argsort(order, kind="stable")[:most]
    return order[rows], together.take(rows)


def _whole(tokens: npt.NDArray[np.int32], tokenizer: Tokenizer) -> npt.NDArray[np.intp]:
    """Rows of those that are the same ids again when their text is a document of its own, each once."""
    length = tokens.shape[1]
    again = tokenizer.encode_texts(tokenizer.decode_batch(tokens.tolist()))
    same = np.flatnonzero(again.lengths() == length)
    values = again.take(same).values.reshape(-1, length).astype(np.int32)
    same = same[(values == tokens[same]).all(axis=1)]
    _, first = np.unique(tokens[same], axis=0, return_index=True)
    rows: npt.NDArray[np.intp] = same[np.sort(first)]
    return rows


def _table(chosen: Sequence[_Texts], tokenizer: Tokenizer, plan: PlantPlan) -> pa.Table:
    """Texts of each length, each number of copies: in the order of the numbers."""
    copies = np.repeat(np.array(plan.copies, dtype=np.int64), plan.sequences)
    texts = [text for part in chosen for text in tokenizer.decode_batch(part.tokens.tolist())]
    columns = {
        "planted": pa.array(np.arange(len(texts), dtype=np.int64)),
        "copies": pa.array(np.tile(copies, len(chosen))),
        "text": pa.array(texts, type=pa.string()),
        "tokens": pa.concat_arrays([to_arrow(from_matrix(part.tokens)) for part in chosen]),
        "path": pa.array(np.concatenate([part.paths for part in chosen]), type=pa.string()),
        "line": pa.array(np.concatenate([part.lines for part in chosen])),
    }
    made = {"tokenizer": tokenizer.name, "tokenizer_checksum": tokenizer.checksum, "seed": str(plan.seed)}
    return pa.table(columns).replace_schema_metadata(made)


def _write(folder: Path, table: pa.Table, plan: PlantPlan) -> int:
    """Write table and documents; returns the number of these."""
    order = np.repeat(table["planted"].to_numpy(), table["copies"].to_numpy())
    np.random.default_rng([plan.seed, _DRAW, 1]).shuffle(order)
    texts = table["text"].to_pylist()
    (folder / DOCUMENTS.parent).mkdir()
    with (folder / DOCUMENTS).open("w", encoding="utf-8") as file:
        for number in order.tolist():
            document: dict[str, Any] = {"planted": number}
            _put(document, plan.text_field, texts[number])
            if plan.domain_field:
                _put(document, plan.domain_field, DOMAIN)
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
    pq.write_table(table, folder / TABLE)
    return len(order)


def _put(document: dict[str, Any], path: str, value: str) -> None:
    """Put a value at a dotted path."""
    *above, last = path.split(".")
    for name in above:
        document = document.setdefault(name, {})
    document[last] = value
