"""Suites `choosing` and `derived`: ways to pick architectures from the same rewards, judged on classes that nobody saw.

For each class-disjoint split one supernet is trained with uniformly sampled
architectures. All rewards are then computed twice: on validation, from which
every method chooses, and on the test classes, on which each choice is looked
up. So methods differ in nothing but what they choose (DESIGN §3.3, §3.7).
In `choosing` networks keep the supernet's weights; in `derived` those of every
method are fine-tuned from them, by the same number of steps, and tested as a
run tests its own. Suite `methods` repeats whole runs, supernet and all.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from typing import Any, Optional, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from galm_tf import pipeline, selection
from galm_tf.config import Config
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.search import Search
from galm_tf.strategies import METHODS
from galm_tf.strategies.tabular import RandomArchitecture
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry

REFERENCE = "galm, reranked"  # the rule of `ControllerTraining.choose`
SHRUNKEN = "best of shrunken rewards"


def run_choosing(config: Config, splits: Sequence[int], out: str) -> pd.DataFrame:
    """Test mAUC with shared weights of every rule on every split: columns method, seed, val_mauc, test_mauc.

    `random` is the mean of all architectures, `oracle` the best by the test images.
    """
    config = dataclasses.replace(config, method="random", adapt_steps=0, finetune_steps=0)
    rows = []
    for split in splits:
        validation, test = _tables(dataclasses.replace(config, split_seed=split), os.path.join(out, f"split{split}"))
        judged = np.flatnonzero(validation.rewarded & test.rewarded)
        for name, chosen in _choices(validation, config).items():
            means = [float(t.full[judged, chosen[judged]].mean()) for t in (validation, test)]
            rows.append({"method": name, "seed": split, "val_mauc": means[0], "test_mauc": means[1]})
        for name, picked in (("random", np.mean), ("oracle", np.max)):
            value = float(picked(test.full[judged], axis=1).mean())
            rows.append({"method": name, "seed": split, "test_mauc": value})
    return pd.DataFrame(rows)


def run_derived(config: Config, splits: Sequence[int], out: str) -> pd.DataFrame:
    """Test mAUC of every method's fine-tuned networks on every split: columns method, seed, val_mauc, test_mauc.

    All start from the supernet of `run_choosing`; a finished (split, method) is
    not run again. `random` is one uniform architecture per attribute.
    """
    rows = []
    for split in splits:
        of_split = dataclasses.replace(config, split_seed=split)
        path = os.path.join(out, f"split{split}")
        shared = dataclasses.replace(of_split, method="random", adapt_steps=0, finetune_steps=0)
        table, _ = _tables(shared, path)
        choices = {**_choices(table, config), "random": RandomArchitecture(len(table.full), config).choose(None)}
        choices = {name: choices[name] for name in (REFERENCE, SHRUNKEN, *METHODS) if name in choices}
        weights, _ = RunFolder(path, lock=False).load_checkpoint()
        prepared = None
        for name, chosen in choices.items():
            own = dataclasses.replace(of_split, method="random", warmup_steps=0, supernet_steps=0)
            own, folder = RunFolder.begin_or_resume(os.path.join(path, _file_name(name)), own)
            if not folder.has("result.json"):
                prepared = prepared or pipeline.prepare(own)
                folder.write_json("result.json", _finetuned(own, folder, prepared, weights, chosen))
                tf.keras.backend.clear_session()
                gc.collect()  # a network and its traces are cycles of some 500 MB
            result = folder.read_json("result.json")
            rows.append({"method": name, "seed": split, **{k: result[k] for k in ("val_mauc", "test_mauc")}})
    return pd.DataFrame(rows)


def _finetuned(config, folder: RunFolder, prepared: pipeline.Prepared, weights, chosen: np.ndarray) -> dict[str, Any]:
    """Adapts and fine-tunes the chosen networks from the supernet's weights; tests them once."""
    arguments = (config, prepared.domain, prepared.split, prepared.images, folder)
    searched = Search(*arguments, lambda n, settings: _Chosen(n, settings, chosen))
    for name, variable in searched.supernet.variables.items():
        variable.assign(weights[f"supernet/{name}"])
    with Telemetry(folder) as telemetry:
        searched.run(telemetry)
    network = pipeline.derive_network(searched)
    return pipeline.build_result(searched, prepared, pipeline.test(network, searched, prepared))


class _Chosen(Strategy):
    """Architectures that were chosen before: int64 [N]."""

    learns = rewarded = False

    def __init__(self, num_attributes: int, config: Config, chosen: np.ndarray) -> None:
        super().__init__(num_attributes, config)
        self._chosen = chosen

    def choose(self, table: Optional[RewardTable]) -> np.ndarray:
        return self._chosen


def _file_name(method: str) -> str:
    return method.replace(", ", "-").replace(" ", "-")


def _choices(table: RewardTable, config: Config) -> dict[str, np.ndarray]:
    """What every method and rule takes from these rewards: name -> int64 [N]."""
    n, steps = len(table.full), config.rounds * config.controller_steps
    strategies = {name: make(n, config) for name, make in METHODS.items() if name != "random"}
    for strategy in strategies.values():
        if strategy.learns:
            strategy.train_on_table(table, 0, steps)
    shrunken = selection.shrunken_rewards(table)
    shrunken_table = RewardTable(shrunken.astype(np.float32), table.halves)
    log_probs = strategies["galm"].log_probs()
    return {
        REFERENCE: strategies.pop("galm").choose(table),
        "galm, most probable": selection.derive(log_probs, None, 1),
        "galm, reranked by shrunken rewards": selection.derive(log_probs, shrunken_table, config.derive_top),
        SHRUNKEN: shrunken.argmax(axis=1),
        **{name: strategy.choose(table) for name, strategy in strategies.items()},
    }


def _tables(config: Config, path: str) -> tuple[RewardTable, RewardTable]:
    """Rewards of all architectures on validation and on test images; kept in a run folder."""
    config, folder = RunFolder.begin_or_resume(path, config)
    stored = [folder.read_arrays(f"tables/{name}.npz") for name in ("validation", "test")]
    if None in stored:
        return _compute_tables(config, folder)
    validation, test = map(RewardTable.from_arrays, stored)
    return validation, test


def _compute_tables(config: Config, folder: RunFolder) -> tuple[RewardTable, RewardTable]:
    prepared = pipeline.prepare(config)
    search = pipeline.search(config, folder, prepared, RandomArchitecture)
    test = prepared.split.test
    images = search.validation.features(test, prepared.domain.labels[test])
    tested = search.validation.engine(images).table(np.arange(search.num_attributes))
    judged = search.validation.exact_table("validation")
    for name, table in (("validation", judged), ("test", tested)):
        folder.write_arrays(f"tables/{name}.npz", table.to_arrays())
    return judged, tested
