"""Every random draw of a run as a stateless function of (seed, stream, step).

A resumed run therefore needs no generator state, and an interrupted one ends
with the same numbers as an undisturbed one.
"""

from __future__ import annotations

import enum

import numpy as np


# of draws for a pretrained trunk: runs of all seeds on one split share it, and what it has made of the images
ANY_SEED = 0


class Stream(enum.IntEnum):
    """What a draw is for; different streams never share numbers."""

    BATCHES = 1
    ATTRIBUTES = 2
    ARCHITECTURES = 3
    NOISE = 4  # augmentation and dropout
    CONTROLLER = 5
    CALIBRATION = 6
    HALVES = 7
    BASELINE = 8
    CLASSES = 9  # held-out classes
    VALIDATION = 10  # held-out images
    SPLIT = 11  # class-disjoint splits by seed
    MATCHES = 12  # of target attributes with source attributes
    VIEWS = 13  # cached changes of images for a trunk that no longer learns
    POSITIVES = 14  # that stay known with few labels
    REWARD_IMAGES = 15  # some of the validation images
    PROJECTION = 16  # training images that a pretrained trunk's maps are projected by
    TRUNK = 17  # changes of the images that a pretrained trunk's upper layers learn from


def generator(seed: int, stream: Stream, step: int = 0) -> np.random.Generator:
    """A NumPy generator for one step of one stream."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), step])))


def from_tensor_seed(seed: np.ndarray) -> np.random.Generator:
    """A NumPy generator of what `tensor_seed` gave."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int(s) for s in seed])))


def tensor_seed(seed: int, stream: Stream, step: int = 0) -> np.ndarray:
    """Seed for TensorFlow's stateless ops: non-negative int32 [2]."""
    state = np.random.SeedSequence([seed, int(stream), step]).generate_state(2)
    return (state >> np.uint32(1)).astype(np.int32)
