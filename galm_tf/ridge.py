"""Ridge regression of every attribute on standardised features, in closed form (Hoerl & Kennard 1970)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.preprocessing import StandardScaler

from galm_tf import evaluation

_FEW_SOLUTIONS = 10  # that cost less one by one than taking a Gram matrix apart
_BLOCK_ROWS = 8192  # of the features, which are weighed and centred at once
# of a residual, as a share of the right side; steps of conjugate gradients: tens, as a rule
_EXACT, _MOST_STEPS = 1e-10, 10000

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


def fit(
    features: np.ndarray, targets: np.ndarray, penalties: Sequence[float], weights: np.ndarray | None = None
) -> list[Ridge]:
    """A fit per penalty, each attribute on the rows whose target is known.

    Attributes that are known for the same rows share one solution. Of fewer rows than features it is found among the
    rows (the dual form). Else, where there are few such solutions, each has a Gram matrix of its own; where there are
    many, that of all rows is taken apart once: in its axes the solution for all rows is a division, and conjugate
    gradients find that for some of them from there.

    Args:
      features: [n, D].
      targets: [n, N], NaN where unknown.
      penalties: of the squared weights of standardised features.
      weights: how much each row counts, [n], of mean 1; all alike when left out.
    """
    with np.errstate(invalid="ignore"):  # of a constant, whose variance may come out below 0; it counts as a constant
        scaler = StandardScaler(copy=False).fit(features, sample_weight=weights)
    x = scaler.transform(np.array(features, np.float64))
    root = np.ones(len(x)) if weights is None else np.sqrt(weights)
    patterns, group = np.unique(np.isfinite(targets), axis=1, return_inverse=True)
    enough = patterns.sum(axis=0) >= x.shape[1]
    axes = _Axes(x, root) if enough.sum() * len(penalties) > _FEW_SOLUTIONS else None
    slopes = np.zeros((len(penalties), x.shape[1], targets.shape[1]))
    biases = np.zeros((len(penalties), targets.shape[1]))
    for g, known in enumerate(patterns.T):
        if known.any():
            own = np.flatnonzero(np.ravel(group) == g)
            y = targets[known][:, own].astype(np.float64)
            if enough[g] and axes:
                slopes[:, :, own], biases[:, own] = axes.solutions(known, y, penalties)
            else:
                rows = x if known.all() else x[known]  # hundreds of thousands are not copied
                slopes[:, :, own], biases[:, own] = (_solutions if enough[g] else _dual_solutions)(
                    rows, y, root[known], penalties
                )
    scaled = slopes / scaler.scale_[:, None]
    return [Ridge(w, b - scaler.mean_ @ w) for w, b in zip(scaled, biases)]


class _Axes:
    """Centred features [n, D], times the roots [n] of their weights, in the axes of their Gram matrix, where it is
    diagonal.
    """

    def __init__(self, x: np.ndarray, root: np.ndarray) -> None:
        x, self._root = x * root[:, None], root
        self._spread, self._axes = linalg.eigh(x.T @ x)  # [D], [D, D]
        self._rows = x @ self._axes

    def solutions(self, known: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Weights [P, D, K] and biases [P, K] by penalty: known bool [n], m of them; y [m, K]."""
        rows, root = self._rows[known], self._root[known]
        total, level = root @ root, np.average(y, axis=0, weights=root**2)
        mean, right, gram = root @ rows / total, rows.T @ (root[:, None] * (y - level)), self._gram(known, rows)
        diagonal, weights = len(rows) / len(known) * self._spread, []  # that of all rows, as many as are known
        for penalty in penalties:

            def system(v: np.ndarray, penalty: float = penalty) -> np.ndarray:
                return gram(v) - total * mean * (mean @ v) + penalty * v

            near = 1.0 / (diagonal + penalty)
            weights.append(np.stack([_conjugate_gradients(system, column, near) for column in right.T], axis=1))
        return self._axes @ np.stack(weights), level - mean @ np.stack(weights)

    def _gram(self, known: np.ndarray, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The Gram matrix of the known rows as what it makes of a vector [D], by them or by the others, whichever are
        fewer.
        """
        if len(rows) <= len(known) / 2:
            return lambda v: rows.T @ (rows @ v)
        others = self._rows[~known]
        return lambda v: self._spread * v - others.T @ (others @ v)


def _conjugate_gradients(system: Callable[[np.ndarray], np.ndarray], right: np.ndarray, near: np.ndarray) -> np.ndarray:
    """v [D] of system(v) = right, whose inverse is near the diagonal `near`."""
    shape = len(right), len(right)
    matrix, preconditioner = (LinearOperator(shape, times, dtype=np.float64) for times in (system, lambda v: near * v))
    found, failed = cg(matrix, right, x0=near * right, rtol=_EXACT, maxiter=_MOST_STEPS, M=preconditioner)
    assert not failed, failed  # no eigenvalue is below the penalty
    return found


def _solutions(
    x: np.ndarray, y: np.ndarray, root: np.ndarray, penalties: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [P, D, K] and biases [P, K] by penalty, by a matrix [D, D] of the features: x [m, D], y [m, K], roots of
    the rows' weights [m].
    """
    mean, (level, centred) = root**2 @ x / (root @ root), _centred(y, root)
    gram, right = np.zeros((x.shape[1], x.shape[1])), np.zeros((x.shape[1], y.shape[1]))
    for start in range(0, len(x), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        rows = (x[part] - mean) * root[part, None]
        gram += rows.T @ rows
        right += rows.T @ centred[part]
    weights = np.stack([linalg.solve(gram + p * np.eye(len(gram)), right, assume_a="pos") for p in penalties])
    return weights, level - mean @ weights


def _dual_solutions(
    x: np.ndarray, y: np.ndarray, root: np.ndarray, penalties: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """As `_solutions`, by a matrix [m, m] of the rows."""
    (mean, centred), (level, right) = (_centred(values, root) for values in (x, y))
    gram = centred @ centred.T
    weights = np.stack(
        [centred.T @ linalg.solve(gram + p * np.eye(len(gram)), right, assume_a="pos") for p in penalties]
    )
    return weights, level - mean @ weights


def _centred(values: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, what is left times the roots of the weights) of rows [m, K]."""
    mean = np.average(values, axis=0, weights=root**2)
    return mean, (values - mean) * root[:, None]


def choose(fits: Sequence[Ridge], features: np.ndarray, labels: np.ndarray) -> int:
    """The fit with the greatest mAUC on these images; the first among equals, and where nothing can be judged the
    middle one.
    """
    values = [evaluation.mean_auc(evaluation.auc_per_attribute(labels, f(features))) for f in fits]
    return int(np.argmax(values)) if None not in values else len(fits) // 2
