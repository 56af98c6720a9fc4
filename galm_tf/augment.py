"""Augmentation of training images as a Keras layer: flip, shift, colour.

Stateless: the seed of a step decides everything, so a resumed run sees the same
pictures. All images of a batch are changed at once, each in its own way.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

DRAWS = 6
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


class Augment(tf.keras.layers.Layer):
    """Random changes of uint8 or float images [B, S, S, 3] in 0..255 -> float32 in 0..255.

    Args:
      flip: mirror half of the images.
      shift: largest displacement as a share of the side; the border is reflected.
      color: strength s: brightness by up to ±s/2 of the range, contrast and
        saturation by factors in [1 - s, 1 + s].
    """

    def __init__(self, flip: bool, shift: float, color: float) -> None:
        super().__init__(name="augment")
        self.flip, self.shift, self.color = flip, shift, color

    @classmethod
    def of(cls, settings: Any) -> "Augment":
        """By the fields augment_flip, augment_crop and augment_color, as `Config` calls them."""
        return cls(settings.augment_flip, settings.augment_crop, settings.augment_color)

    def call(self, images, seed):
        """seed: int32 [2]."""
        return self.changed(images, tf.random.stateless_uniform([tf.shape(images)[0], DRAWS], seed))

    def changed(self, images, draws):
        """By uniform draws float32 [B, DRAWS] in [0, 1), a row for each image."""
        if self.flip or self.shift:
            images = _move(images, draws[:, :3], self.flip, self.shift)
        images = tf.cast(images, tf.float32)
        return _color(images, 2.0 * draws[:, 3:] - 1.0, self.color) if self.color else images


def _move(images: tf.Tensor, draws: tf.Tensor, flip: bool, share: float) -> tf.Tensor:
    """Mirrors half of the images and moves each by whole pixels up to `share` of its side; draws [B, 3] in [0, 1).

    Both are a choice of source columns and rows: two gathers, several times as
    fast as reversing and padding the pixels themselves.
    """
    side = int(images.shape[1])
    reach = int(round(share * side))
    starts = tf.cast(tf.floor(draws[:, 1:] * (2 * reach + 1)), tf.int32) - reach  # [B, 2]
    rows = _reflect(starts[:, 0, None] + tf.range(side), side)
    columns = _reflect(starts[:, 1, None] + tf.range(side), side)
    if flip:
        columns = tf.where(draws[:, :1] < 0.5, columns, side - 1 - columns)
    return tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def _reflect(positions: tf.Tensor, side: int) -> tf.Tensor:
    """Positions up to a side beyond the border, mirrored into it; the border itself comes once."""
    return side - 1 - tf.abs(side - 1 - tf.abs(positions))


def _color(images: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast and saturation; draws [B, 3] in [-1, 1).

    Saturation leaves grey g and its mean m alone, so the three in turn are
    (1 + c)(1 + s) x - (1 + c) s g - c m + b, over rows of pixels: broadcasting along
    the three channels would take most of the time.
    """
    brightness, contrast, saturation = tf.unstack(strength * draws[:, :, None], axis=1)  # [B, 1] each
    batch = tf.shape(images)[0]
    to_grey = tf.tile(tf.constant(_GREY)[:, None], [1, 3])
    grey = tf.reshape(tf.matmul(tf.reshape(images, [-1, 3]), to_grey), [batch, -1])  # [B, S * S * 3]
    offset = 255.0 * 0.5 * brightness - contrast * tf.reduce_mean(grey, 1, keepdims=True)
    pixels = tf.reshape(images, [batch, -1]) * ((1.0 + contrast) * (1.0 + saturation))
    result = pixels - grey * ((1.0 + contrast) * saturation) + offset
    return tf.reshape(tf.clip_by_value(result, 0.0, 255.0), tf.shape(images))
