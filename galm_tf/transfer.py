"""Starting a search from finished ones: policy, trunk and towers (paper §3.5; DESIGN §3.9).

Every target attribute starts from the source attribute that is most like it:
its embedding, its architecture (by the policy) and its tower. Paper: the most
correlated one by the cosine of embeddings; but a new attribute's embedding is
still random. Here, by default, the source's predictors run over the target's
training images, and the one whose scores best separate the new labels is taken.
Below `MATCH_BAR` that is no match: nothing is said of it and no policy follows
from it, but the tower starts from it all the same, because layers trained for
anything are a better start than random ones. For comparison `cosine` is
the paper's rule with its circle broken: the new attributes' embeddings alone
are trained on rewards before cosines are taken; `random` draws.

A policy that is handed over is softened first (`soften`), since a finished one
hardly samples anything new.

A source can also harm. With `transfer_gate_steps` the run begins twice, from
the sources and from nothing, and goes on from the better of the two.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from typing import Any, Callable, Optional, Sequence

import numpy as np

from galm_tf import search_space, selection
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.controller_training import ControllerTraining
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.errors import UserError
from galm_tf.metrics import auc_columns
from galm_tf.reinforce import Reinforce
from galm_tf.reward import RewardTable, ScoringImages
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.scoring import Scoring, image_batches
from galm_tf.search import Search
from galm_tf.supernet import build_supernet

MATCH_BAR = 0.05  # |AUC - 0.5| less its standard error, from which a match counts
_MATCH_IMAGES = 2000  # of the target's training images, at most
_MATCH_OF_EITHER = 100  # of either label of an attribute, where there are; an AUC does not depend on their shares
_VALIDATION_NOTE = (
    "The source run {path} was fine-tuned on classes that validation holds out here, so validation figures flatter; test "
    "images were not used."
)
_NAMESAKE_NOTE = (
    "The source run {path} has seen classes of another domain that are called like tested ones ({names}): these are not new to it."
)
_POLICY = "controller/policy/"
_EMBEDDING = "policy/arm_embedding"
_LOGITS = ("policy/heads", "policy/head_bias")  # the logits are linear in them
_ENTROPY_SHARE, _HIGHEST_TEMPERATURE, _BISECTIONS = 0.5, 1000.0, 12


@dataclasses.dataclass(frozen=True)
class Source:
    """A finished run.

    Attributes:
      path: its folder.
      attributes: names, [K].
      chosen: numbers of their architectures, int64 [K].
      weights: `Supernet.variables` as arrays.
      policy: the controller's weights by the names of `ControllerTraining.variables`; empty without one.
      classes: names of those whose images it was trained or validated on; None where an earlier version did not say.
      split: its settings of who is tested.
      finetuned_on_validation: whether its validation images trained it too.
    """

    path: str
    attributes: tuple[str, ...]
    chosen: np.ndarray
    weights: dict[str, np.ndarray]
    policy: dict[str, np.ndarray]
    classes: Optional[frozenset[str]]
    split: dict[str, Any]
    finetuned_on_validation: bool


@dataclasses.dataclass(frozen=True)
class Match:
    """What a target attribute starts from.

    Attributes:
      source, attribute: which source, and which of its attributes.
      name: of that attribute.
      sign: -1 where the source's yes means the target's no.
      auc: of the source's scores on the target's labels, before the sign; None where none were asked.
      strength: |auc - 0.5| less its standard error; the cosine of ê for a match by cosine; 0 for a random one.
      close: whether they are alike; else it is only the nearest there is.
    """

    source: int
    attribute: int
    name: str
    sign: int = 1
    auc: Optional[float] = None
    strength: float = 0.0
    close: bool = True


def start_from(search: Search) -> None:
    """Gives an untrained search what the settings' source runs have learned, and notes it in its state."""
    config = search.config
    sources = [read_source(path, config) for path in config.source_run]

    def score(index: np.ndarray) -> np.ndarray:
        images = np.asarray(search.images[index])
        return np.concatenate([source_scores(source, images, config) for source in sources], axis=1)

    for source in sources:
        expect_unseen(source, config, search.domain, search.split)
    gate_steps = config.transfer_gate_steps
    fresh = search.trial_table(gate_steps) if gate_steps else None
    matches = find_matches(search, sources, score)
    before = search.arrays()
    hand_over(search, sources, matches)
    if config.hands_over_policy:
        search.state.transfer["temperature"] = soften(search.strategy)
    if fresh is not None:
        gate = _gate(fresh, search.trial_table(gate_steps))
        search.state.transfer["gate"] = gate
        if not gate["passed"]:
            search.assign(before)
    search.strategy.remember_initial()


