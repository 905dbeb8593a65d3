"""What is measured inside a study's models: the section [probes] of study.toml."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from memindex.errors import MemindexError
from memindex.near_names import hint
from memindex.study.model_patterns import fits_any

COMPRESSION, NOISE, PERTURBATION, LAYER_DECODING = "compression", "noise", "perturbation", "layer_decoding"
HEAD_IMPORTANCE = "head_importance"

#: Probes of memorized sequences alone; the others compare outcomes.
OF_MEMORIZED = (COMPRESSION, HEAD_IMPORTANCE)

#: What an ablated head can be replaced by: the mean of its layer's other heads, nothing, or its own mean over text.
REPLACEMENTS = ("others", "zero", "mean")

#: The samples of sequences that a probe can take, in the order in which they are tried where none is chosen.
UNIFORM, BUCKET, DOMAIN, PLANTED, HELDOUT = "uniform", "bucket", "domain", "planted", "heldout"
SAMPLES = (UNIFORM, BUCKET, DOMAIN, PLANTED, HELDOUT)

#: The probes, each with a table of its name, and the settings that decide what comes out.
PROBES: dict[str, tuple[str, ...]] = {
    COMPRESSION: ("sequences", "seed"),
    NOISE: ("sequences", "seed", "alphas", "draws"),
    PERTURBATION: ("sequences", "seed", "draws"),
    LAYER_DECODING: ("sequences", "seed"),
    HEAD_IMPORTANCE: ("sequences", "seed", "replacement"),
}

#: Sequences of each outcome or domain where none are named; compression takes all.
DRAWN = 200


@dataclass(frozen=True)
class ProbeConfig:
    """The section [probes] of study.toml.

    Attributes:
        run: Probes that `memindex study run` does; none by default.
        models: Ids of the models that it looks into, shell patterns (`*-25M`); all by default.
        sample: The sample that the sequences of a run are from: uniform, bucket, domain, planted or heldout. None
            takes, for each run, the first of these but heldout with 10 sequences of each outcome that the probe
            compares (for compression 10 memorized ones, for head_importance 20 memorized ones in the most domains).
        sequences: Most sequences of a run: memorized ones for compression (None: all), memorized ones of each domain
            for head_importance (None: 200), else of each outcome (None: 200), drawn at random, and as many matched
            ones.
        seed: Seed of all that is drawn: sequences, noise, replaced tokens.
        alphas: Strengths of noise, 0 to 1: shares of the root mean square of the residual stream.
        draws: How often noise, and the token that replaces one, are drawn.
        replacement: What an ablated head is replaced by: others (the mean of its layer's other heads), zero, or mean
            (its own over the study's first sequences).

    Raises:
        MemindexError: A value that means nothing.
    """

    run: tuple[str, ...] = ()
    models: tuple[str, ...] = ("*",)
    sample: str | None = None
    sequences: int | None = None
    seed: int = 0
    alphas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    draws: int = 3
    replacement: str = REPLACEMENTS[0]

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for name in self.run:
            if name not in PROBES:
                raise MemindexError(f"probes: unknown probe {name!r}; {hint(name, PROBES)}")
        for name, least in (("sequences", 1), ("draws", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < 1 << 31:
                raise MemindexError(f"probes: {name} must be at least {least} and below 2^31")
        if not self.alphas or not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise MemindexError("probes: alphas must be between 0 and 1, one at least: they are shares of the stream")
        if self.sample is not None and self.sample not in SAMPLES:
            raise MemindexError(f"probes: unknown sample {self.sample!r}; {hint(self.sample, SAMPLES)}")
        if self.replacement not in REPLACEMENTS:
            raise MemindexError(
                f"probes: unknown replacement {self.replacement!r}; {hint(self.replacement, REPLACEMENTS)}"
            )
        if len(set(self.alphas)) < len(self.alphas):
            raise MemindexError("probes: alphas names one twice")

    def takes(self, model_id: str) -> bool:
        """Whether `memindex study run` looks into a model."""
        return fits_any(model_id, self.models)

    def settings(self, probe: str) -> dict[str, Any]:
        """What of it decides about the results of one probe."""
        values = dataclasses.asdict(self) | {"alphas": [float(alpha) for alpha in self.alphas]}
        if probe != COMPRESSION:
            values["sequences"] = self.sequences or DRAWN
        return {name: values[name] for name in PROBES[probe]}
