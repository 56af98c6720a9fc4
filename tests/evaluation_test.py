import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from galm_tf import evaluation


def _data():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 3)) < 0.3).astype(np.float32)
    probabilities = np.clip(0.3 * labels + rng.random((120, 3)) * 0.7, 0, 1)
    labels[:20, 0] = np.nan
    labels[:, 2] = 0.0
    return labels, probabilities


def test_auc_leaves_unknown_labels_out_and_is_nan_for_one_label():
    labels, probabilities = _data()
    aucs = evaluation.auc_per_attribute(labels, probabilities)
    assert aucs[0] == pytest.approx(roc_auc_score(labels[20:, 0], probabilities[20:, 0].astype(np.float32)))
    assert np.isnan(aucs[2])
    assert evaluation.mean_auc(aucs) == pytest.approx(aucs[:2].mean())
    assert evaluation.mean_auc(aucs[2:]) is None


def test_probabilities_that_differ_in_float64_alone_are_no_ties():
    margins = 20 + np.random.default_rng(1).normal(size=(200, 1))
    labels = (margins > 20).astype(np.float32)
    assert evaluation.auc_per_attribute(labels, 1 / (1 + np.exp(-margins)))[0] == 1.0


@pytest.mark.parametrize("metric, score", [("balanced_accuracy", balanced_accuracy_score), ("f1", f1_score)])
def test_thresholds_are_the_best_of_all(metric, score):
    labels, probabilities = _data()
    thresholds = evaluation.choose_thresholds(labels, probabilities, metric)
    assert np.isnan(thresholds[2])
    known = np.isfinite(labels[:, 0])
    truth, values = labels[known, 0], probabilities[known, 0]
    every = [score(truth, values >= t) for t in np.unique(values)]
    assert score(truth, values >= thresholds[0]) == pytest.approx(max(every))


def test_attribute_metrics_are_none_for_one_label():
    labels, probabilities = _data()
    assert set(evaluation.attribute_metrics(labels[:, 2], probabilities[:, 2], 0.5).values()) == {None}
    row = evaluation.attribute_metrics(labels[:, 0], probabilities[:, 0], 0.4)
    assert row["f1"] == pytest.approx(f1_score(labels[20:, 0], probabilities[20:, 0] >= 0.4))
    assert row["log_loss"] == pytest.approx(log_loss(labels[20:, 0], probabilities[20:, 0]))
    unjudged = evaluation.attribute_metrics(labels[:, 0], probabilities[:, 0], np.nan)
    # no threshold, no decision; scores order all the same
    assert unjudged == {**row, "f1": None, "balanced_accuracy": None}


def test_what_is_sure_is_ordered_by_its_log_odds():
    labels, log_odds = np.array([0.0, 1.0, 0.0, 1.0]), np.array([40.0, 50.0, -50.0, 45.0])
    probabilities = 1 / (1 + np.exp(-log_odds))
    assert evaluation.attribute_metrics(labels, probabilities, 0.5)["auc"] == 0.75  # three of them are 1.0
    row = evaluation.attribute_metrics(labels, probabilities, 0.5, log_odds)
    assert row["auc"] == row["average_precision"] == 1.0 and row["balanced_accuracy"] == 0.75


def test_what_is_sure_and_wrong_has_the_same_log_loss_in_either_precision():
    labels, log_odds = np.array([0.0, 1.0, 1.0, 0.0]), np.array([20.0, 3.0, -25.0, -2.0])
    probabilities = 1 / (1 + np.exp(-log_odds))
    for dtype in (np.float32, np.float64):
        row = evaluation.attribute_metrics(labels, probabilities.astype(dtype), 0.5)
        assert row["log_loss"] == pytest.approx(8.0151, abs=1e-4)


def test_a_threshold_tells_neighbouring_numbers_apart():
    low = np.float32(0.5)
    probabilities = np.array([[low], [np.nextafter(low, np.float32(1))]], np.float32)
    (threshold,) = evaluation.choose_thresholds(np.array([[0.0], [1.0]]), probabilities, "f1")
    assert (probabilities[:, 0] >= np.float32(threshold)).tolist() == [False, True]


