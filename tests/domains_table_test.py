"""A folder and a table of one's own: what is read, and each mistake in the table ends in one sentence."""

from __future__ import annotations

import decimal
import logging
import os
import pathlib
import re
import shutil
import types
import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galm_tf import preparation
from galm_tf.config import Config
from galm_tf.domains import copies, load_domains, table_file
from galm_tf.domains.splits import make_split
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images

NAMES = ["a b.jpg", "größe.png", "x+y.JPG", "sub/d.jfif"]
TABLE = """image,class,split,striped,has wheels
a b.jpg,tram,train,1,0
größe.png,Tür,train,,1
x+y.JPG,bus,test,0.0,1
sub/d.jfif,bus,,1,
"""


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for level, name in enumerate(NAMES):
        Image.new("RGB", (40, 30), (255 - level, 0, 0)).save(tmp_path / "images" / name, "png")
    write(tmp_path, TABLE)
    return tmp_path


def write(folder: pathlib.Path, text: str) -> None:
    (folder / "attributes.csv").write_bytes(text.encode())


def folder_of(folder: pathlib.Path, text: str) -> pathlib.Path:
    write(folder, text)
    return folder


def load(folder: pathlib.Path, **settings):
    return load_domains(Config(domain=("mine",), data_dir=(str(folder),), **settings))


def check_standard(domain) -> None:
    assert domain.attributes == ("mine/striped", "mine/has wheels")
    assert domain.classes == ("mine/Tür", "mine/bus", "mine/tram")
    assert [pathlib.Path(p).name for p in domain.paths] == [pathlib.Path(n).name for n in NAMES]
    np.testing.assert_array_equal(domain.class_ids, [2, 0, 1, 1])
    np.testing.assert_array_equal(domain.labels, [[1, 0], [np.nan, 1], [0, 1], [1, np.nan]])
    assert domain.subsets.tolist() == ["train", "train", "test", "unused"]


def test_a_share_is_a_label_from_one_half_on_and_learned_as_it_is(folder):
    write(folder, TABLE.replace("train,1,0", "train,0.5,0.49").replace("train,,1", "train,,0.9"))
    domain, plain = load(folder), load(folder, soft_labels=False)
    np.testing.assert_array_equal(domain.labels, [[1, 0], [np.nan, 1], [0, 1], [1, np.nan]])
    np.testing.assert_allclose(domain.targets, [[0.5, 0.49], [np.nan, 0.9], [0, 1], [1, np.nan]])
    np.testing.assert_array_equal(plain.targets, domain.labels)
    assert re.search(
        r"2 attributes of .*, the first is striped, have shares between 0 and 1: from one half on",
        " ".join(domain.notes),
    )
    write(folder, TABLE.replace("train,1,0", "train,1,0.4"))
    assert re.search(r"The attribute has wheels of .* has shares between 0 and 1", " ".join(load(folder).notes))
    assert "one half" not in " ".join(load(folder_of(folder, TABLE)).notes)


def test_reads_labels_split_and_names(folder):
    domain = load(folder)
    check_standard(domain)
    assert domain.layouts == ("table",) and domain.data_sources == ("own",) and domain.class_disjoint
    assert (domain.boxes == -1).all()
    assert "1 of 4 rows" in " ".join(domain.notes) and "unused" in " ".join(domain.notes)


@pytest.mark.parametrize(
    "variant",
    [
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\n", "\r\n"),
        lambda t: "\ufeff" + t.replace("\n", "\r\n"),
        lambda t: t.rstrip("\n"),
        lambda t: t + "\n\n",
        lambda t: t.replace("\n", ",\n"),
        lambda t: t.replace("image,class", " image , class"),
        lambda t: t.replace("sub/d", "sub\\d"),
        lambda t: t.replace("a b.jpg", '"a b.jpg"'),
        lambda t: unicodedata.normalize("NFD", t).replace(unicodedata.normalize("NFD", "Tür"), "Tür"),
        lambda t: t.replace("bus,,1,\n", "bus,,1\n"),
        lambda t: t.replace("has wheels", '"has\n wheels"'),
        lambda t: t.replace("tram,", '" tram\n",'),
        lambda t: "\n \n,,,,\n" + t,
        lambda t: "sep=;\r\n\r\n" + t.replace(",", ";"),
        lambda t: "\ufeffSEP=|\n" + t.replace(",", "|"),
        lambda t: '"sep=\t"\n' + t.replace(",", "\t"),
    ],
    ids=[
        "bom",
        "crlf",
        "bom+crlf",
        "no-last-newline",
        "blank-lines",
        "trailing-comma",
        "spaces",
        "backslash",
        "quotes",
        "nfd",
        "short-line",
        "name of two lines",
        "class of two lines",
        "empty lines first",
        "sep=",
        "sep= of another mark",
        "sep= in quotes",
    ],
)
def test_ways_of_writing_the_same_table(folder, variant):
    write(folder, variant(TABLE))
    check_standard(load(folder))


def test_classes_without_a_split_column_are_chosen_the_same_whatever_the_seed(folder):
    classes = [f"k{i}" for i in range(10)]
    rows = [f"{NAMES[0]},{c},{left},0,{left + 5},9,1" for left, c in enumerate(classes)]
    write(folder, "image,class,left,top,right,bottom,red\n" + "\n".join(rows))
    splits = [load(folder, **settings) for settings in ({}, {"seed": 1}, {"split_seed": 1})]
    tested = [set(d.class_ids[d.subsets == "test"]) for d in splits]
    assert tested[0] == tested[1] != tested[2] and len(tested[0]) == len(tested[2]) == 2
    assert (
        "2 of 10 classes, chosen so that most attributes can be tested, are tested; --split_seed=1 draws others blindly, by which fewer "
        "attributes may be tested." in " ".join(splits[0].notes)
    )


def test_classes_that_tell_most_of_the_attributes_are_tested(folder):
    """Of twelve classes only two show both labels of each attribute; drawn at random others would be tested."""
    telling, rows = (3, 8), []
    for c in range(12):
        for i in range(12):
            values = [i % 2] * 3 if c in telling else [int(c in (0, 5, 11))] * 3
            rows.append(f"{NAMES[0]},k{c:02d},{i},{c},{i + 5},{c + 9},{','.join(map(str, values))}")
    write(folder, "image,class,left,top,right,bottom,red,old,wet\n" + "\n".join(rows))
    for seed in (0, 5):
        domain = load(folder, seed=seed)
        assert set(domain.class_names(np.flatnonzero(domain.subsets == "test"))) & {f"mine/k{c:02d}" for c in telling}
        labels = domain.labels[domain.subsets == "test"]
        assert (labels == 1).any(axis=0).all() and (labels == 0).any(axis=0).all()


