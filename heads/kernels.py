"""How training computes on a CPU: the same float32 arithmetic as PyTorch's defaults, in faster code. Reads and writes
nothing.

PyTorch's matrix products are MKL's, which on processors of other makers than Intel leaves out their widest
instructions, where oneDNN, which comes with PyTorch too, uses them; its dropout draws on one core, a number at a time;
and a contrastive loss takes the same exponentials twice. bench/train.py measures what that is worth. Sums are rounded
in another order and other units are dropped, with the same odds.
"""

from __future__ import annotations

import ctypes
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

log = logging.getLogger("kernels")
Matmul = Literal["auto", "torch", "onednn", "tf32"]


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left [n, k] · rightᵀ [k, m] (+ bias [m]) in float32 by oneDNN, without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


class Linear(torch.autograd.Function):
    """`functional.linear` for float32 [n, in], its gradients included, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[n, in], [out, in], [out] → [n, out]."""
        ctx.save_for_backward(features, weight)
        ctx.biased = bias is not None
        return product(features, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        """Gradients of those that need one."""
        features, weight = ctx.saved_tensors
        wanted, gradient = ctx.needs_input_grad, gradient.contiguous()
        return (
            product(gradient, weight.T) if wanted[0] else None,
            product(gradient.T, features.T) if wanted[1] else None,
            gradient.sum(dim=0) if ctx.biased and wanted[2] else None,
        )


class Dropout(torch.autograd.Function):
    """`functional.dropout` while training, by comparing 16 random bits for every number; p is exact to 1/65,536."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, p: float) -> Tensor:
        """Float32 of any shape → the same."""
        count = features.numel()
        # 64 bits a draw: the generator's calls are what costs time.
        draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[:count].view(features.shape) >= round(p * 2**16) - 2**15
        scale = torch.where(kept, 1 / (1 - p), 0.0)
        ctx.save_for_backward(scale)
        return features * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The gradient of what was kept."""
        (scale,) = ctx.saved_tensors
        return gradient * scale, None


class LogSumExps(torch.autograd.Function):
    """`logsumexp` over the rows and over the columns of one matrix, whose exponentials are computed only once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [n, m] → [n] and [m]. Exact where the results are within 57 (e^-57 ≈ 1e-25) of the largest number."""
        top = logits.max()
        shares = (logits - top).exp_()
        sums = shares.sum(1), shares.sum(0)
        ctx.save_for_backward(shares, *sums)
        return sums[0].log() + top, sums[1].log() + top

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:  # type: ignore[override]
        """Each exponential's share of its row and of its column."""
        shares, row_sums, column_sums = ctx.saved_tensors
        return torch.add((rows / row_sums)[:, None], (columns / column_sums)[None]).mul_(shares)


def logsumexps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`logits.logsumexp(1)` and `logits.logsumexp(0)` of float32 [n, m]; on a CPU the exponentials are shared.

    Unless the numbers are so far apart (a temperature near 0.01) that those of whole rows or columns would vanish.
    """
    if logits.device.type == "cpu":
        rows, columns = LogSumExps.apply(logits)
        top = logits.detach().max()
        if min(rows.min(), columns.min()) > top - 57:
            return rows, columns
    return logits.logsumexp(1), logits.logsumexp(0)


class OneDNN(TorchFunctionMode):
    """While this is entered, float32 linear layers and products of matrices are oneDNN's, and dropout is `Dropout`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace what is faster elsewhere."""
        kwargs = kwargs or {}
        if func is functional.linear and _matrices(*args[:2]):
            return Linear.apply(*args, *[kwargs.get("bias")] * (3 - len(args)))
        if func in (torch.matmul, Tensor.matmul, Tensor.__matmul__) and _matrices(*args):
            return Linear.apply(args[0], args[1].T, None)
        if func is functional.dropout and args[0].dtype == torch.float32:
            p, training = kwargs.get("p", 0.5), kwargs.get("training", True)
            return Dropout.apply(args[0], p) if training and p else args[0]
        return func(*args, **kwargs)


def _matrices(*tensors: Tensor) -> bool:
    return all(tensor.dim() == 2 and tensor.dtype == torch.float32 for tensor in tensors)


def kernels(matmul: Matmul, device: str) -> AbstractContextManager[object]:
    """A context in which training on this device computes as `heads.matmul` says. UserError if it cannot be had."""
    if (matmul == "tf32" and device == "cpu") or (matmul == "onednn" and device != "cpu"):
        raise UserError(f"heads.matmul: {matmul} does not exist on this machine's {device}; use `auto`")
    torch.backends.cuda.matmul.allow_tf32 = matmul == "tf32"
    if device == "cpu":
        keep_freed_memory()
    if matmul == "onednn" or (matmul == "auto" and device == "cpu" and not intel()):
        if not torch.backends.mkldnn.is_available():
            if matmul == "onednn":
                raise UserError("heads.matmul: onednn is not part of this PyTorch; use `torch`")
            return nullcontext()
        log.info("matrix products by oneDNN (heads.matmul)")
        return OneDNN()
    return nullcontext()


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""mallopt's parameters in malloc.h."""


def keep_freed_memory(largest: int = 8 << 20, most: int = 256 << 20) -> None:
    """Have glibc keep freed blocks of up to `largest` bytes, `most` in all, for the next batch's equal tensors.

    By default it gives megabytes back to the system, which then maps and clears them anew, several times a batch.
    Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, largest)
        mallopt(TRIM_THRESHOLD, most)


def intel() -> bool:
    """Whether MKL is at home here."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return False
