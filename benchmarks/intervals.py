"""Coverage of the 95 % intervals: how many of many simulated studies give an interval that holds the true value.

    python benchmarks/intervals.py [--studies 1000] [--study demo/study] [--only rates]

A simulated corpus has documents of unequal length (one sequence each; geometric; log-normal, in which a few documents
hold most sequences), each with a memorization rate or mean of its own; a simulated study draws documents. With --study,
the documents of that study are the corpus: their true rates are those of all of them together, and a simulated study
draws as many documents as the group has, with replacement. A good 95 % interval holds the true value in 95 of 100
studies. `effective` is the median effective number of documents; below 8 an answer carries a note.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memindex.sql import intervals
from memindex.sql.intervals import ENOUGH_DOCUMENTS, wilson

DOCUMENTS = (4, 8, 20, 60, 200)


class Case(NamedTuple):
    """A kind of study: what it is called, one draw of it as (estimate, interval), and the true value."""

    name: str
    draw: Callable[[np.random.Generator], tuple[float, intervals.Interval | None]]
    truth: float


def sizes(random, kind, documents):
    """Sequences of each document."""
    name, _, parameter = kind.partition(" ")
    if name == "one":
        return np.ones(documents)
    if name == "geometric":
        return random.geometric(1 / float(parameter), documents).astype(np.float64)
    return np.ceil(random.lognormal(1.5, float(parameter), documents))


SIZES = ("one", "geometric 4", "geometric 20", "log-normal 1", "log-normal 1.5", "log-normal 2")

#: The rate of all documents, and the spread a + b of the beta distribution of theirs.
RATES = ((0.5, 1), (0.2, 1), (0.05, 1), (0.05, 20), (0.01, 0.3))


def rates() -> Iterator[Case]:
    """Rates whose documents' rates are beta-distributed."""
    for kind in SIZES:
        for documents in DOCUMENTS:
            for rate, spread in RATES if kind != "one" else RATES[:3]:

                def draw(random, kind=kind, documents=documents, rate=rate, spread=spread):
                    n = sizes(random, kind, documents)
                    k = random.binomial(n.astype(int), random.beta(rate * spread, (1 - rate) * spread, documents))
                    return k.sum() / n.sum(), intervals.ratio_interval(k.astype(np.float64), n)

                yield Case(f"rate {rate:g} ({spread:g}), {documents} documents, {kind}", draw, rate)


#: Means of documents: how they are drawn, and their mean.
MEANS = {
    "normal": (lambda random, n: random.normal(size=len(n)), 0.0),
    "exponential": (lambda random, n: random.exponential(size=len(n)), 1.0),
    "log-normal": (lambda random, n: random.lognormal(size=len(n)), float(np.exp(0.5))),
    "one in five": (lambda random, n: (random.random(len(n)) < 0.2).astype(np.float64), 0.2),
}


def means() -> Iterator[Case]:
    """Means of sequences whose documents differ by what MEANS says."""
    for kind in SIZES:
        for documents in DOCUMENTS:
            for name, (of_documents, truth) in MEANS.items():

                def draw(random, kind=kind, documents=documents, of_documents=of_documents):
                    n = sizes(random, kind, documents)
                    k = n * of_documents(random, n) + random.normal(size=documents) * np.sqrt(n)
                    return k.sum() / n.sum(), intervals.quotient_interval(k, n)

                yield Case(f"mean, {name}, {documents} documents, {kind}", draw, truth)


def medians() -> Iterator[Case]:
    """Medians of sequences around means that documents draw from a normal distribution."""
    for kind in SIZES:
        for documents in DOCUMENTS:

            def draw(random, kind=kind, documents=documents):
                n = sizes(random, kind, documents).astype(int)
                document = np.repeat(np.arange(documents), n)
                values = np.rint(4 * (random.normal(size=documents)[document] + random.normal(size=len(document)))) / 4
                return float(np.median(values)), intervals.median_interval(values, document)

            yield Case(f"median, {documents} documents, {kind}", draw, 0.0)


def differences() -> Iterator[Case]:
    """Differences of the rates of two models on the same sequences: the second keeps 60 % and adds 5 %."""
    for kind in SIZES:
        for documents in DOCUMENTS:

            def draw(random, kind=kind, documents=documents):
                n = sizes(random, kind, documents)
                first = random.binomial(n.astype(int), random.beta(0.2, 0.8, documents))
                second = random.binomial(first, 0.6) + random.binomial(n.astype(int) - first, 0.05)
                k = (second - first).astype(np.float64)
                return k.sum() / n.sum(), intervals.quotient_interval(k, n)

            yield Case(f"difference, {documents} documents, {kind}", draw, 0.2 * 0.6 + 0.8 * 0.05 - 0.2)


