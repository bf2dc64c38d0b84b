"""Tar shards as the videos: a folder or a pattern of them, what their `.json` say, and what is left out."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from pathlib import Path

import pytest

from config.cli import UserError
from config.model import load
from data.manifest import update
from data.videos import note_table, read_videos, table_digest
from tests.support.shards import add, write_shard


def sidecar(**values):
    return json.dumps(values).encode()


@pytest.fixture
def shards(tmp_path):
    """Two shards, with and without `.json`."""
    folder = tmp_path / "shards"
    about = sidecar(
        key="000000", video_id="one", artist="Ann", title=7, genre=None, tags=["a ", 1], url="x", text=["y"]
    )
    first = {"000000.json": about, "000000.mp4": b"v", "000000.txt": b"t", "000001.mp4": b"v", "sub/000002.webm": b"v"}
    write_shard(folder / "00000.tar", first)
    write_shard(folder / "00001.tar", {"000000.mp4": b"v", "000000.json": sidecar(tags="x|y"), "n.wav": b"a"})
    return folder


def test_a_folder_of_shards(shards, tmp_path):
    videos = read_videos(shards, indexes=tmp_path / "indexes").to_pylist()
    assert [video["video_id"] for video in videos] == [
        "one",
        "00000%2F000001",
        "00000%2F%2Fsub%2F000002",
        "00001%2F000000",
    ]
    assert [video["path"].removeprefix(f"{shards}/") for video in videos] == [
        "00000.tar::000000.mp4", "00000.tar::000001.mp4", "00000.tar::sub/000002.webm", "00001.tar::000000.mp4"
    ]  # fmt: skip
    assert (videos[0]["artist"], videos[0]["title"], videos[0]["tags"]) == ("Ann", "7", ["a", "1"])
    assert videos[3]["tags"] == ["x", "y"] and videos[1]["tags"] is None and "genre" not in videos[0]
    assert len(list((tmp_path / "indexes").iterdir())) == 2


@pytest.mark.parametrize(
    "pattern", ["shards/{00000..00001}.tar", "shards/*.tar", "{0..0}/../shards/0000?.tar", "shards/0000[01].tar"]
)
def test_patterns(shards, tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    for source in (Path(pattern), tmp_path / pattern):
        assert len(read_videos(source)) == 4
    by_folder, by_pattern = (read_videos(source) for source in (shards, Path(pattern)))
    if pattern.startswith("shards"):
        assert by_folder.equals(by_pattern)


def test_patterns_that_mean_nothing(shards, tmp_path):
    for pattern, words in (
        ("{00000..00002}.tar", "there is no shard .*00002.tar"),
        ("x*.tar", "there is no shard"),
        ("{5..4}.tar", "0 shards"),
        ("{0..99999}{0..99999}.tar", "10,000,000,000 shards"),
        ("00009.tar", "there is no shard"),
    ):
        with pytest.raises(UserError, match=words):
            read_videos(shards / pattern)


def test_a_folder_whose_name_looks_like_a_pattern(shards, tmp_path):
    odd = tmp_path / "set[1]" / "{0..1}"
    odd.parent.mkdir()
    shards.rename(odd)
    write_shard(tmp_path / "set1" / "{0..1}" / "00000.tar", {"other.mp4": b"v"})
    for pattern in ("{00000..00001}.tar", "*.tar", "0000[01].tar"):
        videos = read_videos(odd / pattern)
        assert videos["video_id"].to_pylist()[1] == "00000%2F000001" and len(videos) == 4
        assert videos["path"][0].as_py() == f"{odd}/00000.tar::000000.mp4"


def test_a_number_of_a_range_without_a_shard(shards):
    (shards / "00000.tar").rename(shards / "00000-a.tar")
    (shards / "00001.tar").rename(shards / "00001-b.tar")
    assert len(read_videos(shards / "{00000..00001}-*.tar")) == 4
    with pytest.raises(UserError, match=r"there is no shard .*/00002-\*\.tar"):
        read_videos(shards / "{00000..00002}-*.tar")


def test_one_shard_and_folders_below(shards, tmp_path):
    assert read_videos(shards / "00001.tar")["video_id"].to_pylist() == ["00001%2F000000"]
    write_shard(shards / "more" / "a b.tar", {"./x.mp4": b"v"})
    assert read_videos(shards)["video_id"].to_pylist()[-1] == "more%2Fa b%2Fx"


def test_a_folder_with_shards_and_files_is_an_error(shards, tmp_path):
    """One file among shards made a folder of files of it, and every video of the shards counted as deleted."""
    config = load({"results": str(tmp_path / "results"), "videos": str(shards)})
    update(config)
    (shards / "film.mp4").touch()
    for function in (read_videos, lambda _: table_digest(config), lambda _: update(config)):
        with pytest.raises(UserError, match=r"00000\.tar.*film\.mp4.*shards/\*\.tar"):
            function(shards)
    assert len(read_videos(shards / "*.tar")) == 4


def test_a_shard_that_cannot_be_read_is_an_error(shards, tmp_path, monkeypatch):
    config = load({"results": str(tmp_path / "results"), "videos": str(shards)})
    update(config)
    shard = shards / "00001.tar"
    shard.rename(tmp_path / "away.tar")
    shard.symlink_to(tmp_path / "nowhere.tar")
    for function in (read_videos, lambda _: table_digest(config), lambda _: update(config)):
        with pytest.raises(UserError, match=r"the shard .*00001\.tar cannot be read: .*delete it or move it"):
            function(shards)
    shard.unlink()
    (tmp_path / "away.tar").rename(shard)
    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(UserError, match=r"the shard .*0000.\.tar cannot be read: .*Input/output error"):
        read_videos(shards, indexes=tmp_path / "indexes")
    monkeypatch.undo()
    assert len(read_videos(shards, indexes=tmp_path / "indexes")) == 4  # no index was kept of what was not read


def failing(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_parent_folders_behind_links(shards, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    write_shard(tmp_path / "elsewhere" / "0.tar", {"x.mp4": b"v"})
    (tmp_path / "link").symlink_to("elsewhere/deep")
    videos = read_videos(tmp_path / "link" / ".." / "{0..0}.tar")
    assert videos["path"].to_pylist() == [f"{tmp_path}/link/../0.tar::x.mp4"]


def test_what_is_left_out_is_said(tmp_path, caplog):
    folder = tmp_path / "s"
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        add(tar, "a.mp4", b"1")
        add(tar, "a.mp4", b"2")
        add(tar, "a.json", b"{")
        add(tar, "b.mp4", b"1")
        add(tar, "b.json", sidecar(title={"en": "x"}, tags=[["x"]], artist="\ud800", genre=True))
        add(tar, "._b.mp4", b"1")
        add(tar, ".hidden/c.mp4", b"1")
        add(tar, "link.mp4", type=tarfile.SYMTYPE, linkname="a.mp4")
        add(tar, "../up.mp4", b"1")
        add(tar, "d.low.mp4", b"1")
        add(tar, "d.high.mp4", b"1")
        add(tar, "d.json", sidecar(video_id="d", artist="D"))
        add(tar, "e.json", b"[]")
        add(tar, "e.mp4", b"1")
        add(tar, "f.tar", b"1")
        add(tar, "mp4", b"1")
    with tarfile.open(folder / "1.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "\udcff.mp4", b"1")
        add(tar, "last.mp4", b"1" * 600)
    (folder / "1.tar").write_bytes((folder / "1.tar").read_bytes()[:1700])
    (folder / "2.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    videos = read_videos(folder).to_pylist()
    ids = ["a", "b", "link", "%2F..%2Fup", "d.low.mp4", "d.high.mp4", "e"]
    assert [v["video_id"] for v in videos] == [f"0%2F{name}" for name in ids] + ["1%2Flast"]
    assert [v["artist"] for v in videos if v["artist"]] == ["D", "D"]
    for words in (
        "1 × members with the name of another (",
        "2 × .json that is damaged, too large or no object",
        "2 × hidden members",
        "1 × members whose name is not UTF-8",
        "2 × shards that are damaged, cut off or joined",
        "1 × values of `title` in .json that are not text",
        "1 × values of `tags` in .json",
        "1 × values of `artist`",
        "1 × values of `genre`",
    ):
        assert words in caplog.text
    (folder / "3.tar").write_bytes((folder / "0.tar").read_bytes())
    with pytest.raises(UserError, match="lists no videos"):
        read_videos(folder / "2.tar")


def test_unusable_ids_of_json_are_not_used(tmp_path, caplog):
    """What a stranger's `.json` says must not stop a collection."""
    first = {"a.mp4": b"", "a.json": sidecar(video_id="x"), "b.mp4": b"", "b.json": b"{}"}
    write_shard(tmp_path / "0.tar", first)
    second = {"a.mp4": b"", "a.json": sidecar(video_id="x", title="T")}
    for number, wrong in enumerate(("../x", "a\nb", "..", " ", "é" * 126, "0%2Fb")):
        second |= {f"{number}.mp4": b"", f"{number}.json": sidecar(video_id=wrong)}
    write_shard(tmp_path / "1.tar", second)
    videos = read_videos(tmp_path)
    assert videos["video_id"].to_pylist() == ["x", "0%2Fb", "1%2Fa", *(f"1%2F{number}" for number in range(6))]
    assert videos["title"].to_pylist()[2] == "T"
    assert "5 × values of `video_id` in .json that cannot be an id" in caplog.text
    assert "2 × values of `video_id` in .json that another video has" in caplog.text


