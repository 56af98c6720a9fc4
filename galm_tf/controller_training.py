"""The second phase of Algorithm 1: the controller, its rewards and what it has learned (paper §3.5.1)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from galm_tf import search_space, selection
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.gates import gates_from_indices
from galm_tf.metrics import reward_columns
from galm_tf.reinforce import Reinforce
from galm_tf.reward import RewardTable, ScoringImages
from galm_tf.supernet import Supernet, margins


class ControllerTraining:
    """One controller with its REINFORCE state.

    Args:
      num_attributes: N.
      config: settings.
    """

    chunk_steps = 100  # steps between two records

    def __init__(self, num_attributes: int, config: Config) -> None:
        self._config, self._n = config, num_attributes
        self.controller = Controller(
            num_attributes,
            embedding_scale=config.embedding_scale,
            conditioning=config.conditioning,
            seed=config.seed,
        )
        seed = int(tensor_seed(config.seed, Stream.CONTROLLER)[0])
        self.reinforce = Reinforce(self.controller, config, config.rounds * config.controller_steps, seed)
        self._initial = self._values()
        self._all_log_probs = tf.function(self.controller.all_log_probs, reduce_retracing=True)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        return self.reinforce.named_variables

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        """REINFORCE steps on exact rewards; nothing to do where no attribute has one."""
        if not table.rewarded.any():
            return {}
        return self.reinforce.train_on_table(table.full, table.rewarded, first_step, num_steps)

    def log_probs(self) -> np.ndarray:
        """log P of every architecture for every attribute: float32 [N, 2304]."""
        return np.concatenate([self._all_log_probs(tf.constant(ids)).numpy() for ids in _blocks(self._n)])

    def choice_probabilities(self) -> list[np.ndarray]:
        """Marginal probability of every choice: [N, choices] per decision."""
        grid = np.exp(self.log_probs()).reshape(-1, *search_space.NUM_CHOICES)
        axes = range(1, grid.ndim)
        return [grid.sum(axis=tuple(a for a in axes if a != keep)) for keep in axes]

    def correlation(self) -> np.ndarray:
        return self.controller.arm.correlation().numpy()

    def embeddings(self) -> np.ndarray:
        return self.controller.arm.vectors().numpy()

    def crossfit(self, table: RewardTable) -> tuple[np.ndarray, np.ndarray]:
        """What a fresh controller chooses that saw one half of the rewards only, for each half: two int64 [N].

        It gets the same steps and the same way of deriving as the real one, so
        that its skill can be judged on rewards it has not seen (DESIGN §3.4).
        """
        own, choices = self._values(), []
        for half in table.halves:
            self._assign(self._initial)
            seen = RewardTable(half, (half, half))
            self.train_on_table(seen, 0, self._config.rounds * self._config.controller_steps)
            choices.append(selection.derive(self.log_probs(), seen, self._config.derive_top))
        self._assign(own)
        return choices[0], choices[1]

    def _values(self) -> dict[str, np.ndarray]:
        return {name: v.numpy() for name, v in self.variables.items()}

    def _assign(self, values: dict[str, np.ndarray]) -> None:
        for name, variable in self.variables.items():
            variable.assign(values[name])


class BatchRewards:
    """The paper's reward: the score of one architecture on the current validation mini-batch (§3.1).

    Args:
      supernet: its tower weights are read.
      images: trunk features and labels of the validation images.
      config: reward, batch_size, samples_per_step, seed.
      offsets: float32 [N], decision margins.
    """

    def __init__(self, supernet: Supernet, images: ScoringImages, config: Config, offsets: np.ndarray) -> None:
        self._images, self._config, self._offsets = images, config, offsets
        self._maps = [tf.constant(m) for m in images.maps]
        self._supernet = supernet
        self._judged = np.flatnonzero(np.isfinite(images.labels).any(axis=0))
        self._margins = tf.function(self._score, reduce_retracing=True)

    def step(self, training: ControllerTraining, step: int) -> dict[str, float]:
        """Samples, scores, and updates the controller once."""
        rng = generator(self._config.seed, Stream.CONTROLLER, step + 1)
        ids = rng.choice(self._judged, self._config.samples_per_step).astype(np.int32)
        seed = tf.constant(tensor_seed(self._config.seed, Stream.CONTROLLER, step + 1))
        actions = training.controller.sample(tf.constant(ids), seed)[0]
        rows = rng.choice(len(self._images.labels), min(self._config.batch_size, len(self._images.labels)), replace=False)
        scores = self._margins(tf.constant(rows), tf.constant(ids), actions).numpy()
        rewards = [self._reward(self._images.labels[rows, i], scores[:, k], i) for k, i in enumerate(ids)]
        return training.reinforce.step_with_rewards(
            tf.constant(ids), actions, tf.constant(np.array(rewards, np.float32)), step
        )

    def _score(self, rows, ids, actions):
        maps = [tf.gather(m, rows) for m in self._maps]
        return margins(self._supernet.tower_logits(maps, ids, gates_from_indices(actions), tf.size(rows)))

    def _reward(self, labels: np.ndarray, scores: np.ndarray, attribute: int) -> float:
        """NaN where the mini-batch cannot judge the attribute."""
        known = np.isfinite(labels)
        kinds = len(np.unique(labels[known]))
        if kinds == 0 or (kinds == 1 and self._config.reward != "accuracy"):
            return float("nan")
        offset = float(self._offsets[attribute])
        return float(reward_columns(self._config.reward, labels[known], scores[None, known], offset)[0])


def _blocks(n: int, size: int = 16):
    return (np.arange(s, min(s + size, n), dtype=np.int32) for s in range(0, n, size))
