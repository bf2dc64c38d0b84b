"""Running a network that must not change: device, threads, eval mode, full float32. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from config.cli import UserError


def pick_device(backbone: str, device: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device; UserError if `cuda` is asked for and PyTorch sees no GPU."""
    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise UserError(f"backbones.{backbone}.device: cuda, but PyTorch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if gpu and device != "cpu" else "cpu")


def freeze(net: nn.Module, device: torch.device, threads: int) -> nn.Module:
    """Move the network to the device in eval mode without gradients, and give this process's torch its cores."""
    torch.set_num_threads(threads)
    return net.to(device).eval().requires_grad_(False)


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Around every forward pass. Raises RuntimeError if any part of the network is in training mode.

    TF32 is off: it would move features by 1e-3, and a cache would then depend on which machine made which shard.
    """
    for name, module in net.named_modules():
        if module.training:
            raise RuntimeError(f"the backbone's '{name or 'network'}' is in training mode; its features would be wrong")
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        yield
