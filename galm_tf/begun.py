"""A folder of many runs or cells goes on with the settings that began it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from typing import Any, Iterator, Mapping

from galm_tf.errors import UserError
from galm_tf.refusals import AGAIN, clear_errors, unwritable
from galm_tf.run_folder import lock, other_settings, read_json_of
from galm_tf.whole_file import whole_file


CONTENT = "content: "  # begins the names of digests among the settings


def content_settings(digests: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    """Digests by what they are of, as settings; of: what holds that."""
    return {f"{CONTENT}{what}{f' of {of}' if of else ''}": digest for what, digest in digests.items()}


class Begun:
    """The settings of a folder, in a JSON file there: compared at once, written once there is something to keep.

    So that a command which fails at its data leaves nothing that would stand in the way of the repaired one.

    Args:
      path: the file.
      settings: JSON.
      what: the folder holds, for a message.

    Raises:
      UserError: the folder was begun with other settings.
    """

    def __init__(self, path: str, settings: Mapping[str, Any], what: str = "table") -> None:
        self._path, self._settings, self._what = path, json.loads(json.dumps(settings)), what
        self._compare()

    def keep(self) -> None:
        """Writes the file, unless there is one, by now perhaps another command's."""
        if not os.path.exists(self._path):
            with result_file(self._path, replace=False) as partial, open(partial, "w", encoding="utf-8") as file:
                json.dump(self._settings, file, indent=1, ensure_ascii=False, allow_nan=False)
        self._compare()

    def _compare(self) -> None:
        if not os.path.exists(self._path):
            return
        theirs = read_result(self._path)
        others = [k for k in self._settings if k.startswith(CONTENT) and k in theirs and theirs[k] != self._settings[k]]
        if others:
            raise UserError(
                f"Expected the {others[0][len(CONTENT) :]} with which the {self._what} in {os.path.dirname(self._path)} was begun. Received: "
                "others; restore them, or name another folder by --out."
            )
        # digests an earlier version did not write
        plain = {k: v for k, v in self._settings.items() if not k.startswith(CONTENT)}
        pairs = other_settings(plain, theirs, self._what)
        if pairs:
            raise UserError(
                f"Expected the settings of the {self._what} in {os.path.dirname(self._path)}. Received: {pairs}; give the "
                "same flags, or name another folder by --out."
            )


@contextlib.contextmanager
def result_file(path: str, replace: bool = True) -> Iterator[str]:
    """As `whole_file`, in a folder that is made if need be; raises UserError where it cannot be written."""
    with clear_errors(path, functools.partial(unwritable, way=AGAIN)):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with whole_file(path, replace) as partial:
            yield partial


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds a folder of results, made if need be, while it is worked on; raises UserError where another process does, or
    where it cannot be written.
    """
    with clear_errors(path, functools.partial(unwritable, way=AGAIN)):
        os.makedirs(path, exist_ok=True)
        held = lock(path)
    with held or contextlib.nullcontext():
        yield


def read_result(path: str, kind: type = dict) -> Any:
    """The object in a JSON file among results, or the list; raises UserError when it is damaged."""
    try:
        return read_json_of(kind, path)
    except ValueError as error:
        raise UserError(
            f"Expected JSON that an earlier command wrote in {path}. Received: {error}; restore it from a copy or remove it."
        ) from error


def expect_writable(out: str) -> None:
    """Raises UserError where nothing can be written into a folder of results, which is made."""
    try:
        os.makedirs(out, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(
            f"Expected to be able to write into --out={out}. Received: {error.strerror or error}; name another folder."
        ) from error
