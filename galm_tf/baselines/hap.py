"""HAP, hypergraph-regularised attribute predictors, on a kernel map.

Huang, Elhoseiny, Elgammal & Yang, "Learning hypergraph-regularized attribute
predictors", CVPR 2015: training images are the vertices of a hypergraph, each
attribute is the hyperedge of the images that have it, and the predictors B,
[D, N], are a regularised cut of it:

    min over B, b of  tr(Bᵀ Xᵀ L X B) + λ ‖X B + b - Y‖² + η ‖B‖²,   Y in ±1,

with the normalised Laplacian L of Zhou et al. (2006), whose hyperedges weigh more
the closer their images lie. B has a closed form. On a Nyström map of an RBF
kernel it is the kernel version. Class-specific variants (CSHAP) are not here.
Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from scipy import linalg
from sklearn.kernel_approximation import Nystroem

from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, choose

FITS = (0.01, 0.1, 1.0, 10.0)  # λ
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # η
KERNEL_WIDTH = 0.5  # γ of exp(-γ ‖x - x'‖²): 1 over the mean squared distance, which is 2 for scaled rows
LANDMARKS = 500


class HAP(AttributeLearner):
    """Scores are X B: they order images, they are no probabilities."""

    def __init__(
        self,
        fits: tuple[float, ...] = FITS,
        penalties: tuple[float, ...] = PENALTIES,
        seed: int = 0,
    ):
        self._seed = seed
        self._settings = tuple(itertools.product(fits, penalties))

    def fit(self, data: LearnerData) -> "HAP":
        features, labels, class_ids = data.features, data.labels, data.class_ids
        scale = FeatureScaler(features)
        landmarks = Nystroem(gamma=KERNEL_WIDTH, n_components=min(LANDMARKS, len(features)), random_state=self._seed)
        landmarks.fit(scale(features))
        self._map = lambda rows: landmarks.transform(scale(rows))
        x = self._map(features)

        def scores_of(train: np.ndarray, held: np.ndarray):
            return (x[held] @ b for b in predictors(x[train], labels[train], self._settings))

        fit, penalty = choose(self._settings, scores_of, labels, class_ids)
        self.chosen = {"lambda": fit, "eta": penalty}
        (self.weights,) = predictors(x, labels, [(fit, penalty)])
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._map(inputs.features) @ self.weights


def edge_weights(x: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Weight of each hyperedge, [N]: exp(-d / mean d), with d the mean squared distance of two of its images.

    Args:
      x: [n, D].
      member: H, float64 [n, N] in {0, 1}. Edges of fewer than two images weigh nothing and are not in the mean.
    """
    size = member.sum(axis=0)
    pairs = size * (size - 1)
    total = 2 * (size * (member.T @ (x**2).sum(axis=1)) - ((member.T @ x) ** 2).sum(axis=1))  # over ordered pairs
    distance = np.divide(total, pairs, out=np.zeros_like(size), where=pairs > 0)
    mean = distance[pairs > 0].mean() if (pairs > 0).any() else 0.0
    return np.where(pairs > 0, np.exp(-distance / mean) if mean > 0 else 1.0, 0.0)


def smoothness(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Xᵀ L X of the attribute hypergraph, without the [n, n] Laplacian: [n, D], [n, N] -> [D, D].

    L = I - D_v^-½ H W D_e^-1 Hᵀ D_v^-½ with the weights W of `edge_weights`. An unknown
    label makes no member; images in no hyperedge have no part in it.
    """
    member = np.nan_to_num(labels).astype(np.float64)  # H
    weight, size = edge_weights(x, member), member.sum(axis=0)
    degree = member @ weight
    inverse_root = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    edge_root = np.sqrt(np.divide(weight, size, out=np.zeros_like(size), where=size > 0))
    half = (x * inverse_root[:, None]).T @ (member * edge_root)  # [D, N]
    inside = x[degree > 0]
    return inside.T @ inside - half @ half.T


def predictors(x: np.ndarray, labels: np.ndarray, settings: Iterable[tuple[float, float]]) -> Iterator[np.ndarray]:
    """B, [D, N], of each (λ, η): (Xᵀ L X + λ X̃ᵀ X̃ + η I)⁻¹ λ X̃ᵀ Y.

    X̃ are the rows of known label, centred: unknown labels have no part in the
    fit, and a free constant takes the frequency of an attribute out of it.
    Attributes that are known for the same rows share one solution.
    """
    known = np.isfinite(labels)
    smooth, identity = smoothness(x, labels), np.eye(x.shape[1])
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    columns = [np.flatnonzero(np.ravel(group) == g) for g in range(patterns.shape[1])]
    centred = [x[rows] - x[rows].mean(axis=0) if rows.any() else x[rows] for rows in patterns.T]
    grams = [c.T @ c for c in centred]
    right = [c.T @ (2.0 * labels[rows][:, own] - 1.0) for c, rows, own in zip(centred, patterns.T, columns)]
    for fit, penalty in settings:
        weights = np.zeros((x.shape[1], labels.shape[1]))
        for gram, target, own in zip(grams, right, columns):
            weights[:, own] = linalg.solve(smooth + fit * gram + penalty * identity, fit * target, assume_a="pos")
        yield weights
