"""The study of correlation: its tests of chance, and both its halves end to end on a small simulated cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulate import simulate

from config.cli import UserError
from config.model import Config, Experiment
from config.paths import Paths
from eval.ranks import ranks
from eval.study.answer import read_answer, write_answer
from eval.study.chance import PERMUTATIONS, against_chance, false_alarms, rank_matrices, threshold, together
from eval.study.correlation import answer
from eval.study.curves import needed
from eval.study.plots.correlation import plots
from heads.study.cells import cells
from heads.study.correlation import capped, train

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
    write_answer(Paths(Path(config.results)), answer(config, 1))
    return config


def tables(config: Config) -> dict[str, Any]:
    return read_answer(Paths(Path(config.results)), "correlation").tables


def unit(rng: np.random.Generator, videos: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    audio = rng.normal(size=(videos, 8))
    return audio, audio + noise * rng.normal(size=audio.shape)


def test_matrices_of_ranks_agree_with_exact_ranks() -> None:
    audio, video = unit(np.random.default_rng(0), 40, 2.0)
    audio[3] = audio[4]  # a tie
    found = rank_matrices(audio, video)
    np.testing.assert_array_equal(np.diagonal(found, axis1=1, axis2=2), ranks(audio, video))
    assert found[0, 3].tolist() == found[0, 4].tolist()


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
    assert abs(np.median(against_chance([(audio, rng.normal(size=audio.shape))], 0).guessed) - 10.5) < 1


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
    found = cells(rendered, rendered=True)
    assert len({cell.name for cell in found}) == len(found) == 4 + 2 + 4 + 4
    assert {cell.seeds for cell in found if cell.correlation == 0} == {(0, 1, 2)}, "null_seeds"
    with pytest.raises(UserError, match=r"study.correlation.few: there is no experiment 'moder'"):
        changed = rendered.study.correlation.model_copy(update={"few": ["moder"]})
        cells(rendered.model_copy(update={"study": rendered.study.model_copy(update={"correlation": changed})}), True)


def test_a_cap_of_epochs_leaves_a_valid_recipe() -> None:
    recipe = Experiment(schedule="cosine", warmup=5, max_epochs=30)
    assert (capped(recipe, 4).max_epochs, capped(recipe, 4).warmup) == (4, 3)
    assert capped(recipe, 40) == recipe
    Experiment.model_validate(capped(recipe, 1).model_dump())


def test_recipes_find_what_is_there_and_nothing_else(rendered: Config) -> None:
    found = tables(rendered)
    for row in found["curves"]:
        if row["kind"] == "all":
            assert row["significant"] == (row["correlation"] == 1), row
            assert row["chance_low"] < row["chance"] < row["chance_high"]
            assert 30 < row["published_percent"] < 70
    assert {row["threshold"] for row in found["thresholds"] if row["kind"] == "all"} == {1.0}
    assert all(row["trainings"] == 3 and row["p"] > 0.01 for row in found["null"]) and len(found["null"]) == 2 + 4
    own = [row for row in found["achieved"] if (row["kind"], row["correlation"]) == ("all", 1)]
    assert [row["linked"] for row in own] == pytest.approx([1.0] * len(own)) and len(own) == 3
    assert {row["train_videos"] for row in found["sizes"]} == {40, 200}


def test_the_answer_says_what_its_numbers_rest_on(rendered: Config, tmp_path: Path) -> None:
    found = read_answer(Paths(Path(rendered.results)), "correlation")
    assert found.random_weights == ["r2plus1d"] and found.seeds == [0, 1]
    assert "permutations" in found.method and any("phase of the beat" in limit for limit in found.limits)
    assert any("dance" in finding.claim for finding in found.findings)
    drawn = plots(found, tmp_path)
    assert len(drawn) == 2 * 2 + 1 + 2 and all((tmp_path / f"{plot.name}.svg").exists() for plot in drawn)


def test_finished_cells_are_kept_and_a_lost_one_comes_back_the_same_from_another_process(rendered: Config) -> None:
    folder = Paths(Path(rendered.results)).study_work("correlation")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.safetensors")}
    lost = "rendered-dance-modern-1.safetensors"
    (folder / lost).unlink()
    train(rendered, 2)
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.safetensors")}
    assert {name for name in after if after[name][0] != before[name][0]} == {lost}
    assert after[lost][1] == before[lost][1]


def test_videos_whose_latents_nobody_knows_are_left_out(tmp_path: Path) -> None:
    config = cache(tmp_path, heads={"experiments": {"paper": PAPER | {"max_epochs": 1}}})
    with pytest.raises(UserError, match="trained.json does not exist"):
        answer(config, 1)
    train(config, 1)
    found = answer(config, 1)
    assert {row["source"] for row in found.tables["curves"]} == {"simulated"} and found.tables["achieved"] == []
    assert "were not rendered" in found.method and found.random_weights == []
    json.dumps(found.tables, allow_nan=False)
