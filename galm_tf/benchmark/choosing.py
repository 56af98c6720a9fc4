"""Suite `choosing`: ways to pick architectures from the same rewards, judged on classes that nobody saw.

For each class-disjoint split one supernet is trained with uniformly sampled
architectures. All rewards are then computed twice: on validation, from which
every method chooses, and on the test classes, on which each choice is looked
up. So methods differ in nothing but what they choose (DESIGN §3.3, §3.7).
Networks share the supernet's weights here; suite `methods` fine-tunes them.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Sequence

import numpy as np
import pandas as pd

from galm_tf import pipeline, selection
from galm_tf.config import Config
from galm_tf.reward import RewardTable
from galm_tf.run_folder import RunFolder
from galm_tf.strategies import METHODS
from galm_tf.strategies.tabular import RandomArchitecture

REFERENCE = "galm, reranked"  # the rule of `ControllerTraining.choose`


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
        "best of shrunken rewards": shrunken.argmax(axis=1),
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
