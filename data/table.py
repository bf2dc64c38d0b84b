"""The user's table of videos: CSV, TSV or Parquet. Reads that file only, never a video.

Every problem is a UserError that names the file, the row and the column; no row is dropped silently.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.addresses import secret
from data.columns import COLUMNS, SHA256, check_header, fail, readable, seconds_of, tags_of, text_of
from data.delimited import read_delimited
from data.places import ADDRESSES, Address, joined, parse, shown

log = logging.getLogger("manifest")


def read_table(source: Path) -> pa.Table:
    """Return the videos of a table: `video_id`, `path` (absolute) and those of TEXT, `tags` (lists), `audio_path`
    (absolute), `audio_offset` (float64, s) and `sha256` (of addresses; null for files) that it has.

    Text may also be integers, which become their digits (not `path`). A path may be a file, a member of a tar shard or
    an address (data/places.py). Relative ones start at the table's folder, and `..` in them is left to the system,
    which follows links first.
    Raises UserError for what is not such a table, naming row and column.
    """
    suffix = source.suffix.lower()
    table = _parquet(source) if suffix == ".parquet" else read_delimited(source, {".csv": ",", ".tsv": "\t"}[suffix])
    columns = {name: table[name] for name in COLUMNS if name in table.column_names}
    digests = columns.pop(SHA256, None)
    kinds = {"tags": tags_of, "audio_offset": seconds_of}
    columns = {
        name: kinds[name](source, column) if name in kinds else text_of(source, name, column)
        for name, column in columns.items()
    }
    paths = columns["path"].to_pylist()
    if not all(paths):
        fail(source, next(i for i, path in enumerate(paths) if not path), "path", "the path is empty")
    columns["path"] = _places(source, "path", paths)
    if "audio_path" in columns:
        columns["audio_path"] = _places(source, "audio_path", columns["audio_path"].to_pylist())
    if "audio_offset" in columns:
        columns["audio_offset"] = _offsets(source, columns["audio_offset"], columns.get("audio_path"))
    is_address = [path.startswith(ADDRESSES) for path in columns["path"].to_pylist()]
    if digests is not None:
        if any(is_address):  # else the column has another purpose, and may have any form
            columns[SHA256] = _digests(source, is_address, text_of(source, SHA256, digests).to_pylist())
        _note_unchecked(digests, is_address, columns.get("audio_path"))
    return pa.table(columns)


def _places(source: Path, name: str, texts: list[str | None]) -> pa.Array:
    """Return a column of places (data/places.py), relative ones from the table's folder; none for an empty text.

    UserError for an address that is malformed or holds a secret, which is not repeated.
    """
    base = str(source.parent.absolute())
    places: list[str | None] = []
    for index, text in enumerate(texts):
        if not text:
            places.append(None)
            continue
        try:
            place = joined(base, text)
            if (
                place.startswith(ADDRESSES)
                and isinstance(address := parse(place), Address)
                and (why := secret(address))
            ):
                fail(source, index, name, why)
            places.append(place)
        except ValueError as error:
            fail(source, index, name, f"{error} ({shown(text)!r})")
    return pa.array(places, pa.string())


def _digests(source: Path, is_address: list[bool], values: list[str | None]) -> pa.Array:
    """Return the digests of addresses, in small letters. Those of files are left out: files are not checked."""
    digests: list[str | None] = []
    for index, (checked, value) in enumerate(zip(is_address, values, strict=True)):
        digest = value.strip().lower() if value and checked else None
        if digest and not re.fullmatch("[0-9a-f]{64}", digest):
            fail(source, index, SHA256, f"{value!r} is not a SHA-256: 64 hexadecimal digits")
        digests.append(digest or None)
    return pa.array(digests, pa.string())


def _note_unchecked(digests: pa.ChunkedArray, is_address: list[bool], tracks: pa.Array | None) -> None:
    """Log how many values of `sha256` say nothing about a file that is checked."""
    given = digests.is_valid().to_pylist()
    if local := sum(has and not fetched for has, fetched in zip(given, is_address, strict=True)):
        log.info("sha256 of %d videos is not used: only fetched files are checked, and their `path` is local", local)
    places = [] if tracks is None else tracks.to_pylist()
    if sounds := sum(has and (track or "").startswith(ADDRESSES) for has, track in zip(given, places, strict=False)):
        log.info("sha256 is that of `path`: the fetched `audio_path` of %d videos is not checked", sounds)


def _offsets(source: Path, offsets: pa.Array, tracks: pa.Array | None) -> pa.Array:
    """Return the offsets, null for a 0 without `audio_path` (empty values filled with 0). UserError for wrong ones."""
    known = [None] * len(offsets) if tracks is None else tracks.to_pylist()
    for index, (offset, track) in enumerate(zip(offsets.to_pylist(), known, strict=True)):
        if offset is not None and not math.isfinite(offset):
            fail(source, index, "audio_offset", f"{offset} is no number of seconds")
        if offset and track is None:
            fail(source, index, "audio_offset", "there is no `audio_path` in which the video begins there")
    return pc.if_else(pc.is_valid(pa.array(known, pa.string())), offsets, pa.scalar(None, pa.float64()))


def _parquet(source: Path) -> pa.Table:
    with readable(source), pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        check_header(source, names)
        return file.read(columns=[name for name in COLUMNS if name in names])
