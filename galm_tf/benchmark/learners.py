"""Suite `learners`: attribute learners on image features, on the same splits and test attributes as GALM.

The learners see the images of training and validation, as GALM's fine-tuning
does, and choose their settings among these classes. Beside them stands ridge
regression on the same features. Features of networks that were trained on
ImageNet know many classes of these data sets: compare within one kind of
features only.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from galm_tf import evaluate, pipeline
from galm_tf.baselines import features as features_lib
from galm_tf.baselines import linear_pixels
from galm_tf.baselines.ale import ALE
from galm_tf.baselines.dap import DAP
from galm_tf.baselines.hap import HAP
from galm_tf.baselines.iap import IAP
from galm_tf.baselines.learner import AttributeLearner
from galm_tf.config import Config
from galm_tf.errors import UserError

RIDGE = "ridge"
LEARNERS: dict[str, Callable[[int], AttributeLearner]] = {  # seed -> learner
    "dap": lambda seed: DAP(),
    "iap": lambda seed: IAP(),
    "ale": lambda seed: ALE(seed=seed),
    "hap": lambda seed: HAP(seed=seed),
}


def check(learners: Sequence[str], features: str, features_file: str) -> None:
    """Raises UserError for unknown or repeated learners, and for flags that contradict each other."""
    for name in learners or [""]:
        if name not in LEARNERS:
            near = difflib.get_close_matches(name, LEARNERS, 1, 0.0)
            raise UserError(
                f"Expected --learners to be some of {', '.join(LEARNERS)}. Received: {name or 'none'}; nearest: "
                f"{near[0] if near else next(iter(LEARNERS))}."
            )
    if len(set(learners)) < len(learners):
        raise UserError(f"Expected --learners to name each learner once. Received: learners={','.join(learners)}.")
    if features == "file" and not features_file:
        raise UserError("Expected --features_file beside --features=file. Received: none; name an npz.")
    if features != "file" and features_file:
        raise UserError(
            f"Expected --features=file beside --features_file. Received: features={features} and "
            f"features_file={features_file}; leave one out."
        )


def run_learners(
    config: Config, learners: Sequence[str], seeds: Sequence[int], vary: str, features_file: Optional[str]
) -> pd.DataFrame:
    """Test mAUC of every (learner, seed).

    Args:
      config: the data and its split.
      learners: keys of `LEARNERS`.
      seeds: numbers of the repetitions.
      vary: `seed` (same split, other draws) or `split_seed` (another class-disjoint split each).
      features_file: an npz (see `baselines.features`); None for 16×16 pixels.

    Returns:
      Columns method, seed, features, test_mauc, num_attributes_tested, settings, seconds.
    """
    rows = []
    for number in seeds:
        cell = dataclasses.replace(config, **{vary: number})
        prepared = pipeline.prepare(cell)
        features, kind = features_of(prepared, features_file)
        for name in (RIDGE, *learners):
            rows.append({"method": name, "seed": number, **run_one(name, features, kind, prepared, cell.seed)})
    return pd.DataFrame(rows)


def features_of(prepared: pipeline.Prepared, features_file: Optional[str]) -> tuple[np.ndarray, str]:
    """What the learners see, [n, D], and its name."""
    if features_file is None:
        features, kind = linear_pixels.pixel_features(prepared.images), "pixels 16x16"
    else:
        features = features_lib.read_features(os.path.expanduser(features_file), prepared.domain.paths)
        kind = os.path.basename(features_file)
    return features, f"{kind} ({features.shape[1]})"


def run_one(name: str, features: np.ndarray, kind: str, prepared: pipeline.Prepared, seed: int) -> dict[str, Any]:
    """The figures of one learner: fitted, then tested once."""
    started = time.monotonic()
    scores, settings = _score(name, features, prepared, seed)
    aucs = evaluate.auc_per_attribute(prepared.domain.labels[prepared.split.test], scores)
    row = {"features": kind, "test_mauc": evaluate.mean_auc(aucs), "num_attributes_tested": int(np.isfinite(aucs).sum())}
    return {**row, "settings": settings, "seconds": time.monotonic() - started}


def _score(name: str, features: np.ndarray, prepared: pipeline.Prepared, seed: int) -> tuple[np.ndarray, str]:
    """Scores of the test images, [t, N], and the settings that were chosen, in words."""
    domain, split = prepared.domain, prepared.split
    if name == RIDGE:
        return linear_pixels.fit_and_score(features, domain.labels, split), ""
    index = np.sort(np.concatenate([split.train, split.validation]))
    learner = LEARNERS[name](seed).fit(features[index], domain.labels[index], domain.class_ids[index])
    return learner.score(features[split.test]), " ".join(f"{k}={v:g}" for k, v in learner.chosen.items())
