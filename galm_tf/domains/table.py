"""Your own images: a folder `images/` and a table `attributes.csv` or `attributes.parquet`.

Columns: `image` (path below images/), optionally `class`, `split` (train, test)
and a box (`left`, `top`, `right`, `bottom`: pixels, right and bottom exclusive),
then one column per attribute, read as `table_file` tells. An image may have several rows
when their boxes differ. Without classes nothing can be held out but images.

What is true of whole classes may stand in `class_attributes.csv` (or .parquet) beside it: a column `class` and
one per attribute. Where an image has a label of its own, that counts.
"""

from __future__ import annotations

import decimal
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from galm_tf.config import Config
from galm_tf.domains import build, copies, files
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, Domain, photograph_numbers
from galm_tf.domains.table_file import (
    RESERVED,
    blank,
    is_unknown,
    labels_from_shares,
    line,
    place,
    read_boxes,
    read_labels,
    read_table,
)
from galm_tf.errors import UserError

_TABLES = ("attributes.csv", "attributes.parquet")
_CLASS_TABLES = ("class_attributes.csv", "class_attributes.parquet")
_TEST_FRACTION = 0.2


def recognises(folder: str) -> bool:
    """Whether a folder holds a table of attributes."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in _TABLES)


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the table; raises UserError with file, line and column for what does not fit."""
    path = files.require(folder, *_TABLES)
    table = read_table(path, ("image",), ("class",))
    if "split" in table and blank(table["split"]).all():
        table = table.drop(columns="split")
    attributes, shares, of_classes = _labels_of_both(table, path, folder)
    table = table if "class" in table else table.assign(**{"class": build.NO_CLASS})
    unread = [note for names in (_TABLES, _CLASS_TABLES) for note in _unread(folder, names)]
    labels = labels_from_shares(shares)
    graded = [a for a, column in zip(attributes, shares.T) if ((column > 0) & (column < 1)).any()]
    boxes = read_boxes(table, path)
    pictures, notes = _pictures(table, path, folder, config)
    shown = pictures.fillna(table["image"].map(files.normal_path))
    keys = pd.DataFrame(boxes).assign(image=[name.encode(errors="surrogateescape") for name in shown])
    _expect_no_repeats(keys, table, "one row per image, or per image and box,", "image", path)
    there = pictures.notna().to_numpy()
    paths = pictures[there].tolist()
    first_files = copies.originals(paths)
    photographs = photograph_numbers(paths, first_files)
    classes, class_ids = np.unique(table["class"].to_numpy()[there].astype(str), return_inverse=True)
    subsets, drawn = _subsets(name, table[there], path, class_ids, photographs, labels[there], config)
    return build.build_domain(
        name,
        "table",
        attributes=attributes,
        classes=classes.tolist(),
        paths=paths,
        class_ids=class_ids,
        labels=labels[there],
        shares=shares[there],
        subsets=subsets,
        boxes=boxes[there],
        source="own",
        originals=first_files,
        notes=[
            *unread,
            *notes,
            *of_classes,
            *_copies_note(first_files, folder),
            *drawn,
            *_graded_note(graded, folder),
            *_alike(classes, path, _meant),
            *_alike(attributes, path, str.casefold),
            *_unnamed(classes, class_ids, path),
        ],  # fmt: skip
    )


