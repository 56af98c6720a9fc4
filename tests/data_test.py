import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

from galm_tf.augment import Augment
from galm_tf.config import Config
from galm_tf.data import (
    BatchPlan,
    balanced_record_weights,
    class_weights,
    drawing_weights,
    log_odds,
    margin_offsets,
    positive_weights,
    sample,
    training_batches,
    training_plan,
)
from galm_tf.domains.domain import TEST, TRAIN, Domain


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


def test_every_seed_has_an_order_of_its_own():
    first, other = (BatchPlan(np.arange(40), 40, seed).at(0) for seed in (0, 1))
    assert (first != other).any()


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


def test_an_epoch_holds_records_as_often_as_their_weights_say():
    index, weights = np.arange(10, 70), np.repeat([0.1, 0.9, 2.0], 20)
    plan = BatchPlan(index, 60, seed=5, weights=weights)
    counts = np.stack([np.bincount(plan.at(epoch), minlength=70)[10:] for epoch in range(200)])
    assert ((counts == np.floor(weights)) | (counts == np.ceil(weights))).all()
    np.testing.assert_allclose(counts.mean(axis=0), weights, atol=0.12)
    assert any((plan.at(0) != plan.at(1)).tolist()) and sorted(BatchPlan(index, 60, 5, np.ones(60)).at(3)) == list(
        index
    )


def test_a_sample_holds_records_as_often_as_their_weights_say_and_without_weights_none_twice():
    index, weights = np.arange(5, 65), np.repeat([0.1, 0.5, 2.4], 20)
    samples = [sample(index, 30, weights, np.random.default_rng(i)) for i in range(200)]
    counts = np.stack([np.bincount(drawn, minlength=65)[5:] for drawn in samples])
    assert (counts.sum(axis=1) == 30).all() and (
        (counts == np.floor(weights / 2)) | (counts == np.ceil(weights / 2))
    ).all()
    np.testing.assert_allclose(counts.mean(axis=0), weights / 2, atol=0.12)
    alike = sample(index, 30, None, np.random.default_rng(0))
    assert len(set(alike)) == 30 and set(alike) <= set(index)


def test_any_two_records_may_be_drawn_together():
    drawn = [set(sample(np.arange(8), 4, np.ones(8), np.random.default_rng(i))) for i in range(60)]
    assert {(a, b) for pair in drawn for a in pair for b in pair} == {(a, b) for a in range(8) for b in range(8)}


