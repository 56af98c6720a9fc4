"""Image features for attribute learners: the 16×16 pixels of the images, or a file made elsewhere.

A features file is an npz with `image`, [r] names such as `zebra/01.jpg`, and
`features`, [r, D]. Rows are matched to records by path, in any order; further
rows are ignored.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from galm_tf.domains.files import normal_path
from galm_tf.errors import UserError


def read_features(path: str, image_paths: Sequence[str]) -> np.ndarray:
    """The features of each record: float32 [n, D].

    Several records of one picture (its objects) take the rows of that name in
    their order, one each.

    Args:
      path: of the npz.
      image_paths: [n], absolute; a row belongs to the path that ends in its name.

    Raises:
      UserError: for a file that is none, has no such arrays, lacks a record, or holds NaN or infinity.
    """
    names, features = _read(path)
    rows = _match(names, image_paths, path)
    with np.errstate(over="ignore"):
        values = features[rows].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise UserError(
            f"Expected finite features in {path}, within float32. Received: NaN, infinity or more for {len(bad)} of {len(rows)} images, "
            f"first {image_paths[bad[0]]}; make the file anew."
        )
    return values


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Names, str [r], and features, [r, D], of a features file."""
    if not os.path.isfile(path):
        raise UserError(f"Expected a features file. Received: features_file={path}, which is no file; check the path.")
    try:
        found = _arrays(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"Expected an npz of plain arrays in {path}. Received: {text}; write it by numpy.savez(PATH, image=NAMES, "
            "features=ARRAY)."
        ) from error
    shapes = ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in found.items()) or "neither"
    fits = len(found) == 2 and found["image"].dtype.kind == "U" and found["features"].dtype.kind in "fiu"
    if (
        not fits
        or found["features"].ndim != 2
        or not found["features"].shape[1]
        or found["image"].shape != found["features"].shape[:1]
    ):
        raise UserError(
            f"Expected the arrays image (names, [r]) and features (numbers, [r, D]) in {path}. Received: {shapes}; "
            "write both, with one row per name and at least one column."
        )
    return found["image"], found["features"]


def _arrays(path: str) -> dict[str, np.ndarray]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("a single array without a name")
    with loaded:
        found = {key: loaded[key] for key in ("image", "features") if key in loaded.files}
    if "image" in found and found["image"].dtype.kind == "S":  # bytes
        found["image"] = np.char.decode(found["image"], "utf-8")
    return found


def _match(names: np.ndarray, image_paths: Sequence[str], path: str) -> np.ndarray:
    """The row of each record: int64 [n]."""
    rows_of = defaultdict(list)
    for row, name in enumerate(names):
        rows_of[_parts(name)].append(row)
    lengths = sorted({len(parts) for parts in rows_of}, reverse=True)
    taken, owner, result = defaultdict(int), {}, []
    for image in image_paths:
        parts = _parts(image)
        ends = (parts[-length:] for length in lengths)
        name = next((end for end in ends if end in rows_of), None)
        if name is not None and owner.setdefault(name, image) != image:
            raise UserError(
                f"Expected names in {path} that belong to one image each. Received: {'/'.join(name)}, the end of both "
                f"{owner[name]} and {image}; write more of their folders."
            )
        if name is None or taken[name] == len(rows_of[name]):
            listed = taken[name] if name else 0
            raise UserError(
                f"Expected features of all {len(image_paths)} images in {path}. Received: {len(names)} rows, "
                f"{f'only {listed}' if listed else 'none'} for {image}; make the file for this --data_dir, with names "
                "such as FOLDER/IMAGE.jpg in its array image."
            )
        result.append(rows_of[name][taken[name]])
        taken[name] += 1
    return np.array(result, np.int64)


def _parts(path: str) -> tuple[str, ...]:
    """Folders and file name."""
    return tuple(p for p in normal_path(path).split("/") if p not in ("", "."))
