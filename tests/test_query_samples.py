"""Which samples each query reads: never several that were drawn in different ways as if they were one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from synthetic_study import MODELS, make_study

from memindex.errors import QueryError
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, load_query, run_query
from memindex.study.probe_config import PROBES
from memindex.tables.store import TableStore

TOKENS = 1_000_000

#: Drawn from the same texts in different ways: their pool describes nothing.
NATURAL = {"uniform", "bucket", "domain"}

#: What queries read that have no parameter `sample`.
READS = {
    "corpus_by_frequency": set(),
    "frequency_in_domains": {"domain"},
    "half_dose": {"planted"},
    "rate_by_copies": {"planted"},
    "rate_by_exposures": {"planted"},
    "rate_by_frequency": {"bucket", "heldout"},
    "rate_by_passage": {"planted"},
    "rate_by_recency": {"planted"},
    "rate_by_repetition": {"bucket", "planted"},
    "score_histogram": {"uniform", "heldout", "planted"},
    "unseen_floor": {"heldout"},
}

#: What queries with a parameter `sample` read besides it.
BESIDE = {"controls": {"heldout"}, "domain_shares": {"planted"}}

OF_PROBES = {name for name in list_queries() if any(table in load_query(name).sql for table in PROBES)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("samples"), rows=900, models=(*MODELS[:2], ("again", *MODELS[1][1:])))
    store = TableStore(study / "tables")
    rows = store.read("sequences").to_pydict()
    # A fifth each: uniform, bucket, domain, planted, heldout.
    rows["sample"] = [
        sample if sample == "heldout" else ("uniform", "bucket", "domain", "planted")[number % 4]
        for number, sample in enumerate(rows["sample"])
    ]
    planted = [sample == "planted" for sample in rows["sample"]]
    rows["document_tokens"] = [(64, 256)[n % 8 == 3] if is_so else 200 for n, is_so in enumerate(planted)]
    rows["document_offset"] = [
        0 if is_so else offset for offset, is_so in zip(rows["document_offset"], planted, strict=True)
    ]
    store.write("sequences", "all", rows)
    for unit in store.units("models"):
        store.write("models", unit, store.read("models", [unit]).to_pydict() | {"trained_tokens": [TOKENS]})
    models, read = store.read("models")["model_id"].to_pylist(), range(1, 900, 2)
    columns = {
        "model_id": [model for model in models for _ in read],
        "sequence_id": [*read] * len(models),
        "exposures": [1 + number % 5 for number in read] * len(models),
        "cut": [0] * (len(read) * len(models)),
        "first_step": [1] * (len(read) * len(models)),
        "last_step": [1000 - number for number in read] * len(models),
        "first_tokens": [1000] * (len(read) * len(models)),
        "last_tokens": [TOKENS - 1000 * number for number in read] * len(models),
    }
    store.write("exposures", "all", columns)
    return study


def only(study: Path, samples: set[str], folder: Path) -> Path:
    """A copy of the study with sequences of these samples alone."""
    shutil.copytree(study.parent, folder)
    store = TableStore(folder / "study" / "tables")
    table = store.read("sequences")
    keep = pa.array([sample in samples for sample in table["sample"].to_pylist()])
    store.write("sequences", "all", table.filter(keep))
    return folder / "study"


def reads(name: str) -> set[str]:
    if "sample" in load_query(name).parameters:
        return {"uniform"} | BESIDE.get(name, set())
    return READS[name]


def test_every_query_says_what_it_reads() -> None:
    without = {name for name in list_queries() if "sample" not in load_query(name).parameters}
    assert without - OF_PROBES == set(READS)
    for name in set(list_queries()) - OF_PROBES:
        assert len(reads(name) & NATURAL) <= 1, name


def test_no_query_reads_another_sample(study: Path, tmp_path: Path) -> None:
    whole = connect(study)
    answered = set()
    for number, samples in enumerate({frozenset(reads(name)) for name in set(list_queries()) - OF_PROBES}):
        con = connect(only(study, set(samples), tmp_path / str(number)))
        for name in set(list_queries()) - OF_PROBES:
            if reads(name) == samples:
                answer = run_query(whole, name)
                assert answer.equals(run_query(con, name)), name
                answered |= {name} if answer.num_rows else set()
        con.close()
    whole.close()
    needing_runs = {"controls", "context_curve", "copied_continuations"}
    assert set(list_queries()) - OF_PROBES - answered <= needing_runs


@pytest.mark.parametrize(("sample", "answering"), [("bucket", "rate_by_frequency"), ("domain", "frequency_in_domains")])
def test_a_sample_drawn_evenly_over_frequencies_is_refused(study: Path, sample: str, answering: str) -> None:
    con = connect(study)
    for name in list_queries():
        if "sample" in load_query(name).parameters:
            with pytest.raises(QueryError, match=rf"query {name}: the sample {sample} .* the query {answering}$"):
                run_query(con, name, sample=sample)
    con.close()
