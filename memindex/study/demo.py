"""The demo: the whole main job, once through, on text that this machine already has.

corpus -> tokenizer -> index -> a series of models trained on the index -> sequences -> scores -> tables -> report.
Everything goes through the same functions that a real study uses; only the sizes are small.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from memindex.corpus.sources import ReadOptions
from memindex.corpus.tokenizer import load_tokenizer
from memindex.errors import MemindexError, MissingExtraError
from memindex.index.builder import build_index
from memindex.index.index import Index
from memindex.study.config import FILE, SequenceConfig, load_study, study_toml
from memindex.study.demo_corpus import CorpusPlan, write_corpus
from memindex.study.running import run_study

END_OF_TEXT = "<|endoftext|>"

#: Told what happens next, in words.
Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of the demo, chosen for two processor cores and a few minutes (docs/decisions.md says how)."""

    corpus: CorpusPlan = field(default_factory=CorpusPlan)
    vocabulary: int = 2048
    architecture: str = "llama"
    sizes: tuple[str, ...] = ("0.06M", "0.25M", "1M")
    passes: float = 2.0
    batch_size: int = 8
    context: int = 256
    sequences: SequenceConfig = field(
        default_factory=lambda: SequenceConfig(uniform=2000, per_bucket=300, heldout=1500)
    )


def run_demo(target: Path, plan: DemoPlan, tell: Tell, progress: Progress, device: str | None = None) -> Path:
    """Run the whole demo in the new folder TARGET; returns the study's directory.

    Raises:
        MemindexError: TARGET exists, or torch is not installed.
    """
    if target.exists():
        raise MemindexError(f"{target} exists already: remove it, or name another folder with --out")
    _require_models()
    tell("Collecting Python sources installed on this machine")
    sizes = write_corpus(target / "corpus", plan.corpus)
    tell(f"  {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} domains")
    tell(f"Training a tokenizer of {plan.vocabulary:,} ids")
    tokenizer = train_tokenizer(target / "corpus" / "train", target / "tokenizer", plan.vocabulary)
    tell("Building the index of the corpus, and one of its held-out files")
    for part, name in (("train", "python"), ("heldout", "python-heldout")):
        build_index(
            [target / "corpus" / part],
            target / name,
            tokenizer=load_tokenizer(tokenizer),
            options=ReadOptions(),
            progress=progress,
        )
    index = Index.open(target / "python")
    tell(f"  {index.manifest.tokens:,} tokens in {index.manifest.documents:,} documents")
    models = [_train(index, size, plan, target, tell, progress, device) for size in plan.sizes]
    study = target / "study"
    study.mkdir()
    text = study_toml(study, index.path, target / "python-heldout", models, plan.sequences)
    (study / FILE).write_text(text, encoding="utf-8")
    tell("Sampling sequences, counting them in the index, scoring every model on them")
    run_study(load_study(study), progress=progress)
    return study


def _train(
    index: Index, size: str, plan: DemoPlan, target: Path, tell: Tell, progress: Progress, device: str | None
) -> Path:
    from memindex.models.from_index import train_on_index

    tell(f"Training {plan.architecture} {size} on {plan.passes:g} passes over the index")
    out = target / "models" / f"{plan.architecture}-{size}"
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


def train_tokenizer(texts: Path, out: Path, vocabulary: int) -> Path:
    """Train a byte-level BPE tokenizer on the files below a folder; returns its tokenizer.json."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([os.fspath(file) for file in sorted(texts.rglob("*.py"))], trainer)
    out.mkdir(parents=True)
    tokenizer.save(os.fspath(out / "tokenizer.json"))
    return out / "tokenizer.json"


def _require_models() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        raise MissingExtraError("the demo trains models: pip install 'memindex[models]'") from None
