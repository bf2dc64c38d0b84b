"""Forward passes beside decoding: the same answers in the same order however many run at a time."""

import threading

import numpy as np
import pytest

from pipeline.forward import Meter, layout, outcomes
from pipeline.readers import MediaError


class Doubling:
    dim = 1

    def __init__(self):
        self.sizes, self.threads = [], set()

    def features(self, segments):
        self.sizes.append(len(segments))
        self.threads.add(threading.get_ident())
        return segments.astype(np.float32) * 2


def answers(count=9):
    for row in range(count):
        yield row, MediaError("timeout", "late") if row % 4 == 1 else np.full((2, 1), row, np.float32)


@pytest.mark.parametrize("passes", [0, 1, 3])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_order_and_values(passes, batch):
    results = list(outcomes(answers(), Doubling(), batch, passes, Meter()))
    assert [row for row, _ in results] == list(range(9))
    for row, answer in results:
        if row % 4 == 1:
            assert answer.reason == "timeout"
        else:
            assert answer.dtype == np.float16 and answer.tolist() == [[2 * row]] * 2


def test_turns_stay_in_this_thread():
    backbone = Doubling()
    list(outcomes(answers(), backbone, 1, 0, Meter()))
    assert backbone.threads == {threading.get_ident()}


def test_groups_reach_the_batch():
    backbone = Doubling()
    list(outcomes(answers(8), backbone, 4, 0, Meter()))
    assert backbone.sizes == [4, 4, 4]


def test_what_float16_cannot_hold_is_a_failure():
    big = [(0, np.full((2, 1), 1e6, np.float32)), (1, np.ones((2, 1), np.float32))]
    results = dict(outcomes(iter(big), Doubling(), 100, 2, Meter()))
    assert results[0].reason == "decode_error" and results[1].tolist() == [[2], [2]]


def test_a_bug_in_the_network_comes_out():
    class Broken(Doubling):
        def features(self, segments):
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        list(outcomes(answers(), Broken(), 1, 2, Meter()))


def test_bounded_work_ahead():
    taken = []

    def source():
        for row in range(50):
            taken.append(row)
            yield row, np.zeros((1, 1), np.float32)

    for row, _ in outcomes(source(), Doubling(), 1, 2, Meter()):
        assert len(taken) <= row + 5


def test_layouts():
    assert layout(1, "cpu").passes == 0 and layout(1, "cpu").ahead == 0
    assert layout(8, "cpu").passes == 8 and layout(8, "cpu").threads == 1
    assert layout(8, "cpu", engine_threads=True).passes == 1
    assert layout(8, "cuda").decoders == 8
