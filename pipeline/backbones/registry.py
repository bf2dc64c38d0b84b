"""The registry of the kinds of backbones, with the options of each. Reads and writes nothing.

A new kind is one module with a subclass of `pipeline.backbones.base.Kind` or `Backbone`, and one entry in REGISTRY: its
class, its modality, and its options with their defaults. A kind's module is imported only when its class is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from config.cli import UserError
from config.heads import Modality

if TYPE_CHECKING:
    from pipeline.backbones.base import Backbone, Kind


@dataclass(frozen=True)
class Required:
    """Stands for the default of an option that the configuration must give: its type and, if not any, its values."""

    type: type
    meaning: str
    values: tuple[str, ...] = ()


MODEL = Required(str, "it is the name of the model")
MODALITY = Required(str, "it is `audio` or `video`", ("audio", "video"))
OUTPUT = Required(str, "it is the graph's node with the features, such as model/vggish/embeddings")
DIM = Required(int, "it is how many numbers a row or vector of the features has")
# The values of options that several kinds have, the default first.
DOWNMIXES = ("mean", "layout")
POOLS = ("mean", "max", "mean_max")
PRECISIONS = ("float32", "bfloat16")
MODES = ("eval", "train")


@dataclass(frozen=True)
class Entry:
    """One registered kind. An option whose default is a tuple takes one of its values, by default the first; one whose
    default is a `Required` must be given."""

    location: str
    """The class, as `module:name`."""
    modality: Modality | None
    """None: the option `modality` says it, because it depends on the model."""
    options: dict[str, Any] = field(default_factory=dict)
    engine: Literal["torch", "essentia", "numpy", "files"] = "torch"
    """What it runs on, without an option `engine`. Only PyTorch uses GPUs; essentia runs one forward pass at a time;
    `files` reads finished features and opens no video (pipeline/precomputed.py)."""
    weights: tuple[str, ...] | None = None
    """What `weights` may be besides the path of a local file; `("none",)` for formulas. None: `fetch` decides."""
    seeds: tuple[int, int] = (-(2**63), 2**63 - 1)
    """Smallest and largest seed of random weights."""
    least_seconds: float = 1.0
    """Length of the shortest segment that it takes, in seconds."""
    described: bool = False
    """Whether only its weights tell how wide the features are (`Kind.description`)."""


BOUNDS: dict[str, tuple[float, float]] = {"fps": (0.01, 240.0), "dim": (1, 65_536), "reach": (0.0, 1e6)}
BOUNDS |= {"patch_size": (0, 100_000), "patch_hop": (0, 100_000), "layer": (-1, 1000)}
"""{option: smallest and largest value} of options that are numbers."""

REGISTRY: dict[str, Entry] = {
    "musicnn": Entry(
        "pipeline.backbones.musicnn:MusicNN",
        "audio",
        {"engine": ("torch", "essentia"), "downmix": DOWNMIXES},
        weights=("wheel", "wheel-mtt", "random"),
        seeds=(0, 2**32 - 1),
        least_seconds=2.976,  # mel.MIN_SAMPLES
    ),
    "r2plus1d": Entry(
        "pipeline.backbones.r2plus1d:R2Plus1D",
        "video",
        {"fps": 10.0, "precision": PRECISIONS, "mode": MODES},
        weights=("kinetics400", "random"),
    ),
    "sound_descriptors": Entry(
        "pipeline.backbones.audio_descriptors:AudioDescriptors",
        "audio",
        {"downmix": DOWNMIXES},
        engine="essentia",
        weights=("none",),
    ),
    "picture_descriptors": Entry(
        "pipeline.backbones.video_descriptors:VideoDescriptors",
        "video",
        engine="numpy",
        weights=("none",),
    ),
    "timm": Entry(
        "pipeline.backbones.timm_images:TimmImages",
        "video",
        {
            "model": MODEL,
            "fps": 2.0,
            "pool": POOLS,
            "crop": ("model", "center", "squash"),
            "precision": PRECISIONS,
            "mode": MODES,
        },
        weights=("wheel", "hub", "random"),
    ),
    "torchvision": Entry(
        "pipeline.backbones.torchvision_video:TorchvisionVideo",
        "video",
        {"model": MODEL, "fps": 10.0, "precision": PRECISIONS},
        weights=("hub", "random"),
    ),
    "essentia": Entry(
        "pipeline.backbones.essentia_graph:EssentiaGraph",
        "audio",
        {
            "algorithm": ("EffnetDiscogs", "VGGish", "MusiCNN", "MAEST", "FSDSINet", "TempoCNN", "CREPE"),
            "output": OUTPUT,
            "dim": DIM,
            "input": "",
            "pool": POOLS,
            "patch_size": 0,
            "patch_hop": 0,
            "last_patch": ("discard", "repeat"),
            "downmix": DOWNMIXES,
        },
        engine="essentia",
        weights=(),
    ),
    "transformers": Entry(
        "pipeline.backbones.transformers_models:TransformersModel",
        None,
        {
            "modality": MODALITY,
            "model": "",
            "revision": "main",
            "fps": 2.0,
            "layer": -1,
            "pool": POOLS,
            "downmix": DOWNMIXES,
        },
        weights=("hub", "random"),
        described=True,
    ),
    "precomputed": Entry(
        "pipeline.backbones.precomputed:Precomputed",
        None,
        {"modality": MODALITY, "dim": DIM, "id": "video_id", "features": "features", "start": "", "reach": 10.0},
        engine="files",
        weights=(),
    ),
}


def load_class(kind: str) -> type[Backbone]:
    """Import and return the class of a kind that is a network. TypeError for one that is none."""
    from pipeline.backbones.base import Backbone

    loaded = load_kind(kind)
    if not issubclass(loaded, Backbone):
        raise TypeError(f"{kind} is no network")
    return loaded


def load_kind(kind: str) -> type[Kind]:
    """Import and return the class of a kind, network or not."""
    module, _, attribute = REGISTRY[kind].location.partition(":")
    loaded: type[Kind] = getattr(import_module(module), attribute)
    return loaded


def resolve_options(kind: str, given: dict[str, Any], key: str = "") -> dict[str, Any]:
    """Return the options of a kind with defaults filled in.

    Raises UserError that names an unknown key, a wrong value or a missing one; `key` is where the backbone stands.
    """
    known = REGISTRY[kind].options
    key = key or f"backbones.{kind}"
    resolved = {name: default[0] if isinstance(default, tuple) else default for name, default in known.items()}
    for name, value in given.items():
        full_key = f"{key}.options.{name}"
        if name not in known:
            raise UserError(f"{full_key}: unknown option; {kind} has {sorted(known)}")
        default = known[name]
        if isinstance(default, Required):
            if type(value) is not default.type or (default.values and value not in default.values):
                raise UserError(f"{full_key}: '{value}' cannot be; {default.meaning}")
        elif isinstance(default, tuple):
            if value not in default:
                raise UserError(f"{full_key}: '{value}' is not one of {', '.join(map(str, default))}")
        elif isinstance(default, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        elif type(value) is not type(default):
            text = isinstance(default, str)
            wanted = "text, in quotes if it looks like a number" if text else "a number, without quotes"
            raise UserError(f"{full_key}: should be {wanted}; got {value!r}")
        if name in BOUNDS and not BOUNDS[name][0] <= value <= BOUNDS[name][1]:  # also NaN
            raise UserError(f"{full_key}: {value:g} is not between {BOUNDS[name][0]:g} and {BOUNDS[name][1]:g}")
        resolved[name] = value
    for name, value in resolved.items():
        if isinstance(value, Required):
            raise UserError(f"{key}.options.{name}: missing, and {kind} cannot do without; {value.meaning}")
    return resolved
