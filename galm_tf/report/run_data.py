"""The data of a finished run, loaded as the run loaded them: for pictures, and for what a plain learner makes of them."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np

from galm_tf.domains import load_domains
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split, with_few_positives
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.report.run_reading import FinishedRun


class Unavailable(Exception):
    """The data cannot be shown; the message is the sentence that the page shows in their place."""


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


def load_data(run: FinishedRun) -> RunData:
    """Loads the data of a run, whose folder holds the split; raises Unavailable when they are not here or have changed."""
    absent = [d for d in run.config.data_dir if not os.path.isdir(os.path.expanduser(d))]
    if absent:
        raise Unavailable(f"Pictures and ridge regression are left out: the data folder {absent[0]} is not on this machine.")
    try:
        with open(os.path.join(run.path, "split.json"), encoding="utf-8") as file:
            split = Split.from_json(json.load(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("Pictures and ridge regression are left out: the run's split.json cannot be read.") from error
    try:
        domain, images, _ = load_images(load_domains(run.config), run.config)
    except UserError as error:
        raise Unavailable(f"Pictures and ridge regression are left out, for the data cannot be loaded. {error}") from error
    if max(map(_last, (split.train, split.validation, split.test))) >= len(domain.paths) or not len(split.test):
        raise Unavailable("Pictures and ridge regression are left out: the data have fewer images than in the run.")
    missing = [name for name in run.rows if name not in domain.attributes]
    if missing:
        raise Unavailable(f"Pictures and ridge regression are left out: the data no longer have the attribute {missing[0]}.")
    domain = with_few_positives(domain, split.train, run.config)  # before any column is left out: which are kept goes by its number
    columns = [domain.attributes.index(name) for name in run.rows]
    labels = domain.labels[:, columns]
    _check_labels(run, labels[split.train])
    return RunData(domain, images, split, labels, domain.targets[:, columns])


def _check_labels(run: FinishedRun, training_labels: np.ndarray) -> None:
    """Makes sure that these are the labels the run was made on, by how often each attribute occurs."""
    for (name, row), column in zip(run.rows.items(), training_labels.T):
        if row["prevalence"] is not None and not np.isclose(np.nanmean(column), row["prevalence"], atol=1e-4):
            raise Unavailable(f"Pictures and ridge regression are left out: the labels of {name} have changed since the run.")


def _last(index: np.ndarray) -> int:
    return int(index.max()) if len(index) else -1
