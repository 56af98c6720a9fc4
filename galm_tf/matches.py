"""How an attribute's match in `transfer.matches` of result.json is read, whichever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


def is_close(match: Optional[Mapping[str, Any]]) -> bool:
    """Whether the source attribute is like the target's; else it is the nearest there is, or not told (None).

    Earlier versions wrote None where none was alike, and no `close` where one was.
    """
    return match is not None and bool(match.get("close", True))
