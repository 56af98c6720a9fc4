"""Images decoded once: uint8 at the search resolution, in a memory-mapped file.

The key of a cache file is a hash of what it was made from (paths, sizes, times,
boxes, settings), so a changed source makes a new file, and two runs that need
the same one agree on its name. A file appears under its name only when whole;
when two runs make the same one, the first to finish is used by both. Where the
cache folder cannot be written, images are kept in memory, with a warning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import logging
import os
from typing import Mapping, NamedTuple, Optional

import numpy as np

from galm_tf import preprocess
from galm_tf.cache_folder import cache_path, partial_file, publish
from galm_tf.config import Config
from galm_tf.domains import animals, drawing, generated, objects, pictures, scenes
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError
from galm_tf.image_decoding import decode_images
from galm_tf.words import listed

FORMAT = 2  # of the files; those of another format are made anew
_CHUNK = 256  # records moved at once
_NAMED = 10  # images that cannot be used, in a warning


class _Decoded(NamedTuple):
    """The readable images, record index -> reason of the others, and `Domain.contents` of the former."""

    images: np.ndarray
    bad: dict[str, str]
    contents: np.ndarray


def load_images(domain: Domain, config: Config) -> tuple[Domain, np.ndarray, tuple[tuple[str, str], ...]]:
    """The domain's images at `config.image_size`.

    Returns:
      The domain without the records of unreadable images, with `contents`;
      uint8 [n, S, S, 3], read-only, mapped from the cache; (path, reason) of
      the records left out.

    Raises:
      BadImageError: an unreadable image with --on_bad_image=fail.
      UserError: the disk is full.
    """
    key = cache_key(domain, config)
    path = cache_path(config.cache_dir, domain.name, config.image_size, key)
    stored = _open(path)
    if stored is not None and _any_repaired(domain, config, stored.bad):
        with contextlib.suppress(OSError):
            os.remove(path + ".json")
        stored = None
    images, bad, contents = stored or _build(domain, config, path)
    if bad and config.on_bad_image == "fail":
        raise preprocess.first_of(bad.values(), len(_paths(domain, bad)), config.images_settled)
    if not bad:
        return dataclasses.replace(domain, contents=contents), images, ()
    keep = np.ones(len(domain.paths), bool)
    keep[[int(i) for i in bad]] = False
    if not keep.any():
        raise UserError(
            f"Expected at least one readable image in {domain.name}. Received: {len(bad)}, none readable; the first: "
            f"{next(iter(bad.values()))}"
        )
    logging.warning(
        "%d of %d images cannot be used and are left out: %s. The first: %s",
        len(bad),
        len(keep),
        listed(_paths(domain, bad), _NAMED),
        next(iter(bad.values())),
    )
    left_out = tuple((domain.paths[int(i)], reason) for i, reason in bad.items())
    return dataclasses.replace(domain.select_images(keep), contents=contents), images, left_out


def _paths(domain: Domain, bad: Mapping[str, str]) -> list[str]:
    """The files of unreadable records, each once."""
    return list(dict.fromkeys(domain.paths[int(i)] for i in bad))


def _any_repaired(domain: Domain, config: Config, bad: Mapping[str, str]) -> bool:
    """Whether a record that could not be read when the cache was made can be now, though its file is of the same size
    and time.
    """
    if not bad:
        return False
    some = domain.select_images(np.array([int(i) for i in bad]))
    config = dataclasses.replace(config, on_bad_image="skip")
    images = np.zeros((len(bad), config.image_size, config.image_size, 3), np.uint8)
    return len(decode_images(some, config, images, np.zeros(len(bad), np.uint64))) < len(bad)


def cache_key(domain: Domain, config: Config) -> str:
    """Hash of everything that the cached pixels depend on."""
    settings = [FORMAT, preprocess.VERSION, config.image_size, domain.crop_paddings]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update("\n".join(domain.paths).encode("utf-8", "surrogateescape"))
    for array in (domain.boxes, domain.image_domains):
        digest.update(np.ascontiguousarray(array, np.int32).tobytes())
    if domain.draw is not None:
        digest.update(_drawing_source())
    files = [p for p in domain.paths if "://" not in p]
    digest.update(np.array(_stat_all(files), np.int64).tobytes())
    if config.verify_cache:
        for path in dict.fromkeys(files):
            digest.update(_content_digest(path))
    return digest.hexdigest()


def _content_digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:  # decoding will say so
        return bytes(hashlib.sha256().digest_size)


def _drawing_source() -> bytes:
    """The code that draws the generated domains: its change makes their cache stale."""
    modules = (drawing, animals, objects, scenes, pictures, generated)
    return "".join(inspect.getsource(module) for module in modules).encode()


def _stat_all(paths: list[str]) -> list[tuple[int, int]]:
    """(size, time in ns) of every file; (-1, -1) of one that cannot be asked, which decoding will name."""
    stats = {path: (-1, -1) for path in paths}
    for path in stats:
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            stats[path] = (stat.st_size, stat.st_mtime_ns)
    return [stats[path] for path in paths]


def _open(path: str) -> Optional[_Decoded]:
    """What a finished cache file holds; None when there is none to use."""
    try:
        with open(path + ".json", encoding="utf-8") as file:
            meta = json.load(file)
        images = np.load(path, mmap_mode="r")
        if meta["format"] != FORMAT or list(images.shape) != meta["shape"] or images.dtype != np.uint8:
            return None
        contents = np.array(meta["contents"], np.uint64)
        return _Decoded(images[: len(contents)], meta["bad"], contents)
    except (OSError, EOFError, ValueError, LookupError, TypeError):  # absent, cut short, or of another version
        return None


def _build(domain: Domain, config: Config, path: str) -> _Decoded:
    """Decodes everything into a new cache file, or into memory where none can be written."""
    shape = (len(domain.paths), config.image_size, config.image_size, 3)
    partial = _partial_file(path)
    if partial is None:
        images = np.zeros(shape, np.uint8)
        return _unstored(images, *_fill(domain, config, images))
    try:
        images = _map_new(partial, shape)
        bad, contents = _fill(domain, config, images)
        if not os.path.exists(partial):  # the folder was removed meanwhile; what is mapped stays
            return _unstored(images, bad, contents)
        del images  # Windows renames no file that is mapped
        with open(partial + ".json", "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "shape": shape, "bad": bad, "contents": contents.tolist()}, file)
        return _publish(partial, path)
    except FileNotFoundError as error:
        raise UserError(
            f"Expected the cache folder {os.path.dirname(path)} to stay for a moment. Received: none, it was removed just now; give the "
            "command again."
        ) from error
    except OSError as error:
        raise UserError(
            f"Expected to write {np.prod(shape) / 2**20:.0f} MiB of decoded images to the cache folder. Received: "
            f"{error.strerror} in {os.path.dirname(path)}; free some space or name another folder by --cache_dir."
        ) from error
    finally:
        for leftover in (partial, partial + ".json"):
            with contextlib.suppress(OSError):
                os.remove(leftover)


def _unstored(images: np.ndarray, bad: dict[str, str], contents: np.ndarray) -> _Decoded:
    """What no file under the cache's name holds, to be read alone."""
    images.flags.writeable = False
    return _Decoded(images[: len(contents)], bad, contents)


