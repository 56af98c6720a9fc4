"""The paper's tables: which runs they make, what a killed one does again, what is written."""

import dataclasses
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

import main_flags
from galm_tf import begun, command_line, config as config_lib, data_digests, leakage, pipeline, preparation
from galm_tf.baselines.iap import IAP
from galm_tf.benchmark import __main__ as program
from galm_tf.benchmark import (
    choosing,
    domain_transfer,
    learner_cells,
    learner_data,
    learners,
    methods,
    nas,
    one_supernet,
    paper_figures,
    paper_table,
    peers_suite,
    semantic,
    table_runs,
    transfer_table,
)
from galm_tf.benchmark.cells import several_commits
from galm_tf.benchmark.domain_transfer import ALONE, TRANSFERRED
from galm_tf.benchmark.learner_cells import LearnerCells
from galm_tf.benchmark.learner_data import FeatureSettings, settings_per_domain
from galm_tf.benchmark.table_runs import WHOLE, Less, TableRuns
from galm_tf.config import Config
from galm_tf.domains import build, load_domains
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder, environment
from galm_tf.source_runs import Source
from small_domains import few_images

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOMAINS = ("awa", "apay", "sun")
OFFICIAL = "the official split, or the one drawn where the data bring none"
PAPER_COLUMNS = (
    "awa-apay awa-sun apay-awa apay-sun sun-awa sun-apay awa+apay-sun awa+sun-apay apay+sun-awa "
    "awa+apay+sun-awa awa+apay+sun-apay awa+apay+sun-sun"
).split()


def test_the_scenarios_are_the_twelve_columns_of_table_3():
    found = domain_transfer.scenarios(DOMAINS)
    assert [s.name for s in found] == PAPER_COLUMNS
    assert all(s.paper for s in found) and found[6].paper == {
        (ALONE, "awa+apay-sun"): 0.865,
        (TRANSFERRED, "awa+apay-sun"): 0.919,
    }
    assert not any(s.paper for s in domain_transfer.scenarios(("mine", "sun")))
    assert len(paper_figures.TABLE_2) == 27 and len(paper_figures.TABLE_3) == 11 * 12
    of_methods = domain_transfer.paper_of_methods(found)
    assert (of_methods["afs", "sun-awa"], of_methods["dap", "awa+apay+sun-sun"], len(of_methods)) == (
        0.924,
        0.825,
        11 * 12,
    )
    assert [s.others for s in found[8:10]] == [("apay", "sun")] * 2


@pytest.fixture
def with_copies(tmp_path):
    """Settings of two domains; b trains on four photographs that a tests."""
    for name, tested in (("a", "k0"), ("b", "k3")):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        lines = ["image,class,split,light"]
        for i in range(16):
            pixels = np.random.default_rng(i + 100 * (name == "b" and i >= 4)).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")  # the first four are in both
            lines.append(f"{i}.png,k{i // 4},{'test' if f'k{i // 4}' == tested else 'train'},{i % 2}")
        (tmp_path / name / "attributes.csv").write_text("\n".join(lines))
    return Config(
        domain=("a", "b"), data_dir=(str(tmp_path / "a"), str(tmp_path / "b")), cache_dir=str(tmp_path / "cache"),
        image_size=32, validation_split="images",
    )  # fmt: skip


def test_no_run_trains_on_photographs_that_another_domain_tests(tmp_path, with_copies):
    config = with_copies
    runs = TableRuns(config, "seed", str(tmp_path / "out"))
    alone = runs.prepare(runs.subset(("b",), 0))
    assert alone.domain.subsets.tolist() == ["unused"] * 4 + ["train"] * 8 + ["test"] * 4
    assert alone.domain.notes[-1].startswith(
        "4 training records show photographs that another domain of the table tests"
    )
    assert runs.prepare(runs.subset(("a",), 0)).domain.subsets.tolist() == ["test"] * 4 + ["train"] * 12
    both = runs.prepare(runs.subset(("a", "b"), 0)).domain
    assert both.subsets.tolist() == ["test"] * 4 + ["train"] * 12 + ["unused"] * 4 + ["train"] * 8 + ["test"] * 4


def test_figures_of_learners_are_those_of_what_they_train_on_in_the_table(tmp_path, with_copies, monkeypatch):
    """Tables of other domains leave out other photographs."""
    trained = {
        name: dataclasses.replace(with_copies, domain=(name,), data_dir=(str(tmp_path / name),)) for name in "ab"
    }
    trained["ab"] = with_copies

    def compute(self, name, kind, target, number, sources):
        subsets = [self._runs.prepare(self._runs.subset((d,), number)).domain.subsets for d in (target, *sources)]
        return {"trained": [int((part == "train").sum()) for part in subsets]}

    monkeypatch.setattr(LearnerCells, "_compute", compute)

    def row(domains, target, sources=()):
        table_runs = TableRuns(trained[domains], "seed", str(tmp_path))
        cells = LearnerCells(table_runs, [FeatureSettings()] * len(domains))
        return cells.row("ridge", target, 0, sources)["trained"]

    for _ in range(2):  # computed, then read
        assert (row("b", "b"), row("ab", "b"), row("ab", "a", ("b",)), row("ab", "a"), row("a", "a")) == (
            [12], [8], [12, 8], [12], [12],
        )  # fmt: skip
    plain, *others = sorted(os.listdir(tmp_path / "learners" / "b-pixels" / "cells"), key=len)
    assert plain == "ridge-seed0.json" and len(others) == 1
    assert re.fullmatch("ridge-seed0-without-[0-9a-f]{12}.json", others[0])
    assert os.listdir(tmp_path / "learners" / "a-pixels" / "cells") == [plain]  # of both tables
    assert len(os.listdir(tmp_path / "learners" / "a-from-b-pixels" / "cells")) == 1


def test_runs_that_leave_out_other_photographs_lie_apart(tmp_path, with_copies, monkeypatch):
    alone = dataclasses.replace(with_copies, domain=("b",), data_dir=with_copies.data_dir[1:])

    def train(config, folder, prepared, make_strategy):
        if prepared:  # else it was looked at before
            data_digests.remember_data(config, folder, prepared.domain, prepared.split)
            folder.write_json("result.json", {"trained": int((prepared.domain.subsets == "train").sum())})
        return folder.read_json("result.json")

    monkeypatch.setattr(pipeline, "run", train)
    for _ in range(2):  # made, then found again
        both, one = (TableRuns(config, "seed", str(tmp_path / "out")) for config in (with_copies, alone))
        assert [runs.result("b", 0)["trained"] for runs in (one, both)] == [12, 8]
        assert both.result("a", 0)["trained"] == 12
    names = sorted(os.listdir(tmp_path / "out" / "runs"))
    assert names[:2] == ["galm-a-seed0", "galm-b-seed0"] and len(names) == 3
    assert re.fullmatch("galm-b-seed0-without-[0-9a-f]{12}", names[2])
    assert both.path(("b",), 0) == both.source(("b",), 0) == str(tmp_path / "out" / "runs" / names[2])
    # a target's run starts from a source of its table
    assert re.search("/galm-a-from-b-seed0-without-[0-9a-f]{12}$", both.path(("a",), 0, ("b",)))


def test_scenarios_are_chosen_by_name():
    assert [s.name for s in domain_transfer.choose(DOMAINS, [], few=False)] == PAPER_COLUMNS
    assert [s.name for s in domain_transfer.choose(DOMAINS, [], few=True)] == PAPER_COLUMNS[6:9]
    assert [s.name for s in domain_transfer.choose(DOMAINS, ["sun-awa"], few=True)] == ["sun-awa"]
    with pytest.raises(UserError, match="--cells to be some of awa-apay, .*Received: awa-sum; nearest: awa-sun"):
        domain_transfer.choose(DOMAINS, ["awa-sum"], few=False)
    # its source knows all labels of the target
    with pytest.raises(UserError, match="Received: awa.apay.sun-sun; nearest"):
        domain_transfer.choose(DOMAINS, ["awa+apay+sun-sun"], few=True)
    with pytest.raises(UserError, match="at least two domains to transfer between. Received: domain=sun"):
        domain_transfer.choose(("sun",), [], few=False)


def test_scenarios_of_one_name_are_told():
    domains = ("birds", "night-sky", "birds-night", "sky")
    told = "Received: birds-night-sky, which is from birds to night-sky, or from birds-night to sky; call them otherwise by --domain"
    for names in ([], ["birds-night-sky"]):
        with pytest.raises(UserError, match=told):
            domain_transfer.choose(domains, names, few=False)
    assert [s.target for s in domain_transfer.choose(domains, ["sky-birds"], few=False)] == ["birds"]
    with pytest.raises(UserError, match="which is from a.b to c, or from a and b to c;"):
        domain_transfer.choose(("a", "b", "a+b", "c"), [], few=False)


class _Killed(Exception):
    pass


def test_a_table_goes_on_with_the_pictures_that_it_was_begun_with(tmp_path, monkeypatch):
    """An earlier version noted digests that did not tell of them: such a table goes on."""
    config, path = Config(domain=("sun",)), str(tmp_path / "table" / "settings.json")

    def settings():
        return TableRuns(config, "seed", str(tmp_path)).settings()

    before = settings()
    assert set(before) - set(config.to_json()) == {
        "vary", "content: data of sun", "content: drawn pictures of sun"
    }  # fmt: skip
    begun.Begun(path, before).keep()
    load = table_runs.load_domains

    def redrawn(*of, **how):
        domain = load(*of, **how)
        return dataclasses.replace(domain, draw=lambda index, size: 255 - domain.draw(index, size))

    monkeypatch.setattr(table_runs, "load_domains", redrawn)
    assert settings()["content: data of sun"] == before["content: data of sun"]
    with pytest.raises(UserError, match="Expected the drawn pictures of sun with which the table in .* was begun"):
        begun.Begun(path, settings())
    os.remove(path)
    begun.Begun(path, {k: v for k, v in before.items() if "drawn" not in k}).keep()
    begun.Begun(path, settings()).keep()


def test_a_table_tells_of_the_splits_of_its_runs_alone(tmp_path, caplog):
    (tmp_path / "mine" / "images").mkdir(parents=True)
    lines = ["image,class,light"]
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / "images" / f"{i}.png")
        lines.append(f"{i}.png,k{i // 4},{i % 2}")
    (tmp_path / "mine" / "attributes.csv").write_text("\n".join(lines))
    config = Config(
        domain=("mine",), data_dir=(str(tmp_path / "mine"),), cache_dir=str(tmp_path / "cache"), image_size=32
    )
    for vary, told in (("split_seed", False), ("seed", True)):
        runs = TableRuns(config, vary, str(tmp_path / "out"))
        runs.content("mine")
        assert "No split is given" not in caplog.text
        runs.prepare(runs.subset(("mine",), 0))
        assert ("No split is given for mine" in caplog.text) is told
    caplog.clear()
    with pytest.raises(UserError, match="nothing"):  # once the data are known
        nas.measure(
            dataclasses.replace(config, split_seed=-1),
            nas.Searches(("galm",), (), ("nothing",), 1, trials=1, epochs=1),
            [0],
            "split_seed",
            str(tmp_path / "nas"),
        )
    assert "No split is given" not in caplog.text


