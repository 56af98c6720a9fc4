"""Ranking metrics in bulk: one label vector against many score columns.

Pure NumPy functions, used by the reward engine (thousands of columns for one
attribute) and by the evaluation. Per-attribute reports use scikit-learn.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

_SIGN = np.uint32(0x80000000)


def auc_columns(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of every column, exact with ties.

    Args:
      labels: [n] in {0, 1}, at least one of each.
      scores: float32 [K, n], one row per scorer.

    Returns:
      float64 [K]. The Mann-Whitney U statistic over positives × negatives.
    """
    positive = np.asarray(labels) > 0.5
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    assert num_positive and num_negative, (num_positive, num_negative)
    keys = np.sort(_sortable_keys(scores, positive), axis=1)
    tied = (np.diff(keys >> np.uint64(1), axis=1) == 0).any(axis=1)
    ranks = np.arange(1, scores.shape[1] + 1, dtype=np.float64)
    rank_sums = (keys & np.uint64(1)).astype(np.float64) @ ranks
    if tied.any():
        rank_sums[tied] = rankdata(scores[tied], axis=1)[:, positive].sum(axis=1)
    return (rank_sums - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def _sortable_keys(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """uint64 keys in the order of the scores, the label in the lowest bit.

    Sorting keys in place of arguments keeps NumPy's vectorised sort. Adding 0.0
    makes -0.0 equal to 0.0.
    """
    bits = (np.ascontiguousarray(scores, np.float32) + np.float32(0.0)).view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered.astype(np.uint64) << np.uint64(1)) | positive.astype(np.uint64)


def accuracy_columns(labels: np.ndarray, scores: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """Share of correct decisions `score > offset` of every row of scores [K, n]: float64 [K]."""
    return ((scores > offset) == (np.asarray(labels) > 0.5)).mean(axis=1)


def balanced_accuracy_columns(labels: np.ndarray, scores: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """Mean of true-positive and true-negative rates of every row of scores [K, n]: float64 [K]."""
    positive = np.asarray(labels) > 0.5
    decided = scores > offset
    return 0.5 * (decided[:, positive].mean(axis=1) + (~decided[:, ~positive]).mean(axis=1))


_DECISIONS = {"accuracy": accuracy_columns, "balanced_accuracy": balanced_accuracy_columns}


def reward_columns(reward: str, labels: np.ndarray, scores: np.ndarray, offset: float) -> np.ndarray:
    """The reward of every row of scores [K, n]: float64 [K].

    Args:
      reward: auc, accuracy or balanced_accuracy.
      labels: [n] in {0, 1}.
      scores: float32 [K, n].
      offset: margin from which the accuracies decide yes; ranks need none.
    """
    if reward == "auc":
        return auc_columns(labels, scores)
    return _DECISIONS[reward](labels, scores, offset)
