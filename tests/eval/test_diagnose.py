"""Broken heads are recognised, each by its name, and a healthy one is not accused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from bench.nulls import equally_good
from config.files import write_json
from config.model import Config, load
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.diagnose.__main__ import diagnose, linear_ranks
from eval.diagnose.signs import effective_rank, label_agreement, mean_cosine, modality_gap, spread
from eval.diagnose.text import WORDS
from eval.ranks import unit_rows
from eval.retrieval import retrieval
from eval.spaces import representatives
from heads import embed as embedding
from heads.checkpoint import load_checkpoint, save_checkpoint
from heads.embed import embed
from heads.train import train
from pipeline.features import open_features
from tests.support.msd_files import track_id, write_genres
from tests.support.simulate import simulate

HEALTHY = {"output": "linear", "temperature": 0.1, "batch": 200, "max_epochs": 12, "learning_rate": 0.003}
BY_HEART = HEALTHY | {"dropout": 0.0, "max_epochs": 25, "patience": 25}


def trained(folder: Path, correlation: float, recipe: dict[str, Any]) -> Config:
    torch.set_num_threads(1)
    config = simulate(folder, correlation, heads={"experiments": {"head": recipe}}, eval={"bootstrap": 200})
    train(config, "head")
    evaluated(config)
    return config


def evaluated(config: Config) -> Config:
    embed(config, "head")
    retrieval(config, "head")
    return config


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return trained(tmp_path_factory.mktemp("healthy"), 1.0, HEALTHY)


@pytest.fixture
def copy(healthy: Config, tmp_path: Path) -> Config:
    """A copy of the healthy experiment, to be broken."""
    shutil.copytree(healthy.results, tmp_path / "results")
    return healthy.model_copy(update={"results": str(tmp_path / "results")})


def names_found(config: Config) -> set[str]:
    return {line["name"] for line in diagnose(config, "head")["findings"] if line["verdict"] == "found"}


def test_a_healthy_head_is_not_accused(healthy: Config) -> None:
    written = diagnose(healthy, "head")
    assert not {line["name"] for line in written["findings"] if line["verdict"] == "found"}
    assert {line["name"] for line in written["findings"]} == set(WORDS)
    assert json.loads((healthy.paths.eval("head") / "diagnosis.json").read_text()) == written
    # One genre only, no probes: nothing can be said, which is not the same as nothing found.
    unknown = {line["name"] for line in written["findings"] if line["verdict"] == "unknown"}
    assert unknown == {"neighbours_without_labels", "downstream_below_features"}


def test_constant_output(copy: Config) -> None:
    path = copy.paths.heads("head") / "checkpoint.safetensors"
    heads, about = load_checkpoint(path)
    weights = heads.state_dict()
    last = [name for name in weights if name.startswith("audio") and name.endswith("weight")][-1]
    save_checkpoint(path, weights | {last: torch.zeros_like(weights[last])}, replace(about))
    evaluated(copy)
    assert names_found(copy) == {"constant_output", "chance_ranks"}


def test_train_mode_batch_norm(copy: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def training(head: torch.nn.Module, *rest: Any) -> np.ndarray:
        return right(head.train(), *rest)

    right = embedding.embed_block
    monkeypatch.setattr(embedding, "embed_block", training)
    evaluated(copy)
    assert names_found(copy) == {"train_mode_batch_norm"}  # though dropout blurs it


def test_pairs_shuffled_in_training(tmp_path: Path) -> None:
    """Trained on unrelated pairs; the cache that is evaluated has related ones."""
    config = trained(tmp_path, 0.0, BY_HEART)
    simulate(tmp_path, 1.0, heads={"experiments": {"head": BY_HEART}}, eval={"bootstrap": 200})
    evaluated(config)
    assert {"shuffled_pairs", "chance_ranks"} <= names_found(config)
    assert "shuffled_or_unrelated_pairs" not in names_found(config)


def test_pairs_shuffled_in_the_cache(tmp_path: Path) -> None:
    names = names_found(trained(tmp_path, 0.0, BY_HEART))
    assert {"shuffled_or_unrelated_pairs", "memorised_pairs", "chance_ranks"} <= names and "shuffled_pairs" not in names


def test_the_papers_loss_can_hardly_fall(tmp_path: Path) -> None:
    config = trained(tmp_path, 1.0, {"max_epochs": 10, "batch": 200})
    assert names_found(config) == {"loss_floor"}


def test_other_weights(copy: Config) -> None:
    path = copy.paths.heads("head") / "checkpoint.safetensors"
    heads, about = load_checkpoint(path)
    torch.manual_seed(1)
    save_checkpoint(
        path,
        {
            name: tensor[torch.randperm(len(tensor))] if tensor.dim() == 2 else tensor
            for name, tensor in heads.state_dict().items()
        },
        about,
    )
    assert names_found(copy) == {"other_weights"}


def test_few_videos_say_nothing(tmp_path: Path) -> None:
    recipe = HEALTHY | {"max_epochs": 2}
    config = simulate(tmp_path, 0.0, videos=60, heads={"experiments": {"head": recipe}}, eval={"bootstrap": 100})
    train(config, "head")
    verdicts = {line["name"]: line["verdict"] for line in diagnose(evaluated(config), "head")["findings"]}
    assert {verdicts[name] for name in ("chance_ranks", "shuffled_or_unrelated_pairs")} == {"unknown"}


def test_labels_of_another_file_than_the_manifest(copy: Config, tmp_path: Path) -> None:
    ids = [track_id(i) for i in range(600)]
    file = write_genres(tmp_path / "genres.cls", [f"{t}\t{'Rock' if i % 2 else 'Folk'}" for i, t in enumerate(ids)])
    table = read_manifest(copy.paths.manifest)
    write_manifest(copy.paths, table.set_column(table.column_names.index("msd_track_id"), "msd_track_id", [ids]))
    config = load(copy.model_dump(mode="json") | {"labels": {"genre": {"source": str(file)}}})
    write_labels(config, "genre")
    (found,) = (f for f in diagnose(config, "head")["findings"] if f["name"] == "neighbours_without_labels")
    assert found["verdict"] != "unknown" and found["numbers"]["chance"] == pytest.approx(0.5, abs=0.1)


def test_a_large_test_split_is_drawn_not_cut(copy: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(*arguments: Any) -> dict[str, float]:
        seen.append(arguments[4])
        return linear_ranks(*arguments)

    monkeypatch.setattr("eval.spaces.MOST", 30)
    monkeypatch.setattr("eval.diagnose.__main__.linear_ranks", watched)
    (chance,) = (f for f in diagnose(copy, "head")["findings"] if f["name"] == "chance_ranks")
    test = open_features(copy.results).rows("test")
    assert seen[0].tolist() == test[representatives(len(test), copy.eval.seed)].tolist() != test[:30].tolist()
    # Each video is a group of its own: both counts are of the whole split.
    assert chance["numbers"]["groups"] == chance["numbers"]["videos"] == len(test) > 30


def test_a_probe_below_the_features(copy: Config) -> None:
    """One comparison a task is named beforehand; others may be below zero by chance."""
    line = {"level": "video", "probe": "linear", "metric": "auc", "a": "cl_aggregated", "b": "audio_video"}
    line |= {"difference": -0.1, "low": -0.2, "high": -0.05}
    others = [line | change for change in ({"a": "cl_audio"}, {"metric": "f1"}, {"level": "segment"}, {"b": "audio"})]
    path = copy.paths.eval("head") / "genre.json"

    def verdict(test: int, *lines: dict[str, Any]) -> dict[str, Any]:
        write_json(path, {"comparisons": lines, "videos": {"train": 300, "validation": 50, "test": test}})
        return next(line for line in diagnose(copy, "head")["findings"] if line["name"] == "downstream_below_features")

    worse = verdict(100, line, *others)
    assert worse["verdict"] == "found" and worse["numbers"] == {"compared": 1, "worse": 1}
    assert worse["details"] == [
        "genre, videos, linear: auc of cl_aggregated is -0.100 [-0.237, -0.031] from audio_video's"
    ]
    assert verdict(100, line | {"high": 0.01}, *others)["verdict"] == "absent"
    assert verdict(900, line)["verdict"] == "absent"  # 300 training videos cannot tell that
    assert verdict(30, line)["verdict"] == "unknown" and verdict(100, *others)["verdict"] == "unknown"


def test_equally_good_embeddings_are_seldom_accused() -> None:
    """Two noisy views of the same factors: neither lost anything. Both tasks together accuse in 5 % at most."""
    torch.set_num_threads(1)
    runs, accused = 30, 0
    for seed in range(runs):
        accused += equally_good(seed, 600)["verdict"] == "found"
    assert accused <= binom.ppf(0.999, runs, 0.05)


def test_signs_of_known_vectors() -> None:
    rng = np.random.default_rng(0)
    wide = unit_rows(rng.normal(size=(4000, 8)))
    assert spread(wide) == pytest.approx(1, abs=0.01) and effective_rank(wide) == pytest.approx(8, rel=0.01)
    assert mean_cosine(wide) == pytest.approx(0, abs=0.01)
    same = np.tile(wide[:1], (50, 1))
    assert spread(same) < 1e-3 and mean_cosine(same) == pytest.approx(1) and effective_rank(same) <= 1
    off = unit_rows(rng.normal(size=(4000, 8)) + 4 * np.eye(8)[0])
    apart, none = modality_gap(off, -off), modality_gap(wide[::2], wide[1::2])
    assert apart["separability"] > 0.99 and apart["distance"] > 2 * apart["spread"]
    assert none["separability"] == pytest.approx(0.5, abs=0.05) and none["distance"] < 0.1
    labels = np.arange(400) % 4
    alone, near = np.arange(400), unit_rows(np.eye(4)[labels] + 0.01 * rng.normal(size=(400, 4)))
    agreement, chance = label_agreement(near, labels, alone)
    assert agreement.mean() == 1 and chance == pytest.approx(np.full(400, 99 / 399))
    assert label_agreement(wide[:400], labels, alone)[0].mean() == pytest.approx(0.25, abs=0.05)
    # Videos of ten artists, of one genre each, that know their artist alone: they are no evidence of genres.
    artists = np.arange(400) % 40
    known = unit_rows(rng.normal(size=(40, 16))[artists] + 0.01 * rng.normal(size=(400, 16)))
    assert label_agreement(known, labels, alone)[0].mean() == 1
    assert label_agreement(known, labels, artists)[0].mean() == pytest.approx(0.25, abs=0.2)
    assert np.isnan(label_agreement(near, labels, np.zeros(400))[0]).all()
