"""Suites `train_step` and `inference`: the stacked layers against what one would write in plain Keras."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
import tensorflow as tf

from galm_tf import layers, lite, search_space
from galm_tf.benchmark.scaling import training_step
from galm_tf.benchmark.timing import Case, compare
from galm_tf.config import Config
from galm_tf.derived import DerivedNetwork
from galm_tf.gates import WIDTH_BLOCKS, columns, gates_from_indices
from galm_tf.network_size import tower_size
from galm_tf.read_back import read_back
from galm_tf.search_space import TRUNK_SHRINKS, Architecture, map_side
from galm_tf.supernet import Supernet, build_supernet, build_trunk, margins

_N, _GEMM = 102, 2048  # SUN's attributes; side of the matrix product that shows the machine's peak
_TIMED = 17  # of _N networks that run one after the other: tracing them all takes minutes


def measure_training(config: Config, repeats: int) -> pd.DataFrame:
    """Forward and backward: towers of 102 attributes, the trunk, and a large matrix product (all in GFLOP/s)."""
    rng = np.random.default_rng(config.seed)
    numbers = rng.integers(0, search_space.NUM_ARCHITECTURES, _N)
    supernet = build_supernet(_N, config.image_size, 0.0, config.seed)
    x = tf.constant(rng.normal(size=(config.batch_size, config.image_size, config.image_size, 3)), tf.float32)
    maps = [tf.constant(m) for m in supernet.trunk(x, training=True)]
    work = sum(tower_size(Architecture.from_number(n), map_side(config), read=0).multiply_adds for n in numbers)
    flops = 6.0 * config.batch_size * work  # two each; backward counts twice
    ids, gates = tf.range(_N), gates_from_indices(search_space.all_indices()[numbers])
    stacked = _gradient_step(
        lambda: margins(supernet.tower_logits(maps, ids, gates, tf.shape(x)[0])),
        list(supernet.towers.trainable_variables),
        maps,
    )
    plain = [plain_tower(Architecture.from_number(n), [m.shape[1:] for m in maps]) for n in numbers]
    separate = _gradient_step(
        lambda: tf.concat([tower(maps, training=True) for tower in plain], 1),
        [v for tower in plain for v in tower.trainable_variables],
        maps,
    )
    a = tf.random.stateless_normal([_GEMM, _GEMM], [1, 2])
    gemm = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    towers = compare(
        [
            Case("towers in plain Keras", separate, flops / 1e9, "GFLOP/s"),
            Case("stacked towers", stacked, flops / 1e9, "GFLOP/s"),
            Case("matrix product (peak)", gemm, 2 * _GEMM**3 / 1e9, "GFLOP/s"),
        ],
        repeats,
        further=[(1, 2)],  # the share of the peak
    )
    return pd.concat([towers, _trunks(x, config, repeats), _precisions(config, repeats)], ignore_index=True)


def _precisions(config: Config, repeats: int) -> pd.DataFrame:
    """Whole training steps of `attributes_per_step` of 102 towers, in float32 and in bfloat16."""
    trained = min(config.attributes_per_step or _N, _N)
    cases = []
    for precision in ("float32", "bfloat16"):
        step = training_step(_N, trained, dataclasses.replace(config, precision=precision))
        cases.append(Case(f"training step in {precision}", step, config.batch_size, "images/s"))
    return compare(cases, repeats)


def _trunks(x: tf.Tensor, config: Config, repeats: int) -> pd.DataFrame:
    """Conv-1 to Conv-3, ours and in plain Keras layers."""
    cases = []
    for name, trunk in (
        ("trunk in plain Keras", plain_trunk(config.image_size)),
        ("trunk", build_trunk(config.image_size, np.random.default_rng(0))),
    ):
        step = _gradient_step(
            lambda trunk=trunk: tf.concat([tf.reshape(m, [-1, 1]) for m in trunk(x, training=True)], 0),
            trunk.trainable_variables,
        )
        cases.append(Case(name, step, len(x), "images/s"))
    return compare(cases, repeats)


def _gradient_step(forward, variables, inputs=()):
    """A step that computes the gradients of variables, and of the inputs that layers before them learn by."""

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_mean(tf.square(forward()))
        gradients = [g for g in tape.gradient(loss, [*variables, *inputs]) if g is not None]
        return [tf.reduce_sum(g.values if isinstance(g, tf.IndexedSlices) else g) for g in gradients]

    return step


def plain_trunk(image_size: int) -> tf.keras.Model:
    """The trunk as a user would write it."""
    k = tf.keras.layers
    x = image = tf.keras.Input((image_size, image_size, 3))
    maps = []
    for filters, kernel in zip(search_space.TRUNK_CHANNELS, search_space.TRUNK_KERNELS):
        x = k.BatchNormalization()(k.MaxPool2D()(k.Conv2D(filters, kernel, padding="same", activation="relu")(x)))
        maps.append(x)
    return tf.keras.Model(image, maps)


def plain_tower(a: Architecture, shapes) -> tf.keras.Model:
    """One architecture as a user would write it: feature maps -> margin [B, 1]."""
    k = tf.keras.layers
    maps = [tf.keras.Input(tuple(s)) for s in shapes]
    x, filters = maps[2], (search_space.CONV4_CHANNELS, search_space.CONV5_CHANNELS)
    switches = ((a.conv1_conv4, a.conv2_conv4), (a.conv1_conv5, a.conv2_conv5, a.conv3_conv5))
    for size, kernel, open_ in zip(filters, (a.conv4_kernel, a.conv5_kernel), switches):
        y = k.Conv2D(size, kernel, padding="same")(x)
        for source, on in zip(maps, open_):
            if on:
                factor = source.shape[1] // y.shape[1]
                pooled = k.AveragePooling2D(factor)(source) if factor > 1 else source
                y = k.add([y, k.Conv2D(size, 1, use_bias=False)(pooled)])
        x = k.BatchNormalization()(k.MaxPool2D()(k.ReLU()(y)))
    x = k.Dense(a.fc1_width, activation="relu")(k.Flatten()(x))
    if a.fc3_input == "fc2":
        x = k.Dense(a.fc2_width, activation="relu")(x)
    z = k.Dense(2)(x)
    return tf.keras.Model(maps, k.Lambda(lambda t: t[:, 1:] - t[:, :1])(z))


def plain_network(a: Architecture, image_size: int) -> tf.keras.Model:
    """The whole network of one architecture as a user would write it: images -> margin [B, 1]."""
    trunk = plain_trunk(image_size)
    tower = plain_tower(a, [m.shape[1:] for m in trunk.outputs])
    return tf.keras.Model(trunk.input, tower(trunk.outputs))


def measure_inference(config: Config, repeats: int) -> pd.DataFrame:
    """Images a second of networks of 102 attributes, from one image and from a batch.

    What plain Keras runs attribute by attribute is built for 17 of them: a supernet's towers are run six times on the
    maps of its one trunk, and of models with a trunk each the rate for all is a sixth of theirs.
    """
    rng = np.random.default_rng(config.seed)
    numbers = rng.integers(0, search_space.NUM_ARCHITECTURES, _N)
    architectures = [Architecture.from_number(n) for n in numbers]
    supernet = build_supernet(_N, config.image_size, 0.0, config.seed)
    x = tf.constant(rng.normal(size=(config.batch_size, config.image_size, config.image_size, 3)), tf.float32)
    supernet.trunk(x, training=True)
    derived = DerivedNetwork(architectures, supernet.weights, map_side(config))
    derived.calibrate(x)
    plain, trunk = [PlainGatedTower() for _ in range(_TIMED)], plain_trunk(config.image_size)
    separate = [plain_network(a, config.image_size) for a in architectures[:_TIMED]]  # as after so many searches
    # Gates and images are arguments: as constants, what is closed would be folded away.
    of_trunk = tf.function(lambda images: trunk(images))
    of_towers = tf.function(lambda maps, gates: _all_branches(plain, maps, gates))
    calls = {
        "gated supernet": (tf.function(lambda images, gates: _gated(supernet, images, gates)), _N),
        "derived network": (tf.function(lambda images, gates: derived(images)), _N),
        "derived network in TensorFlow Lite": (_in_lite(derived, architectures), _N),
        "gated supernet in plain Keras": (
            lambda images, gates: _part_by_part(of_towers, of_trunk(images), gates),
            _N,
        ),
        "one Keras model per attribute": (
            tf.function(lambda images, gates: [model(images, training=False) for model in separate]),
            _TIMED,
        ),
    }
    gates, tables = gates_from_indices(search_space.all_indices()[numbers]), []
    for images in (x[:1], x):
        cases = [
            Case(
                f"{name}, batch {len(images)}",
                functools.partial(call, images, gates),
                len(images) * count / _N,
                "images/s",
            )
            for name, (call, count) in calls.items()
        ]
        tables.append(compare(cases, repeats))
    return pd.concat(tables, ignore_index=True)


class PlainGatedTower(tf.keras.Model):
    """One attribute's part of a supernet as it is commonly written: every branch is computed, gates mask what is
    closed.
    """

    def __init__(self) -> None:
        super().__init__()
        k, filters = tf.keras.layers, (search_space.CONV4_CHANNELS, search_space.CONV5_CHANNELS)
        self.convolutions = [[k.Conv2D(f, size, padding="same") for size in search_space.KERNELS] for f in filters]
        self.skips = [[k.Conv2D(f, 1, use_bias=False) for _ in range(sources)] for f, sources in zip(filters, (2, 3))]
        self.norms = [k.BatchNormalization() for _ in filters]
        self.hidden = [k.Dense(search_space.FC_WIDTHS[-1], activation="relu") for _ in range(2)]
        self.readings = [k.Dense(2) for _ in range(2)]

    def call(self, maps, gates):
        """Three feature maps, gates [NUM_GATES] -> margin [B]."""
        x = maps[2]
        for i, (convolutions, skips, norm) in enumerate(zip(self.convolutions, self.skips, self.norms), 4):
            y = tf.add_n(
                [g * c(x) for g, c in zip(tf.unstack(columns(gates[None], f"conv{i}_kernel", 2)[0]), convolutions)]
            )
            opened = tf.unstack(columns(gates[None], f"conv1_conv{i}", len(skips))[0])
            y += tf.add_n([g * s(layers.average_pool_to(m, int(x.shape[1]))) for g, s, m in zip(opened, skips, maps)])
            x = norm(layers.max_pool(tf.nn.relu(y)), training=False)
        x, logits = tf.reshape(x, [tf.shape(x)[0], -1]), 0.0
        reads = columns(gates[None], "fc3_input", 2)[0]
        for i, (dense, reading) in enumerate(zip(self.hidden, self.readings)):
            x = dense(x) * tf.repeat(columns(gates[None], f"fc{i + 1}_width", 3)[0], WIDTH_BLOCKS)
            logits += reads[i] * reading(x)
        return margins(logits)


def _in_lite(derived: DerivedNetwork, architectures: list[Architecture]):
    """The same network as `deploy` writes it, from pictures of bytes to probabilities; called with images of floats,
    whose shape counts.
    """
    plain = DerivedNetwork(architectures, read_back(derived, architectures), derived.side, tiles=False)
    size = derived.side * TRUNK_SHRINKS
    content = lite.convert(plain, size)
    model = lite.LiteModel(content, {"image_size": size, "thresholds": [None] * len(architectures)})
    pictures = functools.cache(
        lambda count: np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    )
    return lambda images, gates: model(pictures(len(images)))


def _all_branches(towers: list[PlainGatedTower], maps, gates: tf.Tensor) -> tf.Tensor:
    return tf.stack([tower(maps, row) for tower, row in zip(towers, tf.unstack(gates, len(towers)))], 1)


def _part_by_part(of_towers: Callable, maps: list[tf.Tensor], gates: tf.Tensor) -> list[tf.Tensor]:
    return [of_towers(maps, part) for part in tf.split(gates, len(gates) // _TIMED)]


def _gated(supernet: Supernet, x: tf.Tensor, gates: tf.Tensor) -> tf.Tensor:
    return margins(supernet.tower_logits(supernet.trunk(x), tf.range(_N), gates, tf.shape(x)[0]))
