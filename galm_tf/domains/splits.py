"""Who trains, who judges, who is tested (DESIGN §3.6).

Labels of most data sets are given per class, so a random tenth of the images
would measure whether a class is recognised. Validation therefore holds out
whole training classes as well, chosen so that as many attributes as possible
have both labels on both sides.

No photograph both trains and judges: where records are boxes of one, those that
training would share with the held-out classes are held out as well.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from galm_tf.config import Config
from galm_tf.domains.domain import TEST, TRAIN, Domain
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError

MIN_LABELS = 5  # positives and negatives that a judgement needs
# With less than 50 known validation labels a tenth of them is enough, but never
# one alone: a small set of one's own would otherwise have no reward at all.
_MIN_FEW_LABELS = 2
# repair where few attributes can be
MORE_JUDGED = "hold out more by --validation_fraction=0.3, or add images or classes"
_RESTARTS = 12
_MIN_TRAINING_CLASSES = 3  # fewer are not split
_MIN_CLASS_IMAGES = 3  # classes with fewer keep them all in training
_MANY_CLASSES = 1000  # of which one start is enough, and so many to exchange for: all others would take minutes
_FEW_IMAGES = 2 * MIN_LABELS**2  # of validation, below which one draw may judge what another does not
_MOST_CLASSES = 2**20  # of a domain, so that no two draws share numbers
_MOST_HELD_OUT = 1 / 3  # of the training images in held-out classes, where other classes can be had


@dataclasses.dataclass(frozen=True)
class Split:
    """Record indices of each part, and what each part can tell.

    Attributes:
      train, test: int64 [·], sorted.
      validation_classes: images of the training classes that are held out whole.
      validation_images: a share of the images of the other training classes, and what shows photographs of validation.
      held_out_classes: names of the former.
      judged_by: per attribute `classes` (the held-out classes alone have enough of
        both labels), `images` (all validation images together have) or `none`.
      testable: bool [A]: both labels occur among the test images.
      reasons: attribute name -> why it cannot be judged or tested.
    """

    train: np.ndarray
    validation_classes: np.ndarray
    validation_images: np.ndarray
    test: np.ndarray
    held_out_classes: tuple[str, ...]
    judged_by: tuple[str, ...]
    testable: np.ndarray
    reasons: dict[str, str]

    @property
    def validation(self) -> np.ndarray:
        """Both validation parts, sorted."""
        return np.sort(np.concatenate([self.validation_classes, self.validation_images]))

    @property
    def trained(self) -> np.ndarray:
        """Training and validation: what a fine-tuned network has been trained on, as a rule. Validation comes last."""
        return np.concatenate([self.train, self.validation])

    @property
    def judged_and_tested(self) -> np.ndarray:
        """Which attributes validation and test images can judge: bool [A]."""
        return np.array([judge != "none" for judge in self.judged_by]) & self.testable

    def to_json(self) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in dataclasses.asdict(self).items()}

    def select_attributes(self, keep: Sequence[bool]) -> Split:
        """The same parts with the attributes of a bool [A] mask, as `Domain.select_attributes`; `reasons` stay."""
        index = np.flatnonzero(np.asarray(keep, bool))
        return dataclasses.replace(
            self, judged_by=tuple(self.judged_by[i] for i in index), testable=self.testable[index]
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Split:
        index = ("train", "validation_classes", "validation_images", "test")
        return cls(
            **{k: np.array(value[k], np.int64) for k in index},
            held_out_classes=tuple(value["held_out_classes"]),
            judged_by=tuple(value["judged_by"]),
            testable=np.array(value["testable"], bool),
            reasons=dict(value["reasons"]),
        )


def make_split(domain: Domain, config: Config) -> Split:
    """Splits the training images into training and validation; raises UserError when a part stays empty."""
    training, test = (np.flatnonzero(domain.subsets == s) for s in (TRAIN, TEST))
    unused = len(domain.paths) - len(training) - len(test)
    for name, part in (("training", training), ("test", test)):
        if not len(part):
            raise UserError(
                f"Expected {name} images in {domain.name}. Received: none of {len(domain.paths)}"
                f"{f', of which {unused} are unused' if unused else ''}; check the split of the data set (an empty cell is unused), "
                "or ask for another by --split_seed."
            )
    seed = config.split_seed if config.split_seed >= 0 else config.seed
    held_out = _held_out_classes(domain, training, config, seed)
    in_held_out = np.isin(domain.class_ids[training], held_out)
    validation_classes = training[in_held_out]
    rest = training[~in_held_out]
    photographs = domain.photographs
    beside = rest[np.isin(photographs[rest], photographs[validation_classes])]
    drawn = [
        _most_judging(domain, by_class, _draws(domain, own, beside, photographs, config.validation_fraction, seed))
        # whichever its neighbours are
        for by_class, own in zip(_by_domain(domain, validation_classes), _by_domain(domain, rest))
    ]
    validation_images = rest[np.isin(photographs[rest], photographs[np.concatenate(drawn)])]
    if not len(validation_classes) + len(validation_images):
        raise UserError(
            f"Expected a training class of {domain.name} with at least {_MIN_CLASS_IMAGES} images, not all of one photograph, or "
            f"{_MIN_TRAINING_CLASSES} training classes of which none is tested, to hold some out for validation. Received: {len(training)} "
            f"images of {len(np.unique(domain.class_ids[training]))} classes in {len(np.unique(photographs[training]))} photographs with "
            f"--validation_split={config.validation_split}{_why_none_held_out(domain, training)}; add images."
        )
    train = np.setdiff1d(rest, validation_images)
    if not len(train):
        raise UserError(
            f"Expected photographs of {domain.name} without any box that validation holds out, to train on. Received: "
            f"{len(training)} boxes in {len(np.unique(photographs[training]))} photographs, all of them with one; add photographs."
        )
    names = tuple(domain.classes[c] for c in held_out)
    return with_judges(
        Split(train, validation_classes, validation_images, test, names, (), np.zeros(0, bool), {}), domain
    )


def with_judges(split: Split, domain: Domain) -> Split:
    """The same parts, with what they can tell about the attributes of a domain."""
    judged_by, reasons = _judges(domain, split.validation_classes, split.validation_images)
    testable = with_both_labels(domain.labels[split.test])
    _add_untested(reasons, domain, split.test, testable)
    return dataclasses.replace(split, judged_by=judged_by, testable=testable, reasons=reasons)


def keep_few_positives(
    labels: np.ndarray, attributes: Sequence[str], train: np.ndarray, counts: Mapping[str, int], seed: int
) -> np.ndarray:
    """Labels in which attributes have at most so many known positives in training.

    Which ones is drawn per attribute, by its name, whatever others there are; a smaller number keeps some of those that
    a larger one keeps.

    Args:
      labels: float32 [n, A] in {0, 1, NaN}.
      attributes: their names, [A].
      train: int64, records.
      counts: attribute -> at most how many positives; 0, or none given: all.
      seed: of the draw.

    Returns:
      [n, A], a copy with NaN in place of the other positives; negatives and other records stay.
    """
    labels = labels.copy()
    for i, name in enumerate(attributes):
        positives = train[labels[train, i] > 0.5]
        kept = counts.get(name) or len(positives)
        labels[generator(seed, Stream.POSITIVES, zlib.crc32(name.encode())).permutation(positives)[kept:], i] = np.nan
    return labels


def with_few_positives(
    domain: Domain, train: np.ndarray, config: Config, counts: Optional[Mapping[str, int]] = None
) -> Domain:
    """The domain with the labels that a run by these settings knows: all, but for --train_positives.

    Of negatives it knows no more than that they are: a third of the votes for yes would tell much of what shall be
    unknown. Which positives are known goes by --split_seed, as what is tested does: of a drawn split another --seed
    trains on the same labels. By the data's own split another --seed holds out other classes, and others are known.

    counts: attribute -> what its own run had for --train_positives; the setting for all when left out.
    """
    counts = dict.fromkeys(domain.attributes, config.train_positives) if counts is None else counts
    few = np.array([bool(counts.get(name)) for name in domain.attributes])
    if not few.any():
        return domain
    labels = keep_few_positives(domain.labels, domain.attributes, train, counts, max(0, config.split_seed))
    shares = domain.shares
    if shares is not None:
        shares = np.where(few & ~(labels > 0.5), np.nan, shares).astype(np.float32)
    return dataclasses.replace(domain, labels=labels, shares=shares)


def few_positives(rows: Mapping[str, Mapping[str, Any]], config: Config) -> dict[str, int]:
    """Attribute -> at most how many positives a finished run knew, 0 for all.

    rows: of its result.json; those of an earlier version do not say, and had what its settings `config` have.
    """
    return {name: row.get("train_positives", config.train_positives) or 0 for name, row in rows.items()}


def unlearnable_attributes(domain: Domain, train: np.ndarray) -> dict[str, str]:
    """Attribute name -> reason, for those whose training labels are of one kind or none."""
    positives, negatives = _count_labels(domain.labels[train])
    lacking = np.flatnonzero((positives == 0) | (negatives == 0))
    own = np.bincount(domain.image_domains[train], minlength=len(domain.domain_names))[domain.attribute_domains]
    return {
        domain.attributes[i]: f"{_lack(positives[i], negatives[i], 1)} among the {own[i]} training images"
        for i in lacking
    }


def _lack(positives: int, negatives: int, minimum: int) -> str:
    """What is missing for `minimum` labels of both kinds, in words."""
    if not positives + negatives:
        return "no known label"
    counts = {"positive": positives, "negative": negatives}
    few = [
        f"fewer than {minimum} {kind}s" if count else f"no {kind}" for kind, count in counts.items() if count < minimum
    ]
    return " and ".join(few)


def _count_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives of each attribute: int64 [A] each; NaN counts as neither."""
    return (labels > 0.5).sum(axis=0), (labels <= 0.5).sum(axis=0)  # a comparison with NaN is false


