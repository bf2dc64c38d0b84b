"""Files whose time is wrong: audio and video of a segment are the same content, or a reason says why not."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.readers import MediaError, first, timeline
from pipeline.readers.audio import read_audio
from pipeline.readers.container import probe
from pipeline.readers.follow import AHEAD, BACK, unbroken
from pipeline.readers.opening import open_media
from pipeline.readers.timeline import Timeline
from pipeline.readers.video import read_video
from tests.support.library import LIBRARY, Files
from tests.support.media import Audio, Video, regular, write
from tests.support.timelines import HOW, SYNC, changed, joined, offsets, streams, whole

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
MPEG = {"video": "mpeg2video", "audio": "mp2"}
VP = {"video": "libvpx", "audio": "libopus"}
JOINED: dict[str, tuple[str, dict[str, Any]]] = {
    "transport stream": ("ts", {}),
    "transport stream, MPEG-2": ("ts", MPEG),
    "program stream (VOB cells)": ("vob", MPEG),
    "FLV": ("flv", {"skip": 13}),
    "fragmented MP4": ("mp4", {"options": FRAGMENTS}),
    "WebM": ("webm", VP),
    "WebM, live": ("webm", {**VP, "options": {"live": "1"}}),
    "Matroska": ("mkv", {}),
}


def in_sync(path: str, *starts: float) -> None:
    for start in starts:
        for stored in (True, False) if start == starts[-1] else (True,):
            assert max(map(abs, offsets(path, start, stored=stored))) < SYNC, (start, stored)


@pytest.mark.parametrize("name", JOINED)
def test_a_clock_that_starts_again_is_continued(name: str, tmp_path: Path) -> None:
    suffix, how = JOINED[name]
    path = joined(tmp_path, suffix, (0, 8, 14), **how)
    info = probe(path)
    assert info.duration == pytest.approx(14, abs=0.3) and len(Timeline.of(info.timeline).pieces) == 2
    in_sync(path, 0.4, 3.3, 6.6, 9.2, 10.6)  # one of them across the joint
    audio = read_audio(path, [10.6], 2.0, 16000, timeline=info.timeline).segments
    assert np.abs(audio).max() > 0.2


def test_many_joints_and_one_that_steps_back_by_little(tmp_path: Path) -> None:
    path = joined(tmp_path, "ts", (0, 3, 8, 9.5, 14), shifts=(50, 49, 40, 12))
    assert len(Timeline.of(probe(path).timeline).pieces) == 4
    in_sync(path, 0.2, 2.1, 7.2, 8.5, 10.4)


@pytest.mark.parametrize(
    "suffix, how", [("ts", {}), ("vob", MPEG), ("flv", {"skip": 13}), ("mp4", {"options": FRAGMENTS})]
)
def test_a_hole_in_the_clock_is_no_content(suffix: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = joined(tmp_path, suffix, (0, 7, 14), shifts=(0, 5000), **how)
    assert probe(path).duration == pytest.approx(14, abs=0.3)
    in_sync(path, 0.4, 5.6, 8.2, 10.6)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_hole_in_an_index(suffix: str, tmp_path: Path) -> None:
    """As a copy of such a transport stream has it; in MP4 the last sample before the hole claims to fill it."""

    def leap(packet: Any) -> bool:
        if packet.pts * packet.time_base >= 5:
            packet.pts, packet.dts = (t + round(900 / packet.time_base) for t in (packet.pts, packet.dts))
        return True

    path = write(tmp_path / f"hole.{suffix}", *streams(0, 10), keep=leap)
    assert probe(path).duration == pytest.approx(10, abs=0.3)
    in_sync(path, 0.4, 3.4, 6.2)


def test_a_pause_of_one_stream_is_no_hole(tmp_path: Path) -> None:
    times = [t for t in regular(40, 5) if not 8 < t < 30]
    path = write(tmp_path / "pause.ts", Video(times, gop=5), Audio(40))
    assert probe(path).timeline == () and probe(path).duration == pytest.approx(40, abs=0.3)


@pytest.mark.parametrize("shift", [95400, 95437.72, 95443.0])
@pytest.mark.parametrize("suffix, how", [("ts", {}), ("vob", MPEG)])
def test_a_clock_below_zero_or_about_to_wrap(suffix: str, how: dict[str, Any], shift: float, tmp_path: Path) -> None:
    path = whole(tmp_path, suffix, shift=shift, **how)
    assert probe(path).duration == pytest.approx(12, abs=0.4)
    in_sync(path, 0.3, 4.6, 8.2)


def scale(name: bytes, factor: float) -> Any:
    def change(data: bytearray) -> None:
        position = data.find(name)
        while position >= 0:
            low = position + 20
            data[low : low + 4] = round(int.from_bytes(data[low : low + 4]) * factor).to_bytes(4)
            position = data.find(name, position + 4)

    return change


@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_a_header_with_another_duration(factor: float, tmp_path: Path) -> None:
    path = changed(whole(tmp_path, "mp4", options={"use_editlist": "0"}), scale(b"mdhd", factor))
    with av.open(path) as container:
        stated = container.streams.video[0]
        assert float(stated.duration * stated.time_base) == pytest.approx(12 * factor, abs=0.1)
    assert probe(path).duration == pytest.approx(12, abs=0.2)
    in_sync(path, 8.3)


@pytest.mark.parametrize(
    "suffix, how",
    [
        ("mp4", {"options": {"movflags": "faststart"}}),
        ("mp4", {"options": FRAGMENTS}),
        ("mkv", {}),
        ("ts", {}),
        ("flv", {}),
    ],
)
def test_a_file_that_was_cut_off_is_used_as_far_as_it_goes(suffix: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = whole(tmp_path, suffix, **how)
    os.truncate(path, os.path.getsize(path) // 2)
    length = probe(path).duration
    assert 4 < length < 8
    in_sync(path, 0.4, length - 3)


def test_fragments_that_begin_late_do_not_last_longer(tmp_path: Path) -> None:
    path = whole(tmp_path, "mp4", shift=8.0, options={**FRAGMENTS, "use_editlist": "0"})
    assert probe(path).duration == pytest.approx(12, abs=0.3)
    in_sync(path, 0.4, 8.4)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_frames_of_an_avi_are_in_sync(codec: str, tmp_path: Path) -> None:
    path = whole(tmp_path, "avi", video=codec, audio="pcm_s16le")
    in_sync(path, 0.2, 3.7, 8.1)


STILLS = {
    "mp4": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "mkv": ("mjpeg", "flac"),
    "ts": ("mpeg2video", "mp2"),
    "vob": ("mpeg2video", "mp2"),
}


@pytest.mark.parametrize("suffix", STILLS)
def test_a_still_image_with_a_song(suffix: str, tmp_path: Path) -> None:
    video, audio = STILLS[suffix]
    pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
    still = Video([0.0], video, pix_fmt=pix_fmt, time_base=Fraction(1, 25))
    path = write(tmp_path / f"still.{suffix}", still, Audio(9, codec=audio, rate=48000))
    info = probe(path)
    assert info.duration == pytest.approx(9, abs=0.2)
    assert np.abs(read_audio(path, [5.5], 3.0, 16000, timeline=info.timeline).segments).max() > 0.1
    for stored in (info.timeline, None):
        with pytest.raises(MediaError) as raised:
            read_video(path, [0.0], 1.0, **HOW, timeline=stored)
        assert raised.value.reason == "still_image" and raised.value.filtered


def test_one_clock_that_steps_back_alone_is_refused(tmp_path: Path) -> None:
    path = changed(whole(tmp_path, "ts"), lambda data: earlier(data, len(data) // 2, 4.0))
    for read in (
        lambda: probe(path),
        lambda: read_audio(path, [0.0], 3.0, 16000).segments,
        lambda: read_video(path, [0.0], 3.0, **HOW),
    ):
        with pytest.raises(MediaError, match="the clock of the video steps back by 4") as raised:
            read()
        assert raised.value.reason == "discontinuous" and not raised.value.filtered


def earlier(data: bytearray, begin: int, seconds: float) -> None:
    """Take `seconds` off the stamps of the video in a transport stream, from a position on (ISO/IEC 13818-1, 2.4.3)."""
    position = data.find(b"\0\0\1\xe0", begin)
    while position >= 0:
        for field in (position + 9, position + 14)[: {2: 1, 3: 2}.get(data[position + 7] >> 6, 0)]:
            a, b, c, d, e = data[field : field + 5]
            ticks = (a & 14) << 29 | b << 22 | (c & 254) << 14 | d << 7 | e >> 1
            ticks -= round(seconds * 90000)
            data[field : field + 5] = bytes(
                [
                    a & 0xF1 | ticks >> 29 & 14,
                    ticks >> 22 & 255,
                    ticks >> 14 & 254 | 1,
                    ticks >> 7 & 255,
                    ticks << 1 & 254 | 1,
                ]
            )
        position = data.find(b"\0\0\1\xe0", position + 4)


@pytest.mark.parametrize("name", LIBRARY)
def test_files_that_are_right_have_no_timeline(name: str, library: Files) -> None:
    assert probe(library(name)).timeline == () and probe(library(name)).begin == 0


@pytest.mark.parametrize(
    "name", ["constant.mp4", "fragmented.mp4", "offset.ts", "vp9_opus.webm", "mpeg4.avi", "h264.flv"]
)
def test_files_that_are_right_are_not_followed(name: str, library: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all packets of every file would make probing many times slower."""
    monkeypatch.setattr(timeline, "follow", None)
    assert probe(library(name)).duration > 0


def test_decord_sends_on_a_clock_that_breaks(tmp_path: Path) -> None:
    path = joined(tmp_path, "mkv", (0, 4, 8))
    kept = probe(path).timeline
    decoded = first.video(path, decoder="decord", starts=[4.5], seconds=1.0, timeline=kept, **HOW)
    assert decoded.decoder == "pyav"


def test_a_timeline_is_the_same_after_it_was_kept() -> None:
    numbers = [1.5, 0.0, 20.0, 0.0, 100.0, 200.0, 0.0, -1.0, 4e9, -4989.25]
    assert Timeline.of(numbers).numbers() == numbers
    assert BACK < AHEAD


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_break_that_the_probe_has_not_seen_is_no_content(kind: Any, tmp_path: Path) -> None:
    path = joined(tmp_path, "ts", (0, 4, 8))
    with open_media(path) as media, pytest.raises(MediaError, match="steps back") as raised:
        list(unbroken(media.container.demux(media.only(kind))))
    assert raised.value.reason == "discontinuous"
