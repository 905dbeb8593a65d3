"""How fast small models are trained, beside the plain loop and the ceiling of the machine, in one run.

    python benchmarks/training.py [SIZE…] [--architecture A] [--batch-size N] [--context N] [--vocabulary N]

Random tokens of a vocabulary of 50,304 by default, windows as `memindex train` takes them. For every size:

    plain       logits of the whole batch, windows from the CPU at every step, kernels started one by one
    steps       as `memindex train` takes them, layers not compiled
    compiled    the same with compiled layers; the time of compiling apart

FLOPs are six per weight and token, unembedding included, and twelve per pair of positions and channel of attention.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scoring import ceilings, clear, name, wait
from torch.nn.functional import cross_entropy

from memindex.models.architectures import build_model, count_parameters
from memindex.models.stream import TokenStream
from memindex.models.training import default_learning_rate
from memindex.models.training_steps import Stepper, Windows

EOS = 0

Step = Callable[[int], Any]


def main() -> None:
    """Measure the sizes that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["0.8M", "4.7M", "25M", "151M"])
    parser.add_argument("--architecture", default="gpt_neox")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=50_304)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{name(device)}, torch {torch.__version__}", flush=True)
    peak = ceilings(device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenized.0"
        windows = arguments.batch_size * (arguments.steps + 10)
        np.random.default_rng(0).integers(0, arguments.vocabulary, windows * arguments.context + 1).astype(
            "<u2"
        ).tofile(file)
        for size in arguments.sizes:
            measure(size, file, arguments, device, peak)


def measure(size: str, file: Path, arguments: argparse.Namespace, device: torch.device, peak: float | None) -> None:
    """Print the lines of one size."""
    for way in ("plain", "steps", "compiled"):
        torch._dynamo.reset()
        clear(device)
        model = build_model(arguments.architecture, size, arguments.vocabulary, arguments.context, 0, eos_token_id=EOS)
        model = model.to(device).train()
        stream = TokenStream([file], "u2", EOS)
        length = arguments.context + 1
        starts = stream.starts(arguments.batch_size * (arguments.steps + 8), length, 0)
        if way == "plain":
            step = plain(model, stream, starts, arguments.batch_size, length)
        else:
            windows = Windows(stream, starts, length, arguments.batch_size, arguments.vocabulary, device)
            stepper = Stepper(model, default_learning_rate(model.config.hidden_size), 0.01, 1.0, way == "compiled")
            step = lambda number, stepper=stepper, windows=windows: stepper(windows(number), 0.5)  # noqa: E731
        torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None
        begun, seconds = timed(step, arguments.steps)
        tokens = arguments.batch_size * arguments.context * arguments.steps
        flops = per_token(model, arguments.context) * tokens / seconds
        memory = torch.cuda.max_memory_reserved() / 1e9 if device.type == "cuda" else 0.0
        share = f", {flops / peak:.0%} of the matrix product" if peak else ""
        line = f"{size:6}{way:10}{tokens / seconds:12,.0f} tokens/s{flops / 1e12:8.1f} TFLOP/s{share}"
        print(f"{line}, {memory:.1f} GB, first steps {begun:.1f} s", flush=True)


def timed(step: Step, steps: int) -> tuple[float, float]:
    """Seconds of the first eight steps, and of so many after them."""
    wait()
    start = time.perf_counter()
    for number in range(8):
        step(number)
    wait()
    middle = time.perf_counter()
    for number in range(8, 8 + steps):
        step(number)
    wait()
    return middle - start, time.perf_counter() - middle


def plain(model: Any, stream: TokenStream, starts: np.ndarray, batch_size: int, length: int) -> Step:
    """The loop without anything of the above."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def step(number: int) -> None:
        found = stream.windows(starts[number * batch_size : (number + 1) * batch_size], length)
        tokens = torch.from_numpy(found).to(model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda"):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def per_token(model: Any, context: int) -> float:
    """FLOPs of learning from one token."""
    config = model.config
    _, parameters = count_parameters(model)
    weights = parameters + config.vocab_size * config.hidden_size
    return 6 * weights + 12 * (context + 1) / 2 * config.hidden_size * config.num_hidden_layers


if __name__ == "__main__":
    main()
