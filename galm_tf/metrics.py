"""Ranking metrics in bulk: one label vector against many score columns.

Pure NumPy and SciPy functions, used by the reward engine (thousands of columns
for one attribute) and wherever networks are judged. The final report of each
attribute uses scikit-learn, whose checks of its arguments take ten times as
long as the AUC of a thousand images.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from galm_tf.errors import UserError

_BLOCK_VALUES = 2**15  # scores sorted at a time, so that they stay in the cache


def both_labels(labels: np.ndarray) -> bool:
    """Whether labels in {0, 1}, [n], are of both kinds."""
    return bool((labels > 0.5).any() and (labels <= 0.5).any())


def expect_finite(scores: np.ndarray) -> None:
    """Raises UserError for scores [...] of networks whose training has diverged in its last step, after which nobody
    asks for the loss.
    """
    if not np.isfinite(scores).all():
        raise UserError(
            "Expected finite scores. Received: NaN or infinity: training has diverged; begin anew with smaller learning "
            "rates (--learning_rate, --adapt_learning_rate, --finetune_learning_rate)."
        )


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, exact with ties (Mann & Whitney 1947).

    Args:
      labels: [n] in {0, 1}, at least one of each.
      scores: finite [n], compared in their own precision.

    Raises:
      UserError: scores of diverged training.
    """
    expect_finite(scores)
    positive = np.asarray(labels) > 0.5
    return float(_auc_of_rank_sums(rankdata(scores)[positive].sum(), positive))


def auc_columns(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of every column, exact with ties.

    Args:
      labels: [n] in {0, 1}, at least one of each.
      scores: finite float32 [K, n], one row per scorer.

    Returns:
      float64 [K].

    Raises:
      UserError: scores of diverged training.
    """
    positive = np.asarray(labels) > 0.5
    step = max(1, _BLOCK_VALUES // scores.shape[1])
    blocks = [_rank_sums(positive, scores[start : start + step]) for start in range(0, len(scores), step)]
    return _auc_of_rank_sums(np.concatenate([np.zeros(0), *blocks]), positive)


def _auc_of_rank_sums(rank_sums: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Sums of the positives' ranks [...], which are positive [n] -> the Mann-Whitney U statistic over positives ×
    negatives [...].
    """
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    assert num_positive and num_negative, (num_positive, num_negative)
    return (rank_sums - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def _rank_sums(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sums of the positives' ranks in every row, ties at their mean rank: bool [n], float32 [K, n] -> float64 [K].

    A float32 in float64 leaves the lowest bits free: the label goes there, so
    that keys are sorted, by NumPy's vectorised sort, in place of arguments.
    Adding 0.0 makes -0.0 equal to 0.0.
    """
    assert scores.dtype == np.float32, scores.dtype
    keys = np.add(scores, np.float32(0.0), dtype=np.float64)
    bits = keys.view(np.int64)
    bits |= positive
    keys.sort(axis=1)
    expect_finite(keys[:, [0, -1]])  # where what is none goes
    sums = (bits & 1).astype(np.float64) @ np.arange(1, scores.shape[1] + 1, dtype=np.float64)
    bits >>= 1
    tied = (bits[:, 1:] == bits[:, :-1]).any(axis=1)
    if tied.any():
        sums[tied] = rankdata(scores[tied], axis=1)[:, positive].sum(axis=1)
    return sums


def aucs_without_each_group(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Area under the ROC curve of what is left without one group of images after the other, exact with ties.

    Args:
      labels: [n] in {0, 1}.
      scores: [n].
      groups: int [n] in [0, count).

    Returns:
      float64 [count]; NaN where one label only is left.
    """
    values, places = np.unique(scores, return_inverse=True)
    cells, positive = places * count + groups, np.asarray(labels) > 0.5
    above, below = (
        np.bincount(cells[kind], minlength=len(values) * count).reshape(-1, count).astype(np.float64)
        for kind in (positive, ~positive)
    )
    # of positives of a group over negatives of another, [count, count]
    wins = above.T @ (np.cumsum(below, axis=0) - 0.5 * below)
    won, pairs = (_without_each(table) for table in (wins, np.outer(above.sum(axis=0), below.sum(axis=0))))
    return np.divide(won, pairs, out=np.full(count, np.nan), where=pairs > 0)


def _without_each(table: np.ndarray) -> np.ndarray:
    """Sums of a square table without one row and column after the other."""
    return table.sum() - table.sum(axis=0) - table.sum(axis=1) + np.diag(table)


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
