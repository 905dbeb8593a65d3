"""Whole corpora in their published formats against DuckDB and `tokenizers`: documents, tokens by domain, every id.

    python benchmarks/published.py pile=mini-pile the-stack=mini-stack dolma=mini-dolma --tokenizers FOLDER…

Each corpus is a recipe and a folder of files it reads. Every document that the readers give is compared with DuckDB's,
its ids with those of `tokenizers` for every tokenizer, and documents and tokens by domain of an index built with the
first tokenizer with what follows from both. Prints a line per corpus and tokenizer; ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import tokenizers

from memindex.corpus.documents import BadDocuments
from memindex.corpus.sources import find_files, read_documents
from memindex.corpus.tokenizer import Tokenizer, load_tokenizer
from memindex.index import Index, build_index
from memindex.index.recipes import find_recipe

#: How DuckDB reads the files of each recipe: text and domain.
QUERIES = {
    "pile": "SELECT text, meta.pile_set_name FROM read_json({}, format = 'newline_delimited')",
    "the-stack": "SELECT content, split_part(filename, '/', {depth}) FROM read_parquet({}, filename = true)",
    "dolma": "SELECT text, source FROM read_json({}, format = 'newline_delimited')",
}


def main() -> None:
    """Compare every corpus with every tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", metavar="RECIPE=FOLDER")
    parser.add_argument("--tokenizers", nargs="+", required=True, type=Path)
    arguments = parser.parse_args()
    equal = [
        compare(recipe, Path(folder), arguments.tokenizers)
        for recipe, folder in (corpus.split("=", 1) for corpus in arguments.corpora)
    ]
    sys.exit(0 if all(equal) else 1)


def compare(recipe: str, folder: Path, names: list[Path]) -> bool:
    """Compare one corpus; True when all is equal."""
    options = find_recipe(recipe).options()
    files = find_files([folder], options)
    batches = [batch for batch in read_documents(files, options, BadDocuments()) if len(batch)]
    documents = pa.Table.from_batches(batches)
    query = QUERIES[recipe].format(
        [str(file.file) for file in files], depth=len(folder.parts) + (2 if folder.is_absolute() else 1) - 1
    )
    rows = duckdb.sql(query).fetchall()
    ours = list(zip(documents["text"].to_pylist(), documents["domain"].to_pylist(), strict=True))
    same = Counter(ours) == Counter((text.encode(), domain) for text, domain in rows)
    print(f"{recipe}: {len(ours):,} documents, {len(rows):,} by DuckDB: {'equal' if same else 'DIFFERENT'}")
    first: Counter[str] = Counter()
    for name in names:
        tokens, different = compare_ids(load_tokenizer(name), name, batches, first if name == names[0] else None)
        same &= not different
        print(f"  {name.name}: {tokens:,} tokens, {different} documents with other ids")
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        build_index([folder], Path(scratch) / "out", tokenizer=names[0], options=options)
        seconds = time.perf_counter() - start
        found = {d.name: (d.documents, d.tokens) for d in Index.open(Path(scratch) / "out").manifest.domains}
    counts = Counter(domain for _, domain in rows)
    built = found == {domain: (counts[domain], first[domain]) for domain in counts}
    print(
        f"  index ({seconds:.1f} s): documents and tokens of {len(found)} domains {'equal' if built else 'DIFFERENT'}"
    )
    return same and built


def compare_ids(
    loaded: Tokenizer, folder: Path, batches: list[pa.RecordBatch], by_domain: Counter[str] | None
) -> tuple[int, int]:
    """Tokens, and documents whose ids are not those of `tokenizers`."""
    slow = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json" if folder.is_dir() else folder))
    total = different = 0
    for batch in batches:
        fast = loaded.encode_batch(batch.column("text"))
        texts = batch.column("text").cast(pa.large_string()).to_pylist()
        for row, (encoded, domain) in enumerate(
            zip(
                slow.encode_batch_fast(texts, add_special_tokens=False), batch.column("domain").to_pylist(), strict=True
            )
        ):
            different += encoded.ids != fast.row(row).tolist()
            total += len(encoded.ids)
            if by_domain is not None:
                by_domain[domain] += len(encoded.ids)
    return total, different


if __name__ == "__main__":
    main()
