"""Sound at given seconds: position, level, channels, aliases against a known function of time. Temporary files only."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.readers import MediaError
from pipeline.readers.audio import read_audio
from tests.media import Audio, Video, chirp, regular, write

RATE = 16000
PICTURES = Video(regular(8, 25), bframes=2)
VP9 = Video(regular(8, 25), "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})

# Containers that say where the sound is; FLV, AVI and transport streams do not, they leave out the encoder's delay.
CASES: dict[str, tuple[Audio, Video | None]] = {
    "aac_44100.mp4": (Audio(8), PICTURES),
    "aac_48000.mp4": (Audio(8, rate=48000), PICTURES),
    "aac_22050_mono.mp4": (Audio(8, rate=22050, gains=(1.0,)), PICTURES),
    "aac.mkv": (Audio(8), PICTURES),
    "opus.webm": (Audio(8, codec="libopus", rate=48000), VP9),
    "flac_44100.mkv": (Audio(8, codec="flac"), PICTURES),
    "flac_48000.mkv": (Audio(8, codec="flac", rate=48000), PICTURES),
    "wav.mkv": (Audio(8, codec="pcm_s16le"), PICTURES),
    "wav_16000.mkv": (Audio(8, codec="pcm_s16le", rate=16000), PICTURES),
    "vorbis.mkv": (Audio(8, codec="vorbis"), PICTURES),
    "mp3.mp4": (Audio(8, codec="libmp3lame"), PICTURES),
    "late_aac.mp4": (Audio(8, 1.5), PICTURES),
    "late_flac.mkv": (Audio(8, 1.5, codec="flac"), PICTURES),
}

Files = Callable[[str], str]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A function that makes a file of CASES, once."""
    folder = tmp_path_factory.mktemp("sounds")

    @cache
    def make(name: str) -> str:
        audio, video = CASES[name]
        # The edit list of an mp4 counts in ms unless told otherwise; a late start would be rounded.
        options = {"movie_timescale": str(audio.rate)} if name.startswith("late") and name.endswith("mp4") else {}
        return write(folder / name, *([video] if video else []), audio, options=options)

    return make


def lag(got: np.ndarray, wanted: np.ndarray) -> float:
    """By how many samples `got` is later than `wanted`, to a sixteenth."""
    n = 2 * len(got)
    correlation = np.fft.irfft(np.fft.rfft(got, n) * np.conj(np.fft.rfft(wanted, n)), 16 * n)
    peak = int(np.argmax(correlation))
    return (peak if peak < 8 * n else peak - 16 * n) / 16


@pytest.mark.parametrize("name", CASES)
def test_position_and_level(name: str, files: Files) -> None:
    audio, _ = CASES[name]
    starts = [0.0, 0.7, 2.3333, 4.99999]
    clips = read_audio(files(name), starts, 3.0, RATE)
    assert clips.shape == (4, 48000) and clips.dtype == np.float32
    for start, clip in zip(starts, clips, strict=True):
        t = (round(start * RATE) + np.arange(48000)) / RATE
        wanted = chirp(t) * np.mean(audio.gains) * (t >= audio.start)
        clear = (t > audio.start + 0.05) & (t < audio.end - 0.05)
        assert abs(lag(clip * clear, wanted * clear)) <= 2
        level = (clip * wanted * clear).sum() / (wanted**2 * clear).sum()
        assert abs(level - 1) < (0.04 if "mp3" in name else 0.02)
        assert np.abs(clip[t < audio.start - 0.05]).max(initial=0) < 1e-3


@pytest.mark.parametrize("codec", ["aac", "libopus", "flac"])
def test_clicks_are_where_they_were_put(codec: str, tmp_path: Path) -> None:
    at = np.array([0.25, 1.1, 2.0001, 3.7])

    def clicks(t: np.ndarray) -> np.ndarray:  # 1 ms pulses, narrow enough to locate and wide enough for a codec
        return 0.8 * np.exp(-(((t[:, None] - at) / 0.0005) ** 2)).sum(1)

    path = write(
        tmp_path / ("a.webm" if codec == "libopus" else "a.mkv"), Audio(5, codec=codec, rate=48000, sound=clicks)
    )
    for start in (0.0, 0.1, 1.05):
        clip = read_audio(path, [start], 3.5, RATE)[0]
        for click in at[(at > start) & (at < start + 3.4)]:
            near = round((click - start) * RATE)
            window = clip[max(0, near - 200) : near + 200]
            assert abs(int(np.argmax(window)) + max(0, near - 200) - (click - start) * RATE) <= 2


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["flac_44100.mkv", "flac_48000.mkv", "wav.mkv", "wav_16000.mkv"]),
    start=st.floats(0, 6.9),
    seconds=st.floats(0.05, 1.0),
    rate=st.sampled_from([16000, 22050, 8000]),
)
def test_lossless_sound_equals_the_function(files: Files, name: str, start: float, seconds: float, rate: int) -> None:
    clip = read_audio(files(name), [start], seconds, rate)[0]
    assert len(clip) == round(seconds * rate)
    t = (round(start * rate) + np.arange(len(clip))) / rate
    clear = t > 0.02  # the sound begins abruptly, which rings when resampled
    assert np.abs(clip - chirp(t))[clear].max(initial=0) < 2e-3


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    for gains in ((0.8, 0.2), (1.0, -1.0), (1.0, 0.0)):
        path = write(tmp_path / "stereo.mkv", Audio(2, codec="flac", gains=gains))
        clip = read_audio(path, [0.5], 1.0, RATE)[0]
        assert np.abs(clip - np.mean(gains) * chirp(0.5 + np.arange(RATE) / RATE)).max() < 2e-3


