"""Suite `controller`: REINFORCE on the table against the paper's batch-1 loop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from galm_tf import search_space
from galm_tf.benchmark.policy import PAPER
from galm_tf.benchmark.timing import Case, compare
from galm_tf.config import Config
from galm_tf.controller_training import BatchRewards, ControllerTraining
from galm_tf.reward import RewardTable, ScoringImages
from galm_tf.supernet import build_supernet

_N, _IMAGES = 60, 256
_PAPER = {**PAPER, "reward": "accuracy", "reward_data": "batch", "reward_bn": "batch", "size_penalty": 0.0}


def measure(config: Config, repeats: int) -> pd.DataFrame:
    """Samples a second: the default controller phase, and one (attribute, architecture) a step scored on a
    mini-batch, whose own statistics are those of its batch norms: cheaper than those of flags/paper.flags.
    """
    rng = np.random.default_rng(config.seed)
    full = rng.normal(0.65, 0.02, (_N, search_space.NUM_ARCHITECTURES)).astype(np.float32)
    fast = ControllerTraining(_N, config)
    paper_config = dataclasses.replace(config, **_PAPER)
    slow = ControllerTraining(_N, paper_config)
    supernet = build_supernet(_N, config.image_size, 0.0, config.seed)
    pixels = rng.normal(size=(_IMAGES, config.image_size, config.image_size, 3)).astype(np.float32)
    maps = tuple(m.numpy() for m in supernet.trunk(pixels, training=True))
    labels = (rng.random((_IMAGES, _N)) < 0.3).astype(np.float32)
    rewards = BatchRewards(supernet, ScoringImages(maps, 0, labels, np.zeros(_IMAGES, int)), paper_config, np.zeros(_N))
    table, steps = RewardTable(full, (full, full)), 50
    return compare(
        [
            Case(
                "batch 1, mini-batch rewards (paper)",
                lambda: [rewards.step(slow, s) for s in range(steps)],
                steps,
                "samples/s",
            ),
            Case(
                "table look-ups",
                lambda: fast.train_on_table(table, 0, steps),
                steps * config.samples_per_step,
                "samples/s",
            ),
        ],
        repeats,
    )
