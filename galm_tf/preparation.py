"""What a run works on: the data by its settings, split, and without attributes that cannot be learned."""

from __future__ import annotations

import dataclasses
import logging
from typing import Optional, Sequence

import numpy as np

from galm_tf.config import READING, Config
from galm_tf.domains import load_domains
from galm_tf.domains.build import with_classes
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import MORE_JUDGED, Split, make_split, unlearnable_attributes, with_few_positives
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the search works on.

    Attributes:
      domain: learnable attributes only.
      split: record indices of each part.
      images: uint8 [n, S, S, 3].
      excluded: attribute name -> why it cannot be learned.
      bad_images: (path, reason) of images that were skipped.
    """

    domain: Domain
    split: Split
    images: np.ndarray
    excluded: dict[str, str]
    bad_images: tuple[tuple[str, str], ...]


def prepare(config: Config, domain: Optional[Domain] = None) -> Prepared:
    """Loads the data, or the images of a domain that is at hand, splits it, and leaves out attributes that cannot be
    learned.
    """
    domain, images, bad = load_images(domain or load_domains(config, has_split=config.resume), config)
    split = make_split(domain, config)
    excluded = unlearnable_attributes(domain, split.train)
    for reason in dict.fromkeys(excluded.values()):
        logging.warning("left out, %s: %s", reason, ", ".join(name for name, its in excluded.items() if its == reason))
    if len(excluded) == len(domain.attributes):
        raise UserError(
            f"Expected an attribute with both labels among the training images of {domain.name}. Received: "
            f"{len(excluded)} attributes, none of which has; check the labels with python -m galm_tf.domains."
        )
    keep = [a not in excluded for a in domain.attributes]
    domain = with_few_positives(domain, split.train, config)
    domain, split = domain.select_attributes(keep), split.select_attributes(keep)
    _warn_of_unjudged(split.judged_by, len(split.validation), config.method)
    _warn_of_untested(split, domain, config)
    return Prepared(domain, split, images, excluded, bad)


def _warn_of_unjudged(judged_by: Sequence[str], images: int, method: str) -> None:
    """Tells before anything is trained that validation chooses few of the networks, or none."""
    unjudged = list(judged_by).count("none")
    if unjudged > len(judged_by) / 2:
        logging.warning(
            "%d of %d attributes have too few labels of either kind among the %d validation images to be judged: %sno yes or no can be given; "
            "%s.", unjudged, len(judged_by), images, "" if method == READING else "their architectures will not be of their own, and ", MORE_JUDGED,
        )  # fmt: skip


def _warn_of_untested(split: Split, domain: Domain, config: Config) -> None:
    """Tells before anything is trained that the test says little of the networks, or nothing."""
    number = max(config.split_seed, 0) + 1
    own = not config.splits_file and config.test_split == Config().test_split
    other = (
        f"--split_seed={number} tests other {'classes' if with_classes(domain).any() else 'images'} (--splits={number} where repetitions are "
        "splits), drawn blindly; "
        if own
        else ""
    )
    untested = int((~split.testable).sum())
    if untested > len(split.testable) / 2:
        logging.warning(
            "%d of %d attributes cannot be tested: what is known of them among the %d test images is of one kind. %spython -m galm_tf.domains "
            "tells what of a split can be tested.", untested, len(split.testable), len(split.test), other,
        )  # fmt: skip
