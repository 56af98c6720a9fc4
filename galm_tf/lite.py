"""Networks as TensorFlow Lite files: for phones and small boards, and quick for single images anywhere.

A file takes images uint8 [B, S, S, 3] of the network's size and gives `probability` float32 [B, N]. It carries names,
thresholds and where it all came from as `metadata.json` in a zip archive at its end, the format's way of taking files
along.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import tempfile
import threading
import warnings
import zipfile
from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

from galm_tf.errors import UserError
from galm_tf.export import DEFAULT_THRESHOLD
from galm_tf.preprocess import resize_images, scale_images
from galm_tf.quiet_start import held_back, without_notices
from galm_tf.tracing import untouched
from galm_tf.whole_file import whole_file

SUFFIX = ".tflite"
# how they are stored: int8 with a scale for each output channel, multiplied as floats or bytes as it pays
WEIGHTS = ("float32", "float16", "int8")
_METADATA, _LABELS = "metadata.json", "labels.txt"
_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY.encode()  # the name of the call, in every whole file
_DIGEST, _BYTES = "network_sha256", "network_bytes"  # of what comes before the archive
_FAREWELL = r"\s*Warning: tf\.lite\.Interpreter is deprecated"  # newer versions': a package of its own will take over


def is_lite(path: str) -> bool:
    """Whether a path names such a file."""
    return path.rstrip(os.sep).lower().endswith(SUFFIX)


class _Served(tf.Module):
    """A network from pictures to probabilities."""

    def __init__(self, network: tf.Module, image_size: int) -> None:
        super().__init__(name="served")
        self._network = network
        spec = tf.TensorSpec([None, image_size, image_size, 3], tf.uint8, "images")
        self.serve = tf.function(untouched(self._serve), input_signature=[spec])

    def _serve(self, images):
        return {"probability": tf.sigmoid(self._network(scale_images(images)))}


def convert(network: tf.Module, image_size: int, weights: str = "float32") -> bytes:
    """A network in the Lite format.

    Args:
      network: scaled images float32 [B, S, S, 3] -> log-odds float32 [B, N], by operations that Lite has
        (`DerivedNetwork` with tiles=False).
      image_size: S.
      weights: one of WEIGHTS.

    Raises:
      UserError: it has others, as a pretrained trunk may, or no room is left for temporary files.
    """
    served = _Served(network, image_size)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([served.serve.get_concrete_function()], served)
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with held_back():
        try:
            content, cause = converter.convert(), None
        except Exception as error:  # a ConverterError, which TensorFlow does not export
            lacking = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
            if not lacking:
                raise
            cause = error
    if cause:
        raise _lacking(f"one with {', '.join(lacking)}, of its pretrained trunk") from cause
    if _SIGNATURE not in content:  # TensorFlow could not write a SavedModel, and converted without names
        raise UserError(
            f"Expected room for temporary files in {tempfile.gettempdir()}. Received: too little to convert the network; make room there, or name "
            "another folder by the environment variable TMPDIR."
        )
    return content


def probabilities(content: bytes, metadata: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """What a converted network says of uint8 images [n, S, S, 3]: float32 [n, N].

    Args:
      content: as `convert` gives it.
      metadata: what travels along.
      images: pictures of the network's size.

    Raises:
      UserError: it does not run, as with operations of kinds of numbers that Lite has not.
    """
    model = LiteModel(content, metadata)
    try:
        return model(images)["probability"].numpy()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise _lacking(f"one that it cannot run ({reason}), by its pretrained trunk") from error


def _lacking(received: str) -> UserError:
    """Of a network that Lite has not all operations of."""
    return UserError(
        f"Expected a network of operations that TensorFlow Lite has. Received: {received}; write a SavedModel, by --out=FOLDER."
    )


def write(content: bytes, metadata: dict[str, Any], weights: str, path: str) -> None:
    """Writes a converted network with what travels along, whole or not at all; raises FileExistsError where something
    is by then.
    """
    made = {"tensorflow": tf.__version__, "weights": weights}
    metadata = {**metadata, "converted": made, _DIGEST: hashlib.sha256(content).hexdigest(), _BYTES: len(content)}
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(_METADATA, json.dumps(metadata, indent=1, ensure_ascii=False))
        archive.writestr(_LABELS, "\n".join(metadata["attributes"]) + "\n")
    with whole_file(path, replace=False) as partial:
        with open(partial, "wb") as file:
            file.write(buffer.getvalue())
    with open(path, "rb") as file:
        if file.read() != buffer.getvalue():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def read(path: str) -> tuple[bytes, dict[str, Any]]:
    """(network, what travels along) of a file; raises UserError where `write` has not written it, or not so.

    The interpreter of a damaged network may end the process, hence the digest.
    """
    expected = f"Expected a {SUFFIX} file of galm_tf.deploy. Received: model={path}"
    if not os.path.isfile(path):
        raise UserError(f"{expected}, no such file; check its path.")
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(_METADATA))
        with open(path, "rb") as file:
            content = file.read(metadata[_BYTES])
        whole = hashlib.sha256(content).hexdigest() == metadata[_DIGEST]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{expected}, which carries no names (another program's, or cut short); make it by galm_tf.deploy."
        ) from error
    if not whole:
        raise UserError(f"{expected}, whose network is not as it was written; copy it, or make it, again.")
    return content, metadata


class LiteModel:
    """A network in the Lite format, called like a SavedModel's `serving_default`; threads may share it, one at a time
    runs it, and processes that are forked off, each of which makes it anew.

    Args:
      content: of the file.
      metadata: what travels along.

    Raises:
      UserError: this TensorFlow cannot run it.
    """

    def __init__(self, content: bytes, metadata: dict[str, Any]) -> None:
        self._content, self._metadata = content, metadata
        self._loaded: Optional[tuple[int, threading.Lock, Callable]] = None
        self._load()
        self._size = metadata["image_size"]
        self._thresholds = np.array([DEFAULT_THRESHOLD if t is None else t for t in metadata["thresholds"]], np.float32)

    def _load(self) -> None:
        """Sets `_loaded`, unless another thread has: the process, what a call needs alone (an interpreter has one place
        for its input, and one for what it computes), and the call.
        """
        try:
            with without_notices():  # one thread at a time
                if self._loaded and self._loaded[0] == os.getpid():
                    return
                # for good: threads that put filters back undo one another's
                warnings.filterwarnings("ignore", _FAREWELL)
                interpreter = tf.lite.Interpreter(model_content=self._content, num_threads=1)
                interpreter.allocate_tensors()
                self._loaded = os.getpid(), threading.Lock(), interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            made = self._metadata.get("converted", {})
            raise UserError(
                f"Expected a {SUFFIX} file that TensorFlow {tf.__version__} can run. Received: one made by {made.get('tensorflow', 'an unknown version')} with "
                f"weights={made.get('weights', 'unknown')} ({(str(error).splitlines() or [''])[0]}); make it by this version, or with --weights=float32."
            ) from error

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [B, H, W, 3] -> probability float32 [B, N], decision bool [B, N]."""
        images = tf.convert_to_tensor(images)
        if images.shape[1:3] != [self._size, self._size]:
            images = resize_images(images, self._size)
        if self._loaded[0] != os.getpid():  # forked off, maybe while another thread ran it
            self._load()
        _, alone, run = self._loaded
        with alone:
            probability = run(images=images.numpy())["probability"]
        return {"probability": tf.constant(probability), "decision": tf.constant(probability >= self._thresholds)}
