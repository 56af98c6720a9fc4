"""Small pictures whose attributes can be seen: coloured bars at random places, for learners that train on images."""

import numpy as np

from galm_tf.baselines.learner import Inputs, LearnerData

SIDE, ATTRIBUTES = 32, 4
_FLIP = 0.15  # share of images in which an attribute differs from its class
_BARS = np.array([[140, -60, -60], [-60, 140, -60], [-60, -60, 140], [120, 120, 120]])


def planted_pictures(classes, images=10, seed=0):
    """LearnerData of `classes` classes; attribute i shows as a bar of its colour, the last one crosswise."""
    rng = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(classes), images)
    labels = rng.integers(0, 2, (classes, ATTRIBUTES))[class_ids]
    labels ^= rng.random(labels.shape) < _FLIP
    pictures = 100 + 20 * rng.normal(size=(len(labels), SIDE, SIDE, 3))
    for picture, label in zip(pictures, labels):
        for i in np.flatnonzero(label):
            at = rng.integers(0, SIDE - 6)
            (picture if i < 3 else picture.transpose(1, 0, 2))[:, at : at + 6] += _BARS[i]
    pictures = np.clip(pictures, 0, 255).astype(np.uint8)
    features = pictures.reshape(len(labels), 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(labels), -1) / 255
    return LearnerData(Inputs(pictures, features.astype(np.float32)), labels.astype(np.float32), class_ids)
