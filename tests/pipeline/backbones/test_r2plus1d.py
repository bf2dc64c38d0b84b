"""R(2+1)D-18 against torchvision's own network and preprocessing, and the import of torchvision."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.cli import UserError
from config.paths import Paths
from pipeline.backbones.frozen import check_bfloat16
from pipeline.backbones.r2plus1d import CROP, RESIZE, R2Plus1D
from pipeline.backbones.torchvision_import import import_torchvision
from pipeline.readers import VideoRequest
from pipeline.weights import prepare
from tests.support.commands import execute
from tests.support.weights_fixture import config_of

OPTIONS = {"fps": 10.0}


@pytest.fixture(scope="module")
def state():
    """A state dict as torchvision saves it, with statistics unlike those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = import_torchvision().models.video.r2plus1d_18(weights=None).state_dict()
    for name, values in state.items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2, generator=generator)
    return state


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("r2plus1d")
    torch.save(state, folder / "mine.pth")
    record = prepare(config_of(folder, "r2plus1d", folder / "mine.pth"), "r2plus1d")
    assert record["source"] == "local file mine.pth" and record["random"] is False
    return Paths(folder).weights("r2plus1d")


@pytest.fixture(scope="module")
def net(weights):
    return R2Plus1D(weights, OPTIONS, "cpu", 1)


def clips(n: int, frames: int = 2) -> np.ndarray:
    """Clips unlike each other: noise around different colours."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (n, 1, 1, 1, 3))
    return np.clip(colour + rng.integers(-60, 60, (n, frames, *CROP, 3)), 0, 255).astype(np.uint8)


def test_it_is_torchvisions_network_with_torchvisions_preprocessing(net, state):
    """From frames of 128×171: crop, scaling, normalisation and network against those that come with the weights."""
    frames = np.random.default_rng(0).integers(0, 256, (3, *RESIZE, 3), dtype=np.uint8)
    video = import_torchvision().models.video
    theirs = video.r2plus1d_18(weights=None)
    theirs.load_state_dict(state)
    theirs.fc = torch.nn.Identity()
    transforms = video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    with torch.inference_mode():
        batch = transforms(torch.from_numpy(frames).permute(0, 3, 1, 2))[None]
        expected = theirs.eval()(batch).numpy()
    top, left = round((RESIZE[0] - CROP[0]) / 2), round((RESIZE[1] - CROP[1]) / 2)
    features = net.features(frames[None, :, top : top + CROP[0], left : left + CROP[1]].copy())
    assert features.shape == (1, 512) and features.dtype == np.float32
    assert np.linalg.norm(features - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def alone(net):
    return np.concatenate([net.features(clip[None]) for clip in clips(3)])


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(3)), keep=st.integers(1, 3))
def test_any_batch_gives_the_same_rows(net, alone, order, keep):
    rows, expected = net.features(clips(3)[order[:keep]]), alone[order[:keep]]
    assert (np.linalg.norm(rows - expected, axis=1) <= 1e-5 * np.linalg.norm(expected, axis=1)).all()


def test_clips_differ(alone):
    assert min(np.linalg.norm(alone[i] - alone[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2


def test_training_mode_is_refused(net):
    for part in (net.net, net.net.layer3[0]):
        part.train()
        with pytest.raises(RuntimeError, match="training mode"):
            net.features(clips(1))
        net.net.eval()


def test_in_training_mode_batch_norm_sees_one_clip(net, weights, state):
    """Against torchvision's network in training mode, a clip at a time."""
    trained = R2Plus1D(weights, OPTIONS | {"mode": "train"}, "cpu", 1)
    theirs = import_torchvision().models.video.r2plus1d_18(weights=None)
    theirs.load_state_dict(state)
    theirs.fc = torch.nn.Identity()
    theirs.train()
    two = clips(2)
    with torch.no_grad():
        expected = np.concatenate([theirs(net._normalised(torch.from_numpy(clip[None]))).numpy() for clip in two])
    rows = trained.features(two)
    assert (np.linalg.norm(rows - expected, axis=1) <= 1e-4 * np.linalg.norm(expected, axis=1)).all()
    alone = np.concatenate([trained.features(clip[None]) for clip in two[::-1]])[::-1]
    np.testing.assert_allclose(alone, rows, rtol=1e-5, atol=1e-6)
    assert np.linalg.norm(rows - net.features(two)) > 0.1 * np.linalg.norm(rows)
    assert "mode" not in R2Plus1D.preprocessing(OPTIONS | {"mode": "eval"})
    assert R2Plus1D.preprocessing(OPTIONS | {"mode": "train"})["mode"] == "train"


