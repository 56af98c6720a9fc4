"""What a run shows: TensorBoard events and metrics.jsonl.

Tags are listed in `TAGS`; a tag that is not there is refused (STYLE 22).

TensorBoard cannot take back events, so a resumed run, after cutting
metrics.jsonl back to the lines it will not repeat, writes the scalar events
anew from these lines: no step occurs twice (wall times are then those of the
resume). Pictures and texts have a folder of their own, which stays. The Projector's files lie beside the scalars,
because it looks for them where events are. HParams has a folder of its own too: it takes every scalar beside the
settings for one of their metrics.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import logging
import os
import re
import shutil
import zlib
from typing import Any, Iterator, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist
from tensorboard.plugins.hparams import api as hparams

from galm_tf import search_space
from galm_tf.config import Config
from galm_tf.plots import without_font_warnings
from galm_tf.refusals import clear_errors
from galm_tf.run_folder import RunFolder
from galm_tf.words import abridged

TAGS = {
    "supernet/loss": "mean masked cross-entropy of the sampled architectures over the last steps (nats)",
    "supernet/learning_rate": "learning rate of Omega at this step",
    "controller/reward": "mean reward of the sampled architectures, less what their size costs",
    "controller/baseline": "mean baseline that was subtracted from these rewards",
    "controller/advantage": "mean of reward minus baseline",
    "controller/advantage_std": "its standard deviation over the samples",
    "controller/entropy": "entropy of the policy per architecture (nats; uniform is ln 2304 = 7.74)",
    "controller/loss": "REINFORCE loss: -(advantage * log-probability) minus the entropy bonus",
    "controller/gradient_norm": "global norm of the controller's gradient",
    "validation/table_best": "mean over attributes of the best reward in the exact table, less what size costs",
    "validation/table_mean": "mean reward of the table: what a uniformly random architecture gets",
    "derived/loss": "training loss of the chosen architectures",
    "derived/validation_mauc": "validation mAUC of the chosen architectures while they adapt",
    "choice": "probability of each choice, mean over attributes: choice/<decision>=<choice>",
    "architectures": "table of the chosen architectures (text)",
    "correlation": "cosine of the attribute embeddings, clustered (image)",
}
# Figures of a whole run, beside its settings in HParams.
METRICS = {
    "run/test_mauc": "mean over the tested attributes of the AUC on test images",
    "run/val_mauc": "validation mAUC of the chosen architectures",
    "run/skill": "cross-fitted skill of the search: 1 as good as the best of the table, 0 as a random architecture",
    "run/specialisation": "what an architecture of its own gains an attribute over the best single one, cross-fitted",
    "run/regret": "how far the policy's most probable ones, before re-ranking, are below the best of the rewards that it saw",
    "run/entropy": "entropy of the final policy per architecture (nats)",
    "run/seconds": "seconds of the whole run; of a tuning's trial, of its phases",
}
# Settings by which runs differ most; HParams shows a column for each.
_HPARAMS = (
    "domain",
    "method",
    "seed",
    "split_seed",
    "image_size",
    "train_positives",
    "source_run",
    "transfer",
    "match",
    "freeze_trunk",
    "trunk_model",
    "trunk_steps",
    "batch_size",
    "attributes_per_step",
    "warmup_steps",
    "rounds",
    "supernet_steps",
    "learning_rate",
    "weight_decay",
    "dropout",
    "uniform_fraction",
    "imbalance",
    "class_balance",
    "controller_steps",
    "samples_per_step",
    "controller_learning_rate",
    "controller_optimizer",
    "controller_cell",
    "conditioning",
    "embedding_scale",
    "entropy_weight",
    "baseline",
    "baseline_decay",
    "reward",
    "reward_data",
    "reward_bn",
    "size_penalty",
    "derive_top",
    "adapt_steps",
    "adapt_learning_rate",
    "finetune_steps",
    "finetune_learning_rate",
    "readout_share",
)
_PLACES = ("source_run", "trunk_model")  # of which the last part is shown
_CHOICE_TAGS = {f"choice/{d.name}={choice}" for d in search_space.DECISIONS for choice in d.choices}
_METRICS, _PICTURES, _HPARAMS_FOLDER = "metrics.jsonl", "pictures", "hparams"
_FIGURES = ("val_auc", "test_auc", "threshold")  # in the table of architectures
_MARKS = re.compile(r"[\\`*_<\[&|]")  # what TensorBoard's Markdown takes for more than the letter
_LABEL = 32  # letters of a name beside the heat map


class Telemetry:
    """Writes into `folder`; use as a context manager.

    Args:
      folder: the run's folder.
      first_record: lines of metrics.jsonl that stay; a resumed run repeats the others.
    """

    def __init__(self, folder: RunFolder, first_record: int = 0) -> None:
        self._folder = folder
        root = os.path.join(folder.path, "tensorboard")
        with _clear_errors(folder):
            for stale in glob.glob(os.path.join(glob.escape(root), "events.out.tfevents.*")):
                os.remove(stale)
            self._scalars = tf.summary.create_file_writer(root)
            self._pictures = tf.summary.create_file_writer(os.path.join(root, _PICTURES))
        kept = _kept_records(folder, first_record)
        self.num_records = len(kept)
        for record in kept:
            del record["phase"]
            self._write_events(record.pop("step"), record)

    def scalars(self, phase: str, step: int, values: Mapping[str, Optional[float]]) -> None:
        """Records figures by tag; None is left out. Raises KeyError for a tag without a line in `TAGS`."""
        values = {tag: float(v) for tag, v in values.items() if v is not None}
        for tag in values:
            if tag not in TAGS and tag not in _CHOICE_TAGS:
                raise KeyError(f"tag {tag} has no line in telemetry.TAGS")
        self._write_events(step, values)
        self._folder.append_line(_METRICS, json.dumps({"phase": phase, "step": step, **values}))
        self.num_records += 1

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        with _clear_errors(self._folder), self._scalars.as_default():
            for tag, value in values.items():
                tf.summary.scalar(tag, value, step)

    def choice_probabilities(self, phase: str, step: int, probabilities: Sequence[np.ndarray]) -> None:
        """Probability of every choice of every decision: one [N, choices] per decision, shown as means."""
        values = {
            f"choice/{decision.name}={choice}": float(share)
            for decision, p in zip(search_space.DECISIONS, probabilities)
            for choice, share in zip(decision.choices, np.mean(p, axis=0))
        }
        self.scalars(phase, step, values)

    def correlation_image(self, step: int, matrix: np.ndarray, names: Sequence[str]) -> None:
        """Cosine of attributes [N, N] as a heat map, ordered by clustering."""
        with _clear_errors(self._folder), self._pictures.as_default():
            tf.summary.image("correlation", _heat_map(matrix, names)[None], step)

    def embeddings(self, vectors: np.ndarray, names: Sequence[str], domains: Sequence[str]) -> None:
        """Attribute embeddings [N, D] for the Projector, with names and domains."""
        lines = ["attribute\tdomain"] + [f"{n}\t{d}" for n, d in zip(names, domains)]
        table = "\n".join("\t".join(f"{v:.6g}" for v in row) for row in vectors)
        config = (
            'embeddings {\n  tensor_name: "attributes"\n  tensor_path: "attributes.tsv"\n'
            '  metadata_path: "metadata.tsv"\n}\n'
        )
        for name, text in (
            ("metadata.tsv", "\n".join(lines)),
            ("attributes.tsv", table),
            ("projector_config.pbtxt", config),
        ):
            self._folder.write_text(os.path.join("tensorboard", name), text + "\n")

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_) -> None:
        with _clear_errors(self._folder):
            self._scalars.close()
            self._pictures.close()


@contextlib.contextmanager
def _clear_errors(folder: RunFolder) -> Iterator[None]:
    """Turns a refusal to write events of a run into a sentence; TensorFlow would make a folder that is gone again."""
    folder.expect_own()
    with clear_errors(os.path.join(folder.path, "tensorboard"), folder.unwritable, (tf.errors.OpError,)):
        yield


@contextlib.contextmanager
def _written_into(folder: RunFolder, name: str) -> Iterator[None]:
    """Events of the block go into a folder beside the scalars."""
    with _clear_errors(folder):
        writer = tf.summary.create_file_writer(os.path.join(folder.path, "tensorboard", name))
        with writer.as_default():
            yield
        writer.close()


def _kept_records(folder: RunFolder, count: int) -> list[dict[str, Any]]:
    """Cuts metrics.jsonl back to its first `count` lines, or to those before a damaged one, and returns what they
    hold.
    """
    records = list(itertools.takewhile(bool, map(_record, folder.keep_lines(_METRICS, count))))
    if len(records) < count:  # the next lines follow whole ones
        folder.keep_lines(_METRICS, len(records))
        path = os.path.join(folder.path, _METRICS)
        logging.warning(
            "%s is damaged: %d of %d lines are whole; its curves lack the others", path, len(records), count
        )
    return records


def _record(line: str) -> dict[str, Any]:
    """What a line of metrics.jsonl holds; nothing when it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and {"phase", "step"} <= set(record) else {}


