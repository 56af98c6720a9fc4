"""Lists, choices, ranges and numbers in sentences, names in tables."""

from __future__ import annotations

import csv
import difflib
import io
from typing import Any, Collection, Iterable, Sequence

_ALIKE = 0.4  # the share of letters in common, from which a name may be a misspelling of another (difflib's ratio)


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names in words, and how many more there are: `a`, `a and b`, `a, b and 3 more`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def counted(count: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`; many: where that is no s behind."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def millions(count: int, unit: str = "M") -> str:
    """A large number in millions, to two digits or three; a smaller one as it is."""
    if count < 1e5:
        return f"{count:,}"
    value = count / 1e6
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def csv_line(values: Iterable[Any]) -> str:
    """A line of CSV without its end; values are quoted where they hold a comma, a quote or a line break of any kind."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)  # a break is known by its letters being in this one
    return line.getvalue()[:-2]


def abridged(name: str, most: int = 60) -> str:
    """A name of at most `most` characters: of a longer one the beginning and the end, an ellipsis between."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def abridged_apart(names: Iterable[str], most: int) -> dict[str, str]:
    """Each name as `abridged`, by as few letters more than `most` as tell all apart."""
    names = list(dict.fromkeys(names))
    for letters in range(most, max(map(len, names), default=0) + 1):
        shown = {name: abridged(name, letters) for name in names}
        if len(set(shown.values())) == len(names):
            return shown
    return {name: name for name in names}


def bounded(low: Any, high: Any) -> str:
    """The range of a number, both ends in it; "" without one."""
    if low is None:
        return ""
    return f"at least {low}" if high is None else f"between {low} and {high}"


def choice_repair(value: str, known: Collection[str]) -> str:
    """How to repair a choice that is none: the known one that is alike, if any."""
    near = difflib.get_close_matches(value.casefold(), known, 1, _ALIKE)
    return f"nearest: {near[0]}" if near else "name one"
