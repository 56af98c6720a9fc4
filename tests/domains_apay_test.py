"""aPascal/aYahoo: lines, boxes, halves and crops against a plain reading; damaged lines end in one sentence."""

from __future__ import annotations

import pathlib
import time

import numpy as np
import pytest
from PIL import Image

from galm_tf import preprocess
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.errors import UserError

SHARED = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data"
real = pytest.mark.skipif(not (SHARED / "apay").is_dir(), reason="no ../shared/data/apay")

LINES = {
    "apascal_train.txt": ["p1.jpg dog 1 1 40 30 1 0", "p1.jpg cat 11 6 20 25 0 1"],
    "apascal_test.txt": ["p2.jpg dog 5 5 5 5 0 0"],
    "ayahoo_test.txt": ["y1.jpg mug 2 3 10 12 1 1"],
}


def write_lines(folder: pathlib.Path, file: str, lines: list[str]) -> None:
    (folder / "attribute_data" / file).write_text("".join(f"{line} \n" for line in lines))


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    (tmp_path / "attribute_data").mkdir()
    (tmp_path / "attribute_data" / "attribute_names.txt").write_text("2D Boxy\nFurry\n")
    (tmp_path / "attribute_data" / "class_names.txt").write_text("dog\ncat\nmug\n")
    for file, lines in LINES.items():
        write_lines(tmp_path, file, lines)
    for name in (
        "VOCdevkit/VOC2008/JPEGImages/p1.jpg",
        "VOCdevkit/VOC2008/JPEGImages/p2.jpg",
        "ayahoo_test_images/y1.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    return tmp_path


def load(folder: pathlib.Path, **settings):
    return load_domains(Config(domain=("apay",), data_dir=(str(folder),), **settings))


def test_one_record_per_object(folder):
    domain = load(folder)
    assert [pathlib.Path(p).name for p in domain.paths] == ["p1.jpg", "p1.jpg", "p2.jpg", "y1.jpg"]
    assert domain.attributes == ("apay/2D Boxy", "apay/Furry")
    assert domain.classes == ("apay/dog", "apay/cat", "apay/mug")
    np.testing.assert_array_equal(domain.class_ids, [0, 1, 0, 2])
    np.testing.assert_array_equal(domain.labels, [[1, 0], [0, 1], [0, 0], [1, 1]])
    assert domain.subsets.tolist() == ["train", "train", "train", "test"] and domain.class_disjoint


def test_boxes_become_zero_based_and_half_open(folder):
    # VOC's 1 1 40 30 is all of a 40x30 picture, 5 5 5 5 one pixel.
    np.testing.assert_array_equal(load(folder).boxes, [[0, 0, 40, 30], [10, 5, 20, 25], [4, 4, 5, 5], [1, 2, 10, 12]])


def test_boxes_counted_from_zero_start_at_the_first_pixel(folder):
    write_lines(folder, "ayahoo_test.txt", ["y1.jpg mug 0 0 10 12 1 1"])
    np.testing.assert_array_equal(load(folder).boxes[-1], [0, 0, 10, 12])


def test_apascal_halves(folder):
    domain = load(folder, test_split="apascal")
    assert domain.subsets.tolist() == ["train", "train", "test", "unused"] and not domain.class_disjoint


def test_tested_classes_that_apascal_trains_are_not_called_unseen(folder):
    write_lines(folder, "ayahoo_test.txt", ["y1.jpg dog 2 3 10 12 1 1"])
    assert not load(folder).class_disjoint


def test_without_yahoo_the_halves_are_used(folder):
    (folder / "attribute_data" / "ayahoo_test.txt").unlink()
    domain = load(folder)
    assert domain.subsets.tolist() == ["train", "train", "test"] and not domain.class_disjoint
    assert "There are no aYahoo images" in " ".join(domain.notes)
    assert "aYahoo" not in " ".join(load(folder, split_seed=1).notes)  # what is tested is drawn


@pytest.mark.parametrize("place", ["VOC2008/JPEGImages", "JPEGImages"])
def test_other_places_of_the_photographs(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / "VOCdevkit/VOC2008/JPEGImages").rename(folder / place)
    assert load(folder).paths[0] == str(folder / place / "p1.jpg")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("p1.jpg dog 1 1 40 30 1", r"2 attributes in .*apascal_train\.txt, line 3.*Received: 7 fields"),
        ("p1.jpg dog 1 1 40 30 1 2", r"0 or 1 in .*apascal_train\.txt, line 3, attribute 2.*Received: 2"),
        ("p1.jpg dog 30 1 4 30 1 0", r"left <= right.*apascal_train\.txt, line 3.*left=30.*right=4"),
        ("p1.jpg dog -3 1 4 30 1 0", r"left <= right.*line 3.*left=-3"),
        ("p1.jpg dog x 1 4 30 1 0", r"left <= right.*line 3.*left=x"),
        ("p1.jpg dog nan 1 4 30 1 0", r"left <= right.*line 3.*left=nan"),
        ("p1.jpg dgo 1 1 40 30 1 0", r"apascal_train\.txt.*Received: dgo.*did you mean dog"),
        ("p9.jpg dog 1 1 40 30 1 0", r"apascal_train\.txt.*JPEGImages.*1 of 2 absent, the first is p9\.jpg.*skip"),
    ],
)
def test_damaged_line_is_named_with_the_repair(folder, line, expected):
    write_lines(folder, "apascal_train.txt", [LINES["apascal_train.txt"][0], "", line])
    with pytest.raises(UserError, match=expected):
        load(folder)


