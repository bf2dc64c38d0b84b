"""Pictures at given times: both decoders against a slow oracle that decodes every frame. Temporary files only."""

from __future__ import annotations

import bisect
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.readers import MediaError, video_pyav
from pipeline.readers.opening import open_media
from pipeline.readers.probe import probe
from pipeline.readers.video import read_video
from tests.media import Audio, Video, cut_start, number, numbers, picture, regular, write

RESIZE, CROP = (128, 171), (112, 112)
MS = Fraction(1, 1000)
TICK = Fraction(1, 25)
JITTERED = np.cumsum(np.r_[0, np.random.default_rng(0).uniform(0.01, 0.12, 80)]).tolist()
T25 = regular(5, 25)
VP = {"cpu-used": "8", "deadline": "realtime", "lag-in-frames": "8", "b": "400000"}
MPEG = {"b": "2000000"}
FRAGMENTED = {"options": {"movflags": "frag_keyframe+empty_moov"}}

LIBRARY: dict[str, tuple[list[Video | Audio], dict]] = {
    "constant.mp4": ([Video(T25, gop=25), Audio(5)], {}),
    "bframes.mp4": ([Video(regular(5, 30000 / 1001), bframes=3, gop=48, options={"params": "b-pyramid=normal"})], {}),
    "one_gop.mkv": ([Video(T25, bframes=2, gop=1000, time_base=MS)], {}),
    "variable.mp4": ([Video(JITTERED, bframes=2)], {}),
    "variable.mkv": ([Video(JITTERED, bframes=2, time_base=MS)], {}),
    "offset.ts": ([Video(regular(5, 25, 3.2), bframes=2), Audio(8.2, 3.2)], {}),
    "offset.mkv": ([Video(regular(5, 30, 3.2), bframes=2, time_base=MS)], {}),
    "offset.mp4": ([Video(regular(5, 30, 3.2), bframes=2)], {}),
    "edited.mp4": ([Video(T25, bframes=2, gop=40)], {"cut": 0.72}),
    "late.mp4": ([Video(regular(4, 25, 0.62), bframes=2), Audio(5)], {}),
    "hevc_open_gop.mp4": ([Video(T25, "libx265", bframes=4, gop=20, options={"params": "open-gop=1"})], {}),
    "hevc_10_bit.mp4": ([Video(T25, "libx265", gop=20, pix_fmt="yuv420p10le")], {}),
    "hevc_leading.mp4": ([Video(T25, "libx265", bframes=4, gop=20, options={"params": "open-gop=0:radl=2"})], {}),
    "open_gop.mkv": ([Video(T25, bframes=3, gop=20, options={"params": "open-gop=1"})], {}),
    "refresh.mp4": ([Video(T25, gop=40, options={"params": "intra-refresh=1"})], {}),
    "interlaced.mp4": ([Video(T25, bframes=2, gop=20, options={"params": "interlaced=1"})], {}),
    "fragmented.mp4": ([Video(T25, bframes=2, gop=20), Audio(5)], FRAGMENTED),
    "vp9_opus.webm": ([Video(T25, "libvpx-vp9", gop=40, options=VP), Audio(5, codec="libopus", rate=48000)], {}),
    "no_duration.webm": ([Video(T25, "libvpx-vp9", gop=40, options=VP)], {"options": {"live": "1"}}),
    "vp8.webm": ([Video(T25, "libvpx", gop=40, time_base=MS, options=VP)], {}),
    "av1.mkv": (
        [Video(regular(2, 25), "libsvtav1", 320, 240, time_base=MS, options={"preset": "10", "crf": "15"})],
        {},
    ),
    "mpeg4.avi": ([Video(T25, "mpeg4", bframes=2, time_base=TICK, options=MPEG)], {}),
    "h264.avi": ([Video(T25, bframes=2, time_base=TICK)], {}),
    "h264.flv": ([Video(T25, bframes=2, gop=20), Audio(5)], {}),
    "mpeg2.ts": ([Video(T25, "mpeg2video", bframes=2, time_base=TICK, options=MPEG)], {}),
    "mpeg2.mpg": ([Video(T25, "mpeg2video", bframes=2, time_base=TICK, options=MPEG)], {"format": "mpeg"}),
    "jpeg.mov": ([Video(T25, "mjpeg", pix_fmt="yuvj420p", options={"qmin": "2", "qmax": "4"})], {}),
    "odd_size.webm": ([Video(T25, "libvpx-vp9", 163, 121, options=VP)], {}),
    "odd_444.mkv": ([Video(T25, width=163, height=121, pix_fmt="yuv444p")], {}),
    "rgb.mkv": ([Video(T25, "libx264rgb", pix_fmt="rgb24")], {}),
    "slow.mp4": ([Video(regular(5, 3), gop=4)], {}),
}
# What decord refuses: codecs it lacks, and containers in which it does not seek exactly.
NOT_DECORD = ("av1.mkv", "no_duration.webm", "mpeg4.avi", "h264.avi", "h264.flv", "mpeg2.ts", "mpeg2.mpg", "offset.ts")