def test_what_reaches_its_threshold_is_a_yes():
    row = evaluation.attribute_metrics(np.array([0.0, 1.0]), np.array([0.25, 0.75]), 0.75)
    assert row["f1"] == row["balanced_accuracy"] == 1.0


def test_where_all_are_best_called_yes_the_threshold_is_halfway_to_zero():
    (threshold,) = evaluation.choose_thresholds(np.array([[0.0], [1.0]]), np.array([[0.75], [0.5]]), "f1")
    assert threshold == 0.25


def test_what_the_model_holds_for_equal_shares_a_decision():
    """It compares in float32, where the first eight are 1, though to part them would be best."""
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 0], np.float32)[:, None]
    probabilities = np.array([1 - 1e-9] * 3 + [1 - 2e-9] * 5 + [0.5, 0.25])[:, None]
    assert evaluation.choose_thresholds(labels, probabilities, "f1").tolist() == [0.375]


def test_what_few_images_test_is_neither_best_nor_worst():
    rows = {f"a{i}": {"test_auc": 0.5 + i / 100, "test_positives": 10, "test_negatives": 10 + i} for i in range(4)}
    rows |= {
        "lucky": {"test_auc": 1.0, "test_positives": 9, "test_negatives": 90},
        "unlucky": {"test_auc": 0.0, "test_positives": 90, "test_negatives": 1},
    }
    rows["untested"] = {"test_auc": None, "test_positives": 0, "test_negatives": 99}
    assert evaluation.best_to_worst(rows, 4) == ["a3", "a2", "a1", "a0"]
    assert evaluation.best_to_worst(rows, 5) == ["lucky", "a3", "a2", "a1", "a0", "unlucky"]
    assert evaluation.mean_of_told(rows) == (pytest.approx(0.515), 4)
    assert evaluation.mean_of_told({"a0": rows["a0"], "untested": rows["untested"]}) is None
    assert evaluation.mean_of_told({"lucky": rows["lucky"]}) is None
    before = {name: {"test_auc": row["test_auc"]} for name, row in rows.items()}  # of an earlier version
    assert evaluation.best_to_worst(before) == ["lucky", "a3", "a2", "a1", "a0", "unlucky"]


def _classes(rng, count, images=15, attributes=6):
    """Labels that hold of whole classes, scores that err by class and by image: labels [n, N], scores [n, N], class of
    each [n].
    """
    units = np.repeat(np.arange(count), images)
    labels = (rng.random((count, attributes)) < 0.4)[units].astype(np.float32)
    return labels, labels + rng.normal(size=(count, attributes))[units] + rng.normal(size=labels.shape), units


def test_the_interval_holds_what_other_classes_would_give():
    rng = np.random.default_rng(0)
    labels, scores, _ = _classes(rng, 2000, images=1, attributes=50)
    truth = evaluation.mean_auc(evaluation.auc_per_attribute(labels, scores))
    inside, wide = [], []
    for _ in range(150):
        low, high, count, _ = evaluation.mean_auc_interval(*_classes(rng, 12))
        assert count == 12
        inside.append(low <= truth <= high)
        wide.append(high - low)
    assert 0.88 <= np.mean(inside) <= 0.99
    many = [np.ptp(evaluation.mean_auc_interval(*_classes(rng, 120))[:2]) for _ in range(10)]  # in groups of four
    assert np.mean(many) == pytest.approx(np.mean(wide) / np.sqrt(10), rel=0.35)


@pytest.mark.parametrize("count", [evaluation.MIN_UNITS, 12, 70])
def test_the_interval_is_the_jackknifes_and_students(count):
    rng, units = np.random.default_rng(5), np.arange(10 * count) % count
    labels = (rng.random((len(units), 2)) < 0.4).astype(np.float32)
    scores = labels + 2 * rng.normal(size=labels.shape)
    parts = min(count, 30)  # 70 classes in groups of two and three

    def mean(rows):
        return np.mean([roc_auc_score(labels[rows, i], scores[rows, i]) for i in (0, 1)])

    left = np.array([mean(units % parts != part) for part in range(parts)])
    error = np.sqrt((parts - 1) / parts * np.square(left - left.mean()).sum())
    whole, reach = mean(units >= 0), stats.t.ppf(0.975, parts - 1) * error
    found = evaluation.mean_auc_interval(labels, scores, units)
    assert found[:3] == pytest.approx((whole - reach, whole + reach, count), rel=1e-12) and found[3].all()
    one = evaluation.mean_auc_interval(labels, scores, units, np.full(len(units), 3))
    assert one[:3] == found[:3]


