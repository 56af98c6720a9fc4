"""Batches by index: which images a step sees is a function of (seed, step) alone.

A resume needs no iterator state. Pixels come from the memory-mapped cache.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import tensorflow as tf
from scipy.special import logit

from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import tests_unseen_classes
from galm_tf.draws import Stream, generator

_UNSEEN_CLASS_BALANCE = 1.0  # what --class_balance=-1 means where the tested classes are unseen
# of a record by its class, times the mean, where it is cut: the image of a class of one would be seen over and over
_MOST_WEIGHT = 10.0


class BatchPlan:
    """The images of every step.

    Each epoch is a fresh permutation, cut into full batches that run on into the
    next epoch. With weights it holds each record as often as its weight says,
    rounded up or down at random (systematic sampling), and as many in all.

    Args:
      index: int64 [m], the records to draw from.
      batch_size: images per step.
      seed: of the run.
      weights: float64 [m], relative frequency of each record, or None.
    """

    def __init__(self, index: np.ndarray, batch_size: int, seed: int, weights: Optional[np.ndarray] = None) -> None:
        assert len(index), "no images to draw from"
        self._index, self._batch_size, self._seed = np.asarray(index, np.int64), batch_size, seed
        self._weights = weights
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def at(self, step: int) -> np.ndarray:
        """Records of one step: int64 [batch_size]."""
        position, parts, missing = step * self._batch_size, [], self._batch_size
        while missing:
            epoch, offset = divmod(position, len(self._index))
            part = self._permutation(epoch)[offset : offset + missing]
            parts.append(part)
            position, missing = position + len(part), missing - len(part)
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            rng = generator(self._seed, Stream.BATCHES, epoch)
            drawn = self._index if self._weights is None else sample(self._index, len(self._index), self._weights, rng)
            self._order = rng.permutation(drawn)
        return self._order


def sample(index: np.ndarray, count: int, weights: Optional[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """So many of some records int64 [m], each as often as its weight says, rounded up or down at random (systematic
    sampling).

    weights: float64 [m], or None for none twice, whose `count` is m at most.
    """
    if weights is None:
        return rng.choice(index, count, replace=False)
    order = rng.permutation(len(index))
    ends = np.floor(np.cumsum(weights[order] * (count / np.sum(weights))) + rng.random()).astype(int)
    ends[-1] = count  # whatever the sum was rounded to
    return np.repeat(index[order], np.diff(ends, prepend=0))


def training_plan(index: np.ndarray, domain: Domain, config: Config) -> BatchPlan:
    """The plan of records int64 [m] that the settings ask for."""
    return BatchPlan(index, config.batch_size, config.seed, drawing_weights(index, domain, config))


def drawing_weights(index: np.ndarray, domain: Domain, config: Config) -> Optional[np.ndarray]:
    """How often each of some records is drawn, by its class and its labels as the settings say: float64 [m]; None where
    all alike.
    """
    by_class = class_weights(index, domain, config)
    if config.imbalance != "balanced":
        return by_class
    by_label = balanced_record_weights(domain.labels[index])
    return by_label if by_class is None else by_class * by_label


def class_weights(index: np.ndarray, domain: Domain, config: Config) -> Optional[np.ndarray]:
    """How much each of some records counts, so that classes of few records count as much as those of many, or nearly.

    Where test classes are unseen, one class is one witness of what an attribute looks like, however many its images. Of
    joined domains each is asked for itself.

    Args:
      index: int64 [m].
      config: class_balance; weights are the class's number of records among them to the power of minus that, cut at
        `_MOST_WEIGHT` times their mean.

    Returns:
      float64 [m], of mean 1 in every domain, whose share of all stays; None where all are alike.
    """
    classes, domains = domain.class_ids[index], np.unique(domain.image_domains[index], return_inverse=True)[1]
    balance = (
        np.where(_tested_unseen(index, domain), _UNSEEN_CLASS_BALANCE, 0.0)
        if config.class_balance < 0
        else float(config.class_balance)
    )
    weights = _of_mean_one(np.bincount(classes)[classes] ** -balance, domains)
    return None if np.ptp(weights) < 1e-9 else weights


def _tested_unseen(index: np.ndarray, domain: Domain) -> np.ndarray:
    """Whether the domains of these records [m] are tested on other classes than theirs: bool [m]."""
    groups, of_record = np.unique(domain.image_domains[index], return_inverse=True)
    return np.array(
        [tests_unseen_classes(domain, domain.class_ids[index[of_record == i]], group) for i, group in enumerate(groups)]
    )[of_record]


def _of_mean_one(weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights [m] times a factor for each group, so that its mean is 1; what would be more than `_MOST_WEIGHT` is that,
    and the others share the rest.
    """
    cut, count = np.zeros(len(weights), bool), np.bincount(groups)
    while True:
        left = count - _MOST_WEIGHT * np.bincount(groups, cut)
        scaled = np.where(cut, _MOST_WEIGHT, weights * (left / np.bincount(groups, weights * ~cut))[groups])
        if not (scaled > _MOST_WEIGHT).any():
            return scaled
        cut |= scaled > _MOST_WEIGHT


