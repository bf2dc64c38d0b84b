"""The atlas's table: which videos, coordinates, ranks, neighbours, media."""

from __future__ import annotations

import io
import json
import sys

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from config.cli import UserError
from config.model import load
from data.manifest import read_manifest, write_manifest
from eval.atlas import near
from eval.atlas.__main__ import META, Atlas, atlas, neighbour_column
from eval.atlas.axes import fit
from eval.atlas.media import addresses
from eval.atlas.near import Neighbours, Vectors
from eval.atlas.vectors import directions, draw
from eval.maps import maps
from eval.ranks import ranks
from eval.retrieval import load_test
from eval.spaces import load_features
from heads.embed import BLOCK
from pipeline.features import good_segments, open_features
from tests.support.collection import collection, embed_untrained
from tests.support.page import EVIL
from tests.support.simulate import index_cache, simulate

HEADS = {
    "experiments": {
        "first": {"hidden": [], "embedding": 16, "output": "linear"},
        "lengths": {"hidden": [], "embedding": 64, "output": "linear", "audio": {"identity": True, "normalise": False}},
    }
}
RETIRED, UNREADABLE, DAMAGED = 7, 3, (5, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small cache with untrained heads, and its atlas: (configuration, table)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("atlas") / "results"
    splits = {"train": 0.6, "validation": 0.1, "test": 0.3}
    config = simulate(
        folder, 0.5, 300, unreadable=[UNREADABLE], damaged=[DAMAGED], heads=HEADS, splits=splits,
        artists=[i // 3 for i in range(300)], eval={"atlas": {"experiment": "lengths", "media_videos": 0}},
    )  # fmt: skip
    table = read_manifest(config.paths.manifest)
    lines = table.to_pylist()
    lines[RETIRED]["status"], lines[4]["title"], lines[6]["title"] = "retired", EVIL, ""
    lines[8]["path"] = "shards/0.tar::v8.mp4"
    lines[9]["audio_path"] = "master.flac"
    lines[4]["split"] = lines[DAMAGED[0]]["split"] = "test"
    write_manifest(config.paths, type(table).from_pylist(lines, table.schema))
    index_cache(config)
    for name in HEADS["experiments"]:
        embed_untrained(config, name)
    return config, atlas(config)


def column(table, name):
    return table[name].to_numpy()


def test_videos_labels_and_what_it_says_of_itself(made):
    config, table = made
    stored = pq.read_table(config.paths.atlas)
    assert stored.equals(table)
    rows = column(table, "row").tolist()
    assert rows == [row for row in range(300) if row not in (RETIRED, UNREADABLE)]
    manifest = read_manifest(config.paths.manifest).take(rows)
    for name in ("video_id", "artist", "title", "genre", "split", "tags", "group"):
        assert table[name].to_pylist() == manifest[name].to_pylist()
    assert table["name"].to_pylist()[3:6] == [f"Artist 0001 – {EVIL}", "Artist 0001 – v0005", "Artist 0002 – v0006"]
    about = json.loads(stored.schema.metadata[META])
    assert [space["name"] for space in about["spaces"]] == [
        "lengths", "first", "features_musicnn", "features_r2plus1d",
    ]  # fmt: skip
    assert about["methods"] == ["pca"] and about["neighbours"] == {"experiment": "lengths", "recall": 1.0}
    assert about["random_weights"] == ["r2plus1d"]
    assert not config.paths.atlas_work.exists()


@pytest.mark.parametrize("name", HEADS["experiments"])
def test_ranks_are_those_of_the_evaluation(made, name):
    config, table = made
    test, _ = load_test(config, name)
    audio, video, _ = test.level("video")
    expected = ranks(audio, video, unit=test.unit)
    at = np.isin(column(table, "row"), column(test.table, "row"))
    assert DAMAGED[0] in column(test.table, "row")
    for way, values in zip(("audio_to_video", "video_to_audio"), expected, strict=True):
        found = column(table, f"{name}_{way}_rank")
        assert found[at].tolist() == values.tolist() and np.isnan(found[~at]).all()


def test_coordinates_are_those_of_all_videos_on_their_principal_components(made):
    config, table = made
    view, rows = open_features(config.paths), column(table, "row")
    for backbone in ("musicnn", "r2plus1d"):
        features = view.numpy(backbone, rows).astype(np.float64)
        good = good_segments(features)
        units = directions(np.where(good[:, :, None], features - features[good].mean(axis=0), 0))
        means = directions(units.sum(axis=1))
        expected = np.array(maps(means, means, shared=False)[0]["audio"])
        found = np.stack([column(table, f"features_{backbone}_pca_{axis}") for axis in "xy"], axis=1)
        assert np.abs(found - expected).max() < 2e-3
    # The report's map of the features is of the same vectors, of test videos alone.
    assert load_features(config, config.sides()).table.num_rows < len(rows)


def test_audio_and_video_of_an_experiment_share_their_axes(made):
    config, table = made
    test, _ = load_test(config, "first")
    audio, video, _ = test.level("video")
    at = np.isin(column(table, "row"), column(test.table, "row"))
    points = [
        np.stack([column(table, f"first_{part}_pca_{axis}")[at] for axis in "xy"], axis=1)
        for part in ("audio", "video")
    ]
    # A map of unit vectors onto orthogonal axes keeps what lies between two points of either kind.
    moved = np.concatenate(points)[:, None] - np.concatenate(points)[None]
    vectors = np.concatenate([audio, video])
    between = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    assert (np.linalg.norm(moved, axis=2) <= between + 1e-5).all()
    assert np.corrcoef(np.linalg.norm(moved, axis=2).ravel(), between.ravel())[0, 1] > 0.5


def test_neighbours_are_the_nearest_by_both_modalities(made):
    _, table = made
    rows = column(table, "row")
    for position, near_ones in enumerate(table["neighbours"].to_pylist()):
        assert len(near_ones["ids"]) == near.NEAREST and rows[position] not in near_ones["ids"]
        assert near_ones["distances"] == sorted(near_ones["distances"])
        assert set(near_ones["ids"]) <= set(rows.tolist())


def test_neighbours_that_the_graph_did_not_find_are_left_out():
    neighbours = Neighbours(np.array([[1, 2], [0, -1]]), np.array([[0.75, 0.5], [0.75, -np.inf]], np.float32), 1.0)
    assert neighbour_column(np.array([10, 20, 30]), neighbours).to_pylist() == [
        {"ids": [20, 30], "distances": [0.25, 0.5]},
        {"ids": [10], "distances": [0.25]},
    ]


@pytest.mark.parametrize("exact", [True, False])
def test_neighbours_of_many_videos(tmp_path, monkeypatch, exact):
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((40, 12))
    vectors = groups[rng.integers(40, size=3000)] + 0.5 * rng.standard_normal((3000, 12))
    audio, video = directions(vectors[:, :6]), directions(vectors[:, 6:])
    if not exact:
        for name, value in {"EXACT": 100, "SAMPLE": 1500, "COMPONENTS": 8, "CHECKED": 200}.items():
            monkeypatch.setattr(near, name, value)
    stored = Vectors(tmp_path)
    for start in range(0, 3000, BLOCK):
        part = slice(start, start + BLOCK)
        stored.add(np.arange(3000)[part], {"audio": audio[part], "video": video[part]})
    found = stored.find(seed=0)
    cosines = (audio @ audio.T + video @ video.T) / 2
    np.fill_diagonal(cosines, -np.inf)
    true = np.argsort(-cosines, axis=1)[:, : near.NEAREST]
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.positions, true, strict=True)]) / near.NEAREST
    assert shared > (0.999 if exact else 0.9)
    assert found.recall == 1.0 if exact else found.recall == pytest.approx(shared, abs=0.03)
    assert (found.positions != np.arange(3000)[:, None]).all()
    assert np.allclose(np.take_along_axis(cosines, found.positions, axis=1), found.similarities, atol=1e-5)
    assert (np.diff(found.similarities) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 60), st.integers(1, 8))
