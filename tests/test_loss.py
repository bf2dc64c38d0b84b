"""The contrastive loss against its equation written out as loops, its chance level and its lower bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.loss import chance_loss, info_nce, lowest_loss


def unit(rng: np.random.Generator, shape: tuple[int, int], nonnegative: bool = False) -> np.ndarray:
    rows = rng.normal(size=shape)
    rows = np.abs(rows) if nonnegative else rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def loss(audio: np.ndarray, video: np.ndarray, temperature: float) -> float:
    return float(info_nce(torch.from_numpy(audio), torch.from_numpy(video), temperature))


def from_the_equation(audio: np.ndarray, video: np.ndarray, temperature: float) -> float:
    """-log of the partner's share of exp(cosine / τ) among all candidates, averaged over queries and directions."""
    n, total = len(audio), 0.0
    for queries, candidates in ((audio, video), (video, audio)):
        for i in range(n):
            weight = [
                math.exp(sum(a * b for a, b in zip(queries[i], c, strict=True)) / temperature) for c in candidates
            ]
            total -= math.log(weight[i] / sum(weight))
    return total / (2 * n)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 7),
    st.integers(1, 5),
    st.sampled_from([0.07, 0.3, 1.0, 3.0]),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_equals_the_equation_and_stays_above_the_bound(
    seed: int, n: int, d: int, temperature: float, nonnegative: bool
) -> None:
    rng = np.random.default_rng(seed)
    audio, video = unit(rng, (n, d), nonnegative), unit(rng, (n, d), nonnegative)
    value = loss(audio, video, temperature)
    assert value == pytest.approx(from_the_equation(audio, video, temperature), rel=1e-9)
    assert value == pytest.approx(loss(video, audio, temperature), rel=1e-12)
    for pictures in (video, audio):  # strangers, and a model that is always right
        assert loss(audio, pictures, temperature) >= lowest_loss(n, temperature, "linear") - 1e-9
        if nonnegative:
            assert loss(audio, pictures, temperature) >= lowest_loss(n, temperature, "sigmoid") - 1e-9


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_bounds_are_reached(temperature: float) -> None:
    n = 12
    orthogonal = np.eye(n)
    assert loss(orthogonal, orthogonal, temperature) == pytest.approx(lowest_loss(n, temperature, "sigmoid"), rel=1e-9)
    simplex = np.eye(n) - 1 / n
    simplex /= np.linalg.norm(simplex, axis=1, keepdims=True)
    assert loss(simplex, simplex, temperature) == pytest.approx(lowest_loss(n, temperature, "linear"), rel=1e-9)


def test_a_collapsed_model_is_at_chance() -> None:
    same = np.tile(unit(np.random.default_rng(0), (1, 8)), (50, 1))
    assert loss(same, same, 0.1) == pytest.approx(chance_loss(50))


def test_the_papers_setting_leaves_little_room() -> None:
    """Sigmoid embeddings, τ = 1, 1,000 pairs: both directions added, the loss can only fall from 13.82 to 11.82."""
    assert 2 * chance_loss(1000) == pytest.approx(13.82, abs=0.005)
    assert 2 * lowest_loss(1000, 1.0, "sigmoid") == pytest.approx(11.82, abs=0.005)
