"""Learners that train networks: planted pictures and shuffled labels in one fit, what moves and what does not."""

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from galm_tf import evaluation
from galm_tf.baselines import afs, amt, convnet, fmt, ft
from galm_tf.baselines.learner import LearnerData
from galm_tf.config import Config
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError
from galm_tf.benchmark import learners
from planted_pictures import ATTRIBUTES, SIDE, planted_pictures

DEFAULT = learners.training(Config())
QUICK = dataclasses.replace(DEFAULT, steps=60, batch_size=32, dropout=0.0, augment_crop=0.0, calibration_images=64)
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
    aucs = evaluation.auc_per_attribute(np.tile(test.labels, scores.shape[1] // ATTRIBUTES), scores)
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
    assert float(convnet.class_loss(one_hot, logits)) == pytest.approx(
        -(one_hot * log_softmax(logits, axis=1)).sum() / 5, rel=1e-5
    )


def test_training_depends_on_the_seed_alone_and_a_rate_of_zero_moves_nothing():
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    labels = (x[:, :2] > 0).astype(np.float32)

    def trained(seed, **settings):
        layer = convnet.Dense("fc", 6, 2, generator(0, Stream.BASELINE), relu=False)
        start = layer.kernel.numpy().copy()
        training = dataclasses.replace(DEFAULT, seed=seed, batch_size=8)
        steps = list(
            convnet.train(
                lambda x, _: layer(x), layer.parameters, x, labels, convnet.attribute_loss, training, (2, 5), **settings
            )
        )
        assert steps == [2, 5]
        return layer.kernel.numpy(), start

    np.testing.assert_array_equal(trained(0)[0], trained(0)[0])
    assert (trained(0)[0] != trained(1)[0]).all()
    np.testing.assert_array_equal(*trained(0, learning_rate=0.0))


def test_a_step_has_its_rate_and_its_noise_wherever_a_training_pauses_or_goes_on(monkeypatch, eagerly):
    """The rate falls to the end of all steps."""
    asked, seeds, layer = [], [], convnet.Dense("fc", 2, 1, generator(0, Stream.BASELINE), relu=False)
    monkeypatch.setattr(convnet, "cosine", lambda *numbers: asked.append(numbers) or 0.0)
    x, labels = np.zeros((4, 2), np.float32), np.ones((4, 1), np.float32)
    for settings in (dict(steps=9, first_step=3), {}):
        list(
            convnet.train(
                lambda x, seed: seeds.append(tuple(seed.numpy())) or layer(x),
                layer.parameters,
                x,
                labels,
                convnet.attribute_loss,
                QUICK,
                (4, 5),
                0.5,
                **settings,
            )
        )
    assert asked == [(3, 9, 0.5), (4, 9, 0.5), *((number, 5, 0.5) for number in range(5))]
    assert seeds[:2] == seeds[-2:] and len(set(seeds)) == 5


def test_networks_learn_from_changed_pictures_with_dropout_and_are_calibrated_on_some_of_all(monkeypatch, eagerly):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(40)
    seeds = [tf.constant([seed, 0]) for seed in range(6)]

    def found(**changes):
        training = dataclasses.replace(QUICK, augment_flip=False, augment_color=0.0, **changes)

        def build(image, seed):
            x = convnet.flatten_and_drop(image, seed, training.dropout)
            return convnet.Dense("fc", 8 * 8 * 3, 1, generator(0, Stream.BASELINE))(x)

        network = convnet.ConvNet(build, 8, training)
        return network, len(
            {network.training_logits(tf.constant(images[:4]), seed).numpy().tobytes() for seed in seeds}
        )

    network, same = found(calibration_images=10)
    assert same == 1 and found(dropout=0.5)[1] == 6
    assert found(augment_crop=0.5)[1] == 6
    taken = []
    monkeypatch.setattr(network, "_calibrate", taken.append)
    network.calibrate(images)
    (numbers,) = (sorted(part[:, 0, 0, 0].numpy()) for part in taken)
    assert len(set(numbers)) == 10 and max(numbers) > 20


def test_training_that_diverges_is_told():
    x = np.full((20, 6), 1e30, np.float32)
    layer = convnet.Dense("fc", 6, 2, generator(0, Stream.BASELINE), relu=False)
    steps = convnet.train(
        lambda x, _: layer(x),
        layer.parameters,
        x,
        np.ones((20, 2)),
        convnet.attribute_loss,
        DEFAULT,
        (1, 9),
        1e30,
    )
    with pytest.raises(
        UserError, match="finite loss in the training of a learner, step .*: training has diverged; begin anew"
    ):
        list(steps)


def test_networks_take_their_budget_from_the_settings_of_galm():
    config = Config(warmup_steps=7, rounds=2, supernet_steps=5, adapt_steps=3, finetune_steps=2, seed=4, dropout=0.1)
    training = learners.training(config)
    assert (training.steps, training.seed, training.dropout, training.share(0.5)) == (22, 4, 0.1, 11)


def test_ft_learns_what_can_be_learned_keeps_transferred_layers_and_trains_new_ones():
    made, learned = ft.FT(QUICK, whole=(False,)), []
    learn = made._learn
    made._learn = lambda *arguments: learned.append(learn(*arguments)) or learned[-1]
    expect_learned(made)
    assert len(learned) == 2  # on the classes of a fold, then on all
    start = ft.target_network(SIDE, ATTRIBUTES + SHUFFLED, QUICK).weights
    assert not np.array_equal(learned[1]["conv1/kernel"], start["conv1/kernel"])  # the source task moved them
    for name, value in made._network.weights.items():
        same = np.array_equal(value, learned[1].get(name, start[name]))
        assert same != (name.split("/")[0] in ("fca", "fcb")) or name.endswith(("mean", "variance")), name


@pytest.mark.parametrize("whole", [False, True])
def test_ft_tunes_what_it_transferred_more_gently_and_by_the_steps_of_its_share(whole, monkeypatch):
    asked, data, training = [], planted_pictures(2, 2), dataclasses.replace(QUICK, steps=40, learning_rate=0.02)

    class Network:
        variables = {"conv1/kernel": 1, "fc2/bias": 2, "fca/kernel": 3, "fcb/bias": 4}

        def assign(self, weights):
            asked.append(weights)

        def fit(self, *arguments, **settings):
            asked.append((*arguments, settings))
            return iter([self] * len(arguments[2]))

    monkeypatch.setattr(
        ft, "target_network", lambda size, attributes, training: asked.append((size, attributes)) or Network()
    )
    assert len([*ft.FT(training)._tune(data, {"a": 1}, whole, (0.25, 0.5))]) == 2
    shape, weights, (images, targets, stops, variables, settings) = asked
    assert shape == (SIDE, ATTRIBUTES) and weights == {"a": 1} and images is data.images and targets is data.targets
    assert stops == [10, 20] and set(variables) == set(Network.variables if whole else ("fca/kernel", "fcb/bias"))
    assert settings == {"learning_rate": 0.01 if whole else 0.02, "steps": 20}


def test_ft_starts_from_another_domain_where_there_is_one():
    data = planted_pictures(4, 2)
    made = ft.FT(dataclasses.replace(QUICK, steps=2))
    made._learn = lambda images, targets, loss: (
        pytest.fail("classes") if loss is convnet.class_loss else {"targets": targets}
    )
    made._tune = lambda data, weights, whole, shares: iter(
        [_Scores(weights["targets"][: len(data.labels)])] * len(shares)
    )
    made.fit(dataclasses.replace(data, source=dataclasses.replace(data, labels=1 - data.labels)))
    np.testing.assert_array_equal(made.score(data.inputs), 1 - data.labels)


class _Scores:
    """A network that gives the same scores whatever it sees."""

    def __init__(self, values):
        self._values = values

    def scores(self, images):
        return self._values[: len(images)]


@pytest.mark.parametrize(
    "made, steps, last",
    [
        (afs.AFS(QUICK), {"_train": [None]}, (1.0, (1.0,))),
        (amt.AMT(QUICK), {"_train": _Scores(np.zeros((12, 4))), "_train_aux": [(np.eye(4), np.zeros(4))]}, ((1.0,),)),
        (fmt.FMT(QUICK), {"_grow": (_Scores(np.zeros((12, 4))), fmt.Tree.thin(4))}, (400.0,)),
        (ft.FT(QUICK), {"_learn_classes": {}, "_tune": [_Scores(np.zeros((12, 4)))]}, (True, (0.5,))),
    ],
    ids=["afs", "amt", "fmt", "ft"],
)
def test_networks_are_judged_by_classes_that_they_have_not_seen_and_the_chosen_one_sees_all(
    made, steps, last, monkeypatch
):
    data, seen = planted_pictures(4, 3), []
    for name, given in steps.items():
        monkeypatch.setattr(made, name, lambda *arguments, given=given: seen.append(arguments) or given)
    if isinstance(made, afs.AFS):
        monkeypatch.setattr(made, "_scores", lambda network, inputs: np.zeros((len(inputs), 4)))
    train, held = (np.flatnonzero(data.class_ids // 3 == part) for part in (0, 1))
    monkeypatch.setattr(
        sys.modules[type(made).__module__],
        "choose",
        lambda settings, scores_of, *_, **__: list(scores_of(train, held)) and settings[-1],
    )
    made.fit(data)
    classes = [len(set(part.class_ids)) for step in seen for part in step if isinstance(part, LearnerData)]
    assert set(classes[: -len(steps)]) == {3} and classes[-len(steps) :] == [4] * len(steps)
    assert seen[-1][-len(last) :] == last


@pytest.mark.parametrize(
    "made, has_source, fits",
    [
        (afs.AFS(QUICK), False, 1),
        (afs.AFS(QUICK), True, 1),
        (amt.AMT(QUICK), False, 2),
        (fmt.FMT(QUICK, separations=(0.0,)), False, 1),
        (ft.FT(QUICK), True, 2),
    ],
    ids=["afs", "afs with a source", "amt", "fmt", "ft"],
)
def test_networks_fit_shares_of_votes_in_place_of_labels(made, has_source, fits, monkeypatch, eagerly):
    data, fitted = planted_pictures(2, 2), []
    data = dataclasses.replace(data, shares=0.3 + 0.3 * data.labels)
    data = dataclasses.replace(data, source=data if has_source else None)

    def train(forward, variables, inputs, targets, loss, training, stops, **_):
        fitted.append(np.asarray(targets))
        return iter(stops)

    for module in (convnet, afs):
        monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(sys.modules[type(made).__module__], "choose", lambda settings, *_, **__: settings[-1])
    made.fit(data)
    assert len(fitted) == fits
    for targets in fitted:
        assert set(targets[np.isfinite(targets)]) == set(data.shares.flat)


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
    made._network, made.aux, made._bias = Known(), aux, bias
    np.testing.assert_array_equal(made.score(data.inputs), scores)


def test_aux_does_not_decay_and_learns_at_the_same_rates_whichever_share_is_chosen(monkeypatch):
    data, asked = planted_pictures(2, 2), []
    monkeypatch.setattr(
        convnet, "train", lambda *arguments, **settings: asked.append((arguments[-1], settings)) or iter(arguments[-1])
    )
    for shares in (amt.AUX_SHARES, (0.25,)):
        list(amt.AMT(QUICK)._train_aux(_Scores(np.zeros(data.labels.shape)), data, shares))
    settings = {"weight_decay": 0.0, "steps": 60}
    assert asked == [([15, 60], settings), ([15], settings)]


def test_groups_are_correlated_attributes_and_unknown_labels_do_not_count():
    rng = np.random.default_rng(0)
    cause = rng.integers(0, 2, (200, 3)).astype(np.float32)
    labels = np.concatenate([cause, 1 - cause], axis=1)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    groups = amt.correlated_groups(labels, 3)
    assert sorted(set(groups)) == [0, 1, 2] and groups[:3].tolist() == groups[3:].tolist()
    assert sorted(amt.correlated_groups(np.full((4, 5), np.nan))) == list(range(5))
    assert amt.correlated_groups(labels[:, :1]).tolist() == [0]


def test_group_layers_and_heads_in_numpy():
    """Every attribute reads its own group's channels only, through its own fully connected layers."""
    rng = np.random.default_rng(0)
    layers, heads = amt.GroupLayers(2, 4 * 5, rng), convnet.BranchHeads([1, 0, 1], amt.GROUP_WIDTH, rng)
    maps = np.float32(rng.normal(size=(6, 2, 2, 10)))
    w, v = ({k: value.numpy() for k, value in layer.parameters.items()} for layer in (layers, heads))
    expected = np.zeros((6, 3))
    for n, g in enumerate((1, 0, 1)):
        x = maps[..., 5 * g : 5 * g + 5].reshape(6, -1)
        for name in ("fc1", "fc2"):
            x = np.maximum(x @ w[name][g] + w[f"{name}_bias"][g], 0)
        expected[:, n] = x @ v["kernel"][n] + v["bias"][n]
    np.testing.assert_allclose(heads(layers(maps)).numpy(), expected, atol=1e-5)


def test_fmt_learns_what_can_be_learned():
    expect_learned(fmt.FMT(dataclasses.replace(QUICK, steps=70), separations=(8.0,)))


def test_affinity_is_the_share_of_images_that_are_easy_or_difficult_for_both():
    labels = np.array([[1, 1, 1], [1, 1, 0], [0, 0, np.nan], [0, 0, np.nan]])
    logits = np.array([[3, 3, -3], [-3, -3, -3], [-3, 3, 0], [3, -3, 0]])  # difficult: rows 1 and 3, 1 and 2, 0
    expected = [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(fmt.task_affinity(labels, logits), expected)
    apart = np.array([[1, np.nan], [np.nan, 0]])
    assert fmt.task_affinity(apart, np.zeros((2, 2)))[0, 1] == 0.5
    members = [np.array([0, 2]), np.array([1])]
    affinity = np.array([[1, 0.2, 0.6], [0.2, 1, 0.4], [0.6, 0.4, 1]])
    np.testing.assert_allclose(fmt.branch_affinity(affinity, members), [[0.6, 0.25], [0.25, 1]])


def test_branches_are_made_where_they_are_worth_their_cost():
    blocks = np.kron(np.eye(2), np.full((3, 3), 0.8)) + 0.1
    np.fill_diagonal(blocks, 1.0)
    top = len(fmt.LAYERS) - 1
    two = np.array([0, 0, 0, 1, 1, 1])
    assert fmt.grouping_cost(blocks, two, top, 10.0) == pytest.approx(1 + 10 * 0.1)
    assert fmt.grouping_cost(blocks, 0 * two, top, 10.0) == pytest.approx(10 * 0.9)
    assert fmt.grouping_cost(blocks, two, top - 3, 10.0) == pytest.approx(8 + 10 * 0.1)
    found = fmt.cluster(blocks, top, 10.0, 0)
    assert len(set(found[:3])) == len(set(found[3:])) == 1 and found[0] != found[3]
    assert fmt.cluster(blocks, top - 4, 10.0, 0).max() == 0
    for unlike in (2, 3, 8):  # each a branch of its own
        assert fmt.cluster(np.eye(unlike), top, 400.0, 0).tolist() == list(range(unlike))
    assert fmt.cluster(np.eye(9), top, 400.0, 0).max() == 7  # at most eight


def test_clusters_count_alike_however_many_attributes_they_have():
    affinity = np.full((4, 4), 0.4)
    affinity[:3, :3] = 0.7
    np.fill_diagonal(affinity, 1.0)
    cost = fmt.grouping_cost(affinity, np.array([0, 0, 0, 1]), len(fmt.LAYERS) - 1, 10.0)
    assert cost == pytest.approx(1 + 10 * (1 - (0.7 + 1.0) / 2))


def test_a_tree_grows_by_what_its_own_attributes_find_difficult_a_layer_after_the_other(monkeypatch):
    data, asked, steps = planted_pictures(2, 3), [], []
    made = fmt.FMT(dataclasses.replace(QUICK, steps=70, seed=3))
    monkeypatch.setattr(made, "_train", lambda network, data, first, last: steps.append((first, last)))
    given = [np.array([0, 1, 0, 2]), np.array([0, 1, 0]), np.array([0, 0])]

    def cluster(affinity, *settings):
        asked.append((affinity, *settings))
        return given[len(asked) - 1]

    monkeypatch.setattr(fmt, "cluster", cluster)
    network, tree = made._grow(data, 8.0)
    top = len(fmt.LAYERS) - 1
    assert [settings for _, *settings in asked] == [[top - i, 8.0, 3] for i in range(3)]
    assert steps == [(0, 10), (10, 20), (20, 30), (30, 70)]
    affinity = fmt.task_affinity(data.labels, network.scores(data.images))  # nothing was trained
    members = ([[0], [1], [2], [3]], [[0, 2], [1], [3]], [[0, 2, 3], [1]])
    for (found, *_), own in zip(asked, members):
        np.testing.assert_allclose(found, fmt.branch_affinity(affinity, [np.array(m) for m in own]), atol=1e-6)
    assert [len(branches) for branches in tree.parents] == [1, 1, 1, 1, 2, 3]


def test_a_widened_network_computes_the_same_and_its_branches_part():
    images, top = planted_pictures(2, 3).images, len(fmt.LAYERS) - 1
    tree = fmt.Tree.thin(4)
    network = fmt.tree_network(32, tree, QUICK)
    network.calibrate(images)
    before = network.scores(images)
    for layer, clusters in ((top, [0, 1, 0, 2]), (top - 1, [0, 1, 0]), (top - 2, [0, 1])):
        network, tree = fmt.widened(network, tree, layer, np.array(clusters), 32, QUICK)
        np.testing.assert_allclose(network.scores(images), before, atol=1e-5)
    assert [p.tolist() for p in tree.attributes_above(top - 1)] == [[0, 2], [1], [3]]
    assert [p.tolist() for p in tree.attributes_above(top - 2)] == [[0, 2, 3], [1]]
    assert [p.tolist() for p in tree.attributes_above(top)] == [[0], [1], [2], [3]]
    network.assign({"conv4_1/kernel": 0 * network.weights["conv4_1/kernel"]})
    changed = np.abs(network.scores(images) - before).max(axis=0) > 1e-6
    assert changed.tolist() == [False, True, False, False]
