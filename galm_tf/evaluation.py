"""Metrics per attribute, thresholds, and their means (paper §4.2.4; DESIGN §3.6).

Each figure is null, with the reason, where an attribute's known labels are of
one kind only. Means are over the attributes that have one, and every method
that is compared on a run averages over the same list.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Optional, Sequence

import numpy as np
from scipy import sparse, stats
from scipy.sparse import csgraph
from sklearn import metrics as sk_metrics

from galm_tf import metrics
from galm_tf.metrics import both_labels
from galm_tf.words import counted

_TESTED, _JUDGED = "not tested: ", "not judged: "  # how reasons begin (`domains.splits`)
BESIDE_AUC = ("average_precision", "log_loss", "f1", "balanced_accuracy")  # of one attribute
MIN_UNITS = 5  # classes of a domain; an interval over fewer says nothing
_MOST_GROUPS = 30
_SUREST = float(np.finfo(np.float32).eps)  # how far from 0 and 1 probabilities are taken to be in a log loss
_ONE_OF = {"classes": "class", "images": "image"}
MIN_TOLD = 10  # tested images of either label, with which an attribute may be called the best or the worst


def auc_per_attribute(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Test or validation AUC of every attribute.

    Args:
      labels: [n, N] in {0, 1, NaN}; unknown ones are left out.
      scores: [n, N], larger means more likely.

    Returns:
      float64 [N]; NaN where the known labels are not of both kinds.
    """
    result = np.full(labels.shape[1], np.nan)
    for i in range(labels.shape[1]):
        known = np.isfinite(labels[:, i])
        if both_labels(labels[known, i]):
            result[i] = metrics.auc(labels[known, i], scores[known, i])
    return result


def mean_auc(aucs: np.ndarray) -> Optional[float]:
    """Mean over the attributes that have one; None without any."""
    return float(np.nanmean(aucs)) if np.isfinite(aucs).any() else None


