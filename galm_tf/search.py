"""Algorithm 1: the search loop, from an untrained supernet to fine-tuned networks (paper §3.5, §4.1).

Two phases alternate after a warm-up: the supernet's weights (Omega) are trained
with sampled architectures, then the controller by REINFORCE on validation
rewards. The converged policy gives every attribute its architecture, which is
adapted on training images, judged on validation, and fine-tuned on both.

Paper: each child is trained until it converges before its reward is read.
Here: children share weights and the phases alternate (§3.5.1), because the
letter of Algorithm 1 would train every child anew.

`Search.arrays` and `Search.state` are all that a resume needs.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from typing import Any, Callable, Mapping, Optional

import numpy as np
import tensorflow as tf
from scipy.special import expit

from galm_tf import controller_training, evaluation, frozen_trunk, hardware, search_space, selection, temperature
from galm_tf.config import READING, Config
from galm_tf.data import BatchPlan, loss_weights, training_batches, training_plan
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.errors import UserError
from galm_tf.pretrained import PretrainedTrunk
from galm_tf.progress import Progress
from galm_tf.reward import RewardTable
from galm_tf.run_folder import POLICY, RunFolder
from galm_tf.schedule import (
    ADAPT,
    CONTROLLER,
    DERIVE,
    FINETUNE,
    REWARDS,
    SKILL,
    WARMUP,
    Phase,
    build_schedule,
    cosine,
    search_steps,
)
from galm_tf.strategy import Sampler, Strategy
from galm_tf.supernet import build_supernet
from galm_tf.supernet_training import SupernetTraining, expect_finite
from galm_tf.telemetry import Telemetry
from galm_tf.validation import Judged, Validation

_LOG_STEPS = 25
_ADAPT_CHECKS = 6  # validations within the adaptation


@dataclasses.dataclass
class State:
    """Where a run stands; everything here is JSON.

    Attributes:
      phase, step: the next step to take, `step` within the phase.
      chosen: number of each attribute's architecture, once derived.
      best_mauc, best_step: best validation of the adaptation so far.
      val_auc, thresholds: per attribute at that best, with its readout; None where validation cannot judge.
      temperature: at that best, by which log-odds are divided.
      log_odds_shift: what is added to them then; 0 but where few positives are known.
      readout_penalty: of the reading of Conv-3 beside the towers; None without one.
      architectures_scored: rewards computed so far.
      losses: losses since the last record.
      records: lines of metrics.jsonl written so far.
      phase_seconds: kind of phase, REWARDS, DERIVE or SKILL -> seconds spent in it.
      before: kind of what went before the phases -> seconds spent in it, before a resume and after.
      search: figures about the search for result.json.
      transfer: what the run started from, for result.json; None when from nothing.
    """

    phase: int = 0
    step: int = 0
    chosen: Optional[list[int]] = None
    best_mauc: float = -1.0
    best_step: int = -1
    val_auc: list[Optional[float]] = dataclasses.field(default_factory=list)
    thresholds: list[Optional[float]] = dataclasses.field(default_factory=list)
    temperature: float = 1.0
    log_odds_shift: float = 0.0
    readout_penalty: Optional[float] = None
    architectures_scored: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    records: int = 0
    phase_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    before: dict[str, float] = dataclasses.field(default_factory=dict)  # an earlier version's checkpoint has none
    search: dict[str, Any] = dataclasses.field(default_factory=dict)
    transfer: Optional[dict[str, Any]] = None

    def count_before(self, seconds: Mapping[str, float]) -> None:
        """Adds the seconds that went before the phases this time, by kind."""
        for kind, spent in seconds.items():
            self.before[kind] = self.before.get(kind, 0.0) + spent

    def keep_figures(self, judged: Judged, validation: Validation, config: Config) -> None:
        """Takes over what `Validation` judged, and what follows: how sure to be, and thresholds of what is exported."""
        level = validation.levels()
        if config.temperature_scaling:
            self.temperature, self.log_odds_shift = temperature.fit(
                judged.labels, judged.log_odds, level, shifted=config.train_positives > 0
            )
        probabilities = expit(temperature.scaled(judged.log_odds, level, self.temperature, self.log_odds_shift))
        # readings lie about the level; of a network's log-odds what the temperature leaves of that is all that is sure
        share = 1.0 if config.method == READING else max(0.0, 1 - 1 / self.temperature)
        thresholds = temperature.moved(
            evaluation.choose_thresholds(judged.labels, probabilities, config.threshold_metric),
            level,
            validation.levels(final=True),
            share,
        )
        mauc = evaluation.mean_auc(judged.aucs)
        self.best_mauc = mauc if mauc is not None else -1.0
        self.readout_penalty = judged.penalty
        self.val_auc = [None if np.isnan(a) else float(a) for a in judged.aucs]
        self.thresholds = [None if np.isnan(t) else float(t) for t in thresholds]


class Search:
    """One run's networks, data and phases.

    Args:
      config: settings.
      domain: learnable attributes only; its label rows are those of `images`.
      split: who trains, who judges.
      pictures: uint8 [n, S, S, 3].
      folder: where checkpoints and tables go.
      make_strategy: (N, config) -> the search method.
      views: what a trunk that no longer learns has made, or will have by the first step, of the pictures; they stand in
        their place.
      trunk: that trunk where it is a pretrained one.

    Attributes:
      images: what batches are made of, pictures or views.
      views: of the pictures as they are, where the trunk no longer learns; else None.
    """

    def __init__(
        self,
        config: Config,
        domain: Domain,
        split: Split,
        pictures: np.ndarray,
        folder: RunFolder,
        make_strategy: Callable[[int, Config], Strategy],
        views: Optional[frozen_trunk.Views] = None,
        trunk: Optional[PretrainedTrunk] = None,
    ) -> None:
        self.config, self.domain, self.split, self.pictures = config, domain, split, pictures
        self.trunk, self._folder = trunk, folder
        self.num_attributes = n = len(domain.attributes)
        if views is None:
            self.images, self.views, judged, augment = pictures, None, pictures, None
            self.supernet = build_supernet(n, config.image_size, config.dropout, config.seed)
        else:
            self.images, self.views, augment = views, frozen_trunk.FirstViews(views), frozen_trunk.pick_view
            self.supernet, judged = frozen_trunk.build_supernet(n, config), self.views
        self.training = SupernetTraining(
            self.supernet, domain.targets, loss_weights(split.train, domain, config), config, augment
        )
        self.strategy = make_strategy(n, config)
        self.validation = Validation(self.supernet, config, domain, split, judged, frozen=views is not None)
        self.schedule = build_schedule(config, self.strategy.learns)
        self.state = State()
        self.best: dict[str, np.ndarray] = {}
        self.earlier_seconds = 0.0  # that the run took before a resume
        self._last_checkpoint = time.monotonic()

    # ---- The loop ------------------------------------------------------------------

    def run(self, telemetry: Telemetry) -> None:
        """Takes every phase from where the state stands; returns when fine-tuning is done, with the batch norms of the
        trunk as they are exported, which the last checkpoint holds.
        """
        if self.config.precision != "float32" and not hardware.gpu():
            logging.warning(
                "--precision=%s is for GPUs: a processor may take many times as long over a step as with float32.",
                self.config.precision,
            )
        self._telemetry = telemetry
        self._counted = time.monotonic()
        while self.state.phase < len(self.schedule):
            self._run_phase(self.schedule[self.state.phase])
            self._count_seconds()
            self.state.phase, self.state.step = self.state.phase + 1, 0
            if self.state.phase < len(self.schedule):
                self.checkpoint()
        self.calibrate()
        self.checkpoint()

    def _count_seconds(self, kind: str = "") -> None:
        """Adds the time since the last count to that of a kind; of the present phase when left out."""
        kind, now = kind or self.schedule[self.state.phase].kind, time.monotonic()
        self.state.phase_seconds[kind] = self.state.phase_seconds.get(kind, 0.0) + now - self._counted
        self._counted = now

    def _run_phase(self, phase: Phase) -> None:
        if phase.kind in (ADAPT, FINETUNE) and self.state.chosen is None:
            self.derive()
            self._count_seconds(DERIVE)
        if phase.kind == CONTROLLER:
            return self._run_controller(phase)
        if phase.kind == ADAPT:
            return self._run_adapt(phase)
        with Progress(phase.steps, _title(phase), initial=self.state.step) as progress:
            self._run_supernet(phase, phase.steps, progress)

    # ---- Omega: the supernet's weights ------------------------------------------------

    def _run_supernet(self, phase: Phase, until: int, progress: Progress) -> None:
        """Steps of the supernet, up to `until` within the phase."""
        first = self.state.step
        if first >= until:
            return
        plan = self._batch_plan(phase)
        batches = training_batches(self.images, plan, phase.first_step + first, phase.first_step + until)
        losses, choices = self.state.losses, self._choices(phase)
        for batch in batches:
            step = phase.first_step + self.state.step
            rate = self._learning_rate(phase, self.state.step)
            metrics = self._train(batch, choices(step), step, rate)
            losses.append(_finite(float(metrics["loss"]), phase, self.state.step))
            self.state.step += 1
            progress.update(1, loss=losses[-1])
            if self.state.step % _LOG_STEPS == 0 or self.state.step == until:
                tag = "derived/loss" if phase.kind in (ADAPT, FINETUNE) else "supernet/loss"
                self._telemetry.scalars(phase.kind, step, {tag: float(np.mean(losses)), "supernet/learning_rate": rate})
                losses.clear()
            self._checkpoint_if_due()

    def _train(self, batch: dict[str, tf.Tensor], choices: np.ndarray, step: int, rate: float) -> dict[str, tf.Tensor]:
        """One step of the supernet on one batch, with an architecture for every attribute: int32 [N, 10]."""
        ids = self._attributes(step)
        return self.training.step(
            batch["image"],
            batch["index"],
            tf.constant(ids),
            tf.constant(choices[ids]),
            tf.constant(tensor_seed(self.config.seed, Stream.NOISE, step)),
            tf.constant(rate, tf.float32),
        )

    def trial_table(self, steps: int) -> RewardTable:
        """The rewards that the present weights reach by the first `steps` of a warm-up; the weights stay as they
        are.
        """
        before = {name: v.numpy() for name, v in self._omega().items()}
        phase = Phase(WARMUP, 0, steps, 0)
        choices = self._choices(phase)
        with Progress(steps, "trial") as progress:
            for step, batch in enumerate(training_batches(self.images, self._batch_plan(phase), 0, steps)):
                self._train(batch, choices(step), step, self._learning_rate(phase, step))
                progress.update(1)
        table = self.validation.exact_table("trial rewards")
        self._count_scored(table)
        self._assign(self._omega(), before)
        return table

    def _omega(self) -> dict[str, tf.Variable]:
        """Weights and optimiser state of the supernet."""
        slots = {f"optimizer/{name}": v for name, v in self.training.optimizer.slots.items()}
        return {**{f"supernet/{name}": v for name, v in self.supernet.variables.items()}, **slots}

    def _batch_plan(self, phase: Phase) -> BatchPlan:
        index = self.validation.training_index(final=phase.kind == FINETUNE)
        return training_plan(index, self.domain, self.config)

    def _attributes(self, step: int) -> np.ndarray:
        """The attributes whose towers this step trains: int32 [A], sorted."""
        n = self.num_attributes
        count = self.config.attributes_per_step or n
        if count >= n:
            return np.arange(n, dtype=np.int32)
        chosen = generator(self.config.seed, Stream.ATTRIBUTES, step).choice(n, count, replace=False)
        return np.sort(chosen).astype(np.int32)

    def _choices(self, phase: Phase) -> Callable[[int], np.ndarray]:
        """For a step of a phase of the supernet, throughout which the strategy stays as it is: an architecture for
        every attribute, int32 [N, 10].
        """
        if self.state.chosen is not None:
            chosen = search_space.all_indices()[self.state.chosen]
            return lambda step: chosen
        knows = phase.round or self._has_a_sources_policy()  # which needs no warm-up
        return functools.partial(self._draw, self.strategy.sampler() if knows else None)

    def _has_a_sources_policy(self) -> bool:
        started = self.state.transfer
        refused = started and started["gate"] and not started["gate"]["passed"]
        return bool(started) and "policy" in started["parts"] and not refused

    def _draw(self, sampler: Optional[Sampler], step: int) -> np.ndarray:
        """Architectures by the strategy, or uniform ones: int32 [N, 10]."""
        n, rng = self.num_attributes, generator(self.config.seed, Stream.ARCHITECTURES, step)
        uniform = search_space.all_indices()[rng.integers(0, search_space.NUM_ARCHITECTURES, n)]
        sampled = sampler(tensor_seed(self.config.seed, Stream.ARCHITECTURES, step)) if sampler else None
        if sampled is None:
            return uniform
        explore = rng.random(n) < self.config.uniform_fraction
        return np.where(explore[:, None], uniform, sampled).astype(np.int32)

    def _learning_rate(self, phase: Phase, step: int) -> float:
        """At `step` within the phase."""
        if phase.kind in (ADAPT, FINETUNE):
            return cosine(step, phase.steps, getattr(self.config, f"{phase.kind}_learning_rate"))
        return cosine(phase.first_step + step, search_steps(self.config), self.config.learning_rate)

    # ---- Theta: what the strategy learns ---------------------------------------------

    def _run_controller(self, phase: Phase) -> None:
        table = self._reward_table(phase.round) if self.config.reward_data == "full" else None
        batches = None if table is not None else self._batch_rewards()
        wanted = self._wanted(table)
        if wanted is not None and self.state.step == 0:
            self._record_table(wanted, phase.first_step)
        with Progress(phase.steps, _title(phase), initial=self.state.step) as progress:
            while self.state.step < phase.steps:
                count = min(self.strategy.chunk_steps, phase.steps - self.state.step)
                step = phase.first_step + self.state.step
                metrics = self._controller_steps(wanted, batches, step, count)
                self.state.step += count
                self._telemetry.scalars(phase.kind, step + count, metrics)
                self.strategy.record(self._telemetry, phase.kind, step + count)
                progress.update(count, reward=metrics.get("controller/reward", 0.0))
                self._checkpoint_if_due()
        if not self.config.add_attribute:  # what relates to a few attributes alone says little
            domains = [self.domain.domain_names[i] for i in self.domain.attribute_domains]
            self.strategy.record_relations(
                self._telemetry, phase.first_step + phase.steps, self.domain.attributes, domains
            )
        self.state.search.update(self.strategy.figures(wanted), controller_steps=phase.first_step + phase.steps)

    def _controller_steps(self, table, batches, first: int, count: int) -> dict[str, float]:
        """Steps by either kind of reward; mean metrics."""
        if table is not None:
            return self.strategy.train_on_table(table, first, count)
        if not len(batches.judged):
            return {}
        self.state.architectures_scored += count * self.config.samples_per_step
        rows = [batches.step(self.strategy, step) for step in range(first, first + count)]
        return {tag: float(np.mean([row[tag] for row in rows])) for tag in rows[0]}

    def _batch_rewards(self) -> controller_training.BatchRewards:
        images = self.validation.scoring_images()
        rewards = controller_training.BatchRewards(self.supernet, images, self.config, self.validation.margin_offsets())
        self.state.search["num_attributes_rewarded"] = len(rewards.judged)
        return rewards

    def _reward_table(self, round_: int) -> RewardTable:
        """The exact table of this round: computed once, stored, and read again by a resumed run."""
        name = f"tables/round{round_}.npz"
        stored = self._folder.read_arrays(name)
        if stored is not None:
            return RewardTable.from_arrays(stored)
        table = self.validation.exact_table(f"reward table {round_}")
        described = [search_space.Architecture.from_number(n).describe() for n in range(search_space.NUM_ARCHITECTURES)]
        # of rows and columns, for whoever reads it
        names = {"attribute": np.array(self.domain.attributes), "architecture": np.array(described)}
        self._folder.write_arrays(name, {**table.to_arrays(), **names})
        self._count_seconds(REWARDS)
        self.checkpoint()  # a resumed run would find the table, and not what it took
        return table

    def _wanted(self, table: Optional[RewardTable]) -> Optional[RewardTable]:
        """The rewards as the strategy sees them: less what a network's size costs."""
        return table and selection.less_size(table, self.config.size_penalty, search_space.map_side(self.config))

    def _count_scored(self, table: RewardTable) -> None:
        self.state.architectures_scored += int(table.rewarded.sum()) * search_space.NUM_DISTINCT

    def _record_table(self, table: RewardTable, step: int) -> None:
        """Counts and shows a round's table, when the round begins: a resumed run may find it already on disk."""
        self._count_scored(table)
        rewards = table.full[table.rewarded]
        if len(rewards):
            best, mean = float(rewards.max(1).mean()), float(rewards.mean())
            self._telemetry.scalars(CONTROLLER, step, {"validation/table_best": best, "validation/table_mean": mean})

    # ---- Derive, adapt, fine-tune ---------------------------------------------------------

    def derive(self) -> None:
        """Fixes every attribute's architecture; what that is worth is told by rewards as they are, whatever size
        costs.
        """
        table = self._last_table()
        wanted = self._wanted(table)
        if table is not None:
            if not self.strategy.learns:  # it has had no phase that did
                self._record_table(wanted, 0)
            gains = selection.specialisation(table)
            self.state.search.update(
                num_attributes_rewarded=int(table.rewarded.sum()),
                num_attributes_crossfitted=len(gains),
                # of one attribute it is 0 by definition
                specialisation=float(gains.mean()) if len(gains) > 1 else None,
            )
            if self.config.measure_skill:
                self._count_seconds(DERIVE)
                self.state.search["skill"] = selection.crossfitted_skill(table, self.strategy.crossfit(wanted))
                self._count_seconds(SKILL)
        self.state.chosen = [int(n) for n in self.strategy.choose(wanted)]

    def _last_table(self) -> Optional[RewardTable]:
        """The last round's rewards; None for a method that reads none, and for the paper's mini-batch rewards."""
        if not self.strategy.rewarded or self.config.reward_data != "full":
            return None
        return self._reward_table(self.config.rounds)

    def _run_adapt(self, phase: Phase) -> None:
        """Trains the chosen networks on training images; keeps the weights that validate best."""
        first, best = self.state.step, None
        stops = np.unique(np.linspace(0, phase.steps, _ADAPT_CHECKS + 1).astype(int))
        stops = [int(s) for s in stops if s > first or (s == first and self.state.best_step < s)]
        judging = math.ceil(len(self.split.validation) / self.config.batch_size)  # batches, as far as time is told
        with Progress(phase.steps + len(stops) * judging, _title(phase), initial=first, unit="batch") as progress:
            for stop in stops:
                self._run_supernet(phase, stop, progress)
                judged = self.validation.judge(self.state.chosen)
                mauc = evaluation.mean_auc(judged.aucs)
                self._telemetry.scalars(phase.kind, phase.first_step + stop, {"derived/validation_mauc": mauc})
                if mauc is None or mauc > self.state.best_mauc:
                    self.state.best_step, best = stop, judged
                    self.state.keep_figures(judged, self.validation, self.config)
                    self.best = self.supernet.weights
                progress.update(judging)
        self._assign(self.supernet.variables, self.best)
        if self.config.readout_share:
            judged = self.validation.judge_blend(self.state.chosen, self.config.readout_share, best)
            self.state.keep_figures(judged, self.validation, self.config)

    def calibrate(self) -> None:
        """Fixes the trunk's batch norms as they are exported; those of one that no longer learns are."""
        if self.views is None:
            index = self.validation.calibration_index(final=True)
            self.validation.scoring.calibrate_trunk(np.asarray(self.pictures[index]))

    # ---- Checkpoints -------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight and every slot by name."""
        named = {**self._omega(), **{f"controller/{name}": v for name, v in self.strategy.variables.items()}}
        arrays = {name: v.numpy() for name, v in named.items()}
        arrays.update({f"best/{name}": value for name, value in self.best.items()})
        if self.config.source_run:  # else the seed gives it
            arrays.update({f"initial/{name}": value for name, value in self.strategy.initial.items()})
        return arrays

    def checkpoint(self) -> None:
        self.state.records = self._telemetry.num_records
        self._folder.save_checkpoint(self.arrays(), dataclasses.asdict(self.state))
        self._last_checkpoint = time.monotonic()

    def record_policy(self, before: Optional[dict[str, np.ndarray]] = None) -> None:
        """Writes policy.npz: decision -> probability of each of its choices, float32 [N, choices]; nothing without a
        policy.

        before: what such a file held of attributes that come before the search's.
        """
        probabilities = self.strategy.choice_probabilities()
        if probabilities is not None:
            rows = {d.name: np.asarray(p, np.float32) for d, p in zip(search_space.DECISIONS, probabilities)}
            rows = rows if before is None else {name: np.concatenate([before[name], p]) for name, p in rows.items()}
            self._folder.write_arrays(POLICY, rows)

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds:
            self._count_seconds()  # else a run that is stopped here would lose what it has spent
            self.checkpoint()

    def restore(self) -> bool:
        """Continues from the last checkpoint in the folder; False when there is none."""
        stored = self._folder.load_checkpoint()
        if stored is None:
            return False
        arrays, meta = stored
        if not any(name.startswith("optimizer/") for name in arrays):
            raise UserError(
                f"Expected an unfinished run to continue in {self._folder.path}. Received: one that was finished and has lost "
                f"its result.json; restore that from a copy, or {self._folder.anew}."
            )
        self.state = State(**meta)
        self.best = _under("best/", arrays)
        self.strategy.initial = _under("initial/", arrays) or self.strategy.initial
        self.earlier_seconds = sum((*self.state.before.values(), *self.state.phase_seconds.values()))
        self.assign(arrays)
        return True

    def assign(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes what `arrays` gave as the present weights and slots."""
        self._assign(self._omega(), arrays)
        self._assign(self.strategy.variables, arrays, "controller/")

    def _assign(self, variables, arrays: dict[str, np.ndarray], prefix: str = "") -> None:
        for name, variable in variables.items():
            if prefix + name not in arrays:
                raise UserError(
                    f"Expected {prefix + name} in the checkpoint of the run. Received: one without, of another version; go on with that "
                    f"one, or {self._folder.anew}."
                )
            variable.assign(arrays[prefix + name])


def archive(folder: RunFolder) -> None:
    """Leaves of a finished run's checkpoints what a later run can start from, supernet and policy; nothing to do where
    that was done.
    """
    kept = ("supernet/", "controller/policy/")
    stored = None if folder.has_only_checkpoint_of(kept) else folder.load_checkpoint(kept)
    if stored is not None:
        folder.save_checkpoint(*stored, keep=1)


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _finite(loss: float, phase: Phase, step: int) -> float:
    """The loss of a step; raises UserError where training has diverged. A phase's first loss is of what came before."""
    own_rate = phase.kind in (ADAPT, FINETUNE) and step > 0
    return expect_finite(loss, _title(phase), step, f"{phase.kind}_learning_rate" if own_rate else "learning_rate")


def _title(phase: Phase) -> str:
    return f"{phase.kind} {phase.round}" if phase.round else phase.kind
