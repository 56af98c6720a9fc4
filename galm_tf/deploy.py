"""A run's model for where it shall work: the attributes that are wanted, as a SavedModel of their own or a TensorFlow
Lite file.

    python -m galm_tf.deploy --model=runs/NAME --attributes=striped,furry --out=stripes          # a SavedModel
    python -m galm_tf.deploy --model=runs/NAME --attributes=striped,furry --out=stripes.tflite   # for phones, boards

Every attribute has a network of its own on a trunk that all share, so that a few of them cost little more than the
trunk. The model is only read. What is written gives its probabilities again, with fewer bits for weights nearly so,
which is looked at before anything is written. A file with int8 weights may need a TensorFlow as new as the one that
made it.
Exit status: 0; 2 on bad input; 130 when interrupted.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import os
import shlex
from typing import Any, Optional, Sequence

import numpy as np
import tensorflow as tf
from absl import flags

from galm_tf import attribute_names, export, lite
from galm_tf.derived import DerivedNetwork, ReadingNetwork
from galm_tf.errors import UserError
from galm_tf.network_size import network_size, trunk_size
from galm_tf.predict import Predictor
from galm_tf.preprocess import scale_images
from galm_tf.read_back import read_back, read_readout
from galm_tf.readout import Readout
from galm_tf.refusals import clear_errors, expect_new, unwritable_out
from galm_tf.search_space import PRETRAINED_SIDE, TRUNK_SHRINKS, Architecture
from galm_tf.supernet import TOWER_WEIGHTS, TRUNK_WEIGHTS
from galm_tf.words import choice_repair, listed

FLAGS = flags.FLAGS
_MEANS = ("val_mauc", "test_mauc")  # of all attributes together
_TRIED = 8  # images
_APART = {"float32": 1e-4, "float16": 0.02, "int8": 0.2}  # how far probabilities of these may be from the model's own
_SAME = "Expected networks that give the model's probabilities again."
_NAMED = 5  # attributes
_OTHER_FORMATS = (".lite", ".tfl", ".onnx", ".keras", ".h5", ".hdf5", ".pb", ".pt", ".pth", ".mlmodel")
_MIB = 2**20


def define_flags() -> None:
    flags.DEFINE_string("model", None, "A run, or its saved_model folder.")
    flags.DEFINE_list(
        "attributes",
        [],
        "Attributes to take, comma-separated, in this order; all when left out. A name with a comma in quotes that the shell leaves: '--attributes=\"warm, sunny\"'.",
    )
    flags.DEFINE_string(
        "out",
        None,
        "What to write: NAME.tflite for a TensorFlow Lite file, any other name for a folder with a SavedModel.",
    )
    flags.DEFINE_enum(
        "weights",
        "float32",
        lite.WEIGHTS,
        "How a TensorFlow Lite file stores weights: float16 halves it, int8 quarters it; on photographs probabilities differed by up to 0.001 and 0.05, of readings of a pretrained trunk in int8 by up to 0.2.",
    )


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    if not FLAGS.model or not FLAGS.out:
        raise UserError(
            f"Expected a model and a place for what is made of it. Received: model={FLAGS.model or '(nothing)'} and out={FLAGS.out or '(nothing)'}; give --model=runs/NAME --out=NAME.tflite."
        )
    print(deploy(FLAGS.model, FLAGS.out, attribute_names.asked_for(FLAGS), FLAGS.weights))


def deploy(model: str, out: str, attributes: Sequence[str] = (), weights: str = "float32") -> str:
    """Writes the named attributes of a model to `out`; returns what a person is told.

    Args:
      model: a run, or its saved_model folder.
      out: NAME.tflite, or a folder for a SavedModel; nothing may be there.
      attributes: names, with or without their domain, in the order in which they shall stand; all where none is named.
      weights: of `lite.WEIGHTS`.

    Raises:
      UserError: no such model or attribute, something at `out`, or a model that cannot be taken apart.
    """
    out = out.rstrip(os.sep) or out
    _expect_fitting(model, out, weights)
    predictor = Predictor(model, repair="give --model=runs/NAME of a finished run, or restore it from a copy")
    part = _take(predictor, attribute_names.columns(attributes, predictor.attributes), tiles=not lite.is_lite(out))
    images = _pictures(predictor.image_size)
    expected = predictor(images)[0][:, part.columns]
    content, apart = b"", _tried(part, images, expected, model)
    if lite.is_lite(out):
        content, apart = _converted(part, images, expected, weights)
    _write(part, content, out, weights)
    return _summary(part, predictor, out, weights, apart)


def _tried(part: _Part, images: np.ndarray, expected: np.ndarray, model: str) -> float:
    """How far the part's probabilities are from the model's, `expected`; raises UserError where they are not those."""
    log_odds = part.network(scale_images(tf.constant(images)))
    apart = np.abs(tf.sigmoid(log_odds).numpy() - expected).max()
    if not apart < _APART["float32"]:
        raise UserError(
            f"{_SAME} Received: some that are {apart:.4f} away; the model in {model} is of an earlier version, search again."
        )
    return float(apart)


def _converted(part: _Part, images: np.ndarray, expected: np.ndarray, weights: str) -> tuple[bytes, float]:
    """(the part in the Lite format, how far its probabilities are from `expected`); raises UserError where they are
    farther than such weights may take them.
    """
    content = lite.convert(part.network, part.metadata["image_size"], weights)
    apart = np.abs(lite.probabilities(content, part.metadata, images) - expected).max(axis=0)
    far = np.flatnonzero(~(apart < _APART[weights]))
    if len(far) and weights == "float32":
        raise UserError(
            f"{_SAME} Received: some that are {apart.max():.4f} away; TensorFlow has converted the network wrongly, write a SavedModel."
        )
    if len(far):
        names = [f"{part.metadata['attributes'][i]} ({apart[i]:.2f})" for i in far[np.argsort(-apart[far])]]
        raise UserError(
            f"{_SAME} Received: by weights in {weights}, on drawn pictures, some that are more than {_APART[weights]} away: "
            f"{listed(names, _NAMED)}; leave these out of --attributes, or write all with --weights={'float16 or float32' if weights == 'int8' else 'float32'}."
        )
    return content, float(apart.max())


def _write(part: _Part, content: bytes, out: str, weights: str) -> None:
    """Writes a converted network, or where there is none a SavedModel; raises UserError where that cannot be."""
    if not content:
        export.export_saved_model(part.network, out, "name another place, or make room there", **part.settings())
        return
    with clear_errors(out, unwritable_out):
        os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
        lite.write(content, part.metadata, weights, out)


def _expect_fitting(model: str, out: str, weights: str) -> None:
    """Raises UserError for what can be seen before the model is read."""
    if lite.is_lite(model) and os.path.isfile(model.rstrip(os.sep)):
        raise UserError(
            f"Expected a run, or its saved_model folder. Received: model={model}, which was made of one; name the run."
        )
    if weights not in lite.WEIGHTS:
        raise UserError(
            f"Expected --weights to be one of {', '.join(lite.WEIGHTS)}. Received: --weights={weights}; {choice_repair(str(weights), lite.WEIGHTS)}."
        )
    if weights != "float32" and not lite.is_lite(out):
        raise UserError(
            f"Expected --weights={weights} beside a TensorFlow Lite file. Received: out={out}, a SavedModel; name it {out}{lite.SUFFIX}."
        )
    ending = os.path.splitext(out)[1].lower()
    if ending in _OTHER_FORMATS:
        raise UserError(
            f"Expected in --out a name for a SavedModel's folder, or one with {lite.SUFFIX}. Received: out={out}; files with {ending} are not "
            "written here."
        )
    expect_new(out)
    parent = os.path.dirname(os.path.abspath(out))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
        raise UserError(
            f"Expected a folder to write into. Received: {parent}, {'which may not be written' if os.path.isdir(parent) else 'no folder'}; name another place in --out."
        )


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some attributes of a model.

    Attributes:
      columns: [n], where they stand in the model.
      network: theirs, of log-odds.
      architectures: [n], None without a tower.
      side: of Conv-3's map.
      metadata: what travels along, as `export.ServingModule` writes it.
      read: how many numbers of the trunk are read beside each tower.
    """

    columns: list[int]
    network: DerivedNetwork | ReadingNetwork
    architectures: list[Optional[Architecture]]
    side: int
    metadata: dict[str, Any]
    read: int

    def settings(self) -> dict[str, Any]:
        """Of `export.export_saved_model`."""
        return {
            "attributes": self.metadata["attributes"], "thresholds": export.with_nan(self.metadata["thresholds"]),
            "image_size": self.metadata["image_size"], "metadata": self.metadata,
        }  # fmt: skip


