"""The folder of a training: hidden while it is under way, kept with its last state when stopped, renamed at the end.

A training that was stopped or killed goes on from its last state when the same one is started again; one with other
settings begins anew. Checkpoints are folders like the finished model's, below it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import memindex.models.torch_setup  # noqa: F401

import torch
from transformers import PreTrainedModel

from memindex.errors import MemindexError
from memindex.models.runtime import no_progress_bars
from memindex.models.sources import RECORD
from memindex.work.folders import partial_of
from memindex.work.locks import FolderLock

#: Folder of a model's checkpoints, each named by its step.
CHECKPOINTS = "checkpoints"

_STATE, _IDENTITY, _MODEL = "state.pt", "identity.json", "model"


class TrainingFolder:
    """The hidden folder of one training.

    Args:
        folder: Where it is.
        files: More files of each model's folder, by name.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self._folder, self._files = folder, files
        self.model = folder / _MODEL
        self.model.mkdir(exist_ok=True)

    def state(self) -> dict[str, Any] | None:
        """The last state that was kept, on the CPU; None where there is none that can be read."""
        file = self._folder / _STATE
        if not file.is_file():
            return None
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return found

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keep a state instead of the one before."""
        new = self._folder / f".{_STATE}"
        with new.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._folder / _STATE)

    def save_checkpoint(self, model: PreTrainedModel, step: int, record: Mapping[str, Any]) -> None:
        """Save what the model is after so many steps."""
        folder = self.model / CHECKPOINTS / f"step{step}"
        new = folder.with_name(f".{folder.name}")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        self._write(model, record, new)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)

    def finish(self, model: PreTrainedModel, record: Mapping[str, Any], out: Path) -> None:
        """Save the trained model, and put it in place."""
        self._write(model, record, self.model)
        self.model.rename(out)

    def _write(self, model: PreTrainedModel, record: Mapping[str, Any], folder: Path) -> None:
        with no_progress_bars():
            model.save_pretrained(folder)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@contextmanager
def training_folder(out: Path, identity: Any, files: Mapping[str, bytes]) -> Iterator[TrainingFolder]:
    """The hidden folder beside `out`, locked; gone at the end, unless the training failed and a state is kept.

    Args:
        out: Where the model is to be.
        identity: Tells this training from others, as JSON.
        files: More files of each model's folder, by name.

    Raises:
        MemindexError: Something stands at `out`, another process trains it, or nothing can be written there.
    """
    partial = partial_of(out.absolute())
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(partial, out, "train")
    except OSError as error:
        raise MemindexError(f"can't save the model as {out}: {error.strerror or error}") from None
    done = False
    try:
        if out.exists():
            raise MemindexError(f"{out} exists; remove it or name another folder")
        _same_or_empty(partial, json.dumps(identity, sort_keys=True, default=str))
        yield TrainingFolder(partial, files)
        done = True
    except OSError as error:
        raise MemindexError(f"can't save the model as {out}: {error.strerror or error}") from None
    finally:
        if done or not (partial / _STATE).exists() or out.exists():
            shutil.rmtree(partial, ignore_errors=True)
        lock.release()


def _same_or_empty(partial: Path, identity: str) -> None:
    """Empty the folder unless the same training was stopped there."""
    file = partial / _IDENTITY
    if file.is_file() and file.read_text(encoding="utf-8") == identity and (partial / _STATE).is_file():
        return
    shutil.rmtree(partial / _MODEL, ignore_errors=True)
    (partial / _STATE).unlink(missing_ok=True)
    file.write_text(identity, encoding="utf-8")


def digest(model: PreTrainedModel) -> str:
    """SHA-256 of a model's weights, as hex digits."""
    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
