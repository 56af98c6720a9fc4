"""Lists in sentences."""

from __future__ import annotations

from typing import Sequence


def listed(names: Sequence[str], most: int) -> str:
    """The first `most` names in words, and how many more there are: `a`, `a and b`, `a, b and 3 more`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
