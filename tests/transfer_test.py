"""Starting from a finished run: who matches whom, and what is handed over."""

import dataclasses
import json
import re
import shutil
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from scipy.special import expit

from galm_tf import (
    attribute_names,
    matching,
    network_size,
    pipeline,
    preparation,
    search_space,
    selection,
    leakage,
    source_runs,
    transfer,
)
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.errors import UserError
from galm_tf.gates import gates_from_indices
from galm_tf.metrics import auc
from galm_tf.preprocess import scale_images
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.schedule import WARMUP, Phase
from galm_tf.search import Search
from galm_tf.supernet import TOWER_WEIGHTS, TRUNK_WEIGHTS, margins
from galm_tf.tracing import untraced
from planted_rewards import planted
from small_domains import LEFT_OUT, few_images

TINY = dict(
    image_size=32,
    warmup_steps=3,
    rounds=1,
    supernet_steps=2,
    batch_size=8,
    attributes_per_step=4,
    controller_steps=4,
    samples_per_step=8,
    calibration_images=32,
    adapt_steps=1,
    finetune_steps=1,
    derive_top=2,
)


def _planted(rng, classes=12, images=20):
    """(scores [n, 3], labels [n, 4], class ids): attributes 0 to 2 are predictors 2, 0 and not 1; 3 is noise."""
    class_ids = np.repeat(np.arange(classes), images)
    truth = rng.integers(0, 2, (classes, 3))[class_ids].astype(float)
    truth[:2] = [[0, 0, 0], [1, 1, 1]]
    scores = (truth - 0.5 + 0.3 * rng.normal(size=truth.shape)).astype(np.float32)
    noise = rng.integers(0, 2, (len(class_ids), 1))
    labels = np.concatenate([truth[:, [2]], truth[:, [0]], 1 - truth[:, [1]], noise], axis=1).astype(np.float32)
    return scores, labels, class_ids


def _matches(scores, labels, class_ids):
    """Matches where every record shows a photograph of its own."""
    return matching.match_predictors(scores, labels, class_ids, np.arange(len(labels)))


def _found(scores, labels, class_ids, index):
    """`Match`es of the records `index` of a domain of these classes, each of which shows a photograph of its own."""
    domain = types.SimpleNamespace(class_ids=class_ids, photographs=np.arange(len(class_ids)))
    return matching._predictor_matches(domain, scores, index, labels)([(0, k, "x") for k in range(3)], np.arange(3))


def test_predictors_find_their_attribute_and_its_sign():
    scores, labels, class_ids = _planted(np.random.default_rng(0))
    labels[::3, 0] = np.nan  # unknown labels do not count
    found = _matches(scores, labels, class_ids)
    assert [f[0] for f in found[:3]] == [2, 0, 1]
    assert found[0][1] > 0.9 and found[1][1] > 0.9 and found[2][1] < 0.1
    assert all(strength > 0.2 for _, _, strength in found[:3])
    assert found[3][2] < matching.MATCH_BAR


def test_a_match_is_close_from_the_bar_on(monkeypatch):
    scores, labels, class_ids = _planted(np.random.default_rng(0))
    strength = _matches(scores, labels, class_ids)[0][2]
    for bar, close in ((strength, True), (np.nextafter(strength, 1), False)):
        monkeypatch.setattr(matching, "MATCH_BAR", bar)
        assert _found(scores, labels, class_ids, np.arange(len(labels)))[0].close == close


def test_strength_falls_with_the_number_of_classes_not_of_images():
    few, many = (_matches(*_planted(np.random.default_rng(1), classes=c)) for c in (4, 40))
    assert few[0][2] < many[0][2]
    scores, labels, class_ids = _planted(np.random.default_rng(1))
    twice = _matches(*(np.concatenate([v, v]) for v in (scores, labels, class_ids)))
    np.testing.assert_allclose([t[2] for t in twice], [o[2] for o in _matches(scores, labels, class_ids)])


def test_the_error_of_an_auc_is_mann_and_whitneys():
    rng = np.random.default_rng(0)
    drawn = [auc(np.arange(12) < 3, rng.normal(size=12)) for _ in range(4000)]
    assert matching._auc_error(3, 9) == pytest.approx(np.std(drawn), rel=0.05)


def test_what_a_match_is_worth_is_less_by_the_error_of_its_classes():
    class_ids = np.repeat(np.arange(12), 5)
    labels = (class_ids % 4 == 0).astype(np.float32)
    ((_, separates, strength),) = _matches(labels[:, None], labels[:, None], class_ids)
    error = np.sqrt(13 / (12 * 3 * 9))  # of three with it, nine without
    assert separates == 1.0 and strength == pytest.approx(0.5 - error)


def test_the_best_of_many_predictors_by_chance_is_no_match():
    """A hundred predictors that know nothing of twelve classes: the best of them separates their labels well all the
    same.
    """
    rng, class_ids = np.random.default_rng(3), np.repeat(np.arange(12), 10)
    labels = (rng.permuted(np.tile(np.arange(12) < 5, (40, 1)), axis=1).T[class_ids]).astype(np.float32)
    scores = (rng.normal(size=(12, 100))[class_ids] + 0.1 * rng.normal(size=(120, 100))).astype(np.float32)
    found = _matches(scores, labels, class_ids)
    assert np.mean([abs(auc - 0.5) for _, auc, _ in found]) > 0.35
    assert np.mean([strength >= matching.MATCH_BAR for _, _, strength in found]) < 0.25


def test_halves_share_no_class_and_show_both_labels():
    rng, class_ids = np.random.default_rng(4), np.random.default_rng(5).integers(10, 22, 300)
    labels = (rng.random(12)[class_ids - 10] > 0.7).astype(np.float32)  # of a class all alike
    halves = matching.class_halves(labels, class_ids)
    assert all(len(np.unique(halves[class_ids == c])) == 1 for c in np.unique(class_ids))
    assert all(len(np.unique(labels[halves == half])) == 2 for half in (0, 1))
    np.testing.assert_array_equal(np.bincount(halves[np.unique(class_ids, return_index=True)[1]]), [6, 6])


def test_classes_are_dealt_by_their_share_of_positives_and_not_by_how_many_these_are():
    class_ids = np.repeat([0, 1, 2, 3], [10, 2, 10, 2])
    labels = np.concatenate([np.arange(10) < 5, [1, 1], np.arange(10) < 1, [0, 0]]).astype(np.float32)
    halves = matching.class_halves(labels, class_ids)
    assert halves[[0, 10, 12, 22]].tolist() == [0, 1, 1, 0]  # half of them, all, a tenth, none


def test_an_attribute_of_one_class_is_too_little_to_match():
    scores, _, class_ids = _planted(np.random.default_rng(6))
    labels = (class_ids == 3).astype(np.float32)[:, None]
    scores[:, 1] += 5 * labels[:, 0]
    ((predictor, auc, strength),) = _matches(scores, labels, class_ids)
    assert (predictor, auc, strength) == (1, 1.0, 0.0)


@pytest.mark.parametrize(
    "alone", [slice(None), slice(0, 240, 2)], ids=["data without classes", "an attribute known of one class"]
)
def test_photographs_stand_for_the_classes_where_there_is_one_alone(alone):
    scores, labels, _ = _planted(np.random.default_rng(7), classes=240, images=1)
    class_ids = np.ones(len(labels), int)
    class_ids[alone] = 0
    labels[class_ids == 1] = np.nan
    found = _matches(scores, labels, class_ids)
    assert [f[0] for f in found[:3]] == [2, 0, 1] and all(f[2] > 0.2 for f in found[:3]) and found[3][2] < 0.1
    boxes = np.cumsum(class_ids == 0) // 2  # two records of each: half as many to tell by
    halved = matching.match_predictors(
        scores, np.where(class_ids[:, None] == 0, labels[:, :1], np.nan), class_ids, boxes
    )
    assert 0.0 < halved[0][2] < found[0][2]


