"""Suite `peers`: a child that learns, searches on planted rewards, stops and resumes, and the whole suite, tiny."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from galm_tf import preparation, search_space
from galm_tf.attribute_names import file_name
from galm_tf.begun import locked
from galm_tf.benchmark import child as child_lib
from galm_tf.benchmark import peers, peers_suite
from galm_tf.benchmark.child import AttributeData, Child, attribute_number
from galm_tf.benchmark.timing import COLUMNS
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.preprocess import scale_images
from galm_tf.search_space import Architecture
from galm_tf.tracing import untraced
from small_domains import LEFT_OUT, few_images

TRIALS, EPOCHS = {"random": 9, "bayesian": 4, "hyperband": 9, "rl_nas": 6}, 3
TINY = dict(
    domain=("sun",),
    leave_out=LEFT_OUT,
    image_size=32,
    warmup_steps=3,
    rounds=2,
    supernet_steps=1,
    batch_size=64,
    attributes_per_step=2,
    controller_steps=2,
    samples_per_step=8,
    calibration_images=32,
    derive_top=2,
    adapt_steps=1,
    finetune_steps=1,
)


@pytest.fixture(scope="module")
def config(drawn):
    with few_images(12):
        yield Config(cache_dir=drawn, **TINY)


def _bright_or_dark(n=96, unknown=8):
    """Pictures whose attribute is their brightness."""
    rng = np.random.default_rng(0)
    labels = (np.arange(n) % 2).astype(np.float32)
    images = rng.integers(0, 120, (n, 32, 32, 3)) + (100 * labels).astype(int)[:, None, None, None]
    index = np.arange(n)
    labels[:unknown] = np.nan
    return AttributeData(
        "sun/bright",
        images.astype(np.uint8),
        labels,
        labels,
        index[unknown:64],
        index[64:80],
        index[unknown:80],
        index[80:],
    )


def test_a_child_learns_and_its_weights_go_on_elsewhere(tmp_path):
    data, config = _bright_or_dark(), Config(image_size=32, batch_size=16, augment_color=0.0)
    architecture = Architecture.from_number(777)
    child = Child(architecture, config, 5)
    child.train(data, "train", 0, 6)
    assert child.auc(data, data.test) > 0.9
    norms = [layer for layer in child_lib._layers(child.model) if type(layer).__name__ == "BatchNormalization"]
    assert len(norms) == 5 and all(norm.momentum == pytest.approx(0.99) for norm in norms)
    images = scale_images(tf.constant(data.images[data.train]))
    # Keras divides by n - 1
    np.testing.assert_allclose(child.model(images, training=False), child.model(images, training=True), rtol=0.02)
    child._recalibrate(data.images, data.train)  # the pass above moved the averages
    child.save(str(tmp_path / "child.npz"))
    before = [w.copy() for w in child.model.get_weights()]
    other = Child(architecture, config, 6)
    assert any((a != b).any() for a, b in zip(other.model.get_weights(), before))
    other.restore(str(tmp_path / "child.npz"))
    for a, b in zip(other.model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


class Planted:
    """A child whose AUC is planted: a sum over its choices, less while it has trained for few epochs."""

    stop_after = None
    built = 0

    def __init__(self, architecture, config, seed):
        type(self).built += 1
        self._worth, self._epochs = sum(architecture.indices) / 15, 0

    def train(self, data, index, first_epoch, last_epoch):
        if type(self).stop_after is not None and type(self).built > type(self).stop_after:
            raise KeyboardInterrupt
        assert first_epoch in (0, self._epochs)
        self._epochs = last_epoch

    def auc(self, data, index):
        return 0.5 + 0.1 * self._worth + 0.1 * self._epochs / EPOCHS

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self._epochs, file)

    def restore(self, path):
        with open(path, encoding="utf-8") as file:
            self._epochs = json.load(file)


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(peers, "Child", Planted)
    monkeypatch.setattr(Planted, "built", 0)
    monkeypatch.setattr(Planted, "stop_after", None)


def _searched(path, peer, **changes):
    cell = peers.Cell(str(path), _bright_or_dark(), Config(image_size=32, **changes), TRIALS[peer], EPOCHS)
    return cell.run(peers.PEERS[peer])


def _without_seconds(result):
    children = [{k: v for k, v in child.items() if k != "seconds"} for child in result["children"]]
    return {**{k: v for k, v in result.items() if "seconds" not in k}, "children": children}


@pytest.mark.parametrize("peer", list(peers.PEERS))
def test_a_search_keeps_to_its_budget_and_gives_its_best(planted, tmp_path, peer):
    result = _searched(tmp_path, peer)
    spent = sum(child["epochs"] for child in result["children"])
    assert TRIALS[peer] * EPOCHS <= spent < (TRIALS[peer] + 1) * EPOCHS
    assert result["val_auc"] == max(child["val_auc"] for child in result["children"])
    assert result["architectures"] == len({c["architecture"] for c in result["children"]}) > 2
    built = Planted.built
    assert _searched(tmp_path, peer) == result and Planted.built == built  # read, not run again


@pytest.mark.parametrize("peer", ["random", "hyperband", "rl_nas"])
def test_a_stopped_search_goes_on_as_if_undisturbed(planted, tmp_path, monkeypatch, peer):
    whole = _searched(tmp_path / "whole", peer)
    monkeypatch.setattr(Planted, "built", 0)
    monkeypatch.setattr(Planted, "stop_after", 4)
    with pytest.raises(KeyboardInterrupt):
        _searched(tmp_path / "cut", peer)
    monkeypatch.setattr(Planted, "stop_after", None)
    assert _without_seconds(_searched(tmp_path / "cut", peer)) == _without_seconds(whole)
    with untraced():
        assert _without_seconds(_searched(tmp_path / "other", peer, seed=1)) != _without_seconds(whole)


def test_damaged_or_unwritable_children_are_told_in_a_sentence(planted, tmp_path):
    _searched(tmp_path, "random")
    (tmp_path / "result.json").unlink()
    (tmp_path / "children.json").write_text('[{"trial": "0"', encoding="utf-8")
    with pytest.raises(UserError, match="Expected JSON that an earlier command wrote in .*children.json. Received: "):
        _searched(tmp_path, "random")
    (tmp_path / "children.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="dict instead of a list; restore it from a copy or remove it"):
        _searched(tmp_path, "random")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="Expected to be able to write .*; the same command goes on"):
        _searched(tmp_path / "file", "rl_nas")


@pytest.mark.parametrize("peer", list(peers.PEERS))
def test_what_goes_wrong_in_a_child_is_told_as_it_is_and_the_search_goes_on(planted, tmp_path, peer):
    (tmp_path / "weights").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="^Expected to be able to write .*weights.*; the same command goes on[.]$"):
        _searched(tmp_path, peer)
    (tmp_path / "weights").unlink()
    assert len(_searched(tmp_path, peer)["children"]) >= TRIALS[peer]


def test_a_full_disk_under_kerastuner_is_one_sentence(planted, tmp_path, monkeypatch):
    def full(oracle, *_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/tuner/oracle.json; No space left on device")

    monkeypatch.setattr(peers.keras_tuner.Oracle, "update_trial", full)
    with pytest.raises(UserError, match="write .*tuner. Received: No space left on device; free some space; the same"):
        _searched(tmp_path, "hyperband")


@pytest.mark.parametrize("peer", [peer for peer in peers.PEERS if peer != "rl_nas"])
def test_a_damaged_state_of_kerastuner_is_made_anew_from_the_children(planted, tmp_path, monkeypatch, caplog, peer):
    whole = _searched(tmp_path / "whole", peer)
    monkeypatch.setattr(Planted, "stop_after", Planted.built + 3)
    with pytest.raises(KeyboardInterrupt):
        _searched(tmp_path / "cut", peer)
    monkeypatch.setattr(Planted, "stop_after", None)
    monkeypatch.setattr(Planted, "built", 0)
    state = tmp_path / "cut" / "tuner" / "oracle.json"
    state.write_text(state.read_text(encoding="utf-8")[:100], encoding="utf-8")
    assert _without_seconds(_searched(tmp_path / "cut", peer)) == _without_seconds(whole)
    assert Planted.built == len(whole["children"]) - 3 + 1  # and the last training
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}/cut/tuner is damaged (") and (tmp_path / "cut" / "tuner-damaged").is_dir()


@pytest.mark.parametrize("peer", ["random", "hyperband", "rl_nas"])
def test_children_of_other_architectures_do_not_answer_for_those_of_their_names(planted, tmp_path, monkeypatch, peer):
    whole = _searched(tmp_path / "whole", peer)
    monkeypatch.setattr(Planted, "stop_after", Planted.built + 4)
    with pytest.raises(KeyboardInterrupt):
        _searched(tmp_path / "cut", peer)
    monkeypatch.setattr(Planted, "stop_after", None)
    kept = tmp_path / "cut" / "children.json"
    children = json.loads(kept.read_text(encoding="utf-8"))
    children[2].update(architecture=children[1]["architecture"], val_auc=1.0)
    kept.write_text(json.dumps(children), encoding="utf-8")
    if peer != "rl_nas":
        (tmp_path / "cut" / "tuner" / "oracle.json").write_text("", encoding="utf-8")
    assert _without_seconds(_searched(tmp_path / "cut", peer)) == _without_seconds(whole)


def test_a_cell_that_another_command_works_on_is_refused(planted, tmp_path):
    with locked(str(tmp_path)), pytest.raises(UserError, match=f"Received: {tmp_path}, which is in use; wait for the"):
        _searched(tmp_path, "random")
    assert Planted.built == 0
    result = _searched(tmp_path, "random")  # whatever has been locked before
    with locked(str(tmp_path)):
        assert _searched(tmp_path, "random") == result  # finished ones are only read


def test_a_cell_that_another_command_has_gone_on_with_is_read_anew(planted, tmp_path):
    cell = peers.Cell(str(tmp_path), _bright_or_dark(), Config(image_size=32), TRIALS["random"], EPOCHS)
    result = _searched(tmp_path, "random")
    (tmp_path / "result.json").unlink()
    built = Planted.built
    assert _without_seconds(cell.run(peers.PEERS["random"])) == _without_seconds(result)
    assert Planted.built == built + 1  # the last training


def test_the_seconds_of_the_last_training_are_without_its_test(planted, tmp_path, monkeypatch):
    now = [0]
    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def auc(self, data, index):
        now[0] += 100
        return 0.5

    def train(self, *_):
        now[0] += 1

    monkeypatch.setattr(Planted, "auc", auc)
    monkeypatch.setattr(Planted, "train", train)
    assert _searched(tmp_path, "rl_nas")["retrain_seconds"] == 1


def test_hyperband_trains_many_briefly_and_the_better_ones_on(planted, tmp_path):
    children = _searched(tmp_path, "hyperband")["children"]
    epochs = [child["epochs"] for child in children]
    assert min(epochs) < EPOCHS and max(epochs) == EPOCHS
    continued = [
        c for c in children if c["architecture"] in {b["architecture"] for b in children if b["trial"] < c["trial"]}
    ]
    assert continued and all(c["epochs"] < EPOCHS for c in continued)


def test_names_are_checked(config):
    with pytest.raises(UserError, match="Expected --peers to be some of .*Received: randm; nearest: random"):
        peers_suite.Budget((), ("randm",), 2, 1)
    prepared = preparation.prepare(config)
    with pytest.raises(UserError, match="Received: stripes, which is none of these; (did you mean|known: )"):
        attribute_number(prepared, "stripes")
    full = prepared.domain.attributes[1]
    assert attribute_number(prepared, full) == attribute_number(prepared, full.split("/")[1]) == 1


def test_no_attribute_is_chosen_where_none_can_be_judged_and_tested():
    domain = SimpleNamespace(name="sun", attributes=("sun/fog",), labels=np.eye(2)[:, :1])
    split = SimpleNamespace(train=np.arange(2), judged_and_tested=np.array([False]))
    with pytest.raises(
        UserError, match="an attribute of sun that validation and test images can judge. Received: none"
    ):
        peers_suite.evenly_split([SimpleNamespace(domain=domain, split=split)], 1)


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    """Its few steps are not traced: that would take longer than they do."""
    out = str(tmp_path_factory.mktemp("peers"))
    budget = peers_suite.Budget((), ("random",), 2, 1, num_attributes=1)
    with untraced():
        table, curves = peers_suite.measure(config, budget, out)
    peers_suite.write(table, curves, out)
    return out, budget, table, curves


def test_the_suite_compares_galm_with_its_peers(config, measured):
    out, _, table, curves = measured
    assert list(pd.read_csv(os.path.join(out, "peers.csv")).columns) == list(COLUMNS)
    assert os.path.getsize(os.path.join(out, "peers.png")) > 5000
    for name, reference in zip(table["case"], table["reference"]):
        assert reference.startswith("random") and name.split(",")[0] in ("random", "galm")
    rates = table[table["unit"] == "architectures/h"].set_index("case")
    with open(os.path.join(out, "galm", "result.json"), encoding="utf-8") as file:
        result = json.load(file)
    seconds = sum(
        v for k, v in result["search"]["phase_seconds"].items() if k in ("warmup", "supernet", "rewards", "controller")
    )
    judged = search_space.NUM_DISTINCT * result["num_attributes_rewarded"]
    assert rates.loc["galm", "value"] == pytest.approx(3600 * judged / seconds)
    assert rates.loc["galm", "ratio_median"] > 10
    ours = curves[curves["peer"] == "galm"]
    assert list(ours["weights"]) == ["shared", "shared", "own"] and ours["seconds"].is_monotonic_increasing
    name = ours["attribute"].iloc[0]
    tables = [np.load(os.path.join(out, "galm", "tables", f"round{r}.npz"))["full"] for r in (1, 2)]
    best = [t[list(result["per_attribute"]).index(name)].max() for t in tables]
    np.testing.assert_allclose(ours["best_val_auc"], [*best, result["per_attribute"][name]["val_auc"]], rtol=1e-6)
    assert (curves.loc[curves["peer"] != "galm"].groupby("peer")["architectures"].last() <= 2).all()


def test_the_suite_draws_names_of_any_kind_and_keeps_its_tables_first(measured, tmp_path, monkeypatch):
    _, _, table, curves = measured
    peers_suite.write(table, curves.assign(attribute="sun/price $^$" + 300 * "W"), str(tmp_path))
    assert (tmp_path / "peers.png").stat().st_size > 5000
    monkeypatch.setattr(peers_suite, "_draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        peers_suite.write(table, curves, str(tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["peers.csv", "peers_curves.csv"]


def test_exported_pictures_are_those_that_the_peers_saw(config, measured):
    out, budget, _, curves = measured
    name = curves["attribute"].iloc[0]
    data = AttributeData.of(preparation.prepare(config), name, config)
    with np.load(os.path.join(out, "data", f"{file_name(name)}.npz")) as stored:
        settings = json.loads(str(stored["settings"]))
        for part in ("train", "validation", "final", "test"):
            index = getattr(data, part)
            np.testing.assert_array_equal(stored[f"{part}_images"], data.images[index])
            np.testing.assert_array_equal(stored[f"{part}_labels"], data.labels[index])
            assert set(np.unique(data.labels[index])) == {0.0, 1.0}
    split = preparation.prepare(config).split
    np.testing.assert_array_equal(data.final, np.sort(split.trained))  # those too that may not judge
    assert len(data.validation) < len(split.validation)
    assert (settings["attribute"], settings["trials"], settings["epochs"]) == (name, 2, 1)
    assert not set(data.test) & (set(data.train) | set(data.validation))


def test_with_few_positives_the_last_training_sees_no_more_labels_than_galm(config):
    few = dataclasses.replace(config, train_positives=3)
    prepared = preparation.prepare(few)
    name = next(a for a, judge in zip(prepared.domain.attributes, prepared.split.judged_by) if judge == "classes")
    data = AttributeData.of(prepared, name, few)
    np.testing.assert_array_equal(data.final, data.train)
    assert data.labels[data.final].sum() == 3


def test_a_folder_goes_on_with_its_settings_only(config, measured):
    out, budget, table, _ = measured
    again, _ = peers_suite.measure(config, budget, out)
    pd.testing.assert_frame_equal(again, table)
    place = os.path.join(out, "data")
    before = {name: os.path.getmtime(os.path.join(place, name)) for name in os.listdir(place)}
    with pytest.raises(UserError, match="epochs=2 now, 1 in the suite"):
        peers_suite.measure(config, dataclasses.replace(budget, epochs=2), out)
    # which carry the budget
    assert {name: os.path.getmtime(os.path.join(place, name)) for name in os.listdir(place)} == before


def test_data_of_other_attributes_do_not_stay_for_peers_outside(tmp_path):
    budget, config = peers_suite.Budget((), ("random",), 2, 1), Config(image_size=32)
    one = _bright_or_dark()
    np.savez(tmp_path / "my_features.npz", features=np.ones(3))  # another's
    (tmp_path / "torn.npz").write_bytes(b"PK")
    peers_suite._export_all([one], budget, config, str(tmp_path))
    peers_suite._export_all([dataclasses.replace(one, name="sun/dark")], budget, config, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["my_features.npz", "sun-dark.npz", "torn.npz"]


def test_names_that_read_alike_have_files_of_their_own():
    names = ["sun/trees", "a/b/c", "a/b-c", "a-b/c", "a/b c", "a/" + 300 * "x y"]
    files = [file_name(name) for name in names]
    assert files[0] == "sun-trees" and len(set(files)) == len(names) and max(map(len, files)) < 120
    assert not any(set("/ ") & set(name) for name in files)


def test_nni_beside_tensorflow_says_what_is_missing():
    if importlib.util.find_spec("nni"):
        pytest.skip("NNI is here")
    script = os.path.join(os.path.dirname(__file__), "..", "benchmarks", "peers_nni.py")
    ran = subprocess.run([sys.executable, script, "none.npz"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: Expected PyTorch, NNI 3.0 and tianshou 0.5") and "make peers" in ran.stderr