def training_batches(images: np.ndarray, plan: BatchPlan, first_step: int, last_step: int) -> tf.data.Dataset:
    """Batches of steps first_step to last_step - 1: {"index": int64 [B], "image": [B, …] as they are stored}."""
    dtype, shape = tf.as_dtype(images.dtype), [None, *images.shape[1:]]

    def load(step):
        index = plan.at(int(step))
        return index, np.asarray(images[index])

    def to_tensors(step):
        index, pixels = tf.numpy_function(load, [step], (tf.int64, dtype))
        return {"index": tf.ensure_shape(index, [None]), "image": tf.ensure_shape(pixels, shape)}

    # There is nothing to tune, and an iterator's end would wait for the tuner's next period, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.range(first_step, last_step).map(to_tensors).prefetch(4).with_options(options)


def labelled(index: np.ndarray, domain: Domain) -> np.ndarray:
    """Those of records int64 [m] that have a label: the others teach nothing."""
    return index[np.isfinite(domain.labels[index]).any(axis=1)]


def positive_weights(labels: np.ndarray, maximum: float) -> np.ndarray:
    """Weight of a positive that balances each attribute: negatives / positives, within [1 / maximum, maximum].

    Args:
      labels: [n, N] in {0, 1, NaN}; unknown ones do not count.

    Returns:
      float32 [N].
    """
    positives = np.nansum(labels, axis=0)
    negatives = np.isfinite(labels).sum(axis=0) - positives
    return np.clip(negatives / np.maximum(positives, 1), 1 / maximum, maximum).astype(np.float32)


def margin_offsets(
    index: np.ndarray, domain: Domain, config: Config, weighed: Optional[np.ndarray] = None
) -> np.ndarray:
    """What training adds to an attribute's log-odds by what the settings do about rare labels, and is taken off again:
    float32 [N].

    What counting classes alike does to them stays: it is how often the attribute is met where classes are unseen, of
    which none is known to be more frequent.

    Args:
      index: int64 [m], the training images.
      domain: what is learned of them, and their classes.
      config: imbalance, max_positive_weight, class_balance.
      weighed: int64, the images whose labels the positives' weight in the loss is of; `index` when left out.
    """
    drawn = 0.0
    if config.imbalance == "balanced":
        targets = domain.targets[index]
        drawn = log_odds(targets, drawing_weights(index, domain, config)) - log_odds(
            targets, class_weights(index, domain, config)
        )
    return (drawn + np.log(loss_weights(index if weighed is None else weighed, domain, config))).astype(np.float32)


def loss_weights(index: np.ndarray, domain: Domain, config: Config) -> np.ndarray:
    """What a positive of each attribute counts in the loss of some training images, int64 [m], as the settings say:
    float32 [N].
    """
    if config.imbalance == "positive_weight":
        return positive_weights(domain.labels[index], config.max_positive_weight)
    return np.ones(len(domain.attributes), np.float32)


def log_odds(targets: np.ndarray, weights: Optional[np.ndarray] = None) -> np.ndarray:
    """Of yes, by attribute, half a record of either label added: float64 [N].

    Args:
      targets: [n, N] in [0, 1], NaN where unknown.
      weights: of the records, [n]; all alike when left out.
    """
    weights = np.ones(len(targets)) if weights is None else weights
    known, positives = weights @ np.isfinite(targets), weights @ np.nan_to_num(targets)
    return logit((positives + 0.5) / (known + 1.0))


def balanced_record_weights(labels: np.ndarray) -> np.ndarray:
    """How often to draw each record so that rare labels come more often: float64 [n], mean 1.

    A record counts the mean over its known labels of 1 / share of that label,
    so that images which carry rare attributes are drawn more; a record without
    any known label counts 1, the least that a labelled one can.
    """
    known = np.isfinite(labels)
    prevalence = np.clip(np.nansum(labels, axis=0) / np.maximum(known.sum(axis=0), 1), 1e-3, 1 - 1e-3)
    rarity = np.where(labels > 0.5, 1 / prevalence, 1 / (1 - prevalence))
    counts = known.sum(axis=1)
    weights = np.where(counts, np.where(known, rarity, 0.0).sum(axis=1) / np.maximum(counts, 1), 1.0)
    return weights / weights.mean()
