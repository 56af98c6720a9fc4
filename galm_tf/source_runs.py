"""Finished runs that others start from or add to: what is read of one, whom it may serve, what its predictors say."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import Any, Callable, Optional, Sequence

import numpy as np

from galm_tf import attribute_names, frozen_trunk
from galm_tf.config import PRETRAINED_SETTINGS, READING, Config, as_flag
from galm_tf.derived import Trunk
from galm_tf.domains.build import with_classes
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.errors import UserError
from galm_tf.leakage import Learned, is_known, read_seen, split_settings
from galm_tf.pretrained import PretrainedTrunk
from galm_tf.pretrained import read as read_trunk
from galm_tf.reward import ScoringImages
from galm_tf.run_folder import DATA, RunFolder, in_use, read_config, read_json_of, run_digest
from galm_tf.scoring import Scoring
from galm_tf.supernet import TOWER_WEIGHTS, TRUNK_WEIGHTS, build_supernet

_VALIDATION_NOTE = (
    "The source run {path} was trained on classes or images that validation holds out here, so validation figures "
    "flatter; test images were not used."
)
_NAMESAKE_NOTE = "The source run {path} has seen classes of another domain that are called like tested ones ({names}): these are not new to it."
_POLICY = "controller/policy/"
DIGESTS = "source runs"  # of data.json: what tells them from others, by `run_digest`


@dataclasses.dataclass(frozen=True)
class Source(Learned):
    """A finished run.

    Attributes:
      attributes: names, [K].
      chosen: numbers of their architectures, int64 [K].
      weights: `Supernet.variables` as arrays.
      pretrained: its trunk where that is a pretrained one, of which there are no weights then.
      policy: the controller's weights by the names of `ControllerTraining.variables`; empty without one.
      learned: those of `classes` that it was trained on.
      finetuned_on_validation: whether its validation images trained it too, or the run that it has been added to.
    """

    attributes: tuple[str, ...]
    chosen: np.ndarray
    weights: dict[str, np.ndarray]
    pretrained: Optional[PretrainedTrunk]
    policy: dict[str, np.ndarray]
    learned: frozenset[str]
    finetuned_on_validation: bool

    @property
    def trunk(self) -> Callable:
        """Scaled images -> three feature maps, with batch norms as it was exported."""
        return self.pretrained.maps if self.pretrained else Trunk(self.weights)

    def expect_policy(self) -> dict[str, np.ndarray]:
        """Its policy; raises UserError where it has none."""
        if not self.policy:
            raise _without_policy(self.path)
        return self.policy


def _without_policy(path: str) -> UserError:
    return UserError(
        f"Expected a run that has left a policy in --source_run={path}. Received: one without, of another method than galm or "
        "extended without handing it over; leave policy out of --transfer, and take another --match than cosine."
    )


def read_source(path: str, config: Config, flag: str = "source_run") -> Source:
    """Reads a finished run; raises UserError for what is none, or does not fit the settings, in the name of `flag`."""
    theirs = expect_fitting(path, config, flag)
    stored = RunFolder(path, lock=False).load_checkpoint()
    if stored is None:
        raise UserError(
            f"Expected a finished run in --{flag}={path}. Received: a run without a checkpoint that can be read; restore the folder "
            "from a copy."
        )
    arrays, meta = stored
    policy = {}
    if theirs.method == "galm":
        policy = {k[len("controller/") :]: v for k, v in arrays.items() if k.startswith(_POLICY)}
    weights = {k[len("supernet/") :]: v for k, v in arrays.items() if k.startswith("supernet/")}
    attributes, chosen = tuple(read_json(path, "architectures.json", flag)), np.array(meta["chosen"])
    if len(attributes) != len(chosen):
        raise UserError(
            f"Expected a finished run in --{flag}={path}. Received: {len(attributes)} attributes in architectures.json and "
            f"{len(chosen)} in its last checkpoint; go on with it by --resume, or restore the folder from a copy."
        )
    trunk = read_trunk(path) if theirs.trunk_model else None
    _expect_whole(weights, TOWER_WEIGHTS if trunk else (*TRUNK_WEIGHTS, *TOWER_WEIGHTS), len(attributes), path, flag)
    result = read_json(path, "result.json", flag)
    # of an extended run the settings are those of its last addition
    tuned = theirs.finetunes_on_validation or bool(flattered(result))
    classes = None if result.get("classes_seen") is None else frozenset(result["classes_seen"])
    digests = read_seen(path)
    return Source(
        path, classes, digests.get("contents"), digests.get("trained"), split_settings(theirs), attributes, chosen, weights, trunk,
        policy, _learned_classes(result, tuned), tuned,
    )  # fmt: skip


def _expect_whole(weights: dict[str, np.ndarray], names: Sequence[str], count: int, path: str, flag: str) -> None:
    """Raises UserError where a checkpoint's arrays are not those of a supernet of so many attributes; names: that it
    has.
    """
    lacking = [name for name in names if name not in weights]
    lacking += [f"{name} of {count}" for name in TOWER_WEIGHTS if name in weights and len(weights[name]) != count]
    if lacking:
        raise UserError(
            f"Expected the weights of {count} attributes in the last checkpoint of --{flag}={path}. Received: no {lacking[0]}; restore "
            "the folder from a copy."
        )


def expect_fitting(path: str, config: Config, flag: str = "source_run") -> Config:
    """The settings of a finished run; raises UserError for what is none, or does not fit the settings. Quick: no data,
    no weights.
    """
    theirs = expect_finished(path, flag)
    reads_policy = config.hands_over_policy or config.match == "cosine"
    # of several, that of one
    needs_policy = config.match == "cosine" or (config.hands_over_policy and len(config.source_run) == 1)
    if needs_policy and theirs.method != "galm":
        raise _without_policy(path)
    for setting in ("image_size", *PRETRAINED_SETTINGS, *(("conditioning", "controller_cell") if reads_policy else ())):
        ours, its = getattr(config, setting), getattr(theirs, setting)
        if ours != its:
            repair = f"leave --{setting} out." if its in ("", ()) else f"set {as_flag(setting, its)}."
            if setting in PRETRAINED_SETTINGS and len(config.source_run) > 1:
                repair = "name it alone, since what is read of a pretrained trunk is of that run."
            raise UserError(
                f"Expected the {setting} of --{flag}={path}, which is {told(its)}. Received: {setting}={told(ours)}; {repair}"
            )
    return theirs


def told(value: Any) -> str:
    """A setting, for a person."""
    return (",".join(value) if isinstance(value, tuple) else str(value)) or "(nothing)"


def with_pretrained_trunk(config: Config) -> Config:
    """The settings with the pretrained trunk of their source run, where it has one and they name none; as they are
    where there is no such run.

    What they say of it otherwise stays, for `expect_fitting` to refuse.
    """
    if config.trunk_model or not any(
        os.path.exists(os.path.join(path, "config.json")) for path in config.source_run[:1]
    ):
        return config
    theirs = read_config(config.source_run[0], "source_run")
    if not theirs.trunk_model:
        return config
    unsaid = [name for name in PRETRAINED_SETTINGS if getattr(config, name) == getattr(Config(), name)]
    return dataclasses.replace(config, **{name: getattr(theirs, name) for name in unsaid})


def flattered(result: dict[str, Any]) -> list[str]:
    """The attributes that were added to a run, or to one before it, whose validation images the run had been fine-tuned
    on; from its result.json.
    """
    return (result.get("added") or {}).get("flattered", [])


def _learned_classes(result: dict[str, Any], tuned: bool) -> frozenset[str]:
    """The classes that a run was trained on, from its result.json; tuned: on those that its validation holds out
    too.
    """
    if "classes_learned" in result and not result.get("added"):
        return frozenset(result["classes_learned"])
    transfer = result.get("transfer") or {}
    before = transfer.get("classes_learned", transfer.get("classes_seen", ()))  # by its own sources
    held_out = frozenset() if tuned else frozenset(result.get("held_out_classes", ()))
    return (frozenset(result.get("classes_seen") or ()) - held_out) | frozenset(before)


def expect_finished(path: str, flag: str = "source_run") -> Config:
    """The settings of a finished run; raises UserError for what is none."""
    config = read_config(path, flag)
    if not RunFolder(path, lock=False).has("result.json"):
        received = f"without result.json; finish it by --resume --run_dir={shlex.quote(path)}"
        if in_use(path):
            received = "that is still at work; wait for its result.json"
        raise UserError(f"Expected a finished run in --{flag}={path}. Received: a run {received}.")
    if config.method == READING:
        raise UserError(
            f"Expected a run with networks in --{flag}={path}. Received: one of --method={READING}, which has readings of its "
            "trunk alone; run another method, or for further attributes this one again, with their table in --label_files."
        )
    return config


def expect_same(config: Config, folder: RunFolder) -> None:
    """Raises UserError where the source runs of one that goes on are not those that it began with; an earlier version
    did not note which.
    """
    noted = folder.read_json(DATA).get(DIGESTS) if folder.has(DATA) else None
    for path, digest in zip(config.source_run, noted or [None] * len(config.source_run)):
        expect_finished(path)
        if digest and run_digest(path) != digest:
            raise UserError(
                f"Expected the source run that the run in {folder.path} began with. Received: --source_run={path}, which is another one; name "
                "the folder where it lies now."
            )


def read_json(path: str, name: str, flag: str = "source_run") -> Any:
    """A JSON object of a source run; raises UserError when it cannot be read."""
    file = os.path.join(path, name)
    try:
        return read_json_of(dict, file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a finished run in --{flag}={path}. Received: {file}, which cannot be read ({error}); restore "
            "the folder from a copy."
        ) from error


def namesakes(source: Source, domain: Domain, split: Split) -> list[str]:
    """Names, without the domain's, of tested classes that the source has seen in another domain: `sheep` of awa and of
    apay.
    """
    classed = split.test[with_classes(domain)[split.test]]
    same = attribute_names.namesakes(domain.class_names(classed), source.classes or ())
    return sorted(set(map(attribute_names.plain, same)))


def validation_note(path: str) -> str:
    """That a source has learned from what validation holds out."""
    return _VALIDATION_NOTE.format(path=path)


def learned_from_held_out(source: Source, domain: Domain, split: Split) -> bool:
    """Whether a source was trained on classes that validation holds out here, or on images of validation."""
    if not domain.class_names(split.validation_classes).isdisjoint(source.learned):
        return True
    return source.trained is not None and bool(is_known(domain, split.validation, source.trained, split.train).any())


def notes(source: Source, domain: Domain, split: Split) -> list[str]:
    """What a reader of a run must know about one of its sources."""
    same = namesakes(source, domain, split)
    result = [validation_note(source.path)] if learned_from_held_out(source, domain, split) else []
    return result + ([_NAMESAKE_NOTE.format(path=source.path, names=", ".join(same))] if same else [])


def source_scoring(source: Source, config: Config) -> Scoring:
    """Its networks at work, on what a search by `config` is made of; the batch norms of its trunk wait for
    `Scoring.calibrate_trunk`.
    """
    count = len(source.attributes)
    supernet = (
        frozen_trunk.build_supernet(count, config)
        if source.pretrained
        else build_supernet(count, config.image_size, 0.0, seed=0)
    )
    for name, variable in supernet.variables.items():
        variable.assign(source.weights[name])
    return Scoring(supernet)


def source_scores(source: Source, images: np.ndarray, config: Config) -> np.ndarray:
    """Margins of a source's predictors, batch norms recalibrated on these images: [n, K].

    images: uint8 [n, S, S, 3], or views of its pretrained trunk.
    """
    scoring = source_scoring(source, config)
    every = np.linspace(0, len(images) - 1, min(config.calibration_images, len(images))).astype(int)  # of all classes
    calibration = np.asarray(images[every])
    scoring.calibrate_trunk(calibration)
    maps = scoring.trunk_features(np.concatenate([calibration, images]))
    labels = np.full((len(images), len(source.attributes)), np.nan, np.float32)
    features = ScoringImages(maps, len(calibration), labels, np.zeros(len(images), int))
    return scoring.score_chosen(features, range(len(source.attributes)), source.chosen)
