"""Tiny models of transformers with random weights, saved as the library saves them, with their processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.backbones.transformers_files import library

SIZE = 32
"""Height and width of the frames, pixels."""
FRAMES = 4
"""Frames of a clip of the video models."""
_LAYERS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = _LAYERS | {"image_size": SIZE, "patch_size": 8}
_TEXT = _LAYERS | {"vocab_size": 20, "projection_dim": 12}
_VIDEO = _VISION | {"num_frames": FRAMES}
_SPEECH = _LAYERS | {
    **{"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2},
    **{"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
}
_WINDOWS = {"spec_size": 256, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2]}
_CLAP = _WINDOWS | {"hidden_size": 16, "window_size": 4, "projection_dim": 12, "enable_fusion": False}
_PATCHES = {"max_length": 512, "num_mel_bins": 32}
_WHISPER = {
    **{"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 60},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 20},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
_XCLIP = _VIDEO | {
    **{"mit_hidden_size": 16, "mit_intermediate_size": 24, "mit_num_attention_heads": 2, "mit_num_hidden_layers": 1}
}
_SHORTEST: dict[str, Any] = {"size": {"shortest_edge": 40}, "crop_size": {"height": SIZE, "width": SIZE}}
_SQUARE: dict[str, Any] = {"size": {"height": SIZE, "width": SIZE}}

MODELS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "CLIPModel": (
        "CLIPConfig",
        {"text_config": _TEXT, "vision_config": _VISION, "projection_dim": 12},
        "CLIPImageProcessor",
        _SHORTEST,
    ),
    "CLIPVisionModelWithProjection": (
        "CLIPVisionConfig",
        _VISION | {"projection_dim": 12},
        "CLIPImageProcessor",
        _SHORTEST,
    ),
    "SiglipModel": ("SiglipConfig", {"text_config": _TEXT, "vision_config": _VISION}, "SiglipImageProcessor", _SQUARE),
    "Dinov2Model": ("Dinov2Config", _VISION, "BitImageProcessor", _SHORTEST),
    "VideoMAEModel": ("VideoMAEConfig", _VIDEO, "VideoMAEImageProcessor", _SHORTEST),
    "VideoMAEForVideoClassification": ("VideoMAEConfig", _VIDEO, "VideoMAEImageProcessor", _SHORTEST),
    "VivitModel": ("VivitConfig", _VIDEO | {"tubelet_size": [2, 8, 8]}, "VivitImageProcessor", _SHORTEST),
    "TimesformerModel": ("TimesformerConfig", _VIDEO, "VideoMAEImageProcessor", _SHORTEST),
    "XCLIPModel": (
        "XCLIPConfig",
        {"text_config": _TEXT, "vision_config": _XCLIP, "projection_dim": 16, "prompt_num_attention_heads": 2},
        "CLIPImageProcessor",
        _SHORTEST,
    ),
    "ClapModel": (
        "ClapConfig",
        {"text_config": _TEXT, "audio_config": _CLAP, "projection_dim": 12},
        "ClapFeatureExtractor",
        {},
    ),
    "ASTModel": ("ASTConfig", _LAYERS | _PATCHES, "ASTFeatureExtractor", _PATCHES),
    "Wav2Vec2Model": ("Wav2Vec2Config", _SPEECH, "Wav2Vec2FeatureExtractor", {}),
    "Wav2Vec2ForCTC": ("Wav2Vec2Config", _SPEECH | {"vocab_size": 10}, "Wav2Vec2FeatureExtractor", {}),
    "HubertModel": ("HubertConfig", _SPEECH, "Wav2Vec2FeatureExtractor", {}),
    "WhisperModel": ("WhisperConfig", _WHISPER, "WhisperFeatureExtractor", {"feature_size": 20}),
    "WhisperForConditionalGeneration": ("WhisperConfig", _WHISPER, "WhisperFeatureExtractor", {"feature_size": 20}),
}
"""{class: its configuration's class and arguments, its processor's class and arguments}."""


def save(folder: Path, name: str, **changed: Any) -> tuple[Path, Any, Any]:
    """Save a model in `folder / name`; return its folder, the model and its processor. `changed`: of the arguments of
    its configuration."""
    import torch

    transformers = library()
    configuration, arguments, processor, settings = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = getattr(transformers, name)(getattr(transformers, configuration)(**arguments | changed)).eval()
    net.save_pretrained(folder / name)
    made = getattr(transformers, processor)(**settings)
    made.save_pretrained(folder / name)
    return folder / name, net, made