def hand_over(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> None:
    """Gives the search the parts of --transfer, each attribute's from its match, and notes it in the search's state."""
    config = search.config
    if "trunk" in config.transfer:
        weights = sources[_trunk_source(matches)].weights
        for name, variable in search.supernet.variables.items():
            if name.split("/")[0] not in search.supernet.tower_layer_names:
                variable.assign(weights[name])
    if "towers" in config.transfer:
        _copy_towers(search, sources, matches)
    if config.hands_over_policy:
        _copy_policy(search, sources, matches)
    pairs = zip(search.domain.attributes, matches)
    search.state.transfer = {
        "sources": [source.path for source in sources],
        "parts": [part for part in config.transfer if part != "policy" or config.hands_over_policy],
        "match": config.match,
        "gate": None,
        "classes_seen": sorted(frozenset().union(*(source.classes or () for source in sources))),
        "notes": [note for source in sources for note in _notes(source, search)],
        "matches": {name: _to_json(m, sources) for name, m in pairs},
    }


def soften(policy: ControllerTraining) -> float:
    """Divides the policy's logits by the temperature that brings its mean entropy to half of the greatest; returns it.

    A finished search leaves a policy that is nearly certain. Started from it,
    REINFORCE samples what it samples already and learns nothing of the target.
    """
    parts = [policy.variables[name] for name in _LOGITS]
    values = [part.numpy() for part in parts]
    target = _ENTROPY_SHARE * np.log(search_space.NUM_ARCHITECTURES)
    if selection.entropy(policy.log_probs()) >= target:
        return 1.0

    def entropy(log_temperature: float) -> float:
        for part, value in zip(parts, values):
            part.assign(value / np.exp(log_temperature))
        return selection.entropy(policy.log_probs())

    low, high = 0.0, np.log(_HIGHEST_TEMPERATURE)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if entropy(middle) < target else (low, middle)
    entropy(high)
    return float(np.exp(high))


def _gate(fresh: RewardTable, transferred: RewardTable) -> dict[str, Any]:
    """Whether a trial from the sources beats one from nothing, by the mean reward of all architectures of all attributes."""
    means = [float(table.full[fresh.rewarded].mean()) if fresh.rewarded.any() else None for table in (fresh, transferred)]
    return {"fresh_reward": means[0], "transferred_reward": means[1], "passed": means[0] is None or means[1] >= means[0]}


def read_source(path: str, config: Config) -> Source:
    """Reads a finished run; raises UserError for what is none, or does not fit the settings."""
    theirs = expect_finished(path)
    stored = RunFolder(path, lock=False).load_checkpoint()
    if stored is None:
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: a run without checkpoints; restore the folder from a copy."
        )
    for setting in ("image_size", "conditioning", "controller_cell"):
        ours, its = getattr(config, setting), getattr(theirs, setting)
        if ours != its:
            raise UserError(
                f"Expected the {setting} of --source_run={path}, which is {its}. Received: {setting}={ours}; "
                f"set --{setting}={its}."
            )
    arrays, meta = stored
    policy = {}
    if theirs.method == "galm":
        policy = {k[len("controller/") :]: v for k, v in arrays.items() if k.startswith(_POLICY)}
    weights = {k[len("supernet/") :]: v for k, v in arrays.items() if k.startswith("supernet/")}
    attributes, chosen = tuple(read_json(path, "architectures.json")), np.array(meta["chosen"])
    if len(attributes) != len(chosen):
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: {len(attributes)} attributes in "
            f"architectures.json and {len(chosen)} in its last checkpoint, since it was stopped too early; run it again."
        )
    classes = read_json(path, "result.json").get("classes_seen")
    classes = None if classes is None else frozenset(classes)
    return Source(
        path, attributes, chosen, weights, policy, classes, _split_settings(theirs), theirs.finetunes_on_validation
    )