Files = Callable[[str], str]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A function that makes a file of LIBRARY, once."""
    folder = tmp_path_factory.mktemp("videos")

    @cache
    def make(name: str) -> str:
        streams, how = LIBRARY[name]
        cut = how.get("cut", 0)
        path = write(folder / name, *streams, **{key: value for key, value in how.items() if key != "cut"})
        return cut_start(path, cut) if cut else path

    return make


@cache
def oracle(path: str) -> tuple[list[float], list[int]]:
    """Every frame of a file, decoded from its beginning without any seek: times and numbers."""
    with av.open(path) as container:
        container.flags &= ~1  # no made-up time stamps for AVI
        origin = max(0, container.start_time or 0) / 1e6
        stream: Any = container.streams.video[0]
        found = []
        for frame in container.decode(stream):
            ticks = frame.pts if frame.pts is not None else frame.dts
            if ticks is not None:
                found.append((float(ticks * stream.time_base) - origin, number(frame.to_ndarray(format="rgb24"))))
    return [time for time, _ in found], [n for _, n in found]


def expected(path: str, start: float, count: int, fps: float) -> list[int]:
    times, shown = oracle(path)
    return [shown[max(0, bisect.bisect_right(times, start + k / fps + 0.0005) - 1)] for k in range(count)]


def read(path: str, starts: list[float], seconds: float, fps: float = 10, **how: str) -> np.ndarray:
    return read_video(path, starts, seconds, fps=fps, resize=RESIZE, crop=CROP, **how)


@pytest.mark.parametrize("name", LIBRARY)
def test_the_whole_file_matches_the_oracle(name: str, files: Files) -> None:
    path = files(name)
    length = probe(path).duration
    starts = [0.0, max(0.0, length - 1), length / 3, length / 2 + 0.013]
    clips = read(path, starts, 1.0)
    assert clips.shape == (4, 10, 112, 112, 3) and clips.dtype == np.uint8
    assert numbers(clips, RESIZE) == [expected(path, start, 10, 10) for start in starts]
    assert min(min(clip) for clip in numbers(clips, RESIZE)) >= 0


@pytest.mark.parametrize("name", LIBRARY)
def test_a_seek_changes_no_pixel(name: str, files: Files) -> None:
    length = int(probe(files(name)).duration * 10) / 10
    whole = read(files(name), [0.0], length)[0]
    starts = [k / 10 for k in range(7, len(whole) - 3, 9)]
    for start, clip in zip(starts, read(files(name), starts, 0.3), strict=True):
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
def test_any_start_matches_the_oracle(files: Files, name: str, share: float, fps: float, count: int) -> None:
    path = files(name)
    length = probe(path).duration
    count = min(count, int(length * fps))
    start = share * (length - count / fps)
    assert numbers(read(path, [start], count / fps, fps), RESIZE) == [expected(path, start, count, fps)]


@pytest.mark.parametrize(
    "name", ["constant.mp4", "bframes.mp4", "variable.mp4", "variable.mkv", "offset.mkv", "slow.mp4"]
)
def test_frames_are_those_that_were_written_for_the_times(name: str, files: Files) -> None:
    video = LIBRARY[name][0][0]
    assert isinstance(video, Video)
    times = np.array(video.times) - video.times[0]
    wanted = 1.2123 + np.arange(20) / 10
    # Stamps in milliseconds are off by up to half of one: look where no frame changes.
    clear = np.abs(wanted[:, None] - times).min(1) > 0.0015
    got = np.array(numbers(read(files(name), [1.2123], 2.0), RESIZE)[0])
    assert clear.sum() > 15
    assert (got == np.searchsorted(times, wanted, side="right") - 1)[clear].all()


def test_times_on_a_frame_survive_float32(tmp_path: Path) -> None:
    path = write(tmp_path / "ten.mp4", Video(regular(4, 10), gop=8))
    starts = [float(np.float32(k / 10)) for k in range(30)]
    assert numbers(read(path, starts, 0.1), RESIZE) == [[k] for k in range(30)]


def test_order_and_overlap_of_segments_do_not_matter(files: Files) -> None:
    starts = [2.0, 0.3, 2.5, 0.3]
    together = read(files("bframes.mp4"), starts, 1.0)
    for start, clip in zip(starts, together, strict=True):
        assert (read(files("bframes.mp4"), [start], 1.0)[0] == clip).all()
    assert read(files("bframes.mp4"), [], 1.0).shape == (0, 10, 112, 112, 3)


@pytest.mark.parametrize("name", ["constant.mp4", "bframes.mp4", "one_gop.mkv", "hevc_open_gop.mp4", "edited.mp4"])
def test_ordinary_files_need_no_second_look(name: str, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way answers alone where it can: the slow ones behind it would hide its mistakes."""
    monkeypatch.setattr(video_pyav._Reader, "_plain", None)
    read(files(name), [0.9, 2.0, 2.6], 1.3)


