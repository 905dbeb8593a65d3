"""Files at an address (s3://, https://, hf://, gs://, memory://…), through fsspec: listed and streamed, never stored.

Keys and passwords come from where the libraries behind fsspec look for them (environment, configuration files). What an
address itself carries of them (user:password@, ?signature) is used, but never shown, logged or written to an index.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from memindex.errors import MemindexError, first_line
from memindex.extras import EXTRAS, missing

#: protocol://…; a drive letter or a file name with a colon is none.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")

#: Addresses of the web, alone or behind another protocol (zip::https://…).
WEB = re.compile(r"(^|::)(https?|ftp)://")

#: Where fsspec needs a package that is not always there.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}

#: Files of a list that are asked for at the same time.
ASKED_AT_ONCE = 16


class Facts(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds, as in `os.stat_result`; 0 where a server tells none.

    Where a server tells no time but a tag of the content, the second is a number made of that, and changes with it.
    """

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, repr=False)
class RemoteFile:
    """A file at an address; as text, the address without what it carries of secrets.

    Attributes:
        source: The address the file was found by; it opens the file system.
        path: The file in that file system.
        facts: What the server said when the file was found.
    """

    source: str
    path: str
    facts: Facts

    def __str__(self) -> str:
        return shown(self.path if "://" in self.path else f"{self.source.split('://')[0]}://{self.path.lstrip('/')}")

    __repr__ = __str__

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(str(self)).name

    def stat(self) -> Facts:
        """Size and time of change."""
        return self.facts

    def now(self) -> Facts | None:
        """What the server says now; None where it says nothing."""
        from fsspec.core import url_to_fs

        try:
            with _told(self.source):
                system, _ = url_to_fs(self.source)
                system.invalidate_cache()
                return _facts(system.info(self.path))
        except MemindexError:
            return None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """A stream of its bytes, which can seek where the server can; MemindexError when it breaks off."""
        from fsspec.core import url_to_fs

        with _told(self.source):
            system, _ = url_to_fs(self.source)
            stream = system.open(self.path, "rb")
        with closing(stream):
            yield cast(BinaryIO, _Stream(stream, self.source))


#: Where a corpus file is.
Location: TypeAlias = Path | RemoteFile


class _Stream(io.RawIOBase):
    """A remote stream whose own errors are told in one line; those of its readers are not touched."""

    def __init__(self, stream: Any, source: str) -> None:
        self._stream, self._source = stream, source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def read(self, size: int | None = -1) -> bytes:
        with _told(self._source):
            data: bytes = self._stream.read(-1 if size is None else size)
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        with _told(self._source):
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())


def is_address(source: object) -> bool:
    """Whether a source is an address rather than a path."""
    return isinstance(source, str) and ADDRESS.match(source) is not None


def shown(url: str) -> str:
    """An address as it may be shown: without user, password and query."""
    # Azure's addresses have the container before the @; there a name alone is no secret.
    user = r"[^/@]*" if WEB.search(url) else r"[^/@:]*:[^/@]*"
    bare = re.sub(rf"(://){user}@", r"\1", url)
    # Elsewhere a question mark may be part of a pattern.
    return re.sub(r"[?#].*" if WEB.search(url) else r"\?[^/?]*=.*", "", bare)


def list_remote(url: str) -> tuple[str, list[tuple[str, RemoteFile]], bool]:
    """What stands at an address: a file, all files below a folder, or those that match a pattern.

    Returns:
        The file or the root folder as it may be shown, the files with their paths relative to that folder, and whether
        it is one file alone.

    Raises:
        MemindexError: Nothing is there, or it can't be reached.
    """
    with _told(url):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
        over_http = "http" in protocols or "https" in protocols
        if over_http and shown(url).endswith("/"):
            raise MemindexError(
                f"{shown(url)}: web servers have no folders: name files, a pattern, or @ and a list of them"
            )
        # A question mark starts the query of a web address.
        if re.search(r"[*\[]" if over_http else r"[*?\[]", path):
            found, root = system.glob(path, detail=True), fixed_part(path)
        elif not over_http and system.isdir(path):
            found, root = system.find(path, detail=True), path.rstrip("/")
        else:
            file = _asked(url)
            return str(file), [(file.name, file)], True
        files = [(name, info) for name, info in found.items() if info.get("type") == "file"]
    if not files:
        raise MemindexError(f"{shown(url)}: no files there")
    listed = [(shown(name[len(root) :].lstrip("/")), RemoteFile(url, name, _facts(info))) for name, info in files]
    return str(RemoteFile(url, root, Facts(0, 0))), listed, False


def read_list(source: str) -> tuple[str, list[tuple[str, RemoteFile]]]:
    """The files that a list names, an address a line.

    Args:
        source: A local file or an address.

    Returns:
        The part of the addresses that all have in common, and the files with the rest as their name.
    """
    with _told(source):
        if is_address(source):
            import fsspec

            with fsspec.open(source, "rt", encoding="utf-8-sig") as stream:
                text = stream.read()
        else:
            text = Path(source).read_text(encoding="utf-8-sig")
    addresses = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    wrong = next((line for line in addresses if not is_address(line)), None)
    if wrong or not addresses:
        raise MemindexError(f"{shown(source)}: not a list of addresses, one a line: {(wrong or 'it is empty')[:60]!r}")
    # The character-wise prefix is cut at its last slash.
    common = os.path.commonprefix([shown(address) for address in addresses])  # noqa: RUF071
    root = common.rpartition("/")[0]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return root, [(str(file)[len(root) + 1 :], file) for file in pool.map(_asked, addresses)]


def _asked(address: str) -> RemoteFile:
    from fsspec.core import url_to_fs

    with _told(address):
        system, path = url_to_fs(address)
        return RemoteFile(address, path, _facts(system.info(path)))


def fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    before = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return before.rpartition("/")[0]


def _facts(info: dict[str, Any]) -> Facts:
    changed = next((info[key] for key in ("mtime", "LastModified", "last_modified", "created") if info.get(key)), 0)
    if isinstance(changed, datetime.datetime):
        changed = changed.timestamp()
    if isinstance(changed, int | float) and changed:
        return Facts(int(info.get("size") or 0), int(changed * 1e9))
    tag = next((str(info[key]) for key in ("ETag", "blob_id", "etag") if info.get(key)), "")
    return Facts(int(info.get("size") or 0), int(hashlib.sha256(tag.encode()).hexdigest()[:15], 16) if tag else 0)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what fsspec and the libraries behind it raise into one line that holds no secrets."""
    try:
        yield
    except MemindexError:
        raise
    except ImportError as error:
        protocol = url.split("://", maxsplit=1)[0].rpartition("::")[2]
        package = PACKAGES.get(protocol) or getattr(error, "name", None) or "its package"
        purpose = f"{shown(url)}: reading {protocol}:// addresses"
        if package in EXTRAS:
            raise missing(package, purpose) from None
        raise MemindexError(f"{purpose} needs {package}, which is not installed; run: pip install {package}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise MemindexError(f"{shown(url)}: no such file or folder") from None
    except PermissionError:
        raise MemindexError(f"{shown(url)}: may not be read: are the keys for it set?") from None
    except Exception as error:
        # Libraries quote the address with all it carries.
        reason = re.sub(r"\S+://\S+", shown(url), first_line(error).replace(url, shown(url)))
        public = (
            "; where it is public: set FSSPEC_S3_ANON=true" if url.startswith("s3") and "redential" in reason else ""
        )
        raise MemindexError(f"{shown(url)}: can't be read: {reason}{public}") from None
