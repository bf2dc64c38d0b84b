"""The list of public clips, and the table that is made of it and a folder."""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from config.cli import UserError
from data.clips import read_list
from data.videos import read_videos
from tests.support.commands import ROOT, execute

HEADER = "file,source,commit,path,sha256,recording,pair"


def line(name: str, content: bytes, source: str) -> str:
    return f"{name},{source},{'0' * 40},a b/{name},{hashlib.sha256(content).hexdigest()},{name},original"


def made(folder: Path, *lines: str) -> tuple[int, str]:
    """Run the command; return its exit status and what it says."""
    (folder / "list.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    command = [sys.executable, "-m", "data.clips", str(folder), str(folder / "list.csv"), str(folder / "out.csv")]
    done = execute(command)
    return done.returncode, done.stderr


def test_the_shipped_list() -> None:
    clips = read_list(ROOT / "config" / "clips.csv")
    assert (len(clips), len({clip.source for clip in clips})) == (100, 50)
    assert Counter(clip.pair for clip in clips) == {"original": 72, "unknown": 28}
    assert all(len(clip.sha256) == 64 and len(clip.commit) == 40 for clip in clips)
    assert all(clip.file[1:].startswith(clip.sha256[:10]) for clip in clips)


def test_a_folder_and_a_list_are_a_table(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.webm"):
        (tmp_path / name).write_bytes(name.encode())
    lines = [line(name, name.encode(), source) for name, source in (("a.mp4", "x/y"), ("b.webm", "z"), ("c.mp4", "z"))]
    status, said = made(tmp_path, *lines)
    assert status == 0 and "2 of 3 clips, of 2 sources" in said
    assert f"missing: {tmp_path / 'c.mp4'} (https://github.com/z/raw/{'0' * 40}/a%20b/c.mp4)" in said
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video_id"], row["group"], row["tags"]) for row in rows] == [
        ("a", "x/y", "original"),
        ("b", "z", "original"),
    ]
    table = read_videos(tmp_path / "out.csv")
    assert table["path"].to_pylist() == [str(tmp_path / "a.mp4"), str(tmp_path / "b.webm")]


def test_another_file_under_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"other")
    status, said = made(tmp_path, line("a.mp4", b"a", "x"))
    assert status == 2 and "a.mp4 is another file: its sha256 is" in said and not (tmp_path / "out.csv").exists()


def test_none_of_the_files(tmp_path: Path) -> None:
    status, said = made(tmp_path, line("a.mp4", b"a", "x"))
    assert status == 2 and "has none of the 1 files" in said


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line("a.mp4", b"a", "")], "row 1: a list of clips has a value in each of file, source"),
        ([line("../a.mp4", b"a", "x")], "is not the name of a file"),
        ([line("a.mp4", b"a", "x"), line("a.webm", b"b", "x")], "video_id a stands there 2 times"),
        ([line("a.mp4", b"a", "x"), line("b.mp4", b"a", "x")], "sha256"),
    ],
)
def test_wrong_lists(tmp_path: Path, lines: list[str], words: str) -> None:
    (tmp_path / "list.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        read_list(tmp_path / "list.csv")


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(f"{HEADER}\nä.mp4,x".encode("latin-1"))
    with pytest.raises(UserError, match=r"list\.csv is not a text file in UTF-8"):
        read_list(tmp_path / "list.csv")


def test_recordings_need_not_be_named(tmp_path: Path) -> None:
    names = HEADER.split(",")
    values = line("a.mp4", b"a", "x").split(",")
    kept = [i for i, name in enumerate(names) if name != "recording"]
    (tmp_path / "list.csv").write_text("\n".join(",".join(row[i] for i in kept) for row in (names, values)) + "\n")
    assert [clip.file for clip in read_list(tmp_path / "list.csv")] == ["a.mp4"]


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_list(tmp_path / "list.csv")
