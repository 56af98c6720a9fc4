"""Pictures for the page: what the search was run on, and test images with their scores.

Nothing is stored but the page. Pictures are shown as the network sees them.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any, Optional, Sequence

import numpy as np
from PIL import Image

from galm_tf.domains.contact_sheet import spread_over_classes
from galm_tf.domains.describe import shown_classes
from galm_tf.report.names import without_directions
from galm_tf.report.run_data import RunData, Scores
from galm_tf.report.run_reading import FinishedRun

_PER_PART = 18  # pictures of the contact sheet, of training and of test images each
_PER_ROW = 6  # examples of one kind
# of label, decision
_VERDICTS = {(True, True): "a hit", (True, False): "a miss", (False, True): "a false alarm", (False, False): "rightly"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
      uri: `data:` address that holds all of it.
      caption: its class; nothing where the data have none.
      score: probability of the attribute; None on the contact sheet.
      decision: whether the network says yes; None on the contact sheet, and where validation could choose no threshold.
      has: whether it has the attribute; None on the contact sheet.
    """

    uri: str
    caption: str
    score: Optional[float] = None
    decision: Optional[bool] = None
    has: Optional[bool] = None

    @property
    def spoken(self) -> str:
        """What it shows, for whoever does not see it."""
        shown = self.caption or "an image"
        if self.decision is None:
            return shown
        return f"{shown}: the network says {'yes' if self.decision else 'no'}, {_VERDICTS[self.has, self.decision]}"


@dataclasses.dataclass(frozen=True)
class Examples:
    """Test images of one attribute.

    Attributes:
      num_having, num_known: how many test images have it, of how many whose label is known.
      hits: images that have it, highest score first; all of them where they are few.
      false_alarms: images that do not have it, highest score first.
      misses: images that have it, lowest score first; none where `hits` are all.
    """

    num_having: int
    num_known: int
    hits: tuple[Picture, ...]
    false_alarms: tuple[Picture, ...]
    misses: tuple[Picture, ...]


class PictureSource:
    """The images of a run.

    Args:
      run: the run.
      data: what it was made on.
    """

    def __init__(self, run: FinishedRun, data: RunData) -> None:
        self._run = run
        self._domain, self._images, self._split, self._labels = data.domain, data.images, data.split, data.labels
        self._classes = shown_classes(data.domain)

    def contact_sheet(self) -> dict[str, list[Picture]]:
        """Training and test pictures, spread over the classes."""
        rng, split = np.random.default_rng(0), self._split
        sheet = {}
        for part, index in (("training", split.trained), ("test", split.test)):
            chosen = spread_over_classes(index, self._domain.class_ids, _PER_PART, rng)
            sheet[part] = [self._picture(int(record)) for record in chosen]
        return sheet

    def scored_examples(self, attributes: Sequence[str], scores: Scores) -> dict[str, Examples]:
        """The most telling test images of some attributes."""
        labels, names = self._labels[self._split.test], list(self._run.rows)
        return {
            name: self._examples(
                *(m[:, i] for m in (labels, scores.probability)), scores.decision[:, i] if scores.decides[i] else None
            )
            for name, i in ((name, names.index(name)) for name in attributes)
        }

    def _examples(self, labels: np.ndarray, probability: np.ndarray, decision: Optional[np.ndarray]) -> Examples:
        falling = np.argsort(-probability, kind="stable")
        having, lacking = falling[labels[falling] == 1], falling[labels[falling] == 0]
        misses = having[::-1][: max(0, min(_PER_ROW, len(having) - _PER_ROW))]
        kinds = ((having[:_PER_ROW], True), (lacking[:_PER_ROW], False), (misses, True))
        pictures = (tuple(self._scored(int(i), probability, decision, has) for i in kind) for kind, has in kinds)
        return Examples(len(having), len(having) + len(lacking), *pictures)

    def _scored(self, place: int, probability: np.ndarray, decision: Optional[np.ndarray], has: bool) -> Picture:
        picture = self._picture(int(self._split.test[place]))
        says = None if decision is None else bool(decision[place])
        return dataclasses.replace(picture, score=float(probability[place]), decision=says, has=has)

    def _picture(self, record: int) -> Picture:
        return Picture(_data_uri(self._images[record]), without_directions(self._classes[record]))


def _data_uri(pixels: Any) -> str:
    """uint8 [S, S, 3] -> a WebP picture in a `data:` address."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "WEBP", quality=80, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
