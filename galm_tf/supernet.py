"""The weight-sharing supernet: a Keras functional model whose gates are inputs (paper §3.1).

`trunk` maps images to three feature maps; any Keras model that does so can
stand in its place. `towers` maps these, for S attributes and one architecture
each, to logits. `supernet` is the two together. This is the definition of the
network: what computes the same faster, all architectures at once (`reward`) or
only those chosen (`derived`), is held to it by tests.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf import layers, search_space
from galm_tf.gates import NUM_GATES
from galm_tf.preprocess import scale_images
from galm_tf.tracing import untouched

NO_DROPOUT = (-1, 0)  # a dropout seed that switches dropout off
# Names in `Supernet.variables`; the towers' are stacked over attributes.
TRUNK_WEIGHTS = tuple(
    f"{layer}{i}/{name}" for i in (1, 2, 3) for layer, names in
    (("conv", ("kernel", "bias")), ("bn", ("gamma", "beta", "mean", "variance"))) for name in names
)  # fmt: skip
TOWER_WEIGHTS = tuple(
    f"{layer}/{name}" for layer, names in (
        *((f"conv{i}", ("kernel3", "kernel5", "skip", "bias")) for i in (4, 5)), *((f"bn{i}", ("gamma", "beta")) for i in (4, 5)),
        ("head", ("fc1", "fc1_bias", "fc2", "fc2_bias", "fc3_from_fc1", "fc3_from_fc2", "fc3_bias")),
    ) for name in names
)  # fmt: skip


def build_trunk(image_size: int, rng: np.random.Generator) -> tf.keras.Model:
    """Conv-1 to Conv-3: images float32 [B, H, H, 3] -> their maps, all at 1/8 of the side.

    The first two are averaged to the side of the third, which is all that skips read of them.
    """
    x = image = layers.float_input((image_size, image_size, 3), "image")
    maps, channels = [], 3
    for i, (filters, kernel) in enumerate(zip(search_space.TRUNK_CHANNELS, search_space.TRUNK_KERNELS), 1):
        x = layers.ConvPool(f"conv{i}", channels, filters, kernel, rng)(x)
        x = layers.TrunkBatchNorm(f"bn{i}", filters)(x)
        maps.append(x)
        channels = filters
    side = int(x.shape[1])
    pooled = [layers.SkipSources(f"pool{i}", side)([m]) for i, m in enumerate(maps[:-1], 1)]
    return tf.keras.Model(image, [*pooled, x], name="trunk")


def build_towers(
    num_attributes: int, map_shapes: Sequence[tuple[int, int, int]], dropout: float, rng: np.random.Generator
) -> tf.keras.Model:
    """Conv-4 to Fc-3 of S attributes. Inputs and output: see `Supernet.towers`."""
    side, half, quarter = (map_shapes[2][0] // f for f in (1, 2, 4))
    n, trunk = num_attributes, search_space.TRUNK_CHANNELS
    filters4, filters5 = search_space.CONV4_CHANNELS, search_space.CONV5_CHANNELS
    maps = [layers.float_input(shape, f"map{i}") for i, shape in enumerate(map_shapes, 1)]
    inputs = _control_inputs()
    ids, gates, order = layers.GroupByKernel(name="group")(inputs["attribute_ids"], inputs["gates"])
    skips4 = layers.SkipSources("skips4", side)(maps[:2])
    skips5 = layers.SkipSources("skips5", half)(maps)
    x = layers.Conv4("conv4", n, side, trunk[2], filters4, trunk[:2], rng)(maps[2], skips4, ids, gates)
    x = layers.TowerBatchNorm("bn4", n, half**2, filters4)(x, ids, inputs["statistics_images"])
    x = layers.Conv5("conv5", n, half, filters4, filters5, trunk, rng)(x, skips5, ids, gates)
    x = layers.TowerBatchNorm("bn5", n, quarter**2, filters5)(x, ids, inputs["statistics_images"])
    x = layers.TowerDropout("dropout", dropout)(x, inputs["dropout_seed"])
    x = layers.TowerHead("head", n, quarter**2 * filters5, rng)(x, ids, gates)
    return tf.keras.Model([maps, *inputs.values()], layers.Ungroup(name="ungroup")(x, order), name="towers")


def _control_inputs() -> dict[str, tf.Tensor]:
    """Keras inputs besides the images, in the order in which the models take them."""
    return {
        "attribute_ids": tf.keras.Input((), dtype="int32", name="attribute_ids"),
        "gates": layers.float_input((NUM_GATES,), "gates"),
        "statistics_images": tf.keras.Input((), dtype="int32", name="statistics_images"),
        "dropout_seed": tf.keras.Input((), dtype="int32", name="dropout_seed"),
    }


@dataclasses.dataclass(frozen=True)
class Supernet:
    """The three functional models and their shared weights.

    Attributes:
      trunk: images float32 [B, H, H, 3] -> three feature maps.
      towers: (maps, attribute ids int32 [S], gates [S, NUM_GATES],
        statistics_images int32 [1], dropout_seed int32 [2]) -> logits [B, S, 2].
      num_attributes: N.
      scale: stored records, as images are cached, -> what the trunk reads.
    """

    trunk: tf.keras.Model
    towers: tf.keras.Model
    num_attributes: int
    scale: Callable[[tf.Tensor], tf.Tensor] = scale_images

    @functools.cached_property
    @untouched
    def supernet(self) -> tf.keras.Model:
        """Trunk and towers together, from images; built when it is asked for, since Keras goes through every layer again."""
        image = layers.float_input(self.trunk.inputs[0].shape[1:], "image")
        controls = list(_control_inputs().values())
        return tf.keras.Model([image, *controls], self.towers([self.trunk(image), *controls]), name="supernet")

    @property
    def parts(self) -> list[layers.SeededLayer]:
        """Layers with weights, trunk first."""
        every = list(self.trunk.layers) + list(self.towers.layers)
        return [layer for layer in every if isinstance(layer, layers.SeededLayer)]

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """All weights by a name that is the same on every stack, e.g. `conv4/kernel3`."""
        return {f"{part.name}/{name}": v for part in self.parts for name, v in part.parameters.items()}

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The values of `variables`."""
        return {name: v.numpy() for name, v in self.variables.items()}

    @property
    def trainable(self) -> dict[str, tf.Variable]:
        return {name: v for name, v in self.variables.items() if v.trainable}

    def tower_logits(self, maps, attribute_ids, gates, statistics_images) -> tf.Tensor:
        """Logits [B, S, 2] of S attributes, one architecture each, from trunk features, without dropout."""
        without = tf.constant(NO_DROPOUT, tf.int32)
        return self.towers([list(maps), attribute_ids, gates, tf.reshape(statistics_images, [1]), without])


@untouched
def build_supernet(
    num_attributes: int,
    image_size: int,
    dropout: float,
    seed: int,
    trunk: Optional[tf.keras.Model] = None,
    scale: Callable[[tf.Tensor], tf.Tensor] = scale_images,
) -> Supernet:
    """Builds the supernet with initial weights that depend on the seed alone; on another trunk and `scale` if given."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x5EED]))
    trunk = build_trunk(image_size, rng) if trunk is None else trunk
    towers = build_towers(num_attributes, [tuple(m.shape[1:]) for m in trunk.outputs], dropout, rng)
    return Supernet(trunk, towers, num_attributes, scale)


def margins(logits: tf.Tensor) -> tf.Tensor:
    """Logit difference d = z1 - z0 of [..., 2] logits; the probability is sigmoid(d)."""
    return logits[..., 1] - logits[..., 0]
