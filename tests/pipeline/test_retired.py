"""Retired videos keep their features and are in nothing that is counted, learned or measured."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest

from config.cli import UserError
from config.paths import Paths
from data.labels import read_labels, write_labels
from data.manifest import active, merge, read_manifest, write_manifest
from eval.probe.sets import load_task
from eval.retrieval import load_test
from eval.spaces import load_features as neighbouring
from heads.embed import embed
from heads.features import load_features
from heads.train import train
from pipeline import index
from pipeline.features import open_features
from pipeline.records import Failure
from pipeline.shard import ShardJob
from pipeline.shards import Shards
from pipeline.statistics import compute
from study.length.variant import chosen
from tests.support.simulate import label_by_audio, simulate

HEADS = {"experiments": {"baseline": {"max_epochs": 1, "batch": 64}}}


@pytest.fixture(scope="module")
def retired(tmp_path_factory):
    """Simulated features of 300 videos, every fifth of which is retired: (configuration, rows that are retired)."""
    folder = tmp_path_factory.mktemp("retired")
    config = simulate(folder, videos=300, heads=HEADS, unreadable=[0, 1])
    label_by_audio(config)
    paths = Paths(folder)
    table = read_manifest(paths.manifest)
    listed = np.arange(table.num_rows) % 5 != 0
    write_manifest(paths, merge(table, table.filter(pa.array(listed)), config.splits))
    for task in config.labels.tasks:
        write_labels(config, task)
    return config, np.flatnonzero(~listed)


def test_they_are_in_no_selection(retired):
    config, rows = retired
    paths = config.paths
    features = open_features(paths)
    assert np.isfinite(features.numpy("musicnn", rows)).all()  # kept
    everything = features.rows()
    assert len(everything) == 240 and not set(rows) & set(everything)
    assert sum(len(features.rows(split)) for split in ("train", "validation", "test")) == 240
    for split in load_features(config).splits.values():
        assert len(split.rows) and not set(rows) & set(split.rows)
    for task in config.labels.tasks:
        labels = read_labels(paths, task)
        assert len(labels.rows) and not set(rows) & set(labels.rows) and labels.record["videos"] == 240
        assert not set(rows) & set(load_task(config, task, config.sides())[0].rows)
    assert not set(rows) & set(neighbouring(config, config.sides()).table["row"].to_pylist())
    # 239: one that could not be read is retired as well, the other is not.
    readable = features.rows(valid=["r2plus1d"])
    shards = Shards.open(paths.features / "r2plus1d")
    assert compute(shards, readable, scheduler="synchronous").count == 239 * config.segments.count


def test_heads_and_rankings_leave_them_out(retired):
    config, rows = retired
    train(config, "baseline")
    embed(config, "baseline")
    test, _ = load_test(config, "baseline")
    assert test.total == len(open_features(config.results).rows("test"))
    assert not set(rows) & set(test.table["row"].to_pylist())


def test_their_failures_are_not_listed_and_stop_no_run(retired, monkeypatch):
    config, _ = retired
    paths = config.paths
    monkeypatch.setattr(sys, "argv", ["index", "--config", str(paths.config)])
    index.main()
    lines = paths.failures.read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["v0001"]  # v0000 could not be read either
    manifest = read_manifest(paths.manifest)
    gone = manifest.filter(pa.array(~active(manifest)))["video_id"].to_pylist()
    variant = chosen(manifest.filter(pa.array(active(manifest))), 100)["video_id"].to_pylist()
    assert len(variant) == 100 and not set(variant) & set(gone)


def test_the_share_of_failures_is_that_of_the_others(retired):
    config, rows = retired
    job = ShardJob(config, "musicnn", 1, (config.segments.count, 64), np.float16)

    def failures(numbers: list[int]) -> list[Failure]:
        return [Failure(row, f"v{row:04d}", "missing", "gone", 1, "") for row in numbers]

    mine = [row for row in job.rows if row % 5 == 0]
    job._check_ratio(failures(mine))
    others = [row for row in job.rows if row % 5]
    with pytest.raises(UserError, match="decoding.failure_ratio"):
        job._check_ratio(failures(others))
