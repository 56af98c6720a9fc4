import dataclasses
import itertools
import json
import pathlib
import tracemalloc

import numpy as np
import pytest

from galm_tf.config import Config
from galm_tf.domains import load_domains, splits
from galm_tf.domains.build import build_domain
from galm_tf.domains.join import join_domains
from galm_tf.domains.splits import (
    MIN_LABELS,
    Split,
    _most_judgeable,
    most_telling,
    keep_few_positives,
    make_split,
    unlearnable_attributes,
    with_few_positives,
)
from galm_tf.errors import UserError

DATA = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data"


def _domain(labels, class_ids, test=(), unused=(), name="zoo", **settings):
    """A domain whose records of the classes in `test` are tested; labels [n, A]."""
    class_ids = np.asarray(class_ids)
    subsets = np.where(np.isin(class_ids, test), "test", np.where(np.isin(class_ids, unused), "unused", "train"))
    return build_domain(
        name,
        "table",
        attributes=[f"a{i}" for i in range(np.shape(labels)[1])],
        classes=[f"c{i}" for i in range(class_ids.max() + 1)],
        paths=[f"/{name}/{i}.png" for i in range(len(class_ids))],
        class_ids=class_ids,
        labels=labels,
        subsets=subsets,
        **settings,
    )


def _random_domain(seed=0, classes=14, images=20, attributes=9, name="zoo", **settings):
    rng = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(classes), images)
    shares = rng.random((classes, attributes)) * (rng.random((classes, attributes)) < 0.4)
    labels = (rng.random((len(class_ids), attributes)) < shares[class_ids]).astype(np.float32)
    return _domain(labels, class_ids, test=range(classes - 3, classes), name=name, **settings)


def _planted(name, held_out, helpers, classes=10):
    """Attribute i has 6 positives in class held_out[i] and 3 in each of two helpers: only holding out all
    of `held_out` leaves 5 on both sides of every attribute."""
    class_ids = np.repeat(np.arange(classes), 12)
    labels = np.zeros((len(class_ids), len(held_out)), np.float32)
    for i, (c, others) in enumerate(zip(held_out, helpers)):
        labels[np.flatnonzero(class_ids == c)[:6], i] = 1
        for other in others:
            labels[np.flatnonzero(class_ids == other)[:3], i] = 1
    return _domain(labels, class_ids, test=(classes - 1,), name=name)


def _config(**settings):
    return Config(domain=("zoo",), **settings)


def _worth(counts, members):
    """(attributes judged, -attributes left with too few labels to learn from), counted one by one."""
    judged = lost = 0
    for a in range(counts.shape[2]):
        held = [sum(int(counts[c, k, a]) for c in members) for k in (0, 1)]
        rest = [int(counts[:, k, a].sum()) - held[k] for k in (0, 1)]
        judged += min(held + rest) >= MIN_LABELS
        lost += min(counts[:, :, a].sum(axis=0)) >= MIN_LABELS > min(rest)
    return judged, -lost


@pytest.mark.parametrize("seed", range(8))
def test_held_out_classes_are_the_best_of_all_sets(seed):
    rng = np.random.default_rng(seed)
    positives = rng.poisson(rng.gamma(0.3, 8, (10, 12))).clip(0, 20)
    counts = np.stack([positives, 20 - positives], axis=1).astype(np.int32)
    number = 2 + seed % 2
    best = max(_worth(counts, members) for members in itertools.combinations(range(10), number))
    chosen = _most_judgeable(counts, np.full(10, 20), number, np.random.default_rng(100 + seed))
    assert len(set(chosen.tolist())) == number
    assert _worth(counts, chosen) == best


def test_the_order_of_attributes_settles_no_tie():
    """Of sets that are equally even sums in another order differ in their last bit."""
    of_classes = ["1011110", "1000000", "1101111", "0101010", "1100000", "1111001", "1100110", "0010101"]
    labels = np.repeat(np.array([list(map(float, row)) for row in of_classes], np.float32), 3, axis=0)
    chosen = {
        tuple(most_telling(labels[:, order], np.repeat(np.arange(8), 3), 2, np.random.default_rng(0), even=True))
        for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 40)
    }
    assert len(chosen) == 1


