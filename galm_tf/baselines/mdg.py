"""MDG: every training class is a source domain; attributes are detected on components that do not tell them apart.

Gan, Yang & Gong, "Learning attributes equals multi-source domain
generalization", CVPR 2016: kernel components B of much variance whose
distribution varies little between categories (UDICA, after Muandet, Balduzzi &
Schölkopf 2013), aligned with the attributes by centred kernel alignment (their
KDICA), then a linear SVM per attribute. On an explicit map Z of the kernel,

    max over B of  tr Bᵀ (ZᵀHZ/n + γ ZᵀH K_Y HZ/n²) B / tr Bᵀ (β S + I) B,

where S is the scatter of the categories' mean embeddings, K_Y the kernel of the
labels and H centres: a generalised eigenproblem. Z is a Nyström map. Deviations
are in docs/LEARNERS.md.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import linalg
from sklearn.kernel_approximation import Nystroem

from galm_tf.baselines.dap import choosing_attributes, decisions, fit_svms
from galm_tf.baselines.hap import KERNEL_WIDTH, LANDMARKS
from galm_tf.baselines.learner import AttributeLearner, FeatureScaler, Inputs, LearnerData, centre, choose

COMPONENTS = 128
INVARIANCES = (0.0, 100.0, 1000.0)  # β
ALIGNMENTS = (0.0, 100.0)  # γ
PENALTIES = (1.0, 10.0, 100.0)  # liblinear's C


class MDG(AttributeLearner):
    """Scores are margins of the SVMs. Chooses β, γ and one C for all attributes."""

    def __init__(
        self,
        invariances: tuple[float, ...] = INVARIANCES,
        alignments: tuple[float, ...] = ALIGNMENTS,
        penalties: tuple[float, ...] = PENALTIES,
        seed: int = 0,
    ):
        self._maps, self._penalties, self._seed = tuple(itertools.product(invariances, alignments)), penalties, seed

    def fit(self, data: LearnerData) -> "MDG":
        self._scale = FeatureScaler(data.features)
        landmarks = min(LANDMARKS, len(data.features))
        self._kernel = Nystroem(gamma=KERNEL_WIDTH, n_components=landmarks, random_state=self._seed)
        z = self._kernel.fit_transform(self._scale(data.features))
        some = choosing_attributes(data.labels)

        def scores_of(train: np.ndarray, held: np.ndarray):
            for setting in self._maps:
                b = components(z[train], data.labels[train], data.class_ids[train], *setting)
                for penalty in self._penalties:
                    yield np.nan_to_num(decisions(*fit_svms(z[train] @ b, some[train], penalty), z[held] @ b))

        settings = tuple(itertools.product(self._maps, self._penalties))
        (invariance, alignment), penalty = choose(settings, scores_of, some, data.class_ids, folds=1)
        self.chosen = {"beta": invariance, "gamma": alignment, "C": penalty}
        self._components = components(z, data.labels, data.class_ids, invariance, alignment)
        self._svms = fit_svms(z @ self._components, data.labels, penalty)
        return self

    def score(self, inputs: Inputs) -> np.ndarray:
        z = self._kernel.transform(self._scale(inputs.features))
        return np.nan_to_num(decisions(*self._svms, z @ self._components))


def components(
    z: np.ndarray,
    labels: np.ndarray,
    class_ids: np.ndarray,
    invariance: float,
    alignment: float,
    count: int = COMPONENTS,
) -> np.ndarray:
    """B, [L, min(count, L)], by falling eigenvalue; Bᵀ (β S + I) B = I.

    Args:
      z: [n, L], rows of the kernel's explicit map.
      labels: [n, N] in {0, 1, NaN}; centred over the known ones, unknown ones are 0.
      class_ids: int [n].
      invariance: β, of the scatter of category means.
      alignment: γ, of the alignment with the labels.
      count: of components.
    """
    centred = z - z.mean(axis=0)
    y = centre(labels) / np.sqrt(labels.shape[1])  # K_Y = Y Yᵀ
    aligned = centred.T @ y / len(z)  # [L, N]
    gain = centred.T @ centred / len(z) + alignment * aligned @ aligned.T
    cost = invariance * mean_scatter(z, class_ids) + np.eye(z.shape[1])
    count = min(count, z.shape[1])
    _, vectors = linalg.eigh(gain, cost, subset_by_index=(z.shape[1] - count, z.shape[1] - 1))
    return vectors[:, ::-1]


def mean_scatter(z: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """S: the scatter of the categories' mean embeddings around their mean, [L, L]; its trace is the distributional
    variance.
    """
    classes, members = np.unique(class_ids, return_inverse=True)
    member = np.eye(len(classes))[np.ravel(members)]  # [n, C]
    means = (member.T @ z) / member.sum(axis=0)[:, None]
    means -= means.mean(axis=0)
    return means.T @ means / len(classes)
