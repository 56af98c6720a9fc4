"""How learners that were made for one domain use source domains, whose attributes are others.

Learners that share something among attributes (a network, a latent space, class
scores) are fitted on the `Union` of the domains, in which a label is unknown
outside its own domain. Learners of one attribute at a time take the scores of
the source's attributes as further features (`ScoresAsFeatures`). FT and AFS are
transfer methods and use a source in their own ways. GALM's paper does not say
how its baselines use a source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from galm_tf.baselines.learner import AttributeLearner, Inputs, LearnerData, join

Make = Callable[[], AttributeLearner]


def longer(data: LearnerData) -> float:
    """How many times the steps it takes to see as much of the target in batches of target and source together as in
    those of the target alone.
    """
    return 1.0 if data.source is None else (len(data.inputs) + len(data.source.inputs)) / len(data.inputs)


class Union(AttributeLearner):
    """One learner on target and source together, which chooses its settings on the attributes of both."""

    def __init__(self, make: Make) -> None:
        self._learner = make()

    def fit(self, data: LearnerData) -> "Union":
        assert data.source is not None
        self._count = data.labels.shape[1]
        self._learner.fit(join([data, data.source]))
        self.chosen = self._learner.chosen
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._learner.score(inputs)[:, : self._count]


class ScoresAsFeatures(AttributeLearner):
    """A learner on the source, then one on the target that also sees the first one's scores."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def fit(self, data: LearnerData) -> "ScoresAsFeatures":
        assert data.source is not None
        self._of_source = self._make().fit(data.source)
        self._learner = self._make().fit(dataclasses.replace(data, inputs=self._widened(data.inputs), source=None))
        self.chosen = self._learner.chosen
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._learner.score(self._widened(inputs))

    def _widened(self, inputs: Inputs) -> Inputs:
        """Features [n, D] -> [n, D + M]."""
        scores = self._of_source.score(inputs).astype(inputs.features.dtype)
        return Inputs(inputs.images, np.concatenate([inputs.features, scores], axis=1))
