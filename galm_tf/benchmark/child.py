"""One network of Table 1 in plain Keras, trained from scratch on one attribute: what a search without shared weights
judges.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Optional

import keras_tuner
import numpy as np
import tensorflow as tf

from galm_tf import attribute_names, evaluation, search_space
from galm_tf.augment import Augment
from galm_tf.benchmark.step_speed import plain_network
from galm_tf.config import Config
from galm_tf.data import BatchPlan, class_weights, training_batches
from galm_tf.errors import UserError
from galm_tf.metrics import both_labels
from galm_tf.preparation import Prepared
from galm_tf.preprocess import scale_images
from galm_tf.scoring import image_batches
from galm_tf.search_space import Architecture
from galm_tf.validation import validation_labels

LEARNING_RATE = 1e-3  # Adam's default in Keras


@dataclasses.dataclass(frozen=True)
class AttributeData:
    """A domain's images and split as one attribute sees them.

    Attributes:
      name: of the attribute.
      images: uint8 [n, S, S, 3], all records.
      labels: float32 [n] in {0, 1, NaN}.
      targets: float32 [n] in [0, 1], what is learned.
      train, validation, test: int64 [·], records whose label is known; of validation those that may judge.
      final: what the last network is trained on, as GALM fine-tunes its own: training and, as a rule, validation.
      weights: "train" and "final" -> how often each of these records is drawn, as by GALM (`data.class_weights`); all
        alike where there are none.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    final: np.ndarray
    test: np.ndarray
    weights: Mapping[str, Optional[np.ndarray]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, prepared: Prepared, name: str, config: Config) -> "AttributeData":
        """Raises UserError when validation or test cannot judge the attribute, or there is none of that name."""
        number = attribute_number(prepared, name)
        domain, split = prepared.domain, prepared.split
        labels = domain.labels[:, number]
        judging = np.isfinite(validation_labels(domain.labels, split, split.validation)[:, number])
        tuned = np.sort(split.trained) if config.finetunes_on_validation else split.train
        train, final, test = (index[np.isfinite(labels[index])] for index in (split.train, tuned, split.test))
        targets, judging = domain.targets[:, number], split.validation[judging]
        weights = {"train": class_weights(train, domain, config), "final": class_weights(final, domain, config)}
        data = cls(domain.attributes[number], prepared.images, labels, targets, train, judging, final, test, weights)
        for part in ("validation", "test"):
            if not both_labels(labels[getattr(data, part)]):
                raise UserError(
                    f"Expected --attributes with both labels among the {part} images. Received: {data.name}; "
                    "leave the flag out for attributes that have."
                )
        return data


def attribute_number(prepared: Prepared, name: str) -> int:
    """Column of an attribute, by its name with or without the domain's."""
    names = prepared.domain.attributes
    found = attribute_names.places(name, names)
    if len(found) != 1:
        repair = "give it with its domain." if found else attribute_names.repair(name, names, "attributes")
        raise UserError(
            f"Expected --attributes to name searched attributes of {prepared.domain.name}. Received: {name}, which is "
            f"{'several' if found else 'none'} of these; {repair}"
        )
    return found[0]


def space() -> keras_tuner.HyperParameters:
    """Table 1's ten decisions by the indices of their choices: KerasTuner makes numbers of yes and no."""
    parameters = keras_tuner.HyperParameters()
    for decision in search_space.DECISIONS:
        parameters.Choice(decision.name, list(range(len(decision.choices))))
    return parameters


def _layers(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """All layers, those of models within it too."""
    return [
        inner for layer in model.layers for inner in (_layers(layer) if isinstance(layer, tf.keras.Model) else [layer])
    ]


class Child:
    """A network with fresh weights.

    Args:
      architecture: which one.
      config: image_size, batch_size and augmentation.
      seed: of its weights, batches and augmentation.
    """

    def __init__(self, architecture: Architecture, config: Config, seed: int) -> None:
        tf.keras.backend.clear_session()  # a search would keep all of its networks otherwise
        tf.keras.utils.set_random_seed(seed)
        self.model = plain_network(architecture, config.image_size)
        loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
        # with a GPU Keras 3 would have XLA compile every child anew
        self.model.compile(tf.keras.optimizers.Adam(LEARNING_RATE), loss, jit_compile=False)
        self._config, self._seed = config, seed
        self._augment = Augment.of(config)

    def train(self, data: AttributeData, part: str, first_epoch: int, last_epoch: int) -> None:
        """Epochs first_epoch to last_epoch - 1 over the records of a part, train or final."""
        index = getattr(data, part)
        steps = math.ceil(len(index) / self._config.batch_size)
        plan = BatchPlan(index, self._config.batch_size, self._seed, data.weights.get(part))
        targets = tf.constant(data.targets)

        def inputs(step, batch):
            images = self._augment(batch["image"], tf.stack([tf.constant(self._seed, tf.int64), step]))
            return scale_images(images), tf.gather(targets, batch["index"])[:, None]

        first, last = steps * first_epoch, steps * last_epoch
        batches = training_batches(data.images, plan, first, last).enumerate(first).map(inputs)
        self.model.fit(batches, verbose=0, shuffle=False)  # they are drawn in their order
        self._recalibrate(data.images, index)

    def _recalibrate(self, images: np.ndarray, index: np.ndarray) -> None:
        """Fixes the batch norms to the statistics of some training images, as GALM's are: running averages lag behind
        in so few steps.
        """
        some = index[np.unique(np.linspace(0, len(index) - 1, self._config.calibration_images).astype(int))]
        norms = [layer for layer in _layers(self.model) if isinstance(layer, tf.keras.layers.BatchNormalization)]
        momentum = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        self.model(scale_images(tf.constant(np.asarray(images[np.sort(some)]))), training=True)
        for norm, before in zip(norms, momentum):
            norm.momentum = before

    def auc(self, data: AttributeData, index: np.ndarray) -> float:
        """AUC on the named records."""
        scores = [self.model.predict_on_batch(scale_images(b).numpy()) for b in image_batches(data.images, index)]
        return float(evaluation.auc_per_attribute(data.labels[index, None], np.concatenate(scores))[0])

    def save(self, path: str) -> None:
        """Weights in order, as an npz."""
        with open(path, "wb") as file:
            np.savez(file, *self.model.get_weights())

    def restore(self, path: str) -> None:
        with np.load(path) as stored:
            self.model.set_weights([stored[f"arr_{i}"] for i in range(len(stored.files))])