def test_a_box_that_is_listed_twice_is_told_and_kept(folder):
    once = load(folder)
    write_lines(folder, "apascal_train.txt", [*LINES["apascal_train.txt"], "p1.jpg cat 1 0 40 30 0 1"])
    twice = load(folder)
    number = len(LINES["apascal_train.txt"]) + 1
    assert len(twice.paths) == len(once.paths) + 1
    told = f"apascal_train.txt, line {number}: p1.jpg with the box of line 1; both count, whatever they say."
    assert told in twice.notes


def test_absent_photographs_are_left_out_on_request(folder):
    (folder / "ayahoo_test_images" / "y1.jpg").rename(folder / "ayahoo_test_images" / "y2.jpg")
    write_lines(folder, "ayahoo_test.txt", [*LINES["ayahoo_test.txt"], "y2.jpg mug 1 1 4 4 0 0"])
    domain = load(folder, on_bad_image="skip")
    assert pathlib.Path(domain.paths[-1]).name == "y2.jpg" and len(domain.paths) == 4
    assert "1 of 2 images listed in ayahoo_test.txt are absent" in " ".join(domain.notes)
    write_lines(folder, "apascal_train.txt", ["p9.jpg cat 1 1 9 9 0 1", "p1.jpg dog 3 4 40 30 1 0"])
    domain = load(folder, on_bad_image="skip")  # the line after an absent one keeps what is its own
    assert pathlib.Path(domain.paths[0]).name == "p1.jpg" and domain.class_ids.tolist() == [0, 0, 2]
    assert domain.boxes[0].tolist() == [2, 3, 40, 30] and domain.labels[0].tolist() == [1, 0]


@pytest.mark.parametrize("file", ["apascal_train.txt", "attribute_names.txt", "class_names.txt"])
def test_missing_file_is_named_with_its_place(folder, file):
    (folder / "attribute_data" / file).unlink()
    with pytest.raises(UserError, match=f"Expected {file} in {folder}/attribute_data"):
        load(folder)


@pytest.mark.parametrize("file", ["apascal_train.txt", "ayahoo_test.txt", "attribute_names.txt", "class_names.txt"])
def test_a_list_without_lines(folder, file):
    (folder / "attribute_data" / file).write_text("\n")
    with pytest.raises(UserError, match=f"Expected lines in {folder}/attribute_data/{file}. Received: an empty file"):
        load(folder)


def plain_reading(folder: pathlib.Path) -> list[list[str]]:
    files = [folder / "attribute_data" / f for f in LINES]
    return [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]


@real
def test_shared_data_equals_a_plain_reading():
    started = time.monotonic()
    domain = load_domains(Config(domain=("apay",), data_dir=(str(SHARED / "apay"),)))
    assert time.monotonic() - started < 5
    lines = plain_reading(SHARED / "apay")
    assert (len(domain.paths), len(domain.classes), len(domain.attributes)) == (12684 + 2005, 32, 64)
    assert [pathlib.Path(p).name for p in domain.paths] == [line[0] for line in lines]
    assert [domain.classes[i] for i in domain.class_ids] == [f"apay/{line[1]}" for line in lines]
    np.testing.assert_array_equal(domain.labels, np.array([line[6:] for line in lines], float))
    assert (domain.subsets == "train").sum() == 12684 and (domain.subsets[12684:] == "test").all()
    trained, tested = (set(domain.class_ids[domain.subsets == part]) for part in ("train", "test"))
    assert len(trained) == 20 and len(tested) == 8 and not trained & tested
    np.testing.assert_array_equal(np.unique(domain.boxes, axis=0), [[0, 0, 64, 64]])


@real
def test_shared_data_apascal_halves():
    domain = load_domains(Config(domain=("apay",), data_dir=(str(SHARED / "apay"),), test_split="apascal"))
    counts = {part: int((domain.subsets == part).sum()) for part in ("train", "test", "unused")}
    assert counts == {"train": 6337, "test": 6347, "unused": 2005}


@real
def test_fullsize_sample_crops_the_objects():
    domain = load_domains(Config(domain=("apay",), data_dir=(str(SHARED / "apay_fullsize_sample"),)))
    lines = plain_reading(SHARED / "apay_fullsize_sample")
    assert len(domain.paths) == len(lines) == 78 and len(set(domain.paths)) == 30
    for path, box, line in zip(domain.paths, domain.boxes, lines):
        left, top, right, bottom = map(int, line[2:6])
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
            assert box[2] <= image.width and box[3] <= image.height
        np.testing.assert_array_equal(preprocess.crop_box(pixels, box, 0.0), pixels[top - 1 : bottom, left - 1 : right])


@real
def test_fullsize_boxes_show_what_the_64_pixel_files_show():
    """The small files are squares around the same objects, 1.1 times the longer side, cut by someone else."""
    full = load_domains(Config(domain=("apay",), data_dir=(str(SHARED / "apay_fullsize_sample"),)))
    small = SHARED / "apay" / "VOCdevkit" / "VOC2008" / "JPEGImages"
    number, similarity = {}, []
    for path, (left, top, right, bottom) in zip(full.paths, full.boxes):
        stem = pathlib.Path(path).stem
        number[stem] = number.get(stem, 0) + 1
        pixels, cut = (
            np.asarray(Image.open(p).convert("L"), float) for p in (path, small / f"{stem}_{number[stem]}.jpg")
        )
        offsets = (np.arange(64) - 31.5) / 64 * 1.1 * max(right - left, bottom - top)
        rows, columns = (
            np.clip(np.rint((a + b - 1) / 2 + offsets).astype(int), 0, size - 1)
            for a, b, size in ((top, bottom, pixels.shape[0]), (left, right, pixels.shape[1]))
        )
        similarity.append(np.corrcoef(pixels[np.ix_(rows, columns)].ravel(), cut.ravel())[0, 1])
    assert len(similarity) == 78 and np.mean(similarity) > 0.9 and np.min(similarity) > 0.7