@pytest.fixture
def runs(monkeypatch):
    """The settings of all runs in order; their test mAUC is 0.6, and 0.05 more with a source."""
    made = []

    def run(config, folder, prepared=None, make_strategy=None):
        if folder.has("result.json"):
            return folder.read_json("result.json")
        made.append(config)
        transfer = {"matches": {"a": {}, "b": None}, "gate": {"passed": True}} if config.source_run else None
        result = {
            "val_mauc": 0.5, "test_mauc": 0.6 + 0.05 * bool(config.source_run) + 0.01 * config.split_seed,
            "num_attributes_tested": 2, "data_source": "generated", "commit": None, "seconds_total": 1.0, "transfer": transfer,
        }  # fmt: skip
        folder.write_json("result.json", result)
        return result

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(TableRuns, "prepare", lambda self, config: None)
    monkeypatch.setattr(TableRuns, "content", lambda self, domain: {"data": f"what {domain} holds"})
    monkeypatch.setattr(TableRuns, "has_classes", lambda self, domain: True)
    monkeypatch.setattr(TableRuns, "left_out", lambda self, domains, number: "")
    monkeypatch.setattr(domain_transfer, "fewer_positives", lambda *_: ["sun_1, 5 positives: few"])
    return made


CONFIG = Config(domain=DOMAINS, data_dir=("A", "B", "C"))


def _runs(out, config=CONFIG):
    return TableRuns(config, "split_seed", str(out))


def _run(out, names=(), limits=(WHOLE,), config=CONFIG, numbers=(0,)):
    chosen = domain_transfer.choose(DOMAINS, names, few=limits != (WHOLE,))
    name = "table3" if limits == (WHOLE,) else "few"
    return domain_transfer.run_scenarios(_runs(out, config), name, chosen, limits, numbers)


def test_seven_source_runs_serve_twelve_scenarios(runs, tmp_path):
    table = _run(tmp_path)
    assert len(table) == 24 and len(runs) == 7 + 12
    sources = [c for c in runs if not c.source_run]
    assert sorted(map(len, (c.domain for c in sources))) == [1, 1, 1, 2, 2, 2, 3]
    assert {c.domain: c.data_dir for c in sources}["awa", "sun"] == ("A", "C")
    # else it would train on what the target validates on
    assert [c.finetune_steps for c in runs if len(c.domain) == 3] == [0]
    assert all(c.finetune_steps == CONFIG.finetune_steps for c in runs if len(c.domain) < 3)
    targets = [c for c in runs if c.source_run]
    assert all(len(c.domain) == 1 and os.path.isdir(c.source_run[0]) for c in targets)
    assert {c.split_seed for c in runs} == {0}
    wide = table.pivot(index="scenario", columns="method", values="test_mauc")
    np.testing.assert_allclose(wide[TRANSFERRED] - wide[ALONE], 0.05)
    assert (table.loc[table["method"] == TRANSFERRED, "matched"] == 1).all()


def test_a_killed_table_goes_on_and_another_one_is_refused(runs, tmp_path):
    names = ["awa-sun", "sun-awa"]
    _run(tmp_path / "whole", names)
    expected = len(runs)
    runs[:] = []
    real = pipeline.run

    def killed(config, folder, **rest):
        if len(runs) == 2:
            raise _Killed
        return real(config, folder, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run", killed)
        with pytest.raises(_Killed):
            _run(tmp_path / "cut", names)
    assert len(runs) == 2
    table = _run(tmp_path / "cut", names)
    assert len(runs) == expected
    pd.testing.assert_frame_equal(table, _run(tmp_path / "whole", names))
    assert len(runs) == expected  # the second look at the whole one read everything
    with pytest.raises(
        UserError,
        match="settings of the table in .*cut.table3. Received: warmup_steps=7 now, 300 in the table; give the same flags",
    ):
        _run(tmp_path / "cut", names, config=dataclasses.replace(CONFIG, warmup_steps=7))
    more = _run(tmp_path / "cut", ["awa-sun"], numbers=(0, 1))  # more splits are no other settings
    assert len(more) == 4 and len(runs) == expected + 3


def test_tables_share_the_runs_that_they_have_in_common(runs, tmp_path):
    _run(tmp_path, ["awa-sun", "awa+apay-sun"])
    assert set(os.listdir(tmp_path / "runs")) == {
        f"galm-{name}-split_seed0" for name in ("awa", "awa+apay", "sun", "sun-from-awa", "sun-from-awa+apay")
    }
    made = len(runs)
    other = dataclasses.replace(CONFIG, transfer=("trunk",))  # nothing to a run without a source
    table = semantic.run_semantic(_runs(tmp_path, other), "table2", ["galm", "random"], [], _no_learners(), (0,))
    assert table["method"].tolist() == ["galm", "random", "ridge"] * 3
    assert [(c.method, c.domain[0]) for c in runs[made:]] == [
        ("random", "awa"),
        ("galm", "apay"),
        ("random", "apay"),
        ("random", "sun"),
    ]
    made = len(runs)
    _run(tmp_path, ["awa+apay-sun"], limits=(Less(5),))
    assert [(c.train_positives, bool(c.source_run)) for c in runs[made:]] == [(5, False), (5, True)]
    with pytest.raises(
        UserError, match="settings of the run in .*galm-awa-split_seed0. Received: seed=7 now, 0 in the run"
    ):
        _runs(tmp_path, dataclasses.replace(CONFIG, seed=7)).result("awa", 0)


def test_table_2_goes_on_with_another_method_on_which_no_cell_depends(runs, tmp_path):
    def table(method):
        of_method = _runs(tmp_path, dataclasses.replace(CONFIG, method=method))
        return semantic.run_semantic(of_method, "table2", ["random"], [], _no_learners(), (0,)), of_method.settings()

    before, settings = table("galm")
    path = tmp_path / "table2" / "settings.json"
    for stored in (path.read_text(), json.dumps(settings)):  # an earlier version noted the method
        path.write_text(stored)
        pd.testing.assert_frame_equal(table("random")[0], before)
    assert len(runs) == 3


def test_the_flags_of_a_tables_run_repeat_it_and_a_begun_one_has_its_own_settings(runs, tmp_path):
    config = dataclasses.replace(
        CONFIG, transfer=("trunk",), match="random", transfer_gate_steps=9, size_penalty=0.1, evaluations=3
    )
    table = _runs(tmp_path, config)
    for method in ("galm", "random", "bayesian"):
        table.result("sun", 0, method=method)
        path = table.path(("sun",), 0, method=method)
        again = main_flags.settings(f"--flagfile={path}/flags.txt", "--run_dir=new")
        assert (again.method, again.transfer, again.size_penalty, again.evaluations) == (
            method, Config().transfer, Config().size_penalty if method == "random" else 0.1, 3 if method == "bayesian" else 64,
        )  # fmt: skip
    table.result("sun", 0, ("awa",))
    assert (runs[-1].transfer, runs[-1].match) == (("trunk",), "random")
    path = table.path(("apay",), 0, method="random")
    begun = dataclasses.replace(config, domain=("apay",), data_dir=("B",), split_seed=0, method="random", run_dir=path)
    RunFolder.create(path, begun)  # by an earlier version
    table.result("apay", 0, method="random")
    assert runs[-1].resume and (runs[-1].size_penalty, runs[-1].match, runs[-1].evaluations) == (0.1, "random", 3)


def test_the_flags_of_a_tables_run_say_which_photographs_they_do_not_leave_out(runs, tmp_path, monkeypatch):
    note = "4 training records show photographs that another domain of the table tests and are unused."
    domain = types.SimpleNamespace(notes=("another note", note))
    prepared = types.SimpleNamespace(domain=domain)
    monkeypatch.setattr(TableRuns, "prepare", lambda self, config: prepared)
    table = _runs(tmp_path)
    table.result("sun", 0)
    path = table.path(("sun",), 0)
    told = pathlib.Path(path, "flags.txt").read_text().splitlines()[:3]
    assert told[1] == f"# What no flag repeats: {note}" and told[2].startswith("--")
    RunFolder(path).note_places(dataclasses.replace(runs[-1], data_dir=("moved",)))
    moved = pathlib.Path(path, "flags.txt").read_text()
    assert moved.splitlines()[:2] == told[:2] and "another note" not in moved
    assert main_flags.settings(f"--flagfile={path}/flags.txt", "--run_dir=new").data_dir == ("moved",)


def _no_learners():
    class Cells:
        def sees_other_networks(self, name, target):
            return False

        def row(self, *arguments):
            return {"test_mauc": 0.5, "features": "none"}

    return Cells()


def test_few_labels_are_few_in_the_target_alone(runs, tmp_path):
    table = _run(tmp_path, ["awa+apay-sun"], limits=(Less(5), Less(20)))
    assert table["scenario"].unique().tolist() == ["awa+apay-sun, 5 positives", "awa+apay-sun, 20 positives"]
    assert [c.train_positives for c in runs if len(c.domain) == 2] == [0]
    assert sorted(c.train_positives for c in runs if c.domain == ("sun",)) == [5, 5, 20, 20]
    figure = domain_transfer.draw_curve(table.iloc[::-1])  # as after --positives=20,5
    drawn = {c.get_label(): c[0].get_xydata().tolist() for c in figure.axes[0].containers}
    assert drawn == {ALONE: [[5, 0.6], [20, 0.6]], TRANSFERRED: [[5, pytest.approx(0.65)], [20, pytest.approx(0.65)]]}
    FigureCanvasAgg(figure).draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["5", "20"]
    assert not any(label.get_text() for label in figure.axes[0].get_xticklabels(minor=True))


def test_attributes_with_fewer_positives_are_told_and_the_same_runs_refused(monkeypatch):
    """x of sun has 4 positives in training of split 0 and 5 in that of 1, y has 7 and 2, z, of split 0 alone, 6."""

    def prepare(self, config):
        counts = {"x": 4, "y": 7, "z": 6} if config.split_seed == 0 else {"x": 5, "y": 2}
        labels = np.stack([np.arange(10) < count for count in counts.values()], axis=1).astype(np.float32)
        labels = np.concatenate(
            [labels, np.ones_like(labels), np.full_like(labels, np.nan)]
        )  # who judge, and unknown ones
        domain = types.SimpleNamespace(attributes=tuple(counts), labels=labels)
        return types.SimpleNamespace(domain=domain, split=types.SimpleNamespace(train=np.r_[:10, 20:30]))

    monkeypatch.setattr(TableRuns, "prepare", prepare)
    chosen = domain_transfer.choose(DOMAINS, ["awa-sun", "apay-sun"], few=True)

    def told(positives, numbers=(0, 1)):
        return domain_transfer.fewer_positives(_runs("x"), chosen, positives, numbers)

    assert told([2]) == told([1]) == []
    where = "attributes have fewer in training of some split, all of which are known"
    assert told([9, 5]) == [f"sun, 9 positives: 3 of 3 {where}", f"sun, 5 positives: 2 of 3 {where}"]
    assert told([5], (1,)) == ["sun, 5 positives: 1 of 2 attributes have fewer in training, all of which are known"]
    with pytest.raises(
        UserError,
        match="Received: positives=9,5,7, of which 7 and 9 leave sun all its positives: no attribute has more than 7 in training; give 7 alone",
    ):
        told([9, 5, 7])


def test_the_curve_of_few_labels_is_that_of_its_table():
    means = {(5, ALONE): 0.6, (5, TRANSFERRED): 0.7, (20, ALONE): 0.75, (20, TRANSFERRED): 0.8}
    table = pd.DataFrame([
        {"scenario": f"a-b, {count} positives", "method": method, "split": split, "test_mauc": mean + 0.1 * split}
        for (count, method), mean in means.items()
        for split in (-1, 1)
    ])  # fmt: skip
    for container in domain_transfer.draw_curve(table).axes[0].containers:
        middles, bars = container[0].get_xydata(), container.lines[2][0].get_segments()
        wanted = [[count, mean] for (count, method), mean in means.items() if method == container.get_label()]
        np.testing.assert_allclose(middles, wanted)
        np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars], 2 * 0.1 * np.sqrt(2))


