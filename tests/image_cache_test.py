"""The cache: what it holds, when it is made anew, two runs at once, and folders that cannot take it."""

import dataclasses
import errno
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
import tensorflow as tf
from PIL import Image

from galm_tf import cache_folder, image_cache, preprocess
from galm_tf.config import Config
from galm_tf.domains import copies, generated, load_domains, pictures
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images

ROOT = pathlib.Path(__file__).resolve().parents[1]
CSV = "image,class,split,left,top,right,bottom,striped\n"


class Setup:
    """Three photographs of different sizes; the first shows two objects."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.data, self.cache = folder / "data", folder / "cache"
        (self.data / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for name, size in (("a.png", (90, 70, 3)), ("b.png", (32, 32, 3)), ("c.png", (40, 100, 3))):
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(self.data / "images" / name)
        self.config = Config(
            domain=("mine",), data_dir=(str(self.data),), layout=("table",), cache_dir=str(self.cache), image_size=32
        )
        rows = ["a.png,x,train,0,0,40,50,1", "a.png,y,train,10,20,70,90,0", "b.png,z,test,,,,,1", "c.png,z,test,,,,,0"]
        (self.data / "attributes.csv").write_text(CSV + "\n".join(rows) + "\n")
        self.domain = load_domains(self.config)

    def load(self, **settings):
        return load_images(self.domain, dataclasses.replace(self.config, **settings))

    def path(self, name: str) -> pathlib.Path:
        return self.data / "images" / name


@pytest.fixture
def setup(tmp_path) -> Setup:
    return Setup(tmp_path)


@pytest.fixture
def no_decoding(monkeypatch):
    def fail(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_cache, "decode_images", fail)


def by_hand(setup: Setup, row: int) -> np.ndarray:
    """The crop read by Pillow alone, with the padding of the domain."""
    whole = np.asarray(Image.open(setup.domain.paths[row]))
    left, top, right, bottom = setup.domain.boxes[row]
    if right >= 0:
        padding = setup.domain.crop_paddings[setup.domain.image_domains[row]]
        pad = round(padding * max(right - left, bottom - top))
        whole = whole[max(top - pad, 0) : bottom + pad, max(left - pad, 0) : right + pad]
    return preprocess.resize_images(tf.constant(whole), 32).numpy()


def test_every_record_is_its_own_crop(setup):
    domain, images, bad = setup.load()
    assert (
        images.shape == (4, 32, 32, 3) and images.dtype == np.uint8 and bad == () and domain.paths == setup.domain.paths
    )
    for row in range(4):
        np.testing.assert_array_equal(images[row], by_hand(setup, row))
    np.testing.assert_array_equal(images[2], np.asarray(Image.open(setup.path("b.png"))))  # has the size already


def test_boxes_of_joined_domains_have_the_padding_of_their_own(setup):
    paddings = dict(crop_paddings=(0.0, 0.5), image_domains=np.array([0, 1, 0, 0], np.int32))
    setup.domain = dataclasses.replace(setup.domain, **paddings)
    _, images, _ = setup.load()
    for row in (0, 1):
        np.testing.assert_array_equal(images[row], by_hand(setup, row))


def test_a_photograph_with_several_objects_is_decoded_once(setup, monkeypatch):
    read, decode = [], preprocess.decode_image
    monkeypatch.setattr(preprocess, "decode_image", lambda path: read.append(path) or decode(path))
    setup.load()
    assert sorted(os.path.basename(p) for p in read) == ["a.png", "b.png", "c.png"]


def test_the_second_start_maps_the_file(setup, request):
    _, first, _ = setup.load()
    request.getfixturevalue("no_decoding")
    _, second, _ = setup.load()
    assert isinstance(second, np.memmap) and not second.flags.writeable
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        second[0] = 0


def test_a_changed_source_is_decoded_again(setup):
    setup.load()
    Image.new("RGB", (32, 32), "red").save(setup.path("b.png"))
    _, images, _ = setup.load()
    assert (images[2] == (255, 0, 0)).all()


def test_a_source_of_the_same_size_and_another_time_is_decoded_again(setup):
    for nanoseconds, red in ((10**9, 10), (10**9 + 10**6, 20)):  # within a second
        Image.new("RGB", (32, 32), (red, 0, 0)).save(setup.path("b.png"), compress_level=0)
        os.utime(setup.path("b.png"), ns=(nanoseconds, nanoseconds))
        assert setup.load()[1][2, 0, 0, 0] == red


def test_a_link_that_loops_hides_no_other_files_change(setup):
    setup.path(".loop").symlink_to(".loop")
    before = image_cache.cache_key(setup.domain, setup.config)
    os.utime(setup.path("b.png"), (1, 1))
    assert image_cache.cache_key(setup.domain, setup.config) != before
    setup.path("c.png").unlink()
    setup.path("c.png").symlink_to("c.png")
    domain, _, bad = setup.load(on_bad_image="skip")
    assert len(domain.paths) == 3 and [path for path, _ in bad] == [str(setup.path("c.png"))]


def test_boxes_paddings_and_sizes_have_caches_of_their_own(setup):
    keys = [image_cache.cache_key(setup.domain, setup.config)]
    boxes = setup.domain.boxes.copy()
    boxes[0, 0] += 1
    changes = (
        {"boxes": boxes},
        {"crop_paddings": (0.3,)},
        {"image_domains": 1 - setup.domain.image_domains},
        {"paths": setup.domain.paths[::-1]},
    )
    for change in changes:
        keys.append(image_cache.cache_key(dataclasses.replace(setup.domain, **change), setup.config))
    keys.append(image_cache.cache_key(setup.domain, dataclasses.replace(setup.config, image_size=64)))
    assert len(set(keys)) == 2 + len(changes)
    other = dataclasses.replace(setup.config, seed=5, batch_size=7)
    assert image_cache.cache_key(setup.domain, other) == keys[0]


def test_another_version_of_the_preprocessing_or_of_the_files_has_a_cache_of_its_own(setup, monkeypatch):
    keys = [image_cache.cache_key(setup.domain, setup.config)]
    for module, name in ((preprocess, "VERSION"), (image_cache, "FORMAT")):
        monkeypatch.setattr(module, name, getattr(module, name) + 1)
        keys.append(image_cache.cache_key(setup.domain, setup.config))
    assert len(set(keys)) == 3


def test_verification_sees_what_size_and_time_hide(setup):
    path = setup.path("b.png")
    Image.new("RGB", (32, 32), (10, 0, 0)).save(path, compress_level=0)
    stat = os.stat(path)
    for verify in (False, True):
        setup.load(verify_cache=verify)
    Image.new("RGB", (32, 32), (20, 0, 0)).save(path, compress_level=0)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_size == stat.st_size
    assert setup.load()[1][2, 0, 0, 0] == 10
    assert setup.load(verify_cache=True)[1][2, 0, 0, 0] == 20


@pytest.mark.parametrize("damage", ["old format", "no keys", "no json", "empty json", "a list", "cut short", "empty"])
def test_caches_of_other_versions_and_damaged_ones_are_made_anew(setup, damage):
    expected = np.array(setup.load()[1])
    (path,), (meta_path,) = setup.cache.glob("*.npy"), setup.cache.glob("*.json")
    meta = json.loads(meta_path.read_text())
    texts = {"old format": json.dumps({**meta, "format": 0}), "no keys": "{}", "empty json": "", "a list": "[1, 2]"}
    if damage in texts:
        np.save(path, np.zeros_like(expected))
        meta_path.write_text(texts[damage])
    elif damage == "no json":
        np.save(path, np.zeros_like(expected))
        meta_path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 3000 if damage == "cut short" else 0])
    np.testing.assert_array_equal(setup.load()[1], expected)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_start_leaves_nothing(setup, monkeypatch, error):
    def stop(domain, config, images, contents):
        images[0] = 1
        raise error

    monkeypatch.setattr(image_cache, "decode_images", stop)
    with pytest.raises(error):
        setup.load()
    assert os.listdir(setup.cache) == []


def test_what_killed_runs_left_is_removed(setup):
    setup.cache.mkdir()
    ours = f"mine-64-{'0a' * 10}.npy"
    old, meta, fresh, others = (
        setup.cache / name
        for name in (f"{ours}.abc.partial", f"{ours}.abc.partial.json", f"{ours}.def.partial", "iso.partial")
    )
    for path in (old, meta, fresh, others):
        path.write_bytes(b"half")
    for path in (old, meta, others):
        os.utime(path, (time.time() - 3 * 24 * 3600,) * 2)
    setup.load()
    assert not old.exists() and not meta.exists() and fresh.exists() and others.exists()
    (made,) = setup.cache.glob("*.npy")
    assert made.stat().st_mode & 0o777 == 0o644  # others who share the folder read it
    assert cache_folder._ABANDONED.search(os.path.basename(image_cache._partial_file(str(made))))


_RUN = """
import hashlib, os, sys, time
from galm_tf import image_cache
from galm_tf.config import Config
from galm_tf.domains import copies, load_domains
data, cache, mark, other = sys.argv[1:]
decode = image_cache.decode_images
def decode_when_both_do(*arguments):
    open(mark, "w").close()
    while not os.path.exists(other):
        time.sleep(0.01)
    return decode(*arguments)
