"""Table 2: attributes of unseen classes within one domain, GALM beside attribute learners (paper §4.3).

All rows of a domain are tested on the same classes and attributes. GALM and
other search methods see pixels; the learners see the features that are named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from galm_tf.benchmark import learners as learners_lib
from galm_tf.benchmark.cells import Cells
from galm_tf.benchmark.domain_transfer import figures
from galm_tf.benchmark.learner_cells import LearnerCells
from galm_tf.benchmark.table_runs import TableRuns


def run_semantic(
    runs: TableRuns,
    name: str,
    methods: Sequence[str],
    learners: Sequence[str],
    cells: LearnerCells,
    numbers: Sequence[int],
) -> pd.DataFrame:
    """Test mAUC of every row in every domain.

    Args:
      runs: all domains and the settings of every run.
      name: of the table, a folder of `runs.out` in which a repeated command goes on.
      methods: values of --method.
      learners: keys of `learners.LEARNERS`; ridge regression stands before them.
      cells: of the learners.
      numbers: the splits or seeds.

    Returns:
      Columns scenario (the domain), method, split, features (what it sees), other_networks (see `LearnerCells`),
      test_mauc, num_attributes_tested, seconds and what else a row has.
    """
    settings = {k: v for k, v in runs.settings().items() if k != "method"}  # that of a cell is in its name
    kept = Cells(os.path.join(runs.out, name), settings)
    rows = []
    for number in numbers:
        for domain in runs.config.domain:
            place = {"scenario": domain, "split": number}
            for method in methods:
                rows.append({**place, "method": method, **runs.seen, **_row(kept, runs, method, domain, number)})
            for learner in (learners_lib.RIDGE, *learners):
                others = cells.sees_other_networks(learner, domain)
                rows.append(
                    {**place, "method": learner, "other_networks": others, **cells.row(learner, domain, number)}
                )
    return pd.DataFrame(rows)


def _row(cells: Cells, runs: TableRuns, method: str, domain: str, number: int) -> Mapping[str, Any]:
    """The figures of a search method's run, kept as a cell."""
    return cells.get(
        f"{method}-{domain}-{runs.vary}{number}", lambda: figures(runs.result(domain, number, method=method))
    )
