"""Attributes of images, by the SavedModel of a run or a file made of it.

    python -m galm_tf.predict --model=runs/NAME/saved_model IMAGE...
    python -m galm_tf.predict --model=FILE.tflite IMAGE...          # of galm_tf.deploy

IMAGE is a file, a folder (all pictures below it), a quoted pattern ("photos/**/*.jpg"), or - for a list of files on
standard input, a path a line. An image counts once, as it was first named, but every line of a list. Results go to
standard output, everything else to standard error. Exit status: 0; 1 when some images could not be read; 2 on bad
input; 130 when interrupted.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import contextlib
import dataclasses
import functools
import glob
import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence, Union

import numpy as np
import tensorflow as tf
from absl import flags

from galm_tf import attribute_names, lite
from galm_tf.domains.files import by_ending, list_images, other_endings
from galm_tf.errors import UserError
from galm_tf.export import FORMAT, METADATA
from galm_tf.hardware import decoders
from galm_tf.prediction_formats import Prediction, begin_output, print_csv, print_json, print_table
from galm_tf.preprocess import BadImageError, decode_image, first_of, resize_picture
from galm_tf.progress import Progress

FLAGS = flags.FLAGS
_FORMATS = {"table": print_table, "csv": print_csv, "json": print_json}
QUIET_IMAGES = 200  # fewer need no progress line


@dataclasses.dataclass(frozen=True)
class Options:
    """What the flags say; see `define_flags`."""

    model: str
    format: str = "table"
    top: int = 0
    attributes: tuple[str, ...] = ()
    threshold: Optional[float] = None
    decisions: bool = False
    batch_size: int = 64
    on_bad_image: str = "skip"


def define_flags() -> None:
    flags.DEFINE_string("model", None, "The saved_model folder of a run, or a .tflite file of galm_tf.deploy.")
    flags.DEFINE_enum(
        "format",
        "table",
        list(_FORMATS),
        "table: for people, attributes by falling probability. csv: a line per image, a column per attribute with its probability. json: a list of images, each with probability and decision of its attributes.",
    )
    flags.DEFINE_integer(
        "top",
        0,
        "Show only this many most probable attributes of each image (in csv the others are empty); 0 shows all.",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "attributes",
        [],
        "Show only these attributes, comma-separated; a name with a comma in quotes that the shell leaves: '--attributes=\"warm, sunny\"'.",
    )
    flags.DEFINE_float(
        "threshold",
        None,
        "Probability from which the answer is yes, for all attributes; without it each has its own, chosen on validation data.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_boolean(
        "decisions",
        False,
        "In csv 1 for yes and 0 for no, as in attributes.csv, in place of the probability; empty where validation chose no threshold.",
    )
    flags.DEFINE_integer("batch_size", 64, "Images per call of the network.", lower_bound=1)
    flags.DEFINE_enum(
        "on_bad_image",
        "skip",
        ("fail", "skip"),
        "skip: name unreadable images, go on, exit with 1; fail: stop at the first, exit with 2.",
    )


def main(arguments: list[str]) -> int:
    begin_output(FLAGS.format)
    sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be text
    if not FLAGS.model:
        raise UserError(
            f"Expected the saved_model folder of a run. Received: no --model; give --model=runs/NAME/saved_model, or a {lite.SUFFIX} file."
        )
    options = {field.name: getattr(FLAGS, field.name) for field in dataclasses.fields(Options)}
    return predict(Options(**{**options, "attributes": tuple(attribute_names.asked_for(FLAGS))}), arguments[1:])


def predict(options: Options, arguments: Sequence[str]) -> int:
    """Prints the attributes of images; returns the exit status.

    Raises:
      UserError: no model, no images, an unknown attribute, a threshold that is no probability, or that csv would not
        show, decisions of another format than csv, or of the most probable alone; with on_bad_image=fail an unreadable image.
    """
    if options.threshold is not None and not 0 <= options.threshold <= 1:  # nan is within any bounds of a flag
        raise UserError(
            f"Expected --threshold to be a number, between 0.0 and 1.0. Received: --threshold={options.threshold}; leave it out for each attribute's own."
        )
    if options.decisions and options.format != "csv":
        raise UserError(
            f"Expected --decisions beside --format=csv. Received: --format={options.format}, which shows probability and decision already; leave it out."
        )
    if options.decisions and options.top:
        raise UserError(
            f"Expected --decisions of all attributes: an empty cell is one without a threshold. Received: --top={options.top} beside it; leave it out, "
            "or name some by --attributes."
        )
    if options.threshold is not None and options.format == "csv" and not options.decisions:
        raise UserError(
            f"Expected --decisions beside --threshold with --format=csv, which else shows probabilities alone. Received: --threshold={options.threshold}; "
            "add --decisions, or leave it out."
        )
    predictor = Predictor(options.model)
    keep = attribute_names.columns(options.attributes, predictor.attributes)
    paths = _expand(arguments)
    if not paths:
        raise UserError(
            "Expected at least one IMAGE, a folder of images, or - for a list on standard input. Received: none; name some."
        )
    bad: list[str] = []
    rows = (
        Prediction(row.image, row.probability[keep], row.decision[keep], row.decides[keep])
        for row in _predictions(predictor, paths, options, bad)
    )
    show = functools.partial(print_csv, decisions=True) if options.decisions else _FORMATS[options.format]
    show([predictor.attributes[i] for i in keep], rows, options.top)
    sys.stdout.flush()
    if bad:
        print(f"warning: {len(bad)} of {len(paths)} images could not be read and are left out", file=sys.stderr)
    if predictor.notice:
        print(f"note: {predictor.trained_on}", file=sys.stderr)
    if predictor.boxes:
        print(
            "note: the model was trained on parts of photographs, cut out by boxes: crop to what you ask about",
            file=sys.stderr,
        )
    return 1 if bad else 0


def _of_run(path: str) -> str:
    """The model of a run, where a path is a run's; else the path."""
    model = os.path.join(path, "saved_model")
    return model if os.path.isdir(model) else path


