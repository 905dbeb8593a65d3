"""What a file is that is not a corpus file: recognized by its first bytes, with what to do about it."""

from __future__ import annotations

import re

from memindex.corpus.packing import packing_of

#: First bytes that are looked at: those of a tar archive have its name at byte 257.
HEAD = 512

#: A text file with a zero byte in this many first bytes is binary; git has the same rule.
ZEROS_WITHIN = 8000

_UNPACK = "unpack it and give the files in it"
_TEXT = "extract its text first"

#: First bytes, what has them, and what to do.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (or .docx, .xlsx, .epub, .npz, a PyTorch file)", _UNPACK),
    (b"PK\x05\x06", "an empty ZIP archive", "leave it out with --include"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "packed with LZ4", "unpack it first (lz4 -d), or pack it with gzip, zstd, xz or bzip2"),
    (b"\x02\x21\x4c\x18", "packed with LZ4", "unpack it first (lz4 -d), or pack it with gzip, zstd, xz or bzip2"),
    (b"\xff\x06\0\0sNaPpY", "packed with Snappy", "unpack it first"),
    (b"LZIP", "packed with lzip", "unpack it first (lzip -d)"),
    (b"\x1f\x9d", "packed with compress (.Z)", "unpack it first (gzip -d)"),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet"),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"ARROW1\0\0", "an Arrow file", "give it a name that ends in .arrow"),
    (b"FEA1", "a Feather file (version 1)", "write it as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"\x93NUMPY", "a NumPy array", "write token ids as a Parquet column of lists, and name it with --text-field"),
    (b"MMIDIDX\0\0", "an index of Megatron token files", "give its name with .idx, and its .bin next to it"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "write its texts as JSON lines or Parquet"),
    (b"%PDF-", "a PDF file", _TEXT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _TEXT),
    (b"{\\rtf", "an RTF document", _TEXT),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "leave it out with --include"),
    (b"\xff\xd8\xff", "a JPEG image", "leave it out with --include"),
    (b"GIF8", "a GIF image", "leave it out with --include"),
    (b"\x7fELF", "a program (ELF)", "leave it out with --include"),
    (b"\x80\x02", "a Python pickle", "write it as JSON lines or Parquet"),
    (b"\x80\x03", "a Python pickle", "write it as JSON lines or Parquet"),
    (b"\x80\x04\x95", "a Python pickle", "write it as JSON lines or Parquet"),
    (b"\x80\x05\x95", "a Python pickle", "write it as JSON lines or Parquet"),
    (b"\xff\xfe\0\0", "UTF-32 text", "convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)"),
    (b"\xff\xfe", "UTF-16 text", "convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "UTF-16 text", "convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    (b"\0\0\xfe\xff", "UTF-32 text", "convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)"),
)
_FIRST = frozenset(signature[0] for signature, _, _ in _SIGNATURES)

#: Text that starts like one of the signatures and is none: these must have a zero byte or invalid UTF-8 behind them.
_ALSO_TEXT = (b"ORC", b"LZIP", b"GIF8", b"PAR1", b"PARE", b"FEA1")

#: Characters that text does not have; a terminal's escape is one of those it may have.
_CONTROLS = re.compile(rb"[\0-\x07\x0e-\x1a\x1c-\x1f]")

#: A file of a clone whose content was not downloaded.
_POINTER = b"version https://git-lfs.github.com/spec/v1"


def signature_of(head: bytes) -> str | None:
    """What a file with these first bytes is, and what to do; None where it may be text, JSON lines or WARC."""
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it (tar -xf) and give the files in it"
    if not head or head[0] not in _FIRST:
        return None
    for signature, what, advice in _SIGNATURES:
        if head.startswith(signature) and not (signature in _ALSO_TEXT and _is_text(head)):
            return f"{what}: {advice}"
    return None


def not_lines(head: bytes) -> str | None:
    """What a file that should hold JSON lines or WARC records is instead, by its (unpacked) first bytes."""
    if head.startswith(_POINTER):
        return "a Git LFS pointer, not the file: fetch it (git lfs pull)"
    if packing := packing_of(head):
        return f"packed twice: what is inside is packed with {packing}; unpack it once"
    return signature_of(head)


def not_text(name: str, content: bytes) -> str | None:
    """Why a text file of that name, with this (unpacked) content, is not a document; None where it is one."""
    if what := signature_of(content[:HEAD]) or (packing_of(content[:HEAD]) and not_lines(content[:HEAD])):
        return what
    zero = content.find(b"\0", 0, ZEROS_WITHIN)
    if zero >= 0:
        return _binary(name, f"binary, not text (byte {zero} is zero)")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _binary(name, f"not UTF-8 text (byte {error.start})")
    return None


def looks_like_text(head: bytes) -> bool:
    """Whether a file that its name says is packed is plain text."""
    return bool(head) and _is_text(head)


def _is_text(head: bytes) -> bool:
    try:
        # A character may be cut at the end.
        head[: len(head) - 3 if len(head) == HEAD else None].decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) == HEAD and error.start > len(head) - 8
    return not _CONTROLS.search(head)


def _binary(name: str, reason: str) -> str:
    if name.lower().endswith(".npy"):
        return (
            f"{reason}, and not a NumPy array: it has no header. If it holds raw token ids (as OLMo's .npy files do), "
            "write them as a Parquet column of lists, and name it with --text-field"
        )
    return reason