def write_architecture_table(folder: RunFolder, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """The chosen architectures as a Markdown table among the run's texts; rows: of result.json, by attribute."""
    header = ["attribute", "architecture", *_FIGURES]
    lines = [header, ["---"] * len(header)]
    for name, row in rows.items():
        written = _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", name)  # it knows not every escape by a backslash
        lines.append([written, row["description"], *(_show(row[figure]) for figure in _FIGURES)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    with _written_into(folder, _PICTURES):
        tf.summary.text("architectures", text, 0)


def write_hparams(folder: RunFolder, config: Config, figures: Mapping[str, Any]) -> None:
    """The run's main settings and the `METRICS` among its figures, for TensorBoard's HParams; None is left out."""
    folder.expect_own()
    root = os.path.join(folder.path, "tensorboard", _HPARAMS_FOLDER)
    shutil.rmtree(root, ignore_errors=True)  # of this very run, stopped between here and its result
    settings = {name: _setting(name, value) for name, value in config.to_json().items()}
    with _written_into(folder, _HPARAMS_FOLDER):
        hparams.hparams({name: settings[name] for name in _HPARAMS}, trial_id=_row_name(folder.path))
        for tag in METRICS:
            value = figures.get(tag.split("/")[1])
            if value is not None:
                tf.summary.scalar(tag, value, 0)


def _row_name(path: str) -> str:
    """A run's row of HParams: folders of one name, and runs of the same settings, are not taken together."""
    path = os.path.abspath(path)
    return f"{os.path.basename(path)} {zlib.crc32(path.encode()):08x}"


def _setting(name: str, value: Any) -> Any:
    """A setting as HParams shows it: several in one text, of places their names."""
    values = value if isinstance(value, list) else [value]
    if name in _PLACES:
        values = [os.path.basename(os.path.abspath(path)) if path else "" for path in values]
    return ",".join(values) if isinstance(value, list) else values[0]


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def clustered_order(matrix: np.ndarray) -> np.ndarray:
    """Indices that put similar attributes side by side: int [N]; the rows of `matrix` [N, N] are compared."""
    return leaves_list(linkage(pdist(matrix), "average")) if len(matrix) > 2 else np.arange(len(matrix))


def _heat_map(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W, 4] picture of a symmetric matrix, similar attributes side by side."""
    order = clustered_order(matrix)
    inches = float(np.clip(2.5 + 0.14 * len(matrix), 5, 30))
    figure = Figure((inches + 1.5, inches), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(matrix[np.ix_(order, order)], cmap="RdBu", vmin=-1, vmax=1)
    labels = [abridged(names[i], _LABEL) for i in order]  # a long one leaves the map no room
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=7, parse_math=False)
    figure.colorbar(drawn, ax=axes, label="cosine of attribute embeddings")
    with without_font_warnings():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())
