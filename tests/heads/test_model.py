"""Projection heads as the configuration describes them, against the same arithmetic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf

from config.cli import UserError
from config.heads import Experiment, Layers
from heads.model import ProjectionHead, build

ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def in_numpy(head: ProjectionHead, layers: Layers, features: torch.Tensor) -> np.ndarray:
    """The head in eval mode, from its weights: their names say which layer they are of."""
    weights = [v.numpy() for k, v in head.state_dict().items() if not k.endswith("tracked")]
    x, rest = features.float().numpy(), iter(weights)
    for _ in layers.hidden:
        x = x @ next(rest).T + next(rest)
        if layers.normalisation == "batch":
            gain, shift, mean, variance = (next(rest) for _ in range(4))
            x = (x - mean) / np.sqrt(variance + 1e-5) * gain + shift
        if layers.normalisation == "batch_fixed":
            mean, variance = next(rest), next(rest)
            x = (x - mean) / np.sqrt(variance + 1e-5)
        if layers.normalisation == "layer":
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * next(rest) + next(rest)
        x = ACTIVATIONS[layers.activation](x)
    x = x @ next(rest).T + next(rest)
    x = 1 / (1 + np.exp(-x)) if layers.output == "sigmoid" else x
    assert next(rest, None) is None, "a weight that the description does not have"
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
@pytest.mark.parametrize("normalisation", ["batch", "batch_fixed", "layer", "none"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [[], [8], [8, 6, 5]])
def test_a_head_is_what_is_described(output: Any, normalisation: Any, activation: Any, hidden: list[int]) -> None:
    torch.manual_seed(0)
    layers = Layers(hidden=hidden, activation=activation, normalisation=normalisation, output=output)
    head = ProjectionHead(10, layers, 4)
    features = torch.randn(64, 10).half()
    head.train()
    # Dropout is the only thing that is random, and only while training; this also moves batch norm's statistics.
    assert torch.equal(head(features), head(features)) == (not hidden)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    head.eval()
    embeddings = head(features).detach().numpy()
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, in_numpy(head, layers, features), atol=1e-5)


def test_the_default_is_the_papers_layout() -> None:
    heads = build(Experiment(), 1506, 512)
    for head, dim in ((heads.audio, 1506), (heads.video, 512)):
        names = [type(layer).__name__ for layer in head.layers]
        assert names == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear", "Sigmoid"]
        first, last, dropout = head.layers[0], head.layers[4], head.layers[3]
        assert (first.in_features, first.out_features) == (dim, 512)
        assert (last.in_features, last.out_features, dropout.p) == (512, 256, 0.3)


def test_the_heads_share_no_weights() -> None:
    heads = build(Experiment(), 20, 12)
    audio, video = heads(torch.randn(5, 20), torch.randn(5, 12))
    assert audio.shape == video.shape == (5, 256)
    own = {id(p) for p in heads.audio.parameters()}
    assert not own & {id(p) for p in heads.video.parameters()}


def test_a_side_has_what_it_says_and_else_what_the_experiment_says() -> None:
    experiment = Experiment(
        hidden=[7], activation="gelu", dropout=0.0, audio={"hidden": [], "output": "linear"}, video={"dropout": 0.5}
    )
    heads = build(experiment, 20, 12)
    assert [type(layer).__name__ for layer in heads.audio.layers] == ["Linear"]
    names = [type(layer).__name__ for layer in heads.video.layers]
    assert names == ["Linear", "BatchNorm1d", "GELU", "Dropout", "Linear", "Sigmoid"]
    assert heads.video.layers[3].p == 0.5
    assert experiment.outputs == ("linear", "sigmoid")


def test_a_single_head_leaves_the_other_side_as_it_is() -> None:
    experiment = Experiment(embedding=20, audio={"identity": True})
    heads = build(experiment, 20, 12)
    audio = torch.randn(5, 20)
    left, right = heads(audio, torch.randn(5, 12))
    torch.testing.assert_close(left, audio / audio.norm(dim=1, keepdim=True))
    assert right.shape == (5, 20) and not list(heads.audio.parameters()) and list(heads.video.parameters())
    assert experiment.outputs == ("linear", "sigmoid") and experiment.unit == (True, True)
    kept = Experiment(embedding=20, audio={"identity": True, "normalise": False})
    torch.testing.assert_close(build(kept, 20, 12)(audio, torch.randn(5, 12))[0], audio)
    assert kept.unit == (False, True) and kept.outputs == ("linear", "sigmoid")
    with pytest.raises(UserError, match="set `embedding: 21`"):
        build(experiment, 21, 12)
