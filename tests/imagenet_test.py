"""EfficientNet-Lite0 of a package's weights: the same network, read without running code, written whole."""

import importlib.util
import io
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate2d

from galm_tf import imagenet, pretrained
from galm_tf.errors import UserError

installed = pytest.mark.skipif(
    importlib.util.find_spec(imagenet._PACKAGE) is None, reason="needs the extra `imagenet` (requirements-dev.txt)"
)
HEAD = [imagenet._MAGIC, imagenet._PROTOCOL, {"little_endian": True}]


@pytest.fixture(scope="module")
def model():
    return imagenet.pretrained_model()


@pytest.fixture(scope="module")
def weights():
    with open(imagenet.weights_file(), "rb") as file:
        return imagenet.read_torch(file)


def of_layer(model, name, pixels):
    return tf.keras.Model(model.input, model.get_layer(name).output)(pixels).numpy()


def normed(x, weights, name):
    """A batch norm [C, H, W] by its definition."""
    scale, shift, mean, variance = (
        weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift


@installed
def test_first_layers_are_those_of_the_file_by_their_definition(model, weights):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3)).astype(np.float32)
    scaled = np.pad(((pixels[0] - 127) / 128).transpose(2, 0, 1), ((0, 0), (1, 1), (1, 1)))
    stem = np.array([sum(map(correlate2d, scaled, k, ["valid"] * 3)) for k in weights["_conv_stem.weight"]])[
        :, ::2, ::2
    ]
    stem = np.clip(normed(stem, weights, "_bn0"), 0, 6)
    np.testing.assert_allclose(of_layer(model, "bn0.relu6", pixels)[0].transpose(2, 0, 1), stem, atol=1e-4)
    kernels = weights["_blocks.0._depthwise_conv.weight"][:, 0]
    deep = np.array([correlate2d(x, k, "same") for x, k in zip(stem, kernels)])
    deep = np.clip(normed(deep, weights, "_blocks.0._bn1"), 0, 6)
    narrow = np.einsum("oi,ihw->ohw", weights["_blocks.0._project_conv.weight"][:, :, 0, 0], deep)
    expected = normed(narrow, weights, "_blocks.0._bn2")
    np.testing.assert_allclose(of_layer(model, "blocks.0._bn2", pixels)[0].transpose(2, 0, 1), expected, atol=1e-4)


@installed
def test_it_has_every_weight_of_the_file_but_the_classifier(model, weights):
    told = ("num_batches_tracked", "_fc.")
    assert model.count_params() == sum(w.size for name, w in weights.items() if not any(t in name for t in told))
    assert len([layer for layer in model.layers if isinstance(layer, tf.keras.layers.Add)]) == 9  # identities
    assert model.output_shape == (None, None, None, 1280)


@installed
def test_a_trunk_takes_its_last_maps_of_three_sides(model):
    names = pretrained.choose_layers(model, 128, "lite0.keras")
    assert names == ("blocks.5._bn0.relu6", "blocks.11._bn0.relu6", "bn1.relu6")
    assert [model.get_layer(name).output.shape[-1] for name in names] == [240, 672, 1280]


@installed
def test_the_file_is_written_whole_and_over_nothing(tmp_path, model):
    out = str(tmp_path / "lite0.keras")
    imagenet.write(out)
    assert os.listdir(tmp_path) == ["lite0.keras"]
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    again = tf.keras.models.load_model(out)
    np.testing.assert_array_equal(again(pixels), model(pixels))
    with pytest.raises(UserError, match="Expected a new name in --out. Received: .*lite0.keras, which exists"):
        imagenet.write(out)
    with pytest.raises(UserError, match="Expected to write .*nowhere.*No such file"):
        imagenet.write(str(tmp_path / "nowhere" / "lite0.keras"))


def test_another_ending_is_told_before_anything_is_read():
    with pytest.raises(UserError, match=r"Received: out=lite0.h5; name it lite0.h5.keras"):
        imagenet.write("lite0.h5")


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r'Received: none; pip install "\.\[imagenet\]"'):
        imagenet.pretrained_model()


@pytest.mark.parametrize(
    "parts, message",
    [
        ([0, *HEAD[1:], {}, []], "no file of torch.save"),
        ([*HEAD, os.getcwd, []], "getcwd where tensors were expected"),
        ([*HEAD], "Ran out of input"),
    ],
)
def test_other_files_are_told_and_no_code_of_them_runs(tmp_path, monkeypatch, parts, message):
    content = io.BytesIO()
    for part in parts:
        pickle.dump(part, content, protocol=2)
    path = tmp_path / "weights.pth"
    path.write_bytes(content.getvalue())
    monkeypatch.setattr(imagenet, "weights_file", lambda: str(path))
    with pytest.raises(
        UserError, match=f"Expected the weights of EfficientNet-Lite0 in .*{message}.*; install them anew"
    ):
        imagenet.pretrained_model()
