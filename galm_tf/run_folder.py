"""The folder of one run: made once, never overwritten, every file whole or absent.

Holds config.json, flags.txt, metrics.jsonl, checkpoints/, tables/, TensorBoard
events, architectures.json, result.json and saved_model/ (DESIGN §4).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import glob
import hashlib
import itertools
import json
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
import zipfile
from typing import Any, Iterator, Mapping, Optional, Sequence, TextIO

import numpy as np

import galm_tf
from galm_tf.config import Config, as_flag, unstated
from galm_tf.errors import UserError
from galm_tf.hardware import computed_on
from galm_tf.paths import from_home
from galm_tf.refusals import AGAIN, RESUME, clear_errors, unwritable, unwritable_new
from galm_tf.search_space import DECISIONS
from galm_tf.whole_file import is_partial, whole_file

try:
    import fcntl
except ImportError:  # Windows: no lock, the folder's name alone protects
    fcntl = None

FORMAT = 1
POLICY = "policy.npz"  # what the policy thinks of every choice, for whom reads the run
DATA = "data.json"  # counts, and digests of what a resumed run must find again
_LOCK = ".lock"
_META = "__meta__"  # what a checkpoint holds beside arrays
_LOOK_SECONDS = 0.2  # after which a lock that was only looked at is free again
_TABLES = "labels"  # a run's copies of the tables of --label_files
# what a new run has before it begins
_SETTINGS_FILES = {_LOCK, "config.json", "flags.txt", DATA, "split.json", "seen.npz", "trunk", _TABLES}
_UNREPEATED = "# What no flag repeats: "  # in flags.txt
_NOTED_PLACES = ("data_dir", "splits_file", "source_run")  # where data and source runs lie, which may move
_PLACES = (*_NOTED_PLACES, "label_files")  # of tables of labels a run has copies
# Settings that may differ between a run and its continuation, since no number depends on them.
FREE_SETTINGS = ("resume", "run_dir", "cache_dir", "checkpoint_seconds", "reward_memory_mib", "verify_cache")


class RunFolder:
    """One run's folder, locked while it is in use. Make it by `create` or `resume`."""

    def __init__(self, path: str, lock: bool = True) -> None:
        self.path = os.path.abspath(path)
        self._lock = _lock(self.path) if lock else None  # without one it is for reading
        self._locked = os.stat(self.path) if self._lock else None
        self._new = False
        self._way = RESUME

    @classmethod
    def create(cls, path: str, config: Config, way: str = RESUME) -> "RunFolder":
        """Makes a new folder; raises UserError where one exists or none can be made.

        way: how to go on once it can be written again.
        """
        with clear_errors(path, unwritable_new if way == RESUME else functools.partial(unwritable, way=way)):
            _expect_new(path)
            os.makedirs(path, exist_ok=True)
            folder = cls(path)
            folder._way = way
            _expect_new(path)  # again, under the lock: two runs may start at once
            folder._remove_partial()
            folder._new = True
            folder._write_settings(config)
            return folder

    @classmethod
    def resume(cls, path: str, config: Config, way: str = RESUME) -> "RunFolder":
        """Opens the folder of an interrupted run; raises UserError when its settings differ; way: as of `create`.

        Data and source runs may lie elsewhere where data.json says what they are, which is compared later
        (`data_digests.remember_data`, `source_runs.expect_same`), or where the run is finished and reads them no more.
        """
        stored = read_config(path, "run_dir")
        ours, theirs = config.to_json(), stored.to_json()
        if any(os.path.exists(os.path.join(path, name)) for name in (DATA, "result.json")):
            theirs.update({name: ours[name] for name in _PLACES if same_kind_of_place(ours[name], theirs[name])})
        if ours["label_files"] == (kept := with_kept_tables(stored, path).to_json()["label_files"]):
            theirs["label_files"] = kept
        if pairs := other_settings(ours, theirs, "run"):
            same = " ".join(shlex.quote(as_flag(name, value)) for name, value in changed_settings(ours, theirs).items())
            repair = (
                f"leave such flags out beside --resume, which reads them there, or give {same}"
                if way == RESUME
                else f"give {same}, or name another folder by --out"
            )
            raise UserError(f"Expected the settings of the run in {path}. Received: {pairs}; {repair}.")
        folder = cls(path)
        folder._way = way
        folder._remove_partial()
        if not folder.has("flags.txt"):  # it was stopped before it had all settings
            folder._write_flags(stored)
        return folder

    @classmethod
    def begin_or_resume(cls, path: str, config: Config) -> tuple[Config, "RunFolder"]:
        """The folder, made or gone on with as it stands, and the settings with `resume` set accordingly."""
        config = dataclasses.replace(config, resume=os.path.exists(os.path.join(path, "config.json")))
        return config, (cls.resume if config.resume else cls.create)(path, config, AGAIN)

    @property
    def anew(self) -> str:
        """How to begin anew in the place of the run, in words: a suite, or a tuning, names its runs itself."""
        return "begin a new run in another --run_dir" if self._way == RESUME else "name another folder by --out"

    def moved(self, config: Config) -> dict[str, Any]:
        """The settings that name other places than the run has noted, but for tables of labels, of which it has
        copies.
        """
        ours, theirs = config.to_json(), read_config(self.path).to_json()
        return {name: getattr(config, name) for name in changed_settings(ours, theirs) if name in _NOTED_PLACES}

    def note_places(self, config: Config) -> None:
        """Where the data and the source runs of the run lie now."""
        if moved := self.moved(config):
            self._write_settings(dataclasses.replace(read_config(self.path), **moved))

    def keep_tables(self, paths: Sequence[str]) -> None:
        """Copies tables of labels, so that those named may go, or change: see `with_kept_tables`."""
        for name, path in zip(_kept_tables(paths), paths):
            with open(os.path.expanduser(path), "rb") as file:
                self.write_bytes(name, file.read())
        if paths:
            self._write_flags(read_config(self.path))

    def _write_settings(self, config: Config) -> None:
        self.write_json("config.json", {"format": FORMAT, **config.to_json()})
        self._write_flags(config)

    def note_unrepeated(self, notes: Sequence[str]) -> None:
        """Says in flags.txt what of the run its flags do not repeat."""
        if notes:
            self._write_flags(read_config(self.path), notes)

    def _write_flags(self, config: Config, unrepeated: Sequence[str] = ()) -> None:
        """The run again; by its own tables of labels, where it has them, for those that it was given may become other
        ones. What was noted before stays.
        """
        own = with_kept_tables(config, self.path)
        if config.add_attribute and config.label_files[-1:] == (config.add_attribute,):
            own = dataclasses.replace(own, add_attribute=own.label_files[-1])
        self.write_text("flags.txt", flagfile(own, [*dict.fromkeys([*self._unrepeated(), *unrepeated])]))

    def _unrepeated(self) -> list[str]:
        """What flags.txt says that its flags do not repeat."""
        path = os.path.join(self.path, "flags.txt")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.strip()[len(_UNREPEATED) :] for line in file if line.startswith(_UNREPEATED)]

    def _remove_partial(self) -> None:
        """Removes what a killed run was writing."""
        self.expect_own()
        for top, folders, files in os.walk(self.path):
            for name in filter(is_partial, files):
                os.remove(os.path.join(top, name))
            for name in filter(is_partial, folders):
                shutil.rmtree(os.path.join(top, name))
            folders[:] = [name for name in folders if not is_partial(name)]

    def remove_if_unused(self) -> None:
        """Removes the folder when nothing but settings, data and split was ever written into it."""
        with contextlib.suppress(OSError):  # what was in the way before matters more
            if self._is_own() and self._is_unused():
                shutil.rmtree(self.path)

    def _is_unused(self) -> bool:
        return not {name for name in os.listdir(self.path) if not is_partial(name)} - _SETTINGS_FILES

    def expect_own(self) -> None:
        """Raises UserError where the folder was removed since the run locked it, or another has its name: what is
        written there would be of no run, or mix with another's.
        """
        if not self._is_own():
            raise self._lost()

    def _is_own(self) -> bool:
        """Whether the folder is the one that was locked."""
        if self._lock is None:  # it is for reading, or on Windows, where none that is in use can be removed
            return True
        try:
            same = os.path.samestat(self._locked, os.stat(self.path))
            with contextlib.suppress(FileNotFoundError):  # the lock alone may have been removed
                # a new folder may have the number of one that is gone
                same &= os.path.samestat(os.fstat(self._lock.fileno()), os.stat(os.path.join(self.path, _LOCK)))
            return same
        except OSError as error:  # for other reasons it may be unreadable for a while
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

    def _lost(self) -> UserError:
        repair = self._way
        if self._way == RESUME:
            repair = f"; where it was moved go on by --resume --run_dir=ITS_PLACE, else {self.anew}"
        return UserError(
            f"Expected the run folder {self.path} to stay while its run is at work. Received: one that was removed, moved or replaced{repair}."
        )

    def unwritable(self, path: str, reason: str, code: Optional[int]) -> UserError:
        """The sentence about a place in the folder that cannot be written; code: of `errno`."""
        if not self._is_own():
            return self._lost()
        with contextlib.suppress(OSError):
            if self._way == RESUME and self._new and self._is_unused():  # it will go
                return unwritable_new(path, reason, code)
        return unwritable(path, reason, code, self._way)

    @contextlib.contextmanager
    def kept_if_used(self) -> Iterator[None]:
        """Where an error ends a new run before it has begun, its folder goes: the repaired command can have it."""
        try:
            yield
        except Exception:
            if self._new:
                self.remove_if_unused()
            raise

    def has(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.path, name))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        # names of files need not be text; JSON reads them as they were
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_bytes(self, name: str, content: bytes) -> None:
        with self._whole(name) as file:
            file.write(content)

    def append_line(self, name: str, line: str) -> None:
        """Adds one line to a text file that a resumed run cuts back by `keep_lines`."""
        self.expect_own()
        path = os.path.join(self.path, name)
        with clear_errors(path, self.unwritable), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def keep_lines(self, name: str, count: int) -> list[str]:
        """Cuts a text file back to its first `count` lines, and returns them; an absent file has none."""
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:  # the last line may be torn
            lines = file.readlines()
        kept = [line.rstrip("\n") for line in lines[:count]]
        if len(lines) > count or lines and not lines[-1].endswith("\n"):  # else the next line would be part of it
            self.write_text(name, "".join(line + "\n" for line in kept))
        return kept

    def read_json(self, name: str) -> Any:
        """The object in a file that the run wrote; raises UserError when it is damaged."""
        path = os.path.join(self.path, name)
        try:
            return read_json_of(dict, path)
        except ValueError as error:
            raise UserError(
                f"Expected JSON that the run wrote in {path}. Received: {error}; restore it from a copy."
            ) from error

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes what NumPy calls an .npz; unlike np.savez of NumPy 1 it keeps quiet when the disk is full."""
        with self._whole(name) as file, zipfile.ZipFile(file, "w") as archive:
            for key, value in arrays.items():
                with archive.open(_escape(key) + ".npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)

    def read_arrays(self, name: str, wanted: tuple[str, ...] = ("",)) -> Optional[dict[str, np.ndarray]]:
        """The arrays of a file whose names begin so; None when it is absent or damaged."""
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {_unescape(k): stored[k] for k in stored.files if _unescape(k).startswith(wanted)}
        except Exception as error:  # zip and NumPy raise many kinds for a damaged file
            logging.warning("%s is damaged (%s) and is not used", path, error)
            return None

    def save_checkpoint(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], keep: int = 2) -> None:
        """Writes the next checkpoint and removes all but the last `keep`."""
        names = self._checkpoints()
        number = int(re.findall(r"\d+", names[-1])[0]) + 1 if names else 1
        text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        self.write_arrays(f"checkpoints/{number:06d}.npz", {**arrays, _META: text})
        for name in self._checkpoints()[:-keep]:
            os.remove(os.path.join(self.path, "checkpoints", name))

    def load_checkpoint(
        self, wanted: tuple[str, ...] = ("",)
    ) -> Optional[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        """The newest readable checkpoint as (arrays, meta), of arrays those whose names begin so; None when there is
        none.
        """
        for name in reversed(self._checkpoints()):
            arrays = self.read_arrays(f"checkpoints/{name}", (*wanted, _META))
            if arrays is not None and _META in arrays:
                return arrays, json.loads(arrays.pop(_META).tobytes().decode())
        return None

    def has_only_checkpoint_of(self, wanted: tuple[str, ...]) -> bool:
        """Whether there is one checkpoint at most, without arrays whose names begin otherwise; none is read."""
        names = self._checkpoints()
        if len(names) != 1:
            return not names
        try:
            with np.load(os.path.join(self.path, "checkpoints", names[0])) as stored:
                return all(_unescape(k).startswith((*wanted, _META)) for k in stored.files)
        except Exception:  # zip and NumPy raise many kinds for a damaged file, of which nothing can be left
            return True

    def drop_checkpoints(self) -> None:
        """Leaves none, of a run from which nothing will start."""
        self.expect_own()
        for name in self._checkpoints():
            os.remove(os.path.join(self.path, "checkpoints", name))

    def _checkpoints(self) -> list[str]:
        folder = os.path.join(self.path, "checkpoints")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(n for n in names if re.fullmatch(r"\d+\.npz", n))

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[Any]:
        """A binary file that appears under its name only when it is complete."""
        self.expect_own()
        path = os.path.join(self.path, name)
        with clear_errors(path, self.unwritable):
            if folder := os.path.dirname(name):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.join(self.path, folder))  # never the run's own, which may be gone
            with whole_file(path) as partial, open(partial, "wb") as file:
                yield file


def other_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: str) -> str:
    """Which settings of a continuation differ from those of what it continues, in words; empty when none do."""
    return "; ".join(
        f"{k}={ours[k]} now, {before} in the {place}" for k, before in changed_settings(ours, theirs).items()
    )


def changed_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ and may change a number, as they are in theirs or meant there where it does not state
    them.
    """
    before = {k: theirs[k] if k in theirs else unstated(k) for k in ours if k not in FREE_SETTINGS}
    # Earlier versions stored paths from ~ as they were given.
    return {k: value for k, value in before.items() if from_home(value) != from_home(ours[k])}