def _labels_of_both(table: pd.DataFrame, path: str, folder: str) -> tuple[list[str], np.ndarray, list[str]]:
    """(attributes, shares float32 [n, A], notes) of the images' table and of that of their classes, where there is one."""
    class_path = next((p for p in (os.path.join(folder, name) for name in _CLASS_TABLES) if os.path.exists(p)), None)
    if class_path is None:
        return *read_labels(table, path), []
    files.check_inside(class_path, folder)
    if "class" not in table:
        raise UserError(
            f"Expected a column class in {path}, by which {class_path} tells labels. Received: {list(table)}; add it."
        )
    own = any(c not in RESERVED for c in table)
    attributes, shares = read_labels(table, path) if own else ([], np.zeros((len(table), 0), np.float32))
    names, of_classes = _class_labels(class_path)
    rows = of_classes.index.get_indexer(table["class"])
    if (rows < 0).all():
        raise UserError(
            f"Expected rows of the classes of {path} in {class_path}. Received: none of {table['class'].nunique()}, e.g. {of_classes.index[0]} and "
            f"not {table['class'].iloc[0]}; write their names alike."
        )
    idle = of_classes.index[~of_classes.index.isin(table["class"])]
    for name, column in zip(
        names, np.where(rows[:, None] >= 0, of_classes.to_numpy()[rows], np.nan).astype(np.float32).T
    ):
        if name in attributes:
            own_labels = shares[:, attributes.index(name)]
            own_labels[:] = np.where(np.isfinite(own_labels), own_labels, column)
        else:
            attributes, shares = [*attributes, name], np.concatenate([shares, column[:, None]], axis=1)
    return attributes, shares, _unmatched(table["class"][rows < 0], idle, path, class_path)


def _class_labels(path: str) -> tuple[list[str], pd.DataFrame]:
    """Names of the attributes of a table of classes, and the shares float32 [C, A] of each class, by its name."""
    table = read_table(path, ("class",))
    of_images = [c for c in table if c in RESERVED and c != "class"]
    if of_images:
        raise UserError(
            f"Expected the column class and one per attribute in {path}. Received: {', '.join(of_images)}, which single images have; "
            f"give it beside them in {_TABLES[0]}, or remove it."
        )
    names, shares = read_labels(table, path)
    _expect_no_repeats(table[["class"]], table, "one row per class", "class", path)
    return names, pd.DataFrame(shares, index=pd.Index(table["class"]))


def _expect_no_repeats(keys: pd.DataFrame, table: pd.DataFrame, wanted: str, column: str, path: str) -> None:
    """Raises UserError where two rows of a table have the same keys; wanted: what there should be, column: what names
    it, in words.
    """
    repeated = np.flatnonzero(keys.duplicated())
    if len(repeated):
        row = int(repeated[0])
        first = int(np.flatnonzero((keys == keys.iloc[row]).all(axis=1))[0])
        raise UserError(
            f"Expected {wanted} in {place(table, path, row)}, column {column}. Received: {table[column].iloc[row]}, as in "
            f"{line(table, first)}; remove one."
        )


def _unmatched(without: pd.Series, idle: pd.Index, path: str, class_path: str) -> list[str]:
    """Notes on classes of images that the table of classes does not have, and on those of it that no image has."""
    notes = []
    if len(without):
        lacking = f"{_classes(without.nunique(), path)} no row in {class_path}, the first is {without.iloc[0]}"
        notes.append(f"{lacking}: what that tells is unknown of them.")
    if len(idle):
        notes.append(f"{_classes(len(idle), class_path)} no image in {path}, the first is {idle[0]}.")
    return notes


def _classes(count: int, path: str) -> str:
    return f"1 class of {path} has" if count == 1 else f"{count} classes of {path} have"


def _expect_images(folder: str, path: str) -> None:
    """Raises UserError where there is no folder images/, and says where the pictures seem to be."""
    there = sorted(os.listdir(folder))
    if "images" in there:
        return
    alike = [name for name in there if name.lower() == "images"]
    pictures = [name for name in there if name.lower().endswith(files.IMAGE_ENDINGS)]
    if alike or pictures:
        repair = f"call {alike[0]} images" if alike else "move the pictures into such a folder"
        raise UserError(
            f"Expected a folder images/ beside {path}. Received: {alike[0] if alike else pictures[0]}; {repair}."
        )


