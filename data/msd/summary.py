"""The Million Song Dataset's `msd_summary_file.h5`: finds tracks by artist and title. Reads that file only.

PyTables' compound tables, one row a track, in the same order: /metadata/songs (artist_name and title S1024, song_id S32
and more), /analysis/songs (track_id S32 and more), /musicbrainz/songs (year). Text is UTF-8, padded with zero bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np

from config.cli import UserError

FIELDS = {"/metadata/songs": ("artist_name", "title"), "/analysis/songs": ("track_id",)}
BLOCK = 20_000
"""Rows read at a time: a row of /metadata/songs has 5 KB."""

Song = tuple[str, str]
"""Artist and title as `song` normalises them."""

# What the titles of music videos say about the video or its guests, in brackets or after a dash.
_ABOUT = (
    r"(official|lyrics?|audio|video|music video|visuali[sz]er|clip|hd|hq|4k|m/?v|remaster(ed)?|feat|ft|featuring)\b"
)
_BRACKETS = re.compile(rf"[(\[][^()\[\]]*\b{_ABOUT}[^()\[\]]*[)\]]")
_GUESTS = re.compile(r"\s(feat\.?|ft\.?|featuring)\s.*$")


def song(artist: str | None, title: str | None) -> Song | None:
    """What two spellings of a song have in common; None where nothing is left of either.

    Case, accents, punctuation, a leading "the", guests ("feat. …") and remarks like "(Official Video)" do not count;
    "(Live)" and "(Remix)" do, because those are other recordings.
    """
    pair = _plain(artist or ""), _plain(title or "")
    return pair if all(pair) else None


def _plain(text: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    text = _GUESTS.sub("", _BRACKETS.sub(" ", text)).replace("&", " and ").replace("'", "").replace("’", "")
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


def find_songs(path: Path, songs: Collection[Song]) -> dict[Song, list[str]]:
    """{song: its track ids in ascending order} for those of `songs` that are there; the dataset has duplicates.

    Raises UserError for a file that is not the summary.
    """
    found: dict[Song, set[str]] = {}
    artists = {artist for artist, _ in songs}
    try:
        with h5py.File(path, "r") as file:
            names, ids = (_table(file, table) for table in FIELDS)
            if len(names) != len(ids):
                raise ValueError(f"its tables have {len(names)} and {len(ids)} rows")
            plain: dict[bytes, str] = {}
            for at in range(0, len(names), BLOCK):
                block = slice(at, at + BLOCK)
                rows = names.fields(["artist_name", "title"])[block]
                tracks = ids.fields("track_id")[block]
                for i, (artist, title) in enumerate(rows.tolist()):
                    if artist not in plain:
                        plain[artist] = _plain(_text(artist))
                    if plain[artist] in artists:
                        key = (plain[artist], _plain(_text(title)))
                        if key in songs:
                            found.setdefault(key, set()).add(_text(tracks[i]))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is not the Million Song Dataset's summary ({error}); it should be `msd_summary_file.h5`"
        ) from None
    return {key: sorted(tracks) for key, tracks in found.items()}


def _table(file: h5py.File, name: str) -> h5py.Dataset:
    table = file.get(name)
    if not isinstance(table, h5py.Dataset) or table.ndim != 1 or not set(FIELDS[name]) <= set(table.dtype.names or ()):
        raise ValueError(f"it has no table {name} with the columns {', '.join(FIELDS[name])}")
    for column in FIELDS[name]:
        if table.dtype[column].kind != "S":
            raise ValueError(f"{name}/{column} is {table.dtype[column]}, not text")
    return table


def _text(raw: bytes | np.bytes_) -> str:
    """Text of a padded field. What is not UTF-8 is marked, and matches nothing."""
    return bytes(raw).decode("utf-8", "replace").strip()