def _expect_new(path: str) -> None:
    """Raises UserError when a folder holds more than a lock and what a run left that was killed before its settings
    were whole.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"Expected a run folder whose path is UTF-8, since TensorFlow writes no other. Received: run_dir={path!a}; "
            "name another folder by --run_dir, or set the locale to UTF-8."
        ) from None
    names = set(os.listdir(path)) if os.path.isdir(path) else set()
    if not all(name == _LOCK or is_partial(name) for name in names):
        what = "a run; continue it with --resume, or" if "config.json" in names else "other files;"
        raise UserError(
            f"Expected a new run folder. Received: run_dir={path}, which holds {what} name another folder by --run_dir."
        )


def free_path(domains: tuple[str, ...], method: str, seed: int, root: str = "runs") -> str:
    """A run folder that does not exist yet: runs/<domains>-<method>-s<seed>, then -2, -3 …"""
    return next(path for path in _default_paths(domains, method, seed, root) if not os.path.exists(path))


def last_path(domains: tuple[str, ...], method: str, seed: int, root: str = "runs") -> str:
    """The newest folder that `free_path` named before; the first name when there is none."""
    found, path = "", ""
    for path in _default_paths(domains, method, seed, root):
        if not os.path.exists(path):
            break
        found = path
    return found or path


def _default_paths(domains: tuple[str, ...], method: str, seed: int, root: str) -> Iterator[str]:
    base = os.path.join(root, f"{'+'.join(domains)}-{method}-s{seed}")
    yield base
    yield from (f"{base}-{number}" for number in itertools.count(2))


def unfinished_runs() -> list[str]:
    """Folders of runs that have no result yet, the newest first."""
    settings = glob.glob(os.path.join("runs", "*", "config.json"))
    begun = [os.path.dirname(path) for path in sorted(settings, key=os.path.getmtime, reverse=True)]
    return [path for path in begun if not os.path.exists(os.path.join(path, "result.json"))]


def read_policy(path: str, count: int) -> Optional[dict[str, np.ndarray]]:
    """What policy.npz holds; None when the run left none, or not one of the search space and its attributes."""
    stored = RunFolder(path, lock=False).read_arrays(POLICY)
    shapes = {d.name: (count, len(d.choices)) for d in DECISIONS}
    return stored if stored is not None and {k: v.shape for k, v in stored.items()} == shapes else None


def read_config(path: str, flag: str = "") -> Config:
    """The settings of the run in a folder; raises UserError where there is none. flag: which names it, for the
    message.
    """
    name, named = os.path.join(path, "config.json"), f"--{flag}={path}" if flag else path
    try:
        with open(name, encoding="utf-8") as file:
            stored = json.load(file)
    except OSError as error:
        repair = {
            "source_run": "name the folder of the source run by --source_run, the new one where it has moved",
            "run_dir": "name the folder of the run; of one that was stopped before it made any, nothing is left to resume",
        }
        raise UserError(
            f"Expected a run folder with a config.json. Received: {named} ({error.strerror or error}); {repair.get(flag, 'name the folder of the run')}."
        ) from None
    except ValueError as error:
        raise UserError(
            f"Expected the settings of a run in {name}. Received: a damaged file ({error}); restore it from a copy."
        ) from None
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
        raise UserError(
            f"Expected the settings of a run in {name}. Received: a file without a number as format; restore it from a copy."
        )
    if stored["format"] != FORMAT:
        raise UserError(
            f"Expected a run of format {FORMAT}. Received: format {stored['format']} in {name}, written by another version of galm_tf; "
            "use that version, or make the run anew."
        )
    try:
        return Config.from_json({k: v for k, v in stored.items() if k != "format"})
    except UserError as error:
        raise UserError(
            f"{error} It stands in {name}: use the version of galm_tf that wrote it, or restore the file from a copy."
        ) from error
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"Expected the settings of a run in {name}. Received: other JSON ({error}); restore it from a copy."
        ) from error


def run_digest(path: str) -> Optional[str]:
    """What tells the finished run in a folder from any other, wherever it lies; None where there is none."""
    return file_digest(os.path.join(path, "result.json"))


def file_digest(path: str) -> Optional[str]:
    """SHA-256 of what a file holds; None where there is none, or it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def with_kept_tables(config: Config, path: str) -> Config:
    """The settings of the run in a folder with its own tables of labels, where it has them, in place of those that it
    was given.
    """
    kept = [os.path.join(path, name) for name in _kept_tables(config.label_files)]
    names = (own if os.path.isfile(own) else given for own, given in zip(kept, config.label_files))
    return dataclasses.replace(config, label_files=tuple(names))


