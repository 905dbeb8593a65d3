"""infini-gram's query types, answered from an index; every error says what the published server says.

Arguments were checked against `METHODS`; what a function raises as `RefusedError` is an answer with `error`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from memindex.index.describing import Answer
from memindex.server.indexes import Served
from memindex.server.infini_gram_documents import document_at, position_at, sampled, with_spans
from memindex.server.infini_gram_lookups import longest_suffix, next_tokens, segments, total

#: An n-gram, or clauses of n-grams.
Ids = list[int]
Cnf = list[list[Ids]]

#: The largest value of every argument that has one.
MAXIMA = {
    "max_clause_freq": 500_000,
    "max_diff_tokens": 1000,
    "max_support": 1000,
    "maxnum": 10,
    "max_disp_len": 10_000,
}

OF_CNF = ("max_clause_freq", "max_diff_tokens")
OF_DOCUMENTS = ("maxnum", "max_disp_len")

#: Arguments of each method, in the order in which they are checked.
METHODS = {
    "count": (),
    "count_cnf": OF_CNF,
    "prob": (),
    "ntd": ("max_support",),
    "infgram_prob": (),
    "infgram_ntd": ("max_support",),
    "search_docs": OF_DOCUMENTS,
    "search_docs_cnf": (*OF_DOCUMENTS, *OF_CNF),
    "find": (),
    "find_cnf": OF_CNF,
    "get_doc_by_rank": ("s", "rank", "max_disp_len"),
    "get_doc_by_ptr": ("s", "ptr", "max_disp_len"),
}

#: Arguments without a default.
REQUIRED = ("s", "rank", "ptr")


class RefusedError(Exception):
    """A query that is answered with an error, and status 200."""


def is_integer(value: Any) -> bool:
    """Whether a JSON value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_ids(value: Any) -> bool:
    """Whether a query is one n-gram."""
    # JSON has no other whole numbers than Python's, and true and false are of another type.
    return isinstance(value, list) and set(map(type, value)) <= {int}


