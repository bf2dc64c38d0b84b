"""timm's image networks: their names, the frames that each was trained on, and the network itself. Reads and writes
nothing.

Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models. A model's name is an architecture,
or an architecture, a dot and the tag of trained weights (`vit_small_patch14_dinov2.lvd142m`). The tag says which frames
those weights want; without one it is timm's first. Importing this module does not import torch. UserErrors begin with
`options.`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from config.cli import UserError
from pipeline.readers import Interpolation

if TYPE_CHECKING:
    import torch
    from torch import nn

GOOGLES = "tf_efficientnet_lite"
"""Architectures that Google trained on (pixel − 127) / 128. timm's configuration says 127.5 for both, which moves
features by up to 3.6 %."""
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Input:
    """The frames that a network was trained on. Sizes in pixels; `mean` and `std` of RGB between 0 and 1."""

    resize: tuple[int, int] | int
    """As in `VideoRequest`."""
    crop: tuple[int, int]
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]


def timm() -> Any:
    """Import and return `timm`. All code of this project imports it through here."""
    from pipeline.backbones.torchvision_import import import_torchvision

    import_torchvision()  # timm imports it, which fails beside a CPU build of torch without this help
    import timm

    return timm


def check_name(name: str) -> str:
    """Return the architecture of a model that timm has. UserError with the nearest names for another one."""
    if ":" in name or "/" in name:
        raise UserError(
            f"options.model: '{name}' is an address; timm's own names have neither ':' nor '/', such as "
            "vit_small_patch14_dinov2.lvd142m. Weights of your own are the path of a file in `weights`"
        )
    architectures = timm().list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in architectures:
        near = difflib.get_close_matches(architecture, architectures, n=3)
        hint = f". Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"options.model: timm {timm().__version__} has no model '{architecture}'{hint}")
    try:
        timm().get_pretrained_cfg(name)
    except RuntimeError:
        names = ", ".join(trained(architecture)) or "timm has no trained weights of it"
        raise UserError(f"options.model: '{architecture}' has no tag '{tag}': {names}") from None
    return architecture


def trained(architecture: str) -> list[str]:
    """Return the names with tags of the architecture's trained weights."""
    names: list[str] = timm().list_models(f"{architecture}.*", pretrained=True)
    return names


@lru_cache(maxsize=8)
def frames_of(name: str, crop: str) -> Input:
    """Return the frames of a model. `crop` is `model`, its own way, or `center` or `squash` instead.

    UserError for a name that timm does not know, and for frames that the readers do not make.
    """
    architecture = check_name(name)
    settings = timm().data.resolve_data_config(pretrained_cfg=timm().get_pretrained_cfg(name).to_dict())
    channels, height, width = settings["input_size"]
    mode = settings["crop_mode"] if crop == "model" else crop
    if channels != 3:
        raise UserError(f"options.model: '{name}' takes {channels} channels, frames have 3")
    resize = tuple(math.floor(side / settings["crop_pct"]) for side in (height, width))
    smaller = settings["crop_pct"] > 1  # VOLO's: timm puts a border around the scaled frame
    if mode == "border" or (mode == "center" and (height != width or smaller)):
        border = ", smaller ones with a border" if smaller else ""
        raise UserError(
            f"options.crop: '{name}' was trained on frames of {height}×{width} with crop mode '{mode}'{border}, which "
            "the readers do not make; set `crop: squash` to scale whole frames to that size"
        )
    if smaller:
        resize = (height, width)
    if settings["interpolation"] not in ("bilinear", "bicubic"):
        raise UserError(f"options.model: '{name}' wants frames scaled by '{settings['interpolation']}'")
    google = architecture.startswith(GOOGLES)
    return Input(
        resize=resize[0] if mode == "center" else (resize[0], resize[1]),
        crop=(height, width),
        interpolation=settings["interpolation"],
        mean=(127 / 255,) * 3 if google else tuple(settings["mean"]),
        std=(128 / 255,) * 3 if google else tuple(settings["std"]),
    )


def build(name: str) -> nn.Module:
    """Return the network, freshly initialised, without its classifier; on `meta` under `torch.device("meta")`."""
    return headless(timm().create_model(name))


def headless(net: nn.Module) -> nn.Module:
    """Replace the classifier by nothing, in place."""
    from torch import nn

    for classifier in classifiers(net):
        net.set_submodule(classifier, nn.Identity())
    return net


def classifiers(net: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's classification layers, which pooled features do not depend on."""
    names: str | tuple[str, ...] | None = net.pretrained_cfg.get("classifier")  # type: ignore[operator,union-attr]  # timm's attribute
    names = (names,) if isinstance(names, str) else names or ()
    known = {name for name, _ in net.named_modules()}
    return tuple(name for name in names if name in known)


@lru_cache(maxsize=8)
def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a model's trained tensors: without classifier, counters and index tables."""
    import torch

    with torch.device("meta"):
        state = build(name).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if is_trained(key, value)}


@lru_cache(maxsize=8)
def check_batch_norm(name: str) -> None:
    """Raise UserError for a model without batch normalisation, which training mode would leave as it is."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    architecture = check_name(name)
    with torch.device("meta"):
        if not any(isinstance(module, _BatchNorm) for module in build(name).modules()):
            raise UserError(
                f"options.mode: '{architecture}' has no batch normalisation, so that `train` changes nothing"
            )


def is_trained(name: str, value: torch.Tensor) -> bool:
    """Return whether a tensor of a state dict is trained, rather than counted or computed when the network is built."""
    return value.is_floating_point() and not name.endswith(COUNTER)


def pooled(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the pooled features of images [n, 3, height, width]: [n, d], what the classifier would get."""
    features: torch.Tensor = net.forward_head(net.forward_features(images), pre_logits=True)  # type: ignore[operator]  # timm's methods
    return features


@lru_cache(maxsize=8)
def pooled_width(name: str) -> int:
    """Return the number of pooled features of a frame. UserError for a model that has none.

    It is the shape of a pass on `meta`, which computes nothing.
    """
    import torch

    architecture = check_name(name)
    with torch.device("meta"), torch.inference_mode():
        net = build(name).eval()
        try:
            shape = pooled(net, torch.zeros(1, 3, *frames_of(name, "squash").crop)).shape
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
            raise UserError(
                f"options.model: '{architecture}' has no pooled feature ({error}); it makes maps, not vectors"
            ) from None
    if len(shape) != 2:
        raise UserError(
            f"options.model: '{architecture}' has no pooled feature: it gives {list(shape[1:])} numbers a frame"
        )
    return shape[1]
