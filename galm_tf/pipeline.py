"""One run from settings to result: data, search, derived network, test, export.

`main` and the benchmarks call this; it reads no flags.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import shutil
import time
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from scipy.special import expit

from galm_tf import (
    evaluation,
    export,
    frozen_trunk,
    plots,
    pretrained,
    progress,
    readout,
    scoring,
    search_space,
    selection,
    source_runs,
    temperature,
    transfer,
)
from galm_tf.config import READING, Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.derived import DerivedNetwork, ReadingNetwork
from galm_tf.domains import expect_data, load_domains
from galm_tf.domains.build import has_classes, with_classes
from galm_tf.domains.domain import Domain
from galm_tf.domains.generated import NOTICE
from galm_tf.domains.splits import MORE_JUDGED, Split, make_split, unlearnable_attributes, with_few_positives
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.map_cache import MapCache
from galm_tf.network_size import Size, network_size, numbers_read, tower_size, trunk_size
from galm_tf.paths import file_size
from galm_tf.preprocess import scale_images
from galm_tf.readings import Readings
from galm_tf.run_folder import DATA, RunFolder, environment, read_config, run_digest
from galm_tf.search import Search, archive
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry, write_architecture_table, write_hparams
from galm_tf.tracing import traced
from galm_tf.words import listed

_TEST_BATCH = 64
_EXAMPLES, _EXAMPLE_PIXELS = 6, 256
IMAGES = ("images", "names of images", "boxes", "sizes of image files")  # of data.json, whatever is learned of them
_IN_FULL = {
    "names of images": "names of images, or another order of them",
    "split": "split (who trains, judges and is tested)",
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the search works on.

    Attributes:
      domain: learnable attributes only.
      split: record indices of each part.
      images: uint8 [n, S, S, 3].
      excluded: attribute name -> why it cannot be learned.
      bad_images: (path, reason) of images that were skipped.
    """

    domain: Domain
    split: Split
    images: np.ndarray
    excluded: dict[str, str]
    bad_images: tuple[tuple[str, str], ...]


def prepare(config: Config, domain: Optional[Domain] = None) -> Prepared:
    """Loads the data, or the images of a domain that is at hand, splits it, and leaves out attributes that cannot be
    learned.
    """
    domain, images, bad = load_images(domain or load_domains(config, has_split=config.resume), config)
    split = make_split(domain, config)
    excluded = unlearnable_attributes(domain, split.train)
    for reason in dict.fromkeys(excluded.values()):
        logging.warning("left out, %s: %s", reason, ", ".join(name for name, its in excluded.items() if its == reason))
    if len(excluded) == len(domain.attributes):
        raise UserError(
            f"Expected an attribute with both labels among the training images of {domain.name}. Received: "
            f"{len(excluded)} attributes, none of which has; check the labels with python -m galm_tf.domains."
        )
    keep = [a not in excluded for a in domain.attributes]
    domain = with_few_positives(domain, split.train, config)
    domain, split = domain.select_attributes(keep), split.select_attributes(keep)
    _warn_of_unjudged(split.judged_by, len(split.validation), config.method)
    _warn_of_untested(split, domain, config)
    return Prepared(domain, split, images, excluded, bad)


def _warn_of_unjudged(judged_by: Sequence[str], images: int, method: str) -> None:
    """Tells before anything is trained that validation chooses few of the networks, or none."""
    unjudged = list(judged_by).count("none")
    if unjudged > len(judged_by) / 2:
        logging.warning(
            "%d of %d attributes have too few labels of either kind among the %d validation images to be judged: %sno yes or no can be given; "
            "%s.", unjudged, len(judged_by), images, "" if method == READING else "their architectures will not be of their own, and ", MORE_JUDGED,
        )  # fmt: skip


