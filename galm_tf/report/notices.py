"""What the page about one run says before any figure: attributes that were not tested, and who predicts better."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from galm_tf import evaluation, temperature
from galm_tf.report.page import figure
from galm_tf.report.rivals import Rival
from galm_tf.report.run_reading import FinishedRun
from galm_tf.words import listed

_TOLD = 4  # names before the fold, and reasons


def untested(run: FinishedRun, shown: dict[str, str]) -> Optional[dict[str, Any]]:
    """Attributes without a test AUC by reason, and those before the fold in words; None where all were tested.

    Args:
      run: the run.
      shown: attribute -> what the page calls it.
    """
    ordered = [
        (reason, [shown[name] for name in names]) for reason, names in evaluation.untested_by_reason(run.rows).items()
    ]
    if not ordered:
        return None
    words = "; ".join(f"{reason}: {listed(names, _TOLD)}" for reason, names in ordered[:_TOLD])
    return {
        "count": sum(len(names) for _, names in ordered),
        "words": words[0].upper() + words[1:],
        "folded": ordered if len(ordered) > _TOLD or len(ordered[0][1]) > _TOLD else [],
    }


def unsure(run: FinishedRun, shown: dict[str, str]) -> str:
    """That probabilities tell little, of the run's networks and of those of each addition; "" where they tell more.

    Args:
      run: the run.
      shown: attribute -> what the page calls it.
    """
    added, first = run.result.get("added"), temperature.told(run.result.get("temperature"))
    additions = [*added.get("earlier", []), added] if added else []
    if first and additions:
        first = f"Of the attributes that were not added {first[0].lower()}{first[1:]}"
    told = [temperature.told(one.get("temperature"), [shown[name] for name in one["attributes"]]) for one in additions]
    return ". ".join(filter(None, [first, *told]))


def stronger(rows: Sequence[dict[str, Any]]) -> str:
    """A sentence about the rivals whose mean test AUC is above that of the run's networks; "" where none is.

    rows: of `rivals.table`.
    """
    names = [f"{row['name']} (by {figure(-row['mean'])})" for row in rows if round(row["mean"], 3) < 0]
    if not names:
        return ""
    have = "have" if len(names) > 1 else "has"
    return f"On the same test images and attributes {listed(names, _TOLD)} {have} a higher test mAUC than this run's networks."


def doubts(others: Sequence[Rival], shown: dict[str, str]) -> list[str]:
    """What a reader must know of the labels that other runs were tested on.

    Args:
      others: other runs.
      shown: attribute -> what the page calls it.
    """
    found = [
        f"{other_labels(rival.otherwise, shown)} in {rival.name}, and left out there."
        for rival in others
        if rival.otherwise
    ]
    untold = [rival.name for rival in others if rival.untold]
    return found + (
        [f"Whether {listed(untold, _TOLD)} had the same test labels, the run folders do not tell."] if untold else []
    )


def other_labels(names: Sequence[str], shown: dict[str, str]) -> str:
    """That these attributes were tested on other labels.

    shown: attribute -> what the page calls it.
    """
    return f"{listed([shown[name] for name in names], _TOLD)} {'was' if len(names) == 1 else 'were'} tested on other labels"
