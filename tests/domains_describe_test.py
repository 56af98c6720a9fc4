import dataclasses
import json
import re
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.build import build_domain
from galm_tf.domains.contact_sheet import _font, _wrapped, contact_sheet, spread_over_classes
from galm_tf.domains.describe import describe, headline, part_records, shown_classes, to_json, to_text
from galm_tf.domains.join import join_domains
from galm_tf.domains.splits import Split, make_split

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
COLORS = np.array(
    [[200, 30, 30], [30, 160, 60], [40, 60, 210], [230, 200, 40], [150, 40, 170], [20, 190, 200]], np.uint8
)


def _domain(name="zoo", images=40, unknown=0.2):
    """Six classes, the last tested; a3 never occurs in training, a4 is unknown in the test."""
    rng = np.random.default_rng(1)
    class_ids = np.repeat(np.arange(6), images)
    labels = (rng.random((len(class_ids), 5)) < [0.5, 0.3, 0.1, 0.5, 0.5]).astype(np.float32)
    labels[rng.random(labels.shape) < unknown] = np.nan
    labels[class_ids < 5, 3] = 0
    labels[class_ids == 5, 4] = np.nan
    return build_domain(
        name,
        "table",
        attributes=["striped", "wet", "rare", "unseen", "hidden"],
        classes=["ant", "bée", "cat", "dog", "elk", "fox"],
        paths=[f"/{name}/{i}.png" for i in range(len(class_ids))],
        class_ids=class_ids,
        labels=labels,
        subsets=np.where(class_ids == 5, "test", "train"),
        source="own",
        notes=["A planted note."],
    )


def test_data_without_classes_are_said_to_have_none_and_what_cannot_be_judged_is_explained():
    domain = _domain(images=2)
    plain = dataclasses.replace(domain, class_ids=np.zeros(len(domain.paths), np.int32), classes=("image",))
    text = to_text(describe(plain, make_split(plain, Config(domain=("zoo",)))))
    assert "12 images, no classes, 5 attributes" in text and "est classes" not in text
    value = to_json(describe(plain, make_split(plain, Config(domain=("zoo",)))))
    assert value["num_classes"] == 0 and not value["classes"]
    assert (
        " ".join(text.split()).count(
            "What is not judged gets an architecture that is not of its own, and no yes or no: hold out more by --validation_fraction=0.3,"
        )
        == 1
    )


