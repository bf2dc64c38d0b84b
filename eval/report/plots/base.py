"""What all plots share: size, colours, and writing a figure as PNG and SVG.

A figure is as wide as a phone can show without shrinking its letters; on a wide page several stand side by side.
Labels come from data: `text.parse_math` is off, so that no `$` in a genre is taken for a formula.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from config.files import replacing

AUDIO, VIDEO, CHANCE, PAPER = "#0072b2", "#d55e00", "#666666", "#cc79a7"
"""Told apart by colour-blind readers too (Okabe & Ito 2008)."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")
OTHER = "#b5b5b5"
COLOUR_OF = {"audio": AUDIO, "video": VIDEO, "audio_to_video": AUDIO, "video_to_audio": VIDEO}
DIRECTIONS = {"audio_to_video": "audio → video", "video_to_audio": "video → audio"}
STYLE = Path(__file__).with_name("report.mplstyle")
WIDTH, DPI = 4.7, 144
"""Inches, dots an inch: letters of ten points stay readable where the plot is 360 pixels wide."""


@dataclass(frozen=True)
class Plot:
    """A drawn figure: its file name without ending, the PNG as data URI, its size in pixels, and what it shows."""

    name: str
    uri: str
    width: int
    height: int
    alt: str


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the report's style inside the `with` block."""
    with matplotlib.style.context(STYLE), warnings.catch_warnings():
        # What a font lacks shows as a box; the tables have it in words.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(height: float = 3.1, width: float = WIDTH) -> Figure:
    """Return an empty figure; sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(drawn: Figure, folder: Path, name: str, alt: str) -> Plot:
    """Write `folder`/`name`.png and .svg; `alt` describes it for those who cannot see it.

    The picture is as large as the figure, and larger where a text would be cut off: the layout moves axes so that
    their ticks have room, but a title or an axis label may be wider than its axes.
    """
    drawn.draw_without_rendering()  # now every text has its place
    area = Bbox.union([drawn.bbox_inches, drawn.get_tightbbox().padded(0.04)])
    png = io.BytesIO()
    # Without versions and dates in the files, equal data give equal bytes.
    drawn.savefig(png, format="png", bbox_inches=area, metadata={"Software": None})
    with replacing(folder / f"{name}.png") as temporary:
        temporary.write_bytes(png.getvalue())
    with replacing(folder / f"{name}.svg") as temporary:
        drawn.savefig(temporary, format="svg", bbox_inches=area, metadata={"Date": None, "Creator": None})
    width, height = (int(inches * DPI) for inches in area.size)  # as Matplotlib rounds
    uri = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return Plot(name, uri, width, height, alt)


def dots(axis: Axes, heights: Sequence[float], lines: Sequence[dict[str, Any]], **style: Any) -> None:
    """Plot values with their 95 % intervals as horizontal lines: each line has `value` and maybe `low` and `high`."""
    style = {"marker": "o", "ms": 5.5, "ls": "none", **style}
    for height, line in zip(heights, lines, strict=True):
        if line.get("low") is not None:
            axis.plot([line["low"], line["high"]], [height, height], color=style["color"], lw=2.2, alpha=0.55)
    axis.plot([line["value"] for line in lines], heights, **style)


def interval(line: dict[str, Any]) -> str:
    """Return a line's interval as text for `alt`, empty where it has none."""
    return "" if line.get("low") is None else f", interval {line['low']:.3g} to {line['high']:.3g}"


def short(text: str, most: int = 22) -> str:
    """Return a label on one line, cut to `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
