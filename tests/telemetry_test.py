"""Events and metrics.jsonl, read back by TensorBoard's own reader, pandas and Pillow."""

import gc
import html
import io
import json
import os
import re
import resource
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from scipy import ndimage
from tensorboard import plugin_util
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from galm_tf import plots, search_space, telemetry
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.run_folder import RunFolder
from galm_tf.telemetry import Telemetry, write_architecture_table, write_hparams

NAMES = ["sun/metal", "apay/metal", "sun/a|b", "sun/$x$ and $"]


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(str(tmp_path / "run"), Config())


def _events(folder, name=""):
    found = EventAccumulator(os.path.join(folder.path, "tensorboard", name), {"tensors": 0})
    return found.Reload()


def _series(folder, tag):
    """(step, value) of a tag, as TensorBoard shows it."""
    return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in _events(folder).Tensors(tag)]


def _lines(folder):
    with open(os.path.join(folder.path, "metrics.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_scalars_go_to_both(folder):
    with Telemetry(folder) as shown:
        shown.scalars("warmup", 24, {"supernet/loss": np.float32(0.75), "supernet/learning_rate": None})
        shown.scalars("controller", 10, {"controller/reward": 0.5, "controller/entropy": 7.5})
        assert shown.num_records == 2
    assert _lines(folder) == [
        {"phase": "warmup", "step": 24, "supernet/loss": 0.75},
        {"phase": "controller", "step": 10, "controller/reward": 0.5, "controller/entropy": 7.5},
    ]
    assert _series(folder, "supernet/loss") == [(24, 0.75)]
    assert _series(folder, "controller/entropy") == [(10, 7.5)]


@pytest.mark.parametrize("tag", ["supernet/lost", "choice/conv4_kernel=4", "choice", "choice/nothing=1"])
def test_a_tag_outside_the_glossary_is_refused(folder, tag):
    if tag == "choice":
        tag = "choice/fc1_width=0"
    with Telemetry(folder) as shown, pytest.raises(KeyError, match="has no line in telemetry.TAGS"):
        shown.scalars("warmup", 0, {"supernet/loss": 1.0, tag: 1.0})
    assert not folder.has("metrics.jsonl")


def test_every_tag_has_a_meaning():
    assert all(len(line) > 20 for line in telemetry.TAGS.values())


def _run(folder, first_record, steps):
    with Telemetry(folder, first_record) as shown:
        for step in steps:
            shown.scalars("warmup", step, {"supernet/loss": step / 4})
        return shown.num_records


def test_a_resumed_run_repeats_no_step(folder, tmp_path):
    """Ten steps, checkpoint after six, killed, twice: the same as ten steps at once."""
    _run(folder, 0, range(10))
    _run(folder, 6, range(6, 8))
    assert _run(folder, 6, range(6, 10)) == 10
    whole = RunFolder.create(str(tmp_path / "whole"), Config())
    _run(whole, 0, range(10))
    assert _lines(folder) == _lines(whole)
    assert _series(folder, "supernet/loss") == _series(whole, "supernet/loss") == [(s, s / 4) for s in range(10)]


@pytest.mark.parametrize("write", [
    Telemetry,
    lambda folder: write_architecture_table(folder, {}),
    lambda folder: write_hparams(folder, Config(), {"test_mauc": 0.5}),
], ids=["curves", "table of architectures", "settings"])  # fmt: skip
def test_a_full_disk_is_one_sentence(folder, monkeypatch, write):
    """A limit on the size of files stands in for a disk without space; what TensorFlow says of one is copied here."""
    folder.write_text("metrics.jsonl", "")
    sentence = f"^Expected to be able to write {re.escape(folder.path)}/tensorboard. Received: %s; free some space and go on with --resume[.]$"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, old[1]))
    try:
        with pytest.raises(UserError, match=sentence % "File too large"):
            write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    def full(path):
        raise tf.errors.ResourceExhaustedError(
            None, None, f"{{{{function_node __wrapped__CreateSummaryFileWriter_device_/job:localhost}}}} {path}/events.v2; No space "
            f"left on device\n\tFailed to flush 1 events to {path}/events.v2\n\tFlushing first event. [Op:CreateSummaryFileWriter] name: "
        )  # fmt: skip

    monkeypatch.setattr(tf.summary, "create_file_writer", full)
    with pytest.raises(UserError, match=sentence % "No space left on device"):
        write(folder)


