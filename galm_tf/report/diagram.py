"""An architecture as a small drawing: inline SVG, coloured by the page's style sheet.

The trunk (Conv-1 to Conv-3) is shared by all attributes; what follows is the attribute's own tower. Skips from Conv-1
and Conv-2 to Conv-4 run above the boxes, skips to Conv-5 below.
"""

from __future__ import annotations

from galm_tf import search_space
from galm_tf.search_space import Architecture

_WIDTH, _HEIGHT, _MIDDLE = 372, 138, 69
_BOX, _STEP, _LEFT = 38, 46, 4
_TALLEST, _SHORTEST = 70, 32  # heights of Fc boxes of 256 and 2 units
_CONV_HEIGHT = 58
# from one line of text to the next: large enough to be read on a phone, where the drawing is three quarters as wide
_LINE = 15


def architecture_svg(architecture: Architecture, pretrained: bool = False) -> str:
    """The drawing of one architecture, as wide as what holds it; on Conv-1 to Conv-3, or a pretrained trunk. No name of
    a user is in it.
    """
    a = architecture.canonical()
    boxes = _boxes(a, pretrained)
    parts = [_arrow(i) for i in range(len(boxes) - 1)]
    parts += [_skip(source, 3, above=True, lane=i) for i, source in enumerate(_sources(a.conv1_conv4, a.conv2_conv4))]
    below = _sources(a.conv1_conv5, a.conv2_conv5, a.conv3_conv5)
    parts += [_skip(source, 4, above=False, lane=i) for i, source in enumerate(below)]
    parts += [_box(i, *box) for i, box in enumerate(boxes)]
    title = f"<title>{a.describe()}</title>"  # made of digits and letters only
    head = f'<svg class="net" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{a.describe()}">'
    return head + title + "".join(parts) + "</svg>"


def _boxes(a: Architecture, pretrained: bool) -> list[tuple[str, tuple[str, ...], int]]:
    """(style class, lines of text, height) of every box from left to right: kernel and channels of a convolution, units
    of an Fc.
    """
    trunk = zip(search_space.TRUNK_KERNELS, search_space.TRUNK_CHANNELS)
    boxes = [
        ("trunk", (f"C{i}", *([] if pretrained else [f"{k}×{k}"]), str(c)), _CONV_HEIGHT)
        for i, (k, c) in enumerate(trunk, 1)
    ]
    for name, kernel, channels in (
        ("C4", a.conv4_kernel, search_space.CONV4_CHANNELS),
        ("C5", a.conv5_kernel, search_space.CONV5_CHANNELS),
    ):
        boxes.append((f"tower k{kernel}", (name, f"{kernel}×{kernel}", str(channels)), _CONV_HEIGHT))
    widths = [("Fc1", a.fc1_width)] + ([("Fc2", a.fc2_width)] if a.fc3_input == "fc2" else [])
    return boxes + [("fc", (name, str(width)), _fc_height(width)) for name, width in [*widths, ("Fc3", 2)]]


def _fc_height(width: int) -> int:
    largest = max(search_space.FC_WIDTHS)
    return round(_SHORTEST + (_TALLEST - _SHORTEST) * width / largest)


def _sources(*on: bool) -> list[int]:
    return [i for i, used in enumerate(on) if used]


def _left(place: int) -> int:
    return _LEFT + place * _STEP


def _box(place: int, style: str, lines: tuple[str, ...], height: int) -> str:
    left, top, centre = _left(place), _MIDDLE - height // 2, _left(place) + _BOX // 2
    first = _MIDDLE - _LINE * (len(lines) - 1) / 2 + 4  # baselines about the middle
    text = f'<text x="{centre}" y="'
    texts = [f'{text}{first:g}">{lines[0]}</text>']
    texts += [f'{text}{first + i * _LINE:g}" class="size">{line}</text>' for i, line in enumerate(lines[1:], 1)]
    return f'<rect class="{style}" x="{left}" y="{top}" width="{_BOX}" height="{height}" rx="5"/>' + "".join(texts)


def _arrow(place: int) -> str:
    return f'<line class="flow" x1="{_left(place) + _BOX}" y1="{_MIDDLE}" x2="{_left(place + 1)}" y2="{_MIDDLE}"/>'


def _skip(source: int, target: int, above: bool, lane: int) -> str:
    """A line that leaves the top (or the bottom) of one convolution and enters another; lanes keep lines apart."""
    sign = -1 if above else 1
    edge, far = _MIDDLE + sign * _CONV_HEIGHT // 2, _MIDDLE + sign * (_CONV_HEIGHT // 2 + 32 - 9 * lane)
    start, end = _left(source) + _BOX // 2, _left(target) + 9 + 9 * lane
    points = f"M{start},{edge} V{far} H{end} V{edge + sign * 2}"
    head = f"M{end - 3},{edge + sign * 6} L{end},{edge + sign} L{end + 3},{edge + sign * 6}"
    return f'<path class="skip" d="{points}"/><path class="skip" d="{head}"/>'
