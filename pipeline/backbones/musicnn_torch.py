"""MusicNN (Pons & Serra 2019, arXiv 1909.06654) in PyTorch, for inference. Reads and writes nothing.

The architecture is that of musicnn/models.py: five front-end convolutions whose ReLU and normalisation are pooled over
the mel bands, three residual convolutions over time, temporal max- and mean-pooling, two dense layers.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones import mel
from pipeline.backbones.frozen import freeze, frozen, pick_device, upload
from pipeline.backbones.graphdef import layer
from pipeline.backbones.musicnn_weights import affine


class Affine(nn.Module):
    """Batch normalisation with stored statistics, over axis 1."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, tensors: dict[str, np.ndarray], i: int, rank: int) -> None:
        super().__init__()
        for name, values in zip(("scale", "shift"), affine(tensors, i), strict=True):
            self.register_buffer(name, torch.from_numpy(values).view(1, -1, *(1,) * (rank - 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.shift


class FrontEnd(nn.Module):
    """Convolution, ReLU, normalisation, maximum over the mel bands: [n, 1, frames, 96] → [n, channels, frames].

    The maximum is taken first, on a quarter of the work: ReLU and normalisation are monotonic, falling where the scale
    is negative (421 of 561 channels), so there the convolution's own sign is flipped, since max(-y) = -min(y).
    """

    sign: torch.Tensor
    kernel: torch.Tensor
    bias: torch.Tensor

    def __init__(self, tensors: dict[str, np.ndarray], i: int) -> None:
        super().__init__()
        kernel, bias = (_tensor(tensors, f"{layer('conv2d', i)}/{part}") for part in ("kernel", "bias"))
        self.norm = Affine(tensors, i + 1, rank=3)
        sign = torch.sign(self.norm.scale)
        self.register_buffer("sign", sign)
        self.register_buffer("kernel", (kernel.permute(3, 2, 0, 1) * sign.view(-1, 1, 1, 1)).contiguous())
        self.register_buffer("bias", bias * sign.flatten())
        length = kernel.shape[0]
        self.pad = (0, 0, (length - 1) // 2, length // 2)  # TensorFlow's SAME puts the odd frame after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(F.pad(x, self.pad), self.kernel, self.bias).amax(3)
        normed: torch.Tensor = self.norm(F.relu(y * self.sign))
        return normed


class Middle(nn.Module):
    """Convolution over seven frames, ReLU, normalisation: [n, in, frames] → [n, 64, frames]."""

    kernel: torch.Tensor
    bias: torch.Tensor

    def __init__(self, tensors: dict[str, np.ndarray], i: int) -> None:
        super().__init__()
        kernel, bias = (_tensor(tensors, f"{layer('conv2d', i)}/{part}") for part in ("kernel", "bias"))
        self.register_buffer("kernel", kernel[:, :, 0].permute(2, 1, 0).contiguous())
        self.register_buffer("bias", bias)
        self.norm = Affine(tensors, i + 1, rank=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(F.relu(F.conv1d(x, self.kernel, self.bias, padding=3)))
        return normed


class Network(nn.Module):
    """Log-mel patches [n, 187, 96] → `pooled` [n, 1506], `penultimate` [n, 200], `tags` [n, 50]."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.norm_in = Affine(tensors, 0, rank=4)
        self.front = nn.ModuleList(FrontEnd(tensors, i) for i in range(5))
        self.middle = nn.ModuleList(Middle(tensors, i) for i in range(5, 8))
        self.norm_pool = Affine(tensors, 9, rank=2)
        self.norm_dense = Affine(tensors, 10, rank=2)
        for name in ("dense", "dense_1"):
            self.register_buffer(f"{name}_kernel", _tensor(tensors, f"{name}/kernel"))
            self.register_buffer(f"{name}_bias", _tensor(tensors, f"{name}/bias"))

    def forward(self, patches: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.norm_in(patches[:, None])
        parts = [torch.cat([front(x) for front in self.front], 1)]
        for i, middle in enumerate(self.middle):
            parts.append(middle(parts[-1]) + parts[-1] if i else middle(parts[-1]))
        features = torch.cat(parts, 1)
        pooled = torch.stack([features.amax(2), features.mean(2)], 2).flatten(1)
        penultimate = self.norm_dense(F.relu(self.norm_pool(pooled) @ self.dense_kernel + self.dense_bias))
        tags = torch.sigmoid(penultimate @ self.dense_1_kernel + self.dense_1_bias)
        return {"pooled": pooled, "penultimate": penultimate, "tags": tags}


class TorchEngine:
    """The network and its front-end on one device."""

    def __init__(self, tensors: dict[str, np.ndarray], device: str, threads: int) -> None:
        self.device = pick_device(device)
        self.net = freeze(Network(tensors), self.device, threads)
        self._mel = mel.Torch(self.device)

    def patches(self, segments: np.ndarray) -> torch.Tensor:
        """Return the log-mel patches of segments, [n, samples] float32 → [n · k, 187, 96] float32, on the device."""
        with frozen(self.net):
            return self._mel.patches(upload(segments, self.device))

    def outputs(self, patches: np.ndarray | torch.Tensor) -> dict[str, np.ndarray]:
        """Return float32 `pooled` [m, 1506], `penultimate` [m, 200], `tags` [m, 50] of patches [m, 187, 96] float32."""
        # On a CPU one patch at a time is faster than a batch, whose activations do not fit into the cache.
        size = 1 if self.device.type == "cpu" else len(patches)
        with frozen(self.net):
            if isinstance(patches, np.ndarray):
                patches = upload(patches, self.device)
            results = [self.net(batch) for batch in torch.split(patches, size)]
            return {key: torch.cat([result[key] for result in results]).cpu().numpy() for key in results[0]}


def _tensor(tensors: dict[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(tensors[name].astype(np.float32))
