"""Models of transformers against the library's own call: tiny ones with random weights, saved by the library.

The published weights cannot be had here. Frames are as large as the model's crop, so that the library's processor need
not scale them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.cli import UserError
from config.model import load
from config.paths import Paths
from pipeline.backbones.check import check
from pipeline.backbones.registry import resolve_options
from pipeline.backbones.transformers_files import library
from pipeline.backbones.transformers_models import TransformersModel
from pipeline.plan import make_plan
from pipeline.readers import AudioRequest, VideoRequest
from pipeline.weights import prepare
from tests.support.commands import execute
from tests.support.weights_fixture import config_of, get, refused

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is optional: requirements-transformers.txt", allow_module_level=True)

import torch

from tests.support.pretrained import FRAMES, MODELS, SIZE, save

KIND = "transformers"
AUDIO = ("ClapModel", "ASTModel", "Wav2Vec2Model", "Wav2Vec2ForCTC", "HubertModel", "WhisperModel")
AUDIO = (*AUDIO, "WhisperForConditionalGeneration")
VIDEO = ("VideoMAEModel", "VideoMAEForVideoClassification", "VivitModel", "TimesformerModel", "XCLIPModel")
IMAGE = tuple(name for name in MODELS if name not in (*AUDIO, *VIDEO))
RATES = {"ClapModel": 48_000}
MERT = {"model_type": "music2vec", "auto_map": {"AutoModel": "modeling_MERT.MERTModel"}}
"""A configuration as MERT's."""


def modality(name: str) -> str:
    return "audio" if name in AUDIO else "video"


def opened(folder: Path, source: Path, name: str, **options: Any) -> TransformersModel:
    """Return the model as a job has it, after the weights stage has looked at its folder."""
    chosen_options = {"modality": modality(name), **options}
    record = get(folder / "results", "net", source, kind=KIND, options=chosen_options)
    assert record["source"] == f"local folder {source.name}" and record["description"]["class"] == name
    resolved = resolve_options(KIND, chosen_options) | {"description": record["description"]}
    return TransformersModel(Paths(folder / "results").weights("net"), resolved, "cpu", 1)


def segments(name: str, count: int = 2, seconds: float = 1.5, frames: int = FRAMES) -> np.ndarray:
    rng = np.random.default_rng(0)
    if name in AUDIO:
        rate = RATES.get(name, 16_000)
        tones = [np.sin(2000 * (k + 1) * np.arange(round(seconds * rate)) / rate) for k in range(count)]
        return (np.stack(tones) / 2 + 0.01 * rng.standard_normal((count, len(tones[0])))).astype(np.float32)
    return rng.integers(0, 256, (count, frames, SIZE, SIZE, 3), dtype=np.uint8)


