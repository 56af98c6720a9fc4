"""Suite `peers`: the searches that a user would pick, each child trained from scratch, against GALM.

A peer searches one attribute at a time over a plain Keras hypermodel of
Table 1: KerasTuner's RandomSearch (Bergstra & Bengio 2012), BayesianOptimization
(Snoek et al. 2012; paper [18, 34]) and Hyperband (Li et al. 2018), and `rl_nas`
(Zoph & Le 2017; paper [43]: an RNN controller by REINFORCE). Each may train
`trials` children for `epochs` epochs, Hyperband as many epochs in all. The best
child's architecture is trained anew on training and validation images, as GALM
fine-tunes its own, and tested once.

Each (peer, attribute) is a folder of its own, so that a killed suite goes on.
Of two commands at once one is refused: their seconds would be of both.
KerasTuner keeps no state of its Bayesian proposals' draws: after a stop they may
differ from those of an undisturbed search. The others are the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, Optional

import keras_tuner
import numpy as np
import pandas as pd
import tensorflow as tf

from galm_tf import kerastuner, search_space
from galm_tf.attribute_names import file_name
from galm_tf.begun import locked, read_result, result_file
from galm_tf.benchmark.child import AttributeData, Child, space
from galm_tf.config import Config
from galm_tf.controller import Controller
from galm_tf.draws import Stream, tensor_seed
from galm_tf.reinforce import Reinforce
from galm_tf.search_space import Architecture

OBJECTIVE = "val_auc"
_CHILDREN, _RESULT = "children.json", "result.json"
_TUNER = "tuner"  # folder of KerasTuner's state


class BudgetSpent(Exception):
    """The cell has trained all the epochs that it may."""


class Cell:
    """One peer's search on one attribute: its children so far, in a folder.

    Args:
      path: the folder.
      data: the attribute.
      config: settings; `seed` is that of every draw.
      trials, epochs: budget; each child is trained for so many epochs at most.
    """

    def __init__(self, path: str, data: AttributeData, config: Config, trials: int, epochs: int) -> None:
        self.path, self.data, self.config, self.trials, self.epochs = path, data, config, trials, epochs
        self.children: list[dict[str, Any]] = self._read(_CHILDREN, list) or []
        self._last = time.monotonic()

    def run(self, search: Callable[["Cell"], None]) -> dict[str, Any]:
        """What is left of the search, and the one test; raises UserError where another process works on it."""
        result = self._read(_RESULT, dict)
        if result is None:
            with locked(self.path):
                self.children = self._read(_CHILDREN, list) or []  # again, under the lock
                result = self._read(_RESULT, dict) or self._searched(search)
        return {**result, "children": self.children}

    def _searched(self, search: Callable[["Cell"], None]) -> dict[str, Any]:
        with contextlib.suppress(BudgetSpent):
            search(self)
        result = self._result()
        self._write(_RESULT, result)
        return result

    def judge(
        self,
        trial: str,
        architecture: Architecture,
        first_epoch: int = 0,
        last_epoch: Optional[int] = None,
        parent: str = "",
    ) -> float:
        """Validation AUC of a child, trained unless it was before. Where it was another, all from there on are anew.

        Args:
          trial: its name.
          architecture: of the child.
          first_epoch, last_epoch: those it is trained for; 0 to `epochs` when left out.
          parent: trial whose weights it goes on with; "" for fresh ones.
        """
        last_epoch = self.epochs if last_epoch is None else last_epoch
        row = {"trial": trial, "architecture": architecture.canonical().number, "epochs": last_epoch - first_epoch}
        number = next((i for i, child in enumerate(self.children) if child["trial"] == trial), None)
        if number is not None:
            if row.items() <= self.children[number].items():
                return self.children[number][OBJECTIVE]
            del self.children[number:]
            self._write(_CHILDREN, self.children)  # before others' weights go by these names
        child = Child(architecture, self.config, self._child_seed(len(self.children)))
        if parent:
            child.restore(self._weights(parent))
        child.train(self.data, "train", first_epoch, last_epoch)
        auc = child.auc(self.data, self.data.validation)
        with result_file(self._weights(trial)) as partial:
            child.save(partial)
        now = time.monotonic()
        self.children.append({**row, OBJECTIVE: auc, "seconds": now - self._last})
        self._last = now
        self._write(_CHILDREN, self.children)
        return auc

    def test_auc(self, trial: str) -> float:
        """AUC on the test images of a child that was judged, with the weights it was judged with."""
        row = next(child for child in self.children if child["trial"] == trial)
        child = Child(Architecture.from_number(row["architecture"]), self.config, 0)
        child.restore(self._weights(trial))
        return child.auc(self.data, self.data.test)

    @property
    def epochs_left(self) -> int:
        return self.trials * self.epochs - sum(child["epochs"] for child in self.children)

    def _result(self) -> dict[str, Any]:
        """Retrains the best architecture on all but the test images, and tests it."""
        best, started = max(self.children, key=lambda child: child[OBJECTIVE]), time.monotonic()
        architecture = Architecture.from_number(best["architecture"])
        final = Child(architecture, self.config, self._child_seed(len(self.children)))
        final.train(self.data, "final", 0, self.epochs)
        retrained = time.monotonic() - started
        return {
            "val_auc": best[OBJECTIVE],
            "test_auc": final.auc(self.data, self.data.test),
            "architecture": architecture.describe(),
            "seconds": sum(child["seconds"] for child in self.children),
            "retrain_seconds": retrained,
            "architectures": len({child["architecture"] for child in self.children}),
        }

    def _child_seed(self, number: int) -> int:
        return int(tensor_seed(self.config.seed, Stream.BASELINE, number)[0])

    def _weights(self, trial: str) -> str:
        return os.path.join(self.path, "weights", f"{trial}.npz")

    def _read(self, name: str, kind: type) -> Any:
        path = os.path.join(self.path, name)
        return read_result(path, kind) if os.path.exists(path) else None

    def _write(self, name: str, value: Any) -> None:
        with result_file(os.path.join(self.path, name)) as partial, open(partial, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)


def _tuner(base: type[keras_tuner.Tuner], **settings: Any) -> Callable[[Cell], None]:
    """A search by one of KerasTuner's tuners; settings are functions of the cell."""

    class Trials(base):
        """The tuner around a cell's children."""

        cell: Cell

        def pre_create_trial(self):
            if self.cell.epochs_left <= 0:
                raise BudgetSpent

        def run_trial(self, trial, *_, **__):
            values = trial.hyperparameters.values
            architecture = Architecture.from_indices([values[d.name] for d in search_space.DECISIONS])
            epochs = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs")
            return {
                OBJECTIVE: self.cell.judge(trial.trial_id, architecture, *epochs, values.get("tuner/trial_id") or "")
            }

    def search(cell: Cell) -> None:
        def begin_or_reload() -> keras_tuner.Tuner:
            with contextlib.redirect_stdout(io.StringIO()):  # that it reads its state again
                return Trials(
                    objective=keras_tuner.Objective(OBJECTIVE, "max"),
                    hyperparameters=space(),
                    tune_new_entries=False,
                    # KerasTuner takes a seed of 0 for none.
                    seed=1 + cell.config.seed,
                    directory=cell.path,
                    project_name=_TUNER,
                    max_consecutive_failed_trials=1,
                    **{name: of(cell) for name, of in settings.items()},
                )

        state = os.path.join(cell.path, _TUNER)
        trials = kerastuner.begin(begin_or_reload, state)
        trials.cell = cell
        kerastuner.search(trials, state)

    return search


