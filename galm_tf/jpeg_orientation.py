"""EXIF orientation inside a TensorFlow graph, for photographs that arrive as bytes.

TensorFlow's decoders ignore EXIF, so a phone's upright photograph would reach
the network lying on its side. The bytes are parsed by tensor operations: the
exported SavedModel needs nothing but TensorFlow. (CIPA DC-008, "Exif 2.32",
§4.5 and §4.6.2; TIFF 6.0, §2; PNG 3rd edition, §11.3.3.7.) Damaged EXIF counts
as none. Orientations in XMP are not read.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_HEAD_BYTES = 65536  # EXIF lies in one of the first segments
_PADDING = 16  # zeros behind the head, so that a short file needs no case of its own
_TAG = 0x0112
_ENTRY_BYTES = 12
_SHORT, _LONG = 3, 4  # TIFF types; Exif asks for SHORT, some editors write LONG
# What precedes the TIFF header; None is any byte. JPEG: marker APP1, length, identifier. PNG: chunk type.
_JPEG_MARK = (0xFF, 0xE1, None, None, *b"Exif\0\0")
_PNG_MARK = tuple(b"eXIf")


def orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """EXIF orientation 1 to 8 of a JPEG or PNG, string [] -> int32 []; 1 where none is given."""
    start = tf.strings.substr(image_bytes, 0, _HEAD_BYTES)
    head = tf.concat([tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int32), tf.zeros([_PADDING], tf.int32)], 0)
    is_jpeg = tf.equal(tf.strings.substr(image_bytes, 0, 2), b"\xff\xd8")
    is_png = tf.equal(tf.strings.substr(image_bytes, 0, 4), b"\x89PNG")
    other = lambda: tf.cond(is_png, lambda: _behind(head, _PNG_MARK), lambda: 1)  # noqa: E731
    return tf.cond(is_jpeg, lambda: _behind(head, _JPEG_MARK), other)


def _behind(head: tf.Tensor, mark: tuple) -> tf.Tensor:
    """Orientation from what follows the first occurrence of a mark."""
    count = tf.size(head) - len(mark)
    matches = [tf.equal(head[i : count + i], byte) for i, byte in enumerate(mark) if byte is not None]
    places = tf.cast(tf.where(tf.reduce_all(tf.stack(matches), axis=0))[:, 0], tf.int32)
    return tf.cond(tf.size(places) > 0, lambda: _from_tiff(head[places[0] + len(mark) :]), lambda: 1)


def _from_tiff(data: tf.Tensor) -> tf.Tensor:
    """Orientation from a TIFF header and what follows it: int32 [n], one byte each."""
    data = tf.concat([data, tf.zeros([_PADDING], tf.int32)], 0)
    little = tf.reduce_all(tf.equal(data[:4], np.frombuffer(b"II*\0", np.uint8).astype(np.int32)))
    big = tf.reduce_all(tf.equal(data[:4], np.frombuffer(b"MM\0*", np.uint8).astype(np.int32)))
    start = _number(data[4:8], 4, little)
    inside = tf.logical_and(start >= 8, start <= tf.size(data) - _PADDING)
    valid = tf.logical_and(tf.logical_or(little, big), inside)
    return tf.cond(valid, lambda: _from_directory(data, start, little), lambda: 1)


def _from_directory(data: tf.Tensor, start: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    """Looks the tag up in the image file directory at `start`."""
    begin = start + 2
    entries = tf.minimum(_number(data[start:begin], 2, little), (tf.size(data) - begin) // _ENTRY_BYTES)
    rows = tf.reshape(data[begin : begin + entries * _ENTRY_BYTES], [-1, _ENTRY_BYTES])
    kinds = _number(rows[:, 2:4], 2, little)
    values = tf.zeros_like(kinds)
    for kind, length in ((_SHORT, 2), (_LONG, 4)):
        values = tf.where(tf.equal(kinds, kind), _number(rows[:, 8 : 8 + length], length, little), values)
    is_orientation = tf.equal(_number(rows[:, :2], 2, little), _TAG)
    is_single = tf.equal(_number(rows[:, 4:8], 4, little), 1)
    valid = tf.logical_and(is_single, tf.logical_and(values >= 1, values <= 8))
    found = tf.boolean_mask(values, tf.logical_and(is_orientation, valid))
    return tf.cond(tf.size(found) > 0, lambda: found[0], lambda: 1)


def _number(values: tf.Tensor, length: int, little: tf.Tensor) -> tf.Tensor:
    """Unsigned numbers, int32 [..., length] one byte each -> int32 [...]; what exceeds 31 bits turns out negative."""
    powers = [256**i for i in range(length)]
    low_first = tf.reduce_sum(values * tf.constant(powers), -1)
    return tf.where(little, low_first, tf.reduce_sum(values * tf.constant(powers[::-1]), -1))


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
