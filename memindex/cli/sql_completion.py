"""What Tab offers at the prompt of `memindex sql`, and when a statement is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memindex.cli.forms import FORMS
from memindex.cli.sql_shell import COMMANDS
from memindex.sql.queries import list_queries, load_query
from memindex.sql.statements import column_names, function_names

if TYPE_CHECKING:
    import duckdb

#: Texts, quoted names and comments, where neither a semicolon ends anything nor Tab has anything to say.
_CLOSED = re.compile(
    r"""\b[eE]'(?:[^'\\]|''|\\.)*'
      | (?<!\b[eE])'(?:[^']|'')*' | "(?:[^"]|"")*" | (\$\w*\$).*?\1
      | --[^\n]* | /\*.*?\*/""",
    re.VERBOSE | re.DOTALL,
)
_OPEN = re.compile(r"""'|"|/\*|\$\w*\$""")


def is_whole(text: str) -> bool:
    """Whether Enter should run the text: a dot command, nothing at all, or SQL up to a semicolon."""
    if not text.strip() or text.lstrip().startswith("."):
        return True
    rest = _CLOSED.sub(lambda found: " " if found[0].startswith(("--", "/*")) else "x", text)
    return rest.rstrip().endswith(";") and not _OPEN.search(rest)


@dataclass
class Words:
    """All names there are on a connection."""

    columns: dict[str, list[str]]
    functions: list[str]
    ours: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection) -> Words:
        """The names of the connection as it is now."""
        listed = con.cursor().execute("SELECT DISTINCT keyword_name FROM duckdb_keywords() ORDER BY 1").fetchall()
        keywords = [word.upper() for (word,) in listed]
        return cls(column_names(con), function_names(con), function_names(con, ours=True), keywords)

    def after(self, before: str) -> tuple[int, list[str]]:
        """For the text before the cursor: the length of the word to replace, and the words it may become."""
        before = before.lstrip()
        if before.startswith("."):
            return _dot_words(before, list(self.columns))
        closed = list(_CLOSED.finditer(before))
        in_comment = any(found[0].startswith("--") and found.end() == len(before) for found in closed)
        if in_comment or _OPEN.search(_CLOSED.sub("", before)):
            return 0, []
        found = re.search(r"(?:(\w+)\.)?(\w*)$", before)
        assert found is not None  # the pattern fits an empty end
        qualifier, word = found.groups()
        if qualifier is not None:
            return len(word), _starting(word, self.columns.get(_table_of(qualifier, before), []))
        if re.search(r"\b(?:FROM|JOIN|DESCRIBE|SUMMARIZE)\s+\w*$", before, re.IGNORECASE):
            tables = _starting(word, self.columns)
            if tables:
                return len(word), tables
        return len(word), _starting(word, self._in_order(before)) if word else []

    def _in_order(self, before: str) -> Iterator[str]:
        """Columns (only those of the tables named so far, if there are any), functions, tables, keywords."""
        named = [name for name in self.columns if re.search(rf"\b{re.escape(name)}\b", before)]
        for table in named or self.columns:
            yield from self.columns[table]
        for name in (*self.ours, *self.functions):
            yield f"{name}("
        yield from self.columns
        yield from self.keywords


def _table_of(name: str, text: str) -> str:
    """The table that `name` means: an alias given in the text, or itself."""
    alias = re.search(rf"\b(?:FROM|JOIN)\s+(\w+)\s+(?:AS\s+)?{re.escape(name)}\b", text, re.IGNORECASE)
    return alias.group(1).lower() if alias else name.lower()


def _dot_words(before: str, tables: list[str]) -> tuple[int, list[str]]:
    name, *rest = before.split(" ")
    word = rest[-1] if rest else name
    if not rest:
        known: Iterable[str] = COMMANDS
    elif name == ".run" and len(rest) > 1:
        known = [f"{key}=" for key in load_query(rest[0]).parameters] if rest[0] in list_queries() else []
    elif len(rest) > 1:
        known = []
    else:
        known = {".schema": tables, ".run": list_queries(), ".mode": FORMS}.get(name, [])
    return len(word), _starting(word, known)


def _starting(word: str, known: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for name in known if name.lower().startswith(word.lower())))
