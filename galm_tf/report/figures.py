"""Plots of the page as plotly figures: plain JSON, drawn and coloured by the page's script.

Colours are roles (`accent`, `second`, `third`, `muted`), which the script turns into those of light or dark mode.
Names go through `plot_text`, since plotly reads a little HTML in labels.
"""

from __future__ import annotations

import html
import math
from typing import Any, Optional, Sequence

import numpy as np
from scipy.cluster import hierarchy

from galm_tf import search_space
from galm_tf.report.analysis import Clusters
from galm_tf.report.names import shortened, without_directions
from galm_tf.report.page import signed
from galm_tf.report.run_reading import FinishedRun

Figure = dict[str, Any]

_LOSSES = (
    ("warmup", "supernet/loss", "warm-up", "accent"),
    ("supernet", "supernet/loss", "rounds, policy's architectures", "second"),
    ("adapt", "derived/loss", "adapting the chosen", "third"),
    ("finetune", "derived/loss", "fine-tuning", "fourth"),
)
_REWARDS = (
    ("controller/reward", "sampled architectures", "accent", "lines", {}),
    ("controller/baseline", "baseline", "muted", "lines", {"dash": "dot", "width": 1.5}),  # close to the line below it
    ("validation/table_best", "best of the table", "second", "markers", {}),
    ("validation/table_mean", "mean of the table", "third", "markers", {}),
)
_ROLES = ("accent", "second", "third", "fourth")
# of further groups and bars, once all roles are taken
_SYMBOLS, _PATTERNS = ("circle", "square", "diamond"), ("", "/", ".", "x")
_BAR_PIXELS, _LEAF_PIXELS = 17, 15
_NAMED_POINTS = 25  # more names would cover one another
_FLAT, _AROUND = 0.01, 0.02  # mAUCs and rewards that differ by less are drawn so far from the edges
_LEAST_SPAN = 0.01  # of differences in AUC, to either side


def plot_text(name: str) -> str:
    """A name that plotly shows letter by letter."""
    return html.escape(without_directions(name), quote=False).replace("$", "&#36;")


def tick_text(name: str) -> str:
    """The same of a name beside an axis; all of it is told where the figure is touched."""
    return plot_text(shortened(without_directions(name)))


def learning_curves(run: FinishedRun) -> dict[str, Figure]:
    """Curve id -> figure, of the phases that the run had."""
    losses = [_line(run, tag, name, role, phase=phase) for phase, tag, name, role in _LOSSES]
    rewards = [_line(run, tag, name, role, mode, line=line) for tag, name, role, mode, line in _REWARDS]
    entropy = [_line(run, "controller/entropy", "policy", "accent")]
    validation = [_line(run, "derived/validation_mauc", "chosen architectures", "accent", "lines+markers")]
    if validation[0] and len(validation[0]["x"]) < 2:  # nothing was adapted, but only judged
        validation = []
    curves = {
        "loss": _curve("Training loss (cross-entropy)", "supernet step", losses),
        "reward": _curve("Validation reward of sampled architectures", "controller step", rewards),
        "entropy": _curve("Entropy of the policy (nats)", "controller step", entropy),
        "validation": _curve(
            "Validation mAUC of the chosen towers alone, while they adapt", "supernet step", validation
        ),
    }
    if curves["entropy"]:
        _add_uniform_entropy(curves["entropy"])
    for name in ("reward", "validation"):
        if curves[name]:
            _frame_flat(curves[name])
    return {name: curve for name, curve in curves.items() if curve}


def _line(
    run: FinishedRun,
    tag: str,
    name: str,
    role: str,
    mode: str = "lines",
    phase: str = "",
    line: Optional[dict[str, Any]] = None,
) -> Optional[Figure]:
    points = [(r["step"], r[tag]) for r in run.records if _finite(r.get(tag)) and (not phase or r["phase"] == phase)]
    if not points:
        return None
    steps, values = zip(*points)
    mode = mode if len(points) > 1 else "markers"  # a line of one point is not seen
    return _scatter(
        mode, name=name, role=role, x=steps, y=values, line=line or {}, hovertemplate="%{y:.4f} at step %{x}"
    )


def _scatter(mode: str, **more: Any) -> Figure:
    """A trace of lines or marks."""
    return {"type": "scatter", "mode": mode, **more}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _curve(title: str, axis: str, traces: Sequence[Optional[Figure]]) -> Optional[Figure]:
    present = [trace for trace in traces if trace]
    layout = {
        "title": {"text": title},
        "xaxis": {"title": {"text": axis}},
        "height": 320,
        "showlegend": len(present) > 1,
    }
    return {"data": present, "layout": layout} if present else None


