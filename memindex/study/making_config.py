"""What of a study is made by it: the sections [build], [[corpus]], [[other]], [plant] and [[train]] of study.toml.

A study of published models has none of them. One of models trained for it describes everything from the text on:
which corpus is indexed, which texts are planted in it, which models are trained on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from memindex.errors import MemindexError
from memindex.models.shapes import ARCHITECTURES, parse_size
from memindex.near_names import hint

#: Text that is found on every machine, as a value of `installed`: the Python sources of its packages.
PYTHON = "python"

#: What a tokenizer that is trained can have: all bytes and the end of text at least, ids of two bytes at most.
VOCABULARY = (257, 65_535)


@dataclass(frozen=True)
class BuildConfig:
    """The section [build]: how the indexes are made.

    Attributes:
        tokenizer: A tokenizer.json, its folder, or a tokenizer's name.
        vocabulary: Ids of a tokenizer that is trained on the corpus instead.

    Raises:
        MemindexError: Both or none of them.
    """

    tokenizer: str | None = None
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no index."""
        if (self.tokenizer is None) == (self.vocabulary is None):
            raise MemindexError("build: name a tokenizer, or the vocabulary of one to train on the corpus")
        if self.vocabulary is not None and not VOCABULARY[0] <= self.vocabulary <= VOCABULARY[1]:
            raise MemindexError(f"build: vocabulary must be between {VOCABULARY[0]} and {VOCABULARY[1]}")


@dataclass(frozen=True)
class CorpusPart:
    """One [[corpus]] or [[other]]: texts of one format.

    Attributes:
        sources: Files or folders, relative to the study's directory.
        heldout: The same, of texts that no model is trained on.
        installed: `python` instead of both: Python sources that are installed on this machine, some of them held out.
        text_field: Dotted path of the text.
        domain_field: Dotted path of the domain; None takes the name of the folder.
        domain_sql: An SQL expression whose value is the domain (`index build --domain-sql`).
        include: Shell patterns of file names to take from folders; none means all.

    Raises:
        MemindexError: No text, or two kinds of it.
    """

    sources: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    installed: str | None = None
    text_field: str = "text"
    domain_field: str | None = None
    domain_sql: str | None = None
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what names no text."""
        if self.installed not in (None, PYTHON):
            raise MemindexError(f"corpus: installed can be {PYTHON!r} only, not {self.installed!r}")
        if bool(self.sources) == bool(self.installed) or (self.installed and self.heldout):
            raise MemindexError(f'corpus: name sources (and heldout), or write installed = "{PYTHON}"')


@dataclass(frozen=True)
class PlantConfig:
    """The section [plant]: texts that are put into the corpus so many times (`memindex plant`).

    Attributes:
        copies: How often; each number is as frequent as the others.
        sequences: Texts of each number of copies (and length).
        lengths: Tokens of a text: prefix and suffix where nothing is said. What longer texts begin with, end with and
            have in their middle are sequences of the study.
        seed: Seed of the texts and their order.
    """

    copies: tuple[int, ...]
    sequences: int = 100
    lengths: tuple[int, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class SeriesConfig:
    """One [[train]]: models of these architectures, sizes and seeds, all with the same data in the same order.

    Attributes:
        architectures: transformers model types.
        sizes: Parameters outside the embeddings, as 0.8M.
        tokens: Training tokens, as 20M; no more than the corpus has.
        passes: How often the corpus is read instead.
        context: Tokens of a training window.
        batch_size: Windows of a step.
        learning_rate: Peak; None goes by the model's width.
        seeds: Seeds of weights and data order.
        checkpoints: Training tokens after which a model is also scored, as 5M.
        other: Whether they are trained on the texts of [[other]] instead: controls, which never saw the corpus.

    Raises:
        MemindexError: A value that makes no model.
    """

    architectures: tuple[str, ...]
    sizes: tuple[str, ...]
    tokens: str | None = None
    passes: float | None = None
    context: int = 256
    batch_size: int = 16
    learning_rate: float | None = None
    seeds: tuple[int, ...] = (0,)
    checkpoints: tuple[str, ...] = ()
    other: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no model."""
        for name in self.architectures:
            if name not in ARCHITECTURES:
                raise MemindexError(f"train: unknown architecture {name!r}; {hint(name, ARCHITECTURES)}")
        for text in (*self.sizes, *self.checkpoints, *filter(None, [self.tokens])):
            parse_size(text)
        self._check_length()
        if not (self.architectures and self.sizes and self.seeds):
            raise MemindexError("train: architectures, sizes and seeds must name one at least")
        if min(self.context, self.batch_size) < 1 or not all(0 <= seed < 1 << 63 for seed in self.seeds):
            raise MemindexError("train: context and batch_size must be at least 1, seeds at least 0")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise MemindexError("train: learning_rate must be above 0")

    def _check_length(self) -> None:
        """Refuse what is no length of a training, or no checkpoint on its way."""
        if (self.tokens is None) == (self.passes is None):
            raise MemindexError("train: say how long: tokens, or passes over the corpus")
        if self.passes is not None and not 0 < self.passes <= 10_000:
            raise MemindexError("train: passes must be above 0, and 10,000 at most")
        if self.tokens is not None:
            self.check_checkpoints(parse_size(self.tokens))

    def check_checkpoints(self, budget: int) -> None:
        """Raise MemindexError where one is not before the end of a training on so many tokens."""
        for text in self.checkpoints:
            if parse_size(text) >= budget:
                raise MemindexError(f"train: a checkpoint after {text} tokens is not before the end, {budget:,} tokens")

    def trainings(self) -> Iterator[Training]:
        """The models it stands for, architecture by architecture."""
        for architecture in self.architectures:
            for size in self.sizes:
                yield from (Training(self, architecture, size, seed) for seed in self.seeds)


