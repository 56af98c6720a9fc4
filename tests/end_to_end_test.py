"""The real program, tiny: every phase, the exported model, a stop and a resume."""

import contextlib
import dataclasses
import gc
import json
import os
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from galm_tf import data_digests, evaluate, evaluation, pipeline, preparation, run_result
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.splits import make_split
from galm_tf.errors import UserError
from galm_tf.network_size import trunk_size
from galm_tf.progress import Progress
from galm_tf.run_folder import RunFolder
from galm_tf.search import Search
from galm_tf.search_space import DECISIONS
from galm_tf.strategies import METHODS
from galm_tf.telemetry import Telemetry
from galm_tf.tracing import untraced
from small_domains import LEFT_OUT, few_images

TINY = dict(
    image_size=32,
    warmup_steps=4,
    rounds=2,
    supernet_steps=3,
    batch_size=16,
    attributes_per_step=6,
    controller_steps=8,
    samples_per_step=16,
    calibration_images=48,
    adapt_steps=3,
    finetune_steps=3,
    checkpoint_seconds=0.0,
    derive_top=4,
)
# Every step of a run writes a checkpoint here, so that a kill may fall anywhere: eight attributes of twenty keep them
# small.
NUM_ATTRIBUTES = 20 - len(LEFT_OUT)


@pytest.fixture(scope="module")
def settings(drawn):
    with few_images(12):
        yield Config(domain=("sun",), cache_dir=drawn, leave_out=LEFT_OUT, **TINY)


def _run(config, path):
    return pipeline.run(config, RunFolder.create(str(path), config))


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, _run(settings, path)


def _numbers(result):
    """What must not depend on interruptions."""
    kept = {k: v for k, v in result.items() if k not in ("search", "seconds_total", "commit")}
    search = {k: v for k, v in result["search"].items() if "seconds" not in k}
    return json.loads(json.dumps({**kept, "search": search}))


