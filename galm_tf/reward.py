"""The exact reward engine: every architecture of an attribute scored at once (DESIGN §3.8, §5.1).

While the controller trains, Omega is frozen: trunk features are computed once,
and the 2304 architectures of an attribute share prefixes. A convolution's
pre-activation is a sum of linear terms, so 2 convolutions and 2 skips give all
8 variants of Conv-4, 16 products and 3 skips all 128 of Conv-5, and the nested
widths of Fc-1 and Fc-2 are partial sums. Batch norms are recalibrated per
variant: their statistics come from calibration images that lead every batch.

Many images go in parts, each led by the calibration images, so that what is
held at once beside the trunk's maps does not grow with them.

Half of the time is matrix products. Around them, images are the last axis from
Conv-4's output on, so that what joins, pools and normalises the variants is
XLA's loops over contiguous values, and no product needs a transpose. Variants
of Conv-4 are scored by several threads.

The engine reads the weights of the supernet's own layers; a test holds it to
the Keras functional model, architecture by architecture.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers, search_space
from galm_tf.hardware import usable_cores, xla_compiles
from galm_tf.metrics import both_labels, reward_columns
from galm_tf.quiet_start import start_xla
from galm_tf.supernet import Supernet, margins

NUM_CONV4, NUM_CONV5, NUM_HEADS = 8, 16, 12  # variants of each stage; 8 * 16 * 12 = 1536
_BYTES_PER_VALUE = 4
_LEAST_PART = 2  # times the calibration images, which every part computes anew
# of Conv-3's map that the variants of Conv-4, their skips and one variant of Conv-5 hold for an image
_VALUES_PER_POSITION = 800
_XLA = xla_compiles()


@dataclasses.dataclass(frozen=True)
class ScoringImages:
    """Trunk features of the images that rewards are computed from.

    Attributes:
      maps: three float32 arrays [m, h, w, C]: calibration images first, then the scored ones.
      num_calibration: how many lead; 0 takes statistics from the scored images.
      labels: float32 [m - num_calibration, N], NaN where a label is unknown or
        does not count for that attribute.
      halves: int [m - num_calibration] in {0, 1}: the cross-fitting half of each scored image.
    """

    maps: tuple[np.ndarray, ...]
    num_calibration: int
    labels: np.ndarray
    halves: np.ndarray

    @property
    def statistics_images(self) -> int:
        return self.num_calibration or len(self.labels)


@dataclasses.dataclass(frozen=True)
class RewardTable:
    """Rewards of all architectures of some attributes; NaN rows could not be judged.

    Attributes:
      full: float32 [A, 2304], on all scored images.
      halves: two float32 [A, 2304], on each cross-fitting half.
    """

    full: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """By the names under which a run stores them."""
        return {"full": self.full, "half_a": self.halves[0], "half_b": self.halves[1]}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RewardTable":
        return cls(arrays["full"], (arrays["half_a"], arrays["half_b"]))

    @property
    def rewarded(self) -> np.ndarray:
        """bool [A]: attributes with a reward."""
        return np.isfinite(self.full[:, 0])

    @property
    def crossfitted(self) -> np.ndarray:
        """bool [A]: attributes that both halves can judge."""
        return self.rewarded & np.isfinite(self.halves[0][:, 0]) & np.isfinite(self.halves[1][:, 0])


class RewardEngine:
    """Scores all architectures of one attribute after another on fixed images.

    Args:
      supernet: the network; its weights are read anew at each call.
      images: features and labels.
      reward: auc, accuracy or balanced_accuracy.
      memory_mib: bound on what a part of the images holds at once, down to twice as many as calibrate, and on what the
        threads' heads do, down to one variant of Conv-5 each. Scores do not depend on it: images do not interact.
        Without calibration images all are one part, whose statistics are of all.
      offsets: float32 [N], decision margins for the accuracies (log positive weights).
    """

    def __init__(
        self,
        supernet: Supernet,
        images: ScoringImages,
        reward: str,
        memory_mib: int,
        offsets: Optional[np.ndarray] = None,
    ) -> None:
        if _XLA:
            start_xla()
        self._supernet, self._images, self._reward = supernet, images, reward
        self._offsets = np.zeros(supernet.num_attributes) if offsets is None else offsets
        part = {layer.name: layer for layer in supernet.towers.layers}
        self._layer4, self._layer5, self._head = part["conv4"], part["conv5"], part["head"]
        self._norm4, self._norm5 = part["bn4"], part["bn5"]
        self._skips = part["skips4"], part["skips5"]
        most = memory_mib * 2**20 // (self._layer4.side**2 * _VALUES_PER_POSITION * _BYTES_PER_VALUE)
        leading, count = images.num_calibration, len(images.labels)
        self._rows = slices(count, max(most - leading, _LEAST_PART * leading) if leading else count)
        # several are made anew for each attribute
        self._only = self._part(self._rows[0]) if len(self._rows) == 1 else None
        columns = 32 * 1024 * memory_mib // (search_space.FC_WIDTHS[-1] * _BYTES_PER_VALUE * 4)
        self._threads = min(NUM_CONV4, usable_cores())
        part_images = self._rows[0].stop
        self._block_variants = int(np.clip(columns // (part_images * self._threads), 1, NUM_CONV5))

    def _part(self, rows: slice) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Of the calibration images and some of the scored ones: Conv-3's map, and what the skips of Conv-4 and of
        Conv-5 read, images last.
        """
        leading = self._images.num_calibration
        maps = [tf.constant(np.concatenate([m[:leading], m[leading:][rows]])) for m in self._images.maps]
        return (maps[2], *(_images_last(skips(maps[:count])) for skips, count in zip(self._skips, (2, 3))))

    def scores(self, attribute_id: int) -> np.ndarray:
        """Margins of the 1536 distinct architectures on the scored images, float32 [8, 16, 12, n].

        Heads: Fc-1 widths read directly (3), then (Fc-1 width, Fc-2 width) pairs (9).
        """
        return np.stack(self._each_conv4(attribute_id, lambda scores: scores))

    def _each_conv4(self, attribute_id: int, function: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        """`function` of the scores [16, 12, n] of each variant of Conv-4, several at once: NumPy's sorts and TensorFlow
        both let go of the lock.
        """
        scores = np.empty([NUM_CONV4, NUM_CONV5, NUM_HEADS, len(self._images.labels)], np.float32)
        with ThreadPoolExecutor(self._threads) as pool:
            for rows in self._rows:
                conv4, rest = self._prefix(tf.constant([attribute_id], tf.int32), *(self._only or self._part(rows)))
                if not tf.config.functions_run_eagerly():
                    # threads that all wait for it pass for retracing
                    self._scores.get_concrete_function(conv4, tf.constant(0), rest)
                # once the scores of all parts are there
                judge = function if rows is self._rows[-1] else lambda scores: None
                found = list(
                    pool.map(functools.partial(self._fill, scores, rows, conv4, rest, judge), range(NUM_CONV4))
                )
        return found

    def _fill(
        self,
        scores: np.ndarray,
        rows: slice,
        conv4: tf.Tensor,
        rest,
        function: Callable[[np.ndarray], Any],
        variant: int,
    ) -> Any:
        """Puts a part's scores of a variant of Conv-4 into those of all images, float32 [8, 16, 12, n]; returns
        `function` of the variant's.
        """
        scores[variant][..., rows] = self._scores(conv4, tf.constant(variant), rest).numpy()
        return function(scores[variant])

    def rewards(self, attribute_id: int, halves: bool = True) -> Optional[np.ndarray]:
        """float32 [3, 2304]: rewards on all scored images and on both halves; None when not judged.

        A half that holds one label only gives NaN. Without `halves` the shape is [1, 2304].
        """
        labels = self._images.labels[:, attribute_id]
        known = np.isfinite(labels)
        if not both_labels(labels[known]):
            return None
        subsets = [known] + [known & (self._images.halves == half) for half in (0, 1) if halves]

        def judge(scores: np.ndarray) -> np.ndarray:
            scores = scores.reshape(-1, len(labels))
            return np.stack([self._reward_columns(labels[s], scores[:, s], attribute_id) for s in subsets])

        columns = np.concatenate(self._each_conv4(attribute_id, judge), axis=1)
        return np.stack([expand_heads(c) for c in columns]).astype(np.float32)

    def table(self, attribute_ids: Sequence[int], each: Callable[[Iterable[int]], Iterable[int]] = iter) -> RewardTable:
        """Rewards of the named attributes; `each` may wrap the loop with a progress line."""
        result = np.full([3, len(attribute_ids), search_space.NUM_ARCHITECTURES], np.nan, np.float32)
        for row in each(range(len(attribute_ids))):
            rewards = self.rewards(int(attribute_ids[row]))
            if rewards is not None:
                result[:, row] = rewards
        return RewardTable(result[0], (result[1], result[2]))

    def _reward_columns(self, labels: np.ndarray, scores: np.ndarray, attribute_id: int) -> np.ndarray:
        if not both_labels(labels):
            return np.full(len(scores), np.nan)
        return reward_columns(self._reward, labels, scores, float(self._offsets[attribute_id]))

    @tf.function(autograph=False)
    def _prefix(self, ids: tf.Tensor, features: tf.Tensor, sources4: tf.Tensor, sources5: tf.Tensor):
        """What scoring the variants of Conv-4 shares, of a part: their outputs [D, 8, m] and the weights after them,
        skips summed.
        """
        row5, head = (_row(layer, ids) for layer in (self._layer5, self._head))
        kernels, side = [row5[f"kernel{k}"] for k in search_space.KERNELS], self._layer5.side
        if layers.dense_pays(side):
            kernels = tf.stack([layers.position_matrix(kernel[None], side)[0] for kernel in kernels])
        skips5 = _skip_sums(sources5, row5, self._layer5.sources)
        return self._conv4(ids, features, sources4), (kernels, skips5, _row(self._norm5, ids), _head_matrices(head))

    def _conv4(self, ids: tf.Tensor, features: tf.Tensor, sources: tf.Tensor) -> tf.Tensor:
        """All 8 variants (skip 1, skip 2, kernel) of Conv-4 after batch norm: [side² / 4 * 32, 8, m]."""
        row = _row(self._layer4, ids)
        linear = tf.stack([layers.convolution(features, row[f"kernel{k}"]) for k in search_space.KERNELS])
        linear = tf.transpose(tf.reshape(linear, [2, features.shape[0], -1]), [0, 2, 1])
        skips = _skip_sums(sources, row, self._layer4.sources)
        return _join(linear, skips, _row(self._norm4, ids), self._layer4.side, self._images.statistics_images)

    @tf.function(autograph=False)
    def _scores(self, conv4: tf.Tensor, variant: tf.Tensor, rest) -> tf.Tensor:
        """Margins of all that follows one variant of Conv-4, on the scored images: [16, 12, n]."""
        kernels, skips, norm, head = rest
        linear = self._conv5(conv4[:, variant], kernels)
        x = _join(linear, skips, norm, self._layer5.side, self._images.statistics_images, self._images.num_calibration)
        results = []
        for start in range(0, NUM_CONV5, self._block_variants):
            block = x[:, start : start + self._block_variants]
            margins_ = _head_margins(tf.reshape(block, [x.shape[0], -1]), head)
            results.append(tf.reshape(margins_, [NUM_HEADS, -1, x.shape[-1]]))
        return tf.transpose(tf.concat(results, 1), [1, 0, 2])

    def _conv5(self, x: tf.Tensor, kernels) -> tf.Tensor:
        """Conv-5 by either kernel size, without skips: [side² * C, m] -> [2, side² * F, m]; `kernels` as `_prefix`
        gives them.
        """
        side = self._layer5.side
        if layers.dense_pays(side):
            return tf.matmul(kernels, x, transpose_a=True)
        maps = tf.reshape(tf.transpose(x), [-1, side, side, self._layer5.channels])
        parts = [
            tf.reshape(layers.convolution(maps, kernel), [-1, side**2 * self._layer5.filters]) for kernel in kernels
        ]
        return tf.transpose(tf.stack(parts), [0, 2, 1])


def slices(count: int, most: int) -> list[slice]:
    """Of so many rows, as few as have `most` each at most; all of a length, so that neighbours may share some."""
    number = max(1, math.ceil(count / max(1, most)))
    length = math.ceil(count / number)
    return [slice(int(start), int(start) + length) for start in np.linspace(0, count - length, number).round()]


def _row(layer: layers.SeededLayer, ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """A layer's weights of one attribute."""
    return {name: layers.rows(v, ids)[0] for name, v in layer.parameters.items()}


def _images_last(maps: tf.Tensor) -> tf.Tensor:
    """[m, h, h, C] -> [h², C, m]."""
    return tf.reshape(tf.transpose(maps, [1, 2, 3, 0]), [-1, maps.shape[3], maps.shape[0]])


def _skip_sums(sources: tf.Tensor, row: Mapping[str, tf.Tensor], channels: Sequence[int]) -> tf.Tensor:
    """The bias and every subset of the projected skips, first skip slowest: [positions, C, m] -> [2^skips, positions,
    F, m].
    """
    pairs = zip(tf.split(sources, channels, 1), tf.split(row["skip"], channels, 0))
    parts = [tf.matmul(weight[None], source, transpose_a=True) for source, weight in pairs]
    sums = [tf.zeros_like(parts[0]) + row["bias"][:, None]]
    for part in parts:
        sums = [total for s in sums for total in (s, s + part)]
    return tf.stack(sums)


@tf.function(jit_compile=_XLA, autograph=False)
def _join(
    linear: tf.Tensor, skips: tf.Tensor, norm: Mapping[str, tf.Tensor], side: int, statistics: int, first: int = 0
) -> tf.Tensor:
    """ReLU, max-pool and batch norm of every sum of a convolution and skips.

    Args:
      linear: [2, side² * F, m], by kernel size; rows in order (y, x, filter).
      skips: [V, side², F, m].
      norm: gamma and beta of the batch norm.
      statistics: so many leading images give its mean and variance.
      first: the first image that is wanted.

    Returns:
      [side² / 4 * F, V * 2, m - first].
    """
    half, filters, images = side // 2, skips.shape[2], skips.shape[3]
    linear, skips = (tf.reshape(v, [-1, half, 2, half, 2, filters, images]) for v in (linear, skips))
    places = [linear[None, :, :, y, :, x] + skips[:, None, :, y, :, x] for y in (0, 1) for x in (0, 1)]
    pooled = tf.nn.relu(functools.reduce(tf.maximum, places))  # [V, 2, half, half, F, m]
    mean, variance = tf.nn.moments(pooled[..., :statistics], [2, 3, 5], keepdims=True)
    scale = norm["gamma"][:, None] * tf.math.rsqrt(variance + layers.BN_EPSILON)
    normed = pooled[..., first:] * scale + (norm["beta"][:, None] - mean * scale)
    return tf.reshape(tf.transpose(normed, [2, 3, 4, 0, 1, 5]), [half**2 * filters, -1, images - first])


def _head_matrices(weights: dict[str, tf.Tensor]):
    """The head for columns of images, biases within: a first row of ones runs through Fc-1 and ends in Fc-2.

    Returns Fc-1 [257, 1 + D], its three readings [3, 257], Fc-2's blocks of
    columns, one per width of Fc-1, and their readings with Fc-3's bias apart.
    """
    fc1 = tf.concat([weights["fc1_bias"][None], weights["fc1"]], 0)
    fc1 = tf.concat([tf.one_hot([0], fc1.shape[0]), tf.transpose(fc1)], 0)
    fc2 = tf.concat([weights["fc2_bias"][None], weights["fc2"]], 0)
    stops = np.array([0, *(1 + width for width in search_space.FC_WIDTHS)])
    blocks = tf.split(tf.transpose(fc2), np.diff(stops), 1)
    bias = margins(weights["fc3_bias"])
    direct = tf.transpose(tf.concat([bias * tf.ones([1, 3]), _nested_columns(weights["fc3_from_fc1"])], 0))
    return fc1, direct, blocks, tf.transpose(_nested_columns(weights["fc3_from_fc2"])), bias


def _head_margins(x: tf.Tensor, matrices) -> tf.Tensor:
    """[D, columns] -> margins [12, columns]: 3 Fc-1 widths, then 3 × 3 (Fc-1, Fc-2) widths."""
    fc1, direct, blocks, through, bias = matrices
    hidden1 = tf.nn.relu(tf.matmul(fc1, tf.pad(x, [[1, 0], [0, 0]], constant_values=1.0)))
    results, pre, start = [tf.matmul(direct, hidden1)], None, 0
    for block in blocks:
        stop = start + block.shape[1]
        part = tf.matmul(block, hidden1[start:stop])
        pre = part if pre is None else pre + part
        results.append(tf.matmul(through, tf.nn.relu(pre)) + bias)
        start = stop
    return tf.concat(results, 0)


def _nested_columns(weights: tf.Tensor) -> tf.Tensor:
    """Fc-3's [256, 2] as margin weights of the three nested widths: [256, 3]."""
    inside = np.arange(search_space.FC_WIDTHS[-1])[:, None] < np.array(search_space.FC_WIDTHS)
    return margins(weights)[:, None] * tf.constant(inside.astype(np.float32))


def expand_heads(values: np.ndarray) -> np.ndarray:
    """Values of the 1536 distinct architectures -> [2304] in `search_space.all_indices` order."""
    values = np.asarray(values).reshape(NUM_CONV4 * NUM_CONV5, NUM_HEADS)
    direct = np.broadcast_to(values[:, :3, None], (len(values), 3, 3))
    through = values[:, 3:].reshape(-1, 3, 3)
    return np.stack([direct, through], axis=-1).reshape(-1)