def test_the_planted_classes_are_held_out():
    domain = _planted("zoo", (1, 4), ((0, 2), (5, 7)))
    split = make_split(domain, _config(validation_class_fraction=0.2))
    assert split.held_out_classes == ("zoo/c1", "zoo/c4")
    assert set(domain.class_ids[split.validation_classes]) == {1, 4}
    assert split.judged_by == ("classes", "classes")


def test_the_class_of_half_the_images_is_not_held_out():
    counts = np.full((8, 2, 6), 2, np.int32)
    counts[0], counts[1, :, :4] = 20, 5  # class 0 alone could judge all attributes, class 1 four
    for seed in range(4):
        images = np.array([40, *[4] * 7])
        assert _most_judgeable(counts, images, 1, np.random.default_rng(seed)).tolist() == [1]
        assert _most_judgeable(counts, np.full(8, 4), 1, np.random.default_rng(seed)).tolist() == [0]
        for large, expected in ((20, 1), (12, 0)):  # 42 % of the images, 30 %
            images[0] = large
            assert _most_judgeable(counts, images, 1, np.random.default_rng(seed)).tolist() == [expected]


def test_two_classes_train_however_many_are_to_be_held_out():
    split = make_split(_random_domain(classes=6), _config(validation_class_fraction=0.5))
    assert len(split.held_out_classes) == 1  # of three


def test_choosing_among_many_classes_takes_little_memory():
    rng = np.random.default_rng(0)
    positives = (rng.random((300, 40)) < 0.02) * rng.integers(1, 20, (300, 40))
    counts = np.stack([positives, 20 - positives], axis=1).astype(np.int32)
    tracemalloc.start()
    chosen = _most_judgeable(counts, np.full(300, 20), 54, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(chosen) == 54
    assert peak < 32 * 2**20


def test_of_very_many_classes_some_that_judge_are_found_at_once(monkeypatch):
    """Of labels so rare that to judge them two classes would have to be exchanged at once."""
    rng = np.random.default_rng(0)
    classes = np.arange(24_000) % 6000
    rare = (rng.random((6000, 10)) < 0.0005)[classes]
    monkeypatch.setattr(splits, "_MANY_CLASSES", 100)
    chosen = most_telling(rare.astype(np.float32), classes, 1200, np.random.default_rng(0))
    inside = np.isin(classes, chosen)
    judged = ((rare[inside].sum(axis=0) >= MIN_LABELS) & (rare[~inside].sum(axis=0) >= MIN_LABELS)).sum()
    assert (
        len(np.unique(chosen)) == 1200 and judged >= 5
    )  # of 8 that some set judges; all starts and exchanges, in minutes, find 6


@pytest.mark.parametrize("name, at_best, number", [("sun", 40, 4), ("awa", 67, 4)])
def test_real_data_reach_the_attributes_that_are_possible(name, at_best, number):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {DATA / name}")
    config = Config(domain=(name,), data_dir=(str(DATA / name),))
    domain = load_domains(config)
    split = make_split(domain, config)
    assert len(split.held_out_classes) == number
    held = domain.labels[split.validation_classes]
    rest = domain.labels[np.concatenate([split.train, split.validation_images])]
    judged = [min((side[:, a] == v).sum() for side in (held, rest) for v in (0, 1)) >= 5 for a in range(held.shape[1])]
    assert sum(judged) >= at_best


@pytest.mark.parametrize("mode", ["classes", "images"])
def test_parts_are_disjoint_and_complete(mode):
    domain = _random_domain()
    subsets = domain.subsets.copy()
    subsets[domain.class_ids == 2] = "unused"
    split = make_split(_replace_subsets(domain, subsets), _config(validation_split=mode))
    parts = [split.train, split.validation_classes, split.validation_images, split.test]
    joined = np.concatenate(parts)
    assert len(joined) == len(set(joined.tolist()))
    assert set(joined.tolist()) == set(np.flatnonzero(subsets != "unused").tolist())
    assert np.array_equal(split.validation, np.sort(np.concatenate(parts[1:3])))
    assert set(split.test) == set(np.flatnonzero(subsets == "test"))
    assert (len(split.validation_classes) > 0) == (mode == "classes")
    held_out = set(domain.class_ids[split.validation_classes])
    assert {domain.classes[c] for c in held_out} == set(split.held_out_classes)
    assert not held_out & set(domain.class_ids[np.concatenate([split.train, split.validation_images])])


def _replace_subsets(domain, subsets):
    return dataclasses.replace(domain, subsets=subsets)


def test_a_share_of_the_images_of_every_class_is_held_out():
    sizes = [1, 2, 3, 9, 20, 44, 5]
    class_ids = np.repeat(np.arange(len(sizes)), sizes)
    domain = _domain(np.eye(2, dtype=np.float32)[class_ids % 2], class_ids, test=(6,))
    split = make_split(domain, _config(validation_split="images"))
    counts = np.bincount(domain.class_ids[split.validation_images], minlength=7)
    assert counts.tolist() == [0, 0, 1, 1, 2, 4, 0]


@pytest.mark.parametrize("mode", ["classes", "images"])
def test_no_photograph_both_trains_and_judges(mode):
    whole = _random_domain()
    rng = np.random.default_rng(3)
    # boxes of one photograph are of any classes
    paths = tuple(f"/zoo/{i}.png" for i in rng.integers(0, 400, len(whole.paths)))
    domain = dataclasses.replace(whole, paths=paths)
    split = make_split(domain, _config(validation_split=mode))
    shown = [{paths[i] for i in part} for part in (split.train, split.validation_classes, split.validation_images)]
    assert not shown[0] & (shown[1] | shown[2])
    training = np.flatnonzero(domain.subsets == "train")
    np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.validation])), training)
    apart = make_split(whole, _config(validation_split=mode))
    assert split.held_out_classes == apart.held_out_classes
    beside = [i for i in training if paths[i] in shown[1] and i not in set(split.validation_classes)]
    assert set(beside) <= set(split.validation_images)
    if mode == "classes":  # they are more than a tenth, so that no more are drawn of most classes
        assert beside and len(split.validation_images) < len(beside) + len(apart.validation_images)
    one = dataclasses.replace(whole, paths=("/zoo/0.png",) * len(paths))
    refused = {
        "classes": r"Received: 220 boxes in 1 photographs, all of them with one; add photographs\.",
        "images": r"3 images, not all of one photograph, .* Received: 220 images of 11 classes in 1 photographs with",
    }
    with pytest.raises(UserError, match=refused[mode]):
        make_split(one, _config(validation_split=mode))


