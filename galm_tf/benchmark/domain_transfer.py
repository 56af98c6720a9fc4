"""Table 3 and the few-label curve: a target domain with and without searched sources (paper §4.4; DESIGN §2).

A scenario has source domains, searched jointly, and a target domain, searched
and fine-tuned on its own training classes and tested on its unseen ones. The
reference is the same target run from nothing, with the same settings. Every
source run is shared by the scenarios that need it: seven for three domains.

A source that holds the target itself is not fine-tuned, because that would
train on the images that the target validates on. The classes of the test are
the same in both, by the same split, and `transfer` refuses a source that has seen one.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from galm_tf import pipeline
from galm_tf.benchmark import paper_figures
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.paper_table import summarise
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder
from galm_tf.strategies import METHODS

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
            (TRANSFERRED, self.name): paper_figures.TABLE_3.get((frozenset(self.sources), self.target)),
        }
        return {} if None in found.values() else found


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
    """The named scenarios, all of the table without names; with few labels those whose sources leave out the target.

    Raises:
      UserError: fewer than two domains, or an unknown name.
    """
    if len(domains) < 2:
        raise UserError(
            f"Expected at least two domains to transfer between. Received: domain={','.join(domains)}; name them by --domain."
        )
    known = {s.name: s for s in scenarios(domains) if not (few and s.target in s.sources)}
    wrong = [name for name in names if name not in known]
    if wrong:
        near = difflib.get_close_matches(wrong[0], known, 1, 0.0)
        raise UserError(
            f"Expected --cells to be some of {', '.join(known)}. Received: {wrong[0]}; nearest: {near[0]}."
        )
    if names:
        return [known[name] for name in names]
    return [s for s in known.values() if not few or len(s.sources) == len(domains) - 1]


def run_scenarios(
    config: Config, chosen: Sequence[Scenario], positives: Sequence[int], numbers: Sequence[int], vary: str, out: str
) -> pd.DataFrame:
    """Test mAUC of every scenario with and without its sources.

    Args:
      config: all domains and the settings of every run.
      chosen: scenarios.
      positives: known positives of a target attribute; 0 for all. Sources know all.
      numbers: the splits or seeds.
      vary: `split_seed` or `seed`.
      out: folder of the cells and of the run folders, which a repeated command goes on with.

    Returns:
      Columns scenario, method, split, positives, val_mauc, test_mauc, num_attributes_tested, matched, gate, seconds.
    """
    runs = _Runs(config, vary, out)
    rows = []
    for number, scenario, count in itertools.product(numbers, chosen, positives):
        name = scenario.name if not count else f"{scenario.name}, {count} positives"
        for method, sources in ((ALONE, ()), (TRANSFERRED, scenario.sources)):
            row = {"scenario": name, "method": method, "split": number, "positives": count}
            rows.append({**row, **runs.target(scenario.target, sources, count, number)})
    return pd.DataFrame(rows)


class _Runs:
    """The runs of a table: each made once, and read afterwards."""

    def __init__(self, config: Config, vary: str, out: str) -> None:
        self._config, self._vary, self._out = config, vary, out
        self._cells = Cells(out, {**config.to_json(), "vary": vary})

    def target(self, target: str, sources: Sequence[str], positives: int, number: int) -> dict[str, Any]:
        """Figures of a target run, and of the source run before it where that is not there yet."""
        name = target + (f"-from-{'+'.join(sources)}" if sources else "") + (f"-p{positives}" if positives else "")
        return dict(self._cells.get(f"{name}-{self._vary}{number}", lambda: self._run(name, target, sources, positives, number)))

    def _run(self, name: str, target: str, sources: Sequence[str], positives: int, number: int) -> dict[str, Any]:
        source_run = (self._source(sources, number),) if sources else ()
        config = dataclasses.replace(self._subset((target,), number), source_run=source_run, train_positives=positives)
        return figures(_search(config, self._path(name, number)))

    def _source(self, domains: Sequence[str], number: int) -> str:
        """The folder of the finished run on these domains."""
        if len(domains) == 1:  # it is the target run from nothing
            self.target(domains[0], (), 0, number)
            return self._path(domains[0], number)
        config = self._subset(tuple(domains), number)
        if len(domains) == len(self._config.domain):
            config = dataclasses.replace(config, finetune_steps=0)
        path = self._path("+".join(domains), number)
        _search(config, path)
        return path

    def _subset(self, domains: tuple[str, ...], number: int) -> Config:
        """The settings of a run on some of the domains, with all their labels."""
        index = [self._config.domain.index(d) for d in domains]
        folders = {k: tuple(v[i] for i in index) for k in ("data_dir", "layout") if (v := getattr(self._config, k))}
        return dataclasses.replace(self._config, domain=domains, train_positives=0, **folders, **{self._vary: number})

    def _path(self, name: str, number: int) -> str:
        return os.path.join(self._out, "runs", f"{name}-{self._vary}{number}")


def _search(config: Config, path: str) -> dict[str, Any]:
    """The result of a run: read, resumed or made."""
    config, folder = RunFolder.begin_or_resume(path, config)
    return pipeline.run(config, folder, make_strategy=METHODS[config.method])


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What a table keeps of a run."""
    transfer = result["transfer"] or {"matches": {}, "gate": None}
    kept = {k: result[k] for k in ("val_mauc", "test_mauc", "num_attributes_tested", "data_source", "commit")}
    return {
        **kept,
        "matched": sum(m is not None for m in transfer["matches"].values()),
        "gate": None if transfer["gate"] is None else transfer["gate"]["passed"],
        "seconds": result["seconds_total"],
    }


def draw_curve(table: pd.DataFrame) -> Figure:
    """Test mAUC against the number of known positives, a panel per scenario."""
    names = table["scenario"].str.replace(r", \d+ positives$", "", regex=True)
    summary = summarise(table, ALONE)
    counts = summary["scenario"].str.extract(r", (\d+) positives$")[0].astype(int)
    panels = list(names.unique())
    figure = Figure((4.2 * len(panels), 3.6), dpi=100, layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        for method in (ALONE, TRANSFERRED):
            mask = summary["scenario"].str.startswith(f"{panel}, ") & (summary["method"] == method)
            part = summary[mask]
            axis.errorbar(counts[mask], part["mean"], yerr=part["std"].fillna(0), fmt="o-", capsize=2, label=method)
        axis.set(xscale="log", xlabel="known positives per attribute", title=panel)
        axis.set_xticks(sorted(counts.unique()), [str(c) for c in sorted(counts.unique())], minor=False)
    figure.axes[0].set_ylabel("test mAUC")
    figure.axes[0].legend()
    return figure
