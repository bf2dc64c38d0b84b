"""A file is the same as long as its content is; large ones are read once."""

import json
import os
from pathlib import Path

import pytest

from config import digests
from config.digests import digest, weights_digest
from config.model import load
from data.videos import table_digest


@pytest.fixture(autouse=True)
def another_process_each_time(monkeypatch):
    """What one process remembers is left out: every question is the first."""
    monkeypatch.setattr(digests, "digest", digest.__wrapped__)
    monkeypatch.setattr("data.videos.digest", digest.__wrapped__)


@pytest.fixture
def kept(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "work" / "digests.json"


def test_content_counts_and_not_time(tmp_path, kept):
    table = tmp_path / "videos.csv"
    config = load({"results": str(tmp_path / "results"), "videos": str(table)})
    table.write_text("video_id,path\na,1.mp4\n")
    first = table_digest(config)
    os.utime(table)
    assert table_digest(config) == first
    (tmp_path / "older.csv").write_text("video_id,path\na,2.mp4\n")
    os.utime(tmp_path / "older.csv", (0, 0))
    (tmp_path / "older.csv").rename(table)
    assert table_digest(config) != first
    assert not kept.exists()  # small files are read every time


def test_a_folder_is_what_is_in_it_at_any_depth(tmp_path, kept):
    deep = tmp_path / "videos" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "1.mp4").touch()
    config = load({"results": str(tmp_path / "results"), "videos": str(tmp_path / "videos")})
    first = table_digest(config)
    times = tmp_path.joinpath("videos").stat()
    (deep / "2.mp4").touch()
    assert tmp_path.joinpath("videos").stat().st_mtime_ns == times.st_mtime_ns
    second = table_digest(config)
    assert second != first
    os.utime(deep / "1.mp4", (0, 0))
    (deep / "notes.txt").touch()
    assert table_digest(config) == second
    (deep / "2.mp4").rename(deep / "3.mp4")
    assert table_digest(config) not in (first, second)


def test_large_files_are_read_again_only_when_they_may_have_changed(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(digests, "LARGE", 4)
    monkeypatch.setattr(digests, "SETTLED", 0.0)
    read = []
    hashed = digests.hashlib.file_digest
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda file, how: read.append(file.name) or hashed(file, how))
    file = tmp_path / "large"
    file.write_bytes(b"12345678")

    def ask() -> str:
        return digests.digest(str(file), kept)

    first = ask()
    assert ask() == first and len(read) == 1
    before = file.stat()
    file.write_bytes(b"87654321")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync and tar do
    second = ask()
    assert second != first and len(read) == 2 and ask() == second and len(read) == 2
    kept.write_text("torn")
    assert ask() == second and len(read) == 3
    monkeypatch.setattr(digests, "SETTLED", 3600.0)  # written just now: its next change could have the same time
    file.write_bytes(b"abcdefgh")
    ask()
    ask()
    assert len(read) == 5


def test_a_large_folder_is_read_again_only_when_a_file_may_have_changed(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(digests, "LARGE", 15)
    monkeypatch.setattr(digests, "SETTLED", 0.0)
    read = []
    hashed = digests.hashlib.file_digest
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda file, how: read.append(file.name) or hashed(file, how))
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("a", "b"):  # together they are large
        (folder / name).write_bytes(b"12345678")
    first = digests.digest(str(folder), kept)
    assert digests.digest(str(folder), kept) == first and len(read) == 2
    before = (folder / "a").stat()
    (folder / "a").write_bytes(b"87654321")
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.digest(str(folder), kept) != first and len(read) == 4


def test_weights_may_be_deleted_once_they_were_read(tmp_path, kept):
    assert weights_digest("wheel", kept) is None
    source = tmp_path / "own.pth"
    assert weights_digest(str(source), kept) is None  # results of an older version, whose source is gone
    source.write_bytes(b"one")
    first = weights_digest(str(source), kept)
    source.unlink()
    assert first is not None and weights_digest(str(source), kept) == first
    source.write_bytes(b"two")
    assert weights_digest(str(source), kept) != first
    for end in ("index", "data-00000-of-00001"):
        (tmp_path / f"model.ckpt.{end}").write_text(end)
    several = weights_digest(str(tmp_path / "model.ckpt"), kept)
    (tmp_path / "model.ckpt.data-00000-of-00001").write_text("other")
    assert weights_digest(str(tmp_path / "model.ckpt"), kept) != several
    assert json.loads(kept.read_text())


def test_nothing_is_written_where_there_are_no_results(tmp_path):
    (tmp_path / "own.pth").write_bytes(b"one")
    assert weights_digest(str(tmp_path / "own.pth"), tmp_path / "none" / "work" / "digests.json")
    assert not (tmp_path / "none").exists()
