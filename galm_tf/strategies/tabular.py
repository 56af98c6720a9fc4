"""Methods without a policy: a random architecture, or the best of the table."""

from __future__ import annotations

from typing import Optional

import numpy as np

from galm_tf import search_space
from galm_tf.draws import Stream, generator
from galm_tf.reward import RewardTable
from galm_tf.strategy import Strategy


class RandomArchitecture(Strategy):
    """A uniform architecture per attribute: what every search has to beat (Bergstra & Bengio 2012)."""

    learns = rewarded = False

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        rng = generator(self.config.seed, Stream.BASELINE, 1 + self.config.split_seed)  # other splits, other draws
        return rng.integers(0, search_space.NUM_ARCHITECTURES, self.num_attributes)


class SingleBest(Strategy):
    """One architecture for all attributes: the best mean reward over those that have one."""

    learns = False

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return np.full(self.num_attributes, int(mean_rewards(table).argmax()))


class Exhaustive(Strategy):
    """The best of the table for each attribute; where there is no reward, the best single one."""

    learns = False

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return filled_rewards(table).argmax(axis=1)


def filled_rewards(table: RewardTable) -> np.ndarray:
    """The table [A, 2304] with the mean of the others where an attribute has no reward."""
    return np.where(table.rewarded[:, None], table.full, mean_rewards(table))


def mean_rewards(table: RewardTable) -> np.ndarray:
    """Mean over rewarded attributes: [2304]; zeros where none is rewarded."""
    return (
        table.full[table.rewarded].mean(axis=0) if table.rewarded.any() else np.zeros(table.full.shape[1], np.float32)
    )
