"""Suites `ranking`, `scaling` and `derived`, tiny: what is computed, and that a stopped suite goes on.

So few steps are not traced: that would take longer than they do.
"""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from galm_tf import preparation
from galm_tf.benchmark import choosing, ranking, scaling
from galm_tf.benchmark.results import write_files
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable
from galm_tf.tracing import untraced
from small_domains import LEFT_OUT, few_images

TINY = dict(
    image_size=32,
    warmup_steps=2,
    rounds=1,
    supernet_steps=0,
    batch_size=16,
    attributes_per_step=2,
    controller_steps=8,
    samples_per_step=16,
    calibration_images=48,
    adapt_steps=0,
    finetune_steps=2,
    derive_top=4,
)


@pytest.fixture(scope="module")
def config(drawn):
    with few_images(12), untraced():
        yield Config(domain=("sun",), leave_out=LEFT_OUT, cache_dir=drawn, **TINY)


def test_architectures_are_trained_alone_once(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ranking, "_RESAMPLES", 50)
    batches, spans = ranking.training_batches, []
    monkeypatch.setattr(
        ranking, "training_batches", lambda *arguments: spans.append(arguments[2:]) or batches(*arguments)
    )
    config = dataclasses.replace(config, supernet_steps=1, reward_images=10)
    table = ranking.run_ranking(config, 2, 2, 2, str(tmp_path))
    assert spans == [(0, 3)] * 2 + [(3, 6)] * 2  # as many steps as the supernet has, warm-up and round
    # judged on all, as those alone
    assert json.loads((tmp_path / "supernet" / "config.json").read_text())["reward_images"] == 0
    assert len(table) == 2 * 2 and table["architecture"].nunique() == 2
    assert np.isfinite(table[["shared", "alone0", "alone1"]].to_numpy()).all()
    assert (table["alone0"] != table["alone1"]).any()  # other weights, other order of images
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "alone" / "cells").iterdir()}
    assert len(stamps) == 4
    next(iter(stamps)).unlink()
    monkeypatch.setattr(ranking, "environment", lambda: {"commit": "another"})
    again = ranking.run_ranking(config, 2, 2, 2, str(tmp_path))
    assert "figures were computed at several commits" in caplog.text
    assert sum(p.stat().st_mtime_ns != t for p, t in stamps.items()) == 1
    pd.testing.assert_frame_equal(again, table, atol=1e-4)
    with pytest.raises(UserError, match="num_attributes=1 now, 2 in the table"):
        ranking.run_ranking(config, 2, 1, 2, str(tmp_path))
    ranking.write(table, str(tmp_path))
    assert (tmp_path / "ranking.png").stat().st_size > 1000


def test_networks_alone_train_on_images_with_a_label_of_their_attributes(config):
    prepared = preparation.prepare(config)
    labels, train = prepared.domain.labels.copy(), prepared.split.train
    labels[train[::2], 0] = np.nan  # of which others may have one
    lacking = dataclasses.replace(prepared, domain=dataclasses.replace(prepared.domain, labels=labels))
    alone = ranking._Alone(config, lacking, np.array([0]))
    drawn = np.concatenate([alone._plan.at(step) for step in range(60)])
    assert {*drawn} == {*train[1::2]}


def test_attributes_without_a_reward_are_not_ranked():
    full = np.array([[0.5] * 3, [np.nan] * 3, [0.7] * 3], np.float32)
    table = RewardTable(full, (full, full))
    labels = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    prepared = SimpleNamespace(
        domain=SimpleNamespace(labels=labels, name="sun"), split=SimpleNamespace(validation=np.arange(4))
    )
    assert ranking.best_judged(prepared, table, 3).tolist() == [0, 2]
    assert ranking.best_judged(prepared, table, 1).tolist() == [0]


