"""The splits of Xian et al. (2018), "xlsa17": `att_splits.mat` with `res101.mat` beside it.

`att_splits.mat` numbers images from 1 in the order of `image_files` in
`res101.mat`. `trainval_loc` trains and `test_unseen_loc` is tested;
`test_seen_loc` (images of training classes) is used for neither.
"""

from __future__ import annotations

import os
from collections import defaultdict

import numpy as np

from galm_tf.domains import files, matlab
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, Domain
from galm_tf.errors import UserError

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".json")


def read_subsets(domain: Domain, path: str) -> np.ndarray:
    """`train`, `test` or `unused` per record of a single domain.

    Images are matched by folder and file name, the objects of one photograph in
    their order, so a folder that holds only some of the images will do.
    """
    expect_file(path)
    if os.path.splitext(path)[1].lower() in _TABLES:
        raise UserError(
            f"Expected an att_splits.mat. Received: splits_file={path}, a table; the split of images of your own goes into the column split "
            'of theirs (README.md, "Your own images").'
        )
    listing = files.require(os.path.dirname(os.path.abspath(path)), "res101.mat", flag="splits_file")
    listed = [_tail(name) for name in matlab.read_strings(listing, "image_files")]
    parts = _parts(path, len(listed))
    positions = defaultdict(list)
    for position, name in enumerate(listed):
        positions[name].append(position)
    subsets, passed = [], defaultdict(int)
    for name in map(_tail, domain.paths):
        here, number = positions.get(name, ()), passed[name]
        subsets.append(parts[here[number]] if number < len(here) else UNUSED)
        passed[name] += 1
    result = np.array(subsets)
    for part in (TRAIN, TEST):
        if not (result == part).any():
            raise UserError(
                f"Expected {path} to list {part} images of {domain.name}. Received: {len(listed)} images, of which "
                f"{sum(name in passed for name in positions)} are in the data folder and none is for {part}; "
                "is it of another data set?"
            )
    return result


def expect_file(path: str) -> None:
    """Raises UserError where there is none."""
    if not os.path.isfile(path):
        raise UserError(
            f"Expected an att_splits.mat. Received: splits_file={path}, which is no file; name the new one by --splits_file where it has moved."
        )


def _parts(path: str, size: int) -> np.ndarray:
    """The part of each of `size` listed images."""
    parts = np.full(size, UNUSED)
    numbers = [matlab.read_indices(path, variable) for variable in ("trainval_loc", "test_unseen_loc")]
    both = np.intersect1d(*numbers)
    if len(both):
        raise UserError(
            f"Expected disjoint trainval_loc and test_unseen_loc in {path}. Received: image {both[0]} in both; "
            "download the file anew."
        )
    for variable, part, index in zip(("trainval_loc", "test_unseen_loc"), (TRAIN, TEST), numbers):
        outside = index[(index < 1) | (index > size)]
        if len(outside):
            raise UserError(
                f"Expected image numbers from 1 to {size} (images in res101.mat) in {variable} of {path}. "
                f"Received: {outside[0]}; take both files from the same folder of the download."
            )
        parts[index - 1] = part
    return parts


def _tail(path: str) -> str:
    """Folder and file name, which identify an image in every release."""
    return "/".join(files.normal_path(path).split("/")[-2:]).lower()
