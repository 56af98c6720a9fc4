"""A linear reading of the trunk beside every tower: ridge regression on Conv-3's map, averaged with the tower's margin.

Not in the paper. Towers are trained on few classes and learn them by heart; a reading in closed form on the trunk that
they share errs otherwise, and the mean of both orders images of unseen classes better than either
(docs/EXPERIMENTS.md). Its penalty is chosen on validation images by weights that have not seen them.
"""

from __future__ import annotations

import dataclasses
from typing import Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers
from galm_tf.ridge import Ridge
from galm_tf.search_space import READOUT_SIDE, TRUNK_CHANNELS


def features(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """What is read of a trunk's outputs: [B, D].

    Conv-3's map averaged to 4×4 positions, D = 1024; of a pretrained trunk what it gives beside its three maps
    (`pretrained`), where it gives that.
    """
    if len(outputs) > len(TRUNK_CHANNELS):
        return outputs[-1]
    small = layers.average_pool_to(outputs[-1], READOUT_SIDE)
    return tf.reshape(small, [-1, READOUT_SIDE**2 * int(small.shape[-1])])


def product(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """values [B, D] @ weights [D, N], as a 1×1 convolution: TensorFlow Lite stores its weights in int8 by a scale for
    each attribute, those of a matrix product by one for all, in which attributes of small weights drown.
    """
    return tf.nn.conv2d(values[:, None, None], weights[None, None], 1, "VALID")[:, 0, 0]


@dataclasses.dataclass(frozen=True)
class Readout:
    """margins = keep · the tower's + features @ weights + biases.

    Attributes:
      keep: float32 [N].
      weights: float32 [D, N].
      biases: float32 [N].
    """

    keep: np.ndarray
    weights: np.ndarray
    biases: np.ndarray

    def __call__(self, margins: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Margins [n, N] of towers and features [n, D] of the same images -> margins [n, N]."""
        return margins * self.keep + features @ self.weights + self.biases


def blend(ridge: Ridge, share: float, margins: np.ndarray, features: np.ndarray, own: np.ndarray) -> Readout:
    """The mean of a tower's margin and the reading, once both spread alike.

    The reading takes mean and deviation of the tower's margins on the same images, so that the blend still is a
    log-odds.

    Args:
      ridge: of N attributes.
      share: of the reading, in [0, 1].
      margins: [n, N] of the towers on some training images.
      features: [n, D] of the same.
      own: bool [n, N], which of them are of an attribute's own domain, by which it is scaled. Their labels may be
        unknown.
    """
    scores = ridge(features)
    (tower_mean, tower_spread), (mean, spread) = (_moments(values, own) for values in (margins, scores))
    says = spread > 1e-6  # a label that is known of no image, or of one kind only, is not read
    # a tower that says the same of all: the reading alone, in a scale of its own
    silent = (tower_spread <= 1e-6) & (share > 0)
    ratio = np.divide(np.where(silent, 1.0, share * tower_spread), spread, out=np.zeros_like(spread), where=says)
    keep = np.where(says, 1.0 - share, 1.0)
    biases = (1.0 - keep) * tower_mean + ratio * (ridge.biases - mean)
    return Readout(*(value.astype(np.float32) for value in (keep, ridge.weights * ratio, biases)))


def alone(ridge: Ridge, level: np.ndarray, features: np.ndarray, own: np.ndarray) -> Readout:
    """The reading without a tower: log-odds about the attributes' own, spread by 1.

    Args:
      ridge: of N attributes.
      level: [N], log-odds of their frequencies.
      features, own: as in `blend`.
    """
    mean, spread = _moments(ridge(features), own)
    ratio = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    values = np.zeros(len(level)), ridge.weights * ratio, level + ratio * (ridge.biases - mean)
    return Readout(*(value.astype(np.float32) for value in values))


def _moments(values: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over its own rows, over all where fewer than two are: [N] each."""
    rows = np.where(own.sum(axis=0) > 1, own, True)
    return np.mean(values, axis=0, where=rows, dtype=np.float64), np.std(values, axis=0, where=rows, dtype=np.float64)
