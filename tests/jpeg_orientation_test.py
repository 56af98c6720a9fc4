"""EXIF in the graph against EXIF written here byte by byte, and against Pillow's reading of it."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from galm_tf.jpeg_orientation import orientation, upright
from encoded_pictures import encoded

SHORT, LONG, ASCII = 3, 4, 2
_read = tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)])
_turn = tf.function(upright, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int32)])


def _tiff(value, order="<", kind=SHORT, before=((0x010E, ASCII, b"abcd"), (0x0110, ASCII, b"ef\0\0"))):
    """A TIFF header and one directory: the entries `before` the orientation, the orientation, one behind it."""
    packed = struct.pack(order + {SHORT: "H", LONG: "I"}[kind], value).ljust(4, b"\0")
    entries = [*before, (0x0112, kind, packed), (0x0128, SHORT, struct.pack(order + "HH", 2, 0))]
    directory = struct.pack(order + "H", len(entries))
    for tag, entry_kind, content in entries:
        directory += struct.pack(order + "HHI", tag, entry_kind, 4 if entry_kind == ASCII else 1) + content
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + directory + struct.pack(order + "I", 0)


def _segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _jpeg(tiff=None, size=(48, 32), first=b""):
    """A JPEG with segments of ours right behind its start; `first` precedes the EXIF."""
    data = encoded(_gradient(size), "JPEG", quality=95)
    return data[:2] + first + (b"" if tiff is None else _segment(0xE1, b"Exif\0\0" + tiff)) + data[2:]


def _gradient(size):
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return np.uint8(np.stack([x, y, 255 - x], -1))


def _pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(ExifTags.Base.Orientation)


@pytest.mark.parametrize("order", ["<", ">"], ids=["II", "MM"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_in_either_byte_order(value, order):
    for kind in (SHORT, LONG):
        data = _jpeg(_tiff(value, order, kind))
        assert _read(data).numpy() == value == _pillow(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (4, [[4, 5, 6], [1, 2, 3]]),
        (5, [[1, 4], [2, 5], [3, 6]]),
        (6, [[4, 1], [5, 2], [6, 3]]),
        (7, [[6, 3], [5, 2], [4, 1]]),
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_upright_by_hand(value, expected):
    """Exif 2.32, §4.6.4: where the stored row 0 and column 0 are in the upright picture."""
    image = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None], 3, 2)
    np.testing.assert_array_equal(_turn(image, value).numpy()[..., 0], expected)


def test_pillows_own_writing_is_read():
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "A camera with a long name" * 20, 6
    exif[ExifTags.Base.Software] = "x"
    for kind in ("JPEG", "PNG"):
        data = encoded(_gradient((20, 10)), kind, exif=exif)
        assert _read(data).numpy() == 6 == _pillow(data)


def test_exif_behind_other_segments():
    profile = _segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(5000))
    assert _read(_jpeg(_tiff(8), first=_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + profile)).numpy() == 8


def test_exif_far_behind_the_start():
    """A large profile before it in a JPEG, the pixels in PNG and WebP."""
    profile = _segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(65000))
    data = _jpeg(_tiff(8), first=profile + profile)
    assert _read(data).numpy() == 8 == _pillow(data)
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    png, chunk = encoded(noise, "PNG"), b"eXIf" + _tiff(6)
    end = png.rindex(b"IEND") - 4
    data = png[:end] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[end:]
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # Pillow reads what stands behind the pixels with them
        assert image.getexif().get(ExifTags.Base.Orientation) == 6
    assert len(data) > 100_000 and _read(data).numpy() == 6
    for prefix in (b"", b"Exif\0\0"):
        data = encoded(noise, "WEBP", exif=prefix + _tiff(3))
        assert _read(data).numpy() == 3 == _pillow(data)
    assert _read(encoded(noise, "WEBP")).numpy() == 1


def test_the_word_exif_elsewhere_is_not_exif():
    comment = _segment(0xFE, b"Exif\0\0" + _tiff(6))
    data = _jpeg(first=comment)
    assert _pillow(data) is None and _read(data).numpy() == 1
    assert _read(_jpeg(_tiff(3), first=comment)).numpy() == 3


@pytest.mark.parametrize(
    "tiff",
    [
        None, b"", b"II", b"II*\0", b"XX*\0" + _tiff(6)[4:], b"II\0*" + _tiff(6)[4:], _tiff(0), _tiff(9), _tiff(262, kind=SHORT),
        _tiff(6, ">", LONG)[:-24], b"II*\0" + b"\xff\xff\xff\x7f" + _tiff(6)[8:], b"II*\0" + b"\xff" * 4 + _tiff(6)[8:],
        b"II*\0" + struct.pack("<I", 5000) + _tiff(6)[8:], b"II*\0\x08\0\0\0\xff\xff",
    ],
)  # fmt: skip
def test_missing_or_damaged_exif_is_none(tiff):
    data = _jpeg(tiff)
    data = data if tiff is None or len(tiff) > 60 else data[: 2 + 10 + len(tiff)]  # nothing behind it helps
    assert _read(data).numpy() == 1


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\0\x08Exif\0\0", b"\x89PNG", b"text"]
)
def test_tiny_files_have_none(data):
    assert _read(data).numpy() == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
def test_no_damage_raises():
    """Random bytes overwritten in the EXIF: an orientation all the same, Pillow's where Pillow finds one."""
    rng = np.random.default_rng(0)
    agree = []
    for i in range(150):
        whole = bytearray(_tiff(int(rng.integers(1, 9)), "<>"[i % 2]))
        whole[rng.integers(0, len(whole))] = rng.integers(0, 256)
        data = _jpeg(bytes(whole), size=(8, 8))
        found = _read(data).numpy()
        assert 1 <= found <= 8
        try:
            expected = _pillow(data) or 1
        except Exception:  # Pillow's own way of saying that the EXIF is damaged
            continue
        agree.append(found == (expected if expected in range(1, 9) else 1))
    assert len(agree) > 100 and np.mean(agree) > 0.95
