"""What `memindex sql` does with one input, typed at the prompt or given at once: SQL, a named query, a dot command."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memindex.cli.forms import FORMS, print_objects
from memindex.cli.output import note, one_line
from memindex.cli.sql_writing import write
from memindex.errors import MemindexError
from memindex.near_names import hint
from memindex.sql.empty_tables import why_empty
from memindex.sql.queries import Parameter, few_documents_note, list_queries, load_query, not_in_study, query_values
from memindex.sql.statements import ask, table_names
from memindex.tables.schema import TABLES, VIEWS, Table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: Dot command -> (what follows it, what it does).
COMMANDS = {
    ".tables": ("", "list the tables and what one row of each is"),
    ".schema": ("[TABLE]", "list the columns of a table, or of all: name, type, meaning"),
    ".queries": ("", "list the named queries"),
    ".run": ("NAME [PARAMETER=VALUE …]", "run a named query"),
    ".mode": (f"[{'|'.join(FORMS)}]", "say or choose how answers are printed"),
    ".help": ("", "this list"),
    ".quit": ("", "leave (or Ctrl-D)"),
}


class Shell:
    """A connection and how answers are printed."""

    def __init__(self, con: duckdb.DuckDBPyConnection, form: str = "table") -> None:
        """Answers from `con`, printed in `form`, one of `memindex.cli.forms.FORMS`."""
        self.con = con
        self.form = form
        self._asked = ""
        self._values: dict[str, Parameter] = {}
        # A table's name must never mean a variable of this program.
        con.execute("SET python_enable_replacements = false")

    def ask(self, text: str, *, for_file: bool = False) -> pa.Table | None:
        """The rows that SQL gives, as `memindex.sql.statements.ask`."""
        self._asked, self._values = text, {}
        return ask(self.con, text, for_file=for_file)

    def named(self, name: str, parameters: Sequence[str] = (), *, for_file: bool = False) -> pa.Table:
        """The answer to a query of queries/; each parameter is NAME=VALUE."""
        query = load_query(name)
        pairs = dict(_pair(parameter) for parameter in parameters)
        self._asked, self._values = query.sql, query_values(query, pairs)
        answer = ask(self.con, query.sql, self._values, for_file=for_file)
        assert answer is not None  # a file of queries/ is one SELECT
        return answer

    def unfilled(self) -> str:
        """What to say of empty tables, as `empty_tables.why_empty`, or of a sample or run that is lacking."""
        return why_empty(self.con, self._asked) or not_in_study(self.con, self._values)

    def write(self, answer: pa.Table) -> None:
        """Print an answer."""
        write(answer, self.form)

    def handle(self, text: str) -> bool:
        """Do what was typed, errors as one line on stderr; False when it was to leave."""
        try:
            if not text.startswith("."):
                self._answer(lambda: self.ask(text))
            else:
                return self.command(text, timed=True)
        except MemindexError as error:
            note(one_line(str(error)))
        except KeyboardInterrupt:
            note("stopped")
        return True

    def command(self, text: str, *, timed: bool = False) -> bool:
        """Run a dot command; False when it was to leave. `timed` tells how long a query took."""
        name, *rest = _words(text)
        if name in {".quit", ".exit"}:
            return False
        actions: dict[str, Callable[..., None]] = {
            ".tables": self._tables,
            ".schema": self._schema,
            ".queries": lambda: print_queries(self.form),
            ".run": lambda *words: self._run(words, timed),
            ".mode": self._mode,
            ".help": self._help,
        }
        if name not in actions:
            raise MemindexError(f"there is no command {name}; {hint(name, COMMANDS)}")
        most = {".schema": 1, ".mode": 1, ".run": len(rest)}.get(name, 0)
        if len(rest) > most or (name == ".run" and not rest):
            raise MemindexError(f"write it as {' '.join([name, COMMANDS[name][0]]).strip()}")
        actions[name](*rest)
        return True

    def _answer(self, make: Callable[[], pa.Table | None]) -> None:
        """Print what `make` gives, then how long that took."""
        started = time.perf_counter()
        answer = make()
        seconds = time.perf_counter() - started
        if answer is not None:
            self.write(answer)
        rows = "done" if answer is None else "1 row" if answer.num_rows == 1 else f"{answer.num_rows:,} rows"
        note(f"{rows} in {seconds:.3f} s")
        for message in filter(None, (self.unfilled(), few_documents_note(answer) if answer is not None else "")):
            note(message)

    def _run(self, words: Sequence[str], timed: bool) -> None:
        if timed:
            self._answer(lambda: self.named(words[0], words[1:]))
        else:
            self.write(self.named(words[0], words[1:]))

    def _tables(self) -> None:
        documented = TABLES | VIEWS
        rows = [
            (name, documented[name].row if name in documented else "made on this connection")
            for name in table_names(self.con)
        ]
        self._print(["table", "one row is"], rows)

    def _schema(self, name: str | None = None) -> None:
        names = table_names(self.con)
        wanted = names if name is None else [known for known in names if known == name.lower().rstrip(";")]
        if not wanted:
            raise MemindexError(f"there is no table {name}; {hint(str(name), names, '.tables lists them')}")
        rows = [row for table in wanted for row in self._columns(table)]
        if name is None:
            self._print(["table", "column", "type", "meaning"], rows)
        else:
            self._print(["column", "type", "meaning"], [row[1:] for row in rows])

    def _columns(self, table: str) -> list[tuple[str, str, str, str]]:
        known: Table | None = (TABLES | VIEWS).get(table)
        meanings = {column.name: column.meaning for column in known.columns} if known else {}
        query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
        found = self.con.cursor().execute(query, [table]).fetchall()
        return [(table, column, kind, meanings.get(column, "")) for column, kind in found]

    def _mode(self, form: str | None = None) -> None:
        if form is None:
            note(f"answers are printed as {self.form}")
        elif form in FORMS:
            self.form = form
        else:
            raise MemindexError(f"there is no mode {form}; {hint(form, FORMS)}")

    def _help(self) -> None:
        self._print(
            ["command", "what it does"], [(f"{name} {rest}".strip(), does) for name, (rest, does) in COMMANDS.items()]
        )
        note("SQL ends with a semicolon and may take several lines. Tab completes, Ctrl-C stops, Ctrl-D leaves.")

    def _print(self, columns: list[str], rows: Sequence[Sequence[str]]) -> None:
        write_rows(columns, rows, self.form)


def print_queries(form: str) -> None:
    """List the named queries: name, question, parameters with their defaults."""
    queries = [load_query(name) for name in list_queries()]
    if form != "table":
        objects = (
            {"query": query.name, "question": query.question, "parameters": dict(query.parameters)} for query in queries
        )
        print_objects(form, objects)
        return
    rows = [
        (query.name, query.question, " ".join(f"{key}={value}" for key, value in query.parameters.items()))
        for query in queries
    ]
    write_rows(["query", "question", "parameters"], rows, form)


def write_rows(columns: list[str], rows: Sequence[Sequence[str]], form: str) -> None:
    """Print rows of text as an answer is printed."""
    import pyarrow as pa

    if form != "table":
        columns = [name.replace(" ", "_") for name in columns]
    write(pa.table({name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(columns)}), form)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise MemindexError(f"{text}: {str(error).lower()}") from None


def _pair(parameter: str) -> tuple[str, str]:
    name, equals, value = parameter.partition("=")
    if not equals:
        raise MemindexError(f"write the parameter {parameter} as NAME=VALUE")
    return name, value