def _add_uniform_entropy(figure: Figure) -> None:
    highest, steps = math.log(search_space.NUM_ARCHITECTURES), figure["data"][0]["x"]
    ends = [min(steps), max(steps)] if len(steps) > 1 else [steps[0] - 1, steps[0] + 1]
    line = {"name": "uniform, ln 2304", "role": "muted", "x": ends, "y": [highest, highest], "line": {"dash": "dash"}}
    figure["data"].append(_scatter("lines", **line, hovertemplate="%{y:.2f}"))
    figure["layout"].update(showlegend=True, yaxis={"range": [0, highest * 1.08]})


def _frame_flat(figure: Figure) -> None:
    """mAUCs, or rewards, that hardly differ get an axis of their own: plotly's would show noise, or, where they are
    equal, reach from 0 to past 1.
    """
    low, high = (end(value for trace in figure["data"] for value in trace["y"]) for end in (min, max))
    if high - low < _FLAT:
        middle = (low + high) / 2
        figure["layout"]["yaxis"] = {"range": [middle - _AROUND, min(middle + _AROUND, max(high, 1.0))]}
        for trace in figure["data"]:
            trace["cliponaxis"] = False  # a mark at 1 is shown whole


def validation_against_test(run: FinishedRun, shown: dict[str, str]) -> Optional[Figure]:
    """A point per attribute; None when no attribute has both AUCs."""
    rows = {n: r for n, r in run.rows.items() if r["val_auc"] is not None and r["test_auc"] is not None}
    if not rows:
        return None
    points = _scatter(
        "markers",
        role="accent",
        name="attribute",
        showlegend=False,
        x=[r["val_auc"] for r in rows.values()],
        y=[r["test_auc"] for r in rows.values()],
        text=[plot_text(shown[n]) for n in rows],
        hovertemplate="%{text}<br>validation %{x:.3f}, test %{y:.3f}<extra></extra>",
    )
    dashed = {"x": [0, 1], "y": [0, 1], "line": {"dash": "dash"}}
    equal = _scatter("lines", role="muted", showlegend=False, **dashed, hoverinfo="skip")
    layout = {
        "title": {"text": "Validation and test AUC of each attribute"},
        "height": 380,
        "hovermode": "closest",
        "xaxis": {"title": {"text": "validation AUC"}, "range": [min(0.5, *points["x"]) - 0.02, 1.02]},
        "yaxis": {"title": {"text": "test AUC"}, "range": [min(0.5, *points["y"]) - 0.02, 1.02]},
    }
    return {"data": [equal, points], "layout": layout}


def heat_map(matrix: np.ndarray, names: Sequence[str], order: np.ndarray) -> Figure:
    """Correlations [N, N] in an order: hundredths up to the diagonal, which the page's script completes, names for all
    cells and both axes.
    """
    ordered = np.rint(100 * matrix[np.ix_(order, order)]).astype(int)
    hundredths = [row[: i + 1].tolist() for i, row in enumerate(ordered)]
    trace = {
        "type": "heatmap",
        "role": "diverging",
        "hundredths": hundredths,
        "zmin": -1,
        "zmax": 1,
        "hovertemplate": "%{text}<br>correlation %{z:.2f}<extra></extra>",
        "colorbar": {"thickness": 10, "len": 0.6, "tickvals": [-1, -0.5, 0, 0.5, 1]},
    }
    axis = {"showgrid": False, "zeroline": False}
    layout = {
        "names": [plot_text(names[i]) for i in order],
        "ticks": [tick_text(names[i]) for i in order],
        "xaxis": {**axis, "tickangle": -90},
        "yaxis": {**axis, "autorange": "reversed"},
    }
    return {"data": [trace], "layout": layout}


