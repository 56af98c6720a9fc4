"""Labels of further attributes: which image a row means, and each mistake in one sentence."""

import dataclasses
import re
import types

import numpy as np
import pandas as pd
import pytest

from galm_tf.config import Config
from galm_tf.domains import generated, label_file, load_domains
from galm_tf.domains.build import build_domain
from galm_tf.domains.join import join_domains
from galm_tf.domains.label_file import with_labels
from galm_tf.domains.splits import with_few_positives
from galm_tf.errors import UserError

PATHS = ("/d/images/a/1.jpg", "/d/images/a/2.jpg", "/d/images/b/2.jpg", "/d/images/b/3.jpg", "/d/images/b/3.jpg")
BOXES = np.array([[-1] * 4, [-1] * 4, [-1] * 4, [0, 0, 5, 5], [5, 0, 9, 9]], np.int32)


def _domain(name="mine", paths=PATHS):
    n = len(paths)
    return build_domain(
        name, "table", attributes=["old"], classes=["c", "d"], paths=paths, class_ids=np.arange(n) % 2,
        labels=np.zeros((n, 1)), subsets=np.full(n, "train"), boxes=BOXES,
    )  # fmt: skip


@pytest.fixture
def add(tmp_path):
    def add_text(text, domain=None):
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding="utf-8")
        return with_labels(domain or _domain(), str(path))

    return add_text


