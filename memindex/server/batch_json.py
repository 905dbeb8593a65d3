"""Bodies of many queries: JSON that becomes Arrow, never Python objects.

pydantic makes an object of each number and keeps all other threads waiting meanwhile: of 16 MB several seconds, and a
gigabyte. Arrow's reader takes a fraction of a second and of that memory, beside the other threads.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.json as pj

from memindex.server.problems import ProblemError

#: Where a list of queries begins, and what its first query begins with.
FIRST = re.compile(rb'"queries"\s*:\s*\[\s*(["\[])')


class BatchAsked(NamedTuple):
    """A request's queries, an Arrow array of texts or of lists of ids, and whether to count by domain."""

    queries: Any
    by_domain: bool


def read_batch(body: bytes, with_domains: bool) -> BatchAsked:
    """Read {"queries": [...], "by_domain": bool}; raises ProblemError 422 where it is anything else.

    Args:
        body: UTF-8.
        with_domains: Whether the request may say `by_domain`.
    """
    first = FIRST.search(body)
    if first is None:
        raise ProblemError(422, "queries: must be a list of texts, or of lists of token ids")
    kind = pa.string() if first[1] == b'"' else pa.list_(pa.uint32())
    fields = [("queries", pa.list_(kind)), *([("by_domain", pa.bool_())] if with_domains else [])]
    try:
        table = pj.read_json(
            pa.BufferReader(body),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=pa.schema(fields), newlines_in_values=True, unexpected_field_behavior="error"
            ),
        )
        table.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise ProblemError(422, f"queries: {' '.join(str(error).split())[:200]}") from None
    queries = table.column("queries").combine_chunks()
    if len(queries) != 1 or queries.null_count or queries.values.null_count or _has_null_ids(queries.values):
        raise ProblemError(422, "queries: one object with a list of texts, or of lists of token ids, without null")
    by_domain = table.column("by_domain")[0].as_py() if with_domains else False
    return BatchAsked(queries.flatten(), bool(by_domain))


def _has_null_ids(queries: Any) -> bool:
    return bool(pa.types.is_list(queries.type) and queries.flatten().null_count)
