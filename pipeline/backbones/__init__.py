"""The registry of the kinds of backbones: frozen networks, formulas, and features that exist already. Reads and writes
nothing.

`backbones.<name>` names an array of the store; its `kind`, by default the name, says what computes it. A kind's module
is imported only when its class is asked for.

A new kind is one module with a subclass of `pipeline.backbones.base.Backbone`, and one entry in REGISTRY: its class,
its modality, and its options with their defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from config.cli import UserError
from config.heads import ALONE
from config.place import is_path

if TYPE_CHECKING:
    from config.model import Config
    from config.pipeline import Backbone as Settings
    from pipeline.backbones.base import Backbone, Kind

Modality = Literal["audio", "video"]


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
        {"engine": ("torch", "essentia"), "downmix": ("mean", "layout")},
        weights=("wheel", "wheel-mtt", "random"),
        seeds=(0, 2**32 - 1),
        least_seconds=2.976,  # mel.MIN_SAMPLES
    ),
    "r2plus1d": Entry(
        "pipeline.backbones.r2plus1d:R2Plus1D",
        "video",
        {"fps": 10.0, "precision": ("float32", "bfloat16"), "mode": ("eval", "train")},
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
    "timm": Entry(
        "pipeline.backbones.timm_images:TimmImages",
        "video",
        {
            "model": MODEL,
            "fps": 2.0,
            "pool": ("mean", "max", "mean_max"),
            "crop": ("model", "center", "squash"),
            "precision": ("float32", "bfloat16"),
            "mode": ("eval", "train"),
        },
        weights=("wheel", "hub", "random"),
    ),
    "torchvision": Entry(
        "pipeline.backbones.torchvision_video:TorchvisionVideo",
        "video",
        {"model": MODEL, "fps": 10.0, "precision": ("float32", "bfloat16")},
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
            "pool": ("mean", "max", "mean_max"),
            "patch_size": 0,
            "patch_hop": 0,
            "last_patch": ("discard", "repeat"),
            "downmix": ("mean", "layout"),
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
            "pool": ("mean", "max", "mean_max"),
            "downmix": ("mean", "layout"),
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


@dataclass(frozen=True)
class Chosen:
    """A backbone of a configuration: its name, its kind with the registered entry, and its resolved options."""

    name: str
    kind: str
    entry: Entry
    options: dict[str, Any]

    @property
    def modality(self) -> Modality:
        """`audio` or `video`."""
        return self.entry.modality or cast(Modality, self.options["modality"])

    @property
    def engine(self) -> str:
        """What it runs on, as in `Entry`."""
        return str(self.options.get("engine", self.entry.engine))

    def described(self, record: dict[str, Any]) -> Chosen:
        """Return the same with what the record of its weights tells (`Kind.description`) among its options."""
        if "description" not in record:
            return self
        return replace(self, options={**self.options, "description": record["description"]})

    @property
    def identity(self) -> dict[str, Any]:
        """Its options, and its kind where that is not its name: what must make its weights and features again.

        An option that came later is left out at its default.
        """
        options = {key: value for key, value in self.options.items() if (key, value) != ("mode", "eval")}
        return options if self.kind == self.name else {"kind": self.kind, **options}

    @property
    def key(self) -> str:
        """Where it stands in the configuration, for messages."""
        return f"backbones.{self.name}"

    def load(self) -> type[Backbone]:
        """Import and return the class of its network. TypeError if there is none, because it opens no video."""
        return load_class(self.kind)

    def load_kind(self) -> type[Kind]:
        """Import and return its class, network or not."""
        return _imported(self.kind)

    def build(self, weights: Path, device: str, threads: int) -> Backbone:
        """Return the network on its device. Raises UserError that names the key of what cannot work here."""
        with self.keyed():
            return self.load()(weights, self.options, device, threads)

    def width(self) -> int:
        """Return how many numbers a segment has. UserError for a model that does not exist."""
        with self.keyed():
            return self.load_kind().width(self.options)

    def check_segments(self, seconds: float) -> None:
        """Raise UserError if it cannot take segments of this length."""
        refusal = self.load_kind().refusal(self.options, seconds)
        if refusal is not None:
            raise UserError(f"{self.key}.{refusal}")

    @contextmanager
    def keyed(self) -> Iterator[None]:
        """Put the backbone's key before the message of a UserError, which begins with a key of its section."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.key}.{error}") from None


def chosen(config: Config, name: str) -> Chosen:
    """Return a backbone of the configuration. Raises UserError for an unknown kind, and as `resolve_options` does."""
    kind = config.backbones[name].kind or name
    if kind not in REGISTRY:
        key, what = (f"backbones.{name}.kind", f"'{kind}': no such kind") if kind != name else (f"backbones.{name}", "")
        near = difflib.get_close_matches(kind, REGISTRY, n=1)
        raise UserError(
            f"{key}: {what or 'no such kind of backbone'}; there are {', '.join(sorted(REGISTRY))}"
            + (f". Did you mean {near[0]}?" if near else "")
            + ("" if what else ". A name of your own needs `kind`, which says what computes it.")
        )
    options = resolve_options(kind, config.backbones[name].options, f"backbones.{name}")
    return Chosen(name, kind, REGISTRY[kind], options)


