"""ARM against NumPy (equation 1)."""

import numpy as np
import pytest
import tensorflow as tf

from galm_tf.attribute_embedding import AttributeRepresentation


@pytest.fixture(scope="module")
def arm():
    return AttributeRepresentation(7, 50, 0.3, np.random.default_rng(0))


def test_embeddings_start_uniform_within_the_scale(arm):
    e = arm.embedding.numpy()
    assert e.shape == (7, 50) and arm.weight.shape == (50, 50)
    assert np.abs(e).max() <= 0.3
    assert e.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.1)


def test_vectors_are_the_product_of_equation_1(arm):
    ids = [3, 0, 3]
    expected = np.stack([arm.weight.numpy() @ arm.embedding.numpy()[i] for i in ids])
    np.testing.assert_allclose(arm(tf.constant(ids)).numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(arm.vectors().numpy()[ids], expected, rtol=1e-4, atol=1e-6)


def test_correlation_is_the_cosine_of_the_vectors(arm):
    vectors = arm.vectors().numpy().astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(arm.correlation().numpy(), vectors @ vectors.T / np.outer(norms, norms), atol=1e-5)


def test_correlation_does_not_depend_on_the_scale_of_a_small_embedding(arm):
    before = arm.correlation().numpy()
    arm.embedding.assign(arm.embedding * 0.01)
    np.testing.assert_allclose(arm.correlation().numpy(), before, atol=1e-3)


def test_same_generator_same_values():
    first, second = (AttributeRepresentation(4, 50, 1.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.embedding.numpy(), second.embedding.numpy())
    np.testing.assert_array_equal(first.weight.numpy(), second.weight.numpy())
