"""A worker that trains model after model: `python -m memindex.study.training_worker`, one process per GPU."""

from __future__ import annotations

from memindex.study.making_models import TrainingJob, train_job
from memindex.study.worker import Tell, run_worker


class _Trainer:
    """Trains what it is told."""

    def __enter__(self) -> _Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def do(self, job: TrainingJob, tell: Tell) -> None:
        """Train a model; progress is told in tokens."""
        train_job(job, tell)


if __name__ == "__main__":
    run_worker(_Trainer)
