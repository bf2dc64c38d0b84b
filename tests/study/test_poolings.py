"""The poolings by their properties, replaced segments, and inconsistency against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from config.heads import Experiment
from study.aggregation import inconsistency
from study.aggregation.poolings import POOLINGS, Attention, Hierarchical, Learned, shares
from study.aggregation.train import WAYS, Pooled, fit
from study.segments import PairedSegments, donors

DIM, SEGMENTS = 12, 5
SYMMETRIC = ("mean", "max", "attention", "mean_layer")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pooling(name: str, trained: bool = True, segments: int = SEGMENTS) -> nn.Module:
    """Return it in eval mode; if `trained`, all weights are random, so that it is no longer the mean."""
    torch.manual_seed(0)
    module = POOLINGS[name](DIM, segments, 0.3).eval()
    if trained:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.5)
    return module


def tokens(videos: int = 4, segments: int = SEGMENTS, seed: int = 0) -> Tensor:
    vectors = torch.randn(videos, segments, DIM, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(vectors, dim=-1)


def damaged(videos: int = 4, segments: int = SEGMENTS) -> Tensor:
    good = torch.rand(videos, segments, generator=torch.Generator().manual_seed(1)) < 0.6
    good[:, 1] = True
    assert not good.all()
    return good


@pytest.mark.parametrize("name", POOLINGS)
@torch.no_grad()
def test_damaged_segments_do_not_matter(name: str) -> None:
    module, x, good = pooling(name), tokens(), damaged()
    pooled = module(x, good)
    assert pooled.shape == (4, DIM) and pooled.isfinite().all()
    for rubbish in (torch.nan, torch.inf, 1e6):
        torch.testing.assert_close(module(x.masked_fill(~good[..., None], rubbish), good), pooled)
    if name == "mean":
        for segments, known, mean in zip(x, good, pooled, strict=True):
            torch.testing.assert_close(mean, segments[known].mean(0))


@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "max"])
@torch.no_grad()
def test_untrained_poolings_are_the_mean(name: str) -> None:
    x, good = tokens(segments=4), torch.ones(4, 4, dtype=torch.bool)
    torch.testing.assert_close(pooling(name, trained=False, segments=4)(x, good), x.mean(1))


@pytest.mark.parametrize("name", POOLINGS)
@torch.no_grad()
def test_which_poolings_depend_on_the_order(name: str) -> None:
    module, x, good = pooling(name), tokens(), torch.ones(4, SEGMENTS, dtype=torch.bool)
    order = torch.tensor([3, 0, 4, 2, 1])
    same = torch.allclose(module(x, good), module(x[:, order], good[:, order]), atol=1e-5)
    assert same == (name in SYMMETRIC)


@pytest.mark.parametrize("kind", [Learned, Attention])
@torch.no_grad()
def test_weights_sum_to_one_over_the_good_segments(kind: Any) -> None:
    name = "learned" if kind is Learned else "attention"
    module, x, good = pooling(name), tokens(), damaged()
    weights = module.weights(x, good)  # type: ignore[operator]
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert (weights[~good] == 0).all() and (weights[good] > 0).all()
    assert weights[good].std() > 0.01, "the test needs weights that differ"
    torch.testing.assert_close(module(x, good), (weights[..., None] * x).sum(1))


def test_shares_are_zero_where_no_segment_is_good() -> None:
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weights = shares(scores, torch.tensor([[True, True], [False, False]]))
    assert weights[1].tolist() == [0, 0] and float(weights[0].detach().sum()) == pytest.approx(1)
    (weights[0, 0] + weights[1, 0]).backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


@torch.no_grad()
def test_hierarchical_pools_neighbours_first() -> None:
    module = pooling("hierarchical")
    assert isinstance(module, Hierarchical)
    x, good = tokens(), torch.ones(4, SEGMENTS, dtype=torch.bool)
    sections = [module.layer(module.inner(x[:, start : start + 2], good[:, start : start + 2])) for start in (0, 2, 4)]
    expected = module.outer(torch.stack(sections, 1), torch.ones(4, 3, dtype=torch.bool))
    torch.testing.assert_close(module(x, good), expected)
    good[:, 2:4] = False  # a whole section
    expected = module.outer(torch.stack([sections[0], sections[2]], 1), torch.ones(4, 2, dtype=torch.bool))
    torch.testing.assert_close(module(x, good), expected)


@pytest.mark.parametrize("way", WAYS)
def test_heads_see_good_segments_only(way: str) -> None:
    recipe = Experiment(hidden=[8], embedding=DIM, dropout=0)
    torch.manual_seed(0)
    model, good = Pooled(recipe, (6, 5), SEGMENTS, way).train(), damaged()
    audio, video = torch.randn(4, SEGMENTS, 6), torch.randn(4, SEGMENTS, 5)
    before = model(audio, video, good)
    audio[~good], video[~good] = 1e4, -1e4  # batch norm in training would show it
    after = model(audio, video, good)
    for embedding, same in zip(before, after, strict=True):
        torch.testing.assert_close(embedding, same)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 6), st.integers(0, 100))
def test_donors_are_other_videos_and_as_many_as_asked(videos: int, segments: int, count: int, seed: int) -> None:
    good = np.random.default_rng(seed).random((videos, segments)) < 0.7
    good[:, 0] = True
    sources = donors(good, count, seed)
    own = np.arange(videos)[:, None]
    replaced = sources != own
    assert (sources[~good] == np.broadcast_to(own, sources.shape)[~good]).all()
    assert good[sources, np.arange(segments)][replaced].all()
    possible = good & (good.sum(axis=0) >= 2)
    assert (replaced.sum(axis=1) <= count).all() and (replaced <= possible).all()
    if possible.sum() == good.sum():
        assert (replaced.sum(axis=1) == np.minimum(count, good.sum(axis=1))).all()
    more = donors(good, count + 1, seed)
    assert (more[replaced] == sources[replaced]).all()


def test_only_video_is_replaced() -> None:
    x = torch.arange(6).half()[:, None, None].expand(6, 4, 3).clone()
    data = PairedSegments(np.arange(6), x, x.clone(), torch.ones(6, 4, dtype=torch.bool))
    changed = data.with_replaced(2, seed=3)
    assert (changed.audio == data.audio).all()
    assert ((changed.video != data.video).any(2).sum(1) == 2).all()
    assert (data.with_replaced(0, seed=3).video == data.video).all()


# Inconsistency


def naive(features: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    videos = [x[g] for x, g in zip(features, good, strict=True)]
    apart = [[[[np.sum((a - b) ** 2) for b in y] for a in x] for y in videos] for x in videos]
    within = [
        np.mean([apart[i][i][a][b] for a in range(n) for b in range(n) if a != b]) if (n := len(x)) > 1 else np.nan
        for i, x in enumerate(videos)
    ]
    return np.array(within), np.array([[np.mean(pair) for pair in row] for row in apart])


def test_distances_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    features, good = rng.normal(3, 1, (7, 4, 5)), rng.random((7, 4)) < 0.7
    good[:, 0], good[3] = True, [True, False, False, False]
    expected = naive(features, good)
    distances = inconsistency.distances(np.where(good[..., None], features, np.nan), good)
    for values, reference in zip(distances, expected, strict=True):
        np.testing.assert_allclose(values, reference, rtol=1e-9, atol=1e-9)
    apart = expected[1][~np.eye(7, dtype=bool)].reshape(7, 6)
    known = [i for i in range(7) if i != 3]
    between = expected[1][np.ix_(known, known)][~np.eye(6, dtype=bool)].mean()
    result = inconsistency.ratio(*distances, np.arange(7), count=200, seed=0)
    assert result["ratio"] == pytest.approx(np.nanmean(expected[0]) / between) and result["videos"] == 6
    assert result["low"] < result["ratio"] < result["high"] and apart.shape == (7, 6)


@pytest.mark.parametrize(("own", "expected"), [(0.0, 0.0), (1.0, 0.5), (50.0, 1.0)])
def test_the_ratio_of_planted_variances(own: float, expected: float) -> None:
    """Variance 1 between videos and own² within them: own² / (1 + own²)."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, 1, 40)) + own * rng.normal(size=(150, 4, 40))
    good = np.ones((150, 4), bool)
    assert inconsistency.ratio(*inconsistency.distances(features, good), np.arange(150), 100, 0)[
        "ratio"
    ] == pytest.approx(expected, abs=0.03)
    within, between = inconsistency.cosines(features, good)
    assert within == pytest.approx(1 - expected, abs=0.03) and between == pytest.approx(0, abs=0.02)


