"""The search over recipes: what it tries, how it ranks, and that it looks at the validation split only."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from config.cli import UserError
from config.model import Config, load
from heads import search as module
from heads.features import load_features
from heads.metrics import METRICS
from heads.search import GRID, Candidate, candidates, order, ranks, search
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow

SMALL = {"hidden": [32], "embedding": 16, "batch": 64, "max_epochs": 3}
GRID_TEXT = (
    "base: {hidden: [32], embedding: 16, batch: 64, output: linear, temperature: 0.1}\ngrid: {max_epochs: [1, 8]}\n"
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID_TEXT)
    return path


def small_cache(folder: Path, **changes: Any) -> Config:
    return simulate(
        folder, videos=200, dims=(24, 16), heads={"experiments": {"small": SMALL}, "seeds": [0, 1]}, **changes
    )


def test_ranks_are_counted_by_hand() -> None:
    audio = torch.eye(3)
    video = torch.tensor([[0.6, 0.8, 0.0], [0.6, 0.6, 0.5], [0.0, 0.0, 1.0]])
    #   similarity: audio 0 → .6 .6 0 (a tie), audio 1 → .8 .6 0, audio 2 → 0 .5 1; video 0 → .6 .8 0 and so on
    assert ranks(audio, video).tolist() == [1.5, 2, 1, 2, 1.5, 1]


def test_every_combination_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("base: {output: linear}\ngrid: {dropout: [0.1, 0.2], batch: [5, 6, 7]}\n")
    recipes = candidates(path)
    assert len(recipes) == 6
    assert recipes["dropout 0.2, batch 6"] == {"output": "linear", "dropout": 0.2, "batch": 6}


def test_the_shipped_grid_is_valid() -> None:
    for keys in candidates(GRID).values():
        load({"results": "r", "videos": "v.csv", "heads": {"experiments": {"x": keys}}})


@pytest.mark.parametrize("text", ["[1, 2]", "base: {}", "base: {}\ngrid: 3", "a: b: c"])
def test_a_file_that_is_no_grid_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="g.yaml needs `base`"):
        candidates(path)


def test_the_best_comes_first(tmp_path: Path, grid: Path) -> None:
    results = tmp_path / "results"
    ranked = search(small_cache(results), grid, ["small"])
    assert {c.name for c in ranked} == {"small", "max_epochs 1", "max_epochs 8"}
    assert ranked[0].name == "max_epochs 8", "more training of the better recipe"
    medians = [c.metrics["median"] for c in ranked]
    assert medians == sorted(medians) and medians[0] < (ranked[0].gallery + 1) / 4
    written = json.loads((results / "search" / "search.json").read_text())
    assert [c["name"] for c in written["candidates"]] == [c.name for c in ranked] and written["seeds"] == [0, 1]
    with open(results / "search" / "search.csv") as file:
        rows = list(csv.DictReader(file))
    for row, candidate, line in zip(rows, ranked, written["candidates"], strict=True):
        assert {name: float(row[name]) for name in METRICS} == candidate.metrics == line["metrics"]
        assert float(row["gallery"]) == candidate.gallery == line["gallery"]
    assert not list((results / "search").glob("*.safetensors")), "nothing is left behind"


def test_equal_medians_are_told_apart_by_the_mean_reciprocal_rank() -> None:
    kinds = {"worst": (9.0, 0.9), "best": (2.0, 0.5), "second": (2.0, 0.4)}
    made = [Candidate(name, {}, {"median": m, "mrr": r}, 20, [1]) for name, (m, r) in kinds.items()]
    assert [c.name for c in sorted(made, key=order)] == ["best", "second", "worst"]


def test_the_test_split_decides_nothing(tmp_path: Path, grid: Path) -> None:
    config = small_cache(tmp_path / "results")
    expected = search(config, grid, [])
    group = zarr.open_group(tmp_path / "results" / "features.zarr", mode="r+")
    rows = load_features(config).splits["test"].rows
    for backbone in ("musicnn", "r2plus1d"):
        group[backbone].oindex[rows] = np.float16(7)
    assert search(config, grid, []) == expected


def test_a_killed_search_has_written_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("base: {hidden: [8], embedding: 8, batch: 64, max_epochs: 1}\ngrid: {temperature: [1.0, 0.1]}\n")
    validate, tried = module.validate, []

    def dying(*arguments: Any) -> Any:
        tried.append(arguments)
        if len(tried) == 2:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(module, "validate", dying)
    with pytest.raises(KeyboardInterrupt):
        search(small_cache(tmp_path / "results"), path, [])
    written = json.loads((tmp_path / "results" / "search" / "search.json").read_text())
    assert [c["name"] for c in written["candidates"]] == ["temperature 1.0"]


def test_a_wrong_key_of_the_grid_is_named(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("base: {}\ngrid: {droput: [0.1]}\n")
    with pytest.raises(UserError, match=r"droput.*dropout"):
        search(small_cache(tmp_path / "results"), path, [])
