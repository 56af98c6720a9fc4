"""Cells of a table, kept one by one, so that a killed command goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from galm_tf.errors import UserError
from galm_tf.run_folder import other_settings
from galm_tf.whole_file import whole_file


class Cells:
    """A folder with the settings of a table and a file per finished cell.

    Args:
      path: the folder; made where it is not there.
      settings: what all cells have in common, JSON.

    Raises:
      UserError: the folder holds cells of other settings.
    """

    def __init__(self, path: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        os.makedirs(os.path.join(path, "cells"), exist_ok=True)
        place = os.path.join(path, "settings.json")
        if os.path.exists(place):
            _expect_same(path, settings, _read(place))
        else:
            _write(place, settings)

    def get(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The figures of a cell, JSON: read, or computed and kept."""
        place = os.path.join(self.path, "cells", f"{name}.json")
        if not os.path.exists(place):
            _write(place, compute())
        return _read(place)


def _expect_same(path: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    pairs = other_settings(ours, theirs, "table")
    if pairs:
        raise UserError(
            f"Expected the settings of the table in {path}. Received: {pairs}; give the same flags, or name another "
            "folder by --out."
        )


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _write(path: str, value: Mapping[str, Any]) -> None:
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, allow_nan=False)