def test_nothing_is_trained_where_no_attribute_can_be_judged(monkeypatch, tmp_path):
    prepared = SimpleNamespace(
        domain=SimpleNamespace(name="sun"), split=SimpleNamespace(judged_by=("none", "none"), testable=[True, True])
    )
    monkeypatch.setattr(ranking, "load_domains", lambda config: None)
    monkeypatch.setattr(ranking.data_digests, "content_digests", lambda domain: {})
    monkeypatch.setattr(ranking.preparation, "prepare", lambda *of: prepared)
    with pytest.raises(
        UserError, match="an attribute of sun that validation images can judge. Received: none; give more"
    ):
        ranking.run_ranking(Config(), 3, 1, 1, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_correlations_of_planted_ranks():
    rng = np.random.default_rng(0)
    rows = [
        {"architecture": a, "attribute": name, "shared": sign * a, "alone0": a + 0.1 * rng.random(), "alone1": a}
        for name, sign in (("same", 1.0), ("reversed", -1.0))
        for a in range(12)
    ]
    found = ranking.rank_correlations(pd.DataFrame(rows))
    assert found["per_attribute"] == {"same": pytest.approx(1.0), "reversed": pytest.approx(-1.0)}
    assert found["tau"] == pytest.approx(0.0) and found["low"] <= 0.0 <= found["high"]
    assert found["reliability"] == pytest.approx(1.0) and "reliability_of_means" not in found


def test_means_that_are_equal_are_tied_in_whatever_order_they_are_summed(monkeypatch):
    """AUCs on a coarse grid, as of few images, whose means may end in a half of any digit."""
    monkeypatch.setattr(ranking, "_RESAMPLES", 2)
    rng = np.random.default_rng(0)
    pairs = rng.integers(448, 512, (40, 3, 5))  # that are in order, of 640

    def found(grid, order):
        rows = [
            {"architecture": a, "attribute": n, "shared": grid(own[0]), **{f"alone{k}": grid(own[k]) for k in order}}
            for a, three in enumerate(pairs)
            for n, own in zip("xyz", three)
        ]
        return ranking.rank_correlations(pd.DataFrame(rows))

    exact = found(float, [1, 2, 3, 4])  # whole numbers
    for order in ([1, 2, 3, 4], [2, 1, 4, 3]):
        one = found(lambda pairs: float(np.float32(pairs / 640)), order)
        for key in ("tau", "tau_of_means", "reliability_of_means"):
            assert one[key] == pytest.approx(exact[key], abs=1e-12), (key, order)


def test_what_has_no_order_is_no_zero(tmp_path, capsys):
    rows = [
        {"architecture": a, "attribute": "x", "shared": a, **{f"alone{s}": 0.5 for s in range(4)}} for a in range(8)
    ]
    found = ranking.rank_correlations(pd.DataFrame(rows))
    assert np.isnan(
        [found[k] for k in ("tau", "low", "high", "tau_of_means", "reliability", "reliability_of_means")]
    ).all()
    ranking.write(pd.DataFrame(rows), str(tmp_path))
    told = capsys.readouterr().out
    assert told.splitlines()[:2] == [
        "Kendall's tau, mean of 1 attribute, n = 8 architectures: no order",
        "  x: no order",
    ]
    assert "of 4: no order" in told and "nan" not in told and (tmp_path / "ranking.png").stat().st_size > 1000
    more = pd.DataFrame(
        [*rows, *({**row, "attribute": "y", **{f"alone{s}": a for s in range(4)}} for a, row in enumerate(rows))]
    )
    found = ranking.rank_correlations(more)
    assert [found[k] for k in ("tau", "low", "high", "reliability")] == pytest.approx([1.0] * 4)
    ranking.write(more, str(tmp_path))
    assert "mean of 1 attribute, n = 8 architectures: 1.000 (95 % interval 1.000 to 1.000)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sun/price $^$", 300 * "W"])
