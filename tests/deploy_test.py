"""`python -m galm_tf.deploy`: some attributes of a model say what they said in the whole, as a SavedModel and in
TensorFlow Lite.
"""

import json
import os
import re
import resource
import shutil
import tempfile
import threading
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

from galm_tf import deploy, export, lite, predict
from galm_tf.derived import DerivedNetwork, ReadingNetwork
from galm_tf.errors import UserError
from galm_tf.predict import Options, Predictor
from galm_tf.preprocess import resize_images, scale_images
from galm_tf.read_back import read_back, read_readout
from galm_tf.readout import Readout
from galm_tf.search_space import Architecture
from galm_tf.supernet import TRUNK_WEIGHTS, build_supernet

SIZE, SEED = 64, 5
OLD, NEW = ["sun/warm, sunny", "sun/metal", "sun/trees", "sun/furry", "sun/night"], ["sun/glossy", "sun/wood"]
RNG = np.random.default_rng(SEED)
NUMBERS = {name: int(n) for name, n in zip(OLD + NEW, RNG.integers(0, 2304, len(OLD + NEW)))}
THRESHOLDS = dict(zip(OLD + NEW, [0.4, np.nan, 0.6, 0.5, 0.55, 0.3, 0.45]))


def make_network(names, seed, trunk=None, readout=True):
    """A network with batch norms and biases that are of some consequence, and a reading beside its towers."""
    rng = np.random.default_rng(seed)
    weights = build_supernet(len(names), SIZE, 0.0, seed).weights
    for name, value in weights.items():
        if "bias" in name or "beta" in name or "/mean" in name:
            weights[name] = rng.normal(0, 0.1, value.shape).astype(np.float32)
        elif "gamma" in name or "variance" in name:
            weights[name] = rng.uniform(0.5, 2, value.shape).astype(np.float32)
    weights.update({k: v for k, v in (trunk or {}).items() if k in TRUNK_WEIGHTS})
    network = DerivedNetwork([Architecture.from_number(NUMBERS[n]) for n in names], weights, SIZE // 8)
    network.calibrate(tf.constant(rng.normal(size=(8, SIZE, SIZE, 3)), tf.float32))
    if readout:
        parts = rng.uniform(0.3, 1, len(names)), rng.normal(0, 0.05, (1024, len(names))), rng.normal(size=len(names))
        network.attach(Readout(*(part.astype(np.float32) for part in parts)))
    return network, weights


def save(network, names, path, base=None, **changes):
    known = OLD + NEW if base else names
    metadata = {
        "architectures": {n: Architecture.from_number(NUMBERS[n]).to_json() for n in known},
        "val_mauc": 0.7,
        "test_mauc": 0.8,
        "notice": "drawn",
        "boxes": True,
    }
    settings = dict(
        attributes=names, thresholds=np.array([THRESHOLDS[n] for n in names]),
        image_size=SIZE, metadata=metadata, base=base,
    )  # fmt: skip
    export.export_saved_model(network, str(path), **{**settings, **changes})
    return str(path)


@pytest.fixture(scope="module")
def network():
    return make_network(OLD, 1)


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save(network[0], OLD, folder / "saved_model")
    return str(folder)


@pytest.fixture(scope="module")
def whole(run):
    """The run's model, to be read."""
    return Predictor(run)


@pytest.fixture
def read_once(run, whole, monkeypatch):
    """Reading the run's model takes longest of all: for tests of what is made of it, deploy has it read already."""
    read = deploy.Predictor
    monkeypatch.setattr(deploy, "Predictor", lambda model, **rest: whole if model == run else read(model, **rest))


@pytest.fixture(scope="module")
def extended(network, run, tmp_path_factory):
    """A run to which attributes were added, without a reading of their own."""
    folder = tmp_path_factory.mktemp("extended")
    base = tf.saved_model.load(os.path.join(run, "saved_model"))
    save(make_network(NEW, 2, network[1], readout=False)[0], NEW, folder / "saved_model", base)
    return str(folder)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for c in coarse])


