"""A disk that fills up while the model is exported, a pretrained trunk is stored or results are written; checkpoints:
run_folder_test, events: telemetry_test.

A limit on the size of files stands in for a disk without space: TensorFlow's own writer fails in the same place.
"""

import contextlib
import os
import resource

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from galm_tf import export, pretrained
from galm_tf.begun import Begun
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.results import write_files
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder


class _Network(tf.Module):
    """Any network: two attributes, a megabyte of weights."""

    def __init__(self):
        self.weights = tf.Variable(tf.random.stateless_normal([32 * 32 * 3, 100], [1, 2]))

    def __call__(self, images):
        return (tf.reshape(images, [-1, 32 * 32 * 3]) @ self.weights)[:, :2]


def _export(path):
    export.export_saved_model(
        _Network(), path, attributes=["a", "b"], thresholds=np.array([0.5, np.nan]),
        image_size=32, metadata={},
    )  # fmt: skip


@contextlib.contextmanager
def _full(left=500_000):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_an_export_that_fails_is_one_sentence_and_leaves_nothing(tmp_path):
    path = str(tmp_path / "saved_model")
    with (
        _full(),
        pytest.raises(
            UserError, match="Expected to write .*saved_model. Received: .*; free some space or name another"
        ) as error,
    ):
        _export(path)
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)
    _export(path)
    assert os.path.exists(os.path.join(path, "saved_model.pb"))


@pytest.mark.parametrize("write", [
    lambda out: write_files(out, {"a.csv": pd.DataFrame({"figure": range(9)})}),
    lambda out: Begun(f"{out}/settings.json", {"seed": 1}).keep(),
    lambda out: Cells(out, {"seed": 1}).get("a", dict),
], ids=["table", "settings", "cell"])  # fmt: skip
def test_results_that_cannot_be_written_are_one_sentence_and_the_same_command_goes_on(tmp_path, write):
    with (
        _full(1),
        pytest.raises(
            UserError, match="^Expected .* write .*. Received: File too large; free .*; the same command goes on[.]$"
        ),
    ):
        write(str(tmp_path))
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]
    write(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_cell_is_one_sentence(tmp_path, content):
    cells = Cells(str(tmp_path), {"seed": 1})
    cells.get("a", dict)
    (tmp_path / "cells" / "a.json").write_text(content)
    with pytest.raises(UserError, match="a.json. Received: .*; restore it from a copy or remove it[.]$"):
        cells.get("a", dict)
    (tmp_path / "cells" / "a.json").unlink()
    assert cells.get("a", lambda: {"figure": 1}) == {"figure": 1}


def test_a_trunk_that_cannot_be_stored_is_one_sentence_and_leaves_nothing(tmp_path):
    x = image = tf.keras.Input((None, None, 3))
    for number, filters in enumerate((8, 64, 512)):
        x = tf.keras.layers.Conv2D(filters, 3, 2, "same", name=f"conv{number}")(x)
    tf.keras.Model(image, x).save(str(tmp_path / "model.keras"))  # more than a megabyte of weights
    config = Config(image_size=32, trunk_model=str(tmp_path / "model.keras"))
    folder, images = RunFolder.create(str(tmp_path / "run"), config), np.zeros((4, 32, 32, 3), np.uint8)
    before = sorted(os.listdir(folder.path))
    with (
        _full(),
        pytest.raises(
            UserError, match="Expected to be able to write .*trunk. Received: .*another folder by --run_dir"
        ) as error,
    ):
        pretrained.of_run(config, folder, images, None, np.arange(4))
    assert "\n" not in str(error.value) and sorted(os.listdir(folder.path)) == before
    assert pretrained.of_run(config, folder, images, None, np.arange(4)).about["layers"] == ["conv0", "conv1", "conv2"]
