import numpy as np
import pytest
from scipy.special import logsumexp

from galm_tf import network_size, run_result, search_space, selection
from galm_tf.reward import RewardTable


def _table(rng, attributes=8, noise=0.0, common=False):
    truth = rng.normal(size=(1 if common else attributes, search_space.NUM_ARCHITECTURES))
    truth = np.broadcast_to(truth, (attributes, search_space.NUM_ARCHITECTURES))
    halves = tuple(truth + noise * rng.normal(size=truth.shape) for _ in range(2))
    return RewardTable((halves[0] + halves[1]) / 2, halves)


def test_void_twins_pool_their_probability():
    uniform = np.full((1, 2304), -np.log(2304))
    pooled = selection.canonical_log_probs(uniform)
    assert np.exp(pooled).sum() == pytest.approx(1.0)
    assert np.exp(pooled.max()) == pytest.approx(3 / 2304)


def test_twins_pool_exactly_however_improbable():
    log_probs = np.random.default_rng(4).normal(-2000, 500, (2, 2304))
    twins, pooled = search_space.canonical_numbers(), selection.canonical_log_probs(log_probs)
    assert np.isneginf(pooled[:, twins != np.arange(2304)]).all()
    for number in (0, 1, 2, 777, 2300, 2303):
        its = twins[number]
        np.testing.assert_allclose(pooled[:, its], logsumexp(log_probs[:, twins == its], axis=1), rtol=1e-12)


def test_derive_takes_the_best_reward_among_the_most_probable():
    rng = np.random.default_rng(0)
    table = _table(rng, 3)
    distinct = np.unique(search_space.canonical_numbers())
    log_probs = np.full((3, 2304), -50.0)
    favourites = rng.choice(distinct[distinct % 2 == 1], (3, 4), replace=False)
    for row, numbers in enumerate(favourites):
        log_probs[row, numbers] = -1.0 - np.arange(4)  # the first has most of every choice of its own
    assert selection.derive(log_probs, table, 1).tolist() == favourites[:, 0].tolist()
    best = [numbers[table.full[row, numbers].argmax()] for row, numbers in enumerate(favourites)]
    assert selection.derive(log_probs, table, 4).tolist() == best


def _policy(*choices):
    """log P of independent decisions with these chances of their choices: [1, 2304]."""
    grid = np.zeros(search_space.NUM_CHOICES)
    for axis, chances in enumerate(choices):
        grid = grid + np.log(chances).reshape([-1 if a == axis else 1 for a in range(grid.ndim)])
    return grid.reshape(1, -1)


_SLIGHTLY = [np.full(n, 1 / n) + 0.01 * (np.arange(n) == n - 1) for n in search_space.NUM_CHOICES]


def test_a_nearly_uniform_policy_takes_fc2_where_it_prefers_that():
    log_probs = _policy(*_SLIGHTLY)
    last = search_space.NUM_ARCHITECTURES - 1  # the last choice of every decision, Fc-2 among them
    assert selection.most_probable(log_probs).tolist() == [last] == selection.derive(log_probs, None, 1).tolist()
    assert search_space.Architecture.from_number(last).fc3_input == "fc2"
    assert selection.canonical_log_probs(log_probs).argmax() != last
    nothing = np.full((1, 2304), np.nan)
    assert selection.derive(log_probs, RewardTable(nothing, (nothing, nothing)), 8).tolist() == [last]


def test_a_policy_without_a_say_on_void_widths_takes_fc1_where_it_prefers_that():
    grid = np.exp(_policy(*_SLIGHTLY[:-2], np.ones(3), np.ones(2))).reshape(-1, 3, 2)
    log_probs = np.log(grid * [[0.2, 0.01], [0.2, 0.01], [0.2, 0.38]]).reshape(1, -1)  # Fc-1 by 0.6, in three parts
    chosen, likeliest = selection.most_probable(log_probs)[0], int(log_probs.argmax())
    inputs = [search_space.Architecture.from_number(n).fc3_input for n in (chosen, likeliest)]
    assert inputs == ["fc1", "fc2"]
    assert chosen == search_space.canonical_numbers()[chosen] and chosen // 6 == likeliest // 6  # the same before


