"""The embedded domains: small pictures drawn by rule, since no data can be shipped.

They bear the names of the paper's domains and stand in for them: animals (awa),
objects (apay) and scenes (sun), 20 attributes and 24 classes each, a quarter of
the classes for testing only. Every attribute has a visible cause; a class is a
signature of attributes; pictures vary in pose, colour, light, noise and
occlusion. Some causes recur in another domain under another name
(`PLANTED_CORRESPONDENCES`), in other colours and at another scale.
"""

from __future__ import annotations

import numpy as np

from galm_tf.domains import build, pictures
from galm_tf.domains.domain import TEST, TRAIN, Domain
from galm_tf.domains.drawing import Canvas

NOTICE = "generated stand-in, not the real data set"
GENERATED_NAMES = tuple(pictures.PICTURES)
NUM_CLASSES, NUM_TEST_CLASSES = 24, 6
IMAGES_PER_CLASS = 50
_LOOSE_FLIP = 0.15  # share of images in which a loose attribute differs from its class
_LIMIT = 0.8  # largest correlation of two attributes over the classes

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
    ("awa/group", "sun/people"),
    ("apay/windows", "sun/lit_windows"),
    ("apay/vegetation", "sun/trees"),
    ("apay/afloat", "sun/lake"),
    ("apay/dotted", "sun/flowers"),
)


def load_generated(name: str, seed: int = 0, images_per_class: int = IMAGES_PER_CLASS) -> Domain:
    """One of GENERATED_NAMES; pictures are a function of (name, seed, class, number)."""
    picture = pictures.PICTURES[name]
    attributes = picture.attributes
    signatures = make_signatures(name, seed)
    rng = _rng(name, seed, 1)
    class_ids = np.repeat(np.arange(NUM_CLASSES), images_per_class)
    labels = signatures[class_ids]
    loose = np.isin(attributes, picture.loose)
    labels ^= (rng.random(labels.shape) < _LOOSE_FLIP) & loose

    def draw(index: int, size: int) -> np.ndarray:
        return draw_picture(name, labels[index], size, _rng(name, seed, 2 + index))

    test = class_ids >= NUM_CLASSES - NUM_TEST_CLASSES
    return build.build_domain(
        name,
        "generated",
        attributes=attributes,
        classes=[f"{picture.kind}{c:02d}" for c in range(NUM_CLASSES)],
        paths=[f"generated://{name}/seed{seed}/{c:02d}/{i % images_per_class:03d}" for i, c in enumerate(class_ids)],
        class_ids=class_ids,
        labels=labels.astype(np.float32),
        subsets=np.where(test, TEST, TRAIN),
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


def make_signatures(name: str, seed: int) -> np.ndarray:
    """Which class has which attribute: bool [24, 20].

    Every attribute has both labels several times among training and test
    classes, no two classes agree, no two attributes nearly do.
    """
    count = len(pictures.PICTURES[name].attributes)
    rng = _rng(name, seed, 0)
    columns: list[np.ndarray] = []
    while len(columns) < count:
        column = np.concatenate([_column(rng, NUM_CLASSES - NUM_TEST_CLASSES, 6, 10), _column(rng, NUM_TEST_CLASSES, 2, 3)])
        if all(abs(np.corrcoef(column, other)[0, 1]) < _LIMIT for other in columns):
            columns.append(column)
    signatures = np.stack(columns, axis=1)
    assert len(np.unique(signatures, axis=0)) == NUM_CLASSES, "two classes share a signature"
    return signatures


def _column(rng: np.random.Generator, rows: int, least: int, most: int) -> np.ndarray:
    column = np.zeros(rows, bool)
    column[rng.permutation(rows)[: rng.integers(least, most + 1)]] = True
    return column


def _rng(name: str, seed: int, stream: int) -> np.random.Generator:
    code = GENERATED_NAMES.index(name)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, code, stream])))
