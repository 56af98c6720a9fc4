"""The weights of a derived network by attribute, from the network or the SavedModel that holds it.

So one can be built again: some of its towers, two beside one another, another runtime's (`deploy`).
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np
import tensorflow as tf

from galm_tf.derived import conv_groups, head_groups
from galm_tf.layers import BN_EPSILON
from galm_tf.readout import Readout
from galm_tf.search_space import CONV4_CHANNELS, CONV5_CHANNELS, FC_WIDTHS, KERNELS, TRUNK_CHANNELS, Architecture


def read_back(network: Any, architectures: Sequence[Architecture]) -> dict[str, np.ndarray]:
    """The weights that a network can be built from again, whole or some of its towers: the inverse of `DerivedNetwork`.

    What it does not use of a tower is 0. Its batch norms are fixed: as of statistics that change nothing.

    Args:
      network: a `DerivedNetwork`, or what loading a SavedModel has made of one.
      architectures: [N], its own.

    Returns:
      Arrays by name; of the towers, `supernet.TOWER_WEIGHTS`, with a row for each attribute. A pretrained trunk is not
      taken apart.
    """
    weights: dict[str, np.ndarray] = {}
    for i, stage in enumerate(getattr(network.trunk, "stages", ()), 1):
        kernel, bias, scale, shift = (v.numpy() for v in stage)
        weights.update({f"conv{i}/kernel": kernel, f"conv{i}/bias": bias, f"bn{i}/gamma": scale, f"bn{i}/beta": shift})
        weights.update({f"bn{i}/mean": np.zeros_like(shift), f"bn{i}/variance": np.full_like(scale, 1 - BN_EPSILON)})
    for name, channels, filters in (
        ("conv4", TRUNK_CHANNELS[-1], CONV4_CHANNELS),
        ("conv5", CONV4_CHANNELS, CONV5_CHANNELS),
    ):
        groups = conv_groups(name, architectures)
        stage, norm = getattr(network, name), getattr(network, f"bn{name[-1]}")
        weights.update(_conv_weights(stage, name, groups, channels, filters))
        for kind, values in (("gamma", norm.scale), ("beta", norm.shift)):
            weights[f"bn{name[-1]}/{kind}"] = _in_order(values, groups, filters)
    return {**weights, **_all_head_weights(network.head, head_groups(architectures))}


def read_readout(network: Any) -> Optional[Readout]:
    """The reading of the trunk by such a network, or by a `ReadingNetwork`; None without one."""
    values = [v.numpy() for v in getattr(network, "_readout", None) or ()]
    if len(values) == 2:
        values.insert(0, np.zeros_like(values[1]))
    return Readout(*values) if values else None


def _conv_weights(
    stage: Any, name: str, groups: dict[tuple, np.ndarray], channels: int, filters: int
) -> dict[str, np.ndarray]:
    """Kernels, skips and biases of Conv-4 or Conv-5, a row for each attribute."""
    number, sources = sum(map(len, groups.values())), TRUNK_CHANNELS[: int(name[-1]) - 2]
    kernels = {size: np.zeros((number, size, size, channels, filters), np.float32) for size in KERNELS}
    skips = np.zeros((number, sum(sources), filters), np.float32)
    for i, (key, ids) in enumerate(groups.items()):
        kernels[key[-1]][ids] = _apart(stage.kernels[i], len(ids))
        rows = np.repeat(key[:-1], sources)
        if rows.any():
            skips[np.ix_(ids, rows)] = _apart(stage.skips[i], len(ids))[:, 0, 0]
    biases = _in_order(stage.bias, groups, filters)
    return {
        f"{name}/skip": skips,
        f"{name}/bias": biases,
        **{f"{name}/kernel{size}": kernels[size] for size in KERNELS},
    }


def _all_head_weights(head: Any, groups: dict[tuple, np.ndarray]) -> dict[str, np.ndarray]:
    """Fc-1 to Fc-3, a row for each attribute: the inverse of `_head_weights`."""
    number, widest = sum(map(len, groups.values())), FC_WIDTHS[-1]
    shapes = {
        "fc1": (int(head.weights[0][0][0].shape[1]), widest), "fc1_bias": (widest,), "fc2": (widest, widest), "fc2_bias": (widest,),
        "fc3_from_fc1": (widest, 2), "fc3_from_fc2": (widest, 2), "fc3_bias": (2,),
    }  # fmt: skip
    arrays = {name: np.zeros((number, *shape), np.float32) for name, shape in shapes.items()}
    for i, ((width1, width2), ids) in enumerate(groups.items()):
        pairs = [(kernel.numpy(), bias.numpy()) for kernel, bias in head.weights[i]]
        arrays["fc1"][ids, :, :width1], arrays["fc1_bias"][ids, :width1] = pairs[0][0], pairs[0][1][:, 0]
        if width2:
            arrays["fc2"][ids, :width1, :width2], arrays["fc2_bias"][ids, :width2] = pairs[1][0], pairs[1][1][:, 0]
        kernel, bias = pairs[-1]  # of z1 - z0: z0 is 0
        arrays["fc3_from_fc2" if width2 else "fc3_from_fc1"][ids, : width2 or width1, 1] = kernel[..., 0]
        arrays["fc3_bias"][ids, 1] = bias[:, 0, 0]
    return {f"head/{name}": array for name, array in arrays.items()}


def _apart(kernel: tf.Variable, number: int) -> np.ndarray:
    """The inverse of `_wide_kernel`: [k, k, C, n * F] -> [n, k, k, C, F]."""
    array = kernel.numpy()
    return array.reshape(*array.shape[:3], number, -1).transpose(3, 0, 1, 2, 4)


def _in_order(values: tf.Variable, groups: dict[tuple, np.ndarray], filters: int) -> np.ndarray:
    """[n * F] in a stage's order -> [N, F] by attribute."""
    rows = values.numpy().reshape(-1, filters)
    return rows[np.argsort(np.concatenate([*groups.values()]))]
