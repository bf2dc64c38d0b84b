"""Segments and splits: properties of pure functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.pipeline import Segments
from data.segments import segment_starts, uniform
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
    assert too_short(float(duration), 3.0) == f"it lasts {words}, a segment 3 s"
