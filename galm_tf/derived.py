"""The derived network: the chosen architectures with everything unused cut away (paper §3.2.1).

It is for inference. Towers that agree in a stage's choices run as one wide
operation, so there are no gates, no switched-off kernels, skips, columns or
layers, and at most 8 + 16 + 12 groups however many attributes there are. Batch
norms are fixed: recalibrated once on training images, then constants.
"""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers
from galm_tf.layers import BN_EPSILON
from galm_tf.search_space import CONV4_CHANNELS, CONV5_CHANNELS, TRUNK_CHANNELS, Architecture

Weights = Mapping[str, np.ndarray]


def group_by(architectures: Sequence[Architecture], key: Callable[[Architecture], tuple]) -> dict[tuple, np.ndarray]:
    """Choice tuple -> sorted attribute numbers that share it; keys in sorted order."""
    keys = [key(a) for a in architectures]
    return {k: np.array([i for i, other in enumerate(keys) if other == k]) for k in sorted(set(keys))}


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

    def calibrate(self, x: tf.Tensor) -> None:
        mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
        scale = self._gamma * tf.math.rsqrt(variance + BN_EPSILON)
        self.scale.assign(scale)
        self.shift.assign(self._beta - mean * scale)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.scale + self.shift


class _Conv4(_Stage):
    """-> [B, h/2, h/2, n * 32] after ReLU and pool, in the stage's order."""

    def __init__(self, architectures: Sequence[Architecture], weights: Weights) -> None:
        super().__init__(
            group_by(architectures, lambda a: (a.conv1_conv4, a.conv2_conv4, a.conv4_kernel)), "conv4"
        )
        self.kernels = [_wide_kernel(weights[f"conv4/kernel{k[2]}"][ids]) for k, ids in self.groups]
        self.skips = [_open_skips(weights["conv4/skip"][ids], k[:2], True) for k, ids in self.groups]
        self.bias = tf.Variable(weights["conv4/bias"][self.order].reshape(-1), name="bias")

    def __call__(self, features: tf.Tensor, sources: Sequence[tf.Tensor]) -> tf.Tensor:
        outputs = []
        for (key, _), kernel, skip in zip(self.groups, self.kernels, self.skips):
            y = tf.nn.conv2d(features, kernel, 1, "SAME")
            if skip is not None:
                y += tf.nn.conv2d(_open_sources(sources, key), skip, 1, "SAME")
            outputs.append(y)
        return tf.nn.relu(layers.max_pool(tf.concat(outputs, -1) + self.bias))


class _Conv5(_Stage):
    """-> [B, h/2, h/2, n * 16] after ReLU and pool, in the stage's order."""

    def __init__(self, architectures: Sequence[Architecture], weights: Weights, source: _Stage, side: int) -> None:
        super().__init__(
            group_by(
                architectures, lambda a: (a.conv1_conv5, a.conv2_conv5, a.conv3_conv5, a.conv5_kernel)
            ),
            "conv5",
        )
        self.side = side
        self.picks = [source.rank[ids] for _, ids in self.groups]
        shape = (-1, CONV4_CHANNELS, CONV5_CHANNELS)
        self.kernels = [
            tf.Variable(weights[f"conv5/kernel{k[3]}"][ids].reshape(len(ids), *shape).reshape(len(ids), -1, shape[2]))
            for k, ids in self.groups
        ]
        self.skips = [_open_skips(weights["conv5/skip"][ids], k[:3], False) for k, ids in self.groups]
        self.biases = [tf.Variable(weights["conv5/bias"][ids][:, None]) for _, ids in self.groups]

    def __call__(self, x: tf.Tensor, sources: Sequence[tf.Tensor]) -> tf.Tensor:
        outputs = []
        towers = tf.reshape(x, [-1, self.side, self.side, len(self.order), CONV4_CHANNELS])
        groups = zip(self.groups, self.picks, self.kernels, self.skips, self.biases)
        for (key, _), pick, kernel, skip, bias in groups:
            picked = tf.transpose(tf.gather(towers, pick, axis=3), [3, 0, 1, 2, 4])
            y = tf.matmul(_patches(picked, key[3]), kernel) + bias  # [n, B * side², 16]
            if skip is not None:
                open_sources = _open_sources(sources, key)
                y += tf.matmul(tf.reshape(open_sources, [1, -1, open_sources.shape[-1]]), skip)
            outputs.append(y)
        y = tf.reshape(tf.concat(outputs, 0), [-1, self.side, self.side, CONV5_CHANNELS])
        y = tf.nn.relu(layers.max_pool(y))
        half = self.side // 2
        y = tf.reshape(y, [len(self.order), -1, half, half, CONV5_CHANNELS])
        return tf.reshape(tf.transpose(y, [1, 2, 3, 0, 4]), [-1, half, half, len(self.order) * CONV5_CHANNELS])


