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
import time
from typing import Any, Optional

import numpy as np
import tensorflow as tf
from scipy.special import expit

from galm_tf import controller_training, evaluate, scoring, search_space, selection
from galm_tf.config import Config
from galm_tf.data import BatchPlan, positive_weights, training_batches, training_plan
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split
from galm_tf.draws import Stream, generator, tensor_seed
from galm_tf.progress import Progress
from galm_tf.reward import RewardEngine, RewardTable, ScoringImages
from galm_tf.run_folder import RunFolder
from galm_tf.schedule import ADAPT, CONTROLLER, FINETUNE, Phase, build_schedule, cosine, search_steps
from galm_tf.supernet import build_supernet
from galm_tf.supernet_training import SupernetTraining
from galm_tf.telemetry import Telemetry

_LOG_STEPS = 25
_POLICY_LOG_STEPS = 500  # the whole policy is written out this often; it costs as much as training it for 100 steps
_ADAPT_CHECKS = 6  # validations within the adaptation


@dataclasses.dataclass
class State:
    """Where a run stands; everything here is JSON.

    Attributes:
      phase, step: the next step to take, `step` within the phase.
      chosen: number of each attribute's architecture, once derived.
      best_mauc, best_step: best validation of the adaptation so far.
      val_auc, thresholds: per attribute at that best; None where validation cannot judge.
      architectures_scored: rewards computed so far.
      losses: losses since the last record.
      records: lines of metrics.jsonl written so far.
      phase_seconds: kind of phase -> seconds spent in it.
      search: figures about the search for result.json.
    """

    phase: int = 0
    step: int = 0
    chosen: Optional[list[int]] = None
    best_mauc: float = -1.0
    best_step: int = -1
    val_auc: list[Optional[float]] = dataclasses.field(default_factory=list)
    thresholds: list[Optional[float]] = dataclasses.field(default_factory=list)
    architectures_scored: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    records: int = 0
    phase_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    search: dict[str, Any] = dataclasses.field(default_factory=dict)


