"""The derived network: the chosen architectures with everything unused cut away (DESIGN §4).

It is for inference. Towers that agree in a stage's choices run as one wide
operation, so there are no gates, no switched-off kernels, skips, columns or
layers, and at most 8 + 16 + 12 groups however many attributes there are. Batch
norms are fixed: recalibrated once on training images, then constants.
"""

from __future__ import annotations

from typing import Callable, Iterable, Iterator, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers, readout, winograd
from galm_tf.layers import BN_EPSILON
from galm_tf.search_space import CONV4_CHANNELS, CONV5_CHANNELS, TRUNK_CHANNELS, Architecture

Weights = Mapping[str, np.ndarray]
_PART_PIXELS = 256 * 64**2  # of the images that all towers take at once
_TILED_ROWS = 24  # tiles of a batch, from which transforming all kernels pays


def group_by(architectures: Sequence[Architecture], key: Callable[[Architecture], tuple]) -> dict[tuple, np.ndarray]:
    """Choice tuple -> sorted attribute numbers that share it; keys in sorted order."""
    keys = [key(a) for a in architectures]
    return {k: np.array([i for i, other in enumerate(keys) if other == k]) for k in sorted(set(keys))}


def conv_groups(name: str, architectures: Sequence[Architecture]) -> dict[tuple, np.ndarray]:
    """By the skips into conv4 or conv5 and its kernel."""
    skips = [f"conv{i}_{name}" for i in range(1, int(name[-1]) - 1)]
    return group_by(architectures, lambda a: tuple(getattr(a, d) for d in (*skips, f"{name}_kernel")))


def head_groups(architectures: Sequence[Architecture]) -> dict[tuple, np.ndarray]:
    """By the widths of Fc-1 and Fc-2, which is 0 where there is none."""
    return group_by([a.canonical() for a in architectures], lambda a: (a.fc1_width, a.fc2_width))


class _Stage(tf.Module):
    """Attributes grouped by the choices of one stage, and the order that results."""

    def __init__(self, groups: dict[tuple, np.ndarray], name: str) -> None:
        super().__init__(name=name)
        self.groups = tuple(groups.items())
        self.order = np.concatenate([ids for _, ids in self.groups])
        self.rank = np.argsort(self.order)  # attribute -> its place in this stage's output


class _FixedBatchNorm(tf.Module):
    """Scale and shift of n towers, set by `calibrate`: x [..., n * C]."""

    def __init__(self, gamma: np.ndarray, beta: np.ndarray, name: str) -> None:
        super().__init__(name=name)
        self._gamma, self._beta = gamma.reshape(-1), beta.reshape(-1)
        self.scale = tf.Variable(self._gamma, trainable=False, name="scale")
        self.shift = tf.Variable(self._beta, trainable=False, name="shift")

    def calibrate(self, batches: Iterable[tf.Tensor]) -> None:
        """To the mean and variance of all x together, which come batch by batch."""
        counts, means, squares = [], [], []
        for x in batches:
            mean, variance = (v.numpy().astype(np.float64) for v in tf.nn.moments(x, list(range(x.shape.rank - 1))))
            counts.append(len(x))
            means.append(mean)
            squares.append(variance + mean**2)
        mean, square = (np.average(values, axis=0, weights=counts) for values in (means, squares))
        scale = self._gamma / np.sqrt(square - mean**2 + BN_EPSILON)
        self.scale.assign(scale)
        self.shift.assign(self._beta - mean * scale)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.scale + self.shift


