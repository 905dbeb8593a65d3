"""How fast models are scored, beside the ceilings of the machine and beside Hugging Face's `generate`, in one run.

    python benchmarks/scoring.py [SHAPE…] [--rows N] [--rounds N] [--no-peers] [--profile]

SHAPE is pythia-160m, pythia-1b, llama-7b, or tiny (for a machine without a GPU). Models have the published shapes and
random weights, in bfloat16 on a GPU; sequences are 32 + 32 random tokens. For every shape:

    reading     the teacher-forced pass alone: what a memorized sequence costs
    scoring     reading, then exact continuation of sequences that all leave the suffix at its first token
    peers       `generate` for 32 greedy tokens: as it is, and with a static cache, which transformers compiles

`--profile` lists the kernels that take longest, and how fast the attention of decoded tokens reads keys and values.

FLOPs are counted as two per weight and token (embeddings looked up are none) and four per pair of positions and
channel of attention. Ceilings: a copy (bytes read and written) and a product of two 8192 x 8192 matrices in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memindex.models.architectures import count_parameters
from memindex.models.attention import attending_to_slots
from memindex.models.loading import LoadedModel
from memindex.models.reading import read
from memindex.models.scoring import Scorer

PREFIX, SUFFIX = 32, 32

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "gpt_neox",
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "pythia-160m": {
        "model_type": "gpt_neox",
        "vocab_size": 50304,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "pythia-1b": {
        "model_type": "gpt_neox",
        "vocab_size": 50304,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 8,
        "intermediate_size": 8192,
    },
    "llama-7b": {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
    },
}


@dataclass
class Result:
    """One line: sequences per second of every round, and FLOPs of a sequence."""

    what: str
    rates: list[float]
    flops: float


def main() -> None:
    """Measure the shapes that were asked for, or the three large ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[[], *SHAPES], default=[])
    parser.add_argument("--rows", type=int, default=8192, help="sequences that are scored; 7B takes a quarter")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{name(device)}, torch {torch.__version__}")
    peak = ceilings(device)
    for shape in arguments.shapes or ["pythia-160m", "pythia-1b", "llama-7b"]:
        rows = arguments.rows // 4 if shape == "llama-7b" else arguments.rows
        model = build(shape, device)
        _, parameters = count_parameters(model)
        print(f"\n{shape}: {parameters:,} parameters outside the embeddings, {rows:,} sequences")
        for result in measure(model, shape, rows, arguments):
            show(result, peak)
        del model
        torch._dynamo.reset()
        clear(device)


def ceilings(device: torch.device) -> float | None:
    """Print what the machine can do; FLOP/s of a matrix product in bfloat16."""
    if device.type != "cuda":
        return None
    source = torch.empty(4 << 30, dtype=torch.uint8, device=device)
    moved = 2 * source.numel() / seconds(source.clone)
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    peak = 2 * 8192**3 / seconds(lambda: left @ right)
    print(f"copy {moved / 1e12:.2f} TB/s, matrix product {peak / 1e12:.0f} TFLOP/s")
    return peak


