"""Which runs are asked for, and what each consists of: models times protocols, cut into units.

A run is described by values alone, so that any process on any machine that sees the study's directory can do any of its
units.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memindex.errors import MemindexError
from memindex.mistaken_paths import looks_like_path
from memindex.models.sources import RECORD
from memindex.study.config import ModelConfig, StudyConfig
from memindex.study.protocol import CONTROL_SEED, UNTRAINED, Protocol, ScoringConfig
from memindex.study.study_toml import relative_path
from memindex.tables.store import TableStore

#: Sequences per unit of scoring: what a killed run loses at most.
UNIT = 16_384


@dataclass(frozen=True)
class Run:
    """One model under one protocol on a study's sequences.

    Attributes:
        run_id: Model and protocol; the run's name in the tables.
        model: The model; its id is the one in the tables.
        source: Folder (absolute) or hub name the model is loaded from.
        protocol: How it is scored.
        fingerprint: Tells this state of the model from another one.
        sample: Name of the study's sequences.
        indexes: Where those come from, for what the tables don't hold of them.
    """

    run_id: str
    model: ModelConfig
    source: str
    protocol: Protocol
    fingerprint: str
    sample: str
    indexes: tuple[Path, ...]

    @property
    def weights_seed(self) -> int | None:
        """Seed of random weights; None for the model's own."""
        return CONTROL_SEED if self.protocol.control == UNTRAINED else None


@dataclass(frozen=True)
class Units:
    """A run's units on one kind of device.

    Attributes:
        run: The run.
        device: cpu or cuda. A run's units all come from one kind, because it decides about the type of the weights.
        rows: Sequences in all.
        size: Sequences per unit.
    """

    run: Run
    device: str
    rows: int
    size: int

    def __len__(self) -> int:
        return len(range(0, self.rows, self.size))

    def part(self, number: int) -> slice:
        """The rows of a unit."""
        return slice(number * self.size, min((number + 1) * self.size, self.rows))

    @property
    def key(self) -> str:
        """Tells these units from those of another state of the model, another device or another size; 8 hex digits."""
        made_by = json.dumps([self.run.fingerprint, self.device, self.size, self.run.sample])
        return hashlib.sha256(made_by.encode()).hexdigest()[:8]

    def names(self) -> list[str]:
        """The units' names in their table."""
        key = self.key
        return [f"{self.run.run_id} {key} {self.part(number).start:09d}" for number in range(len(self))]

    @property
    def table(self) -> str:
        """The table that its units go to."""
        return "continuations"

    @property
    def title(self) -> str:
        """What its progress is called."""
        return f"score {self.run.run_id}"

    def done(self, store: TableStore) -> bool:
        """Whether all is finished and said so."""
        return store.has("runs", self.run.run_id)

    def missing(self, store: TableStore) -> list[int]:
        """Numbers of the units that are not finished."""
        return [number for number, name in enumerate(self.names()) if not store.has(self.table, name)]

    def stale(self, store: TableStore) -> list[str]:
        """Units of this run that another state of the model, another device or another size left."""
        ours = re.compile(re.escape(self.run.run_id) + r" [0-9a-f]{8} \d{9}")
        names = set(self.names())
        return [unit for unit in store.units(self.table) if ours.fullmatch(unit) and unit not in names]

    def forget(self, store: TableStore) -> None:
        """Remove the stale units."""
        for stale in self.stale(store):
            store.file(self.table, stale).unlink(missing_ok=True)


def plan_runs(config: StudyConfig, models: Sequence[ModelConfig], scoring: ScoringConfig, sample: str) -> list[Run]:
    """The runs of these models under these protocols, those of one set of weights together.

    Raises:
        MemindexError: A prefix or suffix longer than the sequences', or a folder that is no model.
    """
    return [
        _run(config, model, protocol, sample)
        for model in models
        for protocol in scoring.of_model(model.id).protocols(config.sequences.prefix, config.sequences.suffix)
    ]


def _run(config: StudyConfig, model: ModelConfig, protocol: Protocol, sample: str) -> Run:
    protocol = replace(protocol, control=protocol.control or model.control)
    untrained = protocol.control == UNTRAINED
    if untrained:
        model = replace(model, id=f"{model.id} (untrained)", trained_tokens=0)
    return Run(
        run_id=f"{model.id} {protocol.label()}",
        model=model,
        source=source_of(config, model),
        protocol=protocol,
        fingerprint=model_fingerprint(config, model, CONTROL_SEED if untrained else None),
        sample=sample,
        indexes=tuple(config.indexes().values()),
    )


