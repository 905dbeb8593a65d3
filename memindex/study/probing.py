"""Probes on a study's runs: which sequences, in which units, and the rows they leave.

A probe looks at a finished run of the main protocol (greedy, with the whole prefix and suffix, no control). It is cut
into units as scoring is, with files of their own in the table of the probe's name; the row in `probes` is written when
no unit is missing any more. A probe whose settings changed, or whose run was scored anew, is done again and takes the
place of what was there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from memindex.study.config import StudyConfig
from memindex.study.planning import Run, Units
from memindex.study.probe_config import OF_MEMORIZED, ProbeConfig
from memindex.study.probe_selection import continuations_of, select
from memindex.study.probe_tables import Task, measure
from memindex.study.protocol import GREEDY, OTHER_CORPUS
from memindex.study.units import Batch, all_values, how_made, tokens_of
from memindex.tables.store import TableStore

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel

#: Sequences per unit: a probe reads each many times over.
UNIT = 1024


@dataclass(frozen=True)
class ProbeUnits(Units):
    """The units of one probe of one run.

    Attributes:
        probe: Its name, and that of its table.
        settings: What decides about its results.
        digest: Tells these sequences from another choice.
        sample: The sample that the sequences are from.
        there: Sequences of each outcome in that sample, as in `memindex.study.probe_selection.Selection`.
    """

    probe: str
    settings: ProbeConfig
    digest: str
    sample: str
    there: tuple[int, ...]

    @property
    def table(self) -> str:
        """The table that its units go to."""
        return self.probe

    @property
    def title(self) -> str:
        """What its progress is called."""
        return f"{self.probe} {self.run.run_id}"

    @property
    def asked(self) -> str:
        """Tells what is measured from other sequences, settings or states of the model; 8 hex digits."""
        return _digest([self.run.fingerprint, self.digest, self.settings.settings(self.probe)])[:8]

    @property
    def key(self) -> str:
        """Tells these units from those of other measurements, another device or another size; 8 hex digits."""
        return _digest([super().key, self.asked])[:8]

    @property
    def row(self) -> str:
        """The name of its row in the table `probes`."""
        return f"{self.run.run_id} {self.probe}"

    def done(self, store: TableStore) -> bool:
        """Whether it is finished, with these settings."""
        return store.has("probes", self.row) and store.facts("probes", self.row).get("asked") == self.asked

    def forget(self, store: TableStore) -> None:
        """Remove what other settings left; the row first, so that no part of it seems to be a whole."""
        if not self.done(store):
            store.file("probes", self.row).unlink(missing_ok=True)
        super().forget(store)


@dataclass(frozen=True)
class ProbedUnit:
    """A unit that is measured and not yet written; `facts` say how it was made."""

    units: ProbeUnits
    number: int
    columns: dict[str, Any]
    facts: dict[str, Any]


def probed_runs(config: StudyConfig, runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that probes look at: the main protocol's."""
    whole = (config.sequences.prefix, config.sequences.suffix)
    return [
        run
        for run in runs
        if run.protocol.control in (None, OTHER_CORPUS)
        and run.protocol.decoding == GREEDY
        and (run.protocol.prefix, run.protocol.suffix) == whole
    ]


def plan_probe(
    store: TableStore,
    probe: str,
    runs: Sequence[Run],
    sequences: pa.Table,
    settings: ProbeConfig,
    unit_size: int = UNIT,
) -> list[ProbeUnits]:
    """The units of a probe on finished runs, for the CPU.

    Raises:
        TooFewError: A run without sequences to compare.
    """
    planned = []
    for run in runs:
        chosen = select(store, probe, run, sequences, settings)
        ids = np.stack([chosen.ids, chosen.outcome, chosen.drawn, chosen.pair])
        digest = _digest([chosen.sample, ids.tolist()])
        facts = (probe, settings, digest, chosen.sample, chosen.there)
        planned.append(ProbeUnits(run, "cpu", len(chosen.ids), unit_size, *facts))
    return planned


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


class Prober:
    """Measures the units of one probe of one run.

    Args:
        store: The study's tables.
        units: The units.
        sequences: The study's sequences.
    """

    def __init__(self, store: TableStore, units: ProbeUnits, sequences: pa.Table) -> None:
        self.units = units
        self._selection = select(store, units.probe, units.run, sequences, units.settings)
        tokens = tokens_of(units.run, sequences)
        order = np.argsort(tokens.sequence_ids, kind="stable")
        rows = order[np.searchsorted(tokens.sequence_ids, self._selection.ids, sorter=order)]
        suffixes = tokens.suffixes[rows]
        if units.probe not in OF_MEMORIZED:
            suffixes = continuations_of(store, units.run, self._selection.ids)
        self._tokens = Batch(tokens.sequence_ids[rows], tokens.prefixes[rows], suffixes)
        self._text = tokens.prefixes

    def probe(
        self,
        loaded: LoadedModel,
        number: int,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbedUnit:
        """Measure one unit.

        Args:
            loaded: The model.
            number: Which unit.
            batch_size: Rows per forward pass; None takes as many as memory holds.
            progress: Called with (sequences done, sequences in the unit).

        Raises:
            MemindexError: As the probe's own function.
        """
        part = self.units.part(number)
        batch = Batch(self._tokens.sequence_ids[part], self._tokens.prefixes[part], self._tokens.suffixes[part])
        start = time.perf_counter()
        task = Task(loaded, batch, self._selection.part(part), self.units.settings, self._text, batch_size, progress)
        columns, size = measure(self.units.probe, task)
        facts = {"seconds": time.perf_counter() - start, "batch_size": size, **how_made(loaded)}
        return ProbedUnit(self.units, number, columns, facts)


def write_probed(store: TableStore, unit: ProbedUnit) -> None:
    """Write a measured unit, and the probe's row when no unit is missing any more."""
    rows = len(next(iter(unit.columns.values())))
    columns = {"run_id": pa.array([unit.units.run.run_id] * rows, type=pa.string()), **unit.columns}
    store.write(unit.units.table, unit.units.names()[unit.number], columns, unit.facts)
    finish_probe(store, unit.units)


def finish_probe(store: TableStore, units: ProbeUnits) -> bool:
    """Write the row of a probe whose units are all there; whether the probe is finished.

    As with runs (`memindex.study.units.finish_run`), the first row says whose units count where several processes do
    one probe in units of other sizes, on other devices or with other settings; those of the others go.
    """
    if not store.has("probes", units.row):
        if units.missing(store):
            return False
        row = _probe_row(units, [store.facts(units.table, name) for name in units.names()])
        made = {"asked": units.asked, "units": units.key}
        store.write("probes", units.row, {name: [value] for name, value in row.items()}, made)
    if store.facts("probes", units.row).get("units", units.key) == units.key:
        units.forget(store)
    else:
        for name in units.names():
            store.file(units.table, name).unlink(missing_ok=True)
    return True


def _probe_row(units: ProbeUnits, facts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run_id": units.run.run_id,
        "probe": units.probe,
        "sample": units.sample,
        "sequences": units.rows,
        "settings": json.dumps(units.settings.settings(units.probe)),
        **{name: all_values(facts, name) for name in ("dtype", "device", "attention")},
        "batch_size": max((made["batch_size"] for made in facts), default=0),
        "seconds": float(sum(made["seconds"] for made in facts)),
        "versions": json.dumps(facts[-1]["versions"] if facts else {}),
        "created": datetime.now(UTC),
    }
