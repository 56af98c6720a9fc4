"""Layers of the supernet (paper §3.1, Table 1; DESIGN §4).

Trunk layers hold ordinary weights. Tower layers hold the weights of all N
attributes stacked, `[N, …]`, and read the rows of the S attributes named in
`ids`, so that S towers are a few wide operations. Gates are inputs: one traced
graph serves all architectures. The choice of kernel groups the attributes
(those with 3×3 first), so no switched-off kernel is computed.

Batch norms keep no running averages, since they would mix architectures: their
statistics are those of the images at hand (training) or of the leading
`statistics_images` of them (scoring with recalibrated statistics).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from typing import Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import hardware, search_space, winograd
from galm_tf.gates import WIDTH_BLOCKS, columns, spread

BN_EPSILON = 1e-3
_TILED_TOWERS = 6  # from which transforming Conv-4's input for all of them pays
_DENSE_SIDE = 4  # up to which a product with all positions at once is as fast as a grouped convolution
_convolution_dtype = contextvars.ContextVar("convolution_dtype", default=tf.float32)


@contextlib.contextmanager
def convolutions_in(dtype: tf.DType) -> Iterator[None]:
    """Within this context, while a function is traced, the convolutions of the trunk and of Conv-4 multiply in `dtype`.

    Mixed precision (Micikevicius et al. 2018; bfloat16 needs no loss scaling):
    weights, biases, batch norms and what a layer gives stay float32.
    """
    token = _convolution_dtype.set(dtype)
    try:
        yield
    finally:
        _convolution_dtype.reset(token)


def convolution(x: tf.Tensor, kernel) -> tf.Tensor:
    """SAME convolution of stride 1: float32 [B, H, W, C], [k, k, C, F] -> float32 [B, H, W, F]."""
    dtype = _convolution_dtype.get()
    y = tf.nn.conv2d(tf.cast(x, dtype), tf.cast(tf.convert_to_tensor(kernel), dtype), 1, "SAME")
    return tf.cast(y, tf.float32)


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """He's uniform initial weights, float32 `shape`, from a NumPy generator (same on every stack)."""
    limit = np.sqrt(6.0 / fan_in)
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def plain_variable(variable) -> tf.Variable:
    """The tf.Variable itself, which Keras 3 wraps: gathers, scatters, checkpoints and SavedModels want it."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def float_input(shape: Sequence[Optional[int]], name: str):
    """A Keras input of float32 [batch, *shape], whatever Keras's global `floatx` is."""
    return tf.keras.Input(tuple(shape), dtype="float32", name=name)


class FloatLayer(tf.keras.layers.Layer):
    """A layer of float32, whatever Keras's global policy is."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")


class SeededLayer(FloatLayer):
    """A layer whose weights are created in `__init__` from arrays, under stable names."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.parameters: dict[str, tf.Variable] = {}

    def add(self, name: str, value: np.ndarray, trainable: bool = True) -> tf.Variable:
        variable = self.add_weight(
            name=name,
            shape=value.shape,
            dtype="float32",
            initializer=lambda shape, dtype=None, **_: tf.constant(value, tf.float32),
            trainable=trainable,
        )
        self.parameters[name] = plain_variable(variable)
        return self.parameters[name]


def rows(stacked, ids: tf.Tensor) -> tf.Tensor:
    """The rows of the named attributes: [N, …], int32 [S] -> [S, …]."""
    return tf.gather(stacked, ids)


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """2×2 max-pool with stride 2: [B, H, W, C] -> [B, H/2, W/2, C]."""
    return tf.nn.max_pool2d(x, 2, 2, "VALID")


class ConvPool(SeededLayer):
    """Convolution (SAME), ReLU, 2×2 max-pool: [B, H, W, C] -> [B, H/2, W/2, filters]."""

    def __init__(self, name: str, in_channels: int, filters: int, kernel_size: int, rng: np.random.Generator) -> None:
        super().__init__(name)
        shape = (kernel_size, kernel_size, in_channels, filters)
        self.kernel = self.add("kernel", he_uniform(rng, shape, kernel_size**2 * in_channels))
        self.bias = self.add("bias", np.zeros(filters, np.float32))

    def call(self, x):
        y = convolution(x, self.kernel)
        return tf.nn.relu(max_pool(y) + self.bias)


