"""New attributes for a finished run, in minutes: its networks stay, each new attribute gets one beside them.

The source run is only read. Its trunk is frozen, batch norms as exported, and
its maps of the labelled images are computed once (`frozen_trunk`). Each new
attribute starts from the source attribute whose predictor best separates its
labels (`transfer`): embedding, by it the architecture, and tower. Then the same
phases as in `search`, on the new towers alone; of the controller only the new
embeddings learn, so that those of the source keep their meaning. The exported
SavedModel calls the source's own function and adds a second derived network:
the old attributes' outputs are the same to the last bit.

What it does not do: judge as cleanly as the source did. The source fine-tuned
on the validation images too, so that validation figures of new attributes
flatter; test images were seen by neither.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import shlex
import time
from typing import Any, Callable, Optional, Sequence

import numpy as np

from galm_tf import (
    data_digests,
    evaluation,
    export,
    frozen_trunk,
    leakage,
    matching,
    network_size,
    pipeline,
    pretrained,
    progress,
    run_result,
    source_runs,
    temperature,
    transfer,
)
from galm_tf.attribute_names import domain_of
from galm_tf.config import BY_BATCHES, PRETRAINED_SETTINGS, Config, as_flag
from galm_tf.controller_training import ControllerTraining
from galm_tf.domains import label_file, load_domains
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split, few_positives, unlearnable_attributes, with_few_positives, with_judges
from galm_tf.errors import UserError
from galm_tf.image_cache import load_images
from galm_tf.map_cache import MapCache
from galm_tf.matches import givers, is_close
from galm_tf.predict import Predictor
from galm_tf.preparation import Prepared
from galm_tf.run_folder import (
    DATA,
    RunFolder,
    environment,
    read_config,
    read_policy,
    same_kind_of_place,
    with_kept_tables,
)
from galm_tf.search import Search
from galm_tf.strategy import Strategy
from galm_tf.telemetry import Telemetry
from galm_tf.words import listed

# What the source's data, split and weights depend on.
_FIXED = (
    "domain", "layout", "image_size", "sun_votes", "sun_positive", "sun_unanimous", "split_seed", "test_split",
    "validation_split", "validation_fraction", "validation_class_fraction", "conditioning", "controller_cell", "leave_out", "soft_labels",
    *PRETRAINED_SETTINGS,
)  # fmt: skip
_MATCH_BATCH = 64
_CONTROLLER_STEPS = 100  # at most: one embedding learns, not a policy
_DERIVE_TOP = 64  # at least: an embedding alone steers a converged policy coarsely
_SAME_SHARE = 1e-6
_NAMED = 5  # attributes in a note
NOTE = (
    "The source run was fine-tuned on the validation images too, so validation figures of {names} flatter; test images "
    "were not used."
)


@dataclasses.dataclass(frozen=True)
class Finished:
    """What is needed of the source run.

    Attributes:
      source: its weights.
      result: its result.json.
      split: who trains, judges and is tested there.
      predictor: its SavedModel.
      policy: its policy.npz; None when it left none, or not one of its attributes.
    """

    source: source_runs.Source
    result: dict[str, Any]
    split: Split
    predictor: Predictor
    policy: Optional[dict[str, np.ndarray]]


def source_settings(
    source_run: Sequence[str], labels: str, parts: Sequence[str], method: Optional[str] = None
) -> Config:
    """The settings of the source run as those of one that adds to it; raises UserError when it is not one run.

    A new tower gets as many steps as each tower of the source did, in one round, on
    architectures by the source's policy alone where that was handed over; its embedding
    learns fast where nothing else of the policy moves, and a whole policy as in the run
    that a chain of additions began with; more of the policy's architectures are
    re-ranked, unless it is to have the last word. Matches are by predictors, whatever
    rule the source was to be compared by.

    parts: what is handed over.
    method: by which the attributes are searched; the source's when left out.
    """
    stored = _stored_settings(source_run, labels)
    count = len(source_runs.read_json(source_run[0], "architectures.json"))
    share = (
        min(1.0, stored.attributes_per_step / count) if stored.attributes_per_step and not stored.add_attribute else 1.0
    )
    asked = dataclasses.replace(
        stored,
        source_run=tuple(source_run),
        add_attribute=labels,
        transfer=tuple(parts),
        method=method or stored.method,
        reward_data="full",  # a table of few attributes costs little, and mini-batches teach an embedding alone nothing
    )
    if asked.hands_over_policy:
        stored = matching.embedding_settings(asked)
        rate = max(matching.EMBEDDING_RATE, stored.controller_learning_rate)
        stored = dataclasses.replace(stored, uniform_fraction=0.0, controller_learning_rate=rate)
    else:
        stored = _with_policy_of(_first_settings(stored), asked)
    return dataclasses.replace(
        stored,
        run_dir="",
        resume=False,
        label_files=(*stored.label_files, labels),
        transfer=Config().transfer,
        match=Config().match,
        rounds=1,
        attributes_per_step=0,  # all of them: they are few, and the steps are counted for that
        warmup_steps=round(share * stored.warmup_steps),
        supernet_steps=round(share * stored.rounds * stored.supernet_steps),
        controller_steps=min(_CONTROLLER_STEPS, stored.controller_steps),
        transfer_gate_steps=0,
        measure_skill=False,  # searching twice anew would cost more than all the rest
        derive_top=max(_DERIVE_TOP, stored.derive_top) if stored.derive_top > 1 else 1,
        adapt_steps=round(share * stored.adapt_steps),
        finetune_steps=round(share * stored.finetune_steps),
    )


def _with_policy_of(first: Config, config: Config) -> Config:
    """These settings, by which a whole policy learns as in the first run of a chain: an addition that had one handed
    over has others.

    config: its rewards are those of all architectures, as some methods need them.
    """
    own = {name: getattr(first, name) for name in ("uniform_fraction", *matching.POLICY_SETTINGS)}
    if first.reward_data == "batch" and config.method in BY_BATCHES:
        own.update(reward_data="batch", size_penalty=0.0)  # which weighs the rewards of all architectures
    return dataclasses.replace(config, **own)


def _first_settings(config: Config) -> Config:
    """The settings of the run that a chain of additions began with, which had no policy to go by; the defaults where
    it is no more.
    """
    passed: set[str] = set()
    while config.add_attribute:
        path = os.path.realpath(config.source_run[0])
        if path in passed:  # an extended run lies where its source has lain
            return Config()
        passed.add(path)
        try:
            config = read_config(path)
        except UserError:
            return Config()
    return config


def _stored_settings(source_run: Sequence[str], labels: str) -> Config:
    """The source run's own settings; raises UserError for what is not one run that can be added to by these labels."""
    if len(source_run) != 1:
        raise UserError(
            f"Expected one finished run in --source_run beside --add_attribute={labels}. Received: "
            f"source_run={','.join(source_run) or '(nothing)'}; name the run to add to."
        )
    stored = with_kept_tables(source_runs.expect_finished(source_run[0]), source_run[0])
    if os.path.realpath(labels) in map(os.path.realpath, stored.label_files):
        raise UserError(
            f"Expected a table of new attributes in --add_attribute. Received: {labels}, which --source_run={source_run[0]} is made of; write "
            "the new labels into a file of their own."
        )
    return dataclasses.replace(stored, freeze_trunk=False)  # where it is added to, its trunk stays anyway


