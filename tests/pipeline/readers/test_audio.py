"""Audio of given seconds: position, level, channels, aliases against a known function of time. Temporary files only."""

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

from pipeline.readers import AudioRequest, MediaError
from pipeline.readers import audio as audio_reader
from pipeline.readers.audio import read_audio
from tests.support.media import Audio, Video, chirp, joined, regular, write

RATE = 16000
VIDEO = Video(regular(8, 25), bframes=2)
VP9 = Video(regular(8, 25), "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})

# Containers that state where the audio begins; FLV, AVI and transport streams leave out the encoder's delay.
CASES: dict[str, tuple[Audio, Video | None]] = {
    "aac_44100.mp4": (Audio(8), VIDEO),
    "aac_48000.mp4": (Audio(8, rate=48000), VIDEO),
    "aac_22050_mono.mp4": (Audio(8, rate=22050, gains=(1.0,)), VIDEO),
    "aac.mkv": (Audio(8), VIDEO),
    "opus.webm": (Audio(8, codec="libopus", rate=48000), VP9),
    "flac_44100.mkv": (Audio(8, codec="flac"), VIDEO),
    "flac_48000.mkv": (Audio(8, codec="flac", rate=48000), VIDEO),
    "wav.mkv": (Audio(8, codec="pcm_s16le"), VIDEO),
    "wav_16000.mkv": (Audio(8, codec="pcm_s16le", rate=16000), VIDEO),
    "vorbis.mkv": (Audio(8, codec="vorbis"), VIDEO),
    "mp3.mp4": (Audio(8, codec="libmp3lame"), VIDEO),
    "late_aac.mp4": (Audio(8, 0.45), VIDEO),
    "late_flac.mkv": (Audio(8, 0.45, codec="flac"), VIDEO),
}

Files = Callable[[str], str]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A function that makes a file of CASES, once."""
    folder = tmp_path_factory.mktemp("audio")

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
    clips = read_audio(files(name), starts, 3.0, RATE).segments
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
    positions = np.array([0.25, 1.1, 2.0001, 3.7])

    def clicks(t: np.ndarray) -> np.ndarray:  # 1 ms pulses, narrow enough to locate and wide enough for a codec
        return 0.8 * np.exp(-(((t[:, None] - positions) / 0.0005) ** 2)).sum(1)

    path = write(
        tmp_path / ("a.webm" if codec == "libopus" else "a.mkv"), Audio(5, codec=codec, rate=48000, wave=clicks)
    )
    for start in (0.0, 0.1, 1.05):
        clip = read_audio(path, [start], 3.5, RATE).segments[0]
        for click in positions[(positions > start) & (positions < start + 3.4)]:
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
def test_lossless_audio_equals_the_function(files: Files, name: str, start: float, seconds: float, rate: int) -> None:
    clip = read_audio(files(name), [start], seconds, rate).segments[0]
    assert len(clip) == round(seconds * rate)
    t = (round(start * rate) + np.arange(len(clip))) / rate
    clear = t > 0.02  # the audio begins abruptly, which rings when resampled
    assert np.abs(clip - chirp(t))[clear].max(initial=0) < 2e-3


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    for gains in ((0.8, 0.2), (1.0, -1.0), (1.0, 0.0)):
        path = write(tmp_path / "stereo.mkv", Audio(2, codec="flac", gains=gains))
        clip = read_audio(path, [0.5], 1.0, RATE).segments[0]
        assert np.abs(clip - np.mean(gains) * chirp(0.5 + np.arange(RATE) / RATE)).max() < 2e-3


@pytest.mark.parametrize(
    "hertz, low, high", [(1000, 0.999, 1.001), (7000, 0.97, 1.01), (9000, 0, 1e-4), (15000, 0, 1e-4)]
)
def test_what_the_new_rate_cannot_hold_is_removed(hertz: int, low: float, high: float, tmp_path: Path) -> None:
    path = write(tmp_path / "tone.mkv", Audio(2, codec="flac", wave=lambda t: 0.5 * np.sin(2 * np.pi * hertz * t)))
    level = read_audio(path, [0.5], 1.0, RATE).segments[0].std() / (0.5 / np.sqrt(2))
    assert low <= level <= high


@pytest.mark.parametrize("name", ["aac_44100.mp4", "opus.webm", "flac_44100.mkv", "vorbis.mkv"])
def test_order_and_overlap_of_segments_do_not_matter(name: str, files: Files) -> None:
    starts = [4.0, 0.5, 4.5, 0.5]
    together = read_audio(files(name), starts, 1.0, RATE).segments
    for start, clip in zip(starts, together, strict=True):
        assert np.abs(read_audio(files(name), [start], 1.0, RATE).segments[0] - clip).max() < 1e-5
    assert read_audio(files(name), [], 1.0, RATE).segments.shape == (0, RATE)


HOLES = {
    "at the beginning": (0.0, 4.0),
    "at the end": (5.0, 8.0),
    "inside": (3.0, 3.8),
    "in two places": ((3.0, 3.3), (3.7, 4.2)),
}


@pytest.mark.parametrize("where", HOLES)
def test_one_rule_for_missing_audio_wherever_it_is(where: str, tmp_path: Path) -> None:
    """Up to half a second of a segment is zeros, more is no valid segment."""
    holes = HOLES[where] if isinstance(HOLES[where][0], tuple) else (HOLES[where],)

    def keep(packet: Any) -> bool:
        time = packet.pts * packet.time_base
        return packet.stream.type == "video" or not any(low <= time < high for low, high in holes)

    path = write(tmp_path / "hole.mkv", VIDEO, Audio(8, codec="flac", rate=48000), keep=keep)
    with av.open(path) as container:
        spans = [(float(f.pts * f.time_base), f.samples / 48000) for f in container.decode(audio=0)]
    there = np.zeros(8 * RATE, bool)  # what the packets that are left hold
    for begin, length in spans:
        there[round(begin * RATE) : round((begin + length) * RATE)] = True

    far = np.ones(len(there), bool)  # from where audio begins and ends, where resampling rings
    for edge in [0, *np.flatnonzero(np.diff(there)).tolist(), len(there)]:
        far[max(0, edge - RATE // 10) : edge + RATE // 10] = False
    few = many = 0
    for start in np.arange(0, 5.01, 0.125).tolist():
        inside = slice(round(start * RATE), round(start * RATE) + 3 * RATE)
        kept = there[inside]
        missing = 3 - kept.sum() / RATE
        if abs(missing - 0.5) < 0.001:
            continue  # to the sample, it is the codec's business
        if missing < 0.5:
            clip = read_audio(path, [start], 3.0, RATE).segments[0]
            t = start + np.arange(3 * RATE) / RATE
            assert np.abs(clip - chirp(t))[kept & far[inside]].max() < 2e-3
            assert np.abs(clip[~kept & far[inside]]).max(initial=0) < 1e-2
            few += bool(missing)
        else:
            with pytest.raises(MediaError, match="missing" if kept.any() else "no audio") as raised:
                read_audio(path, [start], 3.0, RATE)
            assert raised.value.reason == "empty_audio"
            many += 1
    assert few and many


def test_the_message_says_how_much_is_missing_and_where(tmp_path: Path) -> None:
    path = write(tmp_path / "short.mkv", VIDEO, Audio(5, codec="flac"))
    with pytest.raises(MediaError, match=r"^1\.00 s of audio .* at 3\.00 s, at most 0\.5 .* from 5\.00 to 6\.00 s$"):
        read_audio(path, [0.0, 3.0], 3.0, RATE)
    with pytest.raises(MediaError, match="there is no audio in the segment at 5.00 s"):
        read_audio(path, [5.0], 3.0, RATE)


@pytest.mark.parametrize("second", [{"rate": 48000}, {"gains": (1.0,)}, {"rate": 22050, "gains": (1.0,)}])
def test_the_format_changes_inside_a_segment(second: dict[str, Any], tmp_path: Path) -> None:
    parts = [Audio(4, rate=44100), Audio(8, 4, **second)]
    path = joined(tmp_path / "a.ts", *(write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts)))
    clip = read_audio(path, [2.5], 3.0, RATE).segments[0]
    t = 2.5 + np.arange(3 * RATE) / RATE
    # The encoder's delay, 1024 samples, is left out in transport streams: the file begins with it, the part does not.
    for delay, inside in ((1024 / 44100, t < 3.9), (0, t > 4.1)):
        wanted = chirp(t - delay)
        assert abs(lag(clip * inside, wanted * inside)) <= 2
        assert (clip * wanted)[inside].sum() / (wanted[inside] ** 2).sum() == pytest.approx(1, abs=0.02)
    at_seam = (t > 3.95) & (t < 4.1)
    assert 0.8 < clip[at_seam].std() / chirp(t)[at_seam].std() < 1.2


@pytest.mark.parametrize("rate", [16000, 44100])
def test_pieces_of_different_rates_fit_together(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rate changes and back, not a sample is lost, doubled or out of place."""
    spans = ((44100, 1.5, 2.7), (48000, 2.7, 3.1), (44100, 3.1, 3.9), (22050, 3.9, 5.5))
    runs = []
    for native, begin, end in spans:
        first, count = round(begin * native), round(end * native) - round(begin * native)
        part = chirp((first + np.arange(count)) / native).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
        runs.append(audio_reader._Run(native, (first, first), [frame], count))
    monkeypatch.setattr(audio_reader, "_runs", lambda *_: runs)
    request = AudioRequest(rate)
    clip, _ = audio_reader._segment("", None, None, 2.0, 3.0, [request])[request]  # type: ignore[arg-type]
    t = 2.0 + np.arange(round(3 * rate)) / rate
    seams = np.abs(t[:, None] - [2.7, 3.1, 3.9]).min(axis=1) < 0.002
    error = np.abs(clip - chirp(t))
    assert error[~seams].max() < 2e-3 and error.max() < 0.2


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
    audio = read_audio(str(path), starts, 1.5, RATE).segments
    assert np.abs(audio - read_audio(files("aac_44100.mp4"), starts, 1.5, RATE).segments).max() < 1e-6
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
    for position in rng.integers(0, max(1, len(data)), rng.integers(0, 20)):
        data[position : position + 1] = bytes([rng.integers(256)])
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    try:
        assert np.isfinite(read_audio(str(path), [0.0, 4.0], 1.0, RATE).segments).all()
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
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(f"pcm_{format}", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_audio(str(path), [0.5], 1.0, RATE).segments[0]
    assert np.abs(clip - tone[RATE // 2 : RATE // 2 + RATE]).max() < (0.01 if format == "u8" else 1e-4)
