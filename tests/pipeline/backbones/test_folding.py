"""Batch normalisations folded into convolutions: where it is exact, and not where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pipeline.backbones.folding import fold
from pipeline.backbones.timm_models import build, pooled

IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def ready(net: nn.Module) -> nn.Module:
    """Return the network in eval mode, with statistics unlike those of a fresh one."""
    generator = torch.Generator().manual_seed(0)
    for name, values in net.state_dict().items():
        if values.is_floating_point() and ("running" in name or values.ndim == 1):
            values.uniform_(0.5, 2, generator=generator)
    return net.eval().requires_grad_(False)


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


class Shortcut(nn.Module):
    """Uses the convolution's output before its normalisation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return (x + self.bn(x)).mean((2, 3))


class Twice(nn.Module):
    """Normalises the outputs of one convolution in two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x)))).mean((2, 3))


def run(net: nn.Module) -> torch.Tensor:
    return net(IMAGE)


@pytest.mark.parametrize("make", [Shortcut, Twice])
def test_what_cannot_be_folded_stays_as_it_is(make: Callable[[], nn.Module]) -> None:
    net = ready(make())
    before = run(net)
    assert torch.equal(run(fold(net, run)), before) and norms(fold(net, run)) == norms(net)


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ("tf_efficientnet_lite0", 0),  # activations inside the normalisations, TensorFlow's padding
        ("resnet18", 0),
        ("resnetv2_18", 9),  # half of its normalisations come after a sum
        ("densenet121", 62),  # the normalisations of concatenations have no convolution before them
    ],
)
def test_folding_is_exact_to_rounding(model: str, left: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ready(build(model))
    before, state = pooled(net, IMAGE), {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold(net, lambda network: pooled(network, IMAGE))
    assert (pooled(folded, IMAGE) - before).norm() <= 1e-5 * before.norm()
    assert norms(folded) == left and not any(module.training for module in folded.modules())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items()), "the network was changed"
