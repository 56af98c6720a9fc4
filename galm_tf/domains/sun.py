"""SUN Attribute DB (Patterson et al. 2014): votes per image and attribute.

Layout: `SUNAttributeDB/{images,attributes,attributeLabels_continuous}.mat`,
`images/a/abbey/….jpg`; optionally `trainclasses.txt` and `testclasses.txt`.
A class is the folder of an image below its first letter, its parts joined by
`_` (`l/library/indoor` is `library_indoor`).
"""

from __future__ import annotations

import os

import numpy as np
import scipy.io

from galm_tf.config import Config
from galm_tf.domains import build, files
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError

_TEST_FRACTION = 107 / 707  # the paper's proportion of classes, §4.2.2


def recognises(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "SUNAttributeDB", "images.mat"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the folder; raises UserError for what is missing or does not fit."""
    attributes = _strings(folder, "attributes")
    images = _strings(folder, "images")
    votes = _matrix(folder, "attributeLabels_continuous", "labels_cv")
    if votes.shape != (len(images), len(attributes)):
        raise UserError(
            f"Expected votes of shape {(len(images), len(attributes))} (images, attributes) in "
            f"{_path(folder, 'attributeLabels_continuous')}. Received: shape={votes.shape}; download the three files anew."
        )
    present = files.list_images(files.require(folder, "images"))
    keep = np.array([image in present for image in images])
    notes = []
    if not keep.all():
        missing = [image for image, there in zip(images, keep) if not there]
        notes.append(files.missing_images(missing, len(images), "images.mat", os.path.join(folder, "images"), config.on_bad_image))
    names = [class_name(image) for image, there in zip(images, keep) if there]
    classes, class_ids = np.unique(names, return_inverse=True)
    return build.build_domain(
        name,
        "sun",
        attributes=unique([a.replace("/ ", "/").replace("/", "-").strip() for a in attributes]),
        classes=classes.tolist(),
        paths=[present[image] for image, there in zip(images, keep) if there],
        class_ids=class_ids,
        labels=labels_from_votes(votes[keep], config),
        subsets=_subsets(folder, classes.tolist(), class_ids, config),
        notes=notes,
    )


def labels_from_votes(votes: np.ndarray, config: Config) -> np.ndarray:
    """Shares of positive votes [n, A] -> {0, 1, NaN} (DESIGN §4).

    majority: 1 at `sun_positive` and above, else 0. unanimous: 0 without a vote,
    1 at `sun_unanimous` and above, unknown between. The release rounds shares to
    a few digits, so comparisons allow for that.
    """
    slack = 1e-4
    if config.sun_votes == "majority":
        return (votes >= config.sun_positive - slack).astype(np.float32)
    labels = np.where(votes >= config.sun_unanimous - slack, 1.0, np.nan)
    return np.where(votes <= slack, 0.0, labels).astype(np.float32)


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


def _subsets(folder: str, classes: list[str], class_ids: np.ndarray, config: Config) -> np.ndarray:
    lists = [os.path.join(folder, f"{part}classes.txt") for part in ("train", "test")]
    if not all(map(os.path.exists, lists)):
        return build.random_class_subsets(class_ids, _TEST_FRACTION, config.seed)
    train, test = ([line.replace("/", "_") for line in files.read_lines(p)] for p in lists)
    return build.subsets_by_class(class_ids, classes, train, test, folder)


def _path(folder: str, stem: str) -> str:
    return os.path.join(folder, "SUNAttributeDB", f"{stem}.mat")


def _matrix(folder: str, stem: str, key: str) -> np.ndarray:
    path = files.require(os.path.join(folder, "SUNAttributeDB"), f"{stem}.mat")
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise UserError(f"Expected a MATLAB file. Received: {path} ({error}); download it anew.") from error
    if key not in content:
        there = sorted(k for k in content if not k.startswith("__"))
        raise UserError(f"Expected the variable {key} in {path}. Received: {there}; download it anew.")
    return content[key]


def _strings(folder: str, stem: str) -> list[str]:
    """A cell array of strings, of any nesting."""
    result = []
    for cell in _matrix(folder, stem, stem).ravel():
        while isinstance(cell, np.ndarray):
            cell = cell.ravel()[0]
        result.append(str(cell).strip())
    return result