@pytest.mark.parametrize("mode", ["classes", "images"])
@pytest.mark.parametrize(
    "boxes, share, of_a_class", [(1, 0.1, 2), (2, 0.1, 2), (5, 0.1, 5), (5, 0.3, 10), (10, 0.3, 10)]
)
def test_of_photographs_with_several_boxes_no_more_validate_than_the_share_needs(mode, boxes, share, of_a_class):
    """20 images of a class, as many of each photograph: a tenth are 2 of them, three tenths 6."""
    domain = _random_domain()
    paths = tuple(f"/zoo/{i // boxes}.png" for i in range(len(domain.paths)))
    split = make_split(
        dataclasses.replace(domain, paths=paths), _config(validation_split=mode, validation_fraction=share)
    )
    counts = np.bincount(domain.class_ids[split.validation_images], minlength=14)
    assert set(counts.tolist()) == {0, of_a_class} and (counts > 0).sum() == 11 - len(split.held_out_classes)


def test_no_class_leaves_training_with_the_photographs_that_validate():
    """Of class 2 every image is on a photograph of the first two, of class 3 all are of one."""
    class_ids = np.repeat([0, 1, 2, 3, 4], [10, 10, 4, 6, 5])
    domain = _domain(np.eye(2, dtype=np.float32)[class_ids % 2], class_ids, test=(4,))
    shown = [*range(20), 0, 1, 10, 11, *[20] * 6, *range(21, 26)]
    domain = dataclasses.replace(domain, paths=tuple(f"/zoo/{i}.png" for i in shown))
    for seed in range(20):
        split = make_split(domain, _config(validation_split="images", validation_fraction=0.5, seed=seed))
        trained, validated = (
            np.bincount(class_ids[part], minlength=5) for part in (split.train, split.validation_images)
        )
        assert trained[:4].all() and validated.tolist()[3:] == [0, 0] and validated[:2].min() >= 4


