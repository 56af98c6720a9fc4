"""FT, fine-tuning: a convolutional network trained on a source task, then adapted to the target attributes.

Oquab, Bottou, Laptev & Sivic, "Learning and transferring mid-level image
representations using convolutional neural networks", CVPR 2014, §3: all layers
but the last are learned on the source task, then transferred; two new layers,
FCa and FCb, are learned on the target task. The source task is another domain's
attributes where there is one, else the recognition of the training classes (the
paper's source labels are classes as well). Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from galm_tf.baselines import convnet
from galm_tf.baselines.learner import AttributeLearner, Inputs, LearnerData, choose
from galm_tf.draws import Stream, generator
from galm_tf.search_space import CONV4_CHANNELS, CONV5_CHANNELS, FC_WIDTHS, KERNELS, TRUNK_CHANNELS

SHARES = (0.25, 0.5)  # of the steps, for the target; half of them go to the source
_SOURCE_SHARE = 0.5
_WHOLE_RATE = 0.5  # of the learning rate, where transferred layers move on as well
_WIDER = 4  # than one tower of Table 1, since all attributes share Conv-4 and Conv-5
_NEW = ("fca", "fcb")

Weights = Mapping[str, np.ndarray]


class FT(AttributeLearner):
    """One network for all attributes; scores are logits. Chooses whether transferred layers stay fixed, and the
    steps.
    """

    def __init__(self, training: convnet.Training, whole: tuple[bool, ...] = (False, True)):
        self._training, self._whole = training, whole

    def fit(self, data: LearnerData) -> "FT":
        transferred = self._learn_attributes(data.source) if data.source else None  # whatever is held out

        def scores_of(train: np.ndarray, held: np.ndarray):
            part = data.take(train)
            weights = transferred or self._learn_classes(part)
            for whole in self._whole:
                for network in self._tune(part, weights, whole, SHARES):
                    yield network.scores(data.images[held])

        whole, share = choose(
            tuple(itertools.product(self._whole, SHARES)), scores_of, data.labels, data.class_ids, folds=1
        )
        self.chosen = {"whole": whole, "share": share}
        (self._network,) = self._tune(data, transferred or self._learn_classes(data), whole, (share,))
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._network.scores(inputs.images)

    def _learn_attributes(self, source: LearnerData) -> Weights:
        return self._learn(source.images, source.targets, convnet.attribute_loss)

    def _learn_classes(self, data: LearnerData) -> Weights:
        one_hot = (data.class_ids[:, None] == np.unique(data.class_ids)).astype(np.float32)
        return self._learn(data.images, one_hot, convnet.class_loss)

    def _learn(self, images: np.ndarray, targets: np.ndarray, loss: convnet.Loss) -> Weights:
        """The weights after the source task."""
        network = source_network(images.shape[1], targets.shape[1], self._training)
        stops = (self._training.share(_SOURCE_SHARE),)
        for _ in convnet.train(
            network.training_logits, network.variables, images, targets, loss, self._training, stops
        ):
            pass
        return network.weights

    def _tune(
        self, data: LearnerData, weights: Weights, whole: bool, shares: Sequence[float]
    ) -> Iterator[convnet.ConvNet]:
        """The network after each share of the steps, as of `ConvNet.fit`."""
        network = target_network(data.images.shape[1], data.labels.shape[1], self._training)
        network.assign(weights)
        variables = {k: v for k, v in network.variables.items() if whole or k.split("/")[0] in _NEW}
        rate = self._training.learning_rate * (_WHOLE_RATE if whole else 1.0)
        stops, end = [self._training.share(s) for s in shares], self._training.share(SHARES[-1])
        return network.fit(data.images, data.targets, stops, variables, learning_rate=rate, steps=end)


def _features(image, seed, training: convnet.Training, rng: np.random.Generator):
    """The layers that are transferred: Table 1's trunk and a tower without skips, its convolutions wider, to Fc-2."""
    x = convnet.trunk_blocks(image, len(TRUNK_CHANNELS), rng)
    for name, filters in (("conv4", CONV4_CHANNELS), ("conv5", CONV5_CHANNELS)):
        x = convnet.conv_block(x, name, _WIDER * filters, KERNELS[0], rng)
    x = convnet.flatten_and_drop(x, seed, training.dropout)
    x = convnet.Dense("fc1", x.shape[-1], FC_WIDTHS[-1], rng)(x)
    return convnet.Dense("fc2", FC_WIDTHS[-1], FC_WIDTHS[-1], rng)(x)


def source_network(image_size: int, outputs: int, training: convnet.Training) -> convnet.ConvNet:
    """Images -> logits of the source task."""
    rng = generator(training.seed, Stream.BASELINE)

    def build(image, seed):
        return convnet.Dense("fc3", FC_WIDTHS[-1], outputs, rng, relu=False)(_features(image, seed, training, rng))

    return convnet.ConvNet(build, image_size, training)


def target_network(image_size: int, attributes: int, training: convnet.Training) -> convnet.ConvNet:
    """Images -> logits of the target attributes, by the two new layers on the transferred ones."""
    rng = generator(training.seed, Stream.BASELINE, 1)

    def build(image, seed):
        x = _features(image, seed, training, rng)
        return convnet.Dense(_NEW[1], FC_WIDTHS[-1], attributes, rng, relu=False)(
            convnet.Dense(_NEW[0], FC_WIDTHS[-1], FC_WIDTHS[-1], rng)(x)
        )

    return convnet.ConvNet(build, image_size, training)
