"""Image features of trained networks: the trunk of a finished run of GALM, or VGG16.

The trunk's features are the like-for-like ones: learned from the same images and
labels as GALM. VGG16 (Simonyan & Zisserman 2015) is what GALM's paper gives the
learners that are not deep: 4096 numbers. Its weights are read from a file that
is there; nothing is downloaded.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from galm_tf import readout
from galm_tf.config import Config
from galm_tf.draws import Stream, generator
from galm_tf.errors import UserError
from galm_tf.preprocess import scale_images
from galm_tf.scoring import in_batches
from galm_tf.source_runs import Source, source_scoring
from galm_tf.tracing import traced

VGG16_SIZE = 224  # pixels; its fully connected layers take no other
_VGG16_LAYER = "fc2"  # 4096 units, the last before the ImageNet classes
_BATCH = 32


def trunk_features(source: Source, images: np.ndarray, calibration: np.ndarray, config: Config) -> np.ndarray:
    """What is read of a finished run's trunk (`readout.features`): float32 [n, D].

    Args:
      source: the run, as `source_runs.read_source` gives it.
      images: uint8 [n, S, S, 3].
      calibration: rows of training images, to which the batch norms are fixed.
      config: the run's settings.
    """
    if source.pretrained:
        call = traced(lambda x: readout.features(source.pretrained.maps(scale_images(x))))
        return in_batches(call, images, size=_BATCH)
    scoring = source_scoring(source, config)
    some = generator(config.seed, Stream.CALIBRATION).permutation(calibration)[: config.calibration_images]
    scoring.calibrate_trunk(np.asarray(images[np.sort(some)]))
    return scoring.readout_features(images)


def expect_weights_file(path: str) -> None:
    """Raises UserError where there is no file of VGG16's weights; what is in it is told when it is read."""
    if not os.path.isfile(path):
        raise UserError(
            f"Expected a file of VGG16's weights. Received: vgg16_weights={path}, which is no file; fetch "
            "vgg16_weights_tf_dim_ordering_tf_kernels.h5 (with its top layers) by Keras elsewhere, and name it here: "
            "nothing is downloaded."
        )


def vgg16_features(weights_path: str, images: np.ndarray) -> np.ndarray:
    """VGG16's last hidden layer: uint8 [n, 224, 224, 3] -> float32 [n, 4096].

    Raises:
      UserError: no file, or one that does not hold VGG16 with its top layers.
    """
    expect_weights_file(weights_path)
    try:
        network = tf.keras.applications.VGG16(weights=weights_path)
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"Expected VGG16's weights with its top layers in {weights_path}. Received: {text}; fetch "
            "vgg16_weights_tf_dim_ordering_tf_kernels.h5."
        ) from error
    hidden = tf.keras.Model(network.inputs, network.get_layer(_VGG16_LAYER).output)
    call = tf.function(
        lambda x: hidden(tf.keras.applications.vgg16.preprocess_input(tf.cast(x, tf.float32)), training=False)
    )
    return in_batches(call, images, size=_BATCH)
