import numpy as np
import tensorflow as tf

from galm_tf.augment import Augment
from galm_tf.config import Config
from galm_tf.data import BatchPlan, balanced_record_weights, margin_offsets, positive_weights, training_batches


def test_every_record_comes_once_an_epoch():
    index = np.arange(100, 153)
    plan = BatchPlan(index, 8, seed=3)
    drawn = np.concatenate([plan.at(step) for step in range(53)])  # 8 epochs
    for epoch in range(8):
        assert sorted(drawn[epoch * 53 : (epoch + 1) * 53]) == index.tolist()
    assert not np.array_equal(drawn[:53], drawn[53:106])


def test_a_step_does_not_depend_on_the_steps_before():
    in_order, alone = (BatchPlan(np.arange(20), 8, seed=1) for _ in range(2))
    steps = [in_order.at(step) for step in range(12)]
    for step in (11, 0, 5):
        np.testing.assert_array_equal(alone.at(step), steps[step])
    assert len(BatchPlan(np.arange(3), 8, seed=1).at(0)) == 8


def test_batches_hold_the_pixels_of_their_records():
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    plan = BatchPlan(np.arange(30), 4, seed=0)
    batches = list(training_batches(images, plan, 5, 9))
    assert len(batches) == 4
    for step, batch in zip(range(5, 9), batches):
        np.testing.assert_array_equal(batch["index"], plan.at(step))
        np.testing.assert_array_equal(batch["image"], images[plan.at(step)])


def test_weighted_records_come_in_proportion():
    plan = BatchPlan(np.arange(2), 50, seed=0, weights=np.array([3.0, 1.0]))
    drawn = np.concatenate([plan.at(step) for step in range(100)])
    assert abs((drawn == 0).mean() - 0.75) < 0.02


def test_positive_weights_balance_known_labels():
    labels = np.array([[1, 0], [0, np.nan], [0, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(positive_weights(labels, 10.0), [3.0, 2.0])
    np.testing.assert_allclose(positive_weights(labels, 2.5), [2.5, 2.0])


def test_rare_labels_weigh_more():
    labels = np.zeros((10, 1), np.float32)
    labels[0] = 1
    weights = balanced_record_weights(labels)
    assert weights[0] / weights[1] == 9.0 and abs(weights.mean() - 1) < 1e-9


def test_margin_offsets_are_what_a_network_that_sees_nothing_learns_beyond_the_frequency():
    """Positives are weighed, or drawn more often: its log-odds are those of what it is shown."""
    rng = np.random.default_rng(0)
    labels = (rng.random((4000, 3)) < (0.03, 0.3, 0.5)).astype(np.float32)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    odds = np.nansum(labels, axis=0) / np.nansum(1 - labels, axis=0)
    assert not margin_offsets(labels, Config(imbalance="none")).any()
    weighed = np.exp(margin_offsets(labels, Config(imbalance="positive_weight", max_positive_weight=100.0)))
    np.testing.assert_allclose(weighed * odds, 1.0, rtol=1e-4)
    drawn = labels[rng.choice(len(labels), 400_000, p=balanced_record_weights(labels) / len(labels))]
    shown = np.nansum(drawn, axis=0) / np.nansum(1 - drawn, axis=0)
    np.testing.assert_allclose(np.exp(margin_offsets(labels, Config(imbalance="balanced"))), shown / odds, rtol=0.03)
    assert shown[0] > 5 * odds[0]


def _images():
    return np.random.default_rng(1).integers(0, 256, (16, 12, 12, 3), dtype=np.uint8)


def test_augmentation_switched_off_is_the_identity_and_on_is_a_function_of_the_seed():
    images = _images()
    np.testing.assert_array_equal(Augment(False, 0.0, 0.0)(images, tf.constant([1, 2])), images)
    augment = Augment(True, 0.2, 0.3)
    first, same, other = (augment(images, tf.constant(seed)).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).mean() > 1 and first.min() >= 0 and first.max() <= 255


def test_flips_are_exact_and_shifts_keep_the_pixels():
    images = _images()
    flipped = Augment(True, 0.0, 0.0)(images, tf.constant([0, 0])).numpy()
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images)]
    unchanged = [np.array_equal(a, b) for a, b in zip(flipped, images)]
    assert all(m or u for m, u in zip(mirrored, unchanged)) and 0 < sum(mirrored) < 16
    shifted = Augment(False, 0.25, 0.0)(images, tf.constant([0, 1])).numpy()
    padded = np.pad(images, [(0, 0), (3, 3), (3, 3), (0, 0)], mode="reflect")
    for image, source in zip(shifted, padded):
        assert any(np.array_equal(image, source[y : y + 12, x : x + 12]) for y in range(7) for x in range(7))


def test_batches_have_no_tuner_whose_end_would_be_waited_for():
    batches = training_batches(np.zeros((8, 2, 2, 3), np.uint8), BatchPlan(np.arange(8), 4, 0), 0, 3)
    assert batches.options().autotune.enabled is False
