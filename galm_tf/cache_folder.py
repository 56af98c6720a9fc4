"""How files come into the cache folder: whole, under a name that says what they are made of; and how what killed runs
left there goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time

_PARTIAL = ".partial"
# as `cache_path` and `partial_file` name it: the folder may hold others' files
_ABANDONED = re.compile(r"-\d+-[0-9a-f]{20}\.npy\.[^.]+\.partial(\.json)?$")
_ABANDONED_SECONDS = 24 * 3600.0  # no run takes so long over a file: what is older was left by a killed one


def cache_path(folder: str, name: str, image_size: int, key: str) -> str:
    """The file of a cache folder for what is called so, of images of this side; key: a hash of all that it depends
    on.
    """
    return os.path.join(os.path.expanduser(folder), f"{name.replace(os.sep, '_')}-{image_size}-{key[:20]}.npy")


def partial_file(path: str) -> str:
    """A new file beside `path`, which it may become; raises OSError where none can be written."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    _remove_abandoned(folder)
    handle, name = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=_PARTIAL, dir=folder)
    os.close(handle)
    return name


def publish(partial: str, path: str) -> None:
    """Gives a finished file its name, for all who share the folder."""
    os.chmod(partial, 0o644)
    os.replace(partial, path)


def _remove_abandoned(folder: str) -> None:
    """Removes what runs that were killed while they wrote left behind."""
    with os.scandir(folder) as entries:
        old = [e.path for e in entries if _ABANDONED.search(e.name) and _age_seconds(e) > _ABANDONED_SECONDS]
    for path in old:
        with contextlib.suppress(OSError):
            os.remove(path)


def _age_seconds(entry: os.DirEntry) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0
