"""The study of correlation: its tests against chance, and both of its parts end to end on a small simulated cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.cli import UserError
from config.heads import Experiment
from config.model import Config
from eval.ranks import ranks
from study.answer import read_answer, write_answer
from study.correlation.cells import cells
from study.correlation.curves import needed
from study.correlation.measure import answer
from study.correlation.permutation_test import (
    PERMUTATIONS,
    against_chance,
    false_alarms,
    rank_matrices,
    threshold,
    together,
)
from study.correlation.plots import plots
from study.correlation.train import capped, train
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow

PAPER = {"hidden": [32], "embedding": 16, "batch": 64, "patience": 3, "max_epochs": 8}
MODERN = {**PAPER, "output": "linear", "temperature": 0.1, "learning_rate": 0.003, "segment_policy": "all"}
STUDY = {
    "seeds": [0, 1],
    "correlation": {
        "null_seeds": 3,
        "simulated": {
            "videos": 200, "gallery": 60, "factors": 6, "noise": 0.2, "max_epochs": 8, "grid": [1], "sizes": [40, 200],
            "map_grid": [1],
        },
        "rendered": {"grid": [0, 1], "kinds": ["dance", "genre"], "kinds_grid": [1]},
    },
}  # fmt: skip


def cache(folder: Path, **changes: Any) -> Config:
    settings = {
        "heads": {"experiments": {"paper": PAPER, "modern": MODERN}},
        "study": STUDY,
        "eval": {"bootstrap": 100},
    }
    return simulate(folder, videos=300, dims=(24, 16), **(settings | changes))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Trained and measured: a cache of videos that were rendered, so its configuration says, at correlation 1."""
    config = cache(tmp_path_factory.mktemp("rendered"), render={"videos": 300, "correlation": 1.0})
    train(config, 1)
    write_answer(config.paths, answer(config, 1))
    return config


def tables(config: Config) -> dict[str, Any]:
    return read_answer(config.paths, "correlation").tables


