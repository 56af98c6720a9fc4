"""Users' names as pages show them."""

from __future__ import annotations

from typing import Iterable

import markupsafe

TICK_LETTERS = 24  # of a name beside a plot: a longer one would squeeze what is drawn
_DIRECTIONS = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def without_directions(name: str) -> str:
    """A name without the unseen characters that turn the order of all that follows."""
    return name.translate(_DIRECTIONS)


def shortened(name: str) -> str:
    """A name for a plot's axis."""
    return name if len(name) <= TICK_LETTERS else name[: TICK_LETTERS - 1].rstrip() + "…"


def in_a_row(names: Iterable[str]) -> markupsafe.Markup:
    """Names with commas between, each in the direction of its own writing."""
    return markupsafe.Markup(", ").join(markupsafe.Markup("<bdi>{}</bdi>").format(name) for name in names)


def breakable(name: str) -> markupsafe.Markup:
    """A name that a narrow column may part after its underscores and slashes."""
    parted = str(markupsafe.escape(name))
    return markupsafe.Markup(parted.replace("_", "_<wbr>").replace("/", "/<wbr>"))
