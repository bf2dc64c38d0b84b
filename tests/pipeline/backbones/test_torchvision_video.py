"""torchvision's video networks against torchvision's own call: transforms, network, weights, clips, mistakes."""

from __future__ import annotations

import json
import shutil
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from config.cli import UserError
from config.paths import Paths
from pipeline.backbones import torchvision_video
from pipeline.backbones.chosen import chosen
from pipeline.backbones.clips import clip_starts
from pipeline.backbones.frozen import check_bfloat16
from pipeline.backbones.registry import resolve_options
from pipeline.backbones.torchvision_import import import_torchvision
from pipeline.backbones.torchvision_video import TorchvisionVideo, names, transforms
from pipeline.plan import make_plan
from pipeline.readers import VideoRequest
from pipeline.weights import prepare
from tests.support.weights_fixture import config_of, get, refused

WIDTHS = {"r3d_18": 512, "mc3_18": 512, "r2plus1d_18": 512, "s3d": 1024, "mvit_v1_b": 768, "mvit_v2_s": 768}
WIDTHS |= {"swin3d_t": 768, "swin3d_s": 768, "swin3d_b": 1024}
KIND = "torchvision"


def options(model: str, **more: Any) -> dict[str, Any]:
    return resolve_options(KIND, {"model": model, **more})


def theirs(model: str) -> torch.nn.Module:
    """Return torchvision's network with 400 classes and statistics unlike those of a fresh one."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = import_torchvision().models.get_model(model, weights=None)
    for name, values in net.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2, generator=generator)
    return net.eval()


def ours(folder: Path, model: str, net: torch.nn.Module, **more: Any) -> TorchvisionVideo:
    """Return our backbone with the network's weights, by way of a local `.pth`."""
    torch.save(net.state_dict(), folder / "mine.pth")
    record = get(folder / "r", "net", folder / "mine.pth", kind=KIND, options={"model": model})
    assert record["source"] == "local file mine.pth" and record["architecture"] == {"model": model}
    return TorchvisionVideo(Paths(folder / "r").weights("net"), options(model, **more), "cpu", 1)


def frames(model: str, count: int, clips: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return clips [n, count, height, width, 3], as the reader scales them (square ones where it keeps the shape), and
    their centres, as the reader crops them."""
    about = transforms(model)
    resize = about["resize"]
    height, width = (resize, resize) if isinstance(resize, int) else resize
    whole = np.random.default_rng(0).integers(0, 256, (clips, count, height, width, 3), dtype=np.uint8)
    top, left = (round((a - b) / 2) for a, b in zip((height, width), about["crop"], strict=True))
    return whole, whole[:, :, top : top + about["crop"][0], left : left + about["crop"][1]].copy()


def expected(net: torch.nn.Module, model: str, whole: np.ndarray) -> np.ndarray:
    """Return what comes before torchvision's classification layer, with the transforms of its own weights."""
    seen: list[torch.Tensor] = []
    layer = [m for m in net.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv3d)][-1]
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    preset = import_torchvision().models.get_model_weights(model).DEFAULT.transforms()
    with torch.inference_mode():
        net(torch.stack([preset(torch.from_numpy(clip).permute(0, 3, 1, 2)) for clip in whole]))
    hook.remove()
    features = seen[0].numpy()
    return features.mean(axis=(2, 3, 4)) if features.ndim == 5 else features


@pytest.mark.parametrize(
    ("model", "count"),
    [
        pytest.param("r3d_18", 4, marks=pytest.mark.workflow),
        ("mc3_18", 2),
        pytest.param("s3d", 14, marks=pytest.mark.workflow),
        ("swin3d_t", 2),
        pytest.param("mvit_v2_s", 16, marks=pytest.mark.workflow),
    ],
)
def test_it_is_torchvisions_network_with_the_transforms_of_its_weights(model: str, count: int, tmp_path: Path) -> None:
    net = theirs(model)
    whole, cropped = frames(model, count)
    features = ours(tmp_path, model, net).features(cropped)
    reference = expected(net, model, whole)
    assert features.shape == (1, WIDTHS[model]) and features.dtype == np.float32
    assert np.linalg.norm(features - reference) <= 1e-5 * np.linalg.norm(reference)


