"""A small index with domains behind the application, asked without a network."""

from __future__ import annotations

import asyncio
import json
import weakref
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from synthetic_corpus import train_bpe, write_jsonl

from memindex.corpus.sources import ReadOptions
from memindex.index import Index, build_index
from memindex.server.app import make_app
from memindex.server.config import Limits, ServerConfig
from memindex.server.service import Service

TEXT = "the quick brown fox jumps over a lazy dog while seven wizards mix potions in cafés of Zürich"


def build(folder: Path, shards: int = 2, tokenizer: str | None = None) -> Index:
    """An index of texts that repeat, in three domains; one document is empty, one is part of others."""
    random = np.random.default_rng(3)
    sentences = [" ".join(random.choice(TEXT.split(), 9)) for _ in range(40)]
    rows = [
        {"text": ". ".join(random.choice(sentences, int(random.integers(1, 6)))), "set": f"d{i % 3}", "n": i}
        for i in range(120)
    ]
    rows += [{"text": "", "set": "d0", "n": 120}, {"text": " quick brown", "set": "d1", "n": 121}]
    write_jsonl(folder / "corpus" / "a.jsonl", rows)
    if tokenizer is None:
        train_bpe(folder / "tokenizer" / "tokenizer.json")
        tokenizer = str(folder / "tokenizer" / "tokenizer.json")
    out = folder / "served"
    build_index([folder / "corpus"], out, tokenizer=tokenizer, options=ReadOptions(domain_field="set"), shards=shards)
    return Index.open(out)


def package_engine(index: Index, **settings: Any) -> Any:
    """infini-gram's own engine on the same index; a test that asks for it is skipped where it has no wheel."""
    package = pytest.importorskip("infini_gram.engine", reason="infini-gram has no wheel for this platform")
    eos = index.tokenizer.eos_token_id
    return package.InfiniGramEngine(
        index_dir=str(index.path), eos_token_id=eos, vocab_size=400, token_dtype="u16", **settings
    )


class Asker:
    """Asks an application, each request in an event loop of its own."""

    def __init__(self, *paths: Path, limits: Limits | None = None, **config: Any) -> None:
        self.app = make_app(ServerConfig(paths, limits=limits or Limits(), **config))
        # FastAPI's caches keep an application, and with it the files of its indexes, for as long as the process runs.
        weakref.finalize(self, _end, self.app.state.service)

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return asyncio.run(self.ask(method, path, **request))

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """One request, in the loop that runs."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://served") as client:
            return await client.request(method, path, **request)

    def post(self, path: str, body: Any) -> httpx.Response:
        """A JSON body."""
        return self("POST", path, json=body)

    def infini_gram(self, status: int = 200, **fields: Any) -> Any:
        """The answer of `POST /`."""
        answer = self.post("/", {"index": "served"} | fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    def v1(self, what: str, status: int = 200, **fields: Any) -> Any:
        """The answer of a route of the index."""
        answer = self.post(f"/v1/indexes/served/{what}", fields)
        assert answer.status_code == status, answer.text
        return answer.json()


def _end(service: Service) -> None:
    service.close()
    service.indexes.drop()


def raw(body: str | bytes) -> dict[str, Any]:
    """A request's arguments for a body as it is."""
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def nested(depth: int) -> str:
    """Lists in lists."""
    return "[" * depth + "]" * depth


def as_json(answer: httpx.Response) -> str:
    """For searching in an answer."""
    return json.dumps(dict(answer.headers)) + answer.text