@pytest.mark.parametrize("replaced", [True, False])
def test_events_of_a_run_whose_folder_was_removed_go_nowhere(folder, replaced):
    path, place = folder.path, os.path.join(folder.path, "tensorboard", "hparams")
    told = pytest.raises(
        UserError, match="run folder .* removed, moved or replaced; .* begin a new run in another --run_dir"
    )
    with told, Telemetry(folder) as shown:
        shown.scalars("warmup", 0, {"supernet/loss": 0.5})
        shutil.rmtree(path)
        if replaced:
            new = RunFolder.create(path, Config(seed=1))
            new.write_text("tensorboard/events.out.tfevents.1", "")
            os.mkdir(place)
        shown.scalars("warmup", 1, {"supernet/loss": 0.5})
    for write in (Telemetry, lambda f: write_architecture_table(f, {}), lambda f: write_hparams(f, Config(), {})):
        with told:
            write(folder)
    del shown
    gc.collect()  # closes TensorFlow's writers
    assert os.path.exists(path) == replaced
    if replaced:
        assert sorted(os.listdir(os.path.dirname(place))) == ["events.out.tfevents.1", "hparams"]


def test_a_disk_that_fills_up_on_the_way_is_one_sentence(folder, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "a.v2; No space left on device\n\tFailed [Op:WriteSummary]")

    folder.write_text("metrics.jsonl", "")
    monkeypatch.setattr(tf.summary, "scalar", full)
    with (
        Telemetry(folder) as shown,
        pytest.raises(UserError, match="tensorboard. Received: No space left on device; free"),
    ):
        shown.scalars("warmup", 0, {"supernet/loss": 0.5})


def test_a_refusal_that_space_does_not_mend_is_told_without_it(folder, monkeypatch):
    def refuse(path):
        raise tf.errors.UnknownError(None, None, f"{path}; Input/output error [Op:CreateSummaryFileWriter]")

    folder.write_text("metrics.jsonl", "")
    monkeypatch.setattr(tf.summary, "create_file_writer", refuse)
    with pytest.raises(UserError, match="Received: Input/output error; repair that and go on with --resume[.]$"):
        Telemetry(folder)


@pytest.mark.parametrize("damage", [b"", b'{"phase": "wa', b"\0" * 40, b'{"phase": "warmup"}\n', None], ids=str)
def test_of_a_damaged_file_the_whole_lines_before_are_kept(folder, caplog, damage):
    path = os.path.join(folder.path, "metrics.jsonl")
    _run(folder, 0, range(6))
    with open(path, "rb") as file:
        lines = file.readlines()
    with open(path, "wb") as file:  # cut, or with later lines behind the damage
        file.write(b"".join(lines[:3]) + (damage + b"".join(lines[4:]) if damage else b""))
    if damage is None:
        os.remove(path)
    kept = 0 if damage is None else 3
    assert _run(folder, 6, range(6, 8)) == kept + 2
    steps = [*range(kept), 6, 7]
    assert [line["step"] for line in _lines(folder)] == steps == [s for s, _ in _series(folder, "supernet/loss")]
    assert caplog.messages == [f"{path} is damaged: {kept} of 6 lines are whole; its curves lack the others"]


def test_a_line_that_lacks_its_end_alone_is_whole(folder, caplog):
    path = os.path.join(folder.path, "metrics.jsonl")
    _run(folder, 0, range(3))
    os.truncate(path, os.path.getsize(path) - 1)
    assert _run(folder, 3, range(3, 5)) == 5
    assert [line["step"] for line in _lines(folder)] == [0, 1, 2, 3, 4] and not caplog.messages


def test_a_run_without_a_checkpoint_starts_over(folder):
    _run(folder, 0, range(5))
    _run(folder, 0, range(2))
    assert [s for s, _ in _series(folder, "supernet/loss")] == [0, 1]


def test_pictures_survive_a_resume(folder):
    with Telemetry(folder) as shown:
        shown.scalars("warmup", 1, {"supernet/loss": 1.0})
    write_architecture_table(folder, {NAMES[0]: dict(description="c4", val_auc=0.5, test_auc=None, threshold=None)})
    _run(folder, 1, [2])
    assert len(_events(folder, "pictures").Tensors("architectures")) == 1


def test_choice_probabilities_are_means_over_attributes(folder):
    rng = np.random.default_rng(0)
    probabilities = [rng.dirichlet(np.ones(len(d.choices)), 5) for d in search_space.DECISIONS]
    with Telemetry(folder) as shown:
        shown.choice_probabilities("controller", 500, probabilities)
    (record,) = _lines(folder)
    assert len(record) == 2 + sum(len(d.choices) for d in search_space.DECISIONS)
    for decision, p in zip(search_space.DECISIONS, probabilities):
        for i, choice in enumerate(decision.choices):
            mean = sum(p[:, i]) / 5
            assert record[f"choice/{decision.name}={choice}"] == pytest.approx(mean)
    assert record["choice/conv4_kernel=3"] + record["choice/conv4_kernel=5"] == pytest.approx(1)