def test_axes_are_principal_components(seed, videos, dim):
    vectors = np.random.default_rng(seed).standard_normal((videos, dim)) * np.arange(1, dim + 1)
    axes = fit(vectors, 2)
    points = axes(vectors)
    assert points.shape == (videos, 2)
    expected = PCA(min(2, dim, videos)).fit_transform(vectors)
    for axis in range(expected.shape[1]):
        own, other = points[:, axis], expected[:, axis]
        assert min(np.abs(own - other).max(), np.abs(own + other).max()) < 1e-2 * np.abs(vectors).max()
        assert own[np.abs(own).argmax()] > 0 or np.abs(own).max() < 1e-3
    if dim == 1:
        assert not points[:, 1].any()


def test_constant_features_are_one_point():
    axes = fit(np.ones((5, 3)), 2)
    assert not axes(np.ones((5, 3))).any() and axes.explained == [0.0, 0.0]
    assert np.isnan(axes(np.full((1, 3), np.nan))).all()


def test_a_sample_is_drawn_once_for_all():
    assert draw(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = draw(1000, 10, 0)
    assert (
        len(set(drawn.tolist())) == 10 and (np.diff(drawn) > 0).all() and draw(1000, 10, 0).tolist() == drawn.tolist()
    )
    assert draw(1000, 10, 1).tolist() != drawn.tolist()


def test_with_umap_there_are_its_coordinates(made, tmp_path, monkeypatch):
    config, table = made
    (tmp_path / "umap.py").write_text(
        "class UMAP:\n"
        "    def __init__(self, n_components, n_neighbors, random_state, n_jobs):\n"
        "        assert n_components == 2 and n_neighbors == 15 and random_state == 0 and n_jobs == 1\n"
        "    def fit_transform(self, vectors):\n"
        "        return vectors[:, 2:4]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with_umap = atlas(config)
    finally:
        sys.modules.pop("umap", None)
        pq.write_table(table, config.paths.atlas)
    assert json.loads(with_umap.schema.metadata[META])["methods"] == ["pca", "umap"]
    added = [name for name in with_umap.column_names if name not in table.column_names]
    assert sorted(added) == sorted(name.replace("_pca_", "_umap_") for name in table.column_names if "_pca_" in name)
    assert with_umap["first_audio_pca_x"].equals(table["first_audio_pca_x"])
    assert np.isfinite(column(with_umap, "features_musicnn_umap_y")).all()


def test_a_large_collection_has_addresses_in_place_of_media(made):
    _, table = made
    assert "image" not in table.column_names and "audio" not in table.column_names
    assert table["video"][0].as_py().startswith("video/0#t=")
    rows, without = column(table, "row"), np.array([video is None for video in table["video"].to_pylist()])
    assert rows[without].tolist() == [8, 9]  # inside a shard; with its audio in another file
    assert addresses([4, 9], np.array([1.5, np.nan]), 2.0) == ["video/4#t=1.50,3.50", None]


@pytest.mark.workflow
def test_media_of_a_small_collection(tmp_path):
    run = collection(tmp_path, 3)
    config = load(run.config.model_dump() | {"eval": {"atlas": {"seconds": 2.0}}})
    embed_untrained(config)
    (tmp_path / "v1.mp4").write_bytes(b"gone")
    table = atlas(config)
    assert table["video_id"].to_pylist() == [f"v{i}" for i in range(3)]
    for line in table.select(["video_id", "image", "audio", "video"]).to_pylist():
        if line["video_id"] == "v1":
            assert line["image"] is line["audio"] is line["video"] is None
            continue
        with Image.open(io.BytesIO(line["image"]["bytes"])) as still:
            assert still.format == "JPEG" and still.size == (192, 108)
        with av.open(io.BytesIO(line["audio"]["bytes"])) as sound:
            seconds = sum(frame.samples / frame.sample_rate for frame in sound.decode(audio=0))
        clip = config.paths.atlas_clips / line["video"]
        with av.open(str(clip)) as film:
            assert sum(1 for _ in film.decode(video=0)) / 10 == pytest.approx(seconds, abs=0.2)
    before = {path.name: path.stat().st_mtime_ns for path in (config.paths.atlas_clips / "media").iterdir()}
    atlas(config)
    after = {path.name: path.stat().st_mtime_ns for path in (config.paths.atlas_clips / "media").iterdir()}
    assert before == after


def test_what_cannot_be_mapped(tmp_path):
    config = simulate(tmp_path / "results", 0.5, 3, unreadable=[0, 1], heads=HEADS)
    index_cache(config)
    with pytest.raises(UserError, match="1 videos have features of musicnn, r2plus1d; a map needs at least 2"):
        atlas(config)
    config = simulate(tmp_path / "other", 0.5, 30, heads=HEADS)
    index_cache(config)
    with pytest.raises(UserError, match=r"embeddings\.json does not exist; run `snakemake train"):
        atlas(config)
    assert not config.paths.atlas_work.exists()
    with pytest.raises(UserError, match=r"eval\.atlas\.experiment: 'x' is no experiment; there are \['first', 'len"):
        load({"results": "r", "videos": "v", "heads": HEADS, "eval": {"atlas": {"experiment": "x"}}})
    columns = Atlas(pa.table({"row": [0]}))
    with pytest.raises(UserError, match="two columns 'row': rename the experiment or the backbone"):
        columns.add({"row": np.zeros(1)})