def seconds(work: Callable[[], Any], repeats: int = 10) -> float:
    """Median time of one call, after three that don't count."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def build(shape: str, device: torch.device) -> PreTrainedModel:
    """A model of that shape with random weights."""
    values = dict(SHAPES[shape])
    config = AutoConfig.for_model(values.pop("model_type"), max_position_embeddings=2048, eos_token_id=None, **values)
    torch.manual_seed(0)
    with device:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def measure(model: PreTrainedModel, shape: str, rows: int, arguments: argparse.Namespace) -> list[Result]:
    """All lines of one shape; every round measures each once."""
    random = np.random.default_rng(0)
    ids = random.integers(0, model.config.vocab_size, (rows, PREFIX + SUFFIX))
    scorer = Scorer(load(model, shape), PREFIX, SUFFIX, compiled=True)
    prefixes, suffixes = ids[:, :PREFIX], ids[:, PREFIX:]
    scores = scorer.score(prefixes, suffixes)
    if scores.matched.mean() > 0.1:
        raise SystemExit("the sequences were meant to leave the suffix at once")
    reading, scoring = flops(model, PREFIX + SUFFIX - 1, 0), flops(model, PREFIX + SUFFIX - 1, SUFFIX - 1)
    works: list[tuple[str, float, Callable[[], Any]]] = [
        ("reading", reading, lambda: read_all(model, scorer, ids)),
        ("scoring", scoring, lambda: scorer.score(prefixes, suffixes)),
    ]
    results = [Result(what, [], work) for what, work, _ in works]
    for _ in range(arguments.rounds):
        for result, (_, _, work) in zip(results, works, strict=True):
            result.rates.append(rows / once(work))
    print(f"rows per forward pass {scorer.batch_size}; compiled: {scorer.compiled}")
    busy(lambda: scorer.score(prefixes, suffixes), arguments.profile)
    scorer.close()
    clear(model.device)
    if arguments.profile:
        attention(model)
    return results + ([] if arguments.no_peers else peers(model, prefixes, scores.continuation, arguments.rounds))


def load(model: PreTrainedModel, shape: str) -> LoadedModel:
    """The model as the loader would hand it over."""
    config = model.config
    facts = {
        "vocabulary": config.vocab_size,
        "context": config.max_position_embeddings,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
    }
    return LoadedModel(model, shape, name(model.device), str(model.dtype), "sdpa", facts)


def flops(model: PreTrainedModel, read_tokens: int, decoded: int) -> float:
    """FLOPs of reading so many tokens and decoding so many after the prefix, for one sequence."""
    config = model.config
    _, parameters = count_parameters(model)
    weights = parameters + config.vocab_size * config.hidden_size
    pairs = read_tokens * (read_tokens + 1) / 2 + sum(PREFIX + 1 + step for step in range(decoded))
    return 2 * weights * (read_tokens + decoded) + 4 * pairs * config.hidden_size * config.num_hidden_layers


def read_all(model: PreTrainedModel, scorer: Scorer, ids: np.ndarray) -> None:
    """The teacher-forced pass over all rows, with everything that is computed from it."""
    engine: Any = scorer._engine
    with torch.inference_mode(), attending_to_slots(model):
        for begin in range(0, len(ids), engine.batch_size):
            part = torch.from_numpy(ids[begin : begin + engine.batch_size]).to(model.device)
            engine._slots.bind(0, len(part))
            reading = read(model, engine._unembed, part, PREFIX, engine._compile)
            for column in (reading.logprobs, reading.top_logprobs, reading.ranks, reading.argmax):
                column.cpu()


def peers(model: PreTrainedModel, prefixes: np.ndarray, expected: np.ndarray, rounds: int) -> list[Result]:
    """`generate`, at the batch sizes of which the best is told; and how many continuations equal ours."""
    ids = torch.from_numpy(prefixes).to(model.device)
    work = flops(model, PREFIX, SUFFIX - 1)
    results = []
    for what, options in (("generate", {}), ("generate, static cache", {"cache_implementation": "static"})):
        best = Result(what, [], work)
        for batch in (256, 1024):
            if batch > len(ids):
                continue

            def call(batch: int = batch, options: dict[str, Any] = options) -> torch.Tensor:
                with torch.inference_mode():
                    mask = torch.ones_like(ids[:batch])
                    length = {"max_new_tokens": SUFFIX, "min_new_tokens": SUFFIX}
                    return model.generate(
                        ids[:batch], attention_mask=mask, do_sample=False, pad_token_id=0, **length, **options
                    )

            try:
                answer = call()[:, PREFIX:].cpu().numpy()
                call()
                rates = [batch / once(call) for _ in range(rounds)]
            except torch.OutOfMemoryError:
                clear(model.device)
                continue
            equal = (answer == expected[:batch]).all(axis=1).mean()
            print(f"{what}, {batch} rows: {statistics.median(rates):,.0f} sequences/s; {equal:.1%} equal ours")
            if not best.rates or statistics.median(rates) > statistics.median(best.rates):
                best.rates, best.what = rates, f"{what}, {batch} rows"
        results.append(best)
        torch._dynamo.reset()
        clear(model.device)
    return results


def busy(work: Callable[[], Any], kernels: bool) -> None:
    """Print how much of the time the GPU had nothing to do, and the longest kernels if asked."""
    if not torch.cuda.is_available():
        return
    whole = once(work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        once(work)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events) / 1e6
    print(f"GPU busy {total:.3f} s of {whole:.3f} s: idle {max(0.0, 1 - total / whole):.1%}")
    for event in events[:20] if kernels else []:
        print(f"    {event.self_device_time_total / 1e6:8.4f} s {event.count:6} x {event.key[:90]}")


def attention(model: PreTrainedModel, rows: int = 4096, seen: int = 48) -> None:
    """Print how fast one layer's attention of one token per row reads the keys and values that it sees."""
    if not torch.cuda.is_available():
        return
    from memindex.models.slot_kernel import attend_to_slots

    config = model.config
    heads = config.num_attention_heads
    kept, size = getattr(config, "num_key_value_heads", heads), config.hidden_size // heads
    options = {"device": model.device, "dtype": torch.bfloat16}
    keys, values = (torch.randn(rows, kept, 64, size, **options) for _ in range(2))
    query, key, value = (torch.randn(rows, n, 1, size, **options) for n in (heads, kept, kept))
    slots = torch.full((rows,), seen - 1, device=model.device)
    taken = seconds(lambda: attend_to_slots(query, key, value, keys, values, slots, size**-0.5, None))
    moved = 2 * rows * kept * seen * size * 2
    print(f"attention, {rows} rows that see {seen} slots: {taken * 1e3:.2f} ms, {moved / taken / 1e12:.2f} TB/s")


def once(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def show(result: Result, peak: float | None) -> None:
    """Print a line."""
    if not result.rates:
        print(f"{result.what:28} does not fit")
        return
    rate = statistics.median(result.rates)
    share = f"{rate * result.flops / peak:.0%} of the matrix product" if peak else ""
    spread = f"{min(result.rates):,.0f}–{max(result.rates):,.0f}"
    print(f"{result.what:34}{rate:>9,.0f} sequences/s ({spread}) {rate * result.flops / 1e12:6.1f} TFLOP/s {share}")


def name(device: torch.device) -> str:
    """The GPU's name, or the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def wait() -> None:
    """Until the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clear(device: torch.device) -> None:
    """Give memory back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
