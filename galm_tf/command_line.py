"""How every entry module starts: flags parsed, a user's mistake told in one line.

Exit status: 0 done, 1 done in part, 2 bad input, too little memory or nowhere to write what is told, 130 interrupted,
by Ctrl-C or by SIGTERM, with which schedulers end what they run.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import difflib
import gc
import itertools
import logging
import os
import re
import signal
import sys
import threading
import time
from typing import Any, Callable, Iterator, Optional, Sequence, TextIO

# Before TensorFlow, which reads them as it starts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its start-up notices bury ours
# of a GPU's memory what is needed, not all: others use it too
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

from absl import app, flags
from absl import logging as absl_logging

from galm_tf.command_help import HelpFlag
from galm_tf.errors import UserError
from galm_tf.paths import from_home, nearest
from galm_tf.quiet_start import import_tensorflow
from galm_tf.refusals import lacks_memory
from galm_tf.words import bounded, choice_repair

_LATE = ("domains", "report")  # commands that import TensorFlow themselves, once they know their folders
DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
_AGAIN_SECONDS = 0.05  # after which an interrupt that was lost comes again
_GIVING = ("resume", "add_attribute", "budget")  # flags that give others their values, as flagfiles do
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}  # by absl's names


def run(main: Callable[[list[str]], Optional[int]], argv: Optional[list[str]] = None) -> None:
    """Parses flags, calls `main` with what is left of the arguments, and exits with its status.

    A KeyboardInterrupt that carries a message tells it: how to continue.
    """
    app.define_help_flags()
    flags.DEFINE_flag(HelpFlag(), module_name=app.__name__)
    absl_logging.set_verbosity(absl_logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    if _command():
        _begin_collecting()
    with (
        contextlib.redirect_stdout(_Stream(sys.stdout, "standard output")),
        contextlib.redirect_stderr(_Stream(sys.stderr, "standard error")),
    ):
        status = _call(main, sys.argv if argv is None else argv)
    if status == INTERRUPTED and _command():
        _pass_over_interrupts()
    sys.exit(status)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses into `flags.FLAGS` and returns the program's name and its arguments; raises UserError on bad flags.

    What was typed wins over a flagfile, wherever that stands; of several flagfiles the later wins.
    A shell leaves --x=~/y as it stands: values that begin so are made paths here.
    """
    try:
        files, typed = _flagfiles_apart(argv[1:])
        lines = flags.FLAGS.read_flags_from_files(files)
        rest = _parse(argv[:1], lines, typed)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), 1)
        repair = f"did you mean --{near[0]}?" if near else "run with --help to see all flags."
        where = _place_in_flagfile(error.flagname, argv)
        raise UserError(f"Expected a flag of this program. Received: --{error.flagname}{where}; {repair}") from None
    except flags.CantOpenFlagFileError as error:
        raise UserError(_unread_flagfile(error)) from None
    except flags.IllegalFlagValueError as error:
        raise UserError(_wrong_value(error, argv)) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"Expected a flagfile in UTF-8. Received: bytes that are none ({error.reason}); save it as UTF-8."
        ) from None
    except SystemExit:  # absl has printed the help that was asked for, and would call that a failure
        raise SystemExit(DONE) from None
    except (flags.Error, ValueError) as error:  # ValueError: --noX=Y
        raise UserError(_unread_flags(error)) from None
    _expect_values([*files, *typed], lines)
    for flag in (flags.FLAGS[name] for name in flags.FLAGS):
        _expect_no_gap(flag, argv)
        if flag.present and flag.value != flag.default:  # a default stays as other machines have it
            flag.value = from_home(flag.value)
    return rest


def _expect_values(arguments: Sequence[str], lines: Sequence[str]) -> None:
    """Raises UserError for --x= with nothing after it, as an unset variable of a shell leaves it, unless it may take back
    what a line of a flagfile or another run gives.
    """
    typed = list(itertools.takewhile(lambda argument: argument != "--", arguments))
    taken_back = any(re.match(f"--?({'|'.join(_GIVING)})(=.|$)", argument) for argument in typed)
    for name in (found[1] for argument in typed if (found := re.fullmatch(r"--?(\w+)=\s*", argument))):
        given = taken_back or any(re.match(rf"--?{name}(=|\s|$)", line) for line in lines)
        own = name in flags.FLAGS and not flags.FLAGS[name].default
        if name == "flagfile" or (own and not given):
            raise UserError(
                f"Expected a value of --{name}. Received: --{name}= and nothing; name one, or leave it out."
            )


def _expect_no_gap(flag: flags.Flag, argv: Sequence[str]) -> None:
    """Raises UserError for a list with nothing between two commas, as an unset variable of a shell leaves it."""
    if isinstance(flag.value, list) and "" in flag.value:
        value = ",".join(flag.value)
        raise UserError(
            f"Expected something before and after every comma of --{flag.name}. Received: "
            f"--{flag.name}={value}{_place_in_flagfile(flag.name, argv, value)}; name what is missing, or take a comma out."
        )


