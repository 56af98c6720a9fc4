"""`python -m galm_tf.evaluate`: figures of a model on labelled images, and which images and attributes these are of."""

import dataclasses
import io
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from galm_tf import evaluate, export, leakage, lite, run_result
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.splits import Split
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.preparation import Prepared
from galm_tf.preprocess import scale_images
from galm_tf.search import State
from galm_tf.search_space import Architecture

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES, THRESHOLDS = ["photos/red", "photos/green", "other/red"], [0.5, np.nan, 0.4]


def test_the_help_of_settings_names_no_flag_that_is_not_there():
    texts = [f.metadata["help"] for f in dataclasses.fields(Config) if f.name in evaluate._SETTINGS]
    assert set(re.findall(r"--(\w+)", " ".join(texts))) <= {*evaluate._SETTINGS, "attributes", "subset"}


class Colours(tf.Module):
    """Margins from the mean colour; the third network answers the opposite of the first."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[8.0, 0.0, -8.0], [0.0, 8.0, 0.0], [0.0, 0.0, 0.0]])

    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2]) @ self.kernel


def _export(path, metadata=None):
    export.export_saved_model(
        Colours(), str(path), attributes=NAMES, thresholds=np.array(THRESHOLDS), image_size=32, metadata=metadata or {},
    )  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("run") / "saved_model")


COLOURS = np.random.default_rng(0).integers(0, 256, (24, 3))


def _folder(path, header="red,green,blue", split=True):
    """24 pictures of one colour each of eight classes, of which the last six are tested; labels err a little, one is
    unknown.
    """
    (path / "images").mkdir(parents=True)
    lines = [f"image,class,{'split,' * split}{header}"]
    for i, colour in enumerate(COLOURS):
        Image.fromarray(np.broadcast_to(colour.astype(np.uint8), (40, 30, 3))).save(path / "images" / f"{i}.png")
        labels = [str(int(value + 40 * np.sin(17 * i) > 127)) for value in colour]
        labels[1] = "" if i == 23 else labels[1]
        lines.append(
            f"{i}.png,c{i // 3},{('train,' if i < 6 else 'test,') * split}{','.join(labels[: header.count(',') + 1])}"
        )
    (path / "attributes.csv").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def photos(tmp_path):
    return _folder(tmp_path / "photos")


def _config(folder, **settings):
    return Config(domain=(folder.name,), data_dir=(str(folder),), cache_dir=str(folder.parent / "cache"), **settings)


def _labels(folder):
    domain = load_domains(_config(folder))
    return domain.labels, domain.attributes


def test_figures_are_those_of_the_predictions(model, photos, caplog):
    found = evaluate.evaluate(_config(photos), model)
    red, green = found.rows  # `photos/red` is the whole name of one: `other/red` is not asked
    assert (red["attribute"], red["network"], green["network"]) == ("photos/red", "photos/red", "photos/green")
    labels = _labels(photos)[0][6:]
    # each picture is of one colour
    probability = expit(8 * scale_images(tf.constant(COLOURS[6:].astype(np.uint8))).numpy())
    assert red["auc"] == pytest.approx(roc_auc_score(labels[:, 0], probability[:, 0]))
    assert (
        green["auc"] == pytest.approx(roc_auc_score(labels[:-1, 1], probability[:-1, 1]))
        and green["positives"] + green["negatives"] == 17
    )
    assert (found.images, found.classes, found.bad) == (18, 6, 0)
    assert (
        green["threshold"] is None
        and green["f1"] is None
        and green["balanced_accuracy"] is None
        and green["log_loss"] is not None
    )
    assert red["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[:, 0], probability[:, 0] >= 0.5))
    told = found.to_json()
    assert (
        told["mauc"] == pytest.approx((red["auc"] + green["auc"]) / 2)
        and told["balanced_accuracy"] == red["balanced_accuracy"]
    )
    assert (told["mauc_interval"]["over"], told["mauc_interval"]["count"]) == ("classes", 6) and told[
        "num_attributes"
    ] == 2
    assert "1 of 3 attributes of the data are none of the model's: photos/blue." in caplog.text
    assert "1 of 3 attributes of the model have no labels: other/red." in caplog.text


def test_many_images_whose_progress_is_shown_are_those_that_are_asked_for(monkeypatch, capsys):
    def of_records(pictures, index, batch_size, done=int):
        done(len(index))
        return pictures[index], None

    predictor, index = types.SimpleNamespace(of_records=of_records), np.array([7, 2, 9, 4])
    for most, told in ((4, False), (3, True)):
        monkeypatch.setattr(evaluate, "QUIET_IMAGES", most)
        np.testing.assert_array_equal(evaluate._probabilities(predictor, np.arange(20), index, 2), index)
        assert ("evaluating: 100% 4/4" in capsys.readouterr().err) is told


def test_decisions_are_judged_at_the_models_own_threshold():
    predictor = types.SimpleNamespace(metadata={"thresholds": [None, 0.7]}, attributes=["a", "b"])
    labels, probability = np.float32([1, 1, 0, 0]), np.float32([0.9, 0.6, 0.2, 0.1])
    row = evaluate._row("b", predictor, 1, labels, probability)
    assert (row["balanced_accuracy"], row["f1"], row["threshold"]) == (0.75, pytest.approx(2 / 3), 0.7)


def test_where_the_domain_is_called_otherwise_the_rest_of_the_name_counts(model, tmp_path):
    found = evaluate.evaluate(_config(_folder(tmp_path / "mine")), model)
    pairs = [(row["attribute"], row["network"]) for row in found.rows]
    assert pairs == [("mine/red", "photos/red"), ("mine/red", "other/red"), ("mine/green", "photos/green")]
    assert found.rows[0]["auc"] == pytest.approx(1 - found.rows[1]["auc"])


def test_which_images_are_judged(model, photos, tmp_path):
    def count(folder, subset, **settings):
        return evaluate.evaluate(_config(folder, **settings), model, subset).images

    assert [count(photos, subset) for subset in (None, "test", "train", "all")] == [18, 18, 6, 24]
    unsplit = _folder(tmp_path / "unsplit", split=False)
    assert count(unsplit, None) == 24  # no split is theirs: all are news to the model
    assert 0 < count(unsplit, "test") == count(unsplit, None, split_seed=3) < 24  # a fifth of the classes is drawn


def test_images_without_a_label_of_what_is_asked_are_not_counted(model, photos):
    shutil.copy(photos / "images/0.png", photos / "images/yak.png")
    with open(photos / "attributes.csv", "a", encoding="utf-8") as file:
        file.write("yak.png,yak,test,,,\n")
    whole = evaluate.evaluate(_config(photos), model)
    assert (whole.images, whole.classes, whole.interval["count"]) == (18, 6, 6)
    assert evaluate.evaluate(_config(photos), model, attributes=("green",)).images == 17
    blank = (photos / "attributes.csv").read_text().replace("test,0", "test,").replace("test,1", "test,")
    (photos / "attributes.csv").write_text(blank)
    none = evaluate.evaluate(_config(photos), model, attributes=("photos/red",))
    assert (none.images, none.classes) == (0, 0)


def test_what_a_drawn_split_leaves_out_is_judged_all_the_same(model, tmp_path, caplog):
    folder = _folder(tmp_path / "photos", split=False)
    for i in range(0, 24, 2):  # copies of pictures of other classes
        shutil.copy(folder / "images" / f"{i}.png", folder / "images" / f"{(i + 9) % 24}.png")
    assert [evaluate.evaluate(_config(folder), model, subset).images for subset in (None, "all")] == [24, 24]
    assert "No split" not in caplog.text and "are unused" not in caplog.text
    drawn = evaluate.evaluate(_config(folder), model, "test").images
    assert drawn < 24 and "No split is given" in caplog.text


def test_domains_of_which_some_bring_a_split_want_a_subset(model, tmp_path):
    first, second = _folder(tmp_path / "photos"), _folder(tmp_path / "more", split=False)
    config = Config(domain=("photos", "more"), data_dir=(str(first), str(second)), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(
        UserError,
        match="of which some bring a split and some do not. Received: none for photos, more; give --subset=all",
    ):
        evaluate.evaluate(config, model)
    found = evaluate.evaluate(config, model, "all")
    assert (found.images, found.classes) == (48, 16)


def test_without_classes_the_interval_is_over_images(model, tmp_path):
    folders = [_folder(tmp_path / name, split=False) for name in ("photos", "more")]
    for folder in folders:
        rows = [line.split(",") for line in (folder / "attributes.csv").read_text().split()]
        (folder / "attributes.csv").write_text("\n".join(",".join([row[0], *row[2:]]) for row in rows))
    one = evaluate.evaluate(_config(folders[0]), model)
    both = evaluate.evaluate(
        Config(domain=("photos", "more"), data_dir=tuple(map(str, folders)), cache_dir=str(tmp_path / "cache")), model
    )
    assert [(found.classes, found.interval["over"], found.interval["count"]) for found in (one, both)] == [
        (0, "images", 24),
        (0, "images", 24),  # the same pictures twice
    ]
    assert (one.images, both.images) == (24, 48)


def test_where_the_tested_classes_train_too_images_were_drawn(photos):
    domain, rng = load_domains(_config(photos)), np.random.default_rng(0)
    index, scores = np.arange(24), rng.random((24, 3))
    by_class, by_image = (
        run_result.interval_over_classes(domain, index, domain.labels, scores, np.full(24, not by))
        for by in (True, False)
    )
    assert (by_class["over"], by_class["count"], by_image["over"], by_image["count"]) == ("classes", 8, "images", 24)


@pytest.mark.parametrize("steps, learned", [(0, "013"), (1, "0123")])
def test_a_result_tells_what_was_tested_and_what_was_learned(photos, steps, learned):
    """Classes 0 and 1 train, 2 is held out, of 3 one image validates; the others are tested."""
    config, domain = _config(photos, finetune_steps=steps), load_domains(_config(photos))
    labels = domain.labels.copy()
    labels[12:, 2], labels[22, 2], labels[23] = 1.0, np.nan, np.nan
    domain = dataclasses.replace(domain, labels=labels)
    parts = (np.r_[0:6, 9:11], np.arange(6, 9), np.array([11]), np.arange(12, 24))
    split = Split(
        *parts, ("photos/c2",), ("classes", "images", "none"), np.array([True, True, False]), {"photos/blue": "few"}
    )
    state = State(chosen=[5, 700, 2000], val_auc=[0.6, 0.7, None], thresholds=[0.2, 0.8, None], best_mauc=0.65)
    search = types.SimpleNamespace(config=config, domain=domain, split=split, state=state, trunk=None, before={})
    log_odds = np.random.default_rng(0).normal(size=(12, 3))
    result = run_result.build_result(search, Prepared(domain, split, None, {"photos/dull": "rare"}, []), log_odds)
    assert (result["num_images_tested"], result["num_attributes_tested"]) == (11, 2)
    assert result["num_images"] == dict(train=8, validation_classes=3, validation_images=1, test=12)
    assert result["classes_seen"] == [f"photos/c{c}" for c in "0123"]
    assert result["classes_learned"] == [f"photos/c{c}" for c in learned]
    rows = [result["per_attribute"][name] for name in domain.attributes]
    assert [row["val_auc"] for row in rows] == [0.6, 0.7, None] and rows[2]["reason"] == "few"
    assert [row["judged_by"] for row in rows] == ["classes", "images", "none"]
    assert {"specialisation": None, "skill": None}.items() <= result["search"].items()  # which nobody measured
    for i, (row, threshold) in enumerate(zip(rows[:2], (0.2, 0.8))):
        its = labels[12:23, i]
        assert row["test_auc"] == pytest.approx(roc_auc_score(its, log_odds[:11, i]))
        assert row["test_balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(its, expit(log_odds[:11, i]) >= threshold)
        )
        assert (row["test_positives"], row["test_negatives"]) == ((its == 1).sum(), (its == 0).sum())
        assert row["prevalence"] == pytest.approx(np.nanmean(labels[parts[0], i]))
        assert row["architecture"] == Architecture.from_number(state.chosen[i]).to_json()
    assert result["test_mauc"] == pytest.approx(np.mean([row["test_auc"] for row in rows[:2]]))
    assert result["per_attribute"]["photos/dull"] == {"excluded": "rare"}
    # tested, but not judged
    split = dataclasses.replace(split, reasons={"photos/red": "not judged: few"})
    result = run_result.build_result(search, Prepared(domain, split, None, {}, []), log_odds)
    rows = [result["per_attribute"][name] for name in domain.attributes]
    assert [row.get("reason") for row in rows] == [
        "not judged: few",
        None,
        "its known test labels are of one kind only",
    ]
    assert [row["test_auc"] is None for row in rows] == [False, False, True]


def test_classes_of_one_domain_and_photographs_of_another_are_drawn_each_by_itself():
    """The photographs of the domain without classes have the numbers that the other's classes have."""
    domain = types.SimpleNamespace(
        domain_names=("a", "b"), image_domains=np.repeat([0, 1], [24, 12]), classes=tuple("abcdefghijklm"),
        class_ids=np.append(np.arange(24) % 12, [12] * 12), photographs=np.append(np.arange(12, 36), np.arange(12)),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (36, 3)).astype(np.float32), rng.random((36, 3))

    def found(of):
        return run_result.interval_over_classes(domain, of, labels[of], scores[of], np.zeros(len(of), bool))

    every = found(np.arange(36))
    assert (every["over"], every["count"]) == ("classes and images", 24) and every["low"] < every["high"]
    few = found(np.r_[0:3, 24:36])  # of the first domain three classes
    assert few == {"low": None, "high": None, "count": 3, "over": "classes of a"}
    assert found(np.r_[0:24, 24:27]) == {"low": None, "high": None, "count": 3, "over": "images of b"}


