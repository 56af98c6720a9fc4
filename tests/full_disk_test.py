"""A disk that fills up while the model is exported; checkpoints: run_folder_test.

A limit on the size of files stands in for a disk without space: TensorFlow's own writer fails in the same place.
"""

import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from galm_tf import export
from galm_tf.errors import UserError


class _Network(tf.Module):
    """Any network: two attributes, a megabyte of weights."""

    def __init__(self):
        self.weights = tf.Variable(tf.random.stateless_normal([32 * 32 * 3, 100], [1, 2]))

    def __call__(self, images):
        return (tf.reshape(images, [-1, 32 * 32 * 3]) @ self.weights)[:, :2]


def _export(path):
    export.export_saved_model(
        _Network(), path, attributes=["a", "b"], thresholds=np.array([0.5, np.nan]), margin_offsets=np.zeros(2, np.float32),
        image_size=32, metadata={},
    )  # fmt: skip


def test_an_export_that_fails_is_one_sentence_and_leaves_nothing(tmp_path):
    path = str(tmp_path / "saved_model")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, old[1]))
    try:
        with pytest.raises(UserError, match="Expected to write .*saved_model. Received: .*; free some space or name another") as error:
            _export(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)
    _export(path)
    assert os.path.exists(os.path.join(path, "saved_model.pb"))
