"""A table of labels as people write it: CSV, or Parquet, with checked columns, labels and boxes.

Labels are 0, 1, the share of annotators that said yes (from one half on it counts as yes), or empty for unknown;
words for these (yes, n, True, NA, ?) too, as people and pandas write them. Commas stand between cells, or the
semicolons or tabs that a spreadsheet has put there, with which 0,67 is a number. Every mistake ends in one
sentence with file, line and column.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from galm_tf.domains.domain import WHOLE_IMAGE
from galm_tf.errors import UserError
from galm_tf.words import listed

BOX = ["left", "top", "right", "bottom"]
_RENAMED = f"call them {', '.join(BOX)}"
_CORNERS = {  # what others have in place of these four -> how to come by them
    ("x1", "y1", "x2", "y2"): _RENAMED,
    ("xmin", "ymin", "xmax", "ymax"): _RENAMED,
    ("x", "y", "width", "height"): "give left = x, top = y, right = x + width, bottom = y + height in pixels",
    ("x", "y", "w", "h"): "give left = x, top = y, right = x + w, bottom = y + h in pixels",
    ("xcenter", "ycenter", "width", "height"): "give left = x_center - width / 2 and so on in pixels",
}
_NAMED = ("image", "class", "split")
RESERVED = (*_NAMED, *BOX)
_ROUNDED = 0.01
_SHOWN = 5  # columns in a message
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # that stand between cells
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t"), "1"),
    **dict.fromkeys(("no", "n", "false", "f"), "0"),
    **dict.fromkeys(("nan", "na", "n/a", "none", "null", "?"), ""),
}
# words of a column that is a split
_SUBSETS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


def cleaned(name: object) -> str:
    """A name of a column or a class as it is meant: accents composed, single blanks, nothing that cannot be seen."""
    return unicodedata.normalize("NFC", " ".join(str(name).translate(_INVISIBLE).split()))


def read_table(path: str, required: Sequence[str], filled: Sequence[str] = ()) -> pd.DataFrame:
    """The table with checked column names; its index, which is called so, is the line of a CSV file, the row of a
    Parquet file.

    required: columns that must be there, every cell of them filled.
    filled: columns every cell of which is filled where they are there.
    """
    try:
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path, required[0])
    except ImportError as error:
        raise UserError(
            f"Expected pyarrow to read {path}. Received: {error}; "
            "install the version in pyproject.toml's extra `parquet`, or save the table as CSV."
        ) from error
    except Exception as error:  # pandas raises many kinds for a damaged table
        raise UserError(f"Expected a table in {path}. Received: {_problem(error)}.") from error
    first = str(table.columns[0]) if len(table.columns) else ""
    table.columns = [cleaned(c) for c in table.columns]
    named = [bool(name) or not blank(table.iloc[:, i]).all() for i, name in enumerate(table.columns)]
    table = table.loc[:, named]  # without the columns of commas at the end of every line
    _check_columns(list(table.columns), first, path, required)
    empty = np.ones(len(table), bool)  # lines, as far as their columns have been looked at
    for column in table:
        if not empty.any():
            break
        empty[empty] = blank(table.loc[empty, column])
    table = table[~empty] if empty.any() else table
    if not len(table):
        raise UserError(f"Expected a line per {required[0]} in {path}. Received: the header only; add lines.")
    for column in (*required, *(c for c in filled if c in table)):
        _check_filled(table[column], path)
        table = table.assign(**{column: table[column].astype(str).map(cleaned if column == "class" else str.strip)})
    return table


def _is_parquet(path: str) -> bool:
    """By its first bytes, whatever it is called."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


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
    try:
        for row in reader:
            rows[line], line = row, above + reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{error}, in a row that begins in line {line}; close the quote there, or write it twice where it belongs to the cell"
        ) from None
    header = rows.pop(above + 1, None)
    if not header:
        raise ValueError("no line with text")
    filled = list(filter(cleaned, header))
    if len(filled) == 1 and lines[0].lstrip().startswith('"') and _delimiter(filled, wanted) in filled[0]:
        raise ValueError("a header that is one cell in quotes; leave out the quotes around whole lines")
    while len(header) > 1 and not cleaned(header[-1]) and all(len(row) < len(header) for row in rows.values()):
        header.pop()  # what follows a comma at its end alone
    _check_lengths(rows, len(header), path, _MARKS.get(mark, "marks"))
    for row in rows.values():
        row.extend([""] * (len(header) - len(row)))
    cells = rows.values()
    if mark != ",":
        named = [" ".join(name.split()) in _NAMED for name in header]
        cells = [[c if name else _with_point(c) for name, c in zip(named, row)] for row in cells]
    return pd.DataFrame(list(cells), index=pd.Index(list(rows), name="line"), columns=header, dtype=object)