def expect_finished(path: str) -> Config:
    """The settings of a finished run; raises UserError for what is none."""
    config = read_config(path)
    if not RunFolder(path, lock=False).has("result.json"):
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: a run without result.json; finish it by --resume "
            f"--run_dir={path}."
        )
    return config


def read_json(path: str, name: str) -> Any:
    """A JSON file of a source run; raises UserError when it cannot be read."""
    file = os.path.join(path, name)
    try:
        with open(file, encoding="utf-8") as opened:
            return json.load(opened)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: {file}, which cannot be read ({error}); restore "
            "the folder from a copy."
        ) from error


def _split_settings(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("split_seed", "splits_file", "test_split")}


def expect_unseen(source: Source, config: Config, domain: Domain, split: Split, flag: str = "source_run") -> None:
    """Raises UserError where a source has seen classes, or may have seen images, on which a target is tested.

    Args:
      source: the run that something is taken from.
      config: the target's settings.
      domain, split: who is tested.
      flag: which names the source.
    """
    if source.classes is None:
        raise UserError(
            "Expected a run whose result.json says which classes it has seen. Received: "
            f"--{flag}={source.path}, made by an earlier version; make it anew."
        )
    tested = domain.class_names(split.test)
    shown = domain.class_names(split.trained)
    seen = sorted((tested - shown) & source.classes)
    ours = _split_settings(config)
    if source.split != ours:  # classes of both sides: their images must be divided alike
        seen = sorted(tested & source.classes)
    if seen:
        more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
        same = ", ".join(f"--{k}={v}" for k, v in source.split.items())
        repair = f"give both runs the same split: {same}" if source.split != ours else "take another source, or the --seed of its split"
        raise UserError(
            f"Expected a source that has not seen the classes that are tested. Received: --{flag}={source.path}, which "
            f"has seen {seen[0]}{more}; {repair}."
        )


def namesakes(source: Source, domain: Domain, split: Split) -> list[str]:
    """Names, without the domain's, of tested classes that the source has seen in another domain: `sheep` of awa and of apay."""
    tested, seen = ({_plain(name): name for name in names} for names in (domain.class_names(split.test), source.classes or ()))
    return sorted(name for name in tested if name in seen and tested[name] != seen[name])


def _plain(name: str) -> str:
    """`awa/polar+bear` -> `polar bear`."""
    return re.sub(r"[\W_]+", " ", name.split("/", 1)[-1].lower()).strip()


def _notes(source: Source, search: Search) -> list[str]:
    """What a reader of the run must know about one of its sources."""
    same = namesakes(source, search.domain, search.split)
    notes = [_VALIDATION_NOTE.format(path=source.path)] if _tuned_on_validation(source, search) else []
    return notes + ([_NAMESAKE_NOTE.format(path=source.path, names=", ".join(same))] if same else [])


def _tuned_on_validation(source: Source, search: Search) -> bool:
    """Whether the source was fine-tuned on classes that the search holds out for validation."""
    held_out = search.domain.class_names(search.split.validation_classes)
    return source.finetuned_on_validation and not held_out.isdisjoint(source.classes or ())


def source_scores(source: Source, images: np.ndarray, config: Config) -> np.ndarray:
    """Margins of a source's predictors on uint8 images [n, S, S, 3], batch norms recalibrated on them: [n, K]."""
    supernet = build_supernet(len(source.attributes), config.image_size, 0.0, config.seed)
    for name, variable in supernet.variables.items():
        variable.assign(source.weights[name])
    scoring = Scoring(supernet)
    every = np.linspace(0, len(images) - 1, min(config.calibration_images, len(images))).astype(int)  # of all classes
    calibration = np.asarray(images[every])
    scoring.calibrate_trunk(calibration)
    everything = np.concatenate([calibration, images])
    maps = scoring.trunk_features(image_batches(everything, np.arange(len(everything))))
    labels = np.full((len(images), len(source.attributes)), np.nan, np.float32)
    features = ScoringImages(maps, len(calibration), labels, np.zeros(len(images), int))
    return scoring.score_chosen(features, range(len(source.attributes)), source.chosen)


