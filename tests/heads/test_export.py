"""Embeddings as an index: FAISS itself opens it and finds what a plain search finds."""

from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
import zarr

from config.cli import UserError
from config.files import read_json, write_json
from heads import export as module
from heads.export import export, vectors
from pipeline.features import open_features
from tests.support.commands import execute
from tests.support.simulate import simulate

VIDEOS, SEGMENTS, WIDTH = 60, 3, 8
EXPERIMENT = {"baseline": {"max_epochs": 1, "batch": 16}}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A cache with embeddings: row 5 has no video, (7, 1) is damaged in the video."""
    folder = tmp_path_factory.mktemp("index") / "results"
    config = simulate(
        folder, videos=VIDEOS, segments=SEGMENTS, unreadable=(5,), damaged=((7, 1),), heads={"experiments": EXPERIMENT}
    )
    group = zarr.create_group(config.paths.heads("baseline") / "embeddings.zarr", zarr_format=3)
    rng = np.random.default_rng(0)
    for modality, lost in (("audio", []), ("video", [(5, slice(None)), (7, 1)])):
        block = rng.standard_normal((VIDEOS, SEGMENTS, WIDTH))
        block /= np.linalg.norm(block, axis=2, keepdims=True)
        for place in lost:
            block[place] = np.nan
        group.create_array(modality, data=block.astype(np.float16))
    features = open_features(folder)
    keys = {name: features.key(name) for name in features.backbones}
    write_json(config.paths.heads("baseline") / "embeddings.json", {"keys": keys, "videos": VIDEOS})
    return folder


@pytest.mark.parametrize("block", [4096, 7])
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_faiss_finds_whole_videos_by_their_rows(results, tmp_path, monkeypatch, modality, block):
    monkeypatch.setattr(module, "BLOCK", block)
    count = export(results, tmp_path / "x.faiss", "baseline", modality, "video", None)
    index = faiss.read_index(str(tmp_path / "x.faiss"))
    stored = zarr.open_group(results / "heads" / "baseline" / "embeddings.zarr", mode="r")[modality][:].astype(float)
    rows = np.array([i for i in range(VIDEOS) if i != 5 or modality == "audio"])
    means = np.nanmean((stored / np.linalg.norm(stored, axis=2, keepdims=True))[rows], axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert index.ntotal == count == len(rows) and index.d == WIDTH
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    cosines, found = index.search(means.astype(np.float32), 4)
    order = np.argsort(-(means @ means.T), axis=1)[:, :4]
    np.testing.assert_array_equal(found, rows[order])
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-5)


def test_segments_have_ids_of_their_own(results, tmp_path):
    features = open_features(results)
    rows = features.rows("train", valid=["r2plus1d"])
    count = export(results, tmp_path / "x.faiss", "baseline", "video", "segment", "train")
    index = faiss.read_index(str(tmp_path / "x.faiss"))
    ids = {int(row) * SEGMENTS + segment for row in rows for segment in range(SEGMENTS)} - {7 * SEGMENTS + 1}
    assert set(faiss.vector_to_array(index.id_map).tolist()) == ids and count == len(ids) == index.ntotal


@pytest.mark.parametrize("level", ["video", "segment"])
def test_what_has_no_direction_is_left_out(level):
    block = np.zeros((4, 2, 3), np.float16)
    block[1, 0], block[2, 0], block[2, 1], block[3] = [3, 4, 0], [1, 0, 0], [-1, 0, 0], np.nan
    source = type("Source", (), {"shape": block.shape, "read": lambda self, rows: block[rows]})()
    ids, units = (np.concatenate(parts) for parts in zip(*vectors(source, np.arange(4), level), strict=True))
    # Row 2 has two opposite segments: each has a direction, their mean has none.
    assert ids.tolist() == ([1] if level == "video" else [2, 4, 5])
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1)


def test_an_empty_split_is_an_empty_index(tmp_path):
    with open(tmp_path / "x.faiss", "wb") as file:
        assert module.write_index(file, 4, iter(())) == 0
    assert faiss.read_index(str(tmp_path / "x.faiss")).ntotal == 0


def test_mistakes_are_named(results, tmp_path):
    (tmp_path / "taken.faiss").write_text("mine")
    for name, experiment, words in (
        ("x.index", "baseline", "ends in .faiss"),
        ("taken.faiss", "baseline", "taken.faiss exists"),
        ("x.faiss", "nope", "heads.experiments.nope: no such experiment"),
    ):
        with pytest.raises(UserError, match=words):
            export(results, tmp_path / name, experiment, "audio", "video", None)
    record = results / "heads" / "baseline" / "embeddings.json"
    kept = read_json(record)
    try:
        write_json(record, kept | {"videos": 50})
        with pytest.raises(UserError, match="is of 50 videos, the cache has 60; run `snakemake embeddings"):
            export(results, tmp_path / "x.faiss", "baseline", "audio", "video", None)
        write_json(record, kept | {"keys": kept["keys"] | {"musicnn": "other"}})
        with pytest.raises(UserError, match="the embeddings are of the cache keys"):
            export(results, tmp_path / "x.faiss", "baseline", "audio", "video", None)
        record.unlink()
        with pytest.raises(UserError, match="embeddings.json does not exist; run `snakemake train"):
            export(results, tmp_path / "x.faiss", "baseline", "audio", "video", None)
    finally:
        write_json(record, kept)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.faiss"]


def test_command_line(results, tmp_path: Path):
    command = [sys.executable, "-m", "heads.export", str(results), str(tmp_path / "a.faiss")]
    done = execute([*command, "--experiment", "baseline", "--modality", "audio"])
    assert done.returncode == 0 and f"wrote {VIDEOS} vectors" in done.stdout, done.stderr