def test_of_thousands_of_classes_the_first_are_named():
    class_ids = np.repeat(np.arange(500), 2)
    labels = np.stack([class_ids % 2, class_ids // 2 % 2], axis=1).astype(np.float32)
    faces = build_domain(
        "faces", "table", attributes=["hat", "beard"], classes=[f"id{c}" for c in range(500)], paths=[f"/faces/{i}.png" for i in range(1000)],
        class_ids=class_ids, labels=labels, subsets=np.where(class_ids >= 400, "test", "train"), source="own",
    )  # fmt: skip
    description = _described(faces)
    text, held_out = " ".join(to_text(description).split()), description.split.held_out_classes
    assert (
        f", {held_out[59].removeprefix('faces/')} and {len(held_out) - 60} more, all of them in description.json Test classes: id400, id401,"
        in text
    )
    assert (
        ", id459 and 40 more, all of them in description.json" in text and "id460" not in text.split("Test classes")[1]
    )


def _described(domain, bad=()):
    return describe(domain, make_split(domain, Config(domain=("zoo",))), bad)


def test_counts_equal_an_independent_count():
    domain = _domain()
    description = _described(domain)
    split = description.split
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    for part, index in parts.items():
        for a, name in enumerate(domain.attributes):
            values = [float(domain.labels[i, a]) for i in index]
            row = description.attributes.loc[name]
            positives, negatives = values.count(1.0), values.count(0.0)
            assert row[f"{part}_positives"] == positives
            assert row[f"{part}_known"] == positives + negatives
            if positives + negatives:
                assert row[f"{part}_prevalence"] == pytest.approx(positives / (positives + negatives))
            else:
                assert np.isnan(row[f"{part}_prevalence"])
    for part, index in part_records(domain, split).items():
        assert description.parts.loc[part].tolist() == [len(index)] * 2 + [
            len({int(domain.class_ids[i]) for i in index})
        ]


def test_unused_records_are_counted_as_such():
    domain = _domain()
    subsets = domain.subsets.copy()
    subsets[:7] = "unused"
    domain = dataclasses.replace(domain, subsets=subsets)
    description = _described(domain)
    assert part_records(domain, description.split)["unused"].tolist() == list(range(7))
    assert to_json(description)["classes"]["zoo/ant"]["unused"] == 7


def test_json_says_everything():
    description = _described(_domain(), [("/zoo/x.png", "the file is empty")])
    value = json.loads(json.dumps(to_json(description), allow_nan=False))
    assert (value["num_records"], value["num_classes"], value["num_attributes"]) == (240, 6, 5)
    assert value["data_sources"] == ["own"] and value["layouts"] == ["table"] and value["notes"] == ["A planted note."]
    assert value["bad_images"] == [{"path": "/zoo/x.png", "reason": "the file is empty"}]
    assert list(value["not_learned"]) == ["zoo/unseen"]
    assert value["not_tested"] == ["zoo/unseen", "zoo/hidden"]
    assert value["attributes"]["zoo/hidden"]["test_prevalence"] is None
    assert value["attributes"]["zoo/unseen"]["problem"].startswith("not learned: no positive among the ")
    assert sum(sum(parts.values()) for parts in value["classes"].values()) == 240


def test_shares_of_votes_are_told():
    domain = _domain()
    shares = np.where(np.arange(5) == 1, 0.8 * domain.labels, np.nan).astype(np.float32)
    graded = _described(dataclasses.replace(domain, shares=shares))
    assert "Shares of votes: 1 of 5 attributes has more than yes and no" in to_text(graded) and to_json(graded)[
        "shares_of_votes"
    ] == ["zoo/wet"]
    assert "Shares of votes" not in to_text(_described(domain)) and to_json(_described(domain))["shares_of_votes"] == []


def test_what_single_test_images_decide_is_told():
    domain = _domain()
    labels = domain.labels.copy()
    labels[np.flatnonzero((domain.class_ids == 5) & (labels[:, 2] == 1))[4:], 2] = 0
    domain = dataclasses.replace(domain, labels=labels)
    description = _described(domain)
    assert to_json(description)["tested_on_few"] == ["zoo/rare"]
    text = to_text(description)
    assert (
        "Tested on fewer than 10 images of one label, so that single images decide the figure (1): rare"
        in text.replace("\n  ", " ")
    )
    assert re.search(r"^rare .* on few$", text, re.MULTILINE) and re.search(r"^wet .* yes$", text, re.MULTILINE)


def test_what_a_run_leaves_out_is_not_tested():
    description = _described(_domain())
    # both labels in the test, one in training
    assert description.split.testable[3] and list(description.unlearnable) == ["zoo/unseen"]
    assert to_json(description)["not_tested"] == ["zoo/unseen", "zoo/hidden"]
    assert not to_json(description)["attributes"]["zoo/unseen"]["tested"]
    text = to_text(description)
    assert "3 tested." in text and re.search(r"^unseen .* no$", text, re.MULTILINE)


def test_text_names_what_is_wrong():
    text = to_text(_described(_domain(), [(f"/zoo/{i}.png", "the file is empty") for i in range(23)]))
    lines = text.splitlines()
    assert lines[0] == "zoo: 240 images, 6 classes, 5 attributes (table layout, own data)"
    assert "Note: A planted note." in lines
    assert any(
        line.startswith("Not learned: no positive among the ") and line.endswith("(1): unseen") for line in lines
    )
    assert "Not tested: no known label among the test images (1): hidden" in lines
    assert re.search(
        r"^4 of 5 attributes can be learned, \d of them judged \(\d on held-out classes alone, \d on all validation images\), \d tested\.$",
        text,
        re.MULTILINE,
    )
    assert "23 images cannot be used and are left out of all counts:" in lines
    assert "  /zoo/19.png: the file is empty" in lines and "  /zoo/20.png: the file is empty" not in lines
    assert "  and 3 more, all of them in description.json" in lines
    assert "Every image can be used." in to_text(_described(_domain()))


def test_one_of_a_kind_is_told_as_one():
    labels = np.arange(4, dtype=np.float32)[:, None] % 2
    one = build_domain(
        "zoo", "table", attributes=["wet"], classes=["ant"], paths=[f"/zoo/{i // 4}.png" for i in range(4)],
        class_ids=np.zeros(4, np.int64), labels=labels, subsets=np.full(4, "train"), source="own",
    )  # fmt: skip
    assert headline(one) == "4 images in 1 file, no classes, 1 attribute (table layout, own data)"
    shares = dataclasses.replace(one, shares=np.full((4, 1), 0.25, np.float32))
    split = Split(*np.arange(4)[:, None], (), ("images",), np.array([True]), {})
    text = to_text(describe(shares, split))
    assert "1 of 1 attribute has more than yes and no" in text and "\n0 of 1 attribute can be learned, " in text


def test_seen_test_classes_are_told():
    seen = "Some test classes are also trained: the test figures are not those of unseen classes."
    domain = _domain()
    assert seen not in to_text(_described(domain))
    subsets = np.where(np.arange(len(domain.paths)) % 40 < 8, "test", "train")
    told = seen.replace("Some", "All")  # of every class a fifth
    assert told in to_text(_described(dataclasses.replace(domain, subsets=subsets))).splitlines()
    subsets[domain.class_ids == 5] = "test"
    assert seen in to_text(_described(dataclasses.replace(domain, subsets=subsets))).splitlines()


def test_a_long_name_is_shortened_in_the_table_alone():
    domain = _domain()
    names = ("zoo/" + 150 * "ab", *domain.attributes[1:])
    description = _described(dataclasses.replace(domain, attributes=names))
    (line,) = [line for line in to_text(description).splitlines() if "…" in line]
    assert line.startswith(f"{15 * 'ab'}…{'b' + 14 * 'ab'}  ") and len(line) == 140
    assert list(to_json(description)["attributes"]) == list(names)


def test_names_of_joined_domains_keep_their_prefix():
    joined = join_domains([_domain("zoo"), _domain("farm")])
    text = to_text(_described(joined))
    assert text.startswith(
        "zoo+farm: 480 images, 12 classes, 10 attributes (zoo: table layout, own data, farm: table layout"
    )
    assert "zoo/unseen, farm/unseen" in text


def test_official_labels_are_counted_as_in_their_files():
    folder = DATA / "apay_fullsize_sample"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    config = Config(domain=("apay",), data_dir=(str(folder),), on_bad_image="skip")
    domain = load_domains(config)
    description = describe(domain, make_split(domain, config))
    lines = [(folder / "attribute_data" / f"apascal_{half}.txt").read_text().split("\n") for half in ("train", "test")]
    matrices = [np.array([line.split()[6:] for line in part if line.strip()], float) for part in lines]
    table = description.attributes
    trained = (table["train_positives"] + table["validation_positives"]).to_numpy()
    assert trained.tolist() == matrices[0].sum(axis=0).tolist()
    assert table["test_positives"].tolist() == matrices[1].sum(axis=0).tolist()
    assert description.parts["records"].sum() == 78
    assert (
        len({line.split()[0] for part in lines for line in part if line.strip()})
        == to_json(description)["num_files"]
        == 30
    )


def test_without_classes_records_are_of_nothing():
    domain = load_domains(Config(domain=("sun",)))
    assert shown_classes(domain)[:1] == ["scene00"]
    alone = dataclasses.replace(domain, class_ids=np.zeros_like(domain.class_ids))
    assert set(shown_classes(alone)) == {""}


def test_examples_spread_over_classes():
    class_ids = np.repeat([0, 1, 2], [50, 2, 1])
    chosen = spread_over_classes(np.arange(53), class_ids, 6, np.random.default_rng(0))
    assert np.bincount(class_ids[chosen]).tolist() == [3, 2, 1]
    assert len(set(chosen.tolist())) == 6
    assert len(spread_over_classes(np.array([51, 52]), class_ids, 6, np.random.default_rng(0))) == 2


def _count_color(sheet, color):
    return int((np.asarray(sheet) == np.array(color)).all(axis=-1).sum())


def test_the_sheet_shows_every_part_and_frames_examples():
    domain = dataclasses.replace(_domain(), notes=())
    split = make_split(domain, Config(domain=("zoo",)))
    images = np.broadcast_to(COLORS[domain.class_ids][:, None, None], (240, 32, 32, 3))
    sheet = contact_sheet(domain, split, images)
    cell = 104 * 104
    assert _count_color(sheet, COLORS[5]) == 24 * cell  # the tested class: two full rows, in no attribute row
    held_out = int(domain.class_ids[split.validation_classes][0])
    assert _count_color(sheet, COLORS[held_out]) == 24 * cell
    green, red = (42, 143, 74), (181, 72, 58)
    frame = cell - 98 * 98
    shown = 4  # attributes with four examples of both kinds: all but `unseen`
    assert _count_color(sheet, green) == shown * 4 * frame
    assert _count_color(sheet, red) == shown * 4 * frame
    assert np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(domain, split, images)))
    assert contact_sheet(_domain(), split, images).height > sheet.height  # a line for the note


