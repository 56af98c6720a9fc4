"""Suite `policy`: does the controller learn, and does it specialise? Judged on stored tables of exact rewards.

A table is what a run leaves in `tables/roundN.npz`. Each setting of the
controller is trained anew on one half of validation and judged on the other,
both ways (DESIGN §3.4), for several seeds. `paper` has the controller's
settings of flags/paper.flags, but reads the same rewards as the others.
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
import zlib
from typing import Sequence

import numpy as np
import pandas as pd
from absl import logging

from galm_tf import addons, search_space, selection
from galm_tf.benchmark.paired import mean_interval
from galm_tf.benchmark.results import write_files
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.errors import UserError
from galm_tf.reward import RewardTable

PAPER = dict(  # §3.4, §4.1
    controller_steps=2000,
    samples_per_step=1,
    controller_optimizer="sgd",
    controller_learning_rate=1e-4,
    conditioning="concat",
    embedding_scale=0.1,
    entropy_weight=0.0,
    baseline="global",
    normalize_advantage=False,
    derive_top=1,
)
SETTINGS = {
    "default": {},
    "paper": PAPER,
    "nas": {"controller_cell": "nas"},
    "layernorm_lstm": {"controller_cell": "layernorm_lstm"},
    "most_probable": {"derive_top": 1},
    # the default less one thing each
    "concat": {"conditioning": "concat"},
    "small_embeddings": {"embedding_scale": 0.1},
    "raw_advantage": {"normalize_advantage": False},
    "global_baseline": {"baseline": "global"},
    "no_entropy": {"entropy_weight": 0.0},
    "raw_no_entropy": {"normalize_advantage": False, "entropy_weight": 0.0},
}
PLANTED = "planted"


def run_policy(config: Config, tables: Sequence[str], settings: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """One row per (table, setting, seed).

    Columns: table, method (the setting), seed, attributes, skill, specialisation
    (of the policy: its choice minus the best single architecture of the half
    that it saw, on the other half) with low and high (95 % Student-t interval
    over attributes), regret (on the very table it saw) and entropy in nats.
    """
    if not tables:
        raise UserError(
            f"Expected --reward_tables to name a run's tables/roundN.npz, or {PLANTED}. Received: none; name one, or leave it out."
        )
    rows = []
    own = {name: _with_setting(config, name) for name in settings}
    read = [read_table(path) for path in tables]
    for path, table in zip(tables, read):
        if table.crossfitted.sum() < 2:
            raise UserError(
                "Expected --reward_tables with at least two attributes that both halves of validation can judge. Received: "
                f"{path} with {int(table.crossfitted.sum())}; take a run on more images."
            )
    for shown, table in zip(_names(tables), read):
        for name in settings:
            for seed in seeds:
                figures = judge(table, dataclasses.replace(own[name], seed=seed))
                rows.append({"table": shown, "method": name, "seed": seed, **figures})
                logging.info("%s %s seed %d: skill %.3f", rows[-1]["table"], name, seed, rows[-1]["skill"])
    return pd.DataFrame(rows)


def _with_setting(config: Config, name: str) -> Config:
    """The settings with those of a name; raises UserError where this stack cannot have them."""
    own = dataclasses.replace(config, **SETTINGS[name])
    try:
        addons.expect_cell(own.controller_cell)
    except UserError as error:
        raise UserError(f"{error} Asked for by --settings={name}.") from None
    return own


def judge(table: RewardTable, config: Config) -> dict[str, float]:
    """Figures of one policy: see `run_policy`."""
    strategy = ControllerTraining(len(table.full), config)
    choices = strategy.crossfit(table)
    gains = selection.specialisation(table, choices)
    strategy.train_on_table(table, 0, config.rounds * config.controller_steps)
    mean, low, high = mean_interval(gains)
    return {
        "attributes": int(table.crossfitted.sum()),
        "skill": selection.crossfitted_skill(table, choices),
        "specialisation": mean,
        "low": low,
        "high": high,
        "regret": selection.regret(table, strategy.choose(table)),
        "entropy": selection.entropy(strategy.log_probs()),
    }


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds per table and setting; of the skill also its standard deviation."""
    grouped = table.groupby(["table", "method"], sort=False)
    means = grouped[["attributes", "skill", "specialisation", "low", "high", "regret", "entropy"]].mean()
    means.insert(2, "skill_std", grouped["skill"].std())
    return means.reset_index()


def write(table: pd.DataFrame, out: str) -> None:
    """Prints the summary; writes policy.csv (every seed) and policy.txt into `out`."""
    text = summarise(table).to_string(index=False, float_format="%.3f", na_rep="")
    write_files(out, {"policy.csv": table, "policy.txt": text + "\n"})
    print(text)


def read_table(path: str) -> RewardTable:
    """Rewards stored by a run, or planted ones; raises UserError for anything else."""
    if path == PLANTED:
        return planted_table()
    try:
        with np.load(path) as stored:
            table = RewardTable.from_arrays(stored)
        if any(part.shape != (len(table.full), search_space.NUM_ARCHITECTURES) for part in (table.full, *table.halves)):
            raise ValueError(f"arrays of shape {table.full.shape}, not [attributes, {search_space.NUM_ARCHITECTURES}]")
        return table
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            # which NumPy offers to read at a risk
            reason = "no file of arrays" if "pickle" in str(error) else str(error)
        raise UserError(
            f"Expected --reward_tables to name a run's tables/roundN.npz, or {PLANTED}. Received: {path} ({reason}); correct the name, or leave it out."
        ) from error


def planted_table(attributes: int = 24) -> RewardTable:
    """Half common, half own main effects of the ten decisions, standard deviation 0.02, and noise of 0.02 on each
    half.
    """
    rng = np.random.default_rng(0)
    counts = search_space.NUM_CHOICES
    effects = rng.normal(size=(1, sum(counts))) + rng.normal(size=(attributes, sum(counts)))
    one_hot = np.concatenate([np.eye(n)[search_space.all_indices()[:, d]] for d, n in enumerate(counts)], axis=1)
    rewards = effects @ one_hot.T
    rewards = 0.7 + 0.02 * (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    halves = [(rewards + 0.02 * rng.normal(size=rewards.shape)).astype(np.float32) for _ in range(2)]
    return RewardTable(((halves[0] + halves[1]) / 2).astype(np.float32), (halves[0], halves[1]))


def _names(paths: Sequence[str]) -> list[str]:
    """runs/sun/tables/round2.npz -> sun/round2, with as much of the path before it as tells all apart."""
    parts = [[p for p in os.path.normpath(path).split(os.sep) if p != "tables"] for path in paths]
    for length in range(2, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]).removesuffix(".npz") for p in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)
