"""What attribute learners see in suite `learners`: images, one kind of features, and the data of source runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np

from galm_tf import pipeline
from galm_tf.baselines import features as features_lib
from galm_tf.baselines import linear_pixels
from galm_tf.baselines.learner import Inputs, LearnerData
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import read_config

PIXELS, FILE = "pixels", "file"
_FLAG_OF = {FILE: "features_file"}
FEATURES = (PIXELS, *_FLAG_OF)


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """Which features; the fields are flags of the same names.

    Attributes:
      features: one of FEATURES.
      features_file: of `file`, an npz (see `baselines.features`).
    """

    features: str = PIXELS
    features_file: str = ""

    def __post_init__(self) -> None:
        for kind, flag in _FLAG_OF.items():
            value = getattr(self, flag)
            if self.features == kind and not value:
                raise UserError(f"Expected --{flag} beside --features={kind}. Received: none; give a path.")
            if self.features != kind and value:
                raise UserError(
                    f"Expected --features={kind} beside --{flag}. Received: features={self.features} and "
                    f"{flag}={value}; leave one out."
                )


def make_features(settings: FeatureSettings, config: Config, prepared: pipeline.Prepared) -> tuple[np.ndarray, str]:
    """Features of every record, [n, D], and their name."""
    if settings.features == FILE:
        path = os.path.expanduser(settings.features_file)
        return features_lib.read_features(path, prepared.domain.paths), os.path.basename(path)
    return linear_pixels.pixel_features(prepared.images), "pixels 16x16"


def training_data(
    prepared: pipeline.Prepared, features: np.ndarray, source: Optional[LearnerData] = None
) -> LearnerData:
    """The images of training and validation, as GALM's fine-tuning sees them."""
    split, domain = prepared.split, prepared.domain
    index = np.sort(np.concatenate([split.train, split.validation]))
    inputs = Inputs(prepared.images[index], features[index])
    return LearnerData(inputs, domain.labels[index], domain.class_ids[index], source)


def source_data(config: Config, settings: FeatureSettings) -> Optional[LearnerData]:
    """The training images of the domains of `config.source_run`; None without."""
    parts = []
    for path in config.source_run:
        theirs = dataclasses.replace(read_config(path), image_size=config.image_size, cache_dir=config.cache_dir)
        _expect_other_domains(config, theirs, path)
        prepared = pipeline.prepare(theirs)
        parts.append(training_data(prepared, make_features(settings, theirs, prepared)[0]))
    return join(parts) if parts else None


def _expect_other_domains(config: Config, theirs: Config, path: str) -> None:
    """Its training images could be among the ones that are tested here."""
    shared = sorted(set(config.domain) & set(theirs.domain))
    if shared:
        raise UserError(
            f"Expected a --source_run on other domains than --domain={','.join(config.domain)}. Received: "
            f"source_run={path} on {','.join(theirs.domain)}; leave it out, since learners see all images of {shared[0]} anyway."
        )


def join(parts: Sequence[LearnerData]) -> LearnerData:
    """Several domains as one: labels are unknown outside an image's own domain, classes stay apart."""
    labels = np.full((sum(len(p.labels) for p in parts), sum(p.labels.shape[1] for p in parts)), np.nan, np.float32)
    row = column = 0
    class_ids = []
    for number, part in enumerate(parts):
        rows, columns = part.labels.shape
        labels[row : row + rows, column : column + columns] = part.labels
        class_ids.append(np.unique(part.class_ids, return_inverse=True)[1] + sum(len(np.unique(p.class_ids)) for p in parts[:number]))
        row, column = row + rows, column + columns
    inputs = Inputs(*(np.concatenate([getattr(p, kind) for p in parts]) for kind in ("images", "features")))
    return LearnerData(inputs, labels, np.concatenate(class_ids))
