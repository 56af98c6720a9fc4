"""Measures galm_tf: its parts against plain ones, its search against other methods.

    python -m galm_tf.benchmark --suite=reward --out=runs/benchmark
    python -m galm_tf.benchmark --suite=methods --domain=sun --methods=galm,random --repeats=5
    python -m galm_tf.benchmark --suite=learners --domain=sun --data_dir=DIR --learners=dap,iap,amt --features=file --features_file=NPZ
    python -m galm_tf.benchmark --suite=policy --tables=runs/A/tables/round2.npz --repeats=3
    python -m galm_tf.benchmark --suite=ranking --domain=apay --data_dir=DIR --flagfile=flags/quick.flags --repeats=1
    python -m galm_tf.benchmark --suite=choosing --domain=sun --data_dir=DIR --flagfile=flags/quick.flags

Flags of galm_tf.main apply. Each suite prints a table and writes SUITE.csv and a plot or a summary into --out.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import os

from absl import flags

from galm_tf import config as config_lib
from galm_tf.benchmark import (
    choosing, controller_speed, input_speed, learner_data, learners, methods, policy, ranking, reward_speed, scaling, step_speed, timing,
)

FLAGS = flags.FLAGS
_SPEED = {
    "reward": reward_speed.measure,
    "train_step": step_speed.measure_training,
    "inference": step_speed.measure_inference,
    "controller": controller_speed.measure,
    "input": input_speed.measure,
}
_CHOOSING = {"choosing": choosing.run_choosing, "derived": choosing.run_derived}
_REPEATS, _QUICK_REPEATS = 7, 3


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("suite", None, [*_SPEED, "scaling", "methods", "learners", *_CHOOSING, "policy", "ranking"], "What to measure.", required=True)
    flags.DEFINE_string("out", os.path.join("runs", "benchmark"), "Folder of results.")
    flags.DEFINE_bool("quick", False, "Fewer rounds: a speed suite in about a minute.")
    flags.DEFINE_list("methods", ["galm", "random"], "Suite methods: values of --method; the first is the reference.")
    flags.DEFINE_list("learners", list(learners.LEARNERS), "Suite learners: attribute learners; the first is the reference.")
    flags.DEFINE_enum("features", learner_data.PIXELS, learner_data.FEATURES, "Suite learners: what learners on features see, 16x16 pixels of the images, --features_file, the trunk of --features_run (like for like with GALM), or VGG16.")
    flags.DEFINE_string("features_file", "", "Suite learners with --features=file: an npz with image (names such as FOLDER/IMAGE.jpg) and features, a row each.")
    flags.DEFINE_string("features_run", "", "Suite learners with --features=trunk: folder of a finished run on the same data and split.")
    flags.DEFINE_string("vgg16_weights", "", "Suite learners with --features=vgg16: Keras' file of VGG16's weights with its top layers; nothing is downloaded.")
    flags.DEFINE_integer("repeats", 5, "Paired repetitions (seeds or splits) of suites other than those of speed; 1 gives no interval.", lower_bound=1)
    flags.DEFINE_list("tables", [policy.PLANTED], f"Suite policy: tables/roundN.npz of runs, or {policy.PLANTED}.")
    flags.DEFINE_multi_enum("settings", ["default", "paper"], list(policy.SETTINGS), "Suite policy: settings of the controller; may be repeated.")
    flags.DEFINE_integer("num_architectures", 40, "Suite ranking: architectures that are trained alone.", lower_bound=3)
    flags.DEFINE_integer("num_attributes", 5, "Suite ranking: attributes of each.", lower_bound=1)
    flags.DEFINE_list("splits", [], "Suites choosing and derived: seeds of the splits, -1 for the official one; 0 to repeats - 1 when left out.")
    flags.DEFINE_enum("vary", "seed", ["seed", "split_seed"], "Suites methods and learners: what differs between repetitions, the draws or the class-disjoint split.")


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    config = config_lib.from_flags(FLAGS)
    repeats = _QUICK_REPEATS if FLAGS.quick else _REPEATS
    if FLAGS.suite in _SPEED:
        return timing.write(_SPEED[FLAGS.suite](config, repeats), FLAGS.suite, FLAGS.out)
    if FLAGS.suite == "scaling":
        return scaling.write(scaling.measure(config, repeats), FLAGS.suite, FLAGS.out)
    if FLAGS.suite == "policy":
        return policy.write(policy.run_policy(config, FLAGS.tables, FLAGS.settings, range(FLAGS.repeats)), FLAGS.out)
    if FLAGS.suite == "ranking":
        table = ranking.run_ranking(config, FLAGS.num_architectures, FLAGS.num_attributes, FLAGS.repeats, FLAGS.out)
        return ranking.write(table, FLAGS.out)
    if FLAGS.suite in _CHOOSING:
        splits = [int(s) for s in FLAGS.splits] or range(FLAGS.repeats)
        table = _CHOOSING[FLAGS.suite](config, splits, FLAGS.out)
        return methods.write(table, choosing.REFERENCE, FLAGS.suite, FLAGS.out)
    if FLAGS.suite == "learners":
        learners.check(FLAGS.learners)
        settings = {field.name: getattr(FLAGS, field.name) for field in dataclasses.fields(learner_data.FeatureSettings)}
        settings = learner_data.FeatureSettings(**settings)
        table = learners.run_learners(config, FLAGS.learners, range(FLAGS.repeats), FLAGS.vary, settings)
        return methods.write(table, FLAGS.learners[0], FLAGS.suite, FLAGS.out)
    table = methods.run_methods(config, FLAGS.methods, range(FLAGS.repeats), FLAGS.vary, FLAGS.out)
    return methods.write(table, FLAGS.methods[0], FLAGS.suite, FLAGS.out)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