def load_class(kind: str) -> type[Backbone]:
    """Import and return the class of a kind that is a network. TypeError for one that is none."""
    from pipeline.backbones.base import Backbone

    loaded = _imported(kind)
    if not issubclass(loaded, Backbone):
        raise TypeError(f"{kind} is no network")
    return loaded


def _imported(kind: str) -> type[Kind]:
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


def check(config: Config) -> dict[str, dict[str, Any]]:
    """Return {backbone: its identity}. Raises UserError that names the key of a setting that cannot work."""
    backbones = {name: chosen(config, name) for name in config.backbones}
    seconds = config.segments.seconds
    for name, settings in config.backbones.items():
        backbone, key = backbones[name], f"backbones.{name}"
        _check_weights(key, backbone.entry, settings)
        if settings.device == "cuda" and backbone.engine != "torch":
            engine = (
                f"engine: {backbone.engine} runs on processors"
                if "engine" in backbone.options
                else (f"{backbone.kind} runs on processors")
            )
            raise UserError(f"{key}.device: cuda, but {engine}; use auto or cpu")
        least = backbone.entry.least_seconds
        if seconds < least:
            raise UserError(f"segments.seconds: {seconds:g}, but {name} needs at least {least:g}; take 3")
        fps = backbone.options.get("fps")
        if fps is not None and round(seconds * fps) < 1:
            raise UserError(f"{key}.options.fps: {fps:g} frames a second give a segment of {seconds:g} s no frame")
    _check_sides(config, {name: backbone.modality for name, backbone in backbones.items()})
    check_widths(config, lambda name: None if backbones[name].entry.described else backbones[name].width())
    return {name: backbone.identity for name, backbone in backbones.items()}


def _check_sides(config: Config, modalities: dict[str, Modality]) -> None:
    """Raise UserError for a backbone that is named where one of the other modality belongs."""
    heads, trained = config.heads, config.study.ablation.train_mode
    # One name for both is how a collection of a single modality is extracted.
    named = [("heads", [heads.audio], [heads.video])] if heads.audio != heads.video else []
    for name, experiment in heads.experiments.items():
        named.append((f"heads.experiments.{name}", experiment.audio.backbones or [], experiment.video.backbones or []))
    named += [("study.sources.others", [audio], [video]) for audio, video in config.study.sources.others]
    if trained is not None:
        audio, video = ([name] if name is not None else [] for name in (trained.audio, trained.video))
        named.append(("study.ablation.train_mode", audio, video))
    for key, *sides in named:
        for modality, names in zip(("audio", "video"), sides, strict=True):
            for given in names:
                reads = modalities.get(given, modality)  # names of the study are looked up when it is asked
                if reads != modality:
                    alone = f", or, {ALONE}" if key == "heads" else ""
                    raise UserError(f"{key}.{modality}: {given} reads the {reads}; give it under `{reads}`{alone}")


def check_widths(config: Config, width: Callable[[str], int | None]) -> None:
    """Raise UserError for an experiment whose embeddings are features of another width than it says.

    `width` returns that of a backbone, or None where nobody can know it yet; it is only asked where it matters.
    """
    for name, experiment in config.heads.experiments.items():
        sides = config.sides(name)
        heads = (("audio", experiment.audio, sides.audio), ("video", experiment.video, sides.video))
        for modality, head, side in heads:
            widths = [width(backbone) for backbone in side] if head.identity else []
            known = [one for one in widths if one is not None]
            if head.identity and len(known) == len(widths) and experiment.embedding != sum(known):
                raise UserError(
                    f"heads.experiments.{name}.embedding: {experiment.embedding}, but with {modality}.identity the "
                    f"{sum(known)} features of {' and '.join(side)} are the embeddings: set `embedding: {sum(known)}`"
                )


def _check_weights(key: str, registered: Entry, settings: Settings) -> None:
    source, formula = settings.weights, registered.weights == ("none",)
    if registered.weights is not None and source not in registered.weights and (formula or not is_path(source)):
        alternative = "; it is computed by formulas" if formula else ", or the path of a file (with a `/`)"
        if not registered.weights:
            raise UserError(f"{key}.weights: '{source}' is not the path of a file or folder (with a `/`)")
        raise UserError(f"{key}.weights: '{source}' is not one of {', '.join(registered.weights)}{alternative}")
    if source == "random" and not registered.seeds[0] <= settings.seed <= registered.seeds[1]:
        raise UserError(f"{key}.seed: {settings.seed} is not between {registered.seeds[0]} and {registered.seeds[1]}")
