"""REINFORCE with a baseline of past rewards (paper equations 2 to 5; Williams 1992).

The gradient of the expected reward is estimated over M samples,
(1/M) sum_k grad log P(a_1:T; theta) (r_k - b), b being an exponential moving
average of *previous* rewards: the advantage is taken first, the baseline moves
after. A baseline that has seen nothing starts with its first reward.

Paper: nothing is said about the scale of r - b. Here: with
`normalize_advantage` it is divided by a running root mean square, because the
rewards of one attribute spread by 0.01 and those of another by 0.03. The
present step counts in that scale, which bounds what a single reward can do;
and the scale, once it has seen some steps, never falls below its own peak,
because dividing by a spread that shrinks with the policy would magnify noise
until the policy collapses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Optional

import numpy as np
import tensorflow as tf

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.optimizer import LazyAdam
from galm_tf.tracing import traced

_STD_FLOOR = 1e-4  # rewards that differ less are taken as equal


class Reinforce(tf.Module):
    """Trains a controller.

    Args:
      controller: its variables are updated in place.
      config: controller_optimizer, controller_learning_rate, entropy_weight,
        baseline, baseline_decay, normalize_advantage, samples_per_step.
      total_steps: over which the entropy weight falls linearly to a tenth.
      seed: of every draw.
      trained: names of the controller's variables that learn; the others stay. None for all.
    """

    def __init__(
        self,
        controller: Controller,
        config: Config,
        total_steps: int,
        seed: int,
        trained: Optional[Collection[str]] = None,
    ) -> None:
        super().__init__(name="reinforce")
        self._controller, self._config, self._total, self._seed = controller, config, max(1, total_steps), seed
        rows = controller.num_attributes if config.baseline == "attribute" else 1
        self.baseline = tf.Variable(np.zeros(rows, np.float32), trainable=False, name="baseline")
        self.square = tf.Variable(np.zeros(rows, np.float32), trainable=False, name="square")
        self.peak = tf.Variable(np.zeros(rows, np.float32), trainable=False, name="peak")
        self.seen = tf.Variable(np.zeros(rows, np.float32), trainable=False, name="seen")
        self._trained = {k: v for k, v in controller.named_variables.items() if trained is None or k in trained}
        adam = config.controller_optimizer == "adam"
        self._adam = LazyAdam(self._trained, frozenset()) if adam else None
        self._run = traced(self._steps, input_signature=_table_signature())
        self._given = traced(self._given_step)

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        """Controller, baseline and optimiser state by stable names."""
        named = {f"policy/{name}": v for name, v in self._controller.named_variables.items()}
        named.update(baseline=self.baseline, square=self.square, peak=self.peak, seen=self.seen)
        if self._adam is not None:
            named.update({f"adam/{name}": v for name, v in self._adam.slots.items()})
        return named

    def train_on_table(
        self, table: np.ndarray, rewarded: np.ndarray, first_step: int, num_steps: int, seed: Optional[int] = None
    ) -> dict[str, float]:
        """Steps whose rewards are looked up.

        Args:
          table: float32 [N, 2304].
          rewarded: bool [N]; only these attributes are drawn.
          first_step: number of the first step, which its draws depend on.
          num_steps: how many.
          seed: of the draws; that of all when left out.

        Returns:
          Mean metrics of the steps by telemetry tag.
        """
        ids = np.flatnonzero(rewarded).astype(np.int32)
        numbers = (self._seed if seed is None else seed, first_step, num_steps)
        values = self._run(tf.constant(table), tf.constant(ids), *map(tf.constant, numbers))
        return {tag: float(v) for tag, v in values.items()}

    def step_with_rewards(self, attribute_ids, actions, rewards, step: int) -> dict[str, float]:
        """One step for rewards obtained elsewhere; NaN rewards give no gradient.

        Args:
          attribute_ids: int32 [M]. actions: int32 [M, 10]. rewards: float32 [M].
        """
        values = self._given(attribute_ids, actions, rewards, tf.constant(step))
        return {tag: float(v) for tag, v in values.items()}

    def _steps(self, table, ids, seed, first_step, num_steps) -> Mapping[str, tf.Tensor]:
        def body(step, sums):
            return step + 1, sums + self._table_step(table, ids, tf.stack([seed, step]))

        start = (first_step, tf.zeros([len(_TAGS)]))
        _, sums = tf.while_loop(lambda step, _: step < first_step + num_steps, body, start)
        return dict(zip(_TAGS, tf.unstack(sums / tf.cast(num_steps, tf.float32), len(_TAGS))))

    def _table_step(self, table, ids, seed) -> tf.Tensor:
        """One step whose rewards are looked up: its metrics [len(_TAGS)]; seed: int32 [2], of the draws and which step
        it is.
        """
        drawn = tf.gather(ids, _draw_rows(seed, self._config.samples_per_step, tf.shape(ids)[0]))
        with tf.GradientTape() as tape:
            actions, log_prob, entropy = self._controller.sample(drawn, seed)
            numbers = tf.reduce_sum(actions * tf.constant(_place_values(), tf.int32), 1)
            loss, metrics = self._loss(
                drawn, tf.gather_nd(table, tf.stack([drawn, numbers], 1)), log_prob, entropy, seed[1]
            )
        return tf.stack(metrics + [self._apply(tape, loss)])

    def _given_step(self, attribute_ids, actions, rewards, step) -> Mapping[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            log_prob, entropy = self._controller.log_prob(attribute_ids, actions)
            loss, metrics = self._loss(attribute_ids, rewards, log_prob, entropy, step)
        return dict(zip(_TAGS, metrics + [self._apply(tape, loss)]))

    def _loss(self, attribute_ids, rewards, log_prob, entropy, step):
        """Loss of equation 5 with an entropy bonus, and the metrics of the step."""
        known = tf.math.is_finite(rewards)
        rewards = tf.where(known, rewards, 0.0)
        rows = attribute_ids if self._config.baseline == "attribute" else tf.zeros_like(attribute_ids)
        baseline, raw, scaled = self._advantage(rows, rewards, known)
        share = tf.minimum(1.0, tf.cast(step, tf.float32) / float(self._total))
        weight = self._config.entropy_weight * (1.0 - 0.9 * share)
        entropy = tf.reduce_sum(entropy, 1)
        loss = -_mean_of(known, scaled * tf.reduce_sum(log_prob, 1) + weight * entropy)
        reward, baseline, advantage, entropy = (_mean_of(known, v) for v in (rewards, baseline, raw, entropy))
        deviation = tf.sqrt(_mean_of(known, tf.square(raw - advantage)))
        return loss, [reward, baseline, advantage, deviation, entropy, loss]

    def _advantage(self, rows, rewards, known):
        """(baseline, reward - baseline, the same scaled), each [M]; then the baseline moves."""
        seen = tf.gather(self.seen, rows)
        counts = self._scatter_sum(rows, tf.cast(known, tf.float32))
        means = tf.math.divide_no_nan(self._scatter_sum(rows, rewards), counts)
        baseline = tf.where(seen > 0, tf.gather(self.baseline, rows), tf.gather(means, rows))
        raw = tf.where(known, rewards - baseline, 0.0)
        squares = tf.math.divide_no_nan(self._scatter_sum(rows, tf.square(raw)), counts)
        self._move(self.baseline, means, counts, first=1.0)
        self._move(self.square, squares, counts, first=1.0 - self._config.baseline_decay)
        self.peak.assign(tf.maximum(self.peak, self.square))
        self.seen.assign_add(tf.cast(counts > 0, tf.float32))
        scaled = raw / tf.gather(self._deviation(), rows) if self._config.normalize_advantage else raw
        return baseline, raw, tf.stop_gradient(scaled)

    def _deviation(self) -> tf.Tensor:
        """Root mean square of the advantages so far, corrected for the average's start at 0: [rows]."""
        weight = 1.0 - tf.pow(self._config.baseline_decay, self.seen)
        square = tf.maximum(tf.math.divide_no_nan(self.square, weight), self.peak)
        return tf.maximum(tf.sqrt(square), _STD_FLOOR)

    def _scatter_sum(self, rows, values):
        return tf.math.unsorted_segment_sum(values, rows, self.baseline.shape[0])

    def _move(self, average, means, counts, first: float) -> None:
        """One decay step towards the mean of this step's values, for the rows that have some.

        first: weight of the first values of a row.
        """
        weight = tf.where(self.seen > 0, 1.0 - self._config.baseline_decay, first)
        average.assign_add(tf.where(counts > 0, weight * (means - average), 0.0))

    def _apply(self, tape, loss) -> tf.Tensor:
        named = self._trained
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, list(named.values()))]
        rate = tf.constant(self._config.controller_learning_rate, tf.float32)
        if self._adam is not None:
            self._adam.apply(dict(zip(named, gradients)), rate, 0.0)
        else:
            for variable, gradient in zip(named.values(), gradients):
                variable.assign_sub(rate * gradient)
        return tf.linalg.global_norm(gradients)


