"""Shapes and textures for the generated domains.

Everything is drawn on coordinates from 0 to 1 with edges smoothed over one
pixel, so the same picture can be drawn at any size. Masks are coverages in
[0, 1]; distances are signed and in picture widths, negative inside.
"""

from __future__ import annotations

import numpy as np

Color = np.ndarray  # float [3] in [0, 1]


class Canvas:
    """A square picture under construction: `pixels` float32 [S, S, 3] in [0, 1].

    Args:
      size: side in pixels.
      rng: of this picture; draw from it in an order that does not depend on size.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x, self.y = np.meshgrid(axis, axis)
        self.pixels = np.zeros((size, size, 3), np.float32)

    def mask(self, distance: np.ndarray) -> np.ndarray:
        """Coverage of the inside of a signed distance field, [S, S]."""
        return np.clip(0.5 - distance * self.size, 0.0, 1.0)

    def paint(self, mask: np.ndarray, color) -> None:
        """Lays a colour [3], or a picture [S, S, 3], over the canvas."""
        self.pixels += mask[..., None] * (np.asarray(color, np.float32) - self.pixels)

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

    def waves(self, level: float, period: float, height: float) -> np.ndarray:
        """Coverage of everything below a wavy line."""
        return self.mask(level + height * np.sin(2 * np.pi * self.x / period) - self.y)

    def below(self, level: float) -> np.ndarray:
        return self.mask(level - self.y)

    def roughness(self, cells: int, strength: float) -> np.ndarray:
        """Smooth noise of a number of cells a side, [S, S] in ±strength."""
        grid = self.rng.uniform(-strength, strength, (cells + 1, cells + 1)).astype(np.float32)
        return bilinear(grid, self.x[0] * cells, self.y[:, 0] * cells)

    def finish(self, noise: float) -> np.ndarray:
        """The picture with sensor noise: uint8 [S, S, 3]."""
        coarse = self.rng.normal(0.0, noise, (64, 64, 3)).astype(np.float32)
        index = (np.arange(self.size) * 64) // self.size
        return np.uint8(np.clip(self.pixels + coarse[np.ix_(index, index)], 0.0, 1.0) * 255 + 0.5)


def turn(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in a frame turned by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def bilinear(grid: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Interpolates grid [H, W] at columns u [S] and rows v [S]: [S, S]."""
    c, r = np.minimum(u.astype(int), grid.shape[1] - 2), np.minimum(v.astype(int), grid.shape[0] - 2)
    fu, fv = (u - c)[None], (v - r)[:, None]
    top = grid[np.ix_(r, c)] * (1 - fu) + grid[np.ix_(r, c + 1)] * fu
    bottom = grid[np.ix_(r + 1, c)] * (1 - fu) + grid[np.ix_(r + 1, c + 1)] * fu
    return top * (1 - fv) + bottom * fv


def jitter(rng: np.random.Generator, color, amount: float = 0.12) -> Color:
    """A colour near the given one."""
    return np.clip(np.asarray(color, np.float32) + rng.uniform(-amount, amount, 3).astype(np.float32), 0.0, 1.0)


def darker(color: Color, factor: float = 0.45) -> Color:
    """The same hue, `factor` times as bright."""
    return np.asarray(color) * factor
