"""The supernet against the derived network, a NumPy network, and its own gates."""

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import derived as derived_lib
from galm_tf import search_space
from galm_tf.derived import DerivedNetwork
from galm_tf.gates import NUM_GATES, gates_from_indices
from galm_tf.search_space import Architecture
from galm_tf.supernet import TOWER_WEIGHTS, TRUNK_WEIGHTS, build_supernet, margins

SIZE, N, BATCH = 64, 6, 5


@pytest.fixture(scope="module")
def supernet():
    net = build_supernet(N, SIZE, 0.5, seed=1)
    rng = np.random.default_rng(0)
    for variable in net.trainable.values():  # zero biases and unit gammas would hide mistakes
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape).astype(np.float32))
    return net


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(1).normal(size=(BATCH, SIZE, SIZE, 3)), tf.float32)


def test_weights_have_the_names_that_sources_are_checked_by(supernet):
    for model, names in ((supernet.trunk, TRUNK_WEIGHTS), (supernet.towers, TOWER_WEIGHTS)):
        layers = {layer.name for layer in model.layers}
        assert {name for name in supernet.variables if name.split("/")[0] in layers} == set(names)
    assert all(supernet.variables[name].shape[0] == N for name in TOWER_WEIGHTS)


def _supernet_margins(net, images, ids, numbers, training=False):
    gates = gates_from_indices(search_space.all_indices()[numbers])
    inputs = [images, tf.constant(ids, tf.int32), gates, tf.constant([len(images)]), tf.constant([-1, 0])]
    return margins(net.supernet(inputs, training=training)).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_gated_supernet_equals_the_derived_network(supernet, images, seed):
    numbers = np.random.default_rng(seed).integers(0, 2304, N)
    supernet.trunk(images, training=True)  # calibrates the trunk's batch norms
    gated = _supernet_margins(supernet, images, np.arange(N), numbers)
    derived = DerivedNetwork([Architecture.from_number(n) for n in numbers], supernet.weights, SIZE // 8)
    derived.calibrate(images)
    # Tiles of 5×5 kernels round some ten times as coarsely as a plain sum.
    np.testing.assert_allclose(derived(images).numpy(), gated, atol=5e-5 * max(1.0, np.abs(gated).max()))


def test_larger_images_give_the_same_in_supernet_and_derived_network():
    net, numbers = build_supernet(N, 96, 0.5, seed=2), np.random.default_rng(9).integers(0, 2304, N)
    images = tf.constant(np.random.default_rng(3).normal(size=(BATCH, 96, 96, 3)), tf.float32)
    net.trunk(images, training=True)
    gated = _supernet_margins(net, images, np.arange(N), numbers)
    derived = DerivedNetwork([Architecture.from_number(n) for n in numbers], net.weights, 96 // 8)
    derived.calibrate(images)
    np.testing.assert_allclose(derived(images).numpy(), gated, atol=5e-5 * max(1.0, np.abs(gated).max()))


def test_a_network_calibrates_in_parts_as_at_once(supernet, images, monkeypatch):
    supernet.trunk(images, training=True)
    architectures = [Architecture.from_number(n) for n in np.random.default_rng(6).integers(0, 2304, N)]
    outputs = []
    for pixels in (1, 2 * SIZE**2, 10 * SIZE**2):
        monkeypatch.setattr(derived_lib, "_PART_PIXELS", pixels)
        network = DerivedNetwork(architectures, supernet.weights, SIZE // 8)
        network.calibrate(images)
        outputs.append(network(images).numpy())
    assert np.abs(outputs[-1]).max() > 0.05
    for output in outputs[:-1]:
        np.testing.assert_allclose(output, outputs[-1], atol=1e-5)


def test_margins_are_rescaled_by_the_last_layers(supernet, images):
    supernet.trunk(images, training=True)
    numbers = np.random.default_rng(7).integers(0, 2304, N)
    network = DerivedNetwork([Architecture.from_number(n) for n in numbers], supernet.weights, SIZE // 8)
    network.calibrate(images)
    before, shift, factor = network(images).numpy(), np.arange(N) - 2.0, 0.5 + np.arange(N) / 4
    network.rescale(factor, shift)
    np.testing.assert_allclose(network(images).numpy(), factor * before + shift, atol=1e-5)


def test_derived_network_holds_only_used_parts(supernet):
    small = Architecture(False, False, 3, False, False, False, 3, 64, 64, "fc1")
    network = DerivedNetwork([small], supernet.weights, SIZE // 8)
    trunk = 7 * 7 * 3 * 16 + 3 * 3 * 16 * 32 + 3 * 3 * 32 * 64 + 3 * (16 + 32 + 64)
    tower = (3 * 3 * 64 * 32 + 32) + 2 * 32 + (3 * 3 * 32 * 16 + 16) + 2 * 16 + (64 * 64 + 64) + (64 + 1)
    assert sum(int(np.prod(v.shape)) for v in network.variables) == trunk + tower


def test_one_trace_serves_all_architectures(supernet, images):
    traces = []

    @tf.function
    def call(ids, gates):
        traces.append(1)
        return supernet.supernet([images, ids, gates, tf.constant([BATCH]), tf.constant([-1, 0])])

    for number in (0, 100, 2303):
        call(tf.constant([0, 3]), gates_from_indices(search_space.all_indices()[[number, 2303 - number]]))
    assert len(traces) == 1


def test_attributes_do_not_depend_on_their_neighbours(supernet, images):
    together = _supernet_margins(supernet, images, [4, 1, 2], [10, 2000, 700])
    for column, (attribute, number) in enumerate([(4, 10), (1, 2000), (2, 700)]):
        alone = _supernet_margins(supernet, images, [attribute], [number])
        np.testing.assert_allclose(together[:, column], alone[:, 0], atol=1e-4)


def test_a_void_width_changes_nothing(supernet, images):
    twins = np.flatnonzero(search_space.canonical_numbers() == search_space.canonical_numbers()[0])
    scores = [_supernet_margins(supernet, images, [0], [n]) for n in twins]
    assert len(twins) == 3
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)


def test_every_other_choice_changes_the_output(supernet, images):
    base = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]  # reads Fc-2, so no width is void
    number = np.ravel_multi_index(base, search_space.NUM_CHOICES)
    reference = _supernet_margins(supernet, images, [0], [number])
    for decision, count in enumerate(search_space.NUM_CHOICES):
        for choice in range(count):
            changed = list(base)
            changed[decision] = choice
            if changed == base:
                continue
            other = np.ravel_multi_index(changed, search_space.NUM_CHOICES)
            scores = _supernet_margins(supernet, images, [0], [other])
            assert np.abs(scores - reference).max() > 1e-4, search_space.DECISIONS[decision]


def test_statistics_come_from_the_leading_images(supernet, images):
    maps = supernet.trunk(images)
    ids, gates = tf.constant([0]), gates_from_indices(search_space.all_indices()[[100]])
    leading = supernet.tower_logits(maps, ids, gates, tf.constant(3))
    changed = [tf.concat([m[:3], 2.0 * m[3:]], 0) for m in maps]
    np.testing.assert_allclose(leading[:3], supernet.tower_logits(changed, ids, gates, tf.constant(3))[:3], atol=1e-5)
    assert np.abs(leading[:3] - supernet.tower_logits(changed, ids, gates, tf.constant(BATCH))[:3]).max() > 1e-3


def test_dropout_is_a_function_of_its_seed(supernet, images):
    maps = supernet.trunk(images)
    ids, gates = tf.constant([0]), gates_from_indices(search_space.all_indices()[[100]])

    def call(seed):
        return supernet.towers([list(maps), ids, gates, tf.constant([BATCH]), tf.constant(seed)]).numpy()

    np.testing.assert_array_equal(call([3, 4]), call([3, 4]))
    assert np.abs(call([3, 4]) - call([3, 5])).max() > 1e-4
    np.testing.assert_array_equal(call([-1, 0]), call([-1, 9]))


def test_every_weight_gets_a_gradient(supernet, images):
    """Over the two extreme architectures nothing trainable is left without a gradient."""
    ids = tf.range(N)
    total = {name: 0.0 for name in supernet.trainable}
    variables = list(supernet.trainable.values())

    @tf.function
    def gradients(gates):
        with tf.GradientTape() as tape:
            logits = supernet.supernet([images, ids, gates, tf.constant([BATCH]), tf.constant([-1, 0])], training=True)
            loss = tf.reduce_mean(tf.square(logits * tf.constant([[1.0, -2.0]])))
        return tape.gradient(loss, variables)

    for choices in ([1, 1, 0, 1, 1, 1, 0, 2, 2, 1], [1, 1, 1, 1, 1, 1, 1, 2, 2, 0]):
        gates = gates_from_indices(np.array([choices] * N, np.int32))
        for name, gradient in zip(total, gradients(gates)):
            values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
            total[name] += float(tf.reduce_max(tf.abs(values))) if tf.size(values) else 0.0
    assert not [name for name, largest in total.items() if largest == 0.0]


def test_initial_weights_depend_on_the_seed_alone():
    first, same, other = (build_supernet(2, 32, 0.0, seed).weights for seed in (7, 7, 8))
    for name in first:
        np.testing.assert_array_equal(first[name], same[name])
    assert np.abs(first["conv4/kernel3"] - other["conv4/kernel3"]).max() > 0


@pytest.mark.parametrize("policy, floatx", [("mixed_bfloat16", "float32"), ("float64", "float64")])
def test_keras_usual_precision_does_not_matter(policy, floatx):
    before = tf.keras.mixed_precision.global_policy(), tf.keras.backend.floatx()
    images = tf.constant(np.random.default_rng(1).normal(size=(BATCH, 32, 32, 3)), tf.float32)
    expected = _supernet_margins(build_supernet(N, 32, 0.5, seed=1), images, np.arange(N), np.arange(N), training=True)
    tf.keras.backend.set_floatx(floatx)
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        net = build_supernet(N, 32, 0.5, seed=1)
        margin = _supernet_margins(net, images, np.arange(N), np.arange(N), training=True)
    finally:
        tf.keras.backend.set_floatx(before[1])
        tf.keras.mixed_precision.set_global_policy(before[0])
    np.testing.assert_array_equal(margin, expected)


def test_gates_are_the_choices():
    gates = gates_from_indices(np.array([[1, 0, 1, 0, 1, 1, 0, 1, 2, 1]], np.int32)).numpy()[0]
    assert gates.tolist() == [1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1]
    assert len(gates) == NUM_GATES
