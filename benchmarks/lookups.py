"""Lookups beside the peers on the same files in the same run.

    python benchmarks/lookups.py INDEX [MODE…] [--rounds N] [--check N] [--heldout FILE… --text-field F]

INDEX has one shard. Every mode prints the rates of all engines, median and minimum over the rounds, and how many times
as fast as each peer memindex was in the same round. Peers get the same queries, as many as fit in `--seconds`, one by
one because none has a batch call, and as the Python lists they want; memindex gets a batch, and one by one too.

    counts     n-grams of n = 1…64, present and absent, in one batch and one by one
    memory     random reads of the table's file in the same round as counts: how many of them a count amounts to
    several    three indexes at once, beside each alone
    domains    counts by domain beside plain counts, also of an n-gram with 12M occurrences
    longest    the longest match at every position of passages of the corpus and of --heldout files
    documents  ten documents per query, with tokens and metadata
    next       all tokens that follow an n-gram, with counts

`--check N` compares the counts of N n-grams between all engines instead, and ends with 1 when one differs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import peers
import samples
from rounds import Measured, Table, once, one_by_one

from memindex import Index
from memindex.corpus.sources import ReadOptions
from memindex.ragged import from_lists, from_matrix

BATCH, SINGLE = "memindex, one batch", "memindex, one call each"

#: Queries of a batch.
NUMBER = 1_000_000

#: Queries made for the engines that get them one by one.
SINGLES = 50_000

#: Tokens of a passage for longest matches.
PASSAGE = 1_000


def counts(index: Index, arguments: argparse.Namespace) -> None:
    """Counts by n, present and absent."""
    opened = peers.counters(peers.engines(index))
    with tempfile.TemporaryDirectory() as scratch:
        suffixes = peers.tokengrams(index, Path(scratch))
        if suffixes:
            opened[peers.TOKENGRAMS] = suffixes.count
        for kind, sample in (("present", samples.present), ("absent", samples.absent)):
            table = Table(f"n ({kind})", "counts/s")
            for turn in range(arguments.rounds):
                for length in arguments.lengths:
                    queries = sample(index, length, NUMBER, turn)
                    if len(queries):
                        table.round(str(length), counting(index, queries, opened, arguments.seconds))
            table.print([BATCH, SINGLE])


def counting(index: Index, queries: samples.Ids, opened: dict, seconds: float) -> dict[str, Measured]:
    """What every engine does to count the same n-grams; their first answers are compared."""
    batch, lists = from_matrix(queries), queries[:SINGLES].tolist()
    expected = index.count(batch)[:100].tolist()
    for name, count in opened.items():
        assert [count(query) for query in lists[:100]] == expected, f"{name} counts differently"
    singles = {SINGLE: index.count_one} | opened
    return {BATCH: once(lambda: index.count(batch), len(queries))} | {
        name: one_by_one(count, lists, seconds) for name, count in singles.items()
    }


def check(index: Index, number: int) -> bool:
    """Whether all engines count the same n-grams alike, n = 1…64, half of them absent."""
    random = np.random.default_rng(0)
    lengths = random.choice([1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64], number)
    queries: list[list[int]] = []
    for length, wanted in zip(*np.unique(lengths, return_counts=True), strict=True):
        halves = samples.present(index, length, wanted - wanted // 2, 0), samples.absent(index, length, wanted // 2, 0)
        queries += [query for half in halves for query in half.tolist()]
    ours = index.count(from_lists(queries)).tolist()
    same = True
    for name, count in peers.counters(peers.engines(index)).items():
        differ = [(q, mine, theirs) for q, mine in zip(queries, ours, strict=True) if (theirs := count(q)) != mine]
        print(f"{name}: {len(differ)} of {len(queries):,} counts differ ({sum(c > 0 for c in ours):,} are present)")
        for query, mine, theirs in differ[:5]:
            print(f"  {query}: memindex {mine}, {name} {theirs}")
        same &= not differ
    return same


def memory(index: Index, arguments: argparse.Namespace) -> None:
    """Independent random reads of eight bytes of table.0, mapped, beside counts of 5-grams in the same round."""
    table = np.memmap(index.path / "table.0", dtype="u1", mode="r")
    words = table[: len(table) // 8 * 8].view("<u8")
    words.sum()  # everything in memory
    places = np.array_split(np.random.default_rng(0).integers(0, len(words), 4 * NUMBER), arguments.threads)
    out = [np.empty(len(part), dtype=np.uint64) for part in places]
    rates = Table("", "per second")
    with ThreadPoolExecutor(arguments.threads) as pool:

        def read() -> None:
            # mode: without a check of its own, take copies through a buffer.
            list(pool.map(lambda place, to: words.take(place, out=to, mode="wrap"), places, out))

        for turn in range(arguments.rounds):
            for length in arguments.lengths:
                batch = from_matrix(samples.present(index, length, NUMBER, turn))
                measured = {
                    "random reads": once(read, 4 * NUMBER),
                    "memindex counts": once(lambda batch=batch: index.count(batch), NUMBER),
                }
                rates.round(f"{length}-grams", measured)
    print(f"\n{arguments.threads} threads of NumPy's take over {len(words) * 8 / 1e6:,.0f} MB")
    rates.print(["random reads"])


def several(index: Index, arguments: argparse.Namespace) -> None:
    """Three indexes at once: those of --others and INDEX, or three copies of INDEX; 5-grams of INDEX."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        paths = arguments.others or [Path(scratch, name) for name in ("b", "c")]
        for path in paths:
            if not arguments.others:
                shutil.copytree(index.path, path)
            samples.warm(Path(path))
        indexes = [index, *map(Index.open, paths)]
        alone, together = peers.engines(index), peers.engines(*indexes)
        table = Table("5-grams", "counts/s")
        for turn in range(arguments.rounds):
            queries = samples.present(index, 5, NUMBER, turn)
            batch, lists = from_matrix(queries), queries[:SINGLES].tolist()
            for row, asked, opened in (("one index", indexes[:1], alone), ("three indexes", indexes, together)):
                measured = {
                    BATCH: once(lambda asked=asked, batch=batch: sum(i.count(batch) for i in asked), NUMBER),
                    SINGLE: one_by_one(
                        lambda q, asked=asked: sum([i.count_one(q) for i in asked]), lists, arguments.seconds
                    ),
                }
                for name, count in peers.counters(opened).items():
                    measured[name] = one_by_one(count, lists, arguments.seconds)
                table.round(row, measured)
        table.print([BATCH, SINGLE])
        ratios = Table("", "three indexes cost so many times what one costs (3: the sum of their costs)")
        for name in table.rates["one index"]:
            pairs = zip(table.rates["one index"][name], table.rates["three indexes"][name], strict=True)
            for one, three in pairs:
                ratios.add(name, {"times": one / three})
        ratios.print()


