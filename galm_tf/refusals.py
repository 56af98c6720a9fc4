"""Places that cannot be written, in one sentence: what the operating system, or TensorFlow, said and what helps."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Callable, Iterator, Optional

from galm_tf.errors import UserError

RESUME, AGAIN = " and go on with --resume", "; the same command goes on"  # once a place can be written again


@contextlib.contextmanager
def clear_errors(
    path: str,
    sentence: Callable[[str, str, Optional[int]], UserError],
    kinds: tuple[type[Exception], ...] = (OSError,),
) -> Iterator[None]:
    """Turns a refusal to write into a sentence; kinds: of errors, OSError or those of TensorFlow's writers."""
    try:
        yield
    except kinds as error:
        raise sentence(path, *_refusal(error)) from error


def unwritable(path: str, reason: str, code: Optional[int], way: str = RESUME) -> UserError:
    """The sentence about a place that cannot be written, of what goes on there; code: of `errno`."""
    repair = (_repairs(code) or ["repair that"])[0]
    return UserError(f"Expected to be able to write {path}. Received: {reason}; {repair}{way}.")


def unwritable_new(path: str, reason: str, code: Optional[int]) -> UserError:
    """As `unwritable`, of a run that has nothing to go on from: another folder is a way too."""
    way = " or ".join([*_repairs(code), "name another folder by --run_dir"])
    return UserError(f"Expected to be able to write {path}. Received: {reason}; {way}.")


def unwritable_out(path: str, reason: str, code: Optional[int] = None) -> UserError:
    """As `unwritable`, of what a command writes to --out."""
    return UserError(f"Expected to write {path}. Received: {reason}; name another place, or make room there.")


def expect_new(out: str) -> None:
    """Raises UserError where something lies at --out, which is not to be overwritten."""
    if os.path.lexists(out):
        raise UserError(f"Expected a new name in --out. Received: {out}, which exists; move it away, or name another.")


def _repairs(code: Optional[int]) -> list[str]:
    """What helps against a refusal, in words; nothing where that is not known."""
    repairs = {
        "free some space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "make it writable": (errno.EACCES, errno.EPERM, errno.EROFS),
    }
    return [repair for repair, codes in repairs.items() if code in codes]


def lacks_memory(error: Exception) -> bool:
    """Whether that is what an error tells; TensorFlow calls a full disk and too many open files alike."""
    if type(error).__name__ == "ResourceExhaustedError":  # of TensorFlow, which need not be there
        return _refusal(error)[1] in (None, errno.ENOMEM)
    return isinstance(error, MemoryError)


def _refusal(error: Exception) -> tuple[str, Optional[int]]:
    """What the operating system said, and its number in `errno`; None where TensorFlow's words do not tell it."""
    if isinstance(error, OSError):
        return str(error.strerror or error), error.errno
    # "JARGON FILE; REASON\n\tWHAT TENSORFLOW DID [Op:NAME]"
    reason = str(error.message).partition("\n")[0].partition(" [Op:")[0].rpartition("; ")[2]
    return reason, next((code for code in errno.errorcode if os.strerror(code) == reason), None)