def _kept_tables(paths: Sequence[str]) -> list[str]:
    """Within a run's folder: `labels/0-mine.csv`; of another run's copy the same name without its number."""
    return [
        os.path.join(_TABLES, f"{i}-{re.sub('^[0-9]+-', '', os.path.basename(path))}") for i, path in enumerate(paths)
    ]


def same_kind_of_place(one: Any, other: Any) -> bool:
    """Whether two settings of where data lie name as much: as many folders or files, or both a file, or none."""
    return len(one) == len(other) if isinstance(one, (list, tuple)) else bool(one) == bool(other)


def flagfile(config: Config, unrepeated: Sequence[str] = ()) -> str:
    """Flags that repeat the run, and what they do not: absl's flagfile syntax."""
    lines = ["# Repeats this run: python -m galm_tf.main --flagfile=THIS_FILE --run_dir=NEW_FOLDER"]
    lines += [f"{_UNREPEATED}{note}" for note in unrepeated]
    for name, value in config.to_json().items():
        if name in ("run_dir", "resume"):
            continue
        line = as_flag(name, value)
        if re.search(r"[\r\n]|\s$", line):
            lines.append("# No line can hold a line break, or a space at its end; give the next flag beside this file:")
        lines.append(line.replace("\r", r"\r").replace("\n", r"\n"))
    return "\n".join(lines) + "\n"


