"""Suite `choosing` on planted rewards: what is looked up, and that better choices show."""

import dataclasses
import types

import main_flags
import numpy as np
import pytest

from galm_tf import preparation, search_space, selection
from galm_tf.benchmark import auc_rewards, choosing, given, methods, one_supernet
from galm_tf.config import Config
from galm_tf.domains.splits import Split
from galm_tf.errors import UserError
from galm_tf.network_size import numbers_read
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.search_space import map_side
from galm_tf.strategies import METHODS
from galm_tf.tracing import untraced

N = 12


@pytest.fixture(scope="module")
def table():
    """Rows of run_choosing for a noisy validation table over rewards that are sums over decisions; what is learned in
    two steps, which are not traced, nobody asks.
    """
    rng = np.random.default_rng(0)
    indices = search_space.all_indices()
    truth = np.full((N, search_space.NUM_ARCHITECTURES), 0.7)
    for decision, count in enumerate(search_space.NUM_CHOICES):
        truth += 0.01 * rng.normal(size=(N, count))[:, indices[:, decision]]
    halves = tuple((truth + 0.04 * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2))
    validation = RewardTable((halves[0] + halves[1]) / 2, halves)
    truth = truth.astype(np.float32)
    truth[-1] = np.nan  # not tested: must not count anywhere
    with pytest.MonkeyPatch.context() as patch, untraced():
        rewards = one_supernet.SharedRewards(validation, RewardTable(truth, (truth, truth)))
        patch.setattr(preparation, "prepare", lambda *of: None)
        patch.setattr(one_supernet, "shared_rewards", lambda config, path, prepared: rewards)
        config = Config(rounds=1, controller_steps=2, samples_per_step=48, evaluations=8)
        rows = choosing.run_choosing(config, [0], "nowhere").set_index("method")
    return rows, validation, truth


def test_random_and_oracle_are_mean_and_best_of_the_test_table(table):
    rows, _, truth = table
    assert rows.loc["random", "test_mauc"] == pytest.approx(truth[:-1].mean(), abs=1e-6)
    assert rows.loc["oracle", "test_mauc"] == pytest.approx(truth[:-1].max(axis=1).mean(), abs=1e-6)


def test_every_rule_is_judged_by_the_test_table(table):
    rows, validation, truth = table
    assert choosing.REFERENCE in rows.index
    assert {*METHODS, "galm, most probable", "best of shrunken rewards"} - {"galm"} <= set(rows.index)
    chosen = validation.full[:-1].argmax(axis=1)
    assert rows.loc["exhaustive", "test_mauc"] == pytest.approx(truth[np.arange(N - 1), chosen].mean(), abs=1e-6)
    assert rows.loc["exhaustive", "val_mauc"] == pytest.approx(validation.full[:-1].max(axis=1).mean(), abs=1e-6)
    assert (rows["test_mauc"] <= rows.loc["oracle", "test_mauc"] + 1e-6).all()


def test_less_noise_chooses_better(table):
    rows = table[0]["test_mauc"]
    assert rows["random"] < rows["exhaustive"] < rows["best of shrunken rewards"]
    assert rows["single_best"] < rows["best of shrunken rewards"]  # attributes agree in nothing here


def test_only_named_methods_choose_and_unknown_ones_are_refused_before_anything_is_trained(table, monkeypatch):
    _, validation, truth = table
    rewards = one_supernet.SharedRewards(validation, RewardTable(truth, (truth, truth)))
    monkeypatch.setattr(preparation, "prepare", lambda *of: None)
    monkeypatch.setattr(one_supernet, "shared_rewards", lambda config, path, prepared: rewards)
    config = Config(rounds=1, controller_steps=2, samples_per_step=8)
    with untraced():
        rows = choosing.run_choosing(config, [3], "nowhere", ["evolution"]).set_index("method")
    assert {"evolution", choosing.REFERENCE} <= set(rows.index) and "exhaustive" not in rows.index
    monkeypatch.setattr(one_supernet, "shared_rewards", None)
    for run in (choosing.run_choosing, choosing.run_derived):
        with pytest.raises(
            UserError, match="Expected --methods to be some of galm.* Received: best; nearest: single_best"
        ):
            run(config, [3], "nowhere", ["evolution", "best"])


