"""A pretrained trunk: maps of three layers of a Keras model stand in place of Conv-1 to Conv-3 (DESIGN §4).

Practitioners start from a network that was trained on many other images. Its
weights stay as they are, but for what `trunk_training` teaches its upper layers where
--trunk_steps asks for it. Each layer's map is projected to as many channels as
the trunk's own map has, by the principal components of training images, whitened, and
brought to 8×8 positions. So the towers, the search space and all that follows
are the same, whatever the model. The linear reading beside the towers
(`readout`) sees the means of all channels of the three maps, on a logarithmic
scale: 64 components are too few for it, and of unseen classes the means as they
are tell less (docs/EXPERIMENTS.md).

What is made of the model is stored in the run's folder, `trunk/`, as a
SavedModel: a run that goes on, starts from it or adds to it needs neither the
model's file nor the stack that wrote it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from typing import Any, Optional, Sequence

import keras
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA

from galm_tf import export, trunk_training
from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.draws import ANY_SEED, Stream, generator
from galm_tf.errors import UserError
from galm_tf.layers import plain_variable
from galm_tf.network_size import Size
from galm_tf.preprocess import scale_images
from galm_tf.refusals import lacks_memory
from galm_tf.run_folder import RunFolder
from galm_tf.scoring import image_batches, in_batches
from galm_tf.search_space import PRETRAINED_SIDE, TRUNK_CHANNELS
from galm_tf.tracing import traced, untraced
from galm_tf.whole_file import whole_folder
from galm_tf.words import listed

FOLDER = "trunk"  # in a run's
_ABOUT = os.path.join("assets.extra", "about.json")
_TAPS = {"Conv2D": 3, "DepthwiseConv2dNative": 2}  # how many axes of the kernel an output sums over
_IMAGES, _BATCH = 500, 32
_LINEAR_TO = 0.1  # up to which share of a channel's usual mean its mean counts as it is, from where on by its logarithm
# what is added to a usual mean, as a share of that of all channels: one that is hardly ever on would else have most of
# its noise told apart
_QUIET = 0.01
_LEAST_VARIANCE = 1e-6  # of a component, as a share of the greatest: below, it is noise


@dataclasses.dataclass(frozen=True)
class PretrainedTrunk:
    """A trunk as a run's folder holds it.

    Attributes:
      maps: scaled images float32 [B, S, S, 3] -> float32 [B, 8, 8, C] of every C in TRUNK_CHANNELS and, but in earlier
        versions, float32 [B, D], the mean of every channel of the layers on a logarithmic scale (as it is, in earlier
        versions); what a SavedModel can hold.
      about: JSON, what it was made of: model (the file's name), layers, pixels, multiply_adds, parameters, both without
        the projections as unprojected (but in earlier versions), D as means, and of one whose upper layers have learned
        (`trunk_training`) steps and loss, of the first and the last tenth of them.
      digest: of its weights and of that; of equal trunks the same, whatever run made them.
    """

    maps: Any
    about: dict[str, Any]
    digest: str


def of_run(
    config: Config,
    folder: RunFolder,
    images: np.ndarray,
    domain: Domain,
    train: np.ndarray,
    source: Optional[PretrainedTrunk] = None,
) -> Optional[PretrainedTrunk]:
    """The run's pretrained trunk, made and stored in its folder where it is not there yet; None without --trunk_model.

    Args:
      config: the run's settings; its source run, if there is one, has the same trunk, which is copied.
      folder: the run's.
      images: uint8 [n, S, S, 3].
      domain: of the images.
      train: int64, the records that train.
      source: the source run's trunk, where it has been read.
    """
    if not config.trunk_model:
        return None
    folder.expect_own()
    path = os.path.join(folder.path, FOLDER)
    if os.path.isdir(path):
        return read(folder.path)
    if config.source_run and source is None:
        source = read(config.source_run[0])
    try:
        with whole_folder(path) as partial:
            if source:
                shutil.copytree(os.path.join(config.source_run[0], FOLDER), partial, dirs_exist_ok=True)
            else:
                _write(config, images, domain, train, partial)
    except (OSError, shutil.Error) as error:
        raise folder.unwritable(
            path, getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
        ) from error
    return source or read(folder.path)


def read(run: str) -> PretrainedTrunk:
    """The pretrained trunk in a run's folder; raises UserError where it cannot be read."""
    path = os.path.join(run, FOLDER)
    try:
        with open(os.path.join(path, _ABOUT), encoding="utf-8") as file:
            about = json.load(file)
        about = {**about, "multiply_adds": int(about["multiply_adds"]), "parameters": int(about["parameters"])}
        return PretrainedTrunk(tf.saved_model.load(path), about, _digest(path))
    except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        if lacks_memory(error):  # nothing is wrong with the folder
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"Expected the pretrained trunk of the run {run} in {path}. Received: {reason}; restore the folder from a copy."
        ) from error


