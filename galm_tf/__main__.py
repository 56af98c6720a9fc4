"""Lists the commands."""

from __future__ import annotations

import ast
import os
import pathlib
import sys
import textwrap

COMMANDS = ("main", "domains", "predict", "evaluate", "deploy", "report", "imagenet", "tune", "benchmark")
_WIDTH = 110


def summary(command: str) -> str:
    """What a command does: the first paragraph of its module's docstring, read without importing it."""
    folder = pathlib.Path(__file__).parent
    module = next(p for p in (folder / f"{command}.py", folder / command / "__main__.py") if p.exists())
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    return " ".join(docstring.split("\n\n")[0].split())


def main() -> None:
    print("Commands of galm_tf; each tells more by --help:\n")
    for command in COMMANDS:
        begins = f"  python -m galm_tf.{command:<10} "
        print(textwrap.fill(summary(command), _WIDTH, initial_indent=begins, subsequent_indent=" " * len(begins)))


def _told() -> int:
    """Exit status once all is written; no failure where the reader has seen enough, e.g. `| head`."""
    if sys.stdout is None:  # closed
        return 0
    try:
        main()
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
        if not isinstance(error, BrokenPipeError):
            print(
                f"error: Expected to write standard output. Received: {error.strerror}; make room there.",
                file=sys.stderr,
            )
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(_told())
