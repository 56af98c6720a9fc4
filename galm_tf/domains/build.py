"""Putting a `Domain` together from what a layout has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from galm_tf.config import Config
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, WHOLE_IMAGE, Domain
from galm_tf.domains.splits import most_telling
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError
from galm_tf.words import listed

NO_SPLIT = "No split is given"  # begins the note on it
NO_CLASSES = "There are no classes to hold out"  # begins another
_APART = "show photographs that are tested too and are unused."  # ends a third
NO_CLASS = "image"  # the class of every image where a table names none
_DRAWN_SPLIT = 0  # seed of the split of data that bring none
# classes; a fifth of more tells of every attribute, whichever they are, and to choose would take seconds
_MOST_CHOSEN = 300


def build_domain(
    name: str,
    layout: str,
    *,
    attributes: Sequence[str],
    classes: Sequence[str],
    paths: Sequence[str],
    class_ids: np.ndarray,
    labels: np.ndarray,
    shares: np.ndarray | None = None,
    subsets: np.ndarray,
    boxes: np.ndarray | None = None,
    source: str = "official",
    crop_padding: float = 0.0,
    notes: Sequence[str] = (),
    draw=None,
    originals: Mapping[str, str] | None = None,
) -> Domain:
    """A single domain; names become `name/…`. Shapes as in `Domain`."""
    if not len(paths):
        raise UserError(f"Expected images of {name}. Received: none; check --data_dir.")
    n = len(paths)
    for kind, names in (("attributes", attributes), ("classes", classes)):
        _check_unique(names, kind, name)
    single = [classes[i] for i in np.flatnonzero(np.bincount(class_ids, minlength=len(classes)) == 1)]
    if single:
        note = f"{len(single)} of {len(classes)} classes of {name} have one image only, the first is {single[0]}."
        notes = [*notes, note]
    return Domain(
        name=name,
        attributes=tuple(f"{name}/{a}" for a in attributes),
        classes=tuple(f"{name}/{c}" for c in classes),
        paths=tuple(paths),
        boxes=np.tile(np.array(WHOLE_IMAGE, np.int32), (n, 1)) if boxes is None else boxes.astype(np.int32),
        class_ids=np.asarray(class_ids, np.int32),
        labels=np.asarray(labels, np.float32),
        shares=None if shares is None else np.asarray(shares, np.float32),
        subsets=np.asarray(subsets),
        image_domains=np.zeros(n, np.int32),
        attribute_domains=np.zeros(len(attributes), np.int32),
        domain_names=(name,),
        data_sources=(source,),
        layouts=(layout,),
        crop_paddings=(crop_padding,),
        draw=draw,
        notes=tuple(notes),
        originals=originals or {},
    )


def photographs_apart(photographs: np.ndarray, subsets: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(subsets, notes) of a drawn split: training records whose photograph shows a tested one too, since boxes overlap,
    are unused.

    photographs: [n], which one each record shows.
    """
    shared = np.isin(photographs, photographs[subsets == TEST]) & (subsets == TRAIN)
    if not shared.any():
        return subsets, []
    note = f"{shared.sum()} of {(subsets == TRAIN).sum()} training records {_APART}"
    return np.where(shared, UNUSED, subsets), [note]


def torn_photographs(
    photographs: np.ndarray, subsets: np.ndarray, where: str, among: np.ndarray | None = None
) -> list[str]:
    """A note where photographs of several records are on both sides of a split that was given.

    photographs: [n], which one each record shows.
    among: bool [n], the photographs that are looked at; all when left out.
    """
    tested = subsets == TEST
    torn = photographs[tested if among is None else tested & among]
    torn = torn[np.isin(torn, photographs[subsets == TRAIN])]
    note = f"{len(torn)} of {tested.sum()} tested records of {where} show photographs that other records train on: give one photograph one split."
    return [note] if len(torn) else []


def _check_unique(names: Sequence[str], kind: str, domain: str) -> None:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise UserError(
                f"Expected {kind} of {domain} with different names. Received: {name} as number {first[name] + 1} and {i + 1}; rename one."
            )


def subsets_by_class(
    class_ids: np.ndarray, classes: Sequence[str], train: Sequence[str], test: Sequence[str], where: str
) -> np.ndarray:
    """`train` or `test` for every record by its class; raises UserError for a class in both or neither."""
    both = sorted(set(train) & set(test))
    if both:
        raise UserError(f"Expected disjoint class lists in {where}. Received: {both[0]} in both; remove it from one.")
    kind = np.array([TRAIN if c in set(train) else TEST if c in set(test) else "" for c in classes])
    result = kind[class_ids]
    lost = sorted({classes[i] for i in class_ids[result == ""]})
    if lost:
        raise UserError(
            f"Expected every class with images in one of the class lists of {where}. Received: {listed(lost, 1)} in "
            "neither; add it to one of them."
        )
    return result