@pytest.mark.parametrize("with_classes", [False, True])
def test_copies_of_a_file_are_one_photograph(folder, with_classes):
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / "images" / f"p{i}.png")
        for j in range(3):
            shutil.copy(folder / "images" / f"p{i}.png", folder / "images" / f"copy{j}-{i}.png")
    names = [f"{kind}{i}.png" for kind in ("p", "copy0-", "copy1-", "copy2-") for i in range(12)]
    rows = [f"{name},{n % 2}" for n, name in enumerate(names)]
    if with_classes:  # the last copy of each is taken for one of another class
        rows = [f"{name},k{(n % 12 + (n >= 36)) % 5},{n % 2}" for n, name in enumerate(names)]
    header = "image,class,red\n" if with_classes else "image,red\n"
    for settings in ({}, {"split_seed": 2}):
        domain = load(folder_of(folder, header + "\n".join(rows)), **settings)
        sides = [
            {
                pathlib.Path(p).name.split("-")[-1].lstrip("p")
                for p, of in zip(domain.paths, domain.subsets)
                if of == side
            }
            for side in ("train", "test")
        ]
        assert sides[0] and sides[1] and not sides[0] & sides[1]
        assert len(np.unique(domain.photographs)) == 12
        assert (
            sum(
                "36 files are copies of others, byte for byte, e.g. copy1-0.png of copy0-0.png: " in note
                for note in domain.notes
            )
            == 1
        )
    split = make_split(domain, Config())
    assert not set(domain.photographs[split.train]) & set(domain.photographs[split.validation])
    given = "\n".join(f"{row},{'test' if row.startswith('copy0') else 'train'}" for row in rows)
    notes = load(folder_of(folder, header.replace("\n", ",split\n") + given)).notes
    assert any(
        "12 of 12 tested records of" in note and "show photographs that other records train on" in note
        for note in notes
    )


@pytest.mark.parametrize("settings", [{"seed": 1}, {"split_seed": 1}])
def test_a_drawn_split_leaves_no_photograph_on_both_sides(folder, settings):
    """Boxes of one photograph overlap; a split that the user gives stands as it is."""
    rows = [
        f"{name},k{i},{left},0,{left + 9},9,{i % 2}" for name in NAMES[:3] for i, left in enumerate(range(0, 30, 3))
    ]
    rows += [f"{NAMES[3]},k{i},{i},0,{i + 5},9,1" for i in range(2)]
    write(folder, "image,class,left,top,right,bottom,red\n" + "\n".join(rows))
    domain = load(folder, **settings)
    sides = {s: {p for p, of in zip(domain.paths, domain.subsets) if of == s} for s in ("train", "test")}
    assert sides["test"] and not sides["train"] & sides["test"]
    assert "training records show photographs that are tested too and are unused" in " ".join(domain.notes)
    other = load(folder, **{"split_seed": 1, "seed": 7})
    again = load(folder, **{"split_seed": 1, "seed": 8})
    assert other.subsets.tolist() == again.subsets.tolist() and other.notes == again.notes and len(other.notes) == 1
    write(
        folder,
        "image,class,split,left,top,right,bottom,red\nx+y.JPG,a,train,0,0,10,10,1\nx+y.JPG,b,test,10,0,39,30,0\n",
    )
    assert load(folder).subsets.tolist() == ["train", "test"]


def test_a_given_split_that_tears_a_photograph_is_noted(folder):
    torn = "image,class,split,left,top,right,bottom,red\nx+y.JPG,a,train,0,0,10,10,1\nx+y.JPG,b,test,10,0,39,30,0\na b.jpg,b,test,,,,,1\n"
    (note,) = (
        note for note in load(folder_of(folder, torn)).notes if "photographs that other records train on" in note
    )
    assert note.startswith("1 of 2 tested records of ")
    assert not any("photographs that other records" in note for note in load(folder, split_seed=0).notes)
    apart = load(folder_of(folder, torn.replace("b,test,10", "b,train,10"))).notes
    assert not any("photographs" in note for note in apart)


def test_boxes_and_several_objects_of_one_image(folder):
    write(
        folder,
        "image,class,left,top,right,bottom,red\nx+y.JPG,a,0,0,10,10,1\nx+y.JPG,b,10.2,0,39.5,30,0\na b.jpg,a,,,,,1\n",
    )
    boxes = [[0, 0, 10, 10], [10, 0, 40, 30], [-1, -1, -1, -1]]
    np.testing.assert_array_equal(load(folder).boxes, boxes)
    table = (folder / "attributes.csv").read_text(encoding="utf-8")
    write(folder, table.replace(",,,,,", ",NA,null,nan,?,"))
    np.testing.assert_array_equal(load(folder).boxes, boxes)


