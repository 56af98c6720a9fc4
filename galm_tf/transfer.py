"""Starting a search from finished ones: policy, trunk and towers (paper §3.5; DESIGN §3.9).

Every target attribute starts from the source attribute that is most like it:
its embedding, its architecture (by the policy) and its tower. Paper: the most
correlated one by the cosine of embeddings; but a new attribute's embedding is
still random. Here, by default, the source's predictors run over the target's
training images, and the one whose scores best separate the new labels is taken;
below `MATCH_BAR` an attribute starts from nothing.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Optional, Sequence

import numpy as np

from galm_tf.config import Config
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError
from galm_tf.metrics import auc_columns
from galm_tf.reward import ScoringImages
from galm_tf.run_folder import RunFolder, read_config
from galm_tf.scoring import Scoring, image_batches
from galm_tf.search import Search
from galm_tf.supernet import build_supernet

MATCH_BAR = 0.05  # |AUC - 0.5| less its standard error, from which a match counts
_MATCH_IMAGES = 2000  # of the target's training images, at most
_POLICY = "controller/policy/"
_EMBEDDING = "policy/arm_embedding"


@dataclasses.dataclass(frozen=True)
class Source:
    """A finished run.

    Attributes:
      path: its folder.
      attributes: names, [K].
      chosen: numbers of their architectures, int64 [K].
      weights: `Supernet.variables` as arrays.
      policy: the controller's weights by the names of `ControllerTraining.variables`; empty without one.
    """

    path: str
    attributes: tuple[str, ...]
    chosen: np.ndarray
    weights: dict[str, np.ndarray]
    policy: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Match:
    """What a target attribute starts from.

    Attributes:
      source, attribute: which source, and which of its attributes.
      name: of that attribute.
      sign: -1 where the source's yes means the target's no.
      auc: of the source's scores on the target's labels, before the sign; None for a random match.
      strength: |auc - 0.5| less its standard error.
    """

    source: int
    attribute: int
    name: str
    sign: int = 1
    auc: Optional[float] = None
    strength: float = 0.0


def start_from(search: Search) -> None:
    """Gives an untrained search what the settings' source runs have learned, and notes it in its state."""
    config = search.config
    sources = [read_source(path, config) for path in config.source_run]

    def score(index: np.ndarray) -> np.ndarray:
        images = np.asarray(search.images[index])
        return np.concatenate([source_scores(source, images, config) for source in sources], axis=1)

    hand_over(search, sources, find_matches(search, sources, score))


def hand_over(search: Search, sources: Sequence[Source], matches: Sequence[Optional[Match]]) -> None:
    """Gives the search the parts of --transfer, each attribute's from its match, and notes it in the search's state."""
    config = search.config
    if "trunk" in config.transfer:
        weights = sources[_trunk_source(matches)].weights
        for name, variable in search.supernet.variables.items():
            if name.split("/")[0] not in search.supernet.tower_layer_names:
                variable.assign(weights[name])
    if "towers" in config.transfer:
        _copy_towers(search, sources, matches)
    if "policy" in config.transfer and config.method == "galm":
        _copy_policy(search, sources, matches)
    pairs = zip(search.domain.attributes, matches)
    search.state.transfer = {
        "sources": [source.path for source in sources],
        "parts": list(config.transfer),
        "match": config.match,
        "matches": {name: None if m is None else _to_json(m, sources) for name, m in pairs},
    }


def read_source(path: str, config: Config) -> Source:
    """Reads a finished run; raises UserError for what is none, or does not fit the settings."""
    theirs = read_config(path)
    folder = RunFolder(path, lock=False)
    stored = folder.load_checkpoint() if folder.has("result.json") else None
    if stored is None:
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: a run without "
            f"{'checkpoints' if folder.has('result.json') else 'result.json'}; finish it by --resume --run_dir={path}."
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
    attributes, chosen = tuple(folder.read_json("architectures.json")), np.array(meta["chosen"])
    if len(attributes) != len(chosen):
        raise UserError(
            f"Expected a finished run in --source_run={path}. Received: {len(attributes)} attributes in "
            f"architectures.json and {len(chosen)} in its last checkpoint, since it was stopped too early; run it again."
        )
    return Source(path, attributes, chosen, weights, policy)


