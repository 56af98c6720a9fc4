"""What the generated pictures show: exactly their labels, at any size, and nothing twice."""

import functools
import hashlib

import numpy as np
import pytest

from galm_tf.domains import generated, pictures
from galm_tf.domains.generated import GENERATED_NAMES, PLANTED_CORRESPONDENCES, draw_picture

NAMES = pytest.mark.parametrize("name", GENERATED_NAMES)
SEEN = 20  # grey levels by which a pixel must change to be seen
SIDE = 64
load_generated = functools.cache(generated.load_generated)


@functools.cache
def _signatures(name):
    return generated.make_signatures(name, seed=0)


def _picture(name, signature, seed, size=SIDE):
    return draw_picture(name, signature, size, np.random.default_rng(seed)).astype(np.int32)


def _toggled(name, attribute, seed, signature):
    """[64, 64] largest change of a channel when one attribute is switched."""
    column = pictures.PICTURES[name].attributes.index(attribute)
    off, on = signature.copy(), signature.copy()
    off[column], on[column] = False, True
    return np.abs(_picture(name, on, seed) - _picture(name, off, seed)).max(axis=2)


@NAMES
def test_paths_name_class_and_number(name):
    domain = load_generated(name)
    assert 1000 <= len(domain.paths) <= 1200 and len(set(domain.paths)) == len(domain.paths)
    assert set(np.bincount(domain.class_ids)) == {generated.IMAGES_PER_CLASS}
    for path, c in zip(domain.paths, domain.class_ids):
        assert path.startswith(f"generated://{name}/seed0/{c:02d}/")


@NAMES
@pytest.mark.parametrize("seed", [1, 2])
def test_every_seed_gives_distinct_signatures_with_both_labels_on_both_sides(name, seed):
    signatures = generated.make_signatures(name, seed)
    assert len({tuple(row) for row in signatures}) == generated.NUM_CLASSES
    correlation = np.corrcoef(signatures.T.astype(float))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.5
    trained, tested = np.split(signatures, [generated.NUM_CLASSES - generated.NUM_TEST_CLASSES])
    for part, least in ((trained, 3), (tested, 2)):
        assert part.sum(axis=0).min() >= least and (~part).sum(axis=0).min() >= least


@NAMES
def test_individuals_differ_from_their_class_as_often_as_promised(name):
    domain, picture = load_generated(name), pictures.PICTURES[name]
    share = (domain.labels.astype(bool) != _signatures(name)[domain.class_ids]).mean(axis=0)
    loose = np.isin(picture.attributes, picture.loose)
    # Four standard errors of a share among 1120 images are 0.05 and 0.03.
    np.testing.assert_allclose(share[loose], generated._LOOSE_FLIP, atol=0.05)
    np.testing.assert_allclose(share[~loose], generated._FLIP, atol=0.035)


@NAMES
def test_an_image_does_not_depend_on_how_many_there_are(name):
    few, many = load_generated(name, images_per_class=3), load_generated(name)
    for path in ("00/002", "17/000", "39/001"):
        i, j = (d.paths.index(f"generated://{name}/seed0/{path}") for d in (few, many))
        np.testing.assert_array_equal(few.labels[i], many.labels[j])
        np.testing.assert_array_equal(few.draw(i, 32), many.draw(j, 32))


@NAMES
def test_no_two_images_are_equal(name):
    domain, chosen = load_generated(name), range(0, 1000, 25)
    assert len({hashlib.sha256(domain.draw(i, 32).tobytes()).digest() for i in chosen}) == len(chosen)


@NAMES
def test_sizes_differ_in_detail_only(name):
    domain = load_generated(name)
    for index in (5, 1000):
        small, other = domain.draw(index, SIDE).astype(float), domain.draw(index + 1, SIDE).astype(float)
        large = domain.draw(index, 4 * SIDE)
        difference = np.abs(large.reshape(SIDE, 4, SIDE, 4, 3).mean(axis=(1, 3)) - small).mean()
        assert difference < 4.0 and difference < 0.2 * np.abs(other - small).mean(), (index, difference)
        assert domain.draw(index, 33).shape == (33, 33, 3)


@NAMES
def test_the_label_is_what_is_drawn(name, monkeypatch):
    domain, picture, shown = load_generated(name), pictures.PICTURES[name], {}

    def record(canvas, show):
        shown.update(show)
        picture.draw(canvas, show)

    monkeypatch.setitem(pictures.PICTURES, name, pictures.Picture(picture.kind, picture.attributes, (), 0.0, record))
    for index in (3, 555, 1100):
        domain.draw(index, 32)
        np.testing.assert_array_equal([shown[a] for a in picture.attributes], domain.labels[index] > 0.5)


@pytest.mark.parametrize("name, attribute", [(n, a) for n in GENERATED_NAMES for a in pictures.PICTURES[n].attributes])
def test_an_attribute_changes_enough_to_be_seen(name, attribute):
    signatures = _signatures(name)[::4]
    changed = [(_toggled(name, attribute, seed, s) > SEEN).sum() for seed, s in enumerate(signatures)]
    # In single pictures something may stand before it, or it may be night.
    assert np.median(changed) > 48 and np.mean(np.array(changed) > 16) >= 0.8, changed


@NAMES
def test_an_attribute_leaves_the_rest_alone(name):
    """Its random numbers are drawn whether it shows or not, so that nothing else moves."""
    states = set()
    for signature in (*_signatures(name)[:8], np.zeros(20, bool), np.ones(20, bool)):
        rng = np.random.default_rng(0)
        draw_picture(name, signature, 32, rng)
        states.add(rng.integers(2**62))
    assert len(states) == 1


def test_correspondences_join_every_two_domains_under_different_names():
    joined = [tuple(sorted(a.split("/")[0] for a in pair)) for pair in PLANTED_CORRESPONDENCES]
    assert len(set(PLANTED_CORRESPONDENCES)) == len(PLANTED_CORRESPONDENCES)
    assert min(joined.count(pair) for pair in (("apay", "awa"), ("awa", "sun"), ("apay", "sun"))) >= 3
    assert all(len({a.split("/")[1] for a in pair}) == 2 for pair in PLANTED_CORRESPONDENCES)


@pytest.mark.parametrize("pair", PLANTED_CORRESPONDENCES, ids="-".join)
def test_a_correspondence_is_never_pixel_equal(pair):
    """From the same random numbers, the two causes change other pixels, or by other amounts."""
    first, second = (
        _toggled(name, attribute, 0, np.zeros(20, bool)) for name, attribute in (full.split("/") for full in pair)
    )
    either = np.maximum(first, second) > SEEN
    assert either.any() and (np.abs(first - second) > 2)[either].mean() > 0.9


def test_domains_draw_different_pictures_from_the_same_numbers():
    drawn = [_picture(name, np.zeros(20, bool), 0) for name in GENERATED_NAMES]
    for i in range(3):
        assert (np.abs(drawn[i] - drawn[i - 1]).max(axis=2) > SEEN).mean() > 0.3
