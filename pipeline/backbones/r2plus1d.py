"""R(2+1)D-18 for video: 512 features a segment. Reads the weights file; writes nothing but `fetch`'s download.

Tran et al. 2018, arXiv 1711.11248; torchvision's `r2plus1d_18` without its classification layer, in eval mode, with the
normalisation of its Kinetics-400 weights. Importing this module does not import torch: decode workers and the plan ask
it for `request` and `preprocessing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.readers import VideoRequest
from pipeline.weights import check_tensors, local, read_safetensors, unknown_source

if TYPE_CHECKING:
    import torch
    from torch import nn

LOCAL = "torchvision's r2plus1d_18 .pth state dict, or a .safetensors"
ORIGIN = "torchvision R2Plus1D_18_Weights.KINETICS400_V1"
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
RESIZE = (128, 171)
CROP = (112, 112)
UNUSED = ("fc.", "num_batches_tracked")
"""Prefix and suffix of the parts of a state dict that features do not depend on: classification layer, counters."""


class R2Plus1D(Backbone):
    """Segments [n, frames, 112, 112, 3] uint8 RGB, resized to 128×171 and centre-cropped → [n, 512] float32."""

    dim = 512

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        import torch
        from safetensors.torch import load_file

        from pipeline.backbones.frozen import check_bfloat16, freeze, own_statistics, pick_device
        from pipeline.backbones.r2plus1d_fast import fold, on_cpu

        self.device = pick_device(device)
        half = options.get("precision") == "bfloat16"
        if half:
            check_bfloat16(self.device)
        with torch.device("meta"):  # without memory and random numbers, so that a missing tensor is an error
            net = _network()
        net.load_state_dict(load_file(weights), strict=False, assign=True)
        # `mode: train` is for the question `ablation` alone: the published code left the network in training mode.
        self._train = options.get("mode") == "train"
        if self._train:
            own_statistics(net.eval())
        else:
            net = fold(net.eval())
        self.net = freeze(on_cpu(net) if self.device.type == "cpu" else net, self.device, threads)
        # Not the default: three times as fast where the hardware has it, but the differences between videos keep a
        # cosine of only 0.999 (bench.modes).
        self._dtype = torch.bfloat16 if half else torch.float32
        self.net = self.net.to(self._dtype)
        self._mean, self._std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1, 1) for values in (MEAN, STD))

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base; the source is `kinetics400` (torchvision's R2Plus1D_18_Weights), `random` or a local path."""
        import torch

        from pipeline.backbones.torch_weights import arrays, from_hub, read_state
        from pipeline.backbones.torchvision_import import import_torchvision

        key = source.key
        path = local(source.name, key, LOCAL)
        if source.name == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(source.seed)
                state = _network().state_dict()
            origin = f"random numbers, seed {source.seed}"
        elif source.name == "kinetics400":
            url = import_torchvision().models.video.R2Plus1D_18_Weights.KINETICS400_V1.url
            state, origin = from_hub(url, source.name, folder, key, LOCAL), ORIGIN
        elif path is None:
            raise unknown_source(key, source.name, ("kinetics400", "random"), LOCAL)
        elif path.suffix == ".safetensors":
            return check_tensors(read_safetensors(path, key), _shapes(), key, path.name), f"local file {path.name}"
        else:
            state, origin = read_state(path, key, LOCAL), f"local file {path.name}"
        name = path.name if path else source.name
        return check_tensors(arrays(state, _unused, name, key, LOCAL), _shapes(), key, name), origin

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        size = {"resize": list(RESIZE), "crop": list(CROP)}
        # Only where it is not float32, so that the keys of all caches in float32 stay what they are.
        precision = {"precision": options["precision"]} if options.get("precision", "float32") != "float32" else {}
        later = precision | ({"mode": "train"} if options.get("mode") == "train" else {})
        return {"extractor": 1, "fps": options["fps"], **size, "mean": list(MEAN), "std": list(STD), **later}

    @staticmethod
    def request(options: dict[str, Any]) -> VideoRequest:
        return VideoRequest(options["fps"], RESIZE, CROP)

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for a wrong shape or type."""
        import torch

        from pipeline.backbones.frozen import frozen, upload

        shape = segments.shape
        if segments.dtype != np.uint8 or len(shape) != 5 or shape[1] == 0 or shape[2:] != (*CROP, 3):
            raise ValueError(f"R(2+1)D takes uint8 [n, frames, 112, 112, 3], got {segments.dtype} {list(shape)}")
        if not len(segments):
            return np.empty((0, self.dim), np.float32)
        # On a CPU one clip at a time is as fast as a batch, and needs less memory. In training mode a clip is scaled
        # by its own statistics, so that its features depend on nothing beside it.
        size = 1 if self.device.type == "cpu" or self._train else len(segments)
        with frozen(self.net):
            rows = [self.net(self._normalised(batch)) for batch in torch.split(upload(segments, self.device), size)]
            return torch.cat(rows).float().cpu().numpy()

    def _normalised(self, frames: torch.Tensor) -> torch.Tensor:
        """Return uint8 frames [n, t, h, w, 3] as the network's input [n, 3, t, h, w]."""
        return ((frames.permute(0, 4, 1, 2, 3).float() / 255 - self._mean) / self._std).to(self._dtype)


def _network() -> nn.Module:
    """Return torchvision's network, freshly initialised, with 512 features as output instead of 400 classes."""
    from torch import nn

    from pipeline.backbones.torchvision_import import import_torchvision

    net: nn.Module = import_torchvision().models.video.r2plus1d_18(weights=None)
    net.fc = nn.Identity()
    return net


def _shapes() -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in _network().state_dict().items() if not _unused(name)}


def _unused(name: str) -> bool:
    return name.startswith(UNUSED[0]) or name.endswith(UNUSED[1])
