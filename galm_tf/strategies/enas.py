"""ENAS (Pham et al. 2018): one policy for all attributes, rewarded by their mean.

The same controller, REINFORCE and schedule as GALM's, without the conditioning
on the attribute, so that the two differ in nothing else.
"""

from __future__ import annotations

from typing import Mapping, Optional

import numpy as np
import tensorflow as tf

from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.reward import RewardTable
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry


class Enas(Strategy):
    """A policy over architectures that knows of one attribute only: the mean of all."""

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        self._policy = ControllerTraining(1, config)
        self.remember_initial()

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        return self._policy.variables

    def sample(self, seed: np.ndarray) -> np.ndarray:
        """Every attribute its own draw from the common policy."""
        return self._policy.sample_for(np.zeros(self.num_attributes, np.int32), seed)

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        return self._policy.train_on_table(_mean(table), first_step, num_steps)

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return np.repeat(self._policy.choose(_mean(table)), self.num_attributes)

    def figures(self, table: Optional[RewardTable]) -> dict[str, float]:
        return self._policy.figures(_mean(table))

    def choice_probabilities(self) -> list[np.ndarray]:
        """Those of the common policy, for every attribute."""
        return [np.repeat(p, self.num_attributes, axis=0) for p in self._policy.choice_probabilities()]

    def record(self, telemetry: Telemetry, phase: str, step: int) -> None:
        self._policy.record(telemetry, phase, step)


def _mean(table: RewardTable) -> RewardTable:
    """The table of the mean attribute: [1, 2304]; NaN where none is rewarded."""
    full, half_a, half_b = (_mean_row(part) for part in (table.full, *table.halves))
    return RewardTable(full, (half_a, half_b))


def _mean_row(rewards: np.ndarray) -> np.ndarray:
    """The mean of the attributes that are judged: [N, 2304] -> [1, 2304]; NaN where none is."""
    judged = rewards[np.isfinite(rewards[:, 0])]
    return judged.mean(axis=0, keepdims=True) if len(judged) else rewards[:1]
