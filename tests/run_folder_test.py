"""A run's folder: never overwritten, every file whole or absent, resumed with the same settings only."""

import dataclasses
import errno
import fcntl
import json
import logging
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from galm_tf import begun, hardware, pipeline, pretrained, run_folder
from galm_tf import config as config_lib
from galm_tf.config import Config
from galm_tf.errors import UserError
from galm_tf.whole_file import whole_file
from galm_tf.run_folder import RunFolder, read_config

CONFIG = Config(domain=("awa", "sun"), learning_rate=0.25, augment_flip=False)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs" / "one")


@pytest.fixture
def folder(path):
    return RunFolder.create(path, CONFIG)


def test_create_stores_the_settings(folder, path):
    assert run_folder.read_config(path) == CONFIG
    stored = folder.read_json("config.json")
    assert stored["format"] == run_folder.FORMAT and stored["domain"] == ["awa", "sun"]


def test_a_run_is_not_overwritten(folder, path):
    with pytest.raises(UserError, match="run_dir=.*which holds a run; continue it with --resume"):
        RunFolder.create(path, CONFIG)


def test_a_folder_of_other_files_is_left_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="which holds other files; name another folder by --run_dir"):
        RunFolder.create(str(tmp_path), CONFIG)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_tensorflow_could_not_write_to_is_refused(tmp_path):
    path = str(tmp_path / "b\udce9")
    with pytest.raises(UserError, match=r"whose path is UTF-8, .*b\\udce9'; name another folder by --run_dir"):
        RunFolder.create(path, CONFIG)
    assert not os.path.exists(path)


def test_an_empty_folder_is_taken(tmp_path):
    assert RunFolder.create(str(tmp_path), CONFIG).has("config.json")


def test_a_run_that_was_killed_before_its_settings_were_whole_leaves_nothing_in_the_way(path):
    os.makedirs(path)
    for name in (".lock", ".a.partial"):
        pathlib.Path(path, name).touch()
    config, folder = RunFolder.begin_or_resume(path, CONFIG)
    assert not config.resume and sorted(os.listdir(path)) == [".lock", "config.json", "flags.txt"]


def test_a_run_that_was_killed_before_its_flags_were_written_has_them_once_it_goes_on(path, monkeypatch, parse):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(RunFolder, "_write_flags", lambda *_: 1 / 0)
        RunFolder.create(path, CONFIG)
    assert os.path.exists(f"{path}/config.json") and not os.path.exists(f"{path}/flags.txt")
    RunFolder.resume(path, dataclasses.replace(CONFIG, resume=True, run_dir=path))
    assert parse(f"--flagfile={path}/flags.txt") == CONFIG


def test_what_a_killed_run_was_writing_is_removed_when_it_goes_on(path):
    RunFolder.create(path, CONFIG)
    os.makedirs(f"{path}/checkpoints/.b.partial/variables")
    for name in (
        ".a.partial",
        "checkpoints/.c.partial",
        "checkpoints/.b.partial/variables/d",
        "checkpoints/e.partial",
        ".hidden",
    ):
        pathlib.Path(path, name).touch()
    RunFolder.resume(path, CONFIG)
    left = {str(p.relative_to(path)) for p in pathlib.Path(path).rglob("*")}
    assert left == {".lock", "config.json", "flags.txt", "checkpoints", "checkpoints/e.partial", ".hidden"}


def test_a_folder_of_another_process_is_refused(folder, path):
    with pytest.raises(UserError, match="no other process uses. Received: .*, which is in use"):
        RunFolder.resume(path, CONFIG)


