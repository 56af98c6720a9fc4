"""What the page about one run says before any figure: whether anything was judged, and what was not tested."""

from __future__ import annotations

import collections
from typing import Any, Optional, Sequence

from galm_tf.report.run_reading import FinishedRun

_TOLD = 4  # names before the fold, and reasons
_TESTED, _JUDGED = "not tested: ", "not judged: "


def nothing_judged(run: FinishedRun) -> bool:
    """Whether validation could judge no attribute, so that no network was chosen for a reason."""
    return all(row["val_auc"] is None for row in run.rows.values())


def listed(names: Sequence[str], most: int = _TOLD) -> str:
    """The first names in words, and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def untested(run: FinishedRun, shown: dict[str, str]) -> Optional[dict[str, Any]]:
    """Attributes without a test AUC by reason, and those before the fold in words; None where all were tested.

    Args:
      run: the run.
      shown: attribute -> what the page calls it.
    """
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for name, row in run.rows.items():
        if row["test_auc"] is None:
            by_reason[_why(row.get("reason") or "")].append(shown[name])
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    if not ordered:
        return None
    words = "; ".join(f"{reason}: {listed(names)}" for reason, names in ordered[:_TOLD])
    return {
        "count": sum(len(names) for _, names in ordered), "words": words[0].upper() + words[1:],
        "folded": ordered if len(ordered) > _TOLD or len(ordered[0][1]) > _TOLD else [],
    }


def _why(reason: str) -> str:
    """The part of a row's reason that is about the test."""
    parts = reason.split("; ")
    told = [part.removeprefix(_TESTED) for part in parts if not part.startswith(_JUDGED)]
    return "; ".join(filter(None, told)) or "no reason is known"
