"""Animals with Attributes: counts, labels and split against a plain reading; damaged folders end in one sentence."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image

from galm_tf.config import Config
from galm_tf.domains import awa, load_domains
from galm_tf.errors import UserError

DATA = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data" / "awa"
real = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data/awa")

CLASSES = ["antelope", "grizzly+bear", "killer+whale", "beaver"]
MATRIX = [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    root = tmp_path / "Animals_with_Attributes2"
    root.mkdir()
    (root / "classes.txt").write_text("".join(f"{i:8d}\t{c}\n" for i, c in enumerate(CLASSES, 1)))
    (root / "predicates.txt").write_text("1 black\n2 white\n3 furry\n")
    (root / "predicate-matrix-binary.txt").write_text("\n".join(" ".join(map(str, row)) for row in MATRIX))
    (root / "trainclasses.txt").write_text("antelope\nkiller+whale\n")
    (root / "testclasses.txt").write_text("grizzly+bear\nbeaver\n")
    for name, files in {
        "antelope": ("a.JPG", "b.png"),
        "grizzly+bear": ("c d.jpeg",),
        "killer+whale": ("é.jpg", "._é.jpg"),
    }.items():
        (root / "JPEGImages" / name).mkdir(parents=True)
        for file in files:
            Image.new("RGB", (4, 4)).save(root / "JPEGImages" / name / file, "png")
    return root


def load(folder: pathlib.Path, **settings):
    return load_domains(Config(domain=("zoo",), data_dir=(str(folder),), **settings))


def test_reads_classes_images_labels_and_split(folder):
    domain = load(folder)
    assert domain.attributes == ("zoo/black", "zoo/white", "zoo/furry")
    assert domain.classes == tuple(f"zoo/{c}" for c in CLASSES)
    assert [pathlib.Path(p).name for p in domain.paths] == ["a.JPG", "b.png", "c d.jpeg", "é.jpg"]
    np.testing.assert_array_equal(domain.class_ids, [0, 0, 1, 2])
    np.testing.assert_array_equal(domain.labels, np.array(MATRIX)[[0, 0, 1, 2]])
    assert domain.subsets.tolist() == ["train", "train", "test", "train"]
    assert domain.layouts == ("awa",) and domain.data_sources == ("official",) and domain.class_disjoint
    assert (domain.boxes == -1).all()


def test_classes_may_stand_in_any_order(folder):
    (folder / "classes.txt").write_text("".join(f"{i + 1} {CLASSES[i]}\n" for i in (2, 0, 3, 1)))
    assert load(folder).classes == tuple(f"zoo/{c}" for c in CLASSES)


def test_classes_without_images_and_with_one_are_noted(folder):
    notes = " ".join(load(folder).notes)
    assert "1 of 4 classes have no images" in notes
    assert "2 of 4 classes of zoo have one image only, the first is grizzly+bear" in notes


def test_is_found_one_folder_below(folder):
    assert load(folder.parent).paths == load(folder).paths


def test_continuous_matrix_is_cut_at_its_mean(folder):
    (folder / "predicate-matrix-binary.txt").unlink()
    values = np.where(np.array(MATRIX) == 1, 80.0, 0.0)
    np.savetxt(folder / "predicate-matrix-continuous.txt", values)
    domain = load(folder)
    np.testing.assert_array_equal(domain.labels, np.array(MATRIX)[[0, 0, 1, 2]])
    assert "predicate-matrix-continuous.txt is cut at its mean" in " ".join(domain.notes)
    values = np.where(np.array(MATRIX) == 1, 80.0, 1.0)
    values[3], values[0, 1] = 1.0, 30.0  # below the mean of 36, above the median
    np.savetxt(folder / "predicate-matrix-continuous.txt", values)
    np.testing.assert_array_equal(load(folder).labels, domain.labels)
    values[1, 0] = -1.0  # of the bear, unknown
    np.savetxt(folder / "predicate-matrix-continuous.txt", values)
    np.testing.assert_array_equal(load(folder).labels, [[1, 0, 1], [1, 0, 1], [np.nan, 0, 1], [1, 1, 0]])


def test_strengths_are_learned_one_half_at_the_cut_and_an_unknown_one_is_its_label(folder):
    values = np.array([[60.0, -1, 22], [0, 2, 22], [80, 31, 2], [0, 22, 0]])  # their mean is 20
    np.savetxt(folder / "predicate-matrix-continuous.txt", values)
    domain = load(folder)
    np.testing.assert_array_equal(domain.labels, np.array(MATRIX)[[0, 0, 1, 2]])
    np.testing.assert_allclose(domain.targets, [[1, 0, 0.55], [1, 0, 0.55], [0, 0.05, 0.55], [1, 0.775, 0.05]])
    np.testing.assert_array_equal(load(folder, soft_labels=False).targets, domain.labels)


def test_matrices_that_contradict_each_other(folder):
    values = np.where(np.array(MATRIX) == 1, 80.0, 1.0)
    values[1, 0] = -1  # unknown
    np.savetxt(folder / "predicate-matrix-continuous.txt", values[::-1])  # lines in another order
    told = r"to be as predicate-matrix-binary\.txt in .*another label in 5 of 11 places at least, the first is line 1, column 1"
    with pytest.raises(UserError, match=told):
        load(folder)


def test_labels_of_ones_own_may_be_cut_elsewhere_than_at_the_mean(folder):
    labels = np.array(MATRIX)
    values = np.where(labels == 1, 80.0, 1.0)
    values[2, 0], values[3, 1] = 30.0, 31.0  # a yes below the mean
    np.savetxt(folder / "predicate-matrix-continuous.txt", values)
    assert (values > values.mean()).sum() == labels.sum() - 2
    np.testing.assert_array_equal(load(folder).labels, labels[[0, 0, 1, 2]])


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("alone", [True, False])
def test_strengths_of_nothing(folder, value, alone):
    if alone:
        (folder / "predicate-matrix-binary.txt").unlink()
    np.savetxt(folder / "predicate-matrix-continuous.txt", np.full((4, 3), value))
    with pytest.raises(UserError, match=rf"continuous\.txt, with a mean above 0\. Received: mean={value};"):
        load(folder)


@pytest.mark.parametrize(("exchanged", "refused"), [(5, False), (6, True)])
def test_a_twentieth_of_the_labels_may_differ(tmp_path, exchanged, refused):
    labels = np.repeat([[0, 1]], 50, axis=0)
    strengths = np.where(labels == 1, 80, 1)
    strengths[:exchanged, 0] = 80
    np.savetxt(tmp_path / "predicate-matrix-binary.txt", labels)
    np.savetxt(tmp_path / "predicate-matrix-continuous.txt", strengths)
    if refused:
        with pytest.raises(UserError, match="another label in 6 of 100 places"):
            awa._class_labels(str(tmp_path), 50, 2)
    else:
        np.testing.assert_array_equal(awa._class_labels(str(tmp_path), 50, 2)[0], labels)


def test_files_with_other_endings_are_noted(folder):
    pictures = folder / "JPEGImages" / "antelope"
    (pictures / "c.heic").write_bytes(b"")
    (pictures / "Thumbs.db").write_bytes(b"")
    told = "1 file below {}/JPEGImages has another ending (antelope/c.heic) and is left out: convert it if it is a picture."
    assert told.format(folder) in load(folder).notes
    (pictures / "b").write_bytes(b"")
    domain = load(folder)
    assert "2 files below" in " ".join(domain.notes) and "the first is antelope/b)" in " ".join(domain.notes)
    assert len(domain.paths) == 4


def test_copies_of_tested_images_that_train_are_noted_and_no_drawn_split_parts_them(folder):
    for i, name in enumerate(("antelope/a.JPG", "antelope/b.png", "grizzly+bear/c d.jpeg", "killer+whale/é.jpg")):
        shade = 40 * (0 if i == 2 else i)  # the bear is a copy of the first antelope
        Image.new("RGB", (4, 4), (shade,) * 3).save(folder / "JPEGImages" / name, "png")
    domain = load(folder)
    assert domain.subsets.tolist() == ["train", "train", "test", "train"] and len(set(domain.photographs)) == 3
    assert "1 of 1 tested records of zoo show photographs that other records train on" in " ".join(domain.notes)
    for seed in range(4):
        drawn = load(folder, split_seed=seed)
        of_both = drawn.subsets[[0, 2]].tolist()
        assert not {"train", "test"} <= set(of_both), of_both


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "predicate-matrix-binary.txt",
            "1 0 1\n0 0 1\n1 nan 0\n0 1 0\n",
            r"numbers in .*Received: nan in row 3, column 2",
        ),
        ("predicate-matrix-binary.txt", "1 0 1\n0 0 1\n", r"4 lines of 3 numbers.*binary\.txt.*2 lines of 3 numbers"),
        ("predicate-matrix-binary.txt", "1 0\n0 0\n1 1\n0 1\n", r"4 lines of 3 numbers.*4 lines of 2 numbers"),
        ("predicate-matrix-binary.txt", "1 0 1\n0 0 1\n1 7 0\n0 1 0\n", r"0 and 1 in .*line 3, column 2.*Received: 7"),
        ("predicate-matrix-binary.txt", "1 0 1\n0 0 1\n1 x 0\n0 1 0\n", r"numbers in .*binary\.txt.*'x'"),
        ("classes.txt", "", r"lines in .*classes\.txt\. Received: an empty file"),
        (
            "classes.txt",
            "1 antelope\n2 beaver\n",
            r"2 lines of 3 numbers \(a line per class of classes\.txt, a column per predicate of predicates\.txt\) in .*these files",
        ),
        ("classes.txt", "1 antelope\nbear\n", r"number and a name in .*classes\.txt, line 2.*'bear'"),
        (
            "classes.txt",
            "1 antelop\n2 grizzly+bear\n3 killer+whale\n4 beaver\n",
            r"Received: antelope.*did you mean antelop\?",
        ),
        (
            "predicates.txt",
            "1 black\n2 furry\n3 furry\n",
            r"attributes of zoo with different names.*furry as number 2 and 3",
        ),
        (
            "classes.txt",
            "1 antelope\n2 grizzly+bear\n2 beaver\n4 killer+whale\n",
            r"every number once in .*classes\.txt, line 3\. Received: 2, as in line 2; correct one\.$",
        ),
        (
            "predicates.txt",
            "1 black\n22 white\n3 furry\n",
            r"numbers from 1 to 3, one per line, in .*predicates\.txt, line 2\. Received: 22; correct it",
        ),
        (
            "classes.txt",
            "0 antelope\n1 grizzly+bear\n2 killer+whale\n3 beaver\n",
            r"from 1 to 4, .*line 1\. Received: 0",
        ),
        ("trainclasses.txt", "antelope\n", r"in one of the class lists.*killer\+whale in neither"),
        ("trainclasses.txt", "antelope\nkiller+whale\nbeaver\n", r"disjoint class lists.*beaver in both"),
        (
            "trainclasses.txt",
            "antelope\nkiller+wale\n",
            r"trainclasses\.txt.*Received: killer\+wale.*did you mean killer\+whale",
        ),
    ],
)
def test_damaged_file_is_named_with_the_repair(folder, file, text, expected):
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=expected):
        load(folder)


@pytest.mark.parametrize("file", ["classes.txt", "predicate-matrix-binary.txt", "testclasses.txt"])
def test_missing_file_is_named_with_its_place(folder, file):
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"Expected {file}.* in .*Animals_with_Attributes2"):
        load(folder)


def test_missing_images_folder(folder):
    (folder / "JPEGImages").rename(folder / "Bilder")
    with pytest.raises(UserError, match="Expected JPEGImages in .*Received: Bilder"):
        load(folder)


def test_text_that_is_not_utf8(folder):
    (folder / "predicates.txt").write_bytes("1 schwarz\n2 weiß\n3 grün\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"UTF-8 in .*predicates\.txt"):
        load(folder)


def test_byte_order_mark_and_windows_line_ends(folder):
    for file in folder.glob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert load(folder).attributes == ("zoo/black", "zoo/white", "zoo/furry")


@real
def test_shared_sample_equals_a_plain_reading():
    domain = load_domains(Config(domain=("awa",), data_dir=(str(DATA),)))
    assert (len(domain.paths), len(domain.classes), len(domain.attributes)) == (8339, 26, 85)
    matrix = np.loadtxt(DATA / "predicate-matrix-binary.txt")
    names = np.loadtxt(DATA / "classes.txt", str)[:, 1].tolist()
    test = (DATA / "testclasses.txt").read_text().split()
    folders = [pathlib.Path(p).parent.name for p in domain.paths]
    np.testing.assert_array_equal(domain.labels, matrix[[names.index(f) for f in folders]])
    np.testing.assert_array_equal(domain.subsets == "test", [f in test for f in folders])
    assert len({f for f, s in zip(folders, domain.subsets) if s == "test"}) == 6
    assert set(domain.paths) == {str(p) for p in (DATA / "JPEGImages").glob("*/*")}


@real
def test_cut_at_the_mean_is_how_the_shared_binary_matrix_was_made():
    continuous = np.loadtxt(DATA / "predicate-matrix-continuous.txt")
    np.testing.assert_array_equal(continuous > continuous.mean(), np.loadtxt(DATA / "predicate-matrix-binary.txt"))
