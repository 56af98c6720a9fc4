"""The SavedModel against direct computation, in this process, in a fresh one, and on the other stack."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image
from scipy.special import expit, logit

from galm_tf import export
from galm_tf.errors import UserError
from galm_tf.preprocess import decode_image, resize_images, scale_images
from encoded_pictures import encoded

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE, NAMES = 32, ["sun/offen — Himmel", "sun/metal", "sun/far-away horizon", "sun/furry"]
THRESHOLDS = np.array([0.3, np.nan, 0.55, 0.9])
METADATA = {
    "domains": ["sun"],
    "data_source": "generated",
    "notice": "generated stand-in",
    "versions": {"tensorflow": tf.__version__},
}
OTHER = os.environ.get("GALM_OTHER_PYTHON")


def make_network():
    """A Keras model with everything that inference must freeze: batch norm with its own statistics, dropout."""
    tf.keras.utils.set_random_seed(7)
    inputs = tf.keras.Input((SIZE, SIZE, 3))
    x = tf.keras.layers.Conv2D(6, 5, strides=2, activation="relu")(inputs)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.Dropout(0.5)(tf.keras.layers.GlobalAveragePooling2D()(x))
    far = tf.keras.initializers.RandomNormal(stddev=3.0, seed=8)  # probabilities far apart
    network = tf.keras.Model(inputs, tf.keras.layers.Dense(len(NAMES), kernel_initializer=far)(x))
    norm = next(layer for layer in network.layers if "normalization" in layer.name)
    norm.set_weights(
        [np.linspace(0.5, 3, 6), np.linspace(-1, 1, 6), np.linspace(-0.3, 0.3, 6), np.linspace(0.1, 0.9, 6)]
    )
    return network


def save(network, path, **changes):
    settings = dict(attributes=NAMES, thresholds=THRESHOLDS, image_size=SIZE, metadata=METADATA)
    export.export_saved_model(network, str(path), **{**settings, **changes})


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "new" / "saved_model"
    save(network, path)
    return path


@pytest.fixture(scope="module")
def signatures(path):
    return tf.saved_model.load(str(path)).signatures


def smooth(height, width, seed=0):
    """A photograph's size and smoothness: uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def direct(network, image):
    """Probabilities of one uint8 [H, W, 3] as training computes them: [N]."""
    log_odds = network(scale_images(resize_images(tf.constant(image[None]), SIZE)), training=False).numpy()
    return expit(log_odds[0].astype(np.float64))


def test_no_picture_gives_no_answer_and_no_error(signatures):
    """As a server may ask whose filter leaves none."""
    for out in (
        signatures["serving_default"](images=tf.zeros([0, 20, 30, 3], tf.uint8)),
        signatures["serving_jpeg"](image_bytes=tf.zeros([0], tf.string)),
    ):
        assert out["probability"].shape == out["decision"].shape == (0, len(NAMES)) and len(out["attribute"]) == 4


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (17, 300), (900, 1200), (1200, 900)])
def test_images_of_any_size(network, signatures, shape):
    images = np.stack([smooth(*shape, seed) for seed in range(2)])
    outputs = signatures["serving_default"](images=tf.constant(images))
    expected = np.stack([direct(network, image) for image in images])
    assert outputs["probability"].dtype == tf.float32 and outputs["decision"].dtype == tf.bool
    np.testing.assert_allclose(outputs["probability"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["decision"], expected >= [0.3, 0.5, 0.55, 0.9])
    assert [name.decode() for name in outputs["attribute"].numpy()] == NAMES


def test_probabilities_differ_between_images(signatures):
    """Else the comparisons above would show little."""
    images = tf.constant(np.stack([smooth(64, 64, seed) for seed in range(8)]))
    assert signatures["serving_default"](images=images)["probability"].numpy().std(0).min() > 0.02


def test_bytes_of_mixed_sizes_and_formats_equal_arrays(network, signatures):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    files = [
        encoded(smooth(900, 1200, 1), "JPEG", quality=90), encoded(smooth(480, 640, 2), "JPEG", exif=exif),
        encoded(smooth(20, 33, 3)[..., 0], "JPEG"),
        encoded(smooth(50, 60, 4), "PNG"), encoded(np.dstack([smooth(50, 60, 5), smooth(50, 60, 6)[..., 0]]), "PNG"),
    ]  # fmt: skip
    outputs = signatures["serving_jpeg"](image_bytes=tf.constant(files))
    expected = np.stack([direct(network, decode_image(file)) for file in files])
    np.testing.assert_allclose(outputs["probability"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["decision"], expected >= [0.3, 0.5, 0.55, 0.9])


def test_orientation_changes_what_the_network_sees(network):
    """Else the test above could not fail for a photograph on its side."""
    image = smooth(480, 640, 2)
    assert np.abs(direct(network, image) - direct(network, np.rot90(image, -1))).max() > 1e-4


class _Constant(tf.Module):
    """Log-odds that are known without a computation."""

    def __init__(self, log_odds):
        super().__init__()
        self.log_odds = tf.Variable(log_odds, dtype=tf.float32)

    def __call__(self, images):
        return tf.zeros_like(images[:, 0, 0, :1]) + self.log_odds


def test_offset_and_threshold_by_hand(tmp_path):
    """At margin = offset + logit p the probability is p: the positive weight is undone (DESIGN §2)."""
    wanted = np.array([0.25, 0.5, 0.75, 0.75])
    save(_Constant(logit(wanted)), tmp_path / "m", thresholds=np.array([0.2, np.nan, 0.76, 0.7]))
    outputs = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"](
        images=tf.zeros([3, 5, 5, 3], tf.uint8)
    )
    np.testing.assert_allclose(outputs["probability"], [wanted] * 3, atol=1e-6)
    np.testing.assert_array_equal(outputs["decision"].numpy()[:, [0, 2, 3]], [[True, False, True]] * 3)
    np.testing.assert_allclose(outputs["threshold"], [0.2, np.nan, 0.76, 0.7])  # says which decisions mean something


def test_without_a_threshold_the_decision_is_at_one_half_and_the_metadata_say_that_none_was_chosen(tmp_path):
    for margin, decision in ((-1e-3, False), (0.0, True), (1e-3, True)):
        path = tmp_path / str(margin)
        save(_Constant(np.full(4, margin)), path, thresholds=np.full(4, np.nan))
        outputs = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.zeros([1, 5, 5, 3], tf.uint8))
        assert outputs["decision"].numpy().tolist() == [[decision] * 4]
        assert json.loads((path / "assets.extra" / "metadata.json").read_text())["thresholds"] == [None] * 4


