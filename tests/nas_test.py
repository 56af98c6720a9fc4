"""Suite `nas`: curves on planted rewards, the whole suite, tiny, and what it makes of its figures."""

import dataclasses
import functools
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from galm_tf import preparation, search_space
from galm_tf.attribute_names import file_name
from galm_tf.benchmark import choosing, nas, nas_curves, nas_report, one_supernet, peers, peers_suite, ranking
from galm_tf.benchmark.child import AttributeData, Child
from galm_tf.benchmark.results import escaped
from galm_tf.config import METHODS, Config
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable
from galm_tf.run_folder import environment
from galm_tf.search_space import Architecture
from galm_tf.strategies import METHODS as STRATEGIES
from galm_tf.tracing import untraced
from galm_tf.validation import Validation
from small_domains import LEFT_OUT, few_images

N = 6
TINY = dict(
    domain=("sun",), leave_out=LEFT_OUT, image_size=32, warmup_steps=3, rounds=2, supernet_steps=1, batch_size=64, attributes_per_step=2,
    controller_steps=4, samples_per_step=8, calibration_images=32, derive_top=2, adapt_steps=1, finetune_steps=1, evaluations=4,
    reward_images=16,
)  # fmt: skip
SEARCHES = nas.Searches(("galm", "random", "random_search", "exhaustive"), ("random",), (), 2, trials=2, epochs=1)


@pytest.fixture(scope="module")
def planted():
    """Rewards that are sums over decisions; the last attribute has none."""
    rng = np.random.default_rng(0)
    full = np.full((N, search_space.NUM_ARCHITECTURES), 0.7)
    for decision, count in enumerate(search_space.NUM_CHOICES):
        full += 0.01 * rng.normal(size=(N, count))[:, search_space.all_indices()[:, decision]]
    twins = search_space.canonical_numbers()
    full = full[:, twins].astype(np.float32)
    full[-1] = np.nan
    return RewardTable(full, (full, full))


