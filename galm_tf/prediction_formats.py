"""How predictions are printed: a table for people, CSV and JSON for machines.

Each function takes the names of the attributes [N], the predictions, and how many
of an image's most probable attributes to show (0: all).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Iterable, Sequence

import numpy as np

from galm_tf.errors import UserError
from galm_tf.words import abridged, csv_line


def begin_output(format_: str) -> None:
    """Standard output for one of the formats; raises UserError where it was closed."""
    if sys.__stdout__ is None:
        raise UserError(
            "Expected standard output for what is told. Received: a closed one; send it to a file or another program."
        )
    if format_ == "table":
        sys.stdout.reconfigure(errors="backslashreplace")
    else:  # for machines: the same bytes on every system, and in JSON an escape instead of what is no text
        sys.stdout.reconfigure(
            encoding="utf-8", newline="", errors="surrogateescape" if format_ == "csv" else "backslashreplace"
        )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One image: its path, probability float32 [N], decision bool [N], and bool [N] whether a threshold decides at
    all.
    """

    image: str
    probability: np.ndarray
    decision: np.ndarray
    decides: np.ndarray


def _order(probability: np.ndarray, top: int) -> np.ndarray:
    """Columns from most to least probable."""
    return np.argsort(-probability, kind="stable")[: top or len(probability)]


def print_table(names: Sequence[str], rows: Iterable[Prediction], top: int) -> None:
    """For people: an image, below it its attributes with yes, no or ? (no validation image could choose a threshold)
    and a bar.
    """
    names = [abridged(name) for name in names]
    width = max(map(len, names))
    for row in rows:
        print(row.image)
        for i in _order(row.probability, top):
            bar = "#" * int(round(20 * row.probability[i]))
            word = ("yes" if row.decision[i] else "no") if row.decides[i] else "?"
            print(f"  {names[i]:<{width}}  {row.probability[i]:.3f}  {word:<3}  {bar}".rstrip())


def print_csv(names: Sequence[str], rows: Iterable[Prediction], top: int, decisions: bool = False) -> None:
    """A header, then a line per image with a probability per attribute; those that --top cuts are empty.

    decisions: 1 or 0 in its place, nothing where no threshold decides.
    """
    print(csv_line(["image", *names]))
    for row in rows:
        shown = set(_order(row.probability, top).tolist())
        values = _decisions(row) if decisions else [f"{p:.6f}" for p in row.probability]
        print(csv_line([row.image, *(value if i in shown else "" for i, value in enumerate(values))]))


def _decisions(row: Prediction) -> list[str]:
    """Yes and no as a table of labels has them: 1, 0, or nothing where it is not known."""
    return [str(int(yes)) if decides else "" for yes, decides in zip(row.decision, row.decides)]


def print_json(names: Sequence[str], rows: Iterable[Prediction], top: int) -> None:
    """A list; a line per image, written as they come."""
    before = "[\n"
    for row in rows:
        shown = {
            names[i]: {
                "probability": round(float(row.probability[i]), 6),
                "decision": bool(row.decision[i]) if row.decides[i] else None,
            }
            for i in _order(row.probability, top)
        }
        print(before + json.dumps({"image": row.image, "attributes": shown}, ensure_ascii=False), end="")
        before = ",\n"
    print("\n]" if before == ",\n" else "[]")
