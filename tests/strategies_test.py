"""Every method on planted tables: what it must find, and what it must not."""

import functools

import numpy as np
import pytest
from planted_rewards import planted
from scipy.stats import norm

from galm_tf import controller_training, search_space, selection
from galm_tf.config import COUNTING, Config
from galm_tf.config import METHODS as NAMES
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable
from galm_tf.strategies import METHODS, bayesian, enas, progressive, sequential
from galm_tf.tracing import untraced

N = 4
LEARNED = ["galm", "evolution", "enas", "enas_each", "random_search", "bayesian", "progressive"]
SEQUENTIAL = ["random_search", "bayesian", "progressive"]
BUDGET = dict(controller_steps=300, samples_per_step=32, rounds=1)


def _additive(rng, rows):
    """Rewards that are sums over decisions, so that every kind of search can climb: [rows, 2304]."""
    worth = [rng.normal(size=(rows, count)) for count in search_space.NUM_CHOICES]
    indices = search_space.all_indices()
    return (0.7 + 0.02 * sum(w[:, indices[:, d]] for d, w in enumerate(worth))).astype(np.float32)


def _table(full, rewarded=None):
    full = full.copy()
    if rewarded is not None:
        full[~np.asarray(rewarded)] = np.nan
    return RewardTable(full, (full, full))


def _share(table, chosen):
    """(chosen - mean) / (best - mean) over rewarded attributes."""
    rows = np.flatnonzero(table.rewarded)
    rewards = table.full[rows]
    mean = rewards.mean(1)
    return ((rewards[np.arange(len(rows)), chosen[rows]] - mean) / (rewards.max(1) - mean)).mean()