def expected(name: str, net: Any, processor: Any, segment: np.ndarray) -> np.ndarray:
    """Return what the library's own processor and model make of one segment, [vectors, dim]."""
    with torch.inference_mode():
        if name in AUDIO:
            more = {"truncation": "rand_trunc"} if name == "ClapModel" else {}
            inputs = processor(segment, sampling_rate=processor.sampling_rate, return_tensors="pt", **more)
            inputs = {key: value for key, value in inputs.items() if key != "attention_mask"}
            if name.startswith("Whisper"):
                heard = round(50 * len(segment) / 16_000)
                return net.get_encoder()(**inputs).last_hidden_state[:, :heard].mean(1).numpy()
            if name == "ClapModel":
                return net.get_audio_features(**inputs).pooler_output.numpy()
            if name == "Wav2Vec2ForCTC":
                return net.wav2vec2(**inputs).last_hidden_state.mean(1).numpy()
            output = net(**inputs)
            return (output.pooler_output if name == "ASTModel" else output.last_hidden_state.mean(1)).numpy()
        pixels = processor(list(segment), do_resize=False, return_tensors="pt")["pixel_values"]
        if name in VIDEO:
            pixels = pixels if pixels.ndim == 5 else pixels[None]
            if name == "XCLIPModel":
                return net.get_video_features(pixel_values=pixels).pooler_output.numpy()
            if name == "VideoMAEForVideoClassification":  # what its `forward` does before the classifier
                states = net.videomae(pixels).last_hidden_state
                return (net.fc_norm(states.mean(1)) if net.fc_norm is not None else states[:, 0]).numpy()
            output = net(pixels)
            return (output.pooler_output if name == "VivitModel" else output.last_hidden_state.mean(1)).numpy()
        if name in ("CLIPModel", "SiglipModel"):
            return net.get_image_features(pixel_values=pixels).pooler_output.numpy()
        output = net(pixel_values=pixels)
        return (output.image_embeds if "Projection" in name else output.pooler_output).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_the_librarys_own_call(name: str, tmp_path: Path) -> None:
    source, net, processor = save(tmp_path, name)
    backbone, given = opened(tmp_path, source, name), segments(name)
    features = backbone.features(given)
    reference = np.stack([expected(name, net, processor, segment).mean(axis=0) for segment in given])
    assert features.dtype == np.float32 and features.shape == (2, backbone.dim)
    assert (np.linalg.norm(features - reference, axis=1) <= 1e-5 * np.linalg.norm(reference, axis=1)).all()
    assert np.linalg.norm(features[0] - features[1]) > 1e-3 * np.linalg.norm(features[0])
    alone = np.concatenate([backbone.features(segment[None]) for segment in given])
    np.testing.assert_array_equal(features, alone)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("VideoMAEForVideoClassification", -1),
        ("CLIPModel", -1),
        ("CLIPModel", 1),
        ("WhisperModel", 1),
        ("HubertModel", -1),
    ],
)
def test_forward_passes_side_by_side_do_not_disturb_each_other(name: str, layer: int, tmp_path: Path) -> None:
    """On a CPU with several cores, threads share the network (pipeline/forward.py)."""
    source, *_ = save(tmp_path, name)
    backbone, given = opened(tmp_path, source, name, layer=layer), segments(name, 8)
    alone = backbone.features(given)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = np.concatenate(list(pool.map(lambda i: backbone.features(given[i : i + 1]), range(8))))
            np.testing.assert_array_equal(together, alone)


def test_a_longer_segment_of_a_video_model_is_cut_into_clips(tmp_path: Path) -> None:
    source, net, processor = save(tmp_path, "TimesformerModel")
    (segment,) = given = segments("TimesformerModel", 1, frames=FRAMES + 2)
    clips = [expected("TimesformerModel", net, processor, segment[start : start + FRAMES]) for start in (0, 2)]
    for pool, reference in (("mean", np.mean(clips, axis=0)), ("max", np.max(clips, axis=0))):
        features = opened(tmp_path, source, "TimesformerModel", pool=pool).features(given)
        np.testing.assert_allclose(features, reference, rtol=1e-4, atol=1e-5)


def test_frames_are_pooled_as_asked(tmp_path: Path) -> None:
    source, net, processor = save(tmp_path, "Dinov2Model")
    (segment,) = given = segments("Dinov2Model", 1)
    vectors = expected("Dinov2Model", net, processor, segment)
    backbone = opened(tmp_path, source, "Dinov2Model", pool="mean_max")
    assert backbone.dim == 32
    reference = np.concatenate([vectors.mean(0), vectors.max(0)])
    np.testing.assert_allclose(backbone.features(given)[0], reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["CLIPModel", "Dinov2Model", "VideoMAEModel", "Wav2Vec2Model", "WhisperModel"])
