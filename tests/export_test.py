import io
import json
import os
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from galm_tf import export
from galm_tf.errors import UserError
from galm_tf.preprocess import decode_image, resize_images, scale_images

SIZE = 32
ATTRIBUTES = ["zoo/striped", "zoo/großäugig"]
THRESHOLDS, OFFSETS = np.array([0.4, np.nan]), np.array([0.0, 1.5])


class _Network(tf.Module):
    """A fixed linear map of the picture."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).normal(0, 0.02, (SIZE * SIZE * 3, 2)), dtype=tf.float32)

    def __call__(self, x):
        return tf.matmul(tf.reshape(x, [-1, SIZE * SIZE * 3]), self.kernel)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("export") / "saved_model")
    network = _Network()
    export.export_saved_model(
        network, path, attributes=ATTRIBUTES, thresholds=THRESHOLDS, margin_offsets=OFFSETS, image_size=SIZE,
        metadata={"notice": None, "domains": ["zoo"]},
    )
    return path, network, tf.saved_model.load(path).signatures


def _photograph(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


def _expected(network, image):
    margins = network(scale_images(resize_images(tf.constant(image[None]), SIZE))).numpy()
    return 1 / (1 + np.exp(-(margins - OFFSETS)))


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (64, 64), (900, 1200), (37, 411)])
def test_any_size_gives_what_the_network_gives(exported, shape):
    _, network, signatures = exported
    image = _photograph(*shape)
    outputs = signatures["serving_default"](images=tf.constant(image[None]))
    expected = _expected(network, image)
    np.testing.assert_allclose(outputs["probability"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["decision"], expected >= np.array([0.4, export.DEFAULT_THRESHOLD]))
    assert [a.decode() for a in outputs["attribute"].numpy()] == ATTRIBUTES


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_encoded_pictures_equal_decoded_ones(exported, kind):
    _, network, signatures = exported
    buffer = io.BytesIO()
    Image.fromarray(_photograph(300, 500)).save(buffer, kind)
    outputs = signatures["serving_jpeg"](image_bytes=tf.constant([buffer.getvalue()]))
    np.testing.assert_allclose(outputs["probability"], _expected(network, decode_image(buffer.getvalue())), atol=2e-3)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_in_the_graph(exported, orientation, byte_order):
    _, network, signatures = exported
    image = Image.fromarray(_photograph(240, 320))
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112] = "maker", orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    outputs = signatures["serving_jpeg"](image_bytes=tf.constant([buffer.getvalue()]))
    np.testing.assert_allclose(outputs["probability"], _expected(network, upright), atol=2e-3)
    np.testing.assert_array_equal(decode_image(buffer.getvalue()).shape, upright.shape)


def test_metadata_travels_inside(exported):
    path, _, signatures = exported
    inside = json.loads(signatures["metadata"]()["json"].numpy().decode())
    with open(os.path.join(path, export.METADATA), encoding="utf-8") as file:
        assert json.load(file) == inside
    assert inside["attributes"] == ATTRIBUTES and inside["thresholds"] == [0.4, 0.5] and inside["domains"] == ["zoo"]


def test_an_existing_folder_is_refused(exported):
    with pytest.raises(UserError, match="which exists; move it away"):
        export.export_saved_model(
            _Network(), exported[0], attributes=ATTRIBUTES, thresholds=THRESHOLDS, margin_offsets=OFFSETS,
            image_size=SIZE, metadata={},
        )
    assert not [n for n in os.listdir(os.path.dirname(exported[0])) if n.startswith(".saved_model")]


_ALONE = """
import sys, numpy as np, tensorflow as tf
assert "galm_tf" not in sys.modules
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(serve(images=tf.constant(np.load(sys.argv[2])))["probability"].numpy().tolist())
"""


def test_it_loads_on_the_other_stack_with_tensorflow_alone(exported, tmp_path):
    other = os.environ.get("GALM_OTHER_PYTHON")
    if not other:
        pytest.skip("GALM_OTHER_PYTHON names no interpreter of the other stack")
    path, network, _ = exported
    image = _photograph(80, 120)
    np.save(tmp_path / "image.npy", image[None])
    done = subprocess.run([other, "-c", _ALONE, path, str(tmp_path / "image.npy")], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(json.loads(done.stdout.strip().splitlines()[-1]), _expected(network, image), atol=1e-5)
