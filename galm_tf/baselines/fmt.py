"""FMT, fully-adaptive feature sharing: a thin network that is widened from the top into a tree of tasks.

Lu, Kumar, Zhai, Cheng, Javidi & Feris, "Fully-adaptive feature sharing in
multi-task networks with applications in person attribute classification", CVPR
2017: training starts with one thin branch for all attributes. Then, layer by
layer from the top, what stands on the layer is clustered by how often its
attributes find the same images easy or difficult; the layer gets a branch per
cluster, copied from the old one, where that is worth its cost; training goes on.
It ends where a layer stays whole. Deviations are in docs/LEARNERS.md.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.cluster import SpectralClustering

from galm_tf.baselines import convnet
from galm_tf.baselines.learner import AttributeLearner, Inputs, LearnerData, choose
from galm_tf.draws import Stream, generator
from galm_tf.search_space import TRUNK_KERNELS

SEPARATIONS = (0.0, 100.0, 400.0)  # α, what it is worth to separate unlike attributes; with 0 the network stays thin
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1")  # from the bottom
_THIN = {"conv1": 8, "conv2": 16, "conv3": 32, "conv4": 64, "conv5": 32, "fc1": 64}  # half of FT's, Fc-1 a quarter
_KERNELS = dict(zip(LAYERS, (*TRUNK_KERNELS, 3, 3)))
_MAX_BRANCHES = 8  # of a layer


@dataclasses.dataclass(frozen=True)
class Tree:
    """Who reads whom.

    Attributes:
      parents: per layer of LAYERS, the branch of the layer below that each of its branches reads.
      heads: per attribute, the branch of the last layer that it reads.
    """

    parents: tuple[tuple[int, ...], ...]
    heads: tuple[int, ...]

    @classmethod
    def thin(cls, attributes: int) -> "Tree":
        return cls(((0,),) * len(LAYERS), (0,) * attributes)

    def above(self, layer: int) -> tuple[int, ...]:
        """The branch of a layer that each branch of the next, or each attribute, reads."""
        return self.heads if layer == len(LAYERS) - 1 else self.parents[layer + 1]

    def attributes_above(self, layer: int) -> list[np.ndarray]:
        """The attributes on each branch of the next layer, or each attribute."""
        owner = np.arange(len(self.heads))
        for reads in [self.heads, *reversed(self.parents[layer + 2 :])][: len(LAYERS) - 1 - layer]:
            owner = np.array(reads)[owner]
        return [np.flatnonzero(owner == b) for b in range(len(self.above(layer)))]

    def widen(self, layer: int, clusters: np.ndarray) -> "Tree":
        """A layer of one branch gets one per cluster of what reads it."""
        assert len(self.parents[layer]) == 1
        reads = tuple(int(c) for c in clusters)
        parents = list(self.parents)
        parents[layer] = (0,) * (max(reads) + 1)
        if layer == len(LAYERS) - 1:
            return Tree(tuple(parents), reads)
        parents[layer + 1] = reads
        return Tree(tuple(parents), self.heads)


class FMT(AttributeLearner):
    """Scores are logits. Chooses α."""

    def __init__(self, training: convnet.Training, separations: tuple[float, ...] = SEPARATIONS):
        self._training, self._separations = training, separations

    def fit(self, data: LearnerData) -> "FMT":
        def scores_of(train: np.ndarray, held: np.ndarray):
            part = data.take(train)
            for separation in self._separations:
                yield self._grow(part, separation)[0].scores(data.images[held])

        separation = choose(self._separations, scores_of, data.labels, data.class_ids, folds=1)
        self._network, self.tree = self._grow(data, separation)
        self.chosen = {"alpha": separation, "branches": sum(len(p) for p in self.tree.parents)}
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        return self._network.scores(inputs.images)

    def _grow(self, data: LearnerData, separation: float) -> tuple[convnet.ConvNet, Tree]:
        """Trains and widens in turn; the steps are shared out evenly, the last stage takes what is left."""
        size, tree = data.images.shape[1], Tree.thin(data.labels.shape[1])
        network = tree_network(size, tree, self._training)
        step, stage = 0, max(1, self._training.steps // (len(LAYERS) + 1))
        for layer in reversed(range(len(LAYERS)) if separation else ()):
            self._train(network, data, step, step + stage)
            step += stage
            affinity = task_affinity(data.labels, network.scores(data.images))
            clusters = cluster(
                branch_affinity(affinity, tree.attributes_above(layer)), layer, separation, self._training.seed
            )
            if clusters.max() == 0:
                break
            network, tree = widened(network, tree, layer, clusters, size, self._training)
        if step < self._training.steps:
            self._train(network, data, step, self._training.steps)
        return network, tree

    def _train(self, network: convnet.ConvNet, data: LearnerData, first: int, last: int) -> None:
        (_,) = network.fit(data.images, data.targets, (last,), steps=self._training.steps, first_step=first)


def task_affinity(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """How often two attributes find an image both easy or both difficult: [N, N] in 0 to 1.

    An image is difficult for an attribute when its error is at least the attribute's mean error.

    Args:
      labels: [n, N] in {0, 1, NaN}; images that both know count, and ½ where there is none.
      logits: [n, N].
    """
    known = np.isfinite(labels)
    error = np.abs(np.where(known, labels, np.nan) - 1 / (1 + np.exp(-logits)))
    mean = np.nan_to_num(error).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    difficult = (known & (np.nan_to_num(error) >= mean)).astype(np.float64)
    easy = known - difficult
    both = known.T.astype(np.float64) @ known
    return np.divide(difficult.T @ difficult + easy.T @ easy, both, out=np.full(both.shape, 0.5), where=both > 0)


def branch_affinity(affinity: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Affinity of branches: for the attributes of one the least with those of the other, averaged, both ways."""
    one_way = np.array([[affinity[np.ix_(k, m)].min(axis=1).mean() for m in members] for k in members])
    return (one_way + one_way.T) / 2


