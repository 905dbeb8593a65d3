"""Names that were probably meant: what a message about an unknown name says next.

Standard library only, and loaded where something went wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: A message lists all names when there are at most this many.
FEW = 12

#: What the likeness of a beginning counts less than that of a whole name.
BEGUN = 0.1

#: Names that are this much less like the one that was typed than the best are not meant.
MARGIN = 0.15


def near_names(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.65) -> list[str]:
    """The known names most like `name`, best first; case and the kind of separator do not matter.

    A name that goes on after what was typed counts as near too: half of a name is what people remember.
    """
    wanted = _plain(name)
    matcher = difflib.SequenceMatcher(b=wanted)
    scores: dict[str, float] = {}
    for one in known:
        plain = _plain(one)
        matcher.set_seq1(plain)
        scores[one] = 1 - BEGUN if len(wanted) > 1 and plain.startswith(wanted) else matcher.ratio()
        if len(wanted) > 3:
            matcher.set_seq1(plain[: len(wanted)])
            scores[one] = max(scores[one], matcher.ratio() - BEGUN)
    ranked = sorted((one for one in scores if scores[one] >= cutoff), key=lambda one: -scores[one])
    return [one for one in ranked if scores[one] > scores[ranked[0]] - MARGIN][:most]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean A or B?`, or an empty text when no known name is like this one."""
    near = near_names(name, known)
    return f"did you mean {either(near)}?" if near else ""


def either(names: list[str]) -> str:
    """`A`, `A or B`, or `A, B or C`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def hint(name: str, known: Iterable[str], all_of_them: str = "") -> str:
    """What to say about an unknown name: the near ones, else all if there are few, else `all_of_them`."""
    names = list(known)
    if near := did_you_mean(name, names):
        return near
    return f"known: {', '.join(names) or 'none'}" if len(names) <= FEW or not all_of_them else all_of_them