def _warn_of_untested(split: Split, domain: Domain, config: Config) -> None:
    """Tells before anything is trained that the test says little of the networks, or nothing."""
    own = not config.splits_file and config.test_split == Config().test_split
    other = (
        f"--split_seed={max(config.split_seed, 0) + 1} tests other {'classes' if has_classes(domain.class_ids) else 'images'}; "
        if own
        else ""
    )
    untested = int((~split.testable).sum())
    if untested > len(split.testable) / 2:
        logging.warning(
            "%d of %d attributes cannot be tested: what is known of them among the %d test images is of one kind. %spython -m galm_tf.domains "
            "tells what of a split can be tested.", untested, len(split.testable), len(split.test), other,
        )  # fmt: skip


def run(
    config: Config,
    folder: RunFolder,
    prepared: Optional[Prepared] = None,
    make_strategy: Optional[Callable[[int, Config], Strategy]] = ControllerTraining,
) -> dict[str, Any]:
    """Searches, fine-tunes, tests once, exports. Writes into `folder` and returns what result.json holds.

    Of a finished run it is read again; where `prepared` is at hand, it must be of these data.
    """
    if config.resume:
        expect_places(config, folder)
    if config.resume and folder.has("result.json"):
        if prepared is not None:
            remember_data(config, folder, prepared.domain, prepared.split)
        folder.note_places(config)
        archive(folder)  # it may have been stopped just before
        return folder.read_json("result.json")
    started = time.monotonic()
    expect_beginnings(config, folder)
    seconds: dict[str, float] = {}
    with progress.timed(seconds, "load"):
        prepared = prepared or prepare(config)
    if config.method == READING:
        searched = read(config, folder, prepared)
        network = searched.network()
        _cool(network, searched)
    else:
        searched = search(config, folder, prepared, make_strategy)
        network = derive_network(searched)
        searched.checkpoint()  # with the batch norms that are exported
    searched.before = {**seconds, **searched.before}
    result = build_result(searched, prepared, test(network, prepared))
    result["seconds_total"] = searched.earlier_seconds + time.monotonic() - started
    write_result(searched, network, prepared, result, folder)
    archive(folder)
    return result


def write_result(
    search: Search | Readings,
    network: tf.Module,
    prepared: Prepared,
    result: dict[str, Any],
    folder: RunFolder,
    base: Any = None,
) -> None:
    """Leaves what is to be read, shown and served; result.json, which says that the run is done, comes last.

    base: a loaded SavedModel that the exported one holds too, before the search's attributes.
    """
    write_architecture_table(folder, searched_rows(result))
    write_hparams(folder, search.config, {**result["search"], **result})
    if isinstance(search, Search):
        if base is None:  # else `add_attribute` joins it to that of the others
            search.record_policy()
        plots.write_learning_curves(folder)
    _write_examples(prepared, folder)
    export_network(search, network, result, folder, base)
    folder.write_json("architectures.json", {a: r["architecture"] for a, r in searched_rows(result).items()})
    folder.write_json("result.json", result)


def search(
    config: Config, folder: RunFolder, prepared: Prepared, make_strategy: Callable[[int, Config], Strategy]
) -> Search:
    """The search alone, from its last checkpoint if it is resumed; test images are not looked at."""
    remember_data(config, folder, prepared.domain, prepared.split)
    before: dict[str, float] = {}
    if config.resume and config.trunk_model and not folder.has("trunk"):
        source_runs.expect_same(config, folder)  # from which it would come
    trunk, views = _frozen(config, folder, prepared, before)
    searched = Search(config, prepared.domain, prepared.split, prepared.images, folder, make_strategy, views, trunk)
    searched.before = before
    restored = config.resume and searched.restore()
    if not restored:
        sources = []
        if config.source_run:
            source_runs.expect_same(config, folder)  # a run that goes on was stopped before it took anything
            with progress.timed(searched.before, "match"):
                sources = transfer.start_from(searched)
        source_runs.write_seen(folder, config, prepared.domain, prepared.split, sources)
    with Telemetry(folder, searched.state.records) as telemetry:
        searched.run(telemetry)
    return searched