def _digest(path: str) -> str:
    """Of a trunk's folder; not of its graph, which TensorFlow does not write alike twice."""
    digest = hashlib.sha256()
    for name in (
        *sorted(glob.glob(os.path.join(glob.escape(path), "variables", "variables.data-*"))),
        os.path.join(path, _ABOUT),
    ):
        with open(name, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def _write(config: Config, images: np.ndarray, domain: Domain, train: np.ndarray, path: str) -> None:
    """Makes the trunk of --trunk_model and writes it."""
    layers, backbone = _backbone(config)
    chosen = np.sort(generator(ANY_SEED, Stream.PROJECTION).choice(train, min(_IMAGES, len(train)), replace=False))
    trunk = _Trunk(backbone, config.trunk_pixels, config.image_size)
    learned = {}
    if config.trunk_steps:
        usual = trunk.means_of(np.asarray(images[chosen]))
        losses = trunk_training.train(
            trunk.means, _upper_weights(backbone, config.trunk_model), usual, images, domain, train, config
        )
        tenth = -(-len(losses) // 10)
        learned = {"steps": len(losses), "loss": [float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))]}
    trunk.project(np.asarray(images[chosen]))
    concrete = trunk.__call__.get_concrete_function(
        tf.TensorSpec([None, config.image_size, config.image_size, 3], tf.float32)
    )
    size = Size(_multiply_adds(trunk, config.image_size), sum(int(np.prod(v.shape)) for v in trunk.variables))
    about = {
        "model": os.path.basename(config.trunk_model), "layers": list(layers), "pixels": config.trunk_pixels,
        **size.to_json(), "unprojected": (size - trunk.projections).to_json(),
        "means": int(concrete.outputs[-1].shape[-1]), **learned,
    }  # fmt: skip
    try:
        tf.saved_model.save(trunk, path, options=export.OPTIONS)
    except tf.errors.OpError as error:  # of a full disk
        raise OSError(str(error).split(" [Op:")[0]) from error
    os.makedirs(os.path.dirname(os.path.join(path, _ABOUT)), exist_ok=True)
    with open(os.path.join(path, _ABOUT), "w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)


def expect_model(config: Config, folder: Optional[RunFolder] = None) -> None:
    """Raises UserError where a trunk is still to be made of --trunk_model, which is no model that serves: told before
    the data are read, which may take minutes.

    folder: the run's, which may have its trunk already.
    """
    path = config.trunk_model
    if not path or config.source_run or (folder and folder.has(FOLDER)):
        return
    if not os.path.isfile(path):
        raise UserError(
            f"Expected a Keras model file in --trunk_model. Received: {path}, which is {'a folder' if os.path.isdir(path) else 'no file'}; write one "
            "by python -m galm_tf.imagenet --out=NAME.keras, or by model.save('NAME.keras')."
        )
    layers, backbone = _backbone(config)
    if config.trunk_steps:
        _upper_weights(backbone, path)
    smallest = _maps_shapes(backbone, layers[-1:], config.image_size, path)[0][1]
    if smallest < PRETRAINED_SIDE // 2:
        logging.warning(
            "the smallest map of %s has %d positions a side at %d pixels: a larger --image_size may show more",
            path,
            smallest,
            config.image_size,
        )


def _backbone(config: Config) -> tuple[Sequence[str], tf.keras.Model]:
    """The three layers of --trunk_model that are read, and the model cut to them; raises UserError where it does not
    serve.
    """
    model = _load_model(config.trunk_model, config.image_size)
    layers = config.trunk_layers or choose_layers(model, config.image_size, config.trunk_model)
    return layers, _maps_of(model, layers, config)


def _load_model(path: str, image_size: int) -> tf.keras.Model:
    """The model of a file; raises UserError where it is none, or not one of such pictures."""
    try:
        model = _in_float32(tf.keras.models.load_model(path, compile=False))
    except Exception as error:  # Keras raises many kinds for a file that it cannot read
        if lacks_memory(error):
            raise
        reason = " ".join(str(error).split())
        if "Lambda" in reason:
            raise UserError(
                f"Expected a model without Lambda layers in --trunk_model, since Keras runs no code of a file. Received: {path}; make it of other "
                "layers, or take another model."
            ) from error
        reason = reason[:200]
        raise UserError(
            f"Expected a Keras model that Keras {keras.__version__} reads in --trunk_model. Received: {path} ({type(error).__name__}: {reason}); "
            "write it anew with this Keras, by python -m galm_tf.imagenet --out=NAME.keras where it came from there, else by "
            "model.save('NAME.keras')."
        ) from error
    inputs = getattr(model, "inputs", None) or []  # Keras 3 has none of a model that is not built
    shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
    if len(shape) != 4 or shape[-1] != 3:
        raise UserError(
            f"Expected a model of one input, images [batch, height, width, 3], in --trunk_model={path}. Received: "
            f"{', '.join(str(tuple(i.shape)) for i in inputs) or 'none'}; take another model."
        )
    if any(side not in (None, image_size) for side in shape[1:3]):
        raise UserError(
            f"Expected --image_size={shape[1]}, as --trunk_model={path} sees images. Received: image_size={image_size}; set that, or save the model "
            "with an input of any size."
        )
    return model


def _in_float32(model: tf.keras.Model) -> tf.keras.Model:
    """The model without the mixed precision that it was stored under, which serves its training alone: a processor is
    slow by it, and TensorFlow Lite lacks operations of it. As it is where its layers will not have that.
    """
    config = model.get_config()
    plain = _replaced(config, ("mixed_float16", "mixed_bfloat16"), "float32")
    if plain == config:
        return model
    try:
        rebuilt = type(model).from_config(plain)
        with tempfile.TemporaryDirectory() as place:  # by a file layers take what they reckon from weights, too
            path = os.path.join(place, "model.weights.h5")
            model.save_weights(path)
            rebuilt.load_weights(path)
        return rebuilt
    except Exception:  # Keras raises many kinds
        return model


def _replaced(value: Any, old: Sequence[str], new: str) -> Any:
    """A layer's configuration with one string for others, wherever they stand."""
    if isinstance(value, dict):
        return {key: _replaced(v, old, new) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(v, old, new) for v in value)
    return new if isinstance(value, str) and value in old else value


def choose_layers(model: tf.keras.Model, image_size: int, path: str) -> tuple[str, str, str]:
    """The last layer of the smallest maps, of those nearest to twice and of those nearest to four times their side; the
    largest first.

    Maps of one position, as of squeeze-and-excitation, and sides that a padding makes are none of these.

    Raises:
      UserError: fewer than three.
    """
    names = list(_maps_within(model)[1])
    shapes = _maps_shapes(model, names, image_size, path)
    last = {shape[1]: name for name, shape in zip(names, shapes) if shape[1] == shape[2] > 1}
    sides = sorted(last)[:1]
    while len(sides) < 3 and sides and max(last) > sides[-1]:
        sides.append(min((side for side in last if side > sides[-1]), key=lambda side: abs(side - 2 * sides[-1])))
    if len(sides) < 3:
        raise UserError(
            f"Expected a model with maps of three sides in --trunk_model={path}. Received: maps of side "
            f"{', '.join(map(str, sorted(last))) or 'none'} that are not within a layer of layers; name three by --trunk_layers, or save a model "
            "without models inside."
        )
    return tuple(last[side] for side in reversed(sides))


def _maps_within(model: tf.keras.Model) -> tuple[Any, dict[str, Any]]:
    """(a model's input, the outputs [B, H, W, C] of its layers that give one such map, by their names)."""
    inputs, outputs = model.inputs, {}
    if isinstance(model, tf.keras.Sequential):
        # Keras 3 calls its layers anew with each that it is given, and tells of the first call of each alone: their maps
        # do not hang together
        x = inputs = tf.keras.Input(tuple(inputs[0].shape)[1:], dtype=inputs[0].dtype)
        for layer in model.layers:
            x = outputs[layer] = layer(x)
    else:
        for layer in model.layers:
            with contextlib.suppress(Exception):  # called several times or never: Keras raises many kinds
                outputs[layer] = layer.output
    no_maps = (tf.keras.Model, tf.keras.layers.InputLayer)
    maps = {
        layer.name: x
        for layer, x in outputs.items()
        if not isinstance(layer, no_maps) and len(getattr(x, "shape", ())) == 4
    }
    return inputs, maps


def _cut(model: tf.keras.Model, names: Sequence[str]) -> tf.keras.Model:
    """The model up to the maps of some of its layers."""
    inputs, maps = _maps_within(model)
    return tf.keras.Model(inputs, [maps[name] for name in names])


def _maps_shapes(model: tf.keras.Model, names: Sequence[str], image_size: int, path: str) -> list[tuple[int, ...]]:
    """Shapes of the maps of some layers; raises UserError where the model cannot take images of this size."""
    if not names:  # of which Keras 3 makes no model
        return []
    cut = _cut(model, names)
    try:
        outputs = cut(tf.zeros([1, image_size, image_size, 3]), training=False)
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"Expected a model that takes images of --image_size={image_size} in --trunk_model={path}. Received: {reason}; take the size that it was "
            "trained with."
        ) from error
    return [tuple(map(int, output.shape)) for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def _maps_of(model: tf.keras.Model, names: Sequence[str], config: Config) -> tf.keras.Model:
    """The model cut to three layers; raises UserError for names that are none of its maps, or not from the largest
    on.
    """
    known = list(_maps_within(model)[1])
    for name in names:
        if name not in known:
            raise UserError(
                f"Expected --trunk_layers to name layers of {config.trunk_model} that give a map. Received: {name}; "
                + (
                    f"there are {listed(known[::-1], 12)}."
                    if known
                    else "none does that is not within a layer of layers: save a model without models inside."
                )
            )
    sides = [shape[1] for shape in _maps_shapes(model, names, config.image_size, config.trunk_model)]
    if sides != sorted(sides, reverse=True):
        raise UserError(
            f"Expected --trunk_layers from the largest map to the smallest. Received: {', '.join(f'{n} ({s})' for n, s in zip(names, sides))}; name them "
            "in that order."
        )
    return _cut(model, names)


def _upper_weights(backbone: tf.keras.Model, path: str) -> list[tf.Variable]:
    """What learns of a model of three maps: the float32 weights of the layers that its first map does not depend on,
    but batch norms.

    Raises:
      UserError: there are none; path: of the model, to name it.
    """
    lower = tf.keras.Model(backbone.inputs, backbone.outputs[0]).layers
    upper = [inner for layer in backbone.layers if layer not in lower for inner in layer._flatten_layers()]
    for layer in upper:
        layer.trainable = True  # a model may have been stored frozen
    fixed = {id(v) for layer in upper if isinstance(layer, tf.keras.layers.BatchNormalization) for v in layer.variables}
    weights = {id(v): v for layer in upper for v in layer.trainable_variables if id(v) not in fixed}
    found = [plain_variable(v) for v in weights.values() if tf.as_dtype(v.dtype) == tf.float32]
    if not found:
        raise UserError(
            f"Expected float32 weights above the first of the three maps of --trunk_model={path}, for --trunk_steps to teach. Received: none; name lower "
            "layers by --trunk_layers, or give --trunk_steps=0."
        )
    return found


class _Trunk(tf.Module):
    """Three layers' maps, projected: the one definition that is stored.

    Args:
      backbone: image -> three maps.
      pixels: as in --trunk_pixels.
      image_size: S.

    Attributes:
      projections: what they cost.
    """

    def __init__(self, backbone: tf.keras.Model, pixels: str, image_size: int) -> None:
        super().__init__(name="trunk")
        # A function, which a SavedModel leaves out: of the Keras model it shall hold the traced graph and the weights
        # alone.
        self._backbone, self._pixels = lambda x: backbone(x, training=False), pixels
        self._whole = tf.as_dtype(backbone.inputs[0].dtype).is_integer
        self._weights = [plain_variable(v) for v in backbone.variables]
        shapes = [tuple(m.shape) for m in self._raw(tf.zeros([1, image_size, image_size, 3]))]
        self._projections = [tf.Variable(tf.zeros([shape[-1], c])) for shape, c in zip(shapes, TRUNK_CHANNELS)]
        self._shifts = [tf.Variable(tf.zeros([c])) for c in TRUNK_CHANNELS]
        self._unit = tf.Variable(tf.ones([sum(shape[-1] for shape in shapes)]))
        kernels = [int(np.prod(p.shape)) for p in self._projections]
        multiply_adds = sum(shape[1] * shape[2] * kernel for shape, kernel in zip(shapes, kernels))
        self.projections = Size(multiply_adds, sum(kernels) + sum(TRUNK_CHANNELS))

    def means(self, images: tf.Tensor) -> tf.Tensor:
        """Of every channel of the three maps: scaled images float32 [B, S, S, 3] -> float32 [B, D]."""
        return _means(self._raw(images))

    def means_of(self, images: np.ndarray) -> np.ndarray:
        """The same of uint8 images [n, S, S, 3]: float32 [n, D]."""
        return in_batches(traced(lambda x: self.means(scale_images(x))), images, size=_BATCH)

    def project(self, images: np.ndarray) -> None:
        """To the principal components of uint8 images [n, S, S, 3], of mean 0 and variance 1 on all their positions;
        the scale of means by theirs.
        """

        @traced
        def call(x):
            maps = self._raw(scale_images(x))
            return [*(resized(m) for m in maps), _means(maps)]

        parts = [[m.numpy() for m in call(tf.constant(batch))] for batch in image_batches(images, size=_BATCH)]
        *maps_of_layers, means = zip(*parts)
        usual = np.abs(np.concatenate(means)).mean(axis=0)
        self._unit.assign(np.maximum(_LINEAR_TO * (usual + _QUIET * usual.mean()), np.finfo(np.float32).tiny))
        for maps, projection, shift in zip(maps_of_layers, self._projections, self._shifts):
            rows = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps])
            kernel, bias = whitening(rows, int(projection.shape[1]))
            projection.assign(kernel)
            shift.assign(bias)

    @tf.function
    def __call__(self, images):
        """Scaled images float32 [B, S, S, 3] -> maps float32 [B, 8, 8, C], C in TRUNK_CHANNELS, and float32 [B, D],
        logarithms of the means of all that they are made of.
        """
        maps = self._raw(images)
        projected = [tf.nn.conv2d(m, kernel[None, None], 1, "VALID") for m, kernel in zip(maps, self._projections)]
        means = _means(maps)
        above, below = (tf.math.log(1.0 + tf.nn.relu(signed) / self._unit) for signed in (means, -means))
        return [*(resized(m) + shift for m, shift in zip(projected, self._shifts)), above - below]

    def _raw(self, images):
        pixels = (images + 1.0) * 127.5
        if self._whole:  # Keras would take 254.99998 for 254
            pixels = tf.round(pixels)
        if self._pixels != "raw":
            pixels = tf.keras.applications.imagenet_utils.preprocess_input(
                pixels, mode=self._pixels, data_format="channels_last"
            )
        return [tf.cast(m, tf.float32) for m in self._backbone(pixels)]  # of a model of mixed precision they are not


