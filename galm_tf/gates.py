"""Gates: an architecture as the numbers that switch the supernet's branches.

A skip is one column (0 or 1), a kernel and Fc-3's input are one-hot, a width is
the three column blocks 0-64, 64-128 and 128-256. Columns follow the order of
the decisions.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
import tensorflow as tf

from galm_tf import search_space

_ONE_HOT = np.eye(2, dtype=np.float32)
_NESTED = np.tril(np.ones((3, 3), np.float32))
_SWITCH = np.array([[0], [1]], np.float32)
_ROWS = {
    "conv4_kernel": _ONE_HOT,
    "conv5_kernel": _ONE_HOT,
    "fc3_input": _ONE_HOT,
    "fc1_width": _NESTED,
    "fc2_width": _NESTED,
}
_TABLES = tuple(_ROWS.get(d.name, _SWITCH) for d in search_space.DECISIONS)
_STOPS = np.cumsum([t.shape[1] for t in _TABLES])
_STARTS = dict(zip((d.name for d in search_space.DECISIONS), (_STOPS - [t.shape[1] for t in _TABLES]).tolist()))
NUM_GATES = int(_STOPS[-1])
WIDTH_BLOCKS = np.diff((0,) + search_space.FC_WIDTHS)  # columns per width block


def gates_from_indices(indices) -> tf.Tensor:
    """Choice indices int [S, 10] -> gates float32 [S, NUM_GATES]."""
    columns = tf.unstack(tf.convert_to_tensor(indices), len(_TABLES), axis=1)
    return tf.concat([tf.gather(tf.constant(t), c) for t, c in zip(_TABLES, columns)], axis=1)


def columns(gates: tf.Tensor, first: str, count: int) -> tf.Tensor:
    """The `count` gate columns from those of decision `first` on: [S, count]."""
    start = _STARTS[first]
    return gates[:, start : start + count]


def spread(gates: tf.Tensor, counts: Sequence[int]) -> tf.Tensor:
    """Every column as often as its count says: [S, n] -> [S, sum of counts]. One operation, where tf.repeat takes a
    dozen.
    """
    return tf.gather(gates, np.repeat(np.arange(len(counts)), counts), axis=1)
