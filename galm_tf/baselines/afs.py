"""AFS, asking friendly strangers: attention over the classifiers of source attributes.

Murrugarra-Llerena & Kovashka, "Asking friendly strangers: non-semantic attribute
transfer", AAAI 2018: features of target and source images go through one shared
layer; classifiers of source and of target attributes are learned on it together;
every target attribute weighs the source classifiers by how similar they are to
its own, and the weighted sum takes part in its prediction,

    h = tanh(Eᵀx),  a_nm = softmax over m of cos(w_n, s_m),  score_n = hᵀ(w_n + Σ_m a_nm s_m) + b_n,

with the loss of the target plus λ times that of the source. Without a source
domain an attribute asks the other ones of its own. Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from galm_tf.baselines.convnet import Dense, Training, attribute_loss, train
from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, choose, join
from galm_tf.draws import Stream, generator
from galm_tf.search_space import FC_WIDTHS

WIDTH = FC_WIDTHS[-1]
SOURCE_WEIGHTS = (0.1, 1.0)  # λ
SHARES = (0.25, 1.0)  # of the steps


class AFS(AttributeLearner):
    """Scores are logits. Chooses λ and the steps."""

    def __init__(self, training: Training, source_weights: tuple[float, ...] = SOURCE_WEIGHTS):
        self._training, self._source_weights = training, source_weights

    def fit(self, data: LearnerData) -> "AFS":
        parts = [data.features] if data.source is None else [data.features, data.source.features]
        self._scale = FeatureScaler(np.concatenate(parts))

        def scores_of(train_rows: np.ndarray, held: np.ndarray):
            part, inputs = data.take(train_rows), data.inputs.take(held)
            for weight in self._source_weights:
                for network in self._train(part, weight, SHARES):
                    yield self._scores(network, inputs)

        settings = tuple(itertools.product(self._source_weights, SHARES))
        weight, share = choose(settings, scores_of, data.labels, data.class_ids, folds=1)
        self.chosen = {"lambda": weight, "share": share}
        (self._network,) = self._train(data, weight, (share,))
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._scores(self._network, inputs)

    def _scores(self, network: "FriendlyStrangers", inputs: Inputs) -> np.ndarray:
        count = network.num_targets
        return network(tf.constant(self._standardised(inputs.features)))[:, :count].numpy().astype(np.float64)

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        """Each feature of deviation 1, as a tanh layer wants it: float32 [n, D]."""
        return (self._scale(features) * np.sqrt(features.shape[1])).astype(np.float32)

    def _train(self, data: LearnerData, weight: float, shares: Sequence[float]) -> Iterator["FriendlyStrangers"]:
        """The network after each share of the steps; the same object, so use it before the next."""
        count = data.labels.shape[1]
        if data.source is None:
            features, targets = data.features, np.concatenate([data.targets, data.targets], axis=1)
        else:
            joined = join([data, data.source])
            features, targets = joined.features, joined.targets
        network = FriendlyStrangers(
            features.shape[1], count, targets.shape[1] - count, data.source is None, self._training.seed
        )

        def loss(target, logits):
            return attribute_loss(target[:, :count], logits[:, :count]) + weight * attribute_loss(
                target[:, count:], logits[:, count:]
            )

        for _ in train(
            lambda batch, _: network(batch),
            network.variables,
            self._standardised(features),
            targets,
            loss,
            self._training,
            [self._training.share(s) for s in shares],
            steps=self._training.share(SHARES[-1]),
        ):
            yield network


class FriendlyStrangers:
    """The network: float32 [B, D] -> logits of target and source attributes, [B, N + M].

    Args:
      inputs: D.
      num_targets: N.
      num_sources: M.
      same: whether source attribute n is target attribute n, which then does not ask itself.
      seed: of the initial weights.
    """

    def __init__(self, inputs: int, num_targets: int, num_sources: int, same: bool, seed: int) -> None:
        rng = generator(seed, Stream.BASELINE)
        self.num_targets, self._same = num_targets, same
        self._embedding = Dense("embedding", inputs, WIDTH, rng, relu=False)
        self._targets = Dense("targets", WIDTH, num_targets, rng, relu=False)
        self._sources = Dense("sources", WIDTH, num_sources, rng, relu=False)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        layers = (self._embedding, self._targets, self._sources)
        return {f"{layer.name}/{name}": v for layer in layers for name, v in layer.parameters.items()}

    def attention(self) -> tf.Tensor:
        """How much each target attribute listens to each source attribute: [N, M], rows sum to 1; with a single
        attribute that has no one to ask, 0.
        """
        own, others = (
            tf.math.l2_normalize(layer.parameters["kernel"], axis=0) for layer in (self._targets, self._sources)
        )
        similarity = tf.matmul(own, others, transpose_a=True)
        if not self._same:
            return tf.nn.softmax(similarity)
        mask = 1.0 - tf.eye(self.num_targets)
        return tf.math.divide_no_nan(
            mask * tf.exp(similarity), tf.reduce_sum(mask * tf.exp(similarity), 1, keepdims=True)
        )

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        hidden = tf.tanh(self._embedding(x))
        from_sources = tf.matmul(self._sources.parameters["kernel"], self.attention(), transpose_b=True)  # [h, N]
        return tf.concat([self._targets(hidden) + tf.matmul(hidden, from_sources), self._sources(hidden)], axis=1)
