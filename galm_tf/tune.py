"""Tunes the search's own settings by KerasTuner: which make the policy choose best?

    python -m galm_tf.tune --domain=sun --trials=20 --out=runs/tune
    python -m galm_tf.tune --domain=sun --tuner=random --settings=entropy_weight --settings=controller_learning_rate

Each trial is a search without adaptation and fine-tuning, and with --size_penalty=0. Its figure is the
policy's cross-fitted validation skill, which is of the AUC alone: test images are not looked at. Beside the trials stands `flags`,
the settings as they are. The same command goes on after a stop. Flags of galm_tf.main apply.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import logging
import os
from typing import Any, Optional, Sequence

import keras_tuner
import pandas as pd
from absl import flags

from galm_tf import config as config_lib
from galm_tf import data_digests, kerastuner, pipeline, preparation, source_runs
from galm_tf.begun import Begun, expect_writable, read_result, result_file
from galm_tf.config import Config, as_flag
from galm_tf.controller_training import ControllerTraining
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.selection import SKILL_CAVEAT
from galm_tf.telemetry import write_hparams

FLAGS = flags.FLAGS
TUNERS = {"bayesian": keras_tuner.BayesianOptimization, "random": keras_tuner.RandomSearch}
OBJECTIVE, _TRIAL = "skill", "trial.json"
_BEGUN = "tune.json"  # with which settings
_TUNER = "tuner"  # folder of KerasTuner's state
_DOUBTFUL_SKILL = 1.5  # from here on a skill is noise more than anything
AS_GIVEN = "flags"  # the trial of the settings as they are
# What may be tuned, and between which bounds; of how long a search takes, as shares of what the flags say.
SPACE: dict[str, dict[str, Any]] = {
    "warmup_steps": {"kind": "Int", "shares": (0.25, 2.0)},
    "learning_rate": {"kind": "Float", "min_value": 3e-4, "max_value": 1e-2, "sampling": "log"},
    "controller_learning_rate": {"kind": "Float", "min_value": 2e-4, "max_value": 2e-2, "sampling": "log"},
    "entropy_weight": {"kind": "Float", "min_value": 0.01, "max_value": 1.0, "sampling": "log"},
    "baseline_decay": {"kind": "Float", "min_value": 0.5, "max_value": 0.99},
    "samples_per_step": {"kind": "Int", "min_value": 8, "max_value": 256, "sampling": "log", "step": 2},
}


def space(settings: Sequence[str], config: Config) -> keras_tuner.HyperParameters:
    """The settings to tune, as KerasTuner wants them."""
    parameters = keras_tuner.HyperParameters()
    for name in settings:
        bounds = dict(SPACE[name])
        if "shares" in bounds:
            low, high = (max(1, round(share * getattr(config, name))) for share in bounds.pop("shares"))
            bounds.update(min_value=low, max_value=max(low + 1, high))
        getattr(parameters, bounds.pop("kind"))(name, **bounds)
    return parameters


def tune(config: Config, tuner: str, settings: Sequence[str], trials: int, out: str) -> pd.DataFrame:
    """Runs what is left of the trials.

    Args:
      config: every setting that is not tuned; `size_penalty` is taken as 0.
      tuner: a name in `TUNERS`.
      settings: names in `SPACE`.
      trials: how many in all, besides that of the settings as they are.
      out: folder of KerasTuner's state and of the trials' run folders.

    Returns:
      One row per finished trial, best first: trial, the settings, skill, val_mauc of the table's choice, entropy,
      seconds.

    Raises:
      UserError: another method, rewards of mini-batches, a penalty on size, a folder with a tuning of other settings, or a data set
        without cross-fitted rewards.
    """
    _expect_tunable(config)
    # skill is of the AUC alone, whatever the size of networks
    config = dataclasses.replace(config, adapt_steps=0, finetune_steps=0, size_penalty=0.0)
    asked = {**config.to_json(), "tuner": tuner, "settings": list(settings)}
    _expect_flat(os.path.join(out, _BEGUN))
    begun = Begun(os.path.join(out, _BEGUN), asked, "tuning")
    pipeline.expect_beginnings(config)
    prepared = preparation.prepare(config)
    expect_writable(out)
    begun.keep()
    trial(config, {name: getattr(config, name) for name in settings}, out, AS_GIVEN, prepared)

    class Trials(TUNERS[tuner]):
        """KerasTuner's search around whole runs."""

        def run_trial(self, proposed, *_, **__):
            asked = dataclasses.replace(config, **{name: proposed.hyperparameters.get(name) for name in settings})
            values = {name: getattr(asked, name) for name in settings}
            return {OBJECTIVE: trial(asked, values, out, _name(out, proposed.trial_id), prepared)[OBJECTIVE]}

    # KerasTuner proposes three times the settings at random first, 18 of 20 trials.
    begin = {"num_initial_points": max(2, trials // 3)} if tuner == "bayesian" else {}

    def begin_or_reload() -> keras_tuner.Tuner:
        return Trials(
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            max_trials=trials,
            seed=1 + config.seed,  # 0 it takes for none
            hyperparameters=space(settings, config),
            tune_new_entries=False,
            directory=out,
            project_name=_TUNER,
            **begin,
        )

    state = os.path.join(out, _TUNER)
    search = kerastuner.begin(begin_or_reload, state)
    _go_on_with_begun(search.oracle, settings, out)
    kerastuner.search(search, state)
    return _table(settings, out)


def _expect_flat(path: str) -> None:
    """Raises UserError for a tuning whose file holds its settings apart from the tuner's, as the first version wrote
    it.
    """
    if os.path.exists(path) and isinstance(read_result(path).get("config"), dict):
        raise UserError(
            f"Expected a tuning that this version can go on with in {os.path.dirname(path)}. Received: one that was begun by an earlier version; "
            "name another folder by --out."
        )


def _go_on_with_begun(oracle: keras_tuner.Oracle, settings: Sequence[str], out: str) -> None:
    """Lets KerasTuner propose for a trial that has a run folder what that was begun with: its state was made anew, and
    then it may propose others than under another --trials.
    """
    propose = oracle.populate_space

    def populate_space(name: str) -> dict[str, Any]:
        proposed, path = propose(name), os.path.join(out, "trials", _name(out, name))
        if "values" in proposed and os.path.exists(os.path.join(path, "config.json")):
            begun = read_config(path)
            proposed["values"] = {setting: getattr(begun, setting) for setting in settings}
        return proposed

    oracle.populate_space = populate_space


def _names(out: str) -> list[str]:
    """Folders of KerasTuner's trials, by their numbers."""
    path = os.path.join(out, "trials")
    return sorted(filter(str.isdecimal, os.listdir(path) if os.path.isdir(path) else ()), key=int)


def _name(out: str, trial_id: str) -> str:
    """The folder of a trial: another --trials may give its number more zeros, where KerasTuner's state is made anew."""
    return next((name for name in _names(out) if int(name) == int(trial_id)), trial_id)


def _expect_tunable(config: Config) -> None:
    unread = [name for name in ("add_attribute", "run_dir", "resume") if getattr(config, name)]
    if unread:
        raise UserError(
            f"Expected settings of a search alone: a tuning goes on by itself, and its runs are named by --out. Received: --{unread[0]}; leave it out."
        )
    if config.method != "galm":
        raise UserError(
            f"Expected --method=galm, whose settings are what is tuned. Received: method={config.method}; leave it out."
        )
    if config.reward_data != "full":
        raise UserError(
            "Expected --reward_data=full, whose table of all rewards tells the skill of a search. Received: "
            f"reward_data={config.reward_data}; leave it out."
        )
    if config.size_penalty not in (0, Config().size_penalty):
        raise UserError(
            f"Expected no --size_penalty in a tuning, whose figure is of the AUC alone. Received: size_penalty={config.size_penalty}; leave it out."
        )
    config_lib.expect_read(config)


def trial(
    config: Config, values: dict[str, Any], out: str, name: str, prepared: preparation.Prepared
) -> dict[str, Any]:
    """One search, resumed where it stands; its figures also go to TensorBoard's HParams."""
    path = os.path.join(out, "trials", name)
    config, folder = RunFolder.begin_or_resume(path, dataclasses.replace(config, measure_skill=True))
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    if folder.has(_TRIAL):
        return folder.read_json(_TRIAL)
    search = pipeline.search(config, folder, prepared, ControllerTraining)
    if not search.state.search.get("num_attributes_crossfitted", 1):  # an earlier version does not tell
        raise UserError(
            f"Expected attributes that both halves of validation can judge in {prepared.domain.name}. Received: none; "
            "give more images, or a larger --validation_class_fraction, and another folder by --out."
        )
    skill: Optional[float] = search.state.search[OBJECTIVE]
    figures = {
        # None: the best of one half gains nothing on the other, nor does the policy
        OBJECTIVE: 0.0 if skill is None else skill,
        "val_mauc": search.state.best_mauc,
        "entropy": search.state.search["entropy"],
        "seconds": sum(search.state.phase_seconds.values()),
    }
    write_hparams(folder, config, figures)
    folder.write_json(_TRIAL, {**values, **figures})
    return figures


def _table(settings: Sequence[str], out: str) -> pd.DataFrame:
    rows = []
    for name in (AS_GIVEN, *_names(out)):
        folder = RunFolder(os.path.join(out, "trials", name), lock=False)
        if folder.has(_TRIAL):
            rows.append({"trial": name, **folder.read_json(_TRIAL)})
    columns = ["trial", *settings, OBJECTIVE, "val_mauc", "entropy", "seconds"]
    return pd.DataFrame(rows, columns=columns).sort_values(OBJECTIVE, ascending=False, ignore_index=True)


def shown(table: pd.DataFrame) -> str:
    """The table for a person, with a caveat where a skill wants one."""
    lines = [table.to_string(index=False, float_format="%.4g")]
    if (table[OBJECTIVE] > _DOUBTFUL_SKILL).any():
        lines.append(f"{OBJECTIVE}: {SKILL_CAVEAT}")
    if (table[OBJECTIVE] == 0).any():
        lines.append(
            f"{OBJECTIVE} 0: nothing to tell; what is best on one half of validation gains nothing on the other."
        )
    return "\n".join(lines)


def best(table: pd.DataFrame, settings: Sequence[str]) -> str:
    """The best trial of a table and its flags, in words; that there is none where the first ones say nothing."""
    first = table.iloc[0]
    ties = int((table[OBJECTIVE] == first[OBJECTIVE]).sum())
    if first[OBJECTIVE] == 0 and ties > 1:
        return (
            f"Best by {OBJECTIVE}: none of the {ties} trials at 0, of which there is nothing to tell; more images would"
        )
    given = (
        as_flag(name, float(f"{first[name]:.4g}") if SPACE[name]["kind"] == "Float" else first[name])
        for name in settings
    )
    return f"Best by {OBJECTIVE}: trial {first['trial']}, {' '.join(given)}"


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("tuner", "bayesian", list(TUNERS), "KerasTuner's way of proposing settings.")
    flags.DEFINE_integer("trials", 20, "How many settings are tried, besides the settings as they are.", lower_bound=1)
    flags.DEFINE_multi_enum("settings", list(SPACE), list(SPACE), "What is tuned")  # absl adds how to give several
    flags.DEFINE_string(
        "out",
        os.path.join("runs", "tune"),
        "Folder for trials.csv, tune.json (the settings of the tuning) and the trials' runs.",
    )


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each trial traces its functions anew, as it must
    config = config_lib.from_flags(FLAGS)
    settings = list(dict.fromkeys(FLAGS.settings))
    with command_line.interrupted("The same command goes on."):
        table = tune(source_runs.with_pretrained_trunk(config), FLAGS.tuner, settings, FLAGS.trials, FLAGS.out)
    path = os.path.join(FLAGS.out, "trials.csv")
    with result_file(path) as partial:
        table.to_csv(partial, index=False)
    print(shown(table))
    print("Networks are chosen by their AUC alone here, as by --size_penalty=0.")
    print(best(table, settings))
    print(f"{path}; watch it: tensorboard --logdir={os.path.join(FLAGS.out, 'trials')}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
