"""Readers of the Million Song Dataset's files: tags, songs, genres, lists of tracks; also what is no such file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from config.cli import UserError
from data.msd.lastfm import _open, read_tags
from data.msd.summary import find_songs, song
from data.msd.text import read_genres, read_tracks
from tests.support.msd_files import track_id, write_genres, write_lastfm, write_summary

A, B, C, D, E = (track_id(n) for n in range(5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("no database" * 100), "file is not a database"),
        (lambda path: path.write_bytes(b""), "no table tids"),
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "does not exist"),
        (lambda path: write_lastfm(path, [A], [], [(1, 7, 3.0)]), "tag number 7"),
        (lambda path: write_lastfm(path, [A], ["x"], [(1, 1, "much")]), "'much'"),
        (lambda path: write_lastfm(path, [A], ["x"], [(1, b"1", 1.0)]), "tag number b'1'"),
        (lambda path: write_lastfm(path, [A], [], [], "DROP TABLE tags"), "no table tags"),
        (lambda path: write_lastfm(path, [A], [], [], "ALTER TABLE tid_tag RENAME val TO v"), "no table tid_tag"),
        (
            lambda path: write_lastfm(
                path, [A], [], [], "DROP TABLE tags", "CREATE VIEW tags AS SELECT tid tag FROM tids"
            ),
            "no table tags",
        ),
    ],
)
def test_wrong_databases_are_named(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "wrong.db"
    make(path)
    with pytest.raises(UserError, match=words) as caught:
        read_tags(path, [A])
    assert str(path) in str(caught.value)


def test_a_truncated_database_is_named(tmp_path: Path) -> None:
    path = write_lastfm(
        tmp_path / "cut.db", [track_id(i) for i in range(2000)], ["x"], [(i, 1, 1.0) for i in range(1, 2001)]
    )
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"cut\.db"):
        read_tags(path, [track_id(i) for i in range(2000)])


def test_nothing_in_an_untrusted_database_is_run(tmp_path: Path) -> None:
    path = write_lastfm(tmp_path / "virtual.db", [A], ["x"], [(1, 1, 1.0)], "DROP TABLE tags")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE VIRTUAL TABLE tags USING fts4(tag)")
    with pytest.raises(UserError, match="no table tags"):
        read_tags(path, [A])
    path = write_lastfm(tmp_path / "other.db", [A], ["x"], [(1, 1, 1.0)], "CREATE TABLE secret (x)")
    with closing(_open(path)) as database:
        assert database.execute("SELECT tag FROM tags").fetchall() == [("x",)]
        for statement in (
            "SELECT x FROM secret",
            "PRAGMA trusted_schema = ON",
            f"ATTACH '{tmp_path / 'new.db'}' AS new",
            "DELETE FROM tags",
            "CREATE TEMP TABLE t (x)",
        ):
            with pytest.raises(sqlite3.DatabaseError, match="prohibited|not authorized"):
                database.execute(statement)


def test_songs_are_the_same_in_other_spellings() -> None:
    assert song("The Beatles", "Help!") == song("beatles", "  HELP (Official Music Video) ") == ("beatles", "help")
    assert song("Björk & Co", "Jóga [HD]") == song("Bjork and Co", "joga feat. Someone")
    assert song("Guns N’ Roses", "Don't Cry") == song("Guns N' Roses", "dont cry")
    assert song("日本", "歌") == ("日本", "歌") and song("The The", "x") == ("the", "x")
    assert song("x", "Song (Live)") != song("x", "Song") and song("x", "Song (Remix)") != song("x", "Song")
    assert song("x", "!!!") is None and song(None, "x") is None and song("x", None) is None


def test_summary_finds_songs(tmp_path: Path) -> None:
    rows = [(track_id(i), b"Filler", f"Nr {i}".encode()) for i in range(10, 200)]
    rows += [
        (B, "Björk".encode(), "Jóga".encode()),
        (A, "BJÖRK".encode(), b"Joga"),
        (C, b"Bj\xff", b"Joga"),
        (D, b"", b""),
    ]
    path = write_summary(tmp_path / "msd_summary_file.h5", rows)
    wanted = {song("bjork", "joga"), song("filler", "nr 12"), song("filler", "nr 999")}
    assert find_songs(path, {s for s in wanted if s}) == {
        ("bjork", "joga"): [A, B],
        ("filler", "nr 12"): [track_id(12)],
    }
    assert find_songs(write_summary(tmp_path / "empty.h5", []), {("a", "b")}) == {}


def test_wrong_summaries_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.h5"

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            find_songs(path, {("a", "b")})
        assert str(path) in str(caught.value)

    refused("does not exist")
    path.write_text("text" * 1000)
    refused("not the Million Song")
    with h5py.File(path, "w") as file:
        file["metadata/songs"] = np.zeros(3)
    refused("no table /metadata/songs")
    write_summary(path, [(A, b"a", b"b")] * 3)
    with h5py.File(path, "a") as file:
        rows = file["analysis/songs"][:2]
        del file["analysis/songs"]
        file["analysis/songs"] = rows
    refused("3 and 2 rows")
    with h5py.File(path, "a") as file:
        del file["analysis/songs"]
        file["analysis/songs"] = np.zeros(3, dtype=[("track_id", "<i4")])
    refused("track_id is int32, not text")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{A} Rock", "line 1: .*is not `track id <tab> genre`"),
        (f"#\n{A}\tRock\nTR1\tRock", "line 3"),
        (f"{A}\ta\tb\tc", "line 1"),
        ("# nothing\n", "no genres"),
        ("PK\x03\x04", "line 1"),
        (b"\xff\xfe\x00", "line 1: it is not a text file"),
        (b"\xef\xbb\xbf# a comment\r\n# \xe9\r\n", "line 2: it is not a text file"),
        (None, "does not exist"),
    ],
)
def test_wrong_genre_files_are_named(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    path = tmp_path / "wrong.cls"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words) as caught:
        read_genres(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_label_file(tmp_path: Path) -> None:
    for reader in (
        read_genres,
        read_tracks,
        lambda path: read_tags(path, [A]),
        lambda path: find_songs(path, {("a", "b")}),
    ):
        with pytest.raises(UserError, match=str(tmp_path)):
            reader(tmp_path)


def test_label_files_with_changed_bytes_end_in_an_error_that_names_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tracks = [track_id(n) for n in range(5)]
    files: dict[Path, Callable[[Path], object]] = {
        write_summary(tmp_path / "s.h5", [(t, b"x", b"y") for t in tracks]): lambda p: find_songs(p, {("x", "y")}),
        write_lastfm(tmp_path / "l.db", tracks, ["x", "y"], [(1, 1, 5.0), (2, 2, 9.0)]): lambda p: read_tags(p, tracks),
        write_genres(tmp_path / "g.cls", [f"{t}\tRock" for t in tracks]): read_genres,
    }
    for path, reader in files.items():
        good = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(good)
            for position in rng.integers(0, min(len(good), 3000), 3):
                damaged[position] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                reader(path)
            except UserError as error:
                assert str(path) in str(error)
    # A column's name that is not UTF-8, and a kind of text that HDF5 does not have: what random bytes seldom make.
    path = write_lastfm(tmp_path / "column.db", tracks, [], [])
    path.write_bytes(path.read_bytes().replace(b"tids (tid TEXT)", b"tids (t\xb8d TEXT)"))
    with pytest.raises(UserError, match="column.db is not"):
        read_tags(path, tracks)
