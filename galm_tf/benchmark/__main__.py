"""Measures galm_tf: its parts against plain ones, its search against other methods.

    python -m galm_tf.benchmark --suite=reward --out=runs/benchmark
    python -m galm_tf.benchmark --suite=methods --domain=sun --methods=galm,random --repeats=5
    python -m galm_tf.benchmark --suite=learners --domain=sun --data_dir=DIR --learners=dap,iap,amt --features=trunk \\
      --features_run=runs/A
    python -m galm_tf.benchmark --suite=policy --reward_tables=runs/A/tables/round2.npz --repeats=3
    python -m galm_tf.benchmark --suite=ranking --domain=apay --data_dir=DIR --flagfile=flags/quick.flags --repeats=1
    python -m galm_tf.benchmark --suite=choosing --domain=sun --data_dir=DIR --flagfile=flags/quick.flags
    python -m galm_tf.benchmark --suite=peers --domain=sun --peers=random,bayesian,hyperband,rl_nas --trials=12
    python -m galm_tf.benchmark --suite=nas --domain=sun --data_dir=DIR --repeats=2 --num_attributes=4 --trials=12
    python -m galm_tf.benchmark --table=3 --budget=quick --repeats=2 --cells=awa-sun,apay-sun
    python -m galm_tf.benchmark --table=3 --domain=awa,apay,sun --data_dir=A,B,C --learners=dap,iap,ale --features=trunk
    python -m galm_tf.benchmark --table=2 --domain=awa,apay,sun --data_dir=A,B,C --features=file --features_file=F,G,H
    python -m galm_tf.benchmark --suite=few_labels --cells=awa+apay-sun --positives=5,20,100 --budget=quick
    python -m galm_tf.benchmark --suite=few_steps --cells=awa+apay-sun --divisors=1,4 --budget=quick

Flags of galm_tf.main apply. Each suite prints a table and writes SUITE.csv and a plot or a summary into --out; a table,
few_labels, few_steps and nas have a folder there, in which a killed command goes on; all of them but nas share the runs
in its folder runs and the learners' figures in its folder learners. Without --domain these take the three generated
domains. With --budget=quick they have the settings of flags/table_quick.flags where a flag is not given.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import copy
import dataclasses
import logging
import os
from typing import Any, Iterable, Mapping, Optional, Sequence

import pandas as pd
from absl import flags

from galm_tf import config as config_lib
from galm_tf.benchmark import (
    choosing,
    controller_speed,
    domain_transfer,
    given,
    input_speed,
    learner_cells,
    learner_data,
    learners,
    methods,
    nas,
    nas_report,
    paper_figures,
    paper_table,
    peers_suite,
    policy,
    ranking,
    reward_speed,
    scaling,
    semantic,
    step_speed,
    timing,
    transfer_table,
)
from galm_tf.begun import expect_writable
from galm_tf.benchmark.cells import several_commits
from galm_tf.benchmark.results import escaped
from galm_tf.benchmark.table_runs import Less, TableRuns
from galm_tf.config import READING, Config
from galm_tf.domains.generated import GENERATED_NAMES, NOTICE
from galm_tf.domains import load_domains
from galm_tf.errors import UserError
from galm_tf.search_space import NUM_DISTINCT
from galm_tf.words import listed

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
_SPLIT = "split_seed"
_BY_AUC = ("choosing", "derived", "policy", "ranking", "peers", "nas")  # whatever the size of networks
_SHARING, _TABLES, _BY_CHILDREN = ("choosing", "derived"), ("table 2", "table 3"), ("peers", "nas")
_REPEATED = ("methods", "learners", *_SHARING, "policy", "nas", *_TABLES, *_FEW)
_SEES = ("learners", *_TABLES)
_TEACHING = ("trunk_steps", "trunk_learning_rate")
_MAKE_RUNS = ("methods", *_SHARING, "ranking", *_BY_CHILDREN, *_TABLES, *_FEW)
_READ_BY = {  # flags that not all read
    "quick": (*_SPEED, "scaling", *_BY_CHILDREN),
    "budget": (*_TABLES, *_FEW),
    "methods": ("methods", *_SHARING, "nas", "table 2"),
    **dict.fromkeys(("learners", "features", "features_file", "features_run", "vgg16_weights"), _SEES),
    "repeats": (*_REPEATED, "ranking"),
    "splits": _REPEATED,
    "vary": tuple(name for name in _REPEATED if name not in (*_SHARING, "policy")),
    **dict.fromkeys(("reward_tables", "settings"), ("policy",)),
    "num_architectures": ("ranking",),
    "num_attributes": ("ranking", "nas"),
    **dict.fromkeys(("peers", "attributes", "trials", "epochs"), _BY_CHILDREN),
    "finetune_last": ("nas",),
    "cells": ("table 3", *_FEW),
    "size_penalties": _SHARING,
    "positives": ("few_labels",),
    "divisors": ("few_steps",),
    **dict.fromkeys(config_lib.PRETRAINED_SETTINGS, ("methods", *_TABLES, *_FEW)),
    # else runs with and without sources would differ in what their trunks were taught
    **dict.fromkeys(_TEACHING, ("methods", "table 2")),
    "method": (*_TABLES, *_FEW),
    **dict.fromkeys(("run_dir", "resume", "add_attribute"), ("galm_tf.main",)),
    **dict.fromkeys(("domain", "data_dir"), ("input", "learners", *_MAKE_RUNS)),
    "source_run": ("learners", *_MAKE_RUNS),
}
_INSTEAD = {  # (flag, what is asked for) -> what to do in place of it
    **{("methods", name): ": the method is that of --method" for name in ("table 3", *_FEW)},
    **{("method", name): ": give --methods" for name in ("methods", *_SHARING, "nas")},
    **{
        (flag, name): ": folders are made below --out, and gone on with"
        for flag in ("run_dir", "resume")
        for name in _MAKE_RUNS
    },
    **{("quick", name): ": give --budget=quick" for name in (*_TABLES, *_FEW)},
    **{
        ("quick", name): ": give --flagfile=flags/smoke.flags and --repeats=1 for a first look"
        for name in ("methods", "learners", *_SHARING, "policy", "ranking")
    },
    **{("vary", name): ": its repetitions are class-disjoint splits" for name in _SHARING},
    ("splits", "ranking"): ": it trains by the seeds 0 to --repeats - 1; --split_seed draws another split",
}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def define_flags() -> None:
    config_lib.define_flags()
    flags.DEFINE_enum("suite", None, [*_SPEED, *_SUITES], "What to measure.")
    flags.DEFINE_enum(
        "table",
        None,
        ["2", "3"],
        "The paper's table to make in its place: 2 (one domain each, beside attribute learners) or 3 (from sources).",
    )
    flags.DEFINE_string("out", os.path.join("runs", "benchmark"), "Folder of results.")
    flags.DEFINE_bool(
        "quick",
        False,
        "Suites of speed and scaling: fewer rounds; peers and nas: less of everything, where a flag is not given. A suite in some minutes.",
    )
    flags.DEFINE_enum(
        "budget",
        None,
        ["quick", "full"],
        "Tables, few_labels and few_steps: quick takes the settings of flags/table_quick.flags where a flag is not given; full, as when left out, the defaults.",
    )
    flags.DEFINE_list(
        "methods",
        ["galm", "random"],
        "Suites methods, choosing, derived and nas, and table 2: values of --method; the first is the reference of methods and of table 2. Suites choosing, derived and nas: all when left out (nas with --quick: but enas_each, a search per attribute), and galm always.",
    )
    flags.DEFINE_list(
        "learners",
        list(learners.LEARNERS),
        "Suite learners and table 2: attribute learners; the first is the suite's reference. Table 3 has those that are named, and none by default.",
    )
    flags.DEFINE_enum(
        "features",
        learner_data.PIXELS,
        learner_data.FEATURES,
        "Suite learners and the tables: what learners on features see, 16x16 pixels of the images, --features_file, the trunk of --features_run (like for like with GALM), or VGG16.",
    )
    flags.DEFINE_list(
        "features_file",
        [],
        "With --features=file: an npz per domain with image (names such as FOLDER/IMAGE.jpg) and features, a row each.",
    )
    flags.DEFINE_list(
        "features_run",
        [],
        "With --features=trunk: a finished run per domain, on the same data and split. In the tables, left out: the table's own run of the domain without a source, in every split.",
    )
    flags.DEFINE_string(
        "vgg16_weights",
        "",
        "With --features=vgg16: Keras' file of VGG16's weights with its top layers; nothing is downloaded.",
    )
    flags.DEFINE_integer(
        "repeats",
        5,
        "Repetitions (seeds or splits, paired) of all suites but those of speed, scaling and peers. 1 gives no interval, but in suites ranking, whose interval is over architectures, and policy, whose is over attributes.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "splits",
        [],
        "The very numbers of the repetitions, splits or seeds, comma-separated; -1 is the official split, or the one drawn where the data bring none. 0 to repeats - 1 when left out.",
    )
    flags.DEFINE_enum(
        "vary",
        None,
        ["seed", _SPLIT],
        "What differs between repetitions: the draws (seed; default of the suites methods and learners), or the class-disjoint split (split_seed; default of the tables, few_labels, few_steps and nas).",
    )
    flags.DEFINE_list(
        "reward_tables", [policy.PLANTED], f"Suite policy: tables/roundN.npz of runs, or {policy.PLANTED}."
    )
    flags.DEFINE_multi_enum(
        "settings",
        ["default", "paper"],
        list(policy.SETTINGS),
        "Suite policy: settings of the controller",
    )
    flags.DEFINE_integer(
        "num_architectures",
        40,
        "Suite ranking: architectures that are trained alone.",
        lower_bound=3,
        upper_bound=NUM_DISTINCT,
    )
    flags.DEFINE_integer(
        "num_attributes",
        5,
        "Suite ranking: attributes of each architecture; suite nas: attributes that all are judged on.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "peers",
        list(peers_suite.PEERS),
        "Suites peers and nas: searches that train every child, of those listed; the first is the reference of peers. Suite nas: none when empty.",
    )
    flags.DEFINE_list(
        "attributes",
        [],
        "Suites peers and nas: attributes that peers search, one at a time; the two (nas: --num_attributes) most evenly split when left out.",
    )
    flags.DEFINE_integer(
        "trials", 12, "Suites peers and nas: children that each peer trains per attribute.", lower_bound=1
    )
    flags.DEFINE_integer("epochs", 8, "Suites peers and nas: epochs of a child.", lower_bound=1)
    flags.DEFINE_bool(
        "finetune_last",
        False,
        "Suite nas: also fine-tune the networks that each method chose last, as suite derived does, but without a linear reading (--readout_share=0), which children have none of.",
    )
    flags.DEFINE_list(
        "cells",
        [],
        "Table 3, few_labels and few_steps: some scenarios, SOURCES-TARGET such as awa-sun or awa+apay-sun. All when left out; suites: from all other domains.",
    )
    flags.DEFINE_list(
        "size_penalties",
        [],
        "Suites choosing and derived: values of --size_penalty with which GALM also chooses from the same rewards.",
    )
    flags.DEFINE_list(
        "positives",
        ["5", "20", "100"],
        "Suite few_labels: at most so many known positives of each target attribute; of one that has fewer, all.",
    )
    flags.DEFINE_list(
        "divisors",
        ["1", "4"],
        "Suite few_steps: the steps of each phase of the target's run are divided by these, and its networks' learning rates multiplied; 1, which all are compared with, is always there.",
    )


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    if (FLAGS.suite is None) == (FLAGS.table is None):
        raise UserError(
            f"Expected either --suite or --table. Received: suite={FLAGS.suite} and table={FLAGS.table}; give one of them."
        )
    _expect_read(f"table {FLAGS.table}" if FLAGS.table else FLAGS.suite)
    config = config_lib.from_flags(FLAGS, _base())
    if FLAGS.table or FLAGS.suite in _FEW:  # whose runs have sources of their own
        config_lib.expect_read_without_source(config)
        if FLAGS.table != "2":
            config_lib.expect_handed_over(config)
    else:
        config_lib.expect_read(config)
    if config.method == READING:
        raise UserError(
            f"Expected a --method that searches, here where searches are measured. Received: method={READING}; leave it out. Ridge regression on a "
            "trunk stands beside the learners of --suite=learners --features=trunk."
        )
    if FLAGS.suite in _BY_AUC and config.size_penalty not in (0, Config().size_penalty):
        raise UserError(
            f"Expected no --size_penalty in suite {FLAGS.suite}, where networks are chosen by their AUC alone. Received: "
            f"size_penalty={config.size_penalty}; leave it out, or compare some by --size_penalties in suites choosing and derived."
        )
    expect_writable(FLAGS.out)
    if FLAGS.suite in _SPEED:
        return timing.write(_SPEED[FLAGS.suite](config, _rounds()), FLAGS.suite, FLAGS.out)
    # each network and policy traces its functions anew, as it must
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with command_line.interrupted("The same command goes on." if FLAGS.table or FLAGS.suite in _MAKE_RUNS else ""):
        _TABLE_MAKERS[FLAGS.table](config) if FLAGS.table else _SUITES[FLAGS.suite](config)


def _base() -> Optional[Config]:
    """The settings of --budget, where a flag is not given; None for the defaults."""
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
    vary = FLAGS.vary or "seed"
    table = methods.run_methods(config, FLAGS.methods, _numbers(config, FLAGS.repeats, vary), vary, FLAGS.out)
    methods.write(table, FLAGS.methods[0], FLAGS.suite, FLAGS.out)


def _run_learners(config: Config) -> None:
    given.expect_names("learners", FLAGS.learners, learners.LEARNERS)
    features = _features(1)[0]
    for note in [
        *([] if config.source_run else learners.without_source(FLAGS.learners)),
        *learners.weighing(config, ("ridge regression",)),
    ]:
        logging.warning(note)
    vary = FLAGS.vary or "seed"
    table = learners.run_learners(config, FLAGS.learners, _numbers(config, FLAGS.repeats, vary), vary, features)
    methods.write(table, FLAGS.learners[0], FLAGS.suite, FLAGS.out)


def _features(domains: int, own_runs: bool = False) -> list[learner_data.FeatureSettings]:
    """What the learners see, for each of so many domains."""
    paths = {flag: getattr(FLAGS, flag) for flag in ("features_file", "features_run")}
    return learner_data.settings_per_domain(domains, FLAGS.features, FLAGS.vgg16_weights, own_runs, **paths)


def _run_choosing(config: Config) -> None:
    run = choosing.run_derived if FLAGS.suite == "derived" else choosing.run_choosing
    penalties = given.numbers("size_penalties", FLAGS.size_penalties, 0.0)
    table = run(config, _numbers(config, FLAGS.repeats, _SPLIT), FLAGS.out, _methods_or_all(), penalties)
    methods.write(table, choosing.REFERENCE, FLAGS.suite, FLAGS.out)


def _run_policy(config: Config) -> None:
    given.expect_once("reward_tables", FLAGS.reward_tables)
    given.expect_once("settings", FLAGS.settings)
    policy.write(
        policy.run_policy(config, FLAGS.reward_tables, FLAGS.settings, _numbers(config, FLAGS.repeats, "seed")),
        FLAGS.out,
    )


def _run_ranking(config: Config) -> None:
    table = ranking.run_ranking(config, FLAGS.num_architectures, FLAGS.num_attributes, FLAGS.repeats, FLAGS.out)
    ranking.write(table, FLAGS.out)


def _run_peers(config: Config) -> None:
    budget = peers_suite.Budget(tuple(FLAGS.attributes), tuple(FLAGS.peers), FLAGS.trials, FLAGS.epochs)
    config, budget = _with_quick(config, peers_suite.QUICK), _with_quick(budget, peers_suite.QUICK_BUDGET)
    peers_suite.write(*peers_suite.measure(config, budget, FLAGS.out), FLAGS.out)


def _run_nas(config: Config) -> None:
    searches = nas.Searches(
        tuple(_methods_or_all()), tuple(FLAGS.peers), tuple(FLAGS.attributes), FLAGS.num_attributes, FLAGS.trials, FLAGS.epochs,
        FLAGS.finetune_last,
    )  # fmt: skip
    config, searches = _with_quick(config, nas.QUICK), _with_quick(searches, nas.QUICK_SEARCHES)
    repeats = 1 if FLAGS.quick and not FLAGS["repeats"].present else FLAGS.repeats
    vary, out = FLAGS.vary or _SPLIT, os.path.join(FLAGS.out, "nas")
    numbers = _numbers(config, repeats, vary)
    found = nas.measure(config, searches, numbers, vary, out)
    notes = [*_data_notes(config, vary, numbers, found.classed), nas_report.settings_note(config, searches)]
    nas_report.write(found, notes, out)


def _with_quick(settings: Any, values: Mapping[str, Any]) -> Any:
    """Settings with the values that --quick sets, by flag, where that flag is not given; as they are without it."""
    return dataclasses.replace(
        settings, **{flag: value for flag, value in values.items() if FLAGS.quick and not FLAGS[flag].present}
    )


def _methods_or_all() -> Sequence[str]:
    """Of --methods; or, where it is left out, every one that the time allows."""
    slow = ("enas_each",) if FLAGS.quick else ()
    return FLAGS.methods if FLAGS["methods"].present else [name for name in config_lib.METHODS if name not in slow]


def _numbers(config: Config, repeats: int, vary: str) -> list[int]:
    """The splits or seeds of the repetitions; -1, the official split, is among splits alone."""
    if vary == _SPLIT and config.splits_file:
        raise UserError(
            f"Expected either --splits_file or class-disjoint splits that differ between repetitions. Received: splits_file={config.splits_file} and "
            f"vary={_SPLIT}, which is the default of all but the suites methods and learners; leave --splits_file out, or give --vary=seed where it is read."
        )
    if _is_given(vary):
        raise UserError(
            f"Expected the numbers of the repetitions in --splits, where they differ in {vary}. Received: --{vary}={getattr(config, vary)}; give "
            f"--splits={getattr(config, vary)} in its place, or leave it out."
        )
    if vary == _SPLIT:
        return given.whole_numbers("splits", FLAGS.splits, -1) or list(range(repeats))
    of_splits = (
        f", or --vary={_SPLIT} for splits, of which -1 is the official one"
        if FLAGS.vary or FLAGS.suite in _READ_BY["vary"]
        else ""
    )
    return given.whole_numbers("splits", FLAGS.splits, 0, of_splits) or list(range(repeats))


def _of_several_domains(config: Config) -> TableRuns:
    """The runs of a table, or of a suite that takes several domains."""
    if not FLAGS["domain"].present and not config.data_dir:
        config = dataclasses.replace(config, domain=GENERATED_NAMES)
    _expect_divisible(config)
    if config.source_run:
        raise UserError(
            f"Expected no --source_run beside several runs, whose sources are made under --out. Received: source_run={','.join(config.source_run)}; "
            "leave it out."
        )
    return TableRuns(config, FLAGS.vary or _SPLIT, FLAGS.out)


def _make_table_2(config: Config) -> None:
    given.expect_names("methods", FLAGS.methods, config_lib.METHODS)
    if _is_given("method") and (FLAGS.features != learner_data.TRUNK or FLAGS.features_run):
        raise UserError(
            "Expected --method in table 2 beside --features=trunk without --features_run alone, where it names the runs whose trunks learners see. "
            f"Received: method={config.method}, features={FLAGS.features} and features_run={','.join(FLAGS.features_run) or 'none'}; leave it out: "
            "the lines of the table are those of --methods."
        )
    runs = _of_several_domains(config)
    cells, numbers, name = _learner_cells(runs), _numbers(runs.config, FLAGS.repeats, runs.vary), "table2"
    cells.expect_features([learners.RIDGE, *FLAGS.learners], [(domain, ()) for domain in runs.config.domain], numbers)
    table = semantic.run_semantic(runs, name, FLAGS.methods, FLAGS.learners, cells, numbers)
    searched = table["method"].isin(FLAGS.methods)
    seen = [
        f"{who} see {'; '.join(map(escaped, table.loc[rows, 'features'].unique()))}"
        for who, rows in (("search methods", searched), ("learners", ~searched))
    ]
    notes = [
        *seen,
        *learners.without_source(FLAGS.learners),
        *learners.weighing(config, ("GALM", "ridge regression")),
        *_notes(runs, numbers, table),
    ]
    out = os.path.join(FLAGS.out, name)
    paper_table.write(
        table, FLAGS.methods[0], name, out, lines="method", notes=notes, paper=paper_figures.TABLE_2, vary=runs.vary
    )


def _make_table_3(config: Config) -> None:
    runs = _of_several_domains(config)
    cells = _learner_cells(runs)
    if config.train_positives:
        raise UserError(
            "Expected all labels in table 3, where sources of all domains know those of the target. Received: "
            f"train_positives={config.train_positives}; take --suite=few_labels --positives={config.train_positives}."
        )
    scenarios, numbers, table = _run_scenarios(runs, "table3", [Less()], cells)
    if cells is None:
        known = scenarios if config.method == Config().method else []  # whose the paper's figures are
        paper = {k: v for scenario in known for k, v in scenario.paper.items()}
        return _write_scenarios(table, "table3", runs, numbers, paper=paper)
    learned = domain_transfer.run_learners(cells, FLAGS.learners, scenarios, numbers)
    table = pd.concat([transfer_table.as_methods(table, config.method, runs.seen), learned], ignore_index=True)
    out = os.path.join(FLAGS.out, "table3")
    transfer_table.write(
        table,
        "table3",
        out,
        [*learners.weighing(config, ("GALM",)), *_notes(runs, numbers, table)],
        domain_transfer.paper_of_methods(scenarios),
        runs.vary,
    )


def _run_few_labels(config: Config) -> None:
    if FLAGS["train_positives"].present:
        raise UserError(
            f"Expected --positives in suite few_labels, which are its --train_positives. Received: train_positives={config.train_positives}; leave it out."
        )
    positives = given.whole_numbers("positives", FLAGS.positives or [""], 1)
    runs = _of_several_domains(config)
    scenarios, numbers = _scenarios(runs, FLAGS.suite)
    told = domain_transfer.fewer_positives(runs, scenarios, positives, numbers)
    for note in told:
        logging.warning(note)
    *_, table = _run_scenarios(runs, FLAGS.suite, [Less(positives=count) for count in positives])
    _write_scenarios(table, FLAGS.suite, runs, numbers, map(escaped, told), figure=domain_transfer.draw_curve(table))


def _run_few_steps(config: Config) -> None:
    divisors = given.whole_numbers("divisors", FLAGS.divisors or [""], 1)
    runs = _of_several_domains(config)
    limits = [Less(config.train_positives, divisor) for divisor in dict.fromkeys([1, *divisors])]
    _, numbers, table = _run_scenarios(runs, FLAGS.suite, limits)
    _write_scenarios(table, FLAGS.suite, runs, numbers, validation=True)


def _scenarios(runs: TableRuns, name: str) -> tuple[list[domain_transfer.Scenario], list[int]]:
    """The scenarios of Table 3 or of a suite, and the splits or seeds."""
    numbers = _numbers(runs.config, FLAGS.repeats, runs.vary)
    return domain_transfer.choose(runs.config.domain, FLAGS.cells, few=name in _FEW), numbers


def _run_scenarios(
    runs: TableRuns, name: str, limits: Sequence[Less], cells: Optional[learner_cells.LearnerCells] = None
) -> tuple[list[domain_transfer.Scenario], list[int], pd.DataFrame]:
    """(scenarios, splits or seeds, what was reached) of Table 3 or of a suite whose targets have less of something;
    cells: of learners that follow.
    """
    scenarios, numbers = _scenarios(runs, name)
    if cells:
        asked = [(s.target, sources) for s in scenarios for sources in ((), s.others)]
        cells.expect_features(FLAGS.learners, asked, numbers)
    return scenarios, numbers, domain_transfer.run_scenarios(runs, name, scenarios, limits, numbers)


def _write_scenarios(
    table: pd.DataFrame, name: str, runs: TableRuns, numbers: Sequence[int], told: Iterable[str] = (), **how: Any
) -> None:
    """Writes what was reached in these repetitions; told: further notes; how: see `paper_table.write`."""
    out, notes = os.path.join(FLAGS.out, name), [f"method: {runs.config.method}", *told, *_notes(runs, numbers, table)]
    classed = _classed(runs, table).values()
    apart = [paper_table.CLASSES] * any(classed) + [paper_table.PHOTOGRAPHS] * (not all(classed))
    paper_table.write(
        table, domain_transfer.ALONE, name, out, lines="scenario", notes=notes, star=True, vary=runs.vary,
        apart=" or ".join(apart), **how,
    )  # fmt: skip


def _expect_divisible(config: Config) -> None:
    """Raises UserError for settings that cannot be divided among the runs of single domains."""
    if config.label_files or any("/" not in name for name in config.leave_out):
        raise UserError(
            "Expected no --label_files beside several runs, and names in --leave_out with their domain, as in sun/trees, so that each run has its "
            f"own. Received: label_files={','.join(config.label_files) or 'none'}, leave_out={','.join(config.leave_out) or 'none'}."
        )


def _expect_read(name: str) -> None:
    """Raises UserError for flags that a suite or table would pass over."""
    for flag, readers in _READ_BY.items():
        if _is_given(flag) and name not in readers:
            raise UserError(
                f"Expected flags that {name} reads. Received: --{flag}, which is for {', '.join(readers)}; leave it out{_instead(flag, name)}."
            )
    if FLAGS.splits and FLAGS["repeats"].present:
        raise UserError(
            f"Expected --splits or --repeats, not both. Received: splits={','.join(FLAGS.splits)} and repeats={FLAGS.repeats}; leave one out."
        )
    if FLAGS.attributes and FLAGS["num_attributes"].present:
        raise UserError(
            f"Expected --attributes or --num_attributes, not both. Received: attributes={','.join(FLAGS.attributes)} and "
            f"num_attributes={FLAGS.num_attributes}; leave one out."
        )


def _instead(flag: str, name: str) -> str:
    """What to do in place of a flag that a suite or table would pass over, to follow "leave it out"."""
    if flag in _TEACHING:  # which flags/pretrained.flags holds
        return f", or set {config_lib.as_flag(flag, getattr(Config(), flag))} where a flagfile names another"
    return _INSTEAD.get((flag, name), "")


def _is_given(flag: str) -> bool:
    """Whether a flag is given; a run's setting only where it is not its default, as all are that flags/default.flags
    holds.
    """
    setting = getattr(Config(), flag, None)
    return FLAGS[flag].present and (
        setting is None or FLAGS[flag].value != (list(setting) if isinstance(setting, tuple) else setting)
    )


def _learner_cells(runs: TableRuns) -> Optional[learner_cells.LearnerCells]:
    """Attribute learners beside a table's runs: always in Table 2, in Table 3 where they are named; None without."""
    if FLAGS.table == "3" and not FLAGS["learners"].present:
        if FLAGS.features != learner_data.PIXELS:
            raise UserError(
                f"Expected --learners beside --features. Received: features={FLAGS.features} and no learners; name some."
            )
        return None
    learners.expect_all_labels(FLAGS.learners, runs.config.train_positives)
    given.expect_names("learners", FLAGS.learners, learners.LEARNERS)
    learners.expect_classes(load_domains(runs.config, untold=lambda note: True))
    return learner_cells.LearnerCells(runs, _features(len(runs.config.domain), own_runs=True))