@pytest.mark.parametrize("name", ["offset.ts", "open_gop.mkv", "hevc_open_gop.mp4", "vp9_opus.webm", "mpeg2.ts"])
def test_no_segment_is_reached_from_the_beginning_of_the_file(
    name: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_and_count(path: str) -> Any:
        opened.append(path)
        return open_media(path)

    monkeypatch.setattr(video_pyav, "open_media", open_and_count)
    for count, start in enumerate((0.1, 2.0, 2.6, 3.3), 1):
        read(files(name), [start], 0.5)
        assert len(opened) == count


def test_before_the_first_frame_and_after_the_last(files: Files) -> None:
    assert numbers(read(files("late.mp4"), [0.0], 0.6), RESIZE)[0] == [0] * 6
    assert numbers(read(files("constant.mp4"), [4.85], 0.6), RESIZE)[0] == [121, 123, 124, 124, 124, 124]
    for name in ("constant.mp4", "no_duration.webm", "mpeg4.avi"):
        with pytest.raises(MediaError, match="end at 5.0. s") as raised:
            read(files(name), [4.8], 1.0)
        assert raised.value.reason == "decode_error"


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_pictures_are_upright(rotation: int, hflip: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "turned.mp4", Video(regular(1, 10), width=200, height=120, rotation=rotation, hflip=hflip))
    assert numbers(read(path, [0.0], 1.0), RESIZE)[0] == list(range(10))


def test_the_reference_picture_is_not_symmetric() -> None:
    image = picture(0b101100111000, 160, 120)
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


def test_the_crop_is_the_middle_of_the_resized_picture(files: Files) -> None:
    whole = read_video(files("constant.mp4"), [1.0], 0.5, fps=10, resize=(128, 171), crop=(128, 171))
    assert (read(files("constant.mp4"), [1.0], 0.5) == whole[:, :, 8:120, 30:142]).all()


def test_damage_in_a_segment_is_an_error_and_elsewhere_is_not(files: Files, tmp_path: Path) -> None:
    with av.open(files("constant.mp4")) as container:
        packets: list[Any] = [p for p in container.demux(video=0) if p.size]
    broken = bytearray(Path(files("constant.mp4")).read_bytes())
    for packet in packets[50:60]:  # from 2 s on, until the keyframe at 3 s
        broken[packet.pos + 4 : packet.pos + packet.size] = b"\x5a" * (packet.size - 4)
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    assert numbers(read(str(path), [0.5, 3.5], 1.0), RESIZE) == [
        expected(files("constant.mp4"), s, 10, 10) for s in (0.5, 3.5)
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
        assert read(str(path), [0.0, 2.5], 1.0).shape == (2, 10, 112, 112, 3)
    except MediaError as error:
        assert error.message


def test_reasons(files: Files, tmp_path: Path) -> None:
    sound = write(tmp_path / "sound.mp4", Audio(2))
    for path, reason in ((sound, "no_video_stream"), (str(tmp_path / "none.mp4"), "missing"), (__file__, "unreadable")):
        with pytest.raises(MediaError) as raised:
            read(path, [0.0], 1.0)
        assert raised.value.reason == reason
    with pytest.raises(ValueError, match="decoder"):
        read(files("constant.mp4"), [0.0], 1.0, decoder="vlc")
    with pytest.raises(ValueError, match="crop"):
        read_video(files("constant.mp4"), [0.0], 1.0, fps=10, resize=(64, 64), crop=(112, 112))


DECORD = """
import json, sys
import numpy as np
from pipeline.readers import MediaError, video_pyav
from pipeline.readers.opening import open_media
from pipeline.readers.video import read_video
jobs, out = json.load(sys.stdin), sys.argv[1]
answers = []
for k, (path, starts, resize) in enumerate(jobs):
    try:
        clips = read_video(path, starts, 1.0, fps=10, resize=resize, crop=(112, 112), decoder="decord")
        np.save(f"{out}/{k}.npy", clips)
        answers.append(None)
    except MediaError as error:
        answers.append([error.reason, error.message])
assert not {"torch", "essentia"} & set(sys.modules)
print(json.dumps(answers))
"""


Job = tuple[str, list[float], tuple[int, int]]


def decord(jobs: list[Job], folder: Path) -> list[np.ndarray | list[str]]:
    """Read in a process of its own, where neither torch nor essentia is; clips, or the reason and message."""
    done = subprocess.run(
        [sys.executable, "-c", DECORD, str(folder)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return [answer or np.load(folder / f"{k}.npy") for k, answer in enumerate(answers)]


needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


@needs_decord
def test_decord_returns_the_same_frames(files: Files, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [name for name in LIBRARY if name not in NOT_DECORD]
    jobs = []
    for name in names:
        length = probe(files(name)).duration
        starts = [*rng.uniform(0, length - 1, 6).tolist(), 0.0, length - 1]
        jobs.append((files(name), starts, RESIZE))
    for turn in range(8):
        video = Video(regular(1, 10), width=200, height=120, rotation=turn % 4 * 90, hflip=turn > 3)
        jobs.append((write(tmp_path / f"turn{turn}.mp4", video), [0.0], RESIZE))
    big = Video(regular(2, 25), width=640, height=360, bframes=2)
    jobs += [(write(tmp_path / "big.mp4", big), [0.0, 0.7], size) for size in (RESIZE, (112, 112))]
    for (path, starts, size), clips in zip(jobs, decord(jobs, tmp_path), strict=True):
        assert isinstance(clips, np.ndarray), (path, clips)
        ours = read_video(path, starts, 1.0, fps=10, resize=size, crop=CROP)
        assert numbers(clips, size) == numbers(ours, size), path
        difference = np.abs(clips.astype(int) - ours).mean(axis=(2, 3, 4)).max()
        assert difference < (3 if "interlaced" in path or size == (112, 112) else 1), path


@needs_decord
def test_decord_refuses_what_it_cannot_read_exactly(files: Files, tmp_path: Path) -> None:
    jobs = [(files(name), [0.0], RESIZE) for name in NOT_DECORD]
    jobs += [(write(tmp_path / "sound.mp4", Audio(2)), [0.0], RESIZE), (__file__, [0.0], RESIZE)]
    jobs += [(files("constant.mp4"), [4.8], RESIZE)]
    *refused, sound, text, beyond = decord(jobs, tmp_path)
    for reason, message in refused:
        assert reason == "decode_error" and message.endswith("set decoding.video: pyav")
    assert refused[0][1].count("av1") == 1
    assert (sound[0], text[0], beyond[0]) == ("no_video_stream", "unreadable", "decode_error")