def count(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Occurrences of an n-gram; of the empty one, tokens and separators."""
    return {"count": total(segments(served.index, _ngram(served, ids, "input_ids"))), "approx": False}


def count_cnf(served: Served, cnf: Any, arguments: Answer) -> Answer:
    """Co-occurrences, exact: the argument max_clause_freq has nothing to do."""
    found = served.index.count_cnf(_cnf(served, cnf), **_distances(served, arguments))
    return {"count": found.low, "approx": not found.exact}


def prob(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Probability of the last token after those before it."""
    prompt, last = _split(served, ids)
    return _probability(served, prompt, last)


def infgram_prob(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Probability of the last token after the longest suffix of those before it that occurs."""
    prompt, last = _split(served, ids)
    length = longest_suffix(served.index, prompt)
    suffix = prompt[len(prompt) - length :]
    answer = _probability(served, suffix, last)
    return answer | {"suffix_len": length, "longest_suffix": served.infini_gram.text(suffix)}


def _probability(served: Served, prompt: Ids, last: int) -> Answer:
    before = total(segments(served.index, prompt))
    after = total(segments(served.index, [*prompt, last])) if before else 0
    return {"prompt_cnt": before, "cont_cnt": after, "prob": after / before if before else -1.0}


def ntd(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Every next token, exact at any frequency: the argument max_support has nothing to do."""
    return _distribution(served, _ngram(served, ids, "prompt_ids"))


def infgram_ntd(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Every token that follows the longest suffix that occurs."""
    prompt = _ngram(served, ids, "prompt_ids")
    length = longest_suffix(served.index, prompt)
    suffix = prompt[len(prompt) - length :]
    answer = _distribution(served, suffix)
    return answer | {"suffix_len": length, "longest_suffix": served.infini_gram.text(suffix)}


def _distribution(served: Served, prompt: Ids) -> Answer:
    found = next_tokens(served.index, prompt)
    counts = dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True))
    tokens, ends = served.infini_gram, int(found.ends[0])
    every = sum(counts.values()) + ends
    if ends:
        counts[tokens.end] = counts.get(tokens.end, 0) + ends
    # The most frequent ones where an answer can't hold all.
    kept = sorted(sorted(counts, key=lambda token: (-counts[token], token))[: served.limits.max_rows])
    names = [(name or "").replace("Ġ", " ") for name in tokens.names(kept)]
    result = {
        str(token): {"cont_cnt": counts[token], "prob": counts[token] / every, "token": name}
        for token, name in zip(kept, names, strict=True)
    }
    return {"prompt_cnt": every, "result_by_token_id": result, "approx": len(kept) < len(counts)}


def find(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Ranks of an n-gram in each shard."""
    found = segments(served.index, _ngram(served, ids, "input_ids"))
    return {"cnt": total(found), "segment_by_shard": [list(segment) for segment in found]}


def find_cnf(served: Served, cnf: Any, arguments: Answer) -> Answer:
    """Places of co-occurrences in each shard, in bytes: those of the rarest clause's n-grams."""
    most = served.limits.max_rows
    found = served.index.find_cnf(_cnf(served, cnf), limit=most, **_distances(served, arguments))
    width = served.index.manifest.token_width
    places: list[list[int]] = [[] for _ in served.index.shards] if found.total.high else []
    for shard, position in zip(found.shards.tolist(), found.positions.tolist(), strict=True):
        places[shard].append(position * width)
    return {"cnt": found.total.low, "approx": not found.total.exact, "ptrs_by_shard": places}


def search_docs(served: Served, ids: Any, arguments: Answer) -> Answer:
    """Documents around some occurrences at random."""
    found = segments(served.index, _ngram(served, ids, "input_ids"))
    chosen = sampled(found, arguments.get("maxnum", 1))
    places = [(number, shard, position_at(served.index, shard, rank)) for number, shard, rank in chosen]
    return _searched(served, total(found), False, places, [[ids]], arguments)


def search_docs_cnf(served: Served, cnf: Any, arguments: Answer) -> Answer:
    """Documents around some co-occurrences at random."""
    found = served.index.find_cnf(_cnf(served, cnf), **_distances(served, arguments))
    known = len(found.positions)
    numbers = random.sample(range(known), min(arguments.get("maxnum", 1), known))
    places = [(number, int(found.shards[number]), int(found.positions[number])) for number in numbers]
    return _searched(served, found.total.low, not found.total.exact, places, cnf, arguments)


def _searched(
    served: Served, cnt: int, approx: bool, places: list[tuple[int, int, int]], clauses: Cnf, arguments: Answer
) -> Answer:
    most = arguments.get("max_disp_len", 1000)
    numbers = [number for number, _, _ in places]
    about = f"{'Approximately ' if approx else ''}{cnt} occurrences found. Displaying the documents of occurrences "
    return {
        "cnt": cnt,
        "approx": approx,
        "idxs": numbers,
        "documents": [with_spans(served, document_at(served.index, s, at, most), clauses) for _, s, at in places],
        "message": f"{about}#{numbers}" if cnt else "0 occurrences found",
    }


def get_doc_by_rank(served: Served, ids: Any, arguments: Answer) -> Answer:
    """The document around the suffix of a rank."""
    shard, rank = _shard(served, arguments), arguments["rank"]
    if not is_integer(rank) or not 0 <= rank < len(served.index.shards[shard]):
        # The published server calls a rank so too.
        raise RefusedError(f"ptr must be an integer in range [0, {len(served.index.shards[shard])})")
    return _document(served, shard, position_at(served.index, shard, rank), ids, arguments)


def get_doc_by_ptr(served: Served, ids: Any, arguments: Answer) -> Answer:
    """The document around a place, in bytes."""
    shard, ptr, width = _shard(served, arguments), arguments["ptr"], served.index.manifest.token_width
    size = len(served.index.shards[shard]) * width
    if not is_integer(ptr) or not 0 <= ptr < size or ptr % width:
        raise RefusedError(f"ptr must be an even integer in range [0, {size})")
    return _document(served, shard, ptr // width, ids, arguments)


def _document(served: Served, shard: int, position: int, ids: Any, arguments: Answer) -> Answer:
    document = document_at(served.index, shard, position, arguments.get("max_disp_len", 1000))
    return with_spans(served, document, [[ids]] if is_ids(ids) else ids)


def _shard(served: Served, arguments: Answer) -> int:
    shard, shards = arguments["s"], len(served.index.shards)
    if not is_integer(shard) or not 0 <= shard < shards:
        raise RefusedError(f"s must be an integer in range [0, {shards})")
    return int(shard)


def _ngram(served: Served, ids: Any, name: str) -> Ids:
    if not is_ids(ids):
        raise RefusedError(f"{name} must be a list of integers in range [0, {served.infini_gram.separator}]")
    ngram: Ids = ids
    return ngram


def _split(served: Served, ids: Any) -> tuple[Ids, int]:
    if not ids:
        raise RefusedError("Please provide a non-empty query!")
    largest = served.infini_gram.separator
    if not is_ids(ids[:-1]):
        raise RefusedError(f"prompt_ids must be a non-empty list of integers in range [0, {largest}]")
    if not is_integer(ids[-1]):
        raise RefusedError(f"cont_id must be an integer in range [0, {largest}]")
    return ids[:-1], ids[-1]


def _cnf(served: Served, cnf: Any) -> Cnf:
    if is_ids(cnf) or not all(clause and all(clause) for clause in cnf):
        largest = served.infini_gram.separator
        raise RefusedError(f"cnf must be a non-empty, triply-nested list of integers in range [0, {largest}]")
    clauses: Cnf = cnf
    return clauses


def _distances(served: Served, arguments: Answer) -> dict[str, Any]:
    return {"max_distance": arguments.get("max_diff_tokens", 100), "max_matches": served.limits.max_matches}


#: What a query type is answered by.
ANSWERS: dict[str, Callable[[Served, Any, Answer], Answer]] = {
    "count": count,
    "count_cnf": count_cnf,
    "prob": prob,
    "ntd": ntd,
    "infgram_prob": infgram_prob,
    "infgram_ntd": infgram_ntd,
    "search_docs": search_docs,
    "search_docs_cnf": search_docs_cnf,
    "find": find,
    "find_cnf": find_cnf,
    "get_doc_by_rank": get_doc_by_rank,
    "get_doc_by_ptr": get_doc_by_ptr,
}
