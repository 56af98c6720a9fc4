"""The search space of Table 1, as data (paper §3.1). No TensorFlow here.

An architecture is ten choices, one per decision, in the order in which the
controller takes them. It is stored as indices, shown as names, and moved as
JSON; what samples it, what runs it and what stores it know only this module.

When Fc-3 reads Fc-1, Fc-2 is not part of the network and its width is void:
2304 architectures are sampled and reported, 1536 of them are distinct. A void
width is 0 in canonical form.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, Mapping, Sequence

import numpy as np

from galm_tf.config import Config
from galm_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Decision:
    """One of the ten decisions: its name and its choices, in index order."""

    name: str
    choices: tuple[Any, ...]


FC_WIDTHS = (64, 128, 256)
KERNELS = (3, 5)
DECISIONS: tuple[Decision, ...] = (
    Decision("conv1_conv4", (False, True)),
    Decision("conv2_conv4", (False, True)),
    Decision("conv4_kernel", KERNELS),
    Decision("conv1_conv5", (False, True)),
    Decision("conv2_conv5", (False, True)),
    Decision("conv3_conv5", (False, True)),
    Decision("conv5_kernel", KERNELS),
    Decision("fc1_width", FC_WIDTHS),
    Decision("fc2_width", FC_WIDTHS),
    Decision("fc3_input", ("fc1", "fc2")),
)
NUM_CHOICES: tuple[int, ...] = tuple(len(d.choices) for d in DECISIONS)
NUM_ARCHITECTURES: int = int(np.prod(NUM_CHOICES))
NUM_DISTINCT: int = 1536  # `canonical_numbers` has this many values; a test counts them
TRUNK_CHANNELS = (16, 32, 64)  # Conv-1, Conv-2, Conv-3
TRUNK_KERNELS = (7, 3, 3)
TRUNK_SHRINKS = 8  # side of an image by that of Conv-3's pooled map
PRETRAINED_SIDE = 8  # of the maps that a pretrained trunk gives, whatever the image's: as at 64 pixels
CONV4_CHANNELS, CONV5_CHANNELS = 32, 16
READOUT_SIDE = 4  # positions of Conv-3's map that a linear reading keeps, each way; not part of the space


def map_side(config: Config) -> int:
    """Side of Conv-3's map, which towers read."""
    return PRETRAINED_SIDE if config.trunk_model else config.image_size // TRUNK_SHRINKS


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Ten choices. Field order is decision order; values are choices, not indices."""

    conv1_conv4: bool
    conv2_conv4: bool
    conv4_kernel: int
    conv1_conv5: bool
    conv2_conv5: bool
    conv3_conv5: bool
    conv5_kernel: int
    fc1_width: int
    fc2_width: int
    fc3_input: str

    def __post_init__(self) -> None:
        for decision in DECISIONS:
            value = getattr(self, decision.name)
            if value == 0 and value is not False and decision.name == "fc2_width" and self.fc3_input == "fc1":
                continue  # canonical form of a void width
            if not any(value == c and type(value) is type(c) for c in decision.choices):
                raise UserError(
                    f"Expected architecture.{decision.name} to be one of {list(decision.choices)}. "
                    f"Received: {decision.name}={value!r}."
                )

    @classmethod
    def from_indices(cls, indices: Sequence[int]) -> "Architecture":
        """Builds from ten choice indices; raises UserError when they do not fit Table 1."""
        indices = [int(i) for i in indices]
        if len(indices) != len(DECISIONS) or any(not 0 <= i < n for i, n in zip(indices, NUM_CHOICES)):
            raise UserError(
                f"Expected {len(DECISIONS)} choice indices below {list(NUM_CHOICES)}. Received: indices={indices}."
            )
        return cls(*(d.choices[i] for d, i in zip(DECISIONS, indices)))

    @classmethod
    def from_number(cls, number: int) -> "Architecture":
        """Builds from its row in `all_indices`, 0 to 2303."""
        return cls.from_indices(np.unravel_index(int(number), NUM_CHOICES))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Architecture":
        """Builds from what `to_json` gave; raises UserError on missing or unknown fields."""
        names = {d.name for d in DECISIONS}
        if set(value) != names:
            raise UserError(f"Expected an architecture with the fields {sorted(names)}. Received: {sorted(value)}.")
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def indices(self) -> tuple[int, ...]:
        """Ten choice indices; a void width has index 0."""
        return tuple(
            d.choices.index(getattr(self, d.name)) if getattr(self, d.name) in d.choices else 0 for d in DECISIONS
        )

    @property
    def number(self) -> int:
        """Row of this architecture in `all_indices`."""
        return int(np.ravel_multi_index(self.indices, NUM_CHOICES))

    def canonical(self) -> "Architecture":
        """The same network with a void Fc-2 width set to 0."""
        return dataclasses.replace(self, fc2_width=0) if self.fc3_input == "fc1" else self

    def describe(self) -> str:
        """One line for tables and logs, e.g. `c4:3x3+1 c5:5x5+23 fc:128-64`."""
        skips4 = "".join(str(i) for i, on in ((1, self.conv1_conv4), (2, self.conv2_conv4)) if on)
        skips5 = "".join(
            str(i) for i, on in ((1, self.conv1_conv5), (2, self.conv2_conv5), (3, self.conv3_conv5)) if on
        )
        widths = f"{self.fc1_width}-{self.fc2_width}" if self.fc3_input == "fc2" else f"{self.fc1_width}"
        conv4, conv5 = (
            f"{k}x{k}" + (f"+{s}" if s else "") for k, s in ((self.conv4_kernel, skips4), (self.conv5_kernel, skips5))
        )
        return f"c4:{conv4} c5:{conv5} fc:{widths}"


@functools.cache
def all_indices() -> np.ndarray:
    """Choice indices of all architectures, int32 [2304, 10], last decision fastest; read-only, since every step asks
    for it.
    """
    indices = np.array(list(itertools.product(*(range(n) for n in NUM_CHOICES))), dtype=np.int32)
    indices.flags.writeable = False
    return indices


def canonical_numbers() -> np.ndarray:
    """For each of the 2304 architectures, the row of its canonical twin, int64 [2304].

    The twin of an architecture whose Fc-2 is void is the one with Fc-2 width
    index 0, so 1536 different numbers occur.
    """
    indices = all_indices().copy()
    void = indices[:, -1] == 0
    indices[void, -2] = 0
    return np.ravel_multi_index(tuple(indices.T), NUM_CHOICES)