def domains(index: Index, arguments: argparse.Namespace) -> None:
    """Counts by domain beside plain counts."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        letters = samples.frequent(Path(scratch), 12_000_000)
        many = np.full((SINGLES, 1), ord("a"), dtype=np.uint32)
        frequent = f"an n-gram with {letters.count_one([ord('a')]):,} occurrences"
        batches, singles = Table("one batch", "counts/s"), Table("one call each", "counts/s")
        for turn in range(arguments.rounds):
            asked = {f"{n}-grams": (index, samples.present(index, n, NUMBER, turn)) for n in arguments.lengths}
            for row, (one, queries) in (asked | {frequent: (letters, many)}).items():
                batch, lists = from_matrix(queries), queries[:SINGLES].tolist()
                assert (one.count(batch) == one.count_by_domain(batch).sum(axis=1)).all(), "domains do not add up"
                calls = {"by domain": one.count_by_domain, "plain": one.count}
                batches.round(row, {n: once(lambda c=c, b=batch: c(b), len(queries)) for n, c in calls.items()})
                calls = {"by domain": one.count_by_domain_one, "plain": one.count_one}
                singles.round(row, {n: one_by_one(c, lists, arguments.seconds) for n, c in calls.items()})
        batches.print(["plain"])
        singles.print(["plain"])


def longest(index: Index, arguments: argparse.Namespace) -> None:
    """Positions per second of longest matches; peers (their `creativity`) tell lengths only, without counts."""
    opened = peers.engines(index)
    table = Table(f"passages of {PASSAGE:,} tokens", "positions/s")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        kinds = {"of the corpus": index}
        if arguments.heldout:
            options = ReadOptions(text_field=arguments.text_field)
            kinds["held out"] = samples.heldout(index, arguments.heldout, options, Path(scratch))
        for turn in range(arguments.rounds):
            for kind, source in kinds.items():
                found = samples.passages(source, PASSAGE, NUMBER // PASSAGE, turn)
                if not len(found):
                    sys.exit(f"no document of {kind} holds a passage of {PASSAGE:,} tokens")
                batch, lists = from_matrix(found), found.tolist()
                ends = index.longest_match(batch).lengths[:PASSAGE] + np.arange(PASSAGE)
                measured = {BATCH: once(lambda batch=batch: index.longest_match(batch), found.size)}
                for name, engine in opened.items():
                    assert engine.creativity(lists[0])["rs"] == ends.tolist(), f"{name} matches differently"
                    measured[name] = one_by_one(engine.creativity, lists, arguments.seconds, PASSAGE)
                table.round(kind, measured)
    table.print([BATCH])


def documents(index: Index, arguments: argparse.Namespace) -> None:
    """Documents per second: tokens and metadata of ten per query, 1,000 tokens of each at most; 5-grams."""
    table = Table("documents of", "documents/s")
    opened = peers.engines(index)
    for turn in range(arguments.rounds):
        queries = samples.present(index, 5, NUMBER, turn)
        queries = queries[index.count(from_matrix(queries)) >= 10][:SINGLES]
        batch, lists = from_matrix(queries[:5_000]), queries.tolist()
        several = [from_matrix(query[None]) for query in queries]
        measured = {
            BATCH: once(lambda batch=batch: index.documents(batch, 10, text=False), 10 * batch.rows),
            SINGLE: one_by_one(lambda query: index.documents(query, 10, text=False), several, arguments.seconds, 10),
            "memindex, with text": once(lambda batch=batch: index.documents(batch, 10), 10 * batch.rows),
        }
        for name, engine in opened.items():
            ask = fast_documents if name == peers.FAST else infini_documents
            measured[name] = one_by_one(lambda q, e=engine, ask=ask: ask(e, q), lists, arguments.seconds, 10)
        table.round("5-grams that occur ten times", measured)
    table.print([BATCH, SINGLE])


def infini_documents(engine, query: list[int]) -> list:
    """Ten documents of infini-gram, by the ranks of its `find`."""
    first = engine.find(query)["segment_by_shard"][0][0]
    return [engine.get_doc_by_rank(0, first + i, 1_000) for i in range(10)]


def fast_documents(engine, query: list[int]) -> list:
    """Ten documents of fast-gram's compiled engine: its Python class has no call for it."""
    first = engine.find(query)["segment_by_shard"][0][0]
    found = engine.engine.get_docs_by_ranks([(0, first + i) for i in range(10)], 1_000)
    return [(document.token_ids, document.metadata) for document in found]


