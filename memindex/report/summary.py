"""The report's first sentence: what was asked, and what came out, in words with the true numbers."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from memindex.report.numbers import percent, short, whole
from memindex.sql.queries import run_query


def summary(con: duckdb.DuckDBPyConnection) -> str:
    """One sentence about the uniform sample, then one about frequency and unseen text where there are any.

    Of a model's checkpoints it tells of the last one.
    """
    rows = [row for row in run_query(con, "rate_by_size").to_pylist() if row["last_checkpoint"]]
    sizes = sorted(rows, key=lambda row: row["non_embedding_parameters"] or 0)
    if not sizes:
        return "No model has been scored on this study's uniform sample yet; memindex study run does that."
    smallest, largest = sizes[0], sizes[-1]
    models = len({row["model_id"] for row in sizes})
    if models == 1:
        first = f"{_name(largest)} {_continued(largest)} word for word, {_interval(largest)}."
    else:
        first = (
            f"Of {models} models, the largest, {_name(largest)}, {_continued(largest)} word for word, "
            f"{_interval(largest)}; the smallest, {_name(smallest)}, {percent(smallest['rate'])}."
        )
    return f"{first}{_frequency(con, largest['run_label'])}"


def fits(rates: pa.Table) -> list[str]:
    """One sentence per fitted family, from the result of the query rate_by_size."""
    rows = {row["family"]: row for row in rates.to_pylist() if row["slope_per_tenfold"] is not None}
    return [
        f"{family}: {_points(row['slope_per_tenfold'])} points per tenfold size "
        f"(95\N{NO-BREAK SPACE}% interval {_range(row, 'slope')} with other documents, "
        f"{_range(row, 'slope_models')} with other models), "
        f"R² {'undefined' if row['r2'] is None else format(row['r2'], '.3f')}."
        for family, row in rows.items()
    ]


def _range(row: dict[str, Any], column: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return "undefined" if low is None else f"{_points(low)} to {_points(high)}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def _name(row: dict[str, Any]) -> str:
    if row["non_embedding_parameters"] is None:
        return str(row["run_label"])
    return f"{row['run_label']} ({short(row['non_embedding_parameters'])} parameters outside the embeddings)"


def _continued(row: dict[str, Any]) -> str:
    return f"continued {percent(row['rate'])} of {whole(row['sequences'])} uniformly drawn sequences"


def _interval(row: dict[str, Any]) -> str:
    return f"95\N{NO-BREAK SPACE}% interval {percent(row['rate_low'])} to {percent(row['rate_high'])}"


def _frequency(con: duckdb.DuckDBPyConnection, run_label: str) -> str:
    """How far frequency matters for one run: its rarest, its most frequent and its unseen sequences."""
    rows = [row for row in run_query(con, "rate_by_frequency").to_pylist() if row["run_label"] == run_label]
    # A bucket whose sequences stand in a few documents tells of those documents.
    seen = [
        row for row in rows if row["frequency_bucket"] is not None and row["sequences"] >= 20 and row["documents"] >= 10
    ]
    parts = []
    if len(seen) > 1:
        rare, often = seen[0], seen[-1]
        parts.append(
            f"{percent(often['rate'])} of the sequences that occur {often['frequency']} times "
            f"against {percent(rare['rate'])} of those that occur {_times(rare['frequency'])}"
        )
    parts += _floor(con, run_label)
    return f" {run_label} completed {', and '.join(parts)}." if parts else ""


def _floor(con: duckdb.DuckDBPyConnection, run_label: str) -> list[str]:
    """The rate on unseen text both ways: the suffix never occurs, and the sequence as a whole never occurs."""
    classes = [row for row in run_query(con, "unseen_floor").to_pylist() if row["run_label"] == run_label]
    never = [row for row in classes if row["held_out"] != "whole sequence occurs"]
    if not never:
        return []
    unseen, last = never[0], never[-1]
    rate, sequences = percent(last["rate_up_to_here"]), whole(last["sequences_up_to_here"])
    if not unseen["held_out"].startswith("unseen"):
        return [f"{rate} of {sequences} held-out sequences that as a whole never occur in the corpus"]
    alone = (
        f"{percent(unseen['rate'])} of {whole(unseen['sequences'])} held-out sequences whose suffix never occurs in "
        "the corpus"
    )
    return [alone if last is unseen else f"{alone} ({rate} of the {sequences} that as a whole never occur)"]


def _times(frequency: str) -> str:
    return "once" if frequency == "1" else f"{frequency} times"
