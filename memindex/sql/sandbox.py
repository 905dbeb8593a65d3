"""A connection for SQL from strangers: only the study's own files can be read, nothing changed, no folder seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memindex.sql.views import literal_path, text_literal

if TYPE_CHECKING:
    import duckdb

    from memindex.study.config import StudyConfig

#: Views with a column that may hold a path of this machine: of those only the last part is shown.
_PATHS = {"models": "source", "documents": "path"}

_SETTINGS = (
    "python_enable_replacements = false",
    "python_scan_all_frames = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "allow_community_extensions = false",
    "allow_persistent_secrets = false",
    # No folder for what does not fit into memory: a query that needs one ends.
    "temp_directory = ''",
)


def restrict(con: duckdb.DuckDBPyConnection, config: StudyConfig) -> None:
    """Lock a connection with the views of a study, for good."""
    for view, column in _PATHS.items():
        _hide_folders(con, view, column)
    documents = [path / "documents.parquet" for path in config.indexes().values()]
    for setting in (
        *_SETTINGS,
        f"allowed_directories = {_listed([config.tables])}",
        f"allowed_paths = {_listed(documents)}",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET {setting}")


def _hide_folders(con: duckdb.DuckDBPyConnection, view: str, column: str) -> None:
    """Show only the last part of absolute paths in a column; views made of this one see the same."""
    con.execute(f"ALTER VIEW {view} RENAME TO _{view}")
    con.execute(
        f"CREATE VIEW {view} AS SELECT * REPLACE ("
        rf"CASE WHEN regexp_matches({column}, '^(/|~|file:|[A-Za-z]:[\\/])')"
        rf" THEN regexp_extract({column}, '([^/\\]*)[/\\]*$', 1) ELSE {column} END AS {column}) FROM _{view}"
    )


def _listed(paths: list[Path]) -> str:
    # DuckDB compares with what stands in read_parquet(...), where glob characters are made plain.
    forms = (form for path in paths for form in sorted({str(path), literal_path(path)}))
    return f"[{', '.join(map(text_literal, forms))}]"