def test_architecture_table_is_markdown(folder):
    figures = {
        "val_auc": [0.51239, None, 1.0, 0.5],
        "test_auc": [0.6, 0.7, 0.8, 0.9],
        "threshold": [None, 0.25, 0.5, 1.0],
    }
    rows = [dict(zip(("description", *figures), row)) for row in zip("pqrs", *figures.values())]
    write_architecture_table(folder, dict(zip(NAMES, rows)))
    (event,) = _events(folder, "pictures").Tensors("architectures")
    rows = tf.make_ndarray(event.tensor_proto).item().decode().split("\n")
    assert rows[:4] == [
        "| attribute | architecture | val_auc | test_auc | threshold |",
        "| --- | --- | --- | --- | --- |",
        "| sun/metal | p | 0.512 | 0.600 | – |",
        "| apay/metal | q | – | 0.700 | 0.250 |",
    ]
    assert rows[4].startswith("| sun/a&#124;b | r |")


def test_names_stand_in_the_table_of_architectures_as_they_are_written(folder):
    names = ["odd/__proto__", "odd/*star*", "odd/[x](y)", r"odd/C:\|x", "odd/<b>~a~", "odd/$x$ &amp; `|`"]
    row = dict(description="c4:3x3 fc:64", val_auc=0.5, test_auc=None, threshold=None)
    write_architecture_table(folder, dict.fromkeys(names, row))
    (event,) = _events(folder, "pictures").Tensors("architectures")
    shown = plugin_util.markdown_to_safe_html(tf.make_ndarray(event.tensor_proto).item().decode())
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", shown)]
    assert cells[::5] == names and set(cells[1::5]) == {"c4:3x3 fc:64"}