def doses() -> Iterator[Case]:
    """The rate of documents less that of planted texts halfway between two doses, as queries/rate_by_repetition.sql."""
    for kind in SIZES:
        for documents in DOCUMENTS:

            def draw(random, kind=kind, documents=documents):
                n = sizes(random, kind, documents)
                k = random.binomial(n.astype(int), random.beta(0.3, 0.7, documents)).astype(np.float64)
                own, other = k.sum() / n.sum(), 0.0
                ends = intervals.ratio_interval(k, n)
                above = below = 0.0
                for rate in (0.05, 0.25):
                    texts = (random.random(40) < rate).astype(np.float64)
                    of_dose = intervals.ratio_interval(texts, np.ones(40))
                    other += texts.mean() / 2
                    below += ((texts.mean() - of_dose.low) / 2) ** 2
                    above += ((of_dose.high - texts.mean()) / 2) ** 2
                if ends is None or ends.low is None:
                    return own - other, ends
                low, high = ((own - ends.low) ** 2 + above) ** 0.5, ((ends.high - own) ** 2 + below) ** 0.5
                return own - other, intervals.Interval(own - other - low, own - other + high, ends.documents)

            yield Case(f"natural less planted, {documents} documents, {kind}", draw, 0.3 - 0.15)


def half_doses() -> Iterator[Case]:
    """The copies at which half of the planted texts are memorized, as queries/half_dose.sql, as log2."""
    copies = np.arange(9.0)
    for texts in (10, 20, 40, 120):
        for middle, steepness in ((4.3, 1.0), (6.1, 0.6), (2.0, 2.0)):
            rates = 1 / (1 + np.exp(-steepness * (copies - middle)))

            def draw(random, rates=rates, texts=texts):
                known = random.binomial(texts, rates)
                ends = [intervals.ratio_interval((np.arange(texts) < k).astype(float), np.ones(texts)) for k in known]
                curves = (known / texts, np.array([e.high for e in ends]), np.array([e.low for e in ends]))
                middle, low, high = (crossing(copies, y) for y in curves)
                if middle is None or low is None or high is None:
                    return 0.0, intervals.Interval(None, None, float(texts))
                return middle, intervals.Interval(low, high, float(texts))

            truth = crossing(copies, rates)
            assert truth is not None
            yield Case(f"half dose {middle:g}, slope {steepness:g}, {texts} texts", draw, truth)


def crossing(x, y):
    """Where y first reaches one half, interpolated; None where it is there from the start, or never."""
    at = int(np.argmax(y >= 0.5))
    if not at or y[at] < 0.5:
        return None
    return x[at - 1] + (0.5 - y[at - 1]) / (y[at] - y[at - 1]) * (x[at] - x[at - 1])


def slopes() -> Iterator[Case]:
    """Slopes of four models' rates, a document's rate being the same share of its own liking at each size."""
    x = np.array([0.0, 1.0, 1.5, 3.0])
    for kind in SIZES:
        for documents in DOCUMENTS:

            def draw(random, kind=kind, documents=documents):
                n = sizes(random, kind, documents).astype(int)
                document = np.repeat(np.arange(documents), n)
                liking = random.beta(0.5, 1, documents)[document]
                marks = [(random.random(len(document)) < liking * (0.3 + 0.2 * at)).astype(np.float64) for at in x]
                each = np.ones(len(document))
                ends = intervals.slope_interval(
                    np.concatenate([each * at for at in x]),
                    np.concatenate([each * run for run in range(4)]).astype(int),
                    np.concatenate(marks),
                    np.tile(document, 4),
                )
                return float(np.polyfit(x, [m.mean() for m in marks], 1)[0]), ends

            yield Case(f"slope, {documents} documents, {kind}", draw, 0.2 / 3)


def enrichments() -> Iterator[Case]:
    """The enrichment of a domain that a quarter of the documents are of, and whose rate is twice that of the others."""
    for kind in SIZES:
        for documents in DOCUMENTS:

            def draw(random, kind=kind, documents=documents):
                n = sizes(random, kind, 4 * documents)
                here = np.arange(4 * documents) < documents
                k = random.binomial(n.astype(int), random.beta(0.2 + 0.2 * here, 0.8 - 0.2 * here)).astype(np.float64)
                ends = intervals.enrichment_interval(k * here, k, n * here, n, np.ones(len(n)))
                return (k[here].sum() / k.sum()) / (n[here].sum() / n.sum()), ends

            yield Case(f"enrichment, {documents} of {4 * documents} documents, {kind}", draw, 0.4 / 0.25)