class Predictor:
    """A loaded SavedModel, or a TensorFlow Lite file of `deploy`.

    Args:
      path: a run's folder, its saved_model, or what `deploy` wrote.
      repair: what an error says to do.

    Attributes:
      metadata: what travels along (`export.ServingModule`).
      attributes: [N] names.
      decides: bool [N]: validation chose a threshold; else the model's decision means nothing.
      image_size: side of what the network sees, which a Lite file asks for.
      notice: what a reader of its output must know about its training data, or None.
      boxes: whether it was trained on parts of photographs; models of earlier versions do not tell.
      model: the loaded SavedModel, or `lite.LiteModel`.

    Raises:
      UserError: the folder holds no SavedModel of galm_tf, the file no network of it, or a damaged one.
    """

    def __init__(self, path: str, repair: str = "give --model=runs/NAME/saved_model") -> None:
        path = _of_run(path)
        try:
            content, metadata = lite.read(path.rstrip(os.sep)) if lite.is_lite(path) else (b"", _read_metadata(path))
            self.metadata: dict[str, Any] = metadata
            if metadata["format"] > FORMAT:
                raise UserError(
                    f"Expected a model of format {FORMAT} or older. Received: {path}, format={metadata['format']}; "
                    "update galm_tf."
                )
            self.attributes: list[str] = metadata["attributes"]
            self.decides = np.array([t is not None for t in metadata["thresholds"]], bool)
            self.image_size: int = metadata["image_size"]
            self.notice: Optional[str] = metadata.get("notice")
            self.boxes: bool = metadata.get("boxes", False)
            self._process: Optional[int] = None  # that alone can ask it
            if content:
                self.model = self._serve = lite.LiteModel(content, metadata)
            else:
                self.model = tf.saved_model.load(path)
                self._serve = self.model.signatures["serving_default"]
                self._process = os.getpid()
        except UserError:
            raise
        except Exception as error:  # a damaged file raises many kinds; each means that the model is unusable
            if _is_unfinished(path):
                repair = f"finish it by python -m galm_tf.main --resume --run_dir={shlex.quote(path)}"
            raise UserError(
                f"Expected the saved_model folder of a run. Received: model={path} ({_reason(path, error)}); {repair}."
            ) from error

    @property
    def trained_on(self) -> str:
        """`notice` as a sentence; "" where there is none."""
        return f"the model was trained on a {self.notice}" if self.notice else ""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, H, W, 3] -> probability float32 [B, N], decision bool [B, N]; raises UserError for other images, and
        for a SavedModel in a process that was forked off since, where TensorFlow would stand still.
        """
        if self._process not in (None, os.getpid()):
            raise UserError(
                "Expected a SavedModel to be asked in the process that loaded it. Received: a call in one that was forked off; "
                f"start processes by spawn and load it there, or take a {lite.SUFFIX} file of galm_tf.deploy."
            )
        images = _batch(images)
        if not len(images):
            shape = (0, len(self.attributes))
            return np.zeros(shape, np.float32), np.zeros(shape, bool)
        outputs = self._serve(images=tf.constant(images))
        return outputs["probability"].numpy(), outputs["decision"].numpy()

    def of_records(
        self,
        pictures: np.ndarray,
        index: np.ndarray,
        batch_size: int = 64,
        done: Callable[[int], None] = lambda count: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `__call__`, of some records int64 [m] of uint8 [n, S, S, 3] in batches; `done` is told how many each
        time.
        """
        parts = []
        for start in range(0, max(1, len(index)), batch_size):  # of none an empty batch
            block = index[start : start + batch_size]
            parts.append(self(np.asarray(pictures[block])))
            done(len(block))
        probability, decision = map(np.concatenate, zip(*parts))
        return probability, decision


