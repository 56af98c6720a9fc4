"""Differences between methods on the same seeds or splits, with an interval (DESIGN §3.7)."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from scipy import stats


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of a - b and its Student-t interval: (mean, low, high).

    Args:
      a, b: figures of two methods on the same seeds, at least two.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    assert len(difference) >= 2, "an interval needs at least two pairs"
    half = stats.t.ppf(0.5 + level / 2, len(difference) - 1) * stats.sem(difference)
    return float(difference.mean()), float(difference.mean() - half), float(difference.mean() + half)
