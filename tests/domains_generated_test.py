import numpy as np
import pytest

from galm_tf.domains import generated, pictures
from galm_tf.domains.domain import TEST, TRAIN

NAMES = generated.GENERATED_NAMES


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_disjoint_classes(name):
    domain = generated.load_generated(name)
    assert len(domain.attributes) >= 16 and len(domain.classes) >= 16
    train, test = (set(domain.class_ids[domain.subsets == s]) for s in (TRAIN, TEST))
    assert train and test and not train & test
    assert domain.data_sources == ("generated",) and generated.NOTICE in domain.notes[0]


@pytest.mark.parametrize("name", NAMES)
def test_both_labels_occur_in_several_classes_on_both_sides(name):
    signatures = generated.make_signatures(name, 0)
    split = generated.NUM_CLASSES - generated.NUM_TEST_CLASSES
    for part, least in ((signatures[:split], 5), (signatures[split:], 2)):
        assert part.sum(axis=0).min() >= least and (~part).sum(axis=0).min() >= least
    correlation = np.corrcoef(signatures[:split].T) - np.eye(signatures.shape[1])
    assert np.abs(correlation).max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_functions_of_the_seed(name):
    first, same, other = (generated.load_generated(name, seed).draw(7, 64) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first.astype(int) - other).mean() > 2
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_any_size_shows_the_same_picture(name):
    domain = generated.load_generated(name)
    for index in (3, 500):
        small, large = (domain.draw(index, size).astype(float) for size in (64, 128))
        halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_has_a_visible_cause(name):
    """Toggling an attribute changes pixels, in most of several pictures and by more than noise."""
    attributes = pictures.PICTURES[name].attributes
    for i in range(len(attributes)):
        visible = 0
        for number in range(6):
            signature = generated.make_signatures(name, 0)[number].copy()
            drawn = []
            for value in (False, True):
                signature[i] = value
                drawn.append(generated.draw_picture(name, signature, 64, np.random.default_rng(number)).astype(int))
            visible += (np.abs(drawn[0] - drawn[1]).max(axis=2) > 40).sum() >= 12
        assert visible >= 4, attributes[i]


def test_planted_correspondences_name_attributes_of_two_domains_and_differ_in_pixels():
    for pair in generated.PLANTED_CORRESPONDENCES:
        names, attributes = zip(*(full.split("/") for full in pair))
        assert names[0] != names[1]
        drawn = []
        for name, attribute in zip(names, attributes):
            known = pictures.PICTURES[name].attributes
            signature = np.array([a == attribute for a in known])
            assert signature.sum() == 1, pair
            drawn.append(generated.draw_picture(name, signature, 64, np.random.default_rng(0)))
        assert not np.array_equal(*drawn)


def test_images_differ_from_their_class_now_and_then():
    domain = generated.load_generated("awa")
    signatures = generated.make_signatures("awa", 0)
    share = (domain.labels != signatures[domain.class_ids]).mean()
    assert 0.02 < share < 0.3
