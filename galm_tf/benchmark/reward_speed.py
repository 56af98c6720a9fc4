"""Suite `reward`: the exact engine against scoring one architecture at a time, the reward included on both sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf

from galm_tf import search_space
from galm_tf.benchmark.timing import Case, compare
from galm_tf.config import Config
from galm_tf.gates import gates_from_indices
from galm_tf.metrics import reward_columns
from galm_tf.reward import RewardEngine, ScoringImages
from galm_tf.supernet import build_supernet, margins

_CALIBRATION, _SCORED, _ONE_BY_ONE = 512, 1000, 12


def measure(config: Config, repeats: int) -> pd.DataFrame:
    """Rates in architectures a second, on random images and weights: 512 calibration and 1000 scored images."""
    rng = np.random.default_rng(config.seed)
    supernet = build_supernet(4, config.image_size, 0.0, config.seed)
    pixels = rng.normal(size=(_CALIBRATION + _SCORED, config.image_size, config.image_size, 3)).astype(np.float32)
    trunk = tf.function(lambda x: supernet.trunk(x))
    supernet.trunk(pixels[:_CALIBRATION], training=True)
    maps = [trunk(tf.constant(pixels[s : s + 252])) for s in range(0, len(pixels), 252)]
    features = tuple(np.concatenate(parts) for parts in zip(*maps))
    labels = (rng.random((_SCORED, 4)) < 0.2).astype(np.float32)
    images = ScoringImages(features, _CALIBRATION, labels, np.zeros(_SCORED, int))
    engine = RewardEngine(supernet, images, config.reward, config.reward_memory_mib)

    @tf.function
    def score(maps_, gates):
        return margins(supernet.tower_logits(maps_, tf.constant([0]), gates, tf.constant(_CALIBRATION)))

    indices = search_space.all_indices()[rng.integers(0, search_space.NUM_ARCHITECTURES, _ONE_BY_ONE)]
    cached = [tf.constant(m) for m in features]

    def one_by_one(fresh: bool):
        for row in indices:
            maps_ = (
                cached
                if not fresh
                else [tf.concat(p, 0) for p in zip(*(trunk(pixels[s : s + 252]) for s in range(0, len(pixels), 252)))]
            )
            scores = score(maps_, gates_from_indices(row[None]))[_CALIBRATION:, 0].numpy()
            reward_columns(config.reward, labels[:, 0], scores[None], 0.0)

    return compare(
        [
            Case("one by one, cached trunk", lambda: one_by_one(False), _ONE_BY_ONE, "architectures/s"),
            Case("one by one, trunk each time", lambda: one_by_one(True), _ONE_BY_ONE, "architectures/s"),
            Case(
                "exact engine (one reward)",
                lambda: engine.rewards(0, halves=False),
                search_space.NUM_DISTINCT,
                "architectures/s",
            ),
            Case(
                "exact engine (and both halves)",
                lambda: engine.rewards(0),
                search_space.NUM_DISTINCT,
                "architectures/s",
            ),
        ],
        repeats,
        further=[(2, 1)],  # the engine against what it takes the place of
    )
