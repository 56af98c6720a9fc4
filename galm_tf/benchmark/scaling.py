"""Suite `scaling`: what a supernet step costs as attributes are added, and the memory at its peak, with all of `COUNTS`
at once.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from galm_tf import search_space
from galm_tf.benchmark import timing
from galm_tf.benchmark.results import write_files
from galm_tf.benchmark.timing import COLUMNS, Case, compare
from galm_tf.config import Config
from galm_tf.supernet import build_supernet
from galm_tf.supernet_training import SupernetTraining

COUNTS = (1, 16, 64, 102, 160, 251)  # 251: the paper's three domains together


def measure(config: Config, repeats: int) -> pd.DataFrame:
    """Steps a second with all of N attributes, and with `attributes_per_step` of the most, if these are fewer; then t(N) = a + b N.

    Rows `a` and `b` are the least-squares fit of the median seconds of a step,
    in units of the step with one attribute, so that they hold for other machines
    better than seconds would.
    """
    cases = [Case(f"{n} attribute{'s' * (n > 1)}", training_step(n, n, config), 1, "steps/s") for n in COUNTS]
    sampled = config.attributes_per_step or COUNTS[-1]
    if sampled < COUNTS[-1]:
        step = training_step(COUNTS[-1], sampled, config)
        cases.append(Case(f"{sampled} of {COUNTS[-1]} attributes", step, 1, "steps/s"))
    table = compare(cases, repeats)
    cost = 1.0 / table["ratio_median"].to_numpy()[: len(COUNTS)]
    b, a = np.polyfit(COUNTS, cost, 1)
    reference = cases[0].name
    rows = [
        ("a: step without attributes", reference, a, "steps of one attribute", *[np.nan] * 3),
        ("b: one attribute more", reference, b, "steps of one attribute", *[np.nan] * 3),
        ("memory at its peak", reference, _peak_gib(), "GiB", *[np.nan] * 3),
    ]
    return pd.concat([table, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)


def training_step(num_attributes: int, trained: int, config: Config):
    """One training step on random images, the named number of towers trained."""
    rng = np.random.default_rng(config.seed)
    labels = (rng.random((config.batch_size, num_attributes)) < 0.2).astype(np.float32)
    supernet = build_supernet(num_attributes, config.image_size, config.dropout, config.seed)
    training = SupernetTraining(supernet, labels, np.ones(num_attributes, np.float32), config)
    images = tf.constant(rng.integers(0, 256, (config.batch_size, config.image_size, config.image_size, 3)), tf.uint8)
    ids = tf.constant(np.sort(rng.choice(num_attributes, trained, replace=False)).astype(np.int32))
    choices = tf.constant(search_space.all_indices()[rng.integers(0, search_space.NUM_ARCHITECTURES, trained)])
    index = tf.range(config.batch_size, dtype=tf.int64)

    def step() -> float:
        metrics = training.step(images, index, ids, choices, tf.constant([0, 1]), tf.constant(1e-3))
        return float(metrics["loss"])

    return step


def _peak_gib() -> float:
    """Largest resident memory of this process so far; NaN where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def write(table: pd.DataFrame, suite: str, out: str) -> None:
    """As other suites do, and a plot of the fit."""
    timed = table[table["ratio_median"].notna()]
    timing.write(timed, suite, out)
    print(table[table["ratio_median"].isna()][["case", "value", "unit"]].to_string(index=False, float_format="%.4g"))
    value = table.set_index("case")["value"]
    figure = Figure((6.4, 4), dpi=100, layout="constrained")
    axis = figure.subplots()
    cost = 1.0 / timed.iloc[: len(COUNTS)][["ratio_median", "ratio_max", "ratio_min"]].to_numpy()
    axis.errorbar(
        COUNTS,
        cost[:, 0],
        np.abs(cost[:, 1:] - cost[:, :1]).T,
        fmt="o",
        color="#4477aa",
        label="all attributes trained",
    )
    a, b = (value[v] for v in value.index if v[:2] in ("a:", "b:"))
    grid = np.array([0, COUNTS[-1]])
    axis.plot(grid, a + b * grid, color="#4477aa", linewidth=1, label=f"{a:.2f} + {b:.3f} N")
    for _, sampled in timed.iloc[len(COUNTS) :].iterrows():
        axis.plot([COUNTS[-1]], [1.0 / sampled["ratio_median"]], "s", color="#cc6677", label=sampled["case"])
    axis.set_xlabel("attributes N")
    axis.set_ylabel("cost of a step (1: one attribute)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="upper left")
    write_files(out, {f"{suite}.csv": table, f"{suite}_fit.png": figure})
