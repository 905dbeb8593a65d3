"""Names that were probably meant: what a message about an unknown name says next.

Standard library only, and loaded where something went wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: A message lists all names when there are at most this many.
FEW = 12


def near_names(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names most like `name`, best first; case and the kind of separator do not matter."""
    plain = {_plain(one): one for one in known}
    wanted = _plain(name)
    near = difflib.get_close_matches(wanted, plain, most, cutoff)
    # Half of a name is less alike than another short name, and more often what was meant.
    begun = [one for one in plain if len(wanted) > 2 and one.startswith(wanted) and one not in near]
    return [plain[one] for one in [*near, *begun][:most]]


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
