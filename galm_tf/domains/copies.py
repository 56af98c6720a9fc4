"""Images that are the same file under several names: exported twice, or copied into several folders."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence


def originals(paths: Sequence[str]) -> dict[str, str]:
    """Path -> the first path whose file holds the same bytes, of files that come later; only those of one size are read."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        try:
            by_size[os.path.getsize(path)].append(path)
        except OSError:  # decoding will say so
            continue
    found: dict[str, str] = {}
    for alike in by_size.values():
        firsts: dict[bytes, str] = {}
        for path in alike if len(alike) > 1 else ():
            first = firsts.setdefault(_digest(path), path)
            if first != path:
                found[path] = first
    return found


def _digest(path: str) -> bytes:
    """Of what a file holds; of one that cannot be read, of its name."""
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read()).digest()
    except OSError:
        return path.encode(errors="surrogateescape")
