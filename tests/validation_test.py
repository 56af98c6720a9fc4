"""Which validation images rewards are computed from."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_domains import few_images

from galm_tf import pipeline, preparation, readout, reward, ridge
from galm_tf.config import Config
from galm_tf.data import positive_weights
from galm_tf.schedule import Phase, cosine
from galm_tf.search import Search
from galm_tf.strategies import METHODS
from galm_tf.tracing import untraced
from galm_tf.validation import Validation, some_images, validation_labels


@pytest.fixture(scope="module")
def animals(drawn):
    """Settings, and eight images of each class."""
    config = Config(domain=("awa",), image_size=32, cache_dir=drawn, calibration_images=16)
    with few_images(8):
        return config, preparation.prepare(config)


def _search(config, prepared, **changes):
    """One that has not begun."""
    prepared = dataclasses.replace(prepared, **changes)
    return Search(config, prepared.domain, prepared.split, prepared.images, None, METHODS["random"])


def _judged_by_all(prepared):
    """The split, by which every validation image judges every attribute."""
    return dataclasses.replace(prepared.split, judged_by=("images",) * len(prepared.domain.attributes))


def test_rare_labels_stay_when_images_are_drawn():
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 6)) < [0.01, 0.99, 0.02, 0.5, 0.5, 0.5]).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    kept = some_images(labels, 60, np.random.default_rng(1))
    assert len(kept) == 60 and (np.diff(kept) > 0).all()
    for value in (0, 1):
        there = (labels == value).sum(axis=0)
        assert ((labels[kept] == value).sum(axis=0) >= np.minimum(there, 10)).all()
    other = some_images(labels, 60, np.random.default_rng(2))
    assert set(other) != set(kept)


def test_no_label_is_lost_however_few_images_are_asked_for():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 20)) < 0.05).astype(np.float32)
    labels[:, 3] = np.nan
    kept = some_images(labels, 4, np.random.default_rng(1))
    lost = [(labels[kept] == value).any(axis=0) != (labels == value).any(axis=0) for value in (0, 1)]
    assert not np.any(lost) and 4 < len(kept) < 40 and len(set(kept)) == len(kept)


def test_the_images_are_drawn_at_random_where_no_label_is_rare():
    labels = np.tile(np.float32([[0], [1]]), (200, 1))
    drawn = np.bincount(
        np.concatenate([some_images(labels, 100, np.random.default_rng(i)) for i in range(60)]), minlength=400
    )
    assert drawn.sum() == 6000 and 3 < drawn.min() and drawn.max() < 32  # 15 each, standard deviation 3.4


def test_rewards_come_from_some_images_and_the_judgement_from_all(animals):
    config = dataclasses.replace(animals[0], reward_images=40)
    validation = _search(config, animals[1], split=_judged_by_all(animals[1])).validation
    some, all_images = validation.scoring_images(0, config.reward_images), validation.scoring_images()
    assert len(some.labels) == 40 < len(all_images.labels) == len(validation.judge([0] * 20).labels)
    ours, every = (images.maps[2][16:].reshape(len(images.labels), -1) for images in (some, all_images))
    apart = cdist(ours, every)
    rows = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 1e-3 < np.sort(apart, axis=1)[:, 1].min()
    np.testing.assert_array_equal(some.labels, all_images.labels[rows])
    table = validation.exact_table("rewards")
    assert table.rewarded.all()
    expected = validation.engine(some).table([3])
    np.testing.assert_allclose(table.full[3], expected.full[0], atol=1e-6)
    assert not np.allclose(table.full[3], validation.engine(all_images).table([3]).full[0], atol=1e-3)


def test_images_whose_labels_judge_nothing_are_not_scored(animals):
    config, prepared = animals
    split = dataclasses.replace(prepared.split, judged_by=("classes",) * 20)
    held_out, every = split.validation_classes, split.validation
    assert 0 < len(held_out) < len(every)
    validation = _search(config, prepared, split=split).validation
    np.testing.assert_array_equal(validation.scoring_images().labels, prepared.domain.labels[held_out])
    assert len(validation.scoring_images(0, len(held_out)).labels) == len(validation.judge([5] * 20).labels)
    some = validation.scoring_images(0, 10)
    assert np.isfinite(some.labels).all() and len(some.labels) < len(held_out)
    whole = validation.features(every, validation_labels(prepared.domain.labels, split, every))
    tables = [validation.engine(images).table([3]).full for images in (validation.scoring_images(0), whole)]
    np.testing.assert_allclose(*tables, atol=1e-6)
    # the statistics are of all
    by_batch = _search(dataclasses.replace(config, reward_bn="batch"), prepared, split=split).validation
    assert len(by_batch.scoring_images(0).labels) == len(every) > len(by_batch.judge([5] * 20).labels)
    unjudged = dataclasses.replace(split, judged_by=("none",) * 20)
    assert len(_search(config, prepared, split=unjudged).validation.judge([5] * 20).labels) == len(every)


def test_a_domain_without_validation_images_has_no_rewards(drawn):
    config = Config(domain=("awa", "apay"), image_size=32, cache_dir=drawn, calibration_images=16, reward_images=40)
    with few_images(8):
        prepared = preparation.prepare(config)
    split = prepared.split
    own = {
        k: getattr(split, k)[prepared.domain.image_domains[getattr(split, k)] == 1]
        for k in ("validation_classes", "validation_images")
    }
    split = dataclasses.replace(split, **own)
    search = _search(config, prepared, split=split)
    table = search.validation.exact_table("rewards")
    np.testing.assert_array_equal(table.rewarded, prepared.domain.attribute_domains == 1)


def test_the_judge_sees_networks_as_they_are_exported_whatever_the_statistics_of_a_reward(animals):
    config, prepared = animals
    settings = [dataclasses.replace(config, reward_bn=statistics) for statistics in ("batch", "recalibrated")]
    validations = [_search(config, prepared).validation for config in settings]
    assert [v.scoring_images().num_calibration for v in validations] == [0, 16]
    judged = [v.judge([5] * 20) for v in validations]
    np.testing.assert_allclose(judged[0].log_odds, judged[1].log_odds, atol=1e-6)


def test_an_attribute_is_judged_by_what_may_judge_it(animals):
    config, prepared = animals
    split = dataclasses.replace(prepared.split, judged_by=("classes", "images", "none") + ("none",) * 17)
    assert len(split.validation_classes) and len(split.validation_images)
    labels = validation_labels(prepared.domain.labels, split, split.validation)
    whole = prepared.domain.labels[split.validation]
    held_out = np.isin(split.validation, split.validation_classes)
    np.testing.assert_array_equal(labels[:, 0], np.where(held_out, whole[:, 0], np.nan))
    np.testing.assert_array_equal(labels[:, 1], whole[:, 1])
    assert np.isnan(labels[:, 2:]).all() and np.isfinite(whole).all()


def test_the_adaptation_sees_no_image_of_validation_and_the_fine_tuning_all(animals):
    config, prepared = animals
    search, split = _search(config, prepared), prepared.split
    seen = {}
    for kind in ("warmup", "adapt", "finetune"):
        plan = search._batch_plan(Phase(kind, 0, 100, 0))
        seen[kind] = set(np.concatenate([plan.at(step) for step in range(40)]).tolist())
    validated = set(split.validation.tolist())
    assert not validated & (seen["warmup"] | seen["adapt"]) and len(validated & seen["finetune"]) > len(validated) / 2
    assert not set(split.test.tolist()) & set.union(*seen.values())


def test_rates_and_the_towers_that_train_go_by_the_step_of_the_whole_search(animals):
    steps = dict(warmup_steps=100, rounds=2, supernet_steps=60, adapt_steps=80, finetune_steps=70)
    config, prepared = dataclasses.replace(animals[0], attributes_per_step=7, **steps), animals[1]
    search, rates = Search(config, prepared.domain, prepared.split, prepared.images, None, METHODS["galm"]), {}
    for phase in search.schedule:
        rates.setdefault(phase.kind, []).extend(search._learning_rate(phase, step) for step in range(phase.steps))
    whole = [cosine(step, 220, config.learning_rate) for step in range(220)]  # one fall, in whichever phases
    assert rates["warmup"] + rates["supernet"] == pytest.approx(whole)
    for kind in ("adapt", "finetune"):
        peak = getattr(config, f"{kind}_learning_rate")
        assert rates[kind] == pytest.approx([cosine(i, steps[f"{kind}_steps"], peak) for i in range(len(rates[kind]))])
    drawn = [search._attributes(step) for step in range(300)]
    assert all(len(set(ids)) == 7 and (np.diff(ids) > 0).all() for ids in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    np.testing.assert_allclose(counts, 105, atol=4 * np.sqrt(300 * 0.35 * 0.65))
    np.testing.assert_array_equal(search._attributes(17), drawn[17])


def test_a_blend_is_scaled_by_images_that_train(animals, monkeypatch, eagerly):
    """Whichever images it judges beside one, what it says of that one stays."""
    monkeypatch.setattr(ridge, "PENALTIES", (1.0,))
    split = _judged_by_all(animals[1])
    validation = _search(*animals, split=split).validation
    whole = validation.judge_blend([5] * 20, 0.5).log_odds
    fewer = {k: getattr(split, k)[::3] for k in ("validation_classes", "validation_images")}
    validation._split = dataclasses.replace(split, **fewer)
    some = validation.judge_blend([5] * 20, 0.5).log_odds
    np.testing.assert_allclose(some, whole[np.isin(split.validation, validation._split.validation)], atol=1e-3)


def test_more_images_than_there_are_change_nothing(animals):
    validation = _search(*animals).validation
    assert len(validation.scoring_images(0, 10**6).labels) == len(validation.scoring_images(0).labels)


def _uneven(prepared, large):
    """The domain with every training image of most classes but five taken out of training, and its split so."""
    classes = prepared.domain.class_ids[prepared.split.train]
    kept = np.concatenate([np.flatnonzero(classes == c)[: None if c == large else 5] for c in np.unique(classes)])
    return dataclasses.replace(prepared.split, train=np.sort(prepared.split.train[kept]))


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_calibration_images_are_of_the_mixture_that_trains(drawn, balance):
    config = Config(domain=("awa",), image_size=32, cache_dir=drawn, calibration_images=64, class_balance=balance)
    with few_images(40):
        prepared = preparation.prepare(config)
    large = prepared.domain.class_ids[prepared.split.train][0]
    search = _search(config, prepared, split=_uneven(prepared, large))
    plan = search._batch_plan(Phase("warmup", 0, 100, 0))
    drawn_classes = [
        prepared.domain.class_ids[np.concatenate(parts)]
        for parts in ([plan.at(s) for s in range(100)], [search.validation.calibration_index()])
    ]
    trained, calibrated = (np.bincount(classes == large, minlength=2)[1] / len(classes) for classes in drawn_classes)
    assert calibrated == pytest.approx(trained, abs=0.1) and (trained < 0.15) == (balance == 1.0)


def test_parts_of_one_photograph_judge_on_the_same_side(animals):
    config, prepared = animals
    paths = tuple(prepared.domain.paths[i - i % 2] for i in range(len(prepared.domain.paths)))  # two to a photograph
    halves = []
    for domain in (prepared.domain, dataclasses.replace(prepared.domain, paths=paths)):
        search = _search(config, prepared, domain=domain, split=_judged_by_all(prepared))
        halves.append(search.validation.scoring_images().halves)
    shown = np.unique(np.array(paths)[prepared.split.validation], return_inverse=True)[1]
    pairs = [np.flatnonzero(shown == one) for one in range(shown.max() + 1)]
    assert all(len(set(halves[1][pair])) == 1 for pair in pairs) and any(
        len(set(halves[0][pair])) == 2 for pair in pairs
    )
    assert abs(halves[1].mean() - 0.5) < 0.1


def test_a_frozen_trunks_maps_are_computed_once_where_all_images_are_few(animals):
    config, prepared = animals
    supernet = _search(config, prepared).supernet
    validation = Validation(supernet, config, prepared.domain, prepared.split, prepared.images, frozen=True)
    assert validation.scoring_images(0, config.reward_images) is validation.scoring_images()
    assert validation.scoring_images(0, 20) is not validation.scoring_images()


@pytest.fixture(scope="module")
def weighed(animals):
    """Of the same weights, networks whose positives count alike in the loss, and ones whose rare ones count more."""
    split = _judged_by_all(animals[1])
    config = dataclasses.replace(animals[0], reward="accuracy", size_penalty=0.0)
    settings = [config, dataclasses.replace(config, imbalance="positive_weight")]
    plain, weighed = (_search(config, animals[1], split=split).validation for config in settings)
    offsets = weighed.margin_offsets()
    assert np.ptp(offsets) > 0.5 and not plain.margin_offsets().any()
    return plain, weighed, offsets


@pytest.mark.parametrize("blend", [False, True], ids=["towers", "readings beside them"])
def test_what_the_weight_of_positives_adds_is_taken_off_what_is_judged(weighed, blend, eagerly):
    plain, weighed, offsets = weighed
    judged = [v.judge_blend([5] * 20, 0.5) if blend else v.judge([5] * 20) for v in (plain, weighed)]
    np.testing.assert_allclose(judged[1].log_odds, judged[0].log_odds - offsets, atol=1e-3)


def test_an_accuracy_that_is_a_reward_is_at_what_the_weight_of_positives_adds(weighed):
    _, weighed, offsets = weighed
    images = weighed.scoring_images(0)
    scores = weighed.engine(images).scores(3).reshape(-1, len(images.labels))
    expected = reward.expand_heads(((scores > offsets[3]) == (images.labels[:, 3] > 0.5)).mean(axis=1))
    assert not np.allclose(expected, reward.expand_heads(((scores > 0) == (images.labels[:, 3] > 0.5)).mean(axis=1)))
    with untraced():
        table = weighed.exact_table("rewards")
    np.testing.assert_allclose(table.full[3], expected, atol=1.5 / len(images.labels))


def test_positives_weigh_the_same_in_all_phases(weighed, animals):
    """By the images that train, even where those of validation join them at last."""
    _, weighed, offsets = weighed
    split = animals[1].split
    labels = animals[1].domain.labels
    weights = [positive_weights(labels[index], Config().max_positive_weight) for index in (split.train, split.trained)]
    assert not np.allclose(*weights, rtol=1e-3)
    np.testing.assert_allclose(weighed.margin_offsets(final=True), np.log(weights[0]), rtol=1e-5)
    np.testing.assert_allclose(offsets, np.log(weights[0]), rtol=1e-5)


def test_no_image_of_validation_has_a_part_in_the_statistics_that_judge_it(animals, monkeypatch, eagerly):
    validation, split = _search(*animals).validation, animals[1].split
    pictures, fixed = animals[1].images, []
    calibrate = validation.scoring.calibrate_trunk
    monkeypatch.setattr(validation.scoring, "calibrate_trunk", lambda images: fixed.append(images) or calibrate(images))
    validation.judge([5] * 20)
    index = validation.calibration_index()
    assert len(index) == 16 and not set(index) & {*split.validation, *split.test}
    (images,) = fixed
    np.testing.assert_array_equal(images, np.asarray(pictures[index]))


def test_no_image_without_a_label_has_a_part_in_statistics(animals):
    """It teaches nothing, so that what it looks like says nothing of what towers have learned to read."""
    config, prepared = animals
    domain, train = prepared.domain, prepared.split.train
    labels, without = domain.labels.copy(), train[domain.class_ids[train] == domain.class_ids[train[0]]]
    labels[without] = np.nan
    search = _search(config, dataclasses.replace(prepared, domain=dataclasses.replace(domain, labels=labels)))
    for final in (False, True):
        index = search.validation.calibration_index(final)
        assert len(index) == 16 and not set(index) & set(without)


def test_readings_are_scaled_by_images_of_an_attributes_own_domain_among_those_of_their_phase(
    drawn, monkeypatch, eagerly
):
    """Of another domain's neither towers nor readings know what they say."""
    config = Config(domain=("awa", "apay"), image_size=32, cache_dir=drawn, calibration_images=32)
    with few_images(4):
        prepared = preparation.prepare(config)
    search, scaled = _search(config, prepared), []
    validation, state, rng = search.validation, search.state, np.random.default_rng(0)
    blend, alone = readout.blend, readout.alone
    monkeypatch.setattr(readout, "blend", lambda *given: scaled.append(given[2:]) or blend(*given))
    monkeypatch.setattr(readout, "alone", lambda *given: scaled.append(given[1:]) or alone(*given))
    state.chosen, state.readout_penalty = [5] * 40, 10.0
    validation.judge_blend(state.chosen, 0.5)
    pipeline.derive_network(search)
    read = Validation(None, config, prepared.domain, prepared.split, prepared.images, frozen=True)
    features = rng.normal(size=(len(prepared.images), 3))
    monkeypatch.setattr(read, "readout_features", lambda index: features[index])
    fitted = ridge.Ridge(rng.normal(size=(3, 40)), np.zeros(40))
    for final in (False, True):
        read.reading(fitted, final)
    for (level, seen, own), final in zip(scaled, (False, True, False, True)):
        index = validation.calibration_index(final)
        domains = prepared.domain.image_domains[index]
        np.testing.assert_array_equal(own, domains[:, None] == prepared.domain.attribute_domains)
        assert 0 < domains.mean() < 1 and len(seen) == 32
        reading_alone = level.ndim == 1
        if reading_alone:
            np.testing.assert_array_equal(level, read.levels(final))
        np.testing.assert_allclose(
            seen, features[index] if reading_alone else validation.readout_features(index), atol=1e-3
        )
    assert not np.array_equal(*(validation.calibration_index(final) for final in (False, True)))
