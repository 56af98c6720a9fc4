"""Your own images: a folder `images/` and a table `attributes.csv` or `attributes.parquet`.

Columns: `image` (path below images/), optionally `class`, `split` (train, test)
and a box (`left`, `top`, `right`, `bottom`: pixels, right and bottom exclusive),
then one column per attribute: 0, 1, the share of annotators that said yes (from one
half on it counts as yes), or empty for unknown; words for these (yes, n, True, NA, ?)
too, as people and pandas write them. Commas stand between cells, or the semicolons or tabs
that a spreadsheet has put there, with which 0,67 is a number. An image may have several rows
when their boxes differ. Without classes nothing can be held out but images.

What is true of whole classes may stand in `class_attributes.csv` (or .parquet) beside it: a column `class` and
one per attribute. Where an image has a label of its own, that counts.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import logging
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from galm_tf.config import Config
from galm_tf.domains import build, copies, files
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, WHOLE_IMAGE, Domain
from galm_tf.errors import UserError

_TABLES = ("attributes.csv", "attributes.parquet")
_CLASS_TABLES = ("class_attributes.csv", "class_attributes.parquet")
_BOX = ["left", "top", "right", "bottom"]
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))  # what others call these four
_NAMED = ("image", "class", "split")
_RESERVED = (*_NAMED, *_BOX)
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # that stand between cells
_TEST_FRACTION = 0.2
_NO_CLASS = "image"  # of every image where the table names none
_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t"), "1"),
    **dict.fromkeys(("no", "n", "false", "f"), "0"),
    **dict.fromkeys(("nan", "na", "n/a", "none", "null", "?"), ""),
}
_SUBSETS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")  # words of a column that is a split


def recognises(folder: str) -> bool:
    """Whether a folder holds a table of attributes."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in _TABLES)


def load(name: str, folder: str, config: Config) -> Domain:
    """Reads the table; raises UserError with file, line and column for what does not fit."""
    path = files.require(folder, *_TABLES)
    table = read_table(path, ("image",), ("class",))
    table = table.assign(**{"class": table["class"].str.split().str.join(" ") if "class" in table else _NO_CLASS})
    if "split" in table and _blank(table["split"]).all():
        table = table.drop(columns="split")
    attributes, shares, of_classes = _labels_of_both(table, path, folder)
    labels = labels_from_shares(shares)
    graded = [a for a, column in zip(attributes, shares.T) if ((column > 0) & (column < 1)).any()]
    boxes = read_boxes(table, path)
    pictures, notes = _pictures(table, path, folder, config)
    _check_duplicates(table, pictures, boxes, path)
    there = pictures.notna().to_numpy()
    first_files = copies.originals(pictures[there].tolist())
    photographs = pictures[there].map(lambda path: first_files.get(path, path))
    classes, class_ids = np.unique(table["class"].to_numpy()[there].astype(str), return_inverse=True)
    subsets, drawn = _subsets(table[there], path, class_ids, photographs, labels[there], config)
    if not config.splits_file and config.split_seed < 0:  # else another split counts than this one
        if "split" in table:
            drawn += _torn_photographs(photographs, subsets, path)
        else:
            subsets, more = build.photographs_apart(photographs.to_numpy(), subsets)
            drawn = [*drawn, *more]
    shared = np.intersect1d(class_ids[subsets == TRAIN], class_ids[subsets == TEST])
    return build.build_domain(
        name,
        "table",
        attributes=attributes,
        classes=classes.tolist(),
        paths=pictures[there].tolist(),
        class_ids=class_ids,
        labels=labels[there],
        shares=shares[there],
        subsets=subsets,
        boxes=boxes[there],
        source="own",
        class_disjoint=not len(shared),
        originals=first_files,
        notes=[*notes, *of_classes, *_copies_note(first_files, folder), *drawn, *_graded_note(graded, folder), *_alike(classes, path), *_alike(attributes, path)],
    )


