"""Generated domains with few images of each class, for tests that run the program."""

import contextlib

import pytest

from galm_tf import pipeline
from galm_tf.domains import generated

# of the generated sun's 20 attributes: eight are enough for a run
LEFT_OUT = (
    "tiles",
    "rocks",
    "fog",
    "road",
    "people",
    "fire",
    "railing",
    "flowers",
    "clutter",
    "warm_light",
    "sunny",
    "clouds",
)


@contextlib.contextmanager
def few_images(per_class):
    """Within this context generated domains have so many images of each class, and runs leave small examples: drawing
    those takes longest.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_EXAMPLE_PIXELS", 80)  # more than an image has: models resize them
        patch.setattr(generated, "IMAGES_PER_CLASS", per_class)
        patch.setattr(generated.load_generated, "__defaults__", (0, per_class))
        yield