def expect_no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError when something without dashes follows the program's name, which nothing would read."""
    if arguments[1:] and arguments[1].startswith("\ufeff"):
        raise UserError(
            f"Expected flags only. Received: a flagfile with a byte-order mark, before {arguments[1][1:]}; save it as UTF-8 without one."
        )
    if arguments[1:]:
        raise UserError(
            f"Expected flags only. Received: {arguments[1]}; a flag starts with two dashes, in a flagfile too."
        )


class _UnwrittenError(OSError):
    """What was told could not be written; the message says where to, and why."""


class _Stream:
    """A standard stream whose failures can be told from those of other files: all but a broken pipe raise
    `_UnwrittenError`.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failures():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._failures():
            self._stream.flush()

    def give_up(self) -> None:
        """What is still to be written goes nowhere, also at the end of the process."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _UnwrittenError(
                f"Expected to write {self._name}. Received: {error.strerror or error}; make room there, or send it elsewhere."
            ) from error


def _call(main: Callable[[list[str]], Optional[int]], argv: Sequence[str]) -> int:
    """Exit status of `main`, once all that it has told is written."""
    status = DONE
    try:
        status = _ended(main, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of standard output has seen enough, e.g. `| head`
        sys.stdout.give_up()
    except _UnwrittenError as error:
        status = BAD_INPUT
        sys.stdout.give_up()
        try:
            print(f"error: {error}", file=sys.stderr)
        except OSError:  # nobody can be told
            sys.stderr.give_up()
    return status


def _ended(main: Callable[[list[str]], Optional[int]], argv: Sequence[str]) -> int:
    """Exit status of `main`, whose end is told where it is no success."""
    try:
        with interrupted():
            return main(parse_flags(argv)) or DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f"\nInterrupted. {stop}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        lacking = _of_memory(error) if lacks_memory(error) else _of_folder(error)
        if not lacking:
            raise
        print(f"error: {lacking}", file=sys.stderr)
        return BAD_INPUT
    except SystemExit as end:  # of help
        return end.code


def _of_folder(error: Exception) -> str:
    """What a user is told where the working folder is gone, or none takes temporary files; "" where all is there."""
    if not isinstance(error, FileNotFoundError):
        return ""
    try:
        os.getcwd()
    except FileNotFoundError:
        return (
            "Expected a working folder, from which relative paths lead. Received: one that was deleted; change to another, or name "
            "absolute paths alone."
        )
    if "temporary directory" not in str(error):
        return ""
    return f"Expected a folder for temporary files. Received: {error.strerror}; make one of these writable, or name another by TMPDIR."


def _of_memory(error: Exception) -> str:
    """What a user is told where memory does not do."""
    words = re.sub(r"^\{\{.*?\}\} *| \[Op:.*", "", (str(error).splitlines() or [""])[0])
    again = "give the command again, a run's with --resume" if "resume" in flags.FLAGS else "give the command again"
    smaller = [f"--{name}" for name in ("batch_size", "attributes_per_step", "image_size") if name in flags.FLAGS]
    return (
        f"Expected more memory, of the GPU where one computes. Received: {words[:200] or 'none is left'}; free what other "
        f"programs hold and {again}, have the processor compute by CUDA_VISIBLE_DEVICES=-1 before it"
        + (f", or begin anew with a smaller {' or '.join(smaller)}." if smaller else ".")
    )


class interrupted:  # noqa: N801 (used as a function is)
    """Lets an interrupt of what it holds tell how to go on; without words, as what is within has it.

    No generator: a traceback would hold on to what it held, such as the lock of a run's folder.
    """

    def __init__(self, how: str = "") -> None:
        self._how = how

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Optional[BaseException], traceback: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(self._how or str(error)) from None
        if isinstance(error, RuntimeError) and "KeyboardInterrupt" in str(error):  # as compiled code calls it
            raise KeyboardInterrupt(self._how) from None


def _parse(program: Sequence[str], lines: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The program's name and its arguments: lines of flagfiles first, then what was typed, also of a flag that may be
    given several times, whose values absl would join.
    """
    names = [name for name in flags.FLAGS if isinstance(flags.FLAGS[name], flags.MultiFlag)]
    if not names or not any(re.match(f"--?({'|'.join(names)})(=|$)", argument) for argument in typed):
        return flags.FLAGS([*program, *lines, *typed])
    rest = flags.FLAGS([*program, *lines])
    several = {flags.FLAGS[name]: flags.FLAGS[name].present for name in names}
    for flag in several:
        flag.present = 0  # what comes next replaces its values
    rest += flags.FLAGS([*program, *typed])[1:]
    for flag, present in several.items():
        flag.present = flag.present or present
    return rest


def _flagfiles_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flagfiles, the other arguments); what follows -- stays as it is."""
    files, others, rest = [], [], iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif re.match("--?flagfile=", argument):
            files.append(argument)
        elif argument in ("--flagfile", "-flagfile"):
            value = next(rest, None)
            files += [] if value is None else [f"--flagfile={value}"]
            others += [argument] if value is None else []
        else:
            others.append(argument)
    return files, others


def _unread_flags(error: Exception) -> str:
    """The sentence about flags that absl cannot tell apart."""
    text = " ".join(str(error).replace("ERROR::", "").split())
    missing = re.fullmatch("Missing value for flag (.*)|(--flagfile) with no argument", text)
    if missing:
        name = missing[1] or missing[2]
        return f"Expected a value of {name}. Received: none; give it as {name}=VALUE."
    return f"Expected flags that can be read. Received: {text}; run with --help to see all flags."


def _unread_flagfile(error: Exception) -> str:
    """The sentence about a flagfile that is not there; names the nearest one that is, in the same folder or in its flags/."""
    path, reason = str(error.__context__.filename), error.__context__.strerror
    beside = os.path.join(os.path.dirname(path), "flags")
    near = nearest(path, os.path.isfile) or nearest(path, os.path.isfile, beside)
    unpackaged = os.path.dirname(path) == "flags" and not os.path.exists("flags")
    repair = (
        "run it from a checkout, or give the settings by flags"
        if unpackaged
        else f"nearest: {near}"
        if near
        else "check its path"
    )
    return f"Expected a flagfile that can be read. Received: --flagfile={path} ({reason}); {repair}."


def _wrong_value(error: Exception, argv: Sequence[str]) -> str:
    """The sentence about a value that its flag does not take."""
    text, reason = str(error), error.__context__  # "flag --NAME=VALUE: REASON"
    found = re.match(r"flag --(\w+)=", text)
    if not found or reason is None:
        return _unread_flags(error)
    name, value = found[1], text[found.end() : -len(f": {reason}")]
    flag = flags.FLAGS[name]
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        wanted, repair = f"one of {', '.join(choices)}", choice_repair(value, choices)
    else:
        kind = flag.parser.flag_type()
        wanted = ", ".join(filter(None, (_KINDS.get(kind, f"a {kind}"), _bounds(flag))))
        lists = isinstance(flag.parser, flags.BaseListParser)
        repair = (
            "put a name that holds a comma or a line break in double quotes, and close these"
            if lists
            else "run with --help to see what it means"
        )
    return f"Expected --{name} to be {wanted}. Received: --{name}={value}{_place_in_flagfile(name, argv, value)}; {repair}."


def _bounds(flag: flags.Flag) -> str:
    """The range of a flag's numbers, in words; "" without one. A setting's flag says its own, which `Config` checks."""
    own = (getattr(flag.parser, bound, None) for bound in ("lower_bound", "upper_bound"))
    return bounded(*own) or getattr(flag, "bounds", "")


def _place_in_flagfile(name: str, argv: Sequence[str], value: str = "") -> str:
    """ " in FILE, line N" when a flagfile on the command line holds the flag, with that value; "" when none does."""
    arguments = " ".join(argv[1:])
    for path in re.findall(r"--?flagfile[= ](\S+)", arguments):
        try:
            with open(os.path.expanduser(path), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            if re.match(rf"\s*--?{re.escape(name)}(=|\s|$)", line) and line.rstrip().endswith(value):
                return f" in {path}, line {number}"
    return ""


def _open_closed_streams() -> None:
    """Standard streams that were closed lead nowhere: `print` would take standard output for standard error, and other
    files their numbers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _begin_collecting() -> None:
    """Garbage is collected from here on, but not looked for in what imports have left; nor anywhere at the end of the
    process, which frees all.
    """
    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)


class _Lines(logging.Formatter):
    """`warning: …`, like what is printed beside it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def _end_quietly(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """What becomes of an exception that nobody caught: Ctrl-C while modules are loaded needs no traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("\nInterrupted.", file=sys.stderr)
    _pass_over_interrupts()
    raise SystemExit(INTERRUPTED)  # the interpreter ends with it


def _pass_over_interrupts() -> None:
    """For the end of the process, which Python else leaves to signals: one that comes again would change its status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _interrupt_again(unraisable: Any) -> None:
    """What becomes of an exception where none can be raised, as in what the collector of garbage calls: an interrupt
    comes again, once that is over.
    """
    if unraisable.exc_type is None or not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    with contextlib.suppress(RuntimeError):  # at the end of the process
        _thread.start_new_thread(_interrupt, ())  # `threading` has locks, which may be taken here


def _interrupt() -> None:
    time.sleep(_AGAIN_SECONDS)
    if hasattr(signal, "pthread_kill"):  # it also ends a wait of the main thread
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def _command() -> str:
    """Which of the package's commands the process is, e.g. `main`; they may set what belongs to the process. "" for
    none.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    package, _, name = spec.name.partition(".") if spec else ("", "", "")
    return name.removesuffix(".__main__") if package == "galm_tf" else ""


if _command():
    _open_closed_streams()
    sys.excepthook = _end_quietly
    sys.unraisablehook = _interrupt_again
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _handler = logging.StreamHandler()
    _handler.setFormatter(_Lines())
    logging.basicConfig(handlers=[_handler])  # before TensorFlow, which else has a form of its own
    gc.disable()  # until `run`: modules stay, and to look through TensorFlow's time and again takes a second
    if _command() not in _LATE:
        import_tensorflow()
