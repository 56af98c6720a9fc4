"""The upper layers of a pretrained trunk learn the attributes, before maps are made of them.

Not in the paper. A linear reading of the means of the trunk's channels, thrown
away afterwards, is trained on the training images together with those layers, at
a rate and for steps so few that what the model knows of other images stays;
what it then tells of unseen classes is more (docs/EXPERIMENTS.md). Batch norms
stay as they are, and the seed of a run does not count, so that runs of all seeds
on the same split share a trunk.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import data
from galm_tf.augment import Augment
from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.draws import ANY_SEED, Stream, tensor_seed
from galm_tf.optimizer import LazyAdam
from galm_tf.preprocess import scale_images
from galm_tf.progress import Progress
from galm_tf.schedule import cosine
from galm_tf.supernet_training import expect_finite, masked_loss
from galm_tf.tracing import traced

_READING_RATE = 1e-3  # of the linear reading
_DROPOUT = 0.5  # of what it reads
_LEAST_SPREAD = 1e-3  # of a channel's mean


def train(
    means: Callable,
    weights: Sequence[tf.Variable],
    usual: np.ndarray,
    images: np.ndarray,
    domain: Domain,
    index: np.ndarray,
    config: Config,
) -> list[float]:
    """Moves the weights, by --trunk_steps steps of Adam on batches of training images.

    Args:
      means: scaled images float32 [B, S, S, 3] -> the means of the trunk's channels, float32 [B, D].
      weights: that it depends on and that shall learn.
      usual: what it gives for some training images, float32 [n, D].
      images: uint8 [m, S, S, 3].
      domain: of the images; NaN targets teach nothing.
      index: int64, the records that train.

    Returns:
      The loss of every step.

    Raises:
      UserError: training diverges.
    """
    index = data.labelled(index, domain)
    weights_of_records = data.class_weights(index, domain, config)
    level = data.log_odds(domain.targets[index], weights_of_records)
    step = _step(means, weights, usual, level, domain, config)
    plan, losses = data.BatchPlan(index, config.batch_size, ANY_SEED, weights_of_records), []
    with Progress(config.trunk_steps, "trunk", unit="step") as progress:
        for i, batch in enumerate(data.training_batches(images, plan, 0, config.trunk_steps)):
            seed = tf.constant(tensor_seed(ANY_SEED, Stream.TRUNK, i))
            loss = step(
                batch["image"], batch["index"], seed, tf.constant(cosine(i, config.trunk_steps, 1.0), tf.float32)
            )
            losses.append(expect_finite(float(loss), "the trunk's training", i, "trunk_learning_rate"))
            progress.update(1, loss=losses[-1])
        # the last step's own weights, by which no loss is computed
        read = float(tf.reduce_sum(means(scale_images(tf.constant(batch["image"])))))
        expect_finite(read, "the trunk's training", i, "trunk_learning_rate")
    return losses


def _step(
    means: Callable,
    weights: Sequence[tf.Variable],
    usual: np.ndarray,
    level: np.ndarray,
    domain: Domain,
    config: Config,
) -> Callable:
    """A step that moves the weights and a reading of what they give, which begins at the level of each attribute,
    float64 [N]: (pictures uint8 [B, S, S, 3], rows of targets int [B], seed, share of the peak rates) -> loss.
    """
    mean, spread = usual.mean(axis=0), usual.std(axis=0) + _LEAST_SPREAD
    targets = tf.constant(domain.targets, tf.float32)
    reading = {
        "kernel": tf.Variable(tf.zeros([usual.shape[1], len(level)])),
        "bias": tf.Variable(level.astype(np.float32)),
    }
    layers = {f"trunk/{i}": weight for i, weight in enumerate(weights)}
    optimizers = [LazyAdam(variables, frozenset()) for variables in (reading, layers)]
    augment = Augment.of(config)

    @traced
    def step(pictures, rows, seed, rate):
        with tf.GradientTape() as tape:
            tape.watch(weights)  # whether or not they learned when the model was stored
            read = (means(scale_images(augment(pictures, seed))) - mean) / spread
            read = tf.nn.experimental.stateless_dropout(read, _DROPOUT, seed + 1)
            loss = masked_loss(
                tf.gather(targets, rows), read @ reading["kernel"] + reading["bias"], tf.zeros_like(reading["bias"])
            )
        gradients = tape.gradient(loss, [reading, layers], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for optimizer, gradient, peak in zip(optimizers, gradients, (_READING_RATE, config.trunk_learning_rate)):
            optimizer.apply(gradient, rate * peak, 0.0)
        return loss

    return step
