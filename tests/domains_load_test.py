"""Finding layouts, joining domains, other splits, and what is refused on the way."""

from __future__ import annotations

import os
import pathlib
import shlex
import csv
import shutil
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from galm_tf.config import Config
from galm_tf.domains import build, files, load_domains
from galm_tf.domains import load as load_module
from galm_tf.domains.describe import describe, to_json, to_text
from galm_tf.domains.splits import make_split
from galm_tf.errors import UserError
from galm_tf.preprocess import BadImageError, decode_image

SHARED = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data"
real = pytest.mark.skipif(not (SHARED / "apay").is_dir(), reason="no ../shared/data")

CLASSES = [f"k{i:02d}" for i in range(12)]


def picture(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), tuple(zlib.crc32(str(path).encode()).to_bytes(4, "big")[:3])).save(path, "png")


def make_awa(root: pathlib.Path) -> pathlib.Path:
    """12 classes of 3 images, the last 3 classes tested."""
    for c in CLASSES:
        for i in range(3):
            picture(root / "JPEGImages" / c / f"{c}_{i}.png")
    (root / "classes.txt").write_text("".join(f"{i} {c}\n" for i, c in enumerate(CLASSES, 1)))
    (root / "predicates.txt").write_text("1 black\n2 furry\n")
    (root / "predicate-matrix-binary.txt").write_text("".join(f"{i % 2} {i // 2 % 2}\n" for i in range(12)))
    (root / "trainclasses.txt").write_text("\n".join(CLASSES[:9]))
    (root / "testclasses.txt").write_text("\n".join(CLASSES[9:]))
    return root


def make_table(root: pathlib.Path) -> pathlib.Path:
    rows = ["a.png,cat,train,1,", "b.png,cat,train,0,1", "c.png,dog,test,1,0"]
    for row in rows:
        picture(root / "images" / row.split(",")[0])
    (root / "attributes.csv").write_text("image,class,split,furry,metal\n" + "\n".join(rows))
    return root


def load(*pairs: tuple[str, pathlib.Path], **settings):
    names, folders = zip(*pairs)
    return load_domains(Config(domain=tuple(names), data_dir=tuple(map(str, folders)), **settings))


# Which layout, where.


def test_layout_is_found_by_content_not_by_name(tmp_path):
    assert load(("sun", make_awa(tmp_path / "a"))).layouts == ("awa",)
    assert load(("zoo", make_table(tmp_path / "t"))).layouts == ("table",)


def test_parent_of_one_data_set_is_enough(tmp_path):
    make_awa(tmp_path / "Animals_with_Attributes")
    (tmp_path / "notes").mkdir()
    assert load(("zoo", tmp_path)).layouts == ("awa",)


def test_parent_of_several_needs_a_choice(tmp_path):
    make_awa(tmp_path / "a")
    make_table(tmp_path / "t")
    with pytest.raises(UserError, match=r"Expected one data set in .*Received: a \(awa\), t \(table\)"):
        load(("zoo", tmp_path))
    assert load(("awa", tmp_path)).layouts == ("awa",)
    assert load(("zoo", tmp_path), layout=("table",)).layouts == ("table",)


def test_layout_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"Expected the sun layout in .*SUNAttributeDB.*Received: JPEGImages"):
        load(("zoo", make_awa(tmp_path / "a")), layout=("sun",))


def test_unknown_layout(tmp_path):
    with pytest.raises(UserError, match=r"--layout to be one of awa, apay, sun, table.*layout=tabel; nearest: table"):
        load(("zoo", tmp_path), layout=("tabel",))


def test_folder_without_a_layout(tmp_path):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(
        UserError,
        match=r"a known layout in .*attributes\.csv or attributes\.parquet \(table\).*Received: holiday; name another folder",
    ):
        load(("zoo", tmp_path))
    (tmp_path / "attributes.XLSX").touch()
    with pytest.raises(
        UserError,
        match=r"Received: attributes\.XLSX, holiday; write attributes\.csv there .*a spreadsheet saves as CSV in UTF-8",
    ):
        load(("zoo", tmp_path))


