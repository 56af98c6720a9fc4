"""The least that a network must beat: ridge regression on 16×16 pixels (Hoerl & Kennard 1970)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from galm_tf import evaluate
from galm_tf.domains.splits import Split
from galm_tf.preprocess import resize_images

SIDE = 16
PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)


def pixel_features(images: np.ndarray) -> np.ndarray:
    """uint8 [n, S, S, 3] -> float32 [n, 768], antialiased to 16×16."""
    small = [resize_images(tf.constant(images[s : s + 512]), SIDE).numpy() for s in range(0, len(images), 512)]
    return np.concatenate(small).reshape(len(images), -1).astype(np.float32) / 255.0


def fit_and_score(features: np.ndarray, labels: np.ndarray, split: Split, with_validation: bool = True) -> np.ndarray:
    """Scores of the test images: float64 [t, N].

    The penalty is chosen by validation mAUC, then training and validation images
    are fitted together, as GALM's fine-tuning does, or training images alone.

    Args:
      features: [n, D].
      labels: [n, N] in {0, 1, NaN}.
      split: of the records.
      with_validation: fit validation images too in the end; not where labels shall be few (--train_positives).
    """
    validation = split.validation
    scores = [_ridge(features, labels, split.train, p)(features[validation]) for p in PENALTIES]
    values = [evaluate.mean_auc(evaluate.auc_per_attribute(labels[validation], s)) or 0.0 for s in scores]
    best = PENALTIES[int(np.argmax(values))]
    fitted = np.concatenate([split.train, validation]) if with_validation else split.train
    return _ridge(features, labels, fitted, best)(features[split.test])


def _ridge(features, labels, index, penalty):
    """A scorer fitted on the named records; attributes with the same known records share one fit."""
    scaler = StandardScaler().fit(features[index])
    x, y = scaler.transform(features[index]), labels[index]
    patterns, group = np.unique(np.isfinite(y), axis=1, return_inverse=True)
    models = [
        Ridge(alpha=penalty).fit(x[known], y[known][:, np.ravel(group) == g]) if known.any() else None
        for g, known in enumerate(patterns.T)
    ]

    def score(rows: np.ndarray) -> np.ndarray:
        result = np.zeros((len(rows), labels.shape[1]))
        for g, model in enumerate(models):
            if model is not None:
                result[:, np.ravel(group) == g] = model.predict(scaler.transform(rows)).reshape(len(rows), -1)
        return result

    return score
