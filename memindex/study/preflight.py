"""What can be known about a run before its sequences are sampled and its weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memindex.errors import MemindexError
from memindex.study.config import StudyConfig
from memindex.study.origins import open_index
from memindex.study.planning import Run


def check_models(config: StudyConfig, runs: Sequence[Run]) -> None:
    """Refuse models that are missing or have another tokenizer, and runs longer than their model's context.

    Raises:
        MemindexError: The first such run.
    """
    if not runs:
        return
    from memindex.models.sources import read_config, read_tokenizer
    from memindex.models.tokenizer_check import check_tokenizer

    index = open_index(config, config.index)
    contexts: dict[tuple[str, str | None, bool], int | None] = {}
    for run in runs:
        source, revision, anew = key = (run.source, run.model.revision, run.protocol.retokenized)
        if key not in contexts:
            contexts[key] = context_of(read_config(source, revision))
            if not anew:
                check_tokenizer(index, source, revision)
            elif read_tokenizer(source, revision) is None:
                raise MemindexError(f"{source} comes without a tokenizer: --retokenize needs one")
        context, length = contexts[key], run.protocol.prefix + run.protocol.suffix
        if context is not None and length > context:
            raise MemindexError(
                f"prefix + suffix are {length} tokens, {run.model.id} reads at most {context}: "
                "choose a shorter --prefix or --suffix"
            )


def context_of(config: dict[str, Any]) -> int | None:
    """The longest input in tokens by a model's config.json, where that says so."""
    from memindex.models.sources import CONTEXT_KEYS

    nested = config.get("text_config")
    for settings in (config, nested if isinstance(nested, dict) else {}):
        for name in CONTEXT_KEYS:
            length = settings.get(name)
            if isinstance(length, int) and length > 0:
                return length
    return None