def test_missing_folder(tmp_path):
    with pytest.raises(
        UserError,
        match=r"Expected a folder in --data_dir, with the data of zoo. Received: .*nowhere, which is none; check its path, and name the new one by --data_dir where the data have moved",
    ):
        load(("zoo", tmp_path / "nowhere"))
    (tmp_path / "somewhere").mkdir()
    with pytest.raises(UserError, match=r"somwhere, which is none; nearest: .*/somewhere; check its path"):
        load(("zoo", tmp_path / "somwhere"))
    (tmp_path / "attributes.csv").write_text("image\n")
    with pytest.raises(UserError, match=r"attributes.csv, which is a file; give the folder it lies in"):
        load(("zoo", tmp_path / "attributes.csv"))


def test_empty_name_of_a_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"with the data of sun. Received: data_dir=.nothing.; name one for every domain"
    ):
        load_domains(Config(domain=("zoo", "sun"), data_dir=(str(make_awa(tmp_path / "a")), "")))


def test_unknown_domain_names_the_nearest():
    with pytest.raises(UserError, match=r"one of awa, apay, sun, or --data_dir.*domain=snu; nearest: sun"):
        load_domains(Config(domain=("snu",)))


@pytest.mark.parametrize("name", ["my/zoo", "a+b", ""])
def test_names_that_would_be_ambiguous(name):
    with pytest.raises(UserError, match="Expected names without"):
        load_domains(Config(domain=(name,)))


# Several domains.


def test_joined_domains_know_nothing_of_each_other(tmp_path):
    awa, own = ("zoo", make_awa(tmp_path / "a")), ("mine", make_table(tmp_path / "t"))
    joined, parts = load(awa, own), [load(awa), load(own)]
    assert joined.name == "zoo+mine" and joined.domain_names == ("zoo", "mine") and joined.layouts == ("awa", "table")
    assert joined.attributes == ("zoo/black", "zoo/furry", "mine/furry", "mine/metal")
    np.testing.assert_array_equal(joined.attribute_domains, [0, 0, 1, 1])
    np.testing.assert_array_equal(joined.image_domains, [0] * 36 + [1] * 3)
    np.testing.assert_array_equal(joined.labels[:36, :2], parts[0].labels)
    np.testing.assert_array_equal(joined.labels[36:, 2:], parts[1].labels)
    assert np.isnan(joined.labels[:36, 2:]).all() and np.isnan(joined.labels[36:, :2]).all()
    names = [part.classes[i] for part in parts for i in part.class_ids]
    assert [joined.classes[i] for i in joined.class_ids] == names
    assert joined.paths == parts[0].paths + parts[1].paths
    assert joined.subsets.tolist() == [*parts[0].subsets, *parts[1].subsets]
    assert joined.data_sources == ("official", "own") and not joined.generated


def test_generated_domains_join_and_draw_their_own_pictures():
    joined, single = load_domains(Config(domain=("awa", "sun"))), load_domains(Config(domain=("sun",)))
    assert joined.generated and joined.data_sources == ("generated", "generated")
    first = int(np.argmax(joined.image_domains == 1))
    np.testing.assert_array_equal(joined.draw(first + 7, 32), single.draw(7, 32))
    assert joined.paths[first + 7] == single.paths[7]


@real
def test_the_three_official_sets_as_one():
    names = ("awa", "apay", "sun")
    joined = load(*((name, SHARED / name) for name in names))
    assert len(joined.attributes) == 251 and len(joined.paths) == 8339 + 14689 + 5517
    own = joined.image_domains[:, None] == joined.attribute_domains[None]
    assert np.isfinite(joined.labels[own]).all() and np.isnan(joined.labels[~own]).all()
    assert joined.crop_paddings[0] == joined.crop_paddings[2] == 0 < joined.crop_paddings[1]


