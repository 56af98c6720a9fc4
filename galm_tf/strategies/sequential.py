"""Searches that read one reward after another for each attribute, within a stated budget.

The budget is `config.evaluations` distinct networks per attribute over the
whole search (fewer where the policy's own share, `samples_per_step` rewards a
step divided among the attributes, is less), spread evenly over the steps.
Between rounds the supernet's weights move: what was tried is then read anew
from the round's table, as for evolution's population, and counts once.

Void twins are one network and are tried once. Every draw depends on (seed,
attribute, how many were tried), so a search goes on from what it has tried.
"""

from __future__ import annotations

import abc
import functools
import logging
from typing import Mapping, Optional

import numpy as np
import tensorflow as tf

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.draws import Stream, from_tensor_seed, generator
from galm_tf.reward import RewardTable
from galm_tf.strategies.tabular import filled_rewards
from galm_tf.strategy import Strategy

_SAMPLED_SHARE = 8  # one in so many of what was tried, the best, trains the supernet


@functools.cache
def _tell_of_less(budget: int, asked: int, num_attributes: int) -> None:
    """Once of each search: its trials and repetitions are given as much."""
    logging.warning(
        "--evaluations=%d is more than the search's steps have rewards for: %d for each of %d attributes are read; raise --controller_steps or "
        "--samples_per_step.", asked, budget, num_attributes,
    )  # fmt: skip


class SequentialSearch(Strategy):
    """Proposes the next network of one attribute from the rewards of those it has tried.

    Attributes without a reward are searched on the mean of the others.
    """

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        self._total_steps = config.rounds * config.controller_steps
        share = max(1, self._total_steps * config.samples_per_step // num_attributes)
        self.budget = min(config.evaluations, share, search_space.NUM_DISTINCT)
        if self.budget < config.evaluations != Config().evaluations:
            _tell_of_less(self.budget, config.evaluations, num_attributes)
        zeros = np.zeros((num_attributes, self.budget))
        self._tried = tf.Variable(zeros, trainable=False, dtype=tf.int64, name="tried")
        self._leading = tf.Variable(zeros, trainable=False, dtype=tf.int64, name="leading")
        self._count = tf.Variable(0, trainable=False, dtype=tf.int64, name="count")
        self._twins = np.unique(search_space.canonical_numbers())  # int64 [1536], the distinct networks
        self.remember_initial()

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        return {"tried": self._tried, "leading": self._leading, "count": self._count}

    @abc.abstractmethod
    def _next(self, tried: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> int:
        """The next network of an attribute.

        Args:
          tried: int64 [k], numbers of the networks that were tried, in order; k < budget.
          rewards: float32 [k].
          rng: for this proposal alone.

        Returns:
          A canonical number that was not tried.
        """

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        rewards = filled_rewards(table)
        tried, done = self._tried.numpy(), int(self._count.numpy())
        due = self.budget * (first_step + num_steps) // self._total_steps
        for count in range(done, due):
            for row in range(self.num_attributes):
                rng = generator(self.config.seed, Stream.CONTROLLER, 1 + count * self.num_attributes + row)
                seen = tried[row, :count]
                tried[row, count] = self._next(seen, rewards[row, seen], rng)
        count = max(done, due)
        order = np.argsort(-np.take_along_axis(rewards, tried[:, :count], 1), axis=1, kind="stable")
        self._tried.assign(tried)
        self._leading.assign(np.pad(np.take_along_axis(tried, order, 1), [(0, 0), (0, self.budget - count)]))
        self._count.assign(count)
        latest = np.take_along_axis(rewards, tried[:, min(done, count - 1) : count], 1)[table.rewarded]
        return {"controller/reward": float(latest.mean())} if latest.size else {}

    def sample(self, seed: np.ndarray) -> Optional[np.ndarray]:
        """One of the best of what each attribute has tried; uniform ones before that."""
        count = int(self._count.numpy())
        if not count:
            return None
        rng = from_tensor_seed(seed)
        ranks = rng.integers(0, max(1, count // _SAMPLED_SHARE), self.num_attributes)
        numbers = self._leading.numpy()[np.arange(self.num_attributes), ranks]
        return search_space.all_indices()[numbers].astype(np.int32)

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        """The best of what was tried, by these rewards; the simplest network where nothing was."""
        tried = self._tried.numpy()[:, : max(1, int(self._count.numpy()))]
        best = np.take_along_axis(filled_rewards(table), tried, 1).argmax(axis=1)
        return tried[np.arange(self.num_attributes), best]

    def figures(self, table: Optional[RewardTable]) -> dict[str, float]:
        return {"evaluations_per_attribute": int(self._count.numpy())}

    def _untried(self, tried: np.ndarray) -> np.ndarray:
        """The other distinct networks, ascending."""
        return np.setdiff1d(self._twins, tried)


class RandomSearch(SequentialSearch):
    """The best of uniformly drawn networks (Bergstra & Bengio 2012; with shared weights Li & Talwalkar 2019)."""

    def _next(self, tried: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> int:
        return int(rng.choice(self._untried(tried)))
