"""From the settings to one `Domain`: which layout, which split, which domains together."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from typing import Callable, Sequence

import numpy as np

from galm_tf import attribute_names
from galm_tf.config import Config
from galm_tf.domains import apay, awa, build, copies, files, generated, label_file, splits_file, sun, table
from galm_tf.domains.domain import TEST, TRAIN, UNUSED, Domain
from galm_tf.domains.join import join_domains
from galm_tf.errors import UserError
from galm_tf.paths import nearest
from galm_tf.words import listed

_LOGGER = logging.getLogger(__name__)
LAYOUTS = {"awa": awa, "apay": apay, "sun": sun, "table": table}
_TEST_FRACTION = 0.25  # of the classes by --split_seed, where the data set's own split is not by class
_MARKS = (
    "predicates.txt (awa), attribute_data/ (apay), SUNAttributeDB/ (sun), attributes.csv or attributes.parquet (table)"
)
_NAMED = 5  # classes in a note
_SHEETS = (".csv", ".tsv", ".xls", ".xlsx", ".ods", ".parquet")


def load_domains(config: Config, has_split: bool = False, untold: Callable[[str], bool] = lambda note: False) -> Domain:
    """All domains of the settings as one; raises UserError for what does not fit.

    has_split: whether a run has its split already, so that nobody is told to draw another.
    untold: which notes are nothing to the user.
    """
    _check(config)
    domains = []
    for i, name in enumerate(config.domain):
        domain = _load_folder(i, name, config) if config.data_dir else _load_generated(name)
        domains.append(_told_of_one_class(_resplit(domain, config), len(config.domain) > 1))
    if config.test_split == "apascal" and not any("apay" in d.layouts for d in domains):
        raise UserError(
            "Expected a domain in the apay layout with --test_split=apascal. Received: "
            + ", ".join(f"{d.name} ({d.layouts[0]})" for d in domains)
            + "; leave --test_split out."
        )
    joined = _without(_told_of_namesakes(_tested_apart(join_domains(domains))), config.leave_out)
    for path in config.label_files:
        joined = label_file.with_labels(joined, path, config.on_bad_image)
    if not config.soft_labels:
        joined = dataclasses.replace(joined, shares=None)
    for note in joined.notes:
        if not (untold(note) or has_split and note.startswith(build.NO_SPLIT)):
            _LOGGER.warning("%s", note)
    return joined


def _tested_apart(domain: Domain) -> Domain:
    """A joined domain in which no domain trains on photographs that another tests; within each its own split stands."""
    shared, photographs = np.zeros(len(domain.paths), bool), domain.photographs
    for number in range(len(domain.domain_names)):
        own = domain.image_domains == number
        shared |= own & np.isin(photographs, photographs[~own & (domain.subsets == TEST)])
    subsets = np.where(shared & (domain.subsets == TRAIN), UNUSED, domain.subsets)
    left_out = (subsets != domain.subsets).sum()
    if not left_out:
        return domain
    note = f"{left_out} of {(domain.subsets == TRAIN).sum()} training records show photographs that another domain tests and are unused."
    return dataclasses.replace(domain, subsets=subsets, notes=(*domain.notes, note))


def _told_of_namesakes(domain: Domain) -> Domain:
    """A joined domain with a note where one trains on classes that are called like those that another tests."""
    classed = build.with_classes(domain)
    tested, trained = (domain.class_names(np.flatnonzero(classed & (domain.subsets == part))) for part in (TEST, TRAIN))
    same = attribute_names.namesakes(tested, trained)
    if not same:
        return domain
    note = f"Another domain trains on classes that are called like tested ones ({listed(same, _NAMED)}): these are not new to the networks."
    return dataclasses.replace(domain, notes=(*domain.notes, note))


def _without(domain: Domain, left_out: Sequence[str]) -> Domain:
    """The domain without some of its attributes, each named in full or as it is called in its domain."""
    kept = np.ones(len(domain.attributes), bool)
    for name in left_out:
        found = attribute_names.places(name, domain.attributes)
        if not found:
            raise UserError(
                f"Expected attributes of the data in --leave_out. Received: leave_out={name}; "
                f"{attribute_names.repair(name, domain.attributes, 'leave_out')}"
            )
        kept[found] = False
    if not kept.any():
        raise UserError(
            f"Expected --leave_out to leave an attribute. Received: all {len(kept)} of {domain.name}; name fewer."
        )
    return domain.select_attributes(kept)


def _check(config: Config) -> None:
    if config.test_split == "apascal" and config.replaces_split:
        other = f"splits_file={config.splits_file}" if config.splits_file else f"split_seed={config.split_seed}"
        raise UserError(
            "Expected --test_split=apascal without another split. "
            f"Received: test_split=apascal and {other}; leave one out."
        )


def _load_generated(name: str) -> Domain:
    if name not in generated.GENERATED_NAMES:
        near = difflib.get_close_matches(name, generated.GENERATED_NAMES, 3, 0.0)
        raise UserError(
            f"Expected --domain to be one of {', '.join(generated.GENERATED_NAMES)}, or --data_dir beside it. "
            f"Received: domain={name}; nearest: {', '.join(near)}."
        )
    return generated.load_generated(name)


def expect_data(config: Config) -> None:
    """Raises UserError where no data are found in a folder of --data_dir, or --splits_file is no file. Quick: nothing
    is read.
    """
    for i, name in enumerate(config.domain if config.data_dir else ()):
        _find_folder(i, name, config)
    if config.splits_file:
        splits_file.expect_file(os.path.expanduser(config.splits_file))


def _load_folder(i: int, name: str, config: Config) -> Domain:
    """A domain that knows which of its files are the same, with a note where its own split, if that is to stand, tests
    copies of what trains.
    """
    layout, place = _find_folder(i, name, config)
    domain = LAYOUTS[layout].load(name, place, config)
    if layout == "table":  # which knows its copies, since its own split depends on them
        return domain
    domain = dataclasses.replace(domain, originals=copies.originals(domain.paths))
    return domain if config.replaces_split else _told_of_torn_copies(domain, domain.name)


def _told_of_torn_copies(domain: Domain, where: str) -> Domain:
    """A domain with a note where a split that was given has copies of a file on both sides; objects of one photograph
    may be.
    """
    copied = np.isin(domain.paths, [*domain.originals, *domain.originals.values()])
    notes = build.torn_photographs(domain.photographs, domain.subsets, where, copied)
    return dataclasses.replace(domain, notes=(*domain.notes, *notes))


def _find_folder(i: int, name: str, config: Config) -> tuple[str, str]:
    """(layout, folder) of a domain's data."""
    given = config.data_dir[i]
    folder = os.path.abspath(os.path.expanduser(given))
    if not os.path.isdir(folder) or not given:
        received = "(nothing); name one for every domain"
        if given:
            near = nearest(folder, os.path.isdir)
            what = (
                "a file; give the folder it lies in"
                if os.path.isfile(folder)
                else _parted(config.data_dir, i)
                or f"none; {f'nearest: {near}; ' if near else ''}check its path, and name the new one by --data_dir where the data have moved"
            )
            received = f"{given}, which is {what}"
        raise UserError(f"Expected a folder in --data_dir, with the data of {name}. Received: data_dir={received}.")
    layout, place = _find_layout(name, folder, config.layout[i] if config.layout else "")
    files.check_inside(place, folder)
    return layout, place


