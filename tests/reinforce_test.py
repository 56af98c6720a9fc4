"""REINFORCE by hand, the order of its baseline, and planted rewards it must find."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import controller_training, reinforce, search_space
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.draws import Stream, generator
from galm_tf.metrics import reward_columns
from galm_tf.reinforce import Reinforce
from galm_tf.reward import ScoringImages
from galm_tf.scoring import Scoring
from galm_tf.supernet import build_supernet
from planted_rewards import INDICES, planted, quality

N = 4
PLAIN = Config(controller_optimizer="sgd", controller_learning_rate=0.5, entropy_weight=0.0, normalize_advantage=False)
ADAM = Config(controller_learning_rate=5e-3, samples_per_step=32)
PAPER = Config(
    conditioning="concat",
    embedding_scale=0.1,
    controller_optimizer="sgd",
    controller_learning_rate=1e-4,
    entropy_weight=0.0,
    baseline="global",
    normalize_advantage=False,
    samples_per_step=1,
)


def _build(config, total_steps=100, num_attributes=N, seed=0):
    controller = Controller(
        num_attributes, embedding_scale=config.embedding_scale, conditioning=config.conditioning, seed=seed
    )
    return controller, Reinforce(controller, config, total_steps, seed=11)


def _values(trainer):
    return {name: v.numpy() for name, v in trainer.named_variables.items()}


def _give(trainer, ids, rewards, numbers, step=0):
    """One step with the given rewards of the architectures of these numbers."""
    actions = tf.constant(INDICES[numbers])
    return trainer.step_with_rewards(tf.constant(ids, tf.int32), actions, tf.constant(rewards, tf.float32), step)


def _one_hot(numbers):
    return np.concatenate([np.eye(n)[INDICES[numbers][:, d]] for d, n in enumerate(search_space.NUM_CHOICES)], axis=1)


# ---- One step by hand ----------------------------------------------------------


def test_a_step_moves_the_weights_as_equation_5_says(eagerly):
    controller, trainer = _build(PLAIN)
    ids, first, numbers = [2, 0, 3], [0.6, 0.7, 0.5], [100, 2000, 1234]
    _give(trainer, ids, first, numbers)  # the baselines of these attributes are their first rewards
    rewards = np.array([0.9, 0.5, 0.6])
    advantages = rewards - np.array(first)
    before = _values(trainer)

    def objective():  # mean over samples of advantage * log P
        log_prob = controller.log_prob(tf.constant(ids), tf.constant(INDICES[numbers]))[0].numpy()
        return float((advantages * log_prob.astype(np.float64).sum(1)).mean())

    expected = {}
    for name in ("arm_embedding", "arm_weight", "action_embedding", "lstm0_kernel", "lstm1_recurrent", "film_scale"):
        variable, start = controller.named_variables[name], before[f"policy/{name}"]
        gradient = _gradient(controller, variable, ids, numbers, advantages)
        largest = np.unravel_index(np.abs(gradient).argmax(), start.shape)
        sides = []
        for shift in (0.05, -0.05):
            moved = start.copy()
            moved[largest] += shift
            variable.assign(moved)
            sides.append(objective())
        variable.assign(start)
        expected[name] = largest, (sides[0] - sides[1]) / 0.1
    probabilities = np.exp(controller.all_log_probs(tf.constant(ids)).numpy())
    _give(trainer, ids, rewards, numbers)
    after = _values(trainer)
    for name, (place, slope) in expected.items():
        moved = after[f"policy/{name}"][place] - before[f"policy/{name}"][place]
        assert abs(slope) > 1e-4, name
        assert moved == pytest.approx(0.5 * slope, rel=0.02), name
    # Closed form where decisions do not depend on earlier ones: the first head's bias, one-hot minus probability.
    gradient = _one_hot(numbers)[:, :2] - probabilities @ _one_hot(np.arange(2304))[:, :2]
    moved = after["policy/head_bias"][:2] - before["policy/head_bias"][:2]
    np.testing.assert_allclose(moved, 0.5 * (advantages[:, None] * gradient).mean(0), rtol=1e-3)


def _gradient(controller, variable, ids, numbers, advantages):
    """Only to pick a weight that matters; the expected values are numeric."""
    with tf.GradientTape() as tape:
        log_prob = controller.log_prob(tf.constant(ids), tf.constant(INDICES[numbers]))[0]
        target = tf.reduce_mean(tf.constant(advantages, tf.float32) * tf.reduce_sum(log_prob, 1))
    return tf.convert_to_tensor(tape.gradient(target, variable)).numpy()


def test_the_advantage_uses_previous_rewards_and_the_baseline_moves_after(eagerly):
    _, trainer = _build(PLAIN)
    start = _values(trainer)
    first = _give(trainer, [0, 1], [0.6, 0.8], [5, 7])
    assert first["controller/advantage"] == 0.0 and first["controller/baseline"] == pytest.approx(0.7)
    for name, value in _values(trainer).items():
        if name.startswith("policy/"):
            np.testing.assert_array_equal(value, start[name])  # no advantage, no gradient
    second = _give(trainer, [0], [0.9], [5])
    assert second["controller/baseline"] == pytest.approx(0.6)
    assert second["controller/advantage"] == pytest.approx(0.3, abs=1e-6)
    expected = [0.95 * 0.6 + 0.05 * 0.9, 0.8, 0.0, 0.0]
    np.testing.assert_allclose(trainer.baseline.numpy(), expected, rtol=1e-6)
    third = _give(trainer, [0, 0], [0.7, 0.5], [5, 6])
    assert third["controller/baseline"] == pytest.approx(expected[0])
    assert trainer.baseline.numpy()[0] == pytest.approx(0.95 * expected[0] + 0.05 * 0.6)
    late = _give(trainer, [2], [0.4], [5])  # others have been seen before it
    assert late["controller/baseline"] == pytest.approx(0.4) and late["controller/advantage"] == 0.0


def test_a_global_baseline_is_shared(eagerly):
    _, trainer = _build(dataclasses.replace(PLAIN, baseline="global"))
    _give(trainer, [0], [0.6], [5])
    assert _give(trainer, [1], [0.8], [5])["controller/advantage"] == pytest.approx(0.2, abs=1e-6)
    np.testing.assert_allclose(trainer.baseline.numpy(), [0.95 * 0.6 + 0.05 * 0.8], rtol=1e-6)


def test_normalised_advantages_equal_numpy():
    """The loss is -(advantage / scale) * log P, the scale being the peak of the corrected running mean square."""
    config = dataclasses.replace(PLAIN, normalize_advantage=True, controller_learning_rate=0.0)
    controller, trainer = _build(config)
    log_prob = float(controller.log_prob(tf.constant([1]), tf.constant(INDICES[[50]]))[0].numpy().sum())
    rng = np.random.default_rng(0)
    baseline, square, peak, largest = 0.0, 0.0, 0.0, 0.0
    for k in range(40):
        reward = 0.6 + 0.02 * rng.normal() / (1 + k)  # a spread that shrinks, as that of a policy does
        baseline = reward if k == 0 else baseline
        raw = reward - baseline
        square = 0.95 * square + 0.05 * raw**2
        peak, corrected = max(peak, square), square / (1 - 0.95 ** (k + 1))
        scaled = raw / max(np.sqrt(max(peak, corrected)), 1e-4)
        loss = _give(trainer, [1], [reward], [50])["controller/loss"]
        assert loss == pytest.approx(-scaled * log_prob, rel=2e-3, abs=2e-3)
        baseline, largest = 0.95 * baseline + 0.05 * reward, max(largest, abs(scaled))
    assert 0.5 < largest < np.sqrt(20.0)  # no single reward is worth more than sqrt(1 / 0.05)


def test_the_first_rewards_of_an_attribute_are_scaled_by_their_own_spread(eagerly):
    config = dataclasses.replace(PLAIN, normalize_advantage=True, controller_learning_rate=0.0)
    controller, trainer = _build(config)
    actions = tf.constant(INDICES[[50, 1000]])
    log_prob = controller.log_prob(tf.constant([1, 1]), actions)[0].numpy().sum(axis=1)
    loss = _give(trainer, [1, 1], [0.6, 0.64], [50, 1000])["controller/loss"]
    assert loss == pytest.approx(-(log_prob * [-1, 1]).mean(), rel=1e-3)


def test_entropy_weight_falls_linearly_to_a_tenth(eagerly):
    controller, trainer = _build(dataclasses.replace(PLAIN, entropy_weight=0.3, controller_learning_rate=0.0))
    for step, share in ((0, 1.0), (50, 0.55), (100, 0.1), (900, 0.1)):
        entropy = controller.log_prob(tf.constant([1]), tf.constant(INDICES[[50]]))[1].numpy().sum()
        loss = _give(trainer, [1], [0.6], [50], step)["controller/loss"]  # no advantage: the bonus alone
        assert loss == pytest.approx(-0.3 * share * entropy, rel=1e-4)


def test_an_entropy_bonus_spreads_a_peaked_policy():
    controller, trainer = _build(dataclasses.replace(ADAM, entropy_weight=1.0))
    controller.head_bias.assign(3.0 * np.random.default_rng(0).normal(size=22).astype(np.float32))
    table, rewarded = np.full((N, 2304), 0.7, np.float32), np.ones(N, bool)
    first, *_, last = (trainer.train_on_table(table, rewarded, step, 10) for step in range(0, 50, 10))
    assert last["controller/entropy"] > first["controller/entropy"] + 0.5
    assert last["controller/advantage"] == pytest.approx(0.0, abs=1e-6)


def test_samples_without_a_reward_leave_no_trace(eagerly):
    config = dataclasses.replace(PLAIN, entropy_weight=0.3)
    (_, with_nan), (_, without) = _build(config), _build(config)
    for reward in (0.6, 0.8):
        some = _give(with_nan, [0, 1, 0], [reward, np.nan, np.nan], [5, 7, 9])
        alone = _give(without, [0], [reward], [5])
        assert some == pytest.approx(alone, rel=1e-4, abs=1e-6)
    expected = _values(without)
    for name, value in _values(with_nan).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    nothing = _give(with_nan, [0, 1], [np.nan, np.nan], [5, 7])
    assert all(v == 0.0 for v in nothing.values())
    np.testing.assert_array_equal(with_nan.seen.numpy(), [2, 0, 0, 0])


# ---- Draws ------------------------------------------------------------------------


@pytest.mark.parametrize("samples,count", [(3, 7), (7, 7), (16, 5)])
def test_attributes_are_drawn_equally_often(samples, count):
    totals = np.zeros(count)
    for step in range(200):
        rows = reinforce._draw_rows(tf.constant([1, step]), samples, tf.constant(count)).numpy()
        drawn = np.bincount(rows, minlength=count)
        assert drawn.max() - drawn.min() <= 1 and drawn.sum() == samples
        totals += drawn
    mean = 200 * samples / count
    np.testing.assert_allclose(totals, mean, atol=4 * np.sqrt(mean))


def test_which_attributes_are_drawn_is_not_told_by_what_draws_their_architectures():
    seeds = [tf.constant([1, step]) for step in range(20)]
    noise = [np.argsort(tf.random.stateless_uniform([7], seed)) for seed in seeds]
    drawn = [reinforce._draw_rows(seed, 7, tf.constant(7)).numpy() for seed in seeds]
    assert np.mean([(a == b).mean() for a, b in zip(noise, drawn)]) < 0.3  # a seventh by chance


def test_place_values_give_the_row_of_the_table():
    np.testing.assert_array_equal(INDICES @ reinforce._place_values(), np.arange(2304))


def test_rewards_are_those_of_the_sampled_architectures(eagerly):
    """A table that holds its own row and column betrays any wrong look-up."""
    controller, trainer = _build(dataclasses.replace(ADAM, controller_learning_rate=0.0))
    table = np.arange(N)[:, None] + np.arange(2304)[None] / 4096.0
    metrics = trainer.train_on_table(table.astype(np.float32), np.ones(N, bool), 5, 1)
    seed = tf.constant([11, 5])
    ids = reinforce._draw_rows(seed, 32, tf.constant(N))
    actions = controller.sample(ids, seed)[0].numpy()
    expected = table[ids.numpy(), np.ravel_multi_index(tuple(actions.T), search_space.NUM_CHOICES)].mean()
    assert metrics["controller/reward"] == pytest.approx(expected, rel=1e-5)


def test_only_rewarded_attributes_are_trained(eagerly):
    controller, trainer = _build(ADAM)
    table = planted([7, 900, 1500, 2300])
    table[[0, 2]] = np.nan
    before = controller.arm.embedding.numpy()
    metrics = trainer.train_on_table(table, np.array([False, True, False, True]), 0, 3)
    assert np.isfinite(list(metrics.values())).all()
    moved = np.abs(controller.arm.embedding.numpy() - before).max(1) > 0
    assert moved.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(trainer.seen.numpy(), [0, 3, 0, 3])


# ---- Learning -----------------------------------------------------------------------

OWN = [0, 2303, 700, 1611]
MANY = np.random.default_rng(5).choice(search_space.NUM_ARCHITECTURES, 24, replace=False)


def _learn(config, targets, steps):
    controller, trainer = _build(config, 150, len(targets))
    table, rewarded = planted(targets), np.ones(len(targets), bool)
    first = trainer.train_on_table(table, rewarded, 0, 10)
    last = trainer.train_on_table(table, rewarded, 10, steps - 10)
    return quality(controller, table), first, last


def test_a_planted_reward_is_found():
    quality, first, last = _learn(ADAM, [1357] * N, 100)
    assert quality > 0.95
    assert last["controller/reward"] > first["controller/reward"] + 0.002
    assert last["controller/entropy"] < first["controller/entropy"] - 1.0


def test_a_planted_reward_is_not_found_at_learning_rate_0():
    quality, first, last = _learn(dataclasses.replace(ADAM, controller_learning_rate=0.0), [1357] * N, 100)
    assert quality < 0.6
    assert last["controller/reward"] == pytest.approx(first["controller/reward"], abs=1e-3)


def test_every_attribute_finds_its_own_planted_optimum():
    assert _learn(ADAM, MANY, 100)[0] > 0.85


def test_weak_concatenation_does_not_find_them_in_the_same_steps():
    weak = dataclasses.replace(ADAM, conditioning="concat", embedding_scale=0.1)
    assert _learn(weak, MANY, 100)[0] < 0.65


def test_the_papers_settings_do_not_even_find_a_shared_one():
    assert _learn(PAPER, [1357] * N, 150)[0] < 0.5


@pytest.mark.parametrize("config", [ADAM, dataclasses.replace(PAPER, samples_per_step=8, normalize_advantage=True)])
def test_every_weight_moves(config, eagerly):
    _, trainer = _build(config)
    before = _values(trainer)
    trainer.train_on_table(planted(OWN), np.ones(N, bool), 0, 5)
    for name, value in _values(trainer).items():
        assert (value != before[name]).any(), name


def test_more_steps_are_the_same_steps_taken_in_two_parts():
    table, rewarded = planted(OWN), np.ones(N, bool)
    _, first = _build(ADAM)
    start = _values(first)
    first.train_on_table(table, rewarded, 0, 12)
    expected = _values(first)
    for name, variable in first.named_variables.items():
        variable.assign(start[name])
    first.train_on_table(table, rewarded, 0, 5)
    _, second = _build(ADAM, seed=99)  # other initial values: the restored ones must count
    for name, variable in second.named_variables.items():
        variable.assign(first.named_variables[name])
    second.train_on_table(table, rewarded, 5, 7)
    for name, value in _values(second).items():
        # threads add in any order
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_named_variables_are_all_variables():
    for config in (ADAM, PLAIN):
        _, trainer = _build(config)
        names = trainer.named_variables
        held = {id(v) for v in trainer.variables} | {id(v) for v in trainer._controller.variables}
        assert {id(v) for v in names.values()} == held and len(names) == len(held)


# ---- Rewards of mini-batches ---------------------------------------------------


class _Policy:
    """Draws what it was given, and remembers what it is told."""

    numbers = np.arange(6) * 380

    def __init__(self):
        self.reinforce, self.seeds, self.told = self, [], []

    def draw(self, ids, seed):
        self.seeds.append(tuple(seed.numpy()))
        return tf.constant(INDICES[self.numbers])

    def step_with_rewards(self, ids, actions, rewards, step):
        self.told.append((ids.numpy(), rewards.numpy(), step))


class _Towers:
    """Scores that tell image, attribute and architecture."""

    def tower_logits(self, maps, ids, actions, count):
        assert int(count) == len(maps[0]) == 20
        scores = self.scores(maps[0].numpy(), ids.numpy(), actions.numpy())
        return tf.constant(np.stack([0 * scores, scores], axis=-1))

    @staticmethod
    def scores(images, ids, actions):
        return np.sin(images[:, None] * (1 + ids) + actions @ np.arange(1, 11)).astype(np.float32)


@pytest.mark.parametrize("kind", ["auc", "accuracy"])
def test_a_reward_of_a_mini_batch_is_that_of_its_images_attribute_and_architecture(kind, monkeypatch, eagerly):
    monkeypatch.setattr(controller_training, "gates_from_indices", lambda actions: actions)
    monkeypatch.setattr(controller_training, "_TOGETHER", 4)  # of the six of a step
    labels = np.random.default_rng(0).integers(0, 2, (50, N)).astype(np.float32)
    labels[:, 0], labels[::3, 1], labels[:, 2] = np.nan, np.nan, 1.0
    images = np.arange(50, dtype=np.float32)
    config = Config(
        reward_data="batch", reward_bn="batch", size_penalty=0.0, reward=kind, batch_size=20, samples_per_step=6
    )
    offsets, policy, batches = np.float32([0, 0.3, -0.3, 0.6]), _Policy(), []
    made = controller_training.BatchRewards(_Towers(), ScoringImages((images,), 0, labels, None), config, offsets)
    monkeypatch.setattr(
        made, "_margins", lambda rows, *others: batches.append(rows.numpy()) or made._score(rows, *others)
    )
    for step in range(3):
        made.step(policy, step)
    batches = batches[::2]  # of the first four and of the other two it is the same
    assert {int(i) for ids, *_ in policy.told for i in ids} == {1, 2, 3}  # nothing is known of the other
    assert [step for *_, step in policy.told] == [0, 1, 2]
    assert len(set(policy.seeds)) == len({*map(tuple, batches)}) == 3
    for rows, (ids, rewards, _) in zip(batches, policy.told):
        assert len(set(rows)) == 20
        scores = _Towers.scores(images[rows], ids, INDICES[_Policy.numbers])
        for k, i in enumerate(ids):
            known = np.isfinite(labels[rows, i])
            if (kind, i) == ("auc", 2):  # of one kind of label
                assert np.isnan(rewards[k])
                continue
            expected = reward_columns(kind, labels[rows, i][known], scores[None, known, k], offsets[i])
            assert rewards[k] == pytest.approx(expected[0])


def _rewards(supernet, maps, leading, labels, **settings):
    """`BatchRewards` on these maps, and the rows and margins of every step to come."""
    config = Config(reward_data="batch", size_penalty=0.0, reward="accuracy", **settings)
    images = ScoringImages(tuple(maps), leading, labels, None)
    made, seen = controller_training.BatchRewards(supernet, images, config, np.zeros(labels.shape[1])), []
    score = made._margins

    def margins(rows, *others):
        seen.append((rows.numpy(), score(rows, *others)))
        return seen[-1][1]

    made._margins = margins
    return made, seen


def test_a_score_does_not_depend_on_the_other_images_of_the_mini_batch(eagerly):
    leading, rng = 16, np.random.default_rng(0)
    net = build_supernet(1, 32, 0.0, 0)
    spread = rng.uniform(0.1, 1, (leading + 30, 1, 1, 1))
    pixels = rng.uniform(-1, 1, (leading + 30, 32, 32, 3)) * spread + rng.uniform(-0.5, 0.5, spread.shape)
    maps = [m.numpy() for m in net.trunk(pixels.astype(np.float32), training=True)]
    policy, labels = _Policy(), (np.arange(30)[:, None] % 2).astype(np.float32)
    policy.numbers = np.array([777])
    made, seen = _rewards(net, maps, leading, labels, batch_size=20, samples_per_step=1)
    for step in range(2):
        made.step(policy, step)
    first, second = (dict(zip(rows, scores.numpy()[:, 0])) for rows, scores in seen)
    both = sorted({*first} & {*second})
    assert len(first) == len(second) == 20 > len(both) >= 10
    np.testing.assert_allclose([first[row] for row in both], [second[row] for row in both], rtol=1e-4, atol=1e-5)
    # those of the exact rewards' network
    chosen = Scoring(net).score_chosen(ScoringImages(tuple(maps), leading, labels, None), [0], [777])[:, 0]
    np.testing.assert_allclose([first[row] for row in both], chosen[both], rtol=1e-4, atol=1e-5)


def test_a_mini_batch_is_of_images_that_can_judge_its_attribute(monkeypatch, eagerly):
    monkeypatch.setattr(controller_training, "gates_from_indices", lambda actions: actions)
    labels = np.full((60, 2), np.nan, np.float32)
    labels[:25, 0], labels[25:, 1] = 1.0, 0.0  # of two domains
    maps, policy = [np.arange(60, dtype=np.float32)], _Policy()
    policy.numbers = policy.numbers[:1]
    made, seen = _rewards(_Towers(), maps, 0, labels, batch_size=20, samples_per_step=1)
    for step in range(6):
        made.step(policy, step)
    told = [(int(ids[0]), rewards[0]) for ids, rewards, _ in policy.told]
    assert {attribute for attribute, _ in told} == {0, 1} and np.isfinite([reward for _, reward in told]).all()
    for (attribute, _), (rows, _) in zip(told, seen):
        assert len({*rows}) == 20 and ((rows < 25) == (attribute == 0)).all()


def test_where_all_is_known_the_draws_are_of_all_images(monkeypatch, eagerly):
    monkeypatch.setattr(controller_training, "gates_from_indices", lambda actions: actions)
    policy = _Policy()
    maps, labels = [np.arange(50, dtype=np.float32)], np.ones((50, 3), np.float32)
    made, seen = _rewards(_Towers(), maps, 0, labels, batch_size=20, samples_per_step=6)
    made.step(policy, 4)
    rng = generator(0, Stream.CONTROLLER, 5)
    np.testing.assert_array_equal(policy.told[0][0], rng.choice(3, 6))
    np.testing.assert_array_equal(seen[0][0], rng.choice(50, 20, replace=False))
