"""A data set as one picture: examples of every part, and of what attributes mean.

Pictures are shown as the networks see them (cropped, square, at the search
resolution). An object that is part of a photograph is shown beside it, with its
box, so that a wrong box is seen at once.
"""

from __future__ import annotations

import os
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from galm_tf.domains.describe import headline, part_records, shown_classes, shown_name
from galm_tf.domains.domain import Domain
from galm_tf.domains.splits import Split, with_both_labels
from galm_tf.preprocess import BadImageError, decode_image
from galm_tf.words import counted

_CELL, _GAP, _MARGIN, _COLUMNS = 104, 8, 20, 12  # pixels; cells in a row
_CAPTION, _HEADING = 20, 38  # heights in pixels
_WIDTH = 2 * _MARGIN + _COLUMNS * (_CELL + _GAP) - _GAP
_ROWS_PER_PART = 2
_NUM_ATTRIBUTES, _EXAMPLES = 8, 4  # attribute rows; positives and negatives in each
_NAME_COLUMNS = 2  # cells that the attribute's name takes
_INK, _FAINT, _POSITIVE, _NEGATIVE, _BOX = "#1a1a1a", "#666666", "#2a8f4a", "#b5483a", "#ffd400"
_TITLES = {
    "train": "Training",
    "validation_classes": "Validation: classes held out whole",
    "validation_images": "Validation: images held out of the training classes",
    "test": "Test",
}


def contact_sheet(domain: Domain, split: Split, images: np.ndarray, seed: int = 0) -> Image.Image:
    """Draws the sheet.

    Args:
      domain: readable images only.
      split: of its records.
      images: uint8 [n, S, S, 3], a record each.
      seed: which examples are shown.

    Returns:
      An RGB picture, 1376 pixels wide.
    """
    rng = np.random.default_rng(seed)
    sheet = _Sheet(domain, images)
    side = images.shape[1]
    sheet.line(domain.name, 24)
    sheet.line(headline(domain), 14, _FAINT)
    boxed = bool((domain.boxes[:, 2] >= 0).any())
    beside = ", beside the photograph they are from" if boxed else ""
    sheet.line(f"Pictures as the networks see them: {side}×{side} pixels{beside}.", 14, _FAINT)
    for note in domain.notes:
        sheet.line(note, 14, _NEGATIVE)
    for part, index in part_records(domain, split).items():
        if part in _TITLES and len(index):
            sheet.part(f"{_TITLES[part]}: {counted(len(index), 'image')}", index, rng)
    sheet.heading("Attributes in training images: with it (green), without it (red)")
    shown = _shown_attributes(domain, split.train)
    if len(shown) < len(domain.attributes):
        sheet.line(
            f"{len(shown)} of {len(domain.attributes)} attributes, evenly over those of which there are examples of both kinds.",
            14,
            _FAINT,
        )
    for attribute in shown:
        sheet.attribute(attribute, split.train, rng)
    return sheet.finish()


def _shown_attributes(domain: Domain, train: np.ndarray) -> np.ndarray:
    """Attributes with examples of both kinds, evenly over the list: int64 [at most 8]."""
    both = np.flatnonzero(with_both_labels(domain.labels[train]))
    places = np.linspace(0, len(both) - 1, min(_NUM_ATTRIBUTES, len(both))).round().astype(int)
    return both[places]


