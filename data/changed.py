"""Known videos of which the table now names another audio track, another offset of it, or another content.

Their features stay what they are, and a backbone that is added later would read the new track at moments that were
chosen for the old one. So the manifest warns, and writes their ids to `work/changed_videos.json`, from where
`python -m pipeline.retry --changed COLUMN …` takes them. Reads and writes that file only.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from config.files import read_json, write_json
from config.paths import Paths

log = logging.getLogger("manifest")

CHANGES = {
    "audio_path": "another `audio_path`. If their audio files were only moved or renamed, nothing is to be done; else",
    "audio_offset": "another `audio_offset`;",
    "sha256": "another `sha256`;",
}
"""By column what the warning says. A digest where there was none says nothing new about the file."""
SHOWN = 5
"""Examples in a warning."""


def changes(old: pa.Table, new: pa.Table) -> dict[str, list[str]]:
    """Return by column of CHANGES the ids of videos of which `new` says something else than `old`, if there are any.

    Both are manifests; the rows of `old` are the first ones of `new`. An offset counts from 0 where there is none.
    """
    new = new.slice(0, old.num_rows)
    was, now = old["audio_path"], new["audio_path"]
    differs = {
        "audio_path": pc.not_equal(pc.fill_null(was, ""), pc.fill_null(now, "")),
        # One that comes or goes with its track is the track's change.
        "audio_offset": pc.and_(
            pc.and_(pc.is_valid(was), pc.is_valid(now)),
            pc.not_equal(pc.fill_null(old["audio_offset"], 0.0), pc.fill_null(new["audio_offset"], 0.0)),
        ),
        "sha256": pc.fill_null(pc.not_equal(old["sha256"], new["sha256"]), False),
    }
    changed = {column: new["video_id"].filter(mask).to_pylist() for column, mask in differs.items()}
    return {column: ids for column, ids in changed.items() if ids}


def note_changed(paths: Paths, old: pa.Table, new: pa.Table) -> None:
    """Warn of the changes between two manifests, and add them to those that are noted."""
    changed = changes(old, new)
    if not changed:
        return
    noted = read_changed(paths)
    union = {column: list(dict.fromkeys([*noted.get(column, []), *ids])) for column, ids in changed.items()}
    write_json(paths.changed_videos, noted | union)
    for column, ids in changed.items():
        shown = ", ".join(f"'{video_id}'" for video_id in ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
        log.warning(
            "%d known videos (%s) have %s their features stay as they were. `python -m pipeline.retry --config %s "
            "--changed %s`, and then `snakemake extract …`, compute them again",
            len(ids), shown, CHANGES[column], paths.config, column,
        )  # fmt: skip


def read_changed(paths: Paths) -> dict[str, list[str]]:
    """Return the noted ids by column."""
    return read_json(paths.changed_videos) or {}


def forget_changed(paths: Paths, ids: Collection[str]) -> None:
    """Take these videos out of what is noted: they will be computed again."""
    noted, gone = read_changed(paths), set(ids)
    left = {column: [video_id for video_id in known if video_id not in gone] for column, known in noted.items()}
    left = {column: known for column, known in left.items() if known}
    if left == noted:
        return
    if left:
        write_json(paths.changed_videos, left)
    else:
        paths.changed_videos.unlink(missing_ok=True)
