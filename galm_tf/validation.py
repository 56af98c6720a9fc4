"""What judges architectures: calibration and validation images, their labels, and the rewards that follow.

An attribute is judged by the validation images that `Split.judged_by` allows
(DESIGN §3.6), each domain's attributes by its own images.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Optional, Sequence

import numpy as np
import pandas as pd

from galm_tf import evaluation, readout, ridge, search_space
from galm_tf.config import Config
from galm_tf.data import class_weights, drawing_weights, labelled, log_odds, margin_offsets, sample
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.draws import Stream, generator
from galm_tf.progress import Progress
from galm_tf.reward import RewardEngine, RewardTable, ScoringImages
from galm_tf.scoring import Scoring
from galm_tf.supernet import Supernet
from galm_tf.tracing import untraced

_FEW = 2  # attributes whose table costs less than tracing the engine
_RARE = 10  # images of a label that a smaller set keeps


@dataclasses.dataclass(frozen=True)
class Judged:
    """What networks say of the validation images.

    Attributes:
      labels: float32 [n, N], NaN where a label is unknown or may not judge the attribute.
      log_odds: float32 [n, N], as sure as they come.
      penalty: of the linear reading that has a part in them; None without one.
      margins: of the towers alone, calibration images first, float32 [m, N]; None of what has more than towers.
      features: what can be read beside them of the same images, float32 [m, D]; None where it is not at hand.
    """

    labels: np.ndarray
    log_odds: np.ndarray
    penalty: Optional[float] = None
    margins: Optional[np.ndarray] = None
    features: Optional[np.ndarray] = None

    @functools.cached_property
    def aucs(self) -> np.ndarray:
        """float64 [N]; NaN where validation cannot judge."""
        return evaluation.auc_per_attribute(self.labels, self.log_odds)


class Validation:
    """Scores of one supernet under its present weights.

    Args:
      supernet: the network; None where readings alone are judged.
      config: settings.
      domain: its label rows are those of `images`.
      split: who trains, who judges.
      images: uint8 [n, S, S, 3]; of a frozen trunk `FirstViews`.
      frozen: whether the trunk's features never change, and are computed once.
    """

    def __init__(
        self,
        supernet: Optional[Supernet],
        config: Config,
        domain: Domain,
        split: Split,
        images: np.ndarray,
        frozen: bool = False,
    ) -> None:
        self._supernet, self._config, self._domain, self._split = supernet, config, domain, split
        self._images, self._offsets = images, margin_offsets(self.training_index(), domain, config)
        # By the arguments of `scoring_images`.
        self._kept: Optional[dict[tuple[Optional[int], int, bool], ScoringImages]] = {} if frozen else None
        self._fitted: Optional[list[ridge.Ridge]] = None
        self.scoring = Scoring(supernet)

    def exact_table(self, title: str) -> RewardTable:
        """Rewards of all architectures of all attributes."""
        n = len(self._domain.attributes)
        full = np.full([3, n, search_space.NUM_ARCHITECTURES], np.nan, np.float32)
        with Progress(n, title, unit="attribute") as progress:
            for group in range(len(self._domain.domain_names)):
                ids = np.flatnonzero(self._domain.attribute_domains == group)
                if len(ids) and self._scored(group).size:
                    engine = self.engine(self.scoring_images(group, self._config.reward_images))
                    with untraced(len(ids) <= _FEW):
                        part = engine.table(ids, progress.each)
                    full[:, ids] = part.full, *part.halves
        return RewardTable(full[0], (full[1], full[2]))

    def engine(self, images: ScoringImages) -> RewardEngine:
        """The exact reward engine on these images, by the settings."""
        config = self._config
        return RewardEngine(self._supernet, images, config.reward, config.reward_memory_mib, self._offsets)

    def judge(self, chosen: Sequence[int]) -> Judged:
        """Validates one architecture per attribute.

        Batch norms are those that are exported, by statistics of training images, whatever those of a reward.
        """
        images = self.scoring_images(recalibrated=True)
        margins = self.scoring.score_chosen(images, range(len(chosen)), chosen, calibration=True)
        read = self._config.readout_share and self._kept is None  # a frozen trunk's features are kept
        features = readout.features(images.maps).numpy() if read else None
        log_odds = margins[images.num_calibration :] - self._offsets
        return Judged(images.labels, log_odds, margins=margins, features=features)

    def judge_blend(self, chosen: Sequence[int], share: float, judged: Optional[Judged] = None) -> Judged:
        """As `judge`, with a reading of the trunk beside each tower (`readout`), fitted on training images, whose
        penalty is chosen here.

        judged: what that gave of these networks under the present weights, where it is at hand.
        """
        judged = judged or self.judge(chosen)
        margins, features, calibration = judged.margins, judged.features, self.calibration_index()
        leading = len(calibration)
        if features is None:
            features = self.readout_features(np.concatenate([calibration, self._scored(None)]))
        fits = self._readings()
        best = ridge.choose(fits, features[leading:], judged.labels)
        own = self._domain.is_own(calibration)
        blend = readout.blend(fits[best], share, margins[:leading], features[:leading], own)
        return Judged(
            judged.labels, blend(margins[leading:], features[leading:]) - self._offsets, ridge.PENALTIES[best]
        )

    def judge_readings(self) -> Judged:
        """As `judge_blend`, of readings alone on a frozen trunk."""
        scored = self._scored(None)
        labels = validation_labels(self._domain.labels, self._split, scored)
        features = self.readout_features(scored)
        fits = self._readings()
        best = ridge.choose(fits, features, labels)
        return Judged(labels, self.reading(fits[best])(0.0, features), ridge.PENALTIES[best])

    def reading(self, fitted: ridge.Ridge, final: bool = False) -> readout.Readout:
        """A fit as a network without towers, scaled on images of `calibration_index`."""
        index = self.calibration_index(final)
        return readout.alone(fitted, self.levels(final), self.readout_features(index), self._domain.is_own(index))

    def _readings(self) -> list[ridge.Ridge]:
        """Fitted on training images, one per penalty; of a frozen trunk once."""
        if self._fitted is None or self._kept is None:
            train = self.training_index()
            self._fitted = self.fit_readings(train, ridge.PENALTIES)
        return self._fitted

    def margin_offsets(self, final: bool = False) -> np.ndarray:
        """What training on `training_index` adds to the margins (`data.margin_offsets`): float32 [N]. A positive weighs
        the same in all phases.
        """
        return (
            margin_offsets(self.training_index(final=True), self._domain, self._config, self._split.train)
            if final
            else self._offsets
        )

    def levels(self, final: bool = False) -> np.ndarray:
        """Log-odds of how frequent each attribute is among the images of `training_index`, as training draws them:
        float64 [N].
        """
        index = self.training_index(final)
        return log_odds(self._domain.labels[index], class_weights(index, self._domain, self._config))

    def fit_readings(self, index: np.ndarray, penalties: Sequence[float]) -> list[ridge.Ridge]:
        """Ridge regression of the targets of records int64 [m] on what is read of them, one per penalty."""
        return ridge.fit(
            self.readout_features(index),
            self._domain.targets[index],
            penalties,
            class_weights(index, self._domain, self._config),
        )

    def training_index(self, final: bool = False) -> np.ndarray:
        """Images that train and have a label, int64: the others teach nothing. `final`: those of the last phase, which
        has those of validation too, as a rule.
        """
        validated = final and self._config.finetunes_on_validation
        return labelled(self._split.trained if validated else self._split.train, self._domain)

    def readout_features(self, index: np.ndarray) -> np.ndarray:
        """What is read of these images, with the trunk's batch norms as they are: float32 [n, D]."""
        return (
            self.scoring.readout_features(self._images, index)
            if self._kept is None
            else self._images.readout_features(index)
        )

    def scoring_images(self, group: Optional[int] = None, count: int = 0, recalibrated: bool = False) -> ScoringImages:
        """Trunk features of calibration and validation images.

        Args:
          group: a domain; all when left out.
          count: so many of its validation images, 0 for all.
          recalibrated: with calibration images whatever --reward_bn says.
        """
        recalibrated |= self._config.reward_bn == "recalibrated"
        if self._kept is None:
            return self._scoring_images(group, count, recalibrated)
        group = None if len(self._domain.domain_names) == 1 else group  # the same images
        key = group, count if 0 < count < len(self._scored(group, recalibrated)) else 0, recalibrated
        if key not in self._kept:
            self._kept[key] = self._scoring_images(*key)
        return self._kept[key]

    def _scored(self, group: Optional[int], recalibrated: bool = True) -> np.ndarray:
        """The validation images of a domain, or of all, that judge some attribute; all where none does, or where batch
        norms go by these very images: int64 records.
        """
        scored = self._split.validation
        if group is not None:
            scored = scored[self._domain.image_domains[scored] == group]
        judging = np.isfinite(validation_labels(self._domain.labels, self._split, scored)).any(axis=1)
        return scored[judging] if recalibrated and judging.any() else scored

    def _scoring_images(self, group: Optional[int], count: int, recalibrated: bool) -> ScoringImages:
        scored = self._scored(group, recalibrated)
        labels = validation_labels(self._domain.labels, self._split, scored)
        if 0 < count < len(scored):
            kept = some_images(labels, count, generator(self._config.seed, Stream.REWARD_IMAGES))
            scored, labels = scored[kept], labels[kept]
        return self.features(scored, labels, recalibrated)

    def features(self, scored: np.ndarray, labels: np.ndarray, recalibrated: bool = True) -> ScoringImages:
        """Trunk features of calibration images, if they are to be there, and of the named ones, with their labels [n,
        N].
        """
        calibration = self.calibration_index()
        self.scoring.calibrate_trunk(np.asarray(self._images[calibration]))
        if not recalibrated:
            calibration = calibration[:0]
        index = np.concatenate([calibration, scored])
        maps = self.scoring.trunk_features(self._images, index)
        # parts of one photograph are on the same side
        shown, photographs = pd.factorize(self._domain.photographs[scored])
        halves = (generator(self._config.seed, Stream.HALVES).permutation(len(photographs)) % 2)[shown]
        return ScoringImages(maps, len(calibration), labels, halves)

    def calibration_index(self, final: bool = False) -> np.ndarray:
        """Images whose statistics fix the batch norms, int64, sorted: of those trained on, as training draws them, so
        that those of small classes may be there more than once; `final` those of the exported network.
        """
        index = self.training_index(final)
        count = min(self._config.calibration_images, len(index))
        return np.sort(
            sample(
                index,
                count,
                drawing_weights(index, self._domain, self._config),
                generator(self._config.seed, Stream.CALIBRATION),
            )
        )


