"""`--method=reading`: networks that are linear readings of a pretrained trunk, without a search."""

import dataclasses
import json
import os
import types

import main_flags
import numpy as np
import pytest
import tensorflow as tf
from pretrained_test import make_model
from scipy.special import logit
from small_domains import few_images

from galm_tf import (
    deploy,
    evaluation,
    frozen_trunk,
    main,
    network_size,
    pipeline,
    preparation,
    pretrained,
    readout,
    ridge,
    run_result,
    leakage,
    source_runs,
    temperature,
)
from galm_tf.config import Config
from galm_tf.data import class_weights
from galm_tf.derived import ReadingNetwork
from galm_tf.errors import UserError
from galm_tf.predict import Predictor
from galm_tf.preprocess import scale_images
from galm_tf.readings import Readings
from galm_tf.words import millions


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn):
    """(settings, folder, result) of a run that was stopped before it was fitted, and begun anew by --resume."""
    place = tmp_path_factory.mktemp("runs")
    make_model(str(place / "small.keras"))
    with few_images(10):
        config = Config(
            domain=("sun",),
            image_size=32,
            cache_dir=drawn,
            trunk_model=str(place / "small.keras"),
            method="reading",
            calibration_images=64,
            trunk_steps=2,
        )
        path = str(place / "A")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="Go on with"):
            patch.setattr(Readings, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            main.run(config, path)
        yield config, path, main.run(dataclasses.replace(config, resume=True), path)


@pytest.fixture(scope="module")
def prepared(finished):
    return preparation.prepare(finished[0])


def test_a_run_leaves_what_a_search_leaves_but_architectures(finished):
    config, path, result = finished
    rows = run_result.searched_rows(result)
    assert result["method"] == "reading" and result["choice_frequencies"] == {} and result["readout"]["share"] == 1.0
    assert {(row["architecture"], row["description"]) for row in rows.values()} == {
        (None, "linear reading of the trunk")
    }
    assert (
        0.0 < result["test_mauc"] < 1.0
        and 0.0 < result["val_mauc"] < 1.0
        and result["search"]["architectures_scored"] == 0
    )
    counted = result["search"]["phase_seconds"]
    assert (
        set(counted) == {"load", "trunk", "reading"}
        and result["search"]["seconds"] == counted["reading"] < sum(counted.values()) < result["seconds_total"]
    )
    for name in ("policy.npz", "curves.png", "tables", "checkpoints"):
        assert not os.path.exists(os.path.join(path, name)), name
    with open(os.path.join(path, "result.json"), encoding="utf-8") as file:
        assert json.load(file) == json.loads(json.dumps(result))
    told = main.summary(result, path)
    assert "20 attributes read in" in told and "curves.png" not in told and "fine-tuning" not in told


def test_a_reading_is_ridge_regression_on_all_images_that_train(finished, prepared):
    config, path, result = finished
    domain, split = prepared.domain, prepared.split
    features = readout.features(
        pretrained.read(path).maps(scale_images(tf.constant(np.asarray(prepared.images))))
    ).numpy()
    assert features.shape[1] == 130
    fits = [
        ridge.fit(features[i], domain.targets[i], ridge.PENALTIES, class_weights(i, domain, config))
        for i in (split.train, split.trained)
    ]
    labels = domain.labels[split.validation]
    aucs = [
        evaluation.mean_auc(evaluation.auc_per_attribute(labels, fit(features[split.validation]))) for fit in fits[0]
    ]
    place = ridge.PENALTIES.index(result["readout"]["penalty"])
    # images of classes that train do not judge every attribute
    assert aucs[place] == pytest.approx(max(aucs), abs=0.02)
    expected = evaluation.auc_per_attribute(domain.labels[split.test], fits[1][place](features[split.test]))
    got = [np.nan if row["test_auc"] is None else row["test_auc"] for row in run_result.searched_rows(result).values()]
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_the_test_is_the_same_by_maps_that_are_kept_and_by_pictures(finished, prepared, monkeypatch):
    config, path, _ = finished
    trunk, rng = pretrained.read(path), np.random.default_rng(0)
    read = readout.Readout(np.zeros(3), rng.normal(0, 0.1, (130, 3)).astype(np.float32), np.zeros(3, np.float32))
    network = ReadingNetwork(read, trunk.maps)
    searched = types.SimpleNamespace(config=config, trunk=trunk)
    expected = pipeline.test(network, prepared)
    computed = []
    monkeypatch.setattr(frozen_trunk, "_batches", lambda images, index: computed.extend(index) or [])
    np.testing.assert_allclose(pipeline.test(network, prepared, searched), expected, rtol=1e-3, atol=1e-4)
    assert not computed  # the run has tested them
    monkeypatch.setattr(frozen_trunk, "_CACHE_BYTES", 1000)  # too many to be held
    np.testing.assert_array_equal(pipeline.test(network, prepared, searched), expected)


def test_it_tells_which_images_it_has_seen(finished, prepared):
    seen = main.RunFolder(finished[1], lock=False).read_arrays(leakage.SEEN)["contents"]
    np.testing.assert_array_equal(seen, leakage.learned_digests(prepared.domain, prepared.split.trained))


def test_probabilities_are_about_the_frequencies_and_as_sure_as_validation_found_right(finished, prepared):
    config, path, result = finished
    validation = pipeline.read(
        dataclasses.replace(config, resume=True), main.RunFolder.resume(path, config), prepared
    ).validation
    level, index = validation.levels(final=True), validation.calibration_index(final=True)
    log_odds = logit(Predictor(path)(np.asarray(prepared.images[index]))[0].astype(np.float64))
    np.testing.assert_allclose(log_odds.mean(axis=0), level, atol=0.02)
    np.testing.assert_allclose(log_odds.std(axis=0), 1 / result["temperature"], rtol=0.02)
    judged = validation.judge_readings()
    assert result["temperature"] == pytest.approx(
        temperature.fit(judged.labels, judged.log_odds, validation.levels())[0], rel=1e-3
    )


@pytest.mark.parametrize("name", ["part", "part.tflite"])
def test_some_attributes_are_deployed(finished, prepared, tmp_path, name):
    _, path, result = finished
    names, out = list(run_result.searched_rows(result))[3:6], str(tmp_path / name)
    told = deploy.deploy(path, out, names)
    size = result["trunk"]["unprojected"]["multiply_adds"] + 3 * 130
    assert f"3 of 20 attributes: {millions(size, 'million')} multiply-adds" in told
    images = np.asarray(prepared.images[prepared.split.test[:20]])
    part, whole = Predictor(out), Predictor(path)
    assert part.attributes == names
    np.testing.assert_allclose(part(images)[0], whole(images)[0][:, 3:6], atol=1e-5)


def test_size_counts_the_trunk_and_the_readings(finished):
    _, path, result = finished
    ((network, _),) = deploy.export.networks_of(tf.saved_model.load(os.path.join(path, "saved_model")))
    weights, biases = network._readout
    trunk = network_size.trunk_size(32, result["trunk"], towers=False)  # without projections, which only towers read
    assert trunk.to_json() == result["trunk"]["unprojected"] and trunk.parameters < result["trunk"]["parameters"]
    assert result["network"]["parameters"] == trunk.parameters + int(tf.size(weights) + tf.size(biases))
    assert result["network"]["multiply_adds"] == trunk.multiply_adds + int(tf.size(weights))
    assert f"(first, expanded, third): {trunk.describe()}" in main.summary(result, path)
    earlier = {"multiply_adds": 7, "parameters": 5}
    assert network_size.trunk_size(32, earlier, towers=False) == network_size.Size(7, 5)


def test_a_label_that_is_known_of_no_image_has_its_frequency(finished):
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 2, (40, 2)).astype(np.float32)
    targets[:, 1] = np.nan
    (fitted,) = ridge.fit(features, targets, [10.0])
    read = readout.alone(fitted, np.array([0.5, -2.0]), features, np.ones((40, 2), bool))
    values = read(0.0, features)
    np.testing.assert_allclose(values[:, 1], -2.0)
    assert values[:, 0].mean() == pytest.approx(0.5, abs=1e-5) and values[:, 0].std() == pytest.approx(1.0, abs=1e-5)


def test_what_it_cannot_be_combined_with_is_refused(finished, tmp_path):
    config, path, _ = finished
    with pytest.raises(UserError, match="Expected --trunk_model beside --method=reading"):
        Config(method="reading")
    with pytest.raises(UserError, match="neither --source_run nor --imbalance"):  # not first a trunk, then no source
        Config(method="reading", source_run=("runs/A",))
    with pytest.raises(UserError, match="neither --source_run nor --imbalance"):
        dataclasses.replace(config, imbalance="balanced")
    with pytest.raises(UserError, match="neither --source_run nor --imbalance"):
        dataclasses.replace(config, source_run=("runs/A",))
    with pytest.raises(UserError, match="Expected a run with networks in --source_run=.* one of --method=reading"):
        source_runs.expect_finished(path)
    with pytest.raises(UserError, match="one of --method=reading"):
        main_flags.settings(f"--add_attribute={tmp_path}/new.csv", f"--source_run={path}")
    with pytest.raises(UserError, match="reads rewards beside --size_penalty"):
        main_flags.settings("--method=reading", f"--trunk_model={config.trunk_model}", "--size_penalty=0.5")
