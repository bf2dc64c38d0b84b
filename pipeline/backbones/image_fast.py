"""Image networks of any kind rewritten for speed without changing what they compute. Reads and writes nothing.

Measured for EfficientNet-Lite0 on one core, ms a frame: as it is 17, folded 12, with oneDNN's convolutions in
channels-last order 10, and 7 in passes of four frames (bench.images).
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.backbones.r2plus1d_fast import OneDNNConv

log = logging.getLogger(__name__)
SAME = 1e-5
"""How much a rewriting may change the output, as a share of its norm: rounding is 1e-6, a mistake 1e-1."""
PADDED = "Conv2dSame"
"""timm's convolution that pads as TensorFlow does, by the size of its input."""

Run = Callable[[nn.Module], torch.Tensor]
"""A forward pass of a network on some image: [1, d]."""
Rewriting = Callable[[nn.Module, Run], nn.Module | None]
"""`folded` or `with_one_dnn`: a network and a pass to a rewritten copy, or None."""


def faster(net: nn.Module, run: Run, rewritings: Sequence[Rewriting]) -> nn.Module:
    """Return the network, which is in eval mode, rewritten for its device.

    Each rewriting is kept only if `run` gives the same before and after; a network that it does not suit stays as it
    was.
    """
    for rewritten in rewritings:
        candidate = rewritten(net, run)
        if candidate is not None and _same(net, candidate, run, rewritten.__name__):
            net = candidate
    return net


def folded(net: nn.Module, run: Run) -> nn.Module | None:
    """Return a copy with each batch normalisation folded into the convolution before it; None if there are none.

    A normalisation in evaluation mode is a factor and an offset a channel, which the convolution's weights can hold.
    `run` shows which normalisation gets which convolution's output. If that output is used elsewhere as well, as in
    some networks, the copy computes something else.
    """
    pairs = _pairs(net, run) if any(isinstance(module, nn.BatchNorm2d) for module in net.modules()) else []
    if not pairs:
        return None
    net = copy.deepcopy(net)
    for conv, norm in pairs:
        convolution, normalisation = net.get_submodule(conv), net.get_submodule(norm)
        assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
        net.set_submodule(conv, fuse_conv_bn_eval(convolution, normalisation))
        # timm's normalisation contains the activation after it.
        net.set_submodule(norm, getattr(normalisation, "act", nn.Identity()).eval())
    return net


def with_one_dnn(net: nn.Module, run: Run) -> nn.Module | None:
    """Return a copy with every convolution sent to oneDNN, in channels-last order, as `r2plus1d_fast.on_cpu` does."""
    if not torch.backends.mkldnn.is_available() or sum(map(_is_convolution, net.modules())) < 2:
        return None  # the one of a vision transformer, which cuts the image into patches, is not worth a copy
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if _is_convolution(module) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            convolution = _PaddedOneDNNConv(module) if type(module).__name__ == PADDED else OneDNNConv(module)
            net.set_submodule(name, convolution.eval())
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return net


class _PaddedOneDNNConv(OneDNNConv):
    """timm's convolution that pads as TensorFlow does, computed by oneDNN."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.kernel_size = conv.kernel_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from timm.layers.padding import pad_same

        return super().forward(pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation)))


def _same(net: nn.Module, candidate: nn.Module, run: Run, what: str) -> bool:
    with torch.inference_mode():
        before = run(net)
        try:
            change = float((run(candidate) - before).norm() / before.norm())
        except (AttributeError, RuntimeError) as error:  # it uses its convolutions in another way than by calling them
            log.info("the network stays as it is, not %s: %s", what, error)
            return False
    if change <= SAME:
        return True
    log.info("the network stays as it is, not %s: that changes its features by %.1g of their norm", what, change)
    return False


def _pairs(net: nn.Module, run: Run) -> list[tuple[str, str]]:
    """Return the names (convolution, normalisation of its output) of those that `run` calls once."""
    outputs: dict[int, tuple[str, torch.Tensor]] = {}  # by identity; held, so that no other tensor gets the same one
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def after_convolution(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            calls[name] += 1
            outputs[id(output)] = name, output

        return note

    def before_norm(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            calls[name] += 1
            if id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], name))

        return note

    hooks = []
    for name, module in net.named_modules():
        if _is_convolution(module):
            hooks.append(module.register_forward_hook(after_convolution(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before_norm(name)))
    try:
        with torch.inference_mode():
            run(net)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(calls[name] == 1 for name in pair)]


def _is_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether it is a plain convolution or timm's padded one; not one that computes its weights."""
    return type(module) is nn.Conv2d or type(module).__name__ == PADDED
