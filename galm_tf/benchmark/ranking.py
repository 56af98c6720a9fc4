"""Suite `ranking`: do rewards with shared weights rank architectures as training them alone does? (DESIGN §3.10)

One supernet is trained with uniformly sampled architectures and scores all of
them. Some architectures are then trained without weight sharing: for each, a
fresh trunk and one tower of this architecture for each of a few attributes,
from new initial weights, on those of the same images that have a label of
these, in as many steps. Both are judged on all validation images, whatever
--reward_images says, and Kendall's tau compares the two orders within each
attribute.

Differences from training each (attribute, architecture) wholly alone: the few
attributes share a trunk, as they do in a network that a search has derived.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from scipy import stats

from galm_tf import data_digests, pipeline, preparation, search_space
from galm_tf.begun import content_settings
from galm_tf.benchmark.auc_rewards import beside_children, expect_judged
from galm_tf.benchmark.cells import Cells, several_commits
from galm_tf.benchmark.methods import begin_or_resume
from galm_tf.benchmark.results import write_files
from galm_tf.config import Config
from galm_tf.data import loss_weights, training_batches, training_plan
from galm_tf.domains import load_domains
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.progress import Progress
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder, environment
from galm_tf.schedule import cosine, search_steps
from galm_tf.strategies.tabular import Exhaustive
from galm_tf.supernet import build_supernet
from galm_tf.supernet_training import SupernetTraining
from galm_tf.validation import Validation
from galm_tf.words import abridged

_RESAMPLES = 1000
_LABEL = 32  # letters of a name above its panel
_COMMIT = "commit"  # in a cell, beside attributes' names, which have a slash
_SLACK = 1e-7  # of equal means: rewards are float32, and sums in another order differ in their last digit


def run_ranking(config: Config, num_architectures: int, num_attributes: int, seeds: int, out: str) -> pd.DataFrame:
    """One row per (architecture, attribute): columns architecture, attribute, shared, alone0, alone1 …

    `shared` is the reward with the supernet's weights, `aloneK` the AUC of the
    network trained alone with seed K. What is trained is kept in `out`; a run
    that was stopped goes on, with as many attributes, which share their trunk.
    """
    config = beside_children(config, "ranking")
    domain = load_domains(config)
    asked = {
        **config.to_json(),
        "num_attributes": num_attributes,
        **content_settings(data_digests.content_digests(domain)),
    }
    kept = Cells(os.path.join(out, "alone"), asked)
    shared_config = dataclasses.replace(config, method="exhaustive", adapt_steps=0, finetune_steps=0)
    prepared = preparation.prepare(shared_config, domain)
    expect_judged((judge != "none" for judge in prepared.split.judged_by), prepared.domain, "validation images")
    shared_config, folder = begin_or_resume(os.path.join(out, "supernet"), shared_config)
    table = _shared_rewards(shared_config, folder, prepared)
    attributes = best_judged(prepared, table, num_attributes)
    numbers = _architectures(config.seed, num_architectures)
    alone = _Alone(config, prepared, attributes)
    aucs, rows, commit = {}, [], environment()["commit"]
    with Progress(len(numbers) * seeds, "trained alone", unit="network") as progress:
        for seed in range(seeds):
            for number in numbers:
                cell = f"seed{seed}-{number}"
                aucs[seed, number] = kept.get(
                    cell, lambda s=seed, n=int(number): {**alone.train(n, s), _COMMIT: commit}
                )
                progress.update(1)
    for note in several_commits(found.get(_COMMIT) for found in aucs.values()):
        logging.warning("%s", note)
    for number in numbers:
        for attribute in attributes:
            name = prepared.domain.attributes[attribute]
            row = {"architecture": int(number), "attribute": name, "shared": float(table.full[attribute, number])}
            rows.append({**row, **{f"alone{seed}": aucs[seed, number][name] for seed in range(seeds)}})
    return pd.DataFrame(rows)


def _shared_rewards(config: Config, folder: RunFolder, prepared: preparation.Prepared) -> RewardTable:
    name = f"tables/round{config.rounds}.npz"
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    if not folder.has(name):
        pipeline.search(config, folder, prepared, Exhaustive)
    return RewardTable.from_arrays(folder.read_arrays(name))


def best_judged(prepared: preparation.Prepared, table: RewardTable, count: int) -> np.ndarray:
    """The rewarded attributes whose rarer label occurs most often among validation images: int64 [up to count],
    sorted.
    """
    labels = prepared.domain.labels[prepared.split.validation]
    rarer = np.minimum((labels > 0.5).sum(0), (labels <= 0.5).sum(0))
    return np.sort(np.argsort(np.where(table.rewarded, -rarer, 1), kind="stable")[: min(count, table.rewarded.sum())])


def _architectures(seed: int, count: int) -> np.ndarray:
    """Distinct networks, uniformly: int64 [count]."""
    distinct = np.unique(search_space.canonical_numbers())
    return np.sort(generator(seed, Stream.BASELINE).choice(distinct, count, replace=False))


class _Alone:
    """Trains one architecture after another, each from new weights, for a few attributes."""

    def __init__(self, config: Config, prepared: preparation.Prepared, attributes: np.ndarray) -> None:
        keep = np.isin(np.arange(len(prepared.domain.attributes)), attributes)
        self._config, self._images = config, prepared.images
        self._domain, self._split = prepared.domain.select_attributes(keep), prepared.split.select_attributes(keep)
        self._n = len(attributes)
        self._supernet = build_supernet(self._n, config.image_size, config.dropout, config.seed)
        self._validation = Validation(self._supernet, config, self._domain, self._split, self._images)
        index = self._validation.training_index()  # others have no label of these attributes
        weights = loss_weights(index, self._domain, config)
        self._training = SupernetTraining(self._supernet, self._domain.targets, weights, config)
        self._plan = training_plan(index, self._domain, config)

    def train(self, number: int, seed: int) -> dict[str, Optional[float]]:
        """Attribute -> AUC on validation images after as many steps as the supernet takes."""
        config = self._config
        own_seed = 1_000_003 * (seed + 1) + number
        fresh = build_supernet(self._n, config.image_size, config.dropout, own_seed)
        for name, variable in self._supernet.variables.items():
            variable.assign(fresh.variables[name])
        for slot in self._training.optimizer.slots.values():
            slot.assign(tf.zeros_like(slot))
        choices = np.repeat(search_space.all_indices()[number][None], self._n, axis=0)
        steps = search_steps(config)
        first = steps * seed  # another seed sees the images in another order
        for step, batch in enumerate(training_batches(self._images, self._plan, first, first + steps)):
            rate = cosine(step, steps, config.learning_rate)
            noise = tensor_seed(own_seed, Stream.NOISE, step)
            self._training.step(
                batch["image"],
                batch["index"],
                tf.range(self._n),
                tf.constant(choices),
                tf.constant(noise),
                tf.constant(rate, tf.float32),
            )
        aucs = self._validation.judge([number] * self._n).aucs
        return {name: None if np.isnan(a) else float(a) for name, a in zip(self._domain.attributes, aucs)}


def rank_correlations(table: pd.DataFrame) -> dict[str, Any]:
    """Kendall's tau-b between `shared` and the mean of `alone*`, per attribute and as their mean.

    The 95 % interval of the mean is a bootstrap over architectures. With two
    seeds or more, `reliability` is tau between two trainings alone, the mean over
    all pairs, and with four or more `reliability_of_means` that between the mean of
    one half of them and the mean of the other: what no predictor can be expected
    to exceed by much. A column of one value has no order: means are over what has
    one, NaN where nothing has.
    """
    alone = [c for c in table.columns if c.startswith("alone")]
    shared = table.pivot(index="architecture", columns="attribute", values="shared")
    trained = [table.pivot(index="architecture", columns="attribute", values=c) for c in alone]
    mean = sum(trained) / len(trained)
    rng = np.random.default_rng(0)
    taus = [_mean_tau(shared.iloc[i], mean.iloc[i]) for i in rng.integers(0, len(shared), (_RESAMPLES, len(shared)))]
    result = {
        "architectures": len(shared),
        "seeds": len(trained),
        "per_attribute": {a: _tau(shared[a], mean[a]) for a in shared},
        "tau": _mean_tau(shared, mean),
        "low": _of_known(taus, lambda known: np.percentile(known, 2.5)),
        "high": _of_known(taus, lambda known: np.percentile(known, 97.5)),
        "tau_of_means": _tau(shared.mean(axis=1), mean.mean(axis=1)),
    }
    if len(trained) > 1:
        result["reliability"] = _of_known([_mean_tau(a, b) for a, b in itertools.combinations(trained, 2)], np.mean)
    if len(trained) > 3:
        halves = np.array_split(np.arange(len(trained)), 2)
        first, second = (sum(trained[i] for i in half) / len(half) for half in halves)
        result["reliability_of_means"] = _mean_tau(first, second)
    return result


def _mean_tau(a: pd.DataFrame, b: pd.DataFrame) -> float:
    return _of_known([_tau(a[c], b[c]) for c in a], np.mean)


def _tau(a: pd.Series, b: pd.Series) -> float:
    return float(stats.kendalltau(_ranks(a.to_numpy()), _ranks(b.to_numpy()))[0])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Numbers in the order of the values, float64 [n]; neighbours within `_SLACK` share one, NaN stays."""
    order = np.argsort(values)
    ranks = np.empty(len(values))
    ranks[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > _SLACK)
    return np.where(np.isnan(values), np.nan, ranks)


