"""Table 3, the few-label curve and few steps: a target domain with and without source domains (paper §4.4; DESIGN §2).

A scenario has source domains, searched jointly, and a target domain, searched
and fine-tuned on its own training classes and tested on its unseen ones. The
reference is the same target run from nothing, with the same settings. Every
source run is shared by the scenarios that need it: seven for three domains.

Attribute learners stand beside it where they are asked for. Their sources are
the other domains: a learner sees all training images of its target anyway, so
that a scenario whose sources hold the target is that of the others alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from galm_tf.benchmark import paper_figures
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.given import expect_once
from galm_tf.benchmark.learner_cells import LearnerCells
from galm_tf.benchmark.paired import REPETITION
from galm_tf.benchmark.paper_table import inches, names_in_plots, summarise
from galm_tf.benchmark.table_runs import Less, TableRuns
from galm_tf.errors import UserError
from galm_tf.matches import is_close
from galm_tf.plots import without_font_warnings
from galm_tf.words import listed

_TITLE = 12  # points
_COUNT, _GAP = 0.4, 0.05  # inches of a panel for each number of positives, and between two of them
ALONE, TRANSFERRED = "no source", "from sources"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Source domains and a target domain, by name."""

    sources: tuple[str, ...]
    target: str

    @property
    def name(self) -> str:
        return f"{'+'.join(self.sources)}-{self.target}"

    @property
    def paper(self) -> dict[tuple[str, str], float]:
        """The paper's GALM with and without this source, as `paper_table.markdown` takes them; {} for other domains."""
        found = {
            (ALONE, self.name): paper_figures.TABLE_2.get(("galm", self.target)),
            (TRANSFERRED, self.name): paper_figures.TABLE_3.get(("galm", frozenset(self.sources), self.target)),
        }
        return {} if None in found.values() else found

    @property
    def others(self) -> tuple[str, ...]:
        """The sources without the target."""
        return tuple(s for s in self.sources if s != self.target)


def scenarios(domains: Sequence[str]) -> list[Scenario]:
    """Each single other domain, each set of others, and all domains together, in the paper's order: twelve of three."""
    others = [
        Scenario(sources, target)
        for size in range(1, len(domains))
        for sources in itertools.combinations(domains, size)
        for target in domains
        if target not in sources
    ]
    return others + [Scenario(tuple(domains), target) for target in domains]


def choose(domains: Sequence[str], names: Sequence[str], few: bool) -> list[Scenario]:
    """The named scenarios, all of the table without names; with few labels or steps those whose sources leave out the
    target.

    Raises:
      UserError: fewer than two domains, an unknown or repeated name, or one that two scenarios share.
    """
    if len(domains) < 2:
        raise UserError(
            f"Expected at least two domains to transfer between. Received: domain={','.join(domains)}; name them by --domain."
        )
    every = [s for s in scenarios(domains) if not (few and s.target in s.sources)]
    known = {s.name: s for s in every}
    wrong = [name for name in names if name not in known]
    if wrong:
        near = difflib.get_close_matches(wrong[0], known, 1, 0.0)
        raise UserError(f"Expected --cells to be some of {', '.join(known)}. Received: {wrong[0]}; nearest: {near[0]}.")
    expect_once("cells", names)
    chosen = [known[n] for n in names] or [s for s in every if not few or len(s.sources) == len(domains) - 1]
    for scenario in chosen:
        of_name = [f"from {' and '.join(s.sources)} to {s.target}" for s in every if s.name == scenario.name]
        if len(of_name) > 1:
            raise UserError(
                f"Expected domains by whose names scenarios can be told apart. Received: {scenario.name}, which is {', or '.join(of_name)}; call "
                "them otherwise by --domain, best without - and +."
            )
    return chosen


def paper_of_methods(chosen: Sequence[Scenario]) -> dict[tuple[str, str], float]:
    """The paper's Table 3 by (row, name of the scenario); {} for other domains."""
    names = {(frozenset(s.sources), s.target): s.name for s in chosen}
    return {(row, names[place]): v for (row, *of), v in paper_figures.TABLE_3.items() if (place := tuple(of)) in names}


def fewer_positives(
    runs: TableRuns, chosen: Sequence[Scenario], positives: Sequence[int], numbers: Sequence[int]
) -> list[str]:
    """Sentences on attributes of the targets that have fewer positives in training than are asked for.

    Args:
      runs: all domains and the settings of every run.
      chosen: scenarios.
      positives: known ones of each attribute.
      numbers: the splits or seeds.

    Raises:
      UserError: runs of two of `positives` would be the same, since no attribute of a target has more.
    """
    told, where = [], f" of some {REPETITION[runs.vary]}" * (len(numbers) > 1)
    for target in dict.fromkeys(scenario.target for scenario in chosen):
        found: dict[str, list[int]] = {}  # by attribute, of each repetition
        for number in numbers:
            prepared = runs.prepare(runs.subset((target,), number))
            labels = prepared.domain.labels[prepared.split.train]
            for name, count in zip(prepared.domain.attributes, (labels > 0.5).sum(axis=0)):
                found.setdefault(name, []).append(int(count))
        most = max(map(max, found.values()))
        alike = sorted(count for count in positives if count >= most)
        if len(alike) > 1:
            raise UserError(
                f"Expected numbers in --positives whose runs differ. Received: positives={','.join(map(str, positives))}, of which "
                f"{listed(list(map(str, alike)), len(alike))} leave {target} all its positives: no attribute has more than {most} in "
                f"training; give {alike[0]} alone of these."
            )
        for count in positives:
            fewer = sum(min(its) < count for its in found.values())
            if fewer:
                told.append(
                    f"{target}, {count} positives: {fewer} of {len(found)} attributes have fewer in training{where}, all of which are known"
                )
    return told


