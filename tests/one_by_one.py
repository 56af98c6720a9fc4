"""Scoring one architecture at a time by the Keras functional model: what peers do, and what faster ways must agree
with.
"""

import numpy as np
import tensorflow as tf

from galm_tf import search_space
from galm_tf.gates import gates_from_indices
from galm_tf.supernet import margins


def score_one_by_one(supernet, images, attribute_id, numbers):
    """The reward engine's margins for architectures of these numbers: float32 [K, n]."""
    indices = search_space.all_indices()
    ids = tf.constant([attribute_id], tf.int32)
    maps = [tf.constant(m) for m in images.maps]
    statistics = tf.constant(images.statistics_images, tf.int32)
    call = tf.function(lambda gates: margins(supernet.tower_logits(maps, ids, gates, statistics)))
    rows = [call(gates_from_indices(indices[n : n + 1]))[images.num_calibration :, 0] for n in numbers]
    return np.stack([r.numpy() for r in rows])
