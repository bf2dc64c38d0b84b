"""The registry of backbones by name: frozen networks, and two that are formulas. Reads and writes nothing.

A backbone's module is imported only when its class is asked for.

A new backbone is one module with a subclass of `pipeline.backbones.base.Backbone`, and one entry in REGISTRY: its
class, its modality, and its options with their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from config.cli import UserError

if TYPE_CHECKING:
    from config.model import Config
    from config.pipeline import Backbone as Settings
    from pipeline.backbones.base import Backbone


@dataclass(frozen=True)
class Entry:
    """One registered backbone. An option whose default is a tuple takes one of its values, by default the first."""

    location: str
    """The class, as `module:name`."""
    modality: Literal["audio", "video"]
    options: dict[str, Any] = field(default_factory=dict)
    engine: Literal["torch", "essentia", "numpy"] = "torch"
    """What it runs on, without an option `engine`. Only PyTorch uses GPUs; essentia runs one forward pass at a time."""
    weights: tuple[str, ...] | None = None
    """What `weights` may be besides the path of a local file; `("none",)` for formulas. None: `fetch` decides."""
    seeds: tuple[int, int] = (-(2**63), 2**63 - 1)
    """Smallest and largest seed of random weights."""
    least_seconds: float = 1.0
    """Length of the shortest segment that it takes, in seconds."""


BOUNDS: dict[str, tuple[float, float]] = {"fps": (0.01, 240.0)}
"""{option: smallest and largest value} of options that are numbers."""

REGISTRY: dict[str, Entry] = {
    "musicnn": Entry(
        "pipeline.backbones.musicnn:MusicNN",
        "audio",
        {"engine": ("torch", "essentia"), "downmix": ("mean", "layout")},
        weights=("wheel", "random"),
        seeds=(0, 2**32 - 1),
        least_seconds=2.976,  # mel.MIN_SAMPLES
    ),
    "r2plus1d": Entry(
        "pipeline.backbones.r2plus1d:R2Plus1D",
        "video",
        {"fps": 10.0, "precision": ("float32", "bfloat16")},
        weights=("kinetics400", "random"),
    ),
    "sound_descriptors": Entry(
        "pipeline.backbones.audio_descriptors:AudioDescriptors",
        "audio",
        {"downmix": ("mean", "layout")},
        engine="essentia",
        weights=("none",),
    ),
    "picture_descriptors": Entry(
        "pipeline.backbones.video_descriptors:VideoDescriptors",
        "video",
        engine="numpy",
        weights=("none",),
    ),
}


def entry(name: str) -> Entry:
    """Return the registered backbone of that name. Raises UserError that lists the registered names."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise UserError(f"backbones.{name}: no such backbone; there are {sorted(REGISTRY)}") from None


def engine(name: str, options: dict[str, Any]) -> str:
    """Return `torch`, `essentia` or `numpy`: what the backbone runs on with these options."""
    return str(options.get("engine", entry(name).engine))


def load_class(name: str) -> type[Backbone]:
    """Import and return the backbone's class. Raises UserError as `entry` does."""
    module, _, attribute = entry(name).location.partition(":")
    backbone: type[Backbone] = getattr(import_module(module), attribute)
    return backbone


def resolve_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with defaults filled in. Raises UserError that names an unknown key or a wrong value."""
    known = entry(name).options
    resolved = {key: default[0] if isinstance(default, tuple) else default for key, default in known.items()}
    for key, value in given.items():
        full_key = f"backbones.{name}.options.{key}"
        if key not in known:
            raise UserError(f"{full_key}: unknown option; {name} has {sorted(known)}")
        default = known[key]
        if isinstance(default, tuple):
            if value not in default:
                raise UserError(f"{full_key}: '{value}' is not one of {', '.join(map(str, default))}")
        elif isinstance(default, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        elif type(value) is not type(default):
            raise UserError(f"{full_key}: expected {type(default).__name__}, got '{value}'")
        if key in BOUNDS and not BOUNDS[key][0] <= value <= BOUNDS[key][1]:  # also NaN
            raise UserError(f"{full_key}: {value:g} is not between {BOUNDS[key][0]:g} and {BOUNDS[key][1]:g}")
        resolved[key] = value
    return resolved


def check(config: Config) -> dict[str, dict[str, Any]]:
    """Return {backbone: its resolved options}. Raises UserError that names the key of a setting that cannot work."""
    options = {name: resolve_options(name, settings.options) for name, settings in config.backbones.items()}
    seconds = config.segments.seconds
    for name, settings in config.backbones.items():
        registered, key = entry(name), f"backbones.{name}"
        _check_weights(key, registered, settings)
        if settings.device == "cuda" and options[name].get("engine") == "essentia":
            raise UserError(f"{key}.device: cuda, but engine: essentia runs on processors; use auto or cpu")
        least = registered.least_seconds
        if seconds < least:
            raise UserError(f"segments.seconds: {seconds:g}, but {name} needs at least {least:g}; take 3")
        if "fps" in options[name] and round(seconds * options[name]["fps"]) < 1:
            raise UserError(
                f"{key}.options.fps: {options[name]['fps']:g} frames a second give a segment of {seconds:g} s no frame"
            )
    for name, experiment in config.heads.experiments.items():
        heads = (("audio", experiment.audio, config.heads.audio), ("video", experiment.video, config.heads.video))
        for modality, head, backbone in heads:
            if head.identity and experiment.embedding != (dim := load_class(backbone).dim):
                raise UserError(
                    f"heads.experiments.{name}.embedding: {experiment.embedding}, but with {modality}.identity the "
                    f"{dim} features of {backbone} are the embeddings: set `embedding: {dim}`"
                )
    return options


def _check_weights(key: str, registered: Entry, settings: Settings) -> None:
    source, formula = settings.weights, registered.weights == ("none",)
    is_path = "/" in source or "." in source
    if registered.weights is not None and source not in registered.weights and (formula or not is_path):
        alternative = "; it is computed by formulas" if formula else ", or the path of a file (with a `/`)"
        raise UserError(f"{key}.weights: '{source}' is not one of {', '.join(registered.weights)}{alternative}")
    if source == "random" and not registered.seeds[0] <= settings.seed <= registered.seeds[1]:
        raise UserError(f"{key}.seed: {settings.seed} is not between {registered.seeds[0]} and {registered.seeds[1]}")
