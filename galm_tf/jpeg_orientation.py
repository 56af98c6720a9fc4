"""EXIF orientation inside a TensorFlow graph, for photographs that arrive as bytes.

TensorFlow's decoders ignore EXIF, so a phone's upright photograph would reach
the network lying on its side. The bytes are parsed by tensor operations: the
exported SavedModel needs nothing but TensorFlow. (CIPA DC-008, "Exif 2.32",
§4.5 and §4.6.2; TIFF 6.0, §2; PNG 3rd edition, §11.3.3.7; RFC 9649, §2.7.) Damaged EXIF counts
as none. Orientations in XMP are not read.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_BLOCK_BYTES = 65536  # at most, of EXIF
_PADDING = 16  # zeros behind it, so that a short one needs no case of its own
_TAG = 0x0112
_ENTRY_BYTES = 12
_SHORT, _LONG = 3, 4  # TIFF types; Exif asks for SHORT, some editors write LONG
_NAME = b"Exif\0\0"  # what precedes the TIFF header in a JPEG's APP1, and for some writers in WebP
_APP1_BEFORE = b"\0" * 4  # so that there are bytes before the name
_PNG_CHUNK, _WEBP_CHUNK, _LENGTH_BYTES = b"eXIf", b"EXIF", 4


def orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """EXIF orientation 1 to 8 of a JPEG, PNG or WebP, string [] -> int32 []; 1 where none is given."""
    is_jpeg = tf.equal(tf.strings.substr(image_bytes, 0, 2), b"\xff\xd8")
    is_png = tf.equal(tf.strings.substr(image_bytes, 0, 4), b"\x89PNG")
    is_webp = tf.equal(tf.strings.substr(image_bytes + b"\0" * 12, 8, 4), b"WEBP")
    exif = tf.case(
        [
            (is_jpeg, lambda: _jpeg_exif(image_bytes)),
            (is_png, lambda: _behind(image_bytes, _PNG_CHUNK)),
            (is_webp, lambda: _webp_exif(image_bytes)),
        ],
        default=lambda: tf.constant(b""),
    )
    return _from_tiff(tf.cast(tf.io.decode_raw(tf.strings.substr(exif, 0, _BLOCK_BYTES), tf.uint8), tf.int32))


def _behind(image_bytes: tf.Tensor, mark: bytes) -> tf.Tensor:
    """What follows the first occurrence of a mark, string []; nothing where there is none."""
    return tf.strings.reduce_join(tf.strings.split(image_bytes, mark, maxsplit=1)[1:])


def _jpeg_exif(image_bytes: tf.Tensor) -> tf.Tensor:
    """What stands in the first segment APP1 that is named Exif: behind its marker, two bytes of length and the name."""
    parts = tf.strings.split(image_bytes, _NAME)
    markers = tf.strings.substr(_APP1_BEFORE + parts[:-1], -4, 2)
    return tf.strings.reduce_join(tf.boolean_mask(parts[1:], tf.equal(markers, b"\xff\xe1"))[:1])


def _webp_exif(image_bytes: tf.Tensor) -> tf.Tensor:
    """What stands in the chunk, which lies behind the pixels: so the last of that name, should pixels spell it."""
    chunk = tf.strings.reduce_join(tf.strings.split(image_bytes, _WEBP_CHUNK)[1:][-1:])
    content = tf.strings.substr(chunk + b"\0" * _LENGTH_BYTES, _LENGTH_BYTES, _BLOCK_BYTES)
    named = tf.equal(tf.strings.substr(content, 0, len(_NAME)), _NAME)
    return tf.cond(named, lambda: _behind(content, _NAME), lambda: content)


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
