"""What the benches do with networks: random weights, floating-point work, the machine's peak.

Reads and writes nothing but the weights files it is told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def random_weights(folder: Path, name: str) -> Path:
    """Write the backbone's random weights (seed 0) as safetensors into the folder; return their path."""
    from safetensors.numpy import save_file

    from pipeline.backbones.base import WeightsSource
    from pipeline.backbones.registry import load_class, resolve_options

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    tensors, _ = load_class(name).fetch(
        WeightsSource("random", 0, resolve_options(name, {}), f"backbones.{name}.weights"), folder
    )
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    return path


def backbone(name: str, weights: Path, threads: int = 1) -> Any:
    """Load the backbone on the CPU."""
    from pipeline.backbones.registry import load_class, resolve_options

    return load_class(name)(weights, resolve_options(name, {}), "cpu", threads)


def peak_gflops(threads: int, size: int = 2048, repeats: int = 3) -> float:
    """Measure the machine's float32 matrix rate, GFLOP/s of processor time: the best of numpy, torch and oneDNN.

    Torch's own library is MKL, which on processors of other makers leaves out their widest instructions.
    """
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    images, kernel = a.T.reshape(1, size, 32, size // 32).contiguous(), b.reshape(size, size, 1, 1)
    products: tuple[Callable[[], Any], ...] = (
        lambda: a @ b,
        lambda: a.numpy() @ b.numpy(),
        lambda: torch.mkldnn_convolution(images, kernel, None, (0, 0), (1, 1), (1, 1), 1),
    )
    best = 0.0
    for product in products:
        for _ in range(repeats):
            clock = time.process_time()
            product()
            best = max(best, 2 * size**3 * threads / (time.process_time() - clock) / 1e9)
    return best


def gflop(net: Any, example: Any) -> float:
    """Count GFLOP of one forward pass of plain torch operations (a multiplication and an addition are two)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(example)
    return float(counter.get_total_flops() / 1e9)


def r2plus1d_gflop(frames: int) -> float:
    """Count GFLOP of a clip of so many frames of 112×112 (folded or not, the convolutions are the same)."""
    import torch

    from pipeline.backbones.r2plus1d import _network

    with torch.device("meta"):
        return gflop(_network().eval(), torch.empty(1, 3, frames, 112, 112))


def musicnn_gflop(weights: Path) -> float:
    """Count GFLOP of one patch of 187 frames."""
    import torch

    return gflop(backbone("musicnn", weights).engine.net, torch.zeros(1, 187, 96))