def _means(maps: Sequence[tf.Tensor]) -> tf.Tensor:
    """Of every channel of every map [B, s, s, C]: float32 [B, D]."""
    return tf.concat([tf.reduce_mean(m, [1, 2]) for m in maps], -1)


def resized(x: tf.Tensor) -> tf.Tensor:
    """A map at the side that towers read: [B, s, s, C] -> [B, 8, 8, C]; halved by means while it can be, then
    interpolated.

    Every output is a mean of inputs by weights that sum to 1; by operations that TensorFlow Lite has for batches of any
    size.
    """
    while x.shape[1] >= 2 * PRETRAINED_SIDE:
        x = tf.nn.avg_pool2d(x, 2, 2, "SAME")
    return x if x.shape[1] == PRETRAINED_SIDE else tf.image.resize(x, [PRETRAINED_SIDE, PRETRAINED_SIDE])


def whitening(rows: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float32 [C, components] and bias float32 [components] that give rows [n, C] their principal components of
    variance 1.

    Where there are fewer of more than `_LEAST_VARIANCE` of the greatest variance, the others are 0.
    """
    with np.errstate(invalid="ignore"):  # shares of no variance at all, which nothing reads
        fitted = PCA(min(components, *rows.shape), svd_solver="randomized", random_state=0).fit(rows)
    variances = fitted.explained_variance_
    kept = variances > _LEAST_VARIANCE * max(variances.max(), np.finfo(np.float32).tiny)
    kernel = np.zeros((rows.shape[1], components), np.float32)
    kernel[:, : len(variances)][:, kept] = (fitted.components_[kept] / np.sqrt(variances[kept, None])).T
    return kernel, -(fitted.mean_ @ kernel).astype(np.float32)


def _multiply_adds(trunk: _Trunk, image_size: int) -> int:
    """Of one image in the convolutions and products of a trunk."""

    def call(images):
        with untraced():  # what a layer traces by itself, as Keras does grouped convolutions, would hide its operations
            return trunk.means(images)

    total = trunk.projections.multiply_adds
    for operation in (
        traced(call)
        .get_concrete_function(tf.TensorSpec([1, image_size, image_size, 3], tf.float32))
        .graph.get_operations()
    ):
        if operation.type in _TAPS:
            total += _elements(operation.outputs[0].shape) * _elements(
                operation.inputs[1].shape[: _TAPS[operation.type]]
            )
        elif operation.type == "Conv2DBackpropInput":  # a transposed convolution
            total += _elements(operation.inputs[2].shape) * _elements(operation.inputs[1].shape[:3])
        elif operation.type in ("MatMul", "BatchMatMulV2"):
            turned = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
            summed = operation.inputs[0].shape[-2:-1] if turned else operation.inputs[0].shape[-1:]
            total += _elements(operation.outputs[0].shape) * _elements(summed)
        elif operation.type == "Einsum" and len(operation.inputs) == 2:  # as of attention
            summed = _summed(operation.get_attr("equation").decode(), [x.shape for x in operation.inputs])
            total += _elements(operation.outputs[0].shape) * _elements(summed)
    return int(total)


def _summed(equation: str, shapes: Sequence[tf.TensorShape]) -> tf.TensorShape:
    """Of the axes of an einsum's inputs that its output has not: those that it sums over."""
    inputs, output = equation.split("->")
    sizes = {}
    for letters, shape in zip(inputs.split(","), shapes):
        first, _, last = letters.partition("...")
        sizes.update([*zip(first, shape), *zip(last[::-1], shape[::-1])])
    return tf.TensorShape([size for letter, size in sizes.items() if letter not in output])


def _elements(shape: tf.TensorShape) -> int:
    """How many; 0 where a model makes its shapes as it runs, so that they are not known."""
    return shape.num_elements() or 0
