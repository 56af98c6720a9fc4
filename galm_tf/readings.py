"""A run that searches nothing: on a pretrained trunk every attribute's network is a linear reading of the trunk's
channels.

Not in the paper. What a trunk has learned from many other images, ridge regression orders images of unseen classes by
about as well as with a tower of its own beside it (BUILD.md, "On a pretrained trunk"), in a fraction of the time and
with fewer multiply-adds. What the run leaves is what a search leaves, without architectures.
"""

from __future__ import annotations

import time

from galm_tf import frozen_trunk
from galm_tf.config import Config
from galm_tf.derived import ReadingNetwork
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.pretrained import PretrainedTrunk
from galm_tf.search import State
from galm_tf.validation import Validation


class Readings:
    """In the place of a finished `Search`, with what of it is told and exported.

    Args:
      config: settings.
      domain: learnable attributes only.
      split: who trains, who judges.
      views: of the pictures as they are.
      trunk: pretrained.
    """

    def __init__(
        self, config: Config, domain: Domain, split: Split, views: frozen_trunk.FirstViews, trunk: PretrainedTrunk
    ) -> None:
        self.config, self.domain, self.split, self.trunk = config, domain, split, trunk
        self.validation = Validation(None, config, domain, split, views, frozen=True)
        self.state = State()
        self.earlier_seconds = 0.0

    def fit(self) -> None:
        """Chooses the penalty, and how sure to be, on validation images that have taught nothing."""
        started = time.monotonic()
        self.state.keep_figures(self.validation.judge_readings(), self.validation, self.config)
        self.state.phase_seconds[self.config.method] = time.monotonic() - started

    def network(self) -> ReadingNetwork:
        """The readings of all images that train, as sure as they come."""
        (fitted,) = self.validation.fit_readings(
            self.validation.training_index(final=True), [self.state.readout_penalty]
        )
        return ReadingNetwork(self.validation.reading(fitted, final=True), self.trunk.maps)
