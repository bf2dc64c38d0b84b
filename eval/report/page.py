"""The report's pages as HTML. Reads the clips' pictures; writes nothing. Text from data is escaped by Jinja."""

from __future__ import annotations

import base64
import platform
import re
import shlex
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from config.cli import clock
from config.model import LEAST_VIDEOS, Config
from eval.report import tables
from eval.report.answers import answers, diagnosed
from eval.report.draw import Drawn
from eval.report.gather import Run, Space
from eval.report.media import FOLDER, LIMIT, LONGEST, Media, key
from eval.report.plots.base import DIRECTIONS
from eval.report.plots.near import WAYS

HERE = Path(__file__).with_name("templates")
PACKAGES = "torch torchvision numpy zarr av decord essentia-tensorflow soxr snakemake".split()
EXCERPT = 4
"""Queries of the leading experiment's gallery that the page itself shows."""


def number(value: float | None) -> str:
    """A number as a reader wants it: three significant digits, no exponent."""
    if value is None or value != value:
        return "–"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def index(config: Config, run: Run, drawn: Drawn, media: Media, report: Path) -> str:
    """The report itself: everything it shows is inside, but for the galleries' clips, to which it links."""
    stills = {}
    shown = run.lead.neighbours if run.lead else {"galleries": [], "items": []}
    excerpt = shown["galleries"][0]["queries"][:EXCERPT] if shown["galleries"] else []
    for query in excerpt:
        for number_of in {query["item"], *(n["item"] for near in query["nearest"].values() for n in near)}:
            each = key(shown["items"][number_of])
            if each in media.names:
                picture = (report / FOLDER / f"{media.names[each]}.jpg").read_bytes()
                stills[each] = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    return (
        environment()
        .get_template("index.html")
        .render(
            **_common(config, run, media),
            answers=answers(run),
            diagnosed=diagnosed(run),
            differences=tables.differences(run),
            drawn=drawn,
            excerpt=excerpt,
            stills=stills,
            table_1=tables.table_1(run),
            table_2=tables.table_2(run),
            consistency=tables.consistency(run),
            names=list(tables.tables(run)),
            settings=config.model_dump_json(indent=1),
            versions=versions(),
            least=LEAST_VIDEOS,
            umap=find_spec("umap") is not None,
            command=f"python -m eval.report {shlex.join(sys.argv[1:])}",
        )
    )


def gallery(config: Config, run: Run, space: Space, media: Media) -> str:
    """One space's gallery, whose clips lie in the folder beside it."""
    return environment().get_template("gallery.html").render(**_common(config, run, media), space=space)


def environment() -> Environment:
    """The templates with the filters that they use; everything that they print is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, clock=clock, percent=lambda share: f"{share:.0%}", code=code)
    return environment


def versions() -> dict[str, str]:
    """Versions of what the numbers may depend on."""
    return {name: version(name) for name in PACKAGES} | {"Python": platform.python_version()}


def style() -> Markup:
    """The style sheet that all pages have inside."""
    return Markup((HERE / "style.css").read_text(encoding="utf-8"))


def code(text: str) -> Markup:
    """Text with what stands between backticks set as code; everything is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _common(config: Config, run: Run, media: Media) -> dict[str, Any]:
    return {
        "config": config,
        "run": run,
        "media": media,
        "media_limit": LIMIT,
        "media_seconds": min(config.segments.seconds, LONGEST),
        "key": key,
        "ways": WAYS,
        "directions": DIRECTIONS,
        "style": style(),
    }
