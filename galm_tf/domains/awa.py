"""Animals with Attributes 1 and 2 (Lampert et al. 2014; Xian et al. 2018): labels per class.

Layout: `classes.txt`, `predicates.txt` (number and name a line),
`predicate-matrix-binary.txt` and `predicate-matrix-continuous.txt` (how strongly
people associate the two, in percent; -1 unknown) or one of them, `trainclasses.txt`, `testclasses.txt`,
`JPEGImages/CLASS/*`. The folder may hold only some of the classes.
"""

from __future__ import annotations

import os

import numpy as np

from galm_tf.config import Config
from galm_tf.domains import build, files
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError

_BINARY, _CONTINUOUS = "predicate-matrix-binary.txt", "predicate-matrix-continuous.txt"
_DIFFERENT = 0.05  # share of the labels in which the two may differ; none do in the release, a third in another order


def recognises(folder: str) -> bool:
    """Whether it holds the list of predicates or one of the matrices."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in ("predicates.txt", _BINARY, _CONTINUOUS))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    classes = _numbered(files.require(folder, "classes.txt"))
    attributes = _numbered(files.require(folder, "predicates.txt"))
    matrix, strengths, notes = _class_labels(folder, len(classes), len(attributes))
    images, others = _images(folder)
    notes += others
    folders = [path.split("/")[0] for path in images]
    files.check_names(
        sorted(set(folders)), classes, f"the folders of {folder}/JPEGImages", "the classes in classes.txt"
    )
    rank = {c: i for i, c in enumerate(classes)}
    class_ids = np.array([rank[f] for f in folders], np.int32)
    train, test = (files.read_lines(files.require(folder, f"{part}classes.txt")) for part in ("train", "test"))
    for part, names in (("train", train), ("test", test)):
        files.check_names(names, classes, os.path.join(folder, f"{part}classes.txt"), "the classes in classes.txt")
    empty = len(classes) - len(set(folders))
    if empty:
        notes.append(f"{empty} of {len(classes)} classes have no images here.")
    return build.build_domain(
        name,
        "awa",
        attributes=attributes,
        classes=classes,
        paths=list(images.values()),
        class_ids=class_ids,
        labels=matrix[class_ids],
        shares=None if strengths is None else strengths[class_ids],
        subsets=build.subsets_by_class(class_ids, classes, train, test, folder),
        notes=notes,
    )


def _images(folder: str) -> tuple[dict[str, str], list[str]]:
    """(pictures as of `files.list_images`, a note on files with other endings)."""
    where = files.require(folder, "JPEGImages")
    there = files.list_images(where, folder, ("",))
    pictures, others = files.by_ending(there)
    images = {name: there[name] for name in pictures}
    if not others:
        return images, []
    one = len(others) == 1
    left = "is left out: convert it if it is a picture." if one else "are left out: convert those that are pictures."
    return images, [f"{files.other_endings(others, where)} and {left}"]


def _class_labels(
    folder: str, num_classes: int, num_attributes: int
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """(labels [C, A], shares or None, notes): the binary matrix, or the continuous one cut at its mean, as the other
    arose, NaN where that is unknown.
    """
    path = files.require(folder, _BINARY, _CONTINUOUS)
    told = "a line per class of classes.txt, a column per predicate of predicates.txt"
    continuous = os.path.join(folder, _CONTINUOUS)
    if not os.path.isfile(continuous):
        return _binary(path, num_classes, num_attributes, told), None, []
    strengths = files.read_matrix(continuous, num_classes, num_attributes, told)
    mean = strengths.mean(dtype=np.float64)
    if mean <= 0:
        raise UserError(
            f"Expected strengths in percent in {continuous}, with a mean above 0. Received: mean={mean:g}; download the file anew."
        )
    cut = np.where(strengths < 0, np.nan, strengths > mean).astype(np.float32)
    if path == continuous:
        return cut, shares(strengths), [f"{_BINARY} is absent: {_CONTINUOUS} is cut at its mean."]
    labels = _binary(path, num_classes, num_attributes, told)
    known = np.isfinite(cut)
    cuts = (known & ((strengths > strength) != labels) for strength in np.unique(strengths[known]))
    other = min(cuts, key=np.count_nonzero)  # labels of one's own may be cut elsewhere
    if other.sum() > _DIFFERENT * known.sum():
        row, column = np.argwhere(other)[0]
        raise UserError(
            f"Expected {_CONTINUOUS}, cut at some strength, to be as {_BINARY} in {folder}. Received: another label in {other.sum()} "
            f"of {known.sum()} places at least, the first is line {row + 1}, column {column + 1}; take both from one download, or remove the "
            "continuous one, and the labels alone are learned."
        )
    return labels, shares(strengths), []


def _binary(path: str, num_classes: int, num_attributes: int, told: str) -> np.ndarray:
    matrix = files.read_matrix(path, num_classes, num_attributes, told)
    wrong = np.argwhere(~np.isin(matrix, (0, 1)))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"Expected 0 and 1 in {path}, line {row + 1}, column {column + 1}. Received: {matrix[row, column]:g}; "
            "download the file anew (is this the continuous matrix?)."
        )
    return matrix


def shares(strengths: np.ndarray) -> np.ndarray:
    """Strengths in percent [C, A] -> [0, 1], one half at the mean, at which the release cuts; NaN where they are
    unknown (-1).
    """
    mean = strengths.mean(dtype=np.float64)
    return np.where(strengths < 0, np.nan, np.minimum(strengths / (2 * mean), 1.0)).astype(np.float32)


def _numbered(path: str) -> list[str]:
    """Lines `number name`, in the order of their numbers, which are those of the matrix's lines or columns."""
    names: dict[int, tuple[int, str]] = {}  # number -> its line, and the name
    lines = files.read_numbered_lines(path)
    files.expect_lines(lines, path)
    for number, line in lines:
        parts = line.split(None, 1)
        if len(parts) != 2 or not parts[0].isdecimal():
            raise UserError(
                f"Expected a number and a name in {path}, line {number}. Received: {line!r}; correct the line."
            )
        if int(parts[0]) in names:
            raise UserError(
                f"Expected every number once in {path}, line {number}. Received: {parts[0]}, as in line {names[int(parts[0])][0]}; "
                "correct one."
            )
        names[int(parts[0])] = number, parts[1].strip()
    outside = [(line, number) for number, (line, _) in names.items() if not 1 <= number <= len(names)]
    if outside:
        line, number = outside[0]
        raise UserError(
            f"Expected numbers from 1 to {len(names)}, one per line, in {path}, line {line}. Received: {number}; correct it, or complete the file."
        )
    return [name for _, (_, name) in sorted(names.items())]
