"""study.toml: what a study consists of, read into typed values.

Every path in the file is relative to the study's directory. An unknown key is an error, because a misspelt key
would otherwise silently mean its default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from memindex.errors import MemindexError
from memindex.mistaken_paths import not_a_study
from memindex.near_names import hint
from memindex.study.making_config import BuildConfig, CorpusPart, PlantConfig, SeriesConfig, check_together
from memindex.study.model_patterns import fits_any, idle_patterns
from memindex.study.probe_config import ProbeConfig
from memindex.study.protocol import OTHER_CORPUS, ScoringConfig
from memindex.study.toml_values import build, reject_unknown

FILE = "study.toml"

#: The steps of a study, in their order.
STEPS = ("build", "train", "sequences", "frequencies", "scores", "exposures", "spans", "probes")

#: Largest number in [sequences]: what the compiled core can hold on every machine.
MOST = 2**31 - 1


@dataclass(frozen=True)
class SequenceConfig:
    """How sequences are sampled; all lengths in tokens.

    Attributes:
        prefix: Context of a sequence.
        suffix: Its true continuation.
        uniform: Sequences drawn uniformly from the corpus.
        per_bucket: Distinct sequences of each frequency bucket (powers of two), at most.
        heldout: Sequences from the held-out index.
        seed: Seed of all that is drawn.
        per_domain: Distinct sequences of each frequency bucket in each domain, at most.
    """

    prefix: int = 32
    suffix: int = 32
    uniform: int = 2000
    per_bucket: int = 500
    heldout: int = 1000
    seed: int = 0
    per_domain: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("prefix", 1),
            ("suffix", 1),
            ("uniform", 0),
            ("per_bucket", 0),
            ("heldout", 0),
            ("seed", 0),
            ("per_domain", 0),
        ):
            if getattr(self, name) < least:
                raise MemindexError(f"sequences: {name} must be at least {least}")
            if getattr(self, name) > MOST:
                raise MemindexError(f"sequences: {name} must be at most {MOST}")


@dataclass(frozen=True)
class FrequencyConfig:
    """What is counted beside the sequences.

    Attributes:
        ngrams: Lengths of the n-grams of each sequence that are counted, in tokens.
    """

    ngrams: tuple[int, ...] = (1, 5)

    def __post_init__(self) -> None:
        if len(set(self.ngrams)) < len(self.ngrams):
            raise MemindexError("frequencies: ngrams names a length twice")


@dataclass(frozen=True)
class ModelConfig:
    """One model of the study.

    Attributes:
        id: Its name in the tables.
        source: A folder, relative to the study's directory, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        trained_tokens: Tokens seen in training, where the model's own files don't tell.
        control: `other-corpus` for a model that never saw the corpus.
    """

    id: str
    source: str
    revision: str | None = None
    trained_tokens: int | None = None
    control: str | None = None

    def __post_init__(self) -> None:
        if self.trained_tokens is not None and not 0 <= self.trained_tokens < 1 << 63:
            raise MemindexError(f"models: trained_tokens of {self.id} must be between 0 and 2^63 - 1")
        if self.control not in (None, OTHER_CORPUS):
            raise MemindexError(
                f"models: unknown control {self.control!r} of {self.id}; a model can be marked {OTHER_CORPUS}, "
                "other controls stand in [scoring]"
            )


@dataclass(frozen=True)
class StudyConfig:
    """A whole study.toml, with absolute paths.

    `models` are those of [[models]] and those that [[train]] makes, checkpoints before the model they lead to.

    Attributes:
        name: What reports call the study; the folder's name where it is left out.
        index: The index of the corpus.
        heldout: An index of texts that no model saw.
        planted: A folder of `memindex plant`, whose texts are scored too.
    """

    directory: Path
    name: str
    index: Path
    heldout: Path | None = None
    planted: Path | None = None
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    frequencies: FrequencyConfig = field(default_factory=FrequencyConfig)
    models: tuple[ModelConfig, ...] = ()
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    build: BuildConfig | None = None
    corpus: tuple[CorpusPart, ...] = ()
    other: tuple[CorpusPart, ...] = ()
    plant: PlantConfig | None = None
    train: tuple[SeriesConfig, ...] = ()

    @property
    def tables(self) -> Path:
        """The directory of the study's Parquet tables."""
        return self.directory / "tables"

    def indexes(self) -> dict[str, Path]:
        """The study's indexes by the name SQL uses for them: the name of their directory."""
        paths = [self.index] if self.heldout is None else [self.index, self.heldout]
        return {path.name: path for path in paths}