@pytest.mark.workflow
def test_a_longer_segment_is_the_mean_of_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_video, "CLIP", {"swin3d": 2})
    net = theirs("swin3d_t")
    whole, cropped = frames("swin3d_t", 3, 2)
    backbone = ours(tmp_path, "swin3d_t", net)
    features = backbone.features(cropped)
    reference = np.mean([expected(net, "swin3d_t", whole[:, start : start + 2]) for start in (0, 1)], axis=0)
    assert (np.linalg.norm(features - reference, axis=1) <= 1e-5 * np.linalg.norm(reference, axis=1)).all()
    alone = np.concatenate([backbone.features(clip[None]) for clip in cropped])
    assert (np.linalg.norm(features - alone, axis=1) <= 1e-5 * np.linalg.norm(alone, axis=1)).all()


def test_clips_cover_all_frames_with_as_few_as_can_be() -> None:
    assert clip_starts(30, 16) == [0, 14] and clip_starts(16, 16) == [0] and clip_starts(9, 32) == [0]
    assert clip_starts(30, None) == [0]
    for count in range(1, 80):
        starts = clip_starts(count, 16)
        seen = {frame for start in starts for frame in range(start, min(start + 16, count))}
        assert (
            seen == set(range(count)) and len(starts) == max(1, -(-count // 16)) and starts[-1] + 16 <= max(count, 16)
        )


def test_every_network_of_torchvision_has_a_width_and_a_request() -> None:
    assert set(names()) == set(WIDTHS)
    for model, width in WIDTHS.items():
        assert TorchvisionVideo.width(options(model)) == width
    assert TorchvisionVideo.request(options("r3d_18", fps=15)) == VideoRequest(15.0, (128, 171), (112, 112))
    assert TorchvisionVideo.request(options("mvit_v2_s")) == VideoRequest(10.0, 256, (224, 224))


def test_the_key_says_what_changes_the_features() -> None:
    ours = TorchvisionVideo.preprocessing(options("mvit_v2_s"))
    assert ours == json.loads(json.dumps(ours)) and ours["clip"] == 16 and ours["resize"] == 256
    assert "clip" not in TorchvisionVideo.preprocessing(options("r3d_18"))
    others = [options("r3d_18"), options("mc3_18"), options("r3d_18", fps=5), options("r3d_18", precision="bfloat16")]
    assert len({json.dumps(TorchvisionVideo.preprocessing(o)) for o in others}) == len(others)


@pytest.mark.workflow
def test_precision_is_an_option(tmp_path: Path) -> None:
    try:
        check_bfloat16(torch.device("cpu"))
    except UserError:
        pytest.skip("this processor cannot compute in bfloat16")
    net, (_, cropped) = theirs("r3d_18"), frames("r3d_18", 2)
    full = ours(tmp_path, "r3d_18", net).features(cropped)
    half = ours(tmp_path, "r3d_18", net, precision="bfloat16").features(cropped)
    assert half.dtype == np.float32 and (half != full).any()
    np.testing.assert_allclose(half, full, atol=0.05 * np.abs(full).max())


def test_random_weights_are_of_their_seed(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    digests = [
        get(tmp_path / str(i), "net", "random", kind=KIND, options={"model": "swin3d_t"}, seed=seed)["sha256"]
        for i, seed in enumerate((0, 1))
    ]
    assert digests[0] != digests[1]
    again = config_of(tmp_path / "2", "net", "random", kind=KIND, options={"model": "swin3d_t"})
    assert prepare(again, "net")["sha256"] == digests[0]
    weights = Paths(tmp_path / "0").weights("net")
    TorchvisionVideo(weights, options("swin3d_t"), "cpu", 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(name.endswith("relative_position_index") for name in load_file(weights))


def test_other_segments_are_refused(tmp_path: Path) -> None:
    prepare(config_of(tmp_path, "net", "random", kind=KIND, options={"model": "s3d"}), "net")
    net = TorchvisionVideo(Paths(tmp_path).weights("net"), options("s3d"), "cpu", 1)
    for wrong in (np.zeros((1, 13, 224, 224, 3), np.uint8), np.zeros((1, 14, 112, 112, 3), np.uint8)):
        with pytest.raises(ValueError, match="takes uint8"):
            net.features(wrong)
    assert net.features(np.zeros((0, 14, 224, 224, 3), np.uint8)).shape == (0, 1024)


@pytest.mark.parametrize(("given", "near"), [("r3d18", "r3d_18"), ("mvit", "mvit_v1_b"), ("swin3d", "swin3d_t")])
def test_an_unknown_model_is_named_with_the_nearest(given: str, near: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^backbones\.net\.options\.model: '{given}' is no.*Did you mean .*{near}"):
        prepare(config_of(tmp_path, "net", "random", kind=KIND, options={"model": given}), "net")
    config = config_of(tmp_path, "net", "random", kind=KIND, options={"model": given})
    with pytest.raises(UserError, match=rf"^backbones\.net\.options\.model: '{given}'"):
        chosen(config, "net").width()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(theirs("mc3_18").state_dict(), tmp_path / "mc3.pth")
    for model, message in (
        ("r3d_18", "not float32 [128, 64, 3, 3, 3]; it is not of r3d_18"),
        ("s3d", "it is not of s3d"),
    ):
        assert message in refused(tmp_path / "r", "net", tmp_path / "mc3.pth", kind=KIND, options={"model": model})
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "other.safetensors")
    source = tmp_path / "other.safetensors"
    assert "not of r3d_18" in refused(tmp_path / "r", "net", source, kind=KIND, options={"model": "r3d_18"})
    message = refused(tmp_path / "r", "net", "./none.pth", kind=KIND, options={"model": "r3d_18"})
    assert "there is no file './none.pth'" in message


def test_another_model_is_fetched_again(tmp_path: Path) -> None:
    digests = {
        model: get(tmp_path, "net", "random", kind=KIND, options={"model": model})["sha256"]
        for model in ("r3d_18", "mc3_18")
    }
    assert len(set(digests.values())) == 2


def test_the_hub_is_asked_for_the_default_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"kind": KIND, "options": {"model": "mc3_18"}}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offline(url: str, *args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = refused(tmp_path / "r", "net", "hub", **keys)
    assert "name resolution" in message and "local file" in message and "weights: random" in message
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "not tried inside a job (Slurm's 7)" in refused(tmp_path / "r", "net", "hub", **keys)
    monkeypatch.delenv("SLURM_JOB_ID")
    torch.save(theirs("mc3_18").state_dict(), tmp_path / "mc3.pth")
    asked = []

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        shutil.copy(tmp_path / "mc3.pth", target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    record = get(tmp_path / "r", "net", "hub", **keys)
    assert asked == [("https://download.pytorch.org/models/mc3_18-a90a0ba3.pth", "a90a0ba3")]
    assert record["source"] == "torchvision MC3_18_Weights.KINETICS400_V1"
    assert record["sha256"] == get(tmp_path / "l", "net", tmp_path / "mc3.pth", **keys)["sha256"]


def test_too_few_frames_are_refused_before_any_video_is_opened(tmp_path: Path) -> None:
    weights = {"net": {"sha256": "0" * 64, "random": True}}

    def planned(**chosen: Any) -> None:
        make_plan(config_of(tmp_path, "net", "random", kind=KIND, options=chosen), 1, weights)

    planned(model="mvit_v2_s", fps=16 / 3)
    with pytest.raises(
        UserError, match=r"^backbones\.net\.options\.fps: 5 frames a second make 15 frames of.*`fps: 5\.3[34]` or more"
    ):
        planned(model="mvit_v2_s", fps=5)
    with pytest.raises(UserError, match=r"s3d needs at least 14"):
        planned(model="s3d", fps=4)