def test_the_run_folder_is_complete(finished):
    path, result = finished
    for name in (
        "config.json",
        "flags.txt",
        "metrics.jsonl",
        "architectures.json",
        "result.json",
        "saved_model",
        "split.json",
    ):
        assert (path / name).exists(), name
    assert json.loads((path / "result.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert len(result["per_attribute"]) == result["num_attributes"] == NUM_ATTRIBUTES
    assert result["notice"] == "generated stand-in, not the real data set"
    assert 0.0 < result["test_mauc"] < 1.0
    assert result["search"]["architectures_scored"] == 2 * 1536 * result["num_attributes_rewarded"]
    assert 0.0 < result["search"]["entropy"] <= np.log(2304)
    for kind, of_trunk in trunk_size(result["image_size"]).to_json().items():
        assert result["network"][kind] == of_trunk + sum(row[kind] for row in result["per_attribute"].values())


def test_the_policy_is_left_as_probabilities(finished):
    with np.load(finished[0] / "policy.npz") as stored:
        policy = {name: stored[name] for name in stored.files}
    assert list(policy) == [d.name for d in DECISIONS]
    for decision in DECISIONS:
        assert (
            policy[decision.name].shape == (NUM_ATTRIBUTES, len(decision.choices))
            and policy[decision.name].dtype == np.float32
        )
        np.testing.assert_allclose(policy[decision.name].sum(axis=1), 1, atol=1e-4)
    # Marginal entropies bound that of the whole, which result.json holds.
    bound = sum(-(p * np.log(p)).sum(axis=1).mean() for p in policy.values())
    assert finished[1]["search"]["entropy"] <= bound + 1e-4


def test_hparams_hold_the_runs_figures(finished):
    events = EventAccumulator(str(finished[0] / "tensorboard" / "hparams"), {"tensors": 0}).Reload()
    result = finished[1]
    told = {"test_mauc": result["test_mauc"], "skill": result["search"]["skill"], "seconds": result["seconds_total"]}
    for tag, value in ((f"run/{name}", figure) for name, figure in told.items()):
        assert float(tf.make_ndarray(events.Tensors(tag)[0].tensor_proto)) == pytest.approx(value, rel=1e-5)


def test_saved_model_gives_the_test_result(finished, settings):
    path, result = finished
    prepared = preparation.prepare(settings)
    serve = tf.saved_model.load(str(path / "saved_model")).signatures["serving_default"]
    test = prepared.split.test
    outputs = [
        serve(images=tf.constant(np.asarray(prepared.images[test[s : s + 50]]))) for s in range(0, len(test), 50)
    ]
    probability = np.concatenate([o["probability"].numpy() for o in outputs])
    mauc = evaluation.mean_auc(evaluation.auc_per_attribute(prepared.domain.labels[test], probability))
    assert mauc == pytest.approx(result["test_mauc"], abs=1e-4)
    decisions = np.concatenate([o["decision"].numpy() for o in outputs])
    rows = list(result["per_attribute"].values())
    thresholds = np.array([0.5 if r["threshold"] is None else r["threshold"] for r in rows], np.float32)
    np.testing.assert_array_equal(decisions, probability >= thresholds)
    assert [n.decode() for n in outputs[0]["attribute"].numpy()] == list(result["per_attribute"])


def test_the_model_is_judged_again_as_it_was_tested(finished, settings, caplog):
    path, result = finished
    found = evaluate.evaluate(settings, str(path))
    for row in found.rows:
        tested = result["per_attribute"][row["attribute"]]
        for key in ("auc", *evaluation.BESIDE_AUC, "positives", "negatives"):
            assert row[key] == pytest.approx(tested[f"test_{key}"], abs=1e-3), key
    assert {k: v for k, v in found.interval.items() if k != "over"} == pytest.approx(
        {k: v for k, v in result["test_mauc_interval"].items() if k != "over"}, abs=1e-3
    ) and found.images == result["num_images"]["test"]
    assert "trained the model" not in caplog.text
    evaluate.evaluate(settings, str(path), "all", list(result["per_attribute"])[:2])
    count = sum(result["num_images"].values())
    assert f"{count - found.images} of {count} images trained the model or chose its networks" in caplog.text


class _Killed(Exception):
    pass


# In every kind of phase, and when a table is just written: (title of its progress, which of its updates).
KILLS = (
    ("warmup", 2),
    ("reward table 1", 2),
    ("controller 1", 1),
    ("reward table 2", NUM_ATTRIBUTES),
    ("adapt", 3),
    ("finetune", 2),
)


@contextlib.contextmanager
def _killed_at(phase, updates):
    """Raises in that update of the progress with that title."""
    begin, original, left, shown = Progress.__init__, Progress.update, [updates], {}

    def init(self, total, title, *args, **kwargs):
        shown[self] = title
        begin(self, total, title, *args, **kwargs)

    def update(self, *args, **figures):
        left[0] -= shown[self] == phase
        if not left[0]:
            raise _Killed
        original(self, *args, **figures)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(Progress, "__init__", init)
        patch.setattr(Progress, "update", update)
        yield
    assert left == [0], f"never killed in {phase}"


@contextlib.contextmanager
def _killed_before_its_archive():
    def archive(folder):
        raise _Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(pipeline, "archive", archive)
        yield


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_numbers(finished, settings, tmp_path):
    path, whole = tmp_path / "run", finished[0]
    resumed = dataclasses.replace(settings, resume=True)

    def resume():
        gc.collect()  # the killed run's traceback may still hold its folder, and so the lock
        return pipeline.run(resumed, RunFolder.resume(str(path), resumed))

    for number, kill in enumerate(KILLS):
        with _killed_at(*kill):
            resume() if number else _run(settings, path)
    with _killed_before_its_archive():
        resume()
    for _ in range(2):  # the second finds nothing to do
        assert _numbers(resume()) == _numbers(finished[1])
        assert len(os.listdir(path / "checkpoints")) == 1
    lines = [[json.loads(line) for line in open(p / "metrics.jsonl", encoding="utf-8")] for p in (path, whole)]
    assert lines[0] == lines[1]
    assert (path / "policy.npz").read_bytes() == (whole / "policy.npz").read_bytes()
    (arrays, _), (expected, _) = (RunFolder(str(p), lock=False).load_checkpoint() for p in (path, whole))
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


def test_a_resumed_run_must_find_the_data_that_it_began_with(settings, tmp_path):
    folder, config = RunFolder.create(str(tmp_path / "run"), settings), dataclasses.replace(settings, resume=True)
    prepared = preparation.prepare(settings)
    domain, split = prepared.domain, prepared.split
    data_digests.remember_data(settings, folder, domain, split)
    data_digests.remember_data(config, folder, domain, split)
    before = (tmp_path / "run" / "split.json").read_bytes()
    assert set(folder.read_json("data.json")["tested"]["labels"]) == set(domain.attributes)
    elsewhere = tmp_path / os.path.basename(domain.paths[0])
    elsewhere.write_bytes(b"larger")
    relabelled = domain.labels.copy()
    relabelled[0, 0] = 1 - relabelled[0, 0]
    others = {
        f"{NUM_ATTRIBUTES - 1} attributes, {NUM_ATTRIBUTES} then, other names of attributes and other labels": (
            domain.select_attributes(np.arange(NUM_ATTRIBUTES) > 0),
            split,
        ),
        "other labels": (dataclasses.replace(domain, labels=relabelled), split),
        "other names of images, or another order of them": (
            dataclasses.replace(domain, paths=domain.paths[::-1]),
            split,
        ),
        "other classes": (dataclasses.replace(domain, class_ids=domain.class_ids[::-1]), split),
        "other boxes": (dataclasses.replace(domain, boxes=domain.boxes + 2), split),
        "other sizes of image files": (dataclasses.replace(domain, paths=(str(elsewhere), *domain.paths[1:])), split),
        "other drawn pictures, as another version of galm_tf drew them": (_redrawn(domain), split),
        "other split (who trains, judges and is tested), which another version of galm_tf may have drawn otherwise": (
            domain,
            dataclasses.replace(split, test=split.train, train=split.test),
        ),
        "other contents of image files": (_exchanged(domain, split.train[0], split.test[0]), split),
    }
    for what, changed in others.items():
        with pytest.raises(
            UserError,
            match=f"data that the run in .*run began with. Received: {re.escape(what)}; restore them, or begin a new",
        ):
            data_digests.remember_data(config, folder, *changed)
    assert (tmp_path / "run" / "split.json").read_bytes() == before
    for damage in (b"", before[:-9], b"{}"):
        (tmp_path / "run" / "split.json").write_bytes(damage)
        data_digests.remember_data(config, folder, domain, split)
        assert (tmp_path / "run" / "split.json").read_bytes() == before
    # as an earlier version wrote it: what it lacks is not compared
    stored = folder.read_json("data.json")
    lacking = data_digests.DRAWN, data_digests.TESTED
    folder.write_json("data.json", {name: value for name, value in stored.items() if name not in lacking})
    data_digests.remember_data(config, folder, _redrawn(domain), split)
    folder.write_json("data.json", {"images": len(domain.paths)})
    (tmp_path / "run" / "split.json").write_bytes(b"{}")
    data_digests.remember_data(config, folder, domain, split)
    assert (tmp_path / "run" / "split.json").read_bytes() == b"{}"  # perhaps another split than this


def _exchanged(domain, one, other):
    """The domain whose files of two records have changed places, as those of one size can unnoticed."""
    contents = domain.contents.copy()
    contents[[one, other]] = contents[[other, one]]
    return dataclasses.replace(domain, contents=contents)


def _redrawn(domain):
    return dataclasses.replace(domain, draw=lambda index, size: 255 - domain.draw(index, size))


def test_without_fine_tuning_the_best_of_the_adaptation_is_kept(settings, tmp_path, monkeypatch):
    config = dataclasses.replace(
        settings, warmup_steps=0, supernet_steps=0, finetune_steps=0, readout_share=0.0, method="random"
    )
    prepared = preparation.prepare(config)
    search = Search(config, prepared.domain, prepared.split, prepared.images, None, METHODS["random"])
    monkeypatch.setattr(search, "checkpoint", lambda: None)
    monkeypatch.setattr(search, "calibrate", lambda: None)
    maucs, trained = iter([np.nan, 0.9, 0.6, 0.6]), []

    def judge(chosen):
        trained.append(search.supernet.weights)
        nothing = np.full((1, len(chosen)), np.nan)
        return types.SimpleNamespace(
            aucs=np.full(len(chosen), next(maucs)), labels=nothing, log_odds=nothing, penalty=None
        )

    monkeypatch.setattr(search.validation, "judge", judge)
    with Telemetry(RunFolder.create(str(tmp_path / "run"), config)) as telemetry, untraced():
        search.run(telemetry)
    assert len(trained) == 4 and search.state.best_step == 1
    with open(tmp_path / "run" / "metrics.jsonl", encoding="utf-8") as lines:
        told = [
            record["derived/validation_mauc"]
            for record in map(json.loads, lines)
            if "derived/validation_mauc" in record
        ]
    assert told == [0.9, 0.6, 0.6]  # where nothing could be judged, no number
    for name, variable in search.supernet.variables.items():
        np.testing.assert_array_equal(variable.numpy(), trained[1][name], err_msg=name)
    assert not np.array_equal(trained[1]["head/fc1"], trained[-1]["head/fc1"])


def test_a_finished_run_is_not_overwritten(finished, settings):
    with pytest.raises(UserError, match="holds a run; continue it with --resume"):
        RunFolder.create(str(finished[0]), settings)


def test_resume_with_other_settings_names_them(finished, settings):
    other = dataclasses.replace(settings, resume=True, learning_rate=0.5)
    with pytest.raises(UserError, match="learning_rate=0.5 now, 0.002 in the run"):
        RunFolder.resume(str(finished[0]), other)


def test_an_interval_is_over_classes_of_the_domains_that_test_new_ones(settings):
    """Whichever their neighbours are."""
    joint = dataclasses.replace(settings, domain=("sun", "awa"), leave_out=())
    domain = load_domains(joint)
    split = make_split(domain, joint)
    test, trained = split.test, split.trained

    def of_new_classes(index):
        return run_result._of_new_classes(domain, index, np.isin(domain.class_ids[index], domain.class_ids[trained]))

    assert of_new_classes(test).all()
    of_awa = domain.image_domains == 1
    torn = np.sort([*test, *trained[of_awa[trained]][:3]])
    np.testing.assert_array_equal(of_new_classes(torn), ~of_awa[torn])


def test_few_positives_are_known_to_training_and_all_to_the_judge(settings):
    few, whole = (dataclasses.replace(settings, train_positives=count) for count in (3, 0))
    prepared, known = preparation.prepare(few), preparation.prepare(whole).domain.labels
    labels, split = prepared.domain.labels, prepared.split
    assert ((labels[split.train] > 0.5).sum(axis=0) == 3).all()
    for part in (split.validation, split.test):
        np.testing.assert_array_equal(labels[part], known[part])
    searches = [Search(c, prepared.domain, split, prepared.images, None, METHODS["random"]) for c in (few, whole)]
    seen = [np.unique(np.concatenate([s._batch_plan(s.schedule[-1]).at(i) for i in range(80)])) for s in searches]
    np.testing.assert_array_equal(seen[0], split.train)
    np.testing.assert_array_equal(seen[1], np.union1d(split.train, split.validation))


@pytest.mark.parametrize(
    "changes",
    [
        dict(
            reward_data="batch",
            reward="accuracy",
            size_penalty=0.0,
            controller_optimizer="sgd",
            baseline="global",
            samples_per_step=1,
            conditioning="concat",
            derive_top=1,
            normalize_advantage=False,
        ),
        dict(
            method="exhaustive",
            reward="balanced_accuracy",
            imbalance="positive_weight",
            validation_split="images",
            adapt_steps=0,
            finetune_steps=0,
        ),
        dict(
            method="evolution",
            domain=("awa", "apay"),
            leave_out=(),
            imbalance="balanced",
            warmup_steps=0,
            attributes_per_step=0,
            measure_skill=False,
        ),
    ],
    ids=["paper", "imbalance", "joint"],
)
def test_other_settings_run_through(settings, tmp_path, changes):
    """With --method=random see search_test."""
    config = dataclasses.replace(settings, checkpoint_seconds=60.0, **changes)  # none is killed within a phase
    with few_images(12 // len(config.domain)):
        if len(config.domain) > 1:  # of both some
            config = dataclasses.replace(
                config, leave_out=tuple(name for i, name in enumerate(load_domains(config).attributes) if i % 5)
            )
        folder = RunFolder.create(str(tmp_path / "run"), config)
        result = pipeline.run(config, folder, make_strategy=METHODS[config.method])
    assert result["num_attributes_tested"] == 20 * len(config.domain) - len(config.leave_out)
    assert os.path.exists(tmp_path / "run" / "saved_model" / "saved_model.pb")
    assert os.path.exists(tmp_path / "run" / "policy.npz") == (config.method == "galm")
    figures = {key: result["search"][key] for key in ("specialisation", "skill")}
    if config.method != "exhaustive":  # another reads no table, or shall not
        assert figures["skill"] is None
    if config.reward_data == "batch":
        assert figures["specialisation"] is None