def name_models(
    config: StudyConfig, sources: Sequence[str], revisions: Sequence[str] = (), control: str | None = None
) -> list[ModelConfig]:
    """Models named on a command line, each at every revision, with ids that the study's tables don't use otherwise.

    A source that study.toml lists (by its id or its source) is that model.

    Args:
        config: The study.
        sources: Folders, hub names, or ids of models in study.toml.
        revisions: Revisions of every source; empty for the one that the source stands for.
        control: Mark of the models, `other-corpus` or None.

    Raises:
        MemindexError: A revision of a folder, or the same model twice.
    """
    named: list[ModelConfig] = []
    for source in sources:
        for revision in revisions or (None,):
            model = _name_model(config, source, revision, named)
            model = replace(model, control=control or model.control)
            if model in named:
                raise MemindexError(f"the model {source} is named twice")
            named.append(model)
    return named


def _name_model(config: StudyConfig, source: str, revision: str | None, named: Sequence[ModelConfig]) -> ModelConfig:
    listed = [m for m in config.models if m.id == source] if revision is None else []
    if listed and not Path(source).is_dir():
        return listed[0]
    folder = Path(source).expanduser()
    if folder.is_dir() and revision is not None:
        raise MemindexError(f"{source} is a folder, which has no revisions: leave --revision {revision} out")
    place = relative_path(folder, config.directory) if folder.is_dir() else source.rstrip("/")
    for model in config.models:
        if (_whereabouts(config, model.source), model.revision) == (_whereabouts(config, place), revision):
            return model
    taken = {model.id: (model.source, model.revision) for model in (*config.models, *named)}
    for row in TableStore(config.tables).read("models").to_pylist():
        taken.setdefault(row["model_id"], (row["source"], row["revision"]))
    parts = [part for part in place.split("/") if part not in ("", ".", "..")] or [folder.resolve().name]
    ends = ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]
    for end in ends:
        model_id = f"{end}@{revision}" if revision else end
        if taken.get(model_id, (place, revision)) == (place, revision):
            return ModelConfig(model_id, place, revision)
    raise MemindexError(f"the study has other models called {', '.join(ends)}: list {source} in study.toml with an id")


def _whereabouts(config: StudyConfig, source: str) -> str:
    folder = _folder(config, source)
    return str(folder.resolve()) if folder.is_dir() else source.rstrip("/")


def _folder(config: StudyConfig, source: str) -> Path:
    # Without the "..", which lead nowhere while the study's directory does not exist.
    return Path(os.path.normpath(config.directory / source))


def source_of(config: StudyConfig, model: ModelConfig) -> str:
    """The folder below the study if there is one or the source is a path, else the source itself, a name on the hub."""
    folder = _folder(config, model.source)
    return (
        str(folder) if folder.is_dir() or (looks_like_path(model.source) and model.source[0] != "~") else model.source
    )


def model_fingerprint(config: StudyConfig, model: ModelConfig, weights_seed: int | None = None) -> str:
    """Tells two states of a model apart: 12 hex digits over source and revision, and for a folder its files.

    Of every file the size and the first and last mebibyte count: reading all weights of a large model would take
    longer than many a run. The training record does not: it tells how long training took.
    """
    facts = [model.source, model.revision, *([] if weights_seed is None else [weights_seed])]
    digest = hashlib.sha256(json.dumps(facts).encode())
    folder = Path(source_of(config, model))
    for file in _files(folder, only_config=weights_seed is not None):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(stream.tell(), file.stat().st_size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()[:12]


def _files(folder: Path, only_config: bool) -> Iterator[Path]:
    for file in sorted(folder.glob("config.json" if only_config else "*")) if folder.is_dir() else []:
        if file.is_file() and file.name != RECORD:
            yield file


def check_unchanged(store: TableStore, runs: Iterable[Run], config: StudyConfig) -> None:
    """Refuse models that are not the ones of the same id in the tables."""
    # An imported run has no fingerprint.
    rows = [row for row in store.read("runs").to_pylist() if row["model_fingerprint"] is not None]
    there = {row["model_id"]: row["model_fingerprint"] for row in rows}
    for run in runs:
        if there.get(run.model.id, run.fingerprint) != run.fingerprint:
            raise MemindexError(
                f"{config.directory}: the model {run.model.id!r} changed since it was scored: "
                "give the changed one another id in study.toml"
            )
