"""Paths as users write them, and what lies there."""

from __future__ import annotations

import os
import re
from typing import Any


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
