"""What transfer finds and saves on the generated domains, whose correspondences are planted.

    python -m benchmarks.transfer_matching --flagfile=flags/table_quick.flags --seeds=2

Sources are searched once per seed. For every ordered pair of domains each way of matching names a source attribute per
target attribute: counted is how many of those with a planted partner in the source get it. Then each target is searched
from nothing, by the command's settings and by those of flags/transfer.flags, and by the latter in a quarter of the
steps (supernet and controller) from nothing and from each source, and the rewards at the end are compared: does a
quarter from a source reach what the whole search from nothing does? The rewards after each of many short rounds are
drawn; in the midst of a search its learning rate is still high, so that these say nothing of a shorter search.

Writes matches.csv, curves.csv and curves.png into --out; run folders there are gone on with.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import collections
import dataclasses
import itertools
import json
import os
from typing import Any

import pandas as pd
from absl import flags
from absl.testing import flagsaver
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galm_tf import config as config_lib
from galm_tf import pipeline, preparation, transfer
from galm_tf.benchmark.cells import Cells
from galm_tf.config import Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.errors import UserError
from galm_tf.domains.generated import GENERATED_NAMES, PLANTED_CORRESPONDENCES
from galm_tf.run_folder import RunFolder
from galm_tf.schedule import search_steps
from galm_tf.search import Search

FLAGS = flags.FLAGS
ROUNDS = 8  # of a whole search
RULES = ("predictor", "cosine", "random")
_WHOLE = ("whole", "whole_quickened")  # searches from nothing that a quarter is compared with
_TRANSFER_FLAGS = "flags/transfer.flags"
_STEPS = ("warmup_steps", "rounds", "supernet_steps", "controller_steps")  # of that file; they are set here


def partners() -> dict[str, set[str]]:
    """Attribute -> the attributes of other domains that are drawn alike."""
    found = collections.defaultdict(set)
    for a, b in PLANTED_CORRESPONDENCES:
        found[a].add(b)
        found[b].add(a)
    return found


def main(arguments: list[str]) -> None:
    """Prints a summary of each part."""
    command_line.expect_no_arguments(arguments)
    given = config_lib.from_flags(FLAGS)
    for flag in (name for name in ("data_dir", "source_run", "label_files") if getattr(given, name)):
        raise UserError(
            f"Expected no --{flag}: correspondences are planted in the generated domains alone. Received: {flag}={','.join(getattr(given, flag))}; leave it out."
        )
    base = dataclasses.replace(given, size_penalty=0.0)  # rewards that are compared are AUCs
    pairs = list(itertools.permutations(GENERATED_NAMES, 2))
    tasks = [(dataclasses.replace(base, seed=seed), *pair) for seed in range(FLAGS.seeds) for pair in pairs]
    cells = Cells(FLAGS.out, base.to_json())
    rows = []
    for config, source, target in tasks:
        name = f"matches-{source}-{target}-s{config.seed}"
        rows += cells.get(name, lambda task=(config, source, target): {"rows": match_rows(*task)})["rows"]
    matches = pd.DataFrame(rows)
    matches.to_csv(os.path.join(FLAGS.out, "matches.csv"), index=False)
    shares = matches.groupby(["rule", "seed"])["hit"].mean().unstack()
    print(f"share of {len(matches) // (len(RULES) * FLAGS.seeds)} planted correspondences that are found, by seed")
    print(shares.assign(mean=shares.mean(axis=1)).to_string(float_format="%.3f"), flush=True)
    if FLAGS.curves == 0:
        return
    quickened = transfer_settings(base)
    curves = pd.DataFrame([row for task in tasks[: FLAGS.curves] for row in curve_rows(*task, quickened)])
    curves.to_csv(os.path.join(FLAGS.out, "curves.csv"), index=False)
    _draw(curves)
    table = last_rewards(curves)
    print(table.to_string(index=False, float_format="%.3f"))
    reached = [f"{(table['moved'] >= table[k]).sum()} of {len(table)} ({k})" for k in _WHOLE]
    print("a quarter from a source reaches the whole from nothing:", ", ".join(reached))


def transfer_settings(base: Config) -> dict[str, Any]:
    """What flags/transfer.flags sets otherwise than `base`, but for its steps."""
    with flagsaver.flagsaver():
        FLAGS(["transfer_matching", f"--flagfile={_TRANSFER_FLAGS}"])
        theirs = dataclasses.replace(config_lib.from_flags(FLAGS, base), size_penalty=base.size_penalty)
    names = (field.name for field in dataclasses.fields(Config) if field.name not in _STEPS)
    return {name: getattr(theirs, name) for name in names if getattr(theirs, name) != getattr(base, name)}


def _source(config: Config, source: str) -> str:
    """The folder of a finished run on the source."""
    path = os.path.join(FLAGS.out, f"{source}-s{config.seed}")
    config, folder = RunFolder.begin_or_resume(path, dataclasses.replace(config, domain=(source,)))
    pipeline.run(config, folder, make_strategy=ControllerTraining)
    return path


def match_rows(config: Config, source: str, target: str) -> list[dict]:
    """A row per target attribute with a planted partner in the source and per rule."""
    given, planted, rows = _source(config, source), partners(), []
    one = dataclasses.replace(config, domain=(target,), source_run=(given,), transfer=("towers",))
    prepared = preparation.prepare(one)
    for rule in RULES:
        search = Search(
            dataclasses.replace(one, match=rule),
            prepared.domain,
            prepared.split,
            prepared.images,
            None,
            ControllerTraining,
        )
        transfer.start_from(search)
        for name, match in search.state.transfer["matches"].items():
            right = {p for p in planted[name] if p.startswith(f"{source}/")}
            if right:
                found = match["attribute"] if match else None
                hit = found in right and match["sign"] > 0
                rows.append(
                    dict(
                        seed=config.seed, source=source, target=target, rule=rule, attribute=name, found=found, hit=hit
                    )
                )
    return rows


def curve_rows(config: Config, source: str, target: str, quickened: dict[str, Any]) -> list[dict]:
    """Rewards after each round.

    Args:
      config: of the whole search.
      source, target: domains.
      quickened: settings that the other searches have in their place.

    Returns:
      Rows search (a column of `last_rewards`), steps, reward, table_mean.
    """
    kinds = {
        "whole": ("nothing", ROUNDS, {}),
        "whole_quickened": ("nothing", ROUNDS, quickened),
        "quarter": ("nothing", ROUNDS // 4, quickened),
        "moved": (source, ROUNDS // 4, quickened),
    }
    rows = []
    for kind, (start, rounds, settings) in kinds.items():
        path = os.path.join(FLAGS.out, f"{target}-{kind if start == 'nothing' else f'from-{start}'}-s{config.seed}")
        one = dataclasses.replace(_in_rounds(config, rounds), domain=(target,), **settings)
        if start != "nothing":
            one = dataclasses.replace(one, source_run=(_source(config, source),))
        one, folder = RunFolder.begin_or_resume(path, one)
        if not folder.has("tables/done.npz"):
            pipeline.search(one, folder, preparation.prepare(one), ControllerTraining)
            folder.write_arrays("tables/done.npz", {})
        rows += [
            {"seed": config.seed, "source": source, "target": target, "search": kind, **r}
            for r in _rewards(folder, one)
        ]
    return rows


def _in_rounds(config: Config, rounds: int) -> Config:
    """A share of the supernet and controller steps, in rounds of a fixed length, and no networks at the end."""
    return dataclasses.replace(
        config, warmup_steps=0, rounds=rounds, supernet_steps=search_steps(config) // ROUNDS,
        controller_steps=config.rounds * config.controller_steps // ROUNDS, adapt_steps=0, finetune_steps=0,
    )  # fmt: skip


def _rewards(folder: RunFolder, config: Config) -> list[dict]:
    """Of every round: the reward of all architectures alike, and that of the policy at its end."""
    with open(os.path.join(folder.path, "metrics.jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    means = [r["validation/table_mean"] for r in records if "validation/table_mean" in r]
    policy = {}
    for r in records:
        if "controller/reward" in r:
            policy[(r["step"] - 1) // config.controller_steps] = r["controller/reward"]
    steps = [(i + 1) * config.supernet_steps for i in range(config.rounds)]
    return [dict(steps=s, table_mean=m, reward=policy[i]) for i, (s, m) in enumerate(zip(steps, means))]


def last_rewards(curves: pd.DataFrame) -> pd.DataFrame:
    """Per (source, target, seed) the last reward of every search."""
    rows = []
    for key, part in curves.groupby(["source", "target", "seed"], sort=False):
        last = {kind: part[part["search"] == kind]["reward"].iloc[-1] for kind in part["search"].unique()}
        rows.append({**dict(zip(("source", "target", "seed"), key)), **last})
    return pd.DataFrame(rows)


def _draw(curves: pd.DataFrame) -> None:
    """A panel per target: the whole searches and a quarter from nothing once each, a quarter from each source."""
    targets = list(curves["target"].unique())
    names = {
        "whole": "from nothing",
        "whole_quickened": "from nothing, transfer.flags",
        "quarter": "from nothing, transfer.flags, a quarter",
    }
    lines = [(kind, None, name) for kind, name in names.items()]
    lines += [("moved", source, f"from {source}, transfer.flags, a quarter") for source in curves["source"].unique()]
    figure = Figure((4.6 * len(targets), 4.2), dpi=100, layout="constrained")
    for axis, target in zip(figure.subplots(1, len(targets), squeeze=False, sharey=True)[0], targets):
        shown = curves[curves["target"] == target]
        for color, (kind, source, label) in enumerate(lines):
            part = shown[(shown["search"] == kind) & (shown["source"] == (source or shown["source"].iloc[0]))]
            mean = part.groupby("steps")["reward"].mean()
            if len(mean):
                axis.plot(mean.index, mean, "o-", markersize=3, color=f"C{color}", label=label)
        axis.set(title=target, xlabel="supernet steps")
    figure.axes[0].set_ylabel("the policy's validation reward (AUC)")
    drawn = {label: line for axis in figure.axes for line, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=3, fontsize="small")
    FigureCanvasAgg(figure).print_png(os.path.join(FLAGS.out, "curves.png"))


if __name__ == "__main__":
    config_lib.define_flags()
    flags.DEFINE_string("out", os.path.join("runs", "transfer_matching"), "Folder of results.")
    flags.DEFINE_integer("seeds", 1, "How many seeds.", lower_bound=1)
    flags.DEFINE_integer(
        "curves",
        None,
        "How many (seed, source, target) have a curve; all when left out, 0 for matches alone.",
        lower_bound=0,
    )
    command_line.run(main)
