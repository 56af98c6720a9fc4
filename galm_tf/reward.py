"""The exact reward engine: every architecture of an attribute scored at once (DESIGN §3.8, §5.1).

While the controller trains, Omega is frozen: trunk features are computed once,
and the 2304 architectures of an attribute share prefixes. A convolution's
pre-activation is a sum of linear terms, so 2 convolutions and 2 skips give all
8 variants of Conv-4, 16 products and 3 skips all 128 of Conv-5, and the nested
widths of Fc-1 and Fc-2 are partial sums. Batch norms are recalibrated per
variant: their statistics come from calibration images that lead every batch.

The engine reads the weights of the supernet's own layers; a test holds it to
the Keras functional model, architecture by architecture.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Iterable, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers, search_space
from galm_tf.gates import gates_from_indices
from galm_tf.metrics import reward_columns
from galm_tf.supernet import Supernet, margins

NUM_CONV4, NUM_CONV5, NUM_HEADS = 8, 16, 12  # variants of each stage; 8 * 16 * 12 = 1536
_BYTES_PER_VALUE = 4


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
      memory_mib: bound on the engine's largest intermediate value. Scores do
        not depend on it: blocks are of rows that do not interact.
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
        self._supernet, self._images, self._reward = supernet, images, reward
        self._offsets = np.zeros(supernet.num_attributes) if offsets is None else offsets
        self._features = tf.constant(images.maps[2])
        part = {layer.name: layer for layer in supernet.towers.layers}
        self._part = part
        self._skips4 = part["skips4"]([tf.constant(m) for m in images.maps[:2]])
        self._skips5 = part["skips5"]([tf.constant(m) for m in images.maps])
        self._first = images.num_calibration
        rows = 32 * 1024 * memory_mib // (search_space.FC_WIDTHS[-1] * _BYTES_PER_VALUE * 4)
        self._block_rows = int(np.clip(rows, 64, 4096))

    def scores(self, attribute_id: int) -> np.ndarray:
        """Margins of the 1536 distinct architectures on the scored images, float32 [8, 16, 12, n].

        Heads: Fc-1 widths read directly (3), then (Fc-1 width, Fc-2 width) pairs (9).
        """
        return self._scores(tf.constant(attribute_id, tf.int32)).numpy()

    def rewards(self, attribute_id: int, halves: bool = True) -> Optional[np.ndarray]:
        """float32 [3, 2304]: rewards on all scored images and on both halves; None when not judged.

        A half that holds one label only gives NaN. Without `halves` the shape is [1, 2304].
        """
        labels = self._images.labels[:, attribute_id]
        known = np.isfinite(labels)
        if not _both_labels(labels[known]):
            return None
        scores = self.scores(attribute_id).reshape(-1, len(labels))
        subsets = [known] + [known & (self._images.halves == half) for half in (0, 1) if halves]
        columns = [self._reward_columns(labels[s], scores[:, s], attribute_id) for s in subsets]
        return np.stack([expand_heads(c) for c in columns]).astype(np.float32)

    def table(
        self, attribute_ids: Sequence[int], each: Callable[[Iterable[int]], Iterable[int]] = iter
    ) -> RewardTable:
        """Rewards of the named attributes; `each` may wrap the loop with a progress line."""
        result = np.full([3, len(attribute_ids), search_space.NUM_ARCHITECTURES], np.nan, np.float32)
        for row in each(range(len(attribute_ids))):
            rewards = self.rewards(int(attribute_ids[row]))
            if rewards is not None:
                result[:, row] = rewards
        return RewardTable(result[0], (result[1], result[2]))

    def _reward_columns(self, labels: np.ndarray, scores: np.ndarray, attribute_id: int) -> np.ndarray:
        if not _both_labels(labels):
            return np.full(len(scores), np.nan)
        return reward_columns(self._reward, labels, scores, float(self._offsets[attribute_id]))

    @tf.function(reduce_retracing=True)
    def _scores(self, attribute_id: tf.Tensor) -> tf.Tensor:
        ids = attribute_id[None]
        conv4 = self._conv4(ids)  # [8, m, side² * 32]
        heads = []
        for variant in range(NUM_CONV4):
            heads.append(self._head(self._conv5(conv4[variant], ids), ids))
        return tf.stack(heads)

    def _conv4(self, ids: tf.Tensor) -> tf.Tensor:
        """All 8 variants (skip 1, skip 2, kernel) of Conv-4 after batch norm: [8, m, half² * 32]."""
        layer = self._part["conv4"]
        kernels = [layers.rows(layer.parameters[f"kernel{k}"], ids)[0] for k in search_space.KERNELS]
        linear = tf.stack([tf.nn.conv2d(self._features, kernel, 1, "SAME") for kernel in kernels])
        skip = layers.rows(layer.parameters["skip"], ids)[0]
        parts = _projections(self._skips4, skip, layer.sources)
        bias = layers.rows(layer.parameters["bias"], ids)[0]
        pre = _skip_sums(parts)[:, None] + linear[None] + bias  # [4, 2, m, h, h, 32]
        side, filters = layer.side, layer.filters
        pooled = tf.nn.relu(layers.max_pool(tf.reshape(pre, [-1, side, side, filters])))
        normed = self._batch_norm("bn4", tf.reshape(pooled, [NUM_CONV4, -1, filters]), ids)
        return tf.reshape(normed, [NUM_CONV4, -1, (side // 2) ** 2 * filters])

    def _conv5(self, x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """All 16 variants (skips, kernel) of Conv-5 for one Conv-4: scored images only, [16, n, D]."""
        layer = self._part["conv5"]
        matrices = [
            layers.position_matrix(layers.rows(layer.parameters[f"kernel{k}"], ids), layer.side)[0]
            for k in search_space.KERNELS
        ]
        positions = layer.side**2
        linear = tf.reshape(tf.matmul(x[None], tf.stack(matrices)), [2, -1, positions, layer.filters])
        skips = tf.reshape(self._skips5, [-1, positions, sum(layer.sources)])
        parts = _projections(skips, layers.rows(layer.parameters["skip"], ids)[0], layer.sources)
        bias = layers.rows(layer.parameters["bias"], ids)[0]
        pre = _skip_sums(parts)[:, None] + linear[None] + bias  # [8, 2, m, positions, 16]
        maps = tf.reshape(pre, [-1, layer.side, layer.side, layer.filters])
        pooled = tf.nn.relu(layers.max_pool(maps))
        normed = self._batch_norm("bn5", tf.reshape(pooled, [NUM_CONV5, -1, layer.filters]), ids)
        quarter = layer.side // 2
        normed = tf.reshape(normed, [NUM_CONV5, -1, quarter * quarter * layer.filters])
        return normed[:, self._first :]

    def _batch_norm(self, name: str, x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Normalises each variant of x [V, m * positions, C] by its own statistics."""
        variants = tf.repeat(ids, tf.shape(x)[0])
        return self._part[name](x, variants, tf.constant([self._images.statistics_images]))

    def _head(self, x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Margins of the 12 heads: [16, n, D] -> [16, 12, n], in blocks of rows that fit the cache."""
        layer = self._part["head"]
        weights = {name: layers.rows(v, ids)[0] for name, v in layer.parameters.items()}
        variants, images = tf.shape(x)[0], tf.shape(x)[1]
        rows = tf.reshape(x, [variants * images, x.shape[-1]])
        total = variants * images
        starts = tf.range(0, total, self._block_rows)
        blocks = tf.TensorArray(tf.float32, tf.shape(starts)[0], infer_shape=False, element_shape=[None, NUM_HEADS])
        for i in tf.range(tf.shape(starts)[0]):
            start = starts[i]
            blocks = blocks.write(i, _head_margins(rows[start : start + self._block_rows], weights))
        margins_ = tf.reshape(blocks.concat(), [variants, images, NUM_HEADS])
        return tf.transpose(margins_, [0, 2, 1])


def _head_margins(x: tf.Tensor, weights: dict[str, tf.Tensor]) -> tf.Tensor:
    """[rows, D] -> margins [rows, 12]: 3 Fc-1 widths, then 3 × 3 (Fc-1, Fc-2) widths."""
    hidden1 = tf.nn.relu(tf.matmul(x, weights["fc1"]) + weights["fc1_bias"])
    bias = margins(weights["fc3_bias"])
    direct = tf.matmul(hidden1, _nested_columns(weights["fc3_from_fc1"]))
    output2 = _nested_columns(weights["fc3_from_fc2"])
    pre, results, start = weights["fc2_bias"], [direct], 0
    for width in search_space.FC_WIDTHS:
        pre = pre + tf.matmul(hidden1[:, start:width], weights["fc2"][start:width])
        results.append(tf.matmul(tf.nn.relu(pre), output2))
        start = width
    return tf.concat(results, axis=1) + bias


def _nested_columns(weights: tf.Tensor) -> tf.Tensor:
    """Fc-3's [256, 2] as margin weights of the three nested widths: [256, 3]."""
    inside = np.arange(search_space.FC_WIDTHS[-1])[:, None] < np.array(search_space.FC_WIDTHS)
    return margins(weights)[:, None] * tf.constant(inside.astype(np.float32))


def _projections(skips: tf.Tensor, weights: tf.Tensor, sources: Sequence[int]) -> list[tf.Tensor]:
    """Each source's 1×1 projection: [..., sum of sources] -> one [..., filters] per source."""
    pairs = zip(tf.split(skips, sources, axis=-1), tf.split(weights, sources, axis=0))
    return [tf.tensordot(source, weight, 1) for source, weight in pairs]


def _skip_sums(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sums over every subset of the skips, first skip slowest: [2^len(parts), …]."""
    sums = [tf.zeros_like(parts[0])]
    for part in parts:
        sums = [s + t for s in sums for t in (tf.zeros_like(part), part)]
    return tf.stack(sums)


def expand_heads(values: np.ndarray) -> np.ndarray:
    """Values of the 1536 distinct architectures -> [2304] in `search_space.all_indices` order."""
    values = np.asarray(values).reshape(NUM_CONV4 * NUM_CONV5, NUM_HEADS)
    direct = np.broadcast_to(values[:, :3, None], (len(values), 3, 3))
    through = values[:, 3:].reshape(-1, 3, 3)
    return np.stack([direct, through], axis=-1).reshape(-1)


def _both_labels(labels: np.ndarray) -> bool:
    return bool((labels > 0.5).any() and (labels <= 0.5).any())


def score_one_by_one(
    supernet: Supernet, images: ScoringImages, attribute_id: int, numbers: Iterable[int]
) -> np.ndarray:
    """The same margins from the Keras functional model, one architecture at a time: float32 [K, n].

    What peers do; the reference for tests and benchmarks.
    """
    indices = search_space.all_indices()
    ids = tf.constant([attribute_id], tf.int32)
    maps = [tf.constant(m) for m in images.maps]
    statistics = tf.constant(images.statistics_images, tf.int32)
    call = tf.function(lambda gates: margins(supernet.tower_logits(maps, ids, gates, statistics)))
    rows = [call(gates_from_indices(indices[n : n + 1]))[images.num_calibration :, 0] for n in numbers]
    return np.stack([r.numpy() for r in rows])
