"""Forward passes beside decoding: the same answers however many run at a time, for one network or for several."""

import threading

import numpy as np
import pytest

from pipeline.forward import Meter, Network, is_out_of_memory, layout, outcomes
from pipeline.readers import MediaError

NAME = "doubling"


class Doubling:
    dim = 1

    def __init__(self):
        self.sizes, self.threads = [], set()

    def features(self, segments):
        self.sizes.append(len(segments))
        self.threads.add(threading.get_ident())
        return segments.astype(np.float32) * 2


def answers(count=9, names=(NAME,)):
    for row in range(count):
        failed = row % 4 == 1
        yield row, {n: MediaError("timeout", "late") if failed else np.full((2, 1), row, np.float32) for n in names}


def results(decoded, backbone, batch, passes):
    """Run one network; return {row: its outcome}, and check that each row comes once."""
    found = [(row, outcome) for _, row, outcome in outcomes(decoded, {NAME: Network(backbone, batch)}, passes, Meter())]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("passes", [0, 1, 3])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_every_row_and_its_values(passes, batch):
    found = results(answers(), Doubling(), batch, passes)
    assert sorted(found) == list(range(9))
    for row, answer in found.items():
        if row % 4 == 1:
            assert answer.reason == "timeout"
        else:
            assert answer.dtype == np.float16 and answer.tolist() == [[2 * row]] * 2


def test_turns_stay_in_this_thread():
    backbone = Doubling()
    results(answers(), backbone, 1, 0)
    assert backbone.threads == {threading.get_ident()}


def test_groups_reach_the_batch():
    backbone = Doubling()
    results(answers(8), backbone, 4, 0)
    assert backbone.sizes == [4, 4, 4]


@pytest.mark.parametrize("passes", [0, 2])
def test_several_networks_get_their_own_rows_and_batches(passes):
    """Of two networks, one lacks every row and the other the last three, with a batch of its own."""
    networks = {"all": Network(Doubling(), 4), "some": Network(Doubling(), 100)}

    def decoded():
        for row, given in answers(8, ("all", "some")):
            yield row, given if row > 4 else {"all": given["all"]}

    found = sorted((name, row) for name, row, _ in outcomes(decoded(), networks, passes, Meter()))
    assert found == [("all", row) for row in range(8)] + [("some", row) for row in (5, 6, 7)]
    # The same groups as alone: what shares a forward pass does not depend on the company.
    assert sorted(networks["all"].backbone.sizes) == [4, 4, 4] and networks["some"].backbone.sizes == [4]


def test_what_float16_cannot_hold_is_a_failure():
    big = [(0, {NAME: np.full((2, 1), 1e6, np.float32)}), (1, {NAME: np.ones((2, 1), np.float32)})]
    found = results(iter(big), Doubling(), 100, 2)
    assert found[0].reason == "not_finite" and found[1].tolist() == [[2], [2]]


def test_a_failing_network_costs_the_other_one_nothing():
    class NaN(Doubling):
        def features(self, segments):
            return np.full((len(segments), 1), np.nan, np.float32)

    networks = {"good": Network(Doubling(), 1), "bad": Network(NaN(), 1)}
    for name, row, outcome in outcomes(answers(9, ("good", "bad")), networks, 2, Meter()):
        if row % 4 == 1:
            assert outcome.reason == "timeout"
        elif name == "bad":
            assert outcome.reason == "not_finite"
        else:
            assert outcome.tolist() == [[2 * row]] * 2


class Greedy(Doubling):
    """Has memory for `most` segments at a time."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error = most, error

    def features(self, segments):
        if len(segments) > self.most:
            raise self.error
        return super().features(segments)


ERRORS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_without_memory_segments_are_tried_one_by_one(error, caplog):
    found = results(answers(3), Greedy(1, error), 4, 0)
    assert found[0].tolist() == [[0]] * 2 and found[2].tolist() == [[4]] * 2 and found[1].reason == "timeout"
    assert "doubling: no memory for 4 segments at a time" in caplog.text
    failed = results(answers(1), Greedy(0, error), 4, 0)[0]
    assert failed.reason == "out_of_memory" and "no memory for one segment" in failed.message


def test_the_errors_of_torch_are_known():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("passes", [0, 2])
def test_a_bug_in_the_network_comes_out(passes):
    class Broken(Doubling):
        def features(self, segments):
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        results(answers(), Broken(), 1, passes)


def test_bounded_work_ahead():
    taken, done = [], 0

    def source():
        for row in range(50):
            taken.append(row)
            yield row, {NAME: np.zeros((1, 1), np.float32)}

    for _ in outcomes(source(), {NAME: Network(Doubling(), 1)}, 2, Meter()):
        done += 1
        assert len(taken) <= done + 4


def test_layouts():
    assert layout(1, "cpu").passes == 0 and layout(1, "cpu").ahead == 0
    assert layout(8, "cpu").passes == 8 and layout(8, "cpu").threads == 1
    assert layout(8, "cpu", engine_threads=True).passes == 1
    assert layout(8, "cuda").decoders == 8
