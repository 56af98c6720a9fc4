import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from galm_tf import evaluate


def _data():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 3)) < 0.3).astype(np.float32)
    probabilities = np.clip(0.3 * labels + rng.random((120, 3)) * 0.7, 0, 1)
    labels[:20, 0] = np.nan
    labels[:, 2] = 0.0
    return labels, probabilities


def test_auc_leaves_unknown_labels_out_and_is_nan_for_one_label():
    labels, probabilities = _data()
    aucs = evaluate.auc_per_attribute(labels, probabilities)
    assert aucs[0] == pytest.approx(roc_auc_score(labels[20:, 0], probabilities[20:, 0].astype(np.float32)))
    assert np.isnan(aucs[2])
    assert evaluate.mean_auc(aucs) == pytest.approx(aucs[:2].mean())
    assert evaluate.mean_auc(aucs[2:]) is None


def test_probabilities_that_differ_in_float64_alone_are_no_ties():
    margins = 20 + np.random.default_rng(1).normal(size=(200, 1))
    labels = (margins > 20).astype(np.float32)
    assert evaluate.auc_per_attribute(labels, 1 / (1 + np.exp(-margins)))[0] == 1.0


@pytest.mark.parametrize("metric, score", [("balanced_accuracy", balanced_accuracy_score), ("f1", f1_score)])
def test_thresholds_are_the_best_of_all(metric, score):
    labels, probabilities = _data()
    thresholds = evaluate.choose_thresholds(labels, probabilities, metric)
    assert np.isnan(thresholds[2])
    known = np.isfinite(labels[:, 0])
    truth, values = labels[known, 0], probabilities[known, 0]
    every = [score(truth, values >= t) for t in np.unique(values)]
    assert score(truth, values >= thresholds[0]) == pytest.approx(max(every))


def test_attribute_metrics_are_none_for_one_label():
    labels, probabilities = _data()
    assert set(evaluate.attribute_metrics(labels[:, 2], probabilities[:, 2], 0.5).values()) == {None}
    row = evaluate.attribute_metrics(labels[:, 0], probabilities[:, 0], 0.4)
    assert row["f1"] == pytest.approx(f1_score(labels[20:, 0], probabilities[20:, 0] >= 0.4))
    assert row["log_loss"] == pytest.approx(log_loss(labels[20:, 0], probabilities[20:, 0]))
    unjudged = evaluate.attribute_metrics(labels[:, 0], probabilities[:, 0], np.nan)
    assert unjudged == {**row, "f1": None, "balanced_accuracy": None}  # no threshold, no decision; scores order all the same


def test_a_threshold_tells_neighbouring_numbers_apart():
    low = np.float32(0.5)
    probabilities = np.array([[low], [np.nextafter(low, np.float32(1))]], np.float32)
    (threshold,) = evaluate.choose_thresholds(np.array([[0.0], [1.0]]), probabilities, "f1")
    assert (probabilities[:, 0] >= np.float32(threshold)).tolist() == [False, True]


def test_what_few_images_test_is_neither_best_nor_worst():
    rows = {f"a{i}": {"test_auc": 0.5 + i / 100, "test_positives": 10, "test_negatives": 10 + i} for i in range(4)}
    rows |= {"lucky": {"test_auc": 1.0, "test_positives": 9, "test_negatives": 90}, "unlucky": {"test_auc": 0.0, "test_positives": 90, "test_negatives": 1}}
    rows["untested"] = {"test_auc": None, "test_positives": 0, "test_negatives": 99}
    assert evaluate.best_to_worst(rows, 4) == ["a3", "a2", "a1", "a0"]
    assert evaluate.best_to_worst(rows, 5) == ["lucky", "a3", "a2", "a1", "a0", "unlucky"]
    assert evaluate.mean_of_told(rows) == (pytest.approx(0.515), 4)
    assert evaluate.mean_of_told({"a0": rows["a0"], "untested": rows["untested"]}) is None
    assert evaluate.mean_of_told({"lucky": rows["lucky"]}) is None
    before = {name: {"test_auc": row["test_auc"]} for name, row in rows.items()}  # of an earlier version
    assert evaluate.best_to_worst(before) == ["lucky", "a3", "a2", "a1", "a0", "unlucky"]