def with_both_labels(labels: np.ndarray, minimum: int | np.ndarray = 1) -> np.ndarray:
    """Which attributes have so many known labels of either kind: [n, A] in {0, 1, NaN} -> bool [A]."""
    positives, negatives = _count_labels(labels)
    return (positives >= minimum) & (negatives >= minimum)


def _why_none_held_out(domain: Domain, training: np.ndarray) -> str:
    """In words, where tested images are of training classes."""
    both = np.intersect1d(domain.class_ids[training], domain.class_ids[domain.subsets == TEST])
    return f", of which {len(both)} are tested too" if len(both) else ""


def _held_out_classes(domain: Domain, training: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """Class ids that validation holds out, of every joined domain: int64 [·], sorted."""
    if config.validation_split == "images" or not config.validation_class_fraction:
        return np.zeros(0, np.int64)
    chosen = [np.zeros(0, np.int64)]
    for group, index in enumerate(_by_domain(domain, training)):
        classes = np.unique(domain.class_ids[index])
        if len(classes) < _MIN_TRAINING_CLASSES or not tests_unseen_classes(domain, classes, group):
            continue
        labels = domain.labels[np.ix_(index, domain.attribute_domains == group)]
        number = int(np.clip(round(config.validation_class_fraction * len(classes)), 1, len(classes) - 2))
        rng = generator(seed, Stream.CLASSES)  # whichever its neighbours are
        chosen.append(classes[most_telling(labels, np.searchsorted(classes, domain.class_ids[index]), number, rng)])
    return np.sort(np.concatenate(chosen))


def most_telling(
    labels: np.ndarray, class_numbers: np.ndarray, number: int, rng: np.random.Generator, even: bool = False
) -> np.ndarray:
    """Which `number` of C classes leave the most attributes with enough labels on both sides (`_most_judgeable`): int64
    [number], sorted.

    Args:
      labels: float32 [n, A] in {0, 1, NaN}.
      class_numbers: int [n], 0 to C - 1, each of which occurs.
      number: how many.
      rng: where the search begins.
      even: whether of such sets one is taken that has about its share of every attribute's labels.
    """
    order = np.argsort(class_numbers, kind="stable")
    starts = np.flatnonzero(np.diff(class_numbers[order], prepend=-1))
    sides = (labels[order] > 0.5, labels[order] <= 0.5)
    counts = np.stack([np.add.reduceat(side, starts, dtype=np.int32) for side in sides], axis=1)  # [C, 2, A]
    return _most_judgeable(counts, np.bincount(class_numbers), number, rng, even)


def tests_unseen_classes(domain: Domain, classes: np.ndarray, group: int) -> bool:
    """Whether a joined domain, number `group`, is tested on other classes than those that it trains; its neighbours may
    not be.
    """
    tested = domain.class_ids[(domain.subsets == TEST) & (domain.image_domains == group)]
    return not np.isin(tested, classes).any()


def _most_judgeable(
    counts: np.ndarray, images: np.ndarray, number: int, rng: np.random.Generator, even: bool = False
) -> np.ndarray:
    """Which `number` of C classes leave the most attributes with enough labels on both sides.

    Among equals, the set that leaves the fewest attributes with too few labels to
    learn from. A set that takes more than `_MOST_HELD_OUT` of the images comes
    after all others: half of aPascal is people, without whom little is left to
    train on. Searched by exchanging one class at a time from random starts, until
    no exchange improves.

    Args:
      counts: int32 [C, 2, A], positives and negatives of each class.
      images: int64 [C], images of each class.
      even: see `most_telling`.

    Returns:
      int64 [number], sorted.
    """
    attributes = counts.shape[2]
    # images in a last column
    counts = np.dstack([counts, np.repeat(images[:, None], 2, axis=1)[..., None]]).astype(np.int32)
    total = counts.sum(axis=0)
    learnable = total.min(axis=0)[:-1] >= MIN_LABELS
    bound = int((total[:, :-1] >= 2 * MIN_LABELS).all(axis=0).sum()) * (attributes + 1)

    def values(held: np.ndarray) -> np.ndarray:
        """Labels and images of K held-out sets [K, 2, A + 1] -> what each set is worth [K]."""
        least, rest = (side.min(axis=1)[:, :-1] for side in (held, total - held))  # [K, A]
        judged = np.minimum(least, rest) >= MIN_LABELS
        lost = learnable & (rest < MIN_LABELS)
        large = held[:, 0, -1] > _MOST_HELD_OUT * total[0, -1]
        worth = judged.sum(axis=1) * (attributes + 1) - lost.sum(axis=1) - large * (attributes + 1) ** 2
        if not even:
            return worth
        uneven = np.abs(held / np.maximum(1, total) - number / len(counts)).mean(axis=(1, 2))
        return worth - np.round(uneven, 9)  # else the order of attributes, by which it is summed, would settle ties

    best, best_value = np.arange(number), -np.inf
    for _ in range(_RESTARTS if len(counts) <= _MANY_CLASSES else 1):
        members, value = _climb(counts, rng.permutation(len(counts)), number, values, np.inf if even else bound)
        if value > best_value:
            best, best_value = members, value
        if best_value >= bound or (even and best_value > bound - 1):  # unevenness costs less than an attribute
            break
    return np.sort(best)


def _climb(
    counts: np.ndarray, order: np.ndarray, number: int, values: Callable[[np.ndarray], np.ndarray], most: float
) -> tuple[np.ndarray, float]:
    """Exchanges the first `number` of `order` for the others, one after the other, until none helps, or the
    value is `most`: (members, value).
    """
    order = order.copy()
    members, others = order[:number], order[number:]
    if len(others) > _MANY_CLASSES:  # those with most of the rarest labels
        share = (counts[others] / np.maximum(1, counts.sum(axis=0))).max(axis=(1, 2))
        others = others[np.argsort(-share, kind="stable")[:_MANY_CLASSES]]
    held = counts[members].sum(axis=0)
    value, unchanged, place = values(held[None])[0], 0, 0
    while unchanged < number and value < most:
        gains = values(held - counts[members[place]] + counts[others])  # of each of the others
        other = int(gains.argmax())
        unchanged += 1
        if gains[other] > value:
            held = held - counts[members[place]] + counts[others[other]]
            members[place], others[other] = others[other], members[place]
            value, unchanged = gains[other], 0
        place = (place + 1) % number
    return members, value


def _by_domain(domain: Domain, index: np.ndarray) -> list[np.ndarray]:
    """Records int64 [m] of each of the joined domains."""
    return [index[domain.image_domains[index] == group] for group in range(len(domain.domain_names))]


def _draws(
    domain: Domain, index: np.ndarray, taken: np.ndarray, photographs: np.ndarray, share: float, seed: int
) -> Iterator[np.ndarray]:
    """One `_share_of_each_class` after the other."""
    return (_share_of_each_class(domain, index, taken, photographs, share, seed, draw) for draw in range(_RESTARTS))


def _most_judging(domain: Domain, by_class: np.ndarray, draws: Iterable[np.ndarray]) -> np.ndarray:
    """The draw of validation images that judges most attributes, of so few that chance decides; else the first, int64.

    by_class: validation images of held-out classes, which judge too.
    """
    best, fewest = np.zeros(0, np.int64), len(domain.attributes) + 1
    for drawn in draws:
        unjudged = _judges(domain, by_class, drawn)[0].count("none")
        if unjudged < fewest:
            best, fewest = drawn, unjudged
        if not fewest or len(by_class) + len(drawn) >= _FEW_IMAGES:
            break
    return best


def _share_of_each_class(
    domain: Domain, index: np.ndarray, taken: np.ndarray, photographs: np.ndarray, share: float, seed: int, draw: int
) -> np.ndarray:
    """A seeded share of the images of each class, none of classes with fewer than three: int64, sorted.

    No more photographs are taken than the share needs, and none without which a class that lends some would have no
    image left.

    Args:
      index: int64, records.
      taken: int64, those of them that are part of it anyway.
      photographs: int64 [n], which one each record shows; all records of one go together.
      share: of each class.
      seed, draw: the same images by the same seed and number of the draw.
    """
    # a domain holds out the same images whichever its neighbours are: classes count from its first
    part, first = np.isin(index, taken), {}
    for c, name in enumerate(domain.classes):
        first.setdefault(name.split("/")[0], c)
    shown, classes = _places(photographs[index]), domain.class_ids[index]
    left, members_of = Counter(classes[~part].tolist()), _places(classes)  # of each class: how many train, and all
    for c, members in members_of.items():
        number = c - first[domain.classes[c].split("/")[0]]
        if len(members) < _MIN_CLASS_IMAGES:
            continue
        most_left = len(members) - max(1, round(share * len(members)))
        lacking = left[c] - most_left
        if lacking <= 0:
            continue
        rng = generator(seed, Stream.VALIDATION, number + draw * _MOST_CLASSES)
        free = index[members[~part[members]]]
        drawn = rng.choice(free, lacking, replace=False)
        others = rng.permutation(np.setdiff1d(free, drawn))  # in the place of photographs that stay
        for photograph in photographs[np.concatenate([drawn, others])]:
            if left[c] <= most_left:
                break
            records = shown[photograph]
            its = Counter(classes[records[~part[records]]].tolist())
            lending = [other for other in its if len(members_of[other]) >= _MIN_CLASS_IMAGES]
            if all(left[other] > its[other] for other in lending):
                part[records] = True
                left.subtract(its)
    return index[part]


def _places(values: np.ndarray) -> dict[int, np.ndarray]:
    """Each of the values int [m], rising -> where it stands, rising."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:])))


def _judges(domain: Domain, by_class: np.ndarray, by_image: np.ndarray) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which validation part judges each attribute, and why none does."""
    both = np.concatenate([by_class, by_image])
    known = np.isfinite(domain.labels[both]).sum(axis=0)
    minimum = np.clip(known // (2 * MIN_LABELS), _MIN_FEW_LABELS, MIN_LABELS)
    can_classes = with_both_labels(domain.labels[by_class], MIN_LABELS)
    can_images = with_both_labels(domain.labels[both], minimum)
    judges = np.where(can_classes, "classes", np.where(can_images, "images", "none"))
    positives, negatives = _count_labels(domain.labels[both])
    reasons = {
        domain.attributes[i]: f"not judged: {_lack(positives[i], negatives[i], minimum[i])} among the validation images"
        for i in np.flatnonzero(judges == "none")
    }
    return tuple(judges.tolist()), reasons


def _add_untested(reasons: dict[str, str], domain: Domain, test: np.ndarray, testable: np.ndarray) -> None:
    """Adds why an attribute cannot be tested to why it cannot be judged."""
    positives, negatives = _count_labels(domain.labels[test])
    for i in np.flatnonzero(~testable):
        name = domain.attributes[i]
        text = f"not tested: {_lack(positives[i], negatives[i], 1)} among the test images"
        reasons[name] = f"{reasons[name]}; {text}" if name in reasons else text