_TAGS = (
    "controller/reward",
    "controller/baseline",
    "controller/advantage",
    "controller/advantage_std",
    "controller/entropy",
    "controller/loss",
    "controller/gradient_norm",
)


def _table_signature() -> list[tf.TensorSpec]:
    """Of steps on a table: rewards, the attributes that are drawn, of whatever number, seed, first step and number of
    steps.
    """
    table = tf.TensorSpec([None, search_space.NUM_ARCHITECTURES], tf.float32)
    return [table, tf.TensorSpec([None], tf.int32), *[tf.TensorSpec([], tf.int32)] * 3]


def _mean_of(known: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Mean of the values [M] where `known`, 0 when none is."""
    total = tf.reduce_sum(tf.where(known, values, 0.0))
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(known, tf.float32)))


def _draw_rows(seed: tf.Tensor, samples: int, count: tf.Tensor) -> tf.Tensor:
    """`samples` rows below `count`, int32 [samples].

    Every row comes equally often, but for a random remainder of less than `count`; none twice when samples <= count.
    """
    keys = tf.random.stateless_uniform([count], seed + tf.constant([0, 0x40000000]))
    order = tf.cast(tf.argsort(keys), tf.int32)
    return tf.gather(order, tf.range(samples) % count)


def _place_values() -> np.ndarray:
    """Factors that turn ten choice indices into the architecture's number."""
    counts = np.array(search_space.NUM_CHOICES)
    return np.append(np.cumprod(counts[:0:-1])[::-1], 1)
