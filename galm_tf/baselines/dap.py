"""DAP, direct attribute prediction: one linear SVM per attribute, calibrated to a probability.

Lampert, Nickisch & Harmeling, "Learning to detect unseen object classes by
between-class attribute transfer", CVPR 2009, §4; the sigmoid is Platt's (1999).
Its second half, from attributes to classes, is not here: attributes are the
question. Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, choose, class_folds
from galm_tf.progress import Progress

PENALTIES = (0.01, 0.1, 1.0)  # liblinear's C
_CHOOSING_ATTRIBUTES = 12  # one C serves all; it is chosen on that many of them, evenly spaced
_LEAST_SLOPE = 1e-2


class DAP(AttributeLearner):
    """A linear SVM per attribute. `score` gives probabilities."""

    def __init__(self, penalties: tuple[float, ...] = PENALTIES):
        self._penalties = penalties

    def fit(self, data: LearnerData) -> "DAP":
        features, labels, class_ids = data.features, data.labels, data.class_ids
        self._scale = FeatureScaler(features)
        x = self._scale(features)
        penalty = self._choose_penalty(x, labels, class_ids)
        self.chosen = {"C": penalty}
        held_out = np.full(labels.shape, np.nan)  # decisions by an SVM that has not seen the class
        folds = list(class_folds(class_ids))
        with Progress((len(folds) + 1) * labels.shape[1], "SVMs", unit="SVM") as progress:
            for train, held in folds:
                held_out[held] = decisions(*fit_svms(x[train], labels[train], penalty, progress.each), x[held])
            self._weights, self._biases = fit_svms(x, labels, penalty, progress.each)
        self._sigmoids = np.array([platt(held_out[:, i], labels[:, i]) for i in range(labels.shape[1])])  # [N, 2]
        return self

    def _choose_penalty(self, x: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> float:
        some = choosing_attributes(labels)

        def scores_of(train: np.ndarray, held: np.ndarray):
            return (np.nan_to_num(decisions(*fit_svms(x[train], some[train], c), x[held])) for c in self._penalties)

        return choose(self._penalties, scores_of, some, class_ids)

    def score(self, inputs: Inputs) -> np.ndarray:
        margins = decisions(self._weights, self._biases, self._scale(inputs.features))
        return expit(self._sigmoids[:, 0] * np.nan_to_num(margins) + self._sigmoids[:, 1])


def choosing_attributes(labels: np.ndarray) -> np.ndarray:
    """The labels of the few attributes on which a setting for all is chosen: [n, N] -> [n, min(N, 12)]."""
    count = min(_CHOOSING_ATTRIBUTES, labels.shape[1])
    return labels[:, np.linspace(0, labels.shape[1] - 1, count).round().astype(int)]


def fit_svms(
    x: np.ndarray, labels: np.ndarray, penalty: float, each: Callable[[Iterable[int]], Iterable[int]] = iter
) -> tuple[np.ndarray, np.ndarray]:
    """An SVM per attribute on the rows whose label is known.

    Args:
      x: [n, D].
      labels: [n, N] in {0, 1, NaN}.
      penalty: C of `LinearSVC`.
      each: may wrap the loop over attributes with a progress line.

    Returns:
      Weights [D, N] and biases [N]; NaN where the known labels are of one kind.
    """
    weights, biases = np.full((x.shape[1], labels.shape[1]), np.nan), np.full(labels.shape[1], np.nan)
    for i in each(range(labels.shape[1])):
        known = np.isfinite(labels[:, i])
        if 0 < labels[known, i].sum() < known.sum():
            svm = LinearSVC(C=penalty, dual=False, tol=1e-3).fit(x[known], labels[known, i] > 0.5)
            weights[:, i], biases[i] = svm.coef_[0], svm.intercept_[0]
    return weights, biases


def decisions(weights: np.ndarray, biases: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Signed distances, up to the norm of the weights: [m, D] -> [m, N]."""
    return x @ weights + biases


def platt(margins: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and offset of P(1 | margin) = σ(slope · margin + offset), with Platt's smoothed targets.

    Where classes that the SVM has not seen come in reverse order, the slope would
    turn the SVM around; it is kept positive instead, and so small that the
    probability says little more than the attribute's frequency.

    Args:
      margins: [n] of rows that the SVM was not fitted on; NaN where there is none.
      labels: [n] in {0, 1, NaN}.
    """
    frequency = (np.nansum(labels) + 1) / (np.isfinite(labels).sum() + 2)
    known = np.isfinite(margins) & np.isfinite(labels)
    margins, positive = margins[known], labels[known] > 0.5
    counts = positive.sum(), (~positive).sum()
    if min(counts) == 0:
        return 1.0, 0.0
    target = np.where(positive, (counts[0] + 1) / (counts[0] + 2), 1 / (counts[1] + 2))
    rows, kinds = np.concatenate([margins, margins])[:, None], np.repeat([1, 0], len(margins))
    model = LogisticRegression(C=1e8, tol=1e-8).fit(rows, kinds, sample_weight=np.concatenate([target, 1 - target]))
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return (slope, offset) if slope > _LEAST_SLOPE else (_LEAST_SLOPE, float(logit(frequency)))