@pytest.mark.parametrize("every", [1, 2])
def test_classes_too_small_to_lend_images_leave_with_the_photographs_that_others_lend(every):
    """100 photographs show a person and, all or every second one, something that no other shows."""
    alone = np.arange(0, 100, every)
    class_ids = np.r_[np.zeros(100, int), 1 + np.arange(len(alone)), np.full(5, 1 + len(alone))]
    domain = _domain(np.eye(2, dtype=np.float32)[class_ids % 2], class_ids, test=(1 + len(alone),))
    shown = [*range(100), *alone, *range(100, 105)]
    domain = dataclasses.replace(domain, paths=tuple(f"/zoo/{i}.png" for i in shown))
    for seed in range(8):
        split = make_split(domain, _config(validation_split="images", validation_fraction=0.1, seed=seed))
        assert (class_ids[split.validation_images] == 0).sum() == 10


def test_no_photograph_of_two_joined_domains_trains_in_one_and_judges_in_the_other():
    zoo, farm = _random_domain(), _random_domain(seed=1, name="farm")
    joined = join_domains([zoo, dataclasses.replace(farm, paths=zoo.paths)])
    split = make_split(joined, _config(validation_split="images"))
    assert len(split.train) and not {joined.paths[i] for i in split.train} & {joined.paths[i] for i in split.validation}


def test_a_split_is_a_function_of_its_seed():
    domain = _random_domain()
    one, again, other = (make_split(domain, _config(seed=s)) for s in (3, 3, 4))
    assert one.to_json() == again.to_json()
    assert one.validation_images.tolist() != other.validation_images.tolist()
    by_split_seed = make_split(domain, _config(seed=4, split_seed=3))
    assert by_split_seed.to_json() == one.to_json()
    by_none = make_split(domain, _config(seed=4, split_seed=0))  # 0 is one, too
    assert by_none.to_json() == make_split(domain, _config(seed=0)).to_json() != other.to_json()


def test_validation_comes_after_what_trained_before_it():
    split = make_split(_random_domain(), _config())
    np.testing.assert_array_equal(split.trained, [*split.train, *split.validation])


def test_json_round_trip():
    split = make_split(_random_domain(), _config())
    back = Split.from_json(json.loads(json.dumps(split.to_json())))
    assert back.to_json() == split.to_json()
    for field in ("train", "validation_classes", "validation_images", "test", "testable"):
        assert getattr(back, field).dtype == getattr(split, field).dtype
        assert np.array_equal(getattr(back, field), getattr(split, field))


def test_select_attributes_keeps_the_images():
    domain = _random_domain()
    split = make_split(domain, _config())
    keep = np.arange(9) % 2 == 0
    part = split.select_attributes(keep)
    assert np.array_equal(part.train, split.train)
    assert part.judged_by == split.judged_by[::2]
    assert np.array_equal(part.testable, split.testable[::2])


def test_a_selection_keeps_what_is_of_its_images_and_attributes():
    domain = _random_domain()
    rng, n = np.random.default_rng(4), len(domain.paths)
    domain = dataclasses.replace(
        domain,
        boxes=rng.integers(0, 99, (n, 4)),
        shares=rng.random(domain.labels.shape).astype(np.float32),
        contents=rng.integers(0, 99, n).astype(np.uint64),
        attribute_domains=np.arange(9) % 2,
    )
    images, attributes = np.array([250, 3, 77]), np.array([1, 5, 8])
    few = domain.select_images(images).select_attributes(np.isin(np.arange(9), attributes))
    for field in ("boxes", "class_ids", "subsets", "contents"):
        np.testing.assert_array_equal(getattr(few, field), getattr(domain, field)[images], err_msg=field)
    for field in ("labels", "shares"):
        np.testing.assert_array_equal(getattr(few, field), getattr(domain, field)[np.ix_(images, attributes)])
    assert few.paths == tuple(domain.paths[i] for i in images) and few.attribute_domains.tolist() == [1, 1, 0]


def test_every_joined_domain_holds_out_its_own_classes():
    domains = [_planted("zoo", (1, 4), ((0, 2), (5, 7))), _planted("farm", (3, 6), ((0, 1), (2, 8)))]
    joined = join_domains(domains)
    split = make_split(joined, _config(validation_class_fraction=0.2))
    assert split.held_out_classes == ("zoo/c1", "zoo/c4", "farm/c3", "farm/c6")
    assert split.judged_by == ("classes",) * 4
    assert not unlearnable_attributes(joined, split.train)


def test_a_joined_domain_holds_out_what_it_would_alone():
    """So that a joint run, as a source, has not seen what its members validate on."""
    farm, zoo = _random_domain(name="farm"), _random_domain(seed=1, name="zoo")
    joined, alone = make_split(join_domains([farm, zoo]), _config()), make_split(zoo, _config())
    assert len(alone.validation_images) and len(alone.validation_classes)
    for part in ("validation_images", "validation_classes", "test"):
        theirs = getattr(joined, part) - len(farm.paths)
        np.testing.assert_array_equal(theirs[theirs >= 0], getattr(alone, part), err_msg=part)


