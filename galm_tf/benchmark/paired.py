"""Differences between methods on the same seeds or splits, with an interval (DESIGN §3.7).

Over splits the interval is too narrow for classes yet to come: splits draw their
test classes from the same few, so that they are not independent of one another
(Nadeau & Bengio 2003). It tells what the splits at hand agree on.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
import pandas as pd
from scipy import stats

REPETITION = {"seed": "seed", "split_seed": "split"}  # what varies -> the column of its numbers


def paired_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a - b and its 95 % Student-t interval: (mean, low, high).

    Args:
      a, b: figures of two methods on the same seeds, at least two.

    Returns:
      NaN for the interval where all differences are the same to the last bit: one figure repeated, as by seeds of what
      draws nothing.
    """
    differences = np.asarray(a, float) - np.asarray(b, float)
    if len(np.unique(differences)) == 1:
        return float(differences[0]), float("nan"), float("nan")
    return mean_interval(differences)


def paired_difference(figures: pd.DataFrame, a: str, b: str) -> tuple[float, float, float]:
    """Mean of one method minus another over the repetitions that have both, and its interval: (mean, low, high).

    Args:
      figures: a row per repetition, a column per method; NaN or None where nothing could be judged.
      a, b: columns.

    Returns:
      NaN where no repetition has both, and for the interval where one has.
    """
    both = figures[[a, b]].astype(float).dropna()
    if len(both) > 1:
        return paired_interval(both[a], both[b])
    return float((both[a] - both[b]).mean()), float("nan"), float("nan")


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of at least two values and its 95 % Student-t interval: (mean, low, high)."""
    values = np.asarray(values, float)
    assert len(values) >= 2, "an interval needs at least two values"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
