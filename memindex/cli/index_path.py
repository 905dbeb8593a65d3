"""The type of options that take an index: a directory, or the name of one that was built from a recipe."""

from __future__ import annotations

import os
from typing import Any

import click

from memindex.index.names import index_directory


class IndexPath(click.Path):
    """A path; a name of an index becomes the path of its directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path."""
        return os.fsdecode(super().convert(index_directory(os.fsdecode(value)), param, ctx))


INDEX = IndexPath()
