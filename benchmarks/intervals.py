"""Coverage of the 95 % intervals of rates: by document (memindex), percentiles alone, and Wilson's over sequences.

    python benchmarks/intervals.py [--studies 2000]

A made-up corpus has documents of very different lengths, each with a memorization rate of its own (a beta
distribution); a study draws documents, and sequences in proportion to their lengths. The true rate is known, so the
share of intervals that hold it can be counted. A good 95 % interval holds it in 95 of 100 studies.
"""

from __future__ import annotations

import argparse

import numpy as np

from memindex.tables.bootstrap import Interval, mean_interval, rate_interval, wilson

#: name, documents, mean number of sequences of one document, true rate, spread a + b of the documents' rates
CASES = (
    ("one sequence per document", 2000, 1.0, 0.05, 1.0),
    ("a few per document", 500, 4.0, 0.05, 1.0),
    ("many per document", 200, 20.0, 0.05, 1.0),
    ("many, documents alike", 200, 20.0, 0.05, 50.0),
    ("many, high rate", 200, 20.0, 0.5, 1.0),
    ("few documents", 20, 50.0, 0.2, 1.0),
    ("rare", 1000, 2.0, 0.002, 1.0),
    ("rare, in whole documents", 1000, 10.0, 0.002, 0.05),
)


def study(random, documents, mean, rate, spread):
    """Values and documents of one study's sequences."""
    lengths = random.geometric(1 / mean, documents)
    rates = random.beta(rate * spread, (1 - rate) * spread, documents)
    document = np.repeat(np.arange(documents), lengths)
    return (random.random(len(document)) < rates[document]).astype(np.float64), document


def main() -> None:
    """Print the coverage of both intervals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    print(f"{'':28}" + "".join(f"{name:>14} {'width':>7}" for name in ("by document", "percentiles", "by sequence")))
    for name, *settings in CASES:
        random = np.random.default_rng(0)
        rate = settings[2]
        held, widths = np.zeros(3), np.zeros(3)
        for _ in range(studies):
            values, document = study(random, *settings)
            rate_only = Interval(values.mean(), values.mean())
            percentiles = mean_interval(values, document) or rate_only
            ends = (rate_interval(values, document), percentiles, wilson(values.mean(), len(values)))
            held += [low <= rate <= high for low, high in ends]
            widths += [high - low for low, high in ends]
        columns = zip(held / studies, widths / studies, strict=True)
        print(f"{name:28}" + "".join(f"{coverage:14.1%} {width:7.4f}" for coverage, width in columns), flush=True)


if __name__ == "__main__":
    main()
