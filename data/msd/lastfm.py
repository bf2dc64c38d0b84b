"""The Last.fm dataset's `lastfm_tags.db`: which tags a track has, with values from 0 to 100. Reads that file only.

Three SQLite tables (http://millionsongdataset.com/lastfm): `tids(tid)` and `tags(tag)` list track ids and tags, and
`tid_tag(tid, tag, val)` pairs them by their row numbers (SQLite's rowid, from 1). The file is not trusted: it
is opened read-only and immutable, its schema is not trusted, and nothing is authorised but SELECT on those tables.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from config.cli import UserError

COLUMNS = {"tids": {"tid"}, "tags": {"tag"}, "tid_tag": {"tid", "tag", "val"}}


def read_tags(path: Path, tracks: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return {track id: {tag: value}} of those of `tracks` that are in the database; a track may have no tags.

    Tags stay as they are written, `Hip-Hop` and `hip hop` are two. Where a track id, a tag or a pair stands there more
    than once, the largest value counts. Raises UserError for a file that is not such a database.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        with closing(_open(path)) as database:
            return _read(database, sorted(set(tracks)))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # names of columns are decoded whatever they are
        raise UserError(
            f"{path} is not the Last.fm dataset's SQLite database of tags ({error}); it should be `lastfm_tags.db`, "
            "with the tables tids, tags and tid_tag"
        ) from None


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    # Broken text must not end the reading; what replaces it can be seen in the tag.
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    # A virtual table runs the code of its module; a view and a trigger what their author wrote.
    plain = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    tables = {name for (name,) in database.execute(plain)}
    for table, columns in COLUMNS.items():
        have = {row[1] for row in database.execute(f"PRAGMA table_info({table})")} if table in tables else set()
        if not columns <= have:
            database.close()
            raise sqlite3.DatabaseError(f"it has no table {table} with the columns {sorted(columns)}")
    database.execute("SELECT value FROM json_each('[]')")  # SQLite sets it up at first use, which is no reading
    database.set_authorizer(_authorise)
    return database


def _authorise(action: int, first: str | None, second: str | None, *more: str | None) -> int:
    allowed = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION) or (
        action == sqlite3.SQLITE_READ and first in (*COLUMNS, "json_each")
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _read(database: sqlite3.Connection, tracks: list[str]) -> dict[str, dict[str, float]]:
    def rows(query: str, values: Iterable[object]) -> sqlite3.Cursor:
        return database.execute(f"{query} IN (SELECT value FROM json_each(?))", (json.dumps(list(values)),))

    track_of = {row: tid for row, tid in rows("SELECT rowid, tid FROM tids WHERE tid", tracks)}
    pairs = rows("SELECT tid, tag, val FROM tid_tag WHERE tid", track_of).fetchall()
    wanted = {tag for _, tag, _ in pairs if isinstance(tag, int)}
    tag_of = {row: tag for row, tag in rows("SELECT rowid, tag FROM tags WHERE rowid", wanted)}
    tags_of: dict[str, dict[str, float]] = {tid: {} for tid in track_of.values()}
    for track, number, value in pairs:
        tag = tag_of.get(number)
        if not isinstance(tag, str) or not isinstance(value, int | float):
            raise sqlite3.DatabaseError(f"{track_of[track]} has the tag number {number!r}, which is {tag!r}: {value!r}")
        if tag.strip():
            tags = tags_of[track_of[track]]
            tags[tag] = max(float(value), tags.get(tag, 0.0))
    return tags_of