def test_another_layer_is_the_mean_of_its_states(name: str, tmp_path: Path) -> None:
    source, net, processor = save(tmp_path, name)
    (segment,) = given = segments(name, 1)
    features = opened(tmp_path, source, name, layer=1).features(given)
    encoder = {"CLIPModel": "vision_model", "WhisperModel": "encoder"}.get(name)
    part = getattr(net, encoder) if encoder else net
    with torch.inference_mode():
        if name in AUDIO:
            inputs = processor(segment, sampling_rate=16_000, return_tensors="pt")
            states = part(next(iter(inputs.values())), output_hidden_states=True).hidden_states[1]
            states = states[:, :75] if name == "WhisperModel" else states
        else:
            pixels = processor(list(segment), do_resize=False, return_tensors="pt")["pixel_values"]
            states = part(pixels, output_hidden_states=True).hidden_states[1]
    reference = states.mean(dim=1).mean(dim=0).numpy()
    np.testing.assert_allclose(features[0], reference, rtol=1e-4, atol=1e-5)


def test_a_model_with_a_video_processor_alone(tmp_path: Path) -> None:
    source, net, processor = save(tmp_path, "VideoMAEModel")
    (source / "preprocessor_config.json").unlink()
    settings = {"size": {"shortest_edge": 40}, "crop_size": {"height": SIZE, "width": SIZE}}
    library().VideoMAEVideoProcessor(**settings).save_pretrained(source)
    (segment,) = given = segments("VideoMAEModel", 1)
    backbone = opened(tmp_path, source, "VideoMAEModel")
    reference = expected("VideoMAEModel", net, processor, segment)
    np.testing.assert_allclose(backbone.features(given), reference, rtol=1e-4, atol=1e-5)
    assert TransformersModel.request(backbone.options) == VideoRequest(2.0, 40, (SIZE, SIZE), "bilinear")


def test_a_layer_that_is_not_there_is_named(tmp_path: Path) -> None:
    source, *_ = save(tmp_path, "Dinov2Model")
    config = config_of(tmp_path / "r", "net", source, kind=KIND, options={"modality": "video", "layer": 9})
    with pytest.raises(UserError, match=r"^backbones\.net\.options\.layer: 9 cannot be had of Dinov2Model"):
        prepare(config, "net")


def test_the_reader_is_asked_for_what_the_processor_expects(tmp_path: Path) -> None:
    def request(name: str, **options: Any) -> AudioRequest | VideoRequest:
        source, *_ = save(tmp_path, name)
        return TransformersModel.request(opened(tmp_path, source, name, **options).options)

    assert request("CLIPModel", fps=1) == VideoRequest(1.0, 40, (SIZE, SIZE), "bicubic")
    assert request("SiglipModel") == VideoRequest(2.0, (SIZE, SIZE), (SIZE, SIZE), "bicubic")
    assert request("VivitModel") == VideoRequest(2.0, 40, (SIZE, SIZE), "bilinear")
    assert request("ClapModel", downmix="layout") == AudioRequest(48_000, "layout")


def test_the_key_holds_configuration_and_processor(tmp_path: Path) -> None:
    """Features also change with the files beside the weights: they are in the digest, so that they are in the key."""
    source, *_ = save(tmp_path, "CLIPModel")
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "video"}}
    first = get(tmp_path / "r", "net", source, **keys)
    settings = json.loads((source / "preprocessor_config.json").read_text())
    (source / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.4, 0.4, 0.4]}))
    second = get(tmp_path / "r", "net", source, **keys)
    assert first["sha256"] != second["sha256"]
    assert first["description"]["shift"] != second["description"]["shift"]
    config = config_of(tmp_path / "r", "net", source, **keys)
    plans = [make_plan(config, 1, {"net": record}) for record in (first, second)]
    assert plans[0].backbones["net"].dim == 12 and plans[0].key("net") != plans[1].key("net")
    copied = Paths(tmp_path / "r").weights("net").rename(tmp_path / "copied.safetensors")
    assert get(tmp_path / "s", "net", copied, **keys)["sha256"] == second["sha256"]


