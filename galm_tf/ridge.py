"""Ridge regression of every attribute on standardised features, in closed form (Hoerl & Kennard 1970)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg
from sklearn.preprocessing import StandardScaler

from galm_tf import evaluate

PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7)


class Ridge:
    """Weights and biases of N attributes: features [n, D] -> scores [n, N] near the labels' 0 and 1.

    Attributes:
      weights: float64 [D, N]; 0 where no label is known.
      biases: float64 [N].
    """

    def __init__(self, weights: np.ndarray, biases: np.ndarray) -> None:
        self.weights, self.biases = weights, biases

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return features @ self.weights + self.biases


def fit(features: np.ndarray, targets: np.ndarray, penalties: Sequence[float]) -> list[Ridge]:
    """A fit per penalty, each attribute on the rows whose target is known.

    Attributes that are known for the same rows share one solution. Of fewer rows than features it is found among the
    rows (the dual form); else among the features, whose Gram matrix is that of all rows less that of the unknown ones
    where these are fewer. One such matrix is held at a time.

    Args:
      features: [n, D].
      targets: [n, N], NaN where unknown.
      penalties: of the squared weights of standardised features.
    """
    scaler = StandardScaler().fit(features)
    x = scaler.transform(np.asarray(features, np.float64))
    patterns, group = np.unique(np.isfinite(targets), axis=1, return_inverse=True)
    whole = x.T @ x if len(x) >= x.shape[1] else None
    weights, biases = np.zeros((len(penalties), x.shape[1], targets.shape[1])), np.zeros((len(penalties), targets.shape[1]))
    for g, known in enumerate(patterns.T):
        if known.any():
            own = np.flatnonzero(np.ravel(group) == g)
            rows, y = x[known], targets[known][:, own].astype(np.float64)
            if len(rows) < x.shape[1]:
                solutions = _dual_solutions(rows, y, penalties)
            else:
                gram = whole - x[~known].T @ x[~known] if known.mean() > 0.5 else rows.T @ rows
                solutions = _solutions(gram, rows, y, penalties)
            weights[:, :, own], biases[:, own] = solutions
    scaled = weights / scaler.scale_[:, None]
    return [Ridge(w, b - scaler.mean_ @ w) for w, b in zip(scaled, biases)]


def _solutions(gram: np.ndarray, x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Weights [P, D, K] and biases [P, K] by penalty: xᵀx [D, D], x [m, D], y [m, K]."""
    mean, level = x.mean(axis=0), y.mean(axis=0)
    centred, right = gram - len(x) * np.outer(mean, mean), x.T @ (y - level)
    weights = np.stack([linalg.solve(centred + p * np.eye(len(gram)), right, assume_a="pos") for p in penalties])
    return weights, level - mean @ weights


def _dual_solutions(x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The same as `_solutions`, by a matrix [m, m] of the rows."""
    mean, level = x.mean(axis=0), y.mean(axis=0)
    centred = x - mean
    gram = centred @ centred.T
    weights = np.stack([centred.T @ linalg.solve(gram + p * np.eye(len(x)), y - level, assume_a="pos") for p in penalties])
    return weights, level - mean @ weights


def choose(fits: Sequence[Ridge], features: np.ndarray, labels: np.ndarray) -> int:
    """The fit with the greatest mAUC on these images; the first among equals, and where nothing can be judged the middle one."""
    values = [evaluate.mean_auc(evaluate.auc_per_attribute(labels, f(features))) for f in fits]
    return int(np.argmax(values)) if None not in values else len(fits) // 2
