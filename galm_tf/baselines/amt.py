"""AMT, attributes for improved attributes: a multi-task network with shared, group-wise and auxiliary layers.

Hand & Chellappa, "Attributes for improved attributes: a multi-task network
utilizing implicit and explicit relationships for facial attribute
classification", AAAI 2017 (MCNN-AUX): Conv-1 and Conv-2 are shared by all
attributes, Conv-3, Fc-1 and Fc-2 by the attributes of a group; when the network
is trained, a fully connected layer AUX from the scores of all attributes to the
final score of each is learned on top. The paper groups facial attributes by
hand; here groups are clusters of correlated attributes. Deviations are in
BUILD.md.
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
from galm_tf.search_space import FC_WIDTHS

GROUPS = 9  # at most; the paper's number
GROUP_FILTERS, GROUP_WIDTH = 32, FC_WIDTHS[1]
AUX_SHARES = (0.0, 0.25, 1.0)  # of the steps; with none the scores stay as they are
_SHARED_BLOCKS = 2


class AMT(AttributeLearner):
    """Scores are logits after AUX. Chooses how long AUX is trained, which may be not at all."""

    def __init__(self, training: convnet.Training, aux_shares: tuple[float, ...] = AUX_SHARES):
        self._training, self._aux_shares = training, aux_shares

    def fit(self, data: LearnerData) -> "AMT":
        def scores_of(train: np.ndarray, held: np.ndarray):
            part = data.take(train)
            network = self._train(part)
            scores = network.scores(data.images[held])
            yield from (scores @ w + b for w, b in self._train_aux(network, part, self._aux_shares))

        share = choose(self._aux_shares, scores_of, data.labels, data.class_ids, folds=1)
        self.chosen = {"aux": share}
        self._network = self._train(data)
        ((self.aux, self._bias),) = self._train_aux(self._network, data, (share,))
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._network.scores(inputs.images) @ self.aux + self._bias

    def _train(self, data: LearnerData) -> convnet.ConvNet:
        """The multi-task network without AUX."""
        network = group_network(data.images.shape[1], correlated_groups(data.labels), self._training)
        for _ in convnet.train(
            network.training_logits, network.variables, data.images, data.labels, convnet.attribute_loss,
            self._training, (self._training.steps,),
        ):
            network.calibrate(data.images)
        return network

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
            lambda batch, _: tf.matmul(batch, aux) + bias, {"aux": aux, "bias": bias}, scores, data.labels,
            convnet.attribute_loss, self._training, stops, weight_decay=0.0, steps=self._training.share(AUX_SHARES[-1]),
        ):
            yield aux.numpy(), bias.numpy()


def correlated_groups(labels: np.ndarray, count: int = GROUPS) -> list[np.ndarray]:
    """Attributes in at most `count` clusters by average linkage of 1 - |correlation|: attribute numbers of each.

    Args:
      labels: [n, N] in {0, 1, NaN}; a correlation is over images where both are
        known, and 0 where there is none.
    """
    correlation = np.nan_to_num(pd.DataFrame(labels).corr().to_numpy())
    distance = 1.0 - np.abs(correlation)
    np.fill_diagonal(distance, 0.0)
    count = min(count, labels.shape[1])
    if count < 2:
        return [np.arange(labels.shape[1])]
    clusters = AgglomerativeClustering(count, metric="precomputed", linkage="average").fit_predict(distance)
    return [np.flatnonzero(clusters == c) for c in range(count)]


def group_network(image_size: int, groups: Sequence[np.ndarray], training: convnet.Training) -> convnet.ConvNet:
    """Images -> logits [B, N] in the order of the attributes."""
    rng = generator(training.seed, Stream.BASELINE)
    order = np.argsort(np.concatenate(groups))

    def build(image, seed):
        shared = convnet.trunk_blocks(image, _SHARED_BLOCKS, rng)
        outputs = []
        for g, members in enumerate(groups):
            x = convnet.conv_block(shared, f"conv3_group{g}", GROUP_FILTERS, 3, rng)
            x = convnet.flatten_and_drop(x, seed, training.dropout, f"dropout_group{g}")
            for name in ("fc1", "fc2"):
                x = convnet.Dense(f"{name}_group{g}", x.shape[-1], GROUP_WIDTH, rng)(x)
            outputs.append(convnet.Dense(f"fc3_group{g}", GROUP_WIDTH, len(members), rng, relu=False)(x))
        return convnet.Reorder(order)(outputs)

    return convnet.ConvNet(build, image_size, training)
