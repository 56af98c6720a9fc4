"""What a command is computed on: how many cores it may use, and the GPU that TensorFlow takes."""

from __future__ import annotations

import functools
import os
import platform
from typing import Optional


def usable_cores() -> int:
    """That this process may use; more threads than that wait for one another."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoders() -> int:
    """Threads that decode pictures: one more than cores, since some wait for the disk."""
    return min(32, usable_cores() + 1)


@functools.cache
def gpu() -> Optional[str]:
    """Name of the GPU that computes, None without one: the first of those that TensorFlow takes, which leaves out what
    it cannot use.

    It starts TensorFlow's runtime.
    """
    import tensorflow as tf

    # a machine's cards are not asked for where none is taken: on Windows TensorFlow warns of them
    if not tf.config.list_logical_devices("GPU"):
        return None
    visible = tf.config.get_visible_devices("GPU")[0]
    return tf.config.experimental.get_device_details(visible).get("device_name", visible.name)


def xla_compiles() -> bool:
    """Whether XLA compiles for what TensorFlow computes on: not in every build, and not for a Mac's GPU."""
    import tensorflow as tf

    return tf.test.is_built_with_xla() and not (platform.system() == "Darwin" and gpu())


def computed_on() -> str:
    """In words: the name of the GPU, or where TensorFlow takes none the number of processor cores."""
    cores = usable_cores()
    return gpu() or f"{cores} processor core{'s' if cores > 1 else ''}"
