"""The contrastive losses against their equations written out as loops, their chance levels and their lower bounds."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from config.heads import Experiment, Loss
from heads.loss import LOSSES, ContrastiveLoss, ConvexLoss, loss_of

OUTPUTS: Any = [("sigmoid", "sigmoid"), ("linear", "sigmoid"), ("sigmoid", "linear"), ("linear", "linear")]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # tensors this small are not worth a second


def unit(rng: np.random.Generator, shape: tuple[int, int], output: str = "linear") -> np.ndarray:
    rows = rng.normal(size=shape)
    rows = np.abs(rows) if output == "sigmoid" else rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def loss(name: Any, audio: np.ndarray, video: np.ndarray, temperature: float, bias: float = 0.0) -> float:
    module = loss_of(Experiment(loss=name, temperature=temperature)).double()
    if name == "siglip":
        module.get_parameter("bias").data.fill_(bias)
    return module(torch.from_numpy(audio), torch.from_numpy(video)).item()


def chance_loss(pairs: int, name: Any = "info_nce") -> float:
    return loss_of(Experiment(loss=name)).chance(pairs)


def lowest_loss(pairs: int, temperature: float, outputs: Any, name: Any = "info_nce") -> float:
    sides = dict(zip(("audio", "video"), ({"output": output} for output in outputs), strict=True))
    return loss_of(Experiment(loss=name, temperature=temperature, **sides)).lowest(pairs)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(a) * float(b) for a, b in zip(x, y, strict=True))


def from_the_equation(name: str, audio: np.ndarray, video: np.ndarray, temperature: float, bias: float) -> float:
    """The losses as their papers write them, pair by pair."""
    n, total = len(audio), 0.0
    if name == "siglip":  # -1/n Σ_i Σ_j log 1 / (1 + exp(z_ij (-t x_i·y_j - b))), z = 1 for positives, else -1
        for i in range(n):
            for j in range(n):
                z = 1 if i == j else -1
                total -= math.log(1 / (1 + math.exp(z * (-cosine(audio[i], video[j]) / temperature - bias))))
        return total / n
    for queries, candidates in ((audio, video), (video, audio)):
        for i in range(n):
            weight = [math.exp(cosine(queries[i], c) / temperature) for c in candidates]
            among = sum(w for j, w in enumerate(weight) if name == "info_nce" or j != i)
            total -= math.log(weight[i] / among)
    return total / (2 * n)


@pytest.mark.parametrize("name", LOSSES)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 7), d=st.integers(1, 5),
    temperature=st.sampled_from([0.07, 0.3, 1.0, 3.0]), bias=st.sampled_from([-10.0, -1.0, 0.5]),
    outputs=st.sampled_from(OUTPUTS),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_equals_the_equation_and_stays_above_the_bound(
    name: Any, seed: int, n: int, d: int, temperature: float, bias: float, outputs: Any
) -> None:
    rng = np.random.default_rng(seed)
    audio, video = unit(rng, (n, d), outputs[0]), unit(rng, (n, d), outputs[1])
    value = loss(name, audio, video, temperature, bias)
    assert value == pytest.approx(from_the_equation(name, audio, video, temperature, bias), rel=1e-9, abs=1e-9)
    assert value == pytest.approx(loss(name, video, audio, temperature, bias), rel=1e-12, abs=1e-12)
    assert value >= lowest_loss(n, temperature, outputs, name) - 1e-9
    right = unit(rng, (n, d), "sigmoid")  # a model that is always right is allowed to every kind of head
    assert loss(name, right, right, temperature, bias) >= lowest_loss(n, temperature, outputs, name) - 1e-9


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_free_embeddings_come_down_to_the_bound(name: Any, outputs: Any, temperature: float) -> None:
    """Descent over the embeddings themselves ends at the bound: it is no lower than it need be."""
    torch.manual_seed(0)
    n = 6
    sides = [torch.randn(n, n, dtype=torch.float64, requires_grad=True) for _ in outputs]
    experiment = Experiment(loss=name, temperature=temperature, bias=-3.0 if name == "siglip" else -10.0)
    module = loss_of(experiment).double()
    descent = torch.optim.LBFGS([*sides, *module.parameters()], max_iter=2000, line_search_fn="strong_wolfe")

    def embeddings() -> list[torch.Tensor]:
        # Squares: never below 0, and unlike a sigmoid's values they can be 0, which a sigmoid only comes near to.
        ends = [x**2 if output == "sigmoid" else x for x, output in zip(sides, outputs, strict=True)]
        return [functional.normalize(end, dim=1) for end in ends]

    def closure() -> torch.Tensor:
        descent.zero_grad()
        value = module(*embeddings())
        value.backward()
        return value

    descent.step(closure)
    lowest = lowest_loss(n, temperature, outputs, name)
    assert lowest - 1e-9 <= module(*embeddings()).item() <= lowest + 1e-3 * (chance_loss(n, name) - lowest)


@pytest.mark.parametrize("name", LOSSES)
def test_a_collapsed_model_is_at_chance(name: Any) -> None:
    same = np.tile(unit(np.random.default_rng(0), (1, 8)), (50, 1))
    best = -math.log(49) - 1 / 0.1  # the bias with which every pair has the probability 1/50
    assert loss(name, same, same, 0.1, best) == pytest.approx(chance_loss(50, name))
    for other in (best - 0.5, best + 0.5):
        assert name != "siglip" or loss(name, same, same, 0.1, other) > chance_loss(50, name)


def test_chance_levels() -> None:
    assert chance_loss(50) == pytest.approx(math.log(50))
    assert chance_loss(50, "paper") == pytest.approx(math.log(49))
    assert chance_loss(50, "siglip") == pytest.approx(-math.log(1 / 50) - 49 * math.log(49 / 50))


def test_the_papers_setting_leaves_little_room() -> None:
    """Sigmoid embeddings, τ = 1, 1,000 pairs: both directions added, the loss can only fall from 13.82 to 11.82."""
    assert 2 * chance_loss(1000) == pytest.approx(13.82, abs=0.005)
    assert 2 * lowest_loss(1000, 1.0, ("sigmoid", "sigmoid")) == pytest.approx(11.82, abs=0.005)


@pytest.mark.parametrize("name", LOSSES)
def test_a_pair_alone_costs_nothing_and_teaches_nothing(name: Any) -> None:
    one = torch.ones(1, 4, requires_grad=True)
    module = loss_of(Experiment(loss=name))
    value = module(one / 2, torch.ones(1, 4) / 2)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and not one.grad.any()
    assert module.chance(1) == module.lowest(1) == 0


def test_a_fixed_temperature_is_no_parameter() -> None:
    module = loss_of(Experiment(temperature=0.3))
    assert not list(module.parameters()) and module.temperature() == 0.3


@pytest.mark.parametrize("name", LOSSES)
def test_a_learned_temperature_follows_its_gradient_to_the_limit(name: Any) -> None:
    module = loss_of(Experiment(loss=name, temperature=0.07, learned_temperature=True))
    assert module.temperature() == pytest.approx(0.07)
    right = torch.eye(8)
    before = module(right, right)
    before.backward()
    assert before.item() == pytest.approx(loss(name, right.numpy(), right.numpy(), 0.07, -10.0), rel=1e-4, abs=1e-5)
    descent = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(20):  # positives are found: the sharper the better
        descent.zero_grad()
        module(right, right).backward()
        descent.step()
    sharp = module.temperature()
    assert 0.01 <= sharp < 0.07
    with torch.no_grad():
        module.log_scale += 10  # a step that goes too far
    assert module.temperature() == pytest.approx(0.01)
    module(right, right)
    assert module.log_scale.item() == pytest.approx(math.log(100), abs=1e-5)
    descent = torch.optim.SGD(module.parameters(), lr=1e-3)
    descent.zero_grad()
    module(right, right.flip(0)).backward()  # everything wrong: the softer the better, and the limit holds nothing back
    descent.step()
    assert module.temperature() > 0.01


def test_lowest_of_a_learned_temperature_is_that_of_the_present_one() -> None:
    module = loss_of(
        Experiment(temperature=0.5, learned_temperature=True, output="linear", video={"output": "sigmoid"})
    )
    with torch.no_grad():
        module.log_scale.fill_(math.log(5))
    assert module.lowest(30) == pytest.approx(lowest_loss(30, 0.2, ("linear", "sigmoid")))


def test_every_loss_of_the_configuration_has_a_class() -> None:
    assert set(LOSSES) == set(get_args(Loss)) and len(set(LOSSES.values())) == len(LOSSES)


def test_a_new_loss_inherits_nobodys_chance_and_floor() -> None:
    """A loss that does not say what chance gives and how low it can get cannot be made."""

    class Incomplete(ContrastiveLoss):
        def forward(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
            return (audio - video).square().sum()

    class Unbounded(ConvexLoss):
        forward = Incomplete.forward

    with pytest.raises(TypeError, match=r"abstract methods? '?chance'?, '?lowest"):
        Incomplete(Experiment())  # type: ignore[abstract]
    with pytest.raises(TypeError, match="floor"):
        Unbounded(Experiment())  # type: ignore[abstract]

    class Complete(Incomplete):
        def chance(self, pairs: int) -> float:
            return 2.0 * pairs

        def lowest(self, pairs: int) -> float:
            return 0.0

    assert (Complete(Experiment()).chance(1000), Complete(Experiment()).lowest(1000)) == (2000.0, 0.0)
