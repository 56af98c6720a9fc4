"""The generated domain `apay`: an object, or several, before a wall.

What has a partner in `generated.PLANTED_CORRESPONDENCES` looks as its partner does there: marks darker than the body,
spikes on its back, feathers over it, legs of the same thickness; what lies around it is another world.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from galm_tf.domains.drawing import LAMP, Canvas, jitter

ATTRIBUTES = (
    "ribbed",
    "dotted",
    "shiny",
    "wheels",
    "windows",
    "round",
    "handle",
    "stilts",
    "mast",
    "headlight",
    "wooden",
    "see_through",
    "vegetation",
    "afloat",
    "red",
    "fins",
    "sail",
    "label",
    "several",
    "toothed",
)
LOOSE = ("several", "headlight", "vegetation", "afloat", "red", "sail", "label")
_DARK = (0.1, 0.1, 0.12)
_MARK = (0.1, 0.07, 0.12)
_BELOW = 0.62  # half the height of what is not round, in half widths


def draw(c: Canvas, show: Mapping[str, bool]) -> None:
    """Paints one picture; the order of its random numbers does not depend on `show`."""
    rng = c.rng
    wall, table = jitter(rng, (0.74, 0.7, 0.64), 0.2), jitter(rng, (0.48, 0.5, 0.5), 0.28)
    edge, firs = rng.uniform(0.62, 0.8), rng.uniform([-0.08, 0.0, 0.09], [0.08, 0.12, 0.14], (4, 3))
    green = jitter(rng, (0.2, 0.52, 0.2), 0.1)
    c.fill(wall * (1 - 0.15 * c.y[..., None]))
    c.paint(c.below(edge), table)
    if show["vegetation"]:
        for place, (aside, up, radius) in zip((0.1, 0.36, 0.64, 0.9), firs):
            c.fir(place + aside, edge - up, radius, green, np.array([0.4, 0.26, 0.12]))
    x, y, r, angle = rng.uniform([0.36, 0.42, 0.18, -0.25], [0.64, 0.55, 0.25, 0.25])
    mirror, companions = rng.random() < 0.5, rng.uniform([0.0, 0.52, 0.07], [0.18, 0.62, 0.09], (2, 3))
    make = _make(rng, show)
    if show["several"]:
        for i, (aside, height, size) in enumerate(companions):
            _object(c.frame(aside if i else 1.0 - aside, height, size, 0.0, i > 0), show, make)
    _object(c.frame(x, y, r, angle, mirror), show, make)
    color, period = jitter(rng, (0.2, 0.46, 0.56), 0.1), rng.uniform(0.13, 0.18)
    if show["afloat"]:
        c.water(y + r * 1.15, 1.0, color, period)
    c.occlude((0.5, 0.45, 0.4))
    c.light()


def _make(rng: np.random.Generator, show: Mapping[str, bool]) -> Mapping[str, object]:
    """Colours and measures of the material."""
    plain = jitter(rng, (0.4, 0.52, 0.62), 0.15)
    wood, red = jitter(rng, (0.66, 0.42, 0.2), 0.06), jitter(rng, (0.85, 0.1, 0.12), 0.06)
    keys = ("rib", "rib_angle", "dot", "dot_angle")
    values = rng.uniform([0.5, -0.35, 0.55, 0.0], [0.62, 0.35, 0.68, 1.0])
    tone = wood if show["wooden"] else plain
    return {"tone": 0.8 * red + 0.2 * tone if show["red"] else tone, **dict(zip(keys, values))}


def _surface(c: Canvas, show: Mapping[str, bool], make: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """The material as a picture [S, S, 3], and how much of it is painted marks, [S, S]."""
    surface = np.broadcast_to(make["tone"], c.pixels.shape)
    if show["wooden"]:
        grain = (c.y + 0.12 * np.sin(3 * c.x)) / 0.24
        surface = surface * (1 - 0.5 * c.mask((np.abs(grain % 1.0 - 0.5) - 0.18) * 0.24)[..., None])
    marks = np.zeros_like(c.x)
    if show["ribbed"]:
        marks = c.stripes(make["rib"], make["rib_angle"], 0.45)
        surface = surface + marks[..., None] * (np.array(_MARK) - surface)
    if show["dotted"]:
        dots = c.dots(make["dot"], 0.32 * make["dot"], make["dot_angle"])
        surface = surface + dots[..., None] * (np.array(_MARK) - surface)
        marks = np.maximum(marks, dots)
    return surface, marks


def _outline(c: Canvas, show: Mapping[str, bool]) -> np.ndarray:
    """Distance of the body."""
    return c.disc(0.0, 0.0, 0.92, 0.92) if show["round"] else c.box(0.0, 0.0, 1.0, _BELOW)


def _object(c: Canvas, show: Mapping[str, bool], make: Mapping) -> None:
    """One object that faces right; the origin is its middle, the unit half its width."""
    (surface, marks), half = _surface(c, show, make), 0.92 if show["round"] else _BELOW
    _behind(c, show, surface, half)
    outline = _outline(c, show)
    body = c.mask(outline)
    if show["see_through"]:
        c.paint(body * (0.15 + 0.55 * marks), surface)
        c.paint(c.mask(np.abs(outline) - 0.09), surface)
    else:
        c.paint(body, surface)
    if show["shiny"]:
        slope = (c.x + c.y) * 0.7
        bright = np.exp(-(((slope + 0.25) / 0.13) ** 2)) + np.exp(-(((slope - 0.15) / 0.05) ** 2))
        c.paint(body * np.clip(1.2 * bright, 0, 1), (1.0, 1.0, 1.0))
    _before(c, show, half)


def _behind(c: Canvas, show: Mapping[str, bool], surface: np.ndarray, half: float) -> None:
    """What the body partly covers: feet or stilts, teeth, mast, sail and handle."""
    for x in (-0.75, -0.4, 0.4, 0.75):
        c.paint(c.mask(c.line(x, 0.0, x * 1.1, half + (1.15 if show["stilts"] else 0.3), 0.22)), surface)
    if show["toothed"]:
        for t in np.linspace(-0.85, 0.85, 6):
            top = -0.92 * np.sqrt(1 - t * t) if show["round"] else -half
            c.paint(c.mask(c.triangle(t, top + 0.15, 0.24, 0.95, 0.4 * t)), (0.55, 0.14, 0.22))
    if show["mast"]:
        c.paint(c.mask(c.line(-0.5, 0.0, -0.5, -half - 1.0, 0.12)), _DARK)
        c.paint(c.mask(c.box(-0.24, -half - 0.88, 0.26, 0.16)), (0.95, 0.25, 0.75))
    if show["sail"]:
        c.paint(c.mask(c.triangle(0.35, -half * 0.8, 0.5, 1.15, -0.3)), (0.98, 0.97, 0.93))
    if show["handle"]:
        c.paint(c.mask(np.abs(c.disc(-0.1, -half, 0.5, 0.45)) - 0.08), _DARK)


def _before(c: Canvas, show: Mapping[str, bool], half: float) -> None:
    """What lies over the body: fins, windows, label, light and wheels."""
    if show["fins"]:
        for i, angle in enumerate((1.5, 1.15, 0.8)):
            feather = c.frame(0.1, -0.2 * half, 1.0, angle).disc(-0.75, 0.0, 0.9, 0.24)
            c.paint(c.mask(feather), np.array([0.72, 0.9, 0.9]) - 0.14 * (i % 2))
    if show["windows"]:
        for x in (-0.6, -0.2, 0.2, 0.6):
            for y in (-0.4, -0.03):
                c.paint(c.mask(c.box(x, y, 0.14, 0.15)), LAMP)
    if show["label"]:
        c.paint(c.mask(c.box(-0.05, 0.27, 0.6, 0.25)), (0.97, 0.97, 0.95))
        for y in (0.17, 0.36):
            c.paint(c.mask(c.box(-0.05, y, 0.48, 0.045)), _DARK)
    if show["headlight"]:
        glow = np.exp(-((np.hypot(c.x - 0.95, c.y - 0.1) / 0.42) ** 2))
        c.paint(np.clip(1.6 * glow, 0, 1), (1.0, 0.95, 0.5))
    if show["wheels"]:
        for x in (-0.55, 0.55):
            c.paint(c.mask(c.disc(x, half, 0.34, 0.34)), _DARK)
            c.paint(c.mask(c.disc(x, half, 0.15, 0.15)), (0.75, 0.75, 0.78))
