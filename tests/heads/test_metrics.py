"""The table of retrieval metrics: against every possible ranking, against scikit-learn, and written-out resamples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    top_k_accuracy_score,
)

from eval.bootstrap import intervals, resampled_metrics
from heads.metrics import METRICS, Metric, as_ranks, chance, summary

FEW = [(gallery, positives) for gallery in range(1, 14) for positives in range(1, min(gallery, 5) + 1)]


@pytest.mark.parametrize(("gallery", "positives"), FEW)
def test_chance_is_the_summary_of_every_possible_ranking(gallery: int, positives: int) -> None:
    """All C(gallery, positives) sets of ranks, each once."""
    every = np.array(list(combinations(range(1, gallery + 1), positives)), dtype=float)
    assert summary(every) == pytest.approx(chance(gallery, positives), rel=1e-12)


@pytest.mark.parametrize("gallery", [87, 1000, 2000])
def test_chance_in_large_galleries(gallery: int) -> None:
    """With one positive, every rank once, which the shares of hits and the ranks reach without an error."""
    by_chance, every = chance(gallery), summary(np.arange(1.0, gallery + 1))
    assert every == pytest.approx(by_chance, rel=1e-12)
    for name in ("median", "mean", "recall_at_1", "recall_at_50", "mrr"):
        assert by_chance[name] == every[name], name
    several = chance(gallery, 40)
    assert all(np.isfinite(value) for value in several.values())
    assert several["median"] < by_chance["median"] and several["recall_at_1"] == 40 / gallery


@pytest.mark.parametrize(("gallery", "positives"), [(5, 0), (5, 6), (0, 1)])
def test_chance_of_an_impossible_gallery_is_refused(gallery: int, positives: int) -> None:
    with pytest.raises(ValueError, match="positives in a gallery"):
        chance(gallery, positives)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 130))
@settings(max_examples=80, deadline=None)
def test_metrics_are_those_of_scikit_learn(seed: int, queries: int, gallery: int) -> None:
    """Queries with one to seven positives each, scores without ties."""
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(gallery, dtype=float), (queries, 1)), axis=1)
    count = rng.integers(1, min(7, gallery - 1) + 1, size=queries)
    relevant = rng.permuted(np.arange(gallery) < count[:, None], axis=1)
    places = gallery - scores
    ranks = np.sort(np.where(relevant, places, np.inf), axis=1)[:, : count.max()]
    metrics = summary(ranks)
    precisions = [average_precision_score(true, score) for true, score in zip(relevant, scores, strict=True)]
    assert metrics["map"] == pytest.approx(np.mean(precisions))
    assert metrics["map"] == pytest.approx(label_ranking_average_precision_score(relevant, scores))
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg_score(relevant, scores, k=10))
    best, first = np.argmax(np.where(relevant, scores, -1), axis=1), ranks[:, 0]
    assert metrics["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(gallery)[best], scores))
    for k in (1, 5, 10, 50, 100):
        expected = 1.0 if k >= gallery else _share_of_hits(best, scores, k)
        assert metrics[f"recall_at_{k}"] == pytest.approx(expected)
    assert (metrics["median"], metrics["mean"]) == (np.median(first), pytest.approx(np.mean(first)))


def _share_of_hits(true: np.ndarray, scores: np.ndarray, k: int) -> float:
    if scores.shape[1] == 2:  # which scikit-learn takes for a binary problem, with one score a query
        return float((np.argmax(scores, axis=1) == true).mean())
    return float(top_k_accuracy_score(true, scores, k=k, labels=np.arange(scores.shape[1])))


def test_by_hand() -> None:
    """Textbook values: positives at ranks 1, 3 and 6; 2; and 12."""
    ranks = np.array([[1, 3, 6], [2, np.inf, np.inf], [12, np.inf, np.inf]])
    metrics = summary(ranks)
    assert metrics["map"] == pytest.approx(np.mean([(1 + 2 / 3 + 3 / 6) / 3, 1 / 2, 1 / 12]))
    best = 1 + 1 / np.log2(3) + 1 / 2
    assert metrics["ndcg_at_10"] == pytest.approx(np.mean([(1 + 1 / 2 + 1 / np.log2(7)) / best, 1 / np.log2(3), 0]))
    assert metrics["mrr"] == pytest.approx(np.mean([1, 1 / 2, 1 / 12]))
    assert (metrics["recall_at_1"], metrics["recall_at_10"], metrics["recall_at_50"]) == (1 / 3, 2 / 3, 1)
    assert (metrics["median"], metrics["mean"]) == (2, 5)


@given(st.lists(st.integers(2, 400), min_size=1, max_size=30))
def test_with_one_positive_map_is_mrr_and_shapes_make_no_difference(doubled: list[int]) -> None:
    """Also at the middle ranks that ties have."""
    ranks = np.array(doubled) / 2
    metrics = summary(ranks)
    assert metrics["map"] == metrics["mrr"] and metrics == summary(ranks[:, None])


@pytest.mark.parametrize("ranks", [np.ones((2, 2, 2)), np.ones((2, 0)), np.array([[3.0, 2.0]])])
def test_ranks_of_another_shape_or_order_are_refused(ranks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="ascending"):
        as_ranks(ranks)


UPSIDE_DOWN = Metric("upside_down", "Upside down", lambda r: 1 / r[:, 0] ** 2, lambda n, p: 0.0, aggregate="median")


@pytest.mark.parametrize("positives", [1, 3])
def test_resamples_are_those_of_the_written_out_samples(positives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric, and a made-up median of values that fall while the rank rises."""
    monkeypatch.setitem(METRICS, UPSIDE_DOWN.name, UPSIDE_DOWN)
    rng, queries, resamples = np.random.default_rng(0), 60, 40
    ranks = np.stack([np.sort(rng.choice(99, positives, replace=False) + 1.0) for _ in range(queries)])
    owner = rng.integers(0, 12, size=queries)
    videos = np.unique(owner)
    drawn = np.random.default_rng(np.random.SeedSequence([7, queries])).integers(
        len(videos), size=(resamples, len(videos))
    )
    expected = []
    for chosen in drawn:
        sample = np.concatenate([ranks[owner == videos[video]] for video in chosen])
        expected.append(list(summary(sample).values()))
    np.testing.assert_allclose(resampled_metrics(ranks, owner, resamples, 7), expected)


def test_a_metric_that_is_added_changes_no_digit_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many resamples and videos, so that BLAS would choose other kernels for wider matrices."""
    rng = np.random.default_rng(1)
    rank, owner = rng.integers(1, 2000, size=4000) / 2 + 0.5, rng.integers(0, 1001, size=4000)
    before, interval = resampled_metrics(rank, owner, 101, 0), intervals(rank, owner, 101, 0)
    for number in range(3):
        added = Metric(f"added_{number}", "Added", lambda r: r[:, 0] ** 0.5, lambda n, p: 0.0)
        monkeypatch.setitem(METRICS, added.name, added)
    after = resampled_metrics(rank, owner, 101, 0)
    assert after.shape[1] == before.shape[1] + 3
    np.testing.assert_array_equal(after[:, : before.shape[1]], before)
    assert interval.items() <= intervals(rank, owner, 101, 0).items()
