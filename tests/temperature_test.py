import types

import numpy as np
import pytest
from scipy.special import expit, logit

from galm_tf import evaluation, pipeline, temperature
from galm_tf.search import State
from galm_tf.validation import Judged


def _drawn(count=4000, attributes=5, seed=0):
    """Labels drawn by log-odds about rare and common levels: (labels [n, N], log-odds, levels)."""
    rng = np.random.default_rng(seed)
    level = np.linspace(-3, 1, attributes)
    log_odds = level + rng.normal(0, 1.5, (count, attributes))
    return (rng.random(log_odds.shape) < expit(log_odds)).astype(np.float32), log_odds, level


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.5])
def test_the_temperature_that_was_planted_is_found(factor):
    labels, log_odds, level = _drawn()
    found, shift = temperature.fit(labels, temperature.scaled(log_odds, level, 1 / factor), level)
    assert found == pytest.approx(factor, rel=0.08)
    assert shift == 0.0


@pytest.mark.parametrize("factor, shift", [(0.5, 3.0), (2.5, -1.0)])
def test_a_planted_shift_is_found_beside_it(factor, shift):
    labels, log_odds, level = _drawn()
    rarer = level - shift
    found = temperature.fit(labels, temperature.scaled(log_odds - shift, rarer, 1 / factor), rarer, shifted=True)
    assert found == (pytest.approx(factor, rel=0.08), pytest.approx(shift, abs=0.1))


def test_scores_that_say_nothing_become_frequencies():
    labels, log_odds, level = _drawn()
    shuffled = np.random.default_rng(1).permutation(log_odds)
    found, _ = temperature.fit(labels, shuffled, level)
    assert found > 15
    assert np.abs(expit(temperature.scaled(shuffled, level, found)) - expit(level)).max() < 0.1


def test_what_cannot_be_judged_does_not_count():
    labels, log_odds, level = _drawn()
    log_odds = 3 * log_odds - 2 * level
    expected = temperature.fit(labels[:, :3], log_odds[:, :3], level[:3])
    labels[:, 3], labels[:, 4] = np.nan, 1.0
    assert temperature.fit(labels, log_odds, level) == pytest.approx(expected, rel=1e-6)
    labels[:2000, :3] = np.nan
    assert np.isfinite(temperature.fit(labels, log_odds, level, shifted=True)).all()
    assert temperature.fit(np.full_like(labels, np.nan), log_odds, level, shifted=True) == (1.0, 0.0)


@pytest.mark.parametrize("shifted", [False, True])
def test_images_that_are_told_apart_without_an_error_make_networks_no_surer_than_they_are_many(shifted):
    rng, sure = np.random.default_rng(0), []
    for count in (36, 1000):
        labels = (np.arange(count) % 2)[:, None].astype(np.float32)
        log_odds = np.where(labels > 0, 1.0, -1.0) * rng.uniform(1, 5, (count, 1))
        found, shift = temperature.fit(labels, log_odds, np.zeros(1), shifted)
        assert 0.12 < found < 2 and abs(shift) < 2  # not where it may not go
        sure.append(np.abs(temperature.scaled(log_odds, np.zeros(1), found, shift)).mean())
    assert np.log(20) / 1.5 < sure[0] < np.log(20) * 1.5 and sure[0] < sure[1] < np.log(502) * 1.5


@pytest.mark.parametrize("attributes", [1, 4])
def test_a_label_is_less_sure_by_how_many_there_are_of_its_kind_in_all_attributes_together(attributes):
    labels = np.tile((np.arange(100) < 2)[:, None], attributes).astype(np.float32)
    found, _ = temperature.fit(labels, np.where(labels > 0, 3.0, -3.0), np.zeros(attributes))
    unsure = (2 / (2 * attributes + 2) + 98 / (98 * attributes + 2)) / 100  # Platt 1999: 1 of N + 2, of either kind
    assert found == pytest.approx(3.0 / logit(1 - unsure), rel=1e-3)


def test_attributes_count_alike_however_many_of_their_labels_are_known():
    right, labels = np.tile([1.0, 0.0], 500), np.full((1000, 2), np.nan, np.float32)
    labels[:40, 0], labels[:, 1] = right[:40], right
    log_odds = np.where(right > 0, 2.0, -2.0)[:, None] * np.ones((1, 2))
    log_odds[:20, 0] *= -1  # half of them wrong
    log_odds[:100, 1] *= -1  # a tenth
    found, _ = temperature.fit(labels, log_odds, np.zeros(2))
    assert found == pytest.approx(2.0 / logit((0.5 + 0.9) / 2), rel=0.05)


