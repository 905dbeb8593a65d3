"""The answers of all queries of a study as small Parquet files, for a repository: the tables are too large for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from memindex.errors import MemindexError
from memindex.models.sources import read_record
from memindex.sql.connection import connect
from memindex.sql.empty_tables import check_answered, unfinished_runs, why_empty
from memindex.sql.queries import Parameter, Query, list_queries, load_query
from memindex.sql.query_pool import run_queries
from memindex.study.config import FILE, ModelConfig, StudyConfig, load_study
from memindex.work.folders import new_folder, partial_directory

#: The file with a row per model.
MODELS = "models.parquet"

#: Columns of MODELS beside those of the table models: of study.toml, and of what `memindex train` recorded.
_TRAINING = {
    "control": pa.string(),
    "seed": pa.int64(),
    "corpus_tokens": pa.int64(),
    "seconds": pa.float64(),
    "final_loss": pa.float64(),
    "tokens_per_second": pa.float64(),
    "compiled": pa.bool_(),
    "device": pa.string(),
}

#: Told one line about each query that has no file.
Tell = Callable[[str], None]


def export_study(study: str | Path, out: str | Path, *, replace: bool = False, tell: Tell | None = None) -> Path:
    """Write each query's answer as OUT/QUERY.parquet, the models as OUT/models.parquet, and a copy of study.toml.

    Parameters have their defaults; where a query's header lists other texts for one, it is asked once more for each, as
    OUT/QUERY__TEXT.parquet. A query that has no rows or can't be answered has no file, and `tell` is told why.
    models.parquet is the table models with, where a model's training.json is found, its seed, the corpus's tokens,
    seconds, final loss in nats per token, tokens per second, whether its layers were compiled, and the device.
    The same tables give the same bytes; the folder appears whole or not at all.

    Args:
        study: The study's directory.
        out: The folder to make.
        replace: Whether an earlier export there is replaced.
        tell: Called with one line about each query that has no file.

    Returns:
        The folder.

    Raises:
        MemindexError: No study there, no query that has rows, something stands at `out` (with `replace`: that is no
            export), or nothing can be written there.
    """
    config, target, tell = load_study(study), new_folder(out), tell or (lambda _: None)
    _check_target(target, replace)
    con = connect(study)
    try:
        answers = _answers(con)
        check_answered(con, config, (answer for _, _, answer in answers))
        if unfinished := unfinished_runs(con, config):
            tell(f"the export lacks runs: {unfinished}")
        # Beside the target, which is there until the new one is whole.
        with partial_directory(target.with_name(f"{target.name}.new"), "study export") as folder:
            for name, query, answer in answers:
                if isinstance(answer, MemindexError):
                    tell(f"{name} is left out: {' '.join(str(answer).split())}")
                elif answer.num_rows:
                    _write(answer, folder / f"{name}.parquet")
                else:
                    tell(f"{name} has no rows: {why_empty(con, query.sql) or 'nothing in the tables answers it'}")
            _write(_models(con, config, tell), folder / MODELS)
            shutil.copyfile(config.directory / FILE, folder / FILE)
            _put(folder, target)
    except OSError as error:
        raise MemindexError(f"can't write {target}: {error.strerror or error}") from None
    finally:
        con.close()
    return target


def _check_target(target: Path, replace: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not is_export(target):
        raise MemindexError(f"{target} exists and is no export of a study: choose another --out, or remove it first")
    if not replace:
        raise MemindexError(f"{target} is an earlier export: replace it with --replace, or choose another --out")


def is_export(folder: Path) -> bool:
    """Whether a folder holds what `export_study` writes, and nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    files = list(folder.iterdir())
    known = all(file.is_file() and (file.suffix == ".parquet" or file.name == FILE) for file in files)
    return known and {FILE, MODELS} <= {file.name for file in files}


def _put(folder: Path, target: Path) -> None:
    """Give the finished folder its name; an earlier export steps aside first, and is gone afterwards."""
    before = target.with_name(f".{target.name}.before")
    if is_export(before):  # of a process that was killed here
        shutil.rmtree(before)
    if target.exists():
        target.rename(before)
    folder.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _answers(con: duckdb.DuckDBPyConnection) -> list[tuple[str, Query, pa.Table | MemindexError]]:
    """The name of each file, without its suffix, its query, and the answer."""
    asked = [(query, name, values) for query in map(load_query, list_queries()) for name, values in _askings(query)]
    answers = run_queries(con, [(query, values) for query, _, values in asked])
    return [(name, query, answer) for (query, name, _), answer in zip(asked, answers, strict=True)]


def _askings(query: Query) -> Iterator[tuple[str, dict[str, Parameter]]]:
    """How a query is asked: with the defaults, and with each other text that its header lists."""
    yield query.name, {}
    for parameter, allowed in query.allowed.items():
        if isinstance(query.parameters[parameter], str):
            for text in allowed.split(", "):
                yield f"{query.name}__{text}", {parameter: text}


def _models(con: duckdb.DuckDBPyConnection, config: StudyConfig, tell: Tell) -> pa.Table:
    """The table models with the columns `_TRAINING`, in the order of the models' names."""
    models = con.sql("FROM models ORDER BY model_id").to_arrow_table()
    known = {model.id: model for model in config.models}
    rows = [_training(config, known.get(model_id), tell) for model_id in models["model_id"].to_pylist()]
    for name, kind in _TRAINING.items():
        models = models.append_column(name, pa.array([row.get(name) for row in rows], kind))
    return models


def _training(config: StudyConfig, model: ModelConfig | None, tell: Tell) -> dict[str, Any]:
    """What study.toml and training.json say of a model; nothing of one that study.toml does not list."""
    if model is None:
        return {}
    try:
        record = read_record(config.directory / model.source) or {}
        seconds, tokens = record.get("seconds"), record.get("trained_tokens")
        return {name: record.get(name) for name in _TRAINING} | {
            "control": model.control,
            "seed": (record.get("config") or {}).get("seed"),
            "tokens_per_second": tokens / seconds if tokens and seconds else None,
        }
    except MemindexError as error:
        tell(str(error))
        return {"control": model.control}


def _write(table: pa.Table, file: Path) -> None:
    # One chunk, and no metadata: how DuckDB cut its answer into chunks is nothing that a file should tell.
    whole = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(whole, file, compression="zstd", compression_level=9, store_schema=False)
