"""Rendering of figures, and their shared colors."""

from __future__ import annotations

import base64
import io
from enum import StrEnum
from textwrap import fill
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
"""Palette of Okabe and Ito, distinguishable by color-blind readers."""
GREY, RED = "#999999", "#d55e00"
PUBLISHED_STYLE: dict[str, Any] = {"color": GREY, "alpha": 0.6, "hatch": "///"}
"""Style of bars that show published values."""


LINE_LENGTH = 100
"""Characters in a line of a note below a figure."""


class ImageFormat(StrEnum):
    """File formats of figures."""

    PNG = "png"
    SVG = "svg"


def render_figure(figure: Figure, form: ImageFormat = ImageFormat.PNG) -> bytes:
    """Render a figure as bytes without a timestamp, so that equal figures have equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "gan-htvs"}):
        undated = {ImageFormat.PNG: {"Software": None}, ImageFormat.SVG: {"Date": None}}
        figure.savefig(buffer, format=form, metadata=undated[form])
    return buffer.getvalue()


def add_warning(figure: Figure, warning: str | None) -> None:
    """Write a warning below the axes of a figure with constrained layout; None: no warning."""
    if warning is not None:
        figure.supxlabel(fill(warning, LINE_LENGTH), color=RED, fontsize=8)


def figure_data_uri(figure: Figure) -> str:
    """Return a figure as an SVG data URI, for self-contained HTML pages."""
    data = base64.b64encode(render_figure(figure, ImageFormat.SVG)).decode()
    return f"data:image/svg+xml;base64,{data}"
