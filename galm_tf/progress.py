"""A live line for long work: phase, rate, time left and the current figures.

On a terminal tqdm redraws one line; elsewhere (files, CI) a plain line appears
every 15 seconds, so that logs stay readable.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

_PLAIN_SECONDS = 15.0
_FORMAT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _PlainLines:
    """What tqdm writes, as whole lines without control characters, none twice in a row."""

    def __init__(self) -> None:
        self._last = ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self._last:
            sys.stderr.write(line + "\n")
            self._last = line

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """Progress of one phase, on standard error.

    Args:
      total: units of work in all.
      phase: what is being done.
      initial: units done before.
      unit: name of one.
    """

    def __init__(self, total: int, phase: str, initial: int = 0, unit: str = "step") -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=phase,
            unit=unit,
            file=sys.stderr if self._terminal else _PlainLines(),
            mininterval=0.2 if self._terminal else _PLAIN_SECONDS,
            bar_format=_FORMAT,
            dynamic_ncols=self._terminal,
            position=None if self._terminal else 0,  # one within another moves no cursor in a file
            leave=True,
        )

    def update(self, count: int, **figures: float) -> None:
        """Adds finished units and shows figures such as reward or loss."""
        if figures:
            self._bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()}, refresh=False)
        self._bar.update(count)

    def each(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, one unit of progress after each."""
        for item in items:
            yield item
            self.update(1)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Puts what it holds takes into `seconds` under this name."""
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started