def _take(predictor: Predictor, columns: list[int], tiles: bool) -> _Part:
    """The named columns of a model as a network of their own."""
    metadata, names = predictor.metadata, predictor.attributes
    try:
        stored = [metadata["architectures"][name] for name in names]
        every = [told and Architecture.from_json(told) for told in stored]
        weights, beside = _weights(predictor.model, dict(zip(names, every)))
    except UserError:  # a ValueError too
        raise
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise UserError(
            "Expected a model that a run of this version has left. Received: one that cannot be taken apart, as those of earlier versions; search "
            "again."
        ) from error
    architectures = [every[i] for i in columns]
    trunk = export.networks_of(predictor.model)[0][0].trunk if metadata.get("trunk") else None
    side = PRETRAINED_SIDE if trunk else predictor.image_size // TRUNK_SHRINKS
    part = beside and Readout(beside.keep[columns], beside.weights[:, columns], beside.biases[columns])
    if weights:
        network = DerivedNetwork(
            architectures, {k: v[columns] if k in TOWER_WEIGHTS else v for k, v in weights.items()}, side, tiles, trunk
        )
        if part:
            network.attach(part)
    else:
        network = ReadingNetwork(part, trunk)
    if export.OFFSETS in metadata:
        network.rescale(np.ones(len(columns)), -np.array([metadata[export.OFFSETS][i] or 0.0 for i in columns]))
    read = 0 if beside is None else len(beside.weights)
    return _Part(columns, network, architectures, side, _metadata(metadata, columns), read)


