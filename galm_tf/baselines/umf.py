"""UMF, a unified multiplicative framework: attribute classifiers that depend on the category through a latent product.

Liang, Chang, Shan & Chen, "A unified multiplicative framework for attribute
learning", ICCV 2015: image and category are projected into one latent space and
multiplied there, so that the attribute classifier is category-specific,

    p(attribute n | x, c) = σ(wₙᵀ (Uᵀx ∘ v_c) + bₙ),

with all of U, v, w and b learned together from images of known category. An
image of an unseen class takes the mean of the v of the seen ones, weighted by
their posterior. Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from galm_tf.baselines.iap import class_posterior
from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, choose
from galm_tf.draws import Stream, generator

RANK = 32
PENALTIES = (3e-4, 1e-3, 3e-3)  # of U and w
CATEGORY_PENALTIES = (0.003, 0.03, np.inf)  # of v - 1; with the last all categories share one classifier
_POSTERIOR_PENALTY = 1.0  # scikit-learn's C
_STEPS = 150
_INITIAL = 0.1


class UMF(AttributeLearner):
    """Scores are the expected logits. Chooses the two penalties."""

    def __init__(self, seed: int = 0):
        self._seed = seed

    def fit(self, data: LearnerData) -> "UMF":
        self._scale = FeatureScaler(data.features)
        x = self._scale(data.features)
        settings = tuple(itertools.product(PENALTIES, CATEGORY_PENALTIES))

        def scores_of(train: np.ndarray, held: np.ndarray):
            posterior = class_posterior(x[train], data.class_ids[train], _POSTERIOR_PENALTY)(x[held])
            for setting in settings:
                model = fit_latent(x[train], data.targets[train], data.class_ids[train], RANK, *setting, self._seed)
                yield expected_logits(model, x[held], posterior)

        penalty, category = choose(settings, scores_of, data.labels, data.class_ids, folds=1)
        self.chosen = {"lambda": penalty, "mu": category}
        self._posterior = class_posterior(x, data.class_ids, _POSTERIOR_PENALTY)
        self.model = fit_latent(x, data.targets, data.class_ids, RANK, penalty, category, self._seed)
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        x = self._scale(inputs.features)
        return expected_logits(self.model, x, self._posterior(x))


Latent = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # U [D, r], v - 1 [C, r], W [r, N], b [N]


def expected_logits(model: Latent, x: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Σ_c p(c) (wₙᵀ (Uᵀx ∘ v_c) + bₙ): [m, D], [m, C] -> [m, N]. Linear in v, so v is averaged."""
    u, shift, w, b = model
    return (x @ u * (1.0 + posterior @ shift)) @ w + b


def fit_latent(
    x: np.ndarray,
    targets: np.ndarray,
    class_ids: np.ndarray,
    rank: int,
    penalty: float,
    category_penalty: float,
    seed: int,
) -> Latent:
    """Minimises `objective` by L-BFGS from small random weights.

    Args:
      x: [n, D].
      targets: [n, N] in [0, 1], NaN where unknown.
      class_ids: int [n], of any values.
      rank: r, the width of the latent space.
      penalty: λ.
      category_penalty: μ; infinite holds v at 1.
      seed: of the start.
    """
    member = (class_ids[:, None] == np.unique(class_ids)).astype(np.float64)
    shapes = [(x.shape[1], rank), (member.shape[1], rank), (rank, targets.shape[1]), (targets.shape[1],)]
    rng = generator(seed, Stream.BASELINE)
    start = [_INITIAL * rng.normal(size=shape) for shape in shapes]
    start[1][:], start[3][:] = 0.0, 0.0
    known = np.isfinite(targets)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        result, gradients = objective(_unpack(flat, shapes), x, targets, known, member, penalty, category_penalty)
        return result, np.concatenate([g.ravel() for g in gradients])

    found = minimize(
        value, np.concatenate([s.ravel() for s in start]), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    return _unpack(found.x, shapes)


def objective(
    model: Latent,
    x: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray,
    member: np.ndarray,
    penalty: float,
    category_penalty: float,
) -> tuple[float, Latent]:
    """Mean logistic loss of each attribute's known targets, summed over attributes, plus
    λ/2 (‖U‖² + ‖W‖²) + μ/2 ‖v - 1‖²; and its gradients.

    Args:
      model: U, v - 1, W, b.
      x: [n, D].
      targets, known: [n, N].
      member: one-hot classes, [n, C].
      penalty: λ.
      category_penalty: μ.
    """
    u, shift, w, b = model
    projected, factor = x @ u, 1.0 + member @ shift
    latent = projected * factor
    logits = latent @ w + b
    weight = known / np.maximum(known.sum(axis=0), 1)
    target = np.nan_to_num(targets)
    free = np.isfinite(category_penalty)
    value = (weight * (np.logaddexp(0.0, logits) - target * logits)).sum()
    value += penalty / 2 * ((u**2).sum() + (w**2).sum()) + (category_penalty / 2 * (shift**2).sum() if free else 0.0)
    residual = weight * (expit(logits) - target)
    back = residual @ w.T
    shift_gradient = member.T @ (back * projected) + category_penalty * shift if free else np.zeros_like(shift)
    return value, (
        x.T @ (back * factor) + penalty * u,
        shift_gradient,
        latent.T @ residual + penalty * w,
        residual.sum(axis=0),
    )


def _unpack(flat: np.ndarray, shapes: list[tuple[int, ...]]) -> Latent:
    ends = np.cumsum([int(np.prod(s)) for s in shapes])
    return tuple(part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes))
