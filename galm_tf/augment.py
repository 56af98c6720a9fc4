"""Augmentation of training images as a Keras layer: flip, shift, colour.

Stateless: the seed of a step decides everything, so a resumed run sees the same
pictures. All images of a batch are changed at once, each in its own way.
"""

from __future__ import annotations

import tensorflow as tf

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

    def call(self, images, seed):
        """seed: int32 [2]."""
        images = tf.cast(images, tf.float32)
        batch = tf.shape(images)[0]
        draws = tf.random.stateless_uniform([batch, 6], seed)
        if self.flip:
            images = tf.where(draws[:, 0, None, None, None] < 0.5, images, images[:, :, ::-1])
        if self.shift:
            images = _shift(images, draws[:, 1:3], self.shift)
        if self.color:
            images = _color(images, 2.0 * draws[:, 3:] - 1.0, self.color)
        return images


def _shift(images: tf.Tensor, draws: tf.Tensor, share: float) -> tf.Tensor:
    """Moves each image by whole pixels up to `share` of its side; draws [B, 2] in [0, 1)."""
    side = int(images.shape[1])
    reach = int(round(share * side))
    if not reach:
        return images
    padded = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "REFLECT")
    starts = tf.cast(tf.floor(draws * (2 * reach + 1)), tf.int32)  # [B, 2]
    rows = starts[:, 0, None] + tf.range(side)
    columns = starts[:, 1, None] + tf.range(side)
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def _color(images: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast and saturation; draws [B, 3] in [-1, 1)."""
    brightness, contrast, saturation = tf.unstack(strength * draws[:, :, None, None, None], axis=1)
    grey = tf.reduce_sum(images * tf.constant(_GREY), -1, keepdims=True)
    mean = tf.reduce_mean(grey, [1, 2], keepdims=True)
    images = grey + (images - grey) * (1.0 + saturation)
    images = mean + (images - mean) * (1.0 + contrast) + 255.0 * 0.5 * brightness
    return tf.clip_by_value(images, 0.0, 255.0)
