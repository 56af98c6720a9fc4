"""What a data set holds and what can be concluded from it, before anything is trained.

Counts, split, prevalence of every attribute in every part, attributes that
cannot be learned, judged or tested, and why, and unreadable images. The
pictures of it are in `contact_sheet`.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from galm_tf.attribute_names import without_domain
from galm_tf.domains import build
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import MORE_JUDGED, Split, unlearnable_attributes
from galm_tf.evaluation import MIN_TOLD
from galm_tf.words import abridged, counted

_PARTS = {
    "train": "training",
    "validation_classes": "validation, held-out classes",
    "validation_images": "validation, held-out images",
    "test": "test",
    "unused": "unused",
}
_PREVALENCE_PARTS = ("train", "validation", "test")
_SHOWN_BAD_IMAGES, _SHOWN_CLASSES = 20, 60  # the JSON form lists all of them
_WIDTH = 110


@dataclasses.dataclass(frozen=True)
class Description:
    """One data set as it would be searched.

    Attributes:
      domain: with readable images only.
      split: of its records.
      parts: one row per part: records, files, classes.
      attributes: one row per attribute: `PART_positives`, `PART_known` and
        `PART_prevalence` (positives / known, NaN without known labels) for the parts
        train, validation and test, `judged_by`, `tested` (bool, by a run, which leaves out
        what it cannot learn), and `problem` (empty without one).
      unlearnable: attribute name -> why a run leaves it out.
      bad_images: (path, reason).
    """

    domain: Domain
    split: Split
    parts: pd.DataFrame
    attributes: pd.DataFrame
    unlearnable: dict[str, str]
    bad_images: tuple[tuple[str, str], ...]


def describe(domain: Domain, split: Split, bad_images: Sequence[tuple[str, str]] = ()) -> Description:
    """Counts everything; reads no file."""
    unlearnable = unlearnable_attributes(domain, split.train)
    table = _attribute_table(domain, split)
    table["judged_by"] = split.judged_by
    table["tested"] = np.asarray(split.testable, bool) & ~table.index.isin(list(unlearnable))
    table["problem"] = [_problem(name, unlearnable, split.reasons) for name in domain.attributes]
    return Description(domain, split, _part_table(domain, split), table, unlearnable, tuple(bad_images))


def _problem(name: str, unlearnable: dict[str, str], reasons: dict[str, str]) -> str:
    parts = [f"not learned: {unlearnable[name]}"] if name in unlearnable else []
    return "; ".join(parts + ([reasons[name]] if name in reasons else []))


def shown_name(domain: Domain, name: str) -> str:
    """A class or attribute for a person: without the domain's name where there is only one."""
    return name if len(domain.domain_names) > 1 else without_domain(name)


def shown_classes(domain: Domain) -> list[str]:
    """What each record is of, for a person, [n]: nothing in a domain without classes."""
    shown = [shown_name(domain, name) for name in domain.classes]
    classed = build.with_classes(domain)
    return [shown[c] if there else "" for c, there in zip(domain.class_ids, classed)]


def part_records(domain: Domain, split: Split) -> dict[str, np.ndarray]:
    """Record indices of every part, `unused` being what no part has: int64 [·] each, sorted."""
    parts = {name: getattr(split, name) for name in _PARTS if name != "unused"}
    return {**parts, "unused": np.setdiff1d(np.arange(len(domain.paths)), np.concatenate(list(parts.values())))}


def _of_classes(domain: Domain, index: np.ndarray) -> np.ndarray:
    """Ids of the classes of some records, of domains that have classes: int32, in the order of the records."""
    return np.array([*dict.fromkeys(domain.class_ids[index[build.with_classes(domain)[index]]].tolist())], np.int32)


