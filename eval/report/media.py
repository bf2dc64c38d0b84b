"""The clips that the report's galleries play. Reads the videos, in worker processes; writes REPORT/media/.

A file's name is a digest of what it was cut from, so a report that is rewritten cuts only what is new; clips that no
gallery shows any more are deleted. All clips have at most `LIMIT` bytes; those beyond are counted, not cut.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.cli import Progress
from config.model import Config
from data.columns import FILES
from data.places import parse
from eval.report.clip import FPS, HEIGHT, WIDTH
from pipeline.readers import MediaError
from pipeline.workers import Pool, Task

log = logging.getLogger("report")
LIMIT = 64 << 20
LONGEST = 5.0
"""Seconds; of a longer segment its beginning is cut."""
FOLDER = "media"
Key = tuple[str, float | None]
"""A video's id and the second at which its segment begins."""


@dataclass
class Media:
    """What was cut: `names` of the files without `.mp4` and `.jpg` by key; `bytes` in all; why others were not."""

    names: dict[Key, str] = field(default_factory=dict)
    bytes: int = 0
    unreadable: dict[Key, str] = field(default_factory=dict)
    left_out: int = 0


def key(item: dict[str, Any]) -> Key:
    """Return the key of an item of neighbours.json."""
    return item["video_id"], item["start"]


def cut(
    items: list[dict[str, Any]],
    config: Config,
    report: Path,
    limit: int | None = LIMIT,
    seconds: float | None = None,
    workers: int = 1,
) -> Media:
    """Cut a clip of each of `items`, the first ones first: dicts with `video_id`, `path`, `start` (seconds or None) and
    what else the manifest says of the video's files (`data.manifest.beside_path`).

    They go into the folder FOLDER of `report`, where clips of earlier calls that are not among them are deleted.
    `limit`: bytes of all, None for as many as there are. `seconds` of each; default: a segment, at most `LONGEST`.
    """
    folder = report / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    seconds = min(config.segments.seconds, LONGEST) if seconds is None else seconds
    media, waiting = Media(), {}
    for item in items:
        if item["start"] is not None and key(item) not in waiting:
            waiting[key(item)] = item

    def tasks() -> Iterator[Task[tuple[Key, str]]]:
        for number, (clip, item) in enumerate(waiting.items()):
            if limit is not None and media.bytes >= limit:
                media.left_out = len(waiting) - number
                return
            name = _name(item, seconds)
            files = [folder / f"{name}.mp4", folder / f"{name}.jpg"]
            if all(file.exists() for file in files):
                media.names[clip] = name
                media.bytes += sum(file.stat().st_size for file in files)
                continue
            arguments = {"path": item["path"], "start": item["start"], "seconds": seconds, **_beside_path(item)}
            arguments |= {"out": str(folder / name), "decoder": config.decoding.video}
            yield Task((clip, name), "eval.report.clip:clip", arguments)

    decoders = Pool(workers, config.decoding, indexes=config.paths.shard_indexes)
    with decoders as pool, Progress(len(waiting), "clips", "clips") as shown:
        for (clip, name), answer in pool.results(tasks(), ahead=workers):
            if isinstance(answer, MediaError):
                media.unreadable[clip] = str(answer)
                log.warning("no clip of %s: %s", clip[0], answer)
            else:
                media.names[clip] = name
                media.bytes += sum(answer)
            shown.step()
    used = set(media.names.values())
    for file in folder.iterdir():
        if file.stem not in used:
            file.unlink()
    return media


def _beside_path(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in FILES if item.get(name) is not None}


def _name(item: dict[str, Any], seconds: float) -> str:
    """Name the clip by a digest of its files' state, segment and encoding."""
    what = [item["path"], _state(item["path"]), item["start"], seconds, HEIGHT, WIDTH, FPS]
    if beside := _beside_path(item):
        what += [beside, *(_state(beside[name]) for name in ("audio_path",) if name in beside)]
    source = repr(tuple(what))
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _state(path: str) -> tuple[int, int]:
    """Return size and time of change (ns) of the file with a video's bytes; zeros where there is none, or an
    address."""
    try:
        file = parse(path).local
        status = None if file is None else os.stat(file)
    except (OSError, ValueError):  # it is missing, which the worker reports
        return (0, 0)
    return (0, 0) if status is None else (status.st_size, status.st_mtime_ns)
