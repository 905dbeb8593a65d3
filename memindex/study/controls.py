"""The control of shuffled suffixes: what a model would seem to have memorized if only chance were at work."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from memindex.errors import MemindexError

#: Rounds of redrawing before the suffixes are dealt in an order that needs no luck.
_ROUNDS = 50


def shuffled_rows(sequences: pa.Table, seed: int) -> npt.NDArray[np.int64]:
    """For each sequence the row whose suffix it is compared with, int64 (rows,).

    A permutation within each sample: every suffix is used once, and none by a sequence of the document it stands in.
    It depends on the seed and the table alone.

    Args:
        sequences: A table of the schema `sequences`.
        seed: Seed of the permutation.

    Raises:
        MemindexError: More than half of a sample's sequences stand in one document.
    """
    names = sequences.column("sample").to_numpy(zero_copy_only=False)
    documents = _documents(sequences)
    rows = np.arange(len(sequences))
    random = np.random.default_rng([seed, 0x73687566])
    for name in sorted(set(names.tolist())):
        mine = np.flatnonzero(names == name)
        most = int(np.bincount(documents[mine]).max())
        if 2 * most > len(mine):
            raise MemindexError(
                f"suffixes of the sample {name!r} can't be shuffled: {most} of its {len(mine)} sequences stand in one "
                "document; sample more sequences"
            )
        rows[mine] = mine[_away(documents[mine], random)]
    return rows


def _documents(sequences: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each sequence's document, int64 (rows,)."""
    names = sequences.column("index").to_numpy(zero_copy_only=False).astype(str)
    columns = [np.unique(names, return_inverse=True)[1]]
    columns += [sequences.column(name).to_numpy() for name in ("shard", "document")]
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _away(groups: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """A permutation that sends no row to one of its own group; the largest group holds half of the rows at most."""
    rows = len(groups)
    chosen = random.permutation(rows)
    for _ in range(_ROUNDS):
        wrong = np.flatnonzero(groups == groups[chosen])
        if not len(wrong):
            return chosen
        # Those that collide are dealt anew, together with as many others.
        others = np.setdiff1d(np.arange(rows), wrong)
        again = np.concatenate([wrong, random.choice(others, min(len(wrong), len(others)), replace=False)])
        chosen[again] = chosen[random.permutation(again)]
    # By group, half a turn on: further than the largest group is long.
    order = np.lexsort((random.random(rows), groups))
    chosen[order] = np.roll(order, -(rows // 2))
    return chosen
