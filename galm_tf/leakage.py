"""What runs have seen: which classes and images a run, and the runs that it has taken from, trained or validated on, and
that none of these is tested.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Optional, Sequence

import numpy as np

from galm_tf import attribute_names
from galm_tf.config import Config
from galm_tf.domains.build import with_classes
from galm_tf.domains.domain import WHOLE_IMAGE, Domain
from galm_tf.domains.splits import Split
from galm_tf.errors import UserError
from galm_tf.paths import from_home
from galm_tf.run_folder import RunFolder
from galm_tf.words import listed

# of a run: `image_digests` of the images that it and its sources were trained or validated on ("contents"), and of
# those of them that trained ("trained")
SEEN = "seen.npz"


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a run, or what is fitted on its data, has seen.

    Attributes:
      path: its folder.
      classes: names of those whose images it was trained or validated on; None where an earlier version did not say.
      seen: `learned_digests` of those images, its own sources' too, uint64, sorted; None where an earlier version did not
        say.
      trained: those of `seen` that it was trained on; None as there.
      split: its settings of who is tested.
    """

    path: str
    classes: Optional[frozenset[str]]
    seen: Optional[np.ndarray]
    trained: Optional[np.ndarray]
    split: dict[str, Any]

    @classmethod
    def of(cls, path: str, config: Config, domain: Domain, split: Split) -> Learned:
        """Of all that a run trains or validates on."""
        seen = learned_digests(domain, split.trained)
        trained = seen if config.finetunes_on_validation else learned_digests(domain, split.train)
        return cls(path, domain.class_names(split.trained), seen, trained, split_settings(config))


def image_digests(domain: Domain, index: np.ndarray) -> np.ndarray:
    """What tells the images of records int64 [m] from others, by the bytes of their files and by their boxes, whatever
    files, classes and domains are called: uint64 [m].
    """
    return _digests(domain.contents[index], domain.boxes[index])


def _digests(contents: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """`image_digests` of images by `Domain.contents` [m] and boxes [m, 4]."""

    def digest(content: np.ndarray, box: np.ndarray) -> int:
        return int.from_bytes(hashlib.blake2b(content.tobytes() + box.tobytes(), digest_size=8).digest(), "little")

    return np.array([digest(content, box) for content, box in zip(contents, boxes)], np.uint64)


def learned_digests(domain: Domain, index: np.ndarray) -> np.ndarray:
    """What tells whether images show what records int64 [m] do (`is_known`): uint64, sorted; of the images, and of the
    photographs that they are parts of.
    """
    return np.unique(np.concatenate([image_digests(domain, index), domain.contents[index].astype(np.uint64)]))


def is_known(domain: Domain, index: np.ndarray, digests: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Which of some records, int64 [m], show what was learned by `learned_digests`: bool [m].

    That is the same photograph, whatever its box; but of one that records `own` show too, whose parts the data set
    itself has on both sides, the same box, or the whole where `own` do not show that. An earlier version noted boxes
    alone.
    """
    photographs, images = domain.contents[index].astype(np.uint64), image_digests(domain, index)
    whole = np.array(WHOLE_IMAGE, domain.boxes.dtype)
    own_whole = own[(domain.boxes[own] == whole).all(axis=1)]

    def not_of(records: np.ndarray) -> np.ndarray:
        return ~np.isin(photographs, domain.contents[records].astype(np.uint64))

    wholes = _digests(domain.contents[index], np.broadcast_to(whole, (len(index), 4)))
    known = np.isin(images, digests) | (not_of(own) & np.isin(photographs, digests))
    return known | (not_of(own_whole) & np.isin(wholes, digests))


def write_seen(folder: RunFolder, config: Config, domain: Domain, split: Split, sources: Sequence[Learned]) -> None:
    """Leaves in a run's folder what it and the sources that it has taken from have seen; nothing where one of these
    does not say.
    """
    if any(source.seen is None for source in sources):
        return
    every = [Learned.of(folder.path, config, domain, split), *sources]
    digests = {"contents": [one.seen for one in every], "trained": [one.trained for one in every]}
    folder.write_arrays(SEEN, {name: np.unique(np.concatenate(parts)) for name, parts in digests.items()})


def read_seen(path: str) -> dict[str, np.ndarray]:
    """What a run's folder holds of the images that it has seen (`SEEN`); nothing where it does not say, as in an earlier
    version; raises UserError where what it said is damaged.
    """
    folder = RunFolder(path, lock=False)
    seen = folder.read_arrays(SEEN)
    if seen is None and folder.has(SEEN):
        raise UserError(
            f"Expected what the run in {path} has seen in its {SEEN}. Received: a damaged file; restore it from a copy."
        )
    return seen or {}


def expect_unseen(source: Learned, config: Config, domain: Domain, split: Split, flag: str = "source_run") -> None:
    """Raises UserError where a source has seen classes, or of classes on both sides images, on which a target is
    tested.

    Args:
      source: what something is taken from.
      config: the target's settings.
      domain, split: who is tested.
      flag: which names the source.
    """
    if source.classes is None:
        raise UserError(
            "Expected a run whose result.json says which classes it has seen. Received: "
            f"--{flag}={source.path}, whose does not, as in earlier versions; make it anew, or restore the file from a copy."
        )
    shown = domain.class_names(split.trained)
    new = domain.class_names(split.test) - shown
    alike = {
        name: its
        for name, its in attribute_names.respelt(new, source.classes).items()
        if not attribute_names.respelt([name], set(domain.classes) - {name})  # whose data tell the two apart
    }
    seen = [
        name if name in source.classes else f"{alike[name]}, here {name}"
        for name in sorted(new & (source.classes | alike.keys()))
    ]
    if seen:
        raise UserError(
            f"Expected a source that has not seen the classes that are tested. Received: --{flag}={source.path}, which "
            f"has seen {listed(seen, 1)}; {_same_split(source, config)}."
        )
    _expect_unseen_images(source, config, domain, split, flag)


def _expect_unseen_images(source: Learned, config: Config, domain: Domain, split: Split, flag: str) -> None:
    """Raises UserError where a source was trained on images that are tested: of classes on both sides, or of the same
    data by another name.
    """
    test = split.test
    if source.seen is None:
        if with_classes(domain)[test].all() and not domain.class_names(test) & source.classes:
            return
        raise UserError(
            f"Expected a run that says which images it has seen, since classes do not tell them from the tested ones. Received: --{flag}={source.path}, "
            "which does not, as in earlier versions; make it anew."
        )
    seen = test[is_known(domain, test, source.seen, split.trained)]
    if len(seen):
        raise UserError(
            f"Expected a source that has not seen the images that are tested. Received: --{flag}={source.path}, which was trained on "
            f"{len(seen)} of {len(test)}, the first is {domain.paths[seen[0]]}; {_same_split(source, config)}."
        )


def _same_split(source: Learned, config: Config) -> str:
    """How to keep apart what a source has seen and what is tested, in words."""
    if source.split == split_settings(config):
        return "take another source, or test what that one tests, by a column split in the table or by --splits_file"
    given = (f"no --{name}" if value == "" else f"--{name}={value}" for name, value in source.split.items())
    return f"give both runs the same split: {', '.join(given)}"


def split_settings(config: Config) -> dict[str, Any]:
    """Those of who is tested."""
    return {name: from_home(getattr(config, name)) for name in ("split_seed", "splits_file", "test_split")}
