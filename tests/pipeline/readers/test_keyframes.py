"""Keyframes found without decoding, against a reading of all packets; and where readers then begin to decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from config.pipeline import Segments
from data.segments import keyframe_starts, not_before, segment_starts
from pipeline.readers import video_pyav
from pipeline.readers.container import probe as container_probe
from pipeline.readers.follow import continued
from pipeline.readers.keyframes import FileKeyframes, has_index, opened, probe
from pipeline.readers.opening import open_media
from pipeline.readers.timeline import Timeline, placed
from pipeline.readers.video import can_start, read_video
from tests.support import timelines
from tests.support.library import LIBRARY, MS, TICK, VP, Files
from tests.support.media import Audio, Video, regular, write


def small(codec: str = "libx264", begin: float = 0, **how: Any) -> Video:
    """Twenty seconds of small frames."""
    return Video(regular(20, 25, begin), codec, 96, 64, **how)


LONG: dict[str, tuple[list[Video | Audio], dict[str, Any]]] = {
    "long.mp4": ([small(bframes=2, gop=70), Audio(20)], {}),
    "fragments.mp4": ([small(bframes=2, gop=60), Audio(20)], {"options": {"movflags": "frag_keyframe"}}),
    "dash.mp4": ([small(bframes=2, gop=60), Audio(20)], {"options": {"movflags": "dash+frag_keyframe"}}),
    "sidx.mp4": (
        [small(bframes=2, gop=60), Audio(20)],
        {"options": {"movflags": "dash+frag_keyframe+global_sidx"}},
    ),
    "live.mkv": ([small(bframes=2, gop=60, time_base=MS), Audio(20)], {"options": {"live": "1"}}),
    "open.mkv": ([small(bframes=3, gop=60, time_base=MS, options={"params": "open-gop=1"}), Audio(20)], {}),
    "long.webm": ([small("libvpx-vp9", gop=70, options=VP), Audio(20, codec="libopus", rate=48000)], {}),
    "long.flv": ([small(bframes=2, gop=70), Audio(20)], {}),
    "long.ts": ([small(begin=3.2, bframes=2, gop=70), Audio(23.2, 3.2)], {}),
    "hevc.ts": ([small("libx265", begin=3.2, bframes=4, gop=70), Audio(23.2, 3.2)], {}),
    "hevc.mp4": ([small("libx265", bframes=4, gop=70), Audio(20)], {}),
    "long.avi": ([small(gop=70, time_base=TICK), Audio(20, codec="mp3")], {}),
    "refresh.mkv": ([small(gop=50, time_base=MS, options={"params": "intra-refresh=1"}), Audio(20)], {}),
    "shifted.mp4": ([small(begin=1.4, bframes=2, gop=70), Audio(21.4)], {}),
}


@pytest.fixture(scope="module")
def files(library: Files, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("keyframes")

    def file(name: str) -> str:
        if name not in LONG:
            return library(name)
        streams, how = LONG[name]
        return str(folder / name) if (folder / name).exists() else write(folder / name, *streams, **how)

    return file


def timeline_of(path: str) -> Timeline | None:
    numbers = container_probe(path).timeline
    return Timeline.of(numbers) if numbers else None


def by_reading_all(path: str, timeline: Timeline | None = None) -> list[float]:
    """Return when (s) the keyframes are shown from which decoding can begin, from all packets."""
    times = []
    with open_media(path) as opened_media:
        media = placed(opened_media, timeline)
        stream = media.only("video")
        pieces = timeline.pieces if timeline else ()
        for packet in continued(media, stream, pieces) if pieces else media.container.demux(stream):
            ticks = packet.pts if packet.pts is not None else packet.dts
            if packet.size and ticks is not None and not packet.is_discard and can_start(stream.codec_context, packet):
                times.append(float(ticks * stream.time_base) - media.origin)
    return sorted(time for time in times if time >= 0)


def found(keyframes: FileKeyframes, first: float, last: float) -> list[float]:
    times = [keyframes.shown(number) for number in keyframes.listed(first, last)]
    return sorted(time for time in times if time is not None and first <= time <= last)


@pytest.mark.parametrize("name", [*LIBRARY, *LONG])
def test_all_keyframes_are_found_and_no_others(name: str, files: Files) -> None:
    path = files(name)
    timeline = timeline_of(path)
    known = by_reading_all(path, timeline)
    assert known
    with opened(path, timeline) as keyframes:
        assert found(keyframes, 0, 1e6) == known
        for first, last in ((0.5, 2.5), (2.0, 4.0), (6.1, 13.7)):
            assert found(keyframes, first, last) == [time for time in known if first <= time <= last]


@pytest.mark.parametrize(
    "name, indexed",
    [("long.mp4", True), ("live.mkv", True), ("long.avi", True), ("fragments.mp4", False), ("long.ts", False)],
)
def test_only_files_without_an_index_are_read(name: str, indexed: bool, files: Files) -> None:
    path = files(name)
    with open_media(path) as media:
        assert has_index(media) is indexed
    with opened(path) as keyframes:
        assert (keyframes.read is None) is indexed


def first_packets(path: str, start: float, timeline: Timeline | None) -> list[float]:
    """Return the stamps (s) of the packets with which the reader begins to decode a segment, each time it tries."""
    begun: list[float] = []
    decoded = video_pyav._Reader._decoded

    def watched(self: Any, packets: Any, *rest: Any, **more: Any) -> Iterator[Any]:
        packets = list(packets)
        begun.append(self._time(packets[0]))
        return decoded(self, packets, *rest, **more)

    numbers = timeline.numbers() if timeline else []
    with patch.object(video_pyav._Reader, "_decoded", watched):
        read_video(path, [start], 0.5, fps=10, resize=(64, 64), crop=(64, 64), timeline=numbers)
    return begun


# FFmpeg's seeks in MPEG streams end after the keyframe, and the reader then seeks 3 s earlier; AVI is read otherwise.
ELSEWHERE = ("ts", "mpg", "avi")


@pytest.mark.parametrize("name", [name for name in [*LIBRARY, *LONG] if not name.endswith(ELSEWHERE)])
def test_the_reader_begins_at_the_keyframe(name: str, files: Files) -> None:
    """Also where FFmpeg's seek ends before it: in MP4 with an edit list, of variable frame rate, or in fragments."""
    path = files(name)
    timeline, end = timeline_of(path), container_probe(path).duration
    for time in [time for time in by_reading_all(path, timeline) if time + 0.5 < end][-4:]:
        stored = float(np.float32(not_before(time)))
        assert stored >= time
        assert first_packets(path, stored, timeline) == [pytest.approx(time, abs=1e-6)]


