"""Cached maps in the trunk's place: the same towers give the same logits."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import frozen_trunk, readout
from galm_tf.config import Config
from galm_tf.derived import DerivedNetwork, Trunk
from galm_tf.gates import gates_from_indices
from galm_tf.preprocess import scale_images
from galm_tf.search_space import Architecture, all_indices
from galm_tf.supernet import build_supernet

CONFIG = Config(image_size=32)
N = 3


@pytest.fixture(scope="module")
def networks():
    """A supernet with calibrated batch norms, a frozen one with its towers, images, and their views."""
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    whole, frozen = build_supernet(N, 32, 0.0, seed=1), frozen_trunk.build_supernet(N, CONFIG)
    whole.trunk(scale_images(tf.constant(images)), training=True)
    for name, variable in frozen.variables.items():
        variable.assign(whole.variables[name])
    views = frozen_trunk.Views(len(images), 6, CONFIG)
    index = np.array([0, 2, 3, 5, 7, 8])
    frozen_trunk.fill_views(views, Trunk(whole.weights), images, index, index[:4], CONFIG)
    return whole, frozen, images, index, views


def test_towers_on_cached_maps_give_the_networks_logits(networks):
    whole, frozen, images, index, views = networks
    numbers = np.random.default_rng(1).integers(0, 2304, N)
    rest = [
        tf.range(N),
        gates_from_indices(tf.constant(all_indices()[numbers])),
        tf.constant([len(index)]),
        tf.constant([-1, 0]),
    ]
    expected = whole.supernet([scale_images(tf.constant(images[index])), *rest])
    got = frozen.supernet([frozen.scale(tf.constant(views[index])), *rest])
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_network_is_calibrated_by_cached_maps_as_by_the_images(networks):
    whole, _, images, index, views = networks
    architectures = [Architecture.from_number(n) for n in (7, 1000, 2303)]
    weights = whole.weights
    by_images, by_maps = (DerivedNetwork(architectures, weights, 4) for _ in range(2))
    scaled = scale_images(tf.constant(images[index]))
    by_images.calibrate(scaled)
    by_maps.calibrate_on(lambda: frozen_trunk.FirstViews(views).outputs(index))
    np.testing.assert_allclose(by_maps(scaled), by_images(scaled), atol=1e-4)
    (outputs,) = frozen_trunk.FirstViews(views).outputs(index)
    np.testing.assert_allclose(by_maps.margins(outputs), by_images(scaled), atol=1e-4)
    np.testing.assert_allclose(readout.features(outputs), readout.features(by_images.trunk(scaled)), atol=1e-5)


def test_changed_pictures_are_a_records_own_whichever_others_have_views(networks):
    whole, _, images, index, views = networks
    fewer = frozen_trunk.Views(len(images), 6, CONFIG)
    frozen_trunk.fill_views(fewer, Trunk(whole.weights), images, index[2:], index[3:4], CONFIG)
    np.testing.assert_allclose(fewer[index[3:4]], views[index[3:4]], atol=1e-5)


def test_more_images_than_go_at_once_have_the_views_of_each(networks, monkeypatch):
    whole, _, images, index, views = networks
    (expected,) = frozen_trunk.FirstViews(views).outputs(index[::-1])
    monkeypatch.setattr(frozen_trunk, "_BATCH_IMAGES", 2)
    by_two = frozen_trunk.Views(len(images), 6, CONFIG)
    frozen_trunk.fill_views(by_two, Trunk(whole.weights), images, index, index[:4], CONFIG)
    np.testing.assert_allclose(by_two[index], views[index], atol=1e-5)
    parts = list(frozen_trunk.FirstViews(by_two).outputs(index[::-1]))
    assert len(parts) == 3
    for found, of_all in zip(zip(*parts), expected):
        np.testing.assert_allclose(np.concatenate(found), of_all, atol=1e-5)


def test_what_is_kept_of_changed_pictures_goes_by_all_that_changes_them(networks, eagerly):
    whole, _, images, index, _ = networks
    kinds = []
    cache = types.SimpleNamespace(rows=lambda kind, of, make: kinds.append(tuple(kind)) or make(of))
    changes = ({}, dict(seed=1), dict(augment_flip=False), dict(augment_crop=0.5), dict(augment_color=0.5))
    for config in (dataclasses.replace(CONFIG, **change) for change in changes):
        views = frozen_trunk.Views(len(images), len(index), config)
        frozen_trunk.fill_views(views, Trunk(whole.weights), images, index, index[:1], config, cache)
    assert len(set(kinds)) == 1 + len(changes)


def test_a_frozen_supernet_has_towers_only(networks):
    _, frozen, *_ = networks
    assert {name.split("/")[0] for name in frozen.variables} == {"conv4", "bn4", "conv5", "bn5", "head"}


def test_only_the_named_records_are_computed_and_views_differ(networks):
    _, _, images, index, views = networks
    assert views[index].any(axis=(2, 3, 4)).all() and len(views.values) == len(index)
    for other in np.setdiff1d(np.arange(len(images)), index):
        with pytest.raises(AssertionError, match="records without views"):
            views[np.array([0, other])]
    np.testing.assert_array_equal(frozen_trunk.FirstViews(views)[index[::-1]], views[index][::-1, :1])
    assert views.shape[1] == frozen_trunk.MAX_VIEWS
    differ = np.abs(views[index][:, 0] - views[index][:, 1]).max(axis=(1, 2, 3)) > 1e-3
    np.testing.assert_array_equal(differ, [True] * 4 + [False] * 2)


def test_a_view_is_picked_by_seed(networks):
    index, views = networks[3][:4], networks[4]
    some = tf.constant(views[index])
    picked = [frozen_trunk.pick_view(some, tf.constant([seed, 0])).numpy()[:, 0] for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(picked[0], picked[1])
    which = np.array(
        [[np.argmin(np.abs(views[r] - p).sum(axis=(1, 2, 3))) for r, p in zip(index, batch)] for batch in picked]
    )
    assert set(which.ravel()) == {0, 1}
    for batch, chosen in zip(picked, which):
        np.testing.assert_array_equal(batch, views[index][np.arange(len(index)), chosen])


def test_views_of_many_records_take_the_memory_of_those_that_have_some():
    views = frozen_trunk.Views(10**7, 2, CONFIG)  # all of them would be 143 GB
    views.hold(np.array([7, 10**7 - 1]))
    assert views.values.shape == (2, 2, 4, 4, 112) and not views[np.array([10**7 - 1])].any()


def test_views_without_augmentation_or_memory(monkeypatch):
    still = Config(image_size=32, augment_flip=False, augment_crop=0.0, augment_color=0.0)
    assert frozen_trunk.Views(4, 4, still).shape == (4, 1, 4, 4, 112)
    monkeypatch.setattr(frozen_trunk, "_CACHE_BYTES", 1)
    assert frozen_trunk.Views(4, 4, CONFIG).shape[1] == 1