def check_settings(config: Config, run_dir: str) -> None:
    """Raises UserError where the settings contradict those of the source run, before anything is written."""
    path = config.source_run[0]
    theirs = read_config(path, "source_run")
    expected = {name: getattr(theirs, name) for name in _FIXED}
    tables, another = (*theirs.label_files, config.add_attribute), config.label_files[-1:] != (config.add_attribute,)
    # Data may have moved: their content is compared once they are read.
    if not same_kind_of_place(config.label_files, tables) or (another and not config.resume):
        expected["label_files"] = tables
    if not same_kind_of_place(config.splits_file, theirs.splits_file):
        expected["splits_file"] = theirs.splits_file
    for name, value in expected.items():
        if getattr(config, name) != value:
            ours = getattr(config, name)
            again = (
                ""
                if value in ("", ())
                else f", or set {shlex.quote(as_flag(name, value))} where a flagfile names another"
            )
            whose = (
                f"of --source_run={path}"
                if name != "label_files"
                else f"of --source_run={path} and then that of --add_attribute"
            )
            raise UserError(
                f"Expected the {name} {whose}, which is {source_runs.told(value)}. Received: "
                f"{name}={','.join(ours) if isinstance(ours, tuple) else ours}; leave --{name} out{again}."
            )
    if config.transfer_gate_steps:
        raise UserError(
            f"Expected no trial from nothing beside --add_attribute={config.add_attribute}: its trunk is the source's. Received: "
            f"transfer_gate_steps={config.transfer_gate_steps}; leave it out."
        )
    if pathlib.Path(os.path.realpath(path)) in pathlib.Path(os.path.realpath(run_dir)).parents:
        raise UserError(
            f"Expected a --run_dir outside of the source run, which is only read. Received: run_dir={run_dir} in "
            f"source_run={path}; name another folder."
        )


