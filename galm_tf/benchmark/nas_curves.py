"""How far a search has come after so many architectures and seconds: the curves of suite `nas`.

A method that shares weights is stopped at log-spaced budgets and asked what it
would choose; a peer's curve has a point per child. Both are JSON, a cell each.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from galm_tf import search_space
from galm_tf.benchmark import peers
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.reward import RewardTable
from galm_tf.strategies import METHODS
from galm_tf.strategies.enas import Enas
from galm_tf.strategies.enas_each import EnasEach
from galm_tf.strategy import Strategy

_POINTS = 13


def trajectory(method: str, table: RewardTable, config: Config) -> list[dict[str, Any]]:
    """What a method chooses from these rewards after more and more of its steps.

    Args:
      method: a value of --method.
      table: rewards on validation, of N attributes.
      config: `rounds * controller_steps` steps of `samples_per_step` rewards are the whole budget.

    Returns:
      Points in order, each with seconds (of the method alone, with what one choice takes as a rule), architectures
      (rewards read per attribute, see `rewards_read`) and chosen (N numbers of architectures). A method that does not
      learn has one.
    """
    started = time.monotonic()
    strategy = METHODS[method](len(table.full), config)
    strategy.choose(table)  # the first time traces, which the search has to pay for once
    total = config.rounds * config.controller_steps if strategy.learns else 0
    own, done, points, choices = time.monotonic() - started, 0, [], []
    for step in budgets(total, config.evaluations):
        started = time.monotonic()
        if step > done:
            strategy.train_on_table(table, done, step - done)
        own, done, started = own + time.monotonic() - started, step, time.monotonic()
        chosen = strategy.choose(table)
        choices.append(time.monotonic() - started)
        read = rewards_read(strategy, table, step)
        if read or not strategy.rewarded:
            points.append({"seconds": own, "architectures": read, "chosen": [int(c) for c in chosen]})
    own_choice = float(np.median(choices)) if strategy.learns else 0.0  # the others have chosen above
    return [{**point, "seconds": point["seconds"] + own_choice} for point in points]


def budgets(total: int, evaluations: int) -> list[int]:
    """Log-spaced steps from the one that reads a first reward of `evaluations` to all: ascending; [0] of no steps."""
    if not total:
        return [0]
    return [int(s) for s in np.unique(np.ceil(np.geomspace(max(1.0, total / evaluations), total, _POINTS) - 1e-9))]


def rewards_read(strategy: Strategy, table: RewardTable, steps: int) -> float:
    """Rewards of each attribute that a strategy has read after so many steps, those of its choice included.

    A policy's samples count each time: the same network may be sampled often.
    ENAS is rewarded by the mean, so each of its samples reads one reward of
    every attribute; a policy of an attribute's own reads all its samples' too; GALM's are shared among the attributes.
    """
    samples = float(steps * strategy.config.samples_per_step)
    if isinstance(strategy, (Enas, EnasEach)):
        return samples + strategy.config.derive_top
    if isinstance(strategy, ControllerTraining):
        return samples / max(1, int(table.rewarded.sum())) + strategy.config.derive_top
    if strategy.learns:
        return float(strategy.figures(table)["evaluations_per_attribute"])
    return float(search_space.NUM_DISTINCT if strategy.rewarded else 0)


def children_curve(cell: peers.Cell, result: dict[str, Any]) -> dict[str, Any]:
    """A finished cell's curve.

    Returns:
      Lists with an entry per child: seconds since the search began, architectures (distinct ones so far), val_auc (best
      so far) and test_auc (of the child that is best so far, with its own weights); and of the search epochs,
      steps_per_epoch, retrained_test_auc and retrain_seconds.
    """
    children, curve, tested = result["children"], peers.curve(result["children"]), []
    for child, better in zip(children, curve["best_val_auc"].diff().ne(0)):
        tested.append(cell.test_auc(child["trial"]) if better else tested[-1])
    return {
        "seconds": curve["seconds"].tolist(),
        "architectures": curve["architectures"].tolist(),
        "val_auc": curve["best_val_auc"].tolist(),
        "test_auc": tested,
        "epochs": sum(c["epochs"] for c in children),
        "steps_per_epoch": -(-len(cell.data.train) // cell.config.batch_size),
        "retrained_test_auc": result["test_auc"],
        "retrain_seconds": result["retrain_seconds"],
    }
