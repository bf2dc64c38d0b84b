"""Labels from the manifest and from the Million Song Dataset's files, in their real structures, faults included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.cli import UserError
from config.files import write_json
from config.model import Config, load
from data.labels import read_labels, write_labels
from data.manifest import merge, read_manifest, write_manifest
from data.msd.lastfm import read_tags
from data.msd.text import read_genres, read_tracks
from tests.support.msd_files import track_id, write_genres, write_lastfm, write_summary

A, B, C, D, E = (track_id(n) for n in range(5))


def prepared(folder: Path, videos: list[dict[str, Any]], **labels: Any) -> Config:
    """A results folder with a manifest of these videos."""
    config = load({"results": str(folder / "results"), "videos": "videos.csv", "labels": labels})
    paths = config.paths
    lines = [{"video_id": f"v{i}", "path": f"/{i}.mp4"} | video for i, video in enumerate(videos)]
    columns = dict.fromkeys(key for line in lines for key in line)
    new = pa.table({key: [line.get(key) for line in lines] for key in columns})
    write_manifest(paths, merge(None, new, config.splits))
    write_json(paths.config, config.model_dump(mode="json"))
    return config


def written(config: Config, task: str) -> tuple[dict[int, list[str]], dict[str, Any]]:
    """{row: labels} as stored, and the record; checks that reading as numbers says the same."""
    record = write_labels(config, task)
    paths = config.paths
    assert json.loads(paths.labels_record(task).read_text()) == record
    lines = pq.read_table(paths.labels(task)).to_pylist()
    table = read_labels(paths, task)
    assert [line["row"] for line in lines] == table.rows.tolist() == sorted(table.rows.tolist())
    for line, values in zip(lines, table.values, strict=True):
        assert {c for c, yes in zip(table.classes, values, strict=True) if yes} == set(line["labels"])
    assert sum(sum(c[s] for s in ("train", "validation", "test")) for c in record["classes"]) == table.values.sum()
    return {line["row"]: line["labels"] for line in lines}, record


def names(record: dict[str, Any]) -> list[str]:
    return [c["name"] for c in record["classes"]]


def test_the_manifests_own_labels(tmp_path: Path) -> None:
    videos = [
        {"genre": "rock", "tags": ["a", "b", "a"]},
        {"genre": " rock ", "tags": ["b"]},
        {"genre": "Röck", "tags": ["rare"]},
        {"genre": None, "tags": None},
        {"genre": " ", "tags": ["b", "A"]},
    ]
    config = prepared(tmp_path, videos, tagging={"top": 2})
    labels, record = written(config, "genre")
    assert labels == {0: ["rock"], 1: ["rock"], 2: ["Röck"]} and names(record) == ["rock", "Röck"]
    labels, record = written(config, "tagging")
    # `b` has three, then `A` and `a` one each as `rare` has: of equals the first by alphabet.
    assert names(record) == ["b", "A"]
    assert labels == {0: ["b"], 1: ["b"], 2: [], 4: ["b", "A"]}
    assert record["labelled_with_none_of_the_classes"] == 1 and record["alike"] == [["A", "a"]]


def test_without_any_labels_the_record_says_so(tmp_path: Path) -> None:
    labels, record = written(prepared(tmp_path, [{}, {}]), "genre")
    assert labels == {} and record["classes"] == [] and (record["videos"], record["labelled"]) == (2, 0)


def test_lastfm_tags(tmp_path: Path) -> None:
    database = write_lastfm(
        tmp_path / "lastfm 100%? #1.db",
        [A, "TRXXXXX128F0000000", B, A, C, D],
        ["rock", "Hip-Hop", "hip hop", "naïve 日本", "rock", " "],
        [
            *[(1, 1, 100.0), (1, 2, 30), (1, 1, 20.0), (4, 3, 50.0)],  # A stands twice, and one pair of it
            *[(2, 4, 100.0), (3, 5, 7.0), (3, 4, 50.0), (5, 6, 90.0)],  # `rock` stands twice; C has an empty tag only
        ],
    )
    before = database.read_bytes()
    tags = read_tags(database, [A, B, C, D, E])
    assert tags == {
        A: {"rock": 100.0, "Hip-Hop": 30.0, "hip hop": 50.0},
        B: {"rock": 7.0, "naïve 日本": 50.0},
        C: {},
        D: {},
    }
    assert read_tags(database, []) == {}

    videos = [{"msd_track_id": t} for t in (A, f" {B} ", C, E, None)]
    config = prepared(tmp_path, videos, tagging={"source": str(database), "minimum_value": 30})
    labels, record = written(config, "tagging")
    assert labels == {0: ["rock", "Hip-Hop", "hip hop"], 1: ["naïve 日本"]}
    assert names(record) == ["Hip-Hop", "hip hop", "naïve 日本", "rock"]
    assert record["alike"] == [["Hip-Hop", "hip hop"]]
    assert record["matched"]["msd_track_id"] == 4 and record["matched"]["unmatched"] == 1
    assert record["dropped"] == {"tracks_without_tags": 1, "matched_without_labels": 2}
    assert database.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == [database.name, "results"]


def test_tags_below_the_minimum_are_no_tags(tmp_path: Path) -> None:
    database = write_lastfm(tmp_path / "l.db", [A, B], ["rock"], [(1, 1, 10.0), (2, 1, 60.0)])
    videos = [{"msd_track_id": A}, {"msd_track_id": B}]
    labels, record = written(
        prepared(tmp_path, videos, tagging={"source": str(database), "minimum_value": 50}), "tagging"
    )
    assert labels == {1: ["rock"]} and record["dropped"]["tags_below_minimum_value"] == 1


def test_videos_are_matched_by_id_and_else_by_artist_and_title(tmp_path: Path) -> None:
    summary = write_summary(
        tmp_path / "s.h5", [(A, b"X", b"One"), (B, b"X", b"Two"), (C, b"X", b"Two"), (D, b"X", b"Three")]
    )
    genres = write_genres(tmp_path / "g.cls", [f"{A}\tRock", f"{C}\tJazz", f"{D}\tPop"])
    videos = [
        {"msd_track_id": D, "artist": "X", "title": "One"},  # the id decides
        {"artist": "x", "title": "ONE (Official Video)"},
        {"artist": "X", "title": "Two"},  # two tracks, of which one has a genre
        {"artist": "X", "title": None},
        {"artist": "Y", "title": "Nothing like it"},
    ]
    sources = {"genre": {"source": str(genres)}, "msd_summary": str(summary)}
    config = prepared(tmp_path, videos, **sources)
    labels, record = written(config, "genre")
    assert labels == {0: ["Pop"], 1: ["Rock"], 2: ["Jazz"]}
    lines = pq.read_table(config.paths.labels("genre")).to_pylist()
    how = [(line["msd_track_id"], line["matched"]) for line in lines]
    assert how == [(D, "msd_track_id"), (A, "artist_title"), (C, "artist_title")]
    counts = {"msd_track_id": 1, "artist_title": 2, "artist_title_several_tracks": 1, "unmatched": 2}
    assert record["matched"] == counts
    assert set(record["files"]) == {"labels.genre.source", "labels.msd_summary"}


def test_genre_files(tmp_path: Path) -> None:
    lines = [
        f"{A}\tRock",
        f"{B}\tPunk\tRock",
        "",
        f"{C}\tPop_Rock\t",
        f"{D}\tJazz",
        f"{D}\tBlues",
        "# end",
        f"{A}\tRock",
    ]
    path = write_genres(tmp_path / "cd1.cls", lines)
    assert read_genres(path) == {A: ("Rock",), B: ("Punk", "Rock"), C: ("Pop_Rock",), D: ("Jazz", "Blues")}
    videos = [{"msd_track_id": t} for t in (A, B, C, D, E)]
    labels, record = written(prepared(tmp_path, videos, genre={"source": str(path)}), "genre")
    assert labels == {0: ["Rock"], 2: ["Pop_Rock"]}
    assert record["dropped"] == {"tracks_with_two_genres": 2, "matched_without_labels": 3}
    labels, _ = written(prepared(tmp_path, videos, genre={"source": str(path), "two_genres": "first"}), "genre")
    assert labels == {0: ["Rock"], 1: ["Punk"], 2: ["Pop_Rock"], 3: ["Jazz"]}


def test_lists_of_tracks(tmp_path: Path) -> None:
    path = tmp_path / "tracks.txt"
    path.write_text(f"# mine\n{A}\r\n{B}<SEP>SOAAAAA12A8C000000<SEP>Ann<SEP>A title, with a comma\n{C},x\n\n{D}\tx\n")
    assert read_tracks(path) == {A, B, C, D}
    path.write_text(f"{A}\n")
    videos = [{"msd_track_id": t, "genre": g, "tags": [g]} for t, g in ((A, "rock"), (B, "pop"), (None, "folk"))]
    labels, record = written(prepared(tmp_path, videos, genre={"tracks": str(path)}), "genre")
    assert labels == {0: ["rock"]} and record["dropped"] == {
        "not_in_the_list_of_tracks": 1,
    }
    path.write_text(f"{E}\n")
    with pytest.raises(UserError, match="labels.tagging.tracks: .*tracks.txt: no video of the manifest gets a label"):
        write_labels(prepared(tmp_path, videos, tagging={"tracks": str(path)}), "tagging")
    path.write_text("rock\n")
    with pytest.raises(UserError, match="line 1.*does not begin with a track id"):
        read_tracks(path)


def test_a_wrong_track_id_in_the_table_is_named(tmp_path: Path) -> None:
    path = write_genres(tmp_path / "g.cls", [f"{A}\tRock"])
    config = prepared(tmp_path, [{"msd_track_id": "SOAAAAA12A8C000000"}], genre={"source": str(path)})
    with pytest.raises(UserError, match="'SOAAAAA12A8C000000' of video 'v0'"):
        write_labels(config, "genre")


def test_a_task_that_is_left_out(tmp_path: Path) -> None:
    config = prepared(tmp_path, [{"genre": "x"}], tagging=None)
    assert config.labels.tasks == ["genre"]
    with pytest.raises(UserError, match=r"labels\.tagging: no such task"):
        write_labels(config, "tagging")


def test_manifests_from_before_there_were_titles_stay_the_same(tmp_path: Path) -> None:
    config = prepared(tmp_path, [{"artist": "X", "genre": "rock"}])
    paths = config.paths
    table, record = read_manifest(paths.manifest), paths.manifest_record.read_bytes()
    pq.write_table(table.drop_columns("title"), paths.manifest)
    assert read_manifest(paths.manifest).equals(table)
    write_manifest(paths, read_manifest(paths.manifest))
    assert paths.manifest_record.read_bytes() == record
    titled = pa.table({"video_id": ["v0"], "path": ["/0.mp4"], "artist": ["X"], "title": ["One"], "genre": ["rock"]})
    write_manifest(paths, merge(table, titled, config.splits))
    assert read_manifest(paths.manifest)["title"].to_pylist() == ["One"]
    assert paths.manifest_record.read_bytes() != record
