"""Writes report.html about a finished run, or a comparison of several: one file, no network needed.

    python -m galm_tf.report runs/A
    python -m galm_tf.report runs/A --comparators=runs/B,runs/C
    python -m galm_tf.report runs/A runs/B runs/C

The page goes into the (first) run's folder, as report.html or comparison-B+C.html, unless --out names a file. Beside
report.html the tables of the paper's analysis (Fig. 5, Tables 4 and 5, confidence, clusters) lie as CSV in analysis/.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import hashlib
import os
import re
import tempfile
from typing import Sequence

from absl import flags

from galm_tf.begun import expect_writable
from galm_tf.errors import UserError
from galm_tf.quiet_start import import_tensorflow
from galm_tf.report.run_reading import read_run

FILE = "report.html"
_LONGEST = 80  # letters of names in that of a comparison


def define_flags() -> None:
    """What this command knows."""
    flags.DEFINE_string(
        "out",
        "",
        "File to write; report.html, or comparison-NAMES.html of several runs, in the (first) run's folder when left out.",
    )
    flags.DEFINE_bool(
        "pictures",
        True,
        "Load the data and the model for the contact sheet, the scored examples, ridge regression and how the scores relate attributes.",
    )
    flags.DEFINE_list(
        "comparators",
        [],
        "Folders of runs that the one run's test figures stand against, comma-separated; when left out, runs in the same folder that differ in --method alone.",
    )


def main(arguments: list[str]) -> None:
    folders, named = arguments[1:], flags.FLAGS.comparators
    _expect_fitting(folders)
    if flags.FLAGS.out:
        expect_writable(os.path.dirname(flags.FLAGS.out) or os.curdir)
    runs = [read_run(folder) for folder in folders]
    path = flags.FLAGS.out or os.path.join(folders[0], FILE if len(runs) == 1 else comparison_file(folders))
    if not flags.FLAGS.out:
        expect_page(path)
    elif os.path.isfile(path) and not is_page(path):
        raise UserError(
            f"Expected a new file in --out, or a page of this command to replace. Received: {path}, which is another file; name another."
        )
    import_tensorflow()  # it takes seconds to start: only now, since a wrong folder should be told at once
    from galm_tf.report import analysis, rivals
    from galm_tf.report.compare import compare_page
    from galm_tf.report.page import write_page
    from galm_tf.report.relations import find_relations
    from galm_tf.report.run_data import gather
    from galm_tf.report.single import single_page

    if len(runs) > 1:
        write_page(compare_page(runs), path)
    else:
        others = rivals.other_runs(runs[0], named) if named else rivals.neighbours(runs[0])
        evidence = gather(runs[0], flags.FLAGS.pictures)
        related = find_relations(runs[0], evidence)
        tables = (
            f"{os.path.splitext(path)[0]}-{analysis.FOLDER}"
            if flags.FLAGS.out
            else os.path.join(folders[0], analysis.FOLDER)
        )
        write_page(single_page(runs[0], evidence, related, others, os.path.basename(tables)), path)
        analysis.write_tables(runs[0], related, tables)
        print(f"Tables as CSV:        {tables}")
    print(f"Open it in a browser: {path}")


def expect_page(path: str) -> None:
    """Raises UserError where a page cannot be written: told before the data are read, which may take minutes."""
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(path) or os.curdir):
            pass
    except OSError as error:
        raise UserError(
            f"Expected to be able to write {path}. Received: {error.strerror or error}; name another file by --out."
        ) from error


def is_page(path: str) -> bool:
    """Whether a file is a page of this command, of any version: its footer says so."""
    with open(path, "rb") as file:
        return b"<footer>Made by galm_tf" in file.read()


def comparison_file(folders: Sequence[str]) -> str:
    """The page of these runs: it has the names of those beside the first one, and a mark where these do not tell which
    they are.
    """
    paths = [os.path.abspath(folder) for folder in folders]
    names = "+".join(os.path.basename(path) for path in paths[1:])
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", names)[:_LONGEST]
    beside = len({os.path.dirname(path) for path in paths}) == 1
    plain = safe == names and names.count("+") == len(paths) - 2
    mark = (
        ""
        if beside and plain
        else "-" + hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    )
    return f"comparison-{safe}{mark}.html"


def _expect_fitting(folders: list[str]) -> None:
    """Raises UserError for folders and flags that do not go together."""
    if not folders:
        raise UserError("Expected at least one run folder, e.g. python -m galm_tf.report runs/NAME. Received: none.")
    named = flags.FLAGS.comparators
    every = [*folders, *named]
    twice = [f for i, f in enumerate(every) if os.path.realpath(f) in map(os.path.realpath, every[:i])]
    if twice:
        raise UserError(f"Expected each run folder once. Received: {twice[0]}, named twice; name different runs.")
    if named and len(folders) > 1:
        raise UserError(
            f"Expected --comparators beside one run. Received: {len(folders)} runs and comparators={','.join(named)}; name all "
            "runs side by side, without --comparators."
        )
    if flags.FLAGS.out and not flags.FLAGS.out.lower().endswith((".html", ".htm")):
        raise UserError(
            f"Expected --out to name a page, which ends in .html, as browsers want it. Received: out={flags.FLAGS.out}; give "
            f"{os.path.join(flags.FLAGS.out, FILE)}."
        )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
