"""Loading a causal language model from a folder or the hub, with its row of the table `models`.

Only code that ships with transformers runs: a repository that brings its own modelling code is refused.
Weights that the checkpoint lacks are refused too, because transformers would fill them with random numbers
and the model would merely look as if it had memorized nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.architectures import count_parameters
from memindex.models.runtime import device_name, find_device, no_progress_bars
from memindex.models.training import RECORD

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be scored.

    Attributes:
        model: The model, in evaluation mode on its device.
        model_id: Name of the model in the study.
        device: `cpu`, or the GPU's name.
        dtype: Floating-point type of the weights: float32, bfloat16 or float16.
        attention: Attention implementation: sdpa, eager, …
        facts: One row of the table `models`.
    """

    model: PreTrainedModel
    model_id: str
    device: str
    dtype: str
    attention: str
    facts: dict[str, Any]


def load_model(
    source: str | Path,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    model_id: str | None = None,
) -> LoadedModel:
    """Load a transformers causal language model.

    Args:
        source: A local folder, or a name on the Hugging Face hub.
        revision: Branch, tag or commit of a hub model.
        device: cpu or cuda; None takes a GPU where there is one.
        dtype: float32, bfloat16 or float16; None is float32 on the CPU and the checkpoint's own type on a
            GPU.
        model_id: Name of the model in the study; by default the last part of `source`, with `@revision`.

    Raises:
        MemindexError: The model is missing or unreadable, its code is not part of transformers, weights are
            missing, or the device is absent.
    """
    if dtype is not None and dtype not in DTYPES:
        raise MemindexError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
    where = find_device(device)
    wanted: torch.dtype | str = DTYPES[dtype] if dtype else "auto"
    if dtype is None and where.type == "cpu":
        wanted = torch.float32
    folder = Path(source).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise MemindexError(f"{source} has no config.json; name a folder saved by transformers or memindex train")
    model = _read(folder if folder.is_dir() else source, revision, wanted).to(where).eval()
    name = model_id or (folder.resolve().name if folder.is_dir() else str(source).rstrip("/").split("/")[-1])
    if model_id is None and revision is not None:
        name = f"{name}@{revision}"
    return LoadedModel(
        model=model,
        model_id=name,
        device=device_name(where),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=str(model.config._attn_implementation),
        facts=_facts(model, name, str(source), revision, _trained_tokens(folder)),
    )


def _read(source: str | Path, revision: str | None, dtype: torch.dtype | str) -> PreTrainedModel:
    options = {} if revision is None else {"revision": revision}
    try:
        with no_progress_bars():
            model, info = AutoModelForCausalLM.from_pretrained(
                str(source), dtype=dtype, trust_remote_code=False, output_loading_info=True, **options
            )
    # transformers, the hub client and safetensors share no base class below Exception.
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise MemindexError(f"can't load the model {source}: {reason}") from error
    if info["missing_keys"]:
        example = min(info["missing_keys"])
        raise MemindexError(f"the model {source} lacks {len(info['missing_keys'])} weights, {example} for example")
    loaded: PreTrainedModel = model
    return loaded


def _trained_tokens(folder: Path) -> int | None:
    """Training tokens by the record beside the weights; None without one."""
    record = folder / RECORD
    if not record.is_file():
        return None
    try:
        return int(json.loads(record.read_text(encoding="utf-8"))["trained_tokens"])
    except (OSError, ValueError, KeyError, TypeError):
        raise MemindexError(f"{record} is not a training record of memindex; remove or replace it") from None


def _facts(
    model: PreTrainedModel, name: str, source: str, revision: str | None, trained_tokens: int | None
) -> dict[str, Any]:
    config = model.config.get_text_config()
    parameters, non_embedding = count_parameters(model)
    return {
        "model_id": name,
        "family": None,
        "corpus": None,
        "architecture": model.config.model_type,
        "parameters": parameters,
        "non_embedding_parameters": non_embedding,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_attention_heads,
        "vocabulary": config.vocab_size,
        "context": config.max_position_embeddings,
        "source": source,
        "revision": revision,
        "trained_tokens": trained_tokens,
    }
