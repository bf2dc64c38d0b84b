"""Files of exactly the structures that the Million Song Dataset, Last.fm and tagtraum publish, awkward parts included.

Structures: MSongsDB's hdf5_descriptors.py (PyTables orders columns by name), lastfm_tags.db as described on
http://millionsongdataset.com/lastfm, msd_tagtraum_cd1.cls.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np

TEXT, NUMBER, REAL = "S1024", "<i4", "<f8"
METADATA = {
    "analyzer_version": "S32", "artist_7digitalid": NUMBER, "artist_familiarity": REAL, "artist_hotttnesss": REAL,
    "artist_id": "S32", "artist_latitude": REAL, "artist_location": TEXT, "artist_longitude": REAL,
    "artist_mbid": "S40", "artist_name": TEXT, "artist_playmeid": NUMBER, "genre": TEXT, "idx_artist_terms": NUMBER,
    "idx_similar_artists": NUMBER, "release": TEXT, "release_7digitalid": NUMBER, "song_hotttnesss": REAL,
    "song_id": "S32", "title": TEXT, "track_7digitalid": NUMBER,
}  # fmt: skip
ANALYSIS = {
    "analysis_sample_rate": NUMBER, "audio_md5": "S32", "danceability": REAL, "duration": REAL,
    "end_of_fade_in": REAL, "energy": REAL, "idx_bars_confidence": NUMBER, "idx_bars_start": NUMBER,
    "idx_beats_confidence": NUMBER, "idx_beats_start": NUMBER, "idx_sections_confidence": NUMBER,
    "idx_sections_start": NUMBER, "idx_segments_confidence": NUMBER, "idx_segments_loudness_max": NUMBER,
    "idx_segments_loudness_max_time": NUMBER, "idx_segments_loudness_start": NUMBER, "idx_segments_pitches": NUMBER,
    "idx_segments_start": NUMBER, "idx_segments_timbre": NUMBER, "idx_tatums_confidence": NUMBER,
    "idx_tatums_start": NUMBER, "key": NUMBER, "key_confidence": REAL, "loudness": REAL, "mode": NUMBER,
    "mode_confidence": REAL, "start_of_fade_out": REAL, "tempo": REAL, "time_signature": NUMBER,
    "time_signature_confidence": REAL, "track_id": "S32",
}  # fmt: skip
MUSICBRAINZ = {"idx_artist_mbtags": NUMBER, "year": NUMBER}


def track_id(number: int) -> str:
    """Return a well-formed track id."""
    letters = "".join(chr(65 + number // 26**i % 26) for i in range(5))
    return f"TR{letters}{number:011X}"


def write_summary(path: Path, songs: list[tuple[str, bytes, bytes]]) -> Path:
    """Write `msd_summary_file.h5` with (track id, artist, title) rows; artist and title are bytes, as in the file."""
    with h5py.File(path, "w") as file:
        for group, columns in (("metadata", METADATA), ("analysis", ANALYSIS), ("musicbrainz", MUSICBRAINZ)):
            rows = np.zeros(len(songs), dtype=list(columns.items()))
            if group == "metadata":
                rows["artist_name"], rows["title"] = [s[1] for s in songs], [s[2] for s in songs]
                rows["song_id"] = [f"SO{i:016d}".encode() for i in range(len(songs))]
            if group == "analysis":
                rows["track_id"] = [s[0].encode() for s in songs]
            made = file.create_dataset(f"{group}/songs", data=rows, chunks=(64,), maxshape=(None,), compression="gzip")
            made.attrs["CLASS"] = np.bytes_("TABLE")
    return path


def write_lastfm(
    path: Path, tids: list[str], tags: list[str], pairs: list[tuple[object, object, object]], *more: str
) -> Path:
    """Write `lastfm_tags.db`: `pairs` are (row of tids, row of tags, value) rows from 1; `more` SQL is run last."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE tids (tid TEXT)")
        database.execute("CREATE TABLE tags (tag TEXT)")
        database.execute(
            "CREATE TABLE tid_tag (tid INT, tag INT, val FLOAT, FOREIGN KEY(tid) REFERENCES tids(ROWID), "
            "FOREIGN KEY(tag) REFERENCES tags(ROWID))"
        )
        database.executemany("INSERT INTO tids VALUES (?)", [(t,) for t in tids])
        database.executemany("INSERT INTO tags VALUES (?)", [(t,) for t in tags])
        database.executemany("INSERT INTO tid_tag VALUES (?, ?, ?)", pairs)
        for statement in more:
            database.execute(statement)
    return path


def write_genres(path: Path, lines: list[str]) -> Path:
    """Write a tagtraum genre file: seven lines of comment, then `lines`."""
    head = ["# MSD genre annotations", "#", "# Creative Commons", "#", "# made by a test", "#", "# trackId\tgenre"]
    path.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
    return path
