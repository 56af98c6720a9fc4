"""Templates to one HTML file: style, script, plotting library and data are all inside it.

The library is plotly.js as plotly's Python package brings it, 4.8 MB; it is packed to 2 MB, and the page's script
unpacks it.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
from importlib import resources
from typing import Any, Mapping, Optional

import jinja2
from plotly.offline import get_plotlyjs

import galm_tf
from galm_tf.errors import UserError
from galm_tf.report.names import breakable, in_a_row
from galm_tf.whole_file import whole_file
from galm_tf.words import millions


@dataclasses.dataclass(frozen=True)
class Page:
    """What a template needs.

    Attributes:
      template: its file below templates/.
      content: its variables.
      figures: element id -> plotly figure as JSON (`data`, `layout`).
    """

    template: str
    content: Mapping[str, Any]
    figures: Mapping[str, Any]


def write_page(page: Page, path: str) -> None:
    """Writes the page, whole or not at all; raises UserError when the place cannot be written."""
    text = render(page)
    try:
        with whole_file(path) as partial, open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise UserError(
            f"Expected to be able to write {path}. Received: {error.strerror or error}; name another file by --out."
        ) from error


def render(page: Page) -> str:
    """The page as HTML. Every name is escaped by the template engine."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("galm_tf.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # figures stand in the template's order
    filters = (figure, percent, score, duration, signed, better, millions, in_a_row, breakable)
    environment.filters.update({each.__name__: each for each in filters})
    return environment.get_template(page.template).render(
        **page.content,
        figures=page.figures,
        style=_template("style.css"),
        script=_template("page.js"),
        plotly=_packed(get_plotlyjs()) if page.figures else "",
        version=galm_tf.__version__,
    )


def figure(value: Optional[float], digits: int = 3) -> str:
    """A figure for a person; a dash when it is not known."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: Optional[float], digits: int = 3) -> str:
    """A difference with its sign, which what is rounded to nothing has not."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def better(value: Optional[float], digits: int = 3) -> str:
    """The style of a difference: none for what is rounded to nothing."""
    shown = 0 if value is None else round(value, digits)
    return "up" if shown > 0 else "down" if shown < 0 else ""


def percent(share: Optional[float]) -> str:
    """A share in per cent; below one per cent with a decimal, and never rounded to none or to all."""
    if share is None:
        return "–"
    if 0 < share < 0.0005:
        return "<0.1\u00a0%"
    if 0.995 <= share < 1:
        return ">99\u00a0%"
    return f"{100 * share:.1f}\u00a0%" if 0 < share < 0.01 else f"{100 * share:.0f}\u00a0%"


def score(probability: float) -> str:
    """A probability with two digits, never rounded to nothing or to certainty."""
    if probability < 0.005:
        return "<0.01"
    return ">0.99" if probability >= 0.995 else f"{probability:.2f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _template(name: str) -> str:
    return resources.files("galm_tf.report").joinpath("templates", name).read_text(encoding="utf-8")


def _packed(text: str) -> str:
    """Text by gzip, in base64; the same at any time."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")