def test_a_target_without_classes_is_matched_by_its_photographs():
    scores, labels, _ = _planted(np.random.default_rng(7), classes=240, images=1)
    found = _found(scores, labels, np.zeros(240, int), np.arange(240))
    assert [match.close for match in found] == [True, True, True, False]


def test_labels_of_one_kind_match_nothing():
    scores, labels, class_ids = _planted(np.random.default_rng(2))
    labels[:, 1] = 1.0
    assert _matches(scores, labels, class_ids)[1] == (0, 0.5, 0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory, drawn):
    """(settings, folder) of a tiny finished run on animals, whose few steps take less than to trace them."""
    with few_images(12):
        config = Config(domain=("awa",), cache_dir=drawn, **TINY)
        path = str(tmp_path_factory.mktemp("runs") / "animals")
        with untraced():
            pipeline.run(config, RunFolder.create(path, config))
        yield config, path


@pytest.fixture(scope="module")
def untouched(source):
    """A search on scenes that has not begun, and its weights by part."""
    config = dataclasses.replace(source[0], domain=("sun",))
    prepared = preparation.prepare(config)
    search = Search(config, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
    return search, _weights(search)


def _weights(search):
    """part -> name -> value."""
    parts = {"trunk": {}, "towers": {}, "policy": {k: v.numpy() for k, v in search.strategy.variables.items()}}
    for name, variable in search.supernet.variables.items():
        parts["towers" if name in TOWER_WEIGHTS else "trunk"][name] = variable.numpy()
    return parts


def _started(source, untouched, **changes):
    """The weights of the search once it was given the source, its matches, and the source."""
    search, initial = untouched
    for name, value in {**initial["trunk"], **initial["towers"]}.items():
        search.supernet.variables[name].assign(value)
    for name, value in initial["policy"].items():
        search.strategy.variables[name].assign(value)
    search.config = dataclasses.replace(source[0], domain=("sun",), source_run=(source[1],), **changes)
    transfer.start_from(search)
    return _weights(search), search.state.transfer["matches"], source_runs.read_source(source[1], search.config)


def test_every_part_starts_from_the_source(source, untouched, monkeypatch, eagerly):
    monkeypatch.setattr(matching, "MATCH_BAR", -1.0)
    weights, matches, given = _started(source, untouched, transfer=("policy", "trunk", "towers"), match="predictor")
    names, initial = untouched[0].domain.attributes, untouched[1]
    assert list(matches) == list(names) and {m["sign"] for m in matches.values()} == {1, -1}
    rows = [given.attributes.index(matches[name]["attribute"]) for name in names]
    assert len(set(rows)) > 1
    for name, value in weights["trunk"].items():
        np.testing.assert_array_equal(value, given.weights[name], err_msg=name)
    for name, value in weights["towers"].items():
        for i, (attribute, row) in enumerate(zip(names, rows)):
            expected = given.weights[name][row]
            if name.startswith("head/fc3") and matches[attribute]["sign"] < 0:
                expected = expected[..., ::-1]
            np.testing.assert_array_equal(value[i], expected, err_msg=f"{name} {attribute}")
    np.testing.assert_array_equal(weights["policy"]["policy/heads"], given.policy["policy/heads"])
    np.testing.assert_array_equal(weights["policy"]["policy/arm_embedding"], given.policy["policy/arm_embedding"][rows])
    np.testing.assert_array_equal(weights["policy"]["seen"], initial["policy"]["seen"])  # no baseline of other rewards


def test_an_attribute_without_a_match_gets_the_policy_of_none(source, untouched, monkeypatch, eagerly):
    """By the run's seed its embedding would lie where the source's attribute of the same number began, and still
    lies.
    """
    monkeypatch.setattr(matching, "MATCH_BAR", 2.0)
    weights, matches, given = _started(source, untouched, transfer=("policy", "trunk", "towers"), match="predictor")
    assert not any(m["close"] for m in matches.values())
    ours, theirs = weights["policy"]["policy/arm_embedding"], given.policy["policy/arm_embedding"]
    initial = untouched[1]["policy"]["policy/arm_embedding"]
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    assert (unit(initial) * unit(theirs[: len(initial)])).sum(1).min() > 0.9  # the trap
    assert np.abs(unit(ours) @ unit(theirs).T).max() < 0.7
    again = _started(source, untouched, transfer=("policy", "trunk", "towers"), match="predictor")[0]
    np.testing.assert_array_equal(again["policy"]["policy/arm_embedding"], ours)


def test_an_attribute_without_a_match_is_drawn_otherwise_in_every_run_of_a_chain():
    """By the same seed it would get what the source has drawn for another attribute without a match."""
    embedding, given, drawn = tf.Variable(tf.zeros([3, 50])), np.ones((3, 50), np.float32), []
    search = types.SimpleNamespace(
        config=Config(), strategy=types.SimpleNamespace(variables={matching.EMBEDDING: embedding})
    )
    for _ in range(2):
        source = types.SimpleNamespace(expect_policy=lambda given=given: {matching.EMBEDDING: given})
        transfer._copy_policy(search, [source], [matching.Match(0, 0, "x", close=False)] * 3)
        given = embedding.numpy()
        drawn.append(given)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1 and np.ptp(drawn[0]) > 0.1


@pytest.fixture(scope="module")
def swapped():
    """(settings, a source whose policy has learned the rewards of two attributes, those of two others which are the same
    the other way round, cosines by an embedding that may not learn).
    """
    config = Config(rounds=1, controller_steps=120, samples_per_step=32, controller_learning_rate=5e-3)
    rewards = planted([0, 2303])
    training = ControllerTraining(2, config)
    training.train_on_table(RewardTable(rewards, (rewards, rewards)), 0, config.controller_steps)
    policy = {k: v.numpy() for k, v in training.variables.items() if k.startswith("policy/")}
    given = source_runs.Source(
        "a", frozenset(), None, None, {}, ("x", "y"), np.zeros(2, int), {}, None, policy, frozenset(), False
    )
    rewards = rewards[::-1] + np.float32([[0.0], [0.2]])  # easier, the one
    table = RewardTable(rewards, (rewards, rewards))
    still = dataclasses.replace(config, controller_learning_rate=0.0, controller_steps=1)
    return config, given, table, matching.source_cosines(given, table, still)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(
            controller_optimizer="sgd", controller_learning_rate=1e-4, samples_per_step=1, entropy_weight=0.0,
            baseline="global", normalize_advantage=False,
        ),
    ],
    ids=["default", "paper"],
)  # fmt: skip
def test_cosines_find_the_attribute_of_the_same_rewards_once_the_new_embedding_has_learned(swapped, changes):
    """By an embedding that may not learn, nothing is found: the paper's circle. An embedding learns by whatever settings
    the policy does.
    """
    config, given, table, random = swapped
    learned = matching.source_cosines(given, table, dataclasses.replace(config, **changes))
    assert learned.argmax(axis=1).tolist() == [1, 0]
    gaps = [c[0, 1] - c[0, 0] + c[1, 0] - c[1, 1] for c in (learned, random)]
    assert gaps[0] > 1.0 > abs(gaps[1]), gaps


def test_an_attribute_whose_embedding_is_nothing_is_like_none(swapped):
    _, given, table, _ = swapped
    policy = {**given.policy, matching.EMBEDDING: given.policy[matching.EMBEDDING] * np.float32([[1], [0]])}
    still = Config(rounds=1, controller_learning_rate=0.0, controller_steps=1)
    found = matching.source_cosines(dataclasses.replace(given, policy=policy), table, still)
    assert np.all(found[:, 1] == -1) and np.all(found[:, 0] > -1)


