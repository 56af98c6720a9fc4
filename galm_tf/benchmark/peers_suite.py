"""Suite `peers`, the comparison: rates, AUC at the budget, and how they came about, GALM beside its peers.

GALM searches all attributes of the domain at once, a peer one at a time. Of
GALM's rewards each of the 1536 networks of an attribute counts once, though
every round judges them all; its time is that of all phases before an
architecture is chosen, the supernet's training and the controller's included.
Its networks have no linear reading here, whatever --readout_share says: children have none.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from galm_tf import preparation, run_result, search_space
from galm_tf.attribute_names import file_name
from galm_tf.begun import Begun
from galm_tf.benchmark.auc_rewards import beside_children, expect_judged
from galm_tf.benchmark.child import AttributeData
from galm_tf.benchmark.given import expect_names, expect_once
from galm_tf.benchmark.methods import run_once
from galm_tf.benchmark.peers import PEERS, export, is_export, run_peers
from galm_tf.benchmark.results import write_files
from galm_tf.benchmark.timing import COLUMNS
from galm_tf.config import Config
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.schedule import ADAPT, CONTROLLER, DERIVE, REWARDS, SUPERNET, WARMUP
from galm_tf.words import abridged

GALM = "galm"
_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_LABEL = 32  # letters of a name above its panels
# about a minute's worth
QUICK = dict(warmup_steps=60, rounds=1, supernet_steps=20, controller_steps=200, adapt_steps=2, finetune_steps=20)
QUICK_BUDGET = dict(trials=3, epochs=2, num_attributes=1)  # of the generated domain


@dataclasses.dataclass(frozen=True)
class Budget:
    """What each peer may spend on one attribute.

    Attributes:
      attributes: names; none for the `num_attributes` most evenly split.
      peers: keys of `PEERS`; the first is the reference.
      trials, epochs: children, and epochs of each.
    """

    attributes: tuple[str, ...]
    peers: tuple[str, ...]
    trials: int
    epochs: int
    num_attributes: int = 2

    def __post_init__(self) -> None:
        expect_names("peers", self.peers, PEERS)


def measure(config: Config, budget: Budget, out: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the suite's table with columns `COLUMNS`, the curves); what was done before is read."""
    config = beside_children(config, "peers")
    begun = Begun(
        os.path.join(out, "peers.json"), {**config.to_json(), "trials": budget.trials, "epochs": budget.epochs}, "suite"
    )
    prepared = preparation.prepare(config)
    names = budget.attributes or evenly_split([prepared], budget.num_attributes)
    data = [AttributeData.of(prepared, name, config) for name in names]
    expect_once("attributes", [one.name for one in data])
    galm = dataclasses.replace(config, method=GALM, run_dir=os.path.join(out, GALM))
    result = run_once(galm, prepared)
    begun.keep()
    _export_all(data, budget, config, os.path.join(out, "data"))
    curves = run_peers(config, data, budget.peers, budget.trials, budget.epochs, out)
    ours = galm_curve(galm, result, [one.name for one in data])
    curves = pd.concat([curves.assign(attributes_searched=1, weights="own"), ours], ignore_index=True)
    return summarise(curves, budget.peers[0]), curves


def _export_all(data: Sequence[AttributeData], budget: Budget, config: Config, folder: str) -> None:
    """Leaves the data of these attributes in a folder, and of no others: all that is there is searched by peers outside
    TensorFlow.
    """
    settings = {"trials": budget.trials, "epochs": budget.epochs, "seed": config.seed, "batch_size": config.batch_size}
    paths = {os.path.join(folder, f"{file_name(one.name)}.npz"): one for one in data}
    for path in set(glob.glob(os.path.join(glob.escape(folder), "*.npz"))) - set(paths):
        if is_export(path):
            os.remove(path)
    for path, one in paths.items():
        export(one, settings, path)


def evenly_split(splits: Iterable[preparation.Prepared], count: int) -> list[str]:
    """The attributes most evenly split among the training images, by the mean over splits of one domain, of those that
    validation and test can judge in each.
    """
    distances = []
    for prepared in splits:
        domain, split = prepared.domain, prepared.split
        distance = np.abs(np.nanmean(domain.labels[split.train], axis=0) - 0.5)
        distances.append(pd.Series(distance, domain.attributes)[split.judged_and_tested])
    means = pd.concat(distances, axis=1, join="inner").mean(axis=1)
    expect_judged(means.notna(), domain)
    return list(means.sort_values(kind="stable").index[:count])


