"""Models of Hugging Face's transformers: image, video and audio encoders by name or folder, frozen.

The weights file holds the model's weights and, as bytes, its configuration and that of its processor, so that jobs read
nothing else. What the readers must know of them (`description`) is in the weights' record. Reads the weights file;
writes nothing but `fetch`'s download. Importing this module imports neither torch nor the optional transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError
from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.clips import RULE, clip_starts
from pipeline.backbones.mono import mono_text
from pipeline.backbones.transformers_files import (
    CONFIG,
    FILES,
    INPUTS,
    LOCAL,
    PROCESSORS,
    built,
    check_config,
    class_name,
    config_files,
    extractor_of,
    from_hub,
    library,
    loaded,
    processor_of,
    state_of,
)
from pipeline.readers import AudioRequest, VideoRequest
from pipeline.weights import local, read_safetensors

if TYPE_CHECKING:
    import torch
    from torch import nn

FRAMES = 64
"""Frames in a forward pass of an image model on a GPU, at most."""
WHISPER_RATE = 50
"""Vectors a second of Whisper's encoder, which always looks at 30 s: those after the segment's end are left out."""


class TransformersModel(Backbone):
    """Frames [n, t, height, width, 3] uint8, or audio [n, samples] float32 at the model's rate → [n, dim] float32.

    A vector of an image model is of a frame, one of a video model of a clip (`clip_starts`), one of an audio model of
    the segment. It is the model's own: what it projects or pools to, or gives its classifier; else the mean of its last
    hidden states; with `options.layer`, the mean of that layer's. `options.pool` pools frames and clips.
    """

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        from pipeline.backbones.frozen import freeze, pick_device

        self.options, self.about = options, options["description"]
        self.dim, self.device = self.width(options), pick_device(device)
        tensors = load_file(weights)
        self.net = freeze(built(tensors, self.about["class"], "weights"), self.device, threads)
        with config_files(tensors) as folder:
            self._extractor = extractor_of(folder) if self.about["input"] == "audio" else None

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """See the base; the weights stage has run the model once to know it."""
        return int(options["description"]["dim"]) * (2 if options["pool"] == "mean_max" else 1)

    @classmethod
    def refusal(cls, options: dict[str, Any], seconds: float) -> str | None:
        """See the base: too few frames for a video model, more seconds than an audio model looks at."""
        about = options["description"]
        if (longest := about.get("longest")) is not None and seconds > longest:
            return (
                f"options.model: {about['class']} looks at {longest:g} s of audio and would cut off the rest of a "
                f"segment of {seconds:g} s: set shorter segments (segments.seconds)"
            )
        frames, clip = round(seconds * options["fps"]), about.get("frames", 1)
        if about["input"] == "audio" or frames >= clip:
            return None
        return (
            f"options.fps: {options['fps']:g} frames a second make {frames} frames of a segment of {seconds:g} s, but "
            f"{about['class']} looks at {clip}: set `fps: {clip / seconds:.2f}` or more, or longer segments "
            "(segments.seconds)"
        )

    @staticmethod
    def architecture(options: dict[str, Any]) -> dict[str, Any]:
        folder, total = Path(options["model"]), hashlib.sha256()
        for file in (folder / name for name in FILES if options["model"] and (folder / name).is_file()):
            total.update(file.read_bytes())  # of random weights, whose configuration may change under the same name
        names = {name: options[name] for name in ("modality", "model", "revision", "layer")}
        return names | ({"files": total.hexdigest()} if (folder / CONFIG).is_file() and options["model"] else {})

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base; the source is `hub` or `random`, with the model's name in `options.model`, or a folder.

        Random weights are for the configuration of `options.model`, which may be a folder, too.
        """
        library(section := source.key.removesuffix("weights"))
        key, model, path = source.key, source.options["model"], local(source.name, source.key, LOCAL)
        if path is not None and path.suffix == ".safetensors":
            return read_safetensors(path, key), f"local file {path.name}"
        if path is not None:
            where, origin = path, f"local folder {path.name}"
        elif not model:
            folder_too = ", or a folder with its config.json" if source.name == "random" else ""
            raise UserError(
                f"{section}options.model: missing; with `weights: {source.name}` it is the model's name on the hub, "
                f"such as openai/clip-vit-base-patch32{folder_too}"
            )
        elif source.name == "random" and Path(model).exists():
            where, origin = Path(model), f"random numbers, seed {source.seed}, for {Path(model).name}"
        elif Path(model).exists() or model.startswith(("/", ".", "~")) or model.count("/") > 1:
            wrong = (
                "there is no such folder"
                if source.name == "random"
                else f"it is a path, and no name on the hub. Give the path in {key}"
            )
            raise UserError(f"{section}options.model: '{model}': {wrong}. It should be {LOCAL}.")
        else:
            where = from_hub(model, source, weights=source.name == "hub")
            origin = f"{model} of the Hugging Face hub, {where.name}"
        if not (where / CONFIG).is_file():
            raise UserError(f"{key}: {where} has no {CONFIG}. It should be {LOCAL}.")
        files = {name: (where / name).read_bytes() for name in FILES if (where / name).is_file()}
        tensors = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
        check_config(files[CONFIG], source.options["modality"], section)
        if not set(PROCESSORS) & set(files):
            raise UserError(f"{key}: {where} has no {PROCESSORS[0]}, which says what the model expects. Add it.")
        seed = source.seed if source.name == "random" else None
        return tensors | state_of(loaded(where, json.loads(files[CONFIG]), seed, key)), origin

    @classmethod
    def description(cls, tensors: dict[str, np.ndarray], source: WeightsSource) -> dict[str, Any]:
        """See the base: the class, what it looks at, and `dim`, from one run on black frames or silence."""
        section = source.key.removesuffix("weights")
        if CONFIG not in tensors:
            raise UserError(f"{source.key}: {source.name} has no {CONFIG} inside. It should be {LOCAL}.")
        config = check_config(tensors[CONFIG].tobytes(), source.options["modality"], section)
        about: dict[str, Any] = {"class": class_name(config), "input": INPUTS[config["model_type"]]}
        net = built(tensors, about["class"], source.key)
        with config_files(tensors) as folder:
            about |= _audio(net, folder) if about["input"] == "audio" else _frames(net, folder, about["input"], section)
            extractor = extractor_of(folder) if about["input"] == "audio" else None
        try:
            vectors = _try(net.eval(), about, extractor, source.options["layer"])
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            layer = source.options["layer"]
            message = f"options.model: {about['class']} cannot look at what its own processor makes: {error}"
            if layer >= 0:
                message = f"options.layer: {layer} cannot be had of {about['class']}: {error}"
            raise UserError(f"{section}{message}") from None
        return about | {"dim": vectors.shape[-1]}

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        about = {name: value for name, value in options["description"].items() if name != "dim"}
        reads = {"mono": mono_text(options)} if about["input"] == "audio" else {"fps": options["fps"], "clips": RULE}
        return {"extractor": 1, "layer": options["layer"], "pool": options["pool"], **reads, **about}

    @staticmethod
    def request(options: dict[str, Any]) -> AudioRequest | VideoRequest:
        about = options["description"]
        if about["input"] == "audio":
            return AudioRequest(about["rate"], options["downmix"])
        (height, width), resize = about["crop"], about["resize"]
        size = resize if isinstance(resize, int) else (resize[0], resize[1])
        return VideoRequest(options["fps"], size, (height, width), about["interpolation"])

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for a wrong shape or type."""
        import torch

        from pipeline.backbones.frozen import frozen

        audio = self.about["input"] == "audio"
        shape = segments.ndim == 2 if audio else segments.ndim == 5 and segments.shape[2:] == (*self.about["crop"], 3)
        if segments.dtype != (np.float32 if audio else np.uint8) or not shape:
            raise ValueError(f"{self.about['class']} does not take {segments.dtype} {list(segments.shape)}")
        features = np.empty((len(segments), self.dim), np.float32)
        with frozen(self.net):
            for row, segment in zip(features, segments, strict=True):
                vectors = torch.cat(list(self._vectors(segment))).float()
                parts = {"mean": [vectors.mean(0)], "max": [vectors.amax(0)]}
                parts["mean_max"] = parts["mean"] + parts["max"]
                row[:] = torch.cat(parts[self.options["pool"]]).cpu().numpy()
        return features

    def _vectors(self, segment: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the vectors [m, dim] of one segment, in parts."""
        layer, about = self.options["layer"], self.about
        if self._extractor is not None:
            inputs = _heard(self._extractor, segment, about)
            inputs = {name: value.to(self.device) for name, value in inputs.items()}
            yield vectors_of(self.net, about, inputs, layer, len(segment) / about["rate"])
        elif about["input"] == "image":
            # On a CPU one frame at a time is as fast as several, and the same to the bit in any segment.
            size = 1 if self.device.type == "cpu" else FRAMES
            for first in range(0, len(segment), size):
                yield vectors_of(self.net, about, _seen(segment[first : first + size], about, self.device), layer)
        else:
            for start in clip_starts(len(segment), about["frames"]):
                clip = _seen(segment[start : start + about["frames"]], about, self.device)
                yield vectors_of(self.net, about, {name: value[None] for name, value in clip.items()}, layer)