def mean_auc_interval(
    labels: np.ndarray, scores: np.ndarray, units: np.ndarray, domains: Optional[np.ndarray] = None
) -> Optional[tuple[Optional[float], Optional[float], int, np.ndarray]]:
    """95 % interval of the mean AUC over what was drawn to be tested: classes, each with all its images.

    By the jackknife (Tukey 1958) and Student's t: without one class after the other, of many without groups of them. A
    bootstrap of few classes would weigh pairs of images of one class, which are hard to tell apart, twice. Of an
    attribute that one class alone has, or lacks, nothing is left without it, so that the interval grows too narrow, and
    where half of the attributes are such there is none.

    Joined domains draw each its own: their variances add up, whose degrees of freedom are those of Welch and
    Satterthwaite (1946). Domains that share a unit count as one; classes are units of their domain alone, so that two
    that show the same pictures of classes are taken for two draws.

    Args:
      labels: [n, N] in {0, 1, NaN}.
      scores: [n, N].
      units: int [n], the class of each image, or its photograph where there are no classes.
      domains: int [n], the domain of each image; one when left out.

    Returns:
      (low, high, how many units tell of an attribute that is judged, of which images bool [n]); low and high None
      where a domain has fewer than `MIN_UNITS` of these, and then the fewest and their images, and where half of the
      attributes or more have a label in one unit alone. None where no attribute can be judged, and where the mean is the
      same without any of them, which tells nothing.
    """
    whole = auc_per_attribute(labels, scores)
    judged = np.isfinite(whole)
    known = np.isfinite(labels[:, judged])
    tells = known.any(axis=1)
    if not tells.any():
        return None
    parts = _drawn_together(units[tells], np.zeros(tells.sum(), int) if domains is None else domains[tells])
    shown = [np.unique(units[tells][parts == part]) for part in range(parts.max() + 1)]
    sizes = np.array([*map(len, shown)])
    if sizes.min() < MIN_UNITS:
        tells[tells] = parts == sizes.argmin()
        return None, None, int(sizes.min()), tells
    labels = labels[tells][:, judged]
    scores = scores[tells][:, judged]
    known = known[tells]
    if 2 * sum(_rests_on_one(y, units[tells]) for y in labels.T) >= labels.shape[1]:
        return None, None, int(sizes.sum()), tells
    counts = np.minimum(sizes, _MOST_GROUPS)
    starts = np.cumsum(counts) - counts
    groups = np.zeros(len(parts), np.int64)
    for part, own in enumerate(shown):
        rows = parts == part
        groups[rows] = starts[part] + np.searchsorted(own, units[tells][rows]) % _MOST_GROUPS
    # [N, groups of all domains]
    left = np.stack(
        [
            metrics.aucs_without_each_group(y[k], s[k], groups[k], counts.sum())
            for y, s, k in zip(labels.T, scores.T, known.T)
        ]
    )
    there = np.isfinite(left)
    moved = np.where(there, left - whole[judged, None], 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    variances = np.array([(len(m) - 1) / len(m) * np.square(m - m.mean()).sum() for m in np.split(moved, starts[1:])])
    error = np.sqrt(variances.sum())
    if not error > 1e-12:
        return None
    freedom = 1 / (np.square(variances / variances.sum()) / (counts - 1)).sum()
    low, high = whole[judged].mean() + np.array([-1.0, 1.0]) * stats.t.ppf(0.975, freedom) * error
    return float(max(low, 0.0)), float(min(high, 1.0)), int(sizes.sum()), tells


def _rests_on_one(labels: np.ndarray, units: np.ndarray) -> bool:
    """Whether one unit alone has a label, of [n] in {0, 1, NaN}; units int [n]."""
    return min(len(np.unique(units[labels == label])) for label in (0, 1)) == 1


def _drawn_together(units: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Number of the domain of each image, from 0, of domains that share a unit the same: units, domains int [n] ->
    int [n].
    """
    (_, unit), (names, domain) = (np.unique(values, return_inverse=True) for values in (units, domains))
    size = len(names) + unit.max() + 1
    shares = sparse.coo_matrix((np.ones(len(unit)), (domain, len(names) + unit)), (size, size))
    return csgraph.connected_components(shares, directed=False)[1][domain]


def interval_in_words(interval: Optional[Mapping[str, Any]]) -> str:
    """` (95 %, over 6 classes: 0.739 to 0.946)`, of `test_mauc_interval` of result.json, or over how few there is none;
    nothing where it is None.
    """
    if not interval:
        return ""
    if interval["low"] is None:
        return f" ({too_few_in_words(interval)})"
    return f" (95 %, over {interval['count']} {interval['over']}: {interval['low']:.3f} to {interval['high']:.3f})"


def too_few_in_words(interval: Optional[Mapping[str, Any]]) -> str:
    """`2 classes: too few to say what others would give`, of joined domains `2 classes of awa: ...`, or in what `5
    classes` are too few, of `test_mauc_interval` of result.json; nothing where there are enough, or it is None.
    """
    if not interval or interval["low"] is not None:
        return ""
    kind, *where = interval["over"].split(" ", 1)
    over = " ".join([kind if interval["count"] > 1 else _ONE_OF.get(kind, kind), *where])
    but = ", but half of the attributes or more have a label in one alone" if interval["count"] >= MIN_UNITS else ""
    return f"{interval['count']} {over}{but}: too few to say what others would give"


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray, metric: str) -> np.ndarray:
    """The threshold of each attribute that maximises a metric: float64 [N]; NaN where it cannot be judged.

    Args:
      labels: validation labels [n, N] in {0, 1, NaN}.
      probabilities: [n, N].
      metric: balanced_accuracy or f1.
    """
    result = np.full(labels.shape[1], np.nan)
    for i in range(labels.shape[1]):
        known = np.isfinite(labels[:, i])
        if both_labels(labels[known, i]):
            result[i] = _best_threshold(labels[known, i], probabilities[known, i], metric)
    return result


def _best_threshold(labels: np.ndarray, probabilities: np.ndarray, metric: str) -> float:
    """Halfway between the two neighbouring probabilities where the metric is greatest."""
    order = np.argsort(-probabilities, kind="stable")
    values, positive = probabilities[order].astype(np.float32), labels[order]  # the model compares in float32
    true_positives, false_positives = np.cumsum(positive), np.cumsum(1 - positive)
    recall = true_positives / positive.sum()
    if metric == "f1":
        quality = 2 * true_positives / (positive.sum() + true_positives + false_positives)
    else:
        quality = 0.5 * (recall + 1 - false_positives / (1 - positive).sum())
    cut = np.append(np.diff(values) < 0, True)  # equal probabilities share a decision
    best = int(np.where(cut, quality, -np.inf).argmax())
    above, below = float(values[best]), float(values[best + 1]) if best + 1 < len(values) else 0.0
    middle = (above + below) / 2
    return middle if np.float32(middle) > below else above


def attribute_metrics(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, log_odds: Optional[np.ndarray] = None
) -> dict[str, Optional[float]]:
    """AUC, average precision, log loss, F1 and balanced accuracy of one attribute by scikit-learn.

    The log loss takes no probability for surer than a float32's precision, 1.2e-7 from 0 or 1, so that it is the same
    of those in float32 and in float64.

    Args:
      labels: [n] in {0, 1, NaN}.
      probabilities: [n].
      threshold: of the yes/no decision; where none was chosen (NaN) there is none, and no F1 nor balanced accuracy.
      log_odds: [n], of the probabilities, where they are at hand: they order what is sure, whose probabilities are all
        1.
    """
    known = np.isfinite(labels)
    truth, probability = labels[known].astype(int), probabilities[known]
    order = probability if log_odds is None else log_odds[known]
    if not both_labels(truth):
        return dict.fromkeys(("auc", *BESIDE_AUC))
    decided, judged = probability >= threshold, np.isfinite(threshold)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decision of one kind only is no surprise
        return {
            "auc": float(sk_metrics.roc_auc_score(truth, order)),
            # which adds up in floats
            "average_precision": min(1.0, float(sk_metrics.average_precision_score(truth, order))),
            "log_loss": float(
                sk_metrics.log_loss(truth, np.clip(probability.astype(np.float64), _SUREST, 1 - _SUREST))
            ),
            "f1": float(sk_metrics.f1_score(truth, decided)) if judged else None,
            "balanced_accuracy": float(sk_metrics.balanced_accuracy_score(truth, decided)) if judged else None,
        }


def best_to_worst(per_attribute: Mapping[str, Mapping[str, Any]], least: int = 2) -> list[str]:
    """Names of tested attributes from the highest test AUC to the lowest.

    The AUC of a handful of images is luck, high or low: where `least` or more attributes have `MIN_TOLD` tested images
    of either label, only those are named.

    Args:
      per_attribute: rows of result.json; those of an earlier version do not tell how many images were tested.
      least: how many have to be left.
    """
    tested = [name for name, row in per_attribute.items() if row.get("test_auc") is not None]
    sure = [name for name in tested if (fewest_tested(per_attribute[name]) or 0) >= MIN_TOLD]
    return sorted(sure if len(sure) >= least else tested, key=lambda name: -per_attribute[name]["test_auc"])


def fewest_tested(row: Mapping[str, Any]) -> Optional[int]:
    """Tested images of the rarer label of an attribute; None of a run of an earlier version, which does not tell."""
    counts = [row.get(f"test_{kind}") for kind in ("positives", "negatives")]
    return None if None in counts else min(counts)


def told_by_few(row: Mapping[str, Any]) -> bool:
    """Whether an attribute has a test AUC of so few images of either label that it is luck."""
    fewest = fewest_tested(row)
    return row["test_auc"] is not None and fewest is not None and fewest < MIN_TOLD


def on_few_in_words(row: Mapping[str, Any]) -> str:
    """Of how few images of one label a test AUC is, where that is luck, to stand behind it; "" where it is none."""
    return f" on {counted(fewest_tested(row), 'image')} of one label" if told_by_few(row) else ""


def mean_of_told(per_attribute: Mapping[str, Mapping[str, Any]]) -> Optional[tuple[float, int]]:
    """(mean test AUC of those that are no luck, their number), where some are and some are not; else None: the mean
    says as much.
    """
    tested = [row for row in per_attribute.values() if row.get("test_auc") is not None]
    told = [row["test_auc"] for row in tested if not told_by_few(row)]
    return (float(np.mean(told)), len(told)) if 0 < len(told) < len(tested) else None


def below_chance(row: Mapping[str, Any]) -> bool:
    """Whether an attribute's network orders validation images worse than chance, so that its yes and no mean little."""
    return row.get("val_auc") is not None and row["val_auc"] < 0.5


def untested_by_reason(per_attribute: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Why attributes have no test AUC -> their names, the reason of most first."""
    found: dict[str, list[str]] = {}
    for name, row in per_attribute.items():
        if row.get("test_auc") is None:
            found.setdefault(_about_the_test(row.get("reason") or ""), []).append(name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _about_the_test(reason: str) -> str:
    """The part of a row's reason that is not about validation."""
    told = [part.removeprefix(_TESTED) for part in reason.split("; ") if not part.startswith(_JUDGED)]
    return "; ".join(filter(None, told)) or "no reason is known"


def unjudged(row: Mapping[str, Any]) -> bool:
    """Whether validation could not judge an attribute, so that its network is arbitrary and has no yes or no; a run of
    an earlier version does not say.
    """
    return row.get("judged_by") == "none"


def nothing_judged(per_attribute: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether validation could judge no attribute, so that no network was chosen for a reason."""
    return all(map(unjudged, per_attribute.values()))


def means(per_attribute: Sequence[dict[str, Any]], key: str) -> Optional[float]:
    """Mean of one metric over the attributes that have it."""
    values = [row[key] for row in per_attribute if row.get(key) is not None]
    return float(np.mean(values)) if values else None