def test_a_network_is_read_back_as_it_was(network):
    network, _ = network
    architectures = [Architecture.from_number(NUMBERS[n]) for n in OLD]
    again = DerivedNetwork(architectures, read_back(network, architectures), SIZE // 8)
    again.attach(read_readout(network))
    before, after = ({v.name: v.numpy() for v in n.variables} for n in (network, again))
    assert sum(map(np.size, before.values())) == sum(map(np.size, after.values()))
    for ours, theirs in zip(network.variables, again.variables):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), ours.name)


@pytest.mark.parametrize(
    "out, names",
    [
        ("some", ["furry", "warm, sunny", "metal"]),
        ("some", []),
        ("some.tflite", ["trees"]),
        ("some.tflite", ["furry", "warm, sunny", "metal"]),
    ],
)
def test_attributes_say_what_they_said_in_the_whole(run, whole, images, tmp_path, out, names):
    out = str(tmp_path / "new" / out)
    told = deploy.deploy(run, out, names)
    full = [f"sun/{n}" for n in names] or OLD
    part = Predictor(out)
    assert part.attributes == full and f"{len(full)} of 5 attributes" in told and part.notice == "drawn" and part.boxes
    columns = [OLD.index(n) for n in full]
    for given in (images[:1], images.repeat(2, 1)[:, 5:], images):  # of any size
        (expected, yes), (probability, decision) = whole(given), part(given)
        np.testing.assert_allclose(probability, expected[:, columns], atol=1e-5)
        np.testing.assert_array_equal(decision, yes[:, columns])
    assert np.ptp(expected) > 0.05
    np.testing.assert_array_equal(part.decides, [not np.isnan(THRESHOLDS[n]) for n in full])
    assert part.metadata["architectures"] == {n: whole.metadata["architectures"][n] for n in full}
    for mean in ("val_mauc", "test_mauc"):  # of all attributes
        assert (mean in part.metadata) == (not names)


def test_added_attributes_stand_beside_old_ones(extended, images, tmp_path):
    names, out = ["sun/wood", "sun/night", "sun/glossy"], str(tmp_path / "some.tflite")
    deploy.deploy(os.path.join(extended, "saved_model"), out, names)
    whole, part = Predictor(os.path.join(extended, "saved_model")), Predictor(out)
    assert whole.attributes == OLD + NEW and part.attributes == names
    np.testing.assert_allclose(part(images)[0], whole(images)[0][:, [6, 4, 5]], atol=1e-5)
    np.testing.assert_array_equal(whole.decides, [not np.isnan(THRESHOLDS[n]) for n in OLD + NEW])


def test_a_part_can_be_parted_again(run, whole, images, tmp_path, read_once):
    deploy.deploy(run, str(tmp_path / "two"), ["night", "trees"])
    deploy.deploy(str(tmp_path / "two"), str(tmp_path / "one.tflite"), ["trees"])
    expected = whole(images)[0][:, [2]]
    np.testing.assert_allclose(Predictor(str(tmp_path / "one.tflite"))(images)[0], expected, atol=1e-5)


@pytest.mark.parametrize("out", ["x.tflite", "x"])
def test_weights_that_there_are_not_are_refused_from_python_too(run, tmp_path, out):
    with pytest.raises(
        UserError, match="Expected --weights to be one of float32, .*Received: --weights=int4; nearest: int8"
    ):
        deploy.deploy(run, str(tmp_path / out), weights="int4")


def test_fewer_bytes_for_weights(run, whole, images, tmp_path, read_once):
    files = {weights: str(tmp_path / f"{weights}.tflite") for weights in lite.WEIGHTS}
    told = {weights: deploy.deploy(run, path, ["metal", "furry"], weights) for weights, path in files.items()}
    sizes = [os.path.getsize(files[weights]) for weights in lite.WEIGHTS]
    assert sizes[1] < 0.6 * sizes[0] and sizes[2] < 0.35 * sizes[0]
    expected = whole(images)[0][:, [1, 3]]
    apart = [np.abs(Predictor(files[weights])(images)[0] - expected).max() for weights in lite.WEIGHTS]
    assert apart[0] < 1e-5 < apart[1] < 0.01 and apart[1] < apart[2] < 0.1
    assert all(
        "by 0.0" in told[weights] and "on photographs by several times that" in told[weights]
        for weights in ("float16", "int8")
    )
    with zipfile.ZipFile(files["int8"]) as archive:
        assert json.loads(archive.read("metadata.json"))["converted"] == {
            "tensorflow": tf.__version__,
            "weights": "int8",
        }


