"""Decoding in the graph gives the pixels of `preprocess.decode_image`, which Pillow decodes."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from galm_tf.graph_decoding import decode_bytes
from galm_tf.preprocess import decode_image
from encoded_pictures import encoded

_decode = tf.function(decode_bytes, input_signature=[tf.TensorSpec([], tf.string)])


def _photograph(size=(211, 163)):
    """Smooth colours with some noise, as in a photograph."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.uint8(np.clip(np.asarray(coarse) + rng.normal(0, 6, (size[1], size[0], 3)), 0, 255)))


PHOTOGRAPH = _photograph()
GREY = PHOTOGRAPH.convert("L")
ALPHA = PHOTOGRAPH.copy()
ALPHA.putalpha(Image.fromarray(np.uint8(np.linspace(0, 255, PHOTOGRAPH.width))[None].repeat(PHOTOGRAPH.height, 0)))


def _without_adobes_mark(data):
    """A JPEG that does not say how its inks are stored."""
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def _with_luma_inks(data):
    """A JPEG whose mark says that its inks are stored as luma and chroma."""
    place = data.index(b"Adobe") + 11
    return data[:place] + b"\2" + data[place + 1 :]


CMYK = encoded(PHOTOGRAPH.convert("CMYK"), "JPEG")
CASES = {
    "jpeg": encoded(PHOTOGRAPH, "JPEG"),
    "jpeg 4:4:4": encoded(PHOTOGRAPH, "JPEG", quality=95, subsampling=0),
    "jpeg 4:2:2": encoded(PHOTOGRAPH, "JPEG", quality=40, subsampling=1),
    "progressive jpeg": encoded(PHOTOGRAPH, "JPEG", progressive=True),
    "grey jpeg": encoded(GREY, "JPEG"),
    "cmyk jpeg": CMYK,
    "cmyk jpeg without a mark": _without_adobes_mark(CMYK),
    "cmyk jpeg of luma and chroma": _with_luma_inks(CMYK),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red"), "JPEG"),
    "png": encoded(PHOTOGRAPH, "PNG"),
    "grey png": encoded(GREY, "PNG"),
    "black and white png": encoded(GREY.convert("1"), "PNG"),
    "png with alpha": encoded(ALPHA, "PNG"),
    "grey png with alpha": encoded(ALPHA.convert("LA"), "PNG"),
    "png with a transparent colour": encoded(PHOTOGRAPH, "PNG", transparency=PHOTOGRAPH.getpixel((5, 5))),
    **{f"palette of {n}": encoded(PHOTOGRAPH.quantize(n), "PNG") for n in (2, 4, 16, 200)},
    **{
        f"palette of {n} with alpha": encoded(PHOTOGRAPH.quantize(n), "PNG", transparency=b"\3\xc8\x4d")
        for n in (4, 200)
    },
    # as faint as the depth's greatest number
    **{
        f"faint palette of {n}": encoded(PHOTOGRAPH.quantize(n), "PNG", transparency=bytes([n - 1]) * n)
        for n in (2, 4, 16)
    },
    "gif": encoded(PHOTOGRAPH, "GIF"),
    "animation": encoded(PHOTOGRAPH, "GIF", save_all=True, append_images=[PHOTOGRAPH.rotate(90), GREY]),
    "bmp": encoded(PHOTOGRAPH, "BMP"),
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
def test_pixels_are_pillows(data):
    np.testing.assert_array_equal(_decode(data).numpy(), decode_image(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("value", range(1, 9))
def test_a_phones_photograph_is_upright(value, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    data = encoded(PHOTOGRAPH, kind, exif=exif)
    expected = decode_image(data)
    assert expected.shape[:2] == ((163, 211) if value < 5 else (211, 163))
    np.testing.assert_array_equal(_decode(data).numpy(), expected)


def test_16_bit_greys_are_within_one_level():
    deep = np.linspace(0, 65535, 200 * 100).reshape(200, 100).astype(np.uint16)
    data = encoded(deep, "PNG")
    assert np.abs(_decode(data).numpy().astype(int) - decode_image(data)).max() <= 1


def test_alpha_is_laid_on_white_at_every_level():
    level, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    data = encoded(np.stack([level, level, level, alpha], -1), "PNG")
    exact = (level * (alpha / 255) + (255 - alpha.astype(float)))[..., None]
    assert np.abs(_decode(data).numpy() - exact).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(_decode(data).numpy(), decode_image(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"BM",
        b"\xff\xd8",
        b"\x89PNG",
        b"GIF89a",
        CASES["jpeg"][:1500],
        CASES["png"][:1500],
        b"RIFF1234WEBPVP8 ",
    ],
)
def test_what_is_no_picture_raises(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        _decode(data)


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_a_bmp_with_a_palette_is_refused_rather_than_misread(mode):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a BMP of 24 or 32 bits"):
        _decode(encoded(PHOTOGRAPH.convert(mode), "BMP"))
