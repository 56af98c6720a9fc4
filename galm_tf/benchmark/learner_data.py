"""What attribute learners see: images, one kind of features, and the data of sources."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np

from galm_tf import leakage, linear_pixels, preparation, source_runs
from galm_tf.baselines import features as features_lib
from galm_tf.baselines import network_features
from galm_tf.baselines.learner import Inputs, LearnerData, join
from galm_tf.config import Config
from galm_tf.data import labelled
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.run_folder import read_config, with_kept_tables

PIXELS, FILE, TRUNK, VGG16 = "pixels", "file", "trunk", "vgg16"
_FLAG_OF = {FILE: "features_file", TRUNK: "features_run", VGG16: "vgg16_weights"}
FEATURES = (PIXELS, *_FLAG_OF)
OWN_RUN = "own run"  # in place of a --features_run: a table's run of the same domain and split, without a source


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """Which features; the fields are flags of the same names.

    Attributes:
      features: one of FEATURES.
      features_file: of `file`, an npz (see `baselines.features`).
      features_run: of `trunk`, the folder of a finished run, or OWN_RUN.
      vgg16_weights: of `vgg16`, Keras' file of weights.
    """

    features: str = PIXELS
    features_file: str = ""
    features_run: str = ""
    vgg16_weights: str = ""

    @property
    def files(self) -> list[str]:
        """The files that they change with; of a run its result, of OWN_RUN none."""
        run = self.features_run and self.features_run != OWN_RUN
        paths = [self.features_file, self.vgg16_weights, os.path.join(self.features_run, "result.json") if run else ""]
        return [os.path.expanduser(path) for path in paths if path]

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


def settings_per_domain(
    domains: int, features: str, vgg16_weights: str, own_runs: bool = False, **paths: Sequence[str]
) -> list[FeatureSettings]:
    """Settings of so many domains.

    Args:
      domains: how many.
      features: one of FEATURES.
      vgg16_weights: see FeatureSettings.
      own_runs: `trunk` without paths is that of a table's own runs.
      paths: features_file and features_run, one per domain each, or empty.
    """
    for flag, given in paths.items():
        if given and len(given) != domains:
            which = f"per domain, {domains} in all" if domains > 1 else "for all images, of every domain"
            raise UserError(f"Expected one --{flag} {which}. Received: {flag}={','.join(given)}.")
    if own_runs and features == TRUNK and not paths["features_run"]:
        paths["features_run"] = [OWN_RUN] * domains
    per_domain = [{flag: given[i] if given else "" for flag, given in paths.items()} for i in range(domains)]
    return [FeatureSettings(features, **of_domain, vgg16_weights=vgg16_weights) for of_domain in per_domain]


def expect_weights(settings: FeatureSettings) -> None:
    """Raises UserError where there is no file of the weights that features are made with, before any image is read."""
    if settings.vgg16_weights:
        network_features.expect_weights_file(os.path.expanduser(settings.vgg16_weights))


def make_features(settings: FeatureSettings, config: Config, prepared: preparation.Prepared) -> tuple[np.ndarray, str]:
    """Features of every record, [n, D], and their name."""
    if settings.features == FILE:
        path = os.path.expanduser(settings.features_file)
        return features_lib.read_features(path, prepared.domain.paths), os.path.basename(path)
    if settings.features == TRUNK:
        theirs = read_config(settings.features_run, "features_run")
        name = f"{'pretrained ' * bool(theirs.trunk_model)}trunk of {os.path.basename(os.path.abspath(settings.features_run))}"
        return _trunk_features(settings.features_run, theirs, config, prepared), name
    if settings.features == VGG16:
        large = dataclasses.replace(config, image_size=network_features.VGG16_SIZE)
        images = prepared.images if config.image_size == large.image_size else load_images(prepared.domain, large)[1]
        return network_features.vgg16_features(os.path.expanduser(settings.vgg16_weights), images), "vgg16"
    return linear_pixels.pixel_features(prepared.images), "pixels 16x16"


def read_trunk(path: str, theirs: Config, config: Config) -> source_runs.Source:
    """A finished run, by its settings, whose trunk is asked about images of `config`; raises UserError for what is
    none, or takes images of another size.
    """
    return source_runs.read_source(path, dataclasses.replace(theirs, image_size=config.image_size), "features_run")


def with_flags(source: leakage.Learned, config: Config, vary: str) -> leakage.Learned:
    """With its split by flags for a message, where it is not that of the settings and repetitions differ in `vary`."""
    if source.split == leakage.split_settings(config) or vary == "seed":
        return source
    flags = {"vary": "seed", **source.split}
    if not source.split["splits_file"]:
        flags = {"splits": source.split["split_seed"], "test_split": source.split["test_split"]}
    return dataclasses.replace(source, split=flags)


def _trunk_features(path: str, theirs: Config, config: Config, prepared: preparation.Prepared) -> np.ndarray:
    source = read_trunk(path, theirs, config)
    leakage.expect_unseen(source, config, prepared.domain, prepared.split, "features_run")
    return network_features.trunk_features(
        source, prepared.images, labelled(prepared.split.train, prepared.domain), theirs
    )


def training_data(
    prepared: preparation.Prepared, features: np.ndarray, config: Config, source: Optional[LearnerData] = None
) -> LearnerData:
    """The images that GALM's last training sees by the settings: with those of validation where it is fine-tuned."""
    split, domain = prepared.split, prepared.domain
    index = np.sort(split.trained if config.finetunes_on_validation else split.train)
    inputs = Inputs(prepared.images[index], features[index])
    return LearnerData(inputs, domain.labels[index], domain.class_ids[index], source, domain.targets[index])


def source_data(config: Config, settings: FeatureSettings) -> tuple[Optional[LearnerData], list[leakage.Learned]]:
    """The training images of the domains of `config.source_run`, None without, and what may not be tested beside
    them.
    """
    parts, learned = [], []
    for path in config.source_run:
        theirs = dataclasses.replace(
            with_kept_tables(read_config(path), path), image_size=config.image_size, cache_dir=config.cache_dir
        )
        _expect_all_labels(theirs, path)
        _expect_other_domains(config, theirs, path)
        prepared = preparation.prepare(theirs)
        parts.append(training_data(prepared, make_features(settings, theirs, prepared)[0], config))
        learned.append(leakage.Learned.of(path, theirs, prepared.domain, prepared.split))
    return join(parts) if parts else None, learned


def _expect_all_labels(theirs: Config, path: str) -> None:
    """Learners would see labels of validation images, which the run has left out."""
    if theirs.train_positives:
        raise UserError(
            f"Expected a --source_run with all labels where attribute learners take part. Received: source_run={path} with "
            f"train_positives={theirs.train_positives}; name another."
        )


def _expect_other_domains(config: Config, theirs: Config, path: str) -> None:
    """Its training images could be among the ones that are tested here."""
    shared = sorted(set(config.domain) & set(theirs.domain))
    if shared:
        raise UserError(
            f"Expected a --source_run on other domains than --domain={','.join(config.domain)}. Received: "
            f"source_run={path} on {','.join(theirs.domain)}; leave it out, since learners see all images of {shared[0]} anyway."
        )
