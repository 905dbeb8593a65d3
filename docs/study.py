"""Writes docs/study.md and its figures from the exported answers of a study: `python docs/study.py`.

studies/families/study.md.in is the page, in which stand, on lines of their own,

    <!-- figure: NAME -->             the figure of studies/families/NAME.sql, as an SVG, with its note
    <!-- table: NAME -->              its rows as a table
    <!-- table: NAME by COLUMN -->    the same with the values of a column side by side

    <!-- with: NAME NAME --> … <!-- end -->   lines that stand there only if the results hold NAME.parquet;
                                            OTHER/NAME: that of another study

and anywhere {{NAME.COLUMN}}, the value in the one row of NAME.sql ({{NAME.COLUMN ±}} with its interval), so that no
number is typed by hand. NAME.sql is written as the files of queries/ are; it reads the Parquet files of
`memindex study export` as tables of their names, those of other studies in folders beside them as OTHER.NAME, and the
views of studies/families/views.sql, and it may call the functions of docs/tables.md. Equal results give equal bytes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from memindex.errors import MemindexError
from memindex.index.manifest import write_atomically
from memindex.report import Families, save_figure
from memindex.report.markdown_tables import markdown_table, value_text
from memindex.sql.queries import Query, parse_query
from memindex.sql.statistics import register

HERE = Path(__file__).resolve().parent
STUDY = HERE.parent / "studies" / "families"
RESULTS = STUDY / "results"
TEMPLATE = STUDY / "study.md.in"

#: Views that the questions share; no question itself.
VIEWS = "views.sql"

#: What stands where a sentence waits for results.
TODO = "TODO-INTERPRET"

#: What stands where results lack a part of the study.
ABSENT = "These results do not hold it yet."

#: Folder of the figures, beside the page.
IMAGES = Path("images", "study")

_LINE = re.compile(r"<!-- (figure|table): ([a-z0-9_]+)(?: by ([a-z0-9_]+))? -->")
_WITH, _END = re.compile(r"<!-- with: ([a-z0-9_/ ]+) -->"), "<!-- end -->"
_VALUE = re.compile(r"\{\{([a-z0-9_]+)\.([a-z0-9_]+)( ±)?\}\}")
_HEAD = "<!-- Written by `python docs/study.py` from studies/families; do not edit. -->\n\n"


class Page:
    """The page under way: its questions with their answers, and which of them it has used.

    Args:
        results: The folder of `memindex study export`.
        out: Folder of the page.
    """

    def __init__(self, results: Path, out: Path) -> None:
        self.results, self.out = results, out
        self.con = connect(results)
        self.questions = {file.stem: file for file in sorted(STUDY.glob("*.sql")) if file.name != VIEWS}
        self.families = Families(self.con.sql("FROM families").fetchall())
        self.answers: dict[str, tuple[Query, pa.Table]] = {}
        self.left_out: set[str] = set()
        self.noted: set[str] = set()
        self.drawn: set[str] = set()

    def write(self, template: str, *, final: bool = False) -> str:
        """The page's text, and its figures into their folder.

        Raises:
            MemindexError: A directive that names nothing, a question that nothing asks, or one without an answer; or
                with `final`, sentences that still wait for results.
        """
        there = list(self._there(template.splitlines()))
        if final and (waiting := "".join(there).count(TODO)):
            raise MemindexError(f"{TEMPLATE} still has {waiting} × {TODO}: write what the results mean")
        lines = [self._line(line) for line in there]
        text = _VALUE.sub(self._value, "\n".join(lines)) + "\n"
        if unread := re.search(r"<!--(?! TODO).*?-->|\{\{.*?\}\}", text):
            raise MemindexError(f"{TEMPLATE.name}: {unread.group()} is no directive")
        if unused := sorted(set(self.questions) - set(self.answers) - self.left_out):
            raise MemindexError(f"no directive of {TEMPLATE.name} uses {', '.join(f'{name}.sql' for name in unused)}")
        return _HEAD + text

    def _there(self, lines: list[str]) -> Iterator[str]:
        """The lines, without the parts whose results are missing."""
        inside, skipping = False, False
        for line in lines:
            if begin := _WITH.fullmatch(line.strip()):
                if inside:
                    raise MemindexError(f"{TEMPLATE.name}: {line.strip()} stands inside another part")
                inside = True
                skipping = not all((self.results / f"{name}.parquet").exists() for name in begin[1].split())
                if skipping:
                    yield ABSENT
            elif line.strip() == _END:
                if not inside:
                    raise MemindexError(f"{TEMPLATE.name}: {_END} without a beginning")
                inside = skipping = False
            elif skipping:
                self.left_out |= {found[2] for found in _LINE.finditer(line)} | {f[1] for f in _VALUE.finditer(line)}
            else:
                yield line
        if inside:
            raise MemindexError(f"{TEMPLATE.name}: a part has no {_END}")

    def _answer(self, name: str) -> tuple[Query, pa.Table]:
        if name not in self.questions:
            raise MemindexError(f"{TEMPLATE.name}: there is no {name}.sql in {STUDY}")
        if name not in self.answers:
            query = parse_query(name, self.questions[name].read_text(encoding="utf-8"))
            try:
                table = self.con.sql(query.sql).to_arrow_table()
            except duckdb.Error as error:
                raise MemindexError(f"{name}.sql: {_first_line(error)}") from None
            if not table.num_rows:
                raise MemindexError(f"{name}.sql has no rows: the results lack what it asks for")
            self.answers[name] = query, table
        return self.answers[name]

    def _line(self, line: str) -> str:
        found = _LINE.fullmatch(line.strip())
        if found is None:
            return line
        kind, name, across = found.groups()
        query, table = self._answer(name)
        try:
            shown = self._figure(query, table) if kind == "figure" else markdown_table(table, across or "")
        except MemindexError as error:
            raise MemindexError(f"{name}.sql: {error}") from None
        note = f"\n\n*{query.note}*" if query.note and name not in self.noted else ""
        self.noted.add(name)
        return shown + note

    def _figure(self, query: Query, table: pa.Table) -> str:
        folder = self.out / IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        self.drawn.add(save_figure(query, table, folder / f"{query.name}.svg", self.families).name)
        return f"![{query.title}]({IMAGES.as_posix()}/{query.name}.svg)"

    def _value(self, found: re.Match[str]) -> str:
        name, column, interval = found.groups()
        _, table = self._answer(name)
        if table.num_rows != 1 or column not in table.column_names:
            raise MemindexError(f"{TEMPLATE.name}: {found.group()}: {name}.sql has no single row with {column}")
        return value_text(table.to_pylist()[0], column, interval=bool(interval))


def connect(results: Path) -> duckdb.DuckDBPyConnection:
    """A connection with a view per Parquet file, and those of views.sql.

    Raises:
        MemindexError: No results, or some that the views need are not there.
    """
    files = sorted(results.glob("*.parquet"))
    if not files:
        raise MemindexError(f"{results} has no results: make them with: memindex study export STUDY --out {results}")
    con = duckdb.connect(":memory:", config={"threads": 1})  # sums of floats depend on the order of their terms
    register(con)
    for file in files:
        con.read_parquet(str(file)).create_view(file.stem)
    for file in sorted(results.glob("*/*.parquet")):
        con.execute(f'CREATE SCHEMA IF NOT EXISTS "{file.parent.name}"')
        con.read_parquet(str(file)).create_view("other_study")
        con.execute(f'CREATE TABLE "{file.parent.name}"."{file.stem}" AS FROM other_study')
    try:
        con.execute((STUDY / VIEWS).read_text(encoding="utf-8"))
    except duckdb.Error as error:
        raise MemindexError(f"{VIEWS}: {_first_line(error)}; export the study again: {results}") from None
    return con


def build(results: Path = RESULTS, out: Path = HERE, *, final: bool = False) -> Path:
    """Write OUT/study.md and OUT/images/study/*.svg; returns the page.

    Raises:
        MemindexError: As `Page.write`; or with `final`, sentences that still wait for results.
    """
    template = TEMPLATE.read_text(encoding="utf-8")
    page = Page(results, out)
    text = page.write(template, final=final)
    for file in (out / IMAGES).glob("*.svg"):
        if file.name not in page.drawn:
            file.unlink()
    write_atomically(out / "study.md", text.encode())
    return out / "study.md"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write docs/study.md and its figures from a study's exported answers.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of memindex study export")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of study.md")
    parser.add_argument("--final", action="store_true", help=f"refuse a page that still has {TODO}")
    given = parser.parse_args()
    try:
        sys.stdout.write(f"{build(given.results, given.out, final=given.final)}\n")
    except MemindexError as error:
        sys.stderr.write(f"{Path(__file__).name}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
