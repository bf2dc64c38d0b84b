"""The benches run: short files of every codec, one measurement, the cost of a collection."""

import time
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest

from bench import decode, images, keyframes, known, load, measure, media, modes, plan, query, shards, timelines, train
from config.cli import UserError
from data.folder import MEDIA
from heads.dataset import OVERHEAD
from pipeline.readers.container import probe
from tests.support.media import Video, regular, write
from tests.support.simulate import simulate
from tests.support.timelines import streams

pytestmark = pytest.mark.workflow


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
    ours, plain = (decode.measure(decoder, str(files[0]), "3.2") for decoder in ("pyav", "plain"))
    assert ours["frames"] == plain["frames"] == 180 and ours["mean"] == pytest.approx(plain["mean"], abs=1e-6)


def test_starts_at_keyframes_are_measured(tmp_path):
    path = write(tmp_path / "file.mp4", Video(regular(30, 25), gop=40, bframes=2))
    starts = {how: keyframes.starts_of(how, path, "a") for how in keyframes.STARTS}
    for how in ("keyframe", "nearest"):
        assert all(start * 25 % 40 == pytest.approx(0, abs=1e-3) for start in starts[how])
    distances = [[abs(a - b) for a, b in zip(starts["random"], starts[how], strict=True)] for how in keyframes.STARTS]
    assert all(near <= drawn for drawn, near in zip(*distances[1:], strict=True))
    costs = {how: keyframes.measure(how, path, "a") for how in keyframes.STARTS}
    assert all(cost["frames"] == 180 and cost["reading"]["read"] > 0 for cost in costs.values())


def test_costs_follow_from_the_results():
    result = measure.load("extract")
    seconds = plan.from_results(result)
    assert set(seconds) == {"musicnn", "r2plus1d"}
    text = plan.words({"a": 3600.0}, 10, 5)
    assert "10 core hours" in text and "2 h 00 min" in text
    assert "not known" in plan.gpu_words(None, 1)


def test_members_of_shards_are_measured(files, tmp_path):
    shards.write_shard(tmp_path / "shard.tar", files[0])
    costs = [
        shards.measure(how, str(files[0]), str(tmp_path / "shard.tar"), "3.2", str(tmp_path)) for how in shards.HOW
    ]
    assert len({cost["digest"] for cost in costs}) == 1 and all(cost["read"] > 0 for cost in costs)
    shards.write_headers(tmp_path / "headers.tar", 20)
    index = shards.of_index(tmp_path / "headers.tar", tmp_path / "indexes", 1)
    assert index["members"] == 40 and "40 members" in shards.index_words({"index": index})


def test_cosine_is_the_lowest():
    import numpy as np

    assert modes.cosine(np.eye(2), np.array([[1.0, 0], [1, 1]])) == pytest.approx(2**-0.5)


def test_fidelity_compares_errors_differences_and_neighbours():
    import numpy as np

    reference = np.array([[10.0, 0, 0], [10, 1, 0], [10, 0, 4], [10, 1, 4]])
    same = images.fidelity(reference, reference)
    assert same == pytest.approx({"error": 0, "cosine_lowest": 1, "cosine_mean": 1, "same_nearest": 1})
    moved = images.fidelity(reference + [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, -4]], reference)
    assert moved["error"] == pytest.approx(4 / np.sqrt(117)) and moved["same_nearest"] < 1
    assert moved["cosine_lowest"] < moved["cosine_mean"] < 1
    shifted = images.fidelity(reference + 5, reference)
    assert shifted["cosine_lowest"] == pytest.approx(1) and shifted["error"] > 0.5


def test_training_is_measured(tmp_path, monkeypatch):
    simulate(tmp_path, videos=300, segments=2, dims=(24, 16), shard_videos=32)
    monkeypatch.setattr(train, "SIZES", (200, 300))
    monkeypatch.setattr(train, "STREAM_GB", (OVERHEAD + 40_000) / 1e9)
    monkeypatch.setattr(train, "peak", lambda: {"best": 100.0, "torch": 50.0})
    found = {mode: train.in_child(str(tmp_path), mode, str(time.time())) for mode in ("memory", "stream")}
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