def test_no_candidate_is_there_twice():
    log_probs = np.random.default_rng(11).normal(size=(4, 2304))
    log_probs[3] = _policy(*_SLIGHTLY)
    rewards = np.zeros((4, 2304), np.float32)
    for n in range(1, 10):  # the best of each n takes the n-th candidate, which from then on is worth nothing
        chosen = selection.derive(log_probs, RewardTable(rewards, (rewards, rewards)), n)
        assert (rewards[np.arange(4), chosen] == 0).all()
        rewards[np.arange(4), chosen] = -1.0
    assert ((rewards < 0).sum(axis=1) == 9).all()


def test_derive_without_a_reward_follows_the_policy():
    table = RewardTable(np.full((1, 2304), np.nan), (np.full((1, 2304), np.nan),) * 2)
    log_probs = np.random.default_rng(1).normal(size=(1, 2304))
    assert selection.derive(log_probs, table, 8) == selection.derive(log_probs, None, 1)


def test_specialisation_is_zero_for_one_common_optimum_and_positive_for_several():
    rng = np.random.default_rng(2)
    assert selection.specialisation(_table(rng, common=True)).mean() == pytest.approx(0.0, abs=1e-9)
    assert selection.specialisation(_table(rng)).mean() > 1.0
    noise = RewardTable(*(lambda h: ((h[0] + h[1]) / 2, h))(tuple(rng.normal(size=(50, 2304)) for _ in range(2))))
    assert abs(selection.specialisation(noise).mean()) < 0.5  # pure luck does not carry over


def test_skill_is_one_for_the_best_and_zero_for_an_average_choice():
    table = _table(np.random.default_rng(3), noise=0.1)
    best = tuple(half.argmax(axis=1) for half in table.halves)
    assert selection.crossfitted_skill(table, best) == pytest.approx(1.0)
    rng = np.random.default_rng(4)
    skills = [selection.crossfitted_skill(table, tuple(rng.integers(0, 2304, (2, 8)))) for _ in range(200)]
    assert np.mean(skills) == pytest.approx(0.0, abs=0.05)


def test_regret_counts_from_best_to_mean():
    table = _table(np.random.default_rng(5))
    assert selection.regret(table, table.full.argmax(axis=1)) == 0.0
    assert selection.regret(table, table.full.argmin(axis=1)) > 1.0


def test_regret_is_a_share_of_what_all_attributes_together_could_gain():
    full = np.zeros((3, 2304), np.float32)
    full[0, :1152], full[1, :576], full[2] = 1.0, 4.0, np.nan  # best and mean 1 and 0.5, 4 and 1
    table = RewardTable(full, (full, full))
    assert selection.regret(table, np.array([2000, 0, 0])) == pytest.approx((1 + 0) / (0.5 + 3))


def test_where_the_best_of_one_half_loses_on_the_other_there_is_no_skill():
    half = np.random.default_rng(10).normal(size=(2, 2304))
    assert selection.crossfitted_skill(RewardTable(half, (half, -half)), (half.argmax(axis=1),) * 2) is None


def test_what_one_half_alone_can_judge_tells_neither_specialisation_nor_skill():
    table, choices = _table(np.random.default_rng(3), 3, noise=0.1), (np.array([5, 6, 7]), np.array([8, 9, 10]))
    blind = table.halves[0].copy()
    blind[1] = np.nan  # the attribute is rewarded all the same
    torn = RewardTable(table.full, (blind, table.halves[1]))
    rows = [0, 2]
    others = RewardTable(table.full[rows], tuple(half[rows] for half in table.halves))
    np.testing.assert_array_equal(selection.specialisation(torn), selection.specialisation(others))
    its = tuple(chosen[rows] for chosen in choices)
    assert selection.crossfitted_skill(torn, choices) == selection.crossfitted_skill(others, its)


def test_size_costs_both_halves_what_it_costs_the_whole():
    table = _table(np.random.default_rng(9), 2)
    cost, less = 0.02 * network_size.relative_sizes(8), selection.less_size(table, 0.02, 8)
    for before, after in zip((table.full, *table.halves), (less.full, *less.halves)):
        np.testing.assert_allclose(before - after, np.tile(cost, (2, 1)), atol=1e-6)


def test_entropy_is_the_mean_of_the_policies():
    certain = np.where(np.arange(2304) == 7, 0.0, -800.0)
    uniform = np.full(2304, -np.log(2304))
    assert selection.entropy(np.stack([certain, uniform])) == pytest.approx(np.log(2304) / 2)


