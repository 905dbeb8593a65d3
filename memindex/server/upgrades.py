"""Requests that offer another protocol (`Upgrade: h2c`, `websocket`) are answered over HTTP/1.1, as RFC 9110 lets us.

httptools takes every such request for the last one of its connection and gives up its body: it is parsed once more,
without what it offers. Needs httptools; uvicorn's protocol by h11 ignores upgrades itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

#: Headers of an offer, and what stands for it in Connection.
_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class NoUpgrades(asyncio.Protocol):
    """Goes before uvicorn's HttpToolsProtocol among the bases of a class."""

    #: Of uvicorn's protocol.
    parser: _Parser
    url: bytes
    headers: list[tuple[bytes, bytes]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.renew_parser()

    def renew_parser(self) -> _Parser:
        """A parser that knows of no request yet."""
        self.parser = _Parser(self)
        if hasattr(self.parser, "set_dangerous_leniencies"):  # as uvicorn does: data may follow the last request
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return self.parser

    def on_headers_complete(self) -> None:
        """Begin a request that was read without an offer."""
        if not self.parser.offers_upgrade():
            super().on_headers_complete()  # type: ignore[misc]

    def on_message_complete(self) -> None:
        """End such a request."""
        if not self.parser.offers_upgrade():
            super().on_message_complete()  # type: ignore[misc]

    def head_without_offer(self) -> bytes:
        """The line and the headers of the request that was parsed last."""
        parser = self.parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] not in _OFFERS | {b"connection"}]
        options = [value.split(b",") for name, value in self.headers if name == b"connection"]
        kept = [option.strip() for given in options for option in given if option.strip().lower() not in _OFFERS]
        lines += [b"connection: " + b", ".join(kept)] if kept else []
        return b"\r\n".join([*lines, b"", b""])


class _Parser(httptools.HttpRequestParser):
    """Parses requests with an offer as if they had none."""

    def __init__(self, protocol: NoUpgrades) -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def offers_upgrade(self) -> bool:
        """Whether the request that is parsed has an offer; CONNECT counts as one for httptools only."""
        return self.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: Any) -> None:
        """Parse what arrived."""
        parser: _Parser | None = self
        while parser is not None:
            parser, data = parser._fed(data)

    def _fed(self, data: Any) -> tuple[_Parser | None, memoryview]:
        """Parse up to an offer; the parser of what follows it, which has read the same request without its offer."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.offers_upgrade():
                raise
            head = self._protocol.head_without_offer()
            parser = self._protocol.renew_parser()
            # This one may have taken the request for the last of its connection.
            httptools.HttpRequestParser.feed_data(parser, head)
            return parser, memoryview(data)[upgrade.args[0] :]
        return None, memoryview(b"")
