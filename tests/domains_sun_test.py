"""SUN Attribute DB: votes, classes and split against a plain reading of the MATLAB files; damaged folders."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from galm_tf.config import Config
from galm_tf.domains import load_domains, sun
from galm_tf.errors import UserError

DATA = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data" / "sun"
real = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data/sun")

IMAGES = ["a/abbey/sun_a.jpg", "a/abbey/sun_b.jpg", "l/library/indoor/sun_c.jpg", "p/park/sun_d.jpg"]
VOTES = [[0.0, 1 / 3, 2 / 3], [1.0, 0.3333, 0.6667], [0.0, 0.0, 1.0], [0.5, 1.0, 0.0]]


def cells(values: list[str]) -> np.ndarray:
    """A cell array as the release has it."""
    result = np.empty((len(values), 1), object)
    result[:, 0] = values
    return result


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    annotations = tmp_path / "SUNAttributeDB"
    annotations.mkdir()
    scipy.io.savemat(annotations / "images.mat", {"images": cells(IMAGES)})
    scipy.io.savemat(
        annotations / "attributes.mat", {"attributes": cells(["sailing/ boating", "natural", "man-made "])}
    )
    scipy.io.savemat(annotations / "attributeLabels_continuous.mat", {"labels_cv": np.array(VOTES)})
    for image in IMAGES:
        path = tmp_path / "images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "trainclasses.txt").write_text("abbey\nlibrary_indoor\n")
    (tmp_path / "testclasses.txt").write_text("park\nairport_terminal\n")
    return tmp_path


def load(folder: pathlib.Path, **settings):
    return load_domains(Config(domain=("sun",), data_dir=(str(folder),), **settings))


def test_photographs_of_one_class_are_tested_on_a_class_that_is_trained(folder):
    for part in ("train", "test"):
        (folder / f"{part}classes.txt").unlink()
    for image in IMAGES[2:]:
        (folder / "images" / image).unlink()
    domain = load(folder, on_bad_image="skip")
    assert domain.classes == ("sun/abbey",) and sorted(domain.subsets) == ["test", "train"]
    assert not domain.class_disjoint


def test_reads_names_classes_votes_and_split(folder):
    domain = load(folder)
    assert domain.attributes == ("sun/sailing-boating", "sun/natural", "sun/man-made")
    assert domain.classes == ("sun/abbey", "sun/library_indoor", "sun/park")
    assert domain.paths == tuple(str(folder / "images" / image) for image in IMAGES)
    np.testing.assert_array_equal(domain.class_ids, [0, 0, 1, 2])
    np.testing.assert_array_equal(domain.labels, [[0, 0, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0]])
    assert domain.subsets.tolist() == ["train", "train", "train", "test"]


def test_votes_are_learned_as_they_are_but_for_unknown_labels(folder):
    domain = load(folder)
    np.testing.assert_allclose(domain.targets, VOTES, atol=1e-6)
    np.testing.assert_array_equal(load(folder, soft_labels=False).targets, domain.labels)
    np.testing.assert_allclose(
        domain.select_images(np.array([3, 1])).select_attributes([False, True, True]).targets,
        [[1, 0], [0.3333, 0.6667]],
    )
    unanimous = load(folder, sun_votes="unanimous")
    np.testing.assert_array_equal(np.isnan(unanimous.targets), np.isnan(unanimous.labels))
    assert unanimous.targets[0, 2] == np.float32(2 / 3)


def test_unanimous_votes_leave_the_middle_unknown(folder):
    labels = load(folder, sun_votes="unanimous").labels
    nan = np.nan
    np.testing.assert_array_equal(labels, [[0, nan, 1], [1, nan, 1], [0, 0, 1], [nan, 1, 0]])


def test_thresholds_are_settings():
    votes = np.array([[0.0, 1 / 3, 2 / 3, 1.0]])
    assert sun.labels_from_votes(votes, Config(sun_positive=0.3)).tolist() == [[0, 1, 1, 1]]
    # as `unanimous` has it
    np.testing.assert_array_equal(sun.labels_from_votes(np.array([[np.nan, 1.0]]), Config()), [[np.nan, 1]])
    strict = sun.labels_from_votes(votes, Config(sun_votes="unanimous", sun_unanimous=1.0))
    np.testing.assert_array_equal(strict, [[0, np.nan, np.nan, 1]])


def test_class_lists_may_name_folders(folder):
    (folder / "trainclasses.txt").write_text("/a/abbey\n/l/library/indoor\n")
    assert load(folder).subsets.tolist() == ["train", "train", "train", "test"]


def test_without_lists_classes_are_drawn_by_seed(folder):
    for name in ("trainclasses.txt", "testclasses.txt"):
        (folder / name).unlink()
    domain = load(folder)
    tested, trained = (set(domain.class_ids[domain.subsets == part]) for part in ("test", "train"))
    assert tested and trained and not tested & trained
    assert "No split is given" in " ".join(domain.notes)


def test_an_absent_image_fails_or_is_left_out(folder):
    (folder / "images" / IMAGES[1]).unlink()
    with pytest.raises(
        UserError, match=r"images\.mat.*1 of 4 absent, the first is a/abbey/sun_b\.jpg.*--on_bad_image=skip"
    ):
        load(folder)
    domain = load(folder, on_bad_image="skip")
    assert len(domain.paths) == 3 and "1 of 4 images listed in images.mat are absent" in " ".join(domain.notes)
    np.testing.assert_array_equal(domain.labels, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    np.testing.assert_allclose(domain.targets, np.array(VOTES)[[0, 2, 3]], rtol=1e-6)


def test_wrong_shape_of_the_votes(folder):
    file = folder / "SUNAttributeDB" / "attributeLabels_continuous.mat"
    scipy.io.savemat(file, {"labels_cv": np.zeros((4, 2))})
    with pytest.raises(UserError, match=r"shape \(4, 3\).*attributeLabels_continuous\.mat.*shape=\(4, 2\)"):
        load(folder)


@pytest.mark.parametrize("value", [3, 66.7, -1, np.inf, -np.inf])
def test_votes_that_are_no_shares(folder, value):
    votes = np.array(VOTES)
    votes[0, 0], votes[1, 0], votes[2, 2] = 1 + 5e-5, np.nan, value
    scipy.io.savemat(folder / "SUNAttributeDB" / "attributeLabels_continuous.mat", {"labels_cv": votes})
    told = (
        rf"labels_cv of .*_continuous\.mat, row 3, column 3\. Received: {value:g}; divide counts by .* NaN for unknown"
    )
    with pytest.raises(UserError, match=told):
        load(folder)


def test_an_image_twice(folder):
    scipy.io.savemat(folder / "SUNAttributeDB" / "images.mat", {"images": cells([*IMAGES[:3], IMAGES[1]])})
    with pytest.raises(
        UserError, match=r"images\.mat, row 4\. Received: a/abbey/sun_b\.jpg, as in row 2; remove one, and its row"
    ):
        load(folder)


def test_an_attribute_without_a_name(folder):
    scipy.io.savemat(folder / "SUNAttributeDB" / "attributes.mat", {"attributes": cells(["natural", "", "dry"])})
    with pytest.raises(UserError, match=r"variable attributes of .*attributes\.mat\. Received: an empty one in row 2;"):
        load(folder)


def test_other_variable_in_a_file(folder):
    scipy.io.savemat(folder / "SUNAttributeDB" / "images.mat", {"pictures": cells(IMAGES)})
    with pytest.raises(UserError, match=r"variable images in .*images\.mat.*\['pictures'\]"):
        load(folder)


def test_file_that_is_not_matlab(folder):
    (folder / "SUNAttributeDB" / "attributes.mat").write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(UserError, match=r"Expected a MATLAB file.*attributes\.mat.*download it anew"):
        load(folder)


@pytest.mark.parametrize(
    "file", ["SUNAttributeDB/images.mat", "SUNAttributeDB/attributes.mat", "testclasses.txt", "images"]
)
def test_missing_file_is_named_with_its_place(folder, file):
    (folder / file).rename(folder / "elsewhere")
    with pytest.raises(UserError, match=f"Expected {pathlib.Path(file).name} in {(folder / file).parent}"):
        load(folder)


def test_class_in_no_split(folder):
    (folder / "testclasses.txt").write_text("airport_terminal\n")
    with pytest.raises(UserError, match=r"one of the class lists.*Received: park in neither"):
        load(folder)


@real
def test_shared_sample_equals_a_plain_reading():
    domain = load_domains(Config(domain=("sun",), data_dir=(str(DATA),)))
    assert (len(domain.paths), len(domain.classes), len(domain.attributes)) == (5517, 28, 102)
    read = {k: scipy.io.loadmat(DATA / "SUNAttributeDB" / f"{k}.mat") for k in ("images", "attributeLabels_continuous")}
    images = [cell[0][0] for cell in read["images"]["images"]]
    votes = read["attributeLabels_continuous"]["labels_cv"]
    assert [str(DATA / "images" / image) for image in images] == list(domain.paths)
    np.testing.assert_array_equal(domain.labels, votes > 0.4999)
    test = (DATA / "testclasses.txt").read_text().split()
    folders = ["_".join(pathlib.PurePosixPath(image).parts[1:-1]) for image in images]
    np.testing.assert_array_equal(domain.subsets == "test", [f in test for f in folders])
    assert domain.labels.shape[0] == sum(1 for _ in (DATA / "images").rglob("*.jpg"))


@real
def test_shared_sample_unanimous_votes():
    labels = load_domains(Config(domain=("sun",), data_dir=(str(DATA),), sun_votes="unanimous")).labels
    votes = scipy.io.loadmat(DATA / "SUNAttributeDB" / "attributeLabels_continuous.mat")["labels_cv"]
    np.testing.assert_array_equal(labels == 1, votes > 0.666)
    np.testing.assert_array_equal(labels == 0, votes < 1e-3)
    assert np.isnan(labels).any()
