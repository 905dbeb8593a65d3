"""The sample that a probe takes the sequences of a run from.

A sample says how its sequences were drawn: `uniform` as they are in the corpus, `bucket` as many of each frequency,
`domain` as many of each frequency in each domain. A mean over several samples together is a mean of no population, so
a probe of a run takes one.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from memindex.errors import MemindexError
from memindex.study.probe_config import HEAD_IMPORTANCE, HELDOUT, OF_MEMORIZED, SAMPLES, UNIFORM

#: What a run can make of a sequence: score 1, between, and 0.
OUTCOMES = ("memorized", "half-memorized", "unmemorized")

#: Sequences of each outcome that a sample must have to be taken before the next one.
LEAST = 10

#: Memorized sequences of a domain with which head importance counts it: two halves of LEAST.
LEAST_OF_DOMAIN = 2 * LEAST


class TooFewError(MemindexError):
    """A run whose sample has no sequences of an outcome that the probe compares."""


def choose_sample(
    probe: str,
    samples: npt.NDArray[np.str_],
    outcome: npt.NDArray[np.int_],
    domains: npt.NDArray[np.object_],
    wanted: str | None,
    run_id: str,
) -> str:
    """The sample that a probe of a run takes.

    It is the first in the order of SAMPLES with LEAST sequences of each outcome that the probe compares: memorized and
    unmemorized ones, and half-memorized ones where the run has any. For compression LEAST memorized ones are enough.
    Head importance compares domains: it takes the first sample with LEAST_OF_DOMAIN memorized sequences in as many
    domains as any sample has. Where no sample has enough, it is `uniform` if that has some of each, else the sample
    with most of the rarest outcome. Held-out sequences are taken only where they are wanted, or where there are no
    others.

    Args:
        probe: The probe's name.
        samples: The sample of each sequence of the run, (rows,).
        outcome: A place in OUTCOMES for each, (rows,).
        domains: The domain of each, (rows,).
        wanted: The sample that was chosen; None chooses here.
        run_id: The run, for errors.

    Raises:
        TooFewError: The wanted sample has no sequences, or the sample has none of an outcome that the probe compares.
    """
    present = [name for name in SAMPLES if (samples == name).any()]
    if not present or (wanted is not None and wanted not in present):
        there = ", ".join(present) or "none at all"
        raise TooFewError(f"{run_id!r} has no sequences of the sample {wanted or UNIFORM}; it has {there}")
    tried = [name for name in present if name != HELDOUT] or present
    needed = _needed(probe, outcome[np.isin(samples, tried)])
    rarest = {name: min(int(((samples == name) & (outcome == which)).sum()) for which in needed) for name in present}
    chosen = wanted or (_with_most_domains(tried, samples, outcome, domains) if probe == HEAD_IMPORTANCE else None)
    if chosen is None:
        enough = [name for name in tried if rarest[name] >= LEAST]
        some = [name for name in tried if name == UNIFORM and rarest[name]]
        chosen = (enough or some or [max(tried, key=rarest.__getitem__)])[0]
    if probe not in OF_MEMORIZED:
        counts = [int(((samples == chosen) & (outcome == which)).sum()) for which in range(len(OUTCOMES))]
        if not counts[0] or not counts[2]:
            found = ", ".join(f"{count} {name}" for count, name in zip(counts, OUTCOMES, strict=True))
            raise TooFewError(
                f"{probe} compares outcomes, and the sample {chosen} of {run_id!r} has {found} sequences: choose "
                "another one ([probes] sample, or --sample), sample more sequences, or take a model that memorized more"
            )
    return chosen


def _needed(probe: str, outcome: npt.NDArray[np.int_]) -> list[int]:
    """The outcomes that a probe compares, as places in OUTCOMES."""
    if probe in OF_MEMORIZED:
        return [0]
    return [0, 1, 2] if (outcome == 1).any() else [0, 2]


def _with_most_domains(
    tried: list[str],
    samples: npt.NDArray[np.str_],
    outcome: npt.NDArray[np.int_],
    domains: npt.NDArray[np.object_],
) -> str | None:
    """The first sample with LEAST_OF_DOMAIN memorized sequences in the most domains; None where no domain has them."""
    reached = {}
    for name in tried:
        counts = Counter(domains[(samples == name) & (outcome == 0)].tolist())
        reached[name] = sum(count >= LEAST_OF_DOMAIN for count in counts.values())
    best = max(reached, key=reached.__getitem__)
    return best if reached[best] else None
