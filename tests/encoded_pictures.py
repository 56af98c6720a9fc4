"""Pictures as the bytes of a file."""

import io

import numpy as np
from PIL import Image


def encoded(picture, kind, **options):
    """A picture of Pillow's, or its pixels, in a format such as PNG; options: of Pillow's."""
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()