def some_images(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Which images to keep: of every label of every attribute, rarest first, `_RARE` where there are, and others at
    random; of every label one, even where that makes them more.

    Args:
      labels: [n, A] in {0, 1, NaN}. count: fewer than n.

    Returns:
      int64 [count], or more of a count that is too small for all labels; sorted.
    """
    order = rng.permutation(len(labels))
    shown = np.concatenate([labels == 1, labels == 0], axis=1)[order]  # [n, 2A]
    kept = np.zeros(len(order), bool)
    for column in np.argsort(shown.sum(axis=0), kind="stable"):
        there = shown[kept, column].sum()
        lacking = max(min(_RARE - there, count - kept.sum()), 1 - there)
        if lacking > 0:
            kept[np.flatnonzero(shown[:, column] & ~kept)[:lacking]] = True
    kept[np.flatnonzero(~kept)[: max(0, count - kept.sum())]] = True
    return np.sort(order[kept])


def validation_labels(labels: np.ndarray, split: Split, scored: np.ndarray) -> np.ndarray:
    """Of labels {0, 1, NaN} [n, N] of all records those of validation images, int64 [m], NaN where they may not judge
    the attribute: [m, N].
    """
    labels = labels[scored].copy()
    held_out = np.isin(scored, split.validation_classes)
    for i, judge in enumerate(split.judged_by):
        if judge == "classes":
            labels[~held_out, i] = np.nan
        elif judge == "none":
            labels[:, i] = np.nan
    return labels
