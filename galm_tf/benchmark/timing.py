"""A against B in alternation, in one process: ratios with their spread (shared machines are noisy)."""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from galm_tf.benchmark.results import write_files
from galm_tf.progress import Progress

COLUMNS = ("case", "reference", "value", "unit", "ratio_median", "ratio_min", "ratio_max")
# greatest by least ratio, up to which even steps mark an axis well; and, of farther ones, up to which there is room for
# so many numbers of each power of ten
_NEAR = 2
_STEPS = {12: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), 200: (1, 1.5, 2, 3, 5, 7), np.inf: (1, 2, 5)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
      name: as it is shown.
      run: does the work once.
      work: units of work that one call does; rates are work per second.
      unit: of the rate, e.g. images/s.
    """

    name: str
    run: Callable[[], object]
    work: float
    unit: str


def compare(cases: Sequence[Case], repeats: int, further: Sequence[tuple[int, int]] = ()) -> pd.DataFrame:
    """Rates of all cases and their ratios to the first one: a row per case, columns `COLUMNS`.

    Each round runs every case once; a ratio is taken within a round. further: (case, reference) by their places, whose
    ratios follow in rows of their own.
    """
    rates = np.zeros((repeats, len(cases)))
    with Progress((repeats + 1) * len(cases), cases[0].name, unit="run") as progress:
        for case in cases:
            case.run()  # traces, allocations and caches are not what is measured
            progress.update(1)
        for place in np.ndindex(rates.shape):
            rates[place] = _rate(cases[place[1]])
            progress.update(1)
    rows = []
    for column, reference in [*((column, 0) for column in range(len(cases))), *further]:
        case, ratios = cases[column], rates[:, column] / rates[:, reference]
        summary = [float(f(ratios)) for f in (np.median, np.min, np.max)]
        rows.append((case.name, cases[reference].name, float(np.median(rates[:, column])), case.unit, *summary))
    return pd.DataFrame(rows, columns=COLUMNS)


def _rate(case: Case) -> float:
    started = time.perf_counter()
    case.run()
    return case.work / (time.perf_counter() - started)


def write(table: pd.DataFrame, suite: str, out: str) -> None:
    """Prints the table and writes SUITE.csv and SUITE.png into `out`."""
    print(table.to_string(index=False, float_format="%.4g"))
    shown = table[table["case"] != table["reference"]]
    figure = Figure((9, 1.2 + 0.5 * len(shown)), dpi=100, layout="constrained")
    axis = figure.subplots()
    error = np.abs(shown[["ratio_min", "ratio_max"]].to_numpy().T - shown["ratio_median"].to_numpy())
    labels = [f"{c}\nagainst {r}" for c, r in zip(shown["case"], shown["reference"])]
    axis.barh(labels, shown["ratio_median"] - 1, left=1, xerr=error, color="#4477aa")
    if (shown["ratio_median"] > 0).all():  # a tenth is as far from 1 as ten
        axis.set_xscale("log")
        span = max(shown["ratio_max"].max(), 1) / min(shown["ratio_min"].min(), 1)
        steps = next(steps for most, steps in _STEPS.items() if span <= most)
        axis.xaxis.set_major_locator(ticker.AutoLocator() if span < _NEAR else ticker.LogLocator(subs=steps))
        axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.axvline(1.0, color="black", linewidth=1)
    axis.invert_yaxis()
    axis.set_xlabel("times as fast (median; whiskers: least and most)")
    axis.set_title(suite)
    write_files(out, {f"{suite}.csv": table, f"{suite}.png": figure})
