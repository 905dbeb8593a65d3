"""Every query on a study of real text: domains of code and prose, three models trained in seconds, and controls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scored_study import SMALL
from synthetic_study import PLANTED

from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import ReadOptions, find_files, read_documents
from memindex.index import Index, build_index
from memindex.sql.connection import connect
from memindex.sql.queries import list_queries, load_query, run_query
from memindex.study.config import FILE, SequenceConfig, load_study
from memindex.study.probe_config import PROBES
from memindex.study.study_toml import study_toml

torch = pytest.importorskip("torch", reason="models are trained")

#: Where a corpus lies, and the fields of its text and domain.
CORPORA = (("mini-pile", "text", "meta.pile_set_name"), ("mini-stack", "content", "lang"))

#: Documents of each domain, and characters of each: beginnings, where licence headers are.
DOCUMENTS, CHARACTERS = 40, 1500

SIZES = ("3k", "10k", "30k")


def write_part(corpora: Path, part: str, target: Path) -> None:
    """The beginnings of a few documents of every domain, as JSON lines."""
    taken: Counter[str] = Counter()
    with target.open("w", encoding="utf-8") as file:
        for name, text_field, domain_field in CORPORA:
            options = ReadOptions(text_field, domain_field)
            for batch in read_documents(find_files([corpora / name / part], options), options, BadDocuments()):
                for row in batch.select(["text", "domain"]).to_pylist():
                    taken[row["domain"]] += 1
                    if taken[row["domain"]] <= DOCUMENTS:
                        text = row["text"].decode()[:CHARACTERS]
                        file.write(json.dumps({"text": text, "domain": row["domain"]}) + "\n")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower with several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from memindex.models.from_index import train_on_index
    from memindex.study.running import run_study

    root = tmp_path_factory.mktemp("real")
    for part in ("train", "heldout"):
        write_part(shared / "corpora", part, root / f"{part}.jsonl")
        options = ReadOptions(domain_field="domain")
        build_index([root / f"{part}.jsonl"], root / f"{part}-index", tokenizer="bytes", options=options)
    index = Index.open(root / "train-index")
    for size in SIZES:
        train_on_index(index, "llama", size, 100_000, root / size, context=32, batch_size=32, device="cpu")
    (root / "study").mkdir()
    models = [root / size for size in SIZES]
    sequences = SequenceConfig(prefix=16, suffix=4, uniform=400, per_bucket=30, heldout=150)
    text = study_toml(root / "study", root / "train-index", root / "heldout-index", models, sequences)
    scoring = '\n[scoring]\nprefix = [4, 16]\ncontrols = ["shuffled-suffixes", "untrained"]\n'
    (root / "study" / FILE).write_text(text + scoring, encoding="utf-8")
    run_study(load_study(root / "study"), options=SMALL)
    return root / "study"


def test_every_query_has_an_answer(study: Path) -> None:
    con = connect(study)
    empty = {name for name in list_queries() if not run_query(con, name).num_rows}
    assert all(load_query(name).optional for name in empty), empty
    of_probes = {name for name in list_queries() if any(table in load_query(name).sql for table in PROBES)}
    alike = {"paired_rates"}  # needs two models of one size
    assert empty <= of_probes | PLANTED | alike, "only what needs a probe, or planted texts, has no rows"
    shares = run_query(con, "domain_shares").to_pylist()
    assert {"C++", "Python"} < {row["domain"] for row in shares}
    assert all(row["enrichment_corpus"] is not None for row in shares if row["memorized"])
    assert {row["target"] for row in run_query(con, "predictors").to_pylist()} == {"30k"}
    assert {row["n"] for row in run_query(con, "ngram_frequency").to_pylist()} == {1, 5}
    sizes = run_query(con, "rate_by_size").to_pylist()
    assert len(sizes) == 3
    assert sum(row["memorized"] for row in sizes) > 20
    assert all(row["r2"] is not None for row in sizes)
    copied = run_query(con, "copied_continuations").to_pylist()
    assert any(row["copied"] for row in copied if row["copied_from"] == 1)
    assert any(row["in_others"] for row in run_query(con, "across_domains").to_pylist())
