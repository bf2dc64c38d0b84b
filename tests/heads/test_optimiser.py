"""Optimisers against their published update rules, who decays, and the learning rate at every step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from config.heads import Experiment
from heads.loss import loss_of
from heads.model import build
from heads.optimiser import make, rate

GRADIENTS = [np.array([[0.3, -2.0]]), np.array([[1.0, 0.1]]), np.array([[-0.5, 0.4]])]


def by_hand(kind: str, lr: float, decay: float) -> np.ndarray:
    """Three steps from [1, -1] as Kingma & Ba 2015, Loshchilov & Hutter 2019 and PyTorch's SGD write them."""
    w, m, v = np.array([[1.0, -1.0]]), np.zeros((1, 2)), np.zeros((1, 2))
    for t, gradient in enumerate(GRADIENTS, 1):
        g = gradient if kind == "adamw" else gradient + decay * w
        if kind == "sgd":
            m = g if t == 1 else 0.8 * m + g
            w = w - lr * m
            continue
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        shrunk = w * (1 - lr * decay) if kind == "adamw" else w
        w = shrunk - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_steps_are_the_published_ones(kind: Any, decay: float) -> None:
    momentum = {"momentum": 0.8} if kind == "sgd" else {}
    experiment = Experiment(optimiser=kind, weight_decay=decay, learning_rate=0.05, **momentum)
    weight = torch.nn.Parameter(torch.tensor([[1.0, -1.0]]))
    optimiser = make(experiment, [weight])
    for gradient in GRADIENTS:
        weight.grad = torch.from_numpy(gradient).float()
        optimiser.step()
    np.testing.assert_allclose(weight.detach().numpy(), by_hand(kind, 0.05, decay), rtol=1e-5)


def test_only_weight_matrices_decay() -> None:
    experiment = Experiment(
        optimiser="adamw", weight_decay=0.5, loss="siglip", temperature=0.1, learned_temperature=True
    )
    heads, loss = build(experiment, 20, 12), loss_of(experiment)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.fill_(1.0)
    named = {**dict(heads.named_parameters()), **dict(loss.named_parameters())}
    before = {name: p.detach().clone() for name, p in named.items()}
    optimiser = make(experiment, named.values())
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    shrunk = {name for name, p in named.items() if not torch.equal(p, before[name])}
    assert shrunk == {f"{modality}.layers.{index}.weight" for modality in ("audio", "video") for index in (0, 4)}
    assert {"log_scale", "bias"} <= set(named)


def rates(steps: int, epochs: int, **keys: Any) -> np.ndarray:
    experiment = Experiment(max_epochs=epochs, learning_rate=0.2, **keys)
    return np.array([rate(experiment, step, steps, steps * epochs) for step in range(steps * epochs)])


def test_exponential_is_the_papers() -> None:
    np.testing.assert_allclose(rates(3, 4), 0.2 * np.repeat(0.95 ** np.arange(4), 3))
    np.testing.assert_allclose(rates(2, 2, decay=0.5), [0.2, 0.2, 0.1, 0.1])


def test_constant_is_constant_after_its_warmup() -> None:
    np.testing.assert_allclose(rates(2, 3, schedule="constant"), 0.2)
    np.testing.assert_allclose(rates(2, 3, schedule="constant", warmup=2), [0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_cosine_is_half_a_period_after_its_warmup() -> None:
    computed = rates(5, 4, schedule="cosine", warmup=1)
    np.testing.assert_allclose(computed[:5], 0.2 * np.arange(1, 6) / 5)
    np.testing.assert_allclose(computed[5:], [0.1 * (1 + math.cos(math.pi * t / 15)) for t in range(15)])
    assert rate(Experiment(max_epochs=4, schedule="cosine", warmup=1), 20, 5, 20) == pytest.approx(0)
