"""Choosing one architecture per attribute, and measuring how well that was done.

A table of rewards is noisy: its best entry is partly luck. So a choice made on
one half of validation is judged on the other (DESIGN §3.4). Regret on the very
table that the policy saw is only a check of the optimiser.
"""

from __future__ import annotations

import itertools
from typing import Iterator, Optional

import numpy as np

from galm_tf import network_size, search_space
from galm_tf.reward import RewardTable


def canonical_log_probs(log_probs: np.ndarray) -> np.ndarray:
    """Sums the probability of architectures that are the same network.

    Args:
      log_probs: [A, 2304].

    Returns:
      [A, 2304]: the sum at each canonical number, -inf at the numbers of void twins.
    """
    twins = search_space.canonical_numbers()
    order = np.argsort(twins, kind="stable")
    numbers, starts = np.unique(twins[order], return_index=True)
    result = np.full(log_probs.shape, -np.inf)
    result[:, numbers] = np.logaddexp.reduceat(log_probs[:, order], starts, axis=1)
    return result


def entropy(log_probs: np.ndarray) -> float:
    """Mean entropy per architecture of a policy [A, 2304], in nats."""
    return float(-(np.exp(log_probs) * log_probs).sum(axis=1).mean())


def most_probable(log_probs: np.ndarray) -> np.ndarray:
    """The likeliest choice of every decision, given those before it; whether there is an Fc-2 comes before its width.

    Not the network of the greatest pooled probability: one without Fc-2 goes by three of the 2304 numbers, and of a
    nearly uniform policy would be taken whatever that has learned.

    Args:
      log_probs: [A, 2304].

    Returns:
      int64 [A], canonical numbers.
    """
    grid = np.exp(log_probs - log_probs.max(axis=1, keepdims=True)).reshape(-1, *search_space.NUM_CHOICES)
    grid, rows, choices = grid.swapaxes(-1, -2), np.arange(len(grid)), []
    while grid.ndim > 1:
        choices.append(grid.sum(axis=tuple(range(2, grid.ndim))).argmax(axis=1))
        grid = grid[rows, choices[-1]]
    *others, fc3_input, fc2_width = choices
    numbers = np.ravel_multi_index((*others, fc2_width, fc3_input), search_space.NUM_CHOICES)
    return search_space.canonical_numbers()[numbers]


def derive(log_probs: np.ndarray, table: Optional[RewardTable], top: int) -> np.ndarray:
    """The policy's `most_probable` architecture and those of the greatest probability, re-ranked by reward.

    Args:
      log_probs: [A, 2304] of the policy.
      table: rewards; attributes without one, or no table, take the most probable.
      top: how many distinct ones are re-ranked.

    Returns:
      int64 [A], numbers of architectures.
    """
    pooled = canonical_log_probs(log_probs)
    pooled[np.arange(len(pooled)), most_probable(log_probs)] = np.inf  # the first
    candidates = np.argsort(-pooled, axis=1, kind="stable")[:, :top]
    if table is None:
        return candidates[:, 0]
    rewards = np.take_along_axis(np.nan_to_num(table.full, nan=-np.inf), candidates, axis=1)
    return candidates[np.arange(len(candidates)), rewards.argmax(axis=1)]


def specialisation(table: RewardTable, choices: Optional[tuple[np.ndarray, np.ndarray]] = None) -> np.ndarray:
    """Per attribute: reward of an architecture of its own minus that of the best single one.

    Chosen on one half of validation, judged on the other, mean of both
    directions: float64 [cross-fitted attributes]. Its mean is S of DESIGN §3.4.

    choices: two int [A], who saw only half 0, or only half 1; the best of that half when left out.
    """
    rows = np.flatnonzero(table.crossfitted)
    if not len(rows):
        return np.zeros(0)
    gains = []
    for half in (0, 1):
        seen, judged = table.halves[half][rows], table.halves[1 - half][rows]
        own = seen.argmax(axis=1) if choices is None else choices[half][rows]
        gains.append(judged[np.arange(len(rows)), own] - judged[:, int(seen.mean(axis=0).argmax())])
    return np.mean(gains, axis=0, dtype=np.float64)


# Beside a skill, for a reader.
SKILL_CAVEAT = "A ratio of two small gains: far above 1 says that there were too few images to tell."


