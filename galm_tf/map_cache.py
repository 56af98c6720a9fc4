"""What a pretrained trunk makes of images, kept in the cache folder: later runs on the same trunk and images need not
pass them again.

Such are an attribute that is added, a run that is resumed, another method or
seed on the same split. A file holds rows of numbers by record, in any order, and
appears under its name only when whole; of all such files those that were used
least recently go when together they become too large. The cache only saves
time: where it cannot be written or read, everything is computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np

from galm_tf.cache_folder import cache_path, partial_file, publish
from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.image_cache import cache_key

_FORMAT = 1
_NAME = "maps"
_OURS = re.compile(rf"-{_NAME}-\d+-[0-9a-f]{{20}}\.npy$")
_MOST_BYTES = 4 * 2**30  # of all files of maps in a folder
_BATCH = 256  # rows read at once
_RECORD = "record"

Rows = tuple[np.ndarray, list[np.ndarray]]  # records int64 [b], and what is kept of them, float32 [b, width] each


class MapCache:
    """Rows of one trunk and the images of one domain.

    Args:
      config: where the cache is, and the size of the images.
      domain: whose images, by the numbers of their records.
      trunk: a digest of the trunk.
    """

    def __init__(self, config: Config, domain: Domain, trunk: str) -> None:
        self._config, self._name = config, f"{domain.name}-{_NAME}"
        self._key = [_FORMAT, trunk, cache_key(domain, config)]

    def rows(
        self, kind: Sequence[Any], index: np.ndarray, make: Callable[[np.ndarray], Iterator[Rows]]
    ) -> Iterator[Rows]:
        """What `make` gives of records int64 [m], distinct, in any order: of those that are kept from the file, of
        others made, and then kept too.

        kind: all that the rows depend on beside trunk and images.
        """
        path = self._path(kind)
        stored = _open(path)
        order = np.array([], int) if stored is None else np.argsort(stored[_RECORD])
        kept = np.array([], int) if stored is None else stored[_RECORD][order]
        is_kept = np.isin(index, kept)
        for part in _parts(index[is_kept]):
            yield part, _values(stored[order[np.searchsorted(kept, part)]])
        missing = index[~is_kept]
        if not len(missing):
            with contextlib.suppress(OSError):
                os.utime(path)  # used last
            return
        with _Writer(path, len(kept) + len(missing)) as writer:
            for records, arrays in make(missing):
                writer.write(records, arrays)
                yield records, arrays
            for part in _parts(order):
                writer.write(stored[part][_RECORD], _values(stored[part]))
            del stored  # Windows replaces no file that is mapped

    def _path(self, kind: Sequence[Any]) -> str:
        key = hashlib.sha256(json.dumps([*self._key, *kind]).encode()).hexdigest()
        return cache_path(self._config.cache_dir, self._name, self._config.image_size, key)


class _Writer:
    """Writes rows into a new file, which takes its place when all `count` are there; does nothing more once that has
    failed.
    """

    def __init__(self, path: str, count: int) -> None:
        self._path, self._count, self._written = path, count, 0
        self._partial: Optional[str] = None
        self._file: Any = None

    def __enter__(self) -> "_Writer":
        with self._tried():
            self._partial = partial_file(self._path)
            self._file = open(self._partial, "wb")
        return self

    def write(self, records: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Rows of records int64 [b]: float32 [b, width] each."""
        if self._file is None:
            return
        rows = np.empty(
            len(records), [(_RECORD, "<i8"), *((f"f{i}", "<f4", array.shape[1:]) for i, array in enumerate(arrays))]
        )
        rows[_RECORD] = records
        for i, array in enumerate(arrays):
            rows[f"f{i}"] = array
        with self._tried():
            if not self._written:
                self._expect_room(rows.dtype.itemsize * self._count)
                header = {
                    "descr": np.lib.format.dtype_to_descr(rows.dtype),
                    "fortran_order": False,
                    "shape": (self._count,),
                }
                np.lib.format.write_array_header_2_0(self._file, header)
            self._file.write(rows.tobytes())  # not by a map: on a full disk that would kill the process
            self._written += len(records)

    def __exit__(self, kind: Any, *_: Any) -> None:
        with self._tried():
            if self._file is not None:
                self._file.close()
                if kind is None and self._written == self._count:
                    publish(self._partial, self._path)
        self._give_up()

    @contextlib.contextmanager
    def _tried(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            logging.warning(
                "The maps of the pretrained trunk are not kept in the cache folder %s (%s): a later run on it computes them anew.",
                os.path.dirname(self._path), error.strerror or error,
            )  # fmt: skip
            self._give_up()

    def _give_up(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None
        if self._partial is not None:
            with contextlib.suppress(OSError):
                os.remove(self._partial)

    def _expect_room(self, size: int) -> None:
        """Makes room for a file of so many bytes among those of maps; raises OSError where it is too large for that."""
        if size > _MOST_BYTES:
            raise OSError(0, f"{size / 2**30:.1f} GiB, where all have {_MOST_BYTES / 2**30:.0f}")
        files = sorted(_files_of_maps(os.path.dirname(self._path)))
        total = size + sum(file_size for *_, file_size in files)
        for _, path, file_size in files:
            if total <= _MOST_BYTES:
                return
            if path != self._path:
                with contextlib.suppress(FileNotFoundError):  # another run has made room too
                    os.remove(path)
            total -= file_size


def _files_of_maps(folder: str) -> Iterator[tuple[float, str, int]]:
    """(time of last use, path, bytes) of each."""
    with os.scandir(folder) as entries:
        for entry in entries:
            # decoded images of a domain `…-maps` have a .json beside them
            if _OURS.search(entry.name) and not os.path.exists(f"{entry.path}.json"):
                with contextlib.suppress(FileNotFoundError):  # another run has removed it meanwhile
                    yield entry.stat().st_mtime, entry.path, entry.stat().st_size


def _open(path: str) -> Optional[np.ndarray]:
    """The rows of a whole file, mapped; None where there is none to use."""
    try:
        rows = np.load(path, mmap_mode="r")
        return rows if rows.ndim == 1 and (rows.dtype.names or ())[:1] == (_RECORD,) else None
    except (OSError, EOFError, ValueError):  # absent, or cut short
        return None


def _values(rows: np.ndarray) -> list[np.ndarray]:
    """What is kept of records, without their numbers."""
    return [rows[name] for name in rows.dtype.names if name != _RECORD]


def _parts(index: np.ndarray) -> Iterator[np.ndarray]:
    return (index[start : start + _BATCH] for start in range(0, len(index), _BATCH))
