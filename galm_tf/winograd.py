"""Convolutions in fewer multiplications: Winograd's minimal filtering over 4×4 tiles, and of small maps whole.

A SAME convolution of stride 1 with k×k kernels takes k² multiplications an
output and channel; over tiles of 4×4 outputs the transformed one takes
((k + 3) / 4)², 2.25 in place of 9 for 3×3 and 4 in place of 25 for 5×5
(Winograd 1980; Lavin & Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016). It pays where the transforms are small beside the
products: many filters read the same few channels, as the towers of all
attributes read Conv-3. A map of s×s that is convolved whole needs no rim of
zeros: along a row it is a product with a Toeplitz matrix of 2s - 1 diagonals,
which takes as many multiplications, whatever the kernel. The matrices are Toom
and Cook's, by interpolation at few small points.

All that is made of tiles has one order of rows: the place within a 2×2 pool
first, then which pool of the tile, then image and tile. So a max-pool is the
greatest of four contiguous parts.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import tensorflow as tf

TILE = 4  # outputs of a tile, each way
# Where polynomials are evaluated, besides at infinity: small ones keep rounding errors small.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0, -0.5)
_WHOLE_SIDE = 8  # up to which a product with the whole map takes no more than one with each of its tiles
_POINTS_OF_MAPS = (0.0, -1.0, -2.0, 0.75, -0.5, 4 / 3)  # half the errors of the former's, of maps of 4×4


@dataclasses.dataclass(frozen=True)
class Transforms:
    """Of tiles whose inputs are n × n, n = k + 3: outputs = output · ((kernel · g) ⊙ (input · d)).

    Attributes:
      input: float32 [n², n²].
      kernel: float32 [n², k²].
      output: float32 [16, n²], rows in order (place y, place x, pool y, pool x).
    """

    input: np.ndarray
    kernel: np.ndarray
    output: np.ndarray

    @staticmethod
    @functools.cache
    def of(size: int) -> "Transforms":
        """Of kernels of this side, 3 or 5."""
        inputs, kernel, output = (np.kron(m, m) for m in minimal_filter(TILE, size))  # along rows and along columns
        output = output.reshape(2, 2, 2, 2, -1).transpose(1, 3, 0, 2, 4).reshape(TILE**2, -1)
        return Transforms(*(m.astype(np.float32) for m in (inputs, kernel, output)))

    @staticmethod
    @functools.cache
    def of_map(side: int, size: int) -> "Transforms":
        """Of maps of this side as they are, and kernels of an odd size: input [n², side²], output [side², n²], n = 2 *
        side - 1.

        F(side, side) with the map, backwards, for its kernel, and the diagonals of the
        Toeplitz matrix for its input. A tap that meets no two places of the map counts for nothing.
        """
        diagonals, backwards, output = minimal_filter(side, side, _POINTS_OF_MAPS)
        beyond, first = max(0, size // 2 + 1 - side), max(0, side - 1 - size // 2)
        taps = np.pad(diagonals[:, ::-1], [[0, 0], [beyond, beyond]])[:, first : first + size]
        matrices = (np.kron(m, m) for m in (backwards[:, ::-1], taps, output))
        return Transforms(*(m.astype(np.float32) for m in matrices))


def minimal_filter(
    outputs: int, taps: int, points: tuple[float, ...] = _POINTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F(outputs, taps) in one dimension: input [n, n], kernel [n, taps] and output [outputs, n] transforms, n = outputs
    + taps - 1, by the first n - 1 of the points and infinity.

    y_i = sum_j g_j d_(i + j) is the transpose, in d and y, of multiplying polynomials of
    degrees taps - 1 and outputs - 1, which evaluation at n points and interpolation does.
    float64; rows are scaled so that no transform's are large.
    """
    n = outputs + taps - 1
    at = points[: n - 1]
    inputs, kernel, output = np.linalg.inv(_evaluation(at, n)).T, _evaluation(at, taps), _evaluation(at, outputs).T
    sizes = np.abs(inputs).max(1), np.linalg.norm(kernel, axis=1), np.linalg.norm(output, axis=0)
    common = np.cbrt(sizes[0] * sizes[1] * sizes[2])
    scales = [common / size for size in sizes]
    return inputs * scales[0][:, None], kernel * scales[1][:, None], output * scales[2]


def _evaluation(points: tuple[float, ...], coefficients: int) -> np.ndarray:
    """The matrix that evaluates a polynomial at the points and at infinity."""
    at_infinity = np.eye(coefficients)[-1:]
    return np.concatenate([np.vander(points, coefficients, increasing=True), at_infinity])


def fits(side: int) -> bool:
    """Whether maps of this side divide into tiles."""
    return side % TILE == 0


def input_tiles(x: tf.Tensor, size: int) -> tf.Tensor:
    """Transformed input of a SAME convolution with kernels of side `size`: [B, h, h, C] -> [n², B * T, C], T tiles an
    image.
    """
    n, side, channels = TILE + size - 1, x.shape[1], x.shape[3]
    count, rim = side // TILE, size // 2
    if side <= _WHOLE_SIDE:
        flat = tf.reshape(tf.transpose(x, [1, 2, 0, 3]), [side**2, -1])
        tiles = tf.reshape(tf.matmul(tf.constant(_tiles_of_map(side, size)), flat), [n * n, count**2, -1, channels])
        tiles = tf.transpose(tiles, [0, 2, 1, 3])
    else:
        padded = tf.pad(x, [[0, 0], [rim, rim], [rim, rim], [0, 0]])
        starts = [(TILE * i, TILE * j) for i in range(count) for j in range(count)]
        tiles = tf.stack([padded[:, i : i + n, j : j + n] for i, j in starts], 1)  # [B, T, n, n, C]
        flat = tf.reshape(tf.transpose(tiles, [2, 3, 0, 1, 4]), [n * n, -1])
        tiles = tf.matmul(tf.constant(Transforms.of(size).input), flat)
    return tf.reshape(tiles, [n * n, -1, channels])


