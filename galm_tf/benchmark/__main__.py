"""Measures galm_tf: its parts against plain ones, its search against other methods.

    python -m galm_tf.benchmark --suite=reward --out=runs/benchmark
    python -m galm_tf.benchmark --suite=methods --domain=sun --methods=galm,random --repeats=5
    python -m galm_tf.benchmark --suite=learners --domain=sun --data_dir=DIR --learners=dap,iap,ale --features=file --features_file=NPZ
    python -m galm_tf.benchmark --suite=choosing --domain=sun --data_dir=DIR --flagfile=flags/quick.flags
    python -m galm_tf.benchmark --suite=peers --domain=sun --peers=random,bayesian,hyperband,rl_nas --trials=12 --epochs=8

Flags of galm_tf.main apply. Each suite prints a table and writes SUITE.csv and a plot or a summary into --out.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import logging
import os

from absl import flags

from galm_tf import config as config_lib
from galm_tf.benchmark import choosing, controller_speed, input_speed, learners, methods, peers_suite, reward_speed, step_speed, timing

FLAGS = flags.FLAGS
_SPEED = {
    "reward": reward_speed.measure,
    "train_step": step_speed.measure_training,
    "inference": step_speed.measure_inference,
    "controller": controller_speed.measure,
    "input": input_speed.measure,
}
_REPEATS, _QUICK_REPEATS = 7, 3


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("suite", None, [*_SPEED, "methods", "learners", "choosing", "peers"], "What to measure.", required=True)
    flags.DEFINE_string("out", os.path.join("runs", "benchmark"), "Folder of results.")
    flags.DEFINE_bool("quick", False, "Fewer rounds, and less of everything in suite peers: a suite in about a minute.")
    flags.DEFINE_list("methods", ["galm", "random"], "Suite methods: values of --method; the first is the reference.")
    flags.DEFINE_list("learners", list(learners.LEARNERS), "Suite learners: attribute learners; the first is the reference.")
    flags.DEFINE_enum("features", "pixels", ["pixels", "file"], "Suite learners: what the learners see, 16x16 pixels of the images or --features_file.")
    flags.DEFINE_string("features_file", "", "Suite learners with --features=file: an npz with image (names such as FOLDER/IMAGE.jpg) and features, a row each.")
    flags.DEFINE_integer("repeats", 5, "Suites methods, learners and choosing: paired repetitions; 1 gives no interval.", lower_bound=1)
    flags.DEFINE_list("peers", list(peers_suite.PEERS), "Suite peers: searches that train every child, of those listed; the first is the reference.")
    flags.DEFINE_list("attributes", [], "Suite peers: attributes to search, one at a time; the two most evenly split when left out.")
    flags.DEFINE_integer("trials", 12, "Suite peers: children that each peer trains per attribute.", lower_bound=1)
    flags.DEFINE_integer("epochs", 8, "Suite peers: epochs of a child.", lower_bound=1)
    flags.DEFINE_enum("vary", "seed", ["seed", "split_seed"], "Suites methods and learners: what differs between repetitions, the draws or the class-disjoint split.")


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    config = config_lib.from_flags(FLAGS)
    if FLAGS.suite in _SPEED:
        repeats = _QUICK_REPEATS if FLAGS.quick else _REPEATS
        return timing.write(_SPEED[FLAGS.suite](config, repeats), FLAGS.suite, FLAGS.out)
    if FLAGS.suite == "peers":
        return _run_peers(config)
    if FLAGS.suite == "choosing":
        table = choosing.run_choosing(config, range(FLAGS.repeats), FLAGS.out)
        return methods.write(table, choosing.REFERENCE, FLAGS.suite, FLAGS.out)
    if FLAGS.suite == "learners":
        learners.check(FLAGS.learners, FLAGS.features, FLAGS.features_file)
        path = FLAGS.features_file if FLAGS.features == "file" else None
        table = learners.run_learners(config, FLAGS.learners, range(FLAGS.repeats), FLAGS.vary, path)
        return methods.write(table, FLAGS.learners[0], FLAGS.suite, FLAGS.out)
    table = methods.run_methods(config, FLAGS.methods, range(FLAGS.repeats), FLAGS.vary, FLAGS.out)
    return methods.write(table, FLAGS.methods[0], FLAGS.suite, FLAGS.out)


def _run_peers(config: config_lib.Config) -> None:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each child traces its functions anew, as it must
    budget = peers_suite.Budget(tuple(FLAGS.attributes), tuple(FLAGS.peers), FLAGS.trials, FLAGS.epochs)
    if FLAGS.quick:
        config, budget = peers_suite.quick(config, budget)
    peers_suite.write(*peers_suite.measure(config, budget, FLAGS.out), FLAGS.out)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
