"""Augmentation against a NumPy re-computation of every image; more properties: data_test."""

import numpy as np
import pytest
import tensorflow as tf

from galm_tf.augment import Augment

SEED = np.array([3, 7], np.int32)
GREY = np.array([0.299, 0.587, 0.114])
FIRST_DRAWS = [0.8822014, 0.0282341, 0.9534571, 0.2474436, 0.5542397, 0.0924670]  # of both stacks


def pictures(side=24, count=12):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def draws(count=12):
    return tf.random.stateless_uniform([count, 6], SEED).numpy()


def by_hand(image, draw, flip, shift, color):
    """One image, step by step."""
    image, side = image.astype(np.float64), image.shape[0]
    if flip and draw[0] >= 0.5:
        image = image[:, ::-1]
    if shift:
        reach = round(shift * side)
        y, x = (int(d * (2 * reach + 1)) for d in draw[1:3])
        image = np.pad(image, [(reach, reach), (reach, reach), (0, 0)], mode="reflect")[y : y + side, x : x + side]
    if color:
        brightness, contrast, saturation = color * (2 * draw[3:] - 1)
        grey = (image @ GREY)[..., None]
        mean = grey.mean()
        image = grey + (image - grey) * (1 + saturation)
        image = np.clip(mean + (image - mean) * (1 + contrast) + 127.5 * brightness, 0, 255)
    return image


@pytest.mark.parametrize(
    ("flip", "shift", "color"), [(True, 0.0, 0.0), (False, 0.5, 0.0), (False, 0.0, 1.0), (True, 0.15, 0.2)]
)
def test_every_image_is_changed_in_its_own_way(flip, shift, color):
    images = pictures()
    result = Augment(flip, shift, color)(images, SEED)
    assert result.dtype == tf.float32 and result.shape == images.shape
    expected = np.stack([by_hand(i, d, flip, shift, color) for i, d in zip(images, draws())])
    np.testing.assert_allclose(result, expected, atol=2e-3)
    changes = np.abs(expected - images).reshape(12, -1).mean(1)
    assert (changes > 0).sum() >= 3  # the comparison above compares something


def test_graph_and_eager_agree_for_any_batch():
    augment = Augment(True, 0.15, 0.2)
    graph = tf.function(
        augment, input_signature=[tf.TensorSpec([None, 24, 24, 3], tf.uint8), tf.TensorSpec([2], tf.int32)]
    )
    for count in (1, 12):
        images = pictures(count=count)
        np.testing.assert_allclose(graph(images, SEED), augment(images, SEED), atol=1e-3)


def test_floats_and_bytes_are_changed_alike():
    augment, images = Augment(True, 0.15, 0.2), pictures()
    np.testing.assert_array_equal(augment(images, SEED), augment(images.astype(np.float32), SEED))


def test_the_draws_are_those_of_every_stack():
    """Philox: a resumed run on another TensorFlow sees the same pictures."""
    np.testing.assert_allclose(draws(2)[:, :3].ravel(), FIRST_DRAWS, atol=1e-6)


def test_grey_pictures_stay_grey_and_half_of_them_are_mirrored():
    grey = np.repeat(pictures(8, 2000)[..., :1], 3, axis=-1)
    result = Augment(False, 0.0, 1.0)(grey, SEED).numpy()
    assert np.ptp(result, axis=-1).max() < 0.01 and result.min() >= 0 and result.max() <= 255
    mirrored = Augment(True, 0.0, 0.0)(grey, SEED).numpy() != grey
    assert abs(mirrored.reshape(2000, -1).any(1).mean() - 0.5) < 0.04
