"""A small server that speaks the part of S3 that a pull uses, and can be told to misbehave.

moto would be the usual stand-in; but it can neither cut a connection inside an answer nor change an object between two
requests, which is what these tests are about, and it brings boto3, Flask and forty more packages.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

#: Keys of one page of a listing: few, so that listings have several pages.
PAGE = 4


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    world: StandIn

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class StandIn:
    """Buckets in memory, served as http://127.0.0.1:PORT/bucket/key; `with` starts and stops it.

    Attributes:
        objects: Content by "bucket/key".
        requests: (bucket/key, start, end) of every answer.
        before: Called with (key, start, end) before an object is answered; what it returns says how to misbehave: with
            a status, "cut" (half of the bytes), "short" (the answer of half a range), or "whole" (that of no range).
        listed_size: Added to the size of each object in listings.
        delay: Seconds that an answer takes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, int, int]] = []
        self.before: Callable[[str, int, int], int | str | None] = lambda key, start, end: None
        self.listed_size = 0
        self.delay = 0.0
        self.denied = False
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.world = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def put_folder(self, folder: Path, address: str) -> None:
        """Serve the files of a folder as bucket/prefix/name."""
        for file in folder.iterdir():
            self.objects[f"{address}/{file.name}"] = file.read_bytes()

    def transferred(self) -> int:
        """Bytes asked for so far."""
        return sum(end - start for _, start, end in self.requests)

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def world(self) -> StandIn:
        return self.server.world

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        assert "Authorization" not in self.headers, "a pull has no account"
        if self.world.denied:
            self.answer(403, _error("AccessDenied"))
        elif "list-type" in asked:
            self.list(path.strip("/"), asked)
        else:
            self.get(urllib.parse.unquote(path.strip("/")))

    def list(self, bucket: str, asked: dict[str, str]) -> None:
        objects = self.world.objects
        keys = sorted(key for key in objects if key.startswith(f"{bucket}/{asked.get('prefix', '')}"))
        first = int(asked.get("continuation-token", "0"))
        more = first + PAGE < len(keys)
        rows = "".join(
            f"<Contents><Key>{escape(key.removeprefix(bucket + '/'))}</Key>"
            f"<LastModified>2024-03-01T00:00:00.000Z</LastModified><ETag>{escape(etag(objects[key]))}</ETag>"
            f"<Size>{len(objects[key]) + self.world.listed_size}</Size></Contents>"
            for key in keys[first : first + PAGE]
        )
        token = f"<NextContinuationToken>{first + PAGE}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        self.answer(200, f"<ListBucketResult>{truncated}{rows}{token}</ListBucketResult>".encode())

    def get(self, key: str) -> None:
        if key not in self.world.objects:
            return self.answer(404, _error("NoSuchKey"))
        low, _, high = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = int(low), int(high) + 1
        fault = self.world.before(key, start, end)
        time.sleep(self.world.delay)
        # What is asked before an answer may change the object.
        content = self.world.objects[key]
        if isinstance(fault, int):
            return self.answer(fault, _error("InternalError"))
        if self.headers.get("If-Match") not in {None, etag(content)}:
            return self.answer(412, _error("PreconditionFailed"))
        self.world.requests.append((key, start, end))
        headers = {"ETag": etag(content), "Last-Modified": "Fri, 01 Mar 2024 00:00:00 GMT"}
        if fault == "whole":
            return self.answer(200, content, headers)
        body = content[start : (start + end) // 2 if fault == "short" else end]
        headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        return self.answer(206, body, headers, sent=len(body) // 2 if fault == "cut" else None)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
