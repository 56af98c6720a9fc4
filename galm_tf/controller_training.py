"""GALM's own strategy: the controller, its rewards and what it has learned (paper §3.5.1, second phase)."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.gates import gates_from_indices
from galm_tf.metrics import reward_columns
from galm_tf.reinforce import Reinforce
from galm_tf.reward import RewardTable, ScoringImages
from galm_tf.strategy import PolicyStrategy, Sampler, expect_finite_policy, sample_rows
from galm_tf.supernet import Supernet, margins
from galm_tf.telemetry import Telemetry
from galm_tf.tracing import traced, untraced

_POLICY_RECORD_STEPS = 500  # the whole policy is written out this often; it costs as much as training it for 100 steps
# attributes whose policy is written out at once; of a single block that, and sampling, are so quick that tracing would
# not pay
_BLOCK = 16
_TOGETHER = 8  # architectures that are scored on a mini-batch at once, whose maps are held together


class ControllerTraining(PolicyStrategy):
    """One controller with its REINFORCE state.

    The policy's most probable architectures, re-ranked by reward, are its choice.
    `trained` names the controller's variables that learn; None for all.
    """

    def __init__(self, num_attributes: int, config: Config, trained: Optional[Sequence[str]] = None) -> None:
        super().__init__(num_attributes, config)
        self.controller = Controller.of(config, num_attributes, config.seed)
        seed = int(tensor_seed(config.seed, Stream.CONTROLLER)[0])
        self.reinforce = Reinforce(self.controller, config, config.rounds * config.controller_steps, seed, trained)
        self._all_log_probs = traced(self.controller.all_log_probs, input_signature=[tf.TensorSpec([None], tf.int32)])
        self._sample = traced(self.controller.sample)
        self._written_out: Optional[tuple[list[np.ndarray], np.ndarray]] = None  # a policy and its `log_probs`
        self.remember_initial()

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        return self.reinforce.named_variables

    def sample(self, seed: np.ndarray) -> np.ndarray:
        return self.sample_for(np.arange(self.num_attributes, dtype=np.int32), seed)

    def sampler(self) -> Sampler:
        """For few attributes from their written-out policy: the recurrent cell at every step costs as much as training
        a tower.
        """
        if self.num_attributes > _BLOCK:
            return self.sample
        log_probs = self.log_probs()
        return lambda seed: sample_rows(log_probs, seed)

    def sample_for(self, attribute_ids: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """One architecture for each of int32 [M] attributes, by the policy: int32 [M, 10]."""
        with untraced(len(attribute_ids) <= _BLOCK):
            return self.draw(tf.constant(attribute_ids), tf.constant(seed)).numpy()

    def draw(self, attribute_ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """As `sample_for`, traced however few they are: for draws of every step; int32 [M, 10]."""
        return self._sample(attribute_ids, seed)[0]

    def train_on_table(self, table: RewardTable, first_step: int, num_steps: int) -> dict[str, float]:
        """REINFORCE steps on exact rewards; nothing to do where no attribute has one."""
        if not table.rewarded.any():
            return {}
        return self.reinforce.train_on_table(table.full, table.rewarded, first_step, num_steps)

    def record(self, telemetry: Telemetry, phase: str, step: int) -> None:
        if step % _POLICY_RECORD_STEPS == 0 or step % self.config.controller_steps == 0:
            telemetry.choice_probabilities(phase, step, self.choice_probabilities())

    def record_relations(self, telemetry: Telemetry, step: int, names: Sequence[str], domains: Sequence[str]) -> None:
        telemetry.correlation_image(step, self.correlation(), names)
        telemetry.embeddings(self.embeddings(), names, domains)

    def log_probs(self) -> np.ndarray:
        """log P of every architecture for every attribute: float32 [N, 2304]; reckoned only where the policy has moved
        since; raises UserError where its training has diverged.
        """
        policy = [v.numpy() for v in self.controller.named_variables.values()]
        if self._written_out is None or not all(map(np.array_equal, policy, self._written_out[0])):
            with untraced(self.num_attributes <= _BLOCK):
                ids = np.arange(self.num_attributes, dtype=np.int32)
                parts = np.split(ids, range(_BLOCK, self.num_attributes, _BLOCK))
                blocks = [self._all_log_probs(tf.constant(part)).numpy() for part in parts]
            self._written_out = policy, expect_finite_policy(np.concatenate(blocks))
        return self._written_out[1]

    def correlation(self) -> np.ndarray:
        return self.controller.arm.correlation().numpy()

    def embeddings(self) -> np.ndarray:
        return self.controller.arm.vectors().numpy()


class BatchRewards:
    """The paper's reward: the score of one architecture on the current validation mini-batch (§3.1).

    Args:
      supernet: its tower weights are read.
      images: trunk features and labels of the validation images; calibration images, where such lead, stand before
        every mini-batch and give the statistics of its batch norms, else it does itself.
      config: reward, batch_size, samples_per_step, seed.
      offsets: float32 [N], decision margins.

    `judged` are the attributes that have a reward, int64.
    """

    def __init__(self, supernet: Supernet, images: ScoringImages, config: Config, offsets: np.ndarray) -> None:
        self._images, self._config, self._offsets = images, config, offsets
        self._maps = [tf.constant(m) for m in images.maps]
        self._supernet = supernet
        self.judged = np.flatnonzero(np.isfinite(images.labels).any(axis=0))
        self._margins = traced(self._score)

    def step(self, training: ControllerTraining, step: int) -> dict[str, float]:
        """Samples, scores, and updates the controller once. A mini-batch is of images that can judge some of the sampled
        attributes: of several domains, others know nothing of them.
        """
        rng = generator(self._config.seed, Stream.CONTROLLER, step + 1)
        ids = rng.choice(self.judged, self._config.samples_per_step).astype(np.int32)
        seed = tf.constant(tensor_seed(self._config.seed, Stream.CONTROLLER, step + 1))
        actions = training.draw(tf.constant(ids), seed)
        known = np.flatnonzero(np.isfinite(self._images.labels[:, ids]).any(axis=1))
        rows = rng.choice(known, min(self._config.batch_size, len(known)), replace=False)
        parts = [slice(start, start + _TOGETHER) for start in range(0, len(ids), _TOGETHER)]
        scores = np.concatenate(
            [self._margins(tf.constant(rows), tf.constant(ids[p]), actions[p]).numpy() for p in parts], axis=1
        )
        rewards = [self._reward(self._images.labels[rows, i], scores[:, k], i) for k, i in enumerate(ids)]
        return training.reinforce.step_with_rewards(
            tf.constant(ids), actions, tf.constant(np.array(rewards, np.float32)), step
        )

    def _score(self, rows, ids, actions):
        leading = self._images.num_calibration
        index = tf.concat([tf.range(leading, dtype=rows.dtype), leading + rows], 0)
        maps = [tf.gather(m, index) for m in self._maps]
        statistics = tf.constant(leading) if leading else tf.size(rows)
        return margins(self._supernet.tower_logits(maps, ids, gates_from_indices(actions), statistics))[leading:]

    def _reward(self, labels: np.ndarray, scores: np.ndarray, attribute: int) -> float:
        """NaN where the mini-batch cannot judge the attribute."""
        known = np.isfinite(labels)
        kinds = len(np.unique(labels[known]))
        if kinds == 0 or (kinds == 1 and self._config.reward != "accuracy"):
            return float("nan")
        offset = float(self._offsets[attribute])
        return float(reward_columns(self._config.reward, labels[known], scores[None, known], offset)[0])
