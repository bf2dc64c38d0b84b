"""A member of a tar shard is read in place, and gives to the byte what the same file gives; so does a copy of it."""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.pipeline import Decoding, Segments
from data.tar_index import located
from pipeline.readers import Decoded, MediaError, VideoRequest, container, first, keyframes
from pipeline.readers.opening import open_media
from pipeline.readers.source import Source, Span
from pipeline.workers import Pool, Task
from tests.support import timelines
from tests.support.library import CROP, LIBRARY, RESIZE, Files
from tests.support.media import Audio, Video, regular, write
from tests.support.shards import add, write_shard

DECODERS = ["pyav"] + (["decord"] if importlib.util.find_spec("decord") else [])


def in_shard(path: str, folder: Path, name: str = "clip.mp4") -> Span:
    """Return the file as a member of a new shard, between two members of the same bytes as neighbours."""
    data = Path(path).read_bytes()
    shard = write_shard(folder / "shard.tar", {"before.mp4": data, "short": b"x", name: data, "after.mp4": data})
    entry = located(shard, name)
    return Span(shard, entry.begin, entry.size)


def answer(read: Callable[[], Any]) -> Any:
    """Return what a reader returns, or the reason and the message of its error."""
    try:
        return read()
    except MediaError as error:
        return error.reason, error.message, error.unsupported


def everything(source: Source, decoders: list[str] = DECODERS) -> list[Any]:
    """Return all that readers make of a source: facts, starts, audio and frames."""
    info = answer(lambda: container.probe(source))
    answers = [info, answer(lambda: keyframes.probe(source, "id", Segments(count=3, seconds=1, window=1)))]
    timeline = list(info.timeline) if isinstance(info, container.MediaInfo) else None
    for known in (timeline, None):
        where: dict[str, Any] = {"starts": [0.0, 1.3, 2.6], "seconds": 1.0, "timeline": known}
        answers.append(answer(lambda where=where: first.audio(source, rate=16000, partial=True, **where)))
        for decoder in decoders:
            how = {"fps": 5.0, "resize": RESIZE, "crop": CROP, "decoder": decoder, "partial": True, **where}
            answers.append(answer(lambda how=how: first.video(source, **how)))
    return answers


def assert_equal(ours: list[Any], theirs: list[Any]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(other, Decoded):
            assert (mine.decoder, mine.mono_loss) == (other.decoder, other.mono_loss)
            np.testing.assert_array_equal(mine.segments, other.segments)
            np.testing.assert_array_equal(mine.good, other.good)
        else:
            assert mine == other


@pytest.mark.parametrize("name", LIBRARY)
def test_a_member_is_the_file(name: str, library: Files, tmp_path: Path) -> None:
    path = library(name)
    assert_equal(everything(in_shard(path, tmp_path)), everything(path))


@pytest.mark.parametrize("suffix", ["ts", "mpg", "flv", "mp4", "mkv"])
def test_a_member_whose_clock_breaks(suffix: str, tmp_path: Path) -> None:
    codecs = {"video": "mpeg2video", "audio": "mp2"} if suffix == "mpg" else {}
    path = timelines.joined(tmp_path, suffix, (0, 3, 6), **codecs)
    assert_equal(everything(in_shard(path, tmp_path)), everything(path))


@pytest.mark.parametrize("name", ["constant.mp4", "offset.ts", "vp9_opus.webm", "h264.flv", "mpeg4.avi", "mpeg2.mpg"])
def test_a_damaged_member_ends_where_it_ends(name: str, library: Files, tmp_path: Path) -> None:
    """The neighbours have what the file lacks: a reader that went on into them would get it.

    Without decord, which does not give the same for the same damaged file each time.
    """
    data = Path(library(name)).read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    for kind, content in {"cut": data[: len(data) * 2 // 3], "damaged": bytes(damaged), "head": data[:40]}.items():
        path = tmp_path / kind / name
        path.parent.mkdir()
        path.write_bytes(content)
        rest = data[len(content) :] or data
        shard = write_shard(tmp_path / f"{kind}.tar", {"a": content, "b": rest})
        entry = located(shard, "a")
        assert_equal(everything(Span(shard, entry.begin, entry.size), ["pyav"]), everything(str(path), ["pyav"]))


def test_playlists_and_inner_paths_are_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.mp4", Audio(1))
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "empty": "",
    }.items():
        shard = write_shard(tmp_path / "0.tar", {"pad": b"x", name: text.encode(), "after": Path(secret).read_bytes()})
        entry = located(shard, name)
        with pytest.raises(MediaError) as raised, open_media(Span(shard, entry.begin, entry.size)):
            pass
        assert raised.value.reason == "unreadable"


def test_positions_are_the_members_own(library: Files, tmp_path: Path) -> None:
    path = library("constant.mp4")
    found = []
    for source in (path, in_shard(path, tmp_path)):
        with open_media(source) as media:
            stream = media.only("video")
            entries = [(entry.pos, entry.size) for entry in stream.index_entries]
            found.append((media.content.size, entries, [p.pos for p in media.container.demux(stream)]))
            assert media.content.read(1 << 20, media.content.size - 3) == Path(path).read_bytes()[-3:]
            assert media.content.read(3, -3) == media.content.read(3, 1 << 70) == b""
    assert found[0] == found[1]


def test_members_through_the_pool(tmp_path: Path) -> None:
    path = write(tmp_path / "good.mp4", Video(regular(3, 25), gop=25), Audio(3))
    data = Path(path).read_bytes()
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as archive:
        add(archive, "./a/good.mp4", data)
        add(archive, "link.mp4", type=tarfile.SYMTYPE, linkname=path)
        add(archive, "../up.mp4", data)
        add(archive, "twice.mp4", data)
        add(archive, "twice.mp4", data)
        add(archive, "last.mp4", data)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(shard.read_bytes()[: located(str(shard), "last.mp4").begin + len(data) // 2])
    expected = {
        path: None, f"{shard}::a/good.mp4": None, f"{shard}::./a/good.mp4": None, f"{cut}::a/good.mp4": None,
        f"{shard}::none.mp4": ("missing", "no such member"), f"{tmp_path}/1.tar::a": ("missing", "no such shard"),
        f"{shard}::link.mp4": ("unreadable", "a link"), f"{shard}::../up.mp4": ("unreadable", "absolute"),
        f"{shard}::twice.mp4": ("unreadable", "2 members"), f"{cut}::last.mp4": ("unreadable", "inside the member"),
        "https://host/a.mp4": ("missing", "decoding.remote"), "ftp://host/a.mp4": ("missing", "protocol"),
    }  # fmt: skip
    request = {"requests": [VideoRequest(5.0, (64, 64), (64, 64))], "starts": [0.5], "seconds": 1.0, "decoder": "pyav"}
    tasks = [Task(text, "pipeline.readers.first:videos", {"path": text, **request}) for text in expected]
    copies, indexes = tmp_path / "copies", tmp_path / "indexes"
    copies.mkdir()
    for staging in (None, str(copies)):
        with Pool(1, Decoding(), indexes=indexes, staging=staging) as pool:
            answers = dict(pool.results(tasks, ahead=1))
        for text, failure in expected.items():
            if failure is None:
                np.testing.assert_array_equal(answers[text][0].segments, answers[path][0].segments)
            else:
                error = answers[text]
                assert error.reason == failure[0] and failure[1] in error.message
        assert not list(copies.iterdir())
    assert len(list(indexes.iterdir())) == 2  # of the shard and the one that is cut
