"""The phases of a run, in order (Algorithm 1, §3.5.1, §4.1).

Warm-up; then rounds of supernet training and controller training; then the
chosen architectures are adapted on training images and fine-tuned on training
and validation images.
"""

from __future__ import annotations

import dataclasses
import math

from galm_tf.config import Config

WARMUP, SUPERNET, CONTROLLER, ADAPT, FINETUNE = "warmup", "supernet", "controller", "adapt", "finetune"
# no phases of their own, but counted: the tables of all rewards, what happens between the last of the search and the
# first of the chosen networks, and the searches that only measure how well
REWARDS, DERIVE, SKILL = "rewards", "derive", "skill"
_RAMP_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
      kind: one of the names above.
      round: which alternation it belongs to; 0 before the first.
      steps: how many it takes.
      first_step: supernet steps before it, or controller steps for a controller phase.
    """

    kind: str
    round: int
    steps: int
    first_step: int


def build_schedule(config: Config, learns: bool = True) -> tuple[Phase, ...]:
    """All phases of a run, empty ones left out; a method that does not learn has no rounds, but as many supernet
    steps.
    """
    kinds = [(WARMUP, 0, config.warmup_steps)]
    for round_ in range(1, config.rounds + 1):
        kinds += [(SUPERNET, round_, config.supernet_steps), (CONTROLLER, round_, config.controller_steps)]
    if not learns:
        kinds = [(WARMUP, 0, config.warmup_steps + config.rounds * config.supernet_steps)]
    kinds += [(ADAPT, 0, config.adapt_steps), (FINETUNE, 0, config.finetune_steps)]
    phases, supernet_step, controller_step = [], 0, 0
    for kind, round_, steps in kinds:
        first = controller_step if kind == CONTROLLER else supernet_step
        if steps or kind == ADAPT:  # an adaptation of no steps still validates what was derived
            phases.append(Phase(kind, round_, steps, first))
        if kind == CONTROLLER:
            controller_step += steps
        else:
            supernet_step += steps
    return tuple(phases)


def search_steps(config: Config) -> int:
    """Supernet steps before the architectures are derived."""
    return config.warmup_steps + config.rounds * config.supernet_steps


def cosine(step: int, total: int, peak: float) -> float:
    """Learning rate at `step`: a half cosine to 1 % of the peak, times a linear ramp over `_RAMP_STEPS`, so that of few
    steps none reaches the peak.
    """
    share = min(1.0, step / max(1, total))
    return peak * min(1.0, (step + 1) / _RAMP_STEPS) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))