def run(
    config: Config, folder: RunFolder, make_strategy: Callable[[int, Config], Strategy] = ControllerTraining
) -> dict[str, Any]:
    """Adds the attributes of `config.add_attribute`; writes into `folder` and returns what result.json holds."""
    if config.resume:
        data_digests.expect_places(config, folder)
    if config.resume and folder.has("result.json"):
        folder.note_places(config)
        result = folder.read_json("result.json")
        if not _is_archived(folder, result):
            _archive(read_finished(config), config, folder)
        return result
    started, seconds = time.monotonic(), {}
    if config.resume:  # wherever it lies: the new towers stand on its trunk
        source_runs.expect_same(config, folder)
    with progress.timed(seconds, "load"):
        finished = read_finished(config)
        prepared, images_tested = prepare(config, finished)
        data_digests.remember_data(config, folder, prepared.domain, finished.split)
        leakage.write_seen(folder, config, prepared.domain, finished.split, [finished.source])
    search = _search(config, folder, prepared, finished, make_strategy, seconds)
    tested: dict[str, float] = {}
    with progress.timed(tested, "test"):
        network = pipeline.derive_network(search, finished.source.weights)
        result = _join_results(
            run_result.build_result(search, prepared, pipeline.test(network, prepared, search)), finished, config
        )
    result["num_images_tested"] = images_tested
    result["search"]["phase_seconds"].update(tested)
    result["seconds_total"] = search.earlier_seconds + time.monotonic() - started
    if finished.policy is not None:  # new rows alone would pass for those of all
        search.record_policy(finished.policy)
    pipeline.write_result(search, network, prepared, result, folder, finished.predictor.model)
    _archive(finished, config, folder)
    return result


def read_finished(config: Config) -> Finished:
    """Reads the source run; raises UserError for one that is unfinished, damaged, newer or of other settings."""
    path = config.source_run[0]
    source = source_runs.read_source(path, config)
    result, split = (source_runs.read_json(path, name) for name in ("result.json", "split.json"))
    try:
        parts = Split.from_json(split)
        rows = run_result.searched_rows(result)
        if list(rows) != list(source.attributes):
            raise ValueError("other attributes than architectures.json")
        _ = [row["prevalence"] for row in rows.values()], result["search"]["architectures_scored"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: result.json or split.json without what a run "
            f"writes ({type(error).__name__}: {error}); restore the folder from a copy."
        ) from error
    predictor = Predictor(os.path.join(path, "saved_model"), repair="restore the folder from a copy")
    if list(predictor.attributes) != list(rows):
        raise UserError(
            f"Expected the attributes of result.json in {path}/saved_model. Received: {len(predictor.attributes)} others; "
            "restore the folder from a copy."
        )
    return Finished(source, result, parts, predictor, read_policy(path, len(rows)))


def prepare(config: Config, finished: Finished) -> tuple[Prepared, int]:
    """The source's data and split with the new attributes alone, and how many test images have a label of these or of
    the source's; raises UserError when they cannot be learned.
    """
    theirs = dataclasses.replace(config, label_files=config.label_files[:-1])
    before = load_domains(theirs, has_split=True)
    domain = label_file.with_labels(before, config.label_files[-1], config.on_bad_image)
    for note in domain.notes[len(before.notes) :]:
        logging.warning("%s", note)
    domain = domain if config.soft_labels else dataclasses.replace(domain, shares=None)
    domain, images, bad = load_images(domain, config)
    _expect_same_data(domain, finished, config)
    new = np.arange(len(domain.attributes)) >= len(before.attributes)
    every = new | np.isin(domain.attributes, list(run_result.searched_rows(finished.result)))
    images_tested = int(np.isfinite(domain.labels[np.ix_(finished.split.test, every)]).any(axis=1).sum())
    domain = with_few_positives(domain.select_attributes(new), finished.split.train, config)
    lacking = unlearnable_attributes(domain, finished.split.train)
    for name, reason in lacking.items():
        raise UserError(
            f"Expected positives and negatives of each attribute of {config.add_attribute} among the training images. "
            f"Received: {reason} for {name}; label more of them, or remove the column."
        )
    return Prepared(domain, with_judges(finished.split, domain), images, {}, bad), images_tested


