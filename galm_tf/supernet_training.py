"""The first phase of Algorithm 1: one step on the supernet's weights, Omega (paper §3.5.1).

The same step trains the supernet with sampled architectures and, with every
attribute's architecture held fixed, adapts and fine-tunes the chosen networks.
It does not choose images, attributes or architectures: `search` does.
"""

from __future__ import annotations

import math
from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from galm_tf import layers
from galm_tf import supernet as supernet_lib
from galm_tf.augment import Augment
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.gates import gates_from_indices
from galm_tf.optimizer import LazyAdam
from galm_tf.tracing import traced


class SupernetTraining:
    """Weights, optimiser and the traced step.

    Args:
      supernet: the network.
      targets: float32 [n, N] in [0, 1], NaN where unknown, rows as the images are indexed.
      positive_weights: float32 [N], weight of a positive in the loss.
      augment: (stored records, seed int32 [2]) -> stored records to train on; the settings' changes of images when left
        out.
    """

    def __init__(
        self,
        supernet: supernet_lib.Supernet,
        targets: np.ndarray,
        positive_weights: np.ndarray,
        config: Config,
        augment: Optional[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = None,
    ) -> None:
        self.supernet = supernet
        stacked = frozenset(supernet_lib.TOWER_WEIGHTS)
        self._trained = {n: v for n, v in supernet.trainable.items() if config.trunk_learns or n in stacked}
        self.optimizer = LazyAdam(self._trained, stacked)
        self._targets = tf.constant(targets, tf.float32)
        self._log_weights = tf.constant(np.log(positive_weights), tf.float32)
        self._weight_decay = config.weight_decay
        self._dtype = tf.as_dtype(config.precision)
        self._augment = augment or Augment.of(config)

    @traced
    def step(self, images, index, attribute_ids, choices, seed, learning_rate) -> dict[str, tf.Tensor]:
        """Trains on one batch.

        Args:
          images: stored records, uint8 [B, S, S, 3] for a trunk that learns.
          index: int64 [B], rows of the targets.
          attribute_ids: int32 [A], distinct.
          choices: int32 [A, 10], the architecture of each attribute.
          seed: int32 [2], of this step's augmentation and dropout.
          learning_rate: float32 [].

        Returns:
          {"loss": float32 []}.
        """
        targets = tf.gather(tf.gather(self._targets, index), attribute_ids, axis=1)
        images = self.supernet.scale(self._augment(images, seed))
        with layers.convolutions_in(self._dtype), tf.GradientTape() as tape:
            controls = [attribute_ids, gates_from_indices(choices), tf.shape(images)[:1], seed + 1]
            logits = self.supernet.towers([self.supernet.trunk(images, training=True), *controls], training=True)
            margins = supernet_lib.margins(logits)
            loss = masked_loss(targets, margins, tf.gather(self._log_weights, attribute_ids))
        gradients = tape.gradient(loss, list(self._trained.values()))
        self.optimizer.apply(dict(zip(self._trained, gradients)), learning_rate, self._weight_decay)
        return {"loss": loss}


def masked_loss(targets: tf.Tensor, margins: tf.Tensor, log_weights: tf.Tensor) -> tf.Tensor:
    """Sigmoid cross-entropy of known targets: mean per attribute, then over attributes that have one.

    It is least where the margin less the log weight is the log-odds of the target.

    Args:
      targets: [B, A] in [0, 1], NaN where unknown.
      margins: [B, A], logit differences.
      log_weights: [A], log weight of a positive.
    """
    tf.debugging.assert_shapes([(targets, ("B", "A")), (margins, ("B", "A")), (log_weights, ("A",))])
    known = tf.cast(tf.math.is_finite(targets), tf.float32)
    entropy = tf.nn.weighted_cross_entropy_with_logits(tf.where(known > 0, targets, 0.0), margins, tf.exp(log_weights))
    count = tf.reduce_sum(known, 0)
    per_attribute = tf.math.divide_no_nan(tf.reduce_sum(known * entropy, 0), count)
    return tf.math.divide_no_nan(tf.reduce_sum(per_attribute), tf.reduce_sum(tf.cast(count > 0, tf.float32)))


def expect_finite(loss: float, where: str, step: int, rate: str) -> float:
    """The loss of a step, counted from 0; raises UserError where training has diverged, which a lower value of the flag
    `rate` may prevent.
    """
    if not math.isfinite(loss):
        raise UserError(
            f"Expected a finite loss in {where}, step {step + 1}. Received: {loss}: training has diverged; begin anew with a smaller --{rate}."
        )
    return loss
