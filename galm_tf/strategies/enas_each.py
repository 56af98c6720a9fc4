"""ENAS as it was published (Pham et al. 2018): one search for one task, so for every attribute anew.

N policies that know nothing of one another, each trained by REINFORCE on the
rewards of its attribute alone, and by as many steps as GALM's policy has for
all of them together: N times its controller's work. The supernet is the same.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np
import tensorflow as tf

from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.draws import Stream, tensor_seed
from galm_tf.reward import RewardTable
from galm_tf.strategies.tabular import filled_rewards
from galm_tf.strategy import PolicyStrategy, expect_finite_policy, sample_rows
from galm_tf.tracing import traced

_LOG_PROBS = "log_probs"


class EnasEach(PolicyStrategy):
    """Each attribute's policy and optimiser are a row of stacked variables; one controller takes them in turn, each by
    draws of its own.

    What the policies say of every architecture is kept beside them, since it is asked for at every step of the
    supernet.
    """

    def __init__(self, num_attributes: int, config: Config) -> None:
        super().__init__(num_attributes, config)
        self._policy = ControllerTraining(1, config)
        self._tell = traced(self._policy.controller.all_log_probs)
        first = {name: v.numpy() for name, v in self._policy.variables.items()}
        first[_LOG_PROBS] = self._policy.log_probs()[0]
        with tf.device("CPU"):
            self._rows = {
                name: tf.Variable(np.repeat(v[None], num_attributes, axis=0), trainable=False)
                for name, v in first.items()
            }
        self.remember_initial()

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        return self._rows

    def sample(self, seed: np.ndarray) -> np.ndarray:
        """An architecture by each policy."""
        return sample_rows(self.log_probs(), seed)

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        """So many steps of every attribute that has rewards, and of one policy for the others, on their mean; the mean
        of all figures.
        """
        figures, full = [], filled_rewards(table)
        if not table.rewarded.any():
            return {}
        others = np.flatnonzero(~table.rewarded)
        rows = {
            name: variable.numpy() for name, variable in self._rows.items()
        }  # a row of a variable takes long to reach
        for group in [[i] for i in np.flatnonzero(table.rewarded)] + [list(others)] * bool(len(others)):
            i = group[0]
            for name, variable in self._policy.variables.items():
                variable.assign(rows[name][i])
            seed = int(tensor_seed(self.config.seed, Stream.CONTROLLER, int(i))[0])
            figures.append(
                self._policy.reinforce.train_on_table(full[i : i + 1], np.array([True]), first_step, num_steps, seed)
            )
            rows[_LOG_PROBS][group] = expect_finite_policy(self._tell(tf.constant([0])).numpy())
            for name, variable in self._policy.variables.items():
                rows[name][group] = variable.numpy()
        for name, variable in self._rows.items():
            variable.assign(rows[name])
        return {tag: float(np.mean([row[tag] for row in figures])) for tag in figures[0]}

    def log_probs(self) -> np.ndarray:
        return self._rows[_LOG_PROBS].numpy()