def crossfitted_skill(table: RewardTable, choices: tuple[np.ndarray, np.ndarray]) -> Optional[float]:
    """Skill of DESIGN §3.4: (policy - random) / (best of the same half - random), all judged on the other half.

    Args:
      table: rewards.
      choices: two int [A]: the architectures chosen by a policy that saw only
        the first, or only the second half.

    Returns:
      1 when the policy chooses as well as the best of the table, 0 when no better
      than a random architecture; None when nothing can be judged, or when the
      best of one half gains nothing on the other.
    """
    rows = np.flatnonzero(table.crossfitted)
    gained = possible = 0.0
    for half, chosen in enumerate(choices):
        seen, judged = table.halves[half][rows], table.halves[1 - half][rows]
        random = judged.mean(axis=1)
        index = np.arange(len(rows))
        gained += float((judged[index, chosen[rows]] - random).sum())
        possible += float((judged[index, seen.argmax(axis=1)] - random).sum())
    return gained / possible if possible > 0 else None


def regret(table: RewardTable, chosen: np.ndarray) -> Optional[float]:
    """(best - chosen) / (best - mean) on the table itself, over rewarded attributes; None without any."""
    rows = table.rewarded
    if not rows.any():
        return None
    rewards = table.full[rows].astype(np.float64)
    best, mean = rewards.max(axis=1), rewards.mean(axis=1)
    got = rewards[np.arange(len(rewards)), chosen[rows]]
    spread = float((best - mean).sum())
    return float((best - got).sum()) / spread if spread > 0 else 0.0


def choice_frequencies(numbers: np.ndarray) -> dict[str, dict[str, Optional[float]]]:
    """Table 4: decision -> choice -> share of architectures that take it; void Fc-2 widths stay out: None where none
    has an Fc-2.
    """
    architectures = [search_space.Architecture.from_number(n).canonical() for n in numbers]
    result = {}
    for decision in search_space.DECISIONS:
        values = [getattr(a, decision.name) for a in architectures]
        if decision.name == "fc2_width":
            values = [v for v in values if v]  # 0 is void
        shares = [float(np.mean([v == choice for v in values])) if values else None for choice in decision.choices]
        result[decision.name] = dict(zip(map(str, decision.choices), shares))
    return result


def less_size(table: RewardTable, penalty: float, side: int) -> RewardTable:
    """Rewards less `penalty` for every doubling of a tower's multiply-adds; the table itself where it is 0.

    A search on them weighs accuracy against size (as MnasNet does with latency; Tan et al. 2019), and of networks that
    validation hardly tells apart it takes the smaller. An architecture of the geometric mean size loses nothing.
    """
    if not penalty:
        return table
    cost = (penalty * network_size.relative_sizes(side)).astype(np.float32)
    return RewardTable(table.full - cost, (table.halves[0] - cost, table.halves[1] - cost))


def shrunken_rewards(table: RewardTable) -> np.ndarray:
    """The table with its noise shrunk away: float64 [A, 2304].

    The 2304 architectures are all combinations of ten decisions, so a row of
    rewards is a sum of main effects, of interactions of two decisions, and of
    a rest that is dropped. Each effect of an attribute is drawn towards the
    mean of all attributes as far as the two halves of validation disagree on
    it (empirical Bayes; Efron & Morris 1975). An attribute without a reward
    gets the means.
    """
    rows = np.flatnonzero(table.rewarded)
    split = np.flatnonzero(table.crossfitted[rows])
    grid = table.full[rows].astype(np.float64)
    result = np.zeros((len(table.full), grid.shape[1]))
    if not len(rows):
        return result
    result += grid.mean()
    result[rows] = grid.mean(axis=1, keepdims=True)
    halves = [half[rows[split]].astype(np.float64) for half in table.halves]
    for full, half_a, half_b in zip(*(_effects(part) for part in (grid, *halves))):
        common = full.mean(axis=0)
        noise = np.mean(np.square(half_a - half_b)) / 4 if len(split) else 0.0
        spread = np.square(full - common).sum() / max(1, len(full) - 1) / full.shape[1]
        kept = max(0.0, spread - noise) / spread if spread > 0 else 0.0
        result += common
        result[rows] += kept * (full - common)
    return result


def _effects(rewards: np.ndarray) -> Iterator[np.ndarray]:
    """Main effects and interactions of two decisions (analysis of variance): each [A, 2304]."""
    count = len(search_space.NUM_CHOICES)
    grid = rewards.reshape(-1, *search_space.NUM_CHOICES)
    grid = grid - grid.mean(axis=tuple(range(1, count + 1)), keepdims=True)

    def mean_over_others(*kept):
        return grid.mean(axis=tuple(1 + d for d in range(count) if d not in kept), keepdims=True)

    mains = [mean_over_others(d) for d in range(count)]
    pairs = (mean_over_others(c, d) - mains[c] - mains[d] for c, d in itertools.combinations(range(count), 2))
    return (np.broadcast_to(effect, grid.shape).reshape(rewards.shape) for effect in itertools.chain(mains, pairs))
