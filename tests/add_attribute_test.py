"""One more attribute: old outputs to the last bit, the new one beside them, a chain, and each mistake in one
sentence.
"""

import dataclasses
import gc
import hashlib
import json
import os
import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import main_flags
from galm_tf import (
    add_attribute,
    data_digests,
    evaluation,
    main,
    pipeline,
    preparation,
    run_result,
    source_runs,
    transfer,
)
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.domains import load_domains
from galm_tf.errors import UserError
from galm_tf.network_size import trunk_size
from galm_tf.predict import Options, Predictor, predict
from galm_tf.progress import Progress
from galm_tf.report.run_reading import read_run
from galm_tf.run_folder import RunFolder, read_config, read_policy
from galm_tf.search import Search
from galm_tf.search_space import Architecture
from report_runs import page_of
from small_domains import LEFT_OUT, few_images

TINY = dict(
    image_size=32, warmup_steps=12, rounds=1, supernet_steps=6, batch_size=16, attributes_per_step=4, controller_steps=6,
    samples_per_step=8, calibration_images=48, adapt_steps=4, finetune_steps=4, derive_top=4, checkpoint_seconds=0.0,
)  # fmt: skip
N = 20 - len(LEFT_OUT)  # attributes of the source
FEW = "--warmup_steps=1", "--supernet_steps=1", "--controller_steps=2", "--adapt_steps=1", "--finetune_steps=1"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Where things go, with few generated images."""
    with few_images(10):
        yield tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def source(small, drawn):
    """(settings, folder) of a finished run on scenes whose weights are as they began."""
    return _finished(Config(domain=("sun",), leave_out=LEFT_OUT, cache_dir=drawn, **TINY), str(small / "A"))


def _finished(config, path):
    folder, prepared = RunFolder.create(path, config), preparation.prepare(config)
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    folder.write_text("metrics.jsonl", "")
    search = Search(config, prepared.domain, prepared.split, prepared.images, folder, ControllerTraining)
    count = search.num_attributes
    search.state.chosen = np.random.default_rng(0).integers(0, 2304, count).tolist()
    search.state.thresholds, search.state.val_auc = np.linspace(0.3, 0.7, count).tolist(), [0.5] * count
    search.calibrate()
    network = pipeline.derive_network(search)
    result = run_result.build_result(search, prepared, pipeline.test(network, prepared))
    pipeline.write_result(search, network, prepared, {**result, "seconds_total": 100.0}, folder)
    folder.save_checkpoint(search.arrays(), dataclasses.asdict(search.state))
    return config, path


def _table(path, config, **columns):
    """Writes labels of the images that `columns` does not leave out: name -> float [n]."""
    names = [p.split("seed0/")[1] for p in load_domains(config).paths]
    lines = [["image", *columns]] + [
        [name, *("" if np.isnan(c[i]) else str(int(c[i])) for c in columns.values())] for i, name in enumerate(names)
    ]
    path.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    return str(path)


def _labels(config, name):
    domain = load_domains(config)
    return domain.labels[:, domain.attributes.index(name)].copy()


@pytest.fixture(scope="module")
def labels(small, source):
    """A table of two new attributes: one is the opposite of an old one, the other is known of some images only."""
    config = source[0]
    either = np.maximum(_labels(config, "sun/lake"), _labels(config, "sun/snow"))
    either[::3] = np.nan
    return _table(small / "labels.csv", config, treeless=1 - _labels(config, "sun/trees"), water=either)


def _add(table, source_run, path, *more):
    config = main_flags.settings(f"--add_attribute={table}", f"--source_run={source_run}", f"--run_dir={path}", *more)
    return config, main.run(config, str(path))


def _contents(folder):
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.join(place, name)] = hashlib.sha256(file.read()).hexdigest()
    return found


@pytest.fixture(scope="module")
def extended(small, source, labels):
    """(settings, folder, result) of the source with two attributes more, and what the source held before."""
    before = _contents(source[1])
    config, result = _add(labels, source[1], small / "A-plus")
    return config, str(small / "A-plus"), result, before


def _outputs(folder, images):
    serve = tf.saved_model.load(os.path.join(folder, "saved_model")).signatures["serving_default"]
    return {k: v.numpy() for k, v in serve(images=tf.constant(images)).items()}


def _expect_old_outputs_untouched(old, new, images, pictures, counts=(1, 2, 7, 64)):
    models = [tf.saved_model.load(os.path.join(folder, "saved_model")).signatures for folder in (old, new)]
    for count in counts:
        calls = [("serving_default", {"images": tf.constant(images[:count])})]
        calls.append(("serving_default", {"images": tf.constant(np.repeat(images[:count], 2, axis=2)[:, :, :45])}))
        calls.append(("serving_jpeg", {"image_bytes": tf.constant((pictures * count)[:count])}))
        for signature, inputs in calls:
            before, after = (model[signature](**inputs) for model in models)
            assert set(before) == set(after) == {"probability", "decision", "threshold", "attribute"}
            width = before["attribute"].shape[0]
            assert after["attribute"].shape[0] > width
            for name in before:
                np.testing.assert_array_equal(
                    after[name].numpy()[..., :width], before[name].numpy(), f"{signature} {count} {name}"
                )


def _pictures(folder):
    names = sorted(os.listdir(os.path.join(folder, "examples")))
    return [open(os.path.join(folder, "examples", name), "rb").read() for name in names]


def test_old_outputs_stay_the_same_to_the_last_bit(source, extended):
    images = np.asarray(preparation.prepare(source[0]).images[:64])
    _expect_old_outputs_untouched(source[1], extended[1], images, _pictures(source[1]))


def _metadata(folder):
    return Predictor(os.path.join(folder, "saved_model")).metadata


def test_models_tell_that_they_learned_no_parts_of_photographs(source, extended):
    """Of those that did see the next test."""
    assert _metadata(source[1])["boxes"] is False and _metadata(extended[1])["boxes"] is False


def _halves(tmp_path):
    """The settings of a run on data of one's own without a split: two boxes a photograph, and a table of labels that it
    lacks.
    """
    (tmp_path / "data" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = {
        "attributes.csv": ["image,left,top,right,bottom,red,dark"],
        "more.csv": ["image,left,top,right,bottom,blue"],
    }
    for i in range(80):
        halves = rng.integers(0, 256, (2, 3), np.uint8)
        Image.fromarray(halves[:, None].repeat(20, 1).repeat(20, 0)).save(tmp_path / "data" / "images" / f"{i}.png")
        for top, (red, green, blue) in zip((0, 20), halves):
            place = f"{i}.png,0,{top},20,{top + 20}"
            rows["attributes.csv"].append(f"{place},{int(red > 127)},{int(green < 128)}")
            rows["more.csv"].append(f"{place},{int(blue > 127)}")
    for name, lines in rows.items():
        (tmp_path / "data" / name).write_text("\n".join(lines), encoding="utf-8")
    steps = {"warmup_steps": 2, "supernet_steps": 1, "controller_steps": 2, "adapt_steps": 1, "finetune_steps": 2}
    return Config(
        domain=("pets",),
        data_dir=(str(tmp_path / "data"),),
        cache_dir=str(tmp_path / "cache"),
        **{**TINY, "attributes_per_step": 0, **steps},
    )


def test_an_addition_goes_on_where_its_source_and_its_data_have_moved_to(
    tmp_path, monkeypatch, capsys, caplog, eagerly
):
    """Of a source that learned parts of photographs, which its model and that of the addition tell."""
    first, second, third, run = (str(tmp_path / name) for name in ("A", "B", "C", "plus"))
    _finished(_halves(tmp_path), first)
    assert _metadata(first)["boxes"] is True
    caplog.clear()
    shutil.copy(tmp_path / "data" / "more.csv", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", _stopped_update)
        with pytest.raises(_Killed):
            _add(tmp_path / "more.csv", first, run)
    os.rename(first, second)
    os.rename(tmp_path / "data", tmp_path / "moved")
    shutil.copytree(second, third)
    _change_json(f"{third}/result.json", seconds_total=7.0)

    def resume(*more):
        gc.collect()  # what a refusal before holds: the lock
        main_flags.call("--resume", f"--run_dir={run}", *more)
        return capsys.readouterr()

    def refused(*more):
        with pytest.raises(UserError) as error:
            resume(*more)
        return str(error.value)

    assert (
        f"--source_run={first} (No such file or directory); name the folder of the source run by --source_run, the new one where"
        in refused()
    )
    assert (
        f"Expected the source run that the run in {run} began with. Received: --source_run={third}, which is another one; "
        in refused(f"--source_run={third}")
    )
    assert "which is none; check its path, and name the new one by --data_dir" in refused(f"--source_run={second}")
    places = f"--source_run={second}", f"--data_dir={tmp_path / 'moved'}"
    assert "1 added to the 2 attributes of" in resume(*places).out
    assert (read_config(run).source_run, read_config(run).data_dir) == ((second,), (str(tmp_path / "moved"),))
    assert _metadata(run)["boxes"] is True and len(_metadata(run)["attributes"]) == 3
    assert "No split is given" not in caplog.text  # it has the source's
    assert any(
        note.startswith("No split is given") for note in RunFolder(run, lock=False).read_json("result.json")["notes"]
    )
    os.rename(tmp_path / "moved", tmp_path / "again")
    os.rename(second, first)
    told = resume()  # a finished one needs neither
    assert "1 added to the 2 attributes of" in told.out and "nothing is done, and no picture is looked at" in told.err
    assert "Received: --source_run=nowhere" in refused("--source_run=nowhere") and "which is none" in refused(
        "--data_dir=nowhere"
    )
    assert "another one" in refused(f"--source_run={third}") and read_config(run).source_run == (second,)
    assert (
        "nothing is done but to note the new data_dir and source_run, and"
        in resume(f"--source_run={first}", f"--data_dir={tmp_path / 'again'}").err
    )
    assert (read_config(run).source_run, read_config(run).data_dir) == ((first,), (str(tmp_path / "again"),))
    assert page_of(read_run(run)).content["pictures"]["missing"] == "" and "No split is given" not in caplog.text


def test_a_source_that_an_earlier_version_did_not_note_may_have_moved(source, extended, tmp_path):
    folder = RunFolder.create(str(tmp_path / "run"), extended[0])
    config = dataclasses.replace(extended[0], source_run=(_copy(source, tmp_path),))
    folder.write_json("data.json", {"images": 400})
    source_runs.expect_same(config, folder)
    folder.write_json("data.json", {"source runs": ["of another"]})
    with pytest.raises(UserError, match="which is another one"):
        source_runs.expect_same(config, folder)
    with pytest.raises(
        UserError, match="--source_run=gone .No such file or directory.; name the folder of the source run"
    ):
        source_runs.expect_same(dataclasses.replace(config, source_run=("gone",)), folder)


def _change_json(path, **changes):
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**stored, **changes}, file)


def test_the_source_run_is_only_read(source, extended):
    assert _contents(source[1]) == extended[3]


def test_the_result_holds_old_and_new(source, extended, labels):
    config, path, result, _ = extended
    before = RunFolder(source[1], lock=False).read_json("result.json")
    new = ["sun/treeless", "sun/water"]
    assert list(result["per_attribute"]) == [*before["per_attribute"], *new]
    assert {n: result["per_attribute"][n] for n in before["per_attribute"]} == before["per_attribute"]
    assert result["added"]["attributes"] == new and result["added"]["source_run"] == source[1]
    assert (result["num_attributes"], result["num_attributes_tested"]) == (N + 2, N + 2)
    aucs = [row["test_auc"] for row in result["per_attribute"].values()]
    assert result["test_mauc"] == pytest.approx(np.mean(aucs))
    assert "flatter" in result["notes"][-1] and "of sun/treeless and sun/water flatter" in result["notes"][-1]
    assert {"load", "features", "match", "warmup", "controller", "adapt", "finetune", "test"} <= set(
        result["search"]["phase_seconds"]
    )
    assert result["search"]["architectures_scored"] == 2 * 1536
    beside = [result["per_attribute"][n]["parameters"] for n in new]  # a graph of its own, with its trunk
    assert result["network"]["parameters"] == before["network"]["parameters"] + trunk_size(32).parameters + sum(beside)
    stored = RunFolder(path, lock=False)
    assert stored.read_json("result.json") == json.loads(json.dumps(result))
    assert list(stored.read_json("architectures.json")) == list(result["per_attribute"])
    assert config.label_files == (labels,) and config.domain == ("sun",)


def test_the_saved_model_gives_the_new_test_result(source, extended):
    config, path, result, _ = extended
    prepared = preparation.prepare(source[0])
    test, domain = prepared.split.test, load_domains(config)
    outputs = _outputs(path, np.asarray(prepared.images[test]))
    names = [n.decode() for n in outputs["attribute"]]
    assert names == list(result["per_attribute"]) == list(domain.attributes)
    aucs = evaluation.auc_per_attribute(domain.labels[test], outputs["probability"])
    np.testing.assert_allclose(aucs[-2:], [result["per_attribute"][n]["test_auc"] for n in names[-2:]], atol=2e-3)
    thresholds = np.array([result["per_attribute"][n]["threshold"] for n in names], np.float32)
    np.testing.assert_array_equal(outputs["decision"], outputs["probability"] >= thresholds)


def test_weights_of_the_source_stay_and_new_ones_follow(source, extended):
    old, new = (source_runs.read_source(path, extended[0]) for path in (source[1], extended[1]))
    assert new.attributes == (*old.attributes, "sun/treeless", "sun/water")
    np.testing.assert_array_equal(new.chosen[:N], old.chosen)
    for name, value in old.weights.items():
        stacked = name.split("/")[0] in ("conv4", "bn4", "conv5", "bn5", "head")
        np.testing.assert_array_equal(new.weights[name][:N] if stacked else new.weights[name], value, err_msg=name)
        assert len(new.weights[name]) == len(value) + 2 * stacked
    for name, value in old.policy.items():
        np.testing.assert_array_equal(
            new.policy[name][:N] if name.endswith("arm_embedding") else new.policy[name], value
        )


def test_new_attributes_start_from_ones_of_the_source_turned_where_these_say_the_opposite(source, extended):
    matches = extended[2]["transfer"]["matches"]
    assert set(matches) == {"sun/treeless", "sun/water"}
    for match in matches.values():
        assert match["attribute"] in source_runs.read_source(source[1], extended[0]).attributes
        assert match["sign"] == (1 if match["auc"] >= 0.5 else -1)


def test_an_addition_keeps_what_the_other_attributes_started_from(extended, longer):
    first, second = extended[2]["transfer"], longer[1]["transfer"]
    assert second["sources"] == [*first["sources"], extended[1]] and second["parts"] == ["towers"]
    for name, match in first["matches"].items():  # by another --transfer
        assert second["matches"][name] == {"parts": first["parts"], **match}
    assert not any("parts" in second["matches"][name] for name in longer[1]["added"]["attributes"])
    again = add_attribute._join_transfers(second, {**first, "sources": ["x"], "matches": {"sun/more": None}})
    assert list(again["matches"]) == [*second["matches"], "sun/more"] and again["matches"]["sun/more"] is None
    assert [again["matches"][name]["parts"] for name in second["matches"]] == [first["parts"]] * 2 + [["towers"]] * 2
    alike = {**first, "gate": {"passed": True}, "matches": {"sun/a": None, "sun/b": {"attribute": "awa/b"}}}
    assert add_attribute._join_transfers(alike, first)["matches"] == {**alike["matches"], **first["matches"]}
    refused = {**alike, "gate": {"passed": False}}
    for nothing in (None, refused):  # none of the source's attributes has taken anything
        assert add_attribute._join_transfers(nothing, first) == first


def test_a_chain_tells_what_all_of_it_took(source, extended, longer):
    first, second = extended[2]["added"], longer[1]["added"]
    assert first["searched"] == second["searched"] == {"run": source[1], "seconds": 100.0} and first["earlier"] == []
    told = {"temperature": first["temperature"], "seconds": extended[2]["seconds_total"]}
    assert second["earlier"] == [{"attributes": first["attributes"], **told}]
    result = {**longer[1], "added": {**second, "earlier": [{**second["earlier"][0], "seconds": 7.4}] * 2}}
    assert f" s (the search of {source[1]} took 100 s, additions before this 15 s)\n" in main.summary(result, "x")
    assert f" s (the search of {source[1]} took 100 s)\n" in main.summary(extended[2], "x")
    earlier = {key: value for key, value in second.items() if key not in ("searched", "earlier")}
    result = {**longer[1], "added": {**earlier, "source_seconds": 25.0}}
    assert f" s ({extended[1]} took 25 s, or what was added to it last)\n" in main.summary(result, "x")
    assert add_attribute._additions({**result, "added": earlier})[0]["attributes"] == second["attributes"]
    assert add_attribute._searched(types.SimpleNamespace(result=result)) is None
    result = {**longer[1], "added": {**second, "temperature": 7.0}}
    assert "\nOf sun/dark and sun/rare (added) validation divides log-odds by " in main.summary(result, "x")


def test_few_labels_of_a_new_attribute_are_no_change_of_the_old_ones(source, labels, small):
    config = main_flags.settings(
        f"--add_attribute={labels}", f"--source_run={source[1]}", "--run_dir=x", "--train_positives=3"
    )
    finished = add_attribute.read_finished(config)
    prepared = add_attribute.prepare(config, finished)[0]
    assert prepared.domain.attributes == ("sun/treeless", "sun/water")
    assert (np.nansum(prepared.domain.labels[finished.split.train], axis=0) == 3).all()


@pytest.fixture(scope="module")
def longer(small, source, extended):
    """(settings, result, table) of the extended run with two more; `rare` is known of some training images only.

    It is stopped after the first step of fine-tuning, and resumed.
    """
    config, split = source[0], RunFolder(source[1], lock=False).read_json("split.json")
    rare, some = np.full(len(load_domains(config).paths), np.nan), split["train"][:40]
    rare[some] = _labels(config, "sun/snow")[some]
    table = _table(small / "more.csv", config, dark=_labels(config, "sun/night"), rare=rare)
    arguments = (
        table,
        extended[1],
        small / "A-plus-plus",
        "--method=random",
        "--transfer=towers",
        "--finetune_steps=3",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", _stopped_update)
        with pytest.raises(_Killed):
            _add(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "hand_over", None)  # a resumed run starts from nothing but its checkpoint
        return (*_add(*arguments, "--resume"), table)


def test_records_of_the_rarer_label_are_scarce():
    labels = np.array([[1, 0], [0, 1], [0, np.nan], [0, 1], [1, 1], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(add_attribute._scarce(labels, np.array([0, 1, 2, 3, 5])), [0])
    np.testing.assert_array_equal(add_attribute._scarce(1 - labels[:, :1], np.arange(6)), [0, 4])


class _Killed(Exception):
    pass


_update = Progress.update


def _stopped_update(self, *args, **figures):
    if (self._bar.desc.strip(": "), self._bar.n) == ("finetune", 1):
        raise _Killed
    _update(self, *args, **figures)


def test_a_chain_of_additions(small, source, extended, longer, capsys):
    config, result, table = longer
    folder = str(small / "A-plus-plus")
    # the source's copy
    assert read_config(folder).label_files == (os.path.join(extended[1], "labels", "0-labels.csv"), table)
    # once resumed its own
    assert config.label_files == tuple(os.path.join(folder, "labels", name) for name in ("0-labels.csv", "1-more.csv"))
    images = np.asarray(preparation.prepare(source[0]).images[:64])
    _expect_old_outputs_untouched(extended[1], str(small / "A-plus-plus"), images, _pictures(source[1]), counts=(1, 40))
    model = os.path.join(small, "A-plus-plus", "saved_model")
    assert len(result["per_attribute"]) == N + 4
    assert predict(Options(model), [os.path.join(source[1], "examples")]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in result["per_attribute"])
    told = main.summary(result, "runs/B")
    assert (
        f"2 added to the {N + 2} attributes" in told and "sun/dark: test AUC" in told and "sun/rare: not judged" in told
    )
    assert re.search(
        "\nsun/rare: .*: not judged by any validation image, hence an architecture that is not of its own", told
    )
    below = {
        **result,
        "per_attribute": {name: {**row, "val_auc": 0.4} for name, row in result["per_attribute"].items()},
    }
    assert re.search(
        "\nsun/dark: .*: below chance on validation, so that its yes and no mean little\n", main.summary(below, "x")
    )
    assert "\nLook at it: python -m galm_tf.report runs/B\n" in told
    of_few = dict(result["per_attribute"]["sun/dark"], test_positives=1, test_auc=0.25)
    few = main.summary({**result, "per_attribute": {**result["per_attribute"], "sun/dark": of_few}}, "x")
    assert "\nsun/dark: test AUC 0.250 on 1 image of one label (" in few


def test_steps_are_those_of_a_tower_of_the_source_unless_given(source, labels, extended, longer):
    config, again = extended[0], longer[0]
    # half of the attributes a step
    assert (config.warmup_steps, config.supernet_steps, config.finetune_steps) == (6, 3, 2)
    # what the policy that was handed over says
    assert (config.uniform_fraction, source[0].uniform_fraction) == (0.0, 0.5)
    # as many steps however many are added
    assert (config.derive_top, again.controller_steps, config.attributes_per_step) == (64, 6, 0)
    assert (again.warmup_steps, again.supernet_steps, again.finetune_steps) == (6, 3, 3)
    assert (
        main_flags.settings(
            f"--add_attribute={labels}", f"--source_run={source[1]}", "--transfer=towers"
        ).uniform_fraction
        == 0.5
    )


def test_an_addition_without_a_folder_is_found_by_the_sources_name(source, labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"runs/{'+'.join(source[0].domain)}-{source[0].method}-s{source[0].seed}"
    arguments = f"--add_attribute={labels}", f"--source_run={source[1]}"
    with pytest.raises(UserError, match=re.escape(f"there is no run {name};")):
        main_flags.settings(*arguments, "--resume")
    begun = main_flags.settings(*arguments)
    RunFolder.create(name, begun)
    assert main_flags.settings(*arguments, "--resume") == dataclasses.replace(begun, resume=True, run_dir=name)


def test_a_chain_that_leads_back_to_itself_has_the_defaults(tmp_path):
    """An extended run was moved to where its source had lain."""
    path = str(tmp_path / "A")
    RunFolder.create(path, Config(add_attribute="x.csv", source_run=(path,), uniform_fraction=0.0))
    assert add_attribute._first_settings(read_config(path)).uniform_fraction == Config().uniform_fraction


def test_an_embedding_learns_faster_than_a_policy_unless_its_rate_says_otherwise(source, labels, tmp_path):
    arguments = f"--add_attribute={labels}", f"--source_run={source[1]}"
    assert (main_flags.settings(*arguments).controller_learning_rate, source[0].controller_learning_rate) == (
        3e-2,
        2e-3,
    )
    assert main_flags.settings(*arguments, "--controller_learning_rate=0.001").controller_learning_rate == 1e-3
    # a whole policy learns
    for anew in ("--transfer=towers", "--method=enas", "--method=evolution"):
        settings = main_flags.settings(*arguments, anew)
        assert (settings.controller_learning_rate, settings.uniform_fraction) == (2e-3, 0.5), anew
    plain = _copy(
        source, tmp_path, config_json=json.dumps({"format": 1, **source[0].to_json(), "controller_optimizer": "sgd"})
    )
    # by plain ascent an embedding alone does not move
    settings = main_flags.settings(arguments[0], f"--source_run={plain}")
    assert (settings.controller_optimizer, settings.controller_learning_rate) == ("adam", 3e-2)
    letter = {"controller_optimizer": "sgd", "reward_data": "batch", "samples_per_step": 1, "reward": "accuracy"}
    letter = {"format": 1, **source[0].to_json(), **letter, "size_penalty": 0.0}
    letter = _copy(source, tmp_path / "letter", config_json=json.dumps(letter))
    settings = main_flags.settings(arguments[0], f"--source_run={letter}")
    assert (settings.reward_data, settings.samples_per_step) == ("full", 64)
    anew = main_flags.settings(arguments[0], f"--source_run={plain}", "--transfer=towers")
    assert (anew.controller_optimizer, anew.controller_learning_rate) == ("sgd", 2e-3)


def test_a_whole_policy_learns_as_in_the_run_that_a_chain_began_with(source, extended, labels, tmp_path):
    """Whatever an addition in between, whose policy was handed over, has learned by."""
    letter = {
        "controller_optimizer": "sgd", "controller_learning_rate": 1e-4, "samples_per_step": 1, "entropy_weight": 0.0,
        "baseline": "global", "normalize_advantage": False, "reward_data": "batch", "size_penalty": 0.0, "uniform_fraction": 0.25,
    }  # fmt: skip
    first = json.dumps({"format": 1, **source[0].to_json(), **letter})
    first = _copy(source, tmp_path / "first", config_json=first)
    guided = main_flags.settings(f"--add_attribute={labels}", f"--source_run={first}", "--size_penalty=0.1")
    assert (guided.controller_optimizer, guided.reward_data, guided.size_penalty) == ("adam", "full", 0.1)
    guided = json.dumps({"format": 1, **guided.to_json()})
    guided = _copy((None, extended[1]), tmp_path / "guided", config_json=guided)
    arguments = "--add_attribute=another.csv", f"--source_run={guided}"
    anew = main_flags.settings(*arguments, "--transfer=trunk,towers")
    assert {name: getattr(anew, name) for name in letter} == letter
    assert main_flags.settings(*arguments).size_penalty == 0.1
    for path in (first, guided):  # these methods read the rewards of all architectures
        settings = main_flags.settings("--add_attribute=another.csv", f"--source_run={path}", "--method=enas")
        assert (settings.reward_data, settings.controller_optimizer, settings.method) == ("full", "sgd", "enas")


def test_an_addition_matches_by_predictors_whatever_rule_its_source_compared(source, labels, tmp_path):
    compared = {"format": 1, **source[0].to_json(), "source_run": ["gone"], "match": "random"}
    compared = _copy(source, tmp_path, config_json=json.dumps(compared))
    arguments = f"--add_attribute={labels}", f"--source_run={compared}"
    assert main_flags.settings(*arguments).match == "predictor"
    begun = main_flags.settings(*arguments, "--match=random", f"--run_dir={tmp_path / 'B'}")
    RunFolder.create(begun.run_dir, begun)
    assert main_flags.settings("--resume", f"--run_dir={begun.run_dir}").match == begun.match == "random"


def test_a_run_whose_trunk_was_frozen_can_be_added_to_by_towers_alone(source, labels, tmp_path):
    settings = {"format": 1, **source[0].to_json(), "source_run": ["gone"], "transfer": ["trunk"], "freeze_trunk": True}
    frozen = _copy(source, tmp_path, config_json=json.dumps(settings))
    config = main_flags.settings(f"--add_attribute={labels}", f"--source_run={frozen}", "--transfer=towers")
    assert config.transfer == ("towers",) and not config.freeze_trunk  # its trunk stays in any case


def test_an_attribute_that_nobody_can_judge_is_still_added(longer):
    row = longer[1]["per_attribute"]["sun/rare"]
    assert (row["test_auc"], row["val_auc"], row["threshold"]) == (None, None, None)
    assert row["reason"].startswith("not judged: no known label among the validation images")
    assert longer[1]["method"] == "random"


def test_labels_of_training_images_alone_suffice(small, source, eagerly):
    split = preparation.prepare(source[0]).split
    dark = _labels(source[0], "sun/night")
    dark[np.setdiff1d(np.arange(len(dark)), split.train)] = np.nan
    path = shutil.copytree(source[1], small / "A-told")
    told = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps({**told, "num_images_tested": 3}))
    result = _add(_table(small / "trained.csv", source[0], dim=dark), path, small / "A-dim", *FEW)[1]
    assert result["num_images_tested"] == len(split.test)  # which have labels of the source's attributes
    row = result["per_attribute"]["sun/dim"]
    assert (row["val_auc"], row["test_auc"], row["threshold"]) == (None, None, None)
    assert result["search"]["skill"] is None and result["method"] == "galm"


def test_a_run_whose_additions_knew_fewer_positives_can_be_added_to(small, source, labels, eagerly):
    """Those of the source all, those of the addition three each, drawn by their names."""
    result = _add(labels, source[1], small / "A-few", "--train_positives=3", *FEW)[1]
    assert {
        name: row["train_positives"] for name, row in result["per_attribute"].items() if row.get("train_positives")
    } == {"sun/treeless": 3, "sun/water": 3}
    more = _table(small / "later.csv", source[0], dark=_labels(source[0], "sun/night"))
    config = main_flags.settings(f"--add_attribute={more}", f"--source_run={small / 'A-few'}")
    assert config.train_positives == 3
    for positives in (3, 0):
        config = dataclasses.replace(config, train_positives=positives)
        finished = add_attribute.read_finished(config)
        known = (add_attribute.prepare(config, finished)[0].domain.labels[finished.split.train] > 0.5).sum()
        assert known == 3 if positives else known > 3
        assert finished.source.finetuned_on_validation  # as its own source was, whose trunk it has


def test_a_source_of_few_labels_is_added_to_with_as_few(small, source, labels):
    _, path = _finished(dataclasses.replace(source[0], train_positives=3), str(small / "few"))
    config = main_flags.settings(f"--add_attribute={labels}", f"--source_run={path}")
    assert config.train_positives == 3
    finished = add_attribute.read_finished(config)
    prepared, tested = add_attribute.prepare(config, finished)
    assert (prepared.domain.labels[finished.split.train] > 0.5).sum(axis=0).tolist() == [3, 3]
    assert tested == len(finished.split.test)
    fewer = load_domains(config).select_images(np.arange(30))
    with pytest.raises(UserError, match="Received: 30 images, 400 then, other names"):
        add_attribute._expect_same_data(fewer, finished, config)


def test_a_source_that_kept_validation_apart_flatters_nothing(small, source, labels):
    _, path = _finished(dataclasses.replace(source[0], finetune_steps=0), str(small / "apart"))
    config = main_flags.settings(f"--add_attribute={labels}", f"--source_run={path}")
    finished, row = add_attribute.read_finished(config), {"test_auc": None, "val_auc": None}
    architecture = {"architecture": Architecture.from_number(5).to_json()}
    added = {
        "per_attribute": {"sun/new": {**row, **architecture}}, "num_attributes_rewarded": 0, "transfer": None, "search": {},
        "network": finished.result["network"], "notes": [*finished.result["notes"], "1 of 9 rows passed over."],
        "temperature": 2.5, "log_odds_shift": 0.0, "readout": None,
    }  # fmt: skip
    assert add_attribute._join_results(added, finished, config)["notes"] == added["notes"]
    tuned = dataclasses.replace(finished, source=dataclasses.replace(finished.source, finetuned_on_validation=True))
    result = add_attribute._join_results(added, tuned, config)
    assert "figures of sun/new flatter" in result["notes"][-1]
    assert (result["added"]["temperature"], result["temperature"]) == (2.5, finished.result["temperature"])
    longer = dataclasses.replace(tuned, result=result)  # a chain says it once
    more = {
        **added,
        "per_attribute": {"sun/newer": {**row, **architecture}},
        "notes": [*result["notes"], source_runs.validation_note(finished.source.path)],
    }
    notes = add_attribute._join_results(more, longer, config)["notes"]
    assert len(notes) == len(result["notes"]) and "figures of sun/new and sun/newer flatter" in notes[-1]


def test_a_source_of_an_earlier_version_is_added_to(small, source, labels, monkeypatch):
    """Its result.json does not tell of a trunk, nor its rows of log losses: those of new ones alone would pass for all."""
    config = main_flags.settings(f"--add_attribute={labels}", f"--source_run={source[1]}")
    finished = add_attribute.read_finished(config)
    rows = {
        name: {key: value for key, value in row.items() if key != "test_log_loss"}
        for name, row in finished.result["per_attribute"].items()
    }
    earlier = {key: value for key, value in finished.result.items() if key not in ("trunk", "test_log_loss", "network")}
    finished = dataclasses.replace(finished, result={**earlier, "per_attribute": rows})
    row = {
        **next(iter(finished.result["per_attribute"].values())), "test_auc": 0.75, "test_log_loss": 0.5, "test_f1": 1.0
    }  # fmt: skip
    added = {
        "per_attribute": {"sun/new": row}, "num_attributes_rewarded": 0, "transfer": None, "search": {}, "notes": [],
        "network": {"multiply_adds": 1, "parameters": 2}, "trunk": None, "temperature": 1.0, "log_odds_shift": 0.0, "readout": None,
    }  # fmt: skip
    result = add_attribute._join_results(added, finished, config)
    assert result["test_log_loss"] is None and result["per_attribute"]["sun/new"]["test_log_loss"] == 0.5
    assert result["test_f1"] == evaluation.means([*rows.values(), row], "test_f1")
    told = {}
    monkeypatch.setattr(pipeline.export, "export_saved_model", lambda *_, **settings: told.update(settings))
    domain = types.SimpleNamespace(boxes=np.full((1, 4), -1), attributes=("sun/new",))
    search = types.SimpleNamespace(
        domain=domain, config=config, split=types.SimpleNamespace(train=np.zeros(1, int)),
        state=types.SimpleNamespace(thresholds=[0.5]),
    )  # fmt: skip
    pipeline.export_network(search, None, result, RunFolder(str(small / "none"), lock=False))
    assert told["metadata"]["trunk"] is None and told["metadata"]["seed"] == config.seed


@pytest.mark.parametrize("match", [None, {"attribute": "sun/lake", "sign": -1, "auc": 0.2, "strength": 0.3}])
def test_what_an_earlier_version_has_added_is_summed_up(extended, match):
    """It wrote no match where no attribute was alike, and did not say that one was."""
    result = {**extended[2], "transfer": {"matches": dict.fromkeys(extended[2]["added"]["attributes"], match)}}
    start = "started from sun/lake reversed" if match else "no attribute like it"
    assert main.summary(result, "x").count(f"; {start})") == 2


def test_an_addition_that_was_stopped_before_its_archive_is_finished_by_a_resume(small, longer, monkeypatch, tmp_path):
    path = shutil.copytree(small / "A-plus-plus", tmp_path / "halted")
    folder = RunFolder.resume(str(path), dataclasses.replace(longer[0], resume=True))
    arrays, state = folder.load_checkpoint()
    new = {k: v[-2:] for k, v in arrays.items() if len(v) == N + 4}  # of the new towers, without the trunk
    folder.save_checkpoint(new, {**state, "chosen": state["chosen"][N + 2 :]}, keep=1)
    monkeypatch.setattr(add_attribute, "prepare", None)  # nothing is searched again
    config = dataclasses.replace(longer[0], resume=True)
    assert add_attribute.run(config, folder) == longer[1]
    after, told = folder.load_checkpoint()
    assert told == state and set(after) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_a_killed_addition_goes_on_where_it_was(small, longer):
    lines = [json.loads(line) for line in open(small / "A-plus-plus" / "metrics.jsonl", encoding="utf-8")]
    written = [(line["phase"], line["step"], *line) for line in lines]
    assert len(written) == len(set(written)) and written[-1][:1] == ("finetune",)
    assert set(longer[1]["transfer"]["matches"]) == {"sun/treeless", "sun/water", "sun/dark", "sun/rare"}
    assert {"load", "features", "match", "finetune", "test"} <= set(longer[1]["search"]["phase_seconds"])


def test_the_report_reads_an_extended_run(extended):
    page = page_of(read_run(extended[1]))
    assert page.content["pictures"]["missing"] == "" and page.content["pictures"]["examples_missing"] == ""
    assert "treeless" in {row["name"] for row in page.content["attributes"]}
    assert not page.content["relations"]["missing"]


def test_an_extended_run_tells_what_it_and_its_source_were_tested_on(source, labels, tmp_path):
    prepared, tables = preparation.prepare(source[0]), {}
    new = prepared.domain.select_attributes(np.arange(N) < 1)
    new = dataclasses.replace(new, attributes=("sun/new",), labels=1 - new.labels)
    path = _copy(source, tmp_path)
    for name in ("told", "untold"):
        config = dataclasses.replace(source[0], source_run=(str(path),), add_attribute=labels)
        folder = RunFolder.create(str(tmp_path / name), config)
        data_digests.remember_data(config, folder, new, prepared.split)
        tables[name] = data_digests.read_data(folder.path)["tested"]
        (tmp_path / "copy" / "data.json").write_text('{"images": 1}')  # as of an earlier version
    before = data_digests.read_data(source[1])["tested"]
    own = tables["untold"]["labels"]
    assert list(own) == ["sun/new"] and tables["told"] == {**before, "labels": {**before["labels"], **own}}
    assert len(before["labels"]) == N and own["sun/new"] not in before["labels"].values()


def test_the_policy_of_old_and_new_stands_in_one_file(source, extended, longer, small):
    old, new = (RunFolder(path, lock=False).read_arrays("policy.npz") for path in (source[1], extended[1]))
    for name, rows in old.items():
        np.testing.assert_array_equal(new[name][:N], rows)
        np.testing.assert_allclose(new[name].sum(axis=1), np.ones(N + 2), rtol=1e-5)
    assert not np.allclose(new["fc1_width"][N], new["fc1_width"][N + 1])
    confidence = page_of(read_run(extended[1])).content["confidence"]
    assert confidence["rows"] and not confidence["missing"]
    assert not os.path.exists(small / "A-plus-plus" / "policy.npz")  # by --method=random: no policy to join


def test_a_policy_of_other_attributes_is_not_joined(source, tmp_path):
    folder = RunFolder(_copy(source, tmp_path), lock=False)
    rows = folder.read_arrays("policy.npz")
    assert read_policy(folder.path, N) is not None
    folder.write_arrays("policy.npz", {name: p[1:] for name, p in rows.items()})
    assert read_policy(folder.path, N) is None


def _copy(source, tmp_path, **changes):
    """A copy of the source run; a changed file is text, or None for a missing one."""
    path = tmp_path / "copy"
    shutil.copytree(source[1], path, ignore=shutil.ignore_patterns("tensorboard", ".lock"))
    for name, text in changes.items():
        name = name.replace("__", "/").replace("_json", ".json")
        shutil.rmtree(path / name, ignore_errors=True) if text is None and (path / name).is_dir() else (
            path / name
        ).unlink()
        if text is not None:
            (path / name).write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(result_json=None),
            "Expected a finished run in --source_run=RUN. Received: a run without result.json; finish it",
        ),
        (
            dict(result_json=None, architectures_json=None),
            "Received: a run without result.json; finish it by --resume --run_dir=RUN.",
        ),
        (dict(result_json="{"), "Received: RUN/result.json, which cannot be read"),
        (
            dict(result_json="{}"),
            "Received: result.json or split.json without what a run writes (KeyError: 'per_attribute')",
        ),
        (dict(split_json="[]"), "Received: RUN/split.json, which cannot be read (list instead of an object); restore"),
        (dict(checkpoints=None), "Received: a run without a checkpoint that can be read; restore"),
        (dict(config_json="[]"), "Received: a file without a number as format; restore it from a copy."),
        (dict(config_json="{"), "Expected the settings of a run in RUN/config.json. Received: a damaged file"),
        (
            dict(config_json='{"format": 2}'),
            "Expected a run of format 1. Received: format 2 in RUN/config.json, written by another version",
        ),
        (
            dict(saved_model__saved_model=None),
            "Expected the saved_model folder of a run. Received: model=RUN/saved_model (damaged, OSError: ",
        ),
        (dict(architectures_json=None), "Received: RUN/architectures.json, which cannot be read"),
    ],
    ids=[
        "unfinished",
        "begun",
        "torn",
        "empty",
        "split",
        "checkpoints",
        "no settings",
        "torn settings",
        "newer",
        "model",
        "architectures",
    ],
)
def test_a_source_that_cannot_be_added_to(source, labels, tmp_path, changes, message):
    changes = {k.replace("saved_model__saved_model", "saved_model__saved_model.pb"): v for k, v in changes.items()}
    run = _copy(source, tmp_path, **changes)
    _expect_error(labels, run, tmp_path, message.replace("RUN", run))


def test_a_checkpoint_that_lacks_weights_is_refused(source, labels, tmp_path):
    run = _copy(source, tmp_path)
    folder = RunFolder(run, lock=False)
    arrays, state = folder.load_checkpoint()
    for name in ("supernet/conv1/kernel", "supernet/head/fc1"):
        folder.save_checkpoint({k: v for k, v in arrays.items() if k != name}, state)
        _expect_error(
            labels,
            run,
            tmp_path,
            f"Expected the weights of {N} attributes in the last checkpoint of --source_run={run}. Received: no {name[9:]}",
        )
    folder.save_checkpoint({k: v[: N - 1] if k == name else v for k, v in arrays.items()}, state)
    _expect_error(labels, run, tmp_path, f"Received: no head/fc1 of {N}; restore the folder from a copy.")


def _expect_error(labels, run, tmp_path, message, *more):
    with pytest.raises(UserError) as error:
        _add(labels, run, tmp_path / "new", *more)
    told = str(error.value)
    assert message in told and "\n" not in told, told
    assert not os.path.exists(tmp_path / "new")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--image_size=64"], "Expected the image_size of --source_run=RUN, which is 32. Received: image_size=64"),
        (
            ["--split_seed=3"],
            "Expected the split_seed of --source_run=RUN, which is -1. Received: split_seed=3; leave --split_seed out",
        ),
        (
            ["--label_files=x.csv"],
            "Expected the label_files of --source_run=RUN and then that of --add_attribute, which is TABLE. Received: label_files=x.csv",
        ),
        (
            ["--transfer_gate_steps=3"],
            "Expected no trial from nothing beside --add_attribute=TABLE: its trunk is the source's. Received: transfer_gate_steps=3",
        ),
        (
            ["--source_run=a,b"],
            "Expected one finished run in --source_run beside --add_attribute=TABLE. Received: source_run=a,b",
        ),
        (["--source_run="], "Received: source_run=(nothing); name the run to add to"),
        (
            ["--data_dir=/nowhere"],
            "Expected a folder in --data_dir, with the data of sun. Received: data_dir=/nowhere, which is none",
        ),
        (["--run_dir=RUN"], "Expected a new run folder. Received: run_dir=RUN, which holds a run"),
        (
            ["--run_dir=RUN/more"],
            "Expected a --run_dir outside of the source run, which is only read. Received: run_dir=RUN/more",
        ),
    ],
    ids=["image_size", "split", "label_files", "gate", "two", "none", "data", "exists", "inside"],
)
def test_settings_that_contradict_the_source(source, labels, tmp_path, more, message):
    more, message = (
        [t.replace("RUN", source[1]).replace("TABLE", labels) for t in texts] for texts in (more, [message])
    )
    with pytest.raises(UserError) as error:
        config = main_flags.settings(
            f"--add_attribute={labels}", f"--source_run={source[1]}", f"--run_dir={tmp_path / 'new'}", *more
        )
        main.run(config, config.run_dir)
    assert message[0] in str(error.value), error.value
    assert not os.path.exists(tmp_path / "new") and not os.path.exists(os.path.join(source[1], "more"))


def test_tables_that_cannot_be_learned(source, tmp_path):
    config, path = source
    none = np.zeros(len(load_domains(config).paths))
    table = _table(tmp_path / "none.csv", config, never=none, always=1 - none)
    message = re.escape(
        f"Expected positives and negatives of each attribute of {table} among the training images. Received: no positive"
    )
    with pytest.raises(UserError, match=message + " among the .* training images for sun/never; label more"):
        _add(table, path, tmp_path / "new")
    table = _table(tmp_path / "old.csv", config, trees=none)
    _expect_error(
        table, path, tmp_path, f"Expected new attributes in {table}. Received: sun/trees, which is there already"
    )


@pytest.mark.parametrize("all_of_them", [True, False])
def test_other_data_than_the_source_saw_are_refused(source, labels, tmp_path, monkeypatch, all_of_them):
    """One label of a tested image, too, which no figure of the source's training images tells of."""
    config, path = source
    original = add_attribute.load_domains

    def relabelled(settings, **more):
        domain = original(settings, **more)
        labels = domain.labels.copy()
        index = slice(None) if all_of_them else np.flatnonzero(domain.subsets == "test")[:1]
        labels[index] = 1 - labels[index]
        return dataclasses.replace(domain, labels=labels)

    monkeypatch.setattr(add_attribute, "load_domains", relabelled)
    _expect_error(
        labels,
        path,
        tmp_path,
        f"Expected the data of --source_run={path} in the generated domain. Received: other labels; ",
    )