def test_all_weights_are_stored_as_variables(network, path, signatures):
    """Keras 3 layers are no tf.Modules: weights that nobody tracks would be missing, or frozen into the graph."""
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    stored = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "_CHECKPOINTABLE" not in name]
    for weight in network.get_weights():
        assert any(v.shape == weight.shape and np.array_equal(v, weight) for v in stored), weight.shape
    read = [t for t in signatures["serving_default"].captured_inputs if t.dtype == tf.resource]
    assert len(read) == len(network.get_weights()) == 8


def test_metadata_travels(path, signatures):
    content = json.loads(signatures["metadata"]()["json"].numpy().decode())
    assert content == json.loads((path / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    assert content == {
        **METADATA, "format": export.FORMAT, "attributes": NAMES, "thresholds": [0.3, None, 0.55, 0.9], "image_size": SIZE,
    }  # fmt: skip


def test_an_existing_folder_is_refused_and_kept(network, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "precious").write_text("x")
    with pytest.raises(
        UserError, match="Expected a new folder for the SavedModel. Received: .*m, which exists; move it"
    ):
        save(network, tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"] and os.listdir(tmp_path / "m") == ["precious"]


def test_a_file_in_the_way_is_named(network, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        UserError, match="Expected to write .*file/m. Received: .*; free some space or name another folder"
    ):
        save(network, tmp_path / "file" / "m")


def test_nothing_is_left_of_a_network_that_fails(tmp_path):
    class Broken(tf.Module):
        def __call__(self, images):
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        save(Broken(), tmp_path / "m")
    assert os.listdir(tmp_path) == []


READER = """
import json, sys
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
image_bytes = open(sys.argv[2], "rb").read()
decoded = tf.io.decode_png(open(sys.argv[3], "rb").read(), channels=3)[None]
by_bytes = signatures["serving_jpeg"](image_bytes=tf.constant([image_bytes]))
by_array = signatures["serving_default"](images=decoded)
print(json.dumps({
    "modules": sorted(name for name in sys.modules if name.startswith("galm")),
    "version": tf.__version__,
    "outputs": [{"probability": o["probability"].numpy().tolist(), "decision": o["decision"].numpy().tolist(),
                 "attribute": [n.decode() for n in o["attribute"].numpy()]} for o in (by_bytes, by_array)],
    "metadata": json.loads(signatures["metadata"]()["json"].numpy().decode()),
}))
"""


@pytest.mark.parametrize(
    "python",
    [
        sys.executable,
        pytest.param(OTHER, marks=pytest.mark.skipif(not OTHER, reason="GALM_OTHER_PYTHON names no other stack")),
    ],
    ids=["this stack", "other stack"],
)
def test_tensorflow_alone_suffices(network, path, tmp_path, python):
    """A fresh process in another folder, isolated from this repository."""
    image = smooth(600, 800, 9)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    (tmp_path / "a.jpg").write_bytes(encoded(image, "JPEG", exif=exif))
    upright = decode_image(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes(encoded(upright, "PNG"))
    process = subprocess.run(
        [python, "-I", "-c", READER, str(path), "a.jpg", "a.png"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=300,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    answer = json.loads(process.stdout.splitlines()[-1])
    assert answer["modules"] == []
    assert (answer["version"] == tf.__version__) == (python == sys.executable)
    expected = direct(network, upright)
    for outputs in answer["outputs"]:
        np.testing.assert_allclose(outputs["probability"], expected[None], atol=1e-5)
        assert outputs["decision"] == [(expected >= [0.3, 0.5, 0.55, 0.9]).tolist()]
        assert outputs["attribute"] == NAMES
    assert answer["metadata"]["attributes"] == NAMES and answer["metadata"]["notice"] == METADATA["notice"]
