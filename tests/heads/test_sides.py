"""Tests for experiments that choose the backbones of their modalities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.cli import UserError
from config.model import Config, load
from eval.compare import compare
from eval.neighbours import neighbours
from eval.retrieval import retrieval
from heads.embed import embed, load_embeddings
from heads.features import load_features
from heads.runs import runs
from heads.train import train
from pipeline.backbones.check import check
from pipeline.features import open_features
from tests.support.simulate import simulate

QUICK = {"batch": 64, "max_epochs": 3, "hidden": [32], "embedding": 16, "output": "linear", "temperature": 0.1}


def configured(**experiments: Any) -> dict[str, Any]:
    """Return a raw configuration with three backbones and these experiments."""
    backbones = {name: {"kind": name, "weights": "random"} for name in ("musicnn", "r2plus1d")}
    backbones["slow"] = {"kind": "r2plus1d", "weights": "random"}
    return {"results": "r", "videos": "v.csv", "backbones": backbones, "heads": {"experiments": experiments}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Independent audio and video; one experiment's video side has the audio features beside the video's."""
    experiments = {"plain": QUICK, "joined": QUICK | {"video": ["r2plus1d", "musicnn"]}, "scaled": QUICK}
    experiments["scaled"] = QUICK | {"standardise": True}
    config = simulate(
        tmp_path_factory.mktemp("sides"), 0.0, heads={"experiments": experiments}, eval={"bootstrap": 100}
    )
    train(config, *experiments)
    for name in experiments:
        embed(config, name)
        retrieval(config, name)
    return config


def test_a_name_a_list_and_a_section_say_the_same() -> None:
    sections = ("slow", ["slow"], {"backbones": ["slow"]})
    assert len({load(configured(e={"video": video})).sides("e") for video in sections}) == 1
    config = load(configured(e={}, f={"video": ["slow", "r2plus1d"]}))
    assert config.sides("f").names == ["musicnn", "slow+r2plus1d"]
    assert list(config.spaces) == ["features", "features-musicnn-slow-r2plus1d"]
    assert config.used_backbones == ["musicnn", "r2plus1d", "slow"]
    assert load(config.model_dump(mode="json")) == config


def test_so_many_backbones_have_a_folder_whose_name_a_file_system_takes() -> None:
    raw = configured(e={}, f={})
    many = {f"vit_small_patch14_dinov2_{i}": {"kind": "r2plus1d", "weights": "random"} for i in range(20)}
    raw["backbones"] |= many
    raw["heads"]["experiments"] = {"e": {"video": list(many)}, "f": {"video": list(many)[::-1]}}
    default, *others = load(raw).spaces
    assert default == "features" and len(others) == 2
    assert all(len(name) < 240 and name.startswith("features-musicnn-vit_small") for name in others)


def test_an_experiment_that_chooses_nothing_is_written_as_before() -> None:
    written = load(configured(e={})).heads.experiments["e"].model_dump()
    assert "standardise" not in written and "backbones" not in written["audio"]
    assert load(configured(e={"standardise": True})).heads.experiments["e"].model_dump()["standardise"] is True


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ({"video": "clip"}, r"heads\.experiments\.e\.video: the backbone 'clip' is not one of"),
        ({"video": ["slow", "slow"]}, "a backbone stands twice"),
        ({"video": []}, r"heads\.experiments\.e\.video\.backbones"),
        (
            {"video": ["slow", "musicnn"]},
            r"e\.video: musicnn reads the audio; give it under `audio`",
        ),
        ({"audio": "r2plus1d"}, r"heads\.experiments\.e\.audio: r2plus1d reads the video"),
        ({"video": {"backbones": ["slow", "r2plus1d"], "identity": True}}, r"the 1024 features of slow and r2plus1d"),
    ],
)
def test_a_mistake_is_named_by_its_key(experiment: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(load(configured(e=experiment)))


def test_joined_features_are_those_of_both_backbones(trained: Config) -> None:
    features, view = load_features(trained, trained.sides("joined")), open_features(trained.paths)
    rows = features.splits["test"].rows
    both = np.concatenate([view.numpy("r2plus1d", rows), view.numpy("musicnn", rows)], axis=2)
    assert features.dims == (64, 96)
    assert np.array_equal(features.arrays[1].read(rows), both)
    assert np.array_equal(features.arrays[1][3:5], view.joined(("r2plus1d", "musicnn"), slice(3, 5)))


def test_the_checkpoint_has_the_standardisation_of_the_training_split(trained: Config) -> None:
    rows = open_features(trained.paths).rows("train", ("musicnn", "r2plus1d"))
    training = open_features(trained.paths).numpy("musicnn", rows).reshape(-1, 64).astype(np.float64)
    tensors = load_file(runs(trained, "scaled")[0].folder / "checkpoint.safetensors")
    np.testing.assert_allclose(tensors["audio.scaling.mean"], training.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(tensors["audio.scaling.scale"], training.std(axis=0), rtol=1e-5)
    joined = load_file(runs(trained, "joined")[0].folder / "checkpoint.safetensors")
    assert joined["video.scaling.mean"].shape == (96,) and "audio.scaling.mean" not in joined
    assert "audio.scaling.mean" not in load_file(runs(trained, "plain")[0].folder / "checkpoint.safetensors")


def test_only_the_experiment_that_reads_the_audio_on_both_sides_finds_the_positives(trained: Config) -> None:
    medians = {}
    for name in trained.heads.experiments:
        written = retrieval(trained, name)
        (full,) = (
            r
            for r in written["results"]
            if (r["level"], r["direction"], r["gallery"]) == ("video", "audio_to_video", "full")
        )
        medians[name] = full["metrics"]["median"]["value"] / full["metrics"]["median"]["chance"]
    assert medians["joined"] < 0.25 and min(medians["plain"], medians["scaled"]) > 0.6


def test_neighbours_of_joined_features_weigh_the_backbones_equally(trained: Config) -> None:
    written = neighbours(trained, "features-musicnn-r2plus1d-musicnn")
    assert set(written["keys"]) == {"musicnn", "r2plus1d"} and written["experiment"] is None
    assert (trained.paths.eval("features-musicnn-r2plus1d-musicnn") / "neighbours.json").exists()


def test_embeddings_of_other_backbones_are_refused(trained: Config) -> None:
    view = open_features(trained.paths)
    with pytest.raises(UserError, match="Train again"):
        load_embeddings(runs(trained, "joined")[0], np.arange(3), {"musicnn": view.key("musicnn")})


def test_videos_that_one_experiments_backbone_could_not_read_are_ranked_by_none(tmp_path: Path) -> None:
    audio_only = QUICK | {"video": ["musicnn"]}
    missing = {"unreadable": range(0, 600, 7), "damaged": [(row, 1) for row in range(1, 600, 5)]}
    heads = {"experiments": {"a": audio_only, "b": QUICK}}
    config = simulate(tmp_path, 0.0, heads=heads, eval={"bootstrap": 100}, **missing)
    for name in ("a", "b"):
        train(config, name)
        embed(config, name)
    written = [retrieval(config, name) for name in ("a", "b")]
    assert written[0]["test_videos_valid"] == written[1]["test_videos_valid"] < written[0]["test_videos"]
    sizes = [[result["size"] for result in of["results"]] for of in written]
    assert sizes[0] == sizes[1] and sizes[0][0] < 3 * written[0]["test_videos_valid"]
    compared = compare(config)["results"]
    assert {(line["a"], line["b"]) for line in compared} == {("a", "b")}
    # One reads the audio on both sides, the other a video that has nothing to do with it.
    assert {line["better"] for line in compared if line["metric"] == "median"} == {"a"}