def _map_new(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """A new mapped file with all of its room taken: writing to a mapped hole on a full disk would kill the process."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        else:
            file.seek(images.offset)
            for _ in range(shape[0]):
                file.write(bytes(images[0].nbytes))
    return images


def _fill(domain: Domain, config: Config, images: np.ndarray) -> tuple[dict[str, str], np.ndarray]:
    """Decodes into `images`, readable ones first; returns record index -> reason of the others, and the contents of the
    former.
    """
    contents = np.zeros(len(images), np.uint64)
    bad = decode_images(domain, config, images, contents)
    good = np.setdiff1d(np.arange(len(images)), [int(i) for i in bad])
    for start in range(0, len(good) if bad else 0, _CHUNK):
        rows = good[start : start + _CHUNK]
        images[start : start + len(rows)] = images[rows]  # never past a row that is still to move
    if isinstance(images, np.memmap):
        images.flush()
    return bad, contents[good]


def _publish(partial: str, path: str) -> _Decoded:
    """Gives a finished file its name, unless another run has finished the same one meanwhile."""
    stored = _open(path)
    if stored is None:
        publish(partial, path)
        publish(partial + ".json", path + ".json")
        stored = _open(path)
    if stored is None:
        raise FileNotFoundError(path)
    return stored


def _partial_file(path: str) -> Optional[str]:
    """A temporary name beside `path`; None, with a warning, where nothing can be written."""
    try:
        return partial_file(path)
    except OSError as error:
        logging.warning(
            "The cache folder %s cannot be written (%s): images are decoded into memory for this run only; "
            "name another folder by --cache_dir.",
            os.path.dirname(path),
            error.strerror,
        )
        return None