class TrunkBatchNorm(SeededLayer):
    """Batch norm over all axes but the last.

    In training it uses, and remembers, the statistics of the batch; otherwise
    the last ones remembered. One training-mode pass over calibration images
    therefore recalibrates it (paper §3.1: "BNs are fixed in the inference phase").
    """

    def __init__(self, name: str, channels: int) -> None:
        super().__init__(name)
        self.gamma = self.add("gamma", np.ones(channels, np.float32))
        self.beta = self.add("beta", np.zeros(channels, np.float32))
        self.mean = self.add("mean", np.zeros(channels, np.float32), trainable=False)
        self.variance = self.add("variance", np.ones(channels, np.float32), trainable=False)

    def call(self, x, training: Optional[bool] = None):
        if training:
            mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
            self.mean.assign(tf.stop_gradient(mean))
            self.variance.assign(tf.stop_gradient(variance))
        else:
            mean, variance = self.mean.read_value(), self.variance.read_value()
        scale = self.gamma * tf.math.rsqrt(variance + BN_EPSILON)
        return x * scale + (self.beta - mean * scale)


def average_pool_to(x: tf.Tensor, side: int) -> tf.Tensor:
    """Average-pools a square map to a side that divides its own: [B, H, H, C] -> [B, side, side, C]."""
    factor = int(x.shape[1]) // side
    return tf.nn.avg_pool2d(x, factor, factor, "VALID") if factor > 1 else x


class SkipSources(FloatLayer):
    """Average-pools feature maps to a side and concatenates them: what a tower's skips read.

    [B, H_i, W_i, C_i] … -> [B, side, side, sum of C_i].
    """

    def __init__(self, name: str, side: int) -> None:
        super().__init__(name)
        self.side = side

    def call(self, maps):
        return tf.concat([average_pool_to(m, self.side) for m in maps], -1)


class GroupByKernel(FloatLayer):
    """Orders S towers so that those whose Conv-4 is 3×3 come first.

    Call: ids int32 [S], gates [S, NUM_GATES]. Returns both reordered, and the
    order int32 [S] (`Ungroup` undoes it).
    """

    def call(self, ids, gates):
        order = tf.argsort(columns(gates, "conv4_kernel", 2)[:, 1], stable=True)
        return tf.gather(ids, order), tf.gather(gates, order), order


class Ungroup(FloatLayer):
    """[S, B, 2] logits in the order of `GroupByKernel` -> [B, S, 2] in the caller's order."""

    def call(self, logits, order):
        return tf.transpose(tf.gather(logits, tf.argsort(order)), [1, 0, 2])


class TowerBatchNorm(SeededLayer):
    """Batch norm of S stacked towers.

    Call: x [S, B * P, C] (P positions of each image), ids int32 [S],
    statistics_images int32 [1]: mean and variance are those of this many
    leading images. Returns [S, B * P, C].
    """

    def __init__(self, name: str, num_attributes: int, positions: int, channels: int) -> None:
        super().__init__(name)
        self.positions = positions
        self.gamma = self.add("gamma", np.ones((num_attributes, channels), np.float32))
        self.beta = self.add("beta", np.zeros((num_attributes, channels), np.float32))

    def call(self, x, ids, statistics_images):
        gamma, beta = (rows(v, ids)[:, None, :] for v in (self.gamma, self.beta))
        mean, variance = tf.nn.moments(x[:, : statistics_images[0] * self.positions], [1], keepdims=True)
        scale = gamma * tf.math.rsqrt(variance + BN_EPSILON)
        return x * scale + (beta - mean * scale)


