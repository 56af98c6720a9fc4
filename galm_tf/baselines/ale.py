"""ALE, attribute label embedding: a bilinear compatibility of images and classes, trained to rank.

Akata, Perronnin, Harchaoui & Schmid, "Label-embedding for attribute-based
classification", CVPR 2013, §3: F(x, y) = θ(x)ᵀ W φ(y), with φ(y) the attributes
of class y, learned by stochastic steps on the weighted approximate ranking loss
of WSABIE (Weston et al. 2011). The attribute coordinates θ(x)ᵀ W are the
attribute scores (§4). Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from galm_tf.baselines.learner import (
    AttributeLearner,
    FeatureScaler,
    Inputs,
    LearnerData,
    centre,
    choose,
    class_attributes,
)
from galm_tf.draws import Stream, generator

RATES = (0.001, 0.01, 0.1)  # learning rates
EPOCHS = (1, 3, 10)  # passes: early stopping is ALE's regulariser
MARGIN = 1.0


class ALE(AttributeLearner):
    """Scores are coordinates of θ(x)ᵀ W: they order images, they are no probabilities."""

    def __init__(self, seed: int = 0):
        self._seed = seed

    def fit(self, data: LearnerData) -> "ALE":
        shares, class_ids = data.targets, data.class_ids
        self._scale = FeatureScaler(data.features)
        x = self._scale(data.features)

        def scores_of(train: np.ndarray, held: np.ndarray):
            for rate in RATES:
                yield from (x[held] @ w for w in self._train(x[train], shares[train], class_ids[train], rate, EPOCHS))

        rate, epochs = choose(tuple(itertools.product(RATES, EPOCHS)), scores_of, data.labels, class_ids)
        self.chosen = {"rate": rate, "epochs": epochs}
        (self.weights,) = self._train(x, shares, class_ids, rate, (epochs,))
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._scale(inputs.features) @ self.weights

    def _train(self, x, shares, class_ids, rate: float, epochs: tuple[int, ...]) -> Iterator[np.ndarray]:
        """W, [D, N], after each of the ascending numbers of epochs."""
        classes, matrix = class_attributes(shares, class_ids)
        targets, embedding = np.searchsorted(classes, class_ids), label_embedding(matrix)
        by_class = np.zeros((x.shape[1], len(classes)))
        for epoch in range(max(epochs)):
            by_class = ranking_epoch(
                x, targets, embedding, by_class, rate, generator(self._seed, Stream.BASELINE, epoch)
            )
            if epoch + 1 in epochs:
                yield by_class @ embedding


def label_embedding(matrix: np.ndarray) -> np.ndarray:
    """φ: attributes centred over classes, each class then of norm 1. [C, N] -> [C, N]; unknown ones become 0."""
    rows = centre(matrix)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def ranking_epoch(
    x: np.ndarray,
    targets: np.ndarray,
    embedding: np.ndarray,
    by_class: np.ndarray,
    rate: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """One pass over the images in random order (Akata et al. 2013, eq. 12 and its algorithm).

    For each image other classes are drawn without replacement until one violates
    the margin, the k-th say. Then W gains rate · β_r θ(x) (φ(y) - φ(violator))ᵀ,
    where r = ⌊(C - 1) / k⌋ estimates the rank of y, and β_r = Σ_{j ≤ r} 1/j.

    W starts at 0, so it stays G φ with one column of G per class; G is what is
    updated, which costs D instead of D · N a step and gives the same W.

    Args:
      x: [n, D].
      targets: int [n], the row of each image's class in `embedding`.
      embedding: φ, [C, N].
      by_class: G, [D, C].
      rate: learning rate.
      rng: of the order and the drawn classes.

    Returns:
      The new G, [D, C].
    """
    columns = by_class.T.copy()  # [C, D], rows are updated
    kernel = embedding @ embedding.T
    others = len(embedding) - 1
    ranks = np.cumsum(1 / np.arange(1, others + 1)) if others else np.zeros(0)
    for i in rng.permutation(len(x)):
        target = targets[i]
        compatibility = kernel @ (columns @ x[i])  # F(x, ·)
        order = rng.permutation(others)
        order += order >= target
        violations = np.flatnonzero(MARGIN + compatibility[order] > compatibility[target])
        if len(violations):
            step = rate * ranks[others // (violations[0] + 1) - 1] * x[i]
            columns[target] += step
            columns[order[violations[0]]] -= step
    return columns.T
