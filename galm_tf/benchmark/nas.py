"""Suite `nas`: all earlier searches on the same data, split, attributes and space, by what they spend.

Methods that share weights (`--methods`) read the rewards of one supernet per
split (`one_supernet`), which search all attributes at once; its training and
the table of rewards are computed once and counted for each of them. `random`
reads none: it stands for the mean of all architectures. Peers (`--peers`) train
every child from scratch, one attribute at a time (`peers`). All are judged on
the same few attributes: on validation images by what the method would choose
at that point, and on the test classes with the weights of that point, which are
the supernet's or the child's own. Rewards are of all validation images, as those
of the children are, whatever --reward_images says; networks are fine-tuned
without a linear reading, which children have none of, whatever --readout_share says.

Each (method, split) and (peer, attribute, split, budget) is a cell, so that a
killed command goes on. What this does not do: alternate the two phases. `--method`
trains the supernet with what a method samples; here all have the same one.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from galm_tf import preparation
from galm_tf.attribute_names import file_name
from galm_tf.begun import content_settings
from galm_tf.benchmark import one_supernet, peers, peers_suite
from galm_tf.benchmark.auc_rewards import beside_children
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.child import AttributeData
from galm_tf.benchmark.given import expect_names, expect_once
from galm_tf.benchmark.nas_curves import children_curve, trajectory
from galm_tf.benchmark.same_data import SameData
from galm_tf.config import METHODS, Config
from galm_tf.domains import load_domains
from galm_tf.domains.build import classed_domains
from galm_tf.progress import Progress
from galm_tf.run_folder import environment

REFERENCE, RANDOM = "galm", "random"
QUICK = dict(peers_suite.QUICK, image_size=32, evaluations=16)  # a minute or two of processor time
QUICK_SEARCHES = dict(trials=2, epochs=1, num_attributes=1)  # of the generated domain
SHARED, SCRATCH, FINETUNED, RETRAINED = "shared", "scratch", "finetuned", "retrained"
COLUMNS = ("method", "split", "seconds", "architectures", "val_reward", "test_mauc", "kind", "attributes_searched")
COST_COLUMNS = (
    "method", "split", "kind", "attributes_searched", "trained_from_scratch", "scored_with_shared_weights", "supernet_steps",
    "child_steps", "supernet_seconds", "rewards_seconds", "method_seconds", "children_seconds", "last_training_seconds",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Searches:
    """What is compared, and what it may spend.

    Attributes:
      methods: values of --method; GALM's own, which is the reference, is run even if it is not among them.
      peers: keys of `peers.PEERS`; may be none.
      attributes: names; none for the `num_attributes` most evenly split.
      trials, epochs: children of a peer per attribute, and epochs of each.
      finetune_last: also fine-tune what each method that shares weights chose last.
    """

    methods: tuple[str, ...]
    peers: tuple[str, ...]
    attributes: tuple[str, ...]
    num_attributes: int
    trials: int
    epochs: int
    finetune_last: bool = False

    def __post_init__(self) -> None:
        expect_names("methods", self.methods, METHODS)
        if self.peers:
            expect_names("peers", self.peers, peers.PEERS)

    @property
    def with_reference(self) -> tuple[str, ...]:
        """All methods, GALM first unless it stands among them."""
        return self.methods if REFERENCE in self.methods else (REFERENCE, *self.methods)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a run of the suite found.

    Attributes:
      curves: a row per point, columns `COLUMNS`: seconds of wall time in which so many attributes_searched were
        searched, architectures per attribute, val_reward and test_mauc (means over `attributes`), kind of weights.
      costs: a row per (method, split), columns `COST_COLUMNS`; architectures are per attribute.
      attributes: those that all methods are judged on.
      environments: method -> the distinct ones (`run_folder.environment`) in which its cells were computed; None stands
        for what an earlier version left, which did not note it.
      classed: domain -> whether it has classes, by which it is split.
    """

    curves: pd.DataFrame
    costs: pd.DataFrame
    attributes: tuple[str, ...]
    environments: Mapping[str, Sequence[Optional[Mapping[str, Any]]]] = dataclasses.field(default_factory=dict)
    classed: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def measure(config: Config, searches: Searches, numbers: Sequence[int], vary: str, out: str) -> Comparison:
    """Runs what is left of the suite.

    Args:
      config: data and settings of every search; `reward_images` is taken as 0, all, and `readout_share` as 0.
      searches: see there.
      numbers: the splits or seeds.
      vary: `split_seed` or `seed`.
      out: folder of the cells, which a repeated command goes on with.
    """
    config = beside_children(config, "nas")
    same = SameData(f"suite in {out}")
    domain = load_domains(config, untold=lambda note: True)  # `prepare` tells of each split
    cells = Cells(out, {**config.to_json(), "vary": vary, **content_settings(same.expect(domain))})
    each = [dataclasses.replace(config, **{vary: number}) for number in numbers]
    prepared = [same.prepare(one) for one in each]
    names = searches.attributes or peers_suite.evenly_split(prepared, searches.num_attributes)
    curves, costs, environments = [], [], {}
    for number, one, data in zip(numbers, each, prepared):
        split = _Split(one, data, searches, names, cells, f"{vary}{number}", environments)
        for method in searches.with_reference:
            _add(split.shared(method), method, number, curves, costs)
        for peer in searches.peers:
            _add(split.scratch(peer), peer_name(peer), number, curves, costs)
    attributes = tuple(data.name for data in split.attributes)
    return Comparison(
        pd.DataFrame(curves, columns=COLUMNS), pd.DataFrame(costs, columns=COST_COLUMNS), attributes, environments,
        classed_domains(domain),
    )  # fmt: skip


