"""The models of a study that it trains itself: [[train]] of study.toml, one after the other or one on each GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memindex.errors import MemindexError
from memindex.index.manifest import index_checksum
from memindex.models.shapes import default_learning_rate, parse_size, shape_for
from memindex.progress import Progress, report_loading
from memindex.study.config import StudyConfig
from memindex.study.jobs import RAY, RunOptions
from memindex.study.making_config import Training
from memindex.study.making_indexes import other_index
from memindex.study.origins import open_index

if TYPE_CHECKING:
    from memindex.index.index import Index

#: Settings of a training that decide what comes out, as its record names them.
_DECIDING = ("tokens", "context", "batch_size", "learning_rate", "seed")

#: Called with (tokens done, tokens in all).
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingJob:
    """A model to train: what, on which index, on how many tokens, and where it is to be."""

    training: Training
    index: Path
    tokens: int
    out: Path
    device: str


def trainings(config: StudyConfig) -> list[Training]:
    """All models that the study trains."""
    return [training for series in config.train for training in series.trainings()]


def missing_models(config: StudyConfig) -> list[Training]:
    """Those that are not there yet."""
    return [training for training in trainings(config) if not training.folder(config.directory).exists()]


def ensure_models(config: StudyConfig, options: RunOptions, progress: Progress) -> None:
    """Train the models that are missing, or this process's share of them.

    Raises:
        MemindexError: The corpus is shorter than a budget, a model was trained otherwise than study.toml says, or a
            training failed; finished ones are kept.
    """
    everything = trainings(config)
    if not everything:
        return
    indexes = {False: open_index(config, config.index)}
    if any(training.series.other for training in everything):
        indexes[True] = open_index(config, other_index(config))
    budgets = [training.tokens(indexes[training.series.other].manifest.tokens) for training in everything]
    missing = []
    for number, (training, tokens) in enumerate(zip(everything, budgets, strict=True)):
        index = indexes[training.series.other]
        if training.folder(config.directory).exists():
            _check_trained(config, training, tokens, index)
        elif options.part is None or number % options.part[1] == options.part[0] - 1:
            missing.append((training, index, tokens))
    if not missing:
        return
    if options.engine == RAY:
        raise MemindexError("models are trained without Ray: run --only train --unit 1/N on each machine first")
    from memindex.models.runtime import find_device

    device = find_device(options.device).type
    jobs = [
        TrainingJob(training, index.path, tokens, training.folder(config.directory), device)
        for training, index, tokens in missing
    ]
    # The longest first: the last ones then end at about the same time.
    jobs.sort(key=lambda job: -parse_size(job.training.size) * job.tokens)
    _do(jobs, options, progress)


def _do(jobs: Sequence[TrainingJob], options: RunOptions, progress: Progress) -> None:
    from memindex.study.engines.local import count_gpus, run_processes

    def report(job: TrainingJob, done: int) -> None:
        progress(f"train {job.training.id}", done, job.tokens)

    gpus = count_gpus() if jobs[0].device == "cuda" else 1
    workers = min(options.workers or max(1, gpus), len(jobs))
    if workers == 1:
        report_loading(progress)
        for job in jobs:
            train_job(job, lambda done, _, job=job: report(job, done))  # type: ignore[misc]
    else:
        run_processes("memindex.study.training_worker", [], jobs, workers, jobs[0].device, report)


def train_job(job: TrainingJob, told: Told) -> None:
    """Train one model."""
    from memindex.index.index import Index
    from memindex.models.from_index import train_on_index

    series = job.training.series
    train_on_index(
        Index.open(job.index),
        job.training.architecture,
        job.training.size,
        job.tokens,
        job.out,
        checkpoints=tuple(parse_size(text) for text in series.checkpoints),
        device=job.device,
        progress=lambda done, total, _: told(done, total),
        **_settings(job.training),
    )


def _settings(training: Training) -> dict[str, Any]:
    series = training.series
    return {
        "context": series.context,
        "batch_size": series.batch_size,
        "learning_rate": series.learning_rate,
        "seed": training.seed,
    }


def _default_rate(training: Training) -> float:
    return default_learning_rate(shape_for(parse_size(training.size)).hidden)


def _check_trained(config: StudyConfig, training: Training, tokens: int, index: Index) -> None:
    """Refuse a model that is there and was trained otherwise than study.toml says now."""
    from memindex.models.sources import read_record

    folder = training.folder(config.directory)
    record = read_record(folder)
    if record is None:
        raise MemindexError(f"{folder} is no model of memindex train: move it away, or list it under [[models]]")
    wanted = {**_settings(training), "tokens": tokens}
    wanted["learning_rate"] = wanted["learning_rate"] or _default_rate(training)
    there = record.get("config", {})
    for name in _DECIDING:
        if there.get(name) != wanted[name]:
            raise MemindexError(
                f"{folder} was trained with {name} = {there.get(name)}, study.toml says {wanted[name]}: remove the "
                "folder to train it anew, or put the setting back"
            )
    if record.get("corpus_checksum") != index_checksum(index.manifest):
        raise MemindexError(f"{folder} was trained on another corpus than {index.path}: remove it to train it anew")
