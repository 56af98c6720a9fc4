"""Suite `methods`: whole runs of several search methods on the same data, budget and seeds or splits.

Each cell is a run folder of its own, so that a killed suite goes on where it
stopped. Beside the methods stands the linear model on 16×16 pixels.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from typing import Any, Optional, Sequence

import pandas as pd
import tensorflow as tf

from galm_tf import evaluation, linear_pixels, pipeline, preparation
from galm_tf.benchmark.paired import REPETITION, paired_difference
from galm_tf.benchmark.results import write_files
from galm_tf.benchmark.same_data import SameData
from galm_tf.config import Config
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.strategies import METHODS, passed_over

LINEAR = "linear 16x16"


def run_methods(config: Config, methods: Sequence[str], seeds: Sequence[int], vary: str, out: str) -> pd.DataFrame:
    """Test mAUC of every (method, seed): columns method, seed or split, val_mauc, test_mauc, seconds.

    Args:
      config: settings of every run but `method` and what varies.
      methods: values of --method.
      seeds: numbers of the repetitions.
      vary: `seed` (same split, other draws) or `split_seed` (another class-disjoint split each).
      out: folder of the run folders.
    """
    rows, same = [], SameData(f"suite in {out}")
    for number in seeds:
        cell = dataclasses.replace(config, **{vary: number})
        prepared = same.prepare(cell)
        rows.append({"method": LINEAR, REPETITION[vary]: number, "test_mauc": _linear(prepared, cell)})
        for method in methods:
            path = os.path.join(out, f"{method}-{vary}{number}")
            result = run_once(dataclasses.replace(cell, method=method, run_dir=path), prepared)
            row = {"method": method, REPETITION[vary]: number, "val_mauc": result["val_mauc"]}
            rows.append({**row, "test_mauc": result["test_mauc"], "seconds": result["seconds_total"]})
    return pd.DataFrame(rows)


def run_once(
    config: Config, prepared: Optional[preparation.Prepared] = None, unrepeated: Sequence[str] = ()
) -> dict[str, Any]:
    """The result of the run in `config.run_dir`: read, resumed or made; `prepared` where its data are at hand.

    unrepeated: what of them its flags do not repeat.
    """
    config, folder = begin_or_resume(config.run_dir, config)
    with folder.kept_if_used():
        folder.note_unrepeated(unrepeated)
        return pipeline.run(config, folder, prepared=prepared, make_strategy=METHODS[config.method])


def begin_or_resume(path: str, config: Config) -> tuple[Config, RunFolder]:
    """As that of `RunFolder`, without a penalty and a number of evaluations that the method passes over, so that the
    run's flags repeat it; a run that was begun has its own.
    """
    let_be = {"size_penalty": (0, Config().size_penalty), "evaluations": (Config().evaluations,)}
    unread = [name for name in passed_over(config.method) if getattr(config, name) not in let_be[name]]
    if unread:
        begun = os.path.exists(os.path.join(path, "config.json"))
        own = read_config(path) if begun else Config()
        config = dataclasses.replace(config, **{name: getattr(own, name) for name in unread})
    return RunFolder.begin_or_resume(path, config)


def free_networks() -> None:
    """Gives back what finished runs of this process hold: a network and its traces are cycles of some 500 MB."""
    tf.keras.backend.clear_session()
    gc.collect()


def _linear(prepared: preparation.Prepared, config: Config) -> Optional[float]:
    domain, split = prepared.domain, prepared.split
    return evaluation.mean_auc(
        linear_pixels.test_aucs(prepared.images, domain.labels, domain.targets, split, domain, config)
    )


def summarise(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean and standard deviation per method, and the reference minus it, paired, with its 95 % interval.

    A column `features`, the same in every row of a method, is kept, of `multiply_adds` the mean, in millions.
    """
    wide = table.pivot(
        index=next(name for name in REPETITION.values() if name in table), columns="method", values="test_mauc"
    )
    rows = []
    for method in table["method"].unique():
        first = table[table["method"] == method].iloc[0]
        row = {"method": method, **({"features": first["features"]} if "features" in table else {})}
        row.update(
            {"runs": int(wide[method].notna().sum()), "test_mauc": wide[method].mean(), "std": wide[method].std()}
        )
        if "multiply_adds" in table:
            row["million_multiply_adds"] = table.loc[table["method"] == method, "multiply_adds"].mean() / 1e6
        if method != reference:
            row.update(zip(("reference_minus", "low", "high"), paired_difference(wide, reference, method)))
        rows.append(row)
    return pd.DataFrame(rows)


def write(table: pd.DataFrame, reference: str, suite: str, out: str) -> None:
    """Prints the summary; writes SUITE.csv (every run) and SUITE.txt (the summary) into `out`."""
    summary = summarise(table, reference)
    text = summary.to_string(index=False, float_format="%.4f", na_rep="")
    if "reference_minus" in summary:
        over = next(name for name in REPETITION.values() if name in table)
        text += (
            f"\nreference_minus: test mAUC of {reference} less that of the method, mean over the same {over}s; "
            "low, high: its 95 % interval."
        )
    write_files(out, {f"{suite}.csv": table, f"{suite}.txt": text + "\n"})
    print(text)