@pytest.mark.parametrize(
    ("counts", "shown"),
    [((5, 20, 100), None), ((1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000), None), ((1, 200, 250), ["1", "250"])],
)
def test_numbers_of_positives_do_not_cover_one_another(counts, shown):
    table = pd.concat(_transferred(["awa", "sun"], f", {count} positives") for count in counts)
    figure = domain_transfer.draw_curve(table)
    FigureCanvasAgg(figure).draw()
    for axis in figure.axes:
        labels = axis.get_xticklabels()  # that are to be seen
        assert [label.get_text() for label in labels] == (shown or [str(count) for count in counts])
        places = [label.get_window_extent() for label in labels]
        assert all(a.x1 + 2 < b.x0 for a, b in zip(places, places[1:]))


def test_every_split_has_figures_of_its_own(runs, tmp_path):
    class Cells:
        def sees_other_networks(self, name, target):
            return False

        def row(self, name, target, number, sources=()):
            return {"test_mauc": 0.6 + 0.01 * number, "features": "none"}

    chosen = domain_transfer.choose(DOMAINS, ["awa-sun"], few=False)
    learned = domain_transfer.run_learners(Cells(), ["dap"], chosen, (0, 3))
    one = _runs(tmp_path, dataclasses.replace(CONFIG, domain=("awa",), data_dir=("A",)))
    semantic_table = semantic.run_semantic(one, "table2", ["galm"], [], Cells(), (0, 3))
    for table in (learned, semantic_table):
        assert set(table["split"]) == {0, 3}
        np.testing.assert_allclose(table["test_mauc"], 0.6 + 0.01 * table["split"])


def test_few_steps_are_few_in_the_target_alone(runs, tmp_path):
    config = dataclasses.replace(CONFIG, rounds=1, supernet_steps=0, adapt_steps=2)
    table = _run(tmp_path, ["awa+apay-sun"], limits=(WHOLE, Less(divisor=4)), config=config)
    assert table["method"].tolist() == [ALONE, TRANSFERRED, f"{ALONE}, steps / 4", f"{TRANSFERRED}, steps / 4"]
    assert table["scenario"].unique().tolist() == ["awa+apay-sun"] and table["divisor"].tolist() == [1, 1, 4, 4]
    steps = [(c.warmup_steps, c.supernet_steps, c.controller_steps, c.adapt_steps, c.finetune_steps) for c in runs]
    whole, fewer = (300, 0, 1000, 2, 480), (75, 0, 250, 1, 120)  # never none of a phase that there is
    assert steps == [whole, whole, whole, fewer, fewer]
    rates = [
        (c.learning_rate, c.adapt_learning_rate, c.finetune_learning_rate, c.controller_learning_rate) for c in runs
    ]
    assert rates == [(2e-3, 5e-4, 2e-3, 2e-3)] * 3 + [(8e-3, 2e-3, 8e-3, 2e-3)] * 2
    assert runs[-1].source_run == runs[2].source_run and [c.rounds for c in runs] == [1] * 5
    assert {"galm-sun-d4-split_seed0", "galm-sun-from-awa+apay-d4-split_seed0"} < set(os.listdir(tmp_path / "runs"))


def _planted():
    rows = [
        ("a-b", ALONE, 0, 0.5), ("a-b", TRANSFERRED, 0, 0.6), ("a-b", ALONE, 1, 0.7), ("a-b", TRANSFERRED, 1, 0.7),
        ("b-a", ALONE, 0, 0.8), ("b-a", TRANSFERRED, 0, 0.7),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["scenario", "method", "split", "test_mauc"])


def test_differences_are_paired_and_the_best_is_marked(tmp_path, capsys):
    summary = paper_table.summarise(_planted(), ALONE)
    row = summary.iloc[1]
    assert (row["mean"], row["splits"], row["difference"]) == pytest.approx((0.65, 2, 0.05))
    # t of one degree of freedom, standard error 0.05
    assert row["high"] - row["low"] == pytest.approx(2 * 12.706 * 0.05, rel=1e-3)
    text = paper_table.markdown(summary, ALONE, "scenario", {(TRANSFERRED, "a-b"): 0.9}, star=True)
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0] == [
        "scenario",
        ALONE,
        TRANSFERRED,
        f"{TRANSFERRED} - {ALONE}",
        f"{TRANSFERRED}, paper (other images)",
    ]
    assert lines[2] == ["a-b", "0.600 ± 0.141", "**0.650 ± 0.071***", "0.050 (-0.585 to 0.685)", "0.900"]
    assert lines[3] == ["b-a", "**0.800**", "0.700", "-0.100", ""]
    paper_table.write(
        _planted(), ALONE, "table3", str(tmp_path), lines="scenario", notes=["two splits"], paper={}, star=True
    )
    written = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert written == capsys.readouterr().out and f"\n- `*`: above {ALONE}\n- bold: the best of a line\n" in written
    assert pd.read_csv(tmp_path / "table3.csv").equals(_planted()) and (tmp_path / "table3.png").stat().st_size > 5000


def test_what_differs_by_rounding_alone_is_alike():
    table = pd.DataFrame(
        [("a-b", "b", ALONE, 0, 0.5729166666666666), ("a-b", "b", TRANSFERRED, 0, 0.5729166666666667)],
        columns=["scenario", "target", "method", "split", "test_mauc"],
    )
    summary = paper_table.summarise(table, ALONE)
    assert summary["best"].all() and summary["difference"].iloc[1] > 0
    assert [paper_table.figure_text(row, star=True) for _, row in summary.iterrows()] == ["**0.573**"] * 2
    of_methods = transfer_table.as_methods(table, "galm", {"features": "images", "other_networks": False})
    more = of_methods.assign(method="dap", test_mauc=0.5729166666666666)
    summary = transfer_table.summarise(pd.concat([of_methods, more], ignore_index=True))
    assert summary["best"].all() and "*" not in transfer_table.markdown(summary, {}).replace("**", "")
    assert [text.get_text() for text in transfer_table.draw(summary, "table3").axes[0].texts] == ["0.573"] * 2


def test_a_plot_shows_what_its_table_says():
    axes = paper_table.draw(paper_table.summarise(_planted(), ALONE), ALONE, "table3").axes
    means, differences = (  # of the first scenario, each with the ends of its bar
        [(c[0].get_xdata()[0], *c.lines[2][0].get_segments()[0][:, 0]) for c in axis.containers] for axis in axes
    )
    np.testing.assert_allclose(means, [[0.6, 0.459, 0.741], [0.65, 0.579, 0.721]], atol=1e-3)
    np.testing.assert_allclose(differences, [[0.05, -0.585, 0.685]], atol=1e-3)


def _learned():
    """What three methods reach from two sources of one target, in two splits; the first sees a network of others."""
    figures = {
        "iap": ("file", True, [(0.7, 0.7), (0.7, 0.7)], [(0.4, 0.7), (0.4, 0.7)]),
        "galm": ("images", False, [(0.7, 0.5), (0.8, 0.7)], [(0.5, 0.5), (0.7, 0.7)]),
        "dap": ("pixels", False, [(0.6, 0.9), (0.6, 0.8)], [(0.9, 0.9), (0.8, 0.8)]),
    }
    return pd.DataFrame([
        {"scenario": scenario, "target": "b", "method": method, "source": source, "split": split, "test_mauc": value,
         "features": features, "other_networks": others}
        for method, (features, others, *parts) in figures.items()
        for scenario, part in zip(("a-b", "c-b"), parts)
        for split, values in enumerate(part)
        for source, value in zip((TRANSFERRED, ALONE), values)
    ])  # fmt: skip


def test_table_3_with_learners_by_hand():
    summary = transfer_table.summarise(_learned())
    text = transfer_table.markdown(summary, {("galm", "a-b"): 0.9})
    lines = [[c.strip() for c in line.split("|")[1:-1]] or line for line in text.splitlines() if "---" not in line]
    assert [line for line in lines if line] == [
        f"## {TRANSFERRED}",
        ["method", "sees", "a-b", "c-b"],
        ["galm", "images", "**0.750 ± 0.071***", "0.600 ± 0.141"],
        ["dap", "pixels", "0.600 ± 0.000", "**0.850 ± 0.071**"],
        ["iap", "file", "**0.700 ± 0.000**", "**0.400 ± 0.000**"],
        f"## {ALONE}",
        ["method", "b"],
        ["galm", "0.600 ± 0.141"],
        ["dap", "**0.850 ± 0.071**"],
        ["iap", "**0.700 ± 0.000**"],
        f"## {TRANSFERRED} minus {ALONE}",
        ["method", "a-b", "c-b"],
        ["galm", "0.150 (-0.485 to 0.785)", "0.000"],
        ["dap", "-0.250 (-0.885 to 0.385)", "0.000"],
        ["iap", "0.000", "-0.300"],
        f"## {paper_table.OTHER_IMAGES}",
        ["method", "a-b"],
        ["galm", "0.900"],
    ]
    axis = transfer_table.draw(summary, "table3").axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.750*", "0.600", "0.600", "0.850", "0.700", "0.400"]
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.15, 0], [-0.25, 0], [0, -0.3]], atol=1e-9)


def test_what_a_learner_sees_may_differ_between_targets():
    table = pd.DataFrame([
        {"scenario": scenario, "target": scenario[-1], "method": method, "source": source, "split": 0, "test_mauc": value,
         "features": features, "other_networks": others}
        for method, scenario, value, features, others in (
            ("hap", "b-a", 0.65, "trunk of a (64)", False),
            ("hap", "a-b", 0.8, "pretrained trunk of b (64)", True),
            ("galm", "b-a", 0.6, "images", False),
            ("galm", "a-b", 0.7, "images", False),
        )
        for source in (TRANSFERRED, ALONE)
    ])  # fmt: skip
    summary = transfer_table.summarise(table)
    assert transfer_table.markdown(summary, {}).splitlines()[2:6] == [
        "| method | sees | b-a | a-b |",
        "|---|---|---|---|",
        "| galm | images | 0.600 | **0.700** |",
        "| hap | trunk of a (64); pretrained trunk of b (64) | **0.650** | **0.800** |",
    ]
    texts = [text.get_text() for text in transfer_table.draw(summary, "table3").axes[0].texts]
    assert texts == ["0.600", "0.700", "0.650", "0.800"]


