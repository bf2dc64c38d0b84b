"""The report's pages as HTML. Reads the clips' stills; writes nothing. Text from data is escaped by Jinja."""

from __future__ import annotations

import base64
import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from config.cli import clock
from config.heads import LEAST_VIDEOS
from config.model import Config
from eval.bootstrap import few_groups
from eval.duplicates import WAYS as COUNTED
from eval.report import tables
from eval.report.answers import answers, diagnosed
from eval.report.draw import Drawn
from eval.report.gather import Run, Space
from eval.report.media import FOLDER, LIMIT, LONGEST, Media, key
from eval.report.plots.base import DIRECTIONS
from eval.report.plots.neighbours import WAYS
from heads.metrics import METRICS, Metric
from pipeline.readers.downmix import MEANING as MONO_MEANING

HERE = Path(__file__).with_name("templates")
PACKAGES = "torch torchvision numpy zarr av decord essentia-tensorflow soxr snakemake".split()
EXCERPT = 4
"""Queries of the leading experiment's gallery that the page itself shows."""


def number(value: float | None) -> str:
    """Format a number with three significant digits, without exponent."""
    if value is None or value != value:
        return "–"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def signed(value: float) -> str:
    """Format a difference with its sign and one digit after the point; what rounds to zero is +0.0."""
    return f"{value:+z.1f}"


def shown(value: float, metric: Metric) -> str:
    """Format a metric's value by its unit."""
    return f"{number(100 * value)}%" if metric.shown == "percent" else number(value)


def index(config: Config, run: Run, drawn: Drawn, media: Media, report: Path) -> str:
    """Return the report as HTML that contains all it shows but the galleries' clips, to which it links."""
    lead = run.lead.neighbours if run.lead else {"galleries": [], "items": []}
    excerpt = [query for gallery in lead["galleries"][:1] for query in gallery["queries"][:EXCERPT]]
    nearest = [line for query in excerpt for near in query["nearest"].values() for line in near]
    items = [lead["items"][line["item"]] for line in [*excerpt, *nearest]] + run.duplicates.items
    stills = {}
    for clip in {key(item) for item in items} & set(media.names):
        still = (report / FOLDER / f"{media.names[clip]}.jpg").read_bytes()
        stills[clip] = "data:image/jpeg;base64," + base64.b64encode(still).decode()
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
            metrics=tables.metrics_of(run),
            all_metrics=METRICS,
            counted=COUNTED,
            consistency=tables.consistency(run),
            names=list(tables.tables(run)),
            settings=config.model_dump_json(indent=1),
            versions=versions(),
            least=LEAST_VIDEOS,
            few=_few(run),
            mono_meaning=MONO_MEANING,
            command=f"python -m eval.report {shlex.join(sys.argv[1:])}",
        )
    )


def _few(run: Run) -> list[str]:
    """Return a warning if the test split has few groups; retrieval of earlier versions does not say how many."""
    counted = [
        experiment.retrieval["test_groups"] for experiment in run.experiments if "test_groups" in experiment.retrieval
    ]
    return few_groups(min(counted), "the test split") if counted else []


def gallery(config: Config, run: Run, space: Space, media: Media) -> str:
    """Return one space's gallery as HTML; its clips lie in the folder beside it."""
    return environment().get_template("gallery.html").render(**_common(config, run, media), space=space)


def environment() -> Environment:
    """Return the templates' environment with its filters; everything that they print is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    percent = "{:.0%}".format
    environment.filters.update(number=number, signed=signed, shown=shown, clock=clock, percent=percent, code=code)
    return environment


def versions() -> dict[str, str]:
    """Return the versions of software on which the numbers may depend."""
    return {name: version(name) for name in PACKAGES} | {"Python": platform.python_version()}


def style() -> Markup:
    """Return the style sheet that all pages contain."""
    return Markup((HERE / "style.css").read_text(encoding="utf-8"))


def code(text: str) -> Markup:
    """Set text between backticks as code; everything is escaped first."""
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