def test_images_that_trained_the_source_are_not_tested_by_the_names_of_others(source, labels, tmp_path, monkeypatch):
    """Files of one size that have changed places; a run of an earlier version does not tell of contents."""
    path = _copy(source, tmp_path)
    config = main_flags.settings(f"--add_attribute={labels}", f"--source_run={path}")
    finished = add_attribute.read_finished(config)
    load, trained, tested = add_attribute.load_images, finished.split.train[:5], finished.split.test[:5]

    def exchanged(*given):
        domain, images, bad = load(*given)
        contents = domain.contents.copy()
        contents[trained], contents[tested] = domain.contents[tested], domain.contents[trained]
        return dataclasses.replace(domain, contents=contents), images, bad

    add_attribute.prepare(config, finished)
    monkeypatch.setattr(add_attribute, "load_images", exchanged)
    told = f"Expected the data of --source_run={path} in the generated domain. Received: other contents of image files; restore"
    with pytest.raises(UserError, match=re.escape(told)):
        add_attribute.prepare(config, finished)
    with open(f"{path}/data.json", "r+") as file:
        before = json.load(file)
        del before["contents of image files"]
        file.seek(0)
        file.truncate()
        json.dump(before, file)
    add_attribute.prepare(config, finished)


def test_the_table_of_a_run_may_become_that_of_the_next_attribute(extended, labels, tmp_path):
    """The same file with another column; a run of an earlier version, which kept no copy, says why that cannot be."""
    table = tmp_path / "labels.csv"
    shutil.copy(labels, table)
    copy = tmp_path / "A"
    shutil.copytree(extended[1], copy, ignore=shutil.ignore_patterns("tensorboard", ".lock"))
    stored = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**stored, "label_files": [str(table)]}))
    _table(table, extended[0], next=np.arange(len(load_domains(extended[0]).paths)) % 2)
    config = main_flags.settings(f"--add_attribute={table}", f"--source_run={copy}")
    finished = add_attribute.read_finished(config)
    assert add_attribute.prepare(config, finished)[0].domain.attributes == ("sun/next",)
    (copy / "labels" / "0-labels.csv").unlink()
    told = f"a table of new attributes in --add_attribute. Received: {table}, which --source_run={copy} is made of; write the new labels into"
    with pytest.raises(UserError, match=re.escape(told)):
        main_flags.settings(f"--add_attribute={table}", f"--source_run={copy}")


def test_records_in_another_order_are_other_data(source, labels, tmp_path, monkeypatch):
    """Classes that share all labels change places: every prevalence is as it was, but numbers of records mean
    others.
    """
    original = add_attribute.load_domains

    def exchanged(settings, **more):
        domain = original(settings, **more)
        order = np.arange(len(domain.classes))
        order[[0, 1]] = 1, 0
        return dataclasses.replace(domain, class_ids=order[domain.class_ids].astype(np.int32))

    monkeypatch.setattr(add_attribute, "load_domains", exchanged)
    _expect_error(
        labels,
        source[1],
        tmp_path,
        f"Expected the data of --source_run={source[1]} in the generated domain. Received: other classes; ",
    )