def _expect_same_data(domain: Domain, finished: Finished, config: Config) -> None:
    """Raises UserError when images or labels are not those that the source run saw.

    domain: with all labels that there are, few as the source may have known.
    """
    changed = _changed_data(domain, finished, config)
    if changed:
        where = ",".join((*config.data_dir, *config.label_files[:-1])) or "the generated domain"
        raise UserError(
            f"Expected the data of --source_run={config.source_run[0]} in {where}. Received: {changed}; restore the data, "
            "or name their folder by --data_dir."
        )


def _changed_data(domain: Domain, finished: Finished, config: Config) -> str:
    """What of the source's data is not as it was, in words; empty where all is."""
    split, rows = finished.split, run_result.searched_rows(finished.result)
    missing = [name for name in rows if name not in domain.attributes]
    if missing:
        return f"no attribute {missing[0]}"
    path = os.path.join(config.source_run[0], DATA)
    before = source_runs.read_json(config.source_run[0], DATA) if os.path.exists(path) else {}
    changed = data_digests.changed_data(data_digests.data_digests(domain), before)
    if changed:
        return ", ".join(changed)
    last = max(int(part.max(initial=-1)) for part in (split.train, split.validation, split.test))
    if last >= len(domain.paths):
        return f"{len(domain.paths)} images, of which the run used number {last + 1}"
    domain = with_few_positives(domain, split.train, config, few_positives(rows, read_config(config.source_run[0])))
    columns = [domain.attributes.index(name) for name in rows]
    changed = data_digests.changed_labels(list(rows), domain.targets[:, columns], before)
    if changed:
        return ", ".join(changed)
    for name, column in zip(rows, columns):  # what an extended run, or one of an earlier version, tells of its labels
        share, then = float(np.nanmean(domain.labels[split.train, column])), rows[name]["prevalence"]
        if not abs(share - then) < _SAME_SHARE:
            return f"{share:.4f} of the training images with {name}, {then:.4f} in the run"
    return ""


def _search(
    config: Config,
    folder: RunFolder,
    prepared: Prepared,
    finished: Finished,
    make_strategy: Callable[[int, Config], Strategy],
    seconds: dict[str, float],
) -> Search:
    """The phases on the new towers, over cached maps of the frozen trunk."""
    domain, split = prepared.domain, prepared.split
    known = np.isfinite(domain.labels).any(axis=1)
    kept = {k: getattr(split, k)[known[getattr(split, k)]] for k in ("validation_classes", "validation_images")}
    labelled = np.concatenate([split.train[known[split.train]], *kept.values()])
    views = frozen_trunk.Views(len(domain.paths), len(labelled), config)
    # Shared weights of the policy belong to the source's attributes too.
    shares_policy = config.hands_over_policy
    strategy = (lambda n, c: ControllerTraining(n, c, trained=("arm_embedding",))) if shares_policy else make_strategy
    trunk = pretrained.of_run(config, folder, prepared.images, prepared.domain, split.train, finished.source.pretrained)
    if trunk is not None:  # that of the model, which the extended one then stores once
        trunk = dataclasses.replace(trunk, maps=export.networks_of(finished.predictor.model)[0][0].trunk)
    search = Search(config, domain, dataclasses.replace(split, **kept), prepared.images, folder, strategy, views, trunk)
    with progress.timed(seconds, "features"):
        index = np.unique(labelled)
        cache = trunk and MapCache(config, domain, trunk.digest)
        frozen_trunk.fill_views(
            views, finished.source.trunk, prepared.images, index, _scarce(domain.labels, index), config, cache
        )
    if not (config.resume and search.restore()):
        with progress.timed(seconds, "match"):
            _start(search, prepared, finished)
    search.state.count_before(seconds)
    with Telemetry(folder, search.state.records) as telemetry:
        search.run(telemetry)
        if shares_policy:
            policy = _joined_policy(finished, search.strategy.variables[matching.EMBEDDING].numpy())
            names = (*finished.source.attributes, *domain.attributes)
            telemetry.embeddings(matching.policy_vectors(policy), names, [domain_of(name) for name in names])
    return search


