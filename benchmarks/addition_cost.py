"""What one more attribute costs beside the search: the processor time of both, imports and all.

    python -m benchmarks.addition_cost --flagfile=flags/quick.flags --domain=sun --data_dir=DIR --attributes=trees

The attributes are left out of a search by the command's settings, and then added to it, all at once, by a table of the
data's own labels: the search once, the addition --repeats times, each from the search. Every one is a process of its own
of a single thread. Images are decoded before any is timed. The cache lies in --out, and every addition finds it as the
search has left it.

Writes addition_cost.csv into --out; what is finished there is not run again.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from absl import flags

from galm_tf import attribute_names
from galm_tf import config as config_lib
from galm_tf.benchmark.cells import Cells
from galm_tf.begun import expect_writable, result_file
from galm_tf.config import Config, as_flag
from galm_tf.domains import load_domains
from galm_tf.domains.domain import WHOLE_IMAGE, Domain
from galm_tf.domains.table_file import BOX
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.run_folder import flagfile
from galm_tf.words import listed

FLAGS = flags.FLAGS
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_NAMED = 5  # attributes in a sentence


def main(arguments: list[str]) -> None:
    """Prints how many times cheaper the addition is."""
    command_line.expect_no_arguments(arguments)
    config = config_lib.from_flags(FLAGS)
    unread = [name for name in ("add_attribute", "run_dir", "resume") if getattr(config, name)]
    if unread:
        raise UserError(
            f"Expected settings of a search alone: runs lie in --out, and what is added is named by --attributes. Received: --{unread[0]}; leave it out."
        )
    table, names = measure(config, FLAGS.attributes, FLAGS.repeats, FLAGS.out)
    path = os.path.join(FLAGS.out, "addition_cost.csv")
    with result_file(path) as partial:
        table.to_csv(partial, index=False)
    print(summary(table, names))
    print(path)


def measure(config: Config, asked: Sequence[str], repeats: int, out: str) -> tuple[pd.DataFrame, list[str]]:
    """Runs what is left of the search and the additions.

    Args:
      config: the search's settings.
      asked: attributes of the data, with or without their domain.
      repeats: how many additions.
      out: folder of runs and results.

    Returns:
      Rows run (`search` or `addition`), processor_seconds, seconds, and of additions ratio, how many times the search's
      processor time is theirs; the attributes' full names.
    """
    expect_writable(out)
    config = dataclasses.replace(config, cache_dir=os.path.join(out, "cache"))
    domain = load_domains(config)
    columns = _columns(asked, domain.attributes)
    names = [domain.attributes[column] for column in columns]
    cells = Cells(out, {**config.to_json(), "attributes": names})
    labels, settings, search = (os.path.join(out, name) for name in ("labels.csv", "search.flags", "search"))
    with result_file(labels) as partial:
        label_table(domain, columns).to_csv(partial, index=False)
    without = dataclasses.replace(config, leave_out=(*config.leave_out, *names))
    with result_file(settings) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(flagfile(without))

    def searched() -> dict[str, float]:
        load_images(load_domains(without), without)  # into the cache
        return timed([f"--flagfile={settings}"], search)

    def added(number: int) -> dict[str, float]:
        run, cache = os.path.join(out, f"addition{number}"), os.path.join(out, f"cache{number}")
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(config.cache_dir, cache, copy_function=os.link)  # nothing changes a file there
        found = timed([f"--add_attribute={labels}", f"--source_run={search}", as_flag("cache_dir", cache)], run)
        shutil.rmtree(cache)
        return found

    rows = [{"run": "search", **cells.get("search", searched)}]
    rows += [{"run": "addition", **cells.get(f"addition{i}", lambda i=i: added(i))} for i in range(repeats)]
    table = pd.DataFrame(rows)
    ratios = table["processor_seconds"].iloc[0] / table["processor_seconds"]
    return table.assign(ratio=ratios.where(table["run"] == "addition")), names


def _columns(asked: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where the attributes are; raises UserError for none, and for one that is not known or that two domains have."""
    found = []
    for name in filter(None, asked):
        its = attribute_names.places(name, names)
        if len(its) != 1:
            raise UserError(
                f"Expected the name of one attribute of the data each in --attributes. Received: {name}; {attribute_names.repair(name, names, 'attributes')}"
            )
        found += its
    if not found:
        raise UserError(
            "Expected attributes of the data in --attributes, which are added to the search. Received: none; name some."
        )
    return list(dict.fromkeys(found))


def label_table(domain: Domain, columns: Sequence[int]) -> pd.DataFrame:
    """The labels of some attributes as --add_attribute reads them: a row per record that has one, unknown ones empty."""
    labels = domain.labels[:, columns]
    known = np.flatnonzero(np.isfinite(labels).any(axis=1))
    boxes = domain.boxes[known]
    table = pd.DataFrame({"image": [domain.paths[record] for record in known]})
    if (boxes != WHOLE_IMAGE).any():
        whole = (boxes == WHOLE_IMAGE).all(axis=1)
        table = table.assign(
            **{side: pd.array(np.where(whole, None, boxes[:, i]), "Int64") for i, side in enumerate(BOX)}
        )
    values = {domain.attributes[column]: pd.array(labels[known, i], "Int64") for i, column in enumerate(columns)}
    return pd.concat([table, pd.DataFrame(values)], axis=1)


def timed(arguments: Sequence[str], run_dir: str) -> dict[str, float]:
    """What `galm_tf.main` with these flags takes for a run, in a process of its own of one thread: processor_seconds,
    and seconds by the clock. A run that was stopped is begun anew.
    """
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [sys.executable, "-m", "galm_tf.main", *arguments, f"--run_dir={run_dir}"]
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(f"{run_dir}.log", "w", encoding="utf-8") as log:
        status = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise UserError(
            f"Expected the run in {run_dir} to end well. Received: exit status {status}; {run_dir}.log says why."
        )
    spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return {"processor_seconds": spent, "seconds": seconds}


def summary(table: pd.DataFrame, names: Sequence[str]) -> str:
    """The ratio by the median addition, and from which to which, in words."""
    search, additions = table[table["run"] == "search"], table[table["run"] == "addition"]
    spent = [f"{seconds:.1f}" for seconds in additions["processor_seconds"]]
    ratio = search["processor_seconds"].iloc[0] / additions["processor_seconds"].median()
    return (
        f"processor time: the search {search['processor_seconds'].iloc[0]:.1f} s, adding {listed(names, _NAMED)} {listed(spent, len(spent))} s: "
        f"{ratio:.1f} times less ({additions['ratio'].min():.1f} to {additions['ratio'].max():.1f})"
    )


if __name__ == "__main__":
    config_lib.define_flags()
    flags.DEFINE_list("attributes", [], "What is added, comma-separated, with or without the domain's name.")
    flags.DEFINE_integer("repeats", 3, "How many times it is added.", lower_bound=1)
    flags.DEFINE_string("out", os.path.join("runs", "addition_cost"), "Folder of runs and results.")
    command_line.run(main)
