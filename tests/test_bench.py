"""The benches run: short files of every codec, one measurement, the cost of a collection."""

import time

import pytest
from simulate import simulate

from bench import decode, media, modes, plan, train
from bench.measure import load
from data.manifest import MEDIA
from heads.memory import OVERHEAD
from pipeline.readers.probe import probe


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return [media.path_of(folder, file) for file in media.render(folder, 3.2)]


def test_files_are_what_they_say(files):
    for path in files:
        found = probe(str(path))
        assert found.duration == pytest.approx(3.2, abs=0.1) and found.has_audio and path.suffix in MEDIA
        assert (found.width, found.height) == (media.WIDTH, media.HEIGHT)


def test_decoders_are_measured(files):
    ours, plain = (decode.one(decoder, str(files[0]), 3.2) for decoder in ("pyav", "plain"))
    assert ours["frames"] == plain["frames"] == 180 and ours["mean"] == pytest.approx(plain["mean"], abs=1e-6)


def test_costs_follow_from_the_results():
    result = load("extract")
    seconds = plan.from_results(result)
    assert set(seconds) == {"musicnn", "r2plus1d"}
    text = plan.words({"a": 3600.0}, 10, 5)
    assert "10 core hours" in text and "2 h 00 min" in text
    assert "not known" in plan.gpu_words(None, 1)


def test_cosine_is_the_lowest():
    import numpy as np

    assert modes.cosine(np.eye(2), np.array([[1.0, 0], [1, 1]])) == pytest.approx(2**-0.5)


def test_training_is_measured(tmp_path, monkeypatch):
    simulate(tmp_path, videos=300, segments=2, dims=(24, 16), shard_videos=32)
    monkeypatch.setattr(train, "SIZES", (200, 300))
    monkeypatch.setattr(train, "STREAM_GB", (OVERHEAD + 40_000) / 1e9)
    monkeypatch.setattr(train, "peak", lambda: {"best": 100.0, "torch": 50.0})
    found = {mode: train.in_child(str(tmp_path), mode, time.time()) for mode in ("memory", "stream")}
    assert [run["videos"] for run in found["memory"]["runs"]] == [300, 200]
    assert found["memory"]["runs"][0]["pairs"] == found["stream"]["runs"][0]["pairs"]
    assert min(found["memory"]["runs"][0]["slices"].values()) > 0
    assert all(run["gflops"] > 0 and run["rss"] > 0 for mode in found for run in found[mode]["runs"][:1])
    table = train.table(found)
    assert "200 videos in memory" in table and table.count("\n") == 4


def test_parts_of_training_are_measured_apart(monkeypatch):
    run = {"videos": 500, "gflops": 40.0, "peak": {"torch": 50.0, "best": 80.0}, "rss": 2e9}
    committed = {"stream": {"runs": [run]}}
    monkeypatch.setattr(train, "load", lambda name: committed)
    monkeypatch.setattr(train, "child", lambda module, folder, part, started: {"baseline": {"seconds": 60.0}})
    found = train.measure("folder", ["paper"])
    assert set(found) == {"stream", "paper", "bars"} and found["stream"] == committed["stream"]
    assert [(line["value"], line["met"]) for line in found["bars"]] == [
        (0.8, True),
        (0.5, False),
        (2.0, True),
        (5.0, True),
    ]