def test_own_ids_keep_shard_and_key_apart(tmp_path):
    members = {"b/c.mp4": b"", f"{'k' * 300}0.mp4": b"", f"{'k' * 300}1.mp4": b""}
    write_shard(tmp_path / "a.tar", members, tarfile.PAX_FORMAT)
    write_shard(tmp_path / "a" / "b.tar", {"c.mp4": b""})
    found = read_videos(tmp_path)["video_id"].to_pylist()
    assert set(found) > {"a%2F%2Fb%2Fc", "a%2Fb%2Fc"} and len(set(found)) == 4
    assert max(map(len, found)) <= 250
    write_shard(tmp_path / "a" / "b.TAR.tar", {"c.mp4": b""})
    write_shard(tmp_path / "a" / "b.TAR", {"c.mp4": b""})
    with pytest.raises(UserError, match=r"b\.TAR::c\.mp4 and .*b\.TAR\.tar::c\.mp4|tar::c.mp4 and .*TAR::c.mp4"):
        read_videos(tmp_path)


def test_the_manifest_and_its_digest(shards, tmp_path):
    config = load({"results": str(tmp_path / "results"), "videos": str(shards / "*.tar")})
    assert config.is_pattern
    note = note_table(config).read_text()
    assert update(config)["row"].to_pylist() == [0, 1, 2, 3]
    assert note_table(config).read_text() == note
    os.utime(shards / "00001.tar", (0, 0))
    assert table_digest(config) != note
    note = note_table(config).read_text()
    write_shard(shards / "00002.tar", {"z.mp4": b""})
    assert table_digest(config) != note
    assert update(config)["video_id"].to_pylist()[-1] == "00002%2Fz"
    whole = load({"results": str(tmp_path / "results"), "videos": str(shards)})
    assert table_digest(whole) == table_digest(config) and not whole.is_pattern