def test_names_of_domains_are_drawn_as_they_are():
    table = _planted().replace({"a-b": "a$^$-b", "b-a": "b-a$_$"})
    summary = paper_table.summarise(table, ALONE)
    sourced = summary[summary["method"] == TRANSFERRED].assign(method="galm", source=TRANSFERRED)
    few = table.assign(scenario=table["scenario"] + ", 5 positives")
    for figure in (
        paper_table.draw(summary, ALONE, "table3"),
        transfer_table.draw(sourced, "table3"),
        domain_transfer.draw_curve(few),
    ):
        FigureCanvasAgg(figure).draw()


def _transferred(names, less=""):
    """What two methods reach in every scenario of these domains, each named in full."""
    return pd.DataFrame([
        {"scenario": scenario.name + less, "target": scenario.target, "method": method, "split": split, "test_mauc": 0.6}
        for scenario in domain_transfer.choose(names, [], few=bool(less))
        for method in (ALONE, TRANSFERRED)
        for split in range(2)
    ])  # fmt: skip


def test_domains_of_long_names_are_short_in_plots_and_told_apart():
    names = ["birds", "photographs_of_animals", "photographs_of_mammals"]
    shown = paper_table.names_in_plots(_transferred(names, ", 5 positives"))
    assert shown == {
        "birds+photographs_of_animals-photographs_of_mammals, 5 positives": "birds+photog…imals-photog…mmals, 5 positives",
        "birds+photographs_of_mammals-photographs_of_animals, 5 positives": "birds+photog…mmals-photog…imals, 5 positives",
        "photographs_of_animals+photographs_of_mammals-birds, 5 positives": "photog…imals+photog…mmals-birds, 5 positives",
    }
    assert paper_table.names_in_plots(pd.DataFrame({"scenario": names})) == {name: name for name in names}