def _with_point(cell: str) -> str:
    """A number with a decimal comma with a decimal point, any other cell as it is."""
    return cell.replace(",", ".") if "," in cell and re.fullmatch(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*", cell) else cell


def _text(path: str) -> str:
    """A file's text: UTF-8 with or without byte order mark, or UTF-16 with one."""
    with open(path, "rb") as file:
        data = file.read()
    encoding = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or (encoding == "UTF-8" and b"\0" in data):
        raise ValueError("bytes of zero, as in UTF-32, or UTF-16 without a mark; save it as UTF-8 CSV")
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
    """Raises ValueError for a row with too many cells; tells how many end early: programs leave out empty cells at the
    end.

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
    return table.reset_index(drop=True).rename_axis("row")


def _check_columns(columns: list[str], first: str, path: str, required: Sequence[str]) -> None:
    """Raises UserError for names that are missing, none, or there twice; first: of the columns, as it stands in the
    file.
    """
    known = RESERVED if {c.lower() for c in columns}.issuperset(BOX) else _NAMED
    meant = {c: c.lower() for c in columns if c.lower() in known and c.lower() not in columns}
    if meant:
        which, them = ("columns", "them") if len(meant) > 1 else ("column", "it")
        raise UserError(
            f"Expected the {which} {', '.join(meant.values())} in small letters in {path}. Received: {', '.join(meant)}; rename {them}."
        )
    for i, column in enumerate(columns):
        if not column or column in columns[:i]:
            what = f"{column} twice" if column else f"no name in column {i + 1}"
            raise UserError(
                f"Expected columns with different names in the header of {path}. Received: {what}; rename or remove one."
            )
    for column in required:
        if column not in columns:
            hint = (
                "; separate the columns by commas"
                if any(mark in first for mark in ";\t|")
                else f"; call so the one that names the {'classes' if column == 'class' else 'pictures'}, or add it"
            )
            raise UserError(f"Expected a column {column} in {path}. Received: {columns}{hint}.")
    _check_box(columns, path)


def _check_box(columns: list[str], path: str) -> None:
    """Raises UserError where some columns of a box are missing, or all have other names."""
    there = [c for c in BOX if c in columns]
    if 0 < len(there) < len(BOX):
        rename = "it if it is an attribute" if len(there) == 1 else "these if they are attributes"
        raise UserError(
            f"Expected the columns {BOX} together in {path}. Received: {there} only; add the others, or rename {rename}."
        )
    spelt = {c.lower().replace("_", ""): c for c in columns}
    for corners, repair in _CORNERS.items():
        if not there and all(c in spelt for c in corners):
            raise UserError(
                f"Expected the columns {BOX} of a box in {path}. Received: {[spelt[c] for c in corners]}; {repair}, or rename "
                "them if they are attributes."
            )


def place(column: pd.Series | pd.DataFrame, path: str, row: int) -> str:
    """Where a row of the table stands: the file, and `line` of it."""
    return f"{path}, {line(column, row)}"


def line(column: pd.Series | pd.DataFrame, row: int) -> str:
    """Which line of a CSV file, or row of another, a row of the table is."""
    return f"{column.index.name} {column.index[row]}"


def is_unknown(cell: str) -> bool:
    """Whether a cell is spelt as a label that nobody knows is."""
    return not _WORDS.get(cell.strip().lower(), cell.strip())


def blank(column: pd.Series) -> np.ndarray:
    """bool [n]: cells without a value."""
    return (column.isna() | (column.astype(str).str.strip() == "")).to_numpy(bool)


def _check_filled(column: pd.Series, path: str) -> None:
    empty = np.flatnonzero(blank(column))
    if len(empty):
        where = place(column, path, int(empty[0]))
        raise UserError(f"Expected a value of {column.name} in {where}. Received: nothing; fill the cell.")


def _numbers(column: pd.Series) -> np.ndarray:
    """float64 [n], NaN for what is no number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def read_labels(table: pd.DataFrame, path: str, classes: bool = True) -> tuple[list[str], np.ndarray]:
    """Names of the attributes, which are the columns of no other meaning, and the shares that said yes, float32 [n,
    A].

    classes: whether a column class of the table is read.
    """
    attributes = [c for c in table.columns if c not in RESERVED]
    if not attributes:
        raise UserError(f"Expected a column per attribute in {path}. Received: {list(table.columns)}; add one.")
    shares = np.stack([_labels(table[c]) for c in attributes], axis=1)
    columns, rows = np.nonzero(np.isinf(shares.T))
    if len(rows):
        column, row = table[attributes[columns[0]]], int(rows[0])
        wide = [attributes[i] for i in np.unique(columns)]
        which = f"{len(wide)} columns ({listed(wide, _SHOWN)})" if len(wide) > 1 else "1 column"
        more = f", the first of {len(rows)} such cells of {which}" if len(rows) > 1 else ""
        raise UserError(
            f"Expected 0, 1, a share between them or an empty cell in {place(column, path, row)}, column {column.name}. "
            f"Received: {column.iloc[row]!r}{more}; {_label_repair(column, row, table.columns, classes, len(wide) > 1)}."
        )
    return attributes, shares


def labels_from_shares(shares: np.ndarray) -> np.ndarray:
    """Shares of yes -> {0, 1, NaN}: 1 from one half on."""
    return np.where(np.isfinite(shares), shares >= 0.5, np.nan).astype(np.float32)


def _labels(column: pd.Series) -> np.ndarray:
    """A column of numbers from 0 to 1 and empty cells as float32 [n]: NaN for these, infinite for any other."""
    cells = column.astype(object).to_numpy()
    try:
        rows, cells = pd.factorize(cells, use_na_sentinel=False)  # of few kinds, and each takes Python's time
    except TypeError:  # lists, which have no hash
        rows = np.arange(len(cells))
    plain = pd.Series(cells, dtype=object).map(
        lambda cell: _WORDS.get(str(cell).strip().lower(), cell.strip() if isinstance(cell, str) else cell)
    )
    empty = blank(plain)
    values = _numbers(plain.where(~empty))
    return np.where(empty | ((values >= 0.0) & (values <= 1.0)), values, np.inf).astype(np.float32)[rows]


def _label_repair(column: pd.Series, row: int, names: pd.Index, classes: bool, several: bool) -> str:
    """What to write in place of a cell that is no label, or what to do with a column that is no attribute.

    names: of all columns.
    classes: whether one called class is read.
    several: whether other columns hold such cells too.
    """
    cell, numbers = str(column.iloc[row]).strip(), _numbers(column.astype(object))
    if "split" not in names and column[~blank(column)].astype(str).str.strip().str.lower().isin(_SUBSETS).all():
        return "call the column split"
    if numbers[row] == -1.0:
        return "write 0 where -1 is no, and nothing where it is unknown"
    plain = "write 1 or yes, 0 or no, nothing for unknown, and decimal points, as in 0.5"
    if cell.endswith("%") or 1.0 < numbers[row] <= np.nanmax(numbers) <= 100.0:
        return f"{plain}, and divide percentages by 100"
    if re.fullmatch(r"[-+\d.,%\s]+", cell) and not several:
        return plain
    which = (
        "where these are no attributes, remove the columns" if several else "if it is no attribute, remove the column"
    )
    called = f" or call {'that' if several else 'it'} class {'which' if several else 'where it'} names one"
    return f"{plain}, or, {which}{called * (classes and 'class' not in names)}"


def read_boxes(table: pd.DataFrame, path: str) -> np.ndarray:
    """int32 [n, 4]; the whole image where no box is given. Checks order and sign, not the image's size."""
    if not all(c in table for c in BOX):
        return np.tile(np.array(WHOLE_IMAGE, np.int32), (len(table), 1))
    empty = np.stack([blank(table[c]) | [is_unknown(str(cell)) for cell in table[c]] for c in BOX], axis=1)
    values = np.stack([_numbers(table[c]) for c in BOX], axis=1)
    whole = empty.all(axis=1)
    good = ((values[:, :2] >= 0) & (values[:, 2:] > values[:, :2]) & (values[:, 2:] < 2**31)).all(axis=1)
    wrong = np.flatnonzero(~whole & ~good)
    if len(wrong):
        row = int(wrong[0])
        got = ", ".join(f"{c}={table[c].iloc[row]}" for c in BOX)
        raise UserError(
            f"Expected 0 <= left < right and 0 <= top < bottom in {place(table, path, row)}. Received: {got}; "
            "correct the box, or leave all four cells empty for the whole image."
        )
    given = values[~whole]
    if len(given) and given.max() <= 1.0:
        raise UserError(
            f"Expected boxes in pixels in {path}. Received: shares of a side, none above 1; multiply left and right by the "
            "image's width, top and bottom by its height."
        )
    # what lies a hundredth over a pixel's border has been rounded
    begin = np.floor(values[:, :2] + _ROUNDED)
    boxes = np.concatenate([begin, np.maximum(np.ceil(values[:, 2:] - _ROUNDED), begin + 1)], axis=1)
    return np.where(whole[:, None], np.array(WHOLE_IMAGE), np.nan_to_num(boxes)).astype(np.int32)
