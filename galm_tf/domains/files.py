"""Reading what a data folder holds, with errors that say where something is missing."""

from __future__ import annotations

import difflib
import os
from typing import Iterable, Sequence

import numpy as np

from galm_tf.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def require(folder: str, *names: str) -> str:
    """The path of the first of `names` in a folder; raises UserError when none is there."""
    for name in names:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    wanted = " or ".join(names)
    there = ", ".join(sorted(os.listdir(folder))[:8]) if os.path.isdir(folder) else "no such folder"
    raise UserError(f"Expected {wanted} in {folder}. Received: {there or 'an empty folder'}; check --data_dir.")


def read_lines(path: str) -> list[str]:
    """Non-empty lines without surrounding space; UTF-8 with or without BOM, any line ends."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"Expected text in UTF-8 in {path}. Received: {error}; save the file as UTF-8.") from None


def read_matrix(path: str, rows: int, columns: int, meaning: str) -> np.ndarray:
    """A whitespace-separated matrix of numbers: float32 [rows, columns]."""
    values = [line.split() for line in read_lines(path)]
    widths = sorted({len(v) for v in values})
    if len(values) != rows or widths != [columns]:
        raise UserError(
            f"Expected {rows} lines of {columns} numbers ({meaning}) in {path}. "
            f"Received: {len(values)} lines of {' or '.join(map(str, widths)) or 'no'} numbers; download the file anew."
        )
    try:
        return np.array(values, np.float32)
    except ValueError as error:
        raise UserError(f"Expected numbers in {path}. Received: {error}; download the file anew.") from None


def list_images(folder: str) -> dict[str, str]:
    """Relative path with / -> absolute path of every picture below a folder, sorted.

    Raises UserError for a symbolic link that leaves the folder.
    """
    root = os.path.realpath(folder)
    found = {}
    for directory, _, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        _check_inside(real, root, directory)
        for name in names:
            if name.lower().endswith(IMAGE_ENDINGS):
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    _check_inside(os.path.realpath(path), root, path)
                found[os.path.relpath(path, folder).replace(os.sep, "/")] = os.path.abspath(path)
    return dict(sorted(found.items()))


def _check_inside(real: str, root: str, shown: str) -> None:
    if real != root and not real.startswith(root + os.sep):
        raise UserError(
            f"Expected files within {root}. Received: {shown}, a symbolic link to {real}; copy the files into the "
            "data folder, or name the folder they lie in by --data_dir."
        )


def missing_images(missing: Sequence[str], listed: int, where: str, folder: str, on_bad_image: str) -> str:
    """A note about listed images that are absent; raises UserError unless they may be skipped."""
    if on_bad_image == "fail":
        raise UserError(
            f"Expected every image that {where} lists in {folder}. Received: {len(missing)} of {listed} absent, "
            f"the first is {missing[0]}; complete the folder, or leave absent images out with --on_bad_image=skip."
        )
    return f"{len(missing)} of {listed} images listed in {where} are absent and left out, the first is {missing[0]}."


def check_names(names: Iterable[str], known: Sequence[str], where: str, meaning: str) -> None:
    """Raises UserError when a name in a file is not known."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"Expected names of {meaning} in {where}. Received: {name}, which is not one{hint}")
