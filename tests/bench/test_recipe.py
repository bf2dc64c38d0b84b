"""The search of a recipe: candidates are valid and always the same, chance has the score that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import recipe
from bench.recipe import BASE, GRID, SOURCES, add_holm, better, drawn, score, trained
from config.heads import Experiment
from config.model import Config
from study.trainings import Outcome
from tests.support.simulate import simulate


def test_candidates_are_different_valid_and_always_the_same() -> None:
    candidates = drawn(30)
    assert candidates == drawn(30)
    assert len({str(keys) for keys in candidates}) == 30
    for keys in candidates:
        assert set(keys) == set(GRID) and all(keys[name] in values for name, values in GRID.items())
        Experiment.model_validate(BASE | {name: value for name, value in keys.items() if name != "steps"})


def test_chance_has_the_score_of_a_uniform_rank_and_a_perfect_model_the_lowest() -> None:
    uniform = np.tile(np.arange(1.0, 10_001), (2, 1))
    assert score({"a": [uniform], "b": [uniform, uniform]}) == pytest.approx(-1 / np.log(2), abs=2e-3)
    assert score({"a": [np.ones((2, 64))]}) == -6


def test_better_means_that_both_intervals_lie_above_0() -> None:
    line = {"source": "s", "recipe": "c", "against": "b", "metric": "mrr", "low": 0.1, "seeds_low": 0.1}
    lines = [line, line | {"source": "t", "seeds_low": -0.1}, line | {"source": "u", "metric": "median"}]
    assert better({"comparisons": lines}, "c", "b") == {"s": True, "t": False}


def test_p_values_are_corrected_for_the_kinds_of_data() -> None:
    lines: list[dict[str, Any]] = [
        {"source": source, "recipe": "c", "against": against, "metric": metric, "p": p}
        for against, metric, of_sources in (
            ("b", "mrr", [0.040, 0.048, 0.002]), ("b", "median", [0.5, 0.01, 0.02]), ("f", "mrr", [0.9, 0.04, 0.6]),
        )
        for source, p in zip("stu", of_sources, strict=True)
    ]  # fmt: skip
    add_holm(lines)
    expected = [0.08, 0.08, 0.006, 0.5, 0.03, 0.04, 1.0, 0.12, 1.0]
    assert [line["holm"] for line in lines] == pytest.approx(expected)


def test_trainings_of_other_videos_or_settings_are_not_used_again(tmp_path: Path, monkeypatch: Any) -> None:
    """Trainings are counted; each stands for its ranks."""

    class Counting:
        trainings = 0

        def __init__(self, given: Any) -> None:
            pass

        def __call__(self, name: str) -> Outcome:
            Counting.trainings += 1
            return Outcome({"ranks": torch.ones(2, 3)}, {})

    def run_here(function: Any, items: Any, threads: int, start: Any, prepare: Any, given: Any) -> Any:
        train = prepare(given)
        return ((name, train(name)) for name in items)

    monkeypatch.setattr(recipe, "RecipeTrainer", Counting)
    monkeypatch.setattr("study.trainings.parallel", run_here)

    def config(part: str, **changed: Any) -> Config:
        settings = {"render": {"videos": 120, "correlation": 1.0}, **changed}
        return simulate(tmp_path / part, videos=120, dims=(8, 6), **settings)

    def trainings(config: Config) -> int:
        before = Counting.trainings
        trained(config, tmp_path / "work", {"b": ({"batch": 10}, 5)}, range(2), "test", 1)
        return Counting.trainings - before

    whole = 2 * len(SOURCES)
    first = config("a")
    assert (trainings(first), trainings(first)) == (whole, 0)
    assert trainings(config("b", study={"ablation": {"videos": 90}})) == whole
    assert trainings(config("c", study={"correlation": {"simulated": {"noise": 0.7}}})) == whole
    assert trainings(config("d", render={"videos": 120, "correlation": 0.5})) == whole
    assert trainings(config("e", unreadable=[3])) == whole
    assert trainings(first) == whole
    monkeypatch.setattr(recipe, "VERSION", recipe.VERSION + 1)
    assert trainings(first) == whole
