"""aPascal and aYahoo (Farhadi et al. 2009): labels per object, several objects a photograph.

Layout: `attribute_data/{attribute_names,class_names,apascal_train,apascal_test,ayahoo_test}.txt`,
each object a line `file class left top right bottom a1 … a64`; pictures in
`VOCdevkit/VOC2008/JPEGImages` (or `VOC2008/JPEGImages`, `JPEGImages`) and
`ayahoo_test_images`. Boxes are 1-based and inclusive, as in VOC.

The paper trains on all of aPascal and tests on Yahoo's unseen classes. With
--test_split=apascal the official halves of aPascal are used instead; their
classes are the same.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Optional

import numpy as np

from galm_tf.config import Config
from galm_tf.domains import build, files
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, Domain
from galm_tf.errors import UserError

CROP_PADDING = 0.1  # surroundings kept, as a share of the box's longer side
_BOX_FIELDS = ("left", "top", "right", "bottom")
# file -> (folders that may hold its pictures, subset officially, subset with --test_split=apascal)
_VOC = ("VOCdevkit/VOC2008/JPEGImages", "VOC2008/JPEGImages", "JPEGImages")
_FILES = {
    "apascal_train.txt": (_VOC, TRAIN, TRAIN),
    "apascal_test.txt": (_VOC, TRAIN, TEST),
    "ayahoo_test.txt": (("ayahoo_test_images",), TEST, UNUSED),
}


def recognises(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "attribute_data", "apascal_train.txt"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    data = files.require(folder, "attribute_data")
    attributes = files.read_lines(files.require(data, "attribute_names.txt"))
    classes = files.read_lines(files.require(data, "class_names.txt"))
    apascal = config.test_split == "apascal"
    parts, subsets, notes = [], [], []
    for file, (folders, official, halves) in _FILES.items():
        path = os.path.join(data, file)
        if not os.path.exists(path):
            notes.append(f"{file} is absent.")
            continue
        part, note = _read(path, folder, folders, classes, len(attributes), config)
        parts.append(part)
        subsets += [halves if apascal else official] * len(part[0])
        notes += note
    paths, class_ids, boxes, labels = (np.concatenate([p[i] for p in parts]) for i in range(4))
    subsets = np.array(subsets)
    if not apascal and not (subsets == TEST).any():
        halves = load(name, folder, dataclasses.replace(config, test_split="apascal"))
        note = "There are no aYahoo images: aPascal's own test half is tested, whose classes are also trained."
        return dataclasses.replace(halves, notes=(*halves.notes, note))
    return build.build_domain(
        name,
        "apay",
        attributes=attributes,
        classes=classes,
        paths=paths.tolist(),
        class_ids=class_ids,
        labels=labels,
        subsets=subsets,
        boxes=boxes,
        class_disjoint=not apascal,
        crop_padding=CROP_PADDING,
        notes=notes,
    )


def _read(path: str, root: str, folders, classes: list[str], num_attributes: int, config: Config):
    """One file: ((paths, class ids [n], boxes [n, 4], labels [n, A]), notes)."""
    lines = [line.split() for line in files.read_lines(path)]
    _check_lines(path, lines, num_attributes)
    folder = _picture_folder(root, folders)
    present = files.list_images(folder) if folder else {}
    keep = [i for i, line in enumerate(lines) if line[0] in present]
    notes = []
    if len(keep) < len(lines):
        missing = [line[0] for line in lines if line[0] not in present]
        where = folder or os.path.join(root, folders[0])
        notes.append(files.missing_images(missing, len(lines), os.path.basename(path), where, config.on_bad_image))
    kept = [lines[i] for i in keep]
    rank = {c: i for i, c in enumerate(classes)}
    files.check_names(sorted({line[1] for line in kept}), classes, path, "the classes in class_names.txt")
    class_ids = np.array([rank[line[1]] for line in kept], np.int32)
    boxes = _boxes(path, kept, keep)
    labels = np.array([line[6:] for line in kept], np.float32).reshape(len(kept), num_attributes)
    if not np.isin(labels, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(labels, (0, 1)).all(axis=1))[0])
        raise UserError(f"Expected attributes 0 or 1 in {path}, line {keep[row] + 1}. Received: {kept[row][6:]}; correct the line.")
    return (np.array([present[line[0]] for line in kept], object), class_ids, boxes, labels), notes


def _check_lines(path: str, lines: list[list[str]], num_attributes: int) -> None:
    for number, line in enumerate(lines, 1):
        if len(line) != 6 + num_attributes:
            raise UserError(
                f"Expected file, class, 4 box numbers and {num_attributes} attributes in {path}, line {number}. "
                f"Received: {len(line)} fields; correct the line, or attribute_names.txt."
            )


def _boxes(path: str, lines: list[list[str]], numbers: list[int]) -> np.ndarray:
    """VOC's 1-based inclusive boxes as 0-based ones with right and bottom exclusive: int32 [n, 4]."""
    try:
        boxes = np.array([line[2:6] for line in lines], np.float64).reshape(-1, 4).round().astype(np.int32)
    except ValueError as error:
        raise UserError(f"Expected numbers as boxes in {path}. Received: {error}; correct the line.") from None
    boxes -= np.array([1, 1, 0, 0], np.int32)
    wrong = np.flatnonzero((boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"Expected a box with 1 <= left <= right and 1 <= top <= bottom in {path}, line {numbers[row] + 1}. "
            "Received: " + ", ".join(f"{f}={v}" for f, v in zip(_BOX_FIELDS, lines[row][2:6])) + "; correct the line."
        )
    return boxes


def _picture_folder(root: str, folders) -> Optional[str]:
    for folder in folders:
        if os.path.isdir(os.path.join(root, folder)):
            return os.path.join(root, folder)
    return None
