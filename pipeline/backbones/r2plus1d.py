"""R(2+1)D-18 for video: 512 features a segment. Reads the weights file; writes nothing but `fetch`'s download.

Tran et al. 2018, arXiv 1711.11248; torchvision's `r2plus1d_18` without its classification layer, in eval mode, with the
normalisation of its Kinetics-400 weights. Importing this module does not import torch: decode workers and the plan ask
it for `request` and `preprocessing`.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.cli import UserError
from pipeline.backbones.base import Backbone, Source
from pipeline.readers import VideoRequest
from pipeline.weights import check_tensors, local, read_safetensors, refuse_in_a_job, unavailable, unknown_source

if TYPE_CHECKING:
    import torch
    from torch import nn

LOCAL = "torchvision's r2plus1d_18 .pth state dict, or a .safetensors"
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
RESIZE = (128, 171)
CROP = (112, 112)
UNUSED = ("fc.", "num_batches_tracked")
"""Prefix and suffix of the parts of a state dict that features do not depend on: classification layer, counters."""

log = logging.getLogger(__name__)


class R2Plus1D(Backbone):
    """Segments [n, frames, 112, 112, 3] uint8 RGB, resized to 128×171 and centre-cropped → [n, 512] float32."""

    dim = 512

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        import torch
        from safetensors.torch import load_file

        from pipeline.backbones.frozen import check_bfloat16, freeze, pick_device
        from pipeline.backbones.r2plus1d_fast import fold, on_cpu

        self.device = pick_device(device)
        half = options.get("precision") == "bfloat16"
        if half:
            check_bfloat16(self.device)
        with torch.device("meta"):  # without memory and random numbers, so that a missing tensor is an error
            net = _network()
        net.load_state_dict(load_file(weights), strict=False, assign=True)
        net = fold(net.eval())
        self.net = freeze(on_cpu(net) if self.device.type == "cpu" else net, self.device, threads)
        # Not the default: three times as fast where the hardware has it, but the differences between videos keep a
        # cosine of only 0.999 (bench.modes).
        self._dtype = torch.bfloat16 if half else torch.float32
        self.net = self.net.to(self._dtype)
        self._mean, self._std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1, 1) for v in (MEAN, STD))

    @staticmethod
    def fetch(source: Source, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base; the source is `kinetics400` (torchvision's R2Plus1D_18_Weights), `random` or a local path."""
        import torch

        key = source.key
        path = local(source.name, key, LOCAL)
        if source.name == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(source.seed)
                state = _network().state_dict()
            origin = f"random numbers, seed {source.seed}"
        elif source.name == "kinetics400":
            state, origin = _kinetics400(folder, key), "torchvision R2Plus1D_18_Weights.KINETICS400_V1"
        elif path is None:
            raise unknown_source(key, source.name, ("kinetics400", "random"), LOCAL)
        elif path.suffix == ".safetensors":
            return check_tensors(read_safetensors(path, key), _shapes(), key, path.name), f"local file {path.name}"
        else:
            state, origin = _read_state(path, key), f"local file {path.name}"
        name = path.name if path else source.name
        return check_tensors(_arrays(state, name, key), _shapes(), key, name), origin

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        size = {"resize": list(RESIZE), "crop": list(CROP)}
        # Only where it is not float32, so that the keys of all caches in float32 stay what they are.
        precision = {"precision": options["precision"]} if options.get("precision", "float32") != "float32" else {}
        return {"extractor": 1, "fps": options["fps"], **size, "mean": list(MEAN), "std": list(STD), **precision}

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
        # On a CPU one clip at a time is as fast as a batch, and needs less memory.
        size = 1 if self.device.type == "cpu" else len(segments)
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


def _arrays(state: dict[str, torch.Tensor], source: str, key: str) -> dict[str, np.ndarray]:
    import torch

    needed = {str(name): value for name, value in state.items() if not _unused(str(name))}
    for name, value in needed.items():
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"{key}: '{name}' of {source} is {kind}, not a float32 tensor. It should be {LOCAL}.")
    return {name: value.detach().numpy() for name, value in needed.items()}


def _kinetics400(folder: Path, key: str) -> dict[str, torch.Tensor]:
    """Read the weights from torch's own download cache or download them into `folder`; checked by their hash."""
    import torch

    from pipeline.backbones.torchvision_import import import_torchvision

    url = import_torchvision().models.video.R2Plus1D_18_Weights.KINETICS400_V1.url
    name = url.rpartition("/")[2]
    start = name.removesuffix(".pth").rpartition("-")[2]  # torch.hub's convention: NAME-<start of the sha256>.pth
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        with cached.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(start):
                return _read_state(cached, key)
        log.warning("%s is damaged (its sha256 does not start with %s); downloading it again", cached, start)
    refuse_in_a_job(key, "kinetics400")
    log.info("downloading %s", url)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a firewall that drops packets would otherwise stall the run without a message
    try:
        torch.hub.download_url_to_file(url, str(folder / name), hash_prefix=start, progress=False)
    except (OSError, RuntimeError) as error:  # URLError and time-outs are OSErrors, a wrong hash is a RuntimeError
        raise unavailable(key, "kinetics400", f"downloading {url} failed: {error}", LOCAL) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return _read_state(folder / name, key)


def _read_state(path: Path, key: str) -> dict[str, torch.Tensor]:
    """Return a state dict of tensors. `weights_only` keeps an untrusted pickle from running code."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an untrusted file can make the unpickler raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{key}: {path} cannot be read as tensors: {reason[0]} It should be {LOCAL}.") from None
    if not isinstance(state, dict):
        raise UserError(f"{key}: {path} holds a {type(state).__name__}, not a state dict. It should be {LOCAL}.")
    return state