def source_scores(source: Source, images: np.ndarray, config: Config) -> np.ndarray:
    """Margins of a source's predictors on uint8 images [n, S, S, 3], batch norms recalibrated on them: [n, K]."""
    supernet = build_supernet(len(source.attributes), config.image_size, 0.0, config.seed)
    for name, variable in supernet.variables.items():
        variable.assign(source.weights[name])
    scoring = Scoring(supernet)
    calibration = np.asarray(images[: config.calibration_images])
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
) -> list[Optional[Match]]:
    """One match or None per target attribute, by --match.

    Args:
      search: its attributes are the target's.
      sources: finished runs.
      score: int64 [n] records -> scores of all sources' predictors [n, K], one source after the other.
      index: training records to match on; some of all when left out.
    """
    config, domain = search.config, search.domain
    every = [(s, k, name) for s, source in enumerate(sources) for k, name in enumerate(source.attributes)]
    rng = generator(config.seed, Stream.MATCHES)
    if config.match == "random":
        return [Match(*every[i]) for i in rng.integers(0, len(every), len(domain.attributes))]
    if index is None:
        index = search.split.train
        index = np.sort(rng.choice(index, min(_MATCH_IMAGES, len(index)), replace=False))
    found = match_predictors(score(index), domain.labels[index], domain.class_ids[index])
    return [
        Match(*every[i], sign=1 if auc >= 0.5 else -1, auc=auc, strength=strength) if strength >= MATCH_BAR else None
        for i, auc, strength in found
    ]


def _trunk_source(matches: Sequence[Optional[Match]]) -> int:
    """The source that matches most: its trunk knows most of the target."""
    strengths: dict[int, float] = {0: 0.0}
    for match in filter(None, matches):
        strengths[match.source] = strengths.get(match.source, 0.0) + match.strength
    return max(strengths, key=strengths.__getitem__)


def _copy_towers(search: Search, sources: Sequence[Source], matches: Sequence[Optional[Match]]) -> None:
    for name, variable in search.supernet.variables.items():
        layer = name.split("/")[0]
        if layer not in search.supernet.tower_layer_names:
            continue
        value = variable.numpy()
        for row, match in enumerate(matches):
            if match is not None:
                copied = sources[match.source].weights[name][match.attribute]
                value[row] = copied[..., ::-1] if match.sign < 0 and name.startswith("head/fc3") else copied
        variable.assign(value)


def _copy_policy(search: Search, sources: Sequence[Source], matches: Sequence[Optional[Match]]) -> None:
    """Shared weights of the source that matches most; each attribute's embedding from its own match there.

    Embeddings mean something only beside the weights that they were learned
    with: an attribute that matches in another source takes its best place by chance.
    """
    main = _trunk_source(matches)
    policy = sources[main].policy
    if not policy:
        raise UserError(
            f"Expected a run of --method=galm in --source_run={sources[main].path}. Received: a run without a policy; "
            "leave policy out of --transfer."
        )
    for name, variable in search.strategy.variables.items():
        if name == _EMBEDDING:
            value = variable.numpy()
            for row, match in enumerate(matches):
                if match is not None and match.source == main:
                    value[row] = policy[name][match.attribute]
            variable.assign(value)
        elif name.startswith("policy/"):
            variable.assign(policy[name])
    search.strategy.remember_initial()


def _to_json(match: Match, sources: Sequence[Source]) -> dict[str, Any]:
    return {
        "source": os.path.basename(os.path.abspath(sources[match.source].path)),
        "attribute": match.name,
        "sign": match.sign,
        "auc": match.auc,
        "strength": match.strength,
    }
