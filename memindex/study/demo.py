"""The demo: the whole main job, once through, on text that this machine already has.

corpus -> tokenizer -> index -> a series of models trained on the index -> sequences -> scores -> tables -> report.
Everything goes through the same functions that a real study uses; only the sizes are small. Every step leaves a file or
folder that is there whole or not at all, and a step whose result exists is skipped: a demo that was stopped goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from memindex.corpus.tokenizer import load_tokenizer
from memindex.corpus.tokenizer_training import train_tokenizer
from memindex.errors import MemindexError
from memindex.extras import require
from memindex.index.builder import build_index
from memindex.index.index import Index
from memindex.index.manifest import write_atomically
from memindex.progress import LOAD_TORCH, Progress, report_loading
from memindex.study.config import FILE, SequenceConfig, load_study
from memindex.study.demo_corpus import CorpusPlan, write_corpus
from memindex.study.probe_config import PROBES
from memindex.study.running import RunOptions, run_study
from memindex.study.study_toml import study_toml

#: Sequences of each outcome, or domain, that the probes look at.
PROBED = 30

#: Told what happens next, in words.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of the demo, chosen for two processor cores and a few minutes (docs/decisions.md says how)."""

    corpus: CorpusPlan = field(default_factory=CorpusPlan)
    vocabulary: int = 2048
    architecture: str = "gpt_neox"
    sizes: tuple[str, ...] = ("0.06M", "0.25M", "1M")
    passes: float = 2.0
    batch_size: int = 8
    context: int = 128
    sequences: SequenceConfig = field(default_factory=lambda: SequenceConfig(uniform=1200, per_bucket=200, heldout=800))
    probes: tuple[str, ...] = tuple(PROBES)


def run_demo(target: Path, plan: DemoPlan, tell: Tell, progress: Progress, device: str | None = None) -> Path:
    """Run the whole demo in the folder TARGET; returns the study's directory.

    Raises:
        MemindexError: TARGET is a folder of something else, or torch is not installed.
    """
    if target.exists() and not (target / "corpus").is_dir():
        raise MemindexError(f"{target} exists already and is no demo: name another folder with --out")
    require("models")
    _corpus(target, plan, tell)
    index = _indexes(target, tell, progress)
    models = [_train(index, size, plan, target, tell, progress, device) for size in plan.sizes]
    study = target / "study"
    study.mkdir(exist_ok=True)
    if not (study / FILE).exists():
        text = study_toml(study, index.path, target / "python-heldout", models, plan.sequences, name="demo")
        write_atomically(study / FILE, (text + _asked(plan)).encode())
    tell("Sampling sequences, counting them in the index, scoring every model on them")
    run_study(load_study(study), options=RunOptions(device=device), progress=progress)
    return study


def _asked(plan: DemoPlan) -> str:
    """What the demo asks of its models beside the main protocol, so that every question has an answer."""
    prefix = plan.sequences.prefix
    return f"""
[scoring]
prefix = {sorted({max(1, prefix // 2), prefix})}
controls = ["shuffled-suffixes"]

[probes]
run = {json.dumps(plan.probes)}
sequences = {PROBED}
alphas = [0.0, 0.15, 0.3]
draws = 1
"""


def _corpus(target: Path, plan: DemoPlan, tell: Tell) -> None:
    """The text and a tokenizer trained on it, put in place together at the end."""
    if (target / "corpus").is_dir():
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tell("Collecting Python sources installed on this machine")
    sizes = write_corpus(partial / "corpus", plan.corpus)
    tell(f"  {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} domains")
    tell(f"Training a tokenizer of {plan.vocabulary:,} ids")
    files = sorted((partial / "corpus" / "train").rglob("*.py"))
    train_tokenizer((file.read_bytes().decode() for file in files), partial / "tokenizer", plan.vocabulary)
    partial.rename(target)


def _indexes(target: Path, tell: Tell, progress: Progress) -> Index:
    """The index of the corpus; one of its held-out files is made beside it."""
    tell("Building the index of the corpus, and one of its held-out files")
    for part, name in (("train", "python"), ("heldout", "python-heldout")):
        if not (target / name).exists():
            tokenizer = load_tokenizer(target / "tokenizer")
            build_index([target / "corpus" / part], target / name, tokenizer=tokenizer, progress=progress)
    index = Index.open(target / "python")
    tell(f"  {index.manifest.tokens:,} tokens in {index.manifest.documents:,} documents")
    return index


def _train(
    index: Index, size: str, plan: DemoPlan, target: Path, tell: Tell, progress: Progress, device: str | None
) -> Path:
    out = target / "models" / f"{plan.architecture}-{size}"
    if out.exists():
        return out
    report_loading(progress)
    from memindex.models.from_index import train_on_index

    progress(LOAD_TORCH, 1, 1)
    tell(f"Training {plan.architecture} {size} on {plan.passes:g} passes over the index")
    record = train_on_index(
        index,
        plan.architecture,
        size,
        round(plan.passes * index.manifest.tokens),
        out,
        context=plan.context,
        batch_size=plan.batch_size,
        device=device,
        progress=lambda done, total, _: progress(f"train {size}", done, total),
    )
    tell(
        f"  {record['non_embedding_parameters']:,} parameters outside the embeddings, {record['seconds']:.0f} s, "
        f"loss {record['final_loss']:.2f}"
    )
    return out