def test_rows_of_images_that_the_data_may_have_skipped_are_passed_over_when_asked(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,shiny\n1.jpg,1\nb/4.jpg,0\nnone.jpg,1\n", encoding="utf-8")
    with pytest.raises(
        UserError, match="Received: 2 of 3 that are not among .*, or pass over them with --on_bad_image=skip"
    ):
        with_labels(_domain(), str(path))
    domain = with_labels(_domain(), str(path), "skip")
    assert domain.labels[0, 1] == 1 and np.isnan(domain.labels[1:, 1]).all()
    assert domain.notes[-1] == f"2 of 3 rows of {path} name images that are not among the data's, the first is b/4.jpg."
    path.write_text("image,shiny\nnone.jpg,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="Received: 1 of 1 that are not among"):
        with_labels(_domain(), str(path), "skip")


def test_images_are_found_by_the_end_of_their_path(add):
    domain = add(
        "image,class,shiny,mine/big\n1.jpg,x,1,\na/2.jpg,x,0,1\n./images/b\\2.jpg,x,,0\n/d/images/b/3.jpg,x,1,1\n"
    )
    assert domain.attributes == ("mine/old", "mine/shiny", "mine/big")
    nan = np.nan
    np.testing.assert_array_equal(domain.labels[:, 1:], [[1, nan], [0, 1], [nan, 0], [1, 1], [1, 1]])
    np.testing.assert_array_equal(domain.attribute_domains, [0, 0, 0])
    assert domain.labels.dtype == np.float32


def test_names_that_many_folders_have_are_found_by_as_much_of_the_path_as_is_given(tmp_path):
    domain = types.SimpleNamespace(paths=("/d/x/1.jpg", "/d/y/1.jpg", "/e/y/1.jpg", "/e/y/2.jpg"))
    find = label_file._Places(domain).find
    assert find("x/1.jpg") == ["/d/x/1.jpg"] and find("y/1.jpg") == ["/d/y/1.jpg", "/e/y/1.jpg"]
    assert find("e/y/1.jpg") == find("/e/y/1.jpg") == ["/e/y/1.jpg"] and find("2.jpg") == ["/e/y/2.jpg"]
    assert len(find("1.jpg")) == 3 and not find("z/1.jpg") and not find("y/3.jpg") and not find("d/e/y/1.jpg")


def test_names_in_other_letters_are_found_where_one_image_is_alike(add):
    paths = ("/d/c00/i0000.png", "/d/c10/i0100.png", "/d/c10/x.png", "/d/c10/X.png", "/d/c11/i0100.png")
    domain = add("image,shiny\nI0000.PNG,1\nC11/i0100.PNG,0\nc10/i0100.png,1\n", _domain(paths=paths))
    np.testing.assert_array_equal(domain.labels[:, 1], [1, 1, np.nan, np.nan, 0])
    assert domain.notes[-1].startswith("2 of 3 rows of ")
    assert domain.notes[-1].endswith(" name files that differ in case, the first is I0000.PNG for c00/i0000.png.")
    with pytest.raises(UserError, match=r"the first in line 2: c10/x\.PNG, nearest known one c10/[xX]\.png;"):
        add("image,shiny\nc10/x.PNG,1\n", _domain(paths=paths))
    with pytest.raises(UserError, match=r"c00/I0100\.png, nearest known one c00/i0000\.png;"):
        add("image,shiny\nc00/I0100.png,1\n", _domain(paths=paths))


def test_a_name_in_other_letters_is_no_other_picture(add, tmp_path):
    """Where a file of that very name lies beside it, or another row names the image as it is."""
    for name in ("1.jpg", "1.JPG", "2.jpg"):
        (tmp_path / name).write_bytes(b"")
    paths = tuple(str(tmp_path / name) for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"))
    with pytest.raises(UserError, match="Received: 1 of 2 that are not among"):
        add("image,shiny\n1.JPG,1\n2.jpg,1\n", _domain(paths=paths))
    with pytest.raises(UserError, match="Received: 1 of 2 that are not among"):
        add("image,shiny\n2.JPG,1\n2.jpg,0\n", _domain(paths=paths))
    domain = add("image,shiny\n2.JPG,1\n", _domain(paths=paths))
    np.testing.assert_array_equal(domain.labels[:, 1], [np.nan, 1, np.nan, np.nan, np.nan])


def test_a_spreadsheets_table_is_read(add):
    domain = add('sep=;\n\nimage;shiny;"warm, sunny"\n1.jpg;0,75;Y\na/2.jpg;?;n\n')
    assert domain.attributes == ("mine/old", "mine/shiny", "mine/warm, sunny")
    np.testing.assert_array_equal(domain.targets[:2, 1:], [[0.75, 1], [np.nan, 0]])
    with pytest.raises(UserError, match="line 4, column shiny. Received: '75%'; .*divide percentages by 100"):
        add("sep=;\n\nimage;shiny\n1.jpg;75%\n")


def test_shares_of_joined_domains_stay_beside_added_ones(add):
    """Each attribute learns what its own data tell; where they tell no share, its labels."""
    other = _domain("other", tuple(p.replace("/d/", "/e/") for p in PATHS))
    voted = dataclasses.replace(_domain(), shares=np.full((5, 1), 0.25, np.float32))
    joined = add("image,shiny\n/e/images/a/1.jpg,0.75\n/e/images/a/2.jpg,0\n", join_domains([voted, other]))
    nan = np.nan
    np.testing.assert_array_equal(joined.targets[:5], [[0.25, nan, nan]] * 5)
    np.testing.assert_array_equal(joined.targets[5:, 1:], [[0, 0.75], [0, 0], [0, nan], [0, nan], [0, nan]])
    np.testing.assert_array_equal(joined.labels[5:, 2], [1, 0, nan, nan, nan])
    few = with_few_positives(joined, np.arange(10), Config(train_positives=1))
    np.testing.assert_array_equal(np.isnan(few.targets), np.isnan(few.labels))
    plain = add("image,shiny\n1.jpg,0.75\n")
    np.testing.assert_array_equal(plain.targets[0], [0, 0.75])


def test_a_row_of_parquet_without_a_box_holds_for_all_parts(tmp_path):
    cells = {
        name: pd.array([side, None], "Int32")
        for name, side in zip(("left", "top", "right", "bottom"), BOXES[4].tolist())
    }
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"image": ["b/3.jpg", "1.jpg"], **cells, "shiny": [1, 0]}).to_parquet(path)
    np.testing.assert_array_equal(with_labels(_domain(), str(path)).labels[:, 1], [0, np.nan, np.nan, np.nan, 1])


def test_a_box_means_one_part_of_an_image(add):
    domain = add("image,left,top,right,bottom,shiny\nb/3.jpg,5,0,9,9,1\nb/3.jpg,0,0,5,5,0\n1.jpg,,,,,1\n")
    np.testing.assert_array_equal(domain.labels[:, 1], [1, np.nan, np.nan, 0, 1])


def test_an_attribute_of_joined_domains_is_of_that_of_its_images(add):
    other = _domain("other", tuple(p.replace("/d/", "/e/") for p in PATHS))
    domain = add("image,shiny\n/e/images/a/1.jpg,1\n/e/images/a/2.jpg,0\n", join_domains([_domain(), other]))
    assert domain.attributes[-1] == "other/shiny" and domain.attribute_domains[-1] == 1
    assert np.flatnonzero(np.isfinite(domain.labels[:, -1])).tolist() == [5, 6]
    with pytest.raises(UserError, match="one domain's images in column shiny of .*Received: images of mine and other"):
        add("image,shiny\n/e/images/a/1.jpg,1\n/d/images/a/1.jpg,0\n", join_domains([_domain(), other]))


def test_a_setting_adds_them_to_any_domain(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,shiny\n07/003,1\n", encoding="utf-8")
    domain = load_domains(Config(domain=("sun",), label_files=(str(path),)))
    assert domain.attributes[-1] == "sun/shiny"
    assert np.flatnonzero(domain.labels[:, -1] == 1).tolist() == [7 * generated.IMAGES_PER_CLASS + 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "picture,shiny\n1.jpg,1\n",
            "Expected a column image in FILE. Received: ['picture', 'shiny']; call so the one that names the pictures, or add it",
        ),
        (
            "image|shi,ny\n1.jpg|1\n",
            "Expected a column image in FILE. Received: ['image|shi', 'ny']; separate the columns by commas",
        ),
        ("image\n1.jpg\n", "Expected a column per attribute in FILE. Received: ['image']"),
        (
            "image,shiny\n1.jpg,1\na/2.jpg,perhaps\n",
            "Expected 0, 1, a share between them or an empty cell in FILE, line 3, column shiny. Received: 'perhaps'",
        ),
        ("image,shiny\n1.jpg,1\n,0\n", "Expected a value of image in FILE, line 3"),
        ("image,old\n1.jpg,1\n", "Expected new attributes in FILE. Received: mine/old, which is there already; rename"),
        ("image,x,mine/x\n1.jpg,1,1\n", "Expected new attributes in FILE. Received: mine/x, which is there already"),
        (
            "image,x\n1.jpg,1\nb/4.jpg,1\nc/9.jpg,0\n",
            "Received: 2 of 3 that are not among its 4, the first in line 3: b/4.jpg, nearest known one b/",
        ),
        ("image,x\nc/3.jpg,1\n", "the first in line 2: c/3.jpg, nearest known one b/3.jpg; correct"),
        (
            "image,x\n2.jpg,1\n",
            "Expected the name of one image in FILE, line 2, column image. Received: 2.jpg, which 2 images have, e.g. a/2.jpg and b/2.jpg",
        ),
        (
            "image,x\n1.jpg,1\na/1.jpg,0\n",
            "Expected one row per image in FILE, line 3, column image. Received: a/1.jpg, as in line 2",
        ),
        (
            "image,left,top,right,bottom,x\nb/3.jpg,0,0,5,6,1\n",
            "Expected a box that the data have in FILE, line 2, column image. Received: [0, 0, 5, 6] of b/3.jpg, whose boxes are [[0, 0, 5, 5], [5, 0, 9, 9]]",
        ),
    ],
    ids=[
        "no-image",
        "bars",
        "no-attribute",
        "value",
        "empty",
        "exists",
        "twice",
        "unknown",
        "nearest",
        "ambiguous",
        "repeated",
        "box",
    ],
)
def test_a_mistake_is_told_with_its_place(add, tmp_path, text, message):
    with pytest.raises(UserError) as error:
        add(text)
    told = str(error.value)
    assert message.replace("FILE", str(tmp_path / "labels.csv")) in told and "\n" not in told, told


def test_a_file_that_is_not_there(tmp_path):
    table = tmp_path / "LABELS.TXT"  # whatever it is called
    table.write_text(f"image,new\n{_domain().paths[0].rsplit('/', 1)[-1]},1\n", encoding="utf-8")
    assert with_labels(_domain(), str(table)).attributes[-1].endswith("/new")
    with pytest.raises(UserError, match=re.escape(f"Received: {tmp_path / 'none.csv'}, which is no file")):
        with_labels(_domain(), str(tmp_path / "none.csv"))
