"""Passes: which backbones are computed together, so that each video is opened once for all of them. Reads and writes
nothing.

A pass is the backbones of one modality, engine and `device`. PyTorch and numpy go together; essentia brings its own
TensorFlow, which must not share a process with torch. Features that exist already (`precomputed`) open no video: each
of these backbones is alone.

Which backbones are together is decided when they are first planned, and stands in `plan.json`: Snakemake asks whether
the jobs of a pass are as they were, so a backbone that comes later must not change the passes that there are. It forms
one with what comes at the same time. The Snakefile and `pipeline.plan` both ask `passes`, with the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from config.cli import UserError
from config.model import Config
from pipeline.backbones.chosen import Chosen, chosen
from pipeline.records import Plan


def passes(config: Config, planned: Plan | None) -> list[list[str]]:
    """Return the passes of the configuration's backbones; `planned` is the plan on disk, None before there is one.

    In a plan of an older version each backbone is alone. A backbone that has left the configuration leaves its pass;
    one that now runs on another engine, or has another modality, forms a pass of its own.
    """
    backbones = {name: chosen(config, name) for name in config.backbones}
    earlier = [] if planned is None else planned.passes or [[name] for name in planned.backbones]
    together: list[list[str]] = []
    for names in earlier:
        together += _grouped({name: _shared(backbones[name]) for name in names if name in backbones})
    known = {name for names in together for name in names}
    fresh = [backbone for name, backbone in backbones.items() if name not in known]
    return together + _grouped(
        {backbone.name: (*_shared(backbone), _device(config, backbone, fresh)) for backbone in fresh}
    )


def refuse_mixtures(config: Config, names: Sequence[str]) -> None:
    """Raise UserError if the backbones cannot be computed by one process that decodes once."""
    backbones = [chosen(config, name) for name in names]
    files = [backbone.name for backbone in backbones if backbone.engine == "files"]
    if files and len(backbones) > 1:
        raise UserError(f"--backbone {files[0]}: its features exist already and no video is opened; run it alone")
    modalities = {backbone.modality: backbone.name for backbone in backbones}
    if len(modalities) > 1:
        raise UserError(
            f"--backbone {modalities['audio']}, {modalities['video']}: one reads audio, the other video, so they share "
            "no decoding; run them one after the other"
        )
    engines = {_process(backbone): backbone.name for backbone in backbones}
    if len(engines) > 1:
        raise UserError(
            f"--backbone {engines['torch']}, {engines['essentia']}: essentia and PyTorch cannot share a process; run "
            "them one after the other"
        )


def _process(backbone: Chosen) -> str:
    """Return which process can compute a backbone: essentia and PyTorch cannot share one."""
    return {"essentia": "essentia", "files": f"files of {backbone.name}"}.get(backbone.engine, "torch")


def _shared(backbone: Chosen) -> tuple[str, ...]:
    """Return what backbones of one pass have in common."""
    return backbone.modality, _process(backbone)


def _device(config: Config, backbone: Chosen, others: list[Chosen]) -> str:
    """Return the `device` that a backbone is grouped by. Numpy has none to choose: with `auto` it goes along with the
    first network of its modality, wherever that computes."""
    device = config.backbones[backbone.name].device
    if backbone.engine != "numpy" or device != "auto":
        return device
    networks = (other for other in others if other.engine == "torch" and other.modality == backbone.modality)
    return next((config.backbones[network.name].device for network in networks), device)


def _grouped(kinds: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """Return the names with equal values together, in order."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, kind in kinds.items():
        groups.setdefault(kind, []).append(name)
    return list(groups.values())
