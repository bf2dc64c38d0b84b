"""Frames at given times: PyAV against a slow oracle that decodes every frame. Temporary files only."""

from __future__ import annotations

import bisect
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.readers import MediaError, video_pyav
from pipeline.readers.container import probe
from pipeline.readers.opening import open_media
from pipeline.readers.video import read_video
from tests.support.library import CROP, LIBRARY, RESIZE, Files, turned_midway
from tests.support.media import Audio, Video, in_one_stream, number, numbered_frame, numbers, regular, write


@cache
def oracle(path: str) -> tuple[list[float], list[int]]:
    """Every frame of a file, decoded from its beginning without any seek: times and numbers."""
    with av.open(path) as container:
        container.flags &= ~1  # no made-up time stamps for AVI
        origin = max(0, container.start_time or 0) / 1e6
        stream: Any = container.streams.video[0]
        base, name = stream.time_base, container.format.name
        frames, decoded = [], []
        for packet in container.demux(stream):
            decoded += [packet.dts] if packet.size else []
            undated = packet.pts is None
            for frame in packet.decode():
                ticks = frame.pts if frame.pts is not None else frame.dts
                if ticks is not None or undated:
                    time = float((ticks or 0) * base) - origin
                    frames.append((time, number(frame.to_ndarray(format="rgb24"))))
    times = [time for time, _ in frames]
    if name == "avi":  # nothing but decoding stamps: the n-th frame has the n-th of them
        times = [float(ticks * base) - origin for ticks in sorted(decoded)][: len(frames)]
    return times, [n for _, n in frames]


def expected(path: str, start: float, count: int, fps: float) -> list[int]:
    times, shown = oracle(path)
    return [shown[max(0, bisect.bisect_right(times, start + k / fps + 0.0005) - 1)] for k in range(count)]


def read(path: str, starts: list[float], seconds: float, fps: float = 10, **how: str) -> np.ndarray:
    return read_video(path, starts, seconds, fps=fps, resize=RESIZE, crop=CROP, **how)


@pytest.mark.parametrize("name", LIBRARY)
def test_the_whole_file_matches_the_oracle(name: str, library: Files) -> None:
    path = library(name)
    length = probe(path).duration
    starts = [0.0, max(0.0, length - 1), length / 3, length / 2 + 0.013]
    clips = read(path, starts, 1.0)
    assert clips.shape == (4, 10, 112, 112, 3) and clips.dtype == np.uint8
    assert numbers(clips, RESIZE) == [expected(path, start, 10, 10) for start in starts]
    assert min(min(clip) for clip in numbers(clips, RESIZE)) >= 0


@pytest.mark.parametrize("name", LIBRARY)
def test_a_seek_changes_no_pixel(name: str, library: Files) -> None:
    length = int(probe(library(name)).duration * 10) / 10
    whole = read(library(name), [0.0], length)[0]
    starts = [k / 10 for k in range(7, len(whole) - 3, 9)]
    for start, clip in zip(starts, read(library(name), starts, 0.3), strict=True):
        first = round(start * 10)
        assert (clip == whole[first : first + 3]).all(), start


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(LIBRARY)),
    share=st.floats(0, 1),
    fps=st.sampled_from([5.0, 10.0, 12.5, 24000 / 1001, 60.0]),
    count=st.integers(1, 20),
)
@example("one_gop.mkv", 1.0, 10.0, 1)
@example("offset.ts", 0.0, 60.0, 3)
def test_any_start_matches_the_oracle(library: Files, name: str, share: float, fps: float, count: int) -> None:
    path = library(name)
    length = probe(path).duration
    count = min(count, int(length * fps))
    start = share * (length - count / fps)
    assert numbers(read(path, [start], count / fps, fps), RESIZE) == [expected(path, start, count, fps)]


@pytest.mark.parametrize(
    "name",
    [
        "constant.mp4",
        "bframes.mp4",
        "variable.mp4",
        "variable.mkv",
        "offset.mkv",
        "slow.mp4",
        "mpeg4.avi",
        "h264.avi",
        "mpeg2.ts",
        "mpeg2.mpg",
    ],
)
def test_frames_are_those_that_were_written_for_the_times(name: str, library: Files) -> None:
    video = LIBRARY[name][0][0]
    assert isinstance(video, Video)
    times = np.array(video.times) - video.times[0]
    wanted = 1.2123 + np.arange(20) / 10
    # Stamps in milliseconds are off by up to half of one: look where no frame changes.
    clear = np.abs(wanted[:, None] - times).min(1) > 0.0015
    got = np.array(numbers(read(library(name), [1.2123], 2.0), RESIZE)[0])
    assert clear.sum() > 15
    assert (got == np.searchsorted(times, wanted, side="right") - 1)[clear].all()


