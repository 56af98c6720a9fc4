"""Learning curves of a run as one picture, rebuilt from metrics.jsonl alone."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import warnings
from typing import Iterator

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galm_tf import search_space
from galm_tf.run_folder import RunFolder

_UNIFORM_ENTROPY = math.log(search_space.NUM_ARCHITECTURES)


def write_learning_curves(folder: RunFolder) -> None:
    """Draws `curves.png` into the run folder."""
    with open(os.path.join(folder.path, "metrics.jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    figure = Figure((11, 6.5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_losses(axes[0, 0], records)
    _draw_rewards(axes[0, 1], records)
    _draw_entropy(axes[1, 0], records)
    _draw_validation(axes[1, 1], records)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
        else:
            axis.text(0.5, 0.5, "this run has no such phase", ha="center", va="center", transform=axis.transAxes)
    buffer = io.BytesIO()
    with without_font_warnings():
        canvas.print_png(buffer)
    folder.write_bytes("curves.png", buffer.getvalue())


@contextlib.contextmanager
def without_font_warnings() -> Iterator[None]:
    """Draws names of any script: what the font lacks is a box in the picture and no line in the terminal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _series(records: list[dict], tag: str, phase: str = "") -> tuple[list[int], list[float]]:
    rows = [r for r in records if tag in r and (not phase or r["phase"] == phase)]
    return [r["step"] for r in rows], [r[tag] for r in rows]


def _draw_line(axis, steps: list[int], values: list[float], style: str = "-", **options) -> None:
    """A series as a line; as a dot where it has one value, of which no line can be drawn."""
    axis.plot(steps, values, "o" if len(steps) == 1 else style, **options)


def _draw_losses(axis, records) -> None:
    axis.set_title("training loss (cross-entropy)")
    axis.set_xlabel("supernet step")
    for phase, tag, label in (
        ("warmup", "supernet/loss", "warm-up"),
        ("supernet", "supernet/loss", "rounds, policy's architectures"),
        ("adapt", "derived/loss", "adapting the chosen"),
        ("finetune", "derived/loss", "fine-tuning"),
    ):
        steps, values = _series(records, tag, phase)
        if steps:
            _draw_line(axis, steps, values, label=label)


def _draw_rewards(axis, records) -> None:
    axis.set_title("validation reward of sampled architectures")
    axis.set_xlabel("controller step")
    for tag, style in (("controller/reward", "-"), ("controller/baseline", ":")):
        steps, values = _series(records, tag)
        if steps:
            _draw_line(axis, steps, values, style, label=tag.split("/")[1])
    for tag, label in (("validation/table_best", "best of table"), ("validation/table_mean", "mean of table")):
        steps, values = _series(records, tag)
        if steps:
            axis.plot(steps, values, "o", label=f"{label}, at each round's start")


def _draw_entropy(axis, records) -> None:
    axis.set_title("entropy of the policy (nats)")
    axis.set_xlabel("controller step")
    steps, values = _series(records, "controller/entropy")
    if steps:
        _draw_line(axis, steps, values, label="policy")
        axis.axhline(_UNIFORM_ENTROPY, linestyle="--", color="grey", label="uniform, ln 2304")
        axis.set_ylim(0, _UNIFORM_ENTROPY * 1.08)


def _draw_validation(axis, records) -> None:
    axis.set_title("validation mAUC of towers alone, adapting")
    axis.set_xlabel("supernet step")
    steps, values = _series(records, "derived/validation_mauc")
    if len(steps) > 1:  # else nothing was adapted, but only judged
        axis.plot(steps, values, "o-", label="chosen architectures")