BOXED = "image,class,left,top,right,bottom,red\nx+y.JPG,a,0,0,10,10,1\n{}\na b.jpg,b,,,,,1\n"
MISTAKES = {
    "duplicate image": (
        TABLE + "x+y.JPG,bus,test,1,1\n",
        r"one row per image.*line 6, column image.*x\+y\.JPG, as in line 4; remove",
    ),
    "duplicate after a name of two lines": (
        TABLE.replace("has wheels", '"has\nwheels"').replace("tram", '"tr\nam"') + "x+y.JPG,bus,test,1,1\n",
        r"line 8, column image.*as in line 6; remove",
    ),
    "duplicate in other words": (TABLE + "./sub//d.jfif,bus,test,1,1\n", r"one row per image.*line 6.*as in line 5"),
    "duplicate after a blank line": (TABLE + "\nx+y.JPG,bus,test,1,1\n", r"one row per image.*line 7"),
    "duplicate box": (BOXED.format("x+y.JPG,b,0.0,0,10,10,1"), r"one row per image.*line 3.*as in line 2"),
    "value 2": (
        TABLE.replace("0.0", "2"),
        r"0, 1, a share between them or an empty cell in .*attributes\.csv, line 4, column striped.*'2'",
    ),
    "value 1.5": (
        TABLE.replace("0.0", "1.5"),
        r"0, 1, a share between them or an empty cell in .*line 4, column striped.*'1\.5'",
    ),
    "value -0.1": (TABLE.replace("0.0", "-0.1"), r"line 4, column striped.*'-0\.1'"),
    "value 0,5": (
        TABLE.replace("0.0", '"0,5"'),
        r"line 4, column striped. Received: '0,5'; write 1 or yes, 0 or no, .* and decimal points, as in 0\.5\.$",
    ),
    "value maybe": (
        TABLE.replace("0.0", "maybe"),
        r"line 4, column striped.*'maybe'; write 1 or yes, 0 or no, .*if it is no attribute, remove the column[.]$",
    ),
    "value -1": (
        TABLE.replace("0.0", "-1"),
        r"line 4, column striped. Received: '-1'; write 0 where -1 is no, and nothing where it is unknown\.$",
    ),
    "value -1 as Excel writes it": (
        TABLE.replace(",", ";").replace("0.0", "-1,0"),
        r"column striped.*; write 0 where -1 is no",
    ),
    "percentage": (
        TABLE.replace("0.0", "67 %"),
        r"Received: '67 %'; write 1 or yes, .* as in 0\.5, and divide percentages by 100\.$",
    ),
    "numbers up to 100": (
        "image,red\na b.jpg,1\nx+y.JPG,67\nsub/d.jfif,100\n",
        r"line 3, column red\. Received: '67', the first of 2 such cells of 1 column; .*, and divide percentages by 100\.$",
    ),
    "numbers above 100": (
        "image,red\na b.jpg,1\nx+y.JPG,67\nsub/d.jfif,101\n",
        r"Received: '67', the first of 2 .*, as in 0\.5\.$",
    ),
    "values in several columns": (
        "image,red,big,wet\na b.jpg,1,maybe,2\nx+y.JPG,0,1,3\nsub/d.jfif,1,0,0\n",
        r"line 2, column big\. Received: 'maybe', the first of 3 such cells of 2 columns \(big and wet\); write 1 or yes, .*, or, where these are no attributes, "
        r"remove the columns or call that class which names one\.$",
    ),
    "columns that are no attributes": (
        "image,class,sku,colour,price,furry\na b.jpg,k,1001,red,12.5,1\nx+y.JPG,k,1002,blue,7,0\n",
        r"line 2, column sku\. Received: '1001', the first of 6 such cells of 3 columns \(sku, colour and price\); .*, or, where these "
        r"are no attributes, remove the columns\.$",
    ),
    "every line in quotes": (
        "\n".join(f'"{line}"' for line in TABLE.splitlines()),
        r"Expected a table in .*Received: a header that is one cell in quotes; leave out the quotes around whole lines\.$",
    ),
    "every line in quotes, and a comma after it": (
        "\n".join(f'"{line}",' for line in TABLE.splitlines()),
        r"a header that is one cell in quotes; leave out",
    ),
    "every line of semicolons in quotes": (
        "\n".join(f'"{line}"' for line in TABLE.replace(",", ";").splitlines()),
        r"a header that is one cell in quotes; leave out",
    ),
    "set": (
        "image,red,set\na b.jpg,1,Train\nx+y.JPG,0,\nsub/d.jfif,1, TEST\n",
        r"column set\. Received: 'Train', the first of 2 .*; call the column split\.$",
    ),
    "set with validation": (
        "image,red,Fold\na b.jpg,1,val\nx+y.JPG,0,test\n",
        r"column Fold\. Received: 'val', .*; call the column split\.$",
    ),
    "set and another word": (
        "image,red,set\na b.jpg,1,train\nx+y.JPG,0,none of these\n",
        r"column set\. Received: 'train', .*remove the column",
    ),
    "set beside a split": (
        TABLE.replace("has wheels", "set").replace("1,0\n", "1,train\n"),
        r"line 2, column set\. Received: 'train'; write 1 or yes, .*remove the column",
    ),
    "box in other letters": (
        BOXED.replace("left,top,right,bottom", "Left,top,RIGHT,Bottom").format("x+y.JPG,b,1,0,3,10,1"),
        r"the columns left, right, bottom in small letters in .*Received: Left, RIGHT, Bottom; rename them\.$",
    ),
    "corners": (
        BOXED.replace("left,top,right,bottom", "x1,y1,x2,y2").format("x+y.JPG,b,1,0,3,10,1"),
        r"Expected the columns \['left', 'top', 'right', 'bottom'\] of a box in .*Received: \['x1', 'y1', 'x2', 'y2'\]; call them left, top, right, bottom, or",
    ),
    "corners in another order": (
        BOXED.replace("left,top,right,bottom", "XMin,XMax,Y_min,y_max").format("x+y.JPG,b,1,0,3,10,1"),
        r"Received: \['XMin', 'Y_min', 'XMax', 'y_max'\]; call them left, top, right, bottom, or rename them if they are attributes\.$",
    ),
    "centre and size": (
        BOXED.replace("left,top,right,bottom", "x_center,y_center,width,height").format("x+y.JPG,b,1,0,3,10,1"),
        r"Received: \['x_center', 'y_center', 'width', 'height'\]; give left = x_center - width / 2 and so on in pixels, or rename",
    ),
    "corner and size": (
        BOXED.replace("left,top,right,bottom", "x,y,w,h").format("x+y.JPG,b,1,0,3,10,1"),
        r"Received: \['x', 'y', 'w', 'h'\]; give left = x, top = y, right = x \+ w",
    ),
    "box of everything in shares": (
        BOXED.replace("0,0,10,10", "0,0,1,1").format("x+y.JPG,b,0,0,1,1,1"),
        r"boxes in pixels in .*shares of a side",
    ),
    "inverted box": (BOXED.format("x+y.JPG,b,9,0,3,10,1"), r"left < right.*line 3.*left=9.*right=3.*correct the box"),
    "negative box": (BOXED.format("x+y.JPG,b,-1,0,3,10,1"), r"0 <= left.*line 3.*left=-1"),
    "box in shares": (
        BOXED.replace("0,0,10,10", "0,0,1,1").format("x+y.JPG,b,0.1,0.2,0.6,0.7,1"),
        r"boxes in pixels in .*shares of a side",
    ),
    "folder twice": (
        TABLE.replace("a b.jpg", "images/a b.jpg"),
        r"within images/ in .*line 2, column image.*Received: images/a b.jpg; leave out",
    ),
    "folder everywhere": (
        TABLE.replace("\n", "\nimages/").rstrip("/images"),
        r"within images/ in .*line 2.*Received: images/a b.jpg; leave out the leading images/",
    ),
    "whole path": (
        "image,red\n/data/mine/images/sub/d.jfif,1\nx+y.JPG,0\n",
        r"within images/ in .*line 2.*leave out the leading /data/mine/images/\.",
    ),
    "half a box": (BOXED.format("x+y.JPG,b,1,,3,10,1"), r"0 <= left.*line 3.*top=,"),
    "endless box": (BOXED.format("x+y.JPG,b,1,0,inf,10,1"), r"0 <= left.*line 3.*right=inf"),
    "box columns": (
        "image,class,left,right,red\nx+y.JPG,a,0,3,1\n",
        r"\['left', 'top', 'right', 'bottom'\] together.*\['left', 'right'\] only; add the others, or rename these if they are attributes",
    ),
    "top alone": (
        "image,top\na b.jpg,1\nx+y.JPG,0\n",
        r"together in .*Received: \['top'\] only; add the others, or rename it if it is an attribute\.$",
    ),
    "image absent": (
        TABLE + "no.jpg,bus,test,1,1\n",
        r"attributes\.csv \(line 6\).*images.*1 of 5 absent, the first is no\.jpg",
    ),
    "image outside": (TABLE + "../attributes.csv,bus,test,1,1\n", r"1 of 5 absent, the first is \.\./attributes\.csv"),
    "no image": (TABLE + ",bus,test,1,1\n", r"value of image in .*line 6.*fill the cell"),
    "no class": (TABLE + "no.jpg, ,test,1,1\n", r"value of class in .*line 6"),
    "no column image": (
        TABLE.replace("image", "file"),
        r"Expected a column image in .*\['file', 'class'.*call so the one that names",
    ),
    "no column class": (TABLE.replace("class", "kind"), r"line 2, column kind. Received: 'tram'.*call it class"),
    "bars": (TABLE.replace(",", "|"), r"Expected a column image in .*separate the columns by commas"),
    "semicolons below other words": (
        "sep=,\n" + TABLE.replace(",", ";"),
        r"Expected a column image in .*separate the columns by commas",
    ),
    "no column image among semicolons": (
        TABLE.replace(",", ";").replace("image", "file").replace("has wheels", '"warm, sunny"'),
        r"a column image in .*Received: \['file', 'class', 'split', 'striped', 'warm, sunny'\]; call so the one that names",
    ),
    "same attribute twice below an empty line": (
        "\n" + TABLE.replace("has wheels", "striped"),
        r"different names in the header of .*striped twice",
    ),
    "too many cells between semicolons": (
        TABLE.replace("tram,train,1,0", "tram,train,1,0,1").replace(",", ";"),
        r"6 cells in line 2 and 5 in the header; remove the semicolons too many",
    ),
    "Image": (TABLE.replace("image", "Image"), r"the column image in small letters in .*Received: Image; rename it"),
    "Image and Class": (
        TABLE.replace("image,class", "Image,Class"),
        r"the columns image, class in small letters in .*Received: Image, Class; rename them",
    ),
    "Split": (TABLE.replace("split", "Split"), r"the column split in small letters in .*Received: Split; rename it"),
    "no attribute": ("image,class\na b.jpg,tram\n", r"Expected a column per attribute"),
    "same attribute twice": (TABLE.replace("has wheels", "striped"), r"different names.*striped twice"),
    "nameless column": (TABLE.replace("has wheels", ""), r"different names.*no name in column 5"),
    "too many cells": (
        TABLE.replace("tram,train,1,0", "tram,train,1,0,1"),
        r"Expected a table in .*6 cells in line 2 and 5 in the header; remove the commas too many",
    ),
    "several commas": (
        TABLE.replace(",", ";").replace("0.0", "0,0,0"),
        r"line 4, column striped. Received: '0,0,0'; .*decimal points",
    ),
    "commas below one name": (
        "image\na b.jpg,1\n",
        r"a header without commas and 2 cells in line 2; separate the columns by commas",
    ),
    "too many cells everywhere": (
        TABLE.replace("\n", ",1\n").replace("wheels,1", "wheels"),
        r"Expected a table in .*6 cells in line 2 and 5 in the header",
    ),
    "split": (
        TABLE.replace("test", "dev"),
        r"train, test or an empty cell in .*line 4, column split.*'dev'; write train for what validation is drawn from",
    ),
    "one image": ("image,class,red\na b.jpg,a,1\n", r"at least two images.*Received: one; add some"),
    "other names": (
        "image,red\na b.jpeg,1\nx-y.JPG,0\n",
        r"none of 2, the first is a b\.jpeg, where there is a b\.jpg; copy them there, or correct",
    ),
    "header only": ("image,class,red\n", r"Expected a line per image in .*the header only"),
    "empty file": ("", r"Expected a table in .*attributes\.csv.*no line with text; save it as"),
    "empty line alone": ("\n", r"Expected a table in .*attributes\.csv.*no line with text"),
    "sep= alone": ("sep=;\n", r"Expected a table in .*attributes\.csv.*no line with text"),
    "below sep=": ("sep=;\n" + TABLE.replace(",", ";").replace("0.0", "2"), r"line 5, column striped.*'2'"),
    "below empty lines": ("\n;;;;\n" + TABLE.replace("0.0", "2"), r"line 6, column striped.*'2'"),
    "open quote": (TABLE.replace("tram", '"tram'), r"Expected a table in .*attributes\.csv"),
}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_spreadsheets_separators_are_read(folder, mark):
    written = load(folder_of(folder, TABLE.replace(",", mark)))
    expected = load(folder_of(folder, TABLE))
    assert written.attributes == expected.attributes and written.paths == expected.paths
    np.testing.assert_array_equal(written.labels, expected.labels)


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("name", ['"warm, sunny"', "warm, sunny", '"warm,\nsunny"'])
def test_a_comma_in_the_header_does_not_hide_a_spreadsheets_separators(folder, mark, name):
    domain = load(folder_of(folder, TABLE.replace(",", mark).replace("has wheels", name)))
    assert domain.attributes == ("mine/striped", "mine/warm, sunny")
    with pytest.raises(UserError, match="the column image in small letters in .*Received: Image; rename it"):
        load(folder_of(folder, TABLE.replace(",", mark).replace("has wheels", name).replace("image", "Image")))


