"""What a run asks of a model: context and continuation lengths, decoding, controls, and how the model is loaded.

A study's protocol stands in the section [scoring] of study.toml, or in the options of `memindex run`. It describes one
run or several: every prefix length and every control is a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from memindex.errors import MemindexError
from memindex.near_names import hint
from memindex.study.model_patterns import fits_any

GREEDY, SAMPLED = "greedy", "sampled"

#: Continuations compared with the suffix of another sequence: what chance alone matches.
SHUFFLED = "shuffled-suffixes"
#: The model's own shape with random weights.
UNTRAINED = "untrained"
#: A model that never saw the corpus; only the user knows.
OTHER_CORPUS = "other-corpus"
CONTROLS = (SHUFFLED, UNTRAINED, OTHER_CORPUS)

DTYPES = ("float32", "bfloat16", "float16")

#: Seed of an untrained model's weights, and of the permutation of suffixes.
CONTROL_SEED = 0


@dataclass(frozen=True)
class Protocol:
    """How one run is made.

    Attributes:
        prefix: Context tokens given to the model: the last ones of the sequences' prefixes.
        suffix: Continuation tokens compared: the first ones of the sequences' suffixes.
        decoding: greedy or sampled.
        seed: Seed of sampling; None when greedy.
        top_k: Likeliest tokens that sampling draws from; None for all, and when greedy.
        temperature: Divisor of the logits in sampling; None when greedy.
        dtype: float32, bfloat16 or float16; None is float32 on the CPU and the checkpoint's own on a GPU.
        attention: Attention implementation; None is transformers' choice.
        control: What makes the run a baseline (one of CONTROLS), or None.
        retokenized: Whether the model gets the sequences' texts in its own tokens.
    """

    prefix: int
    suffix: int
    decoding: str = GREEDY
    seed: int | None = None
    top_k: int | None = None
    temperature: float | None = None
    dtype: str | None = None
    attention: str | None = None
    control: str | None = None
    retokenized: bool = False

    def label(self) -> str:
        """All that tells runs of one model apart, as a run's id shows it."""
        words = [f"{self.prefix}+{self.suffix}"]
        if self.decoding == SAMPLED:
            words.append(f"seed={self.seed}")
            words += [f"top-k={self.top_k}"] if self.top_k is not None else []
            # All digits: temperatures that differ in the last one are different runs.
            words += [f"temperature={self.temperature}"] if self.temperature != 1 else []
        anew = "retokenized" if self.retokenized else None
        return " ".join([*words, *filter(None, (self.dtype, self.attention, anew, self.control))])


@dataclass(frozen=True)
class ScoringConfig:
    """The section [scoring] of study.toml: the protocols that models are scored under.

    Attributes:
        prefix: Context lengths in tokens, one run each; empty is the whole prefix of the sequences.
        suffix: Continuation tokens compared; None is the whole suffix.
        decoding: greedy or sampled; None is greedy.
        seed: Seed of sampling; 0 by default.
        top_k: Likeliest tokens that sampling draws from; None for all.
        temperature: Divisor of the logits in sampling; 1 by default.
        dtype: Type of the weights; None is float32 on the CPU and the checkpoint's own on a GPU.
        attention: Attention implementation: sdpa, eager, flash_attention_2, …
        controls: Runs beside the model's own: shuffled-suffixes, untrained.
        controlled: Ids of the models that have them, shell patterns (`*-25M`); all by default.
        retokenize: Give models the sequences' texts in their own tokens instead of the index's.

    Raises:
        MemindexError: A value that makes no protocol.
    """

    prefix: tuple[int, ...] = ()
    suffix: int | None = None
    decoding: str | None = None
    seed: int | None = None
    top_k: int | None = None
    temperature: float | None = None
    dtype: str | None = None
    attention: str | None = None
    controls: tuple[str, ...] = ()
    controlled: tuple[str, ...] = ("*",)
    retokenize: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no protocol."""
        if any(length < 1 for length in self.prefix) or (self.suffix is not None and self.suffix < 1):
            raise MemindexError("scoring: prefix and suffix must be at least 1")
        _known("decoding", self.decoding, (GREEDY, SAMPLED))
        _known("dtype", self.dtype, DTYPES)
        for control in self.controls:
            _known("control", control, (SHUFFLED, UNTRAINED))
        sampling = [name for name in ("seed", "top_k", "temperature") if getattr(self, name) is not None]
        if sampling and self.decoding != SAMPLED:
            raise MemindexError(f"scoring: {sampling[0]} is for sampled continuations: ask for decoding {SAMPLED}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise MemindexError("scoring: seed must be between 0 and 2^63 - 1")
        if self.top_k is not None and not 1 <= self.top_k < 1 << 31:
            raise MemindexError("scoring: top_k must be at least 1 and below 2^31")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature > 0):
            raise MemindexError("scoring: temperature must be above 0")
        if self.attention is not None and (not self.attention or self.attention != self.attention.strip()):
            raise MemindexError("scoring: attention must be a name: sdpa, eager, flash_attention_2, …")

    def of_model(self, model_id: str) -> ScoringConfig:
        """What is asked of one model: without controls where it is to have none."""
        wanted = fits_any(model_id, self.controlled)
        return self if wanted else replace(self, controls=())

    def protocols(self, prefix: int, suffix: int) -> Iterator[Protocol]:
        """Every protocol asked for, for sequences of `prefix` + `suffix` tokens.

        Those of the model's own weights come first, those of random ones after them.

        Raises:
            MemindexError: A length beyond that of the sequences.
        """
        lengths = tuple(dict.fromkeys(self.prefix)) or (prefix,)
        compared = self.suffix or suffix
        for name, wanted, there in (("prefix", max(lengths), prefix), ("suffix", compared, suffix)):
            if wanted > there:
                raise MemindexError(
                    f"a {name} of {wanted} tokens is asked for, the study's sequences have {there}: "
                    f"choose a shorter one, or sample longer sequences in a new study"
                )
        sampled = self.decoding == SAMPLED
        for control in (None, *(c for c in (SHUFFLED, UNTRAINED) if c in self.controls)):
            for length in lengths:
                yield Protocol(
                    prefix=length,
                    suffix=compared,
                    decoding=SAMPLED if sampled else GREEDY,
                    seed=(self.seed or 0) if sampled else None,
                    top_k=self.top_k,
                    temperature=(1.0 if self.temperature is None else float(self.temperature)) if sampled else None,
                    dtype=self.dtype,
                    attention=self.attention,
                    control=control,
                    retokenized=self.retokenize,
                )


def _known(name: str, value: str | None, names: tuple[str, ...]) -> None:
    if value is not None and value not in names:
        raise MemindexError(f"scoring: unknown {name} {value!r}; {hint(value, names)}")