def _labels_of_both(table: pd.DataFrame, path: str, folder: str) -> tuple[list[str], np.ndarray, list[str]]:
    """(attributes, shares float32 [n, A], notes) of the images' table and of that of their classes, where there is one.

    table: whose column class is as `load` cleans it.
    """
    class_path = next((p for p in (os.path.join(folder, name) for name in _CLASS_TABLES) if os.path.exists(p)), None)
    if class_path is None:
        return *read_labels(table, path), []
    files.check_inside(class_path, folder)
    if (table["class"] == _NO_CLASS).all():
        raise UserError(f"Expected a column class in {path}, by which {class_path} tells labels. Received: {list(table.columns)}; add it.")
    own = any(c not in _RESERVED for c in table)
    attributes, shares = read_labels(table, path) if own else ([], np.zeros((len(table), 0), np.float32))
    classes = read_table(class_path, ("class",))
    names, values = read_labels(classes, class_path)
    keys = classes["class"].str.split().str.join(" ")
    repeated = np.flatnonzero(keys.duplicated())
    if len(repeated):
        row, first = int(repeated[0]), int(np.flatnonzero(keys == keys.iloc[repeated[0]])[0])
        raise UserError(
            f"Expected one row per class in {_place(classes, class_path, row)}, column class. Received: {keys.iloc[row]}, as in "
            f"{line(classes, class_path, first)}; remove one."
        )
    rows = pd.Index(keys).get_indexer(table["class"])
    if (rows < 0).all():
        raise UserError(
            f"Expected rows of the classes of {path} in {class_path}. Received: none of {table['class'].nunique()}, e.g. {keys.iloc[0]} and not "
            f"{table['class'].iloc[0]}; write their names alike."
        )
    of_class = np.where(rows[:, None] >= 0, values[rows], np.nan).astype(np.float32)
    for name, column in zip(names, of_class.T):
        if name in attributes:
            place = attributes.index(name)
            shares[:, place] = np.where(np.isfinite(shares[:, place]), shares[:, place], column)
        else:
            attributes, shares = [*attributes, name], np.concatenate([shares, column[:, None]], axis=1)
    return attributes, shares, _unmatched(table["class"][rows < 0], keys[~keys.isin(table["class"])], path, class_path)


def _unmatched(without: pd.Series, idle: pd.Series, path: str, class_path: str) -> list[str]:
    """Notes on classes of images that the table of classes does not have, and on those of it that no image has."""
    notes = []
    if len(without):
        notes.append(f"{without.nunique()} classes of {path} have no row in {class_path}, the first is {without.iloc[0]}: what that tells is unknown of them.")
    if len(idle):
        notes.append(f"{len(idle)} classes of {class_path} have no image in {path}, the first is {idle.iloc[0]}.")
    return notes


def read_table(path: str, required: Sequence[str], filled: Sequence[str] = ()) -> pd.DataFrame:
    """The table with checked column names; its index is the line of a CSV file, the row of a Parquet file.

    required: columns that must be there, every cell of them filled.
    filled: columns every cell of which is filled where they are there.
    """
    try:
        table = _read_csv(path, required[0]) if path.endswith(".csv") else _read_parquet(path)
    except ImportError as error:
        raise UserError(
            f"Expected pyarrow to read {path}. Received: {error}; "
            "install the version in pyproject.toml's extra `parquet`, or save the table as CSV."
        ) from error
    except Exception as error:  # pandas raises many kinds for a damaged table
        raise UserError(f"Expected a table in {path}. Received: {_problem(error)}.") from error
    first = str(table.columns[0]) if len(table.columns) else ""
    table.columns = [" ".join(str(c).split()) for c in table.columns]
    named = [bool(name) or not _blank(table.iloc[:, i]).all() for i, name in enumerate(table.columns)]
    table = table.loc[:, named]  # without the columns of commas at the end of every line
    _check_columns(list(table.columns), first, path, required)
    table = table[~np.stack([_blank(table[c]) for c in table], axis=1).all(axis=1)]  # empty lines
    if not len(table):
        raise UserError(f"Expected a line per image in {path}. Received: the header only; add the images.")
    for column in (*required, *(c for c in filled if c in table)):
        _check_filled(table[column], path)
        table = table.assign(**{column: table[column].astype(str).str.strip()})
    return table