def test_what_a_model_was_trained_on_is_told(photos, tmp_path, caplog):
    path = _export(tmp_path / "saved_model", {"notice": "generated stand-in", "boxes": True})
    evaluate.evaluate(_config(photos), path)
    assert (
        "the model was trained on a generated stand-in." in caplog.text
        and "cut out by boxes, and these are whole ones." in caplog.text
    )


def test_images_that_the_model_has_seen_are_told_and_can_be_left_out(photos, tmp_path, caplog):
    run = tmp_path / "run"
    model = _export(run / "saved_model")
    with pytest.raises(
        UserError,
        match="Expected a model in the folder of a run that tells what it has seen .* beside --subset=unseen. .*, which is in none; name the",
    ):
        evaluate.evaluate(_config(photos), model, "unseen")
    (run / "result.json").write_text("{}")
    np.savez(run / "seen.npz", images=np.arange(3, dtype=np.uint64))  # as an earlier version told it
    with pytest.raises(
        UserError, match="Received: --model=.*/run, whose run does not tell, as in earlier versions; make"
    ):
        evaluate.evaluate(_config(photos), str(run), "unseen")
    domain, _, _ = load_images(load_domains(_config(photos)), dataclasses.replace(_config(photos), image_size=32))
    np.savez(run / "seen.npz", contents=np.sort(leakage.image_digests(domain, np.arange(4, 9))))
    assert evaluate.evaluate(_config(photos), model).images == 18
    assert "3 of 18 images trained the model or chose its networks" in caplog.text
    caplog.clear()
    unseen = evaluate.evaluate(_config(photos), str(run), "unseen")  # the run's folder stands for its model
    assert unseen.images == 19 and "trained the model" not in caplog.text