def test_a_lite_file_tells_its_names_to_other_programs(run, tmp_path, read_once):
    path = str(tmp_path / "some.tflite")
    deploy.deploy(run, path, ["trees", "metal"])
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode() == "sun/trees\nsun/metal\n"
        assert json.loads(archive.read("metadata.json"))["thresholds"] == [0.6, None]
    runner = tf.lite.Interpreter(model_path=path).get_signature_runner()
    assert runner.get_input_details()["images"]["dtype"] == np.uint8 and list(runner.get_output_details()) == [
        "probability"
    ]


def test_predict_reads_a_lite_file(run, images, tmp_path, capfd, read_once):
    deploy.deploy(run, str(tmp_path / "some.tflite"), ["trees", "night"])
    Image.fromarray(images[0]).resize((200, 150)).save(tmp_path / "picture.png")
    outputs = []
    for model in (run, str(tmp_path / "some.tflite")):
        assert (
            predict.predict(Options(model, "csv", attributes=("trees", "night")), [str(tmp_path / "picture.png")]) == 0
        )
        captured = capfd.readouterr()
        outputs.append(captured.out)
        assert [line.split(":")[1] for line in captured.err.splitlines()] == [
            " the model was trained on a drawn",
            " the model was trained on parts of photographs, cut out by boxes",
        ]
    assert outputs[0].splitlines()[0] == outputs[1].splitlines()[0]
    rows = [[float(v) for v in output.splitlines()[1].split(",")[-2:]] for output in outputs]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


@pytest.fixture(scope="module")
def trees(run, tmp_path_factory):
    """A file of one attribute, to be read."""
    path = tmp_path_factory.mktemp("trees") / "some.tflite"
    deploy.deploy(run, str(path), ["trees"])
    return path


@pytest.fixture(scope="module")
def both(run, whole, tmp_path_factory):
    """One model as a SavedModel and in TensorFlow Lite."""
    path = str(tmp_path_factory.mktemp("both") / "all.tflite")
    deploy.deploy(run, path)
    return whole, Predictor(path)


@pytest.mark.parametrize("kind", [0, 1], ids=["SavedModel", "Lite"])
def test_threads_may_share_a_model(both, images, kind):
    given = [np.roll(images, i, axis=2)[: 1 + i % 3] for i in range(48)]
    alone = [both[kind](batch)[0] for batch in given]
    with ThreadPoolExecutor(4) as pool:
        for (probability, decision), expected in zip(pool.map(both[kind], given), alone):
            np.testing.assert_allclose(probability, expected, atol=1e-6)
            assert decision.shape == expected.shape


_PIXELS = "give pixel values 0 to 255 as uint8"


@pytest.mark.parametrize("kind", [0, 1], ids=["SavedModel", "Lite"])
@pytest.mark.parametrize(
    "change, received",
    [
        (lambda a: a[0], "uint8 [64, 64, 3]; add the batch axis, images[None]."),
        (lambda a: a[0] / 255, f"float64 [64, 64, 3]; {_PIXELS} and add the batch axis, images[None]."),
        (lambda a: a.astype(np.float32), f"float32 [3, 64, 64, 3]; {_PIXELS}."),
        (lambda a: a.astype(np.int64), f"int64 [3, 64, 64, 3]; {_PIXELS}."),
        (lambda a: a[..., [0, 1, 2, 0]], "uint8 [3, 64, 64, 4]; give three channels, red, green and blue."),
        (
            lambda a: a[..., 0],
            "uint8 [3, 64, 64]; add the batch axis, images[None] and give three channels, red, green and blue.",
        ),
        (lambda a: a[0, 0, 0, 0], "uint8 []; give a batch of pictures."),
        (lambda a: a[:, :0], "uint8 [3, 0, 64, 3]; give pictures that have pixels."),
        (lambda a: [a[0], a[0, :32]], "arrays of different shapes; resize them to one, or call once for each."),
    ],
)
def test_images_that_are_none_are_told_and_harm_nothing(both, images, kind, change, received):
    predictor = both[kind]
    expected = predictor(images)[0]
    with pytest.raises(UserError) as error:
        predictor(change(images))
    assert str(error.value) == f"Expected images as an array uint8 [B, H, W, 3]. Received: {received}"
    np.testing.assert_array_equal(predictor(list(images))[0], expected)


