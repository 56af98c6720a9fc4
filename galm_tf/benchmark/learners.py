"""Suite `learners`: other attribute learners, on the same splits and test attributes as GALM.

The learners see the images of training and validation, as GALM's fine-tuning
does (of training alone where there is none), or features of them, and choose
their settings among these classes. Beside them stands ridge regression on the
same features. Features of networks that were trained on ImageNet know many
classes of these data sets: compare within one kind of features only. Learners
that train networks have as many steps as all of GALM's phases, and AMT up to as
many again for its auxiliary layer alone; where their batches are of target and
sources together, so many more that they see as much of the target.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from galm_tf import evaluation, leakage, linear_pixels, preparation
from galm_tf.baselines import sources
from galm_tf.baselines.afs import AFS
from galm_tf.baselines.ale import ALE
from galm_tf.baselines.amt import AMT
from galm_tf.baselines.convnet import Training
from galm_tf.baselines.dap import DAP
from galm_tf.baselines.fmt import FMT
from galm_tf.baselines.ft import FT
from galm_tf.baselines.hap import HAP
from galm_tf.baselines.iap import IAP
from galm_tf.baselines.learner import AttributeLearner, Inputs, LearnerData
from galm_tf.baselines.mdg import MDG
from galm_tf.baselines.sources import ScoresAsFeatures, Union
from galm_tf.baselines.umf import UMF
from galm_tf.benchmark import learner_data
from galm_tf.benchmark.paired import REPETITION
from galm_tf.benchmark.same_data import SameData
from galm_tf.config import Config
from galm_tf.domains.build import with_classes
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError
from galm_tf.run_folder import read_config
from galm_tf.words import listed

RIDGE = "ridge"
LEARNERS: dict[str, Callable[[Training], AttributeLearner]] = {
    "dap": lambda training: DAP(),
    "iap": lambda training: IAP(),
    "ale": lambda training: ALE(seed=training.seed),
    "hap": lambda training: HAP(seed=training.seed),
    "umf": lambda training: UMF(seed=training.seed),
    "mdg": lambda training: MDG(seed=training.seed),
    "afs": AFS,
    "ft": FT,
    "amt": AMT,
    "fmt": FMT,
}
_WITHOUT_SOURCE = {
    "afs": "afs has no source here: in its place every attribute asks the others of its own domain",
    "ft": "ft has no source domain here: its source task is to recognise the training classes",
}
SEE_IMAGES = ("ft", "amt", "fmt")  # the features are none of theirs
BATCHES_OF_ALL = ("afs", "amt", "fmt")  # where there are sources; FT learns one after the other
_SOURCE_USE = {"dap": ScoresAsFeatures, **dict.fromkeys(("iap", "ale", "hap", "umf", "mdg", "amt", "fmt"), Union)}


def training(config: Config, longer: float = 1.0) -> Training:
    """How networks are trained: by the settings of GALM's supernet, with so many times the steps of all its phases."""
    steps = config.warmup_steps + config.rounds * config.supernet_steps + config.adapt_steps + config.finetune_steps
    names = [f.name for f in dataclasses.fields(Training) if f.name != "steps"]
    return Training(steps=max(1, round(longer * steps)), **{name: getattr(config, name) for name in names})


def make(name: str, config: Config, data: LearnerData) -> AttributeLearner:
    """A learner of these data; with a source one that uses it, in its own way or in that of `baselines.sources`."""
    how = training(config, sources.longer(data) if name in BATCHES_OF_ALL else 1.0)
    use = None if data.source is None else _SOURCE_USE.get(name)
    return use(lambda: LEARNERS[name](how)) if use else LEARNERS[name](how)


def without_source(learners: Sequence[str]) -> list[str]:
    """Sentences on what learners that are made to have a source do where they have none."""
    return [_WITHOUT_SOURCE[name] for name in learners if name in _WITHOUT_SOURCE]


def expect_all_labels(learners: Sequence[str], train_positives: int) -> None:
    """Raises UserError where labels shall be few: learners see those of validation."""
    if train_positives:
        raise UserError(
            f"Expected all labels where attribute learners take part. Received: learners={','.join(learners)} and "
            f"train_positives={train_positives}; leave one out."
        )


def expect_classes(domain: Domain) -> None:
    """Raises UserError where a domain has no classes: learners choose their settings on some that they were not fitted
    on.
    """
    without = domain.image_domains[~with_classes(domain)]
    if len(without):
        raise UserError(
            f"Expected classes in {domain.domain_names[without[0]]}, of which learners hold some out to choose their settings. Received: none; add a "
            "column class, or take data that have one."
        )


