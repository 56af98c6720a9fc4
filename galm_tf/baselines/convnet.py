"""What the learners that train on images have in common: GALM's layers without gates, its augmentation, its optimiser.

Conv-1 to Conv-5 and the fully connected layers have the widths of Table 1. Each
learner joins them in its own way; here is how such a network is trained, and
how it scores: batch norms fixed to statistics of training images, as GALM's are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from galm_tf.augment import Augment
from galm_tf.data import BatchPlan
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.layers import ConvPool, SeededLayer, TowerDropout, TrunkBatchNorm, he_uniform
from galm_tf.optimizer import LazyAdam
from galm_tf.preprocess import scale_images
from galm_tf.progress import Progress
from galm_tf.schedule import cosine
from galm_tf.scoring import in_batches
from galm_tf.search_space import TRUNK_CHANNELS, TRUNK_KERNELS
from galm_tf.supernet import NO_DROPOUT
from galm_tf.supernet_training import expect_finite, masked_loss

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (targets [B, K], logits [B, K]) -> []


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained; the fields are those of `Config`.

    `steps` is the whole budget of one training, which a learner shares out among its stages.
    """

    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    augment_flip: bool
    augment_crop: float
    augment_color: float
    calibration_images: int

    def share(self, fraction: float) -> int:
        """That part of the steps, at least one."""
        return max(1, round(fraction * self.steps))


class Dense(SeededLayer):
    """A fully connected layer: [B, inputs] -> [B, units], with ReLU or linear."""

    def __init__(self, name: str, inputs: int, units: int, rng: np.random.Generator, relu: bool = True) -> None:
        super().__init__(name)
        self.relu = relu
        scale = 1.0 if relu else 0.1  # as the supernet's Fc-3
        self.kernel = self.add("kernel", scale * he_uniform(rng, (inputs, units), inputs))
        self.bias = self.add("bias", np.zeros(units, np.float32))

    def call(self, x):
        y = tf.matmul(x, self.kernel) + self.bias
        return tf.nn.relu(y) if self.relu else y


class Stack(tf.keras.layers.Layer):
    """K branches of [B, width] -> [K, B, width]."""

    def call(self, branches):
        return tf.stack(branches)


class BranchHeads(SeededLayer):
    """The last layer of every attribute on one of several branches: [K, B, width] -> logits [B, N].

    Args:
      branch_of: per attribute, the branch that it reads.
      width: of the branches.
    """

    def __init__(self, branch_of: Sequence[int], width: int, rng: np.random.Generator) -> None:
        super().__init__("heads")
        self._branch_of = np.asarray(branch_of, np.int32)
        self.add("kernel", 0.1 * he_uniform(rng, (len(branch_of), width), width))
        self.add("bias", np.zeros(len(branch_of), np.float32))

    def call(self, branches):
        read = tf.gather(branches, self._branch_of)  # [N, B, width]
        return tf.einsum("nbw,nw->bn", read, self.parameters["kernel"]) + self.parameters["bias"]


def conv_block(x, name: str, filters: int, kernel_size: int, rng: np.random.Generator):
    """Convolution, ReLU, pool and batch norm on a Keras tensor."""
    x = ConvPool(name, x.shape[-1], filters, kernel_size, rng)(x)
    return TrunkBatchNorm(f"{name}_bn", filters)(x)


def trunk_blocks(x, count: int, rng: np.random.Generator):
    """The first `count` blocks of Table 1's trunk on a Keras tensor."""
    for i, (filters, kernel) in enumerate(zip(TRUNK_CHANNELS[:count], TRUNK_KERNELS), 1):
        x = conv_block(x, f"conv{i}", filters, kernel, rng)
    return x


def flatten_and_drop(x, seed, rate: float, name: str = "dropout"):
    """Flattens maps, then dropout: what Fc-1 reads."""
    return TowerDropout(name, rate)(tf.keras.layers.Flatten(name=f"{name}_flatten")(x), seed)


