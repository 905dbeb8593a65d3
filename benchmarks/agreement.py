"""How often scoring gives the continuation that Hugging Face's `generate` gives, in every type of weights.

    python benchmarks/agreement.py STUDY MODEL… [--rows N] [--device cpu|cuda] [--compiled]

MODEL is a folder or a hub name. The sequences are the first N of the study's uniform sample and the first N of its
bucket sample. For float32 and bfloat16 it tells the share of equal continuations and of equal flags `memorized`, ours
beside generate's, and beside both how far bfloat16 is from float32.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch

from memindex.models.loading import LoadedModel, load_model
from memindex.models.scoring import score_sequences
from memindex.study.config import load_study
from memindex.study.sampling import token_matrix
from memindex.tables.store import TableStore

BATCH = 512


@dataclass
class Answers:
    """Continuations by scoring and by generate, and the summed log-probability of the suffixes."""

    ours: np.ndarray
    theirs: np.ndarray
    logprob: np.ndarray


def main() -> None:
    """Compare for every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--device", default=None)
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    prefixes, suffixes = sequences(arguments.study, arguments.rows)
    for model in arguments.models:
        exact, half = (
            answers(load_model(model, device=arguments.device, dtype=dtype), prefixes, suffixes, arguments.compiled)
            for dtype in ("float32", "bfloat16")
        )
        print(f"{model}, {len(prefixes):,} sequences")
        for what, one, other in (
            ("float32: ours, generate", exact.ours, exact.theirs),
            ("bfloat16: ours, generate", half.ours, half.theirs),
            ("ours: bfloat16, float32", half.ours, exact.ours),
            ("generate: bfloat16, float32", half.theirs, exact.theirs),
        ):
            equal = (one == other).all(axis=1).mean()
            flags = ((one == suffixes).all(axis=1) == (other == suffixes).all(axis=1)).mean()
            print(f"    {what:30} continuations {equal:8.2%}, memorized or not {flags:8.2%}")
        print(
            f"    log-probability of the suffix, bfloat16 and float32: {apart(half, exact):.3f} nats apart on average"
        )


def sequences(study: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Prefixes and suffixes."""
    config = load_study(study)
    table = TableStore(config.tables).read("sequences")
    parts = [table.filter(pc.equal(table.column("sample"), sample)).slice(0, rows) for sample in ("uniform", "bucket")]
    prefixes, suffixes = (np.concatenate([token_matrix(part, name) for part in parts]) for name in ("prefix", "suffix"))
    return prefixes.astype(np.int64), suffixes.astype(np.int64)


def answers(loaded: LoadedModel, prefixes: np.ndarray, suffixes: np.ndarray, compiled: bool) -> Answers:
    """What both say."""
    scores = score_sequences(loaded, prefixes, suffixes, compiled=compiled)
    model, length = loaded.model, suffixes.shape[1]
    # A continuation is compared place by place: it must not end early.
    model.generation_config.eos_token_id = None
    found = []
    for begin in range(0, len(prefixes), BATCH):
        ids = torch.from_numpy(prefixes[begin : begin + BATCH]).to(model.device)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length, pad_token_id=0
            )
        found.append(out[:, ids.shape[1] :].cpu().numpy())
    return Answers(scores.continuation, np.concatenate(found), scores.suffix_logprob)


def apart(one: Answers, other: Answers) -> float:
    """Mean absolute difference; nats."""
    return float(np.abs(one.logprob - other.logprob).mean())


if __name__ == "__main__":
    main()