def test_random_weights_are_of_their_seed(tmp_path: Path) -> None:
    source, *_ = save(tmp_path, "VideoMAEModel")
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "video", "model": str(source)}}
    before = torch.random.get_rng_state()
    records = [get(tmp_path / str(i), "net", "random", seed=seed, **keys) for i, seed in enumerate((0, 0, 1))]
    assert records[0]["sha256"] == records[1]["sha256"] != records[2]["sha256"] and records[0]["random"] is True
    assert records[0]["source"] == "random numbers, seed 0, for VideoMAEModel"
    assert torch.equal(before, torch.random.get_rng_state())
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    assert get(tmp_path / "0", "net", "random", **keys)["sha256"] != records[0]["sha256"]


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """transformers itself would take random numbers for what is missing."""
    source, *_ = save(tmp_path, "Dinov2Model")
    other, *_ = save(tmp_path, "VideoMAEModel")
    (other / "config.json").write_bytes((source / "config.json").read_bytes())
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "video"}}
    message = refused(tmp_path / "r", "net", other, **keys)
    assert "has no fitting weights for 'embeddings." in message and "of another architecture" in message
    deeper, *_ = save(tmp_path, "CLIPVisionModelWithProjection")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    assert "of another architecture" in refused(tmp_path / "r", "net", deeper, **keys)


def test_a_processor_of_another_model_is_named(tmp_path: Path) -> None:
    source, *_ = save(tmp_path, "VideoMAEModel")
    settings = json.loads((source / "preprocessor_config.json").read_text())
    larger = settings | {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    (source / "preprocessor_config.json").write_text(json.dumps(larger))
    config = config_of(tmp_path / "r", "net", source, kind=KIND, options={"modality": "video"})
    with pytest.raises(UserError, match=r"^backbones\.net\.options\.model: VideoMAEModel cannot look at what its own"):
        prepare(config, "net")


def test_sources_that_are_no_model_are_refused(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "video"}}
    message = refused(tmp_path / "r", "net", tmp_path / "none", **keys)
    assert "there is no file" in message and "connect" not in message
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(tmp_path / "r", "net", tmp_path / "empty", **keys)
    source, *_ = save(tmp_path, "Dinov2Model")
    (source / "preprocessor_config.json").rename(tmp_path / "kept.json")
    assert "has no preprocessor_config.json" in refused(tmp_path / "r", "net", source, **keys)
    (tmp_path / "kept.json").rename(source / "preprocessor_config.json")
    (source / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(tmp_path / "r", "net", source, **keys)


def pickled(folder: Path, net: Any) -> Path:
    """Replace a folder's safetensors by the file that older repositories of the hub have; return its path."""
    (folder / "model.safetensors").unlink()
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, value in net.state_dict().items():
        for ours, theirs in older.items():
            name = name.replace(ours, theirs)
        state[name] = value
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("name", ["HubertModel", "CLIPModel"])
def test_older_weights_are_a_pickle_that_runs_no_code(name: str, tmp_path: Path) -> None:
    source, net, _ = save(tmp_path, name)
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": modality(name)}}
    record = get(tmp_path / "r", "net", source, **keys)
    file = pickled(source, net)
    assert get(tmp_path / "p", "net", source, **keys)["sha256"] == record["sha256"]
    trace = tmp_path / "it ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(trace),)

    torch.save({"weight": Bomb()}, file)
    assert "cannot be loaded" in refused(tmp_path / "q", "net", source, **keys) and not trace.exists()


def test_a_pickle_is_downloaded_where_the_hub_has_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    source, net, _ = save(tmp_path, "HubertModel")
    file = pickled(source, net)
    on_the_hub, asked = file.rename(tmp_path / "there.bin"), []

    def snapshot(model: str, *, allow_patterns: list[str], local_files_only: bool = False, **more: Any) -> str:
        asked.append((file.name in allow_patterns, local_files_only))
        if file.name in allow_patterns:
            on_the_hub.rename(file)
        return str(source)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "audio", "model": "facebook/hubert-base-ls960"}}
    record = get(tmp_path / "r", "net", "hub", **keys)
    assert asked == [(False, True), (False, False), (True, False)]
    assert record["source"] == "facebook/hubert-base-ls960 of the Hugging Face hub, HubertModel"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert get(tmp_path / "j", "net", "hub", **keys)["sha256"] == record["sha256"], "it is in the cache now"