@pytest.mark.parametrize("kind", [0, 1], ids=["SavedModel", "Lite"])
def test_no_images_have_no_attributes(both, images, kind):
    for none, some in zip(both[kind](images[:0]), both[kind](images)):
        assert none.shape == (0, 5) and none.dtype == some.dtype
    assert both[kind](images)[0].shape == (3, 5)


def _spoil_conversion(monkeypatch, away):
    """Converts networks whose log-odds are so much more, as far as there are attributes."""
    convert = lite.convert

    def spoiled(network, size, weights):
        network.rescale(np.ones(network.num_attributes), away[: network.num_attributes])
        return convert(network, size, weights)

    monkeypatch.setattr(lite, "convert", spoiled)


def test_a_wrong_conversion_is_not_written(run, tmp_path, monkeypatch, read_once):
    _spoil_conversion(monkeypatch, np.ones(5))
    with pytest.raises(
        UserError,
        match="give the model's probabilities again. Received: some that are 0.* away; TensorFlow has converted",
    ):
        deploy.deploy(run, str(tmp_path / "new" / "some.tflite"))
    assert os.listdir(tmp_path) == []


class _Says:
    """A network, and its conversion, that say these probabilities of every picture."""

    num_attributes = 2

    def __init__(self, probabilities):
        self.probabilities = np.float32(probabilities)

    def __call__(self, images):
        said = np.tile(self.probabilities, (len(images), 1))
        return {"probability": tf.constant(said)} if images.dtype == np.uint8 else tf.math.log(said / (1 - said))


@pytest.mark.parametrize(
    "weights, within, beyond", [("float32", 8e-5, 1.2e-4), ("float16", 0.018, 0.022), ("int8", 0.18, 0.22)]
)
def test_how_far_probabilities_may_be_away_goes_by_the_bits_of_the_weights(weights, within, beyond, monkeypatch):
    images, expected = np.zeros((3, 16, 16, 3), np.uint8), np.full((3, 2), 0.5, np.float32)
    monkeypatch.setattr(lite, "convert", lambda network, size, weights: network)
    monkeypatch.setattr(lite, "LiteModel", lambda content, metadata: content)

    def part(away):
        metadata = {"image_size": 16, "attributes": ["sun/near", "sun/far"]}
        return deploy._Part([0, 1], _Says([0.5, 0.5 - away]), [None, None], 2, metadata, 0)

    assert deploy._converted(part(within), images, expected, weights)[1] == pytest.approx(within, rel=0.02)
    told = "converted the network wrongly" if weights == "float32" else r"away: sun/far \(0\.\d\d\); leave"
    with pytest.raises(UserError, match=told):
        deploy._converted(part(beyond), images, expected, weights)
    if weights == "float32":  # what stands in a SavedModel is asked for as closely
        assert deploy._tried(part(within), images, expected, "runs/a") == pytest.approx(within, rel=0.02)
        with pytest.raises(UserError, match="the model in runs/a is of an earlier version"):
            deploy._tried(part(beyond), images, expected, "runs/a")


def test_attributes_that_fewer_bits_take_too_far_are_named(run, tmp_path, monkeypatch, read_once):
    _spoil_conversion(monkeypatch, np.array([0, 0, 0, 0, 9]))
    with pytest.raises(
        UserError,
        match=r"by weights in int8, .* more than 0.2 away: sun/night \(0\.\d\d\); leave these .* --weights=float16 or float32\.",
    ):
        deploy.deploy(run, str(tmp_path / "five.tflite"), weights="int8")
    assert os.listdir(tmp_path) == []
    deploy.deploy(run, str(tmp_path / "two.tflite"), ["warm, sunny", "metal"], "int8")


