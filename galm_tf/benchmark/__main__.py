"""Measures galm_tf: its parts against plain ones, its search against other methods.

    python -m galm_tf.benchmark --suite=reward --out=runs/benchmark
    python -m galm_tf.benchmark --suite=methods --domain=sun --methods=galm,random --repeats=5
    python -m galm_tf.benchmark --suite=learners --domain=sun --data_dir=DIR --learners=dap,iap,amt --features=file --features_file=NPZ
    python -m galm_tf.benchmark --suite=policy --reward_tables=runs/A/tables/round2.npz --repeats=3
    python -m galm_tf.benchmark --suite=ranking --domain=apay --data_dir=DIR --flagfile=flags/quick.flags --repeats=1
    python -m galm_tf.benchmark --suite=choosing --domain=sun --data_dir=DIR --flagfile=flags/quick.flags
    python -m galm_tf.benchmark --suite=peers --domain=sun --peers=random,bayesian,hyperband,rl_nas --trials=12 --epochs=8
    python -m galm_tf.benchmark --suite=nas --domain=sun --data_dir=DIR --repeats=2 --num_attributes=4 --trials=12 --epochs=8
    python -m galm_tf.benchmark --table=3 --budget=quick --repeats=2 --cells=awa-sun,apay-sun
    python -m galm_tf.benchmark --table=3 --domain=awa,apay,sun --data_dir=A,B,C --learners=dap,iap,ale,hap,umf,mdg,amt,fmt,ft,afs --features=trunk
    python -m galm_tf.benchmark --table=2 --domain=awa,apay,sun --data_dir=A,B,C --features=file --features_file=F,G,H
    python -m galm_tf.benchmark --suite=few_labels --cells=awa+apay-sun --positives=5,20,100 --budget=quick
    python -m galm_tf.benchmark --suite=few_steps --cells=awa+apay-sun --divisors=1,4 --budget=quick

Flags of galm_tf.main apply. Each suite prints a table and writes SUITE.csv and a plot or a summary into --out; a table,
few_labels, few_steps and nas have a folder there, in which a killed command goes on; all of them but nas share the runs in
its folder runs and the learners' figures in its folder learners. Without --domain these take the three generated domains.
With --budget=quick they have the settings of flags/table_quick.flags where a flag is not given.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import copy
import dataclasses
import logging
import os
from typing import Optional, Sequence

import pandas as pd
from absl import flags

from galm_tf import config as config_lib
from galm_tf.benchmark import (
    choosing, controller_speed, domain_transfer, given, input_speed, learner_cells, learner_data, learners, methods, nas, nas_report,
    paper_figures, paper_table, peers_suite, policy, ranking, reward_speed, scaling, semantic, step_speed, timing, transfer_table,
)
from galm_tf.begun import expect_writable
from galm_tf.benchmark.table_runs import Less, TableRuns
from galm_tf.config import Config
from galm_tf.domains.generated import GENERATED_NAMES, NOTICE
from galm_tf.errors import UserError
from galm_tf.search_space import NUM_DISTINCT

FLAGS = flags.FLAGS
_SPEED = {
    "reward": reward_speed.measure,
    "train_step": step_speed.measure_training,
    "inference": step_speed.measure_inference,
    "controller": controller_speed.measure,
    "input": input_speed.measure,
}
_REPEATS, _QUICK_REPEATS = 7, 3
_QUICK_FLAGS = os.path.join("flags", "table_quick.flags")
_FEW = ("few_labels", "few_steps")
_BY_AUC = ("choosing", "derived", "policy", "ranking", "peers", "nas")  # whatever the size of networks
_NOT_QUICK = ("methods", "learners", "choosing", "derived", "policy", "ranking")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("suite", None, [*_SPEED, *_SUITES], "What to measure.")
    flags.DEFINE_enum("table", None, ["2", "3"], "The paper's table to make in its place: 2 (one domain each, beside attribute learners) or 3 (from sources).")
    flags.DEFINE_string("out", os.path.join("runs", "benchmark"), "Folder of results.")
    flags.DEFINE_bool("quick", False, "Suites of speed and scaling: fewer rounds; peers and nas: less of everything. A suite in about a minute.")
    flags.DEFINE_enum("budget", None, ["quick", "full"], "Tables, few_labels and few_steps: quick takes the settings of flags/table_quick.flags where a flag is not given; full, as when left out, the defaults.")
    flags.DEFINE_list("methods", ["galm", "random"], "Suites methods, choosing, derived and nas, and table 2: values of --method; the first is the reference of methods and of table 2. Suites choosing, derived and nas: all when left out (nas with --quick: but enas_each, a search per attribute), and galm always.")
    flags.DEFINE_list("learners", list(learners.LEARNERS), "Suite learners and table 2: attribute learners; the first is the suite's reference. Table 3 has those that are named, and none by default.")
    flags.DEFINE_enum("features", learner_data.PIXELS, learner_data.FEATURES, "Suite learners and the tables: what learners on features see, 16x16 pixels of the images, --features_file, the trunk of --features_run (like for like with GALM), or VGG16.")
    flags.DEFINE_list("features_file", [], "With --features=file: an npz per domain with image (names such as FOLDER/IMAGE.jpg) and features, a row each.")
    flags.DEFINE_list("features_run", [], "With --features=trunk: a finished run per domain, on the same data and split. In the tables, left out: the table's own run of the domain without a source, in every split.")
    flags.DEFINE_string("vgg16_weights", "", "With --features=vgg16: Keras' file of VGG16's weights with its top layers; nothing is downloaded.")
    flags.DEFINE_integer("repeats", 5, "Repetitions (seeds or splits, paired) of what is not a suite of speed; 1 gives no interval.", lower_bound=1)
    flags.DEFINE_list("splits", [], "The very numbers of the repetitions, splits or seeds, comma-separated; -1 is the official split. 0 to repeats - 1 when left out.")
    flags.DEFINE_enum("vary", None, ["seed", "split_seed"], "What differs between repetitions: the draws (seed; default of the suites methods and learners), or the class-disjoint split (split_seed; default of the tables, few_labels, few_steps and nas).")
    flags.DEFINE_list("reward_tables", [policy.PLANTED], f"Suite policy: tables/roundN.npz of runs, or {policy.PLANTED}.")
    flags.DEFINE_multi_enum("settings", ["default", "paper"], list(policy.SETTINGS), "Suite policy: settings of the controller; may be repeated.")
    flags.DEFINE_integer("num_architectures", 40, "Suite ranking: architectures that are trained alone.", lower_bound=3, upper_bound=NUM_DISTINCT)
    flags.DEFINE_integer("num_attributes", 5, "Suite ranking: attributes of each architecture; suite nas: attributes that all are judged on.", lower_bound=1)
    flags.DEFINE_list("peers", list(peers_suite.PEERS), "Suites peers and nas: searches that train every child, of those listed; the first is the reference of peers. Suite nas: none when empty.")
    flags.DEFINE_list("attributes", [], "Suites peers and nas: attributes that peers search, one at a time; the two (nas: --num_attributes) most evenly split when left out.")
    flags.DEFINE_integer("trials", 12, "Suites peers and nas: children that each peer trains per attribute.", lower_bound=1)
    flags.DEFINE_integer("epochs", 8, "Suites peers and nas: epochs of a child.", lower_bound=1)
    flags.DEFINE_bool("finetune_last", False, "Suite nas: also fine-tune the networks that each method chose last, as suite derived does.")
    flags.DEFINE_list("cells", [], "Table 3, few_labels and few_steps: some scenarios, SOURCES-TARGET such as awa-sun or awa+apay-sun. All when left out; suites: from all other domains.")
    flags.DEFINE_list("size_penalties", [], "Suites choosing and derived: values of --size_penalty with which GALM also chooses from the same rewards.")
    flags.DEFINE_list("positives", ["5", "20", "100"], "Suite few_labels: known positives of each target attribute.")
    flags.DEFINE_list("divisors", ["1", "4"], "Suite few_steps: the steps of each phase of the target's run are divided by these, and its networks' learning rates multiplied; 1, which all are compared with, is always there.")


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    if (FLAGS.suite is None) == (FLAGS.table is None):
        raise UserError(
            f"Expected either --suite or --table. Received: suite={FLAGS.suite} and table={FLAGS.table}; give one of them."
        )
    if FLAGS.quick and FLAGS.suite in _NOT_QUICK:
        raise UserError(
            f"Expected --quick beside {', '.join(name for name in (*_SPEED, *_SUITES) if name not in (*_NOT_QUICK, *_FEW))}. Received: suite="
            f"{FLAGS.suite}, which does not read it; leave it out: give --flagfile=flags/smoke.flags and --repeats=1 for a first look."
        )
    config = config_lib.from_flags(FLAGS, _base())
    if FLAGS.suite in _BY_AUC and config.size_penalty not in (0, Config().size_penalty):
        raise UserError(
            f"Expected no --size_penalty in suite {FLAGS.suite}, where networks are chosen by their AUC alone. Received: "
            f"size_penalty={config.size_penalty}; leave it out, or compare some by --size_penalties in suites choosing and derived."
        )
    expect_writable(FLAGS.out)
    if FLAGS.suite in _SPEED:
        return timing.write(_SPEED[FLAGS.suite](config, _rounds()), FLAGS.suite, FLAGS.out)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each network and policy traces its functions anew, as it must
    return _several_domains(config) if FLAGS.table else _SUITES[FLAGS.suite](config)


def _base() -> Optional[Config]:
    """The settings of --budget, where a flag is not given; None for the defaults."""
    if FLAGS.budget and not FLAGS.table and FLAGS.suite not in _FEW:
        raise UserError(
            f"Expected --budget beside --table, --suite=few_labels or --suite=few_steps. Received: budget={FLAGS.budget} and suite={FLAGS.suite}; "
            "leave it out, or give a --flagfile."
        )
    if FLAGS.budget != "quick":
        return None
    quick, named = _quick_settings(), config_lib.folder_names(FLAGS.data_dir)
    return dataclasses.replace(quick, domain=named) if named else quick


def _quick_settings() -> Config:
    """What flags/table_quick.flags alone asks for."""
    path = os.path.join(_ROOT, _QUICK_FLAGS)
    if not os.path.isfile(path):
        raise UserError(
            f"Expected {_QUICK_FLAGS} beside the package with --budget=quick, as in a checkout of the repository. Received: "
            f"no file {path}; run it from a checkout, or give the settings by flags."
        )
    alone = copy.deepcopy(FLAGS)
    for field in dataclasses.fields(Config):
        alone[field.name].unparse()
    alone(["", f"--flagfile={path}"])
    return config_lib.from_flags(alone)


def _rounds() -> int:
    return _QUICK_REPEATS if FLAGS.quick else _REPEATS


def _run_scaling(config: Config) -> None:
    scaling.write(scaling.measure(config, _rounds()), FLAGS.suite, FLAGS.out)


def _run_methods(config: Config) -> None:
    given.expect_names("methods", FLAGS.methods, config_lib.METHODS)
    table = methods.run_methods(config, FLAGS.methods, _numbers(FLAGS.repeats), FLAGS.vary or "seed", FLAGS.out)
    methods.write(table, FLAGS.methods[0], FLAGS.suite, FLAGS.out)


def _run_learners(config: Config) -> None:
    learners.check(FLAGS.learners)
    features = _features(1)[0]
    for note in () if config.source_run else learners.without_source(FLAGS.learners):
        logging.warning(note)
    table = learners.run_learners(config, FLAGS.learners, _numbers(FLAGS.repeats), FLAGS.vary or "seed", features)
    methods.write(table, FLAGS.learners[0], FLAGS.suite, FLAGS.out)


def _features(domains: int, own_runs: bool = False) -> list[learner_data.FeatureSettings]:
    """What the learners see, for each of so many domains."""
    paths = {flag: getattr(FLAGS, flag) for flag in ("features_file", "features_run")}
    return learner_data.settings_per_domain(domains, FLAGS.features, FLAGS.vgg16_weights, own_runs, **paths)


def _run_choosing(config: Config) -> None:
    if FLAGS.vary == "seed":
        raise UserError(
            f"Expected class-disjoint splits in suite {FLAGS.suite}, whose repetitions are these. Received: vary=seed; leave it "
            "out, and give --splits or --repeats."
        )
    run = choosing.run_derived if FLAGS.suite == "derived" else choosing.run_choosing
    table = run(config, _numbers(FLAGS.repeats), FLAGS.out, _methods_or_all(), given.numbers("size_penalties", FLAGS.size_penalties, 0.0))
    methods.write(table, choosing.REFERENCE, FLAGS.suite, FLAGS.out)


def _run_policy(config: Config) -> None:
    given.expect_once("reward_tables", FLAGS.reward_tables)
    given.expect_once("settings", FLAGS.settings)
    policy.write(policy.run_policy(config, FLAGS.reward_tables, FLAGS.settings, _numbers(FLAGS.repeats)), FLAGS.out)


def _run_ranking(config: Config) -> None:
    if FLAGS.splits or FLAGS.vary:
        raise UserError(
            "Expected neither --splits nor --vary in suite ranking, which trains every network by the seeds 0 to --repeats - 1. "
            f"Received: splits={','.join(FLAGS.splits) or 'none'}, vary={FLAGS.vary or 'none'}; give --repeats, or --split_seed "
            "for another split."
        )
    table = ranking.run_ranking(config, FLAGS.num_architectures, FLAGS.num_attributes, FLAGS.repeats, FLAGS.out)
    ranking.write(table, FLAGS.out)


def _run_peers(config: Config) -> None:
    budget = peers_suite.Budget(tuple(FLAGS.attributes), tuple(FLAGS.peers), FLAGS.trials, FLAGS.epochs)
    if FLAGS.quick:
        config, budget = peers_suite.quick(config, budget)
    peers_suite.write(*peers_suite.measure(config, budget, FLAGS.out), FLAGS.out)


def _run_nas(config: Config) -> None:
    searches = nas.Searches(
        tuple(_methods_or_all()), tuple(FLAGS.peers), tuple(FLAGS.attributes), FLAGS.num_attributes, FLAGS.trials, FLAGS.epochs,
        FLAGS.finetune_last,
    )  # fmt: skip
    repeats = FLAGS.repeats
    if FLAGS.quick:
        config, searches = nas.quick(config, searches)
        repeats = repeats if FLAGS["repeats"].present else 1
    vary, numbers, out = FLAGS.vary or "split_seed", _numbers(repeats), os.path.join(FLAGS.out, "nas")
    notes = [*_notes(config, vary, len(numbers)), *nas_report.settings_notes(config, searches)]
    nas_report.write(nas.measure(config, searches, numbers, vary, out), notes, out)


def _methods_or_all() -> Sequence[str]:
    """Of --methods; or, where it is left out, every one that the time allows."""
    slow = ("enas_each",) if FLAGS.quick else ()
    return FLAGS.methods if FLAGS["methods"].present else [name for name in config_lib.METHODS if name not in slow]


def _numbers(repeats: int) -> list[int]:
    """The splits or seeds of the repetitions."""
    return given.whole_numbers("splits", FLAGS.splits, -1) or list(range(repeats))


def _several_domains(config: Config) -> None:
    """The tables and the suites that take several domains."""
    if not FLAGS["domain"].present and not config.data_dir:
        config = dataclasses.replace(config, domain=GENERATED_NAMES)
    _expect_divisible(config)
    _expect_read()
    if config.source_run or config.resume or config.run_dir:
        raise UserError(
            "Expected neither --source_run nor --run_dir nor --resume beside several runs, whose folders are made under "
            f"--out and gone on with. Received: source_run={','.join(config.source_run) or 'none'}, "
            f"run_dir={config.run_dir or 'none'}, resume={config.resume}; leave them out."
        )
    if FLAGS.table == "2":
        if FLAGS.cells:
            raise UserError(f"Expected --cells beside --table=3, --suite=few_labels or --suite=few_steps. Received: cells={','.join(FLAGS.cells)} and table=2; leave it out.")
        given.expect_names("methods", FLAGS.methods, config_lib.METHODS)
    name = f"table{FLAGS.table}" if FLAGS.table else FLAGS.suite
    runs, numbers, out = TableRuns(config, FLAGS.vary or "split_seed", FLAGS.out), _numbers(FLAGS.repeats), os.path.join(FLAGS.out, name)
    cells, notes = _learner_cells(runs), _notes(config, runs.vary, len(numbers))
    if FLAGS.table == "2":
        table = semantic.run_semantic(runs, name, FLAGS.methods, FLAGS.learners, cells, numbers)
        notes = [f"learners see {'; '.join(table['features'].dropna().unique())}", *learners.without_source(FLAGS.learners), *notes]
        return paper_table.write(table, FLAGS.methods[0], name, out, lines="method", notes=notes, paper=paper_figures.TABLE_2, vary=runs.vary)
    chosen = domain_transfer.choose(config.domain, FLAGS.cells, few=FLAGS.suite in _FEW)
    limits = _limits(config)
    table = domain_transfer.run_scenarios(runs, name, chosen, limits, numbers)
    if cells is not None:
        learned = domain_transfer.run_learners(cells, FLAGS.learners, chosen, numbers)
        table = pd.concat([transfer_table.as_methods(table, config.method, config.image_size), learned], ignore_index=True)
        return transfer_table.write(table, name, out, notes, domain_transfer.paper_of_methods(chosen), runs.vary)
    figure = domain_transfer.draw_curve(table) if FLAGS.suite == "few_labels" else None
    paper = {} if FLAGS.suite or config.train_positives else {k: v for scenario in chosen for k, v in scenario.paper.items()}
    return paper_table.write(
        table, domain_transfer.ALONE, name, out, lines="scenario", notes=notes, paper=paper, star=True, figure=figure, vary=runs.vary,
        validation=FLAGS.suite == "few_steps",
    )


def _expect_divisible(config: Config) -> None:
    """Raises UserError for settings that cannot be divided among the runs of single domains."""
    if config.label_files or any("/" not in name for name in config.leave_out):
        raise UserError(
            "Expected no --label_files beside several runs, and names in --leave_out with their domain, as in sun/trees, so that each run has its "
            f"own. Received: label_files={','.join(config.label_files) or 'none'}, leave_out={','.join(config.leave_out) or 'none'}."
        )


def _expect_read() -> None:
    """Raises UserError for flags of other suites, which a table would pass over."""
    unread = {"methods": FLAGS.table != "2" and FLAGS["methods"].present, "quick": FLAGS.quick}
    instead = {"methods": "the method is that of --method", "quick": "give --budget=quick"}
    for flag in (flag for flag, given_ in unread.items() if given_):
        raise UserError(f"Expected flags of the table or suite. Received: --{flag}, which it does not read; leave it out: {instead[flag]}.")


def _learner_cells(runs: TableRuns) -> Optional[learner_cells.LearnerCells]:
    """Attribute learners beside a table's runs; None where none are asked for."""
    asked = FLAGS["learners"].present
    if not learner_cells.has_learners(FLAGS.table, asked, FLAGS.learners, runs.config.train_positives, FLAGS.features):
        return None
    learners.check(FLAGS.learners)
    return learner_cells.LearnerCells(runs, _features(len(runs.config.domain), own_runs=True))


