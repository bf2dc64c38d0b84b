"""Files outside of the collection: what is refused or left out before any of them is opened."""

from __future__ import annotations

import logging
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
import pytest

from config.cli import UserError
from config.files import write_json
from config.model import Config, load
from pipeline.outside import OutsideFile, _ended, check_plan, own_config, read_files
from pipeline.plan import make_plan
from pipeline.records import write_plan

FILE = OutsideFile("/nowhere/song.mp3", "song")
RECORD = {"sha256": "a" * 64, "random": False, "source": "none: computed by formulas"}


def configured(folder: Path, **settings: object) -> Config:
    backbones = {
        "picture_descriptors": {"weights": "none"},
        "theirs": {"kind": "precomputed", "weights": "./theirs.parquet", "options": {"modality": "audio", "dim": 4}},
    }
    heads = {"audio": "theirs", "video": "picture_descriptors"}
    return load({"results": str(folder), "videos": "videos.csv", "backbones": backbones, "heads": heads, **settings})


def test_features_that_exist_already_are_of_known_videos_only(tmp_path: Path) -> None:
    (result,) = read_files(configured(tmp_path), ["theirs"], [FILE])
    assert [failure.reason for failure in result.failures.values()] == ["no_features"]
    assert not result.features and np.isnan(result.starts).all() and not list(tmp_path.iterdir())


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with pytest.raises(UserError, match=r"weights/picture_descriptors\.json does not exist; run `snakemake extract"):
        read_files(config, ["theirs", "picture_descriptors"], [FILE])
    write_json(config.paths.weights_record("picture_descriptors"), RECORD)
    with pytest.raises(UserError, match=r"picture_descriptors\.safetensors cannot be read"):
        read_files(config, ["theirs", "picture_descriptors"], [FILE])


def test_what_differs_from_the_cache_is_named(tmp_path: Path) -> None:
    config = configured(tmp_path)
    own = own_config(config, ["picture_descriptors"], 3, tmp_path / "own")
    assert own.shard_videos == 3 and own.decoding.failure_ratio == 1 and list(own.backbones) == ["picture_descriptors"]
    assert own.segments == config.segments and own.paths.results == tmp_path / "own"
    write_plan(config.paths, make_plan(own, 100, {"picture_descriptors": RECORD}))
    check_plan(config, make_plan(own, 3, {"picture_descriptors": RECORD}))
    other = own.model_copy(update={"segments": own.segments.model_copy(update={"seconds": 5.0, "seed": 4})})
    weights = RECORD | {"sha256": "b" * 64, "source": "others"}
    expected = (
        r"differ: segments \(seconds: 5\.0; the cache: 3\.0, seed: 4; the cache: 0\); "
        r"weights \(others, bbbbbbbb; the cache: none: computed by formulas, aaaaaaaa\)\. Set them back"
    )
    with pytest.raises(UserError, match=expected):
        check_plan(config, make_plan(other, 3, {"picture_descriptors": weights}))
    renamed = config.backbones["picture_descriptors"].model_copy(update={"kind": "picture_descriptors"})
    heads = own.heads.model_copy(update={"audio": "pictures", "video": "pictures"})
    unknown = own.model_copy(update={"backbones": {"pictures": renamed}, "heads": heads})
    with pytest.raises(UserError, match=r"plan\.json has no backbone 'pictures'; run `snakemake extract"):
        check_plan(config, make_plan(unknown, 3, {"pictures": RECORD}))


def test_how_far_it_is_is_said_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "extract.log"

    class Process:
        def wait(self, seconds: float) -> int:
            if output.exists():
                return 3
            output.write_text("12:00:01 extract: begin\n12:00:11 extract: 7/48 videos\n")
            raise TimeoutExpired("extract", seconds)

    process: Any = Process()
    with caplog.at_level(logging.INFO, "files"):
        assert _ended(process, output) == 3
    assert caplog.messages == ["extract: 7/48 videos"]
