"""What a run shows: TensorBoard events and metrics.jsonl.

Tags are listed in `TAGS`; a tag that is not there is refused (STYLE 22). A
resumed run drops the lines of metrics.jsonl that it is about to repeat and
writes its events into a folder of its own, `tensorboard/from<step>`, because
TensorBoard cannot take back events.
"""

from __future__ import annotations

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


class Telemetry:
    """Writes into `folder`; use as a context manager."""

    def __init__(self, folder: RunFolder, first_record: int = 0) -> None:
        """first_record: lines of metrics.jsonl that stay; a resumed run repeats the others."""
        self._folder = folder
        self._root = os.path.join(folder.path, "tensorboard")
        self._metrics_path = os.path.join(folder.path, "metrics.jsonl")
        self.num_records = first_record
        _truncate(self._metrics_path, first_record)
        self._metrics = open(self._metrics_path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        segment = f"from{first_record:06d}" if first_record else "run"
        self._writer = tf.summary.create_file_writer(os.path.join(self._root, segment))

    def scalars(self, phase: str, step: int, values: Mapping[str, Optional[float]]) -> None:
        """Records figures by tag; None is left out."""
        values = {tag: float(v) for tag, v in values.items() if v is not None}
        for tag in values:
            if tag.split("=")[0] not in TAGS and tag.split("/")[0] not in TAGS:
                raise KeyError(f"tag {tag} has no line in telemetry.TAGS")
        with self._writer.as_default():
            for tag, value in values.items():
                tf.summary.scalar(tag, value, step)
        self._metrics.write(json.dumps({"phase": phase, "step": step, **values}) + "\n")
        self._metrics.flush()
        self.num_records += 1

    def choice_probabilities(self, phase: str, step: int, probabilities: Sequence[np.ndarray]) -> None:
        """Probability of every choice of every decision: one [N, choices] per decision, shown as means."""
        values = {
            f"choice/{decision.name}={choice}": float(share)
            for decision, p in zip(search_space.DECISIONS, probabilities)
            for choice, share in zip(decision.choices, np.mean(p, axis=0))
        }
        self.scalars(phase, step, values)

    def architecture_table(self, step: int, names: Sequence[str], descriptions: Sequence[str], extra: Mapping[str, Sequence[Any]]) -> None:
        """The chosen architectures as a Markdown table."""
        header = ["attribute", "architecture", *extra]
        rows = [header, ["---"] * len(header)]
        for i, (name, description) in enumerate(zip(names, descriptions)):
            rows.append([name, description, *(_show(column[i]) for column in extra.values())])
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        with self._writer.as_default():
            tf.summary.text("architectures", text, step)

    def correlation_image(self, step: int, matrix: np.ndarray, names: Sequence[str]) -> None:
        """Cosine of attributes [N, N] as a heat map, ordered by clustering."""
        with self._writer.as_default():
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
        self._writer.close()
        self._metrics.close()


def _truncate(path: str, count: int) -> None:
    """Keeps the first `count` lines of a file, whole or not at all."""
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    if len(lines) > count:
        with open(path + ".partial", "w", encoding="utf-8") as file:
            file.writelines(lines[:count])
        os.replace(path + ".partial", path)


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _heat_map(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W, 4] picture of a symmetric matrix, similar attributes side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    order = leaves_list(linkage(matrix, "average")) if len(matrix) > 2 else np.arange(len(matrix))
    inches = float(np.clip(2.5 + 0.14 * len(matrix), 5, 30))
    figure = matplotlib.figure.Figure((inches + 1.5, inches), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
    labels = [names[i] for i in order]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    figure.colorbar(drawn, ax=axes, label="cosine of attribute embeddings")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
