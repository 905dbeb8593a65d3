"""The sequences that a probe looks at, chosen from what a run made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.ragged import from_arrow
from memindex.study.planning import Run
from memindex.study.probe_config import COMPRESSION, OF_MEMORIZED, ProbeConfig
from memindex.study.probe_matching import Traits, match
from memindex.study.probe_sample import OUTCOMES, choose_sample
from memindex.tables.store import TableStore

#: Keeps what is drawn here apart from what else is drawn with the same seed.
_DRAW = 0x70726F62

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """The sequences of a run that a probe measures, in the order of their ids; all of shape (rows,).

    Attributes:
        ids: int64, their ids.
        outcome: int8, what the run made of them, a place in OUTCOMES.
        drawn: bool, whether they were drawn at random from their outcome.
        pair: int64, the memorized sequence that they were matched to, its own id for that one; -1 where there is none.
        sample: The sample that all of them are from.
        there: Sequences of each outcome in that sample, in the order of OUTCOMES; of memorized ones alone where the
            probe takes no others.
    """

    ids: Ids
    outcome: npt.NDArray[np.int8]
    drawn: npt.NDArray[np.bool_]
    pair: Ids
    sample: str
    there: tuple[int, ...]

    def part(self, rows: slice) -> Selection:
        """Some of the rows."""
        return replace(
            self, ids=self.ids[rows], outcome=self.outcome[rows], drawn=self.drawn[rows], pair=self.pair[rows]
        )


def select(store: TableStore, probe: str, run: Run, sequences: pa.Table, settings: ProbeConfig) -> Selection:
    """Choose a probe's sequences; equal tables and settings give the same ones.

    All are from one sample (`memindex.study.probe_sample`). Compression and head importance take memorized sequences.
    Other probes compare outcomes: sequences drawn at random from each, and trios of a memorized, a half-memorized and
    an unmemorized one that are alike (`memindex.study.probe_matching`).

    Args:
        store: The study's tables.
        probe: The probe's name.
        run: A finished run.
        sequences: The study's sequences.
        settings: Which sample, how many, and the seed.

    Raises:
        TooFewError: The sample has no sequences, or none of an outcome that the probe compares.
    """
    results = _results(store, run, ["sequence_id", "score", "memorized", "prefix_logprob"])
    results = results.sort_by("sequence_id").combine_chunks()
    ids = results["sequence_id"].to_numpy()
    own = _in_order(sequences, ids)
    outcome = np.where(results["memorized"].to_numpy(), 0, np.where(results["score"].to_numpy() > 0, 1, 2))
    samples = own["sample"].to_numpy(zero_copy_only=False).astype(str)
    domains = own["domain"].fill_null("").to_numpy(zero_copy_only=False)
    most = settings.settings(probe)["sequences"]
    sample = choose_sample(probe, samples, outcome, domains, settings.sample, run.run_id)
    within = samples == sample
    groups = [ids[within & (outcome == which)] for which in range(len(OUTCOMES))]
    there = tuple(map(len, groups))
    if probe in OF_MEMORIZED:
        kinds = np.full(len(ids), "") if probe == COMPRESSION else domains
        some = within & (outcome == 0)
        chosen = _of_each_kind(ids[some], kinds[some], most, settings.seed)
        every = np.ones(len(chosen), bool)
        return Selection(chosen, np.zeros(len(chosen), np.int8), every, np.full(len(chosen), -1), sample, there[:1])
    drawn = np.isin(ids, np.concatenate([draw(group, most, settings.seed) for group in groups]))
    order = draw(groups[0], len(groups[0]), settings.seed)
    pair = match(_traits(store, run, results, own), outcome, within, np.searchsorted(ids, order), most)
    rows = np.flatnonzero(drawn | (pair >= 0))
    pairs = np.where(pair >= 0, ids[pair], -1)[rows]
    return Selection(ids[rows], outcome[rows].astype(np.int8), drawn[rows], pairs, sample, there)


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
