"""What suite `nas` found, as CSV, Markdown and curves.

The time to GALM's reward is that of the first point of a curve that is as high
as GALM's last, in the same split. Searches differ in how many attributes they
search at once, so times are compared per attribute.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from galm_tf import search_space
from galm_tf.benchmark import paper_table
from galm_tf.benchmark.cells import NOT_NOTED, several_commits
from galm_tf.benchmark.nas import FINETUNED, REFERENCE, RETRAINED, SCRATCH, SHARED, Comparison, Searches, peer_name
from galm_tf.benchmark.peers import PEERS
from galm_tf.benchmark.results import escaped, markdown_row, write_files
from galm_tf.config import METHODS, Config
from galm_tf.schedule import search_steps

PAPER_HOURS, PAPER_ATTRIBUTES = 27.6, 251  # §4.7, one Nvidia Titan XP
_SLACK = 1e-9  # of equal rewards that were averaged in another order
_SHARED_COLORS = (
    "#4477aa",
    "#bbbbbb",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#222222",
    "#ee7733",
    "#999933",
    "#332288",
)
_SHARED_STYLES = zip(_SHARED_COLORS, "osD^vP*XpH")
_SCRATCH_STYLES = zip(("#8c564b", "#e377c2", "#117733", "#cc3311"), "<>hd")
# color and marker
_STYLES = {**dict(zip(METHODS, _SHARED_STYLES)), **dict(zip(map(peer_name, PEERS), _SCRATCH_STYLES))}
_AXES = {
    "seconds": "wall time of the whole search, s (attributes searched in it: see legend)",
    "per_attribute": "wall time per attribute searched, s",
    "architectures": "architectures evaluated per attribute",
}


def summarise(curves: pd.DataFrame) -> pd.DataFrame:
    """How far each method came, and when it had the reward that GALM's search ends with.

    Args:
      curves: see `nas.Comparison`.

    Returns:
      A row per (method, split): val_reward and test_mauc at the end of the search, last_test_mauc (fine-tuned or
      retrained; NaN without), seconds_per_attribute (of the whole search), reached (seconds per attribute until GALM's
      reward; NaN where it was not reached) and ratio (reached over GALM's).
    """
    rows = []
    for split, part in curves.groupby("split", sort=False):
        searched = part[part["kind"].isin([SHARED, SCRATCH])]
        target = searched.loc[searched["method"] == REFERENCE, "val_reward"].iloc[-1]
        for method in part["method"].unique():
            own, whole = searched[searched["method"] == method], part[part["method"] == method]
            there = own[own["val_reward"].astype(float) >= target - _SLACK]
            last = whole.loc[whole["kind"].isin([FINETUNED, RETRAINED]), "test_mauc"]
            row = {
                "method": method,
                "split": split,
                "weights": own["kind"].iloc[0],
                **own[["val_reward", "test_mauc"]].iloc[-1],
            }
            row["last_test_mauc"] = last.iloc[-1] if len(last) else np.nan
            row["seconds_per_attribute"] = _per_attribute(own).iloc[-1]
            row["reached"] = _per_attribute(there).iloc[0] if len(there) else np.nan
            rows.append(row)
    table = pd.DataFrame(rows)
    ours = table[table["method"] == REFERENCE].set_index("split")["reached"]
    return table.assign(ratio=table["reached"] / table["split"].map(ours))


def _per_attribute(rows: pd.DataFrame) -> pd.Series:
    return rows["seconds"] / rows["attributes_searched"]


def markdown(found: Comparison, notes: Sequence[str]) -> str:
    """All tables, with what a reader must know.

    Args:
      found: of `nas.measure`.
      notes: lines about the data and settings.
    """
    table = summarise(found.curves)
    ours = found.costs[found.costs["method"] == REFERENCE]
    seconds = ours[["supernet_seconds", "rewards_seconds", "method_seconds"]].sum(axis=1)
    attributes = ours["attributes_searched"]
    paper = f"{3600 * PAPER_HOURS / PAPER_ATTRIBUTES:.0f} s"
    lines = ["# nas", "", "## Time to the reward that GALM reaches", "", *_reached_lines(table), ""]
    lines += ["## What each search spent (means; architectures per attribute)", "", *_cost_lines(found.costs), ""]
    lines += [
        "## Beside the paper", "", "| search | hours | attributes | seconds per attribute | on |", "|---|---|---|---|---|",
        f"| paper | {PAPER_HOURS} | {PAPER_ATTRIBUTES} | {paper} | one Nvidia Titan XP |",
        markdown_row(["GALM here", f"{seconds.mean() / 3600:.2f}", f"{attributes.mean():.0f}", _spread(seconds / attributes, 2), _machines(found)]), "",
    ]  # fmt: skip
    return "\n".join(lines + [f"- {note}" for note in (*notes, *_computed_by(found), *_legend(found))]) + "\n"


def settings_note(config: Config, searches: Searches) -> str:
    """What was run, in a line."""
    return (
        f"{config.image_size}x{config.image_size} pixels; supernet {search_steps(config)} steps, policies "
        f"{config.rounds * config.controller_steps} steps of {config.samples_per_step} rewards, random_search, bayesian and "
        f"progressive {config.evaluations} rewards an attribute; children: {searches.trials} of {searches.epochs} epochs an attribute "
        "(hyperband: as many epochs in all)"
    )


def _machines(found: Comparison) -> str:
    """What GALM's search was computed on."""
    return "; ".join(
        dict.fromkeys((one or {}).get("computed_on", NOT_NOTED) for one in found.environments.get(REFERENCE, [None]))
    )


def _computed_by(found: Comparison) -> list[str]:
    """The distinct commits, versions and machines of all cells, a line each, and what several commits mean."""
    lines, environments = [], list(itertools.chain(*found.environments.values()))
    for one in environments:
        if one is None:
            lines.append(f"commit, versions and machine of cells that an earlier version left: {NOT_NOTED}")
        else:
            versions = "".join(f", {name} {version}" for name, version in one.get("versions", {}).items())
            lines.append(f"commit {one.get('commit') or NOT_NOTED}{versions}, on {one.get('computed_on', NOT_NOTED)}")
    return [*dict.fromkeys(lines), *several_commits((one or {}).get("commit") for one in environments)]


def _legend(found: Comparison) -> list[str]:
    names = ", ".join(map(escaped, found.attributes))
    return [
        f"rewards (validation AUC) and test mAUC are means over {len(found.attributes)} attribute{'s' * (len(found.attributes) > 1)}: {names}",
        "weights: shared are the supernet's, for reward and test; scratch are the child's own. A reward with shared weights "
        "and one of a child trained from scratch are on the same images, but are not the same quality of training",
        "the reward is that of what a method would choose at that point; random is the mean of all architectures, and one uniform "
        "draw where fine-tuned",
        "time to GALM's reward: first point as high as GALM's last, in the same split; seconds per attribute searched, "
        "since sharing methods search all attributes of the domain at once and peers one at a time",
        "seconds of a sharing method: the supernet's training, the exact table of all rewards (random reads none) and its "
        "own; the supernet and table are computed once and counted for each",
        "architectures: with shared weights the rewards read per attribute, repeated ones counted (ENAS reads one of every "
        "attribute a sample); from scratch the distinct ones trained",
        "last training: fine-tuning of all networks (sharing), or retraining of the best child on training and validation "
        "images (scratch), without the test; only test mAUC after it is of networks as they would be used, but for the linear "
        "reading of the trunk, which is left out (--readout_share=0): children have none",
    ]


def _reached_lines(table: pd.DataFrame) -> list[str]:
    lines = [
        "| method | weights | reward at the end | test mAUC there | test mAUC after last training | s per attribute, whole search | "
        "s per attribute to GALM's reward | ratio to GALM |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for method, part in table.groupby("method", sort=False):
        there = part["reached"].notna()
        reached, ratio = "not reached", ""
        if there.any():
            reached, ratio = _spread(part["reached"][there], 2), _spread(part["ratio"][there], 2)
            reached += "" if there.all() else f" (not reached in {int((~there).sum())} of {len(there)})"
        cells = [
            method,
            part["weights"].iloc[0],
            *(_spread(part[k], 3) for k in ("val_reward", "test_mauc", "last_test_mauc")),
        ]
        lines.append(markdown_row([*cells, _spread(part["seconds_per_attribute"], 2), reached, ratio]))
    return lines


def _cost_lines(costs: pd.DataFrame) -> list[str]:
    names = [c for c in costs.columns if c not in ("method", "split", "kind")]
    lines = [markdown_row(["method", *(name.replace("_", " ") for name in names)]), "|---|" + "---|" * len(names)]
    for method, part in costs.groupby("method", sort=False):
        lines.append(markdown_row([method, *(_amount(part[name].astype(float).mean()) for name in names)]))
    return lines


def _amount(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _spread(values: pd.Series, digits: int) -> str:
    """Mean ± standard deviation; the latter only of several; empty of none."""
    values = values.astype(float).dropna()
    if not len(values):
        return ""
    return f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")


def draw(curves: pd.DataFrame) -> Figure:
    """Reward and test mAUC against time and architectures: means of the splits, with bands of a standard deviation."""
    figure = Figure((17, 9), dpi=100, layout="constrained")
    axes = figure.subplots(2, 3, sharex="col", sharey="row")
    curves = curves.assign(per_attribute=_per_attribute(curves))
    for method, rows in curves.groupby("method", sort=False):
        scratch = rows["kind"].iloc[0] == SCRATCH
        color, marker = _STYLES[method]
        style = {"color": color, "marker": marker, "linestyle": "--" if scratch else "-"}
        searched = int(rows["attributes_searched"].iloc[0])
        label = f"{method} ({f'children from scratch, {searched} in turn' if scratch else f'shared weights, {searched} at once'})"
        for row, y in enumerate(("val_reward", "test_mauc")):
            for column, x in enumerate(_AXES):
                _draw_method(axes[row, column], rows, x, y, style, label)
    for row, title in enumerate(("validation AUC of what is chosen", "test mAUC of what is chosen")):
        axes[row, 0].set_ylabel(f"{title}, mean of attributes")
    for column, title in enumerate(_AXES.values()):
        axes[0, column].set_xscale("log")
        _label_powers(axes[0, column])
        axes[1, column].set_xlabel(title)
    for axis in axes[:, 2]:
        axis.axvline(search_space.NUM_DISTINCT, color="black", linewidth=0.8, linestyle=":")
        axis.annotate(
            f"all {search_space.NUM_DISTINCT}",
            (search_space.NUM_DISTINCT, 1.01),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            ha="center",
        )
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(
        "Searches on the same data, split, attributes and space (hollow: fine-tuned or retrained networks)",
        x=0.01,
        ha="left",
    )
    return figure


def _label_powers(axis) -> None:
    """Plain numbers on a logarithmic axis, the more of each decade the fewer decades there are."""
    low, high = axis.get_xlim()
    decades = np.log10(high / low)
    subs = (
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
        if decades < 0.8
        else (1, 2, 3, 5)
        if decades < 1.5
        else (1, 2, 5)
        if decades < 3
        else (1,)
    )
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _draw_method(axis, rows: pd.DataFrame, x: str, y: str, style: dict, label: str) -> None:
    """One method's mean curve, and its networks after the last training beside its end."""
    points = rows.assign(point=rows.groupby(["split", "kind"]).cumcount()).astype({y: float})
    means = points.groupby(["kind", "point"], sort=False)[[x, y]].mean()
    spread = points.groupby(["kind", "point"], sort=False)[y].std().fillna(0.0)
    kind = rows["kind"].iloc[0]
    curve, band = means.loc[kind], spread.loc[kind]
    if x == "architectures" and not curve[x].iloc[-1]:  # no place on a logarithmic axis
        axis.axhline(curve[y].iloc[-1], label=label, **{**style, "marker": "", "linestyle": ":"})
        return
    axis.plot(curve[x], curve[y], label=label, markersize=4, linewidth=1.4, **style)
    axis.fill_between(curve[x], curve[y] - band, curve[y] + band, color=style["color"], alpha=0.12, linewidth=0)
    if len(means) > len(curve) and y == "test_mauc":
        last = means.drop(index=kind, level="kind").iloc[-1]
        axis.plot(last[x], last[y], markersize=8, fillstyle="none", **{**style, "linestyle": ""})


def write(found: Comparison, notes: Sequence[str], out: str) -> None:
    """Writes nas.csv, nas_budget.csv, nas.md and nas.png into `out`; prints the Markdown."""
    paper_table.print_and_write(found.curves, markdown(found, notes), draw(found.curves), "nas", out)
    write_files(out, {"nas_budget.csv": found.costs})