def _scarce(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The records among `index` that carry the rarer label of an attribute: each further view costs a pass of the
    trunk.
    """
    known = labels[index]
    rarer = np.nanmean(known, axis=0) < 0.5
    return index[(known == rarer).any(axis=1)]


def _start(search: Search, prepared: Prepared, finished: Finished) -> None:
    """Gives each new attribute what its match in the source has learned."""

    def score(index: np.ndarray) -> np.ndarray:
        return finished.predictor.of_records(prepared.images, index, _MATCH_BATCH)[0]

    matches = matching.find_matches(search, [finished.source], score, some=0)
    transfer.hand_over(search, [finished.source], matches)
    search.strategy.remember_initial()


def _join_results(added: dict[str, Any], finished: Finished, config: Config) -> dict[str, Any]:
    """result.json of the extended run: the source's figures, the new attributes', and means over both."""
    before = finished.result
    names = list(added["per_attribute"])
    rows = {**run_result.searched_rows(before), **added["per_attribute"]}
    left_out = {name: row for name, row in before["per_attribute"].items() if "excluded" in row}
    # beside one another, each with its trunk
    sizes = [network_size.of_result(part, config.image_size) for part in (before, added)]
    stored_once = network_size.Size(0, added["trunk"]["parameters"] if added.get("trunk") else 0)
    every = list(rows.values())
    flattered = [*source_runs.flattered(before), *(names if finished.source.finetuned_on_validation else [])]
    return {
        **before,
        **environment(),
        "method": config.method,
        "seed": config.seed,
        "notes": _join_notes(added["notes"], finished, flattered),
        "num_attributes": len(rows),
        "num_attributes_rewarded": before.get("num_attributes_rewarded", 0) + added["num_attributes_rewarded"],
        "num_attributes_tested": sum(row["test_auc"] is not None for row in every),
        "val_mauc": evaluation.means(every, "val_auc"),
        "test_mauc": evaluation.means(every, "test_auc"),
        "test_mauc_interval": None,  # the old ones' scores are not at hand
        **{key: _mean_of_all(every, key) for key in (f"test_{name}" for name in evaluation.BESIDE_AUC)},
        "per_attribute": {**rows, **left_out},
        "transfer": _join_transfers(before.get("transfer"), added["transfer"]),
        "choice_frequencies": run_result.choice_frequencies(rows),
        "network": (sizes[0] + sizes[1] - stored_once).to_json(),
        "search": added["search"],
        "added": {
            "attributes": names,
            "source_run": finished.source.path,
            "source_seconds": before.get("seconds_total"),
            "searched": _searched(finished),
            "earlier": _additions(before),
            "flattered": flattered,
            **{key: added[key] for key in ("temperature", "log_odds_shift", "readout")},
        },  # fmt: skip
    }


def _join_transfers(before: Optional[dict[str, Any]], added: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """What the new attributes started from, with the matches of the source's own beneath theirs.

    An entry whose run handed over other parts, or matched by another rule, says which. Of a source whose trial from
    others was no better than one from nothing no match is kept: it took nothing from them.
    """
    if not before or not added or not (before.get("gate") or {"passed": True})["passed"]:
        return added
    other = {key: before[key] for key in ("parts", "match") if before[key] != added[key]}
    kept = {name: match and {**other, **match} for name, match in before["matches"].items()}
    return {
        **added,
        "sources": list(dict.fromkeys([*givers(before)[0], *added["sources"]])),
        "matches": {**kept, **added["matches"]},
    }


def _searched(finished: Finished) -> Optional[dict[str, Any]]:
    """The run that a chain of additions began with, and the seconds that it took; None where an earlier version, which
    noted neither, added to it.
    """
    before = finished.result
    if "added" in before:
        return before["added"].get("searched")
    return {"run": finished.source.path, "seconds": before.get("seconds_total")}


def _additions(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was added to a run, in order: attributes, temperature, seconds; of a chain by an earlier version the last."""
    added = result.get("added")
    if not added:
        return []
    last = {"attributes": added["attributes"], "temperature": added.get("temperature")}
    return [*added.get("earlier", []), {**last, "seconds": result.get("seconds_total")}]


def _mean_of_all(rows: Sequence[dict[str, Any]], key: str) -> Optional[float]:
    """Mean of one metric, None where some tested rows are of an earlier version that did not take it: the others' alone
    would pass for that of all.
    """
    told = all(key in row for row in rows if row["test_auc"] is not None)
    return evaluation.means(rows, key) if told else None


def _join_notes(added: list[str], finished: Finished, flattered: list[str]) -> list[str]:
    """The notes of the source and of what was added; of flattered attributes one, however long the chain."""
    told = dict.fromkeys([*finished.result.get("notes", []), *added])
    if not flattered:
        return list(told)
    before = source_runs.flattered(finished.result)
    said = [source_runs.validation_note(finished.source.path), *([_flatter_note(before)] if before else [])]
    return [*(note for note in told if note not in said), _flatter_note(flattered)]


def _flatter_note(names: list[str]) -> str:
    return NOTE.format(names=listed(names, _NAMED))


def _joined_policy(finished: Finished, new: np.ndarray) -> dict[str, np.ndarray]:
    """The source's policy with the new embeddings after its own."""
    policy = finished.source.policy
    return {**policy, matching.EMBEDDING: np.concatenate([policy[matching.EMBEDDING], new])}


def _is_archived(folder: RunFolder, result: dict[str, Any]) -> bool:
    """Whether the last checkpoint is what `_archive` leaves, or is not there to become it."""
    stored = folder.load_checkpoint(wanted=())
    return stored is None or len(stored[1]["chosen"]) == len(run_result.searched_rows(result))


def _archive(finished: Finished, config: Config, folder: RunFolder) -> None:
    """Leaves what a later run can start from or add to: all towers on one trunk, and the policy.

    The new towers are those of the last checkpoint, so that a resumed run can do what it was stopped before.
    """
    stored, state = folder.load_checkpoint(("supernet/", f"controller/{matching.EMBEDDING}"))
    arrays = {f"supernet/{name}": value for name, value in finished.source.weights.items()}
    for name in (name for name in arrays if name in stored):
        arrays[name] = np.concatenate([arrays[name], stored[name]])
    if config.hands_over_policy:
        policy = _joined_policy(finished, stored[f"controller/{matching.EMBEDDING}"])
        arrays.update({f"controller/{name}": value for name, value in policy.items()})
    folder.save_checkpoint(arrays, {**state, "chosen": [*map(int, finished.source.chosen), *state["chosen"]]}, keep=1)


def _reserve(row: dict[str, Any]) -> str:
    """What speaks against an added attribute's yes and no, in words."""
    if evaluation.unjudged(row):
        return ": not judged by any validation image, hence an architecture that is not of its own, no yes or no"
    return ": below chance on validation, so that its yes and no mean little" * evaluation.below_chance(row)


def _cost_before(added: dict[str, Any]) -> str:
    """What the run took without what was added last, in brackets; "" where it is not known."""
    searched, earlier = added.get("searched"), added.get("earlier")
    if not searched:  # an earlier version does not tell whether the source was an extended run itself
        seconds = added["source_seconds"]
        return f" ({added['source_run']} took {seconds:.0f} s, or what was added to it last)" if seconds else ""
    known = [("the search of {run} took", searched["seconds"])]
    known += [("additions before this", sum(one["seconds"] or 0.0 for one in earlier))] if earlier else []
    told = ", ".join(f"{what.format(**searched)} {seconds:.0f} s" for what, seconds in known if seconds)
    return f" ({told})" if told else ""


def summary(result: dict[str, Any], path: str) -> str:
    """What was added and where it lies, for a person."""
    added = result["added"]
    before = result["num_attributes"] - len(added["attributes"])
    lines = [
        f"{len(added['attributes'])} added to the {before} attributes of {added['source_run']}, which are as they were: "
        f"{result['seconds_total']:.0f} s{_cost_before(added)}"
    ]
    for name in added["attributes"]:
        row, match = result["per_attribute"][name], result["transfer"]["matches"][name]
        tested = (
            f"test AUC {row['test_auc']:.3f}{evaluation.on_few_in_words(row)}"
            if row["test_auc"] is not None
            else row["reason"]
        )
        start = (
            f"started from {match['attribute']}{' reversed' if match['sign'] < 0 else ''}"
            if is_close(match)
            else "no attribute like it"
        )
        lines.append(f"{name}: {tested} ({row['description']}; {start}){_reserve(row)}")
    lines += filter(None, [temperature.told(added.get("temperature"), added["attributes"])])
    lines.append(f"Look at it: python -m galm_tf.report {shlex.quote(path)}")
    lines.append(
        f"Try it:     python -m galm_tf.predict --model={shlex.quote(os.path.join(path, 'saved_model'))} IMAGE..."
    )
    return "\n".join(lines)
