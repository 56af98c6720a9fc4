"""Tuning on the embedded domain, tiny: trials, tables, a stop and a second start."""

import dataclasses
import glob
import json
import os
import re
import shutil
import warnings

import keras_tuner
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from galm_tf import tune
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder
from galm_tf.tracing import untraced
from small_domains import LEFT_OUT, few_images

SETTINGS = ["entropy_weight", "warmup_steps"]


@pytest.fixture(scope="module")
def config(drawn):
    with few_images(12):
        yield Config(
            domain=("sun",),
            leave_out=LEFT_OUT,
            image_size=32,
            warmup_steps=3,
            rounds=1,
            supernet_steps=2,
            batch_size=8,
            attributes_per_step=2,
            controller_steps=3,
            samples_per_step=8,
            calibration_images=32,
            derive_top=2,
            cache_dir=drawn,
        )


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory):
    """One trial, stopped; then the same command with two in all. So few steps take less than to trace them."""
    out = str(tmp_path_factory.mktemp("tune"))
    with untraced():
        first, both = (tune.tune(config, "random", SETTINGS, trials, out) for trials in (1, 2))
    return out, first, both


def test_the_flags_own_settings_stand_beside_trials_within_bounds(config, tuned):
    _, first, both = tuned
    assert sorted(first["trial"]) == ["0", "flags"] and sorted(both["trial"]) == ["0", "1", "flags"]
    given = both.set_index("trial").loc["flags"]
    assert given["warmup_steps"] == config.warmup_steps and given["entropy_weight"] == config.entropy_weight
    tried = both[both["trial"] != "flags"]
    assert (
        tried["warmup_steps"].between(1, 2 * config.warmup_steps).all()
        and tried["entropy_weight"].between(0.01, 1.0).all()
    )
    assert both["entropy_weight"].nunique() == 3
    pd.testing.assert_frame_equal(both[both["trial"] != "1"].reset_index(drop=True), first)  # not run again
    assert both["skill"].is_monotonic_decreasing and both["val_mauc"].between(0, 1).all()


def test_what_the_bayesian_process_proposes_are_pythons_numbers(config, tmp_path, monkeypatch):
    """KerasTuner proposes NumPy's after its first points, in whose precision TensorFlow would compute."""
    kinds = []

    def trial(config, values, *_):
        kinds.append({type(values[name]) for name in names} | {type(getattr(config, name)) for name in names})
        return {tune.OBJECTIVE: float(config.baseline_decay)}

    names = ["baseline_decay", "learning_rate"]
    monkeypatch.setattr(tune, "trial", trial)
    tune.tune(config, "bayesian", names, 4, str(tmp_path / "out"))
    assert kinds == [{float}] * 5