image_cache.decode_images = decode_when_both_do
config = Config(domain=("mine",), data_dir=(data,), layout=("table",), cache_dir=cache, image_size=32)
print(hashlib.sha256(image_cache.load_images(load_domains(config), config)[1].tobytes()).hexdigest())
"""


def test_two_runs_at_once_share_one_whole_file(setup, tmp_path, request):
    marks = [str(tmp_path / "one"), str(tmp_path / "two")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _RUN, str(setup.data), str(setup.cache), mark, other],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for mark, other in (marks, marks[::-1])
    ]  # fmt: skip
    hashes = [run.communicate(timeout=120)[0].strip() for run in runs]
    assert [run.returncode for run in runs] == [0, 0] and len(hashes[0]) == 64 and hashes[0] == hashes[1]
    assert sorted(p.suffix for p in setup.cache.iterdir()) == [".json", ".npy"]
    request.getfixturevalue("no_decoding")
    _, images, _ = setup.load()
    np.testing.assert_array_equal(images[3], by_hand(setup, 3))


def test_the_first_to_finish_is_used_by_both(setup, monkeypatch):
    decode, meanwhile = image_cache.decode_images, []

    def decode_while_another_finishes(*arguments):
        if not meanwhile:
            meanwhile.append("begun")
            meanwhile.append(setup.load()[1])
        return decode(*arguments)

    monkeypatch.setattr(image_cache, "decode_images", decode_while_another_finishes)
    _, images, _ = setup.load()
    assert images.filename == meanwhile[1].filename
    (path,) = setup.cache.glob("*.npy")
    np.testing.assert_array_equal(images, meanwhile[1])
    assert len(list(setup.cache.iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_a_warning_only(setup, caplog):
    expected = np.array(setup.load()[1])
    shutil.rmtree(setup.cache)
    setup.cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        _, images, _ = setup.load()
    np.testing.assert_array_equal(images, expected)
    assert not images.flags.writeable
    (message,) = [r.getMessage() for r in caplog.records]
    assert str(setup.cache) in message and "--cache_dir" in message and "cannot be written" in message


def test_a_folder_that_is_removed_while_images_are_decoded_costs_nothing(setup, monkeypatch):
    setup.path("b.png").write_bytes(b"")
    decode = image_cache.decode_images

    def decode_and_remove(*arguments):
        bad = decode(*arguments)
        shutil.rmtree(setup.cache)
        return bad

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, "decode_images", decode_and_remove)
        domain, images, bad = setup.load(on_bad_image="skip")
    assert not setup.cache.exists() and not images.flags.writeable and len(bad) == 1
    again, expected, _ = setup.load(on_bad_image="skip")
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(domain.contents, again.contents)


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_folder_that_is_removed_while_files_get_their_names_is_one_sentence(setup, monkeypatch, moment):
    published = []

    def publish(*arguments):
        if len(published) == moment:
            shutil.rmtree(setup.cache)
        cache_folder.publish(*arguments)
        published.append(arguments)
        if len(published) == moment == 2:
            shutil.rmtree(setup.cache)

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, "publish", publish)
        with pytest.raises(
            UserError, match="^Expected the cache folder .*/cache to .* removed just now; give the .* again[.]$"
        ):
            setup.load()
    assert setup.load()[1].shape == (4, 32, 32, 3)


@pytest.mark.parametrize("fallocate", [True, False])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(setup, monkeypatch, fallocate):
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))  # 12 KiB are needed
    try:
        with pytest.raises(UserError, match=r"Received: File too large in .*; free some space .* --cache_dir") as error:
            setup.load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(error.value) and os.listdir(setup.cache) == []
    assert setup.load()[1].shape == (4, 32, 32, 3)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_the_room_is_taken_before_anything_is_decoded(setup, monkeypatch, request):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    request.getfixturevalue("no_decoding")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="Expected to write .* MiB .* Received: No space left on device"):
        setup.load()
    assert os.listdir(setup.cache) == []


def test_bad_images_fail_by_name_or_are_left_out(setup, monkeypatch):
    monkeypatch.setattr(image_cache, "_CHUNK", 2)
    expected = np.array(setup.load()[1])
    whole = setup.path("b.png").read_bytes()
    setup.path("b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(preprocess.BadImageError, match=r"Received: .*b\.png \(.*on_bad_image=skip"):
        setup.load()
    decode, decoded = image_cache.decode_images, []
    monkeypatch.setattr(
        image_cache, "decode_images", lambda domain, *more: decoded.append(len(domain.paths)) or decode(domain, *more)
    )
    for _ in range(2):
        domain, images, bad = setup.load(on_bad_image="skip")
        np.testing.assert_array_equal(images, expected[[0, 1, 3]])
        assert [os.path.basename(p) for p in domain.paths] == ["a.png", "a.png", "c.png"]
        np.testing.assert_array_equal(domain.labels, setup.domain.labels[[0, 1, 3]])
        assert isinstance(images, np.memmap) and not images.flags.writeable
        ((path, reason),) = bad
        assert path.endswith("b.png") and "b.png" in reason
    with pytest.raises(preprocess.BadImageError, match=r"b\.png"):
        setup.load()  # the cache of a run that skipped does not hide it
    assert decoded == [4, 1, 1]  # of the cached ones only the bad one is tried again


def test_an_image_that_could_not_be_read_for_a_while_comes_back(setup, monkeypatch):
    """A missing permission or codec leaves size and time of a file as they were."""
    expected = np.array(setup.load(cache_dir=str(setup.cache) + "2")[1])
    decode = image_cache.decode_images

    def unreadable(domain, *more):
        decode(domain, *more)
        return {str(i): "b.png: Permission denied" for i, path in enumerate(domain.paths) if path.endswith("b.png")}

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, "decode_images", unreadable)
        assert len(setup.load(on_bad_image="skip")[2]) == 1
    for _ in range(2):
        domain, images, bad = setup.load()
        np.testing.assert_array_equal(images, expected)
        assert not bad and len(domain.paths) == 4


def test_records_know_the_content_of_their_files(setup):
    """Of bytes alone: neither names nor folders count, and what is left out has none."""
    domain, _, _ = setup.load()
    paths = np.array(domain.paths)
    for path in paths:
        assert len(set(domain.contents[paths == path])) == 1  # boxes of one photograph
    assert len(set(domain.contents)) == len(set(paths)) > 1 and domain.contents.dtype == np.uint64
    again, _, _ = setup.load()  # from the cache
    np.testing.assert_array_equal(again.contents, domain.contents)
    copied = setup.data.parent / "copy.xyz"
    copied.write_bytes(setup.path("b.png").read_bytes())
    assert copies.content_number(str(copied)) in domain.contents
    setup.path("b.png").write_bytes(b"")
    fewer, images, _ = setup.load(on_bad_image="skip")
    np.testing.assert_array_equal(fewer.contents, domain.contents[paths != str(setup.path("b.png"))])
    assert len(images) == len(fewer.contents) == len(fewer.paths)


@pytest.mark.parametrize("verify", [False, True])
def test_images_gone_since_they_were_listed_are_bad_ones(setup, verify):
    setup.path("a.png").unlink()
    with pytest.raises(preprocess.BadImageError, match=r"a\.png, which does not exist"):
        setup.load(verify_cache=verify)
    domain, images, bad = setup.load(verify_cache=verify, on_bad_image="skip")
    assert len(domain.paths) == len(images) == 2 and [os.path.basename(p) for p, _ in bad] == ["a.png", "a.png"]


def test_some_unreadable_images_are_named_and_all_are_counted(setup, monkeypatch, caplog):
    for name in ("a.png", "c.png"):
        setup.path(name).write_bytes(b"")
    a, c = str(setup.path("a.png")), str(setup.path("c.png"))
    for named, told in ((10, f"{a} and {c}"), (1, f"{a} and 1 more")):
        monkeypatch.setattr(image_cache, "_NAMED", named)
        caplog.clear()
        setup.load(on_bad_image="skip")
        first = f"Expected a readable image. Received: {a} (the file is empty); replace it."
        assert [r.getMessage() for r in caplog.records] == [
            f"3 of 4 images cannot be used and are left out: {told}. The first: {first}"
        ]
    with pytest.raises(
        preprocess.BadImageError,
        match=r"a\.png .the file is empty.; replace it. 2 images cannot be read; --on_bad_image=skip leaves",
    ):
        setup.load()  # the cache knows them all
    for settled in ({"resume": True}, {"add_attribute": "new.csv"}):
        with pytest.raises(preprocess.BadImageError, match="replace it. 2 images cannot be read[.]$"):
            setup.load(**settled)
    shutil.rmtree(setup.cache)
    with pytest.raises(preprocess.BadImageError, match="the file is empty.; replace it[.]$"):
        setup.load(resume=True)


def test_a_domain_without_readable_images(setup):
    for name in ("a.png", "b.png", "c.png"):
        setup.path(name).write_bytes(b"")
    with pytest.raises(
        UserError,
        match=r"at least one readable image in mine. Received: 4, none readable; the first: .*a\.png \(the file is empty\)",
    ):
        setup.load(on_bad_image="skip")


def test_generated_pictures_are_drawn_once_until_the_drawing_changes(tmp_path, monkeypatch):
    config = Config(domain=("sun",), cache_dir=str(tmp_path), image_size=32)
    domain = load_domains(config).select_images(np.arange(0, 60, 7))
    _, images, _ = load_images(domain, config)
    for row in (0, 5, 8):
        np.testing.assert_array_equal(images[row], domain.draw(row, 32))

    def undrawn(*_):
        raise AssertionError("drawn again")

    stale = dataclasses.replace(domain, draw=undrawn)
    np.testing.assert_array_equal(load_images(stale, config)[1], images)
    monkeypatch.setattr(image_cache, "_drawing_source", lambda: b"other strokes")
    with pytest.raises(AssertionError, match="drawn again"):
        load_images(stale, config)


def test_all_that_draws_the_generated_domains_is_of_the_key():
    files, source = set(), image_cache._drawing_source().decode()
    sys.setprofile(lambda frame, *_: files.add(frame.f_code.co_filename))
    try:
        for name, picture in pictures.PICTURES.items():
            generated.draw_picture(name, np.ones(len(picture.attributes), bool), 32, np.random.default_rng(0))
    finally:
        sys.setprofile(None)
    drawing = {path for path in map(pathlib.Path, files) if path.parent.name == "domains"}
    assert {path.name for path in drawing} >= {"drawing.py", "animals.py", "objects.py", "scenes.py"}
    for path in drawing:
        assert path.read_text(encoding="utf-8") in source, path
