"""Further attributes of a domain's images, from a table (CSV or Parquet) of one's own.

Columns: `image`, then one per attribute: 0, 1, a share between or empty for
unknown, as in `table_file`; images without a row are unknown. An image is named by the end of its
path, as far as that is unique: `a/abbey/1.jpg`, or `1.jpg`; `1.JPG` too, where no
file is called so, no row names it as it is, and no other is alike. Where records are parts of an image, the columns
of a box name one of them; without a box a row holds for all. `class` and `split` are passed over: these are the domain's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import posixpath
from collections import defaultdict
from typing import Optional

import numpy as np
import pandas as pd

from galm_tf.domains import files, table_file
from galm_tf.domains.domain import WHOLE_IMAGE, Domain
from galm_tf.errors import UserError


def with_labels(domain: Domain, path: str, on_bad_image: str = "fail") -> Domain:
    """The domain with the attributes of a file after its own; raises UserError with file and line for what does not
    fit.

    on_bad_image: `skip` passes over rows of images that the domain does not have, as it may have skipped them, and
      notes how many they are.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(
            f"Expected a table with the columns image and one per attribute. Received: {path}, which is no file; check the path."
        )
    table = table_file.read_table(path, ("image",))
    columns, values = table_file.read_labels(table, path, classes=False)
    rows, records, notes = _records(domain, table, table_file.read_boxes(table, path), path, on_bad_image)
    shares = np.full((len(domain.paths), len(columns)), np.nan, np.float32)
    shares[records] = values[rows]
    labels = table_file.labels_from_shares(shares)
    theirs = np.full(domain.labels.shape, np.nan, np.float32) if domain.shares is None else domain.shares
    groups = [_domain_of(domain, column, labels[:, i], path) for i, column in enumerate(columns)]
    names = [_full_name(column, domain.domain_names[group]) for column, group in zip(columns, groups)]
    _check_new(names, domain.attributes, path)
    return dataclasses.replace(
        domain,
        attributes=(*domain.attributes, *names),
        notes=(*domain.notes, *notes),
        labels=np.concatenate([domain.labels, labels], axis=1),
        shares=np.concatenate([theirs, shares], axis=1),
        attribute_domains=np.concatenate([domain.attribute_domains, np.array(groups, np.int32)]),
    )


