"""What oneDNN's kernels are worth on this processor, where TensorFlow by itself may leave them off.

    python -m benchmarks.onednn --suites=train_step,reward,inference,controller --rounds=3

Runs suites of `galm_tf.benchmark` with and without them in alternation, each in a process of its own since TensorFlow
asks once, as it starts; flags after these are the suites' own. Prints, and writes to --csv, a row per case: its rate
with oneDNN and, per round, how many times the rate without that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pandas as pd
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("suites", ["train_step", "reward", "inference", "controller"], "Suites of galm_tf.benchmark.")
flags.DEFINE_integer("rounds", 3, "How often each is run either way.", lower_bound=1)
flags.DEFINE_string("csv", "onednn.csv", "Where the table goes.")
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def rates(suite: str, switch: str, arguments: list[str]) -> pd.DataFrame:
    """The suite's own table, in quick mode, with oneDNN ("1") or without ("0")."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "galm_tf.benchmark", f"--suite={suite}", "--quick", f"--out={out}", *arguments]
        done = subprocess.run(command, env={**os.environ, _SWITCH: switch}, stdout=subprocess.DEVNULL)
        if done.returncode:  # it has told why
            sys.exit(done.returncode)
        table = pd.read_csv(os.path.join(out, f"{suite}.csv"))
    return table.drop_duplicates("case").set_index("case")


def compare(suite: str, rounds: int, arguments: list[str]) -> pd.DataFrame:
    """A row per case of a suite: the median rate with oneDNN, and the ratios to that without."""
    with_it, without = [], []
    for _ in range(rounds):
        without.append(rates(suite, "0", arguments))
        with_it.append(rates(suite, "1", arguments))
    ratios = pd.concat([a["value"] / b["value"] for a, b in zip(with_it, without)], axis=1)
    return pd.DataFrame(
        {
            "value": pd.concat([a["value"] for a in with_it], axis=1).median(axis=1),
            "unit": with_it[0]["unit"],
            "ratio_median": ratios.median(axis=1),
            "ratio_min": ratios.min(axis=1),
            "ratio_max": ratios.max(axis=1),
        }
    ).reset_index(names="case")


def main(argv: list[str]) -> None:
    """Compares every suite; argv[1:] are flags of the suites."""
    table = pd.concat([compare(suite, FLAGS.rounds, argv[1:]) for suite in FLAGS.suites], ignore_index=True)
    print(table.to_string(index=False, float_format="%.3g"))
    table.to_csv(FLAGS.csv, index=False)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: FLAGS(argv, known_only=True))
