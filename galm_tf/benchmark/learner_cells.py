"""Figures of attribute learners in the domains of a table, alone or with source domains; Tables 2 and 3 share them.

A figure is kept in OUT/learners/TARGET[-from-SOURCES]-FEATURES/cells/NAME-VARYn.json
beside the settings that it depends on. Where photographs are left out that
another domain of the table tests, -without-DIGEST after VARYn says which: a
table of other domains has figures of its own. A source is the training and validation
images of its domain, by the same split or seed; no search needs to have been
run for that. Only the features of a table's own trunk do: target and sources
then both go through the trunk of the target's run without a source.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from galm_tf import leakage, preparation
from galm_tf.baselines import features as features_lib
from galm_tf.baselines.learner import LearnerData, join
from galm_tf.begun import content_settings
from galm_tf.benchmark import learner_data
from galm_tf.benchmark import learners as learners_lib
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.learner_data import FeatureSettings
from galm_tf.benchmark.paired import REPETITION
from galm_tf.benchmark.same_data import changed_meanwhile
from galm_tf.benchmark.table_runs import TableRuns
from galm_tf.config import SOURCE_SETTINGS
from galm_tf.errors import UserError
from galm_tf.run_folder import environment, file_digest, read_config

IMAGES = "images"  # what learners see that make their own features
_NONE = "none"  # the digest of no file
_OTHER_NETWORKS = (learner_data.FILE, learner_data.VGG16)


class LearnerCells:
    """Fits learners, or reads what they reached.

    Args:
      runs: of the table, whose domains and settings are used.
      features: what learners on features see, per domain.
    """

    def __init__(self, runs: TableRuns, features: Sequence[FeatureSettings]) -> None:
        self._runs, self._features = runs, dict(zip(runs.config.domain, features))
        self._number: Optional[int] = None
        self._prepared: dict[str, preparation.Prepared] = {}
        self._made: dict[tuple[str, str, str], tuple[np.ndarray, str]] = {}
        self._digests: dict[str, str] = {}  # by path

    def row(self, name: str, target: str, number: int, sources: Sequence[str] = ()) -> Mapping[str, Any]:
        """What `learners.run_one` says of a learner, or of ridge regression, on a domain."""
        kind = self._kind(name, target)
        kept = self._kept(kind, target, sources)
        cell = f"{name}-{self._runs.repetition((target, *sources), number)}"
        return kept.get(cell, lambda: self._compute(name, kind, target, number, sources))

    def _kind(self, name: str, target: str) -> str:
        """Of features that a learner sees of a domain."""
        return IMAGES if name in learners_lib.SEE_IMAGES else self._features[target].features

    def _kept(self, kind: str, target: str, sources: Sequence[str]) -> Cells:
        assert target not in sources
        place = "-".join([target, *(["from", "+".join(sources)] if sources else []), kind])
        return Cells(os.path.join(self._runs.out, "learners", place), self._settings(kind, target, sources))

    def expect_features(
        self, learners: Sequence[str], asked: Sequence[tuple[str, Sequence[str]]], numbers: Sequence[int]
    ) -> None:
        """Raises UserError for features that learners cannot have, before any search; those of finished cells are not
        asked for, and the table's own runs, which are yet to be made, give theirs.

        Args:
          learners: keys of `learners.LEARNERS`, or ridge regression.
          asked: (target, its sources).
          numbers: the splits or seeds.
        """
        read, numbers = self._unfinished(learners, asked, numbers)
        domains = [domain for domain in self._features if any(domain in every for every in read.values())]
        for domain in domains:
            learner_data.expect_weights(self._features[domain])
        files = {domain: path for domain in domains if (path := self._features[domain].features_file)}
        paths = {target: self._features[target].features_run for target in read}
        trunks = {
            target: learner_data.read_trunk(path, read_config(path, "features_run"), self._runs.config)
            for target, path in paths.items()
            if path not in ("", learner_data.OWN_RUN)
        }
        for number, domain in itertools.product(numbers if trunks else numbers[: bool(files)], domains):
            config = self._runs.subset((domain,), number)
            prepared = self._runs.prepare(config)
            if domain in files:  # whatever the split
                features_lib.read_features(os.path.expanduser(files[domain]), prepared.domain.paths)
            for target in trunks:
                if domain in read[target]:
                    source = learner_data.with_flags(trunks[target], config, self._runs.vary)
                    leakage.expect_unseen(source, config, prepared.domain, prepared.split, "features_run")

    def _unfinished(
        self, learners: Sequence[str], asked: Sequence[tuple[str, Sequence[str]]], numbers: Sequence[int]
    ) -> tuple[dict[str, set[str]], list[int]]:
        """Of what `expect_features` is asked (target -> the domains whose images are still read on features, splits or
        seeds).
        """
        read: dict[str, set[str]] = {}
        lacking: set[int] = set()
        on_features = [name for name in learners if name not in learners_lib.SEE_IMAGES]
        for target, sources in asked if on_features else ():
            kept = self._kept(self._kind(on_features[0], target), target, sources)
            ends = {n: self._runs.repetition((target, *sources), n) for n in numbers}
            left = {n for n in numbers if not all(kept.has(f"{name}-{ends[n]}") for name in on_features)}
            if left:
                read.setdefault(target, set()).update((target, *sources))
                lacking |= left
        return read, [number for number in numbers if number in lacking]

    def sees_other_networks(self, name: str, target: str) -> bool:
        """Whether its features of a domain come from networks that were trained on other images."""
        settings = self._features[target]
        if name in learners_lib.SEE_IMAGES:
            return False
        if settings.features != learner_data.TRUNK:
            return settings.features in _OTHER_NETWORKS
        own = settings.features_run == learner_data.OWN_RUN
        return bool((self._runs.config if own else read_config(settings.features_run)).trunk_model)

    def _settings(self, kind: str, target: str, sources: Sequence[str]) -> dict[str, Any]:
        """What the figures of a folder have in common; the search method where they see the trunk of its run."""
        own_trunk = kind != IMAGES and self._features[target].features_run == learner_data.OWN_RUN
        free = SOURCE_SETTINGS if own_trunk else (*SOURCE_SETTINGS, "method")
        config = {k: v for k, v in self._runs.subset((target,)).to_json().items() if k not in free}
        features = {} if kind == IMAGES else {d: dataclasses.asdict(self._features[d]) for d in (target, *sources)}
        source_config = self._runs.subset(sources).to_json() if sources else {}
        data = {f"source_{k}": source_config[k] for k in ("domain", "data_dir", "layout") if sources}
        for domain in (target, *sources):
            contents: dict[str, Any] = dict(self._runs.content(domain))
            if kind != IMAGES:
                contents["features"] = [self._digest(path) for path in self._features[domain].files]
            data.update(content_settings(contents, domain))
        return {**config, **data, "features": features}

    def _digest(self, path: str) -> str:
        """Of a file that features come from; of one that is not there, which will be told when it is read, _NONE."""
        if self._digests.get(path, _NONE) == _NONE:
            self._digests[path] = _digest_of(path)
        return self._digests[path]

    def _compute(self, name: str, kind: str, target: str, number: int, sources: Sequence[str]) -> Mapping[str, Any]:
        if number != self._number:
            self._number, self._prepared, self._made = number, {}, {}
        of_target = self._seen(kind, target, target)
        if sources:
            parts = [self._seen(kind, target, source) for source in sources]
            _expect_one_network(dict(zip((target, *sources), (of_target, *parts))))
            source = join([part.data for part in parts])
            of_target = dataclasses.replace(of_target, data=dataclasses.replace(of_target.data, source=source))
        prepared = self._of_kind(kind, target)
        print(
            f"Learner {name}: {target}{' from ' + '+'.join(sources) if sources else ''}, {REPETITION[self._runs.vary]} {number}"
        )
        row = learners_lib.run_one(name, of_target, prepared, self._runs.subset((target,), number))
        made = environment()
        return {**row, **{key: made[key] for key in ("commit", "computed_on")}}

    def _seen(self, kind: str, target: str, domain: str) -> learners_lib.Seen:
        """What learners see of a domain; features by the target's settings, but for a file of its own."""
        prepared = self._of_kind(kind, domain)
        features, name = self._features_of(kind, target, domain, prepared)
        config = self._runs.subset((domain,), self._number)
        data: LearnerData = learner_data.training_data(prepared, features, config)
        return learners_lib.Seen(features, f"{name} ({features.shape[1]})", data)

    def _of_kind(self, kind: str, domain: str) -> preparation.Prepared:
        """The domain's data; without pictures where they are not looked at, since they would be copied."""
        if domain not in self._prepared:
            self._prepared[domain] = self._runs.prepare(self._runs.subset((domain,), self._number))
        prepared = self._prepared[domain]
        if kind == IMAGES:
            return prepared
        return dataclasses.replace(prepared, images=np.zeros((len(prepared.images), 0, 0, 3), np.uint8))

    def _features_of(
        self, kind: str, target: str, domain: str, prepared: preparation.Prepared
    ) -> tuple[np.ndarray, str]:
        if kind == IMAGES:
            return np.zeros((len(prepared.images), 0), np.float32), IMAGES
        key = (kind, domain, target if kind == learner_data.TRUNK else "")
        if key not in self._made:
            settings, name = self._features[domain if kind == learner_data.FILE else target], None
            if settings.features_run == learner_data.OWN_RUN:
                path = self._runs.source((target,), self._number)
                settings = dataclasses.replace(settings, features_run=path)
                name = "own pretrained trunk" if self._runs.config.trunk_model else "own trunk"
            config = self._runs.subset((domain,), self._number)
            features, made = learner_data.make_features(settings, config, self._prepared[domain])
            if any(_digest_of(path) != self._digest(path) for path in settings.files):
                raise changed_meanwhile(f"features of {domain}", f"table in {self._runs.out}")
            self._made[key] = features, name or made
        return self._made[key]


def _digest_of(path: str) -> str:
    return file_digest(path) or _NONE


def _expect_one_network(seen: Mapping[str, learners_lib.Seen]) -> None:
    """Features of several domains must be the same numbers."""
    widths = {domain: s.features.shape[1] for domain, s in seen.items()}
    if len(set(widths.values())) > 1:
        raise UserError(
            "Expected features of one network for target and sources. Received: "
            f"{', '.join(f'{domain}: {width} numbers an image' for domain, width in widths.items())}; name files of the "
            "same network by --features_file."
        )