def _searched(method, table, **changes):
    strategy = METHODS[method](N, Config(method=method, **{**BUDGET, **changes}))
    steps = strategy.config.controller_steps
    if strategy.learns:
        strategy.train_on_table(table, 0, steps // 2)
        strategy.train_on_table(table, steps // 2, steps - steps // 2)
    return strategy, strategy.choose(table)


@functools.lru_cache(None)
def _learned(method, common):
    """(table, strategy, what it chose) after a search on planted rewards, of one attribute for all or of each
    attribute's own; not to be changed.
    """
    table = _table(
        np.repeat(_additive(np.random.default_rng(5), 1), N, axis=0)
        if common
        else _additive(np.random.default_rng(0), N)
    )
    return (table, *_searched(method, table))


def test_fewer_evaluations_than_were_asked_for_are_told_once(caplog):
    sequential._tell_of_less.cache_clear()
    for asked in (1536, 1536, Config().evaluations):
        assert METHODS["random_search"](251, Config(evaluations=asked)).budget == min(asked, 509)
    METHODS["random_search"](251, Config(controller_steps=10))  # nobody asked for the default
    (told,) = caplog.messages
    assert "--evaluations=1536" in told and "509 for each of 251 attributes" in told


def test_the_flag_names_every_method():
    assert set(NAMES) == set(METHODS)


@pytest.mark.parametrize("method", ["galm", "enas_each", "evolution", "exhaustive", "bayesian", "progressive"])
def test_methods_with_attributes_find_each_ones_own_optimum(method):
    table, _, chosen = _learned(method, common=False)
    assert _share(table, chosen) > 0.95
    assert len(set(chosen)) > 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["single_best", "enas"])
@pytest.mark.parametrize("judged", [0, 1])
def test_halves_that_judge_little_or_nothing_are_no_warning(method, judged, eagerly):
    full = _additive(np.random.default_rng(0), N).astype(np.float32)
    half = full.copy()
    half[judged:] = np.nan
    strategy = METHODS[method](N, Config(method=method, **BUDGET))
    table = RewardTable(full, (half, half))
    strategy.train_on_table(table, 0, 2)
    assert len(set(strategy.choose(table))) == 1
    strategy.figures(table)


def test_entropy_is_of_attributes_that_have_rewards(monkeypatch):
    """What nothing judges is never learned, and its policy stays as it began."""
    full = np.full((N, 2304), np.nan, np.float32)
    full[1:] = 0.5
    strategy = METHODS["galm"](N, Config(**BUDGET))
    sure, unsure = np.full(2304, -50.0), np.full(2304, -np.log(2304))
    sure[7] = 0.0
    monkeypatch.setattr(strategy, "log_probs", lambda: np.stack([unsure, *[sure] * (N - 1)]))
    assert strategy.figures(RewardTable(full, (full, full)))["entropy"] == pytest.approx(0.0, abs=1e-6)
    assert strategy.figures(None)["entropy"] == pytest.approx(np.log(2304) / N)


def test_regret_is_of_the_most_probable_networks_whatever_is_chosen_of_them(monkeypatch):
    strategy, table = METHODS["galm"](N, Config(**BUDGET)), _table(_additive(np.random.default_rng(9), N))
    log_probs = np.random.default_rng(10).normal(size=(N, 2304))
    monkeypatch.setattr(strategy, "log_probs", lambda: log_probs)
    probable, chosen = selection.most_probable(log_probs), strategy.choose(table)
    assert (probable != chosen).any()  # the best by reward of many
    assert strategy.figures(table)["regret"] == pytest.approx(selection.regret(table, probable))
    assert selection.regret(table, probable) > selection.regret(table, chosen)


def test_a_policy_is_drawn_by_the_runs_seed_and_explores_less_over_all_rounds(monkeypatch):
    made, reinforce = [], controller_training.Reinforce

    def recorded(controller, config, total, seed, trained):
        made.append((total, seed, trained))
        return reinforce(controller, config, total, seed, trained)

    monkeypatch.setattr(controller_training, "Reinforce", recorded)
    for seed in (0, 0, 1):
        controller_training.ControllerTraining(2, Config(rounds=3, controller_steps=50, seed=seed), ("arm_embedding",))
    (total, first, trained), again, (_, second, _) = made
    assert (total, trained) == (150, ("arm_embedding",)) and again == made[0] and first != second


@pytest.mark.parametrize("method", ["single_best", "enas"])
def test_methods_without_attributes_give_one_architecture_to_all(method):
    table, _, chosen = _learned(method, common=True)
    assert len(set(chosen)) == 1 and _share(table, chosen) > 0.9
    # attributes that agree in nothing: one architecture cannot serve all
    table, _, chosen = _learned(method, common=False)
    assert len(set(chosen)) == 1
    assert _share(table, chosen) < 0.9 < _share(table, table.full.argmax(axis=1))


def test_policies_of_their_own_know_nothing_of_one_another(eagerly):
    """Equal rewards, other draws."""
    table = _table(np.repeat(_additive(np.random.default_rng(5), 1), N, axis=0))
    policies = _searched("enas_each", table, controller_steps=4)[0].log_probs()
    assert min(np.abs(a - b).max() for i, a in enumerate(policies) for b in policies[:i]) > 1e-4


def test_policies_of_their_own_go_on_where_they_were(eagerly):
    table = _table(_additive(np.random.default_rng(5), 1))
    whole, parts = (METHODS["enas_each"](1, Config(method="enas_each", **BUDGET)) for _ in range(2))
    whole.train_on_table(table, 0, 4)
    for first in (0, 2):
        parts.train_on_table(table, first, 2)
    np.testing.assert_allclose(parts.log_probs(), whole.log_probs(), atol=1e-4)


def test_policies_of_their_own_serve_attributes_without_a_reward_by_what_is_good_on_average():
    full = np.repeat(_additive(np.random.default_rng(5), 1), N, axis=0)
    _, chosen = _searched("enas_each", _table(full, rewarded=[True, False, True, False]), controller_steps=200)
    assert _share(_table(full, rewarded=[False, True, False, True]), chosen) > 0.9 and chosen[1] == chosen[3]


@pytest.mark.parametrize("method", [*LEARNED, "single_best", "exhaustive"])
def test_an_attribute_without_a_reward_gets_a_choice(method, eagerly):
    table = _table(_additive(np.random.default_rng(3), N), rewarded=[True, False, True, True])
    _, chosen = _searched(method, table, controller_steps=2, evaluations=12)
    assert ((0 <= chosen) & (chosen < search_space.NUM_ARCHITECTURES)).all()
    nothing = _table(np.zeros((N, 2304), np.float32), rewarded=[False] * N)
    _, chosen = _searched(method, nothing, controller_steps=2, evaluations=12)
    assert ((0 <= chosen) & (chosen < search_space.NUM_ARCHITECTURES)).all()


def test_exhaustive_and_single_best_equal_the_tables_maxima():
    full = _additive(np.random.default_rng(4), N)
    table = _table(full, rewarded=[True, True, True, False])
    _, own = _searched("exhaustive", table)
    _, single = _searched("single_best", table)
    best_mean = full[:3].mean(axis=0).argmax()
    assert own.tolist() == [*full[:3].argmax(axis=1), best_mean] and single.tolist() == [best_mean] * N


def test_one_for_all_goes_by_the_mean_of_those_that_are_judged():
    full = np.full((3, search_space.NUM_ARCHITECTURES), 0.5, np.float32)
    full[0, 7], full[:2, 9], full[2] = 0.9, 0.8, np.nan
    halves = full - 0.1, full + 0.1
    halves[1][1] = np.nan
    table = RewardTable(full, halves)
    mean = enas._mean(table)
    for row, wanted in zip((mean.full, *mean.halves), ((0.7, 0.8), (0.6, 0.7), (1.0, 0.9))):
        assert row.shape == (1, search_space.NUM_ARCHITECTURES) and row[0, [7, 9]] == pytest.approx(wanted)
    assert METHODS["single_best"](3, Config(method="single_best")).choose(table).tolist() == [9] * 3


def test_random_depends_on_the_seed_and_the_split():
    choices = [METHODS["random"](50, Config(method="random", seed=seed)).choose(None) for seed in (0, 0, 1)]
    assert (choices[0] == choices[1]).all() and (choices[0] != choices[2]).any()
    assert len(set(choices[0])) > 40
    # paired splits: each its own draw
    other_split = METHODS["random"](50, Config(method="random", split_seed=0)).choose(None)
    assert (other_split != choices[0]).any()


@pytest.mark.parametrize("method", LEARNED)
def test_samples_are_architectures_and_follow_what_was_learned(method):
    table, strategy, _ = _learned(method, common=method == "enas")
    samples = np.stack([strategy.sample(np.array([7, step], np.int32)) for step in range(20)])
    assert samples.shape == (20, N, 10) and (samples < search_space.NUM_CHOICES).all() and (samples >= 0).all()
    numbers = np.ravel_multi_index(tuple(np.moveaxis(samples, -1, 0)), search_space.NUM_CHOICES)
    for full, drawn in zip(table.full, numbers.T):
        assert full[drawn].mean() > np.quantile(full, 0.9)
    assert (strategy.sample(np.array([7, 0], np.int32)) == samples[0]).all()


def test_few_attributes_are_sampled_by_the_written_out_policy_with_the_same_chances():
    policy = METHODS["galm"](2, Config(seed=3))
    for name in ("policy/heads", "policy/head_bias"):
        policy.variables[name].assign(40.0 * policy.variables[name])
    marginals, sampler = policy.choice_probabilities(), policy.sampler()
    at_once = policy.sample_for(np.tile(np.arange(2, dtype=np.int32), 600), np.array([7, 0], np.int32)).reshape(
        600, 2, 10
    )
    for samples in (at_once, np.stack([sampler(np.array([7, step], np.int32)) for step in range(600)])):
        for d, expected in enumerate(marginals):
            found = (samples[:, :, d, None] == np.arange(expected.shape[1])).mean(axis=0)
            np.testing.assert_allclose(found, expected, atol=0.08)
    assert max(abs(expected - 1 / expected.shape[1]).max() for expected in marginals) > 0.2  # far from uniform
    assert (sampler(np.array([7, 5], np.int32)) == sampler(np.array([7, 5], np.int32))).all()
    many = METHODS["galm"](17, Config())
    assert many.sampler() == many.sample


@pytest.mark.parametrize("method", LEARNED)
def test_crossfitting_starts_anew_and_leaves_the_state_alone(method):
    table = _table(_additive(np.random.default_rng(6), N))
    with untraced(method != "galm"):  # one is: what was traced must not remember the search
        strategy, _ = _searched(method, table, controller_steps=2, evaluations=12)
        before = {name: v.numpy() for name, v in strategy.variables.items()}
        choices = strategy.crossfit(table)
    assert (choices[0] == choices[1]).all()  # both halves are the same here
    for name, value in before.items():
        np.testing.assert_array_equal(strategy.variables[name].numpy(), value)


@pytest.mark.parametrize("learned", [False, True])
def test_crossfitting_shows_each_choice_its_own_half_alone(learned):
    """What the other half, or the whole, says would make a skill of what was seen."""
    shown = []

    class Greedy(METHODS["exhaustive"]):
        learns, chunk_steps = learned, 2

        def train_on_table(self, table, first_step, num_steps):
            shown.append((table, first_step, num_steps))
            return {}

    full, *halves = (_additive(np.random.default_rng(seed), N) for seed in range(3))
    choices = Greedy(N, Config(rounds=1, controller_steps=5)).crossfit(RewardTable(full, tuple(halves)))
    for chosen, half in zip(choices, halves):
        np.testing.assert_array_equal(half[np.arange(N), chosen], half.max(axis=1))
    assert [steps for _, *steps in shown] == [[0, 2], [2, 2], [4, 1]] * 2 * learned
    for place, (seen, *_) in enumerate(shown):
        assert all(part is halves[place // 3] for part in (seen.full, *seen.halves))


def test_evolution_changes_one_decision_at_a_time_and_forgets_the_oldest():
    strategy = METHODS["evolution"](N, Config(method="evolution", samples_per_step=N))
    table = _table(_additive(np.random.default_rng(7), N))
    start = strategy.variables["population"].numpy()
    strategy.train_on_table(table, 0, 1)
    once = strategy.variables["population"].numpy()
    assert ((once != start).sum(axis=1) <= 1).all() and (once[:, 1:] == start[:, 1:]).all()
    indices = search_space.all_indices()
    for parents, child in zip(start, once[:, 0]):
        assert (indices[parents] != indices[child]).sum(axis=1).min() == 1
    strategy.train_on_table(table, 1, 200)
    assert np.median(table.full[0][strategy.variables["population"].numpy()[0]]) > np.median(table.full[0][start[0]])


def test_evolution_chooses_the_best_that_was_ever_born():
    """The oldest die though they are good, so that the last population may lack the best whose reward was read."""
    noisy = _table(np.random.default_rng(9).random((N, search_space.NUM_ARCHITECTURES)))
    strategy = METHODS["evolution"](N, Config(method="evolution", samples_per_step=N))
    born = [set(members) for members in strategy.variables["population"].numpy()]
    for cycle in range(100):
        strategy.train_on_table(noisy, cycle, 1)
        child = strategy.variables["population"].numpy()[:, cycle % 64]
        born = [members | {number} for members, number in zip(born, child)]
    best = [noisy.full[a, list(members)].max() for a, members in enumerate(born)]
    population = strategy.variables["population"].numpy()
    assert (np.take_along_axis(noisy.full, population, 1).max(axis=1) < best).any()
    np.testing.assert_array_equal(noisy.full[np.arange(N), strategy.choose(noisy)], best)


@pytest.mark.parametrize("method", NAMES)
def test_a_policy_gives_probabilities_for_every_attribute(method):
    probabilities = METHODS[method](N, Config(method=method)).choice_probabilities()
    assert (probabilities is not None) == (method in ("galm", "enas", "enas_each"))
    for decision, p in zip(search_space.DECISIONS, probabilities or []):
        assert p.shape == (N, len(decision.choices))
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("method", ["bayesian", "progressive"])
def test_guided_searches_beat_random_search_at_equal_budget_unless_rewards_are_shuffled(method):
    full = _additive(np.random.default_rng(8), 12)
    twins = search_space.canonical_numbers()
    full = full[:, twins]  # void twins are one network
    order = np.unique(twins)
    places = np.searchsorted(order, twins)
    shuffled = np.stack([row[np.random.default_rng(i).permutation(order)][places] for i, row in enumerate(full)])

    def share(name, rewards):
        strategy = METHODS[name](12, Config(method=name, evaluations=40, **BUDGET))
        strategy.train_on_table(_table(rewards), 0, BUDGET["controller_steps"])
        assert strategy.figures(None) == {"evaluations_per_attribute": 40}
        return _share(_table(rewards), strategy.choose(_table(rewards)))

    assert share(method, full) > share("random_search", full) + 0.1
    assert abs(share(method, shuffled) - share("random_search", shuffled)) < 0.1  # nothing to be guided by


@pytest.mark.parametrize("method", SEQUENTIAL)
def test_sequential_searches_read_distinct_networks_within_the_budget_whatever_the_chunks(method):
    table = _table(_additive(np.random.default_rng(9), N))

    def searched(chunks, seed=0, **budget):
        strategy = METHODS[method](N, Config(method=method, seed=seed, rounds=1, evaluations=20, **budget))
        for first, last in zip((0, *chunks), chunks):
            strategy.train_on_table(table, first, last - first)
        return strategy.variables["tried"].numpy()

    whole = searched([60], controller_steps=60, samples_per_step=32)
    np.testing.assert_array_equal(searched([7, 30, 60], controller_steps=60, samples_per_step=32), whole)
    assert (searched([60], seed=1, controller_steps=60, samples_per_step=32) != whole).any()
    assert (search_space.canonical_numbers()[whole] == whole).all()
    assert all(len(set(row)) == 20 for row in whole)
    assert searched([10], controller_steps=10, samples_per_step=N).shape == (N, 10)  # the policy's own share is less


def test_a_sequential_search_spreads_its_budget_over_the_steps():
    table = _table(_additive(np.random.default_rng(9), N))
    strategy = METHODS["random_search"](
        N, Config(method="random_search", rounds=1, evaluations=20, controller_steps=60, samples_per_step=32)
    )
    told = []
    for first in (0, 15, 30, 45):  # between rounds of them weights move, and rewards with them
        strategy.train_on_table(table, first, 15)
        told.append(strategy.figures(table)["evaluations_per_attribute"])
    assert told == [5, 10, 15, 20]


def test_progressive_grows_layer_by_layer_from_the_simplest_network():
    strategy = METHODS["progressive"](N, Config(method="progressive", evaluations=32, **BUDGET))
    strategy.train_on_table(_table(_additive(np.random.default_rng(10), N)), 0, BUDGET["controller_steps"])
    for tried in search_space.all_indices()[strategy.variables["tried"].numpy()]:
        first, second, third = tried[:8], tried[8:20], tried[20:]
        assert not first[:, 3:].any() and len({*map(tuple, first[:, :3])}) == 8
        assert not second[:, 7:].any() and second[:, 3:7].any(axis=1).all()
        assert {*map(tuple, third[:, :7])} <= {*map(tuple, second[:, :7])}


def test_progressive_stages_are_whole_layers():
    assert [search_space.DECISIONS[s.stop - 1].name for s in progressive.STAGES] == [
        "conv4_kernel",
        "conv5_kernel",
        "fc3_input",
    ]


def test_expected_improvement_by_integration():
    mean, deviation, best = 0.7, 0.02, 0.71
    values = np.linspace(best, 1.0, 200001)
    expected = ((values - best) * norm.pdf(values, mean, deviation)).sum() * (values[1] - values[0])
    got = bayesian.expected_improvement(np.array([mean, 0.8]), np.array([deviation, 0.0]), best)
    np.testing.assert_allclose(got, [expected, 0.09], rtol=1e-4)


def test_bayesian_optimisation_finds_a_planted_architecture_among_1536_by_40_networks():
    target = search_space.canonical_numbers()[1234]
    table = _table(planted([target])[:, search_space.canonical_numbers()])
    strategy = METHODS["bayesian"](1, Config(method="bayesian", evaluations=40, **BUDGET))
    strategy.train_on_table(table, 0, BUDGET["controller_steps"])
    assert selection.regret(table, strategy.choose(table)) < 1e-6


def test_a_void_width_tells_no_networks_apart_and_all_else_does():
    x = bayesian.one_hot()
    np.testing.assert_array_equal(x, x[search_space.canonical_numbers()])
    assert len(np.unique(x, axis=0)) == search_space.NUM_DISTINCT


def test_the_kernel_is_that_of_the_greatest_likelihood():
    wanted = np.log([3.0, 3e-2])
    theta, value = bayesian._best_of_grid(lambda theta, eval_gradient: ((theta - wanted) ** 2).sum(), None, None)
    np.testing.assert_array_equal(theta, wanted)
    assert value == 0


def test_the_next_network_is_that_of_the_greatest_improvement_on_the_best_so_far(monkeypatch):
    asked = []
    monkeypatch.setattr(bayesian, "expected_improvement", lambda mean, _, best: asked.append(best) or -abs(mean - best))
    strategy = METHODS["bayesian"](1, Config(method="bayesian", evaluations=40, **BUDGET))
    tried = search_space.canonical_numbers()[::150]
    worth = np.float64(search_space.all_indices()[:, 0])  # by the first decision alone
    found = strategy._next(tried, worth[tried], np.random.default_rng(0))
    assert asked == [worth.max()] and worth[found] == worth.max() and found not in tried


def test_a_number_of_evaluations_is_read_by_searches_that_go_one_by_one():
    found = [name for name, made in METHODS.items() if issubclass(made, sequential.SequentialSearch)]
    assert tuple(found) == COUNTING


@pytest.mark.parametrize("method", ["galm", "enas", "enas_each"])
@pytest.mark.parametrize(
    "settings", [dict(controller_learning_rate=1e308), dict(entropy_weight=1e308)], ids=lambda s: [*s][0]
)
def test_a_policy_that_diverges_is_told(method, settings):
    """Also by the last step, of which no loss tells."""
    config = Config(method=method, controller_steps=1, rounds=1, **settings)
    with untraced():
        strategy, table = METHODS[method](N, config), _table(planted([0] * N))
        message = (
            "Expected a policy of finite figures. Received: NaN .* --controller_learning_rate or --entropy_weight.$"
        )
        with pytest.raises(UserError, match=message):
            strategy.train_on_table(table, 0, 1)
            strategy.choose(table)
