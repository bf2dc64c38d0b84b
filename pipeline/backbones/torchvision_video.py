"""torchvision's video networks (R3D, MC3, R(2+1)D, S3D, MViT, Swin3D), frozen, with the transforms of their weights.

Reads the weights file; writes nothing but `fetch`'s download. Size, crop, mean, standard deviation and the fewest
frames come from torchvision's description of the default weights (`Weights.transforms()`, `.meta`), the width from the
network. Importing this module does not import torch. The paper's `r2plus1d` is a kind of its own.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.cli import UserError
from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.clips import RULE, clip_starts
from pipeline.readers import VideoRequest
from pipeline.weights import check_tensors, local, read_safetensors, unknown_source

if TYPE_CHECKING:
    import torch
    from torch import nn

LOCAL = "torchvision's .pth state dict of the model, or a .safetensors"
CLIP = {"mvit": 16, "swin3d": 32}
"""{beginning of a model's name: frames that it looks at}: those of its training. MViT takes no other number, and Swin3D
fewer. The convolutional networks take any number, and are given the whole segment."""
EXACT = ("mvit",)
CONSTANTS = ("num_batches_tracked", "relative_position_index")
"""Ends of the names of tensors that are no weights: the network has them when it is built."""


class TorchvisionVideo(Backbone):
    """Segments [n, frames, height, width, 3] uint8 RGB of the crop's size → [n, dim] float32.

    The classification layer is removed. A segment with more frames than the network looks at is cut into clips
    (`clip_starts`), and its features are the mean of theirs.
    """

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        import torch
        from safetensors.torch import load_file

        from pipeline.backbones.frozen import check_bfloat16, freeze, pick_device
        from pipeline.backbones.r2plus1d_fast import fold, on_cpu

        self.device = pick_device(device)
        half = options["precision"] == "bfloat16"
        if half:
            check_bfloat16(self.device)
        about = transforms(options["model"])
        self.dim, self._crop = self.width(options), tuple(about["crop"])
        self._least, self._clip = frames_of(options["model"])
        with torch.random.fork_rng(devices=[]):  # not on `meta`, which would leave Swin3D's position indices empty
            net, unused = network(options["model"])
        missing, surplus = net.load_state_dict(load_file(weights), strict=False)
        if surplus or any(not _unused(name, unused) for name in missing):
            raise UserError(f"weights: {weights} are not of {options['model']}")
        net = net.eval()
        if any(isinstance(module, torch.nn.BatchNorm3d) for module in net.modules()):
            net = fold(net)
            net = on_cpu(net) if self.device.type == "cpu" else net
        self._dtype = torch.bfloat16 if half else torch.float32
        self.net = freeze(net, self.device, threads).to(self._dtype)
        self._mean, self._std = (
            torch.tensor(about[name], device=self.device).view(1, 3, 1, 1, 1) for name in ("mean", "std")
        )

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """See the base; imports torch, but makes no weights."""
        import torch

        check_model(options["model"])
        with torch.device("meta"):
            layer = _last(_built(options["model"]))[1]
        return layer.in_features if isinstance(layer, torch.nn.Linear) else layer.in_channels

    @classmethod
    def refusal(cls, options: dict[str, Any], seconds: float) -> str | None:
        """See the base: too few frames."""
        least, frames = frames_of(options["model"])[0], round(seconds * options["fps"])
        if frames >= least:
            return None
        return (
            f"options.fps: {options['fps']:g} frames a second make {frames} frames of a segment of {seconds:g} s, but "
            f"{options['model']} needs at least {least}: set `fps: {least / seconds:.2f}` or more, or longer segments "
            "(segments.seconds)"
        )

    @staticmethod
    def architecture(options: dict[str, Any]) -> dict[str, Any]:
        return {"model": options["model"]}

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base; the source is `hub` (torchvision's download of its default weights), `random` or a path."""
        import torch

        from pipeline.backbones.torch_weights import arrays, from_hub, read_state
        from pipeline.backbones.torchvision_import import import_torchvision

        key, model = source.key, source.options["model"]
        check_model(model, key.removesuffix("weights"))
        path = local(source.name, key, LOCAL)
        with torch.device("meta"):
            net, unused = network(model)
        shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items() if not _unused(name, unused)}
        where, origin = (path.name, f"local file {path.name}") if path else (source.name, "")
        if source.name == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(source.seed)
                state, origin = network(model)[0].state_dict(), f"random numbers, seed {source.seed}"
        elif source.name == "hub":
            weights = import_torchvision().models.get_model_weights(model).DEFAULT
            state, origin = from_hub(weights.url, "hub", folder, key, LOCAL), f"torchvision {weights}"
        elif path is None:
            raise unknown_source(key, source.name, ("hub", "random"), LOCAL)
        elif path.suffix == ".safetensors":
            stored = read_safetensors(path, key)
            tensors = {name: value for name, value in stored.items() if not _unused(name, unused)}
            return check_tensors(tensors, shapes, key, where, model), origin
        else:
            state = read_state(path, key, LOCAL)
        tensors = arrays(state, lambda name: _unused(name, unused), where, key, LOCAL)
        return check_tensors(tensors, shapes, key, where, model), origin

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        about, clip = transforms(options["model"]), frames_of(options["model"])[1]
        clips = {"clip": clip, "clips": f"{RULE}, their mean"} if clip else {}
        precision = {"precision": options["precision"]} if options["precision"] != "float32" else {}
        return {"extractor": 1, "model": options["model"], "fps": options["fps"], **about, **clips, **precision}

    @staticmethod
    def request(options: dict[str, Any]) -> VideoRequest:
        """See the base; imports torchvision."""
        about = transforms(options["model"])
        (height, width), resize = about["crop"], about["resize"]
        return VideoRequest(options["fps"], resize if isinstance(resize, int) else tuple(resize), (height, width))

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for a wrong shape or type."""
        import torch

        from pipeline.backbones.frozen import frozen, upload

        shape = segments.shape
        wrong = len(shape) != 5 or shape[1] < self._least or shape[2:] != (*self._crop, 3)
        if segments.dtype != np.uint8 or wrong:
            expected = f"[n, {self._least} frames or more, {self._crop[0]}, {self._crop[1]}, 3]"
            raise ValueError(f"this network takes uint8 {expected}, got {segments.dtype} {list(shape)}")
        if not len(segments):
            return np.empty((0, self.dim), np.float32)
        starts = clip_starts(shape[1], self._clip)
        length = min(self._clip or shape[1], shape[1])
        rows = []
        with frozen(self.net):
            # On a CPU one clip at a time is as fast as a batch, and needs less memory.
            for batch in torch.split(upload(segments, self.device), 1 if self.device.type == "cpu" else len(segments)):
                clips = [self.net(self._normalised(batch[:, start : start + length])).float() for start in starts]
                rows.append(torch.stack(clips).mean(dim=0))
            return torch.cat(rows).cpu().numpy()

    def _normalised(self, frames: torch.Tensor) -> torch.Tensor:
        """Return uint8 frames [n, t, h, w, 3] as the network's input [n, 3, t, h, w]."""
        return ((frames.permute(0, 4, 1, 2, 3).float() / 255 - self._mean) / self._std).to(self._dtype)


