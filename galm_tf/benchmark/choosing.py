"""Suites `choosing` and `derived`: ways to pick architectures from the same rewards, judged on classes that nobody saw.

For each class-disjoint split one supernet is trained, and every method chooses
from its validation rewards (`one_supernet`). So methods differ in nothing but
what they choose (DESIGN §3.3, §3.7). In `choosing` networks keep the supernet's
weights; in `derived` those of every choice are fine-tuned from them, by the
same number of steps, and tested as a run tests its own. Suite `methods` repeats
whole runs, supernet and all; `nas` looks at what a search costs.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Iterator, Sequence

import numpy as np
import pandas as pd

from galm_tf import pipeline, selection
from galm_tf.benchmark import one_supernet
from galm_tf.benchmark.auc_rewards import by_auc
from galm_tf.benchmark.given import expect_names
from galm_tf.benchmark.same_data import SameData
from galm_tf.config import Config
from galm_tf.network_size import network_size, numbers_read, trunk_size
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.search_space import Architecture, map_side
from galm_tf.strategies import METHODS
from galm_tf.strategies.tabular import RandomArchitecture

REFERENCE = "galm, reranked"  # the rule of `ControllerTraining.choose`
SHRUNKEN, RANDOM = "best of shrunken rewards", "random"


def run_choosing(
    config: Config,
    splits: Sequence[int],
    out: str,
    methods: Sequence[str] = tuple(METHODS),
    size_penalties: Sequence[float] = (),
) -> pd.DataFrame:
    """Test mAUC with shared weights of every rule on every split: columns method, split, val_mauc, test_mauc,
    multiply_adds.

    Rules on the rewards and GALM's are always there, of --method those named, and GALM with each of these size
    penalties. `random` is the mean of all architectures, `oracle` the best by the test images. Multiply-adds are of one
    image, in all networks together.
    """
    config, rows, same = _checked(config, methods, "choosing"), [], SameData(f"suite in {out}")
    for split, of_split, path in _splits(config, splits, out):
        rewards = one_supernet.shared_rewards(of_split, path, same.prepare(of_split))
        validation, test = rewards.validation, rewards.test
        judged = np.flatnonzero(validation.rewarded & test.rewarded)
        for name, chosen in _choices(validation, config, methods, size_penalties).items():
            means = [float(t.full[judged, chosen[judged]].mean()) for t in (validation, test)]
            network = _multiply_adds(chosen, config)
            rows.append(
                {"method": name, "split": split, "val_mauc": means[0], "test_mauc": means[1], "multiply_adds": network}
            )
        for name, picked in ((RANDOM, np.mean), ("oracle", np.max)):
            value = float(picked(test.full[judged], axis=1).mean())
            rows.append({"method": name, "split": split, "test_mauc": value})
    return pd.DataFrame(rows)


def run_derived(
    config: Config,
    splits: Sequence[int],
    out: str,
    methods: Sequence[str] = tuple(METHODS),
    size_penalties: Sequence[float] = (),
) -> pd.DataFrame:
    """Test mAUC of the fine-tuned networks of every rule and method on every split: columns and rules as of
    `run_choosing`.

    All start from the supernet of `run_choosing`; a finished (split, rule) is
    not run again. `random` is one uniform architecture per attribute.
    """
    config, rows, same = _checked(config, methods, "derived"), [], SameData(f"suite in {out}")
    read = numbers_read() if config.readout_share else 0
    for split, of_split, path in _splits(config, splits, out):
        prepared = same.prepare(of_split)
        table = one_supernet.shared_rewards(of_split, path, prepared).validation
        choices = _choices(table, config, methods, size_penalties)
        if RANDOM in methods:
            choices[RANDOM] = RandomArchitecture(len(table.full), of_split).choose(None)
        for name, chosen in choices.items():
            own = os.path.join(path, name.replace(", ", "-").replace(" ", "-"))
            result = one_supernet.finetuned(of_split, own, path, prepared, chosen)
            figures = {k: result[k] for k in ("val_mauc", "test_mauc")}
            size = _multiply_adds(chosen, config, read)
            rows.append({"method": name, "split": split, **figures, "multiply_adds": size})
    return pd.DataFrame(rows)


def _checked(config: Config, methods: Sequence[str], suite: str) -> Config:
    if methods:
        expect_names("methods", methods, METHODS)
    return by_auc(config, suite)


def _splits(config: Config, splits: Sequence[int], out: str) -> Iterator[tuple[int, Config, str]]:
    """Of each split its number, its settings, with which a supernet can begin, and the folder of that."""
    for split in splits:
        of_split, path = dataclasses.replace(config, split_seed=split), os.path.join(out, f"split{split}")
        pipeline.expect_beginnings(of_split, RunFolder(path, lock=False))
        yield split, of_split, path


def _multiply_adds(chosen: np.ndarray, config: Config, read: int = 0) -> int:
    """Of one image in the trunk and all towers, which carry a reading where `read` numbers of the trunk are read."""
    architectures = map(Architecture.from_number, chosen)
    return network_size(architectures, map_side(config), read, trunk_size(config.image_size)).multiply_adds


def _choices(
    table: RewardTable, config: Config, methods: Sequence[str], size_penalties: Sequence[float]
) -> dict[str, np.ndarray]:
    """What GALM, the methods named, GALM with size penalties and every rule take from these rewards: name -> int64
    [N].
    """
    n, steps = len(table.full), config.rounds * config.controller_steps
    penalised = {}
    for penalty in size_penalties:
        strategy, wanted = METHODS["galm"](n, config), selection.less_size(table, penalty, map_side(config))
        strategy.train_on_table(wanted, 0, steps)
        penalised[f"galm, size penalty {penalty:g}"] = strategy.choose(wanted)
    strategies = {name: METHODS[name](n, config) for name in dict.fromkeys(["galm", *methods]) if name != RANDOM}
    for strategy in strategies.values():
        if strategy.learns:
            strategy.train_on_table(table, 0, steps)
    shrunken = selection.shrunken_rewards(table)
    shrunken_table = RewardTable(shrunken.astype(np.float32), table.halves)
    log_probs = strategies["galm"].log_probs()
    return {
        REFERENCE: strategies.pop("galm").choose(table),
        **penalised,
        "galm, most probable": selection.derive(log_probs, None, 1),
        "galm, reranked by shrunken rewards": selection.derive(log_probs, shrunken_table, config.derive_top),
        SHRUNKEN: shrunken.argmax(axis=1),
        **{name: strategy.choose(table) for name, strategy in strategies.items()},
    }