def _telling_subsets(class_ids: np.ndarray, labels: np.ndarray, test_fraction: float) -> np.ndarray:
    """As `random_subsets`, by the classes by which most attributes can be tested, and trained by the others; always the
    same.
    """
    classes, numbers = np.unique(class_ids, return_inverse=True)
    count = _tested_classes(len(classes), test_fraction)
    return np.where(
        np.isin(numbers, most_telling(labels, numbers, count, generator(_DRAWN_SPLIT, Stream.SPLIT), even=True)),
        TEST,
        TRAIN,
    )


def _tested_classes(classes: int, test_fraction: float) -> int:
    """How many of so many."""
    return int(np.clip(round(test_fraction * classes), min(2, classes - 1), max(1, classes - 2)))


def random_subsets(class_ids: np.ndarray, photographs: np.ndarray, test_fraction: float, seed: int) -> np.ndarray:
    """A split by seed: class-disjoint where there are classes, else by photographs; `train` or `test` per record, at
    least two classes, or photographs, a side where possible.
    """
    units = _units(class_ids, photographs)
    present = np.unique(units)
    test = generator(seed, Stream.SPLIT).permutation(present)[: _tested_classes(len(present), test_fraction)]
    return np.where(np.isin(units, test), TEST, TRAIN)


def _units(class_ids: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """What a split keeps together, by number: classes, or photographs where there is one class."""
    return class_ids if has_classes(class_ids) else photographs


def has_classes(class_ids: np.ndarray) -> bool:
    """Whether records are of different classes, of which some can be held out."""
    return len(np.unique(class_ids)) > 1


def classed_domains(domain: Domain) -> dict[str, bool]:
    """Whether each of its domains, by name, has classes, of which some can be held out."""
    return {
        name: has_classes(domain.class_ids[domain.image_domains == i]) for i, name in enumerate(domain.domain_names)
    }


def with_classes(domain: Domain) -> np.ndarray:
    """Whether each record is of a domain that has classes, of which some can be held out: bool [n]."""
    return np.array([*classed_domains(domain).values()])[domain.image_domains]


def named_classes(domain: Domain, index: np.ndarray) -> frozenset[str]:
    """`Domain.class_names` of records int64 [m], without what stands for a class where a table names none."""
    invented = {f"{name}/{NO_CLASS}" for name in domain.domain_names}
    return domain.class_names(index) - (invented & domain.class_names(np.flatnonzero(~with_classes(domain))))


def tells_of_a_drawn_split(note: str) -> bool:
    """Whether a note of a domain is about the split that was drawn where the data bring none, or what it cannot tell."""
    return note.startswith(NO_SPLIT) or note.endswith(_APART) or note.startswith(NO_CLASSES)


def drawn_subsets(
    name: str,
    class_ids: np.ndarray,
    photographs: np.ndarray,
    test_fraction: float,
    config: Config,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The split of a data set that brings none, with its photographs apart, and the notes that say so. Always the same:
    --split_seed asks for others.

    Args:
      name: of the domain.
      class_ids: int [n].
      photographs: int [n], which one each record shows.
      test_fraction: share of the classes, or of the photographs where there is one class.
      config: whether another split will take its place.
      labels: float32 [n, A]: classes are not drawn but chosen by these, so that most attributes can be tested.
    """
    chosen = labels is not None and 1 < len(np.unique(class_ids)) <= _MOST_CHOSEN
    subsets = (
        _telling_subsets(class_ids, labels, test_fraction)
        if chosen
        else random_subsets(class_ids, photographs, test_fraction, _DRAWN_SPLIT)
    )
    if config.replaces_split:
        return subsets, []  # it will be replaced
    tested, total = (len(np.unique(ids)) for ids in (class_ids[subsets == TEST], class_ids))
    kind = "classes"
    if not has_classes(class_ids):
        tested, total, kind = (subsets == TEST).sum(), len(subsets), "images"
    how = "chosen so that most attributes can be tested" if chosen else "drawn at random"
    others = "draws others blindly, by which fewer attributes may be tested" if chosen else "draws others"
    note = f"{NO_SPLIT} for {name}: {tested} of {total} {kind}, {how}, are tested; --split_seed=1 {others}."
    subsets, more = photographs_apart(photographs, subsets)
    return subsets, [note, *more]


def test_fraction(domain: Domain) -> float:
    """Share of the classes with images, or of the photographs where there is one class, that the domain's own split
    tests.
    """
    used = domain.subsets != UNUSED
    units, subsets = _units(domain.class_ids[used], domain.photographs[used]), domain.subsets[used]
    return len(np.unique(units[subsets == TEST])) / max(1, len(np.unique(units)))
