"""Decoding an encoded picture inside a TensorFlow graph, as `preprocess.decode_image` does outside.

JPEG, PNG, GIF (first frame) and BMP of 24 or 32 bits; WebP without transparency where TensorFlow knows it.
Equal to Pillow's pixels, with these exceptions:
- Of a GIF, transparent parts keep the colour stored there, and a first frame
  that is smaller than its canvas is the whole picture.
- Of a PNG, greys of 16 bits are cut to 8 instead of rounded, and one grey of 2,
  4 or 16 bits that is named as transparent is laid on white here alone; of one
  of fewer than 8 bits a text that holds tRNS or IDAT is taken for these chunks.
- Orientations that only XMP or a PNG's text states, or EXIF as signed numbers or
  several of them, are ignored; one that a JPEG gives twice is the first.
- What Pillow mends or knows is refused: a PNG without its end or with a wrong
  checksum, a BMP with a palette or in the form of OS/2.
"""

from __future__ import annotations

import tensorflow as tf

from galm_tf.jpeg_orientation import orientation, upright

# Says that inks are stored upside down, as Pillow takes all to be. A marker of the file's own comes later, and counts.
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"


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
    four_inks = tf.equal(tf.image.extract_jpeg_shape(image_bytes)[2], 4)
    image_bytes = tf.cond(
        four_inks, lambda: b"\xff\xd8" + _ADOBE + tf.strings.substr(image_bytes, 2, -1), lambda: image_bytes
    )
    return tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)


def _decode_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """Transparent parts are laid on white."""
    rgba = tf.cast(tf.io.decode_png(image_bytes, channels=4), tf.int32)
    head = tf.strings.split(image_bytes, b"IDAT", maxsplit=1)[0]
    opaque = tf.equal(tf.size(tf.strings.split(head, b"tRNS")), 1)
    # TensorFlow fills in the alpha of an opaque picture as the greatest value of its bit depth, 1 for black and white.
    alpha = tf.where(tf.logical_and(opaque, _byte(image_bytes, 24) < 8), 255, rgba[..., 3:])
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
