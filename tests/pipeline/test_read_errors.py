"""A disk or network error while a video is read is a reason for that video, and never stops a job."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from config.cli import UserError
from data.places import File, Member
from pipeline import staging
from pipeline.access import Access, opened
from pipeline.readers import MediaError
from pipeline.readers.opening import open_media
from tests.support.shards import write_shard


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"v" * 3_000_000)
    return str(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_reading_in_place(tmp_path, video, monkeypatch, number):
    shard = write_shard(tmp_path / "0.tar", {"a.mp4": b"v" * 600})
    monkeypatch.setattr(os, "pread", failing(number))
    opened_here, closed = [], []
    real_open, real_close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *arguments: opened_here.append(real_open(*arguments)) or opened_here[-1])
    monkeypatch.setattr(os, "close", lambda descriptor: closed.append(descriptor) or real_close(descriptor))
    for place in (File(video), Member(shard, "a.mp4")):
        with (
            pytest.raises(MediaError, match=f"cannot be read: {os.strerror(number)}") as raised,
            opened(place, Access()) as source,
            open_media(source),
        ):
            pass
        assert raised.value.reason == "unreadable"
    assert len(opened_here) == 2 and closed == opened_here


class Failing:
    """A file whose second read fails."""

    def __init__(self, file):
        self.file, self.reads = file, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def seek(self, position):
        self.file.seek(position)

    def read(self, count):
        self.reads += 1
        return self.file.read(count) if self.reads == 1 else failing(errno.EIO)()


def test_copying(tmp_path, video, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    real = open

    def with_read_errors(path, *arguments, **options):
        file = real(path, *arguments, **options)
        return Failing(file) if path == video else file

    monkeypatch.setattr(staging, "open", with_read_errors, raising=False)
    with pytest.raises(MediaError, match="Input/output error") as raised, staging.staged(video, str(folder)):
        pass
    assert raised.value.reason == "unreadable" and not list(folder.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(staging, "_write", failing(errno.ENOSPC))
    with (
        pytest.raises(UserError, match=r"decoding\.staging: .*scratch: No space left"),
        staging.staged(video, str(folder)),
    ):
        pass
    assert not list(folder.iterdir())
    monkeypatch.undo()
    with staging.staged(video, str(folder)) as copy:
        assert Path(copy).read_bytes() == Path(video).read_bytes()
    with pytest.raises(UserError, match="No such file"), staging.staged(video, str(tmp_path / "gone")):
        pass