def _pictures(table: pd.DataFrame, path: str, folder: str, config: Config) -> tuple[pd.Series, list[str]]:
    """(absolute path per row, missing where absent; notes)."""
    _expect_images(folder, path)
    within = files.require(folder, "images")
    names = table["image"].map(files.normal_path)
    present = _by_normal_path(files.list_images(within, folder, ("",)), names, table, path)
    alike = _in_any_case(present)
    # not by `map`, which takes no path that is no text
    exact = pd.Series([present.get(name) for name in names], names.index, object)
    pictures = pd.Series([present.get(name) or alike.get(name.casefold()) for name in names], names.index, object)
    absent = np.flatnonzero(pictures.isna())
    listed = set(pictures.dropna())
    beside = sum(name.lower().endswith(files.IMAGE_ENDINGS) and file not in listed for name, file in present.items())
    notes = (
        [f"{beside} of the {len(present)} files in {within} are pictures without a row in {path} and are left out."]
        if beside
        else []
    )
    renamed = np.flatnonzero(exact.isna() & pictures.notna())
    if len(renamed):
        first, found = table["image"].iloc[renamed[0]], os.path.relpath(pictures.iloc[renamed[0]], within)
        notes.append(files.differ_in_case(len(renamed), len(table), path, first, found))
    if not len(absent):
        return pictures, notes
    missing = table["image"].iloc[absent].tolist()
    first = files.normal_path(missing[0])
    known = max((name for name in present if first.endswith("/" + name)), key=len, default="")
    before = first[: len(first) - len(known)]
    meant = [name[len(before) :] for name in map(files.normal_path, missing) if name.startswith(before)]
    if known and len(meant) == len(missing) and not any(present.get(name) in listed | {None} for name in meant):
        raise UserError(
            f"Expected names within images/ in {place(table, path, int(absent[0]))}, column image. Received: {missing[0]}; leave out the "
            f"leading {before}."
        )
    if len(absent) == len(table):
        raise UserError(
            f"Expected the images of {path} in {within}, named by their paths below it. Received: none of {len(table)}, the first is "
            f"{missing[0]}{_nearest(missing[0], present)}; copy them there, or correct the names."
        )
    where = f"{path} ({line(table, int(absent[0]))})"
    near = _nearest(missing[0], present) if config.on_bad_image == "fail" else ""
    return pictures, [*notes, files.missing_images(missing, len(table), where, within, config, near)]


def _by_normal_path(listed: Mapping[str, str], names: pd.Series, table: pd.DataFrame, path: str) -> dict[str, str]:
    """`files.normal_path` of a name -> file; raises UserError where a row's name means two files."""
    spelt: dict[str, list[str]] = {}
    for name in listed:
        spelt.setdefault(files.normal_path(name), []).append(name)
    unclear = np.flatnonzero([len(spelt.get(name, ())) > 1 for name in names])
    if len(unclear):
        row = int(unclear[0])
        one, other = (ascii(name) for name in spelt[names.iloc[row]][:2])
        raise UserError(
            f"Expected the name of one file in {place(table, path, row)}, column image. Received: {table['image'].iloc[row]}, which {one} and "
            f"{other} are called alike; rename one of them."
        )
    return {normal: listed[its[0]] for normal, its in spelt.items()}


def _in_any_case(present: Mapping[str, str]) -> dict[str, str]:
    """Name in small letters -> file, of files that no other is named like."""
    named: dict[str, list[str]] = {}
    for name, file in present.items():
        named.setdefault(name.casefold(), []).append(file)
    return {name: files_[0] for name, files_ in named.items() if len(files_) == 1}


def _nearest(name: str, present: Iterable[str]) -> str:
    """What lies there that is named most like an absent file, in words."""
    near = files.nearest_name(name, present)
    return f", where there is {near}" if near else ""


def _graded_note(attributes: Sequence[str], folder: str) -> list[str]:
    if not attributes:
        return []
    which = (
        f"The attribute {attributes[0]} of {folder} has"
        if len(attributes) == 1
        else f"{len(attributes)} attributes of {folder}, the first is {attributes[0]}, have"
    )
    return [f"{which} shares between 0 and 1: from one half on they count as yes."]