def read(config: Config, folder: RunFolder, prepared: Prepared) -> Readings:
    """Readings of the trunk, fitted and judged, in the place of a search."""
    remember_data(config, folder, prepared.domain, prepared.split)
    before: dict[str, float] = {}
    trunk, views = _frozen(config, folder, prepared, before, augment_flip=False, augment_crop=0.0, augment_color=0.0)
    readings = Readings(config, prepared.domain, prepared.split, frozen_trunk.FirstViews(views), trunk)
    readings.before = before
    readings.fit()
    source_runs.write_seen(folder, config, prepared.domain, prepared.split, [])
    return readings


def _frozen(
    config: Config, folder: RunFolder, prepared: Prepared, before: dict[str, float], **changes: float
) -> tuple[Optional[pretrained.PretrainedTrunk], Optional[frozen_trunk.Views]]:
    """A run's pretrained trunk, and what it makes of all images but the tested ones, of those that train with changes
    too; (None, None) without one.

    before: where the seconds of that are put.
    changes: settings of the changes of images in place of the run's.
    """
    split, started = prepared.split, time.monotonic()
    trunk = pretrained.of_run(config, folder, prepared.images, prepared.domain, split.train)
    if trunk is None:
        return None, None
    changed, index = dataclasses.replace(config, **changes), np.union1d(split.trained, split.validation)
    views = frozen_trunk.Views(len(prepared.images), len(index), changed)
    cache = MapCache(changed, prepared.domain, trunk.digest)
    frozen_trunk.fill_views(views, trunk.maps, prepared.images, index, split.trained, changed, cache)
    before["trunk"] = time.monotonic() - started
    return trunk, views


def expect_beginnings(config: Config, folder: Optional[RunFolder] = None) -> None:
    """Raises UserError for source runs and a trunk's file that a run cannot begin with: told before the data are read,
    which may take minutes.
    """
    for path in () if config.resume else config.source_run:
        source_runs.expect_fitting(path, config)
    pretrained.expect_file(config, folder)


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
            f"Expected the data that the run in {folder.path} began with. Received: {listed(changed, len(changed))}; restore them, or begin a "
            "new run in another --run_dir."
        )
    if before is now:  # what stands there is the same
        folder.write_json("split.json", split.to_json())
        folder.keep_tables(config.label_files)
        folder.write_json(DATA, {**now, source_runs.DIGESTS: [run_digest(path) for path in config.source_run]})
    else:
        folder.note_places(config)


def data_digests(domain: Domain) -> dict[str, Any]:
    """What the numbers of records mean: how many images, and digests of their names, classes, boxes and the sizes of
    their files.

    Not of folders and times: data may move.
    """
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


def content_digest(domain: Domain) -> str:
    """A digest of a domain's images and labels, whatever their split."""
    return hashlib.sha256(json.dumps(data_digests(domain)).encode() + domain.targets.tobytes()).hexdigest()


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


