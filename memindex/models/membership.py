"""Which family and checkpoint of `memindex.models.families` a model is, or was meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memindex.models.families import FAMILIES, Checkpoint, Family


class Membership(NamedTuple):
    """What is known of a model by its name: its family, the checkpoint, and whether it is that one or made from it."""

    family: Family
    checkpoint: Checkpoint
    published: bool

    @property
    def corpus(self) -> str:
        """What the checkpoint was trained on."""
        return self.checkpoint.corpus or self.family.corpus

    def trained_tokens(self, revision: str | None) -> int | None:
        """Tokens seen at a revision, as far as the publication or the revision's name tells."""
        if not self.published:
            return None
        if revision is None or revision == "main":
            return self.checkpoint.tokens
        return self.family.revision_tokens(revision)

    def origin(self, revision: str | None) -> dict[str, Any]:
        """What the table `models` says of where it comes from."""
        return {
            "family": self.family.name,
            "corpus": self.corpus,
            "trained_tokens": self.trained_tokens(revision),
        }


def family_of(source: str | Path, config: Mapping[str, Any]) -> Membership | None:
    """The family of a model, by the name it has or comes from, its architecture and shape; None when it is of none.

    The name is that on the hub or of a folder (also of the hub's own cache), or the one that the configuration
    remembers; further words after a published name (`pythia-410m-seed3`) don't matter. Architecture alone does not make
    a member: most Llamas are not OpenLLaMA.

    Args:
        source: Hub name or folder.
        config: The contents of config.json.
    """
    for name in _names(source, config):
        for family in FAMILIES.values():
            # pythia-1b-deduped is not pythia-1b with a word after it.
            for checkpoint in sorted(family.checkpoints, key=lambda c: -len(c.name)):
                base = _last(checkpoint.name)
                if re.fullmatch(re.escape(base) + r"([-_@].*)?", _last(name)) and _fits(family, checkpoint, config):
                    return Membership(family, checkpoint, published=str(source) == checkpoint.name)
    return None


def published_as(name: str) -> Membership | None:
    """The checkpoint that is called so on the hub; None for all other names.

    Pythia's first edition (`…-v0`) has the same shapes; what its revisions saw is not told.
    """
    for family in FAMILIES.values():
        for checkpoint in family.checkpoints:
            if name.removesuffix("-v0") == checkpoint.name:
                return Membership(family, checkpoint, published=name == checkpoint.name)
    return None


def _names(source: str | Path, config: Mapping[str, Any]) -> list[str]:
    cached = [part.removeprefix("models--").replace("--", "/") for part in Path(source).parts if "models--" in part]
    remembered = config.get("_name_or_path")
    return [str(source), *cached, *([remembered] if isinstance(remembered, str) else [])]


def _last(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()


def _fits(family: Family, checkpoint: Checkpoint, config: Mapping[str, Any]) -> bool:
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    hidden = config.get("hidden_size", config.get("n_embd"))
    return (config.get("model_type"), layers, hidden) == (family.architecture, checkpoint.layers, checkpoint.hidden)


def similar(source: str) -> str | None:
    """The hub name that someone who wrote `source` may have meant."""
    names = {_last(c.name): c.name for f in FAMILIES.values() for c in f.checkpoints}
    close = difflib.get_close_matches(_last(source), names, n=1, cutoff=0.75)
    return names[close[0]] if close else None


def find_instead(source: str | Path) -> str | None:
    """The published conversion (`…-hf`) of a checkpoint that brings code of its own, or None."""
    wanted = f"{_last(str(source))}-hf"
    names = (checkpoint.name for family in FAMILIES.values() for checkpoint in family.checkpoints)
    return next((name for name in names if _last(name) == wanted), None)
