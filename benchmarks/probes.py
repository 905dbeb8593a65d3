"""How fast probes look into models, beside plain reading and the ceilings of the machine, in one run.

    python benchmarks/probes.py [SHAPE…] [--rows N] [--naive N] [--rounds N] [--no-scoring]

Shapes as in benchmarks/scoring.py, with random weights, in bfloat16 on a GPU. Sequences are 32 random tokens and the
32 that the model continues them with. For every shape:

    plain scoring     reading and scoring of benchmarks/scoring.py, layers compiled, as many sequences as given there
    reading           prefix and continuation once, with log-probabilities, layers not compiled
    layer decoding    probability, rank and entropy of every token on every layer
    head map          every head of every layer replaced in turn, from the ablated layer on
    naive             one whole pass for each head, measured on so many heads and multiplied

FLOPs of a head map are those of the layers from the ablated one on, and the unembedding of the
continuation, for every head.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scoring
import torch
from scoring import PREFIX, SHAPES, SUFFIX, build, ceilings, clear, load, name, once

from memindex.models.architectures import count_parameters
from memindex.models.loading import LoadedModel
from memindex.models.modules import modules_of
from memindex.models.scoring import Scorer
from memindex.probes.batches import rows_that_fit
from memindex.probes.head_ablation import ablate_heads, heads_of
from memindex.probes.hooks import HEADS, Place, hooked
from memindex.probes.layer_decoding import decode_layers
from memindex.probes.suffixes import checked, choose, say

ROWS = {"llama-7b": 500}


def main() -> None:
    """Measure the shapes that were asked for, or the two large ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[[], *SHAPES], default=[])
    parser.add_argument("--rows", type=int, default=0, help="sequences  [default: 2000; 500 of 7B]")
    parser.add_argument("--naive", type=int, default=4, help="heads that the naive way is measured on")
    parser.add_argument("--rounds", type=int, default=3, help="of everything but the head map and the naive way")
    parser.add_argument("--no-scoring", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{name(device)}, torch {torch.__version__}", flush=True)
    peak = ceilings(device)
    for shape in arguments.shapes or ["pythia-1b", "llama-7b"]:
        measure(shape, arguments, device, peak)
        clear(device)


def measure(shape: str, arguments: argparse.Namespace, device: torch.device, peak: float | None) -> None:
    """Print the lines of one shape."""
    loaded, rows = load(build(shape, device), shape), arguments.rows or ROWS.get(shape, 2000)
    layers, heads = len(modules_of(loaded.model).layers), heads_of(loaded)
    print(f"\n{shape}: {layers} layers x {heads} heads, {rows:,} sequences", flush=True)
    if not arguments.no_scoring:
        scored = {"llama-7b": 1024, "tiny": rows}.get(shape, 8192)
        options = argparse.Namespace(rounds=arguments.rounds, no_peers=True, profile=False)
        for result in scoring.measure(loaded.model, shape, scored, options):
            print(f"plain {result.what:10}{'':11} {statistics.median(result.rates):9,.0f} sequences/s", flush=True)
    prefixes = np.random.default_rng(0).integers(0, loaded.facts["vocabulary"], (rows, PREFIX))
    continuations = continued(loaded, prefixes)
    decode_layers(loaded, prefixes[:64], continuations[:64])  # what is made at the first call
    works: dict[str, Callable[[], Any]] = {
        "reading": lambda: read(loaded, prefixes, continuations),
        "layer decoding": lambda: decode_layers(loaded, prefixes, continuations),
    }
    for what, work in works.items():
        tell(what, [once(work) for _ in range(arguments.rounds)], rows)
    whole = once(lambda: ablate_heads(loaded, prefixes, continuations))
    speed = flops(loaded, layers, heads) * rows / whole
    share = f", {speed / peak:.0%} of the matrix product" if peak else ""
    tell("head map", [whole], rows, f"  {speed / 1e12:.1f} TFLOP/s{share}")
    if naive := arguments.naive:
        taken = once(lambda: one_by_one(loaded, prefixes, continuations, naive))
        every = taken * layers * heads / naive
        tell("naive", [taken], rows, f"  on {naive} heads; all: {every:.0f} s, {every / whole:.2f} times the head map")


def tell(what: str, taken: list[float], rows: int, more: str = "") -> None:
    """Print a line: median seconds, the slowest, and the speed."""
    middle = statistics.median(taken)
    slowest = f" (slowest {max(taken):.2f})" if len(taken) > 1 else ""
    print(f"{what:16}{middle:9.2f} s {rows / middle:9,.0f} sequences/s{slowest}{more}", flush=True)


def continued(loaded: LoadedModel, prefixes: np.ndarray) -> np.ndarray:
    """What the model generates."""
    scorer = Scorer(loaded, PREFIX, SUFFIX, compiled=False)
    other = np.zeros((len(prefixes), SUFFIX), dtype=np.int64)
    return np.asarray(scorer.score(prefixes, other).continuation)


@torch.inference_mode()
def read(loaded: LoadedModel, prefixes: np.ndarray, continuations: np.ndarray) -> None:
    """Log-probability and rank of every token, with layers as they are."""
    unembedding = modules_of(loaded.model).unembedding
    for hidden, following in passes(loaded, prefixes, continuations):
        say(loaded, unembedding, hidden, following).rank.cpu()


@torch.inference_mode()
def one_by_one(loaded: LoadedModel, prefixes: np.ndarray, continuations: np.ndarray, heads: int) -> None:
    """So many heads, from the first layer's first on, a whole pass for each."""
    unembedding = modules_of(loaded.model).unembedding
    for head in range(heads):
        place = Place(HEADS, head // heads_of(loaded))
        with hooked(loaded.model, {place: partial(replaced, head % heads_of(loaded))}):
            for hidden, following in passes(loaded, prefixes, continuations):
                choose(loaded, unembedding, hidden, following).cpu()


def replaced(head: int, said: torch.Tensor) -> torch.Tensor:
    """The head's output becomes the mean of the others."""
    found = said.clone()
    found[:, :, head] = ((said.sum(dim=2) - said[:, :, head]) / (said.shape[2] - 1)).to(said.dtype)
    return found


def passes(
    loaded: LoadedModel, prefixes: np.ndarray, continuations: np.ndarray
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Hidden states before each token of the continuation, and those tokens, so many rows at a time as fit."""
    tokens = checked(loaded, prefixes, continuations)
    for part in torch.split(tokens, rows_that_fit(loaded, tokens.shape[1])):
        given = part.to(loaded.model.device)
        hidden = loaded.model.base_model(input_ids=given[:, :-1], use_cache=False).last_hidden_state
        yield hidden[:, -SUFFIX:], given[:, -SUFFIX:]


def flops(loaded: LoadedModel, layers: int, heads: int) -> float:
    """Of the head map of one sequence."""
    config = loaded.model.config
    _, parameters = count_parameters(loaded.model)
    read_tokens = PREFIX + SUFFIX - 1
    whole = 2 * parameters * read_tokens + 2 * read_tokens**2 * config.hidden_size * layers
    above = sum(layers - layer for layer in range(layers)) / layers
    return heads * (above * whole + layers * 2 * SUFFIX * config.vocab_size * config.hidden_size)


if __name__ == "__main__":
    main()