def test_a_break_in_a_note_is_drawn_as_a_space():
    split = make_split(_domain(), Config(domain=("zoo",)))
    sheets = [
        np.asarray(
            contact_sheet(
                dataclasses.replace(_domain(), notes=(f"x.png{gap}y.png",)), split, np.zeros((240, 32, 32, 3), np.uint8)
            )
        )
        for gap in ("\n", " ")
    ]
    np.testing.assert_array_equal(*sheets)


def test_a_long_note_is_drawn_whole():
    split, images = make_split(_domain(), Config(domain=("zoo",))), np.zeros((240, 32, 32, 3), np.uint8)
    note = "A note of many words. " * 20 + "/a" * 200
    short, long = (contact_sheet(dataclasses.replace(_domain(), notes=(n,)), split, images) for n in ("a", note))
    lines = _wrapped(note, 1336, _font(14))
    assert long.height - short.height == 20 * (len(lines) - 1) and len(lines) > 3
    assert all(_font(14).getlength(line) <= 1336 for line in lines)
    assert "".join(lines).replace(" ", "") == note.replace(" ", "") and lines[0].split()[-1] in note.split()
    assert _wrapped("", 10, _font(14)) == [""]


def test_the_sheet_shows_the_box_in_its_photograph(tmp_path):
    domain = _domain(images=6, unknown=0.0)
    paths = []
    for i in range(36):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.full((50, 104, 3), 90, np.uint8)).save(paths[-1])
    boxes = np.tile(np.array([10, 5, 60, 45], np.int32), (36, 1))
    domain = dataclasses.replace(domain, paths=tuple(paths), boxes=boxes)
    split = make_split(domain, Config(domain=("zoo",)))
    sheet = contact_sheet(domain, split, np.zeros((36, 32, 32, 3), np.uint8))
    yellow = (255, 212, 0)
    shown = sum(min(12, len(i)) for i in part_records(domain, split).values())
    outline = 51 * 41 - 47 * 37  # two pixels wide, corners included, at scale 1
    assert _count_color(sheet, yellow) == shown * outline
    os.remove(paths[int(split.test[0])])
    gone = contact_sheet(domain, split, np.zeros((36, 32, 32, 3), np.uint8))
    assert _count_color(gone, yellow) == (shown - 1) * outline


