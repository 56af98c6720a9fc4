import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import hardware, layers, search_space, winograd
from galm_tf.gates import gates_from_indices


@pytest.mark.parametrize("side, kernel_size", [(4, 3), (4, 5), (6, 5)])
def test_position_matrix_is_a_same_convolution(side, kernel_size):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, side, side, 2)).astype(np.float32)
    kernels = rng.normal(size=(2, kernel_size, kernel_size, 2, 5)).astype(np.float32)
    matrices = layers.position_matrix(tf.constant(kernels), side).numpy()
    for kernel, matrix in zip(kernels, matrices):
        expected = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
        np.testing.assert_allclose((x.reshape(3, -1) @ matrix).reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("side, how", [(2, "convolve_maps"), (4, "convolve_maps"), (6, "conv2d")])
def test_conv5_goes_alike_by_the_dense_product(monkeypatch, side, how):
    """Values, and gradients where TensorFlow has them, of small maps convolved whole and of larger ones by a grouped
    convolution.
    """
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    learns = how != "conv2d" or layers.grouped_convolutions_learn()
    monkeypatch.setattr(layers, "grouped_convolutions_learn", lambda: True)
    rng = np.random.default_rng(7)
    layer = layers.Conv5("conv5", 4, side, 3, 2, (1, 2, 1), rng)
    draw = lambda *shape: tf.constant(rng.normal(size=shape).astype(np.float32))  # noqa: E731
    x, skips, ids = draw(3, 5 * side**2, 3), draw(5, side, side, 4), tf.constant([3, 0, 2])
    gates = gates_from_indices(search_space.all_indices()[[0, 777, 2303]])
    used = []
    for owner, name in ((winograd, "convolve_maps"), (tf.nn, "conv2d")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, f=original, n=name: used.append(n) or f(*a))

    def outcome():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, skips, ids, gates)
            loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), y.shape))
        gradients = tape.gradient(loss, [x, *layer.parameters.values()]) if learns else []
        return [y, *map(tf.convert_to_tensor, gradients)]

    without = outcome()
    assert used == [how]
    monkeypatch.setattr(layers, "maps_whole_pay", lambda side: False)
    monkeypatch.setattr(layers, "dense_pays", lambda side: True)
    for ours, theirs in zip(without, outcome()):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())
    assert used == [how]


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_a_step_of_larger_images_needs_no_onednn(onednn):
    """On a processor without it TensorFlow has no gradients of grouped convolutions; asked of inside of a traced
    function, too.
    """
    code = """
import tensorflow as tf
from galm_tf import layers
from galm_tf.gates import gates_from_indices
from galm_tf import search_space
import numpy as np
layer = layers.Conv5("conv5", 2, 6, 3, 2, (1, 2, 1), np.random.default_rng(0))
gates = gates_from_indices(search_space.all_indices()[[0, 1]])
@tf.function
def step():
    with tf.GradientTape() as tape:
        y = layer(tf.ones([2, 36, 3]), tf.ones([1, 6, 6, 4]), tf.constant([0, 1]), gates)
    return tape.gradient(y, list(layer.parameters.values()))
step()
print("learned", layers.grouped_convolutions_learn())
"""
    settings = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=settings,
        cwd=pathlib.Path(__file__).parents[1],
    )
    assert done.stdout.strip().startswith("learned"), done.stderr[-2000:]


def test_without_gradients_of_grouped_convolutions_the_dense_product_serves(monkeypatch):
    rng = np.random.default_rng(8)
    layer = layers.Conv5("conv5", 2, 6, 3, 2, (1, 2, 1), rng)
    monkeypatch.setattr(layers, "grouped_convolutions_learn", lambda: False)
    monkeypatch.setattr(layer, "_grouped", None)
    gates = gates_from_indices(search_space.all_indices()[[0, 1]])
    assert layer(tf.ones([2, 36, 3]), tf.ones([1, 6, 6, 4]), tf.constant([0, 1]), gates).shape == (2, 9, 2)


def test_trunk_batch_norm_remembers_its_last_batch():
    layer = layers.TrunkBatchNorm("bn", 3)
    x = np.random.default_rng(3).normal(2.0, 3.0, size=(4, 5, 5, 3)).astype(np.float32)
    y = layer(x, training=True).numpy()
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1.0, atol=1e-3)
    np.testing.assert_allclose(layer(x, training=False).numpy(), y, atol=1e-5)


def test_skip_sources_average_and_join():
    maps = [
        np.random.default_rng(i).normal(size=(2, s, s, c)).astype(np.float32)
        for i, (s, c) in enumerate([(8, 2), (4, 3)])
    ]
    joined = layers.SkipSources("skips", 4)([tf.constant(m) for m in maps]).numpy()
    np.testing.assert_allclose(joined[..., :2], maps[0].reshape(2, 4, 2, 4, 2, 2).mean((2, 4)), atol=1e-6)
    np.testing.assert_array_equal(joined[..., 2:], maps[1])


@pytest.mark.parametrize("small", [0, 1, 3])
def test_grouping_by_kernel_allows_empty_groups(small):
    rng = np.random.default_rng(5)
    layer = layers.Conv4("conv4", 3, 4, 2, 3, (1, 1), rng)
    features, skips = (tf.constant(rng.normal(size=(2, 4, 4, 2)).astype(np.float32)) for _ in range(2))
    gates = np.zeros((3, 17), np.float32)
    gates[:small, 2], gates[small:, 3] = 1.0, 1.0
    y = layer(features, skips, tf.range(3), tf.constant(gates)).numpy()
    for i in range(3):
        kernel = layer.parameters["kernel3" if i < small else "kernel5"][i]
        expected = tf.nn.relu(tf.nn.max_pool2d(tf.nn.conv2d(features, kernel, 1, "SAME"), 2, 2, "VALID"))
        np.testing.assert_allclose(y[i], tf.reshape(expected, [-1, 3]), atol=1e-5)