def _of_known(taus: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> float:
    """A statistic of those that are no NaN; NaN where there is none."""
    known = [tau for tau in taus if np.isfinite(tau)]
    return float(statistic(known)) if known else float("nan")


def _tau_text(tau: float, digits: int = 3) -> str:
    return "no order" if np.isnan(tau) else f"{tau:.{digits}f}"


def write(table: pd.DataFrame, out: str) -> None:
    """Prints the correlations; writes ranking.csv (every network), ranking.txt and ranking.png into `out`."""
    found = rank_correlations(table)
    ordered = int(np.isfinite(list(found["per_attribute"].values())).sum())
    counted = ordered or len(found["per_attribute"])
    interval = f" (95 % interval {found['low']:.3f} to {found['high']:.3f})" if ordered else ""
    lines = [
        f"Kendall's tau, mean of {counted} attribute{'s' * (counted > 1)}, n = {found['architectures']} architectures: "
        f"{_tau_text(found['tau'])}{interval}"
    ]
    lines += [f"  {name}: {_tau_text(tau)}" for name, tau in found["per_attribute"].items()]
    lines.append(f"of the means over attributes: {_tau_text(found['tau_of_means'])}")
    if "reliability" in found:
        lines.append(
            f"between two trainings alone, mean of all pairs of {found['seeds']}: {_tau_text(found['reliability'])}"
        )
    if "reliability_of_means" in found:
        lines.append(
            f"between the means of one half of them and of the other: {_tau_text(found['reliability_of_means'])}"
        )
    print("\n".join(lines))
    write_files(out, {"ranking.csv": table, "ranking.txt": "\n".join(lines) + "\n"})
    write_files(out, {"ranking.png": _plot(table, found)})


def _plot(table: pd.DataFrame, found: dict[str, Any]) -> Figure:
    names = list(found["per_attribute"])
    figure = Figure((3.2 * len(names), 3.4), dpi=100, layout="constrained")
    alone = table[[c for c in table.columns if c.startswith("alone")]].mean(axis=1)
    for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names):
        rows = table["attribute"] == name
        axis.scatter(table["shared"][rows], alone[rows], s=14, color="#4477aa")
        title = f"{abridged(name, _LABEL)}\nτ: {_tau_text(found['per_attribute'][name], 2)}"
        axis.set_title(title, fontsize=9, parse_math=False)
        axis.set_xlabel("AUC, shared weights")
    figure.axes[0].set_ylabel("AUC, trained alone")
    return figure