def environment() -> dict[str, Any]:
    """Versions, commit and what it is computed on, for result.json."""
    import keras
    import tensorflow as tf

    versions = {
        "galm_tf": galm_tf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    return {"versions": versions, "commit": _commit(), "computed_on": computed_on()}


def _commit() -> Optional[str]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(os.path.join(root, ".git")):  # a file in a linked work tree
        return None
    try:
        done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() or None


def _lock(path: str) -> Optional[TextIO]:
    """The lock of a run."""
    begun = os.path.exists(os.path.join(path, "config.json"))
    with clear_errors(path, unwritable if begun else unwritable_new):
        return lock(path)


def lock(path: str) -> Optional[TextIO]:
    """Keeps two processes from writing into one folder, until what is given is closed or the process ends; None where
    there are no locks. Raises UserError where another has it, OSError where it cannot be written.
    """
    if fcntl is None:
        return None
    file = open(os.path.join(path, _LOCK), "a", encoding="ascii")  # noqa: SIM115 (held for as long as it is worked on)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # perhaps by `in_use`, which holds it for a moment
            time.sleep(_LOOK_SECONDS)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(
            f"Expected a folder that no other process uses. Received: {path}, which is in use; "
            "wait for the other command, or name another folder."
        ) from None
    except OSError as error:  # some network file systems know no locks
        logging.warning("%s cannot be locked (%s): do not start a second command in it", path, error.strerror)
    return file


def in_use(path: str) -> bool:
    """Whether a process writes into the run of this folder now; no where that cannot be told."""
    try:
        with open(os.path.join(path, _LOCK), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except (OSError, AttributeError):  # no lock, a file system that knows none, or Windows
        return False


def read_json_of(kind: type, path: str) -> Any:
    """The JSON object, dict, or list in a file; raises ValueError for anything else."""
    with open(path, encoding="utf-8") as file:
        value = json.load(file)
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} instead of {'an object' if kind is dict else 'a list'}")
    return value


def _escape(name: str) -> str:
    return name.replace("/", "|")


def _unescape(name: str) -> str:
    return name.replace("|", "/")