def test_nothing_is_trained_where_no_attribute_can_be_judged_and_tested(monkeypatch, tmp_path):
    parts = {name: np.arange(2) for name in ("train", "validation_classes", "validation_images", "test")}
    split = Split(
        **parts, held_out_classes=(), judged_by=("none", "images"), testable=np.array([True, False]), reasons={}
    )
    domain = types.SimpleNamespace(name="mine")
    monkeypatch.setattr(preparation, "prepare", lambda *of: types.SimpleNamespace(split=split, domain=domain))
    for run in (choosing.run_choosing, choosing.run_derived):
        with pytest.raises(UserError, match="Expected an attribute of mine that validation and test .* Received: none"):
            run(Config(), [0], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_flags_of_a_supernet_repeat_it_whatever_the_suites_methods_read(monkeypatch, tmp_path):
    split = types.SimpleNamespace(judged_and_tested=np.array([True]))
    prepared = types.SimpleNamespace(split=split, domain=None)
    monkeypatch.setattr(one_supernet.data_digests, "remember_data", lambda *of: None)
    monkeypatch.setattr(one_supernet, "_computed", lambda *of: None)
    for again in (False, True):
        one_supernet.shared_rewards(Config(evaluations=16, resume=again), str(tmp_path / "made"), prepared)
    begun = dataclasses.replace(Config(evaluations=16), method="random", adapt_steps=0, finetune_steps=0)
    RunFolder.create(str(tmp_path / "begun"), begun)  # by an earlier version
    one_supernet.shared_rewards(begun, str(tmp_path / "begun"), prepared)
    settings = main_flags.settings(f"--flagfile={tmp_path}/made/flags.txt", "--run_dir=new")
    assert (settings.method, settings.evaluations) == ("random", Config().evaluations)


def test_size_penalties_choose_smaller_networks_from_the_same_rewards(table, monkeypatch):
    _, validation, truth = table
    rewards = one_supernet.SharedRewards(validation, RewardTable(truth, (truth, truth)))
    monkeypatch.setattr(preparation, "prepare", lambda *of: None)
    monkeypatch.setattr(one_supernet, "shared_rewards", lambda config, path, prepared: rewards)
    config = Config(rounds=1, controller_steps=100, samples_per_step=48)
    rows = choosing.run_choosing(config, [0], "nowhere", [], [0.02, 10.0]).set_index("method")
    free, some, much = (rows.loc[n] for n in (choosing.REFERENCE, "galm, size penalty 0.02", "galm, size penalty 10"))
    assert free["multiply_adds"] > some["multiply_adds"] > much["multiply_adds"]
    assert free["val_mauc"] > some["val_mauc"] > much["val_mauc"]
    summary = methods.summarise(rows.reset_index(), choosing.REFERENCE).set_index("method")
    assert summary.loc["galm, size penalty 10", "million_multiply_adds"] == pytest.approx(much["multiply_adds"] / 1e6)


def test_derived_networks_are_counted_with_their_reading(table, monkeypatch):
    _, validation, truth = table
    rewards = one_supernet.SharedRewards(validation, RewardTable(truth, (truth, truth)))
    monkeypatch.setattr(preparation, "prepare", lambda *of: None)
    monkeypatch.setattr(one_supernet, "shared_rewards", lambda config, path, prepared: rewards)
    monkeypatch.setattr(one_supernet, "finetuned", lambda *_: {"val_mauc": 0.5, "test_mauc": 0.5})
    sizes = []
    for share in (0.0, 0.3):
        config = Config(rounds=1, controller_steps=2, samples_per_step=8, readout_share=share)
        with untraced():
            rows = choosing.run_derived(config, [0], "nowhere", ["exhaustive"], [0.1]).set_index("method")
        sizes.append(rows.loc["exhaustive", "multiply_adds"])
    assert sizes[1] - sizes[0] == N * numbers_read()
    of_rewards = ["galm, most probable", "galm, reranked by shrunken rewards", choosing.SHRUNKEN]
    assert list(rows.index) == [choosing.REFERENCE, "galm, size penalty 0.1", *of_rewards, "exhaustive"]


def test_every_rule_takes_what_its_name_says_and_what_validation_cannot_judge_counts_nowhere(monkeypatch):
    rng, trained = np.random.default_rng(1), []
    log_probs = rng.normal(size=(N, search_space.NUM_ARCHITECTURES))
    halves = rng.normal(0.7, 0.05, (2, N, search_space.NUM_ARCHITECTURES)).astype(np.float32)
    halves[:, 0] = np.nan  # not judged
    validation = RewardTable(halves.mean(axis=0), tuple(halves))

    class Policy(METHODS["galm"]):
        def __init__(self, number, config):
            self.config = config

        def train_on_table(self, table, first, steps):
            trained.append((table, first, steps))

        def log_probs(self):
            return log_probs

    monkeypatch.setattr(choosing, "METHODS", {"galm": Policy})
    config = Config(rounds=3, controller_steps=2)
    chosen = choosing._choices(validation, config, [], [0.5])
    (wanted, *steps), (whole, *same) = trained
    assert steps == same == [0, 6] and whole is validation
    np.testing.assert_array_equal(wanted.full, selection.less_size(validation, 0.5, map_side(config)).full)
    shrunken = selection.shrunken_rewards(validation)
    reranked = RewardTable(shrunken, validation.halves)
    expected = {
        choosing.REFERENCE: selection.derive(log_probs, validation, config.derive_top),
        "galm, size penalty 0.5": selection.derive(log_probs, wanted, config.derive_top),
        "galm, most probable": selection.most_probable(log_probs),
        "galm, reranked by shrunken rewards": selection.derive(log_probs, reranked, config.derive_top),
        choosing.SHRUNKEN: shrunken.argmax(axis=1),
    }
    assert list(chosen) == list(expected) and len({tuple(numbers) for numbers in chosen.values()}) == len(expected)
    for name, numbers in expected.items():
        np.testing.assert_array_equal(chosen[name], numbers, err_msg=name)
    truth = rng.random((N, search_space.NUM_ARCHITECTURES)).astype(np.float32)
    truth[1] = np.nan  # not tested
    rewards = one_supernet.SharedRewards(validation, RewardTable(truth, (truth, truth)))
    monkeypatch.setattr(preparation, "prepare", lambda *of: None)
    monkeypatch.setattr(one_supernet, "shared_rewards", lambda config, path, prepared: rewards)
    rows, judged = choosing.run_choosing(config, [0], "nowhere", []).set_index("method"), np.arange(2, N)
    for name in expected.keys() & rows.index:
        for figure, table in (("val_mauc", validation.full), ("test_mauc", truth)):
            assert rows.loc[name, figure] == pytest.approx(table[judged, expected[name][judged]].mean()), name
    assert rows.loc["random", "test_mauc"] == pytest.approx(truth[2:].mean(), rel=1e-5)


def test_networks_are_chosen_by_their_auc_alone_whatever_the_penalty():
    config = Config(size_penalty=0.1)
    assert auc_rewards.by_auc(config, "choosing") == dataclasses.replace(config, size_penalty=0.0)


def test_networks_beside_children_have_no_reading_either():
    config = Config(readout_share=0.6, reward_images=10)
    for suite in ("nas", "peers"):
        asked = auc_rewards.beside_children(config, suite)
        assert asked == dataclasses.replace(config, size_penalty=0.0, reward_images=0, readout_share=0.0)


@pytest.mark.parametrize("texts", [["0"], ["-1"], ["x"], ["inf"], ["0.1", "0.10"], ["0.1", "0.10000001"]])
def test_size_penalties_are_numbers_above_none(texts):
    with pytest.raises(UserError, match="Expected --size_penalties to"):
        given.numbers("size_penalties", texts, 0.0)


@pytest.mark.parametrize("run", [choosing.run_choosing, choosing.run_derived])
def test_a_model_that_serves_as_no_trunk_is_told_before_the_data_are_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "prepare", None)
    with pytest.raises(UserError, match="Expected a Keras model file in --trunk_model"):
        run(Config(trunk_model=str(tmp_path / "none.keras")), [0], str(tmp_path / "out"), ["random"])
