"""A trunk that no longer learns: its maps are computed once and kept in memory.

Towers read Conv-3's map and the pooled maps before it, so all three are kept at
Conv-3's side. Records have several views: the picture itself, which is what
validation sees, and of some that train copies changed as `augment` changes a
training image. Beside them is kept what `readout` reads of the picture itself.
Layers, losses and rewards are those of `supernet`; only what stands in the
trunk's place differs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers, readout
from galm_tf import supernet as supernet_lib
from galm_tf.augment import DRAWS, Augment
from galm_tf.config import Config
from galm_tf.draws import Stream, generator
from galm_tf.map_cache import MapCache, Rows
from galm_tf.preprocess import scale_images
from galm_tf.progress import Progress
from galm_tf.scoring import image_batches
from galm_tf.search_space import TRUNK_CHANNELS, map_side
from galm_tf.tracing import traced

MAX_VIEWS = 2  # each costs a pass of the trunk
_CACHE_BYTES = 2**30
_BATCH_IMAGES, _BATCH_PIXELS = 256, 256 * 64**2  # whose maps are computed at once
_CHANNELS = sum(TRUNK_CHANNELS)


class FirstView(layers.FloatLayer):
    """Cached views [B, V, h, h, C] -> the three maps of the first view, [B, h, h, C_i] each."""

    def call(self, views):
        return tf.split(views[:, 0], TRUNK_CHANNELS, axis=-1)


def build_supernet(num_attributes: int, config: Config) -> supernet_lib.Supernet:
    """A supernet whose stored records are cached views; its trunk has no weights."""
    side = map_side(config)
    views = layers.float_input((None, side, side, _CHANNELS), "views")
    trunk = tf.keras.Model(views, FirstView(name="first_view")(views), name="trunk")
    return supernet_lib.build_supernet(
        num_attributes, config.image_size, config.dropout, config.seed, trunk, scale=tf.identity
    )


def pick_view(views: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random view of each record, by seed int32 [2]: [B, V, h, h, C] -> [B, 1, h, h, C]."""
    shape = tf.shape(views)
    chosen = tf.random.stateless_uniform([shape[0]], seed, maxval=shape[1], dtype=tf.int32)
    return tf.gather(views, chosen, axis=1, batch_dims=1)[:, None]