def _blocks_in_a_row(picture):
    """Changes between red and blue along a row through the middle of the heat map."""
    row = picture[picture.shape[0] // 3, : int(picture.shape[1] * 0.75)].astype(int)
    blue, red = (row[:, 0] < 120) & (row[:, 2] > 80), (row[:, 0] > 80) & (row[:, 2] < 60)
    signs = np.where(blue, 1, np.where(red, -1, 0))
    signs = signs[signs != 0]
    return int((np.diff(signs) != 0).sum())


def test_correlation_image_puts_like_beside_like(folder):
    """Two groups, shuffled: the picture shows two blocks. Odd names are drawn as they are."""
    group = np.array([1, -1, 1, -1, -1, 1, 1, -1])
    with Telemetry(folder) as shown:
        shown.correlation_image(3, np.outer(group, group).astype(float), NAMES * 2)
    (event,) = _events(folder, "pictures").Tensors("correlation")
    picture = np.asarray(Image.open(io.BytesIO(tf.make_ndarray(event.tensor_proto)[2])))
    assert min(picture.shape[:2]) > 300
    assert _blocks_in_a_row(picture) == 1


def test_names_that_the_font_lacks_are_drawn_without_a_word(folder, recwarn):
    with Telemetry(folder) as shown:
        shown.correlation_image(0, np.eye(2), ["sun/写真", "sun/night"])
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_attributes_that_are_all_alike_are_put_side_by_side_without_a_warning(recwarn):
    assert sorted(telemetry.clustered_order(np.zeros((4, 4)))) == [0, 1, 2, 3] and not len(recwarn)


@pytest.mark.parametrize("letter", "aW写")
def test_long_names_leave_the_heat_map_room(folder, recwarn, letter):
    with Telemetry(folder) as shown:
        shown.correlation_image(0, np.eye(6), [f"sun/{300 * letter}{i}" for i in range(6)])
    picture = np.asarray(
        Image.open(io.BytesIO(tf.make_ndarray(_events(folder, "pictures").Tensors("correlation")[0].tensor_proto)[2]))
    )
    # of 1: blue, as in the report
    diagonal = (np.abs(picture[..., :3].astype(int) - (5, 48, 97)) < 5).all(axis=-1)
    assert min(diagonal.any(axis=0).sum(), diagonal.any(axis=1).sum()) > 100
    assert not [w for w in recwarn if "layout" in str(w.message)]


def _drawn(picture, row, column):
    """How many separate lines and dots of the first series' colour a panel of curves.png has, its legend's among
    them.
    """
    height, width = (side // 2 for side in picture.shape[:2])
    panel = picture[row * height : (row + 1) * height, column * width : (column + 1) * width].astype(int)
    return ndimage.label((np.abs(panel - (31, 119, 180)) < 40).all(axis=-1))[1]


@pytest.mark.parametrize("count", [1, 2])
def test_curves_show_a_series_of_one_value_too(folder, count):
    with Telemetry(folder) as shown:
        for step in range(count):
            shown.scalars("warmup", step, {"supernet/loss": 0.7 - step / 10})
            shown.scalars("controller", step, {"controller/reward": 0.5 + step / 10, "controller/entropy": 6 - step})
            shown.scalars("adapt", step, {"derived/validation_mauc": 0.6 + step / 10})
    plots.write_learning_curves(folder)
    picture = np.asarray(Image.open(f"{folder.path}/curves.png").convert("RGB"))
    # the series, and its mark in the legend; one judgement alone is no adaptation
    shown_while_adapting = 2 * (count > 1)
    assert [_drawn(picture, row, column) for row in (0, 1) for column in (0, 1)] == [2, 2, 2, shown_while_adapting]


@pytest.mark.parametrize("count", [1, 2, 251])
def test_correlation_image_of_any_number(folder, count):
    with Telemetry(folder) as shown:
        shown.correlation_image(0, np.eye(count), [f"domain/attribute {i}" for i in range(count)])
    width, height = tf.make_ndarray(_events(folder, "pictures").Tensors("correlation")[0].tensor_proto)[:2]
    assert int(height) >= 14 * (count - 50 if count > 50 else count) * 0.7 and int(width) > int(height)


def test_embeddings_for_the_projector(folder):
    vectors = np.random.default_rng(1).normal(size=[4, 6])
    with Telemetry(folder) as shown:
        shown.embeddings(vectors, NAMES, ["sun", "apay", "sun", "sun"])
    root = os.path.join(folder.path, "tensorboard")
    with open(os.path.join(root, "projector_config.pbtxt"), encoding="utf-8") as file:
        (entry,) = text_format.Parse(file.read(), ProjectorConfig()).embeddings
    read = pd.read_csv(os.path.join(root, entry.tensor_path), sep="\t", header=None)
    np.testing.assert_allclose(read.to_numpy(), vectors, rtol=1e-5)
    names = pd.read_csv(os.path.join(root, entry.metadata_path), sep="\t")
    assert list(names["attribute"]) == NAMES and list(names["domain"]) == ["sun", "apay", "sun", "sun"]
    assert [n for n in os.listdir(root) if "tfevents" in n]  # beside events, where the Projector looks


def test_every_run_is_a_row_of_hparams_though_folders_of_others_have_its_name():
    """Trials of every tuning are called 0, 1, ...; TensorBoard shows the mean of what has one name."""
    names = [
        telemetry._row_name(path) for path in ("a/trials/0", "b/trials/0", "a/trials/1", os.path.abspath("a/trials/0/"))
    ]
    assert len(set(names)) == 3 and names[0] == names[3]
    assert [name.split()[0] for name in names] == ["0", "0", "1", "0"]


def test_hparams_are_settings_and_metrics_of_the_run(folder):
    config = Config(
        domain=("awa", "sun"), entropy_weight=0.125, normalize_advantage=False, source_run=("runs/A/",),
        trunk_model="models/b0.keras", transfer=("trunk", "towers"), train_positives=5,
    )  # fmt: skip
    write_hparams(folder, config, {"test_mauc": 0.25, "skill": 1.0})  # stopped here, and then done anew
    write_hparams(folder, config, {"test_mauc": 0.75, "val_mauc": 0.5, "skill": None, "domains": ["awa"]})
    events = _events(folder, "hparams")
    found = {
        tag: float(tf.make_ndarray(events.Tensors(tag)[0].tensor_proto))
        for tag in events.Tags()["tensors"]
        if "run/" in tag
    }
    assert found == {"run/test_mauc": 0.75, "run/val_mauc": 0.5} and set(found) <= set(telemetry.METRICS)
    (content,) = events.PluginTagToContent("hparams").values()
    session = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert session.group_name == telemetry._row_name(folder.path)
    shown = {name: value.string_value or value.number_value for name, value in session.hparams.items()}
    assert shown["domain"] == "awa,sun" and shown["entropy_weight"] == 0.125 and shown["controller_steps"] == 1000
    assert "cache_dir" not in shown and "run_dir" not in shown
    assert (shown["source_run"], shown["trunk_model"], shown["transfer"]) == ("A", "b0.keras", "trunk,towers")
    assert (
        telemetry._setting("source_run", ["runs/A/", "/x/B"]) == "A,B" and telemetry._setting("trunk_model", "") == ""
    )
    assert shown["train_positives"] == 5 and {
        "match", "freeze_trunk", "trunk_steps", "size_penalty", "readout_share", "class_balance"
    } <= set(shown)  # fmt: skip
