"""Whether the backbones of a configuration can work, as far as that is known before anything is opened or fetched.

Reads and writes nothing; the Snakefile asks `check`, and the plan `check_widths` again when all widths are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from config.cli import UserError
from config.heads import ALONE, MODALITIES, Modality
from config.place import is_path
from pipeline.backbones.chosen import chosen
from pipeline.backbones.registry import Entry

if TYPE_CHECKING:
    from config.model import Config
    from config.pipeline import Backbone as Settings


def check(config: Config) -> dict[str, dict[str, Any]]:
    """Return {backbone: its identity}. Raises UserError that names the key of a setting that cannot work."""
    backbones = {name: chosen(config, name) for name in config.backbones}
    seconds = config.segments.seconds
    for name, settings in config.backbones.items():
        backbone, key = backbones[name], f"backbones.{name}"
        _check_weights(key, backbone.entry, settings)
        if settings.device == "cuda" and backbone.engine != "torch":
            named = f"engine: {backbone.engine}" if "engine" in backbone.options else backbone.kind
            raise UserError(f"{key}.device: cuda, but {named} runs on processors; use auto or cpu")
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
        for modality, names in zip(MODALITIES, sides, strict=True):
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
