"""Videos that are the same file under several ids. Reads the status of files; opens none."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa

from data.places import Member, parse

log = logging.getLogger("manifest")

SHOWN = 5
"""Examples in a warning."""


def same_files(ids: Sequence[str], paths: Sequence[str]) -> list[list[str]]:
    """Return the ids of videos that are the same file, by path, link or hard link, a list for each such file.

    Members of shards are the same if shard and name are. Missing files and addresses are compared by their text. Equal
    contents of different files are not detected: no video is opened.
    """

    def identities(part: Sequence[str]) -> list[object]:
        keys: list[object] = []
        for path in part:
            try:
                place = parse(path)
                status = os.stat(place.local) if place.local is not None else None
            except (OSError, ValueError):
                keys.append(path)
                continue
            if status is None or not status.st_ino:
                keys.append(path)
            else:
                inside = place.name if isinstance(place, Member) else None
                keys.append((status.st_dev, status.st_ino, status.st_size, inside))
        return keys

    groups: dict[object, list[str]] = {}
    parts = [paths[first : first + 1000] for first in range(0, len(paths), 1000)]
    with ThreadPoolExecutor(16) as pool:  # network file systems answer slowly
        for video_id, identity in zip(ids, chain.from_iterable(pool.map(identities, parts)), strict=True):
            groups.setdefault(identity, []).append(video_id)
    return [group for group in groups.values() if len(group) > 1]


def warn_of_same_files(table: pa.Table) -> None:
    """Log the ids of a table's videos (columns `video_id`, `path`) that are the same file."""
    same = same_files(table["video_id"].to_pylist(), table["path"].to_pylist())
    for group in same[:SHOWN]:
        shown = ", ".join(f"'{video_id}'" for video_id in group[:SHOWN]) + (", …" if len(group) > SHOWN else "")
        log.warning("the same file %d times: %s; each counts as a video of its own", len(group), shown)
    if len(same) > SHOWN:
        log.warning("… and %d more files that are listed more than once", len(same) - SHOWN)