def spread_over_classes(index: np.ndarray, class_ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` records, one of every class before any class has two: int64, by class."""
    shuffled = rng.permutation(index)
    order = np.argsort(class_ids[shuffled], kind="stable")
    starts, sizes = np.unique(class_ids[shuffled][order], return_index=True, return_counts=True)[1:]
    turn = np.empty(len(shuffled), np.int64)  # of each among those of its class
    turn[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    chosen = shuffled[np.argsort(turn, kind="stable")[:count]]
    return chosen[np.argsort(class_ids[chosen], kind="stable")]


class _Sheet:
    """A growing list of drawing calls; the height is known at the end."""

    def __init__(self, domain: Domain, images: np.ndarray) -> None:
        self._domain, self._images, self._classes = domain, images, shown_classes(domain)
        self._calls: list[tuple[str, tuple[int, int], Any, dict[str, Any]]] = []
        self._top = _MARGIN

    def line(self, text: str, size: int, color: str = _INK) -> None:
        """A text over the whole width, in as many lines as it needs."""
        font = _font(size)
        for part in _wrapped(text, _WIDTH - 2 * _MARGIN, font):
            self._text((_MARGIN, self._top), part, font, color)
            self._top += round(1.45 * size)

    def heading(self, text: str) -> None:
        self._top += _HEADING // 3
        self.line(text, 17)
        self._top += 4

    def part(self, title: str, index: np.ndarray, rng: np.random.Generator) -> None:
        """Two rows of examples with their classes."""
        self.heading(title)
        boxed = bool((self._domain.boxes[index, 2] >= 0).any())
        columns = _COLUMNS // 2 if boxed else _COLUMNS
        chosen = spread_over_classes(index, self._domain.class_ids, _ROWS_PER_PART * columns, rng)
        for start in range(0, len(chosen), columns):
            for place, record in enumerate(chosen[start : start + columns]):
                left = _MARGIN + place * (_CELL + _GAP) * (2 if boxed else 1)
                self._example(int(record), left, boxed)
            self._top += _CELL + _CAPTION + _GAP

    def attribute(self, attribute: int, train: np.ndarray, rng: np.random.Generator) -> None:
        """A row of positive and negative examples behind the attribute's name."""
        labels = self._domain.labels[train, attribute]
        font, width = _font(15), _NAME_COLUMNS * (_CELL + _GAP) - 2 * _GAP
        name = _shorten(shown_name(self._domain, self._domain.attributes[attribute]), width, font)
        self._text((_MARGIN, self._top + _CELL // 2 - 20), name, font, _INK)
        known = np.isfinite(labels)
        share = f"{100 * labels[known].mean():.1f} % of {known.sum()} known"
        self._text((_MARGIN, self._top + _CELL // 2 + 2), share, _font(12), _FAINT)
        for value, color, column in ((1, _POSITIVE, _NAME_COLUMNS), (0, _NEGATIVE, _NAME_COLUMNS + _EXAMPLES + 1)):
            left = _MARGIN + column * (_CELL + _GAP)
            for record in spread_over_classes(train[labels == value], self._domain.class_ids, _EXAMPLES, rng):
                self._picture(int(record), left, color)
                self._caption(int(record), left, _CELL)
                left += _CELL + _GAP
        self._top += _CELL + _CAPTION + _GAP

    def _example(self, record: int, left: int, boxed: bool) -> None:
        if not boxed:
            self._picture(record, left)
            self._caption(record, left, _CELL)
            return
        self._calls.append(("image", (left, self._top), _photograph(self._domain, record), {}))
        self._picture(record, left + _CELL)
        self._caption(record, left, 2 * _CELL)

    def _picture(self, record: int, left: int, frame: str = "") -> None:
        picture = Image.fromarray(np.asarray(self._images[record])).resize((_CELL, _CELL), Image.Resampling.BICUBIC)
        if frame:
            ImageDraw.Draw(picture).rectangle((0, 0, _CELL - 1, _CELL - 1), outline=frame, width=3)
        self._calls.append(("image", (left, self._top), picture, {}))

    def _caption(self, record: int, left: int, width: int) -> None:
        name = _shorten(self._classes[record], width, _font(12))
        self._text((left, self._top + _CELL + 2), name, _font(12), _FAINT)

    def _text(self, place: tuple[int, int], text: str, font: ImageFont.FreeTypeFont, color: str) -> None:
        self._calls.append(("text", place, text, {"font": font, "fill": color}))

    def finish(self) -> Image.Image:
        sheet = Image.new("RGB", (_WIDTH, self._top + _MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        for kind, place, what, settings in self._calls:
            if kind == "image":
                sheet.paste(what, place)
            else:
                draw.text(place, what, **settings)
        return sheet


def _photograph(domain: Domain, record: int) -> Image.Image:
    """The whole file of a record in a square cell, with the record's box; grey when it is gone."""
    cell = Image.new("RGB", (_CELL, _CELL), "#dddddd")
    try:
        photograph = Image.fromarray(decode_image(domain.paths[record]))
    except BadImageError:
        return cell
    scale = _CELL / max(photograph.size)
    small = photograph.resize([max(1, round(s * scale)) for s in photograph.size], Image.Resampling.LANCZOS)
    left, top = (_CELL - small.width) // 2, (_CELL - small.height) // 2
    cell.paste(small, (left, top))
    if domain.boxes[record, 2] >= 0:
        box = domain.boxes[record] * scale
        corners = np.clip(np.round(box), 0, _CELL - 1) + np.array([left, top, left, top])
        ImageDraw.Draw(cell).rectangle(tuple(np.minimum(corners, _CELL - 1)), outline=_BOX, width=2)
    return cell


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which matplotlib ships: it has accents, Greek and Cyrillic, on every system."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines of at most `width` pixels, parted between words; a word that is wider, between letters."""
    rest, lines = " ".join(text.split()), []
    while font.getlength(rest) > width:
        letters = next(n for n in range(1, len(rest)) if font.getlength(rest[: n + 1]) > width)
        end = rest.rfind(" ", 0, letters + 1)
        end = letters if end < 1 else end
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return [*lines, rest]


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text in one line, or as much of it as fits in `width` pixels and an ellipsis."""
    text = " ".join(text.split())  # a table's cell, such as an image's name, may hold a break, which is not drawn
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
