"""Reading what a data folder holds, with errors that say where something is missing."""

from __future__ import annotations

import difflib
import os
import posixpath
import unicodedata
from collections.abc import Hashable, Iterable, Sequence, Sized

import numpy as np

from galm_tf.config import Config
from galm_tf.errors import UserError

# Of still pictures that Pillow reads.
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff", ".jp2", ".j2k", ".jpf",
    ".jpx", ".jpc", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".pcx", ".qoi", ".sgi",
)  # fmt: skip
NO_PICTURES = (".txt", ".csv", ".json", ".md", ".xml", ".ini", ".db")  # endings of what lies beside pictures


def require(folder: str, *names: str, root: str | None = None, flag: str = "data_dir") -> str:
    """The path of the first of `names` in a folder.

    Raises UserError when none is there, or when it is a link out of `root` (the folder when not given).
    flag: which names the folder.
    """
    for name in names:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            check_inside(path, root or folder)
            return path
    wanted = " or ".join(names)
    there = ", ".join(sorted(os.listdir(folder))[:8]) if os.path.isdir(folder) else "no such folder"
    raise UserError(f"Expected {wanted} in {folder}. Received: {there or 'an empty folder'}; check --{flag}.")


def by_ending(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(pictures, files with other endings than what lies beside pictures)."""
    names = list(names)
    pictures = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    return pictures, [name for name in names if not name.lower().endswith((*IMAGE_ENDINGS, *NO_PICTURES))]


def other_endings(others: Sequence[str], where: str) -> str:
    """That files below a folder have other endings, in words."""
    if len(others) == 1:
        return f"1 file below {where} has another ending ({others[0]})"
    return f"{len(others)} files below {where} have other endings (the first is {others[0]})"


def first_repeat(keys: Iterable[Hashable]) -> tuple[int, int] | None:
    """Positions of the first key that was there before, where it was and where it is again; None where all differ."""
    first: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        if first.setdefault(key, position) != position:
            return first[key], position
    return None


def normal_path(name: str) -> str:
    """One spelling of a path: / between folders, letters with accents composed."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


def read_lines(path: str) -> list[str]:
    """Non-empty lines without surrounding space; UTF-8 with or without BOM, any line ends."""
    return [line for _, line in read_numbered_lines(path)]


def read_numbered_lines(path: str) -> list[tuple[int, str]]:
    """As `read_lines`, each with its number in the file, from 1."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"Expected text in UTF-8 in {path}. Received: {error}; save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"Expected a readable file. Received: {path} ({error.strerror}); check --data_dir.") from None


def expect_lines(lines: Sized, path: str) -> None:
    """Raises UserError where a list has none."""
    if not len(lines):
        raise UserError(f"Expected lines in {path}. Received: an empty file; download it anew.")


def read_matrix(path: str, rows: int, columns: int, meaning: str) -> np.ndarray:
    """A whitespace-separated matrix of numbers: float32 [rows, columns]."""
    values = [line.split() for line in read_lines(path)]
    widths = sorted({len(v) for v in values})
    if len(values) != rows or widths != [columns]:
        raise UserError(
            f"Expected {rows} lines of {columns} numbers ({meaning}) in {path}. "
            f"Received: {len(values)} lines of {' or '.join(map(str, widths)) or 'no'} numbers; download these files anew."
        )
    try:
        matrix = np.array(values, np.float32)
    except ValueError as error:
        raise UserError(f"Expected numbers in {path}. Received: {error}; download the file anew.") from None
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise UserError(
            f"Expected numbers in {path}. Received: {values[row][column]} in row {row + 1}, column {column + 1}; download the file anew."
        )
    return matrix


def list_images(
    folder: str, root: str | None = None, endings: tuple[str, ...] = IMAGE_ENDINGS, leave: bool = False
) -> dict[str, str]:
    """Relative path with / -> absolute path of every picture below a folder, sorted; hidden files are passed over.

    A link that loops, or leads into a folder that may not be entered, is a picture too, so that whoever reads it tells.
    Raises UserError for a symbolic link that leaves `root` (the folder itself when not given), unless links may `leave`
    it; then one that leads nowhere is a picture as well.
    """
    root = root or folder
    if not leave:
        check_inside(folder, root)
    found: dict[str, str] = {}
    pending = [(os.path.abspath(folder), "", (os.path.realpath(folder),))]
    while pending:
        directory, prefix, above = pending.pop()
        for entry in _entries(directory):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not leave:
                check_inside(entry.path, root)
            if _is_folder(entry):
                real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
                if real not in above:  # a link to a folder above would never end
                    pending.append((entry.path, f"{prefix}{entry.name}/", (*above, real)))
            elif entry.name.lower().endswith(endings) and (leave and entry.is_symlink() or _is_file(entry)):
                found[prefix + entry.name] = entry.path
    return dict(sorted(found.items()))


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(
            f"Expected a readable folder. Received: {folder} ({error.strerror}); check its permissions."
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that loops, or leads into a folder that may not be entered
        return False


def _is_file(entry: os.DirEntry) -> bool:
    """Whether an entry is a file, or cannot be asked."""
    try:
        return entry.is_file()
    except OSError:
        return True


def subfolders(folder: str) -> list[str]:
    """Paths of the folders in a folder, sorted."""
    return sorted(entry.path for entry in _entries(folder) if _is_folder(entry))


def check_inside(path: str, root: str) -> None:
    """Raises UserError when a path, its links followed, lies outside a folder."""
    real, inside = os.path.realpath(path), os.path.realpath(root)
    if real != inside and not real.startswith(inside.rstrip(os.sep) + os.sep):
        raise UserError(
            f"Expected files within {root}. Received: {path}, a symbolic link to {real}; copy the files into the "
            "data folder, or name the folder they lie in by --data_dir."
        )


def missing_images(missing: Sequence[str], listed: int, where: str, folder: str, config: Config, near: str = "") -> str:
    """A note about listed images that are absent; raises UserError unless they may be skipped.

    near: what lies there in place of the first, in words.
    """
    if config.on_bad_image == "fail":
        repair = (
            "complete the folder, or correct the names"
            if config.images_settled
            else "complete the folder, correct the names, or leave absent images out with --on_bad_image=skip"
        )
        raise UserError(
            f"Expected every image that {where} lists in {folder}. Received: {len(missing)} of {listed} absent, "
            f"the first is {missing[0]}{near}; {repair}."
        )
    return f"{len(missing)} of {listed} images listed in {where} are absent and left out, the first is {missing[0]}; a run stops at them without --on_bad_image=skip."


def nearest_name(name: str, present: Iterable[str]) -> str:
    """The path of `present` that is most like an absent one, whatever its case; in its folder, where that has any. ""
    where there is none.
    """
    folder = posixpath.dirname(normal_path(name)).casefold()
    folded = {other.casefold(): other for other in present}
    folded = {key: other for key, other in folded.items() if posixpath.dirname(key) == folder} or folded
    near = difflib.get_close_matches(name.casefold(), folded, 1, 0.0)
    return folded[near[0]] if near else ""


def differ_in_case(count: int, rows: int, path: str, first: str, found: str) -> str:
    """A note about rows of a table that name files which are found only in other letters."""
    return f"{count} of {rows} rows of {path} name files that differ in case, the first is {first} for {found}."


def check_names(names: Iterable[str], known: Sequence[str], where: str, meaning: str) -> None:
    """Raises UserError when a name in a file is not known."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            repair = f"did you mean {near[0]}?" if near else "remove it, or add it there."
            raise UserError(f"Expected names of {meaning} in {where}. Received: {name}, which is not one; {repair}")
