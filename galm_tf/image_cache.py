"""Images decoded once: uint8 at the search resolution, in a memory-mapped file.

The key of a cache file is a hash of what it was made from (paths, sizes, times,
boxes, settings), so a changed source makes a new file, and two runs that need
the same one agree on its name. A file appears under its name only when whole.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, Optional

import numpy as np
import tensorflow as tf

from galm_tf import preprocess
from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError
from galm_tf.progress import Progress

FORMAT = 1


def load_images(domain: Domain, config: Config) -> tuple[Domain, np.ndarray, tuple[tuple[str, str], ...]]:
    """The domain's images at `config.image_size`.

    Returns:
      The domain without the records of unreadable images, uint8 [n, S, S, 3]
      (read-only), and (path, reason) of the images left out.

    Raises:
      BadImageError: an unreadable image with --on_bad_image=fail.
      UserError: the disk is full.
    """
    key = cache_key(domain, config)
    folder = os.path.expanduser(config.cache_dir)
    path = os.path.join(folder, f"{domain.name.replace(os.sep, '_')}-{config.image_size}-{key[:20]}.npy")
    stored = _open(path)
    if stored is None:
        stored = _build(domain, config, path)
    images, bad = stored
    if bad and config.on_bad_image == "fail":
        raise preprocess.BadImageError(next(iter(bad.values())))
    if not bad:
        return domain, images, ()
    keep = np.ones(len(domain.paths), bool)
    keep[[int(i) for i in bad]] = False
    if not keep.any():
        raise UserError(f"Expected at least one readable image in {domain.name}. Received: {len(bad)}, none readable.")
    logging.warning("%d of %d images cannot be read and are left out", len(bad), len(keep))
    return domain.select_images(keep), images[keep], tuple((domain.paths[int(i)], r) for i, r in bad.items())


def cache_key(domain: Domain, config: Config) -> str:
    """Hash of everything that the cached pixels depend on."""
    settings = [FORMAT, preprocess.VERSION, config.image_size, domain.crop_paddings]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update("\n".join(domain.paths).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(domain.boxes, np.int32).tobytes())
    if domain.draw is not None:
        digest.update(_drawing_source())
    files = [p for p in domain.paths if "://" not in p]
    digest.update(np.array(_stat_all(files), np.int64).tobytes())
    if config.verify_cache:
        for path in dict.fromkeys(files):
            with open(path, "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _drawing_source() -> bytes:
    """The code that draws the generated domains: its change makes their cache stale."""
    from galm_tf.domains import drawing, generated, pictures

    return "".join(inspect.getsource(module) for module in (drawing, generated, pictures)).encode()


def _stat_all(paths: list[str]) -> list[tuple[int, int]]:
    """(size, time in ns) of every file, one folder listing at a time."""
    listed: dict[str, dict[str, tuple[int, int]]] = {}
    result = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = {}
            if os.path.isdir(folder):
                with os.scandir(folder) as entries:
                    listed[folder] = {e.name: (e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file()}
        result.append(listed[folder].get(name, (-1, -1)))
    return result


def _open(path: str) -> Optional[tuple[np.ndarray, dict[str, str]]]:
    """The images and the bad ones of a finished cache file; None when there is none to use."""
    try:
        with open(path + ".json", encoding="utf-8") as file:
            meta = json.load(file)
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return (images, meta["bad"]) if list(images.shape) == meta["shape"] and meta["format"] == FORMAT else None


def _build(domain: Domain, config: Config, path: str) -> tuple[np.ndarray, dict[str, str]]:
    """Decodes everything into a new cache file, or into memory where none can be written."""
    shape = (len(domain.paths), config.image_size, config.image_size, 3)
    partial = _partial_file(path)
    if partial is None:
        images = np.zeros(shape, np.uint8)
        return images, _decode_all(domain, config, images)
    try:
        images = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        bad = _decode_all(domain, config, images)
        images.flush()
        del images
        with open(partial + ".json", "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "shape": shape, "bad": bad}, file)
        os.replace(partial, path)
        os.replace(partial + ".json", path + ".json")
    except OSError as error:
        raise UserError(
            f"Expected room for {np.prod(shape) / 2**20:.0f} MiB of decoded images in the cache folder. Received: "
            f"{error.strerror} in {os.path.dirname(path)}; free some space or name another folder by --cache_dir."
        ) from error
    finally:
        for leftover in (partial, partial + ".json"):
            if os.path.exists(leftover):
                os.remove(leftover)
    stored = _open(path)
    assert stored is not None, path
    return stored


def _partial_file(path: str) -> Optional[str]:
    """A temporary name beside `path`; None, with a warning, where nothing can be written."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".partial", dir=os.path.dirname(path))
    except OSError as error:
        logging.warning(
            "The cache folder %s cannot be written (%s): images are decoded into memory for this run only; "
            "name another folder by --cache_dir.",
            os.path.dirname(path), error.strerror,
        )
        return None
    os.close(handle)
    return name


def _decode_all(domain: Domain, config: Config, images: np.ndarray) -> dict[str, str]:
    """Fills `images` in parallel; returns record index -> reason of the unreadable ones."""
    workers = min(32, (os.cpu_count() or 1) + 1)
    bad: dict[str, str] = {}
    with Progress(len(images), f"decoding {domain.name}", unit="image") as progress, ThreadPoolExecutor(workers) as pool:
        for rows, errors in pool.map(lambda rows: _decode_rows(domain, config, images, rows), _file_groups(domain)):
            bad.update(errors)
            progress.update(len(rows))
            if bad and config.on_bad_image == "fail":
                pool.shutdown(wait=False, cancel_futures=True)
                raise preprocess.BadImageError(next(iter(bad.values())))
    return bad


def _file_groups(domain: Domain) -> Iterator[list[int]]:
    """Records by file, so that a photograph with several objects is decoded once."""
    groups: dict[str, list[int]] = {}
    for row, path in enumerate(domain.paths):
        groups.setdefault(path, []).append(row)
    return iter(groups.values())


def _decode_rows(domain: Domain, config: Config, images: np.ndarray, rows: list[int]) -> tuple[list[int], dict[str, str]]:
    path = domain.paths[rows[0]]
    if "://" in path:
        for row in rows:
            images[row] = domain.draw(row, config.image_size)
        return rows, {}
    errors = {}
    try:
        whole = preprocess.decode_image(path)
    except preprocess.BadImageError as error:
        return rows, {str(row): str(error) for row in rows}
    for row in rows:
        try:
            padding = domain.crop_paddings[domain.image_domains[row]]
            part = preprocess.crop_box(whole, domain.boxes[row], padding, path)
        except preprocess.BadImageError as error:
            errors[str(row)] = str(error)
            continue
        same = part.shape[:2] == (config.image_size, config.image_size)
        images[row] = part if same else preprocess.resize_images(tf.constant(part), config.image_size).numpy()
    return rows, errors
