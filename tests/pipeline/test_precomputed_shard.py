"""Features that exist already, through the whole of a shard: store, records, failures, and a stop in between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.cli import UserError
from config.model import Config, load
from data.manifest import merge, write_manifest
from pipeline import plan, workers
from pipeline.extract import extract
from pipeline.readers import MediaError
from pipeline.records import PROBE, read_plan, read_record
from pipeline.shard import ShardJob
from pipeline.store import read_array
from pipeline.weights import prepare

VIDEOS, SHARD, SEGMENTS, DIM = 25, 20, 2, 4
IDS = [f"v{i:02d}" for i in range(VIDEOS)]
FEATURES = np.random.default_rng(0).normal(size=(VIDEOS, DIM)).astype(np.float32)
WITHOUT = (3, 21)
"""Rows of videos that the source does not have."""
UNREADABLE = 5
"""Row of a video that the probe could not open."""


@pytest.fixture(autouse=True)
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a decoding process."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a decoding process was started")

    monkeypatch.setattr(workers.Worker, "__init__", refuse)


def results(
    folder: Path,
    timed: bool,
    failures: Mapping[int, str] = MappingProxyType({UNREADABLE: "missing"}),
    **settings: object,
) -> Config:
    """Write a source and a results folder that is planned and probed, with the first segment at 1 s; return the
    configuration. `failures` of the probe: reasons by row."""
    order = [i for i in np.random.default_rng(1).permutation(VIDEOS) if i not in WITHOUT]
    columns = {"video_id": [IDS[i] for i in order], "features": list(FEATURES[order])}
    if timed:  # one row a second, of which the first is 0 and the second is the video's
        columns = {"video_id": columns["video_id"] * 2, "start": [0.0] * len(order) + [1.0] * len(order)}
        columns["features"] = [np.zeros(DIM, np.float32)] * len(order) + list(FEATURES[order])
    pq.write_table(pa.table(columns), folder / "published.parquet", row_group_size=7)
    options = {"modality": "video", "dim": DIM, "start": "start" if timed else ""}
    source = {"kind": "precomputed", "weights": str(folder / "published.parquet"), "options": options}
    config = load(
        {
            "results": str(folder / "results"),
            "videos": "videos.csv",
            "shard_videos": SHARD,
            "segments": {"count": SEGMENTS},
            "backbones": {"published": source},
            "heads": {"audio": "published", "video": "published"},
            **settings,
        }
    )
    table = pa.table({"video_id": IDS, "path": [f"/gone/{name}.mp4" for name in IDS]})
    write_manifest(config.paths, merge(None, table, config.splits))
    prepare(config, "published")
    plan.update(config)
    for shard in range(2):
        job = ShardJob(config, PROBE, shard, (1 + SEGMENTS,), np.float32)
        with job.watch, job.journal:
            starts = np.array([60, 1, 2], np.float32)
            job.note((row, MediaError(failures[row], "") if row in failures else starts) for row in job.rows)
            job.finish()
    return config


def test_features_go_through_the_same_store(tmp_path: Path) -> None:
    config = results(tmp_path, timed=False)
    for shard in range(2):
        extract(config, ["published"], shard)
    stored, valid = (np.asarray(read_array(config.paths, name)) for name in ("published", "published_valid"))
    assert np.flatnonzero(~valid).tolist() == list(WITHOUT) and np.isnan(stored[list(WITHOUT)]).all()
    expected = np.repeat(FEATURES[:, None].astype(np.float16), SEGMENTS, axis=1)
    np.testing.assert_array_equal(stored[valid], expected[valid], "with features of the video that cannot be opened")
    record = read_record(config.paths.done("published", 0))
    assert record is not None and record.decoders == {} and record.valid == SHARD - 1
    (failure,) = record.failures
    assert (failure.video_id, failure.reason) == ("v03", "no_features")
    assert failure.message == "published.parquet has no features of 'v03'"


def test_rows_with_times_need_the_segments(tmp_path: Path) -> None:
    config = results(tmp_path, timed=True)
    extract(config, ["published"], 0)
    record = read_record(config.paths.done("published", 0))
    assert record is not None
    assert {failure.row: failure.reason for failure in record.failures} == {3: "no_features", UNREADABLE: "missing"}
    stored = np.asarray(read_array(config.paths, "published")[:SHARD])
    np.testing.assert_array_equal(stored[0], np.tile(FEATURES[0].astype(np.float16), (SEGMENTS, 1)))


def test_failures_of_the_probe_are_none_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.shard.UNFETCHED", 3)
    config = results(tmp_path, timed=True, failures=dict.fromkeys([0, 2, 5, 7], "network"))
    extract(config, ["published"], 0)
    record = read_record(config.paths.done("published", 0))
    assert record is not None
    assert {failure.row: failure.reason for failure in record.failures} == {
        3: "no_features", **dict.fromkeys([0, 2, 5, 7], "network")
    }  # fmt: skip


def test_a_stopped_copy_goes_on(tmp_path: Path) -> None:
    config = results(tmp_path, timed=False)
    asked = iter([False] * 4)

    class Stop:
        def __call__(self) -> bool:
            return next(asked, True)

        def leave(self, unfinished: str) -> None:
            raise SystemExit(unfinished)

    with pytest.raises(SystemExit, match="16 of the 20 videos are left"):
        extract(config, ["published"], 0, stop=Stop())  # type: ignore[arg-type]
    extract(config, ["published"], 0)
    valid = np.asarray(read_array(config.paths, "published_valid")[:SHARD])
    assert np.flatnonzero(~valid).tolist() == [3]


def test_another_column_of_ids_is_noticed(tmp_path: Path) -> None:
    """Ids that fit nothing are more failures than `decoding.failure_ratio` allows."""
    config = results(tmp_path, timed=False)
    table = pq.read_table(tmp_path / "published.parquet")
    youtube = pa.array([f"yt_{i}" for i in range(len(table))])
    pq.write_table(table.set_column(0, "video_id", youtube), tmp_path / "published.parquet")
    prepare(config, "published")
    plan.update(config)
    with pytest.raises(UserError, match="no_features 20.*published.parquet has no features of 'v00'"):
        extract(config, ["published"], 0)


def test_an_unprobed_shard_is_named(tmp_path: Path) -> None:
    config = results(tmp_path, timed=True)
    (config.paths.ledger(PROBE, 0, read_plan(config.paths).segment_key)).unlink()
    with pytest.raises(UserError, match="shard 0 has not been probed"):
        extract(config, ["published"], 0)
