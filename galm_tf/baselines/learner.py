"""What every attribute learner is, what it sees, and how its settings are chosen.

A learner is fitted on training images, or features of them, and scores the
attributes of others. Its settings are chosen among the training classes only:
folds are disjoint by class, as the test is, so no image and no label of a test
class is looked at. Learners read no files; `features` does.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from galm_tf import evaluation
from galm_tf.domains.domain import finer
from galm_tf.domains.splits import with_both_labels
from galm_tf.errors import UserError
from galm_tf.progress import Progress

FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a learner may see of some images.

    Attributes:
      images: uint8 [n, S, S, 3], for learners that make their own features.
      features: float [n, D], for the others.
    """

    images: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.features), (self.images.shape, self.features.shape)

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: np.ndarray) -> "Inputs":
        """Those of an index array."""
        return Inputs(self.images[rows], self.features[rows])


@dataclasses.dataclass(frozen=True)
class LearnerData:
    """What a learner is fitted on.

    Attributes:
      inputs: of n images.
      labels: [n, N] in {0, 1, NaN}, NaN meaning unknown.
      class_ids: int [n], of any values.
      source: the same of other domains, with other attributes and classes; None
        without. See `sources` for learners that do not take it themselves.
      shares: as `Domain.shares`. Learners that can fit shares of votes fit `targets`.
    """

    inputs: Inputs
    labels: np.ndarray
    class_ids: np.ndarray
    source: Optional["LearnerData"] = None
    shares: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        assert len(self.inputs) == len(self.labels) == len(self.class_ids)
        assert self.shares is None or self.shares.shape == self.labels.shape

    @property
    def images(self) -> np.ndarray:
        return self.inputs.images

    @property
    def features(self) -> np.ndarray:
        return self.inputs.features

    @property
    def targets(self) -> np.ndarray:
        return finer(self.labels, self.shares)

    def take(self, rows: np.ndarray) -> "LearnerData":
        """The rows of an index array; the source stays whole."""
        shares = None if self.shares is None else self.shares[rows]
        return LearnerData(self.inputs.take(rows), self.labels[rows], self.class_ids[rows], self.source, shares)


def join(parts: Sequence[LearnerData]) -> LearnerData:
    """Several domains as one: labels are unknown outside an image's own domain, classes stay apart."""
    labels, targets = np.full(
        (2, sum(len(p.labels) for p in parts), sum(p.labels.shape[1] for p in parts)), np.nan, np.float32
    )
    row = column = 0
    class_ids = []
    for number, part in enumerate(parts):
        rows, columns = part.labels.shape
        labels[row : row + rows, column : column + columns] = part.labels
        targets[row : row + rows, column : column + columns] = part.targets
        class_ids.append(
            np.unique(part.class_ids, return_inverse=True)[1] + sum(len(np.unique(p.class_ids)) for p in parts[:number])
        )
        row, column = row + rows, column + columns
    inputs = Inputs(*(np.concatenate([getattr(p, kind) for p in parts]) for kind in ("images", "features")))
    return LearnerData(inputs, labels, np.concatenate(class_ids), shares=targets)


class AttributeLearner(abc.ABC):
    """Predicts attributes of images.

    Attributes:
      chosen: the settings that `fit` chose, by name; empty before.
    """

    chosen: dict[str, Any] = {}

    @abc.abstractmethod
    def fit(self, data: LearnerData) -> "AttributeLearner":
        """Chooses the settings, then fits all rows; returns itself."""

    @abc.abstractmethod
    def score(self, inputs: Inputs) -> np.ndarray:
        """float64 [m, N]; larger means more likely."""


def centre(values: np.ndarray) -> np.ndarray:
    """Columns less the mean of their known values, unknown ones (NaN) 0: [n, N] -> [n, N]."""
    known = np.isfinite(values)
    mean = np.nan_to_num(values).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, np.nan_to_num(values) - mean, 0.0)


class FeatureScaler:
    """Standardises each feature, then divides by √D, so that rows have a norm of about 1 whatever D is.

    One grid of penalties and learning rates then suits 768 pixels and 1280 activations.
    """

    def __init__(self, features: np.ndarray):
        """Takes mean and deviation from features [n, D]."""
        self._scaler = StandardScaler().fit(np.asarray(features, np.float64))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[m, D] -> float64 [m, D]."""
        return self._scaler.transform(np.asarray(features, np.float64)) / np.sqrt(features.shape[1])


def class_folds(class_ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(training rows, held-out rows) of each fold; no class is on both sides. Raises UserError for a single class."""
    count = len(np.unique(class_ids))
    if count < 2:
        raise UserError(
            "Expected at least two training classes, to choose a learner's settings on classes that it was not "
            f"fitted on. Received: {count} among {len(class_ids)} training images; add images of other classes."
        )
    return GroupKFold(min(FOLDS, count)).split(class_ids, groups=class_ids)


def choose(
    settings: Sequence[Any],
    scores_of: Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]],
    labels: np.ndarray,
    class_ids: np.ndarray,
    folds: int = FOLDS,
) -> Any:
    """The setting with the greatest mAUC on held-out training classes, averaged over folds; the first among equals.

    A single one is taken unseen. Folds that can judge most attributes come first: the largest class, which is a fold of
    its own, can hold half of the images and judge hardly any.

    Args:
      settings: candidates.
      scores_of: (training rows, held-out rows) -> one [h, N] of scores per candidate, in order.
      labels: [n, N] in {0, 1, NaN}.
      class_ids: int [n].
      folds: how many are looked at; learners that take long look at one.
    """
    if len(settings) == 1:
        return settings[0]
    ordered = sorted(class_folds(class_ids), key=lambda fold: -with_both_labels(labels[fold[1]]).sum())
    values, looked_at = [], ordered[:folds]
    with Progress(len(looked_at) * len(settings), "choosing a setting", unit="fit") as progress:
        for train, held in looked_at:
            each = progress.each(scores_of(train, held))
            means = [evaluation.mean_auc(evaluation.auc_per_attribute(labels[held], scores)) for scores in each]
            assert len(means) == len(settings), f"{len(means)} scores of {len(settings)} settings"
            if None not in means:  # else the fold has one kind of each label
                values.append(means)
    return settings[int(np.mean(values, axis=0).argmax())] if values else settings[0]


def class_attributes(targets: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class-attribute matrix of the training classes, from the labels of their images.

    Args:
      targets: [n, N] in [0, 1], NaN where unknown: labels, or shares of votes.
      class_ids: int [n].

    Returns:
      The classes, [C], sorted; and the mean of the known targets of each class,
      float64 [C, N], NaN where it has none. Labels that are the same
      for all images of a class give back {0, 1}.
    """
    classes, members = np.unique(class_ids, return_inverse=True)
    member = np.eye(len(classes))[:, np.ravel(members)]  # [C, n]
    known = member @ np.isfinite(targets)
    positive = member @ np.nan_to_num(targets)
    return classes, np.divide(positive, known, out=np.full(known.shape, np.nan), where=known > 0)
