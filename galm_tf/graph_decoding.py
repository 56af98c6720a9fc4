"""Decoding an encoded picture inside a TensorFlow graph, as `preprocess.decode_image` does outside.

JPEG, PNG, GIF (first frame) and BMP of 24 or 32 bits; WebP without transparency where TensorFlow knows it.
Equal to Pillow's pixels, with five exceptions: transparent parts of a GIF keep
the colour stored there, greys of 16 bits are cut to 8 instead of rounded, one
grey of 2, 4 or 16 bits that a PNG names as transparent is laid on white here
alone, orientations that only XMP or a PNG's text states are ignored, and an
orientation that a JPEG gives twice is the first.
"""

from __future__ import annotations

import tensorflow as tf

from galm_tf.jpeg_orientation import orientation, upright


def decode_bytes(image_bytes: tf.Tensor) -> tf.Tensor:
    """A whole file, string [] -> upright RGB, uint8 [H, W, 3].

    TensorFlow raises InvalidArgumentError on what it cannot read.
    """
    is_jpeg = tf.equal(tf.strings.substr(image_bytes, 0, 2), b"\xff\xd8")
    is_png = tf.equal(tf.strings.substr(image_bytes, 0, 4), b"\x89PNG")
    image = tf.case(
        [(is_jpeg, lambda: _decode_jpeg(image_bytes)), (is_png, lambda: _decode_png(image_bytes))],
        default=lambda: _decode_other(image_bytes),
    )
    return upright(tf.ensure_shape(image, [None, None, 3]), orientation(image_bytes))


def _decode_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """With the settings at which libjpeg gives Pillow's pixels; the faster default is up to 6 levels off."""
    return tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)


def _decode_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """Transparent parts are laid on white."""
    rgba = tf.cast(tf.io.decode_png(image_bytes, channels=4), tf.int32)
    depth = tf.cast(_byte(image_bytes, 24), tf.int32)
    # TensorFlow fills in the alpha of an opaque picture as the greatest value of its bit depth, 1 for black and white.
    opaque = tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1
    alpha = rgba[..., 3:]
    alpha = tf.where(tf.reduce_all(tf.equal(alpha, opaque)), 255, alpha)
    return tf.cast((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _decode_other(image_bytes: tf.Tensor) -> tf.Tensor:
    is_bitmap = tf.equal(tf.strings.substr(image_bytes, 0, 2), b"BM")
    readable = tf.logical_or(tf.logical_not(is_bitmap), _byte(image_bytes, 28) >= 24)
    message = "Expected a BMP of 24 or 32 bits; TensorFlow would take the palette's numbers for greys."
    with tf.control_dependencies([tf.debugging.Assert(readable, [message])]):
        return tf.io.decode_image(image_bytes, channels=3, expand_animations=False)


def _byte(image_bytes: tf.Tensor, place: int) -> tf.Tensor:
    """One byte, uint8 []; 0 behind the end."""
    head = tf.strings.substr(image_bytes, 0, place + 1) + b"\0" * (place + 1)
    return tf.io.decode_raw(head, tf.uint8)[place]
