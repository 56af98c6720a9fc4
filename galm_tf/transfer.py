"""Starting a search from finished ones: policy, trunk and towers (paper §3.5; DESIGN §3.9).

Every target attribute starts from the source attribute that is most like it
(`matching`): its embedding, its architecture (by the policy) and its tower. Where
none is like it, no policy follows. The tower starts from the nearest all the
same, because layers trained for anything are a better start than random ones, but
for its head: what that says is of another attribute, and to unlearn it distorts
the layers below (Kumar et al., "Fine-tuning can distort pretrained features and
underperform out-of-distribution", ICLR 2022). It begins at the attribute's
frequency and knows nothing else.

A policy that is handed over is softened first (`soften`), since a finished one
hardly samples anything new.

A source can also harm. With `transfer_gate_steps` the run begins twice, from
the sources and from nothing, and goes on from the better of the two. A pretrained
trunk is the source's both times.
"""

from __future__ import annotations

import logging
import zlib
from typing import Any, Sequence

import numpy as np

from galm_tf import search_space, selection, source_runs
from galm_tf.controller_training import ControllerTraining
from galm_tf.data import class_weights, log_odds
from galm_tf.draws import Stream, generator
from galm_tf.leakage import expect_unseen
from galm_tf.matching import EMBEDDING, Match, copy_trunk, find_matches, to_json, trunk_source
from galm_tf.reward import RewardTable
from galm_tf.search import Search
from galm_tf.source_runs import Source, notes, read_source, source_scores
from galm_tf.supernet import TOWER_WEIGHTS

_GATE_NOTE = (
    "The trial from the sources was judged by these validation figures too: it may have passed by what they flatter."
)
_LOGITS = ("policy/heads", "policy/head_bias")  # the logits are linear in them
_ENTROPY_SHARE, _HIGHEST_TEMPERATURE, _BISECTIONS = 0.5, 1000.0, 12


def start_from(search: Search) -> list[Source]:
    """Gives an untrained search what the settings' source runs have learned, and notes it in its state.

    Returns those that it has taken from: none where the trial from nothing was better.
    """
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
    sources = hand_over(search, sources, matches)
    started = search.state.transfer
    if config.hands_over_policy:
        started["temperature"] = soften(search.strategy)
    if fresh is not None:
        started["gate"] = _gate(fresh, search.trial_table(gate_steps))
        if not started["gate"]["passed"]:
            search.assign(before)
            started.pop("temperature", None)
            # a pretrained trunk stays, at the least projected by their images; else nothing of theirs is in the run
            if not search.trunk:
                started.update(notes=[], classes_seen=[], classes_learned=[])
                sources = []
        elif any(source_runs.learned_from_held_out(source, search.domain, search.split) for source in sources):
            started["notes"].append(_GATE_NOTE)
    for note in started["notes"]:
        logging.warning("%s", note)
    search.strategy.remember_initial()
    return sources


def hand_over(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> list[Source]:
    """Gives the search the parts of --transfer, each attribute's from its match, and notes it in the search's state;
    returns those of the sources that may give something: the others were matched and no more.
    """
    config, main = search.config, sources[trunk_source(matches)]
    if "trunk" in config.transfer:
        copy_trunk(search, main)
    if "towers" in config.transfer:
        _copy_towers(search, sources, matches)
        _begin_heads(search, np.array([not match.close for match in matches]))
    if config.hands_over_policy:
        _copy_policy(search, sources, matches)
    pairs = zip(search.domain.attributes, matches)
    taken = [main] if config.takes_one_source else list(sources)
    search.state.transfer = {
        "sources": [source.path for source in sources],
        "taken_from": taken[0].path if len(taken) < len(sources) else None,
        "policy_from": main.path if config.hands_over_policy and len(taken) > 1 else None,
        "parts": list(config.handed_over),
        "match": config.match,
        "gate": None,
        "classes_seen": sorted(frozenset().union(*(source.classes or () for source in taken))),
        "classes_learned": sorted(frozenset().union(*(source.learned for source in taken))),
        "notes": [note for source in taken for note in notes(source, search.domain, search.split)],
        "matches": {name: to_json(m, sources) for name, m in pairs},
    }
    return taken


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
    """Whether a trial from the sources beats one from nothing, by the mean reward of all architectures of all
    attributes.
    """
    means = [
        float(table.full[fresh.rewarded].mean()) if fresh.rewarded.any() else None for table in (fresh, transferred)
    ]
    return {
        "fresh_reward": means[0],
        "transferred_reward": means[1],
        "passed": means[0] is None or means[1] >= means[0],
    }


def _copy_towers(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> None:
    variables = search.supernet.variables
    for name in TOWER_WEIGHTS:
        value = variables[name].numpy()
        for row, match in enumerate(matches):
            copied = sources[match.source].weights[name][match.attribute]
            value[row] = copied[..., ::-1] if match.sign < 0 and name.startswith("head/fc3") else copied
        variables[name].assign(value)


def _begin_heads(search: Search, rows: np.ndarray) -> None:
    """Heads of bool [N] attributes that say their frequency of every image."""
    margins = _frequency_margins(search)[rows, None] * (-0.5, 0.5)  # [·, 2]
    for name, value in (("fc3_from_fc1", 0.0), ("fc3_from_fc2", 0.0), ("fc3_bias", margins)):
        variable = search.supernet.variables[f"head/{name}"]
        whole = variable.numpy()
        whole[rows] = value
        variable.assign(whole)


def _frequency_margins(search: Search) -> np.ndarray:
    """The margin of each attribute at which the loss of its training labels is least for a network that sees nothing:
    float64 [N].
    """
    index = search.validation.training_index()
    return (
        log_odds(search.domain.targets[index], class_weights(index, search.domain, search.config))
        + search.validation.margin_offsets()
    )


def _copy_policy(search: Search, sources: Sequence[Source], matches: Sequence[Match]) -> None:
    """Shared weights of the source that matches most; each attribute's embedding from its own match there.

    Embeddings mean something only beside the weights that they were learned with: an attribute that has its match
    elsewhere, or none, begins at random. Not where the run's seed put it: by the same seed the source's row i began
    there, and has hardly moved, so that it would get the policy of an attribute that is nothing like it.
    """
    main, scale = trunk_source(matches), search.config.embedding_scale
    policy = sources[main].expect_policy()
    for name, variable in search.strategy.variables.items():
        if name == EMBEDDING:
            step = zlib.crc32(policy[name].tobytes())
            value = (
                generator(search.config.seed, Stream.MATCHES, step)
                .uniform(-scale, scale, variable.shape)
                .astype(np.float32)
            )
            for row, match in enumerate(matches):
                if match.close and match.source == main:
                    value[row] = policy[name][match.attribute]
            variable.assign(value)
        elif name.startswith("policy/"):
            variable.assign(policy[name])
