"""Suite `input`: the second start against the first, and the input pipeline against the trunk that it feeds."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile

import numpy as np
import pandas as pd
import tensorflow as tf

from galm_tf.benchmark.timing import Case, compare
from galm_tf.config import Config
from galm_tf.data import BatchPlan, training_batches
from galm_tf.domains import load_domains
from galm_tf.image_cache import load_images
from galm_tf.preprocess import scale_images
from galm_tf.supernet import build_trunk


def measure(config: Config, repeats: int) -> pd.DataFrame:
    """Two comparisons in one table; images are those of the settings' domains."""
    domain = load_domains(config)
    _, images, _ = load_images(domain, config)
    return pd.concat([_starts(config, min(repeats, 3)), _pipeline(images, config, repeats)], ignore_index=True)


def _starts(config: Config, repeats: int) -> pd.DataFrame:
    """From settings to the first batch: with an empty cache, and again."""
    folder = tempfile.mkdtemp(prefix="galm-cache-")
    config = dataclasses.replace(config, cache_dir=folder)

    def first_batch() -> np.ndarray:
        domain, images, _ = load_images(load_domains(config), config)
        plan = BatchPlan(np.arange(len(domain.paths)), config.batch_size, config.seed)
        return next(iter(training_batches(images, plan, 0, 1)))["image"].numpy()

    def first_start() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        first_batch()

    try:
        cases = [Case("first start", first_start, 1, "starts/s"), Case("second start", first_batch, 1, "starts/s")]
        return compare(cases, repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pipeline(images: np.ndarray, config: Config, repeats: int) -> pd.DataFrame:
    steps, batch = 40, config.batch_size
    plan = BatchPlan(np.arange(len(images)), batch, config.seed)
    train = _trunk_step(images, config)

    def deliver() -> None:
        for item in training_batches(images, plan, 0, 10 * steps):
            del item

    trunk = Case("trunk training step", lambda: [train() for _ in range(steps // 4)], batch * (steps // 4), "images/s")
    return compare([trunk, Case("input pipeline", deliver, batch * 10 * steps, "images/s")], repeats)


def _trunk_step(images: np.ndarray, config: Config):
    """Forward and backward through Conv-1 to Conv-3 on one batch."""
    trunk = build_trunk(config.image_size, np.random.default_rng(0))
    batch = tf.constant(np.asarray(images[: config.batch_size]))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(tf.square(m)) for m in trunk(scale_images(batch), training=True)])
        return [tf.reduce_sum(g) for g in tape.gradient(loss, trunk.trainable_variables)]

    return step
