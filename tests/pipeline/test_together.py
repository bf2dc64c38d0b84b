"""Backbones of one pass: each gets, to the byte, what it gets alone; a failing one costs the others nothing."""

from __future__ import annotations

import copy
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bench.light import NAMES as KINDS
from bench.light import LightVideo, register
from bench.runs import Run, write_table
from config.cli import Stopping, UserError
from config.paths import Paths
from pipeline import extract
from pipeline.backbones.registry import REGISTRY
from pipeline.heartbeat import last
from pipeline.records import read_plan
from pipeline.retry import forget
from pipeline.status import status
from pipeline.store import read_array
from pipeline.workers import Pool, Task
from tests.support.commands import execute
from tests.support.media import Audio, Video, regular, write
from tests.support.workflow import leftovers

pytestmark = pytest.mark.workflow

LIGHT = {"weights": "random", "kind": "light_video"}
NAMES = ("light_video", "fast", "same")
"""One frame a second, five, and again five."""


def video(seconds: float, **how: Any) -> Video:
    return Video(regular(seconds, 25), gop=25, **how)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A probed shard of videos, some of them bad in one way or another, and three backbones."""
    folder = tmp_path_factory.mktemp("together")
    files = {
        "good": write(folder / "good.mp4", video(7), Audio(7)),
        "webm": write(folder / "good.mkv", video(7, bframes=2), Audio(7)),
        "damaged": write(folder / "damaged.mp4", video(7), Audio(7)),
        "late": write(folder / "late.mp4", video(7), Audio(7)),
        "still": write(folder / "still.mp4", Video([0.0]), Audio(7)),
        "deaf": write(folder / "audio.mp4", Audio(7)),
        "short": write(folder / "short.mp4", video(1), Audio(1)),
        "last": write(folder / "last.mp4", video(7, width=200), Audio(7)),
    }
    table = write_table(folder / "videos.parquet", [(name, Path(path)) for name, path in files.items()])
    settings = {"light_video": {"weights": "random"}, "fast": LIGHT | {"options": {"fps": 5.0}}}
    settings["same"] = settings["fast"] | {"seed": 1}
    segments = {"count": 2, "seconds": 3.0, "window": 3.2}
    run = Run(folder / "results", table, settings, segments=segments, decoding={"partial": True})
    run.prepare()
    assert run.plan.passes == [list(NAMES)]
    ended = run.watch("probe", 0, 60)
    assert ended.status == 0, ended.text
    start = np.asarray(read_array(run.paths, "start")[:])
    damage(files["damaged"], start[2, 1] + 0.5, start[2, 1] + 1.2)
    damage(files["late"], start[3, 1] + 2.3, start[3, 1] + 2.9)  # where one frame a second needs nothing
    return run


def damage(path: str, begin: float, end: float) -> None:
    """Spoil the frames of a file between two seconds."""
    data = bytearray(Path(path).read_bytes())
    with av.open(path) as container:
        packets: list[Any] = [p for p in container.demux(video=0) if p.size and begin < p.pts * p.time_base < end]
    for packet in packets:
        data[packet.pos + 4 : packet.pos + packet.size] = b"\x5a" * (packet.size - 4)
    Path(path).write_bytes(data)


@pytest.fixture
def fresh(probed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy in which nothing has been extracted."""
    for kind in KINDS:  # taken back after the test
        monkeypatch.setitem(REGISTRY, kind, None)
    register()
    return copied(probed, tmp_path / "results")


def copied(run: Run, results: Path) -> Run:
    shutil.copytree(run.paths.results, results)
    config = run.config.model_copy(update={"results": str(results)})
    (results / "config.json").write_text(config.model_dump_json())
    other = copy.copy(run)
    other.paths, other.config = Paths(results), config
    return other


def state(run: Run, name: str) -> tuple[bytes, dict[str, bytes], dict[str, str]]:
    """Return the done record, the features and the outcomes of a backbone."""
    return run.paths.done(name, 0).read_bytes(), run.features(name), run.outcomes(name)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, int]]:
    """Return a list that fills with (row, reader, requests) of every task that is begun."""
    seen: list[tuple[int, str, int]] = []
    results = Pool.results

    def watched(self: Pool, tasks: list[Task[int]], ahead: int) -> Any:
        for task in tasks:
            seen.append((task.key, task.function.partition(":")[2], len(task.arguments.get("requests", [0]))))
        return results(self, tasks, ahead)

    monkeypatch.setattr(Pool, "results", watched)
    return seen


