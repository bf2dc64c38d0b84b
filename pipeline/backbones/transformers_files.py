"""Models of Hugging Face's transformers as files: their configuration, their weights, and the hub. Writes nothing but
what the hub's client downloads. Importing this module imports neither torch nor the optional transformers.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.cli import UserError
from pipeline.backbones.base import WeightsSource
from pipeline.weights import refuse_in_a_job, unavailable

if TYPE_CHECKING:
    from torch import nn

LOCAL = (
    "a folder with config.json, the processor's preprocessor_config.json and model.safetensors, as `save_pretrained` "
    "writes, or pytorch_model.bin"
)
MISSING = (
    "kind: transformers, but the package transformers is not installed. Install it with "
    "`pip install -r requirements-transformers.txt -c constraints.txt`"
)
INPUTS = {
    **dict.fromkeys(("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "vit"), "image"),
    **dict.fromkeys(("videomae", "vivit", "timesformer", "xclip"), "video"),
    **dict.fromkeys(("clap", "clap_audio_model", "audio-spectrogram-transformer"), "audio"),
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "whisper"), "audio"),
}
"""{`model_type` of a configuration: what the model looks at}."""
CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
FILES = (CONFIG, *PROCESSORS)
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
"""Where the weights are, unless they are in parts. Many older models of the hub, such as HuBERT, have the pickle alone;
it is read with `weights_only`, so that it runs no code."""
UNUSED = (
    *("text_model.", "text_projection.", "logit_scale", "logit_bias", "prompts_generator."),
    *("decoder.", "model.decoder.", "proj_out.", "lm_head."),
)
"""Beginnings of the names of weights that no feature depends on: towers for text, decoders."""

log = logging.getLogger(__name__)


def library(section: str = "") -> Any:
    """Import and return `transformers`, silent. UserError if it is not installed."""
    from pipeline.backbones.torchvision_import import import_torchvision

    if importlib.util.find_spec("transformers") is None:
        raise UserError(f"{section}{MISSING}")
    import_torchvision()  # transformers imports it, which fails beside a CPU build of torch without this help
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def check_config(content: bytes, modality: str, section: str) -> dict[str, Any]:
    """Return a model's configuration. UserError for a model that this kind does not know, or of the other modality."""
    try:
        config: dict[str, Any] = json.loads(content)
        kind, remote = config["model_type"], "auto_map" in config
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{section}weights: {CONFIG} names no `model_type`; it should be {LOCAL}") from None
    if kind not in INPUTS:
        code = (
            "needs code that its authors publish beside it (auto_map), which this project does not run: "
            "trust_remote_code stays off (MERT is such a model). Features computed elsewhere can be read with "
            "kind: precomputed"
        )
        near = difflib.get_close_matches(kind, INPUTS, n=1)
        unknown = f"is not one of {', '.join(sorted(INPUTS))}" + (f". Did you mean {near[0]}?" if near else "")
        raise UserError(f"{section}options.model: a model of type '{kind}' {code if remote else unknown}")
    reads = "audio" if INPUTS[kind] == "audio" else "video"
    if reads != modality:
        raise UserError(f"{section}options.modality: {modality}, but a {kind} looks at {INPUTS[kind]}; set `{reads}`")
    return config


def class_name(config: dict[str, Any]) -> str:
    """Return the class that the weights were saved from: AutoModel would drop projections and norms."""
    names = config.get("architectures") or []
    return str(names[0]) if names else ""


def _class(name: str, key: str) -> Any:
    """Return a class of transformers. UserError for a name that it does not have."""
    model_class = getattr(library(), name, None) if name.isidentifier() else None
    if not isinstance(model_class, type) or not hasattr(model_class, "from_pretrained"):
        raise UserError(f"{key}: {CONFIG} names the class '{name}' (architectures), which transformers does not have")
    return model_class


def loaded(folder: Path, config: dict[str, Any], seed: int | None, key: str) -> nn.Module:
    """Return the model of a folder, in float32; with `seed`, its configuration with random weights."""
    import torch

    kind = _class(class_name(config), key)
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made: nn.Module = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
        return made
    try:
        with torch.random.fork_rng(devices=[]):
            net, info = kind.from_pretrained(
                folder,
                local_files_only=True,
                weights_only=True,
                dtype=torch.float32,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported below, with the others
                output_loading_info=True,
            )
    except Exception as error:  # a folder from elsewhere can make the library raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{key}: {folder} cannot be loaded: {reason[0]} It should be {LOCAL}.") from None
    wrong = sorted(str(name) for name in {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})
    if wrong := [name for name in wrong if not name.startswith(UNUSED)]:
        raise UserError(
            f"{key}: {folder} has no fitting weights for '{wrong[0]}' and {len(wrong) - 1} others of "
            f"{class_name(config)}: they are of another architecture, and transformers would take random numbers"
        )
    loaded: nn.Module = net
    return loaded


