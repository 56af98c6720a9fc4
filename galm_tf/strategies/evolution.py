"""Regularised (ageing) evolution (Real et al. 2019), one population per attribute.

A cycle draws a tournament, mutates one decision of its winner, and lets the
child take the place of the oldest. All attributes take their cycles together.
The best that was ever born is chosen.
"""

from __future__ import annotations

from typing import Mapping, Optional

import numpy as np
import tensorflow as tf

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.draws import Stream, from_tensor_seed, generator
from galm_tf.reward import RewardTable
from galm_tf.strategies.tabular import filled_rewards
from galm_tf.strategy import Strategy

POPULATION, TOURNAMENT = 64, 16


class Evolution(Strategy):
    """Attributes without a reward evolve on the mean of the others."""

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        rng = generator(config.seed, Stream.CONTROLLER)
        first = rng.integers(0, search_space.NUM_ARCHITECTURES, (num_attributes, POPULATION))
        self._population = tf.Variable(first, trainable=False, dtype=tf.int64, name="population")
        self._born = tf.Variable(POPULATION, trainable=False, dtype=tf.int64, name="born")
        history = np.zeros((num_attributes, search_space.NUM_ARCHITECTURES), bool)
        np.put_along_axis(history, first, True, axis=1)
        self._history = tf.Variable(history, trainable=False, name="history")
        self.remember_initial()

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        return {"population": self._population, "born": self._born, "history": self._history}

    def sample(self, seed: np.ndarray) -> np.ndarray:
        rng = from_tensor_seed(seed)
        members = rng.integers(0, POPULATION, self.num_attributes)
        numbers = self._population.numpy()[np.arange(self.num_attributes), members]
        return search_space.all_indices()[numbers].astype(np.int32)

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        """Cycles that read as many rewards as a policy's steps would, shared among the attributes."""
        rewards = filled_rewards(table)
        population, born, history = self._population.numpy(), int(self._born.numpy()), self._history.numpy()
        rows = np.arange(self.num_attributes)
        step_rewards = self.config.samples_per_step * np.array([first_step, first_step + num_steps])
        for cycle in range(*(step_rewards // self.num_attributes)):
            rng = generator(self.config.seed, Stream.CONTROLLER, 1 + cycle)
            drawn = rng.permuted(np.tile(np.arange(POPULATION), (self.num_attributes, 1)), axis=1)[:, :TOURNAMENT]
            contestants = np.take_along_axis(population, drawn, 1)
            winners = contestants[rows, np.take_along_axis(rewards, contestants, 1).argmax(axis=1)]
            population[:, born % POPULATION] = children = _mutated(winners, rng)
            history[rows, children] = True
            born += 1
        self._population.assign(population)
        self._born.assign(born)
        self._history.assign(history)
        reward = np.take_along_axis(rewards, population, 1)[table.rewarded]
        return {"controller/reward": float(reward.mean())} if reward.size else {}

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        """The best of each history, by these rewards."""
        return np.where(self._history.numpy(), filled_rewards(table), -np.inf).argmax(axis=1)

    def figures(self, table: Optional[RewardTable]) -> dict[str, float]:
        """Members ever born, per attribute; an architecture may be born twice."""
        return {"evaluations_per_attribute": int(self._born.numpy())}


def _mutated(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each architecture with one decision changed: int64 [N]."""
    indices = np.stack(np.unravel_index(numbers, search_space.NUM_CHOICES), axis=1)
    counts = np.array(search_space.NUM_CHOICES)
    decisions = rng.integers(0, len(counts), len(numbers))
    rows = np.arange(len(numbers))
    shift = 1 + (rng.random(len(numbers)) * (counts[decisions] - 1)).astype(np.int64)
    indices[rows, decisions] = (indices[rows, decisions] + shift) % counts[decisions]
    return np.ravel_multi_index(tuple(indices.T), search_space.NUM_CHOICES)
