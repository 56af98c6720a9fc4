"""What a run shows: TensorBoard events and metrics.jsonl.

Tags are listed in `TAGS`; a tag that is not there is refused (STYLE 22).

TensorBoard cannot take back events, so a resumed run, after cutting
metrics.jsonl back to the lines it will not repeat, writes the scalar events
anew from these lines: no step occurs twice (wall times are then those of the
resume). Pictures and texts have a folder of their own, which stays. The Projector's files lie beside the scalars,
because it looks for them where events are.
"""

from __future__ import annotations

import glob
import json
import os
from typing import Any, Mapping, Optional, Sequence

import matplotlib.figure
import numpy as np
import tensorflow as tf
from scipy.cluster.hierarchy import leaves_list, linkage

from galm_tf import search_space
from galm_tf.run_folder import RunFolder

TAGS = {
    "supernet/loss": "mean masked cross-entropy of the sampled architectures over the last steps (nats)",
    "supernet/learning_rate": "learning rate of Omega at this step",
    "controller/reward": "mean reward of the sampled architectures",
    "controller/baseline": "mean baseline that was subtracted from these rewards",
    "controller/advantage": "mean of reward minus baseline",
    "controller/advantage_std": "its standard deviation over the samples",
    "controller/entropy": "entropy of the policy per architecture (nats; uniform is ln 2304 = 7.74)",
    "controller/loss": "REINFORCE loss: -(advantage * log-probability) minus the entropy bonus",
    "controller/gradient_norm": "global norm of the controller's gradient",
    "validation/table_best": "mean over attributes of the best reward in the exact table",
    "validation/table_mean": "mean reward of the table: what a uniformly random architecture gets",
    "derived/loss": "training loss of the chosen architectures",
    "derived/validation_mauc": "validation mAUC of the chosen architectures while they adapt",
    "choice": "probability of each choice, mean over attributes: choice/<decision>=<choice>",
    "architectures": "table of the chosen architectures (text)",
    "correlation": "cosine of the attribute embeddings, clustered (image)",
}
_CHOICE_TAGS = {f"choice/{d.name}={choice}" for d in search_space.DECISIONS for choice in d.choices}
_METRICS, _PICTURES = "metrics.jsonl", "pictures"


class Telemetry:
    """Writes into `folder`; use as a context manager.

    Args:
      folder: the run's folder.
      first_record: lines of metrics.jsonl that stay; a resumed run repeats the others.
    """

    def __init__(self, folder: RunFolder, first_record: int = 0) -> None:
        self._folder = folder
        root = os.path.join(folder.path, "tensorboard")
        for stale in glob.glob(os.path.join(glob.escape(root), "events.out.tfevents.*")):
            os.remove(stale)
        self._scalars = tf.summary.create_file_writer(root)
        self._pictures = tf.summary.create_file_writer(os.path.join(root, _PICTURES))
        kept = folder.keep_lines(_METRICS, first_record)
        self.num_records = len(kept)
        for line in kept:
            record = json.loads(line)
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
        with self._scalars.as_default():
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
        with self._pictures.as_default():
            tf.summary.image("correlation", _heat_map(matrix, names)[None], step)

    def embeddings(self, vectors: np.ndarray, names: Sequence[str], domains: Sequence[str]) -> None:
        """Attribute embeddings [N, D] for the Projector, with names and domains."""
        lines = ["attribute\tdomain"] + [f"{n}\t{d}" for n, d in zip(names, domains)]
        table = "\n".join("\t".join(f"{v:.6g}" for v in row) for row in vectors)
        config = (
            'embeddings {\n  tensor_name: "attributes"\n  tensor_path: "attributes.tsv"\n'
            '  metadata_path: "metadata.tsv"\n}\n'
        )
        for name, text in (("metadata.tsv", "\n".join(lines)), ("attributes.tsv", table), ("projector_config.pbtxt", config)):
            self._folder.write_text(os.path.join("tensorboard", name), text + "\n")

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_) -> None:
        self._scalars.close()
        self._pictures.close()


def write_architecture_table(
    folder: RunFolder, names: Sequence[str], descriptions: Sequence[str], extra: Mapping[str, Sequence[Any]]
) -> None:
    """The chosen architectures as a Markdown table among the run's texts; extra: further columns by name."""
    header = ["attribute", "architecture", *extra]
    rows = [header, ["---"] * len(header)]
    for i, (name, description) in enumerate(zip(names, descriptions)):
        rows.append([name.replace("|", r"\|"), description, *(_show(column[i]) for column in extra.values())])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    writer = tf.summary.create_file_writer(os.path.join(folder.path, "tensorboard", _PICTURES))
    with writer.as_default():
        tf.summary.text("architectures", text, 0)
    writer.close()


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def clustered_order(matrix: np.ndarray) -> np.ndarray:
    """Indices that put similar attributes side by side: int [N]; the rows of `matrix` [N, N] are compared."""
    return leaves_list(linkage(matrix, "average")) if len(matrix) > 2 else np.arange(len(matrix))


def _heat_map(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W, 4] picture of a symmetric matrix, similar attributes side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    order = clustered_order(matrix)
    inches = float(np.clip(2.5 + 0.14 * len(matrix), 5, 30))
    figure = matplotlib.figure.Figure((inches + 1.5, inches), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
    labels = [names[i] for i in order]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=7, parse_math=False)
    figure.colorbar(drawn, ax=axes, label="cosine of attribute embeddings")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
