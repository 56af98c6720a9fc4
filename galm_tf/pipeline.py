"""One run from settings to result: data, search, derived network, test, export.

`main` and the benchmarks call this; it reads no flags.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from galm_tf import (
    data_digests,
    export,
    frozen_trunk,
    leakage,
    metrics,
    plots,
    preparation,
    pretrained,
    progress,
    readout,
    run_result,
    scoring,
    search_space,
    source_runs,
    temperature,
    transfer,
)
from galm_tf.config import READING, Config
from galm_tf.controller_training import ControllerTraining
from galm_tf.derived import DerivedNetwork, ReadingNetwork
from galm_tf.map_cache import MapCache
from galm_tf.preparation import Prepared
from galm_tf.preprocess import scale_images
from galm_tf.readings import Readings
from galm_tf.run_folder import RunFolder
from galm_tf.search import Search, archive
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry, write_architecture_table, write_hparams
from galm_tf.tracing import traced

_TEST_BATCH = 64
_MANY = 1000  # test images, whose progress is told
_EXAMPLES, _EXAMPLE_PIXELS = 6, 256


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
        data_digests.expect_places(config, folder)
    if config.resume and folder.has("result.json"):
        if prepared is not None:
            data_digests.remember_data(config, folder, prepared.domain, prepared.split)
        folder.note_places(config)
        archive(folder)  # it may have been stopped just before
        return folder.read_json("result.json")
    started = time.monotonic()
    expect_beginnings(config, folder)
    seconds: dict[str, float] = {}
    with progress.timed(seconds, "load"):
        prepared = prepared or preparation.prepare(config)
    if config.method == READING:
        searched = read(config, folder, prepared, seconds)
        network = searched.network()
        _cool(network, searched)
    else:
        searched = search(config, folder, prepared, make_strategy, seconds)
        network = derive_network(searched)
    result = run_result.build_result(searched, prepared, test(network, prepared, searched))
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
    write_architecture_table(folder, run_result.searched_rows(result))
    write_hparams(folder, search.config, {**result["search"], **result, "seconds": result["seconds_total"]})
    if isinstance(search, Search):
        if base is None:  # else `add_attribute` joins it to that of the others
            search.record_policy()
        plots.write_learning_curves(folder)
    _write_examples(prepared, folder)
    export_network(search, network, result, folder, base)
    folder.write_json("architectures.json", {a: r["architecture"] for a, r in run_result.searched_rows(result).items()})
    folder.write_json("result.json", result)


def search(
    config: Config,
    folder: RunFolder,
    prepared: Prepared,
    make_strategy: Callable[[int, Config], Strategy],
    seconds: Optional[dict[str, float]] = None,
) -> Search:
    """The search alone, from its last checkpoint if it is resumed; test images are not looked at. seconds: of what went
    before, by kind.
    """
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    before = dict(seconds or {})
    if config.resume and config.trunk_model and not folder.has("trunk"):
        source_runs.expect_same(config, folder)  # from which it would come
    trunk, views = _frozen(config, folder, prepared, before, config)
    searched = Search(config, prepared.domain, prepared.split, prepared.images, folder, make_strategy, views, trunk)
    restored = config.resume and searched.restore()
    if not restored:
        sources = []
        if config.source_run:
            source_runs.expect_same(config, folder)  # a run that goes on was stopped before it took anything
            with progress.timed(before, "match"):
                sources = transfer.start_from(searched)
        leakage.write_seen(folder, config, prepared.domain, prepared.split, sources)
    searched.state.count_before(before)
    with Telemetry(folder, searched.state.records) as telemetry:
        searched.run(telemetry)
    return searched


def read(config: Config, folder: RunFolder, prepared: Prepared, seconds: Optional[dict[str, float]] = None) -> Readings:
    """Readings of the trunk, fitted and judged, in the place of a search. seconds: of what went before, by kind."""
    data_digests.remember_data(config, folder, prepared.domain, prepared.split)
    before = dict(seconds or {})
    trunk, views = _frozen(config, folder, prepared, before, frozen_trunk.unchanged(config))
    readings = Readings(config, prepared.domain, prepared.split, frozen_trunk.FirstViews(views), trunk)
    readings.state.count_before(before)
    readings.fit()
    leakage.write_seen(folder, config, prepared.domain, prepared.split, [])
    return readings


def _frozen(
    config: Config, folder: RunFolder, prepared: Prepared, before: dict[str, float], changed: Config
) -> tuple[Optional[pretrained.PretrainedTrunk], Optional[frozen_trunk.Views]]:
    """A run's pretrained trunk, and what it makes of all images but the tested ones, of those that train with changes
    too; (None, None) without one.

    before: where the seconds of that are put.
    changed: the settings by which those images are changed.
    """
    split, started = prepared.split, time.monotonic()
    trunk = pretrained.of_run(config, folder, prepared.images, prepared.domain, split.train)
    if trunk is None:
        return None, None
    index = np.union1d(split.trained, split.validation)
    views = frozen_trunk.Views(len(prepared.images), len(index), changed)
    cache = MapCache(changed, prepared.domain, trunk.digest)
    frozen_trunk.fill_views(views, trunk.maps, prepared.images, index, split.trained, changed, cache)
    before["trunk"] = time.monotonic() - started
    return trunk, views


def expect_beginnings(config: Config, folder: Optional[RunFolder] = None) -> None:
    """Raises UserError for source runs and a trunk's model that a run cannot begin with: told before the data are read,
    which may take minutes.
    """
    for path in () if config.resume else config.source_run:
        source_runs.expect_fitting(path, config)
    pretrained.expect_model(config, folder)


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


def derive_network(search: Search, beside: Optional[Mapping[str, np.ndarray]] = None) -> DerivedNetwork:
    """The architectures that a search chose, with fixed batch norms, the reading of the trunk, and as sure as validation
    found them right.

    Args:
      search: finished, with the batch norms of its trunk as `Search.run` leaves them.
      beside: weights by the names of `Supernet.variables` of what the search's own supernet has none of: a trunk that
        no longer learns.
    """
    index = search.validation.calibration_index(final=True)
    weights = {**(beside or {}), **search.supernet.weights}
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
    judged = [auc is not None for auc in state.val_auc] or np.ones(len(level), bool)  # before anything is judged
    temperatures = temperature.of_each(state.temperature, judged)
    network.rescale(1 / temperatures, temperature.scaled(-offsets, level, temperatures, state.log_odds_shift))


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


def test(network: tf.Module, prepared: Prepared, searched: Optional[Search | Readings] = None) -> np.ndarray:
    """What a network says of the test images: log-odds float64 [t, N].

    searched: what the network is of; where its trunk is a pretrained one, this one's maps are looked for in the cache
      folder, and kept there, for an addition or another method tests the same images.

    Raises:
      UserError: the network's training has diverged.
    """
    test_index = prepared.split.test
    if searched is not None and searched.trunk is not None:
        cache = MapCache(searched.config, prepared.domain, searched.trunk.digest)
        views = frozen_trunk.first_views(network.trunk, prepared.images, test_index, searched.config, cache)
        if views is not None:
            with _told(len(test_index)) as told:
                said = [told(network.of_outputs(outputs).numpy()) for outputs in views.outputs(test_index)]
            return _finite(np.concatenate(said))
    # of one trace, whatever the last batch's size
    signature = [tf.TensorSpec([None, *prepared.images.shape[1:]], tf.uint8)]
    call = traced(lambda x: network(scale_images(x)), input_signature=signature)
    with _told(len(test_index)) as told:
        said = scoring.in_batches(lambda batch: told(call(batch)), prepared.images, test_index, _TEST_BATCH)
    return _finite(said)


def _finite(said: np.ndarray) -> np.ndarray:
    """The same as float64; raises UserError where training has diverged."""
    metrics.expect_finite(said)
    return said.astype(np.float64)


@contextlib.contextmanager
def _told(count: int) -> Iterator[Callable[[Any], Any]]:
    """What hands on what a network says of some of so many test images, with a line of progress where they are many."""
    if count < _MANY:
        yield lambda said: said
        return
    with progress.Progress(count, "test", unit="image") as shown:

        def told(said: Any) -> Any:
            shown.update(len(said))
            return said

        yield told


def export_network(
    search: Search | Readings, network: tf.Module, result: dict[str, Any], folder: RunFolder, base: Any = None
) -> None:
    """Writes `saved_model/` with names, thresholds and where it all came from; base: as in `write_result`."""
    folder.expect_own()
    rows = run_result.searched_rows(result)
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
            **{k: result.get(k) for k in keys},  # a run of an earlier version that was added to does not tell all
            "boxes": boxes,
            "architectures": {k: r["architecture"] for k, r in rows.items()},
        },
        base=base,
    )
