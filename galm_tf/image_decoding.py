"""Decoding every image of a domain, in parallel, into one array at the search resolution.

It does not store anything: `image_cache` does.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import numpy as np

from galm_tf import preprocess
from galm_tf.config import Config
from galm_tf.domains.copies import content_number
from galm_tf.domains.domain import Domain
from galm_tf.hardware import decoders
from galm_tf.progress import Progress


def decode_images(domain: Domain, config: Config, images: np.ndarray, contents: np.ndarray) -> dict[str, str]:
    """Decodes, or draws, every record of a domain.

    Args:
      domain: n records.
      config: image_size S, and what to do about a bad image.
      images: uint8 [n, S, S, 3], filled; rows of unreadable images stay as they are.
      contents: uint64 [n], filled with `Domain.contents`.

    Returns:
      Record index, as text (JSON has no other keys) -> reason, of the unreadable ones.

    Raises:
      BadImageError: the first unreadable one, with --on_bad_image=fail.
    """
    bad: dict[str, str] = {}
    with (
        Progress(len(images), f"decoding {domain.name}", unit="image") as progress,
        ThreadPoolExecutor(decoders()) as pool,
    ):
        for rows, errors in pool.map(
            lambda rows: _decode_rows(domain, config, images, contents, rows), _file_groups(domain)
        ):
            bad.update(errors)
            progress.update(len(rows))
            if bad and config.on_bad_image == "fail":
                pool.shutdown(wait=False, cancel_futures=True)
                raise preprocess.first_of(bad.values(), settled=config.images_settled)
    return bad


def _file_groups(domain: Domain) -> Iterator[list[int]]:
    """Records by file, so that a photograph with several objects is decoded once."""
    groups: dict[str, list[int]] = {}
    for row, path in enumerate(domain.paths):
        groups.setdefault(path, []).append(row)
    return iter(groups.values())


def _decode_rows(
    domain: Domain, config: Config, images: np.ndarray, contents: np.ndarray, rows: list[int]
) -> tuple[list[int], dict[str, str]]:
    path = domain.paths[rows[0]]
    with contextlib.suppress(OSError):  # decoding will say so
        contents[rows] = content_number(path)
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
        images[row] = preprocess.resize_picture(part, config.image_size)
    return rows, errors
