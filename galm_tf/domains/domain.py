"""What every data set becomes: one label matrix, one record per image, one split.

All layouts under `galm_tf/domains/` give a `Domain`; nothing after it knows
which layout it came from. Labels are in {0, 1, NaN}, NaN meaning unknown; what
is learned may be finer (`targets`), what is judged never is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WHOLE_IMAGE = (-1, -1, -1, -1)  # box of a record that is the whole picture
TRAIN, TEST, UNUSED = "train", "test", "unused"


@dataclasses.dataclass(frozen=True)
class Domain:
    """Images with attribute annotations, of one domain or of several joined.

    Attributes:
      name: label of the domain, e.g. `sun`; joined ones are `awa+apay`.
      attributes: [A] unique names, always `domain/attribute`.
      classes: [C] unique names, always `domain/class`.
      paths: [n] absolute file path per record; for a generated domain a
        `generated://…` name, drawn by `draw`.
      boxes: int32 [n, 4], left, top, right, bottom in pixels, right and bottom
        exclusive; `WHOLE_IMAGE` where the record is the whole picture.
      class_ids: int32 [n], index into `classes`.
      labels: float32 [n, A] in {0, 1, NaN}.
      subsets: str [n], `train`, `test` or `unused` (excluded from both).
      image_domains: int32 [n], index into `domain_names`.
      attribute_domains: int32 [A], index into `domain_names`.
      domain_names: names of the joined domains, one for a single domain.
      data_sources: per domain, `official`, `own` or `generated`.
      layouts: per domain, the layout it was read with.
      crop_paddings: per domain, the share of a box's longer side kept around it.
      draw: for generated domains, `draw(index, size)` -> uint8 [size, size, 3].
      notes: sentences a user should see (oddities of the data, stand-ins).
      shares: float32 [n, A] in [0, 1], the share of annotators that said yes, NaN
        where the data tell none; None where they tell none at all.
      originals: path of a file that another holds too -> the path of that one.
      contents: uint64 [n], what tells the bytes of a record's file from those of others (`copies.content_number`); None
        until images have been loaded.
    """

    name: str
    attributes: tuple[str, ...]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    boxes: np.ndarray
    class_ids: np.ndarray
    labels: np.ndarray
    subsets: np.ndarray
    image_domains: np.ndarray
    attribute_domains: np.ndarray
    domain_names: tuple[str, ...]
    data_sources: tuple[str, ...]
    layouts: tuple[str, ...]
    crop_paddings: tuple[float, ...] = (0.0,)
    draw: Callable[[int, int], np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    shares: np.ndarray | None = None
    originals: Mapping[str, str] = dataclasses.field(default_factory=dict)
    contents: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, a = len(self.paths), len(self.attributes)
        assert self.labels.shape == (n, a), (self.labels.shape, n, a)
        assert self.boxes.shape == (n, 4) and self.class_ids.shape == (n,), (self.boxes.shape, self.class_ids.shape)
        assert self.shares is None or self.shares.shape == (n, a)
        assert self.subsets.shape == (n,) and self.image_domains.shape == (n,)
        assert self.attribute_domains.shape == (a,)
        assert len(set(self.attributes)) == a, "attribute names are not unique"

    @property
    def generated(self) -> bool:
        return "generated" in self.data_sources

    @property
    def class_disjoint(self) -> bool:
        """Whether no class is both trained and tested."""
        return not len(np.intersect1d(*(self.class_ids[self.subsets == part] for part in (TRAIN, TEST))))

    @property
    def targets(self) -> np.ndarray:
        """What is learned: float32 [n, A] in [0, 1], shares where they are told, else labels; NaN where labels are."""
        return finer(self.labels, self.shares)

    @property
    def photographs(self) -> np.ndarray:
        """Which one each record shows, by number: int64 [n]."""
        return photograph_numbers(self.paths, self.originals)

    def class_names(self, index: np.ndarray) -> frozenset[str]:
        """Names of the classes of some records, int64 [m]."""
        return frozenset(self.classes[c] for c in np.unique(self.class_ids[index]))

    def is_own(self, index: np.ndarray) -> np.ndarray:
        """Which of some records, int64 [m], are images of each attribute's own domain: bool [m, A]."""
        return self.image_domains[index][:, None] == self.attribute_domains

    def select_images(self, keep: np.ndarray) -> Domain:
        """The same domain with the records of a bool [n] mask or an index array."""
        index = np.flatnonzero(keep) if keep.dtype == bool else np.asarray(keep)
        draw = self.draw
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in index),
            boxes=self.boxes[index],
            class_ids=self.class_ids[index],
            labels=self.labels[index],
            shares=None if self.shares is None else self.shares[index],
            subsets=self.subsets[index],
            image_domains=self.image_domains[index],
            contents=None if self.contents is None else self.contents[index],
            draw=None if draw is None else (lambda i, size: draw(int(index[i]), size)),
        )

    def select_attributes(self, keep: Sequence[bool]) -> Domain:
        """The same domain with the attributes of a bool [A] mask."""
        index = np.flatnonzero(np.asarray(keep, bool))
        return dataclasses.replace(
            self,
            attributes=tuple(self.attributes[i] for i in index),
            labels=self.labels[:, index],
            shares=None if self.shares is None else self.shares[:, index],
            attribute_domains=self.attribute_domains[index],
        )

    def only(self, name: str) -> Domain:
        """One of the joined domains: its records, with its own attributes."""
        if self.domain_names == (name,):
            return self
        number = self.domain_names.index(name)
        own = self.select_images(self.image_domains == number).select_attributes(self.attribute_domains == number)
        kept = {k: (getattr(self, k)[number],) for k in ("domain_names", "data_sources", "layouts", "crop_paddings")}
        zeros = {k: np.zeros_like(getattr(own, k)) for k in ("image_domains", "attribute_domains")}
        return dataclasses.replace(own, name=name, **kept, **zeros)


def photograph_numbers(paths: Sequence[str], originals: Mapping[str, str]) -> np.ndarray:
    """`Domain.photographs` of these paths: parts of one photograph, and its copies, have the same number."""
    return np.unique([originals.get(path, path) for path in paths], return_inverse=True)[1]


def finer(labels: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """`Domain.targets` of these labels and shares [n, A]."""
    return labels if shares is None else np.where(np.isfinite(labels) & np.isfinite(shares), shares, labels)
