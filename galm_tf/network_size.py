"""How large a network is: multiply-adds of one image, by convolutions as they stand (in tiles they take fewer), and
parameters. No TensorFlow here.

Counted are convolutions and fully connected layers of the networks as they are
derived and exported; pools, batch norms and ReLUs are little beside them. A
tower reads the shared trunk, which is counted once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Optional

import numpy as np

from galm_tf import search_space
from galm_tf.search_space import (
    CONV4_CHANNELS,
    CONV5_CHANNELS,
    READOUT_SIDE,
    TRUNK_CHANNELS,
    TRUNK_KERNELS,
    TRUNK_SHRINKS,
    Architecture,
)
from galm_tf.words import millions

READ = READOUT_SIDE**2 * TRUNK_CHANNELS[-1]  # numbers of Conv-3 that `readout` reads for one attribute


@dataclasses.dataclass(frozen=True)
class Size:
    """What one image costs, and what is stored."""

    multiply_adds: int
    parameters: int

    def __add__(self, other: "Size") -> "Size":
        return Size(self.multiply_adds + other.multiply_adds, self.parameters + other.parameters)

    def __sub__(self, other: "Size") -> "Size":
        return Size(self.multiply_adds - other.multiply_adds, self.parameters - other.parameters)

    def to_json(self) -> dict[str, int]:
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """For a person."""
        numbers = (millions(number, "million") for number in (self.multiply_adds, self.parameters))
        return "{} multiply-adds an image, {} parameters".format(*numbers)


def network_size(architectures: Iterable[Optional[Architecture]], side: int, read: int, trunk: Size) -> Size:
    """Of a derived network: the trunk and a tower per architecture, with a reading of so many numbers beside each;
    side: of Conv-3's map.
    """
    return sum((tower_size(a, side, read) for a in architectures), trunk)


def of_result(result: Mapping[str, Any], image_size: int) -> Size:
    """Of all networks of a result.json together; counted where a run of an earlier version does not say."""
    if "network" in result:
        return Size(**result["network"])
    rows = [row for row in result["per_attribute"].values() if "excluded" not in row]
    return network_size(
        (Architecture.from_json(row["architecture"]) for row in rows),
        image_size // TRUNK_SHRINKS,
        0,
        trunk_size(image_size),
    )


def trunk_size(image_size: int, pretrained: Optional[Mapping[str, Any]] = None, towers: bool = True) -> Size:
    """Of Conv-1 to Conv-3 with fixed batch norms, or of the pretrained trunk that result.json or a model's metadata
    tell of as `trunk`; without towers less the projections that they alone read, but where an earlier version does not
    tell.
    """
    if pretrained:
        told = pretrained if towers else pretrained.get("unprojected", pretrained)
        return Size(told["multiply_adds"], told["parameters"])
    return Size(_trunk_multiply_adds(image_size), _trunk_parameters())


def numbers_read(pretrained: Optional[Mapping[str, Any]] = None) -> int:
    """How many numbers of the trunk the reading beside a tower reads; pretrained: as of `trunk_size`."""
    return (pretrained or {}).get("means", READ)


def tower_size(architecture: Optional[Architecture], side: int, read: int) -> Size:
    """Of Conv-4 to Fc-3 of one attribute with fixed batch norms, if there are any, and of a reading of so many numbers
    beside them; side: of Conv-3's map.
    """
    if architecture is None:
        return Size(read, read + 1)
    tower = Size(_tower_multiply_adds(architecture, side), _tower_parameters(architecture, side))
    return tower + Size(read, read + 2) if read else tower  # its bias, and a factor of the tower's margin


@functools.lru_cache(maxsize=4)
def relative_sizes(side: int) -> np.ndarray:
    """log2 of the multiply-adds of every architecture's tower, less its mean: float64 [2304], read-only; side: of
    Conv-3's map.

    One more is twice the work.
    """
    towers = [_tower_multiply_adds(Architecture.from_number(n), side) for n in range(search_space.NUM_ARCHITECTURES)]
    sizes = np.log2(np.array(towers, np.float64))
    sizes -= sizes.mean()
    sizes.flags.writeable = False
    return sizes


def _trunk_multiply_adds(image_size: int) -> int:
    total, side, channels = 0, image_size, 3
    for filters, kernel in zip(TRUNK_CHANNELS, TRUNK_KERNELS):
        total += side**2 * kernel**2 * channels * filters
        side, channels = side // 2, filters
    return total


def _trunk_parameters() -> int:
    """Kernels, biases, and a scale and a shift for each channel of the batch norms."""
    inputs = (3, *TRUNK_CHANNELS)
    return sum(k**2 * c * f + 3 * f for c, f, k in zip(inputs, TRUNK_CHANNELS, TRUNK_KERNELS))


def _tower_multiply_adds(architecture: Architecture, side: int) -> int:
    inputs4, inputs5 = _conv_inputs(architecture)
    fcs = sum(inputs * outputs for inputs, outputs in _fc_shapes(architecture, side))
    return side**2 * inputs4 * CONV4_CHANNELS + (side // 2) ** 2 * inputs5 * CONV5_CHANNELS + fcs


def _tower_parameters(architecture: Architecture, side: int) -> int:
    inputs4, inputs5 = _conv_inputs(architecture)
    fcs = sum((inputs + 1) * outputs for inputs, outputs in _fc_shapes(architecture, side))
    return (inputs4 + 3) * CONV4_CHANNELS + (inputs5 + 3) * CONV5_CHANNELS + fcs


def _conv_inputs(a: Architecture) -> tuple[int, int]:
    """Values that one output of Conv-4 and one of Conv-5 reads: the kernel's, and those of the open skips."""
    skips4 = sum(c for c, on in zip(TRUNK_CHANNELS, (a.conv1_conv4, a.conv2_conv4)) if on)
    skips5 = sum(c for c, on in zip(TRUNK_CHANNELS, (a.conv1_conv5, a.conv2_conv5, a.conv3_conv5)) if on)
    return a.conv4_kernel**2 * TRUNK_CHANNELS[-1] + skips4, a.conv5_kernel**2 * CONV4_CHANNELS + skips5


def _fc_shapes(a: Architecture, side: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of each fully connected layer; the last gives the margin alone."""
    flat = (side // 4) ** 2 * CONV5_CHANNELS
    widths = [flat, a.fc1_width, *([a.fc2_width] if a.fc3_input == "fc2" else []), 1]
    return list(zip(widths[:-1], widths[1:]))