def following(index: Index, arguments: argparse.Namespace) -> None:
    """Next tokens per second: ours exact; peers as they come (a sample of 1,000 occurrences) and exact."""
    table = Table("all tokens after", "queries/s")
    opened = peers.engines(index)
    calls = {name: engine.primitive_ntd if name == peers.FAST else engine.ntd for name, engine in opened.items()}
    for turn in range(arguments.rounds):
        for length in (1, 2, 3, 5):
            queries = samples.present(index, length, 20_000, turn)
            # Peers know one token only after an n-gram that also ends the shard.
            queries = queries[(queries != index.tokens_of_shard(0)[-length:]).any(axis=1)]
            batch, lists = from_matrix(queries), queries.tolist()
            singles = [from_matrix(query[None]) for query in queries]
            # No sample, and no more memory than that needs.
            exact = list(zip(lists, (index.count(batch) + 1).tolist(), strict=True))
            measured = {
                BATCH: once(lambda batch=batch: index.next_tokens(batch), len(queries)),
                SINGLE: one_by_one(index.next_tokens, singles, arguments.seconds),
            }
            for name, ask in calls.items():
                measured[name] = one_by_one(ask, lists, arguments.seconds)
                if name != peers.DEFAULTS:
                    same_tokens(index, ask, exact[:5], name)
                    measured[f"{name}, exact"] = one_by_one(
                        lambda pair, ask=ask: ask(pair[0], max_support=pair[1]), exact, arguments.seconds
                    )
            table.round(f"{length}-grams", measured)
    table.print([BATCH, SINGLE])


def same_tokens(index: Index, ask: Callable, queries: list[tuple[list[int], int]], name: str) -> None:
    """Compare exact next tokens; peers count the end of a document as their end-of-text token, 0 here."""
    for query, enough in queries:
        found = index.next_tokens([query])
        ours = {0: 0} | dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True))
        ours[0] += int(found.ends[0])
        theirs = {t: f["cont_cnt"] for t, f in ask(query, max_support=enough)["result_by_token_id"].items()}
        assert ours == {0: 0} | theirs, f"{name} has other tokens after {query}"


MODES = {
    "counts": counts,
    "memory": memory,
    "several": several,
    "domains": domains,
    "longest": longest,
    "documents": documents,
    "next": following,
}


def main() -> None:
    """Run the modes asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 5, 8, 16, 64], metavar="N")
    parser.add_argument("--seconds", type=float, default=0.5, help="for one engine's single calls in a round")
    parser.add_argument("--threads", type=int, default=2, help="threads of random reads: as many as processors")
    parser.add_argument("--others", nargs=2, metavar="INDEX", help="with INDEX, the three of `several`")
    parser.add_argument("--heldout", nargs="*", default=[], metavar="FILE", help="texts not in INDEX, for `longest`")
    parser.add_argument("--text-field", default="text", help="where the text stands in --heldout")
    parser.add_argument("--scratch", help="folder for copies and small indexes")
    parser.add_argument("--check", type=int, metavar="N", help="compare N counts of all engines, measure nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.modes) - set(MODES)
    if unknown:
        parser.error(f"unknown mode {', '.join(sorted(unknown))}: choose from {', '.join(MODES)}")
    index = Index.open(arguments.index)
    if index.manifest.shards != 1:
        parser.error(f"{index.path} has {index.manifest.shards} shards: build it with one")
    print(f"{index.name}: {index.manifest.tokens:,} tokens of {index.manifest.token_width} bytes")
    if arguments.check:
        sys.exit(not check(index, arguments.check))
    samples.warm(index.path)
    for name in arguments.modes or MODES:
        print(f"\n## {name}", flush=True)
        MODES[name](index, arguments)


if __name__ == "__main__":
    main()
