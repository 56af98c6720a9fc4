"""The policy against closed forms, a NumPy LSTM, and itself read in two ways."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from galm_tf import search_space
from galm_tf.controller import EMBEDDING_SIZE, Controller

N = 5
INDICES = search_space.all_indices()
SEED = tf.constant([3, 4])


def _controller(conditioning="film", factor=1.0, seed=1):
    """factor: how much larger than initial the weights are, so that policies are not nearly uniform."""
    controller = Controller(N, embedding_scale=1.0, conditioning=conditioning, seed=seed)
    for name, variable in controller.named_variables.items():
        noise = np.random.default_rng(len(name)).normal(size=variable.shape).astype(np.float32)
        variable.assign(variable * factor + (0.2 * noise if "bias" in name and factor > 1 else 0.0))
    return controller


@pytest.fixture(scope="module", params=["film", "concat"])
def peaked(request):
    return _controller(request.param, 3.0)


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _numpy_log_probs(controller, attribute, actions):
    """log P of each decision, straight from the formulas."""
    v = {name: w.numpy().astype(np.float64) for name, w in controller.named_variables.items()}
    e = v["arm_weight"] @ v["arm_embedding"][attribute]
    if controller.film:
        e = e / np.sqrt(np.mean(e**2) + 1e-6)
    h, c = np.zeros((2, 100)), np.zeros((2, 100))
    last, start, result = v["action_embedding"][-1], 0, []
    for action, count in zip(actions, search_space.NUM_CHOICES):
        x = np.concatenate([e, last])
        for k in range(2):
            gates = x @ v[f"lstm{k}_kernel"] + h[k] @ v[f"lstm{k}_recurrent"] + v[f"lstm{k}_bias"]
            i, f, g, o = np.split(gates, 4)
            c[k] = _sigmoid(f + 1.0) * c[k] + _sigmoid(i) * np.tanh(g)
            x = h[k] = _sigmoid(o) * np.tanh(c[k])
        if controller.film:
            x = x * (1.0 + e @ v["film_scale"]) + e @ v["film_shift"]
        logits = x @ v["heads"][:, start : start + count] + v["head_bias"][start : start + count]
        result.append(logits[action] - np.log(np.exp(logits).sum()))
        last, start = v["action_embedding"][start + action], start + count
    return np.array(result)


def test_zeroed_heads_give_the_uniform_policy():
    controller = _controller()
    controller.heads.assign(tf.zeros_like(controller.heads))
    actions, log_prob, entropy = controller.sample(tf.range(N), SEED)
    np.testing.assert_allclose(log_prob.numpy().sum(1), -np.log(2304), rtol=1e-6)
    np.testing.assert_allclose(entropy.numpy().sum(1), np.log(2304), rtol=1e-6)
    np.testing.assert_allclose(controller.all_log_probs(tf.range(N)).numpy(), -np.log(2304), rtol=1e-6)
    assert actions.dtype == tf.int32


@pytest.mark.parametrize("conditioning,scale", [("film", 1.0), ("concat", 1.0), ("concat", 0.1)])
def test_initial_policy_is_nearly_uniform(conditioning, scale):
    controller = Controller(N, embedding_scale=scale, conditioning=conditioning, seed=0)
    entropy = controller.sample(tf.range(N), SEED)[2].numpy().sum(1)
    assert (entropy > 0.95 * np.log(2304)).all()


def test_only_conditioning_tells_attributes_apart():
    same = _controller(factor=3.0)
    assert np.ptp(same.all_log_probs(tf.range(N)).numpy(), axis=0).max() > 1.0
    same.arm.embedding.assign(tf.tile(same.arm.embedding[:1], [N, 1]))
    assert np.ptp(same.all_log_probs(tf.range(N)).numpy(), axis=0).max() < 1e-4


def test_log_prob_equals_numpy(peaked):
    rng = np.random.default_rng(0)
    actions, ids = INDICES[rng.integers(0, 2304, 12)], rng.integers(0, N, 12)
    got = peaked.log_prob(tf.constant(ids, tf.int32), tf.constant(actions))[0].numpy()
    expected = np.stack([_numpy_log_probs(peaked, i, a) for i, a in zip(ids, actions)])
    assert expected.std() > 0.3  # far from uniform
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_all_log_probs_sum_to_one_and_equal_log_prob(peaked):
    ids = tf.constant([4, 0, 4], tf.int32)
    table = peaked.all_log_probs(ids).numpy()
    assert table.shape == (3, 2304)
    np.testing.assert_allclose(np.exp(table.astype(np.float64)).sum(1), 1.0, atol=1e-5)
    numbers = np.random.default_rng(1).integers(0, 2304, (3, 50))
    for row, i in enumerate(ids.numpy()):
        pairs = tf.fill([50], i), tf.constant(INDICES[numbers[row]])
        one_by_one = peaked.log_prob(*pairs)[0].numpy().sum(1)
        np.testing.assert_allclose(table[row, numbers[row]], one_by_one, atol=2e-5)


def test_sample_returns_the_log_prob_and_entropy_of_its_actions(peaked):
    ids = tf.range(N)
    actions, log_prob, entropy = peaked.sample(ids, SEED)
    again, entropy_again = peaked.log_prob(ids, actions)
    np.testing.assert_allclose(log_prob.numpy(), again.numpy(), atol=1e-6)
    np.testing.assert_allclose(entropy.numpy(), entropy_again.numpy(), atol=1e-6)


def test_entropies_follow_from_the_joint_distribution(peaked):
    """The expected sum of conditional entropies is the entropy of the whole (chain rule)."""
    joint = peaked.all_log_probs(tf.constant([2])).numpy()[0].astype(np.float64)
    conditional = peaked.log_prob(tf.fill([2304], 2), tf.constant(INDICES))[1].numpy().sum(1)
    assert (np.exp(joint) * conditional).sum() == pytest.approx(-(np.exp(joint) * joint).sum(), abs=1e-4)


def test_sampling_frequencies_match_the_probabilities(peaked):
    count = 20000
    ids = tf.fill([count], 3)
    actions = tf.function(peaked.sample)(ids, SEED)[0].numpy()
    drawn = np.bincount(np.ravel_multi_index(tuple(actions.T), search_space.NUM_CHOICES), minlength=2304)
    expected = np.exp(peaked.all_log_probs(tf.constant([3])).numpy()[0].astype(np.float64)) * count
    common = expected >= 8
    assert common.sum() > 20
    observed = np.append(drawn[common], drawn[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3
    uniform = np.full(len(observed), observed.sum() / len(observed))
    assert stats.chisquare(observed, uniform).pvalue < 1e-6  # the check can tell a wrong policy


def test_draws_are_a_function_of_the_seed():
    controller, ids = _controller(), tf.zeros([40], tf.int32)
    first, again, other = (controller.sample(ids, tf.constant(s))[0].numpy() for s in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=1).mean() > 0.9


def test_initial_values_depend_on_the_seed_alone():
    first, again, other = (_controller(seed=s).named_variables for s in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name].numpy(), again[name].numpy())
        if "bias" not in name:
            assert (first[name].numpy() != other[name].numpy()).any()


@pytest.mark.parametrize("conditioning", ["film", "concat"])
def test_named_variables_are_all_variables(conditioning):
    controller = _controller(conditioning)
    named = controller.named_variables
    assert {id(v) for v in named.values()} == {id(v) for v in controller.trainable_variables}
    assert named["lstm0_kernel"].shape == (2 * EMBEDDING_SIZE, 400) and named["lstm1_kernel"].shape == (100, 400)
    assert named["heads"].shape == (100, 22) and named["action_embedding"].shape == (23, EMBEDDING_SIZE)
    assert ("film_scale" in named) == (conditioning == "film")


@pytest.mark.parametrize("conditioning", ["film", "concat"])
def test_every_variable_gets_a_gradient(conditioning):
    controller = _controller(conditioning)
    with tf.GradientTape() as tape:
        log_prob = controller.log_prob(tf.range(N), tf.constant(INDICES[::500][:N]))[0]
        target = tf.reduce_sum(log_prob * tf.range(1.0, 11.0))
    gradients = tape.gradient(target, controller.named_variables)
    for name, gradient in gradients.items():
        assert gradient is not None and np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, name