def test_other_parts_of_photographs_that_a_model_has_seen_are_not_unseen(photos):
    domain, _, _ = load_images(load_domains(_config(photos)), dataclasses.replace(_config(photos), image_size=32))
    seen = leakage.learned_digests(domain, np.arange(6))
    parts = dataclasses.replace(domain, boxes=np.tile(np.array([0, 0, 9, 9], domain.boxes.dtype), (24, 1)))
    assert evaluate._judged(parts, "unseen", seen, "runs/A", "runs/A").tolist() == list(range(6, 24))


def test_an_interval_is_over_images_where_the_run_has_learned_their_classes(photos, tmp_path):
    run = tmp_path / "run"
    _export(run / "saved_model")
    elsewhere = (([], "classes"), (["zoo/c0"], "classes"), (["zoo/C 2"], "classes"), (["zoo/C2"], "images"))
    # of the run's own domain C, C# and c are three, and a namesake of its neighbour is another
    own = ((["photos/C2", "photos/c2+"], "classes"), (["photos/c0", "zoo/c2"], "classes"), (["photos/c2"], "images"))
    for learned, over in (*elsewhere, *own):
        (run / "result.json").write_text(json.dumps({"classes_seen": learned}))
        assert evaluate.evaluate(_config(photos), str(run)).interval["over"] == over, learned


