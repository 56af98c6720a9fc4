"""The data of a finished run, loaded as the run loaded them, and what its model says of the test images."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shlex
from typing import Optional, Sequence

import numpy as np

from galm_tf import data_digests
from galm_tf.config import as_flag
from galm_tf.domains import load_domains
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split, few_positives, with_few_positives
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.metrics import auc_columns, both_labels
from galm_tf.predict import Predictor
from galm_tf.report.run_reading import FinishedRun
from galm_tf.run_folder import with_kept_tables
from galm_tf.words import listed

_SAME_AUC = 0.005  # scores of another machine differ by rounding, which may swap a few close images


class Unavailable(Exception):
    """Something cannot be shown; the message is the sentence that the page shows in its place."""


class Changed(Unavailable):
    """What is at hand is not what the run was made on."""


@dataclasses.dataclass(frozen=True)
class RunData:
    """What the run was made on.

    Attributes:
      domain: of all attributes, those that could not be learned too; labels as the run knew them.
      images: uint8 [n, S, S, 3].
      split: record indices; its lists of attributes are those of the run.
      labels: {0, 1, NaN} [n, N], in the order of the run's rows.
      targets: the same of what was learned, in [0, 1].
    """

    domain: Domain
    images: np.ndarray
    split: Split
    labels: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the run's SavedModel says of its test images.

    Attributes:
      probability: float32 [t, N], in the order of the run's rows.
      decision: bool [t, N].
      decides: bool [N], whether an attribute's decisions mean anything.
    """

    probability: np.ndarray
    decision: np.ndarray
    decides: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What lies outside the run folder's own figures, each or the sentence that says why it is not there."""

    data: Optional[RunData] = None
    missing: str = ""
    scores: Optional[Scores] = None
    scores_missing: str = ""

    def test_domains(self) -> np.ndarray:
        """The number of each test image's domain, [t]."""
        return self.data.domain.image_domains[self.data.split.test]


def gather(run: FinishedRun, wanted: bool = True) -> Evidence:
    """Loads a run's data, and scores its test images once; neither where they are not wanted."""
    if not wanted:
        return Evidence(
            missing="Pictures, ridge regression and relations by scores are left out: the report was made with --nopictures."
        )
    try:
        data = load_data(run)
    except Unavailable as reason:
        logging.warning("%s", reason)
        return Evidence(missing=str(reason))
    try:
        return Evidence(data, scores=score_test(run, data))
    except Changed as reason:
        logging.warning("%s", reason)
        return Evidence(missing=str(reason))  # what else would be told of these images is not of the run's
    except Unavailable as reason:
        logging.warning("%s", reason)
        return Evidence(data, scores_missing=str(reason))


def score_test(run: FinishedRun, data: RunData) -> Scores:
    """Raises Unavailable where the model cannot be loaded, Changed where it does not give the AUCs that result.json
    holds.
    """
    try:
        predictor = Predictor(os.path.join(run.path, "saved_model"))
    except UserError as error:
        raise Unavailable("Scored examples are left out: the run's saved_model cannot be loaded.") from error
    if list(predictor.attributes) != list(run.rows):
        raise Unavailable("Scored examples are left out: the saved_model has other attributes than result.json.")
    test = data.split.test
    probability, decision = predictor.of_records(data.images, test)
    _check_scores(run, data.labels[test], probability)
    return Scores(probability, decision, predictor.decides)


def _check_scores(run: FinishedRun, labels: np.ndarray, probability: np.ndarray) -> None:
    """Makes sure that these are the images and the model that were tested: labels, probability [t, N]."""
    for i, (name, row) in enumerate(run.rows.items()):
        known = np.isfinite(labels[:, i])
        # of what is sure the order is in the log-odds alone, which result.json's AUC is of
        sure = ((probability[known, i] == 0.0) | (probability[known, i] == 1.0)).sum() > 1
        if row["test_auc"] is None or sure or not both_labels(labels[known, i]):
            continue
        auc = float(auc_columns(labels[known, i], probability[None, known, i])[0])
        if abs(auc - row["test_auc"]) > _SAME_AUC:
            raise Changed(
                "Pictures and ridge regression are left out: images, labels or model have changed since the run "
                f"(test AUC of {name} is {auc:.3f} now, {row['test_auc']:.3f} in result.json)."
            )