def test_cosines_beside_a_frozen_trunk_are_of_rewards_on_the_sources(source, monkeypatch, eagerly):
    """Which is not there yet, and learns nothing in the trial."""
    config = dataclasses.replace(
        source[0], domain=("sun",), source_run=(source[1],), transfer=("trunk", "towers"), match="cosine", freeze_trunk=True,
    )  # fmt: skip
    given, prepared = source_runs.read_source(source[1], config), preparation.prepare(config)
    search = Search(config, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
    before, during = search.supernet.weights, {}
    rewards = planted([0] * search.num_attributes)

    def trial_table(steps):
        during.update(search.supernet.weights)
        return RewardTable(rewards, (rewards, rewards))

    monkeypatch.setattr(search, "trial_table", trial_table)
    matching.find_matches(search, [given], None)
    for name, value in search.supernet.weights.items():
        np.testing.assert_array_equal(value, before[name])
        np.testing.assert_array_equal(during[name], (given.weights if name in TRUNK_WEIGHTS else before)[name])


def test_a_frozen_trunk_keeps_the_sources_layers_while_towers_learn(source, tmp_path, eagerly):
    """Without --freeze_trunk they move: `test_a_run_from_a_source_says_so_and_resumes`."""
    config = dataclasses.replace(
        source[0], domain=("sun",), leave_out=LEFT_OUT, source_run=(source[1],), transfer=("trunk", "towers"), warmup_steps=2,
        freeze_trunk=True,
    )  # fmt: skip
    given = source_runs.read_source(source[1], config)
    folder = RunFolder.create(str(tmp_path / "frozen"), config)
    parts = _weights(pipeline.search(config, folder, preparation.prepare(config), ControllerTraining))
    for name in ("conv1/kernel", "conv3/bias", "bn2/gamma"):
        np.testing.assert_array_equal(parts["trunk"][name], given.weights[name])
    assert not any(np.array_equal(row, parts["towers"]["head/fc3_bias"][0]) for row in given.weights["head/fc3_bias"])


@pytest.mark.parametrize("change", [dict(transfer=("towers",)), dict(transfer_gate_steps=5)])
def test_a_frozen_trunk_must_be_the_sources(change):
    with pytest.raises(
        UserError, match="Expected a trunk from the source, come what may, with --freeze_trunk. Received: transfer="
    ):
        Config(source_run=("a",), freeze_trunk=True, **{"transfer": ("trunk", "towers"), **change})


def _even_rewards(value):
    rewards = np.full((20, search_space.NUM_ARCHITECTURES), value, np.float32)
    return RewardTable(rewards, (rewards, rewards))


def test_cosine_takes_the_nearest(source, untouched, monkeypatch):
    cosines = np.linspace(-1, 1, 400, dtype=np.float32).reshape(20, 20)[:, np.random.default_rng(0).permutation(20)]
    unrewarded = _even_rewards(TINY["warmup_steps"])
    unrewarded.full[3] = np.nan
    monkeypatch.setattr(Search, "trial_table", lambda self, steps: unrewarded)
    less = 0.02 * network_size.relative_sizes(source[0].image_size // 8)  # embeddings of the source learned with it

    def of_table(given, table, config):
        return cosines * np.allclose(table.full[4:], TINY["warmup_steps"] - less, atol=1e-5)

    monkeypatch.setattr(matching, "source_cosines", of_table)
    _, matches, given = _started(source, untouched, transfer=("policy",), match="cosine")
    for i, (row, match) in enumerate(zip(cosines, matches.values())):
        assert match["attribute"] == given.attributes[row.argmax()] and match["strength"] == row.max()
        assert match["close"] == (i != 3)  # an embedding that learned nothing is like none


def test_cosines_are_of_rewards_as_a_search_wants_them_and_tell_nothing_without_any(monkeypatch):
    """By a trial as long as the warm-up, less what a network's size costs; where none is rewarded e is still random."""
    rewards, asked = planted([0, 7, 2303]), []
    rewards[1] = np.nan
    table = RewardTable(rewards, (rewards, rewards))
    config = Config(match="cosine", warmup_steps=37, size_penalty=0.3)
    search = types.SimpleNamespace(
        config=config,
        supernet=types.SimpleNamespace(weights={}, variables={}),
        trial_table=lambda steps: asked.append(steps) or table,
    )
    cosines = np.array([[0.1, 0.9], [0.8, 0.2], [-1.0, -0.5]])
    monkeypatch.setattr(
        matching, "source_cosines", lambda source, wanted, config: asked.append(wanted.full) or cosines[:, [source]]
    )
    matches = matching._cosine_matches(search, [0, 1])([(0, 0, "x"), (1, 0, "y")], np.arange(2))
    assert [(m.name, m.strength, m.close) for m in matches] == [("y", 0.9, True), ("x", 0.8, False), ("y", -0.5, True)]
    assert asked[0] == 37
    expected = selection.less_size(table, 0.3, search_space.map_side(config)).full
    assert not np.array_equal(expected, rewards, equal_nan=True)
    for wanted in asked[1:]:
        np.testing.assert_array_equal(wanted, expected)
    cosines[:] = -1  # what embeddings of nothing have
    assert not any(m.close for m in matching._cosine_matches(search, [0])([(0, 0, "x")], np.arange(1)))


def test_the_source_that_matches_most_gives_the_trunk_and_among_equals_the_one_that_matches_most_often():
    match = lambda source, strength=0.0, close=True: matching.Match(source, 0, "x", strength=strength, close=close)  # noqa: E731
    assert matching.trunk_source([match(0, 0.2), match(1, 0.3), match(0, 0.2), match(1, 0.9, close=False)]) == 0
    assert matching.trunk_source([match(2), match(1), match(2)]) == 2  # matches by chance
    assert matching.trunk_source([match(1), match(0)]) == 0


@pytest.mark.parametrize("better, about", [(True, None), (False, None), (False, {"steps": 2}), (False, {})], ids=str)
def test_the_gate_goes_on_from_the_better_start(source, untouched, monkeypatch, better, about):
    tables = [np.full((20, 3), 0.6, np.float32), np.full((20, 3), 0.61 if better else 0.59, np.float32)]
    for table in tables:
        table[0] = np.nan
    trials = [RewardTable(t, (t, t)) for t in tables]
    monkeypatch.setattr(Search, "trial_table", lambda self, steps: trials.pop(0))
    monkeypatch.setattr(source_runs, "learned_from_held_out", lambda *_: True)
    monkeypatch.setattr(untouched[0], "trunk", None if about is None else types.SimpleNamespace(about=about))
    weights, _, given = _started(source, untouched, match="random", transfer=("policy", "trunk"), transfer_gate_steps=2)
    gate = untouched[0].state.transfer["gate"]
    assert gate["passed"] is better and gate["fresh_reward"] == pytest.approx(0.6)
    name = "policy/heads"
    expected = given.policy[name] if better else untouched[1]["policy"][name]
    np.testing.assert_array_equal(weights["policy"][name], expected)
    for name, value in weights["trunk"].items():
        np.testing.assert_array_equal(
            value, given.weights[name] if better else untouched[1]["trunk"][name], err_msg=name
        )
    np.testing.assert_array_equal(untouched[0].strategy.initial["policy/heads"], expected)
    told = untouched[0].state.transfer
    assert any("trial from the sources was judged" in note for note in told["notes"]) is better
    assert ("temperature" in told) is better  # what is not in the run is not said of it
    for classes in ("classes_seen", "classes_learned"):
        # a pretrained trunk stays, taught or but projected by the source's images
        assert bool(told[classes]) is (better or about is not None)
    sampled = []
    monkeypatch.setattr(
        untouched[0].strategy,
        "sample",
        lambda seed: sampled.append(seed) or np.zeros([untouched[0].num_attributes, 10], int),
    )
    untouched[0]._choices(Phase(WARMUP, 0, 40, 0))(0)
    assert bool(sampled) is better  # without a source's policy all are drawn uniformly


def test_the_gate_goes_by_the_mean_of_all_rewards_that_a_trial_from_nothing_has():
    fresh, transferred = np.float32([[0.5, 0.7], [np.nan, np.nan]]), np.float32([[0.45, 0.65], [0.9, 0.9]])
    gate = transfer._gate(*(RewardTable(table, (table, table)) for table in (fresh, transferred)))
    assert (gate["fresh_reward"], gate["transferred_reward"]) == pytest.approx((0.6, 0.55)) and not gate["passed"]
    same = transfer._gate(*[RewardTable(fresh, (fresh, fresh))] * 2)
    assert same["passed"]


def test_a_trial_trains_and_leaves_no_trace(source, untouched, monkeypatch):
    """Its steps change what is judged; the weights and the optimiser stay, so that the same trial gives the same."""
    search, before = untouched[0], untouched[0].arrays()
    judged = search.validation.judge
    monkeypatch.setattr(
        search.validation,
        "exact_table",
        lambda title: types.SimpleNamespace(full=judged([7] * search.num_attributes).aucs, rewarded=np.ones(2)),
    )
    none, some, again = (search.trial_table(steps).full for steps in (0, 3, 3))
    assert search.state.architectures_scored == 3 * 2 * search_space.NUM_DISTINCT
    assert not np.allclose(none, some, equal_nan=True)
    np.testing.assert_allclose(some, again, atol=1e-3)
    for name, value in search.arrays().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_an_attribute_without_a_match_has_the_nearest_tower(source, untouched, monkeypatch, eagerly):
    monkeypatch.setattr(matching, "MATCH_BAR", 2.0)
    weights, matches, given = _started(source, untouched, transfer=("policy", "towers"), match="predictor")
    assert not any(match["close"] for match in matches.values())
    assert {match["attribute"] for match in matches.values()} <= set(given.attributes)
    for name in ("conv4/kernel3", "head/fc1"):
        for tower in weights["towers"][name]:
            assert any(np.array_equal(tower, theirs) for theirs in given.weights[name]), name


@pytest.mark.parametrize("imbalance", ["none", "positive_weight", "balanced"])
def test_without_a_match_a_head_says_the_attributes_frequency_of_every_image(source, imbalance, monkeypatch, eagerly):
    config = dataclasses.replace(
        source[0], domain=("sun",), source_run=(source[1],), transfer=("trunk", "towers"), imbalance=imbalance
    )
    prepared = preparation.prepare(config)
    search = Search(config, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
    find = matching.find_matches

    def alternate(*arguments):
        return [dataclasses.replace(match, close=i % 2 == 0) for i, match in enumerate(find(*arguments))]

    monkeypatch.setattr(transfer, "find_matches", alternate)
    transfer.start_from(search)
    images = tf.constant(prepared.images[prepared.split.test[:3]])
    ids = tf.range(search.num_attributes)
    gates = gates_from_indices(tf.constant(search_space.all_indices()[np.arange(search.num_attributes) * 100]))
    maps = search.supernet.trunk(scale_images(images))
    said = margins(search.supernet.tower_logits(maps, ids, gates, 3)).numpy()  # [3, N]
    spread = np.ptp(said, axis=0)
    assert (spread[1::2] < 1e-5).all() and (spread[::2] > 1e-3).all()
    targets = prepared.domain.targets[prepared.split.train][:, 1::2]
    frequency = expit(said[0, 1::2] - search.validation.margin_offsets()[1::2])
    # half an image of each label is added
    np.testing.assert_allclose(frequency, np.nanmean(targets, axis=0), atol=0.02)


def test_a_head_begins_at_a_frequency_over_classes_where_these_count_alike():
    """Three images of one class with the attribute, one of another without."""
    domain = types.SimpleNamespace(
        targets=np.array([[1.0], [1.0], [1.0], [0.0]]), class_ids=np.array([0, 0, 0, 1]), image_domains=np.zeros(4, int)
    )
    validation = types.SimpleNamespace(training_index=lambda: np.arange(4), margin_offsets=lambda: np.array([0.25]))
    for balance, frequency in ((1.0, 0.5), (0.0, 3.5 / 5)):
        search = types.SimpleNamespace(domain=domain, validation=validation, config=Config(class_balance=balance))
        assert expit(transfer._frequency_margins(search) - 0.25) == pytest.approx(frequency)


def test_trunk_and_policy_are_those_of_the_source_that_matches_most(source, untouched):
    search = untouched[0]
    search.config = dataclasses.replace(
        source[0], domain=("sun",), source_run=(source[1],) * 2, transfer=("policy", "trunk")
    )
    second = source_runs.read_source(source[1], search.config)
    moved = {k: {name: v + 1 for name, v in getattr(second, k).items()} for k in ("weights", "policy")}
    first = dataclasses.replace(second, **moved)
    matches = [matching.Match(int(k > 0), 19 - k, "x", strength=0.3) for k in range(20)]  # that of one in the first
    transfer.hand_over(search, [first, second], matches)
    for name in TRUNK_WEIGHTS:
        np.testing.assert_array_equal(search.supernet.variables[name].numpy(), second.weights[name], err_msg=name)
    ours, theirs = (of["policy/arm_embedding"] for of in (search.strategy.variables, second.policy))
    np.testing.assert_array_equal(ours.numpy()[1:], theirs[18::-1])
    assert not np.array_equal(ours.numpy()[0], theirs[19])  # beside other shared weights it would mean nothing


def test_cosines_are_taken_anew_on_the_frozen_trunk_of_another_source(source, untouched, monkeypatch):
    search, trunks = untouched[0], []
    search.config = dataclasses.replace(
        source[0], source_run=(source[1],) * 2, transfer=("trunk", "towers"), match="cosine", freeze_trunk=True
    )

    def found(search, sources, trunk=0):
        trunks.append(trunk)
        return lambda every, columns: [matching.Match(1, 0, "x", strength=0.3)]

    monkeypatch.setattr(matching, "_cosine_matches", found)
    matching.find_matches(search, [types.SimpleNamespace(attributes=("x",))] * 2, None)
    assert trunks == [0, 1]


def _planted_strengths(strengths):
    """A `_predictor_matches` by which source attributes are as strong as planted, [A, sources]; one of each source."""

    def find(every, columns):
        chosen = [max(columns, key=lambda column: row[column]) for row in strengths]
        return [
            matching.Match(*every[i], strength=row[i], close=row[i] >= matching.MATCH_BAR)
            for row, i in zip(strengths, chosen)
        ]

    return lambda *_: find


def _two_images(config):
    """What `find_matches` asks of a search, whose matches are planted."""
    domain = types.SimpleNamespace(labels=np.zeros((2, 1), np.float32))
    return types.SimpleNamespace(config=config, domain=domain, split=types.SimpleNamespace(train=np.arange(2)))


THREE_STRENGTHS = [(0.30, 0.31, 0.01), (0.30, 0.01, 0.31), (0.30, 0.31, 0.01)]  # the first knows all, each other a part


@pytest.mark.parametrize("parts", [("trunk", "towers"), ("policy", "trunk"), ("trunk",), ("policy",)])
@pytest.mark.parametrize("count", [2, 3])
def test_the_source_is_taken_that_matches_most_by_itself(monkeypatch, parts, count):
    """Where it stands beside others it is hardly ever the best of all."""
    monkeypatch.setattr(matching, "_predictor_matches", _planted_strengths(np.array(THREE_STRENGTHS)[:, :count]))
    search = _two_images(Config(source_run=("a", "b", "c")[:count], transfer=parts))
    sources = [types.SimpleNamespace(attributes=(name,)) for name in "xyz"[:count]]
    matches = matching.find_matches(search, sources, lambda index: None)
    assert [(match.source, match.name, match.strength) for match in matches] == [(0, "x", 0.30)] * 3


@pytest.mark.parametrize("parts", [("towers",), ("policy", "towers")])
def test_where_towers_come_without_a_trunk_every_source_serves(monkeypatch, parts):
    monkeypatch.setattr(matching, "_predictor_matches", _planted_strengths(THREE_STRENGTHS))
    search = _two_images(Config(source_run=("a", "b", "c"), transfer=parts))
    sources = [types.SimpleNamespace(attributes=(name,)) for name in "xyz"]
    matches = matching.find_matches(search, sources, lambda index: None)
    assert [match.source for match in matches] == [1, 2, 1]


def test_where_no_source_is_like_the_target_the_one_that_is_nearest_most_often_is_taken(monkeypatch):
    monkeypatch.setattr(matching, "_predictor_matches", _planted_strengths([(0.02, 0.01), (0.01, 0.02), (0.01, 0.02)]))
    search = _two_images(Config(source_run=("a", "b"), transfer=("trunk", "towers")))
    sources = [types.SimpleNamespace(attributes=(name,)) for name in "xy"]
    matches = matching.find_matches(search, sources, lambda index: None)
    assert [match.source for match in matches] == [1] * 3


def test_cosines_on_a_frozen_trunk_stay_with_the_source_whose_trunk_that_is(monkeypatch):
    """Though there another source were the better one."""
    strengths = [[(0.1, 0.9)] * 2, [(0.9, 0.1)] * 2]  # on the trunk of the first, of the second
    monkeypatch.setattr(
        matching, "_cosine_matches", lambda search, sources, trunk=0: _planted_strengths(strengths[trunk])()
    )
    config = Config(source_run=("a", "b"), transfer=("trunk", "towers"), match="cosine", freeze_trunk=True)
    sources = [types.SimpleNamespace(attributes=(name,)) for name in "xy"]
    matches = matching.find_matches(types.SimpleNamespace(config=config), sources, None)
    assert [(match.source, match.strength) for match in matches] == [(1, 0.1)] * 2


@pytest.mark.parametrize("parts, taken", [(("trunk", "towers"), "b"), (("policy", "trunk"), "b"), (("towers",), None)])
def test_a_run_tells_which_of_its_sources_was_taken_and_takes_no_more_from_the_others(
    source, untouched, monkeypatch, parts, taken
):
    search = untouched[0]
    search.config = dataclasses.replace(source[0], domain=("sun",), source_run=("a", "b"), transfer=parts)
    given = source_runs.read_source(source[1], source[0])
    first, second = (
        dataclasses.replace(given, path=path, classes=frozenset({path}), learned=frozenset({path})) for path in "ab"
    )
    monkeypatch.setattr(transfer, "notes", lambda of, *_: [f"note of {of.path}"])
    monkeypatch.setattr(transfer, "read_source", lambda path, config: {"a": first, "b": second}[path])
    monkeypatch.setattr(transfer, "expect_unseen", lambda *_: None)
    matches = [matching.Match(1, 0, "x", strength=0.3)] * 20
    monkeypatch.setattr(transfer, "find_matches", lambda *_: matches)
    giving = transfer.start_from(search)
    told = search.state.transfer
    assert told["sources"] == ["a", "b"] and told["taken_from"] == taken
    every = ["b"] if taken else ["a", "b"]
    assert [one.path for one in giving] == told["classes_seen"] == told["classes_learned"] == every
    assert told["notes"] == [f"note of {path}" for path in every]
    transfer.hand_over(search, [first], [dataclasses.replace(match, source=0) for match in matches])
    assert search.state.transfer["taken_from"] is None  # there was no other
    assert search.state.transfer["policy_from"] is None


@pytest.mark.parametrize(
    "parts, method, policy_from",
    [
        (("policy", "towers"), "galm", "b"),
        (("policy", "towers"), "single_best", None),
        (("towers",), "galm", None),
        (("policy", "trunk", "towers"), "galm", None),  # `taken_from` tells it
    ],
)
def test_a_run_that_takes_towers_from_several_sources_tells_whose_policy_it_has(
    source, untouched, parts, method, policy_from
):
    search = untouched[0]
    given = source_runs.read_source(source[1], source[0])
    sources = [dataclasses.replace(given, path=path) for path in "ab"]
    search.config = dataclasses.replace(
        source[0], domain=("sun",), source_run=("a", "b"), transfer=parts, method=method
    )
    matches = [matching.Match(i > 2, 0, "x", strength=0.3) for i in range(search.num_attributes)]
    transfer.hand_over(search, sources, matches)
    assert search.state.transfer["policy_from"] == policy_from


def test_the_benchmark_of_transfer_compares_searches_at_their_ends_alone():
    from benchmarks import transfer_matching  # which no installation brings

    rewards = {"whole": (0.6, 0.9), "whole_quickened": (0.7, 0.95), "quarter": (0.8,), "moved": (0.92,)}
    curves = pd.DataFrame(
        dict(source="awa", target="sun", seed=0, search=kind, steps=52 * (i + 1), reward=reward)
        for kind, of_rounds in rewards.items() for i, reward in enumerate(of_rounds)
    )  # fmt: skip
    (row,) = transfer_matching.last_rewards(curves).to_dict("records")
    ends = {kind: of_rounds[-1] for kind, of_rounds in rewards.items()}
    assert row == {"source": "awa", "target": "sun", "seed": 0, **ends}


def test_a_certain_policy_is_softened_to_half_of_the_greatest_entropy():
    policy = ControllerTraining(3, Config())
    assert transfer.soften(policy) == 1.0  # a new one is uncertain enough
    for name in ("policy/heads", "policy/head_bias"):
        policy.variables[name].assign(300.0 * policy.variables[name])
    certain = policy.log_probs()
    assert selection.entropy(certain) < 2.0
    assert transfer.soften(policy) > 1.5
    soft = policy.log_probs()
    assert selection.entropy(soft) == pytest.approx(0.5 * np.log(2304), abs=0.1)
    assert np.corrcoef(certain.ravel(), soft.ravel())[0, 1] > 0.5  # what it preferred it still prefers
    assert policy.log_probs() is soft  # reckoned once


@pytest.mark.parametrize(
    "parts, fraction", [(("policy", "trunk"), 0.0), (("policy", "trunk"), 0.5), (("trunk", "towers"), 0.0)]
)
def test_a_policy_that_was_handed_over_chooses_from_the_first_step(source, untouched, monkeypatch, parts, fraction):
    _started(source, untouched, transfer=parts, match="random", uniform_fraction=fraction)
    search, one = untouched[0], search_space.all_indices()[7]
    monkeypatch.setattr(search.strategy, "sample", lambda seed: np.tile(one, (search.num_attributes, 1)))
    draws = list(map(search._choices(Phase(WARMUP, 0, 40, 0)), range(40)))
    share = np.mean([(choices == one).all(axis=1).mean() for choices in draws])
    assert share == pytest.approx(1.0 - fraction if "policy" in parts else 0.0, abs=0.1)


@pytest.mark.parametrize("part", ["policy", "trunk", "towers"])
def test_parts_that_are_not_asked_for_stay_as_they_were(source, untouched, part):
    weights, _, _ = _started(source, untouched, transfer=(part,), match="random")
    initial = untouched[1]
    changed = [p for p in initial if any(not np.array_equal(v, weights[p][n]) for n, v in initial[p].items())]
    assert changed == [part]


def test_a_run_that_was_stopped_before_it_took_anything_wants_the_same_source(source, tmp_path, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(source[1], copied)
    config = dataclasses.replace(source[0], domain=("sun",), source_run=(str(copied),), match="random")
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "start_from", lambda search: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline.run(config, RunFolder.create(str(tmp_path / "run"), config))
    result = json.loads((copied / "result.json").read_text(encoding="utf-8"))
    (copied / "result.json").write_text(json.dumps({**result, "seconds_total": 7.0}), encoding="utf-8")
    resumed = dataclasses.replace(config, resume=True)
    with pytest.raises(UserError, match="Expected the source run that the run in .* began with"):
        pipeline.run(resumed, RunFolder.resume(str(tmp_path / "run"), resumed))


def test_a_run_from_a_source_says_so_and_resumes(source, tmp_path, monkeypatch):
    """Stopped before its skill is measured, which goes by the policy that was handed over."""
    config, path = source
    config = dataclasses.replace(
        config, domain=("sun",), leave_out=LEFT_OUT, source_run=(path,), match="random", checkpoint_seconds=0.0
    )
    crossfit, started = ControllerTraining.crossfit, []

    def stopped_once(self, table):
        started.append(self.initial)
        return crossfit(self, table) if len(started) > 1 else 1 / 0

    monkeypatch.setattr(ControllerTraining, "crossfit", stopped_once)
    # so few steps take less than to trace them, until it goes on
    with untraced(), pytest.raises(ZeroDivisionError):
        pipeline.run(config, RunFolder.create(str(tmp_path / "run"), config))
    resumed = dataclasses.replace(config, resume=True)
    result = pipeline.run(resumed, RunFolder.resume(str(tmp_path / "run"), resumed))
    first, second = started
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert result["transfer"]["parts"] == ["policy", "trunk", "towers"]
    counted = result["search"]["phase_seconds"]
    assert {"load", "match"} <= set(counted) and "trunk" not in counted  # the match was before the stop
    assert sum(counted.values()) <= result["seconds_total"]
    assert set(result["transfer"]["matches"]) == set(result["per_attribute"])
    assert all(m["attribute"].startswith("awa/") for m in result["transfer"]["matches"].values())
    stored = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert stored["transfer"] == result["transfer"]
    given = source_runs.read_source(path, config)
    np.testing.assert_array_equal(second["policy/arm_weight"], given.policy["policy/arm_weight"])
    assert set(result["classes_seen"]) > given.classes  # so that a run started from this one knows them too
    assert {c.split("/")[0] for c in result["classes_seen"]} == {"awa", "sun"}
    folder = str(tmp_path / "run")
    prepared = preparation.prepare(config)
    own = leakage.learned_digests(prepared.domain, prepared.split.trained)
    itself = source_runs.read_source(folder, config)
    assert not any(
        np.array_equal(itself.weights[name], given.weights[name])
        for name in ("conv1/kernel", "conv3/bias", "bn2/gamma")
    )
    seen = itself.seen
    np.testing.assert_array_equal(seen, np.union1d(given.seen, own))
    assert len(seen) == len(given.seen) + len(own)
    chained = dataclasses.replace(config, domain=("awa",), leave_out=(), split_seed=3, source_run=(folder,))
    prepared = preparation.prepare(chained)
    search = Search(chained, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
    with pytest.raises(UserError, match="run, which has seen awa/animal"):
        transfer.start_from(search)


def test_a_source_trained_on_what_validation_holds_out_is_noted(source, untouched):
    search = untouched[0]
    search.config = dataclasses.replace(search.config, match="random")
    given = source_runs.read_source(source[1], source[0])
    held_out = {search.domain.classes[c] for c in search.domain.class_ids[search.split.validation_classes]}
    validated = dataclasses.replace(given, classes=given.classes | held_out)  # there too
    trained = dataclasses.replace(validated, learned=given.learned | held_out)
    for theirs, noted in ((given, False), (validated, False), (trained, True)):
        transfer.hand_over(search, [theirs], matching.find_matches(search, [theirs], None))
        assert bool(search.state.transfer["notes"]) == noted


def test_a_run_has_learned_from_what_it_held_out_only_if_it_was_fine_tuned_on_it(tmp_path):
    result = {
        "classes_seen": ["sun/a", "sun/b", "sun/c"],
        "held_out_classes": ["sun/b", "sun/c"],
        "transfer": {"classes_seen": ["sun/c"]},
    }
    assert source_runs._learned_classes(result, True) == {"sun/a", "sun/b", "sun/c"}
    assert source_runs._learned_classes(result, False) == {"sun/a", "sun/c"}  # its own source may have
    assert source_runs._learned_classes({**result, "transfer": None}, False) == {"sun/a"}
    # which now says what it has learned of that
    before = {"classes_seen": ["sun/b", "sun/c"], "classes_learned": ["sun/c"]}
    assert source_runs._learned_classes({**result, "transfer": before}, False) == {"sun/a", "sun/c"}
    assert source_runs._learned_classes({**result, "classes_learned": ["sun/a"]}, False) == {
        "sun/a"
    }  # as it is told now


def test_a_predictors_scores_are_those_of_the_source_network(source):
    """With the same calibration images a source scores as its own search does."""
    config, path = source
    prepared = preparation.prepare(config)
    images = np.asarray(prepared.images[prepared.split.train[:40]])
    given = source_runs.read_source(path, config)
    scores = source_runs.source_scores(given, images, dataclasses.replace(config, calibration_images=40))
    assert scores.shape == (40, 20) and np.isfinite(scores).all()
    search = Search(config, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
    for name, variable in search.supernet.variables.items():
        variable.assign(given.weights[name])
    search.state.chosen = given.chosen.tolist()
    patched = dataclasses.replace(prepared.split, train=prepared.split.train[:40])
    # each of the 40 once
    validation = dataclasses.replace(config, calibration_images=40, finetune_steps=0, class_balance=0.0)
    search.config, search.split = validation, patched
    search.validation._config, search.validation._split = validation, patched
    search.calibrate()
    network = pipeline.derive_network(search)
    expected = network(pipeline.scale_images(images)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_a_source_is_calibrated_on_images_from_the_first_class_to_the_last(monkeypatch):
    asked = []
    scoring = types.SimpleNamespace(
        calibrate_trunk=asked.append, trunk_features=asked.append, score_chosen=lambda scored, *_: asked.append(scored)
    )
    monkeypatch.setattr(source_runs, "source_scoring", lambda *_: scoring)
    source = types.SimpleNamespace(attributes=("a",), chosen=np.zeros(1, int))
    source_runs.source_scores(source, np.arange(31), Config(calibration_images=16))
    calibration, every, scored = asked
    assert calibration.tolist() == [*range(0, 31, 2)] and every.tolist() == [*range(0, 31, 2), *range(31)]
    assert scored.num_calibration == 16 and len(scored.labels) == 31


def test_a_source_that_has_seen_tested_classes_is_refused(source, untouched):
    config, path = source
    prepared = preparation.prepare(dataclasses.replace(config, split_seed=3))
    search = Search(
        dataclasses.replace(config, split_seed=3, source_run=(path,)), prepared.domain, prepared.split, prepared.images,
        None, ControllerTraining,
    )  # fmt: skip
    with pytest.raises(
        UserError,
        match="has not seen the classes that are tested. Received: .*animals, which has seen awa/animal.* more; give both runs the same split: --split_seed=-1",
    ):
        transfer.start_from(search)
    given = source_runs.read_source(path, config)
    assert len(given.classes) == 30 and not any(c.startswith("sun/") for c in given.classes)


@pytest.fixture
def photographs(tmp_path):
    """A function that writes so many pictures without classes: (folder of the run, further flags) -> its settings."""

    def config(count, **settings):
        (tmp_path / "mine" / "images").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(count):
            pixels = rng.integers(0, 120, (24, 24, 3)).astype(np.uint8) + np.uint8(120 * (i % 2))
            Image.fromarray(pixels).save(tmp_path / "mine" / "images" / f"{i}.png")
        lines = ["image,light", *(f"{i}.png,{i % 2}" for i in range(count))]
        (tmp_path / "mine" / "attributes.csv").write_text("\n".join(lines), encoding="utf-8")
        return Config(
            domain=("mine",),
            data_dir=(str(tmp_path / "mine"),),
            cache_dir=str(tmp_path / "cache"),
            **{**TINY, **settings},
        )

    return config


def test_images_that_a_source_has_seen_are_not_tested_where_classes_are_on_both_sides(photographs, tmp_path, eagerly):
    first, path = photographs(40), str(tmp_path / "A")
    pipeline.run(first, RunFolder.create(path, first))
    given = source_runs.read_source(path, first)
    assert len(given.seen) == 2 * 32  # images, and photographs

    def start(config):
        config = dataclasses.replace(config, source_run=(path,))
        prepared = preparation.prepare(config)
        search = Search(config, prepared.domain, prepared.split, prepared.images, None, ControllerTraining)
        return transfer.start_from(search)

    for unchanged in ({}, {"seed": 1}):  # another seed tests the same images
        assert [s.path for s in start(dataclasses.replace(first, **unchanged))] == [path]
    refused = r"Expected a source that has not seen the images that are tested. Received: --source_run=.*A, which was trained on \d+ of \d+, "
    with pytest.raises(
        UserError, match=refused + r"the first is .*\d\.png; give both runs the same split: --split_seed=-1"
    ):
        start(dataclasses.replace(first, split_seed=1))
    with pytest.raises(
        UserError,
        match=refused + "the first is .*; take another source, or test what that one tests, by a column split",
    ):
        start(photographs(60))
    first = photographs(40)
    with pytest.raises(UserError, match=refused):  # the same data by another name
        start(dataclasses.replace(first, domain=("other",), split_seed=1))
    for path_of_image in (tmp_path / "mine" / "images").iterdir():  # by other names, in another folder, with classes
        copied = tmp_path / "copy" / "images" / f"x{path_of_image.name}"
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path_of_image.read_bytes())
    lines = ["image,class,light", *(f"x{i}.png,{'abcdefgh'[i % 8]},{i % 2}" for i in range(40))]
    (tmp_path / "copy" / "attributes.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=refused):
        start(dataclasses.replace(first, domain=("copy",), data_dir=(str(tmp_path / "copy"),)))
    seen = (tmp_path / "A" / "seen.npz").read_bytes()
    (tmp_path / "A" / "seen.npz").write_bytes(seen[:100])  # what it says is not what an earlier version says
    with pytest.raises(
        UserError, match="Expected what the run in .*A has seen in its seen.npz. Received: a damaged file"
    ):
        start(first)
    (tmp_path / "A" / "seen.npz").unlink()
    with pytest.raises(
        UserError,
        match="Expected a run that says which images it has seen.*A, which does not, as in earlier versions; make it anew",
    ):
        start(first)


def test_a_photograph_is_known_by_any_of_its_parts(tmp_path):
    """But for one that the target's own data have on both sides, of which the same part counts."""

    def prepared(name, rows, header="image,split,left,top,right,bottom,light"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        for i in range(24):
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(
                folder / "images" / f"{name}{i}.png"
            )
        (folder / "attributes.csv").write_text(
            "\n".join([header, *(row.format(name) for row in rows)]), encoding="utf-8"
        )
        config = Config(domain=(name,), data_dir=(str(folder),), image_size=32, cache_dir=str(tmp_path / "cache"))
        return config, preparation.prepare(config)

    boxes = [f"{{}}{i}.png,{'train' if i < 18 else 'test'},0,0,38,38,{i % 2}" for i in range(24)]
    config, of_parts = prepared("parts", boxes)
    given = leakage.Learned.of("runs/A", config, of_parts.domain, of_parts.split)
    whole, of_whole = prepared("whole", [f"{{}}{i}.png,{'test' if i < 6 else 'train'},,,,,{i % 2}" for i in range(24)])
    with pytest.raises(UserError, match="Received: --source_run=runs/A, which was trained on 6 of 6"):
        leakage.expect_unseen(given, whole, of_whole.domain, of_whole.split)
    both = [
        *(f"{{}}{i}.png,train,0,0,38,38,{i % 2}" for i in range(24)),
        *(f"{{}}{i}.png,test,1,1,39,39,{i % 2}" for i in range(6)),
    ]
    torn, of_torn = prepared("torn", both)
    leakage.expect_unseen(given, torn, of_torn.domain, of_torn.split)
    known = leakage.is_known(of_torn.domain, of_torn.split.test, given.seen, of_torn.split.train[:0])
    assert known.all() and len(known) == 6
    # a source of the whole picture has seen what each part shows
    entire, of_entire = prepared(
        "entire", [f"{{}}{i}.png,{'train' if i < 18 else 'test'},,,,,{i % 2}" for i in range(24)]
    )
    given = leakage.Learned.of("runs/B", entire, of_entire.domain, of_entire.split)
    with pytest.raises(UserError, match="Received: --source_run=runs/B, which was trained on 6 of 6"):
        leakage.expect_unseen(given, torn, of_torn.domain, of_torn.split)
    # but of data that show it on the other side themselves
    wholes = [*(f"{{}}{i}.png,train,,,,,{i % 2}" for i in range(24)), *both[24:]]
    shown, of_shown = prepared("shown", wholes)
    leakage.expect_unseen(given, shown, of_shown.domain, of_shown.split)


def test_classes_that_validation_holds_out_have_been_seen(untouched):
    search = untouched[0]
    given = leakage.Learned.of("runs/A", search.config, search.domain, search.split)
    held_out = search.domain.class_names(search.split.validation_classes)
    assert held_out and held_out < given.classes
    tested = dataclasses.replace(search.split, train=search.split.test, test=search.split.validation_classes)
    tested = dataclasses.replace(tested, validation_classes=tested.train[:0], validation_images=tested.train[:0])
    with pytest.raises(UserError, match="has not seen the classes that are tested"):
        leakage.expect_unseen(given, search.config, search.domain, tested)


def test_a_source_that_learned_images_of_validation_is_told(photographs, tmp_path, eagerly):
    """Data without classes hold none out: the images themselves tell."""
    first, path = photographs(40), str(tmp_path / "A")
    pipeline.run(first, RunFolder.create(path, first))
    prepared = preparation.prepare(first)
    given = source_runs.read_source(path, first)
    assert len(given.trained) == len(given.seen)
    (note,) = source_runs.notes(given, prepared.domain, prepared.split)  # and none of a class without a name
    assert "was trained on classes or images that validation holds out here" in note
    apart = leakage.learned_digests(prepared.domain, prepared.split.train)
    kept_apart = dataclasses.replace(given, trained=np.sort(apart))
    assert source_runs.notes(kept_apart, prepared.domain, prepared.split) == []
    # `image` stands for no class
    elsewhere = dataclasses.replace(kept_apart, classes=frozenset({"other/image"}))
    assert source_runs.namesakes(elsewhere, prepared.domain, prepared.split) == []


def test_bad_sources_are_told_before_data_are_read_and_leave_no_folder(source, tmp_path, monkeypatch):
    config, path = source
    monkeypatch.setattr(preparation, "prepare", None)
    wrong = dataclasses.replace(config, image_size=64, source_run=(path,))
    folder = RunFolder.create(str(tmp_path / "new"), wrong)
    with pytest.raises(UserError, match="Expected the image_size of --source_run="), folder.kept_if_used():
        pipeline.run(wrong, folder)
    assert not (tmp_path / "new").exists()
    folder = RunFolder.create(str(tmp_path / "new"), wrong)
    with pytest.raises(ZeroDivisionError), folder.kept_if_used():
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_bad_sources_are_named(source, tmp_path):
    config, path = source
    pretrained = dataclasses.replace(config, trunk_model="lite0.keras")
    RunFolder.create(str(tmp_path / "pretrained"), pretrained).write_json("result.json", {})
    several = dataclasses.replace(config, source_run=(path, str(tmp_path / "pretrained")), transfer=("trunk",))
    with pytest.raises(
        UserError, match="pretrained, which is lite0.keras. Received: trunk_model=.nothing.; name it alone"
    ):
        source_runs.expect_fitting(several.source_run[1], several)
    with pytest.raises(
        UserError, match="Expected the image_size of --source_run=.*, which is 32. Received: image_size=64"
    ):
        source_runs.read_source(path, dataclasses.replace(config, image_size=64))
    with pytest.raises(UserError, match=str(tmp_path)):
        source_runs.read_source(str(tmp_path), config)
    unfinished = dataclasses.replace(config, seed=1)
    RunFolder.create(str(tmp_path / "begun"), unfinished)
    with pytest.raises(
        UserError, match="Expected a finished run in --source_run=.*begun. Received: a run without result.json"
    ):
        source_runs.read_source(str(tmp_path / "begun"), config)
    at_work = RunFolder(str(tmp_path / "begun"))
    with pytest.raises(UserError, match="Expected a finished run.*begun. Received: a run that is still at work; wait"):
        source_runs.read_source(at_work.path, config)
    with pytest.raises(
        UserError, match="Expected --transfer to name some of policy, trunk, towers. Received: transfer=heads"
    ):
        Config(transfer=("heads",))


def test_a_policy_must_be_there_and_be_like_the_searchs_where_it_is_read(source, tmp_path):
    config, path = source
    other = dataclasses.replace(config, conditioning="concat")
    with pytest.raises(
        UserError, match="Expected the conditioning of --source_run=.*, which is film. Received: conditioning=concat"
    ):
        source_runs.expect_fitting(path, other)
    for unread in (dict(transfer=("trunk", "towers")), dict(method="random")):
        source_runs.expect_fitting(path, dataclasses.replace(other, **unread))
    without = dataclasses.replace(config, method="random")
    RunFolder.create(str(tmp_path / "random"), without).write_json("result.json", {})
    missing = "Expected a run that has left a policy in --source_run=.*random. Received: one without"
    begun = dataclasses.replace(config, source_run=(str(tmp_path / "random"),))
    for needs in (
        {},
        dict(match="cosine", transfer=("towers",)),
        dict(match="cosine", source_run=(path, str(tmp_path / "random"))),
    ):
        with pytest.raises(UserError, match=missing):
            source_runs.expect_fitting(str(tmp_path / "random"), dataclasses.replace(begun, **needs))
    # of several it may be another's
    for needs_none in (dict(transfer=("towers",)), dict(source_run=(path, str(tmp_path / "random")))):
        source_runs.expect_fitting(str(tmp_path / "random"), dataclasses.replace(begun, **needs_none))


def test_tested_classes_that_a_source_knows_from_another_domain_are_named(source, untouched):
    search = untouched[0]
    tested = sorted(search.domain.class_names(search.split.test))
    short = tested[0].split("/", 1)[1]
    read = source_runs.read_source(source[1], search.config)
    assert source_runs.namesakes(read, search.domain, search.split) == []
    known = dataclasses.replace(
        read, classes=frozenset([f"other/{short.upper().replace(' ', '+').replace('_', '+')}", "other/moon"])
    )
    (name,) = source_runs.namesakes(known, search.domain, search.split)
    assert name == short.lower().replace("_", " ").replace("-", " ")
    in_other_letters = frozenset([f"{search.domain.name}/{short.upper()}"])
    of_its_own = dataclasses.replace(known, classes=in_other_letters)
    assert source_runs.namesakes(of_its_own, search.domain, search.split) == []
    refused = f"which has seen {search.domain.name}/{re.escape(short.upper())}, here {re.escape(tested[0])}; "
    with pytest.raises(UserError, match=refused):
        leakage.expect_unseen(of_its_own, search.config, search.domain, search.split)
    in_both = dataclasses.replace(known, classes=known.classes | in_other_letters)
    assert source_runs.namesakes(in_both, search.domain, search.split) == [name]
    assert attribute_names.plain("awa/Polar+Bear") == attribute_names.plain(
        "x/polar_bear"
    ) == "polar bear" and attribute_names.plain("x/Tür") != attribute_names.plain("x/Tor")
    assert attribute_names.plain("x/猫") != attribute_names.plain("x/犬")
    (note,) = source_runs.notes(known, search.domain, search.split)
    assert f"called like tested ones ({name})" in note


def test_classes_that_the_data_themselves_tell_apart_are_two_however_alike(untouched):
    search = untouched[0]
    number = search.domain.class_ids[search.split.test[0]]
    other = search.domain.class_ids[search.split.train[0]]
    classes = list(search.domain.classes)
    classes[number], classes[other] = f"{search.domain.name}/C#", f"{search.domain.name}/C"
    domain = dataclasses.replace(search.domain, classes=tuple(classes))
    given = leakage.Learned.of("runs/A", search.config, domain, search.split)
    assert f"{domain.name}/C" in given.classes
    leakage.expect_unseen(given, search.config, domain, search.split)
    untrained = dataclasses.replace(search.split, train=search.split.train[:0])  # where nothing shows the other class
    leakage.expect_unseen(given, search.config, domain, untrained)
    assert attribute_names.respelt(["a/C#", "a/d", "a/☀"], ["b/d", "a/C", "a/c", "a/☂"]) == {"a/C#": "a/C"}


def test_rare_labels_are_among_the_images_that_match():
    labels = np.zeros((9000, 3), np.float32)
    labels[[10, 4000, 8000], 0] = 1
    labels[:, 1] = np.arange(9000) % 2
    labels[:8000, 2] = np.nan
    train = np.arange(1, 9000)
    index, known = matching.match_records(labels, train, np.random.default_rng(0), some=2000)
    assert known[:, 0].sum() == 3 and (known[:, 2] == 0).sum() >= 100 and 2000 < len(index) < 2200
    assert len(np.unique(index)) == len(index) and index.min() >= 1
    few, known = matching.match_records(labels[:, :2], train, np.random.default_rng(0), some=0)
    assert np.isfinite(known).sum(axis=0).tolist() == [103, 200] and 200 <= len(few) <= 303
    np.testing.assert_array_equal(known, np.where(np.isfinite(known), labels[few, :2], np.nan))


def test_images_drawn_for_one_attribute_tell_nothing_of_another():
    """Those of a rare one are no sample of what often comes with it: its predictor would seem that of both."""
    rng = np.random.default_rng(1)
    rare = rng.random(40_000) < 0.003
    often = rare | (rng.random(40_000) < 0.01)
    scores = (rare + 0.1 * rng.normal(size=40_000)).astype(np.float32)
    index, known = matching.match_records(
        np.stack([often, rare], axis=1).astype(np.float32), np.arange(40_000), rng, some=2000
    )
    told = np.isfinite(known[:, 0])
    assert len(index) - told.sum() > 50
    assert auc(known[told, 0], scores[index][told]) == pytest.approx(auc(often, scores), abs=0.05)
    assert auc(often[index], scores[index]) > auc(often, scores) + 0.08


def test_matches_go_by_training_images_alone_and_by_their_classes():
    scores, labels, class_ids = _planted(np.random.default_rng(0))
    train = np.arange(60, 180)
    index, known = matching.match_records(labels, train, np.random.default_rng(0), some=100)
    assert 100 <= len(index) and np.isin(index, train).all()
    found = _found(scores[index], known, class_ids, index)
    wanted = [strength for _, _, strength in _matches(scores[index], known, class_ids[index])]
    assert [match.strength for match in found] == wanted


@pytest.mark.parametrize(("parts", "main_alone"), [(("trunk", "towers"), True), (("towers",), False)])
def test_towers_come_from_the_run_whose_trunk_is_handed_over(source, untouched, parts, main_alone):
    """The second source knows the first attributes, the first one another: its tower would not fit the second's
    trunk.
    """
    search = untouched[0]
    search.config = dataclasses.replace(source[0], domain=("sun",), source_run=(source[1],) * 2, transfer=parts)
    given = source_runs.read_source(source[1], source[0])
    count, labels = len(given.attributes), search.domain.labels

    def score(index):
        scores = np.random.default_rng(0).normal(size=(len(index), 2 * count)).astype(np.float32) * 0.1
        scores[:, count : count + 5] += labels[index, :5]
        scores[:, 3] += labels[index, 6]
        return scores

    matches = matching.find_matches(search, [given, given], score)
    assert [m.source for m in matches[:5]] == [1] * 5 and [m.attribute for m in matches[:5]] == list(range(5))
    assert ({m.source for m in matches} == {1}) == main_alone
    assert main_alone or (matches[6].source, matches[6].attribute) == (0, 3)
