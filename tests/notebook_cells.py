"""Runs the code cells of a notebook in one namespace, as a kernel would, without one."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> dict[str, str]:
    """The source of each code cell by its id."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


def run_notebook(notebook: Path) -> dict[str, Any]:
    """What the last expression of each code cell gives, by the cell's id; None where it ends in a statement."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = {}
    for cell, source in code_cells(notebook).items():
        tree = ast.parse(source, filename=f"{notebook.name}[{cell}]")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{notebook.name}[{cell}]", "exec"), names)
        value = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
        shown[cell] = eval(compile(value, f"{notebook.name}[{cell}]", "eval"), names) if value else None
    return shown
