"""The search of a recipe: candidates are valid and always the same, chance has the score that is said."""

from __future__ import annotations

import numpy as np
import pytest

from bench.recipe import BASE, GRID, better, drawn, score
from config.heads import Experiment


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
