"""Renders the demo's music videos. Reads the configuration; writes RESULTS/rendered: the videos, then `videos.csv`.

Renders nothing if the weights of a backbone were tried and could not be had: they have a log, but no record.

Existing videos are kept, so an interrupted command resumes and a larger `render.videos` adds videos. `render.json`
records the settings of the videos; if they change, all videos are rendered again.

example:
  python -m data.render --config results/demo/config.json --threads 2
"""

from __future__ import annotations

import csv
import io
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from config import cli, model
from config.cli import UserError
from config.files import read_json, replacing, write_json
from config.pipeline import Render
from config.processes import parallel
from data.render import encode, plan, render_video

VERSION = 1
"""Part of the record. Increase it if the same settings give different videos, so that old ones are not kept."""
RECORD, TABLE = "render.json", "videos.csv"
COLUMNS = ("video_id", "path", "artist", "genre", "tags", "msd_track_id")
log = getLogger("render")


def render_all(render: Render, folder: Path, threads: int = 1) -> int:
    """Render the missing videos into `folder`, write the table, and return the number of rendered videos.

    UserError for a missing encoder, a folder without write permission, or a killed worker; finished videos are kept.
    """
    encode.check()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prepare(render, folder)
        videos = [plan(render, index) for index in range(render.videos)]
        missing = [video.index for video in videos if not (folder / video.name).exists()]
        log.info("%d of %d videos to render in %s", len(missing), len(videos), folder)
        rendered = parallel(partial(render_video, render, folder=folder), missing, threads)
        for _ in cli.progress(rendered, len(missing), "render", "videos"):
            pass
        _write_table(folder / TABLE, _table(render))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error}. Free space, or change `results`, and run again.") from None
    return len(missing)


def _prepare(render: Render, folder: Path) -> None:
    """Remove unfinished files and, if the record has other settings, all videos."""
    record: dict[str, Any] = {"version": VERSION, **render.model_dump(mode="json", exclude={"videos"})}
    if render.inconsistency == 1:
        del record["inconsistency"]  # keeps videos from before this key existed
    path = folder / RECORD
    same = _read(path) == record
    # The table goes first and the new record comes last, so an interruption in between changes nothing.
    if not same:
        (folder / TABLE).unlink(missing_ok=True)
    suffixes = [encode.PARTIAL] + ([] if same else [f".{container}" for container in encode.CONTAINERS])
    for old in folder.glob("song[0-9]*"):
        if old.suffix in suffixes:
            old.unlink()
    if not same:
        write_json(path, record)


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError:
        return None  # a damaged record: render again


def _table(render: Render) -> str:
    """Return the table as CSV text. Paths are relative to the table; tags are separated by `|`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index in range(render.videos):
        video = plan(render, index)
        song = video.song
        writer.writerow((video.video_id, video.name, song.artist, song.audio.genre, "|".join(song.tags), ""))
    return out.getvalue()


def _write_table(path: Path, text: str) -> None:
    """Write the table atomically, unless it has this text already, so that no later rule runs again."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command line."""
    arguments = cli.parser(__doc__, "data.render", "videos rendered at a time").parse_args()
    config = model.read(arguments.config)
    for backbone in config.backbones:
        weights_log = config.paths.weights_log(backbone)
        if weights_log.exists() and not config.paths.weights_record(backbone).exists():
            raise UserError(f"the weights of {backbone} could not be had: see {weights_log}; nothing was rendered")
    if config.render is None:
        raise UserError(
            f"{arguments.config} has no `render` section: this run reads the videos of `videos: {config.videos}`"
        )
    render_all(config.render, config.paths.rendered, arguments.threads)


if __name__ == "__main__":
    cli.run(main)
