"""What each probe measures, as columns of its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.ragged import Ragged, from_matrix
from memindex.study.probe_config import (
    COMPRESSION,
    HEAD_IMPORTANCE,
    LAYER_DECODING,
    NOISE,
    PERTURBATION,
    ProbeConfig,
)
from memindex.study.probe_sample import OUTCOMES
from memindex.study.probe_selection import Selection
from memindex.study.units import Batch

if TYPE_CHECKING:
    from memindex.models.loading import LoadedModel

#: Sequences that the means of heads are taken over.
_FOR_MEANS = 256

#: The columns of a probe's table but for `run_id`, and the rows per forward pass.
Measured = tuple[dict[str, Any], int]


@dataclass(frozen=True)
class Task:
    """Sequences to measure with a model.

    Attributes:
        loaded: The model.
        batch: Prefixes, and what follows: the suffix, which is what the run generated where it was memorized, or for
            probes that compare outcomes what it generated.
        selection: What is known of the sequences.
        settings: What decides about the results.
        text: Prefixes of all the study's sequences: what tokens are replaced by, and where heads' means are taken from.
        batch_size: Rows per forward pass; None takes as many as memory holds.
        progress: Called with (sequences done, sequences in all).
    """

    loaded: LoadedModel
    batch: Batch
    selection: Selection
    settings: ProbeConfig
    text: npt.NDArray[np.int32]
    batch_size: int | None = None
    progress: Callable[[int, int], None] | None = None


def measure(probe: str, task: Task) -> Measured:
    """Measure some sequences of a run.

    Raises:
        MemindexError: As the probe's own function.
    """
    return _MEASURES[probe](task)


def _compression(task: Task) -> Measured:
    from memindex.probes.compression import compress

    batch = task.batch
    found = compress(task.loaded, batch.prefixes, batch.suffixes, task.batch_size, task.progress)
    context = batch.prefixes.shape[1]
    lengths = (np.nonzero(found.works)[1] + 1).astype(np.int32)
    columns = {
        "sequence_id": batch.sequence_ids,
        "context_length": np.full(len(found.needed), context),
        "needed": pa.array(found.needed, mask=found.needed == 0),
        "needed_monotone": pa.array(found.needed_monotone, mask=found.needed_monotone == 0),
        "failures": found.failures,
        "ratio": pa.array(found.needed / context, mask=found.needed == 0),
        "lengths": Ragged(lengths, np.append(0, np.cumsum(found.works.sum(axis=1)))),
    }
    return columns, found.batch_size


def _noise(task: Task) -> Measured:
    from memindex.probes.noise import add_noise

    batch, settings = task.batch, task.settings
    found = add_noise(
        task.loaded,
        batch.prefixes,
        batch.suffixes,
        batch.sequence_ids,
        settings.alphas,
        settings.draws,
        settings.seed,
        task.batch_size,
        task.progress,
    )
    rows, draws, alphas = found.kept.shape
    columns = {
        **_group(task, draws * alphas),
        "alpha": np.tile(np.array(settings.alphas, dtype=np.float64), rows * draws),
        "draw": np.tile(np.repeat(np.arange(draws), alphas), rows),
        "continuation_length": np.full(found.kept.size, batch.suffixes.shape[1]),
        "kept": found.kept.reshape(-1),
        "logprob": found.logprob.reshape(-1),
        "similarity": found.similarity.reshape(found.kept.size, -1),
    }
    return columns, found.batch_size


def _perturbation(task: Task) -> Measured:
    from memindex.probes.perturbation import perturb

    batch, settings = task.batch, task.settings
    found = perturb(
        task.loaded,
        batch.prefixes,
        batch.suffixes,
        batch.sequence_ids,
        task.text.reshape(-1),
        settings.draws,
        settings.seed,
        task.batch_size,
        task.progress,
    )
    rows, draws, prefix = found.kept.shape
    columns = {
        **_group(task, draws),
        "draw": np.tile(np.arange(draws), rows),
        "continuation_length": np.full(rows * draws, batch.suffixes.shape[1]),
        "replacements": found.replacements.reshape(-1, prefix),
        "kept": found.kept.reshape(-1, prefix),
    }
    return columns, found.batch_size


def _layer_decoding(task: Task) -> Measured:
    from memindex.probes.layer_decoding import decode_layers

    batch = task.batch
    found = decode_layers(task.loaded, batch.prefixes, batch.suffixes, task.batch_size, task.progress)
    rows, streams, tokens = found.rank.shape
    columns = {
        **_group(task, streams),
        "layer": np.tile(np.arange(streams), rows),
        "layers": np.full(rows * streams, streams - 1),
        "probability": found.probability.reshape(-1, tokens),
        "rank": found.rank.reshape(-1, tokens),
        "entropy": found.entropy.reshape(-1, tokens),
    }
    return columns, found.batch_size


def _head_importance(task: Task) -> Measured:
    from memindex.probes.head_ablation import MEAN, NORM_AFTER, ablate_heads, head_means

    batch, by = task.batch, task.settings.replacement
    means = head_means(task.loaded, task.text[:_FOR_MEANS]) if by == MEAN else None
    found = ablate_heads(task.loaded, batch.prefixes, batch.suffixes, by, means, task.batch_size, task.progress)
    rows, layers, heads = found.kept.shape
    normed = task.loaded.facts["architecture"] in NORM_AFTER
    rescaled = from_matrix(found.rescaled.reshape(-1, heads))
    columns = {
        "sequence_id": np.repeat(batch.sequence_ids, layers),
        "replacement": pa.array([by] * rows * layers, type=pa.string()),
        "layer": np.tile(np.arange(1, layers + 1), rows),
        "layers": np.full(rows * layers, layers),
        "continuation_length": np.full(rows * layers, batch.suffixes.shape[1]),
        "right": found.right.reshape(-1, heads),
        "kept": found.kept.reshape(-1, heads),
        "rescaled": rescaled if normed else pa.nulls(rows * layers, pa.list_(pa.float32())),
    }
    return columns, found.batch_size


def _group(task: Task, times: int) -> dict[str, Any]:
    """The columns that say which sequence it is and what it is compared with, each so many times in a row."""
    selection = task.selection
    pair = np.repeat(selection.pair, times)
    return {
        "sequence_id": np.repeat(selection.ids, times),
        "outcome": pa.array(OUTCOMES).take(pa.array(np.repeat(selection.outcome, times))),
        "drawn": np.repeat(selection.drawn, times),
        "pair": pa.array(pair, mask=pair < 0),
    }


_MEASURES: dict[str, Callable[[Task], Measured]] = {
    COMPRESSION: _compression,
    NOISE: _noise,
    PERTURBATION: _perturbation,
    LAYER_DECODING: _layer_decoding,
    HEAD_IMPORTANCE: _head_importance,
}
