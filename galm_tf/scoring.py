"""Scores of chosen architectures on fixed images, with recalibrated batch norms (DESIGN §3.8)."""

from __future__ import annotations

from typing import Callable, Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import readout, search_space
from galm_tf.gates import gates_from_indices
from galm_tf.reward import ScoringImages, slices
from galm_tf.supernet import Supernet, margins
from galm_tf.tracing import traced, untraced

_FEW = 8  # attributes whose scores cost less than tracing them
_BATCH_IMAGES = 256
_BLOCK_BYTES = 128 * 2**20  # of Conv-4's output, beside which some ten times as much is held at once
_PART_BYTES = 2**30  # of maps, which each part has a copy of


def image_batches(
    images: np.ndarray, index: Optional[np.ndarray] = None, size: int = _BATCH_IMAGES
) -> Iterator[np.ndarray]:
    """uint8 batches of the named images, of all when left out, in order."""
    index = np.arange(len(images)) if index is None else index
    for start in range(0, len(index), size):
        yield np.asarray(images[index[start : start + size]])


def in_batches(
    call: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    index: Optional[np.ndarray] = None,
    size: int = _BATCH_IMAGES,
) -> np.ndarray:
    """What a function gives of `image_batches`, an array of a row per image."""
    (array,) = _in_batches(lambda batch: [call(batch)], images, index, size)
    return array


def _in_batches(
    call: Callable[[tf.Tensor], Sequence[tf.Tensor]], images: np.ndarray, index: Optional[np.ndarray], size: int
) -> tuple[np.ndarray, ...]:
    """The same of a function that gives several; nothing of no image.

    Each array is made beforehand: its parts beside it would take as much memory again.
    """
    done, count, arrays = 0, len(images) if index is None else len(index), []
    for batch in image_batches(images, index, size):
        parts = [part.numpy() for part in call(tf.constant(batch))]
        arrays = arrays or [np.empty([count, *part.shape[1:]], part.dtype) for part in parts]
        for array, part in zip(arrays, parts):
            array[done : done + len(part)] = part
        done += len(batch)
    return tuple(arrays)


class Scoring:
    """Features and scores of one supernet, under its present weights.

    Args:
      supernet: the network.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._calibrate = traced(lambda x: supernet.trunk(supernet.scale(x), training=True))
        self._features = traced(lambda x: supernet.trunk(supernet.scale(x), training=False))
        self._margins = traced(self._tower_margins)

    def calibrate_trunk(self, images: np.ndarray) -> None:
        """Fixes the trunk's batch norms to the statistics of uint8 images [m, S, S, 3]."""
        self._calibrate(tf.constant(images))

    def trunk_features(
        self, images: np.ndarray, index: Optional[np.ndarray] = None, size: int = _BATCH_IMAGES
    ) -> tuple[np.ndarray, ...]:
        """The three feature maps of uint8 `image_batches`, with fixed batch norms: float32 [n, h, w, C] each."""
        return _in_batches(self._features, images, index, size)

    def readout_features(self, images: np.ndarray, index: Optional[np.ndarray] = None) -> np.ndarray:
        """What `readout` reads of uint8 `image_batches`, with fixed batch norms: float32 [n, D]."""
        return in_batches(lambda batch: readout.features(self._features(batch)), images, index)

    def score_chosen(
        self, images: ScoringImages, attribute_ids: Sequence[int], numbers: Sequence[int], calibration: bool = False
    ) -> np.ndarray:
        """Margins of one architecture per attribute on the scored images: float32 [n, len(attribute_ids)].

        calibration: on those of calibration too, which come first.
        """
        leading, count = images.num_calibration, len(images.labels)
        # else their statistics are of all
        most = max(_PART_BYTES // sum(m[0].nbytes for m in images.maps), leading) if leading else count
        scores = np.empty([leading + count, len(attribute_ids)], np.float32)
        indices = search_space.all_indices()[np.asarray(numbers)]
        with untraced(len(attribute_ids) <= _FEW):
            for rows in slices(count, most):
                maps = [np.concatenate([m[:leading], m[leading:][rows]]) for m in images.maps]
                found = self._score(maps, np.asarray(attribute_ids, np.int32), indices, images.statistics_images)
                scores[:leading], scores[leading:][rows] = found[:leading], found[leading:]
        return scores[0 if calibration else leading :]

    def _score(self, maps: Sequence[np.ndarray], ids: np.ndarray, indices: np.ndarray, statistics: int) -> np.ndarray:
        """Margins [m, A] on maps [m, h, w, C] whose first images give the statistics, a block of attributes at a
        time.
        """
        side, count = maps[2].shape[1], len(maps[2])
        block = max(1, _BLOCK_BYTES // (4 * count * side * side * search_space.CONV4_CHANNELS))
        maps = [tf.constant(m) for m in maps]
        ids = tf.constant(ids)
        indices = tf.constant(indices)
        statistics = tf.constant(statistics, tf.int32)
        scores = np.empty([count, len(ids)], np.float32)
        for part in slices(len(ids), block):  # all of a length, and so of one trace
            scores[:, part] = self._margins(maps, ids[part], indices[part], statistics).numpy()
        return scores

    def _tower_margins(self, maps, ids, indices, statistics):
        return margins(self._supernet.tower_logits(maps, ids, gates_from_indices(indices), statistics))