def _group_marks(number: int) -> Figure:
    """Colour and symbol of a group of attributes."""
    return {"role": _ROLES[number % len(_ROLES)], "marker": {"symbol": _SYMBOLS[number // len(_ROLES) % len(_SYMBOLS)]}}


def attribute_map(found: Clusters, names: Sequence[str], colours: Sequence[str], groups: Sequence[str]) -> Figure:
    """Attributes as points, with their names where these are few; those of one group have one colour.

    Args:
      found: the clusters.
      names: of the attributes.
      colours: the group of each attribute, a domain or a cluster.
      groups: all of these, in the order of the legend.
    """
    traces, named = [], len(names) <= _NAMED_POINTS
    for number, group in enumerate(groups):
        rows = [i for i, d in enumerate(colours) if d == group]
        traces.append(
            _scatter(
                "markers+text" if named else "markers",
                name=plot_text(group),
                **_group_marks(number),
                x=np.round(found.points[rows, 0], 3).tolist(),
                y=np.round(found.points[rows, 1], 3).tolist(),
                text=[tick_text(names[i]) for i in rows],
                hovertext=[plot_text(names[i]) for i in rows],
                customdata=[int(found.labels[i]) for i in rows],
                hovertemplate="%{hovertext}, cluster %{customdata}<extra></extra>",
            )
        )
    layout = {
        "title": {"text": "Map of the attributes"},
        "height": 420,
        "hovermode": "closest",
        "showlegend": len(traces) > 1,
        "xaxis": {"title": {"text": "first principal component"}},
        "yaxis": {"title": {"text": "second"}, "scaleanchor": "x"},
        "placed": named,
    }
    return {"data": traces, "layout": layout}


def dendrogram(found: Clusters, names: Sequence[str], colours: Sequence[str], groups: Sequence[str]) -> Figure:
    """The tree of SciPy's linkage, leaves from top to bottom in the order of the heat map, coloured as
    `attribute_map`.
    """
    drawn = hierarchy.dendrogram(found.tree, no_plot=True)
    x, y = [], []
    for heights, places in zip(drawn["dcoord"], drawn["icoord"]):
        x += [*np.round(heights, 3).tolist(), None]
        y += [*((p - 5) / 10 for p in places), None]  # SciPy puts leaves at 5, 15, 25 ...
    traces = [_scatter("lines", role="muted", x=x, y=y, hoverinfo="skip", showlegend=False)]
    for number, group in enumerate(groups):
        rows = [(place, i) for place, i in enumerate(drawn["leaves"]) if colours[i] == group]
        text = [f"{plot_text(names[i])}, cluster {found.labels[i]}" for _, i in rows]
        at = {"x": [0] * len(rows), "y": [place for place, _ in rows]}
        marks = {"name": plot_text(group), **_group_marks(number), **at}
        more = {"text": text, "hovertemplate": "%{text}<extra></extra>"}
        traces.append(_scatter("markers", **marks, **more, cliponaxis=False))  # whole, though the axis begins there
    line = {"x": [found.cut] * 2, "y": [-0.5, len(names) - 0.5], "line": {"dash": "dash", "width": 1}}
    cut = _scatter("lines", role="second", **line, name="cut into clusters", hoverinfo="skip")
    longest = round(float(found.tree[-1, 2]), 3)  # as it is drawn
    layout = {
        "height": 90 + len(names) * _LEAF_PIXELS,
        "hovermode": "closest",
        "showlegend": True,
        "xaxis": {"title": {"text": "distance (1 − correlation)"}, "range": [0, 1.03 * longest or 1]},
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": [tick_text(names[i]) for i in drawn["leaves"]],
            "range": [len(names) - 0.5, -0.5],
            "layer": "below traces",
            "ticks": "outside",  # unseen, for the marks
            "tickcolor": "transparent",
            "bars": True,
        },
    }
    return {"data": [*traces, cut], "layout": layout}


def _bar_marks(number: int) -> Figure:
    """Colour and pattern of the bars of a run."""
    shape = _PATTERNS[number // len(_ROLES) % len(_PATTERNS)]
    return {
        "role": _ROLES[number % len(_ROLES)],
        "marker": {"pattern": {"shape": shape, "size": 5, "fillmode": "overlay"} if shape else {}},
    }


def difference_bars(differences: dict[str, dict[str, float]], baseline: str, shown: dict[str, str]) -> Figure:
    """Test AUC minus that of the first run, the highest on top; where runs are as good as equal, bars are short.

    Args:
      differences: run label -> attribute -> difference.
      baseline: label of the first run.
      shown: attribute -> what the page calls it.
    """
    first = next(iter(differences.values()))
    names = sorted({n for d in differences.values() for n in d}, key=lambda n: (-first.get(n, 0.0), n))
    places, labels = list(range(len(names))), [plot_text(shown[n]) for n in names]
    told = [more for d in differences.values() for more in d.values()]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": plot_text(label),
            **_bar_marks(i),
            "y": places,
            "x": [d.get(n) for n in names],
            "text": labels,
            "textposition": "none",
            "customdata": [signed(d.get(n)) for n in names],
            "hovertemplate": "%{text}<br>%{customdata}<extra>" + plot_text(label) + "</extra>",
        }
        for i, (label, d) in enumerate(differences.items())
    ]
    height = 110 + len(names) * (_BAR_PIXELS + 6 * (len(traces) - 1))
    layout = {
        "height": height,
        "hovermode": "closest",
        "barmode": "group",
        "showlegend": len(traces) > 1,
        "xaxis": {
            "title": {"text": f"test AUC minus that of {plot_text(baseline)}"},
            "zeroline": True,
            "range": [1.05 * min(-_LEAST_SPAN, *told), 1.05 * max(_LEAST_SPAN, *told)],
        },
        "yaxis": {
            "tickvals": places,
            "ticktext": [tick_text(shown[n]) for n in names],
            "autorange": "reversed",  # runs from top to bottom, as in the legend
            "bars": True,
        },
    }
    return {"data": traces, "layout": layout}