class GatedSkips(SeededLayer):
    """What Conv-4 and Conv-5 have in common: stacked kernels of both sizes, 1×1 skips, biases."""

    def __init__(
        self,
        name: str,
        num_attributes: int,
        side: int,
        channels: int,
        filters: int,
        sources: tuple[int, ...],
        rng: np.random.Generator,
    ) -> None:
        super().__init__(name)
        self.side, self.channels, self.filters, self.sources = side, channels, filters, sources
        for k in search_space.KERNELS:
            self.add(f"kernel{k}", he_uniform(rng, (num_attributes, k, k, channels, filters), k * k * channels))
        total = sum(sources)
        self.add("skip", he_uniform(rng, (num_attributes, total, filters), total))
        self.add("bias", np.zeros((num_attributes, filters), np.float32))

    def projections(self, ids: tf.Tensor, gates: tf.Tensor) -> tf.Tensor:
        """1×1 skip weights with the closed skips at zero: gates [S, sources] -> [S, channels, filters]."""
        return rows(self.parameters["skip"], ids) * spread(gates, self.sources)[:, :, None]


class Conv4(GatedSkips):
    """Conv-4 of S towers: 3×3 or 5×5 convolution of Conv-3 plus gated skips, ReLU, 2×2 max-pool.

    Call: features [B, h, h, 64], skips [B, h, h, 48], ids [S] and gates
    [S, NUM_GATES] as `GroupByKernel` orders them. Returns [S, B * (h/2)², 32].
    Each kernel size is one wide convolution of its own attributes, in tiles
    where these are many.
    """

    def call(self, features, skips, ids, gates):
        num_small = tf.cast(tf.reduce_sum(columns(gates, "conv4_kernel", 1)), tf.int32)
        convolve = self._in_tiles if tiles_pay(self.side, ids.shape[0]) else self._direct
        return convolve(features, skips, ids, gates, num_small)

    def _direct(self, features, skips, ids, gates, num_small):
        wide = [
            _wide_conv(features, self.parameters[f"kernel{k}"], group)
            for k, group in zip(search_space.KERNELS, (ids[:num_small], ids[num_small:]))
        ]
        projections = tf.transpose(self.projections(ids, columns(gates, "conv1_conv4", 2)), [1, 0, 2])
        skip = tf.nn.conv2d(skips, tf.reshape(projections, [1, 1, sum(self.sources), -1]), 1, "SAME")
        y = tf.concat(wide, -1) + skip + tf.reshape(rows(self.parameters["bias"], ids), [-1])
        y = tf.nn.relu(max_pool(y))  # [B, h/2, h/2, S * 32]
        y = tf.reshape(y, [-1, tf.shape(ids)[0], self.filters])
        return tf.transpose(y, [1, 0, 2])

    def _in_tiles(self, features, skips, ids, gates, num_small):
        skips, parts = winograd.arrange(skips), []
        projections = self.projections(ids, columns(gates, "conv1_conv4", 2))
        biases = rows(self.parameters["bias"], ids)
        for k, group in zip(search_space.KERNELS, (slice(None, num_small), slice(num_small, None))):
            towers = tf.shape(ids[group])[0]
            kernel = _wide_kernel(rows(self.parameters[f"kernel{k}"], ids[group]))
            skip = tf.transpose(projections[group], [1, 0, 2])
            y = winograd.convolve(winograd.input_tiles(features, k), kernel)
            y += tf.matmul(skips, tf.reshape(skip, [1, sum(self.sources), towers * self.filters]))
            pooled = tf.nn.relu(winograd.max_pool(y) + tf.reshape(biases[group], [-1]))
            parts.append(winograd.by_tower(pooled, self.side // 2, towers, self.filters))
        return tf.concat(parts, 0)


def tiles_pay(side: int, towers: Optional[int] = None) -> bool:
    """Whether convolutions of one map for several towers are better done in tiles.

    In float32, and not on a GPU, whose library has its own.

    Args:
      side: of the map.
      towers: how many; many where it is not known.
    """
    many = towers is None or towers >= _TILED_TOWERS
    return many and winograd.fits(side) and _convolution_dtype.get() == tf.float32 and not hardware.gpu()


def _wide_kernel(kernels: tf.Tensor) -> tf.Tensor:
    """The kernels of several attributes side by side: [S, k, k, C, F] -> [k, k, C, S * F]."""
    _, k, _, channels, filters = kernels.shape
    return tf.reshape(tf.transpose(kernels, [1, 2, 3, 0, 4]), [k, k, channels, filters * tf.shape(kernels)[0]])


def _wide_conv(features: tf.Tensor, stacked, ids: tf.Tensor) -> tf.Tensor:
    """One convolution for several attributes: [B, h, h, C], [N, k, k, C, F], [S] -> [B, h, h, S * F]."""
    kernel = _wide_kernel(rows(stacked, ids))
    # TensorFlow refuses a convolution without output channels, so a group may not simply be empty.
    return tf.cond(
        tf.size(ids) > 0,
        lambda: convolution(features, kernel),
        lambda: tf.zeros(tf.concat([tf.shape(features)[:3], [0]], 0)),
    )


class Conv5(GatedSkips):
    """Conv-5 of S towers: 3×3 or 5×5 convolution of Conv-4 plus gated skips, ReLU, 2×2 max-pool.

    Call: x [S, B * h², 32], skips [B, h, h, 112], ids [S], gates [S, NUM_GATES].
    Returns [S, B * (h/2)², 16].

    Small maps (4×4 at 64 pixels) are convolved whole in fewer multiplications,
    or on a GPU by a matrix from all input to all output positions, built from the
    kernel (DESIGN §5.3): a batched product of a good shape. Its work grows with
    the fourth power of the side, so that larger ones take a grouped convolution.
    Either way both kernel sizes cost the same.
    """

    def call(self, x, skips, ids, gates):
        kernel = self._kernel(ids, columns(gates, "conv5_kernel", 2))
        linear = self._convolve(x, kernel, tf.shape(ids)[0])
        projections = tf.transpose(self.projections(ids, columns(gates, "conv1_conv5", 3)), [1, 0, 2])
        skips = tf.reshape(skips, [-1, sum(self.sources)])
        projected = tf.matmul(skips, tf.reshape(projections, [sum(self.sources), -1]))  # one product for all towers
        projected = tf.transpose(tf.reshape(projected, [-1, tf.shape(ids)[0], self.filters]), [1, 0, 2])
        y = linear + projected + rows(self.parameters["bias"], ids)[:, None]
        y = tf.nn.relu(max_pool(tf.reshape(y, [-1, self.side, self.side, self.filters])))
        return tf.reshape(y, [tf.shape(ids)[0], -1, self.filters])

    def _convolve(self, x, kernel, towers):
        if maps_whole_pay(self.side):
            return winograd.convolve_maps(x, kernel, self.side)
        dense = dense_pays(self.side) or not grouped_convolutions_learn()
        return (self._dense if dense else self._grouped)(x, kernel, towers)

    def _dense(self, x, kernel, towers):
        x = tf.reshape(x, [towers, -1, self.side**2 * self.channels])
        return tf.reshape(tf.matmul(x, position_matrix(kernel, self.side)), [towers, -1, self.filters])

    def _grouped(self, x, kernel, towers):
        x = tf.transpose(tf.reshape(x, [towers, -1, self.channels]), [1, 0, 2])
        x = tf.reshape(x, [-1, self.side, self.side, towers * self.channels])
        y = tf.nn.conv2d(x, _wide_kernel(kernel), 1, "SAME")
        return tf.transpose(tf.reshape(y, [-1, towers, self.filters]), [1, 0, 2])

    def _kernel(self, ids, chosen):
        """The chosen kernels, a 3×3 one within a zero rim: [S, 5, 5, 32, 16]."""
        small, large = (rows(self.parameters[f"kernel{k}"], ids) for k in search_space.KERNELS)
        chosen = tf.reshape(chosen, [-1, 2, 1, 1, 1, 1])
        rim = [[0, 0], [1, 1], [1, 1], [0, 0], [0, 0]]
        return chosen[:, 0] * tf.pad(small, rim) + chosen[:, 1] * large


def maps_whole_pay(side: int) -> bool:
    """Whether convolutions of many small maps, each by its own kernel, are better done by `winograd.convolve_maps`."""
    return dense_pays(side) and not hardware.gpu()


def dense_pays(side: int) -> bool:
    """Whether maps of this side are small enough to be convolved by one product of all positions (`position_matrix`)."""
    return side <= _DENSE_SIDE


@functools.cache
def grouped_convolutions_learn() -> bool:
    """Whether TensorFlow has gradients of grouped convolutions here: on processors they come with oneDNN only.

    Asked of the kernels themselves: a tape records nothing in an init_scope, which this needs inside of a traced
    function.
    """
    with tf.init_scope():
        x, kernel = tf.ones([1, 2, 2, 2]), tf.ones([1, 1, 1, 2])
        how = dict(out_backprop=x, strides=[1] * 4, padding="SAME")
        try:
            tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **how)
            tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **how)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def position_matrix(kernel: tf.Tensor, side: int) -> tf.Tensor:
    """A SAME convolution of a side × side map as a matrix.

    kernel [S, k, k, C, F], k odd -> [S, side² * C, side² * F]; row order (y, x, channel).
    """
    size, channels, filters = (int(kernel.shape[i]) for i in (1, 3, 4))
    offsets = tf.constant(_offset_tensor(side, size))  # [side² * side², k²]
    taps = tf.reshape(kernel, [-1, size * size, channels * filters])
    dense = tf.reshape(tf.matmul(offsets[None], taps), [-1, side**2, side**2, channels, filters])
    return tf.reshape(tf.transpose(dense, [0, 1, 3, 2, 4]), [-1, side**2 * channels, side**2 * filters])


