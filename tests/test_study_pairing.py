"""Simulated features and re-paired videos: their correlations are what they are said to be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from config.study import Simulated
from data.render.latents import Factors
from heads.study.pairing import KINDS, achieved, known, pair
from heads.study.simulated import draw, simulate

VIDEOS = 300
KNOWN = known(3, range(VIDEOS))
GRADED = [kind for kind, factors in KINDS.items() if factors]


def linked(kind: str, correlation: float, seed: int = 0) -> float:
    """Mean correlation of the factors that the kind counts."""
    reached = achieved(KNOWN, pair(KNOWN, kind, correlation, seed))
    return float(np.mean([reached[name] for name in KINDS[kind]]))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8, 1.0])
def test_simulated_latents_correlate_as_they_are_told(correlation: float) -> None:
    sound, picture = draw(Simulated(factors=5), (20, 10), 4000, correlation, 1).latents
    both = np.corrcoef(sound.T, picture.T)
    # Standard error of a correlation of 0 from 4,000 videos: 0.016.
    np.testing.assert_allclose(np.diag(both[:5, 5:]), correlation, atol=0.06)
    apart = both[:5, 5:][~np.eye(5, dtype=bool)]
    assert np.abs(apart).max() < 0.06, "a factor is linked to its own counterpart only"
    np.testing.assert_allclose([sound.std(), picture.std()], 1, atol=0.03)


def test_simulated_features_show_their_own_side_only() -> None:
    """Linearly, sound's features explain sound's factors, and the pictures' as far as ρ goes."""
    for correlation in (0.0, 0.5):
        latents, features = draw(Simulated(factors=3, noise=0.5), (200, 40), 3000, correlation, 2)
        x = features[0][:, 0].astype(np.float64)
        fitted = [x @ np.linalg.lstsq(x[:2000], side[:2000], rcond=None)[0] for side in latents]
        own, other = (
            np.mean([np.corrcoef(f[2000:], z[2000:])[0, 1] for f, z in zip(fit.T, side.T, strict=True)])
            for fit, side in zip(fitted, latents, strict=True)
        )
        assert own > 0.9
        assert abs(other - correlation * own) < 0.08


def test_simulated_splits_share_no_video() -> None:
    features = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 0)
    rows = [split.rows for split in features.splits.values()]
    assert [len(each) for each in rows] == [80, 10, 50] and len(set(np.concatenate(rows).tolist())) == 140
    again = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 0)
    np.testing.assert_array_equal(features.arrays[1].read(rows[2]), again.arrays[1].read(rows[2]))
    other = simulate(Simulated(gallery=50), (12, 8), 80, 0.5, 1)
    assert not np.array_equal(features.arrays[1].read(rows[2]), other.arrays[1].read(rows[2]))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_every_picture_is_given_to_one_sound(kind: str, correlation: float) -> None:
    pictures = pair(KNOWN, kind, correlation, 5)
    assert sorted(pictures.tolist()) == list(range(VIDEOS))
    np.testing.assert_array_equal(pictures, pair(KNOWN, kind, correlation, 5))
    if correlation < 1:
        assert not np.array_equal(pictures, pair(KNOWN, kind, correlation, 6))


def test_at_one_every_sound_has_its_own_pictures() -> None:
    np.testing.assert_array_equal(pair(KNOWN, "all", 1, 0), np.arange(VIDEOS))
    assert list(achieved(KNOWN, np.arange(VIDEOS)).values()) == pytest.approx([1.0] * 9)


@pytest.mark.parametrize("kind", GRADED)
def test_the_pairing_reaches_the_correlation_it_is_told(kind: str) -> None:
    reached = [linked(kind, correlation) for correlation in (0, 0.25, 0.5, 0.75, 1)]
    assert all(a < b for a, b in pairwise(reached))
    np.testing.assert_allclose(reached[1:4], [0.25, 0.5, 0.75], atol=0.02)
    if kind != "all":
        assert 0.9 < reached[4] < 1
    # At 0, chance alone: standard error 0.06 by factor in one pairing, over three factors and 20 pairings 0.0075.
    assert abs(np.mean([linked(kind, 0, seed) for seed in range(20)])) < 0.04


@pytest.mark.parametrize("kind", ["dance", "mood", "genre"])
def test_a_kind_of_link_is_one_of_other_videos_and_leaves_other_factors_alone(kind: str) -> None:
    pictures = pair(KNOWN, kind, 1, 0)
    assert (pictures != np.arange(VIDEOS)).all()
    reached = achieved(KNOWN, pictures)
    others = [reached[name] for name in Factors._fields if name not in KINDS[kind]]
    assert np.mean(others) < 0.3, "what genres tie together"
    if kind == "genre":
        assert reached["same genre"] == 1.0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_pairs_is_of_one_genre(share: float) -> None:
    reached = [achieved(KNOWN, pair(KNOWN, "genre", share, seed))["same genre"] for seed in range(10)]
    by_chance = (np.bincount(KNOWN.genres) / VIDEOS) @ (np.bincount(KNOWN.genres) / VIDEOS)
    assert abs(np.mean(reached) - (share + (1 - share) * by_chance)) < 0.04


def test_who_is_alone_in_a_genre_is_left_to_chance() -> None:
    few = known(3, range(3))
    assert len(set(few.genres.tolist())) > 1, "or the test would test nothing"
    assert sorted(pair(few, "genre", 1, 0).tolist()) == [0, 1, 2]


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="1 videos"):
        pair(known(0, [1]), "all", 0.5, 0)
    with pytest.raises(ValueError, match="'rhythm'"):
        pair(KNOWN, "rhythm", 0.5, 0)
