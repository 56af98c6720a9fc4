"""Bayesian optimisation over the ten decisions of each attribute (Snoek et al. 2012; paper [18, 34]).

A Gaussian process with a Matérn 5/2 kernel on one-hot decisions is fitted to
the rewards of the networks tried so far; the next is the one of the 1536 with
the greatest expected improvement (Mockus 1975), which needs no optimiser in a
space this small. The first networks are drawn uniformly. Kernel settings are
those of a small grid with the greatest marginal likelihood.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.strategies.sequential import SequentialSearch

_UNIFORM = 12  # at most so many, and at most a quarter of the budget, before the process is asked
# Two networks that differ in one decision are √2 apart. The noise stands for interactions that no process can foresee.
_SCALES, _NOISES = (1.5, 3.0, 6.0), (1e-3, 3e-2, 3e-1)


class Bayesian(SequentialSearch):
    """A Gaussian process per attribute."""

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        self._uniform = min(_UNIFORM, 1 + self.budget // 4)
        self._inputs = one_hot()

    def _next(self, tried: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> int:
        untried = self._untried(tried)
        if len(tried) < self._uniform or np.ptp(rewards) == 0:
            return int(rng.choice(untried))
        kernel = Matern(_SCALES[0], nu=2.5) + WhiteKernel(_NOISES[0])
        process = GaussianProcessRegressor(kernel, optimizer=_best_of_grid, normalize_y=True)
        process.fit(self._inputs[tried], rewards)
        mean, deviation = process.predict(self._inputs[untried], return_std=True)
        return int(untried[expected_improvement(mean, deviation, rewards.max()).argmax()])


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """E max(0, f - best) of normal f, elementwise."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - best) / deviation
    return (mean - best) * norm.cdf(z) + deviation * norm.pdf(z)


def one_hot() -> np.ndarray:
    """The choices of all architectures, a column each; a void Fc-2 width has none: float64 [2304, 23]."""
    indices = search_space.all_indices()
    columns = [np.eye(count)[indices[:, d]] for d, count in enumerate(search_space.NUM_CHOICES)]
    columns[-2][indices[:, -1] == 0] = 0.0
    return np.concatenate(columns, axis=1)


def _best_of_grid(objective, initial, bounds):
    """scikit-learn's optimiser of kernel settings: the grid's point of least negative log marginal likelihood."""
    grid = [np.log([scale, noise]) for scale in _SCALES for noise in _NOISES]
    values = [objective(theta, eval_gradient=False) for theta in grid]
    best = int(np.argmin(values))
    return grid[best], values[best]