@pytest.mark.parametrize(
    "hertz, low, high", [(1000, 0.999, 1.001), (7000, 0.97, 1.01), (9000, 0, 1e-4), (15000, 0, 1e-4)]
)
def test_what_the_new_rate_cannot_hold_is_removed(hertz: int, low: float, high: float, tmp_path: Path) -> None:
    path = write(tmp_path / "tone.mkv", Audio(2, codec="flac", sound=lambda t: 0.5 * np.sin(2 * np.pi * hertz * t)))
    level = read_audio(path, [0.5], 1.0, RATE)[0].std() / (0.5 / np.sqrt(2))
    assert low <= level <= high


@pytest.mark.parametrize("name", ["aac_44100.mp4", "opus.webm", "flac_44100.mkv", "vorbis.mkv"])
def test_order_and_overlap_of_segments_do_not_matter(name: str, files: Files) -> None:
    starts = [4.0, 0.5, 4.5, 0.5]
    together = read_audio(files(name), starts, 1.0, RATE)
    for start, clip in zip(starts, together, strict=True):
        assert np.abs(read_audio(files(name), [start], 1.0, RATE)[0] - clip).max() < 1e-5
    assert read_audio(files(name), [], 1.0, RATE).shape == (0, RATE)


def test_where_the_sound_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "short.mkv", PICTURES, Audio(5, codec="flac"))
    tail = read_audio(path, [2.3], 3.0, RATE)[0]
    assert (
        np.abs(tail[round(2.7 * RATE) + 50 :]).max() < 1e-2 < np.abs(tail[round(2.6 * RATE) : round(2.7 * RATE)]).max()
    )
    for start, reason in ((2.6, "decode_error"), (5.0, "empty_audio"), (6.5, "empty_audio")):
        with pytest.raises(MediaError) as raised:
            read_audio(path, [0.0, start], 3.0, RATE)
        assert raised.value.reason == reason


def test_a_segment_before_the_sound_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mkv", PICTURES, Audio(8, 4, codec="flac"))
    with pytest.raises(MediaError) as raised:
        read_audio(path, [0.5], 3.0, RATE)
    assert raised.value.reason == "empty_audio"
    assert np.abs(read_audio(path, [2.0], 3.0, RATE)[0, : 2 * RATE - 50]).max() < 1e-2


def test_a_hole_in_the_sound_is_damage(tmp_path: Path) -> None:
    def keep(packet: Any) -> bool:
        return packet.stream.type == "video" or not 3 <= packet.pts * packet.time_base < 3.5

    path = write(tmp_path / "hole.mkv", PICTURES, Audio(8, codec="flac"), keep=keep)
    assert read_audio(path, [0.0, 4.0], 2.8, RATE).shape == (2, 44800)
    with pytest.raises(MediaError, match="missing from 3.0. to 3.[45]. s") as raised:
        read_audio(path, [2.0], 3.0, RATE)
    assert raised.value.reason == "decode_error"


def test_damage_in_a_segment_is_an_error_and_elsewhere_is_not(files: Files, tmp_path: Path) -> None:
    with av.open(files("aac_44100.mp4")) as container:
        demuxed: list[Any] = [p for p in container.demux(audio=0) if p.size]
        packets = [p for p in demuxed if 4 < p.pts * p.time_base < 4.5]
    broken = bytearray(Path(files("aac_44100.mp4")).read_bytes())
    for packet in packets:
        broken[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    starts = [0.0, 2.0, 4.7]
    sound = read_audio(str(path), starts, 1.5, RATE)
    assert np.abs(sound - read_audio(files("aac_44100.mp4"), starts, 1.5, RATE)).max() < 1e-6
    with pytest.raises(MediaError, match="damaged near 4") as raised:
        read_audio(str(path), [3.0], 3.0, RATE)
    assert raised.value.reason == "decode_error"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["aac_44100.mp4", "opus.webm", "flac_44100.mkv", "mp3.mp4", "vorbis.mkv"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_damaged_files_raise_nothing_but_media_errors(
    files: Files, tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(Path(files(name)).read_bytes())
    if rng.integers(2):
        del data[rng.integers(len(data)) :]
    for at in rng.integers(0, max(1, len(data)), rng.integers(0, 20)):
        data[at : at + 1] = bytes([rng.integers(256)])
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    try:
        assert np.isfinite(read_audio(str(path), [0.0, 4.0], 1.0, RATE)).all()
    except MediaError as error:
        assert error.message


def test_reasons(tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", Video(regular(1, 25)))
    for path, reason in ((silent, "no_audio_stream"), (str(tmp_path / "none"), "missing"), (__file__, "unreadable")):
        with pytest.raises(MediaError) as raised:
            read_audio(path, [0.0], 0.5, RATE)
        assert raised.value.reason == reason


@pytest.mark.parametrize("format", ["u8", "s16le", "s24le", "s32le", "f32le", "f64le"])
def test_every_sample_format_has_the_same_scale(format: str, tmp_path: Path) -> None:
    path, t = tmp_path / "format.mkv", np.arange(2 * RATE) / RATE
    sound = 0.5 * np.sin(2 * np.pi * 440 * t)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(f"pcm_{format}", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_audio(str(path), [0.5], 1.0, RATE)[0]
    assert np.abs(clip - sound[RATE // 2 : RATE // 2 + RATE]).max() < (0.01 if format == "u8" else 1e-4)