def _write_examples(prepared: Prepared, folder: RunFolder) -> None:
    """A few test pictures of a generated domain, so that there is something to predict."""
    domain, test = prepared.domain, prepared.split.test
    if domain.draw is None:
        return
    for index in test[:: max(1, len(test) // _EXAMPLES)][:_EXAMPLES]:
        if "://" in domain.paths[index]:
            buffer = io.BytesIO()
            Image.fromarray(domain.draw(int(index), _EXAMPLE_PIXELS)).save(buffer, "PNG")
            name = domain.classes[domain.class_ids[index]].replace("/", "_")
            folder.write_bytes(f"examples/{name}-{index}.png", buffer.getvalue())


def derive_network(search: Search) -> DerivedNetwork:
    """The chosen architectures with fixed, recalibrated batch norms."""
    index = search.validation.calibration_index(final=True)
    if search.views is None:
        search.validation.scoring.calibrate_trunk(np.asarray(search.pictures[index]))
    return assemble(search, search.supernet.weights, index)


def assemble(search: Search, weights: Mapping[str, np.ndarray], index: np.ndarray) -> DerivedNetwork:
    """The architectures that a search chose, with weights, the reading of the trunk, and as sure as validation found
    them right.

    Args:
      search: finished.
      weights: by the names of `Supernet.variables`; of the trunk none where it is a pretrained one.
      index: int64 [m], the records that fix the batch norms; of a trunk that no longer learns those with views.
    """
    architectures = [search_space.Architecture.from_number(n) for n in search.state.chosen]
    network = DerivedNetwork(
        architectures, weights, search_space.map_side(search.config), trunk=search.trunk and search.trunk.maps
    )

    def outputs() -> Iterable[Sequence[tf.Tensor]]:
        if search.views is not None:
            return search.views.outputs(index)
        return network.outputs(scale_images(tf.constant(np.asarray(search.pictures[index]))))

    network.calibrate_on(outputs)
    _attach_readout(network, search, outputs(), search.domain.is_own(index))
    _cool(network, search)
    return network


def _cool(network: DerivedNetwork | ReadingNetwork, search: Search | Readings) -> None:
    """Makes of a network's margins log-odds, as sure as validation found right."""
    state, offsets = search.state, search.validation.margin_offsets(final=True)
    level = search.validation.levels(final=True)
    shift = temperature.scaled(-offsets, level, state.temperature, state.log_odds_shift)
    network.rescale(1 / state.temperature, shift)


def _attach_readout(
    network: DerivedNetwork, search: Search, outputs: Iterable[Sequence[tf.Tensor]], own: np.ndarray
) -> None:
    """Fits the reading of the trunk that the search chose a penalty for, on all images that train; nothing where it
    chose none.

    Args:
      network: with its batch norms fixed.
      search: finished.
      outputs: the trunk's, of some training images, to scale the reading by.
      own: bool [m, N], which of them are of an attribute's own domain.
    """
    if search.state.readout_penalty is None:
        return
    index = search.validation.training_index(final=True)
    (fitted,) = search.validation.fit_readings(index, [search.state.readout_penalty])
    margins, seen = map(np.concatenate, zip(*((network.margins(part), readout.features(part)) for part in outputs)))
    network.attach(readout.blend(fitted, search.config.readout_share, margins, seen, own))


def test(network: tf.Module, prepared: Prepared) -> np.ndarray:
    """What a network of log-odds says of the test images: probabilities float64 [t, N]."""
    # of one trace, whatever the last batch's size
    signature = [tf.TensorSpec([None, *prepared.images.shape[1:]], tf.uint8)]
    call = traced(lambda x: network(scale_images(x)), input_signature=signature)
    batches = scoring.image_batches(prepared.images, prepared.split.test, _TEST_BATCH)
    log_odds = scoring.in_batches(call, batches)
    return expit(log_odds.astype(np.float64))  # float32 would hold all that is sure for equal


def build_result(search: Search | Readings, prepared: Prepared, probabilities: np.ndarray) -> dict[str, Any]:
    """What result.json holds (DESIGN §4, "Run folder")."""
    config, domain, split, state = search.config, prepared.domain, prepared.split, search.state
    learned = split.trained if config.finetunes_on_validation else split.train
    labels = domain.labels[split.test]
    rows = [
        _attribute_row(i, a, search, prepared, labels[:, i], probabilities[:, i])
        for i, a in enumerate(_architectures(search))
    ]
    names = domain.attributes
    per_attribute = dict(zip(names, rows))
    per_attribute.update({name: {"excluded": reason} for name, reason in prepared.excluded.items()})
    return {
        "domains": list(domain.domain_names),
        "method": config.method,
        "seed": config.seed,
        "split_seed": config.split_seed,
        "data_source": "+".join(sorted(set(domain.data_sources))),
        "data_sources": dict(zip(domain.domain_names, domain.data_sources)),
        "notice": NOTICE if domain.generated else None,
        "notes": [*domain.notes, *(state.transfer or {}).get("notes", [])],
        **environment(),
        "image_size": config.image_size,
        "num_attributes": len(names),
        "num_attributes_excluded": len(prepared.excluded),
        "num_attributes_rewarded": state.search.get("num_attributes_rewarded", 0),
        "num_attributes_tested": sum(r["test_auc"] is not None for r in rows),
        "num_images": {k: len(getattr(split, k)) for k in ("train", "validation_classes", "validation_images", "test")},
        "num_images_tested": int(np.isfinite(labels).any(axis=1).sum()),
        "bad_images": [list(pair) for pair in prepared.bad_images],
        "class_disjoint": domain.class_disjoint,
        "classes_seen": _with_those_of_sources(state.transfer, "classes_seen", domain.class_names(split.trained)),
        "classes_learned": _with_those_of_sources(state.transfer, "classes_learned", domain.class_names(learned)),
        "held_out_classes": list(split.held_out_classes),
        "val_mauc": state.best_mauc if state.best_mauc >= 0 else None,
        "test_mauc": evaluation.means(rows, "test_auc"),
        "test_mauc_interval": interval_over_classes(
            domain,
            split.test,
            labels,
            probabilities,
            np.isin(domain.class_ids[split.test], domain.class_ids[split.trained]),
        ),
        "temperature": state.temperature,
        "log_odds_shift": state.log_odds_shift,
        **{f"test_{key}": evaluation.means(rows, f"test_{key}") for key in evaluation.BESIDE_AUC},
        "per_attribute": per_attribute,
        "transfer": state.transfer,
        "choice_frequencies": {} if state.chosen is None else selection.choice_frequencies(state.chosen),
        "network": _size(search).to_json(),
        "trunk": search.trunk and search.trunk.about,
        "readout": _about_readout(search),
        "search": _about_search(search),
    }


def _about_search(search: Search | Readings) -> dict[str, Any]:
    """What a search reached on validation, and what it cost."""
    state = search.state
    return {
        **{k: v for k, v in state.search.items() if k != "num_attributes_rewarded"},
        "seconds": sum(state.phase_seconds.values()),
        "phase_seconds": {**search.before, **state.phase_seconds},
        "architectures_scored": state.architectures_scored,
    }


def _with_those_of_sources(transfer: Optional[dict[str, Any]], key: str, names: frozenset[str]) -> list[str]:
    """Classes that a run has seen, or learned, and those that its sources have; a run that was begun by an earlier
    version tells what they saw alone.
    """
    theirs = transfer or {}
    return sorted({*theirs.get(key, theirs.get("classes_seen", [])), *names})


def _of_new_classes(domain: Domain, index: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Of records int64 [m], whether none of their domain is of a class that was learned: bool [m]."""
    domains = domain.image_domains[index]
    return ~np.isin(domains, domains[learned])


def interval_over_classes(
    domain: Domain, index: np.ndarray, labels: np.ndarray, scores: np.ndarray, learned: np.ndarray
) -> Optional[dict[str, Any]]:
    """Where the mean AUC over all that the tested were drawn from lies: `low` and `high` at 95 %, `over` what, and how
    many were tested, `count`.

    Args:
      domain: of the images.
      index: int [m], those that are judged.
      labels: [m, N] in {0, 1, NaN}.
      scores: [m, N].
      learned: bool [m], which are of classes that were learned. Of a domain without such, that has classes, these were
        drawn; else photographs.

    Returns:
      None where too little was drawn to tell.
    """
    classed = with_classes(domain)[index] & _of_new_classes(domain, index, learned)
    units = np.where(classed, domain.class_ids[index], len(domain.classes) + domain.photographs[index])
    found = evaluation.mean_auc_interval(labels, scores, units)
    over = " and ".join(kind for kind, there in (("classes", classed.any()), ("images", not classed.all())) if there)
    return found and {**dict(zip(("low", "high", "count"), found)), "over": over}


def _about_readout(search: Search | Readings) -> Optional[dict[str, float]]:
    """The share of the trunk's reading in every score, and its penalty; None where nothing is read."""
    penalty = search.state.readout_penalty
    return (
        None
        if penalty is None
        else {"share": search.config.readout_share if search.state.chosen else 1.0, "penalty": penalty}
    )


def _architectures(search: Search | Readings) -> list[Optional[search_space.Architecture]]:
    """[N], None of a network without a tower."""
    chosen = search.state.chosen
    return (
        [None] * len(search.domain.attributes)
        if chosen is None
        else [*map(search_space.Architecture.from_number, chosen)]
    )


def _size(search: Search | Readings) -> Size:
    """Of the trunk and all chosen networks."""
    trunk = trunk_size(search.config.image_size, search.trunk and search.trunk.about)
    return network_size(_architectures(search), search_space.map_side(search.config), _read(search), trunk)


def _read(search: Search | Readings) -> int:
    """How many numbers of the trunk are read beside each tower."""
    return 0 if search.state.readout_penalty is None else numbers_read(search.trunk and search.trunk.about)


def _attribute_row(
    i: int,
    architecture: Optional[search_space.Architecture],
    search: Search | Readings,
    prepared: Prepared,
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> dict[str, Any]:
    config, domain, state = search.config, prepared.domain, search.state
    threshold = state.thresholds[i]
    tested = evaluation.attribute_metrics(labels, probabilities, np.nan if threshold is None else threshold)
    row = {
        "val_auc": state.val_auc[i],
        "judged_by": prepared.split.judged_by[i],
        **{f"test_{k}": v for k, v in tested.items()},
        "test_positives": int((labels > 0.5).sum()),
        "test_negatives": int((labels <= 0.5).sum()),
        "threshold": threshold,
        "architecture": architecture and architecture.to_json(),
        "description": architecture.describe() if architecture else "linear reading of the trunk",
        **tower_size(architecture, search_space.map_side(search.config), _read(search)).to_json(),
        "train_positives": config.train_positives or None,  # of all that the data have
        "prevalence": float(np.nanmean(domain.labels[prepared.split.train, i])),
    }
    if row["test_auc"] is None:
        row["reason"] = prepared.split.reasons.get(domain.attributes[i], "its known test labels are of one kind only")
    return row


def searched_rows(result: dict[str, Any]) -> dict[str, Any]:
    """Attribute name -> its row of result.json, of all that were not left out."""
    return {name: row for name, row in result["per_attribute"].items() if "excluded" not in row}


def export_network(
    search: Search | Readings, network: tf.Module, result: dict[str, Any], folder: RunFolder, base: Any = None
) -> None:
    """Writes `saved_model/` with names, thresholds and where it all came from; base: as in `write_result`."""
    rows = searched_rows(result)
    path = os.path.join(folder.path, "saved_model")
    shutil.rmtree(path, ignore_errors=True)  # of this very run, stopped between its export and its result
    keys = (
        "domains",
        "method",
        "seed",
        "data_source",
        "notice",
        "versions",
        "commit",
        "image_size",
        "trunk",
        "val_mauc",
        "test_mauc",
    )
    boxes = bool((search.domain.boxes[search.split.train, 2] >= 0).any())  # else it has learned whole pictures alone
    export.export_saved_model(
        network,
        path,
        "free some space and go on with --resume",
        attributes=search.domain.attributes,
        thresholds=export.with_nan(search.state.thresholds),
        image_size=search.config.image_size,
        metadata={
            **{k: result[k] for k in keys},
            "boxes": boxes,
            "architectures": {k: r["architecture"] for k, r in rows.items()},
        },
        base=base,
    )
