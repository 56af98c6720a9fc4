"""`--trunk_model`: a Keras model's maps in place of Conv-1 to Conv-3, in a search and in all that follows it."""

import dataclasses
import json
import os
import shutil
import types

import main_flags
import numpy as np
import pytest
import tensorflow as tf
from add_attribute_test import TINY, N
from small_domains import LEFT_OUT, few_images

from galm_tf import (
    add_attribute,
    data,
    deploy,
    export,
    frozen_trunk,
    lite,
    main,
    network_size,
    pipeline,
    preparation,
    pretrained,
    readout,
    run_result,
    source_runs,
    trunk_training,
)
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.domains import load_domains
from galm_tf.draws import ANY_SEED
from galm_tf.errors import UserError
from galm_tf.predict import Predictor
from galm_tf.preprocess import scale_images
from galm_tf.read_back import read_readout
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.search import Search
from galm_tf.search_space import TRUNK_CHANNELS, Architecture
from galm_tf.tracing import untraced

KERAS = tf.keras.layers
RNG = np.random.default_rng(0)


def make_model(path, side=None, rescales=True, normalizes=False):
    """A small model that halves its images three times, with a padding and a layer more at the second side."""
    tf.keras.utils.set_random_seed(3)
    x = image = tf.keras.Input((side, side, 3))
    if rescales:
        x = KERAS.Rescaling(1 / 127.5, -1.0)(x)
    if normalizes:
        usual = KERAS.Normalization()
        usual.adapt(np.random.default_rng(0).normal([0, 1, 2], 3, (50, 4, 4, 3)))
        x = usual(x)
    x = KERAS.Conv2D(10, 3, 2, "same", activation="relu", name="first")(x)
    x = KERAS.Conv2D(24, 3, 2, "same", activation="relu", name="second")(x)
    x = KERAS.DepthwiseConv2D(3, 1, "same", name="depthwise")(x)
    x = KERAS.Conv2D(40, 1, name="expanded")(x)
    x = KERAS.ZeroPadding2D(((0, 1), (0, 1)), name="padded")(x)
    x = KERAS.Conv2D(80, 3, 2, name="third", activation="relu")(x)
    model = tf.keras.Model(image, KERAS.Dense(7)(KERAS.GlobalAveragePooling2D()(x)))
    model.save(path)
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where things go, with few generated images."""
    with few_images(10):
        yield tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def model(place):
    """(the model, its file)."""
    path = str(place / "small.keras")
    return make_model(path), path


@pytest.fixture(scope="module")
def finished(place, model, drawn):
    """(settings, folder, result) of a search on a taught trunk of the model, that was stopped and went on without the
    model's file, which is gone.
    """
    gone, path = shutil.copy(model[1], place / "gone.keras"), str(place / "A")
    steps = {"warmup_steps": 4, "supernet_steps": 2, "adapt_steps": 2, "finetune_steps": 2}
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, cache_dir=drawn, trunk_model=str(gone), trunk_steps=2, **{**TINY, **steps}
    )
    # so few steps take less than to trace them, until it goes on
    with pytest.MonkeyPatch.context() as patch, untraced(), pytest.raises(KeyboardInterrupt, match="Go on with"):
        patch.setattr(Search, "_run_controller", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        main.run(config, path)
    os.remove(gone)
    return config, path, main.run(dataclasses.replace(config, resume=True), path)


def _outputs(folder, images):
    return tf.saved_model.load(os.path.join(folder, "saved_model")).signatures["serving_default"](
        images=tf.constant(images)
    )


# ---- The maps -------------------------------------------------------------------------


def _begun(place, config, name, **settings):
    """(what a run with the settings works on, its trunk)."""
    config = dataclasses.replace(config, **settings)
    prepared = preparation.prepare(config)
    return prepared, pretrained.of_run(
        config, RunFolder.create(str(place / name), config), prepared.images, prepared.domain, prepared.split.train
    )


@pytest.fixture(scope="module")
def plain(place, model, finished):
    """(what a run on the model as it is works on, its trunk)."""
    return _begun(place, finished[0], "plain", trunk_model=model[1], trunk_steps=0)


def test_maps_are_those_of_the_layers_whitened_and_resized(model, plain):
    prepared, trunk = plain
    images = np.asarray(prepared.images[np.sort(prepared.split.train)])  # all of them: fewer than are drawn
    maps = trunk.maps(scale_images(tf.constant(images)))
    layers = ["first", "expanded", "third"]
    outputs = tf.keras.Model(model[0].inputs, [model[0].get_layer(n).output for n in layers])(
        tf.constant(images, tf.float32)
    )
    for got, raw, channels in zip(maps, outputs, TRUNK_CHANNELS):
        assert got.shape == (len(images), 8, 8, channels)
        raw = pretrained.resized(raw)
        rows, expected = got.numpy().reshape(-1, channels), raw.numpy().reshape(-1, raw.shape[-1])
        used = rows.std(axis=0) > 0
        assert used.sum() == min(channels, np.linalg.matrix_rank(np.cov(expected.T), tol=1e-6))
        np.testing.assert_allclose(np.cov(rows[:, used].T), np.eye(used.sum()), atol=0.02)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-3)
        # they are linear in the layer's map
        fitted = np.linalg.lstsq(np.c_[expected, np.ones(len(expected))], rows, rcond=None)[0]
        np.testing.assert_allclose(np.c_[expected, np.ones(len(expected))] @ fitted, rows, atol=2e-2)
    means = np.concatenate([raw.numpy().mean(axis=(1, 2)) for raw in outputs], axis=1)
    assert len(maps) == 4 and trunk.about["means"] == means.shape[1] == 10 + 40 + 80
    usual = np.abs(means).mean(axis=0)
    unit = 0.1 * (usual + 0.01 * usual.mean())
    np.testing.assert_allclose(maps[3], np.sign(means) * np.log1p(np.abs(means) / unit), rtol=1e-3, atol=1e-3)
    assert (means > 0).any() and (means < 0).any() and np.abs(maps[3]).max() < 8


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_mixed_precision_is_a_trunk_too(place, finished, precision):
    config, path = finished[0], str(place / f"{precision}.keras")
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        make_model(path, normalizes=precision == "mixed_float16")  # Keras 2 reads no file of one in bfloat16
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    prepared, trunk = _begun(place, config, precision, trunk_model=path)
    images = scale_images(tf.constant(prepared.images[:3]))
    maps = trunk.maps(images)
    assert all(m.dtype == tf.float32 and np.isfinite(m).all() for m in maps) and np.std(maps[2]) > 0.1
    # it reckons in float32, with the same weights, which Lite has operations for
    taken, stored = pretrained._load_model(path, 32), tf.keras.models.load_model(path, compile=False)
    assert {layer.compute_dtype for layer in taken.layers} == {"float32"}
    pixels = tf.constant(prepared.images[:3], tf.float32)
    said, told = (model(pixels).numpy().astype(np.float32) for model in (taken, stored))
    np.testing.assert_allclose(said, told, atol=0.05 * np.std(told))
    assert len(lite.convert(taken, 32)) > 1000


def test_the_reading_beside_the_towers_is_of_all_channels(finished):
    config, path, result = finished
    model = tf.saved_model.load(os.path.join(path, "saved_model"))
    ((network, names),) = export.networks_of(model)
    read = read_readout(network)
    assert read.weights.shape == (130, len(names)) and result["readout"]["share"] == config.readout_share > 0
    row = next(iter(run_result.searched_rows(result).values()))
    architecture = Architecture.from_json(row["architecture"])
    assert row["multiply_adds"] == network_size.tower_size(architecture, 8, 0).multiply_adds + 130


def test_a_trunk_of_an_earlier_version_gives_three_maps_and_conv_3_is_read():
    maps = [tf.random.stateless_normal([3, 8, 8, c], [c, 0]) for c in TRUNK_CHANNELS]
    np.testing.assert_allclose(readout.features(maps), tf.reshape(tf.nn.avg_pool2d(maps[2], 2, 2, "VALID"), [3, -1]))
    assert network_size.numbers_read({"layers": []}) == network_size.numbers_read() == 16 * 64


def test_the_trunk_says_what_it_is_made_of(finished):
    trunk = finished[2]["trunk"]
    assert (trunk["model"], trunk["layers"], trunk["pixels"]) == ("gone.keras", ["first", "expanded", "third"], "raw")
    convolutions = 16**2 * 27 * 10 + 8**2 * (90 * 24 + 9 * 24 + 24 * 40) + 4**2 * 360 * 80
    projections = 16**2 * 10 * 16 + 8**2 * 40 * 32 + 4**2 * 80 * 64
    assert trunk["multiply_adds"] == convolutions + projections
    weights = (27 + 1) * 10 + (90 + 1) * 24 + (9 + 1) * 24 + (24 + 1) * 40 + (360 + 1) * 80
    units = 10 + 40 + 80  # of the means
    assert trunk["parameters"] == weights + (10 + 1) * 16 + (40 + 1) * 32 + (80 + 1) * 64 + units
    assert trunk["unprojected"] == {"multiply_adds": convolutions, "parameters": weights + units}


@pytest.mark.parametrize("side", [2, 4, 7, 8, 11, 14, 16, 25, 28, 56])
def test_a_resize_keeps_constants_and_places(side):
    ramp = np.broadcast_to((np.arange(side, dtype=np.float32)[:, None, None] + 0.5) / side, (side, side, 1))
    maps = pretrained.resized(tf.constant(np.stack([np.ones_like(ramp), ramp, ramp.transpose(1, 0, 2)])))
    ones, down, across = maps.numpy()[..., 0]
    np.testing.assert_allclose(ones, np.ones((8, 8)), atol=1e-6)
    np.testing.assert_allclose(down, across.T, atol=1e-6)
    clamped = np.clip((np.arange(8) + 0.5) / 8, 0.5 / side, 1 - 0.5 / side)
    np.testing.assert_allclose(
        down, np.broadcast_to(clamped[:, None], (8, 8)), atol=1e-6 if side % 2 == 0 or side < 16 else 1 / side
    )


def test_whitening_leaves_out_what_does_not_vary():
    rows = RNG.normal(size=(500, 3)).astype(np.float32) @ RNG.normal(size=(3, 6)).astype(np.float32) + 5
    kernel, bias = pretrained.whitening(rows, 5)
    assert kernel.shape == (6, 5) and kernel.dtype == bias.dtype == np.float32
    np.testing.assert_allclose(np.cov((rows @ kernel + bias).T), np.diag([1, 1, 1, 0, 0]), atol=1e-3)
    still = pretrained.whitening(np.full((50, 4), 2, np.float32), 2)
    assert not still[0].any() and not still[1].any()


def test_pixels_are_scaled_as_the_model_expects(place, plain, finished):
    """Rescaling within the model, and the same by --trunk_pixels, give the same maps."""
    path = str(place / "plain.keras")
    make_model(path, rescales=False)
    prepared, trunk = _begun(place, finished[0], "tf", trunk_model=path, trunk_pixels="tf", trunk_steps=0)
    images = np.asarray(prepared.images[:5])
    maps = [t.maps(scale_images(tf.constant(images))) for t in (trunk, plain[1])]
    for one, other in zip(*maps):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_model_of_whole_pixels_sees_each_as_it_is():
    x = image = tf.keras.Input((32, 32, 3), dtype="uint8")
    x = KERAS.Rescaling(1.0, name="same")(x)
    for name in ("second", "third"):
        x = KERAS.AveragePooling2D(2, name=name)(x)
    config = Config(image_size=32, trunk_model="whole.keras")
    backbone = pretrained._maps_of(tf.keras.Model(image, x), ("same", "second", "third"), config)
    pixels = (np.arange(32 * 32 * 3) % 256).astype(np.uint8).reshape(1, 32, 32, 3)
    seen = pretrained._Trunk(backbone, "raw", 32)._raw(scale_images(tf.constant(pixels)))[0]
    np.testing.assert_array_equal(seen, pixels)


def test_small_maps_are_warned_of(tmp_path, caplog):
    x = image = tf.keras.Input((None, None, 3))
    for number in range(4):
        x = KERAS.Conv2D(4, 3, 2, "same", name=f"conv{number}")(x)
    tf.keras.Model(image, x).save(tmp_path / "deep.keras")
    for size, said in ((32, "has 2 positions a side at 32 pixels"), (64, "")):
        caplog.clear()
        config = Config(image_size=size, trunk_model=str(tmp_path / "deep.keras"))
        pretrained.expect_model(config)
        assert pretrained._backbone(config)[0] == ("conv1", "conv2", "conv3")
        assert said in caplog.text and bool(said) == bool(caplog.text)


# ---- Teaching its upper layers ----------------------------------------------------------


def _taught(place, config, name, **settings):
    """(trunk, what it gives of five images) of a run that begins with the settings."""
    prepared, trunk = _begun(place, config, name, **settings)
    return trunk, [m.numpy() for m in trunk.maps(scale_images(tf.constant(np.asarray(prepared.images[:5]))))]


def test_upper_layers_learn_and_the_others_stay(place, model, finished):
    config = dataclasses.replace(finished[0], trunk_model=model[1], trunk_learning_rate=3e-3)
    (untaught, before), (trunk, after), (again, same) = (
        _taught(place, config, name, trunk_steps=steps)
        for name, steps in (("untaught", 0), ("taught", 40), ("taught-again", 40))
    )
    assert "steps" not in untaught.about and trunk.about["steps"] == 40
    first, last = trunk.about["loss"]
    assert last < 0.97 * first < 1.0, (first, last)
    np.testing.assert_array_equal(before[0], after[0])
    assert all(np.abs(before[i] - after[i]).max() > 0.1 for i in (1, 2))
    # means of the lower layers; their unit goes by all
    np.testing.assert_allclose(before[3][:, :10], after[3][:, :10], atol=0.05)
    assert np.abs(before[3][:, 10:] - after[3][:, 10:]).max() > 0.2
    assert trunk.digest != untaught.digest and all(np.allclose(a, b, atol=1e-3) for a, b in zip(after, same))
    assert {k: v for k, v in trunk.about.items() if k not in ("steps", "loss")} == untaught.about


def test_validation_and_test_images_teach_nothing_and_runs_of_all_seeds_share_a_trunk(place, model, finished):
    prepared = preparation.prepare(finished[0])

    def taught(name, change, **settings):
        config = dataclasses.replace(finished[0], trunk_model=model[1], trunk_steps=3, **settings)
        images, labels = np.array(prepared.images), prepared.domain.labels.copy()
        others = np.setdiff1d(np.arange(len(images)), prepared.split.train)
        if change:
            images[others], labels[others] = 255 - images[others], 1 - labels[others]
        domain = dataclasses.replace(prepared.domain, labels=labels)
        assert len(others) > 10 and domain.shares is None
        return pretrained.of_run(
            config, RunFolder.create(str(place / name), config), images, domain, prepared.split.train
        ).digest

    assert taught("own", change=False) == taught("changed", change=True) == taught("seed", change=False, seed=1)


def test_upper_layers_learn_the_labels_of_each_picture_from_how_frequent_they_are():
    """Bright pictures carry the one attribute, and of the other nothing is known; most are of one class."""
    rng, n = np.random.default_rng(0), 120
    bright = rng.random(n) < 0.4
    images = np.where(bright[:, None, None, None], 180, 80) + rng.integers(-60, 60, (n, 4, 4, 3))
    targets = np.stack([bright, np.full(n, np.nan)], axis=1).astype(np.float32)
    targets[:10, 0] = np.nan  # teach nothing
    domain = types.SimpleNamespace(
        targets=targets, labels=targets, class_ids=(np.arange(n) % 12 == 0) + 0, image_domains=np.zeros(n, int)
    )
    config = types.SimpleNamespace(
        batch_size=16, trunk_steps=150, trunk_learning_rate=1e-3, class_balance=1.0, augment_flip=False, augment_crop=0.0,
        augment_color=0.0,
    )  # fmt: skip
    scale, index = tf.Variable(tf.ones([48])), np.arange(100)

    def means(pictures):
        return tf.reshape(pictures, [-1, 48]) * scale

    images = images.astype(np.uint8)
    usual = means(scale_images(tf.constant(images))).numpy()
    losses = trunk_training.train(means, [scale], usual, images, domain, index, config)
    assert len(losses) == 150 and np.mean(losses[-20:]) < 0.25
    weights = data.class_weights(index[10:], domain, config)
    level = data.log_odds(targets[index[10:], :1], weights)
    rows = data.BatchPlan(index[10:], 16, ANY_SEED, weights).at(0)
    expected = np.logaddexp(0, np.where(bright[rows], -level, level)).mean()  # before it has learned anything
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert np.ptp(scale.numpy()) > 0


def test_a_model_of_nothing_to_teach_is_one_sentence(place, finished):
    image = tf.keras.Input((None, None, 3))
    maps = [KERAS.AveragePooling2D(2 * 2**i, name=f"pool{i}")(image) for i in range(3)]
    path = str(place / "still.keras")
    tf.keras.Model(image, KERAS.Concatenate()([KERAS.GlobalAveragePooling2D()(m) for m in maps])).save(path)
    with pytest.raises(
        UserError,
        match="Expected float32 weights above the first .*Received: none; name lower layers by --trunk_layers, or give --trunk_steps=0",
    ):
        _taught(place, finished[0], "still", trunk_model=path, trunk_steps=2)


def test_what_learns_is_above_the_first_map_but_batch_norms():
    x = image = tf.keras.Input((None, None, 3))
    maps = []
    for number in range(3):
        x = KERAS.Conv2D(4, 3, 2, "same", name=f"conv{number}")(x)
        x = KERAS.BatchNormalization()(x)
        maps.append(x)
    y = KERAS.Conv2D(4, 1, name="beside")(maps[0])
    y = KERAS.AveragePooling2D(4)(y)
    inner = tf.keras.Sequential([KERAS.Conv2D(4, 1, use_bias=False), KERAS.BatchNormalization()], name="top")
    top = KERAS.Add()([inner(x), y])
    backbone = tf.keras.Model(image, [*maps[:2], top])
    backbone.trainable = False  # as a model that others have fine-tuned a head on may be stored
    weights = pretrained._upper_weights(backbone, "m.keras")
    expected = [w for name in ("conv1", "conv2", "beside") for w in backbone.get_layer(name).get_weights()] + [
        inner.layers[0].get_weights()[0]
    ]
    assert sorted(w.numpy().tobytes() for w in weights) == sorted(w.tobytes() for w in expected) and len(weights) == 7


def test_a_trunk_that_diverges_is_one_sentence_and_leaves_nothing(place, model, finished, monkeypatch):
    told = "Expected a finite loss in the trunk's training, step {}. Received: .*smaller --trunk_learning_rate"
    with pytest.raises(UserError, match=told.format(2)):
        more = dict(trunk_steps=2, trunk_learning_rate=1e30)  # by its last step
        _taught(place, finished[0], "diverged-last", trunk_model=model[1], **more)
    monkeypatch.setattr(trunk_training, "_READING_RATE", 1e38)
    with pytest.raises(UserError, match=told.format("[0-9]+")):
        _taught(place, finished[0], "diverged", trunk_model=model[1], trunk_steps=20)
    assert not any(os.path.exists(place / name / pretrained.FOLDER) for name in ("diverged", "diverged-last"))


def test_the_summary_tells_what_was_taught(finished):
    trunk = {name: value for name, value in finished[2]["trunk"].items() if name not in ("steps", "loss")}
    result = {**finished[2], "trunk": {**trunk, "steps": 100, "loss": [0.2364, 0.1997]}}
    assert "the trunk, gone.keras as it was (first" in main.summary({**result, "trunk": trunk}, "there")
    assert finished[2]["trunk"]["steps"] == 2 and len(finished[2]["trunk"]["loss"]) == 2
    assert "the trunk, gone.keras, its upper layers taught in 100 steps, loss 0.236 to 0.200 (first" in main.summary(
        result, "there"
    )


# ---- A run and what follows it ----------------------------------------------------------


def test_the_exported_model_holds_the_trunk(finished):
    config, path, result = finished
    prepared = preparation.prepare(config)
    images = np.asarray(prepared.images[prepared.split.test])
    probability = _outputs(path, images)["probability"].numpy()
    rows = run_result.searched_rows(result)
    for i, row in enumerate(rows.values()):
        if row["test_auc"] is not None:
            labels = prepared.domain.labels[prepared.split.test, i]
            positive, negative = probability[labels > 0.5, i], probability[labels <= 0.5, i]
            auc = np.mean((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))
            assert row["test_auc"] == pytest.approx(auc, abs=1e-3)
    assert (
        json.loads(tf.saved_model.load(os.path.join(path, "saved_model")).serve_metadata()["json"].numpy())["trunk"]
        == result["trunk"]
    )
    towers = sum(row["multiply_adds"] for row in rows.values())
    assert result["network"]["multiply_adds"] == towers + result["trunk"]["multiply_adds"]


def test_some_attributes_are_deployed_with_it(place, finished):
    path, images = finished[1], RNG.integers(0, 256, (4, 32, 32, 3), np.uint8)
    names = list(run_result.searched_rows(finished[2]))[3:5]
    expected = _outputs(path, images)["probability"].numpy()[:, 3:5]
    for out in (str(place / "two.tflite"), str(place / "two")):
        told = deploy.deploy(path, out, names)
        assert f"2 of {N} attributes" in told
        np.testing.assert_allclose(Predictor(out)(images)[0], expected, atol=1e-4)


def _labels(config, name):
    domain = load_domains(config)
    return domain.labels[:, domain.attributes.index(name)]


@pytest.fixture(scope="module")
def extended(place, finished):
    """(folder, result, how many images its trunk was computed for) of the run with one attribute more."""
    config, source, _ = finished
    names = [p.split("seed0/")[1] for p in load_domains(config).paths]
    table = place / "more.csv"
    table.write_text(
        "image,treeless\n" + "".join(f"{n},{1 - int(v)}\n" for n, v in zip(names, _labels(config, "sun/trees"))),
        encoding="utf-8",
    )
    path = str(place / "A-plus")
    settings = main_flags.settings(f"--add_attribute={table}", f"--source_run={source}", f"--run_dir={path}")
    computed, batches = [], frozen_trunk._batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_trunk, "_batches", lambda images, index: computed.extend(index) or batches(images, index))
        return path, main.run(settings, path), len(computed)


def test_an_addition_has_the_maps_of_the_run_from_the_cache(finished, extended):
    assert extended[2] == 0
    kept = [name for name in os.listdir(finished[0].cache_dir) if "-maps-" in name]
    assert len(kept) >= 2  # as they are, and changed


def test_an_attribute_is_added_on_the_same_trunk(finished, extended):
    images = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
    before, after = (_outputs(path, images) for path in (finished[1], extended[0]))
    np.testing.assert_array_equal(after["probability"][:, :N], before["probability"])
    assert after["probability"].shape == (6, N + 1) and extended[1]["num_attributes"] == N + 1
    assert pretrained.read(extended[0]).about == finished[2]["trunk"]
    new, trunk = extended[1]["per_attribute"]["sun/treeless"], finished[2]["trunk"]
    stored = [
        sum(
            int(np.prod(shape))
            for name, shape in tf.train.list_variables(os.path.join(path, "saved_model", "variables", "variables"))
            if "VARIABLE_VALUE" in name
        )
        for path in (finished[1], extended[0])
    ]
    assert (
        stored[1] - stored[0]
        == new["parameters"]
        == extended[1]["network"]["parameters"] - finished[2]["network"]["parameters"]
    )
    assert (
        extended[1]["network"]["multiply_adds"]
        == finished[2]["network"]["multiply_adds"] + new["multiply_adds"] + trunk["multiply_adds"]
    )


def test_an_extended_run_can_be_deployed_and_added_to(place, finished, extended):
    images = RNG.integers(0, 256, (4, 32, 32, 3), np.uint8)
    deploy.deploy(extended[0], str(place / "last"), ["treeless", "trees"])
    expected = _outputs(extended[0], images)["probability"].numpy()
    names = list(run_result.searched_rows(extended[1]))
    np.testing.assert_allclose(
        Predictor(str(place / "last"))(images)[0], expected[:, [N, names.index("sun/trees")]], atol=1e-4
    )
    began = dataclasses.replace(read_config(extended[0]), add_attribute="", source_run=("elsewhere",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(add_attribute, "_stored_settings", lambda *_: began)  # of a run that itself began from another
        assert add_attribute.source_settings((extended[0],), "another.csv", ("policy", "towers")).source_run == (
            extended[0],
        )
    config = add_attribute.source_settings((extended[0],), "another.csv", ("towers",))
    assert (
        config.trunk_model == finished[0].trunk_model
        and add_attribute.read_finished(config).source.pretrained is not None
    )


def test_another_domain_starts_from_the_run_with_its_trunk(place, finished, drawn, monkeypatch):
    flags = [f"--{k}={v}" for k, v in TINY.items()]
    config = main_flags.settings(
        "--domain=awa", f"--source_run={finished[1]}", f"--cache_dir={drawn}", "--controller_steps=6", *flags
    )
    assert config.trunk_model == finished[0].trunk_model
    other = main_flags.settings(f"--source_run={finished[1]}", "--trunk_steps=5", "--image_size=32")
    with pytest.raises(
        UserError,
        match="Expected the trunk_steps of --source_run=.*, which is 2. Received: trunk_steps=5; set --trunk_steps=2",
    ):
        source_runs.expect_fitting(finished[1], other)
    monkeypatch.setattr(Search, "run", lambda *_: None)  # what it starts from is enough
    prepared = preparation.prepare(config)
    search = pipeline.search(config, RunFolder.create(str(place / "T"), config), prepared, ControllerTraining)
    assert search.trunk.about == finished[2]["trunk"] and search.state.transfer["parts"] == [
        "policy",
        "trunk",
        "towers",
    ]
    images = scale_images(tf.constant(RNG.integers(0, 256, (3, 32, 32, 3), np.uint8)))
    for ours, theirs in zip(*(pretrained.read(path).maps(images) for path in (str(place / "T"), finished[1]))):
        np.testing.assert_array_equal(ours, theirs)
    matches, given = search.state.transfer["matches"], source_runs.read_source(finished[1], config)
    assert len({m["auc"] for m in matches.values()}) > 3
    for row, name in enumerate(prepared.domain.attributes):
        theirs = given.weights["conv4/kernel3"][given.attributes.index(matches[name]["attribute"])]
        np.testing.assert_array_equal(search.supernet.variables["conv4/kernel3"][row], theirs)


# ---- Bad input ----------------------------------------------------------------------------


def _start(config, path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(preparation, "prepare", None)  # it is told before the data are read
        main.run(config, str(path))
    assert not os.path.exists(path)  # the repaired command can have the name
    return str(caught.value)


def test_a_file_that_is_no_model(tmp_path, finished):
    config = finished[0]
    for name, said in (("none.keras", "no file"), (".", "a folder")):
        text = _start(dataclasses.replace(config, trunk_model=str(tmp_path / name)), tmp_path / "run")
        assert text.startswith("Expected a Keras model file in --trunk_model. Received:") and said in text
    (tmp_path / "bad.keras").write_text("no model")
    text = _start(dataclasses.replace(config, trunk_model=str(tmp_path / "bad.keras")), tmp_path / "run")
    assert "Expected a Keras model that Keras" in text and "bad.keras" in text
    image = tf.keras.Input((None, None, 3))
    tf.keras.Model(image, tf.keras.layers.Lambda(lambda x: x / 2)(image)).save(tmp_path / "lambda.keras")
    text = _start(dataclasses.replace(config, trunk_model=str(tmp_path / "lambda.keras")), tmp_path / "run")
    assert text.startswith("Expected a model without Lambda layers in --trunk_model") and text.endswith(
        "make it of other layers, or take another model."
    )


def test_a_model_of_other_images(tmp_path, finished):
    make_model(str(tmp_path / "large.keras"), side=64)
    text = _start(dataclasses.replace(finished[0], trunk_model=str(tmp_path / "large.keras")), tmp_path / "run")
    assert "Expected --image_size=64" in text and "Received: image_size=32" in text
    image = tf.keras.Input((None, None, 1))
    tf.keras.Model(image, KERAS.Conv2D(4, 3)(image)).save(str(tmp_path / "grey.keras"))
    text = _start(dataclasses.replace(finished[0], trunk_model=str(tmp_path / "grey.keras")), tmp_path / "run")
    assert "Expected a model of one input, images [batch, height, width, 3]" in text


def test_layers_that_are_none(tmp_path, model, finished):
    config = dataclasses.replace(finished[0], trunk_model=model[1])
    text = _start(dataclasses.replace(config, trunk_layers=("first", "secund", "third")), tmp_path / "run")
    assert "Received: secund; there are third, padded, expanded" in text
    text = _start(dataclasses.replace(config, trunk_layers=("third", "second", "first")), tmp_path / "run")
    assert "Received: third (4), second (8), first (16)" in text


def test_a_model_of_too_few_sides(tmp_path, finished):
    x = image = tf.keras.Input((None, None, 3))
    inner = tf.keras.Sequential(
        [tf.keras.Input((None, None, 3)), KERAS.Conv2D(4, 3, 2, "same"), KERAS.Conv2D(4, 3, 2, "same")], name="inner"
    )
    x = KERAS.Conv2D(3, 3, 2, "same", name="outer")(x)
    tf.keras.Model(image, KERAS.GlobalAveragePooling2D()(inner(x))).save(str(tmp_path / "nested.keras"))
    text = _start(dataclasses.replace(finished[0], trunk_model=str(tmp_path / "nested.keras")), tmp_path / "run")
    assert "Expected a model with maps of three sides" in text and "Received: maps of side 16" in text
    # as models are fine-tuned
    tf.keras.Model(image, KERAS.GlobalAveragePooling2D()(inner(image))).save(str(tmp_path / "wrapped.keras"))
    config = dataclasses.replace(finished[0], trunk_model=str(tmp_path / "wrapped.keras"))
    assert "Received: maps of side none that are not within a layer of layers" in _start(config, tmp_path / "run")
    text = _start(dataclasses.replace(config, trunk_layers=("a", "b", "c")), tmp_path / "run")
    assert "Received: a; none does that is not within a layer of layers: save a model without models inside." in text


def test_grouped_convolutions_products_at_every_position_and_transposed_ones_are_counted(tmp_path):
    x = image = tf.keras.Input((32, 32, 3))
    x = KERAS.Conv2D(16, 4, 4, name="first")(x)  # 8×8
    x = KERAS.Dense(24)(KERAS.Conv2D(16, 3, padding="same", groups=4)(x))
    x = KERAS.Conv2D(8, 2, 2, name="second")(x)  # 4×4
    x = KERAS.Conv2D(8, 2, 2)(KERAS.Conv2DTranspose(8, 2, 2)(x))
    x = KERAS.Conv2D(8, 2, 2, name="third")(x)  # 2×2
    path = str(tmp_path / "grouped.keras")
    config = Config(image_size=32, trunk_model=path)
    trunk = pretrained._Trunk(
        pretrained._maps_of(tf.keras.Model(image, x), ("first", "second", "third"), config), "raw", 32
    )
    layers = 64 * (48 * 16 + 9 * 4 * 16 + 16 * 24) + 16 * (96 * 8 + 8 * 32 + 32 * 8) + 4 * 32 * 8
    assert pretrained._multiply_adds(trunk, 32) == layers + 64 * 16 * 16 + 16 * 8 * 32 + 4 * 8 * 64


def test_products_of_attention_are_counted():
    x = image = tf.keras.Input((32, 32, 3))
    for number, kernel in enumerate((4, 2, 2)):  # 8×8, 4×4, 2×2
        x = KERAS.Conv2D(12, kernel, kernel, name=f"conv{number}")(x)
    rows = KERAS.Reshape((4, 12))(x)
    x = KERAS.Reshape((2, 2, 12), name="attention")(KERAS.MultiHeadAttention(2, 5)(rows, rows))
    names = ("conv0", "conv1", "attention")
    backbone = pretrained._maps_of(tf.keras.Model(image, x), names, Config(image_size=32, trunk_model="rows.keras"))
    convolutions = 64 * 48 * 12 + (16 + 4) * 4 * 12 * 12
    attention = 4 * 4 * 12 * 10 + 2 * 4 * 4 * 10
    projections = 64 * 12 * 16 + 16 * 12 * 32 + 4 * 12 * 64
    trunk = pretrained._Trunk(backbone, "raw", 32)
    assert pretrained._multiply_adds(trunk, 32) == convolutions + attention + projections
    summed = pretrained._summed("...ab,cb->...ac", [tf.TensorShape([1, 7, 2, 5]), tf.TensorShape([3, 5])])
    assert summed.as_list() == [5]


def test_layers_in_a_row_are_computed_once(tmp_path):
    """Keras 3 calls those of a Sequential anew with each that it is given."""
    kernels = [KERAS.Conv2D(c, 3, 2, "same", name=f"conv{c}") for c in (4, 6, 8)]
    path = str(tmp_path / "row.keras")
    tf.keras.Sequential([KERAS.Input((None, None, 3)), *kernels]).save(path)
    row = pretrained._load_model(path, 32)
    layers = pretrained.choose_layers(row, 32, path)
    backbone = pretrained._maps_of(row, layers, Config(image_size=32, trunk_model=path))
    trunk = pretrained._Trunk(backbone, "raw", 32)
    convolutions = 16**2 * 27 * 4 + 8**2 * 36 * 6 + 4**2 * 54 * 8
    assert layers == ("conv4", "conv6", "conv8") and len(pretrained._upper_weights(backbone, path)) == 4
    assert pretrained._multiply_adds(trunk, 32) == convolutions + 16**2 * 4 * 16 + 8**2 * 6 * 32 + 4**2 * 8 * 64
    images = tf.constant(RNG.integers(0, 256, (2, 32, 32, 3)), tf.float32)
    np.testing.assert_allclose(trunk._raw(scale_images(images))[2], row(images), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("settings, words", [
    (dict(trunk_model="m.keras", freeze_trunk=True), "Expected --trunk_model or --freeze_trunk, not both"),
    (dict(trunk_model="m.keras", source_run=("a", "b")), "Expected one source that hands its trunk over"),
    (dict(trunk_model="m.keras", source_run=("a",), transfer=("policy",)), "Expected one source that hands its trunk over"),
    (dict(trunk_model="m.keras", trunk_layers=("a", "b")), "Expected three names in --trunk_layers"),
])  # fmt: skip
def test_settings_that_contradict(settings, words):
    with pytest.raises(UserError, match=words):
        Config(**settings)


def test_flags_that_nothing_reads():
    with pytest.raises(UserError, match="Expected a --trunk_model beside --trunk_pixels.*Received: none"):
        main_flags.settings("--trunk_pixels=tf")
    with pytest.raises(UserError, match="Expected a --trunk_model beside --trunk_steps.*Received: none"):
        main_flags.settings("--trunk_steps=100")
    with pytest.raises(
        UserError, match="Expected a --trunk_steps beside --trunk_learning_rate.*Received: none; name a number of steps"
    ):
        main_flags.settings("--trunk_model=m.keras", "--trunk_learning_rate=0.1")


def test_a_source_on_another_trunk(tmp_path, finished):
    other = main_flags.settings(
        "--domain=awa", f"--source_run={finished[1]}", "--trunk_model=other.keras", "--image_size=32"
    )
    text = _start(other, tmp_path / "run")
    assert (
        f"Expected the trunk_model of --source_run={finished[1]}" in text
        and "Received: trunk_model=other.keras" in text
    )


def test_a_source_whose_trunk_is_damaged(tmp_path, finished):
    shutil.copytree(finished[1], tmp_path / "source")
    os.remove(tmp_path / "source" / "trunk" / "saved_model.pb")
    config = main_flags.settings(
        "--domain=awa", f"--source_run={tmp_path / 'source'}", "--image_size=32", f"--cache_dir={finished[0].cache_dir}"
    )
    with pytest.raises(UserError) as caught:
        main.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    text = str(caught.value)
    assert (
        f"Expected the pretrained trunk of the run {tmp_path / 'source'}" in text
        and "restore the folder from a copy" in text
    )