def test_a_domain_without_classes_beside_one_with_some_is_told_by_name(tmp_path):
    for i in range(30):
        picture(tmp_path / "y" / "images" / f"{i}.png")
    (tmp_path / "y" / "attributes.csv").write_text("image,furry\n" + "\n".join(f"{i}.png,{i % 2}" for i in range(30)))
    joined = load(("x", make_awa(tmp_path / "x")), ("y", tmp_path / "y"))
    (note,) = (note for note in joined.notes if build.tells_of_a_drawn_split(note) and "classes to hold out" in note)
    assert note == "There are no classes to hold out in y, so that the test tells nothing of unseen ones."
    every = np.arange(len(joined.paths))
    assert build.named_classes(joined, every) == {f"x/{c}" for c in CLASSES} < joined.class_names(every)
    description = describe(joined, make_split(joined, Config(domain=("x", "y"))))
    text, value = to_text(description), to_json(description)
    assert "66 images, 12 classes, " in text and "Test classes: x/k09, x/k10, x/k11\n" in text
    assert "y/image" not in text and "also trained" not in text
    assert value["num_classes"] == 12 and set(value["classes"]) == {f"x/{c}" for c in CLASSES}
    assert value["parts"]["test"]["classes"] == 3


# Other splits.


def test_split_seed_draws_other_classes_with_the_same_share(tmp_path):
    folder = make_awa(tmp_path / "a")
    tested = []
    for seed in (0, 0, 1, 2, 3):
        domain = load(("zoo", folder), split_seed=seed)
        test, train = (set(domain.class_ids[domain.subsets == part].tolist()) for part in ("test", "train"))
        assert len(test) == 3 and len(train) == 9 and not test & train and domain.class_disjoint
        tested.append(frozenset(test))
    assert tested[0] == tested[1] and len(set(tested)) >= 3


def test_without_classes_split_seed_tests_as_many_photographs_and_the_warning_stays(tmp_path):
    for i in range(30):
        picture(tmp_path / "images" / f"{i}.png")
    (tmp_path / "attributes.csv").write_text("image,furry\n" + "\n".join(f"{i}.png,{i % 2}" for i in range(30)))
    for settings in ({}, {"split_seed": 1}):
        domain = load(("zoo", tmp_path), **settings)
        assert (domain.subsets == "test").sum() == 6
        assert sum("There are no classes to hold out" in note for note in domain.notes) == 1


def test_no_domain_trains_on_photographs_that_another_tests(tmp_path):
    """Whatever their names there; within a domain its own split stands."""
    first, second = make_table(tmp_path / "a"), tmp_path / "b"
    (second / "images").mkdir(parents=True)
    for name, copied in (("x.png", "c.png"), ("y.png", "a.png"), ("z.png", "c.png")):
        (second / "images" / name).write_bytes((first / "images" / copied).read_bytes())
    picture(second / "images" / "w.png")
    rows = ["x.png,pig,train,1", "y.png,cow,test,0", "z.png,cow,test,1", "w.png,pig,train,0"]
    (second / "attributes.csv").write_text("image,class,split,furry\n" + "\n".join(rows))
    joined = load(("zoo", first), ("farm", second))
    assert joined.subsets.tolist() == ["unused", "train", "test", "unused", "test", "test", "train"]
    assert joined.notes[-1].startswith("2 of 4 training records show photographs that another domain tests")
    assert len(set(joined.photographs)) == 4
    alone = load(("farm", second))  # the user's own split, which tears a photograph apart
    assert alone.subsets.tolist() == ["train", "test", "test", "train"]


def test_tested_classes_that_another_domain_trains_on_are_named(tmp_path):
    joined = load(("zoo", make_awa(tmp_path / "a")), ("farm", make_awa(tmp_path / "b")))
    assert not any("called like tested ones" in note for note in joined.notes)
    table = make_table(tmp_path / "t")  # tests dog
    rows = ["x.png,DOG,train,1", "y.png,cow,test,0"]
    for name in ("x.png", "y.png"):
        picture(tmp_path / "u" / "images" / name)
    (tmp_path / "u" / "attributes.csv").write_text("image,class,split,furry\n" + "\n".join(rows))
    joined = load(("zoo", table), ("farm", tmp_path / "u"))
    assert "called like tested ones (zoo/dog): these are not new" in joined.notes[-1]


def test_split_seed_gives_every_domain_its_test_classes(tmp_path):
    joined = load(("zoo", make_awa(tmp_path / "a")), ("other", make_awa(tmp_path / "b")), split_seed=5)
    for group in (0, 1):
        test = joined.class_ids[(joined.subsets == "test") & (joined.image_domains == group)]
        assert len(np.unique(test)) == 3


