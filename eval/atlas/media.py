"""The atlas's media: a frame and a few seconds of each video. Reads the videos, in worker processes; writes clips.

A small collection has a JPEG and AAC of each video in the atlas's rows, and a clip beside the site, cut as the report's
(eval/report/media.py). That would be 13 GB for 550,000 videos, all of which a browser loads: a larger collection has
the address of the video's own file instead, which only `python -m eval.atlas.site` serves.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from config.model import Config
from data.places import File, parse
from eval.report.media import FOLDER, cut, key

log = logging.getLogger("atlas")
MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The type of the columns `image` and `audio`, which embedding-atlas shows and plays."""


def columns(config: Config, table: pa.Table, starts: np.ndarray, threads: int) -> dict[str, pa.Array]:
    """Return the columns `image`, `audio` and `video` of the videos of `table`.

    `table` has the manifest's `row`, `video_id`, `path` and FILES of data/columns.py; `starts`, float [videos], is the
    second at which each clip begins, NaN for none. `image` and `audio` are MEDIA, `video` the clip's address on the
    site. A collection of more than `eval.atlas.media_videos` has `video` alone, and that only of videos that are one
    file: a player plays no member of a shard, and no `audio_path` in its place.
    """
    if table.num_rows > config.eval.atlas.media_videos:
        log.info(
            "%d videos, more than eval.atlas.media_videos (%d): no frames and sounds in the rows, and no clips; the "
            "site plays the videos' own files",
            table.num_rows,
            config.eval.atlas.media_videos,
        )
        files = np.array([isinstance(parse(path), File) for path in table["path"].to_pylist()], bool)
        if inside := np.count_nonzero(~files):
            log.warning("%d videos are no files of their own and cannot be played there", inside)
        alone = np.array([path is None for path in table["audio_path"].to_pylist()], bool)
        if apart := np.count_nonzero(files & ~alone):
            log.warning("%d videos have their audio in another file (`audio_path`) and cannot be played there", apart)
        known = np.where(files & alone, starts, np.nan)
        return {"video": pa.array(addresses(table["row"].to_pylist(), known, config.eval.atlas.seconds), pa.string())}
    items: list[dict[str, Any]] = [
        item | {"start": float(start) if np.isfinite(start) else None}
        for item, start in zip(table.to_pylist(), starts, strict=True)
    ]
    folder = config.paths.atlas_clips
    media = cut(items, config, folder, limit=None, seconds=config.eval.atlas.seconds, workers=threads)
    if lacking := sum(key(item) not in media.names for item in items):
        log.warning("%d of %d videos have no clip; the lines above say why", lacking, len(items))
    names = [media.names.get(key(item)) for item in items]
    stills = [_struct(name, ".jpg", lambda clip: clip.with_suffix(".jpg").read_bytes(), folder) for name in names]
    sounds = [_struct(name, ".m4a", sound, folder) for name in names]
    return {
        "image": pa.array(stills, MEDIA),
        "audio": pa.array(sounds, MEDIA),
        "video": pa.array([None if name is None else f"{FOLDER}/{name}.mp4" for name in names], pa.string()),
    }


def _struct(name: str | None, suffix: str, read: Callable[[Path], bytes], folder: Path) -> dict[str, Any] | None:
    """Return a value of MEDIA that `read` takes from the clip of this name; None without a clip."""
    if name is None:
        return None
    return {"bytes": read(folder / FOLDER / f"{name}.mp4"), "path": name + suffix}


def addresses(rows: list[int], starts: np.ndarray, seconds: float) -> list[str | None]:
    """Return the site's address of each video's own file, with the part to play (W3C Media Fragments)."""
    return [
        f"video/{row}#t={start:.2f},{start + seconds:.2f}" if np.isfinite(start) else None
        for row, start in zip(rows, starts.tolist(), strict=True)
    ]


def sound(clip: Path) -> bytes:
    """Return the audio of a clip that this project cut, as an M4A file; it is copied, not encoded again."""
    out = io.BytesIO()
    with av.open(str(clip)) as film, av.open(out, "w", format="ipod", options={"fflags": "bitexact"}) as target:
        source = film.streams.audio[0]
        copied = target.add_stream_from_template(source)
        for packet in film.demux(source):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return out.getvalue()
