"""Rows whose columns are tensors: parts of them, and several of them as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import memindex.models.torch_setup  # noqa: F401

import torch


@dataclass(frozen=True)
class TensorRows:
    """Base of frozen dataclasses whose fields are tensors of one length: a row is an entry of each."""

    def taken(self, rows: slice | torch.Tensor) -> Self:
        """The rows of a slice, or those at these places, int64 (rows,), in this order."""
        return type(self)(*(column[rows] for column in self._columns()))

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one after the other."""
        return cls(*(torch.cat(columns) for columns in zip(*(part._columns() for part in parts), strict=True)))

    def _columns(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]