@pytest.mark.parametrize("letters", [3, 17, 40])
def test_names_of_any_length_leave_the_plots_their_room(tmp_path, monkeypatch, letters):
    drawn = {}
    monkeypatch.setattr(
        paper_table, "print_and_write", lambda table, text, figure, name, out: drawn.update({name: figure})
    )
    names = [(kind * 40)[:letters] for kind in ("bird", "sun", "W")]
    table = _transferred(names)
    paper_table.write(table, ALONE, "bars", "", lines="scenario", notes=[])
    for name, chosen in ("one", table), ("few", table[table["scenario"].str.startswith(f"{names[0]}-")]):
        rows = transfer_table.as_methods(chosen, "galm", {"features": "images", "other_networks": False})
        transfer_table.write(rows, name, "", [], {})
    drawn["curve"] = domain_transfer.draw_curve(_transferred(names, ", 5 positives"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that a plot has no room left
        for figure in drawn.values():
            FigureCanvasAgg(figure).draw()
    inches = {name: figure.axes[0].get_window_extent().size / figure.dpi for name, figure in drawn.items()}
    assert inches["bars"][0] > 4 and inches["one"][0] > 10 and min(inches["one"][1], inches["few"][1]) > 0.5
    for name, texts in (
        ("one", drawn["one"].axes[0].texts),
        ("curve", [axis.title for axis in drawn["curve"].axes]),
        ("bars", [axis.xaxis.label for axis in drawn["bars"].axes]),
    ):
        places = [text.get_window_extent() for text in texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(places, 2)), name
        assert all(0 <= place.x0 and place.x1 <= drawn[name].bbox.x1 for place in places), name


def test_names_of_domains_stand_in_tables_as_they_are():
    table = _transferred(["*a*", "b_c"])
    row = {"features": "<file>.npz", "other_networks": True}
    summary = transfer_table.summarise(transfer_table.as_methods(table, "galm", row))
    text = transfer_table.markdown(summary, {})
    assert r"| method | sees | \*a\*-b_c | b_c-\*a\* |" in text and r"| galm | \<file>.npz |" in text
    for lines in ("scenario", "method"):
        text = paper_table.markdown(paper_table.summarise(table, ALONE), ALONE, lines, {}, star=False)
        assert r"| \*a\*-b_c |" in text and "*a*" not in text


def test_validation_stands_in_a_table_of_its_own(tmp_path, capsys):
    table = _planted().assign(val_mauc=[0.9, 0.4, 0.9, 0.6, 0.1, 0.2])
    paper_table.write(
        table, ALONE, "few_steps", str(tmp_path), lines="scenario", notes=[], paper={}, star=True, validation=True
    )
    tested, validated = capsys.readouterr().out.split("## Validation mAUC")
    assert "| a-b | 0.600 ± 0.141 | **0.650 ± 0.071*** | 0.050 (-0.585 to 0.685) |" in tested
    assert "| a-b | **0.900 ± 0.000** | 0.500 ± 0.141 | -0.400 (-1.671 to 0.871) |" in validated
    assert "| b-a | 0.100 | **0.200*** | 0.100 |" in validated and tested.count("| b-a |") == 1


def test_counts_stay_whole_beside_learners_that_have_none(runs, tmp_path):
    rows = transfer_table.as_methods(_run(tmp_path, ["awa-sun"]), "galm", _runs(tmp_path).seen)
    learned = {"scenario": "awa-sun", "target": "sun", "method": "dap", "split": 0, "source": ALONE, "test_mauc": 0.5}
    learned = pd.DataFrame([{**learned, "features": "images", "other_networks": False}])
    transfer_table.write(pd.concat([rows, learned], ignore_index=True), "table3", str(tmp_path), [], {})
    counts = pd.read_csv(tmp_path / "table3.csv", dtype=str)[["positives", "divisor", "matched"]]
    assert counts.fillna("").to_numpy().tolist() == [["0", "1", "0"], ["0", "1", "1"], ["", "", ""]]


def test_each_kind_of_features_has_a_best_of_its_own(tmp_path, capsys):
    table = pd.DataFrame({
        "scenario": "a", "method": ["galm", "ft", "dap", "iap"], "split": 0, "test_mauc": [0.6, 0.7, 0.8, 0.9],
        "other_networks": [False, False, True, True],
    })  # fmt: skip
    assert paper_table.summarise(table, "galm")["best"].tolist() == [False, True, False, True]
    assert paper_table.summarise(table.drop(columns="other_networks"), "galm")["best"].tolist() == [False] * 3 + [True]
    for known, told in (
        (table, paper_table.BOLD),
        (table.drop(columns="other_networks"), "bold: the best of a column"),
    ):
        paper_table.write(known, "galm", "table2", str(tmp_path), lines="method", notes=[], paper={})
        assert f"- {told}\n" in capsys.readouterr().out


def test_what_stands_on_a_pretrained_trunk_sees_a_network_of_other_images(runs, tmp_path):
    pretrained = dataclasses.replace(CONFIG, trunk_model="x.keras", image_size=128)
    for config, sees, others in (
        (CONFIG, "images 64x64", False),
        (pretrained, "images 128x128 on a pretrained trunk", True),
    ):
        out = tmp_path / str(others)
        table = semantic.run_semantic(_runs(out, config), "table2", ["galm"], [], _no_learners(), (0,))
        galm = table[table["method"] == "galm"]
        assert (galm["features"] == sees).all() and (galm["other_networks"] == others).all()
        rows = transfer_table.as_methods(_run(out, ["awa-sun"], config=config), "galm", _runs(out, config).seen)
        assert (rows["features"] == sees).all() and (rows["other_networks"] == others).all()


def test_features_of_a_pretrained_trunk_are_those_of_a_network_of_other_images(tmp_path, monkeypatch):
    paths = [str(tmp_path / name) for name in DOMAINS]
    for path, model in zip(paths, ("", "x.keras", "")):
        RunFolder.create(path, Config(trunk_model=model))
    of_runs = LearnerCells(_runs(tmp_path), settings_per_domain(3, "trunk", "", features_file=[], features_run=paths))
    assert [of_runs.sees_other_networks("dap", domain) for domain in DOMAINS] == [False, True, False]
    monkeypatch.setattr(learner_data, "_trunk_features", lambda *_: None)
    names = [
        learner_data.make_features(FeatureSettings("trunk", features_run=path), CONFIG, None)[1] for path in paths[:2]
    ]
    assert names == ["trunk of awa", "pretrained trunk of apay"]
    own = settings_per_domain(3, "trunk", "", own_runs=True, features_file=[], features_run=[])
    for model in ("", "x.keras"):
        cells = LearnerCells(_runs(tmp_path, dataclasses.replace(CONFIG, trunk_model=model)), own)
        assert cells.sees_other_networks("ridge", "awa") == bool(model) and not cells.sees_other_networks("ft", "awa")


def test_every_method_of_a_plot_has_a_mark_of_its_own():
    methods = ["galm", "random", learners.RIDGE, *learners.LEARNERS]
    table = pd.DataFrame(
        [("a", method, 0, 0.5) for method in methods], columns=["scenario", "method", "split", "test_mauc"]
    )
    figure = paper_table.draw(paper_table.summarise(table, "galm"), "galm", "table2")
    for axis, drawn in zip(figure.axes, (methods, methods[1:])):
        marks = {
            (line.get_marker(), to_hex(line.get_color())) for line in (container[0] for container in axis.containers)
        }
        assert len(marks) == len(drawn)


@pytest.fixture
def small(monkeypatch, drawn):
    """Settings of two domains with few images; IAP chooses nothing."""
    monkeypatch.setitem(learners.LEARNERS, "iap", lambda config: IAP((0.1,)))
    with few_images(6):
        yield Config(domain=("awa", "sun"), image_size=32, cache_dir=drawn)


def test_table_2_has_a_line_per_method(tmp_path, monkeypatch, small):
    table_runs = _runs(tmp_path, dataclasses.replace(small, domain=("sun",)))
    cells = LearnerCells(table_runs, [FeatureSettings()])
    table = semantic.run_semantic(table_runs, "table2", [], ["iap"], cells, (0,))
    assert table["method"].tolist() == ["ridge", "iap"] and table["test_mauc"].between(0, 1).all()
    assert (table["commit"] == environment()["commit"]).all() and table["computed_on"].notna().all()
    monkeypatch.setattr(preparation, "prepare", None)  # nothing is computed twice
    again = semantic.run_semantic(
        table_runs, "table2", [], ["iap"], LearnerCells(table_runs, [FeatureSettings()]), (0,)
    )
    pd.testing.assert_frame_equal(table, again)
    text = paper_table.markdown(
        paper_table.summarise(table, "ridge"), "ridge", "method", paper_figures.TABLE_2, star=False
    )
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0] == ["method"] + ["sun", "minus ridge", "sun, paper (other images)"]
    assert [line[0] for line in lines[2:]] == ["ridge", "iap"] and lines[3][3] == "0.819" and lines[2][3] == ""
    with pytest.raises(UserError, match="one --features_file per domain, 2 in all. Received: features_file=f.npz"):
        settings_per_domain(2, "file", "", features_file=["f.npz"], features_run=[])


def test_learners_of_table_3_need_no_run_and_share_their_figures_with_table_2(tmp_path, monkeypatch, small):
    monkeypatch.setattr(pipeline, "run", None)
    table_runs = _runs(tmp_path, small)
    chosen = domain_transfer.choose(small.domain, ["sun-awa", "awa+sun-awa"], few=False)
    pixels = [FeatureSettings(), FeatureSettings()]
    table = domain_transfer.run_learners(LearnerCells(table_runs, pixels), ["iap"], chosen, (0,))
    assert table["source"].tolist() == [ALONE, TRANSFERRED] * 2 and not table["other_networks"].any()
    alone, sourced, *joint = table["test_mauc"]
    assert alone != sourced and joint == [alone, sourced]  # awa's images are seen anyway
    assert (table["num_attributes_tested"] == table["num_attributes_tested"][0]).all()
    assert sorted(os.listdir(tmp_path / "learners")) == ["awa-from-sun-pixels", "awa-pixels"]
    assert os.listdir(tmp_path / "learners" / "awa-pixels" / "cells") == ["iap-split_seed0.json"]
    monkeypatch.setattr(preparation, "prepare", None)
    cells = LearnerCells(_runs(tmp_path, dataclasses.replace(small, domain=("awa",), transfer=("trunk",))), pixels[:1])
    assert cells.row("iap", "awa", 0)["test_mauc"] == alone
    with pytest.raises(
        UserError, match="settings of the table in .*awa-pixels. Received: dropout=0.1 now, 0.3 in the table"
    ):
        LearnerCells(_runs(tmp_path, dataclasses.replace(small, dropout=0.1)), pixels).row("iap", "awa", 0)


def test_cells_of_other_data_or_features_are_refused(tmp_path, small):
    """The same folder and file hold other labels, or other numbers, than when the figures were made."""
    mine, names = tmp_path / "mine", [f"{c}{i}.png" for c in "abcdef" for i in range(4)]
    (mine / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(mine / "images" / name)

    def label(seed):
        rows = [
            f"{n},{n[0]},{'test' if n[0] in 'ef' else 'train'},{v}"
            for n, v in zip(names, np.random.default_rng(seed).integers(0, 2, 24))
        ]
        (mine / "attributes.csv").write_text("\n".join(["image,class,split,x", *rows]))

    label(0)
    config = dataclasses.replace(small, domain=("mine",), data_dir=(str(mine),))

    def row(features):
        return LearnerCells(_runs(tmp_path, config), [features]).row("ridge", "mine", -1)

    def write_features(seed):
        values = np.random.default_rng(seed).normal(size=(24, 5))
        np.savez(tmp_path / "f.npz", image=names, features=values)

    write_features(0)
    pixels, file = FeatureSettings(), FeatureSettings("file", features_file=str(tmp_path / "f.npz"))
    before = [row(pixels), row(file)]
    assert [row(pixels), row(file)] == before
    write_features(1)
    with pytest.raises(
        UserError, match="Expected the features of mine with which the table in .*mine-file was begun. Received: others"
    ):
        row(file)
    label(1)
    with pytest.raises(
        UserError,
        match="Expected the data of mine with which the table in .*mine-pixels was begun. Received: others; restore",
    ):
        row(pixels)
    digests = []
    for text in ("{}", "{} "):  # a run that was made again under its name
        (tmp_path / "result.json").write_text(text)
        cells = LearnerCells(_runs(tmp_path, config), [FeatureSettings("trunk", features_run=str(tmp_path))])
        digests.append(cells._settings("trunk", "mine", ())["content: features of mine"])
    assert len(digests[0]) == 1 and digests[0] != digests[1]


def _turned(csv):
    """Turns the labels of the last column round."""
    first, *lines = csv.read_text().splitlines()
    csv.write_text("\n".join([first, *(f"{line[:-1]}{1 - int(line[-1])}" for line in lines)]))


def test_data_that_change_while_a_table_is_made_are_refused(tmp_path, with_copies):
    """Its later cells would be of other data than its first, and all be taken for those of the first."""
    pixels = [FeatureSettings()] * 2
    config = dataclasses.replace(with_copies, cache_dir=str(tmp_path / "cache"))
    runs = TableRuns(config, "seed", str(tmp_path / "out"))
    cells, begun_with = LearnerCells(runs, pixels), runs.settings()
    cells.row("ridge", "a", 0)
    runs.prepare(runs.subset(("a", "b"), 0))  # each of two that are joined is as it is alone
    _turned(tmp_path / "a" / "attributes.csv")
    told = "^Expected the data of a with which the table in .*out was begun. Received: others; restore them and give the same command, or name .*--out"
    for domains in (("a",), ("a", "b")):
        with pytest.raises(UserError, match=told):
            runs.prepare(runs.subset(domains, 0))
    with pytest.raises(UserError, match=told):
        cells.row("ridge", "a", 1)
    assert runs.settings() == begun_with
    runs.prepare(runs.subset(("b",), 0))
    _turned(tmp_path / "a" / "attributes.csv")
    assert cells.row("ridge", "a", 1) and TableRuns(config, "seed", str(tmp_path / "out")).settings() == begun_with


def test_a_joined_domain_is_as_it_is_alone(small):
    joined = table_runs.load_domains(small)
    for name in small.domain:
        alone = table_runs.load_domains(dataclasses.replace(small, domain=(name,)))
        assert joined.only(name).classes != alone.classes  # whose numbers are other ones
        assert data_digests.content_digests(joined.only(name)) == data_digests.content_digests(alone)
        assert (joined.only(name).name, joined.only(name).data_sources) == (name, alone.data_sources)


def test_features_that_change_while_a_table_is_made_are_refused(tmp_path, with_copies):
    config = dataclasses.replace(with_copies, domain=("a",), data_dir=with_copies.data_dir[:1])
    file, names = tmp_path / "f.npz", [f"{i}.png" for i in range(16)]
    np.savez(file, image=names, features=np.random.default_rng(0).normal(size=(16, 5)))
    runs = TableRuns(config, "seed", str(tmp_path / "out"))
    cells = LearnerCells(runs, [FeatureSettings("file", features_file=str(file))])
    cells.row("ridge", "a", 0)
    np.savez(file, image=names, features=np.random.default_rng(1).normal(size=(16, 5)))
    with pytest.raises(
        UserError, match="Expected the features of a with which the table in .*out was begun. Received: others"
    ):
        cells.row("ridge", "a", 1)


def test_data_that_change_while_a_suite_is_at_work_are_refused(tmp_path, monkeypatch, with_copies):
    config = dataclasses.replace(with_copies, domain=("a",), data_dir=with_copies.data_dir[:1])

    def then_turned(*_):
        _turned(tmp_path / "a" / "attributes.csv")

    told = "Expected the data of a with which the suite{} was begun. Received: others; restore them and give the same"
    monkeypatch.setattr(methods, "_linear", then_turned)
    with pytest.raises(UserError, match=told.format(" in out")):
        methods.run_methods(config, [], [0, 1], "seed", "out")
    monkeypatch.setattr(
        one_supernet, "shared_rewards", lambda *_: then_turned() or types.SimpleNamespace(validation=None, test=None)
    )
    monkeypatch.setattr(choosing, "_choices", lambda *_: {})
    with pytest.raises(UserError, match=told.format(" in out")):
        choosing.run_derived(config, [0, 1], "out", ["galm"])
    prepare = preparation.prepare
    monkeypatch.setattr(preparation, "prepare", lambda *of: (prepare(*of), then_turned())[0])
    with pytest.raises(UserError, match=told.format("")):
        learners.run_learners(config, ["dap"], [0, 1], "seed", FeatureSettings())


def test_finished_runs_of_other_data_are_refused(tmp_path, small):
    fast = dict(
        warmup_steps=1,
        rounds=1,
        supernet_steps=1,
        controller_steps=1,
        adapt_steps=0,
        finetune_steps=0,
        measure_skill=False,
        batch_size=8,
        reward_images=20,
        calibration_images=16,
    )
    table_runs = _runs(tmp_path, dataclasses.replace(small, **fast, method="random"))
    first = table_runs.result("sun", 0)
    assert table_runs.result("sun", 0) == first
    path = os.path.join(table_runs.path(("sun",), 0), "data.json")
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**stored, "labels": "others"}, file)
    with pytest.raises(
        UserError,
        match="Expected the data that the run in .*random-sun-split_seed0 began with. Received: other labels; .* or name another folder by --out",
    ):
        _runs(tmp_path, table_runs.config).result("sun", 0)


def test_a_table_of_other_data_is_refused(runs, tmp_path, monkeypatch):
    _run(tmp_path, ["awa-sun"])
    monkeypatch.setattr(TableRuns, "content", lambda self, domain: {"data": f"what {domain} holds now"})
    with pytest.raises(
        UserError,
        match="Expected the data of awa with which the table in .*table3 was begun. Received: others; restore them",
    ):
        _run(tmp_path, ["awa-sun"])


def test_attributes_that_are_left_out_go_to_their_domains():
    config = dataclasses.replace(CONFIG, leave_out=("sun/trees", "awa/furry"))
    assert [_runs("x", config).subset((d,)).leave_out for d in DOMAINS] == [("awa/furry",), (), ("sun/trees",)]
    assert _runs("x", config).subset(("awa", "sun")).leave_out == config.leave_out


def test_a_trunk_is_frozen_where_there_is_a_source(runs, tmp_path):
    _run(tmp_path, ["awa-sun"], config=dataclasses.replace(CONFIG, transfer=("trunk", "towers"), freeze_trunk=True))
    assert [(bool(c.source_run), c.freeze_trunk) for c in runs] == [(False, False), (False, False), (True, True)]


def test_a_source_has_all_labels_where_the_target_has_few():
    few = dataclasses.replace(CONFIG, train_positives=5)
    assert _runs("x", few).subset(("awa",), 0).train_positives == 0


def test_what_varies_is_named():
    assert "over splits" in paper_table.spread_text("split_seed") and "splits share classes" in paper_table.spread_text(
        "split_seed"
    )
    assert "other photographs" in paper_table.spread_text("seed", paper_table.PHOTOGRAPHS)
    assert "over seeds" in paper_table.spread_text("seed") and "splits" not in paper_table.spread_text("seed")


