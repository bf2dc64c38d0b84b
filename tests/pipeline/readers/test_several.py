"""Several requests in one reading against each alone: the same to the byte, or an error. Temporary files only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.pipeline import Decoding
from pipeline.readers import AudioRequest, Decoded, MediaError, VideoRequest, first, video_pyav
from pipeline.readers.audio import read_audio, read_audios
from pipeline.readers.container import probe
from pipeline.readers.video import read_video, read_videos
from pipeline.workers import Pool, Task
from tests.support.commands import execute
from tests.support.library import LIBRARY, Files, turned_midway
from tests.support.media import Audio, Video, in_one_stream, joined, numbered_frame, regular, write
from tests.support.timelines import joined as with_broken_clock

REQUESTS = [
    VideoRequest(10.0, (128, 171), (112, 112)),
    VideoRequest(2.0, 256, (224, 224), "bicubic"),
    VideoRequest(4.0, (45, 80), (45, 80)),
]
HEARD = [
    AudioRequest(16000),
    AudioRequest(48000, "layout"),
    AudioRequest(16000, "layout"),
    AudioRequest(44100),
]


def alone(path: str, starts: list[float], seconds: float, request: VideoRequest, **how: Any) -> np.ndarray:
    return read_video(path, starts, seconds, **vars(request), **how)


def check(path: str, starts: list[float], seconds: float, **how: Any) -> None:
    together = read_videos(path, starts, seconds, REQUESTS, **how)
    for request, clips in zip(REQUESTS, together, strict=True):
        wanted = alone(path, starts, seconds, request, **how)
        assert clips.shape == (len(starts), round(seconds * request.fps), *request.crop, 3)
        np.testing.assert_array_equal(clips, wanted, err_msg=str(request))


@pytest.mark.parametrize("name", LIBRARY)
def test_every_kind_of_file(name: str, library: Files) -> None:
    path = library(name)
    length = probe(path).duration
    seconds = min(1.5, length / 2)
    check(path, [length / 2 + 0.013, 0.0, length - seconds, length / 3], seconds)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(LIBRARY)),
    share=st.floats(0, 1),
    rates=st.lists(st.sampled_from([0.5, 1.0, 5.0, 12.5, 24000 / 1001, 60.0]), min_size=2, max_size=4),
    seconds=st.floats(0.1, 1.9),
)
def test_any_rates_and_start(library: Files, name: str, share: float, rates: list[float], seconds: float) -> None:
    path = library(name)
    start = share * (probe(path).duration - seconds)
    requests = [VideoRequest(fps, (48 + 2 * i, 64), (40, 40)) for i, fps in enumerate(rates)]
    for request, clips in zip(requests, read_videos(path, [start], seconds, requests), strict=True):
        np.testing.assert_array_equal(clips, alone(path, [start], seconds, request))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_turned_files(rotation: int, tmp_path: Path) -> None:
    check(write(tmp_path / "a.mp4", Video(regular(2, 10), width=200, height=120, rotation=rotation)), [0.0, 0.4], 1.5)


def test_files_that_turn_or_change_midway(tmp_path: Path) -> None:
    check(turned_midway(tmp_path), [0.2, 0.5], 1.5)
    how: dict[str, Any] = {"options": {"params": "repeat-headers=1"}, "gop": 25}
    larger: dict[str, Any] = {"width": 320, "height": 180}
    larger["draw"] = lambda k, width, height: numbered_frame(50 + k, width, height)
    parts = [Video(regular(2, 25), **how), Video(regular(2, 25, 2), **how, **larger)]
    files = [write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts)]
    check(in_one_stream(tmp_path / "a.mkv", *files), [0.3, 1.3], 1.5)


@pytest.mark.parametrize("name", ["hole.mkv", "hole.mp4", "hole.ts"])
def test_files_with_holes(name: str, tmp_path: Path) -> None:
    check(write(tmp_path / name, Video([*regular(1, 25), *regular(1, 25, 4)], gop=25)), [0.8, 1.5, 2.9], 1.5)


@pytest.mark.parametrize(
    ("suffix", "how"),
    [("ts", {}), ("vob", {"video": "mpeg2video", "audio": "mp2"}), ("flv", {"skip": 13}), ("mkv", {})],
)
def test_files_whose_clock_breaks(suffix: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = with_broken_clock(tmp_path, suffix, (0, 6, 10), **how)
    timeline = probe(path).timeline
    assert timeline
    check(path, [1.3, 5.2, 8.3], 1.5, timeline=timeline)


def test_transport_streams_end_to_end(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{k}.ts", Video(regular(2, 25, 2 * k), gop=25), Audio(2 * k + 2, 2 * k)) for k in (0, 1)]
    check(joined(tmp_path / "a.ts", *parts), [0.3, 1.2], 1.5)


def test_equal_requests_share_an_array_and_nothing_is_decoded_twice(
    library: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    seek = video_pyav._Reader._seek

    def counted(self: Any, time: float) -> bool:
        decoded.append(time)
        return seek(self, time)

    monkeypatch.setattr(video_pyav._Reader, "_seek", counted)
    one, other, again = read_videos(library("bframes.mp4"), [0.5, 2.0], 1.0, [*REQUESTS[:2], REQUESTS[0]])
    assert decoded == [0.5, 2.0] and again is one and other.shape[2] == 224


@pytest.mark.parametrize(
    "name", ["constant.mp4", "bframes.mp4", "one_gop.mkv", "vp9_opus.webm", "mpeg4.avi", "h264.avi", "offset.ts"]
)
def test_what_damaged_files_give_does_not_depend_on_company(name: str, library: Files, tmp_path: Path) -> None:
    """With seeds that are fixed: damage that a decoder does not notice is an exception, which few files would meet."""
    served = 0
    for seed in range(40):
        path = damaged(library(name), tmp_path / f"{seed}-{name}", seed)
        try:
            together = read_videos(path, [0.0, 2.5], 1.0, REQUESTS)
        except MediaError:
            continue  # then each is read alone
        served += 1
        for request, clips in zip(REQUESTS, together, strict=True):
            np.testing.assert_array_equal(clips, alone(path, [0.0, 2.5], 1.0, request))
    assert served


def damaged(path: str, copy: Path, seed: int) -> str:
    """Write a copy of a file that ends early, or has other bytes in places."""
    rng = np.random.default_rng(seed)
    data = bytearray(Path(path).read_bytes())
    if rng.integers(2):
        del data[rng.integers(len(data)) :]
    for position in rng.integers(0, max(1, len(data)), rng.integers(0, 20)):
        data[position : position + 1] = bytes([rng.integers(256)])
    copy.write_bytes(data)
    return str(copy)


DECORD = """
import sys
import numpy as np
from pipeline.readers import VideoRequest
from pipeline.readers.video import read_video, read_videos
requests = [VideoRequest(10.0, (128, 171), (112, 112)), VideoRequest(2.0, (256, 455), (224, 224))]
together = read_videos(sys.argv[1], [0.4, 2.0], 1.5, requests, decoder="decord")
for request, clips in zip(requests, together):
    size = {"resize": request.resize, "crop": request.crop}
    assert (clips == read_video(sys.argv[1], [0.4, 2.0], 1.5, fps=request.fps, **size, decoder="decord")).all()
