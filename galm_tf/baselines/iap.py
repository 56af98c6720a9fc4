"""IAP, indirect attribute prediction: recognise the seen classes, then read attributes off the class matrix.

Lampert, Nickisch & Harmeling, "Learning to detect unseen object classes by
between-class attribute transfer", CVPR 2009, §4:
p(a | x) = Σ over seen classes k of p(a | k) p(k | x). Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, choose, class_attributes

PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # scikit-learn's C
_STEPS = 200


class IAP(AttributeLearner):
    """Multi-class logistic regression over the seen classes. `score` gives probabilities."""

    def __init__(self, penalties: tuple[float, ...] = PENALTIES):
        self._penalties = penalties

    def fit(self, data: LearnerData) -> "IAP":
        class_ids, targets = data.class_ids, data.targets
        self._scale = FeatureScaler(data.features)
        x = self._scale(data.features)

        def scores_of(train: np.ndarray, held: np.ndarray):
            _, matrix = class_attributes(targets[train], class_ids[train])
            for penalty in self._penalties:
                yield attribute_probabilities(class_posterior(x[train], class_ids[train], penalty)(x[held]), matrix)

        penalty = choose(self._penalties, scores_of, data.labels, class_ids)
        self.chosen = {"C": penalty}
        self._matrix = class_attributes(targets, class_ids)[1]
        self._class_posterior = class_posterior(x, class_ids, penalty)
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return attribute_probabilities(self._class_posterior(self._scale(inputs.features)), self._matrix)


def class_posterior(x: np.ndarray, class_ids: np.ndarray, penalty: float):
    """p(k | x) of the classes in order, as a function [m, D] -> [m, C]."""
    if len(np.unique(class_ids)) == 1:
        return lambda rows: np.ones((len(rows), 1))
    return LogisticRegression(C=penalty, tol=1e-3, max_iter=_STEPS).fit(x, class_ids).predict_proba


def attribute_probabilities(posterior: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Σ_k p(a | k) p(k | x) over the classes whose attribute is known: [m, C], [C, N] -> [m, N].

    A class of unknown attribute takes no part: its posterior is shared out among
    the others. Without any other class the answer is ½.
    """
    known = np.isfinite(matrix)
    weight = posterior @ known
    return np.divide(posterior @ np.nan_to_num(matrix), weight, out=np.full(weight.shape, 0.5), where=weight > 0)