def test_who_only_looks_whether_a_folder_is_in_use_keeps_no_run_out(path, monkeypatch):
    RunFolder.create(path, CONFIG)._lock.close()
    looking = open(os.path.join(path, ".lock"), "rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: looking.close())
    assert RunFolder.resume(path, CONFIG).path == path and looking.closed


def test_the_lock_ends_with_its_process(path):
    code = "import sys; from galm_tf.run_folder import *; f = RunFolder.create(sys.argv[1], Config()); os._exit(9)"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", code, path], cwd=root, check=False)
    assert done.returncode == 9
    assert RunFolder.resume(path, Config()).path == path


def test_resume_names_what_differs(path):
    RunFolder.create(path, CONFIG)
    with pytest.raises(
        UserError,
        match="rounds=7 now, 2 in the run; learning_rate=0.5 now, 0.25 in the run; leave such flags out beside --resume, .*or give --rounds=2 --learning_rate=0.25",
    ):
        RunFolder.resume(path, dataclasses.replace(CONFIG, learning_rate=0.5, rounds=7))
    with pytest.raises(UserError, match="7 now, 2 in the run; give --rounds=2, or name another folder by --out[.]$"):
        RunFolder.begin_or_resume(path, dataclasses.replace(CONFIG, rounds=7))  # by a command that refuses --resume


def test_resume_lets_what_no_number_depends_on_differ(path):
    RunFolder.create(path, CONFIG)
    other = dataclasses.replace(
        CONFIG,
        resume=True,
        run_dir=path,
        cache_dir="elsewhere",
        checkpoint_seconds=1.0,
        reward_memory_mib=100,
        verify_cache=True,
    )
    assert RunFolder.resume(path, other).has("flags.txt")


@pytest.mark.parametrize("content", [None, "{", '{"format": 99}'], ids=["absent", "torn", "newer"])
def test_resume_of_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        UserError,
        match="^Expected (a run folder with a config.json|the settings of a run in .*|a run of format 1). Received: .*; .*[.]$",
    ):
        RunFolder.resume(str(tmp_path), CONFIG)