def test_commas_stand_between_cells_where_names_hold_semicolons(folder):
    assert load(folder_of(folder, TABLE.replace("striped", "a;b;c;d;e;f"))).attributes == (
        "mine/a;b;c;d;e;f",
        "mine/has wheels",
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_are_read_between_a_spreadsheets_separators(folder, mark):
    text = "image|class|left|top|right|bottom|red\nx+y.JPG|a|0|0|10|10|1\nx+y.JPG|b|10,2|,0|39,5|30,0|0,67\na b.jpg|1,5||||| 1,5E-01\n"
    domain = load(folder_of(folder, text.replace("|", mark)))
    np.testing.assert_array_equal(domain.boxes, [[0, 0, 10, 10], [10, 0, 40, 30], [-1, -1, -1, -1]])
    np.testing.assert_allclose(domain.targets[:, 0], [1, 0.67, 0.15], rtol=1e-6)
    assert domain.classes == ("mine/1,5", "mine/a", "mine/b")


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (("Yes", "y", "TRUE", " t "), 1),
        (("no", "N", "False", "f"), 0),
        (("NA", "n/a", "None", "null"), np.nan),
        ((" ? ", "nan", "", " "), np.nan),
        (("1", " 1", "\u00a01", "1\u202f"), 1),
    ],
    ids=["yes", "no", "unknown", "also unknown", "spaces"],
)
def test_words_are_labels(folder, words, label):
    worded = load(
        folder_of(
            folder,
            "image,red,old\n" + "\n".join(f"{name},{word},{i % 2}" for i, (name, word) in enumerate(zip(NAMES, words))),
        )
    )
    np.testing.assert_array_equal(worded.labels[:, 0], [label] * 4)


def test_names_that_differ_in_case_from_their_files_are_found_and_told(folder):
    written = "image,class,red\nA b.JPG,p,1\nx+y.jpg,q,0\nsub/d.jfif,q,1\n"
    domain = load(folder_of(folder, written))
    assert [os.path.basename(path) for path in domain.paths] == ["a b.jpg", "x+y.JPG", "d.jfif"]
    assert (
        f"2 of 3 rows of {folder / 'attributes.csv'} name files that differ in case, the first is A b.JPG for a b.jpg."
        in domain.notes
    )
    with pytest.raises(UserError, match=r"one row per image.*line 5, column image.*Received: a B\.jpg, as in line 2"):
        load(folder_of(folder, written + "a B.jpg,p,0\n"))
    Image.new("RGB", (8, 8)).save(folder / "images" / "A B.jpg")  # now it is not clear which is meant
    with pytest.raises(
        UserError,
        match=r"1 of 3 absent, the first is A b\.JPG, where there is [aA] [bB]\.jpg; complete the folder, correct the names",
    ):
        load(folder_of(folder, written))