def run_learners(
    config: Config, learners: Sequence[str], seeds: Sequence[int], vary: str, settings: learner_data.FeatureSettings
) -> pd.DataFrame:
    """Test mAUC of every (learner, seed).

    Args:
      config: the data and its split; `source_run` names the runs whose domains are sources.
      learners: keys of `LEARNERS`.
      seeds: numbers of the repetitions.
      vary: `seed` (same split, other draws) or `split_seed` (another class-disjoint split each).
      settings: of the features.

    Returns:
      Columns method, seed or split, features, test_mauc, num_attributes_tested, settings, seconds.
    """
    expect_all_labels(learners, config.train_positives)
    learner_data.expect_weights(settings)
    source, learned = learner_data.source_data(config, settings)
    seen: list[tuple[str, leakage.Learned]] = [("source_run", theirs) for theirs in learned]
    if settings.features == learner_data.TRUNK:
        path = settings.features_run
        seen.append(("features_run", learner_data.read_trunk(path, read_config(path, "features_run"), config)))
    cells = [dataclasses.replace(config, **{vary: number}) for number in seeds]
    same = SameData("suite")
    data = [same.prepare(cell) for cell in cells]
    for cell, prepared in zip(cells, data):  # before anything is fitted
        expect_classes(prepared.domain)
        for flag, theirs in seen:
            theirs = learner_data.with_flags(theirs, cell, vary)
            leakage.expect_unseen(theirs, cell, prepared.domain, prepared.split, flag)
    rows, names = [], (RIDGE, *learners)
    for number, cell, prepared in zip(seeds, cells, data):
        shown = features_of(prepared, cell, settings, source)
        for name in names:
            print(f"Learner {len(rows) + 1} of {len(seeds) * len(names)}: {name}, {REPETITION[vary]} {number}")
            rows.append({"method": name, REPETITION[vary]: number, **run_one(name, shown, prepared, cell)})
    return pd.DataFrame(rows)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What learners see of a domain: features float32 [n, D] of all records, their kind, and what they are fitted
    on.
    """

    features: np.ndarray
    kind: str
    data: LearnerData


def features_of(
    prepared: preparation.Prepared,
    config: Config,
    settings: learner_data.FeatureSettings,
    source: Optional[LearnerData] = None,
) -> Seen:
    """Features of every record by the settings, and the learners' training data with them."""
    features, kind = learner_data.make_features(settings, config, prepared)
    return Seen(
        features, f"{kind} ({features.shape[1]})", learner_data.training_data(prepared, features, config, source)
    )


def weighing(config: Config, weighed: Sequence[str]) -> list[str]:
    """What a reader of a table with learners must know, where classes may count alike to these beside them."""
    told = (
        f"where the tested classes are unseen, classes count alike to {listed(weighed, len(weighed))} (--class_balance), and to the learners every image "
        "does: --class_balance=0 gives equal terms"
    )
    return [told] if config.class_balance else []


def run_one(name: str, seen: Seen, prepared: preparation.Prepared, config: Config) -> dict[str, Any]:
    """The figures of one learner: fitted, then tested once."""
    started = time.monotonic()
    scores, chosen = _score(name, seen, prepared, config)
    aucs = evaluation.auc_per_attribute(prepared.domain.labels[prepared.split.test], scores)
    kind = f"images {config.image_size}x{config.image_size}" if name in SEE_IMAGES else seen.kind
    row = {
        "features": kind,
        "test_mauc": evaluation.mean_auc(aucs),
        "num_attributes_tested": int(np.isfinite(aucs).sum()),
    }
    return {**row, "settings": chosen, "seconds": time.monotonic() - started}


def _score(name: str, seen: Seen, prepared: preparation.Prepared, config: Config) -> tuple[np.ndarray, str]:
    """Scores of the test images, [t, N], and the settings that were chosen, in words."""
    test, domain = prepared.split.test, prepared.domain
    if name == RIDGE:
        how = linear_pixels.like_galm(domain, config)
        return linear_pixels.fit_and_score(seen.features, domain.labels, domain.targets, prepared.split, *how), ""
    learner = make(name, config, seen.data).fit(seen.data)
    scores = learner.score(Inputs(prepared.images[test], seen.features[test]))
    return scores, " ".join(f"{k}={v:g}" for k, v in learner.chosen.items())
