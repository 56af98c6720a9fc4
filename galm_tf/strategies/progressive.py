"""Progressive search guided by a surrogate (PNAS, Liu et al. 2018; paper [23]).

Networks grow from simple to complex: first Conv-4 alone is varied, the rest
being the simplest there is (no skip, 3×3, 64 units, Fc-3 on Fc-1), then Conv-5
upon what was tried, then the fully connected layers. Of the networks that a
stage may try, the surrogate's best are tried and teach it.

Paper [23]: an LSTM or MLP over the cell's string, taught once a stage. Here:
ridge regression on the decisions and their pairs, taught after every network,
because ten decisions and some sixty rewards ask for no more.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.strategies.bayesian import one_hot
from galm_tf.strategies.sequential import SequentialSearch

STAGES = (slice(0, 3), slice(3, 7), slice(7, 10))  # decisions of Conv-4, Conv-5 and the fully connected layers
_PENALTY = 0.3
_PAIR_WEIGHT = 0.5  # of pairs beside single decisions


class Progressive(SequentialSearch):
    """One growing set of networks and one surrogate per attribute."""

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        self._indices = search_space.all_indices()
        inputs = PolynomialFeatures(2, interaction_only=True, include_bias=False).fit_transform(one_hot())
        inputs[:, one_hot().shape[1] :] *= _PAIR_WEIGHT
        self._inputs = inputs
        first = min(int(np.prod(search_space.NUM_CHOICES[STAGES[0]])), 1 + self.budget // 3)
        self._ends = (first, first + (self.budget - first) // 2, self.budget)  # networks tried by the end of each stage

    def _next(self, tried: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> int:
        candidates = self._candidates(tried)
        if len(tried) < 2:
            return int(rng.choice(candidates))
        surrogate = Ridge(_PENALTY).fit(self._inputs[tried], rewards)
        predicted = surrogate.predict(self._inputs[candidates])
        best = candidates[predicted >= predicted.max() - 1e-9]
        return int(rng.choice(best))  # before a choice was ever tried the surrogate cannot tell it from another

    def _candidates(self, tried: np.ndarray) -> np.ndarray:
        """What this stage may try: grown from the networks of the stage before, or else any that is left."""
        stage = next(s for s, end in enumerate(self._ends) if len(tried) < end)
        grown = STAGES[stage].stop
        simple = (self._indices[:, grown:] == 0).all(axis=1)
        if stage:
            before = self._ends[stage - 2] if stage > 1 else 0
            kept = self._prefixes(STAGES[stage].start)
            simple &= np.isin(kept, kept[tried[before : self._ends[stage - 1]]])
        untried = self._untried(tried)
        candidates = untried[simple[untried]]
        return candidates if len(candidates) else untried

    def _prefixes(self, count: int) -> np.ndarray:
        """The first decisions of every architecture as one number: int64 [2304]."""
        return np.ravel_multi_index(tuple(self._indices[:, :count].T), search_space.NUM_CHOICES[:count])
