"""Loading a causal language model from a folder or the hub, with its row of the table `models`.

Only code that ships with transformers runs, and weights come from safetensors or from pickles that hold nothing but
tensors. Weights that the checkpoint lacks are refused, because transformers would fill them with random numbers and the
model would merely look as if it had memorized nothing. What generation settings the checkpoint brings does not matter:
nothing here calls `generate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.facts import facts_of, origin_of
from memindex.models.membership import find_instead
from memindex.models.runtime import device_name, find_device, no_progress_bars
from memindex.models.sources import as_folder, first_line, read_config

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
        facts: One row of the table `models`. `context` is None for a model without a longest input.
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
    attention: str | None = None,
    *,
    model_id: str | None = None,
    random_weights_seed: int | None = None,
) -> LoadedModel:
    """Load a transformers causal language model.

    Args:
        source: A local folder, or a name on the Hugging Face hub.
        revision: Branch, tag or commit of a hub model.
        device: cpu or cuda; None takes a GPU where there is one.
        dtype: float32, bfloat16 or float16; None is float32 on the CPU and the checkpoint's own type on a
            GPU.
        attention: Attention implementation of transformers: sdpa, eager, flash_attention_2, …; None is the model's
            default.
        model_id: Name of the model in the study; by default the last part of `source`, with `@revision`.
        random_weights_seed: Takes the model's shape alone, with random weights: the control that was never trained.
            Equal seeds give equal weights on one kind of device; torch's own random state stays as it is.

    Raises:
        MemindexError: The model is missing, gated or unreadable, the hub can't be reached, its code is not part of
            transformers, weights are missing, or device or attention are not to be had.
    """
    if dtype is not None and dtype not in DTYPES:
        raise MemindexError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
    where = find_device(device)
    folder = as_folder(source)
    if folder is not None and revision is not None:
        raise MemindexError(f"{source} is a folder, which has no revisions; leave out {revision!r}")
    raw = read_config(source, revision)
    config = _config(folder or source, raw, revision)
    origin = origin_of(source, raw, revision, untrained=random_weights_seed is not None)
    wanted: torch.dtype | str = DTYPES[dtype] if dtype else torch.float32 if where.type == "cpu" else "auto"
    if random_weights_seed is None:
        model = _read(folder or source, config, revision, wanted, attention, where)
    else:
        model = _random(source, config, wanted, attention, where, random_weights_seed)
    name = model_id or _name(source, folder, revision, random_weights_seed)
    return LoadedModel(
        model=model.eval(),
        model_id=name,
        device=device_name(where),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=str(model.config._attn_implementation),
        facts=facts_of(model, name, str(source), revision) | origin,
    )


def _name(source: str | Path, folder: Path | None, revision: str | None, seed: int | None) -> str:
    name = folder.resolve().name if folder is not None else str(source).rstrip("/").split("/")[-1]
    name = name if revision is None else f"{name}@{revision}"
    return name if seed is None else f"{name}-untrained-{seed}"


def _config(source: str | Path, raw: dict[str, Any], revision: str | None) -> PreTrainedConfig:
    """The configuration, of an architecture that transformers has."""
    options = {} if revision is None else {"revision": revision}
    try:
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False, **options)
    # transformers, the hub client and safetensors share no base class below Exception.
    except Exception as error:
        if "auto_map" in raw or raw.get("model_type") == "hf_olmo":
            raise MemindexError(_own_code(source)) from error
        raise MemindexError(f"can't load the model {source}: {first_line(error)}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        if "AutoModelForCausalLM" in raw.get("auto_map", {}):
            raise MemindexError(_own_code(source))
        raise MemindexError(
            f"can't load the model {source}: {config.model_type} is no causal language model; "
            "memindex scores models that predict the next token"
        )
    return config


def _own_code(source: str | Path) -> str:
    instead = find_instead(source)
    return f"the model {source} needs code of its own, which memindex does not run: " + (
        f"use {instead}" if instead else "use a checkpoint converted to an architecture of transformers"
    )


def _read(
    source: str | Path,
    config: PreTrainedConfig,
    revision: str | None,
    dtype: torch.dtype | str,
    attention: str | None,
    device: torch.device,
) -> PreTrainedModel:
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    if attention is not None:
        options["attn_implementation"] = attention
    if device.type != "cpu" and find_spec("accelerate") is not None:
        # Weight by weight to the GPU, so that a model never lies whole in the machine's own memory.
        options["device_map"] = {"": device}
    try:
        with no_progress_bars():
            model, info = AutoModelForCausalLM.from_pretrained(
                str(source),
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                weights_only=True,
                generation_config=GenerationConfig(),
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise MemindexError(_load_problem(source, config, attention, error)) from error
    if info["missing_keys"]:
        example = min(info["missing_keys"])
        raise MemindexError(f"the model {source} lacks {len(info['missing_keys'])} weights, {example} for example")
    loaded: PreTrainedModel = model.to(device)
    return loaded


def _random(
    source: str | Path,
    config: PreTrainedConfig,
    dtype: torch.dtype | str,
    attention: str | None,
    device: torch.device,
    seed: int,
) -> PreTrainedModel:
    """A model of that configuration with the random weights of its architecture."""
    own = config.get_text_config().dtype
    given = dtype if isinstance(dtype, torch.dtype) else own if isinstance(own, torch.dtype) else torch.float32
    options = {} if attention is None else {"attn_implementation": attention}
    try:
        # On the device itself: random numbers for billions of weights would take the CPU minutes.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
            _seed(device, seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=given, **options)
    except Exception as error:
        raise MemindexError(_load_problem(source, config, attention, error)) from error
    return model.to(device)


def _seed(device: torch.device, seed: int) -> None:
    """Seed this device alone; torch.manual_seed would reach other GPUs, whose state nobody keeps."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _load_problem(source: str | Path, config: PreTrainedConfig, attention: str | None, error: Exception) -> str:
    reason = first_line(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"the GPU has too little memory for {source}; use --dtype bfloat16, or a larger GPU"
    if attention is not None and attention not in ("sdpa", "eager"):
        return f"can't load {source} with the attention {attention!r}: {reason}; sdpa and eager are always there"
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        return f"the model {source} is quantised ({method or 'in a way it does not name'}): {reason}"
    if "weights_only" in str(error).lower() or "UnpicklingError" in type(error).__name__:
        return f"the weights of {source} are a pickle that holds more than tensors; memindex loads no such file"
    return f"can't load the model {source}: {reason}"