def test_names_that_the_model_writes_otherwise_are_told(model, tmp_path, caplog):
    evaluate.evaluate(_config(_folder(tmp_path / "photos", header="Red,green,Blue")), model)
    assert "photos/Red is red to the model: call it so, to have it judged." in caplog.text
    assert "photos/Blue is" not in caplog.text  # which it has not


def test_a_model_that_does_not_tell_what_it_has_learned_says_so(photos, tmp_path, caplog):
    model = _export(tmp_path / "run" / "saved_model")
    told = f"{model} does not tell which images it has learned, so that figures flatter where these are among them"
    evaluate.evaluate(_config(photos), model)
    assert told in caplog.text
    caplog.clear()
    (tmp_path / "run" / "result.json").write_text("{}")
    np.savez(tmp_path / "run" / "seen.npz", contents=np.zeros(1, np.uint64))
    evaluate.evaluate(_config(photos), model)
    assert "does not tell" not in caplog.text


def test_some_attributes_alone(model, photos, caplog):
    (row,) = evaluate.evaluate(_config(photos), model, attributes=["green"]).rows
    assert (
        row["network"] == "photos/green" and "none of the model's" not in caplog.text and "no labels" not in caplog.text
    )


def test_a_lite_file_is_judged_like_its_model(model, photos, tmp_path):
    path = str(tmp_path / "colours.tflite")
    metadata = json.loads((pathlib.Path(model) / export.METADATA).read_text(encoding="utf-8"))
    lite.write(lite.convert(Colours(), 32), metadata, "float32", path)
    one, other = (evaluate.evaluate(_config(photos), place) for place in (model, path))
    for a, b in zip(one.rows, other.rows):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize(
    ("header", "subset", "attributes", "message"),
    [
        (
            "rot,blau,kalt",
            None,
            (),
            r"Received: photos/rot, photos/blau and photos/kalt, where it has photos/red, photos/green and other/red; call the columns",
        ),
        (
            "red,green,blue",
            None,
            ("other/red",),
            "Received: photos/red, photos/green and photos/blue, where it has other/red; call",
        ),
        ("red,green,blue", None, ("rad",), "Received: rad; did you mean red"),
    ],
)
def test_nothing_to_judge_is_told(model, tmp_path, header, subset, attributes, message):
    with pytest.raises(UserError, match=message):
        evaluate.evaluate(_config(_folder(tmp_path / "photos", header)), model, subset, attributes)


