"""Images that are the same file under several names: exported twice, or copied into several folders."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

_END = 4096  # bytes by which files of one size are told apart first: pictures without compression all have one


def originals(paths: Sequence[str]) -> dict[str, str]:
    """Path -> the first path, by name, whose file holds the same bytes, of all but that: whatever order they come in.

    Only of files of one size the ends are read, and whole only those that end alike. What cannot be read has no copies,
    and what is empty shows no photograph.
    """
    groups: list[list[str]] = [sorted(set(paths))]
    for told in (_size, _end, _digest):
        groups = [alike for group in groups for alike in _alike(group, told)]
    return {path: first for first, *others in groups for path in others}


def content_number(path: str) -> int:
    """What tells a file from all that hold other bytes, wherever it lies and however it is called: 64 bits of a digest;
    of a picture that is drawn, of its name. Raises OSError.
    """
    content = path.encode() if "://" in path else pathlib.Path(path).read_bytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _alike(paths: Iterable[str], told: Callable[[str], Hashable]) -> list[list[str]]:
    """Those of the paths of which the same is told as of others, together, in their order."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for path in paths:
        try:
            groups[told(path)].append(path)
        except OSError:  # decoding will say so
            continue
    return [group for group in groups.values() if len(group) > 1]


def _size(path: str) -> Hashable:
    return os.path.getsize(path) or path  # empty ones are no copies of each other: each is told by itself


def _end(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(-min(_END, os.path.getsize(path)), os.SEEK_END)
        return file.read()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read()).digest()
