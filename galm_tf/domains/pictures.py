"""What the generated domains show: which attributes, drawn by which function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from galm_tf.domains import animals, objects, scenes
from galm_tf.domains.drawing import Canvas


@dataclasses.dataclass(frozen=True)
class Picture:
    """How one domain looks.

    Attributes:
      kind: stem of the class names.
      attributes: short names, in label order.
      loose: attributes that often differ between images of a class.
      noise: standard deviation of the sensor noise.
      draw: paints one picture that shows the given attribute -> bool.
    """

    kind: str
    attributes: tuple[str, ...]
    loose: tuple[str, ...]
    noise: float
    draw: Callable[[Canvas, Mapping[str, bool]], None]


PICTURES = {
    "awa": Picture("animal", animals.ATTRIBUTES, animals.LOOSE, 0.03, animals.draw),
    "apay": Picture("object", objects.ATTRIBUTES, objects.LOOSE, 0.04, objects.draw),
    "sun": Picture("scene", scenes.ATTRIBUTES, scenes.LOOSE, 0.035, scenes.draw),
}