def test_split_seed_leaves_unused_records_out(tmp_path):
    folder = tmp_path / "t"
    rows = [
        f"{c}{i}.png,{c},{'train' if c < 'k06' else 'test' if c < 'k09' else ''},1" for c in CLASSES for i in range(2)
    ]
    for row in rows:
        picture(folder / "images" / row.split(",")[0])
    (folder / "attributes.csv").write_text("image,class,split,red\n" + "\n".join(rows))
    for seed in range(4):
        domain = load(("mine", folder), split_seed=seed)
        assert (domain.subsets == "unused").sum() == 6 and (domain.subsets[18:] == "unused").all()
        assert len(np.unique(domain.class_ids[domain.subsets == "test"])) == 3


def write_splits(folder: pathlib.Path, images: list[str], trainval: list[int], unseen: list[int]) -> pathlib.Path:
    """The two files of xlsa17, numbers from 1."""
    folder.mkdir()
    cells = np.empty((len(images), 1), object)
    cells[:, 0] = images
    scipy.io.savemat(folder / "res101.mat", {"image_files": cells, "features": np.zeros((2, len(images)))})
    columns = {"trainval_loc": np.array(trainval)[:, None], "test_unseen_loc": np.array(unseen)[:, None]}
    scipy.io.savemat(folder / "att_splits.mat", {**columns, "test_seen_loc": np.array([[1]])})
    return folder / "att_splits.mat"


def listed(index: range) -> list[str]:
    return [f"/home/x/Animals//JPEGImages/{CLASSES[i]}/{CLASSES[i]}_{k}.png" for i in index for k in range(3)]


def test_splits_file_is_matched_by_folder_and_name(tmp_path):
    images = ["/home/x/JPEGImages/elk/elk_1.png", *listed(range(11, -1, -1))]  # another order, one image not here
    path = write_splits(tmp_path / "xlsa17", images, trainval=[1, 2, 3, 5], unseen=[20, 21, 22])
    domain = load(("zoo", make_awa(tmp_path / "a")), splits_file=str(path))
    parts = {pathlib.Path(p).name: s for p, s in zip(domain.paths, domain.subsets) if s != "unused"}
    train = dict.fromkeys(["k11_0.png", "k11_1.png", "k10_0.png"], "train")
    test = dict.fromkeys(["k05_0.png", "k05_1.png", "k05_2.png"], "test")
    assert parts == {**train, **test} and domain.class_disjoint
    assert "30 of 36 images of zoo are in neither list" in " ".join(domain.notes)


def test_a_splits_file_that_parts_copies_of_a_file_is_told(tmp_path):
    folder = make_awa(tmp_path / "a")
    for number in (0, 1):
        shutil.copy(
            folder / "JPEGImages" / "k00" / f"k00_{number}.png", folder / "JPEGImages" / "k05" / f"k05_{number}.png"
        )
    path = write_splits(tmp_path / "x", listed(range(12)), trainval=[1, 2, 3, 4], unseen=[16, 17, 18])
    told = (
        f"2 of 3 tested records of {path} show photographs that other records train on: give one photograph one split."
    )
    assert told in load(("zoo", folder), splits_file=str(path)).notes
    path = write_splits(tmp_path / "y", listed(range(12)), trainval=[3, 4], unseen=[16, 17, 18])
    assert "show photographs" not in " ".join(load(("zoo", folder), splits_file=str(path)).notes)


def test_splits_file_tells_the_objects_of_a_photograph_apart(tmp_path):
    folder = tmp_path / "t"
    picture(folder / "images" / "p.png")
    (folder / "attributes.csv").write_text(
        "image,class,left,top,right,bottom,red\np.png,cat,0,0,1,1,1\np.png,dog,1,1,2,2,0\np.png,cat,2,2,3,3,0\n"
    )
    path = write_splits(tmp_path / "x", ["images/p.png"] * 3, trainval=[1, 3], unseen=[2])
    assert load(("mine", folder), splits_file=str(path)).subsets.tolist() == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("trainval", "unseen", "expected"),
    [
        ([1, 37], [4], r"from 1 to 36 .*trainval_loc.*Received: 37"),
        ([0, 3], [4], r"from 1 to 36 .*trainval_loc.*Received: 0"),
        ([1, 1.5], [4], r"whole numbers in the variable trainval_loc of .*att_splits\.mat\. Received: 1\.5"),
        ([True, False], [4], r"image numbers in the variable trainval_loc of .*att_splits\.mat\. Received: .*logical"),
        ([1, 2], [2], r"disjoint trainval_loc and test_unseen_loc.*image 2 in both"),
    ],
)
def test_splits_file_with_wrong_numbers(tmp_path, trainval, unseen, expected):
    path = write_splits(tmp_path / "x", listed(range(12)), trainval, unseen)
    with pytest.raises(UserError, match=expected):
        load(("zoo", make_awa(tmp_path / "a")), splits_file=str(path))