def test_only_the_bounds_of_kerastuners_process_are_passed_over(tmp_path):
    """Figures that no setting explains drive the process to a bound, which nobody here can move."""

    class Trials(keras_tuner.BayesianOptimization):
        def run_trial(self, proposed, *_, **__):
            warnings.warn("of a trial", ConvergenceWarning, stacklevel=1)
            return {tune.OBJECTIVE: float(len(proposed.hyperparameters.values))}

    trials = Trials(
        objective=keras_tuner.Objective(tune.OBJECTIVE, "max"), max_trials=4, num_initial_points=2, seed=1,
        hyperparameters=tune.space(SETTINGS, Config()), tune_new_entries=False, directory=str(tmp_path), project_name="x",
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tune.kerastuner.search(trials, str(tmp_path / "x"))
    assert {str(one.message) for one in told if one.category is ConvergenceWarning} == {"of a trial"}


@pytest.mark.parametrize("tuner", ["bayesian", "random"])
def test_what_is_proposed_goes_by_the_seed(config, tmp_path, monkeypatch, tuner):
    monkeypatch.setattr(tune.preparation, "prepare", lambda config: None)
    monkeypatch.setattr(
        tune, "trial", lambda config, values, *_: proposed.append(values) or {tune.OBJECTIVE: values["entropy_weight"]}
    )
    found = []
    for number, seed in enumerate((0, 0, 1)):
        proposed = []
        tune.tune(dataclasses.replace(config, seed=seed), tuner, SETTINGS, 3, str(tmp_path / str(number)))
        found.append(proposed[1:])  # the first are the settings as they are
    assert found[0] == found[1] != found[2] and len(found[0]) == 3


def test_a_trial_is_a_run_with_those_settings_that_has_not_been_tested(tuned):
    out, _, both = tuned
    for _, row in both.iterrows():
        with open(f"{out}/trials/{row['trial']}/config.json", encoding="utf-8") as file:
            used = json.load(file)
        assert used["warmup_steps"] == row["warmup_steps"] and used["entropy_weight"] == row["entropy_weight"]
        assert not glob.glob(f"{out}/trials/{row['trial']}/result.json")


def test_hparams_hold_settings_and_skill(tuned):
    out, first, _ = tuned
    events = EventAccumulator(f"{out}/trials/{first.loc[0, 'trial']}/tensorboard/hparams", size_guidance={"tensors": 0})
    events.Reload()
    for name in ("skill", "seconds"):
        (figure,) = events.Tensors(f"run/{name}")
        assert float(tf.make_ndarray(figure.tensor_proto)) == pytest.approx(first.loc[0, name], rel=1e-5)
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


@pytest.mark.parametrize("skill, doubted", [(1.4, False), (7.0, True)])
def test_a_skill_far_above_1_is_told_as_noise(skill, doubted):
    told = tune.shown(pd.DataFrame({"trial": ["0", "1"], "skill": [skill, 0.5]}))
    assert (
        told.endswith("\nskill: A ratio of two small gains: far above 1 says that there were too few images to tell.")
        == doubted
    )


def test_how_long_a_search_takes_is_tuned_about_what_the_flags_say():
    bounds = tune.space(["warmup_steps", "learning_rate"], Config(warmup_steps=40)).space
    (warmup,) = (p for p in bounds if p.name == "warmup_steps")
    assert (warmup.min_value, warmup.max_value) == (10, 80)
    (none,) = tune.space(["warmup_steps"], Config(warmup_steps=0)).space
    assert (none.min_value, none.max_value) == (1, 2)


@pytest.mark.parametrize("tuner, trials, initial", [("bayesian", 20, 6), ("bayesian", 3, 2), ("random", 20, None)])
def test_bayesian_search_draws_a_third_of_its_trials_at_random(config, tmp_path, monkeypatch, tuner, trials, initial):
    """KerasTuner's own number, three a setting, would be 18 of 20 for all six."""
    monkeypatch.setattr(tune.preparation, "prepare", lambda config: None)
    monkeypatch.setattr(tune, "trial", lambda *_: {"skill": 0.5})
    searches = []
    monkeypatch.setattr(tune.kerastuner, "search", lambda search, path: searches.append(search))
    tune.tune(config, tuner, list(tune.SPACE), trials, str(tmp_path))
    oracle = searches[0].oracle
    assert getattr(oracle, "num_initial_points", None) == initial and oracle.max_trials == trials
    assert (oracle.objective.name, oracle.objective.direction) == ("skill", "max")


@pytest.mark.parametrize("skills, told", [
    ([0.0, 0.0, -0.1], "Best by skill: none of the 2 trials at 0, of which there is nothing to tell"),
    ([0.0, -0.1, -0.2], "Best by skill: trial 0, --entropy_weight=0.25"),
    ([0.5, 0.5, 0.0], "Best by skill: trial 0, --entropy_weight=0.25"),
])  # fmt: skip
def test_a_skill_of_0_is_told_as_none_and_ties_there_are_no_best(skills, told):
    table = pd.DataFrame({"trial": ["0", "1", "2"], "skill": skills, "entropy_weight": [0.25, 0.5, 0.75]})
    assert tune.best(table, ["entropy_weight"]).startswith(told)
    assert tune.shown(table).count("\nskill 0: nothing to tell") == 1 and "skill 0" not in tune.shown(table[:0])


@pytest.fixture
def quick(monkeypatch):
    """Trials that are no search: a run folder each, and a figure of its settings."""

    def trial(config, values, out, name, prepared):
        _, folder = RunFolder.begin_or_resume(os.path.join(out, "trials", name), config)
        figures = {"skill": values["entropy_weight"], "val_mauc": 0.5, "entropy": 1.0, "seconds": 1.0}
        folder.write_json("trial.json", {**values, **figures})
        return figures

    monkeypatch.setattr(tune.preparation, "prepare", lambda config: None)
    monkeypatch.setattr(tune, "trial", trial)


@pytest.mark.parametrize("name, content", [("oracle.json", ""), ("trial_1/trial.json", "[]"), ("tuner0.json", '{"a')])
def test_a_damaged_state_of_kerastuner_is_made_anew_from_the_trials(config, quick, tmp_path, caplog, name, content):
    before = tune.tune(config, "random", SETTINGS, 3, str(tmp_path))
    (tmp_path / "tuner" / name).write_text(content)
    more = tune.tune(config, "random", SETTINGS, 5, str(tmp_path))
    kept = more[more["trial"].isin(before["trial"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert len(more) == 6 and more["entropy_weight"].nunique() == 6
    assert (tmp_path / "tuner-damaged" / name).read_text() == content
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}/tuner is damaged (") and "made anew from the trials" in told


def test_a_state_made_anew_goes_on_with_trials_that_were_begun_under_another_number_of_them(
    config, quick, tmp_path, monkeypatch
):
    """Of nine the Bayesian process begins to propose after three, of three after two."""
    tune.tune(config, "bayesian", SETTINGS[:1], 3, str(tmp_path))
    (tmp_path / "tuner" / "oracle.json").write_text("")
    begun, trial = [], tune.trial

    def three(config, values, out, name, prepared):
        if name == "3":
            raise KeyboardInterrupt
        begun.append(name)
        return trial(config, values, out, name, prepared)  # which refuses others than it was begun with

    monkeypatch.setattr(tune, "trial", three)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(config, "bayesian", SETTINGS[:1], 9, str(tmp_path))
    assert begun == ["flags", "0", "1", "2"]


def test_a_state_made_anew_finds_trials_whatever_the_zeros_before_their_numbers(config, quick, tmp_path):
    before = tune.tune(config, "random", SETTINGS, 3, str(tmp_path))
    (tmp_path / "tuner" / "oracle.json").write_text("")
    more = tune.tune(config, "random", SETTINGS, 10, str(tmp_path))  # whose numbers have two digits
    kept = more[more["trial"].isin(before["trial"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert len(more) == 11
    (tmp_path / "tuner" / "oracle.json").write_text("")
    assert len(tune.tune(config, "random", SETTINGS, 4, str(tmp_path))) == 11


@pytest.mark.parametrize("place", ["create_trial", "update_trial", "end_trial"])
def test_a_full_disk_under_kerastuner_is_one_sentence_and_the_same_command_goes_on(
    config, quick, tmp_path, monkeypatch, place
):
    def full(oracle, *_, **__):
        (tmp_path / "tuner" / "oracle.json").write_text("")  # as it is left then
        raise tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/tuner/oracle.json; No space left on device")

    before = tune.tune(config, "random", SETTINGS, 2, str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(keras_tuner.Oracle, place, full)
        with pytest.raises(
            UserError,
            match="write .*tuner. Received: No space left on device; free some space; the same command goes on[.]$",
        ):
            tune.tune(config, "random", SETTINGS, 3, str(tmp_path))
    table = tune.tune(config, "random", SETTINGS, 3, str(tmp_path))
    assert sorted(table["trial"]) == ["0", "1", "2", "flags"] and set(before["trial"]) < set(table["trial"])


@pytest.mark.parametrize(
    "crossfitted", [True, False], ids=["nothing is gained on the other half", "nothing is judged by both halves"]
)
def test_a_trial_without_a_skill(config, tuned, tmp_path, monkeypatch, crossfitted):
    """Where the best of one half gains nothing on the other, nor does the policy; without halves there is nothing to
    tune by.
    """
    search = tune.pipeline.search

    def without_skill(*arguments):
        found = search(*arguments)
        # of one attribute there is none either
        found.state.search.update(
            skill=None, specialisation=None, **({} if crossfitted else {"num_attributes_crossfitted": 0})
        )
        return found

    monkeypatch.setattr(tune.pipeline, "search", without_skill)
    config = dataclasses.replace(config, adapt_steps=0, finetune_steps=0, size_penalty=0.0)
    shutil.copytree(os.path.join(tuned[0], "trials", tune.AS_GIVEN), tmp_path / "trials" / "0")
    os.remove(tmp_path / "trials" / "0" / "trial.json")  # searched, and stopped before its figures were kept
    arguments = config, {}, str(tmp_path), "0", tune.preparation.prepare(config)
    if crossfitted:
        assert tune.trial(*arguments)["skill"] == 0.0
        return
    with pytest.raises(
        UserError, match="Expected attributes that both halves of validation can judge in sun. Received: none"
    ):
        tune.trial(*arguments)


def test_a_mistake_in_a_trial_is_told_in_its_own_sentence(config, tmp_path, monkeypatch):
    def trial(config, values, out, name, prepared):
        if name != tune.AS_GIVEN:
            raise UserError("Expected a disk with room.")
        return {"skill": 0.5}

    monkeypatch.setattr(tune.preparation, "prepare", lambda config: None)
    monkeypatch.setattr(tune, "trial", trial)
    with pytest.raises(UserError, match="^Expected a disk with room.$"):
        tune.tune(config, "random", SETTINGS, 2, str(tmp_path))


def test_data_that_cannot_be_read_leave_nothing_behind(config, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        tune.tune(
            dataclasses.replace(config, data_dir=(str(tmp_path / "nowhere"),)),
            "random",
            SETTINGS,
            1,
            str(tmp_path / "out"),
        )
    assert not os.path.exists(tmp_path / "out")


@pytest.mark.parametrize("changes, words", [
    (dict(trunk_model="typo.keras"), "Expected a Keras model file in --trunk_model. Received: typo.keras, which is no file"),
    (dict(source_run=("nowhere",)), "--source_run=nowhere"),
])  # fmt: skip
def test_a_trunk_or_a_source_that_is_not_there_is_told_before_the_data_are_read(
    config, tmp_path, monkeypatch, changes, words
):
    monkeypatch.setattr(tune.preparation, "prepare", None)
    with pytest.raises(UserError, match=words):
        tune.tune(dataclasses.replace(config, **changes), "random", SETTINGS, 1, str(tmp_path / "out"))
    assert not os.path.exists(tmp_path / "out")  # the repaired command can have the folder


def test_a_tuning_of_the_first_version_is_told(config, tmp_path):
    """It kept the settings apart from the tuner's, so that all of them would pass for others."""
    (tmp_path / "tune.json").write_text(json.dumps({"tuner": "random", "settings": [], "config": config.to_json()}))
    told = (
        f"go on with in {tmp_path}. Received: one that was begun by an earlier version; name another folder by --out."
    )
    with pytest.raises(UserError, match=re.escape(told)):
        tune.tune(config, "random", SETTINGS, 1, str(tmp_path))


def test_another_method_has_none_of_the_settings(config, tmp_path):
    with pytest.raises(UserError, match="Expected --method=galm, .* Received: method=random; leave it out."):
        tune.tune(dataclasses.replace(config, method="random"), "random", SETTINGS, 1, str(tmp_path / "out"))
    assert not os.path.exists(tmp_path / "out")


@pytest.mark.parametrize(
    "changes", [dict(run_dir="runs/A"), dict(resume=True), dict(source_run=("a",), add_attribute="x.csv")]
)
def test_flags_of_one_run_are_refused(config, tmp_path, changes):
    with pytest.raises(UserError, match=f"settings of a search alone.*Received: --{[*changes][-1]}; leave it out."):
        tune.tune(dataclasses.replace(config, **changes), "random", SETTINGS, 1, str(tmp_path / "out"))


@pytest.mark.parametrize("changes", [dict(freeze_trunk=True), dict(match="cosine"), dict(trunk_pixels="tf")], ids=str)
def test_settings_that_nothing_would_read_are_refused(config, tmp_path, changes):
    with pytest.raises(UserError, match=f"Expected a --(source_run|trunk_model) beside --{[*changes][0]}"):
        tune.tune(dataclasses.replace(config, **changes), "random", SETTINGS, 1, str(tmp_path / "out"))


def test_rewards_of_mini_batches_tell_no_skill(config, tmp_path):
    config = dataclasses.replace(config, reward_data="batch", reward_bn="batch", size_penalty=0.0)
    with pytest.raises(
        UserError, match="Expected --reward_data=full, whose table.*Received: reward_data=batch; leave it out."
    ):
        tune.tune(config, "random", SETTINGS, 1, str(tmp_path / "tune"))
    assert not (tmp_path / "tune").exists()


def test_skill_is_tuned_on_networks_chosen_by_their_auc_alone(config, tuned, tmp_path):
    for name in ("flags", "0", "1"):
        with open(os.path.join(tuned[0], "trials", name, "config.json"), encoding="utf-8") as file:
            assert json.load(file)["size_penalty"] == 0.0
    with pytest.raises(UserError, match="Expected no --size_penalty in a tuning.*Received: size_penalty=0.1; leave it"):
        tune.tune(dataclasses.replace(config, size_penalty=0.1), "random", SETTINGS, 1, str(tmp_path / "tune"))
    assert not (tmp_path / "tune").exists()


def test_trials_of_other_data_are_not_mixed_into_the_same_folder(config, tuned):
    path = os.path.join(tuned[0], "trials", tune.AS_GIVEN, "data.json")
    with open(path, encoding="utf-8") as file:
        before = file.read()
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**json.loads(before), "labels": "others"}, file)
    try:
        with pytest.raises(
            UserError,
            match="Expected the data that the run in .*flags began with. Received: other labels; .* or name another folder by --out",
        ):
            tune.tune(config, "random", SETTINGS, 2, tuned[0])
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write(before)


def test_other_settings_are_not_mixed_into_the_same_folder(config, tuned):
    out = tuned[0]
    with pytest.raises(UserError, match="dropout=0.1 now, 0.3 in the tuning"):
        tune.tune(dataclasses.replace(config, dropout=0.1), "random", SETTINGS, 2, out)
