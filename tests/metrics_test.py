import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from galm_tf import metrics
from galm_tf.errors import UserError


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_auc_equals_scikit_learn_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    labels = (rng.random(200) < 0.2).astype(np.float32)
    scores = np.round(rng.normal(size=(30, 200)) + 0.5 * labels, decimals).astype(np.float32)
    expected = [roc_auc_score(labels, row) for row in scores]
    np.testing.assert_allclose(metrics.auc_columns(labels, scores), expected, atol=1e-12)
    np.testing.assert_allclose([metrics.auc(labels, row) for row in scores], expected, atol=1e-12)


def test_auc_of_constant_and_signed_zero_scores_is_a_half():
    labels = np.array([1, 0])  # no more of one sign, which would be ties
    scores = np.array([[1, 1], [0.0, -0.0], [-0.0, 0.0]], np.float32)
    assert metrics.auc_columns(labels, scores).tolist() == [metrics.auc(labels, row) for row in scores] == [0.5] * 3


def test_scores_that_leave_no_bit_free_are_refused():
    with pytest.raises(AssertionError, match="float64"):
        metrics.auc_columns(np.array([1, 0]), np.array([[0.1, 0.2]]))


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_scores_that_are_no_numbers_have_no_auc(wrong, place):
    labels, scores = np.array([1, 0, 1]), np.array([0.5, 0.3, 0.2], np.float32)
    good = scores.copy()
    scores[place] = wrong
    for told in (lambda: metrics.auc(labels, scores), lambda: metrics.auc_columns(labels, np.stack([good, scores]))):
        with pytest.raises(UserError, match="Expected finite scores. Received: NaN or infinity: training has diverged"):
            told()


def test_accuracies_equal_scikit_learn():
    rng = np.random.default_rng(3)
    labels = (rng.random(100) < 0.3).astype(int)
    scores = rng.normal(size=(4, 100)).astype(np.float32)
    for row, plain, balanced in zip(
        scores, metrics.accuracy_columns(labels, scores, 0.2), metrics.balanced_accuracy_columns(labels, scores, 0.2)
    ):
        assert plain == pytest.approx(accuracy_score(labels, row > 0.2))
        assert balanced == pytest.approx(balanced_accuracy_score(labels, row > 0.2))


@pytest.mark.parametrize("reward", ["accuracy", "balanced_accuracy"])
def test_a_reward_by_decisions_says_yes_above_its_offset_alone(reward):
    scores = np.array([[3.0, 2.0, 1.0]], np.float32)
    assert metrics.reward_columns(reward, np.array([1, 0, 0]), scores, 2.0).tolist() == [1.0]


def test_aucs_without_each_group_are_those_of_what_is_left():
    rng = np.random.default_rng(0)
    labels, groups = (rng.random(90) < 0.3).astype(np.float32), rng.integers(0, 6, 90)
    labels[groups == 5], groups[:3] = 0.0, 4
    scores = np.round(rng.normal(size=90) + labels, 1)  # with ties
    found = metrics.aucs_without_each_group(labels, scores, groups, 7)
    for group in range(7):
        left = groups != group
        assert found[group] == pytest.approx(metrics.auc(labels[left], scores[left])), group
    assert found[6] == pytest.approx(metrics.auc(labels, scores))  # no image is of it
    alone = metrics.aucs_without_each_group((groups == 2).astype(np.float32), scores, groups, 7)
    assert np.isnan(alone[2]) and np.isfinite(np.delete(alone, 2)).all()
