"""What a user changes after a run is in the results of the next run, and of that one already."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from config.paths import Paths
from pipeline.features import open_features
from tests.support.workflow import VIDEOS, planned_rules, snakemake

TOO_FEW = {"train": 0.01, "validation": 0.01, "test": 0.98}
ENOUGH = {"train": 0.4, "validation": 0.2, "test": 0.4}


@pytest.fixture(scope="module")
def finished(demo, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A run of the demo's audio side as a user's table, with too few training videos: (folder, configuration)."""
    folder = tmp_path_factory.mktemp("changes")
    shutil.copytree(demo[0] / "results" / "rendered", folder / "media")
    weights = str(demo[0] / "results" / "weights" / "musicnn.safetensors")
    config = {key: value for key, value in demo[1].items() if key != "render"} | {
        "results": str(folder / "results"),
        "videos": str(folder / "media" / "videos.csv"),
        "shard_videos": VIDEOS,  # one job instead of three
        "splits": TOO_FEW,
        "backbones": {"musicnn": {"weights": weights}},
        "heads": {"audio": "musicnn", "video": "musicnn", "experiments": {"baseline": {"max_epochs": 2, "batch": 16}}},
        "labels": {"tagging": None},
    }
    snakemake(folder, config)
    return folder, config


def changed(folder: Path, rows: list[dict[str, str]]) -> None:
    """Move another table into the place of the old one, with a time long before it."""
    other = folder / "media" / "other.csv"
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    os.utime(other, (1e9, 1e9))
    other.rename(folder / "media" / "videos.csv")


def test_one_run_makes_all_that_a_change_touches(finished):
    folder, config = finished
    paths = Paths(folder / "results")
    page = paths.report / "index.html"

    def said(path: Path) -> Any:
        return json.loads(path.read_text())

    assert "No projection heads were fitted" in page.read_text() and not paths.heads("baseline").exists()
    os.utime(config["videos"])
    assert "Nothing to be done" in snakemake(folder, config, "-n")  # the same table with another time

    # Shares of the splits with which there are enough videos for heads.
    config["splits"] = ENOUGH
    snakemake(folder, config)
    assert (paths.heads("baseline") / "checkpoint.safetensors").exists()
    assert said(paths.features_record)["complete"]["train"] >= 10
    assert "No projection heads were fitted" not in page.read_text()
    assert "Nothing to be done" in snakemake(folder, config, "-n")

    # Corrected genres, and videos that are taken out, in a table that is older than the first.
    with open(config["videos"], newline="") as file:
        rows = list(csv.DictReader(file))
    manifest = pq.read_table(paths.manifest).to_pylist()
    gone = [video["video_id"] for video in manifest if video["split"] == "test"][:3]
    ranked = said(paths.eval("baseline") / "retrieval.json")["test_videos"]
    kept = [row | {"genre": f"new {row['genre']}"} for row in rows if row["video_id"] not in gone]
    changed(folder, kept)
    printed = snakemake(folder, config)
    assert "3 videos are no longer in the table and are retired" in printed
    labels = said(paths.labels_record("genre"))
    assert labels["videos"] == labels["labelled"] == len(kept)
    assert all(one["name"].startswith("new ") for one in labels["classes"])
    for space in ("features", "baseline"):
        probed = (paths.eval(space) / "genre.json").read_text()
        assert all(f'"{one["name"]}"' in probed for one in labels["classes"] if f'"{one["name"][4:]}"' in probed)
        assert "new " in probed and "new " in (paths.eval(space) / "neighbours.json").read_text()
    assert said(paths.eval("baseline") / "retrieval.json")["test_videos"] == ranked - 3
    html = page.read_text()
    assert "Retired: 3 videos" in html and f"on {len(kept)} music videos" in html and f"of {len(kept)}<" in html
    features = open_features(paths.results)
    assert features.videos == len(rows) and len(features.rows()) == len(kept)
    assert said(paths.manifest_record)["retired"] == 3
    again = snakemake(folder, config, "-n")
    assert "Nothing to be done" in again, planned_rules(again)

    # The same videos in other words, which changes nothing, and something else that only the evaluation depends on.
    changed(folder, [row | {"path": f"./{row['path']}"} for row in kept])
    config["eval"] = config["eval"] | {"galleries": [5]}
    before = (paths.eval("baseline") / "retrieval.json").stat().st_mtime_ns
    trained = (paths.heads("baseline") / "checkpoint.safetensors").stat().st_mtime_ns
    snakemake(folder, config)
    assert (paths.eval("baseline") / "retrieval.json").stat().st_mtime_ns > before
    assert (paths.heads("baseline") / "checkpoint.safetensors").stat().st_mtime_ns == trained
    again = snakemake(folder, config, "-n")
    assert "Nothing to be done" in again, planned_rules(again)

    # The retired videos again, beside another option, for which the weights are asked for again as well. That the rest
    # follows the features was seen above; here it is enough that it would.
    changed(folder, rows)
    config["backbones"]["musicnn"]["options"] = {"downmix": "layout"}
    snakemake(folder, config, "extract")
    assert "retired" not in said(paths.manifest_record)
    assert len(open_features(paths.results).rows()) == len(rows)
    again = planned_rules(snakemake(folder, config, "-n"))
    assert {"train_heads", "retrieval", "write_report"} <= again
    assert again.isdisjoint({"weights", "write_manifest", "plan", "probe", "extract_shard", "index"})

    # From another working directory, where Snakemake knows nothing of the runs before.
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    assert "write_manifest" not in planned_rules(snakemake(elsewhere, config, "-n"))
    changed(folder, kept)
    assert "write_manifest" in planned_rules(snakemake(elsewhere, config, "-n"))


def test_a_second_snakemake_is_told_of_the_results(finished):
    folder, config = finished
    claim = Paths(folder / "results").claim
    # Another host's, which has shown a sign of life just now.
    claim.write_text(json.dumps({"host": "elsewhere", "boot": "b", "process": 1, "started": "1"}))
    try:
        printed = snakemake(folder, config, "--forcerun", "write_manifest", check=False)
    finally:
        claim.unlink()
    assert f"is at work on the results in {folder / 'results'}" in printed
    assert "at work on this shard" not in printed
