"""The infini-gram package on the files of an index, behind the checks it lacks.

Its process may die on a file that is missing, too short or a stray, and does where the path of the index holds one of
its file names. So it sees a folder with nothing but links to the three files it needs of each shard, after sizes and
all pointers were checked. Shards are named so that their order by name is their order by number; empty ones, on which
it dies too, are left out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memindex.errors import MissingExtraError, QueryError
from memindex.index.answers import CnfCount
from memindex.index.cooccurrence import Clause, ShardText, by_rarity
from memindex.ragged import Ragged

if TYPE_CHECKING:
    from memindex.index.index import Index

#: Pointers of the table checked at a time.
POINTERS = 1 << 22

#: Up to so many clauses the package keeps the order of equally frequent ones.
MOST_CLAUSES = 16


def _package() -> Any:
    try:
        from infini_gram.engine import InfiniGramEngine as Package
    except ImportError:
        raise MissingExtraError(
            "the package infini-gram is not installed: it has wheels for CPython 3.11 to 3.13 on Linux x86-64 only; "
            "leave out engine='infini-gram': memindex answers the same and needs no package"
        ) from None
    return Package


class InfiniGramEngine:
    """The package's engine, opened on an index; reads every pointer of the table once, to check it."""

    def __init__(self, index: Index) -> None:
        package = _package()
        self._index = index
        shards = [number for number, shard in enumerate(index.shards) if len(shard)]
        if not shards:
            raise QueryError(f"{index.path}: the index holds no tokens; the package infini-gram can't open it")
        for number in shards:
            _check_shard(index, number)
        width = index.manifest.token_width
        with tempfile.TemporaryDirectory(prefix="memindex-") as folder:
            for number in shards:
                for kind in ("tokenized", "table", "offset"):
                    Path(folder, f"{kind}.{number:06}").symlink_to(index.file(f"{kind}.{number}"))
            # By its descriptor: the package takes "table" anywhere in a path for the name of a file.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._engine = package(
                    index_dir=f"/proc/self/fd/{descriptor}",
                    eos_token_id=0,
                    vocab_size=2 ** (8 * width) - 1,
                    token_dtype=f"u{8 * width}",
                )
            finally:
                os.close(descriptor)

    def count_cnf(self, clauses: Sequence[Clause], max_distance: int) -> CnfCount:
        """Count co-occurrences; exact where no anchor is near the border of its document, else bounded.

        The package drops an anchor when its range on one side reaches into another document, also where the other side
        would do. So it never counts too many, and those near a border may be missing.

        Raises:
            QueryError: The package would count something else.
        """
        order = by_rarity(clauses)
        rarest = clauses[order[0]].total
        if rarest == 0:
            return CnfCount(0, 0, order[0], "infini-gram")
        _refuse_other_meaning(clauses, order)
        distance = min(max_distance, max(len(shard) for shard in self._index.shards))
        # No clause is above the limit in any shard, so it never takes a sample.
        limit = max(clause.total for clause in clauses) * len(self._index.shards)
        answer = self._engine.count_cnf(
            cnf=[clause.terms for clause in clauses], max_clause_freq=limit, max_diff_tokens=distance
        )
        found = int(answer["count"])
        missing = self._near_borders(clauses, order, distance) if len(clauses) > 1 else 0
        return CnfCount(found, min(rarest, found + missing), order[0], "infini-gram")

    def _near_borders(self, clauses: Sequence[Clause], order: Sequence[int], max_distance: int) -> int:
        anchor, reach = clauses[order[0]], max_distance * (len(clauses) - 1)
        if _separator_between_tokens(self._index):
            return anchor.total
        near = 0
        for number, matches in enumerate(anchor.counts().tolist()):
            if matches:
                shard = ShardText(self._index, number)
                positions = shard.matches(anchor, matches)
                lower, upper = shard.documents(positions)
                borders = (positions - reach <= lower) & (lower > 0)
                near += int((borders | ((positions + reach >= upper) & (upper < len(shard.tokens)))).sum())
        return near

    def probabilities(
        self, prompts: Ragged, tokens: npt.NDArray[np.uint32], back_off: bool
    ) -> tuple[list[int], list[int], list[int]]:
        """Counts of the contexts, of the contexts with the token, and lengths of the contexts: the prompts or, when
        backing off, their longest suffixes that occur. One call of the package for each: it has none for batches.
        """
        ask = self._engine.infgram_prob if back_off else self._engine.prob
        rows = [prompts.row(i).tolist() for i in range(prompts.rows)]
        answers = [ask(prompt_ids=row, cont_id=token) for row, token in zip(rows, tokens.tolist(), strict=True)]
        lengths = [answer.get("suffix_len", len(row)) for answer, row in zip(answers, rows, strict=True)]
        return [a["prompt_cnt"] for a in answers], [a["cont_cnt"] for a in answers], lengths


def _check_shard(index: Index, number: int) -> None:
    """Check the size of the offsets and the bounds of all pointers; the core checks the other sizes."""
    ShardText(index, number)
    shard = index.shards[number]
    for start in range(0, len(shard), POINTERS):
        shard.positions(np.arange(start, min(start + POINTERS, len(shard)), dtype=np.uint64))


def _refuse_other_meaning(clauses: Sequence[Clause], order: Sequence[int]) -> None:
    if len(clauses) > MOST_CLAUSES:
        raise QueryError(
            f"the package infini-gram may take more than {MOST_CLAUSES} clauses in another order: leave out engine"
        )
    counts = np.stack([clause.counts() for clause in clauses])
    # A shard without any match of a clause has no co-occurrence, whatever the order.
    counts = counts[:, counts.all(axis=0)]
    if (np.argsort(counts, axis=0, kind="stable") != np.array(order)[:, None]).any():
        raise QueryError(
            "the package infini-gram would count other anchors: the rarest clause is not the same in every shard; "
            "leave out engine"
        )


def _separator_between_tokens(index: Index) -> bool:
    """Whether the bytes of a separator can stand across two tokens, where the package takes them for one."""
    width = index.manifest.token_width
    return width > 1 and index.manifest.vocabulary > 0xFF << 8 * (width - 1)
