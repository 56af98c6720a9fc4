"""Attributes of images, by the SavedModel of a run.

    python -m galm_tf.predict --model=runs/NAME/saved_model IMAGE...

IMAGE is a file, a folder (all pictures below it), or - for a list of paths on
standard input. Exit status: 0; 1 when some images could not be read; 2 on bad input.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import csv
import difflib
import json
import os
import sys
from typing import Any, Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf
from absl import flags

from galm_tf.domains.files import list_images
from galm_tf.errors import UserError
from galm_tf.export import METADATA
from galm_tf.preprocess import BadImageError, decode_image, resize_images
from galm_tf.progress import Progress

FLAGS = flags.FLAGS
_FORMATS = ("table", "csv", "json")
_QUIET_IMAGES = 200  # fewer need no progress line


def define_flags() -> None:
    flags.DEFINE_string("model", None, "The saved_model folder of a run.", required=True)
    flags.DEFINE_enum("format", "table", _FORMATS, "table for people; csv (an image a line, a column per attribute) or json for machines.")
    flags.DEFINE_integer("top", 0, "Show only this many most probable attributes of each image; 0 shows all.", lower_bound=0)
    flags.DEFINE_list("attributes", [], "Show only these attributes, comma-separated.")
    flags.DEFINE_integer("batch_size", 64, "Images per call of the network.", lower_bound=1)
    flags.DEFINE_enum("on_bad_image", "skip", ("fail", "skip"), "skip: name unreadable images and go on; fail: stop at the first.")


class Predictor:
    """A loaded SavedModel; raises UserError when the folder holds none of galm_tf's."""

    def __init__(self, path: str) -> None:
        try:
            with open(os.path.join(path, METADATA), encoding="utf-8") as file:
                self.metadata = json.load(file)
            self._model = tf.saved_model.load(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"Expected the saved_model folder of a run. Received: model={path} ({error}); see runs/NAME/saved_model."
            ) from None
        self.attributes: list[str] = self.metadata["attributes"]
        self._serve = self._model.signatures["serving_default"]

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, H, W, 3] -> probability float32 [B, N], decision bool [B, N]."""
        outputs = self._serve(images=tf.constant(images))
        return outputs["probability"].numpy(), outputs["decision"].numpy()


def main(arguments: list[str]) -> int:
    predictor = Predictor(FLAGS.model)
    keep = _chosen_columns(predictor.attributes, FLAGS.attributes)
    paths = list(_expand(arguments[1:]))
    if not paths:
        raise UserError("Expected at least one IMAGE, a folder of images, or - for a list on standard input. Received: none.")
    bad: list[str] = []
    rows = _predict_all(predictor, paths, bad)
    names = [predictor.attributes[i] for i in keep]
    rows = ((path, probability[keep], decision[keep]) for path, probability, decision in rows)
    {"table": _print_table, "csv": _print_csv, "json": _print_json}[FLAGS.format](names, rows)
    if predictor.metadata.get("notice"):
        print(f"note: the model was trained on a {predictor.metadata['notice']}", file=sys.stderr)
    return 1 if bad else 0


def _predict_all(predictor: Predictor, paths: Sequence[str], bad: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(path, probability [N], decision [N]) per readable image; unreadable ones are named and go to `bad`."""
    size = predictor.metadata["image_size"]
    progress = Progress(len(paths), "predicting", unit="image") if len(paths) > _QUIET_IMAGES else None
    for start in range(0, len(paths), FLAGS.batch_size):
        block = paths[start : start + FLAGS.batch_size]
        read = [(path, _read(path, size, bad)) for path in block]
        read = [(path, image) for path, image in read if image is not None]
        if read:
            probability, decision = predictor.predict(np.stack([image for _, image in read]))
            yield from zip([path for path, _ in read], probability, decision)
        if progress:
            progress.update(len(block))


def _read(path: str, size: int, bad: list[str]) -> Optional[np.ndarray]:
    """One image at the network's size, so that pictures of all sizes share a batch."""
    try:
        return resize_images(tf.constant(decode_image(path)), size).numpy()
    except BadImageError as error:
        if FLAGS.on_bad_image == "fail":
            raise
        bad.append(path)
        print(f"warning: {error}", file=sys.stderr)
        return None


def _expand(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        elif os.path.isdir(argument):
            found = list_images(argument)
            if not found:
                raise UserError(f"Expected images below {argument}. Received: a folder without any.")
            yield from found.values()
        else:
            yield argument


def _chosen_columns(attributes: Sequence[str], asked: Sequence[str]) -> list[int]:
    for name in asked:
        if name not in attributes:
            near = difflib.get_close_matches(name, attributes, 1, 0.0)
            raise UserError(f"Expected --attributes that the model knows. Received: {name}; did you mean {near[0]}?")
    return [attributes.index(name) for name in asked] or list(range(len(attributes)))


def _order(probability: np.ndarray) -> np.ndarray:
    """Columns from most to least probable, cut to --top."""
    return np.argsort(-probability, kind="stable")[: FLAGS.top or len(probability)]


def _print_table(names: Sequence[str], rows) -> None:
    width = max(map(len, names))
    for path, probability, decision in rows:
        print(path)
        for i in _order(probability):
            bar = "#" * int(round(20 * probability[i]))
            print(f"  {names[i]:<{width}}  {probability[i]:.3f}  {'yes' if decision[i] else 'no ':<3}  {bar}".rstrip())


def _print_csv(names: Sequence[str], rows) -> None:
    """One line an image; with --top the attributes beyond it are empty."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", *names])
    for path, probability, _ in rows:
        shown = set(_order(probability).tolist())
        writer.writerow([path, *(f"{p:.6f}" if i in shown else "" for i, p in enumerate(probability))])


def _print_json(names: Sequence[str], rows) -> None:
    result: list[dict[str, Any]] = []
    for path, probability, decision in rows:
        shown = {
            names[i]: {"probability": round(float(probability[i]), 6), "decision": bool(decision[i])}
            for i in _order(probability)
        }
        result.append({"image": path, "attributes": shown})
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
