"""Odd files, each to the right picture or to one sentence; colours and sizes: preprocess_test."""

import itertools
import pathlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from galm_tf import preprocess
from galm_tf.preprocess import BadImageError, decode_image, resize_images
from encoded_pictures import encoded

SHARED = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data"

# How a stored picture comes from an upright one, by orientation (CIPA DC-008, table 4.6.4: where row 0 and column 0
# lie).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


def smooth(height, width):
    coarse = np.random.default_rng(2).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


@pytest.mark.parametrize(("orientation", "kind"), itertools.product(range(1, 9), ("JPEG", "PNG", "TIFF")))
def test_pictures_stand_upright(orientation, kind):
    upright = smooth(30, 50)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    decoded = decode_image(encoded(stored, kind, exif=exif, **options))
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0XX", b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + 40 * b"\xff"],
    ids=["empty", "no order", "no directory", "far directory", "garbage"],
)  # fmt: skip
def test_damaged_exif_counts_as_none(exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow mentions what it cannot parse
        decoded = decode_image(encoded(smooth(30, 50), "JPEG", quality=95, exif=exif))
    assert decoded.shape == (30, 50, 3)


def test_an_orientation_out_of_range_counts_as_none():
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(decode_image(encoded(smooth(30, 50), "PNG", exif=exif)), smooth(30, 50))


# A dark PPM is not here: Pillow opens it as 32-bit integers, which do not say their range.
@pytest.mark.parametrize(
    ("kind", "brightest"), [("PNG", 200), ("PNG", 65535), ("TIFF", 200), ("TIFF", 65535), ("PPM", 65535)]
)
def test_sixteen_bits_are_scaled_by_their_range_not_by_their_content(kind, brightest):
    deep = np.linspace(0, brightest, 12 * 10).reshape(12, 10).astype(np.uint16)
    decoded = decode_image(encoded(deep, kind))
    np.testing.assert_array_equal(decoded, np.repeat(np.round(deep / 257)[..., None], 3, axis=-1))


def _deep(path, highest):
    Image.fromarray(np.linspace(0, highest, 120).reshape(12, 10).astype(np.uint16)).save(path)
    return str(path)


def test_the_first_picture_that_uses_little_of_16_bits_is_told_once_whatever_the_thread(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(preprocess, "_told_of_dark", threading.Lock())
    for name, highest in (("black.png", 0), ("bright.png", 8192), ("white.tif", 65535)):
        decode_image(_deep(tmp_path / name, highest))
    decode_image(encoded(Image.new("L", (4, 4), 3), "PNG"))
    assert caplog.messages == []
    paths = [_deep(tmp_path / f"{i}{ending}", 8191 >> i % 8) for i in range(32) for ending in (".png", ".tif")]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode_image, paths))
    assert decoded[0].max() == 32, "as it is, for no scale is guessed"
    (message,) = caplog.messages
    name = message.removeprefix("16-bit picture ").removesuffix(
        " uses less than an eighth of its range and is seen nearly black; rescale such pictures"
    )
    assert name in paths


@pytest.mark.parametrize("highest", [1.0, 255.0])
def test_floats_are_scaled_by_the_range_that_holds_them(highest):
    values = np.linspace(0, highest, 120).reshape(12, 10).astype(np.float32)
    decoded = decode_image(encoded(values, "TIFF"))
    np.testing.assert_allclose(decoded[..., 1], values * (255 / highest), atol=0.51)


def test_transparent_parts_show_white():
    rgba = np.dstack([smooth(20, 20), np.tile(np.arange(20, dtype=np.uint8) * 13, (20, 1))])
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + 255 * (1 - share)
    assert np.abs(decode_image(encoded(rgba, "PNG")) - expected).max() <= 1
    grey = Image.fromarray(rgba).convert("LA")
    expected = np.asarray(grey)[..., :1] * share + 255 * (1 - share)
    assert np.abs(decode_image(encoded(grey, "PNG")) - expected).max() <= 1


def test_a_transparent_palette_entry_shows_white():
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    decoded = decode_image(encoded(picture, "PNG", transparency=0))
    assert (decoded[0, 1] == (200, 100, 50)).all() and (np.delete(decoded.reshape(-1, 3), 1, 0) == 255).all()


def test_cmyk_photographs():
    upright = smooth(40, 60)
    decoded = decode_image(encoded(Image.fromarray(upright).convert("CMYK"), "JPEG", quality=98))
    assert decoded.shape == (40, 60, 3) and np.abs(decoded.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (16, 12), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (decoded == (255, 0, 0)).all() and decoded.shape == (12, 16, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_cut_files_are_named_and_explained(tmp_path, kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(noise, kind)
    path = tmp_path / "ein Bild+ä.img"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadImageError) as error:
        decode_image(str(path))
    message = str(error.value)
    assert message.startswith(f"Expected a readable image. Received: {path} (") and "\n" not in message
    assert ("the file is empty" in message) == (share == 0.0)


def test_files_that_are_no_pictures(tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("<html>404 not found</html>")
    with pytest.raises(BadImageError, match=r"notes\.jpg \(not a picture in a known format\)"):
        decode_image(str(text))
    with pytest.raises(BadImageError, match="a readable image"):
        decode_image(str(tmp_path))
    with pytest.raises(BadImageError, match="gone.png, which does not exist"):
        decode_image(str(tmp_path / "gone.png"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest undoes the module's own filter
def test_bombs_are_refused_from_twice_the_limit_on_in_all_threads(monkeypatch):
    content = encoded(Image.new("RGB", (20, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with ThreadPoolExecutor(8) as pool:
        assert {image.shape for image in pool.map(decode_image, [content] * 64)} == {(10, 20, 3)}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)

    def refuse(_):
        with pytest.raises(BadImageError, match="more than 198 pixels, which may be a decompression bomb"):
            decode_image(content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(refuse, range(64)))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_have_the_pixels_of_tensorflow(subsampling, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (51, 67, 3), np.uint8)
    content = encoded(noise, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    theirs = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    np.testing.assert_array_equal(decode_image(content), theirs)


@pytest.mark.skipif(not (SHARED / "apay_fullsize_sample").is_dir(), reason="no ../shared/data/apay_fullsize_sample")
def test_photographs_have_the_pixels_of_tensorflow_and_shrink_like_pillow():
    resize = tf.function(
        lambda image: resize_images(image, 64), input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    paths = sorted((SHARED / "apay_fullsize_sample").rglob("*.jpg"))[:10]
    assert paths
    for path in paths:
        ours = decode_image(str(path))
        content = tf.io.read_file(str(path))
        theirs = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
        np.testing.assert_array_equal(ours, theirs)
        small = resize_images(tf.constant(ours), 64).numpy()
        np.testing.assert_array_equal(resize(ours[None])[0], small)  # as in the exported model
        pillow = np.asarray(Image.fromarray(ours).resize((64, 64), Image.BILINEAR))
        assert np.abs(small.astype(int) - pillow).max() <= 2
