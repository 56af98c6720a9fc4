"""The generated domain `awa`: an animal, or a group, in its surroundings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from galm_tf.domains.drawing import Canvas, darker, jitter

ATTRIBUTES = (
    "stripes",
    "spots",
    "furry",
    "horns",
    "longneck",
    "longleg",
    "bushytail",
    "wings",
    "bigears",
    "spiky",
    "dark",
    "orange",
    "bulbous",
    "water",
    "forest",
    "plains",
    "arctic",
    "nocturnal",
    "group",
    "biped",
)
LOOSE = ("group", "nocturnal", "water", "forest", "plains", "dark")
_HORIZON = 0.6


def draw(c: Canvas, show: Mapping[str, bool]) -> None:
    """Paints one picture.

    The random numbers are drawn in an order that does not depend on `show`, so
    that toggling one attribute changes only what it causes.
    """
    rng = c.rng
    tilt, shift, mirror = rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06, 2), rng.random() < 0.5
    land = c.frame(0.5 + shift[0], 0.5 + shift[1], 1.0, tilt, mirror)
    land.x, land.y = land.x + 0.5, land.y + 0.5
    _surroundings(land, show)
    x, feet, scale = rng.uniform([0.44, 0.84, 0.8], [0.56, 0.9, 0.95])
    if show["longneck"] and (show["longleg"] or show["biped"]):
        scale *= 0.76  # or the head leaves the picture
    turned, companions = rng.uniform(-0.1, 0.1), rng.uniform([0.0, 0.6, 0.28], [0.2, 0.68, 0.36], (2, 3))
    coat = _coat(rng, show)
    if show["group"]:
        for i, (aside, ground, size) in enumerate(companions):
            _animal(land.frame(aside if i else 1.0 - aside, ground, size, 0.0, i > 0), show, coat)
    _animal(land.frame(x, feet, scale, turned), show, coat)
    color, period = jitter(rng, (0.2, 0.4, 0.62), 0.1), rng.uniform(0.13, 0.18)
    if show["water"]:
        land.water(feet - 0.03, 1.0, color, period)
    c.occlude((0.3, 0.35, 0.2))
    c.light()


def _surroundings(c: Canvas, show: Mapping[str, bool]) -> None:
    """Sky, ground and plants."""
    rng = c.rng
    sky, earth = jitter(rng, (0.55, 0.66, 0.72), 0.2), jitter(rng, (0.45, 0.48, 0.42), 0.28)
    leaf = jitter(rng, (0.1, 0.4, 0.15))
    gold, snow = jitter(rng, (0.85, 0.7, 0.25), 0.08), jitter(rng, (0.86, 0.88, 0.92), 0.08)
    moon, stars = rng.uniform([0.1, 0.08], [0.9, 0.16]), rng.uniform([-0.1, -0.1], [1.1, 0.55], (14, 2))
    trunks, tops = np.arange(4) / 3 + rng.uniform(-0.14, 0.14, 4), rng.uniform(0.28, 0.42, 4)
    tufts, flakes = rng.uniform([-0.1, 0.62], [1.1, 0.95], (18, 2)), rng.uniform(-0.1, 1.1, (26, 2))
    night = show["nocturnal"]
    c.fill(sky * 0.22 + np.array([0.02, 0.02, 0.14]) if night else sky)
    if night:
        for x, y, radius in [(*moon, 0.06), *((*star, 0.013) for star in stars)]:
            c.paint(c.mask(c.disc(x, y, radius, radius)), (0.95, 0.95, 0.85))
    if show["forest"]:
        for x, height in zip(trunks, tops):
            c.paint(c.mask(c.box(x, _HORIZON - 0.05, 0.02, 0.09)), (0.3, 0.2, 0.1))
            c.paint(c.mask(c.triangle(x, _HORIZON - 0.08, 0.11, height)), leaf * (0.6 if night else 1.0))
    c.paint(c.below(_HORIZON), (snow if show["arctic"] else earth) * (0.6 if night else 1.0))
    if show["plains"]:
        for x, y in tufts:
            blades = [c.line(x, y, x + lean, y - 0.1, 0.016) for lean in (-0.04, 0.0, 0.04)]
            c.paint(c.mask(np.minimum.reduce(blades)), gold * (0.75 if night else 1.0))
    if show["arctic"]:
        for x, y in flakes:
            c.paint(c.mask(c.disc(x, y, 0.014, 0.014)), (1.0, 1.0, 1.0))


def _coat(rng: np.random.Generator, show: Mapping[str, bool]) -> Mapping[str, object]:
    """Colours and measures of the skin."""
    plain, orange = jitter(rng, (0.62, 0.56, 0.5), 0.12), jitter(rng, (0.95, 0.5, 0.1), 0.06)
    keys = ("band", "band_angle", "dot", "dot_angle", "hair")
    values = rng.uniform([0.12, -0.35, 0.13, 0.0, 0.9], [0.15, 0.35, 0.16, 1.0, 2.2])
    dark = show["dark"]
    # A dark orange is brown: it keeps more light, or it could not be told from a dark grey.
    tone = orange * (0.62 if dark else 1.0) if show["orange"] else plain * (0.42 if dark else 1.0)
    return {
        "tone": tone,
        "mark": np.array([0.95, 0.93, 0.85]) if dark else np.array([0.08, 0.06, 0.05]),
        **dict(zip(keys, values)),
    }


def _skin(c: Canvas, show: Mapping[str, bool], coat: Mapping) -> np.ndarray:
    """The coat as a picture [S, S, 3]."""
    skin = np.broadcast_to(coat["tone"], c.pixels.shape)
    if show["stripes"]:
        skin = skin + c.stripes(coat["band"], coat["band_angle"], 0.45)[..., None] * (coat["mark"] - skin)
    if show["spots"]:
        skin = skin + c.dots(coat["dot"], 0.32 * coat["dot"], coat["dot_angle"])[..., None] * (coat["mark"] - skin)
    if show["furry"]:
        hair = c.stripes(0.06, coat["hair"], 0.5) * c.stripes(0.08, coat["hair"] + 0.9, 0.6)
        skin = skin + 0.55 * hair[..., None] * (np.array([0.45, 0.3, 0.2]) - skin)
    return skin


def _animal(c: Canvas, show: Mapping[str, bool], coat: Mapping) -> None:
    """One animal that faces right; the origin is between its feet, the unit its size."""
    skin, upright = _skin(c, show, coat), show["biped"]
    rx, ry = (0.13, 0.19) if upright else (0.25, 0.11)
    if show["bulbous"]:
        rx, ry = (rx + 0.09, ry + 0.02) if upright else (rx + 0.01, ry + 0.1)
    cy = -(0.3 if show["longleg"] else 0.13) - 0.8 * ry
    hx, hy = rx * (0.5 if upright else 0.9) + 0.06, cy - 0.8 * ry - (0.3 if show["longneck"] else 0.04)
    legs = (-0.07, 0.07) if upright else (-0.2, -0.11, 0.11, 0.2)
    trunk = np.minimum(c.disc(0.0, cy, rx, ry), c.line(rx * 0.5, cy - 0.4 * ry, hx, hy, 0.09))
    parts = [trunk, c.disc(hx + 0.06, hy, 0.13, 0.09), *(c.line(x, cy, x * 1.1, 0.0, 0.055) for x in legs)]
    if not show["bushytail"]:
        parts.append(c.line(-rx * 0.9, cy, -rx - 0.1, cy + 0.08, 0.03))
    outline = np.minimum.reduce(parts)
    _behind(c, show, skin, (rx, ry, cy))
    if show["furry"]:
        fringe = trunk - 0.07 * np.abs(np.sin(12 * np.arctan2(c.y - cy, c.x)))
        c.paint(c.mask(fringe), 0.5 * coat["tone"] + 0.4)
    c.paint(c.mask(outline), skin)
    _before(c, show, skin, (cy, ry), (hx, hy))


def _behind(c: Canvas, show: Mapping[str, bool], skin: np.ndarray, body: tuple[float, float, float]) -> None:
    """What the body partly covers: spikes and tail."""
    rx, ry, cy = body
    if show["spiky"]:
        for t in np.linspace(-0.85, 0.85, 6):
            top = cy - ry * np.sqrt(1 - t * t) + 0.04
            c.paint(c.mask(c.triangle(rx * t, top, 0.06, 0.24, 0.12 * t)), (0.6, 0.16, 0.14))
    if show["bushytail"]:
        c.paint(c.mask(c.disc(-rx - 0.1, cy - 0.12, 0.22, 0.12, 0.9)), darker(skin, 0.7))
        c.paint(c.mask(c.disc(-rx - 0.19, cy - 0.23, 0.11, 0.09, 0.9)), (0.97, 0.95, 0.92))


def _before(c: Canvas, show: Mapping[str, bool], skin: np.ndarray, body, head: tuple[float, float]) -> None:
    """What lies over the body: wings, ears, horns and the eye."""
    (cy, ry), (hx, hy) = body, head
    if show["bigears"]:
        for x in (-0.11, 0.06):
            c.paint(c.mask(c.disc(hx + x, hy - 0.14, 0.1, 0.13, -0.3)), darker(skin, 0.8))
            c.paint(c.mask(c.disc(hx + x, hy - 0.14, 0.06, 0.085, -0.3)), (0.95, 0.6, 0.62))
    if show["wings"]:
        for i, angle in enumerate((1.5, 1.15, 0.8)):
            feather = c.frame(0.02, cy - 0.2 * ry, 1.0, angle).disc(-0.16, 0.0, 0.19, 0.05)
            c.paint(c.mask(feather), np.array([0.8, 0.86, 0.95]) - 0.14 * (i % 2))
    if show["horns"]:
        for x in (0.0, 0.13):
            c.paint(c.mask(c.line(hx + x, hy - 0.06, hx + x + 0.11, hy - 0.16, 0.055)), (0.98, 0.93, 0.65))
            c.paint(c.mask(c.line(hx + x + 0.11, hy - 0.16, hx + x + 0.08, hy - 0.3, 0.045)), (0.98, 0.93, 0.65))
    c.paint(c.mask(c.disc(hx + 0.08, hy - 0.01, 0.02, 0.02)), (0.02, 0.02, 0.02))
