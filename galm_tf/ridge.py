"""Ridge regression of every attribute on standardised features, in closed form (Hoerl & Kennard 1970)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def fit(features: np.ndarray, labels: np.ndarray, penalties: Sequence[float]) -> Iterator[Ridge]:
    """A fit per penalty, each attribute on the rows whose label is known.

    Attributes that are known for the same rows share one solution; the Gram matrix of a pattern is that of all rows
    less that of its unknown ones where these are fewer.

    Args:
      features: [n, D].
      labels: [n, N] in {0, 1, NaN}.
      penalties: of the squared weights of standardised features.
    """
    scaler = StandardScaler().fit(features)
    x = scaler.transform(np.asarray(features, np.float64))
    patterns, group = np.unique(np.isfinite(labels), axis=1, return_inverse=True)
    whole = x.T @ x if len(x) else np.zeros((x.shape[1],) * 2)
    parts = []
    for g, known in enumerate(patterns.T):
        own, rows = np.flatnonzero(np.ravel(group) == g), np.flatnonzero(known)
        if not len(rows):
            continue
        rest = x[~known]
        gram = whole - rest.T @ rest if 2 * len(rows) > len(x) else x[rows].T @ x[rows]
        mean, y = x[rows].mean(axis=0), labels[np.ix_(rows, own)].astype(np.float64)
        centred = gram - len(rows) * np.outer(mean, mean)
        parts.append((own, centred, x[rows].T @ (y - y.mean(axis=0)), mean, y.mean(axis=0)))
    for penalty in penalties:
        weights, biases = np.zeros((x.shape[1], labels.shape[1])), np.zeros(labels.shape[1])
        for own, gram, right, mean, level in parts:
            solved = linalg.solve(gram + penalty * np.eye(len(gram)), right, assume_a="pos")
            weights[:, own], biases[own] = solved, level - mean @ solved
        scaled = weights / scaler.scale_[:, None]
        yield Ridge(scaled, biases - scaler.mean_ @ scaled)


def choose(fits: Sequence[Ridge], features: np.ndarray, labels: np.ndarray) -> int:
    """The fit with the greatest mAUC on these images; the first among equals, and where nothing can be judged the middle one."""
    values = [evaluate.mean_auc(evaluate.auc_per_attribute(labels, f(features))) for f in fits]
    return int(np.argmax(values)) if None not in values else len(fits) // 2
