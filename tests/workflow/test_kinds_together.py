"""Backbones of every kind in one run of the workflow, on a handful of videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.paths import Paths
from data.render import video_id
from pipeline.records import read_cache_record, read_plan
from pipeline.store import read_array
from tests.support.graphs import write_graph
from tests.support.workflow import planned_rules, snakemake

pytest.importorskip("transformers", reason="transformers is optional: requirements-transformers.txt")

VIDEOS, SEGMENTS = 4, 2


def test_backbones_of_every_kind_stand_in_one_store(tmp_path: Path) -> None:
    from tests.support.pretrained import save

    clip, *_ = save(tmp_path, "CLIPModel")
    hubert, *_ = save(tmp_path, "HubertModel")
    graph = write_graph(tmp_path / "vggish.pb", "VGGish", 6)
    features = np.random.default_rng(0).normal(size=(VIDEOS, 5)).astype(np.float32)
    names = [video_id(i) for i in range(VIDEOS)]
    pq.write_table(pa.table({"video_id": names, "features": list(features)}), tmp_path / "published.parquet")
    audio, video = {"modality": "audio"}, {"modality": "video"}
    backbones = {
        "clip": {"kind": "transformers", "weights": str(clip), "options": video | {"fps": 1}},
        "hubert": {"kind": "transformers", "weights": str(hubert), "options": audio},
        "vggish": {
            "kind": "essentia",
            "weights": str(graph),
            "options": {"algorithm": "VGGish", "output": "embeddings", "dim": 6},
        },
        "r3d": {"kind": "torchvision", "weights": "random", "options": {"model": "r3d_18", "fps": 1}},
        "published": {
            "kind": "precomputed",
            "weights": str(tmp_path / "published.parquet"),
            "options": video | {"dim": 5},
        },
    }
    config = {
        "results": str(tmp_path / "results"),
        "render": {"videos": VIDEOS, "seconds": [7.0, 8.0]},
        "segments": {"count": SEGMENTS, "seconds": 3.0, "window": 3.2},
        "backbones": backbones,
        "heads": {"audio": "hubert", "video": "clip"},
    }
    snakemake(tmp_path, config, "extract")
    paths = Paths(tmp_path / "results")
    widths = {"clip": 12, "hubert": 16, "vggish": 6, "r3d": 512, "published": 5}
    assert {name: planned.dim for name, planned in read_plan(paths).backbones.items()} == widths
    assert {name: cached.valid for name, cached in read_cache_record(paths).backbones.items()} == dict.fromkeys(
        widths, VIDEOS
    )
    for name, width in widths.items():
        stored = np.asarray(read_array(paths, name)[:])
        assert stored.shape == (VIDEOS, SEGMENTS, width) and np.isfinite(stored).all()
    stored = np.asarray(read_array(paths, "published")[:])
    np.testing.assert_array_equal(stored, np.repeat(features[:, None].astype(np.float16), SEGMENTS, axis=1))
    assert planned_rules(snakemake(tmp_path, config, "extract", "--dry-run")) == set()
    settings = json.loads((clip / "preprocessor_config.json").read_text())
    (clip / "preprocessor_config.json").write_text(json.dumps(settings | {"image_std": [0.2, 0.2, 0.2]}))
    printed = snakemake(tmp_path, config, "extract", "--dry-run")
    assert "weights" in planned_rules(printed), "a changed processor is noticed"
