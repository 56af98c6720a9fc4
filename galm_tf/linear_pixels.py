"""The least that a network must beat: ridge regression on 16×16 pixels (Hoerl & Kennard 1970)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Optional

import numpy as np

from galm_tf import evaluation, ridge
from galm_tf.config import Config
from galm_tf.data import class_weights
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.preprocess import resize_images
from galm_tf.ridge import PENALTIES
from galm_tf.scoring import in_batches
from galm_tf.validation import validation_labels

SIDE = 16
# of records int64 [m]: how much each counts, [m] of mean 1; None where all alike
Weights = Callable[[np.ndarray], Optional[np.ndarray]]


def pixel_features(images: np.ndarray) -> np.ndarray:
    """uint8 [n, S, S, 3] -> float32 [n, 768], antialiased to 16×16."""
    small = in_batches(lambda batch: resize_images(batch, SIDE), images, size=512)
    return small.reshape(len(images), -1).astype(np.float32) / 255.0


def like_galm(domain: Domain, config: Config) -> tuple[Weights, bool]:
    """How `fit_and_score` weighs and chooses its rows by a run's settings: its last two arguments."""
    return functools.partial(class_weights, domain=domain, config=config), config.finetunes_on_validation


def test_aucs(
    images: np.ndarray, labels: np.ndarray, targets: np.ndarray, split: Split, domain: Domain, config: Config
) -> np.ndarray:
    """Test AUC of every attribute by the 16×16 pixels of uint8 images [n, S, S, 3] of a domain, its rows as a run's
    settings have them: float64 [N]; see `fit_and_score`.
    """
    scores = fit_and_score(pixel_features(images), labels, targets, split, *like_galm(domain, config))
    return evaluation.auc_per_attribute(labels[split.test], scores)


def fit_and_score(
    features: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    split: Split,
    weights: Weights,
    with_validation: bool = True,
) -> np.ndarray:
    """Scores of the test images: float64 [t, N].

    The penalty is chosen by validation mAUC, each attribute by the images that may
    judge it, as GALM chooses (`validation_labels`); where none may judge any, it is
    the middle one (`ridge.choose`). Then training and validation images are fitted
    together, as GALM's fine-tuning does, or training images alone.

    Args:
      features: [n, D].
      labels: [n, N] in {0, 1, NaN}, which choose.
      targets: [n, N] in [0, 1], NaN where labels are, which are learned.
      split: of the records; its `judged_by` is that of the N attributes.
      weights: how much records count.
      with_validation: fit validation images too in the end, where GALM's last training sees them.
    """
    validation = split.validation
    fits = ridge.fit(features[split.train], targets[split.train], PENALTIES, weights(split.train))
    best = ridge.choose(fits, features[validation], validation_labels(labels, split, validation))
    if not with_validation:
        return fits[best](features[split.test])
    fitted = np.concatenate([split.train, validation])
    (final,) = ridge.fit(features[fitted], targets[fitted], PENALTIES[best : best + 1], weights(fitted))
    return final(features[split.test])