def _offset_tensor(side: int, size: int) -> np.ndarray:
    """One-hot [side⁴, k²]: which tap joins input position p to output position q."""
    y, x = np.divmod(np.arange(side * side), side)
    dy = y[:, None] - y[None, :] + size // 2  # [p, q]
    dx = x[:, None] - x[None, :] + size // 2
    inside = (dy >= 0) & (dy < size) & (dx >= 0) & (dx < size)
    taps = np.where(inside, dy * size + dx, -1).reshape(-1, 1)
    return (taps == np.arange(size * size)).astype(np.float32)


class TowerDropout(FloatLayer):
    """Inverted dropout by a stateless draw: x, seed int32 [2]. A negative first seed switches it off."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name)
        self.rate = rate

    def call(self, x, seed):
        keep = tf.random.stateless_uniform(tf.shape(x), seed) >= self.rate
        return tf.where(seed[0] < 0, x, tf.where(keep, x / (1.0 - self.rate), 0.0))


class TowerHead(SeededLayer):
    """Fc-1, Fc-2 and Fc-3 of S towers, with nested widths.

    Width w of Fc-1 and Fc-2 is the first w of 256 columns, so 64, 128 and 256
    are partial sums of one another. Fc-3 has its own weights for each input.

    Call: x [S, B * P, C], ids [S], gates [S, NUM_GATES]. Returns logits [S, B, 2].
    """

    def __init__(self, name: str, num_attributes: int, inputs: int, rng: np.random.Generator) -> None:
        super().__init__(name)
        n, width = num_attributes, search_space.FC_WIDTHS[-1]
        self.inputs = inputs
        self.add("fc1", he_uniform(rng, (n, inputs, width), inputs))
        self.add("fc1_bias", np.zeros((n, width), np.float32))
        self.add("fc2", he_uniform(rng, (n, width, width), width))
        self.add("fc2_bias", np.zeros((n, width), np.float32))
        self.add("fc3_from_fc1", 0.1 * he_uniform(rng, (n, width, 2), width))
        self.add("fc3_from_fc2", 0.1 * he_uniform(rng, (n, width, 2), width))
        self.add("fc3_bias", np.zeros((n, 2), np.float32))

    def call(self, x, ids, gates):
        row = {name: rows(v, ids) for name, v in self.parameters.items()}
        mask1, mask2 = (spread(columns(gates, f"fc{i}_width", 3), WIDTH_BLOCKS)[:, None] for i in (1, 2))
        reads = columns(gates, "fc3_input", 2)[:, None]
        x = tf.reshape(x, [tf.shape(ids)[0], -1, self.inputs])
        hidden1 = tf.nn.relu(tf.matmul(x, row["fc1"]) + row["fc1_bias"][:, None]) * mask1
        hidden2 = tf.nn.relu(tf.matmul(hidden1, row["fc2"]) + row["fc2_bias"][:, None]) * mask2
        from1 = tf.matmul(hidden1, row["fc3_from_fc1"]) * reads[:, :, :1]
        from2 = tf.matmul(hidden2, row["fc3_from_fc2"]) * reads[:, :, 1:]
        return from1 + from2 + row["fc3_bias"][:, None]