STEPS = 24  # of both rounds
CONFIG = Config(rounds=2, controller_steps=STEPS // 2, samples_per_step=30, evaluations=20)


@pytest.fixture(scope="module")
def trajectory(planted):
    """Method -> its points on the planted rewards."""
    return functools.lru_cache(None)(lambda method: nas_curves.trajectory(method, planted, CONFIG))


def _rewards(planted, points):
    """Mean reward of what was chosen at each point."""
    rows = np.flatnonzero(planted.rewarded)
    return np.array([planted.full[rows, np.array(p["chosen"])[rows]].mean() for p in points])


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_ends_where_the_whole_search_does(planted, trajectory, method):
    points = trajectory(method)
    strategy = STRATEGIES[method](N, CONFIG)
    if strategy.learns:
        strategy.train_on_table(planted, 0, STEPS)
    np.testing.assert_array_equal(points[-1]["chosen"], strategy.choose(planted))
    seconds, architectures = ([p[key] for p in points] for key in ("seconds", "architectures"))
    assert seconds == sorted(seconds) and architectures == sorted(architectures)
    assert len(points) > 5 if strategy.learns else len(points) == 1


@pytest.mark.parametrize("method", ["random_search", "bayesian", "progressive"])
def test_what_keeps_its_best_never_falls(planted, trajectory, method):
    points = trajectory(method)
    rewards = _rewards(planted, points)
    assert (np.diff(rewards) >= -1e-7).all() and rewards[-1] > rewards[0]
    assert points[0]["architectures"] == 1 and points[-1]["architectures"] == CONFIG.evaluations


def test_random_searchs_best_so_far_is_that_of_the_table(planted, trajectory):
    points = trajectory("random_search")
    strategy = STRATEGIES["random_search"](N, CONFIG)
    strategy.train_on_table(planted, 0, STEPS)
    tried, rows = strategy.variables["tried"].numpy(), np.flatnonzero(planted.rewarded)
    best = [np.mean([planted.full[r, tried[r, : int(p["architectures"])]].max() for r in rows]) for p in points]
    np.testing.assert_allclose(_rewards(planted, points), best, rtol=1e-6)


def test_rewards_that_were_read_are_counted_per_attribute(trajectory):
    read = {method: trajectory(method)[-1]["architectures"] for method in METHODS}
    samples, judged, top = STEPS * 30, N - 1, CONFIG.derive_top
    assert read["galm"] == samples / judged + top and read["enas"] == samples + top
    assert (read["random"], read["exhaustive"], read["single_best"]) == (0, 1536, 1536)
    assert read["random_search"] == read["bayesian"] == read["progressive"] == CONFIG.evaluations
    assert read["evolution"] == 64 + samples // N


@pytest.mark.parametrize("total, evaluations", [(0, 64), (1, 64), (7, 64), (2000, 64), (2000, 1)])
def test_budgets_rise_to_all_steps(total, evaluations):
    steps = nas_curves.budgets(total, evaluations)
    assert steps == sorted(set(steps)) and steps[-1] == total and len(steps) <= 13
    assert not total or steps[0] * evaluations >= total  # the first reward was read


# ---- The whole suite, tiny ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(drawn):
    with few_images(12):
        yield Config(cache_dir=drawn, **TINY)


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    """(folder, comparison, what the engines of the supernet were given: index and labels of test, then of
    validation). Its few steps are not traced: that would take longer than they do.
    """
    out, given, features = str(tmp_path_factory.mktemp("nas")), [], Validation.features

    def spy(self, scored, labels, *rest):
        given.append((scored, labels))
        return features(self, scored, labels, *rest)

    with pytest.MonkeyPatch.context() as patch, untraced():
        patch.setattr(Validation, "features", spy)
        found = nas.measure(config, SEARCHES, [3], "split_seed", out)
    nas_report.write(found, ["tiny"], out)
    return out, found, given[-2:]  # before that the end of the training is judged


def _prepared(config):
    return preparation.prepare(dataclasses.replace(config, split_seed=3))


def test_children_and_shared_weights_are_judged_on_the_same_images(config, measured):
    _, found, ((test, test_labels), (validation, validation_labels)) = measured
    prepared = _prepared(config)
    for name in found.attributes:
        data, column = AttributeData.of(prepared, name, config), prepared.domain.attributes.index(name)
        for ours, scored, labels in ((data.validation, validation, validation_labels), (data.test, test, test_labels)):
            known = np.isfinite(labels[:, column])
            np.testing.assert_array_equal(np.sort(scored[known]), np.sort(ours))
            np.testing.assert_array_equal(labels[known, column], data.labels[scored[known]])


def test_points_are_what_the_tables_say(config, measured):
    out, found, _ = measured
    names = _prepared(config).domain.attributes
    rows = [names.index(name) for name in found.attributes]
    with np.load(os.path.join(out, "supernets", "split_seed3", "tables", "validation.npz")) as stored:
        whole = RewardTable.from_arrays(stored)
    table = whole.full[rows]
    last = found.curves[found.curves["kind"] == nas.SHARED].groupby("method")["val_reward"].last()
    assert len(rows) == 2 and set(last.index) == set(SEARCHES.methods) and found.classed == {config.domain[0]: True}
    assert last["exhaustive"] == pytest.approx(table.max(axis=1).mean(), abs=1e-6)
    assert last["random"] == pytest.approx(table.mean(), abs=1e-6)
    with untraced():
        galm = STRATEGIES["galm"](len(whole.full), config)
        galm.train_on_table(whole, 0, config.rounds * config.controller_steps)
        chosen = galm.choose(whole)
    assert last["galm"] == pytest.approx(whole.full[rows, chosen[rows]].mean(), abs=1e-6)


def test_costs_are_those_of_all_that_was_used(config, measured):
    out, found, _ = measured
    costs, curves = found.costs.set_index("method"), found.curves
    with open(os.path.join(out, "supernets", "split_seed3", "costs.json"), encoding="utf-8") as file:
        spent = json.load(file)
    assert costs.loc["galm", "supernet_steps"] == 5 and spent["supernet"] > 0 and spent["validation"] > 0
    parts = ["supernet_seconds", "rewards_seconds", "method_seconds", "children_seconds"]
    ends = curves[curves["kind"].isin([nas.SHARED, nas.SCRATCH])].groupby("method")["seconds"].last()
    np.testing.assert_allclose(costs[parts].sum(axis=1)[ends.index], ends)
    assert costs.loc["random", "rewards_seconds"] == 0 < costs.loc["exhaustive", "rewards_seconds"]
    steps = len(AttributeData.of(_prepared_of(out), found.attributes[0], config).train)
    assert costs.loc["kerastuner random", "child_steps"] == 2 * 2 * -(-steps // 64)  # attributes, children, batches


def _prepared_of(out):
    with open(os.path.join(out, "settings.json"), encoding="utf-8") as file:
        settings = json.load(file)
    names = [field.name for field in dataclasses.fields(Config)]
    return _prepared(Config.from_json({k: v for k, v in settings.items() if k in names}))


def test_a_childs_curve_is_of_its_own_weights(config, measured, eagerly):
    out, found, _ = measured
    own = found.curves[found.curves["method"] == "kerastuner random"]
    assert list(own["kind"]) == ["scratch", "scratch", "retrained"] and own["seconds"].is_monotonic_increasing
    assert own["val_reward"].iloc[1] >= own["val_reward"].iloc[0] and own["attributes_searched"].eq(2).all()
    data = [AttributeData.of(_prepared(config), name, config) for name in found.attributes]
    one = dataclasses.replace(config, split_seed=3)
    aucs = []
    for attribute in data:
        path = os.path.join(out, "children", "split_seed3-2x1", "random", file_name(attribute.name))
        cell = peers.Cell(path, attribute, one, 2, 1)
        best = max(cell.children, key=lambda child: child["val_auc"])
        child = Child(Architecture.from_number(best["architecture"]), one, 9)
        child.restore(os.path.join(path, "weights", f"{best['trial']}.npz"))
        assert child.auc(attribute, attribute.validation) == pytest.approx(best["val_auc"], abs=1e-6)
        aucs.append(child.auc(attribute, attribute.test))
    assert own["test_mauc"].iloc[1] == pytest.approx(np.mean(aucs), abs=1e-6)


def _forbid(monkeypatch):
    def never(*_, **__):
        raise AssertionError("computed again")

    for module, name in ((nas, "trajectory"), (one_supernet, "_computed"), (peers, "search_cell")):
        monkeypatch.setattr(module, name, never)


def test_a_repeated_command_computes_nothing_again(config, measured, monkeypatch):
    out, found, _ = measured
    _forbid(monkeypatch)
    again = nas.measure(config, SEARCHES, [3], "split_seed", out)
    pd.testing.assert_frame_equal(again.curves, found.curves)
    pd.testing.assert_frame_equal(again.costs, found.costs)
    assert again.environments == found.environments
    for change in ({"methods": ("galm", "single_best")}, {"trials": 3}, {"epochs": 2}):  # what was not asked before
        with pytest.raises(AssertionError, match="computed again"):
            nas.measure(config, dataclasses.replace(SEARCHES, **change), [3], "split_seed", out)


def test_cells_tell_in_which_environment_they_were_computed(config, measured, tmp_path, monkeypatch):
    out, found, _ = measured
    assert found.environments == dict.fromkeys([*SEARCHES.methods, "kerastuner random"], [environment()])
    shutil.copytree(out, tmp_path / "earlier")
    for path in [
        *(tmp_path / "earlier" / "cells").iterdir(),
        tmp_path / "earlier" / "supernets" / "split_seed3" / "costs.json",
    ]:
        kept = json.loads(path.read_text())
        del kept["environment"]  # as earlier versions wrote it
        path.write_text(json.dumps(kept))
    _forbid(monkeypatch)
    earlier = nas.measure(config, SEARCHES, [3], "split_seed", str(tmp_path / "earlier"))
    assert set(map(str, earlier.environments.values())) == {"[None]"}
    pd.testing.assert_frame_equal(earlier.costs, found.costs)


def test_other_settings_are_refused(config, measured):
    out, _, _ = measured
    with pytest.raises(UserError, match="evaluations=5 now, 4 in the table"):
        nas.measure(dataclasses.replace(config, evaluations=5), SEARCHES, [3], "split_seed", out)


def test_the_last_choice_can_be_fine_tuned(config, measured, eagerly):
    out, found, _ = measured
    searches = dataclasses.replace(SEARCHES, methods=("random",), peers=(), finetune_last=True)
    assert searches.with_reference == ("galm", "random")
    searches = dataclasses.replace(searches, methods=("galm",))
    tuned = nas.measure(config, searches, [3], "split_seed", out)
    with open(os.path.join(out, "finetuned", "galm-split_seed3", "result.json"), encoding="utf-8") as file:
        result = json.load(file)
    row, cost = tuned.curves.iloc[-1], tuned.costs.iloc[-1]
    assert row["kind"] == "finetuned" and result["readout"] is None
    phases = result["search"]["phase_seconds"]
    assert cost["last_training_seconds"] == pytest.approx(sum(phases.values())) and phases[one_supernet.NETWORK] > 0
    tested = [result["per_attribute"][name]["test_auc"] for name in found.attributes]
    assert row["test_mauc"] == pytest.approx(np.mean(tested))
    with open(os.path.join(out, "cells", "galm-split_seed3.json"), encoding="utf-8") as file:
        chosen = json.load(file)["points"][-1]["chosen"]
    for number, attribute in zip(chosen, result["per_attribute"].values()):
        assert attribute["architecture"] == Architecture.from_number(number).to_json()


def test_files_of_the_suite(measured):
    out, found, _ = measured
    assert tuple(pd.read_csv(os.path.join(out, "nas.csv")).columns) == nas.COLUMNS
    assert tuple(pd.read_csv(os.path.join(out, "nas_budget.csv")).columns) == nas.COST_COLUMNS
    assert os.path.getsize(os.path.join(out, "nas.png")) > 20000
    with open(os.path.join(out, "nas.md"), encoding="utf-8") as file:
        text = file.read()
    assert "- tiny" in text and all(name in text for name in found.attributes)
    assert "| paper | 27.6 | 251 | 396 s | one Nvidia Titan XP |" in text


# ---- What it makes of its figures, and what it refuses -----------------------------------------------------------


def _curve(method, split, kind, attributes, points):
    rows = [dict(zip(("seconds", "architectures", "val_reward", "test_mauc"), p)) for p in points]
    return [{"method": method, "split": split, "kind": kind, "attributes_searched": attributes, **row} for row in rows]


@pytest.fixture
def curves():
    rows = _curve("galm", 0, "shared", 10, [(100, 1, 0.7, 0.6), (150, 2, 0.8, 0.7), (200, 4, 0.8, 0.65)])
    rows += _curve("slow", 0, "scratch", 2, [(60, 1, 0.79, 0.5), (90, 2, 0.8, 0.9)])
    rows += _curve("slow", 0, "retrained", 2, [(99, 2, np.nan, 0.95)])
    rows += _curve("bad", 0, "scratch", 2, [(10, 1, 0.5, 0.5)])
    rows += _curve("galm", 1, "shared", 10, [(100, 1, 0.9, 0.7)])
    rows += _curve("slow", 1, "scratch", 2, [(60, 1, 0.89, 0.5)])
    rows += _curve("bad", 1, "scratch", 2, [(10, 1, 0.5, 0.5)])
    return pd.DataFrame(rows)


def test_the_time_to_galms_reward_is_that_of_the_first_point_as_high(curves):
    table = nas_report.summarise(curves).set_index(["method", "split"])
    assert table.loc[("galm", 0), "reached"] == 15.0 and table.loc[("galm", 1), "reached"] == 10.0
    assert table.loc[("slow", 0), "reached"] == 45.0 and table.loc[("slow", 0), "ratio"] == 3.0
    assert np.isnan(table.loc[("slow", 1), "reached"]) and np.isnan(table.loc[("bad", 0), "reached"])
    assert table.loc[("slow", 0), "last_test_mauc"] == 0.95 and table.loc[("slow", 0), "test_mauc"] == 0.9


def test_not_reached_is_said(curves):
    costs = pd.DataFrame([{**dict.fromkeys(nas.COST_COLUMNS, 1.0), "method": m} for m in ("galm", "slow", "bad")])
    lines = nas_report.markdown(nas.Comparison(curves, costs, ("sun/fog",)), []).splitlines()
    slow, bad = (next(line for line in lines if line.startswith(f"| {m} | scratch")) for m in ("slow", "bad"))
    assert "| 45.00 (not reached in 1 of 2) | 3.00 |" in slow and bad.endswith("| not reached |  |")


def test_every_commit_and_machine_of_the_cells_is_told(curves):
    costs = pd.DataFrame([{**dict.fromkeys(nas.COST_COLUMNS, 1.0), "method": m} for m in ("galm", "slow", "bad")])
    old, new = (
        {"versions": {"keras": v}, "commit": c, "computed_on": on}
        for v, c, on in (("2", "abc", "2 processor cores"), ("3", "def", "a GPU | H"))
    )
    text = nas_report.markdown(
        nas.Comparison(curves, costs, ("sun/fog",), {"galm": [new, old], "slow": [old, None]}), ["first"]
    )
    assert " | a GPU \\| H; 2 processor cores |\n" in text
    lines = ["- first", "- commit def, keras 3, on a GPU | H", "- commit abc, keras 2, on 2 processor cores"]
    assert (
        "\n".join([*lines, "- commit, versions and machine of cells that an earlier version left: not noted\n"]) in text
    )
    assert "\n- figures were computed at several commits (def, abc, not noted), which may differ in procedure: " in text
    assert " | not noted |\n" in nas_report.markdown(nas.Comparison(curves, costs, ("sun/fog",)), [])


def test_names_read_in_markdown_as_they_are_written(curves):
    costs = pd.DataFrame([{**dict.fromkeys(nas.COST_COLUMNS, 1.0), "method": "galm"}])
    found = nas.Comparison(curves, costs, ("sun/*bold*", "a_b/<b> & c", "x/_y_|`z`"))
    text = nas_report.markdown(found, [])
    assert r" attributes: sun/\*bold\*, a_b/\<b> & c, x/\_y\_|\`z\`" in text
    assert escaped("100 % [no](link) AT&amp;T ~~q~~ $1$ \\*") == r"100 % \[no](link) AT\&amp;T \~\~q\~\~ \$1\$ \\\*"


def test_what_cannot_be_compared_is_refused(config, tmp_path):
    for methods, text in ((("galm", "galm"), "methods=galm,galm"), (("galm", "randm"), "randm; nearest: random")):
        with pytest.raises(UserError, match=f"Expected --methods to .*Received: {text}"):
            dataclasses.replace(SEARCHES, methods=methods)
    with pytest.raises(UserError, match="Expected --peers to be some of .*Received: nni"):
        dataclasses.replace(SEARCHES, peers=("nni",))
    for wrong in (dict(reward="accuracy"), dict(source_run=("runs/a",))):
        with pytest.raises(UserError, match="suite nas.*Received: " + next(iter(wrong))):
            nas.measure(dataclasses.replace(config, **wrong), SEARCHES, [3], "split_seed", str(tmp_path))
    assert not os.listdir(tmp_path)


SUITES = {
    "nas": lambda config, out: nas.measure(config, SEARCHES, [3], "split_seed", out),
    "choosing": lambda config, out: choosing.run_choosing(config, [0], out),
    "derived": lambda config, out: choosing.run_derived(config, [0], out),
    "peers": lambda config, out: peers_suite.measure(config, peers_suite.Budget((), ("random",), 2, 1), out),
    "ranking": lambda config, out: ranking.run_ranking(config, 3, 1, 1, out),
}


@pytest.mark.parametrize("suite", ["nas", "peers", "ranking"])
def test_a_source_beside_networks_from_nothing_is_refused(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "prepare", None)
    with pytest.raises(
        UserError, match=f"Expected no --source_run in suite {suite}, .*source_run=runs/a; leave it out"
    ):
        SUITES[suite](Config(**TINY, source_run=("runs/a",)), str(tmp_path))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suite", SUITES)
def test_data_that_cannot_be_read_leave_nothing_that_would_refuse_the_repaired_command(suite, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        SUITES[suite](Config(**{**TINY, "data_dir": (str(tmp_path / "nowhere"),)}), str(tmp_path / "out"))
    assert not [name for _, _, names in os.walk(tmp_path / "out") for name in names]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    "other", [{"reward": "accuracy"}, {"reward_data": "batch", "reward_bn": "batch", "size_penalty": 0.0}]
)
def test_rewards_of_another_kind_are_refused_before_anything_is_made(suite, other, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "prepare", None)
    config = Config(**{**TINY, **other})
    told = f"in suite {suite}, .*Received: reward={config.reward} and reward_data={config.reward_data}; leave both out"
    with pytest.raises(UserError, match=told):
        SUITES[suite](config, str(tmp_path))
    assert not os.listdir(tmp_path)


def test_an_attribute_that_is_named_twice_is_told(config, tmp_path, monkeypatch):
    name = _prepared(config).domain.attributes[0]
    twice = (name, name.split("/")[1])
    with pytest.raises(
        UserError, match=f"Expected --attributes to name each once. Received: attributes={name},{name}; leave"
    ):
        nas.measure(config, dataclasses.replace(SEARCHES, attributes=twice), [3], "split_seed", str(tmp_path))
    monkeypatch.setattr(peers_suite, "run_once", None)
    with pytest.raises(UserError, match="Expected --attributes to name each once"):
        peers_suite.measure(config, peers_suite.Budget(twice, ("random",), 2, 1), str(tmp_path))


def test_every_search_has_a_color_and_a_marker_of_its_own():
    names = [*METHODS, *map(nas.peer_name, peers.PEERS)]
    colors, markers = zip(*(nas_report._STYLES[name] for name in names))
    assert len(set(colors)) == len(set(markers)) == len(names) == len(nas_report._STYLES)
