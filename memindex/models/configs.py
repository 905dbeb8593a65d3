"""A model's configuration, read without its weights."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from memindex.errors import MemindexError


def read_config(source: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model (of its language part, where it has others).

    Args:
        source: A local folder, or a name on the Hugging Face hub.
        revision: Branch, tag or commit of a hub model.

    Raises:
        MemindexError: There is no such model, or it can't be reached.
    """
    folder = Path(source).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise MemindexError(f"{source} has no config.json; name a folder saved by transformers or memindex train")
    place = str(folder) if folder.is_dir() else source
    try:
        return AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False).get_text_config()
    # transformers and the hub client share no base class below Exception.
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise MemindexError(f"can't load the model {source}: {reason}") from error


def context_of(config: PretrainedConfig) -> int | None:
    """The longest input in tokens; None where the configuration names none."""
    context = getattr(config, "max_position_embeddings", None)
    return context if isinstance(context, int) else None