def test_nothing_is_left_to_train(net):
    assert not any(parameter.requires_grad for parameter in net.net.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in net.net.modules())


@pytest.mark.parametrize(
    "segments",
    [
        np.zeros((1, 2, 112, 112, 3), np.float32),
        np.zeros((1, 2, 128, 171, 3), np.uint8),
        np.zeros((1, 0, 112, 112, 3), np.uint8),
        np.zeros((2, 112, 112, 3), np.uint8),
    ],
)
def test_other_segments_are_refused(net, segments):
    with pytest.raises(ValueError, match="takes uint8"):
        net.features(segments)


def test_no_segments(net):
    assert net.features(clips(0)).shape == (0, 512)


def test_random_weights_give_features_that_float16_holds(tmp_path):
    prepare(config_of(tmp_path, "r2plus1d", "random"), "r2plus1d")
    net = R2Plus1D(Paths(tmp_path).weights("r2plus1d"), OPTIONS, "cpu", 1)
    black, white = np.zeros((1, 2, *CROP, 3), np.uint8), np.full((1, 2, *CROP, 3), 255, np.uint8)
    for clip in (black, white, clips(1)):
        features = net.features(clip)
        assert np.isfinite(features.astype(np.float16)).all() and np.abs(features).max() > 1e-2


def test_building_it_leaves_the_random_numbers_alone(net, tmp_path):
    before = torch.random.get_rng_state()
    prepare(config_of(tmp_path, "r2plus1d", "random", seed=5), "r2plus1d")
    R2Plus1D(Paths(tmp_path).weights("r2plus1d"), OPTIONS, "cpu", 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_preprocessing_is_json_and_says_what_the_reader_is_asked():
    assert R2Plus1D.request(OPTIONS) == VideoRequest(10.0, (128, 171), (112, 112))
    ours = R2Plus1D.preprocessing(OPTIONS)
    assert ours == json.loads(json.dumps(ours))
    assert ours != R2Plus1D.preprocessing({"fps": 5.0})


def test_precision_is_an_option_with_a_key_of_its_own(net, weights):
    assert "precision" not in R2Plus1D.preprocessing(OPTIONS | {"precision": "float32"})
    half = OPTIONS | {"precision": "bfloat16"}
    assert R2Plus1D.preprocessing(half)["precision"] == "bfloat16"
    try:
        check_bfloat16(torch.device("cpu"))
    except UserError:
        pytest.skip("this processor cannot compute in bfloat16")
    features, full = R2Plus1D(weights, half, "cpu", 1).features(clips(1)), net.features(clips(1))
    assert features.dtype == np.float32 and (features != full).any()
    np.testing.assert_allclose(features, full, atol=0.05 * np.abs(full).max())


def test_a_processor_without_bfloat16_is_told_what_to_set(weights, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("bf16 path needs the cpu support avx512bw")

    monkeypatch.setattr(torch, "mkldnn_convolution", refuse)
    with pytest.raises(UserError, match=r"options\.precision: bfloat16.*use precision: float32"):
        R2Plus1D(weights, OPTIONS | {"precision": "bfloat16"}, "cpu", 1)


# Stands in for torchvision's compiled extension: what it defines, if it loads, appears then.
EXTENSION = """
import sys, torch
SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
loaded = []
def load(path, names):
    if not names: raise OSError("libcudart.so is missing")
    if loaded: return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in names: library.define(SCHEMA.format(name))
    loaded.append(library)
torch.ops.load_library = lambda path: load(path, sys.argv[1:])
from pipeline.backbones import torchvision_import as t
t.complete_operators()
assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms
if not sys.argv[1:]:  # the rest of torchvision asks a loaded extension for more than this one has
    module = t.import_torchvision()
    assert t.import_torchvision() is module is sys.modules["torchvision"]
    assert module.models.video.r2plus1d_18
print(len(t.kept_alive))
"""


@pytest.mark.parametrize(("defined", "libraries"), [(["nms", "qnms"], 0), (["nms"], 1), ([], 1)])
def test_torchvision_is_helped_only_where_it_needs_help(defined, libraries):
    done = execute([sys.executable, "-c", EXTENSION, *defined])
    assert done.stdout.strip() == str(libraries), done.stderr