def test_a_name_of_two_files_is_refused(folder):
    """That differ in how their bytes write one name."""
    composed, apart = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    for name in (composed, apart):
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
    if len(os.listdir(folder / "images")) < 6:
        pytest.skip("the file system holds such names for one")
    for name in (composed, apart):
        with pytest.raises(
            UserError, match=r"name of one file in .*line 3, column image.*'cafe\\u0301.png' and 'caf\\xe9.png'"
        ):
            load(folder_of(folder, f"image,red\na b.jpg,1\n{name},0\nx+y.JPG,1\n"))
    load(folder_of(folder, "image,red\na b.jpg,1\nx+y.JPG,0\n"))


def test_lines_that_end_early_are_told(folder, caplog):
    write(folder, TABLE.replace("tram,train,1,0", "train,1,0").replace("größe.png,Tür,train,,1", "größe.png,Tür,train"))
    with pytest.raises(UserError, match="line 2, column split"):
        load(folder)
    (told,) = (r.getMessage() for r in caplog.records if "end early" in r.getMessage())
    assert told == (
        f"2 of 4 lines of {folder / 'attributes.csv'} end early, the first is line 2 with 4 of 5 cells: the cells at their end are read as empty, so "
        "make sure that none is missing before."
    )


def test_commas_at_the_end_of_the_header_alone_are_no_columns(folder, caplog):
    check_standard(load(folder_of(folder, TABLE.replace("wheels\n", "wheels,,\n"))))
    assert "end early" not in caplog.text
    check_standard(load(folder_of(folder, TABLE.replace("wheels\n", "wheels,\n").replace("bus,,1,\n", "bus,,1\n"))))
    assert "1 of 4 lines" in caplog.text and "line 5 with 4 of 5 cells" in caplog.text


def test_an_attribute_may_be_called_like_the_side_of_a_box(folder):
    assert load(folder_of(folder, TABLE.replace("has wheels", "Top"))).attributes == ("mine/striped", "mine/Top")


def test_names_that_are_written_by_other_bytes_are_one(folder):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert load(folder_of(folder, f"image,{apart}\na b.jpg,1\nx+y.JPG,0\n")).attributes == (f"mine/{composed}",)
    with pytest.raises(UserError, match=f"Received: {composed} twice; rename or remove one"):
        load(folder_of(folder, f"image,{apart},{composed}\na b.jpg,1,0\nx+y.JPG,0,1\n"))


def test_an_empty_split_column_is_none(folder):
    rows = [f"{name},k{i % 2},,{i % 2}" for i, name in enumerate(NAMES)]
    domain = load(folder_of(folder, "\n".join(["image,class,split,red", *rows])))
    assert sorted(set(domain.subsets)) == ["test", "train"] and "No split is given" in " ".join(domain.notes)


def test_who_has_a_split_is_not_told_to_draw_another(folder, caplog):
    config = Config(
        domain=("mine",),
        data_dir=(
            str(folder_of(folder, "\n".join(["image,red", *(f"{name},{i % 2}" for i, name in enumerate(NAMES))]))),
        ),
    )
    assert load_domains(config, has_split=True).notes == load_domains(config).notes
    assert [r.getMessage()[:17] for r in caplog.records] == [
        "There are no clas",
        "No split is given",
        "There are no clas",
    ]


@pytest.mark.parametrize("names", ["polar bear|polar_bear|Polar  bear", "Straße|STRASSE|strasse", "1|01|1.0"])
def test_spellings_of_one_class_are_noted(folder, names):
    rows = [f"{image},{name},{i % 2}" for i, (image, name) in enumerate(zip(NAMES, names.split("|")))]
    notes = load(folder_of(folder, "image,class,red\n" + "\n".join(rows))).notes
    (note,) = (note for note in notes if "apart" in note)
    assert "apart (and 1 more such pair), whose names are nearly the same: write them alike if they are one." in note


@pytest.mark.parametrize("names", ["in/lib|out/lib|lib", "1|-1|1.5", "+|-|*", "A|A+|A-", "c|c#|c++", "<5|>5|5"])
def test_other_classes_are_not_taken_for_spellings(folder, names):
    rows = [f"{image},{name},{i % 2}" for i, (image, name) in enumerate(zip(NAMES, names.split("|")))]
    notes = load(folder_of(folder, "image,class,red\n" + "\n".join(rows))).notes
    assert not any("apart" in note for note in notes)


def test_names_that_differ_in_case_alone_and_pictures_without_a_row_are_noted(folder):
    domain = load(folder_of(folder, "image,class,red,Red\na b.jpg,Bus,1,0\nx+y.JPG,bus,0,1\nsub/d.jfif,tram,1,1\n"))
    path, notes = folder / "attributes.csv", domain.notes
    assert f"1 of the 4 files in {folder / 'images'} are pictures without a row in {path} and are left out." in notes
    assert (
        f"{path} tells Bus and bus apart, whose names are nearly the same: write them alike if they are one." in notes
    )
    assert any(note.startswith(f"{path} tells red and Red apart, whose") for note in notes)
    more = load(folder_of(folder, "image,red,Red,old,OLD,new,New\na b.jpg,1,0,1,0,1,0\nx+y.JPG,0,1,0,1,0,1\n")).notes
    assert any(note.startswith(f"{path} tells red and Red apart (and 2 more such pairs), whose") for note in more)
    assert not any("apart" in note or "without a row" in note for note in load(folder_of(folder, TABLE)).notes)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_ends_in_one_sentence(folder, mistake):
    text, expected = MISTAKES[mistake]
    write(folder, text)
    with pytest.raises(UserError, match=expected) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "head, cell", [("image,red", "{}"), ("image,class,red", "{},thing")], ids=["no class", "one class"]
)
def test_without_classes_other_images_are_tested(folder, head, cell):
    rows = [f"{cell.format(name)},{i % 2}" for i, name in enumerate(NAMES)]
    write(folder, "\n".join([head, *rows]))
    domain, again, other = load(folder), load(folder, split_seed=0), load(folder, split_seed=1)
    assert sorted(set(domain.subsets)) == ["test", "train"] and not domain.class_disjoint and len(domain.classes) == 1
    assert (
        domain.notes[-2]
        == "No split is given for mine: 2 of 4 images, drawn at random, are tested; --split_seed=1 draws others."
    )
    assert domain.notes[-1].startswith("There are no classes to hold out")
    assert sorted(set(again.subsets)) == ["test", "train"] and sorted(set(other.subsets)) == ["test", "train"]
    boxed = [f"{cell.format(name)},{left},0,{left + 5},9,{left % 2}" for name in NAMES for left in range(0, 20, 5)]
    write(folder, "\n".join([head.replace("red", "left,top,right,bottom,red"), *boxed]))
    sides = {s: {p for p, of in zip(load(folder).paths, load(folder).subsets) if of == s} for s in ("train", "test")}
    assert sides["test"] and not sides["train"] & sides["test"]


