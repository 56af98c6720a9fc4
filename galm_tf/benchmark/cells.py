"""Cells of a table, kept one by one, so that a killed command goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from galm_tf.begun import Begun, read_result, result_file

NOT_NOTED = "not noted"
_SHOWN = 12  # of a commit's digits


def several_commits(commits: Iterable[Any]) -> list[str]:
    """What a reader must know of cells that several versions computed; nothing of one. commits: of the cells, each a
    text, or anything else where none was noted.
    """
    told = list(dict.fromkeys(one[:_SHOWN] if isinstance(one, str) else NOT_NOTED for one in commits))
    if len(told) < 2:
        return []
    return [
        f"figures were computed at several commits ({', '.join(told)}), which may differ in procedure: what stands here tells of this "
        "version's; to make all anew name another folder by --out"
    ]


class Cells:
    """A folder with the settings of a table and a file per finished cell, made with the first.

    Args:
      path: the folder.
      settings: what all cells have in common, JSON.

    Raises:
      UserError: the folder holds cells of other settings.
    """

    def __init__(self, path: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._begun = Begun(os.path.join(path, "settings.json"), settings)

    def has(self, name: str) -> bool:
        """Whether a cell is finished."""
        return os.path.exists(self._place(name))

    def _place(self, name: str) -> str:
        return os.path.join(self.path, "cells", f"{name}.json")

    def get(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The figures of a cell, JSON: read, or computed and kept."""
        place = self._place(name)
        if not self.has(name):
            value = compute()
            self._begun.keep()
            with result_file(place) as partial, open(partial, "w", encoding="utf-8") as file:
                json.dump(value, file, indent=1, ensure_ascii=False, allow_nan=False)
        return read_result(place)