def test_a_run_goes_on_where_its_data_have_moved_to(tmp_path):
    """What data.json says of them is compared later; without it the folder must be the same."""
    path, config, moved = str(tmp_path / "run"), Config(data_dir=("mine",)), Config(data_dir=("moved",))
    RunFolder.create(path, config)
    with pytest.raises(UserError, match="Received: data_dir=.'moved'. now, .'mine'. in the run"):
        RunFolder.resume(path, moved)
    pathlib.Path(path, "data.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="now, .'mine'. in the run"):
        RunFolder.resume(path, Config())
    assert read_config(path) == config
    folder = RunFolder.resume(path, dataclasses.replace(moved, resume=True))
    folder.note_places(moved)
    assert read_config(path) == moved and "--data_dir=moved" in pathlib.Path(path, "flags.txt").read_text(
        encoding="utf-8"
    )


def test_source_runs_may_lie_elsewhere_too_and_in_a_finished_run_all_may(tmp_path):
    path, config = str(tmp_path / "run"), Config(source_run=("A",), data_dir=("mine",))
    RunFolder.create(path, config)
    moved = dataclasses.replace(config, source_run=("B",), data_dir=("moved",))
    with pytest.raises(UserError, match="Received: .*source_run=.'B'. now, .'A'. in the run"):
        RunFolder.resume(path, moved)
    pathlib.Path(path, "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="Received: source_run=.'B', 'C'. now"):
        RunFolder.resume(path, dataclasses.replace(moved, source_run=("B", "C")))
    folder = RunFolder.resume(path, moved)
    assert folder.moved(moved) == {"data_dir": ("moved",), "source_run": ("B",)} and folder.moved(config) == {}
    folder.note_places(moved)
    assert read_config(path) == moved and folder.moved(moved) == {}
    folder.write_text("result.json", "1")
    assert run_folder.run_digest(path) != run_folder.run_digest(str(tmp_path)) is None


def test_tables_of_labels_and_a_file_of_splits_may_lie_elsewhere_too(tmp_path):
    path = str(tmp_path / "run")
    config = Config(data_dir=("mine",), label_files=("a.csv", "b/2-b.csv"), splits_file="att_splits.mat")
    RunFolder.create(path, config)
    moved = dataclasses.replace(config, label_files=("/x/a.csv", "/x/b.csv"), splits_file="/x/att_splits.mat")
    with pytest.raises(
        UserError, match="Received: splits_file=/x/att_splits.mat now, att_splits.mat in the run; label_files="
    ):
        RunFolder.resume(path, moved)
    pathlib.Path(path, "data.json").write_text("{}", encoding="utf-8")
    RunFolder.resume(path, moved).note_places(moved)
    assert read_config(path) == dataclasses.replace(moved, label_files=config.label_files)
    for changes in ({"label_files": ("a.csv",)}, {"splits_file": ""}):
        with pytest.raises(UserError, match=f"Received: {next(iter(changes))}="):
            RunFolder.resume(path, dataclasses.replace(config, **changes))


def test_a_run_has_copies_of_its_tables_of_labels(folder, path, tmp_path):
    files = [tmp_path / name for name in ("one.csv", "7-two.csv", "gone.csv")]
    for file in files:
        file.write_text(file.name)
    config = Config(label_files=tuple(map(str, files)))
    assert run_folder.with_kept_tables(config, path) == config  # of an earlier version
    folder.keep_tables(config.label_files)
    os.remove(os.path.join(path, "labels", "2-gone.csv"))
    kept = run_folder.with_kept_tables(config, path).label_files
    assert kept == (f"{path}/labels/0-one.csv", f"{path}/labels/1-two.csv", str(files[2]))
    assert [pathlib.Path(name).read_text() for name in kept] == [file.name for file in files]
    added = dataclasses.replace(
        config, label_files=config.label_files[:2], source_run=("a",), add_attribute=str(files[1])
    )
    folder._write_settings(added)
    lines = pathlib.Path(path, "flags.txt").read_text().splitlines()
    assert (
        f"--label_files={path}/labels/0-one.csv,{path}/labels/1-two.csv" in lines
        and f"--add_attribute={path}/labels/1-two.csv" in lines
    )
    assert read_config(path) == added
    folder.keep_tables(kept)  # of a run that was added to
    assert sorted(os.listdir(os.path.join(path, "labels"))) == ["0-one.csv", "1-two.csv", "2-gone.csv"]


def test_flags_txt_repeats_the_run(folder, path, parse):
    assert parse(f"--flagfile={path}/flags.txt") == CONFIG


def test_flags_txt_repeats_what_holds_a_comma_or_a_quote(tmp_path, parse):
    config = Config(domain=("mine", "b"), data_dir=("/data/a,b", '/data/"c"'), leave_out=("fur, long",))
    RunFolder.create(str(tmp_path / "run"), config)
    assert parse(f"--flagfile={tmp_path}/run/flags.txt") == config


def test_flags_txt_tells_what_no_line_of_it_can_hold(parse, tmp_path):
    config = Config(domain=("mine",), data_dir=("/data/a\nb",), cache_dir="/cache ")
    path = tmp_path / "flags.txt"
    path.write_text(run_folder.flagfile(config))
    lines = path.read_text().splitlines()
    told = [i for i, line in enumerate(lines) if "beside this file" in line]
    assert [lines[i + 1] for i in told] == [r'--data_dir="/data/a\nb"', "--cache_dir=/cache "]
    assert parse(f"--flagfile={path}").data_dir == (r"/data/a\nb",)  # which is not there
    given = [config_lib.as_flag(name, getattr(config, name)) for name in ("data_dir", "cache_dir")]
    assert parse(f"--flagfile={path}", *given) == config


def test_a_path_from_home_is_the_same_in_full(tmp_path, monkeypatch):
    """Earlier versions stored --data_dir=~/zoo as the shell had left it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    stored = Config(data_dir=("~/zoo",), splits_file="~/s.mat")
    given = Config(data_dir=(f"{tmp_path}/zoo",), splits_file=f"{tmp_path}/s.mat")
    assert run_folder.changed_settings(given.to_json(), stored.to_json()) == {}
    assert (
        run_folder.changed_settings(
            {"features": {"sun": {"file": f"{tmp_path}/f"}}}, {"features": {"sun": {"file": "~/f"}}}
        )
        == {}
    )
    assert "data_dir" in run_folder.changed_settings(Config(data_dir=("/other",)).to_json(), stored.to_json())


def test_a_file_name_that_is_no_text_survives_json(folder, path):
    name = os.fsdecode(b"caf\xe9.jpg")
    folder.write_json("x.json", {"bad": name})
    assert folder.read_json("x.json") == {"bad": name}


def test_default_names_count_up(tmp_path):
    names = [run_folder.free_path(("awa", "sun"), "galm", 3, str(tmp_path))]
    assert run_folder.last_path(("awa", "sun"), "galm", 3, str(tmp_path)) == names[0]  # told as missing by resume
    for _ in range(2):
        os.makedirs(names[-1])
        assert run_folder.last_path(("awa", "sun"), "galm", 3, str(tmp_path)) == names[-1]
        names.append(run_folder.free_path(("awa", "sun"), "galm", 3, str(tmp_path)))
    assert [os.path.basename(n) for n in names] == ["awa+sun-galm-s3", "awa+sun-galm-s3-2", "awa+sun-galm-s3-3"]


def test_an_unused_folder_is_removed_and_a_used_one_is_not(folder, path):
    folder.write_json("split.json", {})
    folder.write_text("metrics.jsonl", "")
    folder.remove_if_unused()
    assert folder.has("split.json")
    os.remove(os.path.join(path, "metrics.jsonl"))
    folder.remove_if_unused()
    assert not os.path.exists(path)


def test_a_mistake_that_ends_a_run_before_its_first_file_takes_the_folder_away(folder, path):
    with pytest.raises(KeyboardInterrupt), folder.kept_if_used():
        raise KeyboardInterrupt  # it is told how to go on
    assert os.path.exists(path)
    with pytest.raises(UserError), folder.kept_if_used():
        raise UserError("no such data")
    assert not os.path.exists(path)


def test_a_write_that_fails_leaves_the_old_file_alone(folder, path):
    folder.write_text("a.txt", "old")
    with pytest.raises(ZeroDivisionError), folder._whole("a.txt") as file:
        file.write(b"half of the n")
        raise ZeroDivisionError
    with open(os.path.join(path, "a.txt"), encoding="utf-8") as file:
        assert file.read() == "old"
    assert not [n for n in os.listdir(path) if n.endswith(".partial")]


def test_json_is_readable_by_anyone(folder, path):
    folder.write_json("r.json", {"name": "bär", "auc": None})
    assert json.load(open(os.path.join(path, "r.json"), encoding="utf-8")) == {"name": "bär", "auc": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_json("r.json", {"auc": float("nan")})


ARRAYS = {
    "supernet/conv1/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimizer/step": np.array(7, np.int64),
    "best/empty": np.zeros([0, 4], np.float32),
    "flags": np.array([True, False]),
}


def test_checkpoint_round_trip(folder):
    assert folder.load_checkpoint() is None
    folder.save_checkpoint(ARRAYS, {"step": 3, "chosen": None, "name": "ä"})
    arrays, meta = folder.load_checkpoint()
    assert meta == {"step": 3, "chosen": None, "name": "ä"} and list(arrays) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype and arrays[name].shape == value.shape
        np.testing.assert_array_equal(arrays[name], value)


def test_of_a_checkpoint_only_what_is_wanted_is_read(folder, path):
    assert folder.has_only_checkpoint_of(())
    folder.save_checkpoint(ARRAYS, {"step": 1})
    file = os.path.join(path, "checkpoints", "000001.npz")
    with open(file, "rb") as stream:
        content = stream.read()
    with open(file, "wb") as stream:
        stream.write(_flip(content))  # of the supernet
    arrays, meta = folder.load_checkpoint(("optimizer/", "flags"))
    assert list(arrays) == ["optimizer/step", "flags"] and arrays["optimizer/step"] == 7 and meta == {"step": 1}
    assert folder.load_checkpoint(()) == ({}, {"step": 1})
    assert folder.has_only_checkpoint_of(("supernet/", "optimizer/", "best/", "flags"))
    assert not folder.has_only_checkpoint_of(("supernet/", "optimizer/"))
    folder.save_checkpoint({}, {})
    assert not folder.has_only_checkpoint_of(("",))  # there are two
    with open(os.path.join(path, "checkpoints", "000002.npz"), "wb"):
        os.remove(file)
    assert folder.has_only_checkpoint_of(()) and folder.load_checkpoint() is None  # nothing can be left of it


def test_only_the_last_checkpoints_stay(folder, path):
    for step in range(12):
        folder.save_checkpoint(ARRAYS, {"step": step})
    assert sorted(os.listdir(os.path.join(path, "checkpoints"))) == ["000011.npz", "000012.npz"]
    assert folder.load_checkpoint()[1] == {"step": 11}


def _cut(content):
    return content[: len(content) // 2]


def _flip(content):
    middle = content.index(b"NUMPY") + 130  # inside the first array's numbers
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda content: b""], ids=["cut", "flipped bit", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(folder, path, damage, caplog):
    for step in (1, 2):
        folder.save_checkpoint(ARRAYS, {"step": step})
    newest = os.path.join(path, "checkpoints", "000002.npz")
    with open(newest, "rb") as file:
        content = file.read()
    with open(newest, "wb") as file:
        file.write(damage(content))
    with caplog.at_level(logging.WARNING):
        assert folder.load_checkpoint()[1] == {"step": 1}
    assert "000002.npz is damaged" in caplog.text
    folder.save_checkpoint(ARRAYS, {"step": 3})
    assert folder.load_checkpoint()[1] == {"step": 3}


def test_objects_are_neither_pickled_nor_unpickled(folder, path):
    with pytest.raises(ValueError, match="allow_pickle"):
        folder.write_arrays("evil.npz", {"a": np.array([{}], object)})
    np.savez(os.path.join(path, "evil.npz"), a=np.array([{}], object))
    assert folder.read_arrays("evil.npz") is None


def test_a_damaged_json_file_is_one_sentence(folder, path):
    folder.write_json("result.json", {"a": [1, 2]})
    whole = (pathlib.Path(path) / "result.json").read_text()
    (pathlib.Path(path) / "result.json").write_text(whole[:-3])
    with pytest.raises(
        UserError, match=r"Expected JSON that the run wrote in .*result.json. Received: .*; restore it from a copy"
    ):
        folder.read_json("result.json")


@pytest.mark.parametrize("content, what", [("[]", "list"), ("null", "NoneType")])
def test_other_json_than_a_run_writes_is_one_sentence(folder, path, content, what):
    (pathlib.Path(path) / "result.json").write_text(content)
    with pytest.raises(UserError, match=f"result.json. Received: {what} instead of an object; restore it from a copy"):
        folder.read_json("result.json")


def test_a_setting_of_another_version_is_told_with_its_file(folder, path):
    stored = json.loads((pathlib.Path(path) / "config.json").read_text())
    (pathlib.Path(path) / "config.json").write_text(json.dumps({**stored, "later": 3}))
    with pytest.raises(
        UserError,
        match=r"Received: later=3\. It stands in .*config.json: use the version of galm_tf that wrote it, or restore",
    ):
        read_config(path)


def test_lines_are_cut_back(folder, path):
    assert folder.keep_lines("m.jsonl", 3) == []
    for line in ("a", "b", "c"):
        folder.append_line("m.jsonl", line)
    with open(os.path.join(path, "m.jsonl"), "ab") as file:
        file.write(b'{"torn \xc3')
    assert folder.keep_lines("m.jsonl", 2) == ["a", "b"]
    folder.append_line("m.jsonl", "d")
    assert folder.keep_lines("m.jsonl", 9) == ["a", "b", "d"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # nothing but the sentence may be seen
def test_a_full_disk_is_one_sentence_and_costs_nothing(folder, path):
    """A limit on the size of files stands in for a disk without space: the same call fails in the same place."""
    folder.save_checkpoint(ARRAYS, {"step": 1})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(
            UserError,
            match="Expected to be able to write .*npz. Received: File too large; free some space and go on with --resume[.]$",
        ):
            folder.save_checkpoint({"big": np.ones(100_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert folder.load_checkpoint()[1] == {"step": 1}
    assert os.listdir(os.path.join(path, "checkpoints")) == ["000001.npz"]


def test_of_a_run_that_has_begun_another_folder_is_no_way_around_a_full_disk(folder, path):
    def told(folder, code=errno.ENOSPC):
        return str(folder.unwritable(f"{path}/a", os.strerror(code), code)).split("; ")[1]

    assert told(folder) == "free some space or name another folder by --run_dir."  # it will go
    pathlib.Path(path, ".a.partial").touch()
    assert told(folder, errno.EIO) == "name another folder by --run_dir."
    folder.write_text("metrics.jsonl", "")
    assert (told(folder), told(folder, errno.EIO)) == (
        "free some space and go on with --resume.",
        "repair that and go on with --resume.",
    )
    folder._lock.close()
    os.remove(os.path.join(path, "metrics.jsonl"))
    folder = RunFolder.resume(path, CONFIG)
    assert told(folder, errno.EROFS) == "make it writable and go on with --resume."
    folder._lock.close()
    for place in (path, path + "-new"):  # of a command that knows no --resume, nor --run_dir
        _, folder = RunFolder.begin_or_resume(place, CONFIG)
        assert str(folder.unwritable("a", "Full", errno.ENOSPC)).endswith(
            "Full; free some space; the same command goes on."
        )


def test_a_folder_that_a_command_names_itself_is_not_to_be_named_otherwise(path, monkeypatch):
    monkeypatch.setattr(os, "makedirs", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "Full")))
    with pytest.raises(UserError, match="Received: Full; free some space; the same command goes on[.]$"):
        RunFolder.begin_or_resume(path + "-new", CONFIG)
    with pytest.raises(UserError, match="Received: Full; free some space or name another folder by --run_dir[.]$"):
        RunFolder.create(path + "-new", CONFIG)


def test_a_begun_run_whose_lock_may_not_be_written_is_gone_on_with(folder, path, monkeypatch):
    folder._lock.close()

    def refuse(name, *arguments, **settings):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "open", refuse, raising=False)
        with pytest.raises(
            UserError, match="Received: Permission denied; make it writable and go on with --resume[.]$"
        ):
            run_folder._lock(path)


def test_a_place_that_cannot_hold_a_folder(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="Expected to be able to write .*file/run. Received: Not a directory"):
        RunFolder.create(str(tmp_path / "file" / "run"), CONFIG)


def test_environment_names_versions_and_commit(monkeypatch):
    import tensorflow as tf

    found = run_folder.environment()
    assert found["versions"]["tensorflow"] == tf.__version__ and found["versions"]["numpy"] == np.__version__
    assert found["commit"] is None or len(found["commit"]) == 40
    assert found["computed_on"] == hardware.computed_on()
    monkeypatch.setenv("PATH", "")
    assert run_folder.environment()["commit"] is None  # no git to be found


def test_what_a_run_was_computed_on_is_named(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    monkeypatch.setattr(hardware, "usable_cores", lambda: 1)
    hardware.gpu.cache_clear()
    assert hardware.computed_on() == "1 processor core"
    monkeypatch.setattr(hardware, "usable_cores", lambda: 16)
    assert hardware.computed_on() == "16 processor cores"
    # cards that TensorFlow cannot use are no devices of its; of several the first computes
    cards = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(2)]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: cards)
    assert hardware.computed_on() == "16 processor cores"
    details = {cards[0].name: {"device_name": "NVIDIA H100 80GB HBM3"}, cards[1].name: {"device_name": "another"}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details[card.name])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: cards)
    hardware.gpu.cache_clear()
    assert hardware.computed_on() == "NVIDIA H100 80GB HBM3"
    details[cards[0].name].clear()
    hardware.gpu.cache_clear()
    assert hardware.computed_on() == "/physical_device:GPU:0"
    hardware.gpu.cache_clear()


@pytest.mark.parametrize(
    "system, card, compiles", [("Darwin", "Metal", False), ("Darwin", None, True), ("Linux", "H100", True)]
)
def test_xla_compiles_for_no_gpu_of_a_mac(monkeypatch, system, card, compiles):
    import tensorflow as tf

    monkeypatch.setattr(hardware.platform, "system", lambda: system)
    monkeypatch.setattr(hardware, "gpu", lambda: card)
    assert hardware.xla_compiles() == (compiles and tf.test.is_built_with_xla())


def test_what_a_file_of_settings_does_not_state_is_as_it_was_before_the_setting_was_there(folder, path, tmp_path):
    stored = folder.read_json("config.json")
    for name in ("readout_share", "size_penalty"):
        del stored[name]
    folder.write_json("config.json", stored)
    assert run_folder.read_config(path) == dataclasses.replace(CONFIG, readout_share=0.0, size_penalty=0.0)
    ours = CONFIG.to_json()
    assert run_folder.other_settings({**ours, "vary": "seed"}, stored, "table") == (
        "size_penalty=0.02 now, 0.0 in the table; readout_share=0.3 now, 0.0 in the table; vary=seed now, None in the table"
    )
    begun.Begun(str(tmp_path / "a" / "settings.json"), stored).keep()
    begun.Begun(
        str(tmp_path / "a" / "settings.json"),
        {**ours, "readout_share": 0.0, "size_penalty": 0.0, "format": stored["format"]},
    ).keep()
    with pytest.raises(
        UserError,
        match="Received: size_penalty=0.02 now, 0.0 in the tuning; readout_share=0.3 now, 0.0 in the tuning; give the same",
    ):
        begun.Begun(str(tmp_path / "a" / "settings.json"), ours, "tuning")


def test_a_folder_is_begun_with_what_it_first_keeps(tmp_path):
    path = tmp_path / "a" / "settings.json"
    begun.Begun(str(path), {"seed": 1})  # a command that then fails at its data
    assert not path.parent.exists()
    first, second = (begun.Begun(str(path), {"seed": seed}) for seed in (2, 3))  # two that start together
    first.keep()
    with pytest.raises(UserError, match="seed=3 now, 2 in the table"):
        second.keep()
    assert json.loads(path.read_text()) == {"seed": 2} and os.listdir(path.parent) == ["settings.json"]


@pytest.mark.parametrize("content", ["", '{"seed', "[]"])
def test_damaged_settings_of_a_folder_are_one_sentence(tmp_path, content):
    (tmp_path / "tune.json").write_text(content)
    with pytest.raises(
        UserError, match="^Expected JSON that .*tune.json. Received: .*; restore it from a copy or remove"
    ):
        begun.Begun(str(tmp_path / "tune.json"), {"seed": 1}, "tuning")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_command_wrote_first_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    path = tmp_path / "b.txt"
    with whole_file(str(path), replace=False) as partial, open(partial, "w") as file:
        file.write("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["b.txt"]
    path.unlink()
    path = tmp_path / "a.txt"
    with whole_file(str(path), replace=False) as partial:
        path.write_text("theirs")
        with open(partial, "w") as file:
            file.write("ours")
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_run_whose_folder_was_removed_ends_and_leaves_anothers_alone(folder, path, replaced):
    folder.save_checkpoint({"w": np.zeros(2)}, {"of": "old"})
    shutil.rmtree(path)
    if replaced:
        new = RunFolder.create(path, dataclasses.replace(CONFIG, seed=1))
        new.write_text("split.json", "new")
        pathlib.Path(path, ".a.partial").touch()
    before = sorted(pathlib.Path(path).rglob("*"))
    for write in (
        lambda: folder.write_json("result.json", {}),
        lambda: folder.append_line("metrics.jsonl", "{}"),
        lambda: folder.save_checkpoint({"w": np.zeros(2)}, {"of": "old"}),
        folder.drop_checkpoints,
        lambda: pipeline.export_network(None, None, {}, folder),
        lambda: pretrained.of_run(dataclasses.replace(CONFIG, trunk_model="m.keras"), folder, None, None, None),
        folder._remove_partial,
        lambda: folder.note_unrepeated(["a"]) if replaced else folder.expect_own(),
    ):
        with (
            pytest.raises(
                UserError,
                match=f"^Expected the run folder {path} to stay .*moved or replaced; where it was moved go on by --resume "
                "--run_dir=ITS_PLACE, else begin a new run in another --run_dir[.]$",
            ),
            folder.kept_if_used(),
        ):
            write()
    assert sorted(pathlib.Path(path).rglob("*")) == before
    assert "was removed" in str(folder.unwritable(path, "No such file or directory", errno.ENOENT))
    if replaced:
        assert read_config(path).seed == 1 and new.load_checkpoint() is None


def test_a_cell_whose_folder_was_removed_is_begun_again_by_the_same_command(path):
    _, folder = RunFolder.begin_or_resume(path, CONFIG)
    shutil.rmtree(path)
    with pytest.raises(UserError, match="moved or replaced; the same command goes on[.]$"):
        folder.write_json("result.json", {})
    _, folder = RunFolder.begin_or_resume(path, CONFIG)
    folder.write_json("result.json", {})


def test_a_run_whose_lock_alone_was_removed_goes_on(folder, path):
    os.remove(os.path.join(path, ".lock"))
    folder.write_json("result.json", {})
    another = RunFolder(path)  # which has it now
    with pytest.raises(UserError, match="Expected the run folder .* to stay"):
        folder.write_json("result.json", {"of": "old"})
    another.write_json("result.json", {"of": "new"})


def test_a_folder_without_a_lock_is_written_into_where_it_stays(path, monkeypatch):
    monkeypatch.setattr(run_folder, "fcntl", None)  # Windows
    folder = RunFolder.create(path, CONFIG)
    folder.write_json("result.json", {})
    assert folder.has("result.json") and not folder.has(".lock")
    shutil.rmtree(path)
    with pytest.raises(UserError, match="Expected to be able to write .*result.json. Received: No such file"):
        folder.write_json("result.json", {})
    assert not os.path.exists(path)


def test_a_lock_that_cannot_be_looked_at_for_a_while_ends_no_run(folder, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os.path, "samestat", fail)
        folder.write_json("result.json", {})