def test_learners_on_images_need_no_features_and_show_progress(tmp_path, small, capsys):
    settings = settings_per_domain(2, "file", "", features_file=["absent.npz", "absent.npz"], features_run=[])
    table_runs = _runs(
        tmp_path,
        dataclasses.replace(small, warmup_steps=2, rounds=1, supernet_steps=0, adapt_steps=0, finetune_steps=0),
    )
    cells = LearnerCells(table_runs, settings)
    row = cells.row("ft", "awa", 0, ("sun",))
    assert row["features"] == "images 32x32" and 0 <= row["test_mauc"] <= 1
    told = capsys.readouterr()
    assert "Learner ft: awa from sun, split 0\n" in told.out
    assert (
        "training of a learner: 100% 1/1 [" in told.err
        and "choosing a setting: 100% 4/4 [" in told.err
        and "\x1b" not in told.err
    )
    assert os.listdir(tmp_path / "learners") == ["awa-from-sun-images"]
    assert cells.sees_other_networks("dap", "awa") and not cells.sees_other_networks("ft", "awa")
    with pytest.raises(UserError, match="absent.npz, which is no file"):
        cells.row("dap", "awa", 0)


def test_figures_on_the_own_trunk_are_those_of_one_search_method(tmp_path, monkeypatch, small):
    monkeypatch.setattr(LearnerCells, "_compute", lambda self, *arguments: {"test_mauc": 0.5})
    own = settings_per_domain(2, "trunk", "", own_runs=True, features_file=[], features_run=[])
    for method in ("galm", "random"):
        table_runs = _runs(tmp_path, dataclasses.replace(small, method=method))
        for name, features in (("iap", [FeatureSettings()] * 2), ("ft", own)):  # pixels and images are the same for all
            assert LearnerCells(table_runs, features).row(name, "awa", 0, ("sun",))["test_mauc"] == 0.5
        if method == "galm":
            LearnerCells(table_runs, own).row("iap", "awa", 0, ("sun",))
    with pytest.raises(UserError, match="awa-from-sun-trunk. Received: method=random now, galm in the table"):
        LearnerCells(table_runs, own).row("iap", "awa", 0, ("sun",))


def test_a_match_counts_where_it_is_close():
    """Earlier versions wrote None for what is not, and no `close`."""
    result = dict.fromkeys(("val_mauc", "test_mauc", "num_attributes_tested", "data_source", "commit", "seconds_total"))
    matches = {"a": {"close": True}, "b": {"close": False}, "c": {}, "d": None}
    assert domain_transfer.figures({**result, "transfer": {"matches": matches, "gate": None}})["matched"] == 2
    assert domain_transfer.figures({**result, "transfer": None})["matched"] == 0


def test_features_of_two_networks_are_told(tmp_path, small):
    paths = []
    for domain, width in zip(small.domain, (3, 5)):
        names = preparation.prepare(dataclasses.replace(small, domain=(domain,))).domain.paths
        paths.append(str(tmp_path / f"{domain}.npz"))
        np.savez(paths[-1], image=np.array(names), features=np.random.default_rng(0).normal(size=(len(names), width)))
    settings = settings_per_domain(2, "file", "", features_file=paths, features_run=[])
    with pytest.raises(
        UserError,
        match="one network for target and sources. Received: sun: 5 numbers an image, awa: 3 numbers an image; name",
    ):
        LearnerCells(_runs(tmp_path, small), settings).row("iap", "sun", 0, ("awa",))


def test_features_that_cannot_be_had_are_told_before_any_search(benchmark, monkeypatch, small):
    searches, prepared = [], types.SimpleNamespace(domain=types.SimpleNamespace(paths=[]))
    monkeypatch.setattr(TableRuns, "prepare", lambda self, config: prepared)
    monkeypatch.setattr(semantic, "run_semantic", lambda *_: searches.append("table 2"))
    monkeypatch.setattr(domain_transfer, "run_scenarios", lambda *_: searches.append("table 3"))
    data = ["--domain=awa,sun", "--image_size=32", f"--cache_dir={small.cache_dir}"]
    for flags_, told in (
        (["file", "--features_file=absent.npz,absent.npz"], "Received: features_file=absent.npz, which is no file"),
        (["trunk", "--features_run=absent,absent"], "Expected a run folder .*Received: --features_run=absent .No such"),
        (["vgg16", "--vgg16_weights=absent.h5"], "Received: vgg16_weights=absent.h5, which is no file"),
    ):
        for table in (["--table=2"], ["--table=3", "--learners=dap"]):
            with pytest.raises(UserError, match=told):
                benchmark(*table, *data, f"--features={flags_[0]}", *flags_[1:])
    assert not searches


def test_a_trunk_of_another_split_is_told_before_any_search_with_flags_that_a_table_takes(tmp_path, monkeypatch, small):
    config = dataclasses.replace(small, domain=("sun",), split_seed=0)
    prepared = preparation.prepare(config)
    of_run = leakage.Learned.of("R", config, prepared.domain, prepared.split)
    sources = {f.name: None for f in dataclasses.fields(Source)} | {
        f.name: getattr(of_run, f.name) for f in dataclasses.fields(of_run)
    }
    monkeypatch.setattr(learner_data, "read_trunk", lambda *_: Source(**sources))
    monkeypatch.setattr(learner_cells, "read_config", lambda *_: config)
    features = [FeatureSettings("trunk", features_run="R")]

    def expect(table_runs, names, numbers):
        LearnerCells(table_runs, features).expect_features(names, [("sun", ())], numbers)

    table_runs = _runs(tmp_path, dataclasses.replace(small, domain=("sun",)))
    expect(table_runs, ["dap"], [0])
    expect(table_runs, ["ft"], [0, 1])  # sees images
    with pytest.raises(
        UserError, match="has seen sun/.*; give both runs the same split: --splits=0, --test_split=official.$"
    ):
        expect(table_runs, ["dap"], [0, 1])
    kept = tmp_path / "learners" / "sun-trunk" / "cells"
    kept.mkdir(parents=True)
    (kept / "dap-split_seed1.json").write_text("{}")
    expect(table_runs, ["dap"], [0, 1])  # what is finished asks for none
    by_seed = TableRuns(dataclasses.replace(table_runs.config, split_seed=1), "seed", str(tmp_path))
    with pytest.raises(UserError, match="the same split: --split_seed=0, no --splits_file, "):
        expect(by_seed, ["dap"], [0])


def test_the_trunk_of_a_table_is_that_of_its_own_run_of_each_split(tmp_path, monkeypatch, small):
    """Target and source go through the trunk of the target's run, which is made first and has seen no test image."""
    made, asked = [], []
    monkeypatch.setattr(
        TableRuns, "source", lambda self, domains, number: made.append((domains, number)) or f"{domains[0]}{number}"
    )

    def make_features(settings, config, prepared):
        asked.append((settings.features, settings.features_run, config.domain, config.split_seed))
        return np.random.default_rng(0).normal(size=(len(prepared.images), 4)), "trunk of x"

    monkeypatch.setattr(learner_data, "make_features", make_features)
    settings = settings_per_domain(2, "trunk", "", own_runs=True, features_file=[], features_run=[])
    assert {s.features_run for s in settings} == {learner_data.OWN_RUN}
    cells = LearnerCells(_runs(tmp_path, small), settings)
    for number in (0, 1):
        assert cells.row("iap", "awa", number, ("sun",))["features"] == "own trunk (4)"
    cells.row("ridge", "awa", 1)
    assert set(made) == {(("awa",), 0), (("awa",), 1)}
    assert asked == [("trunk", f"awa{n}", (d,), n) for n in (0, 1) for d in ("awa", "sun")]
    pretrained = LearnerCells(
        _runs(tmp_path / "pretrained", dataclasses.replace(small, trunk_model="x.keras")), settings
    )
    assert pretrained.row("ridge", "awa", 0)["features"] == "own pretrained trunk (4)"
    with pytest.raises(UserError, match="Expected --features_run beside --features=trunk"):
        settings_per_domain(1, "trunk", "", features_file=[], features_run=[])


def test_table_3_with_learners_has_a_line_per_method(tmp_path, capsys):
    rows = [
        (scenario, "b", method, split, source, value, "images", method == "c")
        for method, scenario, values in (
            ("galm", "a-b", (0.6, 0.7, 0.6, 0.6)), ("galm", "a+b-b", (0.6, 0.8, 0.6, 0.8)), ("c", "a-b", (0.9, 0.8, 0.9, 0.8)),
            ("d", "a-b", (0.5, 0.9, 0.5, 0.9)), ("d", "a+b-b", (0.5, 0.7, 0.5, 0.7)),
        )
        for split, source, value in zip((0, 0, 1, 1), (ALONE, TRANSFERRED) * 2, values)
    ]  # fmt: skip
    columns = ["scenario", "target", "method", "split", "source", "test_mauc", "features", "other_networks"]
    paper = {("galm", "a-b"): 0.87, ("d", "a+b-b"): 0.5}
    transfer_table.write(pd.DataFrame(rows, columns=columns), "table3", str(tmp_path), ["two splits"], paper)
    text = capsys.readouterr().out
    assert (tmp_path / "table3.md").read_text(encoding="utf-8") == text and (
        tmp_path / "table3.png"
    ).stat().st_size > 5000
    assert len(pd.read_csv(tmp_path / "table3.csv")) == len(rows)
    sourced, alone, minus, of_paper = (
        {
            c[0]: c[1:]
            for c in (
                [v.strip() for v in line.split("|")[1:-1]] for line in block.splitlines() if line.startswith("| ")
            )
        }
        for block in text.split("## ")[1:]
    )
    assert list(sourced) == ["method", "galm", "d", "c"]  # what sees other networks stands last
    assert sourced["method"] == ["sees", "a-b", "a+b-b"]
    assert sourced["galm"] == ["images", "0.650 ± 0.071*", "**0.800 ± 0.000***"]
    assert sourced["d"][1:] == ["**0.900 ± 0.000***", "0.700 ± 0.000*"] and sourced["c"][1:] == [
        "**0.800 ± 0.000**",
        "",
    ]
    assert alone["method"] == ["b"] and alone["galm"] == ["**0.600 ± 0.000**"]
    # the same twice tells no spread
    assert minus["galm"][0] == "0.050 (-0.585 to 0.685)" and minus["c"] == ["-0.100", ""]
    assert of_paper == {"method": ["a-b", "a+b-b"], "galm": ["0.870", ""], "d": ["", "0.500"]}
    assert "- two splits\n" in text and f"\n- `*`: above the same method with {ALONE}\n" in text


def test_a_stroke_in_a_name_parts_no_cells():
    table = pd.DataFrame(
        [("a|b", "galm", 0, 0.5), ("a|b", "x|y", 0, 0.6)], columns=["scenario", "method", "split", "test_mauc"]
    )
    for lines in ("scenario", "method"):
        text = paper_table.markdown(paper_table.summarise(table, "galm"), "galm", lines, {}, star=False)
        assert (
            len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1
            and "a\\|b" in text
            and "x\\|y" in text
        )
    seen = {"target": "b|c", "source": TRANSFERRED, "features": "f|g.npz", "other_networks": False}
    text = transfer_table.markdown(
        transfer_table.summarise(pd.concat([table.assign(**seen), table.assign(**{**seen, "source": ALONE})])), {}
    )
    for block in text.split("## ")[1:]:
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines() if line.startswith("|")}) == 1
    assert "f\\|g.npz" in text and "b\\|c" in text


