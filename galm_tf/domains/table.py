"""Your own images: a folder `images/` and a table `attributes.csv` or `attributes.parquet`.

Columns: `image` (path below images/), `class`, optionally `split` (train, test)
and a box (`left`, `top`, `right`, `bottom`: pixels, right and bottom exclusive),
then one column per attribute: 0, 1 or empty for unknown.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from galm_tf.config import Config
from galm_tf.domains import build, files
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, WHOLE_IMAGE, Domain
from galm_tf.errors import UserError

_BOX = ["left", "top", "right", "bottom"]
_TEST_FRACTION = 0.2


def recognises(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, f"attributes.{e}")) for e in ("csv", "parquet"))


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the table; raises UserError with file, line and column for what does not fit."""
    path = files.require(folder, "attributes.csv", "attributes.parquet")
    table = _read(path)
    for column in ("image", "class"):
        if column not in table:
            raise UserError(f"Expected a column {column} in {path}. Received: {list(table.columns)}; add it.")
        _check_filled(table[column], path, column)
    present = files.list_images(files.require(folder, "images"))
    names = table["image"].astype(str).str.replace("\\", "/", regex=False)
    _check_duplicates(table, names, path)
    there = names.isin(set(present)).to_numpy()
    notes = []
    if not there.all():
        missing = names[~there]
        line = _line(path, int(np.flatnonzero(~there)[0]))
        where = f"{os.path.basename(path)} ({line})"
        notes.append(files.missing_images(missing.tolist(), len(names), where, os.path.join(folder, "images"), config.on_bad_image))
    attributes = [c for c in table.columns if c not in ("image", "class", "split", *_BOX)]
    if not attributes:
        raise UserError(f"Expected a column per attribute in {path}. Received: {list(table.columns)}; add one.")
    labels = np.stack([_labels(table[c], path, str(c)) for c in attributes], axis=1)[there]
    boxes = _boxes(table, path)[there]
    classes, class_ids = np.unique(table["class"].astype(str).to_numpy()[there].astype(str), return_inverse=True)
    single = [c for c, count in zip(classes, np.bincount(class_ids)) if count == 1]
    if single:
        notes.append(f"{len(single)} classes have one image only, the first is {single[0]}.")
    subsets, disjoint = _subsets(table, path, there, class_ids, config)
    return build.build_domain(
        name,
        "table",
        attributes=[str(a).strip() for a in attributes],
        classes=classes.tolist(),
        paths=[present[n] for n in names[there]],
        class_ids=class_ids,
        labels=labels,
        subsets=subsets,
        boxes=boxes,
        source="own",
        class_disjoint=disjoint,
        notes=notes,
    )


def _read(path: str) -> pd.DataFrame:
    try:
        if path.endswith(".csv"):
            return pd.read_csv(path, encoding="utf-8-sig", dtype=object, keep_default_na=False, skip_blank_lines=False)
        return pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"Expected pyarrow to read {path}. Received: {error}; install it, or save the table as CSV.") from None
    except Exception as error:  # pandas raises many kinds for a damaged table
        raise UserError(f"Expected a table in {path}. Received: {error}; save it as UTF-8 CSV with one header line.") from None


def _line(path: str, row: int) -> str:
    return f"line {row + 2}" if path.endswith(".csv") else f"row {row}"


def _blank(column: pd.Series) -> np.ndarray:
    """bool [n]: cells without a value."""
    return (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()


def _check_filled(column: pd.Series, path: str, name: str) -> None:
    empty = np.flatnonzero(_blank(column))
    if len(empty):
        raise UserError(f"Expected a value of {name} in {path}, {_line(path, int(empty[0]))}. Received: nothing; fill the cell.")


def _check_duplicates(table: pd.DataFrame, names: pd.Series, path: str) -> None:
    """One row per image and box."""
    boxes = [table[c].astype(str) for c in _BOX if c in table]
    keys = pd.concat([names, *boxes], axis=1)
    repeated = np.flatnonzero(keys.duplicated())
    if len(repeated):
        row = int(repeated[0])
        first = int(np.flatnonzero((keys == keys.iloc[row]).all(axis=1))[0])
        raise UserError(
            f"Expected one row per image (and box) in {path}. Received: {names.iloc[row]} in {_line(path, first)} "
            f"and {_line(path, row)}; remove one."
        )


def _labels(column: pd.Series, path: str, name: str) -> np.ndarray:
    """A column of 0, 1 and empty cells as float32 [n] with NaN."""
    empty = _blank(column)
    values = pd.to_numeric(column.where(~empty), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~empty & ~np.isin(values, (0.0, 1.0)))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"Expected 0, 1 or an empty cell in {path}, {_line(path, row)}, column {name}. "
            f"Received: {column.iloc[row]!r}; correct the cell, or remove the column if it is no attribute."
        )
    return values.astype(np.float32)


def _boxes(table: pd.DataFrame, path: str) -> np.ndarray:
    """int32 [n, 4]; the whole image where no box is given. Checks order and sign, not the image's size."""
    columns = [c for c in _BOX if c in table]
    if not columns:
        return np.tile(np.array(WHOLE_IMAGE, np.int32), (len(table), 1))
    if len(columns) < len(_BOX):
        raise UserError(f"Expected the columns {_BOX} together in {path}. Received: {columns} only; add the others.")
    empty = np.stack([_blank(table[c]) for c in _BOX], axis=1)
    values = np.stack([pd.to_numeric(table[c], errors="coerce").to_numpy(np.float64, na_value=np.nan) for c in _BOX], axis=1)
    whole = empty.all(axis=1)
    good = np.isfinite(values).all(axis=1) & (values[:, :2] >= 0).all(axis=1) & (values[:, 2:] > values[:, :2]).all(axis=1)
    wrong = np.flatnonzero(~whole & ~good)
    if len(wrong):
        row = int(wrong[0])
        got = ", ".join(f"{c}={table[c].iloc[row]}" for c in _BOX)
        raise UserError(
            f"Expected 0 <= left < right and 0 <= top < bottom in {path}, {_line(path, row)}. Received: {got}; correct the box."
        )
    return np.where(whole[:, None], np.array(WHOLE_IMAGE), np.nan_to_num(values)).astype(np.int32)


def _subsets(table, path: str, there: np.ndarray, class_ids: np.ndarray, config: Config) -> tuple[np.ndarray, bool]:
    """(`train`, `test` or `unused` per record, whether their classes are disjoint)."""
    if "split" not in table:
        if len(np.unique(class_ids)) < 2:
            raise UserError(f"Expected at least two classes in {path}, or a column split. Received: one class; add one.")
        return build.random_class_subsets(class_ids, _TEST_FRACTION, config.seed), True
    column = table["split"].astype(str).str.strip().str.lower()
    wrong = np.flatnonzero(~column.isin([TRAIN, TEST, UNUSED, ""]).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"Expected train, test or an empty cell in {path}, {_line(path, row)}, column split. "
            f"Received: {table['split'].iloc[row]!r}; correct the cell."
        )
    subsets = column.replace("", UNUSED).to_numpy().astype(str)[there]
    shared = np.intersect1d(class_ids[subsets == TRAIN], class_ids[subsets == TEST])
    return subsets, not len(shared)
