"""A table of methods and scenarios over splits, written as the paper shows it: CSV, Markdown and a plot.

Figures are means ± standard deviations over splits. Differences are paired,
split by split, with a 95 % interval (DESIGN §3.7). The best of a scenario is
bold; `*` marks, as in the paper's Table 3, what is above the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from galm_tf.benchmark.paired import REPETITION, paired_difference
from galm_tf.benchmark.results import escaped, markdown_row, write_files
from galm_tf.plots import without_font_warnings
from galm_tf.words import abridged_apart

OTHER_IMAGES = "paper (other images)"
CLASSES, PHOTOGRAPHS = "classes", "photographs"  # what splits hold apart
TEST, VALIDATION = "test_mauc", "val_mauc"  # what a table may show
_COLORS, _MARKERS = 10, "os^Dv"  # of matplotlib's cycle; the next marker once all are taken
_DOMAIN, _PART = 32, 12  # letters of a domain's name in a plot, alone and in SOURCES-TARGET
_LABEL = 2.4  # inches beside the plots, in which awa+apay-sun, 100 positives has room
ROUNDING = 1e-9  # what figures that are alike may differ by
_COUNTS = ("positives", "divisor", "matched")
BOLD = (
    "bold: the best of a column among what sees the domains' own images, and apart from it among what sees features of "
    "networks trained on other images"
)


def summarise(table: pd.DataFrame, reference: str, figure: str = TEST) -> pd.DataFrame:
    """One row per (scenario, method), in their order.

    Args:
      table: columns scenario, method, split, `figure` (NaN or None where nothing can be judged) and perhaps
        other_networks (whether a method sees features of networks trained on other images), each kind of which has a
        best of its own.
      reference: a method.
      figure: the column that is summarised.

    Returns:
      Columns scenario, method, splits, mean, std, difference, low, high (to the reference, over the splits that both
      have), best.
    """
    rows = []
    for scenario, part in table.groupby("scenario", sort=False):
        wide = part.pivot(index="split", columns="method", values=figure).astype(float)
        means = wide.mean()
        kinds = part.groupby("method")["other_networks"].first().eq(True) if "other_networks" in part else means * 0
        bests = means.groupby(kinds).transform("max")
        for method in part["method"].unique():
            values = wide[method].dropna()
            row = {"scenario": scenario, "method": method, "splits": len(values)}
            row.update(mean=means[method], std=values.std(), best=bool(means[method] >= bests[method] - ROUNDING))
            if method != reference and reference in wide:
                row.update(zip(("difference", "low", "high"), paired_difference(wide, method, reference)))
            rows.append(row)
    columns = ["scenario", "method", "splits", "mean", "std", "difference", "low", "high", "best"]
    return pd.DataFrame(rows, columns=columns)


def markdown(
    summary: pd.DataFrame, reference: str, lines: str, paper: Mapping[tuple[str, str], float], star: bool
) -> str:
    """The table in Markdown.

    Args:
      summary: see `summarise`.
      reference: a method.
      lines: what a line is, `scenario` or `method`; the other one makes columns.
      paper: (method, scenario) -> the paper's figure, for a column beside ours.
      star: mark what is above the reference.
    """
    across = "method" if lines == "scenario" else "scenario"
    keys = list(summary[across].unique())
    shown = {k: any((m, s) in paper for m, s in zip(*_pairs(summary, across, k))) for k in keys}
    compared = {k: bool(summary.loc[summary[across] == k, "difference"].notna().any()) for k in keys}
    head = [lines]
    for key in keys:
        name = escaped(key)
        head += [name] + [f"{name} - {reference}" if across == "method" else f"minus {reference}"] * compared[key]
        head += [f"{name}, {OTHER_IMAGES}"] * shown[key]
    text = [markdown_row(head), "|" + "---|" * len(head)]
    for line, part in summary.groupby(lines, sort=False):
        cells = [escaped(str(line))]
        for key in keys:
            found = part[part[across] == key]
            row = found.iloc[0] if len(found) else None
            cells.append("" if row is None else figure_text(row, star))
            cells += [difference_text(row)] * compared[key]
            place = (key, line) if across == "method" else (line, key)
            cells += [f"{paper[place]:.3f}" if place in paper else ""] * shown[key]
        text.append(markdown_row(cells))
    return "\n".join(text) + "\n"


def _pairs(summary: pd.DataFrame, across: str, key: str) -> tuple[pd.Series, pd.Series]:
    part = summary[summary[across] == key]
    return part["method"], part["scenario"]


def figure_text(row: pd.Series, star: bool) -> str:
    """Mean and spread; bold where best, `*` where above the reference."""
    if np.isnan(row["mean"]):
        return "not tested"
    text = f"{row['mean']:.3f}" + ("" if np.isnan(row["std"]) else f" ± {row['std']:.3f}")
    return (f"**{text}**" if row["best"] else text) + "*" * bool(star and row["difference"] > ROUNDING)


def difference_text(row: Optional[pd.Series]) -> str:
    """Difference to the reference and its interval."""
    if row is None or np.isnan(row["difference"]):
        return ""
    interval = "" if np.isnan(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['difference']:.3f}{interval}"


def names_in_plots(table: pd.DataFrame) -> dict[str, str]:
    """Scenario -> what a plot calls it: by its domains' names, each abridged, and all told apart.

    table: columns scenario and, where it is SOURCES-TARGET, target; without that it is a domain.
    """
    if "target" not in table:
        return abridged_apart(table["scenario"], _DOMAIN)
    parts = {}
    for scenario, target in table[["scenario", "target"]].drop_duplicates().itertuples(index=False):
        sources, _, less = scenario.rpartition(f"-{target}")
        parts[scenario] = sources.split("+"), target, less
    shown = abridged_apart((name for sources, target, _ in parts.values() for name in (*sources, target)), _PART)
    return {
        scenario: f"{'+'.join(shown[name] for name in sources)}-{shown[target]}{less}"
        for scenario, (sources, target, less) in parts.items()
    }


def inches(texts: Iterable[str], points: float = 10.0) -> float:
    """How wide the longest of these texts is in a plot, in letters of so many points."""
    font = FontProperties(size=points)
    with without_font_warnings():
        return max(text_to_path.get_text_width_height_descent(text, font, False)[0] for text in texts) / 72


def draw(summary: pd.DataFrame, reference: str, title: str, vary: str = "split_seed") -> Figure:
    """Means with their spread, and differences with their intervals."""
    scenarios, methods = list(summary["scenario"].unique()), list(summary["method"].unique())
    width = 13 + max(0.0, inches(scenarios) - _LABEL)
    figure = Figure((width, 1.6 + 0.22 * len(scenarios) * (len(methods) + 1)), dpi=100, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for i, method in enumerate(methods):
        part = summary[summary["method"] == method]
        place = np.array([scenarios.index(s) for s in part["scenario"]]) + 0.7 * ((i + 0.5) / len(methods) - 0.5)
        style = {"fmt": _MARKERS[i // _COLORS % len(_MARKERS)], "color": f"C{i % _COLORS}", "capsize": 2}
        axes[0].errorbar(part["mean"], place, xerr=part["std"].fillna(0), label=method, **style)
        if method != reference:
            low, high = (part[k].fillna(part["difference"]) for k in ("low", "high"))
            axes[1].errorbar(
                part["difference"], place, xerr=[part["difference"] - low, high - part["difference"]], **style
            )
    axes[0].set_yticks(range(len(scenarios)), scenarios, parse_math=False)
    axes[0].invert_yaxis()
    axes[0].set_xlabel(f"test mAUC, mean ± standard deviation of {REPETITION[vary]}s")
    axes[1].axvline(0.0, color="black", linewidth=1)
    axes[1].set_xlabel(f"minus {reference}, paired, 95 % interval")
    figure.legend(loc="outside upper right", ncols=min(6, len(methods)))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def write(
    table: pd.DataFrame,
    reference: str,
    name: str,
    out: str,
    *,
    lines: str,
    notes: Sequence[str],
    paper: Optional[Mapping[tuple[str, str], float]] = None,
    star: bool = False,
    figure: Optional[Figure] = None,
    vary: str = "split_seed",
    validation: bool = False,
    apart: str = CLASSES,
) -> None:
    """Writes NAME.csv (every cell), NAME.md and NAME.png into `out`, and prints the Markdown.

    paper: as of `markdown`; none where the paper has no such figures.
    validation: whether a second table tells what the searches end with on validation, before they fine-tune on it.
    apart: see `spread_text`.
    """
    summary = summarise(table, reference)
    text = markdown(summary, reference, lines, paper or {}, star)
    if validation:
        reached = markdown(summarise(table, reference, VALIDATION), reference, lines, {}, star)
        text += f"\n## Validation mAUC at the end of the search, before fine-tuning\n\n{reached}"
    legend = [spread_text(vary, apart)]
    legend += (
        [f"`*`: above {reference}"] * star
        + [BOLD if "other_networks" in table else f"bold: the best of a {'line' if lines == 'scenario' else 'column'}"]
        + list(notes)
    )
    whole = f"# {name}\n\n{text}\n" + "".join(f"- {note}\n" for note in legend)
    shown = summary.assign(scenario=summary["scenario"].map(names_in_plots(table)))
    print_and_write(table, whole, figure or draw(shown, reference, name, vary), name, out)


def spread_text(vary: str, apart: str = CLASSES) -> str:
    """What a table's figures and brackets are; apart: what splits hold apart, classes or, without such, photographs."""
    narrow = (
        f"splits share {apart}, so that it is too narrow for other {apart}"
        if vary == "split_seed"
        else f"seeds of one split: nothing of other {apart}"
    )
    return (
        f"test mAUC, mean ± standard deviation over {REPETITION[vary]}s; in brackets the 95 % interval of paired differences (Student's t; "
        f"{narrow})"
    )


def print_and_write(table: pd.DataFrame, text: str, figure: Figure, name: str, out: str) -> None:
    """Writes NAME.csv, NAME.md and NAME.png into `out`, and prints the Markdown."""
    whole = {count: "Int64" for count in _COUNTS if count in table}  # also beside learners, which have none
    write_files(out, {f"{name}.csv": table.astype(whole), f"{name}.md": text, f"{name}.png": figure})
    print(text, end="")
