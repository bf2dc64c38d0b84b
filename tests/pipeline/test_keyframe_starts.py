"""`segments.start: keyframe` from the configuration to the store: keys, the probe's shard, what the backbones read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.runs import Run, write_table
from config.cli import UserError
from config.model import Config, load
from config.pipeline import Segments
from data.segments import not_before
from pipeline.plan import key_of, make_plan
from pipeline.records import PROBE, CacheRecord, Plan, read_cache_record, read_plan, write_cache_record, write_plan
from pipeline.store import FORMAT, read_array
from tests.support.media import Audio, Video, regular, write


def planned(**segments: object) -> Plan:
    config = load({"results": "r", "videos": "v.csv", "segments": segments})
    return make_plan(config, 1, dict.fromkeys(config.backbones, {"sha256": "0" * 64, "random": False}))


def test_random_starts_have_the_keys_of_before_there_were_others() -> None:
    """A change here would extract every cache again."""
    plan = planned()
    assert plan == planned(start="random")
    assert plan.segment_key == key_of(
        {"format": FORMAT, "segments": {"count": 6, "seconds": 3.0, "window": 5.0, "seed": 0}}
    )
    assert plan.backbones["r2plus1d"].key.startswith("61536dec819c8da0")


def test_keyframes_have_keys_of_their_own() -> None:
    plan, keyframes = planned(), planned(start="keyframe")
    for part in (PROBE, "musicnn", "r2plus1d"):
        assert plan.key(part) != keyframes.key(part)


@pytest.mark.parametrize("spec", [Segments(), Segments(start="keyframe", seed=4)])
def test_records_are_read_as_they_were_written(spec: Segments, tmp_path: Path) -> None:
    config = load({"results": str(tmp_path), "videos": "v.csv", "segments": spec.model_dump()})
    assert config.segments == spec and Config(**json.loads(config.model_dump_json())).segments == spec
    plan = make_plan(config, 1, dict.fromkeys(config.backbones, {"sha256": "0" * 64, "random": False}))
    write_plan(config.paths, plan)
    assert read_plan(config.paths) == plan
    write_cache_record(config.paths, CacheRecord(1, spec, {}, {}))
    assert read_cache_record(config.paths).segments == spec
    for path in (config.paths.plan, config.paths.features_record):
        written = json.loads(path.read_text())["segments"]
        assert ("start" in written) is (spec.start == "keyframe")


def test_another_start_is_an_error_that_names_both() -> None:
    with pytest.raises(UserError, match=r"segments\.start.*'random' or 'keyframe'"):
        load({"results": "r", "videos": "v.csv", "segments": {"start": "keyframes"}})


@pytest.mark.workflow
def test_backbones_look_where_the_probe_found_keyframes(tmp_path: Path) -> None:
    gop, seconds = 35, 20
    times, opus = regular(seconds, 25), Audio(seconds, codec="libopus", rate=48000)
    files = {
        "a": write(tmp_path / "a.mp4", Video(times, gop=gop, bframes=2), Audio(seconds)),
        "b": write(tmp_path / "b.webm", Video(times, "libvpx-vp9", gop=gop), opus),
        "audio": write(tmp_path / "audio.mp4", Audio(seconds)),
    }
    table = write_table(tmp_path / "videos.parquet", [(name, Path(path)) for name, path in files.items()])
    backbones = {name: {"weights": "random"} for name in ("light", "light_video")}
    starts = {}
    for start in ("random", "keyframe"):
        segments = {"count": 2, "seconds": 3.0, "window": 3.2, "start": start}
        run = Run(tmp_path / start, table, backbones, segments=segments)
        run.prepare()
        for (part, _), ended in run.extract(patience=60).items():
            assert ended.status == 0, (part, ended.text)
            if part == PROBE:
                said = "4 of 6 segments begin at a keyframe" in ended.text
                assert said is (start == "keyframe"), ended.text
        assert run.outcomes("light") == {"a": "ok", "b": "ok", "audio": "ok"}
        assert run.outcomes("light_video") == {"a": "ok", "b": "ok", "audio": "no_video_stream"}
        starts[start] = np.asarray(read_array(run.paths, "start")[:])
    known = {not_before(k * gop / 25) for k in range(15)}
    assert {float(s) for s in starts["keyframe"][:2].ravel()} <= known
    assert not {float(s) for s in starts["random"][:2].ravel()} & known
    np.testing.assert_array_equal(starts["keyframe"][2], starts["random"][2])
