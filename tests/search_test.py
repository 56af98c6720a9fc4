"""The search's own bookkeeping; what it finds is in end_to_end_test.

Where a phase has a few steps, they are not traced: that would take longer than they do.
"""

import dataclasses
import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import frozen_trunk, network_size, pipeline, preparation, ridge, schedule, search
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.progress import Progress
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.scoring import Scoring
from galm_tf.search import Search, State
from galm_tf.search_space import Architecture
from galm_tf.strategies.tabular import Exhaustive, RandomArchitecture
from galm_tf.supernet import build_supernet
from galm_tf.telemetry import Telemetry
from galm_tf.tracing import untraced
from planted_rewards import planted
from small_domains import LEFT_OUT, few_images


def test_a_stopped_phase_keeps_the_seconds_it_has_spent(tmp_path, monkeypatch, drawn):
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, image_size=32, warmup_steps=4, rounds=1, supernet_steps=0, batch_size=16, attributes_per_step=2,
        calibration_images=32, adapt_steps=0, finetune_steps=0, checkpoint_seconds=0.0, cache_dir=drawn,
    )  # fmt: skip
    train, steps = Search._train, []

    def interrupted(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return train(self, *arguments)

    monkeypatch.setattr(Search, "_train", interrupted)
    with few_images(12), untraced():
        prepared = preparation.prepare(config)
        config, folder = RunFolder.begin_or_resume(str(tmp_path / "run"), config)
        with pytest.raises(KeyboardInterrupt):
            pipeline.search(config, folder, prepared, RandomArchitecture, {"load": 100.0, "match": 10.0})
        state = folder.load_checkpoint()[1]
        assert (state["phase"], state["step"]) == (0, 2) and state["phase_seconds"]["warmup"] > 0
        del folder  # its lock
        config, folder = RunFolder.begin_or_resume(str(tmp_path / "run"), config)
        found = pipeline.search(config, folder, prepared, RandomArchitecture, {"load": 1.0})
    whole = found.state.phase_seconds
    assert found.state.before == {"load": 101.0, "match": 10.0}  # what is done once more takes its time once more
    assert found.earlier_seconds == 110.0 + state["phase_seconds"]["warmup"]
    assert whole["warmup"] > state["phase_seconds"]["warmup"] and whole["derive"] > 0 and "skill" not in whole


def test_a_run_that_is_stopped_right_after_a_table_keeps_its_seconds(tmp_path, monkeypatch, drawn):
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, method="exhaustive", image_size=32, warmup_steps=1, rounds=1, supernet_steps=0, batch_size=16,
        attributes_per_step=2, adapt_steps=0, finetune_steps=0, cache_dir=drawn,
    )  # fmt: skip
    rewards = planted([0] * (20 - len(LEFT_OUT)))
    monkeypatch.setattr(search.Validation, "exact_table", lambda *_: RewardTable(rewards, (rewards, rewards)))
    monkeypatch.setattr(Search, "_record_table", lambda *_: 1 / 0)
    with few_images(12), untraced():
        prepared = preparation.prepare(config)
        folder = RunFolder.create(str(tmp_path / "run"), config)
        with pytest.raises(ZeroDivisionError):
            pipeline.search(config, folder, prepared, Exhaustive)
    assert folder.has("tables/round1.npz") and "rewards" in folder.load_checkpoint()[1]["phase_seconds"]


def test_a_size_penalty_changes_the_choice_and_not_the_stored_rewards(tmp_path, drawn):
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, method="exhaustive", image_size=32, warmup_steps=2, rounds=1, supernet_steps=0, batch_size=16,
        attributes_per_step=2, calibration_images=32, adapt_steps=0, finetune_steps=0, cache_dir=drawn,
    )  # fmt: skip
    chosen, tables, searches = [], [], []
    with few_images(12), untraced():
        prepared = preparation.prepare(config)
        for number, penalty in enumerate((0.0, 0.02, 100.0)):
            of_penalty = dataclasses.replace(config, size_penalty=penalty)
            _, folder = RunFolder.begin_or_resume(str(tmp_path / f"run{number}"), of_penalty)
            searches.append(pipeline.search(of_penalty, folder, prepared, Exhaustive))
            chosen.append(np.array(searches[-1].state.chosen))
            stored = folder.read_arrays("tables/round1.npz")
            tables.append(stored["full"])
    assert stored["attribute"].tolist() == list(prepared.domain.attributes)
    assert [stored["architecture"][n] for n in chosen[-1]] == [
        Architecture.from_number(n).describe() for n in chosen[-1]
    ]
    np.testing.assert_allclose(tables[1], tables[0], atol=1e-5)  # AUCs as they are
    sizes = network_size.relative_sizes(4)
    assert sizes[chosen[0]].mean() > sizes[chosen[1]].mean() > sizes[chosen[2]].mean()
    assert (sizes[chosen[2]] == sizes.min()).all()


