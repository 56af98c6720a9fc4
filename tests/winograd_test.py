"""Convolutions in tiles against TensorFlow's own: values, gradients, and the exact filters."""

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import hardware, layers, winograd
from galm_tf.derived import DerivedNetwork
from galm_tf.gates import gates_from_indices
from galm_tf.search_space import Architecture, all_indices
from galm_tf.supernet import build_supernet


@pytest.mark.parametrize("taps", [3, 5])
def test_minimal_filters_are_exact(taps):
    inputs, kernel, output = winograd.minimal_filter(4, taps)
    rng = np.random.default_rng(taps)
    d, g = rng.normal(size=taps + 3), rng.normal(size=taps)
    np.testing.assert_allclose(output @ ((kernel @ g) * (inputs @ d)), np.correlate(d, g, "valid"), atol=1e-12)


def _images(shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


@pytest.mark.parametrize("taps, side", [(3, 4), (5, 4), (3, 8), (5, 8), (5, 12)])
def test_convolution_and_pool_equal_tensorflows(taps, side):
    x, kernel = _images((3, side, side, 7)), _images((taps, taps, 7, 10), 1) / taps

    def whole():
        return layers.max_pool(tf.nn.conv2d(x, kernel, 1, "SAME"))

    def tiled():
        return winograd.untile(winograd.max_pool(winograd.convolve(winograd.input_tiles(x, taps), kernel)), side // 2)

    results = []
    for function in (whole, tiled):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function()
            total = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(total, [x, kernel])])
    for expected, received in zip(*results):
        np.testing.assert_allclose(received, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [3, 5])
def test_small_maps_convolved_whole_equal_tensorflows(side, taps):
    x, kernels = _images((3, 5 * side**2, 7)), _images((3, taps, taps, 7, 4), 1) / taps
    maps = tf.reshape(x, [3, 5, side, side, 7])
    expected = tf.stack([tf.nn.conv2d(m, kernel, 1, "SAME") for m, kernel in zip(maps, kernels)])
    received = winograd.convolve_maps(x, kernels, side)
    np.testing.assert_allclose(received, tf.reshape(expected, received.shape), atol=2e-5 * np.abs(expected).max())


def test_arrange_gives_every_map_the_order_of_a_convolution():
    x = _images((2, 8, 8, 5))
    identity = np.zeros((3, 3, 5, 5), np.float32)
    identity[1, 1] = np.eye(5)
    np.testing.assert_allclose(
        winograd.arrange(x), winograd.convolve(winograd.input_tiles(x, 3), tf.constant(identity)), atol=1e-5
    )


@pytest.mark.parametrize("kernels", ["mixed", 3, 5])
@pytest.mark.parametrize("size", [32, 64])
def test_the_supernet_in_tiles_is_the_supernet(monkeypatch, size, kernels):
    indices = all_indices()
    numbers = np.arange(8) * 288 % 2304 + np.arange(8)
    choices = indices[numbers].copy()
    choices[:, 2] = np.arange(8) % 2 if kernels == "mixed" else [3, 5].index(kernels)
    supernet = build_supernet(8, size, 0.0, 0)
    images, gates = _images((4, size, size, 3)), gates_from_indices(tf.constant(choices))
    variables, model = list(supernet.trainable.values()), supernet.supernet

    def call():
        with tf.GradientTape() as tape:
            logits = model([images, tf.range(8), gates, tf.constant([4]), tf.constant([-1, 0])], training=True)
            total = tf.reduce_sum(tf.sin(logits))
        return logits, [tf.convert_to_tensor(g) for g in tape.gradient(total, variables, unconnected_gradients="zero")]

    used = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: used.append(1) or convolve(*arguments))
    tiled = call()
    assert len(used) == 2
    monkeypatch.setattr(layers, "tiles_pay", lambda *_: False)
    whole = call()
    assert len(used) == 2
    np.testing.assert_allclose(tiled[0], whole[0], atol=1e-4)
    for expected, received, variable in zip(whole[1], tiled[1], supernet.trainable):
        scale = float(tf.reduce_max(tf.abs(expected))) + 1e-6
        np.testing.assert_allclose(received, expected, atol=2e-3 * scale, err_msg=variable)


@pytest.mark.parametrize("size, tiled, direct", [(64, 6, 5), (32, 24, 23)])
def test_a_derived_network_scores_alike_in_large_and_small_batches(monkeypatch, size, tiled, direct):
    supernet = build_supernet(6, size, 0.0, 0)
    weights = supernet.weights
    architectures = [Architecture.from_number(n) for n in (0, 400, 900, 1300, 1800, 2303)]
    network, images = DerivedNetwork(architectures, weights, size // 8), _images((tiled, size, size, 3))
    network.calibrate(images)
    used = []
    for way in ("_in_tiles", "_direct"):
        original = getattr(type(network.conv4), way)
        monkeypatch.setattr(
            type(network.conv4),
            way,
            lambda self, *a, o=original, w=way: self.name == "conv4" and used.append(w) or o(self, *a),
        )
    large, small = network(images), network(images[:direct])
    assert used == ["_in_tiles", "_direct"]
    np.testing.assert_allclose(large[:direct], small, atol=5e-5 * float(tf.reduce_max(tf.abs(small))))
    assert np.abs(large).max() > 0.1


@pytest.mark.parametrize("side, towers, dtype, pays", [
    (8, 102, tf.float32, True), (8, None, tf.float32, True), (8, 1, tf.float32, False), (6, 102, tf.float32, False),
    (8, 102, tf.bfloat16, False),
])  # fmt: skip
def test_where_tiles_pay(monkeypatch, side, towers, dtype, pays):
    monkeypatch.setattr(hardware, "gpu", lambda: None)
    with layers.convolutions_in(dtype):
        assert layers.tiles_pay(side, towers) == pays


def test_a_gpu_keeps_its_own_convolutions(monkeypatch):
    monkeypatch.setattr(hardware, "gpu", lambda: "a GPU")
    assert not layers.tiles_pay(8, 102)
    assert not layers.maps_whole_pay(4)