def _read_csv(path: str, wanted: str) -> pd.DataFrame:
    """All cells as text; the index is the line on which a row begins. Rows that end early are filled up, which is told.

    wanted: a column that must be there, by which is known what stands between the cells.
    """
    lines = list(io.StringIO(_text(path), newline=""))
    said = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE) if lines else None
    above = 1 if said else 0  # lines above the header
    while above < len(lines) and re.fullmatch(r"[\s,;|]*", lines[above]):
        above += 1
    lines = lines[above:]
    mark = said[1] if said else _delimiter(lines, wanted)
    rows: dict[int, list[str]] = {}
    reader, line = csv.reader(lines, delimiter=mark, strict=True), above + 1
    for row in reader:
        rows[line], line = row, above + reader.line_num + 1
    header = rows.pop(above + 1, None)
    if not header:
        raise ValueError("no line with text")
    _check_lengths(rows, len(header), path, _MARKS.get(mark, "marks"))
    cells = [row + [""] * (len(header) - len(row)) for row in rows.values()]
    if mark != ",":
        named = [" ".join(name.split()) in _NAMED for name in header]
        cells = [[c if name else _with_point(c) for name, c in zip(named, row)] for row in cells]
    return pd.DataFrame(cells, index=list(rows), columns=header, dtype=object)