def test_times_on_a_frame_survive_float32(tmp_path: Path) -> None:
    path = write(tmp_path / "ten.mp4", Video(regular(4, 10), gop=8))
    starts = [float(np.float32(k / 10)) for k in range(30)]
    assert numbers(read(path, starts, 0.1), RESIZE) == [[k] for k in range(30)]


def test_order_and_overlap_of_segments_do_not_matter(library: Files) -> None:
    starts = [2.0, 0.3, 2.5, 0.3]
    together = read(library("bframes.mp4"), starts, 1.0)
    for start, clip in zip(starts, together, strict=True):
        assert (read(library("bframes.mp4"), [start], 1.0)[0] == clip).all()
    assert read(library("bframes.mp4"), [], 1.0).shape == (0, 10, 112, 112, 3)


@pytest.mark.parametrize("name", ["constant.mp4", "bframes.mp4", "one_gop.mkv", "hevc_open_gop.mp4", "edited.mp4"])
def test_ordinary_files_need_no_second_look(name: str, library: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way answers alone where it can: the slow ones behind it would hide its mistakes."""
    monkeypatch.setattr(video_pyav._Reader, "_plain", None)
    read(library(name), [0.9, 2.0, 2.6], 1.3)


@pytest.mark.parametrize("name", ["offset.ts", "open_gop.mkv", "hevc_open_gop.mp4", "vp9_opus.webm", "mpeg2.ts"])
def test_no_segment_is_reached_from_the_beginning_of_the_file(
    name: str, library: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_and_count(path: str) -> Any:
        opened.append(path)
        return open_media(path)

    monkeypatch.setattr(video_pyav, "open_media", open_and_count)
    for count, start in enumerate((0.1, 2.0, 2.6, 3.3), 1):
        read(library(name), [start], 0.5)
        assert len(opened) == count


def test_before_the_first_frame_and_after_the_last(library: Files) -> None:
    assert numbers(read(library("late.mp4"), [0.0], 0.6), RESIZE)[0] == [0] * 6
    assert numbers(read(library("constant.mp4"), [4.85], 0.6), RESIZE)[0] == [121, 123, 124, 124, 124, 124]
    for name in ("constant.mp4", "no_duration.webm", "mpeg4.avi"):
        with pytest.raises(MediaError, match="ends at 5.0. s") as raised:
            read(library(name), [4.8], 1.0)
        assert raised.value.reason == "decode_error"


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"width": 320, "height": 180},
    "pixel format": {"pix_fmt": "yuv444p"},
    "bit depth": {"pix_fmt": "yuv420p10le"},
    "matrix": {"matrix": 1},
}


@pytest.mark.parametrize("container", ["ts", "mkv", "mp4", "flv"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_format_changes_inside_a_segment(change: str, container: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"options": {"params": "repeat-headers=1"}, "gop": 25}
    seconds = CHANGES[change] | {"draw": lambda k, width, height: numbered_frame(50 + k, width, height)}
    parts = [Video(regular(2, 25), **how), Video(regular(2, 25, 2), **how, **seconds)]
    path = in_one_stream(
        tmp_path / f"a.{container}", *(write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts))
    )
    for start in (0.3, 1.5, 2.4):
        assert numbers(read(path, [start], 1.0), RESIZE)[0] == [int((start + k / 10) * 25 + 1e-6) for k in range(10)]


def test_colours_are_right_where_the_matrix_changes(tmp_path: Path) -> None:
    colour = np.array([200, 60, 30], np.uint8)
    how: dict[str, Any] = {"options": {"params": "repeat-headers=1"}, "pix_fmt": "yuv444p"}
    how["draw"] = lambda k, width, height: np.broadcast_to(colour, (height, width, 3)).copy()
    parts = [Video(regular(2, 25), **how, matrix=5), Video(regular(2, 25, 2), **how, matrix=1)]
    files = [write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts)]
    clip = read(in_one_stream(tmp_path / "a.mkv", *files), [1.5], 1.0)
    assert np.abs(clip.astype(int) - colour).max() <= 3


def test_the_orientation_changes_inside_a_segment(tmp_path: Path) -> None:
    got = numbers(read(turned_midway(tmp_path), [0.5], 1.0), RESIZE)[0]
    assert got == [int((0.5 + k / 10) * 25 + 1e-6) for k in range(10)]


@pytest.mark.parametrize("name", ["hole.mkv", "hole.mp4", "hole.ts"])
def test_a_frame_stays_until_the_next_one_comes(name: str, tmp_path: Path) -> None:
    """Slide shows and missing frames cannot be distinguished; both are shown as players show them."""
    video = Video([*regular(1, 25), *regular(1, 25, 4)], gop=25)
    path = write(tmp_path / name, video)
    assert numbers(read(path, [0.8, 1.5, 3.7], 1.0), RESIZE) == [
        [20, 22, 24, 24, 24, 24, 24, 24, 24, 24], [24] * 10, [24, 24, 24, 25, 27, 30, 32, 35, 37, 40]
    ]  # fmt: skip


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_frames_are_upright(rotation: int, hflip: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "turned.mp4", Video(regular(1, 10), width=200, height=120, rotation=rotation, hflip=hflip))
    assert numbers(read(path, [0.0], 1.0), RESIZE)[0] == list(range(10))


def test_the_reference_frame_is_not_symmetric() -> None:
    image = numbered_frame(0b101100111000, 160, 120)
    turned = [np.rot90(flip, k) for flip in (image, image[:, ::-1]) for k in range(4)]
    assert [number(np.ascontiguousarray(t)) for t in turned] == [0b101100111000] + [-1] * 7


@pytest.mark.parametrize("matrix", [None, 1, 5])
@pytest.mark.parametrize("width", [160, 163])
def test_colours_come_back(matrix: int | None, width: int, tmp_path: Path) -> None:
    colour = np.array([200, 60, 30], np.uint8)

    def draw(k: int, width: int, height: int) -> np.ndarray:
        return np.broadcast_to(colour, (height, width, 3)).copy()

    video = Video(regular(1, 10), width=width, pix_fmt="yuv444p", matrix=matrix, draw=draw)
    clip = read(write(tmp_path / "colour.mp4", video), [0.0], 1.0)
    assert np.abs(clip.astype(int) - colour).max() <= 3


def test_the_crop_is_the_middle_of_the_resized_frame(library: Files) -> None:
    whole = read_video(library("constant.mp4"), [1.0], 0.5, fps=10, resize=(128, 171), crop=(128, 171))
    assert (read(library("constant.mp4"), [1.0], 0.5) == whole[:, :, 8:120, 30:142]).all()


def test_damage_in_a_segment_is_an_error_and_elsewhere_is_not(library: Files, tmp_path: Path) -> None:
    with av.open(library("constant.mp4")) as container:
        packets: list[Any] = [p for p in container.demux(video=0) if p.size]
    broken = bytearray(Path(library("constant.mp4")).read_bytes())
    for packet in packets[50:60]:  # from 2 s on, until the keyframe at 3 s
        broken[packet.pos + 4 : packet.pos + packet.size] = b"\x5a" * (packet.size - 4)
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    assert numbers(read(str(path), [0.5, 3.5], 1.0), RESIZE) == [
        expected(library("constant.mp4"), s, 10, 10) for s in (0.5, 3.5)
    ]
    with pytest.raises(MediaError) as raised:
        read(str(path), [1.8], 1.0)
    assert raised.value.reason == "decode_error"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["constant.mp4", "one_gop.mkv", "vp9_opus.webm", "mpeg4.avi", "offset.ts", "hevc_open_gop.mp4"]
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_damaged_files_raise_nothing_but_media_errors(
    library: Files, tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(Path(library(name)).read_bytes())
    if rng.integers(2):
        del data[rng.integers(len(data)) :]
    for position in rng.integers(0, max(1, len(data)), rng.integers(0, 20)):
        data[position : position + 1] = bytes([rng.integers(256)])
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    try:
        assert read(str(path), [0.0, 2.5], 1.0).shape == (2, 10, 112, 112, 3)
    except MediaError as error:
        assert error.message


def test_reasons(library: Files, tmp_path: Path) -> None:
    audio = write(tmp_path / "audio.mp4", Audio(2))
    for path, reason in ((audio, "no_video_stream"), (str(tmp_path / "none.mp4"), "missing"), (__file__, "unreadable")):
        with pytest.raises(MediaError) as raised:
            read(path, [0.0], 1.0)
        assert raised.value.reason == reason
    with pytest.raises(ValueError, match="decoder"):
        read(library("constant.mp4"), [0.0], 1.0, decoder="vlc")
    with pytest.raises(ValueError, match="crop"):
        read_video(library("constant.mp4"), [0.0], 1.0, fps=10, resize=(64, 64), crop=(112, 112))
