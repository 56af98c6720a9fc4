"""Who trains, who judges, who is tested (DESIGN §3.6).

Labels of most data sets are given per class, so a random tenth of the images
would measure whether a class is recognised. Validation therefore holds out
whole training classes as well, chosen so that as many attributes as possible
have both labels on both sides.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import numpy as np

from galm_tf.config import Config
from galm_tf.domains.domain import TEST, TRAIN, Domain
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError

MIN_LABELS = 5  # positives and negatives that a judgement needs
_RESTARTS = 12
_MIN_TRAINING_CLASSES = 3  # fewer are not split


@dataclasses.dataclass(frozen=True)
class Split:
    """Record indices of each part, and what each part can tell.

    Attributes:
      train, test: int64 [·], sorted.
      validation_classes: images of the training classes that are held out whole.
      validation_images: a share of the images of the other training classes.
      held_out_classes: names of the former.
      judged_by: per attribute `classes`, `images` or `none`: which validation part
        has enough of both labels to judge it.
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

    def to_json(self) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Split":
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
    for name, part in (("training", training), ("test", test)):
        if not len(part):
            raise UserError(
                f"Expected {name} images in {domain.name}. Received: none of {len(domain.paths)}; check the split "
                "of the data set, or ask for another by --split_seed."
            )
    seed = config.split_seed if config.split_seed >= 0 else config.seed
    held_out = _held_out_classes(domain, training, config, seed)
    in_held_out = np.isin(domain.class_ids[training], held_out)
    validation_classes = training[in_held_out]
    rest = training[~in_held_out]
    validation_images = _share_of_each_class(domain, rest, config.validation_fraction, seed)
    train = np.setdiff1d(rest, validation_images)
    judged_by, reasons = _judges(domain, validation_classes, validation_images)
    testable = _both_labels(domain.labels[test], 1)
    for i in np.flatnonzero(~testable):
        reasons[domain.attributes[i]] = "not tested: its known test labels are of one kind only"
    names = tuple(domain.classes[c] for c in held_out)
    return Split(train, validation_classes, validation_images, test, names, judged_by, testable, reasons)


def unlearnable_attributes(domain: Domain, train: np.ndarray) -> dict[str, str]:
    """Attribute name -> reason, for those whose training labels are of one kind or none."""
    reasons = {}
    positives, negatives = _count_labels(domain.labels[train])
    for name, p, n in zip(domain.attributes, positives, negatives):
        if p and n:
            continue
        kind = "no known label" if not p and not n else ("no positive" if not p else "no negative")
        reasons[name] = f"{kind} among the {len(train)} training images"
    return reasons


def _count_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives of each attribute: int64 [A] each; NaN counts as neither."""
    return (labels > 0.5).sum(axis=0), (labels <= 0.5).sum(axis=0)


def _both_labels(labels: np.ndarray, minimum: int) -> np.ndarray:
    positives, negatives = _count_labels(labels)
    return (positives >= minimum) & (negatives >= minimum)


def _held_out_classes(domain: Domain, training: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """Class ids that validation holds out, of every joined domain: int64 [·]."""
    if config.validation_split == "images" or not domain.class_disjoint or not config.validation_class_fraction:
        return np.zeros(0, np.int64)
    chosen = []
    for group in range(len(domain.domain_names)):
        index = training[domain.image_domains[training] == group]
        classes = np.unique(domain.class_ids[index])
        if len(classes) < _MIN_TRAINING_CLASSES:
            continue
        own = domain.attribute_domains == group
        labels = domain.labels[np.ix_(index, own)]
        counts = np.stack([_count_labels(labels[domain.class_ids[index] == c]) for c in classes])  # [C, 2, A]
        number = int(np.clip(round(config.validation_class_fraction * len(classes)), 1, len(classes) - 2))
        rng = generator(seed, Stream.CLASSES, group)
        chosen.append(classes[_most_judgeable(counts, number, rng)])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _most_judgeable(counts: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Which `number` of C classes leave the most attributes with enough labels on both sides.

    Swaps of one class at a time from random starts, until none improves.

    Args:
      counts: [C, 2, A], positives and negatives of each class.

    Returns:
      int64 [number], sorted.
    """
    total = counts.sum(axis=0)

    def judged(members: np.ndarray) -> np.ndarray:
        """members [K, number] -> attributes judged by each candidate set [K]."""
        held = counts[members].sum(axis=1)  # [K, 2, A]
        return (np.minimum(held, total - held).min(axis=1) >= MIN_LABELS).sum(axis=1)

    best, best_value = np.arange(number), -1
    for _ in range(_RESTARTS):
        order = rng.permutation(len(counts))
        members, value = order[:number], -1
        while True:
            swaps = _swaps(members, len(counts))
            values = judged(swaps)
            if values.max(initial=-1) <= value:
                break
            members, value = swaps[values.argmax()], int(values.max())
        if value > best_value:
            best, best_value = members, value
    return np.sort(best)


def _swaps(members: np.ndarray, size: int) -> np.ndarray:
    """The set itself and every set that differs in one member: [K, len(members)]."""
    outside = np.setdiff1d(np.arange(size), members)
    result = [members]
    for place in range(len(members)):
        for other in outside:
            changed = members.copy()
            changed[place] = other
            result.append(changed)
    return np.stack(result)


def _share_of_each_class(domain: Domain, index: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A seeded share of the images of each class, none of classes with fewer than three: int64, sorted."""
    parts = []
    for c in np.unique(domain.class_ids[index]):
        members = index[domain.class_ids[index] == c]
        if len(members) >= 3:
            count = max(1, round(share * len(members)))
            parts.append(generator(seed, Stream.VALIDATION, int(c)).choice(members, count, replace=False))
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _judges(domain: Domain, by_class: np.ndarray, by_image: np.ndarray) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which validation part judges each attribute, and why none does."""
    can_classes, can_images = (_both_labels(domain.labels[part], MIN_LABELS) for part in (by_class, by_image))
    judges, reasons = [], {}
    for name, classes, images in zip(domain.attributes, can_classes, can_images):
        judges.append("classes" if classes else "images" if images else "none")
        if judges[-1] == "none":
            reasons[name] = f"not judged: fewer than {MIN_LABELS} positives or negatives in every validation part"
    return tuple(judges), reasons
