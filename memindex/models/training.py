"""Training a model on a corpus so that memorization can be measured with known exposure.

The smallest loop that memorizes quickly: random windows of the token stream (`stream`), AdamW, a warmup and
a cosine, nothing else. A finished training is one folder: the transformers checkpoint and `training.json`
beside it (how it was made, loss curve, seconds), and checkpoints below it where they were asked for. It appears
under its name by one rename; a training that was stopped goes on from the last state that it kept.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.architectures import count_parameters
from memindex.models.runtime import device_name, find_device, versions
from memindex.models.shapes import default_learning_rate
from memindex.models.stream import TokenStream
from memindex.models.training_folder import TrainingFolder, digest, training_folder
from memindex.models.training_steps import COMPILE_FROM, Stepper, Windows

#: Called with (tokens done, tokens in all, loss in nats per token).
Progress = Callable[[int, int, float], None]

#: Share of the tokens, at the end, over which the final loss is the mean of the steps that were read.
END = 0.05

#: Seconds of training that are lost at most when it is killed.
KEEP_EVERY = 120.0


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
        checkpoints: Training tokens after which the model is saved, at the end of that step.
        compiled: Whether torch.compile prepares the layers (GPU only); None does so where that pays.
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
    checkpoints: tuple[int, ...] = ()
    compiled: bool | None = None


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

    The same call goes on with a training that was stopped, from the state it kept last (every KEEP_EVERY seconds and
    at every checkpoint).

    Args:
        model: The model; on CUDA it runs under bfloat16 autocast, its weights stay float32.
        token_files: Raw token files, read as one stream.
        out: Folder to make; it must not exist. Checkpoints are folders like it in `checkpoints/stepN` below.
        config: How to train.
        progress: Called about 200 times.
        notes: More fields of `training.json`.
        files: More files of the folder, by name.

    Returns:
        What `training.json` in `out` holds. `final_loss` is the mean over the last twentieth of `loss_curve`.

    Raises:
        MemindexError: `out` exists, the corpus is shorter than a window, an id is outside the vocabulary,
            the device is absent, a checkpoint lies beyond the end, or the loss is not finite.
    """
    out = Path(out)
    if out.exists():
        raise MemindexError(f"{out} exists; remove it or name another folder")
    stream = TokenStream(token_files, config.dtype, config.eos_token_id)
    device = find_device(config.device)
    _check_limits(model, config)
    # A window carries one token more than the model reads: the last target.
    starts = stream.starts(max(1, config.tokens // config.context), config.context + 1, config.seed)
    named = {
        "config": {**dataclasses.asdict(config), "learning_rate": _peak(model, config)},
        "corpus_tokens": len(stream),
        "architecture": model.config.model_type,
        **dict(zip(("parameters", "non_embedding_parameters"), count_parameters(model), strict=True)),
        "device": device_name(device),
        "versions": versions(),
        **(notes or {}),
    }
    with training_folder(out, {**named, "weights": digest(model)}, files or {}) as folder:
        model.to(device).train()
        training = _Training(model, stream, starts, config, named)
        record = training.run(folder, progress or (lambda *_: None))
        folder.finish(model.eval(), record, out)
    return record


class _Training:
    """A training under way."""

    def __init__(
        self, model: PreTrainedModel, stream: TokenStream, starts: Any, config: TrainingConfig, named: Mapping[str, Any]
    ) -> None:
        self.model, self.config, self.named = model, config, named
        vocabulary = model.config.vocab_size
        self.windows = Windows(stream, starts, config.context + 1, config.batch_size, vocabulary, model.device)
        self.total = len(starts) * config.context
        compiled = _compiling_pays(model, self.total) if config.compiled is None else config.compiled
        self.stepper = Stepper(model, _peak(model, config), config.weight_decay, config.clip, compiled)
        self.curve: list[tuple[int, float]] = []
        self.seconds = 0.0
        self.resumed: list[int] = []

    def run(self, folder: TrainingFolder, progress: Progress) -> dict[str, Any]:
        """Take the steps that are left; returns the record of the trained model."""
        first = self._resume(folder.state())
        steps, marks = self.windows.steps, self._checkpoint_steps()
        every = max(1, steps // 200)
        began = kept = time.perf_counter()
        before = self.seconds
        for step in range(first, steps):
            share = learning_rate_share(step, steps, self.config.warmup, self.config.final_learning_rate)
            loss = self.stepper(self.windows(step), share)
            done = self.tokens_after(step)
            # Reading the loss waits for the GPU, so not at every step.
            if step % every == 0 or step == steps - 1 or step + 1 in marks:
                self.curve.append((done, _finite(loss, done)))
                progress(done, self.total, self.curve[-1][1])
            now = time.perf_counter()
            self.seconds = before + now - began
            if step + 1 in marks:
                folder.save_checkpoint(self.model, step + 1, self.record(step + 1))
            if step < steps - 1 and (step + 1 in marks or now - kept > KEEP_EVERY):
                folder.keep(self._state(step + 1))
                kept = time.perf_counter()
        record = self.record(steps)
        self.stepper.close()
        return record

    def record(self, steps: int) -> dict[str, Any]:
        """What `training.json` says after so many steps."""
        return {
            **self.named,
            "trained_tokens": self.tokens_after(steps - 1),
            "steps": steps,
            "seconds": round(self.seconds, 3),
            "final_loss": _loss_at_the_end(self.curve),
            "loss_curve": self.curve,
            "compiled": self.stepper.compiled,
            "resumed_at": self.resumed,
        }

    def tokens_after(self, step: int) -> int:
        """Tokens that were targets up to a step, itself included."""
        return self.windows.rows(step).stop * self.config.context

    def _checkpoint_steps(self) -> set[int]:
        per_step = self.config.batch_size * self.config.context
        return {min(self.windows.steps, -(-tokens // per_step)) for tokens in self.config.checkpoints}

    def _state(self, steps: int) -> dict[str, Any]:
        return {
            "steps": steps,
            "model": self.model.state_dict(),
            "optimizer": self.stepper.state(),
            "curve": self.curve,
            "seconds": self.seconds,
            "resumed_at": self.resumed,
        }

    def _resume(self, state: Mapping[str, Any] | None) -> int:
        """Go back to a state; the steps that were taken."""
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.stepper.load(state["optimizer"])
        self.curve = [(int(tokens), float(loss)) for tokens, loss in state["curve"]]
        self.seconds = float(state["seconds"])
        self.resumed = [*state["resumed_at"], int(state["steps"])]
        return int(state["steps"])


def _loss_at_the_end(curve: Sequence[tuple[int, float]]) -> float:
    """Mean over the last tokens of a curve: one step's loss says more of its windows than of the model."""
    last = [loss for done, loss in curve if done > (1 - END) * curve[-1][0]]
    return sum(last) / len(last)


def _compiling_pays(model: PreTrainedModel, tokens: int) -> bool:
    return 6 * count_parameters(model)[1] * tokens > COMPILE_FROM


def _check_limits(model: PreTrainedModel, config: TrainingConfig) -> None:
    if min(config.context, config.batch_size, config.tokens) < 1:
        raise MemindexError("tokens, context and batch_size must be 1 or more")
    for tokens in config.checkpoints:
        if not 0 < tokens <= config.tokens:
            raise MemindexError(f"checkpoint after {tokens:,} tokens: the training has {config.tokens:,}")
    limit = model.config.max_position_embeddings
    if config.context > limit:
        raise MemindexError(f"context {config.context} is longer than the model's {limit}")
    if not 0 <= config.eos_token_id < model.config.vocab_size:
        raise MemindexError(
            f"eos_token_id {config.eos_token_id} is outside the vocabulary of {model.config.vocab_size}"
        )


def _peak(model: PreTrainedModel, config: TrainingConfig) -> float:
    return config.learning_rate or default_learning_rate(model.config.hidden_size)


def _finite(loss: torch.Tensor, done: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise MemindexError(f"the loss is {value} after {done} tokens; lower the learning rate")
    return value
