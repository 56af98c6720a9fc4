"""TensorFlow as all commands have it: in full float32, without the notices that it prints before it can be told not to,
or cannot be told to keep.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import sys
import tempfile
import threading
from typing import BinaryIO, Callable, Iterator

_X86 = ("x86_64", "amd64")
_NOTICE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I\d{4} \d\d:\d\d:|INFO: Created TensorFlow Lite "
)
_alone = threading.RLock()  # standard error is the whole process's
if hasattr(os, "register_at_fork"):  # Windows has no forks; who is forked off would keep it turned away
    os.register_at_fork(before=_alone.acquire, after_in_parent=_alone.release, after_in_child=_alone.release)

try:
    tempfile.gettempdir()
except FileNotFoundError:  # a container may have no folder that can be written to
    os.environ.setdefault("TEST_TMPDIR", os.devnull)  # TensorFlow's import asks for a name, and writes nothing there


def import_tensorflow() -> None:
    """Imports it, unless it has been; what is written to standard error meanwhile and is no notice follows.

    float32 is float32 on a GPU too: by default TensorFlow rounds there what it
    multiplies to three digits (TF32), and rewards with it. Of processors of the
    x86 family all have oneDNN's kernels: by default those without AVX-512's
    newer parts do not, and a search takes half as long again (BUILD.md, "Processors").
    """
    if platform.machine().lower() in _X86:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with without_notices() if "tensorflow" not in sys.modules else contextlib.nullcontext():
        import tensorflow as tf
    tf.config.experimental.enable_tensor_float_32_execution(False)


@functools.cache
def start_xla() -> None:
    """Compiles a first function, of which XLA gives notice once in a process."""
    import tensorflow as tf

    with without_notices():
        tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(0))


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What is written to standard error meanwhile is not shown, unless the block fails."""
    with _turned_away(lambda line, failed: failed):
        yield


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """What is written to standard error meanwhile and is no notice follows; one thread at a time is within."""
    with _turned_away(lambda line, failed: not _NOTICE.match(line)):
        yield


@contextlib.contextmanager
def _turned_away(is_shown: Callable[[bytes, bool], bool]) -> Iterator[None]:
    """Notices come from below Python, so the descriptor itself is turned away; afterwards lines follow that `is_shown`.
    Other threads that want the same wait meanwhile, and forks do.

    is_shown: (line, whether the block failed) -> whether a line is shown.
    """
    with _alone, contextlib.ExitStack() as opened:
        try:
            stderr = os.dup(2)
            opened.callback(os.close, stderr)
            held = opened.enter_context(_unnamed_file())
        except OSError:  # it is closed, or there is nowhere to hold what is written to it
            yield
            return
        os.dup2(held.fileno(), 2)
        failed = False
        try:
            yield
        except Exception:
            failed = True
            raise
        finally:
            os.dup2(stderr, 2)
            held.seek(0)
            shown = b"".join(line for line in held if is_shown(line, failed))
            with contextlib.suppress(OSError):  # it is closed
                os.write(2, shown)


def _unnamed_file() -> BinaryIO:
    """In memory where the system has such files: a container may have no folder that can be written to."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()
