"""EXIF orientation inside a TensorFlow graph, for photographs that arrive as bytes.

TensorFlow's decoders ignore EXIF, so a phone's upright photograph would reach
the network lying on its side. The bytes are parsed by tensor operations: the
exported SavedModel needs nothing but TensorFlow. (CIPA DC-008, "Exif 2.32",
§4.6.2; TIFF 6.0, §2.)
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_HEAD_BYTES = 65536  # EXIF lies in one of the first segments
_MARK = np.frombuffer(b"Exif\0\0", np.uint8)
_TAG = 0x0112
_ENTRY_BYTES = 12


def orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """EXIF orientation 1 to 8 of an encoded image, string [] -> int32 []; 1 where none is given."""
    head = tf.io.decode_raw(tf.strings.substr(image_bytes, 0, _HEAD_BYTES), tf.uint8)
    is_jpeg = tf.logical_and(tf.size(head) > 64, tf.reduce_all(tf.equal(head[:2], tf.constant([0xFF, 0xD8], tf.uint8))))
    return tf.cond(is_jpeg, lambda: _from_jpeg(head), lambda: 1)


def _from_jpeg(head: tf.Tensor) -> tf.Tensor:
    count = tf.size(head) - len(_MARK)
    match = tf.reduce_all(tf.stack([tf.equal(head[i : count + i], int(byte)) for i, byte in enumerate(_MARK)]), axis=0)
    places = tf.where(match)[:, 0]
    return tf.cond(tf.size(places) > 0, lambda: _from_tiff(head[tf.cast(places[0], tf.int32) + len(_MARK) :]), lambda: 1)


def _from_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """Orientation from the bytes of a TIFF header and what follows it."""
    data = tf.cast(tiff, tf.int32)
    data = tf.concat([data, tf.zeros([16], tf.int32)], 0)
    little = tf.equal(data[0], ord("I"))
    start = _number(data, 4, 4, little)
    inside = tf.logical_and(start >= 8, start + 2 <= tf.size(tiff))
    return tf.cond(inside, lambda: _from_directory(data, tf.size(tiff), start, little), lambda: 1)


def _from_directory(data, size, start, little) -> tf.Tensor:
    """Looks the tag up in the image file directory at `start`."""
    room = tf.maximum((size - start - 2) // _ENTRY_BYTES, 0)
    entries = tf.minimum(_number(data, start, 2, little), room)
    begin = start + 2
    rows = tf.reshape(data[begin : begin + entries * _ENTRY_BYTES], [-1, _ENTRY_BYTES])
    tags = tf.where(little, rows[:, 0] + 256 * rows[:, 1], 256 * rows[:, 0] + rows[:, 1])
    values = tf.where(little, rows[:, 8] + 256 * rows[:, 9], 256 * rows[:, 8] + rows[:, 9])
    found = tf.boolean_mask(values, tf.logical_and(tf.equal(tags, _TAG), tf.logical_and(values >= 1, values <= 8)))
    return tf.cond(tf.size(found) > 0, lambda: found[0], lambda: 1)


def _number(data, start, length: int, little) -> tf.Tensor:
    """An unsigned number of 2 or 4 bytes; anything beyond 31 bits is out of every file's reach."""
    values = data[start : start + length]
    powers = [min(256**i, 2**24) for i in range(length)]
    low_first = tf.reduce_sum(values * tf.constant(powers))
    return tf.where(little, low_first, tf.reduce_sum(values * tf.constant(powers[::-1])))


def upright(image: tf.Tensor, orientation_: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image [H, W, C] as its orientation (int32 [], 1 to 8) asks."""
    transposed = tf.transpose(image, [1, 0, 2])
    ways = [
        lambda: image,
        lambda: image[:, ::-1],
        lambda: image[::-1, ::-1],
        lambda: image[::-1],
        lambda: transposed,
        lambda: transposed[:, ::-1],
        lambda: transposed[::-1, ::-1],
        lambda: transposed[::-1],
    ]
    return tf.switch_case(orientation_ - 1, ways)
