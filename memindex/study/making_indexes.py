"""The indexes of a study whose corpus is its own: [build], [[corpus]], [[other]] and [plant] of study.toml.

The parts of the corpus, whatever their formats, are written as one Parquet file of texts and domains first; that is
what is indexed, with the planted documents beside it. Everything is there whole or not at all, and what is there is not
made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from memindex.corpus.documents import BadDocuments, ReadOptions
from memindex.corpus.sources import find_files, read_documents
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.corpus.tokenizer_training import train_tokenizer
from memindex.errors import CorpusError, MemindexError
from memindex.index.builder import build_index
from memindex.index.index import Index
from memindex.index.manifest import write_atomically
from memindex.mistaken_paths import looks_like_path, no_such
from memindex.progress import Progress
from memindex.study.config import StudyConfig
from memindex.study.demo_corpus import CorpusPlan, write_corpus
from memindex.study.making_config import CorpusPart
from memindex.study.planting import DOCUMENTS, PlantPlan, plant

#: The columns of a written corpus; `source` and `line` say where a text was read.
_SCHEMA = pa.schema(
    [("text", pa.large_string()), ("domain", pa.large_string()), ("source", pa.string()), ("line", pa.int64())]
)

#: What is read of it when it is indexed.
_OPTIONS = ReadOptions(domain_field="domain")

#: What is to be put where a study.toml says that there is one.
TOKENIZER_NEEDED, CORPUS_NEEDED = "a tokenizer.json, or a folder with one,", "the corpus, or a link to it,"

#: The settings that all of it was made with.
_SETTINGS = "settings.json"


def build_folder(config: StudyConfig) -> Path:
    """Where a study keeps its corpus as one file, its tokenizer, and the index of other text."""
    return config.directory / "build"


def other_index(config: StudyConfig) -> Path:
    """The index of [[other]], which control models are trained on."""
    return build_folder(config) / "other"


def all_indexes(config: StudyConfig) -> dict[str, Path]:
    """The study's indexes, and that of other text, by name."""
    return {**config.indexes(), **({"other": other_index(config)} if config.other else {})}


def missing_indexes(config: StudyConfig) -> list[Path]:
    """The indexes that the study is to make and has not made."""
    return [path for path in all_indexes(config).values() if config.build is not None and not path.exists()]


def ensure_indexes(config: StudyConfig, progress: Progress) -> None:
    """Make the indexes that are missing.

    Raises:
        MemindexError: Text is missing or malformed, there is too little of it to plant, or study.toml says something
            else than it did when the indexes were made.
    """
    if config.build is None:
        return
    _check_same(config)
    if not missing_indexes(config):
        return
    _write_corpus(config, progress)
    tokenizer = _tokenizer(config, progress)
    corpus = build_folder(config)
    heldout = corpus / "heldout.parquet"
    sources = [corpus / "corpus.parquet"]
    if config.plant is not None and config.planted is not None:
        if not config.planted.exists():
            _plant(config, sources[0], heldout, tokenizer, progress)
        sources.append(config.planted / DOCUMENTS)
    _index(sources, config.index, tokenizer, progress)
    if config.heldout is not None:
        _index([heldout], config.heldout, tokenizer, progress)
    if config.other:
        _index([corpus / "other.parquet"], other_index(config), tokenizer, progress)


def _check_same(config: StudyConfig) -> None:
    """Refuse to go on with what other settings made; they are kept beside it."""
    assert config.build is not None
    parts = [asdict(part) for part in (*config.corpus, *config.other)]
    plant = None if config.plant is None else {**asdict(config.plant), "length": _length(config)}
    if plant and plant["lengths"] is None:
        del plant["lengths"]  # As in studies made before there was such a key.
    settings = json.loads(json.dumps([asdict(config.build), parts, len(config.corpus), plant]))
    file = build_folder(config) / _SETTINGS
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(settings, indent=1).encode())
    elif json.loads(file.read_text(encoding="utf-8")) != settings:
        raise MemindexError(
            f"{config.directory}: [build], [[corpus]], [[other]] or [plant] changed since its indexes were made: put "
            f"them back, or remove {file.parent}, the indexes, the planted texts and the models to make all anew"
        )


def _length(config: StudyConfig) -> int:
    return config.sequences.prefix + config.sequences.suffix


def _index(sources: Sequence[Path], out: Path, tokenizer: Tokenizer, progress: Progress) -> None:
    if not out.exists():
        build_index(
            sources,
            out,
            tokenizer=tokenizer,
            options=_OPTIONS,
            progress=lambda stage, done, total: progress(f"index {out.name}: {stage}", done, total),
        )