def _rl_nas(cell: Cell) -> None:
    """Zoph & Le 2017: GALM's controller and REINFORCE with one attribute, rewarded by trained children."""
    config = cell.config
    controller = Controller.of(config, 1, config.seed)
    reinforce = Reinforce(controller, config, cell.trials, int(tensor_seed(config.seed, Stream.CONTROLLER)[0]))
    attribute = tf.zeros([1], tf.int32)
    for step in range(cell.trials):  # a resumed search takes the same steps again, on rewards that it knows
        actions = controller.sample(attribute, tf.constant(tensor_seed(config.seed, Stream.CONTROLLER, step + 1)))[0]
        reward = cell.judge(str(step), Architecture.from_indices(actions[0].numpy()))
        reinforce.step_with_rewards(attribute, actions, tf.constant([reward], tf.float32), step)


PEERS: dict[str, Callable[[Cell], None]] = {
    "random": _tuner(keras_tuner.RandomSearch, max_trials=lambda cell: cell.trials),
    "bayesian": _tuner(
        keras_tuner.BayesianOptimization,
        max_trials=lambda cell: cell.trials,
        num_initial_points=lambda cell: max(2, cell.trials // 3),  # KerasTuner's 30 would leave it random
    ),
    "hyperband": _tuner(
        keras_tuner.Hyperband, max_epochs=lambda cell: cell.epochs, hyperband_iterations=lambda cell: cell.trials
    ),
    "rl_nas": _rl_nas,
}


def run_peers(
    config: Config, attributes: Sequence[AttributeData], peers: Sequence[str], trials: int, epochs: int, out: str
) -> pd.DataFrame:
    """What is left of every cell.

    Args:
      config: data and training settings.
      attributes: one search each.
      peers: keys of `PEERS`.
      trials, epochs: see the module.
      out: folder; each peer and attribute has one within.

    Returns:
      A row per child: peer, attribute, architecture, seconds (since the search began), architectures (distinct, so
      far), best_val_auc (so far); and, the same in all rows of a cell, test_auc.
    """
    rows = []
    for data in attributes:
        for peer in peers:
            result = search_cell(config, data, peer, trials, epochs, out)[1]
            rows.append(curve(result["children"]).assign(peer=peer, attribute=data.name, test_auc=result["test_auc"]))
    return pd.concat(rows, ignore_index=True)


def search_cell(
    config: Config, data: AttributeData, peer: str, trials: int, epochs: int, out: str
) -> tuple[Cell, dict[str, Any]]:
    """What is left of one peer's search on one attribute: the cell in `out`, and its result."""
    cell = Cell(os.path.join(out, peer, file_name(data.name)), data, config, trials, epochs)
    return cell, cell.run(PEERS[peer])


def curve(children: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Best validation AUC against time and against distinct architectures: the columns of `run_peers` that differ in a
    cell.
    """
    table = pd.DataFrame(children)
    return pd.DataFrame(
        {
            "architecture": table["architecture"],
            "seconds": table["seconds"].cumsum(),
            "architectures": (~table["architecture"].duplicated()).cumsum(),
            "best_val_auc": table[OBJECTIVE].cummax(),
        }
    )


def is_export(path: str) -> bool:
    """Whether a file is one of `export`, and no other's."""
    try:
        with np.load(path) as stored:
            return "settings" in stored.files and "train_images" in stored.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False


def export(data: AttributeData, settings: dict[str, Any], path: str) -> None:
    """Writes the attribute's images and labels, of what trains its targets, for peers outside TensorFlow
    (benchmarks/peers_nni.py).
    """
    arrays: dict[str, Any] = {"settings": json.dumps({"attribute": data.name, **settings})}
    for part, values in (
        ("train", data.targets),
        ("validation", data.labels),
        ("final", data.targets),
        ("test", data.labels),
    ):
        index = getattr(data, part)
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = np.asarray(data.images[index]), values[index]
    with result_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)