def _limits(config: Config) -> list[Less]:
    """What the targets of a table or suite have less of."""
    if FLAGS.suite == "few_labels":
        return [Less(positives=count) for count in given.whole_numbers("positives", FLAGS.positives or [""], 1)]
    divisors = given.whole_numbers("divisors", FLAGS.divisors or [""], 1) if FLAGS.suite == "few_steps" else []
    return [Less(config.train_positives, divisor) for divisor in dict.fromkeys([1, *divisors])]


def _notes(config: Config, vary: str, count: int) -> list[str]:
    """What a reader of a table must know about its data."""
    kind = "official split" if vary == "split_seed" and FLAGS.splits == ["-1"] else "class-disjoint split" if vary == "split_seed" else "seed"
    kind += "s" * (count > 1)
    namesakes = "a source may have seen classes of its own domain that are called like tested ones; the notes in a run's result.json name them"
    return [f"{count} {kind}", *([] if config.data_dir else [f"data: {NOTICE}"]), *([namesakes] if FLAGS.table == "3" or FLAGS.suite in _FEW else [])]


_SUITES = {
    "scaling": _run_scaling,
    "methods": _run_methods,
    "learners": _run_learners,
    "choosing": _run_choosing,
    "derived": _run_choosing,
    "policy": _run_policy,
    "ranking": _run_ranking,
    "peers": _run_peers,
    "nas": _run_nas,
    "few_labels": _several_domains,
    "few_steps": _several_domains,
}

if __name__ == "__main__":
    define_flags()
    command_line.run(main)