def test_labels_as_pandas_writes_them(folder):
    text = TABLE.replace("bus,,1,\n", "bus,,True,NaN\n").replace("0.0", "False")
    assert text != TABLE
    check_standard(load(folder_of(folder, text)))


@pytest.mark.parametrize("broken", ['"b.png,cat,1\n', '"b".png,cat,1\n'], ids=["never closed", "text after it"])
def test_a_broken_quote_is_told_with_its_line(folder, broken):
    rows = TABLE.splitlines(keepends=True)
    (folder / "attributes.csv").write_text("".join([*rows[:2], broken, *rows[2:]]), encoding="utf-8")
    with pytest.raises(
        UserError,
        match="in a row that begins in line 3; close the quote there, or write it twice where it belongs to the cell.$",
    ):
        load(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_another_encoding(folder, end):
    path = folder / "attributes.csv"
    path.write_bytes(TABLE.replace("\n", end).encode("latin-1"))
    with pytest.raises(UserError) as caught:
        load(folder)
    assert (
        str(caught.value)
        == f"Expected a table in {path}. Received: bytes in line 3 that are not UTF-8; save it as UTF-8 CSV."
    )
    path.write_bytes(TABLE.strip().replace("\n", end).encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"Received: bytes in line 5 that are not UTF-16; save it as UTF-8 CSV\."):
        load(folder)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_an_encoding_that_cannot_be_told_is_refused(folder, encoding):
    (folder / "attributes.csv").write_bytes(TABLE.encode(encoding))
    with pytest.raises(UserError, match=r"bytes of zero, as in UTF-32, or UTF-16 without a mark; save it as UTF-8 CSV"):
        load(folder)


@pytest.mark.parametrize("encoding, start", [("utf-16", ""), ("utf-16-be", "\ufeff"), ("utf-16-le", "\ufeff")])
def test_a_spreadsheets_unicode_text_is_read(folder, encoding, start):
    (folder / "attributes.csv").write_bytes((start + TABLE.replace(",", "\t").replace("\n", "\r\n")).encode(encoding))
    check_standard(load(folder))


def test_absent_images_are_left_out_on_request(folder):
    write(folder, TABLE + "no.jpg,bus,test,1,1\n")
    domain = load(folder, on_bad_image="skip")
    check_standard(domain)
    assert "1 of 5 images listed" in " ".join(domain.notes)


def test_a_run_that_was_begun_is_not_told_to_leave_images_out(folder):
    write(folder, TABLE + "no.jpg,bus,test,1,1\n")
    with pytest.raises(UserError, match="or leave absent images out with --on_bad_image=skip[.]$"):
        load(folder)
    for settled in ({"resume": True}, {"add_attribute": "new.csv"}):
        with pytest.raises(UserError, match="; complete the folder, or correct the names[.]$"):
            load(folder, **settled)


def test_rows_after_an_absent_image_keep_what_is_theirs(folder):
    rows = ["no.jpg,bus,test,9,9,19,19,0.9", "a b.jpg,tram,train,1,2,3,4,0.25", "x+y.JPG,bus,test,5,6,7,8,0.75"]
    write(folder, "\n".join(["image,class,split,left,top,right,bottom,striped", *rows]))
    domain = load(folder, on_bad_image="skip")
    assert [pathlib.Path(path).name for path in domain.paths] == ["a b.jpg", "x+y.JPG"]
    np.testing.assert_array_equal(domain.boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(domain.targets, [[0.25], [0.75]])
    np.testing.assert_array_equal(domain.labels, [[0], [1]])
    assert [domain.classes[c] for c in domain.class_ids] == ["mine/tram", "mine/bus"]
    assert domain.subsets.tolist() == ["train", "test"]


def test_all_images_absent(folder):
    write(folder, "image,class,red\nn.jpg,a,1\nm.jpg,b,0\n")
    with pytest.raises(UserError, match="none of 2"):
        load(folder, on_bad_image="skip")


def test_box_outside_the_image(folder, tmp_path):
    write(folder, BOXED.format("x+y.JPG,b,1,0,41,10,1"))
    domain = load(folder)
    with pytest.raises(UserError, match=r"within the 40x30 pixels of .*x\+y\.JPG.*right=41.*correct the box"):
        load_images(domain, Config(domain=("mine",), data_dir=(str(folder),), cache_dir=str(tmp_path / "cache")))


def test_class_with_one_image_is_noted(folder):
    assert "2 of 3 classes of mine have one image only, the first is Tür" in " ".join(load(folder).notes)


def test_shared_classes_are_not_called_disjoint(folder):
    write(folder, TABLE.replace("sub/d.jfif,bus,", "sub/d.jfif,bus,train"))
    assert not load(folder).class_disjoint


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([True, False, None], [1, 0, np.nan]),
        (pd.array([1, None, 0], "Int64"), [1, np.nan, 0]),
        ([1.0, 0.0, np.nan], [1, 0, np.nan]),
        (pd.Categorical([1, 0, 0]), [1, 0, 0]),
    ],
    ids=["bool", "Int64", "float", "category"],
)
def test_parquet_column_types(folder, monkeypatch, column, expected):
    use_parquet(folder, monkeypatch, column)
    np.testing.assert_array_equal(load(folder).labels[:, 0], expected)


@pytest.mark.parametrize(
    "column",
    [pd.to_datetime(["2020-01-01"] * 3), [[1], [0], [1]], ["a", "b", "c"], [b"\x00", b"1", b"0"]],
    ids=["time", "lists", "text", "bytes"],
)
def test_parquet_column_of_another_type(folder, monkeypatch, column):
    use_parquet(folder, monkeypatch, column)
    with pytest.raises(
        UserError, match=r"0, 1, a share between them or an empty cell in .*attributes\.parquet, row 0, column red"
    ):
        load(folder)


def test_cells_of_every_kind_that_a_column_may_mix(folder, monkeypatch):
    cells = [None, np.nan, pd.NA, pd.NaT, "", " ?", "Yes", "no ", True, 1, False, 0, 1.0, "1", "0.5", np.float32(0.25), decimal.Decimal("0.5")]  # fmt: skip
    expected = np.float32([np.nan] * 6 + [1, 0, 1, 1, 0, 0, 1, 1, 0.5, 0.25, 0.5])
    for order in (1, -1):  # of equal cells the first stands for the others
        table = pd.DataFrame({"red": pd.Series(cells[::order], dtype=object)})
        np.testing.assert_array_equal(table_file.read_labels(table, "a.parquet")[1][:, 0], expected[::order])
    use_parquet(folder, monkeypatch, pd.Series([True, 2, 2], dtype=object).to_numpy())
    with pytest.raises(UserError, match=r"row 1, column red\. Received: 2, the first of 2 such cells of 1 column;"):
        load(folder)
    use_parquet(folder_of(folder, TABLE), monkeypatch, pd.Series([1, None, [1]], dtype=object).to_numpy())
    with pytest.raises(UserError, match=r"row 2, column red\. Received: \[1\];"):  # which has no hash
        load(folder)


