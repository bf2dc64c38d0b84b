"""Image networks rewritten for speed: where it is exact, and not where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pipeline.backbones.image_fast import Rewriting, faster, folded, with_one_dnn
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


@pytest.mark.parametrize("rewritings", [(folded,), (folded, with_one_dnn)])
@pytest.mark.parametrize("make", [Shortcut, Twice])
def test_what_cannot_be_folded_stays_as_it_is(make: Callable[[], nn.Module], rewritings: tuple[Rewriting, ...]) -> None:
    net = ready(make())
    rewritten = faster(net, run, rewritings)
    assert (run(rewritten) - run(net)).norm() <= 1e-5 * run(net).norm()
    assert norms(rewritten) == norms(net)


def test_a_convolution_that_is_used_twice_would_be_folded_wrongly() -> None:
    net = ready(Shortcut())
    wrong = folded(net, run)
    assert wrong is not None and (run(wrong) - run(net)).norm() > 0.01 * run(net).norm()
    assert folded(ready(Twice()), run) is None


class Asks(nn.Module):
    """Asks a convolution for what its replacement does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)).mean((2, 3)) * self.first.out_channels


def test_a_network_that_looks_into_its_convolutions_stays_as_it_is() -> None:
    net = ready(Asks())
    assert faster(net, run, (folded, with_one_dnn)) is net


class Padded(nn.Module):
    """Pads in ways that oneDNN does not know, and in one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.circular = nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, 1, 1, padding_mode="circular")
        self.zeros = nn.Conv2d(4, 4, 3, 2, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.zeros(self.circular(self.same(x))).mean((2, 3))


def test_paddings_that_one_dnn_does_not_know_stay_with_torch() -> None:
    net = ready(Padded())
    rewritten = with_one_dnn(net, run)
    assert rewritten is not None and torch.allclose(run(rewritten), run(net), rtol=1e-5)
    assert [type(module).__name__ for module in rewritten.children()] == ["Conv2d", "Conv2d", "OneDNNConv"]


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ("tf_efficientnet_lite0", 0),  # activations inside the normalisations, TensorFlow's padding
        ("resnet18", 0),
        ("resnetv2_18", 9),  # half of its normalisations come after a sum
        ("densenet121", 62),  # the normalisations of concatenations have no convolution before them
    ],
)
def test_rewriting_is_exact_to_rounding(model: str, left: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ready(build(model))
    before, state = pooled(net, IMAGE), {name: value.clone() for name, value in net.state_dict().items()}
    rewritten = faster(net, lambda network: pooled(network, IMAGE), (folded, with_one_dnn))
    assert (pooled(rewritten, IMAGE) - before).norm() <= 1e-5 * before.norm()
    assert norms(rewritten) == left and not any(module.training for module in rewritten.modules())
    assert not any(isinstance(module, nn.Conv2d) for module in rewritten.modules())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items()), "the network was changed"
