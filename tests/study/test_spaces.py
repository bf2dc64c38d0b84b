"""Feature spaces compared: known cases, slow references on the features themselves, and chance."""

import numpy as np
import pytest
import torch

from config.model import load
from pipeline.features import open_features
from study.answer import Row
from study.groups import folds
from study.relations import sign_test as signs
from study.relations import similarity as spaces
from study.relations import space_tables as between
from study.relations.ridge_tables import read_from
from study.relations.text import predicts
from study.ridge import FOLDS, predictions, resampled_r2
from tests.support.simulate import simulate


def blocks(x: np.ndarray, y: np.ndarray) -> spaces.Blocks:
    c = np.cov(np.column_stack([x, y]).T)
    d = x.shape[1]
    return c[:d, :d], c[:d, d:], c[d:, d:]


def views(rng: np.random.Generator, n: int, noise: float, shared: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces of 12 and 8 dimensions, of different scales, that share some latent dimensions."""
    z = rng.standard_normal((n, shared))
    mixes = np.random.default_rng(9).standard_normal((2, shared, 12))
    x = z @ mixes[0] + noise * rng.standard_normal((n, 12))
    y = z @ mixes[1][:, :8] + noise * rng.standard_normal((n, 8))
    return 100 * x, y


def test_cka_is_that_of_gram_matrices():
    x, y = views(np.random.default_rng(0), 60, 1.0)
    a, b = ((v - v.mean(axis=0)) / v.std(axis=0) for v in (x, y))
    k, m = a @ a.T, b @ b.T
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())  # Kornblith et al., linear kernels
    assert spaces.cka(blocks(x, y)) == pytest.approx(expected)
    assert spaces.cka(blocks(x, 3 * x[:, ::-1] + 5)) == pytest.approx(1)
    assert spaces.cka(blocks(x, np.ones((60, 2)))) == 0


def test_canonical_correlations_are_held_out_and_those_of_the_population():
    rng = np.random.default_rng(1)
    train, test = views(rng, 4000, 0.5), views(rng, 4000, 0.5)
    correlations = spaces.canonical(blocks(*train), blocks(*test), (1e-3,))[1e-3]
    whitened = []
    for v in train:  # the textbook: singular values of whitened data
        u, _, _ = np.linalg.svd(v - v.mean(axis=0), full_matrices=False)
        whitened.append(u)
    expected = np.linalg.svd(whitened[0].T @ whitened[1])[1]
    assert len(correlations) == 8
    np.testing.assert_allclose(correlations[:3], expected[:3], atol=0.02)
    assert np.abs(correlations[3:]).max() < 0.06
    few = [views(rng, 30, 3.0) for _ in range(2)]
    fitted = spaces.canonical(blocks(*few[0]), blocks(*few[0]), (1e-3,))[1e-3]
    assert spaces.canonical(blocks(*few[0]), blocks(*few[1]), (1e-3,))[1e-3].mean() < fitted.mean() - 0.2


def test_mutual_neighbours_against_a_loop():
    x, y = views(np.random.default_rng(2), 50, 0.3)
    near = [spaces.nearest(v, 5) for v in (x, y)]
    slow = []
    for v in (x, y):
        v = torch.tensor((v - v.mean(axis=0)) / v.std(axis=0))
        cosine = torch.nn.functional.cosine_similarity(v[:, None], v[None], dim=2).fill_diagonal_(-2)
        slow.append([set(row.tolist()) for row in cosine.topk(5).indices])
    assert [[set(row) for row in rows] for rows in near] == slow
    shares = spaces.mutual(*near)
    np.testing.assert_allclose(shares, [len(a & b) / 5 for a, b in zip(*slow, strict=True)])
    assert shares.mean() > 0.3
    repaired = [spaces.mutual_repaired(*near, np.random.default_rng(seed).permutation(50)) for seed in range(50)]
    assert np.mean(repaired) == pytest.approx(5 / 49, abs=0.02)
    assert spaces.mutual(near[0], near[0]).mean() == 1


@pytest.mark.parametrize(("correlation", "alike"), [(0.0, False), (1.0, True)])
def test_backbones_of_a_cache(tmp_path, correlation, alike):
    """The planted correlation is found in the cache, shard by shard, and nothing where nothing was planted."""
    config = simulate(tmp_path, correlation, videos=400, shard_videos=100, damaged=[(5, 1)], unreadable=[7])
    features, names = open_features(config.results), ["musicnn", "r2plus1d"]
    (row,), spectrum = between.linear(features, names, scheduler="synchronous")
    samples = []
    for split in ("train", "test"):
        rows = features.rows(split, valid=names)
        arrays = {name: features.numpy(name, rows) for name in names}
        samples.append(signs.Sample.of(arrays, np.arange(len(rows))))
    signs.add_chance([row], spectrum, *samples, count=19, seed=0)
    true = signs.Pairing(*samples, tuple(names), row["ridge"]).measures([(None, None)])[0]
    assert true.cka == pytest.approx(row["cka"], rel=1e-4)  # equal to CKA from the covariances of the shards
    np.testing.assert_allclose(true.canonical, [line["held_out"] for line in spectrum], atol=1e-3)
    assert row["segments"] == 3 * len(features.rows("train", valid=names)) - (5 in features.rows("train"))
    for value, highest in (
        ("cka", "cka_chance_high"),
        ("cca", "cca_chance_high"),
        ("cca_first", "cca_first_chance_high"),
    ):
        assert (row[value] > 1.5 * row[highest]) == alike, (value, row)
    assert len(spectrum) == row["cca_pairs"] == 20 and spectrum[0]["held_out"] == row["cca_first"]
    values = {name: between.means(features.numpy(name, features.rows(valid=names))) for name in names}
    (near,) = between.neighbours(values, [("musicnn", "r2plus1d")], np.arange(399), 10, 19, 200, seed=0)
    assert (near["low"] > near["chance_high"]) == alike == (near["p"] == 0.05)
    assert (row["cka_p"] == row["cca_p"] == row["cca_first_p"] == 0.05) == alike
    assert near["chance"] == pytest.approx(10 / 398, rel=0.1)


def test_ridge_predicts_what_is_there_and_nothing_else():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 500))  # more features than videos
    x[:, :5] *= 10
    y = np.column_stack([x[:, 0] + 2 * rng.standard_normal(300), rng.standard_normal(300), np.ones(300)])
    fold = folds(np.arange(300), FOLDS, seed=0)
    scores = resampled_r2(y, predictions(x, y, fold), np.arange(300), resamples=200, seed=0)
    low, high = np.quantile(scores[1:], [0.025, 0.975], axis=0)
    assert 0.3 < low[0] < scores[0, 0] < high[0] < 1
    assert scores[0, 1] < 0.02 and low[1] < 0 and (scores[:, 2] == 0).all()
    plain = 1 - ((y - predictions(x, y, fold)) ** 2).sum(axis=0)[0] / ((y[:, 0] - y[:, 0].mean()) ** 2).sum()
    assert scores[0, 0] == pytest.approx(plain)


def test_r2_by_chance_is_that_of_whole_artists():
    """Videos of one artist are alike, so a fit to ten artists is far off for the others, whatever there is to find."""
    groups = np.repeat(np.arange(12), 20)
    x, y = (np.random.default_rng(seed).standard_normal((12, 8))[groups] for seed in (0, 1))
    y += 0.01 * np.random.default_rng(2).standard_normal(y.shape)
    rows = read_from(load({"results": "r", "videos": "v"}), {"x": [x]}, {"y": y[:, 0]}, groups)
    assert rows[0]["r2"] < -0.5 and rows[0]["chance"] < -0.5


def test_r2_of_heads_has_an_interval_over_artists_and_one_over_seeds():
    """Heads that keep the audio features have the same R² with every seed: that says nothing about other videos."""
    config = load({"results": "r", "videos": "v"})
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 4)
    x, y = rng.standard_normal((48, 3)), rng.standard_normal(48)
    angle = rng.standard_normal(48)
    described = {"y": y, "hue": np.column_stack([np.cos(angle), np.sin(angle)])}
    ones = read_from(config, {"backbone": [x]}, described, groups)
    for one, equal in zip(ones, read_from(config, {"head": [x] * 3}, described, groups), strict=True):
        assert (equal["low"], equal["r2"], equal["high"]) == pytest.approx((one["low"], one["r2"], one["high"]))
        assert one["seeds_low"] is None and equal["seeds_low"] == pytest.approx(equal["seeds_high"])
        assert equal["low"] < equal["r2"] < equal["high"]
    others = read_from(config, {"head": [x, -x + 0.5 * rng.standard_normal(x.shape)]}, described, groups)[0]
    assert others["seeds_low"] < others["r2"] < others["seeds_high"]
    row: Row = {"low": 0.1, "seeds_low": -0.1}
    assert not predicts(row) and predicts(row | {"seeds_low": None}) and predicts(row | {"seeds_low": 0.1})
    assert not predicts({"low": -0.1, "seeds_low": 0.1})


def test_what_is_held_out_has_no_part_in_its_prediction_and_artists_stay_together():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((60, 4)), rng.standard_normal((60, 1))
    fold = folds(np.append(np.arange(59) % 12, 12), FOLDS, seed=1)
    assert all(len(set(fold[i:59:12])) == 1 for i in range(12)) and len(set(fold)) > 2
    before = predictions(x, y, fold)
    y[fold == fold[0]] += 100
    after = predictions(x, y, fold)
    np.testing.assert_array_equal(before[fold == fold[0]], after[fold == fold[0]])


def test_a_feature_that_hardly_varies_in_training_does_no_harm():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 4))
    y = x[:, :1] + 0.1 * rng.standard_normal((60, 1))
    x[:, 3] = 1e-7 * rng.standard_normal(60)
    x[7, 3] = 1e-3
    fold = np.arange(60) % 4
    assert np.abs(predictions(x, y, fold) - y).max() < 1