@pytest.mark.parametrize("showing, told", [((1, 3, 3), True), ((1, 3, 1), False), ((1, 7, 3, 2), False)])
def test_there_is_no_interval_where_most_attributes_rest_on_one_class(showing, told):
    """Of eight classes so many have an attribute: without the only one that has it, or lacks it, nothing is left."""
    rng, units = np.random.default_rng(2), np.repeat(np.arange(8), 12)
    labels = (units[:, None] < showing).astype(np.float32)
    low, high, count, tells = evaluation.mean_auc_interval(labels, rng.normal(size=labels.shape), units)
    assert (low is not None, high is not None, count, tells.all()) == (told, told, 8, True)
    if not told:
        assert evaluation.interval_in_words({"low": low, "high": high, "over": "classes", "count": count}) == (
            " (8 classes, but half of the attributes or more have a label in one alone: too few to say what others would give)"
        )


def test_two_units_that_are_left_out_together_are_two():
    """Of 300 photographs each thirtieth is left out together: ranks 5 and 35."""
    rng, units = np.random.default_rng(4), np.arange(300)
    labels = np.isin(units, (5, 35)).astype(np.float32)[:, None]
    assert evaluation.mean_auc_interval(labels, rng.normal(size=labels.shape), units)[0] is not None


def test_an_interval_ends_where_an_auc_does():
    labels, scores, units = _classes(np.random.default_rng(1), 6)
    assert evaluation.mean_auc_interval(labels, scores + 3 * labels, units)[1] == 1.0
    assert evaluation.mean_auc_interval(labels, -scores - 3 * labels, units)[0] == 0.0


def test_there_is_no_interval_over_few_classes_or_of_nothing():
    labels, scores, units = _classes(np.random.default_rng(1), 8)
    assert evaluation.mean_auc_interval(labels, scores, units) is not None
    assert evaluation.mean_auc_interval(labels, scores, units % 4)[:3] == (None, None, 4)
    assert evaluation.mean_auc_interval(np.zeros_like(labels), scores, units) is None
    assert evaluation.interval_in_words(None) == ""
    assert (
        evaluation.interval_in_words({"low": 0.5, "high": 0.6104, "over": "classes", "count": 8})
        == " (95 %, over 8 classes: 0.500 to 0.610)"
    )
    for over, count, told in (
        ("classes", 2, "2 classes"),
        ("images", 1, "1 image"),
        ("classes of awa", 3, "3 classes of awa"),
        ("images of a and b", 1, "1 image of a and b"),
    ):
        few = {"low": None, "high": None, "over": over, "count": count}
        assert evaluation.interval_in_words(few) == f" ({told}: too few to say what others would give)"


def test_an_attribute_of_one_class_does_not_move_the_interval_by_being_gone():
    """It is perfect: the mean falls without its class, by which the interval would be wider than that of the others
    alone.
    """
    labels, scores, units = _classes(np.random.default_rng(2), 8)
    one = (units == 3).astype(np.float32)[:, None]
    plain, with_one = (
        evaluation.mean_auc_interval(*both, units)
        for both in ((labels, scores), (np.hstack([labels, one]), np.hstack([scores, 10 * one])))
    )
    assert np.ptp(plain[:2]) * 6 / 7 <= np.ptp(with_one[:2]) <= np.ptp(plain[:2])


def test_classes_that_nothing_is_known_of_do_not_count():
    labels, scores, units = _classes(np.random.default_rng(3), 12)
    labels[units >= 7] = np.nan
    some = units < 7
    found = evaluation.mean_auc_interval(labels, scores, units)
    assert found[:3] == evaluation.mean_auc_interval(labels[some], scores[some], units[some])[:3]
    assert found[2] == 7 and (found[3] == some).all()
    labels[units >= 4] = np.nan
    assert evaluation.mean_auc_interval(labels, scores, units)[:3] == (None, None, 4)


