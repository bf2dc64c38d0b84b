"""Running a network that must not change: device, threads, eval mode, full float32. Reads and writes nothing.

`mode: train` of a kind means eval mode with `own_statistics`: batch norm computes as in training mode, over one segment
a pass, and nothing else is random or changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from config.cli import UserError


def pick_device(device: str) -> torch.device:
    """Return the torch device for `auto`, `cpu` or `cuda`. Raises UserError for `cuda` if PyTorch sees no GPU."""
    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise UserError("device: cuda, but PyTorch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if gpu and device != "cpu" else "cpu")


def check_bfloat16(device: torch.device) -> None:
    """Convolve one number in bfloat16. Raises UserError if `device` is a processor that cannot (it lacks AVX-512)."""
    if device.type != "cpu":
        return
    number = torch.zeros(1, 1, 1, 1, 1, dtype=torch.bfloat16)
    try:
        torch.mkldnn_convolution(number, number, None, (0, 0, 0), (1, 1, 1), (1, 1, 1), 1)
    except RuntimeError as error:
        raise UserError(
            f"options.precision: bfloat16, but this processor cannot compute in it ({error}); "
            "use precision: float32, or device: cuda"
        ) from None


def freeze(net: nn.Module, device: torch.device, threads: int) -> nn.Module:
    """Move the network to the device in eval mode without gradients, and set the number of torch threads."""
    torch.set_num_threads(threads)
    return net.to(device).eval().requires_grad_(False)


def own_statistics(net: nn.Module) -> None:
    """Let batch normalisations use the statistics of each pass, in place: those that they were trained to use go."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Wrap every forward pass in this. Raises RuntimeError if any part of the network is in training mode.

    TF32 is off: it would move features by 1e-3, and a cache would then depend on which machine made which shard.
    """
    for name, module in net.named_modules():
        if module.training:
            raise RuntimeError(f"the backbone's '{name or 'network'}' is in training mode; its features would be wrong")
    with torch.inference_mode(), _FLAGS, _stream(next(net.buffers(), next(net.parameters(), None))):
        yield


class _Flags:
    """cuDNN's settings, global to the process: the first pass to enter sets them, the last to leave restores them."""

    def __init__(self) -> None:
        self._lock, self._inside, self._settings = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
                self._settings.enter_context(flags)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._settings.close()


_FLAGS = _Flags()
_LOCAL = threading.local()


@contextmanager
def _stream(weights: torch.Tensor | None) -> Iterator[None]:
    """Use a CUDA stream for each thread, so that the upload of one pass overlaps the kernels of another."""
    if weights is None or weights.device.type != "cuda":
        yield
        return
    if not hasattr(_LOCAL, "stream"):
        torch.cuda.synchronize(weights.device)  # the weights' own upload, on the default stream, is over
        _LOCAL.stream = torch.cuda.Stream(weights.device)
    with torch.cuda.stream(_LOCAL.stream):
        yield


def upload(segments: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy the array to the device; to a GPU from pinned memory without waiting. Call it inside `frozen`."""
    tensor = torch.from_numpy(segments)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
