"""What is in a file, and how a file is opened: names, playlists, damage, limits. Writes only temporary files."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.readers import MediaError, opening
from pipeline.readers.audio import read_audio
from pipeline.readers.container import MediaInfo, probe
from pipeline.readers.video import read_video
from tests.support.commands import execute
from tests.support.media import Audio, Video, regular, write


def reason(path: str | Path) -> str:
    """Why the file cannot be used; probe and both readers must agree."""
    reasons = set()
    for function in (
        probe,
        lambda path: read_audio(path, [0.0], 0.5, 16000).segments,
        lambda path: read_video(path, [0.0], 0.5, fps=10, resize=(112, 112), crop=(112, 112)),
    ):
        with pytest.raises(MediaError) as raised:
            function(str(path))
        assert raised.value.message and str(path) not in raised.value.message
        reasons.add(raised.value.reason)
    assert len(reasons) == 1
    return reasons.pop()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(write(tmp_path / "clip.mp4", Video(regular(2, 25), bframes=2), Audio(2)))


def test_facts_of_a_video(clip: Path) -> None:
    assert probe(str(clip)) == MediaInfo(2.0, True, True, "aac", "h264", 160, 120, 25.0)


def test_facts_of_one_stream(tmp_path: Path) -> None:
    audio = probe(write(tmp_path / "audio.mp4", Audio(3)))
    assert audio.duration == pytest.approx(3, abs=0.03)
    assert replace(audio, duration=3) == MediaInfo(3, True, False, "aac", None, None, None, None)
    silent = probe(write(tmp_path / "silent.mkv", Video(regular(2, 30), bframes=2)))
    assert silent.duration == pytest.approx(2, abs=0.001)
    assert replace(silent, duration=2) == MediaInfo(2, False, True, None, "h264", 160, 120, 30.0)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi", "flv"])
@pytest.mark.parametrize("video_seconds, audio", [(6, 4), (4, 6)])
def test_duration_is_what_both_streams_cover(extension: str, video_seconds: int, audio: int, tmp_path: Path) -> None:
    path = write(
        tmp_path / f"uneven.{extension}", Video(regular(video_seconds, 25), time_base=Fraction(1, 25)), Audio(audio)
    )
    assert probe(path).duration == pytest.approx(4, abs=0.1)


def test_duration_counts_from_where_the_file_begins(tmp_path: Path) -> None:
    for name in ("offset.mkv", "offset.ts", "offset.mp4"):
        path = write(tmp_path / name, Video(regular(3, 25, 7.0), bframes=2), Audio(10, 7))
        assert probe(path).duration == pytest.approx(3, abs=0.05)


def test_duration_of_a_container_that_does_not_say(tmp_path: Path) -> None:
    video = Video(regular(3, 25), "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})
    path = write(tmp_path / "live.webm", video, Audio(2.5, codec="libopus", rate=48000), options={"live": "1"})
    with av.open(path) as container:
        assert container.duration is None
    assert probe(path).duration == pytest.approx(2.5, abs=0.05)


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = str(tmp_path / "song.m4a")
    with av.open(path, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        cover_frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(
            format="yuvj420p"
        )
        cover_frame.pts = 0
        container.mux(cover.encode(cover_frame))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with av.open(path) as container:
        assert len(container.streams.video) == 1
    info = probe(path)
    assert info.has_audio and not info.has_video and info.width is None
    with pytest.raises(MediaError) as raised:
        read_video(path, [0.0], 0.5, fps=10, resize=(112, 112), crop=(112, 112))
    assert raised.value.reason == "no_video_stream"


def attach(path: Path, source: Path, fonts: int = 0, data: int = 0, audio_streams: int = 1, cover: bool = False) -> str:
    """A file with the streams of `source` behind cover art, and with data or fonts."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as container:
        template = {"video": clip.streams.video[0], "audio": clip.streams.audio[0]}
        if cover:
            cover_frame: Any = container.add_stream("mjpeg", rate=1)
            cover_frame.width, cover_frame.height, cover_frame.pix_fmt = 1200, 1200, "yuvj420p"
            cover_frame.disposition = av.stream.Disposition.attached_pic
        copies = {
            kind: [container.add_stream_from_template(stream) for _ in range(audio_streams if kind == "audio" else 1)]
            for kind, stream in template.items()
        }
        for _ in range(data):
            container.add_data_stream("klv")
        for number in range(fonts):
            container.add_attachment(f"{number}.ttf", "application/x-truetype-font", b"font" * 100)
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((1200, 1200, 3), 255, np.uint8), format="rgb24")
            frame.pts = 0
            for packet in cover_frame.encode(frame) + cover_frame.encode(None):
                container.mux(packet)
        for packet in clip.demux():
            for stream in copies[packet.stream.type] if packet.size else ():
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.duration, copy.is_keyframe, copy.stream = packet.duration, packet.is_keyframe, stream
                container.mux(copy)
    return str(path)