def test_what_nothing_judged_is_made_less_sure_but_never_surer():
    log_odds, level = np.array([[2.0, 2.0], [-6.0, -6.0]]), np.array([-4.0, -4.0])
    for found, expected in ((0.25, [0.25, 1.0]), (3.0, [3.0, 3.0])):
        each = temperature.of_each(found, [True, False])
        np.testing.assert_array_equal(each, expected)
        said = temperature.scaled(log_odds, level, each)
        np.testing.assert_allclose(said, level + (log_odds - level) / np.array(expected))


def test_thresholds_part_the_same_images_about_other_levels():
    labels, log_odds, level = _drawn(400)
    final, thresholds = level + np.array([0.0, 1.0, -0.5, 2.0, 0.1]), np.array([0.2, np.nan, 0.3, 0.5, 0.6])
    for hot in (0.5, 1.0, 20.0):
        decided = expit(temperature.scaled(log_odds, level, hot)) >= thresholds
        after = temperature.moved(thresholds, level, final, 1 - 1 / hot)
        np.testing.assert_array_equal(expit(temperature.scaled(log_odds, final, hot)) >= after, decided)
        assert np.isnan(after[1]) and after[0] == thresholds[0]
    np.testing.assert_array_equal(temperature.moved(thresholds, level, final, 0.0), thresholds)


def test_the_order_of_images_stays():
    _, log_odds, level = _drawn(50)
    for hot in (0.5, 1.0, 7.0):
        after = temperature.scaled(log_odds, level, hot)
        np.testing.assert_array_equal(np.argsort(after, axis=0), np.argsort(log_odds, axis=0))
    np.testing.assert_allclose(temperature.scaled(log_odds, level, 1.0), log_odds)
    np.testing.assert_allclose(temperature.scaled(log_odds, level, 1.0, 0.5), log_odds + 0.5)


class _Validated:
    """Levels and offsets of two attributes, before the last training and with its images."""

    levels = staticmethod(lambda final=False: np.array([-2.0, 0.5]) + [0.0, 0.75] * np.array(final))
    margin_offsets = staticmethod(lambda final=False: np.array([0.9, -0.4]) + 0.3 * np.array(final))


@pytest.mark.parametrize("judged", [[0.7, None], [None, 0.7], []], ids=["first", "second", "before anything is"])
@pytest.mark.parametrize("found", [0.5, 2.0])
def test_an_exported_network_is_about_the_levels_of_all_that_it_was_trained_on(judged, found):
    """What the settings add to its margins is taken off first; and where nothing judged it is made no surer."""
    state = State(val_auc=judged, temperature=found, log_odds_shift=0.25)
    search, asked = types.SimpleNamespace(state=state, validation=_Validated()), []
    pipeline._cool(types.SimpleNamespace(rescale=lambda *how: asked.append(how)), search)
    ((factor, shift),) = asked
    margins, level = np.random.default_rng(0).normal(0, 3, (20, 2)), _Validated.levels(final=True)
    log_odds = margins - _Validated.margin_offsets(final=True)
    each = np.where([auc is None for auc in judged] or [False] * 2, max(1.0, found), found)
    np.testing.assert_allclose(factor * margins + shift, level + (log_odds - level) / each + 0.25)


@pytest.mark.parametrize("method, few", [("galm", 0), ("galm", 3), ("reading", 0)])
def test_thresholds_are_kept_for_what_is_exported(method, few):
    """About the levels of the last training, by what a network's log-odds move by with these; readings move whole."""
    labels, log_odds, _ = _drawn(600, 2)
    level, final = _Validated.levels(), _Validated.levels(final=True)
    log_odds = temperature.scaled(log_odds, level, 0.5, 0.8)
    config = types.SimpleNamespace(
        temperature_scaling=True, train_positives=few, method=method, threshold_metric="balanced_accuracy"
    )
    state = State()
    state.keep_figures(Judged(labels, log_odds, 1e3), _Validated(), config)
    hot, shift = temperature.fit(labels, log_odds, level, shifted=few > 0)
    assert (state.temperature, state.log_odds_shift) == (hot, shift) and hot > 1.2 and (abs(shift) > 0.1) == (few > 0)
    said = temperature.scaled(log_odds, level, hot, shift)
    chosen = evaluation.choose_thresholds(labels, expit(said), "balanced_accuracy")
    moved = final - level if method == "reading" else (1 - 1 / hot) * (final - level)
    np.testing.assert_allclose(logit(state.thresholds), logit(chosen) + moved, rtol=1e-6)
    assert state.readout_penalty == 1e3 and state.best_mauc == pytest.approx(np.mean(state.val_auc))
    config.temperature_scaling = False
    plain = State()
    plain.keep_figures(Judged(labels, log_odds), _Validated(), config)
    assert (plain.temperature, plain.log_odds_shift) == (1.0, 0.0)
