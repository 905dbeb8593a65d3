"""What a study will do, found out before any of it is done: `memindex study check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


#: How much of something there is: number, list or name by key.
Facts = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """One piece of a study.

    Attributes:
        kind: index, planted, model, sequences, runs or probes.
        name: Which index or model; None where there is only one.
        amount: How much of it there is, for people.
        there: Whether it is there already; None: not looked.
        facts: How much of it there is, as numbers, lists and names.
    """

    kind: str
    name: str | None
    amount: str
    there: bool | None = None
    facts: Facts = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"{self.kind} {self.name}" if self.name else self.kind


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
            facts: Facts = {
                "tokens": manifest.tokens,
                "documents": manifest.documents,
                "domains": len(manifest.domains),
            }
            amount = f"{manifest.tokens:,} tokens, {manifest.documents:,} documents, {len(manifest.domains):,} domains"
        else:
            files = [file for part in parts for file in _files(config, part, held_out)]
            size = sum(file.bytes for file in files)
            facts = {"source_bytes": size or None}
            amount = f"of {size / 1e6:,.1f} MB" if size else "of text installed on this machine"
        yield Planned("index", name, amount, path not in missing, facts)


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
        facts: Facts = {
            "texts_per_number": plant.sequences,
            "copies": list(plant.copies),
            "lengths": list(plant.lengths or ()),
            "documents": documents,
        }
        yield Planned("planted", None, amount, config.planted.exists(), facts)


def _models(config: StudyConfig) -> Iterator[Planned]:
    missing, corpora = missing_models(config), _corpora(config)
    for training in trainings(config):
        shape = shape_for(parse_size(training.size))
        budget = _budget(training, corpora[training.series.other])
        facts: Facts = {
            "architecture": training.architecture,
            "non_embedding_parameters": shape.parameters,
            "asked_parameters": parse_size(training.size),
            "layers": shape.layers,
            "hidden": shape.hidden,
            "heads": shape.heads,
            "tokens": budget,
            "passes": training.series.passes,
        }
        series = training.series
        length = f"{series.passes:g} times the corpus" if budget is None else f"{budget:,} tokens"
        yield Planned("model", training.id, f"{_shape(training)}, {length}", training not in missing, facts)
    made = {model_id for training in trainings(config) for model_id in training.model_ids}
    for model in config.models:
        if model.id not in made:
            source = source_of(config, model)
            context = _context(config, source, model.revision)
            amount = source if context is None else f"{source}, reads {context:,} tokens"
            facts = {"source": source, "revision": model.revision, "context": context}
            yield Planned("model", model.id, amount, None, facts)


def _budget(training: Training, corpus: _Corpus | None) -> int | None:
    """Tokens that a model is trained on, None where the corpus is not counted; refused where it is too short."""
    series = training.series
    if corpus is not None and corpus.counted:
        return training.tokens(corpus.tokens)
    if corpus is not None and series.tokens is not None and parse_size(series.tokens) > _MARGIN * corpus.tokens:
        training.tokens(corpus.tokens)
    return None if series.tokens is None else parse_size(series.tokens)


def _shape(training: Training) -> str:
    shape = shape_for(parse_size(training.size))
    exact = "" if shape.parameters == parse_size(training.size) else f" (nearest to {training.size})"
    return (
        f"{shape.parameters:,} parameters outside the embeddings{exact}, {shape.layers} layers of {shape.hidden}, "
        f"{shape.heads} heads"
    )


def _context(config: StudyConfig, source: str, revision: str | None) -> int | None:
    """The longest input of a listed model, by its config.json; it must hold the sequences."""
    context = context_of(read_config(source, revision))
    length = config.sequences.prefix + config.sequences.suffix
    if context is not None and context < length:
        raise MemindexError(f"prefix + suffix are {length} tokens, {source} reads at most {context}")
    return context


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
    facts = {
        **{key: getattr(wanted, key) for key in ("prefix", "suffix", "uniform", "per_bucket", "per_domain")},
        "heldout": wanted.heldout if config.heldout is not None else 0,
        "planted": config.planted is not None,
    }
    yield Planned("sequences", None, f"{wanted.prefix} + {wanted.suffix} tokens: {', '.join(kinds)}", there, facts)
    runs = [
        protocol.label()
        for model in config.models
        for protocol in config.scoring.of_model(model.id).protocols(wanted.prefix, wanted.suffix)
    ]
    protocols = Counter(runs)
    labels = ", ".join(f"{number:,} of {label}" for label, number in protocols.items())
    facts = {"runs": len(runs), "protocols": [{"protocol": name, "runs": number} for name, number in protocols.items()]}
    yield Planned("runs", None, f"{len(runs):,}: {labels}" if runs else "none", None, facts)
    for training in trainings(config):
        if training.series.context < wanted.prefix + wanted.suffix:
            raise MemindexError(
                f"prefix + suffix are {wanted.prefix + wanted.suffix} tokens, {training.id} is trained with a context "
                f"of {training.series.context}: choose a longer one, or shorter sequences"
            )


def _probes(config: StudyConfig) -> Iterator[Planned]:
    if config.probes.run:
        models = [model.id for model in config.models if model.control is None and config.probes.takes(model.id)]
        facts = {"probes": list(config.probes.run), "models": models}
        yield Planned("probes", None, f"{', '.join(config.probes.run)} of {len(models):,} models", None, facts)