def test_the_command_ends_with_one_sentence(tmp_path):
    command = [sys.executable, "-m", "galm_tf.benchmark", "--suite=reward", "--table=3", f"--out={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    assert done.returncode == 2, done.stderr
    told = "Expected either --suite or --table. Received: suite=reward and table=3"
    assert told in done.stderr.splitlines()[-1] and not os.listdir(tmp_path)


@pytest.fixture(scope="module")
def defined():
    """The program's own flags, beside those that other tests may have defined; gone afterwards."""
    before = set(flags.FLAGS)
    with pytest.MonkeyPatch.context() as patch:
        if "image_size" in before:
            patch.setattr(config_lib, "define_flags", lambda: None)
        program.define_flags()
    yield
    for name in set(flags.FLAGS) - before - {field.name for field in dataclasses.fields(Config)}:
        delattr(flags.FLAGS, name)


@pytest.fixture
def benchmark(defined, tmp_path, monkeypatch):
    """Arguments -> what the command does in this process, where no data can be loaded and no run be made."""
    monkeypatch.setattr(preparation, "prepare", None)
    monkeypatch.setattr(pipeline, "run", None)

    def call(*arguments):
        with flagsaver.flagsaver():
            program.main(command_line.parse_flags(["galm_tf.benchmark", f"--out={tmp_path}", *arguments]))

    return call


@pytest.mark.parametrize(
    "arguments, text",
    [
        (
            "--table=3 --splits=0,1,00",
            "Expected --splits to name each once. Received: splits=0,1,0; leave out the second 0.",
        ),
        ("--suite=methods --splits=--3", "whole numbers from 0. Received: splits=--3; separate them by commas."),
        (
            "--suite=derived --size_penalty=0.1",
            "Expected no --size_penalty in suite derived.*Received: size_penalty=0.1; leave it out",
        ),
        ("--suite=derived --splits=-2", "whole numbers from -1. Received: splits=-2; give -1 or more."),
        (
            "--suite=methods --splits=0,-1",
            "Received: splits=0,-1; give 0 or more, or --vary=split_seed for splits, of which -1 is the official one.",
        ),
        ("--table=3 --vary=seed --splits=-1", "Expected --splits to be whole numbers from 0. Received: splits=-1;"),
        (
            "--suite=methods --vary=split_seed --splits_file=x.mat",
            "either --splits_file or class-disjoint splits.*Received: splits_file=x.mat and vary=split_seed",
        ),
        (
            "--table=3 --splits_file=x.mat",
            "either --splits_file or class-disjoint splits.*Received: splits_file=x.mat and vary=split_seed",
        ),
        (
            "--table=3 --methods=galm",
            "table 3 reads. Received: --methods, which is for .*nas, table 2; leave it out: the method is that of --method.",
        ),
        (
            "--suite=few_labels --quick",
            "Received: --quick, which is for .*peers, nas; leave it out: give --budget=quick.",
        ),
        (
            "--suite=peers --splits=1",
            "Expected flags that peers reads. Received: --splits, which is for methods, .*few_steps; leave it out.",
        ),
        (
            "--table=3 --trunk_model=m.keras --trunk_steps=5",
            "Received: --trunk_steps, which is for methods, table 2; leave it out, or set --trunk_steps=0 where a flagfile names another",
        ),
        ("--suite=learners --trunk_learning_rate=1", "leave it out, or set --trunk_learning_rate=0.0001 where"),
        (
            "--suite=methods --trunk_steps=5",
            "Expected a --trunk_model beside --trunk_steps, in which its layers learn. Received: none",
        ),
        (
            "--table=2 --max_positive_weight=5",
            "Expected --imbalance=positive_weight beside --max_positive_weight, .* Received: imbalance=none",
        ),
        ("--suite=policy --vary=seed", "Expected flags that policy reads. Received: --vary,"),
        (
            "--suite=few_labels --train_positives=5",
            "Expected --positives in suite few_labels.*Received: train_positives=5; leave it out.",
        ),
        (
            "--table=3 --learners=dap,ft --train_positives=5",
            "Received: learners=dap,ft and train_positives=5; leave one out",
        ),
        (
            "--table=3 --train_positives=5",
            "all labels in table 3, where sources .* Received: train_positives=5; take --suite=few_labels --positives=5.",
        ),
        (
            "--table=3 --features=trunk",
            "--learners beside --features. Received: features=trunk and no learners; name some",
        ),
        (
            "--table=3 --leave_out=trees",
            "names in --leave_out with their domain.*Received: label_files=none, leave_out=trees",
        ),
        (
            "--table=2 --label_files=x.csv",
            "Expected no --label_files beside several runs.*Received: label_files=x.csv, leave_out=none",
        ),
        (
            "--table=3 --cells=awa-sun,awa-sun",
            "Expected --cells to name each once. Received: cells=awa-sun,awa-sun; leave out",
        ),
        ("--suite=few_labels --positives=5,0", "whole numbers from 1. Received: positives=5,0; give 1 or more."),
        ("--suite=learners --learners=dap,hop", "Expected --learners to be some of dap, iap, ale, hap, "),
        (
            "--suite=few_labels --positives=5,05",
            "Expected --positives to name each once. Received: positives=5,5; leave out",
        ),
        (
            "--suite=few_labels --positives=",
            "Expected --positives to be whole numbers from 1. Received: positives=none;",
        ),
        (
            "--suite=few_steps --divisors=4,0.5",
            "Expected --divisors to be whole numbers from 1. Received: divisors=4,0.5; separate them by commas.",
        ),
        (
            "--suite=few_steps --learners=dap",
            "Received: --learners, which is for learners, table 2, table 3; leave it out.",
        ),
        (
            "--suite=methods --methods=galm,galm",
            "Expected --methods to name each once. Received: methods=galm,galm; leave out",
        ),
        (
            "--suite=methods --methods=galm,randm",
            "Expected --methods to be some of galm, .*Received: randm; nearest: random.",
        ),
        ("--suite=methods --methods=", "Expected --methods to be some of galm, .*Received: none; name one."),
        (
            "--suite=derived --methods=random,random",
            "Expected --methods to name each once. Received: methods=random,random",
        ),
        (
            "--table=2 --methods=galm,randm",
            "Expected --methods to be some of galm, .*Received: randm; nearest: random.",
        ),
        ("--table=2 --cells=awa-sun", "Received: --cells, which is for table 3, few_labels, few_steps; leave it out."),
        ("--table=2 --methods=enas,enas", "Expected --methods to name each once."),
        (
            "--suite=policy --reward_tables=",
            "Expected --reward_tables to name a run's tables/roundN.npz, or planted. Received: none; name one, or leave",
        ),
        ("--suite=policy --settings=paper --settings=paper", "Expected --settings to name each once."),
        (
            "--suite=nas --budget=quick",
            "Expected flags that nas reads. Received: --budget, which is for table 2, table 3, few_labels, few_steps; leave",
        ),
        ("--suite=nas --methods=", "Expected --methods to be some of galm, .*Received: none; name one."),
        (
            "--suite=ranking --splits=3,4",
            "ranking reads. Received: --splits, .*: it trains by the seeds 0 to --repeats - 1; --split_seed draws another split.",
        ),
        (
            "--suite=choosing --vary=seed",
            "choosing reads. Received: --vary, .*; leave it out: its repetitions are class-disjoint splits.",
        ),
        (
            "--suite=few_labels --features=trunk",
            "Received: --features, which is for learners, table 2, table 3; leave it out.",
        ),
        ("--suite=reward --budget=full", "Expected flags that reward reads. Received: --budget,"),
        (
            "--suite=methods --method=random",
            "methods reads. Received: --method, which is for table 2, table 3, few_labels, few_steps; leave it out: give --methods.",
        ),
        *(
            (f"--suite={name} --method=enas", f"flags that {name} reads. Received: --method, ")
            for name in ("choosing", "derived", "nas", "peers")
        ),
        *(
            (f"--suite={name} --method=enas", f"flags that {name} reads. Received: --method, ")
            for name in ("ranking", "policy", "learners", "scaling")
        ),
        (
            "--table=2 --method=random",
            "--method in table 2 beside --features=trunk .*Received: method=random, features=pixels and features_run=none; leave",
        ),
        (
            "--table=2 --method=random --features=trunk --features_run=A,B,C",
            "Received: method=random, features=trunk and features_run=A,B,C; leave it out:",
        ),
        (
            "--suite=methods --run_dir=x",
            "Received: --run_dir, which is for galm_tf.main; leave it out: folders are made below --out, and gone on with.",
        ),
        (
            "--table=3 --resume",
            "table 3 reads. Received: --resume, which is for galm_tf.main; leave it out: folders are",
        ),
        ("--suite=policy --run_dir=x", "policy reads. Received: --run_dir, which is for galm_tf.main; leave it out."),
        (
            "--table=3 --method=reading --trunk_model=x.keras",
            "Expected a --method that searches.*Received: method=reading; leave it out.",
        ),
        ("--table=3 --source_run=x", "no --source_run beside several runs.*Received: source_run=x; leave it out"),
        (
            "--suite=methods --splits=1,2 --repeats=5",
            "Expected --splits or --repeats, not both. Received: splits=1,2 and repeats=5; leave one out.",
        ),
        (
            "--suite=nas --attributes=trees --num_attributes=2",
            "Expected --attributes or --num_attributes, not both. Received: attributes=trees and num_attributes=2; leave one out.",
        ),
        (
            "--suite=methods --quick",
            "methods reads. Received: --quick, which is for reward, .*, scaling, peers, nas; leave it out: give --flagfile=flags/smoke.flags",
        ),
    ],
)
def test_lists_and_budgets_that_do_not_fit_are_told_before_anything_is_made(benchmark, tmp_path, arguments, text):
    with pytest.raises(UserError, match=text):
        benchmark(*arguments.split())
    assert not os.listdir(tmp_path)


def test_a_folder_of_results_that_cannot_be_made_is_told(benchmark, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match="Expected to be able to write into --out=.*file/x. Received: Not a directory; name another"
    ):
        benchmark("--suite=nas", f"--out={tmp_path / 'file' / 'x'}")


@pytest.mark.parametrize("what", ["--suite=methods", "--suite=choosing", "--table=2"])
def test_the_flagfile_of_the_defaults_is_no_wish(benchmark, what):
    """All settings are given in it; none is refused that changes nothing."""
    with pytest.raises(TypeError, match="NoneType"):  # it comes as far as to load data
        benchmark(what, f"--flagfile={program._ROOT}/flags/default.flags", "--splits=0")


@pytest.mark.parametrize("arguments, message", [
    (["--suite=methods", "--seed=5"], "Received: --seed=5; give --splits=5 in its place, or leave it out"),
    (["--suite=derived", "--split_seed=3"], "Received: --split_seed=3; give --splits=3 in its place"),
    (["--table=3", "--split_seed=3"], "Received: --split_seed=3; give --splits=3 in its place"),
    (["--suite=nas", "--add_attribute=x.csv"], "Received: --add_attribute, which is for galm_tf.main; leave it out"),
    (["--suite=methods", "--freeze_trunk"], "Expected a --source_run beside --freeze_trunk"),
    (["--table=3", "--method=random", "--transfer=policy"], "name a part that --method=random takes over. Received: transfer=policy"),
    (["--suite=few_labels", "--method=enas", "--transfer=policy"], "name a part that --method=enas takes over"),
    (["--suite=ranking", "--match=random"], "Expected a --source_run beside --match"),
    (["--suite=policy", "--domain=awa"], "Received: --domain, which is for input, learners, methods"),
    (["--suite=controller", "--source_run=a"], "Received: --source_run, which is for learners, methods"),
])  # fmt: skip
def test_settings_that_would_be_passed_over(benchmark, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        benchmark(*arguments)


@pytest.fixture
def asked(benchmark, monkeypatch):
    """Arguments -> the settings with which a table's scenarios are run."""
    configs = []

    def run_scenarios(runs, *_):
        configs.append(runs.config)
        raise _Killed

    def call(*arguments):
        with pytest.raises(_Killed):
            benchmark(*arguments)
        return configs.pop()

    monkeypatch.setattr(domain_transfer, "run_scenarios", run_scenarios)
    monkeypatch.setattr(domain_transfer, "fewer_positives", lambda *_: [])
    return call


@pytest.mark.parametrize("suite, flag", [("few_labels", "--positives=5,20"), ("few_steps", "--divisors=1,4")])
def test_a_suite_writes_what_its_runs_reached(benchmark, runs, tmp_path, suite, flag):
    benchmark(f"--suite={suite}", flag, "--cells=awa-sun", "--splits=0,1", f"--out={tmp_path}")
    table = pd.read_csv(tmp_path / suite / f"{suite}.csv")
    assert len(table) == 8 and table["test_mauc"].notna().all()
    text = (tmp_path / suite / f"{suite}.md").read_text(encoding="utf-8")
    assert ("\n- sun_1, 5 positives: few\n" in text) is (suite == "few_labels")
    assert (
        "awa-sun" in text
        and TRANSFERRED in text
        and "paper" not in text
        and (tmp_path / suite / f"{suite}.png").stat().st_size > 1000
    )


@pytest.mark.parametrize("table", ["2", "3"])
def test_cells_of_several_commits_are_told(benchmark, runs, tmp_path, monkeypatch, table):
    """A table that goes on does not compute anew what another version has left."""
    row = {"test_mauc": 0.5, "features": "none", "commit": "0123456789abcdef"}
    monkeypatch.setattr(LearnerCells, "row", lambda self, *of: row)
    monkeypatch.setattr(learners, "expect_classes", lambda domain: None)
    monkeypatch.setattr(program, "load_domains", lambda *_, **__: None)
    arguments = {"2": ["--methods=galm"], "3": ["--cells=awa-sun"]}[table]
    benchmark(f"--table={table}", "--learners=iap", "--splits=0", *arguments)
    text = (tmp_path / f"table{table}" / f"table{table}.md").read_text()
    told = "- figures were computed at several commits (not noted, 0123456789ab), which may differ in procedure: what"
    assert told in text
    assert several_commits([None, float("nan")]) == several_commits(["abc", "abc"]) == []


@pytest.mark.parametrize(
    "vary, numbers, text",
    [
        ("split_seed", [-1], OFFICIAL), ("split_seed", [-1, 0], f"{OFFICIAL}, and 1 class-disjoint split"),
        ("split_seed", [0, -1, 4], f"{OFFICIAL}, and 2 class-disjoint splits"), ("split_seed", [0], "1 class-disjoint split"),
        ("split_seed", [0, 1], "2 class-disjoint splits"), ("seed", [0], "1 seed"), ("seed", [0, 1, 2], "3 seeds"),
    ],
)  # fmt: skip
def test_the_official_split_is_counted_apart_from_drawn_ones(vary, numbers, text):
    assert program._data_notes(CONFIG, vary, numbers, dict.fromkeys(DOMAINS, True)) == [text]


@pytest.mark.parametrize("vary, numbers, classed, kind, where", [
    ("split_seed", [0, 1], {"a": False}, "2 splits by photographs", "a"),
    ("split_seed", [-1, 0], {"a": False, "b": False}, f"{OFFICIAL}, and 1 split by photographs", "a and b"),
    ("split_seed", [0, 1], {"a": True, "*b*": False}, r"2 class-disjoint splits (of \*b\* by photographs)", r"\*b\*"),
    ("seed", [0], {"a": False}, "1 seed", "a"),
])  # fmt: skip
def test_splits_without_classes_are_told(vary, numbers, classed, kind, where):
    told = f"no classes to hold out in {where}: the test there tells nothing of unseen ones"
    assert program._data_notes(CONFIG, vary, numbers, classed) == [kind, told]


@pytest.mark.parametrize("suite", ["--table=3", "--suite=few_labels"])
def test_a_table_tells_of_targets_without_classes(benchmark, runs, tmp_path, monkeypatch, suite):
    monkeypatch.setattr(TableRuns, "has_classes", lambda self, domain: domain == "sun")
    name = {"--table=3": "table3"}.get(suite, "few_labels")
    for cells, narrow, kind in (
        ("sun-awa", "share photographs, so that it is too narrow for other photographs", "2 splits by photographs"),
        (
            "sun-awa,awa-sun",
            "share classes or photographs, so that it is too narrow for other classes or photographs",
            "2 class-disjoint splits (of awa by photographs)",
        ),
        ("awa-sun", "share classes, so that it is too narrow for other classes", "2 class-disjoint splits"),
    ):
        benchmark(suite, f"--cells={cells}", "--splits=0,1")
        text = (tmp_path / name / f"{name}.md").read_text(encoding="utf-8")
        assert f"; splits {narrow})\n" in text and f"\n- {kind}\n" in text, cells
        assert ("\n- no classes to hold out in awa: " in text) is ("sun-awa" in cells)
        assert "classes of its own domain" not in text  # no other domain has any


def test_suite_nas_tells_of_domains_without_classes(benchmark, monkeypatch):
    told = []
    monkeypatch.setattr(nas, "measure", lambda *_: nas.Comparison(None, None, (), classed={"mine": False}))
    monkeypatch.setattr(program.nas_report, "write", lambda found, notes, out: told.extend(notes))
    benchmark("--suite=nas", "--splits=0,1", "--domain=mine", "--data_dir=x")
    assert told[:2] == [
        "2 splits by photographs",
        "no classes to hold out in mine: the test there tells nothing of unseen ones",
    ]


def test_domains_without_classes_are_found_in_the_data(tmp_path):
    for name in "ab":
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        lines = ["image,light" + ",class" * (name == "b")]
        for i in range(12):
            pixels = np.random.default_rng(i + 100 * (name == "b")).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            lines.append(f"{i}.png,{i % 2}" + f",k{i // 3}" * (name == "b"))
        (tmp_path / name / "attributes.csv").write_text("\n".join(lines))
    config = Config(domain=("a", "b"), data_dir=(str(tmp_path / "a"), str(tmp_path / "b")), cache_dir=str(tmp_path))
    table_runs = TableRuns(config, "split_seed", str(tmp_path / "out"))
    assert [table_runs.has_classes(name) for name in "ab"] == [False, True]
    assert build.classed_domains(load_domains(config)) == {"a": False, "b": True}


@pytest.mark.parametrize("place", ["--table=3", "--suite=few_labels"])
def test_a_quick_budget_is_that_of_its_flagfile_but_for_flags_that_are_given(asked, place):
    assert (
        asked(place, "--budget=quick", "--data_dir=/x/zoo,/x/farm").domain
        == asked(place, "--data_dir=/x/zoo,/x/farm").domain
        == ("zoo", "farm")
    )
    quick = asked(place, "--budget=quick")
    assert quick == asked(place, f"--flagfile={_ROOT}/flags/table_quick.flags") != asked(place)
    assert (quick.image_size, quick.rounds, quick.measure_skill, quick.domain) == (32, 1, False, DOMAINS)
    given = asked(place, "--rounds=2", "--budget=quick", "--measure_skill", "--domain=awa,sun", "--seed=3")
    assert given == dataclasses.replace(quick, rounds=2, measure_skill=True, domain=("awa", "sun"), seed=3)
    assert asked(place, "--budget=full") == asked(place)


def test_a_quick_budget_needs_its_flagfile(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "_ROOT", str(tmp_path))
    told = (
        "flags/table_quick.flags beside the package .*Received: no file .*table_quick.flags; run it from a checkout, or"
    )
    with pytest.raises(UserError, match=told):
        benchmark("--table=3", "--budget=quick")


@pytest.fixture
def searched(benchmark, monkeypatch):
    """Arguments -> the settings of suite nas or peers, what it may spend, and the numbers of nas's repetitions."""
    found = []

    def measure(config, spent, *rest):
        found.append((config, spent, rest[0]))
        raise _Killed

    def call(*arguments):
        with pytest.raises(_Killed):
            benchmark(*arguments)
        return found.pop()

    for suite in (nas, peers_suite):
        monkeypatch.setattr(suite, "measure", measure)
    return call


def test_quick_is_small_but_for_flags_that_are_given(searched):
    config, searches, numbers = searched("--suite=nas", "--quick")
    assert (config.image_size, config.rounds, config.evaluations, numbers) == (32, 1, 16, [0])
    assert (searches.trials, searches.epochs, searches.num_attributes) == (
        2,
        1,
        1,
    ) and "enas_each" not in searches.methods
    assert config.warmup_steps + config.supernet_steps <= 100
    given = (
        "--image_size=64",
        "--warmup_steps=10",
        "--evaluations=30",
        "--num_attributes=3",
        "--trials=5",
        "--epochs=2",
        "--splits=3,4",
    )
    more, spent, numbers = searched("--suite=nas", "--quick", *given)
    assert more == dataclasses.replace(config, image_size=64, warmup_steps=10, evaluations=30) and numbers == [3, 4]
    assert spent == dataclasses.replace(searches, num_attributes=3, trials=5, epochs=2)
    config, budget, _ = searched(
        "--suite=peers", "--quick", "--rounds=3", "--trials=12", f"--flagfile={_ROOT}/flags/smoke.flags"
    )
    assert (config.rounds, config.warmup_steps, config.supernet_steps, config.image_size) == (3, 6, 4, 32)
    assert (budget.trials, budget.epochs, budget.num_attributes) == (12, 2, 1)
    config, budget, _ = searched("--suite=peers")
    assert config == Config() and (budget.trials, budget.epochs, budget.num_attributes) == (12, 8, 2)


def test_steps_with_sources_are_told_of_learners_that_have_such():
    told = transfer_table._steps_with_sources(["galm", "fmt", "iap", "afs"])
    assert told[0].startswith("afs and fmt train on batches of all domains, in so many more steps") and len(told) == 1
    assert transfer_table._steps_with_sources(["galm", "ft"]) == []