def _plant(config: StudyConfig, corpus: Path, heldout: Path, tokenizer: Tokenizer, progress: Progress) -> None:
    """Choose the planted texts; an index of the corpus without them is made for it, and removed again."""
    assert config.plant is not None and config.planted is not None
    base = build_folder(config) / "unplanted"
    _index([corpus], base, tokenizer, progress)
    settings = config.plant
    lengths = settings.lengths or (_length(config),)
    plan = PlantPlan(settings.copies, settings.sequences, lengths, settings.seed, domain_field="domain")
    plant(Index.open(base), [heldout], config.planted, plan, ReadOptions())
    shutil.rmtree(base)


def _tokenizer(config: StudyConfig, progress: Progress) -> Tokenizer:
    """The tokenizer that is named, or one trained on the corpus."""
    assert config.build is not None
    if config.build.tokenizer is not None:
        return named_tokenizer(config, config.build.tokenizer)
    out = build_folder(config) / "tokenizer"
    if not out.exists():
        progress("train tokenizer", 0, 1)
        partial = out.with_name(".tokenizer.partial")
        shutil.rmtree(partial, ignore_errors=True)
        train_tokenizer(_texts(build_folder(config) / "corpus.parquet"), partial, config.build.vocabulary or 0)
        partial.rename(out)
        progress("train tokenizer", 1, 1)
    return load_tokenizer(out)


def named_tokenizer(config: StudyConfig, name: str) -> Tokenizer:
    """The tokenizer of that name, or in that place in the study's directory."""
    beside = config.directory / name
    if beside.exists() or not looks_like_path(name):
        return load_tokenizer(beside if beside.exists() else name)
    raise MemindexError(f"tokenizer {name}: {no_such(name, config.directory, TOKENIZER_NEEDED)}")


def _texts(file: Path) -> Iterator[str]:
    for batch in pq.ParquetFile(file).iter_batches(columns=["text"]):
        yield from batch.column(0).to_pylist()


def _write_corpus(config: StudyConfig, progress: Progress) -> None:
    """Write corpus.parquet, heldout.parquet and other.parquet, those that are missing."""
    folder = build_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"corpus": _parts(config, config.corpus, held_out=False), "other": _parts(config, config.other, False)}
    if config.heldout is not None:
        wanted["heldout"] = _parts(config, config.corpus, held_out=True)
    for name, parts in wanted.items():
        file = folder / f"{name}.parquet"
        if parts and not file.exists():
            progress(f"write {name}", 0, 1)
            _write(parts, file)
            progress(f"write {name}", 1, 1)
    if config.heldout is not None and not (folder / "heldout.parquet").exists():
        raise CorpusError(f"{config.directory}: heldout is to be built, and no [[corpus]] names texts for it")
    shutil.rmtree(folder / "installed", ignore_errors=True)


def _parts(config: StudyConfig, parts: Sequence[CorpusPart], held_out: bool) -> list[tuple[list[Path], ReadOptions]]:
    """(files or folders, how they are read) of each part."""
    installed = build_folder(config) / "installed"
    if any(part.installed for part in parts) and not installed.exists():
        write_corpus(installed, CorpusPlan())
    found = []
    for part in parts:
        sources, options = sources_of(config, part, held_out)
        if part.installed:
            sources = [installed / ("heldout" if held_out else "train")]
        if sources:
            found.append((sources, options))
    return found


def sources_of(config: StudyConfig, part: CorpusPart, held_out: bool) -> tuple[list[Path], ReadOptions]:
    """The files or folders of a part of the corpus, and how they are read; none for text that is installed.

    Raises:
        CorpusError: One is missing.
    """
    sources = [config.directory / name for name in (part.heldout if held_out else part.sources)]
    for source in sources:
        if not source.exists():
            name = str(source.relative_to(config.directory)) if source.is_relative_to(config.directory) else str(source)
            raise CorpusError(no_such(name, config.directory, CORPUS_NEEDED))
    return sources, ReadOptions(part.text_field, part.domain_field, part.include, part.domain_sql)


def _write(parts: Sequence[tuple[list[Path], ReadOptions]], file: Path) -> None:
    """Write the documents of all parts as one file, which appears when it is whole."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        with pq.ParquetWriter(partial, _SCHEMA, compression="zstd", compression_level=9) as writer:
            for sources, options in parts:
                for batch in read_documents(find_files(sources, options), options, BadDocuments()):
                    if batch.num_rows:
                        writer.write_batch(_rows(batch, sources))
        partial.rename(file)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


def _rows(batch: pa.RecordBatch, sources: Sequence[Path]) -> pa.RecordBatch:
    if batch.schema.field(0).name != "text":
        raise MemindexError(f"{sources[0]} holds tokens: a study's corpus is built of texts")
    columns = [batch.column("text"), batch.column("domain"), batch.column("path"), batch.column("line")]
    return pa.record_batch(
        [column.cast(field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )
