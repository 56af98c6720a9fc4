"""Cross-fitted skill of the controller's cells on one table of rewards.

    python -m benchmarks.controller_cells [runs/NAME/tables/round2.npz]

Without a table a planted one is made. Every cell takes the same steps; skill is 1 where the
policy chooses as well as the table's best entry, judged on rewards that neither has seen.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import time

import numpy as np
from absl import flags

from galm_tf import search_space, selection
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.reward import RewardTable

FLAGS = flags.FLAGS


def planted(attributes: int = 24) -> RewardTable:
    """Half common, half own main effects of the ten decisions, standard deviation 0.02, and noise of 0.02 on each half."""
    rng = np.random.default_rng(0)
    counts = search_space.NUM_CHOICES
    effects = rng.normal(size=(1, sum(counts))) + rng.normal(size=(attributes, sum(counts)))
    one_hot = np.concatenate([np.eye(n)[search_space.all_indices()[:, d]] for d, n in enumerate(counts)], axis=1)
    rewards = effects @ one_hot.T
    rewards = 0.7 + 0.02 * (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    halves = [(rewards + 0.02 * rng.normal(size=rewards.shape)).astype(np.float32) for _ in range(2)]
    return RewardTable(((halves[0] + halves[1]) / 2).astype(np.float32), (halves[0], halves[1]))


def skill(table: RewardTable, cell: str, seed: int, steps: int) -> tuple[float, float]:
    """(cross-fitted skill, seconds) of one policy."""
    started = time.monotonic()
    config = Config(controller_cell=cell, seed=seed, rounds=1, controller_steps=steps)
    choices = ControllerTraining(len(table.full), config).crossfit(table)
    return selection.crossfitted_skill(table, choices), time.monotonic() - started


def main(arguments: list[str]) -> None:
    """Prints one line per cell."""
    table = planted()
    if arguments[1:]:
        with np.load(arguments[1]) as stored:
            table = RewardTable.from_arrays(stored)
    print(f"{int(table.crossfitted.sum())} attributes, {FLAGS.steps} steps, seeds 0 to {FLAGS.seeds - 1}", flush=True)
    for cell in FLAGS.cells:
        skills, seconds = zip(*(skill(table, cell, seed, FLAGS.steps) for seed in range(FLAGS.seeds)))
        each = ", ".join(f"{s:.3f}" for s in skills)
        spread = np.std(skills, ddof=1) if len(skills) > 1 else 0.0
        print(f"{cell:<16} {np.mean(skills):.3f} ± {spread:.3f} ({each}), {np.mean(seconds):.0f} s each", flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("cells", ["lstm", "nas", "layernorm_lstm"], "Values of --controller_cell.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
    flags.DEFINE_integer("steps", 1000, "Controller steps.", lower_bound=1)
    command_line.run(main)
