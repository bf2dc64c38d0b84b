"""The journal: whatever a kill leaves of it, whole records are read back and torn ones are cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.journal import Journal
from pipeline.readers import MediaError


def opened(folder, key="k"):
    return Journal(folder, key, (2, 3), np.float16)


def same(a, b):
    return (a.reason, a.message) == (b.reason, b.message) if isinstance(a, MediaError) else np.array_equal(a, b)


def outcome(i):
    return MediaError("decode_error", f"bad “{i}”") if i % 3 == 2 else np.full((2, 3), i, np.float16)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 400), st.sampled_from(["cut", "flip", "garbage"]))
def test_torn_tail(tmp_path_factory, count, position, damage):
    folder = tmp_path_factory.mktemp("journal")
    sizes = []
    with opened(folder) as journal:
        for i in range(count):
            journal.add(i, outcome(i))
            sizes.append((folder / "journal").stat().st_size)
    data = bytearray((folder / "journal").read_bytes())
    title = data.index(b"\n") + 1
    position = min(title + position, len(data))
    if damage == "cut":
        data = data[:position]
    elif damage == "flip" and position < len(data):
        data[position] ^= 1
    else:
        data += b"\x07" * position
        position = len(data)
    (folder / "journal").write_bytes(data)
    whole = sum(size <= position for size in sizes)
    with opened(folder) as journal:
        assert sorted(journal.outcomes) == list(range(whole))
        assert all(same(journal.outcomes[i], outcome(i)) for i in range(whole))
        journal.add(100, outcome(100))
    with opened(folder) as journal:  # what was appended after the repair can be read too
        assert sorted(journal.outcomes) == [*range(whole), 100]


def test_another_key_starts_anew(tmp_path):
    with opened(tmp_path) as journal:
        journal.add(0, outcome(0))
    with opened(tmp_path, "other") as journal:
        assert journal.outcomes == {}


def test_wrong_shape_is_refused(tmp_path):
    with opened(tmp_path) as journal, pytest.raises(ValueError, match="float32"):
        journal.add(0, np.zeros((2, 3), np.float32))


def test_failures_can_be_forgotten(tmp_path):
    with opened(tmp_path) as journal:
        for i in range(5):
            journal.add(i, outcome(i))
        journal.forget([2])
        journal.add(7, outcome(7))
    with opened(tmp_path) as journal:
        assert sorted(journal.outcomes) == [0, 1, 3, 4, 7]


def test_discard_leaves_nothing(tmp_path):
    journal = opened(tmp_path / "work" / "musicnn" / "00000")
    journal.add(0, outcome(0))
    journal.discard()
    assert not (tmp_path / "work" / "musicnn" / "00000").exists()
    assert (tmp_path / "work" / "musicnn").exists()  # another job may be about to use it
