"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator


_PREFIX, _SUFFIX = ".", ".partial"
_UMASK = os.umask(0)  # can only be read by setting it: once, before there are threads
os.umask(_UMASK)


@contextlib.contextmanager
def whole_file(path: str, replace: bool = True) -> Iterator[str]:
    """A temporary name beside `path`, which becomes `path` once the block ends without an error.

    replace: whether it takes the place of a file that is there by then; else that one stays.
    """
    handle, partial = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=os.path.dirname(path))
    os.close(handle)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_UMASK)
        if replace:
            os.replace(partial, path)
        else:
            _link(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


@contextlib.contextmanager
def whole_folder(path: str) -> Iterator[str]:
    """A temporary folder beside `path`, which becomes `path` once the block ends without an error."""
    partial = tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=os.path.dirname(path))
    try:
        yield partial
        os.chmod(partial, 0o777 & ~_UMASK)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_partial(name: str) -> bool:
    """Whether a name without a folder is of those temporary ones, which a killed process leaves."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def _link(partial: str, path: str) -> None:
    """Gives a file a second name, unless something else has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not os.path.exists(path):
            os.replace(partial, path)