def peer_name(peer: str) -> str:
    """KerasTuner's searches are named after it: some have a namesake that shares weights."""
    return peer if peer == "rl_nas" else f"kerastuner {peer}"


def _add(found: tuple[list[dict], dict], method: str, number: int, curves: list[dict], costs: list[dict]) -> None:
    points, cost = found
    curves += [{"method": method, "split": number, **point} for point in points]
    costs.append({"method": method, "split": number, **cost})


class _Split:
    """All searches on one split (or seed).

    Args:
      config: settings with the split's number.
      prepared: the data.
      searches: see there.
      names: of the attributes to be judged on.
      cells: where results are kept.
      name: of the split in cells and folders.
      environments: of `Comparison`, added to.
    """

    def __init__(
        self, config: Config, prepared: preparation.Prepared, searches: Searches, names: Sequence[str], cells: Cells, name: str,
        environments: dict[str, list[Optional[Mapping[str, Any]]]],
    ) -> None:  # fmt: skip
        self._environments = environments
        self._config, self._prepared, self._searches, self._cells, self._name = config, prepared, searches, cells, name
        self.attributes = [AttributeData.of(prepared, attribute, config) for attribute in names]
        expect_once("attributes", [data.name for data in self.attributes])
        known = prepared.domain.attributes
        self._rows = np.array([known.index(data.name) for data in self.attributes])

    @functools.cached_property
    def _rewards(self) -> one_supernet.SharedRewards:
        return one_supernet.shared_rewards(self._config, self._supernet, self._prepared)

    @property
    def _supernet(self) -> str:
        return os.path.join(self._cells.path, "supernets", self._name)

    def shared(self, method: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Points and costs of a method that shares weights."""
        table, spent = self._rewards.validation, self._rewards.costs
        name = f"{method}-{self._name}"
        cell = self._cells.get(
            name, lambda: {"points": trajectory(method, table, self._config), "environment": environment()}
        )
        points = cell["points"]
        self._note(method, spent, cell)
        common = spent["supernet"] + (spent["validation"] if method != RANDOM else 0.0)
        searched = len(table.full)
        rows = [
            {
                "seconds": common + point["seconds"], "architectures": point["architectures"], "kind": SHARED,
                "attributes_searched": searched, **self._looked_up(method, point["chosen"]),
            }
            for point in points
        ]  # fmt: skip
        last = points[-1]
        costs = {
            "kind": SHARED, "attributes_searched": searched, "trained_from_scratch": 0,
            "scored_with_shared_weights": last["architectures"], "supernet_steps": spent["supernet_steps"], "child_steps": 0,
            "supernet_seconds": spent["supernet"], "rewards_seconds": common - spent["supernet"],
            "method_seconds": last["seconds"], "children_seconds": 0.0,
        }  # fmt: skip
        if self._searches.finetune_last:
            tuned = self._finetuned(method, np.array(last["chosen"]))
            costs["last_training_seconds"] = tuned.pop("seconds")
            rows.append({**rows[-1], **tuned, "seconds": rows[-1]["seconds"] + costs["last_training_seconds"]})
        return rows, costs

    def _note(self, method: str, *kept: Mapping[str, Any]) -> None:
        """In which environments what is kept of a method was computed."""
        noted = self._environments.setdefault(method, [])
        for one in kept:
            if (found := one.get("environment")) not in noted:
                noted.append(found)

    def _looked_up(self, method: str, chosen: Sequence[int]) -> dict[str, float]:
        """Mean rewards over the judged attributes."""
        tables = {"val_reward": self._rewards.validation.full, "test_mauc": self._rewards.test.full}
        if method == RANDOM:  # what a uniform choice has on average
            return {name: float(full[self._rows].mean()) for name, full in tables.items()}
        numbers = np.asarray(chosen)[self._rows]
        return {name: float(full[self._rows, numbers].mean()) for name, full in tables.items()}

    def _finetuned(self, method: str, chosen: np.ndarray) -> dict[str, Any]:
        path = os.path.join(self._cells.path, "finetuned", f"{method}-{self._name}")
        result = one_supernet.finetuned(self._config, path, self._supernet, self._prepared, chosen)
        self._note(
            method,
            {"environment": {key: result[key] for key in ("versions", "commit", "computed_on") if key in result}},
        )
        rows = [result["per_attribute"][data.name] for data in self.attributes]
        return {
            "kind": FINETUNED, "val_reward": _mean([row["val_auc"] for row in rows]),
            "test_mauc": _mean([row["test_auc"] for row in rows]), "seconds": result["search"]["seconds"],
        }  # fmt: skip

    def scratch(self, peer: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Points and costs of a peer: after as many children of each attribute."""
        with Progress(len(self.attributes), f"{peer_name(peer)}, {self._name}", unit="attribute") as progress:
            found = [self._curve(peer, data) for data in progress.each(self.attributes)]
        self._note(peer_name(peer), *found)
        searched, rows = len(found), []
        for i in range(max(len(curve["seconds"]) for curve in found)):
            now = {
                key: [c[key][min(i, len(c[key]) - 1)] for c in found]
                for key in ("seconds", "architectures", "val_auc", "test_auc")
            }
            rows.append({
                "seconds": float(np.sum(now["seconds"])), "architectures": _mean(now["architectures"]), "kind": SCRATCH,
                "val_reward": _mean(now["val_auc"]), "test_mauc": _mean(now["test_auc"]), "attributes_searched": searched,
            })  # fmt: skip
        retraining = float(np.sum([curve["retrain_seconds"] for curve in found]))
        costs = {
            "kind": SCRATCH, "attributes_searched": searched, "trained_from_scratch": rows[-1]["architectures"],
            "scored_with_shared_weights": 0, "supernet_steps": 0,
            "child_steps": int(np.sum([curve["epochs"] * curve["steps_per_epoch"] for curve in found])),
            "supernet_seconds": 0.0, "rewards_seconds": 0.0, "method_seconds": 0.0,
            "children_seconds": rows[-1]["seconds"], "last_training_seconds": retraining,
        }  # fmt: skip
        tested = {"kind": RETRAINED, "val_reward": None, "test_mauc": _mean([c["retrained_test_auc"] for c in found])}
        rows.append({**rows[-1], **tested, "seconds": rows[-1]["seconds"] + retraining})
        return rows, costs

    def _curve(self, peer: str, data: AttributeData) -> dict[str, Any]:
        trials, epochs = self._searches.trials, self._searches.epochs
        name = f"{self._name}-{trials}x{epochs}"
        out = os.path.join(self._cells.path, "children", name)
        return self._cells.get(
            f"{peer_name(peer)}-{file_name(data.name)}-{name}".replace(" ", "-"),
            lambda: {
                **children_curve(*peers.search_cell(self._config, data, peer, trials, epochs, out)),
                "environment": environment(),
            },
        )


def _mean(values: Sequence[Optional[float]]) -> Optional[float]:
    return None if None in values else float(np.mean(values))
