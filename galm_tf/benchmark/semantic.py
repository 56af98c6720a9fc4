"""Table 2: attributes of unseen classes within one domain, GALM beside attribute learners (paper §4.3).

All rows of a domain are tested on the same classes and attributes. GALM and
other search methods see pixels; the learners see the features that are named.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from galm_tf import pipeline
from galm_tf.benchmark import learners as learners_lib
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.domain_transfer import figures
from galm_tf.benchmark.learner_data import FeatureSettings
from galm_tf.config import Config
from galm_tf.run_folder import RunFolder
from galm_tf.strategies import METHODS


def run_semantic(
    config: Config,
    methods: Sequence[str],
    learners: Sequence[str],
    features: Sequence[FeatureSettings],
    numbers: Sequence[int],
    vary: str,
    out: str,
) -> pd.DataFrame:
    """Test mAUC of every row in every domain.

    Args:
      config: all domains and the settings of every run.
      methods: values of --method.
      learners: keys of `learners.LEARNERS`; ridge regression stands before them.
      features: what the learners see, per domain.
      numbers: the splits or seeds.
      vary: `split_seed` or `seed`.
      out: folder of the cells and of the run folders, which a repeated command goes on with.

    Returns:
      Columns scenario (the domain), method, split, test_mauc, num_attributes_tested, seconds and what else a row has.
    """
    cells = Cells(out, {**config.to_json(), "vary": vary, "features": [dataclasses.asdict(f) for f in features]})
    rows = []
    for number in numbers:
        for i, domain in enumerate(config.domain):
            folders = {k: (v[i],) for k in ("data_dir", "layout") if (v := getattr(config, k))}
            one = dataclasses.replace(config, domain=(domain,), **folders, **{vary: number})
            work = _Domain(one, features[i], os.path.join(out, "runs"))
            for name in (*methods, learners_lib.RIDGE, *learners):
                cell = f"{name}-{domain}-{vary}{number}"
                kept = cells.get(cell, lambda name=name, work=work, cell=cell: work.row(name, cell))
                rows.append({"scenario": domain, "method": name, "split": number, **kept})
    return pd.DataFrame(rows)


class _Domain:
    """One domain's data, loaded when the first cell needs them."""

    def __init__(self, config: Config, features: FeatureSettings, runs: str) -> None:
        self._config, self._features, self._runs = config, features, runs
        self._prepared = self._seen = None

    def row(self, name: str, cell: str) -> Mapping[str, Any]:
        """The figures of one method or learner."""
        if self._prepared is None:
            self._prepared = pipeline.prepare(self._config)
        if name in METHODS:
            config = dataclasses.replace(self._config, method=name)
            config, folder = RunFolder.begin_or_resume(os.path.join(self._runs, cell), config)
            return figures(pipeline.run(config, folder, self._prepared, METHODS[name]))
        if self._seen is None:
            self._seen = learners_lib.features_of(self._prepared, self._config, self._features)
        return learners_lib.run_one(name, self._seen, self._prepared, self._config)
