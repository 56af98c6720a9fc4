"""Sizes of networks: as the derived network has them, and what a penalty on them does to a choice."""

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import layers, network_size, search_space, selection
from galm_tf.config import Config
from galm_tf.derived import DerivedNetwork
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable
from galm_tf.search_space import Architecture
from galm_tf.supernet import build_supernet

SMALL = Architecture(False, False, 3, False, False, False, 3, 64, 64, "fc1")
LARGE = Architecture(True, True, 5, True, True, True, 5, 256, 256, "fc2")


@pytest.mark.parametrize("image_size", [32, 64])
def test_parameters_are_those_of_the_derived_network(image_size):
    numbers = np.random.default_rng(image_size).integers(0, search_space.NUM_ARCHITECTURES, 9)
    architectures = [SMALL, LARGE, *map(Architecture.from_number, numbers)]
    supernet = build_supernet(len(architectures), image_size, 0.0, 0)
    derived = DerivedNetwork(architectures, supernet.weights, image_size // 8)
    assert network_size.network_size(
        architectures, image_size // 8, 0, network_size.trunk_size(image_size)
    ).parameters == sum(int(np.prod(v.shape)) for v in derived.variables)


@pytest.mark.parametrize("image_size", [32, 64])
def test_multiply_adds_are_half_of_what_tensorflow_counts(monkeypatch, image_size):
    """Its profiler counts two operations for a multiply-add of a convolution or a matrix product; convolutions count as
    they stand, not in tiles.
    """
    monkeypatch.setattr(layers, "tiles_pay", lambda *_: False)
    architectures = [SMALL, LARGE, Architecture(True, False, 5, False, True, False, 3, 128, 64, "fc2")]
    supernet = build_supernet(len(architectures), image_size, 0.0, 0)
    derived = DerivedNetwork(architectures, supernet.weights, image_size // 8)
    call = tf.function(derived.__call__, [tf.TensorSpec((1, image_size, image_size, 3))])
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().with_node_names(show_name_regexes=[".*"]).build()
    graph = call.get_concrete_function().graph
    counted = tf.compat.v1.profiler.profile(graph, options=options)
    products = sum(
        node.total_float_ops for node in _leaves(counted) if any(kind in node.name for kind in ("Conv2D", "MatMul"))
    )
    assert (
        network_size.network_size(architectures, image_size // 8, 0, network_size.trunk_size(image_size)).multiply_adds
        == products / 2
    )


def _leaves(node):
    return [node] if not node.children else [leaf for child in node.children for leaf in _leaves(child)]


def test_the_smallest_and_the_largest_tower():
    sizes = network_size.relative_sizes(8)
    assert sizes.argmin() == SMALL.number and sizes.argmax() == LARGE.number
    assert sizes.mean() == pytest.approx(0.0, abs=1e-12)
    ratio = network_size.tower_size(LARGE, 8, 0).multiply_adds / network_size.tower_size(SMALL, 8, 0).multiply_adds
    assert sizes.max() - sizes.min() == pytest.approx(np.log2(ratio))
    canonical = search_space.canonical_numbers()
    np.testing.assert_array_equal(sizes, sizes[canonical])  # a void width costs nothing


def test_a_penalty_takes_the_smaller_of_equals_and_leaves_unknown_rewards():
    rewards = np.full((2, search_space.NUM_ARCHITECTURES), 0.8, np.float32)
    rewards[1] = np.nan
    table = RewardTable(rewards, (rewards, rewards - 0.1))
    wanted = selection.less_size(table, 0.01, 8)
    assert wanted.full[0].argmax() == SMALL.number and np.isnan(wanted.full[1]).all()
    for before, after in zip((table.full, *table.halves), (wanted.full, *wanted.halves)):
        np.testing.assert_allclose((before - after)[0], 0.01 * network_size.relative_sizes(8), atol=1e-6)
    assert selection.less_size(table, 0.0, 8) is table


def test_a_small_network_is_told_in_whole_numbers():
    told = "0.20 million multiply-adds an image, 5,116 parameters"
    assert network_size.Size(200_000, 5116).describe() == told
    told = "50.1 million multiply-adds an image, 1.07 million parameters"
    assert network_size.Size(50_120_000, 1_072_000).describe() == told


def test_of_a_run_of_an_earlier_version_trunk_and_towers_are_counted_without_readings():
    rows = {"a": {"architecture": SMALL.to_json()}, "b": {"excluded": "no positive"}}
    counted = network_size.of_result({"per_attribute": rows}, 64)
    assert counted == network_size.trunk_size(64) + network_size.tower_size(SMALL, 8, 0)


def test_a_gain_above_the_penalty_is_kept():
    rewards = np.full((1, search_space.NUM_ARCHITECTURES), 0.8, np.float32)
    doublings = network_size.relative_sizes(8)[LARGE.number] - network_size.relative_sizes(8)[SMALL.number]
    rewards[0, LARGE.number] += 0.011 * doublings
    table = RewardTable(rewards, (rewards, rewards))
    assert selection.less_size(table, 0.01, 8).full.argmax() == LARGE.number
    assert selection.less_size(table, 0.012, 8).full.argmax() == SMALL.number


def test_a_penalty_needs_the_whole_table():
    with pytest.raises(UserError, match="Expected --size_penalty=0 with --reward_data=batch.*size_penalty=0.01"):
        Config(reward_data="batch", reward_bn="batch", size_penalty=0.01)