def test_names_of_any_kind_stand_above_their_panels(tmp_path, name):
    rows = [{"architecture": a, "attribute": n, "shared": a, "alone0": a} for a in range(3) for n in ("x", name)]
    figure = ranking._plot(pd.DataFrame(rows), ranking.rank_correlations(pd.DataFrame(rows)))
    write_files(str(tmp_path), {"ranking.png": figure})
    first, second = (axis.title.get_window_extent() for axis in figure.axes)
    assert not first.overlaps(second) and name[:9] in figure.axes[0].get_title() + figure.axes[1].get_title()


def test_figures_are_told_and_kept_before_they_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ranking, "_plot", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ranking.write(
            pd.DataFrame([{"architecture": a, "attribute": "x", "shared": a, "alone0": a} for a in range(3)]),
            str(tmp_path),
        )
    assert capsys.readouterr().out == (tmp_path / "ranking.txt").read_text(encoding="utf-8") != ""
    assert (tmp_path / "ranking.csv").exists()


def test_means_of_noisy_trainings_agree_more_than_single_ones():
    rng = np.random.default_rng(1)
    rows = [
        {"architecture": a, "attribute": "x", "shared": a, **{f"alone{s}": a + 15 * rng.normal() for s in range(8)}}
        for a in range(40)
    ]
    found = ranking.rank_correlations(pd.DataFrame(rows))
    assert 0.0 < found["reliability"] < found["reliability_of_means"] < 1.0
    assert found["reliability"] < found["tau"]


def test_derived_fine_tunes_every_choice_from_the_same_supernet(config, tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "_choices", lambda table, config, *_: {"galm, most probable": table.full.argmax(1)})
    table = choosing.run_derived(config, [0], str(tmp_path))
    assert list(table["method"]) == ["galm, most probable", "random"]
    assert table["test_mauc"].between(0, 1).all() and table["test_mauc"].nunique() == 2
    kept = {str(path.parent.parent.name) for path in (tmp_path / "split0").rglob("checkpoints/*.npz")}
    assert kept == {"split0"}  # the supernet; of finished networks what they reach is enough
    stamp = (tmp_path / "split0" / "random" / "result.json").stat().st_mtime_ns
    pd.testing.assert_frame_equal(choosing.run_derived(config, [0], str(tmp_path)), table)
    assert (tmp_path / "split0" / "random" / "result.json").stat().st_mtime_ns == stamp
    monkeypatch.setattr(choosing, "_choices", lambda table, config, *_: {"galm, most probable": table.full.argmin(1)})
    with pytest.raises(UserError, match="networks of .*split0/galm-most-probable to be those that are chosen now"):
        choosing.run_derived(config, [0], str(tmp_path))


def test_scaling_with_all_attributes_a_step_has_no_second_case_of_them(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "COUNTS", (1, 2))
    for per_step, names in ((0, []), (2, []), (1, ["1 of 2 attributes"])):
        monkeypatch.setattr(scaling, "training_step", lambda *_: lambda: sum(range(1000)))
        table = scaling.measure(Config(attributes_per_step=per_step), 1)
        assert list(table["case"][:-3]) == ["1 attribute", "2 attributes", *names]
        scaling.write(table, "scaling", str(tmp_path))


def test_scaling_fits_the_cost_of_an_attribute(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "COUNTS", (1, 4, 8))
    with untraced():
        table = scaling.measure(dataclasses.replace(Config(), image_size=32, batch_size=8, attributes_per_step=4), 1)
    value = table.set_index("case")["value"]
    cost = 1.0 / table["ratio_median"].to_numpy()[:3]
    slope, intercept = np.polyfit((1, 4, 8), cost, 1)
    assert value["b: one attribute more"] == pytest.approx(slope) and value[
        "a: step without attributes"
    ] == pytest.approx(intercept)
    assert value["memory at its peak"] > 0.05
    scaling.write(table, "scaling", str(tmp_path))
    assert (tmp_path / "scaling_fit.png").stat().st_size > 1000 and (tmp_path / "scaling.csv").exists()