def _part_table(domain: Domain, split: Split) -> pd.DataFrame:
    paths = np.array(domain.paths, object)
    rows = {
        name: {
            "records": len(index),
            "files": len(set(paths[index])),
            "classes": len(_of_classes(domain, index)),
        }
        for name, index in part_records(domain, split).items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _attribute_table(domain: Domain, split: Split) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for part in _PREVALENCE_PARTS:
        labels = pd.DataFrame(domain.labels[getattr(split, part)])
        columns[f"{part}_positives"] = (labels == 1).sum().to_numpy()
        columns[f"{part}_known"] = labels.notna().sum().to_numpy()
        columns[f"{part}_prevalence"] = labels.mean().to_numpy(np.float64)
    return pd.DataFrame(columns, index=pd.Index(domain.attributes, name="attribute"))


def headline(domain: Domain) -> str:
    """Size, layout and source in one line."""
    kinds = ", ".join(
        f"{name}: {layout} layout, {source} data" if len(domain.domain_names) > 1 else f"{layout} layout, {source} data"
        for name, layout, source in zip(domain.domain_names, domain.layouts, domain.data_sources)
    )
    files = len(set(domain.paths))
    of_files = "" if files == len(domain.paths) else f" in {counted(files, 'file')}"
    classes = f"{len(_of_classes(domain, np.arange(len(domain.paths)))) or 'no'} classes"  # never one (`with_classes`)
    images, attributes = counted(len(domain.paths), "image"), counted(len(domain.attributes), "attribute")
    return f"{images}{of_files}, {classes}, {attributes} ({kinds})"


def to_json(description: Description) -> dict[str, Any]:
    """Everything as plain values; unknown prevalences are null."""
    domain, split = description.domain, description.split
    table = description.attributes.astype(object).where(description.attributes.notna(), None)
    return {
        "name": domain.name,
        "domains": list(domain.domain_names),
        "layouts": list(domain.layouts),
        "data_sources": list(domain.data_sources),
        "notes": list(domain.notes),
        "num_records": len(domain.paths),
        "num_files": len(set(domain.paths)),
        "num_classes": len(_of_classes(domain, np.arange(len(domain.paths)))),
        "num_attributes": len(domain.attributes),
        "class_disjoint": domain.class_disjoint,
        "parts": {k: {c: int(v) for c, v in row.items()} for k, row in description.parts.to_dict("index").items()},
        "held_out_classes": list(split.held_out_classes),
        "classes": _class_counts(domain, split),
        "attributes": table.to_dict("index"),
        "shares_of_votes": _graded(domain),
        "not_learned": description.unlearnable,
        "not_judged": [a for a, judge in zip(domain.attributes, split.judged_by) if judge == "none"],
        "not_tested": list(table.index[~description.attributes["tested"]]),
        "tested_on_few": _tested_on_few(description),
        "bad_images": [{"path": path, "reason": reason} for path, reason in description.bad_images],
    }


def _graded(domain: Domain) -> list[str]:
    """The attributes of which some known label is between yes and no."""
    between = ((domain.targets > 0) & (domain.targets < 1)).any(axis=0)
    return [name for name, of in zip(domain.attributes, between) if of]


def _tested_on_few(description: Description) -> list[str]:
    """The tested attributes of which the test shows fewer than `MIN_TOLD` images of one label."""
    table = description.attributes
    rarer = np.minimum(table["test_positives"], table["test_known"] - table["test_positives"])
    return list(table.index[table["tested"] & (rarer < MIN_TOLD)])


def _class_counts(domain: Domain, split: Split) -> dict[str, dict[str, int]]:
    """Class name -> records in each part where it has any; of domains that have classes."""
    counts: dict[str, dict[str, int]] = {}
    classed = build.with_classes(domain)
    for part, index in part_records(domain, split).items():
        for c, n in zip(*np.unique(domain.class_ids[index[classed[index]]], return_counts=True)):
            counts.setdefault(domain.classes[c], {})[part] = int(n)
    return counts


def to_text(description: Description) -> str:
    """The description for a person, about 110 characters wide."""
    domain, split = description.domain, description.split
    blocks = [f"{domain.name}: {headline(domain)}"]
    blocks += [_wrapped("Note: ", note) for note in domain.notes]
    graded = _graded(domain)
    if graded:
        told = f"{len(graded)} of {counted(len(domain.attributes), 'attribute')} {'has' if len(graded) == 1 else 'have'} more than yes and no; the share of votes is what is learned (--soft_labels)."
        blocks.append(_wrapped("Shares of votes: ", told))
    parts = description.parts[description.parts["records"] > 0]
    blocks += ["", parts.rename(_PARTS).to_string(), ""]
    blocks.append(_wrapped("Held-out classes: ", _class_names(domain, split.held_out_classes)))
    if build.with_classes(domain).any():
        tested = _of_classes(domain, split.test)
        blocks.append(_wrapped("Test classes: ", _class_names(domain, [domain.classes[c] for c in tested])))
        trained = np.isin(tested, domain.class_ids[split.trained])
        if trained.any():
            who = "All" if trained.all() else "Some"
            blocks.append(f"{who} test classes are also trained: the test figures are not those of unseen classes.")
    blocks += [
        "",
        "Prevalence of each attribute: share of its known labels that are positive",
        _prevalence_text(description),
        "",
    ]
    return "\n".join(blocks + _attribute_lines(description) + _bad_lines(description.bad_images))


def _names(domain: Domain, names: Iterable[str]) -> str:
    return ", ".join(shown_name(domain, n) for n in names) or "none"


def _class_names(domain: Domain, names: Sequence[str]) -> str:
    """The first of them where there are thousands: identities of faces, species."""
    text, more = _names(domain, names[:_SHOWN_CLASSES]), len(names) - _SHOWN_CLASSES
    return text + (f" and {more} more, all of them in description.json" if more > 0 else "")


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(label + text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _prevalence_text(description: Description) -> str:
    table = description.attributes
    shown = pd.DataFrame(index=[abridged(shown_name(description.domain, name)) for name in table.index])
    for part in _PREVALENCE_PARTS:
        shares = table[f"{part}_prevalence"]
        shown[part] = [("unknown" if np.isnan(v) else f"{100 * v:.1f} %") for v in shares]
    shown["positives (train)"] = table["train_positives"].to_numpy()
    if (table["train_known"] < len(description.split.train)).any():
        shown["known (train)"] = table["train_known"].to_numpy()
    shown["judged by"] = table["judged_by"].to_numpy()
    few = table.index.isin(_tested_on_few(description))
    shown["tested"] = np.select([few, table["tested"]], ["on few", "yes"], "no")
    return shown.to_string()


def _attribute_lines(description: Description) -> list[str]:
    """How many attributes can be learned, judged and tested, then which cannot, by reason."""
    domain = description.domain
    learned = description.attributes[~description.attributes.index.isin(list(description.unlearnable))]
    judges = {kind: int((learned["judged_by"] == kind).sum()) for kind in ("classes", "images", "none")}
    total = len(domain.attributes)
    summary = (
        f"{len(learned)} of {counted(total, 'attribute')} can be learned, {len(learned) - judges['none']} of them judged "
        f"({judges['classes']} on held-out classes alone, {judges['images']} on all validation images), "
        f"{description.attributes.tested.sum()} tested."
    )
    by_reason: dict[str, list[str]] = {}
    for name, problem in description.attributes["problem"].items():
        for reason in filter(None, problem.split("; ")):
            by_reason.setdefault(reason, []).append(name)
    few = _tested_on_few(description)
    told = f"Tested on fewer than {MIN_TOLD} images of one label, so that single images decide the figure ({len(few)}): {_names(domain, few)}"
    unjudged = f"What is not judged gets an architecture that is not of its own, and no yes or no: {MORE_JUDGED}."
    notes = [
        *([_wrapped("", told)] if few else []),
        *([_wrapped("", unjudged)] if judges["none"] > len(learned) / 2 else []),
    ]
    return [summary, *notes] + [
        _wrapped("", f"{reason[0].upper()}{reason[1:]} ({len(names)}): {_names(domain, names)}")
        for reason, names in sorted(by_reason.items())
    ]


def _bad_lines(bad_images: Sequence[tuple[str, str]]) -> list[str]:
    if not bad_images:
        return ["Every image can be used."]
    are = "is" if len(bad_images) == 1 else "are"
    lines = [f"{counted(len(bad_images), 'image')} cannot be used and {are} left out of all counts:"]
    lines += [f"  {path}: {reason}" for path, reason in bad_images[:_SHOWN_BAD_IMAGES]]
    more = len(bad_images) - _SHOWN_BAD_IMAGES
    lines += [f"  and {more} more, all of them in description.json"] if more > 0 else []
    return [*lines, "A run stops at them, unless it is given --on_bad_image=skip."]