def test_spearman_is_scipys_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(9, size=80).astype(float)
    y = x + rng.normal(0, 4, 80)
    x[5] = np.nan
    result = inconsistency.spearman(x, y, np.arange(80), 500, 0)
    known = ~np.isnan(x)
    assert result["spearman"] == pytest.approx(spearmanr(x[known], y[known]).statistic)
    assert result["low"] < result["spearman"] < result["high"]
    covered = 0
    for seed in range(100):
        interval = inconsistency.spearman(
            *np.random.default_rng(seed + 1).normal(size=(2, 60)), np.arange(60), 200, seed
        )
        covered += interval["low"] <= 0 <= interval["high"]
    assert 85 <= covered <= 99


def test_a_recipe_that_standardises_does_so_by_the_training_videos() -> None:
    """Features of another scale and offset are then the same features."""
    rng = np.random.default_rng(0)
    audio, video = (torch.tensor(rng.normal(size=(60, 3, 6)), dtype=torch.float16) for _ in range(2))
    good = torch.ones(60, 3, dtype=torch.bool)
    recipe = Experiment(hidden=[8], embedding=4, batch=20, max_epochs=2, dropout=0, standardise=True)

    def trained(scale: float, offset: float) -> tuple[Pooled, PairedSegments]:
        data = PairedSegments(np.arange(60), audio * scale + offset, video, good)
        return fit({"train": data, "validation": data}, recipe, "mean", 0)[0], data

    (model, data), (other, moved) = trained(1, 0), trained(4, 8)
    assert model.heads.audio.scaling is not None
    torch.testing.assert_close(model.heads.audio.scaling.mean, data.audio.double().mean((0, 1)).float())
    with torch.no_grad():
        for one, same in zip(model(data.audio, video, good), other(moved.audio, video, good), strict=True):
            torch.testing.assert_close(one, same, atol=0.02, rtol=0)