def test_a_trunk_of_operations_that_lite_lacks_is_told_in_one_sentence(capfd):
    with pytest.raises(
        UserError, match=r"that TensorFlow Lite has. Received: one with tf\.MatrixDeterminant, .* --out=FOLDER"
    ):
        lite.convert(lambda images: tf.linalg.det(images[:, :3, :3])[:, None], 16)
    assert "MatrixDeterminant" not in capfd.readouterr().err


def test_a_trunk_that_lite_converts_but_cannot_run_is_told_in_one_sentence(monkeypatch):
    def fails(images):
        raise RuntimeError("Output shape must be broadcastable.\nNode number 35 (BROADCAST_TO) failed to prepare.")

    monkeypatch.setattr(lite, "convert", lambda *_: b"")
    monkeypatch.setattr(lite, "LiteModel", lambda content, metadata: fails)
    part = deploy._Part([0], None, [None], 2, {"image_size": 16}, 0)
    told = (
        r"Lite has. Received: one that it cannot run \(.* failed to prepare\), .*; write a SavedModel, by --out=FOLDER"
    )
    with pytest.raises(UserError, match=told):
        deploy._converted(part, np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 1), np.float32), "float32")


class _Pixels(tf.Module):
    """In place of a pretrained trunk: no maps, its pixels to be read."""

    def __call__(self, images):
        return [None, None, None, tf.reshape(images, [-1, 16 * 16 * 3])]


def test_a_temporary_folder_without_room_is_told(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))  # weights are of 12 KiB
    try:
        with pytest.raises(UserError, match=f"Expected room for temporary files in {tmp_path}. Received: .* TMPDIR"):
            _constant_lite(np.zeros(4), [None] * 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not capfd.readouterr().err and not os.listdir(tmp_path)


def test_small_readings_beside_large_ones_keep_their_figures_in_int8():
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(16 * 16 * 3, 2)) * [0.3, 0.003]).astype(np.float32)
    network = ReadingNetwork(Readout(np.zeros(2, np.float32), weights, np.zeros(2, np.float32)), _Pixels())
    images = rng.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
    model = lite.LiteModel(lite.convert(network, 16, "int8"), {"image_size": 16, "thresholds": [0.5, 0.5]})
    margins = network(scale_images(tf.constant(images))).numpy()[:, 1]
    found = model(images)["probability"].numpy()[:, 1]
    np.testing.assert_allclose(np.log(found / (1 - found)), margins, atol=0.05 * margins.std())


def _constant_lite(margins, thresholds):
    """A Lite model that says the same log-odds of every picture, of 16 by 16 pixels."""
    read = Readout(np.zeros(len(margins), np.float32), np.zeros((768, len(margins)), np.float32), np.float32(margins))
    content = lite.convert(ReadingNetwork(read, _Pixels()), 16)
    return lite.LiteModel(content, {"image_size": 16, "thresholds": thresholds})


def test_what_reaches_its_threshold_is_a_yes_in_lite_too():
    model = _constant_lite([0.0, 0.0, 0.0, 1.0], [0.5, None, 0.6, None])
    found = model(np.zeros((2, 16, 16, 3), np.uint8))
    np.testing.assert_array_equal(found["probability"][:, :3], 0.5)
    np.testing.assert_array_equal(found["decision"], [[True, True, False, True]] * 2)


def test_a_lite_file_takes_pictures_of_any_size():
    rng = np.random.default_rng(0)
    read = Readout(np.zeros(1, np.float32), rng.normal(0, 0.1, (768, 1)).astype(np.float32), np.zeros(1, np.float32))
    network = ReadingNetwork(read, _Pixels())
    model = lite.LiteModel(lite.convert(network, 16), {"image_size": 16, "thresholds": [0.5]})
    for shape in ((16, 40), (24, 16), (8, 8), (16, 16)):
        images = rng.integers(0, 256, (3, *shape, 3)).astype(np.uint8)
        expected = tf.sigmoid(network(scale_images(resize_images(tf.constant(images), 16))))
        np.testing.assert_allclose(model(images)["probability"], expected, atol=1e-5)


