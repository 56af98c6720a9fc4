import functools

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.supernet import build_supernet
from galm_tf.supernet_training import SupernetTraining, masked_loss
from galm_tf.tracing import untraced

SIZE, N, BATCH = 32, 3, 16


def test_loss_equals_the_formula_on_known_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((6, 3)) < 0.5).astype(np.float32)
    labels[:4, 0], labels[:, 2] = np.nan, np.nan
    margins, weights = rng.normal(size=(6, 3)).astype(np.float32), np.array([0.0, np.log(3.0), 0.0], np.float32)
    probability = 1 / (1 + np.exp(-margins.astype(np.float64)))
    cost = -np.where(labels == 1, np.exp(weights) * np.log(probability), np.log(1 - probability))
    expected = np.mean([cost[4:, 0].mean(), cost[:, 1].mean()])  # the third attribute has no known label
    assert float(masked_loss(labels, margins, weights)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_share_is_least_at_its_log_odds_whatever_a_positive_weighs():
    targets, weights = np.array([[0.2, 0.7, 0.5]], np.float32), np.log([1.0, 3.0, 10.0]).astype(np.float32)
    best = np.log(targets / (1 - targets)) + weights
    margins = tf.Variable(best)
    with tf.GradientTape() as tape:
        loss = masked_loss(targets, margins, weights)
    np.testing.assert_allclose(tape.gradient(loss, margins), 0, atol=1e-6)
    assert (
        float(masked_loss(targets, best + 0.3, weights))
        > float(loss)
        < float(masked_loss(targets, best - 0.3, weights))
    )


def test_an_unknown_label_has_no_gradient():
    margins = tf.Variable(np.random.default_rng(1).normal(size=(4, 2)), dtype=tf.float32)
    labels = np.array([[1, np.nan], [0, 1], [np.nan, 0], [1, 1]], np.float32)
    with tf.GradientTape() as tape:
        loss = masked_loss(labels, margins, tf.zeros(2))
    gradient = tape.gradient(loss, margins).numpy()
    assert (gradient[np.isnan(labels)] == 0).all() and (gradient[np.isfinite(labels)] != 0).all()


def _planted():
    """Pictures whose attributes are visible: bright left half, red, and fine vertical stripes."""
    rng = np.random.default_rng(2)
    labels = (rng.random((BATCH, N)) < 0.5).astype(np.float32)
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    images = rng.integers(60, 120, (BATCH, SIZE, SIZE, 3))
    images[labels[:, 0] == 1, :, : SIZE // 2] += 90
    images[labels[:, 1] == 1, ..., 0] += 60
    images[labels[:, 2] == 1, :, ::4] -= 50
    return images.astype(np.uint8), labels


def _train(learning_rate, steps, choices_of, precision="float32"):
    config = Config(
        image_size=SIZE, precision=precision, augment_flip=False, augment_crop=0.0, augment_color=0.0, dropout=0.0
    )
    images, labels = _planted()
    net = build_supernet(N, SIZE, 0.0, seed=0)
    training = SupernetTraining(net, labels, np.ones(N, np.float32), config)
    before = net.weights
    losses = []
    for step in range(steps):
        metrics = training.step(
            tf.constant(images),
            tf.range(BATCH, dtype=tf.int64),
            tf.range(N),
            tf.constant(choices_of(step)),
            tf.constant([0, step]),
            tf.constant(learning_rate),
        )
        losses.append(float(metrics["loss"]))
    return losses, before, net.weights


def _random_choices(step):
    indices = search_space.all_indices()
    return indices[np.random.default_rng(step).integers(0, len(indices), N)]


def test_planted_attributes_are_learned_and_every_weight_moves():
    losses, before, after = _train(3e-3, 60, _random_choices)
    assert np.mean(losses[-10:]) < 0.35 < np.mean(losses[:3])
    assert not [name for name in before if np.array_equal(before[name], after[name])]


def test_bfloat16_trains_nearly_as_float32_does():
    """One step of each: the losses agree to what eight bits of mantissa give, the weights stay float32."""
    with untraced():
        losses, before, after = zip(*(_train(1e-3, 2, _random_choices, p) for p in ("float32", "bfloat16")))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[0][1] != losses[1][1]
    for name in ("conv1/kernel", "conv3/kernel", "conv4/kernel3", "conv4/kernel5"):
        steps = [after[i][name] - before[i][name] for i in (0, 1)]
        assert steps[1].dtype == np.float32
        assert np.corrcoef(steps[0].ravel(), steps[1].ravel())[0, 1] > 0.7, name  # Adam: nearly signs


def test_nothing_is_learned_at_learning_rate_zero():
    with untraced():
        losses, before, after = _train(0.0, 12, _random_choices)
    assert np.mean(losses[-10:]) > 0.5
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert all(name.endswith(("mean", "variance")) for name in moved)  # statistics follow the batch


@functools.lru_cache(None)
def _net(dropout):
    """(a supernet, its weights before any step)."""
    net = build_supernet(N, SIZE, dropout, seed=0)
    return net, net.weights


def _step(ids=(0,), positive_weights=(1, 1, 1), learning_rate=0.0, dropout=0.0, **settings):
    """(loss, weights before, weights after) of one step."""
    still = dict(augment_flip=False, augment_crop=0.0, augment_color=0.0, weight_decay=0.0)
    images, labels = (part[:8] for part in _planted())
    net, before = _net(dropout)
    for name, variable in net.variables.items():
        variable.assign(before[name])
    config = Config(image_size=SIZE, dropout=dropout, **{**still, **settings})
    training = SupernetTraining(net, labels, np.float32(positive_weights), config)
    choices = tf.constant(_random_choices(0)[: len(ids)])
    with untraced():
        loss = training.step(
            tf.constant(images), tf.range(8, dtype=tf.int64), tf.constant(ids), choices, tf.constant([0, 1]),
            tf.constant(learning_rate),
        )["loss"]  # fmt: skip
    return float(loss), before, net.weights


def test_a_positive_weighs_what_its_own_attribute_says():
    plain, others, own = (_step(ids=(2,), positive_weights=weights)[0] for weights in ((1, 1, 1), (9, 9, 1), (1, 1, 9)))
    assert others == pytest.approx(plain) and own > 2 * plain


def test_a_step_decays_weights_changes_images_and_drops_as_the_settings_say():
    (plain, before, kept), (_, _, decayed) = (_step(learning_rate=0.01, weight_decay=decay) for decay in (0.0, 0.5))
    np.testing.assert_allclose(
        kept["conv1/kernel"] - decayed["conv1/kernel"], 0.01 * 0.5 * before["conv1/kernel"], atol=1e-5
    )
    for change in (dict(augment_flip=True), dict(augment_crop=0.3), dict(augment_color=0.5), dict(dropout=0.5)):
        assert _step(**change)[0] != plain, change
    assert _step()[0] == plain


def test_every_step_changes_images_and_drops_in_its_own_way_and_learns_the_labels_of_its_records(eagerly):
    images, labels = (part[:8] for part in _planted())
    ids, choices = tf.constant([2, 0]), tf.constant(_random_choices(0)[:2])
    in_order, order = np.arange(8), np.random.default_rng(0).permutation(8)
    still = dict(augment_flip=False, augment_crop=0.0, augment_color=0.0, dropout=0.0)

    def loss_of(step, shown=images, index=in_order, targets=labels, **changes):
        config = Config(image_size=SIZE, **{**still, **changes})
        net, before = _net(config.dropout)
        for name, variable in net.variables.items():
            variable.assign(before[name])
        training = SupernetTraining(net, targets, np.ones(N, np.float32), config)
        seed = tf.constant([0, step])
        return float(
            training.step(tf.constant(shown), tf.constant(index), ids, choices, seed, tf.constant(0.0))["loss"]
        )

    plain = loss_of(0)
    assert loss_of(1) == plain
    for change in (dict(augment_color=0.5), dict(dropout=0.5)):
        assert loss_of(0, **change) != loss_of(1, **change) == loss_of(1, **change), change
    assert loss_of(0, images[order], order) == pytest.approx(plain, rel=1e-4)
    assert loss_of(0, index=order) == pytest.approx(loss_of(0, targets=labels[order]), rel=1e-5) != plain
    others = labels.copy()
    others[:, 1] = 1 - others[:, 1]  # whose tower takes no part
    assert loss_of(0, targets=others) == plain


def test_only_chosen_branches_are_trained():
    choices = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * N, np.int32)  # 3×3, no skips, Fc-1 of 64 read directly
    with untraced():
        _, before, after = _train(3e-3, 3, lambda step: choices)
    for name in ("conv4/kernel5", "conv4/skip", "conv5/kernel5", "conv5/skip", "head/fc2", "head/fc3_from_fc2"):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    np.testing.assert_allclose(before["head/fc1"][:, :, 64:], after["head/fc1"][:, :, 64:], rtol=2e-3)  # decay alone


def test_steps_that_are_not_traced_are_the_same():
    """Also where no tower takes one of the kernels, which then has no gradient at all."""

    def choices_of(step):
        chosen = np.random.default_rng(step).integers(0, search_space.NUM_ARCHITECTURES, N)
        indices = search_space.all_indices()[chosen]
        indices[:, [d.name for d in search_space.DECISIONS].index("conv4_kernel")] = step % 2
        return indices

    losses, _, expected = _train(0.01, 3, choices_of)
    with untraced():
        again, before, found = _train(0.01, 3, choices_of)
    np.testing.assert_allclose(again, losses, rtol=1e-4)
    for name, value in expected.items():  # a fifth of a step; Adam makes whole ones of gradients that are nearly none
        assert (np.abs(found[name] - value) > 2e-3).mean() < 1e-3, name
    assert sum(np.abs(found[name] - before[name]).max() > 0.005 for name in found) > 10
