"""`python -m galm_tf.predict`: three formats against direct computation, and every kind of input."""

import csv
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import ExifTags, Image
from scipy.special import expit

from galm_tf import attribute_names, export, lite, predict
from galm_tf.errors import UserError
from galm_tf.predict import Options
from galm_tf.prediction_formats import Prediction, print_csv
from galm_tf.preprocess import BadImageError, decode_image, resize_images, scale_images

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ["sun/Größe, groß", "sun/metal", "sun/furry"]
THRESHOLDS = [0.4, 0.6, 0.5]
NOTICE = "generated stand-in, not the real data set"
HOSTILE = 'très beau, "photo" 写真.png'


class Colours(tf.Module):
    """Margins from the mean colour, far enough apart to tell pictures from one another."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[4.0, -3.0, 1.0], [-2.0, 5.0, 2.0], [1.0, 1.0, -6.0]])

    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2]) @ self.kernel


def expected(path):
    margins = Colours()(scale_images(resize_images(tf.constant(decode_image(path))[None], 32)))
    return expit(margins.numpy()[0].astype(np.float64))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("run") / "saved_model")
    export.export_saved_model(
        Colours(), path, attributes=NAMES, thresholds=np.array(THRESHOLDS), image_size=32,
        metadata={"notice": NOTICE},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight pictures of different sizes, formats and names in a folder with a subfolder."""
    folder = tmp_path_factory.mktemp("my pictures")
    (folder / "unter ordner").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    names = ["a.jpg", "B.JPG", "c.png", HOSTILE, "unter ordner/d.jpg", "[e].jpg", "f.gif", "g.bmp"]
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        coarse = Image.fromarray(
            rng.integers(0, 256, (3, 4, 3), dtype=np.uint8) // 2 + rng.integers(0, 128, 3, dtype=np.uint8)
        )
        coarse.resize((40 + 30 * i, 200 - 20 * i)).save(folder / name, **({"exif": exif} if name == "a.jpg" else {}))
    return folder


@pytest.fixture
def files(pictures):
    return sorted(str(p) for p in pictures.rglob("*") if p.is_file())


