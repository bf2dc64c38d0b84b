"""Queries against the small demo, whose features are those of real networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from config.model import read
from pipeline.features import open_features
from pipeline.outside import OutsideFile, read_files
from tests.support.workflow import module, snakemake


def test_the_stage_is_done_and_a_video_is_found_by_its_file_and_by_its_id(demo):
    folder, config = demo
    assert "Nothing to be done" in snakemake(folder, config, "embeddings", "-n")
    view = open_features(config["results"])
    row = int(view.rows("test")[0])
    (line,) = view.labels(np.array([row])).to_pylist()
    resolved = read(Path(config["results"]) / "config.json")
    (result,) = read_files(resolved, ["musicnn", "r2plus1d"], [OutsideFile(line["path"], line["video_id"])])
    for name in ("musicnn", "r2plus1d"):
        np.testing.assert_array_equal(result.features[name], view.numpy(name)[row])

    asked = ["--experiment", "baseline", "--split", "test", "--json", "-", line["path"], line["video_id"]]
    done = module(config, "eval.query", *asked)
    assert done.returncode == 0 and "r2plus1d has RANDOM weights" in done.stderr, done.stderr
    by_file, by_id = json.loads(done.stdout)["answers"]
    assert by_file["video_id"] == by_id["video_id"] == line["video_id"] and by_file["starts"] == by_id["starts"]
    for one, other in zip(by_file["searches"], by_id["searches"], strict=True):
        assert one["own_rank"] == other["own_rank"]
        assert [match["row"] for match in one["matches"]] == [match["row"] for match in other["matches"]]
