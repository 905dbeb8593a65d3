"""The sequences that a probe looks at, chosen from what a run made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.ragged import from_arrow
from memindex.study.natural import are_among
from memindex.study.planning import Run
from memindex.study.probe_config import COMPRESSION, OF_MEMORIZED, ProbeConfig
from memindex.study.probe_matching import Traits, match
from memindex.study.sampling import DOMAIN
from memindex.tables.store import TableStore

#: What a run can make of a sequence: score 1, between, and 0.
OUTCOMES = ("memorized", "half-memorized", "unmemorized")

#: Sequences that each outcome must have, for a comparison that says anything.
LEAST = 10

#: Keeps what is drawn here apart from what else is drawn with the same seed.
_DRAW = 0x70726F62

Ids = npt.NDArray[np.int64]


class TooFewError(MemindexError):
    """A run with too few sequences of an outcome to compare them."""


@dataclass(frozen=True)
class Selection:
    """The sequences of a run that a probe measures, in the order of their ids; all of shape (rows,).

    Attributes:
        ids: int64, their ids.
        outcome: int8, what the run made of them, a place in OUTCOMES.
        drawn: bool, whether they were drawn at random from their outcome.
        pair: int64, the memorized sequence that they were matched to, its own id for that one; -1 where there is none.
    """

    ids: Ids
    outcome: npt.NDArray[np.int8]
    drawn: npt.NDArray[np.bool_]
    pair: Ids

    def part(self, rows: slice) -> Selection:
        """Some of the rows."""
        return Selection(self.ids[rows], self.outcome[rows], self.drawn[rows], self.pair[rows])


def select(store: TableStore, probe: str, run: Run, sequences: pa.Table, settings: ProbeConfig) -> Selection:
    """Choose a probe's sequences; equal tables and settings give the same ones.

    Compression and head importance take memorized sequences. Other probes compare outcomes, of sequences from the
    corpus the model was trained on: those drawn at random from each, and trios of a memorized, a half-memorized and an
    unmemorized one that are alike (`memindex.study.probe_matching`).

    Args:
        store: The study's tables.
        probe: The probe's name.
        run: A finished run.
        sequences: The study's sequences.
        settings: How many, and the seed.

    Raises:
        TooFewError: An outcome has fewer than LEAST sequences.
    """
    results = _results(store, run, ["sequence_id", "score", "memorized", "prefix_logprob"])
    results = results.sort_by("sequence_id").combine_chunks()
    ids = results["sequence_id"].to_numpy()
    own = _in_order(sequences, ids)
    outcome = np.where(results["memorized"].to_numpy(), 0, np.where(results["score"].to_numpy() > 0, 1, 2))
    samples = own["sample"].to_numpy(zero_copy_only=False)
    most = settings.settings(probe)["sequences"]
    # Planted texts stand as often in the corpus as was wanted: they would make other groups.
    trained = ~np.isin(samples.astype(str), ("heldout", "planted")) & ~_drawn_again(own)
    if probe in OF_MEMORIZED:
        # Compression also of what was memorized though it is held out; heads by domain.
        kinds = samples if probe == COMPRESSION else own["domain"].fill_null("").to_numpy(zero_copy_only=False)
        some = (outcome == 0) & (trained | (probe == COMPRESSION))
        chosen = _of_each_kind(ids[some], kinds[some], most, settings.seed)
        return Selection(chosen, np.zeros(len(chosen), np.int8), np.ones(len(chosen), bool), np.full(len(chosen), -1))
    groups = [ids[trained & (outcome == which)] for which in range(3)]
    if min(map(len, groups)) < LEAST:
        found = ", ".join(f"{len(group)} {name}" for group, name in zip(groups, OUTCOMES, strict=True))
        raise TooFewError(
            f"{probe} compares outcomes and needs {LEAST} sequences of each at least; {run.run_id!r} has {found}: "
            "sample more sequences, or take a model that memorized more"
        )
    drawn = np.isin(ids, np.concatenate([draw(group, most, settings.seed) for group in groups]))
    order = draw(groups[0], len(groups[0]), settings.seed)
    pair = match(_traits(store, run, results, own), outcome, trained, np.searchsorted(ids, order), most)
    rows = np.flatnonzero(drawn | (pair >= 0))
    return Selection(ids[rows], outcome[rows].astype(np.int8), drawn[rows], np.where(pair >= 0, ids[pair], -1)[rows])


def _drawn_again(sequences: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a sequence of the sample `domain` is in another sample too; it would count twice."""
    again: npt.NDArray[np.bool_] = sequences["sample"].to_numpy(zero_copy_only=False) == DOMAIN
    if not again.any():
        return again
    both = (from_arrow(sequences[name]).values.reshape(len(again), -1) for name in ("prefix", "suffix"))
    ids = np.concatenate(list(both), axis=1).astype(np.int32)
    return again & are_among(ids, ids[~again])


def continuations_of(store: TableStore, run: Run, ids: Ids) -> npt.NDArray[np.int32]:
    """What a run generated for these sequences, int32 (rows, suffix)."""
    results = _in_order(_results(store, run, ["sequence_id", "continuation"]), ids)
    return from_arrow(results["continuation"]).values.reshape(len(ids), -1).astype(np.int32)


def draw(ids: Ids, most: int, seed: int) -> Ids:
    """At most so many of the ids, drawn without replacement; more of them are those and others."""
    return np.random.default_rng([seed, _DRAW]).permutation(ids)[:most]


def _results(store: TableStore, run: Run, columns: list[str]) -> pa.Table:
    """Columns of a run's continuations."""
    ours = re.compile(re.escape(run.run_id) + r" [0-9a-f]{8} \d{9}")
    files = [store.file("continuations", unit) for unit in store.units("continuations") if ours.fullmatch(unit)]
    return pa.concat_tables([pq.ParquetFile(file).read(columns=columns) for file in files])


def _in_order(table: pa.Table, ids: Ids) -> pa.Table:
    """The rows of these sequences."""
    there = table["sequence_id"].to_numpy()
    order = np.argsort(there, kind="stable")
    return table.take(pa.array(order[np.searchsorted(there, ids, sorter=order)]))


def _of_each_kind(ids: Ids, kinds: npt.NDArray[np.object_], most: int | None, seed: int) -> Ids:
    if most is None:
        return ids
    chosen = [draw(ids[kinds == name], most, seed) for name in sorted(set(kinds.tolist()))]
    return np.sort(np.concatenate([ids[:0], *chosen]))


def _traits(store: TableStore, run: Run, results: pa.Table, sequences: pa.Table) -> Traits:
    counts = _in_order(store.read("frequencies", units=[run.sample]), results["sequence_id"].to_numpy())
    domains = sequences["domain"].fill_null("").to_numpy(zero_copy_only=False).astype(str)
    perplexity = results["prefix_logprob"].fill_null(0).to_numpy() / -max(1, run.protocol.prefix - 1)
    return Traits(np.unique(domains, return_inverse=True)[1], counts["sequence_count"].to_numpy(), perplexity)