def test_a_pass_gives_each_what_it_gets_alone(probed: Run, fresh: Run, tmp_path: Path) -> None:
    alone = copied(probed, tmp_path / "alone")
    extract.extract(fresh.config, NAMES, 0)
    for name in NAMES:
        extract.extract(alone.config, [name], 0)
        assert state(fresh, name) == state(alone, name)
    bad = {"still": "still_image", "deaf": "no_video_stream", "short": "too_short"}
    assert fresh.outcomes("fast") == dict.fromkeys(("good", "webm", "damaged", "late", "last"), "ok") | bad
    # What one reading cannot serve each backbone reads alone; the one with few frames misses some of the damage.
    assert [fresh.record(name, 0).partial for name in NAMES] == [1, 2, 2]
    assert fresh.features("fast") == fresh.features("same") != fresh.features("light_video")
    assert not leftovers(fresh.paths.results)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_decoding_serves_all(fresh: Run, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = decoded(monkeypatch)
    settings = {name: one.model_copy(update={"threads": threads}) for name, one in fresh.config.backbones.items()}
    extract.extract(fresh.config.model_copy(update={"backbones": settings}), NAMES, 0)
    # Two of the three want the same.
    assert seen == [(row, "videos", 2) for row in range(8) if row != 6]
    assert {name: last(fresh.paths.progress(name, 0))["done"] for name in NAMES} == dict.fromkeys(NAMES, 7)


def test_only_what_is_lacking_is_decoded(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    extract.extract(fresh.config, ["light_video"], 0)
    before = state(fresh, "light_video")
    seen = decoded(monkeypatch)
    extract.extract(fresh.config, NAMES, 0)
    assert seen == [(row, "video", 1) for row in range(8) if row != 6]  # for the other two, whose request is the same
    assert state(fresh, "light_video") == before and state(fresh, "fast")[2]["good"] == "ok"
    seen.clear()
    extract.extract(fresh.config, NAMES, 0)
    assert not seen


def test_a_video_to_be_tried_again_is_decoded_for_those_that_lack_it(
    fresh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One backbone has failed on a video; `pipeline.retry` forgets that failure alone."""
    monkeypatch.setattr(Broken, "most", 0)
    monkeypatch.setattr(extract.Lane, "network", breaking(extract.Lane.network, "fast"))
    extract.extract(fresh.config, NAMES, 0)
    assert fresh.outcomes("fast")["good"] == "out_of_memory" and fresh.outcomes("same")["good"] == "ok"
    before = state(fresh, "same")
    monkeypatch.setattr(Broken, "most", 10)
    forgotten = forget(fresh.paths, read_plan(fresh.paths), ["out_of_memory"])
    assert set(forgotten.failures) == {("fast", 0)}
    seen = decoded(monkeypatch)
    extract.extract(fresh.config, NAMES, 0)
    assert {requests for _, _, requests in seen} == {1} and {row for row, _, _ in seen} <= {0, 1, 2, 3, 7}
    assert fresh.outcomes("fast")["good"] == "ok" and state(fresh, "same") == before
    assert fresh.features("fast") == fresh.features("same")


class Broken(LightVideo):
    """Has memory for `most` segments at a time; gives NaN where `nan`."""

    most = 10
    nan = False

    def features(self, segments: np.ndarray) -> np.ndarray:
        if len(segments) > self.most:
            raise MemoryError
        return super().features(segments) * np.float32("nan" if self.nan else 1)


def breaking(build: Any, name: str) -> Any:
    """Return `Lane.network` with the network of one backbone replaced by a Broken one."""

    def built(lane: extract.Lane, *arguments: Any) -> Any:
        network = build(lane, *arguments)
        if lane.name == name:
            network.backbone.__class__ = Broken
        return network

    return built


@pytest.mark.parametrize(("most", "nan", "reason"), [(0, False, "out_of_memory"), (10, True, "not_finite")])
def test_a_network_that_fails_costs_its_own_rows_alone(
    probed: Run, fresh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, nan: bool, reason: str
) -> None:
    alone = copied(probed, tmp_path / "alone")
    extract.extract(alone.config, ["light_video"], 0)
    monkeypatch.setattr(Broken, "most", most)
    monkeypatch.setattr(Broken, "nan", nan)
    monkeypatch.setattr(extract.Lane, "network", breaking(extract.Lane.network, "fast"))
    extract.extract(fresh.config, NAMES, 0)
    assert state(fresh, "light_video") == state(alone, "light_video")
    outcomes = fresh.outcomes("fast")
    assert {outcomes[video] for video in ("good", "webm", "damaged", "last")} == {reason}
    assert outcomes["still"] == "still_image"


def test_too_many_failures_of_one_stop_it_after_the_others_are_in_place(
    fresh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.shard.FEWEST_FAILURES", 3)
    monkeypatch.setattr(Broken, "most", 0)
    monkeypatch.setattr(extract.Lane, "network", breaking(extract.Lane.network, "light_video"))
    with pytest.raises(UserError, match="of shard 0 failed for light_video"):
        extract.extract(fresh.config, NAMES, 0)
    assert fresh.record("light_video", 0) is None
    assert fresh.outcomes("fast")["good"] == fresh.outcomes("same")["good"] == "ok"
    assert status(fresh.paths)["light_video"].failed == 1 and status(fresh.paths)["fast"].done == 1


def test_asked_to_stop_it_keeps_what_each_has_and_goes_on_later(
    probed: Run, fresh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Soon(Stopping):
        def __call__(self) -> bool:
            return len(taken) >= 4

        def leave(self, unfinished: str) -> None:
            if self():
                raise SystemExit(unfinished)

    taken: list[str] = []
    take = extract.Lane.take
    monkeypatch.setattr(extract.Lane, "take", lambda lane, *what: (taken.append(lane.name), take(lane, *what)))
    with pytest.raises(SystemExit, match="of the 8 videos are left"):
        extract.extract(fresh.config, NAMES, 0, stop=Soon())
    kept = len(taken)
    assert all(last(fresh.paths.progress(name, 0))["state"] == "stopped" for name in NAMES)
    extract.extract(fresh.config, NAMES, 0)
    assert 4 <= kept and len(taken) == 3 * 7
    alone = copied(probed, tmp_path / "alone")
    for name in NAMES:
        extract.extract(alone.config, [name], 0)
        assert state(fresh, name) == state(alone, name)


def test_by_hand(fresh: Run) -> None:
    names = [word for name in NAMES for word in ("--backbone", name)]
    done = execute(fresh.command("pipeline.extract", *names, "--shard", "0"))
    assert done.returncode == 0, done.stderr
    assert all(fresh.record(name, 0) for name in NAMES)
    unknown = execute(fresh.command("pipeline.extract", "--backbone", "fast", "--backbone", "none", "--shard", "0"))
    assert unknown.returncode == 2 and "--backbone none: the configuration has" in unknown.stderr


HANGS = """
import ctypes, sys
import bench.light
from config.model import read
from pipeline import extract, heartbeat

bench.light.register()
bench.light.LightVideo.features = lambda self, segments: ctypes.PyDLL(None).sleep(60)  # deaf, as native code is
begin = heartbeat.Watch.__enter__
def soon(watch):
    watch.patience = 2.0
    return begin(watch)
heartbeat.Watch.__enter__ = soon
extract.extract(read(sys.argv[1]), sys.argv[2:], 0)
"""


def test_a_pass_that_hangs_says_so_for_each_of_its_backbones(fresh: Run) -> None:
    ended = execute([sys.executable, "-c", HANGS, str(fresh.paths.config), *NAMES], seconds=60)
    assert ended.returncode == 1, ended.stderr
    parts = status(fresh.paths, quiet=0, now=time.time() + 5)
    for name in NAMES:
        (job,) = parts[name].lifeless
        assert job.state == "hung" and job.file == str(fresh.paths.hung(NAMES[0], 0)) and job.stacks
