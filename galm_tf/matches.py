"""How `transfer` of result.json is read, what a run started from, whichever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


def is_close(match: Optional[Mapping[str, Any]]) -> bool:
    """Whether the source attribute is like the target's; else it is the nearest there is, or not told (None).

    Earlier versions wrote None where none was alike, and no `close` where one was.
    """
    return match is not None and bool(match.get("close", True))


def givers(transfer: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The source runs of `transfer` of result.json that something could be taken from, and those that gave nothing
    since another matched more; earlier versions did not tell these.
    """
    taken = transfer.get("taken_from")
    given = [path for path in transfer["sources"] if path == (taken or path)]
    return given, [path for path in transfer["sources"] if path not in given]