def vectors_of(
    net: nn.Module, about: dict[str, Any], inputs: dict[str, torch.Tensor], layer: int, seconds: float = 0.0
) -> torch.Tensor:
    """Return the vectors of a batch, [n, dim]: the model's own, or with `layer` ≥ 0 the mean of that layer's.

    `seconds`: how long the audio is. Raises ValueError for a layer that is no sequence of vectors.
    """
    import torch

    if layer >= 0:
        states = _encoder(net, about)(**inputs, output_hidden_states=True).hidden_states[layer]
        if states.ndim != 3:
            raise ValueError(f"this layer is {list(states.shape)}, not [n, vectors, numbers]")
        return _mean(states, about, seconds)
    if isinstance(getattr(net, "classifier", None), torch.nn.Identity):
        logits: torch.Tensor = net(**inputs).logits
        return logits
    name = {"image": "get_image_features", "video": "get_video_features", "audio": "get_audio_features"}[about["input"]]
    call = getattr(net, name, None) or (net if "Projection" in about["class"] else _encoder(net, about))
    output = call(**inputs)
    for name in ("image_embeds", "audio_embeds", "pooler_output"):
        if (vectors := getattr(output, name, None)) is not None:
            return vectors
    return _mean(output.last_hidden_state, about, seconds)