def test_a_file_runs_by_one_thread(monkeypatch):
    """Several wait for one another by spinning, which beside other processes takes many times as long."""
    interpreter, threads = tf.lite.Interpreter, []

    def watched(*arguments, num_threads, **more):
        threads.append(num_threads)
        return interpreter(*arguments, num_threads=num_threads, **more)

    monkeypatch.setattr(tf.lite, "Interpreter", watched)
    weights = np.zeros((16 * 16 * 3, 2), np.float32)
    network = ReadingNetwork(Readout(np.zeros(2, np.float32), weights, np.zeros(2, np.float32)), _Pixels())
    lite.LiteModel(lite.convert(network, 16), {"image_size": 16, "thresholds": [0.5, 0.5]})
    assert threads == [1]


def test_a_process_that_is_forked_off_while_a_thread_runs_a_file_runs_it_too(monkeypatch):
    model, found = _constant_lite([0.0], [0.5]), []

    def ask():
        found.extend(model(np.zeros((1, 16, 16, 3), np.uint8))["probability"].numpy().tolist() for _ in range(2))

    process, running, _ = model._loaded
    with running:  # for ever, since the thread is in the other process
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        asked = threading.Thread(target=ask, daemon=True)
        asked.start()
        asked.join(60)
        assert found == [[[0.5]]] * 2


def test_a_file_that_appears_meanwhile_stays(run, tmp_path, monkeypatch, read_once):
    convert, path = lite.convert, tmp_path / "some.tflite"

    def meanwhile(*arguments):
        path.write_text("mine")
        return convert(*arguments)

    monkeypatch.setattr(lite, "convert", meanwhile)
    with pytest.raises(UserError, match="Expected to write .*some.tflite. Received: File exists"):
        deploy.deploy(run, str(path), ["trees"])
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["some.tflite"]


def test_threads_of_a_process_that_is_forked_off_share_an_interpreter(monkeypatch):
    model, interpreter, made = _constant_lite([0.0], [0.5]), tf.lite.Interpreter, []

    def slow(**settings):
        made.append(settings)
        time.sleep(0.1)
        return interpreter(**settings)

    monkeypatch.setattr(tf.lite, "Interpreter", slow)
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model, [np.zeros((1, 16, 16, 3), np.uint8)] * 4))
    assert len(made) == 1 and [each["probability"].numpy().tolist() for each in found] == [[[0.5]]] * 4


