"""From the settings to one `Domain`: which layout, which split, which domains together."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os

import numpy as np
import scipy.io

from galm_tf.config import Config
from galm_tf.domains import apay, awa, build, files, generated, sun, table
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, Domain
from galm_tf.domains.join import join_domains
from galm_tf.errors import UserError

LAYOUTS = {"awa": awa, "apay": apay, "sun": sun, "table": table}
_MARKS = "predicate-matrix-binary.txt (awa), attribute_data/ (apay), SUNAttributeDB/ (sun), attributes.csv (table)"


def load_domains(config: Config) -> Domain:
    """All domains of the settings as one; raises UserError for what does not fit."""
    domains = []
    for i, name in enumerate(config.domain):
        domain = _load_folder(i, name, config) if config.data_dir else _load_generated(name)
        domains.append(_resplit(domain, config))
    joined = join_domains(domains)
    for note in joined.notes:
        logging.warning("%s", note)
    return joined


def _load_generated(name: str) -> Domain:
    if name not in generated.GENERATED_NAMES:
        near = difflib.get_close_matches(name, generated.GENERATED_NAMES, 3, 0.0)
        raise UserError(
            f"Expected --domain to be one of {', '.join(generated.GENERATED_NAMES)}, or --data_dir beside it. "
            f"Received: domain={name}; nearest: {', '.join(near)}."
        )
    return generated.load_generated(name)


def _load_folder(i: int, name: str, config: Config) -> Domain:
    folder = os.path.abspath(os.path.expanduser(config.data_dir[i]))
    if not os.path.isdir(folder):
        raise UserError(f"Expected a folder for --domain={name}. Received: data_dir={config.data_dir[i]}, which is none.")
    layout, folder = _find_layout(folder, config.layout[i] if config.layout else "")
    return LAYOUTS[layout].load(name, folder, config)


def _find_layout(folder: str, asked: str) -> tuple[str, str]:
    """(layout, the folder that has it): the folder itself or one below it."""
    if asked and asked not in LAYOUTS:
        raise UserError(f"Expected --layout to be one of {', '.join(LAYOUTS)}. Received: layout={asked}.")
    below = sorted(e.path for e in os.scandir(folder) if e.is_dir())
    wanted = [asked] if asked else list(LAYOUTS)
    for place in [folder, *below]:
        for layout in wanted:
            if LAYOUTS[layout].recognises(place):
                return layout, place
    what = f"the {asked} layout" if asked else "a known layout"
    there = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
    raise UserError(f"Expected {what} in {folder}: one of {_MARKS}. Received: {there}; name another folder by --data_dir.")


def _resplit(domain: Domain, config: Config) -> Domain:
    """The domain with the split that the settings ask for in place of its own."""
    if config.splits_file:
        subsets = _splits_file_subsets(domain, config.splits_file)
    elif config.split_seed >= 0:
        subsets = _seeded_subsets(domain, config.split_seed)
    else:
        return domain
    shared = np.intersect1d(domain.class_ids[subsets == TRAIN], domain.class_ids[subsets == TEST])
    return dataclasses.replace(domain, subsets=subsets, class_disjoint=not len(shared))


def _seeded_subsets(domain: Domain, seed: int) -> np.ndarray:
    """Another class-disjoint split with the same share of test classes; unused records stay out."""
    fraction = build.test_class_fraction(domain) if domain.class_disjoint else 0.25
    subsets = build.random_class_subsets(domain.class_ids, fraction, seed)
    return np.where(domain.subsets == UNUSED, UNUSED, subsets)


def _splits_file_subsets(domain: Domain, path: str) -> np.ndarray:
    """The split of an xlsa17 `att_splits.mat`, whose image numbers refer to `res101.mat` beside it."""
    if not os.path.isfile(path):
        raise UserError(f"Expected an att_splits.mat. Received: splits_file={path}, which is no file.")
    splits = _loadmat(path, ("trainval_loc", "test_unseen_loc"))
    listing = _loadmat(files.require(os.path.dirname(os.path.abspath(path)), "res101.mat"), ("image_files",))
    names = [_tail(str(cell.ravel()[0] if cell.dtype == object else cell.item())) for cell in listing["image_files"].ravel()]
    part = {}
    for key, subset in (("trainval_loc", TRAIN), ("test_unseen_loc", TEST)):
        for number in splits[key].ravel():
            part[names[int(number) - 1]] = subset
    subsets = np.array([part.get(_tail(p), UNUSED) for p in domain.paths])
    if not (subsets == TRAIN).any() or not (subsets == TEST).any():
        raise UserError(
            f"Expected {path} to list images of {domain.name}. Received: {len(part)} images, of which "
            f"{int((subsets != UNUSED).sum())} are in the data folder; is it of another data set?"
        )
    return subsets


def _tail(path: str) -> str:
    """Folder and file name, which identify an image in every release."""
    return "/".join(path.replace("\\", "/").split("/")[-2:]).lower()


def _loadmat(path: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise UserError(f"Expected a MATLAB file. Received: {path} ({error}); download it anew.") from error
    for key in keys:
        if key not in content:
            raise UserError(f"Expected the variable {key} in {path}. Received: {sorted(content)}; download it anew.")
    return content
