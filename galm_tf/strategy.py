"""What a search method is: how architectures are sampled, learned about and chosen.

`search` runs any strategy in the same loop, with the same supernet steps and
the same rewards. GALM's own is `controller_training.ControllerTraining`; the
others are in `strategies/`.
"""

from __future__ import annotations

import abc
import contextlib
from typing import Callable, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import search_space, selection
from galm_tf.config import Config
from galm_tf.draws import from_tensor_seed
from galm_tf.errors import UserError
from galm_tf.progress import Progress
from galm_tf.reward import RewardTable
from galm_tf.telemetry import Telemetry

Sampler = Callable[[np.ndarray], Optional[np.ndarray]]  # as `Strategy.sample`


class Strategy(abc.ABC):
    """One search method for N attributes.

    Args:
      num_attributes: N.
      config: settings; `rounds * controller_steps` steps of `samples_per_step`
        rewards are the budget of a method that learns.
    """

    learns = True  # takes controller phases between the supernet's
    rewarded = True  # reads rewards at all
    chunk_steps = 100  # steps between two records

    def __init__(self, num_attributes: int, config: Config) -> None:
        self.num_attributes, self.config = num_attributes, config
        self.initial: dict[str, np.ndarray] = {}  # the state from which `crossfit` starts

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        """All of its state by stable names."""
        return {}

    def sample(self, seed: np.ndarray) -> Optional[np.ndarray]:
        """Architectures to train the supernet with, int32 [N, 10], by an int32 [2] seed; None for uniform ones."""
        return None

    def sampler(self) -> Sampler:
        """`sample`, or a quicker one with the same chances that holds until the strategy learns again."""
        return self.sample

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        """Learns for some steps; returns mean figures by telemetry tag."""
        return {}

    @abc.abstractmethod
    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        """The final architecture of every attribute by the last rewards: int64 [N]."""

    def figures(self, table: Optional[RewardTable]) -> dict[str, float]:
        """Figures about the present state for result.json."""
        return {}

    def choice_probabilities(self) -> Optional[list[np.ndarray]]:
        """The policy's marginal probability of every choice: [N, choices] per decision; None without a policy."""
        return None

    def record(self, telemetry: Telemetry, phase: str, step: int) -> None:  # noqa: B027 (optional)
        """Writes its state for TensorBoard, now and then."""

    def record_relations(self, telemetry: Telemetry, step: int, names: Sequence[str], domains: Sequence[str]) -> None:  # noqa: B027
        """Writes how attributes relate, at the end of a round, for a method that learns it."""

    def crossfit(self, table: RewardTable) -> tuple[np.ndarray, np.ndarray]:
        """What it would choose, started anew, had it seen one half of the rewards only: two int64 [N].

        Same steps and same way of choosing, so that its skill can be judged on
        rewards that it has not seen (DESIGN §3.4).
        """
        own, choices = self._values(), []
        steps = self.config.rounds * self.config.controller_steps if self.learns else 0
        with Progress(2 * steps, "skill") if steps else contextlib.nullcontext() as progress:
            for half in table.halves:
                self._assign(self.initial)
                seen = RewardTable(half, (half, half))
                for first in range(0, steps, self.chunk_steps):
                    count = min(self.chunk_steps, steps - first)
                    self.train_on_table(seen, first, count)
                    progress.update(count)
                choices.append(self.choose(seen))
        self._assign(own)
        return choices[0], choices[1]

    def remember_initial(self) -> None:
        """Takes the present state as the start of `crossfit`; a method with variables calls it when they are made."""
        self.initial = self._values()

    def _values(self) -> dict[str, np.ndarray]:
        return {name: v.numpy() for name, v in self.variables.items()}

    def _assign(self, values: Mapping[str, np.ndarray]) -> None:
        for name, variable in self.variables.items():
            variable.assign(values[name])


class PolicyStrategy(Strategy):
    """A method whose state is a distribution over architectures per attribute; the most probable, re-ranked, are its
    choice.
    """

    @abc.abstractmethod
    def log_probs(self) -> np.ndarray:
        """log P of every architecture for every attribute: float32 [N, 2304]."""

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return selection.derive(self.log_probs(), table, self.config.derive_top)

    def figures(self, table: Optional[RewardTable]) -> dict[str, float]:
        """Entropy, of attributes that have rewards where there are such, and on the table that the policy saw, the
        regret of its most probable architectures.
        """
        log_probs = self.log_probs()
        learned = log_probs[table.rewarded] if table is not None and table.rewarded.any() else log_probs
        figures = {"entropy": selection.entropy(learned)}
        if table is not None:
            figures["regret"] = selection.regret(table, selection.derive(log_probs, None, 1))
        return figures

    def choice_probabilities(self) -> list[np.ndarray]:
        """Marginal probability of every choice: [N, choices] per decision."""
        grid = np.exp(self.log_probs()).reshape(-1, *search_space.NUM_CHOICES)
        axes = range(1, grid.ndim)
        return [grid.sum(axis=tuple(a for a in axes if a != keep)) for keep in axes]


def expect_finite_policy(log_probs: np.ndarray) -> np.ndarray:
    """log P [N, 2304]; raises UserError where the training of a controller has diverged."""
    if not np.isfinite(log_probs).all():
        raise UserError(
            "Expected a policy of finite figures. Received: NaN or infinity: the controller's training has diverged; begin anew with a "
            "smaller --controller_learning_rate or --entropy_weight."
        )
    return log_probs


def sample_rows(log_probs: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """An architecture for each row of log P, [N, 2304], by the Gumbel-max trick: int32 [N, 10]."""
    noise = from_tensor_seed(seed).gumbel(size=log_probs.shape)
    return search_space.all_indices()[(log_probs + noise).argmax(axis=1)]
