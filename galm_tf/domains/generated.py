"""The embedded domains: small pictures drawn by rule, since no data can be shipped.

They bear the names of the paper's domains and stand in for them: animals (awa),
objects (apay) and scenes (sun), 20 attributes and 40 classes each, a quarter of
the classes for testing only. Every attribute has a visible cause; a class is a
signature of attributes; pictures vary in pose, colour, light, noise and
occlusion. Some causes recur in another domain under another name
(`PLANTED_CORRESPONDENCES`), drawn by the same means in other colours and at
another scale: what shares a name's meaning alone (people, a group of animals)
no network could find.
"""

from __future__ import annotations

import functools

import numpy as np

from galm_tf.domains import build, pictures
from galm_tf.domains.domain import TEST, TRAIN, Domain
from galm_tf.domains.drawing import Canvas

NOTICE = "generated stand-in, not the real data set"
GENERATED_NAMES = tuple(pictures.PICTURES)
# Many classes of few images: with 24 classes of 50, small networks learned the class in place of the attribute.
NUM_CLASSES, NUM_TEST_CLASSES = 40, 10
IMAGES_PER_CLASS = 28
_FLIP, _LOOSE_FLIP = 0.08, 0.2  # shares of images in which an attribute, or a loose one, differs from its class
_SHARES = (0.3, 0.5)  # of the classes that have an attribute, least and most
_SWAPS = 4000
_SIGNATURES, _LABELS, _PICTURE = range(3)  # streams of random numbers

PLANTED_CORRESPONDENCES = (
    ("awa/stripes", "apay/ribbed"),
    ("awa/spots", "apay/dotted"),
    ("awa/spiky", "apay/toothed"),
    ("awa/wings", "apay/fins"),
    ("awa/longleg", "apay/stilts"),
    ("awa/group", "apay/several"),
    ("awa/water", "sun/lake"),
    ("awa/forest", "sun/trees"),
    ("awa/arctic", "sun/snow"),
    ("awa/nocturnal", "sun/night"),
    ("apay/windows", "sun/lit_windows"),
    ("apay/vegetation", "sun/trees"),
    ("apay/afloat", "sun/lake"),
)


def load_generated(name: str, seed: int = 0, images_per_class: int = IMAGES_PER_CLASS) -> Domain:
    """One of GENERATED_NAMES; labels and pictures are functions of (name, seed, class, number in the class)."""
    picture = pictures.PICTURES[name]
    class_ids = np.repeat(np.arange(NUM_CLASSES), images_per_class)
    numbers = np.tile(np.arange(images_per_class), NUM_CLASSES)
    labels = make_signatures(name, seed)[class_ids] ^ _differences(name, seed, images_per_class)

    def draw(index: int, size: int) -> np.ndarray:
        rng = _rng(name, seed, _PICTURE, int(class_ids[index]), int(numbers[index]))
        return draw_picture(name, labels[index], size, rng)

    return build.build_domain(
        name,
        "generated",
        attributes=picture.attributes,
        classes=[f"{picture.kind}{c:02d}" for c in range(NUM_CLASSES)],
        paths=[f"generated://{name}/seed{seed}/{c:02d}/{i:03d}" for c, i in zip(class_ids, numbers)],
        class_ids=class_ids,
        labels=labels.astype(np.float32),
        subsets=np.where(class_ids >= NUM_CLASSES - NUM_TEST_CLASSES, TEST, TRAIN),
        source="generated",
        notes=[f"{name}: {NOTICE}."],
        draw=draw,
    )


def draw_picture(name: str, signature: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture that shows exactly the attributes of a bool [20] signature: uint8 [size, size, 3]."""
    picture = pictures.PICTURES[name]
    canvas = Canvas(size, rng)
    picture.draw(canvas, dict(zip(picture.attributes, (bool(s) for s in signature))))
    return canvas.finish(picture.noise)


@functools.cache
def make_signatures(name: str, seed: int) -> np.ndarray:
    """Which class has which attribute: bool [NUM_CLASSES, 20], read-only, the test classes last.

    Every attribute has both labels several times among training and among test
    classes, no two classes agree, and attributes hardly correlate, so that one
    cannot be learned by the cause of another.
    """
    count = len(pictures.PICTURES[name].attributes)
    rng = _rng(name, seed, _SIGNATURES)
    parts = [_decorrelated(rng, count, rows) for rows in (NUM_CLASSES - NUM_TEST_CLASSES, NUM_TEST_CLASSES)]
    signatures = np.concatenate(parts, axis=1).T
    assert len(np.unique(signatures, axis=0)) == NUM_CLASSES, "two classes share a signature"
    signatures.setflags(write=False)  # every caller gets this one
    return signatures


def _decorrelated(rng: np.random.Generator, count: int, rows: int) -> np.ndarray:
    """bool [count, rows]: random columns of a signature, improved by exchanging two classes in one of them."""
    low, high = (round(share * rows) for share in _SHARES)
    positives = rng.integers(low, high + 1, (count, 1))
    columns = (rng.random((count, rows)).argsort(axis=1).argsort(axis=1) < positives).astype(float)
    for _ in range(_SWAPS):
        j = rng.integers(count)
        gain, loss = (rng.choice(np.flatnonzero(columns[j] == value)) for value in (0, 1))
        swapped = columns[j].copy()
        swapped[[gain, loss]] = 1, 0
        others = _standardized(np.delete(columns, j, axis=0))
        # The number of positives stays, and so the variance: products compare as correlations do.
        if np.sum((others @ swapped) ** 2) < np.sum((others @ columns[j]) ** 2):
            columns[j] = swapped
    return columns > 0.5


def _standardized(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _differences(name: str, seed: int, images_per_class: int) -> np.ndarray:
    """Where an image differs from its class, as individuals do: bool [NUM_CLASSES * images_per_class, 20]."""
    picture = pictures.PICTURES[name]
    shape = (images_per_class, len(picture.attributes))
    chance = np.concatenate([_rng(name, seed, _LABELS, c).random(shape) for c in range(NUM_CLASSES)])
    return chance < np.where(np.isin(picture.attributes, picture.loose), _LOOSE_FLIP, _FLIP)


def _rng(name: str, seed: int, *stream: int) -> np.random.Generator:
    code = GENERATED_NAMES.index(name)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, code, *stream])))
