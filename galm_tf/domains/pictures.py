"""What the generated domains show: animals, objects and scenes.

Each drawing function takes a canvas and attribute -> bool, and draws the random
numbers of a picture in an order that does not depend on the attributes, so
that toggling one attribute changes only what it causes.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Mapping

import numpy as np

from galm_tf.domains.drawing import Canvas, darker, jitter

Shown = Mapping[str, bool]


@dataclasses.dataclass(frozen=True)
class Picture:
    """How one domain looks.

    Attributes:
      kind: stem of the class names.
      attributes: short names, in label order.
      loose: attributes that may differ between images of a class.
      noise: standard deviation of the sensor noise.
      draw: paints one picture.
    """

    kind: str
    attributes: tuple[str, ...]
    loose: tuple[str, ...]
    noise: float
    draw: Callable[[Canvas, Shown], None]


def _vertical_fade(c: Canvas, top, bottom) -> np.ndarray:
    t = c.y[..., None]
    return np.asarray(top) * (1 - t) + np.asarray(bottom) * t


def _occlude(c: Canvas, rng: np.random.Generator, color) -> None:
    """Something in front, in a third of the pictures."""
    present, kind = rng.random(2)
    x, y, rx, ry, angle = rng.uniform([0, 0, 0.05, 0.08, 0], [1, 1, 0.12, 0.2, 3])
    if present < 0.33:
        c.paint(c.mask((c.disc if kind < 0.5 else c.box)(x, y, rx, ry, angle)), jitter(rng, color, 0.2))


def _light(c: Canvas, rng: np.random.Generator) -> None:
    """Brightness and contrast of the whole picture."""
    gain, shift = rng.uniform(0.75, 1.2), rng.uniform(-0.08, 0.08)
    c.pixels = np.clip((c.pixels - 0.5) * gain + 0.5 + shift, 0.0, 1.0)


# ---- Animals -----------------------------------------------------------------------------

ANIMAL_ATTRIBUTES = (
    "stripes", "spots", "furry", "horns", "longneck", "longleg", "bushytail", "wings", "bigears", "spiky",
    "dark", "orange", "bulbous", "water", "forest", "plains", "arctic", "nocturnal", "group", "biped",
)


def _animal_ground(c: Canvas, show: Shown, rng: np.random.Generator) -> float:
    """Sky, ground and plants; returns the height of the ground line."""
    level = rng.uniform(0.6, 0.72)
    sky, earth = jitter(rng, (0.55, 0.68, 0.75)), jitter(rng, (0.42, 0.45, 0.3))
    plains, snow = jitter(rng, (0.85, 0.75, 0.35), 0.06), jitter(rng, (0.93, 0.95, 0.98), 0.03)
    c.paint(np.ones_like(c.x), (sky * 0.16 + np.array([0.0, 0.0, 0.1])) if show["nocturnal"] else sky)
    ground = snow if show["arctic"] else plains if show["plains"] else earth
    moon = rng.uniform([0.1, 0.08], [0.9, 0.2])
    stars = rng.uniform([0, 0], [1, level], (14, 2))
    if show["nocturnal"]:
        c.paint(c.mask(c.disc(*moon, 0.06, 0.06)), (0.95, 0.95, 0.8))
        for x, y in stars:
            c.paint(c.mask(c.disc(x, y, 0.012, 0.012)), (0.95, 0.95, 0.9))
    trunks = rng.uniform(0.0, 1.0, 5)
    leaf = jitter(rng, (0.1, 0.38, 0.15))
    if show["forest"]:
        for x in trunks:
            c.paint(c.mask(c.box(x, level - 0.12, 0.018, 0.14)), (0.3, 0.2, 0.1))
            c.paint(c.mask(c.triangle(x, level - 0.1, 0.1, 0.36)), leaf)
    c.paint(c.below(level), ground * (0.45 if show["nocturnal"] else 1.0))
    tufts = rng.uniform([0, level + 0.02], [1, 0.98], (16, 2))
    if show["plains"]:
        for x, y in tufts:
            c.paint(c.mask(c.line(x, y, x + 0.015, y - 0.05, 0.012)), darker(plains, 0.7))
    flakes = rng.uniform(0, 1, (26, 2))
    if show["arctic"]:
        for x, y in flakes:
            c.paint(c.mask(c.disc(x, y, 0.014, 0.014)), (1.0, 1.0, 1.0))
    return level


def _water(c: Canvas, level: float, color, period: float) -> None:
    """A lake with light wave lines."""
    mask = c.waves(level, period, 0.012)
    c.paint(mask, color)
    light = c.mask(np.abs((c.y - level + 0.012 * np.sin(2 * np.pi * c.x / period)) % 0.07 - 0.02) - 0.006)
    c.paint(mask * light, np.clip(np.asarray(color) + 0.35, 0, 1))


def _animal_skin(c: Canvas, show: Shown, rng: np.random.Generator) -> np.ndarray:
    """The coat as a picture [S, S, 3]."""
    tone = jitter(rng, (0.6, 0.52, 0.44), 0.1)
    tone = np.where(show["orange"], jitter(rng, (0.9, 0.5, 0.1), 0.06), tone)
    tone = tone * (0.35 if show["dark"] else 1.0)
    mark = np.array([0.9, 0.88, 0.8]) if show["dark"] else np.array([0.08, 0.06, 0.05])
    angle, period, phase = rng.uniform(-0.3, 0.3), rng.uniform(0.06, 0.085), rng.uniform(0, 1)
    dot, dot_angle = rng.uniform(0.085, 0.11), rng.uniform(0, 1)
    hair = rng.uniform(0.9, 2.2)
    skin = np.broadcast_to(tone, c.pixels.shape).copy()
    if show["furry"]:
        fine = c.stripes(0.028, hair, 0.5)[..., None]
        skin = skin * (1 - 0.45 * fine)
    if show["stripes"]:
        skin += c.stripes(period, angle, 0.45, phase)[..., None] * (mark - skin)
    if show["spots"]:
        skin += c.dots(dot, 0.3 * dot, dot_angle)[..., None] * (mark - skin)
    return skin


def _animal_body(c: Canvas, show: Shown, skin: np.ndarray, place: np.ndarray, side: int, rng: np.random.Generator) -> None:
    """One animal; place is (x, y of its feet, scale), side +1 or -1 for the way it faces."""
    x, feet, s = place
    leg = s * (0.34 if show["longleg"] else 0.14)
    rx, ry = s * 0.26, s * (0.22 if show["bulbous"] else 0.12)
    cy = feet - leg - ry * 0.8
    parts = []
    if show["biped"]:
        legs = (-0.06, 0.06)
    else:
        legs = (-0.2, -0.12, 0.12, 0.2)
    for offset in legs:
        parts.append(c.line(x + s * offset, cy, x + s * offset * 1.05, feet, s * 0.05))
    neck = s * (0.38 if show["longneck"] else 0.1)
    hx, hy = x + side * (rx + s * 0.05), cy - ry * 0.4 - neck
    parts += [c.disc(x, cy, rx, ry), c.line(x + side * rx * 0.75, cy, hx, hy, s * 0.09), c.disc(hx + side * s * 0.04, hy, s * 0.11, s * 0.075)]
    if show["bigears"]:
        parts.append(c.disc(hx - side * s * 0.06, hy - s * 0.1, s * 0.06, s * 0.11, side * 0.4))
    if show["bushytail"]:
        parts.append(c.disc(x - side * (rx + s * 0.1), cy - s * 0.1, s * 0.13, s * 0.08, side * 0.8))
    else:
        parts.append(c.line(x - side * rx, cy, x - side * (rx + s * 0.1), cy + s * 0.08, s * 0.025))
    distance = np.minimum.reduce(parts)
    fuzz = rng.uniform(0, 6.28)
    if show["furry"]:
        distance = distance + 0.016 * s * np.sin(fuzz + 90 * np.arctan2(c.y - cy, c.x - x))
    if show["spiky"]:
        for t in np.linspace(-0.8, 0.8, 7):
            c.paint(c.mask(c.triangle(x + rx * t, cy - ry * np.sqrt(1 - t * t) + s * 0.03, s * 0.045, s * 0.15)), skin * 0.55)
    c.paint(c.mask(distance), skin)
    if show["wings"]:
        wing = c.disc(x - side * s * 0.05, cy - s * 0.16, s * 0.09, s * 0.24, side * 0.5)
        c.paint(c.mask(wing), np.clip(skin * 0.6 + 0.35, 0, 1))
    if show["horns"]:
        for offset in (0.0, 0.09):
            base = hx + side * s * offset
            c.paint(c.mask(c.line(base, hy - s * 0.05, base + side * s * 0.05, hy - s * 0.22, s * 0.035)), (0.96, 0.93, 0.8))
    c.paint(c.mask(c.disc(hx + side * s * 0.07, hy - s * 0.01, s * 0.018, s * 0.018)), (0.02, 0.02, 0.02))


def draw_animal(c: Canvas, show: Shown) -> None:
    """An animal, or a group, in its surroundings."""
    rng = c.rng
    level = _animal_ground(c, show, rng)
    color = jitter(rng, (0.2, 0.4, 0.62), 0.08)
    period = rng.uniform(0.15, 0.25)
    skin = _animal_skin(c, show, rng)
    side = 1 if rng.random() < 0.5 else -1
    x, feet, scale = rng.uniform([0.42, level + 0.12, 0.85], [0.58, level + 0.22, 1.15])
    companions = rng.uniform([0.1, level - 0.02, 0.3], [0.9, level + 0.06, 0.42], (3, 3))
    if show["group"]:
        for place in companions:
            _animal_body(c, show, skin, place, side, np.random.default_rng(0))
    _animal_body(c, show, skin, np.array([x, feet, scale * 0.9]), side, rng)
    if show["water"]:
        _water(c, feet - 0.05, color, period)
    _occlude(c, rng, (0.3, 0.35, 0.2))
    _light(c, rng)


# ---- Objects -----------------------------------------------------------------------------

OBJECT_ATTRIBUTES = (
    "ribbed", "dotted", "shiny", "wheels", "windows", "round", "handle", "stilts", "mast", "headlight",
    "wooden", "see_through", "vegetation", "afloat", "red", "fins", "sail", "label", "several", "toothed",
)


def _object_surface(c: Canvas, show: Shown, rng: np.random.Generator, angle: float) -> np.ndarray:
    """The material as a picture [S, S, 3]."""
    tone = jitter(rng, (0.35, 0.5, 0.62), 0.15)
    wood, red = jitter(rng, (0.62, 0.4, 0.2), 0.06), jitter(rng, (0.8, 0.12, 0.12), 0.08)
    grain, period, phase, dot = rng.uniform(0.03, 0.04), rng.uniform(0.085, 0.12), rng.uniform(0, 1), rng.uniform(0.12, 0.15)
    surface = np.broadcast_to(wood if show["wooden"] else tone, c.pixels.shape).copy()
    if show["red"]:
        surface = np.broadcast_to(0.75 * red + 0.25 * surface[0, 0], c.pixels.shape).copy()
    if show["wooden"]:
        wave = c.stripes(grain, np.pi / 2 + angle + 0.25 * c.roughness(4, 1.0), 0.35)
        surface = surface * (1 - 0.4 * wave[..., None])
    if show["ribbed"]:
        surface = surface + c.stripes(period, angle + 0.15, 0.42, phase)[..., None] * (np.array([0.97, 0.95, 0.9]) - surface)
    if show["dotted"]:
        surface = surface + c.dots(dot, 0.31 * dot, 0.8)[..., None] * (np.array([0.98, 0.9, 0.3]) - surface)
    return surface


def _gloss(c: Canvas, mask: np.ndarray, x: float, y: float, r: float) -> None:
    """Metal shine: a bright diagonal band and a glint."""
    band = np.exp(-(((c.x - x) * 0.7 + (c.y - y) * 0.7 + 0.25 * r) / (0.16 * r)) ** 2)
    glint = np.exp(-(((c.x - x + 0.4 * r) ** 2 + (c.y - y + 0.35 * r) ** 2) / (0.1 * r) ** 2))
    c.paint(mask * np.clip(0.75 * band + glint, 0, 1), (1.0, 1.0, 1.0))


def _object_shape(c: Canvas, show: Shown, x: float, y: float, r: float, flat: float, angle: float) -> np.ndarray:
    """Distance of the body."""
    if show["round"]:
        distance = c.disc(x, y, r, r * flat, angle)
    else:
        distance = c.box(x, y, r, r * flat, angle)
    if show["toothed"]:
        teeth = np.sin(14 * np.arctan2(c.y - y, c.x - x))
        distance = distance - 0.1 * r * np.clip(3 * teeth, -1, 1)
    return distance


def _object(c: Canvas, show: Shown, surface: np.ndarray, place, angle: float, side: int) -> None:
    """One object; place is (x, y, radius, height / width)."""
    x, y, r, flat = place
    h = r * flat
    dark = np.array([0.1, 0.1, 0.12])
    if show["stilts"]:
        for offset in (-0.75, 0.75):
            c.paint(c.mask(c.line(x + r * offset * 0.8, y, x + r * offset, y + h + r * 0.75, r * 0.1)), darker(surface[0, 0], 0.6))
    if show["mast"]:
        c.paint(c.mask(c.line(x, y, x, y - h - r * 1.1, r * 0.09)), dark)
        c.paint(c.mask(c.disc(x, y - h - r * 1.1, r * 0.09, r * 0.09)), (0.9, 0.2, 0.2))
    if show["sail"]:
        c.paint(c.mask(c.triangle(x + side * r * 0.35, y - h * 0.8, r * 0.5, r * 1.1, -side * r * 0.3)), (0.98, 0.97, 0.93))
    if show["fins"]:
        for offset in (-1, 1):
            c.paint(c.mask(c.disc(x + offset * r * 1.1, y - h * 0.1, r * 0.5, r * 0.17, offset * -0.5)), np.clip(surface * 0.5 + 0.3, 0, 1))
    if show["handle"]:
        ring = np.abs(c.disc(x - side * r * 0.3, y - h, r * 0.42, r * 0.42)) - r * 0.06
        c.paint(c.mask(ring), dark)
    body = c.mask(_object_shape(c, show, x, y, r, flat, angle))
    behind = 0.65 * c.pixels + 0.35 * surface
    c.paint(body, behind if show["see_through"] else surface)
    if show["see_through"]:
        rim = c.mask(np.abs(_object_shape(c, show, x, y, r, flat, angle)) - 0.012)
        c.paint(rim, np.clip(surface + 0.2, 0, 1))
    if show["shiny"]:
        _gloss(c, body, x, y, r)
    if show["windows"]:
        for column in (-0.5, 0.0, 0.5):
            c.paint(c.mask(c.box(x + column * r, y - 0.35 * h, r * 0.16, h * 0.22)), (0.75, 0.9, 1.0))
    if show["label"]:
        c.paint(c.mask(c.box(x, y + 0.4 * h, r * 0.55, h * 0.26)), (0.97, 0.97, 0.95))
        for row in (0.28, 0.4, 0.52):
            c.paint(c.mask(c.box(x, y + row * h, r * 0.42, h * 0.025 + 0.004)), dark)
    if show["headlight"]:
        glow = np.exp(-(((c.x - x - side * r * 0.8) ** 2 + (c.y - y - 0.1 * h) ** 2) / (0.28 * r) ** 2))
        c.paint(np.clip(1.5 * glow, 0, 1), (1.0, 0.95, 0.55))
    if show["wheels"]:
        for offset in (-0.55, 0.55):
            c.paint(c.mask(c.disc(x + offset * r, y + h, r * 0.3, r * 0.3)), dark)
            c.paint(c.mask(c.disc(x + offset * r, y + h, r * 0.12, r * 0.12)), (0.7, 0.7, 0.72))


def draw_object(c: Canvas, show: Shown) -> None:
    """An object, or several, before a plain wall."""
    rng = c.rng
    wall, table = jitter(rng, (0.78, 0.74, 0.68), 0.15), jitter(rng, (0.55, 0.5, 0.46), 0.12)
    c.paint(np.ones_like(c.x), _vertical_fade(c, wall, wall * 0.85))
    c.paint(c.below(rng.uniform(0.66, 0.78)), table)
    leaves = rng.uniform([0, 0.05, 0], [1, 0.95, 3.1], (26, 3))
    green = jitter(rng, (0.25, 0.55, 0.2), 0.08)
    if show["vegetation"]:
        for i, (x, y, angle) in enumerate(leaves):
            c.paint(c.mask(c.disc(x, y, 0.085, 0.03, angle)), green * (0.7 + 0.04 * (i % 10)))
    angle = rng.uniform(-0.18, 0.18)
    surface = _object_surface(c, show, rng, angle)
    side = 1 if rng.random() < 0.5 else -1
    place = rng.uniform([0.42, 0.46, 0.2, 0.55], [0.58, 0.58, 0.28, 0.8])
    copies = rng.uniform([0.1, 0.3, 0.08, 0.6], [0.9, 0.85, 0.11, 0.8], (3, 4))
    color, period = jitter(rng, (0.25, 0.55, 0.55), 0.08), rng.uniform(0.22, 0.32)
    if show["several"]:
        for other in copies:
            _object(c, show, surface, other, angle, side)
    _object(c, show, surface, place, angle, side)
    if show["afloat"]:
        _water(c, place[1] + place[2] * (place[3] + 0.12), color, period)
    _occlude(c, rng, (0.5, 0.45, 0.4))
    _light(c, rng)


# ---- Scenes -----------------------------------------------------------------------------

SCENE_ATTRIBUTES = (
    "open_area", "trees", "lake", "snow", "mountains", "clouds", "sunny", "night", "buildings", "lit_windows",
    "railing", "flowers", "clutter", "warm_light", "fog", "road", "people", "fire", "tiles", "rocks",
)


def _scene_back(c: Canvas, show: Shown, rng: np.random.Generator, level: float) -> None:
    """Sky or room, and what stands far away."""
    sky, wall = jitter(rng, (0.5, 0.7, 0.92), 0.08), jitter(rng, (0.75, 0.7, 0.62), 0.12)
    corner = rng.uniform(0.25, 0.75)
    cloud = rng.uniform([0, 0.05], [1, 0.28], (4, 2))
    sun, stars = rng.uniform([0.1, 0.08], [0.9, 0.22]), rng.uniform([0, 0], [1, level], (22, 2))
    peaks = rng.uniform([0, 0.14, 0.18], [1, 0.28, 0.34], (4, 3))
    blocks = rng.uniform([0.0, 0.06, 0.14], [1, 0.1, 0.3], (5, 3))
    stone = jitter(rng, (0.45, 0.42, 0.48), 0.08)
    dim = 0.22 if show["night"] else 1.0
    if show["open_area"]:
        c.paint(np.ones_like(c.x), _vertical_fade(c, sky * dim, np.clip(sky + 0.25, 0, 1) * dim))
    else:
        c.paint(np.ones_like(c.x), wall * dim)
        c.paint(c.mask(c.x - corner), wall * 0.72 * dim)
        c.paint(c.mask(np.abs(c.y - 0.1) - 0.012), wall * 0.4 * dim)
    if show["night"]:
        for x, y in stars:
            c.paint(c.mask(c.disc(x, y, 0.009, 0.009)), (1.0, 1.0, 0.9))
    if show["sunny"]:
        for ray in np.linspace(0, np.pi, 5)[:-1]:
            dx, dy = 0.16 * np.cos(ray), 0.16 * np.sin(ray)
            c.paint(c.mask(c.line(sun[0] - dx, sun[1] - dy, sun[0] + dx, sun[1] + dy, 0.014)), (1.0, 0.9, 0.4))
        c.paint(c.mask(c.disc(*sun, 0.085, 0.085)), (1.0, 0.93, 0.5))
    if show["clouds"]:
        for x, y in cloud:
            for dx, dy, radius in ((-0.07, 0.01, 0.05), (0.0, -0.02, 0.065), (0.07, 0.01, 0.05)):
                c.paint(c.mask(c.disc(x + dx, y + dy, radius * 1.3, radius * 0.8)), np.array([0.97, 0.97, 0.98]) * max(dim, 0.5))
    if show["mountains"]:
        for x, rx, height in peaks:
            c.paint(c.mask(c.triangle(x, level, rx, height)), np.array([0.42, 0.45, 0.58]) * max(dim, 0.4))
            c.paint(c.mask(c.triangle(x, level - 0.7 * height, rx * 0.3, height * 0.3)), np.array([0.9, 0.92, 0.96]) * max(dim, 0.5))
    if show["buildings"]:
        for i, (x, rx, height) in enumerate(blocks):
            c.paint(c.mask(c.box(x, level - height / 2, rx, height / 2)), stone * (0.7 + 0.12 * i) * max(dim, 0.4))
    if show["lit_windows"]:
        for x, rx, height in blocks[:4]:
            for dx in (-0.5, 0.5):
                for dy in (0.25, 0.6, 0.95):
                    c.paint(c.mask(c.box(x + dx * rx, level - height * dy, rx * 0.26, 0.022)), (1.0, 0.88, 0.4))


def _scene_ground(c: Canvas, show: Shown, rng: np.random.Generator, level: float) -> None:
    """The ground and what lies on it."""
    grass, floor = jitter(rng, (0.4, 0.58, 0.3), 0.08), jitter(rng, (0.5, 0.4, 0.32), 0.1)
    dim = 0.3 if show["night"] else 1.0
    ground = np.array([0.94, 0.96, 1.0]) if show["snow"] else grass if show["open_area"] else floor
    c.paint(c.below(level), ground * dim)
    depth = np.clip((c.y - level) / (1 - level), 1e-3, 1.0)
    vanish, flakes = rng.uniform(0.35, 0.65), rng.uniform(0, 1, (30, 2))
    lake, period = jitter(rng, (0.15, 0.35, 0.5), 0.06), rng.uniform(0.1, 0.16)
    shore = rng.uniform(0.1, 0.35) * (1 - level) + level
    stones = rng.uniform([0, level + 0.08, 0.04], [1, 0.98, 0.09], (7, 3))
    blooms = rng.uniform([0, level + 0.05], [1, 0.97], (34, 2))
    if show["tiles"]:
        across = np.floor((c.x - vanish) / depth * 4)
        checker = (across + np.floor(2.5 / depth)) % 2
        c.paint(c.below(level) * checker * 0.8, np.array([0.12, 0.12, 0.16]) + 0.1 * dim)
    if show["lake"]:
        _water(c, shore, lake * max(dim, 0.5), period)
    if show["road"]:
        c.paint(c.below(level) * c.mask((np.abs(c.x - vanish) - 0.03 - 0.22 * depth) * 0.8), np.array([0.3, 0.3, 0.32]) * max(dim, 0.6))
        dashes = (np.floor(3.0 / depth) % 2) * c.below(level)
        c.paint(dashes * c.mask(np.abs(c.x - vanish) - 0.006 - 0.02 * depth), (0.95, 0.9, 0.5))
    if show["rocks"]:
        for x, y, radius in stones:
            for lean in (-0.5, 0.5):
                c.paint(c.mask(c.triangle(x + lean * radius, y, radius, radius * 1.6, lean * radius)), np.array([0.35, 0.33, 0.33]) * (1 + 0.3 * lean))
    if show["flowers"]:
        palette = np.array([[0.95, 0.3, 0.5], [0.98, 0.85, 0.2], [0.75, 0.4, 0.9], [1.0, 1.0, 1.0]])
        for i, (x, y) in enumerate(blooms):
            c.paint(c.mask(c.disc(x, y, 0.02, 0.02)), palette[i % 4])
    if show["snow"]:
        for x, y in flakes:
            c.paint(c.mask(c.disc(x, y, 0.011, 0.011)), (1.0, 1.0, 1.0))


def _scene_front(c: Canvas, show: Shown, rng: np.random.Generator, level: float) -> None:
    """Trees, people, fire, railing and clutter."""
    trees = rng.uniform([0, 0.12], [1, 0.19], (4, 2))
    figures = rng.uniform([0.05, level + 0.1, 0.16], [0.95, level + 0.2, 0.24], (5, 3))
    flame = rng.uniform([0.2, level + 0.12], [0.8, level + 0.25])
    junk = rng.uniform([0, 0.35, 0.015, 0.015, 0], [1, 1, 0.05, 0.05, 3], (36, 5))
    colors, crown = rng.uniform(0, 1, (36, 3)), jitter(rng, (0.2, 0.5, 0.15), 0.08)
    coats = rng.uniform(0.1, 0.9, (5, 3))
    dim = 0.5 if show["night"] else 1.0
    if show["trees"]:
        for x, radius in trees:
            c.paint(c.mask(c.box(x, level, 0.022, 0.13)), np.array([0.35, 0.24, 0.13]) * dim)
            c.paint(c.mask(c.triangle(x, level - 0.06, radius * 0.75, radius * 2.3)), crown * dim)
    if show["people"]:
        for (x, y, s), coat in zip(figures, coats):
            for lean in (-0.12, 0.12):
                c.paint(c.mask(c.line(x, y - 0.4 * s, x + lean * s, y, s * 0.12)), (0.1, 0.1, 0.2))
            c.paint(c.mask(c.line(x, y - 0.4 * s, x, y - 0.75 * s, s * 0.26)), coat)
            c.paint(c.mask(c.disc(x, y - 0.98 * s, s * 0.13, s * 0.13)), (0.9, 0.72, 0.58))
    if show["fire"]:
        x, y = flame
        for width, height, color in ((0.1, 0.3, (0.9, 0.25, 0.05)), (0.065, 0.2, (1.0, 0.6, 0.1)), (0.03, 0.11, (1.0, 0.95, 0.5))):
            for lean in (-0.05, 0.05):
                c.paint(c.mask(c.triangle(x + lean, y, width, height, -lean)), color)
    if show["clutter"]:
        for (x, y, rx, ry, angle), color in zip(junk, colors):
            c.paint(c.mask(c.box(x, y, rx, ry, angle)), color)
    if show["railing"]:
        bars = c.stripes(0.07, 0.0, 0.25) * c.below(0.72) * c.mask(c.y - 0.95)
        c.paint(bars, (0.15, 0.13, 0.12))
        c.paint(c.mask(np.abs(c.y - 0.72) - 0.015), (0.15, 0.13, 0.12))


def draw_scene(c: Canvas, show: Shown) -> None:
    """A place, indoors or outdoors."""
    rng = c.rng
    level = rng.uniform(0.42, 0.58)
    _scene_back(c, show, rng, level)
    _scene_ground(c, show, rng, level)
    _scene_front(c, show, rng, level)
    _occlude(c, rng, (0.3, 0.3, 0.3))
    if show["fog"]:
        c.pixels = 0.45 * c.pixels + 0.55 * np.float32(0.8 if not show["night"] else 0.35)
    if show["warm_light"]:
        c.pixels = np.clip(c.pixels * np.array([1.18, 0.92, 0.6], np.float32) + np.array([0.08, 0.03, 0.0], np.float32), 0, 1)
    _light(c, rng)


PICTURES = {
    "awa": Picture("animal", ANIMAL_ATTRIBUTES, ("group", "nocturnal"), 0.03, draw_animal),
    "apay": Picture("object", OBJECT_ATTRIBUTES, ("several", "headlight", "red"), 0.04, draw_object),
    "sun": Picture("scene", SCENE_ATTRIBUTES, ("warm_light", "people", "clouds", "fog"), 0.035, draw_scene),
}