def test_splits_file_of_another_data_set(tmp_path):
    path = write_splits(tmp_path / "x", ["images/a/abbey/sun_a.jpg"] * 3, [1, 2], [3])
    with pytest.raises(UserError, match=r"to list train images of zoo.*3 images, of which 0 are in the data folder"):
        load(("zoo", make_awa(tmp_path / "a")), splits_file=str(path))


def test_splits_file_without_its_parts(tmp_path):
    folder = make_awa(tmp_path / "a")
    (tmp_path / "split.csv").write_text("image,split\n")
    with pytest.raises(
        UserError, match=r"split\.csv, a table; the split of images of your own goes into the column split"
    ):
        load(("zoo", folder), splits_file=str(tmp_path / "split.csv"))
    with pytest.raises(UserError, match=r"Expected an att_splits\.mat.*nowhere\.mat"):
        load(("zoo", folder), splits_file=str(tmp_path / "nowhere.mat"))
    path = write_splits(tmp_path / "x", listed(range(12)), [1], [36])
    (path.parent / "res101.mat").unlink()
    with pytest.raises(UserError, match=r"Expected res101\.mat in .*/x.*check --splits_file"):
        load(("zoo", folder), splits_file=str(path))
    scipy.io.savemat(path, {"loc": np.zeros(3)})
    scipy.io.savemat(path.parent / "res101.mat", {"image_files": np.array(listed(range(12)))})
    with pytest.raises(UserError, match=r"variable trainval_loc in .*\['loc'\]"):
        load(("zoo", folder), splits_file=str(path))


def test_test_split_needs_an_apascal_domain(tmp_path):
    with pytest.raises(UserError, match=r"apay layout with --test_split=apascal.*zoo \(awa\)"):
        load(("zoo", make_awa(tmp_path / "a")), test_split="apascal")
    with pytest.raises(UserError, match=r"apay \(generated\)"):
        load_domains(Config(domain=("apay",), test_split="apascal"))


@pytest.mark.parametrize("other", [{"split_seed": 0}, {"splits_file": "x.mat"}])
def test_contradictory_splits_name_both(other):
    with pytest.raises(UserError, match=f"test_split=apascal and {next(iter(other))}={next(iter(other.values()))}"):
        load_domains(Config(domain=("apay",), test_split="apascal", **other))


# Symbolic links.


def test_endings_of_pictures_are_pillows():
    known = {".avif", *Image.registered_extensions()}  # older versions lack the first
    assert set(files.IMAGE_ENDINGS) <= known and len(set(files.IMAGE_ENDINGS)) == len(files.IMAGE_ENDINGS)


def test_link_out_of_the_data_folder_is_refused(tmp_path):
    secret = tmp_path / "secret.png"
    picture(secret)
    folder = make_table(tmp_path / "t")
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "a.png").symlink_to(secret)
    with pytest.raises(UserError, match=r"Expected files within .*a\.png, a symbolic link to .*secret\.png; copy"):
        load(("mine", folder))


@pytest.mark.parametrize("name", ["images", "attributes.csv"])
def test_linked_parts_of_a_data_folder_are_refused(tmp_path, name):
    folder = make_table(tmp_path / "t")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"{name}, a symbolic link to .*elsewhere"):
        load(("mine", folder))


def test_links_within_the_data_folder_and_to_it_are_followed(tmp_path):
    folder = make_table(tmp_path / "t")
    (folder / "images" / "a.png").rename(folder / "original.png")
    (folder / "images" / "a.png").symlink_to(folder / "original.png")
    (tmp_path / "link").symlink_to(folder)
    assert len(load(("mine", tmp_path / "link")).paths) == 3


