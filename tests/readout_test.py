"""The linear reading of Conv-3: its ridge regression, how it joins a tower's margin, and what is deployed."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from galm_tf import evaluation, network_size, pipeline, preparation, readout, ridge, run_result, temperature
from galm_tf.config import Config
from galm_tf.derived import DerivedNetwork
from galm_tf.preprocess import scale_images
from galm_tf.run_folder import RunFolder
from galm_tf.search_space import Architecture
from galm_tf.strategies.tabular import RandomArchitecture
from galm_tf.supernet import build_supernet
from galm_tf.tracing import untraced
from galm_tf.validation import validation_labels
from small_domains import LEFT_OUT, few_images


@pytest.fixture(scope="module")
def data():
    """Features [90, 12] and labels [90, 6] of four patterns of the unknown; the last attribute is known nowhere."""
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, [*np.linspace(0.1, 5.0, 11), 1e-9], (90, 12))
    labels = (features @ rng.normal(size=(12, 6)) + rng.normal(size=(90, 6)) > 0).astype(np.float32)
    labels[:5, 1], labels[20:85, 2], labels[20:85, 3], labels[:, 5] = np.nan, np.nan, np.nan, np.nan
    return features.astype(np.float32), labels


@pytest.mark.parametrize("few", [0, 100])
def test_ridge_is_scikit_learns_on_the_known_rows(data, few, monkeypatch):
    monkeypatch.setattr(ridge, "_FEW_SOLUTIONS", few)  # both ways of many rows
    features, labels = data
    x = StandardScaler().fit_transform(features.astype(np.float64))
    for penalty, got in zip((1.0, 100.0), ridge.fit(features, labels, (1.0, 100.0))):
        scores = got(features)
        for i in range(5):
            known = np.isfinite(labels[:, i])
            expected = Ridge(alpha=penalty).fit(x[known], labels[known, i]).predict(x)
            np.testing.assert_allclose(scores[:, i], expected, atol=1e-5)
        assert (scores[:, 5] == 0).all()


@pytest.mark.parametrize("few, block", [(0, 8192), (100, 8192), (100, 7), (100, 1)])
@pytest.mark.parametrize("rows", [10, 90])
def test_ridge_with_weights_is_scikit_learns_with_weights(data, rows, few, block, monkeypatch):
    monkeypatch.setattr(ridge, "_FEW_SOLUTIONS", few)
    monkeypatch.setattr(ridge, "_BLOCK_ROWS", block)
    features, labels = (values[:rows] for values in data)
    weights = np.random.default_rng(3).uniform(0.1, 5.0, rows)
    weights /= weights.mean()
    x = StandardScaler().fit(features.astype(np.float64), sample_weight=weights).transform(features)
    for penalty, got in zip((1.0, 100.0), ridge.fit(features, labels, (1.0, 100.0), weights)):
        for i in range(5):
            known = np.isfinite(labels[:, i])
            expected = Ridge(alpha=penalty).fit(x[known], labels[known, i], sample_weight=weights[known]).predict(x)
            np.testing.assert_allclose(got(features)[:, i], expected, atol=1e-5)


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize("rows", [40, 90, 91])
def test_more_features_than_rows_give_scikit_learns_ridge_too(rows, few, monkeypatch):
    monkeypatch.setattr(ridge, "_FEW_SOLUTIONS", few)
    rng = np.random.default_rng(1)
    features = rng.normal(2.0, 3.0, (rows, 90)).astype(np.float32)
    labels = (rng.random((rows, 3)) < 0.4).astype(np.float32)
    labels[:30, 1] = np.nan  # of the last case, one label has more rows than features, the other fewer
    x = StandardScaler().fit_transform(features.astype(np.float64))
    for penalty, got in zip((0.1, 10.0), ridge.fit(features, labels, (0.1, 10.0))):
        for i in range(3):
            known = np.isfinite(labels[:, i])
            expected = Ridge(alpha=penalty).fit(x[known], labels[known, i]).predict(x)
            np.testing.assert_allclose(got(features)[:, i], expected, atol=1e-5)


def test_the_penalty_with_the_best_mean_auc_is_taken_and_the_middle_one_where_nothing_can_be_judged(data):
    features, labels = data
    fits = list(ridge.fit(features, labels, (1e-3, 1.0)))
    reverse = ridge.Ridge(-fits[0].weights, -fits[0].biases)
    assert ridge.choose([reverse, fits[0], reverse], features, labels) == 1
    assert ridge.choose([reverse, fits[0], fits[0]], features, labels) == 1  # the first among equals
    assert ridge.choose([fits[0]] * 3, features, np.full_like(labels, np.nan)) == 1


def test_a_blend_spreads_as_the_tower_does_and_orders_between_the_two(data):
    """On the images of its own domain: on others neither knows what it says."""
    features, labels = data
    (fitted,) = ridge.fit(features, labels, [10.0])
    margins = np.random.default_rng(1).normal(2.0, [1, 2, 3, 4, 5, 6], (90, 6))
    domains = np.random.default_rng(2).random((90, 6)) < 0.7
    for share in (0.0, 0.3, 1.0):
        blended = readout.blend(fitted, share, margins, features, domains)(margins, features)
        for i in range(5):
            rows = domains[:, i]
            got, own, read = blended[rows, i], margins[rows, i], fitted(features)[rows, i]
            assert got.mean() == pytest.approx(own.mean(), abs=1e-4)
            mean = (1 - share) * (own - own.mean()) / own.std() + share * (read - read.mean()) / read.std()
            np.testing.assert_allclose(got, own.mean() + own.std() * mean, atol=1e-3)
        np.testing.assert_allclose(blended[:, 5], margins[:, 5], atol=1e-6)  # nothing was known of it


def test_a_tower_that_says_the_same_of_all_leaves_the_word_to_the_reading(data):
    features, labels = data
    (fitted,) = ridge.fit(features, labels, [10.0])
    margins, own = np.full((90, 6), -0.7), np.ones((90, 6), bool)
    blended = readout.blend(fitted, 0.3, margins, features, own)(margins, features)
    read = fitted(features)[:, :5]
    np.testing.assert_allclose(blended[:, :5], -0.7 + (read - read.mean(axis=0)) / read.std(axis=0), atol=1e-3)
    np.testing.assert_allclose(readout.blend(fitted, 0.0, margins, features, own)(margins, features), -0.7, atol=1e-5)
    np.testing.assert_allclose(blended[:, 5], -0.7, atol=1e-5)


def test_where_one_image_is_of_an_attributes_own_domain_all_scale_its_reading(data):
    features, labels = data
    (fitted,) = ridge.fit(features, labels, [10.0])
    margins, every = np.random.default_rng(1).normal(2.0, 3.0, (90, 6)), np.ones((90, 6), bool)
    own = every.copy()
    own[1:, 0] = False
    for one, all_of_them in (
        [readout.blend(fitted, 0.3, margins, features, of) for of in (own, every)],
        [readout.alone(fitted, np.zeros(6), features, of) for of in (own, every)],
    ):
        np.testing.assert_array_equal(one(margins, features), all_of_them(margins, features))


def test_the_network_with_a_readout_adds_it_to_its_towers_and_counts_it():
    architectures = [Architecture.from_number(n) for n in (5, 2000)]
    supernet = build_supernet(2, 64, 0.0, 3)
    network = DerivedNetwork(architectures, supernet.weights, 8)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(8, 64, 64, 3)), tf.float32)
    network.calibrate(images)
    outputs = network.trunk(images)
    before, features = network.margins(outputs).numpy(), readout.features(outputs).numpy()
    np.testing.assert_array_equal(network(images), before)
    assert features.shape == (8, network_size.READ)
    conv3 = network.trunk(images)[2].numpy()
    np.testing.assert_allclose(
        features, conv3.reshape(8, 4, 2, 4, 2, 64).mean(axis=(2, 4)).reshape(8, -1), rtol=1e-4, atol=1e-5
    )
    beside = readout.Readout(*(rng.normal(size=shape).astype(np.float32) for shape in (2, (network_size.READ, 2), 2)))
    network.attach(beside)
    np.testing.assert_allclose(network(images).numpy(), beside(before, features), rtol=1e-4, atol=1e-3)
    network.rescale(np.array([0.25, 2.0]), np.array([3.0, -1.0]))
    expected = np.array([0.25, 2.0]) * beside(before, features) + [3, -1]
    np.testing.assert_allclose(network(images).numpy(), expected, rtol=1e-4, atol=2e-3)
    assert (
        sum(int(np.prod(v.shape)) for v in network.variables)
        == network_size.network_size(architectures, 8, network_size.READ, network_size.trunk_size(64)).parameters
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory, drawn):
    """A search of few steps, which take less than to trace them."""
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, image_size=32, warmup_steps=4, rounds=1, supernet_steps=0, batch_size=16, attributes_per_step=0,
        calibration_images=32, adapt_steps=2, finetune_steps=3, readout_share=1.0, cache_dir=drawn,
    )  # fmt: skip
    with few_images(12):
        prepared = preparation.prepare(config)
        folder = RunFolder.create(str(tmp_path_factory.mktemp("runs") / "run"), config)
        with untraced():
            search = pipeline.search(config, folder, prepared, RandomArchitecture)
        yield search, prepared


def test_a_run_reads_conv_3_of_all_images_that_train(searched):
    search, prepared = searched
    assert search.state.readout_penalty in ridge.PENALTIES
    network = pipeline.derive_network(search)
    log_odds = pipeline.test(network, prepared)
    split, labels = prepared.split, prepared.domain.labels
    train, test = np.concatenate([split.train, split.validation]), split.test
    train = train[np.isfinite(labels[train]).any(axis=1)]
    features = readout.features(network.trunk(scale_images(tf.constant(prepared.images)))).numpy()
    (expected,) = ridge.fit(features[train], labels[train], [search.state.readout_penalty])
    scores = expected(features[test])  # the share is 1: the order is the reading's alone
    for i in range(labels.shape[1]):
        order = np.argsort(scores[:, i])
        assert (np.diff(log_odds[order, i]) > -1e-4).all()
    result = run_result.build_result(search, prepared, log_odds)
    assert result["readout"] == {"share": 1.0, "penalty": search.state.readout_penalty}
    assert result["network"]["parameters"] == sum(int(np.prod(v.shape)) for v in network.variables)


def test_networks_are_as_sure_as_validation_found_right(searched):
    search, prepared = searched
    tuned = search.supernet.weights
    search._assign(search.supernet.variables, search.best)  # as they were judged, before the last phase
    judged = search.validation.judge_blend(search.state.chosen, 1.0)
    search._assign(search.supernet.variables, tuned)
    assert 0.2 < search.state.temperature < 10  # far from where it may not go
    assert search.state.temperature == pytest.approx(
        temperature.fit(judged.labels, judged.log_odds, search.validation.levels())[0], rel=1e-4
    )
    search.calibrate()
    its, found = search.state.temperature, []
    for search.state.temperature in (1.0, 4.0, its):
        found.append(pipeline.test(pipeline.derive_network(search), prepared))
    np.testing.assert_allclose(
        found[1], temperature.scaled(found[0], search.validation.levels(final=True), 4.0), rtol=1e-3, atol=1e-3
    )
    search.state.log_odds_shift = 0.5
    shifted = pipeline.test(pipeline.derive_network(search), prepared)
    search.state.log_odds_shift = 0.0
    np.testing.assert_allclose(shifted, found[2] + 0.5, rtol=1e-3, atol=1e-3)


def test_validation_is_judged_by_a_reading_that_has_not_seen_it(searched):
    search, prepared = searched
    search.validation.scoring.calibrate_trunk(prepared.images[search.validation.calibration_index()])
    split, labels = prepared.split, prepared.domain.labels
    found = search.validation.judge_blend(search.state.chosen, 1.0)
    penalty, aucs, judged = found.penalty, found.aucs, found.labels
    scored = split.validation[
        np.isfinite(validation_labels(prepared.domain.labels, split, split.validation)).any(axis=1)
    ]
    features = search.validation.readout_features(np.arange(len(labels)))
    fits = dict(zip(ridge.PENALTIES, ridge.fit(features[split.train], labels[split.train], ridge.PENALTIES)))
    values = {p: np.nanmean(evaluation.auc_per_attribute(judged, fit(features[scored]))) for p, fit in fits.items()}
    assert values[penalty] == pytest.approx(max(values.values()), abs=1e-6)
    np.testing.assert_allclose(aucs, evaluation.auc_per_attribute(judged, fits[penalty](features[scored])), atol=1e-3)


def test_a_share_of_none_leaves_it_out(searched, tmp_path):
    search, prepared = searched
    config = dataclasses.replace(search.config, readout_share=0.0)
    with untraced():
        plain = pipeline.search(config, RunFolder.create(str(tmp_path / "run"), config), prepared, RandomArchitecture)
    assert plain.state.readout_penalty is None
    result = run_result.build_result(plain, prepared, pipeline.test(pipeline.derive_network(plain), prepared))
    assert result["readout"] is None
    assert (
        result["network"]["parameters"]
        == network_size.network_size(
            map(Architecture.from_number, plain.state.chosen), 4, 0, network_size.trunk_size(32)
        ).parameters
    )