"""


needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


@needs_decord
@pytest.mark.parametrize("name", ["bframes.mp4", "vp9_opus.webm"])
def test_decord_serves_several_too(name: str, library: Files) -> None:
    done = execute([sys.executable, "-c", DECORD, library(name)])
    assert done.returncode == 0, done.stderr


@needs_decord
def test_what_decord_cannot_scale_costs_the_others_not_their_decoder(library: Files) -> None:
    answers = ask(library("constant.mp4"), "video", REQUESTS, decoder="decord")
    assert [answer.decoder for answer in answers] == ["decord", "pyav", "decord"]
    transport = ask(library("offset.ts"), "video", REQUESTS, decoder="decord")
    assert [answer.decoder for answer in transport] == ["pyav"] * 3
    for request, answer in zip(REQUESTS, transport, strict=True):
        np.testing.assert_array_equal(answer.segments, alone(library("offset.ts"), [0.5, 2.0], 1.0, request))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Audio that is mixed and resampled differently: 5.1, Opus, and a rate that changes midway."""
    folder = tmp_path_factory.mktemp("heard")
    stereo = [write(folder / f"{k}.ts", Audio(2 * k + 2, 2 * k, "aac", rate)) for k, rate in ((0, 44100), (1, 48000))]
    return {
        "surround": write(
            folder / "surround.mkv", Audio(4, codec="flac", rate=48000, gains=(0.1, 0.2, 0.9, 0.1, 0.3, 0.2))
        ),
        "opus": write(folder / "opus.webm", Audio(4, codec="libopus", rate=48000)),
        "rates": joined(folder / "rates.ts", *stereo),
        "clock": with_broken_clock(folder, "ts", (0, 4, 7)),
    }


