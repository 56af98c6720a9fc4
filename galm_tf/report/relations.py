"""How attributes relate: by what their networks say of the same pictures, and by the controller's embeddings (paper
§3.3, §4.5).

The paper takes the cosine of ARM's embeddings. These learn from rewards of
architectures alone, so that two attributes are alike there when the same
networks suit them. Whether they show in the same pictures is what the networks'
scores tell, of attributes of different domains too, and for every method.
"""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from galm_tf.report.run_data import Evidence
from galm_tf.report.run_reading import FinishedRun

SCORES, EMBEDDINGS = "scores", "embeddings"
LEAST_IMAGES = 10  # that a correlation is taken of
_LEAST_PAIRS = 10  # that an agreement is taken of


@dataclasses.dataclass(frozen=True)
class Relations:
    """Correlations of all pairs of attributes.

    Attributes:
      basis: SCORES or EMBEDDINGS.
      matrix: in [-1, 1], float64 [N, N], 1 on the diagonal.
      agreement: Spearman's correlation, over the pairs of one domain, with how the labels of the test images go
        together; None without data, or with too few pairs.
    """

    basis: str
    matrix: np.ndarray
    agreement: Optional[float]


def find_relations(run: FinishedRun, evidence: Evidence) -> list[Relations]:
    """What the run has of both: by scores first, where its data and its model are at hand, and test images enough."""
    found: dict[str, np.ndarray] = {}
    if len(run.rows) > 1 and evidence.scores is not None:
        by_scores = of_scores(evidence.scores.probability, evidence.test_domains())
        if by_scores is not None:
            found[SCORES] = by_scores
    if len(run.rows) > 1 and run.vectors is not None:
        found[EMBEDDINGS] = of_embeddings(run.vectors)
    labels = None
    if evidence.data is not None:
        labels = _of_labels(evidence.data.targets[evidence.data.split.test], run.attribute_domains)
    return [
        Relations(basis, matrix, None if labels is None else _agreement(matrix, labels))
        for basis, matrix in found.items()
    ]


def of_scores(scores: np.ndarray, domains: np.ndarray) -> Optional[np.ndarray]:
    """Rank correlation of scores [t, N], the mean of that on each domain's images: float64 [N, N]; None where no domain
    has `LEAST_IMAGES`.

    A domain's images are taken by themselves, since what tells animals from scenes would relate all attributes of
    either.

    Args:
      scores: of the test images.
      domains: the domain of each image, [t].
    """
    parts = [scores[domains == d] for d in np.unique(domains)]
    kept = [part for part in parts if len(part) >= LEAST_IMAGES]
    if not kept:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # 0: scores that never change
        found = np.mean([np.nan_to_num(np.corrcoef(rankdata(part, axis=0), rowvar=False)) for part in kept], axis=0)
    np.fill_diagonal(found, 1.0)
    return np.clip(found, -1, 1)


def of_embeddings(vectors: np.ndarray) -> np.ndarray:
    """Cosine of attribute embeddings [N, D]: float64 [N, N]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1, 1)


def _of_labels(targets: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Pearson's correlation of labels [t, N] of attributes of the same domain, else NaN: float64 [N, N]."""
    found = pd.DataFrame(targets).corr(min_periods=LEAST_IMAGES).to_numpy(copy=True)
    found[domains[:, None] != domains[None]] = np.nan
    return found


def _agreement(matrix: np.ndarray, labels: np.ndarray) -> Optional[float]:
    """Spearman's correlation over the pairs that the labels tell of."""
    pairs = np.triu_indices(len(matrix), 1)
    ours, theirs = matrix[pairs], labels[pairs]
    known = np.isfinite(theirs)
    if known.sum() < _LEAST_PAIRS or np.ptp(ours[known]) == 0 or np.ptp(theirs[known]) == 0:
        return None
    return float(spearmanr(ours[known], theirs[known])[0])