def test_links_in_a_circle_end(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / name / f"{name}.png")
    os.symlink(tmp_path / "b", tmp_path / "a" / "to_b")
    os.symlink(tmp_path / "a", tmp_path / "b" / "to_a")
    os.symlink(tmp_path, tmp_path / "b" / "up")
    assert list(files.list_images(str(tmp_path))) == ["a/a.png", "a/to_b/b.png", "b/b.png", "b/to_a/a.png"]


def test_a_link_that_loops_is_a_picture_that_whoever_reads_it_names(tmp_path):
    folder = make_table(tmp_path / "t")
    for name in ("loop", ".hidden"):
        (folder / name).symlink_to(name)
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "a.png").symlink_to("a.png")
    domain = load(("mine", tmp_path))
    for leave in (False, True):
        assert list(files.list_images(str(folder), endings=("",), leave=leave)) == [
            "attributes.csv", "images/a.png", "images/b.png", "images/c.png", "loop",
        ]  # fmt: skip
    with pytest.raises(BadImageError, match=r"Expected a readable image\. Received: .*a\.png \(.*symbolic links"):
        decode_image(domain.paths[0])


# Attributes that the run shall not know.


def test_attributes_are_left_out_by_either_name(tmp_path):
    pairs = ("one", make_awa(tmp_path / "a")), ("two", make_table(tmp_path / "t"))
    whole, part = load(*pairs), load(*pairs, leave_out=("two/furry", "black"))
    assert part.attributes == ("one/furry", "two/metal")
    kept = [whole.attributes.index(name) for name in part.attributes]
    np.testing.assert_array_equal(part.labels, whole.labels[:, kept])
    assert load(*pairs, leave_out=("furry",)).attributes == ("one/black", "two/metal")


def test_a_name_with_a_comma_is_told_as_it_must_be_given(tmp_path):
    """`--leave_out="warm, sunny"` reaches the program as two names."""
    (tmp_path / "labels.csv").write_text('image,"warm, sunny",warm light\nk00_0.png,1,0\nk01_0.png,0,1\n')
    labelled = load(("one", make_awa(tmp_path / "a")), label_files=(str(tmp_path / "labels.csv"),))
    with pytest.raises(UserError) as error:
        load_module._without(labelled, ("warm", "sunny"))
    assert str(error.value).endswith("""Received: leave_out=warm; did you mean '--leave_out="warm, sunny"'?""")
    assert load_module._without(labelled, ("warm, sunny",)).attributes == ("one/black", "one/furry", "one/warm light")


@pytest.mark.parametrize("name, given", [("a,b", ("a", "b")), ("a, b", ("a", "b")), ('a,"b"', ("a", '"b"'))])
def test_a_folder_with_a_comma_is_told_as_it_must_be_given(tmp_path, name, given):
    folder = make_table(tmp_path / name)
    parts = (str(tmp_path / given[0]), given[1])
    with pytest.raises(UserError, match="is a part of a name that has a comma; give '(.*)'[.]$") as error:
        load(*zip(("one", "two"), parts))
    (flag,) = shlex.split(str(error.value).rsplit("; give ", 1)[1][:-1])
    assert next(csv.reader([flag.removeprefix("--data_dir=")])) == [str(folder)]


def test_a_table_may_bring_back_what_was_left_out(tmp_path):
    (tmp_path / "labels.csv").write_text("image,furry\nk00_0.png,1\nk01_0.png,0\n")
    domain = load(("one", make_awa(tmp_path / "a")), leave_out=("furry",), label_files=(str(tmp_path / "labels.csv"),))
    assert domain.attributes == ("one/black", "one/furry")
    assert np.isfinite(domain.labels[:, 1]).sum() == 2


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (("fury",), "Expected attributes of the data in --leave_out. Received: leave_out=fury; did you mean furry?"),
        (("black", "furry"), "Expected --leave_out to leave an attribute. Received: all 2 of one; name fewer."),
    ],
)
def test_attributes_that_cannot_be_left_out(tmp_path, left_out, message):
    with pytest.raises(UserError) as error:
        load(("one", make_awa(tmp_path / "a")), leave_out=left_out)
    assert str(error.value) == message