def test_few_positives_are_nested_and_only_taken_from_training():
    domain = _random_domain(images=30)
    split = make_split(domain, _config())
    names = domain.attributes
    few, more = (
        keep_few_positives(domain.labels, names, split.train, dict.fromkeys(names, count), seed=4) for count in (3, 7)
    )
    others = np.setdiff1d(np.arange(len(domain.paths)), split.train)
    np.testing.assert_array_equal(few[others], domain.labels[others])
    known = [(labels[split.train] > 0.5) for labels in (few, more, domain.labels)]
    np.testing.assert_array_equal(known[0].sum(0), np.minimum(3, known[2].sum(0)))
    np.testing.assert_array_equal(known[1].sum(0), np.minimum(7, known[2].sum(0)))
    assert not (known[0] & ~known[1]).any() and not (known[1] & ~known[2]).any()
    np.testing.assert_array_equal(few == 0, domain.labels == 0)
    assert np.isnan(few[domain.labels > 0.5]).sum() == (known[2].sum(0) - known[0].sum(0)).sum()
    back = keep_few_positives(domain.labels[:, ::-1], names[::-1], split.train, {names[0]: 3}, seed=4)
    np.testing.assert_array_equal(back[:, -1], few[:, 0])  # whatever others there are
    np.testing.assert_array_equal(back[:, :-1], domain.labels[:, :0:-1])


def test_of_few_positives_the_votes_are_known_and_of_no_negative():
    domain = _random_domain(images=30)
    shares = np.where(domain.labels > 0.5, 2 / 3, 1 / 3).astype(np.float32)
    domain = dataclasses.replace(domain, shares=shares)
    split = make_split(domain, _config())
    few = with_few_positives(domain, split.train, _config(train_positives=3))
    known = few.targets[split.train]
    np.testing.assert_array_equal((known > 0.5).sum(0), np.minimum(3, (domain.labels[split.train] > 0.5).sum(0)))
    np.testing.assert_allclose(np.unique(known[np.isfinite(known)]), [0, 2 / 3], rtol=1e-6)
    assert with_few_positives(domain, split.train, _config()) is domain


def test_attributes_of_which_all_positives_are_known_keep_their_votes_beside_those_of_few():
    domain = _random_domain(images=30)
    shares = np.where(domain.labels > 0.5, 2 / 3, 1 / 3).astype(np.float32)
    domain = dataclasses.replace(domain, shares=shares)
    few = with_few_positives(domain, make_split(domain, _config()).train, _config(), {domain.attributes[0]: 3})
    np.testing.assert_array_equal(few.shares[:, 1:], shares[:, 1:])
    assert np.isnan(few.shares[domain.labels[:, 0] < 0.5, 0]).all()


def test_of_draws_that_judge_as_many_the_first_is_taken():
    domain = _random_domain()
    draws = [np.flatnonzero(domain.class_ids == c)[:3] for c in (1, 2)]
    none = np.zeros(0, np.int64)
    assert len({splits._judges(domain, none, drawn)[0].count("none") for drawn in draws}) == 1
    np.testing.assert_array_equal(splits._most_judging(domain, none, draws), draws[0])


def test_which_positives_are_known_goes_by_the_split_and_not_by_the_seed():
    domain = _random_domain(images=30)
    train = make_split(domain, _config()).train
    first, same, other = (
        with_few_positives(domain, train, _config(train_positives=3, **seeds)).labels
        for seeds in ({"seed": 1}, {"seed": 2}, {"seed": 1, "split_seed": 5})
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other, equal_nan=True)


def test_a_neighbour_with_trained_test_classes_does_not_stop_the_others():
    halves = _random_domain(name="halves")
    subsets = np.where(np.arange(len(halves.paths)) % 2, "test", "train")
    halves = dataclasses.replace(halves, subsets=subsets)
    joined = join_domains([_planted("zoo", (1, 4), ((0, 2), (5, 7))), halves])
    split = make_split(joined, _config(validation_class_fraction=0.2))
    assert split.held_out_classes == ("zoo/c1", "zoo/c4")
    alone = make_split(halves, _config())
    assert alone.held_out_classes == () and len(alone.validation_images)