def configured(folder: Path, **config: Any) -> Path:
    (folder / "made").mkdir(exist_ok=True)
    (folder / "made" / "config.json").write_text(json.dumps(config))
    return folder / "made"


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (MERT, {}, "trust_remote_code stays off"),
        ({"model_type": "videoMAE"}, {}, r"'videoMAE' is not one of .*Did you mean videomae\?"),
        ({"model_type": "hubert"}, {"modality": "video"}, r"options\.modality: video, but a hubert looks at audio"),
        ({"model_type": "clip"}, {"modality": "audio"}, r"options\.modality: audio, but a clip looks at image"),
        ({"model_type": "clip", "architectures": ["CLIPModel2"]}, {}, r"the class 'CLIPModel2'"),
        ({"model_type": "clip", "architectures": ["os"]}, {}, r"the class 'os'"),
        ({}, {}, "names no `model_type`"),
    ],
)
def test_a_model_that_this_kind_does_not_run_is_named(
    config: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = configured(tmp_path, **config)
    (folder / "preprocessor_config.json").write_text("{}")
    given = config_of(tmp_path / "r", "net", folder, kind=KIND, options={"modality": "video"} | options)
    with pytest.raises(UserError, match=message) as error:
        prepare(given, "net")
    assert str(error.value).startswith("backbones.net.")


def test_the_hub_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, bool]] = []

    def offline(model: str, *, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.append((model, local_files_only))
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    keys: dict[str, Any] = {"kind": KIND, "options": {"modality": "video", "model": "openai/clip-vit-base-patch32"}}
    message = refused(tmp_path / "r", "net", "hub", **keys)
    assert "name resolution" in message and "weights: random" in message and "a folder with config.json" in message
    assert asked == [("openai/clip-vit-base-patch32", True), ("openai/clip-vit-base-patch32", False)]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "not tried inside a job (Slurm's 7)" in refused(tmp_path / "r", "net", "hub", **keys)
    assert len(asked) == 3, "the cache is asked, the network is not"
    source, *_ = save(tmp_path, "CLIPModel")
    monkeypatch.delenv("SLURM_JOB_ID")
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    tried: list[bool] = []

    def online(model: str, *, local_files_only: bool = False, **more: Any) -> str:
        tried.append(local_files_only)
        if not local_files_only:
            index.unlink()
        return str(source)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", online)
    record = get(tmp_path / "r", "net", "hub", **keys)
    assert tried == [True, False], "what an interrupted download left is not taken"
    assert record["source"] == "openai/clip-vit-base-patch32 of the Hugging Face hub, CLIPModel"
    assert get(tmp_path / "l", "net", source, **keys)["sha256"] == record["sha256"]


def test_a_model_without_a_name_is_asked_for(tmp_path: Path) -> None:
    config = config_of(tmp_path, "net", "hub", kind=KIND, options={"modality": "video"})
    check(config)
    with pytest.raises(UserError, match=r"^backbones\.net\.options\.model: missing.*openai/clip-vit-base-patch32"):
        prepare(config, "net")


@pytest.mark.parametrize(
    ("weights", "model", "message"),
    [
        ("hub", "models/clip/", r"'models/clip/': it is a path.*Give the path in backbones\.net\.weights"),
        ("hub", "./clip", "it is a path"),
        ("random", "./clip", "there is no such folder"),
        (
            "random",
            "openai/clip",
            r"the configuration of 'openai/clip' cannot be had: .*no network\n.*of a folder with",
        ),
    ],
)
def test_a_name_that_is_none_of_the_hub_is_an_error(
    weights: str, model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def offline(*arguments: Any, **more: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    config = config_of(tmp_path, "net", weights, kind=KIND, options={"modality": "video", "model": model})
    with pytest.raises(UserError, match=rf"^backbones\.net\.options\.model: .*{message}"):
        prepare(config, "net")


def test_without_the_package_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = config_of(tmp_path, "net", "hub", kind=KIND, options={"modality": "video", "model": "a/b"})
    with pytest.raises(UserError, match=r"^backbones\.net\.kind: transformers.*-r requirements-transformers\.txt"):
        prepare(config, "net")


def test_the_plan_refuses_segments_that_the_model_cannot_take(tmp_path: Path) -> None:
    def planned(name: str, seconds: float, **options: Any) -> None:
        source, *_ = save(tmp_path, name)
        given = {"modality": modality(name), **options}
        config = config_of(tmp_path / "r", "net", source, kind=KIND, options=given)
        longer = config.segments.model_copy(update={"seconds": seconds, "window": seconds})
        make_plan(config.model_copy(update={"segments": longer}), 1, {"net": prepare(config, "net")})

    planned("TimesformerModel", 2.0)
    with pytest.raises(
        UserError, match=r"^backbones\.net\.options\.fps: 1 .* make 2 frames.*looks at 4: set `fps: 2\.00`"
    ):
        planned("TimesformerModel", 2.0, fps=1)
    planned("ClapModel", 10.0)
    for name, seconds in (("ClapModel", 10.5), ("ASTModel", 5.2), ("WhisperModel", 31.0)):
        with pytest.raises(UserError, match=rf"^backbones\.net\.options\.model: {name} looks at .* would cut off"):
            planned(name, seconds)
    planned("HubertModel", 40.0)


def test_an_experiment_on_the_features_themselves_is_checked_when_their_width_is_known(tmp_path: Path) -> None:
    source, *_ = save(tmp_path, "CLIPModel")
    net = {"kind": KIND, "weights": str(source), "options": {"modality": "video"}}
    heads = {"audio": "musicnn", "video": "net", "experiments": {"own": {"video": {"identity": True}, "embedding": 9}}}
    backbones = {"musicnn": {"weights": "wheel"}, "net": net}
    config = load({"results": str(tmp_path / "r"), "videos": "v.csv", "backbones": backbones, "heads": heads})
    check(config)
    weights = {"net": prepare(config, "net"), "musicnn": {"sha256": "0" * 64, "random": False}}
    with pytest.raises(UserError, match=r"heads\.experiments\.own\.embedding: 9, but .*`embedding: 12`"):
        make_plan(config, 1, weights)


def test_the_snakefile_does_not_import_the_library() -> None:
    script = (
        "import sys; from config.model import load; from pipeline.backbones.check import check\n"
        "net = {'kind': 'transformers', 'weights': 'hub', 'options': {'modality': 'video', 'model': 'a/b'}}\n"
        "check(load({'results': 'r', 'videos': 'v.csv', 'backbones': {'net': net},"
        " 'heads': {'audio': 'net', 'video': 'net'}}))\n"
        "import pipeline.backbones.transformers_models\n"
        "print(sorted({'torch', 'transformers', 'torchvision'} & set(sys.modules)))"
    )
    assert execute([sys.executable, "-c", script]).stdout.strip() == "[]"


def test_other_segments_are_refused(tmp_path: Path) -> None:
    source, *_ = save(tmp_path, "CLIPModel")
    backbone = opened(tmp_path, source, "CLIPModel")
    for wrong in (
        np.zeros((1, 2, 8, 8, 3), np.uint8),
        np.zeros((1, 2, SIZE, SIZE, 3), np.float32),
        np.zeros((1, 9), np.float32),
    ):
        with pytest.raises(ValueError, match="CLIPModel does not take"):
            backbone.features(wrong)
    assert backbone.features(np.zeros((0, 2, SIZE, SIZE, 3), np.uint8)).shape == (0, 12)
