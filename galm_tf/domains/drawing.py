"""Shapes and textures for the generated domains.

Everything is drawn on coordinates from 0 to 1 with edges smoothed over one
pixel, so the same picture can be drawn at any size. Masks are coverages in
[0, 1]; distances are signed and in picture widths, negative inside.
"""

from __future__ import annotations

import copy

import numpy as np

Color = np.ndarray  # float [3] in [0, 1]
LAMP = (1.0, 0.85, 0.25)  # light behind a window


class Canvas:
    """A square picture under construction: `pixels` float64 [S, S, 3] in [0, 1].

    Double precision, since NumPy 1 and 2 promote float32 differently and both
    shall draw the same picture.

    Args:
      size: side in pixels.
      rng: of this picture; draw from it in an order that depends neither on size nor on attributes.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.resolution = float(size)  # pixels per unit of x and y
        axis = (np.arange(size) + 0.5) / size
        self.x, self.y = np.meshgrid(axis, axis)
        self.pixels = np.zeros((size, size, 3))

    def frame(self, cx: float, cy: float, scale: float, angle: float = 0.0, mirror: bool = False) -> Canvas:
        """The same pixels in coordinates with origin (cx, cy), `scale` long, turned, perhaps mirrored."""
        part = copy.copy(self)
        u, v = turn(self.x - cx, self.y - cy, angle)
        part.x, part.y = (-u if mirror else u) / scale, v / scale
        part.resolution = self.resolution * scale
        return part

    def mask(self, distance: np.ndarray) -> np.ndarray:
        """Coverage of the inside of a signed distance field, [S, S]."""
        return np.clip(0.5 - distance * self.resolution, 0.0, 1.0)

    def paint(self, mask: np.ndarray, color) -> None:
        """Lays a colour [3], or a picture [S, S, 3], over the canvas, in place."""
        self.pixels += mask[..., None] * (np.asarray(color) - self.pixels)

    def fill(self, color) -> None:
        self.pixels[:] = color

    def disc(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> np.ndarray:
        """Distance of an ellipse."""
        u, v = turn(self.x - cx, self.y - cy, angle)
        norm = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
        return (norm - 1.0) * min(rx, ry)

    def box(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> np.ndarray:
        """Distance of a rectangle with half-sides rx and ry."""
        u, v = turn(self.x - cx, self.y - cy, angle)
        return np.maximum(np.abs(u) - rx, np.abs(v) - ry)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
        """Distance of a thick line with round ends."""
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0.0, 1.0)
        return np.hypot(self.x - x0 - along * dx, self.y - y0 - along * dy) - width / 2

    def triangle(self, cx: float, cy: float, rx: float, height: float, lean: float = 0.0) -> np.ndarray:
        """Distance of an upright triangle: base centre, half base, height, sideways lean of its tip."""
        t = (cy - self.y) / height  # 0 at the base, 1 at the tip
        side = np.abs(self.x - cx - lean * t) - rx * (1.0 - t)
        return np.maximum(np.maximum(side * 0.8, -t * height), (t - 1.0) * height)

    def stripes(self, period: float, angle: float, share: float = 0.5, phase: float = 0.0) -> np.ndarray:
        """Coverage of parallel bands."""
        u, _ = turn(self.x, self.y, angle)
        position = np.abs(((u + phase) / period) % 1.0 - 0.5)
        return self.mask((position - share / 2) * period)

    def dots(self, period: float, radius: float, angle: float = 0.4) -> np.ndarray:
        """Coverage of a staggered grid of discs."""
        u, v = turn(self.x, self.y, angle)
        row = np.floor(v / period)
        u = (u + 0.5 * period * (row % 2)) % period - period / 2
        return self.mask(np.hypot(u, v % period - period / 2) - radius)

    def fir(self, x: float, y: float, radius: float, crown: Color, stem: Color) -> None:
        """A conifer of two tiers; y: where its stem ends in the crown."""
        self.paint(self.mask(self.box(x, y + 0.05, 0.022, 0.09)), stem)
        for step in (0.0, 0.09):
            self.paint(self.mask(self.triangle(x, y - step, radius * (1 - 2 * step), radius * 2)), crown)

    def below(self, level: float) -> np.ndarray:
        return self.mask(level - self.y)

    def water(self, level: float, depth: float, color, period: float) -> None:
        """A lake from `level` down over `depth`, with light lines of waves."""
        down = self.y - level + 0.15 * period * np.sin(2 * np.pi * self.x / period)
        mask = self.mask(np.maximum(-down, down - depth))
        self.paint(mask, color)
        crest = self.mask(np.abs(down % (0.5 * period) - 0.2 * period) - 0.05 * period)
        self.paint(mask * crest, np.clip(np.asarray(color) + 0.4, 0, 1))

    def occlude(self, color) -> None:
        """Something in front, in a third of the pictures."""
        present, kind = self.rng.random(2)
        x, y, rx, ry, angle = self.rng.uniform([0, 0, 0.04, 0.07, 0], [1, 1, 0.09, 0.15, 3])
        tint = jitter(self.rng, color, 0.2)
        if present < 1 / 3:
            self.paint(self.mask((self.disc if kind < 0.5 else self.box)(x, y, rx, ry, angle)), tint)

    def light(self) -> None:
        """Contrast, brightness and a cast of colour over the whole picture."""
        gain, shift, cast = self.rng.uniform(0.75, 1.2), self.rng.uniform(-0.1, 0.1), self.rng.uniform(0.85, 1.15, 3)
        self.pixels[:] = np.clip(((self.pixels - 0.5) * gain + 0.5 + shift) * cast, 0.0, 1.0)

    def finish(self, noise: float) -> np.ndarray:
        """The picture with sensor noise, of 64 grains a side at any size: uint8 [S, S, 3]."""
        grains = self.rng.normal(0.0, noise, (64, 64, 3))
        index = (np.arange(self.size) * 64) // self.size
        return np.uint8(np.clip(self.pixels + grains[np.ix_(index, index)], 0.0, 1.0) * 255 + 0.5)


def turn(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in a frame turned by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def jitter(rng: np.random.Generator, color, amount: float = 0.12) -> Color:
    """A colour near the given one."""
    return np.clip(np.asarray(color) + rng.uniform(-amount, amount, 3), 0.0, 1.0)


def darker(color: Color, factor: float = 0.45) -> Color:
    """The same hue, `factor` times as bright."""
    return np.asarray(color) * factor
