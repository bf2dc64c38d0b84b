"""The atlas of the small demo: its target, what makes it anew, and what it leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.workflow import planned_rules, snakemake


def test_the_target_writes_the_atlas_and_its_settings_concern_nothing_else(demo, tmp_path):
    folder, config = demo
    shutil.copytree(folder / "results", tmp_path / "results")
    config = config | {"results": str(tmp_path / "results")}
    results = Path(config["results"])
    snakemake(tmp_path, config, "atlas")
    table = pq.read_table(results / "report" / "atlas.parquet")
    assert {"baseline_audio_pca_x", "features_r2plus1d_pca_y", "neighbours", "image", "video"} <= set(
        table.column_names
    )
    clips = [results / "report" / "atlas" / name for name in table["video"].to_pylist()]
    assert len(clips) == 30 and all(clip.is_file() for clip in clips)
    assert "Nothing to be done" in snakemake(tmp_path, config, "atlas", "-n")
    changed = config | {"eval": config["eval"] | {"atlas": {"media_videos": 3}}}
    assert planned_rules(snakemake(tmp_path, changed, "atlas", "all", "-n")) == {"write_atlas", "atlas"}