def of_study(study: Path) -> Iterator[Case]:
    """The documents of a study, as a population of their own: groups of each query that has intervals."""
    from memindex.sql.connection import connect

    con = connect(study)
    groups = {
        "uniform": "sample = 'uniform'",
        "bucket": "sample = 'bucket'",
        "occurs 16-31 times": "sample = 'bucket' AND frequency_bucket = 4",
        "occurs 64-127 times": "sample = 'bucket' AND frequency_bucket = 6",
        "held-out": "sample = 'heldout'",
    }
    for name, where in groups.items():
        rows = con.sql(
            f"SELECT run_label, cluster, count(*)::DOUBLE AS n, sum(memorized::INT)::DOUBLE AS k FROM memorization"
            f" WHERE {where} GROUP BY ALL ORDER BY ALL"
        ).to_arrow_table()
        yield from _groups(rows, f"rate, {name}", intervals.ratio_interval)
    for name, where in (("memorized", "memorized"), ("not memorized", "NOT memorized")):
        rows = con.sql(
            f"SELECT run_label, cluster, count(*)::DOUBLE AS n, sum(log2(sequence_count))::DOUBLE AS k"
            f" FROM memorization WHERE sample = 'uniform' AND sequence_count > 0 AND {where} GROUP BY ALL ORDER BY ALL"
        ).to_arrow_table()
        yield from _groups(rows, f"mean log2 count, {name}", intervals.quotient_interval)
    for outcome in ("memorized", "half-memorized", "unmemorized"):
        rows = con.sql(
            f"""SELECT run_label, cluster, count(*)::DOUBLE AS n, sum(last)::DOUBLE AS k
                FROM (SELECT run_id, sequence_id, avg(similarity[-1]) AS last FROM noise
                      WHERE outcome = '{outcome}' AND alpha = 0.5 GROUP BY ALL)
                JOIN memorization USING (run_id, sequence_id) GROUP BY ALL ORDER BY ALL"""
        ).to_arrow_table()
        yield from _groups(rows, f"mean similarity under noise, {outcome}", intervals.quotient_interval)


def _groups(rows, name, interval) -> Iterator[Case]:
    label, n, k = (rows.column(c).to_numpy(zero_copy_only=False) for c in ("run_label", "n", "k"))
    for run in np.unique(label):
        sequences, sums = n[label == run], k[label == run]
        if len(sequences) < 2 or np.ptp(sums / sequences) == 0:
            continue

        def draw(random, n=sequences, k=sums):
            chosen = random.integers(0, len(n), len(n))
            return k[chosen].sum() / n[chosen].sum(), interval(k[chosen], n[chosen])

        yield Case(f"{name}, {len(sequences)} documents, {run}", draw, float(sums.sum() / sequences.sum()))


def by_sequence(case_rate: float, sequences: float) -> tuple[float, float]:
    """Wilson's interval as if no two sequences came from one document."""
    return wilson(case_rate, sequences, 1.959963984540054)


KINDS = {
    "rates": rates,
    "means": means,
    "medians": medians,
    "differences": differences,
    "slopes": slopes,
    "enrichments": enrichments,
    "doses": doses,
    "half doses": half_doses,
}


def measure(case: Case, studies: int) -> tuple[float, float, float, float]:
    """Share of intervals that hold the truth, their median width, effective documents, share of studies without one."""
    random = np.random.default_rng(7)
    held, widths, effective, none = 0, [], [], 0
    for _ in range(studies):
        _, ends = case.draw(random)
        if ends is None or ends.low is None or ends.high is None:
            none += 1
            continue
        held += ends.low - 1e-12 <= case.truth <= ends.high + 1e-12
        widths.append(ends.high - ends.low)
        effective.append(ends.documents)
    answered = max(1, studies - none)
    return held / answered, float(np.median(widths or [0])), float(np.median(effective or [0])), none / studies


def main() -> None:
    """Print the coverage of every case, and the range of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies per case")
    parser.add_argument("--study", type=Path, help="take the documents of this study as a corpus too")
    parser.add_argument("--only", choices=KINDS, action="append", help="kinds of intervals (default: all)")
    parser.add_argument("--brief", action="store_true", help="only the range of each kind")
    arguments = parser.parse_args()
    kinds = {name: make() for name, make in KINDS.items() if not arguments.only or name in arguments.only}
    if arguments.study:
        kinds["documents of the study"] = of_study(arguments.study)
    summary = []
    print(f"{'':66} coverage     width  effective  no interval")
    for kind, cases in kinds.items():
        found: dict[str, list[float]] = {}
        for case in cases:
            coverage, width, effective, none = measure(case, arguments.studies)
            group = "8 or more effective documents" if effective >= ENOUGH_DOCUMENTS else "fewer (with a note)"
            if none < 0.5:
                found.setdefault(group, []).append(coverage)
            if not arguments.brief:
                print(f"{case.name:66} {coverage:8.1%} {width:9.4f} {effective:10.1f} {none:12.1%}", flush=True)
        for group, values in sorted(found.items()):
            spread = f"{min(values):.1%} to {max(values):.1%}, median {np.median(values):.1%}"
            summary.append(f"{kind}, {group}: {spread} ({sum(v < 0.93 for v in values)} of {len(values)} below 93 %)")
    print("\n".join(["", *summary]))


if __name__ == "__main__":
    main()
