"""Files on S3 that anybody may read: their listing, and parts of them, by the package obstore."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple

from memindex.errors import MemindexError
from memindex.extras import missing
from memindex.index.published import Address

#: Times that a request is tried again, and for how long: a connection may come back, an answer may be cut.
RETRIES, PATIENCE = 8, timedelta(minutes=3)

#: How long one request may take, however slow the connection.
TIMEOUT = timedelta(minutes=10)


class Listed(NamedTuple):
    """A file of a listing: its key, its size in bytes, and the ETag, which changes with its content."""

    key: str
    size: int
    etag: str | None


class Remote:
    """The files of one address."""

    def __init__(self, address: Address, store: Any) -> None:
        self.address = address
        self.url = f"s3://{address.bucket}/{address.prefix}"
        self._store = store

    def list(self) -> dict[str, Listed]:
        """The files directly below the address, by name.

        Raises:
            MemindexError: No connection or no access.
        """
        import obstore

        try:
            found = obstore.list(self._store, self.address.prefix).collect()
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._failure("its listing", error) from None
        listed = (Listed(meta["path"], meta["size"], meta["e_tag"]) for meta in found)
        named = ((file.key.removeprefix(f"{self.address.prefix}/"), file) for file in listed)
        return {name: file for name, file in named if "/" not in name}

    def read(self, file: Listed, start: int, end: int) -> Any:
        """The bytes from `start` up to `end` of a file that is still as it was listed, as a buffer.

        Raises:
            MemindexError: No connection or no access, or the file changed since it was listed.
        """
        import obstore

        options: dict[str, Any] = {"range": (start, end)} | ({"if_match": file.etag} if file.etag else {})
        name = file.key.rpartition("/")[2]
        try:
            found = obstore.get(self._store, file.key, options=options)  # type: ignore[arg-type, unused-ignore]
            if (found.meta["size"], found.meta["e_tag"]) != (file.size, file.etag):
                raise self._changed(name)
            return found.bytes()
        except (obstore.exceptions.PreconditionError, FileNotFoundError):
            raise self._changed(name) from None
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._failure(name, error) from None

    def _changed(self, name: str) -> MemindexError:
        return MemindexError(
            f"{self.url}: {name} changed, or went, since it was listed: the same command again looks anew"
        )

    def _failure(self, name: str, error: Exception) -> MemindexError:
        reason = re.sub(r"<[^>]*>", " ", str(error).split("\n", 1)[0])
        if "403 Forbidden" in reason or "401 Unauthorized" in reason:
            return MemindexError(f"{self.url}: {name} may not be read without an account, or there is no such bucket")
        if "404 Not Found" in reason:
            return MemindexError(f"{self.url}: there is no such bucket")
        reason = reason.replace("HTTP error: error sending request", "no connection to the server")
        # Of a chain of reasons the last says most.
        return MemindexError(
            f"{self.url}: {name}: {' '.join(reason.rpartition(' - ')[2].split())}: "
            "the same command again goes on where this one stopped"
        )


def open_remote(address: Address, endpoint: str | None = None) -> Remote:
    """The files at an address, without an account; on `endpoint` (https://host:port) instead of Amazon's servers.

    Raises:
        MemindexError: The endpoint is no address of a server.
        MissingExtraError: The package obstore is not installed.
    """
    try:
        from obstore.store import S3Store
    except ModuleNotFoundError:
        raise missing("obstore", "pulling an index") from None
    if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+/?", endpoint):
        raise MemindexError(f"--endpoint {endpoint!r}: give the address of a server, as https://host:9000")
    # A bucket's own address is the same in every region, and a request without a signature names none.
    url = endpoint.rstrip("/") if endpoint else f"https://{address.bucket}.s3.amazonaws.com"
    store = S3Store(
        address.bucket,
        endpoint=url,
        region="us-east-1",
        skip_signature=True,
        request_payer=False,
        virtual_hosted_style_request=endpoint is None,
        client_options={"allow_http": url.startswith("http:"), "timeout": TIMEOUT},
        retry_config={"max_retries": RETRIES, "retry_timeout": PATIENCE},
    )
    return Remote(address, store)