@pytest.mark.parametrize(
    "suffix, how",
    [
        ("ts", {"shifts": (50, 20)}),
        ("flv", {"skip": 13}),
        ("mkv", {}),
        ("mp4", {"options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}),
    ],
)
def test_keyframes_of_a_mended_clock(suffix: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = timelines.joined(tmp_path, suffix, (0, 9, 16), **how)
    timeline = timeline_of(path)
    assert timeline is not None and len(timeline.pieces) == 2
    spec = Segments(count=4, start="keyframe")
    info = probe(path, "a", spec)
    assert info.duration == pytest.approx(16, abs=0.3) and info.at_keyframes >= 3
    random = segment_starts("a", info.duration - info.begin, spec)
    assert random is not None
    for start in set(info.starts) - set((random + info.begin).tolist()):
        (begun,) = first_packets(path, start, timeline)
        assert not_before(begun) == start
        assert max(map(abs, timelines.offsets(path, start))) < timelines.SYNC


def test_starts_at_keyframes(files: Files) -> None:
    path, spec = files("long.mp4"), Segments(count=3, start="keyframe")
    info = probe(path, "a", spec)
    assert info == probe(path, "a", spec)
    random = segment_starts("a", info.duration, spec)
    assert random is not None
    part = info.duration / 3
    for i, start in enumerate(info.starts):
        fits = [k for k in by_reading_all(path) if i * part <= not_before(k) <= (i + 1) * part - 3]
        assert start in ([not_before(k) for k in fits] or [random[i]])
    assert info.at_keyframes == sum(s not in random for s in info.starts) > 0
    assert replace(info, starts=(), at_keyframes=0) == container_probe(path)


def test_every_keyframe_of_a_part_is_drawn_as_often(files: Files) -> None:
    path = files("refresh.mkv")  # only some keyframes of its index can be used
    spec = Segments(count=1, seconds=1, window=1, start="keyframe")
    fits = [not_before(time) for time in by_reading_all(path) if time <= container_probe(path).duration - 1]
    drawn: Counter[float] = Counter()
    end = container_probe(path).duration
    with opened(path) as keyframes:
        assert len(keyframes.listed(0, 1e6)) > len(fits) >= 1
        for i in range(300):
            starts, at_keyframes = keyframe_starts(f"v{i}", 0.0, end, spec, np.array([0.1]), keyframes)
            drawn[float(starts[0])] += at_keyframes
    assert set(drawn) == set(fits)


@pytest.mark.parametrize(
    "streams, how_long",
    [([Audio(20)], "aac"), ([small(gop=1000), Audio(20)], "one keyframe"), ([small(), Audio(2.5)], "too short")],
)
def test_random_starts_stay(streams: list[Video | Audio], how_long: str, tmp_path: Path) -> None:
    spec = Segments(start="keyframe", seed=3)
    info = probe(write(tmp_path / "file.mp4", *streams), "a", spec)
    random = segment_starts("a", info.duration, spec)
    if how_long == "too short":
        assert random is None and info.starts == ()
        return
    assert random is not None
    first = 1 if how_long == "one keyframe" else 0
    assert info.starts[:first] == (0.0,) * first and info.at_keyframes == first
    assert info.starts[first:] == tuple(random[first:])


def test_parts_shorter_than_a_segment_stay_evenly_spread(tmp_path: Path) -> None:
    info = probe(write(tmp_path / "short.mp4", Video(regular(6, 25), gop=5)), "a", Segments(start="keyframe"))
    assert info.starts == pytest.approx(np.linspace(0, 3, 6)) and info.at_keyframes == 0


def test_damaged_places_have_random_starts(files: Files, tmp_path: Path) -> None:
    data = bytearray(Path(files("open.mkv")).read_bytes())
    half, most = len(data) // 2, len(data) * 9 // 10
    data[half:most] = bytes(most - half)  # the index at the end stays
    (tmp_path / "damaged.mkv").write_bytes(data)
    spec = Segments(count=4, start="keyframe")
    info = probe(str(tmp_path / "damaged.mkv"), "a", spec)
    random = segment_starts("a", info.duration, spec)
    assert random is not None
    assert info.starts[0] != random[0] and info.starts[2] == random[2]
