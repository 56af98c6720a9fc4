"""Learners that train networks: planted pictures and shuffled labels in one fit, what moves and what does not."""

import dataclasses

import numpy as np
import pytest
from scipy.special import log_softmax

from galm_tf import evaluate
from galm_tf.baselines import amt, convnet, ft
from galm_tf.config import Config
from galm_tf.draws import Stream, generator
from galm_tf.benchmark import learners
from planted_pictures import ATTRIBUTES, planted_pictures

QUICK = convnet.Training(steps=60, batch_size=32, dropout=0.0, augment_crop=0.0, calibration_images=64)
SHUFFLED = 8  # further attributes, of which nothing can be learned


def _with_shuffled(data):
    """The data with attributes whose labels are the planted ones in another order."""
    rng = np.random.default_rng(5)
    shuffled = np.concatenate([rng.permutation(data.labels) for _ in range(SHUFFLED // ATTRIBUTES)], axis=1)
    return dataclasses.replace(data, labels=np.concatenate([data.labels, shuffled], axis=1))


def expect_learned(made):
    """Fits; the planted attributes of unseen classes are recognised, and the shuffled ones are not."""
    test = planted_pictures(100, 1, seed=1)
    scores = made.fit(_with_shuffled(planted_pictures(16))).score(test.inputs)
    assert scores.dtype == np.float64 and np.isfinite(scores).all() and made.chosen
    aucs = evaluate.auc_per_attribute(np.tile(test.labels, scores.shape[1] // ATTRIBUTES), scores)
    assert aucs[:ATTRIBUTES].mean() > 0.75, aucs
    assert abs(aucs[ATTRIBUTES:].mean() - 0.5) < 0.15, aucs


def test_losses_in_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3)).astype(np.float32), np.float32(rng.integers(0, 2, (5, 3)))
    labels[1, 0] = labels[:, 2] = np.nan
    entropy = np.logaddexp(0, np.where(labels > 0.5, -logits, logits))
    expected = np.mean([entropy[[0, 2, 3, 4], 0].mean(), entropy[:, 1].mean()])
    assert float(convnet.attribute_loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    one_hot = np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0]]
    assert float(convnet.class_loss(one_hot, logits)) == pytest.approx(-(one_hot * log_softmax(logits, axis=1)).sum() / 5, rel=1e-5)


def test_training_depends_on_the_seed_alone_and_a_rate_of_zero_moves_nothing():
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    labels = (x[:, :2] > 0).astype(np.float32)

    def trained(seed, **settings):
        layer = convnet.Dense("fc", 6, 2, generator(0, Stream.BASELINE), relu=False)
        start = layer.kernel.numpy().copy()
        training = convnet.Training(seed=seed, batch_size=8)
        steps = list(convnet.train(lambda x, _: layer(x), layer.parameters, x, labels, convnet.attribute_loss, training, (2, 5), **settings))
        assert steps == [2, 5]
        return layer.kernel.numpy(), start

    np.testing.assert_array_equal(trained(0)[0], trained(0)[0])
    assert (trained(0)[0] != trained(1)[0]).all()
    np.testing.assert_array_equal(*trained(0, learning_rate=0.0))


def test_networks_take_their_budget_from_the_settings_of_galm():
    config = Config(warmup_steps=7, rounds=2, supernet_steps=5, adapt_steps=3, finetune_steps=2, seed=4, dropout=0.1)
    training = learners.training(config)
    assert (training.steps, training.seed, training.dropout, training.share(0.5)) == (22, 4, 0.1, 11)


def test_ft_learns_what_can_be_learned():
    expect_learned(ft.FT(QUICK, whole=(True,)))


def test_ft_keeps_transferred_layers_and_trains_new_ones():
    data = planted_pictures(6, 4)
    made = ft.FT(dataclasses.replace(QUICK, steps=4), whole=(False,))
    weights = made._learn_attributes(data)
    start = ft.target_network(data.images.shape[1], ATTRIBUTES, QUICK).weights
    for network in made._tune(data, weights, False, (0.5,)):
        tuned = network.weights
    assert not np.array_equal(weights["conv1/kernel"], start["conv1/kernel"])  # the source task moved them
    for name, value in tuned.items():
        same = np.array_equal(value, weights.get(name, start[name]))
        assert same != (name.split("/")[0] in ("fca", "fcb")) or name.endswith(("mean", "variance")), name


def test_a_network_scores_an_image_alone_as_among_others():
    data = planted_pictures(4, 4)
    network = ft.source_network(data.images.shape[1], 3, QUICK)
    network.calibrate(data.images)
    scores = network.scores(data.images)
    np.testing.assert_allclose(network.scores(data.images[3:4]), scores[3:4], atol=1e-5)


def test_amt_learns_what_can_be_learned():
    made = amt.AMT(dataclasses.replace(QUICK, steps=40))
    expect_learned(made)
    if made.chosen["aux"] == 0.0:  # then AUX is no more than the identity
        np.testing.assert_array_equal(made.aux, np.eye(len(made.aux)))


def test_aux_finds_that_one_attribute_is_another():
    """A network that knows attribute 0 only: AUX reads attribute 1, its opposite, off that score."""
    labels = np.random.default_rng(0).integers(0, 2, (64, 2)).astype(np.float32)
    labels[:, 1] = 1 - labels[:, 0]
    data = dataclasses.replace(planted_pictures(8, 8), labels=labels)

    class Known:
        def scores(self, images):
            return np.stack([4 * labels[:, 0] - 2, np.zeros(64)], axis=1)

    made = amt.AMT(dataclasses.replace(QUICK, steps=200, learning_rate=0.05))
    (start, _), (aux, bias) = made._train_aux(Known(), data, (0.0, 1.0))
    np.testing.assert_array_equal(start, np.eye(2))
    assert aux[0, 0] > 1 and aux[0, 1] < -1
    scores = Known().scores(None) @ aux + bias
    np.testing.assert_array_equal(scores > 0, labels > 0.5)


def test_groups_are_correlated_attributes_and_unknown_labels_do_not_count():
    rng = np.random.default_rng(0)
    cause = rng.integers(0, 2, (200, 3)).astype(np.float32)
    labels = np.concatenate([cause, 1 - cause], axis=1)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    groups = amt.correlated_groups(labels, 3)
    assert sorted(set(groups)) == [0, 1, 2] and groups[:3].tolist() == groups[3:].tolist()
    assert sorted(amt.correlated_groups(np.full((4, 5), np.nan))) == list(range(5))
    assert amt.correlated_groups(labels[:, :1]).tolist() == [0]


def test_a_group_head_in_numpy():
    """Every attribute reads its own group's channels only, through its own fully connected layers."""
    rng = np.random.default_rng(0)
    head = amt.GroupHead(np.array([1, 0, 1]), 4 * 5, rng)
    maps, weights = np.float32(rng.normal(size=(6, 2, 2, 10))), {k: v.numpy() for k, v in head.parameters.items()}
    expected = np.zeros((6, 3))
    for n, g in enumerate((1, 0, 1)):
        x = maps[..., 5 * g : 5 * g + 5].reshape(6, -1)
        for name in ("fc1", "fc2"):
            x = np.maximum(x @ weights[name][g] + weights[f"{name}_bias"][g], 0)
        expected[:, n] = x @ weights["fc3"][n] + weights["fc3_bias"][n]
    np.testing.assert_allclose(head(maps).numpy(), expected, atol=1e-5)
