"""Suite `policy`: figures of a controller on planted tables, and the paper's settings."""

import numpy as np
import pytest

from galm_tf import search_space
from galm_tf.benchmark import policy
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable


def test_paper_settings_are_those_of_the_flagfile(parse):
    config = parse("--flagfile=flags/paper.flags")
    for name, value in policy.PAPER.items():
        assert getattr(config, name) == value, name


def test_default_learns_what_the_papers_settings_do_not():
    config = Config(rounds=1, controller_steps=100, samples_per_step=48)
    table = policy.run_policy(config, [policy.PLANTED], ["default"], [0])
    row = table.iloc[0]
    assert row["attributes"] == 24 and row["skill"] > 0.6
    planted = policy.planted_table(6)
    paper = policy.judge(planted, Config(rounds=1, **{**policy.PAPER, "controller_steps": 50}))
    assert abs(paper["skill"]) < 0.6 and paper["entropy"] == pytest.approx(np.log(2304), abs=0.05)


def test_specialisation_is_looked_up_on_the_unseen_half():
    halves = [np.zeros((2, search_space.NUM_ARCHITECTURES), np.float32) for _ in range(2)]
    halves[0][:, 0], halves[1][:, 0] = 0.5, 0.6  # the best single architecture of either half
    halves[0][0, 5], halves[1][0, 5] = 0.8, 0.7
    table = RewardTable((halves[0] + halves[1]) / 2, (halves[0], halves[1]))
    gains = policy.policy_specialisation(table, (np.array([5, 0]), np.array([5, 9])))
    np.testing.assert_allclose(gains, [(0.7 - 0.6 + 0.8 - 0.5) / 2, (0.0 - 0.5) / 2], atol=1e-6)


def test_a_file_without_rewards_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for path in (tmp_path / "other.npz", tmp_path / "none.npz"):
        with pytest.raises(UserError, match="tables/roundN.npz"):
            policy.read_table(str(path))
