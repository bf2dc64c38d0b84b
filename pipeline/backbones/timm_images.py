"""Any image network of timm on the frames of a segment: its pooled features, pooled over time. Reads the weights file.

A frame gives what the network's classifier would get; a segment the mean of its frames, their maximum, or both. Frames
are scaled, cropped and normalised as the network's weights were trained. Importing this module does not import torch.

With `mode: train` batch norm uses the statistics of the segment's own frames instead of those that it was trained to
use, as the paper's published code did by leaving its networks in training mode. There the statistics were those of
whatever was in a batch; here a segment's features depend on that segment alone. Dropout stays off.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.memory import LARGEST, keep_freed_memory
from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.timm_models import (
    build,
    check_batch_norm,
    check_name,
    frames_of,
    is_trained,
    pooled,
    pooled_width,
)
from pipeline.readers import VideoRequest

if TYPE_CHECKING:
    import torch
    from torch import nn

AT_ONCE = {"cpu": 4, "cuda": 128}
"""Frames in a forward pass. On a CPU, one alone takes a third longer than one of four; the tensors of eight are too
large for glibc to keep them for the next pass."""


class TimmImages(Backbone):
    """Segments [n, frames, height, width, 3] uint8 RGB → [n, d] float32; d is the network's, twice with `mean_max`."""

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        import torch
        from safetensors.torch import load_file

        from pipeline.backbones.frozen import check_bfloat16, freeze, own_statistics, pick_device
        from pipeline.backbones.image_fast import faster, folded, with_one_dnn

        self.options, self.dim = options, self.width(options)
        self.device = pick_device(device)
        half = options["precision"] == "bfloat16"
        if half:
            check_bfloat16(self.device)
        frames = frames_of(options["model"], options["crop"])
        self._crop = frames.crop
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (frames.mean, frames.std)
        )
        self._dtype = torch.float32
        if self.device.type == "cpu":
            keep_freed_memory(LARGEST)
        net = freeze(loaded(options["model"], load_file(weights)), self.device, threads)
        self._train = options["mode"] == "train"
        if self._train:
            own_statistics(net)
        # What normalises by its input's own statistics is no constant that a convolution could hold.
        rewritings = [*([] if self._train else [folded]), *([with_one_dnn] if self.device.type == "cpu" else [])]
        net = faster(net, self._run, rewritings).requires_grad_(False)
        if half:
            self._dtype = torch.bfloat16
        self.net = net.to(self._dtype)

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """See the base. UserError for a model without a pooled feature, or `mode: train` of one without batch norm."""
        if options["mode"] == "train":
            check_batch_norm(options["model"])
        return pooled_width(options["model"]) * (2 if options["pool"] == "mean_max" else 1)

    @staticmethod
    def architecture(options: dict[str, Any]) -> dict[str, Any]:
        """See the base."""
        return {"model": options["model"]}

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base and `timm_weights`."""
        from pipeline.backbones.timm_weights import fetch

        return fetch(source, folder)

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code.

        What timm's configuration says stands here as values, so that another version of timm cannot change features
        under the same key.
        """
        frames = frames_of(options["model"], options["crop"])
        mode = {} if options["mode"] == "eval" else {"mode": options["mode"]}
        return mode | {
            "extractor": 1,
            "architecture": check_name(options["model"]),
            "fps": options["fps"],
            "pool": options["pool"],
            "resize": frames.resize if isinstance(frames.resize, int) else list(frames.resize),
            "crop": list(frames.crop),
            "interpolation": frames.interpolation,
            "mean": list(frames.mean),
            "std": list(frames.std),
            "precision": options["precision"],
        }

    @staticmethod
    def request(options: dict[str, Any]) -> VideoRequest:
        """See the base."""
        frames = frames_of(options["model"], options["crop"])
        return VideoRequest(options["fps"], frames.resize, frames.crop, frames.interpolation)

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for a wrong shape or type."""
        import torch

        from pipeline.backbones.frozen import frozen, upload

        shape = segments.shape
        if segments.dtype != np.uint8 or len(shape) != 5 or shape[1] == 0 or shape[2:] != (*self._crop, 3):
            height, width = self._crop
            wanted = f"uint8 [n, frames, {height}, {width}, 3]"
            raise ValueError(f"{self.options['model']} takes {wanted}, got {segments.dtype} {list(shape)}")
        if not len(segments):
            return np.empty((0, self.dim), np.float32)
        images = segments.reshape(-1, *shape[2:])
        with frozen(self.net):
            # In training mode a pass is a segment, so that its features depend on nothing beside it.
            at_once = shape[1] if self._train else AT_ONCE[self.device.type]
            batches = torch.split(upload(images, self.device), at_once)
            rows = torch.cat([pooled(self.net, self._normalised(batch)).float() for batch in batches])
            frames = rows.view(*shape[:2], -1)
            over_time = {"mean": frames.mean(1), "max": frames.amax(1)}
            pool = self.options["pool"]
            return torch.cat([over_time[part] for part in pool.split("_")], dim=1).cpu().numpy()

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images [n, h, w, 3] as the network's input [n, 3, h, w]."""
        return ((images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std).to(self._dtype)

    def _run(self, net: nn.Module) -> torch.Tensor:
        """Return the pooled features of an image of waves and noise, always the same: [1, d]."""
        import torch

        from pipeline.backbones.frozen import frozen

        height, width = self._crop
        generator = torch.Generator().manual_seed(0)
        waves = torch.sin(torch.arange(height)[:, None, None] / 9 + torch.arange(width)[:, None] / 7 + torch.arange(3))
        image = (waves * 80 + torch.rand(height, width, 3, generator=generator) * 40 + 100).to(torch.uint8)
        with frozen(net):
            return pooled(net, self._normalised(image[None].to(self.device)))


def loaded(name: str, state: dict[str, torch.Tensor]) -> nn.Module:
    """Return the network with these weights. It is built as itself and not on `meta`, for what is computed then."""
    import torch

    with torch.random.fork_rng(devices=[]):
        net = build(name)
    missing = [key for key, value in net.state_dict().items() if is_trained(key, value) and key not in state]
    unexpected = net.load_state_dict(state, strict=False).unexpected_keys
    assert not missing and not unexpected, (missing, unexpected)
    return net
