"""The planted texts of a study as sequences: how often each stands in the corpus was set by whoever built it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.index.index import Index
from memindex.ragged import Ragged, from_arrow, from_matrix
from memindex.study.config import SequenceConfig
from memindex.study.planting import TABLE, window_starts
from memindex.study.windows import Windows, token_lists, window_table

#: Their `sample`.
PLANTED = "planted"


def planted_sequences(index: Index, folder: Path, config: SequenceConfig) -> pa.Table:
    """The sequences of each planted text, in the order of their numbers: its prefix + suffix tokens.

    Of a longer text it is those that it begins with, ends with and has in its middle, where they occur as often as it
    does. A text that was planted has the place of one of its copies; one of 0 copies has none.

    Args:
        index: The index of the corpus with the planted documents.
        folder: What `memindex plant` made.
        config: How long sequences are.

    Raises:
        MemindexError: No such folder, texts of another tokenizer, texts that are too short, or counts in the index that
            are not those that were planted.
    """
    table = _read(folder)
    if (table.schema.metadata or {}).get(b"tokenizer_checksum", b"").decode() != index.manifest.tokenizer_checksum:
        raise MemindexError(f"{folder} was planted with another tokenizer than {index.path} was built with")
    tokens = from_arrow(table["tokens"])
    length = config.prefix + config.suffix
    shortest = int(tokens.lengths().min(initial=length))
    if shortest < length:
        raise MemindexError(
            f"{folder}: planted texts of {shortest} tokens are shorter than prefix + suffix, {length}: plant longer "
            "ones (--length), or choose a shorter prefix or suffix"
        )
    copies, counts = table["copies"].to_numpy(), index.count(tokens).astype(np.int64)
    wrong = np.flatnonzero(copies != counts)
    if len(wrong):
        raise MemindexError(
            f"{index.path} holds planted text {wrong[0]} of {folder} {counts[wrong[0]]:,} times, not "
            f"{copies[wrong[0]]:,} ({len(wrong):,} of {len(copies):,} differ): build it of the corpus and "
            f"{folder / 'documents'}, once"
        )
    text, start = _starts(tokens.lengths(), length)
    ids = tokens.values[(tokens.offsets[text] + start)[:, None] + np.arange(length)].astype(np.int32)
    kept = index.count(from_matrix(ids)).astype(np.int64) == copies[text]
    text, start, ids = text[kept], start[kept], ids[kept]
    there, absent = np.flatnonzero(copies[text]), np.flatnonzero(copies[text] == 0)
    placed = _placed(index, tokens, text[there], start[there], config)
    without = {field.name: pa.nulls(len(absent), field.type) for field in placed.schema}
    without |= {
        "sample": pa.array([PLANTED] * len(absent), type=pa.string()),
        "inclusion": pa.array(np.ones(len(absent))),
        "document_offset": pa.array(start[absent]),
        "document_tokens": pa.array(tokens.lengths()[text[absent]]),
        "prefix": token_lists(ids[absent][:, : config.prefix]).cast(placed.schema.field("prefix").type),
        "suffix": token_lists(ids[absent][:, config.prefix :]).cast(placed.schema.field("suffix").type),
    }
    order = np.argsort(np.concatenate([there, absent]), kind="stable")
    both = pa.concat_tables([placed, pa.table(without, schema=placed.schema)]).take(pa.array(order))
    column = both.schema.get_field_index("planted_text")
    return both.set_column(column, "planted_text", pa.array(text.astype(np.int64))).combine_chunks()


def _starts(lengths: npt.NDArray[np.int64], window: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """The text of each sequence, and where it begins there; both of shape (sequences,), in the order of the texts."""
    starts = {length: np.array(window_starts(length, window)) for length in np.unique(lengths).tolist()}
    of_text = [starts[length] for length in lengths.tolist()]
    text = np.repeat(np.arange(len(of_text)), [len(part) for part in of_text])
    return text, np.concatenate([np.zeros(0, dtype=np.int64), *of_text])


def _placed(
    index: Index,
    tokens: Ragged,
    text: npt.NDArray[np.intp],
    start: npt.NDArray[np.int64],
    config: SequenceConfig,
) -> pa.Table:
    """The rows of sequences that were planted: all of one text are in the same copy of it."""
    found = index.positions(tokens.take(text), limit=1)
    windows = Windows(
        found.shard.astype(np.int32), found.position.astype(np.int64) + start, np.full(len(text), -1, dtype=np.int32)
    )
    return window_table(index, PLANTED, windows, config, np.ones(len(text)))


def planted_windows(folder: Path, length: int) -> npt.NDArray[np.int32]:
    """The distinct windows of the documents that were planted; int32 of shape (windows, length), sorted.

    Raises:
        MemindexError: No such folder.
    """
    table = _read(folder)
    tokens = from_arrow(table["tokens"]).take(np.flatnonzero(table["copies"].to_numpy()))
    fitting = np.maximum(tokens.lengths() - length + 1, 0)
    first = np.repeat(tokens.offsets[:-1] - (np.cumsum(fitting) - fitting), fitting)
    starts = np.arange(len(first)) + first
    return np.unique(tokens.values[starts[:, None] + np.arange(length)].astype(np.int32), axis=0)


def planted_digest(folder: Path) -> str:
    """Tells what was planted from anything else, whatever program wrote it and wherever its texts lay; hex digits."""
    table = _read(folder)
    digest = hashlib.sha256((table.schema.metadata or {}).get(b"tokenizer_checksum", b""))
    tokens = from_arrow(table["tokens"])
    for values in (table["copies"].to_numpy(), tokens.offsets, tokens.values):
        digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return digest.hexdigest()


def _read(folder: Path) -> pa.Table:
    try:
        return pq.read_table(folder / TABLE)
    except (OSError, pa.ArrowInvalid):
        raise MemindexError(f"{folder} is no folder of planted texts: make one with memindex plant") from None
