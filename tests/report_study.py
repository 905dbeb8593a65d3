"""A made-up study as large as real ones: three families by size and by checkpoint, many domains, every protocol."""

from __future__ import annotations

from pathlib import Path

import synthetic_study
from synthetic_study import make_study

from memindex.tables.store import TableStore

#: family, architecture, name, non-embedding parameters, trained tokens
MODELS = (
    (None, *synthetic_study.MODELS[0][1::-1], synthetic_study.MODELS[0][2], None),  # of no published family
    *(
        ("pythia", "gpt_neox", f"EleutherAI/pythia-{name}", size, 300_000_000_000)
        for name, size in (
            ("160m", 85_056_000),
            ("410m", 302_311_424),
            ("1b", 805_736_448),
            ("2.8b", 2_517_652_480),
            ("6.9b", 6_444_163_072),
            ("12b", 11_327_027_200),
        )
    ),
    *(
        ("pythia", "gpt_neox", f"EleutherAI/pythia-1b@step{step}", 805_736_448, step * 2_097_152)
        for step in (1000, 16000, 64000)
    ),
    *(
        ("openllama", "llama", f"openlm-research/open_llama_{name}", size, 1_000_000_000_000)
        for name, size in (("3b", 3_221_664_000), ("7b", 6_476_271_616), ("13b", 12_688_184_320))
    ),
    *(
        ("olmo2", "olmo2", f"allenai/OLMo-2-{name}", size, 4_000_000_000_000)
        for name, size in (("0425-1B", 1_074_008_064), ("1124-7B", 6_476_541_952), ("1124-13B", 12_689_244_160))
    ),
)

DOMAINS = (
    *("Github", "ArXiv", "FreeLaw", "PubMed Central", "PubMed Abstracts", "StackExchange", "Pile-CC", "Books3"),
    *("OpenWebText2", "Wikipedia (en)", "USPTO Backgrounds", "DM Mathematics", "Ubuntu IRC", "HackerNews", "EuroParl"),
    *("PhilPapers", "NIH ExPorter", "Enron Emails"),
)


def make_large_study(folder: Path, rows: int = 1200) -> Path:
    """Write the study and return its directory."""
    study = make_study(folder, rows=rows, models=tuple((name, kind, size) for _, kind, name, size, _ in MODELS))
    store = TableStore(study / "tables")
    for family, kind, name, size, tokens in MODELS:
        row = synthetic_study.model_row(name, kind, size)
        store.write("models", name, row | {"family": [family], "trained_tokens": [tokens]})
    sequences = store.read("sequences").to_pydict()
    domains = {"domain": [DOMAINS[document % len(DOMAINS)] for document in sequences["document"]]}
    store.write("sequences", "all", sequences | domains)
    synthetic_study.add_protocols(study, rows=rows)
    return study
