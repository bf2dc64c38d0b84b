"""A folder of videos: what is taken, what is left out, and that this is said; the same file under several ids."""

import os

import pytest

from config.cli import UserError
from config.files import write_json
from config.model import load
from config.paths import Paths
from data.folder import MEDIA
from data.manifest import merge, update, write_manifest
from data.videos import read_videos


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder, results=None):
    """The paths that are taken, from the folder."""
    return [os.path.relpath(p, folder) for p in read_videos(folder, results)["path"].to_pylist()]


def results_folder(folder, source):
    """A results folder such as the workflow leaves, with clips."""
    config = load({"results": str(folder), "videos": str(source)})
    write_json(Paths(folder).config, config.model_dump(mode="json"))
    touch(folder / "report/media/clip.mp4", folder / "rendered/song.mp4")
    return config


def test_results_are_never_input(tmp_path, caplog):
    touch(tmp_path / "a.mp4")
    config = results_folder(tmp_path / "results", tmp_path)
    assert update(config)["video_id"].to_pylist() == ["a.mp4"]
    touch(tmp_path / "b.mp4")
    assert update(config)["video_id"].to_pylist() == ["a.mp4", "b.mp4"]
    assert "1 × results folders (results)" in caplog.text
    # Other results: by their configuration, or where that was deleted by their manifest's record.
    results_folder(tmp_path / "old/run", tmp_path)
    touch(tmp_path / "older/clip.mp4")
    write_manifest(Paths(tmp_path / "older"), merge(None, read_videos(tmp_path), config.splits))
    assert names(tmp_path) == ["a.mp4", "b.mp4"]


def test_own_results_are_left_out_before_they_have_a_mark(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "out/clip.mp4")
    assert names(tmp_path) == ["a.mp4", "out/clip.mp4"]
    assert names(tmp_path, tmp_path / "out") == ["a.mp4"]
    (tmp_path / "link").symlink_to("out")
    assert names(tmp_path, tmp_path / "out") == ["a.mp4"]


def test_a_results_folder_as_input_is_refused(tmp_path):
    results_folder(tmp_path / "results", tmp_path)
    with pytest.raises(UserError, match="is a results folder"):
        read_videos(tmp_path / "results")
    touch(tmp_path / "new/a.mp4")
    with pytest.raises(UserError, match="is a results folder"):
        read_videos(tmp_path / "new", tmp_path / "new")
    assert names(tmp_path / "results/rendered") == ["song.mp4"]  # given on purpose


def test_another_programs_config_is_no_mark(tmp_path):
    touch(tmp_path / "model/a.mp4", tmp_path / "site/b.mp4")
    (tmp_path / "model/config.json").write_text('{"architectures": []}', encoding="utf-8")
    (tmp_path / "site/manifest.json").write_text("no JSON", encoding="utf-8")
    assert names(tmp_path) == ["model/a.mp4", "site/b.mp4"]


def test_hidden_and_system_files_are_left_out(tmp_path, caplog):
    hidden = ["._x.mp4", ".Trashes/a.mp4", "$RECYCLE.BIN/b.mp4", "sub/@eaDir/c.mp4", "lost+found/d.mp4", ".git/e/f.mp4"]
    touch(tmp_path / "x.mp4", *(tmp_path / name for name in hidden))
    touch(tmp_path / "System Volume Information/g.mp4", tmp_path / "#recycle/h.mp4", tmp_path / "__MACOSX/i.mp4")
    assert names(tmp_path) == ["x.mp4"]
    assert "9 × hidden or system files and folders (#recycle)" in caplog.text
    touch(tmp_path / ".mine/y.mp4")
    assert names(tmp_path / ".mine") == ["y.mp4"]  # given on purpose


def test_suffixes(tmp_path, caplog):
    taken = [f"{suffix[1:]}{suffix.upper()}" for suffix in MEDIA]
    assert {".vob", ".m2ts", ".mxf", ".asf", ".rm", ".dv", ".f4v", ".3g2"} < MEDIA
    left = ["a.ogg", "b.ogg", "notes.txt", "README", "cover.jpg", "movie.mp4.part"]
    touch(*(tmp_path / name for name in [*taken, *left]))
    assert sorted(names(tmp_path)) == sorted(taken)
    (line,) = (record.getMessage() for record in caplog.records if "left out" in record.getMessage())
    for part in ("2 × .ogg (a.ogg)", "1 × .txt (notes.txt)", "files without a suffix (README)", "1 × .part (movie.mp4"):
        assert part in line


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, caplog):
    touch(tmp_path / "a.mp4")
    names(tmp_path)
    assert not caplog.records


def test_linked_folders_are_followed_once(tmp_path, caplog):
    disk, videos = tmp_path / "disk", tmp_path / "videos"
    touch(disk / "a.mp4", disk / "deep/b.mp4", videos / "c.mp4", tmp_path / "outside.mp4")
    (videos / "far").symlink_to(disk)
    (videos / "far too").symlink_to(disk / "deep")  # in a folder that was followed
    (disk / "loop").symlink_to(disk)
    (disk / "back").symlink_to(videos)
    (videos / "up").symlink_to("..")
    (videos / "real.mp4").symlink_to("c.mp4")
    (videos / "other.mp4").symlink_to(tmp_path / "outside.mp4")
    (videos / "gone.mp4").symlink_to("nowhere.mp4")
    assert names(videos) == ["c.mp4", "gone.mp4", "far/a.mp4", "far/deep/b.mp4", "other.mp4"]
    assert "4 × links to folders that are there already" in caplog.text
    assert "1 × links to files that are there already (real.mp4)" in caplog.text


def test_a_folder_that_cannot_be_read_is_said(tmp_path, caplog, monkeypatch):
    touch(tmp_path / "a.mp4", tmp_path / "locked/b.mp4")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert names(tmp_path) == ["a.mp4"]
    assert "1 × folders that cannot be read (locked)" in caplog.text


def test_the_same_file_under_several_ids_is_said(tmp_path, caplog):
    touch(tmp_path / "a.mp4", tmp_path / "other.mp4", tmp_path / "alone.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    lines = [
        "1,a.mp4",
        "2,./a.mp4",
        "3,hard.mp4",
        "4,link.mp4",
        "5,other.mp4",
        "6,gone.mp4",
        "7,gone.mp4",
        "8,alone.mp4",
    ]
    (tmp_path / "t.csv").write_text("video_id,path\n" + "\n".join(lines), encoding="utf-8")
    table = update(load({"results": str(tmp_path / "results"), "videos": str(tmp_path / "t.csv")}))
    assert table.num_rows == 8
    same = [r.getMessage() for r in caplog.records if "same file" in r.getMessage()]
    assert len(same) == 2 and "'1', '2', '3', '4'" in same[0] and "'6', '7'" in same[1]


def test_many_same_files_are_counted(tmp_path, caplog):
    touch(*(tmp_path / f"{i}.mp4" for i in range(9)))
    for i in range(9):
        os.link(tmp_path / f"{i}.mp4", tmp_path / f"{i} again.mp4")
    update(load({"results": str(tmp_path / "results"), "videos": str(tmp_path)}))
    assert "4 more files" in caplog.text