def test_loading_hides_its_own_notices_alone(monkeypatch, capfd):
    model, interpreter = _constant_lite([0.0], [0.5]), tf.lite.Interpreter

    def noticing(**settings):
        os.write(2, b"another thread's\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        warnings.warn("\n    Warning: tf.lite.Interpreter is deprecated and is scheduled for deletion", stacklevel=1)
        return interpreter(**settings)

    monkeypatch.setattr(tf.lite, "Interpreter", noticing)
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as told:
        lite.LiteModel(model._content, model._metadata)
        warnings.warn("another's", stacklevel=1)
    messages, lines = [str(each.message) for each in told], capfd.readouterr().err
    assert "another's" in messages and not any("deprecated" in message for message in messages)
    assert "another thread's\n" in lines and "Created TensorFlow Lite" not in lines


def test_a_slash_and_capitals_do_not_matter(run, whole, images, tmp_path, read_once):
    deploy.deploy(run, f"{tmp_path}/some.TFLITE/", ["trees"])
    assert os.path.isfile(tmp_path / "some.TFLITE")
    expected = whole(images)[0][:, [2]]
    np.testing.assert_allclose(Predictor(f"{tmp_path}/some.TFLITE/")(images)[0], expected, atol=1e-5)


def test_another_version_that_cannot_run_a_file_says_so(trees, monkeypatch):
    """As 2.15 with int8 weights of 2.21."""

    def refuses(**settings):
        raise ValueError("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'.")

    monkeypatch.setattr(tf.lite, "Interpreter", refuses)
    made = re.escape(f"can run. Received: one made by {tf.__version__} with weights=float32 (Didn't find op")
    with pytest.raises(UserError, match=f"{made}.*; make it by this version"):
        Predictor(str(trees))


def test_an_unfinished_run_is_called_so(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="run .a run that has not finished.; finish it by .* --resume --run_dir=.*run"):
        deploy.deploy(str(tmp_path / "run"), str(tmp_path / "new"))
    (tmp_path / "run" / "result.json").write_text("{}")  # finished, its model lost
    with pytest.raises(UserError, match="it holds no .*metadata.json.; give --model=runs/NAME of a finished run"):
        deploy.deploy(str(tmp_path / "run"), str(tmp_path / "new"))


def test_nothing_is_written_over(run, tmp_path):
    for name in ("some", "some.tflite"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=f"a new name in --out. Received: .*{name}, which exists"):
            deploy.deploy(run, str(tmp_path / name))
        assert (tmp_path / name).read_text() == "mine" and len(os.listdir(tmp_path)) == 1
        os.remove(tmp_path / name)
        os.symlink("nowhere", tmp_path / name)
        with pytest.raises(UserError, match=f"a new name in --out. Received: .*{name}, which exists"):
            deploy.deploy(run, str(tmp_path / name))
        os.remove(tmp_path / name)


def test_formats_that_are_not_written_are_told(run, tmp_path):
    with pytest.raises(
        UserError, match="or one with .tflite. Received: out=.*net.ONNX; files with .onnx are not written"
    ):
        deploy.deploy(run, str(tmp_path / "net.ONNX"))


@pytest.mark.parametrize(
    "model, changes, message",
    [
        ("run", {"attributes": ["tres"]}, "that the model knows. Received: tres; did you mean trees"),
        (
            "run",
            {"weights": "int8"},
            "--weights=int8 beside a TensorFlow Lite file. Received: out=.*; name it .*new.tflite",
        ),
        (
            "nothing",
            {},
            "saved_model folder of a run. Received: model=nothing .no such folder.; give --model=runs/NAME",
        ),
        (
            "nothing.tflite",
            {},
            "a .tflite file of galm_tf.deploy. Received: model=nothing.tflite, no such file; check its path",
        ),
    ],
)
def test_bad_input_is_told(run, tmp_path, model, changes, message, read_once):
    with pytest.raises(UserError, match=message):
        deploy.deploy(run if model == "run" else model, str(tmp_path / "new"), **changes)
    assert os.listdir(tmp_path) == []


def test_a_list_of_attributes_that_is_empty_does_not_mean_all(run, tmp_path, monkeypatch, read_once):
    values = flags.FlagValues()
    for name in ("model", "out"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_list("attributes", [], "", flag_values=values)
    monkeypatch.setattr(deploy, "FLAGS", values)
    rest = values(["deploy", f"--model={run}", f"--out={tmp_path}/new", "--attributes="])
    with pytest.raises(UserError, match="Expected names in --attributes"):
        deploy.main(rest)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("new.tflite", "new"):
        with pytest.raises(
            UserError, match="Expected a folder to write into. Received: .*file, no folder; name another"
        ):
            deploy.deploy(run, str(tmp_path / "file" / "deeper" / name))


def test_a_part_is_none_to_be_named_again(run, tmp_path, read_once):
    deploy.deploy(run, str(tmp_path / "some.tflite"), ["trees", "", "trees"])
    assert Predictor(str(tmp_path / "some.tflite")).attributes == ["sun/trees"]
    for end in ("", os.sep):
        with pytest.raises(
            UserError, match="a run, or its saved_model folder. Received: model=.*some.tflite/?, which was made of one"
        ):
            deploy.deploy(str(tmp_path / "some.tflite") + end, str(tmp_path / "new"))


class _Earlier(export.ServingModule):
    """As earlier versions wrote it: offsets were subtracted from what its network gives."""

    offsets = np.linspace(-1, 2, len(OLD)).astype(np.float32)

    def __init__(self, network, **settings):
        super().__init__(network, **settings)
        self.json = json.dumps({**json.loads(self.json), "margin_offsets": self.offsets.tolist()})

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def serve_images(self, images):
        probability = tf.sigmoid(self._network(scale_images(self._resize(images))) - self.offsets)
        return {"probability": probability, "decision": probability >= 0.5, "attribute": self._attributes}


@pytest.fixture(scope="module")
def earlier(network, tmp_path_factory):
    """A run of an earlier version with positive weights."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "ServingModule", _Earlier)
        save(network[0], OLD, folder / "saved_model")
    return folder


@pytest.mark.parametrize("out", ["some", "some.tflite"])
def test_margins_of_an_earlier_version_are_shifted_as_it_says(whole, earlier, images, tmp_path, out):
    names = ["metal", "furry"]
    deploy.deploy(str(earlier), str(tmp_path / out), names)
    old, part = Predictor(str(earlier / "saved_model")), Predictor(str(tmp_path / out))
    columns = [OLD.index(f"sun/{n}") for n in names]
    np.testing.assert_allclose(part(images)[0], old(images)[0][:, columns], atol=1e-5)
    assert np.abs(old(images)[0] - whole(images)[0]).max() > 0.1
    assert "margin_offsets" not in part.metadata


def test_a_model_of_an_earlier_version_can_be_extended(network, earlier, images, tmp_path):
    base = tf.saved_model.load(str(earlier / "saved_model"))
    save(make_network(NEW, 2, network[1], readout=False)[0], NEW, tmp_path / "more" / "saved_model", base)
    deploy.deploy(str(tmp_path / "more"), str(tmp_path / "all"))
    whole, part = (Predictor(str(tmp_path / name)) for name in ("more/saved_model", "all"))
    np.testing.assert_allclose(part(images)[0], whole(images)[0], atol=1e-5)
    told = whole.model.serve_images(tf.constant(images))["threshold"]
    np.testing.assert_allclose(told, [THRESHOLDS[n] for n in OLD + NEW], rtol=1e-6)


def test_a_model_that_does_not_say_how_its_margins_are_shifted_is_refused(earlier, tmp_path):
    path = shutil.copytree(earlier, tmp_path / "run") / "saved_model" / export.METADATA
    metadata = json.loads(path.read_text())
    del metadata["margin_offsets"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(
        UserError, match="probabilities again. Received: some that are 0.* away; the model in .* earlier version"
    ):
        deploy.deploy(str(tmp_path / "run"), str(tmp_path / "new"))


def test_networks_on_different_trunks_are_refused(run, tmp_path):
    base = tf.saved_model.load(os.path.join(run, "saved_model"))
    path = save(make_network(NEW, 9)[0], NEW, tmp_path / "saved_model", base)
    with pytest.raises(UserError, match="cannot be taken apart, whose networks differ in conv1/kernel; search again"):
        deploy.deploy(path, str(tmp_path / "new"))


def test_a_network_of_other_shapes_is_that_of_an_earlier_version(run, tmp_path, monkeypatch, read_once):
    monkeypatch.setattr(deploy, "read_back", lambda *_: np.zeros((4, 3)) + np.zeros((4, 2)))
    told = "Received: one that cannot be taken apart, as those of earlier versions; search again."
    with pytest.raises(UserError, match=re.escape(told)):
        deploy.deploy(run, str(tmp_path / "new"))


@pytest.mark.parametrize(
    "kind, message",
    [
        ("empty", "carries no names"),
        ("other", "carries no names"),
        ("front", "carries no names"),
        ("changed", "not as it was written"),
    ],
)
def test_a_damaged_lite_file_is_told(trees, tmp_path, kind, message):
    path = tmp_path / "some.tflite"
    content = trees.read_bytes()
    if kind == "other":  # a zip archive of names follows, but not ours
        path.write_bytes(content[:5000])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "trees")
    else:
        path.write_bytes(
            {"empty": b"", "front": content[: len(content) // 2], "changed": content[:900] + b"x" + content[901:]}[kind]
        )
    with pytest.raises(UserError, match=f"a .tflite file of galm_tf.deploy. Received: .*some.tflite, .*{message}"):
        Predictor(str(path))


def test_a_network_of_another_kind_is_told(tmp_path):
    class Flat(tf.Module):
        def __call__(self, images):
            return tf.zeros([tf.shape(images)[0], 2])

    path = save(Flat(), NEW, tmp_path / "saved_model")
    with pytest.raises(UserError, match="cannot be taken apart, as those of earlier versions"):
        deploy.deploy(path, str(tmp_path / "new"))
