"""The SavedModel that a run leaves: image in, probability and yes/no per named attribute out.

It needs TensorFlow alone to load, on either stack, and holds the whole of the
preprocessing. Signatures:

- `serving_default(images uint8 [B, H, W, 3])`, any size;
- `serving_jpeg(image_bytes string [B])`, encoded pictures (JPEG, PNG, GIF, BMP of 24 or 32 bits), EXIF honoured;
- `metadata()` -> {"json": string []}, also in `assets.extra/metadata.json`.

The first two give `probability` float32 [B, N], `decision` bool [B, N] (at each
attribute's validation-chosen `threshold`, float32 [N]) and `attribute` string [N].
Where the threshold is NaN, none could be chosen, and the decision means nothing.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf.errors import UserError
from galm_tf.graph_decoding import decode_bytes
from galm_tf.preprocess import resize_images, scale_images
from galm_tf.tracing import untouched
from galm_tf.whole_file import whole_folder

FORMAT = 1
METADATA = os.path.join("assets.extra", "metadata.json")  # assets.extra: files that a SavedModel carries along
OFFSETS = "margin_offsets"  # in models of earlier versions: what is to be subtracted from their networks' outputs
# Nothing learns from what is stored: gradients of its activations need not be traced.
OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
DEFAULT_THRESHOLD = 0.5  # where validation could not choose one


class ServingModule(tf.Module):
    """A network with its preprocessing, names and thresholds.

    Args:
      network: tf.Module or Keras model; scaled images float32 [B, S, S, 3] -> log-odds float32 [B, N].
      attributes: [N] names.
      thresholds: [N] probabilities; NaN where none could be chosen: null in the metadata, and `decision` means nothing
        there.
      image_size: S.
      metadata: what travels along; JSON.
      base: a loaded SavedModel of this kind, whose attributes come first. Its own function
        is called, so its outputs are those that it gives alone, to the last bit.
    """

    def __init__(
        self,
        network: tf.Module,
        *,
        attributes: Sequence[str],
        thresholds: np.ndarray,
        image_size: int,
        metadata: dict[str, Any],
        base: Any = None,
    ) -> None:
        super().__init__(name="serving")
        assert len(attributes) == len(thresholds), len(thresholds)
        self._network, self._image_size, self._base = network, image_size, base
        self._thresholds = tf.constant(thresholds, tf.float32)
        self._attributes = tf.constant(list(attributes))
        before = (
            {"attributes": [], "thresholds": []} if base is None else json.loads(base.serve_metadata()["json"].numpy())
        )
        self._before = tf.constant(with_nan(before["thresholds"]), tf.float32)
        content = {
            **metadata,
            "format": FORMAT,
            "attributes": [*before["attributes"], *attributes],
            "thresholds": [*before["thresholds"], *(None if np.isnan(t) else float(t) for t in thresholds)],
            "image_size": image_size,
        }
        if OFFSETS in before:
            content[OFFSETS] = [*before[OFFSETS], *[0.0] * len(attributes)]
        self.json = json.dumps(content, indent=1, ensure_ascii=False)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    @untouched
    def serve_images(self, images):
        pictures = self._resize(images)
        count, side = tf.shape(pictures)[0], self._image_size
        # never of none at all, which TensorFlow's convolutions refuse
        pictures = tf.concat([pictures, tf.zeros([tf.cast(count < 1, tf.int32), side, side, 3], tf.uint8)], 0)
        log_odds = self._network(scale_images(pictures))[:count]
        probability = tf.sigmoid(tf.ensure_shape(log_odds, [None, len(self._attributes)]))
        outputs = {
            "probability": probability,
            "decision": probability >= tf.where(tf.math.is_nan(self._thresholds), DEFAULT_THRESHOLD, self._thresholds),
            "threshold": self._thresholds,
            "attribute": self._attributes,
        }
        if self._base is None:
            return outputs
        before = dict(self._base.serve_images(images))
        before.setdefault("threshold", self._before)  # a model of an earlier version has it in its metadata alone
        return {name: tf.concat([before[name], output], -1) for name, output in outputs.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    @untouched
    def serve_bytes(self, image_bytes):
        size = self._image_size
        images = tf.map_fn(self._decode, image_bytes, fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8))
        return self.serve_images(images)

    @tf.function(input_signature=[])
    def serve_metadata(self):
        return {"json": tf.constant(self.json)}

    def _resize(self, images):
        resized = resize_images(images, self._image_size)
        return tf.ensure_shape(resized, [None, self._image_size, self._image_size, 3])

    def _decode(self, image_bytes):
        """One encoded picture -> uint8 [S, S, 3]."""
        return resize_images(decode_bytes(image_bytes), self._image_size)


def with_nan(thresholds: Sequence[Optional[float]]) -> np.ndarray:
    """Thresholds as they are stored, None where none could be chosen, as `ServingModule` takes them: float64 [N]."""
    return np.array([np.nan if t is None else t for t in thresholds], np.float64)


def networks_of(model: Any) -> list[tuple[Any, list[str]]]:
    """(network, names of its attributes) of a loaded SavedModel; of an extended run's, the source's networks come
    first.
    """
    base = getattr(model, "_base", None)
    before = [] if base is None else networks_of(base)
    names = json.loads(model.serve_metadata()["json"].numpy())["attributes"]
    return [*before, (model._network, names[sum(len(its) for _, its in before) :])]


def export_saved_model(
    network: tf.Module, path: str, repair: str = "free some space or name another folder", **settings: Any
) -> None:
    """Writes a SavedModel, whole or not at all.

    Args:
      network, **settings: of `ServingModule`.
      path: a folder that does not exist yet.
      repair: what to do where it cannot be written.

    Raises:
      UserError: the folder exists, or cannot be written.
    """
    if os.path.exists(path):
        raise UserError(f"Expected a new folder for the SavedModel. Received: {path}, which exists; move it away.")
    module = ServingModule(network, **settings)
    signatures = {
        "serving_default": module.serve_images,
        "serving_jpeg": module.serve_bytes,
        "metadata": module.serve_metadata,
    }
    path = os.path.abspath(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with whole_folder(path) as partial:
            tf.saved_model.save(module, partial, signatures, OPTIONS)
            os.makedirs(os.path.join(partial, os.path.dirname(METADATA)), exist_ok=True)
            with open(os.path.join(partial, METADATA), "w", encoding="utf-8") as file:
                file.write(module.json + "\n")
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).split(" [Op:")[0].rsplit("; ", 1)[-1]
        raise UserError(f"Expected to write {path}. Received: {reason}; {repair}.") from error