def names() -> list[str]:
    """Return the names of torchvision's video networks."""
    from pipeline.backbones.torchvision_import import import_torchvision

    models = import_torchvision().models
    return sorted(models.list_models(module=models.video))


def check_model(model: str, section: str = "") -> None:
    """Raise UserError with the nearest names if torchvision has no such video network."""
    if model not in names():
        near = difflib.get_close_matches(model, names(), n=3, cutoff=0.4)
        raise UserError(
            f"{section}options.model: '{model}' is no video network of torchvision; there are {', '.join(names())}"
            + (f". Did you mean {' or '.join(near)}?" if near else "")
        )


def transforms(model: str) -> dict[str, Any]:
    """Return what a model's default weights expect of frames: `resize` (pixels: [height, width], or the shorter side),
    `crop` [height, width], and `mean` and `std` of the channels, for values 0 to 1."""
    from pipeline.backbones.torchvision_import import import_torchvision

    preset = import_torchvision().models.get_model_weights(model).DEFAULT.transforms()
    resize = list(preset.resize_size)
    assert preset.interpolation.value == "bilinear", preset
    crop = list(preset.crop_size)
    return {"resize": resize[0] if len(resize) == 1 else resize, "crop": crop, "mean": preset.mean, "std": preset.std}


def frames_of(model: str) -> tuple[int, int | None]:
    """Return the fewest frames that a model takes, and how many it looks at in a clip; None: all of a segment."""
    from pipeline.backbones.torchvision_import import import_torchvision

    clip = next((frames for start, frames in CLIP.items() if model.startswith(start)), None)
    if clip is not None and model.startswith(EXACT):
        return clip, clip
    meta = import_torchvision().models.get_model_weights(model).DEFAULT.meta
    return meta.get("min_temporal_size", 1), clip


def network(model: str) -> tuple[nn.Module, str]:
    """Return torchvision's network, freshly initialised, without its classification layer, and that layer's name."""
    from torch import nn

    net = _built(model)
    name, _ = _last(net)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, nn.Identity())
    return net, name


def _built(model: str) -> nn.Module:
    from pipeline.backbones.torchvision_import import import_torchvision

    net: nn.Module = import_torchvision().models.get_model(model, weights=None)
    return net


def _last(net: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    """Return the name and the module of the last layer with weights, the classification layer."""
    from torch import nn

    return [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv3d)][-1]


def _unused(name: str, classifier: str) -> bool:
    """Return whether a tensor of a state dict is none of the weights that features depend on."""
    return name.startswith(f"{classifier}.") or name.endswith(CONSTANTS)
