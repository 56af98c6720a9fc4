import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from galm_tf import export

SIZE = 32
ATTRIBUTES = ["zoo/red", "zoo/dark"]


class _Colour(tf.Module):
    """Red minus blue, and darkness."""

    def __init__(self):
        super().__init__()
        self.gain = tf.Variable(4.0)

    def __call__(self, x):
        mean = tf.reduce_mean(x, [1, 2])
        return self.gain * tf.stack([mean[:, 0] - mean[:, 2], -tf.reduce_mean(mean, 1)], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("predict")
    export.export_saved_model(
        _Colour(), str(path / "saved_model"), attributes=ATTRIBUTES, thresholds=np.array([0.5, 0.5]),
        margin_offsets=np.zeros(2), image_size=SIZE, metadata={"notice": "generated stand-in, not the real data set"},
    )
    (path / "images").mkdir()
    Image.new("RGB", (90, 40), (250, 20, 20)).save(path / "images" / "röt 1.png")
    Image.new("RGB", (33, 64), (10, 10, 60)).save(path / "images" / "night+sky.jpg")
    return path


def _predict(folder, *arguments, stdin=""):
    command = [sys.executable, "-m", "galm_tf.predict", f"--model={folder / 'saved_model'}", *map(str, arguments)]
    root = os.path.dirname(os.path.dirname(os.path.abspath(export.__file__)))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=root, input=stdin, env=environment)


def test_json_and_csv_agree_and_name_every_image(folder):
    as_json = json.loads(_predict(folder, "--format=json", folder / "images").stdout)
    rows = list(csv.DictReader(io.StringIO(_predict(folder, "--format=csv", folder / "images").stdout)))
    assert [os.path.basename(r["image"]) for r in rows] == ["night+sky.jpg", "röt 1.png"]
    for entry, row in zip(as_json, rows):
        for name in ATTRIBUTES:
            assert float(row[name]) == pytest.approx(entry["attributes"][name]["probability"])
    assert as_json[1]["attributes"]["zoo/red"]["decision"] and not as_json[0]["attributes"]["zoo/red"]["decision"]


def test_table_shows_the_most_probable_first_and_the_notice(folder):
    done = _predict(folder, "--top=1", folder / "images" / "röt 1.png")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and "zoo/red" in lines[1] and "yes" in lines[1]
    assert "generated stand-in, not the real data set" in done.stderr


def test_an_unreadable_image_is_named_and_the_others_are_predicted(folder, tmp_path):
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"no picture")
    done = _predict(folder, "--format=json", "-", stdin=f"{bad}\n{folder / 'images' / 'night+sky.jpg'}\n")
    assert done.returncode == 1 and str(bad) in done.stderr
    assert len(json.loads(done.stdout)) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "Expected at least one IMAGE"),
        (("--attributes=zoo/redd", "x.png"), "did you mean zoo/red?"),
        (("--modell=x", "x.png"), "did you mean --model?"),
    ],
)
def test_mistakes_are_one_sentence(folder, arguments, message):
    done = _predict(folder, *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_a_model_is_named(tmp_path):
    done = _predict(tmp_path, "x.png")
    assert done.returncode == 2 and "Expected the saved_model folder of a run" in done.stderr