def rows_of_csv(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_csv(model, files, capsys, batch_size):
    assert predict.predict(Options(model, "csv", batch_size=batch_size), files) == 0
    rows = rows_of_csv(capsys.readouterr().out)
    assert [row["image"] for row in rows] == files and list(rows[0]) == ["image", *NAMES]
    for row in rows:
        np.testing.assert_allclose([float(row[name]) for name in NAMES], expected(row["image"]), atol=2e-6)
    assert np.std([float(row[NAMES[1]]) for row in rows]) > 0.05, "pictures that cannot be told apart show nothing"


def test_json(model, files, capsys):
    assert predict.predict(Options(model, "json"), files) == 0
    content = json.loads(capsys.readouterr().out)
    assert [item["image"] for item in content] == files
    for item in content:
        truth = expected(item["image"])
        assert list(item["attributes"]) == [NAMES[i] for i in np.argsort(-truth)]
        for name, probability, threshold in zip(NAMES, truth, THRESHOLDS):
            assert item["attributes"][name]["probability"] == pytest.approx(probability, abs=2e-6)
            assert item["attributes"][name]["decision"] is bool(probability >= threshold)


def test_table(model, files, capsys):
    assert predict.predict(Options(model), files) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[::4] == files
    for start, path in zip(range(0, len(lines), 4), files):
        truth = expected(path)
        for i, line in zip(np.argsort(-truth), lines[start + 1 : start + 4]):
            words = line[2 + max(map(len, NAMES)) :].split()
            assert line[2:].startswith(NAMES[i])
            assert words[:2] == [f"{truth[i]:.3f}", "yes" if truth[i] >= THRESHOLDS[i] else "no"]
            assert words[2:] == (["#" * round(20 * truth[i])] if round(20 * truth[i]) else [])
    assert output.err == f"note: the model was trained on a {NOTICE}\n"


@pytest.fixture(scope="module")
def undecided(tmp_path_factory):
    """A model whose first attribute has no threshold."""
    path = str(tmp_path_factory.mktemp("undecided") / "saved_model")
    thresholds = np.array([np.nan, *THRESHOLDS[1:]])
    export.export_saved_model(Colours(), path, attributes=NAMES, thresholds=thresholds, image_size=32, metadata={})
    return path


def test_where_no_threshold_was_chosen_there_is_no_yes_or_no(undecided, files, capsys):
    predict.predict(Options(undecided), files[:1])
    words = {
        line.split("  ")[1].strip(): line.split()[-2 if line.endswith("#") else -1]
        for line in capsys.readouterr().out.splitlines()[1:]
    }
    assert words[NAMES[0]] == "?" and {words[n] for n in NAMES[1:]} <= {"yes", "no"}
    predict.predict(Options(undecided, "json"), files[:1])
    (item,) = json.loads(capsys.readouterr().out)
    assert item["attributes"][NAMES[0]]["decision"] is None and isinstance(
        item["attributes"][NAMES[1]]["decision"], bool
    )
    predict.predict(Options(undecided, "json", threshold=0.0), files[:1])  # the user's own decides
    assert all(row["decision"] is True for row in json.loads(capsys.readouterr().out)[0]["attributes"].values())


def test_decisions_in_csv_are_those_of_a_table_of_labels(undecided, files, capsys):
    def shown(**options):
        assert predict.predict(Options(undecided, "csv", decisions=True, **options), files) == 0
        rows = rows_of_csv(capsys.readouterr().out)
        assert [row.pop("image") for row in rows] == files
        return rows

    truths = [dict(zip(NAMES, expected(path))) for path in files]
    decided = [
        {name: str(int(truth[name] >= threshold)) for name, threshold in zip(NAMES[1:], THRESHOLDS[1:])}
        for truth in truths
    ]
    assert shown() == [{NAMES[0]: "", **row} for row in decided]
    assert {value for row in decided for value in row.values()} == {"0", "1"}
    # the user's own decides
    assert shown(threshold=0.45) == [{name: str(int(p >= 0.45)) for name, p in truth.items()} for truth in truths]
    for row, truth in zip(shown(attributes=("metal", "furry")), decided):
        assert row == {name: truth[name] for name in NAMES[1:]} and list(row) == NAMES[1:]


def test_a_threshold_that_csv_would_not_show_is_refused(model, files):
    with pytest.raises(
        UserError, match="Expected --decisions beside --threshold with --format=csv.*--threshold=0.0; add"
    ):
        predict.predict(Options(model, "csv", threshold=0.0), files)


def test_records_are_predicted_in_the_order_in_which_they_are_named(model):
    predictor, index = predict.Predictor(model), np.array([4, 0, 3])
    pictures = np.random.default_rng(0).integers(0, 256, (5, *[predictor.image_size] * 2, 1), np.uint8).repeat(3, 3)
    pictures //= np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    for found, expected in zip(predictor.of_records(pictures, index, 2), predictor(pictures[index])):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(predictor(pictures)[0][:3] - predictor(pictures[index])[0]).max() > 0.01


def test_of_no_records_nothing_is_predicted(model):
    predictor = predict.Predictor(model)
    pictures = np.zeros((3, predictor.image_size, predictor.image_size, 3), np.uint8)
    probability, decision = predictor.of_records(pictures, np.zeros(0, np.int64))
    assert probability.shape == decision.shape == (0, len(predictor.attributes)) and decision.dtype == bool


@pytest.mark.parametrize("format_", ["table", "json"])
def test_decisions_are_of_csv(model, files, format_):
    with pytest.raises(
        UserError,
        match=f"Expected --decisions beside --format=csv. Received: --format={format_}, which shows probability and decision",
    ):
        predict.predict(Options(model, format_, decisions=True), files)


def test_a_process_that_was_forked_off_is_told_to_load_its_own(model, monkeypatch):
    predictor, images = predict.Predictor(model), np.zeros((1, 32, 32, 3), np.uint8)
    predictor(images)
    own = os.getpid()
    monkeypatch.setattr(predict.os, "getpid", lambda: own + 1)
    with pytest.raises(UserError, match="in one that was forked off; start processes by spawn and load it there, or"):
        predictor(images)


def test_decisions_are_of_all_attributes(model, files):
    """An empty cell says that there is no threshold; --top would empty others."""
    with pytest.raises(UserError, match="Received: --top=2 beside it; leave it out, or name some by --attributes"):
        predict.predict(Options(model, "csv", top=2, decisions=True), files)


def test_a_long_name_is_shortened_in_the_table_alone(files, tmp_path, capsys):
    path, names = str(tmp_path / "saved_model"), ["sun/" + 100 * "abc", "sun/" + 56 * "d", "sun/furry"]
    export.export_saved_model(
        Colours(),
        path,
        attributes=names,
        thresholds=np.array(THRESHOLDS),
        image_size=32,
        metadata={},
    )
    predict.predict(Options(path), files[:1])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert {line[2:62].rstrip() for line in lines} == {f"sun/{8 * 'abc'}ab…bc{9 * 'abc'}", *names[1:]}
    assert all(re.match("  [01][.][0-9]{3}  (yes|no)", line[62:]) for line in lines)
    predict.predict(Options(path, "csv"), files[:1])
    assert list(rows_of_csv(capsys.readouterr().out)[0]) == ["image", *names]
    predict.predict(Options(path, "json"), files[:1])
    assert set(json.loads(capsys.readouterr().out)[0]["attributes"]) == set(names)


def test_top_and_attributes(model, files, capsys):
    options = Options(model, "json", top=1, attributes=("sun/furry", "sun/metal", "sun/furry"))
    predict.predict(options, files)
    for item in json.loads(capsys.readouterr().out):
        truth = dict(zip(NAMES[1:], expected(item["image"])[1:]))
        assert list(item["attributes"]) == [max(truth, key=truth.get)]
    predict.predict(Options(model, "csv", top=1, attributes=("sun/furry", "sun/metal")), files)
    for row in rows_of_csv(capsys.readouterr().out):
        truth = dict(zip(NAMES[1:], expected(row.pop("image"))[1:]))
        assert list(row) == ["sun/furry", "sun/metal"]
        assert [name for name in row if row[name]] == [max(truth, key=truth.get)]


@pytest.mark.parametrize("metadata", [{"boxes": True}, {"boxes": False}, {}])
def test_a_model_of_parts_of_photographs_asks_for_such(files, tmp_path, capsys, metadata):
    path = str(tmp_path / "saved_model")
    export.export_saved_model(
        Colours(),
        path,
        attributes=NAMES,
        thresholds=np.array(THRESHOLDS),
        image_size=32,
        metadata=metadata,
    )
    predict.predict(Options(path), files[:1])
    note = "note: the model was trained on parts of photographs, cut out by boxes: crop to what you ask about\n"
    assert capsys.readouterr().err == (note if metadata.get("boxes") else "")


@pytest.mark.parametrize("threshold", [0.0, 0.45, 0.55, 1.0])
def test_a_threshold_replaces_the_models(model, files, capsys, threshold):
    predict.predict(Options(model, "json", threshold=threshold), files)
    for item in json.loads(capsys.readouterr().out):
        for name, probability in zip(NAMES, expected(item["image"])):
            assert item["attributes"][name]["decision"] is bool(probability >= threshold)


def _images(model, arguments, capsys):
    predict.predict(Options(model, "csv"), [str(a) for a in arguments])
    return [row["image"] for row in rows_of_csv(capsys.readouterr().out)]


def test_folders_and_patterns(model, pictures, files, capsys):
    assert sorted(_images(model, [pictures], capsys)) == files
    assert sorted(_images(model, [pictures / "**"], capsys)) == files, "none twice"
    predict.predict(Options(model, "csv"), [str(pictures / "**")])
    assert "named again" not in capsys.readouterr().err
    assert _images(model, [pictures / "*.jpg"], capsys) == [str(pictures / "[e].jpg"), str(pictures / "a.jpg")]
    assert _images(model, [pictures / "**" / "d.jpg"], capsys) == [str(pictures / "unter ordner" / "d.jpg")]
    assert _images(model, [pictures / "[e].jpg"], capsys) == [str(pictures / "[e].jpg")], "a file's name, no pattern"


def test_relative_and_absolute_names_of_one_image_are_one(model, pictures, files, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    assert len(_images(model, ["a.jpg", pictures, "**"], capsys)) == len(files)
    assert _images(model, ["unter ordner"], capsys) == [os.path.join("unter ordner", "d.jpg")], (
        "as the folder was named"
    )


def test_an_image_that_is_named_again_keeps_its_first_name(model, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    assert predict.predict(Options(model, "csv"), ["a.jpg", str(pictures / "a.jpg"), "c.png", "./c.png", "a.jpg"]) == 0
    output = capsys.readouterr()
    assert [row["image"] for row in rows_of_csv(output.out)] == ["a.jpg", "c.png"]
    assert output.err.splitlines()[0] == "note: images that are named again are shown once (3 left out)"


def test_a_runs_folder_stands_for_its_model(model, files, tmp_path, capsys):
    os.symlink(model, tmp_path / "saved_model")
    assert _images(tmp_path, files[:1], capsys) == files[:1]


def test_attributes_need_no_domain():
    names = ["sun/trees", "sun/snow", "awa/snow"]
    assert attribute_names.columns(["trees", "awa/snow", "sun/trees"], names) == [0, 2] and attribute_names.columns(
        [], names
    ) == [0, 1, 2]
    with pytest.raises(UserError, match="Received: snow, which is sun/snow and awa/snow"):
        attribute_names.columns(["snow"], names)


def test_attributes_that_name_none_are_told_unless_left_out():
    values = flags.FlagValues()
    flags.DEFINE_list("attributes", [], "", flag_values=values)
    for given, asked in (([], []), (["--attributes=trees,,snow"], ["trees", "", "snow"])):
        values(["predict", *given])
        assert attribute_names.asked_for(values) == asked
    for none in ("", " ", ","):
        values(["predict", f"--attributes={none}"])
        with pytest.raises(
            UserError,
            match="Expected names in --attributes. Received: --attributes=, which names none; name some, or leave it out",
        ):
            attribute_names.asked_for(values)


def test_a_full_name_means_its_attribute_alone_however_accents_are_composed():
    names = ["mine/a", "mine/mine/a", "mine/u\u0308n"]
    assert attribute_names.columns(["mine/a"], names) == [0] and attribute_names.columns(["mine/mine/a"], names) == [1]
    assert attribute_names.columns(["\u00fcn"], names) == [2]


def test_a_name_with_quotes_is_told_as_it_can_be_given():
    with pytest.raises(UserError, match="did you mean (.*)\\?$") as error:
        attribute_names.columns(["quoted"], ['mine/"quoted"', "mine/x"])
    (given,) = shlex.split(re.search(r"did you mean (.*)\?$", str(error.value))[1])
    assert next(csv.reader([given.split("=", 1)[1]])) in (['"quoted"'], ['mine/"quoted"'])


def test_links_are_followed(model, pictures, tmp_path, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "there").symlink_to(pictures / "unter ordner")
    assert _images(model, [tmp_path / "here"], capsys) == [str(tmp_path / "here" / "there" / "d.jpg")]


def test_a_link_that_leads_nowhere_is_a_picture_that_cannot_be_read(model, pictures, tmp_path, capsys):
    (tmp_path / "a.jpg").symlink_to(pictures / "unter ordner" / "d.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    assert predict.predict(Options(model, "csv"), [str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert [row["image"] for row in rows_of_csv(output.out)] == [str(tmp_path / "a.jpg")]
    assert "b.jpg, which does not exist" in output.err and "1 of 2 images could not be read" in output.err


@pytest.mark.parametrize("ending", ["jpe", "jfif", "ppm", "tga", "pcx"])
def test_a_folder_is_searched_for_all_that_pillow_reads(model, tmp_path, capsys, ending):
    Image.new("RGB", (40, 30), "red").save(tmp_path / f"a.{ending}")
    (tmp_path / f"a.{ending}").rename(tmp_path / f"A.{ending.upper()}")
    assert predict.predict(Options(model, "csv"), [str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert [row["image"] for row in rows_of_csv(output.out)] == [str(tmp_path / f"A.{ending.upper()}")]
    assert output.err == f"note: the model was trained on a {NOTICE}\n"


def test_files_with_other_endings_are_told_once(model, pictures, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    for name in ("labels.csv", "notes.TXT", "a.json", "b.md", "c.xml", ".hidden.heic"):
        (folder / name).write_text("beside pictures")
    assert len(_images(model, [folder], capsys)) == 8 and capsys.readouterr().err == ""
    (folder / "unter ordner" / "x.HEIC").write_text("")

    def told(*arguments):
        predict.predict(Options(model, "csv"), list(map(str, arguments)))
        return [line for line in capsys.readouterr().err.splitlines() if "not looked at" in line]

    first = folder / "unter ordner" / "x.HEIC"
    assert told(folder) == [
        f"note: 1 file below {folder} has another ending ({first}) and was not looked at; name it to try it"
    ]
    (folder / "y.mov").write_text("")
    (folder / "z").write_text("")
    assert told(folder, folder, folder / "a.jpg") == [
        f"note: 3 files below {folder} have other endings (the first is {first}) and were not looked at; name them to try them"
    ]
    assert told(folder / "u*") == [
        f"note: 1 file below {folder / 'u*'} has another ending ({first}) and was not looked at; name it to try it"
    ]
    assert told(folder / "**") == [], "the pattern names them"
    shutil.rmtree(folder / "unter ordner")
    for path in folder.iterdir():
        if path.suffix.lower() in (".jpg", ".png", ".gif", ".bmp"):
            path.unlink()
    with pytest.raises(
        UserError,
        match=r"Received: .*photos, which holds none; 2 files below .*photos have other endings \(the first is .*y.mov\) and were not",
    ):
        told(folder)


def test_a_list_on_standard_input(model, files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeff" + "\r\n".join(files[1:3]) + "\r\n\r\n"))
    assert _images(model, [files[0], "-", files[4]], capsys) == [*files[:3], files[4]]


@pytest.mark.parametrize("batch_size", [2, 64])
def test_every_line_of_a_list_has_its_row(model, files, capsys, monkeypatch, batch_size):
    lines = [files[1], files[0], files[1], files[1]]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert predict.predict(Options(model, "csv", batch_size=batch_size), [files[0], "-", files[1]]) == 0
    output = capsys.readouterr()
    rows = rows_of_csv(output.out)
    assert [row["image"] for row in rows] == [files[0], *lines] and output.err.startswith(
        "note: images that are named again are shown once (1 left out)\n"
    )
    for row in rows:
        np.testing.assert_allclose([float(row[name]) for name in NAMES], expected(row["image"]), atol=2e-6)


def test_a_folder_in_a_list_is_told(model, pictures, files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pictures}\n{files[0]}\n"))
    assert predict.predict(Options(model, "csv"), ["-"]) == 1
    output = capsys.readouterr()
    assert [row["image"] for row in rows_of_csv(output.out)] == files[:1]
    assert (
        output.err.splitlines()[0]
        == f"warning: Expected files in a list on standard input. Received: {pictures}, a folder; name it as an argument."
    )


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 1.5])
def test_a_threshold_that_is_no_probability_is_told(model, files, threshold):
    with pytest.raises(
        UserError,
        match=f"Expected --threshold to be a number, between 0.0 and 1.0. Received: --threshold={threshold}; leave it out",
    ):
        predict.predict(Options(model, threshold=threshold), files)


@pytest.fixture
def some_bad(files, tmp_path):
    """Two good pictures among bad ones; the bad ones' paths."""
    whole = pathlib.Path(
        files[-1] if files[-1].endswith("jpg") else next(f for f in files if f.endswith("d.jpg"))
    ).read_bytes()
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    names = ("empty.jpg", "text.png", "cut.jpg", "absent.jpg", "empty.jpg/photo.jpg", "a\0b.jpg", 300 * "long" + ".jpg")
    bad = [str(tmp_path / name) for name in names]
    return [bad[0], files[0], *bad[1:], files[1]], bad


def test_bad_images_are_named_and_the_others_predicted(model, files, some_bad, capsys):
    arguments, bad = some_bad
    assert predict.predict(Options(model, "csv", batch_size=2), arguments) == 1
    output = capsys.readouterr()
    assert [row["image"] for row in rows_of_csv(output.out)] == files[:2]
    warnings = [line for line in output.err.splitlines() if line.startswith("warning: ")]
    assert all(path in line for path, line in zip(bad, warnings)) and warnings[3].endswith(
        "which does not exist; check the path."
    )
    assert warnings[-1:] == ["warning: 7 of 9 images could not be read and are left out"]


def test_only_bad_images(model, some_bad, capsys):
    for format_, empty in (("json", "[]\n"), ("table", ""), ("csv", "image,")):
        assert predict.predict(Options(model, format_), some_bad[1]) == 1
        assert capsys.readouterr().out.startswith(empty)


def test_a_bad_image_stops_when_asked(model, some_bad):
    with pytest.raises(BadImageError, match="empty.jpg .the file is empty"):
        predict.predict(Options(model, on_bad_image="fail"), some_bad[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected at least one IMAGE.*Received: none"),
        (["EMPTY"], "Expected images below a folder. Received: .*, which holds none"),
        (["EMPTY/*.jpg"], r"Expected images that match a pattern. Received: .*\*.jpg, which matches none"),
    ],
)
def test_no_images(model, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        predict.predict(Options(model), [a.replace("EMPTY", str(tmp_path)) for a in arguments])


def test_an_unknown_attribute_names_the_nearest(model, files):
    with pytest.raises(UserError, match="Received: sun/fury; did you mean sun/furry"):
        predict.predict(Options(model, attributes=("sun/fury",)), files)


def test_an_attribute_like_none_names_some(model, files):
    with pytest.raises(UserError, match="Received: qqq; known: .*, sun/metal and sun/furry[.]$"):
        predict.predict(Options(model, attributes=("qqq",)), files)


def test_a_name_with_a_comma_is_told_as_it_must_be_given(model, files, capsys):
    """`--attributes="Größe, groß"` reaches the program as two names."""
    with pytest.raises(UserError) as error:
        predict.predict(Options(model, attributes=("sun/Größe", "groß")), files)
    (given,) = re.findall("did you mean (.*)[?]$", str(error.value))
    (argument,) = shlex.split(given)
    assert argument == '--attributes="sun/Größe, groß"'
    process = _command(f"--model={model}", "--format=json", argument, files[0])
    assert list(json.loads(process.stdout)[0]["attributes"]) == ["sun/Größe, groß"], process.stderr


def _damaged_models(model, folder):
    """Path -> what the message must say."""
    for name in ("cut", "no_json", "newer", "no_variables", "foreign"):
        shutil.copytree(model, folder / name)
    (folder / "cut" / "saved_model.pb").write_bytes((folder / "cut" / "saved_model.pb").read_bytes()[:500])
    (folder / "no_json" / export.METADATA).write_text("{")
    (folder / "newer" / export.METADATA).write_text(json.dumps({"format": export.FORMAT + 1}))
    (folder / "no_variables" / "variables" / "variables.index").unlink()
    (folder / "foreign" / export.METADATA).write_text("[]")
    lite.write(b"", {"attributes": [], "format": export.FORMAT}, "float32", str(folder / "bare.tflite"))
    return {
        folder / "absent": "no such folder", folder: "it holds no assets.extra.metadata.json", folder / "cut": "damaged",
        folder / "no_json": "damaged, JSONDecodeError", folder / "newer": "format=2; update galm_tf",
        folder / "no_variables": "damaged", folder / "foreign": "damaged", folder / "bare.tflite": "damaged, KeyError: 'thresholds'",
    }  # fmt: skip


def test_a_missing_or_damaged_model_is_one_sentence(model, files, tmp_path):
    for path, message in _damaged_models(model, tmp_path).items():
        with pytest.raises(UserError, match=message) as error:
            predict.predict(Options(str(path)), files)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_progress_for_many_images(model, files, capsys, monkeypatch):
    monkeypatch.setattr(predict, "QUIET_IMAGES", 3)
    predict.predict(Options(model, "csv", batch_size=2), files)
    output = capsys.readouterr()
    assert "predicting" in output.err and f"{len(files)}/{len(files)}" in output.err
    assert len(rows_of_csv(output.out)) == len(files)


def _command(*arguments, environment=None, stdin=None, text=True):
    return subprocess.run(
        [sys.executable, "-m", "galm_tf.predict", *arguments], cwd=ROOT, capture_output=True, timeout=300, input=stdin,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}, **({"encoding": "utf-8"} if text else {}),
    )  # fmt: skip


def test_the_command(model, pictures, some_bad):
    """Real flags; an ASCII locale; standard output that holds nothing but the result."""
    process = _command(
        f"--model={model}", "--format=json", "--top=2", "--threshold=0.5", "--attributes=sun/metal,sun/furry", str(pictures / HOSTILE), some_bad[1][0],
        environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    (item,) = json.loads(process.stdout)
    truth = dict(zip(NAMES, expected(pictures / HOSTILE)))
    assert item["image"] == str(pictures / HOSTILE) and set(item["attributes"]) == set(NAMES[1:])
    assert all(
        item["attributes"][n] == {"probability": pytest.approx(truth[n], abs=2e-6), "decision": bool(truth[n] >= 0.5)}
        for n in NAMES[1:]
    )
    lines = process.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["warning", "warning", "note"] and NOTICE in lines[-1]


def test_csv_is_read_back_whatever_is_in_a_name(capsys):
    names = [HOSTILE, "one\rtwo", "three\nfour", "five\r\nsix", " "]
    figures = np.full(2, 0.5, np.float32), np.ones(2, bool), np.ones(2, bool)
    print_csv(["a\rb", "c"], [Prediction(name, *figures) for name in names], 2)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows == [["image", "a\rb", "c"], *([name, "0.500000", "0.500000"] for name in names)]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_name_that_is_no_text(model, files, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(pathlib.Path(next(f for f in files if f.endswith("c.png"))).read_bytes())
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    process = _command(f"--model={model}", "--format=csv", "-", stdin=name + b"\n", text=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[1].startswith(name + b",0.")


@pytest.mark.parametrize(
    ("redirection", "status", "told"),
    [
        ("2>&-", 1, None),
        (">&-", 2, "error: Expected standard output for what is told. Received: a closed one;"),
        (">/dev/full", 2, "error: Expected to write standard output. Received: No space left on device;"),
    ],
)
def test_streams_that_are_closed_or_full(model, files, some_bad, redirection, status, told):
    if not os.path.exists("/dev/full"):
        pytest.skip("a disk that is full")
    command = [
        "sh",
        "-c",
        f'exec "$0" "$@" {redirection}',
        sys.executable,
        "-m",
        "galm_tf.predict",
        f"--model={model}",
        "--format=csv",
        files[0],
        some_bad[1][1],
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, encoding="utf-8")
    assert process.returncode == status
    if told:
        assert (
            process.stdout == ""
            and "Traceback" not in process.stderr
            and process.stderr.splitlines()[-1].startswith(told)
        )
    else:
        assert [row["image"] for row in rows_of_csv(process.stdout)] == files[:1] and process.stderr == ""


def test_bad_input_exits_with_2(tmp_path):
    process = _command(f"--model={tmp_path}", "x.jpg")
    assert process.returncode == 2 and process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: Expected the saved_model folder of a run.")