def test_fewer_than_three_training_classes_hold_out_images_only():
    class_ids = np.repeat([0, 1, 2], 20)
    domain = _domain(np.eye(3, dtype=np.float32)[class_ids], class_ids, test=(2,))
    split = make_split(domain, _config())
    assert split.held_out_classes == () and len(split.validation_images) == 4


def test_what_judges_an_attribute():
    class_ids = np.repeat(np.arange(5), 100)
    labels = np.zeros((500, 5), np.float32)
    labels[:50, 0] = labels[100:150, 0] = 1  # both labels in classes 0 and 1
    labels[100:400, 1] = np.arange(300) % 2  # both labels in classes 1 to 3
    labels[150, 2] = 1  # one positive in all
    labels[:, 3] = np.nan  # unknown
    labels[:400, 4] = np.arange(400) % 2
    labels[400:450, :] = 1
    labels[:, 3] = np.nan
    labels[400:, 4] = np.nan
    domain = _domain(labels, class_ids, test=(4,))
    split = make_split(domain, _config(validation_class_fraction=0.25))
    held = domain.labels[split.validation_classes]
    expected = [min((held[:, a] == v).sum() for v in (0, 1)) >= 5 for a in range(5)]
    assert [judge == "classes" for judge in split.judged_by] == expected
    assert split.judged_by[0] in ("classes", "images") and split.judged_by[1] in ("classes", "images")
    assert split.judged_by[2] == split.judged_by[3] == "none"
    assert split.reasons["zoo/a3"] == (
        "not judged: no known label among the validation images; not tested: no known label among the test images"
    )
    assert split.reasons["zoo/a2"].startswith("not judged: ") and "positive" in split.reasons["zoo/a2"]
    assert split.reasons["zoo/a4"] == "not tested: no known label among the test images"
    assert split.testable.tolist() == [True, True, True, False, False]


def test_one_image_of_either_label_is_enough_to_be_tested():
    class_ids = np.repeat([0, 1, 2], 20)
    labels = np.zeros((60, 2), np.float32)
    labels[:40:2], labels[40, 0] = 1, 1  # of the tested class one has the first attribute, none the second
    assert make_split(_domain(labels, class_ids, test=(2,)), _config()).testable.tolist() == [True, False]


def test_what_validation_or_the_test_alone_can_judge_is_not_judged_and_tested():
    split = make_split(_random_domain(attributes=4), _config())
    judged_by, testable = ("classes", "images", "none", "none"), np.array([True, False, True, False])
    split = dataclasses.replace(split, judged_by=judged_by, testable=testable)
    assert split.judged_and_tested.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "images, positives, judge",
    [(60, 4, "none"), (60, 5, "images"), (30, 2, "none"), (30, 3, "images"), (6, 1, "none"), (6, 2, "images")],
)
def test_few_validation_images_need_fewer_labels(images, positives, judge):
    """One class gives `images` validation images, of which `positives` are positive."""
    class_ids = np.repeat([0, 1], [2 * images, 10])
    domain = _domain(np.zeros((len(class_ids), 1), np.float32), class_ids, test=(1,))
    config = _config(validation_fraction=0.5)
    chosen = make_split(domain, config).validation_images
    assert len(chosen) == images
    domain.labels[chosen[:positives]] = 1
    split = make_split(domain, config)
    assert split.judged_by == (judge,)
    told = f"not judged: fewer than {positives + 1} positives among the validation images"
    assert split.reasons["zoo/a0"].startswith(told) == (judge == "none")


@pytest.mark.parametrize("kind", [1.0, 0.0])
@pytest.mark.parametrize("known, judge", [(4, "images"), (5, "classes")])
def test_held_out_classes_judge_alone_only_by_five_of_either_label(kind, known, judge):
    """However few their labels are."""
    class_ids = np.repeat(np.arange(3), 12)
    labels = np.full((36, 1), np.nan, np.float32)
    labels[:6], labels[6:12], labels[12:18], labels[18:24] = kind, 1 - kind, kind, 1 - kind
    labels[known:6] = np.nan  # of the class that is held out
    domain, index = _domain(labels, class_ids, test=(2,)), np.arange(24)
    split = Split(index[12:18], index[:12], index[18:24], np.arange(24, 36), ("zoo/c0",), (), np.zeros(0, bool), {})
    assert splits.with_judges(split, domain).judged_by == (judge,)