@pytest.mark.parametrize("name", ["surround", "opus", "rates", "clock"])
def test_audio_for_several(name: str, heard: dict[str, str]) -> None:
    timeline = probe(heard[name]).timeline
    together = read_audios(heard[name], [0.2, 1.7], 1.5, HEARD, timeline)
    for request, audio in zip(HEARD, together, strict=True):
        wanted = read_audio(heard[name], [0.2, 1.7], 1.5, request.rate, request.downmix, timeline)
        np.testing.assert_array_equal(audio.segments, wanted.segments)
        assert audio.loss.tolist() == wanted.loss.tolist()


def ask(path: str, function: str, requests: list[Any], decoder: str = "pyav", **how: Any) -> Any:
    """Read as a pass does: together, and each alone if that fails."""
    fixed = {"path": path, "starts": [0.5, 2.0], "seconds": 1.0, "decoder": decoder}
    parts = [Task(0, f"pipeline.readers.first:{function}", fixed | how | vars(r)) for r in requests]
    task = Task(0, f"pipeline.readers.first:{function}s", fixed | {"requests": requests}, parts=parts)
    with Pool(1, Decoding()) as pool:
        ((_, answer),) = pool.results([task], ahead=1)
    return answer


def test_a_pass_reads_together(library: Files, heard: dict[str, str]) -> None:
    for answer in (
        ask(library("constant.mp4"), "video", REQUESTS),
        ask(heard["surround"], "audio", HEARD),
    ):
        assert all(isinstance(one, Decoded) and one.decoder == "pyav" and one.good is None for one in answer)
    assert answer[0].mono_loss > 3


def test_what_only_one_of_them_would_miss_fails_for_that_one_alone(tmp_path: Path) -> None:
    """The video ends at 2.2 s; END after it, a frame at 2.9 s is missing and one at 2.5 s is not."""
    path = write(tmp_path / "short.mp4", Video(regular(2.2, 25), gop=25), Audio(4))
    ten, two, four = ask(path, "video", REQUESTS)
    assert isinstance(ten, MediaError) and (ten.reason, ten.attempts) == ("decode_error", 1)
    assert isinstance(four, MediaError) and isinstance(two, Decoded)
    np.testing.assert_array_equal(two.segments, alone(path, [0.5, 2.0], 1.0, REQUESTS[1]))


def test_damaged_segments_are_left_out_for_each(library: Files, tmp_path: Path) -> None:
    data = bytearray(Path(library("constant.mp4")).read_bytes())
    data[len(data) // 2 : len(data) * 3 // 5] = bytes(len(data) * 3 // 5 - len(data) // 2)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    answers = ask(str(path), "video", REQUESTS, partial=True)
    assert [one.good is None for one in answers] == [False, True, False]  # two frames a second miss the damage
    for request, one in zip(REQUESTS, answers, strict=True):
        wanted = first.video(str(path), decoder="pyav", partial=True, starts=[0.5, 2.0], seconds=1.0, **vars(request))
        assert wanted.good is None or one.good.tolist() == wanted.good.tolist() == [True, False]
        np.testing.assert_array_equal(one.segments, wanted.segments)
