"""Rewards with a known best architecture, and how near a policy comes to it."""

import numpy as np
import tensorflow as tf

from galm_tf import search_space

INDICES = search_space.all_indices()


def planted(targets):
    """Reward table with one best architecture per row: 0.65 plus 0.02 times the share of its choices taken."""
    agree = (INDICES[None] == INDICES[np.asarray(targets)][:, None]).mean(2)
    return (0.65 + 0.02 * agree).astype(np.float32)


def quality(controller, table):
    """Mean over attributes of (reward of the most probable - mean) / (best - mean)."""
    chosen = controller.all_log_probs(tf.range(len(table))).numpy().argmax(1)
    got = table[np.arange(len(table)), chosen] - table.mean(1)
    return float((got / (table.max(1) - table.mean(1))).mean())
