"""SQL functions that ask an index: `ngram_count(index, tokens)` and its like, batch first.

Each is an Arrow function of DuckDB: it gets a chunk of about two thousand rows, groups them by index and asks
each index once. To add one, write how it is answered for one index and add a row to `FUNCTIONS`.

DuckDB picks a Python function by exact argument types, and neither an INTEGER[] becomes a UINTEGER[] nor a
string literal a VARCHAR by itself; hence the function proper hides behind an underscore, and a macro of the
public name casts its arguments. NULL in gives NULL out. The functions hold the indexes and never the
connection: a reference in both directions would keep both alive for ever.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from memindex.errors import MOST_CHARACTERS, MemindexError, QueryError, shortened
from memindex.sql.functions import answers
from memindex.sql.functions.arguments import as_text, as_tokens, is_text
from memindex.sql.functions.batches import Answer, by_key
from memindex.sql.functions.indexes import Indexes, Lookups, open_index

__all__ = [
    "FUNCTIONS",
    "Function",
    "Indexes",
    "Lookups",
    "markdown",
    "open_index",
    "readable",
    "register",
    "unregister",
]


#: True as long as the index of this name is the one that was connected; else an error. DuckDB asks it once per query.
SAME_INDEX = "_same_index"

#: Every function that DuckDB was given: it lets go of them with the connection, and cursors would call what is gone.
_kept: list[Callable[..., Any]] = []


@dataclass(frozen=True)
class Function:
    """One SQL function of (index, argument): its types in DuckDB's words, and how one index answers a batch.

    Attributes:
        name: What it is called.
        argument: Name of the argument.
        argument_type: Its type; `tokens` may be written as any list of whole numbers.
        result_type: Type of the result.
        arrow_type: The same as an Arrow type.
        answer: How one index answers: see `memindex.sql.functions.batches.Answer`.
        meaning: A line for the documentation.
        options: Names and defaults (BIGINT) of further arguments.
        is_table: Whether it gives rows: its result is a list of them, and its argument tokens or a text.
    """

    name: str
    argument: str
    argument_type: str
    result_type: str
    arrow_type: pa.DataType
    answer: Answer
    meaning: str
    options: tuple[tuple[str, int], ...] = ()
    is_table: bool = False

    @property
    def inner(self) -> str:
        """Name of the Python function that the macro calls."""
        return f"_{self.name}"

    def macro(self) -> str:
        """The macro of the public name."""
        argument = f'"{self.argument}"'
        given = as_tokens(argument) if self.argument_type == "INTEGER[]" else as_text(argument)
        if self.is_table:
            # Casts between the two exist, so either branch binds; only the right one is computed.
            given = f'CASE WHEN {is_text(argument)} THEN tokenize("index", {argument}) ELSE {given} END'
        defaults = "".join(f', "{name}" := {default}' for name, default in self.options)
        options = "".join(f', "{name}"::BIGINT' for name, _ in self.options)
        call = f'{self.inner}("index"::VARCHAR, {given}{options})'
        body = f"TABLE SELECT unnest({call}, max_depth := 2)" if self.is_table else call
        return f'CREATE MACRO {self.name}("index", {argument}{defaults}) AS {body}'

    def signature(self) -> str:
        """How it is called, for readers."""
        defaults = "".join(f", {_written(name)} := {default}" for name, default in self.options)
        return f"{self.name}(index, {self.argument}{defaults})"


_MATCHES = "STRUCT(length INTEGER, count BIGINT)[]"
_DOCUMENTS = (
    "STRUCT(shard INTEGER, position BIGINT, document BIGINT, document_offset BIGINT, domain VARCHAR, path VARCHAR, "
    "line BIGINT, metadata VARCHAR, text VARCHAR)[]"
)

FUNCTIONS = (
    Function(
        "ngram_count", "tokens", "INTEGER[]", "BIGINT", pa.int64(), answers.count, "occurrences of the n-gram, exact"
    ),
    Function(
        "text_count",
        "text",
        "VARCHAR",
        "BIGINT",
        pa.int64(),
        answers.count_of_text,
        "the same of the text's tokens",
    ),
    Function(
        "ngram_count_by_domain",
        "tokens",
        "INTEGER[]",
        "MAP(VARCHAR, BIGINT)",
        answers.BY_DOMAIN,
        answers.count_by_domain,
        "its occurrences in every domain that has any; `…['C++']` is NULL where there are none",
    ),
    Function(
        "longest_match",
        "tokens",
        "INTEGER[]",
        "INTEGER",
        pa.int32(),
        answers.longest_match,
        "length of the longest run of the tokens that stands in the corpus; 0: none of them occurs",
    ),
    Function(
        "longest_matches",
        "tokens",
        "INTEGER[]",
        _MATCHES,
        answers.MATCHES,
        answers.longest_matches,
        "for every token, the length of the longest match that starts there, and how often that occurs",
    ),
    Function(
        "tokenize",
        "text",
        "VARCHAR",
        "INTEGER[]",
        pa.list_(pa.int32()),
        answers.tokenize,
        "ids of the text by the index's tokenizer, without special tokens",
    ),
    Function(
        "detokenize",
        "tokens",
        "INTEGER[]",
        "VARCHAR",
        pa.string(),
        answers.detokenize,
        "text of the ids; bytes that are no UTF-8 become U+FFFD",
    ),
    Function(
        "documents_with",
        "query",
        "INTEGER[]",
        _DOCUMENTS,
        pa.list_(answers.DOCUMENT),
        answers.documents_with,
        "in FROM: where the query (tokens or a text) stands: at most `limit` occurrences, evenly spaced in the order "
        "of what follows, with the document, and at most `max_tokens` tokens of it around the match as text",
        (("limit", 10), ("max_tokens", 100)),
        is_table=True,
    ),
)


def register(con: duckdb.DuckDBPyConnection, indexes: Indexes) -> None:
    """Create every function of `FUNCTIONS` on `con`; its cursors can ask them as long as it lives."""
    weakref.finalize(con, indexes.forget).atexit = False
    create: Any = con.create_function  # its stubs know neither Arrow functions nor options by name
    for function in FUNCTIONS:
        call = _batched(function, indexes)
        _kept.append(call)
        create(
            function.inner,
            call,
            ["VARCHAR", function.argument_type, *("BIGINT" for _ in function.options)],
            function.result_type,
            type="arrow",
            null_handling="special",
        )
        con.execute(function.macro())

    def is_same(name: str) -> bool:
        indexes.check_documents(name)
        return True

    _kept.append(is_same)
    create(SAME_INDEX, is_same, ["VARCHAR"], "BOOLEAN")


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Remove the Python functions, so that DuckDB holds no Python object any more."""
    for function in FUNCTIONS:
        con.remove_function(function.inner)
    con.remove_function(SAME_INDEX)