def unit(rng: np.random.Generator, videos: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    audio = rng.normal(size=(videos, 8))
    return audio, audio + noise * rng.normal(size=audio.shape)


def test_matrices_of_ranks_agree_with_exact_ranks() -> None:
    audio, video = unit(np.random.default_rng(0), 40, 2.0)
    audio[3] = audio[4]  # a tie
    matrices = rank_matrices(audio, video)
    np.testing.assert_array_equal(np.diagonal(matrices, axis1=1, axis2=2), ranks(audio, video))
    assert matrices[0, 3].tolist() == matrices[0, 4].tolist()
    audio *= np.linspace(1, 9, 40)[:, None]
    matrices = rank_matrices(audio, video, (False, True))
    np.testing.assert_array_equal(np.diagonal(matrices, axis1=1, axis2=2), ranks(audio, video, unit=(False, True)))


def test_a_link_is_found_and_its_absence_is_not() -> None:
    rng = np.random.default_rng(1)
    linked = against_chance([unit(rng, 50, 0.5), unit(rng, 50, 0.5)], 0)
    assert linked.p == 1 / (1 + PERMUTATIONS)
    assert linked.ranks.shape == linked.owner.shape == (200,) and np.median(linked.ranks) < 3
    p = []
    for seed in range(60):
        audio, _ = unit(rng, 20, 1)
        p.append(against_chance([(audio, rng.normal(size=audio.shape))], seed).p)
    # Under the null the p-values are uniform: 60 of them have a mean with standard error 0.037.
    assert abs(np.mean(p) - 0.5) < 0.13
    assert false_alarms(p)[1] > 0.01
    assert abs(np.median(against_chance([(audio, rng.normal(size=audio.shape))], 0).by_chance) - 10.5) < 1


def test_segments_of_a_video_are_no_independent_evidence() -> None:
    """The same gallery four times is no surer than once."""
    rng = np.random.default_rng(2)
    gallery = unit(rng, 30, 6.0)
    assert against_chance([gallery] * 4, 0).p == against_chance([gallery], 0).p


@pytest.mark.parametrize(
    ("p", "lowest"),
    [
        ([0.5, 0.4, 0.01, 0.001, 0.001], 0.5),
        ([0.01, 0.01, 0.01, 0.01, 0.01], 0.25),  # a false alarm at 0 is no threshold
        ([0.5, 0.01, 0.3, 0.001, 0.001], 0.75),  # significant below a gap does not count
        ([0.5, 0.01, 0.01, 0.01, 0.06], None),
    ],
)
def test_the_threshold_is_where_significance_begins_for_good(p: list[float], lowest: float | None) -> None:
    grid = [0, 0.25, 0.5, 0.75, 1]
    assert threshold(grid, p) == threshold(grid[::-1], p[::-1]) == lowest


def test_the_fewest_videos_are_those_from_which_on_it_is_significant() -> None:
    rows = [
        {"recipe": "r", "correlation": 0.5, "train_videos": n, "p": p}
        for n, p in ((800, 0.01), (100, 0.2), (200, 0.04))
    ]
    assert needed(rows) == [{"recipe": "r", "correlation": 0.5, "videos": 200, "most": 800}]


def test_alarms_are_counted_against_the_nominal_rate() -> None:
    assert false_alarms([0.01, 0.05, 0.2, 0.9]) == (2, pytest.approx(0.01402, abs=1e-4))
    assert together([0.03, 0.03]) < 0.03 < together([0.03, 0.6])


def test_every_cell_is_trained_once(rendered: Config) -> None:
    listed = cells(rendered, rendered=True)
    assert len({cell.name for cell in listed}) == len(listed) == 4 + 2 + 4 + 4
    assert {cell.seeds for cell in listed if cell.correlation == 0} == {(0, 1, 2)}, "null_seeds"
    with pytest.raises(UserError, match=r"study.correlation.few: there is no experiment 'moder'"):
        changed = rendered.study.correlation.model_copy(update={"few": ["moder"]})
        cells(rendered.model_copy(update={"study": rendered.study.model_copy(update={"correlation": changed})}), True)


def test_a_cap_of_epochs_leaves_a_valid_recipe() -> None:
    recipe = Experiment(schedule="cosine", warmup=5, max_epochs=30)
    assert (capped(recipe, 4).max_epochs, capped(recipe, 4).warmup) == (4, 3)
    assert capped(recipe, 40) == recipe
    Experiment.model_validate(capped(recipe, 1).model_dump())


def test_recipes_find_what_is_there_and_nothing_else(rendered: Config) -> None:
    rows = tables(rendered)
    for row in rows["curves"]:
        if row["kind"] == "all":
            assert row["significant"] == (row["correlation"] == 1), row
            assert row["chance_low"] < row["chance"] < row["chance_high"]
            assert 30 < row["published_percent"] < 70
    assert {row["threshold"] for row in rows["thresholds"] if row["kind"] == "all"} == {1.0}
    assert all(row["trainings"] == 3 and row["p"] > 0.01 for row in rows["null"]) and len(rows["null"]) == 2 + 4
    true = [row for row in rows["achieved"] if (row["kind"], row["correlation"]) == ("all", 1)]
    assert [row["linked"] for row in true] == pytest.approx([1.0] * len(true)) and len(true) == 3
    assert {row["train_videos"] for row in rows["sizes"]} == {40, 200}


def test_the_answer_names_seeds_weights_and_limits(rendered: Config, tmp_path: Path) -> None:
    written = read_answer(rendered.paths, "correlation")
    assert written.random_weights == ["r2plus1d"] and written.seeds == [0, 1]
    assert "permutations" in written.method and any("phase of the beat" in limit for limit in written.limits)
    assert any("dance" in finding.claim for finding in written.findings)
    drawn = plots(written, tmp_path)
    assert len(drawn) == 2 * 2 + 1 + 2 and all((tmp_path / f"{plot.name}.svg").exists() for plot in drawn)


def test_finished_cells_are_kept_and_a_lost_one_comes_back_the_same_from_another_process(rendered: Config) -> None:
    folder = rendered.paths.study_work("correlation")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.safetensors")}
    lost = "rendered-dance-modern-1.safetensors"
    (folder / lost).unlink()
    train(rendered, 2)
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.safetensors")}
    assert {name for name in after if after[name][0] != before[name][0]} == {lost}
    assert after[lost][1] == before[lost][1]


def test_videos_without_known_latents_are_left_out(tmp_path: Path) -> None:
    config = cache(tmp_path, heads={"experiments": {"paper": PAPER | {"max_epochs": 1}}})
    with pytest.raises(UserError, match="trained.json does not exist"):
        answer(config, 1)
    train(config, 1)
    measured = answer(config, 1)
    assert {row["source"] for row in measured.tables["curves"]} == {"simulated"} and measured.tables["achieved"] == []
    assert "were not rendered" in measured.method and measured.random_weights == []
    json.dumps(measured.tables, allow_nan=False)
