"""Paths as users write them, and what lies there."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from typing import Any, Callable, Optional


def from_home(value: Any) -> Any:
    """Paths from ~ in full, alone, in a list or in a dict; anything else as it is."""
    if isinstance(value, dict):
        return {key: from_home(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(from_home(one) for one in value)
    return os.path.expanduser(value) if isinstance(value, str) and re.match(r"~[\w.-]*(/|$)", value) else value


def file_size(path: str) -> int:
    """Bytes of a file; -1 where there is none, as of a picture that is drawn."""
    return os.path.getsize(path) if os.path.exists(path) else -1


def nearest(path: str, is_one: Callable[[str], bool], folder: Optional[str] = None) -> Optional[str]:
    """What is spelt most like a path that is not there; None when nothing is like it, or none can be listed.

    is_one: whether a path that is there may be meant.
    folder: where to look; that of the path when left out.
    """
    folder, found = os.path.dirname(path) if folder is None else folder, []
    with contextlib.suppress(OSError):
        found = [name for name in sorted(os.listdir(folder or ".")) if is_one(os.path.join(folder, name))]
    return next(
        (os.path.join(folder, name) for name in difflib.get_close_matches(os.path.basename(path), found, 1)), None
    )
