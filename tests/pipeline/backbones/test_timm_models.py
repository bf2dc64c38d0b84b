"""Names of timm's models and what they say about frames: timm's own configuration, and mistakes with their way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from config.cli import UserError
from pipeline.backbones.registry import resolve_options
from pipeline.backbones.timm_images import TimmImages
from pipeline.backbones.timm_models import build, frames_of, pooled, pooled_width, shapes, timm
from pipeline.readers import VideoRequest


@pytest.mark.parametrize(
    ("model", "crop", "resize"),
    [
        ("resnet50.a1_in1k", "model", 235),  # 224 / 0.95
        ("resnet50.tv_in1k", "model", 256),
        ("convnext_tiny.fb_in22k_ft_in1k", "center", 256),
        ("dm_nfnet_f1.dm_in1k", "model", (246, 246)),  # 224 / 0.91, squashed
        ("dm_nfnet_f1.dm_in1k", "center", 246),
        ("resnet50.tv_in1k", "squash", (256, 256)),
    ],
)
def test_frames_are_those_of_timms_configuration(model: str, crop: str, resize: int | tuple[int, int]) -> None:
    frames = frames_of(model, crop)
    settings = timm().data.resolve_data_config(pretrained_cfg=timm().get_pretrained_cfg(model).to_dict())
    assert frames.resize == resize and frames.crop == (224, 224)
    assert (frames.mean, frames.std) == (settings["mean"], settings["std"])
    assert frames.interpolation == settings["interpolation"]
    options: dict[str, Any] = resolve_options("timm", {"model": model, "crop": crop})
    assert TimmImages.request(options) == VideoRequest(2.0, resize, (224, 224), frames.interpolation)


@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "fasternet_t0", "test_vit2", "test_convnext"])
def test_the_width_is_that_of_a_real_pass(model: str) -> None:
    """Not timm's `num_features`, which is another for the first two."""
    with torch.random.fork_rng(devices=[]):
        net = build(model).eval()
    with torch.inference_mode():
        rows = pooled(net, torch.zeros(2, 3, *frames_of(model, "model").crop))
    assert rows.shape == (2, pooled_width(model))
    assert (net.num_features != pooled_width(model)) == (model in ("mobilenetv3_small_050", "fasternet_t0"))


def test_trained_tensors_leave_out_classifiers_and_tables() -> None:
    assert not any(
        "head.linear" in name or "head_dist.linear" in name or "attention_bias_idxs" in name
        for name in shapes("levit_128s")
    )
    assert not any(name.startswith("classifier") or "num_batches" in name for name in shapes("tf_efficientnet_lite0"))
    assert shapes("tf_efficientnet_lite0")["conv_stem.weight"] == (32, 3, 3, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tf_eficientnet_lite0", r"no model 'tf_eficientnet_lite0'\. Did you mean tf_efficientnet_lite0 or"),
        ("qqqqqqqqqqqq", r"no model 'qqqqqqqqqqqq'$"),
        ("hf-hub:timm/resnet50", "is an address"),
        ("timm/resnet50.a1_in1k", "is an address"),
        ("resnet18.a9", r"'resnet18' has no tag 'a9': resnet18\.a1_in1k"),
        ("efficientnet_lite1.in1k", "no tag 'in1k': timm has no trained weights of it"),
        ("gemma4_vit_167m_enc", "no pooled feature"),
    ],
)
def test_a_model_that_cannot_be_used_is_an_error(model: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"^options\.model: .*{message}"):
        pooled_width(model)


def test_frames_with_borders_need_another_crop() -> None:
    with pytest.raises(UserError, match=r"^options\.crop: .*546×546.*'border'.*set `crop: squash`"):
        frames_of("deepseek_vit_412m_align", "model")
    assert frames_of("deepseek_vit_412m_align", "squash").resize == (546, 546)
    with pytest.raises(UserError, match=r"^options\.crop: .*448×448.*smaller ones with a border.*set `crop: squash`"):
        frames_of("volo_d4_448.sail_in1k", "model")
    assert TimmImages.request(resolve_options("timm", {"model": "volo_d4_448", "crop": "squash"})).resize == (448, 448)
    with pytest.raises(UserError, match=r"^options\.crop: .*1024×768"):
        frames_of("vit_base_patch16_sapiens2", "center")
    assert frames_of("vit_base_patch16_sapiens2", "model").crop == (1024, 768)