def _metadata(whole: dict[str, Any], columns: list[int]) -> dict[str, Any]:
    """What travels along with some attributes of a model, of what does with the model."""
    names = whole["attributes"]
    lists = {key: [whole[key][i] for i in columns] for key in ("attributes", "thresholds")}
    gone = (export.OFFSETS, *(_MEANS if len(columns) < len(names) else ()))
    told = {k: v for k, v in whole.items() if k not in gone}
    return {**told, **lists, "architectures": {name: whole["architectures"][name] for name in lists["attributes"]}}


def _weights(
    model: Any, architectures: dict[str, Optional[Architecture]]
) -> tuple[dict[str, np.ndarray], Optional[Readout]]:
    """All networks of a loaded SavedModel as weights of one, none where they have no towers, and its reading of the
    trunk; an extended run's stand on the same trunk.
    """
    if not any(architectures.values()):
        ((network, _),) = export.networks_of(model)  # to which nothing can have been added
        return {}, read_readout(network)
    parts = [
        (read_back(network, [architectures[n] for n in names]), read_readout(network))
        for network, names in export.networks_of(model)
    ]
    first = parts[0][0]
    for name in (name for name in TRUNK_WEIGHTS if name in first):
        if any(not np.array_equal(first[name], weights[name]) for weights, _ in parts):
            raise UserError(
                f"Expected networks on one trunk. Received: a model that cannot be taken apart, whose networks differ in {name}; search again."
            )
    joined = {
        k: np.concatenate([weights[k] for weights, _ in parts]) if k in TOWER_WEIGHTS else v for k, v in first.items()
    }
    shapes = [beside.weights.shape[0] for _, beside in parts if beside is not None]
    if not shapes:
        return joined, None
    counts = [len(weights["conv4/bias"]) for weights, _ in parts]
    every = [beside or _no_readout(shapes[0], count) for (_, beside), count in zip(parts, counts)]
    return joined, Readout(
        *(np.concatenate([getattr(b, k) for b in every], axis=-1) for k in ("keep", "weights", "biases"))
    )


def _no_readout(features: int, count: int) -> Readout:
    """One that leaves margins as they are."""
    return Readout(np.ones(count, np.float32), np.zeros((features, count), np.float32), np.zeros(count, np.float32))


def _pictures(size: int) -> np.ndarray:
    """Smooth and noisy pictures to try a network on: uint8 [n, S, S, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_TRIED, 4, 4, 3)).repeat(size // 4, 1).repeat(size // 4, 2)
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def _summary(part: _Part, predictor: Predictor, out: str, weights: str, apart: float) -> str:
    """What was written, and what it gives."""
    trunk = trunk_size(predictor.image_size, part.metadata.get("trunk"), any(part.architectures))
    size = network_size(part.architectures, part.side, part.read, trunk)
    more = "" if weights == "float32" else ", on photographs by several times that"
    return "\n".join(
        [
            f"{len(part.columns)} of {len(predictor.attributes)} attributes: {size.describe()}, {_bytes(out) / _MIB:.1f} MiB in {out}{', a SavedModel' * os.path.isdir(out)}",
            f"Probabilities differ from the model's by {apart:.1g} at most on {_TRIED} drawn pictures{more}.",
            f"Try it: python -m galm_tf.predict --model={shlex.quote(out)} IMAGE...",
        ]
    )


def _bytes(path: str) -> int:
    """Of a file, or of all files of a folder."""
    paths = (
        [path]
        if os.path.isfile(path)
        else [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    )
    return sum(map(os.path.getsize, paths))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
