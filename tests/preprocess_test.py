import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from galm_tf import preprocess
from galm_tf.preprocess import BadImageError, crop_box, decode_image, resize_images, resize_picture
from encoded_pictures import encoded


def _smooth(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)


def test_modes_become_rgb():
    image = _smooth(20, 30)
    np.testing.assert_array_equal(decode_image(encoded(image, "PNG")), np.asarray(image))
    grey = decode_image(encoded(image.convert("L"), "PNG"))
    assert grey.shape == (20, 30, 3) and (grey[..., 0] == grey[..., 2]).all()
    cmyk = decode_image(encoded(image.convert("CMYK"), "TIFF"))
    assert np.abs(cmyk.astype(int) - np.asarray(image)).mean() < 3
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (decode_image(encoded(clear, "PNG")) == 255).all()
    deep = Image.fromarray((np.arange(256, dtype=np.uint16).reshape(16, 16)) * 257)
    np.testing.assert_array_equal(decode_image(encoded(deep, "PNG"))[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP"])
def test_rgb_is_not_copied_and_outlives_its_file(tmp_path, monkeypatch, kind):
    image, exif = _smooth(20, 30), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, turned in (("plain", {}), ("turned", {"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {})):
        path = tmp_path / name
        path.write_bytes(encoded(image, kind, **turned))
        with Image.open(path) as stored:
            expected = ImageOps.exif_transpose(stored.convert("RGB"))
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "convert", None)
            found = decode_image(str(path))
        path.write_bytes(b"")
        assert found.shape == ((30, 20, 3) if turned else (20, 30, 3))
        np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_greys_of_32_bits_have_the_least_usual_scale(full):
    ramp = np.linspace(0, full, 256).reshape(16, 16)
    for beyond in (0.0, 0.005 * full):  # by computing
        values = np.where(ramp == full, full + beyond, np.where(ramp == 0, -beyond, ramp)).astype(np.float32)
        shown = decode_image(encoded(Image.fromarray(values), "TIFF"))[..., 0]
        np.testing.assert_array_equal(shown, np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("low, high, kind", [(0, 2e9, np.int32), (0, 1e5, np.float32), (-1, 1, np.float32)])
def test_greys_without_a_scale_are_refused(low, high, kind):
    picture = Image.fromarray(np.linspace(low, high, 256).reshape(16, 16).astype(kind))
    with pytest.raises(
        BadImageError, match=f"greys of 32 bits from {low:g} to .*: black is 0, and white 1, 255 or 655"
    ):
        decode_image(encoded(picture, "TIFF"))


def test_the_first_frame_of_an_animation_counts():
    frames = [_smooth(16, 16, seed).convert("P") for seed in (0, 1)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(content), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("cut", [0, 40, 600])
def test_empty_and_truncated_files_are_named(tmp_path, cut):
    path = tmp_path / "naïve photo+1.jpg"
    path.write_bytes(encoded(_smooth(200, 200), "JPEG")[:cut])
    with pytest.raises(BadImageError, match=r"Received: .*naïve photo\+1.jpg \("):
        decode_image(str(path))


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImageError, match="decompression bomb"):
        decode_image(encoded(_smooth(20, 20), "PNG"))
    # some phones' photographs exceed what Pillow warns of
    assert decode_image(encoded(_smooth(14, 14), "PNG")).shape == (14, 14, 3)


def test_crops_and_their_padding():
    image = np.arange(40 * 60 * 3, dtype=np.int64).reshape(40, 60, 3)
    np.testing.assert_array_equal(crop_box(image, (10, 5, 30, 20), 0.0), image[5:20, 10:30])
    np.testing.assert_array_equal(crop_box(image, (10, 5, 30, 20), 0.5), image[0:30, 0:40])
    np.testing.assert_array_equal(crop_box(image, (-1, -1, -1, -1), 0.5), image)
    for box in ((10, 5, 70, 20), (10, 5, 10, 20), (0, 30, 5, 20)):
        with pytest.raises(BadImageError, match="within the 60x40 pixels of photo"):
            crop_box(image, box, 0.0, "photo")


def test_large_photographs_are_antialiased_like_pillow():
    photograph = _smooth(900, 1200)
    noisy = np.clip(np.asarray(photograph) + np.random.default_rng(0).normal(0, 40, (900, 1200, 3)), 0, 255).astype(
        np.uint8
    )
    ours = resize_images(tf.constant(noisy), 64).numpy()
    pillow = np.asarray(Image.fromarray(noisy).resize((64, 64), Image.BILINEAR))
    assert np.abs(ours.astype(int) - pillow).max() <= 2


def test_a_single_picture_is_resized_to_the_same_bits():
    rng = np.random.default_rng(0)
    for height, width, size in (
        (64, 64, 64),
        (1, 1, 32),
        (3, 200, 64),
        (218, 178, 64),
        (61, 67, 128),
        (375, 500, 96),
        *rng.integers(2, 300, (40, 3)),
    ):
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        one = resize_picture(picture, int(size))
        np.testing.assert_array_equal(one, resize_images(tf.constant(picture), int(size)).numpy())
        assert one.dtype == np.uint8


def test_the_right_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_images(tf.constant(image), 64), image)


def test_network_input_is_between_minus_one_and_one():
    assert preprocess.scale_images(tf.constant([0, 255], tf.uint8)).numpy().tolist() == [-1.0, 1.0]