def galm_curve(config: Config, result: dict[str, Any], names: Sequence[str]) -> pd.DataFrame:
    """As `run_peers` gives: a row per round, judged with shared weights, and one for the adapted network, per
    attribute.

    Rounds are taken to be equally long. `attributes_searched` have been judged in that time.
    """
    folder = RunFolder(config.run_dir, lock=False)
    seconds = result["search"]["phase_seconds"]
    warmup = seconds.get(WARMUP, 0.0)
    rounds = sum(seconds.get(kind, 0.0) for kind in (SUPERNET, REWARDS, CONTROLLER))
    adapt = seconds.get(DERIVE, 0.0) + seconds.get(ADAPT, 0.0)
    order, rows = list(run_result.searched_rows(result)), []
    for round_ in range(1, config.rounds + 1):
        table = RewardTable.from_arrays(folder.read_arrays(f"tables/round{round_}.npz"))
        for name in names:
            best = float(table.full[order.index(name)].max())
            rows.append(_galm_row(name, result, warmup + rounds * round_ / config.rounds, best, "shared"))
    for name in names:
        best = result["per_attribute"][name]["val_auc"]
        rows.append(_galm_row(name, result, warmup + rounds + adapt, best, "own"))
    return pd.DataFrame(rows)


def _galm_row(name: str, result: dict[str, Any], seconds: float, best: Optional[float], weights: str) -> dict[str, Any]:
    return {
        "peer": GALM,
        "attribute": name,
        "seconds": seconds,
        "architectures": search_space.NUM_DISTINCT,
        "best_val_auc": best,
        "test_auc": result["per_attribute"][name]["test_auc"],
        "attributes_searched": result["num_attributes_rewarded"],
        "weights": weights,
    }


def summarise(curves: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Architectures an hour, validation AUC and test AUC at the end of each search, beside the reference's.

    Ratios are taken attribute by attribute; the first rows are over all attributes, the others of one each.
    """
    searched = curves.groupby(["peer", "attribute"], sort=False)
    rate = pd.Series({cell: _architectures_per_hour(rows) for cell, rows in searched}).rename_axis(
        ["peer", "attribute"]
    )
    figures = {
        "architectures/h": rate,
        "validation AUC": searched["best_val_auc"].last(),
        "test AUC": searched["test_auc"].last(),
    }
    figures = {unit: values.unstack("peer")[curves["peer"].unique()] for unit, values in figures.items()}
    rows = [(p, reference, *_row(wide[p], wide[reference], unit)) for unit, wide in figures.items() for p in wide]
    for unit in ("validation AUC", "test AUC"):
        wide = figures[unit]
        for name in wide.index:
            rows += [
                (f"{p}, {name}", f"{reference}, {name}", *_row(wide.loc[[name], p], wide.loc[[name], reference], unit))
                for p in wide
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _architectures_per_hour(rows: pd.DataFrame) -> float:
    """Networks judged in the time until an architecture was chosen; adaptation, which judges none, is left out."""
    rows = rows[rows["weights"] == "shared"] if (rows["weights"] == "shared").any() else rows
    last = rows.iloc[-1]
    return float(3600 * last["architectures"] * last["attributes_searched"] / last["seconds"])


def _row(values: pd.Series, reference: pd.Series, unit: str) -> tuple:
    ratios = values / reference
    return float(values.mean()), unit, float(ratios.median()), float(ratios.min()), float(ratios.max())


def write(table: pd.DataFrame, curves: pd.DataFrame, out: str) -> None:
    """Prints the table; writes peers.csv, peers_curves.csv and peers.png into `out`."""
    print(table.to_string(index=False, float_format="%.4g"))
    write_files(out, {"peers.csv": table, "peers_curves.csv": curves})
    names = curves["attribute"].unique()
    figure = Figure((11, 1 + 3.2 * len(names)), dpi=100, layout="constrained")
    for axes, name in zip(figure.subplots(len(names), 2, squeeze=False), names):
        _draw(axes, curves[curves["attribute"] == name], name)
    write_files(out, {"peers.png": figure})


def _draw(axes, curves: pd.DataFrame, name: str) -> None:
    for axis, x in zip(axes, ("seconds", "architectures")):
        for color, (peer, rows) in zip(_COLORS, curves.groupby("peer", sort=False)):
            searched = int(rows["attributes_searched"].iloc[0])
            label = f"{peer} ({searched} attributes at once)" if searched > 1 else peer
            axis.plot(rows[x], rows["best_val_auc"], marker="o", markersize=3, color=color, label=label)
        axis.set_xscale("log")
        axis.set_xlabel(
            {"seconds": "seconds of the search", "architectures": "architectures judged for this attribute"}[x]
        )
        axis.set_ylabel("best validation AUC")
        axis.set_title(abridged(name, _LABEL), parse_math=False)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
