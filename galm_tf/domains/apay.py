"""aPascal and aYahoo (Farhadi et al. 2009): labels per object, several objects a photograph.

Layout: `attribute_data/{attribute_names,class_names,apascal_train,apascal_test,ayahoo_test}.txt`,
each object a line `file class left top right bottom a1 … a64`; pictures in
`VOCdevkit/VOC2008/JPEGImages` (or `VOC2008/JPEGImages`, `JPEGImages`) and
`ayahoo_test_images`. Boxes are 1-based and inclusive, as in VOC. A crop keeps
CROP_PADDING of the box's longer side on every side, as far as the picture goes.

The paper trains on all of aPascal and tests on Yahoo's unseen classes. With
--test_split=apascal the official halves of aPascal are used instead; their
classes are the same.
"""

from __future__ import annotations

import dataclasses
import os

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
    """Whether it holds the folder of the annotations."""
    return os.path.isdir(os.path.join(folder, "attribute_data"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    data = files.require(folder, "attribute_data")
    attributes = files.read_lines(files.require(data, "attribute_names.txt"))
    classes = files.read_lines(files.require(data, "class_names.txt"))
    apascal = config.test_split == "apascal"
    files.require(data, "apascal_train.txt", root=folder)
    parts, subsets, notes, pictures = [], [], [], {}
    for file, (folders, official, halves) in _FILES.items():
        path = os.path.join(data, file)
        if not os.path.exists(path):
            notes.append(f"{file} is absent.")
            continue
        where = _picture_folder(folder, folders)
        if where not in pictures:
            pictures[where] = files.list_images(where, folder) if os.path.isdir(where) else {}
        part, note = _read(path, where, pictures[where], classes, len(attributes), config)
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


def _picture_folder(root: str, folders: tuple[str, ...]) -> str:
    """The first of the folders that is there, or else the one that should be."""
    places = [os.path.join(root, folder) for folder in folders]
    return next(filter(os.path.isdir, places), places[0])


def _read(path: str, where: str, present: dict[str, str], classes: list[str], num_attributes: int, config: Config):
    """One file, its pictures in the folder `where`: ((paths, class ids [n], boxes [n, 4], labels [n, A]), notes)."""
    numbered = [(number, line.split()) for number, line in files.read_numbered_lines(path)]
    _check_lines(path, numbered, num_attributes)
    kept = [(number, line) for number, line in numbered if line[0] in present]
    notes = []
    if len(kept) < len(numbered):
        missing = [line[0] for _, line in numbered if line[0] not in present]
        notes.append(files.missing_images(missing, len(numbered), os.path.basename(path), where, config.on_bad_image))
    rank = {c: i for i, c in enumerate(classes)}
    files.check_names(sorted({line[1] for _, line in kept}), classes, path, "the classes in class_names.txt")
    class_ids = np.array([rank[line[1]] for _, line in kept], np.int32)
    paths = np.array([present[line[0]] for _, line in kept], object)
    return (paths, class_ids, _boxes(path, kept), _labels(path, kept, num_attributes)), notes


def _check_lines(path: str, lines: list[tuple[int, list[str]]], num_attributes: int) -> None:
    for number, line in lines:
        if len(line) != 6 + num_attributes:
            raise UserError(
                f"Expected file, class, 4 box numbers and {num_attributes} attributes in {path}, line {number}. "
                f"Received: {len(line)} fields; correct the line, or attribute_names.txt."
            )


def _labels(path: str, lines: list[tuple[int, list[str]]], num_attributes: int) -> np.ndarray:
    """float32 [n, A] of 0 and 1."""
    fields = np.array([line[6:] for _, line in lines], str).reshape(len(lines), num_attributes)
    wrong = np.argwhere(~np.isin(fields, ("0", "1")))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"Expected 0 or 1 in {path}, line {lines[row][0]}, attribute {column + 1}. "
            f"Received: {fields[row, column]}; correct the line."
        )
    return (fields == "1").astype(np.float32)


def _boxes(path: str, lines: list[tuple[int, list[str]]]) -> np.ndarray:
    """VOC's 1-based inclusive boxes as 0-based ones with right and bottom exclusive: int32 [n, 4]."""
    boxes = np.zeros((len(lines), 4), np.int32)
    for row, (number, line) in enumerate(lines):
        try:
            left, top, right, bottom = (round(float(value)) for value in line[2:6])
            left, top = left or 1, top or 1  # some tools count from 0
            good = 1 <= left <= right < 2**31 and 1 <= top <= bottom < 2**31
        except (ValueError, OverflowError):
            good = False
        if not good:
            raise UserError(
                f"Expected a box with 1 <= left <= right and 1 <= top <= bottom in {path}, line {number}. "
                "Received: " + ", ".join(f"{f}={v}" for f, v in zip(_BOX_FIELDS, line[2:6])) + "; correct the line."
            )
        boxes[row] = left - 1, top - 1, right, bottom
    return boxes
