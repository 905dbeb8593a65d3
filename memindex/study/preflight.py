"""What can be known about a run before its sequences are sampled and its weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence

from memindex.errors import MemindexError
from memindex.study.planning import Run


def check_models(runs: Sequence[Run]) -> None:
    """Refuse models that are missing, and runs longer than their model's context.

    Raises:
        MemindexError: The first such run.
    """
    if not runs:
        return
    from memindex.models.configs import context_of, read_config

    contexts: dict[tuple[str, str | None], int | None] = {}
    for run in runs:
        key = (run.source, run.model.revision)
        if key not in contexts:
            contexts[key] = context_of(read_config(*key))
        context, length = contexts[key], run.protocol.prefix + run.protocol.suffix
        if context is not None and length > context:
            raise MemindexError(
                f"prefix + suffix are {length} tokens, {run.model.id} reads at most {context}: "
                "choose a shorter --prefix or --suffix"
            )