def _records(
    domain: Domain, table: pd.DataFrame, boxes: np.ndarray, path: str, on_bad_image: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows of the table and the records that they label, int64 [m] each, no record twice; notes."""
    places = _Places(domain)
    names = list(table["image"])
    named = [places.find(name) for name in names]
    renamed = _in_other_letters(places, names, named)
    for row, found in renamed.items():
        named[row] = [found]
    unknown = [row for row, found in enumerate(named) if not found]
    if unknown and (on_bad_image == "fail" or len(unknown) == len(table)):
        _refuse_unknown(places, table, unknown, path)
    owner: dict[int, int] = {}  # record -> the row that labels it
    for row, paths in ((row, paths) for row, paths in enumerate(named) if paths):
        where, name = f"{path}, {table_file.line(table, row)}, column image", names[row]
        for record in _labelled(domain, places, name, paths, boxes[row], where):
            if record in owner:
                raise UserError(
                    f"Expected one row per image in {where}. Received: {name}, as in "
                    f"{table_file.line(table, owner[record])}; remove one."
                )
            owner[record] = row
    notes = _passed_over(table, unknown, path)
    for row, found in [*renamed.items()][:1]:
        notes.append(files.differ_in_case(len(renamed), len(table), path, names[row], places.short(found)))
    return np.array([*owner.values()]), np.array([*owner]), notes


def _labelled(domain: Domain, places: _Places, name: str, paths: list[str], box: np.ndarray, where: str) -> list[int]:
    """The records that a row labels: all of its image, or that of its box; paths: the images that its name may mean."""
    if len(paths) > 1:
        raise UserError(
            f"Expected the name of one image in {where}. Received: {name}, which {len(paths)} images have, e.g. "
            f"{places.short(paths[0])} and {places.short(paths[1])}; name it by its folder too."
        )
    records = places.records[paths[0]]
    if np.array_equal(box, WHOLE_IMAGE):
        return records
    found = [record for record in records if np.array_equal(domain.boxes[record], box)]
    if not found:
        raise UserError(
            f"Expected a box that the data have in {where}. Received: {box.tolist()} of {name}, whose "
            f"boxes are {[domain.boxes[r].tolist() for r in records[:4]]}; correct it, or "
            "leave its cells empty to label all parts of the image."
        )
    return found


def _passed_over(table: pd.DataFrame, unknown: list[int], path: str) -> list[str]:
    """A note about rows of images that the domain does not have; none without any."""
    if not unknown:
        return []
    first = table["image"].iloc[unknown[0]]
    return [
        f"{len(unknown)} of {len(table)} rows of {path} name images that are not among the data's, the first is {first}."
    ]


def _in_other_letters(places: _Places, names: list[str], named: list[list[str]]) -> dict[int, str]:
    """Row -> the image that it names but for the case of letters, of rows that name none: one that no row names as it
    is written.
    """
    taken = {path for found in named for path in found}
    alike = {row: places.find_in_any_case(names[row]) for row, found in enumerate(named) if not found}
    return {row: found for row, found in alike.items() if found and found not in taken}


class _Places:
    """Where a domain's images lie, found by the end of their paths.

    Attributes:
      records: path -> its records.
    """

    def __init__(self, domain: Domain) -> None:
        self.records: dict[str, list[int]] = defaultdict(list)
        for record, path in enumerate(domain.paths):
            self.records[files.normal_path(path)].append(record)
        # by the name, and by that of the folder too
        self._named, self._within = defaultdict(list), defaultdict(list)
        for path in self.records:
            self._named[posixpath.basename(path)].append(path)
            self._within[_last_two(path)].append(path)
        self._listed: dict[str, frozenset[str]] = {}  # what lies in folders
        folders = {path.rsplit("/", 1)[0] + "/" for path in self.records}
        self._common = len(os.path.commonprefix(list(folders)).rsplit("/", 1)[0]) + 1

    def find(self, name: str) -> list[str]:
        """Paths that end in a name."""
        name = files.normal_path(name)
        near = self._within.get(_last_two(name), ()) if "/" in name else self._named.get(name, ())
        return [p for p in near if _ends_in(p, name)]

    def find_in_any_case(self, name: str) -> Optional[str]:
        """The path that ends in a name but for the case of letters; None of several, and where a file of that very
        name lies there, which is another picture.
        """
        name = files.normal_path(name)
        alike = [
            p for p in self._folded[posixpath.basename(name).casefold()] if _ends_in(p.casefold(), name.casefold())
        ]
        return None if len(alike) != 1 or self._has_such_a_file(alike[0], name) else alike[0]

    def _has_such_a_file(self, path: str, name: str) -> bool:
        """Whether a file of exactly this name lies where the path does, also on disks that do not tell letters' case."""
        parts = name.split("/")
        folder = "/".join(path.split("/")[: -len(parts)]) or "/"
        for part in parts:
            if folder not in self._listed:
                with contextlib.suppress(OSError):  # of a generated domain there is none
                    self._listed[folder] = frozenset(map(files.normal_path, os.listdir(folder)))
            if part not in self._listed.get(folder, ()):
                return False
            folder = posixpath.join(folder, part)
        return True

    @functools.cached_property
    def _folded(self) -> dict[str, list[str]]:
        """Paths by the name in small letters."""
        folded: dict[str, list[str]] = defaultdict(list)
        for path in self.records:
            folded[posixpath.basename(path).casefold()].append(path)
        return folded

    def short(self, path: str) -> str:
        """A path without the folder that all have in common."""
        return path[self._common :]

    def nearest(self, name: str) -> str:
        """The known name most like one: of its folder, where that is known, else called so, where one is."""
        name = files.normal_path(name)
        folder, last = posixpath.split(name.casefold())
        beside = [p for p in self.records if folder and _ends_in(posixpath.dirname(p).casefold(), folder)]
        alike = beside or self._folded.get(last) or self.records
        return files.nearest_name(name, map(self.short, alike))


def _ends_in(path: str, name: str) -> bool:
    """Whether a name is the end of a path, from one of its folders on."""
    return path == name or path.endswith("/" + name)


def _last_two(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


def _refuse_unknown(places: _Places, table: pd.DataFrame, unknown: list[int], path: str) -> None:
    first = table["image"].iloc[unknown[0]]
    raise UserError(
        f"Expected images of the data in {path}, column image. Received: {len(unknown)} of {len(table)} that are not "
        f"among its {len(places.records)}, the first in {table_file.line(table, unknown[0])}: {first}, nearest "
        f"known one {places.nearest(first)}; correct or remove these rows, or pass over them with --on_bad_image=skip."
    )


def _domain_of(domain: Domain, column: str, labels: np.ndarray, path: str) -> int:
    """Which of the joined domains an attribute is of: that of its images."""
    groups = np.unique(domain.image_domains[np.isfinite(labels)])
    if len(groups) > 1:
        named = " and ".join(domain.domain_names[g] for g in groups)
        raise UserError(
            f"Expected labels of one domain's images in column {column} of {path}. Received: images of {named}; give "
            "each domain a column of its own."
        )
    return int(groups[0]) if len(groups) else 0


def _full_name(column: str, domain_name: str) -> str:
    return column if column.startswith(domain_name + "/") else f"{domain_name}/{column}"


def _check_new(names: list[str], known: tuple[str, ...], path: str) -> None:
    for i, name in enumerate(names):
        if name in known or name in names[:i]:
            raise UserError(
                f"Expected new attributes in {path}. Received: {name}, which is there already; rename the column, or "
                "remove it."
            )
