"""The study's own sequences: written as JSON lines for another runner, and found again by sequence_id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from memindex.errors import MemindexError
from memindex.importers.jsonl import Known, UnknownSequenceError
from memindex.index.index import Index
from memindex.ragged import from_arrow
from memindex.tables.files import batches
from memindex.tables.store import TableStore

#: Ids that are read together: files are scanned once for so many sequences that come in order.
WINDOW = 1 << 18

_COLUMNS = ["sequence_id", "prefix", "suffix"]

#: Sequences decoded and written at a time.
_BATCH = 4096


class StudySequences:
    """Finds prefix and suffix of sequences by id; keeps the window of ids that was asked for last."""

    def __init__(self, store: TableStore) -> None:
        self._store = store
        self._window: pa.Table | None = None

    def __call__(self, ids: list[int]) -> Known:
        """The tokens of sequences, in the order of `ids`; MemindexError where the study has none of that id."""
        wanted = np.array(ids, dtype=np.int64)
        place = self._places(wanted)
        if place.null_count:
            self._window = self._read(wanted)
            place = self._places(wanted)
        if self._window is None or place.null_count:
            missing = wanted[np.flatnonzero(place.is_null().to_numpy(zero_copy_only=False))[0]]
            message = f"the study has no sequence {missing}: sequence_id must be one that memindex export writes"
            raise UnknownSequenceError(int(missing), message)
        rows = self._window.take(place)
        if rows.column("prefix").null_count:
            number = wanted[np.flatnonzero(rows.column("prefix").is_null().to_numpy(zero_copy_only=False))[0]]
            raise UnknownSequenceError(
                int(number), f"sequence {number} was imported without tokens: no continuation can be compared with it"
            )
        return Known(from_arrow(rows.column("prefix")), from_arrow(rows.column("suffix")))

    def _places(self, wanted: npt.NDArray[np.int64]) -> pa.Array:
        if self._window is None:
            return pa.nulls(len(wanted), pa.int32())
        return pc.index_in(pa.array(wanted), value_set=self._window.column("sequence_id"))

    def _read(self, wanted: npt.NDArray[np.int64]) -> pa.Table | None:
        start = wanted.min()
        parts = []
        for file in self._store.files("sequences"):
            for batch in batches(file, _COLUMNS):
                ids = batch.column("sequence_id").to_numpy()
                here = ((ids >= start) & (ids - start < WINDOW)) | np.isin(ids, wanted)
                if here.any():
                    parts.append(batch.filter(pa.array(here)))
        return pa.Table.from_batches(parts).combine_chunks() if parts else None


def exported(
    store: TableStore, index: Index | None, sample: str | None, with_suffix: bool, batch_model: str | None = None
) -> Iterator[str]:
    """The study's sequences as JSON lines: sequence_id, prefix, suffix_length, and prefix_text where there is an index.

    Args:
        store: The study's tables.
        index: Decodes the ids; None: no text.
        sample: Only this sample (uniform, bucket, domain, heldout, planted, imported); None: all.
        with_suffix: Whether to write the true continuation too, for runners that score it.
        batch_model: Write requests of a batch for this model instead.

    Raises:
        MemindexError: The study has no such sequences yet.
    """
    none, samples = True, set()
    for file in store.files("sequences"):
        for batch in batches(file, [*_COLUMNS, "sample"], _BATCH):
            samples.update(pc.unique(batch.column("sample")).to_pylist())
            chosen = pc.is_valid(batch.column("prefix"))
            if sample is not None:
                chosen = pc.and_(chosen, pc.equal(batch.column("sample"), sample))
            rows = batch.filter(chosen).to_pylist()
            none = none and not rows
            if batch_model is not None:
                yield from (json.dumps(_request(row, batch_model), ensure_ascii=False) for row in rows)
                continue
            texts = {name: _texts(index, [row[name] for row in rows]) for name in ("prefix", "suffix")}
            for number, row in enumerate(rows):
                line = {"sequence_id": row["sequence_id"], "prefix": row["prefix"], "suffix_length": len(row["suffix"])}
                names = ["prefix", "suffix"] if with_suffix else ["prefix"]
                line |= {"suffix": row["suffix"]} if with_suffix else {}
                line |= {f"{name}_text": texts[name][number] for name in names if texts[name]}
                yield json.dumps(line, ensure_ascii=False)
    if none:
        raise MemindexError(_nothing_to_export(sample, samples))


def _request(row: dict[str, Any], model: str) -> dict[str, Any]:
    """A row of the input file of a batch, as OpenAI's API and programs like it read it."""
    body = {"model": model, "prompt": row["prefix"], "max_tokens": len(row["suffix"]), "temperature": 0}
    name = f"sequence-{row['sequence_id']}"
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}


def _nothing_to_export(sample: str | None, samples: set[str]) -> str:
    if not samples:
        return "the study has no sequences yet: memindex study run STUDY --only sequences samples them"
    if sample is None or sample in samples:
        return "the study's sequences were imported without their tokens: there is nothing to export"
    return f"the study has no sequences of the sample {sample}; it has: {', '.join(sorted(samples))}"


def _texts(index: Index | None, rows: list[list[int]]) -> list[str]:
    return index.tokenizer.decode_batch(rows) if index is not None and index.has_tokenizer else []