def test_a_training_is_measured_as_a_whole_process(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "nonsense")  # the caller's own; OpenMP would complain
    load.planted(tmp_path, 200, epochs=1)
    found = load.training(tmp_path, 1, load.POLICY)
    assert found["wall"] > 0 and found["cpu"] > 0 and len(found["digest"]) == 64
    with pytest.raises(UserError, match="exists: the demo has to start from nothing"):
        load.demo(tmp_path, 1)


def test_policies_take_turns_idle_and_beside_busy_processes(tmp_path, monkeypatch):
    seen, beside = [], [False]

    @contextmanager
    def busy(processes):
        beside[0] = True
        yield

    def training(results, threads, policy):
        seen.append((beside[0], next(name for name, each in load.POLICIES.items() if each is policy)))
        return {"wall": float(len(seen)), "cpu": 1.0, "digest": "same"}

    monkeypatch.setattr(load, "busy", busy)
    monkeypatch.setattr(load, "training", training)
    found = load.trainings(tmp_path, 2, repeats=3)
    turn = ["brief", "default", "passive"]
    assert [name for late, name in seen if not late] == ["brief", *turn * 3]
    assert [name for late, name in seen if late] == [*turn * 2, "brief"]
    assert found["seconds"]["idle"]["brief"] == {"median": 5.0, "min": 2.0, "max": 8.0}
    monkeypatch.setattr(load, "training", lambda *given: training(*given) | {"digest": str(len(seen))})
    with pytest.raises(RuntimeError, match="different checkpoints"):
        load.trainings(tmp_path, 2, repeats=1)


def test_the_bars_of_waiting_are_ratios_of_medians():
    def of(brief, default, passive):
        return {
            name: measure.summary([value]) for name, value in zip(load.POLICIES, (brief, default, passive), strict=True)
        }

    seconds = {"idle": of(4.0, 3.9, 4.2), "beside": of(8.8, 40.0, 9.0)}
    found = {"seconds": seconds, "processor_seconds": seconds, "demo_minutes": 26.0}
    assert [(round(each["value"], 2), each["met"]) for each in load.bars(found)] == [
        (2.56, True),
        (2.2, True),
        (26, False),
    ]
    assert len(load.bars(found | {"demo_minutes": None})) == 2
    assert "2.2 ×" in load.table(found) and "26 minutes" in load.table(found)


def test_busy_processes_keep_a_core_busy_and_end():
    with load.busy(1) as running:
        (process,) = running
        time.sleep(0.5)
        assert process.poll() is None and sum(psutil.Process(process.pid).cpu_times()[:2]) > 0.05
    assert process.returncode is not None


def test_files_are_told_right_from_wrong_by_their_content(tmp_path):
    audio = streams(0, 12)[1]
    video = Video(regular(12, 25), width=320, height=240, gop=25, draw=lambda k, width, height: known.numbered_frame(k))
    assert timelines.outcome(write(tmp_path / "right.mkv", video, audio), "a")["outcome"] == "right"
    late = write(tmp_path / "late.mkv", video, replace(audio, wave=lambda t: audio.wave(t + 1)))
    assert timelines.outcome(late, "a")["outcome"] == "WRONG"
    still = write(tmp_path / "still.mkv", replace(video, times=[0.0]), audio)
    assert timelines.outcome(still, "a")["outcome"] == "video: still_image"


def test_a_query_is_measured(tmp_path, monkeypatch):
    query.plant(tmp_path, 600, 1, dict.fromkeys(query.KEYS, query.NARROW))
    monkeypatch.setattr(query, "REPEATS", 1)
    floor = query.floor(str(tmp_path), "2")
    assert floor["bytes"] == 3 * (256 * 6 * 256 * 2 + 4)  # three whole chunks, each with its checksum
    size = query.sizes(str(tmp_path), "1")
    assert (size["videos"], size["segments"], size["embedding"]) == (600, 6, 256) and size["gallery"] > 550
    assert [line["met"] for line in query.bars(size)] == [True, True]
    assert "600 × 6 segments of 256 numbers" in query.table_of_size({"size": size, "floor": floor})