def _batch(images: Any) -> np.ndarray:
    """Images as an array, uint8 [B, H, W, 3]; raises UserError where they are none: TensorFlow Lite, given others, may
    end the process.
    """
    expected = "Expected images as an array uint8 [B, H, W, 3]."
    try:
        images = np.asarray(images)
    except ValueError as error:
        raise UserError(
            f"{expected} Received: arrays of different shapes; resize them to one, or call once for each."
        ) from error
    repairs = [] if images.dtype == np.uint8 else ["give pixel values 0 to 255 as uint8"]
    if images.ndim == 3:
        repairs.append("add the batch axis, images[None]")
    elif images.ndim != 4:
        repairs.append("give a batch of pictures")
    if images.ndim in (3, 4) and images.shape[-1] != 3:
        repairs.append("give three channels, red, green and blue")
    if 0 in images.shape[-3:-1]:
        repairs.append("give pictures that have pixels")
    if repairs:
        raise UserError(f"{expected} Received: {images.dtype} {list(images.shape)}; {' and '.join(repairs)}.")
    return images


def _read_metadata(path: str) -> dict[str, Any]:
    with open(os.path.join(path, METADATA), encoding="utf-8") as file:
        return json.load(file)


def _is_unfinished(path: str) -> bool:
    """Whether a path is of a run that has left no result yet."""
    begun, done = (os.path.exists(os.path.join(path, name)) for name in ("config.json", "result.json"))
    return begun and not done


def _reason(path: str, error: Exception) -> str:
    if not os.path.lexists(path):
        return "no such folder"
    if isinstance(error, PermissionError):
        return "which cannot be read"
    if _is_unfinished(path):
        return "a run that has not finished"
    if not lite.is_lite(path) and not os.path.exists(os.path.join(path, METADATA)):
        return f"it holds no {METADATA}"
    return f"damaged, {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _predictions(predictor: Predictor, paths: Sequence[str], options: Options, bad: list[str]) -> Iterator[Prediction]:
    """Predictions of the readable images in order; unreadable ones are named and go to `bad`."""
    many = len(paths) > QUIET_IMAGES
    with Progress(len(paths), "predicting", unit="image") if many else contextlib.nullcontext() as progress:
        for start in range(0, len(paths), options.batch_size):
            block = paths[start : start + options.batch_size]
            images = _readable(block, predictor.image_size, options, bad)
            if images:
                for (path, _), probability, decision in zip(
                    images, *predictor(np.stack([image for _, image in images]))
                ):
                    decides = predictor.decides
                    if options.threshold is not None:
                        decision, decides = probability >= np.float32(options.threshold), np.ones_like(decides)
                    yield Prediction(path, probability, decision, decides)
            if progress:
                progress.update(len(block))


