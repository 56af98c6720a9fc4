"""Animals with Attributes 1 and 2 (Lampert et al. 2014; Xian et al. 2018): labels per class.

Layout: `classes.txt`, `predicates.txt` (number and name a line),
`predicate-matrix-binary.txt`, `trainclasses.txt`, `testclasses.txt`,
`JPEGImages/CLASS/*`. The folder may hold only some of the classes.
"""

from __future__ import annotations

import os

import numpy as np

from galm_tf.config import Config
from galm_tf.domains import build, files
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError


def recognises(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "predicate-matrix-binary.txt"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    classes = _numbered(files.require(folder, "classes.txt"))
    attributes = _numbered(files.require(folder, "predicates.txt"))
    matrix_path = files.require(folder, "predicate-matrix-binary.txt")
    matrix = files.read_matrix(matrix_path, len(classes), len(attributes), "one line a class, one column a predicate")
    if not np.isin(matrix, (0, 1)).all():
        raise UserError(f"Expected 0 and 1 in {matrix_path}. Received: other numbers; is this the continuous matrix?")
    images = files.list_images(files.require(folder, "JPEGImages"))
    folders = [path.split("/")[0] for path in images]
    files.check_names(sorted(set(folders)), classes, f"the folders of {folder}/JPEGImages", "the classes in classes.txt")
    class_ids = np.array([classes.index(f) for f in folders], np.int32)
    train, test = (files.read_lines(files.require(folder, f"{part}classes.txt")) for part in ("train", "test"))
    for part, names in (("train", train), ("test", test)):
        files.check_names(names, classes, os.path.join(folder, f"{part}classes.txt"), "the classes in classes.txt")
    empty = len(classes) - len(set(folders))
    return build.build_domain(
        name,
        "awa",
        attributes=attributes,
        classes=classes,
        paths=list(images.values()),
        class_ids=class_ids,
        labels=matrix[class_ids],
        subsets=build.subsets_by_class(class_ids, classes, train, test, folder),
        notes=[f"{empty} of {len(classes)} classes have no images here."] if empty else [],
    )


def _numbered(path: str) -> list[str]:
    """Lines `number name`, in the order of their numbers."""
    pairs = []
    for number, line in enumerate(files.read_lines(path), 1):
        parts = line.split(None, 1)
        if len(parts) != 2 or not parts[0].isdigit():
            raise UserError(f"Expected a number and a name in {path}, line {number}. Received: {line!r}; correct the line.")
        pairs.append((int(parts[0]), parts[1].strip()))
    return [name for _, name in sorted(pairs)]
