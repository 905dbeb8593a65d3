"""docs/notebook.ipynb is small, has no outputs, and is what Jupyter reads; test_demo.py runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from notebook_cells import code_cells

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"


def test_it_is_a_notebook_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK.stat().st_size < 10_000
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            assert set(cell) == {"cell_type", "execution_count", "id", "metadata", "outputs", "source"}
        else:
            assert set(cell) == {"cell_type", "id", "metadata", "source"}


def test_its_cells_are_plain_python() -> None:
    cells = code_cells(NOTEBOOK)
    assert len(cells) > 5
    for name, source in cells.items():
        compile(source, name, "exec")
        assert max(map(len, source.splitlines())) <= 120