def test_positive_weights_balance_known_labels():
    labels = np.array([[1, 0], [0, np.nan], [0, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(positive_weights(labels, 10.0), [3.0, 2.0])
    np.testing.assert_allclose(positive_weights(labels, 2.5), [2.5, 2.0])


def test_rare_labels_weigh_more():
    labels = np.zeros((10, 1), np.float32)
    labels[0] = 1
    weights = balanced_record_weights(labels)
    assert weights[0] / weights[1] == 9.0 and abs(weights.mean() - 1) < 1e-9


def test_of_a_record_the_mean_of_its_known_labels_counts():
    labels = np.array([[1, 1], [0, 0], [1, np.nan], [0, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(balanced_record_weights(labels), np.array([2, 2, 2, 2, 1]) / 1.8)


def test_records_are_drawn_by_their_class_and_by_their_labels():
    labels = np.array([[1], [0], [0], [0], [1], [0]], np.float32)
    domain, every = _domain(labels, np.array([0, 0, 0, 0, 1, 1])), np.arange(6)
    by_class = class_weights(every, domain, Config(class_balance=1.0))
    np.testing.assert_allclose(by_class, np.repeat([0.75, 1.5], [4, 2]))
    both = drawing_weights(every, domain, Config(class_balance=1.0, imbalance="balanced"))
    np.testing.assert_allclose(both, by_class * balanced_record_weights(labels))


def test_log_odds_count_half_a_record_of_either_label():
    targets = np.array([[1, 1], [1, 0.5], [0, np.nan]])
    np.testing.assert_allclose(log_odds(targets), logit([2.5 / 4, 2 / 3]))
    np.testing.assert_allclose(log_odds(targets, np.array([2.0, 0.5, 0.5])), logit([3 / 4, 2.75 / 3.5]))


def test_margin_offsets_are_what_a_network_that_sees_nothing_learns_beyond_the_frequency():
    """Positives are weighed, or drawn more often: its log-odds are those of what it is shown."""
    rng = np.random.default_rng(0)
    labels = (rng.random((4000, 3)) < (0.03, 0.3, 0.5)).astype(np.float32)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    odds = np.nansum(labels, axis=0) / np.nansum(1 - labels, axis=0)
    every, domain = np.arange(len(labels)), _domain(labels, np.zeros(len(labels), int))
    assert not margin_offsets(every, domain, Config(imbalance="none")).any()
    weighed = np.exp(margin_offsets(every, domain, Config(imbalance="positive_weight", max_positive_weight=100.0)))
    np.testing.assert_allclose(weighed * odds, 1.0, rtol=1e-4)
    fewer = margin_offsets(
        every, domain, Config(imbalance="positive_weight", max_positive_weight=100.0), every[labels[:, 1] == 1]
    )
    # as heavy as where positives were weighed, whatever trains last
    np.testing.assert_allclose(np.exp(fewer[1]), 1 / 100.0, rtol=1e-4)
    drawn = labels[rng.choice(len(labels), 400_000, p=balanced_record_weights(labels) / len(labels))]
    shown = np.nansum(drawn, axis=0) / np.nansum(1 - drawn, axis=0)
    np.testing.assert_allclose(
        np.exp(margin_offsets(every, domain, Config(imbalance="balanced"))), shown / odds, rtol=0.03
    )
    assert shown[0] > 5 * odds[0]
    large = labels[:, 1] > 0  # a class of the images with the second label, NaN elsewhere, and ten of the others
    domain, config = _domain(labels, np.where(large, 0, 1 + every % 10)), Config(class_balance=1.0)
    assert not margin_offsets(every, domain, config).any()  # what classes that count alike say is to be said

    def shown(config):
        drawn = labels[training_plan(every, domain, dataclasses.replace(config, batch_size=400_000)).at(0)]
        return np.nansum(drawn, axis=0) / np.nansum(1 - drawn, axis=0)

    assert shown(config)[1] < 0.5 * odds[1]
    both = dataclasses.replace(config, imbalance="balanced")
    np.testing.assert_allclose(np.exp(margin_offsets(every, domain, both)), shown(both) / shown(config), rtol=0.05)


def test_offsets_are_those_of_the_shares_that_are_learned():
    shares = np.random.default_rng(1).random((900, 2)).astype(np.float32) ** 3
    domain = dataclasses.replace(_domain((shares > 0.5).astype(np.float32), np.zeros(900, int)), shares=shares)
    drawn = balanced_record_weights(domain.labels) @ shares / 900
    offsets = margin_offsets(np.arange(900), domain, Config(imbalance="balanced"))
    np.testing.assert_allclose(offsets, logit(drawn) - logit(shares.mean(axis=0)), atol=1e-2)
    assert (offsets > 0.3).all()


def test_classes_count_by_the_root_of_their_images_or_all_alike_and_domains_as_before():
    classes = np.repeat([0, 1, 2, 3, 4], [40, 9, 4, 50, 50])
    domain = _domain(np.zeros((153, 1), np.float32), classes, np.repeat([0, 1], [53, 100]))
    index = np.setdiff1d(np.arange(153), [0, 1, 2, 3, 53])  # some are left out, and do not count
    assert class_weights(index, domain, Config(class_balance=0.0)) is None
    for config, counts in (
        (Config(class_balance=1.0), [1, 1, 1]),
        (Config(class_balance=0.5), [6, 3, 2]),
        (Config(), [1, 1, 1]),
    ):
        each = class_weights(index, domain, config)
        together = np.bincount(classes[index], each)
        np.testing.assert_allclose(together[:3], 49 * np.array(counts) / np.sum(counts))
        assert together[3:].sum() == pytest.approx(99)
    assert class_weights(np.arange(53, 153), domain, Config()) is None  # classes of a size
    # one image would be a third of all
    rare = _domain(np.zeros((1001, 1), np.float32), np.repeat([0, 1, 2], [500, 500, 1]))
    weights = class_weights(np.arange(1001), rare, Config())
    np.testing.assert_allclose(weights[[0, 500, 1000]], [991 / 1000, 991 / 1000, 10])


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 1000],
        [1, 1, 1000],
        [2] * 5 + [500],
        [1, 5, 50, 500],
        [3] * 3 + [300] * 20,
        [1, 5, 124],  # what the cut of the first leaves to the second is too much for it
    ],
)
def test_no_image_counts_more_than_ten_times_the_mean_beside_a_domain_of_its_own(sizes):
    classes = np.repeat(np.arange(len(sizes) + 2), [*sizes, 30, 10])
    domain = _domain(np.zeros((len(classes), 1), np.float32), classes, (classes >= len(sizes)).astype(int))
    weights, first = class_weights(np.arange(len(classes)), domain, Config()), sum(sizes)
    assert weights.max() == pytest.approx(10) and weights[:first].mean() == pytest.approx(1)
    np.testing.assert_allclose(weights[first:], np.repeat([40 / 2 / 30, 40 / 2 / 10], [30, 10]))
    ordered = weights[:first][np.argsort(-np.repeat(sizes, sizes), kind="stable")]
    assert (np.diff(ordered) >= -1e-9).all()  # of a smaller class never less


def test_every_joined_domain_goes_by_its_own_test():
    """Classes of the one are tested that train too: there every image counts alike, and the other's classes do as
    ever.
    """
    classes, groups = np.repeat([0, 1, 2, 3], [36, 4, 50, 10]), np.repeat([0, 1], [40, 60])
    domain = _domain(np.zeros((100, 1), np.float32), classes, groups)
    subsets = np.where(np.isin(np.arange(100), [40, 41]), TEST, TRAIN)  # of class 2
    domain = dataclasses.replace(domain, subsets=subsets)
    weights = class_weights(np.flatnonzero(subsets == TRAIN), domain, Config())
    np.testing.assert_allclose(weights[[0, 36]], [40 / 2 / 36, 40 / 2 / 4])
    np.testing.assert_allclose(weights[40:], 1.0)
    seen = dataclasses.replace(domain, subsets=np.where(np.isin(np.arange(100), [0, 40]), TEST, TRAIN))
    assert class_weights(np.flatnonzero(seen.subsets == TRAIN), seen, Config()) is None


def _domain(labels, class_ids, image_domains=None):
    """Records of these labels and classes in one domain, or in several."""
    domains = np.zeros(len(labels), int) if image_domains is None else image_domains
    names = [str(i) for i in range(labels.shape[1])]
    return Domain(
        name="d", attributes=tuple(f"d/{i}" for i in names), classes=tuple(map(str, range(class_ids.max() + 1))),
        paths=tuple(map(str, range(len(labels)))), boxes=np.full((len(labels), 4), -1, np.int32), class_ids=class_ids, labels=labels,
        subsets=np.full(len(labels), "train"), image_domains=domains, attribute_domains=np.zeros(len(names), np.int32),
        domain_names=("d", "e"), data_sources=("own", "own"), layouts=("table", "table"),
    )  # fmt: skip


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
