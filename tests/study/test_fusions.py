"""Fusion networks against their equations, a missing modality, and CCA against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA as Reference
from torch import Tensor

from config.study.fusion import Fusion
from study.fusion import cca, measure
from study.fusion.data import FusionSplit
from study.fusion.networks import FUSIONS, Bilinear, Gated, build
from study.fusion.train import MISSING, SINGLE, fit, probabilities

DIMS, CLASSES = (10, 6), 3


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, DIMS, CLASSES, 16, 0.3).eval()


def batch(videos: int = 5, segments: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    good = torch.rand(videos, segments) < 0.6
    good[:, 0] = True
    return torch.randn(videos, segments, DIMS[0]), torch.randn(videos, segments, DIMS[1]), good


@pytest.mark.parametrize("table", [measure.differences, measure.kept])
def test_intervals_hold_for_all_rows_of_a_tasks_table(monkeypatch: pytest.MonkeyPatch, table: Any) -> None:
    monkeypatch.setattr(measure, "gap", lambda a, b, metric, comparisons: {"comparisons": comparisons})
    probe = SimpleNamespace(entry={"metrics": {metric: {"value": 0.5} for metric in measure.METRICS}})
    ways = [("gated", "plain"), ("gated", "dropped"), *((name, "plain") for name in ("concatenation", *SINGLE))]
    rows = table("genre", {(*way, condition): probe for way in ways for condition in MISSING})
    assert rows and {row["comparisons"] for row in rows} == {len(rows)}


@pytest.mark.parametrize("name", FUSIONS)
@torch.no_grad()
def test_damaged_segments_do_not_matter(name: str) -> None:
    model, (audio, video, good) = network(name), batch()
    logits = model(audio, video, good)
    assert logits.shape == (5, CLASSES)
    torch.testing.assert_close(
        model(audio.masked_fill(~good[..., None], 1e5), video.masked_fill(~good[..., None], -1e5), good), logits
    )


@pytest.mark.parametrize("name", FUSIONS)
@torch.no_grad()
def test_fusions_depend_on_both_modalities_and_single_ones_on_theirs(name: str) -> None:
    model, (audio, video, good) = network(name), batch()
    logits = model(audio, video, good)
    for number, changed in enumerate([model(audio + 1, video, good), model(audio, video + 1, good)]):
        ignored = name in ("audio", "video") and name != ("audio", "video")[number]
        assert torch.equal(logits, changed) == ignored


@pytest.mark.parametrize("name", FUSIONS)
def test_a_missing_modality_has_no_effect(name: str) -> None:
    audio, video, good = batch()
    truth = torch.eye(CLASSES, dtype=torch.bool)[torch.arange(5) % CLASSES]
    model = network(name)
    for number, lost in ((0, (0,)), (1, (1,))):
        inputs = [audio, video]
        known = probabilities(model, FusionSplit(np.arange(5), (inputs[0], inputs[1]), good, truth), False, lost)
        inputs[number] = inputs[number] * 7 - 3
        torch.testing.assert_close(
            probabilities(model, FusionSplit(np.arange(5), (inputs[0], inputs[1]), good, truth), False, lost), known
        )


@torch.no_grad()
def test_low_rank_bilinear_is_the_explicit_sum() -> None:
    model = network("bilinear")
    assert isinstance(model, Bilinear)
    a, v = torch.randn(4, DIMS[0]).double(), torch.randn(4, DIMS[1]).double()
    model = model.double()
    wide = [torch.cat([f.weight, f.bias[:, None]], 1).numpy() for f in model.factors]  # type: ignore[list-item]
    factors = [w.reshape(Bilinear.RANK, model.width, -1) for w in wide]
    # W[h, i, j] = Σ_r u[r, h, i] v[r, h, j], a form on the features with a 1 behind them.
    tensor = np.einsum("rhi,rhj->hij", *factors)
    x, y = (np.column_stack([features.numpy(), np.ones(4)]) for features in (a, v))
    expected = np.einsum("ni,hij,nj->nh", x, tensor, y)
    np.testing.assert_allclose(model.fused(a, v).numpy(), expected, rtol=1e-9)
    assert np.linalg.matrix_rank(tensor[0]) == Bilinear.RANK


@torch.no_grad()
def test_a_gate_of_one_is_audio_alone() -> None:
    model, (audio, video, good) = network("gated"), batch()
    assert isinstance(model, Gated)
    model.gate.weight.zero_()
    for bias, changed in ((50.0, (audio, video + 1)), (-50.0, (audio + 1, video))):
        model.gate.bias.fill_(bias)
        torch.testing.assert_close(model(*changed, good), model(audio, video, good))


@pytest.mark.parametrize("name", [name for name in FUSIONS if name not in ("audio", "video", "cca")])
def test_fusions_of_features_have_about_as_many_parameters(name: str) -> None:
    sizes = [sum(p.numel() for p in build(n, (1506, 512), 10, 256, 0.3).parameters()) for n in ("concatenation", name)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


# CCA


def correlated(videos: int, seed: int, shared: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(videos, 2))
    modalities = []
    for number, dim in enumerate(DIMS):
        mix = np.random.default_rng(number).normal(size=(2, dim))
        modalities.append(shared * common @ mix + rng.normal(size=(videos, dim)) + number)
    return modalities[0], modalities[1]


def test_without_shrinkage_it_is_scikit_learns() -> None:
    audio, video = correlated(300, 0)
    solution = cca.Decomposed(audio, video).cca(0.0, 4)
    a, v = solution.project(audio, video)
    reference = Reference(n_components=4, max_iter=5000, tol=1e-12).fit(audio, video)
    x, y = reference.transform(audio, video)
    for k in range(4):
        assert solution.correlations[k] == pytest.approx(np.corrcoef(x[:, k], y[:, k])[0, 1], abs=1e-4)
        assert np.corrcoef(a[:, k], v[:, k])[0, 1] == pytest.approx(solution.correlations[k])
        assert abs(np.corrcoef(a[:, k], x[:, k])[0, 1]) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(a.T @ a / 300, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("videos", [300, 7])
def test_shrinkage_is_that_of_the_generalised_eigenproblem(videos: int) -> None:
    audio, video = correlated(videos, 1)
    gamma = 0.3
    x, y = audio - audio.mean(0), video - video.mean(0)
    shrunk = [
        (1 - gamma) * c + gamma * np.trace(c) / len(c) * np.eye(len(c)) for c in (x.T @ x / videos, y.T @ y / videos)
    ]
    shared = x.T @ y / videos
    left = np.block([[np.zeros((10, 10)), shared], [shared.T, np.zeros((6, 6))]])
    values = scipy.linalg.eigh(left, scipy.linalg.block_diag(*shrunk), eigvals_only=True)[::-1]
    solution = cca.Decomposed(audio, video).cca(gamma, 3)
    np.testing.assert_allclose(solution.correlations, values[:3], rtol=1e-8)


def test_the_validation_split_chooses_the_shrinkage() -> None:
    train, validation, test = correlated(30, 2), correlated(500, 3), correlated(500, 4)
    grid = [0.001, 0.03, 0.3, 0.9]
    solution = cca.fit(train, validation, 2, grid)
    decomposed = cca.Decomposed(*train)
    values = [cca.held_out(decomposed.cca(gamma, 2), *validation) for gamma in grid]
    assert solution.shrinkage == grid[int(np.argmax(values))] != 0.001
    assert cca.held_out(solution, *test) > cca.held_out(decomposed.cca(0.001, 2), *test) + 0.05
    rng = np.random.default_rng(0)
    shuffled = (train[0], rng.permutation(train[1]))
    assert abs(cca.held_out(cca.fit(shuffled, validation, 2, grid), test[0], rng.permutation(test[1]))) < 0.15


# Learning


def planted(videos: int, seed: int, shuffled: bool = False) -> FusionSplit:
    """Return videos with two labels, each whether an audio and a video feature have the same sign."""
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(videos, 1, dim)).astype(np.float32) for dim in DIMS]
    truth = (features[0][:, 0, :2] * features[1][:, 0, :2]) > 0
    if shuffled:
        truth = rng.permutation(truth)
    audio, video = (torch.from_numpy(values) for values in features)
    return FusionSplit(
        np.arange(videos), (audio, video), torch.ones(videos, 1, dtype=torch.bool), torch.from_numpy(truth)
    )


@pytest.mark.parametrize("name", ["audio", "concatenation", "gated", "bilinear", "cross_attention"])
def test_products_of_both_modalities_are_learned_by_fusions(name: str) -> None:
    settings = Fusion(hidden=64, max_epochs=25, learning_rate=0.01, batch=64, dropout=0.0, patience=25)
    right = []
    for shuffled in (False, True):
        splits = {s: planted(n, i, shuffled) for i, (s, n) in enumerate([("train", 600), ("validation", 200)])}
        model, facts = fit(splits, name, False, settings, dropped=False, seed=0)
        test = planted(600, 9, shuffled)
        right.append(float(((probabilities(model, test, False, ()) > 0.5) == test.truth).float().mean()))
        assert 1 <= facts["epoch"] <= facts["epochs"] <= 25
    assert right[1] == pytest.approx(0.5, abs=0.07), "shuffled labels cannot be learned"
    if name == "audio":
        assert right[0] == pytest.approx(0.5, abs=0.07)
    else:
        assert right[0] > 0.75


def test_modality_dropout_helps_where_a_modality_is_missing() -> None:
    """Audio predicts the label linearly, video by a product, which a network with audio always there does not learn."""
    settings = Fusion(hidden=32, max_epochs=25, learning_rate=0.01, batch=64, patience=25, lost=0.5)

    def easy_audio(videos: int, seed: int) -> FusionSplit:
        rng = np.random.default_rng(seed)
        features = [rng.normal(size=(videos, 1, dim)).astype(np.float32) for dim in DIMS]
        truth = features[1][:, :, 0] * features[1][:, :, 1] > 0
        features[0][:, :, 0] += 6 * truth - 3
        audio, video = (torch.from_numpy(values) for values in features)
        return FusionSplit(
            np.arange(videos), (audio, video), torch.ones(videos, 1, dtype=torch.bool), torch.from_numpy(truth)
        )

    splits = {"train": easy_audio(600, 0), "validation": easy_audio(200, 1)}
    test, right = easy_audio(600, 2), {}
    for dropped in (False, True):
        model, _ = fit(splits, "concatenation", False, settings, dropped, seed=0)
        right[dropped] = float(((probabilities(model, test, False, (0,)) > 0.5) == test.truth).float().mean())
    assert right[True] > 0.75 and right[False] < 0.65


def test_equal_seeds_give_equal_networks_and_others_do_not() -> None:
    splits = {s: planted(60, i) for i, s in enumerate(("train", "validation"))}
    settings = Fusion(hidden=16, max_epochs=3, batch=16)
    a, b, c = (fit(splits, "gated", False, settings, True, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)