@pytest.mark.parametrize("extension, more", [
    ("mkv", {"fonts": 70}), ("mkv", {"fonts": 70, "cover": True}), ("mp4", {"cover": True}), ("ts", {"data": 70})
])  # fmt: skip
def test_what_is_no_audio_and_no_video_does_not_count(
    extension: str, more: dict[str, Any], clip: Path, tmp_path: Path
) -> None:
    path, plain = attach(tmp_path / f"a.{extension}", clip, **more), attach(tmp_path / f"b.{extension}", clip)
    with av.open(path) as container:
        assert len(container.streams) == 2 + sum(more.values())
    info, known = probe(path), probe(plain)
    assert info.duration == pytest.approx(known.duration, abs=0.05)
    assert (info.width, info.height, info.video_codec) == (known.width, known.height, known.video_codec)
    assert (read_audio(path, [0.5], 1.0, 16000).segments == read_audio(plain, [0.5], 1.0, 16000).segments).all()
    how: dict[str, Any] = {"fps": 10, "resize": (112, 112), "crop": (112, 112)}
    assert (read_video(path, [0.5], 1.0, **how) == read_video(plain, [0.5], 1.0, **how)).all()


def test_too_many_audio_streams(clip: Path, tmp_path: Path) -> None:
    path = attach(tmp_path / "a.mkv", clip, audio_streams=64)
    with pytest.raises(MediaError, match="65 audio and video streams; more than 64") as raised:
        probe(path)
    assert raised.value.reason == "unreadable"
    assert probe(attach(tmp_path / "b.mkv", clip, audio_streams=63)).has_video


NAMES = [
    "-i.mp4",
    "a%03d.mp4",
    "new\nline.mp4",
    "quo'te\".mp4",
    "späce 音楽.mp4",
    "http:x.mp4",
    "concat:a|b",
    "%s",
    ".mp4",
]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe.mp4")])
def test_any_name_is_just_a_name(name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    for path in (name, str(tmp_path / name)):
        assert probe(path).duration == 2.0
        assert read_audio(path, [0.5], 0.5, 16000).segments.shape == (1, 8000)
        assert read_video(path, [0.5], 0.5, fps=10, resize=(112, 112), crop=(112, 112)).shape == (1, 5, 112, 112, 3)


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    for path in ("none.mp4", "dangling.mp4", "x" * 300, "http://127.0.0.1:9/x.mp4", "file:clip.mp4", "a\0b"):
        assert reason(tmp_path / path) == "missing"


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "pipe.mp4", tmp_path / "folder.mp4", Path("/dev/zero")):
        assert reason(path) == "unreadable"


def test_what_is_not_media(clip: Path, tmp_path: Path) -> None:
    contents = {
        "empty.mp4": b"",
        "zeros.mp4": bytes(100_000),
        "text.mp4": b"hello " * 1000,
        "noise.mp4": np.random.default_rng(0).bytes(100_000),
        "head.mp4": clip.read_bytes()[:600],
        "subtitles.srt": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
        "image.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == "unreadable", name


def test_playlists_are_not_followed(clip: Path, tmp_path: Path) -> None:
    stream = write(tmp_path / "real.ts", Video(regular(2, 25)), Audio(2))
    hls = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nreal.ts\n#EXT-X-ENDLIST\n"
    contents = {
        "list.m3u8": hls,
        "list.mp4": hls,
        "bom.m3u8": b"\xef\xbb\xbf\n" + hls,
        "concat.txt": b"ffconcat version 1.0\nfile clip.mp4\n",
        "dash.mpd": b'<?xml version="1.0"?><MPD><Period><AdaptationSet/></Period></MPD>',
        "list.pls": b"[playlist]\nFile1=clip.mp4\n",
        "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        # FFmpeg's own graph language opens files by name.
        "graph.lavfi": f"movie={clip}".encode(),
        # Read to the end this is a transport stream.
        "both.ts": hls + bytes(120) + Path(stream).read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == "unreadable", name


def test_limits(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = write(tmp_path / "many.mkv", *[Audio(0.1, codec="pcm_s16le", rate=8000)] * (opening.MAX_STREAMS + 1))
    assert reason(many) == "unreadable"
    monkeypatch.setattr(opening, "MAX_PIXELS", 160 * 119)
    assert reason(clip) == "unreadable"


def test_ffmpeg_says_nothing(clip: Path, tmp_path: Path) -> None:
    """In a process of its own, since FFmpeg writes to the standard error of the process."""
    data = bytearray(clip.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = bytes(4000)
    (tmp_path / "broken.mp4").write_bytes(data)
    script = """
import sys
from pipeline.readers import MediaError
from pipeline.readers.audio import read_audio
from pipeline.readers.container import probe
from pipeline.readers.video import read_video
for read in (probe, lambda p: read_audio(p, [0.0], 2.0, 16000).segments,
             lambda p: read_video(p, [0.0], 1.5, fps=10, resize=(112, 112), crop=(112, 112))):
    try:
        read(sys.argv[1])
    except MediaError as error:
        print(error.reason)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "broken.mp4")]
    done = execute(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "decode_error" in done.stdout


def test_a_seek_reads_little(tmp_path: Path) -> None:
    """FFmpeg would fill a buffer of twice the bytes of a second."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    video = Video(regular(4, 25), "mjpeg", 640, 480, pix_fmt="yuvj420p", draw=lambda *_: noise)
    path = write(tmp_path / "large.mov", video, Audio(4))
    before = bytes_read()
    with opening.open_media(path) as media:
        stream = media.only("video")
        media.container.seek(round(2 / stream.time_base), stream=stream)
        packet = next(media.container.demux(stream))
    assert packet.size > 40_000 and bytes_read() - before < os.stat(path).st_size / 4


def bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