def _with_point(cell: str) -> str:
    """A number with a decimal comma with a decimal point, any other cell as it is."""
    return cell.replace(",", ".") if re.fullmatch(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*", cell) else cell


def _text(path: str) -> str:
    """A file's text: UTF-8 with or without byte order mark, or UTF-16 with one."""
    with open(path, "rb") as file:
        data = file.read()
    encoding = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = re.findall("\r\n|\r|\n", data[: error.start].decode(encoding))
        raise ValueError(f"bytes in line {len(before) + 1} that are not {encoding}; save it as UTF-8 CSV") from None


def _delimiter(lines: Sequence[str], wanted: str) -> str:
    """What stands between the cells: what makes one of the header `wanted`, in any case, else what makes most of it."""
    headers = {mark: next(csv.reader(lines, delimiter=mark), []) for mark in _MARKS}
    found = [mark for mark, cells in headers.items() if wanted in (" ".join(c.split()).lower() for c in cells)]
    return found[0] if found else max(headers, key=lambda mark: len(headers[mark]))


def _check_lengths(rows: Mapping[int, list[str]], width: int, path: str, marks: str) -> None:
    """Raises ValueError for a row with too many cells; tells how many end early: programs leave out empty cells at the end.

    marks: what stands between the cells, in words.
    """
    for line, row in rows.items():
        if len(row) > width == 1:
            raise ValueError(
                f"a header without {marks} and {len(row)} cells in line {line}; separate the columns by {marks}, and write decimal points, as in 0.5"
            )
        if len(row) > width:
            raise ValueError(
                f"{len(row)} cells in line {line} and {width} in the header; remove the {marks} too many, or put a name that holds one in quotes"
            )
    short = [line for line, row in rows.items() if row and len(row) < width]
    if short:
        logging.warning(
            "%d of %d lines of %s end early, the first is line %d with %d of %d cells: the cells at their end are read as empty, so make sure "
            "that none is missing before.", len(short), len(rows), path, short[0], len(rows[short[0]]), width,
        )  # fmt: skip


def _problem(error: Exception) -> str:
    """What is wrong with a table that could not be read, and how to repair it."""
    reason = " ".join(str(error).split())
    return reason if ";" in reason else f"{reason}; save it as UTF-8 CSV with one header line"


def _read_parquet(path: str) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if table.index.names != [None]:
        table = table.reset_index()
    return table.reset_index(drop=True)


def _check_columns(columns: list[str], first: str, path: str, required: Sequence[str]) -> None:
    """Raises UserError for names that are missing, none, or there twice; first: of the columns, as it stands in the file."""
    known = _RESERVED if {c.lower() for c in columns}.issuperset(_BOX) else _NAMED
    meant = {c: c.lower() for c in columns if c.lower() in known and c.lower() not in columns}
    if meant:
        which, them = ("columns", "them") if len(meant) > 1 else ("column", "it")
        raise UserError(
            f"Expected the {which} {', '.join(meant.values())} in small letters in {path}. Received: {', '.join(meant)}; rename {them}."
        )
    for i, column in enumerate(columns):
        if not column or column in columns[:i]:
            what = f"{column} twice" if column else f"no name in column {i + 1}"
            raise UserError(f"Expected columns with different names in the header of {path}. Received: {what}; rename or remove one.")
    for column in required:
        if column not in columns:
            hint = "; separate the columns by commas" if any(mark in first for mark in ";\t|") else "; call so the one that names the pictures, or add it"
            raise UserError(f"Expected a column {column} in {path}. Received: {columns}{hint}.")
    _check_box(columns, path)


def _check_box(columns: list[str], path: str) -> None:
    """Raises UserError where some columns of a box are missing, or all have other names."""
    there = [c for c in _BOX if c in columns]
    if 0 < len(there) < len(_BOX):
        rename = "it if it is an attribute" if len(there) == 1 else "these if they are attributes"
        raise UserError(f"Expected the columns {_BOX} together in {path}. Received: {there} only; add the others, or rename {rename}.")
    spelt = {c.lower().replace("_", ""): c for c in columns}
    for corners in _CORNERS:
        if not there and all(c in spelt for c in corners):
            raise UserError(
                f"Expected the columns {_BOX} of a box in {path}. Received: {[spelt[c] for c in corners]}; call them {', '.join(_BOX)}, or "
                "otherwise if they are attributes."
            )


def _place(column: pd.Series | pd.DataFrame, path: str, row: int) -> str:
    return f"{path}, {line(column, path, row)}"


def line(column: pd.Series | pd.DataFrame, path: str, row: int) -> str:
    """Which line of a CSV file, or row of another, a row of the table is."""
    return f"{'line' if path.endswith('.csv') else 'row'} {column.index[row]}"


def _blank(column: pd.Series) -> np.ndarray:
    """bool [n]: cells without a value."""
    return (column.isna() | (column.astype(str).str.strip() == "")).to_numpy(bool)


def _check_filled(column: pd.Series, path: str) -> None:
    empty = np.flatnonzero(_blank(column))
    if len(empty):
        where = _place(column, path, int(empty[0]))
        raise UserError(f"Expected a value of {column.name} in {where}. Received: nothing; fill the cell.")


def _check_duplicates(table: pd.DataFrame, pictures: pd.Series, boxes: np.ndarray, path: str) -> None:
    """One row per image and box."""
    keys = pd.DataFrame(boxes).assign(image=pictures.fillna(table["image"].map(files.normal_path)).to_numpy())
    repeated = np.flatnonzero(keys.duplicated())
    if len(repeated):
        row = int(repeated[0])
        first = int(np.flatnonzero((keys == keys.iloc[row]).all(axis=1))[0])
        raise UserError(
            f"Expected one row per image, or per image and box, in {_place(table, path, row)}, column image. Received: "
            f"{table['image'].iloc[row]}, as in {line(table, path, first)}; remove one."
        )


def _pictures(table: pd.DataFrame, path: str, folder: str, config: Config) -> tuple[pd.Series, list[str]]:
    """(absolute path per row, missing where absent; notes)."""
    within = files.require(folder, "images")
    present = {files.normal_path(name): file for name, file in files.list_images(within, folder, ("",)).items()}
    alike = _in_any_case(present)
    names = table["image"].map(files.normal_path)
    exact = names.map(present.get)
    pictures = exact.where(exact.notna(), names.map(lambda name: alike.get(name.casefold())))
    absent = np.flatnonzero(pictures.isna())
    listed = set(pictures.dropna())
    beside = sum(name.lower().endswith(files.IMAGE_ENDINGS) and file not in listed for name, file in present.items())
    notes = [f"{beside} of the {len(present)} files in {within} are pictures without a row in {path} and are left out."] if beside else []
    renamed = np.flatnonzero(exact.isna() & pictures.notna())
    if len(renamed):
        first, found = table["image"].iloc[renamed[0]], os.path.relpath(pictures.iloc[renamed[0]], within)
        notes.append(f"{len(renamed)} of {len(table)} rows of {path} name files that differ in case, the first is {first} for {found}.")
    if not len(absent):
        return pictures, notes
    missing = table["image"].iloc[absent].tolist()
    first = files.normal_path(missing[0])
    known = max((name for name in present if first.endswith("/" + name)), key=len, default="")
    if known:
        raise UserError(
            f"Expected names within images/ in {_place(table, path, int(absent[0]))}, column image. Received: {missing[0]}; leave out the "
            f"leading {first[: -len(known)]}."
        )
    if len(absent) == len(table):
        raise UserError(
            f"Expected the images of {path} in {within}, named by their paths below it. Received: none of {len(table)}, the first is "
            f"{missing[0]}{_nearest(missing[0], list(present))}; copy them there, or correct the names."
        )
    where = f"{path} ({line(table, path, int(absent[0]))})"
    near = _nearest(missing[0], list(present))
    return pictures, [*notes, files.missing_images(missing, len(table), where, within, config.on_bad_image, near)]


def _in_any_case(present: Mapping[str, str]) -> dict[str, str]:
    """Name in small letters -> file, of files that no other is named like."""
    named: dict[str, list[str]] = {}
    for name, file in present.items():
        named.setdefault(name.casefold(), []).append(file)
    return {name: files_[0] for name, files_ in named.items() if len(files_) == 1}


def _nearest(name: str, present: list[str]) -> str:
    """What lies there that is named most like an absent file, in words."""
    folded = {other.casefold(): other for other in present}
    near = difflib.get_close_matches(name.casefold(), folded, 1, 0.0)
    return f", where there is {folded[near[0]]}" if near else ""


def _numbers(column: pd.Series) -> np.ndarray:
    """float64 [n], NaN for what is no number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def read_labels(table: pd.DataFrame, path: str) -> tuple[list[str], np.ndarray]:
    """Names of the attributes, which are the columns of no other meaning, and the shares that said yes, float32 [n, A]."""
    attributes = [c for c in table.columns if c not in _RESERVED]
    if not attributes:
        raise UserError(f"Expected a column per attribute in {path}. Received: {list(table.columns)}; add one.")
    shares = np.stack([_labels(table[c]) for c in attributes], axis=1)
    columns, rows = np.nonzero(np.isinf(shares.T))
    if len(rows):
        column, row = table[attributes[columns[0]]], int(rows[0])
        wide = len(set(columns))
        more = f", the first of {len(rows)} such cells of {wide} column{'s' * (wide > 1)}" if len(rows) > 1 else ""
        raise UserError(
            f"Expected 0, 1, a share between them or an empty cell in {_place(column, path, row)}, column {column.name}. "
            f"Received: {column.iloc[row]!r}{more}; {_label_repair(column, row, 'split' in table)}."
        )
    return attributes, shares


def _graded_note(attributes: Sequence[str], folder: str) -> list[str]:
    if not attributes:
        return []
    which = f"The attribute {attributes[0]} of {folder} has" if len(attributes) == 1 else f"{len(attributes)} attributes of {folder}, the first is {attributes[0]}, have"
    return [f"{which} shares between 0 and 1: from one half on they count as yes."]


def _alike(names: Sequence[str], path: str) -> list[str]:
    """A note where names differ in case alone."""
    spelt: dict[str, str] = {}
    for name in map(str, names):
        other = spelt.setdefault(name.casefold(), name)
        if other != name:
            return [f"{path} tells {other} and {name} apart, whose names differ in case alone: write them alike if they are one."]
    return []


def labels_from_shares(shares: np.ndarray) -> np.ndarray:
    """Shares of yes -> {0, 1, NaN}: 1 from one half on."""
    return np.where(np.isfinite(shares), shares >= 0.5, np.nan).astype(np.float32)


def _labels(column: pd.Series) -> np.ndarray:
    """A column of numbers from 0 to 1 and empty cells as float32 [n]: NaN for these, infinite for any other."""
    plain = column.astype(object).map(lambda cell: _WORDS.get(str(cell).strip().lower(), cell))
    empty = _blank(plain)
    values = _numbers(plain.where(~empty))
    return np.where(empty | ((values >= 0.0) & (values <= 1.0)), values, np.inf).astype(np.float32)


def _label_repair(column: pd.Series, row: int, split: bool) -> str:
    """What to write in place of a cell that is no label, or what to do with a column that is no attribute.

    split: whether the table has a column of this name.
    """
    cell, numbers = str(column.iloc[row]).strip(), _numbers(column.astype(object))
    if not split and column[~_blank(column)].astype(str).str.strip().str.lower().isin(_SUBSETS).all():
        return "call the column split"
    if numbers[row] == -1.0:
        return "write 0 where -1 is no, and nothing where it is unknown"
    plain = "write 1 or yes, 0 or no, nothing for unknown, and decimal points, as in 0.5"
    if cell.endswith("%") or 1.0 < numbers[row] <= np.nanmax(numbers) <= 100.0:
        return f"{plain}, and divide percentages by 100"
    return plain if re.fullmatch(r"[-+\d.,%\s]+", cell) else f"{plain}, or, if it is no attribute, remove the column or call it class where it names one"


def read_boxes(table: pd.DataFrame, path: str) -> np.ndarray:
    """int32 [n, 4]; the whole image where no box is given. Checks order and sign, not the image's size."""
    if not all(c in table for c in _BOX):
        return np.tile(np.array(WHOLE_IMAGE, np.int32), (len(table), 1))
    empty = np.stack([_blank(table[c]) for c in _BOX], axis=1)
    values = np.stack([_numbers(table[c]) for c in _BOX], axis=1)
    whole = empty.all(axis=1)
    good = ((values[:, :2] >= 0) & (values[:, 2:] > values[:, :2]) & (values[:, 2:] < 2**31)).all(axis=1)
    wrong = np.flatnonzero(~whole & ~good)
    if len(wrong):
        row = int(wrong[0])
        got = ", ".join(f"{c}={table[c].iloc[row]}" for c in _BOX)
        raise UserError(
            f"Expected 0 <= left < right and 0 <= top < bottom in {_place(table, path, row)}. Received: {got}; "
            "correct the box, or leave all four cells empty for the whole image."
        )
    given = values[~whole]
    if len(given) and given.max() <= 1.0 and (given % 1 > 0).any():
        raise UserError(
            f"Expected boxes in pixels in {path}. Received: shares of a side, none above 1; multiply left and right by the "
            "image's width, top and bottom by its height."
        )
    boxes = np.concatenate([np.floor(values[:, :2]), np.ceil(values[:, 2:])], axis=1)
    return np.where(whole[:, None], np.array(WHOLE_IMAGE), np.nan_to_num(boxes)).astype(np.int32)


def _copies_note(first_files: Mapping[str, str], folder: str) -> list[str]:
    """A note where files are the same."""
    if not first_files:
        return []
    copy, first = (os.path.relpath(path, os.path.join(folder, "images")) for path in next(iter(first_files.items())))
    which = f"{len(first_files)} files are copies of others" if len(first_files) > 1 else "A file is a copy of another"
    return [f"{which}, byte for byte, e.g. {copy} of {first}: they count as one photograph, and no drawn split parts them."]


def _torn_photographs(photographs: pd.Series, subsets: np.ndarray, path: str) -> list[str]:
    """A note where photographs of several records are on both sides of the user's split."""
    tested = photographs[subsets == TEST]
    torn = tested[tested.isin(photographs[subsets == TRAIN])]
    note = f"{len(torn)} of {len(tested)} tested records of {path} show photographs that other records train on: give one photograph one split."
    return [note] if len(torn) else []


def _subsets(
    table: pd.DataFrame, path: str, class_ids: np.ndarray, photographs: pd.Series, labels: np.ndarray, config: Config
) -> tuple[np.ndarray, list[str]]:
    """(`train`, `test` or `unused` per record, notes): by the column split, without one by labels and classes, or by seed."""
    if "split" not in table:
        if not build.has_classes(class_ids) and photographs.nunique() < 2:
            raise UserError(f"Expected at least two images in {path}, to train on one and test on the other. Received: one; add some.")
        return build.drawn_subsets(class_ids, np.unique(photographs, return_inverse=True)[1], _TEST_FRACTION, config, labels)
    column = table["split"].where(~_blank(table["split"]), UNUSED).astype(str).str.strip().str.lower()
    wrong = np.flatnonzero(~column.isin([TRAIN, TEST, UNUSED]).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"Expected train, test or an empty cell in {_place(table, path, row)}, column split. "
            f"Received: {table['split'].iloc[row]!r}; write train for what validation is drawn from too, or leave the cell empty."
        )
    unused = int((column == UNUSED).sum())
    notes = [f"{unused} of {len(column)} rows of {path} have no split and are unused."] if unused else []
    return column.to_numpy().astype(str), notes