class Views:
    """Views of some of many records, read by record numbers as an array of all would be: float32 [n, V, h, h, C].

    Args:
      num_records: n.
      num_cached: at most how many have views; V is as large as they leave memory for.
      config: image size, and whether training images are changed at all.
    """

    dtype = np.dtype(np.float32)
    read: Optional[np.ndarray] = None  # [n, D] of the pictures as they are, once they are filled

    def __init__(self, num_records: int, num_cached: int, config: Config) -> None:
        side = map_side(config)
        each = num_cached * side * side * _CHANNELS * self.dtype.itemsize
        changes = config.augment_flip or config.augment_crop or config.augment_color
        count = int(np.clip(_CACHE_BYTES // max(1, each), 1, MAX_VIEWS)) if changes else 1
        self.shape = (num_records, count, side, side, _CHANNELS)
        self._rows = np.full(num_records, -1)
        self.values = np.zeros((0, *self.shape[1:]), self.dtype)

    def hold(self, index: np.ndarray) -> None:
        """Makes room for the views of records int64 [m], distinct: `values` [m, V, h, h, C]."""
        self._rows[index] = np.arange(len(index))
        self.values = np.zeros((len(index), *self.shape[1:]), self.dtype)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Where the views of records are in `values`."""
        rows = self._rows[index]
        assert (rows >= 0).all(), "records without views"
        return rows

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self.values[self.rows(index)]


class FirstViews:
    """The first views alone, [n, 1, h, h, C]: the pictures as they are."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self._views.values[self._views.rows(index), :1]

    def readout_features(self, index: np.ndarray) -> np.ndarray:
        """What `readout` reads of records int64 [m]: float32 [m, D]."""
        return self._views.read[self._views.rows(index)]

    def outputs(self, index: np.ndarray) -> Iterator[list[tf.Tensor]]:
        """The trunk's outputs of records int64 [m], some at a time: its three maps at Conv-3's side, and what is read
        of it.
        """
        for start in range(0, len(index), _BATCH_IMAGES):
            part = index[start : start + _BATCH_IMAGES]
            yield [
                *tf.split(tf.constant(self[part][:, 0]), TRUNK_CHANNELS, axis=-1),
                tf.constant(self.readout_features(part)),
            ]


def unchanged(config: Config) -> Config:
    """The settings, by which no image is changed."""
    return dataclasses.replace(config, augment_flip=False, augment_crop=0.0, augment_color=0.0)


def first_views(
    trunk: Callable, images: np.ndarray, index: np.ndarray, config: Config, cache: MapCache
) -> Optional[FirstViews]:
    """Pictures as they are, of records int64 [m]; None where they are too many to be held at once.

    trunk, images, config, cache: as of `fill_views`.
    """
    plain = unchanged(config)
    views = Views(len(images), len(index), plain)
    if len(index) * int(np.prod(views.shape[1:])) * views.dtype.itemsize > _CACHE_BYTES:
        return None
    fill_views(views, trunk, images, np.sort(index), index[:0], plain, cache)
    return FirstViews(views)


def fill_views(
    views: Views,
    trunk: Callable,
    images: np.ndarray,
    index: np.ndarray,
    changed: np.ndarray,
    config: Config,
    cache: Optional[MapCache] = None,
) -> None:
    """Computes the views of the named records, which are all that have some.

    Args:
      views: to be filled.
      trunk: scaled images -> three feature maps and what may follow them, with fixed batch norms.
      images: uint8 [n, S, S, 3].
      index: int64 [m], sorted.
      changed: int64 [k], those of them whose other views are changed pictures; the others' repeat the first.
      cache: what of it earlier runs have left.
    """
    augment = Augment.of(config)
    pictures, draws = tf.TensorSpec([None, *images.shape[1:]], tf.uint8), tf.TensorSpec([None, DRAWS], tf.float32)
    # of one trace, whatever the last batch's size
    straight = traced(lambda x: _seen(trunk(scale_images(x))), input_signature=[pictures])
    augmented = traced(
        lambda x, draws: _joined(trunk(scale_images(augment.changed(x, draws)))), input_signature=[pictures, draws]
    )

    def as_they_are(index: np.ndarray) -> Iterator[Rows]:
        return (
            (records, [v.numpy() for v in straight(tf.constant(batch))]) for records, batch in _batches(images, index)
        )

    def as_changed(view: int, index: np.ndarray) -> Iterator[Rows]:
        # a record's own, whichever others have views
        each = generator(config.seed, Stream.VIEWS, view).random((len(images), DRAWS), np.float32)
        return (
            (records, [augmented(tf.constant(batch), tf.constant(each[records])).numpy()])
            for records, batch in _batches(images, index)
        )

    def rows(kind: Sequence[Any], index: np.ndarray, make: Callable[[np.ndarray], Iterator[Rows]]) -> Iterator[Rows]:
        return make(index) if cache is None else cache.rows(kind, index, make)

    views.hold(index)
    with Progress(len(index) + (views.shape[1] - 1) * len(changed), "trunk's maps", unit="image") as progress:
        for records, (maps, read) in rows(["as they are"], index, as_they_are):
            views.values[views.rows(records)] = maps[:, None]
            if views.read is None:
                views.read = np.zeros((len(index), read.shape[1]), views.dtype)
            views.read[views.rows(records)] = read
            progress.update(len(records))
        for view in range(1, views.shape[1]):
            kind = ["changed", view, config.seed, config.augment_flip, config.augment_crop, config.augment_color]
            for records, (maps,) in rows(kind, changed, functools.partial(as_changed, view)):
                views.values[views.rows(records), view] = maps
                progress.update(len(records))


def _batches(images: np.ndarray, index: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The named records and their pictures, some at a time."""
    done, size = 0, max(1, min(_BATCH_IMAGES, _BATCH_PIXELS // images.shape[1] ** 2))
    for batch in image_batches(images, index, size):
        yield index[done : done + len(batch)], batch
        done += len(batch)


def _seen(outputs: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a trunk's outputs: the maps as they are kept, and what is read beside the towers, [B, D]."""
    return _joined(outputs), readout.features(outputs)


def _joined(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """All maps at Conv-3's side: [B, h, h, C]."""
    maps = outputs[: len(TRUNK_CHANNELS)]
    side = int(maps[-1].shape[1])
    return tf.concat([layers.average_pool_to(m, side) for m in maps], -1)
