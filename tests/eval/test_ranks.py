"""True ranks against the full matrix, their histograms and intervals, and the published formula that is not a rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.bootstrap import _medians, intervals
from eval.published import published_formula
from eval.ranks import TILE, _Screen, exact_counts, histogram, on_grid, ranks, similarities, unit_rows
from heads.metrics import summary


def oracle(audio: np.ndarray, video: np.ndarray) -> tuple[list[float], list[float]]:
    """Return ranks from the whole matrix, by sorting: the mean position of the positive and all that tie with it."""
    matrix = unit_rows(audio) @ unit_rows(video).T

    def rank(row: np.ndarray, positive: int) -> float:
        positions = np.flatnonzero(np.sort(row)[::-1] == row[positive]) + 1
        return float(positions.mean())

    n = range(len(matrix))
    return [rank(matrix[i], i) for i in n], [rank(matrix[:, i], i) for i in n]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 4), st.integers(1, 70), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ranks_equal_the_full_matrix(seed: int, n: int, d: int, block: int, coarse: bool) -> None:
    """Also with many exact ties (coarse vectors), and whatever the size of the blocks."""
    rng = np.random.default_rng(seed)
    audio, video = (rng.normal(size=(n, d)) for _ in range(2))
    if coarse:
        audio, video = (rng.integers(0, 2, size=(n, d)) + np.eye(d)[0] for _ in range(2))
    audio, video = audio.astype(np.float16), video.astype(np.float16)
    for rank, true in zip(ranks(audio, video, block), oracle(audio, video), strict=True):
        np.testing.assert_array_equal(rank, true)


def test_ranks_without_ties_are_places_in_the_sorted_row() -> None:
    rng = np.random.default_rng(2)
    audio, video = (rng.normal(size=(200, 16)) for _ in range(2))
    cosine = audio @ video.T / np.outer(np.linalg.norm(audio, axis=1), np.linalg.norm(video, axis=1))
    positions = np.argsort(np.argsort(-cosine, axis=1), axis=1)
    np.testing.assert_array_equal(ranks(audio, video)[0], np.diag(positions) + 1)


def test_blocks_and_scale_make_no_difference() -> None:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=256)
    # Nearly collapsed embeddings: differences near the last bits decide.
    audio, video = (centre + 1e-3 * rng.normal(size=(300, 256)) for _ in range(2))
    whole = ranks(audio, video, 300)
    for changed in (ranks(audio, video, 7), ranks(audio, video, 64), ranks(audio * 4, video / 8, 300)):
        np.testing.assert_array_equal(whole, changed)


@pytest.mark.parametrize("unit", [(False, True), (True, False), (False, False)])
def test_lengths_count_where_rows_are_not_scaled(unit: tuple[bool, bool]) -> None:
    """Against dot products of what was given, both directions; lengths differ by a factor of 50, as of MusicNN."""
    rng = np.random.default_rng(5)
    audio, video = (rng.normal(size=(300, 24)) + 0.3 for _ in range(2))
    audio = (audio * rng.uniform(5, 250, (300, 1))).astype(np.float16)
    video = (video / np.linalg.norm(video, axis=1, keepdims=True)).astype(np.float16)
    scaled = [x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (audio, video)]
    rows = [scaled[i] if unit[i] else x.astype(float) for i, x in enumerate((audio, video))]
    similar = rows[0] @ rows[1].T
    own = np.diag(similar)
    true = 1 + (similar > own[:, None]).sum(1), 1 + (similar > own).sum(0)
    for tile in (None, 64):
        for rank, expected in zip(ranks(audio, video, tile, unit), true, strict=True):
            np.testing.assert_array_equal(rank, expected)
    if unit == (False, True):
        cosine = ranks(audio, video)
        # A query's own length changes nothing, the candidates' do.
        np.testing.assert_array_equal(true[0], cosine[0])
        assert (true[1] != cosine[1]).mean() > 0.5


def test_ties_and_zeros_of_rows_that_keep_their_lengths() -> None:
    audio = np.array([[2.0, 0], [2.0, 0], [1.0, 0], [0.0, 0]])
    video = np.array([[1.0, 0]] * 4)
    by_audio, by_video = ranks(audio, video, unit=(False, True))
    assert by_audio.tolist() == [2.5] * 4 and by_video.tolist() == [1.5, 1.5, 3, 4]
    with pytest.raises(ValueError, match="not finite"):
        ranks(np.full((2, 2), np.nan), video[:2], unit=(False, True))


def simulated(kind: str, n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of one kind; all but the first are hard for float32."""
    audio = rng.normal(size=(n, d))
    video = audio + rng.normal(size=(n, d))
    if kind == "duplicates":
        return audio[rng.integers(n // 3, size=n)], video[rng.integers(n // 3, size=n)]
    if kind == "collapsed":
        return 1 + 1e-6 * audio, 1 + 1e-6 * video
    if kind == "near ties":
        # Every fourth candidate lies a few units of float32's last place from the positive of every other query.
        video[::4] = video[0] * (1 + 2.0**-23 * rng.integers(-3, 4, size=video[::4].shape))
    if kind == "one sign":
        return 1 / (1 + np.exp(-audio)), 1 / (1 + np.exp(-video))
    return audio, video


KINDS = ["spread", "duplicates", "collapsed", "near ties", "one sign"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_float32_with_a_bound_finds_what_float64_finds(kind: str, threads: int) -> None:
    """Several tiles in each direction, the last of them ragged."""
    a, v = (on_grid(vectors) for vectors in simulated(kind, TILE + 333, 64, np.random.default_rng(3)))
    own = similarities(a, v)
    for tile in (TILE, 200):
        counted = _Screen(a, v, own, tile).run(threads)
        for rank, true in zip(counted, exact_counts(a, v, own, 500, "cpu"), strict=True):
            np.testing.assert_array_equal(rank, true)


@given(st.integers(0, 2**32 - 1), st.integers(3, 80), st.integers(1, 40), st.integers(1, 90), st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_hard_embeddings_have_the_ranks_of_the_full_matrix(seed: int, n: int, d: int, tile: int, kind: str) -> None:
    audio, video = simulated(kind, n, d, np.random.default_rng(seed))
    for rank, true in zip(ranks(audio, video, tile), oracle(audio, video), strict=True):
        np.testing.assert_array_equal(rank, true)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 16, 256, 1506])
def test_float32_products_keep_to_their_bound(kind: str, d: int) -> None:
    a, v = (on_grid(vectors) for vectors in simulated(kind, 300, d, np.random.default_rng(4)))
    own = similarities(a, v)
    screen = _Screen(a, v, own, 300)
    exact = a.astype(np.float64) @ v.astype(np.float64).T
    error = np.abs((a @ v.T).astype(np.float64) - exact).max()
    assert error <= (screen.high - own).min() and error <= (own - screen.low).min()
    assert (screen.high - screen.low).max() < 3 * d * 2.0**-24 + 2.0**-22, "and the bound is not much too wide"


def test_tiles_are_screened_and_collapsed_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way a tile goes: neither is dead code."""
    exact = []
    whole = _Screen._exact
    monkeypatch.setattr(_Screen, "_exact", lambda self, *where: exact.append(where) or whole(self, *where))
    for kind, tiles in (("spread", 0), ("near ties", 4), ("collapsed", 4)):
        exact.clear()
        ranks(*simulated(kind, 400, 64, np.random.default_rng(5)), 200)
        assert len(exact) == tiles, kind


def test_as_many_threads_as_torch_has_and_tiles_no_larger_than_the_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    run = _Screen.run
    monkeypatch.setattr(_Screen, "run", lambda self, threads: used.append(threads) or run(self, threads))
    good = np.eye(4)
    ranks(good, good)
    assert used == [torch.get_num_threads()]
    with pytest.raises(ValueError, match="at most 1024"):
        ranks(good, good, 2 * TILE)


def test_float16_moves_the_median_rank_by_less_than_its_interval_is_wide() -> None:
    """Embeddings are stored in float16."""
    rng = np.random.default_rng(6)
    audio = rng.normal(size=(2000, 64))
    video = audio + 6 * rng.normal(size=(2000, 64))
    audio, video = (unit_rows(vectors) for vectors in (audio, video))
    single, half = ranks(audio, video), ranks(audio.astype(np.float16), video.astype(np.float16))
    for full, stored in zip(single, half, strict=True):
        low, high = intervals(full, np.arange(len(full)), 500, 0)["median"]
        assert 10 < np.median(full) < 900, "neither perfect nor chance"
        assert abs(np.median(full) - np.median(stored)) < (high - low) / 10


def test_identical_embeddings_have_the_middle_rank() -> None:
    same = np.tile(np.random.default_rng(0).normal(size=(1, 256)), (99, 1)).astype(np.float16)
    for rank in ranks(same, same):
        assert (rank == 50).all()
    assert ranks(same[:1], same[:1])[0] == [1.0]


def test_a_perfect_model_has_rank_one_while_the_published_formula_says_half_the_gallery() -> None:
    n, rng = 1000, np.random.default_rng(0)
    perfect = rng.normal(size=(n, 256))
    perfect /= np.linalg.norm(perfect, axis=1, keepdims=True)
    noise = rng.normal(size=(n, 256))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert np.median(ranks(perfect, perfect)[0]) == 1
    for candidates in (perfect, noise):
        # The median of n uniform draws has a standard deviation of about sqrt(n) / 2 = 16.
        assert abs(np.median(published_formula(perfect, candidates)) - n / 2) < 80


def test_the_published_formula_is_the_diagonal_of_argsort() -> None:
    rng = np.random.default_rng(1)
    queries, candidates = (rng.normal(size=(23, 5)).astype(np.float32) for _ in range(2))
    whole = np.diag(np.argsort(queries @ candidates.T, axis=1))
    np.testing.assert_array_equal(published_formula(queries, candidates, block=4), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(bad: float) -> None:
    good = np.ones((4, 3))
    broken = good.copy()
    broken[2, 1] = bad
    for pair in ((good, broken), (broken, good)):
        with pytest.raises(ValueError, match="not finite"):
            ranks(*pair)
    with pytest.raises(ValueError, match="shapes"):
        ranks(good, good[:3])


def test_histogram_keeps_every_rank() -> None:
    assert histogram(np.arange(1.0, 101), 100) == [5] * 20
    assert histogram(np.full(7, 1.0), 100) == [7] + [0] * 19
    assert histogram(np.full(3, 100.0), 100) == [0] * 19 + [3]


@given(st.lists(st.floats(1, 50), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_weighted_medians_equal_those_of_the_written_out_sample(values: list[float], seed: int) -> None:
    ordered = np.sort(values)
    times = np.random.default_rng(seed).integers(0, 4, size=(5, len(ordered)))
    times[:, 0] += 1
    written_out = [np.median(np.repeat(ordered, row)) for row in times]
    np.testing.assert_allclose(_medians(ordered, times), written_out)


def test_intervals_come_from_whole_videos() -> None:
    """Repeating every rank within its video adds no evidence; the same ranks as separate videos would."""
    rng = np.random.default_rng(0)
    rank = rng.integers(1, 100, size=80).astype(float)
    single = intervals(rank, np.arange(80), 2000, 0)
    repeated, owner = np.repeat(rank, 9), np.repeat(np.arange(80), 9)
    clustered, naive = intervals(repeated, owner, 2000, 0), intervals(repeated, np.arange(720), 2000, 0)

    def width(interval: dict[str, tuple[float, float]], name: str) -> float:
        return interval[name][1] - interval[name][0]

    for name in ("mean", "recall_at_10", "mrr", "ndcg_at_10", "map"):
        assert width(clustered, name) == pytest.approx(width(single, name), rel=0.15)
        assert width(naive, name) == pytest.approx(width(single, name) / 3, rel=0.15)
    for name, value in summary(rank).items():
        assert single[name][0] <= value <= single[name][1]


def test_intervals_of_the_mean_are_those_of_theory() -> None:
    """95 % interval of a mean of n: ±1.96 standard errors."""
    rank = np.random.default_rng(1).uniform(1, 100, size=400)
    low, high = intervals(rank, np.arange(400), 4000, 0)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * rank.std() / 20, rel=0.1)
    assert intervals(rank, np.arange(400), 200, 0) == intervals(rank, np.arange(400), 200, 0)
    assert intervals(rank, np.arange(400), 200, 0) != intervals(rank, np.arange(400), 200, 1)
