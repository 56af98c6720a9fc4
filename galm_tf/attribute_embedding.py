"""ARM, the attribute representation model (paper §3.3, equation 1).

Every attribute has an embedding e_i, randomly initialised; a fully connected
layer maps it to ê_i = W e_i, on which the controller's actions are conditioned.
The correlation of two attributes is the cosine of their ê.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_EPSILON = 1e-6


class AttributeRepresentation(tf.Module):
    """Embeddings of N attributes.

    Args:
      num_attributes: N.
      size: of e and of ê (paper: ê has 50).
      scale: e is uniform in ±scale. ENAS-like scales of 0.1 condition too weakly
        (DESIGN §3.2).
      rng: NumPy generator of the initial values.
    """

    def __init__(self, num_attributes: int, size: int, scale: float, rng: np.random.Generator) -> None:
        super().__init__(name="arm")
        uniform = rng.uniform(-scale, scale, (num_attributes, size)).astype(np.float32)
        limit = np.sqrt(3.0 / size)  # keeps the scale of e in ê
        weight = rng.uniform(-limit, limit, (size, size)).astype(np.float32)
        self.embedding = tf.Variable(uniform, name="embedding")
        self.weight = tf.Variable(weight, name="weight")

    def __call__(self, attribute_ids: tf.Tensor) -> tf.Tensor:
        """ê of int32 [M]: float32 [M, size]."""
        return tf.linalg.matmul(tf.gather(self.embedding, attribute_ids), self.weight, transpose_b=True)

    def vectors(self) -> tf.Tensor:
        """ê of every attribute: [N, size]."""
        return self(tf.range(self.embedding.shape[0]))

    def correlation(self) -> tf.Tensor:
        """Cosine of ê, [N, N]."""
        unit = tf.math.l2_normalize(self.vectors(), axis=1, epsilon=_EPSILON)
        return tf.linalg.matmul(unit, unit, transpose_b=True)
