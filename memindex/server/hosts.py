"""Names under which a server may be asked; standard library only.

A page of any origin can give its own name the address of this machine (DNS rebinding) and would then read answers as
its own. What such a request can't change is the name in its Host header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from memindex.errors import MemindexError

#: Any name will do.
EVERY = "*"

#: A name or an address as a Host header writes it, and the port behind it.
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+?)\.?)(?P<port>:\d*)?")

_LOOPBACK = "localhost"


class Hosts:
    """Names that a Host header may have besides those of loopback; none: any."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._every = not self._allowed or EVERY in self._allowed
        # Clients ask under few names, and reading one takes ten microseconds.
        self._is_known = lru_cache(64)(self._is_known_name)

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request may be answered; one without the header comes from no browser."""
        return self._every or all(self._is_known(value) for name, value in headers if name == b"host")

    def _is_known_name(self, value: bytes) -> bool:
        found = _HOST.fullmatch(value.decode("latin-1").lower())
        if not found:
            return False
        name = found["address"] or found["name"]
        return name in self._allowed or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Whether nothing but this machine is meant."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == _LOOPBACK


def allowed_at(host: str, given: Iterable[str]) -> tuple[str, ...]:
    """The names for `Hosts` of a server that listens at `host`.

    Args:
        host: An address or name, as the server was told.
        given: Names that were allowed; none: those of loopback where only this machine can ask, else every name.

    Raises:
        MemindexError: One of them is no name.
    """
    names = tuple(_read(name) for name in given)
    if not names and not is_loopback(host):
        return ()
    return (*names, host.lower())


def _read(given: str) -> str:
    """A name as `Hosts` compares it."""
    bare = f"[{given}]" if given.count(":") > 1 and "[" not in given else given
    found = _HOST.fullmatch(bare.lower())
    if not found or found["port"]:
        raise MemindexError(f"--allowed-host {given}: give a name alone, as x.org, or * for every one")
    return found["address"] or found["name"]
