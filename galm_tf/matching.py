"""Which source attribute a target attribute starts from (paper §3.5; DESIGN §3.9).

Paper: the most correlated one by the cosine of embeddings; but a new attribute's
embedding is still random. Here, by default, the source's predictors run over the
target's training images, and the one whose scores best separate the new labels is
taken. Among a hundred predictors the best separates a dozen classes well by
chance. So what a match is worth is judged crosswise: the predictor that is best on
one half of the classes, on the other half. Below `MATCH_BAR` that is no match.

For comparison `cosine` is the paper's rule with its circle broken: the new
attributes' embeddings alone are trained on rewards before cosines are taken;
`random` draws.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from typing import Any, Callable, Mapping, Optional, Sequence

import numpy as np

from galm_tf import selection
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.domains.domain import Domain
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.metrics import auc_columns, both_labels
from galm_tf.reinforce import Reinforce
from galm_tf.reward import RewardTable
from galm_tf.search import Search
from galm_tf.search_space import map_side
from galm_tf.source_runs import Source
from galm_tf.supernet import TRUNK_WEIGHTS

MATCH_BAR = 0.05  # cross-fitted |AUC - 0.5| less its standard error, from which a match counts
EMBEDDING, _WEIGHT = "policy/arm_embedding", "policy/arm_weight"
EMBEDDING_RATE = 3e-2  # of Adam, where embeddings alone learn and not a policy
# By which a policy learns, and which `embedding_settings` replaces.
POLICY_SETTINGS = (
    "controller_optimizer", "controller_learning_rate", "samples_per_step", "entropy_weight", "baseline", "normalize_advantage",
)  # fmt: skip
_LEAST_NORM, _UNLIKE = 1e-6, -1.0  # of embeddings; the least cosine
_IMAGES = 2000  # of the target's training images, at most
_OF_EITHER = 100  # of either label of an attribute, where there are; an AUC does not depend on their shares


@dataclasses.dataclass(frozen=True)
class Match:
    """What a target attribute starts from.

    Attributes:
      source, attribute: which source, and which of its attributes.
      name: of that attribute.
      sign: -1 where the source's yes means the target's no.
      auc: of the source's scores on the target's labels, before the sign; None where none were asked.
      strength: of a match by predictor, `match_predictors`; the cosine of ê for a match by cosine; 0 for a random one.
      close: whether they are alike; else it is only the nearest there is.
    """

    source: int
    attribute: int
    name: str
    sign: int = 1
    auc: Optional[float] = None
    strength: float = 0.0
    close: bool = True


def match_predictors(
    scores: np.ndarray, labels: np.ndarray, class_ids: np.ndarray, photographs: np.ndarray
) -> list[tuple[int, float, float]]:
    """For every target attribute the source predictor that best separates its labels.

    Args:
      scores: float32 [n, K], margins of the source's predictors.
      labels: [n, A] in {0, 1, NaN}.
      class_ids: [n]; images of a class are alike, so classes are halved, and counted for the standard error.
      photographs: [n], numbers of those that records show, which stand for the classes of an attribute that is known of
        one class alone, as all are where data have none.

    Returns:
      [A] of (predictor, AUC, strength): the best predictor and its AUC on all labels, and `_strength` of choosing so;
      (0, 0.5, 0.0) where labels are of one kind.
    """
    result = []
    for column in labels.T:
        known = np.isfinite(column)
        seen, truth, classes = np.ascontiguousarray(scores[known].T), column[known], class_ids[known]
        if len(np.unique(truth)) < 2:
            result.append((0, 0.5, 0.0))
            continue
        if len(np.unique(classes)) < 2:
            classes = photographs[known]
        aucs = auc_columns(truth, seen)
        best = int(np.abs(aucs - 0.5).argmax())
        result.append((best, float(aucs[best]), _strength(seen, truth, classes)))
    return result


def _strength(scores: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> float:
    """What the predictor that is best on one half of the classes is worth on the other, both ways: |AUC - 0.5| less its
    standard error.

    scores: [K, n]; labels: [n] in {0, 1}. 0 where a half of the classes shows one label only: that is too few to tell.
    """
    halves = [class_halves(labels, class_ids) == half for half in (0, 1)]
    if not all(both_labels(labels[half]) for half in halves):
        return 0.0
    gains = [auc_columns(labels[half], np.ascontiguousarray(scores[:, half])) - 0.5 for half in halves]
    best = [np.abs(gain).argmax() for gain in gains]
    crosswise = [np.sign(a[k]) * b[k] for a, b, k in zip(gains, gains[::-1], best)]
    groups = [len(np.unique(class_ids[labels == label])) for label in (0, 1)]
    return float(np.mean(crosswise)) - _auc_error(*groups)


def class_halves(labels: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Which half each record's class is in: int64 [n] in {0, 1}; classes are dealt in turn, by their share of
    positives.
    """
    _, index = np.unique(class_ids, return_inverse=True)
    order = (np.bincount(index, labels) / np.bincount(index)).argsort(kind="stable")
    return order.argsort()[index] % 2