def _run(*flags):
    command = [sys.executable, "-m", "galm_tf.domains", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)


def _own_folder(folder):
    """Twelve classes of six pictures, one of them truncated, one listed but absent."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for c in range(12):
        for i in range(6):
            name = f"{c}_{i}.jpg"
            Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / "images" / name)
            rows.append({"image": name, "class": f"k{c}", "big": c % 2, "wet": "" if i == 0 else (c // 2) % 2})
    whole = (folder / "images" / "3_3.jpg").read_bytes()
    (folder / "images" / "3_3.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "images" / "4_4.jpg").unlink()
    pd.DataFrame(rows).to_csv(folder / "attributes.csv", index=False)


def test_the_command_describes_a_folder(tmp_path):
    _own_folder(tmp_path / "pets")
    out = tmp_path / "out"
    done = _run(f"--data_dir={tmp_path / 'pets'}", "--format=json", f"--out={out}", f"--cache_dir={tmp_path / 'cache'}")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["name"] == "pets" and value["num_records"] == 70 and value["num_classes"] == 12
    assert [os.path.basename(b["path"]) for b in value["bad_images"]] == ["3_3.jpg"]
    assert any("4_4.jpg" in note for note in value["notes"])
    assert sorted(p.name for p in out.iterdir()) == ["contact_sheet.png", "description.json", "prevalence.csv"]
    assert value["files"]["contact_sheet"] == str(out / "contact_sheet.png")
    assert Image.open(out / "contact_sheet.png").size[0] == 1376
    table = pd.read_csv(out / "prevalence.csv", index_col="attribute")
    labels = (tmp_path / "pets" / "attributes.csv").read_bytes()
    again = _run(f"--data_dir={tmp_path / 'pets'}", f"--out={tmp_path / 'pets'}", f"--cache_dir={tmp_path / 'cache'}")
    # the user's own, in the same folder
    assert again.returncode == 0 and (tmp_path / "pets" / "attributes.csv").read_bytes() == labels
    known = table[["train_known", "validation_known", "test_known"]].sum(axis=1)
    assert known.to_dict() == {"pets/big": 70, "pets/wet": 58}


@pytest.mark.parametrize(
    "flags, part",
    [
        (("--data_dir=/no/such/folder",), "Received: data_dir=/no/such/folder"),
        (("--domain=sum",), "nearest: sun"),
        (("/some/folder",), "name a folder by --data_dir=/some/folder"),
        (("--format=xml",), "--format"),
    ],
)
def test_a_mistake_ends_in_one_line(flags, part):
    done = _run(*flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert part in done.stderr


def test_an_out_folder_that_cannot_be_made(tmp_path):
    _own_folder(tmp_path / "pets")
    (tmp_path / "file").write_text("")
    done = _run(f"--data_dir={tmp_path / 'pets'}", f"--out={tmp_path / 'file'}", f"--cache_dir={tmp_path / 'cache'}")
    assert done.returncode == 2 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]  # after what is told of the data, and before any picture is decoded
    assert last.startswith("error: Expected to be able to write into --out=") and "name another folder" in last
    assert "decoding" not in done.stderr and not (tmp_path / "cache").exists()