def test_what_is_many_times_in_a_column_is_read_once(monkeypatch):
    seen = []

    class Words(dict):
        def get(self, cell, default):
            seen.append(cell)
            return super().get(cell, default)

    monkeypatch.setattr(table_file, "_WORDS", Words(table_file._WORDS))
    table = pd.DataFrame({"red": ["1", "no", ""] * 1000})
    labels = table_file.read_labels(table, "a.csv")[1]
    np.testing.assert_array_equal(labels[:, 0], np.float32([1, 0, np.nan] * 1000))
    assert seen == ["1", "no", ""]


@pytest.mark.parametrize("empty", ["", ",,,,", ' ,,""', "\t,,, ,"])
def test_lines_without_any_cell_are_left_out(folder, empty):
    lines = TABLE.splitlines()
    write(folder, "\n".join([lines[0], empty, *lines[1:3], empty, empty, *lines[3:], empty]))
    check_standard(load(folder))
    lines[3] = ",bus,,,"
    write(folder, "\n".join([lines[0], empty, *lines[1:]]))
    with pytest.raises(UserError, match=r"a value of image in .*attributes\.csv, line 5\. Received: nothing"):
        load(folder)


def use_parquet(folder: pathlib.Path, monkeypatch, column) -> None:
    """A Parquet file as pandas returns it, so that the test needs no Parquet library."""
    table = pd.DataFrame({"class": ["a", "b", "c"], "red": column}, index=pd.Index(NAMES[:3], name="image"))
    (folder / "attributes.csv").unlink()
    (folder / "attributes.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(pd, "read_parquet", lambda path: table)


def test_a_categorical_split_with_empty_cells_in_parquet(folder, monkeypatch):
    use_parquet(folder, monkeypatch, [1, 0, 1])
    table = pd.read_parquet("").assign(split=pd.Categorical(["train", None, "test"]))
    monkeypatch.setattr(pd, "read_parquet", lambda path: table)
    domain = load(folder)
    assert domain.subsets.tolist() == ["train", "unused", "test"]
    assert any("1 of 3 rows of" in note and "have no split and are unused" in note for note in domain.notes)


@pytest.mark.parametrize(
    "column",
    [
        lambda side: [float(side), np.nan, np.nan],
        lambda side: pd.array([side, None, None], "Int32"),
        lambda side: pd.array([str(side), None, "?"], "string"),
        lambda side: [str(side), None, "NA"],
        lambda side: pd.Categorical([str(side), None, None]),
        lambda side: pd.Series([decimal.Decimal(side), None, pd.NA], dtype=object),
    ],
    ids=["float", "Int32", "string", "text", "category", "mixed"],
)
def test_a_parquet_row_with_an_empty_box_is_the_whole_image(column):
    sides = ("left", "top", "right", "bottom")
    table = pd.DataFrame({name: column(side) for name, side in zip(sides, (3, 4, 7, 9))})
    boxes = table_file.read_boxes(table, "a.parquet")
    assert boxes.tolist() == [[3, 4, 7, 9], [-1] * 4, [-1] * 4]
    table = table.assign(bottom=[9, 5, None]).rename_axis("row")
    with pytest.raises(UserError, match="0 <= top < bottom in a.parquet, row 1"):
        table_file.read_boxes(table, "a.parquet")


def test_parquet_file_read_for_real(folder):
    text = pd.read_csv(folder / "attributes.csv")
    (folder / "attributes.csv").unlink()
    text.to_parquet(folder / "attributes.parquet")
    check_standard(load(folder))


def test_a_second_table_is_told_and_not_read(folder):
    (folder / "attributes.parquet").write_bytes(b"PAR1 of another day")
    domain = load(folder)
    check_standard(domain)
    assert f"attributes.parquet is not read, since attributes.csv lies beside it in {folder}." in domain.notes


@pytest.mark.parametrize(
    "there, repair",
    [
        ("000.PNG", "Received: 000.PNG; move the pictures into such a folder"),
        ("Images/a.png", "Received: Images; call Images images"),
    ],
)
def test_pictures_in_another_place_are_told(tmp_path, there, repair):
    write(tmp_path, TABLE)
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    with pytest.raises(UserError, match=f"Expected a folder images/ beside .*attributes.csv. {repair}"):
        load(tmp_path)


def test_a_class_that_is_called_like_an_unknown_label_is_noted(folder):
    notes = load(folder_of(folder, TABLE.replace(",bus,", ",N/A,").replace("Tür", "nan"))).notes
    assert (
        sum("N/A counts as a class of 2 images in" in note for note in notes) == 1
        and sum("nan counts as a class of 1 image" in note for note in notes) == 1
    )
    assert not any("counts as a class" in note for note in load(folder_of(folder, TABLE)).notes)


def test_parquet_without_its_library(folder, monkeypatch):
    def read_parquet(path):
        raise ImportError("Missing optional dependency 'pyarrow'")

    use_parquet(folder, monkeypatch, [1, 0, 1])
    monkeypatch.setattr(pd, "read_parquet", read_parquet)
    with pytest.raises(UserError, match=r"Expected pyarrow to read .*save the table as CSV"):
        load(folder)


def test_damaged_parquet_file(folder):
    (folder / "attributes.csv").unlink()
    (folder / "attributes.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"Expected (a table in|pyarrow to read) .*attributes\.parquet"):
        load(folder)


@pytest.mark.parametrize("told", [True, False])
def test_a_test_that_tells_little_is_warned_of_before_anything_is_trained(folder, caplog, told):
    rows = []
    for i in range(40):
        Image.new("RGB", (40, 30), (0, i, 0)).save(folder / "images" / f"{i}.png")
        test = i >= 30
        red, old = (1, int(told and i % 2)) if test else (i % 2, int(i % 3 == 0))
        rows.append(f"{i}.png,k{i // 5},{'test' if test else 'train'},{red},{old}")
    write(folder, "image,class,split,red,old\n" + "\n".join(rows))
    prepared = preparation.prepare(
        Config(
            domain=("mine",),
            data_dir=(str(folder),),
            image_size=32,
            cache_dir=str(folder / "cache"),
            validation_fraction=0.4,
        )
    )
    assert prepared.split.testable.tolist() == [False, told]
    message = "2 of 2 attributes cannot be tested: what is known of them among the 10 test images is of one kind. --split_seed=1 tests other classes (--splits=1 where repetitions are splits), drawn blindly"
    assert [message in text for text in caplog.messages if "cannot be tested" in text] == ([] if told else [True])


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"split_seed": 1},
            "--split_seed=2 tests other classes (--splits=2 where repetitions are splits), drawn blindly; python -m",
        ),
        ({"splits_file": "x.mat"}, "is of one kind. python -m galm_tf.domains"),
        ({"test_split": "apascal"}, "is of one kind. python -m galm_tf.domains"),
    ],
)
def test_another_split_is_advised_where_there_can_be_one(folder, caplog, settings, advice):
    domain = load(folder_of(folder, "image,class,red\n" + "\n".join(f"{name},c{i},1" for i, name in enumerate(NAMES))))
    split = types.SimpleNamespace(testable=np.zeros(1, bool), test=np.arange(2))
    preparation._warn_of_untested(split, domain, Config(**settings))
    assert advice in caplog.text


