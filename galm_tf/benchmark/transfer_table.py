"""Table 3 with attribute learners: a line per method, a column per scenario, as in the paper; CSV, Markdown and a plot.

Three blocks: each method from its sources, the same methods without a source,
and the paired differences of the two. Then the paper's figures. The best of a
column is bold, among methods that see the domains' own images and apart from it
among those that see features of networks trained on other images. `*` marks, as
in the paper, what is above the same method without a source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from galm_tf.benchmark import learners, paper_table
from galm_tf.benchmark.domain_transfer import ALONE, TRANSFERRED
from galm_tf.benchmark.results import escaped, markdown_row
from galm_tf.words import listed

_TILT = 30  # degrees, of the names below the columns
_LABEL = 1.6  # inches, in which awa+apay+sun-sun has room
_PAPER = Mapping[tuple[str, str], float]


def as_methods(table: pd.DataFrame, method: str, seen: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of `domain_transfer.run_scenarios` as those of one method of `run_learners`; seen: that of
    `TableRuns`.
    """
    return table.assign(source=table["method"], method=method, **seen)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (method, source, scenario), in their order.

    Args:
      table: columns scenario, target, method, source (ALONE or TRANSFERRED), split, test_mauc, features,
        other_networks.

    Returns:
      Columns method, source, target, features (all that a method sees), other_networks (of a method in a scenario) and
      those of `paper_table.summarise`, differences being those of a method to itself without a source; best is True in
      the best rows of a (scenario, source, other_networks). Methods that see other networks somewhere stand last.
    """
    parts = []
    for method, part in table.groupby("method", sort=False):
        found = paper_table.summarise(part.assign(method=part["source"]), ALONE).rename(columns={"method": "source"})
        seen, others = "; ".join(part["features"].unique()), part.groupby("scenario")["other_networks"].any()
        parts.append(found.assign(method=method, features=seen, other_networks=found["scenario"].map(others)))
    summary = pd.concat(parts, ignore_index=True)
    summary["target"] = summary["scenario"].map(dict(zip(table["scenario"], table["target"])))
    best = summary.groupby(["scenario", "source", "other_networks"])["mean"].transform("max")
    last = summary.groupby("method")["other_networks"].transform("any")
    order = last.sort_values(kind="stable").index
    return summary.assign(best=summary["mean"] >= best - paper_table.ROUNDING).loc[order].reset_index(drop=True)


def markdown(summary: pd.DataFrame, paper: _PAPER) -> str:
    """The blocks in Markdown.

    Args:
      summary: see `summarise`.
      paper: (method, scenario) -> the paper's figure from sources.
    """
    sourced, alone = (summary[summary["source"] == s] for s in (TRANSFERRED, ALONE))
    alone = alone.assign(scenario=alone["target"]).drop_duplicates(["method", "scenario"])
    blocks = [
        _block(TRANSFERRED, sourced, lambda row: paper_table.figure_text(row, star=True), sees=True),
        _block(ALONE, alone, lambda row: paper_table.figure_text(row, star=False)),
        _block(f"{TRANSFERRED} minus {ALONE}", sourced, paper_table.difference_text),
    ]
    figures = sourced.assign(paper=[paper.get(place, np.nan) for place in zip(sourced["method"], sourced["scenario"])])
    if figures["paper"].notna().any():
        known = figures[figures["paper"].notna()]
        blocks.append(_block(paper_table.OTHER_IMAGES, known, lambda row: f"{row['paper']:.3f}"))
    return "\n".join(blocks)


def _block(title: str, rows: pd.DataFrame, text_of: Callable[[pd.Series], str], sees: bool = False) -> str:
    """A heading and a table of methods by scenarios; sees: with a column of what each method sees."""
    scenarios = list(rows["scenario"].unique())
    head = ["method", *["sees"] * sees, *map(escaped, scenarios)]
    lines = [f"## {title}", "", markdown_row(head), "|" + "---|" * len(head)]
    for method, part in rows.groupby("method", sort=False):
        found = {row["scenario"]: text_of(row) for _, row in part.iterrows()}
        cells = [method, *[escaped(part["features"].iloc[0])] * sees, *(found.get(s, "") for s in scenarios)]
        lines.append(markdown_row(cells))
    return "\n".join(lines) + "\n"


def draw(summary: pd.DataFrame, title: str) -> Figure:
    """Means as numbers, coloured by what the sources add to the same method."""
    rows = summary[summary["source"] == TRANSFERRED]
    methods, scenarios = list(rows["method"].unique()), list(rows["scenario"].unique())
    values, added = (
        rows.pivot(index="method", columns="scenario", values=v).astype(float).loc[methods, scenarios].to_numpy()
        for v in ("mean", "difference")
    )
    limit = max(float(np.nanmax(np.abs(added), initial=0.0)), 1e-3)
    longer, angle = max(0.0, paper_table.inches(scenarios) - _LABEL), np.deg2rad(_TILT)
    size = 3.0 + 0.95 * len(scenarios) + longer * np.cos(angle), 1.9 + 0.36 * len(methods) + longer * np.sin(angle)
    figure = Figure(size, dpi=100, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(added, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(added[y, x]) > 0.6 * limit
            text = f"{value:.3f}{'*' * bool(added[y, x] > paper_table.ROUNDING)}"
            axis.text(x, y, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    axis.set_xticks(range(len(scenarios)), scenarios, rotation=_TILT, ha="right", parse_math=False)
    axis.set_yticks(range(len(methods)), methods)
    figure.colorbar(image, ax=axis, label=f"minus {ALONE}")
    figure.suptitle(f"{title}: test mAUC {TRANSFERRED}", x=0.01, ha="left")
    return figure


def _steps_with_sources(methods: Iterable[str]) -> list[str]:
    """What a reader must know of learners that train on batches of all domains; nothing without such."""
    shown = [name for name in learners.BATCHES_OF_ALL if name in set(methods)]
    verbs = "trains" if len(shown) == 1 else "train"
    return (
        [
            f"{listed(shown, len(shown))} {verbs} on batches of all domains, in so many more steps that as much of the target is seen as alone"
        ]
        if shown
        else []
    )


def write(
    table: pd.DataFrame, name: str, out: str, notes: Sequence[str], paper: _PAPER, vary: str = "split_seed"
) -> None:
    """Writes NAME.csv (every cell), NAME.md and NAME.png into `out`, and prints the Markdown."""
    summary = summarise(table)
    legend = [
        paper_table.spread_text(vary),
        f"`*`: above the same method with {ALONE}",
        paper_table.BOLD,
        "a learner sees all training images of its target anyway: where the sources hold the target, its sources are the "
        "other domains",
        *_steps_with_sources(table["method"]),
        *notes,
    ]
    text = f"# {name}\n\n{markdown(summary, paper)}\n" + "".join(f"- {note}\n" for note in legend)
    shown = summary.assign(scenario=summary["scenario"].map(paper_table.names_in_plots(table)))
    paper_table.print_and_write(table, text, draw(shown, name), name, out)
