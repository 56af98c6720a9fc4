"""AMT, attributes for improved attributes: a multi-task network with shared, group-wise and auxiliary layers.

Hand & Chellappa, "Attributes for improved attributes: a multi-task network
utilizing implicit and explicit relationships for facial attribute
classification", AAAI 2017 (MCNN-AUX): Conv-1 and Conv-2 are shared by all
attributes, Conv-3, Fc-1 and Fc-2 by the attributes of a group; when the network
is trained, a fully connected layer AUX from the scores of all attributes to the
final score of each is learned on top. The paper groups facial attributes by
hand; here groups are clusters of correlated attributes. Deviations are in
docs/LEARNERS.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.cluster import AgglomerativeClustering

from galm_tf.baselines import convnet
from galm_tf.baselines.learner import AttributeLearner, Inputs, LearnerData, choose
from galm_tf.draws import Stream, generator
from galm_tf.layers import SeededLayer, TowerDropout, he_uniform
from galm_tf.search_space import FC_WIDTHS, TRUNK_KERNELS

GROUPS = 9  # at most; the paper's number
GROUP_FILTERS, GROUP_WIDTH = 32, FC_WIDTHS[1]
AUX_SHARES = (0.0, 0.25, 1.0)  # of the steps; with none the scores stay as they are
_SHARED_BLOCKS = 2


class AMT(AttributeLearner):
    """Scores are logits after AUX. Chooses how long AUX is trained, which may be not at all."""

    def __init__(self, training: convnet.Training):
        self._training = training

    def fit(self, data: LearnerData) -> "AMT":
        def scores_of(train: np.ndarray, held: np.ndarray):
            part = data.take(train)
            network = self._train(part)
            scores = network.scores(data.images[held])
            yield from (scores @ w + b for w, b in self._train_aux(network, part, AUX_SHARES))

        share = choose(AUX_SHARES, scores_of, data.labels, data.class_ids, folds=1)
        self.chosen = {"aux": share}
        self._network = self._train(data)
        ((self.aux, self._bias),) = self._train_aux(self._network, data, (share,))
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._network.scores(inputs.images) @ self.aux + self._bias

    def _train(self, data: LearnerData) -> convnet.ConvNet:
        """The multi-task network without AUX."""
        network = group_network(data.images.shape[1], correlated_groups(data.labels), self._training)
        (trained,) = network.fit(data.images, data.targets, (self._training.steps,))
        return trained

    def _train_aux(
        self, network: convnet.ConvNet, data: LearnerData, shares: Sequence[float]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """AUX, [N, N], and its bias after each share of the steps; it starts as the identity, the network stays."""
        count = data.labels.shape[1]
        aux = tf.Variable(np.eye(count, dtype=np.float32))
        bias = tf.Variable(np.zeros(count, np.float32))
        stops = [self._training.share(s) for s in shares if s]
        if 0.0 in shares:
            yield aux.numpy(), bias.numpy()
        if not stops:
            return
        scores = network.scores(data.images).astype(np.float32)
        for _ in convnet.train(
            lambda batch, _: tf.matmul(batch, aux) + bias,
            {"aux": aux, "bias": bias},
            scores,
            data.targets,
            convnet.attribute_loss,
            self._training,
            stops,
            weight_decay=0.0,
            steps=self._training.share(AUX_SHARES[-1]),
        ):
            yield aux.numpy(), bias.numpy()


def correlated_groups(labels: np.ndarray, count: int = GROUPS) -> np.ndarray:
    """At most `count` clusters of attributes by average linkage of 1 - |correlation|: the cluster of each, int [N].

    Args:
      labels: [n, N] in {0, 1, NaN}; a correlation is over images where both are
        known, and 0 where there is none.
    """
    count = min(count, labels.shape[1])
    if count < 2:
        return np.zeros(labels.shape[1], int)
    distance = 1.0 - np.abs(np.nan_to_num(pd.DataFrame(labels).corr().to_numpy()))
    np.fill_diagonal(distance, 0.0)
    return AgglomerativeClustering(count, metric="precomputed", linkage="average").fit_predict(distance)


class GroupLayers(SeededLayer):
    """Fc-1 and Fc-2 of each group: [B, h, h, G * C] -> [G, B, width]; stacked, so that they are two batched products.

    Args:
      groups: G.
      inputs: h * h * C.
    """

    def __init__(self, groups: int, inputs: int, rng: np.random.Generator) -> None:
        super().__init__("groups")
        self._groups, self._inputs = groups, inputs
        for name, size in (("fc1", inputs), ("fc2", GROUP_WIDTH)):
            self.add(name, he_uniform(rng, (groups, size, GROUP_WIDTH), size))
            self.add(f"{name}_bias", np.zeros((groups, 1, GROUP_WIDTH), np.float32))

    def call(self, maps):
        side = int(maps.shape[1])
        x = tf.reshape(maps, [-1, side * side, self._groups, self._inputs // side**2])
        x = tf.reshape(tf.transpose(x, [2, 0, 1, 3]), [self._groups, -1, self._inputs])
        for name in ("fc1", "fc2"):
            x = tf.nn.relu(tf.matmul(x, self.parameters[name]) + self.parameters[f"{name}_bias"])
        return x


def group_network(image_size: int, group_of: np.ndarray, training: convnet.Training) -> convnet.ConvNet:
    """Images -> logits [B, N]; the Conv-3s of the groups are one wide convolution."""
    rng = generator(training.seed, Stream.BASELINE)

    def build(image, seed):
        x = convnet.trunk_blocks(image, _SHARED_BLOCKS, rng)
        groups = int(group_of.max()) + 1
        x = convnet.conv_block(x, "conv3", groups * GROUP_FILTERS, TRUNK_KERNELS[2], rng)
        x = TowerDropout("dropout", training.dropout)(x, seed)
        x = GroupLayers(groups, GROUP_FILTERS * x.shape[1] ** 2, rng)(x)
        return convnet.BranchHeads(group_of, GROUP_WIDTH, rng)(x)

    return convnet.ConvNet(build, image_size, training)
