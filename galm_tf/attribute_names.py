"""Attributes are called `domain/attribute`; a user may leave the domain out."""

from __future__ import annotations

import difflib
from typing import Sequence


def without_domain(name: str) -> str:
    """`sun/natural light` -> `natural light`."""
    return name.split("/", 1)[-1]


def places(asked: str, names: Sequence[str]) -> list[int]:
    """Where the names are that a user may mean by one, with or without its domain."""
    return [i for i, name in enumerate(names) if asked in (name, without_domain(name))]


def nearest(asked: str, names: Sequence[str], count: int = 1) -> list[str]:
    """What is spelt most like it, with or without a domain."""
    return difflib.get_close_matches(asked, [*names, *map(without_domain, names)], count, 0.0)
