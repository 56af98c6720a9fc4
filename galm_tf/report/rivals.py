"""What a run's test figures stand against: chance, ridge regression on its own images, other runs on the same data."""

from __future__ import annotations

import dataclasses
import glob
import json
import logging
import os
import shlex
from typing import Any, Collection, Optional, Sequence

import numpy as np

from galm_tf import data_digests, linear_pixels, source_runs
from galm_tf.config import SOURCE_SETTINGS
from galm_tf.errors import UserError
from galm_tf.report.run_data import RunData
from galm_tf.report.run_reading import FinishedRun, read_run
from galm_tf.run_folder import FREE_SETTINGS
from galm_tf.strategies import passed_over

RIDGE = f"ridge regression on {linear_pixels.SIDE}×{linear_pixels.SIDE} pixels"
_NOT_TESTED = ("split", data_digests.TESTED, source_runs.DIGESTS)  # of data.json; of the split the test alone counts


@dataclasses.dataclass(frozen=True)
class Rival:
    """Another way of predicting the run's attributes.

    Attributes:
      name: for the page.
      aucs: attribute -> its test AUC, of those that were tested as in the run.
      otherwise, untold: of `SameTest`.
    """

    name: str
    aucs: dict[str, float]
    otherwise: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SameTest:
    """What the folders of two runs tell of whether their test figures compare.

    Attributes:
      same: whether both were tested on the same images; of runs of earlier versions, on the same labels too, as far as
        their folders tell.
      otherwise: attributes that both tested, on the same images with other labels: their figures do not compare.
      untold: attributes that both tested, whose labels the folders do not tell to be the same.
    """

    same: bool
    otherwise: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def chance(run: FinishedRun) -> Rival:
    """Scores that know nothing, as those of a predictor that always names the majority."""
    return Rival("chance, or always the majority", dict.fromkeys(tested(run), 0.5))


def ridge(run: FinishedRun, data: RunData) -> Rival:
    """The linear model on small pictures, fitted on the run's training images, and on validation unless labels were to
    be few.
    """
    logging.info("Fitting %s", RIDGE)
    # an extended run's split.json has the judges of its source's attributes alone
    split = dataclasses.replace(data.split, judged_by=tuple(row.get("judged_by") for row in run.rows.values()))
    aucs = linear_pixels.test_aucs(data.images, data.labels, data.targets, split, data.domain, run.config)
    return Rival(RIDGE, {name: float(a) for name, a in zip(run.rows, aucs) if np.isfinite(a)})


def other_runs(run: FinishedRun, folders: Sequence[str]) -> list[Rival]:
    """Finished runs that were tested on the same images and labels; raises UserError for one that was not.

    Args:
      run: the run.
      folders: of other runs, as the user named them.
    """
    found = []
    for folder in folders:
        other = read_run(folder)
        told = same_test(run, other)
        rival = _as_rival(other, told)
        if not told.same or (told.otherwise and rival.aucs.keys().isdisjoint(tested(run))):
            raise UserError(
                f"Expected comparators that were tested on the images and labels of {run.path}. Received: {folder}, with other data or "
                f"another split; python -m galm_tf.report {shlex.quote(run.path)} {shlex.quote(folder)} shows both side by side."
            )
        found.append(rival)
    return found


def neighbours(run: FinishedRun) -> list[Rival]:
    """Runs in the folder beside this one that differ in their method alone."""
    parent = os.path.dirname(os.path.abspath(run.path))
    found = []
    for file in sorted(glob.glob(os.path.join(glob.escape(parent), "*", "result.json"))):
        folder = os.path.dirname(file)
        try:
            other = read_run(folder)
        except UserError:
            continue  # nobody asked for it
        if _same_but_method(run, other) and (told := same_test(run, other)).same:
            found.append(_as_rival(other, told))
    return found


