"""The Million Song Dataset's `msd_summary_file.h5`: finds tracks by artist and title. Reads that file only.

PyTables' compound tables, one row a track, in the same order: /metadata/songs (artist_name and title S1024, song_id S32
and more), /analysis/songs (track_id S32 and more), /musicbrainz/songs (year). Text is UTF-8, padded with zero bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import h5py
import numpy as np

from config.cli import UserError
from data.names import plain

FIELDS = {"/metadata/songs": ("artist_name", "title"), "/analysis/songs": ("track_id",)}
BLOCK = 20_000
"""Rows read at a time: a row of /metadata/songs has 5 KB."""

Song = tuple[str, str]
"""Artist and title as `song` normalises them."""


def song(artist: str | None, title: str | None) -> Song | None:
    """Return artist and title in normal form, equal for all spellings of a song; None if either is empty.

    Case, accents, punctuation, a leading "the", guests ("feat. …") and remarks like "(Official Video)" do not count;
    "(Live)" and "(Remix)" do, because those are other recordings.
    """
    pair = plain(artist or ""), plain(title or "")
    return pair if all(pair) else None


def find_songs(path: Path, songs: Collection[Song]) -> dict[Song, list[str]]:
    """Return {song: its track ids in ascending order} of those of `songs` that are there; the dataset has duplicates.

    Raises UserError for a file that is not the summary.
    """
    matches: dict[Song, set[str]] = {}
    artists = {artist for artist, _ in songs}
    artists_of: dict[bytes, str] = {}
    for artist, title, track in _rows(path):
        if artist not in artists_of:
            artists_of[artist] = plain(_text(artist))
        if artists_of[artist] in artists:
            key = (artists_of[artist], plain(_text(title)))
            if key in songs:
                matches.setdefault(key, set()).add(_text(track))
    return {key: sorted(tracks) for key, tracks in matches.items()}


def find_tracks(path: Path, tracks: Collection[str]) -> dict[str, Song]:
    """Return {track id: artist and title, as they are written} of those of `tracks` that are there.

    Raises UserError for a file that is not the summary.
    """
    wanted = {track.encode(): track for track in tracks}
    return {wanted[track]: (_text(artist), _text(title)) for artist, title, track in _rows(path) if track in wanted}


def _rows(path: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield artist, title and track id of every row."""
    try:
        with h5py.File(path, "r") as file:
            names, ids = (_table(file, table) for table in FIELDS)
            if len(names) != len(ids):
                raise ValueError(f"its tables have {len(names)} and {len(ids)} rows")
            for start in range(0, len(names), BLOCK):
                block = slice(start, start + BLOCK)
                rows = names.fields(["artist_name", "title"])[block].tolist()
                for (artist, title), track in zip(rows, ids.fields("track_id")[block].tolist(), strict=True):
                    yield artist, title, track
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is not the Million Song Dataset's summary ({error}); it should be `msd_summary_file.h5`"
        ) from None


def _table(file: h5py.File, name: str) -> h5py.Dataset:
    table = file.get(name)
    if not isinstance(table, h5py.Dataset) or table.ndim != 1 or not set(FIELDS[name]) <= set(table.dtype.names or ()):
        raise ValueError(f"it has no table {name} with the columns {', '.join(FIELDS[name])}")
    for column in FIELDS[name]:
        if table.dtype[column].kind != "S":
            raise ValueError(f"{name}/{column} is {table.dtype[column]}, not text")
    return table


def _text(raw: bytes | np.bytes_) -> str:
    """Return the text of a padded field. What is not UTF-8 is marked, and matches nothing."""
    return bytes(raw).decode("utf-8", "replace").strip()