def _readable(paths: Sequence[str], size: int, options: Options, bad: list[str]) -> list[tuple[str, np.ndarray]]:
    """(path, image) of those that can be read."""
    images = []
    with ThreadPoolExecutor(decoders()) as pool:
        for path, image in zip(paths, pool.map(lambda path: _read(path, size), paths)):
            if not isinstance(image, BadImageError):
                images.append((path, image))
                continue
            if options.on_bad_image == "fail":
                raise first_of([str(image)])
            bad.append(path)
            print(f"warning: {image}", file=sys.stderr)
    return images


def _read(path: str, size: int) -> Union[np.ndarray, BadImageError]:
    """One image at the network's size, uint8 [S, S, 3], so that pictures of all sizes share a batch."""
    try:
        return resize_picture(decode_image(path), size)
    except BadImageError as error:
        if os.path.isdir(path):  # of a list: arguments have been looked into
            return BadImageError(
                f"Expected files in a list on standard input. Received: {path}, a folder; name it as an argument."
            )
        return error


def _expand(arguments: Iterable[str]) -> list[str]:
    """Paths of images as they were first named, and of a list on standard input all; tells how many are left out, also
    of folders for their endings.
    """
    passed: dict[str, list[str]] = {}
    paths, found, repeated = [], set(), 0
    for argument in arguments:
        its = _expand_one(argument, passed)
        new = its if argument == "-" else [path for path in its if os.path.abspath(path) not in found]
        paths += new
        repeated += len(its) - len(new)
        found.update(map(os.path.abspath, its))
    if repeated:
        print(f"note: images that are named again are shown once ({repeated} left out)", file=sys.stderr)
    for argument, files in passed.items():
        others = [path for path in files if os.path.abspath(path) not in found]
        if others:
            print(f"note: {_told(argument, others)}", file=sys.stderr)
    return paths


def _told(argument: str, others: Sequence[str]) -> str:
    """That files were passed over for their endings, in words."""
    one = len(others) == 1
    left = "was not looked at; name it to try it" if one else "were not looked at; name them to try them"
    return f"{other_endings(others, argument)} and {left}"


def _expand_one(argument: str, passed: dict[str, list[str]]) -> list[str]:
    """Paths of one argument; to `passed`, by it, go those of files that a folder has beside pictures."""
    if argument == "-":
        lines = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        return [line.removeprefix("\ufeff") for line in lines[:1]] + lines[1:]
    if os.path.isdir(argument):
        found, others = _below(argument)
        if not found:
            repair = f"{_told(argument, others)}." if others else "name another."
            raise UserError(f"Expected images below a folder. Received: {argument}, which holds none; {repair}")
        passed[argument] = others
        return found
    if glob.has_magic(argument) and not os.path.exists(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        below = {match: _below(match) for match in matches if os.path.isdir(match)}
        found = list(
            dict.fromkeys(path for match in matches for path in (below[match][0] if match in below else [match]))
        )
        passed[argument] = list(dict.fromkeys(path for _, others in below.values() for path in others))
        if not found:
            raise UserError(
                f"Expected images that match a pattern. Received: {argument}, which matches none; check the path."
            )
        return found
    return [argument]


def _below(folder: str) -> tuple[list[str], list[str]]:
    """(pictures, files with other endings) below a folder as it was named, wherever its links lead."""
    return by_ending(os.path.join(folder, *name.split("/")) for name in list_images(folder, endings=("",), leave=True))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
