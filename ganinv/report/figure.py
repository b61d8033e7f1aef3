"""Matplotlib figures as inline SVG in the colours of the page, so that one drawing works in light mode, in dark mode and on
paper."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#05050{i}" for i in range(8))
"""Placeholder colours that no drawing would use; they are replaced by CSS variables of the page."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--panel"}
_VARIABLES |= {color: f"--series-{i}" for i, color in enumerate(SERIES)}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
    "font.size": 11.0,
    "figure.titlesize": 13.0,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.linewidth": 1.0,
    "figure.facecolor": "none",
    "figure.dpi": 72.0,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


def draw(paint: Callable[[Axes], None], width: int, height: int, title: str) -> str:
    """An ``<svg>`` of ``width`` x ``height`` CSS pixels. The same drawing gives the same text.

    Args:
        paint: draws into the axes, only in the colours ``INK``, ``MUTED``, ``LINE``, ``PAPER`` and ``SERIES``.
        title: also used by screen readers.
    """
    # Drawn with the figure's own canvas: pyplot would choose a backend and keep global state.
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": title}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in a script the font lacks is drawn by the browser
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        figure.suptitle(title, x=0.0, ha="left")
        paint(axes)
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return _inline(sink.getvalue(), title, width)


def standalone(svg: str) -> str:
    """The result of ``draw`` as a file of its own: in the colours that the page has on paper, on a white background."""
    colored = re.sub(r"var\((--[a-z0-9-]+)\)", lambda match: _PLAIN[match[1]], svg)
    return colored.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", '><rect width="100%" height="100%" fill="#ffffff"/>', 1
    )


_PLAIN = {"--ink": "#1b1d21", "--muted": "#666b74", "--line": "#e2e0da", "--panel": "#ffffff", "--font": "sans-serif"}
_TONES = ("#2f6fde", "#d9701e", "#12917a", "#b03f97", "#7b5bd6", "#a68100", "#4b8aa8", "#c23b50")
_PLAIN |= {f"--series-{i}": tone for i, tone in enumerate(_TONES)}


def _inline(svg: str, title: str, width: int) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match[0]), svg)
    # An SVG's attributes know no var(), its style does: both spellings of matplotlib are styles.
    svg = re.sub(
        r"font(-family)?: *([^;\"]*)'DejaVu Sans'[^;\"]*", lambda m: f"font{m[1] or ''}: {m[2]}var(--font)", svg
    )
    prefix = re.sub(r"\W+", "-", title).strip("-").lower() + f"-{width}-{len(svg)}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    tag = f'<svg role="img" aria-label="{html.escape(title)}" style="max-width:{width}px" '
    svg = re.sub(r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', lambda m: f'{tag}{m[1]} xmlns:xlink="{_XLINK}">', svg, count=1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


_XLINK = "http://www.w3.org/1999/xlink"  # a name, not an address: nothing is fetched


def _variable(color: str) -> str:
    return f"var({_VARIABLES[color]})" if color in _VARIABLES else color