#: Characters at the beginning of an error, and at its end, in which anything is looked for.
LOOKED_AT = 20_000


def readable(error: Exception, most: int = MOST_CHARACTERS) -> MemindexError:
    """What DuckDB says went wrong, in one line of about `most` characters, without its wrapping of Python's exceptions.

    Values of any size are quoted in its messages, so the line is cut before anything else is done with it.
    """
    text = str(error)
    wrapped = re.search(r"executing the UDF: \w+: ", text[:LOOKED_AT])
    line = shortened(text[wrapped.end() if wrapped else 0 :].strip().partition("\n")[0], most)
    return MemindexError(line.splitlines()[0] if line else type(error).__name__)


def markdown() -> Iterator[str]:
    """The lines of docs/tables.md about the functions."""
    yield from ("", "# Functions", "")
    yield "On every connection of `memindex.connect`; `index` is the name of an index of the study, or an index's"
    yield "directory. `tokens` is a list of ids, of any type of whole numbers. NULL in gives NULL out; a list that is"
    yield "empty (but for `detokenize`) or holds NULL, and an id that the index can't hold, are errors."
    yield from ("", "| function | result | meaning |", "| --- | --- | --- |")
    for function in FUNCTIONS:
        result = "rows" if function.is_table else function.result_type
        yield f"| `{function.signature()}` | {result} | {function.meaning} |"
    columns = ", ".join(f"`{field.name}`" for field in answers.DOCUMENT)
    yield from ("", "Columns of `documents_with`, with the meaning they have in the tables above:", f"{columns}.")
    yield "Beside a table it is asked for every row: `FROM sequences, documents_with('pile', suffix, 3)`."


def _written(name: str) -> str:
    """The name as SQL wants it: LIMIT is a word of its own."""
    return f'"{name}"' if name == "limit" else name


def _batched(function: Function, indexes: Indexes) -> Callable[..., pa.Array]:
    """The function that DuckDB calls with Arrow columns; it counts the parameters, so it needs each one by name."""

    def answer(key: tuple[Any, ...], rows: pa.Array) -> pa.Array:
        name, *values = key
        try:
            return function.answer(indexes[name], rows, *values)
        except QueryError as error:
            # The core names the query by its number, but a chunk's rows have none that the asker knows.
            raise QueryError(re.sub(r"^query \d+: ", f"index {name}: ", str(error))) from None

    def ask(names: Any, argument: Any) -> pa.Array:
        return by_key((names,), argument, function.arrow_type, answer)

    def ask_rows(names: Any, argument: Any, limit: Any, max_tokens: Any) -> pa.Array:
        return by_key((names, limit, max_tokens), argument, function.arrow_type, answer)

    return ask_rows if function.is_table else ask
