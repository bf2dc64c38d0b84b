"""Simulated features and re-paired videos: they have the correlations that were asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from config.study.correlation import Simulated
from data.render.latents import Factors
from study.correlation.pairing import KINDS, achieved, known, pair
from study.correlation.simulated import draw, simulate

VIDEOS = 300
KNOWN = known(3, range(VIDEOS))
GRADED = [kind for kind, factors in KINDS.items() if factors]


def linked(kind: str, correlation: float, seed: int = 0) -> float:
    """Mean correlation of the factors that the kind counts."""
    reached = achieved(KNOWN, pair(KNOWN, kind, correlation, seed))
    return float(np.mean([reached[name] for name in KINDS[kind]]))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8, 1.0])
def test_simulated_latents_have_the_correlation_that_was_asked_for(correlation: float) -> None:
    audio, video = draw(Simulated(factors=5), (20, 10), 4000, correlation, 1).latents
    both = np.corrcoef(audio.T, video.T)
    # Standard error of a correlation of 0 from 4,000 videos: 0.016.
    np.testing.assert_allclose(np.diag(both[:5, 5:]), correlation, atol=0.06)
    apart = both[:5, 5:][~np.eye(5, dtype=bool)]
    assert np.abs(apart).max() < 0.06, "a factor is linked to its own counterpart only"
    np.testing.assert_allclose([audio.std(), video.std()], 1, atol=0.03)


def test_simulated_features_show_their_own_modality_only() -> None:
    """Linearly, audio features explain the audio factors, and the video factors as far as ρ goes."""
    for correlation in (0.0, 0.5):
        latents, features = draw(Simulated(factors=3, noise=0.5), (200, 40), 3000, correlation, 2)
        x = features[0][:, 0].astype(np.float64)
        fitted = [x @ np.linalg.lstsq(x[:2000], factors[:2000], rcond=None)[0] for factors in latents]
        within, across = (
            np.mean([np.corrcoef(f[2000:], z[2000:])[0, 1] for f, z in zip(fit.T, factors.T, strict=True)])
            for fit, factors in zip(fitted, latents, strict=True)
        )
        assert within > 0.9
        assert abs(across - correlation * within) < 0.08


def test_simulated_splits_share_no_video() -> None:
    features = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 0)
    rows = [split.rows for split in features.splits.values()]
    assert [len(split) for split in rows] == [80, 10, 50] and len(set(np.concatenate(rows).tolist())) == 140
    same = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 0)
    np.testing.assert_array_equal(features.arrays[1].read(rows[2]), same.arrays[1].read(rows[2]))
    other_seed = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 1)
    assert not np.array_equal(features.arrays[1].read(rows[2]), other_seed.arrays[1].read(rows[2]))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_the_frames_of_every_video_are_paired_once(kind: str, correlation: float) -> None:
    videos = pair(KNOWN, kind, correlation, 5)
    assert sorted(videos.tolist()) == list(range(VIDEOS))
    np.testing.assert_array_equal(videos, pair(KNOWN, kind, correlation, 5))
    if correlation < 1:
        assert not np.array_equal(videos, pair(KNOWN, kind, correlation, 6))


def test_at_correlation_1_every_video_keeps_its_own_frames() -> None:
    np.testing.assert_array_equal(pair(KNOWN, "all", 1, 0), np.arange(VIDEOS))
    assert list(achieved(KNOWN, np.arange(VIDEOS)).values()) == pytest.approx([1.0] * 10)


@pytest.mark.parametrize("correlation", [0.1, 0.5, 0.75])
def test_between_0_and_1_no_audio_keeps_its_own_frames(correlation: float) -> None:
    reached = achieved(KNOWN, pair(KNOWN, "all", correlation, 0))
    assert reached["own frames"] == 0 and linked("all", correlation) == pytest.approx(correlation, abs=0.02)
    mixture = achieved(KNOWN, pair(KNOWN, "all", correlation, 0, own_frames=True))
    assert correlation < 0.5 or mixture["own frames"] > 0.05, "what earlier versions took for a weaker link"


def test_where_others_frames_do_not_suffice_as_few_as_possible_keep_their_own() -> None:
    few = known(3, range(60))
    order, mixture = (pair(few, "all", 0.9, 0, own) for own in (False, True))
    assert sorted(order.tolist()) == list(range(60))
    own, reached = achieved(few, order)["own frames"], np.mean(list(achieved(few, order).values())[:8])
    assert reached == pytest.approx(0.9, abs=0.02) and 0.3 < own <= achieved(few, mixture)["own frames"]


def test_at_correlation_0_the_pairing_is_any_permutation() -> None:
    """So the test that permutes single videos is exact there, whatever an artist's videos have in common."""
    few = known(3, range(4))
    orders = {tuple(pair(few, "all", 0, seed).tolist()) for seed in range(400)}
    assert len(orders) == 24


@pytest.mark.parametrize("kind", GRADED)
def test_the_pairing_reaches_the_correlation_that_was_asked_for(kind: str) -> None:
    reached = [linked(kind, correlation) for correlation in (0, 0.25, 0.5, 0.75, 1)]
    assert all(a < b for a, b in pairwise(reached))
    np.testing.assert_allclose(reached[1:4], [0.25, 0.5, 0.75], atol=0.02)
    if kind != "all":
        assert 0.9 < reached[4] < 1
    # At 0, chance alone: standard error 0.06 by factor in one pairing, over three factors and 20 pairings 0.0075.
    assert abs(np.mean([linked(kind, 0, seed) for seed in range(20)])) < 0.04


@pytest.mark.parametrize("kind", ["dance", "mood", "genre"])
def test_a_kind_of_link_is_one_of_other_videos_and_leaves_other_factors_alone(kind: str) -> None:
    videos = pair(KNOWN, kind, 1, 0)
    assert (videos != np.arange(VIDEOS)).all()
    reached = achieved(KNOWN, videos)
    others = [reached[name] for name in Factors._fields if name not in KINDS[kind]]
    assert np.mean(others) < 0.3, "what genres tie together"
    if kind == "genre":
        assert reached["same genre"] == 1.0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_pairs_is_of_one_genre(share: float) -> None:
    reached = [achieved(KNOWN, pair(KNOWN, "genre", share, seed))["same genre"] for seed in range(10)]
    by_chance = (np.bincount(KNOWN.genres) / VIDEOS) @ (np.bincount(KNOWN.genres) / VIDEOS)
    assert abs(np.mean(reached) - (share + (1 - share) * by_chance)) < 0.04


def test_a_video_alone_in_its_genre_is_paired_at_random() -> None:
    few = known(3, range(3))
    assert len(set(few.genres.tolist())) > 1, "or the test would test nothing"
    assert sorted(pair(few, "genre", 1, 0).tolist()) == [0, 1, 2]


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="1 videos"):
        pair(known(0, [1]), "all", 0.5, 0)
    with pytest.raises(ValueError, match="'rhythm'"):
        pair(KNOWN, "rhythm", 0.5, 0)
