"""How training computes on a CPU: the same float32 arithmetic as PyTorch's defaults, in faster code. Reads and writes
nothing.

PyTorch's matrix products are MKL's, which on processors of other makers than Intel leaves out their widest
instructions, where oneDNN, which comes with PyTorch too, uses them; its dropout draws on one core, a number at a time;
and a contrastive loss takes the same exponentials twice. bench/train.py measures what that is worth. Sums are rounded
in another order and other units are dropped, with the same odds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from config.cli import UserError
from config.memory import keep_freed_memory

log = logging.getLogger("kernels")
Matmul = Literal["auto", "torch", "onednn", "tf32"]
BLOCKS = 8 << 20
"""Bytes of the largest freed block that is kept: a batch's tensors are smaller."""


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return left [n, k] · rightᵀ [k, m] (+ bias [m]), float32 [n, m], by oneDNN and without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


class OneDNNLinear(torch.autograd.Function):
    """`functional.linear` for float32 [n, in], its gradients included, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Map [n, in], [out, in] and [out] to [n, out]."""
        ctx.save_for_backward(features, weight)
        ctx.biased = bias is not None
        return product(features, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of the inputs that need one, None for the others."""
        features, weight = ctx.saved_tensors
        needed, gradient = ctx.needs_input_grad, gradient.contiguous()
        return (
            product(gradient, weight.T) if needed[0] else None,
            product(gradient.T, features.T) if needed[1] else None,
            gradient.sum(dim=0) if ctx.biased and needed[2] else None,
        )


class FastDropout(torch.autograd.Function):
    """`functional.dropout` while training, comparing 16 random bits for every number; rates are exact to 1/65,536."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rate: float) -> Tensor:
        """Return float32 of the shape of `features`, of which a share `rate` is zeroed."""
        count = features.numel()
        # 64 bits a draw: the generator's calls are what costs time.
        draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        mask = draws.view(torch.int16)[:count].view(features.shape) >= round(rate * 2**16) - 2**15
        scale = torch.where(mask, 1 / (1 - rate), 0.0)
        ctx.save_for_backward(scale)
        return features * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient, 0 for what was dropped."""
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


class LogSumExps(torch.autograd.Function):
    """`logsumexp` over the rows and over the columns of one matrix, whose exponentials are computed only once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [n, m] to [n] and [m]. Exact for results within 57 (e^-57 ≈ 1e-25) of the largest number."""
        top = logits.max()
        shares = (logits - top).exp_()
        sums = shares.sum(1), shares.sum(0)
        ctx.save_for_backward(shares, *sums)
        return sums[0].log() + top, sums[1].log() + top

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the gradient [n, m]: each exponential's share of its row and of its column."""
        shares, row_sums, column_sums = ctx.saved_tensors
        return torch.add((rows / row_sums)[:, None], (columns / column_sums)[None]).mul_(shares)


def logsumexps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return `logits.logsumexp(1)` and `logits.logsumexp(0)` of float32 [n, m].

    On a CPU both use the same exponentials, unless the numbers are so far apart (a temperature near 0.01) that those of
    whole rows or columns would vanish.
    """
    if logits.device.type == "cpu":
        rows, columns = LogSumExps.apply(logits)  # type: ignore[no-untyped-call]  # torch has none
        top = logits.detach().max()
        if min(rows.min(), columns.min()) > top - 57:
            return rows, columns
    return logits.logsumexp(1), logits.logsumexp(0)


class OneDNN(TorchFunctionMode):
    """While this is entered, float32 linear layers and matrix products are oneDNN's, and dropout is `FastDropout`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call oneDNN or `FastDropout` instead of `func` where they can do the same; otherwise `func`."""
        kwargs = kwargs or {}
        if func is functional.linear and _matrices(*args[:2]):
            return OneDNNLinear.apply(*args, *[kwargs.get("bias")] * (3 - len(args)))  # type: ignore[no-untyped-call]
        if func in (torch.matmul, Tensor.matmul, Tensor.__matmul__) and _matrices(*args):
            return OneDNNLinear.apply(args[0], args[1].T, None)  # type: ignore[no-untyped-call]
        if func is functional.dropout and args[0].dtype == torch.float32:
            rate, training = kwargs.get("p", 0.5), kwargs.get("training", True)
            return FastDropout.apply(args[0], rate) if training and rate else args[0]  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)


def _matrices(*tensors: Tensor) -> bool:
    return all(tensor.dim() == 2 and tensor.dtype == torch.float32 for tensor in tensors)


def kernels(matmul: Matmul, device: str) -> AbstractContextManager[object]:
    """Return a context in which training computes as `heads.matmul` says. Raises UserError if the device cannot."""
    if (matmul == "tf32" and device == "cpu") or (matmul == "onednn" and device != "cpu"):
        raise UserError(f"heads.matmul: {matmul} does not exist on this machine's {device}; use `auto`")
    torch.backends.cuda.matmul.allow_tf32 = matmul == "tf32"
    if device == "cpu":
        keep_freed_memory(BLOCKS)
    if matmul == "onednn" or (matmul == "auto" and device == "cpu" and not intel()):
        if not torch.backends.mkldnn.is_available():
            if matmul == "onednn":
                raise UserError("heads.matmul: onednn is not part of this PyTorch; use `torch`")
            return nullcontext()
        log.info("matrix products by oneDNN (heads.matmul)")
        return OneDNN()
    return nullcontext()


def intel() -> bool:
    """Return whether the processor is Intel's, on which MKL uses its widest instructions."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