@functools.cache
def _tiles_of_map(side: int, size: int) -> np.ndarray:
    """The input transform of all tiles of a map at once, its rim of zeros left out: float32 [n² * T, side²]."""
    row = minimal_filter(TILE, size)[0]
    n, count, rim = len(row), side // TILE, size // 2
    placed = np.zeros((n, count, side + 2 * rim))
    for i in range(count):
        placed[:, i, TILE * i : TILE * i + n] = row
    placed = placed[:, :, rim : rim + side]
    return np.einsum("pty,qux->pqtuyx", placed, placed).reshape(-1, side**2).astype(np.float32)


def convolve(tiles: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The convolution: `input_tiles` [n², B * T, C], kernel [k, k, C, F] -> [16, B * T, F]; F may be 0."""
    size, channels, filters = int(kernel.shape[0]), int(kernel.shape[2]), tf.shape(kernel)[3]
    transforms = Transforms.of(size)
    flat = tf.reshape(kernel, [size * size, channels * filters])
    points, rows = (TILE + size - 1) ** 2, tf.shape(tiles)[1]
    kernels = tf.reshape(tf.matmul(tf.constant(transforms.kernel), flat), [points, channels, filters])
    flat = tf.reshape(tf.matmul(tiles, kernels), [points, rows * filters])
    return tf.reshape(tf.matmul(tf.constant(transforms.output), flat), [TILE**2, rows, filters])


def arrange(x: tf.Tensor) -> tf.Tensor:
    """Any map in the order of `convolve`: [B, h, h, C] -> [16, B * T, C].

    In two steps: in one oneDNN's transposition by several threads takes ten times as long.
    """
    batch, count, channels = tf.shape(x)[0], x.shape[1] // TILE, x.shape[3]
    x = tf.reshape(x, [batch * x.shape[1], count, 2, 2, channels])  # across: tile, pool, place
    x = tf.reshape(tf.transpose(x, [0, 3, 2, 1, 4]), [batch * count, 2, 2, 2, 2, count * channels])  # down: the same
    return tf.reshape(tf.transpose(x, [2, 3, 1, 4, 0, 5]), [TILE**2, batch * count**2, channels])


def max_pool(y: tf.Tensor) -> tf.Tensor:
    """2×2 max-pool with stride 2 of what is in tiles: [16, B * T, F] -> [4, B * T, F]."""
    shape = tf.shape(y)
    parts = tf.unstack(tf.reshape(y, [4, 4 * shape[1] * shape[2]]))
    pooled = tf.maximum(tf.maximum(parts[0], parts[1]), tf.maximum(parts[2], parts[3]))
    return tf.reshape(pooled, [4, shape[1], shape[2]])


def untile(pooled: tf.Tensor, side: int) -> tf.Tensor:
    """Pooled tiles as maps again: [4, B * T, F] -> [B, side, side, F]."""
    count = 2 * side // TILE
    x = tf.reshape(pooled, [2, 2, -1, count, count, pooled.shape[-1]])
    return tf.reshape(tf.transpose(x, [2, 3, 0, 4, 1, 5]), [-1, side, side, pooled.shape[-1]])


def by_tower(pooled: tf.Tensor, side: int, towers: tf.Tensor, filters: int) -> tf.Tensor:
    """Pooled tiles of S towers' channels as a map of each: [4, B * T, S * F] -> [S, B * side², F], positions row by
    row.

    S may be 0.
    """
    count = 2 * side // TILE
    batch = tf.shape(pooled)[1] // count**2
    x = tf.reshape(pooled, [2, 2, batch, count, count, towers, filters])
    return tf.reshape(tf.transpose(x, [5, 2, 3, 0, 4, 1, 6]), [towers, batch * side**2, filters])


def convolve_maps(x: tf.Tensor, kernel: tf.Tensor, side: int) -> tf.Tensor:
    """SAME convolution of whole small maps, each tower's by its own kernel: [S, B * side², C], [S, k, k, C, F] -> [S, B *
    side², F].
    """
    transforms, (channels, filters) = Transforms.of_map(side, int(kernel.shape[1])), kernel.shape[3:]
    points, towers, batch = len(transforms.input), tf.shape(x)[0], tf.shape(x)[1] // side**2
    x = tf.reshape(tf.transpose(tf.reshape(x, [towers, batch, side**2, channels]), [2, 0, 1, 3]), [side**2, -1])
    x = tf.reshape(tf.matmul(tf.constant(transforms.input), x), [points, towers, batch, channels])
    kernel = tf.reshape(tf.transpose(kernel, [1, 2, 0, 3, 4]), [transforms.kernel.shape[1], -1])
    kernel = tf.reshape(tf.matmul(tf.constant(transforms.kernel), kernel), [points, towers, channels, filters])
    y = tf.matmul(tf.constant(transforms.output), tf.reshape(tf.matmul(x, kernel), [points, -1]))
    y = tf.transpose(tf.reshape(y, [side**2, towers, batch, filters]), [1, 2, 0, 3])
    return tf.reshape(y, [towers, batch * side**2, filters])
