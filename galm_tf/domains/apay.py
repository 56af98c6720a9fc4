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
    attributes, classes = (_names(files.require(data, file)) for file in ("attribute_names.txt", "class_names.txt"))
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
        if config.replaces_split:
            return halves  # its split will be replaced
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
        crop_padding=CROP_PADDING,
        notes=notes,
    )


def _names(path: str) -> list[str]:
    names = files.read_lines(path)
    files.expect_lines(names, path)
    return names


def _picture_folder(root: str, folders: tuple[str, ...]) -> str:
    """The first of the folders that is there, or else the one that should be."""
    places = [os.path.join(root, folder) for folder in folders]
    return next(filter(os.path.isdir, places), places[0])


def _read(path: str, where: str, present: dict[str, str], classes: list[str], num_attributes: int, config: Config):
    """One file, its pictures in the folder `where`: ((paths, class ids [n], boxes [n, 4], labels [n, A]), notes)."""
    numbered = [(number, line.split()) for number, line in files.read_numbered_lines(path)]
    files.expect_lines(numbered, path)
    _check_lines(path, numbered, num_attributes)
    kept = [(number, line) for number, line in numbered if line[0] in present]
    notes = []
    if len(kept) < len(numbered):
        missing = [line[0] for _, line in numbered if line[0] not in present]
        notes.append(files.missing_images(missing, len(numbered), os.path.basename(path), where, config))
    rank = {c: i for i, c in enumerate(classes)}
    files.check_names(sorted({line[1] for _, line in kept}), classes, path, "the classes in class_names.txt")
    class_ids = np.array([rank[line[1]] for _, line in kept], np.int32)
    paths = np.array([present[line[0]] for _, line in kept], object)
    boxes, labels = _boxes(path, kept), _labels(path, kept, num_attributes)
    repeat = files.first_repeat((line[0], *box) for (_, line), box in zip(kept, boxes.tolist()))
    if repeat:
        (first, line), (number, _) = kept[repeat[0]], kept[repeat[1]]
        notes.append(
            f"{os.path.basename(path)}, line {number}: {line[0]} with the box of line {first}; both count, whatever they say."
        )
    return (paths, class_ids, boxes, labels), notes


def _check_lines(path: str, lines: list[tuple[int, list[str]]], num_attributes: int) -> None:
    for number, line in lines:
        if len(line) != 6 + num_attributes:
            raise UserError(
                f"Expected file, class, 4 box numbers and {num_attributes} attributes in {path}, line {number}. "
                f"Received: {len(line)} fields; correct the line, or attribute_names.txt."
            )


def _labels(path: str, lines: list[tuple[int, list[str]]], num_attributes: int) -> np.ndarray:
    """float32 [n, A] of 0 and 1."""
    fields = ["".join(line[6:]) for _, line in lines]
    for (number, line), joined in zip(lines, fields):
        if len(joined) != num_attributes or not joined.isascii() or joined.strip("01"):
            column = next(i for i, value in enumerate(line[6:]) if value not in ("0", "1"))
            raise UserError(
                f"Expected 0 or 1 in {path}, line {number}, attribute {column + 1}. "
                f"Received: {line[6 + column]}; correct the line."
            )
    digits = np.frombuffer("".join(fields).encode(), np.uint8).reshape(len(lines), num_attributes)
    return (digits == ord("1")).astype(np.float32)


def _boxes(path: str, lines: list[tuple[int, list[str]]]) -> np.ndarray:
    """VOC's 1-based inclusive boxes as 0-based ones with right and bottom exclusive: int32 [n, 4]."""
    values = np.array([_number(value) for _, line in lines for value in line[2:6]]).reshape(-1, 4).round()
    values[:, :2] += values[:, :2] == 0  # some tools count from 0
    (left, top, right, bottom) = values.T
    wrong = ~((1 <= left) & (left <= right) & (right < 2**31) & (1 <= top) & (top <= bottom) & (bottom < 2**31))
    if wrong.any():
        number, line = lines[int(np.argmax(wrong))]
        raise UserError(
            f"Expected a box with 1 <= left <= right and 1 <= top <= bottom in {path}, line {number}. "
            "Received: " + ", ".join(f"{f}={v}" for f, v in zip(_BOX_FIELDS, line[2:6])) + "; correct the line."
        )
    return (values - (1, 1, 0, 0)).astype(np.int32)


def _number(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return np.nan
