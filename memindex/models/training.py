"""Training a model on a corpus so that memorization can be measured with known exposure.

The smallest loop that memorizes quickly: random windows of the token stream (`stream`), AdamW, a warmup and
a cosine, nothing else. A finished training is one folder: the transformers checkpoint and `training.json`
beside it (how it was made, loss curve, seconds). It appears under its name by one rename, so an interrupted
training leaves nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.architectures import count_parameters
from memindex.models.runtime import device_name, find_device, no_progress_bars, versions
from memindex.models.sources import RECORD
from memindex.models.stream import TokenStream

#: Called with (tokens done, tokens in all, loss in nats per token).
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; lengths in tokens.

    Attributes:
        tokens: Training tokens in all, rounded down to whole windows.
        eos_token_id: Id that stands for a document separator.
        dtype: Width of the ids in the token files: u1, u2 or u4.
        context: Tokens per window.
        batch_size: Windows per step.
        learning_rate: Peak of the schedule; None takes `default_learning_rate`.
        final_learning_rate: Its end, as a share of the peak.
        warmup: Share of the steps with a rising learning rate.
        weight_decay: AdamW's, on matrices only.
        clip: Largest norm of the gradient.
        seed: Seed of the window starts.
        device: cpu or cuda; None takes a GPU where there is one.
    """

    tokens: int
    eos_token_id: int
    dtype: str = "u2"
    context: int = 256
    batch_size: int = 16
    learning_rate: float | None = None
    final_learning_rate: float = 0.0
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    device: str | None = None


def default_learning_rate(hidden: int) -> float:
    """Peak learning rate, inverse in the width as in muP (Yang et al. 2022, arXiv 2203.03466)."""
    return min(1e-2, 0.5 / hidden)


def learning_rate_share(step: int, steps: int, warmup: float, final: float) -> float:
    """Share of the peak rate at `step` (0-based) of `steps`: linear warmup, then cosine to `final`."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: PreTrainedModel,
    token_files: Sequence[Path],
    out: Path,
    config: TrainingConfig,
    progress: Progress | None = None,
    *,
    notes: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Train `model` in place and save it as the folder `out`; on the CPU, equal arguments give equal weights.

    Args:
        model: The model; on CUDA it runs under bfloat16 autocast, its weights stay float32.
        token_files: Raw token files, read as one stream.
        out: Folder to make; it must not exist.
        config: How to train.
        progress: Called about 200 times.
        notes: More fields of `training.json`.
        files: More files of the folder, by name.

    Returns:
        What `training.json` in `out` holds.

    Raises:
        MemindexError: `out` exists, the corpus is shorter than a window, an id is outside the vocabulary,
            the device is absent, or the loss is not finite.
    """
    out = Path(out)
    if out.exists():
        raise MemindexError(f"{out} exists; remove it or name another folder")
    stream = TokenStream(token_files, config.dtype, config.eos_token_id)
    device = find_device(config.device)
    _check_limits(model, config)
    # A window carries one token more than the model reads: the last target.
    starts = stream.starts(max(1, config.tokens // config.context), config.context + 1, config.seed)
    model.to(device).train()
    began = time.perf_counter()
    curve = _optimize(model, stream, starts, config, progress)
    record = {
        "config": {**dataclasses.asdict(config), "learning_rate": _peak(model, config)},
        "corpus_tokens": len(stream),
        "trained_tokens": len(starts) * config.context,
        "steps": math.ceil(len(starts) / config.batch_size),
        "seconds": round(time.perf_counter() - began, 3),
        "final_loss": curve[-1][1],
        "loss_curve": curve,
        "architecture": model.config.model_type,
        **dict(zip(("parameters", "non_embedding_parameters"), count_parameters(model), strict=True)),
        "device": device_name(device),
        "versions": versions(),
        **(notes or {}),
    }
    model.eval()
    _save(model, record, out, files or {})
    return record


def _check_limits(model: PreTrainedModel, config: TrainingConfig) -> None:
    if min(config.context, config.batch_size, config.tokens) < 1:
        raise MemindexError("tokens, context and batch_size must be 1 or more")
    limit = model.config.max_position_embeddings
    if config.context > limit:
        raise MemindexError(f"context {config.context} is longer than the model's {limit}")
    if not 0 <= config.eos_token_id < model.config.vocab_size:
        raise MemindexError(
            f"eos_token_id {config.eos_token_id} is outside the vocabulary of {model.config.vocab_size}"
        )


def _peak(model: PreTrainedModel, config: TrainingConfig) -> float:
    return config.learning_rate or default_learning_rate(model.config.hidden_size)


def _optimizer(model: PreTrainedModel, config: TrainingConfig) -> torch.optim.AdamW:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=_peak(model, config), betas=(0.9, 0.95), fused=True)


def _optimize(
    model: PreTrainedModel,
    stream: TokenStream,
    starts: Any,
    config: TrainingConfig,
    progress: Progress | None,
) -> list[tuple[int, float]]:
    """Run every step; the loss curve as (tokens done, loss of that step in nats per token)."""
    optimizer = _optimizer(model, config)
    peak = _peak(model, config)
    steps = math.ceil(len(starts) / config.batch_size)
    every = max(1, steps // 200)
    curve: list[tuple[int, float]] = []
    for step in range(steps):
        batch = starts[step * config.batch_size : (step + 1) * config.batch_size]
        share = learning_rate_share(step, steps, config.warmup, config.final_learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = peak * share
        loss = _step(model, optimizer, stream.windows(batch, config.context + 1), config.clip)
        # Reading the loss waits for the GPU, so not at every step.
        if step % every == 0 or step == steps - 1:
            done = (step * config.batch_size + len(batch)) * config.context
            curve.append((done, _finite(loss, done)))
            if progress is not None:
                progress(done, len(starts) * config.context, curve[-1][1])
    return curve


def _step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, ids: Any, clip: float) -> torch.Tensor:
    vocabulary = model.config.vocab_size
    if ids.max() >= vocabulary:
        raise MemindexError(
            f"the corpus holds token id {ids.max()}, the model's vocabulary ends at {vocabulary - 1}; "
            "build the model with the index's vocabulary"
        )
    device = model.device
    tokens = torch.from_numpy(ids).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.detach()


def _finite(loss: torch.Tensor, done: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise MemindexError(f"the loss is {value} after {done} tokens; lower the learning rate")
    return value


def _save(model: PreTrainedModel, record: dict[str, Any], out: Path, files: Mapping[str, bytes]) -> None:
    """Write a sibling folder, then rename it to `out`."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        with no_progress_bars():
            model.save_pretrained(partial)
        (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for name, content in files.items():
            (partial / name).write_bytes(content)
        partial.rename(out)
    except OSError as error:
        raise MemindexError(f"can't save the model as {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
