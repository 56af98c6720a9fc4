"""How every entry module starts: flags parsed, a user's mistake told in one line.

Exit status: 0 done, 1 done in part, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Callable, Optional, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow: its start-up notices bury ours

from absl import app, flags, logging

from galm_tf.errors import UserError
from galm_tf.paths import from_home

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130


def run(main: Callable[[list[str]], Optional[int]], argv: Optional[list[str]] = None) -> None:
    """Parses flags, calls `main` with what is left of the arguments, and exits with its status.

    A KeyboardInterrupt that carries a message tells it: how to continue.
    """
    app.define_help_flags()
    logging.set_verbosity(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_call(main, sys.argv if argv is None else argv))


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses into `flags.FLAGS` and returns the program's name and its arguments; raises UserError on bad flags.

    A shell leaves --x=~/y as it stands: values that begin so are made paths here.
    """
    try:
        rest = flags.FLAGS(list(argv))
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), 1)
        repair = f"did you mean --{near[0]}?" if near else "run with --help to see all flags."
        where = _place_in_flagfile(error.flagname, argv)
        raise UserError(f"Expected a flag of this program. Received: --{error.flagname}{where}; {repair}") from None
    except flags.Error as error:
        text = " ".join(str(error).replace("ERROR::", "").split())
        raise UserError(f"Expected flags that can be read. Received: {text}; run with --help to see all flags.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"Expected a flagfile in UTF-8. Received: bytes that are none ({error.reason}); save it as UTF-8.") from None
    for flag in (flags.FLAGS[name] for name in flags.FLAGS):
        if flag.present and flag.value != flag.default:  # a default stays as other machines have it
            flag.value = from_home(flag.value)
    return rest


def expect_no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError when something without dashes follows the program's name, which nothing would read."""
    if arguments[1:] and arguments[1].startswith("\ufeff"):
        raise UserError(f"Expected flags only. Received: a flagfile with a byte-order mark, before {arguments[1][1:]}; save it as UTF-8 without one.")
    if arguments[1:]:
        raise UserError(f"Expected flags only. Received: {arguments[1]}; a flag starts with two dashes, in a flagfile too.")


def _call(main: Callable[[list[str]], Optional[int]], argv: Sequence[str]) -> int:
    try:
        return main(parse_flags(argv)) or DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f"\nInterrupted. {stop}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has seen enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _place_in_flagfile(name: str, argv: Sequence[str]) -> str:
    """" in FILE, line N" when a flagfile on the command line holds the flag; "" when none does."""
    arguments = " ".join(argv[1:])
    for path in re.findall(r"--?flagfile[= ](\S+)", arguments):
        try:
            with open(os.path.expanduser(path), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            if re.match(rf"\s*--?{re.escape(name)}(=|\s|$)", line):
                return f" in {path}, line {number}"
    return ""
