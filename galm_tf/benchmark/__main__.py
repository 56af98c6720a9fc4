"""Measures galm_tf: search methods against each other.

    python -m galm_tf.benchmark --suite=methods --domain=sun --methods=galm,random --repeats=5 --out=runs/methods

Flags of galm_tf.main apply to every run. Results go to SUITE.csv and SUMMARY.md in --out.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import os

from absl import flags

from galm_tf import config as config_lib
from galm_tf.benchmark import methods

FLAGS = flags.FLAGS


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("suite", "methods", ["methods"], "What to measure.")
    flags.DEFINE_string("out", os.path.join("runs", "benchmark"), "Folder of results; an existing one is continued.")
    flags.DEFINE_list("methods", ["galm", "random"], "Values of --method to compare; the first is the reference.")
    flags.DEFINE_integer("repeats", 5, "Paired repetitions.", lower_bound=2)
    flags.DEFINE_enum("vary", "seed", ["seed", "split_seed"], "What differs between them: the draws, or the class-disjoint split too.")


def main(_: list[str]) -> None:
    config = config_lib.from_flags(FLAGS)
    os.makedirs(FLAGS.out, exist_ok=True)
    table = methods.run_methods(config, FLAGS.methods, range(FLAGS.repeats), FLAGS.vary, FLAGS.out)
    table.to_csv(os.path.join(FLAGS.out, "methods.csv"), index=False)
    summary = methods.summarise(table, FLAGS.methods[0])
    text = summary.to_string(index=False, float_format="%.4f", na_rep="")
    with open(os.path.join(FLAGS.out, "methods.txt"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
