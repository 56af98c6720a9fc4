"""How every entry module starts: flags parsed, a user's mistake told in one line.

Exit status: 0 done, 1 done in part, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Callable, Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow: its start-up notices bury ours

from absl import app, flags, logging

from galm_tf.errors import UserError


def run(main: Callable[[list[str]], Optional[int]], argv: Optional[list[str]] = None) -> None:
    """Parses flags, calls `main` with what is left of the arguments, and exits with its status."""
    app.define_help_flags()
    logging.set_verbosity(logging.WARNING)
    sys.exit(_call(main, sys.argv if argv is None else argv))


def _call(main, argv: list[str]) -> int:
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        return _tell(str(error).replace("\n", " "), "run with --help to see all flags")
    try:
        return main(rest) or 0
    except UserError as error:
        return _tell(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command with --resume and the same --run_dir continues.", file=sys.stderr)
        return 130


def _tell(message: str, repair: str = "") -> int:
    print(f"error: {message}" + (f" ({repair})" if repair else ""), file=sys.stderr)
    return 2

