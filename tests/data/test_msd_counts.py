"""`python -m data.msd`: what it counts, on files of the published structures; docs/datasets.md quotes it rightly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from data.msd.summary import find_tracks
from tests.support.commands import ROOT, execute
from tests.support.msd_files import track_id, write_genres, write_lastfm, write_summary

TRACKS = [track_id(n) for n in range(20)]
PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")


def files(folder: Path) -> dict[str, Path]:
    """All files: 20 tracks in the list, two of them twice; tags of 12, genres of 5, artists of all."""
    (folder / "msdids.txt").write_text("\n".join([*TRACKS, *TRACKS[:2]]) + "\n")
    pairs: list[tuple[object, object, object]] = [(i, 1, 100.0) for i in range(1, 13)]
    pairs += [(i, 2, 50.0) for i in range(1, 5)]
    tids = [*TRACKS[:12], track_id(99), TRACKS[12]]
    (folder / "train_gt_msd.tsv").write_text("".join(f"{track}\t[0, 1]\n" for track in [*TRACKS[:7], track_id(99)]))
    return {
        "list": folder / "msdids.txt",
        "tags": write_lastfm(folder / "lastfm_tags.db", tids, ["rock", "Hip-Hop"], pairs),
        "genres": write_genres(folder / "cd2.cls", [f"{track}\tRock" for track in TRACKS[:5]]),
        "summary": write_summary(
            folder / "s.h5", [(t, f"Artist {i // 2}".encode(), b"x") for i, t in enumerate(TRACKS)]
        ),
        "training": folder / "train_gt_msd.tsv",
    }


def counted(*arguments: object) -> subprocess.CompletedProcess[str]:
    return execute([sys.executable, "-m", "data.msd", *map(str, arguments)])


def test_what_it_prints(tmp_path: Path) -> None:
    made = files(tmp_path)
    options = [part for name in ("tags", "genres", "summary", "training") for part in (f"--{name}", made[name])]
    done = counted(made["list"], *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["tracks in the list: 20", "in the summary: 20, of 10 artists"]
    assert "tagging: tracks in the list: 20, in the labels: 12" in lines
    assert "tagging: left out, tracks without tags: 1" in lines
    assert "genre: tracks in the list: 20, in the labels: 5" in lines
    totals = {
        line.rsplit(":", 1)[0]: sum(map(int, re.findall(r"(\d+) [tv]", line.rsplit(":", 1)[1]))) for line in lines
    }
    assert totals["tagging: rock"] == 12 and totals["tagging: Hip-Hop"] == 4 and totals["genre: Rock"] == 5
    assert totals["splits"] == 20
    assert totals["MusicNN's weights `wheel` were trained on 7 of the 20 tracks"] == 7
    # Each form of a line that the page shows is printed.
    forms = {re.sub(r"\d+", "N", line) for line in lines}
    shown = PAGE.split("lines of this form:")[1].split("```")[1].strip().splitlines()
    assert shown and set(shown) <= forms
    assert len(counted(made["list"], "--tags", made["tags"], "--top", 1).stdout.splitlines()) == 6


def test_the_list_alone(tmp_path: Path) -> None:
    done = counted(files(tmp_path)["list"])
    assert done.stdout.splitlines() == ["tracks in the list: 20", "splits: 16 train, 2 validation, 2 test"]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    made = files(tmp_path)
    for option, wrong, words in (
        ("--tags", made["summary"], "is not the Last.fm dataset's SQLite database of tags"),
        ("--summary", made["tags"], "is not the Million Song Dataset's summary"),
        ("--genres", made["summary"], "is it still zipped?"),
        ("--training", made["list"].with_name("none.tsv"), "none.tsv does not exist"),
        ("--top", 0, "at least one tag"),
    ):
        done = counted(made["list"], option, wrong)
        assert done.returncode == 2 and words in done.stderr, option
    (tmp_path / "songs.txt").write_text("SOAAAAA12A8C13CD10\n")
    assert "does not begin with a track id" in counted(tmp_path / "songs.txt").stderr
    (tmp_path / "others.txt").write_text(track_id(500) + "\n")
    assert "no video of the manifest gets a label" in counted(tmp_path / "others.txt", "--tags", made["tags"]).stderr


def test_the_pages_command_and_messages_exist(tmp_path: Path) -> None:
    command = re.search(r"^python -m data\.msd (.*)$", PAGE, re.M)
    assert command is not None
    usage = counted("--help").stdout
    assert all(option in usage for option in re.findall(r"--\w+", command[1])) and "--top" in usage
    sources = "".join(path.read_text() for path in (ROOT / "data").rglob("*.py"))
    quoted = re.sub(r'"\s*f?"', "", sources)
    for row in re.findall(r"^\| `(… .*?)` \|", PAGE, re.M):
        for part in re.split(r" ?… ?", row):
            assert part.strip("; ") in re.sub(r'"\n\s*f?"', "", quoted), part


def test_tracks_by_id(tmp_path: Path) -> None:
    summary = write_summary(tmp_path / "s.h5", [(TRACKS[0], "Béla".encode(), b"One"), (TRACKS[1], b"X", b"Two")])
    assert find_tracks(summary, [TRACKS[0], TRACKS[5]]) == {TRACKS[0]: ("Béla", "One")}