def test_a_run_by_the_random_method_whose_towers_and_reading_learn_shares_where_labels_judge(
    tmp_path, monkeypatch, drawn
):
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, method="random", image_size=32, warmup_steps=2, rounds=1, supernet_steps=0, batch_size=16,
        attributes_per_step=2, calibration_images=32, adapt_steps=1, finetune_steps=1, cache_dir=drawn,
    )  # fmt: skip
    learned, fit = [], ridge.fit

    class Seen(search.SupernetTraining):
        def __init__(self, supernet, targets, *others):
            learned.append(targets)
            super().__init__(supernet, targets, *others)

    monkeypatch.setattr(search, "SupernetTraining", Seen)
    save, derived, saved, exported = RunFolder.save_checkpoint, pipeline.DerivedNetwork, [], []

    def save_checkpoint(self, arrays, *args, **named):
        saved.append(arrays)
        save(self, arrays, *args, **named)

    def derive(architectures, weights, *args, **named):
        exported.append(weights)
        return derived(architectures, weights, *args, **named)

    monkeypatch.setattr(RunFolder, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(pipeline, "DerivedNetwork", derive)
    monkeypatch.setattr(ridge, "fit", lambda x, targets, *others: learned.append(targets) or fit(x, targets, *others))
    with few_images(12):
        prepared = preparation.prepare(config)
        shares = (0.25 + 0.5 * prepared.domain.labels).astype(np.float32)
        prepared = dataclasses.replace(prepared, domain=dataclasses.replace(prepared.domain, shares=shares))
        config, folder = RunFolder.begin_or_resume(str(tmp_path / "run"), config)
        result = pipeline.run(config, folder, prepared=prepared, make_strategy=RandomArchitecture)
    # after each of three phases all, and at last what another run can start from, with the batch norms of the export
    whole = [any(name.startswith("optimizer/") for name in arrays) for arrays in saved]
    assert whole == [True, True, True, False] and set(saved[3]) == {f"supernet/{name}" for name in exported[0]}
    for name, value in exported[0].items():
        np.testing.assert_array_equal(saved[3][f"supernet/{name}"], value, err_msg=name)
    assert not np.array_equal(saved[3]["supernet/bn1/mean"], saved[1]["best/bn1/mean"])
    # towers, choosing, exporting
    assert len(learned) == 3 and all(set(np.unique(t[np.isfinite(t)])) == {0.25, 0.75} for t in learned)
    assert any(row["test_auc"] is not None for row in result["per_attribute"].values())
    assert result["num_attributes_tested"] == 20 - len(LEFT_OUT) and result["search"]["skill"] is None
    assert (tmp_path / "run" / "saved_model" / "saved_model.pb").exists()
    assert not (tmp_path / "run" / "policy.npz").exists()


@pytest.mark.parametrize("steps, frozen", [(0, False), (2, False), (2, True)])
def test_an_adaptation_judges_no_network_twice_and_tells_its_validations(tmp_path, monkeypatch, drawn, steps, frozen):
    config = Config(
        domain=("sun",), leave_out=LEFT_OUT, method="random", image_size=32, warmup_steps=1, rounds=1, supernet_steps=0, batch_size=16,
        attributes_per_step=2, calibration_images=32, adapt_steps=steps, finetune_steps=0, cache_dir=drawn,
    )  # fmt: skip
    score, update, scored, told = Scoring.score_chosen, Progress.update, [], []
    monkeypatch.setattr(Scoring, "score_chosen", lambda *args, **named: scored.append(1) or score(*args, **named))
    with few_images(12), untraced():
        prepared = preparation.prepare(config)
        monkeypatch.setattr(Progress, "update", lambda self, count, **named: told.append(count) or update(self, count))
        _, folder = RunFolder.begin_or_resume(str(tmp_path / "run"), config)
        if frozen:
            views = frozen_trunk.Views(len(prepared.images), len(prepared.images), config)
            trunk = build_supernet(1, 32, 0.0, 0).trunk
            frozen_trunk.fill_views(views, trunk, prepared.images, np.arange(len(prepared.images)), [], config)
            found = Search(config, prepared.domain, prepared.split, prepared.images, folder, RandomArchitecture, views)
            del told[:]
            with Telemetry(folder, 0) as telemetry:
                found.run(telemetry)
        else:
            found = pipeline.search(config, folder, prepared, RandomArchitecture)
        judging = -(-len(prepared.split.validation) // 16)
        assert told == [1, judging, *([1, judging] * steps)]  # after the warm-up
        assert len(scored) == 1 + steps
        blended = State(chosen=found.state.chosen)
        share = found.config.readout_share
        blended.keep_figures(found.validation.judge_blend(blended.chosen, share), found.validation, config)
    for name in ("val_auc", "thresholds", "temperature", "readout_penalty", "best_mauc"):
        assert getattr(found.state, name) == getattr(blended, name), name
    lines = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl", encoding="utf-8")]
    assert sum("derived/validation_mauc" in line for line in lines) == 1 + steps


@pytest.mark.parametrize("checkpoints", [1, 2])
def test_what_is_left_of_checkpoints_is_written_once(tmp_path, checkpoints):
    folder = RunFolder(str(tmp_path), lock=False)
    names = ("supernet/conv1/kernel", "controller/policy/lstm", "controller/optimizer/lstm", "optimizer/step", "best/a")
    search.archive(folder)  # of none nothing
    for step in range(checkpoints):
        folder.save_checkpoint({name: np.full(3, step) for name in names}, {"step": step})
    for _ in range(2):
        search.archive(folder)
        assert os.listdir(tmp_path / "checkpoints") == [f"00000{checkpoints + 1}.npz"]
        arrays, meta = folder.load_checkpoint()
        assert list(arrays) == list(names[:2]) and meta == {"step": checkpoints - 1}
        assert all((value == checkpoints - 1).all() for value in arrays.values())
    folder.save_checkpoint(arrays, meta)  # stopped before what was there before went
    search.archive(folder)
    assert os.listdir(tmp_path / "checkpoints") == [f"00000{checkpoints + 3}.npz"]


@pytest.mark.parametrize("precision, told", [("float32", False), ("bfloat16", True)])
def test_mixed_precision_without_a_gpu_is_told(monkeypatch, caplog, drawn, precision, told):
    config = Config(domain=("sun",), image_size=32, precision=precision, cache_dir=drawn)
    monkeypatch.setattr(search, "build_schedule", lambda config, learns: [])
    monkeypatch.setattr(search.hardware, "gpu", lambda: None)
    monkeypatch.setattr(Search, "checkpoint", lambda self: None)
    with few_images(12):
        prepared = preparation.prepare(config)
        Search(config, prepared.domain, prepared.split, prepared.images, None, RandomArchitecture).run(None)
    assert ("--precision=bfloat16 is for GPUs: a processor may take many times as long" in caplog.text) == told


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            dict(warmup_steps=30, learning_rate=1e6),
            r"Expected a finite loss in warmup, step \d+. Received: (nan|inf).*a smaller --learning_rate\.",
        ),
        (
            dict(warmup_steps=1, finetune_steps=1, finetune_learning_rate=1e30),
            r"Expected finite scores. Received: NaN or infinity: training has diverged.*--finetune_learning_rate",
        ),
    ],
    ids=["on the way", "by the last step"],
)
def test_training_that_diverges_is_told(tmp_path, drawn, settings, message):
    config = Config(
        domain=("sun",),
        leave_out=LEFT_OUT,
        method="random",
        image_size=32,
        **{"rounds": 1, "supernet_steps": 0, "adapt_steps": 0, "finetune_steps": 0, **settings},
        batch_size=8,
        cache_dir=drawn,
    )
    with few_images(12), untraced(), pytest.raises(UserError, match=message):
        pipeline.run(config, RunFolder.create(str(tmp_path / "run"), config), make_strategy=RandomArchitecture)