def state_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Return a model's weights by name, without those that no feature depends on."""
    return {name: tensor.numpy() for name, tensor in net.state_dict().items() if not name.startswith(UNUSED)}


def built(tensors: dict[str, np.ndarray], name: str, key: str) -> nn.Module:
    """Return the model from the tensors of a weights file. UserError if they are not its weights."""
    import torch

    kind = _class(name, key)
    with config_files(tensors) as folder, torch.random.fork_rng(devices=[]):
        net: nn.Module = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    state = {name: torch.from_numpy(value) for name, value in tensors.items() if name not in FILES}
    try:
        missing, surplus = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{key}: these are not the weights of {name}: {str(error).splitlines()[-1].strip()}") from None
    wrong = [name for name in missing if not name.startswith(UNUSED)] + surplus
    if wrong:
        version = library().__version__
        raise UserError(f"{key}: transformers {version} has other weights in {name} than the file: '{wrong[0]}'")
    if "Classification" in name and isinstance(getattr(net, "classifier", None), torch.nn.Module):
        net.classifier = torch.nn.Identity()  # what it would be given comes out
    return net.eval()


@contextmanager
def config_files(tensors: dict[str, np.ndarray]) -> Iterator[Path]:
    """Give a temporary folder with the configuration files of a weights file, as the library reads them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            if name in tensors:
                (Path(folder) / name).write_bytes(tensors[name].tobytes())
        yield Path(folder)


def extractor_of(folder: Path) -> Any:
    """Return the feature extractor of an audio model."""
    return library().AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def processor_of(folder: Path) -> tuple[Any, bool]:
    """Return the model's image processor, or its video processor and True if it has only that."""
    video = not ({PROCESSORS[0], PROCESSORS[2]} & {path.name for path in folder.iterdir()})
    auto = library().AutoVideoProcessor if video else library().AutoImageProcessor
    return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False), video


def _complete(folder: Path, weights: str) -> bool:
    """Return whether a folder has all files of its weights, which an interrupted download has not."""
    index = folder / f"{weights}.index.json"
    if not index.is_file():
        return (folder / weights).is_file()
    return all((folder / name).is_file() for name in set(json.loads(index.read_text())["weight_map"].values()))


def _patterns(weights: str) -> list[str]:
    """Return the patterns of the files of the hub that are downloaded."""
    stem, _, suffix = weights.partition(".")
    return [*FILES, weights, f"{stem}-*.{suffix}", f"{weights}.index.json"]


def from_hub(model: str, source: WeightsSource, weights: bool) -> Path:
    """Return the folder of a model in the hub's cache, downloaded if it is not there; UserError if it cannot be had.

    Without `weights`, only its configuration.
    """
    hub: Any = importlib.import_module("huggingface_hub")
    snapshot = partial(hub.snapshot_download, model, revision=source.options["revision"])
    wanted = _patterns(SAFETENSORS) if weights else list(FILES)
    try:
        cached = Path(snapshot(allow_patterns=wanted, local_files_only=True))
        if not weights or any(_complete(cached, name) for name in (SAFETENSORS, PICKLE)):
            return cached
    except Exception:  # it is not there, which is no error yet
        log.info("%s is not in the hub's cache", model)
    refuse_in_a_job(source.key, f"{source.name} ({model})")
    try:
        folder = Path(snapshot(allow_patterns=wanted))
        if not weights or _complete(folder, SAFETENSORS):
            return folder
        return Path(snapshot(allow_patterns=_patterns(PICKLE)))
    except Exception as error:  # of the network, the hub, the name: the library's own kinds change between versions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if weights:
            raise unavailable(source.key, f"hub ({model})", f"downloading failed: {reason}", LOCAL) from None
        raise UserError(
            f"{source.key.removesuffix('weights')}options.model: the configuration of '{model}' cannot be had: "
            f"downloading failed: {reason}\nGive the path of a folder with its {CONFIG} and {PROCESSORS[0]} instead."
        ) from None