def test_where_no_class_moves_the_mean_nothing_is_told():
    labels, _, units = _classes(np.random.default_rng(4), 8)
    assert evaluation.mean_auc_interval(labels, labels, units) is None  # all are 1


def _joined(rng, *counts):
    """`_classes` of so many domains, with attributes of their own: labels [n, N], scores [n, N], class of each [n], its
    domain [n].
    """
    parts = [_classes(rng, count) for count in counts]
    domains = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    labels = np.full((len(domains), 6 * len(parts)), np.nan, np.float32)
    scores = rng.normal(size=labels.shape)
    for i, part in enumerate(parts):
        own = np.ix_(domains == i, np.arange(6 * i, 6 * i + 6))
        labels[own], scores[own] = part[:2]
    return labels, scores, np.concatenate([part[2] for part in parts]) + 100 * domains, domains


@pytest.mark.parametrize("counts", [(6, 40), (6, 6, 8)])
def test_joined_domains_draw_each_their_own_classes(counts):
    """By hand: variances of the domains add up, and their degrees of freedom are Welch's and Satterthwaite's."""
    labels, scores, units, domains = _joined(np.random.default_rng(7), *counts)

    aucs, variances, freedom = evaluation.auc_per_attribute(labels, scores), [], []
    for i, count in enumerate(counts):
        parts = min(count, 30)
        kept = [(domains != i) | ((units - 100 * i) % parts != part) for part in range(parts)]
        moved = [np.nanmean(evaluation.auc_per_attribute(labels[rows], scores[rows]) - aucs) for rows in kept]
        variances.append((parts - 1) / parts * np.square(moved - np.mean(moved)).sum())
        freedom.append(parts - 1)
    total = sum(variances)
    reach = stats.t.ppf(0.975, total**2 / (np.square(variances) / freedom).sum()) * np.sqrt(total)
    whole = np.nanmean(aucs)
    found = evaluation.mean_auc_interval(labels, scores, units, domains)
    assert found[:3] == pytest.approx((whole - reach, whole + reach, sum(counts))) and found[3].all()


@pytest.mark.parametrize("counts, few", [((3, 40), 0), ((4, 4), 0), ((40, 6, 2), 2)])
def test_there_is_no_interval_where_one_domain_has_few_classes(counts, few):
    labels, scores, units, domains = _joined(np.random.default_rng(8), *counts)
    low, high, count, tells = evaluation.mean_auc_interval(labels, scores, units, domains)
    assert (low, high, count) == (None, None, counts[few]) and (tells == (domains == few)).all()
    labels[domains == few] = np.nan  # it judges nothing: the others decide
    rest = evaluation.mean_auc_interval(labels, scores, units, domains)
    assert (rest[0] is None) == (counts == (4, 4)) and not rest[3][domains == few].any()


def test_domains_of_the_same_photographs_are_drawn_together():
    """As if their attributes were of one domain."""
    labels, scores, units = _classes(np.random.default_rng(9), 12)
    once = evaluation.mean_auc_interval(labels, scores, units)
    twice, unknown = np.tile(units, 2), np.full_like(labels, np.nan)
    joined = np.block([[labels, unknown], [unknown, labels]])
    found = evaluation.mean_auc_interval(joined, np.tile(scores, (2, 2)), twice, np.repeat([0, 1], len(units)))
    assert found[:3] == pytest.approx(once[:3])


def test_the_interval_of_joined_domains_holds_what_other_classes_would_give():
    rng = np.random.default_rng(0)
    labels, scores, _ = _classes(rng, 2000, images=1, attributes=50)
    truth, inside, wider = evaluation.mean_auc(evaluation.auc_per_attribute(labels, scores)), [], []
    for _ in range(100):
        *drawn, domains = _joined(rng, 5, 20)
        (low, high, *_), pooled = (evaluation.mean_auc_interval(*drawn, given) for given in (domains, None))
        if low is None:  # of five classes one alone may have a label of most attributes
            continue
        inside.append(low <= truth <= high)
        wider.append((high - low) / (pooled[1] - pooled[0]))
    assert len(inside) > 90
    assert 0.88 <= np.mean(inside) <= 0.99
    assert np.median(wider) > 1.05  # than of one sample of 25 classes
