import numpy as np
import pytest
import tensorflow as tf

from galm_tf.optimizer import LazyAdam


def _numpy_adam(weight, gradients, rate, decay):
    m = v = np.zeros_like(weight)
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7 / np.sqrt(1 - 0.999**t))
        weight = weight - rate * step - rate * decay * weight
    return weight


def test_dense_steps_equal_the_formula():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(5, 4, 3))
    variable = tf.Variable(start, dtype=tf.float32)
    optimizer = LazyAdam({"conv1/kernel": variable}, frozenset())
    for g in gradients:
        optimizer.apply({"conv1/kernel": tf.constant(g, tf.float32)}, tf.constant(0.01), 0.1)
    np.testing.assert_allclose(variable.numpy(), _numpy_adam(start, gradients, 0.01, 0.1), rtol=1e-4)


def test_rows_without_gradient_are_left_alone():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(4, 2, 2)).astype(np.float32)
    variable = tf.Variable(start)
    optimizer = LazyAdam({"conv4/kernel3": variable}, frozenset(["conv4/kernel3"]))
    gradients = rng.normal(size=(3, 2, 2)).astype(np.float32)
    for rows, values in (([1, 3], gradients[[0, 1]]), ([0, 1], np.stack([np.zeros((2, 2)), gradients[2]]))):
        slices = tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows))
        optimizer.apply({"conv4/kernel3": slices}, tf.constant(0.05), 0.01)
    result = variable.numpy()
    np.testing.assert_array_equal(result[[0, 2]], start[[0, 2]])
    np.testing.assert_allclose(result[1], _numpy_adam(start[1], gradients[[0, 2]], 0.05, 0.01), rtol=1e-4)
    np.testing.assert_allclose(result[3], _numpy_adam(start[3], gradients[[1]], 0.05, 0.01), rtol=1e-4)
    assert optimizer.slots["conv4/kernel3/count"].numpy().tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize("name", ["conv1/bias", "bn1/gamma", "bn1/beta"])
def test_biases_and_batch_norms_do_not_decay(name):
    variable = tf.Variable([1.0, 2.0])
    optimizer = LazyAdam({name: variable}, frozenset())
    optimizer.apply({name: tf.zeros(2)}, tf.constant(0.5), 0.9)
    assert variable.numpy().tolist() == [1.0, 2.0]
