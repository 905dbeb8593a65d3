"""What a study will do, found out before any of it is done: `memindex study check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memindex.corpus.documents import SourceFile
from memindex.corpus.sources import find_files
from memindex.errors import MemindexError
from memindex.index.estimating import estimate_build
from memindex.index.index import Index
from memindex.models.shapes import parse_size, shape_for
from memindex.models.sources import read_config
from memindex.study.config import StudyConfig
from memindex.study.making_config import CorpusPart, Training
from memindex.study.making_indexes import (
    all_indexes,
    build_folder,
    missing_indexes,
    named_tokenizer,
    other_index,
    sources_of,
)
from memindex.study.making_models import missing_models, trainings
from memindex.study.planning import source_of
from memindex.study.preflight import context_of

#: An estimated corpus may be so much larger in truth.
_MARGIN = 1.3


@dataclass(frozen=True)
class Planned:
    """One piece of a study: what it is, how much of it there is, and whether it is there already (None: not looked)."""

    what: str
    amount: str
    there: bool | None = None


def check_study(config: StudyConfig) -> list[Planned]:
    """What a study consists of.

    Raises:
        MemindexError: Something in it can't be done: a source, a tokenizer or a model is missing, a corpus is shorter
            than what is to be trained on it, or a protocol asks for more than the sequences or a model have.
    """
    return [*_indexes(config), *_planted(config), *_models(config), *_sequences(config), *_probes(config)]


def _indexes(config: StudyConfig) -> Iterator[Planned]:
    if config.build is not None and config.build.tokenizer is not None:
        named_tokenizer(config, config.build.tokenizer)
    missing = missing_indexes(config)
    for name, path, parts, held_out in _wanted(config):
        if path not in missing:
            manifest = Index.open(path).manifest
            amount = f"{manifest.tokens:,} tokens, {manifest.documents:,} documents, {len(manifest.domains):,} domains"
        else:
            files = [file for part in parts for file in _files(config, part, held_out)]
            size = sum(file.bytes for file in files)
            amount = f"of {size / 1e6:,.1f} MB" if size else "of text installed on this machine"
        yield Planned(f"index {name}", amount, path not in missing)


def _files(config: StudyConfig, part: CorpusPart, held_out: bool) -> list[SourceFile]:
    sources, options = sources_of(config, part, held_out)
    return find_files(sources, options) if sources else []


def _wanted(config: StudyConfig) -> Iterator[tuple[str, Path, tuple[CorpusPart, ...], bool]]:
    """(name, place, parts it is made of, whether of their held-out texts) of each index."""
    for name, path in all_indexes(config).items():
        yield name, path, config.other if path == other_index(config) else config.corpus, path == config.heldout


def _planted(config: StudyConfig) -> Iterator[Planned]:
    plant = config.plant
    if plant is not None and config.planted is not None:
        copies = ", ".join(map(str, plant.copies))
        of_length = f" and each of {', '.join(map(str, plant.lengths))} tokens" if plant.lengths else ""
        documents = sum(plant.copies) * plant.sequences * len(plant.lengths or (None,))
        amount = f"{plant.sequences:,} texts of each of {copies} copies{of_length}: {documents:,} documents"
        yield Planned("planted", amount, config.planted.exists())


def _models(config: StudyConfig) -> Iterator[Planned]:
    missing, corpora = missing_models(config), _corpora(config)
    for training in trainings(config):
        amount = f"{_shape(training)}, {_budget(training, corpora[training.series.other])}"
        yield Planned(f"model {training.id}", amount, training not in missing)
    made = {model_id for training in trainings(config) for model_id in training.model_ids}
    for model in config.models:
        if model.id not in made:
            yield Planned(f"model {model.id}", _described(config, source_of(config, model), model.revision))


def _budget(training: Training, corpus: _Corpus | None) -> str:
    """How long a model is trained; refused where the corpus is too short for it."""
    series = training.series
    if corpus is not None and corpus.counted:
        return f"{training.tokens(corpus.tokens):,} tokens"
    if corpus is not None and series.tokens is not None and parse_size(series.tokens) > _MARGIN * corpus.tokens:
        training.tokens(corpus.tokens)
    return f"{series.passes:g} times the corpus" if series.passes is not None else f"{series.tokens} tokens"


def _shape(training: Training) -> str:
    shape = shape_for(parse_size(training.size))
    exact = "" if shape.parameters == parse_size(training.size) else f" (nearest to {training.size})"
    return (
        f"{shape.parameters:,} parameters outside the embeddings{exact}, {shape.layers} layers of {shape.hidden}, "
        f"{shape.heads} heads"
    )


def _described(config: StudyConfig, source: str, revision: str | None) -> str:
    """What a listed model is, by its config.json; its context must hold the sequences."""
    context = context_of(read_config(source, revision))
    length = config.sequences.prefix + config.sequences.suffix
    if context is not None and context < length:
        raise MemindexError(f"prefix + suffix are {length} tokens, {source} reads at most {context}")
    return source if context is None else f"{source}, reads {context:,} tokens"


@dataclass(frozen=True)
class _Corpus:
    tokens: int
    counted: bool


def _corpora(config: StudyConfig) -> dict[bool, _Corpus | None]:
    """Tokens of the corpus, and of the other text: counted, or estimated before; None where that can't be done."""
    places = {False: (config.index, config.corpus), True: (other_index(config), config.other)}
    return {other: _corpus(config, *place) for other, place in places.items()} if config.train else {}


def _corpus(config: StudyConfig, index: Path, parts: tuple[CorpusPart, ...]) -> _Corpus | None:
    if index.exists():
        return _Corpus(Index.open(index).manifest.tokens, counted=True)
    if config.build is None or config.build.tokenizer is None or any(part.installed for part in parts):
        return None
    tokenizer, out = named_tokenizer(config, config.build.tokenizer), build_folder(config)
    tokens = 0
    for part in parts:
        sources, options = sources_of(config, part, held_out=False)
        tokens += estimate_build(sources, out, tokenizer=tokenizer, options=options).tokens
    return _Corpus(tokens, counted=False)


def _sequences(config: StudyConfig) -> Iterator[Planned]:
    wanted = config.sequences
    kinds = [f"{wanted.uniform:,} uniform", f"{wanted.per_bucket:,} of each frequency"]
    kinds += [f"{wanted.per_domain:,} of each frequency in each domain"] if wanted.per_domain else []
    kinds += [f"{wanted.heldout:,} held-out"] if config.heldout is not None else []
    kinds += ["the planted ones"] if config.planted is not None else []
    there = (config.tables / "sequences").is_dir()
    yield Planned("sequences", f"{wanted.prefix} + {wanted.suffix} tokens: {', '.join(kinds)}", there)
    runs = [
        protocol.label()
        for model in config.models
        for protocol in config.scoring.of_model(model.id).protocols(wanted.prefix, wanted.suffix)
    ]
    labels = ", ".join(f"{number:,} of {label}" for label, number in Counter(runs).items())
    yield Planned("runs", f"{len(runs):,}: {labels}" if runs else "none")
    for training in trainings(config):
        if training.series.context < wanted.prefix + wanted.suffix:
            raise MemindexError(
                f"prefix + suffix are {wanted.prefix + wanted.suffix} tokens, {training.id} is trained with a context "
                f"of {training.series.context}: choose a longer one, or shorter sequences"
            )


def _probes(config: StudyConfig) -> Iterator[Planned]:
    if config.probes.run:
        models = [model.id for model in config.models if model.control is None and config.probes.takes(model.id)]
        yield Planned("probes", f"{', '.join(config.probes.run)} of {len(models):,} models")
