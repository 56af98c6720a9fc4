"""The one definition of preprocessing: decode, EXIF, crop, resize, scale.

The cache, training, prediction and the exported SavedModel all use these
functions, so a picture means the same numbers everywhere.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from typing import Iterable, Optional, Union

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, UnidentifiedImageError

from galm_tf.errors import UserError

VERSION = 3  # part of the cache key: raise it when a function here changes what it returns

_FULL = 65535.0  # white of 16 bits
_DARK = 8192  # an eighth of their range
_BEYOND = 0.01  # of white, by which computed greys may lie outside of their scale
_told_of_dark = threading.Lock()  # whoever takes it tells, for the whole process

# Pillow warns from its limit on, where some phones' photographs are, and refuses what has twice as many pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation (CIPA DC-008, "Exif 2.32", §4.6.4)


class BadImageError(UserError):
    """A file that cannot be read as a picture; the message names it and says why."""


class _UnknownScaleError(ValueError):
    """Greys of which nothing tells what is black and what is white."""


def first_of(reasons: Iterable[str], count: int = 1, settled: bool = False) -> BadImageError:
    """What ends a run that may leave out no image; count: how many there are, where that is known; settled: as
    `Config.images_settled`.
    """
    others = f"{count} images cannot be read" if count > 1 else ""
    skip = "" if settled else "--on_bad_image=skip leaves such images out"
    told = "; ".join(filter(None, (others, skip)))
    return BadImageError(next(iter(reasons)) + (f" {told}." if told else ""))


def decode_image(source: Union[str, os.PathLike, bytes]) -> np.ndarray:
    """A picture as RGB: uint8 [H, W, 3].

    EXIF orientation is applied, unless the EXIF data are damaged; alpha is laid on
    white; 16-bit greys are scaled to 8 bits by their full range, with a warning of
    the first that uses little of it, those of 32 bits by 255 or 65535, of fractions also by 1; of an animation the first frame counts; CMYK
    and palettes become RGB. Colour profiles are not applied.

    Args:
      source: a path, or the bytes of a file.

    Raises:
      BadImageError: empty, truncated, no picture, too large to be one, or of greys without a scale.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            rgb, turn = _to_rgb(image, name), _TURNS.get(_orientation(image))
            return np.asarray(rgb if turn is None else rgb.transpose(turn))
    except FileNotFoundError:
        raise BadImageError(
            f"Expected an image file. Received: {name}, which does not exist; check the path."
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds; each means that the file is unusable
        raise BadImageError(
            f"Expected a readable image. Received: {name} ({_reason(error, source)}); replace it."
        ) from error


def _reason(error: Exception, source) -> str:
    if isinstance(source, bytes):
        empty = not source
    else:
        empty = os.path.isfile(source) and not os.path.getsize(source)
    if empty:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS} pixels, which may be a decompression bomb"
    return str(error) if isinstance(error, _UnknownScaleError) else f"{type(error).__name__}: {error}"


def _orientation(image: Image.Image) -> Optional[int]:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF raises many kinds; the picture itself has been read by now
        return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A loaded picture as RGB; the same where it is."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(image, name)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # else that would copy it


def _to_8_bits(image: Image.Image, name: str) -> np.ndarray:
    """Greys of more than 8 bits: uint8 [H, W]."""
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=np.inf, neginf=-np.inf)
    lowest, highest = values.min(initial=0.0), values.max(initial=0.0)
    if image.mode.startswith("I;16") or image.format == "PNG":
        full = _FULL
    else:  # 32-bit integers and floats do not say what white is: the least usual scale that holds the picture
        scales = (1.0, 255.0) if image.mode == "F" else (255.0,)
        full = next((scale for scale in (*scales, _FULL) if highest <= (1 + _BEYOND) * scale), 0.0)
        if lowest < -_BEYOND * full or not full:
            raise _UnknownScaleError(
                f"greys of 32 bits from {lowest:.6g} to {highest:.6g}: black is 0, and white 1, 255 or 65535"
            )
    if full == _FULL and 0 < highest < _DARK and _told_of_dark.acquire(blocking=False):
        logging.warning(
            "16-bit picture %s uses less than an eighth of its range and is seen nearly black; rescale such pictures",
            name,
        )
    return np.uint8(np.clip(values / full, 0, 1) * 255 + 0.5)


def crop_box(image: np.ndarray, box: np.ndarray, padding: float, name: str = "image") -> np.ndarray:
    """The part of an image within a box, with some of its surroundings.

    Args:
      image: uint8 [H, W, 3].
      box: int [4] in pixels of the upright image: left, top, right, bottom, right
        and bottom exclusive; all negative for the whole image.
      padding: share of the box's longer side kept around it, cut at the borders.
      name: for the message.

    Raises:
      BadImageError: a box that is empty or reaches outside the image.
    """
    left, top, right, bottom = (int(v) for v in box)
    if max(left, top, right, bottom) < 0:
        return image
    height, width = image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise BadImageError(
            f"Expected a box within the {width}x{height} pixels of {name}. Received: left={left}, top={top}, "
            f"right={right}, bottom={bottom}; correct the box in the annotation file."
        )
    margin = round(padding * max(right - left, bottom - top))
    return image[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]


def resize_images(images: tf.Tensor, size: int) -> tf.Tensor:
    """Bilinear, antialiased resize to a square: uint8 [B, H, W, 3] or [H, W, 3] -> uint8 [..., size, size, 3]."""
    resized = tf.image.resize(images, [size, size], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def resize_picture(picture: np.ndarray, size: int) -> np.ndarray:
    """`resize_images` of one picture, to the last bit, by its one operation: uint8 [H, W, 3] -> uint8 [size, size, 3].

    Called as it stands for picture after picture, what lies around that operation takes longer than it.
    """
    if picture.shape[:2] == (size, size):
        return picture
    scale = np.float32(size) / np.array(picture.shape[:2], np.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=picture[None],
        size=[size, size],
        scale=scale,
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    return np.clip(np.rint(resized.numpy()[0]), 0, 255).astype(np.uint8)


def scale_images(images: tf.Tensor) -> tf.Tensor:
    """Pixel values 0 to 255, any dtype -> network input float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0
