"""What SQL functions take as tokens and as a text, as SQL expressions that refuse anything else in one line.

Casts would round fractions, make 1 of true, and a text of anything. What the type decides costs nothing per row.
"""

from __future__ import annotations

_TEXTS = "VARCHAR|JSON|ENUM.*"
_LISTS = r'("NULL"|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|BIGNUM)\[\d*\]'


def as_tokens(value: str) -> str:
    """The expression `value` as INTEGER[]: a list of whole numbers of any type, or NULL."""
    return (
        f"CASE WHEN {_is_of(value, _LISTS)} THEN {value}::INTEGER[]"
        f" WHEN typeof({value}) SIMILAR TO '(DECIMAL|DOUBLE|FLOAT).*'"
        " THEN error('token ids are whole numbers, not fractions: cast the list to INTEGER[]')"
        f" ELSE error('tokens are a list of whole numbers, not ' || typeof({value})"
        " || ': cast it to INTEGER[], or ask tokenize(index, text)') END"
    )


def as_text(value: str) -> str:
    """The expression `value` as VARCHAR: a text, or NULL."""
    return (
        f"CASE WHEN {_is_of(value, _TEXTS)} THEN {value}::VARCHAR"
        f" ELSE error('a text is VARCHAR, not ' || typeof({value})"
        " || ': ask a function of tokens, or cast it to VARCHAR') END"
    )


def is_text(value: str) -> str:
    """Whether the expression `value` is a text."""
    return f"typeof({value}) SIMILAR TO '{_TEXTS}'"


def _is_of(value: str, types: str) -> str:
    return f"typeof({value}) SIMILAR TO '\"NULL\"|{types}'"
