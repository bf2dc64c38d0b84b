"""The frozen backbones by name, and two that are formulas. Reads and writes nothing.

Imports a backbone's file only when it is asked for.

A new backbone is one file with a subclass of `pipeline.backbones.base.Backbone`, and one line below: where it is,
what it looks at, how wide its features are, and its options with their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from config.cli import UserError
from pipeline.backbones.descriptors import WIDTHS

if TYPE_CHECKING:
    from pipeline.backbones.base import Backbone


@dataclass(frozen=True)
class Entry:
    """One registered backbone. An option whose default is a tuple takes one of its values, by default the first."""

    where: str
    modality: Literal["audio", "video"]
    dim: int
    options: dict[str, Any] = field(default_factory=dict)
    engine: Literal["torch", "essentia", "numpy"] = "torch"
    """What it runs on, where no option says it. Only PyTorch uses GPUs; essentia takes one forward pass at a time."""


REGISTRY: dict[str, Entry] = {
    "musicnn": Entry("pipeline.backbones.musicnn:MusicNN", "audio", 1506, {"engine": ("torch", "essentia")}),
    "r2plus1d": Entry(
        "pipeline.backbones.r2plus1d:R2Plus1D", "video", 512, {"fps": 10.0, "precision": ("float32", "bfloat16")}
    ),
    "sound_descriptors": Entry(
        "pipeline.backbones.sound_descriptors:SoundDescriptors", "audio", WIDTHS["sound_descriptors"], engine="essentia"
    ),
    "picture_descriptors": Entry(
        "pipeline.backbones.picture_descriptors:PictureDescriptors",
        "video",
        WIDTHS["picture_descriptors"],
        engine="numpy",
    ),
}


def entry(name: str) -> Entry:
    """The registered backbone of that name; UserError with the names that exist otherwise."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise UserError(f"backbones.{name}: no such backbone; there are {sorted(REGISTRY)}") from None


def engine(name: str, options: dict[str, Any]) -> str:
    """`torch`, `essentia` or `numpy`: what the backbone runs on with these options."""
    return options.get("engine", entry(name).engine)


def load_class(name: str) -> type[Backbone]:
    """Import the backbone's class (and with it torch, or essentia)."""
    module, _, attribute = entry(name).where.partition(":")
    return getattr(import_module(module), attribute)


def resolve_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The backbone's options with defaults filled in. Raises UserError naming an unknown key or a wrong value."""
    known = entry(name).options
    resolved = {key: default[0] if isinstance(default, tuple) else default for key, default in known.items()}
    for key, value in given.items():
        where = f"backbones.{name}.options.{key}"
        if key not in known:
            raise UserError(f"{where}: unknown option; {name} has {sorted(known)}")
        default = known[key]
        if isinstance(default, tuple):
            if value not in default:
                raise UserError(f"{where}: '{value}' is not one of {', '.join(map(str, default))}")
        elif isinstance(default, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        elif type(value) is not type(default):
            raise UserError(f"{where}: expected {type(default).__name__}, got '{value}'")
        resolved[key] = value
    return resolved
