"""Selections of the cache in HDF5 and Parquet, opened by the formats' own libraries."""

import json
import sys

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from bench import fill
from bench.fill import Planted
from config.cli import UserError
from config.model import load
from pipeline import export as module
from pipeline.export import export
from pipeline.features import open_features
from tests.support.commands import execute


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A filled cache of 70 videos with labels, some of them without features."""
    folder = tmp_path_factory.mktemp("export") / "results"
    config = load({"results": str(folder), "videos": "v.csv", "shard_videos": 32, "segments": {"count": 2}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "SHARES", {"missing": 0.1, "no_audio_stream": 0.1, "decode_error": 0.1})
        planted = Planted({"musicnn": 12, "r2plus1d": 5}, {"musicnn": "a" * 64, "r2plus1d": "b" * 64})
        fill.fill(config, planted, 70, 1)
    return open_features(folder)


@pytest.mark.parametrize("block", [1000, 7])
@pytest.mark.parametrize("everything", [False, True])
def test_both_formats_hold_the_selection(features, tmp_path, monkeypatch, everything, block):
    monkeypatch.setattr(module, "BLOCK", block)
    both = ["musicnn", "r2plus1d"]
    rows = features.rows("train", valid=() if everything else both)
    assert 0 < len(rows) < 60
    for name in ("x.h5", "x.parquet"):
        assert export(features, tmp_path / name, both, "train", everything) == len(rows)
    table, labels = pq.read_table(tmp_path / "x.parquet"), features.labels(rows)
    assert table.select(labels.column_names).equals(labels)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["video_id"].asstr()[:].tolist() == labels["video_id"].to_pylist()
        assert file["tags"].asstr()[:].tolist() == ["|".join(tags or []) for tags in labels["tags"].to_pylist()]
        np.testing.assert_array_equal(file["row"][:], rows)
        for backbone in both:
            wanted = features.numpy(backbone, rows)
            np.testing.assert_array_equal(file[backbone][:], wanted)
            assert file[backbone].dtype == np.float16 and file[backbone].attrs["key"] == features.key(backbone)
            column = table[backbone].combine_chunks()
            shape = json.loads(table.schema.field(backbone).metadata[b"shape"])
            np.testing.assert_array_equal(column.flatten().to_numpy().reshape(-1, *shape), wanted)


def test_nothing_is_overwritten_and_mistakes_are_named(features, tmp_path):
    taken = tmp_path / "x.h5"
    taken.write_text("mine")
    for path, backbones, split, words in (
        (taken, ["musicnn"], None, "x.h5 exists"),
        (tmp_path / "x.csv", ["musicnn"], None, "the format; there are .h5"),
        (tmp_path / "y.h5", ["clip"], None, "--backbone clip: the cache has"),
    ):
        with pytest.raises(UserError, match=words):
            export(features, path, backbones, split)
    assert taken.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_command_line(features, tmp_path):
    file = tmp_path / "audio.parquet"
    command = [sys.executable, "-m", "pipeline.export", str(features.folder.parent), str(file), "--backbone", "musicnn"]
    done = execute(command)
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(file).num_rows == len(features.rows(valid=["musicnn"]))
    assert "r2plus1d" not in pq.read_schema(file).names
    again = execute(command)
    assert again.returncode == 2 and "exists" in again.stderr and "Traceback" not in again.stderr