def _parted(given: Sequence[str], i: int) -> str:
    """What is wrong where a folder's name, of which number `i` is a part, was parted at its commas, in words; "" where
    it was not.
    """
    joined = (
        comma.join(given[start:end])
        for start in range(i + 1)
        for end in range(i + 1, len(given) + 1)
        for comma in (",", ", ")
    )
    whole = next((name for name in joined if os.path.isdir(os.path.expanduser(name))), "")
    return whole and f"a part of a name that has a comma; give {attribute_names.as_given('data_dir', whole)}"


def _find_layout(name: str, folder: str, asked: str) -> tuple[str, str]:
    """(layout, the folder that has it): the folder itself or one below it.

    Of several, the one whose layout is called like the domain counts.
    """
    if asked and asked not in LAYOUTS:
        near = difflib.get_close_matches(asked, LAYOUTS, 1, 0.0)
        raise UserError(
            f"Expected --layout to be one of {', '.join(LAYOUTS)}. Received: layout={asked}; nearest: {near[0]}."
        )
    wanted = [asked] if asked else list(LAYOUTS)
    for places in ([folder], files.subfolders(folder)):
        found = [(layout, place) for place in places for layout in wanted if LAYOUTS[layout].recognises(place)]
        named = [pair for pair in found if pair[0] == name]
        choice = found if len(found) == 1 else named
        if len(choice) == 1:
            return choice[0]
        if found:
            shown = ", ".join(f"{os.path.basename(place)} ({layout})" for layout, place in found)
            raise UserError(
                f"Expected one data set in {folder}. Received: {shown}; name one of them by --data_dir or --layout."
            )
    what = f"the {asked} layout" if asked else "a known layout"
    there = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
    repair = "name another folder by --data_dir"
    if asked in ("", "table") and any(
        name.lower() == "images" or name.lower().endswith(_SHEETS) for name in os.listdir(folder)
    ):
        repair = 'write attributes.csv there (README.md, "Your own images"; a spreadsheet saves as CSV in UTF-8), or name another folder by --data_dir'
    raise UserError(f"Expected {what} in {folder}: one of {_MARKS}. Received: {there}; {repair}.")


def _resplit(domain: Domain, config: Config) -> Domain:
    """The domain with the split that the settings ask for in place of its own."""
    notes = domain.notes
    if config.splits_file:
        subsets = splits_file.read_subsets(domain, os.path.expanduser(config.splits_file))
        unused = f"{(subsets == UNUSED).sum()} of {len(subsets)} images of {domain.name}"
        notes += (f"{unused} are in neither list of {config.splits_file}.",) if (subsets == UNUSED).any() else ()
    elif config.split_seed >= 0:
        subsets, more = build.photographs_apart(domain.photographs, _seeded_subsets(domain, config.split_seed))
        notes += tuple(more)
    else:
        return domain
    domain = dataclasses.replace(domain, subsets=subsets, notes=notes)
    return _told_of_torn_copies(domain, config.splits_file) if config.splits_file else domain


def _told_of_one_class(domain: Domain, named: bool) -> Domain:
    """The domain with a note where its test, whoever drew it, holds no class out; named: whether that says of which."""
    if build.has_classes(domain.class_ids):
        return domain
    note = f"{build.NO_CLASSES}{f' in {domain.name}' * named}, so that the test tells nothing of unseen ones."
    return dataclasses.replace(domain, notes=(*domain.notes, note))


def _seeded_subsets(domain: Domain, seed: int) -> np.ndarray:
    """Another class-disjoint split with the same share of test classes, or of photographs where there is one class;
    unused records stay out.
    """
    own = domain.class_disjoint or not build.has_classes(domain.class_ids)
    fraction = build.test_fraction(domain) if own else _TEST_FRACTION
    used = domain.subsets != UNUSED
    subsets = np.full(len(used), UNUSED)
    subsets[used] = build.random_subsets(domain.class_ids[used], domain.photographs[used], fraction, seed)
    return subsets