class Search:
    """One run's networks, data and phases.

    Args:
      config: settings.
      domain: learnable attributes only; its label rows are those of `images`.
      split: who trains, who judges.
      images: uint8 [n, S, S, 3].
      folder: where checkpoints and tables go.
    """

    def __init__(
        self,
        config: Config,
        domain: Domain,
        split: Split,
        images: np.ndarray,
        folder: RunFolder,
    ) -> None:
        self.config, self.domain, self.split, self.images = config, domain, split, images
        self._folder = folder
        self.num_attributes = n = len(domain.attributes)
        self.supernet = build_supernet(n, config.image_size, config.dropout, config.seed)
        self.log_weights = self._log_positive_weights()
        self.training = SupernetTraining(self.supernet, domain.labels, np.exp(self.log_weights), config)
        self.controller = controller_training.ControllerTraining(n, config)
        self.scoring = scoring.Scoring(self.supernet)
        self.schedule = build_schedule(config)
        self.state = State()
        self.best: dict[str, np.ndarray] = {}
        self._last_checkpoint = time.monotonic()
        self._sample = tf.function(self.controller.controller.sample, reduce_retracing=True)

    # ---- The loop ------------------------------------------------------------------

    def run(self, telemetry: Telemetry) -> None:
        """Takes every phase from where the state stands; returns when fine-tuning is done."""
        self._telemetry = telemetry
        while self.state.phase < len(self.schedule):
            phase = self.schedule[self.state.phase]
            started = time.monotonic()
            self._run_phase(phase)
            seconds = self.state.phase_seconds
            seconds[phase.kind] = seconds.get(phase.kind, 0.0) + time.monotonic() - started
            self.state.phase, self.state.step = self.state.phase + 1, 0
            self.checkpoint()
        if self.state.chosen is None:
            self.derive()

    def _run_phase(self, phase: Phase) -> None:
        if phase.kind in (ADAPT, FINETUNE) and self.state.chosen is None:
            self.derive()
        if phase.kind == CONTROLLER:
            return self._run_controller(phase)
        if phase.kind == ADAPT:
            return self._run_adapt(phase)
        if phase.kind == FINETUNE and self.state.step == 0:
            self._restore_best()
        return self._run_supernet(phase, phase.steps)

    # ---- Omega: the supernet's weights ------------------------------------------------

    def _run_supernet(self, phase: Phase, until: int) -> None:
        """Steps of the supernet, up to `until` within the phase."""
        first = self.state.step
        if first >= until:
            return
        plan = self._batch_plan(phase)
        batches = training_batches(self.images, plan, phase.first_step + first, phase.first_step + until)
        losses = self.state.losses
        with Progress(phase.steps, _title(phase), initial=first) as progress:
            for batch in batches:
                step = phase.first_step + self.state.step
                rate = self._learning_rate(phase)
                ids, choices = self._attributes(step), self._choices(phase, step)
                metrics = self.training.step(
                    batch["image"], batch["index"], tf.constant(ids), tf.constant(choices[ids]),
                    tf.constant(tensor_seed(self.config.seed, Stream.NOISE, step)), tf.constant(rate, tf.float32),
                )
                losses.append(float(metrics["loss"]))
                self.state.step += 1
                progress.update(1, loss=losses[-1])
                if self.state.step % _LOG_STEPS == 0 or self.state.step == until:
                    tag = "derived/loss" if phase.kind in (ADAPT, FINETUNE) else "supernet/loss"
                    self._telemetry.scalars(
                        phase.kind, step, {tag: float(np.mean(losses)), "supernet/learning_rate": rate}
                    )
                    losses.clear()
                self._checkpoint_if_due()

    def _batch_plan(self, phase: Phase) -> BatchPlan:
        index = self.split.train
        if phase.kind == FINETUNE:
            index = np.concatenate([self.split.train, self.split.validation])
        return training_plan(index, self.domain.labels, self.config)

    def _attributes(self, step: int) -> np.ndarray:
        """The attributes whose towers this step trains: int32 [A], sorted."""
        n = self.num_attributes
        count = self.config.attributes_per_step or n
        if count >= n:
            return np.arange(n, dtype=np.int32)
        chosen = generator(self.config.seed, Stream.ATTRIBUTES, step).choice(n, count, replace=False)
        return np.sort(chosen).astype(np.int32)

    def _choices(self, phase: Phase, step: int) -> np.ndarray:
        """An architecture for every attribute: int32 [N, 10]."""
        indices, n = search_space.all_indices(), self.num_attributes
        if self.state.chosen is not None:
            return indices[self.state.chosen]
        rng = generator(self.config.seed, Stream.ARCHITECTURES, step)
        uniform = indices[rng.integers(0, search_space.NUM_ARCHITECTURES, n)]
        if phase.round == 0 or self.config.method == "random":
            return uniform
        seed = tensor_seed(self.config.seed, Stream.ARCHITECTURES, step)
        sampled = self._sample(tf.range(n), tf.constant(seed))[0].numpy()
        explore = rng.random(n) < self.config.uniform_fraction
        return np.where(explore[:, None], uniform, sampled).astype(np.int32)

    def _learning_rate(self, phase: Phase) -> float:
        if phase.kind in (ADAPT, FINETUNE):
            return cosine(self.state.step, phase.steps, self.config.finetune_learning_rate)
        return cosine(phase.first_step + self.state.step, search_steps(self.config), self.config.learning_rate)

    def _log_positive_weights(self) -> np.ndarray:
        if self.config.imbalance != "positive_weight":
            return np.zeros(self.num_attributes, np.float32)
        return np.log(positive_weights(self.domain.labels[self.split.train], self.config.max_positive_weight))

    # ---- Theta: the controller ----------------------------------------------------------

    def _run_controller(self, phase: Phase) -> None:
        table = self._reward_table(phase.round) if self.config.reward_data == "full" else None
        batches = None if table is not None else self._batch_rewards()
        if table is not None and self.state.step == 0:
            self._record_table(table, phase.first_step)
        with Progress(phase.steps, _title(phase), initial=self.state.step) as progress:
            while self.state.step < phase.steps:
                count = min(self.controller.chunk_steps, phase.steps - self.state.step)
                step = phase.first_step + self.state.step
                metrics = self._controller_steps(table, batches, step, count)
                self.state.step += count
                self._telemetry.scalars(phase.kind, step + count, metrics)
                if self.state.step % _POLICY_LOG_STEPS == 0 or self.state.step == phase.steps:
                    probabilities = self.controller.choice_probabilities()
                    self._telemetry.choice_probabilities(phase.kind, step + count, probabilities)
                progress.update(count, reward=metrics.get("controller/reward", 0.0))
                self._checkpoint_if_due()
        self._log_policy(phase.first_step + phase.steps)
        self._judge_policy(table, phase)

    def _controller_steps(self, table, batches, first: int, count: int) -> dict[str, float]:
        """REINFORCE steps by either kind of reward; mean metrics."""
        if table is not None:
            return self.controller.train_on_table(table, first, count)
        self.state.architectures_scored += count * self.config.samples_per_step
        rows = [batches.step(self.controller, step) for step in range(first, first + count)]
        return {tag: float(np.mean([row[tag] for row in rows])) for tag in rows[0]}

    def _batch_rewards(self) -> controller_training.BatchRewards:
        images = self._scoring_images()
        return controller_training.BatchRewards(self.supernet, images, self.config, self.log_weights)

    def _reward_table(self, round_: int) -> RewardTable:
        """The exact table of this round: computed once, stored, and read again by a resumed run."""
        name = f"tables/round{round_}.npz"
        stored = self._folder.read_arrays(name)
        if stored is not None:
            return RewardTable(stored["full"], (stored["half_a"], stored["half_b"]))
        table = self._exact_table(f"reward table {round_}")
        self._folder.write_arrays(name, {"full": table.full, "half_a": table.halves[0], "half_b": table.halves[1]})
        return table

    def _record_table(self, table: RewardTable, step: int) -> None:
        """Counts and shows a round's table, when the round begins: a resumed run may find it already on disk."""
        self.state.architectures_scored += int(table.rewarded.sum()) * search_space.NUM_DISTINCT
        rewards = table.full[table.rewarded]
        if len(rewards):
            best, mean = float(rewards.max(1).mean()), float(rewards.mean())
            self._telemetry.scalars(CONTROLLER, step, {"validation/table_best": best, "validation/table_mean": mean})

    def _exact_table(self, title: str) -> RewardTable:
        """Rewards of all architectures of all attributes, each on its own domain's validation images."""
        n = self.num_attributes
        full = np.full([3, n, search_space.NUM_ARCHITECTURES], np.nan, np.float32)
        with Progress(n, title, unit="attribute") as progress:
            for group in range(len(self.domain.domain_names)):
                ids = np.flatnonzero(self.domain.attribute_domains == group)
                if not len(ids):
                    continue
                engine = RewardEngine(
                    self.supernet, self._scoring_images(group), self.config.reward, self.config.reward_memory_mib,
                    self.log_weights,
                )
                part = engine.table(ids, progress.each)
                full[:, ids] = part.full, *part.halves
        return RewardTable(full[0], (full[1], full[2]))

    def _scoring_images(self, group: Optional[int] = None) -> ScoringImages:
        """Trunk features of calibration and validation images under the present weights.

        A label counts only where `Split.judged_by` says that it can judge its attribute.
        """
        scored = self.split.validation
        if group is not None:
            scored = scored[self.domain.image_domains[scored] == group]
        calibration = self._calibration_index() if self.config.reward_bn == "recalibrated" else scored[:0]
        self.scoring.calibrate_trunk(np.asarray(self.images[self._calibration_index()]))
        index = np.concatenate([calibration, scored])
        maps = self.scoring.trunk_features(scoring.image_batches(self.images, index))
        labels = self.validation_labels(scored)
        halves = generator(self.config.seed, Stream.HALVES).permutation(len(scored)) % 2
        return ScoringImages(maps, len(calibration), labels, halves)

    def validation_labels(self, scored: np.ndarray) -> np.ndarray:
        """Labels of validation images, NaN where they may not judge the attribute: float32 [n, N]."""
        labels = self.domain.labels[scored].copy()
        held_out = np.isin(scored, self.split.validation_classes)
        for i, judge in enumerate(self.split.judged_by):
            if judge == "classes":
                labels[~held_out, i] = np.nan
            elif judge == "none":
                labels[:, i] = np.nan
        return labels

    def _calibration_index(self, index: Optional[np.ndarray] = None) -> np.ndarray:
        """Training images (or those given) whose statistics fix the batch norms: int64, sorted."""
        index = self.split.train if index is None else index
        count = min(self.config.calibration_images, len(index))
        return np.sort(generator(self.config.seed, Stream.CALIBRATION).choice(index, count, replace=False))

    def final_calibration_index(self) -> np.ndarray:
        """Calibration images of the exported network: from all images that it was fine-tuned on."""
        if not self.config.finetune_steps:
            return self._calibration_index()
        return self._calibration_index(np.concatenate([self.split.train, self.split.validation]))

    def _log_policy(self, step: int) -> None:
        names = self.domain.attributes
        self._telemetry.correlation_image(step, self.controller.correlation(), names)
        self._telemetry.embeddings(self.controller.embeddings(), names, self._attribute_domain_names())

    def _attribute_domain_names(self) -> list[str]:
        return [self.domain.domain_names[i] for i in self.domain.attribute_domains]

    def _judge_policy(self, table: Optional[RewardTable], phase: Phase) -> None:
        """Figures of the policy after this round; the last round's go to result.json."""
        log_probs = self.controller.log_probs()
        self.state.search.update(
            entropy=selection.entropy(log_probs),
            controller_steps=phase.first_step + phase.steps,
            num_attributes_rewarded=0,
        )
        if table is None:
            return
        probable = selection.derive(log_probs, None, 1)
        gains = selection.specialisation(table)
        self.state.search.update(
            regret=selection.regret(table, probable),
            specialisation=float(gains.mean()) if len(gains) else None,
            num_attributes_rewarded=int(table.rewarded.sum()),
        )

    # ---- Derive, adapt, fine-tune ---------------------------------------------------------

    def derive(self) -> None:
        """Fixes every attribute's architecture."""
        if self.config.method == "random":
            rng = generator(self.config.seed, Stream.BASELINE)
            numbers = rng.integers(0, search_space.NUM_ARCHITECTURES, self.num_attributes)
        else:
            table = self._last_table()
            numbers = selection.derive(self.controller.log_probs(), table, self.config.derive_top)
            if table is not None:
                choices = self.controller.crossfit(table)
                self.state.search["skill"] = selection.crossfitted_skill(table, choices)
        self.state.chosen = [int(n) for n in numbers]

    def _last_table(self) -> Optional[RewardTable]:
        """The last round's rewards; the paper's mini-batch rewards leave none to re-rank by."""
        return self._reward_table(self.config.rounds) if self.config.reward_data == "full" else None

    def _run_adapt(self, phase: Phase) -> None:
        """Trains the chosen networks on training images; keeps the weights that validate best."""
        stops = np.unique(np.linspace(0, phase.steps, _ADAPT_CHECKS + 1).astype(int))
        for stop in stops:
            if stop < self.state.step or (stop == self.state.step and self.state.best_step >= stop):
                continue
            self._run_supernet(phase, int(stop))
            validated = self.validate()
            mauc = evaluate.mean_auc(validated[0])
            self._telemetry.scalars(phase.kind, phase.first_step + int(stop), {"derived/validation_mauc": mauc or 0.0})
            if mauc is None or mauc > self.state.best_mauc:
                self._keep_best(int(stop), mauc, *validated)

    def validate(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Validates the chosen architectures: (AUC [N], labels [n, N], probabilities [n, N])."""
        images = self._scoring_images()
        margins = self.scoring.score_chosen(images, range(self.num_attributes), self.state.chosen)
        return evaluate.auc_per_attribute(images.labels, margins), images.labels, expit(margins - self.log_weights)

    def _keep_best(self, step: int, mauc: Optional[float], aucs, labels, probabilities) -> None:
        """Remembers weights, validation AUC and thresholds of the best adaptation so far."""
        thresholds = evaluate.choose_thresholds(labels, probabilities, self.config.threshold_metric)
        self.state.best_mauc, self.state.best_step = mauc if mauc is not None else -1.0, step
        self.state.val_auc = [None if np.isnan(a) else float(a) for a in aucs]
        self.state.thresholds = [None if np.isnan(t) else float(t) for t in thresholds]
        self.best = {name: v.numpy() for name, v in self.supernet.variables.items()}

    def _restore_best(self) -> None:
        if self.best:
            self._assign(self.supernet.variables, self.best)

    # ---- Checkpoints -------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight and every slot by name."""
        groups = {
            "supernet": self.supernet.variables,
            "optimizer": self.training.optimizer.slots,
            "controller": self.controller.variables,
        }
        arrays = {f"{group}/{name}": v.numpy() for group, named in groups.items() for name, v in named.items()}
        arrays.update({f"best/{name}": value for name, value in self.best.items()})
        return arrays

    def checkpoint(self) -> None:
        self.state.records = self._telemetry.num_records
        self._folder.save_checkpoint(self.arrays(), dataclasses.asdict(self.state))
        self._last_checkpoint = time.monotonic()

    def archive(self) -> None:
        """Leaves what a later run can start from (supernet and policy) and drops the optimisers' state."""
        kept = {k: v for k, v in self.arrays().items() if k.startswith(("supernet/", "controller/policy/"))}
        self._folder.save_checkpoint(kept, dataclasses.asdict(self.state), keep=1)

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds:
            self.checkpoint()

    def restore(self) -> bool:
        """Continues from the last checkpoint in the folder; False when there is none."""
        stored = self._folder.load_checkpoint()
        if stored is None:
            return False
        arrays, meta = stored
        self.state = State(**meta)
        self.best = {k[len("best/") :]: v for k, v in arrays.items() if k.startswith("best/")}
        self._assign(self.supernet.variables, arrays, "supernet/")
        self._assign(self.training.optimizer.slots, arrays, "optimizer/")
        self._assign(self.controller.variables, arrays, "controller/")
        return True

    @staticmethod
    def _assign(variables, arrays: dict[str, np.ndarray], prefix: str = "") -> None:
        for name, variable in variables.items():
            variable.assign(arrays[prefix + name])


def _title(phase: Phase) -> str:
    return f"{phase.kind} {phase.round}" if phase.round else phase.kind