def load_study(directory: str | Path) -> StudyConfig:
    """Read DIRECTORY/study.toml; a missing file or an unknown key raises MemindexError."""
    root = Path(directory).resolve()
    file = root / FILE
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise MemindexError(not_a_study(directory)) from None
    except OSError as error:
        raise MemindexError(f"can't read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise MemindexError(f"{file}: {error}") from None
    return parse_study(text, root)


def parse_study(text: str, root: Path) -> StudyConfig:
    """What the text of a study.toml says, for a study in the directory `root`, which need not exist."""
    file = root / FILE
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MemindexError(f"{file}: {error}") from None
    texts, lists = ("name", "index", "heldout", "planted"), ("models", "corpus", "other", "train")
    tables = ("sequences", "frequencies", "scoring", "probes", "build", "plant")
    reject_unknown(file, "", raw, {*texts, *lists, *tables})
    if "index" not in raw:
        raise MemindexError(f'{file}: the key index is missing; write: index = "path/to/index"')
    for key in texts:
        if not isinstance(raw.get(key, ""), str):
            raise MemindexError(f"{file}: {key} must be text in quotes")
    for key in lists:
        if not isinstance(raw.get(key, []), list):
            raise MemindexError(f"{file}: write each of the {key} under its own [[{key}]]")
    series = tuple(build(SeriesConfig, one, file, "train") for one in raw.get("train", []))
    listed = tuple(build(ModelConfig, m, file, "models") for m in raw.get("models", []))
    config = StudyConfig(
        directory=root,
        name=raw.get("name", root.name),
        index=(root / raw["index"]).resolve(),
        heldout=(root / raw["heldout"]).resolve() if "heldout" in raw else None,
        planted=(root / raw["planted"]).resolve() if "planted" in raw else None,
        sequences=build(SequenceConfig, raw.get("sequences", {}), file, "sequences"),
        frequencies=build(FrequencyConfig, raw.get("frequencies", {}), file, "frequencies"),
        models=(*listed, *_trained(series, [model.id for model in listed], file)),
        scoring=build(ScoringConfig, raw.get("scoring", {}), file, "scoring"),
        probes=build(ProbeConfig, raw.get("probes", {}), file, "probes"),
        build=build(BuildConfig, raw["build"], file, "build") if "build" in raw else None,
        corpus=tuple(build(CorpusPart, part, file, "corpus") for part in raw.get("corpus", [])),
        other=tuple(build(CorpusPart, part, file, "other") for part in raw.get("other", [])),
        plant=build(PlantConfig, raw["plant"], file, "plant") if "plant" in raw else None,
        train=series,
    )
    _check_names(config, file)
    longest = config.sequences.prefix + config.sequences.suffix
    if not all(1 <= n <= longest for n in config.frequencies.ngrams):
        raise MemindexError(f"{file}: [frequencies] ngrams must be between 1 and {longest}, the tokens of a sequence")
    return config


def _trained(series: tuple[SeriesConfig, ...], taken: list[str], file: Path) -> Iterator[ModelConfig]:
    """The models that [[train]] makes, with their checkpoints."""
    try:
        check_together(series, taken)
    except MemindexError as error:
        raise MemindexError(f"{file}: {error}") from None
    for training in (training for one in series for training in one.trainings()):
        control = OTHER_CORPUS if training.series.other else None
        for model_id, folder in training.checkpoints():
            yield ModelConfig(model_id, f"models/{training.id}/{folder}", control=control)
        yield ModelConfig(training.id, f"models/{training.id}", control=control)


def _check_names(config: StudyConfig, file: Path) -> None:
    """Names tell rows of the tables apart, so they must differ; what is made needs what it is made of."""
    for key, there, needed, what in (
        ("build", config.build, config.corpus, "[[corpus]]"),
        ("corpus", config.corpus, config.build, "[build]"),
        ("other", config.other, config.build, "[build]"),
        ("plant", config.plant, config.planted and config.heldout and config.build, "planted, heldout and [build]"),
        ("train", any(one.other for one in config.train), config.other, "[[other]]"),
    ):
        if there and not needed:
            raise MemindexError(f"{file}: {key} needs {what} beside it")
    if config.heldout is not None and config.heldout.name == config.index.name:
        raise MemindexError(
            f"{file}: index and heldout are both called {config.index.name}: rename one of the directories"
        )
    if config.other and "other" in config.indexes():
        raise MemindexError(f"{file}: the index of [[other]] is called other: give index and heldout other names")
    ids = [model.id for model in config.models]
    for key, patterns in (
        ("[probes] models", config.probes.models if config.probes.run else ()),
        ("[scoring] controlled", config.scoring.controlled if config.scoring.controls else ()),
    ):
        if ids and (idle := idle_patterns(patterns, ids)):
            raise MemindexError(f"{file}: {key} names no model of the study ({', '.join(idle)}); {hint(idle[0], ids)}")
    for model_id in ids:
        if ids.count(model_id) > 1:
            raise MemindexError(f"{file}: two models have the id {model_id}: give each [[models]] its own")


def with_models(config: StudyConfig, patterns: str | Sequence[str]) -> StudyConfig:
    """A study with some of its models alone: those whose ids fit one of the shell patterns.

    The rest of it stays as it is, so that several machines can each do some of the models, and their tables be put
    together afterwards.

    Raises:
        MemindexError: A pattern that no model fits.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    models = tuple(model for model in config.models if fits_any(model.id, patterns))
    if idle := idle_patterns(patterns, [model.id for model in config.models]):
        raise MemindexError(
            f"no model of the study is called {' or '.join(idle)}; "
            f"{hint(idle[0], [model.id for model in config.models])}"
        )
    trainings = [training for series in config.train for training in series.trainings()]
    # A checkpoint needs its model's training.
    kept = [one for one in trainings if any(fits_any(model_id, patterns) for model_id in one.model_ids)]
    return replace(config, models=models, train=tuple(training.alone() for training in kept))
