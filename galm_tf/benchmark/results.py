"""What suites and tables leave: each file whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Union

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galm_tf.begun import result_file
from galm_tf.plots import without_font_warnings

# What Markdown takes for more than the letter: of & only what begins an entity, no _ within a word.
_MARKS = re.compile(r"[\\`*<\[~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def escaped(name: str) -> str:
    """A user's name in Markdown, where it reads as it is written; strokes, which part cells alone, are `markdown_row`'s."""
    return _MARKS.sub(r"\\\g<0>", name)


def markdown_row(cells: Iterable[str]) -> str:
    """A line of a table in Markdown, in which a stroke in a name parts no cells."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write_files(out: str, files: Mapping[str, Union[pd.DataFrame, str, Figure]]) -> None:
    """Writes tables as CSV, texts as UTF-8 and figures as PNG: file name -> content, into the folder `out`, made if
    need be.
    """
    for name, content in files.items():
        with result_file(os.path.join(out, name)) as partial, open(partial, "wb") as file:
            if isinstance(content, pd.DataFrame):
                content.to_csv(file, index=False)
            elif isinstance(content, str):
                file.write(content.encode("utf-8"))
            else:
                with without_font_warnings():
                    FigureCanvasAgg(content).print_png(file)
