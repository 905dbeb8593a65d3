"""The options of commands that score models: protocol, device, engine; and how such a command shows its work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from memindex.study.protocol import DTYPES, GREEDY, SAMPLED, ScoringConfig

if TYPE_CHECKING:
    from memindex.study.config import ModelConfig, StudyConfig
    from memindex.study.running import RunOptions

Command = Callable[..., Any]


def _lengths(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    """Token counts, each written as 8 or as 4,8,16."""
    for value in values:
        if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", value):
            raise click.BadParameter(f"{value!r} is not a number of tokens, nor several with commas between (4,8,16)")
    return tuple(int(number) for value in values for number in value.split(","))


def _share(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """A share of the work, written as 3/16."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value or "")
    if value is not None and not match:
        raise click.BadParameter(f"{value!r} is not a share of the units; write for example 3/16")
    return (int(match[1]), int(match[2])) if match else None


#: Options that say what a run is; the same as the section [scoring] of study.toml, which they override.
PROTOCOL = (
    click.option(
        "--prefix",
        multiple=True,
        metavar="TOKENS",
        callback=_lengths,
        help="Context tokens: the last N of each prefix; or 4,8,16.",
    ),
    click.option("--suffix", type=click.IntRange(1), help="Continuation tokens: the first N of each suffix."),
    click.option("--decoding", type=click.Choice([GREEDY, SAMPLED]), help="[default: greedy]"),
    click.option("--seed", type=click.IntRange(0), help="Seed of sampled continuations. [default: 0]"),
    click.option("--top-k", type=click.IntRange(1), help="Likeliest tokens to sample from. [default: all]"),
    click.option("--temperature", type=float, help="Divisor of the logits in sampling. [default: 1]"),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        help="Type of the weights. [default: the checkpoint's own on a GPU, float32 on the CPU]",
    ),
    click.option(
        "--retokenize", is_flag=True, help="Give models with another tokenizer the texts in their own tokens."
    ),
    click.option(
        "--attention", help="Attention implementation: sdpa, eager, flash_attention_2, … [default: the model's]"
    ),
)

#: Options that say where a run is done.
WHERE = (
    click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: a GPU where there is one]"),
    click.option("--batch-size", type=click.IntRange(1), help="Sequences per forward pass. [default: what fits]"),
    click.option(
        "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]), help="Who runs it."
    ),
    click.option("--workers", type=click.IntRange(1), help="Processes, or Ray actors. [default: one per GPU]"),
    click.option("--unit", metavar="I/N", callback=_share, help="Do only this share of the units, for job arrays."),
    click.option(
        "--unit-size",
        type=click.IntRange(1),
        help="Sequences per unit, the same in all jobs. [default: 16384; of probes 1024]",
    ),
)


def with_options(*groups: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """A decorator that adds groups of options, in their order."""

    def add(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


def scoring_from(base: ScoringConfig, given: dict[str, Any], controls: Sequence[str] = ()) -> ScoringConfig:
    """The study's protocols, changed as the PROTOCOL options say; takes those out of `given`."""
    options = {name: given.pop(name) for name in ("suffix", "decoding", "seed", "top_k", "temperature", "dtype")}
    options |= {"attention": given.pop("attention"), "retokenize": given.pop("retokenize") or None}
    changes = {name: value for name, value in options.items() if value is not None}
    prefix = given.pop("prefix")
    if changes.get("decoding") not in (None, base.decoding):
        base = replace(base, decoding=None, seed=None, top_k=None, temperature=None)
    changes |= {"prefix": prefix} if prefix else {}
    changes |= {"controls": tuple(dict.fromkeys((*base.controls, *controls)))}
    return replace(base, **changes)


def options_from(given: dict[str, Any]) -> RunOptions:
    """Where it runs, from the WHERE options; takes them out of `given`."""
    from memindex.study.running import RunOptions

    part, unit_size = given.pop("unit"), given.pop("unit_size")
    names = ("device", "batch_size", "engine", "workers")
    return RunOptions(part=part, unit_size=unit_size, **{name: given.pop(name) for name in names})


def run_and_tell(
    config: StudyConfig,
    options: RunOptions,
    scoring: ScoringConfig,
    models: Sequence[ModelConfig] | None = None,
    only: str | None = None,
) -> None:
    """Run a study with a bar per run on stderr, and one line of what was done at the end."""
    from memindex.cli.output import note
    from memindex.cli.progress_bars import progress_bar
    from memindex.cli.stopping import resumable
    from memindex.study.running import run_study

    with progress_bar("sequences") as progress, resumable():
        done = run_study(config, models=models, scoring=scoring, only=only, options=options, progress=progress)
    if done.sequences:
        rate = done.sequences / done.seconds
        note(f"scored {done.sequences:,} sequences in {done.seconds:,.1f} s ({rate:,.0f} sequences/s, with loading)")
