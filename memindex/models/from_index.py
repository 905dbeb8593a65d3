"""Training a model on the tokens of an index: its shards, its vocabulary, its end-of-text id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memindex.errors import MemindexError
from memindex.index.manifest import index_checksum
from memindex.models.architectures import build_model
from memindex.models.sources import TOKENIZER
from memindex.models.training import Progress, TrainingConfig, train

if TYPE_CHECKING:
    from memindex.index.index import Index


#: Rows of the embeddings are a multiple of it, as those of Pythia are of 128.
_MULTIPLE = 64


def train_on_index(
    index: Index,
    architecture: str,
    size: str | int,
    tokens: int,
    out: str | Path,
    *,
    context: int = 256,
    batch_size: int = 16,
    learning_rate: float | None = None,
    seed: int = 0,
    checkpoints: tuple[int, ...] = (),
    compiled: bool | None = None,
    eos_token_id: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build a model of that architecture and size and train it on all shards of an index.

    The index's tokenizer.json lies beside the weights, so that the model can be run on its own.

    Returns:
        The training record (see `memindex.models.training.train`).

    Raises:
        MemindexError: As `build_model` and `train`; or the tokenizer has no end-of-text token and none was given.
    """
    if Path(out).exists():
        raise MemindexError(f"{out} exists; remove it or name another folder")
    eos = index.tokenizer.eos_token_id if eos_token_id is None else eos_token_id
    if eos is None:
        raise MemindexError(f"the tokenizer {index.tokenizer.name} names no end-of-text token: give its id (--eos-id)")
    # Products with odd numbers of columns take slow kernels, in training and wherever the model runs later.
    vocabulary = -(-max(index.manifest.vocabulary, eos + 1) // _MULTIPLE) * _MULTIPLE
    model = build_model(architecture, size, vocabulary, context, seed, eos_token_id=eos)
    config = TrainingConfig(
        tokens=tokens,
        eos_token_id=eos,
        dtype=f"u{index.manifest.token_width}",
        context=context,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        checkpoints=checkpoints,
        compiled=compiled,
    )
    files = [index.file(f"tokenized.{shard}") for shard in range(index.manifest.shards)]
    notes, beside = _of_tokenizer(index)
    return train(model, files, Path(out), config, progress, notes=notes, files=beside)


def _of_tokenizer(index: Index) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the model's ids mean goes with it: a run compares that with the index it takes its sequences from."""
    notes: dict[str, Any] = {"corpus": index.name, "corpus_checksum": index_checksum(index.manifest)}
    if not index.has_tokenizer:
        return notes, {}
    tokenizer = index.tokenizer
    notes |= {"tokenizer": tokenizer.name, "tokenizer_checksum": tokenizer.checksum}
    return notes, {} if tokenizer.definition is None else {TOKENIZER: tokenizer.definition}
