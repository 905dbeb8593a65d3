"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES


PAGES = ["cli.md", "http.md", "python.md", "tables.md", "queries.md", "models.md", "../indexes/README.md"]


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_up_to_date(name):
    pytest.importorskip("torch", reason="docs/python.md describes the models too")
    pytest.importorskip("fastapi", reason="docs/http.md describes the server")
    expected = "\n".join(pages()[name]()) + "\n"
    assert (DOCS / name).read_text(encoding="utf-8") == expected, "run: python docs/generate.py"


def test_every_public_name_of_the_package_is_described():
    import memindex

    text = (DOCS / "python.md").read_text(encoding="utf-8")
    for name in memindex.__all__:
        if not name.startswith("__") and not name.endswith("Error"):
            assert f"### {name}\n" in text