def grouping_cost(affinity: np.ndarray, clusters: np.ndarray, layer: int, separation: float) -> float:
    """(d - 1) 2^p + α (1 - mean affinity of a branch to the least like one of its cluster), averaged over clusters.

    p counts the pools above the layer: low layers cost more.
    """
    count = int(clusters.max()) + 1
    inner = [
        affinity[np.ix_(own, own)].min(axis=1).mean() for own in (np.flatnonzero(clusters == c) for c in range(count))
    ]
    pools = len(LAYERS) - 1 - layer
    return (count - 1) * 2.0**pools + separation * (1.0 - float(np.mean(inner)))


def cluster(affinity: np.ndarray, layer: int, separation: float, seed: int) -> np.ndarray:
    """The clustering of least cost, of one cluster, of spectral ones and of a cluster for each: int [branches],
    numbered from 0.
    """
    branches = len(affinity)
    candidates = [np.zeros(branches, int)]
    for count in range(2, min(_MAX_BRANCHES, branches - 1) + 1):
        found = SpectralClustering(count, affinity="precomputed", random_state=seed).fit_predict(affinity)
        candidates.append(np.unique(found, return_inverse=True)[1].ravel())
    if branches <= _MAX_BRANCHES:
        candidates.append(np.arange(branches))
    return min(candidates, key=lambda clusters: grouping_cost(affinity, clusters, layer, separation))


def widened(
    network: convnet.ConvNet, tree: Tree, layer: int, clusters: np.ndarray, image_size: int, training: convnet.Training
) -> tuple[convnet.ConvNet, Tree]:
    """The wider network, which computes the same: new branches are copies of the old one."""
    wider = tree.widen(layer, clusters)
    weights, name = network.weights, LAYERS[layer]
    for key, value in list(weights.items()):
        if key.startswith(f"{name}_0"):
            weights.update(
                {key.replace(f"{name}_0", f"{name}_{b}", 1): value for b in range(len(wider.parents[layer]))}
            )
    result = tree_network(image_size, wider, training)
    result.assign(weights)
    return result, wider


def tree_network(image_size: int, tree: Tree, training: convnet.Training) -> convnet.ConvNet:
    """Images -> logits [B, N]."""
    rng = generator(training.seed, Stream.BASELINE)

    def build(image, seed):
        below = [image]
        for name, parents in zip(LAYERS[:-1], tree.parents):
            below = [
                convnet.conv_block(below[p], f"{name}_{b}", _THIN[name], _KERNELS[name], rng)
                for b, p in enumerate(parents)
            ]
        flat = [convnet.flatten_and_drop(x, seed, training.dropout, f"dropout_{b}") for b, x in enumerate(below)]
        last = [
            convnet.Dense(f"fc1_{b}", flat[p].shape[-1], _THIN["fc1"], rng)(flat[p])
            for b, p in enumerate(tree.parents[-1])
        ]
        return convnet.BranchHeads(tree.heads, _THIN["fc1"], rng)(convnet.Stack()(last))

    return convnet.ConvNet(build, image_size, training)
