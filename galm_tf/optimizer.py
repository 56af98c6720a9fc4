"""Adam for stacked towers: rows that took no part in a step are left alone.

A supernet step trains the towers of a few attributes. Keras' Adam would also
move every other tower, since the momentum of its earlier gradients decays into
it; here a row of a stacked weight moves only when it has a gradient that is not
all zero, and its bias correction counts its own steps ("lazy" Adam). Dense
weights see ordinary Adam (Kingma & Ba 2015) with decoupled weight decay
(Loshchilov & Hutter 2019).
"""

from __future__ import annotations

from typing import Mapping

import numpy as np
import tensorflow as tf

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7
_NOT_DECAYED = ("bias", "gamma", "beta")


class LazyAdam(tf.Module):
    """Adam on named variables; the first axis of a stacked one counts attributes.

    Args:
      variables: name -> variable. Decay skips names that end in bias, gamma or beta.
      stacked: names of the variables whose first axis counts attributes.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], stacked: frozenset[str]) -> None:
        super().__init__(name="lazy_adam")
        self._targets = dict(variables)
        self._stacked = stacked
        self.slots: dict[str, tf.Variable] = {}
        for name, variable in self._targets.items():
            zeros = np.zeros(variable.shape, np.float32)
            self.slots[f"{name}/m"] = tf.Variable(zeros, trainable=False)
            self.slots[f"{name}/v"] = tf.Variable(zeros, trainable=False)
            count = np.zeros(variable.shape[0] if name in stacked else (), np.float32)
            self.slots[f"{name}/count"] = tf.Variable(count, trainable=False)

    def apply(self, gradients: Mapping[str, object], learning_rate: tf.Tensor, weight_decay: float) -> None:
        """One step.

        gradients: name -> dense gradient, or IndexedSlices with distinct rows for stacked weights; None of a weight that
        took no part, which stays.
        """
        for name, gradient in gradients.items():
            if gradient is None:
                continue
            decay = 0.0 if name.rsplit("/", 1)[-1].endswith(_NOT_DECAYED) else weight_decay
            update = self._apply_rows if name in self._stacked else self._apply_dense
            update(name, gradient, learning_rate, decay)

    def _apply_dense(self, name, gradient, learning_rate, decay) -> None:
        variable = self._targets[name]
        m, v, count = (self.slots[f"{name}/{slot}"] for slot in ("m", "v", "count"))
        new = _adam(variable, gradient, m, v, count, learning_rate, decay)
        for target, value in zip((variable, m, v, count), new):
            target.assign(value)

    def _apply_rows(self, name, gradient, learning_rate, decay) -> None:
        targets = [self._targets[name]] + [self.slots[f"{name}/{slot}"] for slot in ("m", "v", "count")]
        flat = tf.reshape(gradient.values, [-1, np.prod(gradient.values.shape[1:])])
        active = tf.where(tf.reduce_any(tf.not_equal(flat, 0.0), 1))[:, 0]
        ids, values = tf.gather(gradient.indices, active), tf.gather(gradient.values, active)
        weight, m, v, count = (tf.gather(t, ids) for t in targets)
        count = tf.reshape(count, [-1] + [1] * (values.shape.rank - 1))
        new = _adam(weight, values, m, v, count, learning_rate, decay)
        for target, value in zip(targets, (*new[:3], tf.reshape(new[3], [-1]))):
            target.scatter_update(tf.IndexedSlices(value, ids))


def _adam(weight, gradient, m, v, count, learning_rate, decay):
    """The textbook step on tensors; returns (weight, m, v, count)."""
    count = count + 1.0
    m = _BETA1 * m + (1.0 - _BETA1) * gradient
    v = _BETA2 * v + (1.0 - _BETA2) * tf.square(gradient)
    step = learning_rate * tf.sqrt(1.0 - _BETA2**count) / (1.0 - _BETA1**count)
    weight = weight - step * m / (tf.sqrt(v) + _EPSILON) - learning_rate * decay * weight
    return weight, m, v, count
