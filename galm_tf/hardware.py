"""What a command is computed on: how many cores it may use, and the GPUs that TensorFlow finds."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """That this process may use; more threads than that wait for one another."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoders() -> int:
    """Threads that decode pictures: one more than cores, since some wait for the disk."""
    return min(32, usable_cores() + 1)


def computed_on() -> str:
    """In words: the names of the GPUs, or where TensorFlow sees none the number of processor cores."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    cores = usable_cores()
    return ", ".join(names) or f"{cores} processor core{'s' if cores > 1 else ''}"
