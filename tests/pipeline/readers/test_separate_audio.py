"""The audio of a video may be a file of its own: both are read at the same moments, where both have content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.known import clicks
from config.pipeline import Segments
from data.segments import segment_starts
from eval.report.clip import clip
from pipeline.extract import _file
from pipeline.readers import MediaError, container, keyframes
from pipeline.readers.audio import read_audio
from pipeline.readers.video import read_video
from tests.support.library import RESIZE
from tests.support.media import Audio, Video, numbers, write
from tests.support.timelines import FPS, HOW, RATE, SECONDS, SYNC, WAVE, joined, streams

SECONDS_LONG = 12.0


def track(path: Path, offset: float, end: float = SECONDS_LONG, codec: str = "aac", **how: Any) -> str:
    """Write audio in which the clicking content begins at second `offset` (before its beginning if negative)."""

    def wave(t: np.ndarray) -> np.ndarray:
        return np.interp(t - offset, np.arange(SECONDS * RATE) / RATE, WAVE, left=0.0)

    return write(path, Audio(end + offset, codec=codec, rate=48000, wave=wave), **how)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve seconds of numbered frames without audio."""
    return write(tmp_path_factory.mktemp("silent") / "clip.mp4", streams(0, SECONDS_LONG)[0])


KINDS = {
    "a.m4a": {"codec": "aac"},
    "a.aac": {"codec": "aac", "format": "adts"},
    "a.mp3": {"codec": "mp3"},
    "bare.mp3": {"codec": "mp3", "options": {"write_xing": "0"}},
    "a.flac": {"codec": "flac"},
    "a.wav": {"codec": "pcm_s16le"},
    "a.ogg": {"codec": "libopus"},
    "a.mka": {"codec": "libopus", "format": "matroska"},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("offset", [0.0, 3.5, -2.0])
def test_audio_and_video_are_the_same_seconds(name: str, offset: float, silent: str, tmp_path: Path) -> None:
    audio = track(tmp_path / name, offset, **KINDS[name])
    info = container.probe(silent, audio, offset)
    assert info.begin == pytest.approx(max(0.0, -offset), abs=0.05) and info.has_audio and info.has_video
    assert info.duration == pytest.approx(SECONDS_LONG, abs=0.1)
    for start in (info.begin + 0.4, info.duration - 3.2):
        row = {"path": silent, "audio_path": audio, "audio_offset": offset, "sha256": None}
        heard = _file(row, "audio", [start], [])
        seen = _file(row, "video", [start], list(info.timeline))
        sound = read_audio(**heard, seconds=3.0, rate=16000).segments[0]
        frames = numbers(read_video(**seen, seconds=3.0, **HOW), RESIZE)[0]
        found = clicks(sound, 16000)
        assert len(found) >= 2
        for second, moment in found:
            k = min(int(moment * 10), len(frames) - 1)
            assert abs(frames[k] / FPS + moment - k / 10 - second) <= SYNC


def test_segments_lie_where_both_have_content(silent: str, tmp_path: Path) -> None:
    spec = Segments(count=2, seconds=3, window=3)
    short = track(tmp_path / "short.wav", 1.0, end=8.0, codec="pcm_s16le")
    info = container.probe(silent, short, 1.0)
    assert (info.begin, info.duration) == (0.0, pytest.approx(8.0, abs=0.03))
    late = container.probe(silent, track(tmp_path / "late.wav", -5.0, codec="pcm_s16le"), -5.0)
    assert (late.begin, late.duration) == (5.0, pytest.approx(12.0, abs=0.03))
    none = container.probe(silent, short, 100.0)
    assert none.duration == none.begin and segment_starts("id", none.duration - none.begin, spec) is None
    moved = keyframes.probe(silent, "id", Segments(count=2, seconds=3, window=3, start="keyframe"), short, 1.0)
    assert all(0 <= start <= info.duration - 3 for start in moved.starts) and moved.at_keyframes


def test_what_the_files_have_besides_does_not_count(silent: str, tmp_path: Path) -> None:
    """A clip whose own audio cannot be aligned, and an audio track with pictures."""
    audio = track(tmp_path / "a.wav", 0.0, codec="pcm_s16le")
    with_audio = write(tmp_path / "short.mkv", streams(0, SECONDS_LONG)[0], Audio(2.0))
    assert container.probe(with_audio).duration == pytest.approx(2.0, abs=0.1)
    assert container.probe(with_audio, audio).duration == pytest.approx(SECONDS_LONG, abs=0.1)
    film = write(tmp_path / "film.mp4", streams(0, 2.0)[0], streams(0, SECONDS_LONG)[1])
    assert container.probe(silent, film).duration == pytest.approx(SECONDS_LONG, abs=0.1)
    restarted = joined(tmp_path, "ts", (0, 6, 12))
    info = container.probe(restarted, audio)
    assert info.duration == pytest.approx(SECONDS_LONG, abs=0.2) and info.timeline


def test_a_still_image_beside_a_track(tmp_path: Path) -> None:
    """As in one file: the audio has its segments, the video is filtered."""
    picture = Video([0.0], gop=1, draw=lambda k, width, height: np.full((height, width, 3), 90, np.uint8))
    still = write(tmp_path / "still.mp4", picture)
    info = container.probe(still, track(tmp_path / "a.wav", 2.0, codec="pcm_s16le"), 2.0)
    assert (info.begin, info.duration) == (0.0, pytest.approx(SECONDS_LONG, abs=0.05))
    with pytest.raises(MediaError) as raised:
        read_video(still, [0.0], 3.0, **HOW, timeline=list(info.timeline), kinds=("video",))
    assert raised.value.reason == "still_image"


def test_what_is_missing_is_named(silent: str, tmp_path: Path) -> None:
    sound = track(tmp_path / "a.wav", 0.0, codec="pcm_s16le")
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(bytes(5000))
    for path, audio, reason, words in (
        (silent, silent, "no_audio_stream", "audio_path: the file has no audio"),
        (sound, sound, "no_video_stream", "no video"),
        (silent, str(tmp_path / "none.mp3"), "missing", "audio_path: there is no such file"),
        (silent, str(broken), "unreadable", "audio_path: "),
        (str(tmp_path / "none.mp4"), sound, "missing", "there is no such file"),
    ):
        with pytest.raises(MediaError) as raised:
            container.probe(path, audio)
        assert raised.value.reason == reason and words in raised.value.message


def test_a_clip_of_the_report_plays_the_track(silent: str, tmp_path: Path) -> None:
    audio = track(tmp_path / "a.wav", 4.0, codec="pcm_s16le")
    clip(silent, 3.0, 3.0, str(tmp_path / "cut"), "pyav", audio_path=audio, audio_offset=4.0)
    heard = read_audio(str(tmp_path / "cut.mp4"), [0.0], 3.0, 16000).segments[0]
    seconds = [(second, moment) for second, moment in clicks(heard, 16000)]
    assert len(seconds) >= 2 and all(second - moment == pytest.approx(3.0, abs=0.05) for second, moment in seconds)
