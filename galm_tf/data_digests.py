"""What a run's data were, as digests in its data.json: what must be found again where it goes on, is added to or shown."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from galm_tf import leakage, source_runs
from galm_tf.config import Config
from galm_tf.domains import expect_data, load_domains
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.errors import UserError
from galm_tf.paths import file_size
from galm_tf.run_folder import DATA, RunFolder, read_config, run_digest
from galm_tf.words import listed

DRAWN = "drawn pictures"
TESTED = "tested"  # of data.json: `test_digests`
# of data.json, whatever is learned of them
IMAGES = ("images", "names of images", "boxes", "sizes of image files", "contents of image files", DRAWN)
_DRAWN_SIDE, _DRAWN_COUNT = 32, 20  # pixels, and pictures of a domain: a tenth of a second
_IN_FULL = {
    "names of images": "names of images, or another order of them",
    DRAWN: f"{DRAWN}, as another version of galm_tf drew them",
    "split": "split (who trains, judges and is tested), which another version of galm_tf may have drawn otherwise",
}


def remember_data(config: Config, folder: RunFolder, domain: Domain, split: Split) -> None:
    """Writes split.json and what the data are; raises UserError where a resumed run finds others than it began with.

    Else images that it has trained on could be tested: records are numbered in the order in which they are found.
    """
    now = data_digests(domain)
    now.update({"attributes": len(domain.attributes), "split": _digest(split.to_json())})
    now.update(label_digests(domain.attributes, domain.targets))
    before = folder.read_json(DATA) if config.resume and folder.has(DATA) else now
    changed = changed_data(now, before)
    if changed:
        raise UserError(
            f"Expected the data that the run in {folder.path} began with. Received: {listed(changed, len(changed))}; restore them, or "
            f"{folder.anew}."
        )
    if before is now:  # what stands there is the same
        folder.write_json("split.json", split.to_json())
        folder.keep_tables(config.label_files)
        tested = test_digests(domain, split.test)
        if config.add_attribute:  # its other attributes were tested as the source has it
            theirs = tested_of(read_data(config.source_run[0]))
            tested["labels"].update(theirs["labels"] if theirs else {})
        digests = [run_digest(path) for path in config.source_run]
        folder.write_json(DATA, {**now, TESTED: tested, source_runs.DIGESTS: digests})
        return
    if "split" in before and not _is_whole(folder, now["split"]):
        folder.write_json("split.json", split.to_json())
    folder.note_places(config)


def _is_whole(folder: RunFolder, digest: str) -> bool:
    """Whether split.json holds the split of a digest."""
    try:
        return _digest(folder.read_json("split.json")) == digest
    except (OSError, UserError):
        return False


def expect_places(config: Config, folder: RunFolder) -> None:
    """Raises UserError where a run that goes on finds no data, or other source runs, in a place that it has not noted;
    a finished one, other data.
    """
    moved = folder.moved(config)
    if {"data_dir", "splits_file"} & set(moved):
        expect_data(config)
    if "source_run" in moved:
        source_runs.expect_same(config, folder)
    if "data_dir" in moved and folder.has("result.json") and folder.has(DATA):
        _expect_same_images(config, folder)


def _expect_same_images(config: Config, folder: RunFolder) -> None:
    """Raises UserError where the data that a finished run shall note are not those that it was made of, by their names
    and sizes; none is decoded.
    """
    if folder.read_json("result.json").get("bad_images"):  # these it has not numbered
        return
    now, before = data_digests(load_domains(config, has_split=True)), folder.read_json(DATA)
    changed = changed_data(now, before)
    if changed:
        raise UserError(
            f"Expected the data that the run in {folder.path} was made of, which lay in {','.join(read_config(folder.path).data_dir)}. Received: "
            f"data_dir={','.join(config.data_dir)} with {listed(changed, len(changed))}; name the folder where they lie now."
        )


def data_digests(domain: Domain) -> dict[str, Any]:
    """What the numbers of records mean: how many images, and digests of their names, classes, boxes and the sizes of
    their files; once images have been loaded, of their contents; where they are drawn, of some pictures.

    Not of folders and times: data may move.
    """
    told = {**_listed_digests(domain), **drawn_digest(domain)}
    if domain.contents is not None:  # pictures without compression all have one size
        told["contents of image files"] = hashlib.sha256(domain.contents.tobytes()).hexdigest()
    return told


def drawn_digest(domain: Domain) -> dict[str, str]:
    """A digest of some pictures of a domain that is drawn, by the name of `data_digests`; nothing of files."""
    if domain.draw is None:
        return {}
    index = np.linspace(0, len(domain.paths) - 1, _DRAWN_COUNT * len(domain.domain_names)).astype(int)
    pictures = [domain.draw(int(i), _DRAWN_SIDE).tobytes() for i in np.unique(index)]
    return {DRAWN: hashlib.sha256(b"".join(pictures)).hexdigest()}


def _listed_digests(domain: Domain) -> dict[str, Any]:
    """`data_digests` without what is drawn."""
    return {
        "images": len(domain.paths),
        "names of images": _digest([os.path.basename(path) for path in domain.paths]),
        "classes": _digest([domain.classes[c] for c in domain.class_ids]),
        "boxes": hashlib.sha256(domain.boxes.tobytes()).hexdigest(),
        "sizes of image files": _digest([file_size(path) for path in domain.paths]),
    }


def label_digests(attributes: Sequence[str], targets: np.ndarray) -> dict[str, str]:
    """Digests of what is learned: targets [n, N] of the attributes."""
    return {"names of attributes": _digest(list(attributes)), "labels": hashlib.sha256(targets.tobytes()).hexdigest()}


def test_digests(domain: Domain, test: np.ndarray) -> dict[str, Any]:
    """What is tested, records int64 [t], whatever their numbers and what trains beside them: a digest of the images,
    and by attribute one of their labels.
    """
    pictures = leakage.image_digests(domain, test)
    labels = {}
    for name, column in zip(domain.attributes, domain.labels[test].T):
        of_alike = np.nan_to_num(column, nan=-1.0)  # images that are the same are in the order of their labels
        labels[name] = hashlib.sha256(of_alike[np.lexsort((of_alike, pictures))].astype(np.int8).tobytes()).hexdigest()
    told = np.sort(pictures).tobytes() + json.dumps(drawn_digest(domain)).encode()
    return {"images": hashlib.sha256(told).hexdigest(), "labels": labels}


def read_data(path: str) -> dict[str, Any]:
    """What a run's data.json says of its data; nothing where an earlier version left none. Raises UserError when it is
    damaged.
    """
    folder = RunFolder(path, lock=False)
    return folder.read_json(DATA) if folder.has(DATA) else {}


def tested_of(data: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    """What a run's data.json says of its test (`test_digests`); None where that is not there, or damaged."""
    told = data.get(TESTED)
    return told if isinstance(told, dict) and "images" in told and isinstance(told.get("labels"), dict) else None


def content_digests(domain: Domain) -> dict[str, str]:
    """Digests of a domain's images and labels, whatever their split: `data`, and by itself what is drawn, of which
    earlier versions had none.
    """
    data = hashlib.sha256(json.dumps(_listed_digests(domain)).encode() + domain.targets.tobytes()).hexdigest()
    return {"data": data, **drawn_digest(domain)}


def changed_data(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What of the data is not as it was, in words; what an earlier version did not write down is not compared."""
    pairs = [(name, now[name], before[name]) for name in now if name in before and now[name] != before[name]]
    return [
        f"{ours} {name}, {theirs} then" if isinstance(ours, int) else f"other {_IN_FULL.get(name, name)}"
        for name, ours, theirs in pairs
    ]


def changed_labels(attributes: Sequence[str], targets: np.ndarray, before: Mapping[str, Any]) -> list[str]:
    """As `changed_data` of what a finished run has learned, targets [n, N] of its attributes; nothing for an extended
    run, which tells of its new ones alone.
    """
    now = label_digests(attributes, targets)
    return changed_data(now, before) if now["names of attributes"] == before.get("names of attributes") else []


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
