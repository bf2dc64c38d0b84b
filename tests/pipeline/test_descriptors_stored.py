"""Descriptors are two more arrays of the same store: extracted, failing, verified, exported like any backbone's."""

import csv
import sys
from pathlib import Path

import h5py
import numpy as np

from config.files import read_json
from config.model import load
from config.paths import Paths
from pipeline.backbones import descriptors
from pipeline.extract import device_of
from pipeline.features import open_features
from tests.support.commands import execute
from tests.support.workflow import COUNT, VIDEOS, snakemake

NAMES = ("sound_descriptors", "picture_descriptors")


def run(module: str, *arguments: str) -> str:
    done = execute([sys.executable, "-m", module, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_two_more_arrays(copied):
    folder, config = copied
    config["backbones"] |= {name: {"weights": "none"} for name in NAMES}
    films = sorted((folder / "media").glob("song*"))
    films[3].write_bytes(b"no film")
    snakemake(folder, config, "extract")
    features = open_features(Paths(Path(config["results"])))
    assert features.backbones == ["musicnn", *NAMES]
    for name in NAMES:
        values, valid = features.numpy(name), features.valid(name)
        assert values.shape == (VIDEOS, COUNT, descriptors.WIDTHS[name]) and values.dtype == np.float16
        assert valid.sum() == VIDEOS - 1 and not valid[3]
        assert np.isnan(values[3]).all() and np.isfinite(values[valid]).all()
        assert not features.random_weights(name)
        record = read_json(folder / "results" / "weights" / f"{name}.json")
        assert record["weights"] == "none" and record["source"] == "none: computed by formulas"
    columns = descriptors.columns("sound_descriptors")
    loudness = features.numpy("sound_descriptors")[features.valid("musicnn")][..., columns["loudness"]]
    assert (loudness > -40).all() and loudness.std() > 1
    with open(folder / "results" / "failures.csv", newline="", encoding="utf-8") as file:
        assert {line["backbone"] for line in csv.DictReader(file)} == set(features.backbones)
    assert "picture_descriptors" in run("pipeline.status", config["results"])
    run("pipeline.verify", config["results"])
    run("pipeline.export", config["results"], str(folder / "out.h5"), "--backbone", "sound_descriptors")
    with h5py.File(folder / "out.h5") as file:
        assert file["sound_descriptors"].shape == (VIDEOS - 1, COUNT, 41)
    again = snakemake(folder, config, "extract")
    assert "Nothing to be done" in again


def test_formulas_never_ask_for_a_gpu(tmp_path):
    raw = {"results": str(tmp_path), "videos": "v.csv", "heads": {"audio": NAMES[0], "video": NAMES[1]}}
    backbones = {name: {"weights": "none"} for name in NAMES}
    assert [device_of(load({**raw, "backbones": backbones}), name) for name in NAMES] == ["cpu", "cpu"]
