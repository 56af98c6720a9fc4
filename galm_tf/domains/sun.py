"""SUN Attribute DB (Patterson et al. 2014): votes per image and attribute.

Layout: `SUNAttributeDB/{images,attributes,attributeLabels_continuous}.mat`,
`images/a/abbey/….jpg`; optionally `trainclasses.txt` and `testclasses.txt`.
A class is the folder of an image below its first letter, its parts joined by
`_` (`l/library/indoor` is `library_indoor`).
"""

from __future__ import annotations

import os
import re

import numpy as np

from galm_tf.config import Config
from galm_tf.domains import build, files, matlab
from galm_tf.domains.domain import Domain, photograph_numbers
from galm_tf.errors import UserError

_TEST_FRACTION = 107 / 707  # the paper's proportion of classes, §4.2.2
_SLACK = 1e-4  # the release rounds shares to a few digits


def recognises(folder: str) -> bool:
    """Whether it holds the folder of the annotations."""
    return os.path.isdir(os.path.join(folder, "SUNAttributeDB"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    attributes = _strings(folder, "attributes")
    images = _strings(folder, "images")
    repeat = files.first_repeat(images)
    if repeat:
        raise UserError(
            f"Expected every image once in {folder}/SUNAttributeDB/images.mat, row {repeat[1] + 1}. Received: {images[repeat[1]]}, as in "
            f"row {repeat[0] + 1}; remove one, and its row of labels_cv."
        )
    votes = _votes(folder, len(images), len(attributes))
    present = files.list_images(files.require(folder, "images"), folder)
    keep = np.array([image in present for image in images])
    notes = []
    if not keep.all():
        missing = [image for image, there in zip(images, keep) if not there]
        place = os.path.join(folder, "images")
        notes.append(files.missing_images(missing, len(images), "images.mat", place, config))
    names = [class_name(image) for image, there in zip(images, keep) if there]
    classes, class_ids = np.unique(names, return_inverse=True)
    paths = [present[image] for image, there in zip(images, keep) if there]
    subsets, drawn = _subsets(name, folder, classes.tolist(), class_ids, paths, config)
    return build.build_domain(
        name,
        "sun",
        attributes=unique([a.replace("/ ", "/").replace("/", "-").strip() for a in attributes]),
        classes=classes.tolist(),
        paths=paths,
        class_ids=class_ids,
        labels=labels_from_votes(votes[keep], config),
        shares=np.clip(votes[keep], 0.0, 1.0),
        subsets=subsets,
        notes=[*notes, *drawn],
    )


def labels_from_votes(votes: np.ndarray, config: Config) -> np.ndarray:
    """Shares of positive votes [n, A], NaN where unknown -> {0, 1, NaN} (DESIGN §4).

    majority: 1 at `sun_positive` and above, else 0. unanimous: 0 without a vote,
    1 at `sun_unanimous` and above, unknown between. Comparisons allow for rounding.
    """
    if config.sun_votes == "majority":
        return np.where(np.isnan(votes), np.nan, votes >= config.sun_positive - _SLACK).astype(np.float32)
    labels = np.where(votes >= config.sun_unanimous - _SLACK, 1.0, np.nan)
    return np.where(votes <= _SLACK, 0.0, labels).astype(np.float32)


def class_name(image: str) -> str:
    """`l/library/indoor/sun_x.jpg` -> `library_indoor`."""
    return "_".join(image.split("/")[1:-1])


def unique(names: list[str]) -> list[str]:
    """The names, repeated ones numbered."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _subsets(
    name: str, folder: str, classes: list[str], class_ids: np.ndarray, paths: list[str], config: Config
) -> tuple[np.ndarray, list[str]]:
    """(`train` or `test` per record, notes): by the class lists, without any by seed."""
    lists = ("trainclasses.txt", "testclasses.txt")
    if not any(os.path.exists(os.path.join(folder, file)) for file in lists):
        return build.drawn_subsets(name, class_ids, photograph_numbers(paths, {}), _TEST_FRACTION, config)
    train, test = ([_listed_class(line) for line in files.read_lines(files.require(folder, file))] for file in lists)
    return build.subsets_by_class(class_ids, classes, train, test, folder), []


def _listed_class(line: str) -> str:
    """A class in a list: `library_indoor`, or as the folder `/l/library/indoor`."""
    return re.sub("^/?[a-z]/", "", line).replace("/", "_")


def _strings(folder: str, stem: str) -> list[str]:
    """The variable of a file that is named like it; none is empty."""
    path = _file(folder, stem)
    result = matlab.read_strings(path, stem)
    if "" in result:
        raise UserError(
            f"Expected names in the variable {stem} of {path}. Received: an empty one in row {result.index('') + 1}; "
            "download the three files anew."
        )
    return result


def _votes(folder: str, num_images: int, num_attributes: int) -> np.ndarray:
    """Shares of positive votes, NaN where unknown: float64 [n, A]."""
    path = _file(folder, "attributeLabels_continuous")
    votes = matlab.read_numbers(path, "labels_cv")
    if votes.shape != (num_images, num_attributes):
        raise UserError(
            f"Expected votes of shape {(num_images, num_attributes)} (images, attributes) in {path}. "
            f"Received: shape={votes.shape}; download the three files anew."
        )
    wrong = np.argwhere((votes < -_SLACK) | (votes > 1 + _SLACK))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"Expected shares of votes from 0 to 1 in the variable labels_cv of {path}, row {row + 1}, column {column + 1}. "
            f"Received: {votes[row, column]:g}; divide counts by the number of votes, and write NaN for unknown."
        )
    return votes


def _file(folder: str, stem: str) -> str:
    return files.require(os.path.join(folder, "SUNAttributeDB"), f"{stem}.mat", root=folder)