def _meant(name: str) -> Hashable:
    """What is the same of a class's names that are spelt a little otherwise: `polar bear` and `Polar_bear`, 1 and 01."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?", name.strip()):
        return decimal.Decimal(name.strip())
    # marks within and after words tell them apart: C, C# and C++
    return re.sub(r"(?<=\w)[\s_+-]+(?=\w)", " ", name.casefold().strip())


def _alike(names: Sequence[str], path: str, key: Callable[[str], Hashable]) -> list[str]:
    """A note where names are nearly the same: their keys are."""
    spelt: dict[Hashable, str] = {}
    pairs = [(other, name) for name in map(str, names) if (other := spelt.setdefault(key(name), name)) != name]
    if not pairs:
        return []
    more = f" (and {len(pairs) - 1} more such pair{'s' * (len(pairs) > 2)})" if len(pairs) > 1 else ""
    return [
        f"{path} tells {pairs[0][0]} and {pairs[0][1]} apart{more}, whose names are nearly the same: write them alike if they are one."
    ]


def _unread(folder: str, names: Sequence[str]) -> list[str]:
    """A note where the same table lies there in two formats, of which the first is read."""
    there = [name for name in names if os.path.exists(os.path.join(folder, name))]
    return [f"{there[1]} is not read, since {there[0]} lies beside it in {folder}."] if len(there) > 1 else []


def _unnamed(classes: Sequence[str], class_ids: np.ndarray, path: str) -> list[str]:
    """A note where a class is called like a label that is unknown."""
    counts = np.bincount(class_ids, minlength=len(classes)).tolist()
    return [
        f"{name} counts as a class of {counts[i]} image{'s' * (counts[i] > 1)} in {path}: if it means that their class is unknown, give each a class of its own, or remove the rows."
        for i, name in enumerate(classes) if is_unknown(name)
    ]  # fmt: skip


def _copies_note(first_files: Mapping[str, str], folder: str) -> list[str]:
    """A note where files are the same."""
    if not first_files:
        return []
    copy, first = (os.path.relpath(path, os.path.join(folder, "images")) for path in next(iter(first_files.items())))
    which = f"{len(first_files)} files are copies of others" if len(first_files) > 1 else "A file is a copy of another"
    return [
        f"{which}, byte for byte, e.g. {copy} of {first}: they count as one photograph, and no drawn split parts them."
    ]


def _subsets(
    name: str,
    table: pd.DataFrame,
    path: str,
    class_ids: np.ndarray,
    photographs: np.ndarray,
    labels: np.ndarray,
    config: Config,
) -> tuple[np.ndarray, list[str]]:
    """(`train`, `test` or `unused` per record, notes): by the column split, without one by labels and classes, or by
    seed.
    """
    if "split" not in table:
        if not build.has_classes(class_ids) and len(np.unique(photographs)) < 2:
            raise UserError(
                f"Expected at least two images in {path}: one alone can be neither trained and tested on, nor judged. Received: one; add some."
            )
        return build.drawn_subsets(name, class_ids, photographs, _TEST_FRACTION, config, labels)
    given = table["split"].astype(object)  # a categorical column of Parquet takes no further word
    column = given.where(~blank(given), UNUSED).astype(str).str.strip().str.lower()
    wrong = np.flatnonzero(~column.isin([TRAIN, TEST, UNUSED]).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"Expected train, test or an empty cell in {place(table, path, row)}, column split. "
            f"Received: {table['split'].iloc[row]!r}; write train for what validation is drawn from too, or nothing where an image shall be unused."
        )
    unused = int((column == UNUSED).sum())
    notes = [f"{unused} of {len(column)} rows of {path} have no split and are unused."] if unused else []
    subsets = column.to_numpy().astype(str)
    if not config.replaces_split:  # else another one counts than this
        notes += build.torn_photographs(photographs, subsets, path)
    return subsets, notes