def match_predictors(scores: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> list[tuple[int, float, float]]:
    """For every target attribute the source predictor that best separates its labels.

    Args:
      scores: [n, K] margins of the source's predictors.
      labels: [n, A] in {0, 1, NaN}.
      class_ids: [n]; images of a class are alike, so classes are counted for the standard error.

    Returns:
      [A] of (predictor, AUC, strength); (0, 0.5, 0.0) where labels are of one kind.
    """
    result = []
    for column in labels.T:
        known = np.isfinite(column)
        positive = column > 0.5
        groups = [len(np.unique(class_ids[known & side])) for side in (positive, ~positive)]
        if not all(groups):
            result.append((0, 0.5, 0.0))
            continue
        aucs = auc_columns(column[known], np.ascontiguousarray(scores[known].T))
        strengths = np.abs(aucs - 0.5) - _auc_error(*groups)
        best = int(strengths.argmax())
        result.append((best, float(aucs[best]), float(strengths[best])))
    return result


def _auc_error(positives: int, negatives: int) -> float:
    """Standard error of the AUC of a scorer that knows nothing (Mann & Whitney 1947)."""
    return float(np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


def find_matches(
    search: Search,
    sources: Sequence[Source],
    score: Callable[[np.ndarray], np.ndarray],
    index: Optional[np.ndarray] = None,
) -> list[Match]:
    """One per target attribute, by --match.

    A tower does not fit another run's trunk: where both are handed over, all attributes match within the source that
    matches most.

    Args:
      search: its attributes are the target's.
      sources: finished runs.
      score: int64 [n] records -> scores of all sources' predictors [n, K], one source after the other.
      index: training records to match on; by `match_index` when left out.
    """
    config = search.config
    every = [(s, k, name) for s, source in enumerate(sources) for k, name in enumerate(source.attributes)]
    others = {"random": _random_matches, "cosine": _cosine_matches}
    if config.match in others:
        find = others[config.match](search, sources)
    else:
        if index is None:
            index = match_index(search.domain.labels, search.split.train, generator(config.seed, Stream.MATCHES))
        find = _predictor_matches(search, score(index), index)
    matches = find(every, np.arange(len(every)))
    if len(sources) > 1 and {"trunk", "towers"} <= set(config.transfer):
        main = _trunk_source(matches)
        matches = find(every, np.flatnonzero([s == main for s, _, _ in every]))
    return matches


_Find = Callable[[Sequence[tuple[int, int, str]], np.ndarray], list[Match]]  # (every source attribute, which may match int64 [k])


def _random_matches(search: Search, sources: Sequence[Source]) -> _Find:
    rng, count = generator(search.config.seed, Stream.MATCHES), len(search.domain.attributes)
    return lambda every, columns: [Match(*every[i]) for i in columns[rng.integers(0, len(columns), count)]]


def _cosine_matches(search: Search, sources: Sequence[Source]) -> _Find:
    table = search.trial_table(search.config.warmup_steps)
    cosines = np.concatenate([source_cosines(source, table, search.config) for source in sources], axis=1)
    return lambda every, columns: [
        Match(*every[i], strength=float(row[i])) for row, i in zip(cosines, columns[cosines[:, columns].argmax(axis=1)])
    ]


def _predictor_matches(search: Search, scores: np.ndarray, index: np.ndarray) -> _Find:
    domain = search.domain

    def find(every, columns):
        found = match_predictors(scores[:, columns], domain.labels[index], domain.class_ids[index])
        return [
            Match(*every[columns[i]], sign=1 if auc >= 0.5 else -1, auc=auc, strength=strength, close=strength >= MATCH_BAR)
            for i, auc, strength in found
        ]

    return find


def match_index(labels: np.ndarray, train: np.ndarray, rng: np.random.Generator, some: int = _MATCH_IMAGES) -> np.ndarray:
    """Training records to match on: `some` of all, and more of a label of an attribute of which these show few.

    Args:
      labels: [n, A] in {0, 1, NaN}.
      train: int64, records.
      rng: draws them.
      some: how many of all.

    Returns:
      int64, sorted: of either label of each attribute at least _MATCH_OF_EITHER records, or all that there are.
    """
    drawn = [rng.choice(train, min(some, len(train)), replace=False)]
    rest = np.setdiff1d(train, drawn[0])
    for column in labels.T:
        for label in (0, 1):
            more = rest[column[rest] == label]
            lacking = max(0, _MATCH_OF_EITHER - int((column[drawn[0]] == label).sum()))
            drawn.append(rng.choice(more, min(lacking, len(more)), replace=False))
    return np.unique(np.concatenate(drawn))


def source_cosines(source: Source, table: RewardTable, config: Config) -> np.ndarray:
    """Cosine of ê between every target attribute and every attribute of a source: float32 [A, K].

    Paper §3.5: the most correlated attribute by ARM. A new attribute's e is
    random, so it is trained first, on the target's own rewards under the
    source's policy, of which nothing else moves.

    Args:
      source: has a policy.
      table: the target's rewards [A, 2304]; an attribute without any keeps its random e.
      config: controller_steps of samples_per_step rewards are what an e is trained on.
    """
    policy = _policy(source)
    # Not the run's seed: by that of the source, row i would begin where the source's row i began.
    seed = int(tensor_seed(config.seed, Stream.MATCHES)[0])
    controller = Controller(
        len(table.full), embedding_scale=config.embedding_scale, conditioning=config.conditioning, seed=seed,
        cell=config.controller_cell,
    )  # fmt: skip
    named = {f"policy/{name}": v for name, v in controller.named_variables.items()}
    for name, variable in named.items():
        if name != _EMBEDDING:
            variable.assign(policy[name])
    learner = Reinforce(controller, config, config.controller_steps, seed, trained=("arm_embedding",))
    if table.rewarded.any():
        learner.train_on_table(table.full, table.rewarded, 0, config.controller_steps)
    vectors = controller.arm.vectors().numpy(), policy[_EMBEDDING] @ policy["policy/arm_weight"].T
    new, known = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
    return new @ known.T


def _policy(source: Source) -> dict[str, np.ndarray]:
    """The source's policy; raises UserError where it has none."""
    if not source.policy:
        raise UserError(
            f"Expected a run of --method=galm in --source_run={source.path}. Received: a run without a policy; "
            "leave policy out of --transfer, and take another --match than cosine."
        )
    return source.policy


def _trunk_source(matches: Sequence[Match]) -> int:
    """The source that matches most: its trunk knows most of the target."""
    strengths: dict[int, float] = {0: 0.0}
    for match in (m for m in matches if m.close):
        strengths[match.source] = strengths.get(match.source, 0.0) + match.strength
    return max(strengths, key=strengths.__getitem__)


def _copy_towers(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> None:
    for name, variable in search.supernet.variables.items():
        layer = name.split("/")[0]
        if layer not in search.supernet.tower_layer_names:
            continue
        value = variable.numpy()
        for row, match in enumerate(matches):
            copied = sources[match.source].weights[name][match.attribute]
            value[row] = copied[..., ::-1] if match.sign < 0 and name.startswith("head/fc3") else copied
        variable.assign(value)


def _copy_policy(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> None:
    """Shared weights of the source that matches most; each attribute's embedding from its own match there.

    Embeddings mean something only beside the weights that they were learned
    with: an attribute that matches in another source takes its best place by chance.
    """
    main = _trunk_source(matches)
    policy = _policy(sources[main])
    for name, variable in search.strategy.variables.items():
        if name == _EMBEDDING:
            value = variable.numpy()
            for row, match in enumerate(matches):
                if match.close and match.source == main:
                    value[row] = policy[name][match.attribute]
            variable.assign(value)
        elif name.startswith("policy/"):
            variable.assign(policy[name])


def _to_json(match: Match, sources: Sequence[Source]) -> dict[str, Any]:
    return {
        "source": os.path.basename(os.path.abspath(sources[match.source].path)),
        "attribute": match.name,
        "sign": match.sign,
        "auc": match.auc,
        "strength": match.strength,
        "close": match.close,
    }
