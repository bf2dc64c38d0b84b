"""Associations against scipy and slow references, and how often they are found where there are none."""

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control, rankdata, spearmanr

from study.relations.associations import associations, dummies
from study.relations.descriptors import Described
from study.relations.tables import pairs, shuffled

N = 200


def circle(angle: np.ndarray) -> np.ndarray:
    return np.column_stack([np.cos(angle), np.sin(angle)])


def tables(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, N))
    x[3] = np.round(x[3])  # ties
    y = rng.standard_normal((3, N))
    y[0] = np.exp(x[0] + y[0])
    y[1] -= 0.3 * x[3]
    return {f"x{i}": v for i, v in enumerate(x)}, {f"y{i}": v for i, v in enumerate(y)}


def test_spearman_and_its_p_are_scipys_and_q_is_of_all_pairs():
    rows, columns = tables()
    tests = associations(rows, columns)
    expected = [[spearmanr(x, y) for y in columns.values()] for x in rows.values()]
    np.testing.assert_allclose(tests.strength, [[test.statistic for test in row] for row in expected], atol=1e-12)
    p = np.array([[test.pvalue for test in row] for row in expected])
    np.testing.assert_allclose(tests.p, p, rtol=1e-6)
    # Benjamini & Hochberg by hand: the smallest p · m / rank of this one or any larger.
    flat, q = p.ravel(), np.empty(p.size)
    for i, value in enumerate(flat):
        q[i] = min(min(1, larger * p.size / (flat <= larger).sum()) for larger in flat if larger >= value)
    np.testing.assert_allclose(tests.q.ravel(), q, rtol=1e-6)
    assert tests.strength[3, 1] < 0 < tests.strength[0, 0]


def test_a_constant_goes_with_nothing():
    tests = associations({"a": np.ones(N)}, {"b": np.arange(N), "c": np.zeros((N, 2))})
    assert (tests.strength == 0).all() and (tests.p == 1).all()


def test_given_a_genre_only_what_is_inside_genres_is_left():
    """The partial correlation against numpy's of residuals; a relation through the genre alone goes away."""
    rng = np.random.default_rng(1)
    genre = rng.integers(4, size=N)
    names = [None if g == 3 else f"g{g}" for g in genre]
    x, y = 2.0 * genre + rng.standard_normal((2, N))
    z = x + rng.standard_normal(N)
    assert associations({"x": x}, {"y": y}).p[0, 0] < 1e-6
    tests = associations({"x": x}, {"y": y, "z": z}, dummies(names))
    residuals = []
    for values in (x, y, z):
        ranks = rankdata(values)
        residuals.append(ranks - np.array([ranks[genre == g].mean() for g in genre]))
    np.testing.assert_allclose(tests.strength[0], [np.corrcoef(residuals[0], r)[0, 1] for r in residuals[1:]])
    assert tests.p[0, 0] > 0.01 and tests.p[0, 1] < 1e-6
    np.testing.assert_array_equal(dummies(["a", None, "a"]).sum(axis=0), [1, 2])


def test_directions_go_by_canonical_correlation():
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 2 * np.pi, N)
    x = np.cos(angle - 1) + 0.5 * rng.standard_normal(N)
    turned = angle + 0.8 + 0.6 * rng.standard_normal(N)
    tests = associations({"x": x, "a": circle(angle)}, {"a": circle(angle), "b": circle(turned)})
    design = np.column_stack([np.ones(N), circle(angle)])
    ranks = rankdata(x)
    rest = ranks - design @ np.linalg.lstsq(design, ranks)[0]
    assert tests.strength[0, 0] == pytest.approx(np.sqrt(1 - rest.var() / ranks.var()))  # multiple correlation
    assert tests.strength[1, 0] == pytest.approx(1, abs=1e-6)
    centred = [c - c.mean(axis=0) for c in (circle(angle), circle(turned))]
    sxx, syy, sxy = (a.T @ b for a, b in ((centred[0],) * 2, (centred[1],) * 2, tuple(centred)))
    trace = np.trace(np.linalg.solve(sxx, sxy) @ np.linalg.solve(syy, sxy.T))
    assert tests.strength[1, 1] == pytest.approx(np.sqrt(trace / 2)) and tests.p[1, 1] < 1e-9


@pytest.mark.parametrize("given", [False, True])
def test_p_values_are_uniform_where_nothing_goes_together(given):
    rng = np.random.default_rng(3)
    p = []
    for _ in range(300):
        genre = dummies([f"{g}" for g in rng.integers(3, size=40)])
        angles = rng.uniform(0, 6.3, (2, 40))
        rows = {"x": rng.exponential(size=40), "a": circle(angles[0])}
        p.append(associations(rows, {"y": rng.standard_normal(40), "b": circle(angles[1])}, genre if given else None).p)
    for pair_p in np.array(p).reshape(300, 4).T:
        for level in (0.05, 0.5):
            assert binomtest(int((pair_p <= level).sum()), 300, level).pvalue > 0.001


def test_shuffled_videos_have_nothing_but_what_the_genre_explains():
    rng = np.random.default_rng(4)
    genre = rng.integers(3, size=N)
    audio = {f"s{i}": genre + rng.standard_normal(N) for i in range(4)} | {"key": circle(rng.uniform(0, 6, N))}
    video = {f"p{i}": genre + audio[f"s{i}"] + rng.standard_normal(N) for i in range(4)}
    described = Described(np.arange(N), audio, video, np.zeros((2, N)))
    names = [f"g{g}" for g in genre]
    matrix = {(row["sound"], row["picture"]): row for row in pairs(described, names, np.arange(N), 0.05)}
    assert matrix["s0", "p0"]["significant"] and matrix["s0", "p0"]["genre_significant"]
    assert matrix["s0", "p1"]["significant"] and matrix["key", "p1"]["direction"]
    rows = shuffled(described, names, np.arange(N), 0.05, seeds=20, first=0)
    by_shuffle = {(row["shuffled"], row["genre_held"]): row for row in rows}
    assert len(by_shuffle) == 4 and all(row["kept"] for row in rows if row["nothing_to_find"])
    through_genre = by_shuffle["within genres", False]
    assert not through_genre["nothing_to_find"] and through_genre["seeds_with_any"] == 20
    assert all(row["low"] <= row["share"] <= row["high"] and row["pairs"] == 20 for row in rows)
    assert by_shuffle["all videos", False]["p_below_nominal"] < 0.1


def test_correction_of_one_pair_is_none():
    tests = associations({"x": np.arange(9.0)}, {"y": np.array([2.0, 1, 4, 3, 6, 5, 8, 7, 9])})
    assert tests.q == tests.p == false_discovery_control(tests.p.ravel())