def test_copies_are_told_by_all_of_their_bytes(tmp_path):
    end = bytes(range(256)) * 40
    contents = {
        "a": b"1" + end,
        "b": b"2" + end,
        "c": b"1" + end,
        "d": end,
        "e": b"",
        "h": b"",
        "f": b"1" + end,
        "g": b"2" + end,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in (*contents, "absent")]  # of which two are empty
    found = copies.originals([*paths, paths[0]])
    assert {os.path.basename(c): os.path.basename(o) for c, o in found.items()} == {"c": "a", "f": "a", "g": "b"}
    assert copies.originals(paths[::-1]) == found


CLASS_TABLE = "class;striped;old\ntram;1;0,5\nTür;0;NA\nbus;;1\nship;1;1\n"


def test_labels_of_whole_classes(folder):
    """They hold where an image has no label of its own; classes on one side only are told."""
    (folder / "class_attributes.csv").write_text(CLASS_TABLE, encoding="utf-8")
    domain = load(folder)
    assert domain.attributes == ("mine/striped", "mine/has wheels", "mine/old")
    np.testing.assert_array_equal(domain.labels, [[1, 0, 1], [0, 1, np.nan], [0, 1, 1], [1, np.nan, 1]])
    np.testing.assert_array_equal(domain.targets[:, 2], np.float32([0.5, np.nan, 1, 1]))
    (note,) = (note for note in domain.notes if "has no image in" in note)
    (folder / "class_attributes.csv").write_text(CLASS_TABLE.replace("tram;1", "tram;0"), encoding="utf-8")
    assert load(folder).labels[0, 0] == 1  # what an image says of itself
    assert (
        note.startswith("1 class of ")
        and note.endswith("the first is ship.")
        and not any("no row in" in note for note in domain.notes)
    )
    (folder / "class_attributes.csv").write_text(
        CLASS_TABLE.replace("Tür", "tür").replace("ship;1;1\n", ""), encoding="utf-8"
    )
    domain = load(folder)
    np.testing.assert_array_equal(domain.labels[1], [np.nan, 1, np.nan])
    assert any(
        note.startswith("1 class of ") and "has no row in" in note and "the first is Tür" in note
        for note in domain.notes
    )


def test_names_of_classes_are_written_alike_where_they_look_alike(folder):
    """As another system composes accents, and with what cannot be seen."""
    apart = unicodedata.normalize("NFD", "Tür")
    assert apart != "Tür"
    write(folder, TABLE.replace("x+y.JPG,bus", f"x+y.JPG,{apart}").replace("d.jfif,bus", "d.jfif,tram\u200b "))
    (folder / "class_attributes.csv").write_text(CLASS_TABLE.replace("Tür", apart), encoding="utf-8")
    domain = load(folder)
    assert domain.classes == ("mine/Tür", "mine/tram")
    assert domain.class_ids.tolist() == [1, 0, 0, 1]
    assert domain.labels[1].tolist()[0] == 0  # by the table of classes


def test_an_absent_file_is_not_taken_for_another_row_s(folder):
    """`sub/a b.jpg` is not `a b.jpg`, which has a row of its own."""
    write(folder, TABLE.replace("größe.png", "sub/a b.jpg"))
    with pytest.raises(UserError, match="Expected the 4 images of .*|1 of 4") as error:
        load(folder)
    assert "leading" not in str(error.value)


def test_a_folder_whose_name_is_no_text(folder):
    """As of a disk written elsewhere: newer versions of pandas take no such path for a string."""
    other = os.fsencode(folder) + b"/caf\xe9"
    try:
        os.mkdir(other)
    except OSError:
        pytest.skip("this file system wants names that are text")
    shutil.move(folder / "images", os.fsdecode(other))
    shutil.move(folder / "attributes.csv", os.fsdecode(other))
    logging.disable()  # a log with its name could not be handed from one process to another
    try:
        check_standard(load(pathlib.Path(os.fsdecode(other))))
    finally:
        logging.disable(logging.NOTSET)


def test_a_box_a_hair_over_a_pixel_ends_there(folder):
    write(folder, BOXED.format("x+y.JPG,b,1.995,0,40.004,29.996,1"))
    assert load(folder).boxes[1].tolist() == [2, 0, 40, 30]


def test_labels_of_classes_alone_suffice(folder):
    write(
        folder,
        "image,class,split\n" + "\n".join(f"{name},{c},train" for name, c in zip(NAMES, ("tram", "Tür", "bus", "bus"))),
    )
    (folder / "class_attributes.csv").write_text(CLASS_TABLE, encoding="utf-8")
    domain = load(folder)
    assert domain.attributes == ("mine/striped", "mine/old")
    np.testing.assert_array_equal(domain.labels, [[1, 1], [0, np.nan], [np.nan, 1], [np.nan, 1]])


@pytest.mark.parametrize(
    "table, classes, message",
    [
        (
            TABLE,
            CLASS_TABLE + "bus;1;1\n",
            r"one row per class in .*class_attributes.csv, line 6, column class. Received: bus, as in line 4; remove one",
        ),
        (
            TABLE,
            "class,old\nTram,1\nBus,0\n",
            r"rows of the classes of .* Received: none of 3, e.g. Tram and not tram; write their names alike",
        ),
        (
            TABLE,
            CLASS_TABLE.replace("0,5", "7"),
            r"an empty cell in .*class_attributes.csv, line 2, column old. Received: '7'",
        ),
        (
            TABLE.replace("class", "kind", 1).replace("tram,", "1,").replace("Tür,", "1,").replace("bus,", "0,"),
            CLASS_TABLE,
            r"a column class in .*attributes.csv, by which .* Received: \['image', 'kind', 'split', 'striped', 'has wheels'\]; add it",
        ),
        (
            TABLE,
            CLASS_TABLE.replace("old", "split", 1).replace("0,5", "train"),
            r"the column class and one per attribute in .*class_attributes.csv. Received: split, which single images have; give it beside",
        ),
        (
            TABLE,
            CLASS_TABLE.replace("class", "name", 1),
            r"Expected a column class in .*class_attributes.csv.*call so the one that names the classes",
        ),
    ],
)
def test_mistakes_in_labels_of_classes(folder, table, classes, message):
    write(folder, table)
    (folder / "class_attributes.csv").write_text(classes, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load(folder)
