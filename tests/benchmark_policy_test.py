"""Suites `policy` and `controller`: figures of a controller on planted tables, and the paper's settings."""

import dataclasses
import sys

import numpy as np
import pytest
from scipy import stats

from galm_tf import search_space, selection
from galm_tf.benchmark import controller_speed, policy
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable


def test_paper_settings_are_those_of_the_flagfile(parse):
    config = parse("--flagfile=flags/paper.flags")
    for name, value in policy.PAPER.items():
        assert getattr(config, name) == value, name


def test_suite_controller_takes_steps_of_both_kinds(monkeypatch):
    cases = []
    monkeypatch.setattr(controller_speed, "compare", lambda given, repeats: cases.extend(given))
    controller_speed.measure(Config(image_size=32), 1)
    paper, ours = cases
    assert len(paper.run()) == paper.work == 50 and ours.work == 50 * Config().samples_per_step
    assert 0.6 < ours.run()["controller/reward"] < 0.7


def test_default_learns_what_the_papers_settings_do_not():
    config = Config(rounds=1, controller_steps=100, samples_per_step=48)
    table = policy.run_policy(config, [policy.PLANTED], ["default"], [0])
    row = table.iloc[0]
    assert row["attributes"] == 24 and row["skill"] > 0.6
    planted = policy.planted_table(6)
    paper = policy.judge(planted, Config(rounds=1, **{**policy.PAPER, "controller_steps": 50}))
    assert abs(paper["skill"]) < 0.6 and paper["entropy"] == pytest.approx(np.log(2304), abs=0.05)


def test_figures_of_a_policy_are_of_its_choices_on_the_unseen_halves(monkeypatch):
    table, seen = policy.planted_table(5), []
    choices = tuple(half.argsort(axis=1)[:, -3] for half in table.halves)  # nearly the best of what each saw

    class Trained:
        def __init__(self, number, config):
            assert number == 5

        def crossfit(self, given):
            assert given is table and not seen  # from its start
            return choices

        def train_on_table(self, given, first, steps):
            seen.append((given is table, first, steps))

        def choose(self, given):
            return given.full.argsort(axis=1)[:, -2] if seen else np.zeros(5, int)

        def log_probs(self):
            return np.full((5, 2304), -np.log(2304))

    monkeypatch.setattr(policy, "ControllerTraining", Trained)
    found = policy.judge(table, Config(rounds=2, controller_steps=7))
    assert seen == [(True, 0, 14)]
    rows, gains, got, best = np.arange(5), [], 0.0, 0.0
    for chosen, half, other in zip(choices, table.halves, table.halves[::-1]):
        gains.append(other[rows, chosen] - other[:, half.mean(axis=0).argmax()])
        got += (other[rows, chosen] - other.mean(axis=1)).sum()
        best += (other[rows, half.argmax(axis=1)] - other.mean(axis=1)).sum()
    gains = np.mean(gains, axis=0)
    assert found["skill"] == pytest.approx(got / best, rel=1e-5) and found["attributes"] == 5
    assert found["specialisation"] == pytest.approx(gains.mean(), rel=1e-4)
    half = stats.t.ppf(0.975, 4) * gains.std(ddof=1) / np.sqrt(5)
    assert (found["low"], found["high"]) == pytest.approx((gains.mean() - half, gains.mean() + half), rel=1e-4)
    second = np.sort(table.full.astype(np.float64), axis=1)[:, -2]
    top, mean = table.full.max(axis=1), table.full.mean(axis=1, dtype=np.float64)
    assert found["regret"] == pytest.approx((top - second).sum() / (top - mean).sum(), rel=1e-4)
    assert found["entropy"] == pytest.approx(np.log(2304))


def test_specialisation_is_looked_up_on_the_unseen_half():
    halves = [np.zeros((2, search_space.NUM_ARCHITECTURES), np.float32) for _ in range(2)]
    halves[0][:, 0], halves[1][:, 0] = 0.5, 0.6  # the best single architecture of either half
    halves[0][0, 5], halves[1][0, 5] = 0.8, 0.7
    table = RewardTable((halves[0] + halves[1]) / 2, (halves[0], halves[1]))
    gains = selection.specialisation(table, (np.array([5, 0]), np.array([5, 9])))
    np.testing.assert_allclose(gains, [(0.7 - 0.6 + 0.8 - 0.5) / 2, (0.0 - 0.5) / 2], atol=1e-6)


def test_a_file_without_rewards_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "small.npz", full=np.zeros((2, 9)), half_a=np.zeros((2, 9)), half_b=np.zeros((2, 9)))
    np.save(tmp_path / "array.npy", np.zeros(3))
    whole = (tmp_path / "small.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("other.npz", "none.npz", "small.npz", "array.npy", "torn.npz"):
        with pytest.raises(UserError, match="tables/roundN.npz"):
            policy.read_table(str(tmp_path / name))


def test_a_table_or_cell_that_cannot_be_had_is_told_before_any_is_judged(tmp_path, monkeypatch):
    np.savez(tmp_path / "one.npz", **{k: v[:1] for k, v in policy.planted_table(2).to_arrays().items()})
    monkeypatch.setattr(policy, "judge", None)
    with pytest.raises(UserError, match="at least two attributes.*one.npz with 1;"):
        policy.run_policy(Config(), [policy.PLANTED, str(tmp_path / "one.npz")], ["default"], [0])
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    told = "Expected tensorflow-addons, .* Asked for by --settings=nas.$"
    with pytest.raises(UserError, match=told):
        policy.run_policy(Config(), [policy.PLANTED], ["default", "nas"], [0])


@pytest.mark.parametrize("name", policy.SETTINGS)
def test_every_setting_differs_from_the_default_in_what_it_names(name):
    given, default = policy.SETTINGS[name], Config()
    own = dataclasses.replace(default, **given)
    assert all(getattr(own, key) == value != getattr(default, key) for key, value in given.items())
    assert bool(given) == (name != "default")


def test_tables_are_told_apart_by_as_much_of_their_path_as_that_takes():
    assert policy._names(["runs/sun/tables/round2.npz", "runs/awa/tables/round2.npz"]) == ["sun/round2", "awa/round2"]
    assert policy._names(["a/sun/tables/round2.npz", "b/sun/tables/round2.npz"]) == ["a/sun/round2", "b/sun/round2"]
    assert policy._names([policy.PLANTED]) == [policy.PLANTED]
