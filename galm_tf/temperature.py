"""How sure networks may be of classes that they have never seen: one temperature for all log-odds of a run.

Not in the paper. Networks learn the classes that they train on by heart, and are as sure of others. After Guo et al.
2017, "On Calibration of Modern Neural Networks", log-odds are divided by the temperature at which images that have
taught nothing are least surprising; here they shrink towards what an attribute's frequency says, since most attributes
are rare, and not towards one half. The order of images, and so their AUC, stays.
Where images are told apart without an error no temperature is cold enough; so
every label is a little less than sure, as with Platt 1999: the less, the more
there are.

Where few positives are known (`--train_positives`), attributes look rarer than they are: there one shift for all is
found beside the temperature (Platt 1999). With all labels it is not worth its own uncertainty (docs/EXPERIMENTS.md).
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from galm_tf.metrics import both_labels
from galm_tf.words import listed

_COLDEST, _HOTTEST = 0.1, 20.0  # readings alone begin with spreads of 1, whatever they know
_FARTHEST = 10.0  # shift
_NAMED = 4  # added attributes in a sentence
_UNSURE = 5.0  # from here on probabilities tell little but how frequent an attribute is, which is said


def scaled(log_odds: np.ndarray, level: np.ndarray, temperature: float | np.ndarray, shift: float = 0.0) -> np.ndarray:
    """Log-odds [n, N] about those of the attributes' frequencies [N], divided by the temperature, or by that of each
    [N], and shifted.
    """
    return level + (log_odds - level) / temperature + shift


def of_each(temperature: float, judged: Sequence[bool]) -> np.ndarray:
    """The temperature of each attribute, float64 [N]: those that did not find it, not `judged`, are made less sure by it
    but never surer.
    """
    return np.where(judged, temperature, max(1.0, temperature))


def moved(thresholds: np.ndarray, level: np.ndarray, final_level: np.ndarray, share: float) -> np.ndarray:
    """Thresholds [N] of log-odds about the frequencies' levels [N], for those about the levels of the last training,
    whose images show attributes more or less frequently.

    share: of the difference by which log-odds move.
    """
    shift = share * (final_level - level)
    return np.where(shift == 0, thresholds, expit(logit(thresholds) + shift))


def told(temperature: Optional[float], added: Sequence[str] = ()) -> str:
    """A sentence where probabilities tell little; "" else, and of a run of an earlier version, which does not tell.

    added: the attributes that it is of, where others stand beside them.
    """
    if temperature is None or temperature < _UNSURE:
        return ""
    whose = f"Of {listed(added, _NAMED)} (added) validation" if added else "Validation"
    return f"{whose} divides log-odds by {temperature:.0f} (temperature): all probabilities lie near an attribute's frequency"


def fit(labels: np.ndarray, log_odds: np.ndarray, level: np.ndarray, shifted: bool = False) -> tuple[float, float]:
    """(temperature, shift) of the least log loss, in the mean of the attributes that have one; 1 and 0 without any.

    Args:
      labels: [n, N] in {0, 1, NaN}, of images that have taught nothing.
      log_odds: [n, N].
      level: [N], those of the attributes' frequencies.
      shifted: whether to look for a shift; else it is 0.
    """
    judged = np.array([both_labels(column[np.isfinite(column)]) for column in labels.T], bool)
    if not judged.any():
        return 1.0, 0.0
    labels, log_odds, level = labels[:, judged], log_odds[:, judged].astype(np.float64), level[judged]
    known = np.isfinite(labels)
    signs = np.where(known, 2.0 * labels - 1.0, 0.0)
    unsure = np.where(signs > 0, 1 / ((signs > 0).sum() + 2), 1 / ((signs < 0).sum() + 2))

    def loss(cold: float, shift: float = 0.0) -> float:
        right = signs * scaled(log_odds, level, 1 / cold, shift)
        losses = np.logaddexp(0.0, -right) + unsure * right
        return float(((losses * known).sum(axis=0) / known.sum(axis=0)).mean())

    bounds = (1 / _HOTTEST, 1 / _COLDEST)
    if not shifted:
        return float(1 / minimize_scalar(loss, bounds=bounds, method="bounded").x), 0.0
    cold, shift = minimize(lambda x: loss(*x), (1.0, 0.0), bounds=(bounds, (-_FARTHEST, _FARTHEST))).x  # convex in both
    return float(1 / cold), float(shift)
