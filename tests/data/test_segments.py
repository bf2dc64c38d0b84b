"""Segments and splits: properties of pure functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.pipeline import Segments
from data.segments import TRIES, keyframe_starts, not_before, segment_starts, uniform
from pipeline.probe import too_short

specs = st.builds(
    lambda count, seconds, extra, seed: Segments(count=count, seconds=seconds, window=seconds + extra, seed=seed),
    st.integers(1, 12),
    st.floats(1, 10),
    st.floats(0, 5),
    st.integers(0, 3),
)


@given(st.text(max_size=20), st.floats(0.5, 4000), specs)
def test_segments_lie_in_the_video_in_order(video_id, duration, spec):
    starts = segment_starts(video_id, duration, spec)
    if duration < spec.seconds:
        assert starts is None
        return
    assert starts.shape == (spec.count,)
    assert starts[0] >= 0 and starts[-1] + spec.seconds <= duration * (1 + 1e-12)
    assert (np.diff(starts) >= 0).all()
    part = duration / spec.count
    if part >= spec.seconds:  # one segment inside each part
        index = np.arange(spec.count)
        assert (starts >= index * part - 1e-9).all()
        assert (starts + spec.seconds <= (index + 1) * part + 1e-9).all()


@given(st.floats(90, 4000), specs.filter(lambda s: s.count * s.window < 90))
def test_segment_is_the_middle_of_a_random_window(duration, spec):
    starts = segment_starts("a", duration, spec)
    margin = (spec.window - spec.seconds) / 2
    index = np.arange(spec.count) * duration / spec.count
    draws = (starts - margin - index) / (duration / spec.count - spec.window)
    assert ((draws > -1e-6) & (draws < 1 + 1e-6)).all()


def test_segments_are_the_same_for_ever():
    """A change here would silently re-extract every cache: bump the store's format instead."""
    assert segment_starts("dQw4w9WgXcQ", 212.0, Segments()) == pytest.approx(GOLDEN, abs=1e-9)


GOLDEN = [2.665503677, 38.771528217, 90.053688319, 127.915612378, 161.094743405, 202.826986359]


def test_windows_are_uniform_and_differ_between_videos():
    spec = Segments(count=2, seconds=3, window=5)
    first = np.array([segment_starts(f"v{i}", 110.0, spec)[0] for i in range(4000)])
    draws = np.sort((first - 1) / 50)
    # Kolmogorov–Smirnov distance of 4000 uniform draws: below 0.04 except once in 10^5 sets; the draws are fixed.
    assert np.abs(draws - np.arange(4000) / 4000).max() < 0.04


@pytest.mark.parametrize("duration", [float("nan"), 0.0, -1.0, 2.99])
def test_no_segments(duration):
    assert segment_starts("a", duration, Segments()) is None


def test_uniform_takes_any_text():
    assert 0 <= uniform("\udcff") < 1


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0.0, "0.00 s"),
        (2.0, "2.00 s"),
        (2.994, "2.99 s"),
        (2.9998, "2.9998 s"),
        (2.999999, "2.999999 s"),
        (np.nextafter(3, 0), "3.000000000 s"),
        (float("nan"), "nan s"),
    ],
)
def test_a_video_that_is_a_little_too_short_is_said_with_enough_digits(duration, words):
    assert too_short(float(duration), 3.0, {}) == f"it lasts {words}, a segment 3 s"


class Known:
    """Keyframes of no file: `stamps` ascending (s); None where decoding cannot begin.

    Listed as a reader does that knows decoding times only: a second too many on both sides.
    """

    def __init__(self, stamps, usable=lambda number: True):
        self.stamps, self.usable, self.asked = np.asarray(stamps), usable, 0

    def listed(self, first, last):
        return [i for i, stamp in enumerate(self.stamps) if first - 1 <= stamp <= last + 1]

    def shown(self, number):
        self.asked += 1
        return float(self.stamps[number]) if self.usable(number) else None


@given(
    st.text(max_size=20),
    st.floats(0, 50),
    st.floats(0.5, 4000),
    specs,
    st.lists(st.floats(0, 4050), max_size=60),
    st.sets(st.integers(0, 60)),
)
def test_segments_begin_at_keyframes_of_their_parts(video_id, begin, duration, spec, stamps, unusable):
    random, end = segment_starts(video_id, duration, spec), begin + duration
    if random is None:
        return
    random = random + begin
    keyframes = Known(sorted(stamps), lambda number: number not in unusable)
    starts, moved = keyframe_starts(video_id, begin, end, spec, random, keyframes)
    assert (np.diff(starts) >= 0).all()
    usable = [not_before(stamp) for i, stamp in enumerate(keyframes.stamps) if i not in unusable]
    part, changed = duration / spec.count, 0
    for i, start in enumerate(starts):
        fits = [k for k in usable if begin + i * part <= k <= min(begin + (i + 1) * part, end) - spec.seconds]
        if part < spec.seconds or not fits:
            assert start == random[i]
        else:
            assert start in fits or len(keyframes.listed(begin + i * part, begin + (i + 1) * part)) > TRIES
            changed += 1
    assert moved <= changed and keyframes.asked <= TRIES * spec.count


def test_every_keyframe_of_a_part_is_as_likely():
    stamps = [3, 4, 20, 21, 22, 23, 40, 47, 47.5]  # the last one leaves no room in the first half of 101 s
    keyframes = Known(stamps, lambda number: number % 3 != 2)
    spec = Segments(count=2, start="keyframe")
    drawn = np.array(
        [keyframe_starts(f"v{i}", 0.0, 101.0, spec, np.array([1.5, 60.5]), keyframes)[0] for i in range(3000)]
    )
    assert (drawn[:, 1] == 60.5).all()
    values, counts = np.unique(drawn[:, 0], return_counts=True)
    assert values.tolist() == [3, 4, 21, 22, 40, 47]
    # Chi squared with 5 degrees of freedom: above 25.7 once in 10,000 sets; the draws are fixed.
    assert ((counts - 500) ** 2 / 500).sum() < 25.7


def test_keyframes_of_the_same_video_are_the_same_for_ever():
    starts, moved = keyframe_starts("a", 0.0, 100.0, Segments(count=2), np.array([1.0, 60.0]), Known(range(0, 100, 3)))
    assert starts.tolist() == KEYFRAME_GOLDEN and moved == 2
    other, _ = keyframe_starts("b", 0.0, 100.0, Segments(count=2), np.array([1.0, 60.0]), Known(range(0, 100, 3)))
    assert other.tolist() != KEYFRAME_GOLDEN


KEYFRAME_GOLDEN = [27.0, 75.0]


@given(st.floats(0, 1e6))
def test_a_start_in_the_store_is_not_before_its_keyframe(stamp):
    start = not_before(stamp)
    assert float(np.float32(start)) == start >= stamp
    assert float(np.nextafter(np.float32(start), np.float32(-1))) < stamp
