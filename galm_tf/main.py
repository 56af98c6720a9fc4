"""Designs, trains, tests and exports one small network per attribute.

    python -m galm_tf.main --domain=sun
    python -m galm_tf.main --domain=sun --data_dir=DIR --flagfile=flags/quick.flags
    python -m galm_tf.main --add_attribute=labels.csv --source_run=runs/A --run_dir=runs/A-plus

Most runs need few of the flags below: --domain and --data_dir (on what), --flagfile (how long), --image_size and
--trunk_model (what it sees), --seed and --split_seed, --run_dir and --resume, --source_run (from which run), --method.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import logging
import os
import shlex
import sys
from typing import Any, Optional

from absl import flags

from galm_tf import config as config_lib
from galm_tf import add_attribute, evaluation, pipeline, run_result, source_runs, temperature
from galm_tf.config import Config
from galm_tf.domains.splits import MORE_JUDGED
from galm_tf.errors import UserError
from galm_tf.matches import givers, is_close
from galm_tf.network_size import Size, trunk_size
from galm_tf.run_folder import RunFolder, free_path, last_path, read_config, unfinished_runs, with_kept_tables
from galm_tf.schedule import FINETUNE
from galm_tf.strategies import METHODS
from galm_tf.words import counted, listed

# attributes that the last lines name: of the best, the worst and those not tested; unfinished runs that a message names
_SHOWN = 3


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    config = settings(flags.FLAGS)
    path = config.run_dir or free_path(config.domain, config.method, config.seed)
    print(summary(run(config, path), path))


def settings(given: flags.FlagValues) -> Config:
    """The parsed flags; what they leave open is for --resume as in the run, for --add_attribute as in the source
    run.
    """
    base = None
    if given.add_attribute and not (given.resume and given.run_dir):
        method = given.method if given["method"].present else None
        base = add_attribute.source_settings(given.source_run, given.add_attribute, given.transfer, method)
    if given.resume:
        path = given.run_dir or _path_to_resume(given, base)
        base = dataclasses.replace(with_kept_tables(read_config(path, "run_dir"), path), run_dir=path)
    config = config_lib.from_flags(given, base)
    if base is None:  # else they are those of a run
        config = source_runs.with_pretrained_trunk(config)
    if not config.resume:  # an earlier version may have let them be
        config_lib.expect_read(config, base)
        _expect_source(given)
        _expect_penalty_read(config)
        _expect_evaluations_read(config, base or Config())
    return config


def _expect_source(given: flags.FlagValues) -> None:
    """Raises UserError for parts to hand over, be they the default ones, where no source is named; the flags of a run
    from nothing say that it had none.
    """
    if given["transfer"].present and not given["source_run"].present:
        raise UserError(
            "Expected a --source_run beside --transfer, which says what is taken from it. Received: none; name a finished run, or "
            "leave --transfer out, and the flagfile that holds it, such as flags/transfer.flags."
        )


def _expect_penalty_read(config: Config) -> None:
    """Raises UserError for a penalty of rewards beside a method that reads none."""
    reads_rewards = config.method in METHODS and METHODS[config.method].rewarded
    if config.size_penalty not in (0, Config().size_penalty) and not reads_rewards:
        raise UserError(
            f"Expected a --method that reads rewards beside --size_penalty, which lowers them. Received: method={config.method} and "
            f"size_penalty={config.size_penalty}; give --size_penalty=0, or take another method."
        )


def _expect_evaluations_read(config: Config, base: Config) -> None:
    """Raises UserError for a number of evaluations, other than in `base`, beside a method that has another budget."""
    if config.evaluations != base.evaluations and config.method not in config_lib.COUNTING:
        raise UserError(
            f"Expected --method={', '.join(config_lib.COUNTING[:-1])} or {config_lib.COUNTING[-1]} beside --evaluations, which says how many they make. Received: "
            f"method={config.method} and evaluations={config.evaluations}; name one of them, or leave --evaluations out."
        )


def _path_to_resume(given: flags.FlagValues, base: Optional[Config]) -> str:
    """The newest run that got its name from these flags, for others from `base`; raises UserError where there is none,
    naming what could be meant.
    """
    method, seed = (getattr(given if given[name].present else base or Config(), name) for name in ("method", "seed"))
    path = last_path(config_lib.asked_domains(given, base), method, seed)
    if not os.path.exists(os.path.join(path, "config.json")):
        found = [shlex.quote(f"--run_dir={run}") for run in unfinished_runs()[:_SHOWN]]
        repair = f"unfinished: {', '.join(found)}" if found else "name the folder of the run"
        raise UserError(f"Expected --run_dir beside --resume. Received: none, and there is no run {path}; {repair}.")
    return path


def run(config: Config, path: str) -> dict[str, Any]:
    """Makes or continues the run in a folder; says how to go on when it is stopped."""
    finished = config.resume and os.path.exists(os.path.join(path, "result.json"))
    if config.add_attribute and not finished:
        add_attribute.check_settings(config, path)
    task = add_attribute.run if config.add_attribute else pipeline.run
    folder = (RunFolder.resume if config.resume else RunFolder.create)(path, config)
    print(f"Run folder: {path}", file=sys.stderr)
    if len(config.source_run) > 1:  # each traces its functions anew, as it must
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    again = f"Go on with: python -m galm_tf.main --resume --run_dir={shlex.quote(path)}"
    with command_line.interrupted(again), folder.kept_if_used():
        if finished:
            _expect_result(folder)
            noted = f" but to note the new {' and '.join(moved)}" if (moved := folder.moved(config)) else ""
            print(
                f"This run was finished before: nothing is done{noted}, and no picture is looked at.", file=sys.stderr
            )
        return task(config, folder, make_strategy=METHODS.get(config.method))


def _expect_result(folder: RunFolder) -> None:
    """Raises UserError where result.json is damaged, or other JSON."""
    if "per_attribute" not in folder.read_json("result.json"):
        raise UserError(
            f"Expected the figures of a run in {os.path.join(folder.path, 'result.json')}. Received: other JSON; restore it from a copy."
        )


def summary(result: dict[str, Any], path: str) -> str:
    """What was reached and where it lies, for a person."""
    if "added" in result:
        return add_attribute.summary(result, path)
    search = result["search"]
    rows = run_result.searched_rows(result)
    reading = result["method"] == config_lib.READING
    finetuned = not reading and FINETUNE in search.get("phase_seconds", [FINETUNE])  # an earlier version does not tell
    judged = result.get("num_attributes_rewarded", 0)  # of a method that reads no rewards none is
    of_them = f", {judged} of them" if 0 < judged < result["num_attributes"] else ""
    done = "read" if reading else f"searched, {search['architectures_scored']} architectures scored"
    lines = [
        f"{'+'.join(result['domains'])}: {counted(result['num_attributes'], 'attribute')}{of_them} {done} in {result['seconds_total'] / 60:.1f} min",
        f"test mAUC {_figure(result['test_mauc'])}{evaluation.interval_in_words(result.get('test_mauc_interval'))} on {counted(result.get('num_images_tested', result['num_images']['test']), 'image')}"
        + (" of unseen classes" if result["class_disjoint"] else "")
        + f" ({counted(result['num_attributes_tested'], 'attribute')}{_of_told(rows)}); validation mAUC{', before fine-tuning,' * finetuned} {_figure(result['val_mauc'])}",
    ]
    if "network" in result:  # a run of an earlier version does not say
        lines.append(f"the networks together: {Size(**result['network']).describe()}")
    if result.get("trunk"):
        trunk = result["trunk"]
        taught = (
            " as it was"
            if "steps" not in trunk
            else f", its upper layers taught in {trunk['steps']} steps, loss {trunk['loss'][0]:.3f} to {trunk['loss'][1]:.3f}"
        )
        lines.append(
            f"of these the trunk, {trunk['model']}{taught} ({', '.join(trunk['layers'])}): {trunk_size(result['image_size'], trunk, towers=not reading).describe()}"
        )
    if result["notice"]:
        lines.insert(0, f"Data: {result['notice']}.")
    lines += [*_started(result), *_ranked(rows), *_untested(rows), *_unjudged(result, rows), *_below_chance(rows)]
    lines += filter(None, [temperature.told(result.get("temperature"))])
    files = [
        ("result.json", "all figures"),
        ("architectures.json", "the networks"),
        ("curves.png", "how it learned"),
        ("saved_model", "for serving"),
    ]
    files = [file for file in files if not reading or file[0] in ("result.json", "saved_model")]
    lines += [f"{os.path.join(path, name):<44} {what}" for name, what in files]
    lines.append(f"Look at it: python -m galm_tf.report {shlex.quote(path)}")
    lines.append(
        f"Try it:     python -m galm_tf.predict --model={shlex.quote(os.path.join(path, 'saved_model'))} IMAGE..."
    )
    lines.append(f"Watch it:   tensorboard --logdir={shlex.quote(path)}")
    return "\n".join(lines)


def _of_told(rows: dict[str, Any]) -> str:
    """The mean without those whose AUC is luck, where that is another."""
    told = evaluation.mean_of_told(rows)
    return (
        f"; {told[0]:.3f} over the {told[1]} tested on {evaluation.MIN_TOLD} images of either label or more"
        if told
        else ""
    )


def _below_chance(rows: dict[str, Any]) -> list[str]:
    """Whose yes and no mean little, the worst first."""
    names = sorted(
        (name for name, row in rows.items() if evaluation.below_chance(row)), key=lambda name: rows[name]["val_auc"]
    )
    return (
        [f"Below chance on validation, so that their yes and no mean little: {listed(names, _SHOWN)}"] if names else []
    )


def _started(result: dict[str, Any]) -> list[str]:
    """From which sources, and how many attributes found one like them there; nothing for a run from nothing."""
    transfer = result.get("transfer")
    if not transfer:
        return []
    given, left = givers(transfer)
    line = f"started from {', '.join(given)}"
    others = f"; nothing came from {', '.join(left)}" if left else ""
    if transfer.get("policy_from"):  # an earlier version did not tell it
        others += f"; the policy came from {transfer['policy_from']} alone"
    gate = transfer.get("gate")  # the first version had none
    if gate and not gate["passed"]:
        if result.get("trunk"):  # a pretrained one, which is theirs all the same
            return [f"{line}: only on its pretrained trunk, a trial from nothing else was better"]
        return [f"{line}: no, a trial from nothing was better"]
    matches = transfer["matches"]
    close = sorted(
        filter(lambda name: is_close(matches[name]), matches), key=lambda name: -(matches[name].get("strength") or 0.0)
    )
    shown = [
        f"{name} ← {matches[name]['attribute']}{' reversed' * (matches[name]['sign'] < 0)}" for name in close[:_SHOWN]
    ]
    if not close:
        towers = "; towers begin as the nearest ones there" * ("towers" in transfer["parts"])
        return [
            f"{line} ({', '.join(transfer['parts'])}): none of {len(matches)} attributes is like one there{towers}{others}"
        ]
    return [
        f"{line} ({', '.join(transfer['parts'])}): {len(close)} of {len(matches)} attributes matched by {transfer['match']} ({', '.join(shown)}){others}"
    ]


def _ranked(rows: dict[str, Any]) -> list[str]:
    """The best and the worst of the tested attributes; all in one line where they are few. Of few images an AUC is
    luck, which is said.
    """
    tested = evaluation.best_to_worst(rows, 2 * _SHOWN)
    many = len(tested) >= 2 * _SHOWN
    shown = (("best", tested[:_SHOWN]), ("worst", tested[-_SHOWN:])) if many else (("attributes", tested),)
    return [
        f"{title}: " + ", ".join(f"{n} {rows[n]['test_auc']:.3f}{evaluation.on_few_in_words(rows[n])}{_network(rows[n])}" for n in names)
        for title, names in shown if names
    ]  # fmt: skip


def _network(row: dict[str, Any]) -> str:
    return f" ({row['description']})" if row["architecture"] else ""


def _untested(rows: dict[str, Any]) -> list[str]:
    """Which attributes have no test figure, and why."""
    reasons = evaluation.untested_by_reason(rows)
    return (
        [f"Not tested: {'; '.join(f'{listed(names, _SHOWN)} ({reason})' for reason, names in reasons.items())}"]
        if reasons
        else []
    )


def _unjudged(result: dict[str, Any], rows: dict[str, Any]) -> list[str]:
    """Which attributes validation could not judge, and what their networks are worth; what the run is where it could
    judge none.
    """
    if not evaluation.nothing_judged(rows):
        names = [name for name, row in rows.items() if evaluation.unjudged(row)]
        what = (
            "no yes or no"
            if result["method"] == config_lib.READING
            else "an architecture that is not of their own, no yes or no"
        )
        return [f"Not judged, hence {what}: {listed(names, _SHOWN)}"] if names else []
    count = result["num_images"]["validation_classes"] + result["num_images"]["validation_images"]
    return [
        f"No attribute could be judged: too few labels of either kind among the {count} validation images; "
        f"{'the penalty of the readings is' if result['method'] == config_lib.READING else 'the architectures are'} arbitrary, no yes or no can be given; {MORE_JUDGED}."
    ]


def _figure(value: Any) -> str:
    return "not known" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    config_lib.define_flags()
    command_line.run(main)