class _Conv(_Stage):
    """Conv-4 or Conv-5 of all towers: -> [B, h/2, h/2, n * filters] after ReLU and pool, in the stage's order.

    One convolution per group of like choices, Conv-4's in tiles where images are many. Conv-5 reads Conv-4's towers,
    each its own: a grouped convolution, so that towers stay side by side in the channels.

    Args:
      name: conv4 or conv5, which also names its decisions and weights.
      tiles: whether it may go in tiles at all.
      source: the stage before, where every tower has its own input.
    """

    def __init__(
        self,
        name: str,
        architectures: Sequence[Architecture],
        weights: Weights,
        tiles: bool,
        source: Optional[_Stage] = None,
    ) -> None:
        super().__init__(conv_groups(name, architectures), name)
        self.tiles = tiles
        self.picks = source and [source.rank[ids] for _, ids in self.groups]
        self.kernels = [_wide_kernel(weights[f"{name}/kernel{k[-1]}"][ids]) for k, ids in self.groups]
        self.skips = [_open_skips(weights[f"{name}/skip"][ids], k[:-1]) for k, ids in self.groups]
        self.bias = tf.Variable(weights[f"{name}/bias"][self.order].reshape(-1), name="bias")

    def __call__(self, x: tf.Tensor, sources: Sequence[tf.Tensor]) -> tf.Tensor:
        if self.tiles and self.picks is None and layers.tiles_pay(x.shape[1]):
            few = tf.shape(x)[0] * (x.shape[1] // winograd.TILE) ** 2 < _TILED_ROWS
            return tf.cond(few, lambda: self._direct(x, sources), lambda: self._in_tiles(x, sources))
        return self._direct(x, sources)

    def _in_tiles(self, x: tf.Tensor, sources: Sequence[tf.Tensor]) -> tf.Tensor:
        tiles = {size: winograd.input_tiles(x, size) for size in {int(kernel.shape[0]) for kernel in self.kernels}}
        sources, outputs = [winograd.arrange(s) for s in sources], []
        for (key, _), kernel, skip in zip(self.groups, self.kernels, self.skips):
            y = winograd.convolve(tiles[int(kernel.shape[0])], kernel)
            if skip is not None:
                y += tf.matmul(_open_sources(sources, key), skip[0])
            outputs.append(winograd.max_pool(y))
        pooled = tf.nn.relu(tf.concat(outputs, -1) + self.bias)
        return winograd.untile(tf.ensure_shape(pooled, [4, None, self.bias.shape[0]]), x.shape[1] // 2)

    def _direct(self, x: tf.Tensor, sources: Sequence[tf.Tensor]) -> tf.Tensor:
        outputs, picked = [], x
        towers = self.picks and tf.reshape(x, [-1, x.shape[1], x.shape[2], len(self.order), CONV4_CHANNELS])
        for i, ((key, ids), kernel, skip) in enumerate(zip(self.groups, self.kernels, self.skips)):
            if self.picks:
                picked = tf.gather(towers, self.picks[i], axis=3)
                picked = tf.reshape(picked, [-1, x.shape[1], x.shape[2], len(ids) * CONV4_CHANNELS])
            y = tf.nn.conv2d(picked, kernel, 1, "SAME")
            if skip is not None:
                y += tf.nn.conv2d(_open_sources(sources, key), skip, 1, "SAME")
            outputs.append(layers.max_pool(y))
        return tf.nn.relu(tf.concat(outputs, -1) + self.bias)


class _Head(_Stage):
    """Fc-1 to Fc-3 as logit differences: -> margins [B, N] in attribute order."""

    def __init__(self, architectures: Sequence[Architecture], weights: Weights, source: _Stage, half: int) -> None:
        super().__init__(head_groups(architectures), "head")
        self.half = half
        self.picks = [source.rank[ids] for _, ids in self.groups]
        self.weights = [_head_weights(weights, ids, *key) for key, ids in self.groups]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        towers = tf.reshape(x, [-1, self.half**2, len(self.order), CONV5_CHANNELS])
        outputs = []
        for pick, weight in zip(self.picks, self.weights):
            picked = tf.transpose(tf.gather(towers, pick, axis=2), [2, 0, 1, 3])
            y = tf.reshape(picked, [len(pick), -1, self.half**2 * CONV5_CHANNELS])
            for kernel, bias in weight[:-1]:
                y = tf.nn.relu(tf.matmul(y, kernel) + bias)
            kernel, bias = weight[-1]
            outputs.append((tf.matmul(y, kernel) + bias)[:, :, 0])
        return tf.transpose(tf.gather(tf.concat(outputs, 0), self.rank))

    def rescale(self, factor: np.ndarray, shift: np.ndarray) -> None:
        """As `DerivedNetwork.rescale`, by Fc-3."""
        for (_, ids), weight in zip(self.groups, self.weights):
            kernel, bias = weight[-1]
            of_each, more = (np.float32(values)[ids, None, None] for values in (factor, shift))
            kernel.assign(of_each * kernel)
            bias.assign(of_each * bias + more)


class DerivedNetwork(tf.Module):
    """One network per attribute over a shared trunk, for inference.

    Args:
      architectures: [N], one per attribute.
      weights: the supernet's variables by name, as arrays (`Supernet.variables`);
        the trunk's batch norms are taken as they are, the towers' wait for `calibrate`.
      side: of Conv-3's map.
      tiles: whether convolutions of many images may go in tiles, by operations that not every runtime has.
      trunk: scaled images -> three feature maps, and what is read beside the towers (`pretrained`); stands in place of
        a `Trunk` of the weights.
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        weights: Weights,
        side: int,
        tiles: bool = True,
        trunk: Optional[Callable] = None,
    ) -> None:
        super().__init__(name="derived")
        self.side, self.num_attributes = side, len(architectures)
        self.trunk = Trunk(weights) if trunk is None else trunk
        self.conv4 = _Conv("conv4", architectures, weights, tiles)
        order = self.conv4.order
        self.bn4 = _FixedBatchNorm(weights["bn4/gamma"][order], weights["bn4/beta"][order], "bn4")
        self.conv5 = _Conv("conv5", architectures, weights, tiles, self.conv4)
        order = self.conv5.order
        self.bn5 = _FixedBatchNorm(weights["bn5/gamma"][order], weights["bn5/beta"][order], "bn5")
        self.head = _Head(architectures, weights, self.conv5, side // 4)
        self._readout: Optional[tuple[tf.Variable, ...]] = None

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Scaled images float32 [B, S, S, 3] -> margins float32 [B, N]."""
        return self.of_outputs(self.trunk(images))

    def of_outputs(self, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """The trunk's outputs of B images -> margins float32 [B, N]."""
        margins = self.margins(outputs)
        if self._readout is None:
            return margins
        keep, weights, biases = self._readout
        return margins * keep + readout.product(readout.features(outputs), weights) + biases

    def margins(self, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Of the towers alone, by the trunk's outputs of B images: [B, N]."""
        conv3, skips4, skips5 = self._sources(outputs)
        x = self.bn4(self.conv4(conv3, skips4))
        return self.head(self.bn5(self.conv5(x, skips5)))

    def attach(self, beside: readout.Readout) -> None:
        """Reads the trunk beside the towers from now on."""
        names = ("keep", "weights", "biases")
        self._readout = tuple(tf.Variable(getattr(beside, name), name=f"readout_{name}") for name in names)

    def rescale(self, factor: np.ndarray, shift: np.ndarray) -> None:
        """Makes every margin the attribute's factor, [N], times itself, plus its shift, [N]."""
        if self._readout is None:
            return self.head.rescale(factor, shift)
        _rescale(self._readout, factor, shift)

    def calibrate(self, images: tf.Tensor) -> None:
        """Fixes the towers' batch norms to the statistics of these scaled images [B, S, S, 3], a few of which are held
        at once.
        """
        self.calibrate_on(lambda: self.outputs(images))

    def outputs(self, images: tf.Tensor) -> Iterator[Sequence[tf.Tensor]]:
        """The trunk's outputs of scaled images [B, S, S, 3], in parts that all towers take at once in bounded
        memory.
        """
        size = max(1, _PART_PIXELS // images.shape[1] ** 2)
        return (self.trunk(images[start : start + size]) for start in range(0, len(images), size))

    def calibrate_on(self, outputs: Callable[[], Iterable[Sequence[tf.Tensor]]]) -> None:
        """As `calibrate`, by the trunk's outputs of the images in parts, which are asked for once a stage."""

        def stage(number: int) -> Iterator[tf.Tensor]:
            for part in outputs():
                conv3, skips4, skips5 = self._sources(part)
                x = self.conv4(conv3, skips4)
                yield x if number == 4 else self.conv5(self.bn4(x), skips5)

        self.bn4.calibrate(stage(4))
        self.bn5.calibrate(stage(5))

    def _sources(self, outputs):
        """Conv-3's map, and what the skips of Conv-4 and of Conv-5 read, of the trunk's outputs."""
        maps = outputs[: len(TRUNK_CHANNELS)]
        skips = [[layers.average_pool_to(m, side) for m in maps] for side in (self.side, self.side // 2)]
        return maps[-1], skips[0][:2], skips[1]


class ReadingNetwork(tf.Module):
    """Linear readings of a trunk without any tower, for inference.

    Args:
      read: theirs, which keep nothing of a tower.
      trunk: scaled images -> three feature maps, and what is read (`pretrained`).
    """

    def __init__(self, read: readout.Readout, trunk: Callable) -> None:
        super().__init__(name="readings")
        self.trunk, self.num_attributes = trunk, len(read.biases)
        self._readout = (
            tf.Variable(read.weights, name="readout_weights"),
            tf.Variable(read.biases, name="readout_biases"),
        )

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Scaled images float32 [B, S, S, 3] -> margins float32 [B, N]."""
        return self.of_outputs(self.trunk(images))

    def of_outputs(self, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """The trunk's outputs of B images -> margins float32 [B, N]."""
        weights, biases = self._readout
        return readout.product(readout.features(outputs), weights) + biases

    def rescale(self, factor: np.ndarray, shift: np.ndarray) -> None:
        """As `DerivedNetwork.rescale`."""
        _rescale(self._readout, factor, shift)


class Trunk(tf.Module):
    """Conv-1 to Conv-3 with fixed batch norms: images -> three feature maps."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(name="trunk")
        self.stages = []
        for i in range(1, len(TRUNK_CHANNELS) + 1):
            kernel = tf.Variable(weights[f"conv{i}/kernel"])
            scale = weights[f"bn{i}/gamma"] / np.sqrt(weights[f"bn{i}/variance"] + BN_EPSILON)
            shift = weights[f"bn{i}/beta"] - weights[f"bn{i}/mean"] * scale
            self.stages.append((kernel, *(tf.Variable(v) for v in (weights[f"conv{i}/bias"], scale, shift))))

    def __call__(self, x: tf.Tensor) -> list[tf.Tensor]:
        maps = []
        for kernel, bias, scale, shift in self.stages:
            x = tf.nn.relu(layers.max_pool(tf.nn.conv2d(x, kernel, 1, "SAME")) + bias) * scale + shift
            maps.append(x)
        return maps


def _rescale(beside: Sequence[tf.Variable], factor: np.ndarray, shift: np.ndarray) -> None:
    """As `DerivedNetwork.rescale`, by what reads the trunk: factors, and the biases last."""
    *factors, biases = beside
    for variable in factors:
        variable.assign(np.float32(factor) * variable)
    biases.assign(np.float32(factor) * biases + np.float32(shift))


def _open_sources(sources: Sequence[tf.Tensor], key: tuple) -> tf.Tensor:
    return tf.concat([s for s, on in zip(sources, key) if on], -1)


def _open_skips(skip: np.ndarray, switches: Sequence[bool]) -> Optional[tf.Variable]:
    """The projections of the open skips: [n, C, F] -> [1, 1, C', n * F]; None if all are closed."""
    rows = np.repeat(list(switches), TRUNK_CHANNELS[: len(switches)])
    return _wide_kernel(skip[:, None, None, rows]) if rows.any() else None


def _wide_kernel(kernels: np.ndarray) -> tf.Variable:
    """[n, k, k, C, F] -> [k, k, C, n * F]."""
    n, k, _, channels, filters = kernels.shape
    return tf.Variable(kernels.transpose(1, 2, 3, 0, 4).reshape(k, k, channels, n * filters))


def _head_weights(weights: Weights, ids: np.ndarray, width1: int, width2: int) -> list[tuple[tf.Variable, tf.Variable]]:
    """(kernel [n, in, out], bias [n, 1, out]) per layer; the last gives z1 - z0. width2 0: no Fc-2."""
    fc3 = weights["head/fc3_from_fc2" if width2 else "head/fc3_from_fc1"][ids, : width2 or width1]
    fc3_bias = weights["head/fc3_bias"][ids]
    chain = [(weights["head/fc1"][ids, :, :width1], weights["head/fc1_bias"][ids, None, :width1])]
    if width2:
        chain.append((weights["head/fc2"][ids, :width1, :width2], weights["head/fc2_bias"][ids, None, :width2]))
    chain.append(((fc3[..., 1] - fc3[..., 0])[..., None], (fc3_bias[:, 1] - fc3_bias[:, 0])[:, None, None]))
    return [(tf.Variable(kernel), tf.Variable(bias)) for kernel, bias in chain]