def _mean(states: torch.Tensor, about: dict[str, Any], seconds: float) -> torch.Tensor:
    if about["class"].startswith("Whisper"):
        states = states[:, : max(1, round(seconds * WHISPER_RATE))]
    return states.mean(dim=1)


def _encoder(net: nn.Module, about: dict[str, Any]) -> nn.Module:
    """Return the part of the model that looks at frames or audio, without heads and towers for text."""
    base: nn.Module = net.base_model  # type: ignore[assignment]
    towers = ("encoder",) if about["class"].startswith("Whisper") else ("vision_model", "audio_model")
    return next((getattr(base, name) for name in towers if hasattr(base, name)), base)


def _seen(frames: np.ndarray, about: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """Return frames [t, height, width, 3] uint8 as the model's input [t, 3, height, width], scaled as by its
    processor."""
    import torch

    from pipeline.backbones.frozen import upload

    scale, shift = (torch.tensor(about[name], device=device).view(1, 3, 1, 1) for name in ("scale", "shift"))
    return {"pixel_values": upload(frames, device).permute(0, 3, 1, 2).float() * scale + shift}


def _heard(extractor: Any, segment: np.ndarray, about: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return what the model's own feature extractor makes of a segment [samples]."""
    made = extractor(segment, sampling_rate=about["rate"], return_tensors="pt", **about["extract"])
    return {name: value for name, value in made.items() if name != "attention_mask"}


def _config(net: nn.Module) -> Any:
    return net.config


def _audio(net: nn.Module, folder: Path) -> dict[str, Any]:
    """Return `rate` (Hz), `longest` (s, or None) and `extract`, further arguments of the feature extractor."""
    extractor, config = extractor_of(folder), _config(net)
    made: dict[str, Any] = {"rate": int(extractor.sampling_rate), "longest": None, "extract": {}}
    name = type(extractor).__name__
    if name.startswith("Clap"):
        audio = getattr(config, "audio_config", config)
        # Fused models look at a shrunk whole and crops of long audio; the others at one crop, at a random place.
        made |= {"longest": float(extractor.max_length_s)}
        made |= {} if audio.enable_fusion else {"extract": {"truncation": "rand_trunc"}}
    elif name.startswith("AST"):
        made |= {"longest": round(extractor.max_length * 0.01, 2)}
    elif name.startswith("Whisper"):
        made |= {"longest": float(extractor.chunk_length)}
    return made


def _frames(net: nn.Module, folder: Path, looks_at: str, section: str) -> dict[str, Any]:
    """Return how the model's own processor makes its input from frames.

    `resize`, `crop` and `interpolation` as in VideoRequest; `scale` and `shift` of RGB, measured on a black and a white
    image; `frames` of a clip. UserError for what the readers do not do.
    """
    processor, video = processor_of(folder)
    settings = processor.to_dict()
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    resize: Any = size.get("shortest_edge") or [size.get("height"), size.get("width")]
    cut = [crop.get("height"), crop.get("width")] if settings.get("do_center_crop") else resize
    wrong = not settings.get("do_resize") or isinstance(cut, int) or None in cut
    interpolation = {2: "bilinear", 3: "bicubic"}.get(int(settings.get("resample") or 0))
    if wrong or interpolation is None or settings.get("do_pad"):
        raise UserError(
            f"{section}options.model: the processor of {type(net).__name__} makes frames of a size that the readers "
            f"cannot: size {size}, crop {crop}, resample {settings.get('resample')}"
        )
    both = [np.full((*cut, 3), value, np.uint8) for value in (0, 255)]
    images = {"videos": [both]} if video else {"images": both}
    pixels = processor(**images, do_resize=False, do_center_crop=False, return_tensors="np")
    black, white = np.asarray(next(iter(pixels.values()))).reshape(2, 3, -1)[:, :, 0].astype(np.float64)
    made = {"resize": resize, "crop": cut, "interpolation": interpolation}
    made |= {"scale": ((white - black) / 255).tolist(), "shift": black.tolist()}
    if looks_at == "video":
        made["frames"] = int(getattr(_config(net), "vision_config", _config(net)).num_frames)
    return made


def _try(net: nn.Module, about: dict[str, Any], extractor: Any, layer: int) -> torch.Tensor:
    """Return the vectors of a second of silence, of a black frame or of a black clip."""
    import torch

    with torch.inference_mode():
        if extractor is not None:
            inputs = _heard(extractor, np.zeros(about["rate"], np.float32), about)
            return vectors_of(net, about, inputs, layer, 1.0)
        frames = np.zeros((about.get("frames", 1), *about["crop"], 3), np.uint8)
        inputs = _seen(frames, about, torch.device("cpu"))
        if about["input"] == "video":
            inputs = {name: value[None] for name, value in inputs.items()}
        return vectors_of(net, about, inputs, layer)