def _auc_error(positives: int, negatives: int) -> float:
    """Standard error of the AUC of a scorer that knows nothing (Mann & Whitney 1947)."""
    return float(np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


def find_matches(
    search: Search,
    sources: Sequence[Source],
    score: Callable[[np.ndarray], np.ndarray],
    some: int = _IMAGES,
) -> list[Match]:
    """One per target attribute, by --match.

    A tower does not fit another run's trunk, nor an embedding another run's controller: unless towers are handed over
    without a trunk, all attributes match within one source. For that every source is matched by itself, and the one is
    taken whose close matches are the strongest in sum; among equals the one that most attributes choose where all stand
    open, then the first.

    Args:
      search: its attributes are the target's.
      sources: finished runs.
      score: int64 [n] records -> scores of all sources' predictors [n, K], one source after the other.
      some: how many of all training records to match on (`match_records`).
    """
    config = search.config
    every = [(s, k, name) for s, source in enumerate(sources) for k, name in enumerate(source.attributes)]
    others = {"random": _random_matches, "cosine": _cosine_matches}
    if config.match in others:
        find = others[config.match](search, sources)
    else:
        rng = generator(config.seed, Stream.MATCHES)
        index, labels = match_records(search.domain.labels, search.split.train, rng, some)
        find = _predictor_matches(search.domain, score(index), index, labels)
    matches = find(every, np.arange(len(every)))
    if len(sources) == 1 or not config.takes_one_source:
        return matches
    columns = [np.flatnonzero([s == source for s, _, _ in every]) for source in range(len(sources))]
    within = [find(every, its) for its in columns]
    chosen = collections.Counter(match.source for match in matches)
    main = max(range(len(sources)), key=lambda source: (_close_strength(within[source]), chosen[source]))
    if config.match == "cosine" and config.freeze_trunk and main:
        return _cosine_matches(search, sources, main)(every, columns[main])  # on the trunk that is taken
    return within[main]


def copy_trunk(search: Search, source: Source) -> None:
    """Gives a search the trunk of a source; nothing to do where that is a pretrained one."""
    for name in TRUNK_WEIGHTS:
        if name in search.supernet.variables:
            search.supernet.variables[name].assign(source.weights[name])


# (every source attribute, which may match int64 [k])
_Find = Callable[[Sequence[tuple[int, int, str]], np.ndarray], list[Match]]


def _random_matches(search: Search, sources: Sequence[Source]) -> _Find:
    rng, count = generator(search.config.seed, Stream.MATCHES), len(search.domain.attributes)
    return lambda every, columns: [Match(*every[i]) for i in columns[rng.integers(0, len(columns), count)]]


def _cosine_matches(search: Search, sources: Sequence[Source], trunk: int = 0) -> _Find:
    """By embeddings that learn the target's rewards in a trial, on the trunk of source `trunk` where it shall stay as
    it is.
    """
    config = search.config
    before = search.supernet.weights
    if config.freeze_trunk:
        copy_trunk(search, sources[trunk])
    table = selection.less_size(search.trial_table(config.warmup_steps), config.size_penalty, map_side(config))
    for name, variable in search.supernet.variables.items():
        variable.assign(before[name])
    cosines = np.concatenate([source_cosines(source, table, config) for source in sources], axis=1)
    return lambda every, columns: [
        # without a reward its e is still random
        Match(*every[i], strength=float(row[i]), close=bool(rewarded and row[i] > _UNLIKE))
        for row, i, rewarded in zip(cosines, columns[cosines[:, columns].argmax(axis=1)], table.rewarded)
    ]


def _predictor_matches(domain: Domain, scores: np.ndarray, index: np.ndarray, labels: np.ndarray) -> _Find:
    """By scores [m, K] and labels [m, A] of records `index`, int64 [m]."""

    def find(every, columns):
        found = match_predictors(scores[:, columns], labels, domain.class_ids[index], domain.photographs[index])
        return [
            Match(
                *every[columns[i]],
                sign=1 if auc >= 0.5 else -1,
                auc=auc,
                strength=strength,
                close=strength >= MATCH_BAR,
            )
            for i, auc, strength in found
        ]

    return find


def match_records(
    labels: np.ndarray, train: np.ndarray, rng: np.random.Generator, some: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training records to match on: `some` of all, and more of a label of an attribute of which these show few.

    What was drawn for one attribute is no sample of another's label, whose match it would tell wrongly: there the label
    counts as unknown.

    Args:
      labels: [n, A] in {0, 1, NaN}.
      train: int64, records.
      rng: draws them.
      some: how many of all.

    Returns:
      int64 [m], sorted, and their labels, float32 [m, A]: of either label of each attribute at least _OF_EITHER, or all
      that there are.
    """
    first = rng.choice(train, min(some, len(train)), replace=False)
    rest, taken = np.setdiff1d(train, first), []
    for column in labels.T:
        own = [first]
        for label in (0, 1):
            more = rest[column[rest] == label]
            lacking = max(0, _OF_EITHER - int((column[first] == label).sum()))
            own.append(rng.choice(more, min(lacking, len(more)), replace=False))
        taken.append(np.concatenate(own))
    index = np.unique(np.concatenate(taken))
    known = [np.where(np.isin(index, own), column[index], np.nan) for own, column in zip(taken, labels.T)]
    return index, np.stack(known, axis=1).astype(np.float32)


def source_cosines(source: Source, table: RewardTable, config: Config) -> np.ndarray:
    """Cosine of ê between every target attribute and every attribute of a source: float32 [A, K].

    Paper §3.5: the most correlated attribute by ARM. A new attribute's e is
    random, so it is trained first, on the target's own rewards under the
    source's policy, of which nothing else moves.

    Args:
      source: has a policy.
      table: the target's rewards [A, 2304]; an attribute without any keeps its random e.
      config: controller_steps of samples_per_step rewards are what an e is trained on; where it asks for plain ascent, by
        which none moves, those of a default policy at `EMBEDDING_RATE`.
    """
    config = embedding_settings(config)
    policy = source.expect_policy()
    # Not the run's seed: by that of the source, row i would begin where the source's row i began.
    seed = int(tensor_seed(config.seed, Stream.MATCHES)[0])
    controller = Controller.of(config, len(table.full), seed)
    named = {f"policy/{name}": v for name, v in controller.named_variables.items()}
    for name, variable in named.items():
        if name != EMBEDDING:
            variable.assign(policy[name])
    learner = Reinforce(controller, config, config.controller_steps, seed, trained=("arm_embedding",))
    if table.rewarded.any():
        learner.train_on_table(table.full, table.rewarded, 0, config.controller_steps)
    vectors = controller.arm.vectors().numpy(), policy_vectors(policy)
    new, known = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), _LEAST_NORM) for v in vectors)
    # begun at 0, those of attributes without a reward stay there
    return np.where(known.any(axis=1), new @ known.T, _UNLIKE)


def embedding_settings(config: Config) -> Config:
    """Settings by which embeddings alone learn: of the controller's steps only how many there are need be the run's."""
    if config.controller_optimizer == "adam":
        return config
    default = {name: getattr(Config(), name) for name in POLICY_SETTINGS}
    return dataclasses.replace(config, **{**default, "controller_learning_rate": EMBEDDING_RATE})


def policy_vectors(policy: Mapping[str, np.ndarray]) -> np.ndarray:
    """ê of every attribute, [K, D], by the weights of a policy (`Source.policy`)."""
    return policy[EMBEDDING] @ policy[_WEIGHT].T


def trunk_source(matches: Sequence[Match]) -> int:
    """The source that matches most, where that is equal most often: its trunk knows most of the target."""
    found: dict[int, list[Match]] = {}
    for match in matches:
        found.setdefault(match.source, []).append(match)
    return max(sorted(found), key=lambda source: (_close_strength(found[source]), len(found[source])))


def _close_strength(matches: Sequence[Match]) -> float:
    return sum(match.strength for match in matches if match.close)


def to_json(match: Match, sources: Sequence[Source]) -> dict[str, Any]:
    """What result.json says of a match; `matches` reads it."""
    return {
        "source": os.path.basename(os.path.abspath(sources[match.source].path)),
        "attribute": match.name,
        "sign": match.sign,
        "auc": match.auc,
        "strength": match.strength,
        "close": match.close,
    }
