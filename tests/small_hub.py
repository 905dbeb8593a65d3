"""A model hub on this machine: what the tests of loading by name need of the real one's HTTP interface."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


def commit(name: str, revision: str) -> str:
    """What a revision is called that never moves."""
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


class Hub:
    """Serves `models`: hub name -> {revision: folder}; names in `gated` are refused."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Path]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        self.asked.append(path)
        status, headers, content = self.look_up(path)
        request.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)

    def look_up(self, path: str) -> tuple[int, dict[str, str], bytes]:
        api = path.startswith("api/")
        parts = path.removeprefix("api/models/").split("/")
        name, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "main"
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        if name not in self.models:
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        revision = next((known for known in self.models[name] if commit(name, known) == revision), revision)
        if revision not in self.models[name]:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        folder, sha = self.models[name][revision], commit(name, revision)
        if api:
            files = [{"rfilename": file.name} for file in folder.iterdir()]
            return 200, {}, json.dumps({"id": name, "sha": sha, "siblings": files}).encode()
        file = folder / "/".join(parts[4:])
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}, b"{}"
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha}, content
