"""The generated domain `sun`: a place, indoors or outdoors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from galm_tf.domains.drawing import LAMP, Canvas, jitter

ATTRIBUTES = (
    "open_area",
    "trees",
    "lake",
    "snow",
    "mountains",
    "clouds",
    "sunny",
    "night",
    "buildings",
    "lit_windows",
    "railing",
    "flowers",
    "clutter",
    "warm_light",
    "fog",
    "road",
    "people",
    "fire",
    "tiles",
    "rocks",
)
LOOSE = ("warm_light", "people", "clouds", "fog", "sunny", "clutter", "flowers")
_HORIZON = 0.5
_ASIDE = (0.12, 0.37, 0.63, 0.88)  # where things stand side by side
_BLOOMS = np.array([[0.95, 0.2, 0.5], [0.98, 0.85, 0.1], [0.75, 0.3, 0.95], [1.0, 1.0, 1.0]])
_FLAMES = ((0.09, 0.28, (0.9, 0.2, 0.02)), (0.06, 0.19, (1.0, 0.6, 0.1)), (0.03, 0.1, (1.0, 0.95, 0.5)))


def draw(c: Canvas, show: Mapping[str, bool]) -> None:
    """Paints one picture; the order of its random numbers does not depend on `show`."""
    rng = c.rng
    tilt, shift, mirror = rng.uniform(-0.07, 0.07), rng.uniform(-0.09, 0.09, 2), rng.random() < 0.5
    place = c.frame(0.5 + shift[0], 0.5 + shift[1], rng.uniform(0.9, 1.12), tilt, mirror)
    place.x, place.y = place.x + 0.5, place.y + 0.5
    _sky(place, show)
    _far(place, show)
    _ground(place, show)
    _lying(place, show)
    _standing(place, show)
    c.occlude((0.3, 0.3, 0.3))
    if show["fog"]:
        veil = np.clip(0.65 - 0.35 * place.y, 0.25, 0.65)[..., None]
        c.pixels[:] = c.pixels * (1 - veil) + veil * (0.4 if show["night"] else 0.82)
    if show["warm_light"]:
        c.pixels[:] = np.clip(c.pixels * np.array([1.1, 0.92, 0.62]) + np.array([0.05, 0.02, 0.0]), 0, 1)
    c.light()


def _dim(show: Mapping[str, bool], factor: float) -> float:
    return factor if show["night"] else 1.0


def _row(rng: np.random.Generator, places: Sequence[float], low: list[float], high: list[float]) -> np.ndarray:
    """Things side by side: uniform in [low, high], [n, len(low)], the first column moved to the places."""
    things = rng.uniform(low, high, (len(places), len(low)))
    things[:, 0] += places
    return things


def _sky(c: Canvas, show: Mapping[str, bool]) -> None:
    """Sky, or the wall of a room, and what hangs there."""
    rng = c.rng
    sky, wall = jitter(rng, (0.5, 0.68, 0.86), 0.2), jitter(rng, (0.72, 0.68, 0.62), 0.2)
    corner, sun = rng.uniform(0.25, 0.75), rng.uniform([0.1, 0.1], [0.9, 0.22])
    cloud = _row(rng, (0.0, 0.25, 0.5, 0.75), [-0.1, -0.05], [0.2, 0.2])
    stars, dim = rng.uniform([-0.1, -0.1], [1.1, _HORIZON], (22, 2)), _dim(show, 0.33)
    if show["open_area"]:
        c.fill(np.clip(sky + 0.5 * (c.y[..., None] - 0.1), 0, 1) * dim)
    else:
        c.fill(wall * dim)
        c.paint(c.mask(c.x - corner), wall * 0.72 * dim)
        c.paint(c.mask(np.abs(c.y - 0.08) - 0.02), wall * 0.4 * dim)
    if show["night"]:
        for x, y in stars:
            c.paint(c.mask(c.disc(x, y, 0.01, 0.01)), (1.0, 1.0, 0.9))
    if show["sunny"]:
        for ray in np.linspace(0, np.pi, 5)[:-1]:
            dx, dy = 0.17 * np.cos(ray), 0.17 * np.sin(ray)
            c.paint(c.mask(c.line(sun[0] - dx, sun[1] - dy, sun[0] + dx, sun[1] + dy, 0.018)), (1.0, 0.88, 0.3))
        c.paint(c.mask(c.disc(*sun, 0.09, 0.09)), (1.0, 0.92, 0.4))
    if show["clouds"]:
        for x, y in cloud:
            c.paint(c.mask(c.disc(x, y + 0.045, 0.1, 0.03)), np.full(3, 0.62 * _dim(show, 0.6)))
            for dx, dy, radius in ((-0.06, 0.01, 0.045), (0.0, -0.02, 0.06), (0.06, 0.01, 0.045)):
                c.paint(c.mask(c.disc(x + dx, y + dy, radius * 1.3, radius * 0.8)), np.full(3, 0.97 * _dim(show, 0.6)))


def _far(c: Canvas, show: Mapping[str, bool]) -> None:
    """What stands on the horizon."""
    rng = c.rng
    peaks = _row(rng, (0.12, 0.5, 0.88), [-0.1, 0.17, 0.36], [0.1, 0.23, 0.46])
    blocks = _row(rng, _ASIDE, [-0.05, 0.07, 0.17], [0.05, 0.1, 0.25])
    stone, dim = jitter(rng, (0.5, 0.36, 0.38), 0.1), _dim(show, 0.5)
    if show["mountains"]:
        for x, rx, height in peaks:
            c.paint(c.mask(c.triangle(x, _HORIZON, rx, height)), np.array([0.35, 0.42, 0.62]) * dim)
            c.paint(c.mask(c.triangle(x, _HORIZON - 0.65 * height, rx * 0.35, height * 0.35)), np.full(3, 0.95) * dim)
    if show["buildings"]:
        for i, (x, rx, height) in enumerate(blocks):
            c.paint(c.mask(c.box(x, _HORIZON - height / 2, rx, height / 2)), stone * (0.75 + 0.15 * (i % 3)) * dim)
    if show["lit_windows"]:
        for x, rx, height in blocks:
            for dx in (-0.45, 0.45):
                for dy in (0.3, 0.75):
                    c.paint(c.mask(c.box(x + dx * rx, _HORIZON - height * dy, rx * 0.28, 0.034)), LAMP)


def _ground(c: Canvas, show: Mapping[str, bool]) -> None:
    """The ground, and what covers it."""
    rng = c.rng
    grass, floor = jitter(rng, (0.45, 0.62, 0.35), 0.2), jitter(rng, (0.6, 0.5, 0.45), 0.2)
    vanish, flakes = rng.uniform(0.3, 0.7), rng.uniform(-0.1, 1.1, (30, 2))
    lake, period, shore = jitter(rng, (0.12, 0.32, 0.55), 0.08), rng.uniform(0.09, 0.12), rng.uniform(0.55, 0.72)
    dim, land = _dim(show, 0.4), c.below(_HORIZON)
    c.paint(land, (np.array([0.94, 0.96, 1.0]) if show["snow"] else grass if show["open_area"] else floor) * dim)
    depth = np.clip((c.y - _HORIZON) / (1 - _HORIZON), 0.02, None)
    if show["tiles"]:
        odd = (np.floor((c.x - vanish) / (0.25 * depth + 0.1)) + np.floor(5.0 * np.sqrt(depth))) % 2
        c.paint(land * odd * 0.85, np.array([0.14, 0.1, 0.2]))
    if show["lake"]:
        c.water(shore, 0.2, lake * _dim(show, 0.6), period)
    if show["road"]:
        aside = np.abs(c.x - vanish) - 0.06 - 0.24 * depth
        c.paint(land * c.mask((aside - 0.035) * 0.9), np.full(3, 0.95) * _dim(show, 0.7))
        c.paint(land * c.mask(aside * 0.9), np.array([0.25, 0.25, 0.28]) * dim)
        dashes = land * (np.floor(3.5 / (depth + 0.3)) % 2)
        middle = c.mask(np.abs(c.x - vanish) - 0.01 - 0.03 * depth)
        c.paint(dashes * middle, np.array([1.0, 0.95, 0.4]) * _dim(show, 0.8))
    if show["snow"]:
        for x, y in flakes:
            c.paint(c.mask(c.disc(x, y, 0.012, 0.012)), (1.0, 1.0, 1.0))


def _lying(c: Canvas, show: Mapping[str, bool]) -> None:
    """What lies on the ground: rocks, flowers and clutter."""
    rng = c.rng
    stones = _row(rng, _ASIDE, [-0.1, 0.64, 0.09], [0.1, 0.95, 0.13])
    blooms = rng.uniform([-0.05, 0.56], [1.05, 1.0], (24, 2))
    junk, colors = rng.uniform([0, 0.55, 0.02, 0.03, 0], [1, 1.0, 0.04, 0.06, 3], (20, 5)), rng.uniform(0, 1, (20, 3))
    dim = _dim(show, 0.6)
    if show["rocks"]:
        for x, y, radius in stones:
            c.paint(c.mask(c.disc(x, y, radius, 0.65 * radius)), np.array([0.24, 0.22, 0.22]))
            lit = c.disc(x - 0.15 * radius, y - 0.2 * radius, 0.65 * radius, 0.32 * radius)
            c.paint(c.mask(lit), np.full(3, 0.68 * dim))
    if show["flowers"]:
        for i, (x, y) in enumerate(blooms):
            c.paint(c.mask(c.disc(x, y, 0.027, 0.027)), _BLOOMS[i % 4] * _dim(show, 0.85))
    if show["clutter"]:
        for (x, y, rx, ry, angle), color in zip(junk, colors):
            c.paint(c.mask(c.box(x, y, rx, ry, angle)), color * dim)


def _standing(c: Canvas, show: Mapping[str, bool]) -> None:
    """Trees, people, fire and railing."""
    rng = c.rng
    trees = _row(rng, (0.15, 0.5, 0.85), [-0.2, 0.07], [0.2, 0.12])
    figures = _row(rng, _ASIDE, [-0.08, 0.7, 0.2], [0.08, 0.85, 0.28])
    coats, flame = rng.uniform(0.1, 0.9, (4, 3)), rng.uniform([0.15, 0.66], [0.85, 0.9])
    crown, rail, dim = jitter(rng, (0.15, 0.5, 0.15), 0.08), rng.uniform(0.62, 0.78), _dim(show, 0.7)
    if show["trees"]:
        for x, radius in trees:
            c.fir(x, 0.5, radius, crown * dim, np.array([0.35, 0.22, 0.1]) * dim)
    if show["people"]:
        for (x, y, s), coat in zip(figures, coats):
            for lean in (-0.12, 0.12):
                c.paint(c.mask(c.line(x, y - 0.4 * s, x + lean * s, y, s * 0.14)), (0.1, 0.1, 0.2))
            c.paint(c.mask(c.line(x, y - 0.42 * s, x, y - 0.72 * s, s * 0.3)), coat)
            c.paint(c.mask(c.disc(x, y - 1.0 * s, s * 0.16, s * 0.16)), (0.95, 0.75, 0.6))
    if show["fire"]:
        x, y = flame
        for width, height, color in _FLAMES:
            for lean in (-0.05, 0.05):
                c.paint(c.mask(c.triangle(x + lean, y, width, height, -lean)), color)
    if show["railing"]:
        bars = c.stripes(0.085, 0.0, 0.28) * c.below(rail) * c.mask(c.y - rail - 0.17)
        top = c.mask(np.abs(c.y - rail) - 0.02)
        c.paint(np.maximum(bars, top), (0.12, 0.1, 0.1))