def test_the_first_loss_of_a_phase_that_diverged_before_it_is_not_blamed_on_its_own_rate():
    adaptation, finetuning = (schedule.Phase(kind, 0, 10, 0) for kind in (search.ADAPT, search.FINETUNE))
    for phase, step, rate in (
        (adaptation, 0, "learning_rate"),
        (adaptation, 1, "adapt_learning_rate"),
        (finetuning, 2, "finetune_learning_rate"),
    ):
        with pytest.raises(UserError, match=f"begin anew with a smaller --{rate}\\."):
            search._finite(float("nan"), phase, step)


def _of_suite(path, config):
    return RunFolder.begin_or_resume(path, config)[1]


@pytest.mark.parametrize(
    ("begin", "anew"),
    [(RunFolder.create, "begin a new run in another --run_dir"), (_of_suite, "name another folder by --out")],
)
def test_a_checkpoint_of_another_version_that_lacks_something_is_told(tmp_path, begin, anew):
    """A suite names its runs itself."""
    untold = types.SimpleNamespace(_folder=begin(str(tmp_path / "run"), Config()))
    with pytest.raises(
        UserError,
        match=f"Expected controller/history in the checkpoint .* one without, of another version; .* or {anew}[.]$",
    ):
        Search._assign(untold, {"history": tf.Variable(0.0)}, {"controller/born": np.ones(2)}, "controller/")
    untold._folder.save_checkpoint({"supernet/conv1/kernel": np.ones(2)}, {})
    with pytest.raises(UserError, match=f"one that was finished and has lost its result.json; .* or {anew}[.]$"):
        Search.restore(untold)