@pytest.mark.parametrize("images, taken", [(3, 1), (14, 1), (16, 2), (24, 2), (26, 3)])
def test_the_share_of_a_class_is_rounded(images, taken):
    domain = _domain(np.zeros((images + 4, 1), np.float32), np.repeat([0, 1], [images, 4]), test=(1,))
    split = make_split(domain, _config(validation_fraction=0.1))
    assert len(split.validation_images) == taken and len(split.train) == images - taken


def _judged(domain, **settings):
    return len(domain.attributes) - make_split(domain, _config(**settings)).judged_by.count("none")


@pytest.mark.parametrize("images, classes, least", [(48, 6, 2.5), (100, 10, 5.0), (100, 1, 5.5), (200, 1, 6.0)])
def test_of_few_images_those_validate_that_judge_most(images, classes, least):
    """Six attributes that 20 to 50 % have, of whole classes where there are some: the mean of twenty seeds."""
    counts = []
    for seed in range(20):
        rng, shares = np.random.default_rng(seed), np.linspace(0.2, 0.5, 6)
        class_ids = np.arange(images) % classes
        of_class = np.stack([rng.permutation(classes) < max(2, round(share * classes)) for share in shares], axis=1)
        labels = of_class[class_ids] if classes > 1 else rng.random((images, 6)) < shares
        trained = _domain(labels.astype(np.float32), class_ids, test=(classes - 1,) if classes > 1 else ())
        if classes == 1:
            trained = dataclasses.replace(
                trained, subsets=np.where(rng.permutation(images) < images / 5, "test", "train")
            )
        counts.append(_judged(trained, seed=seed))
    assert np.mean(counts) >= least


def test_of_many_images_the_first_draw_validates():
    domain = _random_domain(images=60)
    draws = splits._draws(domain, np.arange(600), np.zeros(0, np.int64), np.arange(len(domain.paths)), 0.1, 0)
    np.testing.assert_array_equal(
        splits._most_judging(domain, np.zeros(0, np.int64), draws),
        splits._share_of_each_class(
            domain, np.arange(600), np.zeros(0, np.int64), np.arange(len(domain.paths)), 0.1, 0, 0
        ),
    )


def test_unlearnable_attributes_and_unknown_labels():
    labels = np.array([[1, 0, np.nan, 1, 1], [1, 0, np.nan, 0, np.nan], [0, 1, 1, 0, np.nan]], np.float32)
    domain = _domain(labels, np.array([0, 0, 1]))
    assert unlearnable_attributes(domain, np.array([0, 1])) == {
        "zoo/a0": "no negative among the 2 training images",
        "zoo/a1": "no positive among the 2 training images",
        "zoo/a2": "no known label among the 2 training images",
        "zoo/a4": "no negative among the 2 training images",
    }


def test_the_reason_counts_images_of_the_own_domain():
    parts = [_domain(np.zeros((n, 1)), np.zeros(n, int), name=name) for name, n in (("zoo", 4), ("farm", 7))]
    assert unlearnable_attributes(join_domains(parts), np.arange(2, 11)) == {
        "zoo/a0": "no positive among the 2 training images",
        "farm/a0": "no positive among the 7 training images",
    }


def test_unknown_labels_never_count():
    """Were NaN a negative, attribute 0 would be judged and tested."""
    domain = _random_domain()
    domain.labels[:, 0] = np.where(domain.labels[:, 0] == 1, 1, np.nan)
    split = make_split(domain, _config())
    assert split.judged_by[0] == "none" and not split.testable[0]
    assert "no negative" in split.reasons["zoo/a0"]


@pytest.mark.parametrize("test, missing", [((), "test"), ((0, 1, 2), "training")])
def test_a_part_without_images_is_an_error(test, missing):
    class_ids = np.repeat([0, 1, 2], 5)
    with pytest.raises(UserError, match=f"Expected {missing} images in zoo. Received: none of 15"):
        make_split(_domain(np.zeros((15, 1)), class_ids, test=test), _config())


def test_nothing_to_hold_out_is_an_error():
    domain = _domain(np.zeros((6, 1)), np.repeat([0, 1, 2], 2), test=(2,))
    with pytest.raises(
        UserError, match="Received: 4 images of 2 classes in 4 photographs with --validation_split=classes; add images"
    ):
        make_split(domain, _config())
