"""The one sample that a probe of a run takes: on made-up runs, against a count by pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_study import add_probes, make_study, probe_row

from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, run_query
from memindex.study.probe_config import PROBES
from memindex.study.probe_sample import TooFewError, choose_sample
from memindex.tables.store import TableStore

COMPARING = [name for name in PROBES if name not in {"compression", "head_importance"}]


def choose(probe: str, run: dict[str, tuple[int, int, int]], wanted: str | None = None, domains: int = 1) -> str:
    """The sample of a run with that many memorized, half-memorized and unmemorized sequences of each sample."""
    rows = [(name, outcome) for name, counts in run.items() for outcome in range(3) for _ in range(counts[outcome])]
    samples, outcomes = (np.array(values) for values in zip(*rows, strict=True))
    named = np.array([f"domain {n % domains}" for n in range(len(rows))], dtype=object)
    return choose_sample(probe, samples, outcomes, named, wanted, "a run")


@pytest.mark.parametrize("probe", COMPARING)
@pytest.mark.parametrize(
    ("run", "chosen"),
    [
        ({"bucket": (900, 900, 900), "uniform": (10, 10, 10)}, "uniform"),
        ({"bucket": (900, 900, 900), "uniform": (9, 900, 900)}, "bucket"),
        ({"bucket": (900, 900, 900), "uniform": (900, 9, 900)}, "bucket"),
        ({"bucket": (900, 900, 900), "uniform": (900, 900, 9)}, "bucket"),
        ({"bucket": (9, 900, 900), "domain": (10, 10, 10), "uniform": (9, 900, 900)}, "domain"),
        ({"bucket": (5, 900, 900), "domain": (9, 900, 900), "planted": (10, 10, 10)}, "planted"),
        # Enough nowhere: uniform if it has some of each, else the sample with most of the rarest.
        ({"bucket": (9, 9, 9), "uniform": (1, 900, 900)}, "uniform"),
        ({"bucket": (3, 9, 9), "domain": (4, 9, 9), "uniform": (0, 900, 900)}, "domain"),
        # Held-out sequences only where there are no others.
        ({"heldout": (900, 900, 900), "uniform": (1, 1, 1)}, "uniform"),
        ({"heldout": (900, 900, 900)}, "heldout"),
        # Nothing is half-memorized: two outcomes are compared.
        ({"bucket": (900, 0, 900), "uniform": (10, 0, 10)}, "uniform"),
    ],
)
def test_outcomes_are_compared_in_the_first_sample_with_enough(probe, run, chosen):
    assert choose(probe, run) == chosen


def test_memorized_sequences_alone_need_no_others():
    assert choose("compression", {"bucket": (900, 0, 0), "uniform": (10, 0, 5)}) == "uniform"
    assert choose("compression", {"bucket": (900, 0, 0), "uniform": (9, 0, 5)}) == "bucket"
    assert choose("compression", {"bucket": (9, 0, 0), "uniform": (1, 0, 5)}) == "uniform"
    assert choose("compression", {"bucket": (0, 0, 3), "uniform": (0, 0, 3)}) == "uniform"


def test_head_importance_takes_the_sample_that_reaches_most_domains():
    run = {"uniform": (60, 0, 60), "bucket": (90, 0, 10), "domain": (120, 0, 0)}
    assert choose("head_importance", run, domains=1) == "uniform"
    assert choose("head_importance", run, domains=3) == "uniform"  # 20 of each
    assert choose("head_importance", run, domains=4) == "bucket"
    assert choose("head_importance", run, domains=6) == "domain"
    # No domain has enough: as for compression.
    assert choose("head_importance", run, domains=60) == "uniform"


@pytest.mark.parametrize("probe", [*COMPARING, "compression", "head_importance"])
def test_a_chosen_sample_is_taken_or_refused_in_a_line(probe):
    run = {"bucket": (900, 900, 900), "uniform": (5, 0, 3)}
    assert choose(probe, run, "uniform") == "uniform"
    with pytest.raises(TooFewError, match=r"^'a run' has no sequences of the sample domain; it has uniform, bucket$"):
        choose(probe, run, "domain")
    with pytest.raises(TooFewError, match="'a run' has no sequences of the sample uniform; it has none at all"):
        choose_sample(probe, *([np.array([], str)] * 2), np.array([], object), None, "a run")


@pytest.mark.parametrize("probe", COMPARING)
@pytest.mark.parametrize("counts", [(0, 5, 5), (5, 5, 0), (0, 0, 5)])
def test_a_sample_without_an_outcome_is_refused_in_a_line(probe, counts):
    words = "{} memorized, {} half-memorized, {} unmemorized sequences: choose another one".format(*counts)
    for wanted in ("uniform", None):
        with pytest.raises(TooFewError, match=f"^{probe} compares .* sample uniform of 'a run' has {words}.*") as error:
            choose(probe, {"uniform": counts}, wanted)
        assert "\n" not in str(error.value)


COUNTS = st.tuples(*[st.sampled_from([0, 1, 9, 10, 30])] * 3)


@given(run=st.dictionaries(st.sampled_from(["uniform", "bucket", "domain", "planted"]), COUNTS, min_size=1))
def test_the_choice_equals_pandas(run):
    counts = pd.DataFrame(run, index=["memorized", "half-memorized", "unmemorized"]).T
    counts = counts[counts.sum(axis=1) > 0]
    if counts.empty:
        return
    compared = counts if counts["half-memorized"].any() else counts.drop(columns="half-memorized")
    rarest = compared.min(axis=1)
    rarest = rarest.reindex([name for name in ("uniform", "bucket", "domain", "planted") if name in rarest])
    enough = rarest[rarest >= 10]
    wanted = enough.index[0] if len(enough) else "uniform" if rarest.get("uniform", 0) else rarest.idxmax()
    if counts.loc[wanted, "memorized"] and counts.loc[wanted, "unmemorized"]:
        assert choose("noise", run) == wanted
    else:
        with pytest.raises(TooFewError):
            choose("noise", run)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("probed"), rows=120)
    add_probes(study)
    return study


OF_PROBES = [name for name in list_queries() if name.split("_")[0] in ("noise", "layer", "head")]
OF_PROBES += ["compression", "perturbation"]


@pytest.mark.parametrize("sample", ["bucket", None])
def test_every_query_of_probes_shows_the_sample(probed: Path, sample: str | None):
    """NULL where an older memindex took several."""
    store = TableStore(probed / "tables")
    for probe in PROBES:
        store.write("probes", f"small-run {probe}", probe_row("small-run", probe, 30) | {"sample": [sample]})
    con = connect(probed)
    given: dict[str, dict[str, float]] = {"noise_similarity": {"alpha": 0.28}}
    given |= {name: {"least": 1} for name in ("head_overlap", "head_sharing")}
    for name in OF_PROBES:
        answer = run_query(con, name, **given.get(name, {}))
        shown = [column for column in answer.column_names if column.startswith("sample")]
        assert shown == (["sample_a", "sample_b"] if name == "head_signature" else ["sample"])
        # Of several samples, compression answers for one.
        wanted = "uniform" if name == "compression" else sample
        assert answer.num_rows, name
        assert {value for column in shown for value in answer[column].to_pylist()} == {wanted}, name
