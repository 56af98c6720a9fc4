"""What a pretrained trunk makes of images is kept from run to run, and nothing depends on it."""

import dataclasses
import os

import numpy as np
import pytest
from small_domains import few_images

from galm_tf import map_cache
from galm_tf.config import Config
from galm_tf.domains import load_domains

KIND = ["as they are"]


@pytest.fixture(scope="module")
def domain():
    with few_images(4):
        return load_domains(Config(domain=("sun",)))


class Counted:
    """Rows whose values tell their record, made three at a time; counts them."""

    def __init__(self, fail_at=None):
        self.made, self.fail_at = [], fail_at

    def __call__(self, index):
        for start in range(0, len(index), 3):
            part = index[start : start + 3]
            if self.fail_at in part:
                raise KeyboardInterrupt
            self.made.extend(part)
            yield part, [part[:, None, None] + np.zeros([1, 2, 5], np.float32), np.float32([10, 20]) * part[:, None]]


def _cache(domain, folder, trunk="t", **settings):
    return map_cache.MapCache(Config(cache_dir=str(folder), **settings), domain, trunk)


def _read(cache, index, make, kind=KIND):
    """Rows by record."""
    rows = {}
    for records, arrays in cache.rows(kind, np.array(index), make):
        rows.update({int(r): [a[i] for a in arrays] for i, r in enumerate(records)})
    assert sorted(rows) == sorted(index)
    for record, (first, second) in rows.items():
        assert first.shape == (2, 5) and (first == record).all() and second.tolist() == [10 * record, 20 * record]
    return rows


@pytest.mark.parametrize("at_once", [2, 256])
def test_what_was_made_is_read_and_the_rest_is_made(domain, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(map_cache, "_BATCH", at_once)
    make = Counted()
    _read(_cache(domain, tmp_path), [5, 2, 9, 7], make)
    assert make.made == [5, 2, 9, 7]
    _read(_cache(domain, tmp_path), [9, 2], make := Counted())
    assert make.made == []
    _read(_cache(domain, tmp_path), [1, 9, 2, 3], make := Counted())
    assert make.made == [1, 3]
    _read(_cache(domain, tmp_path), [1, 2, 3, 5, 7, 9], make := Counted())
    assert make.made == []
    assert [name.split("-")[1] for name in os.listdir(tmp_path)] == ["maps"]


def test_other_trunks_images_kinds_and_formats_have_files_of_their_own(domain, tmp_path, monkeypatch):
    _read(_cache(domain, tmp_path), [0, 1], Counted())
    moved = dataclasses.replace(domain, boxes=domain.boxes + 1)
    for cache, kind in (
        (_cache(domain, tmp_path, "u"), KIND),
        (_cache(moved, tmp_path), KIND),
        (_cache(domain, tmp_path, image_size=32), KIND),
        (_cache(domain, tmp_path), ["changed", 1]),
        (_cache(domain, tmp_path), ["changed", 1, "by another seed"]),
    ):
        _read(cache, [0, 1], make := Counted(), kind)
        assert make.made == [0, 1]
    monkeypatch.setattr(map_cache, "_FORMAT", map_cache._FORMAT + 1)
    _read(_cache(domain, tmp_path), [0, 1], make := Counted())
    assert make.made == [0, 1] and len(os.listdir(tmp_path)) == 7


def test_an_interrupted_run_leaves_no_file(domain, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _read(_cache(domain, tmp_path), [0, 1, 2, 3, 4], Counted(fail_at=4))
    assert not os.listdir(tmp_path)


def test_a_file_that_grows_stays_until_the_new_one_is_whole(domain, tmp_path, monkeypatch):
    _read(_cache(domain, tmp_path), range(10), Counted())
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(map_cache, "_MOST_BYTES", 1.5 * file.stat().st_size)  # both together are more
    with pytest.raises(KeyboardInterrupt):
        _read(_cache(domain, tmp_path), range(14), Counted(fail_at=13))
    _read(_cache(domain, tmp_path), range(10), make := Counted())
    assert make.made == []


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x02\x00half", None])
def test_a_damaged_file_is_made_anew(domain, tmp_path, content):
    _read(_cache(domain, tmp_path), [0, 1, 2], Counted())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    _read(_cache(domain, tmp_path), [0, 2], make := Counted())
    assert make.made == [0, 2]
    _read(_cache(domain, tmp_path), [0, 2], make := Counted())
    assert make.made == []


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_lost(domain, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    _read(_cache(domain, tmp_path / "file" / "cache"), [0, 1, 2, 3], make := Counted())
    assert make.made == [0, 1, 2, 3]
    (warning,) = caplog.messages
    assert (
        warning.startswith("The maps of the pretrained trunk are not kept in the cache folder")
        and "computes them anew" in warning
    )


def test_files_used_least_recently_make_room(domain, tmp_path, monkeypatch, caplog):
    for number, trunk in enumerate("abc"):
        _read(_cache(domain, tmp_path, trunk), range(10), Counted())
        (newest,) = (p for p in tmp_path.iterdir() if p.stat().st_mtime > 10**9)
        os.utime(newest, (number, number))
    size = newest.stat().st_size
    other = tmp_path / f"sun-64-{'0a' * 10}.npy"  # of decoded images
    other.write_bytes(b"0" * size)
    shore = tmp_path / f"sea-maps-64-{'0b' * 10}.npy"  # of a domain called like maps
    shore.write_bytes(b"0" * size)
    shore.with_name(f"{shore.name}.json").write_text("{}")
    os.utime(shore, (0, 0))
    _read(_cache(domain, tmp_path, "a"), range(10), make := Counted())
    assert make.made == []  # now it was used last
    monkeypatch.setattr(map_cache, "_MOST_BYTES", 3 * size)
    _read(_cache(domain, tmp_path, "d"), range(10), Counted())
    for trunk, is_kept in (("b", False), ("c", True), ("a", True)):
        files = set(tmp_path.iterdir())
        monkeypatch.setattr(map_cache, "_MOST_BYTES", 10 * size)
        _read(_cache(domain, tmp_path, trunk), range(10), make := Counted())
        assert (not make.made) == is_kept
        for path in set(tmp_path.iterdir()) - files:
            path.unlink()
    assert other.exists() and shore.exists()
    monkeypatch.setattr(map_cache, "_MOST_BYTES", size // 2)
    _read(_cache(domain, tmp_path, "e"), range(10), make := Counted())
    assert len(make.made) == 10 and "GiB" in caplog.text and len(list(tmp_path.glob("*.partial"))) == 0
