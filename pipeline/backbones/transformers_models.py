"""Models of Hugging Face's transformers: image, video and audio encoders by name or folder, frozen.

The weights file holds the model's weights and, as bytes, its configuration and that of its processor, so that jobs read
nothing else. What the readers must know of them (`description`) is in the weights' record. Reads the weights file;
writes nothing but `fetch`'s download. Importing this module imports neither torch nor the optional transformers.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError
from pipeline.backbones.base import Backbone, Source
from pipeline.backbones.clips import RULE, clip_starts
from pipeline.backbones.mono import mono_text
from pipeline.readers import AudioRequest, VideoRequest
from pipeline.weights import local, read_safetensors, refuse_in_a_job, unavailable

if TYPE_CHECKING:
    import torch
    from torch import nn

LOCAL = (
    "a folder with config.json, the processor's preprocessor_config.json and .safetensors, as `save_pretrained` writes"
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
DOWNLOADS = [*FILES, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
UNUSED = (
    *("text_model.", "text_projection.", "logit_scale", "logit_bias", "prompts_generator."),
    *("decoder.", "model.decoder.", "proj_out.", "lm_head."),
)
"""Beginnings of the names of weights that no feature depends on: towers for text, decoders."""
FRAMES = 64
"""Frames in a forward pass of an image model on a GPU, at most."""
WHISPER_RATE = 50
"""Vectors a second of Whisper's encoder, which always looks at 30 s: those after the segment's end are left out."""

log = logging.getLogger(__name__)


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
        self.net = freeze(_built(tensors, self.about["class"], "weights"), self.device, threads)
        with _files(tensors) as folder:
            self._extractor = _extractor(folder) if self.about["input"] == "audio" else None

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
    def fetch(source: Source, folder: Path) -> tuple[dict[str, np.ndarray], str]:
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
        else:
            where = _from_hub(model, source, weights=source.name == "hub")
            origin = f"{model} of the Hugging Face hub, {where.name}"
        if not (where / CONFIG).is_file():
            raise UserError(f"{key}: {where} has no {CONFIG}. It should be {LOCAL}.")
        files = {name: (where / name).read_bytes() for name in FILES if (where / name).is_file()}
        tensors = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
        check_config(files[CONFIG], source.options["modality"], section)
        if not set(PROCESSORS) & set(files):
            raise UserError(f"{key}: {where} has no {PROCESSORS[0]}, which says what the model expects. Add it.")
        seed = source.seed if source.name == "random" else None
        return tensors | _state(_loaded(where, json.loads(files[CONFIG]), seed, key)), origin

    @classmethod
    def description(cls, tensors: dict[str, np.ndarray], source: Source) -> dict[str, Any]:
        """See the base: the class, what it looks at, and `dim`, from one run on black frames or silence."""
        section = source.key.removesuffix("weights")
        if CONFIG not in tensors:
            raise UserError(f"{source.key}: {source.name} has no {CONFIG} inside. It should be {LOCAL}.")
        config = check_config(tensors[CONFIG].tobytes(), source.options["modality"], section)
        about: dict[str, Any] = {"class": _class_name(config), "input": INPUTS[config["model_type"]]}
        net = _built(tensors, about["class"], source.key)
        with _files(tensors) as folder:
            about |= _audio(net, folder) if about["input"] == "audio" else _frames(net, folder, about["input"], section)
            extractor = _extractor(folder) if about["input"] == "audio" else None
        try:
            vectors = _try(net.eval(), about, extractor, source.options["layer"])
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if source.options["layer"] < 0:
                raise
            raise UserError(
                f"{section}options.layer: {source.options['layer']} cannot be had of {about['class']}: {error}"
            ) from None
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


def _class_name(config: dict[str, Any]) -> str:
    """Return the class that the weights were saved from: AutoModel would drop projections and norms."""
    names = config.get("architectures") or []
    return str(names[0]) if names else ""


def _class(name: str, key: str) -> Any:
    """Return a class of transformers. UserError for a name that it does not have."""
    model_class = getattr(library(), name, None) if name.isidentifier() else None
    if not isinstance(model_class, type) or not hasattr(model_class, "from_pretrained"):
        raise UserError(f"{key}: {CONFIG} names the class '{name}' (architectures), which transformers does not have")
    return model_class


def _loaded(folder: Path, config: dict[str, Any], seed: int | None, key: str) -> nn.Module:
    """Return the model of a folder, in float32; with `seed`, its configuration with random weights."""
    import torch

    kind = _class(_class_name(config), key)
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
                use_safetensors=True,
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
            f"{_class_name(config)}: they are of another architecture, and transformers would take random numbers"
        )
    loaded: nn.Module = net
    return loaded


def _state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in net.state_dict().items() if not name.startswith(UNUSED)}


def _built(tensors: dict[str, np.ndarray], name: str, key: str) -> nn.Module:
    """Return the model from the tensors of a weights file. UserError if they are not its weights."""
    import torch

    kind = _class(name, key)
    with _files(tensors) as folder, torch.random.fork_rng(devices=[]):
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
def _files(tensors: dict[str, np.ndarray]) -> Iterator[Path]:
    """Give a temporary folder with the configuration files of a weights file, as the library reads them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            if name in tensors:
                (Path(folder) / name).write_bytes(tensors[name].tobytes())
        yield Path(folder)


def _config(net: nn.Module) -> Any:
    return net.config


def _extractor(folder: Path) -> Any:
    return library().AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _audio(net: nn.Module, folder: Path) -> dict[str, Any]:
    """Return `rate` (Hz), `longest` (s, or None) and `extract`, further arguments of the feature extractor."""
    extractor, config = _extractor(folder), _config(net)
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
    processor, video = _processor(folder)
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


def _processor(folder: Path) -> tuple[Any, bool]:
    """Return the model's image processor, or its video processor and True if it has only that."""
    video = not ({PROCESSORS[0], PROCESSORS[2]} & {path.name for path in folder.iterdir()})
    auto = library().AutoVideoProcessor if video else library().AutoImageProcessor
    return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False), video


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


def _complete(folder: Path) -> bool:
    """Return whether a folder has all files of its weights, which an interrupted download has not."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    return all((folder / name).is_file() for name in set(json.loads(index.read_text())["weight_map"].values()))


def _from_hub(model: str, source: Source, weights: bool) -> Path:
    """Return the folder of a model in the hub's cache, downloaded if it is not there; UserError if it cannot be had."""
    hub: Any = importlib.import_module("huggingface_hub")
    revision, wanted = source.options["revision"], DOWNLOADS if weights else list(FILES)
    try:
        cached = Path(hub.snapshot_download(model, revision=revision, allow_patterns=wanted, local_files_only=True))
        if _complete(cached) or not weights:
            return cached
    except Exception:  # it is not there, which is no error yet
        log.info("%s is not in the hub's cache", model)
    refuse_in_a_job(source.key, f"{source.name} ({model})")
    try:
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # of the network, the hub, the name: the library's own kinds change between versions
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise unavailable(source.key, f"hub ({model})", f"downloading failed: {reason[0]}", LOCAL) from None