def _notes(runs: TableRuns, numbers: Sequence[int], table: pd.DataFrame) -> list[str]:
    """What a reader of a table must know about its data and its cells, of these repetitions."""
    namesakes = "a source may have seen classes of its own domain that are called like tested ones; the notes in a run's result.json name them"
    classed, sources = _classed(runs, table), map(runs.has_classes, runs.config.domain)
    return [
        *_data_notes(runs.config, runs.vary, numbers, classed),
        *([namesakes] if FLAGS.table != "2" and any(classed.values()) and sum(sources) > 1 else []),
        *several_commits(table["commit"]),
    ]


def _classed(runs: TableRuns, table: pd.DataFrame) -> dict[str, bool]:
    """Domain -> whether it has classes, of those that a table tests."""
    return {name: runs.has_classes(name) for name in table["target" if "target" in table else "scenario"].unique()}


def _data_notes(config: Config, vary: str, numbers: Sequence[int], classed: Mapping[str, bool]) -> list[str]:
    """How many repetitions of what kind, which of the tested domains have no classes, and that data are generated."""
    drawn, without = sum(number != -1 for number in numbers), [escaped(name) for name in classed if not classed[name]]
    several, named = "s" * (drawn > 1), listed(without, len(without)) if without else ""
    if vary != _SPLIT:
        kind = f"seed{several}"
    elif len(without) == len(classed):
        kind = f"split{several} by photographs"
    else:
        kind = f"class-disjoint split{several}" + f" (of {named} by photographs)" * bool(without)
    official = "the official split, or the one drawn where the data bring none,"
    kinds = [official] * (-1 in numbers) + [f"{drawn} {kind}"] * (drawn > 0)
    return [
        " and ".join(kinds).rstrip(","),
        *([f"no classes to hold out in {named}: the test there tells nothing of unseen ones"] if without else []),
        *([] if config.data_dir else [f"data: {NOTICE}"]),
    ]


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
    "few_labels": _run_few_labels,
    "few_steps": _run_few_steps,
}
_TABLE_MAKERS = {"2": _make_table_2, "3": _make_table_3}

if __name__ == "__main__":
    define_flags()
    command_line.run(main)