def _absent(run: FinishedRun, folders: Sequence[str]) -> str:
    """That data folders of a run are not here, and how to go on; one that is not absolute was named from where the run
    was made.
    """
    elsewhere = (
        ""
        if os.path.isabs(os.path.expanduser(folders[0]))
        else f", or not in {os.getcwd()}: make the report where the run was made"
    )
    moved = as_flag("data_dir", ["NEW" if folder in folders else folder for folder in run.config.data_dir])
    return (
        f"the data folder {folders[0]} is not on this machine{elsewhere}; where it has moved, note its new place by python -m galm_tf.main --resume "
        f"{shlex.quote(f'--run_dir={run.path}')} {shlex.quote(moved)}"
    )


def load_data(run: FinishedRun) -> RunData:
    """Loads the data of a run, whose folder holds the split; raises Unavailable when they are not here or have
    changed.
    """
    absent = [d for d in run.config.data_dir if not os.path.isdir(os.path.expanduser(d))]
    if absent:
        raise Unavailable(f"Pictures and ridge regression are left out: {_absent(run, absent)}.")
    try:
        with open(os.path.join(run.path, "split.json"), encoding="utf-8") as file:
            split = Split.from_json(json.load(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("Pictures and ridge regression are left out: the run's split.json cannot be read.") from error
    config = dataclasses.replace(with_kept_tables(run.config, run.path), resume=True)  # nothing may be left out now
    try:
        domain, images, _ = load_images(load_domains(config, has_split=True), config)
    except UserError as error:
        raise Unavailable(
            f"Pictures and ridge regression are left out, for the data cannot be loaded. {error}"
        ) from error
    if max(map(_last, (split.train, split.validation, split.test))) >= len(domain.paths) or not len(split.test):
        raise Unavailable("Pictures and ridge regression are left out: the data have fewer images than in the run.")
    missing = [name for name in run.rows if name not in domain.attributes]
    if missing:
        raise Unavailable(
            f"Pictures and ridge regression are left out: the data no longer have the attribute {missing[0]}."
        )
    domain = with_few_positives(domain, split.train, run.config, few_positives(run.rows, run.config))
    columns = [domain.attributes.index(name) for name in run.rows]
    labels, targets = domain.labels[:, columns], domain.targets[:, columns]
    _check_data(run, domain, targets)
    _check_labels(run, labels[split.train])
    return RunData(domain, images, split, labels, targets)


def _check_data(run: FinishedRun, domain: Domain, targets: np.ndarray) -> None:
    """Makes sure that these are the images and labels of all records that the run was made on, as far as it tells.

    targets: [n, N], in the order of the run's rows.
    """
    try:
        before = data_digests.read_data(run.path)
    except UserError:
        before = {}
    if changed := data_digests.changed_data(data_digests.data_digests(domain), before) + data_digests.changed_labels(
        list(run.rows), targets, before
    ):
        raise Unavailable(
            f"Pictures and ridge regression are left out, for the data have changed since the run: {listed(changed, len(changed))}."
        )


def _check_labels(run: FinishedRun, training_labels: np.ndarray) -> None:
    """The same for a run of an earlier version, by how often each attribute occurs."""
    for (name, row), column in zip(run.rows.items(), training_labels.T):
        if row["prevalence"] is not None and not np.isclose(np.nanmean(column), row["prevalence"], atol=1e-4):
            raise Unavailable(
                f"Pictures and ridge regression are left out: the labels of {name} have changed since the run."
            )


def _last(index: np.ndarray) -> int:
    return int(index.max()) if len(index) else -1