def test_choice_frequencies_leave_void_widths_out():
    number = search_space.Architecture(True, False, 3, False, False, True, 5, 64, 256, "fc1").number
    other = search_space.Architecture(False, False, 3, False, False, True, 5, 128, 256, "fc2").number
    shares = selection.choice_frequencies(np.array([number, other]))
    assert shares["conv1_conv4"] == {"False": 0.5, "True": 0.5}
    assert shares["fc2_width"] == {"64": 0.0, "128": 0.0, "256": 1.0}
    assert shares["fc1_width"] == {"64": 0.5, "128": 0.5, "256": 0.0}
    without = selection.choice_frequencies(np.array([number]))
    assert without["fc2_width"] == dict.fromkeys(("64", "128", "256"))  # a share of nothing
    assert without["fc3_input"] == {"fc1": 1.0, "fc2": 0.0}


def test_table_4_of_a_run_counts_what_was_chosen_for_a_reason():
    rows = {"a": {"architecture": search_space.Architecture.from_number(5).to_json(), "judged_by": "classes"}}
    shares = run_result.choice_frequencies(rows)
    assert shares == selection.choice_frequencies(np.array([5]))
    arbitrary = {"architecture": search_space.Architecture.from_number(2000).to_json(), "judged_by": "none"}
    assert run_result.choice_frequencies({**rows, "b": arbitrary}) == shares
    assert run_result.choice_frequencies({"b": arbitrary, "c": {"architecture": None}}) == {}


def _structured(rng, attributes, common, own):
    """Rewards that are sums over decisions, partly shared by all attributes: [attributes, 2304]."""
    indices = search_space.all_indices()
    rows = np.full((attributes, search_space.NUM_ARCHITECTURES), 0.7)
    for decision, count in enumerate(search_space.NUM_CHOICES):
        worth = common * rng.normal(size=(1, count)) + own * rng.normal(size=(attributes, count))
        rows += worth[:, indices[:, decision]]
    return rows


@pytest.mark.parametrize("own", [0.0, 0.01], ids=["common", "own"])
def test_shrunken_rewards_choose_better_than_the_noisy_table(own):
    rng = np.random.default_rng(6)
    truth = _structured(rng, 20, 0.01, own)
    halves = tuple(truth + 0.03 * rng.normal(size=truth.shape) for _ in range(2))
    table = RewardTable((halves[0] + halves[1]) / 2, halves)
    regrets = [
        selection.regret(RewardTable(truth, (truth, truth)), choice.argmax(axis=1))
        for choice in (selection.shrunken_rewards(table), table.full)
    ]
    assert regrets[0] < 0.05 < 0.2 < regrets[1]


def test_shrunken_rewards_keep_a_table_without_noise():
    truth = _structured(np.random.default_rng(7), 6, 0.01, 0.01)
    np.testing.assert_allclose(selection.shrunken_rewards(RewardTable(truth, (truth, truth))), truth, atol=1e-9)


def test_an_effect_is_shrunken_by_what_the_halves_disagree_on():
    sign = np.where(search_space.all_indices()[:, 0] == 1, 1.0, -1.0)
    full = 0.7 + np.stack([0.02 * sign, -0.02 * sign])
    shrunken = selection.shrunken_rewards(RewardTable(full, (full + 0.01 * sign, full - 0.01 * sign)))
    # variance of the mean of the halves 0.01², spread of two attributes 2 · 0.02²
    np.testing.assert_allclose(shrunken - 0.7, (1 - 1 / 8) * (full - 0.7), atol=1e-9)


def test_attributes_without_a_reward_get_the_mean_of_the_others():
    truth = _structured(np.random.default_rng(8), 5, 0.01, 0.01)
    full = truth.copy()
    full[2] = np.nan
    half = full.copy()
    half[3] = np.nan  # rewarded, but one half cannot judge it
    shrunken = selection.shrunken_rewards(RewardTable(full, (half, full)))
    np.testing.assert_allclose(shrunken[2], truth[[0, 1, 3, 4]].mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(shrunken[3], truth[3], atol=1e-9)
    nothing = np.full((2, 2304), np.nan)
    assert (selection.shrunken_rewards(RewardTable(nothing, (nothing, nothing))) == 0).all()