def test_a_subset_without_images_is_told(model, photos):
    rows = (photos / "attributes.csv").read_text().replace("train", "test").replace("0.png,c0,test", "0.png,c0,train")
    (photos / "attributes.csv").write_text("\n".join(line for line in rows.split("\n") if "train" not in line))
    with pytest.raises(UserError, match=r"Received: none of 23 in the subset train; name another by --subset\."):
        evaluate.evaluate(_config(photos), model, "train")


def _run(*arguments):
    command = [sys.executable, "-m", "galm_tf.evaluate", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )


def test_the_command(model, photos):
    (photos / "images" / "7.png").write_bytes(b"no picture")
    done = _run(
        f"--model={model}", f"--data_dir={photos}", f"--cache_dir={photos.parent / 'cache'}", "--on_bad_image=skip"
    )
    assert done.returncode == 1, done.stderr  # one is left out
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "17 images of 6 classes, 2 attributes with labels of both kinds"
        and lines[1].startswith("mAUC 0.9")
        and "(95 %, over 6 classes: 0." in lines[1]
        and lines[1].endswith(" (F1 and balanced accuracy over the 1 with a threshold)")
    )
    assert lines[2].split() == [
        "attribute",
        "AUC",
        "average",
        "precision",
        "F1",
        "balanced",
        "accuracy",
        "log",
        "loss",
        "yes",
        "no",
    ]
    assert sorted(line.split()[0] for line in lines[3:]) == ["photos/green", "photos/red"]


def test_a_flag_that_nothing_reads_is_told():
    done = _run("--model=x", "--data_dir=x", "--warmup_steps=3")
    assert done.returncode == 2 and "Received: --warmup_steps; " in done.stderr and done.stderr.count("error:") == 1


@pytest.mark.parametrize("printed", ["table", "csv", "json"])
def test_every_format_tells_the_same(model, tmp_path, capsys, printed):
    found = evaluate.evaluate(_config(_folder(tmp_path / "mine")), model)
    capsys.readouterr()
    evaluate.PRINTERS[printed](found)
    text = capsys.readouterr().out
    if printed == "json":
        assert json.loads(text) == found.to_json() and json.loads(text)["attributes"] == found.rows
        return
    if printed == "csv":
        table = pd.read_csv(io.StringIO(text))
        assert (
            table["network"].tolist() == [row["network"] for row in found.rows]
            and np.isnan(table["f1"][2])
            and np.isnan(table["threshold"][2])
        )
        np.testing.assert_allclose(table["auc"], [row["auc"] for row in found.rows])
        return
    first, last = text.splitlines()[3], text.splitlines()[-1]
    best, worst = (pick(found.rows, key=lambda row: row["auc"]) for pick in (max, min))
    assert f"{best['auc']:.3f}" in first and f"({worst['network']})" in last and f"{worst['auc']:.3f}" in last
    assert " - " in next(line for line in text.splitlines() if line.startswith("mine/green"))  # no threshold, no F1


def test_an_interval_needs_classes_enough(model, photos, caplog):
    caplog.set_level(logging.ERROR)
    found = evaluate.evaluate(_config(photos), model, "train")
    assert found.interval == {"low": None, "high": None, "count": 2, "over": "classes"} and found.classes == 2
    assert dataclasses.replace(found, rows=[]).to_json()["mauc"] is None
