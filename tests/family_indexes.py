"""Small indexes by the tokenizers of the model families and by bytes, built once for all tests that need them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from synthetic_corpus import write_jsonl

from memindex.index import build_index

FAMILIES = ("pythia", "olmo-1", "olmo-2", "llama-2")

CATS = "5 cats sat, naïve and 😀 in 東京.\n\n  Then mañana came"
VILLAGERS = "5 villagers remembered the café, the bridge and 東京 — naïvely."
TEXTS = (CATS, "the cats sat on naïve mats。 Then", VILLAGERS, VILLAGERS, f"They {VILLAGERS}")


@cache
def family_index(folder: Path, shared: Path | None, name: str) -> Path:
    """The index of TEXTS by a tokenizer.

    Args:
        folder: Where all of them are: the folder of the whole run of tests.
        shared: What the fixture `shared` gives; bytes need none.
        name: One of FAMILIES, or bytes.
    """
    tokenizer = name if shared is None else shared / "tokenizers" / name / "tokenizer.json"
    corpus = write_jsonl(folder / "families" / "corpus.jsonl", [{"text": text} for text in TEXTS])
    build_index([corpus], folder / "families" / name, tokenizer=tokenizer, shards=1)
    return folder / "families" / name