class ConvNet:
    """A Keras model from images to logits, whose weights have names.

    Args:
      build: (images [B, S, S, 3], dropout seed [2]) as Keras tensors -> logits [B, K].
      image_size: S.
      training: augmentation and seed.
    """

    def __init__(self, build: Callable, image_size: int, training: Training) -> None:
        image = tf.keras.Input((image_size, image_size, 3), name="image")
        seed = tf.keras.Input((), dtype="int32", name="dropout_seed")
        self.model = tf.keras.Model([image, seed], build(image, seed))
        self._training = training
        self._augment = Augment.of(training)
        signature = [tf.TensorSpec((None, image_size, image_size, 3), tf.uint8)]
        self._calibrate = tf.function(lambda images: self._infer(images, True), signature, autograph=False)
        self._scores = tf.function(lambda images: self._infer(images, False), signature, autograph=False)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        parts = [layer for layer in self.model.layers if isinstance(layer, SeededLayer)]
        return {f"{part.name}/{name}": v for part in parts for name, v in part.parameters.items()}

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return {name: v.numpy() for name, v in self.variables.items()}

    def assign(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes the weights whose names it has."""
        for name, variable in self.variables.items():
            if name in weights:
                variable.assign(weights[name])

    def training_logits(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Logits of augmented uint8 images, with dropout and the batch's statistics."""
        return self.model([scale_images(self._augment(images, seed)), seed + 1], training=True)

    def calibrate(self, images: np.ndarray) -> None:
        """Fixes the batch norms to the statistics of some of these uint8 images."""
        rng = generator(self._training.seed, Stream.CALIBRATION)
        index = rng.permutation(len(images))[: self._training.calibration_images]
        self._calibrate(tf.constant(np.asarray(images[np.sort(index)])))

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Logits with fixed batch norms and no dropout: float64 [n, K]."""
        return in_batches(self._scores, images).astype(np.float64)

    def fit(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        stops: Sequence[int],
        variables: Optional[Mapping[str, tf.Variable]] = None,
        **settings: Any,
    ) -> Iterator["ConvNet"]:
        """Learns attributes; the same network at each of `stops`, with fixed batch norms: use it before the next.

        Args:
          images: uint8 [n, S, S, 3].
          targets: float32 [n, N] in [0, 1], NaN where unknown.
          stops, **settings: as of `train`.
          variables: those that learn; all when left out.

        Raises:
          UserError: training has diverged.
        """
        learning = self.variables if variables is None else variables
        forward, training = self.training_logits, self._training
        for _ in train(forward, learning, images, targets, attribute_loss, training, stops, **settings):
            self.calibrate(images)
            yield self

    def _infer(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        return self.model([scale_images(images), tf.constant(NO_DROPOUT, tf.int32)], training=training)


def train(
    forward: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    variables: Mapping[str, tf.Variable],
    inputs: np.ndarray,
    targets: np.ndarray,
    loss: Loss,
    training: Training,
    stops: Sequence[int],
    learning_rate: Optional[float] = None,
    weight_decay: Optional[float] = None,
    steps: Optional[int] = None,
    first_step: int = 0,
) -> Iterator[int]:
    """Trains by Adam at the rates of GALM's phases (`schedule.cosine`), whose decay ends at `steps`; pauses, and yields
    the step, at each of `stops`.

    Args:
      forward: (batch of inputs, seed int32 [2]) -> logits [B, K].
      variables: what is trained, by name.
      inputs: [n, …].
      targets: float32 [n, K].
      loss: of a batch.
      training: seed, batch size, and the two rates where none are given.
      stops: ascending numbers of steps, each yielded as often as it is there.
      steps: where the decay ends; the last stop when left out.
      first_step: number of the first step, later than 0 where a training goes on.

    Raises:
      UserError: training has diverged.
    """
    trained = {name: v for name, v in variables.items() if v.trainable}
    optimizer = LazyAdam(trained, frozenset())
    peak = training.learning_rate if learning_rate is None else learning_rate
    decay = training.weight_decay if weight_decay is None else weight_decay

    @tf.function(autograph=False)  # a third of the time to trace
    def step(batch, target, seed, rate):
        with tf.GradientTape() as tape:
            value = loss(target, forward(batch, seed))
        optimizer.apply(dict(zip(trained, tape.gradient(value, list(trained.values())))), rate, decay)
        return value

    plan = BatchPlan(np.arange(len(inputs)), min(training.batch_size, len(inputs)), training.seed)
    end = steps or stops[-1]
    with Progress(stops[-1], "training of a learner", initial=first_step) as progress:
        for number in range(first_step, stops[-1]):
            index = plan.at(number)
            rate = cosine(number, end, peak)
            seed = tf.constant(tensor_seed(training.seed, Stream.NOISE, number))
            batch = tf.constant(np.asarray(inputs[index])), tf.constant(targets[index], tf.float32)
            value = step(*batch, seed, tf.constant(rate, tf.float32))
            progress.update(1)
            if number + 1 in stops:  # it stays what it is once it is none
                expect_finite(float(value), "the training of a learner", number, "learning_rate")
            yield from [number + 1] * list(stops).count(number + 1)


def attribute_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Sigmoid cross-entropy of known targets, all attributes alike: [B, N] in [0, 1] or NaN, [B, N] -> []."""
    return masked_loss(targets, logits, tf.zeros(tf.shape(logits)[1]))


def class_loss(one_hot: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy: [B, C], [B, C] -> []."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(one_hot, logits))
