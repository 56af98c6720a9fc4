import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from scipy import stats

from galm_tf import evaluation
from galm_tf import linear_pixels
from galm_tf.benchmark import methods, timing
from galm_tf.benchmark.paired import paired_interval
from galm_tf.domains.splits import Split


def _split(n):
    index = np.arange(n)
    return Split(
        index[: n // 2],
        index[:0],
        index[n // 2 : 3 * n // 4],
        index[3 * n // 4 :],
        (),
        ("images",) * 2,
        np.ones(2, bool),
        {},
    )


def _mauc(labels, features, split):
    scores = linear_pixels.fit_and_score(features, labels, labels, split, lambda index: None)
    return evaluation.mean_auc(evaluation.auc_per_attribute(labels[split.test], scores))


def test_linear_model_finds_a_planted_direction_and_not_shuffled_labels():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    labels = (features[:, :2] + 0.3 * rng.normal(size=(400, 2)) > 0).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    assert _mauc(labels, features, _split(400)) > 0.9
    assert abs(_mauc(rng.permutation(labels), features, _split(400)) - 0.5) < 0.15


def test_the_last_fit_can_leave_out_validation(monkeypatch):
    monkeypatch.setattr(linear_pixels, "PENALTIES", (1.0,))
    rng, split = np.random.default_rng(0), _split(80)
    features, labels = rng.normal(size=(80, 6)).astype(np.float32), rng.integers(0, 2, (80, 2)).astype(np.float32)
    other = labels.copy()
    other[split.validation] = 1 - other[split.validation]
    alone, both = (
        [
            linear_pixels.fit_and_score(features, known, known, split, lambda index: None, wanted)
            for known in (labels, other)
        ]
        for wanted in (False, True)
    )
    np.testing.assert_array_equal(*alone)
    assert np.abs(both[0] - both[1]).max() > 0.1 and np.abs(both[0] - alone[0]).max() > 0.01


@pytest.mark.parametrize("with_validation", [False, True])
def test_records_count_by_their_weights_among_those_that_are_fitted(monkeypatch, with_validation):
    rng, split = np.random.default_rng(0), _split(80)
    features, labels = rng.normal(size=(80, 6)).astype(np.float32), rng.integers(0, 2, (80, 2)).astype(np.float32)
    counts = rng.uniform(0.2, 3, 80)
    weights = lambda index: counts[index] / counts[index].mean()  # noqa: E731
    fitted = np.concatenate([split.train, split.validation]) if with_validation else split.train
    for penalties in ((1.0, 1.0), (1.0,)):  # of several one is chosen
        monkeypatch.setattr(linear_pixels, "PENALTIES", penalties)
        found = linear_pixels.fit_and_score(features, labels, labels, split, weights, with_validation)
        x, root = features[fitted].astype(np.float64), np.sqrt(weights(fitted))[:, None]
        mean = np.average(x, axis=0, weights=weights(fitted))
        deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights(fitted)))
        x, level = (x - mean) / deviation, np.average(labels[fitted], axis=0, weights=weights(fitted))
        slopes = np.linalg.solve((x * root).T @ (x * root) + np.eye(6), (x * root**2).T @ (labels[fitted] - level))
        expected = level + (features[split.test] - mean) / deviation @ slopes
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_penalty_is_chosen_by_what_may_judge_each_attribute(monkeypatch):
    """As GALM chooses: by held-out classes alone where these have enough of both labels."""
    choose, asked = linear_pixels.ridge.choose, []
    monkeypatch.setattr(linear_pixels.ridge, "choose", lambda *of: asked.append((choose(*of), of[2])) or asked[-1][0])
    rng, split = np.random.default_rng(0), _split(80)
    features, labels = rng.normal(size=(80, 6)).astype(np.float32), rng.integers(0, 2, (80, 3)).astype(np.float32)
    parts = {"validation_classes": split.validation[:12], "validation_images": split.validation[12:]}
    for judges in (("classes", "images", "none"), ("none",) * 3):
        judged = dataclasses.replace(split, **parts, judged_by=judges)
        linear_pixels.fit_and_score(features, labels, labels, judged, lambda index: None)
    expected = labels[split.validation]
    expected[12:, 0], expected[:, 2] = np.nan, np.nan
    np.testing.assert_array_equal(asked[0][1], expected)
    assert np.isnan(asked[1][1]).all() and asked[1][0] == len(linear_pixels.PENALTIES) // 2  # none may judge


def test_pixel_features_are_the_picture_in_small():
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[1, :, 32:] = 255
    features = linear_pixels.pixel_features(images).reshape(2, 16, 16, 3)
    assert features[0].max() == 0 and features[1, :, :6].max() == 0 and features[1, :, 10:].min() == 1


def test_one_figure_repeated_gives_no_interval():
    mean, low, high = paired_interval([0.7, 0.8, 0.9], [0.6, 0.7, 0.8][:3])
    assert mean == pytest.approx(0.1)
    mean, low, high = paired_interval([0.75, 0.75], [0.5, 0.5])
    assert mean == 0.25 and np.isnan(low) and np.isnan(high)


def test_paired_interval_is_students():
    a, b = [3.0, 5.0, 4.0, 6.0], [2.0, 3.5, 3.0, 4.0]
    mean, low, high = paired_interval(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(1.375)


def test_summary_pairs_by_seed():
    rows = [dict(method=m, seed=s, test_mauc=v + s) for m, v in (("galm", 0.2), ("random", 0.1)) for s in range(3)]
    summary = methods.summarise(methods.pd.DataFrame(rows), "galm").set_index("method")
    assert summary.loc["random", "reference_minus"] == pytest.approx(0.1)
    assert summary.loc["random", "low"] == pytest.approx(0.1) == summary.loc["random", "high"]


def test_the_text_says_what_its_columns_are(tmp_path, capsys):
    rows = [dict(method=m, split=s, test_mauc=v + s) for m, v in (("galm", 0.2), ("random", 0.1)) for s in range(3)]
    methods.write(methods.pd.DataFrame(rows), "galm", "methods", str(tmp_path))
    told = (tmp_path / "methods.txt").read_text()
    assert told == capsys.readouterr().out and "reference_minus " in told
    assert told.endswith(
        "\nreference_minus: test mAUC of galm less that of the method, mean over the same splits; low, high: its 95 % interval.\n"
    )
    methods.write(methods.pd.DataFrame(rows[:3]), "galm", "methods", str(tmp_path))
    assert "reference_minus" not in capsys.readouterr().out


def test_a_split_without_a_figure_leaves_the_others_paired():
    rows = [
        {"method": m, "seed": s, "test_mauc": v}
        for m, values in (("galm", [0.7, 0.8, None]), ("random", [0.6, 0.6, 0.9]))
        for s, v in enumerate(values)
    ]
    summary = methods.summarise(methods.pd.DataFrame(rows), "galm").set_index("method")
    assert summary.loc["galm", "runs"] == 2 and summary.loc["random", "runs"] == 3
    assert summary.loc["random", "reference_minus"] == pytest.approx(0.15) and np.isfinite(summary.loc["random", "low"])


def test_comparison_counts_work_per_second():
    table = timing.compare(
        [timing.Case("one", lambda: None, 1.0, "x/s"), timing.Case("two", lambda: None, 1e6, "x/s")], 5
    )
    assert list(table.columns) == list(timing.COLUMNS)
    assert table["ratio_median"][0] == 1.0 and table["ratio_min"][1] > 1e3


def test_a_further_reference_is_of_the_same_rounds(monkeypatch):
    rates = iter([1.0, 2.0, 8.0, 1.0, 4.0, 12.0])
    monkeypatch.setattr(timing, "_rate", lambda case: next(rates))
    table = timing.compare([timing.Case(name, lambda: None, 1.0, "x/s") for name in "abc"], 2, further=[(2, 1)])
    assert list(zip(table["case"], table["reference"])) == [("a", "a"), ("b", "a"), ("c", "a"), ("c", "b")]
    assert table.iloc[3][["value", "ratio_median", "ratio_min", "ratio_max"]].tolist() == [10.0, 3.5, 3.0, 4.0]


@pytest.mark.parametrize(
    "ratios, ticks",
    [
        ((0.1, 80.0), {"0.1", "1", "50"}),
        ((0.9, 75.0), {"0.7", "1", "50"}),
        ((0.7, 2.4), {"0.6", "0.9", "1", "1.5"}),
        ((0.58, 1.9), {"0.5", "0.6", "0.9", "1", "1.5"}),
        ((0.98, 1.08), {"0.9", "1", "1.1"}),
    ],  # fmt: skip
)
def test_bars_begin_at_as_fast_and_ticks_are_plain_numbers(ratios, ticks, monkeypatch, capsys):
    written = {}
    monkeypatch.setattr(timing, "write_files", lambda out, files: written.update(files))
    rows = [("plain", "plain", 1.0, "x/s", 1.0, 1.0, 1.0)]
    rows += [(f"x{ratio}", "plain", ratio, "x/s", ratio, 0.8 * ratio, 1.2 * ratio) for ratio in ratios]
    timing.write(pd.DataFrame(rows, columns=timing.COLUMNS), "speed", "out")
    figure = written["speed.png"]
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches]
    assert ends == [(1, pytest.approx(ratio)) for ratio in ratios]
    (whiskers,) = (c.lines[2][0].get_segments() for c in axis.containers if isinstance(c, ErrorbarContainer))
    assert [line[:, 0].tolist() for line in whiskers] == [pytest.approx([0.8 * r, 1.2 * r]) for r in ratios]
    shown = {label.get_text() for minor in (False, True) for label in axis.get_xticklabels(minor=minor)} - {""}
    assert ticks <= shown and all(re.fullmatch(r"[\d.]+", text) for text in shown)
