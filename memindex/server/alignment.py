"""Tokens beside each other: ids, what each adds to the text, and where a continuation goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

Tokens = Sequence[int]

#: A character that is not whole yet.
_PART = "\ufffd"


def aligned(
    con: duckdb.DuckDBPyConnection, index: str, prefix: Tokens | None, suffix: Tokens | None, given: Tokens | None
) -> dict[str, Any]:
    """Prefix, suffix and continuation as ids and pieces, and whether each token of the continuation is right."""
    before = prefix or ()
    right = [one == other for one, other in zip(given, suffix, strict=False)] if given and suffix else None
    return {
        "prefix": _told(con, index, (), prefix),
        "suffix": _told(con, index, before, suffix),
        "continuation": _told(con, index, before, given),
        "right": right,
    }


def texts_of(con: duckdb.DuckDBPyConnection, index: str, lists: Sequence[Tokens | None]) -> list[str | None]:
    """The text of each list of ids; None where there is no list, or the index has no tokenizer or is not there."""
    if not any(lists):
        return [None] * len(lists)
    sql = (
        "SELECT detokenize($index, tokens) FROM (SELECT unnest($lists) AS tokens, unnest($places) AS place) "
        "ORDER BY place"
    )
    values = {"index": index, "lists": [list(ids) if ids else None for ids in lists], "places": list(range(len(lists)))}
    try:
        return [text for (text,) in con.execute(sql, values).fetchall()]
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return [None] * len(lists)


def pieces(texts: Sequence[str]) -> list[str]:
    """What each token adds, from the texts of one token, of two, of three, …; a character comes with its last byte."""
    found, so_far = [], ""
    for text in texts:
        whole = text.rstrip(_PART)
        if len(whole) >= len(so_far) and whole.startswith(so_far):
            found.append(whole[len(so_far) :])
            so_far = whole
        else:
            found.append("")
    return found


def _told(con: duckdb.DuckDBPyConnection, index: str, before: Tokens, tokens: Tokens | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    whole = [*before, *tokens]
    # One text more tells what comes before the first token.
    starts = range(len(before), len(whole) + 1)
    texts = texts_of(con, index, [whole[:end] for end in starts])
    if not before:
        texts[0] = ""
    known = [text for text in texts if text is not None]
    told = pieces(known)[1:] if len(known) == len(texts) > 1 else None
    return {"tokens": list(tokens), "pieces": told}