def _same_but_method(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether settings that both runs read differ in the method alone."""
    ours, theirs = run.config.to_json(), other.config.to_json()
    unread = {"method", *FREE_SETTINGS}
    if not (run.config.source_run or other.config.source_run):
        unread.update(SOURCE_SETTINGS)
    unread |= passed_over(ours["method"]) | passed_over(theirs["method"])
    same = all(ours[k] == theirs[k] for k in ours if k not in unread)
    return same and ours["method"] != theirs["method"]


def _as_rival(run: FinishedRun, told: SameTest) -> Rival:
    name = f"{run.name} (method {run.result['method']}, seed {run.result['seed']})"
    return Rival(name, without(tested(run), told.otherwise), told.otherwise, told.untold)


def tested(run: FinishedRun) -> dict[str, float]:
    """Attribute -> test AUC, where there is one."""
    return {name: row["test_auc"] for name, row in run.rows.items() if row["test_auc"] is not None}


def without(aucs: dict[str, float], names: Collection[str]) -> dict[str, float]:
    """What is not of these attributes."""
    return {name: auc for name, auc in aucs.items() if name not in names}


def same_test(run: FinishedRun, other: FinishedRun) -> SameTest:
    """Whether the test figures of two runs compare: by what was tested, where both tell, else by all data and
    settings.
    """
    try:
        ours, theirs = (data_digests.read_data(r.path) for r in (run, other))
    except UserError:
        ours = theirs = {}  # a damaged file tells nothing
    both = [name for name in tested(run) if name in tested(other)]
    known, given = map(data_digests.tested_of, (ours, theirs))
    if known and given:
        if known["images"] != given["images"]:
            return SameTest(False)
        before, after = known["labels"], given["labels"]
        # an extended run does not tell of attributes of a source by an earlier version
        untold = [name for name in both if not (name in before and name in after)]
        otherwise = [name for name in both if name not in untold and before[name] != after[name]]
        return SameTest(True, tuple(otherwise), tuple(untold))
    same, labels_too = _same_data(run, other, ours, theirs)
    return SameTest(same, untold=() if labels_too else tuple(both))


def _same_data(run: FinishedRun, other: FinishedRun, ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[bool, bool]:
    """Whether two runs, of which one does not tell what it tested, were tested on the same as far as they tell; and
    whether that is told of the labels.

    ours, theirs: of their data.json.
    """
    if test_data(run) != test_data(other):
        return False, False
    alike = ("soft_labels", "train_positives", "label_files")  # else what was learned differs where the test does not
    if ours.get("names of attributes") != theirs.get("names of attributes") or any(
        getattr(run.config, k) != getattr(other.config, k) for k in alike
    ):
        ours = {name: value for name, value in ours.items() if name in data_digests.IMAGES}
    same = not data_digests.changed_data({k: v for k, v in ours.items() if k not in _NOT_TESTED}, theirs)
    return same, same and "labels" in ours and "labels" in theirs


def may_share_images(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs of other domains have some in common, with the same split and labels, so that of those the test
    may be the same.
    """
    (ours, *of_ours), (theirs, *of_theirs) = ((r.result["domains"], *_test_settings(r)) for r in (run, other))
    return ours != theirs and bool(set(ours) & set(theirs)) and of_ours == of_theirs


def test_data(run: FinishedRun) -> tuple[Any, ...]:
    """What two runs must have in common for their test figures to compare."""
    result = run.result
    sources = result.get("data_sources") or result.get("data_source")
    return result["domains"], sources, result["num_images"].get("test"), *_test_settings(run), _tested_records(run)


def _test_settings(run: FinishedRun) -> tuple[Any, Any]:
    """(split, labels), as far as settings say who is tested by what."""
    config = run.config
    split = (config.split_seed, config.splits_file, config.test_split)
    labels = (
        (config.sun_votes, config.sun_positive, config.sun_unanimous)
        if "sun" in run.result["domains"] or config.data_dir
        else ()
    )
    return split, labels


def _tested_records(run: FinishedRun) -> Optional[list[int]]:
    """Numbers of the test images: earlier versions drew some data's by the run's seed. None where the run does not
    tell.
    """
    try:
        with open(os.path.join(run.path, "split.json"), encoding="utf-8") as file:
            return json.load(file)["test"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def paired(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Mean of ours minus theirs over the attributes that both tested, its spread, and how many are better, or worse, as
    far as pages show.
    """
    both = [name for name in ours if name in theirs]
    values = np.array([ours[name] - theirs[name] for name in both])
    shown = [round(value, 3) for value in values.tolist()]
    if not both:
        return {"count": 0}
    return {
        "count": len(both),
        "theirs": float(np.mean([theirs[name] for name in both])),
        "mean": float(values.mean()),
        "deviation": float(values.std(ddof=1)) if len(both) > 1 else None,
        "better": sum(value > 0 for value in shown),
        "worse": sum(value < 0 for value in shown),
    }


def table(run: FinishedRun, rivals: Sequence[Optional[Rival]]) -> list[dict[str, Any]]:
    """A row per rival: name and what `paired` tells; the strongest first."""
    rows = [
        {"name": rival.name, "ridge": rival.name == RIDGE, **paired(tested(run), rival.aucs)}
        for rival in rivals
        if rival
    ]
    return sorted((row for row in rows if row["count"]), key=lambda row: -row["theirs"])