@dataclass(frozen=True)
class Training:
    """One model to train."""

    series: SeriesConfig
    architecture: str
    size: str
    seed: int

    @property
    def id(self) -> str:
        """Its name in the tables, and that of its folder."""
        marks = [f"seed{self.seed}"] if self.seed else []
        return "-".join([self.architecture, self.size, *marks, *(["other"] if self.series.other else [])])

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Names of all models that it leaves: itself, and its checkpoints."""
        return self.id, *(name for name, _ in self.checkpoints())

    def alone(self) -> SeriesConfig:
        """A series of this model only."""
        return replace(self.series, architectures=(self.architecture,), sizes=(self.size,), seeds=(self.seed,))

    def folder(self, directory: Path) -> Path:
        """Where it is, in a study's directory."""
        return directory / "models" / self.id

    def tokens(self, corpus: int) -> int:
        """Training tokens, for a corpus of so many.

        Raises:
            MemindexError: The corpus is shorter than the budget, or a checkpoint lies beyond it.
        """
        series = self.series
        if series.passes is not None:
            budget = round(series.passes * corpus)
        else:
            budget = parse_size(str(series.tokens))
            if budget > corpus:
                raise MemindexError(
                    f"train: {self.id} is to be trained on {budget:,} tokens, and the corpus has {corpus:,}: write "
                    f"passes = {budget / corpus:.2g} to read it that often, or take fewer tokens"
                )
        series.check_checkpoints(budget)
        return budget

    def checkpoints(self) -> Iterator[tuple[str, str]]:
        """(id, folder below the model's) of each checkpoint."""
        per_step = self.series.batch_size * self.series.context
        for text in self.series.checkpoints:
            yield f"{self.id}@{text}", f"checkpoints/step{-(-parse_size(text) // per_step)}"


def check_together(series: tuple[SeriesConfig, ...], taken: list[str]) -> None:
    """Refuse trained models whose ids are not their own.

    Raises:
        MemindexError: Two have one id.
    """
    seen = set(taken)
    for training in (training for one in series for training in one.trainings()):
        for model_id in training.model_ids:
            if model_id in seen:
                raise MemindexError(f"train: two models are called {model_id}: name each size and seed once")
            if not re.fullmatch(r"[\w.@-]+", model_id):
                raise MemindexError(f"train: {model_id!r} can't be the name of a folder: write sizes as 0.8M")
            seen.add(model_id)