class _Head(_Stage):
    """Fc-1 to Fc-3 as logit differences: -> margins [B, N] in attribute order."""

    def __init__(self, architectures: Sequence[Architecture], weights: Weights, source: _Stage, half: int) -> None:
        canonical = [a.canonical() for a in architectures]
        super().__init__(group_by(canonical, lambda a: (a.fc1_width, a.fc2_width)), "head")
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


class DerivedNetwork(tf.Module):
    """One network per attribute over a shared trunk, for inference.

    Args:
      architectures: [N], one per attribute.
      weights: the supernet's variables by name, as arrays (`Supernet.variables`);
        the trunk's batch norms are taken as they are, the towers' wait for `calibrate`.
      image_size: side of the input in pixels.
    """

    def __init__(self, architectures: Sequence[Architecture], weights: Weights, image_size: int) -> None:
        super().__init__(name="derived")
        side = image_size // 8
        self.image_size, self.num_attributes = image_size, len(architectures)
        self.trunk = Trunk(weights)
        self.conv4 = _Conv4(architectures, weights)
        order = self.conv4.order
        self.bn4 = _FixedBatchNorm(weights["bn4/gamma"][order], weights["bn4/beta"][order], "bn4")
        self.conv5 = _Conv5(architectures, weights, self.conv4, side // 2)
        order = self.conv5.order
        self.bn5 = _FixedBatchNorm(weights["bn5/gamma"][order], weights["bn5/beta"][order], "bn5")
        self.head = _Head(architectures, weights, self.conv5, side // 4)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Scaled images float32 [B, S, S, 3] -> margins float32 [B, N]."""
        maps, skips4, skips5 = self._sources(images)
        x = self.bn4(self.conv4(maps[2], skips4))
        return self.head(self.bn5(self.conv5(x, skips5)))

    def calibrate(self, images: tf.Tensor) -> None:
        """Fixes the towers' batch norms to the statistics of these scaled images [B, S, S, 3]."""
        maps, skips4, skips5 = self._sources(images)
        x = self.conv4(maps[2], skips4)
        self.bn4.calibrate(x)
        self.bn5.calibrate(self.conv5(self.bn4(x), skips5))

    def _sources(self, images):
        maps = self.trunk(images)
        side = self.image_size // 8
        return maps, [layers.average_pool_to(m, side) for m in maps[:2]], [layers.average_pool_to(m, side // 2) for m in maps]

    @property
    def num_parameters(self) -> int:
        return sum(int(np.prod(v.shape)) for v in self.variables)


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


def _open_sources(sources: Sequence[tf.Tensor], key: tuple) -> tf.Tensor:
    return tf.concat([s for s, on in zip(sources, key) if on], -1)


def _open_skips(skip: np.ndarray, switches: Sequence[bool], wide: bool):
    """The projections of the open skips: [n, C, F] -> [1, 1, C', n * F] or [n, C', F]; None if all are closed."""
    rows = np.repeat(list(switches), TRUNK_CHANNELS[: len(switches)])
    if not rows.any():
        return None
    kept = skip[:, rows]
    return tf.Variable(kept.transpose(1, 0, 2).reshape(1, 1, kept.shape[1], -1) if wide else kept)


def _wide_kernel(kernels: np.ndarray) -> tf.Variable:
    """[n, k, k, C, F] -> [k, k, C, n * F]."""
    n, k, _, channels, filters = kernels.shape
    return tf.Variable(kernels.transpose(1, 2, 3, 0, 4).reshape(k, k, channels, n * filters))


def _patches(x: tf.Tensor, kernel_size: int) -> tf.Tensor:
    """SAME patches: [n, B, h, h, C] -> [n, B * h * h, k * k * C], taps in (y, x) order."""
    towers, side, channels, reach = int(x.shape[0]), int(x.shape[2]), int(x.shape[4]), kernel_size // 2
    padded = tf.pad(x, [[0, 0], [0, 0], [reach, reach], [reach, reach], [0, 0]])
    taps = [padded[:, :, y : y + side, c : c + side] for y in range(kernel_size) for c in range(kernel_size)]
    return tf.reshape(tf.concat(taps, -1), [towers, -1, kernel_size**2 * channels])


def _head_weights(weights: Weights, ids: np.ndarray, width1: int, width2: int) -> list[tuple[tf.Variable, tf.Variable]]:
    """(kernel [n, in, out], bias [n, 1, out]) per layer; the last gives z1 - z0. width2 0: no Fc-2."""
    fc3 = weights["head/fc3_from_fc2" if width2 else "head/fc3_from_fc1"][ids, : width2 or width1]
    fc3_bias = weights["head/fc3_bias"][ids]
    chain = [(weights["head/fc1"][ids, :, :width1], weights["head/fc1_bias"][ids, None, :width1])]
    if width2:
        chain.append((weights["head/fc2"][ids, :width1, :width2], weights["head/fc2_bias"][ids, None, :width2]))
    chain.append(((fc3[..., 1] - fc3[..., 0])[..., None], (fc3_bias[:, 1] - fc3_bias[:, 0])[:, None, None]))
    return [(tf.Variable(kernel), tf.Variable(bias)) for kernel, bias in chain]
