"""What the table `models` says of a model: its shape, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import memindex.models.torch_setup  # noqa: F401

from transformers import PreTrainedConfig, PreTrainedModel

from memindex.models.architectures import count_parameters
from memindex.models.membership import family_of
from memindex.models.sources import CONTEXT_KEYS, read_record


def context_of(config: PreTrainedConfig) -> int | None:
    """Longest input of a model, in tokens; None where its configuration sets no limit."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in CONTEXT_KEYS)
    return next((length for length in found if isinstance(length, int) and length > 0), None)


def facts_of(model: PreTrainedModel, name: str, source: str, revision: str | None) -> dict[str, Any]:
    """The model's row of the table `models`, but for where it comes from."""
    config = model.config.get_text_config()
    parameters, non_embedding = count_parameters(model)
    return {
        "model_id": name,
        "family": None,
        "corpus": None,
        "architecture": model.config.model_type,
        "parameters": parameters,
        "non_embedding_parameters": non_embedding,
        "layers": getattr(config, "num_hidden_layers", None),
        "hidden_size": getattr(config, "hidden_size", None),
        "heads": getattr(config, "num_attention_heads", None),
        "vocabulary": config.vocab_size,
        "context": context_of(model.config),
        "source": source,
        "revision": revision,
        "trained_tokens": None,
    }


def origin_of(source: str | Path, raw: dict[str, Any], revision: str | None, *, untrained: bool) -> dict[str, Any]:
    """Family, corpus and training tokens: by the record beside the weights, else by the table of families."""
    if untrained:
        return {"trained_tokens": 0}
    record = read_record(source)
    if record is not None:
        return {"corpus": record.get("corpus"), "trained_tokens": int(record["trained_tokens"])}
    member = family_of(source, raw)
    return {} if member is None else member.origin(revision)
