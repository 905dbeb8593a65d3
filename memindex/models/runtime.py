"""Where models run and what with: the device, library versions, and a transformers that keeps quiet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import memindex.models.torch_setup

import torch
import transformers
from transformers.utils import logging as transformers_logging

import memindex
from memindex.errors import MemindexError


def find_device(name: str | None) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1), or the best there is; MemindexError when absent."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise MemindexError(f"unknown device {name!r}; use cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MemindexError(f"device {name}: there is no such GPU here; use cpu")
    return device


def device_name(device: torch.device) -> str:
    """What the tables record: `cpu`, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> dict[str, str]:
    """Versions of the packages that decide a model's numbers."""
    return {
        "memindex": memindex.__version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """A bar per file of a model that loads in a moment is noise beside our own progress."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
