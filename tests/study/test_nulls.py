"""Where nothing goes together, tests find something no more often than they say, though an artist's videos are alike.

Counts lie below the 99.9 % quantile of the binomial distribution; seeds are fixed. The fuller table is bench/nulls.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from bench.null_artists import SIZES, Artists
from bench.null_claims import CLAIMS, DIM, SKEWED
from bench.nulls import FEWEST, descriptors, many_given, spaces, within_genres
from config.model import load
from config.study.common import FEWEST_PERMUTATIONS
from data.groups import group_numbers
from eval.bootstrap import FEW as FEW_GROUPS
from eval.bootstrap import few_groups, intervals, percentile_interval, quantiles
from eval.ranks import ranks, unit_rows
from study.correlation.permutation_test import against_chance
from study.groups import folds, one_each, repaired, times_drawn
from study.relations.associations import associations, smallest_p
from study.relations.descriptors import Described
from study.relations.sign_test import Sample, p_value
from study.relations.tables import shuffled
from study.relations.text import floors

EQUAL, UNEQUAL, FEW = (name for name in SIZES if name != FEWEST)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):  # matrices this small are not worth a second
        yield


def most(tests: int) -> int:
    """False findings that so many independent tests at 5 % may have."""
    return int(binom.ppf(0.999, tests, 0.05))


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL, FEW])
@pytest.mark.parametrize("alike", [0.5, 0.3])
def test_descriptors_of_alike_videos_are_found_at_the_nominal_rate(sizes: str, alike: float) -> None:
    runs = 40
    p, discovered = zip(*(descriptors(Artists(sizes, alike, seed)) for seed in range(runs)), strict=True)
    assert sum((values <= 0.05).sum() for values in p) <= most(runs * len(p[0]))
    assert sum(discovered) <= most(runs)


def test_videos_taken_for_independent_are_found_too_often() -> None:
    """The tests above would fail if the artists were ignored: the simulation is able to show it."""
    p = [descriptors(Artists(UNEQUAL, 0.5, seed), whole=False)[0] for seed in range(40)]
    assert np.mean(np.array(p) <= 0.05) > 0.15


@pytest.mark.parametrize("test", [within_genres, many_given])
def test_what_is_held_constant_is_not_found(test: Callable[[Artists], tuple[np.ndarray, bool]]) -> None:
    runs = 40
    p, discovered = zip(*(test(Artists(UNEQUAL, 0.5, seed)) for seed in range(runs)), strict=True)
    assert sum((values <= 0.05).sum() for values in p) <= most(runs * len(p[0]))
    assert sum(discovered) <= most(runs)


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_covariances_with_signs_are_as_large_as_expected(alike: float) -> None:
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(5), [1, 2, 3, 4, 8])
    signs = np.array([1, -1, 1, 1, -1], np.float32)
    squares = np.zeros(2)
    for _ in range(4000):
        spaces = {}
        for name in "xy":
            shared, own = rng.standard_normal((5, 3))[groups], rng.standard_normal((len(groups), 3))
            spaces[name] = (np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)[:, None, :]
        sample = Sample.of(spaces, groups)
        squares += [float((sample.cross_covariance("x", "y", s) ** 2).sum()) for s in (None, signs)]
    expected = sample.expected((alike, alike)) / sample.expected((alike, alike), signs)
    assert squares[0] / squares[1] == pytest.approx(expected, rel=0.05)
    assert expected > 1.05  # what centring takes from them is not the same


def test_how_alike_an_artists_segments_are() -> None:
    artists = Artists(UNEQUAL, 0.5, 3)
    sample = Sample.of({"x": artists.draw(200)[:, None, :]}, artists.groups)
    assert sample.alike("x") == pytest.approx(0.5, abs=0.06)
    sample = Sample.of({"x": artists.draw(200)[:, None, :]}, artists.rng.permutation(artists.groups))
    assert sample.alike("x") == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL, FEW])
def test_spaces_of_alike_videos_are_alike_at_the_nominal_rate(sizes: str) -> None:
    runs = 200  # enough to see 12 % where 5 % are allowed
    counts: dict[str, int] = {}
    for seed in range(runs):
        for name, p in spaces(Artists(sizes, 0.5, seed)):
            counts[name] = counts.get(name, 0) + (p <= 0.05)
    assert len(counts) == 3 and max(counts.values()) <= most(runs), counts
    by_video = dict(spaces(Artists(sizes, 0.5, 0), whole=False))
    assert by_video["CKA"] <= 0.05  # of single videos it is always above chance


def test_what_goes_together_is_found_whatever_the_artists() -> None:
    artists = Artists(UNEQUAL, 0.3, 0)
    x, y = artists.draw()[:, 0], artists.draw()[:, 0]
    tests = associations({"x": x}, {"y": y, "z": x + y}, None, artists.groups)
    assert tests.q[0, 1] <= 0.001 and tests.strength[0, 1] > 0.5 and tests.p[0, 0] > 0.01
    independent = associations({"x": x}, {"z": x + y}, None, np.arange(len(x)))
    assert independent.p == associations({"x": x}, {"z": x + y}).p  # without artists it is the t test


def test_few_artists_cannot_show_much_and_that_is_reported() -> None:
    groups = np.repeat(np.arange(6), 30)
    x = np.random.default_rng(0).standard_normal(180)
    tests = associations({"x": x}, {"y": x}, None, groups)
    assert smallest_p(groups) == 1 / 32 and tests.p[0, 0] == pytest.approx(1 / 32, rel=0.2)
    config = load({"results": "results", "videos": "videos.csv"})
    (limit,) = floors(groups, 70, config)
    assert limit.startswith("With 6 artists no p is below 0.031:") and "together with 43 others of the 70" in limit
    assert "so no relation can be significant" in floors(np.repeat(np.arange(4), 30), 70, config)[0]
    assert floors(np.repeat(np.arange(100), 3), 70, config) == []


def test_shuffled_artists_have_nothing_to_find() -> None:
    artists = Artists(UNEQUAL, 0.5, 1)
    audio = {f"x{k}": artists.draw()[:, 0] for k in range(4)}
    video = {f"y{k}": audio[f"x{k}"] + artists.draw()[:, 0] for k in range(4)}
    videos = len(artists.groups)
    described = Described(np.arange(videos), audio, video, np.zeros((2, videos)))
    genres = [f"g{g % 3}" for g in artists.groups]
    rows = shuffled(described, genres, artists.groups, 0.05, seeds=20, first=0)
    assert len(rows) == 4 and all(row["kept"] for row in rows if row["nothing_to_find"])


def test_a_p_counts_the_data_among_the_draws() -> None:
    assert p_value(2.0, np.arange(2.0)) == 1 / 3 and p_value(0.0, np.arange(2.0)) == 1
    assert p_value(5.0, np.zeros(FEWEST_PERMUTATIONS)) == 0.05


def test_artists_stay_together() -> None:
    names = [f"a{i % 12}" for i in range(120)] + ["Beyoncé", "Beyonce\u0301", " beyoncé ", None, None, ""]
    ids = [f"v{i}" for i in range(len(names))]
    groups = group_numbers(pa.table({"video_id": ids, "artist": names, "group": [None] * len(names)}))
    assert groups.max() + 1 == 12 + 1 + 3 and len(set(groups[120:123])) == 1 and len(set(groups[123:])) == 3
    fold = folds(groups, 4, seed=0)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    assert np.ptp(np.bincount(fold, minlength=4)) <= 10 and not np.array_equal(fold, folds(groups, 4, seed=1))
    assert np.bincount(folds(np.arange(99), 4, 0)).tolist() == [25, 25, 25, 24]
    times = times_drawn(groups, 50, 0)
    assert all((times[:, groups == group].T == times[:, groups == group][:, 0]).all() for group in set(groups))
    assert sorted(groups[one_each(groups, np.random.default_rng(0))]) == list(range(16))


def test_repaired_artists_are_paired_with_one_other_artist() -> None:
    artists = Artists(UNEQUAL, 0.5, 2)
    groups = artists.groups
    order = repaired(groups, np.random.default_rng(0))
    kept = order >= 0
    assert kept.mean() > 0.6 and len(set(order[kept])) == kept.sum()
    pairs = {(a, b) for a, b in zip(groups[kept], groups[order[kept]], strict=True)}
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) and all(a != b for a, b in pairs)
    assert (repaired(np.zeros(5, np.int64), np.random.default_rng(0)) == -1).all()


@pytest.mark.parametrize("what", CLAIMS)
def test_claims_are_made_no_more_often_than_they_say(what: str) -> None:
    """All that the evaluation and the study claim, where nothing is and an artist's videos are alike.

    Of MRR at chance, whose distribution is skewed, an interval is too short: nothing is claimed by it alone.
    """
    claim, level = CLAIMS[what]
    slow = ("length", "correlation", "relations: descriptor")  # a tenth of a second each
    runs = 8 if what.startswith(slow) else 30
    claimed = sum(claim(Artists(sizes, 0.5, seed)) for seed in range(runs) for sizes in (EQUAL, FEW))
    assert claimed <= (binom.ppf(0.999, 2 * runs, 0.15 if what in SKEWED else level))


def test_claims_would_be_made_too_often_of_single_videos() -> None:
    """The tests above can fail: with videos instead of artists as the unit, the same simulation finds too much."""
    count = 0
    for seed in range(40):
        artists = Artists(FEW, 0.5, seed)
        rank = ranks(*(unit_rows(artists.draw(DIM)) for _ in range(2)))[0]
        low, high = intervals(rank, np.arange(len(rank)), 200, 0)["mean"]
        count += not low <= (len(rank) + 1) / 2 <= high
    assert count > most(40)


def p_of_given_pairs(artists: Artists, whole: bool) -> float:
    """Return p of a permutation test of given pairs, permuting single videos or, with `whole`, artists."""
    audio, video = (unit_rows(artists.draw(DIM)) for _ in range(2))
    if not whole:
        return against_chance([(audio, video)], 0).p
    similar = audio @ video.T
    true = similar.diagonal().mean()
    drawn = []
    for _ in range(99):
        order = repaired(artists.groups, artists.rng)
        kept = np.flatnonzero(order >= 0)
        drawn.append(similar[kept, order[kept]].mean())
    return (1 + sum(value >= true for value in drawn)) / 100


def test_given_pairs_need_permutations_of_whole_artists() -> None:
    """Why study/correlation may permute single videos (its pairings are drawn so), and what is needed elsewhere."""
    tested = [[p_of_given_pairs(Artists(EQUAL, 0.5, seed), kind) for seed in range(40)] for kind in (False, True)]
    single, whole = tested
    assert np.mean(np.array(single) <= 0.05) > 0.12 and sum(p <= 0.05 for p in whole) <= most(40)


def test_intervals_of_few_groups_are_wider_and_say_so() -> None:
    assert quantiles(10**6) == pytest.approx((0.025, 0.975), abs=1e-4)
    assert [round(quantiles(groups)[0], 3) for groups in (60, 12, 6)] == [0.022, 0.011, 0.002] and quantiles(1) == (
        0,
        1,
    )
    assert few_groups(FEW_GROUPS, "the split") == [] and "has 9 groups" in few_groups(9, "the split")[0]
    rng = np.random.default_rng(0)
    covered = {}
    for groups in (6, 12, 60):
        samples = rng.standard_normal((300, groups))
        means = [sample[rng.integers(groups, size=(400, groups))].mean(axis=1) for sample in samples]
        plain = [np.quantile(values, [0.025, 0.975]) for values in means]
        wider = [percentile_interval(values, groups) for values in means]
        covered[groups] = [float(np.mean([low <= 0 <= high for low, high in ends])) for ends in (plain, wider)]
    assert covered[6][0] < 0.9 < covered[6][1] and covered[12][1] > 0.92 and covered[60][1] > 0.92