def run_scenarios(
    runs: TableRuns, name: str, chosen: Sequence[Scenario], limits: Sequence[Less], numbers: Sequence[int]
) -> pd.DataFrame:
    """Test mAUC of every scenario with and without its sources.

    Args:
      runs: all domains and the settings of every run.
      name: of the table, a folder of `runs.out` in which a repeated command goes on.
      chosen: scenarios.
      limits: what the target has less of, each a line of a scenario's where it is labels, a method's where it is steps.
      numbers: the splits or seeds.

    Returns:
      Columns scenario, target, method, split, positives, divisor, val_mauc, test_mauc, num_attributes_tested, matched,
      gate, seconds.
    """
    cells = Cells(os.path.join(runs.out, name), runs.settings())
    rows = []
    for number, scenario, less in itertools.product(numbers, chosen, limits):
        line = scenario.name + (f", {less.positives} positives" if less.positives else "")
        of_steps = f", steps / {less.divisor}" if less.divisor > 1 else ""
        for method, sources in ((ALONE, ()), (TRANSFERRED, scenario.sources)):
            row = {"scenario": line, "target": scenario.target, "method": method + of_steps, "split": number}
            rows.append(
                {**row, **dataclasses.asdict(less), **_row(cells, runs, scenario.target, number, sources, less)}
            )
    return pd.DataFrame(rows)


def _row(
    cells: Cells, runs: TableRuns, target: str, number: int, sources: Sequence[str], less: Less
) -> Mapping[str, Any]:
    """The figures of one run, kept as a cell."""
    name = target + (f"-from-{'+'.join(sources)}" if sources else "") + less.suffix
    return cells.get(f"{name}-{runs.vary}{number}", lambda: figures(runs.result(target, number, sources, less)))


def run_learners(
    cells: LearnerCells, learners: Sequence[str], chosen: Sequence[Scenario], numbers: Sequence[int]
) -> pd.DataFrame:
    """Test mAUC of attribute learners in every scenario with and without its sources.

    Args:
      cells: of the learners.
      learners: keys of `learners.LEARNERS`.
      chosen: scenarios.
      numbers: the splits or seeds.

    Returns:
      Columns scenario, target, method, source (ALONE or TRANSFERRED), split, other_networks (see `LearnerCells`), and
      what `learners.run_one` gives.
    """
    rows = []
    for number, scenario, name in itertools.product(numbers, chosen, learners):
        row = {"scenario": scenario.name, "target": scenario.target, "method": name, "split": number}
        row["other_networks"] = cells.sees_other_networks(name, scenario.target)
        for source, domains in ((ALONE, ()), (TRANSFERRED, scenario.others)):
            rows.append({**row, "source": source, **cells.row(name, scenario.target, number, domains)})
    return pd.DataFrame(rows)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What a table keeps of a run."""
    transfer = result["transfer"] or {"matches": {}, "gate": None}
    kept = {k: result[k] for k in ("val_mauc", "test_mauc", "num_attributes_tested", "data_source", "commit")}
    return {
        **kept,
        "computed_on": result.get("computed_on"),
        "matched": sum(map(is_close, transfer["matches"].values())),
        "gate": None if transfer["gate"] is None else transfer["gate"]["passed"],
        "seconds": result["seconds_total"],
    }


def draw_curve(table: pd.DataFrame) -> Figure:
    """Test mAUC against the number of known positives, a panel per scenario."""
    table = table.assign(scenario=table["scenario"].map(names_in_plots(table)))
    names = table["scenario"].str.replace(r", \d+ positives$", "", regex=True)
    summary = summarise(table, ALONE)
    counts = summary["scenario"].str.extract(r", (\d+) positives$")[0].astype(int)
    summary, counts = summary.loc[counts.sort_values().index], counts.sort_values()
    panels = list(names.unique())
    labels = [str(count) for count in sorted(counts.unique())]
    width = max(4.2, 0.7 + inches(panels, _TITLE), 0.7 + _COUNT * len(labels))
    figure = Figure((width * len(panels), 3.6), dpi=100, layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        for method in (ALONE, TRANSFERRED):
            mask = summary["scenario"].str.startswith(f"{panel}, ") & (summary["method"] == method)
            part = summary[mask]
            axis.errorbar(counts[mask], part["mean"], yerr=part["std"].fillna(0), fmt="o-", capsize=2, label=method)
        axis.set(xscale="log", xlabel="known positives per attribute")
        axis.set_title(panel, fontsize=_TITLE, parse_math=False)
        axis.set_xticks([int(label) for label in labels], labels, minor=False)
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())  # names 6×10⁰ too, over the others
    figure.axes[0].set_ylabel("test mAUC")
    figure.axes[0].legend()
    _hide_touching_labels(figure)
    return figure


def _hide_touching_labels(figure: Figure) -> None:
    """Numbers that lie close together on the log axis: of labels that would touch, that of the greatest stays."""
    with without_font_warnings():
        figure.draw_without_rendering()
    for axis in figure.axes:
        left = float("inf")
        for label in reversed(axis.get_xticklabels()):
            place = label.get_window_extent()
            label.set_visible(place.x1 + _GAP * figure.dpi < left)
            left = place.x0 if label.get_visible() else left
